//! Every kernel on a given instruction set, for tests and benches. Not part of the interface: it changes
//! without notice.
//!
//! Each panics as its namesake does, and if the machine lacks the instruction set ([`Isa::available`]).

use crate::{AbstainOn, Agreement, Ballot, Decided, Half, Isa, Packed, StreamTally, Tie};

pub use crate::limit::{read_with, signs_with, update_with, write_with};

/// [`crate::pack()`] on that instruction set.
pub fn pack_with(isa: Isa, values: &[f32], signs: &mut [u64], abstain: &mut [u64]) -> Packed {
    crate::pack::pack_on(isa, values, signs, abstain)
}

/// [`crate::pack_half()`] on that instruction set.
pub fn pack_half_with(
    isa: Isa,
    format: Half,
    values: &[u16],
    signs: &mut [u64],
    abstain: &mut [u64],
) -> Packed {
    crate::pack::pack_half_on(isa, format, values, signs, abstain)
}

/// [`crate::momentum_pack()`] on that instruction set.
pub fn momentum_pack_with(
    isa: Isa,
    gradient: &[f32],
    momentum: &mut [f32],
    beta: f32,
    abstain_on: AbstainOn,
    signs: &mut [u64],
    abstain: &mut [u64],
) -> Packed {
    crate::pack::momentum_pack_on(isa, gradient, momentum, beta, abstain_on, signs, abstain)
}

/// [`crate::lion_pack()`] on that instruction set.
pub fn lion_pack_with(
    isa: Isa,
    gradient: &[f32],
    momentum: &mut [f32],
    betas: (f32, f32),
    abstain_on: AbstainOn,
    signs: &mut [u64],
    abstain: &mut [u64],
) -> Packed {
    crate::pack::lion_pack_on(isa, gradient, momentum, betas, abstain_on, signs, abstain)
}

/// [`crate::unpack()`] on that instruction set.
pub fn unpack_with(isa: Isa, signs: &[u64], abstain: Option<&[u64]>, out: &mut [f32]) {
    crate::apply::unpack_on(isa, signs, abstain, out);
}

/// [`crate::apply_into()`] on that instruction set.
pub fn apply_into_with(
    isa: Isa,
    x: &[f32],
    signs: &[u64],
    hold: Option<&[u64]>,
    (eta, lambda): (f32, f32),
    out: &mut [f32],
) {
    crate::apply::apply_into_on(isa, x, signs, hold, eta, lambda, out);
}

/// [`crate::apply()`] on that instruction set.
pub fn apply_with(isa: Isa, x: &mut [f32], signs: &[u64], hold: Option<&[u64]>, eta: f32, lambda: f32) {
    crate::apply::apply_on(isa, x, signs, hold, eta, lambda);
}

/// [`crate::decide()`] on that instruction set.
pub fn decide_with(
    isa: Isa,
    ballots: &[Ballot<'_>],
    coordinates: usize,
    tie: Tie,
    min_voters: u32,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    crate::decide::decide_on(isa, ballots, coordinates, tie, min_voters, signs, hold)
}

/// [`crate::agreement()`] on that instruction set.
#[must_use]
pub fn agreement_with(
    isa: Isa,
    ballot: Ballot<'_>,
    signs: &[u64],
    hold: &[u64],
    coordinates: usize,
) -> Agreement {
    crate::ballot::agreement_on(isa, ballot, signs, hold, coordinates)
}

/// [`crate::decide_weighted()`] on that instruction set.
#[expect(clippy::too_many_arguments, reason = "those of the function, and the instruction set")]
pub fn decide_weighted_with(
    isa: Isa,
    ballots: &[Ballot<'_>],
    weights: &[u16],
    coordinates: usize,
    tie: Tie,
    min_weight: u32,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    crate::weighted::decide_weighted_on(isa, ballots, weights, coordinates, tie, min_weight, signs, hold)
}

/// [`StreamTally::add_all`] on that instruction set.
pub fn stream_add_with(isa: Isa, tally: &mut StreamTally, ballots: &[Ballot<'_>]) {
    crate::stream::add_on(isa, tally, ballots);
}

/// [`StreamTally::decide`] on that instruction set.
pub fn stream_decide_with(
    isa: Isa,
    tally: &mut StreamTally,
    tie: Tie,
    min_voters: u32,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    crate::stream::decide_so_far_on(isa, tally, tie, min_voters, signs, hold)
}

/// [`StreamTally::close`] on that instruction set.
pub fn stream_close_with(
    isa: Isa,
    tally: &mut StreamTally,
    last: &[Ballot<'_>],
    tie: Tie,
    min_voters: u32,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    crate::stream::close_on(isa, tally, last, tie, min_voters, signs, hold)
}

/// [`crate::hamming()`] on that instruction set.
#[must_use]
pub fn hamming_with(isa: Isa, ballot: Ballot<'_>, signs: &[u64], hold: &[u64], coordinates: usize) -> u64 {
    crate::ballot::hamming_on(isa, ballot, signs, hold, coordinates)
}

/// [`crate::margins()`] on that instruction set.
pub fn margins_with(isa: Isa, ballots: &[Ballot<'_>], coordinates: usize, out: &mut [u16]) {
    crate::margins::margins_on(isa, ballots, coordinates, out);
}
