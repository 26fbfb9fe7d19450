//! A server, shards and workers, and connections between them that deliver in any order but each its own, and that break.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use signvote_election::{
    Auditor, Chunking, Config, Dismissal, Event, Identity, Origin, Output, PeerId, Record, Round, Server,
    Shard, ShardAddress, ShardOutput, Step, Voter,
    wire::{Enrolment, Later},
};

use crate::harness::{greeting, parameters, rng};

/// What may go wrong.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    /// Chance that a connection breaks at a step, of a million.
    pub(crate) cuts: u32,
    /// Chance that a shard's host dies at a step, of a million; it comes back as another.
    pub(crate) deaths: u32,
    /// Shards that send verdicts with a bit flipped, and say that they are right.
    pub(crate) liars: Vec<usize>,
    /// Shards that tell the server the truth, and some workers something else.
    pub(crate) equivocators: Vec<usize>,
    /// Whether one of the workers sits on the server's host.
    pub(crate) local: bool,
}

/// Who is at the ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    WorkerServer(usize),
    ShardServer(usize),
    WorkerShard(usize, usize),
}

/// A connection: `up` is what its client has sent.
struct Connection {
    ends: Ends,
    peer: PeerId,
    up: VecDeque<Bytes>,
    down: VecDeque<Bytes>,
    /// Whether nothing more is sent; what is queued still arrives.
    closed: bool,
}

pub(crate) struct Worker {
    pub(crate) voter: Voter,
    slot: u16,
    /// The server's connection, by its peer.
    server: Option<PeerId>,
    shards: Vec<ShardAddress>,
    /// Chunks of the open round that are yet to be cast, in any order.
    agenda: Vec<(Round, usize)>,
    pub(crate) finished: bool,
    refused: bool,
}

struct ShardHost {
    shard: Shard,
    server: Option<PeerId>,
    address: String,
    over: bool,
}

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) workers: Vec<Worker>,
    shards: Vec<ShardHost>,
    connections: Vec<Connection>,
    pub(crate) events: Vec<Event>,
    pub(crate) records: Vec<Record>,
    auditor: Option<Auditor>,
    pub(crate) done: bool,
    faults: Faults,
    dimension: usize,
    rng: ChaCha8Rng,
    peers: u64,
    now: Duration,
}

/// A gradient, of the place and the round: ±1, seldom 0.
pub(crate) fn gradient(dimension: usize, slot: u16, round: Round) -> Vec<f32> {
    let mut rng = rng(&[99, u64::from(slot), round.0]);
    (0..dimension).map(|_| [1.0, -1.0, 1.0, -1.0, 0.0][rng.random_range(0..5)]).collect()
}

impl World {
    pub(crate) fn new(config: Config, dimension: usize, shards: usize, faults: Faults, seed: u64) -> Self {
        let workers = config.terms.workers;
        let mut world = Self {
            server: Server::new(config).unwrap(),
            workers: vec![],
            shards: vec![],
            connections: vec![],
            events: vec![],
            records: vec![],
            auditor: None,
            done: false,
            faults,
            dimension,
            rng: rng(&[seed, 5]),
            peers: 0,
            now: Duration::ZERO,
        };
        for slot in 1..=workers {
            let voter = Voter::new(greeting(dimension, Some(slot)));
            world.workers.push(Worker {
                voter,
                slot,
                server: None,
                shards: vec![],
                agenda: vec![],
                finished: false,
                refused: false,
            });
        }
        for index in 0..shards {
            world.shards.push(shard_host(index, 0));
        }
        world
    }

    /// Lives until the run is over.
    pub(crate) fn run(&mut self) {
        for step in 0..4_000_000_u32 {
            if self.done {
                return;
            }
            self.now += Duration::from_micros(10);
            self.connect_all();
            self.misfortune(step);
            if !self.act() {
                self.time_passes();
            }
        }
        let held: Vec<_> =
            self.workers.iter().map(|it| (it.voter.round(), it.voter.waits_for_verdicts())).collect();
        panic!(
            "round {} does not end: {} {held:?}",
            self.server.round(),
            self.server.status(self.now).open_reason
        );
    }

