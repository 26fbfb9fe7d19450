//! The server's side of the sharded form: which shards there are, what they have counted, and what becomes of it.
//!
//! A shard tells its workers what it has decided and the server only the verdict's hash, with who voted: that is all that
//! a commit needs. But the server keeps its own copy of x, for those who join, for the log and for the end: so the verdicts
//! themselves come to it as well, and a round is committed when it has them all. Nothing that is committed can be lost
//! with a shard. If a worker sits on the server's own host, it passes on what it is sent anyway, and the host's link does not
//! carry it twice; otherwise the shards send it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::members::PeerState;
use super::{Output, Phase, Server};
use crate::decision::{self, Report};
use crate::wire::of_shards::{self, Carried, Charge, Enrolment, Shards, Tallied, Tally, Ticket};
use crate::wire::{Later, PlaneBytes};
use crate::{Error, Event, PeerId, Round, ShardAddress, ShardId, Sharding, Slot, SlotSet, Topology};

/// Most shards that a run takes.
const MOST_SHARDS: usize = 4096;
/// Different verdicts on one chunk that are kept until it is known which counts.
const MOST_CANDIDATES: usize = 8;

/// The shards of a run.
#[derive(Debug, Default)]
pub(super) struct Enrolled {
    shards: Vec<(PeerId, ShardAddress)>,
    last: u32,
    sharding: Sharding,
    tickets: BTreeMap<Slot, Ticket>,
    /// How many tickets have been given out: each is another one.
    given: u64,
    /// The worker that passes verdicts on, and those that have passed on something else than what counted.
    relay: Option<PeerId>,
    not_relays: BTreeSet<Slot>,
    /// Who does not get through to which shard.
    complaints: BTreeMap<ShardId, SlotSet>,
}

/// What is known of a chunk that shards tally.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    reports: Vec<(ShardId, Tallied)>,
    /// Verdicts that have come, with their hashes.
    candidates: Vec<([u8; 32], Bytes)>,
    /// Hash and voters of the verdict that counts.
    agreed: Option<Tallied>,
}

impl Server {
    pub(super) fn is_sharded(&self) -> bool {
        matches!(self.config.topology, Topology::Sharded { .. })
    }

    /// Shards that have to be there before the first round.
    fn shards_wanted(&self) -> usize {
        match self.config.topology {
            Topology::Central => 0,
            Topology::Sharded { shards, .. } => usize::from(shards),
        }
    }

    fn replicas(&self) -> usize {
        match self.config.topology {
            Topology::Central => 1,
            Topology::Sharded { replicas, .. } => usize::from(replicas.max(1)),
        }
    }

    pub(super) fn missing_shards(&self) -> usize {
        self.shards_wanted().saturating_sub(self.enrolled.shards.len())
    }

    /// The shards, each with the number of its chunks.
    pub(super) fn shard_loads(&self) -> Vec<(ShardAddress, usize)> {
        let chunks = self.open.chunks.len();
        let load = |id| (0..chunks).filter(|&chunk| self.enrolled.sharding.holds(id, chunk)).count();
        self.enrolled.shards.iter().map(|(_, shard)| (shard.clone(), load(shard.id))).collect()
    }

