//! The simulated world: a queue of things that happen, and what must hold after each.

#[path = "network.rs"]
mod network;
#[path = "workers.rs"]
mod workers;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use signvote_election::{Digest, DigestTree, Event, Output, PeerId, Position, Server, wire};

use super::disk::Disk;
use super::harness::by_hand::{self, kind};
use super::plan::{Durability, FAULTS_END, Plan};
use super::worker::{self, STATISTICS, Task, Worker};

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Up(u64),
    Down(u64),
    Task {
        worker: usize,
        generation: u64,
        task: Task,
    },
    Connect(usize),
    Timeout,
    StartServer,
    Fault(usize),
    Restart {
        worker: usize,
        replica: bool,
    },
    /// A partition ends, and the connection with it.
    Sever {
        worker: usize,
        connection: u64,
    },
    Hang(u64),
}

/// What travels on a connection.
enum Item {
    Frame(Bytes),
    End,
}

/// One connection, in order in each direction. Late items are delivered by the events that the queue holds for them.
struct Connection {
    /// Whose; nobody's if it is driven by hand.
    worker: Option<usize>,
    up: VecDeque<Item>,
    up_at: u64,
    down: VecDeque<Item>,
    down_at: u64,
    /// Whether the server holds it.
    held: bool,
    /// Whether a frame on it came twice.
    duplicated: bool,
}

/// What came about, so that a test can tell whether it tried anything.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) rounds: u64,
    pub(crate) resumed: u64,
    pub(crate) lost_rounds: u64,
    pub(crate) paused: u64,
    pub(crate) abandoned: u64,
    pub(crate) replays: u64,
    pub(crate) states: u64,
    pub(crate) refusals: u64,
    pub(crate) kept_out: u64,
    pub(crate) late: u64,
    pub(crate) congested: u64,
    pub(crate) signed: u64,
    pub(crate) partial: u64,
    pub(crate) statistics: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.rounds += other.rounds;
        self.resumed += other.resumed;
        self.lost_rounds += other.lost_rounds;
        self.paused += other.paused;
        self.abandoned += other.abandoned;
        self.replays += other.replays;
        self.states += other.states;
        self.refusals += other.refusals;
        self.kept_out += other.kept_out;
        self.late += other.late;
        self.congested += other.congested;
        self.signed += other.signed;
        self.statistics += other.statistics;
        self.partial += other.partial;
    }
}

/// A run in a world where things go wrong.
pub(crate) struct World {
    plan: Plan,
    rng: ChaCha8Rng,
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Next)>>,
    sequence: u64,
    timeout_at: Option<u64>,
    pub(crate) server: Option<Server>,
    /// How long the server stays away the next time it goes.
    away: u64,
    crash_after: Option<usize>,
    disk_full: bool,
    disk: Disk,
    workers: Vec<Worker>,
    connections: BTreeMap<u64, Connection>,
    peers: u64,
    /// The digest of every replica that was seen at a position.
    truth: BTreeMap<(u64, [u8; 32]), Digest>,
    /// Which identity's ballot counts, by round, chunk and place.
    cast: BTreeMap<(u64, usize, u16), String>,
    /// Set when the server has said that the run is over.
    pub(crate) over: Option<(u64, Vec<f32>)>,
    paused: bool,
    pub(crate) tally: Tally,
}

impl World {
    pub(crate) fn new(seed: u64, mut plan: Plan) -> Self {
        let members = std::mem::take(&mut plan.members);
        let mut world = Self {
            rng: worker::world_rng(seed),
            now: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            timeout_at: None,
            server: None,
            away: 1,
            crash_after: None,
            disk_full: false,
            disk: Disk::new(plan.durability),
            workers: members.into_iter().map(|member| Worker::new(&plan, member)).collect(),
            connections: BTreeMap::new(),
            peers: 0,
            truth: BTreeMap::new(),
            cast: BTreeMap::new(),
            over: None,
            paused: false,
            tally: Tally::default(),
            plan,
        };
        world.start_server();
        for worker in 0..world.workers.len() {
            world.connect_later(worker, 1);
        }
        for fault in 0..world.plan.faults.len() {
            let at = world.plan.faults[fault].0;
            world.at(at, Next::Fault(fault));
        }
        world
    }

