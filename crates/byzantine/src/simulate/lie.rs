//! How workers of a simulation lie: with what they know of each other, and of the honest.

use std::fmt;
use std::str::FromStr;

use rand::Rng as _;
use rand_distr::{Distribution as _, StandardNormal};
use signvote_kernels::{Ballot, pack, tail_mask, words};

use crate::attack::{alie, alie_z, ipm};
use crate::random::generator;
use crate::{Attack, Draw, Error};

/// A way to lie, for a vote and for an aggregation of gradients.
///
/// g is the liar's own honest gradient, μ and σ mean and standard deviation of the honest ones, h the sum of the honest
/// votes, B the number of liars. In a vote what an attack makes of gradients it makes of momenta, whose signs are then cast; every
/// positive factor vanishes there.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Lie {
    /// −s·g: the paper's inverting adversary.
    SignFlip {
        /// s, above 0; of no effect in a vote.
        scale: f32,
    },
    /// Random signs, new in every round; as a gradient |g| with random signs, times s.
    RandomSign {
        /// s, above 0; of no effect in a vote.
        scale: f32,
    },
    /// N(0, s²), with s the root mean square of g; in a vote random signs.
    Gaussian,
    /// μ − z·σ, the same from all liars, z as large as hides among the honest (Baruch et al. 2019).
    Alie,
    /// −ε·μ, the same from all liars (Xie et al. 2020); in a vote −sign of the honest mean.
    Ipm {
        /// ε, above 0.
        scale: f32,
    },
    /// What the last honest worker sends (Karimireddy et al. 2022): no lie by itself, but a second vote.
    Mimic,
    /// The gradient for labels turned round, y → C − 1 − y: a liar who need not know how the vote works.
    LabelFlip,
    /// Nothing: an abstention everywhere, a gradient of zero.
    Abstain,
    /// What was honest in round 0, in every round.
    Freeze,
    /// What was honest so many rounds ago.
    Replay {
        /// Rounds.
        rounds: u16,
    },
    /// All send −sign(h); as gradients −s·μ. Where the honest tie, the other way than their momenta sum up to.
    Omniscient {
        /// s, above 0; of no effect in a vote.
        scale: f32,
    },
    /// All oppose the honest where that decides, |h| ≤ B, and side with them elsewhere: the least conspicuous of what turns the most
    /// coordinates. As gradients ∓μ.
    LowMargin,
    /// sign(h) for so many rounds, then −g: what breaks reliabilities that are learnt.
    EchoThenFlip {
        /// Rounds.
        rounds: u16,
    },
    /// A vote for −1 wherever all the honest abstain, and an abstention elsewhere: whoever decides alone, decides.
    LoneVoter,
    /// NaN in every coordinate; in a vote an abstention, because what is not finite is never voted.
    NotANumber,
}

/// Signs and abstentions of a ballot.
pub(super) type Planes = (Vec<u64>, Vec<u64>);

/// Which gradient of a run it is.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) round: u64,
    pub(super) seed: u64,
    /// The liar's place.
    pub(super) index: u64,
}

/// What liars know in a vote.
pub(super) struct Knowledge<'a> {
    /// Momenta of the honest; of d coordinates each, at least one.
    pub(super) honest: &'a [&'a [f32]],
    /// Their ballots.
    pub(super) ballots: &'a [Ballot<'a>],
    pub(super) liars: usize,
    pub(super) round: u64,
    pub(super) seed: u64,
}

/// What one liar has.
pub(super) struct Liar<'a> {
    pub(super) index: u16,
    pub(super) signs: &'a mut [u64],
    pub(super) abstain: &'a mut [u64],
    /// Earlier honest ballots of its own, the oldest first, as far as the lie needs them.
    pub(super) memory: &'a mut Vec<Planes>,
}

