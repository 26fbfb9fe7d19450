//! AVX2: four times eight floats, four words.

use std::arch::x86_64::*;

use super::{Arch, BFLOAT16_EXPONENT, BINARY16_EXPONENT, Bits, Floats, Signed};
use crate::decide::{FINALISER, GAMMA};
use crate::plane::WORD_BITS;

/// [`crate::Isa::Avx2`].
pub(crate) struct Avx2;

impl Arch for Avx2 {
    type Floats = Floats32;
    type Steps = Floats32;
    type Binary16 = Halves32<BINARY16_EXPONENT>;
    type Bfloat16 = Halves32<BFLOAT16_EXPONENT>;
    type Bits = __m256i;
}

const MAGNITUDE: i32 = 0x7fff_ffff;
const EXPONENT: i32 = 0x7f80_0000;

/// Half a word of floats. Four vectors together, because the signs of their lanes are packed into bytes
/// before they leave the vector unit: half as many instructions as taking the eight bits of each.
#[derive(Clone, Copy)]
pub(crate) struct Floats32([__m256; 4]);

/// Four vectors from an expression for number `$i`: a closure would not be compiled for AVX2.
macro_rules! each {
    ($i:ident, $vector:expr) => {
        [
            {
                let $i = 0;
                $vector
            },
            {
                let $i = 1;
                $vector
            },
            {
                let $i = 2;
                $vector
            },
            {
                let $i = 3;
                $vector
            },
        ]
    };
}

/// The sign bit of each lane.
///
/// # Safety
///
/// AVX2.
#[inline(always)]
unsafe fn sign_bits(lanes: [__m256i; 4]) -> u64 {
    // SAFETY: the caller vouches for AVX2.
    unsafe {
        // Packing saturates, and so keeps signs; it works within the halves of a vector, so that four lanes
        // of each source lie together, in the order that the permutation undoes.
        let low = _mm256_packs_epi32(lanes[0], lanes[1]);
        let high = _mm256_packs_epi32(lanes[2], lanes[3]);
        let bytes = _mm256_packs_epi16(low, high);
        let ordered = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        u64::from(_mm256_movemask_epi8(ordered).cast_unsigned())
    }
}

// SAFETY (every block below): the caller vouches for AVX2, and for the memory behind a pointer.
impl Signed for Floats32 {
    type Value = f32;
    const LANES: usize = 32;

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: as said above the impl.
        Self(unsafe { each!(i, _mm256_loadu_ps(from.add(8 * i))) })
    }

    #[inline(always)]
    unsafe fn negatives(self) -> u64 {
        // SAFETY: as said above the impl.
        unsafe { sign_bits(each!(i, _mm256_castps_si256(self.0[i]))) }
    }

    #[inline(always)]
    unsafe fn zeros(self) -> u64 {
        // On the bits, not on the values: the processor may be told to take denormals for zero.
        // SAFETY: as said above the impl.
        unsafe {
            let magnitude = _mm256_set1_epi32(MAGNITUDE);
            let zero = _mm256_setzero_si256();
            sign_bits(each!(
                i,
                _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_castps_si256(self.0[i]), magnitude), zero)
            ))
        }
    }

    #[inline(always)]
    unsafe fn non_finites(self) -> u64 {
        // SAFETY: as said above the impl.
        unsafe {
            let exponent = _mm256_set1_epi32(EXPONENT);
            sign_bits(each!(
                i,
                _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_castps_si256(self.0[i]), exponent), exponent)
            ))
        }
    }
}

