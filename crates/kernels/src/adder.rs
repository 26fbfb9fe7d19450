//! Counting of set bits, one count per bit position, in bit planes: plane `k` holds bit `k` of every count.
//!
//! # How
//!
//! All planes to be counted are read side by side: for every few vectors of words the whole count is summed up
//! in registers and in the first-level cache, and whoever wants it takes it from there ([`Take`]), so that memory
//! is read once, and never waits for anything else. The planes come in groups. A group of 2ᵏ − 1 planes is first
//! added up on its own by a tree of carry-save adders (each takes three bits of one weight to one of that weight
//! and one of twice it), and its k-bit sum is then added to the count. The carry into that last addition is free,
//! so that a later group takes one plane more. (Three and four, which come often, are groups in any place.) The
//! groups are the same at every vector, and are laid down beforehand, in a [`Plan`].
//!
//! A processor's own prefetching follows few streams at a time, and none beyond its page. So each line is asked
//! for ahead of its use, into the second-level cache: in the first, planes that are allocated alike all fall
//! into one set of eight lines. Without this, 15 planes took 1.3 times as long on a Zen 4, and 100 planes 2.5
//! times.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use crate::vector::{Arch, Bits, MOST_WORDS, prefetch_vector};

/// The most planes that one pass reads.
pub(crate) const MOST_SOURCES: usize = 128;

/// Binary digits of the largest count.
const MOST_DIGITS: usize = 16;

/// Vectors that are counted before they are taken: so few that their counts stay in the first-level cache, and
/// enough that what is done once for all of them does not show.
const BLOCK: usize = 16;

/// Words from one plane of a count to the next.
const PLANE: usize = BLOCK * MOST_WORDS;

/// Words between what is read of a plane and what is asked for. 4 KiB would do for long planes; with 8 KiB, one
/// chunk of a stream brings the beginning of the next with it, if that is the memory that follows.
pub(crate) const WORDS_AHEAD: usize = 1024;

/// More planes than this are asked for less far ahead, lest they push each other out of the second-level cache too:
/// with AVX2, 64 and 100 planes took 1.1 times as long otherwise.
const MANY: usize = 32;

/// Words ahead, for so many planes.
const FEWER_AHEAD: usize = 192;

/// Words of all planes of both counts together, where they have to be kept.
const ROOM_WORDS: usize = 8192;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Negatives,
    Abstentions,
}

/// Binary digits of a number.
pub(crate) fn digits(number: usize) -> usize {
    (usize::BITS - number.leading_zeros()) as usize
}

/// One plane to be counted: the bits of `set` that are not in `except`.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) set: &'a [u64],
    pub(crate) except: Option<&'a [u64]>,
}

/// A [`Source`] without its length.
#[derive(Clone, Copy)]
struct Pointers {
    set: *const u64,
    except: *const u64,
}

/// One group of sources.
#[derive(Clone, Copy)]
struct Step {
    side: Side,
    /// Each source is worth 2 to this power.
    place: u8,
    sources: u8,
    except: bool,
    /// Planes of the count before and after.
    before: u8,
    after: u8,
}

/// Which planes are added to which count, and in what groups.
pub(crate) struct Plan<'a> {
    /// Words of every source.
    len: usize,
    /// What the counts can at most be, before and after.
    before: [usize; 2],
    after: [usize; 2],
    sources: [MaybeUninit<Pointers>; MOST_SOURCES],
    sources_len: usize,
    steps: [MaybeUninit<Step>; MOST_SOURCES],
    steps_len: usize,
    borrowed: PhantomData<&'a [u64]>,
}

