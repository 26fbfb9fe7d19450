//! The ballots of the open round, and what becomes of them chunk by chunk: at a server, or at a shard of one.

use std::ops::Range;

use bytes::Bytes;
use signvote_kernels::{self as kernels, Agreement, Ballot, words};

use crate::chain::{update_hash, verdict_hash};
use crate::dense::{DenseState, accumulate};
use crate::seal::{ballot_root, chunk_hash};
use crate::steps::Rates;
use crate::wire::{FloatBytes, PlaneBytes, ToServer, to_server, to_worker};
use crate::{AggregateKind, Chunking, Error, Layout, Margins, Optimizer, Round, Slot, SlotSet, TiePolicy};

/// What the ballots of a run become.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Rules {
    pub(crate) aggregate: AggregateKind,
    /// Places.
    pub(crate) workers: usize,
    pub(crate) tie: TiePolicy,
    pub(crate) min_voters: u32,
    /// μ of [`Config::vote_momentum`](crate::Config::vote_momentum).
    pub(crate) momentum: f32,
    /// [`Config::vote_feedback`](crate::Config::vote_feedback).
    pub(crate) feedback: bool,
    pub(crate) seed: u64,
    /// What is made of a mean gradient.
    pub(crate) optimizer: Optimizer,
    /// Whether ballots are hashed, for signatures.
    pub(crate) hashed: bool,
    /// Whether ballots are kept when their chunk is decided, for a record.
    pub(crate) kept: bool,
}

/// Coordinates of a tensor in a chunk whose margins are looked at: enough for a histogram, few beside the tally.
const MARGINS: usize = 1024;
/// Bits in a word of a plane.
const WORD_BITS: usize = 64;

/// One chunk of one worker's ballot, still in the bytes of its frame.
pub(crate) enum Piece<'a> {
    Planes(PlaneBytes<'a>),
    Floats(FloatBytes<'a>),
}

/// What was decided over one chunk.
pub(crate) struct Decision {
    pub(crate) frame: Bytes,
    pub(crate) hash: [u8; 32],
    pub(crate) ties: usize,
    pub(crate) holds: usize,
    pub(crate) agreements: Vec<(Slot, Agreement)>,
}

/// Ballots of all places for the open round, and the verdict as far as it is decided.
///
/// A vote's planes are kept until their chunk is decided, and lie where those of an earlier chunk have lain: while chunks are
/// decided as they come, the ballots at hand are few, whatever d, and stay in the processor's cache. A mean's gradients are
/// overwritten in the next round. Which of them count is in the round's per-chunk sets of voters.
#[derive(Debug)]
pub(crate) struct Ballots {
    chunking: Chunking,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Vote(Vote),
    Mean(Mean),
}

#[derive(Debug)]
struct Vote {
    rules: Rules,
    /// What has been cast, by chunk and place.
    cast: Vec<Vec<Option<Planes>>>,
    /// Planes out of use, each with room for a chunk.
    spare: Vec<Vec<u64>>,
    /// Frames of earlier verdicts, whose memory is used again if nobody holds it any more.
    frames: Vec<Bytes>,
    verdict: Verdict,
    /// Mean votes of the rounds so far, d coordinates; empty without momentum.
    mean: Vec<f32>,
    /// What verdicts have left out of it; empty without feedback.
    error: Vec<f32>,
    /// Hashes of what has been cast, by place and chunk, for signatures; empty without them.
    hashes: Vec<Vec<[u8; 32]>>,
}

/// Signs of a chunk, and its abstentions if there are any.
#[derive(Debug)]
struct Planes {
    signs: Vec<u64>,
    abstain: Option<Vec<u64>>,
}

impl Planes {
    fn ballot(&self) -> Ballot<'_> {
        Ballot::new(&self.signs, self.abstain.as_deref())
    }
}

/// The verdict over the whole model, as far as it is decided.
#[derive(Debug)]
struct Verdict {
    signs: Vec<u64>,
    hold: Vec<u64>,
    /// Whether anything is held, a flag a chunk.
    any: Vec<bool>,
}

#[derive(Debug)]
struct Mean {
    places: Vec<Vec<f32>>,
    update: Vec<f32>,
    state: DenseState,
}

