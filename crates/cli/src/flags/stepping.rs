//! What is made of gradients before the vote, and of verdicts after it.

use clap::{Args, ValueEnum};
use serde::Serialize;
use signvote_election::{StepRule, TiePolicy};
use signvote_learn::{Form, GradientRule};

use super::{Aggregate, RuleFlags, TopologyKind, as_number, as_text};
use crate::exit::Failure;

/// What weight decay moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DecayOn {
    /// Every coordinate.
    All,
    /// Tensors of two dimensions and more: no biases, and no parameters of a normalisation.
    Matrices,
}

/// From gradients to votes, and from verdicts to steps.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Gradients and steps")]
pub(crate) struct StepFlags {
    /// What a worker votes with: signum, lion, or feedback-0.02 (a gradient of 0.02 is worth a vote, and what a vote leaves out is
    /// voted for later; for skewed data, with --vote-momentum).
    #[arg(long, default_value_t)]
    #[serde(serialize_with = "as_text")]
    pub(crate) form: Form,

    /// Momentum of the mean vote at the server, for --form feedback; 0 is the plain vote.
    #[arg(long, default_value_t = 0.0, value_name = "MU")]
    #[serde(serialize_with = "as_number")]
    pub(crate) vote_momentum: f32,

    /// With --vote-momentum: what a verdict leaves out of the momentum comes in later ones.
    #[arg(long)]
    pub(crate) vote_feedback: bool,

    /// Share of each label that is spread over all classes.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    #[serde(serialize_with = "as_number")]
    pub(crate) label_smoothing: f32,

    /// Scale a batch's gradient down to this norm if it is longer; 0: never.
    #[arg(long, default_value_t = 0.0, value_name = "NORM")]
    #[serde(serialize_with = "as_number")]
    pub(crate) clip_norm: f32,

    /// What decays: all, or matrices (no biases, no normalisation).
    #[arg(long, value_enum, default_value = "all", value_name = "WHAT")]
    pub(crate) decay_on: DecayOn,

    /// Every tensor moves at --eta times the root mean square of its values, between 0.01 and 0.1 of it: --eta 0.02 is two hundredths of
    /// itself a round. In train of small text models so unless SIGNVOTE_LAYERWISE or a file says no.
    #[arg(long)]
    pub(crate) layerwise: bool,

    /// Keep an average of the parameters over the rounds with this decay, for evaluation and export; 0: none.
    #[arg(long, default_value_t = 0.0, value_name = "DECAY")]
    #[serde(serialize_with = "as_number")]
    pub(crate) ema: f32,
}

impl StepFlags {
    /// Refuses what no run can have.
    pub(crate) fn check(&self, rules: &RuleFlags) -> Result<(), Failure> {
        let shares = [
            ("vote-momentum", self.vote_momentum),
            ("label-smoothing", self.label_smoothing),
            ("ema", self.ema),
        ];
        for (flag, value) in shares {
            if !(0.0..1.0).contains(&value) {
                return Err(Failure::usage(format!("--{flag} must be at least 0 and below 1, got {value}")));
            }
        }
        if !(self.clip_norm >= 0.0 && self.clip_norm.is_finite()) {
            let got = self.clip_norm;
            return Err(Failure::usage(format!("--clip-norm must be a number of at least 0, got {got}")));
        }
        let votes_only = self.form != Form::default() || self.layerwise || self.vote_momentum > 0.0;
        if rules.aggregate == Aggregate::Mean && votes_only {
            let flags = "--form, --layerwise and --vote-momentum";
            return Err(Failure::usage(format!("{flags} go with --aggregate vote")));
        }
        if self.vote_feedback && self.vote_momentum == 0.0 {
            return Err(Failure::usage("--vote-feedback goes with --vote-momentum"));
        }
        // A coordinate's memory decides it: there are no ties to break, and votes of earlier rounds to go by where few have come.
        if self.vote_momentum > 0.0 && (rules.tie != TiePolicy::default() || rules.min_voters != 1) {
            return Err(Failure::usage(
                "--tie and --min-voters go with the plain vote, without --vote-momentum",
            ));
        }
        if rules.topology == TopologyKind::Sharded && self.vote_momentum > 0.0 {
            return Err(Failure::usage(
                "--vote-momentum goes with --topology central: shards have no memory",
            ));
        }
        Ok(())
    }

    pub(crate) fn step_rule(&self) -> StepRule {
        StepRule { decay_matrices: self.decay_on == DecayOn::Matrices, layerwise: self.layerwise }
    }

    pub(crate) fn gradient_rule(&self) -> GradientRule {
        let Self { form, label_smoothing, clip_norm, .. } = *self;
        GradientRule { form, label_smoothing, clip_norm }
    }
}
