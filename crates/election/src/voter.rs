//! One worker's side of an election: its replica, its ballot, the verdict as far as it has come.
//!
//! Feed it with [`Voter::handle`]; after each call send what [`Voter::poll_transmit`] gives and look at what
//! [`Voter::poll_step`] tells. When [`Voter::wants_parameters`], [`Voter::provide`] them; at [`Step::Open`] vote. When the
//! connection is lost, make another one and call [`Voter::reconnect`]: replica and ballot are still there.
//!
//! In a run with shards there are more connections: see [`Voter::take_shard_addresses`].

mod sharded;

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use signvote_kernels as kernels;

use crate::chain::Link;
use crate::seal::{Sealed, ballot_root, chunk_hash};
use crate::wire::{FloatBytes, PlaneBytes, Start, ToWorker, feature, to_server};
use crate::{
    AggregateKind, Chunking, DigestTree, Error, Layout, Position, Replica, Round, RunId, SecretKey, Settings,
    Slot, SlotSet, Steps, Terms,
};
use sharded::Sharded;

/// What a worker leaves with when the run is over.
const FAREWELL: &str = "the run is over";

/// What a worker says of itself when it joins.
#[derive(Clone, Debug)]
pub struct Greeting {
    /// Its model's layout.
    pub layout: Layout,
    /// What the server should remember with the model if this worker brings it.
    pub settings: Settings,
    /// The only run that it wants to join, if it cares.
    pub run: Option<RunId>,
    /// The place that it wants, if it cares.
    pub slot: Option<Slot>,
    /// Its name for people; at most 1,024 bytes of it are used.
    pub name: String,
    /// What its ballots are signed with, if it has an identity.
    pub key: Option<SecretKey>,
    /// Whether its model has running statistics, which it will [give](Voter::submit_statistics) when the run is over.
    pub statistics: bool,
}

/// A replica that a worker brings along from an earlier connection or process.
#[derive(Clone, Debug)]
pub struct Carried {
    /// The run that it belongs to.
    pub run: RunId,
    /// What had been committed.
    pub position: Position,
    /// x at that position.
    pub x: Vec<f32>,
}

/// What a worker learns from the server.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// There is a place and there are terms. If [`wants_parameters`](Voter::wants_parameters) says so, make the first
    /// parameters from their seed and [`provide`](Voter::provide) them; otherwise the server's come by themselves.
    Welcomed,
    /// Vote in this round.
    Open {
        /// The round.
        round: Round,
    },
    /// The verdict over these coordinates is in; it is applied with the commit.
    Decided {
        /// The round.
        round: Round,
        /// The coordinates.
        coordinates: Range<usize>,
    },
    /// The step of this round has been made on the replica.
    Committed {
        /// The round.
        round: Round,
        /// Its η.
        eta: f32,
        /// Its λ.
        lambda: f32,
        /// Whether this worker's ballot counted, at least in part.
        counted: bool,
    },
    /// The replica was replaced by the server's, at the start of this round.
    Replaced {
        /// The round.
        round: Round,
    },
    /// The server goes and comes back: the connection ends, the run does not.
    Paused {
        /// Why.
        reason: String,
    },
    /// The run is over, and the final digest is on its way to the server. It may [want](Voter::wants_statistics) the model's
    /// running statistics.
    Finished {
        /// Rounds committed.
        round: Round,
        /// Why.
        reason: String,
    },
}

/// What is known once the server has said welcome.
#[derive(Debug)]
struct Membership {
    terms: Terms,
    slot: Slot,
    chunking: Chunking,
}

/// Parameters on their way from the server.
#[derive(Debug)]
struct Incoming {
    position: Position,
    x: Vec<f32>,
}

/// This worker's ballot of one round, in the frames that carry it: they are kept until the commit, and sent
/// again after a reconnect.
#[derive(Debug, Default)]
struct Ballot {
    /// The round, and the history that it was computed on.
    position: Position,
    open: bool,
    report: Option<Bytes>,
    chunks: Vec<Option<Bytes>>,
    /// Hashes of the chunks, for the signature.
    hashes: Vec<[u8; 32]>,
    /// Whether the round was opened to the caller twice: what was cast before stands.
    reopened: bool,
}

