//! What can go wrong in an election, split by who is at fault.

/// An error of the election, named after whose fault it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Bytes that are no frame of this protocol.
    #[error("malformed {what}: expected {expected}, got {got}")]
    Malformed {
        /// The field or frame that could not be read.
        what: &'static str,
        /// What the protocol allows there.
        expected: String,
        /// What stood there.
        got: String,
    },
    /// A well-formed frame that the sender was not allowed to send.
    #[error("broke the rule \"{rule}\": {details}")]
    Misbehaved {
        /// The rule, in a few words.
        rule: &'static str,
        /// What was sent instead.
        details: String,
    },
    /// A peer that is sound, but cannot take part in this run.
    #[error("incompatible {what}: expected {expected}, got {got}")]
    Incompatible {
        /// What differs.
        what: &'static str,
        /// This side's value.
        expected: String,
        /// The other side's value.
        got: String,
    },
    /// The server said no, and why.
    #[error("the server refused: {reason}")]
    Refused {
        /// Whether it is worth coming again.
        later: crate::wire::Later,
        /// The server's reason.
        reason: String,
    },
    /// The calling code broke this crate's contract.
    #[error("misuse: {0}")]
    Misuse(String),
}

impl Error {
    pub(crate) fn malformed(what: &'static str, expected: impl ToString, got: impl ToString) -> Self {
        Self::Malformed { what, expected: expected.to_string(), got: got.to_string() }
    }

    pub(crate) fn misbehaved(rule: &'static str, details: impl Into<String>) -> Self {
        Self::Misbehaved { rule, details: details.into() }
    }

    pub(crate) fn incompatible(what: &'static str, expected: impl ToString, got: impl ToString) -> Self {
        Self::Incompatible { what, expected: expected.to_string(), got: got.to_string() }
    }
}
