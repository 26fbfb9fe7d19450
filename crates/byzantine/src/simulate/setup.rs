//! What is simulated: every choice of a run, by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use signvote_election::{Schedule, Shape, TiePolicy};
use signvote_learn::{DataSource, ModelKind, Partition};

use super::{Form, Lie, Method};
use crate::Error;
use crate::aggregate::Before;

/// One run. Every field has a name in TOML (`kebab-case`), and what is left out has its default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Setup {
    /// What is minimised: a model by name, or `quadratic` (`quadratic-500`: of so many coordinates).
    #[serde(with = "text")]
    pub problem: Task,
    /// What a model learns from.
    #[serde(with = "text")]
    pub data: DataSource,
    /// How it is shared out.
    #[serde(with = "text")]
    pub partition: Partition,
    /// M.
    pub workers: u16,
    /// Examples of one worker's batch; on the quadratic, draws of noise that are averaged.
    pub batch: u32,
    /// Passes over the data; not on the quadratic.
    pub epochs: u32,
    /// Rounds, instead of `epochs`; 0: as many as those have.
    pub rounds: u64,
    /// Seed of start, batches, noise, coins and lies.
    pub seed: u64,
    /// η.
    pub eta: f64,
    /// How η goes on: `constant`, `cosine`, `one-cycle` or `sweep`.
    #[serde(with = "text")]
    pub schedule: Course,
    /// λ.
    #[serde(serialize_with = "short")]
    pub weight_decay: f32,
    /// Whether only tensors of two dimensions and more decay; of votes in an election.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub decay_matrices: bool,
    /// Whether every tensor has a rate of its own ([`StepRule::layerwise`](signvote_election::StepRule)); of votes in an election.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub layerwise: bool,
    /// β: of each worker, in a vote; of the server, where gradients are aggregated.
    #[serde(serialize_with = "short")]
    pub momentum: f32,
    /// What a worker votes with.
    #[serde(with = "text")]
    pub form: Form,
    /// Steps of its own that a worker makes in a round; what it votes with is the mean of their gradients.
    pub local_steps: u32,
    /// The rate of those steps.
    #[serde(serialize_with = "short")]
    pub local_eta: f32,
    /// What is made of what the workers send.
    #[serde(with = "text")]
    pub method: Method,
    /// How many liars a rule is told to expect; without it, as many as there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<usize>,
    /// What is done to gradients before a rule sees them.
    #[serde(with = "optional_text", skip_serializing_if = "Option::is_none")]
    pub before: Option<Before>,
    /// What a tied coordinate becomes.
    #[serde(with = "text")]
    pub tie: TiePolicy,
    /// Workers that lie: the first ones.
    pub liars: u16,
    /// How.
    #[serde(with = "text")]
    pub lie: Lie,
    /// σ of the quadratic's noise, for one draw.
    #[serde(serialize_with = "short")]
    pub noise: f32,
}

impl Default for Setup {
    /// The main job of the program: the mlp on the 10,000 images, seven honest workers, Signum.
    fn default() -> Self {
        Self {
            problem: Task::Model(ModelKind::Mlp),
            data: DataSource::default(),
            partition: Partition::Iid,
            workers: 7,
            batch: 32,
            epochs: 10,
            rounds: 0,
            seed: 1,
            eta: 1e-3,
            schedule: Course::Cosine,
            weight_decay: 0.0,
            decay_matrices: false,
            layerwise: false,
            momentum: 0.9,
            form: Form::Plain(signvote_learn::Form::Signum),
            local_steps: 1,
            local_eta: 0.1,
            method: Method::Vote,
            told: None,
            before: None,
            tie: TiePolicy::default(),
            liars: 0,
            lie: Lie::SignFlip { scale: 1.0 },
            noise: 1.0,
        }
    }
}

impl Setup {
    /// f that a rule is told.
    pub fn told(&self) -> usize {
        self.told.unwrap_or(usize::from(self.liars))
    }

    /// η of every one of `rounds` rounds.
    ///
    /// # Errors
    /// If η is not a positive number.
    pub fn course(&self, rounds: u64) -> Result<Schedule, Error> {
        let shape = match self.schedule {
            Course::Constant => Shape::Constant,
            Course::Cosine => Shape::Cosine,
            Course::OneCycle => Shape::OneCycle,
            Course::Sweep => Shape::Sweep,
        };
        Ok(Schedule::new(self.eta, 0, rounds, shape)?)
    }

