//! The verdict over all ballots at hand: [`decide`].
//!
//! # How
//!
//! A tile of words at a time, two counts per coordinate in bit planes (see `adder`): N, the votes that are
//! negative, and A, the abstentions. Of M ballots M − A vote, and the verdict is negative when N > (M − A)/2,
//! that is, when 2N + A > M: one comparison with a constant, done digit by digit on whole vectors. Equality
//! is a tie. Where a tile has no abstentions, A is not counted, and N is compared with ⌊M/2⌋.

use std::ops::Range;

use crate::adder::{Counter, GROUP, Room, Source, TILE_WORDS};
use crate::pack::check_planes;
use crate::plane::tail_mask;
use crate::vector::{Arch, Bits};
use crate::{Ballot, Isa};

/// What becomes of a coordinate with votes, but as many for each side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// A coin is thrown.
    Coin(Coin),
    /// No step.
    Hold,
    /// It counts as positive, as in the paper's own code: an idle coordinate then drifts.
    Positive,
}

/// The coins of one round, over a range of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coin {
    /// The round's key: the same for all parts of a model.
    pub key: u64,
    /// The index, in the whole model, of word 0 of the range at hand.
    pub first_word: u64,
}

/// SplitMix64's increment: 2⁶⁴ divided by the golden ratio, and odd.
pub(crate) const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// The multipliers of SplitMix64's finaliser.
pub(crate) const FINALISER: [u64; 2] = [0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB];

/// The 64 coins of a word of the model: 1 means negative.
///
/// It is SplitMix64's finaliser of `key + word × 0x9E3779B97F4A7C15` (modulo 2⁶⁴), in other words that
/// generator's output number `word` (counted from 0) when its state starts one increment before `key`, so
/// that any word can be had without those before it.
#[must_use]
pub const fn coin_word(key: u64, word: u64) -> u64 {
    let z = key.wrapping_add(word.wrapping_mul(GAMMA));
    let z = (z ^ (z >> 30)).wrapping_mul(FINALISER[0]);
    let z = (z ^ (z >> 27)).wrapping_mul(FINALISER[1]);
    z ^ (z >> 31)
}

/// What a verdict contains besides majorities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// Coordinates with as many votes for each side, and not none: whatever the policy made of them.
    pub ties: usize,
    /// Coordinates whose verdict is to hold.
    pub holds: usize,
}

/// A line of the cache.
pub(crate) const LINE_BYTES: usize = 64;

/// The most ballots of one verdict.
pub(crate) const MAX_BALLOTS: usize = 65_535;