    /// A shard offers its service.
    pub(super) fn enrol(&mut self, now: Duration, peer: PeerId, enrolment: Enrolment) -> Result<(), Error> {
        if !matches!(self.state(peer)?, PeerState::Greeting) {
            return Err(Error::misbehaved("enrol instead of greeting", "a second greeting"));
        }
        let run = self.config.terms.run;
        let refusal = match () {
            () if !self.is_sharded() => Some((
                Later::Never,
                "this run has no shards (--topology sharded): its server tallies".to_owned(),
            )),
            () if enrolment.run.is_some_and(|it| it != run) => {
                let wanted = enrolment.run.unwrap_or_default();
                Some((Later::Never, format!("this is run {run}, the shard wants run {wanted}")))
            }
            () if matches!(self.phase, Phase::Finishing(_) | Phase::Done) => {
                Some((Later::Never, format!("the run is over: {}", self.finish_reason)))
            }
            () if self.enrolled.shards.len() >= MOST_SHARDS => {
                Some((Later::Again, format!("there are {MOST_SHARDS} shards already")))
            }
            () => None,
        };
        if let Some((later, reason)) = refusal {
            self.put_out(now, peer, later, &reason);
            return Ok(());
        }
        let Some(origin) = self.peers.get(&peer).map(|peer| peer.origin.clone()) else { return Ok(()) };
        self.enrolled.last += 1;
        let id = ShardId(self.enrolled.last);
        let name = origin.identity.map_or_else(|| super::members::printable(&enrolment.name), |it| it.name);
        let address = match enrolment.address.strip_prefix(':') {
            Some(port) if origin.address.contains(':') => format!("[{}]:{port}", origin.address),
            Some(port) => format!("{}:{port}", origin.address),
            None => super::members::printable(&enrolment.address),
        };
        self.set_state(now, peer, PeerState::Shard { id });
        let (round, there) = (self.at.round, self.enrolled.shards.len() + 1);
        self.event(Event::ShardJoined { shard: id, name: name.clone(), address: address.clone(), round });
        self.enrolled.shards.push((peer, ShardAddress { id, name, address }));
        self.charge(peer, id);
        if self.phase == Phase::Running && self.enrolled.sharding.positions().is_empty() {
            // The open round has waited for it. Otherwise it has its part from the next round on.
            self.reshard();
            self.tell_workers_of_shards();
            self.tell_shards();
        }
        if self.phase == Phase::Gathering && there <= self.shards_wanted() {
            self.start_if_all_are_there(now);
        }
        Ok(())
    }

    /// Tells a shard what it has to know, once the model is known.
    fn charge(&mut self, peer: PeerId, id: ShardId) {
        let Some(model) = &self.model else { return };
        let terms = &self.config.terms;
        let charge = Charge {
            id,
            run: terms.run,
            dimension: model.chunking.dimension() as u64,
            chunk_coordinates: terms.chunk_coordinates,
            workers: terms.workers,
            tie: self.config.tie,
            min_voters: self.config.min_voters,
            seed: terms.seed,
            quorum: self.config.quorum as u32,
            hashed: terms.signed,
        };
        self.send(peer, of_shards::charge(&charge));
        self.send(peer, of_shards::seats(&self.tickets()));
        if self.phase == Phase::Running {
            self.send(peer, of_shards::tally(&self.tally()));
        }
    }

    /// The model is known: those who came before it are told.
    pub(super) fn charge_all(&mut self) {
        for (peer, shard) in self.enrolled.shards.clone() {
            self.charge(peer, shard.id);
        }
    }

    fn tickets(&self) -> Vec<(Slot, Ticket)> {
        self.enrolled.tickets.iter().map(|(&slot, &ticket)| (slot, ticket)).collect()
    }

    fn tally(&self) -> Tally {
        Tally {
            round: self.at.round,
            expected: self.open.expected.clone(),
            deadline_passed: self.open.deadline_passed,
            feed: self.enrolled.relay.is_none(),
            sharding: self.enrolled.sharding.clone(),
        }
    }

    /// Tells every shard how the open round stands.
    pub(super) fn tell_shards(&mut self) {
        if self.phase == Phase::Running {
            let frame = of_shards::tally(&self.tally());
            self.send_to_shards(&frame);
        }
    }

    fn send_to_shards(&mut self, frame: &Bytes) {
        let peers: Vec<_> = self.enrolled.shards.iter().map(|&(peer, _)| peer).collect();
        peers.into_iter().for_each(|peer| self.send(peer, frame.clone()));
    }

    /// Tells every shard that nothing more comes.
    pub(super) fn dismiss_shards(&mut self, frame: &Bytes) {
        self.send_to_shards(frame);
        self.enrolled.sharding = Sharding::default();
        for (peer, _) in std::mem::take(&mut self.enrolled.shards) {
            self.peers.remove(&peer);
            self.outputs.push_back(Output::Close { peer });
        }
    }

