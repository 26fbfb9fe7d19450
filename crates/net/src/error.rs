//! What can go wrong between sockets and an election.

use std::io;

/// An error of the shell. The election's own errors end one connection and are events, not errors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server cannot listen there.
    #[error("cannot listen at {address}: {source}{}", hint(source))]
    Listen {
        /// The address.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Listening there would let anyone on the network vote.
    #[error(
        "refusing to listen at {address}: beyond loopback, anyone who reaches the port could vote; \
         this version has no TLS yet, so pass --insecure if the network itself is trusted"
    )]
    Insecure {
        /// The address.
        address: String,
    },
    /// A thread or the runtime could not be started.
    #[error("cannot start the network runtime: {0}")]
    Runtime(io::Error),
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AddrInUse => {
            " (another program has this port; pass another one, or port 0 for any free one)"
        }
        io::ErrorKind::PermissionDenied => " (ports below 1024 need privileges)",
        _ => "",
    }
}
