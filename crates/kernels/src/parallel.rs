//! The kernels over all threads of the current rayon pool.
//!
//! Coordinates are split at words, into parts of 65,536, and each part is given to the serial kernel: the
//! results are the same bits, however many threads there are. What panics there panics here, before anything
//! is written. One thread comes near the limit of memory with most of these; how much more several bring
//! depends on the memory.

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use crate::apply::check_planes as check_verdict;
use crate::decide::{check, decide_part_on};
use crate::pack::{check_momentum, check_planes};
use crate::plane::WORD_BITS;
use crate::{AbstainOn, Ballot, Coin, Decided, Isa, Packed, Tie};

/// Words of a part: what one tile of a tally counts, and with 256 KiB of values long enough to be worth
/// handing over.
const PART_WORDS: usize = 1024;
const PART: usize = PART_WORDS * WORD_BITS;

/// [`crate::pack()`] on all threads.
///
/// # Panics
///
/// As it does.
pub fn pack(values: &[f32], signs: &mut [u64], abstain: &mut [u64]) -> Packed {
    pack_on(Isa::active(), values, signs, abstain)
}

/// [`crate::momentum_pack()`] on all threads.
///
/// # Panics
///
/// As it does.
pub fn momentum_pack(
    gradient: &[f32],
    momentum: &mut [f32],
    beta: f32,
    abstain_on: AbstainOn,
    signs: &mut [u64],
    abstain: &mut [u64],
) -> Packed {
    momentum_pack_on(Isa::active(), gradient, momentum, beta, abstain_on, signs, abstain)
}

/// [`crate::apply()`] on all threads.
///
/// # Panics
///
/// As it does.
pub fn apply(x: &mut [f32], signs: &[u64], hold: Option<&[u64]>, eta: f32, lambda: f32) {
    apply_on(Isa::active(), x, signs, hold, eta, lambda);
}

/// [`crate::decide()`] on all threads.
///
/// # Panics
///
/// As it does.
pub fn decide(
    ballots: &[Ballot<'_>],
    coordinates: usize,
    tie: Tie,
    min_voters: u32,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    decide_on(Isa::active(), ballots, coordinates, tie, min_voters, signs, hold)
}

pub(crate) fn pack_on(isa: Isa, values: &[f32], signs: &mut [u64], abstain: &mut [u64]) -> Packed {
    check_planes(values.len(), signs, abstain);
    let parts = signs.par_chunks_mut(PART_WORDS).zip(abstain.par_chunks_mut(PART_WORDS));
    parts
        .zip(values.par_chunks(PART))
        .map(|((signs, abstain), values)| crate::pack::pack_on(isa, values, signs, abstain))
        .reduce(Packed::default, both)
}

pub(crate) fn momentum_pack_on(
    isa: Isa,
    gradient: &[f32],
    momentum: &mut [f32],
    beta: f32,
    abstain_on: AbstainOn,
    signs: &mut [u64],
    abstain: &mut [u64],
) -> Packed {
    check_momentum(gradient, momentum);
    check_planes(gradient.len(), signs, abstain);
    let parts = signs.par_chunks_mut(PART_WORDS).zip(abstain.par_chunks_mut(PART_WORDS));
    parts
        .zip(gradient.par_chunks(PART).zip(momentum.par_chunks_mut(PART)))
        .map(|((signs, abstain), (gradient, momentum))| {
            crate::pack::momentum_pack_on(isa, gradient, momentum, beta, abstain_on, signs, abstain)
        })
        .reduce(Packed::default, both)
}

fn both(mut one: Packed, other: Packed) -> Packed {
    one += other;
    one
}

pub(crate) fn apply_on(isa: Isa, x: &mut [f32], signs: &[u64], hold: Option<&[u64]>, eta: f32, lambda: f32) {
    check_verdict(x.len(), signs, hold);
    let parts = x.par_chunks_mut(PART).zip(signs.par_chunks(PART_WORDS));
    match hold {
        None => parts.for_each(|(x, signs)| crate::apply::apply_on(isa, x, signs, None, eta, lambda)),
        Some(hold) => parts.zip(hold.par_chunks(PART_WORDS)).for_each(|((x, signs), hold)| {
            crate::apply::apply_on(isa, x, signs, Some(hold), eta, lambda);
        }),
    }
}

pub(crate) fn decide_on(
    isa: Isa,
    ballots: &[Ballot<'_>],
    coordinates: usize,
    tie: Tie,
    min_voters: u32,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    check(ballots, coordinates, signs, hold);
    let parts = signs.par_chunks_mut(PART_WORDS).zip(hold.par_chunks_mut(PART_WORDS)).enumerate();
    parts
        .map(|(part, (signs, hold))| {
            let from = part * PART_WORDS;
            let tie = match tie {
                Tie::Coin(Coin { key, first_word }) => {
                    Tie::Coin(Coin { key, first_word: first_word.wrapping_add(from as u64) })
                }
                other => other,
            };
            let coordinates = usize::min(PART, coordinates - from * WORD_BITS);
            decide_part_on(isa, ballots, from, coordinates, tie, min_voters, signs, hold)
        })
        .reduce(Decided::default, |one, other| Decided {
            ties: one.ties + other.ties,
            holds: one.holds + other.holds,
        })
}
