//! Bringing a worker that is behind to the open round, piece by piece.

use std::time::Duration;

use super::members::PeerState;
use super::ring::{CatchUp, Snapshot};
use super::{Phase, Server};
use crate::decision::{self, Return};
use crate::wire::{to_server, to_worker};
use crate::{ChainHash, PeerId, Position, Round};

/// Bytes that a worker that is behind is given at a time: a few chunks, so that little waits for a slow link and a fast
/// one is kept busy.
const PIECE_BYTES: usize = 1 << 20;

impl Server {
    /// How a worker gets to the open round, and why so; `position` is where its replica stands, if it has one.
    pub(super) fn way_back(&mut self, position: Option<Position>) -> (Option<CatchUp>, String) {
        let Some(position) = position else {
            let reason = format!("it took the server's state at round {}", self.at.round);
            return (Some(self.with_snapshot()), reason);
        };
        let (replay, reason) = decision::replay(Return {
            position,
            server: self.at,
            held: self.chain_at(position.round),
            missed_bytes: self.ring.bytes_from(position.round),
            most_bytes: self.most_replayed(),
        });
        let way =
            if replay { CatchUp { snapshot: None, next: position.round } } else { self.with_snapshot() };
        (Some(way), reason)
    }

    /// The chain hash at the start of a round, as far as it is held.
    pub(super) fn chain_at(&self, round: Round) -> Option<ChainHash> {
        match round == self.at.round {
            true => Some(self.at.chain),
            false => self.ring.round(round).map(|entry| entry.before.chain),
        }
    }

    /// Verdicts that are longer than this are not replayed: x is shorter. (A piece goes out at once either way.)
    pub(super) fn most_replayed(&self) -> u64 {
        let state_bytes = self.model.as_ref().map_or(0, |model| model.x.len() * 4);
        state_bytes.max(PIECE_BYTES) as u64
    }

    fn with_snapshot(&mut self) -> CatchUp {
        self.make_step();
        let most = self.most_replayed();
        let Some(model) = &self.model else { return CatchUp { snapshot: None, next: self.at.round } };
        let snapshot = self.shared.snapshot(&self.ring, most, self.at, &model.x);
        CatchUp { next: snapshot.position.round, snapshot: Some((snapshot, 0)) }
    }

    /// Sends a worker x again, and what came since.
    pub(super) fn start_over(&mut self, now: Duration, peer: PeerId) {
        let way = self.with_snapshot();
        if let Some(PeerState::Active { slot, behind }) =
            self.peers.get_mut(&peer).map(|peer| &mut peer.state)
        {
            *behind = Some(way);
            // It will cast again what it has cast, even what is still on its way here.
            let slot = *slot;
            self.open.newcomers.insert(slot);
            self.feed(now, peer);
        }
    }

    /// Gives a worker that is behind its next piece; when nothing is left it is told that the round is open.
    pub(super) fn feed(&mut self, now: Duration, id: PeerId) {
        self.make_step();
        let most = self.most_replayed();
        let Some(model) = &self.model else { return };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let PeerState::Active { slot, behind: Some(way) } = &mut peer.state else { return };
        let slot = *slot;
        peer.until = Some(now.saturating_add(self.config.joining_timeout));
        if let Phase::Finishing(until) = &mut self.phase {
            // The end waits for those who are on their way to it.
            *until = (*until).max(now.saturating_add(self.config.farewell_timeout));
        }
        let stale = |it: &Snapshot| it.position.round != self.at.round && !it.leads_on(&self.ring, most);
        if way.snapshot.as_ref().is_some_and(|(snapshot, _)| stale(snapshot)) {
            // By the time that all of it is there it would be too old: a newer one, of which all have the same.
            let snapshot = self.shared.snapshot(&self.ring, most, self.at, &model.x);
            *way = CatchUp { next: snapshot.position.round, snapshot: Some((snapshot, 0)) };
        }
        let mut frames = Vec::new();
        let mut bytes = 0;
        while bytes < PIECE_BYTES {
            let before = frames.len();
            if let Some((snapshot, chunk)) = &mut way.snapshot {
                if *chunk == 0 {
                    frames.push(to_worker::state(snapshot.position));
                }
                frames.push(to_server::values(*chunk, &snapshot.x[model.chunking.coordinates(*chunk)]));
                *chunk += 1;
                if *chunk >= model.chunking.count() {
                    way.snapshot = None;
                }
            } else if way.next == self.at.round {
                // Up to date. Whether the run is over decides what comes: behind the last commit no round is open,
                // and what was decided belongs to the one before.
                if self.phase == Phase::Running {
                    frames.extend(self.open.chunks.iter().filter_map(|chunk| chunk.decided.clone()));
                }
                peer.until = None;
                peer.congested = false;
                peer.state = PeerState::Active { slot, behind: None };
                frames.into_iter().for_each(|frame| self.send(id, frame));
                self.arrive(now, id, slot);
                return;
            } else if let Some(entry) =
                self.ring.round(way.next).filter(|_| self.ring.bytes_from(way.next) <= most)
            {
                frames.extend(entry.frames.iter().cloned());
                way.next = way.next.next();
            } else {
                // The ring has moved on past it, or so far ahead that x is shorter.
                let snapshot = self.shared.snapshot(&self.ring, most, self.at, &model.x);
                *way = CatchUp { next: snapshot.position.round, snapshot: Some((snapshot, 0)) };
            }
            bytes += frames[before..].iter().map(bytes::Bytes::len).sum::<usize>();
        }
        frames.into_iter().for_each(|frame| self.send(id, frame));
    }

    /// Those whose queues are too long get what comes now when they have drained.
    pub(super) fn leave_behind(&mut self) {
        let next = self.at.round;
        for peer in self.peers.values_mut().filter(|peer| peer.congested) {
            if let PeerState::Active { behind: behind @ None, .. } = &mut peer.state {
                // However long its link takes for what waits: a host that is gone is the shell's to notice.
                *behind = Some(CatchUp { snapshot: None, next });
            }
        }
    }
}
