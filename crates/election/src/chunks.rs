//! How a model's coordinates are cut into the pieces that travel.

use std::ops::Range;

use signvote_kernels::words;

/// The cut of d coordinates into chunks of equal length, the last one shorter.
///
/// A chunk starts at a word boundary, so that its planes are slices of the whole model's planes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunking {
    dimension: usize,
    chunk_coordinates: usize,
}

impl Chunking {
    /// The longest chunk, in coordinates: runs of abstentions are coded in 16 bits.
    pub const MAX_COORDINATES: usize = 65_536;

    /// Cuts `dimension` coordinates into chunks of `chunk_coordinates`, a multiple of 64 up to
    /// [`Self::MAX_COORDINATES`]; `None` if it is none, or if there are more than 2³² chunks.
    pub fn new(dimension: usize, chunk_coordinates: usize) -> Option<Self> {
        let fits = (64..=Self::MAX_COORDINATES).contains(&chunk_coordinates)
            && chunk_coordinates.is_multiple_of(64)
            && u32::try_from(dimension.div_ceil(chunk_coordinates)).is_ok();
        fits.then_some(Self { dimension, chunk_coordinates })
    }

    /// d.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Number of chunks.
    pub fn count(&self) -> usize {
        self.dimension.div_ceil(self.chunk_coordinates)
    }

    /// The coordinates of a chunk. Empty past the last.
    pub fn coordinates(&self, chunk: usize) -> Range<usize> {
        let start = chunk.saturating_mul(self.chunk_coordinates).min(self.dimension);
        start..start.saturating_add(self.chunk_coordinates).min(self.dimension)
    }

    /// The words of a chunk in the planes of the whole model.
    pub fn words(&self, chunk: usize) -> Range<usize> {
        let coordinates = self.coordinates(chunk);
        coordinates.start / 64..words(coordinates.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_every_coordinate_and_word_once() {
        for dimension in [1, 63, 64, 65, 127, 128, 129, 1000] {
            let chunking = Chunking::new(dimension, 128).unwrap();
            let (mut coordinate, mut word) = (0, 0);
            for chunk in 0..chunking.count() {
                assert_eq!(chunking.coordinates(chunk).start, coordinate);
                assert_eq!(chunking.words(chunk).start, word);
                assert_eq!(chunking.words(chunk).len(), words(chunking.coordinates(chunk).len()));
                coordinate = chunking.coordinates(chunk).end;
                word = chunking.words(chunk).end;
            }
            assert_eq!((coordinate, word), (dimension, words(dimension)));
            assert!(chunking.coordinates(chunking.count()).is_empty());
        }
    }

    #[test]
    fn odd_chunk_lengths_are_refused() {
        for length in [0, 1, 63, 65, 65_537, 131_072] {
            assert!(Chunking::new(1000, length).is_none(), "{length}");
        }
    }
}
