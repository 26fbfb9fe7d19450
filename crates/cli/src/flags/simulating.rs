//! What can be typed about workers that are simulated.

use std::path::PathBuf;

use clap::Args;
use signvote_byzantine::aggregate::Before;
use signvote_byzantine::simulate::{Course, Form, Lie, Method, Setup, Task};
use signvote_election::TiePolicy;
use signvote_learn::{DataSource, Partition};
use signvote_reproduce::Figure;

/// Flags of `simulate`.
#[derive(Args, Clone, Debug)]
pub(crate) struct SimulateFlags {
    /// Read settings from this file; flags and variables override it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Many runs: a file whose `grid` tables have lists of settings, of which every combination is run. Its keys are the flags
    /// below, which it replaces.
    #[arg(long, value_name = "FILE")]
    pub(crate) grid: Option<PathBuf>,

    /// Where results are written; a grid that was interrupted goes on there [default: a run on its own writes none; of a grid,
    /// the name of its file].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// What is minimised: a model (mlp, cnn, mlp-64-64, ...), or quadratic (quadratic-500: of so many coordinates).
    #[arg(long, default_value_t = Setup::default().problem)]
    pub(crate) problem: Task,

    /// Data: fashion-mnist-10k (in the program) or fashion-mnist (the full set).
    #[arg(long, default_value_t)]
    pub(crate) data: DataSource,

    /// Where the full set lies [default: /usr/share/datasets/fashion-mnist].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// How the examples are shared out: iid, by-label, or dirichlet-0.3 (the smaller, the more skewed).
    #[arg(long, default_value_t)]
    pub(crate) partition: Partition,

    /// Workers, M.
    #[arg(long, default_value_t = Setup::default().workers, value_name = "M")]
    pub(crate) workers: u16,

    /// Examples of a worker's batch; on the quadratic, draws of noise that are averaged.
    #[arg(long, default_value_t = Setup::default().batch, value_name = "N")]
    pub(crate) batch: u32,

    /// Passes over the data.
    #[arg(long, default_value_t = Setup::default().epochs, value_name = "N")]
    pub(crate) epochs: u32,

    /// Rounds, instead of --epochs.
    #[arg(long, default_value_t = 0, value_name = "N", hide_default_value = true)]
    pub(crate) rounds: u64,

    /// Seed of start, batches, noise, coins and lies.
    #[arg(long, default_value_t = Setup::default().seed)]
    pub(crate) seed: u64,

    /// Learning rate [default: 0.001 in a vote, however many rounds, 0.05 where gradients are aggregated].
    #[arg(long)]
    pub(crate) eta: Option<f64>,

    /// Schedule: constant, cosine or one-cycle.
    #[arg(long, default_value_t = Setup::default().schedule)]
    pub(crate) schedule: Course,

    /// Decoupled weight decay.
    #[arg(long, default_value_t = 0.0, value_name = "LAMBDA")]
    pub(crate) weight_decay: f32,

    /// Only tensors of two dimensions and more decay; in a vote.
    #[arg(long)]
    pub(crate) decay_matrices: bool,

    /// Every tensor moves at --eta times the root mean square of its values; in a vote.
    #[arg(long)]
    pub(crate) layerwise: bool,

    /// Momentum: of each worker in a vote, of the server where gradients are aggregated.
    #[arg(long, default_value_t = Setup::default().momentum, value_name = "BETA")]
    pub(crate) momentum: f32,

    /// What a worker votes with: signum, lion, sto-sign, z-sign, feedback or ternary (z-sign-0.5 has a scale).
    #[arg(long, default_value_t = Setup::default().form)]
    pub(crate) form: Form,

    /// Steps of its own that a worker makes in a round.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) local_steps: u32,

    /// The rate of those steps.
    #[arg(long, default_value_t = Setup::default().local_eta, value_name = "ETA")]
    pub(crate) local_eta: f32,

    /// What is made of the messages: vote, vote-camps, vote-weighted, vote-feedback, vote-momentum, a rule (mean, median, trimmed-mean, krum, ...), or
    /// the mean of gradients that are compressed (fp16, qsgd-4, terngrad, top-k-0.01, ef-sign, power-sgd-4, ...); a wrong name is
    /// answered by the list of them all.
    #[arg(long, default_value_t = Setup::default().method)]
    pub(crate) method: Method,

    /// How many liars a rule is told to expect [default: as many as there are].
    #[arg(long, value_name = "F")]
    pub(crate) told: Option<usize>,

    /// What is done to gradients before a rule sees them: nnm, or bucketing-2.
    #[arg(long)]
    pub(crate) before: Option<Before>,

    /// What a tied coordinate becomes: coin, hold or positive.
    #[arg(long, default_value_t)]
    pub(crate) tie: TiePolicy,

    /// Workers that lie.
    #[arg(long, default_value_t = 0, value_name = "F")]
    pub(crate) liars: u16,

    /// How they lie; a wrong name is answered by the list.
    #[arg(long, default_value_t = Setup::default().lie)]
    pub(crate) lie: Lie,

    /// Standard deviation of the quadratic's noise in one draw.
    #[arg(long, default_value_t = Setup::default().noise)]
    pub(crate) noise: f32,

    /// Threads; results do not depend on them [default: as many as processors].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,

    /// Print the results as JSON.
    #[arg(long)]
    pub(crate) json: bool,

    /// Show no progress.
    #[arg(long)]
    pub(crate) quiet: bool,
}

impl SimulateFlags {
    /// The run that the flags describe.
    pub(crate) fn setup(&self) -> Setup {
        let votes = self.method.is_vote();
        Setup {
            problem: self.problem,
            data: self.data,
            partition: self.partition,
            workers: self.workers,
            batch: self.batch,
            epochs: self.epochs,
            rounds: self.rounds,
            seed: self.seed,
            eta: self.eta.unwrap_or(if votes { 1e-3 } else { 0.05 }),
            schedule: self.schedule,
            weight_decay: self.weight_decay,
            decay_matrices: self.decay_matrices,
            layerwise: self.layerwise,
            momentum: self.momentum,
            form: self.form,
            local_steps: self.local_steps,
            local_eta: self.local_eta,
            method: self.method,
            told: self.told,
            before: self.before,
            tie: self.tie,
            liars: self.liars,
            lie: self.lie,
            noise: self.noise,
        }
    }
}

/// Flags of `reproduce`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReproduceFlags {
    /// Read settings from this file; flags and variables override it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// What to redo: fig1 to fig6, krum, qsgd, theorem1, theorem2, colluders, robustness, options, or all.
    #[arg(value_name = "FIGURE", default_value = "all", value_parser = figure)]
    pub(crate) figure: Vec<Option<Figure>>,

    /// Where the report is written: report.html, report.md with its plots, checks.json.
    #[arg(long, value_name = "DIR", default_value = "report")]
    pub(crate) out: PathBuf,

    /// Fewer epochs, one seed: all of it in under ten minutes on two cores.
    #[arg(long)]
    pub(crate) quick: bool,

    /// Where the full set lies [default: /usr/share/datasets/fashion-mnist].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Threads; results do not depend on them [default: as many as processors].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,

    /// Show no progress.
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// A figure, or `None` for all.
fn figure(text: &str) -> Result<Option<Figure>, String> {
    if text == "all" { Ok(None) } else { text.parse().map(Some) }
}
