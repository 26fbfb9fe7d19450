//! Two bit planes of a chunk on the wire: signs, and the coordinates that abstain (ballot) or hold (verdict).
//!
//! ```text
//! u8 encoding of the second plane: 0 none, 1 runs, 2 plane
//! signs: words(n) × u64
//! runs:  u16 count, count × (u16 first coordinate, u16 length − 1), ascending, with a gap between any two
//! plane: words(n) × u64
//! ```
//! The shortest encoding is sent. Tail bits are zero, and so is a sign under the second plane: a peer that
//! sends anything else is refused, so that equal ballots have equal bytes.

use signvote_kernels::{is_canonical, tail_mask, words};

use super::codec::{Reader, Writer, read_words};
use crate::Error;

const NONE: u8 = 0;
const RUNS: u8 = 1;
const PLANE: u8 = 2;

/// A chunk's planes as they stand in a received frame: still to be read and checked.
#[derive(Clone, Copy, Debug)]
pub struct PlaneBytes<'a>(&'a [u8]);

impl<'a> PlaneBytes<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether a bit of the second plane is said to be set. A dense ballot has no second plane, and needs no room for one.
    pub(crate) fn has_second(&self) -> bool {
        self.0.first().is_some_and(|&encoding| encoding != NONE)
    }

    /// Reads the planes of a chunk of `coordinates` coordinates into `signs` and `second`, each
    /// `words(coordinates)` long. Returns whether any bit of the second plane is set: if not, `second` is left as it was.
    ///
    /// # Errors
    /// If the bytes are too few, too many or not canonical. What the planes then hold is unspecified.
    pub(crate) fn read(
        self,
        coordinates: usize,
        signs: &mut [u64],
        second: &mut [u64],
    ) -> Result<bool, Error> {
        let mut reader = Reader::new(self.0);
        let encoding = reader.u8()?;
        read_words(reader.bytes(words(coordinates) * 8)?, signs);
        match encoding {
            NONE => {}
            RUNS => {
                second.fill(0);
                read_runs(&mut reader, coordinates, second)?;
            }
            PLANE => read_words(reader.bytes(words(coordinates) * 8)?, second),
            other => return Err(Error::malformed("plane encoding", "0, 1 or 2", other)),
        }
        reader.finish()?;
        if !is_canonical(signs, (encoding != NONE).then_some(&*second), coordinates) {
            let got = "set bits behind the last coordinate, or under an abstention";
            return Err(Error::malformed("planes", "canonical form", got));
        }
        Ok(encoding != NONE)
    }
}

/// Appends the planes of a chunk. `second` may be all zeros.
pub(crate) fn write(out: &mut Writer, signs: &[u64], second: &[u64]) {
    let plane_bytes = second.len() * 8;
    // A run costs 4 bytes: past that many the plane is shorter, and there is no need to count on.
    let most_runs = plane_bytes.saturating_sub(2) / 4;
    match runs(second, most_runs) {
        Some(runs) if runs.is_empty() => {
            out.u8(NONE);
            out.words(signs);
        }
        Some(runs) => {
            out.u8(RUNS);
            out.words(signs);
            out.u16(runs.len() as u16);
            for (start, length) in runs {
                out.u16(start as u16);
                out.u16((length - 1) as u16);
            }
        }
        None => {
            out.u8(PLANE);
            out.words(signs);
            out.words(second);
        }
    }
}

/// Bytes that [`write`] appends for a chunk of `words` words without a second plane: with one it makes more room.
pub(crate) fn likely_bytes(words: usize) -> usize {
    1 + words * 8
}

/// First coordinate and length of every run of ones; `None` if there are more than `most`.
fn runs(plane: &[u64], most: usize) -> Option<Vec<(usize, usize)>> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (index, &word) in plane.iter().enumerate() {
        let mut rest = word;
        while rest != 0 {
            let bit = rest.trailing_zeros() as usize;
            let length = (!(rest >> bit)).trailing_zeros().min(64 - bit as u32) as usize;
            let start = index * 64 + bit;
            // A run that reaches over a word's end goes on.
            let full = runs.len() == most;
            match runs.last_mut().filter(|(first, so_far)| first + *so_far == start) {
                Some((_, so_far)) => *so_far += length,
                None if full => return None,
                None => runs.push((start, length)),
            }
            rest &= !(ones(length) << bit);
        }
    }
    Some(runs)
}

fn read_runs(reader: &mut Reader<'_>, coordinates: usize, plane: &mut [u64]) -> Result<(), Error> {
    let wrong = |expected: String, got: usize| Error::malformed("runs", expected, got);
    // The first free coordinate; between two runs lies at least one, or they would be one.
    let mut free = 0;
    let count = reader.u16()?;
    if count == 0 {
        return Err(wrong("at least one run".into(), 0));
    }
    for _ in 0..count {
        let (start, length) = (usize::from(reader.u16()?), usize::from(reader.u16()?) + 1);
        if start < free {
            return Err(wrong(format!("a start of {free} or more"), start));
        }
        if start + length > coordinates {
            return Err(wrong(format!("an end of {coordinates} or less"), start + length));
        }
        set_range(plane, start, start + length);
        free = start + length + 1;
    }
    Ok(())
}

