//! One worker's side of an election: its replica, its ballot, the verdict as far as it has come.
//!
//! Feed it with [`Voter::handle`]; after each call send what [`Voter::poll_transmit`] gives and look at what
//! [`Voter::poll_step`] tells. At [`Step::Welcomed`] call [`Voter::provide`]; at [`Step::Open`] vote.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use signvote_kernels as kernels;

use crate::chain::{Link, update_hash, verdict_hash};
use crate::dense::apply_dense;
use crate::wire::{FloatBytes, PlaneBytes, Start, ToWorker, to_server};
use crate::{
    AggregateKind, ChainHash, Chunking, DigestTree, Error, Incarnation, Layout, Round, RunId, Settings, Slot,
    SlotSet, Terms,
};

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
}

/// What a worker learns from the server.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// There is a place and there are terms: make the first parameters from their seed and
    /// [`provide`](Voter::provide) them.
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
    /// The run is over, and the final digest is on its way to the server.
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
    start: Start,
    chunking: Chunking,
}

/// The verdict of the open round as it comes in.
#[derive(Debug, Default)]
struct Staged {
    signs: Vec<u64>,
    hold: Vec<u64>,
    any_hold: bool,
    update: Vec<f32>,
    /// A hash for each decided chunk.
    hashes: Vec<Option<[u8; 32]>>,
}

impl Staged {
    fn new(aggregate: AggregateKind, chunking: Chunking) -> Self {
        let (words, floats) = match aggregate {
            AggregateKind::Vote => (kernels::words(chunking.dimension()), 0),
            AggregateKind::Mean => (0, chunking.dimension()),
        };
        Self {
            signs: vec![0; words],
            hold: vec![0; words],
            any_hold: false,
            update: vec![0.0; floats],
            hashes: vec![None; chunking.count()],
        }
    }

    fn clear(&mut self) {
        self.any_hold = false;
        self.hashes.fill(None);
    }
}

/// Parameters on their way from the server.
#[derive(Debug)]
struct Incoming {
    round: Round,
    incarnation: Incarnation,
    chain: ChainHash,
    x: Vec<f32>,
}

/// A worker's state machine.
#[derive(Debug)]
pub struct Voter {
    greeting: Greeting,
    membership: Option<Membership>,
    x: Vec<f32>,
    round: Round,
    incarnation: Incarnation,
    chain: ChainHash,
    staged: Staged,
    incoming: Option<Incoming>,
    /// Whether ballots for `round` are welcome.
    open: bool,
    reported: bool,
    submitted: Vec<bool>,
    finished: bool,
    transmits: VecDeque<Bytes>,
    steps: VecDeque<Step>,
}

