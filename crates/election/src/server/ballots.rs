//! The ballots of the open round, and what becomes of them chunk by chunk.

use std::ops::Range;

use bytes::Bytes;
use signvote_kernels::{self as kernels, Agreement, Ballot, words};

use super::Config;
use crate::chain::{tie, update_hash, verdict_hash};
use crate::dense::{DenseState, accumulate, apply_dense};
use crate::seal::{ballot_root, chunk_hash};
use crate::wire::{FloatBytes, PlaneBytes, to_server, to_worker};
use crate::{AggregateKind, Chunking, Error, Round, Slot, SlotSet, TiePolicy};

/// One chunk of one worker's ballot, still in the bytes of its frame.
pub(super) enum Piece<'a> {
    Planes(PlaneBytes<'a>),
    Floats(FloatBytes<'a>),
}

/// What was decided over one chunk.
pub(super) struct Decision {
    pub(super) frame: Bytes,
    pub(super) hash: [u8; 32],
    pub(super) ties: usize,
    pub(super) holds: usize,
    pub(super) agreements: Vec<(Slot, Agreement)>,
}

/// Ballots of all places for the open round, and the verdict as far as it is decided.
///
/// Planes are kept until their chunk is decided and then overwritten in the next round; which of them count
/// is in the round's per-chunk sets of voters, so nothing is cleared.
#[derive(Debug)]
pub(super) struct Ballots {
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
    places: Vec<Planes>,
    verdict: Planes,
    tie: TiePolicy,
    min_voters: u32,
    seed: u64,
    /// Hashes of the chunks at hand, by place, for signatures; empty without them.
    hashes: Vec<Vec<[u8; 32]>>,
}

#[derive(Debug)]
struct Mean {
    places: Vec<Vec<f32>>,
    update: Vec<f32>,
    state: DenseState,
}

/// Signs and abstentions (or holds) of the whole model. Allocated when first used: a place may stay empty.
#[derive(Clone, Debug, Default)]
struct Planes {
    signs: Vec<u64>,
    second: Vec<u64>,
    /// Whether any bit of the second plane is set, a flag a chunk: dense ballots skip it.
    any: Vec<bool>,
}

impl Planes {
    fn allocate(&mut self, chunking: Chunking) {
        if self.signs.is_empty() {
            self.signs = vec![0; words(chunking.dimension())];
            self.second = vec![0; words(chunking.dimension())];
            self.any = vec![false; chunking.count()];
        }
    }

    fn ballot(&self, chunk: usize, words: Range<usize>) -> Ballot<'_> {
        let abstain = self.any[chunk].then(|| &self.second[words.clone()]);
        Ballot::new(&self.signs[words], abstain)
    }
}

impl Ballots {
    pub(super) fn new(config: &Config, chunking: Chunking) -> Self {
        let workers = usize::from(config.terms.workers);
        let dimension = chunking.dimension();
        let kind = match config.terms.aggregate {
            AggregateKind::Vote => {
                let mut verdict = Planes::default();
                verdict.allocate(chunking);
                Kind::Vote(Vote {
                    places: vec![Planes::default(); workers],
                    verdict,
                    tie: config.tie,
                    min_voters: config.min_voters,
                    seed: config.terms.seed,
                    hashes: if config.terms.signed {
                        vec![vec![[0; 32]; chunking.count()]; workers]
                    } else {
                        Vec::new()
                    },
                })
            }
            AggregateKind::Mean => Kind::Mean(Mean {
                places: vec![Vec::new(); workers],
                update: vec![0.0; dimension],
                state: DenseState::new(config.optimizer, dimension),
            }),
        };
        Self { chunking, kind }
    }

