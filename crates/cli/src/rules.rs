//! From the rules that were typed to the configuration of an election.

use std::time::Duration;

use signvote_election::decision::DeadlineRule;
use signvote_election::{
    AggregateKind, Config, Optimizer, RunId, Schedule, Settings, Shape, Terms, TiePolicy,
};
use signvote_kernels::AbstainOn;
use signvote_observe::RunConfig;

use crate::exit::Failure;
use crate::flags::{AbstainName, Aggregate, Deadline, OptimizerName, RuleFlags, ScheduleName, TopologyKind};
use crate::suiting::Suiting;

/// Longest time that a flag may name: 30 days.
pub(crate) const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// A flag's seconds as a time of at most 30 days.
pub(crate) fn seconds(flag: &str, seconds: f64, zero: bool) -> Result<Duration, Failure> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| (zero || !duration.is_zero()) && *duration <= LONGEST)
        .ok_or_else(|| {
            let least = if zero { "0" } else { "above 0" };
            Failure::usage(format!("--{flag} is {least} and at most 30 days, got {seconds} s"))
        })
}

/// Rules of how votes are exchanged, which change no bit of a model all of whose workers vote.
const OF_THE_EXCHANGE: [&str; 10] = [
    "chunk",
    "deadline",
    "deadline-ceiling",
    "deadline-floor",
    "digest-every",
    "max-non-finite",
    "quorum",
    "replicas",
    "shards",
    "topology",
];

impl RuleFlags {
    /// The fewest ballots that decide: as told, else more than half of the workers.
    pub(crate) fn quorum(&self) -> u16 {
        self.quorum.map_or(self.workers / 2 + 1, |quorum| quorum.of(self.workers))
    }

    /// η before any schedule: as told, else what suits the aggregate, whatever the model. (`train`, which knows it, tells its server.)
    pub(crate) fn eta(&self, rounds: u64) -> f64 {
        self.eta.unwrap_or(match (self.aggregate, self.optimizer) {
            (Aggregate::Mean, OptimizerName::Sgd) => 0.05,
            (Aggregate::Mean, OptimizerName::Adam) => 1e-3,
            (Aggregate::Vote, _) if self.steps.layerwise => Suiting::LAYERWISE.eta(rounds),
            (Aggregate::Vote, _) => Suiting::PLAIN.eta(rounds),
        })
    }

    /// The learning rate of a run of so many rounds, for people.
    pub(crate) fn rate_in_words(&self, rounds: u64) -> String {
        let of_what = if self.steps.layerwise { " of each tensor's size" } else { "" };
        format!("learning rate {:.1e}{of_what}, {}", self.eta(rounds), self.schedule)
    }

