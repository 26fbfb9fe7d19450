//! What the coordinates of a model are called, and the digest by which peers know that they agree.

use crate::Error;
use crate::wire::codec::{Reader, Writer};

/// Most tensors a layout may have.
const MAX_TENSORS: usize = 65_536;
/// Longest name of a tensor, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// Most dimensions of a tensor.
const MAX_RANK: usize = 8;

/// Name and shape of one tensor, as in PyTorch's `state_dict`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name, for example `fc1.weight`.
    pub name: String,
    /// The extents, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
}

/// The tensors of a model, in the order in which they lie in its flat vector of d coordinates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
    dimension: usize,
}

impl Layout {
    /// A layout of these tensors, one after the other.
    ///
    /// # Errors
    /// If it has no coordinate, too many tensors, too long or repeated names, or more coordinates than `usize` counts.
    pub fn new(tensors: Vec<TensorSpec>) -> Result<Self, Error> {
        let wrong = |expected: &str, got: String| Error::malformed("layout", expected, got);
        if tensors.is_empty() || tensors.len() > MAX_TENSORS {
            return Err(wrong("1 to 65536 tensors", tensors.len().to_string()));
        }
        let mut dimension = 0_usize;
        let mut names = std::collections::HashSet::new();
        for tensor in &tensors {
            if tensor.name.is_empty() || tensor.name.len() > MAX_NAME_BYTES {
                return Err(wrong("names of 1 to 256 bytes", format!("{} bytes", tensor.name.len())));
            }
            if !names.insert(tensor.name.as_str()) {
                return Err(wrong("every name once", format!("{} twice", tensor.name)));
            }
            if tensor.shape.len() > MAX_RANK {
                return Err(wrong(
                    "at most 8 dimensions",
                    format!("{} in {}", tensor.shape.len(), tensor.name),
                ));
            }
            let elements = tensor.shape.iter().try_fold(1_usize, |n, &extent| n.checked_mul(extent));
            dimension = elements
                .and_then(|elements| dimension.checked_add(elements))
                .ok_or_else(|| wrong("a countable number of coordinates", "an overflow".into()))?;
        }
        if dimension == 0 {
            return Err(wrong("at least one coordinate", "none".into()));
        }
        Ok(Self { tensors, dimension })
    }

    /// The tensors in order.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// d, the number of coordinates.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// BLAKE3 of the canonical encoding. Peers with the same digest mean the same by every coordinate.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("signvote 2026-11 layout");
        hasher.update(&self.encode());
        *hasher.finalize().as_bytes()
    }

    /// The tensors with the range of coordinates that each takes.
    pub fn ranges(&self) -> impl Iterator<Item = (&TensorSpec, std::ops::Range<usize>)> {
        let mut start = 0;
        self.tensors.iter().map(move |tensor| {
            let range = start..start + tensor.shape.iter().product::<usize>();
            start = range.end;
            (tensor, range)
        })
    }

    /// The name of the tensor that a coordinate belongs to; `None` past the end.
    pub fn tensor_at(&self, coordinate: usize) -> Option<&TensorSpec> {
        self.ranges().find(|(_, range)| range.contains(&coordinate)).map(|(tensor, _)| tensor)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        out.u32(self.tensors.len() as u32);
        for tensor in &self.tensors {
            out.string(&tensor.name);
            out.u8(tensor.shape.len() as u8);
            tensor.shape.iter().for_each(|&extent| out.u64(extent as u64));
        }
        out.into_inner()
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let count = reader.u32()? as usize;
        if count > MAX_TENSORS {
            return Err(Error::malformed("layout", "at most 65536 tensors", count));
        }
        let mut tensors = Vec::new();
        for _ in 0..count {
            let name = reader.string("tensor name", MAX_NAME_BYTES)?;
            let rank = usize::from(reader.u8()?);
            if rank > MAX_RANK {
                return Err(Error::malformed("layout", "at most 8 dimensions", rank));
            }
            let shape = (0..rank).map(|_| reader.length()).collect::<Result<_, _>>()?;
            tensors.push(TensorSpec { name, shape });
        }
        Self::new(tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, shape: &[usize]) -> TensorSpec {
        TensorSpec { name: name.into(), shape: shape.into() }
    }

    #[test]
    fn a_layout_survives_its_encoding_and_keeps_its_digest() {
        let layout =
            Layout::new(vec![spec("fc.weight", &[3, 5]), spec("fc.bias", &[3]), spec("t", &[])]).unwrap();
        assert_eq!(layout.dimension(), 19);
        let bytes = layout.encode();
        let back = Layout::decode(&mut Reader::new(&bytes)).unwrap();
        assert_eq!(back, layout);
        assert_eq!(back.digest(), layout.digest());
        assert_eq!(layout.tensor_at(15).unwrap().name, "fc.bias");
        assert_eq!(layout.tensor_at(18).unwrap().name, "t");
        assert!(layout.tensor_at(19).is_none());
    }

    #[test]
    fn the_digest_tells_names_shapes_and_order_apart() {
        let digest = |tensors| Layout::new(tensors).unwrap().digest();
        let base = digest(vec![spec("a", &[2, 3]), spec("b", &[6])]);
        assert_ne!(base, digest(vec![spec("b", &[6]), spec("a", &[2, 3])]));
        assert_ne!(base, digest(vec![spec("a", &[3, 2]), spec("b", &[6])]));
        assert_ne!(base, digest(vec![spec("a", &[2, 3]), spec("c", &[6])]));
    }

    #[test]
    fn impossible_layouts_are_refused() {
        assert!(Layout::new(vec![]).is_err());
        assert!(Layout::new(vec![spec("a", &[0])]).is_err());
        assert!(Layout::new(vec![spec("", &[1])]).is_err());
        assert!(Layout::new(vec![spec("a", &[1]), spec("a", &[1])]).is_err());
        assert!(Layout::new(vec![spec("a", &[usize::MAX, 2])]).is_err());
        assert!(Layout::new(vec![spec("a", &[1; 9])]).is_err());
    }
}
