//! What a server is told.

use std::time::Duration;

use super::Patience;
use crate::ballots::Rules;
use crate::decision::{DeadlineRule, SecondConnection};
use crate::{
    AggregateKind, Chunking, Error, Layout, Optimizer, Schedule, Settings, Terms, TiePolicy, Topology,
};

/// Everything that a server is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is handed to the workers.
    pub terms: Terms,
    /// What a tie becomes.
    pub tie: TiePolicy,
    /// Votes below which a coordinate is held; 0 counts as 1.
    pub min_voters: u32,
    /// μ: the verdict is the sign of m ← μ·m + (1 − μ)·v̄, where v̄ is the mean of a round's votes, and not of v̄ alone. 0 is the plain
    /// vote. For workers whose votes are true on the average of many rounds only. m is nowhere but in the server's memory: a
    /// server that is resumed begins with 0 again.
    pub vote_momentum: f32,
    /// With momentum: the verdict is the sign of e + m, and e keeps what it leaves out, so that verdicts add up to m. A coordinate whose
    /// votes contradict each other moves little, as in Adam, and η is that of Adam. Bounded to one step, and in memory alone as well.
    pub vote_feedback: bool,
    /// What is made of a mean gradient.
    pub optimizer: Optimizer,
    /// Fewest ballots that decide a chunk.
    pub quorum: usize,
    /// How long a round waits for those who are missing once the quorum is met.
    pub deadline: DeadlineRule,
    /// η of every round.
    pub schedule: Schedule,
    /// λ.
    pub weight_decay: f32,
    /// Most coordinates that a first worker may bring.
    pub max_dimension: usize,
    /// How long a peer may take to say who it is.
    pub greeting_timeout: Duration,
    /// How long a peer that has a place may take to make its parameters, or for the next piece of them, or at the end to take
    /// its model's running statistics.
    pub joining_timeout: Duration,
    /// How long the server waits at the end for the last digests.
    pub farewell_timeout: Duration,
    /// Layout, parameters and settings to start from; `None`: the first worker's.
    pub initial: Option<(Layout, Vec<f32>, Settings)>,
    /// What becomes of a second connection of one identity.
    pub second: SecondConnection,
    /// When peers that break rules are kept out.
    pub patience: Patience,
    /// Bytes of recent verdicts that are held for workers that were away; the newest round is held in any case.
    pub ring_bytes: usize,
    /// Whether records carry the ballots.
    pub record_ballots: bool,
    /// Who tallies.
    pub topology: Topology,
    /// What tickets for shards are made from: random, and nobody else's to know.
    pub secret: [u8; 32],
    /// How long the first round after a resume waits for those who voted in the last one before it.
    pub return_grace: Duration,
    /// Rounds from one [`Event::Votes`](crate::Event::Votes) to the next; 0: there are none.
    pub votes_every: u64,
}

impl Config {
    /// A vote that waits for everyone, where more than half are a quorum, without weight decay. Limits are those of
    /// `docs/network.md`.
    pub fn new(terms: Terms, schedule: Schedule) -> Self {
        let quorum = usize::from(terms.workers / 2 + 1);
        Self {
            terms,
            tie: TiePolicy::default(),
            min_voters: 1,
            vote_momentum: 0.0,
            vote_feedback: false,
            optimizer: Optimizer::Sgd { momentum: 0.9 },
            quorum,
            deadline: DeadlineRule::Never,
            schedule,
            weight_decay: 0.0,
            max_dimension: 1 << 30,
            greeting_timeout: Duration::from_secs(10),
            joining_timeout: Duration::from_secs(120),
            farewell_timeout: Duration::from_secs(10),
            initial: None,
            second: SecondConnection::default(),
            patience: Patience::default(),
            ring_bytes: 64 << 20,
            record_ballots: false,
            topology: Topology::default(),
            secret: [0; 32],
            return_grace: Duration::from_secs(30),
            votes_every: 0,
        }
    }

    /// What the ballots become.
    pub(super) fn rules(&self) -> Rules {
        Rules {
            aggregate: self.terms.aggregate,
            workers: usize::from(self.terms.workers),
            tie: self.tie,
            min_voters: self.min_voters,
            momentum: self.vote_momentum,
            feedback: self.vote_feedback,
            seed: self.terms.seed,
            optimizer: self.optimizer,
            hashed: self.terms.signed,
            kept: self.record_ballots,
        }
    }

    /// Refuses what contradicts itself.
    pub(super) fn check(&self) -> Result<(), Error> {
        let workers = usize::from(self.terms.workers);
        let misuse = |text: String| Err(Error::Misuse(text));
        if workers == 0 {
            return misuse("a run needs at least one worker".into());
        }
        if self.quorum == 0 || self.quorum > workers {
            return misuse(format!("the quorum must be 1 to {workers}, got {}", self.quorum));
        }
        if let Topology::Sharded { shards, replicas } = self.topology {
            if shards == 0 || replicas == 0 || u16::from(replicas) > shards {
                return misuse(format!("{replicas} shards to a chunk need as many shards, got {shards}"));
            }
            if self.terms.aggregate != AggregateKind::Vote {
                return misuse("shards tally votes: a mean has a central server".into());
            }
            if self.record_ballots {
                return misuse("ballots are recorded where they are tallied: not with shards".into());
            }
        }
        if self.terms.step.layerwise && self.terms.aggregate != AggregateKind::Vote {
            return misuse("rates by tensor are for votes, whose steps have one length".into());
        }
        if !(0.0..1.0).contains(&self.vote_momentum) {
            return misuse(format!("the momentum of votes must be in [0, 1), got {}", self.vote_momentum));
        }
        if self.vote_feedback && self.vote_momentum == 0.0 {
            return misuse("feedback of votes is that of their momentum, which is 0".into());
        }
        let central = matches!(self.topology, Topology::Central);
        if self.vote_momentum > 0.0
            && (!central || self.record_ballots || self.terms.aggregate != AggregateKind::Vote)
        {
            return misuse(
                "momentum of votes is a central server's, and no verdict can be told from ballots alone"
                    .into(),
            );
        }
        if self.terms.batch == 0 {
            return misuse("a batch needs at least one example".into());
        }
        if !(0.0..1.0).contains(&self.terms.beta) {
            return misuse(format!("β must be in [0, 1), got {}", self.terms.beta));
        }
        if !(self.weight_decay >= 0.0 && self.weight_decay.is_finite()) {
            return misuse(format!("the weight decay must be 0 or more, got {}", self.weight_decay));
        }
        if Chunking::new(0, self.terms.chunk_coordinates as usize).is_none() {
            let got = self.terms.chunk_coordinates;
            return misuse(format!("a chunk is a multiple of 64 up to 65536 coordinates, got {got}"));
        }
        Ok(())
    }
}
