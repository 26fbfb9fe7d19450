//! Values to ballots: [`pack`], [`pack_half`], [`momentum_pack`] and [`lion_pack`].

use std::hint::cold_path;
use std::ops::AddAssign;

use crate::Isa;
use crate::plane::{WORD_BITS, tail_mask, words};
use crate::vector::{Arch, Floats, LINE_BYTES, Signed, prefetch};

/// What a ballot leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Coordinates without a vote, for whatever reason.
    pub abstained: usize,
    /// Those of them whose value was not finite.
    pub non_finite: usize,
}

impl AddAssign for Packed {
    fn add_assign(&mut self, other: Packed) {
        self.abstained += other.abstained;
        self.non_finite += other.non_finite;
    }
}

/// The zero that makes a voter abstain from a coordinate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AbstainOn {
    /// A momentum of exactly ±0. After one gradient that is not zero this takes some 900 rounds of zero
    /// gradients (β = 0.9).
    #[default]
    Momentum,
    /// Also this round's gradient of exactly ±0, whatever the momentum: embeddings of words that did not
    /// occur, dead units.
    Gradient,
}

/// Packs the signs of `values` into a ballot.
///
/// Coordinate by coordinate:
///
/// | value | `signs` | `abstain` |
/// |---|---|---|
/// | negative, denormals included | 1 | 0 |
/// | positive, denormals included | 0 | 0 |
/// | +0, −0 | 0 | 1 |
/// | NaN, +∞, −∞ | 0 | 1, and counted in [`Packed::non_finite`] |
///
/// The tail bits of both planes are zero.
///
/// # Panics
///
/// If `signs` or `abstain` is not exactly [`words(values.len())`](words) long.
pub fn pack(values: &[f32], signs: &mut [u64], abstain: &mut [u64]) -> Packed {
    pack_on(Isa::active(), values, signs, abstain)
}

/// How the 16 bits of a value are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Half {
    /// IEEE 754 binary16: 5 bits of exponent ("fp16", "half").
    Binary16,
    /// The upper half of an `f32`: 8 bits of exponent ("bf16").
    Bfloat16,
}

/// Packs the signs of values of 16 bits, given as their bit patterns, into a ballot.
///
/// The ballot is that of [`pack`] on the values widened to `f32`, which is exact: denormals vote, ±0 abstains,
/// and so do NaN and ±∞, counted in [`Packed::non_finite`]. The tail bits of both planes are zero.
///
/// ```
/// # use signvote_kernels::{Half, pack_half};
/// let (mut signs, mut abstain) = ([0], [0]);
/// // 1, −1, −0, −∞
/// pack_half(Half::Bfloat16, &[0x3F80, 0xBF80, 0x8000, 0xFF80], &mut signs, &mut abstain);
/// assert_eq!((signs, abstain), ([0b0010], [0b1100]));
/// ```
///
/// # Panics
///
/// If `signs` or `abstain` is not exactly [`words(values.len())`](words) long.
pub fn pack_half(format: Half, values: &[u16], signs: &mut [u64], abstain: &mut [u64]) -> Packed {
    pack_half_on(Isa::active(), format, values, signs, abstain)
}

/// Moves the momentum by this round's gradient and packs its signs, in one pass.
///
/// `v = β·v + (1 − β)·g`, with 1 − β taken in `f64` and rounded once to `f32`; each of the two products and
/// the sum is rounded to `f32`, never fused. The ballot is then that of [`pack`] on `v`, except where noted:
///
/// | gradient | momentum | ballot |
/// |---|---|---|
/// | ±0 | moves | that of `v`; abstains under [`AbstainOn::Gradient`] |
/// | NaN, +∞, −∞ | stays as it was | abstains, counted in [`Packed::non_finite`] |
/// | finite, but `v` would overflow | stays as it was | abstains, counted in [`Packed::non_finite`] |
///
/// So a momentum that was finite stays finite, whatever the gradients. One that was not never recovers, and
/// abstains for ever. At β = 0, `v` is `0·v + 1·g`, which is `g` except that −0 may become +0.
///
/// # Panics
///
/// If `momentum` is not as long as `gradient`, or if `signs` or `abstain` is not exactly
/// [`words(gradient.len())`](words) long.
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

