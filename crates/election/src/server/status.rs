//! How a run stands, for people who ask and programs that watch.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::members::PeerState;
use super::{Phase, Server};
use crate::{ShardAddress, ShardId, Slot, Traffic, hexadecimal};

/// How a run stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The run's id.
    pub run: String,
    /// `gathering`, `running`, `finishing` or `done`.
    pub phase: String,
    /// The open round, which is the number of rounds committed.
    pub round: u64,
    /// Rounds in the run.
    pub rounds: u64,
    /// How often the server has lost rounds.
    pub incarnation: u32,
    /// Chain hash of what has been committed, in hexadecimal.
    pub chain: String,
    /// d, or 0 before the model is known.
    pub dimension: usize,
    /// Fewest ballots that decide.
    pub quorum: usize,
    /// Most blind liars among a quorum's votes that the vote tolerates.
    pub tolerated_liars: usize,
    /// Workers that the open round waits for, by place.
    pub waiting_for: Vec<Slot>,
    /// Seconds since the open round's opening at which it may close without them; `null`: never.
    pub deadline_seconds: Option<f64>,
    /// Why the last round closed.
    pub last_reason: String,
    /// What the open round waits for.
    pub open_reason: String,
    /// Why the deadline is what it is.
    pub deadline_reason: String,
    /// Rules broken by peers, in the whole run of this server.
    pub offences: u64,
    /// Origins that are kept out now.
    pub kept_out: usize,
    /// Connections turned away because their origin was kept out.
    pub turned_away: u64,
    /// Rounds of verdicts that are held for workers that come back.
    pub ring_rounds: usize,
    /// A row a place.
    pub workers: Vec<WorkerStatus>,
    /// A row a shard; none where the server tallies.
    #[serde(default)]
    pub shards: Vec<ShardStatus>,
}

/// How one shard stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Its enrolment.
    pub shard: ShardId,
    /// Its name.
    pub name: String,
    /// Where workers find it.
    pub address: String,
    /// Chunks of the open round that it tallies.
    pub chunks: usize,
}

/// What a place's worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Nobody is connected.
    Away,
    /// It is making or bringing parameters.
    Joining,
    /// It is being sent what it has missed.
    Behind,
    /// It votes, but has missed a deadline and is not waited for.
    NotAwaited,
    /// It votes.
    Voting,
}

impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Away => "away",
            Self::Joining => "joining",
            Self::Behind => "behind",
            Self::NotAwaited => "not awaited",
            Self::Voting => "voting",
        })
    }
}

/// How one place stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// The place.
    pub slot: Slot,
    /// The name of its worker.
    pub name: String,
    /// The identity that the place belongs to.
    pub identity: Option<String>,
    /// What it is doing.
    pub state: WorkerState,
    /// Rounds that it has yet to be sent.
    pub lag_rounds: u64,
    /// Whether it has voted on every chunk of the open round.
    pub voted: bool,
    /// Votes that agreed with the verdict, over all votes cast where there was one.
    pub agreement: Option<f64>,
    /// Rounds in which it voted.
    pub rounds: u64,
    /// Chunks that came too late.
    pub late_chunks: u64,
    /// Deadlines that it missed.
    pub missed_deadlines: u32,
    /// Its bytes, counted by the shell.
    pub traffic: Option<Traffic>,
}

impl Server {
    /// What a place's worker is doing, and how many rounds it has yet to be sent.
    pub(super) fn standing(&self, slot: Slot) -> (WorkerState, u64) {
        let peer = self.peers.values().find(|peer| peer.state.slot() == Some(slot));
        match peer.map(|peer| &peer.state) {
            None | Some(PeerState::Greeting) => (WorkerState::Away, 0),
            Some(PeerState::Active { behind: Some(way), .. }) => {
                (WorkerState::Behind, self.at.round.0.saturating_sub(way.next.0))
            }
            Some(PeerState::Active { .. }) if self.members[slot.index()].probation.is_some() => {
                (WorkerState::NotAwaited, 0)
            }
            Some(PeerState::Active { .. }) => (WorkerState::Voting, 0),
            Some(_) => (WorkerState::Joining, 0),
        }
    }

    /// How the run stands. Bytes are the shell's to add.
    pub fn status(&self, now: Duration) -> Status {
        let chunks = &self.open.chunks;
        let worker = |(index, member): (usize, &super::Member)| {
            let slot = Slot::from_index(index);
            let record = member.record(slot);
            let (state, lag_rounds) = self.standing(slot);
            WorkerStatus {
                slot,
                name: record.name,
                identity: member.identity.as_ref().map(|identity| identity.name.clone()),
                state,
                lag_rounds,
                voted: !chunks.is_empty() && chunks.iter().all(|chunk| chunk.voted.contains(slot)),
                agreement: record.agreement,
                rounds: record.rounds,
                late_chunks: record.late_chunks,
                missed_deadlines: member.missed,
                traffic: None,
            }
        };
        let shard = |(shard, chunks): (ShardAddress, usize)| {
            let ShardAddress { id, name, address } = shard;
            ShardStatus { shard: id, name, address, chunks }
        };
        let running = self.phase == Phase::Running;
        let missing = |slot: &Slot| running && chunks.iter().any(|chunk| !chunk.voted.contains(*slot));
        let (deadline, deadline_reason) = self.next_deadline();
        Status {
            run: self.config.terms.run.to_string(),
            phase: match self.phase {
                Phase::Gathering => "gathering",
                Phase::Running => "running",
                Phase::Finishing(_) => "finishing",
                Phase::Done => "done",
            }
            .into(),
            round: self.at.round.0,
            rounds: self.config.terms.rounds,
            incarnation: self.at.incarnation.0,
            chain: hexadecimal(&self.at.chain.0),
            dimension: self.model.as_ref().map_or(0, |model| model.x.len()),
            quorum: self.config.quorum,
            tolerated_liars: crate::decision::tolerated_liars(self.config.quorum),
            waiting_for: self.open.expected.iter().filter(missing).collect(),
            deadline_seconds: deadline.map(|deadline| deadline.as_secs_f64()),
            last_reason: self.last_reason.clone(),
            open_reason: self.why_open(),
            deadline_reason,
            offences: self.origins.offences,
            kept_out: self.origins.count_kept_out(now),
            turned_away: self.origins.turned_away,
            ring_rounds: self.ring.len(),
            workers: self.members.iter().enumerate().map(worker).collect(),
            shards: self.shard_loads().into_iter().map(shard).collect(),
        }
    }
}
