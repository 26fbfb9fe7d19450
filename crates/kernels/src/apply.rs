//! Planes to values: [`apply`] and [`unpack`].

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

/// Writes a ballot (or a verdict, with its hold plane for `abstain`) as values: +1 or −1, and +0 where it
/// abstains.
///
/// `abstain` of `None` is a ballot without abstentions. A sign bit under an abstention is ignored, and so are
/// tail bits.
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
    // SAFETY: the caller vouches for `A`; the planes were checked.
    unsafe {
        match hold {
            None => update::<A, false, true>(x, signs, signs, (eta, lambda)),
            Some(hold) => update::<A, true, true>(x, signs, hold, (eta, lambda)),
        }
    }
}

/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn unpack_body<A: Arch>(signs: &[u64], abstain: Option<&[u64]>, out: &mut [f32]) {
    check_planes(out.len(), signs, abstain);
    // SAFETY: the caller vouches for `A`; the planes were checked.
    unsafe {
        match abstain {
            None => update::<A, false, false>(out, signs, signs, (0.0, 0.0)),
            Some(abstain) => update::<A, true, false>(out, signs, abstain, (0.0, 0.0)),
        }
    }
}

/// Steps (`STEP`) or overwrites `x` with the verdict, which holds nowhere unless `HOLDS`.
///
/// # Safety
///
/// The processor has `A`; both planes fit `x`.
#[inline(always)]
unsafe fn update<A: Arch, const HOLDS: bool, const STEP: bool>(
    x: &mut [f32],
    signs: &[u64],
    hold: &[u64],
    rates: (f32, f32),
) {
    debug_assert!(signs.len() == words(x.len()) && hold.len() == words(x.len()));
    let whole = x.len() / WORD_BITS;
    each_word!(whole, |at| {
        // SAFETY: the processor has `A`; the word is a whole one, so that its values and its place in the
        // planes exist.
        unsafe {
            let word = (*signs.get_unchecked(at), *hold.get_unchecked(at));
            update_word::<A, HOLDS, STEP>(x.as_mut_ptr().add(at * WORD_BITS), word, rates);
        }
    });
    let rest = &mut x[whole * WORD_BITS..];
    if !rest.is_empty() {
        let mut padded = [0.0; WORD_BITS];
        padded[..rest.len()].copy_from_slice(rest);
        // SAFETY: the processor has `A`, and the padding makes the word whole.
        unsafe { update_word::<A, HOLDS, STEP>(padded.as_mut_ptr(), (signs[whole], hold[whole]), rates) };
        rest.copy_from_slice(&padded[..rest.len()]);
    }
}

/// # Safety
///
/// The processor has `A`, and there are 64 values.
#[inline(always)]
unsafe fn update_word<A: Arch, const HOLDS: bool, const STEP: bool>(
    x: *mut f32,
    (signs, hold): (u64, u64),
    (eta, lambda): (f32, f32),
) {
    let mut lane = 0;
    while lane < WORD_BITS {
        // SAFETY: the caller vouches for `A` and the values; `LANES` divides 64.
        unsafe {
            let mut s = A::Steps::select(signs >> lane, A::Steps::splat(-1.0), A::Steps::splat(1.0));
            if HOLDS {
                s = A::Steps::select(hold >> lane, A::Steps::splat(0.0), s);
            }
            if STEP {
                let old = A::Steps::load(x.add(lane));
                let decayed = s.add(A::Steps::splat(lambda).mul(old));
                s = old.sub(A::Steps::splat(eta).mul(decayed));
            }
            s.store(x.add(lane));
        }
        lane += A::Steps::LANES;
    }
}
