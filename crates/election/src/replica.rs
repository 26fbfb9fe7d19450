//! One copy of the model, and how verdicts move it: a worker's, or the one that a log is replayed on.

use std::ops::Range;

use crate::chain::{Link, update_hash, verdict_hash};
use crate::memory::Values;
use crate::steps::Rates;
use crate::wire::{FloatBytes, PlaneBytes, ToWorker};
use crate::{AggregateKind, Chunking, DigestTree, Error, Position, Round, SlotSet, Steps};

/// A replica x with the verdict of the open round as far as it has come.
///
/// Verdicts are staged, a bit a coordinate, and nothing moves before the commit: a round that is never committed
/// leaves no trace.
#[derive(Debug)]
pub struct Replica {
    aggregate: AggregateKind,
    chunking: Chunking,
    steps: Steps,
    x: Values,
    position: Position,
    signs: Vec<u64>,
    hold: Vec<u64>,
    any_hold: bool,
    /// Whether the hold plane of a chunk is not all zeros, since some earlier round: a dense verdict need not write it.
    dirty_holds: Vec<bool>,
    update: Vec<f32>,
    /// A hash for each decided chunk.
    hashes: Vec<Option<[u8; 32]>>,
    /// The step that is being prepared.
    ahead: Ahead,
}

/// x as it will be after the open round, made chunk by chunk as verdicts come, while the link is what is waited for. A commit with
/// the rates that were expected then only has to change the two over; with others, or where a verdict was replaced, nothing is
/// lost but the work. It takes 4 bytes a coordinate, and is begun where somebody says what to expect.
#[derive(Debug, Default)]
struct Ahead {
    /// Of which η and λ, and what these come to.
    rates: Option<((f32, f32), Rates)>,
    x: Values,
    done: Vec<bool>,
}

impl Replica {
    /// The replica x, d parameters, as committed at `position`.
    ///
    /// # Panics
    /// If `x` is not as long as `chunking` says.
    pub fn new(
        aggregate: AggregateKind,
        chunking: Chunking,
        steps: Steps,
        x: Vec<f32>,
        position: Position,
    ) -> Self {
        assert_eq!(x.len(), chunking.dimension(), "parameters of a replica");
        let dimension = x.len();
        let (words, floats) = match aggregate {
            AggregateKind::Vote => (signvote_kernels::words(dimension), 0),
            AggregateKind::Mean => (0, dimension),
        };
        Self {
            aggregate,
            chunking,
            steps,
            x: Values::from(x),
            position,
            signs: vec![0; words],
            hold: vec![0; words],
            any_hold: false,
            dirty_holds: vec![false; chunking.count()],
            update: vec![0.0; floats],
            hashes: vec![None; chunking.count()],
            ahead: Ahead::default(),
        }
    }

    /// Says which η and λ the open round will probably have, so that its step can be prepared.
    pub(crate) fn expect_rates(&mut self, eta: f32, lambda: f32) {
        if self.aggregate == AggregateKind::Vote {
            self.ahead.rates = Some(((eta, lambda), self.steps.rates(&self.x, eta, lambda)));
            if self.ahead.x.len() != self.x.len() {
                self.ahead.x = Values::zeros(self.x.len());
            }
            self.ahead.done.resize(self.chunking.count(), false);
        }
    }

    /// x as of the last commit.
    pub fn parameters(&self) -> &[f32] {
        &self.x
    }

    /// x, for who has no more use for the replica.
    pub fn into_parameters(self) -> Vec<f32> {
        self.x.into()
    }

    /// What has been committed.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Digest of x.
    pub fn digest(&self) -> crate::Digest {
        DigestTree::new(&self.x).root()
    }

    /// Takes in a frame of a log or of the wire: a verdict, an update or a commit.
    ///
    /// # Errors
    /// If it is another frame, or does not follow from what came before.
    pub fn replay(&mut self, frame: &[u8]) -> Result<(), Error> {
        match ToWorker::decode(frame)? {
            ToWorker::Verdict { round, chunk, planes } => {
                self.stage_verdict(round, chunk as usize, planes).map(|_| ())
            }
            ToWorker::Update { round, chunk, values } => {
                self.stage_update(round, chunk as usize, values).map(|_| ())
            }
            ToWorker::Commit { round, incarnation, eta, lambda, next_eta: _, voters, chain } => {
                self.commit(&Link { round, incarnation, eta, lambda, voters: &voters }, chain)
            }
            _ => Err(Error::malformed("log of verdicts", "verdicts and commits", "another frame")),
        }
    }

    /// Signs and holds staged so far for a chunk, once its verdict is in.
    pub(crate) fn staged(&self, chunk: usize) -> Option<(&[u64], &[u64])> {
        self.hashes[chunk]?;
        let words = self.chunking.words(chunk);
        Some((&self.signs[words.clone()], &self.hold[words]))
    }

    /// Hash of the verdict that is staged for a chunk.
    pub(crate) fn staged_hash(&self, chunk: usize) -> Option<[u8; 32]> {
        self.hashes.get(chunk).copied().flatten()
    }

    /// Whether a verdict on every chunk is staged.
    pub(crate) fn is_decided(&self) -> bool {
        self.hashes.iter().all(Option::is_some)
    }