impl Lie {
    /// Names, as [`FromStr`] reads them.
    pub const NAMES: [&str; 15] = [
        "sign-flip",
        "random-sign",
        "gaussian",
        "alie",
        "ipm",
        "mimic",
        "label-flip",
        "abstain",
        "freeze",
        "replay",
        "omniscient",
        "low-margin",
        "echo-then-flip",
        "lone-voter",
        "nan",
    ];

    /// Whether a liar needs nothing but what is its own: the theory's adversary.
    pub fn is_blind(self) -> bool {
        matches!(
            self,
            Self::SignFlip { .. }
                | Self::RandomSign { .. }
                | Self::Gaussian
                | Self::LabelFlip
                | Self::Abstain
                | Self::Freeze
                | Self::Replay { .. }
                | Self::NotANumber
        )
    }

    /// What all colluding liars send in a vote alike; `None` if each has something of its own.
    pub(super) fn common_ballot(self, known: &Knowledge<'_>) -> Result<Option<Planes>, Error> {
        let dimension = known.honest[0].len();
        let count = words(dimension);
        let mut planes = (vec![0; count], vec![0; count]);
        let mut values = vec![0.0; dimension];
        match self {
            Self::Alie => {
                let workers = known.honest.len() + known.liars;
                alie(known.honest, alie_z(workers, known.liars)?, &mut values);
            }
            Self::Ipm { scale } => ipm(known.honest, scale, &mut values),
            Self::Omniscient { .. } => {
                let sums = sums(known.ballots, dimension);
                oppose(known, &sums, |h| if h == 0 { None } else { Some(-h) }, &mut values);
            }
            Self::LowMargin => {
                let (sums, liars) = (sums(known.ballots, dimension), known.liars as i32);
                let turn = |h: i32| if h.abs() > liars { Some(h) } else { Some(-h).filter(|&h| h != 0) };
                oppose(known, &sums, turn, &mut values);
            }
            Self::EchoThenFlip { rounds } if known.round < u64::from(rounds) => {
                let sums = sums(known.ballots, dimension);
                values.iter_mut().zip(&sums).for_each(|(value, &h)| *value = h as f32);
            }
            Self::Mimic => {
                let last = known.ballots[known.ballots.len() - 1];
                planes.0.copy_from_slice(last.signs);
                if let Some(abstain) = last.abstain {
                    planes.1.copy_from_slice(abstain);
                }
                return Ok(Some(planes));
            }
            Self::LoneVoter => {
                let mut voted = vec![0_u64; count];
                for ballot in known.ballots {
                    let abstain = |at: usize| ballot.abstain.map_or(0, |plane| plane[at]);
                    voted.iter_mut().enumerate().for_each(|(at, voted)| *voted |= !abstain(at));
                }
                planes.0 = voted.iter().map(|voted| !voted).collect();
                planes.1 = voted;
                clear_tail(&mut planes.0, dimension);
                clear_tail(&mut planes.1, dimension);
                return Ok(Some(planes));
            }
            _ => return Ok(None),
        }
        pack(&values, &mut planes.0, &mut planes.1);
        Ok(Some(planes))
    }

    /// What one liar sends instead of its honest ballot, where each has something of its own.
    pub(super) fn own_ballot(self, known: &Knowledge<'_>, liar: Liar<'_>) {
        let dimension = known.honest[0].len();
        let Liar { index, signs, abstain, memory } = liar;
        let draw = Draw { seed: known.seed, round: known.round, slot: index, first_coordinate: 0 };
        match self {
            Self::SignFlip { .. } | Self::EchoThenFlip { .. } => {
                Attack::SignFlip.on_ballot(signs, abstain, dimension, draw);
            }
            Self::RandomSign { .. } | Self::Gaussian => {
                Attack::RandomSign.on_ballot(signs, abstain, dimension, draw);
            }
            Self::Abstain | Self::NotANumber => {
                signs.fill(0);
                abstain.fill(u64::MAX);
            }
            Self::Freeze => {
                memory.resize_with(1, || (signs.to_vec(), abstain.to_vec()));
                signs.copy_from_slice(&memory[0].0);
                abstain.copy_from_slice(&memory[0].1);
            }
            Self::Replay { rounds } => {
                memory.push((signs.to_vec(), abstain.to_vec()));
                let oldest = memory.len().saturating_sub(usize::from(rounds) + 1);
                memory.drain(..oldest);
                signs.copy_from_slice(&memory[0].0);
                abstain.copy_from_slice(&memory[0].1);
            }
            _ => {}
        }
        clear_tail(signs, dimension);
        clear_tail(abstain, dimension);
    }

