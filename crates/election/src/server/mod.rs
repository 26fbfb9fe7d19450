//! The server's side of an election: who is there, what they voted, what was decided.
//!
//! Feed it with [`Server::connected`], [`Server::handle`], [`Server::disconnected`] and
//! [`Server::handle_timeout`]; after each call take [`Server::poll`] until it is empty, and ask
//! [`Server::next_timeout`] when to call `handle_timeout`. Time is a `Duration` since any fixed start.

mod ballots;
mod members;
mod rounds;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;

use crate::chain::ChainHash;
use crate::wire::{self, ToServer};
use crate::{
    AggregateKind, Chunking, Digest, DigestTree, Error, Event, Incarnation, Layout, Optimizer, PeerId, Round,
    Schedule, Settings, Slot, Terms, TiePolicy, WorkerRecord,
};
use ballots::Ballots;
use members::{Member, Peer, PeerState};
use rounds::OpenRound;

/// Everything that a server is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What is handed to the workers.
    pub terms: Terms,
    /// What a tie becomes.
    pub tie: TiePolicy,
    /// Votes below which a coordinate is held; 0 counts as 1.
    pub min_voters: u32,
    /// What is made of a mean gradient.
    pub optimizer: Optimizer,
    /// Fewest ballots that decide a chunk.
    pub quorum: usize,
    /// How long a round waits for those who are missing once the quorum is met; `None`: as long as they are connected.
    pub deadline: Option<Duration>,
    /// η of every round.
    pub schedule: Schedule,
    /// λ.
    pub weight_decay: f32,
    /// Most coordinates that a first worker may bring.
    pub max_dimension: usize,
    /// How long a peer may take to say who it is.
    pub greeting_timeout: Duration,
    /// How long a peer that has a place may take to make its parameters, or for the next piece of them.
    pub joining_timeout: Duration,
    /// How long the server waits at the end for the last digests.
    pub farewell_timeout: Duration,
    /// Layout, parameters and settings to start from; `None`: the first worker's.
    pub initial: Option<(Layout, Vec<f32>, Settings)>,
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
    round: Round,
    incarnation: Incarnation,
    chain: ChainHash,
    peers: BTreeMap<PeerId, Peer>,
    members: Vec<Member>,
    open: OpenRound,
    /// Digests of x after recent rounds, newest last: workers may be a little behind.
    digests: VecDeque<(Round, Digest)>,
    finish_reason: String,
    outputs: VecDeque<Output>,
}

impl Server {
    /// A server before its first worker.
    ///
    /// # Errors
    /// If the configuration contradicts itself.
    pub fn new(mut config: Config) -> Result<Self, Error> {
        let workers = usize::from(config.terms.workers);
        let misuse = |text: String| Err(Error::Misuse(text));
        if workers == 0 {
            return misuse("a run needs at least one worker".into());
        }
        if config.quorum == 0 || config.quorum > workers {
            return misuse(format!("the quorum must be 1 to {workers}, got {}", config.quorum));
        }
        if config.terms.batch == 0 {
            return misuse("a batch needs at least one example".into());
        }
        if !(0.0..1.0).contains(&config.terms.beta) {
            return misuse(format!("β must be in [0, 1), got {}", config.terms.beta));
        }
        if !(config.weight_decay >= 0.0 && config.weight_decay.is_finite()) {
            return misuse(format!("the weight decay must be 0 or more, got {}", config.weight_decay));
        }
        if Chunking::new(0, config.terms.chunk_coordinates as usize).is_none() {
            let got = config.terms.chunk_coordinates;
            return misuse(format!("a chunk is a multiple of 64 up to 65536 coordinates, got {got}"));
        }
        let initial = config.initial.take();
        let mut server = Self {
            phase: Phase::Gathering,
            model: None,
            round: Round(0),
            incarnation: Incarnation(0),
            chain: ChainHash::default(),
            peers: BTreeMap::new(),
            members: (0..workers).map(|_| Member::default()).collect(),
            open: OpenRound::default(),
            digests: VecDeque::new(),
            finish_reason: String::new(),
            outputs: VecDeque::new(),
            config,
        };
        if let Some((layout, x, settings)) = initial {
            server.adopt(layout, x, settings)?;
        }
        Ok(server)
    }

    /// A peer has connected.
    pub fn connected(&mut self, now: Duration, peer: PeerId) {
        let until = Some(now.saturating_add(self.config.greeting_timeout));
        self.peers.insert(peer, Peer { name: String::new(), state: PeerState::Greeting, until });
    }

    /// A peer's connection has ended; `reason` is what the shell knows about it.
    pub fn disconnected(&mut self, now: Duration, peer: PeerId, reason: &str) {
        self.part(now, peer, reason);
    }

    /// A peer has broken a rule of the shell, such as the length of a frame: it is told why, and put out.
    pub fn refuse(&mut self, now: Duration, peer: PeerId, reason: &str) {
        if self.peers.contains_key(&peer) {
            self.put_out(now, peer, reason);
        }
    }

