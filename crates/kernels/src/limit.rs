//! Loops that read or write memory and do nothing else: what a kernel that moves the same bytes is measured
//! beside. They are here because compiling them for the same instruction set as the kernels takes `unsafe`.
//!
//! Each goes straight through its words, or through parts of them side by side, so that several pages are
//! fetched from at once. From memory that was a quarter faster on a Zen 4, from its caches as much slower.

use crate::plane::{WORD_BITS, words};
use crate::vector::{Arch, LINE_BYTES, Signed};

/// Words in a line of the cache.
const LINE: usize = LINE_BYTES / 8;
/// Parts that are read side by side.
const READ: usize = 16;
/// Parts that are written side by side: each has a variable of its own in `each`.
const WRITTEN: usize = 4;

kernel! {
    /// Reads all words, and returns their OR so that none can be left out.
    pub fn read_with(words: &[u64], side_by_side: bool) -> u64 = read_body;
}

kernel! {
    /// Writes all words.
    pub fn write_with(words: &mut [u64], word: u64, side_by_side: bool) = write_body;
}

kernel! {
    /// Reads and writes all words: XOR with `mask`, which may be 0 as long as the compiler does not know.
    pub fn update_with(words: &mut [u64], mask: u64, side_by_side: bool) = update_body;
}

/// # Safety
///
/// None: `unsafe` is the form that `kernel!` expects. The same holds for the others.
#[inline(always)]
unsafe fn read_body<A: Arch>(words: &[u64], side_by_side: bool) -> u64 {
    let (first, rest) = words.split_at(lead(words));
    let part = if side_by_side { rest.len() / (READ * LINE) * LINE } else { 0 };
    let (parts, rest) = rest.split_at(READ * part);
    let mut bits = first.iter().fold(0, |bits, word| bits | word);
    for i in 0..part {
        for k in 0..READ {
            // SAFETY: `parts` has `READ` times `part` words.
            bits |= unsafe { parts.get_unchecked(k * part + i) };
        }
    }
    rest.iter().fold(bits, |bits, word| bits | word)
}

/// # Safety
///
/// None.
#[inline(always)]
unsafe fn write_body<A: Arch>(words: &mut [u64], word: u64, side_by_side: bool) {
    each(words, side_by_side, |to| *to = word);
}

/// # Safety
///
/// None.
#[inline(always)]
unsafe fn update_body<A: Arch>(words: &mut [u64], mask: u64, side_by_side: bool) {
    each(words, side_by_side, |word| *word ^= mask);
}

kernel! {
    /// Packs the sign bits, whatever the values are: what packing would be without abstentions. Panics if `signs`
    /// does not have a bit for every value.
    pub fn signs_with(values: &[f32], signs: &mut [u64]) = signs_body;
}

/// The words before the first that begins a line of the cache. Vectors of the main loop then straddle none.
fn lead(words: &[u64]) -> usize {
    usize::min(words.as_ptr().align_offset(LINE_BYTES), words.len())
}

#[inline(always)]
fn each(words: &mut [u64], side_by_side: bool, change: impl Fn(&mut u64)) {
    let (first, rest) = words.split_at_mut(lead(words));
    let part = if side_by_side { rest.len() / (WRITTEN * LINE) * LINE } else { 0 };
    let (a, rest) = rest.split_at_mut(part);
    let (b, rest) = rest.split_at_mut(part);
    let (c, rest) = rest.split_at_mut(part);
    let (d, rest) = rest.split_at_mut(part);
    first.iter_mut().for_each(&change);
    for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
        change(a);
        change(b);
        change(c);
        change(d);
    }
    rest.iter_mut().for_each(&change);
}

/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn signs_body<A: Arch>(values: &[f32], signs: &mut [u64]) {
    assert_eq!(signs.len(), words(values.len()), "words of the sign plane");
    let (whole, rest) = values.as_chunks::<WORD_BITS>();
    for (values, word) in whole.iter().zip(&mut *signs) {
        let mut bits = 0;
        let mut lane = 0;
        while lane < WORD_BITS {
            // SAFETY: the caller vouches for `A`; `LANES` divides 64.
            bits |= unsafe { A::Floats::load(values.as_ptr().add(lane)).negatives() } << lane;
            lane += A::Floats::LANES;
        }
        *word = bits;
    }
    if let Some(word) = signs.get_mut(whole.len()) {
        *word = rest.iter().enumerate().fold(0, |bits, (i, v)| bits | u64::from(v.is_sign_negative()) << i);
    }
}
