//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use signvote_byzantine::Attack;
use signvote_election::{RunId, TiePolicy, Topology};
use signvote_learn::Partition;

use crate::exit::Failure;

mod bench;
mod doctoring;
mod learning;
mod planning;
mod serving;
mod simulating;
mod stepping;
mod watching;

use crate::logs::LogFlags;
pub(crate) use bench::{BenchExchangeFlags, BenchKernelsFlags, ExchangeRole};
pub(crate) use doctoring::DoctorFlags;
pub(crate) use learning::{CastName, EvalFlags, ExportFlags, LearnFlags, LocalFlags, ModelsFlags};
pub(crate) use planning::{CostFlags, PlanFlags};
pub(crate) use serving::{
    AuditFlags, CertsInitFlags, CertsIssueFlags, CertsRevokeFlags, Deadline, IdentityFlags, OnFullDisk,
    Quorum, SameIdentity, ServingFlags, StatusFlags,
};
pub(crate) use simulating::{ReproduceFlags, SimulateFlags};
pub(crate) use stepping::StepFlags;
pub(crate) use watching::{ReportFlags, ViewFlags, WatchFlags};

/// Train neural networks by majority vote: every worker sends one bit per gradient coordinate, the server
/// answers with the majority's bit, and liars have one vote each.
///
/// Every flag is also a key of a TOML file (--config) and a variable, e.g. SIGNVOTE_WEIGHT_DECAY.
#[derive(Debug, Parser)]
#[command(name = "signvote", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    #[command(flatten)]
    pub(crate) logs: LogFlags,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train on this machine: one server and several workers, as processes.
    Train(Box<TrainFlags>),
    /// Serve a run: collect ballots, decide, keep the model.
    Server(Box<ServerFlags>),
    /// Take part in a run as a worker.
    Worker(Box<WorkerFlags>),
    /// Tally a part of the coordinates for a server (--topology sharded). A worker with --shard-listen does that as well.
    Shard(ShardFlags),
    /// Say how the run of a server stands.
    Status(StatusFlags),
    /// Say whether this machine is fit to take part, and with an address how it reaches a server.
    Doctor(DoctorFlags),
    /// Replay a run from its log: recompute every verdict and the final digest, check voters and signatures.
    Audit(AuditFlags),
    /// Show a run from its directory, over or not, as its live page does.
    View(ViewFlags),
    /// Compare runs on one page: curves by round, byte and time, communication, robustness.
    Report(ReportFlags),
    /// List the models.
    Models(ModelsFlags),
    /// Evaluate a model on held-out data: that of a run, or any file with PyTorch's names.
    Eval(EvalFlags),
    /// Write the model of a run to a file that PyTorch loads.
    Export(ExportFlags),
    /// Look for a learning rate: a short run in this process whose rate rises until the loss does.
    FindRate(Box<FindRateFlags>),
    /// Measure this machine.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Predict what a step takes, voting and with all-reduce, and say which to choose.
    Plan(Box<PlanFlags>),
    /// Simulate many workers in this process, honest and lying: one run, or a grid of them.
    Simulate(Box<SimulateFlags>),
    /// Redo the paper's figures and theorems, and write a report whose checks pass or are shown as failed.
    Reproduce(ReproduceFlags),
    /// Make and revoke the identities of a run: a private CA, and a certificate each for server and workers.
    #[command(subcommand)]
    Certs(CertsCommand),
}

impl Command {
    /// Shows no progress, as `--quiet` says.
    pub(crate) fn be_quiet(&mut self) {
        match self {
            Self::Train(flags) => flags.quiet = true,
            Self::Server(flags) => flags.quiet = true,
            Self::Worker(flags) => flags.quiet = true,
            Self::Shard(flags) => flags.quiet = true,
            Self::Bench(BenchCommand::Kernels(flags)) => flags.quiet = true,
            Self::Bench(BenchCommand::Exchange(flags)) => flags.quiet = true,
            Self::Plan(flags) => flags.quiet = true,
            Self::Simulate(flags) => flags.quiet = true,
            Self::Reproduce(flags) => flags.quiet = true,
            Self::Status(_)
            | Self::Doctor(_)
            | Self::Audit(_)
            | Self::View(_)
            | Self::Report(_)
            | Self::Models(_)
            | Self::Eval(_)
            | Self::Export(_)
            | Self::FindRate(_)
            | Self::Certs(_) => {}
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure packing, tallying, deciding and applying beside naive code, whose answers they must give bit for
    /// bit, and beside a loop that only moves the same bytes.
    Kernels(BenchKernelsFlags),
    /// Measure a whole round with a central server or with shards: on this machine in plain text, with TLS and with signed
    /// ballots, or between hosts (--role server on one, --role worker on each). Every answer is checked.
    Exchange(BenchExchangeFlags),
}

#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// Make a CA, and the server's certificate, in a new or empty directory.
    Init(CertsInitFlags),
    /// Make a key and a certificate for each worker.
    Issue(CertsIssueFlags),
    /// Revoke every certificate of a worker.
    Revoke(CertsRevokeFlags),
}

/// What the server makes of the workers' gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Aggregate {
    /// One bit up, the majority's bit down.
    Vote,
    /// Full gradients up, the optimiser's step on their mean down: the dense baseline.
    Mean,
}

