//! One hash for the whole history of a run.

use std::fmt;

use crate::digest::update_with_floats;
use crate::{Incarnation, Round, RunId, SlotSet, hexadecimal};

/// Chain hash of the commits so far: two peers that hold the same one have seen the same verdicts, voters,
/// η and λ in every round.
///
/// With `H[label]` for BLAKE3 in key-derivation mode:
/// h₀ = `H[chain start]`(run id ‖ layout digest ‖ digest of x₀);
/// h_{r+1} = `H[chain link]`(h_r ‖ r ‖ incarnation ‖ η ‖ λ ‖ number of voter words ‖ voter words ‖ body), where the body
/// is the hash of every chunk's verdict, in the order of the chunks. All numbers little-endian.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct ChainHash(pub [u8; 32]);

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainHash({self})")
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hexadecimal(&self.0[..8]))
    }
}

/// What a commit adds to the chain, beside the verdict itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Link<'a> {
    pub(crate) round: Round,
    pub(crate) incarnation: Incarnation,
    pub(crate) eta: f32,
    pub(crate) lambda: f32,
    pub(crate) voters: &'a SlotSet,
}

impl ChainHash {
    pub(crate) fn start(run: RunId, layout: &[u8; 32], x0: &crate::Digest) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("signvote 2026-11 chain start");
        hasher.update(&run.0).update(layout).update(&x0.0);
        Self(*hasher.finalize().as_bytes())
    }

    pub(crate) fn next(self, link: &Link<'_>, chunk_hashes: &[[u8; 32]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("signvote 2026-11 chain link");
        hasher.update(&self.0).update(&link.round.0.to_le_bytes()).update(&link.incarnation.0.to_le_bytes());
        hasher.update(&link.eta.to_le_bytes()).update(&link.lambda.to_le_bytes());
        let voters = link.voters.as_words();
        hasher.update(&(voters.len() as u64).to_le_bytes());
        voters.iter().for_each(|word| {
            hasher.update(&word.to_le_bytes());
        });
        chunk_hashes.iter().for_each(|hash| {
            hasher.update(hash);
        });
        Self(*hasher.finalize().as_bytes())
    }
}

/// Hash of one chunk's verdict: the canonical planes, not their encoding. `hold` is there if anything holds.
pub(crate) fn verdict_hash(signs: &[u64], hold: Option<&[u64]>) -> [u8; 32] {
    planes_hash("signvote 2026-11 chunk verdict", signs, hold)
}

/// Hash of two planes under a context: the words of those that there are, and a flag that says whether there is a second one.
///
/// The flag comes last: in front, it would shift the words off the boundaries at which BLAKE3 hashes many kibibytes side by side.
pub(crate) fn planes_hash(context: &'static str, signs: &[u64], second: Option<&[u64]>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    update_with_words(&mut hasher, signs);
    if let Some(second) = second {
        update_with_words(&mut hasher, second);
    }
    hasher.update(&[u8::from(second.is_some())]);
    *hasher.finalize().as_bytes()
}

/// Feeds words as little-endian bytes: all at once where that is how they lie in memory, because BLAKE3 hashes up to 16 KiB side
/// by side.
pub(crate) fn update_with_words(hasher: &mut blake3::Hasher, words: &[u64]) {
    if cfg!(target_endian = "little") {
        hasher.update(bytemuck::cast_slice(words));
        return;
    }
    let mut buffer = [0_u8; 4096];
    for words in words.chunks(buffer.len() / 8) {
        for (bytes, word) in buffer.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        hasher.update(&buffer[..words.len() * 8]);
    }
}

/// Hash of one chunk's dense update.
pub(crate) fn update_hash(update: &[f32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("signvote 2026-11 chunk update");
    update_with_floats(&mut hasher, update);
    *hasher.finalize().as_bytes()
}

/// First 8 bytes, little-endian, of BLAKE3(seed ‖ round): the key k_r of a round's coins.
pub(crate) fn coin_key(seed: u64, round: Round) -> u64 {
    let mut bytes = [0_u8; 16];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..].copy_from_slice(&round.0.to_le_bytes());
    let hash = blake3::hash(&bytes);
    let mut key = [0_u8; 8];
    key.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_tells_every_part_of_a_commit_apart() {
        let voters: SlotSet = [1, 2, 3].into_iter().filter_map(crate::Slot::new).collect();
        let fewer: SlotSet = [1, 2].into_iter().filter_map(crate::Slot::new).collect();
        let link =
            Link { round: Round(4), incarnation: Incarnation(0), eta: 0.1, lambda: 0.0, voters: &voters };
        let chunks = [verdict_hash(&[1], None), verdict_hash(&[2], None)];
        let base = ChainHash::default().next(&link, &chunks);
        assert_eq!(base, ChainHash::default().next(&link, &chunks));
        for other in [
            Link { round: Round(5), ..link.clone() },
            Link { incarnation: Incarnation(1), ..link.clone() },
            Link { eta: 0.2, ..link.clone() },
            Link { lambda: 0.1, ..link.clone() },
            Link { voters: &fewer, ..link.clone() },
        ] {
            assert_ne!(base, ChainHash::default().next(&other, &chunks));
        }
        assert_ne!(base, ChainHash::default().next(&link, &[chunks[1], chunks[0]]));
        assert_ne!(base, ChainHash([1; 32]).next(&link, &chunks));
        assert_ne!(verdict_hash(&[1, 2], None), verdict_hash(&[1], Some(&[2])));
    }

    #[test]
    fn the_coin_key_is_the_start_of_blake3_of_seed_and_round() {
        let hash = blake3::hash(&[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(coin_key(1, Round(2)).to_le_bytes(), hash.as_bytes()[..8]);
        assert_ne!(coin_key(1, Round(2)), coin_key(2, Round(1)));
    }
}
