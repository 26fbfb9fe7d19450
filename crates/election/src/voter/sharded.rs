//! What a voter does beside its server in a run with shards: ballots go to them, verdicts come from them.
//!
//! The connections of a worker are independent of each other. A verdict of the round after this one may come before this
//! one's commit, and a commit before the last of its verdicts: either is kept until its time has come.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use signvote_kernels::words;

use super::Voter;
use crate::chain::verdict_hash;
use crate::wire::of_shards::{self, Knock, Shards};
use crate::wire::{PlaneBytes, ToWorker, to_worker};
use crate::{Error, Round, ShardAddress, ShardId};

/// What is known of a run's shards.
#[derive(Debug, Default)]
pub(super) struct Sharded {
    shards: Shards,
    /// Whether the shell has yet to be told of other addresses.
    moved: bool,
    connected: BTreeSet<ShardId>,
    transmits: VecDeque<(ShardId, Bytes)>,
    /// Verdicts that are not of the open round: of the next one, or of any while this worker is being brought up.
    early: VecDeque<(Round, ShardId, Bytes)>,
    /// Other verdicts than the staged ones, by chunk and hash, until the server says which counts.
    others: BTreeMap<(usize, [u8; 32]), Bytes>,
    chosen: BTreeMap<usize, [u8; 32]>,
    /// Frames from the server, the first of them a commit, that wait for verdicts.
    held: VecDeque<Bytes>,
}

impl Sharded {
    /// Casts a chunk of the ballot with those who tally it. Who is not connected gets it once it is.
    pub(super) fn cast(&mut self, chunk: usize, frame: &Bytes) {
        for &shard in self.shards.sharding.holders(chunk) {
            if self.connected.contains(&shard) {
                self.transmits.push_back((shard, frame.clone()));
            }
        }
    }

    /// Casts what has been cast of a ballot again.
    pub(super) fn cast_all(&mut self, chunks: &[Option<Bytes>]) {
        for (chunk, frame) in chunks.iter().enumerate() {
            if let Some(frame) = frame {
                self.cast(chunk, frame);
            }
        }
    }

    pub(super) fn next_round(&mut self) {
        self.others.clear();
        self.chosen.clear();
    }

    /// Keeps a verdict for later: of the newest rounds only, which bounds it.
    fn keep(&mut self, round: Round, shard: ShardId, frame: &Bytes) {
        self.early.retain(|(known, ..)| known.next() >= round);
        if self.early.back().is_none_or(|(newest, ..)| *newest <= round.next()) {
            self.early.push_back((round, shard, frame.clone()));
        }
    }
}

impl Voter {
    /// The addresses of the shards, if they have changed since this was last asked: connect to those that are new, say so with
    /// [`Self::shard_connected`], and hang up on those that are not among them.
    pub fn take_shard_addresses(&mut self) -> Option<Vec<ShardAddress>> {
        let sharded = self.sharded.as_mut().filter(|sharded| sharded.moved)?;
        sharded.moved = false;
        Some(sharded.shards.addresses.clone())
    }

    /// The next frame to send to a shard.
    pub fn poll_shard_transmit(&mut self) -> Option<(ShardId, Bytes)> {
        self.sharded.as_mut()?.transmits.pop_front()
    }

    /// There is a connection to a shard: a greeting for it is ready to be sent, and what it has to be sent again.
    pub fn shard_connected(&mut self, shard: ShardId) {
        let Ok(member) = self.member() else { return };
        let (run, slot) = (member.terms.run, member.slot);
        let live = self.live;
        let Some(sharded) = &mut self.sharded else { return };
        sharded.connected.insert(shard);
        let knock = Knock { run, slot, ticket: sharded.shards.ticket };
        sharded.transmits.push_back((shard, of_shards::knock(&knock)));
        if !live || !self.ballot.open {
            return;
        }
        for (chunk, frame) in self.ballot.chunks.iter().enumerate() {
            if let Some(frame) = frame
                && sharded.shards.sharding.holds(shard, chunk)
            {
                sharded.transmits.push_back((shard, frame.clone()));
            }
        }
    }

    /// The connection to a shard is gone.
    pub fn shard_lost(&mut self, shard: ShardId) {
        if let Some(sharded) = &mut self.sharded {
            sharded.connected.remove(&shard);
            sharded.transmits.retain(|(to, _)| *to != shard);
        }
    }

