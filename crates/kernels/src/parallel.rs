//! The kernels over all threads of the current rayon pool.
//!
//! Coordinates are split at words, into parts of 65,536, and each part is given to the serial kernel: the
//! results are the same bits, however many threads there are. What panics there panics here, before anything
//! is written. One thread comes near the limit of memory with most of these; how much more several bring
//! depends on the memory.

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use crate::decide::Rule;
use crate::electorate::Electorate;
use crate::pack::{check_momentum, check_planes};
use crate::plane::WORD_BITS;
use crate::{AbstainOn, Agreement, Ballot, Coin, Decided, Half, Isa, Packed, Tie};

/// Words of a part: what one tile of a tally counts, and with 256 KiB of values long enough to be worth
/// handing over.
const PART_WORDS: usize = 1024;
const PART: usize = PART_WORDS * WORD_BITS;

/// Makes the public form of each `fn on(isa, arguments)`.
macro_rules! on_all_threads {
    ($($(#[$meta:meta])* fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $on:ident;)*) => {$(
        #[doc = concat!("[`crate::", stringify!($name), "()`] on all threads.")]
        ///
        /// # Panics
        ///
        /// As it does.
        $(#[$meta])*
        pub fn $name($($argument: $type),*) $(-> $result)? {
            $on(Isa::active(), $($argument),*)
        }
    )*};
}

on_all_threads! {
    fn pack(values: &[f32], signs: &mut [u64], abstain: &mut [u64]) -> Packed = pack_on;

    fn pack_half(format: Half, values: &[u16], signs: &mut [u64], abstain: &mut [u64]) -> Packed =
        pack_half_on;

    fn momentum_pack(
        gradient: &[f32],
        momentum: &mut [f32],
        beta: f32,
        abstain_on: AbstainOn,
        signs: &mut [u64],
        abstain: &mut [u64],
    ) -> Packed = momentum_pack_on;

    fn lion_pack(
        gradient: &[f32],
        momentum: &mut [f32],
        betas: (f32, f32),
        abstain_on: AbstainOn,
        signs: &mut [u64],
        abstain: &mut [u64],
    ) -> Packed = lion_pack_on;

    fn apply(x: &mut [f32], signs: &[u64], hold: Option<&[u64]>, eta: f32, lambda: f32) = apply_on;

    fn unpack(signs: &[u64], abstain: Option<&[u64]>, out: &mut [f32]) = unpack_on;

    fn decide(
        ballots: &[Ballot<'_>],
        coordinates: usize,
        tie: Tie,
        min_voters: u32,
        signs: &mut [u64],
        hold: &mut [u64],
    ) -> Decided = decide_on;

    fn decide_weighted(
        ballots: &[Ballot<'_>],
        weights: &[u16],
        coordinates: usize,
        tie: Tie,
        min_weight: u32,
        signs: &mut [u64],
        hold: &mut [u64],
    ) -> Decided = decide_weighted_on;

    #[must_use]
    fn agreement(ballot: Ballot<'_>, signs: &[u64], hold: &[u64], coordinates: usize) -> Agreement =
        agreement_on;

    #[must_use]
    fn hamming(ballot: Ballot<'_>, signs: &[u64], hold: &[u64], coordinates: usize) -> u64 = hamming_on;

    fn margins(ballots: &[Ballot<'_>], coordinates: usize, out: &mut [u16]) = margins_on;
}

/// [`crate::margin_histogram()`] on all threads. Each counts into bins of its own, which it allocates.
///
/// # Panics
///
/// As it does.
pub fn margin_histogram(margins: &[u16], bins: &mut [u64]) {
    let add = |bins: &mut [u64], more: &[u64]| {
        for (bin, more) in bins.iter_mut().zip(more) {
            *bin += more;
        }
    };
    // So many that counting them takes longer than clearing and adding the bins does.
    let part = usize::max(PART, 4 * bins.len());
    let counted = margins
        .par_chunks(part)
        .fold(
            || vec![0; bins.len()],
            |mut own, margins| {
                crate::margin_histogram(margins, &mut own);
                own
            },
        )
        .reduce_with(|mut one, other| {
            add(&mut one, &other);
            one
        });
    add(bins, &counted.unwrap_or_default());
}

pub(crate) fn pack_on(isa: Isa, values: &[f32], signs: &mut [u64], abstain: &mut [u64]) -> Packed {
    pack_parts(values, signs, abstain, |values, signs, abstain| {
        crate::pack::pack_on(isa, values, signs, abstain)
    })
}

pub(crate) fn pack_half_on(
    isa: Isa,
    format: Half,
    values: &[u16],
    signs: &mut [u64],
    abstain: &mut [u64],
) -> Packed {
    pack_parts(values, signs, abstain, |values, signs, abstain| {
        crate::pack::pack_half_on(isa, format, values, signs, abstain)
    })
}

fn pack_parts<T: Sync>(
    values: &[T],
    signs: &mut [u64],
    abstain: &mut [u64],
    pack: impl Fn(&[T], &mut [u64], &mut [u64]) -> Packed + Sync,
) -> Packed {
    check_planes(values.len(), signs, abstain);
    planes(signs, abstain)
        .zip(values.par_chunks(PART))
        .map(|((signs, abstain), values)| pack(values, signs, abstain))
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
    moving_parts(gradient, momentum, signs, abstain, |gradient, momentum, signs, abstain| {
        crate::pack::momentum_pack_on(isa, gradient, momentum, beta, abstain_on, signs, abstain)
    })
}

pub(crate) fn lion_pack_on(
    isa: Isa,
    gradient: &[f32],
    momentum: &mut [f32],
    betas: (f32, f32),
    abstain_on: AbstainOn,
    signs: &mut [u64],
    abstain: &mut [u64],
) -> Packed {
    moving_parts(gradient, momentum, signs, abstain, |gradient, momentum, signs, abstain| {
        crate::pack::lion_pack_on(isa, gradient, momentum, betas, abstain_on, signs, abstain)
    })
}

fn moving_parts(
    gradient: &[f32],
    momentum: &mut [f32],
    signs: &mut [u64],
    abstain: &mut [u64],
    pack: impl Fn(&[f32], &mut [f32], &mut [u64], &mut [u64]) -> Packed + Sync,
) -> Packed {
    check_momentum(gradient, momentum);
    check_planes(gradient.len(), signs, abstain);
    planes(signs, abstain)
        .zip(gradient.par_chunks(PART).zip(momentum.par_chunks_mut(PART)))
        .map(|((signs, abstain), (gradient, momentum))| pack(gradient, momentum, signs, abstain))
        .reduce(Packed::default, both)
}

fn both(mut one: Packed, other: Packed) -> Packed {
    one += other;
    one
}

pub(crate) fn apply_on(isa: Isa, x: &mut [f32], signs: &[u64], hold: Option<&[u64]>, eta: f32, lambda: f32) {
    update_parts(signs, hold, x, |signs, hold, x| crate::apply::apply_on(isa, x, signs, hold, eta, lambda));
}

pub(crate) fn unpack_on(isa: Isa, signs: &[u64], abstain: Option<&[u64]>, out: &mut [f32]) {
    update_parts(signs, abstain, out, |signs, abstain, out| {
        crate::apply::unpack_on(isa, signs, abstain, out);
    });
}

fn update_parts(
    signs: &[u64],
    other: Option<&[u64]>,
    values: &mut [f32],
    update: impl Fn(&[u64], Option<&[u64]>, &mut [f32]) + Sync,
) {
    crate::apply::check_planes(values.len(), signs, other);
    let parts = values.par_chunks_mut(PART).enumerate();
    parts.for_each(|(part, values)| {
        update(words_of(part, signs), other.map(|plane| words_of(part, plane)), values);
    });
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
    crate::decide::check(ballots, coordinates, signs, hold);
    let rule = Rule { voters: ballots.len(), min_voters, tie };
    decide_parts(isa, ballots, None, rule, coordinates, signs, hold)
}

#[expect(clippy::too_many_arguments, reason = "those of the function, and the instruction set")]
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
    let voters = crate::weighted::check(ballots, weights, coordinates, signs, hold);
    let rule = Rule { voters, min_voters: min_weight, tie };
    decide_parts(isa, ballots, Some(weights), rule, coordinates, signs, hold)
}

/// The verdict of all parts, each with the coin of its first word.
fn decide_parts(
    isa: Isa,
    ballots: &[Ballot<'_>],
    weights: Option<&[u16]>,
    rule: Rule,
    coordinates: usize,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    planes(signs, hold)
        .enumerate()
        .map(|(part, (signs, hold))| {
            let from = part * PART_WORDS;
            let tie = match rule.tie {
                Tie::Coin(Coin { key, first_word }) => {
                    Tie::Coin(Coin { key, first_word: first_word.wrapping_add(from as u64) })
                }
                other => other,
            };
            let electorate = Electorate { ballots, weights, from };
            let coordinates = coordinates_of(part, coordinates);
            crate::decide::decide_part_on(isa, &electorate, Rule { tie, ..rule }, coordinates, signs, hold)
        })
        .reduce(Decided::default, |one, other| Decided {
            ties: one.ties + other.ties,
            holds: one.holds + other.holds,
        })
}

pub(crate) fn agreement_on(
    isa: Isa,
    ballot: Ballot<'_>,
    signs: &[u64],
    hold: &[u64],
    coordinates: usize,
) -> Agreement {
    compare_parts(ballot, signs, hold, coordinates, |ballot, signs, hold, coordinates| {
        crate::ballot::agreement_on(isa, ballot, signs, hold, coordinates)
    })
    .reduce(Agreement::default, |one, other| Agreement {
        agree: one.agree + other.agree,
        disagree: one.disagree + other.disagree,
    })
}

pub(crate) fn hamming_on(
    isa: Isa,
    ballot: Ballot<'_>,
    signs: &[u64],
    hold: &[u64],
    coordinates: usize,
) -> u64 {
    compare_parts(ballot, signs, hold, coordinates, |ballot, signs, hold, coordinates| {
        crate::ballot::hamming_on(isa, ballot, signs, hold, coordinates)
    })
    .sum()
}

fn compare_parts<T: Send>(
    ballot: Ballot<'_>,
    signs: &[u64],
    hold: &[u64],
    coordinates: usize,
    compare: impl Fn(Ballot<'_>, &[u64], &[u64], usize) -> T + Sync + Send,
) -> impl ParallelIterator<Item = T> {
    ballot.check(coordinates);
    check_planes(coordinates, signs, hold);
    let parts = signs.par_chunks(PART_WORDS).zip(hold.par_chunks(PART_WORDS)).enumerate();
    parts.map(move |(part, (signs, hold))| {
        let abstain = ballot.abstain.map(|plane| words_of(part, plane));
        let ballot = Ballot { signs: words_of(part, ballot.signs), abstain };
        compare(ballot, signs, hold, coordinates_of(part, coordinates))
    })
}

pub(crate) fn margins_on(isa: Isa, ballots: &[Ballot<'_>], coordinates: usize, out: &mut [u16]) {
    crate::margins::check(ballots, coordinates, out);
    out.par_chunks_mut(PART).enumerate().for_each(|(part, out)| {
        crate::margins::margins_part_on(isa, ballots, part * PART_WORDS, out);
    });
}

/// The parts of two planes.
fn planes<'a>(
    signs: &'a mut [u64],
    other: &'a mut [u64],
) -> impl IndexedParallelIterator<Item = (&'a mut [u64], &'a mut [u64])> {
    signs.par_chunks_mut(PART_WORDS).zip(other.par_chunks_mut(PART_WORDS))
}

/// One part of a plane.
fn words_of(part: usize, plane: &[u64]) -> &[u64] {
    let from = part * PART_WORDS;
    &plane[from..usize::min(from + PART_WORDS, plane.len())]
}

/// The length of a part.
fn coordinates_of(part: usize, coordinates: usize) -> usize {
    usize::min(PART, coordinates - part * PART)
}