    /// A worker has taken its place: the shards let it in from now on, and it learns where they are.
    pub(super) fn seat(&mut self, peer: PeerId, slot: Slot) {
        if !self.is_sharded() {
            return;
        }
        self.enrolled.given += 1;
        let mut hasher = blake3::Hasher::new_derive_key("signvote 2026-11 ticket");
        hasher.update(&self.config.secret).update(&self.enrolled.given.to_le_bytes());
        let mut ticket = Ticket::default();
        ticket.copy_from_slice(&hasher.finalize().as_bytes()[..size_of::<Ticket>()]);
        self.enrolled.tickets.insert(slot, ticket);
        let seats = of_shards::seats(&self.tickets());
        self.send_to_shards(&seats);
        self.tell_worker_of_shards(peer, slot);
    }

    /// A worker's place is free again.
    pub(super) fn unseat(&mut self, peer: PeerId, slot: Slot) {
        if !self.is_sharded() {
            return;
        }
        self.enrolled.tickets.remove(&slot);
        let seats = of_shards::seats(&self.tickets());
        self.send_to_shards(&seats);
        for complaints in self.enrolled.complaints.values_mut() {
            complaints.remove(slot);
        }
        if self.enrolled.relay == Some(peer) {
            // The shards have kept the open round's verdicts.
            self.enrolled.relay = None;
            self.tell_shards();
        }
    }

    fn tell_worker_of_shards(&mut self, peer: PeerId, slot: Slot) {
        let Some(&ticket) = self.enrolled.tickets.get(&slot) else { return };
        let shards = Shards {
            ticket,
            relays: self.enrolled.relay == Some(peer),
            addresses: self.enrolled.shards.iter().map(|(_, shard)| shard.clone()).collect(),
            sharding: self.enrolled.sharding.clone(),
        };
        self.send(peer, of_shards::shards(&shards));
    }

    fn tell_workers_of_shards(&mut self) {
        for (peer, slot) in self.active().collect::<Vec<_>>() {
            self.tell_worker_of_shards(peer, slot);
        }
    }

    /// Spreads the chunks over all shards that there are.
    fn reshard(&mut self) -> bool {
        let ids: Vec<_> = self.enrolled.shards.iter().map(|(_, shard)| shard.id).collect();
        let sharding = Sharding::over(&ids, self.replicas());
        let changes = sharding != self.enrolled.sharding;
        self.enrolled.sharding = sharding;
        changes
    }

    /// Who passes verdicts on: a worker on the server's own host, if there is one.
    fn choose_relay(&mut self) -> bool {
        let fit = |&(peer, slot): &(PeerId, Slot)| {
            let local = self.peers.get(&peer).is_some_and(|peer| peer.origin.local);
            local && !self.enrolled.not_relays.contains(&slot)
        };
        let relay = match self.enrolled.relay {
            Some(relay) if self.live().any(|(peer, _)| peer == relay) => Some(relay),
            _ => self.live().find(fit).map(|(peer, _)| peer),
        };
        let changes = relay != self.enrolled.relay;
        self.enrolled.relay = relay;
        changes
    }

    /// A round is open: everything is spread anew if shards have come or gone, and the shards are told.
    pub(super) fn open_at_shards(&mut self) {
        if !self.is_sharded() {
            return;
        }
        let (resharded, relayed) = (self.reshard(), self.choose_relay());
        if resharded || relayed {
            self.tell_workers_of_shards();
        }
        self.tell_shards();
    }

    fn shard_of(&self, peer: PeerId) -> Option<ShardId> {
        match self.peers.get(&peer)?.state {
            PeerState::Shard { id } => Some(id),
            _ => None,
        }
    }

    fn expect_shard(&self, peer: PeerId) -> Result<ShardId, Error> {
        self.shard_of(peer).ok_or_else(|| Error::misbehaved("tally as a shard only", "a worker's tally"))
    }