    /// This worker does not get through to a shard: the server is told.
    pub fn shard_unreachable(&mut self, shard: ShardId, reason: &str) {
        if self.sharded.is_some() && self.live {
            self.transmits.push_back(of_shards::unreachable(shard, reason));
        }
    }

    /// Whether a round is committed whose verdicts have not all come. If that lasts, they never will: [`Self::reconnect`], and
    /// the server has them.
    pub fn waits_for_verdicts(&self) -> bool {
        self.sharded.as_ref().is_some_and(|sharded| !sharded.held.is_empty())
    }

    /// Why this worker has to [`reconnect`](Self::reconnect), if it has to: what it has been told is not what counts.
    pub fn take_out_of_step(&mut self) -> Option<String> {
        self.out_of_step.take()
    }

    /// A whole frame, its length included, has come from a shard.
    ///
    /// # Errors
    /// If the shard does not keep to the protocol, or refuses this worker. The connection is of no use then.
    pub fn handle_shard(&mut self, shard: ShardId, frame: &Bytes) -> Result<(), Error> {
        match ToWorker::decode(frame)? {
            ToWorker::Verdict { round, chunk, planes } => {
                let Some(sharded) = &mut self.sharded else { return Ok(()) };
                let chunk = chunk as usize;
                if !sharded.shards.sharding.holds(shard, chunk) {
                    return Ok(());
                }
                let ready = self.live && self.replica.as_ref().is_some_and(|it| it.position().round >= round);
                if !ready {
                    sharded.keep(round, shard, frame);
                    return Ok(());
                }
                self.take_sharded_verdict(round, chunk, planes, frame)?;
                self.catch_up_with_shards()
            }
            ToWorker::Refused { later, reason } => Err(Error::Refused { later, reason }),
            _ => Err(Error::misbehaved("send verdicts as a shard", "another frame")),
        }
    }

    /// Whether a frame from the server has to wait for verdicts.
    pub(super) fn holds_back(&mut self, frame: &[u8]) -> Result<bool, Error> {
        let Some(sharded) = &mut self.sharded else { return Ok(false) };
        let waits = match ToWorker::decode(frame)? {
            ToWorker::Shards(_) | ToWorker::Chosen { .. } | ToWorker::Refused { .. } => false,
            ToWorker::Verdict { round, .. } => {
                let open = self.replica.as_ref().is_some_and(|replica| replica.position().round >= round);
                !sharded.held.is_empty() && !open
            }
            ToWorker::Commit { .. } => {
                let undecided = |it: &crate::Replica| self.live && !it.is_decided();
                !sharded.held.is_empty() || self.replica.as_ref().is_some_and(undecided)
            }
            _ => !sharded.held.is_empty(),
        };
        if waits {
            sharded.held.push_back(Bytes::copy_from_slice(frame));
        }
        Ok(waits)
    }

    /// Takes what has waited, as far as its time has come.
    pub(super) fn catch_up_with_shards(&mut self) -> Result<(), Error> {
        loop {
            let Some(sharded) = self.sharded.as_mut().filter(|_| self.out_of_step.is_none()) else {
                return Ok(());
            };
            let decided = self.replica.as_ref().is_some_and(crate::Replica::is_decided);
            if decided && let Some(frame) = sharded.held.pop_front() {
                self.take(&frame)?;
                // What stood behind it goes on, up to the next commit.
                while self.out_of_step.is_none()
                    && let Some(next) = self.sharded.as_mut().and_then(|it| it.held.pop_front())
                {
                    let is_commit = matches!(ToWorker::decode(&next)?, ToWorker::Commit { .. });
                    if is_commit {
                        self.sharded.as_mut().into_iter().for_each(|it| it.held.push_front(next.clone()));
                        break;
                    }
                    self.take(&next)?;
                }
                continue;
            }
            let live = self.live;
            let position = self.replica.as_ref().map_or(Round(0), |replica| replica.position().round);
            let ready = |&(round, ..): &(Round, ShardId, Bytes)| live && round <= position;
            let Some(index) = sharded.early.iter().position(ready) else { return Ok(()) };
            let Some((_, shard, frame)) = sharded.early.remove(index) else { return Ok(()) };
            if let ToWorker::Verdict { round, chunk, planes } = ToWorker::decode(&frame)?
                && sharded.shards.sharding.holds(shard, chunk as usize)
            {
                self.take_sharded_verdict(round, chunk as usize, planes, &frame)?;
            }
        }
    }

