//! Each kernel as anybody would write it at first: one coordinate at a time, in the order of the documentation.
//!
//! These are what the kernels are compared with, both in time and in every bit of the answer. Nothing here is
//! made slow on purpose: votes are added rather than branched on, and a plane is addressed by shifts.

use signvote_kernels::{AbstainOn, Agreement, Ballot, Coin, Decided, Half, Packed, Tie, coin_word};

/// Bit `i` of a plane.
fn bit(plane: &[u64], i: usize) -> bool {
    plane[i / 64] >> (i % 64) & 1 == 1
}

/// Whether the voter votes in coordinate `i`, or the verdict does not hold.
fn speaks(silent: Option<&[u64]>, i: usize) -> bool {
    silent.is_none_or(|plane| !bit(plane, i))
}

/// −1, +1, or 0 where nothing is said.
fn value(signs: &[u64], silent: Option<&[u64]>, i: usize) -> f32 {
    match (speaks(silent, i), bit(signs, i)) {
        (false, _) => 0.0,
        (true, true) => -1.0,
        (true, false) => 1.0,
    }
}

pub(super) fn copy(from: &[f32], to: &mut [f32]) {
    for (from, to) in from.iter().zip(to) {
        *to = *from;
    }
}

/// Planes in the making.
struct Planes<'a> {
    signs: &'a mut [u64],
    other: &'a mut [u64],
}

impl<'a> Planes<'a> {
    fn new(signs: &'a mut [u64], other: &'a mut [u64]) -> Self {
        signs.fill(0);
        other.fill(0);
        Self { signs, other }
    }

    fn set(&mut self, i: usize, negative: bool, other: bool) {
        self.signs[i / 64] |= u64::from(negative) << (i % 64);
        self.other[i / 64] |= u64::from(other) << (i % 64);
    }

    /// Sets the vote of a value, or of none if it is not finite.
    fn vote(&mut self, i: usize, value: Option<f32>, packed: &mut Packed) {
        let vote = value.unwrap_or(0.0);
        self.set(i, vote < 0.0, vote == 0.0);
        packed.abstained += usize::from(vote == 0.0);
        packed.non_finite += usize::from(value.is_none());
    }
}

fn finite(value: f32) -> Option<f32> {
    value.is_finite().then_some(value)
}

pub(super) fn pack(values: &[f32], signs: &mut [u64], abstain: &mut [u64]) -> Packed {
    let (mut planes, mut packed) = (Planes::new(signs, abstain), Packed::default());
    for (i, value) in values.iter().enumerate() {
        planes.vote(i, finite(*value), &mut packed);
    }
    packed
}

pub(super) fn signs(values: &[f32], signs: &mut [u64]) {
    signs.fill(0);
    for (i, value) in values.iter().enumerate() {
        signs[i / 64] |= u64::from(value.is_sign_negative()) << (i % 64);
    }
}

pub(super) fn pack_half(format: Half, values: &[u16], signs: &mut [u64], abstain: &mut [u64]) -> Packed {
    let exponent = match format {
        Half::Binary16 => 0x7C00,
        Half::Bfloat16 => 0x7F80,
    };
    let (mut planes, mut packed) = (Planes::new(signs, abstain), Packed::default());
    for (i, value) in values.iter().enumerate() {
        let non_finite = value & exponent == exponent;
        let abstains = non_finite || value & 0x7FFF == 0;
        planes.set(i, value >> 15 == 1 && !abstains, abstains);
        packed.abstained += usize::from(abstains);
        packed.non_finite += usize::from(non_finite);
    }
    packed
}

/// The mean that β and 1 − β make of the old and the new value.
fn mean(beta: f32, old: f32, new: f32) -> f32 {
    let rest = (1.0 - f64::from(beta)) as f32;
    beta * old + rest * new
}

pub(super) fn momentum_pack(
    gradient: &[f32],
    momentum: &mut [f32],
    beta: f32,
    abstain_on: AbstainOn,
    signs: &mut [u64],
    abstain: &mut [u64],
) -> Packed {
    let (mut planes, mut packed) = (Planes::new(signs, abstain), Packed::default());
    for (i, g) in gradient.iter().enumerate() {
        let new = mean(beta, momentum[i], *g);
        if !g.is_finite() || !new.is_finite() {
            planes.vote(i, None, &mut packed);
            continue;
        }
        momentum[i] = new;
        let silent = abstain_on == AbstainOn::Gradient && *g == 0.0;
        planes.vote(i, Some(if silent { 0.0 } else { new }), &mut packed);
    }
    packed
}

pub(super) fn lion_pack(
    gradient: &[f32],
    momentum: &mut [f32],
    (beta_1, beta_2): (f32, f32),
    abstain_on: AbstainOn,
    signs: &mut [u64],
    abstain: &mut [u64],
) -> Packed {
    let (mut planes, mut packed) = (Planes::new(signs, abstain), Packed::default());
    for (i, g) in gradient.iter().enumerate() {
        let (vote, new) = (mean(beta_1, momentum[i], *g), mean(beta_2, momentum[i], *g));
        if !g.is_finite() || !vote.is_finite() || !new.is_finite() {
            planes.vote(i, None, &mut packed);
            continue;
        }
        momentum[i] = new;
        let silent = abstain_on == AbstainOn::Gradient && *g == 0.0;
        planes.vote(i, Some(if silent { 0.0 } else { vote }), &mut packed);
    }
    packed
}

