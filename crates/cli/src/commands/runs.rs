//! Runs of the simulator: their data, and the files that they are kept in.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use signvote_byzantine::simulate::{Outcome, Problem, Setup, Task, key};
use signvote_learn::{DataSource, Split, Wanted, load};
use signvote_reproduce::Store;

use crate::exit::{Exit, Failure};
use crate::progress;

/// Data sets, each read once.
pub(crate) struct Data {
    directory: Option<PathBuf>,
    sets: HashMap<DataSource, Arc<Split>>,
}

impl Data {
    /// Sets that are not in the program lie in `directory`, or where they usually lie.
    pub(crate) fn new(directory: Option<PathBuf>) -> Self {
        Self { directory, sets: HashMap::new() }
    }

    pub(crate) fn problem(&mut self, setup: &Setup) -> Result<Problem, Failure> {
        let split = match setup.problem {
            Task::Quadratic { .. } => None,
            Task::Model(_) => Some(self.split(setup.data)?),
        };
        Ok(Problem::new(setup, split)?)
    }

    pub(crate) fn split(&mut self, source: DataSource) -> Result<Arc<Split>, signvote_learn::Error> {
        if let Some(split) = self.sets.get(&source) {
            return Ok(Arc::clone(split));
        }
        let wanted = Wanted { source, directory: self.directory.clone(), context: None };
        let split = Arc::new(load(&wanted)?);
        self.sets.insert(source, Arc::clone(&split));
        Ok(split)
    }
}

/// What has been run: in memory, and in a file to which every run is added as soon as it is over, and from which an interrupted command
/// goes on.
pub(crate) struct Runs {
    directory: Option<PathBuf>,
    log: Option<File>,
    outcomes: HashMap<String, Outcome>,
}

/// The file, within the directory.
const LOG: &str = "runs.jsonl";

impl Runs {
    /// With what an earlier command has left in `directory`; without one, in memory alone.
    pub(crate) fn open(directory: Option<PathBuf>) -> Result<Self, Failure> {
        let mut runs = Self { directory, log: None, outcomes: HashMap::new() };
        let Some(directory) = &runs.directory else { return Ok(runs) };
        std::fs::create_dir_all(directory).map_err(|error| cannot(directory, &error))?;
        let path = directory.join(LOG);
        if path.exists() {
            let file = File::open(&path).map_err(|error| cannot(&path, &error))?;
            for line in BufReader::new(file).lines() {
                let line = line.map_err(|error| cannot(&path, &error))?;
                // A line that was cut off is a run that is made again.
                if let Ok(outcome) = serde_json::from_str::<Outcome>(&line) {
                    runs.outcomes.insert(key(&outcome.setup), outcome);
                }
            }
        }
        let log = OpenOptions::new().create(true).append(true).open(&path);
        runs.log = Some(log.map_err(|error| cannot(&path, &error))?);
        Ok(runs)
    }

    pub(crate) fn len(&self) -> usize {
        self.outcomes.len()
    }

    pub(crate) fn add(&mut self, outcome: Outcome) -> Result<(), Failure> {
        let at = self.directory.clone().unwrap_or_default();
        self.keep(outcome).map_err(|error| cannot(&at, &error))
    }

    pub(crate) fn in_order(&self, setups: &[Setup]) -> Vec<&Outcome> {
        setups.iter().filter_map(|setup| self.outcomes.get(&key(setup))).collect()
    }

    /// One tidy table of the runs, one of their curves, and everything as JSON.
    pub(crate) fn write(&self, outcomes: &[&Outcome]) -> Result<(), Failure> {
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

    /// The same of all runs, after which there is nothing to go on with: the next command makes every run anew.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let mut outcomes: Vec<_> = self.outcomes.iter().collect();
        outcomes.sort_by_key(|(key, _)| key.as_str());
        self.write(&outcomes.into_iter().map(|(_, outcome)| outcome).collect::<Vec<_>>())?;
        let Some(directory) = &self.directory else { return Ok(()) };
        std::fs::remove_file(directory.join(LOG)).map_err(|error| cannot(directory, &error))
    }
}

impl Store for Runs {
    fn find(&self, setup: &Setup) -> Option<Outcome> {
        self.outcomes.get(&key(setup)).cloned()
    }

    fn keep(&mut self, outcome: Outcome) -> io::Result<()> {
        if let Some(log) = &mut self.log {
            let line = serde_json::to_string(&outcome)?;
            // In one piece, after whatever an interrupted run has left of a line.
            log.write_all(format!("\n{line}\n").as_bytes())?;
            log.sync_data()?;
        }
        self.outcomes.insert(key(&outcome.setup), outcome);
        Ok(())
    }
}

pub(crate) fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Files, format!("cannot write {}: {error}; choose another --out", path.display()))
}

pub(crate) fn json(outcomes: &[&Outcome]) -> Result<String, Failure> {
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
