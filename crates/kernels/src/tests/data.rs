//! Inputs that look for trouble, from a seed.

use crate::{Isa, coin_word};

/// Every length that a test of all lengths goes through: all numbers of whole vectors, words and lanes, and
/// what may be left over.
pub(crate) const LENGTHS: std::ops::RangeInclusive<usize> = 0..=514;

/// Written before and after every output, to be found unchanged.
const GUARD: u64 = 0xFACE_0FF5_1DE5_ECA7;

pub(crate) fn isas() -> Vec<Isa> {
    Isa::available().collect()
}

/// The values with a class of their own, and the borders of those classes.
pub(crate) const SPECIAL: [f32; 18] = [
    0.0,
    -0.0,
    f32::NAN,
    -f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    f32::from_bits(1),
    f32::from_bits(0x8000_0001),
    f32::from_bits(0x007F_FFFF),
    f32::from_bits(0x807F_FFFF),
    f32::from_bits(0x7F80_0001),
    f32::from_bits(0xFF80_0001),
    1.0,
    -1.0,
];

/// A third special, a third any bits at all, a third small numbers of either sign.
pub(crate) fn values(seed: u64, len: usize) -> Vec<f32> {
    (0..len as u64)
        .map(|i| {
            let random = coin_word(seed, i);
            match random % 3 {
                0 => SPECIAL[(random >> 32) as usize % SPECIAL.len()],
                1 => f32::from_bits((random >> 32) as u32),
                _ => ((random >> 40) as f32 - 8_388_608.0) / 1e7,
            }
        })
        .collect()
}

/// Random words, tail bits and all.
pub(crate) fn plane(seed: u64, words: usize) -> Vec<u64> {
    (0..words as u64).map(|i| coin_word(seed, i)).collect()
}

/// About one bit in 2 to the power `rarity`.
pub(crate) fn sparse_plane(seed: u64, words: usize, rarity: u64) -> Vec<u64> {
    let mut sparse = vec![u64::MAX; words];
    for layer in 0..rarity {
        for (word, more) in sparse.iter_mut().zip(plane(seed.wrapping_mul(31).wrapping_add(layer), words)) {
            *word &= more;
        }
    }
    sparse
}

/// Room for an output of `words`, full of rubbish, at an offset, between guards.
pub(crate) struct Guarded {
    all: Vec<u64>,
    range: std::ops::Range<usize>,
}

impl Guarded {
    pub(crate) fn new(words: usize, offset: usize) -> Guarded {
        Guarded { all: vec![GUARD; offset + words + 9], range: offset..offset + words }
    }

    pub(crate) fn get(&mut self) -> &mut [u64] {
        &mut self.all[self.range.clone()]
    }

    /// What was written, if nothing else was.
    pub(crate) fn finish(self) -> Vec<u64> {
        let (before, after) = (&self.all[..self.range.start], &self.all[self.range.end..]);
        assert!(before.iter().chain(after).all(|word| *word == GUARD), "written outside the output");
        self.all[self.range].to_vec()
    }
}

/// Equal bits, but for NaNs, whose payload is nobody's promise.
pub(crate) fn assert_same(got: &[f32], expected: &[f32], what: &dyn std::fmt::Display) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let same = got.to_bits() == expected.to_bits() || (got.is_nan() && expected.is_nan());
        assert!(same, "{what}, coordinate {i}: expected {expected:e}, got {got:e}");
    }
}
