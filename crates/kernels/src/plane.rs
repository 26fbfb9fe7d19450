//! How many words a plane has, and which bits of the last one count.

/// Coordinates in one word of a plane.
pub(crate) const WORD_BITS: usize = 64;

/// The number of `u64` words that hold one bit for each of that many coordinates.
///
/// ```
/// # use signvote_kernels::words;
/// assert_eq!([words(0), words(1), words(64), words(65)], [0, 1, 1, 2]);
/// ```
#[must_use]
pub const fn words(coordinates: usize) -> usize {
    coordinates.div_ceil(WORD_BITS)
}

/// The bits of the last word that stand for a coordinate: all of them when `coordinates` is a multiple of 64
/// (0 included).
///
/// ```
/// # use signvote_kernels::tail_mask;
/// assert_eq!(tail_mask(67), 0b111);
/// assert_eq!(tail_mask(128), u64::MAX);
/// ```
#[must_use]
pub const fn tail_mask(coordinates: usize) -> u64 {
    match coordinates % WORD_BITS {
        0 => u64::MAX,
        bits => (1 << bits) - 1,
    }
}
