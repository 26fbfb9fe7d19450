//! How a worker's gradients become ballots.

use std::fmt;
use std::str::FromStr;

use signvote_kernels::{AbstainOn, Packed, lion_pack, momentum_pack, pack};

use crate::Error;

/// β₂ of [`Form::Lion`], its authors' default.
const LION_BETA_2: f32 = 0.99;
/// Scale of [`Form::Feedback`] where none is told.
const SCALE: f32 = 0.02;

/// How a gradient g and what a worker remembers of earlier ones become a ballot, coordinate by coordinate.
///
/// The memory is one number a coordinate in every form, 0 at the start: a momentum v, or an error e.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Form {
    /// sign(v), v = β·v + (1 − β)·g (Bernstein et al. 2018). β = 0 is signSGD.
    #[default]
    Signum,
    /// sign(β·v + (1 − β)·g), and then v = β₂·v + (1 − β₂)·g, with β₂ = 0.99 (Chen et al. 2023).
    Lion,
    /// sign(u) of u = e + g/`scale`, and then e = clip(u − sign(u), ±1): what a vote leaves out is voted for later, so that the sum of a
    /// worker's votes follows the sum of its gradients (in units of `scale`), not that of their signs. The worker's half of Zheng et al.
    /// 2019, with a scale that is the same for all, so that every vote counts alike, and an error that is bounded. There is no β.
    Feedback {
        /// Of a gradient that is worth a whole vote; above 0.
        scale: f32,
    },
}

impl Form {
    /// Moves the memory, as long as the gradient, by the gradient, and packs the ballot.
    ///
    /// A gradient that is not finite abstains, is counted and leaves the memory as it was.
    ///
    /// # Panics
    /// If lengths differ, or a plane is not [`words`](signvote_kernels::words) of them long.
    pub fn cast(
        self,
        gradient: &[f32],
        memory: &mut [f32],
        beta: f32,
        abstain_on: AbstainOn,
        signs: &mut [u64],
        abstain: &mut [u64],
    ) -> Packed {
        match self {
            Self::Signum => momentum_pack(gradient, memory, beta, abstain_on, signs, abstain),
            Self::Lion => lion_pack(gradient, memory, (beta, LION_BETA_2), abstain_on, signs, abstain),
            Self::Feedback { scale } => feedback(gradient, memory, scale, signs, abstain),
        }
    }
}

fn feedback(
    gradient: &[f32],
    error: &mut [f32],
    scale: f32,
    signs: &mut [u64],
    abstain: &mut [u64],
) -> Packed {
    // 0 is voted for like a positive number, and made up for in the next round: no vote is an abstention, which would cost a
    // second bit.
    let sum = |(e, g): (&f32, &f32)| match e + g / scale {
        0.0 => f32::MIN_POSITIVE,
        sum => sum,
    };
    let sums: Vec<f32> = error.iter().zip(gradient).map(sum).collect();
    let packed = pack(&sums, signs, abstain);
    for (error, sum) in error.iter_mut().zip(sums) {
        if sum.is_finite() {
            *error = (sum - sum.signum()).clamp(-1.0, 1.0);
        }
    }
    packed
}

impl FromStr for Form {
    type Err = Error;

    /// Reads a name; `feedback-0.05` has a scale, and `feedback` that of 0.02.
    fn from_str(text: &str) -> Result<Self, Error> {
        let scale = match text.strip_prefix("feedback") {
            Some("") => Some(SCALE),
            Some(rest) => rest.strip_prefix('-').and_then(|scale| scale.parse().ok()),
            None => None,
        };
        match (text, scale) {
            ("signum", _) => Ok(Self::Signum),
            ("lion", _) => Ok(Self::Lion),
            (_, Some(scale)) if scale > 0.0 && f32::is_finite(scale) => Ok(Self::Feedback { scale }),
            _ => Err(Error::misuse("form", "signum, lion or feedback-0.02 (any scale above 0)", text)),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signum => f.write_str("signum"),
            Self::Lion => f.write_str("lion"),
            Self::Feedback { scale } => write!(f, "feedback-{scale}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signs_of(form: Form, gradients: &[[f32; 3]]) -> Vec<[i8; 3]> {
        let mut memory = [0.0; 3];
        let cast = |gradient: &[f32; 3]| {
            let (mut signs, mut abstain) = ([0], [0]);
            form.cast(gradient, &mut memory, 0.5, AbstainOn::Momentum, &mut signs, &mut abstain);
            std::array::from_fn(|at| match (abstain[0] >> at & 1, signs[0] >> at & 1) {
                (0, sign) => 1 - 2 * sign as i8,
                _ => 0,
            })
        };
        gradients.iter().map(cast).collect()
    }

    #[test]
    fn votes_with_feedback_sum_up_to_the_gradients_and_nobody_abstains() {
        let gradient = [0.004, -0.015, 0.0];
        let votes = signs_of(Form::Feedback { scale: 0.02 }, &[gradient; 1000]);
        for (at, g) in gradient.into_iter().enumerate() {
            let sum: i32 = votes.iter().map(|vote| i32::from(vote[at])).sum();
            assert!((sum as f32 - 1000.0 * g / 0.02).abs() <= 2.0, "{sum} for {g}");
            assert!(votes.iter().all(|vote| vote[at] != 0));
        }
    }

    #[test]
    fn what_is_not_finite_is_counted_and_forgotten() {
        for form in [Form::Signum, Form::Lion, Form::Feedback { scale: 0.5 }] {
            let (mut memory, mut signs, mut abstain) = ([0.25; 3], [0], [0]);
            let gradient = [f32::NAN, 1.0, f32::INFINITY];
            let packed =
                form.cast(&gradient, &mut memory, 0.9, AbstainOn::Momentum, &mut signs, &mut abstain);
            assert_eq!(
                (packed.non_finite, abstain, memory[0], memory[2]),
                (2, [0b101], 0.25, 0.25),
                "{form}"
            );
        }
    }

    #[test]
    fn lion_votes_with_the_new_gradient_and_remembers_the_old_ones_longer() {
        let gradients = [[1.0, -1.0, 0.0], [-0.9, 0.9, 0.0], [-0.0005, 0.0005, 0.0]];
        assert_eq!(signs_of(Form::Lion, &gradients), [[1, -1, 0], [-1, 1, 0], [1, -1, 0]]);
        assert_eq!(signs_of(Form::Signum, &gradients), [[1, -1, 0], [-1, 1, 0], [-1, 1, 0]]);
    }

    #[test]
    fn names_read_back() {
        for form in [Form::Signum, Form::Lion, Form::Feedback { scale: 0.02 }, Form::Feedback { scale: 0.5 }]
        {
            assert_eq!(form.to_string().parse::<Form>().unwrap(), form);
        }
        assert_eq!("feedback".parse::<Form>().unwrap(), Form::Feedback { scale: 0.02 });
        for wrong in ["", "adam", "feedback-", "feedback-0", "feedback--1", "feedback-inf", "lions"] {
            let error = wrong.parse::<Form>().unwrap_err().to_string();
            assert!(error.contains("expected signum, lion or feedback"), "{error}");
        }
    }
}