    /// Lets it run to its end.
    pub(crate) fn run(&mut self) {
        while self.over.is_none() {
            let Some(Reverse((at, _, next))) = self.queue.pop() else {
                panic!("the run stands still at {} µs: {}", self.now, self.describe());
            };
            assert!(at < FAULTS_END + 120_000_000, "the run does not come to its end: {}", self.describe());
            self.now = self.now.max(at);
            self.happen(next);
        }
        // What is still under way arrives.
        let end = self.now + 5_000_000;
        while let Some(Reverse((at, _, next))) = self.queue.pop().filter(|next| next.0.0 < end) {
            self.now = self.now.max(at);
            if matches!(next, Next::Down(_) | Next::Up(_)) {
                self.happen(next);
            }
        }
        self.look_back();
    }

    /// What must hold in the end.
    fn look_back(&mut self) {
        let Some((round, x)) = self.over.take() else { return };
        assert_eq!(round, self.plan.config.terms.rounds);
        let replayed = self.disk.audit();
        assert_eq!(replayed.position().round.0, round);
        assert!(replayed.parameters().iter().zip(&x).all(|(a, b)| a.to_bits() == b.to_bits()));
        self.tally.rounds += round;
        self.tally.lost_rounds += self.disk.lost as u64;
        for worker in self.workers.iter().filter(|worker| worker.voter.is_finished()) {
            assert_eq!(worker.voter.position().chain, replayed.position().chain);
        }
        self.over = Some((round, x));
    }

    fn describe(&self) -> String {
        let workers: Vec<_> = self
            .workers
            .iter()
            .map(|w| (w.voter.position().round.0, w.alive, w.connection, w.connecting, w.stopped_until))
            .collect();
        let status = self.server.as_ref().map(|server| server.status(self.clock()));
        format!("quorum {}, workers {workers:?}, server {status:#?}", self.plan.config.quorum)
    }

