//! `signvote simulate`: many workers in one process, and what lies do to them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use signvote_bench::available_bytes;
use signvote_byzantine::simulate::{Outcome, Problem, Setup, Task, grid, key, run as run_one};
use signvote_learn::{DataSource, Split, load, set_threads};

use super::print;
use crate::exit::{Exit, Failure};
use crate::flags::SimulateFlags;
use crate::progress;

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
    let mut data = Data { directory: flags.data_dir.clone(), sets: HashMap::new() };
    for setup in &setups {
        fits(setup, data.problem(setup)?.dimension())?;
    }
    let out = flags.out.clone().or_else(|| flags.grid.as_ref().map(|path| path.with_extension("")));
    let mut results = Results::open(out)?;
    let bar = if flags.quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
    let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} rounds, {eta} {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    progress::bar_is(Some(&bar));
    for (index, setup) in setups.iter().enumerate() {
        if results.has(setup) {
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

/// Data sets, each read once.
pub(crate) struct Data {
    pub(crate) directory: Option<PathBuf>,
    pub(crate) sets: HashMap<DataSource, Arc<Split>>,
}

impl Data {
    pub(crate) fn problem(&mut self, setup: &Setup) -> Result<Problem, Failure> {
        let split = match setup.problem {
            Task::Quadratic { .. } => None,
            Task::Model(_) => Some(self.split(setup.data)?),
        };
        Ok(Problem::new(setup, split)?)
    }

    fn split(&mut self, source: DataSource) -> Result<Arc<Split>, Failure> {
        if let Some(split) = self.sets.get(&source) {
            return Ok(Arc::clone(split));
        }
        let split = Arc::new(load(&source, self.directory.as_deref())?);
        self.sets.insert(source, Arc::clone(&split));
        Ok(split)
    }
}

/// What has been run: in memory, and in a file to which every run is added as soon as it is over.
struct Results {
    directory: Option<PathBuf>,
    log: Option<File>,
    outcomes: HashMap<String, Outcome>,
}

impl Results {
    fn open(directory: Option<PathBuf>) -> Result<Self, Failure> {
        let mut results = Self { directory, log: None, outcomes: HashMap::new() };
        let Some(directory) = &results.directory else { return Ok(results) };
        std::fs::create_dir_all(directory).map_err(|error| cannot(directory, &error))?;
        let path = directory.join("runs.jsonl");
        if path.exists() {
            let file = File::open(&path).map_err(|error| cannot(&path, &error))?;
            for line in BufReader::new(file).lines() {
                let line = line.map_err(|error| cannot(&path, &error))?;
                // A line that was cut off is a run that is made again.
                if let Ok(outcome) = serde_json::from_str::<Outcome>(&line) {
                    results.outcomes.insert(key(&outcome.setup), outcome);
                }
            }
        }
        let log = OpenOptions::new().create(true).append(true).open(&path);
        results.log = Some(log.map_err(|error| cannot(&path, &error))?);
        Ok(results)
    }

    fn has(&self, setup: &Setup) -> bool {
        self.outcomes.contains_key(&key(setup))
    }

    fn add(&mut self, outcome: Outcome) -> Result<(), Failure> {
        if let (Some(log), Some(directory)) = (&mut self.log, &self.directory) {
            let line =
                serde_json::to_string(&outcome).map_err(|error| Failure::internal("cannot write", &error))?;
            // In one piece, after whatever an interrupted run has left of a line.
            let written = log.write_all(format!("\n{line}\n").as_bytes()).and_then(|()| log.sync_data());
            written.map_err(|error| cannot(directory, &error))?;
        }
        self.outcomes.insert(key(&outcome.setup), outcome);
        Ok(())
    }

    fn in_order(&self, setups: &[Setup]) -> Vec<&Outcome> {
        setups.iter().filter_map(|setup| self.outcomes.get(&key(setup))).collect()
    }

    /// One tidy table of the runs, one of their curves, and everything as JSON.
    fn write(&self, outcomes: &[&Outcome]) -> Result<(), Failure> {
        let Some(directory) = &self.directory else { return Ok(()) };
        for (name, text) in [
            ("runs.csv", runs_csv(outcomes)?),
            ("curves.csv", curves_csv(outcomes)),
            ("runs.json", json(outcomes)?),
        ] {
            signvote_observe::replace_file(&directory.join(name), |out| out.write_all(text.as_bytes()))?;
        }
        progress::line(&format!("results are in {}: runs.csv, curves.csv, runs.json", directory.display()));
        Ok(())
    }
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Files, format!("cannot write {}: {error}; choose another --out", path.display()))
}

fn json(outcomes: &[&Outcome]) -> Result<String, Failure> {
    serde_json::to_string_pretty(outcomes)
        .map_err(|error| Failure::internal("cannot write the results", &error))
}

/// A row a run: its settings, and how it ended.
fn runs_csv(outcomes: &[&Outcome]) -> Result<String, Failure> {
    let mut rows = Vec::new();
    for outcome in outcomes {
        let settings = serde_json::to_value(&outcome.setup)
            .map_err(|error| Failure::internal("cannot write the results", &error))?;
        rows.push((settings, outcome));
    }
    // A setting that is left out in some runs has a column still.
    let mut names: Vec<String> = Vec::new();
    for (settings, _) in &rows {
        for name in settings.as_object().into_iter().flat_map(|object| object.keys()) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    let mut text = format!("run,{},dimension,made,loss,accuracy,bits-up,bits-down\n", names.join(","));
    for (number, (settings, outcome)) in rows.iter().enumerate() {
        let _ = write!(text, "{}", number + 1);
        for name in &names {
            // Names of settings have neither commas nor quotes.
            let value = match &settings[name] {
                serde_json::Value::String(word) => word.clone(),
                serde_json::Value::Null => String::new(),
                number => number.to_string(),
            };
            let _ = write!(text, ",{value}");
        }
        let last = outcome.last();
        let Outcome { dimension, rounds, bits_up, bits_down, .. } = outcome;
        let (loss, accuracy) = (cell(last.loss), cell(last.accuracy));
        let _ = writeln!(text, ",{dimension},{rounds},{loss},{accuracy},{bits_up},{bits_down}");
    }
    Ok(text)
}

fn curves_csv(outcomes: &[&Outcome]) -> String {
    let mut text = "run,round,loss,accuracy\n".to_owned();
    for (number, outcome) in outcomes.iter().enumerate() {
        for point in &outcome.curve {
            let (loss, accuracy) = (cell(point.loss), cell(point.accuracy));
            let _ = writeln!(text, "{},{},{loss},{accuracy}", number + 1, point.round);
        }
    }
    text
}

fn cell(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
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
