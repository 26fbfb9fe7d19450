//! Decisions as pure functions that return their reason: log, page and tests show the same sentence.

use std::fmt;
use std::time::Duration;

use crate::wire::Later;
use crate::{Position, ShardId, SlotSet};

/// What to do with a chunk of the open round. Its reason, in one sentence, is made when it is displayed: this is asked with every ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    /// Whether the chunk is decided now.
    pub decide: bool,
    why: Why,
    turnout: Turnout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    BelowQuorum,
    QuorumToCome,
    Complete,
    Deadline,
    Others,
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Turnout { expected, expected_voted, voted, quorum, .. } = self.turnout;
        match self.why {
            Why::BelowQuorum => {
                write!(f, "{voted} of at least {quorum} ballots are in: below the quorum, waiting")
            }
            Why::QuorumToCome => {
                write!(f, "{voted} of at least {quorum} ballots are in, waiting for the others")
            }
            Why::Complete => write!(f, "all {expected} present voters have voted, {voted} ballots"),
            Why::Deadline => write!(f, "the deadline has passed with {voted} ballots, quorum {quorum}"),
            Why::Others => {
                write!(f, "{expected_voted} of {expected} present voters have voted, waiting for the others")
            }
        }
    }
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
    let (decide, why) = if voted < quorum && expected < quorum {
        (false, Why::BelowQuorum)
    } else if voted < quorum {
        (false, Why::QuorumToCome)
    } else if expected_voted == expected {
        (true, Why::Complete)
    } else if deadline_passed {
        (true, Why::Deadline)
    } else {
        (false, Why::Others)
    };
    Close { decide, why, turnout }
}

/// What a shard has counted in a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which shard.
    pub shard: ShardId,
    /// Hash of its verdict.
    pub hash: [u8; 32],
    /// Whose ballots it counted.
    pub voters: SlotSet,
}

/// Which of the reports on a chunk counts, by its index; `None` as long as that is open.
///
/// With one holder it is that one's. With several it is the one that more than half of them gave, hash and voters; when all
/// have reported and there is no such one (ballots came late, and they closed with different voters), the one that most
/// gave, and of equals the one of the first holder.
pub fn agree(reports: &[Report], holders: &[ShardId]) -> Option<usize> {
    let same = |a: &Report, b: &Report| a.hash == b.hash && a.voters.as_words() == b.voters.as_words();
    let votes = |of: usize| reports.iter().filter(|report| same(report, &reports[of])).count();
    if let Some(majority) = (0..reports.len()).find(|&of| votes(of) * 2 > holders.len()) {
        return Some(majority);
    }
    let rank =
        |of: usize| holders.iter().position(|&shard| shard == reports[of].shard).unwrap_or(holders.len());
    let all = !holders.is_empty() && reports.len() >= holders.len();
    all.then(|| (0..reports.len()).max_by_key(|&of| (votes(of), std::cmp::Reverse(rank(of))))).flatten()
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

/// When a round closes without those who are missing, once the quorum has voted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadlineRule {
    /// Never: everyone who is connected is waited for.
    Never,
    /// This long after its opening.
    Fixed(Duration),
    /// As long as recent rounds suggest: see [`deadline`].
    Adaptive {
        /// Never sooner than this.
        floor: Duration,
        /// Never later than this; also while there are no recent rounds.
        ceiling: Duration,
    },
}

/// How many times the usual arrival of the quorum a round may take.
const SLACK: u32 = 3;

/// How long after its opening a round may close without those who are missing, and why; `None`: never.
///
/// `arrivals` are the times from opening to the quorum's last ballot (its Q-th) in recent rounds. The deadline is 3 times
/// their 90th percentile, within floor and ceiling. The Q-th ballot, and not the last, is measured: up to M − Q
/// slow liars cannot stretch it, however late they are.
pub fn deadline(rule: DeadlineRule, arrivals: &[Duration]) -> (Option<Duration>, String) {
    let (floor, ceiling) = match rule {
        DeadlineRule::Never => return (None, "rounds wait for everyone who is connected".into()),
        DeadlineRule::Fixed(after) => {
            return (Some(after), format!("rounds may close after {after:?}, as told"));
        }
        DeadlineRule::Adaptive { floor, ceiling } => (floor, ceiling),
    };
    let mut sorted = arrivals.to_vec();
    sorted.sort_unstable();
    let Some(&usual) = sorted.get((sorted.len() * 9 / 10).min(sorted.len().saturating_sub(1))) else {
        return (Some(ceiling), format!("rounds may close after {ceiling:?}: no round has been timed yet"));
    };
    let after = usual.saturating_mul(SLACK).max(floor).min(ceiling);
    let rounds = sorted.len();
    (
        Some(after),
        format!(
            "rounds may close after {after:.1?}: in 9 of 10 of the last {rounds} the quorum was in after {usual:.1?}"
        ),
    )
}

