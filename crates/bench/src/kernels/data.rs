//! Inputs, the same in every run. All of their memory is written, so that the system has given it before a
//! clock runs.

use std::hint::black_box;

use signvote_kernels::{coin_word, words};

/// Random signs and magnitudes, none of them zero.
pub(super) fn values(seed: u64, coordinates: usize) -> Vec<f32> {
    (0..coordinates as u64).map(|i| ((coin_word(seed, i) >> 40) as f32 - 8_388_607.5) * 1e-7).collect()
}

/// Random 16 bits that both formats read as finite, and none of them as zero.
pub(super) fn halves(seed: u64, coordinates: usize) -> Vec<u16> {
    (0..coordinates as u64).map(|i| coin_word(seed, i) as u16 & 0xBFFF | 1).collect()
}

/// A plane of random bits, tail bits among them.
pub(super) fn plane(seed: u64, coordinates: usize) -> Vec<u64> {
    (0..words(coordinates) as u64).map(|i| coin_word(seed, i)).collect()
}

/// A plane for each voter.
pub(super) fn planes(seed: u64, coordinates: usize, voters: usize) -> Vec<Vec<u64>> {
    (0..voters as u64).map(|voter| plane(coin_word(seed, voter), coordinates)).collect()
}

/// A plane without a bit for each voter, each in memory of its own: what is asked for as zeros is one page, as
/// long as nobody writes.
pub(super) fn zero_planes(coordinates: usize, voters: usize) -> Vec<Vec<u64>> {
    let mut planes = vec![vec![1; words(coordinates)]; voters];
    planes.iter_mut().for_each(|plane| plane.fill(black_box(0)));
    planes
}
