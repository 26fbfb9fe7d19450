//! What can go wrong with a report.

use std::io;
use std::path::{Path, PathBuf};

/// An error about a report; its text names the file or the part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The report cannot be written as it is: the caller's mistake.
    #[error("{part}: {reason}")]
    Misuse {
        /// Which section or plot.
        part: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A plot could not be drawn: a mistake of this crate's.
    #[error("cannot draw {plot}: {reason}")]
    Draw {
        /// Which plot.
        plot: String,
        /// What the plotting library says.
        reason: String,
    },
    /// There is nothing to write letters with.
    #[error("this system has no fonts to draw pictures with: install some, as Debian's fonts-dejavu-core")]
    NoFonts,
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
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn misuse(part: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Misuse { part: part.into(), reason: reason.into() }
    }
}
