//! A simulator of many workers in one process.
//!
//! Gradients are computed in parallel; the plain vote is the election of the network ([`signvote_election::Assembly`]), frame by
//! frame. Everything random follows from the set-up's seed, and results are the same, bit for bit, whatever the number of threads.

mod form;
mod grid;
mod lie;
mod method;
mod problem;
mod run;
mod setup;

use rayon::prelude::*;
use signvote_election::{
    AggregateKind, Assembly, Config, DenseState, Optimizer, Round, RunId, Schedule, Settings, StepRule, Terms,
};
use signvote_kernels::{AbstainOn, Ballot, apply, words};

use self::form::Desk;
pub use self::form::Form;
pub use self::grid::{grid, key};
pub use self::lie::Lie;
use self::lie::{Knowledge, Liar, Moment, Planes};
use self::method::Feedback;
pub use self::method::{Camps, Method, Reliability, Verdict};
use self::problem::Compute;
pub use self::problem::{Measure, Problem};
pub use self::run::{Outcome, Point, run};
pub use self::setup::{Course, Setup, Task};
use crate::Error;
use crate::compress::State;

/// A run in progress.
pub struct Simulation {
    setup: Setup,
    problem: Problem,
    schedule: Schedule,
    rounds: u64,
    round: u64,
    workers: Vec<Worker>,
    server: Server,
    bits: Bits,
}

/// What one worker sends and is sent in a round, in bits, on average over the workers. In the election of the network they are those of its
/// frames, headers included; of the other methods, those of ballots, verdicts, gradients and codes alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    /// To the server.
    pub up: u64,
    /// From it.
    pub down: u64,
}

struct Worker {
    compute: Box<dyn Compute>,
    gradient: Vec<f32>,
    /// Or what else the form of its votes remembers; empty where the server has the momentum.
    momentum: Vec<f32>,
    signs: Vec<u64>,
    abstain: Vec<u64>,
    /// Local x, with more than one local step.
    local: Vec<f32>,
    loss: f64,
    ballots: Vec<Planes>,
    gradients: Vec<Vec<f32>>,
}

/// Who makes steps of what the workers send.
enum Server {
    Election(Box<Assembly>),
    Alone(Box<Alone>),
}

struct Alone {
    x: Vec<f32>,
    decider: Decider,
}

enum Decider {
    Camps,
    Reliability(Reliability),
    Feedback(Feedback),
    Dense { state: DenseState, aggregate: Vec<f32> },
    Compressed { state: DenseState, states: Vec<State>, shapes: Vec<Vec<usize>>, aggregate: Vec<f32> },
}

impl Simulation {
    /// A run before its first round.
    ///
    /// # Errors
    /// If the set-up contradicts itself, a rule is told more liars than its bound allows, or the data is too small.
    pub fn new(setup: &Setup, problem: &Problem) -> Result<Self, Error> {
        setup.check()?;
        let dimension = problem.dimension();
        let count = usize::from(setup.workers);
        if let Method::Rule(rule) = setup.method {
            rule.check(count, setup.told())?;
        }
        let per_epoch = problem.rounds_per_epoch(setup);
        let rounds = if setup.rounds > 0 { setup.rounds } else { u64::from(setup.epochs) * per_epoch };
        let schedule = setup.course(rounds)?;
        let votes = setup.method.is_vote();
        let worker = |index| -> Result<Worker, Error> {
            let planes = if votes { words(dimension) } else { 0 };
            Ok(Worker {
                compute: problem.compute(setup, index)?,
                gradient: vec![0.0; dimension],
                momentum: vec![0.0; if votes { dimension } else { 0 }],
                signs: vec![0; planes],
                abstain: vec![0; planes],
                local: vec![0.0; if setup.local_steps > 1 { dimension } else { 0 }],
                loss: 0.0,
                ballots: Vec::new(),
                gradients: Vec::new(),
            })
        };
        let workers = (0..count).map(worker).collect::<Result<_, _>>()?;
        let server = Server::new(setup, problem, schedule, rounds)?;
        Ok(Self {
            setup: setup.clone(),
            problem: problem.clone(),
            schedule,
            rounds,
            round: 0,
            workers,
            server,
            bits: Bits::default(),
        })
    }

    /// x.
    pub fn parameters(&self) -> &[f32] {
        self.server.parameters()
    }

    /// Rounds made.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// Rounds in all.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    /// Bytes of all frames so far, from the workers and to them, joining included, where the method is the election of the network.
    pub fn wire_bytes(&self) -> Option<(u64, u64)> {
        match &self.server {
            Server::Election(assembly) => Some(assembly.bytes()),
            Server::Alone(_) => None,
        }
    }

    /// What a worker sent and was sent in the last round.
    pub fn bits(&self) -> Bits {
        self.bits
    }