    fn connect_all(&mut self) {
        for index in 0..self.workers.len() {
            let it = &self.workers[index];
            if it.server.is_none() && !it.finished && !it.refused {
                let peer = self.open(Ends::WorkerServer(index));
                self.workers[index].server = Some(peer);
                let local = self.faults.local && index == 0;
                self.server.connected(
                    self.now,
                    peer,
                    Origin { address: "10.0.0.1".into(), local, ..Origin::default() },
                );
            }
            for shard in self.workers[index].shards.clone() {
                let Some(host) = self.shards.iter().position(|it| it.address == shard.address) else {
                    continue;
                };
                let ends = Ends::WorkerShard(index, host);
                if !self.connections.iter().any(|it| it.ends == ends) {
                    let peer = self.open(ends);
                    self.shards[host].shard.connected(peer);
                    self.workers[index].voter.shard_connected(shard.id);
                }
            }
        }
        for index in 0..self.shards.len() {
            if self.shards[index].server.is_none() && !self.shards[index].over {
                let peer = self.open(Ends::ShardServer(index));
                self.shards[index].server = Some(peer);
                let name = format!("shard {index}");
                let key = signvote_election::PublicKey([index as u8; 32]);
                let identity = Some(Identity { name, key });
                let origin = Origin { address: format!("10.0.1.{index}"), identity, local: false };
                self.server.connected(self.now, peer, origin);
            }
        }
        self.pump();
    }

    fn open(&mut self, ends: Ends) -> PeerId {
        self.peers += 1;
        let peer = PeerId(self.peers);
        self.connections.push(Connection {
            ends,
            peer,
            up: VecDeque::new(),
            down: VecDeque::new(),
            closed: false,
        });
        peer
    }

    fn misfortune(&mut self, step: u32) {
        if !step.is_multiple_of(16) {
            return;
        }
        let happens =
            |rng: &mut ChaCha8Rng, chance: u32| rng.random_range(0..1_000_000) < chance.saturating_mul(16);
        if happens(&mut self.rng, self.faults.cuts) && !self.connections.is_empty() {
            let index = self.rng.random_range(0..self.connections.len());
            self.cut(index);
        }
        if happens(&mut self.rng, self.faults.deaths) {
            let index = self.rng.random_range(0..self.shards.len());
            self.kill_shard(index);
        }
        self.pump();
    }

    /// A shard's host dies; another one comes in its place.
    pub(crate) fn kill_shard(&mut self, index: usize) {
        while let Some(at) = self.connections.iter().position(|it| match it.ends {
            Ends::ShardServer(shard) | Ends::WorkerShard(_, shard) => shard == index,
            Ends::WorkerServer(_) => false,
        }) {
            self.cut(at);
        }
        self.peers += 1;
        self.shards[index] = shard_host(index, self.peers);
    }

    /// A connection breaks: what was on its way is lost.
    fn cut(&mut self, index: usize) {
        let Connection { ends, peer, .. } = self.connections.remove(index);
        match ends {
            Ends::WorkerServer(worker) => {
                self.server.disconnected(self.now, peer, "the cable was pulled");
                self.worker_is_cut_off(worker);
            }
            Ends::ShardServer(shard) => {
                self.server.disconnected(self.now, peer, "the cable was pulled");
                self.shard_is_cut_off(shard);
            }
            Ends::WorkerShard(worker, shard) => {
                self.shards[shard].shard.disconnected(peer);
                self.worker_loses(worker, shard);
            }
        }
    }

