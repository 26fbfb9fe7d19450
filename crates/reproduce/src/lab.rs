//! Where runs are made: each once, whoever asks for it.

use std::io;
use std::sync::Arc;

use signvote_byzantine::simulate::{Outcome, Problem, Setup, Task, run};
use signvote_learn::{DataSource, Split};
use signvote_report::{Cell, Check};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A run failed.
    #[error(transparent)]
    Run(#[from] signvote_byzantine::Error),
    /// Data that a figure learns from is not there.
    #[error(transparent)]
    Data(#[from] signvote_learn::Error),
    /// What came of a run could not be kept.
    #[error(transparent)]
    Keep(#[from] io::Error),
}

/// Where outcomes are kept, so that each run is made once: in memory, or in files, of which the lab knows nothing.
pub trait Store {
    /// What came of a run, if it has been made.
    fn find(&self, setup: &Setup) -> Option<Outcome>;

    /// Keeps it.
    ///
    /// # Errors
    /// If it cannot be written.
    fn keep(&mut self, outcome: Outcome) -> io::Result<()>;
}

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// All figures in under ten minutes on two cores: one seed, few epochs, the 10,000 images in the program.
    Quick,
    /// Three seeds and ten epochs.
    Full,
}

/// Loads a data set.
pub type Loader<'a> = Box<dyn FnMut(DataSource) -> Result<Arc<Split>, signvote_learn::Error> + 'a>;

/// Runs set-ups, each once.
pub struct Lab<'a> {
    effort: Effort,
    load: Loader<'a>,
    watch: Box<dyn FnMut(&str) + 'a>,
    store: &'a mut dyn Store,
}

impl<'a> Lab<'a> {
    /// A lab that reads data by `load`, says to `watch` what it is about to run, and makes no run that `store` has.
    pub fn new(
        effort: Effort,
        load: Loader<'a>,
        store: &'a mut dyn Store,
        watch: impl FnMut(&str) + 'a,
    ) -> Self {
        Self { effort, load, watch: Box::new(watch), store }
    }

    pub(crate) fn is_quick(&self) -> bool {
        self.effort == Effort::Quick
    }

    /// One of two, by how much is run.
    pub(crate) fn either<T>(&self, quick: T, full: T) -> T {
        if self.is_quick() { quick } else { full }
    }

    /// Seeds of every run that has some spread.
    pub(crate) fn seeds(&self) -> &'static [u64] {
        self.either(&[1], &[1, 2, 3])
    }

    pub(crate) fn command(&self, name: &str) -> String {
        format!("signvote reproduce {name} --out report{}", self.either(" --quick", ""))
    }

    /// The mlp on the 10,000 images, for as many epochs as there is time: what most figures are scaled to.
    pub(crate) fn mlp(&self) -> Setup {
        Setup { epochs: self.either(5, 10), ..Setup::default() }
    }

    pub(crate) fn scaled(&self) -> String {
        let setup = self.mlp();
        format!(
            "{} (203,530 parameters) on 10,000 images of Fashion-MNIST, {} epochs, batch {} a worker, instead of a ResNet on CIFAR-10 or \
             ImageNet; {} seed(s). The paper's own set-up: recipes/imagenet-resnet50.toml and recipes/cifar10-resnet18.toml",
            setup.problem,
            setup.epochs,
            setup.batch,
            self.seeds().len()
        )
    }

    /// The problem of a set-up, with its data.
    pub(crate) fn problem(&mut self, setup: &Setup) -> Result<Problem, Error> {
        let split = match setup.problem {
            Task::Quadratic { .. } => None,
            Task::Model(_) => Some((self.load)(setup.data)?),
        };
        Ok(Problem::new(setup, split)?)
    }

    /// What comes of a run; made once.
    pub(crate) fn run(&mut self, setup: &Setup) -> Result<Outcome, Error> {
        if let Some(outcome) = self.store.find(setup) {
            return Ok(outcome);
        }
        (self.watch)(&format!("{} of {}, {} liars: {}", setup.method, setup.workers, setup.liars, setup.lie));
        let problem = self.problem(setup)?;
        let outcome = run(setup, &problem, &mut |_, _| {})?;
        self.store.keep(outcome.clone())?;
        Ok(outcome)
    }

    /// Says what is done now, where it is no run.
    pub(crate) fn say(&mut self, what: &str) {
        (self.watch)(what);
    }

    /// Final accuracies in percent, one a seed.
    pub(crate) fn accuracies(&mut self, setup: &Setup) -> Result<Vec<f64>, Error> {
        let mut found = Vec::new();
        for &seed in self.seeds() {
            let outcome = self.run(&Setup { seed, ..setup.clone() })?;
            found.push(100.0 * outcome.last().accuracy.unwrap_or(0.0));
        }
        Ok(found)
    }
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// An accuracy in percent as a cell whose shade is the accuracy.
pub(crate) fn accuracy_cell(values: &[f64]) -> Cell {
    let mean = mean(values);
    let spread = values.iter().map(|v| (v - mean).abs()).fold(0.0, f64::max);
    let text = if values.len() > 1 { format!("{mean:.1} ±{spread:.1}") } else { format!("{mean:.1}") };
    Cell::shaded(text, mean / 100.0)
}

/// A check of a law.
pub(crate) fn check(
    name: &str,
    law: &str,
    expected: impl ToString,
    measured: impl ToString,
    passed: bool,
) -> Check {
    Check {
        name: name.into(),
        law: law.into(),
        expected: expected.to_string(),
        measured: measured.to_string(),
        passed,
    }
}

/// The settings of a run that a reader asks for first.
pub(crate) fn settings(setup: &Setup) -> Vec<(String, String)> {
    [
        ("problem", setup.problem.to_string()),
        ("workers", setup.workers.to_string()),
        ("batch", setup.batch.to_string()),
        ("epochs", setup.epochs.to_string()),
        ("eta", format!("{} {}", setup.eta, setup.schedule)),
        ("momentum", setup.momentum.to_string()),
        ("tie", setup.tie.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}
