//! What can be typed about a training that is only thought of.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use signvote_bench::Rate;
use signvote_bench::plan::{Costs, Overlap, System};
use signvote_learn::ModelKind;

/// Which forms of the vote are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TopologyName {
    /// Every form.
    All,
    /// One server, on the host of a worker.
    Central,
    /// One server, on a host of its own.
    CentralApart,
    /// A shard on the host of every worker.
    Sharded,
}

impl TopologyName {
    /// The systems of that topology, after those that send numbers.
    pub(crate) fn systems(self) -> Vec<System> {
        let fits = |system: &System| match self {
            Self::All => true,
            Self::Central => *system == System::Central,
            Self::CentralApart => *system == System::CentralApart,
            Self::Sharded => *system == System::Sharded,
        };
        System::ALL.into_iter().filter(|system| !system.is_vote() || fits(system)).collect()
    }
}

/// Which exchanges run under the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OverlapName {
    /// All-reduce, as in PyTorch's DDP; a vote comes after the backward pass.
    Today,
    /// None.
    None,
    /// All.
    All,
}

impl From<OverlapName> for Overlap {
    fn from(name: OverlapName) -> Self {
        match name {
            OverlapName::Today => Self::Today,
            OverlapName::None => Self::None,
            OverlapName::All => Self::All,
        }
    }
}

/// Flags of `plan`.
#[derive(Args, Clone, Debug)]
pub(crate) struct PlanFlags {
    /// Read settings from this file; flags and variables override it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Coordinates of the model [default: those of --model, else 25600000, the size of ResNet-50].
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    pub(crate) dim: Option<u64>,

    /// A model of this program (`signvote models` lists them): its coordinates, and its time for a batch, which is measured here.
    #[arg(long, value_name = "MODEL", conflicts_with = "dim")]
    pub(crate) model: Option<ModelKind>,

    /// Workers, each on a host with a link of its own.
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) workers: u16,

    /// What a link carries each way, such as 100mbit, 1gbit or 2.5gbit.
    #[arg(long, default_value = "1gbit", value_name = "RATE")]
    pub(crate) rate: Rate,

    /// Forms of the vote to look at.
    #[arg(long, value_enum, default_value = "all", value_name = "TOPOLOGY")]
    pub(crate) topology: TopologyName,

    /// Milliseconds of forward and backward on a worker's batch [default: measured with --model, else 0: the exchange
    /// alone].
    #[arg(long, value_name = "MS")]
    pub(crate) compute_ms: Option<f64>,

    /// The backward pass's share of that.
    #[arg(long, default_value_t = 2.0 / 3.0, value_name = "SHARE", hide_default_value = true, help = "The backward pass's share of that [default: 2/3]")]
    pub(crate) backward_share: f64,

    /// Exchanges that run under the backward pass, for epoch, break-even and choice: today, none or all.
    #[arg(long, value_enum, default_value = "today", value_name = "WHICH", hide_possible_values = true)]
    pub(crate) overlap: OverlapName,

    /// Steps in an epoch [default: --examples by --workers and --batch].
    #[arg(long, value_name = "STEPS", value_parser = clap::value_parser!(u64).range(1..=1 << 40), conflicts_with = "examples")]
    pub(crate) steps: Option<u64>,

    /// Examples in the training data [default with --model: 10000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    pub(crate) examples: Option<u64>,

    /// Examples in each worker's batch.
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) batch: u32,

    /// Hosts that are on one machine together, as containers are, and share its cores.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) hosts_per_machine: u16,

    /// Cores of a machine [default: those of this one].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) cores: Option<u16>,

    /// Milliseconds that a message takes besides its bytes, one way.
    #[arg(long, default_value_t = 0.05, value_name = "MS")]
    pub(crate) latency_ms: f64,

    /// The share of a link's rate that ballots and verdicts get.
    #[arg(long, default_value_t = 0.95, value_name = "SHARE")]
    pub(crate) vote_efficiency: f64,

    /// The share of a link's rate that all-reduce gets.
    #[arg(long, default_value_t = 0.95, value_name = "SHARE")]
    pub(crate) dense_efficiency: f64,

    /// Measure here what kernels and a vote's bytes cost, instead of taking the figures below; takes some seconds.
    #[arg(long)]
    pub(crate) measure: bool,

    /// Compare predictions with what netlab has measured: its JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) check: Option<PathBuf>,

    /// Compare predictions with the paper's 25% at 15 machines.
    #[arg(long, conflicts_with = "check")]
    pub(crate) check_paper: bool,

    /// Print the result as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,

    /// No progress on stderr.
    #[arg(long, short)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) costs: CostFlags,
}

/// What a core does; 0 for what it does not, such as packing on a GPU.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Nanoseconds of a core (the defaults are measured: docs/plan.md)")]
pub(crate) struct CostFlags {
    /// Momentum and packing, a coordinate.
    #[arg(long, default_value_t = Costs::default().pack_ns, value_name = "NS")]
    pub(crate) pack_ns: f64,

    /// Counting, a coordinate of one ballot.
    #[arg(long, default_value_t = Costs::default().tally_ns, value_name = "NS")]
    pub(crate) tally_ns: f64,

    /// The step on a replica, a coordinate.
    #[arg(long, default_value_t = Costs::default().apply_ns, value_name = "NS")]
    pub(crate) apply_ns: f64,

    /// A byte of a ballot or verdict, at each end: framing, hashing, copying, the socket.
    #[arg(long, default_value_t = Costs::default().vote_byte_ns, value_name = "NS")]
    pub(crate) vote_byte_ns: f64,

    /// A byte of an all-reduce, at each end.
    #[arg(long, default_value_t = Costs::default().dense_byte_ns, value_name = "NS")]
    pub(crate) dense_byte_ns: f64,

    /// Adding in an all-reduce of fp32, a coordinate.
    #[arg(long, default_value_t = Costs::default().reduce_ns, value_name = "NS")]
    pub(crate) reduce_ns: f64,

    /// The same of fp16, with the conversion there and back.
    #[arg(long, default_value_t = Costs::default().reduce_half_ns, value_name = "NS")]
    pub(crate) reduce_half_ns: f64,
}