impl Ballots {
    pub(crate) fn new(rules: Rules, chunking: Chunking) -> Self {
        let (dimension, chunks) = (chunking.dimension(), chunking.count());
        let kind = match rules.aggregate {
            AggregateKind::Vote => Kind::Vote(Vote {
                cast: (0..chunks).map(|_| (0..rules.workers).map(|_| None).collect()).collect(),
                spare: Vec::new(),
                frames: Vec::new(),
                // Pages that are never written take no memory: at a shard those of other shards' chunks.
                verdict: Verdict {
                    signs: vec![0; words(dimension)],
                    hold: vec![0; words(dimension)],
                    any: vec![false; chunks],
                },
                mean: vec![0.0; if rules.momentum > 0.0 { dimension } else { 0 }],
                error: vec![0.0; if rules.feedback { dimension } else { 0 }],
                hashes: if rules.hashed { vec![vec![[0; 32]; chunks]; rules.workers] } else { Vec::new() },
                rules,
            }),
            AggregateKind::Mean => Kind::Mean(Mean {
                places: vec![Vec::new(); rules.workers],
                update: vec![0.0; dimension],
                state: DenseState::new(rules.optimizer, dimension),
            }),
        };
        Self { chunking, kind }
    }

    /// Keeps a worker's piece.
    pub(crate) fn take(&mut self, slot: Slot, chunk: usize, piece: Piece<'_>) -> Result<(), Error> {
        let coordinates = self.chunking.coordinates(chunk);
        match (&mut self.kind, piece) {
            (Kind::Vote(vote), Piece::Planes(bytes)) => vote.take(slot, chunk, coordinates.len(), bytes),
            (Kind::Mean(mean), Piece::Floats(bytes)) => {
                let gradient = &mut mean.places[slot.index()];
                gradient.resize(self.chunking.dimension(), 0.0);
                bytes.read(&mut gradient[coordinates])
            }
            _ => Err(Error::Misuse("a piece of the other aggregate".into())),
        }
    }

    /// Decides a chunk from the pieces of these voters, in the order of their places.
    pub(crate) fn decide(&mut self, round: Round, chunk: usize, voters: &SlotSet) -> Decision {
        let coordinates = self.chunking.coordinates(chunk);
        match &mut self.kind {
            Kind::Vote(vote) => vote.decide(round, chunk, self.chunking.words(chunk), coordinates, voters),
            Kind::Mean(mean) => mean.decide(round, chunk, coordinates, voters),
        }
    }

    /// Adds to the histograms how clear these voters' ballots on a chunk are, by tensor: of each tensor, up to [`MARGINS`] coordinates
    /// in the chunk, its first ones there. Nothing in a mean.
    pub(crate) fn count_margins(
        &self,
        chunk: usize,
        voters: &SlotSet,
        layout: &Layout,
        histograms: &mut Vec<Margins>,
    ) {
        let Kind::Vote(vote) = &self.kind else { return };
        histograms.resize(layout.tensors().len(), [0; 11]);
        let (words, chunk_range) = (self.chunking.words(chunk), self.chunking.coordinates(chunk));
        let cast = voters.iter().filter_map(|slot| vote.cast[chunk][slot.index()].as_ref());
        let cast: Vec<_> = cast.collect();
        let mut margins = vec![0; MARGINS + 2 * WORD_BITS];
        for ((_, tensor), histogram) in layout.ranges().zip(histograms) {
            // Within the chunk, and there by whole words.
            let start = tensor.start.max(chunk_range.start);
            let end = tensor.end.min(chunk_range.end).min(start + MARGINS);
            if start >= end {
                continue;
            }
            let (start, end) = (start - chunk_range.start, end - chunk_range.start);
            let part = start / WORD_BITS..kernels::words(end).min(words.len());
            let of_part: Vec<_> = cast
                .iter()
                .map(|it| {
                    let abstain = it.abstain.as_ref().map(|abstain| &abstain[part.clone()]);
                    Ballot::new(&it.signs[part.clone()], abstain)
                })
                .collect();
            let margins = &mut margins[..end - part.start * WORD_BITS];
            kernels::margins(&of_part, margins.len(), margins);
            for &margin in &margins[start - part.start * WORD_BITS..] {
                histogram[(usize::from(margin) * 10).div_ceil(cast.len().max(1))] += 1;
            }
        }
    }

    /// Takes a verdict that was decided elsewhere, and gives its hash.
    pub(crate) fn stage(&mut self, chunk: usize, planes: PlaneBytes<'_>) -> Result<[u8; 32], Error> {
        let (coordinates, words) = (self.chunking.coordinates(chunk), self.chunking.words(chunk));
        let Kind::Vote(Vote { verdict, .. }) = &mut self.kind else {
            return Err(Error::Misuse("a verdict in a run that averages".into()));
        };
        let (signs, hold) = (&mut verdict.signs[words.clone()], &mut verdict.hold[words]);
        let any = planes.read(coordinates.len(), signs, hold)?;
        if !any && verdict.any[chunk] {
            hold.fill(0);
        }
        verdict.any[chunk] = any;
        Ok(verdict_hash(signs, any.then_some(&*hold)))
    }

