//! Connections of the simulated world, and what goes wrong with them and with whoever holds them.

use std::time::Duration;

use rand::RngExt;
use signvote_election::{Origin, PeerId};

use super::super::harness::by_hand::{self, Hello, kind};
use super::super::harness::layout;
use super::super::plan::Fault;
use super::{Item, Next, World};

impl World {
    pub(super) fn send_up(&mut self, id: u64, item: Item) {
        let delay = self.delay();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.up_at = connection.up_at.max(self.now + delay);
        connection.up.push_back(item);
        let at = connection.up_at;
        self.at(at, Next::Up(id));
    }

    pub(super) fn send_down(&mut self, id: u64, item: Item) {
        let delay = self.delay();
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.down_at = connection.down_at.max(self.now + delay);
        connection.down.push_back(item);
        let at = connection.down_at;
        self.at(at, Next::Down(id));
    }

    fn delay(&mut self) -> u64 {
        let spike = if self.rng.random_bool(0.02) { 10 } else { 1 };
        spike * self.rng.random_range(0..self.plan.delay)
    }

    /// Until when nothing moves between this worker and the server.
    fn blocked(&self, id: u64, down: bool) -> Option<u64> {
        let worker = &self.workers[self.connections.get(&id)?.worker?];
        let until = worker.unreachable_until.max(if down { worker.stopped_until } else { 0 });
        (until > self.now).then_some(until)
    }

    pub(super) fn deliver_up(&mut self, id: u64) {
        if let Some(until) = self.blocked(id, false) {
            return self.at(until, Next::Up(id));
        }
        let Some(item) = self.connections.get_mut(&id).and_then(|it| it.up.pop_front()) else { return };
        let now = self.clock();
        let Some(server) = self.server.as_mut().filter(|_| self.connections[&id].held) else { return };
        match item {
            Item::Frame(frame) => {
                self.note_ballot(id, &frame);
                let Some(server) = &mut self.server else { return };
                server.handle(now, PeerId(id), &frame);
            }
            Item::End => {
                self.connections.get_mut(&id).unwrap().held = false;
                server.disconnected(now, PeerId(id), "the connection was lost");
            }
        }
        self.drain();
    }

    /// Remembers whose ballot is the first for a place, if it is one that counts.
    fn note_ballot(&mut self, id: u64, frame: &[u8]) {
        let Some(server) = &self.server else { return };
        let identity =
            self.connections[&id].worker.and_then(|worker| self.workers[worker].member.identity.as_ref());
        let (Some(identity), Some(slot), Some(piece)) =
            (identity, server.slot_of(PeerId(id)), by_hand::Piece::read(frame))
        else {
            return;
        };
        let chunks = self.plan.dimension.div_ceil(64);
        if piece.kind == kind::BALLOT && piece.round == server.round().0 && piece.chunk < chunks {
            let coordinates = (self.plan.dimension - piece.chunk * 64).min(64);
            if piece.signs(coordinates).is_some() {
                let key = (piece.round, piece.chunk, slot.number());
                self.cast.entry(key).or_insert_with(|| identity.name.clone());
            }
        }
    }

    pub(super) fn deliver_down(&mut self, id: u64) {
        if let Some(until) = self.blocked(id, true) {
            return self.at(until, Next::Down(id));
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(item) = connection.down.pop_front() else { return };
        let (worker, drained) = (connection.worker, connection.down.is_empty());
        let current = worker.filter(|&worker| self.workers[worker].connection == Some(id));
        if let Some(worker) = current {
            match item {
                Item::Frame(frame) => self.hear(worker, id, &frame),
                Item::End => {
                    self.lose(worker);
                    self.send_up(id, Item::End);
                    self.connect_later(worker, 5_000);
                }
            }
        }
        let now = self.clock();
        if drained
            && self.connections[&id].held
            && let Some(server) = &mut self.server
        {
            server.drained(now, PeerId(id));
            self.drain();
        }
    }

    /// Ends a connection; what is under way is lost in part. The server learns of it sooner or later.
    pub(super) fn cut(&mut self, id: u64, lossy: bool) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.down.clear();
        if lossy {
            let keep = self.rng.random_range(0..=connection.up.len());
            connection.up.truncate(keep);
        }
        if self.rng.random_bool(0.3) {
            connection.up_at += self.rng.random_range(0..300_000);
        }
        self.send_up(id, Item::End);
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Cut { worker } => {
                if let Some(id) = self.workers[worker].connection {
                    self.lose(worker);
                    self.cut(id, true);
                    self.connect_later(worker, 1);
                }
            }
            Fault::Partition { worker, micros, cut } => {
                let it = &mut self.workers[worker];
                it.unreachable_until = it.unreachable_until.max(self.now + micros);
                if let Some(connection) = it.connection.filter(|_| cut) {
                    let micros = self.rng.random_range(0..=micros);
                    self.after(micros, Next::Sever { worker, connection });
                }
            }
            Fault::Stop { worker, micros } => {
                let it = &mut self.workers[worker];
                it.stopped_until = it.stopped_until.max(self.now + micros);
            }
            Fault::Crash { worker, micros, replica } => {
                if !std::mem::take(&mut self.workers[worker].alive) {
                    return;
                }
                self.workers[worker].generation += 1;
                if let Some(id) = self.workers[worker].connection {
                    self.lose(worker);
                    self.cut(id, true);
                }
                self.after(micros, Next::Restart { worker, replica });
            }
            Fault::Duplicate { worker, up } => self.duplicate(worker, up),
            Fault::Twin { worker, micros } => self.twin(worker, micros),
            Fault::CrashServer { outputs, micros } => {
                (self.crash_after, self.away) = (Some(outputs), micros);
            }
            Fault::PauseServer { patience, micros } => {
                self.away = micros;
                let now = self.clock();
                if let Some(server) = &mut self.server {
                    server.pause(now, "an upgrade", Duration::from_micros(patience));
                    self.drain();
                }
            }
            Fault::DiskFull { micros } => (self.disk_full, self.away) = (true, micros),
        }
    }

    fn duplicate(&mut self, worker: usize, up: bool) {
        let Some(id) = self.workers[worker].connection else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let items = if up { &mut connection.up } else { &mut connection.down };
        if items.is_empty() {
            return;
        }
        let index = self.rng.random_range(0..items.len());
        let Item::Frame(frame) = &items[index] else { return };
        let copy = Item::Frame(frame.clone());
        items.insert(index, copy);
        connection.duplicated = true;
        let (at, next) = match up {
            true => (connection.up_at, Next::Up(id)),
            false => (connection.down_at, Next::Down(id)),
        };
        self.at(at.max(self.now), next);
    }

    fn twin(&mut self, worker: usize, micros: u64) {
        if self.server.is_none() {
            return;
        }
        let it = &self.workers[worker];
        let origin =
            Origin { address: "10.0.1.1".into(), identity: it.member.identity.clone(), local: false };
        let slot = it.voter.place().map_or(0, |slot| slot.number());
        let hello = Hello { slot, ..Hello::of(&layout(self.plan.dimension)) }.frame();
        let id = self.open(None, origin);
        self.send_up(id, Item::Frame(hello.into()));
        self.after(micros, Next::Hang(id));
        self.drain();
    }
}