/// The optimiser of the dense baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OptimizerName {
    /// SGD with momentum --beta.
    Sgd,
    /// Adam with --beta and --beta2, ε = 1e-8.
    Adam,
}

/// How the learning rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ScheduleName {
    /// It stays.
    Constant,
    /// It is multiplied by --step-factor every --step-every rounds.
    Step,
    /// It falls to 0 along half a cosine.
    Cosine,
    /// It rises for three tenths of the run, or for --warmup rounds, and falls to nearly 0; both along a cosine.
    OneCycle,
}

impl std::fmt::Display for ScheduleName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

/// Which exact zeros abstain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AbstainName {
    /// Those of the momentum.
    Momentum,
    /// Those of this round's gradient as well.
    Gradient,
}

/// The rules of a run: what the server decides by and hands to the workers.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Rules of the run")]
pub(crate) struct RuleFlags {
    /// Workers in the run, each with one vote; the first round waits for all of them.
    #[arg(long, default_value_t = 7, value_name = "M", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) workers: u16,

    /// Who tallies: the server, or shards that have a part of the coordinates each.
    #[arg(long, value_enum, default_value_t = TopologyKind::Central, value_name = "TOPOLOGY")]
    pub(crate) topology: TopologyKind,

    /// Shards that the first round waits for [default: as many as workers].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shards: Option<u16>,

    /// Shards that tally each chunk: 3 outvote one that lies, at three times the bytes.
    #[arg(long, default_value_t = 1, value_name = "R", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) replicas: u8,