    /// Takes a verdict in the frame that told it.
    pub(crate) fn stage_frame(&mut self, chunk: usize, frame: &[u8]) -> Result<[u8; 32], Error> {
        match ToServer::decode(frame)? {
            ToServer::Verdict { planes, .. } => self.stage(chunk, planes),
            _ => Err(Error::malformed("verdict", "a verdict", "another frame")),
        }
    }

    /// The hash of a ballot that was counted elsewhere.
    pub(crate) fn set_hash(&mut self, slot: Slot, chunk: usize, hash: [u8; 32]) {
        if let Kind::Vote(vote) = &mut self.kind
            && let Some(hashes) = vote.hashes.get_mut(slot.index())
        {
            hashes[chunk] = hash;
        }
    }

    /// Lets go of what has been cast: the round is over, or a chunk's ballots are to come again.
    pub(crate) fn forget(&mut self, chunks: Range<usize>) {
        if let Kind::Vote(vote) = &mut self.kind {
            chunks.for_each(|chunk| vote.forget(chunk));
        }
    }

    /// Takes a verdict's frame back, for its memory.
    pub(crate) fn recycle(&mut self, frame: Bytes) {
        if let Kind::Vote(vote) = &mut self.kind
            && vote.frames.len() < self.chunking.count()
        {
            vote.frames.push(frame);
        }
    }

    /// Hash of a place's piece of a chunk, if ballots are hashed.
    pub(crate) fn hash(&self, slot: Slot, chunk: usize) -> Option<[u8; 32]> {
        match &self.kind {
            Kind::Vote(vote) => vote.hashes.get(slot.index()).map(|hashes| hashes[chunk]),
            Kind::Mean(_) => None,
        }
    }

    /// Root of a place's ballot, all of whose chunks are at hand.
    pub(crate) fn root(&self, slot: Slot) -> [u8; 32] {
        match &self.kind {
            Kind::Vote(vote) => ballot_root(vote.hashes.get(slot.index()).into_iter().flatten()),
            Kind::Mean(_) => [0; 32],
        }
    }

    /// A piece that is at hand, as the frame that it came in.
    pub(crate) fn frame(&self, round: Round, chunk: usize, slot: Slot) -> Option<Bytes> {
        match &self.kind {
            Kind::Vote(vote) => {
                let planes = vote.cast[chunk][slot.index()].as_ref()?;
                let none;
                let abstain = match &planes.abstain {
                    Some(abstain) => abstain,
                    None => {
                        none = vec![0; planes.signs.len()];
                        &none
                    }
                };
                Some(to_server::ballot(round, chunk, &planes.signs, abstain, &mut Vec::new()))
            }
            Kind::Mean(mean) => {
                let coordinates = self.chunking.coordinates(chunk);
                Some(to_server::gradient(round, chunk, &mean.places[slot.index()][coordinates]))
            }
        }
    }

    /// Makes the round's step on x, once every chunk is decided.
    pub(crate) fn apply(&self, x: &mut [f32], rates: &Rates) {
        match &self.kind {
            Kind::Vote(Vote { verdict, .. }) => {
                let hold = verdict.any.contains(&true).then_some(&verdict.hold[..]);
                rates.apply(x, &verdict.signs, hold);
            }
            Kind::Mean(Mean { update, .. }) => rates.apply_dense(x, update),
        }
    }
}

impl Vote {
    fn take(
        &mut self,
        slot: Slot,
        chunk: usize,
        coordinates: usize,
        bytes: PlaneBytes<'_>,
    ) -> Result<(), Error> {
        let mut signs = plane(&mut self.spare, words(coordinates));
        let mut abstain = bytes.has_second().then(|| plane(&mut self.spare, words(coordinates)));
        bytes.read(coordinates, &mut signs, abstain.as_deref_mut().unwrap_or_default())?;
        if let Some(hashes) = self.hashes.get_mut(slot.index()) {
            hashes[chunk] = chunk_hash(&signs, abstain.as_deref());
        }
        let before = self.cast[chunk][slot.index()].replace(Planes { signs, abstain });
        self.spare.extend(before.into_iter().flat_map(Planes::into_both));
        Ok(())
    }

    fn forget(&mut self, chunk: usize) {
        let planes = self.cast[chunk].iter_mut().filter_map(Option::take);
        self.spare.extend(planes.flat_map(Planes::into_both));
    }

