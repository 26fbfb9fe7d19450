//! The simulated network and its clock.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use signvote_election::{
    AggregateKind, Auditor, Chunking, Config, Event, Greeting, Origin, Output, PeerId, Position, Round,
    Server, Step, Voter, WorkerRecord,
};

use super::by_hand::{kind, kind_of};
use super::oracle::Oracle;
use super::worker::{Down, Life, Task, Up, Worker};
use super::{Ask, Source, greeting, milliseconds, parameters, rng};

/// What a simulation is made of.
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) dimension: usize,
    pub(crate) source: Source,
    /// Seed of delays and orders, and of nothing else.
    pub(crate) network_seed: u64,
    /// How long a frame is on its way, in microseconds.
    pub(crate) delay: Range<u64>,
    /// How long a worker computes before the next chunk is ready, in microseconds.
    pub(crate) compute: Range<u64>,
}

impl Setup {
    pub(crate) fn new(config: Config, dimension: usize, source: Source) -> Self {
        Self { config, dimension, source, network_seed: 1, delay: 0..5_000, compute: 0..1_000 }
    }

    pub(crate) fn network_seed(mut self, seed: u64) -> Self {
        self.network_seed = seed;
        self
    }
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Up(usize),
    Down(usize),
    Task(usize),
    Timeout,
    Join(usize),
}

/// A run in a fake world.
pub(crate) struct Sim {
    pub(crate) server: Server,
    pub(crate) now: Duration,
    pub(crate) workers: Vec<Worker>,
    pub(crate) events: Vec<Event>,
    pub(crate) done: bool,
    pub(crate) oracle: Oracle,
    /// Looks at every record as it is made.
    auditor: Option<Auditor>,
    setup: Setup,
    rng: ChaCha8Rng,
    /// Workers that will come, when, and where they want to sit.
    joins: Vec<(Duration, Option<u16>)>,
    /// Connections that a test drives by hand: what they were sent, and whether they are still open.
    raw: BTreeMap<PeerId, (Vec<Bytes>, bool)>,
    peers: u64,
    commits: u64,
}

impl Sim {
    pub(crate) fn new(setup: Setup) -> Self {
        let server = Server::new(setup.config.clone()).unwrap();
        let mut oracle = Oracle::new(setup.config.clone());
        if let Some((layout, x, _)) = server.model() {
            oracle.see_model(layout, x);
        }
        let rng = rng(&[setup.network_seed, 2]);
        Self {
            server,
            now: Duration::ZERO,
            workers: vec![],
            events: vec![],
            done: false,
            oracle,
            auditor: None,
            setup,
            rng,
            joins: vec![],
            raw: BTreeMap::new(),
            peers: 0,
            commits: 0,
        }
    }

    /// A simulation that every worker of the run has joined, each at the place of its number.
    pub(crate) fn full(setup: Setup) -> Self {
        let workers = setup.config.terms.workers;
        let mut sim = Self::new(setup);
        (1..=workers).for_each(|slot| {
            sim.join(Some(slot));
        });
        sim
    }

    /// A worker connects; its number.
    pub(crate) fn join(&mut self, slot: Option<u16>) -> usize {
        let dimension = self.setup.dimension;
        self.join_as(greeting(dimension, slot), parameters(dimension, self.setup.config.terms.seed))
    }

    /// A worker connects, with this greeting and these first parameters.
    pub(crate) fn join_as(&mut self, greeting: Greeting, x0: Vec<f32>) -> usize {
        let peer = self.connect();
        let wanted = greeting.slot.map(|slot| slot.number());
        self.workers.push(Worker::new(peer, wanted, Voter::new(greeting), x0));
        let index = self.workers.len() - 1;
        self.transmit(index);
        index
    }

    /// A worker will connect.
    pub(crate) fn join_later(&mut self, after: Duration, slot: Option<u16>) {
        self.joins.push((self.now + after, slot));
    }

    /// A connection that the test drives by hand.
    pub(crate) fn raw(&mut self) -> PeerId {
        let peer = self.connect();
        self.raw.insert(peer, (vec![], true));
        peer
    }

    /// The server receives this from a connection driven by hand, at once.
    pub(crate) fn say(&mut self, peer: PeerId, frame: &[u8]) {
        let slot = self.server.slot_of(peer);
        self.oracle.frame_to_server(&self.server, slot, frame);
        self.server.handle(self.now, peer, frame);
        self.drain();
        // Nothing ever waits on a connection driven by hand.
        while self.raw.contains_key(&peer) && self.server.is_behind(peer) {
            self.server.drained(self.now, peer);
            self.drain();
        }
    }

