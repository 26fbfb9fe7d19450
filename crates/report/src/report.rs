//! The report and its sections.

use crate::{Plot, Table};

/// A report. What is empty in it is left out of the page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The heading.
    pub title: String,
    /// What it is about; an empty line begins a new paragraph.
    pub about: String,
    /// The command that makes it again.
    pub command: String,
    /// The machine it was made on.
    pub machine: String,
    /// How long making it took. Nothing is said if it is not above zero.
    pub seconds: f64,
    /// In the order of the page.
    pub sections: Vec<Section>,
}

impl Report {
    /// All checks, each with its section, in the order of the page.
    pub fn checks(&self) -> impl Iterator<Item = (&Section, &Check)> {
        self.sections.iter().flat_map(|section| section.checks.iter().map(move |check| (section, check)))
    }

    /// The checks that do not hold.
    pub fn failed(&self) -> impl Iterator<Item = (&Section, &Check)> {
        self.checks().filter(|(_, check)| !check.passed)
    }
}

/// One experiment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    /// What links and file names are made of: lower-case letters, digits, `-` and `_`, as in `fig4`.
    pub id: String,
    /// The heading.
    pub title: String,
    /// What the plots show, in a sentence or two; an empty line begins a new paragraph.
    pub says: String,
    /// What the paper found, to stand beside what was found here.
    pub paper: Option<String>,
    /// What was found here.
    pub ours: String,
    /// What is smaller here than in the paper's set-up.
    pub scaled: String,
    /// Names and values.
    pub settings: Vec<(String, String)>,
    /// The command that makes this section alone.
    pub command: String,
    /// Side by side where there is room.
    pub plots: Vec<Plot>,
    /// Below the plots.
    pub tables: Vec<Table>,
    /// What must hold.
    pub checks: Vec<Check>,
}

/// A law that the measurement must obey, and whether it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Its name, as in the list of those that failed.
    pub name: String,
    /// The law in words or as a formula.
    pub law: String,
    /// What the law asks for here.
    pub expected: String,
    /// What was measured.
    pub measured: String,
    /// Whether it holds.
    pub passed: bool,
}
