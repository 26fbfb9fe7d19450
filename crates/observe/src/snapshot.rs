//! The status snapshot: all that pages, terminals, metrics and reports show of a run. `docs/dashboard.md` has the schema.

use serde::{Deserialize, Serialize};
use signvote_election::{Slot, WorkerState};

/// The version of the schema. It changes when a field changes its meaning or goes; new fields may come.
pub const SNAPSHOT_VERSION: u32 = 1;

/// How a run stands, and how it came there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SNAPSHOT_VERSION`].
    pub version: u32,
    /// The run's id, in hexadecimal; empty before the server listens.
    pub run: String,
    /// Where its server listens.
    pub address: String,
    /// What the run is, in a few words: model, data, aggregate.
    pub title: String,
    /// Its settings, as in `config.toml`.
    pub config: String,
    /// Names of the files that can be had from where the snapshot comes from.
    pub files: Vec<String>,
    /// Whether all is well.
    pub health: Health,
    /// Whether it goes on.
    pub phase: Phase,
    /// Why it is there: of a running one, why the last round closed.
    pub reason: String,
    /// Rounds committed.
    pub round: u64,
    /// Rounds in the run.
    pub rounds: u64,
    /// How often rounds were lost.
    pub incarnation: u32,
    /// d.
    pub dimension: u64,
    /// Places.
    pub places: u16,
    /// Fewest ballots that decide.
    pub quorum: u64,
    /// Most blind liars among a quorum's votes that the vote tolerates.
    pub tolerated_liars: u64,
    /// The instruction set of the server's kernels, and why.
    pub kernels: String,
    /// Seconds since 1970 at the first event.
    pub began: f64,
    /// Seconds since 1970 at the last event that was taken in.
    pub time: f64,
    /// Seconds in which rounds were open, without those between a stop and its resume.
    pub training_seconds: f64,
    /// Of late: the mean over the last rounds of the median losses that workers reported.
    pub loss: Option<f64>,
    /// The same of the fractions classified right.
    pub accuracy: Option<f64>,
    /// η of the last round.
    pub eta: Option<f64>,
    /// Ballots that counted in the last round.
    pub voters: u64,
    /// Coordinates of the last round with as many votes for as against.
    pub ties: u64,
    /// Coordinates of the last round that took no step.
    pub holds: u64,
    /// How fast it goes: over the last ten seconds, and once it is over, over the whole run.
    pub pace: Pace,
    /// All bytes so far.
    pub bytes: Bytes,
    /// Over the rounds, a row for each figure.
    pub series: Series,
    /// On held-out data, oldest first.
    pub evaluations: Vec<Evaluation>,
    /// A row a place.
    pub workers: Vec<Worker>,
    /// The rounds of [`Worker::history`].
    pub history_rounds: Vec<u64>,
    /// What sets workers apart, now.
    pub rule: Rule,
    /// How contested the coordinates are.
    pub margins: Option<ByTensor>,
    /// What happened, oldest first; the last ones of many.
    pub entries: Vec<Entry>,
    /// How many there were before those.
    pub entries_before: u64,
}

/// Whether all is well, for who has ten seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// In one word.
    pub level: Level,
    /// In one sentence.
    pub words: String,
    /// What more there is to say.
    pub more: String,
}

/// Health in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It is too early to say.
    #[default]
    Wait,
    /// Nothing is the matter.
    Good,
    /// Somebody should look.
    Bad,
}

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Workers are missing.
    #[default]
    Gathering,
    /// Rounds are committed.
    Running,
    /// Its server has stopped, and can be resumed.
    Paused,
    /// It is over.
    Finished,
}

impl Phase {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gathering => "gathering",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Finished => "finished",
        }
    }
}

/// Speed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    /// Rounds a second.
    pub rounds_per_second: f64,
    /// Bytes a second on the sockets of all workers, both ways, joins left out.
    pub bytes_per_second: f64,
    /// What the same rounds would take in plain f32.
    pub f32_bytes_per_second: f64,
    /// The second divided by the first.
    pub times_less: Option<f64>,
}

