//! Learning-rate schedules.

use crate::{Error, Round};

/// How η goes on after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// η stays.
    Constant,
    /// η is multiplied by `factor` after every `every` rounds; the paper divides by 10 every 30 epochs.
    Step {
        /// Rounds from one drop to the next, counted from round 0.
        every: u64,
        /// What η is multiplied by.
        factor: f64,
    },
    /// η·(1 + cos πt)/2, where t goes from 0 at the end of the warm-up to 1 at the end of the run
    /// (Loshchilov & Hutter 2017, without restarts).
    Cosine,
}

/// The learning rate of every round of a run: linear warm-up, then a shape.
///
/// Computed in f64 and rounded once; only the server evaluates it, and the commit carries the result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    base: f64,
    warmup: u64,
    rounds: u64,
    shape: Shape,
}

impl Schedule {
    /// A schedule that reaches `base` after `warmup` rounds, in a run of `rounds` rounds.
    ///
    /// # Errors
    /// If `base` is not a positive number, a step is 0 rounds long, or its factor is not in (0, 1].
    pub fn new(base: f64, warmup: u64, rounds: u64, shape: Shape) -> Result<Self, Error> {
        if !(base > 0.0 && base.is_finite()) {
            return Err(Error::Misuse(format!("the learning rate must be a positive number, got {base}")));
        }
        if let Shape::Step { every, factor } = shape
            && (every == 0 || !(factor > 0.0 && factor <= 1.0))
        {
            let got = format!("got {factor} every {every}");
            return Err(Error::Misuse(format!(
                "a step is 1 round or longer and its factor in (0, 1], {got}"
            )));
        }
        Ok(Self { base, warmup, rounds, shape })
    }

    /// η of a round. In a warm-up of w rounds, round r < w has base·(r+1)/w.
    pub fn eta(&self, round: Round) -> f32 {
        if round.0 < self.warmup {
            return (self.base * (round.0 + 1) as f64 / self.warmup as f64) as f32;
        }
        let eta = match self.shape {
            Shape::Constant => self.base,
            Shape::Step { every, factor } => {
                self.base * factor.powi(i32::try_from(round.0 / every).unwrap_or(i32::MAX))
            }
            Shape::Cosine => {
                let length = self.rounds.saturating_sub(self.warmup).max(1) as f64;
                let t = ((round.0 - self.warmup) as f64 / length).min(1.0);
                self.base * 0.5 * (1.0 + (std::f64::consts::PI * t).cos())
            }
        };
        eta as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etas(warmup: u64, rounds: u64, shape: Shape) -> Vec<f32> {
        let schedule = Schedule::new(1.0, warmup, rounds, shape).unwrap();
        (0..rounds).map(|round| schedule.eta(Round(round))).collect()
    }

    #[test]
    fn warm_up_is_linear_and_ends_at_the_base() {
        assert_eq!(etas(4, 6, Shape::Constant), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn steps_divide_where_they_say() {
        let shape = Shape::Step { every: 2, factor: 0.5 };
        assert_eq!(etas(0, 6, shape), [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]);
        assert_eq!(etas(1, 4, shape), [1.0, 1.0, 0.5, 0.5]);
    }

    #[test]
    fn cosine_starts_at_the_base_and_falls_towards_zero() {
        let etas = etas(0, 100, Shape::Cosine);
        assert_eq!(etas[0], 1.0);
        assert_eq!(etas[50], 0.5);
        assert!(etas.windows(2).all(|pair| pair[1] < pair[0]));
        assert!(etas[99] > 0.0 && etas[99] < 1e-3);
    }

    #[test]
    fn senseless_schedules_are_refused() {
        for base in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Schedule::new(base, 0, 1, Shape::Constant).is_err());
        }
        assert!(Schedule::new(1.0, 0, 1, Shape::Step { every: 0, factor: 0.1 }).is_err());
        assert!(Schedule::new(1.0, 0, 1, Shape::Step { every: 1, factor: 0.0 }).is_err());
    }
}
