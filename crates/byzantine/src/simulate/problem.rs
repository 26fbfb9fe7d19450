//! What workers compute: gradients of a quadratic with noise, or of a model on its data.

use std::sync::Arc;

use rand::Rng as _;
use rand_distr::{Distribution as _, StandardNormal};
use signvote_election::{Layout, TensorSpec};
use signvote_learn::{
    BurnEngine, Engine as _, Examples, Model, Sampler, Split, evaluate, rounds_per_epoch, running_statistics,
};

use super::{Setup, Task};
use crate::Error;
use crate::random::generator;

/// How good a point is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    /// f(x), without noise; of a model, the mean loss on the test set in nats.
    pub loss: f64,
    /// Of a model, the part of the test set whose class it finds.
    pub accuracy: Option<f64>,
}

/// One worker's gradients.
pub(super) trait Compute: Send {
    /// The gradient of batch number `batch` at `x` into `out`; returns the loss. A liar may train on the opposite `labels`.
    fn gradient(&mut self, x: &[f32], batch: u64, flip_labels: bool, out: &mut [f32]) -> Result<f64, Error>;
}

/// A task with its data.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Quadratic { dimension: usize },
    Model { model: Model, split: Arc<Split> },
}

impl Problem {
    /// The problem of a set-up; `split` has the data that it names, if it learns from any.
    ///
    /// # Errors
    /// If a model has no data, or data that it is not for.
    pub fn new(setup: &Setup, split: Option<Arc<Split>>) -> Result<Self, Error> {
        let kind = match (setup.problem, split) {
            (Task::Quadratic { dimension }, _) => Kind::Quadratic { dimension },
            (Task::Model(_), None) => return Err(Error::misuse("data", "that of a model", "none")),
            (Task::Model(kind), Some(split)) => {
                Kind::Model { model: kind.model(split.train.shape())?, split }
            }
        };
        Ok(Self { kind })
    }

    /// d.
    pub fn dimension(&self) -> usize {
        match &self.kind {
            Kind::Quadratic { dimension } => *dimension,
            Kind::Model { model, .. } => model.dimension(),
        }
    }

    pub(super) fn layout(&self) -> Result<Layout, Error> {
        match &self.kind {
            Kind::Quadratic { dimension } => {
                Ok(Layout::new(vec![TensorSpec { name: "x".into(), shape: vec![*dimension] }])?)
            }
            Kind::Model { model, .. } => Ok(model.layout()?),
        }
    }

    /// Where a run starts. On the quadratic every coordinate is 1 or −1, at random: all have the same signal-to-noise ratio, 1/σ.
    pub(super) fn start(&self, seed: u64) -> Vec<f32> {
        match &self.kind {
            Kind::Quadratic { dimension } => {
                let mut random = generator(b"start of a quadratic", seed, 0, 0);
                (0..*dimension).map(|_| if random.next_u32() & 1 == 1 { -1.0 } else { 1.0 }).collect()
            }
            Kind::Model { model, .. } => model.initial(seed),
        }
    }

    /// Rounds in one pass over the data; 0 where there is none.
    pub fn rounds_per_epoch(&self, setup: &Setup) -> u64 {
        let Kind::Model { split, .. } = &self.kind else { return 0 };
        let batch = setup.batch as usize * setup.local_steps as usize;
        rounds_per_epoch(split.train.len(), usize::from(setup.workers), batch)
    }

    /// The work of the worker in place `index`.
    pub(super) fn compute(&self, setup: &Setup, index: usize) -> Result<Box<dyn Compute>, Error> {
        Ok(match &self.kind {
            Kind::Model { model, split } => {
                let (labels, workers, batch) =
                    (split.train.labels(), usize::from(setup.workers), setup.batch as usize);
                let sampler = Sampler::new(labels, workers, index, batch, setup.seed, setup.partition)?;
                let (engine, split) = (BurnEngine::new(model), Arc::clone(split));
                Box::new(Learner { engine, split, sampler, examples: Examples::default() })
            }
            Kind::Quadratic { .. } => Box::new(Quadratic {
                seed: setup.seed,
                index: index as u64,
                deviation: setup.noise / (setup.batch as f32).sqrt(),
            }),
        })
    }

    /// Hands the gradients of so many batches at `x` to `each`: those of the first worker's first rounds.
    ///
    /// # Errors
    /// If the engine fails, or the set-up does not fit the data.
    pub fn sample(
        &self,
        setup: &Setup,
        x: &[f32],
        batches: u64,
        each: &mut dyn FnMut(&[f32]),
    ) -> Result<(), Error> {
        let mut compute = self.compute(setup, 0)?;
        let mut gradient = vec![0.0; self.dimension()];
        for batch in 0..batches {
            compute.gradient(x, batch, false, &mut gradient)?;
            each(&gradient);
        }
        Ok(())
    }

    /// How good `x` is.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn measure(&self, x: &[f32]) -> Result<Measure, Error> {
        match &self.kind {
            Kind::Model { model, split } => {
                let mut engine = BurnEngine::new(model);
                let statistics = running_statistics(&mut engine, x, &split.train)?;
                let loss = evaluate(&mut engine, x, &statistics, &split.test)?;
                Ok(Measure { loss: f64::from(loss.mean_loss), accuracy: Some(loss.accuracy()) })
            }
            Kind::Quadratic { .. } => Ok(Measure { loss: half_square(x), accuracy: None }),
        }
    }
}

fn half_square(x: &[f32]) -> f64 {
    x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / 2.0
}

struct Quadratic {
    seed: u64,
    index: u64,
    deviation: f32,
}

impl Compute for Quadratic {
    /// It has no labels: who flips them is honest.
    fn gradient(&mut self, x: &[f32], batch: u64, _: bool, out: &mut [f32]) -> Result<f64, Error> {
        let mut random = generator(b"noise of a quadratic", self.seed, batch, self.index);
        for (out, x) in out.iter_mut().zip(x) {
            let noise: f32 = StandardNormal.sample(&mut random);
            *out = x + self.deviation * noise;
        }
        Ok(half_square(x))
    }
}

struct Learner {
    engine: BurnEngine,
    split: Arc<Split>,
    sampler: Sampler,
    examples: Examples,
}

impl Compute for Learner {
    fn gradient(&mut self, x: &[f32], batch: u64, flip_labels: bool, out: &mut [f32]) -> Result<f64, Error> {
        let (data, seed) = (&self.split.train, self.sampler.seed(batch));
        data.fill(self.sampler.batch(batch), Some(seed), &mut self.examples)?;
        if flip_labels {
            let last = (data.shape().classes() - 1) as u32;
            self.examples.labels.iter_mut().for_each(|label| *label = last - *label);
        }
        let loss = self.engine.gradient(x, self.examples.batch(), out)?;
        Ok(f64::from(loss.mean_loss))
    }
}
