//! Planes to values: [`apply`], [`apply_into`] and [`unpack`].

use crate::Isa;
use crate::plane::{WORD_BITS, words};
use crate::vector::{Arch, Floats, Signed};

/// Moves the weights by a verdict: `x = x − η·(s + λ·x)`, where s is −1, +1 or, where the verdict is to hold,
/// 0.
///
/// In that order, each operation rounded to `f32`, never fused, on every instruction set. The formula is
/// taken literally for every value, without shortcuts:
///
/// - λ = 0: a finite `x` moves by exactly η·s, since `s + 0·x` is `s`; an `x` of ±∞ becomes NaN;
/// - held: decay still applies; with λ = 0 and a finite η ≥ 0 a finite `x` keeps its bits, −0 included;
/// - NaN stays NaN (with which payload is not specified).
///
/// `hold` of `None` is a verdict that holds nowhere. A sign bit under a hold is ignored, and so are tail
/// bits.
///
/// # Panics
///
/// If `signs`, or `hold` where given, is not exactly [`words(x.len())`](words) long.
pub fn apply(x: &mut [f32], signs: &[u64], hold: Option<&[u64]>, eta: f32, lambda: f32) {
    apply_on(Isa::active(), x, signs, hold, eta, lambda);
}

/// Writes to `out` what [`apply`] would make of `x`, bit for bit, and leaves `x` as it is.
///
/// Where `out` is aligned to 64 bytes it is written past the cache: it costs no more traffic to memory than [`apply`] then, and
/// half as much again otherwise.
///
/// # Panics
///
/// If `out` is not as long as `x`, or `signs`, or `hold` where given, is not exactly [`words(x.len())`](words) long.
pub fn apply_into(x: &[f32], signs: &[u64], hold: Option<&[u64]>, eta: f32, lambda: f32, out: &mut [f32]) {
    apply_into_on(Isa::active(), x, signs, hold, eta, lambda, out);
}

/// Writes a ballot (or a verdict, with its hold plane for `abstain`) as values: +1 or −1, and +0 where it
/// abstains.
///
/// `abstain` of `None` is a ballot without abstentions. A sign bit under an abstention is ignored, and so are
/// tail bits. A megabyte of values and more, aligned to 64 bytes, is written past the cache.
///
/// # Panics
///
/// If `signs`, or `abstain` where given, is not exactly [`words(out.len())`](words) long.
pub fn unpack(signs: &[u64], abstain: Option<&[u64]>, out: &mut [f32]) {
    unpack_on(Isa::active(), signs, abstain, out);
}

kernel! {
    pub(crate) fn apply_on(x: &mut [f32], signs: &[u64], hold: Option<&[u64]>, eta: f32, lambda: f32) = apply_body;
}

kernel! {
    pub(crate) fn apply_into_on(
        x: &[f32],
        signs: &[u64],
        hold: Option<&[u64]>,
        eta: f32,
        lambda: f32,
        out: &mut [f32],
    ) = apply_into_body;
}

kernel! {
    pub(crate) fn unpack_on(signs: &[u64], abstain: Option<&[u64]>, out: &mut [f32]) = unpack_body;
}

/// Panics unless both planes fit that many coordinates.
pub(crate) fn check_planes(coordinates: usize, signs: &[u64], other: Option<&[u64]>) {
    crate::pack::check_planes(coordinates, signs, other.unwrap_or(signs));
}

/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn apply_body<A: Arch>(x: &mut [f32], signs: &[u64], hold: Option<&[u64]>, eta: f32, lambda: f32) {
    check_planes(x.len(), signs, hold);
    let (from, rates) = (x.as_mut_ptr().cast_const(), (eta, lambda));
    // SAFETY: the caller vouches for `A`; the planes were checked.
    unsafe {
        match hold {
            None => update::<A, false, true, false>(from, x, signs, signs, rates),
            Some(hold) => update::<A, true, true, false>(from, x, signs, hold, rates),
        }
    }
}

/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn apply_into_body<A: Arch>(
    x: &[f32],
    signs: &[u64],
    hold: Option<&[u64]>,
    eta: f32,
    lambda: f32,
    out: &mut [f32],
) {
    assert_eq!(out.len(), x.len(), "values of the result");
    check_planes(x.len(), signs, hold);
    let (from, rates) = (x.as_ptr(), (eta, lambda));
    let aligned = out.as_ptr().addr().is_multiple_of(STREAM_BYTES);
    // SAFETY: the caller vouches for `A`; the planes and the lengths were checked, and the alignment.
    unsafe {
        match (hold, aligned) {
            (None, false) => update::<A, false, true, false>(from, out, signs, signs, rates),
            (Some(hold), false) => update::<A, true, true, false>(from, out, signs, hold, rates),
            (None, true) => update::<A, false, true, true>(from, out, signs, signs, rates),
            (Some(hold), true) => update::<A, true, true, true>(from, out, signs, hold, rates),
        }
    }
}