fn set_range(plane: &mut [u64], start: usize, end: usize) {
    for (index, word) in plane.iter_mut().enumerate().take(words(end)).skip(start / 64) {
        let from = start.saturating_sub(index * 64).min(64);
        let upper = if index == end / 64 { tail_mask(end) } else { u64::MAX };
        *word |= upper & !ones(from);
    }
}

/// The lowest `count` bits.
fn ones(count: usize) -> u64 {
    1_u64.checked_shl(count as u32).map_or(u64::MAX, |bit| bit - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(signs: &[u64], second: &[u64], coordinates: usize) -> usize {
        let mut out = Writer::default();
        write(&mut out, signs, second);
        let bytes = out.into_inner();
        assert!(bytes.len() <= 1 + 16 * signs.len());
        let (mut signs2, mut second2) = (vec![!0; signs.len()], vec![!0; signs.len()]);
        let planes = PlaneBytes::new(&bytes);
        let any = planes.read(coordinates, &mut signs2, &mut second2).unwrap();
        assert_eq!(any, second.iter().any(|&word| word != 0));
        assert_eq!(any, planes.has_second());
        assert_eq!((&signs2[..], any.then_some(&second2[..])), (signs, any.then_some(second)));
        bytes.len()
    }

    proptest! {
        #[test]
        fn planes_survive_the_wire(
            coordinates in 1_usize..1000,
            bits in prop::collection::vec(any::<u64>(), 16),
            density in 0..4,
        ) {
            let count = words(coordinates);
            let mut second: Vec<u64> = (0..count)
                .map(|i| match density {
                    0 => 0,
                    1 => if bits[i] & 3 == 0 { u64::MAX << (bits[i] % 64) } else { 0 },
                    2 => bits[i] & bits[(i + 1) % 16] & bits[(i + 2) % 16],
                    _ => bits[i],
                })
                .collect();
            second[count - 1] &= tail_mask(coordinates);
            let mut signs: Vec<u64> = (0..count).map(|i| !bits[i] & !second[i]).collect();
            signs[count - 1] &= tail_mask(coordinates);
            round_trip(&signs, &second, coordinates);
        }

        #[test]
        fn random_bytes_are_refused_or_canonical(bytes in prop::collection::vec(any::<u8>(), 0..100), n in 1_usize..200) {
            let (mut signs, mut second) = (vec![0; words(n)], vec![0; words(n)]);
            if let Ok(any) = PlaneBytes::new(&bytes).read(n, &mut signs, &mut second) {
                prop_assert!(is_canonical(&signs, any.then_some(&second[..]), n));
            }
        }
    }

    #[test]
    fn the_shortest_encoding_is_sent() {
        let signs = [0_u64; 1024];
        let mut second = [0_u64; 1024];
        assert_eq!(round_trip(&signs, &second, 65_536), 1 + 8192);
        second[10] = 0xff0;
        assert_eq!(round_trip(&signs, &second, 65_536), 1 + 8192 + 2 + 4);
        assert_eq!(round_trip(&signs, &[u64::MAX; 1024], 65_536), 1 + 8192 + 2 + 4);
        assert_eq!(round_trip(&signs, &[0x5555_5555_5555_5555; 1024], 65_536), 1 + 2 * 8192);
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        let refuse = |coordinates: usize, bytes: &[u8]| {
            let mut planes = (vec![0; words(coordinates)], vec![0; words(coordinates)]);
            PlaneBytes::new(bytes).read(coordinates, &mut planes.0, &mut planes.1).unwrap_err()
        };
        let frame =
            |encoding: u8, signs: u64, rest: &[u8]| [&[encoding][..], &signs.to_le_bytes(), rest].concat();
        // Dirty tail, sign under an abstention, unknown encoding, too short, too long.
        refuse(10, &frame(NONE, 1 << 10, &[]));
        refuse(10, &frame(PLANE, 1, &1_u64.to_le_bytes()));
        refuse(10, &frame(3, 0, &[]));
        refuse(10, &frame(PLANE, 0, &[0; 7]));
        refuse(10, &frame(NONE, 0, &[0]));
        // Runs: none, past the end, overlapping, touching.
        refuse(10, &frame(RUNS, 0, &[0, 0]));
        refuse(10, &frame(RUNS, 0, &[1, 0, 9, 0, 1, 0]));
        refuse(10, &frame(RUNS, 0, &[2, 0, 0, 0, 3, 0, 2, 0, 0, 0]));
        refuse(10, &frame(RUNS, 0, &[2, 0, 0, 0, 0, 0, 1, 0, 0, 0]));
    }
}
