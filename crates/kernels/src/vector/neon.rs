//! NEON: sixteen times four floats, two words.

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Arch, BFLOAT16_EXPONENT, BINARY16_EXPONENT, Bits, Floats, Pair, Signed};
use crate::decide::{FINALISER, GAMMA};
use crate::plane::WORD_BITS;

/// [`crate::Isa::Neon`].
pub(crate) struct Neon;

impl Arch for Neon {
    type Floats = Floats64;
    type Steps = Floats64;
    type Binary16 = Halves64<BINARY16_EXPONENT>;
    type Bfloat16 = Halves64<BFLOAT16_EXPONENT>;
    type Bits = Pair<uint64x2_t>;
}

/// A word of floats. Sixteen vectors together, because their lanes are narrowed to bytes, and those to bits,
/// before they leave the vector unit. With eight, `pack` took a fifth more instructions and `momentum_pack` a
/// twentieth; `lion_pack` a tenth fewer.
#[derive(Clone, Copy)]
pub(crate) struct Floats64([float32x4_t; 16]);

/// An array of vectors, number `$i` from an expression: a loop, which is unrolled; `array::map` was left a
/// call.
macro_rules! each {
    ($i:ident, $start:expr, $vector:expr) => {{
        let mut out = [$start; _];
        for $i in 0..out.len() {
            out[$i] = $vector;
        }
        out
    }};
}

/// The bit of each of 64 bytes that are all ones or all zeros. No instruction takes one bit out of each lane,
/// but there is one that adds neighbours, and bits of different places add up to their union.
///
/// # Safety
///
/// NEON.
#[inline(always)]
unsafe fn gather(bytes: [uint8x16_t; 4]) -> u64 {
    const PLACES: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: the caller vouches for NEON; there are sixteen places.
    unsafe {
        let places = vld1q_u8(PLACES.as_ptr());
        let bits: [_; 4] = each!(i, places, vandq_u8(bytes[i], places));
        let fours = vpaddq_u8(vpaddq_u8(bits[0], bits[1]), vpaddq_u8(bits[2], bits[3]));
        vgetq_lane_u64::<0>(vreinterpretq_u64_u8(vpaddq_u8(fours, fours)))
    }
}

/// The bit of each of 64 lanes of 16 bits that are all ones or all zeros.
///
/// # Safety
///
/// NEON.
#[inline(always)]
unsafe fn gather_halves(lanes: [uint16x8_t; 8]) -> u64 {
    // SAFETY: the caller vouches for NEON.
    unsafe {
        gather(each!(i, vdupq_n_u8(0), {
            vuzp1q_u8(vreinterpretq_u8_u16(lanes[2 * i]), vreinterpretq_u8_u16(lanes[2 * i + 1]))
        }))
    }
}

impl Floats64 {
    /// The lower 16 bits of each lane.
    ///
    /// # Safety
    ///
    /// NEON.
    #[inline(always)]
    unsafe fn lower(self) -> [uint16x8_t; 8] {
        // SAFETY: the caller vouches for NEON.
        unsafe {
            each!(i, vdupq_n_u16(0), {
                vuzp1q_u16(vreinterpretq_u16_f32(self.0[2 * i]), vreinterpretq_u16_f32(self.0[2 * i + 1]))
            })
        }
    }

    /// The upper 16 bits of each lane, with its sign and its exponent: a bfloat16.
    ///
    /// # Safety
    ///
    /// NEON.
    #[inline(always)]
    unsafe fn upper(self) -> Halves64<BFLOAT16_EXPONENT> {
        // SAFETY: the caller vouches for NEON.
        Halves64(unsafe {
            each!(i, vdupq_n_u16(0), {
                vuzp2q_u16(vreinterpretq_u16_f32(self.0[2 * i]), vreinterpretq_u16_f32(self.0[2 * i + 1]))
            })
        })
    }
}