/// How many rounds in a row a worker has to vote in time before it is waited for again, after it has missed
/// `missed` deadlines: 8, and twice as many with each one, up to 8,192. A worker that is late now and then costs
/// the others a deadline ever more rarely.
pub fn probation(missed: u32) -> u64 {
    8 << missed.saturating_sub(1).min(10)
}

/// A place, as far as who may take it is concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place<'a> {
    /// Whether a worker is connected there.
    pub taken: bool,
    /// The identity that it belongs to.
    pub owner: Option<&'a str>,
    /// Whether a ballot from it counts in the open round.
    pub voted: bool,
}

/// What becomes of a newcomer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It takes the place of this index.
    Take(usize),
    /// It takes the place of this index, whose connection, of the same identity, ends.
    Replace(usize),
}

/// Why a newcomer gets no place, and whether it may come again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoPlace {
    /// In one sentence.
    pub reason: String,
    /// Whether that may change.
    pub later: Later,
}

/// What becomes of a second connection of one identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SecondConnection {
    /// It replaces the first, which may be dead without anyone having noticed.
    #[default]
    Replaces,
    /// It is refused as long as the first stands.
    IsRefused,
}

/// Which place a newcomer takes, or why it gets none.
///
/// `wanted` is the place that it asks for, from 1. An identity has one place: the one it took first. A place whose
/// owner is away goes to another identity only if nothing from it counts in the open round: otherwise
/// one identity could vote, leave, and vote again from elsewhere.
///
/// # Errors
/// The reason for which it is refused.
pub fn admit(
    places: &[Place<'_>],
    identity: Option<&str>,
    wanted: Option<u16>,
    second: SecondConnection,
) -> Result<Admission, NoPlace> {
    let count = places.len();
    let no = |later, reason| Err(NoPlace { reason, later });
    if let Some(name) = identity
        && let Some(own) = places.iter().position(|place| place.owner == Some(name))
    {
        return match (places[own].taken, second) {
            (false, _) => Ok(Admission::Take(own)),
            (true, SecondConnection::Replaces) => Ok(Admission::Replace(own)),
            (true, SecondConnection::IsRefused) => {
                no(Later::Again, format!("{name} is connected already, at place {}", own + 1))
            }
        };
    }
    let free =
        |place: &Place<'_>| !place.taken && (identity.is_none() || place.owner.is_none() || !place.voted);
    match wanted {
        Some(number) => match places.get(usize::from(number).wrapping_sub(1)) {
            None => no(Later::Never, format!("there is no place {number}: this run has places 1 to {count}")),
            Some(place) if place.taken => {
                no(Later::Again, format!("place {number} is taken by a connected worker"))
            }
            Some(place) if !free(place) => {
                no(Later::Again, format!("place {number} has voted in the open round for its owner"))
            }
            Some(_) => Ok(Admission::Take(usize::from(number) - 1)),
        },
        // Rather a place that nobody has had.
        None => places
            .iter()
            .position(|place| free(place) && place.owner.is_none())
            .or_else(|| places.iter().position(free))
            .map(Admission::Take)
            .ok_or_else(|| NoPlace {
                reason: format!("all {count} places are taken by connected workers"),
                later: Later::Again,
            }),
    }
}

/// How a worker that comes back with a replica gets to the open round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Return {
    /// Where its replica stands.
    pub position: Position,
    /// Where the server stands.
    pub server: Position,
    /// The server's chain hash at the worker's round, if it is still held.
    pub held: Option<crate::ChainHash>,
    /// Bytes of the verdicts since.
    pub missed_bytes: u64,
    /// Most bytes of them that are replayed: more would take longer than the state.
    pub most_bytes: u64,
}

