//! What is made of what the workers send, and the votes that are not the plain one.

use std::fmt;
use std::str::FromStr;

use signvote_kernels::{Ballot, Decided, Tie, decide, decide_weighted, tail_mask, words};

use super::lie::sums;
use crate::Error;
use crate::aggregate::Rule;
use crate::compress::Compressor;

/// What becomes of the workers' messages.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Method {
    /// The election of the network: one worker, one vote.
    Vote,
    /// A vote in which who contradicts the larger camp is turned round: see [`Camps`].
    Camps,
    /// A vote weighted by reliabilities that are learnt from round to round: see [`Reliability`].
    Weighted,
    /// A vote with error feedback at the server, s = sign(v̄ + e), e ← clip(v̄ + e − s, ±bound), where v̄ is the mean of the votes,
    /// between −1 and 1 (the server's half of Zheng et al. 2019, bounded).
    Feedback {
        /// The bound of |e|, in votes; above 0.
        bound: f32,
    },
    /// A vote whose momentum is the server's: m ← β·m + (1 − β)·v̄, and the verdict is sign(m), where v̄ is the mean of the votes. Workers
    /// that vote by their gradients' signs alone have their sizes averaged over the last 1/(1 − β) rounds ([`Form::Feedback`](signvote_learn::Form)
    /// makes votes of which this is true); the election's own.
    Momentum {
        /// β; from 0 to below 1.
        beta: f32,
    },
    /// Gradients, aggregated by a rule; then SGD with momentum at the server.
    Rule(Rule),
    /// Gradients, compressed; then the same of their mean.
    Compressed(Compressor),
}

impl Method {
    /// Whether workers send ballots.
    pub fn is_vote(self) -> bool {
        !matches!(self, Self::Rule(_) | Self::Compressed(_))
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "vote" => return Ok(Self::Vote),
            "vote-camps" => return Ok(Self::Camps),
            "vote-weighted" => return Ok(Self::Weighted),
            _ => {}
        }
        if let Some(rest) = text.strip_prefix("vote-feedback") {
            let bound =
                if rest.is_empty() { Some(1.0) } else { rest.strip_prefix('-').and_then(|n| n.parse().ok()) };
            let bound = bound.filter(|&bound: &f32| bound > 0.0 && bound.is_finite());
            return match bound {
                Some(bound) => Ok(Self::Feedback { bound }),
                None => Err(Error::misuse("vote-feedback", "a bound above 0", rest)),
            };
        }
        if let Some(rest) = text.strip_prefix("vote-momentum") {
            let beta =
                if rest.is_empty() { Some(0.9) } else { rest.strip_prefix('-').and_then(|n| n.parse().ok()) };
            let beta = beta.filter(|beta: &f32| (0.0..1.0).contains(beta));
            return match beta {
                Some(beta) => Ok(Self::Momentum { beta }),
                None => Err(Error::misuse("vote-momentum", "a number from 0 to below 1", rest)),
            };
        }
        let compressed = || text.parse().map(Self::Compressed);
        text.parse().map(Self::Rule).or_else(|_: Error| compressed()).map_err(|_: Error| {
            let (rules, compressors) = (Rule::NAMES.join(", "), Compressor::NAMES.join(", "));
            let votes = "vote, vote-camps, vote-weighted, vote-feedback, vote-momentum";
            Error::misuse("method", format!("{votes}, {rules}, {compressors}"), text)
        })
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vote => f.write_str("vote"),
            Self::Camps => f.write_str("vote-camps"),
            Self::Weighted => f.write_str("vote-weighted"),
            Self::Momentum { beta } => write!(f, "vote-momentum-{beta}"),
            Self::Feedback { bound } => write!(f, "vote-feedback-{bound}"),
            Self::Rule(rule) => rule.fmt(f),
            Self::Compressed(compressor) => compressor.fmt(f),
        }
    }
}

/// A verdict over d coordinates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// 1 where the step is that of −1.
    pub signs: Vec<u64>,
    /// 1 where no step is made.
    pub hold: Vec<u64>,
}

impl Verdict {
    fn of(dimension: usize, decide: impl FnOnce(&mut [u64], &mut [u64]) -> Decided) -> Self {
        let (mut signs, mut hold) = (vec![0; words(dimension)], vec![0; words(dimension)]);
        decide(&mut signs, &mut hold);
        Self { signs, hold }
    }
}

