//! Digests of a replica: a binary tree over fixed leaves, so that a slice can be verified on its own.
//!
//! leaf i = BLAKE3("leaf" ‖ i ‖ the f32 of coordinates 65,536·i…, little-endian);
//! node = BLAKE3("node" ‖ left ‖ right); a node without a right sibling goes up unchanged;
//! root = BLAKE3("root" ‖ d ‖ top). Index and d are u64, little-endian. The three labels are key-derivation
//! contexts of BLAKE3, so that no leaf can be taken for a node.

use std::fmt;

use crate::hexadecimal;

/// Coordinates in one leaf of a [`DigestTree`].
pub const LEAF_COORDINATES: usize = 65_536;

/// The root of a [`DigestTree`]: two replicas with the same digest are bit-identical.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    /// The first 8 bytes in hexadecimal: enough to tell two replicas apart in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hexadecimal(&self.0[..8]))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// The siblings from one leaf up to the top, that lead to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    siblings: Vec<Option<[u8; 32]>>,
}

/// The tree of digests over a replica.
#[derive(Clone, Debug)]
pub struct DigestTree {
    dimension: usize,
    /// Leaves first, the single top last.
    levels: Vec<Vec<[u8; 32]>>,
}

impl DigestTree {
    /// The tree over the parameters `x`, bit patterns as they are (0 and −0 differ).
    pub fn new(x: &[f32]) -> Self {
        let mut level: Vec<_> =
            x.chunks(LEAF_COORDINATES).enumerate().map(|(index, values)| leaf(index, values)).collect();
        if level.is_empty() {
            level.push(leaf(0, &[]));
        }
        let mut levels = vec![level];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            levels.push(below.chunks(2).map(|pair| parent(pair[0], pair.get(1).copied())).collect());
        }
        Self { dimension: x.len(), levels }
    }

    /// The root.
    pub fn root(&self) -> Digest {
        let top = self.levels.last().map_or([0; 32], |level| level[0]);
        root(self.dimension, top)
    }

    /// The proof that leaf `index` belongs to this root; `None` if there is no such leaf.
    pub fn proof(&self, index: usize) -> Option<Proof> {
        self.levels[0].get(index)?;
        let below_top = &self.levels[..self.levels.len() - 1];
        let siblings =
            below_top.iter().enumerate().map(|(height, level)| level.get((index >> height) ^ 1).copied());
        Some(Proof { siblings: siblings.collect() })
    }
}

/// Whether `values` are the coordinates of leaf `index` in a replica of `dimension` coordinates with this root.
pub fn verify_leaf(digest: Digest, dimension: usize, index: usize, values: &[f32], proof: &Proof) -> bool {
    let start = index.saturating_mul(LEAF_COORDINATES);
    if values.len() != dimension.saturating_sub(start).min(LEAF_COORDINATES) {
        return false;
    }
    let mut node = leaf(index, values);
    for (height, &sibling) in proof.siblings.iter().enumerate() {
        node = match sibling {
            Some(sibling) if (index >> height) & 1 == 1 => parent(sibling, Some(node)),
            sibling => parent(node, sibling),
        };
    }
    root(dimension, node) == digest
}

fn leaf(index: usize, values: &[f32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("signvote 2026-11 digest leaf");
    hasher.update(&(index as u64).to_le_bytes());
    update_with_floats(&mut hasher, values);
    *hasher.finalize().as_bytes()
}

/// Hashes floats as little-endian bytes: all at once where that is how they lie in memory, else a buffer at a time, for BLAKE3
/// is fast only on long inputs.
pub(crate) fn update_with_floats(hasher: &mut blake3::Hasher, values: &[f32]) {
    if cfg!(target_endian = "little") {
        hasher.update(bytemuck::cast_slice(values));
        return;
    }
    let mut buffer = [0_u8; 4096];
    for values in values.chunks(buffer.len() / 4) {
        for (bytes, value) in buffer.chunks_exact_mut(4).zip(values) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        hasher.update(&buffer[..values.len() * 4]);
    }
}

fn parent(left: [u8; 32], right: Option<[u8; 32]>) -> [u8; 32] {
    let Some(right) = right else { return left };
    let mut hasher = blake3::Hasher::new_derive_key("signvote 2026-11 digest node");
    hasher.update(&left).update(&right);
    *hasher.finalize().as_bytes()
}

fn root(dimension: usize, top: [u8; 32]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("signvote 2026-11 digest root");
    hasher.update(&(dimension as u64).to_le_bytes()).update(&top);
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(dimension: usize) -> Vec<f32> {
        (0..dimension).map(|i| (i as f32).sin()).collect()
    }

    #[test]
    fn every_leaf_verifies_and_a_changed_bit_does_not() {
        for dimension in
            [1, LEAF_COORDINATES, LEAF_COORDINATES + 1, 3 * LEAF_COORDINATES + 7, 5 * LEAF_COORDINATES]
        {
            let x = parameters(dimension);
            let tree = DigestTree::new(&x);
            for (index, values) in x.chunks(LEAF_COORDINATES).enumerate() {
                let proof = tree.proof(index).unwrap();
                assert!(verify_leaf(tree.root(), dimension, index, values, &proof));
                let mut changed = values.to_vec();
                let last = changed.len() - 1;
                changed[last] = f32::from_bits(changed[last].to_bits() ^ 1);
                assert!(!verify_leaf(tree.root(), dimension, index, &changed, &proof));
                assert!(!verify_leaf(tree.root(), dimension, index + 1, values, &proof));
                assert!(!verify_leaf(tree.root(), dimension, index, &values[..last], &proof));
            }
            assert!(tree.proof(dimension.div_ceil(LEAF_COORDINATES)).is_none());
        }
    }

    #[test]
    fn the_root_tells_bit_patterns_and_lengths_apart() {
        let root = |x: &[f32]| DigestTree::new(x).root();
        assert_eq!(root(&[1.0, 2.0]), root(&[1.0, 2.0]));
        assert_ne!(root(&[0.0]), root(&[-0.0]));
        assert_ne!(root(&[0.0]), root(&[0.0, 0.0]));
        assert_eq!(root(&[f32::NAN]), root(&[f32::NAN]));
    }
}