impl<'a> Plan<'a> {
    /// A plan without sources, for planes of `len` words, of counts that are at most `before` so far.
    pub(crate) fn new(len: usize, before: [usize; 2]) -> Plan<'a> {
        Plan {
            len,
            before,
            after: before,
            sources: [MaybeUninit::uninit(); MOST_SOURCES],
            sources_len: 0,
            steps: [MaybeUninit::uninit(); MOST_SOURCES],
            steps_len: 0,
            borrowed: PhantomData,
        }
    }

    /// Words of every source.
    pub(crate) fn words(&self) -> usize {
        self.len
    }

    /// Whether it is one group of sources that are worth 1 each: what [`pass_sole`] takes. Those that except
    /// something never are, because what they except is counted as well.
    pub(crate) fn is_sole(&self) -> bool {
        let alone = self.before == [0, 0] && self.after == [self.sources_len, 0] && self.steps_len == 1;
        alone && matches!(self.sources_len, 1 | 3 | 7 | 15)
    }

    /// What the counts can at most be after it.
    pub(crate) fn counted(&self) -> [usize; 2] {
        self.after
    }

    /// Adds sources that are worth 2 to the power `place` each. Those with exceptions are groups apart, which
    /// need not come in order: a count does not depend on it.
    ///
    /// Panics if they are more than [`MOST_SOURCES`] in all, or shorter than the plan.
    pub(crate) fn add(
        &mut self,
        side: Side,
        place: usize,
        sources: impl Iterator<Item = Source<'a>> + Clone,
    ) {
        for except in [false, true] {
            let first = self.sources_len;
            for source in sources.clone().filter(|source| source.except.is_some() == except) {
                let pointer = |plane: &[u64]| plane[..self.len].as_ptr();
                let set = pointer(source.set);
                let except = source.except.map_or(std::ptr::null(), pointer);
                self.sources[self.sources_len].write(Pointers { set, except });
                self.sources_len += 1;
            }
            self.group(side, place, except, self.sources_len - first);
        }
    }

    /// Divides that many sources into groups, each as large as possible but for the exceptions. The sum of a group never has more
    /// planes than are in use from its place, which matters to counts that began with a small group and were
    /// given many sources later.
    fn group(&mut self, side: Side, place: usize, except: bool, mut left: usize) {
        while left > 0 {
            let counted = self.after[side as usize];
            let whole = left.min(16);
            let sources = match (counted >> place, whole) {
                (0, 4..=6) => 4,
                (0, _) => (1 << (whole + 1).ilog2().min(4)) - 1,
                (4.., 3) => 3,
                (above, _) => 1 << usize::min(whole.ilog2() as usize, digits(above)),
            };
            let after = counted + (sources << place);
            let (before_digits, after_digits) = (digits(counted), digits(after));
            assert!(after_digits <= MOST_DIGITS, "more is counted than there is room for");
            self.steps[self.steps_len].write(Step {
                side,
                place: place as u8,
                sources: sources as u8,
                except,
                before: before_digits as u8,
                after: after_digits as u8,
            });
            self.steps_len += 1;
            self.after[side as usize] = after;
            left -= sources;
        }
    }
}

/// Both counts of a block of vectors; which planes of them are in use, [`Taken`] knows.
#[repr(align(64))]
pub(crate) struct Counts([[[MaybeUninit<u64>; PLANE]; MOST_DIGITS]; 2]);

impl Counts {
    fn new() -> Counts {
        Counts([[[MaybeUninit::uninit(); PLANE]; MOST_DIGITS]; 2])
    }

    fn planes(&mut self) -> Planes {
        let [negatives, abstentions] = &mut self.0;
        Planes { sides: [negatives.as_mut_ptr().cast(), abstentions.as_mut_ptr().cast()], stride: PLANE }
    }
}

/// Where the planes of both counts lie, from the first word on that is counted: plane `k` of each begins at
/// `k × stride`.
#[derive(Clone, Copy)]
pub(crate) struct Planes {
    sides: [*mut u64; 2],
    stride: usize,
}

impl Planes {
    /// The same, from word `at` on.
    fn from(&self, at: usize) -> Planes {
        Planes { sides: self.sides.map(|side| side.wrapping_add(at)), ..*self }
    }

