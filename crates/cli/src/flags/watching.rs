//! How a run is watched.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use signvote_dashboard::Token;

/// Where a page is if nothing else is said.
const DASHBOARD: &str = "127.0.0.1:7780";

/// How to watch a run: no part of its settings.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Watching")]
pub(crate) struct WatchFlags {
    /// Serve a live page there [alone: 127.0.0.1:7780]; port 0 takes any free one. Beyond loopback it needs a token.
    #[arg(long, value_name = "ADDR", num_args = 0..=1, default_missing_value = DASHBOARD)]
    pub(crate) dashboard: Option<SocketAddr>,

    /// What who looks must know [default beyond loopback: made up, and printed with the page's address].
    #[arg(long, value_name = "TOKEN")]
    pub(crate) dashboard_token: Option<Token>,

    /// Show the run in a full screen of the terminal.
    #[arg(long)]
    pub(crate) tui: bool,
}

/// Flags of `view`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ViewFlags {
    /// The run's directory.
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run_dir: PathBuf,

    /// Read settings from this file; flags and variables override it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Serve the page there; port 0 takes any free one. Beyond loopback it needs a token.
    #[arg(long, value_name = "ADDR", default_value = DASHBOARD)]
    pub(crate) dashboard: SocketAddr,

    /// What who looks must know [default beyond loopback: made up, and printed with the page's address].
    #[arg(long, value_name = "TOKEN")]
    pub(crate) dashboard_token: Option<Token>,

    /// Show the run in a full screen of the terminal, and serve no page.
    #[arg(long)]
    pub(crate) tui: bool,

    /// Print the status snapshot as one JSON object, and end.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `report`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReportFlags {
    /// The runs' directories, in the order of the page.
    #[arg(value_name = "RUN_DIR", required = true)]
    pub(crate) run_dirs: Vec<PathBuf>,

    /// Read settings from this file; flags and variables override it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Where the report is written: report.html, report.md, and an SVG of each plot.
    #[arg(long, value_name = "DIR", default_value = "report")]
    pub(crate) out: PathBuf,

    /// Write a PNG of each plot as well; needs fonts on this system.
    #[arg(long)]
    pub(crate) png: bool,
}