impl Ballot {
    fn is_whole(&self) -> bool {
        self.open && self.chunks.iter().all(Option::is_some)
    }
}

/// A worker's state machine.
#[derive(Debug)]
pub struct Voter {
    greeting: Greeting,
    membership: Option<Membership>,
    /// How this connection starts, once welcomed on it.
    start: Option<Start>,
    /// First parameters, until the run begins.
    first: Vec<f32>,
    /// A replica from elsewhere, until it is known whether it fits.
    carried: Option<Carried>,
    replica: Option<Replica>,
    incoming: Option<Incoming>,
    /// Whether this connection has come to the open round: only then ballots go out.
    live: bool,
    /// Whether the caller thinks that it may vote.
    told_open: bool,
    ballot: Ballot,
    /// Frames of the last ballot, whose memory is used again.
    spare: Vec<Bytes>,
    finished: bool,
    /// Whether the server takes running statistics, by this connection's welcome.
    takes_statistics: bool,
    /// Whether it waits for them.
    owes_statistics: bool,
    /// What the server has said that this worker waits for.
    waiting: Option<String>,
    /// The shards, in a run that has any.
    sharded: Option<Sharded>,
    /// Why this worker has to come back to be brought up.
    out_of_step: Option<String>,
    transmits: VecDeque<Bytes>,
    steps: VecDeque<Step>,
}

impl Voter {
    /// A worker that wants to join; its greeting is ready to be sent.
    pub fn new(greeting: Greeting) -> Self {
        Self::with(greeting, None)
    }

    /// A worker that was there before, with the replica that it had then.
    ///
    /// # Errors
    /// If the replica is not as long as the layout.
    pub fn returning(greeting: Greeting, carried: Carried) -> Result<Self, Error> {
        let (expected, got) = (greeting.layout.dimension(), carried.x.len());
        if expected != got {
            return Err(Error::Misuse(format!("expected {expected} parameters, got {got}")));
        }
        Ok(Self::with(greeting, Some(carried)))
    }

    fn with(greeting: Greeting, carried: Option<Carried>) -> Self {
        let mut voter = Self {
            greeting,
            membership: None,
            start: None,
            first: Vec::new(),
            carried,
            replica: None,
            incoming: None,
            live: false,
            told_open: false,
            ballot: Ballot::default(),
            spare: Vec::new(),
            finished: false,
            takes_statistics: false,
            owes_statistics: false,
            waiting: None,
            sharded: None,
            out_of_step: None,
            transmits: VecDeque::new(),
            steps: VecDeque::new(),
        };
        voter.greet();
        voter
    }

    /// The connection is gone and there is another one: the greeting for it is ready to be sent.
    ///
    /// The replica stays, and so does what has been cast in the open round: it is sent again, or dropped if the
    /// round is over by then. A worker that has no replica yet is welcomed anew, maybe to another place.
    pub fn reconnect(&mut self) {
        self.transmits.clear();
        self.start = None;
        self.incoming = None;
        self.live = false;
        self.sharded = None;
        self.out_of_step = None;
        match &mut self.replica {
            Some(replica) => replica.forget_verdicts(),
            // Nothing binds it to its place yet, and a server that was started again before the first round may have
            // given that to another: it would never get in.
            None => {
                self.membership = None;
                self.first = Vec::new();
                self.steps.clear();
            }
        }
        self.greet();
    }

    fn greet(&mut self) {
        let (layout, member) = (&self.greeting.layout, self.membership.as_ref());
        let slot = member.map(|member| member.slot).or(self.greeting.slot).map_or(0, Slot::number);
        let carried = self.carried.as_ref();
        let run = member
            .map(|member| member.terms.run)
            .or_else(|| carried.map(|carried| carried.run))
            .or(self.greeting.run);
        let position =
            self.replica.as_ref().map(Replica::position).or_else(|| carried.map(|carried| carried.position));
        let (digest, d) = (layout.digest(), layout.dimension());
        let features = if self.greeting.statistics { feature::STATISTICS } else { 0 };
        let name = &self.greeting.name;
        self.transmits.push_back(to_server::hello(features, run, &digest, d, slot, name, position));
    }

