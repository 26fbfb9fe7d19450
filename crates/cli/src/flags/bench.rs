//! What can be typed about measuring a machine, and what lies between machines.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use signvote_bench::Rate;
use signvote_net::Name;

use super::TopologyKind;

/// Flags of `bench kernels`.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchKernelsFlags {
    /// Read settings from this file; flags and variables override it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Coordinates of the model; the default is the size of ResNet-50.
    #[arg(long, default_value_t = 25_600_000, value_name = "D", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    pub(crate) dim: u64,

    /// Numbers of voters to decide with.
    #[arg(long, default_value = "3,7,15,16,31,64,100", value_name = "M,…", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) voters: Vec<u16>,

    /// Threads; with more than one, only what has a form for them is measured.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: u16,

    /// Shortest time for each group of rows; five turns are taken in any case.
    #[arg(long, default_value_t = 0.5, value_name = "SECONDS")]
    pub(crate) seconds: f64,

    /// Print the result as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,

    /// No progress on stderr.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// A host's part in `bench exchange`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExchangeRole {
    /// Counts votes.
    Server,
    /// Votes; with --shard-listen it is a shard as well.
    Worker,
    /// Tallies a part of the coordinates.
    Shard,
}

/// Flags of `bench exchange`.
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchExchangeFlags {
    /// Read settings from this file; flags and variables override it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// This host's part; without it everything runs on this machine.
    #[arg(long, value_enum, value_name = "ROLE")]
    pub(crate) role: Option<ExchangeRole>,

    /// Where a worker finds the server.
    #[arg(long, default_value = "127.0.0.1:7700", value_name = "HOST:PORT")]
    pub(crate) connect: String,

    /// Where the server listens (by default 127.0.0.1:7700), or the shard.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,

    /// Who tallies. The same for all.
    #[arg(long, value_enum, default_value_t = TopologyKind::Central, value_name = "TOPOLOGY")]
    pub(crate) topology: TopologyKind,

    /// Where this worker's shard listens, in the sharded topology; without it the worker has none.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) shard_listen: Option<String>,

    /// Shards that the server waits for; by default as many as workers.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) shards: Option<u16>,

    /// Shards that tally each chunk.
    #[arg(long, default_value_t = 1, value_name = "R", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) replicas: u8,

    /// Coordinates, the same for all; the default is the size of ResNet-50.
    #[arg(long, default_value_t = 25_600_000, value_name = "D", value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub(crate) dim: u64,

    /// Rounds that are timed; three more come before.
    #[arg(long, default_value_t = 10, value_name = "R", value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    pub(crate) rounds: u64,

    /// Workers that the server waits for.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) workers: u16,

    /// On this machine: how often each form is run, in turns.
    #[arg(long, default_value_t = 5, value_name = "TURNS", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) turns: u32,

    /// Seconds that a worker looks for the server.
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub(crate) patience: f64,

    /// Understood as elsewhere, and not needed: what a bench exchanges is nobody's secret.
    #[arg(long)]
    pub(crate) insecure: bool,

    /// What each host's link carries, such as 1gbit: the link's own limit is printed, and the ratio to it.
    #[arg(long, value_name = "RATE")]
    pub(crate) rate: Option<Rate>,

    /// Print the result as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,

    /// No progress on stderr.
    #[arg(long, short)]
    pub(crate) quiet: bool,

    /// Encrypt, with the certificates in this directory (signvote certs init).
    #[arg(long, value_name = "DIR")]
    pub(crate) tls: Option<PathBuf>,

    /// As a worker: the name in its certificate.
    #[arg(long, value_name = "NAME", requires = "tls")]
    pub(crate) identity: Option<Name>,
}
