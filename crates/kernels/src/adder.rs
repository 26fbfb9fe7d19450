//! Counting of set bits, one count per bit position, in bit planes: plane `k` holds bit `k` of every count.
//!
//! Ballots come in groups. A group of 2ᵏ − 1 planes is first added up on its own, in registers, by a tree of
//! carry-save adders (each takes three bits of one weight to one of that weight and one of twice it), and its
//! k-bit sum is then added to the counters. The carry into that last addition is free, so that a later group
//! takes one plane more.

use std::mem::MaybeUninit;

use crate::vector::{Arch, Bits};

/// The most words that are counted at a time.
pub(crate) const TILE_WORDS: usize = 1024;

/// Words of all planes of all counters together.
const ROOM_WORDS: usize = 8192;

/// Where counters lie: 64 KiB, which a second-level cache holds many times. Uninitialised, for only what is
/// in use is ever touched. Aligned to a line of the cache: vectors that straddle two are stored at a fraction
/// of the speed.
#[repr(align(64))]
pub(crate) struct Room([MaybeUninit<u64>; ROOM_WORDS]);

impl Room {
    pub(crate) fn new() -> Room {
        Room([MaybeUninit::uninit(); ROOM_WORDS])
    }

    /// Two counters, of up to so much each, over tiles of as many words as is best, up to
    /// [`TILE_WORDS`].
    ///
    /// One group is read straight through, and then what it needs is that its lines and planes stay in the
    /// first-level cache. With more groups than one, each reads its ballots in runs of a tile, and memory
    /// answers long runs much faster than short ones: on a Zen 4, 100 voters took 1.3 times as long in tiles
    /// of 128 words as in tiles of 1,024.
    pub(crate) fn counters(&mut self, [first, second]: [usize; 2]) -> [Counter<'_>; 2] {
        let planes = digits(first) + digits(second);
        let most = if first < GROUP { TILE_WORDS / 8 } else { TILE_WORDS };
        // Whole lines of a cache: 32 planes, of 65,535 voters who all abstain, leave 256 words.
        let tile = usize::min(most, ROOM_WORDS / planes.max(1)) / 8 * 8;
        let (first, second) = self.0.split_at_mut(digits(first) * tile);
        [first, second].map(|planes| Counter { planes, tile, used: 0, counted: 0 })
    }
}

/// Binary digits of a number.
pub(crate) fn digits(number: usize) -> usize {
    (usize::BITS - number.leading_zeros()) as usize
}

/// The largest group.
pub(crate) const GROUP: usize = 16;

/// One plane to be counted, over one tile: the bits of `set` that are not in `except`.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) set: &'a [u64],
    pub(crate) except: &'a [u64],
}

/// Counts over one tile.
pub(crate) struct Counter<'a> {
    /// Plane `k` begins at `k × tile`.
    planes: &'a mut [MaybeUninit<u64>],
    tile: usize,
    /// Planes in use: as many as the binary digits of `counted`.
    used: usize,
    /// Sources added so far: what a count can at most be.
    counted: usize,
}

impl<'a> Counter<'a> {
    /// A counter that goes on where it was left: over planes of `tile` words that already hold the sums of
    /// `counted` sources.
    pub(crate) fn resume(planes: &'a mut [u64], tile: usize, counted: usize) -> Counter<'a> {
        // SAFETY: the same memory, and a counter writes only what is initialised.
        let planes = unsafe { std::slice::from_raw_parts_mut(planes.as_mut_ptr().cast(), planes.len()) };
        Counter { planes, tile, used: digits(counted), counted }
    }

    /// Sources added so far.
    pub(crate) fn counted(&self) -> usize {
        self.counted
    }

    /// The most words that it counts at a time.
    pub(crate) fn tile(&self) -> usize {
        self.tile
    }

    /// Back to zero everywhere. Planes not in use hold rubbish.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
        self.counted = 0;
    }