// SAFETY (every block below): the caller vouches for NEON, and for the memory behind a pointer.
impl Signed for Floats64 {
    type Value = f32;
    const LANES: usize = 64;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as said above the impl.
        Self(unsafe { each!(i, vdupq_n_f32(0.0), vld1q_f32(from.add(4 * i))) })
    }

    #[inline(always)]
    unsafe fn negatives(self) -> u64 {
        // SAFETY: as said above the impl.
        unsafe { self.upper().negatives() }
    }

    #[inline(always)]
    unsafe fn zeros(self) -> u64 {
        // On the bits, not on the values: the processor may be told to take denormals for zero. By halves,
        // because the compiler makes a comparison of values out of one of all bits.
        // SAFETY: as said above the impl. Doubling drops the sign.
        unsafe {
            let (lower, Halves64(upper)) = (self.lower(), self.upper());
            gather_halves(each!(i, lower[0], {
                vceqzq_u16(vorrq_u16(lower[i], vaddq_u16(upper[i], upper[i])))
            }))
        }
    }

    #[inline(always)]
    unsafe fn non_finites(self) -> u64 {
        // SAFETY: as said above the impl.
        unsafe { self.upper().non_finites() }
    }
}

/// The bit of each lane, for eight vectors that share 32 bits.
const LANE_BITS: [u32; 32] = {
    let mut bits = [0; 32];
    let mut lane = 0;
    while lane < 32 {
        bits[lane] = 1 << lane;
        lane += 1;
    }
    bits
};

// SAFETY (every block below): as above.
impl Floats for Floats64 {
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        for (i, vector) in self.0.into_iter().enumerate() {
            // SAFETY: as said above the impl.
            unsafe { vst1q_f32(to.add(4 * i), vector) }
        }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as said above the impl.
        Self([unsafe { vdupq_n_f32(value) }; _])
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        Self(unsafe { each!(i, self.0[0], vaddq_f32(self.0[i], other.0[i])) })
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        Self(unsafe { each!(i, self.0[0], vsubq_f32(self.0[i], other.0[i])) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        Self(unsafe { each!(i, self.0[0], vmulq_f32(self.0[i], other.0[i])) })
    }

    #[inline(always)]
    unsafe fn select(bits: u64, set: Self, clear: Self) -> Self {
        // SAFETY: as said above the impl; `LANE_BITS` has four times eight.
        Self(unsafe {
            let halves = [vdupq_n_u32(bits as u32), vdupq_n_u32((bits >> 32) as u32)];
            each!(i, clear.0[0], {
                let lanes = vld1q_u32(LANE_BITS.as_ptr().add(4 * (i % 8)));
                vbslq_f32(vtstq_u32(halves[i / 8], lanes), set.0[i], clear.0[i])
            })
        })
    }
}

/// A word of values of 16 bits: eight vectors together, for the same reason.
#[derive(Clone, Copy)]
pub(crate) struct Halves64<const EXPONENT: i16>([uint16x8_t; 8]);

const MAGNITUDE_OF_HALF: u16 = 0x7fff;

// SAFETY (every block below): the caller vouches for NEON, and for the memory behind a pointer.
impl<const EXPONENT: i16> Signed for Halves64<EXPONENT> {
    type Value = u16;
    const LANES: usize = 64;

    #[inline(always)]
    unsafe fn load(from: *const u16) -> Self {
        // SAFETY: as said above the impl.
        Self(unsafe { each!(i, vdupq_n_u16(0), vld1q_u16(from.add(8 * i))) })
    }

    #[inline(always)]
    unsafe fn negatives(self) -> u64 {
        // SAFETY: as said above the impl.
        unsafe {
            gather(each!(i, vdupq_n_u8(0), {
                let [low, high] = [self.0[2 * i], self.0[2 * i + 1]];
                let upper = vuzp2q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high));
                vcltzq_s8(vreinterpretq_s8_u8(upper))
            }))
        }
    }

    #[inline(always)]
    unsafe fn zeros(self) -> u64 {
        // SAFETY: as said above the impl.
        unsafe {
            let magnitude = vdupq_n_u16(MAGNITUDE_OF_HALF);
            !gather_halves(each!(i, magnitude, vtstq_u16(self.0[i], magnitude)))
        }
    }

    #[inline(always)]
    unsafe fn non_finites(self) -> u64 {
        // SAFETY: as said above the impl.
        unsafe {
            let exponent = vdupq_n_u16(EXPONENT.cast_unsigned());
            gather_halves(each!(i, exponent, vceqq_u16(vandq_u16(self.0[i], exponent), exponent)))
        }
    }
}