    /// Where word `at` of a plane lies.
    ///
    /// # Safety
    ///
    /// There is room for it.
    #[inline(always)]
    unsafe fn word(&self, side: Side, plane: usize, at: usize) -> *mut u64 {
        // SAFETY: the caller vouches for it.
        unsafe { self.sides[side as usize].add(plane * self.stride + at) }
    }
}

/// What was counted at a block of vectors.
pub(crate) struct Taken<'a> {
    planes: Planes,
    used: [usize; 2],
    borrowed: PhantomData<&'a [u64]>,
}

impl Taken<'_> {
    /// The number of planes; every count is below 2 to that power.
    #[inline(always)]
    pub(crate) fn used(&self, side: Side) -> usize {
        self.used[side as usize]
    }

    /// Bit `plane` of the counts, from word `word` of the block.
    ///
    /// # Safety
    ///
    /// The processor has `V`; `plane < used`, and `V::WORDS` words were counted from that one.
    #[inline(always)]
    pub(crate) unsafe fn plane<V: Bits>(&self, side: Side, plane: usize, word: usize) -> V {
        debug_assert!(plane < self.used(side) && word + V::WORDS <= PLANE);
        // SAFETY: the caller vouches for it; a plane in use was written.
        unsafe { V::load(self.planes.word(side, plane, word)) }
    }
}

/// Whoever wants the counts.
pub(crate) trait Take {
    /// Takes those of that many vectors, of the words from `at` on.
    ///
    /// # Safety
    ///
    /// The processor has `V`; the counts are of so much.
    unsafe fn take<V: Bits>(&mut self, at: usize, vectors: usize, counts: &Taken<'_>);
}

/// Where counts are kept between passes.
pub(crate) struct Kept<'a> {
    planes: Planes,
    lens: [usize; 2],
    borrowed: PhantomData<&'a mut [MaybeUninit<u64>]>,
}

impl<'a> Kept<'a> {
    pub(crate) fn new([negatives, abstentions]: [&'a mut [u64]; 2], stride: usize) -> Kept<'a> {
        Kept {
            lens: [negatives.len(), abstentions.len()],
            planes: Planes { sides: [negatives.as_mut_ptr(), abstentions.as_mut_ptr()], stride },
            borrowed: PhantomData,
        }
    }

    /// Nowhere: for a plan that begins at nothing.
    pub(crate) fn nowhere() -> Kept<'static> {
        Kept::new([&mut [], &mut []], 0)
    }

    /// Panics unless there is room for counts of up to so much, of `len` words.
    fn check(&self, counted: [usize; 2], len: usize) {
        for (room, counted) in self.lens.into_iter().zip(counted) {
            let fits = len <= self.planes.stride && digits(counted) * self.planes.stride <= room;
            assert!(fits || counted == 0, "room for counts");
        }
    }
}

/// Memory for [`Kept`]: 64 KiB, which a second-level cache holds many times. Uninitialised, for only what is
/// in use is ever touched. Aligned to a line of the cache: vectors that straddle two are stored at a fraction
/// of the speed.
#[repr(align(64))]
pub(crate) struct Room([MaybeUninit<u64>; ROOM_WORDS]);

impl Room {
    pub(crate) fn new() -> Room {
        Room([MaybeUninit::uninit(); ROOM_WORDS])
    }

    /// The words of a pass that counts up to so much: whole lines of a cache. 32 planes, of 65,535 voters who
    /// all abstain, leave 256.
    pub(crate) fn tile([negatives, abstentions]: [usize; 2]) -> usize {
        ROOM_WORDS / usize::max(digits(negatives) + digits(abstentions), 8) / MOST_WORDS * MOST_WORDS
    }

    /// Counts of up to so much.
    pub(crate) fn kept(&mut self, most: [usize; 2]) -> Kept<'_> {
        let stride = Room::tile(most);
        let lens = most.map(|most| digits(most) * stride);
        let negatives = self.0.as_mut_ptr().cast::<u64>();
        assert!(lens[0] + lens[1] <= ROOM_WORDS, "room for counts");
        // SAFETY: within the room, as was just asserted.
        let abstentions = unsafe { negatives.add(lens[0]) };
        Kept { planes: Planes { sides: [negatives, abstentions], stride }, lens, borrowed: PhantomData }
    }
}