    /// A verdict, of which there may be several on a chunk.
    pub(super) fn take_sharded_verdict(
        &mut self,
        round: Round,
        chunk: usize,
        planes: PlaneBytes<'_>,
        frame: &[u8],
    ) -> Result<(), Error> {
        let chunking = self.member()?.chunking;
        let coordinates = chunking.coordinates(chunk);
        if coordinates.is_empty() {
            return Err(Error::misbehaved("decide chunks that exist", format!("chunk {chunk}")));
        }
        let (Some(sharded), Some(replica)) = (&mut self.sharded, &self.replica) else { return Ok(()) };
        let open = replica.position().round;
        if round != open {
            // The server's own, of a round that this worker is on its way to; or late.
            return Ok(());
        }
        let staged = replica.staged_hash(chunk);
        if staged.is_none() && !sharded.chosen.contains_key(&chunk) {
            if sharded.shards.relays {
                self.transmits.push_back(Bytes::copy_from_slice(frame));
            }
            return self.stage(round, chunk, planes);
        }
        let (mut signs, mut hold) = (vec![0; words(coordinates.len())], vec![0; words(coordinates.len())]);
        let any = planes.read(coordinates.len(), &mut signs, &mut hold)?;
        let hash = verdict_hash(&signs, any.then_some(&hold));
        if staged == Some(hash) {
            return Ok(());
        }
        if sharded.others.insert((chunk, hash), Bytes::copy_from_slice(frame)).is_none()
            && sharded.shards.relays
        {
            self.transmits.push_back(Bytes::copy_from_slice(frame));
        }
        self.settle(round, chunk)
    }

    /// The server says which of several verdicts on a chunk counts.
    pub(super) fn choose(&mut self, round: Round, chunk: usize, hash: [u8; 32]) -> Result<(), Error> {
        let exists = !self.member()?.chunking.coordinates(chunk).is_empty();
        if !exists || self.position().round != round {
            return Ok(());
        }
        if let Some(sharded) = &mut self.sharded {
            sharded.chosen.insert(chunk, hash);
        }
        self.settle(round, chunk)
    }

    /// Stages the verdict that counts, if it has come.
    fn settle(&mut self, round: Round, chunk: usize) -> Result<(), Error> {
        let (Some(sharded), Some(replica)) = (&mut self.sharded, &mut self.replica) else { return Ok(()) };
        let Some(&hash) = sharded.chosen.get(&chunk) else { return Ok(()) };
        if replica.staged_hash(chunk) == Some(hash) {
            return Ok(());
        }
        replica.forget_verdict(chunk);
        let Some(frame) = sharded.others.remove(&(chunk, hash)) else { return Ok(()) };
        match ToWorker::decode(&frame)? {
            ToWorker::Verdict { planes, .. } => self.stage(round, chunk, planes),
            _ => Ok(()),
        }
    }

    /// The server says where the shards are, and who tallies what.
    pub(super) fn take_shards(&mut self, shards: Shards) -> Result<(), Error> {
        let chunking = self.member()?.chunking;
        let (live, round) = (self.live, self.position().round);
        let sharded = self.sharded.get_or_insert_default();
        let before = std::mem::replace(&mut sharded.shards, shards);
        let Sharded { shards, connected, transmits, others, chosen, .. } = sharded;
        sharded.moved |= before.addresses != shards.addresses;
        connected.retain(|shard| shards.addresses.iter().any(|it| it.id == *shard));
        transmits.retain(|(shard, _)| connected.contains(shard));
        let Some(replica) = &mut self.replica else { return Ok(()) };
        for chunk in 0..chunking.count() {
            let (old, new) = (before.sharding.holders(chunk), shards.sharding.holders(chunk));
            if old.iter().all(|shard| !new.contains(shard)) {
                replica.forget_verdict(chunk);
                others.retain(|(of, _), _| *of != chunk);
                chosen.remove(&chunk);
            }
            if live
                && self.ballot.open
                && let Some(frame) = &self.ballot.chunks[chunk]
            {
                let heirs = new.iter().filter(|shard| !old.contains(shard) && connected.contains(shard));
                transmits.extend(heirs.map(|&shard| (shard, frame.clone())));
            }
        }
        if shards.relays && !before.relays {
            // From now on; what has come before was not passed on.
            for chunk in 0..chunking.count() {
                if let Some((signs, hold)) = replica.staged(chunk) {
                    self.transmits.push_back(to_worker::verdict(round, chunk, signs, hold, &mut Vec::new()));
                }
            }
        }
        Ok(())
    }
}