    fn clock(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    fn at(&mut self, at: u64, next: Next) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, next)));
    }

    fn after(&mut self, micros: u64, next: Next) {
        self.at(self.now + micros, next);
    }

    fn happen(&mut self, next: Next) {
        match next {
            Next::Up(id) => self.deliver_up(id),
            Next::Down(id) => self.deliver_down(id),
            Next::Task { worker, generation, task } => self.work(worker, generation, task),
            Next::Connect(worker) => self.connect(worker),
            Next::Timeout => self.time_out(),
            Next::StartServer => self.start_server(),
            Next::Fault(fault) => self.fault(self.plan.faults[fault].1),
            Next::Restart { worker, replica } => {
                self.workers[worker].restart(&self.plan, replica);
                self.connect_later(worker, 1);
            }
            Next::Sever { worker, connection } => {
                if self.workers[worker].connection == Some(connection) {
                    self.lose(worker);
                    self.cut(connection, true);
                    self.connect_later(worker, 1_000);
                }
            }
            Next::Hang(id) => self.cut(id, true),
        }
    }

    // The server.

    fn start_server(&mut self) {
        if self.server.is_some() || self.over.is_some() {
            return;
        }
        let config = self.plan.config.clone();
        let server = match self.disk.recover(&mut self.rng) {
            None => Server::new(config).unwrap(),
            Some(saved) => {
                self.tally.resumed += 1;
                let digest = DigestTree::new(&saved.x).root();
                self.see_replica(saved.position, digest);
                Server::resume(self.clock(), config, saved).unwrap()
            }
        };
        self.server = Some(server);
        // What an earlier server was sent and did not commit does not count.
        self.cast.clear();
        self.timeout_at = None;
        self.drain();
    }

    /// The server is gone, and with it what it had queued.
    fn crash_server(&mut self) {
        if self.server.take().is_none() {
            return;
        }
        let ids: Vec<_> = self.connections.keys().copied().collect();
        for id in ids {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            connection.up.clear();
            if connection.held {
                connection.held = false;
                let keep = self.rng.random_range(0..=connection.down.len());
                connection.down.truncate(keep);
                self.send_down(id, Item::End);
            }
        }
        self.after(self.away.max(1), Next::StartServer);
    }

    fn time_out(&mut self) {
        self.timeout_at = None;
        let now = self.clock();
        let Some(server) = &mut self.server else { return };
        if server.next_timeout().is_some_and(|at| at <= now) {
            server.handle_timeout(now);
            let next = server.next_timeout();
            assert!(next.is_none_or(|next| next > now), "a timeout that was handled comes again");
        }
        self.drain();
    }

    /// Does what the server wants, in order, and looks at it.
    fn drain(&mut self) {
        let (mut done, mut recorded) = (false, None);
        loop {
            let Some(output) = self.server.as_mut().and_then(Server::poll) else { break };
            assert!(!done, "after the end came {output:?}");
            if let Some(left) = &mut self.crash_after {
                if *left == 0 {
                    self.crash_after = None;
                    self.crash_server();
                    return;
                }
                *left -= 1;
            }
            self.begin_log();
            match output {
                Output::Send { peer, frame } => {
                    if by_hand::kind_of(&frame) == kind::FINISH {
                        // Nobody comes back after that: whatever the durability, the end is on disk first.
                        self.keep_the_end();
                    }
                    self.send_down(peer.0, Item::Frame(frame));
                }
                Output::Close { peer } => {
                    self.send_down(peer.0, Item::End);
                    if let Some(connection) = self.connections.get_mut(&peer.0) {
                        assert!(connection.held, "closed twice");
                        connection.held = false;
                    }
                }
                Output::Event(event) => self.see_event(&event),
                Output::Record(record) => {
                    if std::mem::take(&mut self.disk_full) && self.plan.durability == Durability::Always {
                        self.tally.abandoned += 1;
                        self.server.as_mut().unwrap().abandon("the disk is full");
                        continue;
                    }
                    self.disk.append(std::sync::Arc::clone(&record), &mut self.rng);
                    recorded = Some(record);
                }
                Output::Bound { slot, identity } => self.disk.bind(slot, identity),
                Output::Status { peer, .. } => self.send_down(peer.0, Item::Frame(wire::status("{}"))),
                Output::Done => done = true,
                other => panic!("nobody knows what to do with {other:?}"),
            }
        }
        if let Some(record) = recorded {
            // x has made its step by now, which a commit on its way to the workers does not wait for.
            self.see_record(&record);
            self.keep_snapshot();
        }
        if done {
            self.close_server();
        }
        self.congest();
        self.schedule_timeout();
    }

    fn begin_log(&mut self) {
        let Some(server) = self.server.as_ref().filter(|_| self.disk.charter.is_none()) else { return };
        if let (Some(charter), Some((_, x, _))) = (server.charter(), server.model()) {
            self.disk.begin(charter, server.position(), x);
        }
    }

    fn keep_snapshot(&mut self) {
        let Some(server) = &self.server else { return };
        let (position, x) = (server.position(), server.model().unwrap().1);
        if position.round.0.is_multiple_of(self.plan.snapshot_every) && position == self.disk.position() {
            self.disk.snapshot(position, x);
        }
    }

    fn keep_the_end(&mut self) {
        let Some(server) = &self.server else { return };
        if server.position() == self.disk.position() {
            self.disk.snapshot(server.position(), server.model().unwrap().1);
        }
    }

    fn close_server(&mut self) {
        let Some(server) = self.server.take() else { return };
        if let Some((_, x, _)) = server.model()
            && self.paused
        {
            let position = server.position();
            if position.round == self.disk.position().round {
                self.disk.close(position, x);
            }
        }
        if !std::mem::take(&mut self.paused) {
            // A place has one vote here too, and belongs to somebody where there are identities.
            let members = || self.workers.iter().map(|worker| &worker.member);
            let liars = members().filter(|member| !member.honest).count();
            let named = members().all(|member| member.identity.is_some());
            let outvoted = liars == 0 || named && 2 * liars < self.plan.config.quorum;
            if let Some(statistics) = server.statistics().filter(|_| outvoted) {
                assert_eq!(statistics.values, STATISTICS[..self.plan.dimension.min(2)]);
                self.tally.statistics += 1;
            }
            self.over = Some((server.round().0, server.model().unwrap().1.to_vec()));
            return;
        }
        // Whatever it had to say is on its way, and its connections end.
        assert!(self.connections.values().all(|connection| !connection.held), "a connection was not closed");
        self.after(self.away.max(1), Next::StartServer);
    }

    fn congest(&mut self) {
        let Some(server) = &mut self.server else { return };
        for (&id, connection) in &self.connections {
            if connection.held && connection.down.len() > self.plan.queue {
                self.tally.congested += 1;
                server.congested(PeerId(id));
            }
        }
    }

    fn schedule_timeout(&mut self) {
        let Some(at) = self.server.as_ref().and_then(Server::next_timeout) else { return };
        let at = u64::try_from(at.as_nanos().div_ceil(1000)).unwrap().max(self.now);
        if self.timeout_at.is_none_or(|known| at < known) {
            self.timeout_at = Some(at);
            self.at(at, Next::Timeout);
        }
    }

    fn see_event(&mut self, event: &Event) {
        match event {
            Event::Paused { .. } => {
                self.paused = true;
                self.tally.paused += 1;
            }
            Event::Joined { reason, .. } => {
                self.tally.replays += u64::from(reason.contains("replayed"));
                self.tally.states += u64::from(reason.contains("takes"));
            }
            Event::KeptOut { .. } => self.tally.kept_out += 1,
            Event::Late { .. } => self.tally.late += 1,
            Event::Committed { partial, .. } => self.tally.partial += u64::from(*partial > 0),
            _ => {}
        }
    }

    /// Each ballot is one that its worker cast, and each identity has one.
    fn see_record(&mut self, record: &signvote_election::Record) {
        let round = record.round().0;
        self.tally.signed += record.seals.len() as u64;
        let server = self.server.as_ref().unwrap();
        let digest = DigestTree::new(server.model().unwrap().1).root();
        // Nobody overtakes the record that is about to be kept.
        assert_eq!(server.position(), record.after);
        self.see_replica(record.after, digest);
        for (chunk, voters) in record.chunk_voters.iter().enumerate() {
            let names: Vec<_> =
                voters.iter().filter_map(|slot| self.cast.get(&(round, chunk, slot.number()))).collect();
            let mut unique = names.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(names.len(), unique.len(), "one identity has voted twice in round {round}: {names:?}");
        }
        let liars: Vec<_> = self
            .workers
            .iter()
            .filter(|worker| !worker.member.honest)
            .filter_map(|worker| worker.voter.place().map(|slot| slot.number()).or(worker.member.wanted))
            .collect();
        for (slot, frame) in &record.ballots {
            let chunk = by_hand::Piece::read(frame).unwrap().chunk;
            if !liars.contains(&slot.number()) {
                let cast = worker::ballot_frame(&self.plan, slot.number(), record.before, chunk);
                assert_eq!(*frame, cast, "a ballot of worker {slot} in round {round} that it did not cast");
            }
        }
        self.cast.clear();
    }

    /// Whoever is at a position has the same replica.
    fn see_replica(&mut self, position: Position, digest: Digest) {
        let known = self.truth.entry((position.round.0, position.chain.0)).or_insert(digest);
        assert_eq!(*known, digest, "two replicas at round {}", position.round);
    }
}
