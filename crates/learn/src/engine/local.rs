//! Several engines in one process that compute for one ballot.

use std::ops::Range;

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::{Batch, Engine, Loss, MeanStatistics};
use crate::Error;

/// Coordinates that are averaged at a time: a block of each gradient is then still in a core's cache when it is packed.
const BLOCK: usize = 65_536;

/// An [`Engine`] that is L engines, each on threads of its own: every one computes the gradient of its share of the batch,
/// and theirs is the mean of these.
///
/// With g_l the gradient of engine l, coordinate by coordinate in `f32` and in that order: ((g₀ + g₁) + … + g_{L−1}) / L.
/// So the result is a function of the gradients alone, bit for bit, whichever engine was ready first; that of one engine is
/// g₀ itself. A coordinate that is not finite in one of them is not finite in the mean; one whose sum overflows is
/// infinite, although the true mean might not be.
///
/// Takes memory for L − 1 gradients beside the caller's. All gradients are there before the first coordinate is handed on:
/// what its engines could give in pieces it gives at once, block by block as they are averaged.
pub struct LocalEngines {
    locals: Vec<Local>,
}

struct Local {
    engine: Box<dyn Engine + Send>,
    pool: ThreadPool,
    /// Its gradient; the first engine's is in the caller's memory.
    gradient: Vec<f32>,
}

type Job<'a> = Box<dyn FnOnce() + Send + 'a>;

impl LocalEngines {
    /// These engines, with `threads` threads each.
    ///
    /// # Errors
    /// [`Error::Misuse`] when there is no engine, they differ in d, or `threads` is zero; [`Error::Engine`] when the
    /// threads cannot be started.
    pub fn new(engines: Vec<Box<dyn Engine + Send>>, threads: usize) -> Result<Self, Error> {
        if threads == 0 {
            return Err(Error::misuse("number of threads", "at least 1", threads));
        }
        let Some(dimension) = engines.first().map(|engine| engine.dimension()) else {
            return Err(Error::misuse("local workers", "at least 1", 0));
        };
        if let Some(other) = engines.iter().find(|engine| engine.dimension() != dimension) {
            return Err(Error::misuse("coordinates of a local worker", dimension, other.dimension()));
        }
        let locals = engines.into_iter().enumerate().map(|(number, engine)| {
            let pool = ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(move |thread| format!("local-{number}-{thread}"))
                .build()
                .map_err(|error| Error::Engine {
                    reason: format!("cannot start {threads} threads for local worker {number}: {error}"),
                })?;
            let gradient = if number == 0 { Vec::new() } else { vec![0.0; dimension] };
            Ok(Local { engine, pool, gradient })
        });
        Ok(Self { locals: locals.collect::<Result<_, Error>>()? })
    }

    /// Makes coordinates of the caller's gradient, which is the first engine's, those of the mean.
    fn average(&self, first: &mut [f32], coordinates: Range<usize>) {
        let [_, others @ ..] = &self.locals[..] else { return };
        if others.is_empty() {
            return;
        }
        for other in others {
            for (sum, gradient) in first.iter_mut().zip(&other.gradient[coordinates.clone()]) {
                *sum += gradient;
            }
        }
        let count = self.locals.len() as f32;
        first.iter_mut().for_each(|sum| *sum /= count);
    }
}

impl Engine for LocalEngines {
    fn dimension(&self) -> usize {
        self.locals[0].engine.dimension()
    }

    fn local_workers(&self) -> usize {
        self.locals.len()
    }

    /// Every share must be equally large: the batch is a multiple of L.
    fn gradient(&mut self, x: &[f32], batch: Batch<'_>, gradient: &mut [f32]) -> Result<Loss, Error> {
        let loss = self.forward(x, batch, gradient)?;
        self.backward(gradient, &mut |_, _| ())?;
        Ok(loss)
    }