// SAFETY (every block below): as above.
impl Floats for Floats32 {
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        for (i, vector) in self.0.into_iter().enumerate() {
            // SAFETY: as said above the impl.
            unsafe { _mm256_storeu_ps(to.add(8 * i), vector) }
        }
    }

    #[inline(always)]
    unsafe fn stream(self, to: *mut f32) {
        for (i, vector) in self.0.into_iter().enumerate() {
            // SAFETY: as said above the impl; the caller vouches for the alignment.
            unsafe { _mm256_stream_ps(to.add(8 * i), vector) }
        }
    }

    #[inline(always)]
    unsafe fn fence() {
        // SAFETY: every x86-64 processor has it.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: as said above the impl.
        Self([unsafe { _mm256_set1_ps(value) }; 4])
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        Self(unsafe { each!(i, _mm256_add_ps(self.0[i], other.0[i])) })
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        Self(unsafe { each!(i, _mm256_sub_ps(self.0[i], other.0[i])) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        Self(unsafe { each!(i, _mm256_mul_ps(self.0[i], other.0[i])) })
    }

    #[inline(always)]
    unsafe fn select(bits: u64, set: Self, clear: Self) -> Self {
        // SAFETY: as said above the impl.
        Self(unsafe {
            let lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
            each!(i, {
                let taken = _mm256_and_si256(_mm256_set1_epi32((bits >> (8 * i)) as i32), lane);
                _mm256_blendv_ps(clear.0[i], set.0[i], _mm256_castsi256_ps(_mm256_cmpeq_epi32(taken, lane)))
            })
        })
    }
}

/// Half a word of values of 16 bits: two vectors together, for the same reason.
#[derive(Clone, Copy)]
pub(crate) struct Halves32<const EXPONENT: i16>([__m256i; 2]);

/// The sign bit of each lane of 16 bits.
///
/// # Safety
///
/// AVX2.
#[inline(always)]
unsafe fn sign_bits_of_halves(lanes: [__m256i; 2]) -> u64 {
    // SAFETY: the caller vouches for AVX2.
    unsafe {
        let bytes = _mm256_packs_epi16(lanes[0], lanes[1]);
        let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes);
        u64::from(_mm256_movemask_epi8(ordered).cast_unsigned())
    }
}

// SAFETY (every block below): the caller vouches for AVX2, and for the memory behind a pointer.
impl<const EXPONENT: i16> Signed for Halves32<EXPONENT> {
    type Value = u16;
    const LANES: usize = 32;

    #[inline(always)]
    unsafe fn load(from: *const u16) -> Self {
        // SAFETY: as said above the impl.
        Self(unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(16).cast())] })
    }

    #[inline(always)]
    unsafe fn negatives(self) -> u64 {
        // SAFETY: as said above the impl.
        unsafe { sign_bits_of_halves(self.0) }
    }

    #[inline(always)]
    unsafe fn zeros(self) -> u64 {
        // SAFETY: as said above the impl. Doubling drops the sign.
        unsafe {
            let zero = _mm256_setzero_si256();
            let [low, high] = self.0;
            sign_bits_of_halves([
                _mm256_cmpeq_epi16(_mm256_add_epi16(low, low), zero),
                _mm256_cmpeq_epi16(_mm256_add_epi16(high, high), zero),
            ])
        }
    }

    #[inline(always)]
    unsafe fn non_finites(self) -> u64 {
        // SAFETY: as said above the impl.
        unsafe {
            let exponent = _mm256_set1_epi16(EXPONENT);
            let [low, high] = self.0;
            sign_bits_of_halves([
                _mm256_cmpeq_epi16(_mm256_and_si256(low, exponent), exponent),
                _mm256_cmpeq_epi16(_mm256_and_si256(high, exponent), exponent),
            ])
        }
    }
}

/// The low 64 bits of each product; AVX2 multiplies only 32 by 32 bits.
///
/// # Safety
///
/// AVX2.
#[inline(always)]
unsafe fn multiply(a: __m256i, b: __m256i) -> __m256i {
    // SAFETY: the caller vouches for AVX2.
    unsafe {
        let low_high = _mm256_mul_epu32(a, _mm256_srli_epi64::<32>(b));
        let high_low = _mm256_mul_epu32(_mm256_srli_epi64::<32>(a), b);
        let middle = _mm256_slli_epi64::<32>(_mm256_add_epi64(low_high, high_low));
        _mm256_add_epi64(_mm256_mul_epu32(a, b), middle)
    }
}

