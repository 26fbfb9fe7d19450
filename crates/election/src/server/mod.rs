//! The server's side of an election: who is there, what they voted, what was decided.
//!
//! Feed it with [`Server::connected`], [`Server::handle`], [`Server::disconnected`] and
//! [`Server::handle_timeout`]; after each call take [`Server::poll`] until it is empty, and ask
//! [`Server::next_timeout`] when to call `handle_timeout`. Time is a `Duration` since any fixed start.
//!
//! Queues are the shell's: it tells [`Server::drained`] when all that was sent to a peer is on its way, and
//! [`Server::congested`] when too much waits. Who is behind is then fed in pieces, from the ring of recent verdicts
//! or with a snapshot, while the others go on.

mod catch_up;
mod config;
mod members;
mod origins;
mod resume;
mod ring;
mod rounds;
mod shards;
mod statistics;
mod status;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use std::sync::Arc;

use crate::ballots::{Ballots, Piece};
use crate::chain::ChainHash;
use crate::wire::{self, Later, ToServer, to_worker};
use crate::{
    AggregateKind, Charter, Chunking, Digest, DigestTree, Error, Event, Identity, Layout, PeerId, Position,
    Record, Round, Settings, Slot, SlotSet, Steps, WorkerRecord, hexadecimal,
};
use members::{Member, Peer, PeerState};
use origins::Origins;
use ring::{Ring, Shared};
use rounds::OpenRound;
use shards::Enrolled;

pub use config::Config;
pub use origins::Patience;
pub use resume::Saved;
pub use statistics::Statistics;
pub use status::{ShardStatus, Status, WorkerState, WorkerStatus};

/// Where a connection comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Its address, without the port.
    pub address: String,
    /// Who it is, if it has proved that.
    pub identity: Option<Identity>,
    /// Whether it is the host that the server is on.
    pub local: bool,
}

impl Origin {
    /// What offences are counted under: the identity, or the address where there is none.
    fn key(&self) -> String {
        match &self.identity {
            Some(identity) => format!("identity {}", identity.name),
            None => format!("address {}", self.address),
        }
    }
}

/// What the shell has to do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Output {
    /// Send this frame. Frames to one peer go out in order.
    Send {
        /// To whom.
        peer: PeerId,
        /// The frame, its length included; shared between the peers of a broadcast.
        frame: Bytes,
    },
    /// Send what is queued for this peer, then close its connection. The peer is forgotten.
    Close {
        /// Whose.
        peer: PeerId,
    },
    /// Something to record.
    Event(Event),
    /// A round was decided. Under a durable log nothing behind this may be sent before it is on disk.
    Record(Arc<Record>),
    /// An identity was bound to a place.
    Bound {
        /// The place.
        slot: Slot,
        /// Whose it is from now on.
        identity: Identity,
    },
    /// A peer asks how the run stands: send it [`Server::status`] as a [`wire::status`] frame, then close.
    Status {
        /// Who.
        peer: PeerId,
        /// How many bytes it shall be padded to.
        bytes: usize,
    },
    /// The run is over and nobody is left to serve.
    Done,
}

/// Where the run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Before the first round: workers are missing.
    Gathering,
    Running,
    /// Finish was said; the last digests are coming in until then.
    Finishing(Duration),
    Done,
}

/// The model of a run, once it is known.
#[derive(Debug)]
struct Model {
    layout: Layout,
    layout_digest: [u8; 32],
    settings: Settings,
    steps: Steps,
    x: Vec<f32>,
    chunking: Chunking,
    ballots: Ballots,
}