    /// Examples in each worker's batch.
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) batch: u32,

    /// Seed of initial parameters, order of examples and coins: one seed, one model.
    #[arg(long, default_value_t = 1, value_parser = count())]
    pub(crate) seed: u64,

    /// What is made of the workers' gradients.
    #[arg(long, value_enum, default_value = "vote")]
    pub(crate) aggregate: Aggregate,

    /// Optimiser for --aggregate mean.
    #[arg(long, value_enum, default_value = "sgd")]
    pub(crate) optimizer: OptimizerName,

    /// Learning rate η [default: in train, for the vote, what suits the model (`signvote models`), in server, which knows no model,
    /// 1e-3·√(440/rounds), with --layerwise 0.025·√(440/rounds), all at most twice that of 440 rounds; 1e-3 for Adam, 0.05 for SGD].
    #[arg(long, value_name = "RATE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) eta: Option<f64>,

    /// Momentum β; 0 turns Signum into signSGD.
    #[arg(long, default_value_t = 0.9)]
    #[serde(serialize_with = "as_number")]
    pub(crate) beta: f32,

    /// Second moment's decay for Adam.
    #[arg(long, default_value_t = 0.999)]
    #[serde(serialize_with = "as_number")]
    pub(crate) beta2: f32,

    /// Decoupled weight decay λ.
    #[arg(long, default_value_t = 0.0, value_name = "LAMBDA")]
    #[serde(serialize_with = "as_number")]
    pub(crate) weight_decay: f32,

    /// Learning-rate schedule; in train of small text models one-cycle unless told otherwise.
    #[arg(long, value_enum, default_value = "cosine")]
    pub(crate) schedule: ScheduleName,

    /// Rounds of linear warm-up.
    #[arg(long, default_value_t = 0, value_name = "ROUNDS", value_parser = count())]
    pub(crate) warmup: u64,

    /// Rounds from one step of --schedule step to the next.
    #[arg(long, default_value_t = 1000, value_name = "ROUNDS", value_parser = count())]
    pub(crate) step_every: u64,

    /// What a step multiplies the learning rate by.
    #[arg(long, default_value_t = 0.1)]
    pub(crate) step_factor: f64,

    /// What a tied coordinate becomes: coin, hold or positive (the paper's code).
    #[arg(long, default_value_t, value_name = "POLICY")]
    #[serde(serialize_with = "as_text")]
    pub(crate) tie: TiePolicy,

    /// Votes below which a coordinate takes no step.
    #[arg(long, default_value_t = 1, value_name = "VOTES")]
    pub(crate) min_voters: u32,

    /// Which exact zeros abstain.
    #[arg(long, value_enum, default_value = "momentum", value_name = "WHERE")]
    pub(crate) abstain_on: AbstainName,

    /// Fewest ballots that may decide: a number, or a part of the workers as 2/3, 60% or 0.6 [default: more than
    /// half of the workers].
    #[arg(long, value_name = "BALLOTS")]
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    pub(crate) quorum: Option<Quorum>,

    /// When a round closes without those who are missing, if the quorum has voted: after so many seconds, auto (3 times
    /// what the quorum has taken in recent rounds) or never [default: auto in server, never in train].
    #[arg(long, value_name = "SECONDS")]
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<Deadline>,

    /// The shortest that --deadline auto becomes, in seconds.
    #[arg(long, default_value_t = 0.1, value_name = "SECONDS")]
    pub(crate) deadline_floor: f64,

    /// The longest that --deadline auto becomes, in seconds; also before the first round.
    #[arg(long, default_value_t = 600.0, value_name = "SECONDS")]
    pub(crate) deadline_ceiling: f64,

    /// How the examples are shared out: iid, by-label (each worker sees few classes), or dirichlet-0.3 (the smaller, the fewer).
    #[arg(long, default_value_t)]
    #[serde(serialize_with = "as_text")]
    pub(crate) partition: Partition,

    /// Rounds between two comparisons of the replicas' digests; 0: only at the end.
    #[arg(long, default_value_t = 50, value_name = "ROUNDS", value_parser = count())]
    pub(crate) digest_every: u64,

    /// Rounds in a row with a non-finite gradient after which a worker gives up; 0: never.
    #[arg(long, default_value_t = 10, value_name = "ROUNDS")]
    pub(crate) max_non_finite: u32,

    /// Coordinates in one chunk of a ballot or verdict: a multiple of 64 up to 65536.
    #[arg(long, default_value_t = 65_536, value_name = "COORDINATES")]
    pub(crate) chunk: u32,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) steps: StepFlags,
}

/// How a worker lies, if it does.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Adversaries")]
pub(crate) struct AttackFlags {
    /// What a lying worker sends: sign-flip, random-sign or scaled-flip.
    #[arg(long, value_name = "ATTACK")]
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    pub(crate) attack: Option<Attack>,

    /// The lie of scaled-flip is minus this times the gradient (in a vote the scale has no effect).
    #[arg(long, default_value_t = 10.0, value_name = "SCALE")]
    #[serde(serialize_with = "as_number")]
    pub(crate) attack_scale: f32,
}

impl AttackFlags {
    /// The attack with its scale.
    pub(crate) fn attack(&self) -> Result<Option<Attack>, Failure> {
        if !(self.attack_scale > 0.0 && self.attack_scale.is_finite()) {
            let got = self.attack_scale;
            return Err(Failure::usage(format!("--attack-scale must be a positive number, got {got}")));
        }
        Ok(self.attack.map(|attack| attack.with_scale(self.attack_scale)))
    }
}

/// Flags of `train`.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct TrainFlags {
    /// Read settings from this file; flags and variables override it.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,

    /// Passes over the training data.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=LARGEST))]
    pub(crate) epochs: u64,

    /// How many workers lie, from worker 1 on; the attack is sign-flip unless --attack says another.
    #[arg(long, default_value_t = 0, value_name = "F")]
    pub(crate) adversaries: u16,

    /// Rounds from one point that --resume can go on from to the next; 0: none [default: an epoch]. Each worker keeps eight bytes a
    /// coordinate twice, until the run is over.
    #[arg(long, value_name = "ROUNDS", value_parser = count())]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint_every: Option<u64>,

    /// Directory for this run's files [default: the first free of runs/1, runs/2, …].
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub(crate) run_dir: Option<PathBuf>,

    /// Go on with the run in this directory, with the settings that it began with, from the newest point that all its workers
    /// have kept: the model is that of a run that was never interrupted, bit for bit.
    #[arg(long, value_name = "RUN_DIR", conflicts_with = "run_dir")]
    #[serde(skip)]
    pub(crate) resume: Option<PathBuf>,

    /// Print the result as one JSON object, the last line of stdout.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) json: bool,

    /// Print all settings as they would be, in the form of a --config file, and do nothing.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) print_config: bool,

    /// No progress on stderr.
    #[arg(long, short)]
    #[serde(skip)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    #[serde(skip)]
    pub(crate) watch: WatchFlags,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) learn: LearnFlags,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) local: LocalFlags,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) attack: AttackFlags,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) rules: RuleFlags,
}