    /// Whether this is about the open round. A shard may be a word behind.
    fn concerns(&self, round: Round) -> bool {
        self.phase == Phase::Running && round == self.at.round
    }

    /// A shard has counted a chunk.
    pub(super) fn take_tallied(
        &mut self,
        now: Duration,
        peer: PeerId,
        tallied: Tallied,
    ) -> Result<(), Error> {
        let id = self.expect_shard(peer)?;
        let chunk = tallied.chunk as usize;
        if !self.concerns(tallied.round) || !self.enrolled.sharding.holds(id, chunk) {
            return Ok(());
        }
        let signed = self.config.terms.signed;
        let known = tallied.voters.iter().all(|(slot, ..)| slot.index() < self.members.len());
        let hashed = tallied.ballots.len() == if signed { tallied.voters.len() } else { 0 };
        let Some(state) = self.open.chunks.get_mut(chunk) else {
            return Err(Error::misbehaved("tally chunks that exist", format!("chunk {chunk}")));
        };
        if tallied.voters.len() < self.config.quorum || !known || !hashed {
            let details = format!("chunk {chunk} from {} voters", tallied.voters.len());
            return Err(Error::misbehaved("decide by a quorum of places", details));
        }
        if state.counted.reports.iter().any(|(known, _)| *known == id) {
            return Err(Error::misbehaved("tally a chunk once", format!("chunk {chunk}")));
        }
        state.counted.reports.push((id, tallied));
        self.settle(now, chunk);
        Ok(())
    }

    /// A verdict has come, from a shard or from the worker that passes them on.
    pub(super) fn take_verdict(
        &mut self,
        now: Duration,
        peer: PeerId,
        round: Round,
        chunk: usize,
        planes: PlaneBytes<'_>,
        frame: &[u8],
    ) -> Result<(), Error> {
        if !self.is_sharded() {
            return Err(Error::misbehaved("decide as a shard of the run only", "a verdict"));
        }
        let held = self.shard_of(peer).is_some_and(|id| self.enrolled.sharding.holds(id, chunk));
        if !self.concerns(round) || !(held || self.enrolled.relay == Some(peer)) {
            return Ok(());
        }
        self.make_step();
        let Some(model) = &mut self.model else { return Ok(()) };
        let Some(state) = self.open.chunks.get_mut(chunk) else {
            return Err(Error::misbehaved("decide chunks that exist", format!("chunk {chunk}")));
        };
        if state.decided.is_some() || state.counted.candidates.len() >= MOST_CANDIDATES {
            return Ok(());
        }
        let hash = model.ballots.stage(chunk, planes)?;
        if state.counted.candidates.iter().all(|(known, _)| *known != hash) {
            state.counted.candidates.push((hash, Bytes::copy_from_slice(frame)));
        }
        self.settle(now, chunk);
        Ok(())
    }

