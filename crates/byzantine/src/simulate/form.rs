//! What a worker votes with: how a gradient becomes signs and abstentions.

use std::fmt;
use std::str::FromStr;

use rand::Rng as _;
use rand_distr::{Distribution as _, StandardNormal};
use signvote_kernels::{AbstainOn, momentum_pack, pack};
use signvote_learn::Form as Plain;

use crate::Error;
use crate::random::generator;

/// How a gradient g and a momentum v become a ballot.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Form {
    /// Signum, Lion or error feedback: the forms of the network's workers, which see one coordinate at a time.
    Plain(Plain),
    /// +1 with probability ½ + v/(2b), clipped to [0, 1], where b is `scale` times the root mean square of v: the expected vote
    /// is then v/b, not its sign (sto-sign, Jin et al. 2020).
    Stochastic {
        /// b in root mean squares of v; above 0.
        scale: f32,
    },
    /// sign(v + n), n from N(0, s²), where s is `scale` times the root mean square of v (z-sign with z = 1, Tang et al. 2024).
    Noisy {
        /// s in root mean squares of v.
        scale: f32,
    },
    /// sign(v), but an abstention where |v| is below `threshold` times the root mean square of v: three values, at up to 2 bits
    /// (as the ternary votes of TernGrad, Wen et al. 2017, without their randomness).
    Ternary {
        /// The threshold in root mean squares of v.
        threshold: f32,
    },
}

/// What a worker has of one gradient.
pub(super) struct Desk<'a> {
    pub(super) gradient: &'a [f32],
    pub(super) momentum: &'a mut [f32],
    pub(super) signs: &'a mut [u64],
    pub(super) abstain: &'a mut [u64],
}

impl Form {
    /// Moves the momentum and packs the ballot. What is random in it is a function of seed, round and worker.
    pub(super) fn cast(self, desk: Desk<'_>, beta: f32, seed: u64, round: u64, index: u64) {
        let Desk { gradient, momentum, signs, abstain } = desk;
        if let Self::Plain(form) = self {
            form.cast(gradient, momentum, beta, AbstainOn::Momentum, signs, abstain);
            return;
        }
        momentum_pack(gradient, momentum, beta, AbstainOn::Momentum, signs, abstain);
        let unit = root_mean_square(momentum);
        let mut random = generator(b"draws of a caster   ", seed, round, index);
        match self {
            Self::Plain(_) => {}
            Self::Stochastic { scale } => {
                let bound = scale * unit;
                vote(momentum, signs, abstain, |v| {
                    let draw = (random.next_u32() >> 8) as f32 / (1_u32 << 24) as f32;
                    // v / bound is NaN where everything is 0: then it abstains.
                    let probability = 0.5 + v / (2.0 * bound);
                    if draw < probability { 1.0 } else { -1.0 }
                });
            }
            Self::Noisy { scale } => {
                vote(momentum, signs, abstain, |v| {
                    let noise: f32 = StandardNormal.sample(&mut random);
                    v + scale * unit * noise
                });
            }
            Self::Ternary { threshold } => {
                vote(momentum, signs, abstain, |v| if v.abs() < threshold * unit { 0.0 } else { v });
            }
        }
    }
}

/// Packs what `of` makes of every momentum that is not zero.
fn vote(momentum: &[f32], signs: &mut [u64], abstain: &mut [u64], mut of: impl FnMut(f32) -> f32) {
    let values: Vec<f32> = momentum.iter().map(|&v| if v == 0.0 { 0.0 } else { of(v) }).collect();
    pack(&values, signs, abstain);
}

fn root_mean_square(values: &[f32]) -> f32 {
    let sum: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    (sum / values.len().max(1) as f64).sqrt() as f32
}

impl FromStr for Form {
    type Err = Error;