    /// How good x is.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn measure(&self) -> Result<Measure, Error> {
        self.problem.measure(self.parameters())
    }

    /// The next round; returns the mean loss of the honest workers' batches.
    ///
    /// # Errors
    /// If an engine fails, or all rounds are made.
    pub fn step(&mut self) -> Result<f64, Error> {
        if self.round == self.rounds {
            return Err(Error::misuse("rounds", format!("at most {}", self.rounds), self.round + 1));
        }
        self.compute()?;
        let loss = self.honest_loss();
        if self.setup.method.is_vote() {
            self.vote()?;
        } else {
            self.aggregate()?;
        }
        self.round += 1;
        Ok(loss)
    }

    fn honest_loss(&self) -> f64 {
        let honest = &self.workers[usize::from(self.setup.liars)..];
        honest.iter().map(|worker| worker.loss).sum::<f64>() / honest.len() as f64
    }

    /// Every worker's own gradient and, in a vote, its honest ballot.
    fn compute(&mut self) -> Result<(), Error> {
        let (x, setup, round) = (self.server.parameters(), &self.setup, self.round);
        let flips = |index: usize| setup.lie == Lie::LabelFlip && index < usize::from(setup.liars);
        self.workers.par_iter_mut().enumerate().try_for_each(|(index, worker)| {
            worker.gradient(x, setup, round, flips(index))?;
            if setup.method.is_vote() {
                let Worker { gradient, momentum, signs, abstain, .. } = worker;
                let desk = Desk { gradient, momentum, signs, abstain };
                setup.form.cast(desk, setup.momentum, setup.seed, round, index as u64);
            }
            Ok(())
        })
    }

    fn vote(&mut self) -> Result<(), Error> {
        let (setup, round) = (&self.setup, self.round);
        let (liars, honest) = self.workers.split_at_mut(usize::from(setup.liars));
        if !liars.is_empty() {
            let momenta: Vec<&[f32]> = honest.iter().map(|worker| &*worker.momentum).collect();
            let ballots: Vec<Ballot<'_>> = honest.iter().map(Worker::ballot).collect();
            let known = Knowledge {
                honest: &momenta,
                ballots: &ballots,
                liars: liars.len(),
                round,
                seed: setup.seed,
            };
            let common = setup.lie.common_ballot(&known)?;
            for (index, liar) in liars.iter_mut().enumerate() {
                let Worker { signs, abstain, ballots: memory, .. } = liar;
                match &common {
                    Some((of_all, out)) => {
                        signs.copy_from_slice(of_all);
                        abstain.copy_from_slice(out);
                    }
                    None => {
                        setup.lie.own_ballot(&known, Liar { index: index as u16, signs, abstain, memory });
                    }
                }
            }
        }
        let dimension = self.problem.dimension();
        let planes =
            1 + u64::from(self.workers.iter().any(|worker| worker.abstain.iter().any(|&word| word != 0)));
        self.bits = Bits { up: planes * dimension as u64, down: dimension as u64 };
        let alone = match &mut self.server {
            Server::Election(assembly) => {
                let before = assembly.bytes();
                for (index, worker) in self.workers.iter().enumerate() {
                    assembly.cast(index, &worker.signs, &worker.abstain)?;
                }
                assembly.commit()?;
                let (after, workers) = (assembly.bytes(), self.workers.len() as u64);
                let each = |before: u64, after: u64| (8 * (after - before)).div_ceil(workers);
                self.bits = Bits { up: each(before.0, after.0), down: each(before.1, after.1) };
                return Ok(());
            }
            Server::Alone(alone) => alone,
        };
        let ballots: Vec<Ballot<'_>> = self.workers.iter().map(Worker::ballot).collect();
        let tie = setup.tie.at(setup.seed, Round(round), 0);
        let verdict = match &mut alone.decider {
            Decider::Camps => Camps::decide(&ballots, dimension, tie),
            Decider::Reliability(reliability) => reliability.decide(&ballots, dimension, tie),
            Decider::Feedback(feedback) => feedback.decide(&ballots, dimension),
            Decider::Dense { .. } | Decider::Compressed { .. } => unreachable!("these aggregate gradients"),
        };
        let eta = self.schedule.eta(Round(round));
        apply(&mut alone.x, &verdict.signs, Some(&verdict.hold), eta, setup.weight_decay);
        Ok(())
    }

    fn aggregate(&mut self) -> Result<(), Error> {
        let (setup, round) = (&self.setup, self.round);
        let (liars, honest) = self.workers.split_at_mut(usize::from(setup.liars));
        let known: Vec<&[f32]> = honest.iter().map(|worker| &*worker.gradient).collect();
        let count = liars.len();
        for (index, liar) in liars.iter_mut().enumerate() {
            let Worker { gradient, gradients, .. } = liar;
            let moment = Moment { round, seed: setup.seed, index: index as u64 };
            setup.lie.gradient(&known, count, moment, gradient, gradients)?;
        }
        let gradients: Vec<&[f32]> = self.workers.iter().map(|worker| &*worker.gradient).collect();
        let Server::Alone(alone) = &mut self.server else { unreachable!("an election takes ballots") };
        let dimension = alone.x.len();
        let (state, update) = match &mut alone.decider {
            Decider::Dense { state, aggregate } => {
                let Method::Rule(rule) = setup.method else {
                    unreachable!("a dense state belongs to a rule")
                };
                let told = setup.told();
                match setup.before {
                    None => rule.aggregate(&gradients, told, aggregate)?,
                    Some(before) => {
                        rule.aggregate_after(before, (setup.seed, round), &gradients, told, aggregate)?;
                    }
                }
                self.bits = Bits { up: 32 * dimension as u64, down: 32 * dimension as u64 };
                (state, &mut *aggregate)
            }
            Decider::Compressed { state, states, shapes, aggregate } => {
                let Method::Compressed(compressor) = setup.method else {
                    unreachable!("states belong to a compressor")
                };
                let draw = (setup.seed, round);
                self.bits = compressor.exchange(shapes, &gradients, states, draw, aggregate)?;
                (state, &mut *aggregate)
            }
            _ => unreachable!("the others decide on ballots"),
        };
        state.direction(0..dimension, round + 1, update);
        let eta = self.schedule.eta(Round(round));
        for (x, u) in alone.x.iter_mut().zip(&*update) {
            *x -= eta * (u + setup.weight_decay * *x);
        }
        Ok(())
    }
}

