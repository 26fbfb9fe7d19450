//! `signvote simulate`: many workers in one process, and what lies do to them.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use signvote_bench::available_bytes;
use signvote_byzantine::simulate::{Outcome, Setup, grid, run as run_one};
use signvote_learn::set_threads;

use super::print;
use super::runs::{Data, Runs, json};
use crate::exit::{Exit, Failure};
use crate::flags::SimulateFlags;
use crate::progress;
use signvote_reproduce::Store as _;

pub(crate) fn run(flags: &SimulateFlags) -> Result<Exit, Failure> {
    let setups = match &flags.grid {
        None => vec![flags.setup()],
        Some(path) => {
            grid(&read(path)?).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?
        }
    };
    if let Some(threads) = flags.threads {
        set_threads(usize::from(threads))?;
    }
    let mut data = Data::new(flags.data_dir.clone());
    for setup in &setups {
        fits(setup, data.problem(setup)?.dimension())?;
    }
    let out = flags.out.clone().or_else(|| flags.grid.as_ref().map(|path| path.with_extension("")));
    let mut results = Runs::open(out)?;
    let bar = if flags.quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} rounds, {eta} {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    progress::bar_is(Some(&bar));
    for (index, setup) in setups.iter().enumerate() {
        if results.find(setup).is_some() {
            continue;
        }
        bar.set_prefix(format!("run {} of {}", index + 1, setups.len()));
        bar.set_message(brief(setup));
        let (problem, began) = (data.problem(setup)?, Instant::now());
        let outcome = run_one(setup, &problem, &mut |made, rounds| {
            bar.set_length(rounds);
            bar.set_position(made);
        })?;
        let seconds = began.elapsed().as_secs_f64();
        if !flags.quiet {
            let rate = outcome.rounds as f64 / seconds;
            progress::line(&format!("{}: {}, {rate:.1} rounds/s", brief(setup), reached(&outcome)));
        }
        results.add(outcome)?;
    }
    bar.finish_and_clear();
    progress::bar_is(None);
    let outcomes = results.in_order(&setups);
    results.write(&outcomes)?;
    let text = if flags.json { json(&outcomes)? } else { table(&outcomes) };
    print(&text);
    Ok(Exit::Success)
}

fn read(path: &Path) -> Result<String, Failure> {
    let cannot = |error| Failure::usage(format!("cannot read --grid {}: {error}", path.display()));
    std::fs::read_to_string(path).map_err(cannot)
}

/// Refuses what this machine has no memory for, before anything is started.
fn fits(setup: &Setup, dimension: usize) -> Result<(), Failure> {
    let (needed, Some(there)) = (setup.memory_bytes(dimension), available_bytes()) else { return Ok(()) };
    if needed <= there {
        return Ok(());
    }
    let workers = setup.workers;
    Err(Failure::usage(format!(
        "gradients and momenta of {workers} workers of {dimension} coordinates take {}, and {} are free: simulate fewer workers, or a \
         smaller model",
        HumanBytes(needed),
        HumanBytes(there)
    )))
}

/// What makes a run differ from others, in a few words.
fn brief(setup: &Setup) -> String {
    let mut text = format!("{} of {}", setup.method, setup.workers);
    if setup.liars > 0 {
        let _ = write!(text, ", {} {}", setup.liars, setup.lie);
    }
    let _ = write!(text, ", seed {}", setup.seed);
    text
}

fn reached(outcome: &Outcome) -> String {
    let last = outcome.last();
    let loss = last.loss.map_or("not finite".to_owned(), |loss| format!("{loss:.4}"));
    match last.accuracy {
        Some(accuracy) => format!("test accuracy {:.2}%, loss {loss}", 100.0 * accuracy),
        None => format!("f = {loss}"),
    }
}

fn table(outcomes: &[&Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let up = outcome.bits_up as f64 / outcome.dimension as f64;
        let _ =
            writeln!(text, "{:60} {}; {up:.2} bits a coordinate up", brief(&outcome.setup), reached(outcome));
    }
    text
}
