//! What can go wrong with a ledger, split by who has to do something about it.

use std::io;
use std::path::{Path, PathBuf};

/// An error about a ledger; its text names the file and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
    /// There is no room left, on the disk or within the user's quota.
    #[error(
        "cannot {doing} {path}: {source}; free some space there: what was written before is whole, and the next \
         snapshot starts a new log"
    )]
    Full {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// An earlier entry could not be written, so that later ones would stand behind a gap.
    #[error("{path} takes no more entries, since one is missing ({reason}); a snapshot starts a new file")]
    Stopped {
        /// The segment.
        path: PathBuf,
        /// Why the entry is missing.
        reason: String,
    },
    /// Bytes that had reached the disk are not what was written.
    #[error("{path} is damaged at byte {offset}: {reason}{}", remedy(path, *offset, *newest))]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// Where the first entry starts that is not whole; 0 for the header.
        offset: u64,
        /// What is wrong with it.
        reason: String,
        /// Whether it is the newest segment: only what is last can be given up without a gap.
        newest: bool,
    },
    /// The bytes are those that were written, but they are no history of this run.
    #[error("{what} in {path} does not hold: {source}")]
    Untrue {
        /// What it is: a round, the charter.
        what: String,
        /// The segment, or the directory.
        path: PathBuf,
        /// Why not.
        source: signvote_election::Error,
    },
    /// A file that this program has not written.
    #[error("{path} is no log of this program: it does not start with \"SVLEDGER\"; move it away")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A log of another version of this program.
    #[error("{path} has format version {got}, expected {expected}: use the program that wrote it")]
    Version {
        /// The segment.
        path: PathBuf,
        /// The version that this program writes.
        expected: u32,
        /// The version of the file.
        got: u32,
    },
    /// Files of two runs in one directory.
    #[error("{path} belongs to another run than {other}: move the files of one of them away")]
    AnotherRun {
        /// The older segment.
        path: PathBuf,
        /// The newest segment.
        other: PathBuf,
    },
    /// There is nothing to resume.
    #[error("{path} holds no ledger to resume from: no log in it; start the run anew in another directory")]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// A ledger is there already.
    #[error("{path} holds the ledger of a run; resume that run, or pass another directory")]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// No snapshot is whole, or the log does not go on from the one that is.
    #[error("{path} has no snapshot to start from: {}", reasons.join("; "))]
    NoSnapshot {
        /// The directory.
        path: PathBuf,
        /// What is wrong with each, newest first.
        reasons: Vec<String>,
    },
    /// Another process writes to this ledger.
    #[error("{path} is in use by another server; stop that one first")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The caller could not write its snapshot.
    #[error("cannot write the snapshot {path}: {source}")]
    Snapshot {
        /// The snapshot.
        path: PathBuf,
        /// The caller's reason.
        source: signvote_observe::Error,
    },
    /// The calling code broke this crate's contract.
    #[error("misuse: {0}")]
    Misuse(String),
}

/// What to do about a damaged entry. A damaged header leaves nothing that could be kept, and what newer segments follow cannot be
/// cut.
fn remedy(path: &Path, offset: u64, newest: bool) -> String {
    if offset == 0 || !newest {
        return "; restore it from a copy".into();
    }
    format!(
        "; restore it from a copy, or give up what stands behind that byte: truncate --size={offset} {}, then \
         signvote server --resume with --new-incarnation",
        path.display()
    )
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { doing, path, source },
            _ => Self::Io { doing, path, source },
        }
    }

    pub(crate) fn untrue(
        what: impl Into<String>,
        path: &Path,
    ) -> impl FnOnce(signvote_election::Error) -> Self {
        let (what, path) = (what.into(), path.to_owned());
        move |source| Self::Untrue { what, path, source }
    }

    pub(crate) fn corrupt(path: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::corrupt_in(path, true, offset, reason)
    }

    /// As [`Self::corrupt`], in a segment that newer ones follow unless it is the newest.
    pub(crate) fn corrupt_in(path: &Path, newest: bool, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), offset, reason: reason.into(), newest }
    }
}