    /// What a liar sends to whoever aggregates gradients: its own honest `gradient` becomes it. `history` is as the memory of ballots.
    pub(super) fn gradient(
        self,
        honest: &[&[f32]],
        liars: usize,
        Moment { round, seed, index }: Moment,
        gradient: &mut [f32],
        history: &mut Vec<Vec<f32>>,
    ) -> Result<(), Error> {
        let times = |gradient: &mut [f32], factor: f32| gradient.iter_mut().for_each(|g| *g *= factor);
        match self {
            Self::SignFlip { scale } => times(gradient, -scale),
            Self::RandomSign { scale } => {
                let mut random = generator(b"signs of a liar     ", seed, round, index);
                for values in gradient.chunks_mut(64) {
                    let bits = random.next_u64();
                    values.iter_mut().enumerate().for_each(|(i, g)| {
                        *g = scale * g.abs() * if bits >> i & 1 == 1 { -1.0 } else { 1.0 };
                    });
                }
            }
            Self::Gaussian => {
                let mut random = generator(b"values of a liar    ", seed, round, index);
                let square: f64 = gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
                let scale = (square / gradient.len() as f64).sqrt() as f32;
                gradient.iter_mut().for_each(|g| {
                    let value: f32 = StandardNormal.sample(&mut random);
                    *g = scale * value;
                });
            }
            Self::Alie => alie(honest, alie_z(honest.len() + liars, liars)?, gradient),
            Self::Ipm { scale } | Self::Omniscient { scale } => ipm(honest, scale, gradient),
            Self::Mimic => gradient.copy_from_slice(honest[honest.len() - 1]),
            Self::LabelFlip => {}
            Self::Abstain => gradient.fill(0.0),
            Self::Freeze => {
                history.resize_with(1, || gradient.to_vec());
                gradient.copy_from_slice(&history[0]);
            }
            Self::Replay { rounds } => {
                history.push(gradient.to_vec());
                let oldest = history.len().saturating_sub(usize::from(rounds) + 1);
                history.drain(..oldest);
                gradient.copy_from_slice(&history[0]);
            }
            Self::LowMargin => {
                ipm(honest, -1.0, gradient);
                for (at, value) in gradient.iter_mut().enumerate() {
                    let sign = |g: f32| i32::from(g > 0.0) - i32::from(g < 0.0);
                    let sum: i32 = honest.iter().map(|g| sign(g[at])).sum();
                    if sum.unsigned_abs() as usize <= liars {
                        *value = -*value;
                    }
                }
            }
            Self::EchoThenFlip { rounds } if round < u64::from(rounds) => ipm(honest, -1.0, gradient),
            Self::EchoThenFlip { .. } => times(gradient, -1.0),
            Self::LoneVoter => {
                for (at, value) in gradient.iter_mut().enumerate() {
                    *value = if honest.iter().all(|g| g[at] == 0.0) { -1.0 } else { 0.0 };
                }
            }
            Self::NotANumber => gradient.fill(f32::NAN),
        }
        Ok(())
    }
}