/// Whether the verdicts that a returning worker has missed are enough for it, and why.
pub fn replay(of: Return) -> (bool, String) {
    let (at, server) = (of.position.round, of.server.round);
    if at > server {
        let incarnation = of.server.incarnation.0;
        return (
            false,
            format!(
                "it was at round {at} and the server, in incarnation {incarnation}, is at {server}: it takes the server's state"
            ),
        );
    }
    match of.held {
        None => (
            false,
            format!(
                "it was at round {at}, whose verdict is no longer held: it takes the state of round {server}"
            ),
        ),
        Some(held) if held != of.position.chain => {
            (false, format!("its history up to round {at} is another one: it takes the server's state"))
        }
        Some(_) if at == server => (true, "it came back within the round".into()),
        Some(_) if of.missed_bytes > of.most_bytes => {
            let missed = server.0 - at.0;
            (
                false,
                format!(
                    "the {missed} verdicts since round {at} are longer than the state: it takes that of round {server}"
                ),
            )
        }
        Some(_) => (true, format!("it replayed {} verdicts from round {at} on", server.0 - at.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChainHash, Round};

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

    fn milliseconds(of: &[u64]) -> Vec<Duration> {
        of.iter().copied().map(Duration::from_millis).collect()
    }

    const ADAPTIVE: DeadlineRule =
        DeadlineRule::Adaptive { floor: Duration::from_millis(10), ceiling: Duration::from_secs(1) };

    #[test]
    fn the_deadline_follows_the_arrival_of_the_quorum_between_floor_and_ceiling() {
        let after = |arrivals: &[u64]| deadline(ADAPTIVE, &milliseconds(arrivals)).0.map(|d| d.as_millis());
        assert_eq!(after(&[]), Some(1000));
        assert_eq!(after(&[20; 10]), Some(60));
        assert_eq!(after(&[1, 1, 1]), Some(10));
        assert_eq!(after(&[900; 3]), Some(1000));
        // One slow round in twenty does not count, one in five does.
        let mut arrivals = [20; 20];
        arrivals[3] = 300;
        assert_eq!(after(&arrivals), Some(60));
        arrivals[..4].fill(300);
        assert_eq!(after(&arrivals), Some(900));
    }

    #[test]
    fn a_deadline_is_as_told() {
        assert_eq!(deadline(DeadlineRule::Never, &milliseconds(&[1])).0, None);
        let fixed = Duration::from_millis(7);
        assert_eq!(deadline(DeadlineRule::Fixed(fixed), &milliseconds(&[1])).0, Some(fixed));
    }

    #[test]
    fn probation_doubles_up_to_a_bound() {
        assert_eq!([0, 1, 2, 3, 11, 12, u32::MAX].map(probation), [8, 8, 16, 32, 8192, 8192, 8192]);
    }

    const FREE: Place<'static> = Place { taken: false, owner: None, voted: false };
    const TAKEN: Place<'static> = Place { taken: true, ..FREE };

    #[test]
    fn a_newcomer_takes_the_place_it_asks_for_or_the_first_free_one() {
        let places = [TAKEN, FREE, TAKEN, FREE];
        let admit = |wanted| admit(&places, None, wanted, SecondConnection::Replaces);
        assert_eq!(admit(None), Ok(Admission::Take(1)));
        assert_eq!(admit(Some(4)), Ok(Admission::Take(3)));
        assert_eq!(admit(Some(1)).map_err(|no| no.later), Err(Later::Again));
        assert_eq!(admit(Some(0)).map_err(|no| no.later), Err(Later::Never));
        assert_eq!(admit(Some(5)).map_err(|no| no.later), Err(Later::Never));
        assert!(super::admit(&[TAKEN; 3], None, None, SecondConnection::Replaces).is_err());
    }

    #[test]
    fn an_identity_has_one_place_and_one_connection() {
        let own = Place { owner: Some("ada"), ..FREE };
        let admit = |places: &[Place<'_>], second| admit(places, Some("ada"), Some(1), second);
        // Whatever place it asks for.
        assert_eq!(admit(&[FREE, own], SecondConnection::Replaces), Ok(Admission::Take(1)));
        let taken = Place { taken: true, ..own };
        assert_eq!(admit(&[FREE, taken], SecondConnection::Replaces), Ok(Admission::Replace(1)));
        assert!(admit(&[FREE, taken], SecondConnection::IsRefused).is_err());
    }

    #[test]
    fn a_place_whose_ballot_counts_goes_to_no_other_identity_in_that_round() {
        let away = Place { owner: Some("ada"), ..FREE };
        let voted = Place { voted: true, ..away };
        let admit =
            |places: &[Place<'_>], wanted| admit(places, Some("bob"), wanted, SecondConnection::Replaces);
        assert_eq!(admit(&[away, FREE], None), Ok(Admission::Take(1)));
        assert_eq!(admit(&[away, TAKEN], None), Ok(Admission::Take(0)));
        assert!(admit(&[voted, TAKEN], None).is_err());
        assert!(admit(&[voted, TAKEN], Some(1)).is_err());
    }

    #[test]
    fn a_returning_worker_replays_what_is_held_of_its_own_history() {
        let at = |round, chain| Position {
            round: Round(round),
            chain: ChainHash([chain; 32]),
            ..Position::default()
        };
        let missing = |position, held: Option<u8>, missed_bytes| {
            let held = held.map(|chain| ChainHash([chain; 32]));
            replay(Return { position, server: at(9, 9), held, missed_bytes, most_bytes: 100 }).0
        };
        let decide = |position, held| missing(position, held, 100);
        assert!(decide(at(4, 4), Some(4)) && decide(at(9, 9), Some(9)));
        assert!(!decide(at(4, 4), Some(5)) && !decide(at(4, 4), None) && !decide(at(10, 1), None));
        assert!(!missing(at(4, 4), Some(4), 101), "the state is shorter");
    }
}