    fn worker_is_cut_off(&mut self, worker: usize) {
        // With the connection to the server a worker gives up those to its shards.
        while let Some(at) =
            self.connections.iter().position(|it| matches!(it.ends, Ends::WorkerShard(of, _) if of == worker))
        {
            self.cut(at);
        }
        let it = &mut self.workers[worker];
        it.server = None;
        it.shards.clear();
        it.voter.reconnect();
    }

    fn shard_is_cut_off(&mut self, shard: usize) {
        self.shards[shard].server = None;
        self.shards[shard].shard.reconnect();
    }

    fn worker_loses(&mut self, worker: usize, shard: usize) {
        let address = self.shards[shard].address.clone();
        let ids = self.workers[worker].shards.iter().filter(|it| it.address == address).map(|it| it.id);
        for id in ids.collect::<Vec<_>>() {
            self.workers[worker].voter.shard_lost(id);
        }
    }

    /// Something happens somewhere; `false` if nothing is left to happen.
    fn act(&mut self) -> bool {
        let mut choices: Vec<(usize, u8)> = Vec::new();
        for (index, it) in self.connections.iter().enumerate() {
            if !it.up.is_empty() {
                choices.push((index, 0));
            }
            if !it.down.is_empty() || it.closed {
                choices.push((index, 1));
            }
        }
        for (index, worker) in self.workers.iter().enumerate() {
            if !worker.agenda.is_empty() {
                choices.push((index, 2));
            }
        }
        if choices.is_empty() {
            return false;
        }
        match choices[self.rng.random_range(0..choices.len())] {
            (index, 0) => self.deliver_up(index),
            (index, 1) => self.deliver_down(index),
            (worker, _) => self.cast(worker),
        }
        self.pump();
        true
    }

    fn cast(&mut self, worker: usize) {
        let agenda = &mut self.workers[worker].agenda;
        let (round, chunk) = agenda.swap_remove(self.rng.random_range(0..agenda.len()));
        let it = &mut self.workers[worker];
        let chunking = Chunking::new(self.dimension, 64).unwrap();
        let values = &gradient(self.dimension, it.slot, round)[chunking.coordinates(chunk)];
        let words = signvote_kernels::words(values.len());
        let (mut signs, mut abstain) = (vec![0; words], vec![0; words]);
        signvote_kernels::pack(values, &mut signs, &mut abstain);
        it.voter.submit_signs(chunking.words(chunk).start, &signs, &abstain).unwrap();
    }

    fn deliver_up(&mut self, index: usize) {
        let it = &mut self.connections[index];
        let (ends, peer) = (it.ends, it.peer);
        let Some(frame) = it.up.pop_front() else { return };
        match ends {
            Ends::WorkerServer(_) | Ends::ShardServer(_) => self.server.handle(self.now, peer, &frame),
            Ends::WorkerShard(_, shard) => self.shards[shard].shard.handle(peer, &frame),
        }
    }

    fn deliver_down(&mut self, index: usize) {
        let it = &mut self.connections[index];
        let (ends, peer) = (it.ends, it.peer);
        let Some(frame) = it.down.pop_front() else {
            self.connections.remove(index);
            match ends {
                Ends::WorkerServer(worker) if self.workers[worker].finished => {}
                Ends::WorkerServer(worker) => self.worker_is_cut_off(worker),
                Ends::ShardServer(shard) if self.shards[shard].over => {}
                Ends::ShardServer(shard) => self.shard_is_cut_off(shard),
                Ends::WorkerShard(worker, shard) => self.worker_loses(worker, shard),
            }
            return;
        };
        match ends {
            Ends::WorkerServer(worker) => self.tell_worker(worker, &frame),
            Ends::ShardServer(shard) => {
                let dismissal = self.shards[shard].shard.handle_server(&frame).unwrap();
                self.shards[shard].over |= match dismissal {
                    Some(Dismissal::Refused { later, .. }) => later == Later::Never,
                    Some(Dismissal::Finished(_)) => true,
                    _ => false,
                };
            }
            Ends::WorkerShard(worker, shard) => {
                let address = self.shards[shard].address.clone();
                let Some(id) =
                    self.workers[worker].shards.iter().find(|it| it.address == address).map(|it| it.id)
                else {
                    return;
                };
                let mut frame = frame;
                if self.faults.equivocators.contains(&shard) && worker.is_multiple_of(2) {
                    frame = flipped(&frame);
                }
                if self.workers[worker].voter.handle_shard(id, &frame).is_err() {
                    let at = self.connections.iter().position(|it| it.peer == peer);
                    at.into_iter().for_each(|at| self.cut(at));
                }
            }
        }
        if self.connections.get(index).is_some_and(|it| it.peer == peer && it.down.is_empty())
            && self.server.is_behind(peer)
        {
            self.server.drained(self.now, peer);
        }
    }

