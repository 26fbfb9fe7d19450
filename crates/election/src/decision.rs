//! Decisions as pure functions that return their reason: log, page and tests show the same sentence.

/// What to do with a chunk of the open round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// Whether the chunk is decided now.
    pub decide: bool,
    /// Why, in one sentence.
    pub reason: String,
}

/// The facts on which a chunk's closing depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turnout {
    /// Voters that the chunk waits for: present when the round opened, and still connected.
    pub expected: usize,
    /// How many of those have voted.
    pub expected_voted: usize,
    /// All ballots at hand, of absent voters too: who voted and left still counts.
    pub voted: usize,
    /// Fewest ballots that may decide.
    pub quorum: usize,
    /// Whether the round's deadline has passed.
    pub deadline_passed: bool,
}

/// Whether a chunk is decided: never below the quorum; else when everyone expected has voted, or at the deadline.
pub fn close(turnout: Turnout) -> Close {
    let Turnout { expected, expected_voted, voted, quorum, deadline_passed } = turnout;
    let (decide, reason) = if voted < quorum {
        (false, format!("{voted} of at least {quorum} ballots are in: below the quorum, waiting"))
    } else if expected_voted == expected {
        (true, format!("all {expected} present voters have voted, {voted} ballots"))
    } else if deadline_passed {
        (true, format!("the deadline has passed with {voted} ballots, quorum {quorum}"))
    } else {
        (false, format!("{expected_voted} of {expected} present voters have voted, waiting for the others"))
    };
    Close { decide, reason }
}

/// Most liars that a quorum of `quorum` counted votes tolerates, ⌊(Q−1)/2⌋, if they act blindly.
pub fn tolerated_liars(quorum: usize) -> usize {
    quorum.saturating_sub(1) / 2
}

/// The fraction of colluders who know the honest votes that breaks a vote whose honest voters have the sign
/// right with probability `p` in (½, 1]: 1 − 1/(2p) (Akoun & Meyer 2022).
pub fn colluders_that_break(p: f64) -> f64 {
    1.0 - 1.0 / (2.0 * p)
}

/// Which place a newcomer takes, or why it gets none.
///
/// `taken[i]` tells whether slot i + 1 is occupied; `wanted` is the slot that the newcomer asks for, from 1.
///
/// # Errors
/// The reason for which it is refused.
pub fn admit(taken: &[bool], wanted: Option<u16>) -> Result<usize, String> {
    let places = taken.len();
    match wanted {
        Some(number) => match taken.get(usize::from(number).wrapping_sub(1)) {
            None => Err(format!("there is no place {number}: this run has places 1 to {places}")),
            Some(true) => Err(format!("place {number} is taken by a connected worker")),
            Some(false) => Ok(usize::from(number) - 1),
        },
        None => taken
            .iter()
            .position(|taken| !taken)
            .ok_or_else(|| format!("all {places} places are taken by connected workers")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURNOUT: Turnout =
        Turnout { expected: 7, expected_voted: 7, voted: 7, quorum: 4, deadline_passed: false };

    #[test]
    fn a_chunk_is_decided_when_everyone_expected_has_voted() {
        assert!(close(TURNOUT).decide);
        assert!(close(Turnout { expected: 5, expected_voted: 5, ..TURNOUT }).decide);
        assert!(!close(Turnout { expected_voted: 6, voted: 6, ..TURNOUT }).decide);
    }

    #[test]
    fn a_deadline_closes_only_above_the_quorum() {
        let late = Turnout { deadline_passed: true, ..TURNOUT };
        assert!(close(Turnout { expected_voted: 4, voted: 4, ..late }).decide);
        assert!(!close(Turnout { expected_voted: 3, voted: 3, ..late }).decide);
        assert!(!close(Turnout { expected: 3, expected_voted: 3, voted: 3, ..late }).decide);
    }

    #[test]
    fn just_under_half_of_a_quorum_may_lie() {
        assert_eq!([1, 2, 3, 4, 7, 8].map(tolerated_liars), [0, 0, 1, 1, 3, 3]);
    }

    #[test]
    fn the_bound_for_colluders_is_that_of_akoun_and_meyer() {
        // PAPER.md: p = .6 → 17%, .7 → 29%, .9 → 44%.
        let percent = |p| (100.0 * colluders_that_break(p)).round();
        assert_eq!([0.6, 0.7, 0.9].map(percent), [17.0, 29.0, 44.0]);
    }

    #[test]
    fn a_newcomer_takes_the_place_it_asks_for_or_the_first_free_one() {
        let taken = [true, false, true, false];
        assert_eq!(admit(&taken, None), Ok(1));
        assert_eq!(admit(&taken, Some(4)), Ok(3));
        assert!(admit(&taken, Some(1)).is_err());
        assert!(admit(&taken, Some(0)).is_err());
        assert!(admit(&taken, Some(5)).is_err());
        assert!(admit(&[true; 3], None).is_err());
    }
}