/// The server's state machine.
#[derive(Debug)]
pub struct Server {
    config: Config,
    phase: Phase,
    model: Option<Model>,
    at: Position,
    peers: BTreeMap<PeerId, Peer>,
    members: Vec<Member>,
    open: OpenRound,
    /// η and λ of the last commit, until x has made its step.
    step: Option<(f32, f32)>,
    ring: Ring,
    shared: Shared,
    enrolled: Enrolled,
    origins: Origins,
    /// From opening to the Q-th ballot, in recent rounds.
    arrivals: VecDeque<Duration>,
    /// Set once the server is to go after the open round: until when it waits for that, and why it goes.
    pausing: Option<(Duration, String)>,
    last_reason: String,
    /// Digests of x after recent rounds, newest last: workers may be a little behind.
    digests: VecDeque<(Round, Digest)>,
    finish_reason: String,
    statistics: Option<Statistics>,
    /// Who voted in the last round and is not there to hear that it was that: it comes back, or the time for that is over.
    untold: SlotSet,
    outputs: VecDeque<Output>,
}

impl Server {
    /// A server before its first worker.
    ///
    /// # Errors
    /// If the configuration contradicts itself.
    pub fn new(mut config: Config) -> Result<Self, Error> {
        config.check()?;
        let initial = config.initial.take();
        let mut server = Self {
            phase: Phase::Gathering,
            model: None,
            at: Position::default(),
            peers: BTreeMap::new(),
            members: (0..config.terms.workers).map(|_| Member::default()).collect(),
            open: OpenRound::default(),
            step: None,
            ring: Ring::new(config.ring_bytes),
            shared: Shared::default(),
            enrolled: Enrolled::default(),
            origins: Origins::default(),
            arrivals: VecDeque::new(),
            pausing: None,
            last_reason: String::new(),
            digests: VecDeque::new(),
            finish_reason: String::new(),
            statistics: None,
            untold: SlotSet::default(),
            outputs: VecDeque::new(),
            config,
        };
        if let Some((layout, x, settings)) = initial {
            server.adopt(layout, x, settings)?;
        }
        Ok(server)
    }

    /// A peer has connected.
    pub fn connected(&mut self, now: Duration, peer: PeerId, origin: Origin) {
        let until = Some(now.saturating_add(self.config.greeting_timeout));
        let kept_out = self.origins.kept_out(now, &origin.key());
        self.peers.insert(peer, Peer::new(origin, until));
        if let Some(left) = kept_out {
            // Without an event: whoever hammers at the door must not fill the log.
            self.origins.turned_away += 1;
            self.peers.remove(&peer);
            let reason = format!("kept out for {} s more, for breaking rules", left.as_secs() + 1);
            self.send(peer, to_worker::refused(Later::Again, &reason));
            self.outputs.push_back(Output::Close { peer });
        }
    }

    /// A peer's connection has ended; `reason` is what the shell knows about it.
    pub fn disconnected(&mut self, now: Duration, peer: PeerId, reason: &str) {
        let stranger = self.peers.get(&peer).filter(|peer| matches!(peer.state, PeerState::Greeting));
        let origin = stranger.map(|peer| peer.origin.key());
        self.part(now, peer, reason);
        if let Some(origin) = origin {
            // It came and said nothing: a scan of ports does, and fills the log if nobody counts.
            self.count_offence(now, origin, reason);
        }
    }

    /// A peer has broken a rule of the shell, such as the length of a frame: it is told why, and put out.
    pub fn refuse(&mut self, now: Duration, peer: PeerId, reason: &str) {
        if self.peers.contains_key(&peer) {
            self.offend(now, peer, reason);
        }
    }

    /// A peer may no longer take part, through no fault of its connection: its certificate was revoked, say.
    pub fn expel(&mut self, now: Duration, peer: PeerId, reason: &str) {
        if self.peers.contains_key(&peer) {
            self.put_out(now, peer, Later::Never, reason);
        }
    }