    fn tell_worker(&mut self, worker: usize, frame: &Bytes) {
        let it = &mut self.workers[worker];
        match it.voter.handle(frame) {
            Ok(()) => {}
            Err(signvote_election::Error::Refused { later: Later::Again, .. }) => {
                let peer = it.server;
                let at = self.connections.iter().position(|it| Some(it.peer) == peer);
                at.into_iter().for_each(|at| self.cut(at));
                return;
            }
            // It was cut off with the last word on its way to it, and came back too late.
            Err(signvote_election::Error::Refused { later: Later::Never, reason })
                if reason.starts_with("the run is over") =>
            {
                it.refused = true;
                return;
            }
            Err(error) => panic!("worker {worker}: {error}"),
        }
        if it.voter.wants_parameters() {
            let x0 = parameters(self.dimension, it.voter.terms().unwrap().seed);
            it.voter.provide(x0).unwrap();
        }
    }

    /// Does what all state machines want done.
    fn pump(&mut self) {
        while let Some(output) = self.server.poll() {
            match output {
                Output::Send { peer, frame } => {
                    let to = self.connections.iter_mut().find(|it| it.peer == peer);
                    to.into_iter().for_each(|it| it.down.push_back(frame.clone()));
                }
                Output::Close { peer } => {
                    let of = self.connections.iter_mut().find(|it| it.peer == peer);
                    of.into_iter().for_each(|it| it.closed = true);
                }
                Output::Event(event) => self.events.push(event),
                Output::Record(record) => self.see(&record),
                Output::Done => self.done = true,
                _ => {}
            }
        }
        for index in 0..self.shards.len() {
            // Its greeting waits for a connection.
            while self.shards[index].server.is_some()
                && let Some(output) = self.shards[index].shard.poll()
            {
                let (peer, frame) = match output {
                    ShardOutput::Server(frame) => (self.shards[index].server, Some(frame)),
                    ShardOutput::Send { peer, frame } => (Some(peer), Some(frame)),
                    ShardOutput::Close { peer } => (Some(peer), None),
                    _ => continue,
                };
                let lies = self.faults.liars.contains(&index);
                let Some(to) = self.connections.iter_mut().find(|it| Some(it.peer) == peer) else { continue };
                match (frame, to.ends) {
                    (Some(frame), Ends::ShardServer(_)) => {
                        to.up.push_back(if lies { false_words(&frame) } else { frame });
                    }
                    (Some(frame), _) => to.down.push_back(if lies { false_words(&frame) } else { frame }),
                    (None, _) => to.closed = true,
                }
            }
        }
        for index in 0..self.workers.len() {
            self.pump_worker(index);
        }
    }