pub(super) fn unpack(signs: &[u64], abstain: Option<&[u64]>, out: &mut [f32]) {
    for (i, out) in out.iter_mut().enumerate() {
        *out = value(signs, abstain, i);
    }
}

pub(super) fn apply(x: &mut [f32], signs: &[u64], hold: Option<&[u64]>, eta: f32, lambda: f32) {
    for (i, x) in x.iter_mut().enumerate() {
        *x -= eta * (value(signs, hold, i) + lambda * *x);
    }
}

pub(super) fn agreement(ballot: Ballot<'_>, signs: &[u64], hold: &[u64], coordinates: usize) -> Agreement {
    let mut agreement = Agreement::default();
    for i in 0..coordinates {
        let both = speaks(ballot.abstain, i) & speaks(Some(hold), i);
        let equal = bit(ballot.signs, i) == bit(signs, i);
        agreement.agree += u64::from(both & equal);
        agreement.disagree += u64::from(both & !equal);
    }
    agreement
}

pub(super) fn hamming(ballot: Ballot<'_>, signs: &[u64], hold: &[u64], coordinates: usize) -> u64 {
    let mut distance = 0;
    for i in 0..coordinates {
        let (voted, decided) = (speaks(ballot.abstain, i), speaks(Some(hold), i));
        let opposite = bit(ballot.signs, i) != bit(signs, i);
        distance += u64::from((voted != decided) | (voted & decided & opposite));
    }
    distance
}

pub(super) fn canonicalise(signs: &mut [u64], abstain: Option<&mut [u64]>, coordinates: usize) {
    let clear = |plane: &mut [u64], i: usize, so: bool| plane[i / 64] &= !(u64::from(so) << (i % 64));
    let mut abstain = abstain;
    for i in 0..64 * signs.len() {
        let mut silent = i >= coordinates;
        if let Some(abstain) = abstain.as_deref_mut() {
            clear(abstain, i, silent);
            silent |= bit(abstain, i);
        }
        clear(signs, i, silent);
    }
}

/// Positive and negative votes in coordinate `i`, where ballot m counts `weight(m)` times.
fn count(ballots: &[Ballot<'_>], weight: impl Fn(usize) -> u32, i: usize) -> (u32, u32) {
    let (mut voted, mut negative) = (0, 0);
    for (m, ballot) in ballots.iter().enumerate() {
        let votes = speaks(ballot.abstain, i);
        voted += u32::from(votes) * weight(m);
        negative += u32::from(votes & bit(ballot.signs, i)) * weight(m);
    }
    (voted - negative, negative)
}

pub(super) fn margins(ballots: &[Ballot<'_>], coordinates: usize, out: &mut [u16]) {
    for (i, out) in out.iter_mut().enumerate().take(coordinates) {
        let (positive, negative) = count(ballots, |_| 1, i);
        *out = positive.abs_diff(negative) as u16;
    }
}

pub(super) fn margin_histogram(margins: &[u16], bins: &mut [u64]) {
    for margin in margins {
        let last = bins.len() - 1;
        bins[usize::min(usize::from(*margin), last)] += 1;
    }
}

pub(super) fn decide(
    ballots: &[Ballot<'_>],
    coordinates: usize,
    tie: Tie,
    min_voters: u32,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    let counts = |i| count(ballots, |_| 1, i);
    majority(coordinates, counts, tie, min_voters, Planes::new(signs, hold))
}

pub(super) fn decide_weighted(
    ballots: &[Ballot<'_>],
    weights: &[u16],
    coordinates: usize,
    tie: Tie,
    min_weight: u32,
    signs: &mut [u64],
    hold: &mut [u64],
) -> Decided {
    let counts = |i| count(ballots, |m| u32::from(weights[m]), i);
    majority(coordinates, counts, tie, min_weight, Planes::new(signs, hold))
}

fn majority(
    coordinates: usize,
    counts: impl Fn(usize) -> (u32, u32),
    tie: Tie,
    fewest: u32,
    mut planes: Planes<'_>,
) -> Decided {
    let mut decided = Decided::default();
    for i in 0..coordinates {
        let (positive, negative) = counts(i);
        let tied = positive == negative && positive > 0;
        let held = positive + negative < fewest.max(1) || (tied && tie == Tie::Hold);
        let is_negative = match tie {
            _ if !tied => negative > positive,
            Tie::Coin(Coin { key, first_word }) => {
                coin_word(key, first_word.wrapping_add(i as u64 / 64)) >> (i % 64) & 1 == 1
            }
            Tie::Hold | Tie::Positive => false,
        };
        planes.set(i, is_negative && !held, held);
        decided.ties += usize::from(tied);
        decided.holds += usize::from(held);
    }
    decided
}
