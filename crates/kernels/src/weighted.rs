//! The verdict of voters who do not count alike: [`decide_weighted`].

use crate::decide::{MAX_BALLOTS, Rule, decide_part_on};
use crate::electorate::Electorate;
use crate::pack::check_planes;
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

/// [`decide_weighted()`] on that instruction set.
#[expect(clippy::too_many_arguments, reason = "those of `decide`, and the weights")]
pub(crate) fn decide_weighted_on(
    isa: Isa,
    ballots: &[Ballot<'_>],
    weights: &[u16],
    coordinates: usize,
    tie: Tie,
    min_weight: u32,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    let voters = check(ballots, weights, coordinates, signs, hold);
    let electorate = Electorate { ballots, weights: Some(weights), from: 0 };
    decide_part_on(isa, &electorate, Rule { voters, min_voters: min_weight, tie }, coordinates, signs, hold)
}

/// Panics as [`decide_weighted()`] does, or returns the sum of the weights.
pub(crate) fn check(
    ballots: &[Ballot<'_>],
    weights: &[u16],
    coordinates: usize,
    signs: &[u64],
    hold: &[u64],
) -> usize {
    assert_eq!(weights.len(), ballots.len(), "weights of the ballots");
    // A sum that wraps would take more ballots than there is memory for.
    let total = weights.iter().map(|weight| usize::from(*weight)).sum();
    assert!(total <= MAX_BALLOTS, "expected weights of at most {MAX_BALLOTS} in sum, got {total}");
    check_planes(coordinates, signs, hold);
    for ballot in ballots {
        ballot.check(coordinates);
    }
    total
}