    /// Decides a chunk once its shards agree and the verdict is there.
    fn settle(&mut self, now: Duration, chunk: usize) {
        let holders = self.enrolled.sharding.holders(chunk).to_vec();
        let state = &mut self.open.chunks[chunk];
        if state.counted.agreed.is_none() {
            let report = |(id, it): &(ShardId, Tallied)| {
                let voters = it.voters.iter().map(|&(slot, ..)| slot).collect();
                Report { shard: *id, hash: it.hash, voters }
            };
            let reports: Vec<_> = state.counted.reports.iter().map(report).collect();
            let Some(agreed) = decision::agree(&reports, &holders) else { return };
            state.counted.agreed = Some(state.counted.reports[agreed].1.clone());
        }
        let Some(agreed) = state.counted.agreed.clone() else { return };
        self.name_the_outvoted(now, chunk, &agreed);
        let state = &mut self.open.chunks[chunk];
        if state.decided.is_some() {
            return;
        }
        let Some((_, frame)) = state.counted.candidates.iter().find(|(hash, _)| *hash == agreed.hash) else {
            if holders.len() == 1 && !state.counted.candidates.is_empty() {
                self.replace_relay(now, chunk);
            }
            return;
        };
        let frame = frame.clone();
        let disputed = state.counted.candidates.len() > 1
            || state.counted.reports.iter().any(|(_, report)| report.hash != agreed.hash);
        let Some(model) = &mut self.model else { return };
        // With one candidate it is what was staged last.
        if state.counted.candidates.len() > 1 && model.ballots.stage_frame(chunk, &frame).is_err() {
            return;
        }
        for (&(slot, ..), &hash) in agreed.voters.iter().zip(&agreed.ballots) {
            model.ballots.set_hash(slot, chunk, hash);
        }
        state.hash = agreed.hash;
        state.voted = agreed.voters.iter().map(|&(slot, ..)| slot).collect();
        state.decided = Some(frame);
        self.open.decided_by_shards(&agreed);
        for &(slot, agree, disagree) in &agreed.voters {
            let member = &mut self.members[slot.index()];
            member.agree += u64::from(agree);
            member.disagree += u64::from(disagree);
        }
        if disputed {
            self.broadcast(&of_shards::chosen(agreed.round, chunk, &agreed.hash));
        }
        self.commit_if_decided(now);
    }

    /// A shard whose verdict on the same ballots differs from that of the others counts falsely, or lies.
    fn name_the_outvoted(&mut self, now: Duration, chunk: usize, agreed: &Tallied) {
        let same_voters =
            |it: &Tallied| it.voters.iter().map(|it| it.0).eq(agreed.voters.iter().map(|it| it.0));
        let reports = self.open.chunks[chunk].counted.reports.iter();
        let liars: Vec<_> =
            reports.filter(|(_, it)| it.hash != agreed.hash && same_voters(it)).map(|&(id, _)| id).collect();
        for id in liars {
            let Some((peer, shard)) = self.enrolled.shards.iter().find(|(_, it)| it.id == id).cloned() else {
                continue;
            };
            let reason =
                format!("its verdict on chunk {chunk} is outvoted by the other shards that tally it");
            let round = self.at.round;
            self.event(Event::ShardOutvoted { shard: id, name: shard.name, round, reason: reason.clone() });
            self.put_out(now, peer, Later::Never, &reason);
        }
    }

    /// What was passed on is not what the shard has counted: the shards are asked themselves.
    fn replace_relay(&mut self, now: Duration, chunk: usize) {
        let Some(relay) = self.enrolled.relay.take() else {
            // It came from the shard itself, which says one thing and sends another.
            let holder = self.enrolled.sharding.holders(chunk).first().copied();
            let shard =
                self.enrolled.shards.iter().find(|(_, it)| Some(it.id) == holder).map(|&(peer, _)| peer);
            if let Some(shard) = shard {
                let details = format!("its verdict on chunk {chunk} is not the one whose hash it gave");
                self.offend(
                    now,
                    shard,
                    &Error::misbehaved("send the verdict that was counted", details).to_string(),
                );
            }
            return;
        };
        self.open.chunks[chunk].counted.candidates.clear();
        if let Some(slot) = self.slot_of(relay) {
            self.enrolled.not_relays.insert(slot);
            self.tell_worker_of_shards(relay, slot);
        }
        self.tell_shards();
    }

    /// A worker has cast all that it casts with a shard.
    pub(super) fn take_whole(
        &mut self,
        now: Duration,
        peer: PeerId,
        round: Round,
        slot: Slot,
    ) -> Result<(), Error> {
        self.expect_shard(peer)?;
        if self.concerns(round) && slot.index() < self.members.len() {
            let shards = self.enrolled.sharding.positions().len().min(self.open.chunks.len());
            self.open.whole_at_shard(now, slot, shards);
        }
        Ok(())
    }