    fn decide(
        &mut self,
        round: Round,
        chunk: usize,
        words: Range<usize>,
        range: Range<usize>,
        voters: &SlotSet,
    ) -> Decision {
        let coordinates = range.len();
        let tie = self.rules.tie.at(self.rules.seed, round, words.start);
        let cast = &self.cast[chunk];
        let ballots: Vec<_> =
            voters.iter().filter_map(|slot| Some((slot, cast[slot.index()].as_ref()?.ballot()))).collect();
        let of_all: Vec<_> = ballots.iter().map(|&(_, ballot)| ballot).collect();
        let signs = &mut self.verdict.signs[words.clone()];
        let hold = &mut self.verdict.hold[words];
        let decided = if self.rules.momentum > 0.0 {
            let mean = &mut self.mean[range.clone()];
            remember(&of_all, self.rules.momentum, mean);
            if self.rules.feedback {
                feed_back(mean, &mut self.error[range], signs);
                hold.fill(0);
                kernels::Decided::default()
            } else {
                let packed = kernels::pack(mean, signs, hold);
                kernels::Decided { ties: 0, holds: packed.abstained }
            }
        } else {
            kernels::decide(&of_all, coordinates, tie, self.rules.min_voters, signs, hold)
        };
        let any = decided.holds > 0;
        self.verdict.any[chunk] = any;
        let agreements = ballots
            .iter()
            .map(|&(slot, ballot)| (slot, kernels::agreement(ballot, signs, hold, coordinates)))
            .collect();
        let decision = Decision {
            frame: to_worker::verdict(round, chunk, signs, hold, &mut self.frames),
            hash: verdict_hash(signs, any.then_some(&*hold)),
            ties: decided.ties,
            holds: decided.holds,
            agreements,
        };
        if !self.rules.kept {
            self.forget(chunk);
        }
        decision
    }
}

/// m ← μ·m + (1 − μ)·v̄, where v̄ is the mean of these votes, abstentions being 0.
fn remember(ballots: &[Ballot<'_>], momentum: f32, mean: &mut [f32]) {
    let (mut sum, mut votes) = (vec![0.0; mean.len()], vec![0.0; mean.len()]);
    for ballot in ballots {
        kernels::unpack(ballot.signs, ballot.abstain, &mut votes);
        accumulate(&mut sum, &votes);
    }
    let share = (1.0 - momentum) / ballots.len().max(1) as f32;
    for (mean, sum) in mean.iter_mut().zip(sum) {
        *mean = momentum * *mean + share * sum;
    }
}

/// s = sign(e + m) of every coordinate, and then e ← clip(e + m − s, ±1): verdicts add up to m.
fn feed_back(mean: &[f32], error: &mut [f32], signs: &mut [u64]) {
    signs.fill(0);
    for (at, (mean, error)) in mean.iter().zip(error).enumerate() {
        let sum = *error + mean;
        let negative = sum < 0.0;
        signs[at / 64] |= u64::from(negative) << (at % 64);
        *error = (sum - if negative { -1.0 } else { 1.0 }).clamp(-1.0, 1.0);
    }
}

impl Planes {
    fn into_both(self) -> impl Iterator<Item = Vec<u64>> {
        [Some(self.signs), self.abstain].into_iter().flatten()
    }
}

/// A plane of so many words, with anything in it.
fn plane(spare: &mut Vec<Vec<u64>>, words: usize) -> Vec<u64> {
    let mut plane = spare.pop().unwrap_or_default();
    plane.resize(words, 0);
    plane
}

impl Mean {
    /// The mean, summed in the order of the places, so that the order of arrival does not matter.
    fn decide(&mut self, round: Round, chunk: usize, range: Range<usize>, voters: &SlotSet) -> Decision {
        let mean = &mut self.update[range.clone()];
        mean.fill(0.0);
        voters.iter().for_each(|slot| accumulate(mean, &self.places[slot.index()][range.clone()]));
        let count = voters.len().max(1) as f32;
        mean.iter_mut().for_each(|sum| *sum /= count);
        let agreements = mean_agreements(&self.places, voters, range.clone(), mean);
        self.state.direction(range, round.0 + 1, mean);
        Decision {
            frame: to_worker::update(round, chunk, mean),
            hash: update_hash(mean),
            ties: 0,
            holds: 0,
            agreements,
        }
    }
}

/// How the signs of each worker's gradient agree with those of the mean: the same anomaly score as in the vote.
fn mean_agreements(
    places: &[Vec<f32>],
    voters: &SlotSet,
    range: Range<usize>,
    mean: &[f32],
) -> Vec<(Slot, Agreement)> {
    let count = words(mean.len());
    let (mut signs, mut hold) = (vec![0; count], vec![0; count]);
    kernels::pack(mean, &mut signs, &mut hold);
    let (mut own, mut abstain) = (vec![0; count], vec![0; count]);
    voters
        .iter()
        .map(|slot| {
            kernels::pack(&places[slot.index()][range.clone()], &mut own, &mut abstain);
            let ballot = Ballot::new(&own, Some(&abstain));
            (slot, kernels::agreement(ballot, &signs, &hold, mean.len()))
        })
        .collect()
}
