//! What must hold at every step, worked out a second time from the frames that pass by.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use signvote_election::{
    AggregateKind, ChainHash, Chunking, Config, Event, Layout, Optimizer, Server, Slot, TiePolicy,
    WorkerState, decision::DeadlineRule,
};

use super::by_hand::{self, Commit, Piece, kind};

/// A ballot's or a verdict's content.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Content {
    Signs(Vec<i8>),
    Floats(Vec<f32>),
}

impl Content {
    fn bits(&self) -> Vec<u32> {
        match self {
            Self::Signs(signs) => signs.iter().map(|&sign| f32::from(sign).to_bits()).collect(),
            Self::Floats(values) => bits(values),
        }
    }
}

/// The state of the run after so many rounds.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) x: Vec<f32>,
    pub(crate) chain: [u8; 32],
}

/// Follows a run from outside and recounts it.
pub(crate) struct Oracle {
    config: Config,
    chunking: Option<Chunking>,
    /// `history[r]` is the state after r rounds.
    pub(crate) history: Vec<State>,
    /// Per chunk of the open round, whose ballots count.
    ballots: BTreeMap<usize, BTreeMap<Slot, Content>>,
    /// Verdicts that were sent, by round and chunk, with their frames.
    verdicts: BTreeMap<(u64, usize), (Bytes, Content)>,
    commits: BTreeMap<u64, Bytes>,
    /// The velocity of dense SGD.
    velocity: Vec<f32>,
    /// Who may vote.
    present: BTreeSet<Slot>,
    /// Whom the open round waits for.
    expected: BTreeSet<Slot>,
    opened: Duration,
    running: bool,
    /// Ballots that came in time, and those that did not.
    pub(crate) counted_pieces: u64,
    pub(crate) late_pieces: u64,
}