/// Flags of `find-rate`.
#[derive(Args, Clone, Debug)]
pub(crate) struct FindRateFlags {
    /// Read settings from this file, such as a recipe; flags and variables override it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Rounds of the sweep.
    #[arg(long, default_value_t = 200, value_name = "ROUNDS", value_parser = clap::value_parser!(u64).range(20..=LARGEST))]
    pub(crate) rounds: u64,

    /// Print every round as JSON.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) learn: LearnFlags,

    #[command(flatten)]
    pub(crate) rules: RuleFlags,
}

/// Flags of `server`.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ServerFlags {
    /// Read settings from this file; flags and variables override it.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,

    /// Address to listen at; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:7700", value_name = "HOST:PORT")]
    pub(crate) listen: String,

    /// Go on with the run in this directory, with the settings that it began with.
    #[arg(long, value_name = "RUN_DIR", conflicts_with = "run_dir")]
    #[serde(skip)]
    pub(crate) resume: Option<PathBuf>,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) serving: ServingFlags,

    /// Rounds in the run.
    #[arg(long, default_value_t = 440, value_name = "ROUNDS", value_parser = count())]
    pub(crate) rounds: u64,

    /// Rounds from one saving of the model to the next; it is saved at the end in any case.
    #[arg(long, default_value_t = 100, value_name = "ROUNDS", value_parser = count())]
    pub(crate) save_every: u64,

    /// Directory for this run's files [default: the first free of runs/1, runs/2, …].
    #[arg(long, value_name = "DIR")]
    #[serde(skip)]
    pub(crate) run_dir: Option<PathBuf>,

    /// Go on from this checkpoint of a worker, all of whose fellows are there as well.
    #[arg(long, hide = true, requires = "lifeline")]
    #[serde(skip)]
    pub(crate) restore: Option<PathBuf>,

    /// Rounds from one checkpoint of --ema to the next, beside those of the workers; 0: none.
    #[arg(long, hide = true, default_value_t = 0)]
    #[serde(skip)]
    pub(crate) average_every: u64,

    /// No progress on stderr.
    #[arg(long, short)]
    #[serde(skip)]
    pub(crate) quiet: bool,

    /// Print every event as a line of JSON on stdout instead of progress and the table at the end.
    #[arg(long)]
    #[serde(skip)]
    pub(crate) print_events: bool,

    /// Stop when stdin closes: the process that started this one is gone.
    #[arg(long, hide = true)]
    #[serde(skip)]
    pub(crate) lifeline: bool,

    #[command(flatten)]
    #[serde(skip)]
    pub(crate) watch: WatchFlags,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) rules: RuleFlags,
}

