//! AVX-512: sixteen floats, eight words, three-input logic.

use std::arch::x86_64::*;

use super::{Arch, BFLOAT16_EXPONENT, BINARY16_EXPONENT, Bits, Floats, Pair, Signed};
use crate::decide::{FINALISER, GAMMA};
use crate::plane::WORD_BITS;

/// [`crate::Isa::Avx512`].
pub(crate) struct Avx512;

impl Arch for Avx512 {
    type Floats = __m512;
    type Steps = __m512;
    type Binary16 = Halves<BINARY16_EXPONENT>;
    type Bfloat16 = Halves<BFLOAT16_EXPONENT>;
    type Bits = Pair<__m512i>;
}

const MAGNITUDE: i32 = 0x7fff_ffff;
const EXPONENT: i32 = 0x7f80_0000;

// SAFETY (every block below): the caller vouches for AVX-512 F, BW, DQ and VL, and for the memory behind a
// pointer.
impl Signed for __m512 {
    type Value = f32;
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn negatives(self) -> u64 {
        // SAFETY: as said above the impl.
        u64::from(unsafe { _mm512_movepi32_mask(_mm512_castps_si512(self)) })
    }

    #[inline(always)]
    unsafe fn zeros(self) -> u64 {
        // On the bits, not on the values: the processor may be told to take denormals for zero.
        // SAFETY: as said above the impl.
        u64::from(unsafe { _mm512_testn_epi32_mask(_mm512_castps_si512(self), _mm512_set1_epi32(MAGNITUDE)) })
    }

    #[inline(always)]
    unsafe fn non_finites(self) -> u64 {
        // SAFETY: as said above the impl.
        u64::from(unsafe {
            let all_ones = _mm512_set1_epi32(EXPONENT);
            _mm512_cmpeq_epi32_mask(_mm512_and_si512(_mm512_castps_si512(self), all_ones), all_ones)
        })
    }
}

// SAFETY (every block below): as above.
impl Floats for __m512 {
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as said above the impl.
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        // SAFETY: as said above the impl; the caller vouches for the alignment.
        unsafe { _mm512_stream_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: every x86-64 processor has it.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm512_add_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm512_sub_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm512_mul_ps(self, other) }
    }

    #[inline(always)]
    unsafe fn select(bits: u64, set: Self, clear: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm512_mask_blend_ps(bits as __mmask16, clear, set) }
    }
}

/// Half a word of values of 16 bits.
#[derive(Clone, Copy)]
pub(crate) struct Halves<const EXPONENT: i16>(__m512i);

const MAGNITUDE_OF_HALF: i16 = 0x7fff;

// SAFETY (every block below): as above.
impl<const EXPONENT: i16> Signed for Halves<EXPONENT> {
    type Value = u16;
    const LANES: usize = 32;

    #[inline(always)]
    unsafe fn load(from: *const u16) -> Self {
        // SAFETY: as said above the impl.
        Self(unsafe { _mm512_loadu_si512(from.cast()) })
    }

    #[inline(always)]
    unsafe fn negatives(self) -> u64 {
        // SAFETY: as said above the impl.
        u64::from(unsafe { _mm512_movepi16_mask(self.0) })
    }

    #[inline(always)]
    unsafe fn zeros(self) -> u64 {
        // SAFETY: as said above the impl.
        u64::from(unsafe { _mm512_testn_epi16_mask(self.0, _mm512_set1_epi16(MAGNITUDE_OF_HALF)) })
    }

    #[inline(always)]
    unsafe fn non_finites(self) -> u64 {
        // SAFETY: as said above the impl.
        u64::from(unsafe {
            let exponent = _mm512_set1_epi16(EXPONENT);
            _mm512_cmpeq_epi16_mask(_mm512_and_si512(self.0, exponent), exponent)
        })
    }
}

// Truth tables of three-input logic: bit (4a + 2b + c) is the result.
const XOR3: i32 = 0b1001_0110;
const MAJORITY: i32 = 0b1110_1000;
const SELECT: i32 = 0b1100_1010;

/// What each lane of a coin is ahead of the first.
const STEPS: [u64; 8] = {
    let mut steps = [0; 8];
    let mut lane = 1;
    while lane < 8 {
        steps[lane] = GAMMA.wrapping_mul(lane as u64);
        lane += 1;
    }
    steps
};

// SAFETY (every block below): the caller vouches for AVX-512 F, BW, DQ and VL, and for the memory behind a
// pointer.
impl Bits for __m512i {
    const WORDS: usize = 8;

    #[inline(always)]
    unsafe fn load(from: *const u64) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u64) {
        // SAFETY: as said above the impl.
        unsafe { _mm512_storeu_si512(to.cast(), self) }
    }

    #[inline(always)]
    unsafe fn splat(word: u64) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm512_set1_epi64(word as i64) }
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm512_and_si512(self, other) }
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm512_or_si512(self, other) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm512_xor_si512(self, other) }
    }

    #[inline(always)]
    unsafe fn without(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm512_andnot_si512(other, self) }
    }

    #[inline(always)]
    unsafe fn xor3(self, b: Self, c: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm512_ternarylogic_epi64::<XOR3>(self, b, c) }
    }

    #[inline(always)]
    unsafe fn majority(self, b: Self, c: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm512_ternarylogic_epi64::<MAJORITY>(self, b, c) }
    }

    #[inline(always)]
    unsafe fn select(self, set: Self, clear: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm512_ternarylogic_epi64::<SELECT>(self, set, clear) }
    }

    #[inline(always)]
    unsafe fn add_ones(self, sums: Self) -> Self {
        // By halves of bytes, looked up. The processor's own count (VPOPCNTDQ) is not of this set, so that the
        // first generations with AVX-512 are.
        // SAFETY: as said above the impl.
        unsafe {
            let low = _mm512_set1_epi8(15);
            let ones = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
            let lower = _mm512_shuffle_epi8(ones, _mm512_and_si512(self, low));
            let upper = _mm512_shuffle_epi8(ones, _mm512_and_si512(_mm512_srli_epi64::<4>(self), low));
            let bytes = _mm512_add_epi8(lower, upper);
            _mm512_add_epi64(sums, _mm512_sad_epu8(bytes, _mm512_setzero_si512()))
        }
    }

    #[inline(always)]
    unsafe fn add_digit(word: u64, digit: u16, sums: &mut [u16; WORD_BITS]) {
        for (half, sums) in sums.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let bits = (word >> (32 * half)) as u32;
            // SAFETY: as said above the impl; a vector has 32 sums.
            unsafe {
                let old = _mm512_loadu_si512(sums.as_ptr().cast());
                let new = _mm512_mask_add_epi16(old, bits, old, _mm512_set1_epi16(digit.cast_signed()));
                _mm512_storeu_si512(sums.as_mut_ptr().cast(), new);
            }
        }
    }

    #[inline(always)]
    unsafe fn coin(key: u64, word: u64) -> Self {
        // SAFETY: as said above the impl.
        unsafe {
            let first = Self::splat(key.wrapping_add(word.wrapping_mul(GAMMA)));
            let z = _mm512_add_epi64(first, Self::load(STEPS.as_ptr()));
            let z = _mm512_mullo_epi64(z.xor(_mm512_srli_epi64::<30>(z)), Self::splat(FINALISER[0]));
            let z = _mm512_mullo_epi64(z.xor(_mm512_srli_epi64::<27>(z)), Self::splat(FINALISER[1]));
            z.xor(_mm512_srli_epi64::<31>(z))
        }
    }
}
