//! One simulated worker: its state machine, its two pipes, and what it is about to do.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use signvote_election::{AggregateKind, Error, PeerId, Step, Voter, wire};

use super::by_hand::kind_of;

/// What travels to the server.
pub(super) enum Up {
    Frame(Bytes),
    /// The connection has ended.
    End,
}

/// What travels to a worker.
pub(super) enum Down {
    Frame(Bytes),
    Close,
}

/// One direction of a connection: late, but in order.
pub(super) struct Pipe<T> {
    queue: VecDeque<(Duration, T)>,
    last: Duration,
}

impl<T> Pipe<T> {
    fn new() -> Self {
        Self { queue: VecDeque::new(), last: Duration::ZERO }
    }

    pub(super) fn push(&mut self, at: Duration, item: T) {
        self.last = self.last.max(at);
        self.queue.push_back((self.last, item));
    }

    pub(super) fn next_at(&self) -> Option<Duration> {
        self.queue.front().map(|&(at, _)| at)
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        self.queue.pop_front().map(|(_, item)| item)
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    /// Loses all but a random number of the first items.
    fn lose_some(&mut self, rng: &mut ChaCha8Rng) {
        let keep = rng.random_range(0..=self.queue.len());
        self.queue.truncate(keep);
    }
}

/// Something that a worker is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    Provide,
    Report { round: u64 },
    Cast { round: u64, chunk: usize },
}

/// How a worker fares.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Life {
    Alive,
    /// It crashed, or its connection was cut.
    Crashed,
    /// The server closed the connection without a reason.
    Closed,
    /// Its state machine gave up: it was refused, or it was told nonsense.
    Failed(Error),
    /// It has said farewell at the end of the run.
    Finished,
}

/// A worker on one connection. One that comes back is a new worker.
pub(crate) struct Worker {
    pub(crate) peer: PeerId,
    pub(crate) wanted: Option<u16>,
    pub(crate) voter: Voter,
    pub(crate) life: Life,
    pub(super) x0: Vec<f32>,
    pub(super) up: Pipe<Up>,
    pub(super) down: Pipe<Down>,
    pub(super) agenda: VecDeque<(Duration, Task)>,
    /// The gradient of the open round.
    pub(super) gradient: Vec<f32>,
    /// Everything that it was told.
    pub(crate) steps: Vec<Step>,
    /// Crash in this round, once so many chunks have been cast.
    pub(crate) crash_at: Option<(u64, usize)>,
    pub(super) cast: usize,
    /// Come back so long after a crash.
    pub(crate) comes_back: Option<Duration>,
    /// How many times longer it computes than others.
    pub(crate) slowness: u32,
    pub(crate) round_up_bytes: usize,
    pub(crate) round_down_bytes: usize,
    pub(crate) all_up_bytes: usize,
    pub(crate) all_down_bytes: usize,
}

impl Worker {
    pub(super) fn new(peer: PeerId, wanted: Option<u16>, voter: Voter, x0: Vec<f32>) -> Self {
        Self {
            peer,
            wanted,
            voter,
            life: Life::Alive,
            x0,
            up: Pipe::new(),
            down: Pipe::new(),
            agenda: VecDeque::new(),
            gradient: vec![],
            steps: vec![],
            crash_at: None,
            cast: 0,
            comes_back: None,
            slowness: 1,
            round_up_bytes: 0,
            round_down_bytes: 0,
            all_up_bytes: 0,
            all_down_bytes: 0,
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.life == Life::Alive
    }

    /// Whether it has an agreed replica and may vote.
    pub(crate) fn has_voted_in(&self, round: u64) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Committed { round: r, .. } if r.0 == round))
    }

    pub(super) fn end(&mut self, life: Life) {
        self.life = life;
        self.agenda.clear();
        self.down.clear();
    }

    /// Ends it; of what it sent, some may still arrive.
    pub(super) fn crash(&mut self, now: Duration, rng: &mut ChaCha8Rng) {
        self.end(Life::Crashed);
        self.up.lose_some(rng);
        self.up.push(now + Duration::from_micros(rng.random_range(0..20_000)), Up::End);
    }

    pub(super) fn count_up(&mut self, frame: &[u8]) {
        self.all_up_bytes += frame.len();
        if wire::is_round_traffic(kind_of(frame)) {
            self.round_up_bytes += frame.len();
        }
    }

    pub(super) fn count_down(&mut self, frame: &[u8]) {
        self.all_down_bytes += frame.len();
        if wire::is_round_traffic(kind_of(frame)) {
            self.round_down_bytes += frame.len();
        }
    }

    /// Hands in one chunk of its gradient.
    pub(super) fn cast(&mut self, chunk: usize) -> Result<(), Error> {
        let terms = self.voter.terms().expect("a welcome comes before the first round");
        let length = terms.chunk_coordinates as usize;
        let aggregate = terms.aggregate;
        let range = chunk * length..((chunk + 1) * length).min(self.gradient.len());
        let values = &self.gradient[range.clone()];
        self.cast += 1;
        match aggregate {
            AggregateKind::Vote => {
                let words = signvote_kernels::words(values.len());
                let (mut signs, mut abstain) = (vec![0; words], vec![0; words]);
                signvote_kernels::pack(values, &mut signs, &mut abstain);
                self.voter.submit_signs(range.start / 64, &signs, &abstain)
            }
            AggregateKind::Mean => self.voter.submit_gradient(range.start, values),
        }
    }
}
