//! Who is there: greetings, places, first parameters, farewells.

use std::time::Duration;

use super::{Output, Phase, Server};
use crate::wire::{FloatBytes, Start, to_server, to_worker};
use crate::{
    Chunking, Digest, DigestTree, Error, Event, Layout, PeerId, Round, RunId, Settings, Slot, WorkerRecord,
    decision,
};

/// One connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) state: PeerState,
    /// When it is put out unless it has come further by then; `None` while it waits for others, or votes.
    pub(super) until: Option<Duration>,
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
    /// It may vote.
    Active { slot: Slot },
}

impl PeerState {
    pub(super) fn slot(&self) -> Option<Slot> {
        match *self {
            Self::Greeting => None,
            Self::Waiting { slot, .. }
            | Self::Offering { slot, .. }
            | Self::Comparing { slot }
            | Self::Active { slot } => Some(slot),
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
    pub(super) agree: u64,
    pub(super) disagree: u64,
    pub(super) rounds: u64,
    /// Rounds that were committed while a worker was there.
    pub(super) present: u64,
    pub(super) late_chunks: u64,
    /// How many of those the event log knows of.
    pub(super) late_told: u64,
    /// The round at whose start its present occupant was last sent the state because its digest differed.
    pub(super) resent: Option<Round>,
    /// Digest after the last round.
    pub(super) final_digest: Option<Digest>,
    /// Whether a worker was there when the run finished.
    pub(super) at_the_end: bool,
}

impl Member {
    pub(super) fn record(&self, slot: Slot) -> WorkerRecord {
        let votes = self.agree + self.disagree;
        WorkerRecord {
            slot,
            name: self.name.clone(),
            agreement: (votes > 0).then(|| self.agree as f64 / votes as f64),
            rounds: self.rounds,
            present: self.present,
            late_chunks: self.late_chunks,
        }
    }
}

/// What a newcomer says of itself.
pub(super) struct Hello {
    pub(super) run: Option<RunId>,
    pub(super) layout: [u8; 32],
    pub(super) dimension: u64,
    pub(super) wanted: Option<u16>,
    pub(super) name: String,
}

impl Server {
    /// Everyone who may vote, with its place, by connection.
    pub(super) fn active(&self) -> impl Iterator<Item = (PeerId, Slot)> + '_ {
        self.peers.iter().filter_map(|(&peer, it)| match it.state {
            PeerState::Active { slot } => Some((peer, slot)),
            _ => None,
        })
    }

    pub(super) fn active_slot(&self, peer: PeerId) -> Result<Slot, Error> {
        match self.peers.get(&peer).map(|peer| &peer.state) {
            Some(&PeerState::Active { slot }) => Ok(slot),
            _ => Err(Error::misbehaved("join before voting", "it has not joined yet")),
        }
    }

    pub(super) fn greet(&mut self, now: Duration, peer: PeerId, hello: Hello) -> Result<(), Error> {
        if !matches!(self.state(peer)?, PeerState::Greeting) {
            return Err(Error::misbehaved("greet once", "a second greeting"));
        }
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.name = printable(&hello.name);
        }
        let slot = match self.place_for(&hello) {
            Ok(slot) => slot,
            Err(reason) => {
                self.put_out(now, peer, &reason);
                return Ok(());
            }
        };
        let state = if self.model.is_some() {
            self.send(peer, to_worker::welcome(slot, Start::Compare, &self.config.terms));
            PeerState::Comparing { slot }
        } else if self.peers.values().any(|peer| matches!(peer.state, PeerState::Offering { .. })) {
            PeerState::Waiting { slot, layout: hello.layout, dimension: hello.dimension }
        } else {
            self.send(peer, to_worker::welcome(slot, Start::Offer, &self.config.terms));
            PeerState::Offering { slot, layout: hello.layout, dimension: hello.dimension, offer: None }
        };
        self.set_state(now, peer, state);
        Ok(())
    }

