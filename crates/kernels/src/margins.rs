//! How clear a verdict was: [`margins`] and their [`margin_histogram`].

use crate::adder::{Counter, Room};
use crate::decide::{Equals, MAX_BALLOTS, Voters};
use crate::plane::{WORD_BITS, words};
use crate::vector::Arch;
use crate::{Ballot, Isa};

/// The margin of each coordinate: |p − n|, with p positive votes and n negative ones.
///
/// 0 is a tie or nobody, and the number of ballots is unanimity of all. Sign bits under an abstention and tail
/// bits are ignored; the order of the ballots does not matter. Without ballots all margins are 0.
///
/// # Panics
///
/// If there are more than 65,535 ballots, if `out` is not `coordinates` long, or if a plane of a ballot is not
/// exactly [`words(coordinates)`](words) long.
pub fn margins(ballots: &[Ballot<'_>], coordinates: usize, out: &mut [u16]) {
    margins_on(Isa::active(), ballots, coordinates, out);
}

/// Counts margins: adds to `bins[m]` the number of coordinates whose margin is m. The last bin also takes all
/// larger margins.
///
/// `bins` are added to, so that ranges may be counted one after another.
///
/// # Panics
///
/// If there is no bin, but a margin.
pub fn margin_histogram(margins: &[u16], bins: &mut [u64]) {
    for margin in margins {
        let last = bins.len() - 1;
        bins[usize::min(usize::from(*margin), last)] += 1;
    }
}

kernel! {
    pub(crate) fn margins_on(ballots: &[Ballot<'_>], coordinates: usize, out: &mut [u16]) = margins_body;
}

/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn margins_body<A: Arch>(ballots: &[Ballot<'_>], coordinates: usize, out: &mut [u16]) {
    assert!(ballots.len() <= MAX_BALLOTS, "expected at most {MAX_BALLOTS} ballots, got {}", ballots.len());
    assert_eq!(out.len(), coordinates, "margins of the coordinates");
    for ballot in ballots {
        ballot.check(coordinates);
    }
    let voters = Equals { ballots, from: 0 };
    let mut room = Room::new();
    let [mut negatives, mut abstentions] = room.counters(voters.most());
    let words = words(coordinates);
    let mut rest = out.chunks_mut(WORD_BITS);
    for first in (0..words).step_by(negatives.tile()) {
        let len = usize::min(negatives.tile(), words - first);
        negatives.clear();
        abstentions.clear();
        // SAFETY: the processor has `A`; the ballots were checked, and have these words.
        unsafe { voters.count::<A>(first..first + len, &mut negatives, &mut abstentions) };
        for (at, out) in rest.by_ref().take(len).enumerate() {
            let mut counts = [[0; WORD_BITS]; 2];
            for (counts, counter) in counts.iter_mut().zip([&negatives, &abstentions]) {
                // SAFETY: word `at` was counted.
                unsafe { lanes(counter, at, counts) };
            }
            let [negative, silent] = counts;
            let mut margins = [0; WORD_BITS];
            for i in 0..WORD_BITS {
                let voted = ballots.len() as u16 - silent[i];
                margins[i] = (voted - negative[i]).abs_diff(negative[i]);
            }
            out.copy_from_slice(&margins[..out.len()]);
        }
    }
}

/// Adds the counts of word `at` to those of each of its bits.
///
/// # Safety
///
/// The word was counted.
#[inline(always)]
unsafe fn lanes(counter: &Counter<'_>, at: usize, counts: &mut [u16; WORD_BITS]) {
    for plane in 0..counter.used() {
        // SAFETY: the plane is in use, and the word was counted.
        let word: u64 = unsafe { counter.plane(plane, at) };
        // By 16 bits, as wide as the counts: a comparison of every lane with its bit, which vector units can.
        for (quarter, counts) in counts.chunks_exact_mut(16).enumerate() {
            let bits = (word >> (16 * quarter)) as u16;
            for (i, count) in counts.iter_mut().enumerate() {
                *count |= if bits & (1 << i) == 0 { 0 } else { 1 << plane };
            }
        }
    }
}