/// Flags of `worker`.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct WorkerFlags {
    /// Read settings from this file; flags and variables override it.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,

    /// The server's address.
    #[arg(long, default_value = "127.0.0.1:7700", value_name = "HOST:PORT")]
    pub(crate) connect: String,

    /// Seconds to look for the server, and for a place, before giving up.
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub(crate) patience: f64,

    /// Seconds to look for a server that was lost in mid-run; 0: not at all.
    #[arg(long, default_value_t = 600.0, value_name = "SECONDS")]
    pub(crate) reconnect: f64,

    /// Keep parameters, momentum and position in this file, and go on from it if it is there; with --cast each, in FILE.1,
    /// FILE.2, and so on.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checkpoint: Option<PathBuf>,

    /// Rounds from one writing of --checkpoint to the next.
    #[arg(long, default_value_t = 100, value_name = "ROUNDS", value_parser = clap::value_parser!(u64).range(1..=LARGEST))]
    pub(crate) checkpoint_every: u64,

    /// Keep the checkpoint before the newest as well, in FILE.previous.
    #[arg(long, hide = true)]
    #[serde(skip)]
    pub(crate) checkpoint_previous: bool,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) identity: IdentityFlags,

    /// Tally a part of the coordinates as well, and let the other workers in here (--topology sharded).
    #[arg(long, value_name = "HOST:PORT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shard_listen: Option<String>,

    /// Where the others find this worker's shard [default: where it listens, at the address that the server sees].
    #[arg(long, value_name = "HOST:PORT", requires = "shard_listen")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) shard_address: Option<String>,

    /// With --shard-listen: listen beyond loopback without encryption.
    #[arg(long)]
    pub(crate) insecure: bool,

    /// The place to take, from 1 [default: the first free one]. A place determines the worker's examples. With --cast
    /// each, the first of as many places.
    #[arg(long, value_name = "PLACE", value_parser = clap::value_parser!(u16).range(1..))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) slot: Option<u16>,

    /// Join this run only, by its id.
    #[arg(long, value_name = "ID")]
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<RunId>,

    /// A name for people [default: the host's name and the process id].
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,

    /// No progress on stderr.
    #[arg(long, short)]
    #[serde(skip)]
    pub(crate) quiet: bool,

    /// Stop when stdin closes: the process that started this one is gone.
    #[arg(long, hide = true)]
    #[serde(skip)]
    pub(crate) lifeline: bool,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) learn: LearnFlags,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) local: LocalFlags,

    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) attack: AttackFlags,
}

/// Flags of `shard`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ShardFlags {
    /// Read settings from this file; flags and variables override it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The server's address.
    #[arg(long, default_value = "127.0.0.1:7700", value_name = "HOST:PORT")]
    pub(crate) connect: String,

    /// Where workers are let in.
    #[arg(long, default_value = "127.0.0.1:7701", value_name = "HOST:PORT")]
    pub(crate) listen: String,

    /// Where workers find it [default: where it listens, at the address that the server sees].
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,

    /// Seconds to look for the server before giving up.
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub(crate) patience: f64,

    /// Seconds to look for a server that was lost in mid-run; 0: not at all.
    #[arg(long, default_value_t = 600.0, value_name = "SECONDS")]
    pub(crate) reconnect: f64,

    /// Serve this run only, by its id.
    #[arg(long, value_name = "ID")]
    pub(crate) run: Option<RunId>,

    /// A name for people, where there are no certificates [default: the host's name and the process id].
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// Listen beyond loopback without encryption.
    #[arg(long)]
    pub(crate) insecure: bool,

    /// No progress on stderr.
    #[arg(long, short)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) identity: IdentityFlags,
}

/// Who tallies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TopologyKind {
    /// The server.
    Central,
    /// Shards on any hosts; the server keeps rounds, membership and deadlines.
    Sharded,
}

impl TopologyKind {
    /// With so many shards to begin with, and so many of them to a chunk.
    pub(crate) fn with(self, shards: u16, replicas: u8) -> Topology {
        match self {
            Self::Central => Topology::Central,
            Self::Sharded => Topology::Sharded { shards, replicas },
        }
    }
}

/// The largest integer that a TOML file can hold.
const LARGEST: u64 = i64::MAX as u64;

/// Any number that a settings file can hold.
fn count() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(..=LARGEST)
}

/// The flags as `--name=value` words, for a process that is to have the same.
pub(crate) fn to_words(flags: &impl Serialize) -> Result<Vec<String>, Failure> {
    let table =
        toml::Table::try_from(flags).map_err(|error| Failure::internal("cannot pass settings on", &error))?;
    let mut words = Vec::new();
    for (name, value) in table {
        match value {
            toml::Value::Boolean(true) => words.push(format!("--{name}")),
            toml::Value::Boolean(false) => {}
            // In one word: a value may begin with a dash.
            toml::Value::String(value) => words.push(format!("--{name}={value}")),
            value => words.push(format!("--{name}={value}")),
        }
    }
    Ok(words)
}

pub(crate) fn as_text<S: serde::Serializer>(
    value: &impl std::fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// An f32 as the shortest decimal that means it: 0.9, not 0.8999999761581421.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn as_number<S: serde::Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(value.to_string().parse().unwrap_or_else(|_| f64::from(*value)))
}

pub(crate) fn as_optional_text<S: serde::Serializer>(
    value: &Option<impl std::fmt::Display>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}
