//! Who is there: greetings, places, first parameters, farewells.

use std::time::Duration;

use super::ring::CatchUp;
use super::{Origin, Output, Phase, Server};
use crate::decision::{self, Admission, NoPlace, Place};
use crate::wire::{self, FloatBytes, Later, Start, feature, to_worker};
use crate::{
    Chunking, Digest, DigestTree, Error, Event, Identity, Layout, PeerId, Position, Round, RunId, Settings,
    ShardId, Slot, WorkerRecord,
};

/// One connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) origin: Origin,
    /// Those of its features that this server knows.
    pub(super) features: u64,
    /// Whether it takes its frames too slowly to be sent the next round as it happens.
    pub(super) congested: bool,
    /// What is told of its joining, until it has joined.
    pub(super) joins: Option<String>,
    pub(super) state: PeerState,
    /// When it is put out unless it has come further by then; `None` while it waits for others, or votes.
    pub(super) until: Option<Duration>,
}

impl Peer {
    pub(super) fn new(origin: Origin, until: Option<Duration>) -> Self {
        let state = PeerState::Greeting;
        Self { name: String::new(), origin, features: 0, congested: false, joins: None, state, until }
    }
}

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum PeerState {
    /// It has not said who it is.
    Greeting,
    /// It has a place, but nobody knows the model yet: another worker is bringing it.
    Waiting { slot: Slot, layout: [u8; 32], dimension: u64 },
    /// It is bringing the model.
    Offering { slot: Slot, layout: [u8; 32], dimension: u64, offer: Option<(Layout, Settings, Vec<f32>)> },
    /// It is making its own first parameters.
    Comparing { slot: Slot },
    /// It tallies.
    Shard { id: ShardId },
    /// It may vote, once it is no longer behind.
    Active { slot: Slot, behind: Option<CatchUp> },
}

impl PeerState {
    pub(super) fn slot(&self) -> Option<Slot> {
        match *self {
            Self::Greeting | Self::Shard { .. } => None,
            Self::Waiting { slot, .. }
            | Self::Offering { slot, .. }
            | Self::Comparing { slot }
            | Self::Active { slot, .. } => Some(slot),
        }
    }

    pub(super) fn is_active(&self) -> bool {
        matches!(self, Self::Active { .. })
    }
}

/// One place, over all the connections that held it.
#[derive(Debug, Default)]
pub(super) struct Member {
    pub(super) name: String,
    /// Whose place it is.
    pub(super) identity: Option<Identity>,
    /// Deadlines that it missed.
    pub(super) missed: u32,
    /// While it is not waited for: rounds in a row in which it voted in time all the same.
    pub(super) probation: Option<u64>,
    pub(super) agree: u64,
    pub(super) disagree: u64,
    /// The last two, when they were last told in an event.
    pub(super) votes_told: (u64, u64),
    pub(super) rounds: u64,
    /// Rounds that were committed while a worker was there.
    pub(super) present: u64,
    pub(super) late_chunks: u64,
    /// Bytes from and to it that shards have carried.
    pub(super) shard_bytes: (u64, u64),
    /// How many of those the event log knows of.
    pub(super) late_told: u64,
    /// The round at whose start its present occupant was last sent the state because its digest differed.
    pub(super) resent: Option<Round>,
    /// Digest after the last round.
    pub(super) final_digest: Option<Digest>,
    /// The running statistics of its model after the last round.
    pub(super) statistics: Option<Vec<f32>>,
    /// Whether a worker was there when the run finished.
    pub(super) at_the_end: bool,
}

impl Member {
    /// It was waited for in vain, and is not waited for until it has proved itself.
    pub(super) fn miss(&mut self) {
        self.missed = self.missed.saturating_add(1);
        self.probation = Some(0);
    }

    /// How its votes since the last call agreed with the verdict.
    pub(super) fn agreement_of_late(&mut self) -> Option<f64> {
        let (agree, disagree) = std::mem::replace(&mut self.votes_told, (self.agree, self.disagree));
        share(self.agree - agree, self.disagree - disagree)
    }

