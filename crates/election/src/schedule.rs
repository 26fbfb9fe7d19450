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
    /// From η/25 up to η in the first three tenths of the run, or in the warm-up where there is one, and then down to η/250,000; both
    /// along a cosine (Smith & Topin 2018, as PyTorch's `OneCycleLR` has it; without its cycle of the momentum).
    OneCycle,
    /// From η/10,000 up to η, by the same factor every round: to find a rate (Smith 2017), not to train by.
    Sweep,
}

/// What a cycle begins below its peak by, and ends below its beginning.
const CYCLE_RISE: f64 = 25.0;
const CYCLE_FALL: f64 = 1e4;
/// From the first rate of a sweep to the last.
const SWEEP: f64 = 1e4;

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
        if round.0 < self.warmup && self.shape != Shape::OneCycle {
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
                along_cosine(self.base, 0.0, t)
            }
            Shape::OneCycle => {
                let last = self.rounds.saturating_sub(1) as f64;
                let usual = (0.3 * self.rounds as f64 - 1.0).max(0.0);
                let peak = if self.warmup > 0 { self.warmup as f64 } else { usual };
                let at = (round.0 as f64).min(last);
                let first = self.base / CYCLE_RISE;
                if at < peak {
                    along_cosine(first, self.base, at / peak)
                } else {
                    along_cosine(self.base, first / CYCLE_FALL, (at - peak) / (last - peak).max(1.0))
                }
            }
            Shape::Sweep => {
                let last = self.rounds.saturating_sub(1).max(1) as f64;
                self.base * SWEEP.powf((round.0 as f64 / last).min(1.0) - 1.0)
            }
        };
        eta as f32
    }
}

/// From `from` to `to` as t goes from 0 to 1, half a period of a cosine.
fn along_cosine(from: f64, to: f64, t: f64) -> f64 {
    to + (from - to) * 0.5 * (1.0 + (std::f64::consts::PI * t).cos())
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
    fn a_cycle_rises_for_three_tenths_and_ends_near_zero() {
        // As torch.optim.lr_scheduler.OneCycleLR(max_lr=1, total_steps=11) says.
        let etas = etas(0, 11, Shape::OneCycle);
        for (round, expected) in
            [(0, 0.04), (1, 0.422_341_1), (2, 0.960_261_4), (3, 0.979_746_6), (7, 0.330_058_0), (10, 4e-6)]
        {
            assert!((f64::from(etas[round]) - expected).abs() < 1e-6, "{round}: {}", etas[round]);
        }
        let schedule = Schedule::new(1.0, 5, 11, Shape::OneCycle).unwrap();
        assert_eq!((schedule.eta(Round(5)), schedule.eta(Round(0))), (1.0, 0.04));
    }

    #[test]
    fn a_sweep_goes_through_four_decades() {
        let etas = etas(0, 5, Shape::Sweep);
        for (eta, expected) in etas.into_iter().zip([1e-4, 1e-3, 1e-2, 0.1, 1.0]) {
            assert!((eta / expected - 1.0).abs() < 1e-6, "{eta}");
        }
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