/// What the second lane of a coin is ahead of the first.
const STEPS: [u64; 2] = [0, GAMMA];

/// The low 64 bits of the product of each lane and `factor`; NEON multiplies only 32 by 32 bits.
///
/// # Safety
///
/// NEON.
#[inline(always)]
unsafe fn multiply(lanes: uint64x2_t, factor: u64) -> uint64x2_t {
    // SAFETY: the caller vouches for NEON.
    unsafe {
        let crossed = vreinterpretq_u32_u64(vdupq_n_u64(factor.rotate_left(32)));
        let middle = vpaddlq_u32(vmulq_u32(vreinterpretq_u32_u64(lanes), crossed));
        vmlal_u32(vshlq_n_u64::<32>(middle), vmovn_u64(lanes), vdup_n_u32(factor as u32))
    }
}

// SAFETY (every block below): the caller vouches for NEON, and for the memory behind a pointer.
impl Bits for uint64x2_t {
    const WORDS: usize = 2;

    #[inline(always)]
    unsafe fn load(from: *const u64) -> Self {
        // SAFETY: as said above the impl.
        unsafe { vld1q_u64(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u64) {
        // SAFETY: as said above the impl.
        unsafe { vst1q_u64(to, self) }
    }

    #[inline(always)]
    unsafe fn splat(word: u64) -> Self {
        // SAFETY: as said above the impl.
        unsafe { vdupq_n_u64(word) }
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { vandq_u64(self, other) }
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { vorrq_u64(self, other) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { veorq_u64(self, other) }
    }

    #[inline(always)]
    unsafe fn without(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { vbicq_u64(self, other) }
    }

    #[inline(always)]
    unsafe fn xor3(self, b: Self, c: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { self.xor(b).xor(c) }
    }

    #[inline(always)]
    unsafe fn majority(self, b: Self, c: Self) -> Self {
        // Where two differ the third decides: with the exclusive or that the sum bit shares, a full adder of
        // three instructions. Of the intrinsic for `bsl` the compiler makes and, and, or: five.
        // SAFETY: as said above the impl; registers are all that is touched.
        unsafe {
            let mut differ = self.xor(b);
            asm!(
                "bsl {differ:v}.16b, {c:v}.16b, {a:v}.16b",
                differ = inout(vreg) differ,
                c = in(vreg) c,
                a = in(vreg) self,
                options(pure, nomem, nostack, preserves_flags),
            );
            differ
        }
    }

    #[inline(always)]
    unsafe fn select(self, set: Self, clear: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { vbslq_u64(self, set, clear) }
    }

    #[inline(always)]
    unsafe fn add_ones(self, sums: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe {
            let halves = vpaddlq_u8(vcntq_u8(vreinterpretq_u8_u64(self)));
            vpadalq_u32(sums, vpaddlq_u16(halves))
        }
    }

    #[inline(always)]
    unsafe fn add_digit(word: u64, digit: u16, sums: &mut [u16; WORD_BITS]) {
        const LANES: [u16; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
        for (eighth, sums) in sums.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            // SAFETY: as said above the impl; a vector has 8 sums.
            unsafe {
                let bits = vdupq_n_u16((word >> (8 * eighth)) as u16);
                let new = vandq_u16(vtstq_u16(bits, vld1q_u16(LANES.as_ptr())), vdupq_n_u16(digit));
                vst1q_u16(sums.as_mut_ptr(), vorrq_u16(vld1q_u16(sums.as_ptr()), new));
            }
        }
    }

    #[inline(always)]
    unsafe fn coin(key: u64, word: u64) -> Self {
        // SAFETY: as said above the impl; there are two steps.
        unsafe {
            let first = Self::splat(key.wrapping_add(word.wrapping_mul(GAMMA)));
            let z = vaddq_u64(first, Self::load(STEPS.as_ptr()));
            let z = multiply(z.xor(vshrq_n_u64::<30>(z)), FINALISER[0]);
            let z = multiply(z.xor(vshrq_n_u64::<27>(z)), FINALISER[1]);
            z.xor(vshrq_n_u64::<31>(z))
        }
    }
}
