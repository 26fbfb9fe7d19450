//! The verdict of voters who do not count alike: [`decide_weighted`].
//!
//! # How
//!
//! A ballot of weight w is one of weight 2ᵏ for every bit k that is set in w. The ballots of one such place
//! are counted into the planes from k up; the rest is as in `decide`.

use std::ops::Range;

use crate::adder::Counter;
use crate::decide::{MAX_BALLOTS, Rule, Voters, count_at_place, decide_counts};
use crate::vector::Arch;
use crate::{Ballot, Decided, Isa, Tie};

/// The majority by weight, coordinate by coordinate.
///
/// The table of [`decide()`](crate::decide()) holds, with n and p the summed weights of the negative and of the
/// positive votes, and with `min_weight` for `min_voters`: a coordinate is held where those who voted weigh
/// less than max(1, `min_weight`) together. A weight of 0 does not count at all; a ballot of weight w is the
/// same as w equal ballots, at the price of as many as w has bits set.
///
/// # Panics
///
/// If there are not as many weights as ballots, if the weights are more than 65,535 in sum, or if any plane,
/// of a ballot or of the verdict, is not exactly [`words(coordinates)`](crate::words) long.
pub fn decide_weighted(
    ballots: &[Ballot<'_>],
    weights: &[u16],
    coordinates: usize,
    tie: Tie,
    min_weight: u32,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    decide_weighted_on(Isa::active(), ballots, weights, coordinates, tie, min_weight, signs, hold)
}

kernel! {
    #[expect(clippy::too_many_arguments, reason = "those of `decide`, and the weights")]
    pub(crate) fn decide_weighted_on(
        ballots: &[Ballot<'_>],
        weights: &[u16],
        coordinates: usize,
        tie: Tie,
        min_weight: u32,
        signs: &mut [u64],
        hold: &mut [u64],
    ) -> Decided = decide_weighted_body;
}

/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn decide_weighted_body<A: Arch>(
    ballots: &[Ballot<'_>],
    weights: &[u16],
    coordinates: usize,
    tie: Tie,
    min_weight: u32,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    assert_eq!(weights.len(), ballots.len(), "weights of the ballots");
    // A sum that wraps would take more ballots than there is memory for.
    let total: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
    assert!(total <= MAX_BALLOTS, "expected weights of at most {MAX_BALLOTS} in sum, got {total}");
    for ballot in ballots {
        ballot.check(coordinates);
    }
    let rule = Rule { voters: total, min_voters: usize::max(1, min_weight as usize), tie };
    // SAFETY: passed on; the ballots were checked.
    unsafe { decide_counts::<A, _>(&Weighted { ballots, weights }, &rule, coordinates, signs, hold) }
}

/// As many votes as the weight says.
struct Weighted<'a> {
    ballots: &'a [Ballot<'a>],
    weights: &'a [u16],
}

impl Voters for Weighted<'_> {
    fn most(&self) -> [usize; 2] {
        let mut most = [0, 0];
        for (ballot, weight) in self.ballots.iter().zip(self.weights) {
            most[0] += usize::from(*weight);
            most[1] += if ballot.abstain.is_some() { usize::from(*weight) } else { 0 };
        }
        most
    }

    #[inline(always)]
    unsafe fn count<A: Arch>(
        &self,
        tile: Range<usize>,
        negatives: &mut Counter<'_>,
        abstentions: &mut Counter<'_>,
    ) {
        for place in 0..u16::BITS as usize {
            let all = self.ballots.iter().zip(self.weights);
            let of_place = all.filter(|(_, weight)| *weight >> place & 1 == 1).map(|(ballot, _)| ballot);
            // SAFETY: passed on.
            unsafe { count_at_place::<A, _>(of_place, tile.clone(), place, negatives, abstentions) };
        }
    }
}