/// Counts at every vector of the words `0..plan.len`, on top of what is kept, and hands each to `take`.
/// The words before and after `whole` are taken one by one.
///
/// # Safety
///
/// The processor has `A`; what the plan begins with has been kept there.
#[inline(always)]
pub(crate) unsafe fn pass<A: Arch, T: Take>(
    plan: &Plan<'_>,
    kept: &Kept<'_>,
    whole: Range<usize>,
    take: &mut T,
) {
    kept.check(plan.before, plan.len);
    let mut counts = Counts::new();
    let start = usize::min(whole.start, plan.len);
    let end = usize::min(whole.end, plan.len);
    // SAFETY: the processor has `A`; for `plan.len` words all sources and all that is kept are long enough.
    unsafe {
        let at = pass_over::<u64, T>(plan, kept, 0..start, &mut counts, take, count_words);
        let at = pass_over::<A::Bits, T>(plan, kept, at..end, &mut counts, take, A::count_vectors);
        pass_over::<u64, T>(plan, kept, at..plan.len, &mut counts, take, count_words);
    }
}

/// Whoever wants counts as they come out of the registers.
pub(crate) trait TakeSum {
    /// Takes those of the words from `at` on: `K` digits, the lowest first.
    ///
    /// # Safety
    ///
    /// The processor has `V`; the sum is of so many words.
    unsafe fn take_sum<V: Bits, const K: usize>(&mut self, at: usize, sum: [V; K]);
}

/// The pass of a plan that is but one group, with nothing before it: 1, 3, 7 or 15 sources without exceptions.
///
/// # Safety
///
/// As for [`pass`]; [`Plan::is_sole`] is true.
#[inline(always)]
pub(crate) unsafe fn pass_sole<A: Arch, T: TakeSum>(plan: &Plan<'_>, whole: Range<usize>, take: &mut T) {
    let start = usize::min(whole.start, plan.len);
    let end = usize::min(whole.end, plan.len);
    // SAFETY: passed on; the words are in all sources.
    unsafe {
        let at = sole_over::<u64, T>(plan, 0..start, take);
        let at = sole_over::<A::Bits, T>(plan, at..end, take);
        sole_over::<u64, T>(plan, at..plan.len, take);
    }
}

/// Takes the whole vectors of a range, and returns the end of them.
///
/// # Safety
///
/// As for [`pass_sole`]; all sources have these words.
#[inline(always)]
unsafe fn sole_over<V: Bits, T: TakeSum>(plan: &Plan<'_>, words: Range<usize>, take: &mut T) -> usize {
    let sources = plan.sources.as_ptr().cast::<Pointers>();
    let mut at = words.start;
    /// The loop, once for each number of sources.
    macro_rules! each {
        (|$group:ident| $sum:expr) => {
            while at + V::WORDS <= words.end {
                let $group = Group::<false, WORDS_AHEAD> { sources, at };
                take.take_sum::<V, _>(at, $sum);
                at += V::WORDS;
            }
        };
    }
    // SAFETY: the caller vouches for it.
    unsafe {
        match plan.sources_len {
            1 => each!(|group| [group.load(0)]),
            3 => each!(|group| group.sum_of_3(0)),
            7 => each!(|group| group.sum_of_7(0)),
            _ => each!(|group| group.sum_of_15(0)),
        }
    }
    at
}

