//! What workers compute: gradients of a quadratic with noise, or of a model on its data.

use std::sync::Arc;

use rand::Rng as _;
use rand_distr::{Distribution as _, StandardNormal};
use signvote_election::{Layout, TensorSpec};
use signvote_learn::{
    Batch, BurnEngine, Dataset, Engine as _, ModelKind, Sampler, Split, evaluate, rounds_per_epoch,
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
    task: Task,
    split: Option<Arc<Split>>,
}

impl Problem {
    /// The problem of a set-up; `split` has the data that it names, if it learns from any.
    ///
    /// # Errors
    /// If a model has no data.
    pub fn new(setup: &Setup, split: Option<Arc<Split>>) -> Result<Self, Error> {
        match (setup.problem, &split) {
            (Task::Model(_), None) => Err(Error::misuse("data", "that of a model", "none")),
            (task, _) => Ok(Self { task, split }),
        }
    }

    /// d.
    pub fn dimension(&self) -> usize {
        match self.task {
            Task::Quadratic { dimension } => dimension,
            Task::Model(kind) => kind.dimension(),
        }
    }

    pub(super) fn layout(&self) -> Result<Layout, Error> {
        match self.task {
            Task::Quadratic { dimension } => {
                Ok(Layout::new(vec![TensorSpec { name: "x".into(), shape: vec![dimension] }])?)
            }
            Task::Model(kind) => Ok(kind.layout()?),
        }
    }

    /// Where a run starts. On the quadratic every coordinate is 1 or −1, at random: all have the same signal-to-noise ratio, 1/σ.
    pub(super) fn start(&self, seed: u64) -> Vec<f32> {
        match self.task {
            Task::Quadratic { dimension } => {
                let mut random = generator(b"start of a quadratic", seed, 0, 0);
                (0..dimension).map(|_| if random.next_u32() & 1 == 1 { -1.0 } else { 1.0 }).collect()
            }
            Task::Model(kind) => kind.initial(seed),
        }
    }

    /// Rounds in one pass over the data; 0 where there is none.
    pub fn rounds_per_epoch(&self, setup: &Setup) -> u64 {
        let per = |split: &Arc<Split>| {
            let batch = setup.batch as usize * setup.local_steps as usize;
            rounds_per_epoch(split.train.len(), usize::from(setup.workers), batch)
        };
        self.split.as_ref().map_or(0, per)
    }

    /// The work of the worker in place `index`.
    pub(super) fn compute(&self, setup: &Setup, index: usize) -> Result<Box<dyn Compute>, Error> {
        match (self.task, &self.split) {
            (Task::Model(kind), Some(split)) => {
                let (workers, batch) = (usize::from(setup.workers), setup.batch as usize);
                let train = Arc::clone(split);
                let sampler =
                    Sampler::new(train.train.labels(), workers, index, batch, setup.seed, setup.partition)?;
                Ok(Box::new(Model::new(kind, train, sampler)))
            }
            (_, _) => Ok(Box::new(Quadratic {
                seed: setup.seed,
                index: index as u64,
                deviation: setup.noise / (setup.batch as f32).sqrt(),
            })),
        }
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
        match (self.task, &self.split) {
            (Task::Model(kind), Some(split)) => {
                let loss = evaluate(&mut BurnEngine::new(kind), x, &split.test)?;
                Ok(Measure { loss: f64::from(loss.mean_loss), accuracy: Some(loss.accuracy()) })
            }
            (_, _) => Ok(Measure { loss: half_square(x), accuracy: None }),
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

struct Model {
    engine: BurnEngine,
    split: Arc<Split>,
    sampler: Sampler,
    images: Vec<f32>,
    labels: Vec<u8>,
}

impl Model {
    fn new(kind: ModelKind, split: Arc<Split>, sampler: Sampler) -> Self {
        Self { engine: BurnEngine::new(kind), split, sampler, images: Vec::new(), labels: Vec::new() }
    }

    fn train(&self) -> &Dataset {
        &self.split.train
    }
}

impl Compute for Model {
    fn gradient(&mut self, x: &[f32], batch: u64, flip_labels: bool, out: &mut [f32]) -> Result<f64, Error> {
        let indices = self.sampler.batch(batch).to_vec();
        let (mut images, mut labels) = (std::mem::take(&mut self.images), std::mem::take(&mut self.labels));
        self.train().fill(&indices, &mut images, &mut labels);
        if flip_labels {
            let last = (self.train().classes() - 1) as u8;
            labels.iter_mut().for_each(|label| *label = last - *label);
        }
        let loss = self.engine.gradient(x, Batch { images: &images, labels: &labels }, out)?;
        (self.images, self.labels) = (images, labels);
        Ok(f64::from(loss.mean_loss))
    }
}