    pub(super) fn record(&self, slot: Slot) -> WorkerRecord {
        WorkerRecord {
            slot,
            name: self.name.clone(),
            agreement: share(self.agree, self.disagree),
            rounds: self.rounds,
            present: self.present,
            late_chunks: self.late_chunks,
        }
    }
}

/// Agreeing votes over all; `None` without any.
fn share(agree: u64, disagree: u64) -> Option<f64> {
    let votes = agree + disagree;
    (votes > 0).then(|| agree as f64 / votes as f64)
}

/// What a newcomer says of itself.
pub(super) struct Hello {
    pub(super) features: u64,
    pub(super) run: Option<RunId>,
    pub(super) layout: [u8; 32],
    pub(super) dimension: u64,
    pub(super) wanted: Option<u16>,
    pub(super) name: String,
    pub(super) position: Option<Position>,
}

impl Server {
    /// Everyone who may vote, with its place, by connection.
    pub(super) fn active(&self) -> impl Iterator<Item = (PeerId, Slot)> + '_ {
        self.peers.iter().filter_map(|(&peer, it)| match it.state {
            PeerState::Active { slot, .. } => Some((peer, slot)),
            _ => None,
        })
    }

    /// Everyone who may vote and keeps up.
    pub(super) fn live(&self) -> impl Iterator<Item = (PeerId, Slot)> + '_ {
        self.peers.iter().filter_map(|(&peer, it)| match it.state {
            PeerState::Active { slot, behind: None } => Some((peer, slot)),
            _ => None,
        })
    }

    pub(super) fn active_slot(&self, peer: PeerId) -> Result<Slot, Error> {
        match self.peers.get(&peer).map(|peer| &peer.state) {
            Some(&PeerState::Active { slot, .. }) => Ok(slot),
            _ => Err(Error::misbehaved("join before voting", "it has not joined yet")),
        }
    }

    pub(super) fn greet(&mut self, now: Duration, peer: PeerId, hello: Hello) -> Result<(), Error> {
        if !matches!(self.state(peer)?, PeerState::Greeting) {
            return Err(Error::misbehaved("greet once", "a second greeting"));
        }
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.name = printable(&hello.name);
            peer.features = hello.features & feature::ALL;
        }
        let slot = match self.place_for(peer, &hello) {
            Ok(slot) => slot,
            Err(NoPlace { reason, later }) => {
                self.put_out(now, peer, later, &reason);
                return Ok(());
            }
        };
        self.bind(peer, slot);
        // A worker that has seen anything committed, or has anything to be told, only has to listen.
        if self.model.is_some() && (hello.position.is_some() || self.phase == Phase::Running) {
            self.welcome(peer, slot, Start::Follow);
            let (behind, reason) = self.way_back(hello.position);
            self.activate(now, peer, slot, behind, reason);
            return Ok(());
        }
        let state = if self.model.is_some() {
            self.welcome(peer, slot, Start::Compare);
            PeerState::Comparing { slot }
        } else if self.peers.values().any(|peer| matches!(peer.state, PeerState::Offering { .. })) {
            self.send(peer, to_worker::wait("another worker is bringing the model"));
            PeerState::Waiting { slot, layout: hello.layout, dimension: hello.dimension }
        } else {
            self.welcome(peer, slot, Start::Offer);
            PeerState::Offering { slot, layout: hello.layout, dimension: hello.dimension, offer: None }
        };
        self.set_state(now, peer, state);
        Ok(())
    }

    /// Tells a peer its place, and the terms.
    fn welcome(&mut self, peer: PeerId, slot: Slot, start: Start) {
        let features = self.peers.get(&peer).map_or(0, |peer| peer.features);
        self.send(peer, to_worker::welcome(features, slot, start, &self.config.terms));
    }

    /// Somebody asks how the run stands.
    pub(super) fn ask(&mut self, peer: PeerId, bytes: u32) -> Result<(), Error> {
        if !matches!(self.state(peer)?, PeerState::Greeting) {
            return Err(Error::misbehaved("ask instead of greeting", "a question from a worker"));
        }
        self.peers.remove(&peer);
        let bytes = (bytes as usize).min(wire::MAX_STATUS_BYTES);
        self.outputs.push_back(Output::Status { peer, bytes });
        self.outputs.push_back(Output::Close { peer });
        Ok(())
    }

    /// The place for a newcomer, or the reason why there is none. Puts out a connection that it replaces.
    fn place_for(&mut self, peer: PeerId, hello: &Hello) -> Result<Slot, NoPlace> {
        let never = |reason| Err(NoPlace { reason, later: Later::Never });
        if let Some(run) = hello.run.filter(|&run| run != self.config.terms.run) {
            return never(format!("this is run {}, the worker wants run {run}", self.config.terms.run));
        }
        // Whoever has seen a part of this very history is still told the rest, and the end.
        let ending = matches!(self.phase, Phase::Finishing(_));
        let seen = |position: Position| self.chain_at(position.round) == Some(position.chain);
        if self.phase == Phase::Done || ending && !hello.position.is_some_and(seen) {
            return never(format!("the run is over: {}", self.finish_reason));
        }
        let dimension = hello.dimension;
        match &self.model {
            Some(model) if model.layout_digest != hello.layout => return never(self.other_model(dimension)),
            None if dimension == 0 || dimension > self.config.max_dimension as u64 => {
                let most = self.config.max_dimension;
                return never(format!(
                    "a model here has 1 to {most} coordinates, the worker's has {dimension}"
                ));
            }
            _ => {}
        }
        let identity = self.peers.get(&peer).and_then(|peer| peer.origin.identity.as_ref());
        let mut places: Vec<_> = self
            .members
            .iter()
            .enumerate()
            .map(|(index, member)| Place {
                // Who has confirmed the end has gone.
                taken: ending && member.final_digest.is_some(),
                owner: member.identity.as_ref().map(|identity| identity.name.as_str()),
                voted: self.open.chunks.iter().any(|chunk| chunk.voted.contains(Slot::from_index(index))),
            })
            .collect();
        self.peers
            .values()
            .filter_map(|peer| peer.state.slot())
            .for_each(|slot| places[slot.index()].taken = true);
        let name = identity.map(|identity| identity.name.as_str());
        match decision::admit(&places, name, hello.wanted, self.config.second)? {
            Admission::Take(index) => Ok(Slot::from_index(index)),
            Admission::Replace(index) => {
                let slot = Slot::from_index(index);
                let first = self.peers.iter().find(|(_, peer)| peer.state.slot() == Some(slot));
                if let Some((&first, _)) = first {
                    self.replace(first);
                }
                Ok(slot)
            }
        }
    }

    /// Ends a connection whose identity has come back on another one. Nobody hears that it left: it did not, and
    /// what it has voted stands.
    fn replace(&mut self, first: PeerId) {
        let reason = "another connection of the same identity has replaced this one";
        self.send(first, to_worker::refused(Later::Never, reason));
        self.outputs.push_back(Output::Close { peer: first });
        self.peers.remove(&first);
    }

    /// Makes the place that of the peer's identity, if it has one.
    fn bind(&mut self, peer: PeerId, slot: Slot) {
        let Some(identity) = self.peers.get(&peer).and_then(|peer| peer.origin.identity.clone()) else {
            return;
        };
        let member = &mut self.members[slot.index()];
        if member.identity.as_ref() != Some(&identity) {
            member.identity = Some(identity.clone());
            // What another key has signed proves nothing of this one.
            self.open.seals.retain(|&(known, _)| known != slot);
            self.outputs.push_back(Output::Bound { slot, identity });
        }
    }

    fn other_model(&self, dimension: u64) -> String {
        let known = self.model.as_ref();
        let d = known.map_or(0, |model| model.layout.dimension());
        let name = known.and_then(|model| model.settings.value("model")).unwrap_or("a model");
        format!("this run trains {name} with {d} coordinates, the worker has another model, with {dimension}")
    }

    pub(super) fn take_layout(
        &mut self,
        peer: PeerId,
        layout: Layout,
        settings: Settings,
    ) -> Result<(), Error> {
        let PeerState::Offering { layout: announced, dimension, offer: offer @ None, .. } =
            self.state_mut(peer)?
        else {
            return Err(Error::misbehaved("bring a model only when asked", "a layout"));
        };
        if layout.digest() != *announced || layout.dimension() as u64 != *dimension {
            return Err(Error::misbehaved("bring the model that was announced", "another layout"));
        }
        // Nothing reserved: memory is given as parameters arrive, not as they are announced.
        *offer = Some((layout, settings, Vec::new()));
        Ok(())
    }

    pub(super) fn take_values(
        &mut self,
        now: Duration,
        peer: PeerId,
        chunk: u32,
        values: FloatBytes<'_>,
    ) -> Result<(), Error> {
        let chunk_coordinates = self.config.terms.chunk_coordinates as usize;
        let PeerState::Offering { offer: Some((layout, _, x)), .. } = self.state_mut(peer)? else {
            return Err(Error::misbehaved("bring parameters only when asked", "parameters"));
        };
        let chunking = Chunking::new(layout.dimension(), chunk_coordinates)
            .ok_or_else(|| Error::incompatible("model", "fewer than 2³² chunks", layout.dimension()))?;
        let range = chunking.coordinates(chunk as usize);
        if range.start != x.len() || range.is_empty() {
            return Err(Error::misbehaved("bring parameters in order", format!("chunk {chunk}")));
        }
        x.resize(range.end, 0.0);
        values.read(&mut x[range])?;
        // A large model over a slow link takes its time: only standing still is too long.
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.until = Some(now.saturating_add(self.config.joining_timeout));
        }
        Ok(())
    }

    pub(super) fn ready(&mut self, now: Duration, peer: PeerId, digest: Digest) -> Result<(), Error> {
        let slot = match self.state_mut(peer)? {
            PeerState::Comparing { slot } => *slot,
            PeerState::Offering { slot, offer, .. } => {
                let slot = *slot;
                let Some((layout, settings, x)) = offer.take() else {
                    return Err(Error::misbehaved("bring a model when asked", "none"));
                };
                if DigestTree::new(&x).root() != digest {
                    return Err(Error::misbehaved("bring the parameters of the digest", "others"));
                }
                self.adopt(layout, x, settings)?;
                self.activate(now, peer, slot, None, "it brought the first parameters".into());
                self.welcome_waiting(now);
                return Ok(());
            }
            _ => return Err(Error::misbehaved("be ready once, when welcomed", "ready")),
        };
        let same = self.phase == Phase::Gathering && self.digests.back() == Some(&(Round(0), digest));
        let (behind, reason) =
            if same { (None, "its first parameters equal the server's".into()) } else { self.way_back(None) };
        self.activate(now, peer, slot, behind, reason);
        Ok(())
    }

    /// Those who waited for the model are welcomed, or learn that theirs is another.
    fn welcome_waiting(&mut self, now: Duration) {
        let Some(known) = self.model.as_ref().map(|model| model.layout_digest) else { return };
        let waiting: Vec<_> = self
            .peers
            .iter()
            .filter_map(|(&peer, it)| match it.state {
                PeerState::Waiting { slot, layout, dimension } => Some((peer, slot, layout, dimension)),
                _ => None,
            })
            .collect();
        for (peer, slot, layout, dimension) in waiting {
            if layout == known {
                self.welcome(peer, slot, Start::Compare);
                self.set_state(now, peer, PeerState::Comparing { slot });
            } else {
                let reason = self.other_model(dimension);
                self.put_out(now, peer, Later::Never, &reason);
            }
        }
    }

    /// Gives a peer its place. If it is behind, it may vote once it has been brought up.
    fn activate(&mut self, now: Duration, peer: PeerId, slot: Slot, behind: Option<CatchUp>, reason: String) {
        self.set_state(now, peer, PeerState::Active { slot, behind });
        let name = self.peers.get(&peer).map(|peer| peer.name.clone()).unwrap_or_default();
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.joins = Some(reason);
        }
        let member = &mut self.members[slot.index()];
        member.name = name;
        member.final_digest = None;
        member.statistics = None;
        member.resent = None;
        self.greet_newcomer(slot);
        self.seat(peer, slot);
        if let Some(report) = self.open.reports.get_mut(slot.index()) {
            *report = None;
        }
        if self.is_behind(peer) {
            self.feed(now, peer);
        } else {
            self.arrive(now, peer, slot);
        }
    }

    /// Remembers that what a place has cast in the open round was cast by an earlier connection.
    pub(super) fn greet_newcomer(&mut self, slot: Slot) {
        if self.open.chunks.iter().any(|chunk| chunk.voted.contains(slot)) {
            self.open.newcomers.insert(slot);
        }
    }

    /// A peer is where the server is.
    pub(super) fn arrive(&mut self, now: Duration, peer: PeerId, slot: Slot) {
        let joins = self.peers.get_mut(&peer).and_then(|peer| Some((peer.name.clone(), peer.joins.take()?)));
        if let Some((name, reason)) = joins {
            self.event(Event::Joined { slot, name, round: self.at.round, reason });
        }
        match self.phase {
            Phase::Running => {
                self.send(peer, to_worker::open(self.at));
            }
            Phase::Gathering => {
                self.start_if_all_are_there(now);
            }
            Phase::Finishing(_) => {
                self.members[slot.index()].at_the_end = true;
                // Who comes back although it has been told does not put the end off.
                if self.untold.remove(slot) {
                    self.await_farewells(now);
                }
                self.send(peer, to_worker::finish(&self.finish_reason.clone()));
            }
            Phase::Done => {}
        }
    }

    /// Opens the first round once everyone is there, or tells those who wait who is missing.
    pub(super) fn start_if_all_are_there(&mut self, now: Duration) {
        let (there, all) = (self.live().count(), self.members.len());
        match self.missing_shards() {
            0 if there == all => self.start(now),
            0 => self.broadcast(&to_worker::wait(&format!("{there} of {all} workers are there"))),
            shards => self.broadcast(&to_worker::wait(&format!(
                "{there} of {all} workers are there, and {shards} shards are missing"
            ))),
        }
    }

    /// Connections that have not said who they are, the oldest first.
    pub fn strangers(&self) -> Vec<PeerId> {
        let greeting =
            |(&peer, it): (&PeerId, &Peer)| matches!(it.state, PeerState::Greeting).then_some(peer);
        self.peers.iter().filter_map(greeting).collect()
    }

    /// Somebody was turned away before there was a connection: its handshake failed, say.
    pub fn stranger(&mut self, now: Duration, address: &str, reason: &str) {
        let origin = Origin { address: address.to_owned(), ..Origin::default() }.key();
        if self.origins.kept_out(now, &origin).is_some() {
            self.origins.turned_away += 1;
            return;
        }
        self.tell_refused(now, &origin, String::new(), format!("{address}: {reason}"));
        self.count_offence(now, origin, reason);
    }

    /// Tells a peer why it has to go, and forgets it.
    pub(super) fn put_out(&mut self, now: Duration, peer: PeerId, later: Later, reason: &str) {
        if !self.peers.contains_key(&peer) {
            // It went with another one, whose parting has ended the run.
            return;
        }
        self.send(peer, to_worker::refused(later, reason));
        self.outputs.push_back(Output::Close { peer });
        self.part(now, peer, reason);
    }

    /// Puts out a peer that has broken a rule, and remembers that of where it comes from.
    pub(super) fn offend(&mut self, now: Duration, peer: PeerId, reason: &str) {
        let Some(origin) = self.peers.get(&peer).map(|peer| peer.origin.key()) else { return };
        // Before its parting, which may end the run: nothing follows `Output::Done`.
        self.count_offence(now, origin, reason);
        self.put_out(now, peer, Later::Again, reason);
    }

    pub(super) fn count_offence(&mut self, now: Duration, origin: String, reason: &str) {
        if let Some(kept_out) = self.origins.offend(now, &origin, self.config.patience) {
            let reason = reason.to_owned();
            self.event(Event::KeptOut { origin, seconds: kept_out.as_secs_f64(), reason });
        }
    }

    /// Forgets a peer. Its place is free again, and nobody waits for its vote any more.
    pub(super) fn part(&mut self, now: Duration, peer: PeerId, reason: &str) {
        let Some(Peer { name, origin, state, joins, .. }) = self.peers.remove(&peer) else { return };
        let (origin, reason) = (origin.key(), reason.to_owned());
        match state {
            PeerState::Shard { id } => self.lose_shard(now, id, reason),
            PeerState::Active { slot, .. } => {
                self.unseat(peer, slot);
                match joins {
                    None => self.event(Event::Left { slot, name, round: self.at.round, reason }),
                    Some(_) => self.tell_refused(now, &origin, name, reason),
                }
                match self.phase {
                    Phase::Running => {
                        self.open.expected.remove(slot);
                        self.close_chunks(now);
                    }
                    _ => self.end_if_all_are_told(),
                }
            }
            PeerState::Offering { .. } => {
                self.tell_refused(now, &origin, name, reason);
                self.ask_next_for_model(now);
            }
            _ => self.tell_refused(now, &origin, name, reason),
        }
    }

    /// Says that somebody was not let in, unless that has been said often enough of where it comes from: whoever tries
    /// again and again must not fill the log.
    fn tell_refused(&mut self, now: Duration, origin: &str, name: String, reason: String) {
        if self.origins.is_news(now, origin, self.config.patience) {
            self.event(Event::Refused { name, reason });
        }
    }

    /// Who was bringing the model is gone: the next one in line is asked.
    fn ask_next_for_model(&mut self, now: Duration) {
        let next = self.peers.iter().find_map(|(&peer, it)| match it.state {
            PeerState::Waiting { slot, layout, dimension } => Some((peer, slot, layout, dimension)),
            _ => None,
        });
        let gathering = self.phase == Phase::Gathering && self.model.is_none();
        if let (true, Some((peer, slot, layout, dimension))) = (gathering, next) {
            self.welcome(peer, slot, Start::Offer);
            self.set_state(now, peer, PeerState::Offering { slot, layout, dimension, offer: None });
        }
    }

    pub(super) fn state(&self, peer: PeerId) -> Result<&PeerState, Error> {
        self.peers.get(&peer).map(|peer| &peer.state).ok_or_else(gone)
    }

    fn state_mut(&mut self, peer: PeerId) -> Result<&mut PeerState, Error> {
        self.peers.get_mut(&peer).map(|peer| &mut peer.state).ok_or_else(gone)
    }

    pub(super) fn set_state(&mut self, now: Duration, peer: PeerId, state: PeerState) {
        let moving = matches!(
            state,
            PeerState::Offering { .. }
                | PeerState::Comparing { .. }
                | PeerState::Active { behind: Some(_), .. }
        );
        let until = moving.then(|| now.saturating_add(self.config.joining_timeout));
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.state = state;
            peer.until = until;
        }
    }
}

/// A text from a peer without what would move a cursor, colour a terminal or begin a new line in a log.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn gone() -> Error {
    Error::Misuse("this connection has ended".into())
}