    /// Reads a name; `sto-sign-3`, say, has the number that belongs to it, and without one it is 1 (0.5 of `ternary`, 0.02 of `feedback`).
    fn from_str(text: &str) -> Result<Self, Error> {
        if let Ok(plain) = text.parse() {
            return Ok(Self::Plain(plain));
        }
        let number = |name: &str, default: f32| {
            let rest = text.strip_prefix(name)?;
            let value = if rest.is_empty() { default } else { rest.strip_prefix('-')?.parse().ok()? };
            (value > 0.0 && value.is_finite()).then_some(value)
        };
        let sto = number("sto-sign", 1.0).map(|scale| Self::Stochastic { scale });
        let noisy = || number("z-sign", 1.0).map(|scale| Self::Noisy { scale });
        let ternary = || number("ternary", 0.5).map(|threshold| Self::Ternary { threshold });
        sto.or_else(noisy).or_else(ternary).ok_or_else(|| {
            let known = "signum, lion, sto-sign, z-sign, feedback or ternary (z-sign-0.5 has a scale)";
            Error::misuse("form", known, text)
        })
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(plain) => plain.fmt(f),
            Self::Stochastic { scale } => write!(f, "sto-sign-{scale}"),
            Self::Noisy { scale } => write!(f, "z-sign-{scale}"),
            Self::Ternary { threshold } => write!(f, "ternary-{threshold}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use signvote_kernels::words;

    use super::*;

    fn cast(form: Form, gradient: &[f32], round: u64) -> (Vec<u64>, Vec<u64>) {
        let count = words(gradient.len());
        let (mut momentum, mut signs, mut abstain) =
            (vec![0.0; gradient.len()], vec![0; count], vec![0; count]);
        let (signs_, abstain_) = (&mut signs[..], &mut abstain[..]);
        let desk = Desk { gradient, momentum: &mut momentum, signs: signs_, abstain: abstain_ };
        form.cast(desk, 0.0, 1, round, 0);
        (signs, abstain)
    }

    fn ones(plane: &[u64]) -> u32 {
        plane.iter().map(|word| word.count_ones()).sum()
    }

    #[test]
    fn a_stochastic_sign_is_right_on_average() {
        // Half the coordinates are 1 and half −1, so b = 2: P(+1) of a 1 is ¾.
        let gradient: Vec<f32> = (0..64_000).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let (signs, abstain) = cast(Form::Stochastic { scale: 2.0 }, &gradient, 0);
        let positive = 0x5555_5555_5555_5555_u64;
        let wrong: u32 = signs.iter().map(|word| (word & positive).count_ones()).sum();
        // Five standard deviations: √(32,000·¼·¾) ≈ 77.
        assert!((f64::from(wrong) - 8000.0).abs() < 5.0 * 77.5, "{wrong}");
        assert_eq!(ones(&abstain), 0);
    }

    #[test]
    fn noise_before_the_sign_turns_as_many_as_its_distribution_says() {
        let gradient = vec![1.0; 64_000];
        let (signs, _) = cast(Form::Noisy { scale: 1.0 }, &gradient, 0);
        // P(1 + n < 0) = Φ(−1) = 0.1587 for n from N(0, 1).
        let expected = 64_000.0 * 0.158_655;
        assert!((f64::from(ones(&signs)) - expected).abs() < 5.0 * 92.5, "{}", ones(&signs));
        assert_ne!(cast(Form::Noisy { scale: 1.0 }, &gradient, 1).0, signs);
    }

    #[test]
    fn a_ternary_vote_leaves_out_what_is_small() {
        let mut gradient = vec![0.1; 64];
        gradient[..32].fill(-1.0);
        // The root mean square is 0.71.
        assert_eq!(
            cast(Form::Ternary { threshold: 0.5 }, &gradient, 0),
            (vec![0xFFFF_FFFF], vec![!0xFFFF_FFFF])
        );
    }

    #[test]
    fn zeros_abstain_in_every_form() {
        for name in ["signum", "lion", "sto-sign", "z-sign", "ternary"] {
            let form: Form = name.parse().unwrap();
            assert_eq!(cast(form, &[0.0; 100], 0), (vec![0; 2], vec![u64::MAX, (1 << 36) - 1]), "{name}");
            assert_eq!(form.to_string().parse::<Form>().unwrap(), form);
        }
        assert!("z-sign-".parse::<Form>().is_err());
    }
}