    fn pump_worker(&mut self, index: usize) {
        let it = &mut self.workers[index];
        if it.voter.take_out_of_step().is_some() {
            let peer = it.server;
            let at = self.connections.iter().position(|it| Some(it.peer) == peer);
            at.into_iter().for_each(|at| self.cut(at));
        }
        let it = &mut self.workers[index];
        if let Some(addresses) = it.voter.take_shard_addresses() {
            it.shards = addresses;
            // Those that are not among them are hung up on.
            let known: Vec<_> = it.shards.iter().map(|shard| shard.address.clone()).collect();
            let stale = |connection: &Connection, shards: &[ShardHost]| match connection.ends {
                Ends::WorkerShard(worker, shard) => {
                    worker == index && !known.contains(&shards[shard].address)
                }
                _ => false,
            };
            while let Some(at) = self.connections.iter().position(|it| stale(it, &self.shards)) {
                self.cut(at);
            }
        }
        let it = &mut self.workers[index];
        while it.server.is_some()
            && let Some(frame) = it.voter.poll_transmit()
        {
            let to = self.connections.iter_mut().find(|to| Some(to.peer) == it.server);
            to.into_iter().for_each(|to| to.up.push_back(frame.clone()));
        }
        while let Some((id, frame)) = it.voter.poll_shard_transmit() {
            let Some(address) = it.shards.iter().find(|shard| shard.id == id).map(|it| it.address.clone())
            else {
                continue;
            };
            let Some(host) = self.shards.iter().position(|it| it.address == address) else { continue };
            let to = self.connections.iter_mut().find(|to| to.ends == Ends::WorkerShard(index, host));
            to.into_iter().for_each(|to| to.up.push_back(frame.clone()));
        }
        while let Some(step) = it.voter.poll_step() {
            match step {
                Step::Open { round } => {
                    let chunks = Chunking::new(self.dimension, 64).unwrap().count();
                    it.agenda = (0..chunks).map(|chunk| (round, chunk)).collect();
                }
                Step::Committed { .. } | Step::Replaced { .. } => it.agenda.clear(),
                Step::Finished { .. } => {
                    it.agenda.clear();
                    it.finished = true;
                }
                _ => {}
            }
        }
        if it.finished && !it.shards.is_empty() {
            it.shards.clear();
        }
    }

    /// Nothing is on its way any more.
    fn time_passes(&mut self) {
        self.now += Duration::from_secs(1);
        for index in 0..self.workers.len() {
            if self.workers[index].voter.waits_for_verdicts() {
                let peer = self.workers[index].server;
                let at = self.connections.iter().position(|it| Some(it.peer) == peer);
                at.into_iter().for_each(|at| self.cut(at));
            }
        }
        self.server.handle_timeout(self.now);
        self.pump();
    }

    /// Every record holds by the audit, and is what its voters' gradients come to.
    fn see(&mut self, record: &Record) {
        let seed = self.server.charter().unwrap().terms.seed;
        let auditor = self.auditor.get_or_insert_with(|| {
            let charter = self.server.charter().unwrap();
            Auditor::new(charter, parameters(self.dimension, seed), record.before).unwrap()
        });
        auditor.check(record).unwrap();
        self.records.push(record.clone());
    }
}

fn shard_host(index: usize, life: u64) -> ShardHost {
    let address = format!("10.0.1.{index}:{}", 7000 + life);
    let enrolment = Enrolment { run: None, name: format!("shard {index}"), address: address.clone() };
    ShardHost { shard: Shard::new(enrolment), server: None, address, over: false }
}

const VERDICT: u8 = 36;
const TALLIED: u8 = 13;

/// A verdict with its first sign flipped.
fn flipped(frame: &Bytes) -> Bytes {
    let mut bytes = frame.to_vec();
    // Behind length, kind, round, chunk and encoding; where nothing holds, so that it stays a verdict.
    if bytes[4] == VERDICT && bytes[17] == 0 {
        bytes[18] ^= 1;
    }
    bytes.into()
}

/// What a liar sends instead: the flipped verdict, and its hash.
fn false_words(frame: &Bytes) -> Bytes {
    let mut bytes = flipped(frame).to_vec();
    if bytes[4] == TALLIED {
        // Behind length, kind, round and chunk. Any other hash is as good as that of what it sends.
        bytes[17] ^= 0xff;
    }
    bytes.into()
}
