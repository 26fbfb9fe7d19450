//! What can be typed about a machine that may take part.

use std::path::PathBuf;

use clap::Args;
use signvote_net::Name;

/// Flags of `doctor`.
#[derive(Args, Clone, Debug)]
pub(crate) struct DoctorFlags {
    /// Ask this server as well.
    #[arg(value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,

    /// Read settings from this file; flags and variables override it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Seconds to look for the server.
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    pub(crate) patience: f64,

    /// Look at the certificates in this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) tls: Option<PathBuf>,

    /// At the one of this name only, and ask the server by it.
    #[arg(long, value_name = "NAME", requires = "tls")]
    pub(crate) identity: Option<Name>,

    /// Print what was found as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}