    /// Keeps a worker's piece.
    pub(super) fn take(&mut self, slot: Slot, chunk: usize, piece: Piece<'_>) -> Result<(), Error> {
        let coordinates = self.chunking.coordinates(chunk);
        match (&mut self.kind, piece) {
            (Kind::Vote(vote), Piece::Planes(bytes)) => {
                let planes = &mut vote.places[slot.index()];
                planes.allocate(self.chunking);
                let words = self.chunking.words(chunk);
                let (signs, second) = (&mut planes.signs[words.clone()], &mut planes.second[words]);
                planes.any[chunk] = bytes.read(coordinates.len(), signs, second)?;
                if let Some(hashes) = vote.hashes.get_mut(slot.index()) {
                    hashes[chunk] = chunk_hash(signs, planes.any[chunk].then_some(second));
                }
                Ok(())
            }
            (Kind::Mean(mean), Piece::Floats(bytes)) => {
                let gradient = &mut mean.places[slot.index()];
                gradient.resize(self.chunking.dimension(), 0.0);
                bytes.read(&mut gradient[coordinates])
            }
            _ => Err(Error::Misuse("a piece of the other aggregate".into())),
        }
    }

    /// Decides a chunk from the pieces of these voters, in the order of their places.
    pub(super) fn decide(&mut self, round: Round, chunk: usize, voters: &SlotSet) -> Decision {
        let coordinates = self.chunking.coordinates(chunk);
        match &mut self.kind {
            Kind::Vote(vote) => {
                vote.decide(round, chunk, self.chunking.words(chunk), coordinates.len(), voters)
            }
            Kind::Mean(mean) => mean.decide(round, chunk, coordinates, voters),
        }
    }

    /// Root of a place's ballot, all of whose chunks are at hand.
    pub(super) fn root(&self, slot: Slot) -> [u8; 32] {
        match &self.kind {
            Kind::Vote(vote) => ballot_root(vote.hashes.get(slot.index()).into_iter().flatten()),
            Kind::Mean(_) => [0; 32],
        }
    }

    /// A piece that is at hand, as the frame that it came in.
    pub(super) fn frame(&self, round: Round, chunk: usize, slot: Slot) -> Bytes {
        match &self.kind {
            Kind::Vote(vote) => {
                let (planes, words) = (&vote.places[slot.index()], self.chunking.words(chunk));
                to_server::ballot(round, chunk, &planes.signs[words.clone()], &planes.second[words])
            }
            Kind::Mean(mean) => {
                let coordinates = self.chunking.coordinates(chunk);
                to_server::gradient(round, chunk, &mean.places[slot.index()][coordinates])
            }
        }
    }

    /// Makes the round's step on x, once every chunk is decided.
    pub(super) fn apply(&self, x: &mut [f32], eta: f32, lambda: f32) {
        match &self.kind {
            Kind::Vote(Vote { verdict, .. }) => {
                let hold = verdict.any.contains(&true).then_some(&verdict.second[..]);
                kernels::apply(x, &verdict.signs, hold, eta, lambda);
            }
            Kind::Mean(Mean { update, .. }) => apply_dense(x, update, eta, lambda),
        }
    }
}

impl Vote {
    fn decide(
        &mut self,
        round: Round,
        chunk: usize,
        words: Range<usize>,
        coordinates: usize,
        voters: &SlotSet,
    ) -> Decision {
        let tie = tie(self.tie, self.seed, round, words.start);
        let ballots: Vec<_> =
            voters.iter().map(|slot| self.places[slot.index()].ballot(chunk, words.clone())).collect();
        let signs = &mut self.verdict.signs[words.clone()];
        let hold = &mut self.verdict.second[words];
        let decided = kernels::decide(&ballots, coordinates, tie, self.min_voters, signs, hold);
        self.verdict.any[chunk] = decided.holds > 0;
        let agreements = voters
            .iter()
            .zip(&ballots)
            .map(|(slot, &ballot)| (slot, kernels::agreement(ballot, signs, hold, coordinates)))
            .collect();
        Decision {
            frame: to_worker::verdict(round, chunk, signs, hold),
            hash: verdict_hash(signs, hold),
            ties: decided.ties,
            holds: decided.holds,
            agreements,
        }
    }
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