/// The majority of all ballots, coordinate by coordinate.
///
/// With n negative votes and p positive ones:
///
/// | votes | `signs` | `hold` |
/// |---|---|---|
/// | n + p < max(1, `min_voters`) | 0 | 1 |
/// | n > p | 1 | 0 |
/// | n < p | 0 | 0 |
/// | n = p, [`Tie::Coin`] | the coin | 0 |
/// | n = p, [`Tie::Hold`] | 0 | 1 |
/// | n = p, [`Tie::Positive`] | 0 | 0 |
///
/// The order of the ballots does not matter. Sign bits under an abstention and tail bits of ballots are
/// ignored; tail bits of the verdict are zero. Without ballots all is held.
///
/// # Panics
///
/// If there are more than 65,535 ballots, or if any plane, of a ballot or of the verdict, is not exactly
/// [`words(coordinates)`](crate::words) long.
pub fn decide(
    ballots: &[Ballot<'_>],
    coordinates: usize,
    tie: Tie,
    min_voters: u32,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    decide_on(Isa::active(), ballots, coordinates, tie, min_voters, signs, hold)
}

/// [`decide()`] on that instruction set.
pub(crate) fn decide_on(
    isa: Isa,
    ballots: &[Ballot<'_>],
    coordinates: usize,
    tie: Tie,
    min_voters: u32,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    check(ballots, coordinates, signs, hold);
    decide_part_on(isa, ballots, 0, coordinates, tie, min_voters, signs, hold)
}

/// Panics as [`decide()`] does.
pub(crate) fn check(ballots: &[Ballot<'_>], coordinates: usize, signs: &[u64], hold: &[u64]) {
    assert!(ballots.len() <= MAX_BALLOTS, "expected at most {MAX_BALLOTS} ballots, got {}", ballots.len());
    check_planes(coordinates, signs, hold);
    for ballot in ballots {
        ballot.check(coordinates);
    }
}

kernel! {
    /// The verdict of a part: `coordinates` from word `from` of the ballots. The coin is that of the part.
    #[expect(clippy::too_many_arguments, reason = "those of `decide`, and where the part begins")]
    pub(crate) fn decide_part_on(
        ballots: &[Ballot<'_>],
        from: usize,
        coordinates: usize,
        tie: Tie,
        min_voters: u32,
        signs: &mut [u64],
        hold: &mut [u64],
    ) -> Decided = decide_part_body;
}

/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn decide_part_body<A: Arch>(
    ballots: &[Ballot<'_>],
    from: usize,
    coordinates: usize,
    tie: Tie,
    min_voters: u32,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    let rule = Rule { voters: ballots.len(), min_voters: usize::max(1, min_voters as usize), tie };
    // SAFETY: passed on; ballots that are too short panic where their words are taken.
    unsafe { decide_counts::<A, _>(&Equals { ballots, from }, &rule, coordinates, signs, hold) }
}

/// Those whose ballots are counted.
pub(crate) trait Voters {
    /// The most that the counts of negative votes and of abstentions can be.
    fn most(&self) -> [usize; 2];

    /// Counts the negative votes over a tile of words and, unless there are none in it, the abstentions.
    ///
    /// # Safety
    ///
    /// The processor has `A`; the counters have room for [`Voters::most`], the tile is no longer than theirs,
    /// and all planes of all ballots have those words.
    unsafe fn count<A: Arch>(
        &self,
        tile: Range<usize>,
        negatives: &mut Counter<'_>,
        abstentions: &mut Counter<'_>,
    );
}

/// The verdict of voters, a tile at a time.
///
/// # Safety
///
/// The processor has `A`; all planes of all ballots fit that many coordinates.
#[inline(always)]
pub(crate) unsafe fn decide_counts<A: Arch, E: Voters>(
    voters: &E,
    rule: &Rule,
    coordinates: usize,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    check_planes(coordinates, signs, hold);
    let mut room = Room::new();
    let [mut negatives, mut abstentions] = room.counters(voters.most());
    let mut decided = Decided::default();
    let mut first = 0;
    while first < signs.len() {
        // The first tile ends where the verdict meets a line of the cache, so that vectors of the later ones
        // straddle none: not in the verdict, and in the ballots neither, if they are allocated alike.
        let most = if first == 0 { lead(signs, negatives.tile()) } else { negatives.tile() };
        let len = usize::min(most, signs.len() - first);
        let last = if first + len == signs.len() { tail_mask(coordinates) } else { u64::MAX };
        negatives.clear();
        abstentions.clear();
        // SAFETY: the processor has `A`; `first..first + len` is within the verdict's planes, and those of
        // the ballots are as long.
        unsafe {
            voters.count::<A>(first..first + len, &mut negatives, &mut abstentions);
            let tile = Tile { rule, first, negatives: &negatives, abstentions: &abstentions };
            A::decide_tile(
                &tile,
                &mut signs[first..first + len],
                &mut hold[first..first + len],
                last,
                &mut decided,
            );
        }
        first += len;
    }
    decided
}

/// The words before the first that begins a line of the cache, or a whole tile if that is the first of all.
fn lead(plane: &[u64], tile: usize) -> usize {
    match plane.as_ptr().align_offset(LINE_BYTES) {
        0 => tile,
        words => usize::min(words, tile),
    }
}

/// The plane of a tile without abstentions.
pub(crate) static NONE: [u64; TILE_WORDS] = [0; TILE_WORDS];

/// One vote each.
pub(crate) struct Equals<'a> {
    pub(crate) ballots: &'a [Ballot<'a>],
    /// The word of the ballots that tiles count from.
    pub(crate) from: usize,
}

impl Voters for Equals<'_> {
    fn most(&self) -> [usize; 2] {
        [self.ballots.len(), self.ballots.iter().filter(|ballot| ballot.abstain.is_some()).count()]
    }

    #[inline(always)]
    unsafe fn count<A: Arch>(
        &self,
        tile: Range<usize>,
        negatives: &mut Counter<'_>,
        abstentions: &mut Counter<'_>,
    ) {
        let tile = self.from + tile.start..self.from + tile.end;
        // SAFETY: passed on.
        unsafe { count_at_place::<A, _>(self.ballots.iter(), tile, 0, negatives, abstentions) };
    }
}

/// Counts votes and abstentions that are worth 2 to the power `place` each.
///
/// # Safety
///
/// As for [`Voters::count`].
#[inline(always)]
pub(crate) unsafe fn count_at_place<'a, A: Arch, I: Iterator<Item = &'a Ballot<'a>> + Clone>(
    mut ballots: I,
    tile: Range<usize>,
    place: usize,
    negatives: &mut Counter<'_>,
    abstentions: &mut Counter<'_>,
) {
    let len = tile.len();
    let abstains = |ballot: &Ballot<'_>| ballot.abstain.is_some_and(|plane| any(&plane[tile.clone()]));
    let dense = !ballots.clone().any(abstains);
    let mut planes = ballots.clone().filter_map(|ballot| ballot.abstain);
    let mut left = ballots.clone().count();
    while left > 0 {
        let group = negatives.group(place, left);
        let mut sources = [Source { set: &[], except: &[] }; GROUP];
        for (source, ballot) in sources[..group].iter_mut().zip(&mut ballots) {
            source.set = &ballot.signs[tile.clone()];
            source.except = ballot.abstain.map_or(&NONE[..len], |plane| &plane[tile.clone()]);
        }
        // SAFETY: the caller vouches for `A`; each slice has `len` words.
        unsafe { negatives.add_at_place::<A>(place, &sources[..group], !dense, len) };
        left -= group;
    }
    if dense {
        return;
    }
    let mut left = planes.clone().count();
    while left > 0 {
        let group = abstentions.group(place, left);
        let mut sources = [Source { set: &[], except: &[] }; GROUP];
        for (source, plane) in sources[..group].iter_mut().zip(&mut planes) {
            source.set = &plane[tile.clone()];
        }
        // SAFETY: the caller vouches for `A`; each `set` has `len` words.
        unsafe { abstentions.add_at_place::<A>(place, &sources[..group], false, len) };
        left -= group;
    }
}

/// Whether any bit is set. Without an early end, so that the compiler makes vectors of it: the plane is read
/// anyway.
#[inline(always)]
pub(crate) fn any(plane: &[u64]) -> bool {
    let mut bits = 0;
    for word in plane {
        bits |= word;
    }
    bits != 0
}

/// What makes counts a verdict.
pub(crate) struct Rule {
    pub(crate) voters: usize,
    /// At least 1.
    pub(crate) min_voters: usize,
    pub(crate) tie: Tie,
}

/// The counts over one tile, whose first word is word `first` of the range.
pub(crate) struct Tile<'a> {
    pub(crate) rule: &'a Rule,
    pub(crate) first: usize,
    pub(crate) negatives: &'a Counter<'a>,
    pub(crate) abstentions: &'a Counter<'a>,
}