    fn forward(&mut self, x: &[f32], batch: Batch<'_>, gradient: &mut [f32]) -> Result<Loss, Error> {
        let (count, dimension) = (self.locals.len(), self.dimension());
        let share = shares(batch, count)?;
        if gradient.len() != dimension {
            return Err(Error::misuse("coordinates of the gradient", dimension, gradient.len()));
        }
        let mut losses: Vec<Option<Result<Loss, Error>>> = Vec::new();
        losses.resize_with(count, || None);
        let mut first = Some(gradient);
        let mut jobs = self.locals.iter_mut().enumerate().zip(&mut losses).map(
            |((number, Local { engine, pool, gradient }), loss)| {
                let (gradient, batch) = (first.take().unwrap_or(gradient), share(number));
                let job: Job<'_> = Box::new(move || *loss = Some(engine.gradient(x, batch, gradient)));
                (&*pool, job)
            },
        );
        all_at_once(&mut jobs);
        drop(jobs);
        let missing = || Err(Error::Engine { reason: "a local worker gave no loss".into() });
        let losses = losses.into_iter().map(|loss| loss.unwrap_or_else(missing));
        Ok(together(&losses.collect::<Result<Vec<_>, _>>()?))
    }

    fn backward(
        &mut self,
        gradient: &mut [f32],
        piece: &mut dyn FnMut(Range<usize>, &[f32]),
    ) -> Result<(), Error> {
        let mut start = 0;
        for block in gradient.chunks_mut(BLOCK) {
            let coordinates = start..start + block.len();
            self.average(block, coordinates.clone());
            piece(coordinates.clone(), block);
            start = coordinates.end;
        }
        Ok(())
    }

    /// Computed by the first engine alone, in batches as each worker's; the mean of them.
    fn statistics(&mut self, x: &[f32], batch: Batch<'_>) -> Result<Vec<f32>, Error> {
        let count = self.locals.len();
        let mut mean = MeanStatistics::default();
        let share = shares(batch, count)?;
        let Local { engine, pool, .. } = &mut self.locals[0];
        for number in 0..count {
            mean.add(&pool.install(|| engine.statistics(x, share(number)))?);
        }
        Ok(mean.take())
    }

    /// Computed by the first engine alone.
    fn loss(&mut self, x: &[f32], statistics: &[f32], batch: Batch<'_>) -> Result<Loss, Error> {
        let Local { engine, pool, .. } = &mut self.locals[0];
        pool.install(|| engine.loss(x, statistics, batch))
    }
}

/// The batch of each of so many workers.
fn shares<'a>(batch: Batch<'a>, count: usize) -> Result<impl Fn(usize) -> Batch<'a>, Error> {
    let (inputs, labels) = (batch.inputs.len(), batch.labels.len());
    if labels == 0 || !labels.is_multiple_of(count) || !inputs.is_multiple_of(count) {
        let expected = format!("the same number for each of {count} local workers");
        return Err(Error::misuse("examples in a batch", expected, labels));
    }
    Ok(move |number: usize| Batch {
        inputs: batch.inputs.part(number * inputs / count..(number + 1) * inputs / count),
        labels: &batch.labels[number * labels / count..(number + 1) * labels / count],
        // Each drops units of its own.
        seed: batch.seed.wrapping_add(number as u64),
    })
}

/// Runs every job on its pool, all at the same time, and returns when the last has ended.
fn all_at_once<'a>(jobs: &mut dyn Iterator<Item = (&'a ThreadPool, Job<'a>)>) {
    if let Some((pool, job)) = jobs.next() {
        pool.in_place_scope(|scope| {
            scope.spawn(|_| job());
            all_at_once(jobs);
        });
    }
}