/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn unpack_body<A: Arch>(signs: &[u64], abstain: Option<&[u64]>, out: &mut [f32]) {
    check_planes(out.len(), signs, abstain);
    let aligned = out.as_ptr().addr().is_multiple_of(STREAM_BYTES);
    let (from, none) = (out.as_ptr(), (0.0, 0.0));
    // SAFETY: the caller vouches for `A`; the planes were checked, and the alignment.
    unsafe {
        match (abstain, aligned && out.len() >= STREAM_FROM) {
            (None, false) => update::<A, false, false, false>(from, out, signs, signs, none),
            (Some(abstain), false) => update::<A, true, false, false>(from, out, signs, abstain, none),
            (None, true) => update::<A, false, false, true>(from, out, signs, signs, none),
            (Some(abstain), true) => update::<A, true, false, true>(from, out, signs, abstain, none),
        }
    }
}

/// Alignment of what is written past the cache.
const STREAM_BYTES: usize = 64;
/// Values of a verdict from which on it is written past the cache: those of a megabyte, which the second level does not keep.
const STREAM_FROM: usize = 1 << 18;

/// Writes to `out` the step from `from` (`STEP`) or the verdict itself, which holds nowhere unless `HOLDS`; past the cache if told
/// so (`STREAM`).
///
/// # Safety
///
/// The processor has `A`; both planes fit `out`; there are as many values at `from`, which is where `out` lies or apart from
/// it; under `STREAM`, `out` is aligned to [`STREAM_BYTES`].
#[inline(always)]
unsafe fn update<A: Arch, const HOLDS: bool, const STEP: bool, const STREAM: bool>(
    from: *const f32,
    out: &mut [f32],
    signs: &[u64],
    hold: &[u64],
    rates: (f32, f32),
) {
    debug_assert!(signs.len() == words(out.len()) && hold.len() == words(out.len()));
    let whole = out.len() / WORD_BITS;
    let to = out.as_mut_ptr();
    each_word!(whole, |at| {
        // SAFETY: the processor has `A`; the word is a whole one, so that its values and its place in the
        // planes exist; a word's values are a multiple of the alignment.
        unsafe {
            let word = (*signs.get_unchecked(at), *hold.get_unchecked(at));
            let at = at * WORD_BITS;
            update_word::<A, HOLDS, STEP, STREAM>(from.add(at), to.add(at), word, rates);
        }
    });
    if STREAM {
        // SAFETY: the processor has `A`.
        unsafe { A::Steps::fence() };
    }
    let rest = out.len() - whole * WORD_BITS;
    if rest > 0 {
        let mut padded = [0.0; WORD_BITS];
        let values = padded.as_mut_ptr();
        // SAFETY: the processor has `A`; so many values are left on either side, the padding makes the word whole, and a word
        // may be written where it is read.
        unsafe {
            values.copy_from_nonoverlapping(from.add(whole * WORD_BITS), rest);
            update_word::<A, HOLDS, STEP, false>(values, values, (signs[whole], hold[whole]), rates);
            to.add(whole * WORD_BITS).copy_from_nonoverlapping(values, rest);
        }
    }
}

/// # Safety
///
/// The processor has `A`, there are 64 values at both places, which are one or apart, and under `STREAM` `to` is aligned to
/// [`STREAM_BYTES`].
#[inline(always)]
unsafe fn update_word<A: Arch, const HOLDS: bool, const STEP: bool, const STREAM: bool>(
    from: *const f32,
    to: *mut f32,
    (signs, hold): (u64, u64),
    (eta, lambda): (f32, f32),
) {
    let mut lane = 0;
    while lane < WORD_BITS {
        // SAFETY: the caller vouches for `A` and the values; `LANES` divides 64, and a vector is a multiple or a divisor of
        // what is aligned.
        unsafe {
            let mut s = A::Steps::select(signs >> lane, A::Steps::splat(-1.0), A::Steps::splat(1.0));
            if HOLDS {
                s = A::Steps::select(hold >> lane, A::Steps::splat(0.0), s);
            }
            if STEP {
                let old = A::Steps::load(from.add(lane));
                let decayed = s.add(A::Steps::splat(lambda).mul(old));
                s = old.sub(A::Steps::splat(eta).mul(decayed));
            }
            match STREAM {
                true => s.stream(to.add(lane)),
                false => s.store(to.add(lane)),
            }
        }
        lane += A::Steps::LANES;
    }
}
