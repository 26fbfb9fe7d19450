//! The tally of ballots that come one after another: [`StreamTally`].
//!
//! # How
//!
//! Counts lie in the bit planes of `adder`, a block of words at a time. To add one ballot to them is to read
//! and write every plane, so one or two are only copied at first: up to fifteen wait, and the sixteenth goes
//! with them through one tree of carry-save adders, which is then added to the counts once. Three or more that
//! come together are counted where they are, and those that wait with them. What still waits in the end is
//! counted by the pass that decides. Planes of abstentions do the same, apart, and only in the blocks where
//! somebody abstains.

use std::fmt;

use crate::adder::{Kept, Plan, Side as Count, Source, WORDS_AHEAD, digits, keep};
use crate::decide::{MAX_BALLOTS, Rule, Verdict};
use crate::electorate::Finish as _;
use crate::plane::words;
use crate::vector::{Arch, Bits as _, LINE_BYTES, LINE_WORDS, prefetch, prefetch_vector};
use crate::{Ballot, Decided, Isa, Tie};

/// The most words of a block.
const TILE_WORDS: usize = 1024;

/// Ballots that wait.
const MOST_WAITING: usize = 15;

/// The most that are counted at once, beside those that wait.
const MOST_AT_ONCE: usize = 16;

/// Words between two planes beyond their own: planes that begin at the same place of a page push each other
/// out of the first-level cache.
const APART: usize = 5 * LINE_WORDS;

/// As many that come together are counted at once.
const ENOUGH: usize = 3;

/// The tally of one range of coordinates, whose ballots are added as they come and need not be kept.
///
/// Its verdict is that of [`decide()`](crate::decide()) over the same ballots, bit for bit, in whatever order and
/// groups they were added. All memory is taken when it is made: [`StreamTally::storage_words`] says how much.
///
/// ```
/// # use signvote_kernels::{Ballot, StreamTally, Tie};
/// let mut tally = StreamTally::new(2, 100);
/// for signs in [[0b01], [0b11], [0b00]] {
///     tally.add(Ballot::new(&signs, None));
/// }
/// let (mut signs, mut hold) = ([0], [0]);
/// tally.decide(Tie::Hold, 1, &mut signs, &mut hold);
/// assert_eq!((signs, hold), ([0b01], [0b00]));
/// ```
#[derive(Clone)]
pub struct StreamTally {
    coordinates: usize,
    max_voters: usize,
    voters: usize,
    /// The blocks, from the first line of the cache that begins in it.
    storage: Vec<u64>,
    progress: Vec<[Progress; 2]>,
}

/// How far one side (the negative votes, or the abstentions) of one block has come.
#[derive(Clone, Copy, Default)]
struct Progress {
    counted: usize,
    waiting: usize,
}

/// How storage is divided: into blocks of two sides, of planes of `tile` words, `stride` words from each other.
/// The planes that wait come first in a side, then those of the counts.
#[derive(Clone, Copy)]
struct Shape {
    words: usize,
    tile: usize,
    stride: usize,
    waiting_planes: usize,
    side_words: usize,
}

impl Shape {
    fn new(coordinates: usize, max_voters: usize) -> Shape {
        let (words, most) = (words(coordinates), usize::max(max_voters, 1));
        let tile = usize::min(words.next_multiple_of(LINE_WORDS), TILE_WORDS);
        let waiting_planes = usize::min(most, MOST_WAITING);
        Shape {
            words,
            tile,
            waiting_planes,
            stride: tile + APART,
            side_words: (waiting_planes + digits(most)) * (tile + APART),
        }
    }

    fn blocks(&self) -> usize {
        if self.tile == 0 { 0 } else { self.words.div_ceil(self.tile) }
    }

    /// With what the first line may be away from the beginning.
    fn storage_words(&self) -> usize {
        self.blocks() * 2 * self.side_words + LINE_WORDS - 1
    }
}

impl StreamTally {
    /// An empty tally with storage of its own.
    ///
    /// # Panics
    ///
    /// If `max_voters` is more than 65,535.
    #[must_use]
    pub fn new(coordinates: usize, max_voters: usize) -> StreamTally {
        StreamTally::with_storage(coordinates, max_voters, Vec::new())
    }

