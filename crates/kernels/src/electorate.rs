//! Whose ballots are counted, with what weights, in how many passes.
//!
//! # How
//!
//! A ballot of weight w is one of weight 2ᵏ for every bit k that is set in w, and is counted into the planes from
//! k up. More ballots than one pass reads are counted in several, a tile of words after the other, and their
//! counts kept in between.

use std::ops::Range;

use crate::Ballot;
use crate::adder::{Kept, MOST_SOURCES, Plan, Room, Side, Source, keep};
use crate::vector::{Arch, LINE_BYTES, LINE_WORDS};

/// Those whose ballots are counted.
pub(crate) struct Electorate<'a> {
    pub(crate) ballots: &'a [Ballot<'a>],
    /// One each, where they are not all 1.
    pub(crate) weights: Option<&'a [u16]>,
    /// The word of the ballots that counting begins at.
    pub(crate) from: usize,
}

/// Whoever wants the counts of the last pass over a tile.
pub(crate) trait Finish {
    /// Makes that pass, over the words from `first` on.
    ///
    /// # Safety
    ///
    /// As for [`crate::adder::pass`].
    unsafe fn finish<A: Arch>(&mut self, first: usize, plan: &Plan<'_>, kept: &Kept<'_>, lead: usize);
}

impl<'a> Electorate<'a> {
    /// Counts the negative votes and the abstentions over that many words.
    ///
    /// Panics if a ballot is shorter.
    ///
    /// # Safety
    ///
    /// The processor has `A`.
    #[inline(always)]
    pub(crate) unsafe fn count<A: Arch, F: Finish>(&self, words: usize, finish: &mut F) {
        let most = self.most();
        let mut room = Room::new();
        // Where one pass reads everything, nothing is kept, and there is one tile.
        let once = self.fitting(0) == self.ballots.len();
        let tile = if once { words } else { Room::tile(most) };
        let kept = if once { Kept::nowhere() } else { room.kept(most) };
        let mut lead = self.lead();
        let mut first = 0;
        while first < words {
            // The first of several tiles ends where the ballots meet a line of the cache.
            let most_words = if once || lead == 0 { tile } else { lead };
            let range = first..usize::min(first + most_words, words);
            let (mut voter, mut counted) = (0, [0, 0]);
            loop {
                let mut plan = Plan::new(range.len(), counted);
                let end = self.fitting(voter);
                self.plan(voter..end, &range, &mut plan);
                voter = end;
                // SAFETY: passed on.
                unsafe {
                    if voter == self.ballots.len() {
                        finish.finish::<A>(first, &plan, &kept, lead);
                        break;
                    }
                    keep::<A>(&plan, &kept);
                }
                counted = plan.counted();
            }
            first = range.end;
            lead = 0;
        }
    }

    fn weight(&self, voter: usize) -> usize {
        self.weights.map_or(1, |weights| usize::from(weights[voter]))
    }

    /// The most that the counts of negative votes and of abstentions can be.
    fn most(&self) -> [usize; 2] {
        let mut most = [0, 0];
        for (voter, ballot) in self.ballots.iter().enumerate() {
            most[0] += self.weight(voter);
            most[1] += if ballot.abstain.is_some() { self.weight(voter) } else { 0 };
        }
        most
    }

    /// The end of the voters from `first` that one pass can read.
    fn fitting(&self, first: usize) -> usize {
        let mut left = MOST_SOURCES;
        for (voter, ballot) in self.ballots.iter().enumerate().skip(first) {
            let planes = if ballot.abstain.is_some() { 2 } else { 1 };
            match left.checked_sub(planes * self.weight(voter).count_ones() as usize) {
                None => return voter,
                Some(still) => left = still,
            }
        }
        self.ballots.len()
    }

    fn plan(&self, voters: Range<usize>, words: &Range<usize>, plan: &mut Plan<'a>) {
        let words = self.from + words.start..self.from + words.end;
        let all = voters.clone().fold(0, |all, voter| all | self.weight(voter));
        for place in (0..u16::BITS as usize).filter(|place| all >> place & 1 == 1) {
            let of_place = voters.clone().filter(|voter| self.weight(*voter) >> place & 1 == 1);
            let ballots = of_place.map(|voter| self.ballots[voter]);
            let negatives = ballots.clone().map(|ballot| Source {
                set: &ballot.signs[words.clone()],
                except: ballot.abstain.map(|plane| &plane[words.clone()]),
            });
            let abstentions = ballots.filter_map(|ballot| ballot.abstain);
            plan.add(Side::Negatives, place, negatives);
            plan.add(
                Side::Abstentions,
                place,
                abstentions.map(|plane| Source { set: &plane[words.clone()], except: None }),
            );
        }
    }

    /// The words before the first that begins a line of the cache. Only the first ballot is asked, for the
    /// others, and the verdict, are nearly always allocated alike.
    fn lead(&self) -> usize {
        match self.ballots.first() {
            None => 0,
            Some(ballot) => match ballot.signs[self.from..].as_ptr().align_offset(LINE_BYTES) {
                words if words < LINE_WORDS => words,
                _ => 0,
            },
        }
    }
}
