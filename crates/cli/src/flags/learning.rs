//! Models, data and engines: what `train` and `worker` learn with, and the commands that have a model for their matter.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use signvote_learn::{DataSource, EngineKind, ModelKind, Wanted};

use super::as_text;
use crate::exit::Failure;

/// What a worker computes with.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Model and data")]
pub(crate) struct LearnFlags {
    /// Model: mlp, cnn, resnet18-32, resnet50, gpt-small, … (`signvote models` lists them).
    #[arg(long, default_value_t)]
    #[serde(serialize_with = "as_text")]
    pub(crate) model: ModelKind,

    /// Data: fashion-mnist-10k and shakespeare (in the program), fashion-mnist, cifar-10, cifar-100, imagenet, text or
    /// wikitext-103.
    #[arg(long, default_value_t)]
    #[serde(serialize_with = "as_text")]
    pub(crate) data: DataSource,

    /// Where the data's files lie [default: /usr/share/datasets/fashion-mnist, data/cifar-10-batches-bin, … by --data].
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Tokens in a window of text [default: 64, of wikitext-103 140].
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) context: Option<u32>,

    /// Start from the parameters in this file of safetensors with PyTorch's names, instead of at random.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) init: Option<PathBuf>,

    /// What computes: burn (pure Rust, on the CPU), tch (libtorch, on CPU or CUDA) or wgpu (a GPU by Vulkan, Metal or DirectX); the last
    /// two in programs built with that feature.
    #[arg(long, default_value_t, value_name = "ENGINE")]
    #[serde(serialize_with = "as_text")]
    pub(crate) engine: EngineKind,

    /// Threads that a worker computes with; with --local, each of its local workers.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: u16,
}

/// How the local workers of one host vote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CastName {
    /// One ballot, on the mean of their gradients: one place, one momentum, one connection.
    #[default]
    Together,
    /// One ballot each, in a place of its own, over a connection of its own.
    Each,
}

/// Workers that share a process.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Local workers")]
pub(crate) struct LocalFlags {
    /// Local workers in one process: each computes the gradient of a batch of its own, on --threads threads.
    #[arg(long, default_value_t = 1, value_name = "L", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) local: u16,

    /// How local workers vote: together, on the mean of their gradients, or each for itself.
    #[arg(long, value_enum, default_value = "together", value_name = "HOW")]
    pub(crate) cast: CastName,
}

impl LocalFlags {
    /// Ballots that one process casts in a round.
    pub(crate) fn voters(&self) -> u16 {
        match self.cast {
            CastName::Together => 1,
            CastName::Each => self.local,
        }
    }

    /// Local workers whose gradients are averaged in one ballot.
    pub(crate) fn averaged(&self) -> u16 {
        self.local / self.voters()
    }

    /// Refuses data that has not a batch for everyone.
    pub(crate) fn check_data(
        &self,
        workers: u16,
        batch: u32,
        data: DataSource,
        samples: usize,
    ) -> Result<(), Failure> {
        let averaged = self.averaged();
        let needed = u64::from(workers) * u64::from(averaged) * u64::from(batch);
        if samples as u64 >= needed {
            return Ok(());
        }
        let mut who = format!("{workers} worker{}", if workers == 1 { "" } else { "s" });
        if averaged > 1 {
            who += &format!(" of --local {averaged}");
        }
        Err(Failure::usage(format!(
            "{who} with batches of {batch} need {needed} examples a round, {data} has {samples}"
        )))
    }
}

impl LearnFlags {
    /// Refuses a directory that nothing would be read from.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        match &self.data_dir {
            Some(_) if self.data.usual_directory().is_none() => {
                let data = self.data;
                Err(Failure::usage(format!(
                    "--data-dir goes with data in files, such as --data fashion-mnist: {data} is in the program"
                )))
            }
            _ => Ok(()),
        }
    }

    /// What is to be read.
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            source: self.data,
            directory: self.data_dir.clone(),
            context: self.context.map(|tokens| tokens as usize),
        }
    }
}

/// Flags of `models`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ModelsFlags {
    /// Print them as a JSON array.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `export`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExportFlags {
    /// The run's directory.
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run_dir: PathBuf,

    /// The file to write: safetensors under PyTorch's names, with the running statistics of batch normalisation.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,

    /// Where the data's files lie, by which these statistics are taken if workers have sent none [default: as the run had it].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// Flags of `eval`.
#[derive(Args, Clone, Debug)]
pub(crate) struct EvalFlags {
    /// The run's directory, or a file of safetensors with PyTorch's names.
    #[arg(value_name = "RUN_DIR|FILE")]
    pub(crate) model: PathBuf,

    /// Read settings from this file; flags and variables override it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Model that the file holds; a run says it itself.
    #[arg(long = "model", value_name = "MODEL")]
    pub(crate) kind: Option<ModelKind>,

    /// Data to evaluate on [default: the test part of what the run was trained on].
    #[arg(long)]
    pub(crate) data: Option<DataSource>,

    /// Where the data's files lie [default: as the run had it].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Tokens in a window of text, for a file.
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) context: Option<u32>,

    /// What computes: burn, tch or wgpu (the last two in programs built with that feature).
    #[arg(long, default_value_t, value_name = "ENGINE")]
    pub(crate) engine: EngineKind,

    /// Threads to compute with [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,

    /// Print the result as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}