    /// The place for a newcomer, or the reason why there is none.
    fn place_for(&self, hello: &Hello) -> Result<Slot, String> {
        if let Some(run) = hello.run.filter(|&run| run != self.config.terms.run) {
            return Err(format!("this is run {}, the worker wants run {run}", self.config.terms.run));
        }
        if matches!(self.phase, Phase::Finishing(_) | Phase::Done) {
            return Err(format!("the run is over: {}", self.finish_reason));
        }
        let dimension = hello.dimension;
        match &self.model {
            Some(model) if model.layout_digest != hello.layout => return Err(self.other_model(dimension)),
            None if dimension == 0 || dimension > self.config.max_dimension as u64 => {
                let most = self.config.max_dimension;
                return Err(format!(
                    "a model here has 1 to {most} coordinates, the worker's has {dimension}"
                ));
            }
            _ => {}
        }
        let mut taken = vec![false; self.members.len()];
        self.peers.values().filter_map(|peer| peer.state.slot()).for_each(|slot| taken[slot.index()] = true);
        decision::admit(&taken, hello.wanted).map(Slot::from_index)
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
                self.activate(now, peer, slot, "it brought the first parameters");
                self.welcome_waiting(now);
                return Ok(());
            }
            _ => return Err(Error::misbehaved("be ready once, when welcomed", "ready")),
        };
        let same = self.phase == Phase::Gathering && self.digests.back() == Some(&(Round(0), digest));
        if same {
            self.activate(now, peer, slot, "its first parameters equal the server's");
        } else {
            self.send_state(peer);
            let reason = format!("it took the server's state at round {}", self.round);
            self.activate(now, peer, slot, &reason);
        }
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
                self.send(peer, to_worker::welcome(slot, Start::Compare, &self.config.terms));
                self.set_state(now, peer, PeerState::Comparing { slot });
            } else {
                let reason = self.other_model(dimension);
                self.put_out(now, peer, &reason);
            }
        }
    }

    fn activate(&mut self, now: Duration, peer: PeerId, slot: Slot, reason: &str) {
        self.set_state(now, peer, PeerState::Active { slot });
        let name = self.peers.get(&peer).map(|peer| peer.name.clone()).unwrap_or_default();
        self.members[slot.index()].name.clone_from(&name);
        self.members[slot.index()].final_digest = None;
        self.members[slot.index()].resent = None;
        self.event(Event::Joined { slot, name, round: self.round, reason: reason.to_owned() });
        match self.phase {
            Phase::Running => {
                self.open.newcomers.insert(slot);
                self.open.reports[slot.index()] = None;
                self.send(peer, to_worker::open(self.round, self.incarnation, self.chain));
            }
            Phase::Gathering if self.present() == self.members.len() => self.start(now),
            _ => {}
        }
    }

    /// Sends x at the start of the open round, and what the round has decided so far.
    pub(super) fn send_state(&mut self, peer: PeerId) {
        let Some(model) = &self.model else { return };
        let mut frames = vec![to_worker::state(self.round, self.incarnation, self.chain)];
        for chunk in 0..model.chunking.count() {
            frames.push(to_server::values(chunk, &model.x[model.chunking.coordinates(chunk)]));
        }
        frames.extend(self.open.chunks.iter().filter_map(|chunk| chunk.decided.clone()));
        for frame in frames {
            self.send(peer, frame);
        }
    }

    /// Tells a peer why it has to go, and forgets it.
    pub(super) fn put_out(&mut self, now: Duration, peer: PeerId, reason: &str) {
        self.send(peer, to_worker::refused(reason));
        self.outputs.push_back(Output::Close { peer });
        self.part(now, peer, reason);
    }

    /// Forgets a peer. Its place is free again, and nobody waits for its vote any more.
    pub(super) fn part(&mut self, now: Duration, peer: PeerId, reason: &str) {
        let Some(Peer { name, state, .. }) = self.peers.remove(&peer) else { return };
        let reason = reason.to_owned();
        match state {
            PeerState::Active { slot } => {
                self.event(Event::Left { slot, name, round: self.round, reason });
                match self.phase {
                    Phase::Running => {
                        self.open.expected.remove(slot);
                        self.close_chunks(now);
                    }
                    Phase::Finishing(_) if self.present() == 0 => self.done(),
                    _ => {}
                }
            }
            PeerState::Offering { .. } => {
                self.event(Event::Refused { name, reason });
                self.ask_next_for_model(now);
            }
            _ => self.event(Event::Refused { name, reason }),
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
            self.send(peer, to_worker::welcome(slot, Start::Offer, &self.config.terms));
            self.set_state(now, peer, PeerState::Offering { slot, layout, dimension, offer: None });
        }
    }

    fn state(&self, peer: PeerId) -> Result<&PeerState, Error> {
        self.peers.get(&peer).map(|peer| &peer.state).ok_or_else(gone)
    }

    fn state_mut(&mut self, peer: PeerId) -> Result<&mut PeerState, Error> {
        self.peers.get_mut(&peer).map(|peer| &mut peer.state).ok_or_else(gone)
    }

    fn set_state(&mut self, now: Duration, peer: PeerId, state: PeerState) {
        let moving = matches!(state, PeerState::Offering { .. } | PeerState::Comparing { .. });
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