    /// Bytes that a simulation of d coordinates needs, to within a few percent: of every worker its gradient and momentum, and
    /// in an election its replica; of a compressor what was decoded, and the error; what the data takes is not in it.
    pub fn memory_bytes(&self, dimension: usize) -> u64 {
        let d = dimension as u64;
        let floats = match self.method {
            Method::Vote | Method::Momentum { .. } => 3,
            Method::Compressed(compressor) if compressor.has_feedback() => 3,
            _ => 2,
        };
        // Planes: two of the ballot, two in frames on their way.
        u64::from(self.workers) * (4 * floats * d + 4 * d / 8) + 8 * d
    }

    /// Refuses what contradicts itself.
    pub(super) fn check(&self) -> Result<(), Error> {
        let misuse = |what, expected: &str, got: String| Err(Error::misuse(what, expected, got));
        if self.workers == 0 {
            return misuse("workers", "at least 1", self.workers.to_string());
        }
        if self.liars >= self.workers {
            return misuse(
                "liars",
                &format!("fewer than the {} workers", self.workers),
                self.liars.to_string(),
            );
        }
        if self.batch == 0 {
            return misuse("batch", "at least 1", self.batch.to_string());
        }
        if self.local_steps == 0 {
            return misuse("local-steps", "at least 1", self.local_steps.to_string());
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return misuse("momentum", "at least 0 and below 1", self.momentum.to_string());
        }
        if !(self.noise >= 0.0 && self.noise.is_finite()) {
            return misuse("noise", "0 or more", self.noise.to_string());
        }
        if self.rounds == 0 && (matches!(self.problem, Task::Quadratic { .. }) || self.epochs == 0) {
            return misuse("rounds", "at least 1", self.rounds.to_string());
        }
        let elected = matches!(self.method, Method::Vote | Method::Momentum { .. });
        if (self.layerwise || self.decay_matrices) && !elected {
            let expected = "vote or vote-momentum for layerwise and decay-matrices";
            return misuse("method", expected, self.method.to_string());
        }
        if self.before.is_some() && !matches!(self.method, Method::Rule(_)) {
            return misuse("before", "a rule that aggregates gradients", self.method.to_string());
        }
        Ok(())
    }
}

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// f(x) = ½‖x‖², with Gaussian noise of σ on every component of its gradient (the paper's figure 1, 1,000 coordinates).
    Quadratic {
        /// d.
        dimension: usize,
    },
    /// The loss of a model on images.
    Model(ModelKind),
}

impl FromStr for Task {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "quadratic" {
            return Ok(Self::Quadratic { dimension: 1000 });
        }
        if let Some(dimension) = text.strip_prefix("quadratic-") {
            let number = dimension.parse().ok().filter(|&d| d > 0);
            let dimension =
                number.ok_or_else(|| Error::misuse("quadratic", "coordinates, at least 1", dimension))?;
            return Ok(Self::Quadratic { dimension });
        }
        Ok(Self::Model(text.parse()?))
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quadratic { dimension: 1000 } => f.write_str("quadratic"),
            Self::Quadratic { dimension } => write!(f, "quadratic-{dimension}"),
            Self::Model(kind) => kind.fmt(f),
        }
    }
}

/// How η goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// It stays.
    Constant,
    /// To 0, by half a cosine.
    Cosine,
    /// Up to it through four decades, to find a rate.
    Sweep,
    /// Up to it in three tenths of the run, and down again.
    OneCycle,
}

impl FromStr for Course {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "constant" => Ok(Self::Constant),
            "cosine" => Ok(Self::Cosine),
            "one-cycle" => Ok(Self::OneCycle),
            "sweep" => Ok(Self::Sweep),
            _ => Err(Error::misuse("schedule", "constant, cosine, one-cycle or sweep", text)),
        }
    }
}

impl fmt::Display for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Constant => "constant",
            Self::Cosine => "cosine",
            Self::OneCycle => "one-cycle",
            Self::Sweep => "sweep",
        })
    }
}

/// An f32 as the shortest decimal that means it: 0.9, not 0.8999999761581421.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn short<S: serde::Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(value.to_string().parse().unwrap_or(f64::from(*value)))
}

/// A field that is written as its name.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'a, T: FromStr<Err: Display>, D: Deserializer<'a>>(
        from: D,
    ) -> Result<T, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

/// The same where there may be none.
mod optional_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => to.collect_str(value),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'a, T: FromStr<Err: Display>, D: Deserializer<'a>>(
        from: D,
    ) -> Result<Option<T>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| text.parse().map_err(de::Error::custom)).transpose()
    }
}