/// Packs the signs of Lion's update and then moves its momentum, in one pass.
///
/// The ballot is that of [`pack`] on `c = β₁·m + (1 − β₁)·g`, and then `m = β₂·m + (1 − β₂)·g`, both from the
/// old `m`. As in [`momentum_pack`] each 1 − β is taken in `f64` and rounded once to `f32`, and each product and
/// sum is rounded to `f32`, never fused. (Chen et al. 2023, "Symbolic discovery of optimization algorithms",
/// algorithm 2.)
///
/// | gradient | momentum | ballot |
/// |---|---|---|
/// | ±0 | moves | that of `c`; abstains under [`AbstainOn::Gradient`] |
/// | NaN, +∞, −∞ | stays as it was | abstains, counted in [`Packed::non_finite`] |
/// | finite, but `c` or the new `m` would overflow | stays as it was | abstains, counted in [`Packed::non_finite`] |
///
/// [`AbstainOn::Momentum`] means a `c` of exactly ±0 here. With β₁ = β₂ all is as in [`momentum_pack`].
///
/// # Panics
///
/// If `momentum` is not as long as `gradient`, or if `signs` or `abstain` is not exactly
/// [`words(gradient.len())`](words) long.
pub fn lion_pack(
    gradient: &[f32],
    momentum: &mut [f32],
    (beta_1, beta_2): (f32, f32),
    abstain_on: AbstainOn,
    signs: &mut [u64],
    abstain: &mut [u64],
) -> Packed {
    lion_pack_on(Isa::active(), gradient, momentum, (beta_1, beta_2), abstain_on, signs, abstain)
}

kernel! {
    pub(crate) fn pack_on(values: &[f32], signs: &mut [u64], abstain: &mut [u64]) -> Packed = pack_body;
}

kernel! {
    pub(crate) fn pack_half_on(format: Half, values: &[u16], signs: &mut [u64], abstain: &mut [u64]) -> Packed =
        pack_half_body;
}

kernel! {
    pub(crate) fn momentum_pack_on(
        gradient: &[f32],
        momentum: &mut [f32],
        beta: f32,
        abstain_on: AbstainOn,
        signs: &mut [u64],
        abstain: &mut [u64],
    ) -> Packed = momentum_pack_body;
}

kernel! {
    pub(crate) fn lion_pack_on(
        gradient: &[f32],
        momentum: &mut [f32],
        betas: (f32, f32),
        abstain_on: AbstainOn,
        signs: &mut [u64],
        abstain: &mut [u64],
    ) -> Packed = lion_pack_body;
}

/// Panics unless both planes fit that many coordinates.
pub(crate) fn check_planes(coordinates: usize, signs: &[u64], other: &[u64]) {
    let expected = words(coordinates);
    assert_eq!(signs.len(), expected, "words of the sign plane for {coordinates} coordinates");
    assert_eq!(other.len(), expected, "words of the abstention or hold plane for {coordinates} coordinates");
}

/// Panics unless they are equally long.
pub(crate) fn check_momentum(gradient: &[f32], momentum: &[f32]) {
    assert_eq!(momentum.len(), gradient.len(), "coordinates of the momentum");
}

/// One word of a ballot in the making.
#[derive(Clone, Copy, Default)]
struct Word {
    negative: u64,
    abstain: u64,
    non_finite: u64,
}

impl Word {
    /// Writes it as word `at`, without the coordinates that `valid` lacks.
    ///
    /// # Safety
    ///
    /// `at` is within both planes.
    #[inline(always)]
    unsafe fn write(self, at: usize, valid: u64, signs: &mut [u64], abstain: &mut [u64]) -> Packed {
        let abstained = self.abstain & valid;
        // SAFETY: the caller vouches for it.
        unsafe {
            *signs.get_unchecked_mut(at) = self.negative & !self.abstain & valid;
            *abstain.get_unchecked_mut(at) = abstained;
        }
        Packed {
            abstained: abstained.count_ones() as usize,
            non_finite: (self.non_finite & valid).count_ones() as usize,
        }
    }
}

/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn pack_body<A: Arch>(values: &[f32], signs: &mut [u64], abstain: &mut [u64]) -> Packed {
    // SAFETY: passed on.
    unsafe { pack_planes::<A::Floats>(values, signs, abstain) }
}

