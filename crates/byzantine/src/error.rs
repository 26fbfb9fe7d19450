//! The crate's error.

use signvote_election::ExchangeError;

/// What can go wrong in an aggregation or a simulation, split by who is at fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A rule was told of more liars than it can stand.
    #[error("{rule} stands {bound} liars of {n} workers, and was told of {f}")]
    Bound {
        /// Its name.
        rule: String,
        /// Its bound, as a condition on n and f with the most that f may be.
        bound: String,
        /// Workers.
        n: usize,
        /// Liars that it was told of.
        f: usize,
    },
    /// The caller asked for something that cannot be.
    #[error("{what}: expected {expected}, got {got}")]
    Misuse {
        /// What does not fit.
        what: &'static str,
        /// What would.
        expected: String,
        /// What was given.
        got: String,
    },
    /// The engine or the data failed.
    #[error(transparent)]
    Learn(#[from] signvote_learn::Error),
    /// The election failed.
    #[error(transparent)]
    Election(#[from] ExchangeError),
}

impl Error {
    pub(crate) fn misuse(what: &'static str, expected: impl ToString, got: impl ToString) -> Self {
        Self::Misuse { what, expected: expected.to_string(), got: got.to_string() }
    }
}

impl From<signvote_election::Error> for Error {
    fn from(error: signvote_election::Error) -> Self {
        Self::Election(error.into())
    }
}
