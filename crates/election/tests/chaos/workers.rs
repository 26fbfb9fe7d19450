//! The workers of the simulated world.

use std::collections::VecDeque;

use rand::RngExt;
use signvote_election::{DigestTree, Error, Origin, PeerId, Step, wire};

use super::super::plan::{Durability, FAULTS_END};
use super::super::worker::{self, Task};
use super::{Connection, Item, Next, World};

impl World {
    pub(super) fn lose(&mut self, worker: usize) {
        self.workers[worker].connection = None;
    }

    pub(super) fn connect_later(&mut self, worker: usize, least: u64) {
        let it = &mut self.workers[worker];
        if it.connecting || it.finished {
            return;
        }
        it.connecting = true;
        it.attempts = (it.attempts + 1).min(6);
        let most = 1_000 << it.attempts;
        let micros = least + self.rng.random_range(0..most);
        self.after(micros, Next::Connect(worker));
    }

    pub(super) fn connect(&mut self, worker: usize) {
        let now = self.now;
        let it = &mut self.workers[worker];
        it.connecting = false;
        if !it.alive || it.connection.is_some() || it.finished {
            return;
        }
        if it.unreachable_until.max(it.stopped_until) > now || self.server.is_none() {
            return self.connect_later(worker, 1_000);
        }
        if !std::mem::take(&mut it.fresh) {
            it.voter.reconnect();
        }
        let origin = Origin {
            address: format!("10.0.0.{worker}"),
            identity: it.member.identity.clone(),
            local: false,
        };
        let id = self.open(Some(worker), origin);
        self.workers[worker].connection = Some(id);
        self.transmit(worker);
        self.drain();
    }

    pub(super) fn open(&mut self, worker: Option<usize>, origin: Origin) -> u64 {
        self.peers += 1;
        let id = self.peers;
        let connection = Connection {
            worker,
            up: VecDeque::new(),
            up_at: self.now,
            down: VecDeque::new(),
            down_at: self.now,
            held: true,
            duplicated: false,
        };
        self.connections.insert(id, connection);
        let now = self.clock();
        self.server.as_mut().unwrap().connected(now, PeerId(id), origin);
        id
    }

    fn transmit(&mut self, worker: usize) {
        let Some(id) = self.workers[worker].connection else { return };
        while let Some(frame) = self.workers[worker].voter.poll_transmit() {
            self.send_up(id, Item::Frame(frame));
        }
    }

    /// A frame has come to a worker.
    pub(super) fn hear(&mut self, worker: usize, id: u64, frame: &[u8]) {
        let heard = self.workers[worker].voter.handle(frame);
        self.take_steps(worker);
        let it = &mut self.workers[worker];
        if it.voter.wants_parameters() && !std::mem::replace(&mut it.providing, true) {
            let micros = self.rng.random_range(0..20_000);
            let task = Task::Provide;
            self.after(micros, Next::Task { worker, generation: 0, task });
        }
        self.transmit(worker);
        if let Err(error) = heard {
            self.fail(worker, id, &error);
        }
    }

    /// The connection is of no use to the worker. Nobody honest is told not to come back.
    fn fail(&mut self, worker: usize, id: u64, error: &Error) {
        let text = error.to_string();
        self.tally.refusals += 1;
        let it = &mut self.workers[worker];
        match error {
            Error::Refused { later: wire::Later::Again, .. } => {}
            Error::Refused { .. } if text.contains("the run is over") => it.finished = true,
            // Somebody else is connected as this worker, or its own process of before was.
            Error::Refused { .. } if text.contains("another connection of the same identity") => {}
            _ if self.connections[&id].duplicated || !it.member.honest => {}
            _ => panic!("an honest worker was put out for good, or did not understand: {text}"),
        }
        self.lose(worker);
        self.cut(id, false);
        self.connect_later(worker, 20_000);
    }

    fn take_steps(&mut self, worker: usize) {
        while let Some(step) = self.workers[worker].voter.poll_step() {
            match step {
                Step::Open { round } => self.plan_ballot(worker, round.0),
                Step::Committed { counted, .. } => {
                    self.workers[worker].generation += 1;
                    self.workers[worker].counted += u64::from(counted);
                    self.look_at(worker);
                }
                Step::Replaced { .. } => {
                    self.workers[worker].generation += 1;
                    self.look_at(worker);
                }
                Step::Finished { .. } => {
                    let it = &mut self.workers[worker];
                    it.generation += 1;
                    it.finished = true;
                    let values = if it.member.honest { worker::STATISTICS } else { [-1e30, f32::MAX] };
                    // The end may be told twice.
                    if it.voter.wants_statistics() {
                        it.voter.submit_statistics(&values[..self.plan.dimension.min(2)]).unwrap();
                    }
                }
                _ => {}
            }
        }
    }

    /// A worker's replica has moved.
    fn look_at(&mut self, worker: usize) {
        self.workers[worker].attempts = 0;
        let voter = &self.workers[worker].voter;
        let (position, digest) = (voter.position(), DigestTree::new(voter.parameters()).root());
        self.see_replica(position, digest);
        if self.plan.durability == Durability::Always {
            let kept = self.disk.position();
            assert!(position.round <= kept.round, "worker {worker} is ahead of the disk");
            if let Some(record) =
                position.round.0.checked_sub(1).map(|last| &self.disk.records[last as usize])
            {
                assert_eq!(record.after.chain, position.chain, "worker {worker} saw what is not on disk");
            }
        }
    }

    fn plan_ballot(&mut self, worker: usize, round: u64) {
        assert_eq!(self.workers[worker].voter.round().0, round);
        self.workers[worker].generation += 1;
        let (generation, compute) = (self.workers[worker].generation, self.plan.compute);
        let chunks = worker::order(&self.plan, &mut self.rng);
        let mut tasks: Vec<_> = chunks.into_iter().map(|chunk| Task::Cast { chunk }).collect();
        tasks.insert(0, Task::Report);
        if !self.workers[worker].member.honest && self.now < FAULTS_END && self.rng.random_bool(0.2) {
            let at = self.rng.random_range(0..=tasks.len());
            tasks.insert(at, Task::Lie);
        }
        let mut at = self.now;
        for task in tasks {
            at += self.rng.random_range(0..compute);
            self.at(at, Next::Task { worker, generation, task });
        }
    }

    pub(super) fn work(&mut self, worker: usize, generation: u64, task: Task) {
        let it = &mut self.workers[worker];
        if it.stopped_until > self.now {
            let until = it.stopped_until;
            return self.at(until, Next::Task { worker, generation, task });
        }
        if !it.alive || (task != Task::Provide && it.generation != generation) {
            return;
        }
        match task {
            Task::Provide => {
                it.providing = false;
                if it.voter.wants_parameters() {
                    let x0 = it.x0(&self.plan);
                    it.voter.provide(x0).unwrap();
                }
            }
            Task::Report => it.voter.report(0.5, 3, 4, 0).unwrap(),
            Task::Cast { chunk } => it.cast(&self.plan, chunk).unwrap(),
            Task::Lie => {
                let lie = it.lie(&self.plan, &mut self.rng);
                if let Some(id) = it.connection {
                    self.send_up(id, Item::Frame(lie.into()));
                }
            }
        }
        self.transmit(worker);
    }
}