impl Voter {
    /// A worker that wants to join; its greeting is ready to be sent.
    pub fn new(greeting: Greeting) -> Self {
        let slot = greeting.slot.map_or(0, Slot::number);
        let (digest, dimension) = (greeting.layout.digest(), greeting.layout.dimension());
        let hello = to_server::hello(greeting.run, &digest, dimension, slot, &greeting.name);
        Self {
            greeting,
            membership: None,
            x: Vec::new(),
            round: Round(0),
            incarnation: Incarnation(0),
            chain: ChainHash::default(),
            staged: Staged::default(),
            incoming: None,
            open: false,
            reported: false,
            submitted: Vec::new(),
            finished: false,
            transmits: VecDeque::from([hello]),
            steps: VecDeque::new(),
        }
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

    /// The replica x as of the last committed round; empty before [`Self::provide`].
    pub fn parameters(&self) -> &[f32] {
        &self.x
    }

    /// Rounds committed.
    pub fn round(&self) -> Round {
        self.round
    }

    /// Whether the server has said that the run is over.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Chain hash of what this worker has seen committed.
    pub fn chain(&self) -> ChainHash {
        self.chain
    }

    /// A whole frame, its length included, has come from the server.
    ///
    /// # Errors
    /// If the server refuses this worker, or does not keep to the protocol. The connection is of no use then.
    pub fn handle(&mut self, frame: &[u8]) -> Result<(), Error> {
        match ToWorker::decode(frame)? {
            ToWorker::Welcome { slot, start, terms, version: _, features: _ } => {
                self.welcome(slot, start, *terms)
            }
            ToWorker::Refused { reason } => Err(Error::Refused { reason }),
            ToWorker::State { round, incarnation, chain } => {
                self.member()?;
                self.incoming = Some(Incoming { round, incarnation, chain, x: Vec::new() });
                Ok(())
            }
            ToWorker::Values { chunk, values } => self.take_values(chunk as usize, values),
            ToWorker::Open { round, incarnation, chain } => self.open(round, incarnation, chain),
            ToWorker::Verdict { round, chunk, planes } => self.stage_verdict(round, chunk as usize, planes),
            ToWorker::Update { round, chunk, values } => self.stage_update(round, chunk as usize, values),
            ToWorker::Commit { round, incarnation, eta, lambda, voters, chain } => {
                let link = Link { round, incarnation, eta, lambda, voters: &voters };
                self.commit(&link, &voters, chain)
            }
            ToWorker::Finish { reason } => {
                self.member()?;
                self.open = false;
                self.finished = true;
                self.transmits.push_back(to_server::digest(self.round, DigestTree::new(&self.x).root()));
                self.transmits.push_back(to_server::bye("the run is over"));
                self.steps.push_back(Step::Finished { round: self.round, reason });
                Ok(())
            }
        }
    }

    /// The first parameters, made from the seed of the terms. The server takes them, or checks that its own
    /// are the same, or sends its own.
    ///
    /// # Errors
    /// If it was not asked for, or there are not d of them.
    pub fn provide(&mut self, x: Vec<f32>) -> Result<(), Error> {
        let dimension = self.greeting.layout.dimension();
        let membership = self.membership.as_ref().ok_or_else(|| Error::Misuse("not welcomed yet".into()))?;
        if x.len() != dimension || !self.x.is_empty() {
            return Err(Error::Misuse(format!("expected {dimension} parameters, once, got {}", x.len())));
        }
        if membership.start == Start::Offer {
            self.transmits.push_back(to_server::init(&self.greeting.layout, &self.greeting.settings));
            let chunking = membership.chunking;
            for chunk in 0..chunking.count() {
                self.transmits.push_back(to_server::values(chunk, &x[chunking.coordinates(chunk)]));
            }
        }
        self.transmits.push_back(to_server::ready(DigestTree::new(&x).root()));
        self.x = x;
        Ok(())
    }

    /// How the batch of the open round went. Dropped, like a ballot, if that round is over already.
    ///
    /// # Errors
    /// If no round is open, or it was reported before.
    pub fn report(&mut self, loss: f32, correct: u32, samples: u32, non_finite: u64) -> Result<(), Error> {
        if self.overtaken() {
            return Ok(());
        }
        if !self.open || self.reported {
            return Err(Error::Misuse("a report belongs to an open round, once".into()));
        }
        self.reported = true;
        self.transmits.push_back(to_server::report(self.round, loss, correct, samples, non_finite));
        Ok(())
    }

    /// Casts whole chunks of the ballot, from word `first_word` of the model on.
    ///
    /// A ballot belongs to the round of the last [`Step::Open`] that was polled. If that round was committed in
    /// the meantime, the ballot is late and dropped: it must not count in the round after.
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
        for chunk in self.claim(AggregateKind::Vote, coordinates)? {
            let range = chunking.words(chunk);
            let range = range.start - words.start..range.end - words.start;
            let frame = to_server::ballot(self.round, chunk, &signs[range.clone()], &abstain[range]);
            self.transmits.push_back(frame);
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
            self.transmits.push_back(to_server::gradient(self.round, chunk, &gradient[range]));
        }
        Ok(())
    }