/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn pack_half_body<A: Arch>(
    format: Half,
    values: &[u16],
    signs: &mut [u64],
    abstain: &mut [u64],
) -> Packed {
    // SAFETY: passed on.
    unsafe {
        match format {
            Half::Binary16 => pack_planes::<A::Binary16>(values, signs, abstain),
            Half::Bfloat16 => pack_planes::<A::Bfloat16>(values, signs, abstain),
        }
    }
}

/// # Safety
///
/// The processor has `V`.
#[inline(always)]
unsafe fn pack_planes<V: Signed>(values: &[V::Value], signs: &mut [u64], abstain: &mut [u64]) -> Packed {
    check_planes(values.len(), signs, abstain);
    let mut packed = Packed::default();
    let whole = values.len() / WORD_BITS;
    each_word!(whole, |at| {
        // SAFETY: the processor has `V`; the word is a whole one, so that its values and its place in the
        // planes exist.
        packed += unsafe {
            let from = values.as_ptr().add(at * WORD_BITS);
            ask_ahead(from);
            pack_word::<V>(from).write(at, u64::MAX, signs, abstain)
        };
    });
    let rest = &values[whole * WORD_BITS..];
    if !rest.is_empty() {
        let mut padded = [V::Value::default(); WORD_BITS];
        padded[..rest.len()].copy_from_slice(rest);
        // SAFETY: the processor has `V`; the padding makes the word whole, and the planes have one for the
        // rest.
        packed +=
            unsafe { pack_word::<V>(padded.as_ptr()).write(whole, tail_mask(values.len()), signs, abstain) };
    }
    packed
}

/// Asks memory for the 64 values that lie 16 KiB after these, if they are of 16 bits. On a Zen 4 this takes a
/// quarter of the time off; values of 32 bits, of which a word takes twice as many lines, it makes slower.
#[inline(always)]
fn ask_ahead<T>(values: *const T) {
    if size_of::<T>() == 2 {
        for line in 0..WORD_BITS * size_of::<T>() / LINE_BYTES {
            prefetch(values.cast::<u8>().wrapping_add(16_384 + line * LINE_BYTES));
        }
    }
}

/// # Safety
///
/// The processor has `V`, and there are 64 values.
#[inline(always)]
unsafe fn pack_word<V: Signed>(values: *const V::Value) -> Word {
    let mut word = Word::default();
    let mut lane = 0;
    while lane < WORD_BITS {
        // SAFETY: the caller vouches for `V` and the values; `LANES` divides 64.
        unsafe {
            let v = V::load(values.add(lane));
            let non_finite = v.non_finites();
            word.negative |= v.negatives() << lane;
            word.abstain |= (v.zeros() | non_finite) << lane;
            word.non_finite |= non_finite << lane;
        }
        lane += V::LANES;
    }
    word
}

/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn momentum_pack_body<A: Arch>(
    gradient: &[f32],
    momentum: &mut [f32],
    beta: f32,
    abstain_on: AbstainOn,
    signs: &mut [u64],
    abstain: &mut [u64],
) -> Packed {
    let step = Mean::new(beta);
    let rates = Rates { vote: step, step };
    // SAFETY: passed on.
    unsafe { moving_pack::<A, false>(gradient, momentum, rates, abstain_on, signs, abstain) }
}

/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn lion_pack_body<A: Arch>(
    gradient: &[f32],
    momentum: &mut [f32],
    (beta_1, beta_2): (f32, f32),
    abstain_on: AbstainOn,
    signs: &mut [u64],
    abstain: &mut [u64],
) -> Packed {
    let rates = Rates { vote: Mean::new(beta_1), step: Mean::new(beta_2) };
    // SAFETY: passed on.
    unsafe { moving_pack::<A, true>(gradient, momentum, rates, abstain_on, signs, abstain) }
}

/// A moving mean: old × `kept` + new × `added`.
#[derive(Clone, Copy)]
struct Mean {
    kept: f32,
    added: f32,
}

impl Mean {
    fn new(beta: f32) -> Mean {
        Mean { kept: beta, added: (1.0 - f64::from(beta)) as f32 }
    }

    /// # Safety
    ///
    /// The processor has `V`.
    #[inline(always)]
    unsafe fn of<V: Floats>(self, old: V, new: V) -> V {
        // SAFETY: the caller vouches for `V`.
        unsafe { old.mul(V::splat(self.kept)).add(new.mul(V::splat(self.added))) }
    }
}

