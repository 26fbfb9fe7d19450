//! A whole run, and what came of it.

use serde::{Deserialize, Serialize};

use super::{Bits, Problem, Setup, Simulation};
use crate::Error;

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was run.
    pub setup: Setup,
    /// d.
    pub dimension: usize,
    /// Rounds made.
    pub rounds: u64,
    /// How good x was on the way, the start and the end included: after every epoch, or twenty times.
    pub curve: Vec<Point>,
    /// Bits that a worker sent in a round; the last one.
    pub bits_up: u64,
    /// Bits that it was sent.
    pub bits_down: u64,
}

/// How good x was after so many rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Rounds made.
    pub round: u64,
    /// As [`Measure::loss`](super::Measure::loss); `None` where it is not finite.
    pub loss: Option<f64>,
    /// As [`Measure::accuracy`](super::Measure::accuracy).
    pub accuracy: Option<f64>,
}

impl Outcome {
    /// How good x was in the end.
    pub fn last(&self) -> Point {
        self.curve[self.curve.len() - 1]
    }
}

/// Points of a curve where there are no epochs.
const POINTS: u64 = 20;

/// Makes a run. `watch` hears of every round made, and of how many there are.
///
/// # Errors
/// Those of [`Simulation::new`] and [`Simulation::step`].
pub fn run(setup: &Setup, problem: &Problem, watch: &mut dyn FnMut(u64, u64)) -> Result<Outcome, Error> {
    let mut simulation = Simulation::new(setup, problem)?;
    let rounds = simulation.rounds();
    let every = match problem.rounds_per_epoch(setup) {
        0 => rounds.div_ceil(POINTS).max(1),
        epoch => epoch,
    };
    let mut curve = vec![point(&simulation)?];
    while simulation.round() < rounds {
        simulation.step()?;
        let made = simulation.round();
        if made % every == 0 || made == rounds {
            curve.push(point(&simulation)?);
        }
        watch(made, rounds);
    }
    let Bits { up, down } = simulation.bits();
    Ok(Outcome {
        setup: setup.clone(),
        dimension: problem.dimension(),
        rounds,
        curve,
        bits_up: up,
        bits_down: down,
    })
}

fn point(simulation: &Simulation) -> Result<Point, Error> {
    let measure = simulation.measure()?;
    Ok(Point {
        round: simulation.round(),
        loss: Some(measure.loss).filter(|loss| loss.is_finite()).map(twelve_digits),
        accuracy: measure.accuracy.map(twelve_digits),
    })
}

/// As many as every reader of JSON brings back unchanged; what is read from a file is then what was written.
fn twelve_digits(value: f64) -> f64 {
    format!("{value:.11e}").parse().unwrap_or(value)
}