    /// The chunks that these coordinates are, marked as cast.
    fn claim(&mut self, aggregate: AggregateKind, coordinates: Range<usize>) -> Result<Range<usize>, Error> {
        if self.overtaken() {
            return Ok(0..0);
        }
        let (open, round) = (self.open, self.round);
        let member = self.member()?;
        let chunking = member.chunking;
        if !open || member.terms.aggregate != aggregate {
            return Err(Error::Misuse(format!("round {round} does not take a ballot of {aggregate:?} now")));
        }
        let length = chunking.coordinates(0).len().max(1);
        let chunks = coordinates.start / length..coordinates.end.div_ceil(length);
        let aligned = coordinates.start.is_multiple_of(length)
            && (coordinates.end.is_multiple_of(length) || coordinates.end == chunking.dimension());
        if !aligned || coordinates.end > chunking.dimension() {
            return Err(Error::Misuse(format!("coordinates {coordinates:?} are not whole chunks")));
        }
        for chunk in chunks.clone() {
            if std::mem::replace(&mut self.submitted[chunk], true) {
                return Err(Error::Misuse(format!("chunk {chunk} was cast in this round before")));
            }
        }
        Ok(chunks)
    }

    /// Whether the caller has yet to learn that the round it votes in is over.
    fn overtaken(&self) -> bool {
        let ends_a_round =
            |step: &Step| matches!(step, Step::Open { .. } | Step::Committed { .. } | Step::Finished { .. });
        self.steps.iter().any(ends_a_round)
    }

    fn member(&self) -> Result<&Membership, Error> {
        self.membership.as_ref().ok_or_else(|| Error::misbehaved("say welcome first", "another frame"))
    }

    fn welcome(&mut self, slot: Slot, start: Start, terms: Terms) -> Result<(), Error> {
        if self.membership.is_some() {
            return Err(Error::misbehaved("say welcome once", "a second welcome"));
        }
        let length = terms.chunk_coordinates as usize;
        let chunking = Chunking::new(self.greeting.layout.dimension(), length)
            .ok_or_else(|| Error::malformed("chunk length", "a multiple of 64 up to 65536", length))?;
        self.staged = Staged::new(terms.aggregate, chunking);
        self.submitted = vec![false; chunking.count()];
        self.membership = Some(Membership { terms, slot, start, chunking });
        self.steps.push_back(Step::Welcomed);
        Ok(())
    }

    fn take_values(&mut self, chunk: usize, values: FloatBytes<'_>) -> Result<(), Error> {
        let chunking = self.member()?.chunking;
        let Some(incoming) = &mut self.incoming else {
            return Err(Error::misbehaved("announce a state before sending it", "parameters"));
        };
        let range = chunking.coordinates(chunk);
        if range.start != incoming.x.len() || range.is_empty() {
            return Err(Error::misbehaved("send parameters in order", format!("chunk {chunk}")));
        }
        incoming.x.resize(range.end, 0.0);
        values.read(&mut incoming.x[range])?;
        if incoming.x.len() == chunking.dimension()
            && let Some(state) = self.incoming.take()
        {
            if state.round != self.round {
                // Another round's ballot and verdict say nothing about this one.
                self.open = false;
            }
            self.staged.clear();
            self.x = state.x;
            (self.round, self.incarnation, self.chain) = (state.round, state.incarnation, state.chain);
            self.steps.push_back(Step::Replaced { round: self.round });
        }
        Ok(())
    }

    fn open(&mut self, round: Round, incarnation: Incarnation, chain: ChainHash) -> Result<(), Error> {
        self.member()?;
        if self.x.is_empty() || self.incoming.is_some() {
            return Err(Error::misbehaved("open a round for who has the parameters", "an opening"));
        }
        (self.round, self.incarnation, self.chain) = (round, incarnation, chain);
        self.open_round();
        Ok(())
    }

