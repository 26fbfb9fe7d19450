//! Plain Rust, in arrays short enough for the compiler to keep them in whatever registers the target has.

use super::{Arch, BFLOAT16_EXPONENT, BINARY16_EXPONENT, Bits, Floats, Signed};
use crate::coin_word;

/// No instruction set in particular.
pub(crate) struct Portable;

impl Arch for Portable {
    type Floats = FloatArray<64>;
    type Steps = FloatArray<32>;
    type Binary16 = HalfArray<64, BINARY16_EXPONENT>;
    type Bfloat16 = HalfArray<64, BFLOAT16_EXPONENT>;
    type Bits = Words4;
}

const SIGN: u32 = 0x8000_0000;
const EXPONENT: u32 = 0x7f80_0000;

/// Floats in a row. Loops over 32 of them are unrolled and become straight vector code, which is best for
/// arithmetic; loops over 64 are not unrolled, and become vector loops, which alone is good at [`gather`].
#[derive(Clone, Copy)]
pub(crate) struct FloatArray<const LANES: usize>([f32; LANES]);

/// Lane by lane, without the closures of `array::map`, which the compiler leaves as calls more often than
/// loops.
macro_rules! lanes {
    ($lane:ident, $init:expr, $value:expr) => {{
        let mut out = $init;
        for $lane in 0..out.len() {
            out[$lane] = $value;
        }
        out
    }};
}

/// Bit `i` is byte `i`, each of which is 0 or 1. Comparisons to bytes are what vector units can do; taking
/// one bit out of each lane is not, but eight bytes become eight bits in one multiplication: it moves byte
/// `i` from bit `8i` to bit `56 + i`, and no two products meet in a bit, so that nothing carries.
#[inline(always)]
fn gather<const LANES: usize>(bytes: [u8; LANES]) -> u64 {
    let mut bits = 0;
    let (eights, _) = bytes.as_chunks::<8>();
    for (i, eight) in eights.iter().enumerate() {
        bits |= (u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
    }
    bits
}

impl<const LANES: usize> Signed for FloatArray<LANES> {
    type Value = f32;
    const LANES: usize = LANES;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for that many values; an array of them needs no more alignment than one.
        Self(unsafe { from.cast::<[f32; LANES]>().read() })
    }

    #[inline(always)]
    unsafe fn negatives(self) -> u64 {
        gather(lanes!(i, [0; LANES], (self.0[i].to_bits() >> 31) as u8))
    }

    #[inline(always)]
    unsafe fn zeros(self) -> u64 {
        gather(lanes!(i, [0; LANES], u8::from(self.0[i].to_bits() & !SIGN == 0)))
    }

    #[inline(always)]
    unsafe fn non_finites(self) -> u64 {
        gather(lanes!(i, [0; LANES], u8::from(self.0[i].to_bits() & EXPONENT == EXPONENT)))
    }
}

impl<const LANES: usize> Floats for FloatArray<LANES> {
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as in `load`.
        unsafe { to.cast::<[f32; LANES]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(lanes!(i, [0.0; LANES], self.0[i] + other.0[i]))
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(lanes!(i, [0.0; LANES], self.0[i] - other.0[i]))
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(lanes!(i, [0.0; LANES], self.0[i] * other.0[i]))
    }

    #[inline(always)]
    unsafe fn select(bits: u64, set: Self, clear: Self) -> Self {
        // By halves, so that bits and lanes are equally wide.
        let halves = [bits as u32, (bits >> 32) as u32];
        Self(lanes!(
            i,
            [0.0; LANES],
            if halves[i / 32] & (1 << (i % 32)) != 0 { set.0[i] } else { clear.0[i] }
        ))
    }
}

/// Values of 16 bits in a row.
#[derive(Clone, Copy)]
pub(crate) struct HalfArray<const LANES: usize, const EXPONENT: i16>([u16; LANES]);

impl<const LANES: usize, const EXPONENT: i16> Signed for HalfArray<LANES, EXPONENT> {
    type Value = u16;
    const LANES: usize = LANES;

