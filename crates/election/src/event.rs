//! What happened, for logs, pages and tests: every event carries the reason in one sentence.

use serde::{Deserialize, Serialize};

use crate::{Round, ShardId, Slot, WorkerState};

/// Something that happened in a run. One JSON object a line in `events.jsonl`; `docs/run-directory.md` has the schema.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The server is ready for workers.
    Listening {
        /// Where, as `host:port`.
        address: String,
        /// The run's id.
        run: String,
        /// Places for workers.
        workers: u16,
        /// Fewest ballots that decide.
        quorum: usize,
        /// Most blind liars among a quorum's votes that the vote tolerates.
        tolerated_liars: usize,
        /// Rounds in the run.
        rounds: u64,
        /// The instruction set that the server's kernels use, and why.
        kernels: String,
    },
    /// A worker has its state and may vote.
    Joined {
        /// Its place.
        slot: Slot,
        /// Its name.
        name: String,
        /// The open round.
        round: Round,
        /// How it came by its parameters.
        reason: String,
    },
    /// Somebody was not let in, or was put out before it had a place.
    Refused {
        /// Its name, if it gave one.
        name: String,
        /// Why.
        reason: String,
    },
    /// A worker is gone.
    Left {
        /// Its place.
        slot: Slot,
        /// Its name.
        name: String,
        /// The open round.
        round: Round,
        /// Why.
        reason: String,
    },
    /// Whoever comes from there is turned away for a while: it has broken too many rules.
    KeptOut {
        /// Which identity or address.
        origin: String,
        /// For how long.
        seconds: f64,
        /// What it did last.
        reason: String,
    },
    /// A shard has enrolled: it tallies from the next round on, or from the first.
    ShardJoined {
        /// Its enrolment.
        shard: ShardId,
        /// Its name.
        name: String,
        /// Where workers find it.
        address: String,
        /// The open round.
        round: Round,
    },
    /// A shard is gone; others tally what it held, and workers cast it again.
    ShardLost {
        /// Its enrolment.
        shard: ShardId,
        /// Its name.
        name: String,
        /// The open round.
        round: Round,
        /// Chunks of that round that were not decided yet, and have moved.
        chunks: usize,
        /// Why.
        reason: String,
    },
    /// A shard has told another verdict on the same ballots than most of those that tally the chunk with it; it is put out.
    ShardOutvoted {
        /// Its enrolment.
        shard: ShardId,
        /// Its name.
        name: String,
        /// The open round.
        round: Round,
        /// On what.
        reason: String,
    },
    /// The server goes on with a run that an earlier one began.
    Resumed {
        /// Rounds committed.
        round: Round,
        /// How often rounds have been lost so far.
        incarnation: u32,
        /// What it started from.
        reason: String,
    },
    /// The server stops, and the run can be resumed.
    Paused {
        /// Rounds committed.
        round: Round,
        /// Why.
        reason: String,
    },
    /// Rounds cannot be kept on disk; the training goes on without.
    NotDurable {
        /// The first round that was not kept.
        round: Round,
        /// Why.
        reason: String,
    },
    /// Rounds are kept on disk again.
    DurableAgain {
        /// The first round that is kept.
        round: Round,
    },
    /// The first round is open: d is known and enough workers are there.
    Started {
        /// d.
        dimension: usize,
        /// Workers present.
        workers: usize,
        /// Names of the model's tensors, in the order of the flat vector.
        #[serde(default)]
        tensors: Vec<String>,
    },
    /// A round was decided and committed.
    Committed {
        /// The round.
        round: Round,
        /// Workers whose ballots counted.
        voters: usize,
        /// Ballots that counted in some chunks only: who died or joined in mid-round.
        partial: usize,
        /// Its learning rate η.
        eta: f32,
        /// Median of the mean losses that workers reported, so that no minority of liars moves it far; `null` if not finite.
        loss: Option<f32>,
        /// Median of the reported fractions of examples classified right.
        accuracy: Option<f32>,
        /// Coordinates with as many votes for as against.
        ties: usize,
        /// Coordinates that took no step.
        holds: usize,
        /// Why it closed, as decided for its last chunk.
        reason: String,
    },
    /// How the votes of the last rounds stood to each other.
    Votes {
        /// Rounds committed.
        round: Round,
        /// A row a place.
        workers: Vec<WorkerVotes>,
        /// How clear the last round's votes were, a histogram a tensor; none where ballots are not in one place, as in a mean and
        /// with shards.
        margins: Vec<Margins>,
    },
    /// Ballots that came after their chunk was decided.
    Late {
        /// Whose.
        slot: Slot,
        /// Chunks dropped so far from this worker.
        chunks: u64,
    },
    /// A worker's gradient was not finite somewhere; it abstained there.
    NonFinite {
        /// Whose.
        slot: Slot,
        /// The round.
        round: Round,
        /// In how many coordinates.
        coordinates: u64,
    },
    /// A replica differs from the server's copy.
    Diverged {
        /// Whose.
        slot: Slot,
        /// After so many rounds.
        round: Round,
        /// What the server does about it.
        reason: String,
    },
    /// Bytes on the sockets so far, a row a worker.
    Traffic {
        /// Rounds committed.
        round: Round,
        /// The rows.
        workers: Vec<Traffic>,
    },
    /// The model file holds the state after so many rounds.
    Saved {
        /// Rounds committed.
        round: Round,
        /// The file.
        path: String,
    },
    /// The model was evaluated on held-out data.
    Evaluated {
        /// Rounds committed.
        round: Round,
        /// Mean loss; `null` if not finite.
        test_loss: Option<f32>,
        /// Fraction classified right.
        test_accuracy: f64,
    },
    /// The run is over.
    Finished {
        /// Rounds committed.
        round: Round,
        /// Why.
        reason: String,
        /// Digest of the final parameters, in hexadecimal.
        digest: String,
        /// Whether every worker that was there at the end confirmed that digest.
        replicas_identical: bool,
        /// Workers that confirmed it.
        replicas: usize,
        /// A row a worker.
        workers: Vec<WorkerRecord>,
    },
}