/// Takes the whole vectors of a range, and returns the end of them.
///
/// # Safety
///
/// As for [`pass`]; all planes have these words, and `count` is that of `V`.
#[inline(always)]
unsafe fn pass_over<V: Bits, T: Take>(
    plan: &Plan<'_>,
    kept: &Kept<'_>,
    words: Range<usize>,
    counts: &mut Counts,
    take: &mut T,
    count: unsafe fn(&Plan<'_>, usize, usize, Planes),
) -> usize {
    let mut at = words.start;
    while at + V::WORDS <= words.end {
        let vectors = usize::min((words.end - at) / V::WORDS, BLOCK);
        // SAFETY: the caller vouches for it, and there are so many vectors.
        unsafe {
            let planes = if plan.sources_len == 0 {
                kept.planes.from(at)
            } else {
                let planes = counts.planes();
                resume::<V>(plan, kept, at, vectors, planes);
                count(plan, at, vectors, planes);
                planes
            };
            let used = plan.after.map(digits);
            take.take::<V>(at, vectors, &Taken { planes, used, borrowed: PhantomData });
        }
        at += vectors * V::WORDS;
    }
    at
}

/// Takes up what was kept of the words from `at`.
///
/// # Safety
///
/// As for [`pass`]; there are so many vectors.
#[inline(always)]
unsafe fn resume<V: Bits>(plan: &Plan<'_>, kept: &Kept<'_>, at: usize, vectors: usize, to: Planes) {
    for side in [Side::Negatives, Side::Abstentions] {
        for plane in 0..digits(plan.before[side as usize]) {
            for vector in 0..vectors {
                let word = vector * V::WORDS;
                // SAFETY: the caller vouches for it.
                unsafe {
                    V::load(kept.planes.word(side, plane, at + word)).store(to.word(side, plane, word))
                };
            }
        }
    }
}

/// Adds the sources of a plan to what is kept.
///
/// # Safety
///
/// As for [`pass`].
#[inline(always)]
pub(crate) unsafe fn keep<A: Arch>(plan: &Plan<'_>, kept: &Kept<'_>) {
    kept.check(plan.before, plan.len);
    kept.check(plan.after, plan.len);
    let mut at = 0;
    // SAFETY: passed on; there is room for so much.
    unsafe {
        while at + A::Bits::WORDS <= plan.len {
            let vectors = usize::min((plan.len - at) / A::Bits::WORDS, BLOCK);
            A::count_vectors(plan, at, vectors, kept.planes.from(at));
            at += vectors * A::Bits::WORDS;
        }
        count_words(plan, at, plan.len - at, kept.planes.from(at));
    }
}

outlined! {
    /// All groups of a plan at a block of vectors.
    pub(crate) trait CountVectors {
        fn count_vectors(plan: &Plan<'_>, at: usize, vectors: usize, planes: Planes) = count_vectors_body;
    }
}

/// # Safety
///
/// The processor has `A`; there are so many vectors of words from `at` in all sources, and the counts have the
/// planes that the plan begins with.
#[inline(always)]
unsafe fn count_vectors_body<A: Arch>(plan: &Plan<'_>, at: usize, vectors: usize, planes: Planes) {
    // SAFETY: passed on.
    unsafe {
        if plan.sources_len > MANY {
            count_steps::<A::Bits, FEWER_AHEAD>(plan, at, vectors, planes);
        } else {
            count_steps::<A::Bits, WORDS_AHEAD>(plan, at, vectors, planes);
        }
    }
}

/// The same for words.
///
/// # Safety
///
/// As there.
#[inline(never)]
unsafe fn count_words(plan: &Plan<'_>, at: usize, words: usize, planes: Planes) {
    // SAFETY: passed on.
    unsafe { count_steps::<u64, WORDS_AHEAD>(plan, at, words, planes) };
}

/// # Safety
///
/// As for [`count_vectors_body`].
#[inline(always)]
unsafe fn count_steps<V: Bits, const AHEAD: usize>(
    plan: &Plan<'_>,
    at: usize,
    vectors: usize,
    planes: Planes,
) {
    let mut sources = plan.sources.as_ptr().cast::<Pointers>();
    // SAFETY: passed on; the groups have all sources, in order.
    unsafe {
        for step in plan.steps.get_unchecked(..plan.steps_len) {
            let step = step.assume_init();
            let place = usize::from(step.place);
            let mut before = usize::from(step.before);
            while before < place {
                for vector in 0..vectors {
                    V::splat(0).store(planes.word(step.side, before, vector * V::WORDS));
                }
                before += 1;
            }
            let block = Block {
                at,
                vectors,
                planes: planes.word(step.side, place, 0),
                stride: planes.stride,
                before: before - place,
                after: usize::from(step.after) - place,
            };
            if step.except {
                block.add::<V, true, AHEAD>(sources, step.sources);
            } else {
                block.add::<V, false, AHEAD>(sources, step.sources);
            }
            sources = sources.add(usize::from(step.sources));
        }
    }
}

/// A block of vectors that a group is added to.
#[derive(Clone, Copy)]
struct Block {
    at: usize,
    vectors: usize,
    planes: *mut u64,
    stride: usize,
    before: usize,
    after: usize,
}

/// Adds the sum of a group to every vector of a block: what `$sum` and `$carry` say of `group`.
macro_rules! each_vector {
    ($block:ident, $sources:ident, |$group:ident| $sum:expr $(, $carry:expr)?) => {
        for vector in 0..$block.vectors {
            let at = $block.at + vector * V::WORDS;
            let $group = Group::<EXCEPT, AHEAD> { sources: $sources, at };
            let planes = $block.planes.add(vector * V::WORDS);
            each_vector!(@add $block, planes, $sum $(, $carry)?);
        }
    };
    (@add $block:ident, $planes:ident, $sum:expr) => {
        begin::<V, _>($sum, $planes, $block.stride)
    };
    (@add $block:ident, $planes:ident, $sum:expr, $carry:expr) => {
        carry_on::<V, _>($sum, $carry, $planes, $block)
    };
}

impl Block {
    /// Adds a group to the planes of a count, of which there were `before`.
    ///
    /// # Safety
    ///
    /// The processor has `V`; the group has as many sources, with so many vectors in each; the planes have room
    /// for `after`.
    #[inline(always)]
    unsafe fn add<V: Bits, const EXCEPT: bool, const AHEAD: usize>(self, sources: *const Pointers, len: u8) {
        // SAFETY: passed on.
        unsafe {
            match (self.before, len) {
                (0, 1) => each_vector!(self, sources, |group| [group.load(0)]),
                (0, 3) => each_vector!(self, sources, |group| group.sum_of_3(0)),
                (0, 4) => each_vector!(self, sources, |group| group.sum_of_4(0)),
                (0, 7) => each_vector!(self, sources, |group| group.sum_of_7(0)),
                (0, 15) => each_vector!(self, sources, |group| group.sum_of_15(0)),
                (_, 1) => each_vector!(self, sources, |group| [], group.load(0)),
                (_, 2) => each_vector!(self, sources, |group| [group.load(0)], group.load(1)),
                (_, 3) => each_vector!(self, sources, |group| group.sum_of_3(0), V::splat(0)),
                (_, 4) => each_vector!(self, sources, |group| group.sum_of_3(0), group.load(3)),
                (_, 8) => each_vector!(self, sources, |group| group.sum_of_7(0), group.load(7)),
                (_, 16) => each_vector!(self, sources, |group| group.sum_of_15(0), group.load(15)),
                (_, other) => unreachable!("a group of {other} planes"),
            }
        }
    }
}

/// The first planes of a count.
///
/// # Safety
///
/// The processor has `V`; there is room for them.
#[inline(always)]
unsafe fn begin<V: Bits, const K: usize>(sum: [V; K], planes: *mut u64, stride: usize) {
    for (k, digit) in sum.into_iter().enumerate() {
        // SAFETY: the caller vouches for it.
        unsafe { digit.store(planes.add(k * stride)) };
    }
}

/// Adds a sum, and a carry into it, to a count of at least as many planes.
///
/// # Safety
///
/// The processor has `V`; there is room for the planes.
#[inline(always)]
unsafe fn carry_on<V: Bits, const K: usize>(sum: [V; K], mut carry: V, planes: *mut u64, block: Block) {
    let Block { stride, before, after, .. } = block;
    debug_assert!(K <= before && after <= before + 1);
    // SAFETY: the caller vouches for it.
    unsafe {
        for (k, digit) in sum.into_iter().enumerate() {
            let plane = planes.add(k * stride);
            let (digit, next) = full_adder(V::load(plane), digit, carry);
            digit.store(plane);
            carry = next;
        }
        for k in K..before {
            let plane = planes.add(k * stride);
            let old = V::load(plane);
            old.xor(carry).store(plane);
            carry = old.and(carry);
        }
        if before < after {
            carry.store(planes.add(before * stride));
        }
    }
}

/// Sum and carry of three bits of one weight.
///
/// # Safety
///
/// The processor has `V`.
#[inline(always)]
unsafe fn full_adder<V: Bits>(a: V, b: V, c: V) -> (V, V) {
    // SAFETY: the caller vouches for `V`.
    unsafe { (a.xor3(b, c), a.majority(b, c)) }
}

/// The words from `at` of a group of sources. The sums take 2ᵏ − 1 sources each, and are twice the half of
/// them plus one: two sums of k − 1 bits and one more source as the carry.
#[derive(Clone, Copy)]
struct Group<const EXCEPT: bool, const AHEAD: usize> {
    sources: *const Pointers,
    at: usize,
}

/// # Safety
///
/// For all: the processor has `V`, there are that many sources from `first`, and `V::WORDS` words at `at` in
/// them.
impl<const EXCEPT: bool, const AHEAD: usize> Group<EXCEPT, AHEAD> {
    #[inline(always)]
    unsafe fn load<V: Bits>(&self, source: usize) -> V {
        // SAFETY: the caller vouches for it. Nothing need be where lies what is asked for ahead.
        unsafe {
            let source = *self.sources.add(source);
            prefetch_vector::<V>(source.set.wrapping_add(self.at).wrapping_add(AHEAD));
            let set = V::load(source.set.add(self.at));
            if EXCEPT { set.without(V::load(source.except.add(self.at))) } else { set }
        }
    }

    #[inline(always)]
    unsafe fn sum_of_3<V: Bits>(&self, first: usize) -> [V; 2] {
        // SAFETY: the caller vouches for it.
        unsafe {
            let (sum, carry) = full_adder(self.load(first), self.load(first + 1), self.load(first + 2));
            [sum, carry]
        }
    }

    #[inline(always)]
    unsafe fn sum_of_4<V: Bits>(&self, first: usize) -> [V; 3] {
        // SAFETY: the caller vouches for it.
        unsafe {
            let [sum, carry]: [V; 2] = self.sum_of_3(first);
            let last: V = self.load(first + 3);
            let both = sum.and(last);
            [sum.xor(last), carry.xor(both), carry.and(both)]
        }
    }

    #[inline(always)]
    unsafe fn sum_of_7<V: Bits>(&self, first: usize) -> [V; 3] {
        // SAFETY: the caller vouches for it.
        unsafe {
            let low = self.sum_of_3(first);
            let high = self.sum_of_3(first + 3);
            let (s0, carry) = full_adder(low[0], high[0], self.load(first + 6));
            let (s1, s2) = full_adder(low[1], high[1], carry);
            [s0, s1, s2]
        }
    }

    #[inline(always)]
    unsafe fn sum_of_15<V: Bits>(&self, first: usize) -> [V; 4] {
        // SAFETY: the caller vouches for it.
        unsafe {
            let low = self.sum_of_7(first);
            let high = self.sum_of_7(first + 7);
            let (s0, carry) = full_adder(low[0], high[0], self.load(first + 14));
            let (s1, carry) = full_adder(low[1], high[1], carry);
            let (s2, s3) = full_adder(low[2], high[2], carry);
            [s0, s1, s2, s3]
        }
    }
}