impl Worker {
    fn ballot(&self) -> Ballot<'_> {
        Ballot::new(&self.signs, Some(&self.abstain))
    }

    fn gradient(&mut self, x: &[f32], setup: &Setup, round: u64, flip_labels: bool) -> Result<(), Error> {
        let steps = u64::from(setup.local_steps);
        if steps == 1 {
            self.loss = self.compute.gradient(x, round, flip_labels, &mut self.gradient)?;
            return Ok(());
        }
        self.local.copy_from_slice(x);
        self.loss = 0.0;
        for step in 0..steps {
            self.loss +=
                self.compute.gradient(&self.local, round * steps + step, flip_labels, &mut self.gradient)?
                    / steps as f64;
            self.local.iter_mut().zip(&self.gradient).for_each(|(x, g)| *x -= setup.local_eta * g);
        }
        let unit = setup.local_eta * steps as f32;
        let moved = self.local.iter().zip(x).map(|(local, x)| (x - local) / unit);
        self.gradient.iter_mut().zip(moved).for_each(|(g, moved)| *g = moved);
        Ok(())
    }
}

impl Server {
    fn new(setup: &Setup, problem: &Problem, schedule: Schedule, rounds: u64) -> Result<Self, Error> {
        let x = problem.start(setup.seed);
        let dimension = x.len();
        let dense = || DenseState::new(Optimizer::Sgd { momentum: setup.momentum }, dimension);
        let decider = match setup.method {
            Method::Vote | Method::Momentum { .. } => {
                let terms = Terms {
                    run: RunId(*b"signvotesimulate"),
                    workers: setup.workers,
                    batch: setup.batch,
                    seed: setup.seed,
                    rounds,
                    aggregate: AggregateKind::Vote,
                    beta: setup.momentum,
                    abstain_on: AbstainOn::Momentum,
                    chunk_coordinates: 1 << 16,
                    digest_every: 0,
                    max_non_finite: 0,
                    signed: false,
                    step: StepRule { decay_matrices: setup.decay_matrices, layerwise: setup.layerwise },
                    settings: Settings::default(),
                };
                let config = Config {
                    tie: setup.tie,
                    weight_decay: setup.weight_decay,
                    vote_momentum: if let Method::Momentum { beta } = setup.method { beta } else { 0.0 },
                    ..Config::new(terms, schedule)
                };
                return Ok(Self::Election(Box::new(Assembly::new(config, problem.layout()?, x)?)));
            }
            Method::Camps => Decider::Camps,
            Method::Weighted => Decider::Reliability(Reliability::new(usize::from(setup.workers))),
            Method::Feedback { bound } => Decider::Feedback(Feedback::new(bound, dimension)),
            Method::Rule(_) => Decider::Dense { state: dense(), aggregate: vec![0.0; dimension] },
            Method::Compressed(compressor) => {
                let layout = problem.layout()?;
                let shapes: Vec<_> = layout.tensors().iter().map(|tensor| tensor.shape.clone()).collect();
                let states = vec![State::new(compressor, &shapes); usize::from(setup.workers)];
                Decider::Compressed { state: dense(), states, shapes, aggregate: vec![0.0; dimension] }
            }
        };
        Ok(Self::Alone(Box::new(Alone { x, decider })))
    }

    fn parameters(&self) -> &[f32] {
        match self {
            Self::Election(assembly) => assembly.parameters(),
            Self::Alone(alone) => &alone.x,
        }
    }
}

#[cfg(test)]
mod tests;