    /// An empty tally in the given storage, whose contents do not matter. It is lengthened if it is shorter
    /// than [`StreamTally::storage_words`], and [`StreamTally::into_storage`] gives it back.
    ///
    /// # Panics
    ///
    /// If `max_voters` is more than 65,535.
    #[must_use]
    pub fn with_storage(coordinates: usize, max_voters: usize, mut storage: Vec<u64>) -> StreamTally {
        let needed = StreamTally::storage_words(coordinates, max_voters);
        if storage.len() < needed {
            // Made anew rather than resized, which would copy.
            storage = vec![0; needed];
        }
        let blocks = Shape::new(coordinates, max_voters).blocks();
        StreamTally {
            coordinates,
            max_voters,
            voters: 0,
            storage,
            progress: vec![[Progress::default(); 2]; blocks],
        }
    }

    /// The words of storage that a tally takes: 2 × (w + b) for each word of a plane and a little more, where
    /// w = min(`max_voters`, 15) planes wait and b is the number of binary digits of `max_voters`.
    ///
    /// # Panics
    ///
    /// If `max_voters` is more than 65,535.
    #[must_use]
    pub fn storage_words(coordinates: usize, max_voters: usize) -> usize {
        assert!(max_voters <= MAX_BALLOTS, "expected at most {MAX_BALLOTS} voters, got {max_voters}");
        Shape::new(coordinates, max_voters).storage_words()
    }

    /// The storage, for another tally.
    #[must_use]
    pub fn into_storage(self) -> Vec<u64> {
        self.storage
    }

    /// The length of the range.
    #[must_use]
    pub fn coordinates(&self) -> usize {
        self.coordinates
    }

    /// The number of ballots added.
    #[must_use]
    pub fn voters(&self) -> usize {
        self.voters
    }

    /// Forgets all ballots. This touches 32 bytes for each 65,536 coordinates, not the counts.
    pub fn clear(&mut self) {
        self.voters = 0;
        self.progress.fill([Progress::default(); 2]);
    }

    /// Adds one ballot. Sign bits under an abstention and tail bits are ignored.
    ///
    /// # Panics
    ///
    /// If `max_voters` ballots have been added, or if a plane of the ballot is not exactly
    /// [`words(coordinates)`](words) long. Nothing was added then.
    pub fn add(&mut self, ballot: Ballot<'_>) {
        self.add_all(&[ballot]);
    }

    /// Adds ballots. The verdict is that of adding one by one; many at a time are counted where they are,
    /// without being copied.
    ///
    /// # Panics
    ///
    /// If that would be more than `max_voters` ballots in all, or if a plane of a ballot is not exactly
    /// [`words(coordinates)`](words) long. Nothing was added then.
    pub fn add_all(&mut self, ballots: &[Ballot<'_>]) {
        add_on(Isa::active(), self, ballots);
    }

    /// The verdict over all ballots added so far, as [`decide()`](crate::decide()) gives it. More may be added
    /// afterwards.
    ///
    /// # Panics
    ///
    /// If `signs` or `hold` is not exactly [`words(coordinates)`](words) long.
    pub fn decide(&mut self, tie: Tie, min_voters: u32, signs: &mut [u64], hold: &mut [u64]) -> Decided {
        decide_so_far_on(Isa::active(), self, tie, min_voters, signs, hold)
    }

    /// Adds the last ballots, gives the verdict, and forgets all ballots: the same as
    /// [`add_all`](StreamTally::add_all), [`decide`](StreamTally::decide) and [`clear`](StreamTally::clear), but the
    /// last ballots, up to sixteen of them, are not written anywhere.
    ///
    /// ```
    /// # use signvote_kernels::{Ballot, StreamTally, Tie};
    /// let mut tally = StreamTally::new(2, 3);
    /// tally.add(Ballot::new(&[0b01], None));
    /// let last = [Ballot::new(&[0b11], None), Ballot::new(&[0b00], None)];
    /// let (mut signs, mut hold) = ([0], [0]);
    /// tally.close(&last, Tie::Hold, 1, &mut signs, &mut hold);
    /// assert_eq!((signs, hold, tally.voters()), ([0b01], [0b00], 0));
    /// ```
    ///
    /// # Panics
    ///
    /// As the three do. If it is because of the ballots, none of them was added.
    pub fn close(
        &mut self,
        last: &[Ballot<'_>],
        tie: Tie,
        min_voters: u32,
        signs: &mut [u64],
        hold: &mut [u64],
    ) -> Decided {
        close_on(Isa::active(), self, last, tie, min_voters, signs, hold)
    }

    /// Panics unless these can be added.
    fn check(&self, ballots: &[Ballot<'_>]) {
        let (voters, most) = (self.voters + ballots.len(), self.max_voters);
        assert!(voters <= most, "expected at most {most} ballots, got {voters}");
        for ballot in ballots {
            ballot.check(self.coordinates);
        }
    }

    fn shape(&self) -> Shape {
        Shape::new(self.coordinates, self.max_voters)
    }

    /// The blocks in use, in order.
    fn blocks(&mut self) -> impl Iterator<Item = Block<'_>> {
        let shape = self.shape();
        // An empty range has no block; the length of one must still not be zero.
        let block_words = usize::max(2 * shape.side_words, 1);
        let lead = match self.storage.as_ptr().align_offset(LINE_BYTES) {
            words if words < LINE_WORDS => words,
            _ => 0,
        };
        let blocks = self.storage[lead..].chunks_exact_mut(block_words);
        self.progress.iter_mut().zip(blocks).enumerate().map(move |(i, (progress, planes))| {
            let first = i * shape.tile;
            let len = usize::min(shape.tile, shape.words - first);
            let [negative, abstention] = progress;
            let (negatives, abstentions) = planes.split_at_mut(shape.side_words);
            let side = |planes, progress| Side { planes, progress, shape, len };
            Block { first, len, sides: [side(negatives, negative), side(abstentions, abstention)] }
        })
    }
}

impl fmt::Debug for StreamTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamTally")
            .field("coordinates", &self.coordinates)
            .field("max_voters", &self.max_voters)
            .field("voters", &self.voters)
            .finish_non_exhaustive()
    }
}