/// Bytes of all workers, on their sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bytes {
    /// Of rounds, to the server.
    pub round_up: u64,
    /// Of rounds, to the workers.
    pub round_down: u64,
    /// Greetings, parameters, farewells, both ways.
    pub join: u64,
    /// What those rounds would have taken each way in plain f32: four bytes a coordinate, round and voter.
    pub f32_each_way: u64,
    /// How many times less than that went to the server.
    pub times_less_up: Option<f64>,
    /// The same, to the workers.
    pub times_less_down: Option<f64>,
    /// The same, both ways together.
    pub times_less: Option<f64>,
}

/// Columns over rounds. Where there were too many rounds, a point is the mean of `stride` of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Rounds to a point.
    pub stride: u64,
    /// The round after which a point ends.
    pub round: Vec<u64>,
    /// Seconds of training until then.
    pub seconds: Vec<f64>,
    /// Bytes of rounds until then, both ways.
    pub bytes: Vec<u64>,
    /// Loss on the workers' batches.
    pub loss: Vec<Option<f64>>,
    /// Accuracy on the workers' batches.
    pub accuracy: Vec<Option<f64>>,
    /// Learning rate.
    pub eta: Vec<f64>,
}

/// The model on held-out data.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Rounds committed.
    pub round: u64,
    /// Mean loss; `null` if not finite.
    pub loss: Option<f64>,
    /// Fraction classified right.
    pub accuracy: f64,
    /// Seconds of training until then.
    pub seconds: f64,
    /// Bytes of rounds until then, both ways.
    pub bytes: u64,
}

/// One place and its worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// The place.
    pub slot: Slot,
    /// The name of its worker; empty before there was one.
    pub name: String,
    /// What it is doing.
    pub state: WorkerState,
    /// Rounds that it has yet to be sent.
    pub lag_rounds: u64,
    /// Rounds in which it voted.
    pub rounds: u64,
    /// Chunks of its ballots that came too late.
    pub late_chunks: u64,
    /// Its agreement with the verdict, over the last three hundred rounds or so.
    pub agreement: Option<f64>,
    /// Its agreement over time, in thousandths, at the rounds of [`Snapshot::history_rounds`].
    pub history: Vec<Option<u16>>,
    /// Its bytes so far, joins included, to the server.
    pub up_bytes: u64,
    /// The same, to the worker.
    pub down_bytes: u64,
    /// Whether the rule sets it apart.
    pub apart: bool,
    /// What is to be said of it, in words.
    pub verdict: String,
    /// What happened to it last.
    pub last: String,
}

/// What sets workers apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// The lowest agreement of those who make up most workers.
    pub low: Option<f64>,
    /// The highest.
    pub high: Option<f64>,
    /// Who agrees less than this is set apart.
    pub limit: Option<f64>,
    /// The rule, in words.
    pub words: String,
}

/// Histograms of margins: how many coordinates had |votes for − votes against| of 0, up to 1/10 of the ballots, …, all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ByTensor {
    /// Rounds committed when it was counted.
    pub round: u64,
    /// Over all tensors.
    pub all: Vec<u64>,
    /// A row a tensor, in the order of the flat vector.
    pub tensors: Vec<OfTensor>,
}

/// The margins of one tensor: of up to 1,024 of its coordinates in each chunk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OfTensor {
    /// Its name.
    pub name: String,
    /// The histogram.
    pub bins: Vec<u32>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Counts from 0.
    pub id: u64,
    /// Seconds since 1970.
    pub time: f64,
    /// Rounds committed.
    pub round: u64,
    /// The event's name, as in `events.jsonl`; `set_apart` when a worker is set apart for the first time.
    pub event: String,
    /// Of whose place.
    pub slot: Option<Slot>,
    /// Whether somebody should look at it.
    pub warning: bool,
    /// What it was.
    pub words: String,
}
