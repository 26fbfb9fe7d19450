//! How clear a verdict was: [`margins`] and their [`margin_histogram`].

use crate::adder::{Kept, Plan, Side, Take, Taken, pass};
use crate::decide::MAX_BALLOTS;
use crate::electorate::{Electorate, Finish};
use crate::plane::{WORD_BITS, words};
use crate::vector::{Arch, Bits};
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

/// [`margins()`] on that instruction set.
pub(crate) fn margins_on(isa: Isa, ballots: &[Ballot<'_>], coordinates: usize, out: &mut [u16]) {
    check(ballots, coordinates, out);
    margins_part_on(isa, ballots, 0, out);
}

/// Panics as [`margins()`] does.
pub(crate) fn check(ballots: &[Ballot<'_>], coordinates: usize, out: &[u16]) {
    assert!(ballots.len() <= MAX_BALLOTS, "expected at most {MAX_BALLOTS} ballots, got {}", ballots.len());
    assert_eq!(out.len(), coordinates, "margins of the coordinates");
    for ballot in ballots {
        ballot.check(coordinates);
    }
}

kernel! {
    /// The margins of a part, which begins at word `from` of the ballots.
    pub(crate) fn margins_part_on(ballots: &[Ballot<'_>], from: usize, out: &mut [u16]) = margins_part_body;
}

/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn margins_part_body<A: Arch>(ballots: &[Ballot<'_>], from: usize, out: &mut [u16]) {
    let electorate = Electorate { ballots, weights: None, from };
    let words = words(out.len());
    let mut margins = Margins { voters: ballots.len() as u16, first: 0, out };
    // SAFETY: passed on; ballots that are too short panic where their words are taken.
    unsafe { electorate.count::<A, _>(words, &mut margins) };
}

/// The margins that are being written.
struct Margins<'a> {
    voters: u16,
    /// The word that a pass begins at.
    first: usize,
    out: &'a mut [u16],
}

impl Finish for Margins<'_> {
    #[inline(always)]
    unsafe fn finish<A: Arch>(&mut self, first: usize, plan: &Plan<'_>, kept: &Kept<'_>, lead: usize) {
        self.first = first;
        // SAFETY: passed on.
        unsafe { pass::<A, _>(plan, kept, lead..plan.words(), self) };
    }
}

impl Take for Margins<'_> {
    #[inline(always)]
    unsafe fn take<V: Bits>(&mut self, at: usize, vectors: usize, counts: &Taken<'_>) {
        for word in 0..vectors * V::WORDS {
            let mut sums = [[0; WORD_BITS]; 2];
            for (side, sums) in [Side::Negatives, Side::Abstentions].into_iter().zip(&mut sums) {
                for plane in 0..counts.used(side) {
                    // SAFETY: the caller vouches for `V`; the plane is in use, and so many words were counted.
                    unsafe { V::add_digit(counts.plane(side, plane, word), 1 << plane, sums) };
                }
            }
            let [negative, silent] = sums;
            let mut margins = [0; WORD_BITS];
            for i in 0..WORD_BITS {
                let voted = self.voters - silent[i];
                margins[i] = (voted - negative[i]).abs_diff(negative[i]);
            }
            let out = &mut self.out[(self.first + at + word) * WORD_BITS..];
            match out.first_chunk_mut() {
                Some(out) => *out = margins,
                None => out.copy_from_slice(&margins[..out.len()]),
            }
        }
    }
}
