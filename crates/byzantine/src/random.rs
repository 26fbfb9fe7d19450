//! Random streams that are a function of what they are for.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

/// A stream of random numbers for this purpose: a function of its arguments alone.
pub(crate) fn generator(purpose: &[u8; 20], seed: u64, round: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    // Purposes differ in their first bytes.
    key[..8].copy_from_slice(&purpose[..8]);
    key[8..16].copy_from_slice(&seed.to_le_bytes());
    key[16..24].copy_from_slice(&round.to_le_bytes());
    key[24..].copy_from_slice(&index.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}
