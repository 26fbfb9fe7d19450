//! The verdict over all ballots at hand: [`decide`].
//!
//! # How
//!
//! In one pass, a vector of words at a time, two counts per coordinate in bit planes (see `adder`): N, the votes
//! that are negative, and A, the abstentions. Of M ballots M − A vote, and the verdict is negative when
//! N > (M − A)/2, that is, when 2N + A > M: one comparison with a constant, done digit by digit on whole
//! vectors. Equality is a tie. Where nobody can abstain, N is compared with ⌊M/2⌋.

use crate::adder::{Kept, Plan, Side, Take, TakeSum, Taken, WORDS_AHEAD, pass, pass_sole};
use crate::electorate::{Electorate, Finish};
use crate::pack::check_planes;
use crate::plane::tail_mask;
use crate::vector::{Arch, Bits, prefetch_vector};
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
    let electorate = Electorate { ballots, weights: None, from: 0 };
    let rule = Rule { voters: ballots.len(), min_voters, tie };
    decide_part_on(isa, &electorate, rule, coordinates, signs, hold)
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
    /// The verdict over as many coordinates of an electorate. The coin is that of the first of them.
    pub(crate) fn decide_part_on(
        electorate: &Electorate<'_>,
        rule: Rule,
        coordinates: usize,
        signs: &mut [u64],
        hold: &mut [u64],
    ) -> Decided = decide_part_body;
}

/// # Safety
///
/// The processor has `A`.
#[inline(always)]
unsafe fn decide_part_body<A: Arch>(
    electorate: &Electorate<'_>,
    rule: Rule,
    coordinates: usize,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    let mut verdict = Verdict::new(rule, coordinates, signs, hold);
    // SAFETY: passed on; ballots that are too short panic where their words are taken.
    unsafe { electorate.count::<A, _>(verdict.signs.len(), &mut verdict) };
    verdict.decided
}

/// What makes counts a verdict.
#[derive(Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) voters: usize,
    /// 0 is taken for 1.
    pub(crate) min_voters: u32,
    pub(crate) tie: Tie,
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

/// The verdict that is being written, as far as it is decided.
pub(crate) struct Verdict<'a> {
    rule: Rule,
    min_voters: usize,
    signs: &'a mut [u64],
    hold: &'a mut [u64],
    /// The word that a pass begins at.
    first: usize,
    /// The valid bits of the last word.
    last: u64,
    decided: Decided,
}

impl<'a> Verdict<'a> {
    /// Panics if either plane does not fit that many coordinates.
    pub(crate) fn new(
        rule: Rule,
        coordinates: usize,
        signs: &'a mut [u64],
        hold: &'a mut [u64],
    ) -> Verdict<'a> {
        check_planes(coordinates, signs, hold);
        let min_voters = usize::max(1, rule.min_voters as usize);
        let last = tail_mask(coordinates);
        Verdict { rule, min_voters, signs, hold, first: 0, last, decided: Decided::default() }
    }

    /// Whether without abstentions nothing is ever tied or held: the commonest case of all.
    fn closed(&self) -> bool {
        self.rule.voters % 2 == 1 && self.rule.voters >= self.min_voters
    }

    /// What is in it so far.
    pub(crate) fn decided(&self) -> Decided {
        self.decided
    }
}

impl Finish for Verdict<'_> {
    #[inline(always)]
    unsafe fn finish<A: Arch>(&mut self, first: usize, plan: &Plan<'_>, kept: &Kept<'_>, lead: usize) {
        assert!(first + plan.words() <= self.signs.len(), "the verdict's words");
        self.first = first;
        // SAFETY: passed on.
        unsafe { A::decide_pass(plan, kept, lead, self) };
    }
}