    /// The number of planes in use; every count is below 2 to that power.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Bit `plane` of the counts of the words from `at`.
    ///
    /// # Safety
    ///
    /// The processor has `V`; `plane < used`, and the `V::WORDS` words from `at` were counted.
    #[inline(always)]
    pub(crate) unsafe fn plane<V: Bits>(&self, plane: usize, at: usize) -> V {
        debug_assert!(plane < self.used && at + V::WORDS <= self.tile);
        // SAFETY: the caller vouches for it; a plane in use was written as far as was counted.
        unsafe { V::load(self.planes.as_ptr().add(plane * self.tile + at).cast()) }
    }

    /// How many of `left` sources, each worth 2 to the power `place`, the next group takes. Its sum never has
    /// more planes than are in use from there, which matters to counters that began with a small group and
    /// were given many sources later.
    pub(crate) fn group(&self, place: usize, left: usize) -> usize {
        let whole = left.min(GROUP);
        match self.counted >> place {
            0 => (1 << (whole + 1).ilog2().min(4)) - 1,
            _ => 1 << usize::min(whole.ilog2() as usize, self.used - place),
        }
    }

    /// Adds one group of sources that are worth 2 to the power `place` each, of a size that
    /// [`Counter::group`] gave, over the first `len` words of the tile.
    ///
    /// # Safety
    ///
    /// As for [`Counter::add`].
    #[inline(always)]
    pub(crate) unsafe fn add_at_place<A: Arch>(
        &mut self,
        place: usize,
        sources: &[Source<'_>],
        except: bool,
        len: usize,
    ) {
        while self.used < place {
            let zeros = &mut self.planes[self.used * self.tile..][..len];
            zeros.fill(MaybeUninit::new(0));
            self.used += 1;
        }
        // The planes from `place` up are a counter themselves, which nothing below carries into.
        let mut above = Counter {
            planes: &mut self.planes[place * self.tile..],
            tile: self.tile,
            used: self.used - place,
            counted: self.counted >> place,
        };
        // SAFETY: passed on.
        unsafe { above.add::<A>(sources, except, len) };
        self.used = place + above.used;
        self.counted += sources.len() << place;
    }

    /// Adds one group, of a size that [`Counter::group`] gave, over the first `len` words of the tile.
    ///
    /// # Safety
    ///
    /// The processor has `A`; `len` is at most the tile, and every plane of every source has at least `len`
    /// words (`except` only if that is to be looked at).
    #[inline(always)]
    pub(crate) unsafe fn add<A: Arch>(&mut self, sources: &[Source<'_>], except: bool, len: usize) {
        let before = self.used;
        self.counted += sources.len();
        self.used = digits(self.counted);
        assert!(self.used * self.tile <= self.planes.len(), "more is counted than there is room for");
        // SAFETY: passed on.
        unsafe { A::add_group(self, before, sources, except, len) };
    }

    /// # Safety
    ///
    /// As for [`Counter::add`]; there are 2 to the power `K`, less 1, sources, and one more if `CARRY`, which
    /// stands for `before > 0`.
    #[inline(always)]
    unsafe fn add_group<A: Arch, const K: usize, const CARRY: bool, const EXCEPT: bool>(
        &mut self,
        before: usize,
        sources: &[Source<'_>],
        len: usize,
    ) {
        debug_assert!(
            sources.len() == (1 << K) - usize::from(!CARRY)
                && (before > 0) == CARRY
                && (K <= before || !CARRY)
        );
        let vectors = len - len % A::Bits::WORDS;
        let mut at = 0;
        // SAFETY: the processor has `A`; `at` stays far enough below `len`.
        unsafe {
            while at < vectors {
                self.add_at::<A::Bits, K, CARRY, EXCEPT>(before, sources, at);
                at += A::Bits::WORDS;
            }
            while at < len {
                self.add_at::<u64, K, CARRY, EXCEPT>(before, sources, at);
                at += 1;
            }
        }
    }

    /// # Safety
    ///
    /// As for [`Counter::add_group`]; there are `V::WORDS` words at `at`.
    #[inline(always)]
    unsafe fn add_at<V: Bits, const K: usize, const CARRY: bool, const EXCEPT: bool>(
        &mut self,
        before: usize,
        sources: &[Source<'_>],
        at: usize,
    ) {
        // SAFETY: the caller vouches for `V`, for `at` in the tile and the sources, and for the number of
        // sources; the planes in use have room, as `add` asserts.
        unsafe {
            let group = Group::<EXCEPT> { sources, at };
            let planes = self.planes.as_mut_ptr().cast::<u64>().add(at);
            let sum: [V; 4] = match K {
                0 => [V::splat(0); 4],
                1 => [group.load(0), V::splat(0), V::splat(0), V::splat(0)],
                2 => {
                    let [a, b] = group.sum_of_3(0);
                    [a, b, V::splat(0), V::splat(0)]
                }
                3 => {
                    let [a, b, c] = group.sum_of_7(0);
                    [a, b, c, V::splat(0)]
                }
                _ => group.sum_of_15(0),
            };
            if !CARRY {
                let mut k = 0;
                while k < K {
                    sum[k].store(planes.add(k * self.tile));
                    k += 1;
                }
                return;
            }
            let mut carry: V = group.load((1 << K) - 1);
            let mut k = 0;
            while k < K {
                let plane = planes.add(k * self.tile);
                let (digit, next) = full_adder(V::load(plane), sum[k], carry);
                digit.store(plane);
                carry = next;
                k += 1;
            }
            while k < before {
                let plane = planes.add(k * self.tile);
                let old = V::load(plane);
                old.xor(carry).store(plane);
                carry = old.and(carry);
                k += 1;
            }
            if before < self.used {
                carry.store(planes.add(before * self.tile));
            }
        }
    }
}

outlined! {
    /// A group added to a counter.
    pub(crate) trait AddGroup {
        fn add_group(counter: &mut Counter<'_>, before: usize, sources: &[Source<'_>], except: bool, len: usize) =
            add_group_body;
    }
}

/// # Safety
///
/// As for [`Counter::add`], whose accounts have been brought up to date; there were `before` planes before.
#[inline(always)]
unsafe fn add_group_body<A: Arch>(
    counter: &mut Counter<'_>,
    before: usize,
    sources: &[Source<'_>],
    except: bool,
    len: usize,
) {
    // SAFETY: passed on.
    unsafe {
        if except {
            add_group_except::<A, true>(counter, before, sources, len);
        } else {
            add_group_except::<A, false>(counter, before, sources, len);
        }
    }
}

/// # Safety
///
/// As for [`add_group_body`].
#[inline(always)]
unsafe fn add_group_except<A: Arch, const EXCEPT: bool>(
    counter: &mut Counter<'_>,
    before: usize,
    sources: &[Source<'_>],
    len: usize,
) {
    // SAFETY: passed on; the constants match the number of sources.
    unsafe {
        match (before, sources.len()) {
            (0, 1) => counter.add_group::<A, 1, false, EXCEPT>(before, sources, len),
            (0, 3) => counter.add_group::<A, 2, false, EXCEPT>(before, sources, len),
            (0, 7) => counter.add_group::<A, 3, false, EXCEPT>(before, sources, len),
            (0, 15) => counter.add_group::<A, 4, false, EXCEPT>(before, sources, len),
            (_, 1) => counter.add_group::<A, 0, true, EXCEPT>(before, sources, len),
            (_, 2) => counter.add_group::<A, 1, true, EXCEPT>(before, sources, len),
            (_, 4) => counter.add_group::<A, 2, true, EXCEPT>(before, sources, len),
            (_, 8) => counter.add_group::<A, 3, true, EXCEPT>(before, sources, len),
            (_, 16) => counter.add_group::<A, 4, true, EXCEPT>(before, sources, len),
            (_, other) => unreachable!("a group of {other} planes"),
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
struct Group<'a, const EXCEPT: bool> {
    sources: &'a [Source<'a>],
    at: usize,
}

/// # Safety
///
/// For all: the processor has `V`, there are that many sources from `first`, and `V::WORDS` words at `at` in
/// them.
impl<const EXCEPT: bool> Group<'_, EXCEPT> {
    #[inline(always)]
    unsafe fn load<V: Bits>(&self, source: usize) -> V {
        // SAFETY: the caller vouches for it.
        unsafe {
            let source = self.sources.get_unchecked(source);
            let set = V::load(source.set.as_ptr().add(self.at));
            if EXCEPT { set.without(V::load(source.except.as_ptr().add(self.at))) } else { set }
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
