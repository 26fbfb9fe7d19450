//! What can go wrong with a bench.

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
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
    /// An exchange came to something else than it should.
    #[error("wrong answer of the exchange: {what}")]
    Answer {
        /// Where it differs.
        what: String,
    },
    /// The other side of an exchange is not there, or refuses.
    #[error(transparent)]
    Exchange(#[from] signvote_election::ExchangeError),
    /// An address cannot be had, or an identity not be made or used.
    #[error(transparent)]
    Net(#[from] signvote_net::Error),
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
    /// Measurements that predictions were to be compared with are none.
    #[error("no measurements to compare with: {what}")]
    Results {
        /// What is wrong with them.
        what: String,
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