/// The outcome of a comparison of counts with a constant.
#[derive(Clone, Copy)]
struct Comparison<V> {
    greater: V,
    equal: V,
}

impl<V: Bits> Comparison<V> {
    /// # Safety
    ///
    /// The processor has `V`.
    #[inline(always)]
    unsafe fn start() -> Self {
        // SAFETY: the caller vouches for `V`.
        unsafe { Comparison { greater: V::splat(0), equal: V::splat(u64::MAX) } }
    }

    /// Takes in the next digit, from the least significant up, of the counts and of the constant.
    ///
    /// # Safety
    ///
    /// The processor has `V`.
    #[inline(always)]
    unsafe fn digit(self, count: V, constant: usize, place: usize) -> Self {
        // SAFETY: the caller vouches for `V`.
        unsafe {
            let differs = count.xor(V::splat(0u64.wrapping_sub((constant >> place) as u64 & 1)));
            Comparison { greater: differs.select(count, self.greater), equal: self.equal.without(differs) }
        }
    }

    /// Accounts for the digits of the constant from `places` up, where the counts have none.
    ///
    /// # Safety
    ///
    /// The processor has `V`.
    #[inline(always)]
    unsafe fn end(self, constant: usize, places: usize) -> Self {
        match constant >> places {
            0 => self,
            // SAFETY: the caller vouches for `V`.
            _ => unsafe { Comparison { greater: V::splat(0), equal: V::splat(0) } },
        }
    }
}

