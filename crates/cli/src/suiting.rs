//! The steps that suit a model: what a vote takes where nothing else is told.
//!
//! A vote's steps have one length whatever the gradient, so that what is right depends on how many there are, and on how much of a
//! tensor's own size a step is. Where the constants come from: docs/accuracy.md.

use std::fmt;

use signvote_learn::ModelKind;

use crate::flags::{Aggregate, LearnFlags, RuleFlags, ScheduleName, TrainFlags};

/// Rounds in which most rates were measured: ten epochs of the data in the program.
const MEASURED_ROUNDS: f64 = 440.0;
/// How many times the rate of those a shorter run has at most: it does better with less than the law says.
const MOST_TIMES: f64 = 2.0;

/// What becomes of a rate in K rounds. Of square roots only, which are the same on every machine.
#[derive(Clone, Copy, Debug)]
enum Law {
    /// It stays.
    Same,
    /// √([`MEASURED_ROUNDS`]/K).
    Root,
    /// ([`MEASURED_ROUNDS`]/K)^¼.
    FourthRoot,
}

impl Law {
    fn factor(self, rounds: u64) -> f64 {
        let times = MEASURED_ROUNDS / rounds.max(1) as f64;
        match self {
            Self::Same => 1.0,
            Self::Root => times.sqrt(),
            Self::FourthRoot => times.sqrt().sqrt(),
        }
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => Ok(()),
            Self::Root => write!(f, "·√({MEASURED_ROUNDS}/K)"),
            Self::FourthRoot => write!(f, "·({MEASURED_ROUNDS}/K)^0.25"),
        }
    }
}

/// A learning rate, and what goes with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suiting {
    layerwise: bool,
    /// The only one with which the rate is right, if there is one.
    schedule: Option<ScheduleName>,
    /// η in [`MEASURED_ROUNDS`].
    rate: f64,
    law: Law,
}

impl fmt::Display for Suiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { layerwise, schedule, rate, law } = self;
        write!(f, "{rate:e}{law}{}", if *layerwise { " by tensor" } else { "" })?;
        schedule.map_or(Ok(()), |schedule| write!(f, ", {schedule}"))
    }
}

impl Suiting {
    /// As in the paper's theorem 1, δ = 1/√(L₁K).
    pub(crate) const PLAIN: Self = Self { layerwise: false, schedule: None, rate: 1e-3, law: Law::Root };
    /// A share of each tensor's own size.
    pub(crate) const LAYERWISE: Self = Self { layerwise: true, rate: 0.025, ..Self::PLAIN };
    /// Through what was measured in 220 rounds (5e-4) and what the paper took in 114,320 (1e-4, ResNet-50 on ImageNet).
    const RESNET: Self = Self { rate: 4.2e-4, law: Law::FourthRoot, ..Self::PLAIN };
    /// One rate for all tensors is 10% behind, and a rate that is reached too early does harm that lasts.
    const TEXT: Self =
        Self { layerwise: true, schedule: Some(ScheduleName::OneCycle), rate: 0.03, law: Law::Same };

    /// What suits the model in a vote; a mean has no need of it.
    pub(crate) fn of_vote(learn: &LearnFlags, rules: &RuleFlags) -> Option<Self> {
        (rules.aggregate == Aggregate::Vote).then(|| Self::of(learn.model))
    }

    /// What suits a model.
    pub(crate) fn of(model: ModelKind) -> Self {
        match model {
            ModelKind::ResNet18Small | ModelKind::ResNet18 | ModelKind::ResNet50 => Self::RESNET,
            ModelKind::GptSmall | ModelKind::QrnnSmall => Self::TEXT,
            // Of mlp and cnn it was measured; of AlexNet and the large QRNN nothing was.
            _ => Self::PLAIN,
        }
    }

    /// η before any schedule in so many rounds.
    pub(crate) fn eta(&self, rounds: u64) -> f64 {
        self.rate * self.law.factor(rounds).min(MOST_TIMES)
    }

    /// The settings that go with it.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let layerwise = self.layerwise.then(|| ("layerwise".into(), "true".into()));
        let schedule = self.schedule.map(|it| ("schedule".into(), it.to_string()));
        layerwise.into_iter().chain(schedule).collect()
    }

    /// Whether the rate is meant for these rules.
    fn goes_with(&self, rules: &RuleFlags) -> bool {
        // One rate for all tensors and shares of their sizes are not of one magnitude.
        self.layerwise == rules.steps.layerwise && self.schedule.is_none_or(|it| it == rules.schedule)
    }
}

impl TrainFlags {
    /// Settles the learning rate for so many rounds, if it is left to the program. Whoever reads the settings of the run then has the
    /// same, and need not know the model.
    pub(crate) fn settle_rate(&mut self, rounds: u64) {
        let suiting = Suiting::of_vote(&self.learn, &self.rules).filter(|it| it.goes_with(&self.rules));
        let rate = suiting.map_or_else(|| self.rules.eta(rounds), |suiting| suiting.eta(rounds));
        self.rules.eta.get_or_insert(rate);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::Suiting;
    use crate::flags::{Cli, Command, TrainFlags};

    fn flags(line: &str) -> Box<TrainFlags> {
        let words = ["signvote", "train"].into_iter().chain(line.split_whitespace());
        match Cli::parse_from(words).command {
            Command::Train(flags) => flags,
            other => panic!("{other:?}"),
        }
    }

    fn rate(line: &str, rounds: u64) -> Option<f64> {
        let mut flags = flags(line);
        flags.settle_rate(rounds);
        flags.rules.eta
    }

    #[test]
    fn a_rate_that_is_left_to_the_program_suits_the_model() {
        assert_eq!(rate("", 440), Some(1e-3), "to the last bit: a run of the default is what it was");
        assert_eq!(rate("--model cnn", 4 * 440), Some(5e-4));
        let resnet = |rounds| rate("--model resnet50", rounds).unwrap();
        assert!(
            (resnet(220) - 5e-4).abs() < 1e-6 && (resnet(114_320) - 1e-4).abs() < 1e-5,
            "what was measured, and the paper's"
        );
        assert_eq!(rate("--model resnet50", 16 * 440), Some(2.1e-4));
        assert_eq!(rate("--model gpt-small --layerwise --schedule one-cycle", 7), Some(0.03));
    }

    #[test]
    fn a_rate_is_as_told_and_that_of_any_model_where_the_models_own_is_for_other_steps() {
        assert_eq!(rate("--model resnet50 --eta 0.25", 220), Some(0.25));
        for (line, expected) in [
            ("--model resnet50 --layerwise", 0.0125),
            ("--model gpt-small --layerwise", 0.0125),
            ("--model gpt-small --schedule one-cycle", 5e-4),
            ("--model gpt-small --aggregate mean", 0.05),
        ] {
            assert_eq!(rate(line, 4 * 440), Some(expected), "{line}");
        }
    }

    #[test]
    fn settings_that_go_with_a_rate_are_those_of_flags() {
        let settings = |line| {
            let flags = flags(line);
            Suiting::of_vote(&flags.learn, &flags.rules).map(|suiting| suiting.settings())
        };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(settings(""), Some(Vec::new()));
        assert_eq!(
            settings("--model gpt-small"),
            Some(vec![pair("layerwise", "true"), pair("schedule", "one-cycle")])
        );
        assert_eq!(settings("--model gpt-small --eta 0.1"), settings("--model gpt-small"));
        assert_eq!(settings("--model gpt-small --aggregate mean"), None);
    }
}