impl Event {
    /// What happened, in one sentence for a person; `None` for what happens in every round, and for counts.
    pub fn sentence(&self) -> Option<String> {
        Some(match self {
            Self::Listening { address, workers, quorum, .. } => {
                format!(
                    "the server listens at {address} for {workers} workers, of which {quorum} decide a round"
                )
            }
            Self::Joined { slot, name, round, reason } => {
                format!("worker {slot} ({name}) joined in round {round}: {reason}")
            }
            Self::Refused { name, reason } => {
                let who = if name.is_empty() { "a peer" } else { name };
                format!("{who} did not get in: {reason}")
            }
            Self::Left { slot, name, round, reason } => {
                format!("worker {slot} ({name}) left in round {round}: {reason}")
            }
            Self::KeptOut { origin, seconds, reason } => {
                format!("{origin} is kept out for {seconds:.0} s: {reason}")
            }
            Self::ShardJoined { name, address, round, .. } => {
                format!("shard {name} at {address} enrolled in round {round}")
            }
            Self::ShardLost { name, round, chunks, reason, .. } => {
                format!("shard {name} is gone in round {round}, {chunks} chunks move: {reason}")
            }
            Self::ShardOutvoted { name, round, reason, .. } => {
                format!("shard {name} tallied falsely in round {round}: {reason}")
            }
            Self::Resumed { round, reason, .. } => format!("goes on at round {round} {reason}"),
            Self::Paused { round, reason } => format!("the server stops after {round} rounds: {reason}"),
            Self::NotDurable { round, reason } => {
                format!("rounds are not kept on disk from round {round} on: {reason}")
            }
            Self::DurableAgain { round } => format!("rounds are kept on disk again from round {round} on"),
            Self::Started { dimension, workers, .. } => {
                format!("the first round opens with {workers} workers and {dimension} coordinates each")
            }
            Self::Late { slot, chunks } => format!("worker {slot} was late: {chunks} chunks dropped so far"),
            Self::NonFinite { slot, round, coordinates } => {
                format!("worker {slot} abstained in {coordinates} coordinates of round {round}: not finite")
            }
            Self::Diverged { slot, round, reason } => {
                format!("worker {slot}'s replica differs after round {round}: {reason}")
            }
            Self::Finished { round, reason, .. } => format!("the run is over after {round} rounds: {reason}"),
            Self::Committed { .. }
            | Self::Votes { .. }
            | Self::Traffic { .. }
            | Self::Saved { .. }
            | Self::Evaluated { .. } => return None,
        })
    }
}

/// A place, and how its votes of late stood to the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerVotes {
    /// The place.
    pub slot: Slot,
    /// What its worker is doing.
    pub state: WorkerState,
    /// Rounds that it has yet to be sent.
    pub lag_rounds: u64,
    /// Votes that agreed with the verdict, over all votes cast where there was one, since the last such event; `null` if it has
    /// cast none.
    pub agreement: Option<f64>,
    /// Rounds in which it has voted, in the whole run.
    pub rounds: u64,
}

/// A histogram of margins, |p − n| of p votes for and n against, as shares of the ballots: how many coordinates had a margin of
/// 0, of up to 1/10 of the ballots, of up to 2/10, …, of all of them.
pub type Margins = [u32; 11];

/// What is remembered of a worker's votes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// Its place.
    pub slot: Slot,
    /// The name of its last occupant.
    pub name: String,
    /// Votes that agreed with the verdict, over all votes cast where there was a verdict; `null` before the first.
    pub agreement: Option<f64>,
    /// Rounds in which it voted in at least one chunk.
    pub rounds: u64,
    /// Rounds that were committed while it was there, its vote counted or not.
    pub present: u64,
    /// Chunks that came too late.
    pub late_chunks: u64,
}

/// One worker's bytes, counted on its sockets, frames' headers included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Its place.
    pub slot: Slot,
    /// Ballots, reports and digests, to the server.
    pub round_up_bytes: u64,
    /// Verdicts and commits, to the worker.
    pub round_down_bytes: u64,
    /// Greetings, parameters and farewells, to the server.
    pub join_up_bytes: u64,
    /// Greetings, parameters and farewells, to the worker.
    pub join_down_bytes: u64,
}