/// The vote of camps: one worker, one vote, but who contradicts the larger camp votes the other way round.
///
/// In every round anew, from its ballots alone: C is the matrix of how far two ballots agree, Cᵢⱼ = the mean of sᵢ·sⱼ over the
/// coordinates where both vote; between honest workers whose signs are right with probability p it is (2p − 1)², and between an honest
/// and an inverting one −(2p − 1)². The signs of C's leading eigenvector part the workers into two camps (as Dawid & Skene's
/// workers are told apart without knowing the truth, by the spectral method of Ghosh, Kale & McAfee 2011). The larger camp is trusted.
/// Of the others, who contradicts it significantly (a sum of correlations 4 standard deviations of chance below 0, each pair's being 1/√d) has its ballot
/// turned round; nobody ever has more than one vote.
///
/// Nothing is remembered: an adversary that is honest for long gains nothing by it. Colluders who stay under that significance, by
/// lying in few coordinates, are counted as in the plain vote. What it gives up: an honest minority whose gradients contradict those of
/// the majority everywhere is turned against itself, where the plain vote would merely overrule it; and a camp of liars larger than
/// that of the honest takes all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Camps;

impl Camps {
    /// Who is turned round.
    pub fn turned(ballots: &[Ballot<'_>], dimension: usize) -> Vec<bool> {
        let correlation = correlations(ballots, dimension);
        let camp = larger_camp(&correlation);
        let against = |worker: usize| {
            let others = || (0..ballots.len()).filter(|&other| camp[other] && other != worker);
            let sum: f64 = others().map(|other| correlation[worker][other]).sum();
            let deviation = (others().count() as f64 / dimension.max(1) as f64).sqrt();
            !camp[worker] && sum < -SIGNIFICANT * deviation
        };
        (0..ballots.len()).map(against).collect()
    }

    /// The verdict of a round.
    pub fn decide(ballots: &[Ballot<'_>], dimension: usize, tie: Tie) -> Verdict {
        let turned = Self::turned(ballots, dimension);
        let planes: Vec<_> =
            ballots.iter().zip(&turned).map(|(ballot, &turn)| signs_of(ballot, turn, dimension)).collect();
        let votes: Vec<_> =
            planes.iter().zip(ballots).map(|(signs, ballot)| Ballot::new(signs, ballot.abstain)).collect();
        Verdict::of(dimension, |signs, hold| decide(&votes, dimension, tie, 1, signs, hold))
    }
}

/// Standard deviations of chance that tell a contradiction from it: in a million rounds of ten workers, some three hundred are turned
/// round by chance, for that round.
const SIGNIFICANT: f64 = 4.0;

/// A ballot's signs, turned round or not.
fn signs_of(ballot: &Ballot<'_>, turn: bool, dimension: usize) -> Vec<u64> {
    let mut signs = ballot.signs.to_vec();
    if turn {
        signs.iter_mut().for_each(|word| *word = !*word);
        if let Some(last) = signs.last_mut() {
            *last &= tail_mask(dimension);
        }
    }
    signs
}

/// How far every two ballots agree: from −1 to 1, and 0 where they have no coordinate in common.
fn correlations(ballots: &[Ballot<'_>], dimension: usize) -> Vec<Vec<f64>> {
    let count = ballots.len();
    let mut matrix = vec![vec![0.0; count]; count];
    let last = words(dimension).saturating_sub(1);
    for one in 0..count {
        matrix[one][one] = 1.0;
        for other in 0..one {
            let (a, b) = (&ballots[one], &ballots[other]);
            let (mut both, mut differ) = (0_u64, 0_u64);
            for (at, (x, y)) in a.signs.iter().zip(b.signs).enumerate() {
                let out = |ballot: &Ballot<'_>| ballot.abstain.map_or(0, |plane| plane[at]);
                let mut voted = !(out(a) | out(b));
                if at == last {
                    voted &= tail_mask(dimension);
                }
                both += u64::from(voted.count_ones());
                differ += u64::from(((x ^ y) & voted).count_ones());
            }
            let agreement = if both == 0 { 0.0 } else { 1.0 - 2.0 * differ as f64 / both as f64 };
            matrix[one][other] = agreement;
            matrix[other][one] = agreement;
        }
    }
    matrix
}

/// Who belongs to the larger of two camps; of two equal ones, to that of the more consistent workers.
fn larger_camp(correlation: &[Vec<f64>]) -> Vec<bool> {
    let count = correlation.len();
    // Power iteration. All-ones is a start that no permutation of the workers changes; a little of each index keeps it from being
    // orthogonal to the answer.
    let mut vector: Vec<f64> = (0..count).map(|at| 1.0 + 1e-3 * at as f64).collect();
    for _ in 0..200 {
        let next: Vec<f64> =
            correlation.iter().map(|row| row.iter().zip(&vector).map(|(c, v)| c * v).sum()).collect();
        let length = next.iter().map(|v| v * v).sum::<f64>().sqrt();
        if length == 0.0 {
            break;
        }
        vector = next.into_iter().map(|v| v / length).collect();
    }
    let positive = vector.iter().filter(|&&v| v > 0.0).count();
    let weight: f64 = vector.iter().map(|v| v * v.abs()).sum();
    let trusted_is_positive = match (2 * positive).cmp(&count) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => weight >= 0.0,
    };
    vector.iter().map(|&v| (v > 0.0) == trusted_is_positive).collect()
}

/// The vote weighted by reliabilities (signSGD-FD, Park & Lee 2024), estimated leave-one-out and capped.
///
/// p̂ₘ is a running mean (β = 0.9) of how often worker m disagrees with the majority of the *others*; its weight is
/// ln((1 − p̂ₘ)/p̂ₘ), negative past one half, where its ballot is turned round. No weight is more than [`Self::CAP`] times the median
/// of them all, so that no few workers own the vote.
#[derive(Clone, Debug)]
pub struct Reliability {
    disagreement: Vec<f64>,
}

impl Reliability {
    /// The most that one worker weighs, in medians.
    pub const CAP: f64 = 2.0;
    /// What of a round's disagreement is remembered.
    const MEMORY: f64 = 0.9;
    /// Steps into which the median weight is divided: weights are integers in a tally.
    const STEPS: f64 = 16.0;

    /// Nothing is known of any of the workers.
    pub fn new(workers: usize) -> Self {
        Self { disagreement: vec![0.5; workers] }
    }

    /// The verdict of a round, after its ballots have been taken into account.
    pub fn decide(&mut self, ballots: &[Ballot<'_>], dimension: usize, tie: Tie) -> Verdict {
        self.learn(ballots, dimension);
        let weights = self.weights();
        let planes: Vec<_> = ballots
            .iter()
            .zip(&weights)
            .map(|(ballot, &weight)| signs_of(ballot, weight < 0, dimension))
            .collect();
        let votes: Vec<_> =
            planes.iter().zip(ballots).map(|(signs, ballot)| Ballot::new(signs, ballot.abstain)).collect();
        let sizes: Vec<u16> = weights.iter().map(|weight| weight.unsigned_abs()).collect();
        Verdict::of(dimension, |signs, hold| decide_weighted(&votes, &sizes, dimension, tie, 1, signs, hold))
    }

    fn learn(&mut self, ballots: &[Ballot<'_>], dimension: usize) {
        let sums = sums(ballots, dimension);
        for (ballot, estimate) in ballots.iter().zip(&mut self.disagreement) {
            let (mut compared, mut differ) = (0_u64, 0_u64);
            for (at, sum) in sums.iter().enumerate() {
                let (word, bit) = (at / 64, at % 64);
                if ballot.abstain.map_or(0, |plane| plane[word]) >> bit & 1 == 1 {
                    continue;
                }
                let own = 1 - 2 * (ballot.signs[word] >> bit & 1) as i32;
                let others = sum - own;
                compared += u64::from(others != 0);
                differ += u64::from(others * own < 0);
            }
            if compared > 0 {
                let now = differ as f64 / compared as f64;
                *estimate = Self::MEMORY * *estimate + (1.0 - Self::MEMORY) * now;
            }
        }
    }

    /// Weights as multiples of the median's sixteenth; where nobody is known to be better than chance, all alike.
    fn weights(&self) -> Vec<i16> {
        let weight = |p: f64| ((1.0 - p.clamp(1e-3, 1.0 - 1e-3)) / p.clamp(1e-3, 1.0 - 1e-3)).ln();
        let weights: Vec<f64> = self.disagreement.iter().map(|&p| weight(p)).collect();
        let mut sizes: Vec<f64> = weights.iter().map(|w| w.abs()).collect();
        sizes.sort_by(f64::total_cmp);
        let median = sizes[sizes.len() / 2];
        if median < 1e-9 {
            return vec![1; weights.len()];
        }
        let scaled = |w: &f64| (w / median).clamp(-Self::CAP, Self::CAP) * Self::STEPS;
        weights.iter().map(|w| scaled(w).round() as i16).collect()
    }
}

/// The error that a server keeps.
#[derive(Clone, Debug)]
pub(super) struct Feedback {
    bound: f32,
    error: Vec<f32>,
}

impl Feedback {
    pub(super) fn new(bound: f32, dimension: usize) -> Self {
        Self { bound, error: vec![0.0; dimension] }
    }

    /// Where v̄ + e is 0, nothing is done.
    pub(super) fn decide(&mut self, ballots: &[Ballot<'_>], dimension: usize) -> Verdict {
        let sums = sums(ballots, dimension);
        let voters = ballots.len() as f32;
        Verdict::of(dimension, |signs, hold| {
            let values: Vec<f32> =
                sums.iter().zip(&self.error).map(|(&sum, error)| sum as f32 / voters + error).collect();
            signvote_kernels::pack(&values, signs, hold);
            for (error, value) in self.error.iter_mut().zip(&values) {
                let sign = f32::from(i8::from(*value > 0.0) - i8::from(*value < 0.0));
                *error = (value - sign).clamp(-self.bound, self.bound);
            }
            Decided::default()
        })
    }
}
