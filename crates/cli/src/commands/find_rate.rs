//! `signvote find-rate`: which learning rate to train with.
//!
//! The range test of Smith 2017 ("Cyclical learning rates", section 3.3): the rate rises by the same factor from round to round, and the
//! rate at which the loss is least is about as much as the training bears.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use signvote_byzantine::aggregate::Rule;
use signvote_byzantine::simulate::{Course, Form, Method, Setup, Simulation, Task};
use signvote_learn::{load, set_threads};

use super::print;
use crate::exit::{Exit, Failure};
use crate::flags::{Aggregate, FindRateFlags, OptimizerName};

/// The rate to train with is this part of the one at which the loss is least: there it is about to diverge.
const PART: f64 = 0.1;
/// What is kept of the losses so far, in their running mean.
const MEMORY: f64 = 0.9;
/// A loss so many times the least one is the end.
const DIVERGED: f64 = 4.0;
/// Lines of the table.
const LINES: usize = 16;

/// A round.
#[derive(Clone, Copy, Debug, Serialize)]
struct Row {
    eta: f64,
    loss: f64,
    /// Running mean of the losses so far.
    smoothed: f64,
}

#[derive(Debug, Serialize)]
struct Found {
    eta: f64,
    least_loss_at: f64,
    rows: Vec<Row>,
}

pub(crate) fn run(flags: &FindRateFlags) -> Result<Exit, Failure> {
    let setup = setup(flags)?;
    flags.learn.check()?;
    set_threads(std::thread::available_parallelism().map_or(1, std::num::NonZero::get))?;
    let split = Arc::new(load(&flags.learn.wanted())?);
    let problem = signvote_byzantine::simulate::Problem::new(&setup, Some(split))?;
    let schedule = setup.course(setup.rounds)?;
    let mut simulation = Simulation::new(&setup, &problem)?;
    let (mut rows, mut mean, mut least): (Vec<Row>, f64, f64) = (Vec::new(), 0.0, f64::INFINITY);
    for round in 0..setup.rounds {
        let loss = simulation.step()?;
        mean = MEMORY * mean + (1.0 - MEMORY) * loss;
        let smoothed = mean / (1.0 - MEMORY.powf(round as f64 + 1.0));
        if !smoothed.is_finite() || smoothed > DIVERGED * least {
            break;
        }
        least = least.min(smoothed);
        rows.push(Row { eta: f64::from(schedule.eta(signvote_election::Round(round))), loss, smoothed });
    }
    let best = rows.iter().min_by(|a, b| a.smoothed.total_cmp(&b.smoothed));
    let best = best.ok_or_else(|| Failure::new(Exit::Diverged, "the loss was not finite from the start"))?;
    let found = Found { eta: rounded(PART * best.eta), least_loss_at: best.eta, rows };
    if flags.json {
        let json = serde_json::to_string(&found);
        print(&json.map_err(|error| Failure::internal("cannot write the result", &error))?);
    } else {
        print(&table(&found));
    }
    Ok(Exit::Success)
}

/// A run whose rate goes through four decades.
fn setup(flags: &FindRateFlags) -> Result<Setup, Failure> {
    let rules = &flags.rules;
    let vote = rules.aggregate == Aggregate::Vote;
    if rules.optimizer == OptimizerName::Adam {
        return Err(Failure::usage("find-rate tries the vote, and SGD on the mean: not --optimizer adam"));
    }
    let steps = &rules.steps;
    if steps.vote_feedback || steps.clip_norm > 0.0 || steps.label_smoothing > 0.0 {
        let message = "find-rate has no --vote-feedback, --clip-norm or --label-smoothing: look for the rate without them";
        return Err(Failure::usage(message));
    }
    // The rates at the end of the sweep that nothing survives.
    let eta = match (vote, steps.layerwise) {
        (true, false) => 0.1,
        (true, true) => 1.0,
        (false, _) => 10.0,
    };
    let method = match (vote, steps.vote_momentum) {
        (true, 0.0) => Method::Vote,
        (true, beta) => Method::Momentum { beta },
        (false, _) => Method::Rule(Rule::Mean),
    };
    Ok(Setup {
        problem: Task::Model(flags.learn.model),
        data: flags.learn.data,
        partition: rules.partition,
        workers: rules.workers,
        batch: rules.batch,
        rounds: flags.rounds,
        seed: rules.seed,
        eta,
        schedule: Course::Sweep,
        weight_decay: rules.weight_decay,
        decay_matrices: vote && steps.step_rule().decay_matrices,
        layerwise: steps.layerwise,
        momentum: rules.beta,
        form: Form::Plain(steps.form),
        method,
        tie: rules.tie,
        ..Setup::default()
    })
}

/// To one significant digit, as people write rates.
fn rounded(eta: f64) -> f64 {
    let decade = 10_f64.powf(eta.log10().floor());
    // Dividing by a power of ten gives the shortest decimal, where multiplying may not.
    (eta / decade).round() / (1.0 / decade).round().max(1.0)
}

fn table(found: &Found) -> String {
    let mut text = String::from("   rate    loss\n");
    let step = found.rows.len().div_ceil(LINES).max(1);
    let most = found.rows.iter().map(|row| row.smoothed).fold(0.0, f64::max);
    for row in found.rows.iter().step_by(step) {
        let bar = "█".repeat((40.0 * row.smoothed / most).round() as usize);
        let _ = writeln!(text, "{:7.1e} {:7.3}  {bar}", row.eta, row.smoothed);
    }
    let Found { eta, least_loss_at, .. } = found;
    let _ = writeln!(
        text,
        "The loss is least at a rate of {least_loss_at:.1e}, and a tenth of that is safe: --eta {eta}"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_rounded_to_one_digit() {
        for (eta, expected) in
            [(0.001_234, 0.001), (0.000_96, 0.001), (0.047, 0.05), (3.2e-5, 3e-5), (0.96, 1.0)]
        {
            assert!((rounded(eta) / expected - 1.0).abs() < 1e-12, "{eta}: {}", rounded(eta));
        }
        assert_eq!(rounded(0.000_33).to_string(), "0.0003");
    }
}
