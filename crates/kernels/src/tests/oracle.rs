//! Each operation as its documentation says it, one coordinate at a time, and nothing else.

use crate::{AbstainOn, Agreement, Ballot, Decided, Half, Packed, Tie, coin_word, words};

/// Bit `i` of a plane.
pub(crate) fn bit(plane: &[u64], i: usize) -> bool {
    plane[i / 64] >> (i % 64) & 1 == 1
}

/// The plane of `coordinates` bits that `bit_at` says.
pub(crate) fn plane(coordinates: usize, bit_at: impl Fn(usize) -> bool) -> Vec<u64> {
    let mut plane = vec![0; words(coordinates)];
    for i in 0..coordinates {
        plane[i / 64] |= u64::from(bit_at(i)) << (i % 64);
    }
    plane
}

pub(crate) fn pack(values: &[f32]) -> (Vec<u64>, Vec<u64>, Packed) {
    let votes = |v: f32| v.is_finite() && v != 0.0;
    let signs = plane(values.len(), |i| votes(values[i]) && values[i] < 0.0);
    let abstain = plane(values.len(), |i| !votes(values[i]));
    let abstained = values.iter().filter(|v| !votes(**v)).count();
    let non_finite = values.iter().filter(|v| !v.is_finite()).count();
    (signs, abstain, Packed { abstained, non_finite })
}

/// The value that those 16 bits stand for.
pub(crate) fn widen(format: Half, bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    match (format, exponent) {
        (Half::Bfloat16, _) => f32::from_bits(u32::from(bits) << 16),
        (Half::Binary16, 0) => sign * fraction * 2f32.powi(-24),
        (Half::Binary16, 31) if fraction == 0.0 => sign * f32::INFINITY,
        (Half::Binary16, 31) => f32::NAN,
        (Half::Binary16, _) => sign * (1024.0 + fraction) * 2f32.powi(exponent - 25),
    }
}

pub(crate) fn momentum_pack(
    gradient: &[f32],
    momentum: &mut [f32],
    beta: f32,
    abstain_on: AbstainOn,
) -> (Vec<u64>, Vec<u64>, Packed) {
    let rest = (1.0 - f64::from(beta)) as f32;
    let mut ballot = vec![0.0; gradient.len()];
    for (i, g) in gradient.iter().enumerate() {
        let kept = beta * momentum[i];
        let added = rest * g;
        let v = kept + added;
        if !g.is_finite() || !v.is_finite() {
            ballot[i] = f32::NAN;
            continue;
        }
        momentum[i] = v;
        ballot[i] = if abstain_on == AbstainOn::Gradient && *g == 0.0 { 0.0 } else { v };
    }
    pack(&ballot)
}

pub(crate) fn lion_pack(
    gradient: &[f32],
    momentum: &mut [f32],
    betas: (f32, f32),
    abstain_on: AbstainOn,
) -> (Vec<u64>, Vec<u64>, Packed) {
    let mean = |beta: f32, old: f32, new: f32| {
        let kept = beta * old;
        let added = (1.0 - f64::from(beta)) as f32 * new;
        kept + added
    };
    let mut ballot = vec![0.0; gradient.len()];
    for (i, g) in gradient.iter().enumerate() {
        let (c, m) = (mean(betas.0, momentum[i], *g), mean(betas.1, momentum[i], *g));
        if !g.is_finite() || !c.is_finite() || !m.is_finite() {
            ballot[i] = f32::NAN;
            continue;
        }
        momentum[i] = m;
        ballot[i] = if abstain_on == AbstainOn::Gradient && *g == 0.0 { 0.0 } else { c };
    }
    pack(&ballot)
}

pub(crate) fn unpack(signs: &[u64], abstain: Option<&[u64]>, coordinates: usize) -> Vec<f32> {
    let value = |i| match (abstain.is_some_and(|abstain| bit(abstain, i)), bit(signs, i)) {
        (true, _) => 0.0,
        (false, true) => -1.0,
        (false, false) => 1.0,
    };
    (0..coordinates).map(value).collect()
}

pub(crate) fn apply(x: &mut [f32], signs: &[u64], hold: Option<&[u64]>, eta: f32, lambda: f32) {
    let verdict = unpack(signs, hold, x.len());
    for (x, s) in x.iter_mut().zip(verdict) {
        let decay = lambda * *x;
        let direction = s + decay;
        let step = eta * direction;
        *x -= step;
    }
}

/// Positive and negative votes of each coordinate.
pub(crate) fn tally(ballots: &[Ballot<'_>], coordinates: usize) -> Vec<(usize, usize)> {
    let mut votes = vec![(0, 0); coordinates];
    for ballot in ballots {
        for (i, s) in unpack(ballot.signs, ballot.abstain, coordinates).into_iter().enumerate() {
            votes[i].0 += usize::from(s > 0.0);
            votes[i].1 += usize::from(s < 0.0);
        }
    }
    votes
}

pub(crate) fn decide(votes: &[(usize, usize)], tie: Tie, min_voters: u32) -> (Vec<u64>, Vec<u64>, Decided) {
    let tied = |i: usize| votes[i].0 == votes[i].1 && votes[i].0 > 0;
    let held = |i: usize| {
        let too_few = votes[i].0 + votes[i].1 < min_voters.max(1) as usize;
        too_few || (tied(i) && tie == Tie::Hold)
    };
    let negative = |i: usize| match tie {
        _ if held(i) => false,
        Tie::Coin(coin) if tied(i) => {
            coin_word(coin.key, coin.first_word.wrapping_add(i as u64 / 64)) >> (i % 64) & 1 == 1
        }
        _ => votes[i].1 > votes[i].0,
    };
    let count = |what: &dyn Fn(usize) -> bool| (0..votes.len()).filter(|i| what(*i)).count();
    let decided = Decided { ties: count(&tied), holds: count(&held) };
    (plane(votes.len(), negative), plane(votes.len(), held), decided)
}

pub(crate) fn agreement(ballot: Ballot<'_>, signs: &[u64], hold: &[u64], coordinates: usize) -> Agreement {
    let voted = unpack(ballot.signs, ballot.abstain, coordinates);
    let verdict = unpack(signs, Some(hold), coordinates);
    let count = |sign: f32| voted.iter().zip(&verdict).filter(|(v, s)| **v * **s == sign).count() as u64;
    Agreement { agree: count(1.0), disagree: count(-1.0) }
}

pub(crate) fn hamming(ballot: Ballot<'_>, signs: &[u64], hold: &[u64], coordinates: usize) -> u64 {
    let voted = unpack(ballot.signs, ballot.abstain, coordinates);
    let verdict = unpack(signs, Some(hold), coordinates);
    voted.iter().zip(&verdict).filter(|(v, s)| v != s).count() as u64
}

pub(crate) fn margins(votes: &[(usize, usize)]) -> Vec<u16> {
    votes.iter().map(|(positive, negative)| positive.abs_diff(*negative) as u16).collect()
}
