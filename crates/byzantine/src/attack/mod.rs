//! Attacks: what a worker sends when it lies.
//!
//! A liar computes like an honest worker and then changes what it sends. An [`Attack`] acts *blindly* in the sense of the paper: each
//! liar knows its own estimate only, and liars do not cooperate. [`alie`] and [`ipm`] are those of liars who know the honest gradients;
//! [`Lie`](crate::simulate::Lie) has them all, and those on ballots.

mod gradient;

pub use self::gradient::{alie, alie_z, ipm};

use std::fmt;
use std::str::FromStr;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use signvote_kernels::{tail_mask, words};

/// A way to lie. g is the worker's own gradient, v its momentum.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Attack {
    /// −sign(v) in a vote, −g in a mean (the paper's inverting adversary).
    SignFlip,
    /// Uniform over {−1, +1}, a new draw for every coordinate and round.
    RandomSign,
    /// −scale·g in a mean. In a vote the scale has no effect: it is a sign flip.
    ScaledFlip {
        /// How much larger than the honest gradient the lie is; above 0.
        scale: f32,
    },
}

impl Attack {
    /// The names that [`FromStr`] knows.
    pub const NAMES: [&str; 3] = ["sign-flip", "random-sign", "scaled-flip"];

    /// This attack, if it is scaled, with this scale.
    #[must_use]
    pub fn with_scale(self, scale: f32) -> Self {
        match self {
            Self::ScaledFlip { .. } => Self::ScaledFlip { scale },
            other => other,
        }
    }

    /// Changes an honest ballot of `coordinates` coordinates. Who flips abstains where the honest vote does;
    /// who draws at random votes everywhere. The tail bits stay zero.
    ///
    /// `draw` fixes the random draws.
    ///
    /// # Panics
    /// If the planes are not `words(coordinates)` long.
    pub fn on_ballot(self, signs: &mut [u64], abstain: &mut [u64], coordinates: usize, draw: Draw) {
        assert_eq!(signs.len(), words(coordinates), "a word for every 64 coordinates");
        assert_eq!(abstain.len(), signs.len(), "planes of equal length");
        match self {
            Self::SignFlip | Self::ScaledFlip { .. } => {
                signs.iter_mut().zip(&*abstain).for_each(|(signs, abstain)| *signs = !*signs & !abstain);
            }
            Self::RandomSign => {
                let mut random = draw.generator();
                signs.iter_mut().for_each(|word| *word = random.next_u64());
                abstain.fill(0);
            }
        }
        if let Some(last) = signs.last_mut() {
            *last &= tail_mask(coordinates);
        }
    }

    /// Changes an honest gradient.
    pub fn on_gradient(self, gradient: &mut [f32], draw: Draw) {
        match self {
            Self::SignFlip => gradient.iter_mut().for_each(|g| *g = -*g),
            Self::ScaledFlip { scale } => gradient.iter_mut().for_each(|g| *g *= -scale),
            Self::RandomSign => {
                let mut random = draw.generator();
                for values in gradient.chunks_mut(64) {
                    let bits = random.next_u64();
                    values.iter_mut().enumerate().for_each(|(i, g)| {
                        *g = if bits >> i & 1 == 1 { -1.0 } else { 1.0 };
                    });
                }
            }
        }
    }
}

impl FromStr for Attack {
    type Err = String;

    /// Reads a name; a scaled flip gets the scale 10.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sign-flip" => Ok(Self::SignFlip),
            "random-sign" => Ok(Self::RandomSign),
            "scaled-flip" => Ok(Self::ScaledFlip { scale: 10.0 }),
            _ => Err(format!("expected one of {}, got {text:?}", Self::NAMES.join(", "))),
        }
    }
}

impl fmt::Display for Attack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SignFlip => "sign-flip",
            Self::RandomSign => "random-sign",
            Self::ScaledFlip { .. } => "scaled-flip",
        })
    }
}

/// What fixes a liar's random draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The run's seed.
    pub seed: u64,
    /// The round.
    pub round: u64,
    /// The liar's place.
    pub slot: u16,
    /// The first coordinate of what is sent: every chunk of a ballot has draws of its own.
    pub first_coordinate: u64,
}

impl Draw {
    fn generator(self) -> ChaCha8Rng {
        let mut key = *b"signvote attack of a blind liar!";
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&self.round.to_le_bytes());
        key[16..18].copy_from_slice(&self.slot.to_le_bytes());
        key[18..26].copy_from_slice(&self.first_coordinate.to_le_bytes());
        ChaCha8Rng::from_seed(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAW: Draw = Draw { seed: 1, round: 2, slot: 3, first_coordinate: 0 };

    #[test]
    fn a_sign_flip_inverts_every_vote_and_no_abstention() {
        let (mut signs, mut abstain) = ([0b0101_u64, 0b1], [0b1010_u64, 0]);
        Attack::SignFlip.on_ballot(&mut signs, &mut abstain, 70, DRAW);
        assert_eq!(signs, [!0b1111, 0b11_1110]);
        assert_eq!(abstain, [0b1010, 0]);
        let mut gradient = [1.0, -2.0, 0.0];
        Attack::SignFlip.on_gradient(&mut gradient, DRAW);
        assert_eq!(gradient, [-1.0, 2.0, 0.0]);
    }

    #[test]
    fn a_scaled_flip_is_minus_scale_times_the_gradient_and_in_a_vote_a_flip() {
        let attack = "scaled-flip".parse::<Attack>().unwrap().with_scale(4.0);
        let mut gradient = [1.0, -2.0];
        attack.on_gradient(&mut gradient, DRAW);
        assert_eq!(gradient, [-4.0, 8.0]);
        let (mut scaled, mut flipped) = ([0x1234_u64], [0x1234_u64]);
        attack.on_ballot(&mut scaled, &mut [0], 64, DRAW);
        Attack::SignFlip.on_ballot(&mut flipped, &mut [0], 64, DRAW);
        assert_eq!(scaled, flipped);
    }

    #[test]
    fn random_signs_are_fair_repeatable_and_new_every_round() {
        let coordinates = 64_000;
        let draw = |round| {
            let (mut signs, mut abstain) = (vec![0; 1000], vec![u64::MAX; 1000]);
            Attack::RandomSign.on_ballot(&mut signs, &mut abstain, coordinates, Draw { round, ..DRAW });
            assert!(abstain.iter().all(|&word| word == 0));
            signs
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let negative: u32 = draw(1).iter().map(|word| word.count_ones()).sum();
        // Five standard deviations of a fair coin.
        assert!((f64::from(negative) - 32_000.0).abs() < 5.0 * 126.5, "{negative}");
        let mut gradient = vec![0.0; 1000];
        Attack::RandomSign.on_gradient(&mut gradient, DRAW);
        assert!(gradient.iter().all(|g| g.abs() == 1.0));
    }

    #[test]
    fn attacks_read_back_what_they_print() {
        for name in Attack::NAMES {
            assert_eq!(name.parse::<Attack>().unwrap().to_string(), name);
        }
        assert!("lie".parse::<Attack>().is_err());
    }
}