/// What each lane of a coin is ahead of the first.
const STEPS: [u64; 4] = [0, GAMMA, GAMMA.wrapping_mul(2), GAMMA.wrapping_mul(3)];

// SAFETY (every block below): the caller vouches for AVX2, and for the memory behind a pointer.
impl Bits for __m256i {
    const WORDS: usize = 4;

    #[inline(always)]
    unsafe fn load(from: *const u64) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u64) {
        // SAFETY: as said above the impl.
        unsafe { _mm256_storeu_si256(to.cast(), self) }
    }

    #[inline(always)]
    unsafe fn splat(word: u64) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm256_set1_epi64x(word as i64) }
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm256_and_si256(self, other) }
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm256_or_si256(self, other) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm256_xor_si256(self, other) }
    }

    #[inline(always)]
    unsafe fn without(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { _mm256_andnot_si256(other, self) }
    }

    #[inline(always)]
    unsafe fn xor3(self, b: Self, c: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { self.xor(b).xor(c) }
    }

    #[inline(always)]
    unsafe fn majority(self, b: Self, c: Self) -> Self {
        // SAFETY: as said above the impl. The exclusive or is the one of `xor3`, computed once for both.
        unsafe { self.and(b).or(self.xor(b).and(c)) }
    }

    #[inline(always)]
    unsafe fn select(self, set: Self, clear: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { self.and(set).or(clear.without(self)) }
    }

    #[inline(always)]
    unsafe fn add_ones(self, sums: Self) -> Self {
        // By halves of bytes, looked up.
        // SAFETY: as said above the impl.
        unsafe {
            let low = _mm256_set1_epi8(15);
            let ones =
                _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
            let lower = _mm256_shuffle_epi8(ones, _mm256_and_si256(self, low));
            let upper = _mm256_shuffle_epi8(ones, _mm256_and_si256(_mm256_srli_epi64::<4>(self), low));
            let bytes = _mm256_add_epi8(lower, upper);
            _mm256_add_epi64(sums, _mm256_sad_epu8(bytes, _mm256_setzero_si256()))
        }
    }

    #[inline(always)]
    unsafe fn add_digit(word: u64, digit: u16, sums: &mut [u16; WORD_BITS]) {
        for (quarter, sums) in sums.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let bits = (word >> (16 * quarter)) as i16;
            // SAFETY: as said above the impl; a vector has 16 sums.
            unsafe {
                let lanes = _mm256_setr_epi16(
                    1,
                    2,
                    4,
                    8,
                    16,
                    32,
                    64,
                    128,
                    256,
                    512,
                    1024,
                    2048,
                    4096,
                    8192,
                    16_384,
                    i16::MIN,
                );
                let set = _mm256_cmpeq_epi16(_mm256_and_si256(_mm256_set1_epi16(bits), lanes), lanes);
                let new = _mm256_and_si256(set, _mm256_set1_epi16(digit.cast_signed()));
                let old = _mm256_loadu_si256(sums.as_ptr().cast());
                _mm256_storeu_si256(sums.as_mut_ptr().cast(), _mm256_or_si256(old, new));
            }
        }
    }

    #[inline(always)]
    unsafe fn coin(key: u64, word: u64) -> Self {
        // SAFETY: as said above the impl.
        unsafe {
            let first = Self::splat(key.wrapping_add(word.wrapping_mul(GAMMA)));
            let z = _mm256_add_epi64(first, Self::load(STEPS.as_ptr()));
            let z = multiply(z.xor(_mm256_srli_epi64::<30>(z)), Self::splat(FINALISER[0]));
            let z = multiply(z.xor(_mm256_srli_epi64::<27>(z)), Self::splat(FINALISER[1]));
            z.xor(_mm256_srli_epi64::<31>(z))
        }
    }
}