    /// The next frame to send.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.transmits.pop_front()
    }

    /// The next thing to know.
    pub fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// The terms, once welcomed.
    pub fn terms(&self) -> Option<&Terms> {
        self.membership.as_ref().map(|membership| &membership.terms)
    }

    /// This worker's place, once welcomed.
    pub fn place(&self) -> Option<Slot> {
        self.membership.as_ref().map(|membership| membership.slot)
    }

    /// Whether the server waits for [`Self::provide`].
    pub fn wants_parameters(&self) -> bool {
        let asked = matches!(self.start, Some(Start::Offer | Start::Compare));
        asked && self.first.is_empty() && self.replica.is_none()
    }

    /// The replica x as of the last committed round; empty before [`Self::provide`] and before it has come.
    pub fn parameters(&self) -> &[f32] {
        self.replica.as_ref().map_or(&self.first[..], Replica::parameters)
    }

    /// What this worker has seen committed.
    pub fn position(&self) -> Position {
        self.replica.as_ref().map(Replica::position).unwrap_or_default()
    }

    /// Rounds committed.
    pub fn round(&self) -> Round {
        self.position().round
    }

    /// Whether this connection has come to the open round.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Whether every chunk of the open round's ballot has been cast.
    pub fn has_cast(&self) -> bool {
        self.ballot.is_whole()
    }

    /// What the server has this worker wait for, if it has said so since this was last asked: other workers, say.
    pub fn take_waiting(&mut self) -> Option<String> {
        self.waiting.take()
    }

    /// Whether the server has said that the run is over.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// A whole frame, its length included, has come from the server.
    ///
    /// # Errors
    /// If the server refuses this worker, or does not keep to the protocol. The connection is of no use then.
    pub fn handle(&mut self, frame: &[u8]) -> Result<(), Error> {
        // Out of step, it has to come back: what else is said on this connection is not for it.
        if self.out_of_step.is_none() && !self.holds_back(frame)? {
            self.take(frame)?;
            self.catch_up_with_shards()?;
        }
        Ok(())
    }

    fn take(&mut self, frame: &[u8]) -> Result<(), Error> {
        match ToWorker::decode(frame)? {
            ToWorker::Welcome { slot, start, terms, features, version: _ } => {
                self.takes_statistics = features & feature::STATISTICS != 0;
                self.welcome(slot, start, *terms)
            }
            ToWorker::Refused { later, reason } => Err(Error::Refused { later, reason }),
            ToWorker::State { position } => {
                self.member()?;
                self.incoming = Some(Incoming { position, x: Vec::new() });
                Ok(())
            }
            ToWorker::Values { chunk, values } => self.take_values(chunk as usize, values),
            ToWorker::Open { position } => self.open(position),
            ToWorker::Verdict { round, chunk, planes } => match self.sharded.is_some() {
                true => self.take_sharded_verdict(round, chunk as usize, planes, frame),
                false => self.stage(round, chunk as usize, planes),
            },
            ToWorker::Shards(shards) => self.take_shards(*shards),
            ToWorker::Chosen { round, chunk, hash } => self.choose(round, chunk as usize, hash),
            ToWorker::Update { round, chunk, values } => {
                let coordinates = self.replica_mut()?.stage_update(round, chunk as usize, values)?;
                self.steps.push_back(Step::Decided { round, coordinates });
                Ok(())
            }
            ToWorker::Commit { round, incarnation, eta, lambda, next_eta, voters, chain } => {
                let link = Link { round, incarnation, eta, lambda, voters: &voters };
                self.commit(&link, &voters, next_eta, chain)
            }
            ToWorker::Finish { reason } => self.finish(reason),
            ToWorker::Pause { reason } => {
                self.live = false;
                self.steps.push_back(Step::Paused { reason });
                Ok(())
            }
            ToWorker::Wait { reason } => {
                self.waiting = Some(reason);
                Ok(())
            }
            ToWorker::Status { .. } => Err(Error::misbehaved("answer what was asked", "a status")),
        }
    }

    fn stage(&mut self, round: Round, chunk: usize, planes: PlaneBytes<'_>) -> Result<(), Error> {
        let coordinates = self.replica_mut()?.stage_verdict(round, chunk, planes)?;
        self.steps.push_back(Step::Decided { round, coordinates });
        Ok(())
    }

    /// The first parameters, made from the seed of the terms. The server takes them, or checks that its own
    /// are the same, or sends its own.
    ///
    /// # Errors
    /// If it was not asked for, or there are not d of them.
    pub fn provide(&mut self, x: Vec<f32>) -> Result<(), Error> {
        let dimension = self.greeting.layout.dimension();
        if x.len() != dimension || !self.wants_parameters() {
            return Err(Error::Misuse(format!(
                "expected {dimension} parameters, when asked, got {}",
                x.len()
            )));
        }
        self.first = x;
        self.send_first()
    }

    fn send_first(&mut self) -> Result<(), Error> {
        let x = &self.first;
        if self.start == Some(Start::Offer) {
            let chunking = self.member()?.chunking;
            self.transmits.push_back(to_server::init(&self.greeting.layout, &self.greeting.settings));
            for chunk in 0..chunking.count() {
                self.transmits.push_back(to_server::values(chunk, &x[chunking.coordinates(chunk)]));
            }
        }
        self.transmits.push_back(to_server::ready(DigestTree::new(x).root()));
        Ok(())
    }

    /// How the batch of the open round went. Dropped, like a ballot, if that round is over already.
    ///
    /// # Errors
    /// If no round is open, or it was reported before.
    pub fn report(&mut self, loss: f32, correct: u32, samples: u32, non_finite: u64) -> Result<(), Error> {
        if self.overtaken() || self.ballot.reopened && self.ballot.report.is_some() {
            return Ok(());
        }
        if !self.ballot.open || self.ballot.report.is_some() {
            return Err(Error::Misuse("a report belongs to an open round, once".into()));
        }
        let frame = to_server::report(self.round(), loss, correct, samples, non_finite);
        self.ballot.report = Some(frame.clone());
        self.transmit(frame);
        Ok(())
    }

    /// Casts whole chunks of the ballot, from word `first_word` of the model on.
    ///
    /// A ballot belongs to the round of the last [`Step::Open`] that was polled. If that round was committed in
    /// the meantime, the ballot is late and dropped: it must not count in the round after. While there is no
    /// connection the ballot is kept for the next one.
    ///
    /// # Errors
    /// If no round is open, the planes differ in length, the range does not start and end at chunks, or a chunk
    /// was cast before.
    pub fn submit_signs(&mut self, first_word: usize, signs: &[u64], abstain: &[u64]) -> Result<(), Error> {
        let words = first_word..first_word + signs.len();
        if abstain.len() != signs.len() {
            return Err(Error::Misuse(format!("{} words of abstentions", abstain.len())));
        }
        let dimension = self.greeting.layout.dimension();
        if words.end > kernels::words(dimension) {
            return Err(Error::Misuse(format!("words {words:?} of {}", kernels::words(dimension))));
        }
        let coordinates = words.start * 64..(words.end * 64).min(dimension);
        let chunking = self.member()?.chunking;
        let signed = self.greeting.key.is_some() && self.member()?.terms.signed;
        for chunk in self.claim(AggregateKind::Vote, coordinates)? {
            let range = chunking.words(chunk);
            let range = range.start - words.start..range.end - words.start;
            let (signs, abstain) = (&signs[range.clone()], &abstain[range]);
            if signed {
                let any = abstain.iter().any(|&word| word != 0);
                self.ballot.hashes[chunk] = chunk_hash(signs, any.then_some(abstain));
            }
            let round = self.ballot.position.round;
            let frame = to_server::ballot(round, chunk, signs, abstain, &mut self.spare);
            self.cast(chunk, frame);
        }
        Ok(())
    }

    /// Hands in whole chunks of a dense gradient, from coordinate `first` on.
    ///
    /// # Errors
    /// As [`Self::submit_signs`].
    pub fn submit_gradient(&mut self, first: usize, gradient: &[f32]) -> Result<(), Error> {
        let chunking = self.member()?.chunking;
        for chunk in self.claim(AggregateKind::Mean, first..first + gradient.len())? {
            let range = chunking.coordinates(chunk);
            let range = range.start - first..range.end - first;
            self.cast(chunk, to_server::gradient(self.ballot.position.round, chunk, &gradient[range]));
        }
        Ok(())
    }

    /// Whether all rounds are done and the server waits for [`Self::submit_statistics`].
    pub fn wants_statistics(&self) -> bool {
        self.owes_statistics
    }

    /// The running statistics of the model at [`Self::parameters`], on this worker's data; none where it has none to give after
    /// all. It takes its leave with them.
    ///
    /// # Errors
    /// If they are not [wanted](Self::wants_statistics), are more than d, or do not fit a frame (262,141).
    pub fn submit_statistics(&mut self, values: &[f32]) -> Result<(), Error> {
        let count = values.len();
        if !self.owes_statistics {
            return Err(Error::Misuse("statistics are for the end of a run whose server takes them".into()));
        }
        if count > self.greeting.layout.dimension() || !to_server::fits(count) {
            return Err(Error::Misuse(format!("{count} statistics are more than a server takes")));
        }
        if count > 0 {
            self.transmits.push_back(to_server::statistics(self.round(), values));
        }
        self.transmits.push_back(to_server::bye(FAREWELL));
        self.owes_statistics = false;
        Ok(())
    }

    /// The chunks that these coordinates are, without those that an earlier opening of the round has seen cast.
    fn claim(&mut self, aggregate: AggregateKind, coordinates: Range<usize>) -> Result<Vec<usize>, Error> {
        if self.overtaken() {
            return Ok(Vec::new());
        }
        let member = self.member()?;
        let chunking = member.chunking;
        if !self.ballot.open || member.terms.aggregate != aggregate {
            let round = self.round();
            return Err(Error::Misuse(format!("round {round} does not take a ballot of {aggregate:?} now")));
        }
        let length = chunking.coordinates(0).len().max(1);
        let chunks = coordinates.start / length..coordinates.end.div_ceil(length);
        let aligned = coordinates.start.is_multiple_of(length)
            && (coordinates.end.is_multiple_of(length) || coordinates.end == chunking.dimension());
        if !aligned || coordinates.end > chunking.dimension() {
            return Err(Error::Misuse(format!("coordinates {coordinates:?} are not whole chunks")));
        }
        let (cast, new): (Vec<_>, Vec<_>) = chunks.partition(|&chunk| self.ballot.chunks[chunk].is_some());
        match cast.first() {
            Some(chunk) if !self.ballot.reopened => {
                Err(Error::Misuse(format!("chunk {chunk} was cast in this round before")))
            }
            _ => Ok(new),
        }
    }

    fn cast(&mut self, chunk: usize, frame: Bytes) {
        self.ballot.chunks[chunk] = Some(frame.clone());
        match &mut self.sharded {
            Some(sharded) if self.live => sharded.cast(chunk, &frame),
            Some(_) => {}
            None => self.transmit(frame),
        }
        if self.ballot.is_whole() {
            self.seal();
        }
    }

    /// Signs the whole ballot, if this worker signs.
    fn seal(&mut self) {
        let (Some(member), Some(key)) = (&self.membership, &self.greeting.key) else { return };
        if !member.terms.signed || member.terms.aggregate != AggregateKind::Vote {
            return;
        }
        let Position { round, incarnation, .. } = self.ballot.position;
        let root = ballot_root(self.ballot.hashes.iter());
        let signature = key.seal(&Sealed { run: member.terms.run, incarnation, round, root });
        self.transmit(to_server::seal(round, &signature));
    }

    /// What is cast goes out at once, or with the next connection.
    fn transmit(&mut self, frame: Bytes) {
        if self.live {
            self.transmits.push_back(frame);
        }
    }

    /// Whether the caller has yet to learn that the round it votes in is over, or begins anew.
    fn overtaken(&self) -> bool {
        let ends_a_round = |step: &Step| {
            matches!(
                step,
                Step::Open { .. } | Step::Committed { .. } | Step::Replaced { .. } | Step::Finished { .. }
            )
        };
        self.steps.iter().any(ends_a_round)
    }

    fn member(&self) -> Result<&Membership, Error> {
        self.membership.as_ref().ok_or_else(|| Error::misbehaved("say welcome first", "another frame"))
    }

    fn replica_mut(&mut self) -> Result<&mut Replica, Error> {
        let early = || Error::misbehaved("decide for who has the parameters", "a verdict");
        if self.start.is_none() || self.incoming.is_some() {
            return Err(early());
        }
        self.replica.as_mut().ok_or_else(early)
    }

    fn welcome(&mut self, slot: Slot, start: Start, terms: Terms) -> Result<(), Error> {
        if self.start.is_some() {
            return Err(Error::misbehaved("say welcome once", "a second welcome"));
        }
        let length = terms.chunk_coordinates as usize;
        let chunking = Chunking::new(self.greeting.layout.dimension(), length)
            .ok_or_else(|| Error::malformed("chunk length", "a multiple of 64 up to 65536", length))?;
        if let Some(known) = &self.membership {
            if known.terms != terms || known.slot != slot {
                return Err(Error::incompatible("terms of the run", "those of before", "others"));
            }
        } else {
            self.ballot.chunks = vec![None; chunking.count()];
            self.ballot.hashes = vec![[0; 32]; chunking.count()];
            if let Some(Carried { position, x, .. }) = self.carried.take() {
                self.replica = Some(Replica::new(
                    terms.aggregate,
                    chunking,
                    Steps::new(terms.step, &self.greeting.layout),
                    x,
                    position,
                ));
            }
            self.membership = Some(Membership { terms, slot, chunking });
            self.steps.push_back(Step::Welcomed);
        }
        self.start = Some(start);
        if start != Start::Follow && !self.first.is_empty() {
            // Asked again, on another connection.
            self.send_first()?;
        }
        Ok(())
    }

    fn take_values(&mut self, chunk: usize, values: FloatBytes<'_>) -> Result<(), Error> {
        let Membership { chunking, ref terms, .. } = *self.member()?;
        let (aggregate, step) = (terms.aggregate, terms.step);
        let Some(incoming) = &mut self.incoming else {
            return Err(Error::misbehaved("announce a state before sending it", "parameters"));
        };
        let range = chunking.coordinates(chunk);
        if range.start != incoming.x.len() || range.is_empty() {
            return Err(Error::misbehaved("send parameters in order", format!("chunk {chunk}")));
        }
        incoming.x.resize(range.end, 0.0);
        values.read(&mut incoming.x[range])?;
        if incoming.x.len() < chunking.dimension() {
            return Ok(());
        }
        let Some(Incoming { position, x }) = self.incoming.take() else { return Ok(()) };
        match &mut self.replica {
            Some(replica) => replica.replace(x, position),
            None => {
                self.replica = Some(Replica::new(
                    aggregate,
                    chunking,
                    Steps::new(step, &self.greeting.layout),
                    x,
                    position,
                ))
            }
        }
        self.first = Vec::new();
        // Whatever the caller computes at, it is not this x; the opening that follows tells it to begin again.
        self.told_open = false;
        self.live = false;
        self.steps.push_back(Step::Replaced { round: position.round });
        Ok(())
    }

    /// The worker has come to the open round.
    fn open(&mut self, position: Position) -> Result<(), Error> {
        let Membership { chunking, ref terms, .. } = *self.member()?;
        let (aggregate, step) = (terms.aggregate, terms.step);
        if self.start.is_none() || self.incoming.is_some() {
            return Err(Error::misbehaved("open a round for who has the parameters", "an opening"));
        }
        if self.replica.is_none() && !self.first.is_empty() && position.round == Round(0) {
            let first = std::mem::take(&mut self.first);
            self.replica = Some(Replica::new(
                aggregate,
                chunking,
                Steps::new(step, &self.greeting.layout),
                first,
                position,
            ));
        }
        let replica = self.replica_mut()?;
        let at = replica.position();
        if (at.round, at.chain) != (position.round, position.chain) {
            let expected = format!("round {} with chain hash {}", at.round, at.chain);
            let got = format!("round {} with {}", position.round, position.chain);
            return Err(Error::incompatible("opening", expected, got));
        }
        replica.set_incarnation(position.incarnation);
        let again = !self.live;
        self.live = true;
        let same = self.ballot.open
            && (self.ballot.position.round, self.ballot.position.chain) == (position.round, position.chain);
        if !same {
            self.open_round();
            return Ok(());
        }
        self.ballot.position.incarnation = position.incarnation;
        if again {
            self.transmits.extend(self.ballot.report.clone());
            match &mut self.sharded {
                Some(sharded) => sharded.cast_all(&self.ballot.chunks),
                None => self.transmits.extend(self.ballot.chunks.iter().flatten().cloned()),
            }
            if self.ballot.is_whole() {
                self.seal();
            }
        }
        if !self.told_open && !self.ballot.is_whole() {
            self.ballot.reopened = true;
            self.tell_open();
        }
        Ok(())
    }

    fn open_round(&mut self) {
        let mut chunks = std::mem::take(&mut self.ballot.chunks);
        let hashes = std::mem::take(&mut self.ballot.hashes);
        self.spare.clear();
        self.spare.extend(chunks.iter_mut().rev().filter_map(Option::take));
        let position = self.position();
        self.ballot = Ballot { position, open: true, report: None, chunks, hashes, reopened: false };
        self.tell_open();
    }

    fn tell_open(&mut self) {
        self.told_open = true;
        self.steps.push_back(Step::Open { round: self.round() });
    }

    fn commit(
        &mut self,
        link: &Link<'_>,
        voters: &SlotSet,
        next_eta: f32,
        chain: crate::ChainHash,
    ) -> Result<(), Error> {
        let Membership { slot, ref terms, .. } = *self.member()?;
        let (rounds, digest_every) = (terms.rounds, terms.digest_every);
        let committed = self.replica_mut()?.commit(link, chain);
        match (committed, &mut self.sharded) {
            (Err(error), Some(_)) => {
                // A shard has told others something else. What counts is with the server.
                self.out_of_step = Some(format!("the verdicts that came are not those that count: {error}"));
                return Ok(());
            }
            (committed, sharded) => {
                committed?;
                if let Some(sharded) = sharded {
                    sharded.next_round();
                }
            }
        }
        if self.live {
            self.replica_mut()?.expect_rates(next_eta, link.lambda);
        }
        let counted = voters.contains(slot);
        self.steps.push_back(Step::Committed {
            round: link.round,
            eta: link.eta,
            lambda: link.lambda,
            counted,
        });
        self.told_open = false;
        if self.ballot.position.round <= link.round {
            self.ballot.open = false;
        }
        let round = self.round();
        let last = round.0 >= rounds;
        if self.live && !last {
            if digest_every > 0 && round.0.is_multiple_of(digest_every) {
                let digest = DigestTree::new(self.parameters()).root();
                self.transmits.push_back(to_server::digest(round, digest));
            }
            self.open_round();
        }
        Ok(())
    }

    fn finish(&mut self, reason: String) -> Result<(), Error> {
        self.member()?;
        self.ballot.open = false;
        self.live = false;
        self.finished = true;
        let round = self.round();
        self.transmits.push_back(to_server::digest(round, DigestTree::new(self.parameters()).root()));
        let whole = self.member()?.terms.rounds <= round.0;
        self.owes_statistics = self.greeting.statistics && self.takes_statistics && whole;
        if !self.owes_statistics {
            self.transmits.push_back(to_server::bye(FAREWELL));
        }
        self.steps.push_back(Step::Finished { round, reason });
        Ok(())
    }
}