    /// A whole frame, its length included, has come from a peer. Whoever breaks the protocol is put out.
    pub fn handle(&mut self, now: Duration, peer: PeerId, frame: &[u8]) {
        if !self.peers.contains_key(&peer) {
            // It was put out while this frame was on its way.
            return;
        }
        let received = self.receive(now, peer, frame);
        match received {
            Ok(()) => {}
            // Sound, but of another version: that is no offence.
            Err(error @ Error::Incompatible { .. }) => {
                self.put_out(now, peer, Later::Never, &error.to_string());
            }
            Err(error) => self.offend(now, peer, &error.to_string()),
        }
    }

    /// All that was sent to this peer is on its way.
    pub fn drained(&mut self, now: Duration, peer: PeerId) {
        self.feed(now, peer);
    }

    /// More waits for this peer than should. It gets the verdict of the open round, and what comes then when its
    /// queue has drained.
    pub fn congested(&mut self, peer: PeerId) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.congested = true;
        }
    }

    /// Whether [`Self::drained`] has anything to give to this peer.
    pub fn is_behind(&self, peer: PeerId) -> bool {
        matches!(
            self.peers.get(&peer).map(|peer| &peer.state),
            Some(PeerState::Active { behind: Some(_), .. })
        )
    }

    /// The time of [`Self::next_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Duration) {
        let overdue = |peer: &Peer| peer.until.is_some_and(|until| until <= now);
        let mute: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| overdue(peer))
            .map(|(&id, peer)| (id, peer.state.slot()))
            .collect();
        for (peer, slot) in mute {
            if slot.is_none() {
                let reason = format!("it did not say within {:?} who it is", self.config.greeting_timeout);
                self.offend(now, peer, &reason);
            } else {
                let reason = format!("its parameters did not come on for {:?}", self.config.joining_timeout);
                self.put_out(now, peer, Later::Again, &reason);
            }
        }
        if self.open.deadline.is_some_and(|deadline| deadline <= now) {
            self.open.deadline = None;
            self.open.deadline_passed = true;
            self.close_chunks(now);
        }
        if self.open.grace.is_some_and(|grace| grace <= now) {
            self.end_grace(now);
        }
        if self.open.seal_by.is_some_and(|seal_by| seal_by <= now) {
            self.put_out_unsealed(now);
        }
        if let Some((_, reason)) = self.pausing.take_if(|(until, _)| *until <= now) {
            self.go(&reason);
        }
        if matches!(self.phase, Phase::Finishing(until) if until <= now) {
            self.done();
        }
    }

    /// When [`Self::handle_timeout`] wants to be called, if ever.
    pub fn next_timeout(&self) -> Option<Duration> {
        let joining = self.peers.values().filter_map(|peer| peer.until);
        let farewell = match self.phase {
            Phase::Finishing(until) => Some(until),
            _ => None,
        };
        let pausing = self.pausing.as_ref().map(|&(until, _)| until);
        let open = [self.open.deadline, self.open.grace, self.open.seal_by];
        joining.chain(open.into_iter().flatten()).chain(farewell).chain(pausing).min()
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        let urgent = self.poll_urgent();
        if urgent.is_some() {
            return urgent;
        }
        self.make_step();
        self.outputs.pop_front()
    }

    /// The next thing to do, as long as that need not wait for x to have made the step of the last commit. The workers hear
    /// of a commit, and go on, while the server still moves its own copy; let what is sent get out before [`Self::poll`] gives
    /// the rest, if [`Self::is_step_due`].
    pub fn poll_urgent(&mut self) -> Option<Output> {
        let urgent = |output: &mut Output| {
            matches!(
                output,
                Output::Send { .. } | Output::Close { .. } | Output::Record(_) | Output::Bound { .. }
            )
        };
        self.outputs.pop_front_if(urgent)
    }

    /// Whether x has yet to make the step of the last commit.
    pub fn is_step_due(&self) -> bool {
        self.step.is_some()
    }

    /// Makes the step of the last commit, if that is still to be done.
    fn make_step(&mut self) {
        if let (Some((eta, lambda)), Some(model)) = (self.step.take(), &mut self.model) {
            let rates = model.steps.rates(&model.x, eta, lambda);
            model.ballots.apply(&mut model.x, &rates);
        }
    }

    /// Ends the run after the last committed round: everyone is told, and the last digests are awaited. Where they are awaited already,
    /// not any longer.
    pub fn stop(&mut self, now: Duration, reason: &str) {
        match self.phase {
            Phase::Gathering | Phase::Running => self.finish(now, reason),
            Phase::Finishing(_) => self.done(),
            Phase::Done => {}
        }
    }

    /// Ends this server but not the run: the open round is finished, unless that takes longer than `patience`;
    /// then everyone is told to come back.
    pub fn pause(&mut self, now: Duration, reason: &str, patience: Duration) {
        match self.phase {
            // Below the quorum the open round would be waited for in vain.
            Phase::Running if self.present() >= self.config.quorum && self.pausing.is_none() => {
                self.pausing = Some((now.saturating_add(patience), reason.to_owned()));
            }
            Phase::Gathering | Phase::Running => self.go(reason),
            // The run is over as it is: only last words are waited for.
            Phase::Finishing(_) => self.done(),
            Phase::Done => {}
        }
    }

    /// Ends this server at once, and takes back what it wanted to send: what is not sent has not happened, for
    /// the workers. For who could not keep a record that has to be kept.
    pub fn abandon(&mut self, reason: &str) {
        self.outputs.retain(|output| match output {
            Output::Close { .. } | Output::Bound { .. } => true,
            Output::Event(event) => {
                !matches!(event, Event::Committed { .. } | Event::Finished { .. } | Event::Paused { .. })
            }
            _ => false,
        });
        self.go(reason);
    }

    /// Longest frame that this peer may send, without its length.
    pub fn max_frame_bytes(&self, peer: PeerId) -> usize {
        match self.peers.get(&peer).map(|peer| &peer.state) {
            None | Some(PeerState::Greeting | PeerState::Waiting { .. }) => wire::MAX_HELLO_BYTES,
            Some(_) => wire::MAX_FRAME_BYTES,
        }
    }

    /// Layout, parameters and settings, once a worker has brought them. x is the state after the last commit, unless that is
    /// [due](Self::is_step_due).
    pub fn model(&self) -> Option<(&Layout, &[f32], &Settings)> {
        self.model.as_ref().map(|model| (&model.layout, &model.x[..], &model.settings))
    }

    /// What a worker is sent in a round, in bytes, without headers: a bit a coordinate where nothing is held, or all of it. 0 before
    /// the model is known.
    pub fn verdict_bytes(&self) -> usize {
        let coordinates = self.model.as_ref().map_or(0, |model| model.x.len());
        match self.config.terms.aggregate {
            AggregateKind::Vote => coordinates / 8,
            AggregateKind::Mean => coordinates * 4,
        }
    }

    /// The open round, which is also the number of rounds committed.
    pub fn round(&self) -> Round {
        self.at.round
    }

    /// What has been committed.
    pub fn position(&self) -> Position {
        self.at
    }

    /// What does not change in this run, once the model is known.
    pub fn charter(&self) -> Option<Charter> {
        let model = self.model.as_ref()?;
        Some(Charter {
            terms: self.config.terms.clone(),
            tie: self.config.tie,
            min_voters: self.config.min_voters,
            quorum: self.config.quorum as u32,
            layout: model.layout.clone(),
            settings: model.settings.clone(),
        })
    }

    /// The place of a peer, if it has one.
    pub fn slot_of(&self, peer: PeerId) -> Option<Slot> {
        self.peers.get(&peer).and_then(|peer| peer.state.slot())
    }

    /// Workers that may vote.
    pub fn present(&self) -> usize {
        self.active().count()
    }

    /// What is known of every place.
    pub fn records(&self) -> Vec<WorkerRecord> {
        self.members
            .iter()
            .enumerate()
            .map(|(index, member)| member.record(Slot::from_index(index)))
            .collect()
    }

    fn receive(&mut self, now: Duration, peer: PeerId, frame: &[u8]) -> Result<(), Error> {
        match ToServer::decode(frame)? {
            ToServer::Hello { run, layout, dimension, slot, name, position, features, version: _ } => {
                let wanted = (slot != 0).then_some(slot);
                self.greet(
                    now,
                    peer,
                    members::Hello { features, run, layout, dimension, wanted, name, position },
                )
            }
            ToServer::Ask { version: _, bytes } => self.ask(peer, bytes),
            ToServer::Init { layout, settings } => self.take_layout(peer, layout, settings),
            ToServer::Values { chunk, values } => self.take_values(now, peer, chunk, values),
            ToServer::Ready { digest } => self.ready(now, peer, digest),
            ToServer::Report { round, loss, correct, samples, non_finite } => {
                let slot = self.active_slot(peer)?;
                self.take_report(slot, round, rounds::Report { loss, correct, samples }, non_finite)
            }
            ToServer::Ballot { round, chunk, planes } => {
                let slot = self.active_slot(peer)?;
                if self.is_sharded() {
                    return Err(Error::misbehaved("cast with the shards", "a ballot for the server"));
                }
                self.expect_aggregate(AggregateKind::Vote)?;
                self.take_ballot(now, slot, round, chunk as usize, Piece::Planes(planes))
            }
            ToServer::Gradient { round, chunk, values } => {
                let slot = self.active_slot(peer)?;
                self.expect_aggregate(AggregateKind::Mean)?;
                self.take_ballot(now, slot, round, chunk as usize, Piece::Floats(values))
            }
            ToServer::Digest { round, digest } => {
                let slot = self.active_slot(peer)?;
                self.compare(now, peer, slot, round, digest);
                Ok(())
            }
            ToServer::Seal { round, signature } => {
                let slot = self.active_slot(peer)?;
                self.take_seal(now, slot, round, signature)
            }
            ToServer::Enrol(enrolment) => self.enrol(now, peer, enrolment),
            ToServer::Tallied(tallied) => self.take_tallied(now, peer, tallied),
            ToServer::Verdict { round, chunk, planes } => {
                self.take_verdict(now, peer, round, chunk as usize, planes, frame)
            }
            ToServer::Whole { round, slot } => self.take_whole(now, peer, round, slot),
            ToServer::Carried(rows) => self.take_carried(peer, &rows),
            ToServer::Accuse { slot, reason } => self.take_accusation(now, peer, slot, &reason),
            ToServer::Unreachable { shard, reason } => self.take_complaint(now, peer, shard, &reason),
            ToServer::Statistics { round, values } => {
                let slot = self.active_slot(peer)?;
                self.take_statistics(peer, slot, round, values)
            }
            ToServer::Bye { reason } => {
                // Before its parting may end the run: nothing follows `Output::Done`.
                self.outputs.push_back(Output::Close { peer });
                self.part(now, peer, &reason);
                Ok(())
            }
        }
    }

    fn expect_aggregate(&self, sent: AggregateKind) -> Result<(), Error> {
        if self.config.terms.aggregate == sent {
            return Ok(());
        }
        let details = format!("this run takes {:?}, got {sent:?}", self.config.terms.aggregate);
        Err(Error::misbehaved("send what the run aggregates", details))
    }

    /// Makes this the run's model.
    fn adopt(&mut self, layout: Layout, x: Vec<f32>, settings: Settings) -> Result<(), Error> {
        if layout.dimension() != x.len() {
            return Err(Error::incompatible("parameters", layout.dimension(), x.len()));
        }
        if layout.dimension() > self.config.max_dimension {
            let most = format!("at most {} coordinates", self.config.max_dimension);
            return Err(Error::incompatible("model", most, layout.dimension()));
        }
        if let Some(at) = x.iter().position(|value| !value.is_finite()) {
            let name = layout.tensor_at(at).map_or("?", |tensor| tensor.name.as_str());
            return Err(Error::incompatible("parameters", "finite numbers", format!("{} in {name}", x[at])));
        }
        let chunking = Chunking::new(x.len(), self.config.terms.chunk_coordinates as usize)
            .ok_or_else(|| Error::incompatible("model", "fewer than 2³² chunks", x.len()))?;
        let digest = DigestTree::new(&x).root();
        let layout_digest = layout.digest();
        let chain = ChainHash::start(self.config.terms.run, &layout_digest, &digest);
        self.at = Position { chain, ..Position::default() };
        self.digests.push_back((Round(0), digest));
        let ballots = Ballots::new(self.config.rules(), chunking);
        let steps = Steps::new(self.config.terms.step, &layout);
        self.model = Some(Model { layout, layout_digest, settings, steps, x, chunking, ballots });
        self.charge_all();
        Ok(())
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn send(&mut self, peer: PeerId, frame: Bytes) {
        self.outputs.push_back(Output::Send { peer, frame });
    }

    /// Sends to everyone who keeps up.
    fn broadcast(&mut self, frame: &Bytes) {
        let peers: Vec<_> = self.live().map(|(peer, _)| peer).collect();
        for peer in peers {
            self.send(peer, frame.clone());
        }
    }

    fn finish(&mut self, now: Duration, reason: &str) {
        self.make_step();
        self.open.stop_waiting();
        self.pausing = None;
        self.finish_reason = reason.to_owned();
        self.phase = Phase::Finishing(now);
        self.await_farewells(now);
        let known = self.digests.back().is_some_and(|&(round, _)| round == self.at.round);
        if let (false, Some(model)) = (known, &self.model) {
            self.digests.push_back((self.at.round, DigestTree::new(&model.x).root()));
        }
        for (_, slot) in self.active().collect::<Vec<_>>() {
            self.members[slot.index()].at_the_end = true;
        }
        self.broadcast(&to_worker::finish(reason));
        self.dismiss_shards(&to_worker::finish(reason));
        let strangers: Vec<_> =
            self.peers.iter().filter(|(_, peer)| !peer.state.is_active()).map(|(&peer, _)| peer).collect();
        for peer in strangers {
            self.put_out(now, peer, Later::Never, &format!("the run is over: {reason}"));
        }
        self.end_if_all_are_told();
    }

    /// Ends the run that is over once nobody is left who has to be told so.
    fn end_if_all_are_told(&mut self) {
        if matches!(self.phase, Phase::Finishing(_)) && self.present() == 0 && self.untold.is_empty() {
            self.done();
        }
    }

    fn done(&mut self) {
        let digest = self.digests.back().map(|&(_, digest)| digest);
        let confirmed = |member: &&Member| member.final_digest == digest && digest.is_some();
        let replicas = self.members.iter().filter(confirmed).count();
        let last = self.members.iter().filter(|member| member.at_the_end).count();
        self.phase = Phase::Done;
        self.agree_on_statistics();
        let finished = Event::Finished {
            round: self.at.round,
            reason: self.finish_reason.clone(),
            digest: digest.map_or_else(String::new, |digest| hexadecimal(&digest.0)),
            replicas_identical: replicas == last && replicas > 0,
            replicas,
            workers: self.records(),
        };
        self.event(finished);
        self.close_all();
    }

    /// The server goes, the run does not.
    fn go(&mut self, reason: &str) {
        self.phase = Phase::Done;
        self.open.stop_waiting();
        self.pausing = None;
        self.event(Event::Paused { round: self.at.round, reason: reason.to_owned() });
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for peer in peers {
            self.send(peer, to_worker::pause(reason));
        }
        self.close_all();
    }

    fn close_all(&mut self) {
        while let Some((peer, _)) = self.peers.pop_first() {
            self.outputs.push_back(Output::Close { peer });
        }
        self.outputs.push_back(Output::Done);
    }
}