    #[inline(always)]
    unsafe fn load(from: *const u16) -> Self {
        // SAFETY: the caller vouches for that many values; an array of them needs no more alignment than one.
        Self(unsafe { from.cast::<[u16; LANES]>().read() })
    }

    #[inline(always)]
    unsafe fn negatives(self) -> u64 {
        gather(lanes!(i, [0; LANES], (self.0[i] >> 15) as u8))
    }

    #[inline(always)]
    unsafe fn zeros(self) -> u64 {
        gather(lanes!(i, [0; LANES], u8::from(self.0[i] << 1 == 0)))
    }

    #[inline(always)]
    unsafe fn non_finites(self) -> u64 {
        let exponent = EXPONENT.cast_unsigned();
        gather(lanes!(i, [0; LANES], u8::from(self.0[i] & exponent == exponent)))
    }
}

const WORDS: usize = 4;

/// Four words: two or more vectors of any target that has them, and still few enough for sixteen general
/// registers.
#[derive(Clone, Copy)]
pub(crate) struct Words4([u64; WORDS]);

impl Bits for Words4 {
    const WORDS: usize = WORDS;

    #[inline(always)]
    unsafe fn load(from: *const u64) -> Self {
        // SAFETY: the caller vouches for that many words; an array of them needs no more alignment than one.
        Self(unsafe { from.cast::<[u64; WORDS]>().read() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u64) {
        // SAFETY: as in `load`.
        unsafe { to.cast::<[u64; WORDS]>().write(self.0) }
    }

    #[inline(always)]
    unsafe fn splat(word: u64) -> Self {
        Self([word; WORDS])
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        Self(lanes!(i, [0; WORDS], self.0[i] & other.0[i]))
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        Self(lanes!(i, [0; WORDS], self.0[i] | other.0[i]))
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        Self(lanes!(i, [0; WORDS], self.0[i] ^ other.0[i]))
    }

    #[inline(always)]
    unsafe fn without(self, other: Self) -> Self {
        Self(lanes!(i, [0; WORDS], self.0[i] & !other.0[i]))
    }

    #[inline(always)]
    unsafe fn xor3(self, b: Self, c: Self) -> Self {
        Self(lanes!(i, [0; WORDS], self.0[i] ^ b.0[i] ^ c.0[i]))
    }

    #[inline(always)]
    unsafe fn majority(self, b: Self, c: Self) -> Self {
        Self(lanes!(i, [0; WORDS], (self.0[i] & b.0[i]) | ((self.0[i] ^ b.0[i]) & c.0[i])))
    }

    #[inline(always)]
    unsafe fn select(self, set: Self, clear: Self) -> Self {
        Self(lanes!(i, [0; WORDS], clear.0[i] ^ (self.0[i] & (set.0[i] ^ clear.0[i]))))
    }

    #[inline(always)]
    unsafe fn coin(key: u64, word: u64) -> Self {
        Self(lanes!(i, [0; WORDS], coin_word(key, word.wrapping_add(i as u64))))
    }
}

/// One word: what is left of a plane after the whole vectors, on every instruction set.
impl Bits for u64 {
    const WORDS: usize = 1;

    #[inline(always)]
    unsafe fn load(from: *const u64) -> Self {
        // SAFETY: the caller vouches for one word.
        unsafe { from.read() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u64) {
        // SAFETY: the caller vouches for one word.
        unsafe { to.write(self) }
    }

    #[inline(always)]
    unsafe fn splat(word: u64) -> Self {
        word
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        self & other
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        self | other
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        self ^ other
    }

    #[inline(always)]
    unsafe fn without(self, other: Self) -> Self {
        self & !other
    }

    #[inline(always)]
    unsafe fn xor3(self, b: Self, c: Self) -> Self {
        self ^ b ^ c
    }

    #[inline(always)]
    unsafe fn majority(self, b: Self, c: Self) -> Self {
        (self & b) | ((self ^ b) & c)
    }

    #[inline(always)]
    unsafe fn select(self, set: Self, clear: Self) -> Self {
        clear ^ (self & (set ^ clear))
    }

    #[inline(always)]
    unsafe fn coin(key: u64, word: u64) -> Self {
        coin_word(key, word)
    }
}