outlined! {
    /// A pass that decides.
    pub(crate) trait DecidePass {
        fn decide_pass(plan: &Plan<'_>, kept: &Kept<'_>, lead: usize, verdict: &mut Verdict<'_>) = decide_pass_body;
    }
}

/// # Safety
///
/// As for [`pass`]; the verdict has as many words as the plan from its first.
#[inline(always)]
unsafe fn decide_pass_body<A: Arch>(
    plan: &Plan<'_>,
    kept: &Kept<'_>,
    lead: usize,
    verdict: &mut Verdict<'_>,
) {
    // A last word that is cut short is taken alone.
    let cut = verdict.first + plan.words() == verdict.signs.len() && verdict.last != u64::MAX;
    let end = plan.words() - usize::from(cut);
    // SAFETY: passed on.
    unsafe {
        if plan.is_sole() && verdict.closed() {
            pass_sole::<A, _>(plan, lead..end, verdict);
        } else {
            pass::<A, _>(plan, kept, lead..end, verdict);
        }
    }
}

impl TakeSum for Verdict<'_> {
    #[inline(always)]
    unsafe fn take_sum<V: Bits, const K: usize>(&mut self, at: usize, sum: [V; K]) {
        let at = self.first + at;
        // SAFETY: the caller vouches for `V`, and `finish` for the words of the verdict.
        unsafe {
            let mut majority = Comparison::start();
            for (place, digit) in sum.into_iter().enumerate() {
                majority = majority.digit(digit, self.rule.voters / 2, place);
            }
            let valid = if at + 1 == self.signs.len() { self.last } else { u64::MAX };
            self.store(at, majority.greater.and(V::splat(valid)), V::splat(0));
        }
    }
}

impl Take for Verdict<'_> {
    #[inline(always)]
    unsafe fn take<V: Bits>(&mut self, at: usize, vectors: usize, counts: &Taken<'_>) {
        // SAFETY: passed on.
        unsafe {
            match (counts.used(Side::Abstentions), self.closed()) {
                (0, true) => self.take_with::<V, true, false>(at, vectors, counts),
                (0, false) => self.take_with::<V, true, true>(at, vectors, counts),
                _ => self.take_with::<V, false, true>(at, vectors, counts),
            }
        }
    }
}