    /// A shard says how many bytes it has carried.
    pub(super) fn take_carried(&mut self, peer: PeerId, rows: &[Carried]) -> Result<(), Error> {
        self.expect_shard(peer)?;
        for row in rows {
            if let Some(member) = self.members.get_mut(row.slot.index()) {
                member.shard_bytes.0 = member.shard_bytes.0.saturating_add(row.up_bytes);
                member.shard_bytes.1 = member.shard_bytes.1.saturating_add(row.down_bytes);
            }
        }
        Ok(())
    }

    /// Bytes of a worker's ballots and verdicts, by the word of the shards that have carried them: frames with their headers.
    pub fn carried_by_shards(&self, slot: Slot) -> (u64, u64) {
        self.members.get(slot.index()).map_or((0, 0), |member| member.shard_bytes)
    }

    /// A shard says that a worker has broken a rule.
    pub(super) fn take_accusation(
        &mut self,
        now: Duration,
        peer: PeerId,
        slot: Slot,
        reason: &str,
    ) -> Result<(), Error> {
        let shard = self.expect_shard(peer)?;
        let accused = self.active().find(|&(_, it)| it == slot).map(|(peer, _)| peer);
        // One of several that tally the same might lie.
        if let Some(accused) = accused.filter(|_| self.replicas() == 1) {
            self.offend(now, accused, &format!("at shard {shard}: {reason}"));
        }
        Ok(())
    }

    /// A worker does not get through to a shard. If more than half of all who vote say so, it is the shard.
    pub(super) fn take_complaint(
        &mut self,
        now: Duration,
        peer: PeerId,
        shard: ShardId,
        reason: &str,
    ) -> Result<(), Error> {
        let slot = self.active_slot(peer)?;
        let Some((at, _)) = self.enrolled.shards.iter().find(|(_, it)| it.id == shard).cloned() else {
            return Ok(());
        };
        let complaints = self.enrolled.complaints.entry(shard).or_default();
        complaints.insert(slot);
        let (count, all) = (complaints.len(), self.present());
        if count * 2 > all {
            let reason = format!("{count} of {all} workers do not get through to it: {reason}");
            self.put_out(now, at, Later::Again, &reason);
        }
        Ok(())
    }

    /// A shard is gone. What it held in the open round goes to the others, and is cast again.
    pub(super) fn lose_shard(&mut self, now: Duration, id: ShardId, reason: String) {
        let Some(index) = self.enrolled.shards.iter().position(|(_, shard)| shard.id == id) else { return };
        let (_, lost) = self.enrolled.shards.remove(index);
        self.enrolled.complaints.remove(&id);
        let left: Vec<_> = self.enrolled.shards.iter().map(|(_, shard)| shard.id).collect();
        let before = self.enrolled.sharding.clone();
        let moved = |chunk: &usize| before.holds(id, *chunk);
        let chunks: Vec<_> = (0..self.open.chunks.len()).filter(moved).collect();
        let open = chunks.iter().filter(|&&chunk| self.open.chunks[chunk].decided.is_none()).count();
        self.event(Event::ShardLost {
            shard: id,
            name: lost.name,
            round: self.at.round,
            chunks: open,
            reason,
        });
        self.enrolled.sharding = before.without(id, &left);
        if self.phase != Phase::Running {
            return;
        }
        let holders = |chunk: usize| self.enrolled.sharding.holders(chunk);
        for &chunk in &chunks {
            let state = &mut self.open.chunks[chunk];
            if state.decided.is_none() {
                state.counted.reports.retain(|(shard, _)| holders(chunk).contains(shard));
                state.counted.agreed = None;
                // Known by their hashes, those of several holders are good still.
                if before.holders(chunk).len() == 1 {
                    state.counted.candidates.clear();
                }
            }
        }
        self.tell_workers_of_shards();
        // What the workers hold of it is void now, and what was decided comes again.
        let decided: Vec<_> =
            chunks.iter().filter_map(|&chunk| self.open.chunks[chunk].decided.clone()).collect();
        decided.iter().for_each(|frame| self.broadcast(frame));
        self.tell_shards();
        chunks.into_iter().for_each(|chunk| self.settle(now, chunk));
    }
}
