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
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use portable::Portable;

use crate::adder::AddGroup;
use crate::decide::DecideTile;

/// The exponent's bits, all set in what is not finite.
const BINARY16_EXPONENT: i16 = 0x7c00;
const BFLOAT16_EXPONENT: i16 = 0x7f80;

/// The vectors of one instruction set, and what is compiled once for it.
pub(crate) trait Arch: AddGroup + DecideTile {
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
    unsafe fn count_ones(self) -> usize;
    /// [`crate::coin_word`] of `word`, `word + 1`, …
    unsafe fn coin(key: u64, word: u64) -> Self;
}