/// The mean whose sign is the vote, and the one that the momentum becomes.
#[derive(Clone, Copy)]
struct Rates {
    vote: Mean,
    step: Mean,
}

/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn moving_pack<A: Arch, const LION: bool>(
    gradient: &[f32],
    momentum: &mut [f32],
    rates: Rates,
    abstain_on: AbstainOn,
    signs: &mut [u64],
    abstain: &mut [u64],
) -> Packed {
    check_momentum(gradient, momentum);
    check_planes(gradient.len(), signs, abstain);
    // SAFETY: the caller vouches for `A`; the lengths were checked.
    unsafe {
        match abstain_on {
            AbstainOn::Momentum => moving_planes::<A, LION, false>(gradient, momentum, rates, signs, abstain),
            AbstainOn::Gradient => moving_planes::<A, LION, true>(gradient, momentum, rates, signs, abstain),
        }
    }
}

/// # Safety
///
/// The processor has `A`; the momentum is as long as the gradient, and the planes fit both.
#[inline(always)]
unsafe fn moving_planes<A: Arch, const LION: bool, const ON_GRADIENT: bool>(
    gradient: &[f32],
    momentum: &mut [f32],
    rates: Rates,
    signs: &mut [u64],
    abstain: &mut [u64],
) -> Packed {
    let mut packed = Packed::default();
    let whole = gradient.len() / WORD_BITS;
    each_word!(whole, |at| {
        let first = at * WORD_BITS;
        // SAFETY: the processor has `A`; the word is a whole one, so that its values and its place in the
        // planes exist.
        packed += unsafe {
            let (g, v) = (gradient.as_ptr().add(first), momentum.as_mut_ptr().add(first));
            moving_word::<A, LION, ON_GRADIENT>(g, v, rates).write(at, u64::MAX, signs, abstain)
        };
    });
    let first = whole * WORD_BITS;
    let rest = gradient.len() - first;
    if rest > 0 {
        let (mut g, mut v) = ([0.0; WORD_BITS], [0.0; WORD_BITS]);
        g[..rest].copy_from_slice(&gradient[first..]);
        v[..rest].copy_from_slice(&momentum[first..]);
        // SAFETY: the processor has `A`; the padding makes the word whole, and the planes have one for the
        // rest.
        packed += unsafe {
            moving_word::<A, LION, ON_GRADIENT>(g.as_ptr(), v.as_mut_ptr(), rates).write(
                whole,
                tail_mask(gradient.len()),
                signs,
                abstain,
            )
        };
        momentum[first..].copy_from_slice(&v[..rest]);
    }
    packed
}

/// # Safety
///
/// The processor has `A`, and there are 64 values of each.
#[inline(always)]
unsafe fn moving_word<A: Arch, const LION: bool, const ON_GRADIENT: bool>(
    gradient: *const f32,
    momentum: *mut f32,
    rates: Rates,
) -> Word {
    let mut word = Word::default();
    let mut lane = 0;
    while lane < WORD_BITS {
        // SAFETY: the caller vouches for `A` and the values; `LANES` divides 64.
        unsafe {
            let g = A::Floats::load(gradient.add(lane));
            let old = A::Floats::load(momentum.add(lane));
            let new = rates.step.of(old, g);
            // A gradient that is not finite makes a momentum that is not (0·∞ is NaN), so that one test finds
            // both.
            let mut non_finite = new.non_finites();
            let mut vote = new;
            if LION {
                vote = rates.vote.of(old, g);
                non_finite |= vote.non_finites();
            }
            new.store(momentum.add(lane));
            if non_finite != 0 {
                // Apart and rare: of a plain selection the compiler makes a masked store, with which the AVX2
                // kernel took five times as long on a Zen 4.
                cold_path();
                A::Floats::select(non_finite, old, new).store(momentum.add(lane));
            }
            let zero = if ON_GRADIENT { vote.zeros() | g.zeros() } else { vote.zeros() };
            word.negative |= vote.negatives() << lane;
            word.abstain |= (zero | non_finite) << lane;
            word.non_finite |= non_finite << lane;
        }
        lane += A::Floats::LANES;
    }
    word
}