    /// Refuses what no run can have. The election checks its configuration too, but cannot name the flags.
    fn check(&self) -> Result<(), Failure> {
        let wrong = |flag: &str, wants: &str, got: &dyn std::fmt::Display| {
            Err(Failure::usage(format!("--{flag} must be {wants}, got {got}")))
        };
        let (workers, quorum) = (self.workers, self.quorum());
        if let Some(eta) = self.eta.filter(|eta| !(*eta > 0.0 && eta.is_finite())) {
            return wrong("eta", "a positive number", &eta);
        }
        for (flag, value) in [("beta", self.beta), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return wrong(flag, "at least 0 and below 1", &value);
            }
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return wrong("weight-decay", "a number of at least 0", &self.weight_decay);
        }
        if self.step_every == 0 {
            return wrong("step-every", "at least 1 round", &self.step_every);
        }
        if !(self.step_factor > 0.0 && self.step_factor <= 1.0) {
            return wrong("step-factor", "above 0 and at most 1", &self.step_factor);
        }
        if quorum == 0 || quorum > workers {
            return wrong("quorum", &format!("1 to {workers}, the number of workers"), &quorum);
        }
        if self.min_voters > u32::from(workers) {
            return wrong(
                "min-voters",
                &format!("at most {workers}, the number of workers"),
                &self.min_voters,
            );
        }
        let votes_only = self.tie != TiePolicy::default()
            || self.min_voters != 1
            || !matches!(self.abstain_on, AbstainName::Momentum);
        match self.aggregate {
            Aggregate::Vote if self.optimizer != OptimizerName::Sgd => {
                return Err(Failure::usage("--optimizer goes with --aggregate mean: a vote needs none"));
            }
            Aggregate::Mean if votes_only => {
                let flags = "--tie, --min-voters and --abstain-on";
                return Err(Failure::usage(format!("{flags} go with --aggregate vote: a mean has no ties")));
            }
            _ => {}
        }
        let shards = self.shards.unwrap_or(workers);
        match self.topology {
            TopologyKind::Central if self.shards.is_some() || self.replicas != 1 => {
                return Err(Failure::usage("--shards and --replicas go with --topology sharded"));
            }
            TopologyKind::Sharded if self.aggregate == Aggregate::Mean => {
                return Err(Failure::usage("--topology sharded goes with --aggregate vote"));
            }
            TopologyKind::Sharded if u16::from(self.replicas) > shards => {
                return wrong("replicas", &format!("at most {shards}, the number of shards"), &self.replicas);
            }
            _ => {}
        }
        self.steps.check(self)?;
        if self.chunk == 0 || self.chunk > 65_536 || !self.chunk.is_multiple_of(64) {
            return wrong("chunk", "a multiple of 64 up to 65536", &self.chunk);
        }
        Ok(())
    }

    /// When rounds close without those who are missing; `unless_told` is what the command does by itself.
    fn deadline(&self, unless_told: Deadline) -> Result<DeadlineRule, Failure> {
        Ok(match self.deadline.unwrap_or(unless_told) {
            Deadline::Never => DeadlineRule::Never,
            Deadline::Seconds(after) => DeadlineRule::Fixed(seconds("deadline", after, false)?),
            Deadline::Auto => {
                let floor = seconds("deadline-floor", self.deadline_floor, true)?;
                let ceiling = seconds("deadline-ceiling", self.deadline_ceiling, false)?;
                if floor > ceiling {
                    let got = format!("{floor:?} and {ceiling:?}");
                    return Err(Failure::usage(format!(
                        "--deadline-floor must be at most --deadline-ceiling, got {got}"
                    )));
                }
                DeadlineRule::Adaptive { floor, ceiling }
            }
        })
    }

    /// The rules of a run of so many rounds as its model files keep them, with the learning rate that holds where none was told: those
    /// that enter the model, so that equal models of equal rules are equal files.
    pub(crate) fn as_config(&self, rounds: u64) -> Result<RunConfig, Failure> {
        let table = toml::Table::try_from(self)
            .map_err(|error| Failure::internal("cannot write the settings", &error))?;
        let text = |value: toml::Value| match value {
            toml::Value::String(text) => text,
            other => other.to_string(),
        };
        let kept = table.into_iter().filter(|(key, _)| !OF_THE_EXCHANGE.contains(&key.as_str()));
        let mut config: RunConfig = kept.map(|(key, value)| (key, text(value))).collect();
        config.insert("rounds".into(), rounds.to_string());
        config.insert("eta".into(), self.eta(rounds).to_string());
        Ok(config)
    }

    /// The server's configuration for a run of so many rounds on one machine.
    pub(crate) fn config(&self, rounds: u64, run: RunId) -> Result<Config, Failure> {
        self.config_with(rounds, run, Deadline::Never)
    }

    /// The server's configuration; `deadline` holds unless another is told.
    pub(crate) fn config_with(&self, rounds: u64, run: RunId, deadline: Deadline) -> Result<Config, Failure> {
        self.check()?;
        let shape = match self.schedule {
            ScheduleName::Constant => Shape::Constant,
            ScheduleName::Step => Shape::Step { every: self.step_every, factor: self.step_factor },
            ScheduleName::Cosine => Shape::Cosine,
            ScheduleName::OneCycle => Shape::OneCycle,
        };
        let schedule = Schedule::new(self.eta(rounds), self.warmup, rounds, shape)?;
        let mut settings = Settings::default();
        settings.insert("partition", self.partition.to_string())?;
        self.steps.gradient_rule().write(&mut settings)?;
        let terms = Terms {
            run,
            workers: self.workers,
            batch: self.batch,
            seed: self.seed,
            rounds,
            aggregate: match self.aggregate {
                Aggregate::Vote => AggregateKind::Vote,
                Aggregate::Mean => AggregateKind::Mean,
            },
            beta: self.beta,
            abstain_on: match self.abstain_on {
                AbstainName::Momentum => AbstainOn::Momentum,
                AbstainName::Gradient => AbstainOn::Gradient,
            },
            chunk_coordinates: self.chunk,
            digest_every: self.digest_every,
            max_non_finite: self.max_non_finite,
            signed: false,
            step: self.steps.step_rule(),
            settings,
        };
        Ok(Config {
            tie: self.tie,
            min_voters: self.min_voters,
            vote_momentum: self.steps.vote_momentum,
            vote_feedback: self.steps.vote_feedback,
            optimizer: match self.optimizer {
                OptimizerName::Sgd => Optimizer::Sgd { momentum: self.beta },
                OptimizerName::Adam => Optimizer::Adam { beta1: self.beta, beta2: self.beta2, epsilon: 1e-8 },
            },
            quorum: usize::from(self.quorum()),
            deadline: self.deadline(deadline)?,
            weight_decay: self.weight_decay,
            topology: self.topology.with(self.shards.unwrap_or(self.workers), self.replicas),
            ..Config::new(terms, schedule)
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::OF_THE_EXCHANGE;
    use crate::flags::{Cli, Command};

    fn eta(line: &str, rounds: u64) -> f64 {
        let words = ["signvote", "train"].into_iter().chain(line.split_whitespace());
        match Cli::parse_from(words).command {
            Command::Train(flags) => flags.rules.eta(rounds),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_model_file_keeps_the_rules_that_enter_it_and_the_rate_that_holds() {
        let Command::Train(flags) =
            Cli::parse_from(["signvote", "train", "--seed", "9", "--form", "lion"]).command
        else {
            panic!("it is train");
        };
        let config = flags.rules.as_config(1760).unwrap();
        let keys = ["seed", "rounds", "eta", "form", "beta", "layerwise", "aggregate", "tie"];
        let values = keys.map(|key| config[key].as_str());
        assert_eq!(values, ["9", "1760", "0.0005", "lion", "0.9", "false", "vote", "coin"]);
        let table = toml::Table::try_from(&flags.rules).unwrap();
        let told = OF_THE_EXCHANGE.into_iter().filter(|&key| table.contains_key(key)).count();
        assert_eq!(config.len(), table.len() - told + ["rounds", "eta"].len(), "{config:?}");
        assert!(OF_THE_EXCHANGE.iter().all(|&key| !config.contains_key(key)), "{config:?}");
    }

    #[test]
    fn a_vote_of_more_rounds_makes_shorter_steps() {
        assert_eq!(eta("", 440), 1e-3, "to the last bit: a run of the default is what it was");
        assert_eq!([4 * 440, 110, 44].map(|rounds| eta("", rounds)), [5e-4, 2e-3, 2e-3]);
        assert_eq!(eta("--layerwise", 4 * 440), 0.0125);
        assert_eq!(eta("--eta 0.25", 7), 0.25);
        assert_eq!(eta("--aggregate mean", 7), 0.05);
        assert_eq!(eta("--aggregate mean --optimizer adam", 7), 1e-3);
    }
}