kernel! {
    pub(crate) fn add_on(tally: &mut StreamTally, ballots: &[Ballot<'_>]) = add_body;
}

kernel! {
    /// The verdict over what was added, and over a few ballots more.
    fn decide_on(
        tally: &mut StreamTally,
        more: &[Ballot<'_>],
        tie: Tie,
        min_voters: u32,
        signs: &mut [u64],
        hold: &mut [u64],
    ) -> Decided = decide_body;
}

/// [`StreamTally::decide`] on that instruction set.
pub(crate) fn decide_so_far_on(
    isa: Isa,
    tally: &mut StreamTally,
    tie: Tie,
    min_voters: u32,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    decide_on(isa, tally, &[], tie, min_voters, signs, hold)
}

/// [`StreamTally::close`] on that instruction set.
pub(crate) fn close_on(
    isa: Isa,
    tally: &mut StreamTally,
    last: &[Ballot<'_>],
    tie: Tie,
    min_voters: u32,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    tally.check(last);
    let (before, last) = last.split_at(last.len().saturating_sub(MOST_AT_ONCE));
    add_on(isa, tally, before);
    let decided = decide_on(isa, tally, last, tie, min_voters, signs, hold);
    tally.clear();
    decided
}

/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn add_body<A: Arch>(tally: &mut StreamTally, ballots: &[Ballot<'_>]) {
    tally.check(ballots);
    tally.voters += ballots.len();
    for Block { first, len, sides: [mut negatives, mut abstentions] } in tally.blocks() {
        let tile = first..first + len;
        let abstain = |ballot: &Ballot<'_>| ballot.abstain.is_some_and(|plane| any(&plane[tile.clone()]));
        // SAFETY: the processor has `A`, and all slices have `len` words.
        unsafe {
            negatives.add::<A>(ballots.iter().map(|ballot| Source {
                set: &ballot.signs[tile.clone()],
                except: ballot.abstain.filter(|_| abstain(ballot)).map(|plane| &plane[tile.clone()]),
            }));
            abstentions.add::<A>(ballots.iter().filter(|ballot| abstain(ballot)).filter_map(|ballot| {
                ballot.abstain.map(|plane| Source { set: &plane[tile.clone()], except: None })
            }));
        }
    }
}

/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn decide_body<A: Arch>(
    tally: &mut StreamTally,
    more: &[Ballot<'_>],
    tie: Tie,
    min_voters: u32,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    let rule = Rule { voters: tally.voters + more.len(), min_voters, tie };
    let mut verdict = Verdict::new(rule, tally.coordinates, signs, hold);
    for Block { first, len, sides: [mut negatives, mut abstentions] } in tally.blocks() {
        let counted = [negatives.progress.counted, abstentions.progress.counted];
        let mut plan = Plan::new(len, counted);
        let stride = negatives.shape.stride;
        let (waiting, negatives) = negatives.split();
        plan.add(Count::Negatives, 0, waiting);
        let (waiting, abstentions) = abstentions.split();
        plan.add(Count::Abstentions, 0, waiting);
        let tile = first..first + len;
        plan.add(
            Count::Negatives,
            0,
            more.iter().map(|ballot| Source {
                set: &ballot.signs[tile.clone()],
                except: ballot.abstain.map(|plane| &plane[tile.clone()]),
            }),
        );
        let silent = more.iter().filter_map(|ballot| ballot.abstain);
        plan.add(
            Count::Abstentions,
            0,
            silent.map(|plane| Source { set: &plane[tile.clone()], except: None }),
        );
        // SAFETY: the processor has `A`; so much was counted there.
        unsafe { verdict.finish::<A>(first, &plan, &Kept::new([negatives, abstentions], stride), 0) };
    }
    verdict.decided()
}

/// The part of a tally over the words `first..first + len` of the range.
struct Block<'a> {
    first: usize,
    len: usize,
    /// Negative votes, abstentions.
    sides: [Side<'a>; 2],
}

/// One count of one block.
struct Side<'a> {
    planes: &'a mut [u64],
    progress: &'a mut Progress,
    shape: Shape,
    len: usize,
}

impl Side<'_> {
    /// Adds sources, of `len` words each.
    ///
    /// # Safety
    ///
    /// The processor has `A`.
    #[inline(always)]
    unsafe fn add<'s, A: Arch>(&mut self, mut sources: impl Iterator<Item = Source<'s>>) {
        loop {
            let mut come = [Source { set: &[], except: None }; MOST_AT_ONCE];
            let mut arrived = 0;
            while arrived < MOST_AT_ONCE {
                let Some(source) = sources.next() else { break };
                come[arrived] = source;
                arrived += 1;
            }
            if arrived < ENOUGH {
                // Few runs of memory are begun so slowly that they are better asked for at once.
                come[..arrived].iter().for_each(|source| ask_for(source.set));
            }
            let Progress { counted, waiting } = *self.progress;
            if arrived < ENOUGH && waiting + arrived <= self.shape.waiting_planes {
                let slots = self.planes[waiting * self.shape.stride..].chunks_exact_mut(self.shape.stride);
                for (slot, source) in slots.zip(&come[..arrived]) {
                    // SAFETY: passed on.
                    unsafe { store::<A>(&mut slot[..self.len], source) };
                }
                self.progress.waiting = waiting + arrived;
                return;
            }
            let (len, stride) = (self.len, self.shape.stride);
            let (waiting, counts) = self.split();
            // Whichever side it is, its count is the first here.
            let mut plan = Plan::new(len, [counted, 0]);
            plan.add(Count::Negatives, 0, waiting.chain(come[..arrived].iter().copied()));
            // SAFETY: the processor has `A`; so much was counted there.
            unsafe { keep::<A>(&plan, &Kept::new([counts, &mut []], stride)) };
            *self.progress = Progress { counted: plan.counted()[0], waiting: 0 };
        }
    }

    /// What waits, and the counts.
    fn split(&mut self) -> (impl Iterator<Item = Source<'_>> + Clone, &mut [u64]) {
        let (stride, len) = (self.shape.stride, self.len);
        let (planes, counts) = self.planes.split_at_mut(self.shape.waiting_planes * stride);
        let waiting = planes.chunks_exact(stride).take(self.progress.waiting);
        (waiting.map(move |plane| Source { set: &plane[..len], except: None }), counts)
    }
}

/// Copies a source to where it waits.
///
/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn store<A: Arch>(slot: &mut [u64], source: &Source<'_>) {
    match source.except {
        // Not by the library's copying, which asks for nothing ahead.
        None => {
            let set = &source.set[..slot.len()];
            let mut at = 0;
            // SAFETY: the caller vouches for `A`; there are so many words in both.
            unsafe {
                while at + A::Bits::WORDS <= slot.len() {
                    prefetch_vector::<A::Bits>(set.as_ptr().wrapping_add(at + WORDS_AHEAD));
                    A::Bits::load(set.as_ptr().add(at)).store(slot.as_mut_ptr().add(at));
                    at += A::Bits::WORDS;
                }
            }
            slot[at..].copy_from_slice(&set[at..]);
        }
        Some(except) => {
            for (slot, (set, except)) in slot.iter_mut().zip(source.set.iter().zip(except)) {
                *slot = set & !except;
            }
        }
    }
}

/// Asks memory for the beginning of a plane.
fn ask_for(plane: &[u64]) {
    for line in plane[..usize::min(plane.len(), WORDS_AHEAD)].chunks(LINE_WORDS) {
        prefetch(line.as_ptr());
    }
}

/// Whether any bit is set. Without an early end, so that the compiler makes vectors of it: the plane is read
/// anyway.
#[inline(always)]
fn any(plane: &[u64]) -> bool {
    let mut bits = 0;
    for word in plane {
        bits |= word;
    }
    bits != 0
}