impl Oracle {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            chunking: None,
            history: vec![],
            ballots: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            commits: BTreeMap::new(),
            velocity: vec![],
            present: BTreeSet::new(),
            expected: BTreeSet::new(),
            opened: Duration::ZERO,
            running: false,
            counted_pieces: 0,
            late_pieces: 0,
        }
    }

    /// No ballot counts any more.
    pub(crate) fn stop(&mut self) {
        self.running = false;
    }

    /// The model as it was brought.
    pub(crate) fn see_model(&mut self, layout: &Layout, x: &[f32]) {
        if self.chunking.is_none() {
            let length = self.config.terms.chunk_coordinates as usize;
            self.chunking = Chunking::new(x.len(), length);
            self.velocity = vec![0.0; x.len()];
            let chain = by_hand::chain_start(self.config.terms.run.0, layout, x);
            self.history.push(State { x: x.to_vec(), chain });
        }
    }

    /// A frame is about to reach the server from the worker at this place.
    pub(crate) fn frame_to_server(&mut self, server: &Server, slot: Option<Slot>, frame: &[u8]) {
        let (Some(slot), Some(piece), Some(chunking)) = (slot, Piece::read(frame), self.chunking) else {
            return;
        };
        let own = match self.config.terms.aggregate {
            AggregateKind::Vote => kind::BALLOT,
            AggregateKind::Mean => kind::GRADIENT,
        };
        if piece.kind != own || piece.chunk >= chunking.count() || !self.present.contains(&slot) {
            return;
        }
        let voted = self.ballots.get(&piece.chunk).is_some_and(|ballots| ballots.contains_key(&slot));
        if !self.running || piece.round != server.round().0 {
            self.late_pieces += u64::from(!self.running || piece.round < server.round().0);
            return;
        }
        if voted {
            // One vote a place, round and chunk: the first.
            return;
        }
        if self.verdicts.contains_key(&(piece.round, piece.chunk)) {
            self.late_pieces += 1;
            return;
        }
        if let Some(content) = content(&piece, chunking) {
            self.counted_pieces += 1;
            self.ballots.entry(piece.chunk).or_default().insert(slot, content);
        }
    }

    /// The server has sent a frame to somebody.
    pub(crate) fn frame_from_server(&mut self, now: Duration, frame: &Bytes) {
        match by_hand::kind_of(frame) {
            kind::VERDICT | kind::UPDATE => self.see_verdict(now, frame),
            kind::COMMIT => {
                let commit = Commit::read(frame);
                let known = self.commits.entry(commit.round).or_insert_with(|| frame.clone());
                assert_eq!(known, frame, "two commits of round {}", commit.round);
            }
            _ => {}
        }
    }

    fn see_verdict(&mut self, now: Duration, frame: &Bytes) {
        let piece = Piece::read(frame).unwrap();
        let (round, chunk) = (piece.round, piece.chunk);
        if let Some((known, _)) = self.verdicts.get(&(round, chunk)) {
            assert_eq!(known, frame, "two verdicts in round {round} over chunk {chunk}");
            return;
        }
        assert_eq!(round + 1, self.history.len() as u64, "a verdict belongs to the open round");
        let voters: BTreeSet<_> =
            self.ballots.get(&chunk).into_iter().flatten().map(|(&slot, _)| slot).collect();
        let quorum = self.config.quorum;
        assert!(voters.len() >= quorum, "round {round}, chunk {chunk}: {} of {quorum} ballots", voters.len());
        let deadline_passed = match self.config.deadline {
            DeadlineRule::Never => false,
            DeadlineRule::Fixed(deadline) => now >= self.opened + deadline,
            DeadlineRule::Adaptive { floor, .. } => now >= self.opened + floor,
        };
        assert!(
            self.expected.is_subset(&voters) || deadline_passed,
            "round {round}, chunk {chunk} was decided before its deadline without {:?}",
            self.expected.difference(&voters),
        );
        let content = content(&piece, self.chunking.unwrap()).expect("a canonical verdict");
        let recount = self.recount(round, chunk);
        assert_eq!(content.bits(), recount.bits(), "round {round}, chunk {chunk}: the verdict is another");
        self.verdicts.insert((round, chunk), (frame.clone(), content));
    }

    /// The verdict over a chunk of the open round, from the ballots that came in.
    fn recount(&mut self, round: u64, chunk: usize) -> Content {
        let range = self.chunking.unwrap().coordinates(chunk);
        let nobody = BTreeMap::new();
        let ballots = self.ballots.get(&chunk).unwrap_or(&nobody);
        let config = &self.config;
        match config.terms.aggregate {
            AggregateKind::Vote => {
                let verdict = |at: usize| {
                    let votes = ballots.values().map(|ballot| match ballot {
                        Content::Signs(signs) => i32::from(signs[at - range.start]),
                        Content::Floats(_) => unreachable!("a gradient in a vote"),
                    });
                    let (sum, cast) = votes.fold((0, 0), |(sum, cast), v| (sum + v, cast + v.unsigned_abs()));
                    match (sum.signum(), config.tie) {
                        _ if cast < config.min_voters.max(1) => 0,
                        (0, TiePolicy::Coin) => by_hand::coin(config.terms.seed, round, at),
                        (0, TiePolicy::Hold) => 0,
                        (0, TiePolicy::Positive) => 1,
                        (sign, _) => sign as i8,
                    }
                };
                Content::Signs(range.clone().map(verdict).collect())
            }
            AggregateKind::Mean => {
                let Optimizer::Sgd { momentum } = config.optimizer else { panic!("a recount of SGD only") };
                let mut mean = vec![0.0_f32; range.len()];
                for ballot in ballots.values() {
                    let Content::Floats(gradient) = ballot else { unreachable!("a ballot in a mean") };
                    mean.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
                }
                for (g, v) in mean.iter_mut().zip(&mut self.velocity[range]) {
                    *v = momentum * *v + *g / ballots.len() as f32;
                    *g = *v;
                }
                Content::Floats(mean)
            }
        }
    }

    /// Something was recorded.
    pub(crate) fn event(&mut self, now: Duration, event: &Event, server: &Server) {
        match event {
            Event::Joined { slot, .. } => assert!(self.present.insert(*slot), "{slot} joined twice"),
            Event::Left { slot, .. } => {
                assert!(self.present.remove(slot), "{slot} left without having joined");
                self.expected.remove(slot);
            }
            Event::Started { workers, .. } => {
                assert_eq!(*workers, self.present.len());
                self.open_round(now, server);
            }
            Event::Committed { round, voters, partial, .. } => {
                self.commit(round.0, *voters, *partial, server);
                self.open_round(now, server);
            }
            _ => {}
        }
    }

    fn open_round(&mut self, now: Duration, server: &Server) {
        self.ballots.clear();
        let status = server.status(now).workers;
        let awaited = |slot: &&Slot| {
            !matches!(status[slot.index()].state, WorkerState::NotAwaited | WorkerState::Behind)
        };
        self.expected = self.present.iter().filter(awaited).copied().collect();
        self.opened = now;
        self.running = (self.history.len() as u64) <= self.config.terms.rounds;
    }

    /// A round was committed; the server's x is the one after it.
    fn commit(&mut self, round: u64, voters: usize, partial: usize, server: &Server) {
        assert_eq!(round + 1, self.history.len() as u64, "rounds increase by one");
        let chunking = self.chunking.unwrap();
        let mut turnout: BTreeMap<Slot, usize> = BTreeMap::new();
        let mut hashes = vec![];
        let mut update = vec![];
        for chunk in 0..chunking.count() {
            // Nobody is told of a verdict if nobody is there: the ballots of those who left still count.
            let content = match self.verdicts.get(&(round, chunk)) {
                Some((_, content)) => content.clone(),
                None => self.recount(round, chunk),
            };
            let cast: Vec<_> =
                self.ballots.get(&chunk).into_iter().flatten().map(|(&slot, _)| slot).collect();
            assert!(cast.len() >= self.config.quorum, "round {round}, chunk {chunk} below the quorum");
            cast.into_iter().for_each(|slot| *turnout.entry(slot).or_default() += 1);
            match content {
                Content::Signs(signs) => {
                    hashes.push(by_hand::verdict_hash(&signs));
                    update.extend(signs.into_iter().map(f32::from));
                }
                Content::Floats(values) => {
                    hashes.push(by_hand::update_hash(&values));
                    update.extend(values);
                }
            }
        }
        assert_eq!(voters, turnout.len());
        assert_eq!(partial, turnout.values().filter(|&&chunks| chunks < chunking.count()).count());

        let mut words = vec![0_u64; turnout.keys().map(|slot| slot.index() / 64 + 1).max().unwrap_or(0)];
        turnout.keys().for_each(|slot| words[slot.index() / 64] |= 1 << (slot.index() % 64));
        let eta = self.config.schedule.eta(signvote_election::Round(round));
        let lambda = self.config.weight_decay;
        let before = self.history.last().unwrap();
        let next_eta = self.config.schedule.eta(signvote_election::Round(round + 1));
        let mut commit =
            Commit { round, incarnation: 0, eta, lambda, next_eta, voters: words, chain: [0; 32] };
        commit.chain = commit.chain_after(before.chain, &hashes);
        if let Some(frame) = self.commits.get(&round) {
            assert_eq!(Commit::read(frame), commit, "the commit of round {round}");
        }
        let step = |(x, u): (&f32, &f32)| x - eta * (u + lambda * x);
        let x: Vec<f32> = before.x.iter().zip(&update).map(step).collect();
        let (_, of_server, _) = server.model().unwrap();
        assert!(bits(of_server) == bits(&x), "the server's x after round {round} is not what was decided");
        self.history.push(State { x: of_server.to_vec(), chain: commit.chain });
    }

    /// Whether a ballot of this place is in, in the open round.
    pub(crate) fn has_cast(&self, slot: u16) -> bool {
        self.ballots.values().flatten().any(|(of, _)| of.number() == slot)
    }

    /// How many chunks of this round are decided.
    pub(crate) fn decided(&self, round: u64) -> usize {
        self.verdicts.keys().filter(|&&(of, _)| of == round).count()
    }

    /// A worker has this replica after so many rounds.
    pub(crate) fn replica(&self, rounds: u64, x: &[f32], chain: Option<ChainHash>) {
        let state = &self.history[usize::try_from(rounds).unwrap()];
        let differing = x.iter().zip(&state.x).filter(|(x, y)| x.to_bits() != y.to_bits()).count();
        assert_eq!((x.len(), differing), (state.x.len(), 0), "a replica after {rounds} rounds differs");
        if let Some(chain) = chain {
            assert_eq!(chain.0, state.chain, "the chain hash of a worker after {rounds} rounds");
        }
    }
}

fn content(piece: &Piece<'_>, chunking: Chunking) -> Option<Content> {
    let coordinates = chunking.coordinates(piece.chunk).len();
    match piece.kind {
        kind::BALLOT | kind::VERDICT => piece.signs(coordinates).map(Content::Signs),
        _ => piece.floats(coordinates).map(Content::Floats),
    }
}

/// Bit patterns, all NaNs alike: which payload an operation gives is not promised.
fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}
