//! Bytes as inputs.

#![allow(dead_code, reason = "each target uses a part")]

/// The words that the bytes begin with, as many as were asked for, zeros at the end if they are too short.
pub(crate) fn take_words(bytes: &mut &[u8], count: usize) -> Vec<u64> {
    let (now, later) = bytes.split_at((8 * count).min(bytes.len()));
    *bytes = later;
    let mut words = vec![0; count];
    for (i, byte) in now.iter().enumerate() {
        words[i / 8] |= u64::from(*byte) << (8 * (i % 8));
    }
    words
}

/// The byte that the bytes begin with, or 0.
pub(crate) fn take_byte(bytes: &mut &[u8]) -> usize {
    let Some((first, later)) = bytes.split_first() else { return 0 };
    *bytes = later;
    usize::from(*first)
}