    /// Forgets the verdict that is staged for a chunk: another one comes.
    pub(crate) fn forget_verdict(&mut self, chunk: usize) {
        self.hashes[chunk] = None;
        if let Some(done) = self.ahead.done.get_mut(chunk) {
            *done = false;
        }
    }

    pub(crate) fn stage_verdict(
        &mut self,
        round: Round,
        chunk: usize,
        planes: PlaneBytes<'_>,
    ) -> Result<Range<usize>, Error> {
        self.expect_verdict(round, chunk, AggregateKind::Vote)?;
        let (coordinates, words) = (self.chunking.coordinates(chunk), self.chunking.words(chunk));
        let (signs, hold) = (&mut self.signs[words.clone()], &mut self.hold[words]);
        let any = planes.read(coordinates.len(), signs, hold)?;
        self.hashes[chunk] = Some(verdict_hash(signs, any.then_some(&*hold)));
        if !any && self.dirty_holds[chunk] {
            hold.fill(0);
        }
        self.dirty_holds[chunk] = any;
        self.any_hold |= any;
        if let Some((_, rates)) = &self.ahead.rates {
            let (x, next) = (&self.x[coordinates.clone()], &mut self.ahead.x[coordinates.clone()]);
            rates.apply_into(&coordinates, x, signs, any.then_some(&*hold), next);
            self.ahead.done[chunk] = true;
        }
        Ok(coordinates)
    }

    pub(crate) fn stage_update(
        &mut self,
        round: Round,
        chunk: usize,
        values: FloatBytes<'_>,
    ) -> Result<Range<usize>, Error> {
        self.expect_verdict(round, chunk, AggregateKind::Mean)?;
        let coordinates = self.chunking.coordinates(chunk);
        let update = &mut self.update[coordinates.clone()];
        values.read(update)?;
        self.hashes[chunk] = Some(update_hash(update));
        Ok(coordinates)
    }

    /// Whether a verdict on this chunk may come now.
    fn expect_verdict(&self, round: Round, chunk: usize, aggregate: AggregateKind) -> Result<(), Error> {
        let wrong =
            |details: String| Err(Error::misbehaved("decide each chunk of the open round once", details));
        if self.aggregate != aggregate {
            return wrong(format!("a verdict of {aggregate:?} in a run of {:?}", self.aggregate));
        }
        let open = self.position.round;
        if round != open || self.hashes.get(chunk).is_none_or(Option::is_some) {
            return wrong(format!("chunk {chunk} of round {round}, while round {open} is open"));
        }
        Ok(())
    }

    /// Makes the step of a round whose every chunk is decided.
    ///
    /// The incarnation may have changed since the last commit: the chain hash has it in it.
    pub(crate) fn commit(&mut self, link: &Link<'_>, chain: crate::ChainHash) -> Result<(), Error> {
        let open = self.position.round;
        if link.round != open {
            let details = format!("a commit of round {} while round {open} is open", link.round);
            return Err(Error::misbehaved("commit the open round", details));
        }
        let Some(hashes) = self.hashes.iter().copied().collect::<Option<Vec<_>>>() else {
            return Err(Error::misbehaved("commit what is decided", "a commit before the last verdict"));
        };
        let expected = self.position.chain.next(link, &hashes);
        if expected != chain {
            return Err(Error::incompatible("history of verdicts", expected, chain));
        }
        match self.aggregate {
            AggregateKind::Vote if self.is_prepared(link) => std::mem::swap(&mut self.x, &mut self.ahead.x),
            AggregateKind::Vote => {
                let hold = self.any_hold.then_some(&self.hold[..]);
                self.steps.rates(&self.x, link.eta, link.lambda).apply(&mut self.x, &self.signs, hold);
            }
            AggregateKind::Mean => {
                self.steps.rates(&self.x, link.eta, link.lambda).apply_dense(&mut self.x, &self.update);
            }
        }
        self.forget_verdicts();
        self.position = Position { round: open.next(), incarnation: link.incarnation, chain };
        Ok(())
    }

    /// Whether the step of this round is ready.
    fn is_prepared(&self, link: &Link<'_>) -> bool {
        let bits = |(eta, lambda): (f32, f32)| (eta.to_bits(), lambda.to_bits());
        self.ahead.rates.as_ref().map(|(rates, _)| bits(*rates)) == Some(bits((link.eta, link.lambda)))
            && self.ahead.done.iter().all(|&done| done)
    }

    /// Forgets what is staged: the verdicts of the open round come again.
    pub(crate) fn forget_verdicts(&mut self) {
        self.ahead.rates = None;
        self.ahead.done.fill(false);
        self.any_hold = false;
        self.hashes.fill(None);
    }

    /// The same history under a later incarnation.
    pub(crate) fn set_incarnation(&mut self, incarnation: crate::Incarnation) {
        self.position.incarnation = incarnation;
    }

    /// Another x, at another position.
    pub(crate) fn replace(&mut self, x: Vec<f32>, position: Position) {
        self.forget_verdicts();
        self.ahead = Ahead::default();
        self.x = Values::from(x);
        self.position = position;
    }
}

/// The words of voters, of a commit that is at hand as bytes.
pub(crate) fn voters_of(frame: &[u8]) -> Result<SlotSet, Error> {
    match ToWorker::decode(frame)? {
        ToWorker::Commit { voters, .. } => Ok(voters),
        _ => Err(Error::malformed("log of verdicts", "a commit", "another frame")),
    }
}