/// # Safety
///
/// For all: the processor has `V`, and that vector was counted, the counts are `DENSE` if there are no
/// abstentions, and some coordinate may be tied or held only if `OPEN`.
impl Verdict<'_> {
    #[inline(always)]
    unsafe fn take_with<V: Bits, const DENSE: bool, const OPEN: bool>(
        &mut self,
        at: usize,
        vectors: usize,
        counts: &Taken<'_>,
    ) {
        let first = self.first + at;
        // SAFETY: the caller vouches for `V`, and `finish` for the words of the verdict.
        unsafe {
            let zero = V::splat(0);
            let (mut ties, mut holds) = (zero, zero);
            for vector in 0..vectors {
                let word = vector * V::WORDS;
                let at = first + word;
                // Only a word that is taken alone can be cut short.
                let valid = V::splat(if at + 1 == self.signs.len() { self.last } else { u64::MAX });
                let majority: Comparison<V> = match DENSE {
                    true => self.compare_dense(counts, word),
                    false => self.compare_sparse(counts, word),
                };
                let mut negative = majority.greater;
                let mut held = zero;
                if OPEN {
                    let (tied, too_few) = self.ties_and_holds::<V, DENSE>(counts, word, majority.equal);
                    held = too_few;
                    match self.rule.tie {
                        Tie::Coin(coin) => {
                            let word = coin.first_word.wrapping_add(at as u64);
                            negative = negative.or(tied.and(V::coin(coin.key, word)));
                        }
                        Tie::Hold => held = held.or(tied),
                        Tie::Positive => {}
                    }
                    held = held.and(valid);
                    negative = negative.without(held);
                    ties = tied.and(valid).add_ones(ties);
                    if !DENSE || self.rule.tie == Tie::Hold || self.rule.voters < self.min_voters {
                        holds = held.add_ones(holds);
                    }
                }
                self.store(at, negative.and(valid), held);
            }
            if OPEN {
                self.decided.ties += ties.total();
                self.decided.holds += holds.total();
            }
        }
    }

    /// Writes the words from `at`, and asks for those to be written later: a store that misses the cache holds up
    /// those after it.
    #[inline(always)]
    unsafe fn store<V: Bits>(&mut self, at: usize, signs: V, hold: V) {
        let (to_signs, to_hold) = (self.signs.as_mut_ptr(), self.hold.as_mut_ptr());
        prefetch_vector::<V>(to_signs.wrapping_add(at + WORDS_AHEAD));
        prefetch_vector::<V>(to_hold.wrapping_add(at + WORDS_AHEAD));
        // SAFETY: the caller vouches for `V` and for the words.
        unsafe {
            signs.store(to_signs.add(at));
            hold.store(to_hold.add(at));
        }
    }

    /// Compares N with M/2. For odd M nothing is equal to it.
    #[inline(always)]
    unsafe fn compare_dense<V: Bits>(&self, counts: &Taken<'_>, word: usize) -> Comparison<V> {
        let (half, places) = (self.rule.voters / 2, counts.used(Side::Negatives));
        // SAFETY: the caller vouches for `V`.
        unsafe {
            let mut result = Comparison::start();
            for place in 0..places {
                result = result.digit(counts.plane(Side::Negatives, place, word), half, place);
            }
            if self.rule.voters % 2 == 1 {
                result.equal = V::splat(0);
            }
            result
        }
    }

    /// Compares 2N + A with M.
    #[inline(always)]
    unsafe fn compare_sparse<V: Bits>(&self, counts: &Taken<'_>, word: usize) -> Comparison<V> {
        let (voters, places, abstentions) =
            (self.rule.voters, counts.used(Side::Negatives), counts.used(Side::Abstentions));
        // SAFETY: the caller vouches for `V`. The sum is at most 2M, and so has at most one digit more than N:
        // what would be carried out of that one is 0.
        unsafe {
            let mut result = Comparison::start().digit(counts.plane(Side::Abstentions, 0, word), voters, 0);
            let mut carry = V::splat(0);
            for place in 1..=places {
                let twice = counts.plane::<V>(Side::Negatives, place - 1, word);
                let once = match place < abstentions {
                    true => counts.plane(Side::Abstentions, place, word),
                    false => V::splat(0),
                };
                result = result.digit(twice.xor3(once, carry), voters, place);
                carry = twice.majority(once, carry);
            }
            result
        }
    }

    /// Where there is a tie with votes, given where 2N + A = M; and where there are too few votes.
    #[inline(always)]
    unsafe fn ties_and_holds<V: Bits, const DENSE: bool>(
        &self,
        counts: &Taken<'_>,
        word: usize,
        balanced: V,
    ) -> (V, V) {
        let (voters, min_voters) = (self.rule.voters, self.min_voters);
        // SAFETY: the caller vouches for `V`.
        unsafe {
            let [none, all] = [V::splat(0), V::splat(u64::MAX)];
            if DENSE {
                return (
                    if voters == 0 { none } else { balanced },
                    if voters < min_voters { all } else { none },
                );
            }
            let nobody = compare_abstentions(counts, word, voters).equal;
            let too_few = match voters.checked_sub(min_voters) {
                None => all,
                Some(_) if min_voters == 1 => nobody,
                Some(most) => compare_abstentions(counts, word, most).greater,
            };
            (balanced.without(nobody), too_few)
        }
    }
}

/// Compares A with a constant.
///
/// # Safety
///
/// The processor has `V`, and that vector was counted.
#[inline(always)]
unsafe fn compare_abstentions<V: Bits>(counts: &Taken<'_>, word: usize, constant: usize) -> Comparison<V> {
    let places = counts.used(Side::Abstentions);
    // SAFETY: the caller vouches for `V`.
    unsafe {
        let mut result = Comparison::start();
        for place in 0..places {
            result = result.digit(counts.plane(Side::Abstentions, place, word), constant, place);
        }
        result.end(constant, places)
    }
}