    fn open_round(&mut self) {
        self.open = true;
        self.reported = false;
        self.submitted.fill(false);
        self.steps.push_back(Step::Open { round: self.round });
    }

    /// The coordinates and words of a chunk on which a verdict may come now.
    fn expect_verdict(
        &self,
        round: Round,
        chunk: usize,
        aggregate: AggregateKind,
    ) -> Result<(Range<usize>, Range<usize>), Error> {
        let member = self.member()?;
        let wrong =
            |details: String| Err(Error::misbehaved("decide each chunk of the open round once", details));
        if member.terms.aggregate != aggregate {
            return wrong(format!("a verdict of {aggregate:?} in a run of {:?}", member.terms.aggregate));
        }
        if round != self.round || chunk >= member.chunking.count() || self.staged.hashes[chunk].is_some() {
            return wrong(format!("chunk {chunk} of round {round}, while round {} is open", self.round));
        }
        Ok((member.chunking.coordinates(chunk), member.chunking.words(chunk)))
    }

    fn stage_verdict(&mut self, round: Round, chunk: usize, planes: PlaneBytes<'_>) -> Result<(), Error> {
        let (coordinates, words) = self.expect_verdict(round, chunk, AggregateKind::Vote)?;
        let signs = &mut self.staged.signs[words.clone()];
        let hold = &mut self.staged.hold[words];
        self.staged.any_hold |= planes.read(coordinates.len(), signs, hold)?;
        self.staged.hashes[chunk] = Some(verdict_hash(signs, hold));
        self.steps.push_back(Step::Decided { round, coordinates });
        Ok(())
    }

    fn stage_update(&mut self, round: Round, chunk: usize, values: FloatBytes<'_>) -> Result<(), Error> {
        let (coordinates, _) = self.expect_verdict(round, chunk, AggregateKind::Mean)?;
        let update = &mut self.staged.update[coordinates.clone()];
        values.read(update)?;
        self.staged.hashes[chunk] = Some(update_hash(update));
        self.steps.push_back(Step::Decided { round, coordinates });
        Ok(())
    }

    fn commit(&mut self, link: &Link<'_>, voters: &SlotSet, chain: ChainHash) -> Result<(), Error> {
        let member = self.member()?;
        let (rounds, digest_every, slot) = (member.terms.rounds, member.terms.digest_every, member.slot);
        let aggregate = member.terms.aggregate;
        if link.round != self.round || link.incarnation != self.incarnation {
            let details = format!("a commit of round {} while round {} is open", link.round, self.round);
            return Err(Error::misbehaved("commit the open round", details));
        }
        let Some(hashes) = self.staged.hashes.iter().copied().collect::<Option<Vec<_>>>() else {
            return Err(Error::misbehaved("commit what is decided", "a commit before the last verdict"));
        };
        let expected = self.chain.next(link, &hashes);
        if expected != chain {
            return Err(Error::incompatible("history of verdicts", expected, chain));
        }
        match aggregate {
            AggregateKind::Vote => {
                let hold = self.staged.any_hold.then_some(&self.staged.hold[..]);
                kernels::apply(&mut self.x, &self.staged.signs, hold, link.eta, link.lambda);
            }
            AggregateKind::Mean => apply_dense(&mut self.x, &self.staged.update, link.eta, link.lambda),
        }
        self.staged.clear();
        self.chain = chain;
        let counted = voters.contains(slot);
        self.steps.push_back(Step::Committed {
            round: self.round,
            eta: link.eta,
            lambda: link.lambda,
            counted,
        });
        self.round = self.round.next();
        self.open = false;
        let last = self.round.0 >= rounds;
        if !last && digest_every > 0 && self.round.0.is_multiple_of(digest_every) {
            self.transmits.push_back(to_server::digest(self.round, DigestTree::new(&self.x).root()));
        }
        if !last {
            self.open_round();
        }
        Ok(())
    }
}
