//! What can go wrong with a bench.

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A kernel is wrong on this machine.
    #[error("wrong answer of {row} ({group}): {difference}")]
    Wrong {
        /// The row's group.
        group: String,
        /// The row.
        row: String,
        /// Where the answers differ.
        difference: String,
    },
    /// The buffers do not fit.
    #[error(
        "{needed_mib} MiB of memory are needed, and {available_mib} MiB are available: ask for fewer \
             coordinates or voters"
    )]
    Memory {
        /// What the largest group takes.
        needed_mib: u64,
        /// What the system can give.
        available_mib: u64,
    },
    /// The system does not give that many threads.
    #[error("cannot start {threads} threads: {reason}")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// Why not.
        reason: String,
    },
}