    /// What a connection driven by hand was sent since the last call.
    pub(crate) fn heard(&mut self, peer: PeerId) -> Vec<Bytes> {
        std::mem::take(&mut self.raw.get_mut(&peer).unwrap().0)
    }

    /// Whether a connection driven by hand is still open.
    pub(crate) fn is_open(&self, peer: PeerId) -> bool {
        self.raw[&peer].1
    }

    /// The words with which a connection driven by hand was refused; it must be closed, and these its last.
    pub(crate) fn refusal(&mut self, peer: PeerId) -> String {
        assert!(!self.is_open(peer), "it was not put out");
        let last = self.heard(peer).pop().expect("a refusal");
        assert_eq!(kind_of(&last), kind::REFUSED);
        String::from_utf8(last[8..].to_vec()).unwrap()
    }

    /// A worker's connection is cut. What it sent may arrive in part.
    pub(crate) fn crash(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        if !worker.is_alive() {
            return;
        }
        worker.crash(self.now, &mut self.rng);
        if let Some(after) = worker.comes_back {
            let wanted = worker.wanted;
            self.join_later(after, wanted);
        }
    }

    pub(crate) fn stop(&mut self, reason: &str) {
        self.oracle.stop();
        self.server.stop(self.now, reason);
        self.drain();
    }

    /// Lets the clock run to this time and the server notice.
    pub(crate) fn advance(&mut self, to: Duration) {
        while self.next().is_some_and(|(at, _)| at <= to) {
            self.step();
        }
        self.now = self.now.max(to);
    }

    /// Lets the run go on until this holds.
    pub(crate) fn run_until(&mut self, enough: impl Fn(&Self) -> bool) {
        while !enough(self) {
            assert!(self.step(), "the run stands still at round {} at {:?}", self.server.round(), self.now);
        }
    }

    /// Lets the run go on until a round is open.
    pub(crate) fn run_to_round(&mut self, round: u64) {
        self.run_until(|sim| sim.server.round().0 >= round && sim.started());
    }

    /// Lets the run go on to its end.
    pub(crate) fn run(&mut self) {
        self.run_until(|sim| sim.done);
        // Farewells are still under way.
        while self.step() {}
    }

    /// Lets everything happen that happens without a timeout.
    pub(crate) fn settle(&mut self) {
        while self.next().is_some_and(|(_, next)| next != Next::Timeout) {
            self.step();
        }
    }

