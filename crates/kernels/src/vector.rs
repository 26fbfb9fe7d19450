//! The vectors that the kernels are written over: floats in lanes ([`Signed`] and [`Floats`]) and planes of bits ([`Bits`]),
//! bundled per instruction set ([`Arch`]).
//!
//! Every method is `#[inline(always)]` and so compiled with the features of the kernel that it is inlined
//! into; a call from code without them would be slow at best and undefined at worst, hence `unsafe`
//! throughout.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;

use crate::adder::CountVectors;
use crate::decide::DecidePass;
use crate::plane::WORD_BITS;

/// The exponent's bits, all set in what is not finite.
const BINARY16_EXPONENT: i16 = 0x7c00;
const BFLOAT16_EXPONENT: i16 = 0x7f80;

/// The vectors of one instruction set, and what is compiled once for it.
pub(crate) trait Arch: CountVectors + DecidePass {
    /// For values that become bits.
    type Floats: Floats;
    /// For bits that become values.
    type Steps: Floats;
    /// For values of half the width that become bits, as bit patterns.
    type Binary16: Signed<Value = u16>;
    /// Likewise.
    type Bfloat16: Signed<Value = u16>;
    /// For planes.
    type Bits: Bits;
}

/// A vector of [`Signed::LANES`] values that have a sign. Lane `i` goes with bit `i` wherever bits stand for
/// lanes.
///
/// # Safety
///
/// Every method may be called only on a processor that has the instruction set; those that take a pointer
/// need [`Signed::LANES`] values there (no alignment).
pub(crate) trait Signed: Copy {
    /// A value as it lies in memory; the default is +0.
    type Value: Copy + Default;
    /// A divisor of 64.
    const LANES: usize;

    unsafe fn load(from: *const Self::Value) -> Self;
    /// Lanes whose sign bit is set (−0 and NaN among them).
    unsafe fn negatives(self) -> u64;
    /// Lanes that are +0 or −0.
    unsafe fn zeros(self) -> u64;
    /// Lanes that are NaN or ±∞.
    unsafe fn non_finites(self) -> u64;
}

/// A vector of `f32`, with arithmetic.
///
/// # Safety
///
/// As for [`Signed`].
pub(crate) trait Floats: Signed<Value = f32> {
    unsafe fn store(self, to: *mut f32);
    /// Stores past the cache, where there is a way: for memory that is not read again soon, whose old contents need not be fetched
    /// then. `to` is aligned to 64 bytes, and [`Floats::fence`] follows the last one.
    unsafe fn stream(self, to: *mut f32) {
        // SAFETY: the caller keeps to more than is asked for here.
        unsafe { self.store(to) }
    }
    /// What was streamed is in memory before anything that comes later.
    unsafe fn fence() {}
    unsafe fn splat(value: f32) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    /// The lanes of `set` where the bit is 1, those of `clear` where it is 0; bits past the lanes are
    /// ignored.
    unsafe fn select(bits: u64, set: Self, clear: Self) -> Self;
}

/// A vector of [`Bits::WORDS`] words of a plane.
///
/// # Safety
///
/// Every method may be called only on a processor that has the instruction set; those that take a pointer
/// need [`Bits::WORDS`] words there (no alignment).
pub(crate) trait Bits: Copy {
    const WORDS: usize;

    unsafe fn load(from: *const u64) -> Self;
    unsafe fn store(self, to: *mut u64);
    unsafe fn splat(word: u64) -> Self;
    unsafe fn and(self, other: Self) -> Self;
    unsafe fn or(self, other: Self) -> Self;
    unsafe fn xor(self, other: Self) -> Self;
    /// `self & !other`.
    unsafe fn without(self, other: Self) -> Self;
    /// The sum bit of a full adder.
    unsafe fn xor3(self, b: Self, c: Self) -> Self;
    /// The carry bit of a full adder.
    unsafe fn majority(self, b: Self, c: Self) -> Self;
    /// `set` where `self` is 1, `clear` where it is 0.
    unsafe fn select(self, set: Self, clear: Self) -> Self;
    /// The sum of the words.
    unsafe fn total(self) -> usize {
        let mut words = [0; MOST_WORDS];
        // SAFETY: the caller vouches for the processor; no vector has more words.
        unsafe { self.store(words.as_mut_ptr()) };
        words[..Self::WORDS].iter().sum::<u64>() as usize
    }
    /// Adds the ones of each word to the sum in the same lane.
    unsafe fn add_ones(self, sums: Self) -> Self {
        let (mut words, mut total) = ([0; MOST_WORDS], [0; MOST_WORDS]);
        // SAFETY: the caller vouches for the processor; no vector has more words.
        unsafe {
            self.store(words.as_mut_ptr());
            sums.store(total.as_mut_ptr());
            for i in 0..Self::WORDS {
                total[i] += u64::from(words[i].count_ones());
            }
            Self::load(total.as_ptr())
        }
    }
    /// Adds `digit` to the sums of the bits of a word that are set, and whose sums lack it.
    unsafe fn add_digit(word: u64, digit: u16, sums: &mut [u16; WORD_BITS]) {
        // By 16 bits, as wide as the sums: a comparison of every lane with its bit, which vector units can. The
        // compiler sees it only if nothing here is a choice.
        for (quarter, sums) in sums.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let bits = (word >> (16 * quarter)) as u16;
            for (i, sum) in sums.iter_mut().enumerate() {
                let lane = 1 << i;
                *sum |= digit & 0u16.wrapping_sub(u16::from(bits & lane == lane));
            }
        }
    }
    /// [`crate::coin_word`] of `word`, `word + 1`, …
    unsafe fn coin(key: u64, word: u64) -> Self;
}

