//! What can go wrong with a run's files.

use std::io;
use std::path::{Path, PathBuf};

/// An error about a run directory; its text names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The directory holds another run.
    #[error("{path} already holds a run (it has {file}); pass another --run-dir, or move it away")]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// The file that shows it.
        file: &'static str,
    },
    /// There is no run there.
    #[error("{path} holds no run: there is no {file} in it")]
    NoRun {
        /// The directory.
        path: PathBuf,
        /// The file that is missing.
        file: &'static str,
    },
    /// The system refused.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A line of the log that is no event: it was damaged, or another version wrote it.
    #[error("line {line} of {path} is no event of this program: {reason}")]
    NoEvent {
        /// The file.
        path: PathBuf,
        /// The line's number.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A model file that is none.
    #[error("{path} is no model file of this program: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of tensors that has not those that are asked for.
    #[error("{path} does not hold this model: {reason}")]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// A worker's checkpoint that is none, or is damaged.
    #[error(
        "{path} is no whole checkpoint of a worker: {reason}; remove it to start with a momentum of zero"
    )]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A worker's checkpoint that belongs elsewhere.
    #[error(
        "{path} is the checkpoint of another {what}: expected {expected}, got {got}; pass another --checkpoint, \
         or move it away"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is another.
        what: &'static str,
        /// What this worker has.
        expected: String,
        /// What the file has.
        got: String,
    },
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}
