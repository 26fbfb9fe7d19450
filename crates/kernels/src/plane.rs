//! How many words a plane has, and which bits of the last one count.

/// Words from which on values are gone through in parts: of `f32`, 4 MiB.
pub(crate) const LONG: usize = 16_384;

/// Parts that are gone through side by side.
pub(crate) const PARTS: usize = 4;

/// Runs `$body` for every word `$at` of the first `$words`. Where they are many, and so come from memory, four parts
/// of them are gone through side by side: one waits less for a page while others are read. On a Zen 4 that took a
/// tenth off the time of `pack` and an eighth off those of `momentum_pack` and `apply`; eight parts made most of them
/// slower than one.
macro_rules! each_word {
    ($words:expr, |$at:ident| $body:expr) => {{
        let words: usize = $words;
        let part = if words < $crate::plane::LONG { 0 } else { words / $crate::plane::PARTS };
        for i in 0..part {
            for k in 0..$crate::plane::PARTS {
                let $at = k * part + i;
                $body
            }
        }
        for $at in $crate::plane::PARTS * part..words {
            $body
        }
    }};
}

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