/// Σ sign over the ballots, for each coordinate.
pub(super) fn sums(ballots: &[Ballot<'_>], dimension: usize) -> Vec<i32> {
    let mut sums = vec![0_i32; dimension];
    for ballot in ballots {
        for (at, sums) in sums.chunks_mut(64).enumerate() {
            let signs = ballot.signs[at];
            let voted = !ballot.abstain.map_or(0, |plane| plane[at]);
            for (bit, sum) in sums.iter_mut().enumerate() {
                *sum += (voted >> bit & 1) as i32 * (1 - 2 * (signs >> bit & 1) as i32);
            }
        }
    }
    sums
}

/// Votes of colluders: what `turn` makes of the sum of the honest votes; where that is nothing, the honest being tied, the other
/// way than their momenta sum up to.
fn oppose(known: &Knowledge<'_>, sums: &[i32], turn: impl Fn(i32) -> Option<i32>, values: &mut [f32]) {
    for (at, (value, &sum)) in values.iter_mut().zip(sums).enumerate() {
        *value = match turn(sum) {
            Some(vote) => vote as f32,
            None => -known.honest.iter().map(|momentum| momentum[at]).sum::<f32>(),
        };
    }
}

fn clear_tail(plane: &mut [u64], dimension: usize) {
    if let Some(last) = plane.last_mut() {
        *last &= tail_mask(dimension);
    }
}

impl FromStr for Lie {
    type Err = Error;

    /// Reads a name. A number may follow, as in `replay-5`: a scale (1 without it), or rounds (10 for `replay`, 100 for
    /// `echo-then-flip`).
    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::misuse("lie", Self::NAMES.join(", "), text);
        let known = Self::NAMES.iter().filter(|name| text.starts_with(*name)).max_by_key(|name| name.len());
        let name = *known.ok_or_else(unknown)?;
        let number = match &text[name.len()..] {
            "" => None,
            rest => Some(rest.strip_prefix('-').ok_or_else(unknown)?),
        };
        let scale = || match number {
            None => Ok(1.0),
            Some(number) => {
                number.parse().ok().filter(|s: &f32| *s > 0.0 && s.is_finite()).ok_or_else(unknown)
            }
        };
        let rounds = |default| number.map_or(Ok(default), |number| number.parse().map_err(|_| unknown()));
        let lie = match name {
            "sign-flip" => Self::SignFlip { scale: scale()? },
            "random-sign" => Self::RandomSign { scale: scale()? },
            "ipm" => Self::Ipm { scale: scale()? },
            "omniscient" => Self::Omniscient { scale: scale()? },
            "replay" => Self::Replay { rounds: rounds(10)? },
            "echo-then-flip" => Self::EchoThenFlip { rounds: rounds(100)? },
            _ if number.is_some() => return Err(unknown()),
            "gaussian" => Self::Gaussian,
            "alie" => Self::Alie,
            "mimic" => Self::Mimic,
            "label-flip" => Self::LabelFlip,
            "abstain" => Self::Abstain,
            "freeze" => Self::Freeze,
            "low-margin" => Self::LowMargin,
            "lone-voter" => Self::LoneVoter,
            _ => Self::NotANumber,
        };
        Ok(lie)
    }
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scaled = |f: &mut fmt::Formatter<'_>, name: &str, scale: f32| {
            if scale == 1.0 { f.write_str(name) } else { write!(f, "{name}-{scale}") }
        };
        match *self {
            Self::SignFlip { scale } => scaled(f, "sign-flip", scale),
            Self::RandomSign { scale } => scaled(f, "random-sign", scale),
            Self::Ipm { scale } => scaled(f, "ipm", scale),
            Self::Omniscient { scale } => scaled(f, "omniscient", scale),
            Self::Replay { rounds } => write!(f, "replay-{rounds}"),
            Self::EchoThenFlip { rounds } => write!(f, "echo-then-flip-{rounds}"),
            Self::Gaussian => f.write_str("gaussian"),
            Self::Alie => f.write_str("alie"),
            Self::Mimic => f.write_str("mimic"),
            Self::LabelFlip => f.write_str("label-flip"),
            Self::Abstain => f.write_str("abstain"),
            Self::Freeze => f.write_str("freeze"),
            Self::LowMargin => f.write_str("low-margin"),
            Self::LoneVoter => f.write_str("lone-voter"),
            Self::NotANumber => f.write_str("nan"),
        }
    }
}

#[cfg(test)]
mod tests;