    /// A whole frame, its length included, has come from a peer. Whoever breaks the protocol is put out.
    pub fn handle(&mut self, now: Duration, peer: PeerId, frame: &[u8]) {
        if !self.peers.contains_key(&peer) {
            // It was put out while this frame was on its way.
            return;
        }
        let received = ToServer::decode(frame).and_then(|message| self.receive(now, peer, message));
        if let Err(error) = received {
            self.put_out(now, peer, &error.to_string());
        }
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
            let reason = match slot {
                None => format!("it did not say within {:?} who it is", self.config.greeting_timeout),
                Some(_) => format!("its parameters did not come on for {:?}", self.config.joining_timeout),
            };
            self.put_out(now, peer, &reason);
        }
        if self.open.deadline.is_some_and(|deadline| deadline <= now) {
            self.open.deadline = None;
            self.open.deadline_passed = true;
            self.close_chunks(now);
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
        joining.chain(self.open.deadline).chain(farewell).min()
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Ends the run after the last committed round: everyone is told, and the last digests are awaited.
    pub fn stop(&mut self, now: Duration, reason: &str) {
        if matches!(self.phase, Phase::Finishing(_) | Phase::Done) {
            return;
        }
        self.finish(now, reason);
    }

    /// Longest frame that this peer may send, without its length.
    pub fn max_frame_bytes(&self, peer: PeerId) -> usize {
        match self.peers.get(&peer).map(|peer| &peer.state) {
            None | Some(PeerState::Greeting | PeerState::Waiting { .. }) => wire::MAX_HELLO_BYTES,
            Some(_) => wire::MAX_FRAME_BYTES,
        }
    }

    /// Layout, parameters and settings, once a worker has brought them. x is the state after the last commit.
    pub fn model(&self) -> Option<(&Layout, &[f32], &Settings)> {
        self.model.as_ref().map(|model| (&model.layout, &model.x[..], &model.settings))
    }

    /// The open round, which is also the number of rounds committed.
    pub fn round(&self) -> Round {
        self.round
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

    fn receive(&mut self, now: Duration, peer: PeerId, message: ToServer<'_>) -> Result<(), Error> {
        match message {
            ToServer::Hello { run, layout, dimension, slot, name, version: _, features: _ } => {
                let wanted = (slot != 0).then_some(slot);
                self.greet(now, peer, members::Hello { run, layout, dimension, wanted, name })
            }
            ToServer::Init { layout, settings } => self.take_layout(peer, layout, settings),
            ToServer::Values { chunk, values } => self.take_values(now, peer, chunk, values),
            ToServer::Ready { digest } => self.ready(now, peer, digest),
            ToServer::Report { round, loss, correct, samples, non_finite } => {
                let slot = self.active_slot(peer)?;
                self.take_report(slot, round, rounds::Report { loss, correct, samples }, non_finite)
            }
            ToServer::Ballot { round, chunk, planes } => {
                let slot = self.active_slot(peer)?;
                self.expect_aggregate(AggregateKind::Vote)?;
                self.take_ballot(now, slot, round, chunk as usize, ballots::Piece::Planes(planes))
            }
            ToServer::Gradient { round, chunk, values } => {
                let slot = self.active_slot(peer)?;
                self.expect_aggregate(AggregateKind::Mean)?;
                self.take_ballot(now, slot, round, chunk as usize, ballots::Piece::Floats(values))
            }
            ToServer::Digest { round, digest } => {
                let slot = self.active_slot(peer)?;
                self.compare(peer, slot, round, digest);
                Ok(())
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
        self.chain = ChainHash::start(self.config.terms.run, &layout_digest, &digest);
        self.digests.push_back((Round(0), digest));
        let ballots = Ballots::new(&self.config, chunking);
        self.model = Some(Model { layout, layout_digest, settings, x, chunking, ballots });
        Ok(())
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn send(&mut self, peer: PeerId, frame: Bytes) {
        self.outputs.push_back(Output::Send { peer, frame });
    }

    /// Sends to everyone who may vote.
    fn broadcast(&mut self, frame: &Bytes) {
        let peers: Vec<_> = self.active().map(|(peer, _)| peer).collect();
        for peer in peers {
            self.send(peer, frame.clone());
        }
    }

    fn finish(&mut self, now: Duration, reason: &str) {
        self.open.deadline = None;
        self.finish_reason = reason.to_owned();
        self.phase = Phase::Finishing(now.saturating_add(self.config.farewell_timeout));
        let known = self.digests.back().is_some_and(|&(round, _)| round == self.round);
        if let (false, Some(model)) = (known, &self.model) {
            self.digests.push_back((self.round, DigestTree::new(&model.x).root()));
        }
        for (_, slot) in self.active().collect::<Vec<_>>() {
            self.members[slot.index()].at_the_end = true;
        }
        self.broadcast(&wire::to_worker::finish(reason));
        let strangers: Vec<_> =
            self.peers.iter().filter(|(_, peer)| !peer.state.is_active()).map(|(&peer, _)| peer).collect();
        for peer in strangers {
            self.put_out(now, peer, &format!("the run is over: {reason}"));
        }
        if self.present() == 0 {
            self.done();
        }
    }

    fn done(&mut self) {
        let digest = self.digests.back().map(|&(_, digest)| digest);
        let confirmed = |member: &&Member| member.final_digest == digest && digest.is_some();
        let replicas = self.members.iter().filter(confirmed).count();
        let last = self.members.iter().filter(|member| member.at_the_end).count();
        self.phase = Phase::Done;
        let finished = Event::Finished {
            round: self.round,
            reason: self.finish_reason.clone(),
            digest: digest
                .map_or_else(String::new, |d| d.0.iter().map(|byte| format!("{byte:02x}")).collect()),
            replicas_identical: replicas == last && replicas > 0,
            replicas,
            workers: self.records(),
        };
        self.event(finished);
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for peer in peers {
            self.outputs.push_back(Output::Close { peer });
        }
        self.peers.clear();
        self.outputs.push_back(Output::Done);
    }
}
