//! Gradients that need no model, and what a vote over them comes to.

use signvote_election::{Exchange, ExchangeError, Layout, TensorSpec, Values};
use signvote_kernels::{AbstainOn, momentum_pack, words};
use signvote_net::Client;

use crate::Error;

pub(super) const BETA: f32 = 0.9;
pub(super) const ETA: f32 = 0.01;
/// Coordinates in a chunk.
pub(super) const CHUNK: usize = 65_536;
/// Coordinates whose answer is worked out without kernels.
const CHECKED: usize = 10_000;

pub(super) fn layout(dim: usize) -> Result<Layout, Error> {
    let layout = Layout::new(vec![TensorSpec { name: "w".into(), shape: vec![dim] }]);
    Ok(layout.map_err(ExchangeError::from)?)
}

/// x₀.
pub(super) fn first(dim: usize) -> Vec<f32> {
    vec![0.5; dim]
}

/// The gradient of a worker in a coordinate, the same in every round, so that its sign is that of the momentum: in (−1, 1),
/// never 0.
fn gradient(slot: u16, coordinate: usize) -> f32 {
    // SplitMix64's finaliser.
    let mut z = (coordinate as u64 ^ u64::from(slot) << 48).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    // An odd number of 24 bits by 2²⁴, and a sign.
    let size = ((z >> 8 & 0xff_ffff) | 1) as f32 / 16_777_216.0;
    if z & 1 == 0 { size } else { -size }
}

/// A worker's gradient and momentum.
pub(super) struct Voter {
    gradient: Values,
    momentum: Values,
    signs: Vec<u64>,
    abstain: Vec<u64>,
}

impl Voter {
    pub(super) fn new(dim: usize, slot: u16) -> Self {
        let mut all = Values::zeros(dim);
        all.iter_mut().enumerate().for_each(|(coordinate, value)| *value = gradient(slot, coordinate));
        Self {
            gradient: all,
            momentum: Values::zeros(dim),
            signs: vec![0; words(CHUNK)],
            abstain: vec![0; words(CHUNK)],
        }
    }

    /// Packs and casts chunk by chunk: while one travels, the next is packed.
    pub(super) fn vote(&mut self, client: &mut Client) -> Result<(), ExchangeError> {
        let dim = self.gradient.len();
        for start in (0..dim).step_by(CHUNK) {
            let range = start..(start + CHUNK).min(dim);
            let count = words(range.len());
            let (signs, abstain) = (&mut self.signs[..count], &mut self.abstain[..count]);
            let momentum = &mut self.momentum[range.clone()];
            momentum_pack(&self.gradient[range], momentum, BETA, AbstainOn::Momentum, signs, abstain);
            client.submit_signs(start / 64, signs, abstain)?;
        }
        Ok(())
    }
}

/// Compares x after so many rounds, in coordinates from all over it, with a count by hand. Ties, which a coin decides in every
/// round anew, are left to the comparison of replicas.
pub(super) fn check(x: &[f32], dim: usize, workers: u16, rounds: u64) -> Result<(), Error> {
    if x.len() != dim {
        return Err(Error::Answer { what: format!("{} parameters instead of {dim}", x.len()) });
    }
    for coordinate in (0..dim).step_by((dim / CHECKED).max(1)).chain([dim - 1]) {
        let votes = (1..=workers).map(|slot| if gradient(slot, coordinate) < 0.0 { -1 } else { 1 });
        let sum = votes.sum::<i32>();
        if sum == 0 {
            continue;
        }
        let verdict = sum.signum() as f32;
        let expected = (0..rounds).fold(0.5_f32, |x, _| x - ETA * (verdict + 0.0 * x));
        if x[coordinate].to_bits() != expected.to_bits() {
            let what = format!("parameter {coordinate} is {} instead of {expected}", x[coordinate]);
            return Err(Error::Answer { what });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gradient_is_never_zero_and_as_often_negative_as_not() {
        let all: Vec<f32> = (0..100_000).map(|coordinate| gradient(3, coordinate)).collect();
        assert!(all.iter().all(|g| *g != 0.0 && g.abs() < 1.0));
        let negative = all.iter().filter(|g| **g < 0.0).count();
        assert!((49_000..51_000).contains(&negative), "{negative}");
        assert_ne!(gradient(1, 5).to_bits(), gradient(2, 5).to_bits());
    }

    #[test]
    fn a_wrong_answer_is_found() {
        let right = |coordinate| {
            let votes: i32 = (1..=3).map(|slot| if gradient(slot, coordinate) < 0.0 { -1 } else { 1 }).sum();
            0.5 - ETA * votes.signum() as f32
        };
        let mut x: Vec<f32> = (0..100).map(right).collect();
        check(&x, 100, 3, 1).unwrap();
        assert!(check(&x, 101, 3, 1).is_err() && check(&x, 100, 3, 2).is_err());
        x[99] = 0.5;
        assert!(check(&x, 100, 3, 1).unwrap_err().to_string().contains("parameter 99"));
    }
}
