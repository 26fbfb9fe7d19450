//! What can go wrong between sockets and an election.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

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
         make certificates with `signvote certs init` and pass --tls DIR, or pass --insecure if the network itself is trusted"
    )]
    Insecure {
        /// The address.
        address: String,
    },
    /// A thread or the runtime could not be started.
    #[error("cannot start the network runtime: {0}")]
    Runtime(io::Error),
    /// A file of the identities cannot be read or written.
    #[error("cannot {doing} {}: {source}{}", path.display(), file_hint(doing, source))]
    File {
        /// What was tried: "read" or "write".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file of the identities is not what it should be.
    #[error("{}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What was expected, and what it is.
        reason: String,
    },
    /// A secret key that others can read.
    #[error("{} must be its owner's alone, got mode {mode:03o}: chmod 600 {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// No identity can have this name.
    #[error("the name {name:?} {rule}")]
    Name {
        /// The name, or its beginning.
        name: String,
        /// What it must be.
        rule: &'static str,
    },
    /// There is something in the directory that new identities would go to.
    #[error("{} is not empty: a CA is made once, and never in the place of another; pass another directory", path.display())]
    Occupied {
        /// The directory.
        path: PathBuf,
    },
    /// The name has a certificate.
    #[error("{name} has a certificate; to replace it: signvote certs revoke {name}, then issue again")]
    Issued {
        /// The name.
        name: String,
    },
    /// The name never had a certificate.
    #[error("there is no certificate for {name} in {}", path.display())]
    NotIssued {
        /// The name.
        name: String,
        /// The list of those that were issued.
        path: PathBuf,
    },
    /// A key or certificate could not be made: the system gave no random numbers, for example.
    #[error("cannot make a certificate: {0}")]
    Certificate(String),
    /// The other end of a connection was not let in, or its word not taken.
    #[error("TLS handshake failed: {0}")]
    Untrusted(Fault),
    /// The other end did not let us in.
    #[error("refused by the other end: {0}")]
    RefusedBy(Fault),
    /// The connection broke.
    #[error("connection lost: {0}")]
    Lost(io::Error),
}

impl Error {
    /// What becomes of the system's error about a file.
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { doing, path: path.to_owned(), source }
    }

    pub(crate) fn malformed(path: &Path, reason: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), reason: reason.into() }
    }
}

/// Why one end of a connection does not trust the other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A worker without a certificate.
    NoCertificate,
    /// The certificate of another CA, or one that nobody issued.
    OtherAuthority,
    /// The certificate's time is over, or has not come.
    Expired,
    /// The certificate was revoked.
    Revoked,
    /// A worker's certificate where the server's is wanted, or the other way round.
    Role,
    /// The certificate does not name the server, or not exactly one worker.
    Name,
    /// The certificate cannot be read.
    Unreadable,
    /// Something else than TLS, or an end in the middle of the handshake.
    NoTls,
    /// An older TLS.
    Version,
    /// TLS, but another protocol inside.
    OtherProtocol,
    /// Anything else, in the TLS library's words.
    Other(String),
}

impl Fault {
    /// Whether it is there the next time as well: it is about a certificate, and not about what came on one connection.
    pub(crate) fn lasts(&self) -> bool {
        !matches!(self, Self::NoTls | Self::Other(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCertificate => "no certificate was presented (signvote certs issue makes one)",
            Self::OtherAuthority => "the certificate was not issued by this run's CA",
            Self::Expired => "the certificate has expired, or is not valid yet (are both clocks right?)",
            Self::Revoked => "the certificate is revoked",
            Self::Role => {
                "the certificate is for another role: the server's is for a server, a worker's for a worker"
            }
            Self::Name => "the certificate does not name the signvote server, or exactly one worker",
            Self::Unreadable => "the certificate cannot be read",
            Self::NoTls => "the other end does not speak TLS (does one have --tls, and the other not?)",
            Self::Version => "the other end does not speak TLS 1.3",
            Self::OtherProtocol => "the other end speaks TLS, but not signvote",
            Self::Other(reason) => reason,
        })
    }
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

fn file_hint(doing: &str, source: &io::Error) -> &'static str {
    match (doing, source.kind()) {
        ("read", io::ErrorKind::NotFound) => {
            " (signvote certs init makes a CA and the server's certificate, signvote certs issue NAME a worker's; \
             copy the files here)"
        }
        _ => "",
    }
}