    pub(crate) fn started(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Started { .. }))
    }

    /// The server's x.
    pub(crate) fn x(&self) -> &[f32] {
        self.server.model().unwrap().1
    }

    pub(crate) fn record(&self, slot: u16) -> WorkerRecord {
        self.server.records().remove(usize::from(slot) - 1)
    }

    /// What the last event said: whether all replicas were confirmed identical, how many, the digest.
    pub(crate) fn finished(&self) -> (bool, usize, String) {
        match self.events.last() {
            Some(Event::Finished { replicas_identical, replicas, digest, .. }) => {
                (*replicas_identical, *replicas, digest.clone())
            }
            other => panic!("expected the end of the run, got {other:?}"),
        }
    }

    /// Asserts that the run ended with `replicas` workers, all of them with the server's x, bit for bit.
    pub(crate) fn assert_identical_replicas(&self, replicas: usize) {
        let (identical, confirmed, digest) = self.finished();
        assert!(identical, "not all replicas are identical: {confirmed}");
        assert_eq!(confirmed, replicas);
        let of_server = super::by_hand::digest(self.x());
        assert_eq!(digest, signvote_election::hexadecimal(&of_server));
        let finished: Vec<_> = self.workers.iter().filter(|worker| worker.life == Life::Finished).collect();
        assert_eq!(finished.len(), replicas);
        for worker in finished {
            // The chain is told with the first opening, if there is one.
            let chain = (self.commits > 0).then(|| worker.voter.position().chain);
            self.oracle.replica(self.server.round().0, worker.voter.parameters(), chain);
        }
    }

    /// What happens next, and when.
    fn next(&self) -> Option<(Duration, Next)> {
        let workers = self.workers.iter().enumerate().flat_map(|(index, worker)| {
            let task = worker.agenda.front().map(|&(at, _)| (at, Next::Task(index)));
            let up = worker.up.next_at().map(|at| (at, Next::Up(index)));
            let down = worker.down.next_at().map(|at| (at, Next::Down(index)));
            [task, up, down].into_iter().flatten()
        });
        let timeout = self.server.next_timeout().map(|at| (at, Next::Timeout));
        let joins = self.joins.iter().enumerate().map(|(index, &(at, _))| (at, Next::Join(index)));
        workers.chain(timeout).chain(joins).min()
    }

    /// Does the next thing; `false` if there is none.
    pub(crate) fn step(&mut self) -> bool {
        let Some((at, next)) = self.next() else { return false };
        self.now = self.now.max(at);
        match next {
            Next::Up(index) => self.deliver_up(index),
            Next::Down(index) => self.deliver_down(index),
            Next::Task(index) => self.do_task(index),
            Next::Timeout => {
                self.server.handle_timeout(self.now);
                self.drain();
                let next = self.server.next_timeout();
                assert!(next.is_none_or(|next| next > self.now), "a timeout that was handled comes again");
            }
            Next::Join(index) => {
                let (_, slot) = self.joins.remove(index);
                if self.done {
                    return true;
                }
                let index = self.join(slot);
                // Whoever comes back once comes back for good: until it has a place, or the run is over.
                self.workers[index].comes_back = Some(milliseconds(20));
            }
        }
        true
    }

    fn connect(&mut self) -> PeerId {
        self.peers += 1;
        let peer = PeerId(self.peers);
        self.server.connected(self.now, peer, Origin::default());
        peer
    }

    fn deliver_up(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        let peer = worker.peer;
        match worker.up.pop() {
            Some(Up::Frame(frame)) => {
                worker.count_up(&frame);
                self.say(peer, &frame);
            }
            Some(Up::End) => {
                self.server.disconnected(self.now, peer, "the connection was lost");
                self.drain();
            }
            None => {}
        }
    }

    fn deliver_down(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        match worker.down.pop() {
            Some(Down::Frame(frame)) => {
                worker.count_down(&frame);
                let handled = worker.voter.handle(&frame);
                self.take_steps(index);
                self.transmit(index);
                let worker = &self.workers[index];
                let (peer, drained) = (worker.peer, worker.down.next_at().is_none());
                if let Err(error) = handled {
                    self.fail(index, error);
                } else if drained {
                    self.server.drained(self.now, peer);
                    self.drain();
                }
            }
            Some(Down::Close) => {
                let worker = &mut self.workers[index];
                let finished = matches!(worker.steps.last(), Some(Step::Finished { .. }));
                worker.end(if finished { Life::Finished } else { Life::Closed });
                worker.up.push(self.now, Up::End);
            }
            None => {}
        }
    }

    fn fail(&mut self, index: usize, error: signvote_election::Error) {
        let worker = &mut self.workers[index];
        let taken = error.to_string().contains("taken by");
        worker.end(Life::Failed(error));
        worker.up.push(self.now, Up::End);
        if let (true, Some(after)) = (taken, worker.comes_back) {
            // Any place will do then: the one it wanted may never become free.
            self.join_later(after, None);
        }
    }

    fn take_steps(&mut self, index: usize) {
        while let Some(step) = self.workers[index].voter.poll_step() {
            let worker = &mut self.workers[index];
            let compute = |rng: &mut ChaCha8Rng, range: &Range<u64>, slowness: u32| {
                slowness * Duration::from_micros(rng.random_range(range.clone()))
            };
            match &step {
                Step::Welcomed => {
                    let at = self.now + compute(&mut self.rng, &self.setup.compute, worker.slowness);
                    worker.agenda.push_back((at, Task::Provide));
                }
                Step::Open { round } => {
                    let slot = worker.voter.place().unwrap().number();
                    let x = worker.voter.parameters();
                    worker.gradient = (self.setup.source)(Ask { slot, round: round.0, x });
                    worker.cast = 0;
                    let length = self.setup.config.terms.chunk_coordinates as usize;
                    let mut chunks: Vec<_> = (0..Chunking::new(x.len(), length).unwrap().count()).collect();
                    chunks.shuffle(&mut self.rng);
                    let mut at = self.now;
                    let tasks = chunks.into_iter().map(|chunk| Task::Cast { round: round.0, chunk });
                    for task in std::iter::once(Task::Report { round: round.0 }).chain(tasks) {
                        at += compute(&mut self.rng, &self.setup.compute, worker.slowness);
                        worker.agenda.push_back((at, task));
                    }
                }
                Step::Committed { round, .. } => {
                    // Late: the ballot is dropped.
                    worker.agenda.clear();
                    let (x, chain) = (worker.voter.parameters(), worker.voter.position().chain);
                    assert_eq!(worker.voter.round(), round.next());
                    self.oracle.replica(round.0 + 1, x, Some(chain));
                }
                Step::Replaced { round } => {
                    let chain = worker.voter.position().chain;
                    self.oracle.replica(round.0, worker.voter.parameters(), Some(chain));
                }
                Step::Finished { round, .. } => {
                    worker.agenda.clear();
                    assert_eq!(*round, self.server.round());
                }
                _ => {}
            }
            self.workers[index].steps.push(step);
        }
    }

    fn do_task(&mut self, index: usize) {
        let worker = &mut self.workers[index];
        let Some((_, task)) = worker.agenda.pop_front() else { return };
        let round = worker.voter.round().0;
        match task {
            Task::Provide if worker.voter.wants_parameters() => {
                worker.voter.provide(worker.x0.clone()).unwrap();
            }
            // The run is under way, and the server's parameters come by themselves.
            Task::Provide => {}
            Task::Report { round: of } => {
                assert_eq!(of, round);
                worker.voter.report(0.5, 16, 32, 0).unwrap();
            }
            Task::Cast { round: of, chunk } => {
                assert_eq!(of, round);
                worker.cast(chunk).unwrap();
            }
        }
        let crash = worker.crash_at.is_some_and(|(of, chunks)| of == round && worker.cast >= chunks);
        self.transmit(index);
        if crash {
            self.crash(index);
        }
    }

    /// Sends what a worker has to send.
    fn transmit(&mut self, index: usize) {
        while let Some(frame) = self.workers[index].voter.poll_transmit() {
            let at = self.now + self.delay();
            self.workers[index].up.push(at, Up::Frame(frame));
        }
    }

    fn delay(&mut self) -> Duration {
        // Now and then a packet is lost and sent again.
        let spike = if self.rng.random_bool(0.01) { 10 } else { 1 };
        spike * Duration::from_micros(self.rng.random_range(self.setup.delay.clone()))
    }

    /// Does what the server wants, and looks at it.
    fn drain(&mut self) {
        let before = self.commits;
        if let Some((layout, x, _)) = self.server.model() {
            self.oracle.see_model(layout, x);
            if self.auditor.is_none() {
                // Before the first commit, and so where the charter begins.
                let (charter, chain) = (self.server.charter().unwrap(), self.oracle.history[0].chain);
                let position = Position { chain: signvote_election::ChainHash(chain), ..Position::default() };
                self.auditor = Some(Auditor::new(charter, x.to_vec(), position).unwrap());
            }
        }
        while let Some(output) = self.server.poll() {
            assert!(!self.done, "after the end came {output:?}");
            match output {
                Output::Send { peer, frame } => {
                    self.oracle.frame_from_server(self.now, &frame);
                    self.carry_down(peer, Down::Frame(frame));
                }
                Output::Close { peer } => self.carry_down(peer, Down::Close),
                Output::Event(event) => {
                    self.oracle.event(self.now, &event, &self.server);
                    self.commits += u64::from(matches!(event, Event::Committed { .. }));
                    self.events.push(event);
                }
                Output::Record(record) => {
                    let checked = self.auditor.as_mut().unwrap().check(&record).unwrap();
                    let voted = self.setup.config.terms.aggregate == AggregateKind::Vote;
                    let chunks = record.chunk_voters.len();
                    assert_eq!(checked.recomputed, if voted { chunks } else { 0 });
                    let bytes = Bytes::from(record.encode());
                    assert_eq!(signvote_election::Record::decode(&bytes).unwrap(), *record);
                }
                Output::Status { peer, .. } => {
                    assert_eq!(self.server.status(self.now).round, self.server.round().0);
                    self.carry_down(peer, Down::Frame(signvote_election::wire::status("{}")));
                }
                Output::Done => self.done = true,
                other => panic!("nobody knows what to do with {other:?}"),
            }
        }
        assert!(self.commits <= before + 1, "one frame commits one round at most");
        assert_eq!(self.server.round(), Round(self.commits));
    }

    fn carry_down(&mut self, peer: PeerId, item: Down) {
        if let Some((frames, open)) = self.raw.get_mut(&peer) {
            assert!(*open, "something came after the end of a connection");
            match item {
                Down::Frame(frame) => frames.push(frame),
                Down::Close => *open = false,
            }
            return;
        }
        let at = self.now + self.delay();
        if let Some(worker) = self.workers.iter_mut().find(|worker| worker.peer == peer)
            && worker.is_alive()
        {
            worker.down.push(at, item);
        }
    }
}