/// The words of the longest vector.
pub(crate) const MOST_WORDS: usize = 16;

/// Two vectors side by side: half as much is done once for each, and one waits less for the other.
#[derive(Clone, Copy)]
pub(crate) struct Pair<V>(V, V);

// SAFETY (every block below): the caller vouches for the processor, and for the memory behind a pointer.
impl<V: Bits> Bits for Pair<V> {
    const WORDS: usize = 2 * V::WORDS;

    #[inline(always)]
    unsafe fn load(from: *const u64) -> Self {
        // SAFETY: as said above the impl.
        unsafe { Pair(V::load(from), V::load(from.add(V::WORDS))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut u64) {
        // SAFETY: as said above the impl.
        unsafe {
            self.0.store(to);
            self.1.store(to.add(V::WORDS));
        }
    }

    #[inline(always)]
    unsafe fn splat(word: u64) -> Self {
        // SAFETY: as said above the impl.
        unsafe { Pair(V::splat(word), V::splat(word)) }
    }

    #[inline(always)]
    unsafe fn and(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { Pair(self.0.and(other.0), self.1.and(other.1)) }
    }

    #[inline(always)]
    unsafe fn or(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { Pair(self.0.or(other.0), self.1.or(other.1)) }
    }

    #[inline(always)]
    unsafe fn xor(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { Pair(self.0.xor(other.0), self.1.xor(other.1)) }
    }

    #[inline(always)]
    unsafe fn without(self, other: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { Pair(self.0.without(other.0), self.1.without(other.1)) }
    }

    #[inline(always)]
    unsafe fn xor3(self, b: Self, c: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { Pair(self.0.xor3(b.0, c.0), self.1.xor3(b.1, c.1)) }
    }

    #[inline(always)]
    unsafe fn majority(self, b: Self, c: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { Pair(self.0.majority(b.0, c.0), self.1.majority(b.1, c.1)) }
    }

    #[inline(always)]
    unsafe fn select(self, set: Self, clear: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { Pair(self.0.select(set.0, clear.0), self.1.select(set.1, clear.1)) }
    }

    #[inline(always)]
    unsafe fn add_ones(self, sums: Self) -> Self {
        // SAFETY: as said above the impl.
        unsafe { Pair(self.0.add_ones(sums.0), self.1.add_ones(sums.1)) }
    }

    #[inline(always)]
    unsafe fn add_digit(word: u64, digit: u16, sums: &mut [u16; WORD_BITS]) {
        // SAFETY: as said above the impl.
        unsafe { V::add_digit(word, digit, sums) };
    }

    #[inline(always)]
    unsafe fn coin(key: u64, word: u64) -> Self {
        // SAFETY: as said above the impl.
        unsafe { Pair(V::coin(key, word), V::coin(key, word.wrapping_add(V::WORDS as u64))) }
    }
}

/// A line of the cache.
pub(crate) const LINE_BYTES: usize = 64;

/// Words of a plane in a line of the cache.
pub(crate) const LINE_WORDS: usize = LINE_BYTES / 8;

/// Asks memory for the lines that a vector from there would lie on.
#[inline(always)]
pub(crate) fn prefetch_vector<V: Bits>(from: *const u64) {
    let mut word = 0;
    while word < V::WORDS {
        prefetch(from.wrapping_add(word));
        word += LINE_WORDS;
    }
}

/// Asks memory for the line of an address, into the second-level cache. It is no read: the address may be that of
/// nothing.
#[inline(always)]
pub(crate) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has it, and it never faults.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