/// The loss over all shares, which are equally large.
fn together(losses: &[Loss]) -> Loss {
    let sum: f64 = losses.iter().map(|loss| f64::from(loss.mean_loss)).sum();
    Loss {
        mean_loss: (sum / losses.len() as f64) as f32,
        correct: losses.iter().map(|loss| loss.correct).sum(),
        samples: losses.iter().map(|loss| loss.samples).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Inputs;
    use super::*;
    use crate::{BurnEngine, DataSource, Examples, ModelKind, load};

    fn engines(kind: ModelKind, count: usize) -> Vec<Box<dyn Engine + Send>> {
        (0..count).map(|_| -> Box<dyn Engine + Send> { Box::new(BurnEngine::new(&kind.usual())) }).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn the_gradient_is_the_mean_of_the_shares_summed_in_order_whatever_the_threads() {
        let data = load(&DataSource::default().into()).unwrap().train;
        let mut examples = Examples::default();
        data.fill(&(0..24).collect::<Vec<_>>(), None, &mut examples).unwrap();
        let (batch, labels) = (examples.batch(), &examples.labels);
        for kind in [ModelKind::Mlp, ModelKind::Cnn] {
            let model = kind.usual();
            let (x, mut engine) = (model.initial(2), BurnEngine::new(&model));
            for count in [1, 2, 3] {
                let share = 24 / count;
                let mut expected = vec![0.0; x.len()];
                let (mut correct, mut mean_loss, mut part) = (0, 0.0, vec![0.0; x.len()]);
                for (number, labels) in labels.chunks(share).enumerate() {
                    let inputs =
                        Inputs::Pixels(&examples.pixels[number * share * 784..(number + 1) * share * 784]);
                    let loss = engine.gradient(&x, Batch { inputs, labels, seed: 0 }, &mut part).unwrap();
                    (correct, mean_loss) = (correct + loss.correct, mean_loss + f64::from(loss.mean_loss));
                    match number {
                        0 => expected.copy_from_slice(&part),
                        _ => expected.iter_mut().zip(&part).for_each(|(sum, g)| *sum += g),
                    }
                }
                if count > 1 {
                    expected.iter_mut().for_each(|sum| *sum /= count as f32);
                }
                let loss = Loss { mean_loss: (mean_loss / count as f64) as f32, correct, samples: 24 };
                for threads in [1, 2] {
                    let mut local = LocalEngines::new(engines(kind, count), threads).unwrap();
                    assert_eq!((local.local_workers(), local.dimension()), (count, x.len()));
                    let mut gradient = vec![f32::NAN; x.len()];
                    assert_eq!(local.gradient(&x, batch, &mut gradient).unwrap(), loss);
                    assert!(bits(&gradient) == bits(&expected), "{kind} {count} {threads}");
                    let mut covered = 0;
                    assert_eq!(local.forward(&x, batch, &mut gradient).unwrap(), loss);
                    let mut piece = |coordinates: Range<usize>, values: &[f32]| {
                        covered += values.len();
                        assert!(bits(values) == bits(&expected[coordinates]), "{kind} {count} {threads}");
                    };
                    local.backward(&mut gradient, &mut piece).unwrap();
                    assert_eq!(covered, x.len());
                    assert_eq!(local.loss(&x, &[], batch).unwrap(), engine.loss(&x, &[], batch).unwrap());
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_shared_out_is_refused() {
        let refuse = |result: Result<LocalEngines, Error>| result.err().unwrap().to_string();
        assert_eq!(refuse(LocalEngines::new(vec![], 1)), "local workers: expected at least 1, got 0");
        let two = engines(ModelKind::Mlp, 2);
        assert_eq!(refuse(LocalEngines::new(two, 0)), "number of threads: expected at least 1, got 0");
        let mut mixed = engines(ModelKind::Mlp, 1);
        mixed.extend(engines(ModelKind::Cnn, 1));
        let message = "coordinates of a local worker: expected 203530, got 421642";
        assert_eq!(refuse(LocalEngines::new(mixed, 1)), message);

        let mut local = LocalEngines::new(engines(ModelKind::Mlp, 2), 1).unwrap();
        let x = ModelKind::Mlp.usual().initial(1);
        let mut step = |labels: &[u32], coordinates| {
            let pixels = vec![0.0; labels.len() * 784];
            let batch = Batch { inputs: Inputs::Pixels(&pixels), labels, seed: 0 };
            local.gradient(&x, batch, &mut vec![0.0; coordinates]).unwrap_err()
        };
        let message = "examples in a batch: expected the same number for each of 2 local workers, got 3";
        assert_eq!(step(&[1, 2, 3], x.len()).to_string(), message);
        assert_eq!(step(&[], x.len()).to_string(), message.replace("got 3", "got 0"));
        let message = "coordinates of the gradient: expected 203530, got 1";
        assert_eq!(step(&[1, 2], 1).to_string(), message);
        // What an engine refuses is told, whichever it is.
        assert_eq!(step(&[1, 10], x.len()).to_string(), "label: expected below 10, got 10");
    }
}