outlined! {
    /// The verdict over one tile.
    pub(crate) trait DecideTile {
        fn decide_tile(tile: &Tile<'_>, signs: &mut [u64], hold: &mut [u64], last: u64, decided: &mut Decided) =
            decide_tile_body;
    }
}

/// # Safety
///
/// As for [`Tile::decide`].
#[inline(always)]
unsafe fn decide_tile_body<A: Arch>(
    tile: &Tile<'_>,
    signs: &mut [u64],
    hold: &mut [u64],
    last: u64,
    decided: &mut Decided,
) {
    // SAFETY: passed on.
    unsafe { tile.decide::<A>(signs, hold, last, decided) }
}

impl Tile<'_> {
    /// Writes the verdict over this tile and counts what is in it. `last` are the valid bits of its last
    /// word.
    ///
    /// # Safety
    ///
    /// The processor has `A`; both slices are equally long, not empty, and not longer than what was counted.
    #[inline(always)]
    unsafe fn decide<A: Arch>(&self, signs: &mut [u64], hold: &mut [u64], last: u64, decided: &mut Decided) {
        let Rule { voters, min_voters, .. } = *self.rule;
        let dense = self.abstentions.used() == 0;
        // Nothing is ever tied or held here: the commonest case of all, without coins and without counting.
        let closed = dense && voters % 2 == 1 && voters >= min_voters;
        // SAFETY: passed on.
        unsafe {
            match (dense, closed) {
                (true, true) => self.decide_with::<A, true, false>(signs, hold, last, decided),
                (true, false) => self.decide_with::<A, true, true>(signs, hold, last, decided),
                (false, _) => self.decide_with::<A, false, true>(signs, hold, last, decided),
            }
        }
    }

    /// # Safety
    ///
    /// As for [`Tile::decide`]; `DENSE` only without abstentions; no coordinate is tied or held unless
    /// `OPEN`.
    #[inline(always)]
    unsafe fn decide_with<A: Arch, const DENSE: bool, const OPEN: bool>(
        &self,
        signs: &mut [u64],
        hold: &mut [u64],
        last: u64,
        decided: &mut Decided,
    ) {
        let whole = if last == u64::MAX { signs.len() } else { signs.len() - 1 };
        let vectors = whole - whole % A::Bits::WORDS;
        let (signs_at, hold_at) = (signs.as_mut_ptr(), hold.as_mut_ptr());
        let mut at = 0;
        // SAFETY: the processor has `A`; `at` stays far enough below the length.
        unsafe {
            while at < vectors {
                self.decide_at::<A::Bits, DENSE, OPEN>(at, u64::MAX, signs_at, hold_at, decided);
                at += A::Bits::WORDS;
            }
            while at < whole {
                self.decide_at::<u64, DENSE, OPEN>(at, u64::MAX, signs_at, hold_at, decided);
                at += 1;
            }
            if at < signs.len() {
                self.decide_at::<u64, DENSE, OPEN>(at, last, signs_at, hold_at, decided);
            }
        }
    }

    /// # Safety
    ///
    /// As for [`Tile::decide_with`]; there are `V::WORDS` words at `at` in the tile and the planes.
    #[inline(always)]
    unsafe fn decide_at<V: Bits, const DENSE: bool, const OPEN: bool>(
        &self,
        at: usize,
        valid: u64,
        signs: *mut u64,
        hold: *mut u64,
        decided: &mut Decided,
    ) {
        // SAFETY: the caller vouches for `V` and for `at`.
        unsafe {
            let (valid, zero) = (V::splat(valid), V::splat(0));
            let majority = if DENSE { self.compare_dense(at) } else { self.compare_sparse(at) };
            let mut negative = majority.greater;
            let mut held = zero;
            if OPEN {
                let (tied, too_few) = self.ties_and_holds::<V, DENSE>(at, majority.equal);
                held = too_few;
                match self.rule.tie {
                    Tie::Coin(coin) => {
                        let word = coin.first_word.wrapping_add((self.first + at) as u64);
                        negative = negative.or(tied.and(V::coin(coin.key, word)));
                    }
                    Tie::Hold => held = held.or(tied),
                    Tie::Positive => {}
                }
                held = held.and(valid);
                negative = negative.without(held);
                decided.ties += tied.and(valid).count_ones();
                decided.holds += held.count_ones();
            }
            negative.and(valid).store(signs.add(at));
            held.store(hold.add(at));
        }
    }

    /// Compares N with M/2. For odd M nothing is equal to it.
    ///
    /// # Safety
    ///
    /// As for [`Tile::decide_at`].
    #[inline(always)]
    unsafe fn compare_dense<V: Bits>(&self, at: usize) -> Comparison<V> {
        let (half, places) = (self.rule.voters / 2, self.negatives.used());
        // SAFETY: the caller vouches for `V` and for `at`.
        unsafe {
            let mut result = Comparison::start();
            for place in 0..places {
                result = result.digit(self.negatives.plane(place, at), half, place);
            }
            if self.rule.voters % 2 == 1 {
                result.equal = V::splat(0);
            }
            result
        }
    }

    /// Compares 2N + A with M.
    ///
    /// # Safety
    ///
    /// As for [`Tile::decide_at`].
    #[inline(always)]
    unsafe fn compare_sparse<V: Bits>(&self, at: usize) -> Comparison<V> {
        let (voters, places, abstentions) =
            (self.rule.voters, self.negatives.used(), self.abstentions.used());
        // SAFETY: the caller vouches for `V` and for `at`. The sum is at most 2M, and so has at most one
        // digit more than N: what would be carried out of that one is 0.
        unsafe {
            let mut result = Comparison::start().digit(self.abstentions.plane(0, at), voters, 0);
            let mut carry = V::splat(0);
            for place in 1..=places {
                let twice = self.negatives.plane::<V>(place - 1, at);
                let once = if place < abstentions { self.abstentions.plane(place, at) } else { V::splat(0) };
                result = result.digit(twice.xor3(once, carry), voters, place);
                carry = twice.majority(once, carry);
            }
            result
        }
    }

    /// Where there is a tie with votes, given where 2N + A = M; and where there are too few votes.
    ///
    /// # Safety
    ///
    /// As for [`Tile::decide_at`].
    #[inline(always)]
    unsafe fn ties_and_holds<V: Bits, const DENSE: bool>(&self, at: usize, balanced: V) -> (V, V) {
        let Rule { voters, min_voters, .. } = *self.rule;
        // SAFETY: the caller vouches for `V` and for `at`.
        unsafe {
            let [none, all] = [V::splat(0), V::splat(u64::MAX)];
            if DENSE {
                return (
                    if voters == 0 { none } else { balanced },
                    if voters < min_voters { all } else { none },
                );
            }
            let nobody = self.compare_abstentions(at, voters).equal;
            let too_few = match voters.checked_sub(min_voters) {
                None => all,
                Some(_) if min_voters == 1 => nobody,
                Some(most) => self.compare_abstentions(at, most).greater,
            };
            (balanced.without(nobody), too_few)
        }
    }

    /// Compares A with a constant.
    ///
    /// # Safety
    ///
    /// As for [`Tile::decide_at`].
    #[inline(always)]
    unsafe fn compare_abstentions<V: Bits>(&self, at: usize, constant: usize) -> Comparison<V> {
        let places = self.abstentions.used();
        // SAFETY: the caller vouches for `V` and for `at`.
        unsafe {
            let mut result = Comparison::start();
            for place in 0..places {
                result = result.digit(self.abstentions.plane(place, at), constant, place);
            }
            result.end(constant, places)
        }
    }
}
