//! The crate's error.

use std::path::PathBuf;

/// What can go wrong while loading data, drawing batches or computing gradients, split by who is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of a data set is not where it was looked for: the user has to fetch it.
    #[error("{data}: file {file} not found in {}: {remedy}", directory.display())]
    MissingData {
        /// The data set.
        data: String,
        /// The file.
        file: String,
        /// The directory searched.
        directory: PathBuf,
        /// How to get it.
        remedy: &'static str,
    },

    /// A file is there and could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },

    /// A file of a data set does not hold what its format demands.
    #[error("malformed data file {file}: {what}: expected {expected}, got {got}")]
    Malformed {
        /// The file's path, or the name of an embedded one.
        file: String,
        /// The part of the file that is wrong.
        what: &'static str,
        /// What the format, or a companion file, demands there.
        expected: String,
        /// What the file holds.
        got: String,
    },

    /// A name that the caller gave is none of those known.
    #[error("unknown {kind}: expected {expected}, got {got:?}")]
    UnknownName {
        /// What was named: a data set, a model, a partition.
        kind: &'static str,
        /// The names that are known.
        expected: &'static str,
        /// The name given.
        got: String,
    },

    /// The caller asked for something that cannot be: counts or lengths that do not fit together.
    #[error("{what}: expected {expected}, got {got}")]
    Misuse {
        /// What does not fit.
        what: &'static str,
        /// What would fit.
        expected: String,
        /// What was given.
        got: String,
    },

    /// Round after round, a gradient was not finite: the training has diverged, or an input is broken.
    #[error(
        "the gradient of {parameter} was not finite in {rounds} rounds in a row, the last one round {round}: \
         lower the learning rate, or look for broken inputs"
    )]
    NonFinite {
        /// The first parameter concerned.
        parameter: String,
        /// Consecutive rounds.
        rounds: u32,
        /// The last of them.
        round: u64,
    },

    /// The exchange with the server cannot go on.
    #[error(transparent)]
    Exchange(#[from] signvote_election::ExchangeError),

    /// The compute engine failed.
    #[error("compute engine: {reason}")]
    Engine {
        /// The engine's reason.
        reason: String,
    },
}

impl Error {
    pub(crate) fn misuse(
        what: &'static str,
        expected: impl std::fmt::Display,
        got: impl std::fmt::Display,
    ) -> Self {
        Self::Misuse { what, expected: expected.to_string(), got: got.to_string() }
    }
}
