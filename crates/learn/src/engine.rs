//! Compute engines: a batch in, a loss and a flat gradient out.

mod burn;
mod local;

pub use self::burn::BurnEngine;
pub use self::local::LocalEngines;

use std::ops::Range;

use crate::data::Dataset;
use crate::{Error, model};

/// Images of one pass of [`evaluate`].
const EVALUATION_BATCH: usize = 100;

/// A batch of images with their labels.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The pixels of all images, scaled as by [`Dataset::fill`]: `labels.len()` times 28 × 28, row-major.
    pub images: &'a [f32],
    /// The label of each image, below 10.
    pub labels: &'a [u8],
}

/// How a model did on some examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Mean softmax cross-entropy in nats, ln Σⱼ exp(zⱼ) − z_label for the logits z. NaN when a logit is NaN
    /// or +∞, or all are −∞; +∞ when the label's logit is −∞ alone.
    pub mean_loss: f32,
    /// Examples whose predicted class is their label. The prediction is the lowest class of those with the
    /// largest logit; a NaN never beats a number, and where all logits are NaN it is class 0.
    pub correct: usize,
    /// Examples in all.
    pub samples: usize,
}

impl Loss {
    /// `correct` / `samples`, between 0 and 1; NaN without samples.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples as f64
    }
}

/// Something that computes losses and gradients of one model.
///
/// It holds no parameters: they come with every call, as one flat vector in the order of
/// [`ModelKind::layout`](crate::ModelKind::layout). Equal arguments give equal bits on one machine, in
/// every engine of one kind; between types of CPU nothing is promised, and nothing has to be, because replicas
/// make the same step, whatever their gradients were.
///
/// Parameters, pixels, loss and gradient may be NaN or infinite, as they are in a run that diverges.
///
/// An engine whose backward pass makes the gradient layer by layer says so by its own [`forward`](Self::forward) and
/// [`backward`](Self::backward): what is ready then travels while it computes the rest. For every other engine
/// [`gradient`](Self::gradient) is enough.
pub trait Engine {
    /// Coordinates d of parameters and gradient.
    fn dimension(&self) -> usize;

    /// Workers that this engine computes for; at least 1. Where it is L, a [`Trainer`](crate::Trainer) gives it L times the
    /// terms' batch, one worker's share after the other, and the gradient is that of the mean over all of them.
    fn local_workers(&self) -> usize {
        1
    }

    /// The loss on `batch` at the point `x`, and in `gradient` the gradient of its mean with respect to `x`.
    ///
    /// # Errors
    /// [`Error::Misuse`] when `x` or `gradient` has not d coordinates, the batch is empty, its images and
    /// labels disagree in number, or a label is not a class; [`Error::Engine`] when the engine fails. What
    /// `gradient` holds after an error is unspecified.
    fn gradient(&mut self, x: &[f32], batch: Batch<'_>, gradient: &mut [f32]) -> Result<Loss, Error>;

    /// The first half of a gradient in pieces: the loss on `batch` at the point `x`, and all that
    /// [`backward`](Self::backward) will need, which has neither `x` nor the batch at hand. `gradient` is memory of d
    /// coordinates that both halves are given, to use or not.
    ///
    /// # Errors
    /// As those of [`Engine::gradient`].
    fn forward(&mut self, x: &[f32], batch: Batch<'_>, gradient: &mut [f32]) -> Result<Loss, Error> {
        self.gradient(x, batch, gradient)
    }

    /// The second half: the gradient of the mean loss with respect to the `x` of the last [`forward`](Self::forward), handed
    /// to `piece` as it becomes ready: ranges of coordinates, and the gradient there. Together they are every coordinate
    /// once, in any order and of any length; the values are those of [`gradient`](Self::gradient), bit for bit.
    ///
    /// An engine that does not override this gives everything at once.
    ///
    /// # Errors
    /// [`Error::Engine`] when the engine fails. What was handed in before is then of no more use.
    fn backward(
        &mut self,
        gradient: &mut [f32],
        piece: &mut dyn FnMut(Range<usize>, &[f32]),
    ) -> Result<(), Error> {
        piece(0..gradient.len(), gradient);
        Ok(())
    }

    /// The loss on `batch` at the point `x`.
    ///
    /// # Errors
    /// As those of [`Engine::gradient`].
    fn loss(&mut self, x: &[f32], batch: Batch<'_>) -> Result<Loss, Error>;
}

/// The loss of `engine` at the point `x` over the whole of `data`, every image once and in order.
///
/// # Errors
/// Those of [`Engine::loss`].
pub fn evaluate(engine: &mut dyn Engine, x: &[f32], data: &Dataset) -> Result<Loss, Error> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    let (mut sum, mut correct) = (0.0, 0);
    let indices: Vec<usize> = (0..data.len()).collect();
    for indices in indices.chunks(EVALUATION_BATCH) {
        data.fill(indices, &mut images, &mut labels);
        let loss = engine.loss(x, Batch { images: &images, labels: &labels })?;
        sum += f64::from(loss.mean_loss) * loss.samples as f64;
        correct += loss.correct;
    }
    Ok(Loss { mean_loss: (sum / data.len() as f64) as f32, correct, samples: data.len() })
}

/// Lets all engines of this process share `threads` threads. Without it they share as many as there are
/// processors. Several workers on one machine do best with one thread each.
///
/// # Errors
/// [`Error::Misuse`] when `threads` is zero; [`Error::Engine`] when the process has chosen before, be it by
/// an engine's first step, or the threads cannot be started.
pub fn set_threads(threads: usize) -> Result<(), Error> {
    if threads == 0 {
        return Err(Error::misuse("number of threads", "at least 1", threads));
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("engine-{index}"))
        .build_global()
        .map_err(|error| Error::Engine { reason: format!("cannot set {threads} threads: {error}") })
}

/// What every engine asks of the arguments of a gradient.
fn check_gradient(dimension: usize, x: &[f32], batch: Batch<'_>, gradient: &[f32]) -> Result<(), Error> {
    check(dimension, x, batch)?;
    if gradient.len() != dimension {
        return Err(Error::misuse("coordinates of the gradient", dimension, gradient.len()));
    }
    Ok(())
}

fn check(dimension: usize, x: &[f32], batch: Batch<'_>) -> Result<(), Error> {
    if x.len() != dimension {
        return Err(Error::misuse("coordinates of the parameters", dimension, x.len()));
    }
    if batch.labels.is_empty() {
        return Err(Error::misuse("images in a batch", "at least 1", 0));
    }
    if batch.images.len() != batch.labels.len().saturating_mul(model::INPUTS) {
        let expected = format!("{} for each of {} labels", model::INPUTS, batch.labels.len());
        return Err(Error::misuse("pixels of a batch", expected, batch.images.len()));
    }
    if let Some(label) = batch.labels.iter().find(|&&label| usize::from(label) >= model::CLASSES) {
        return Err(Error::misuse("label", format!("below {}", model::CLASSES), label));
    }
    Ok(())
}

/// Softmax cross-entropy of `logits` (row-major, one row of classes for each label), and if asked for, its
/// gradient with respect to them: (softmax(z) − one-hot(label)) / samples.
///
/// Computed here rather than by the engine's framework, so that every engine gives the same numbers and what
/// happens at NaN and ±∞ is known. A row's largest logit is subtracted first, so that finite logits never
/// overflow.
fn cross_entropy(logits: &[f32], labels: &[u8], mut gradient: Option<&mut Vec<f32>>) -> Loss {
    let samples = labels.len();
    let (mut sum, mut correct) = (0.0, 0);
    if let Some(gradient) = &mut gradient {
        gradient.clear();
    }
    for (row, &label) in logits.chunks_exact(model::CLASSES).zip(labels) {
        let label = usize::from(label);
        correct += usize::from(predicted(row) == label);
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let total: f32 = row.iter().map(|z| (z - largest).exp()).sum();
        sum += f64::from(total.ln() - (row[label] - largest));
        if let Some(gradient) = &mut gradient {
            gradient.extend(row.iter().enumerate().map(|(class, z)| {
                let hit = if class == label { 1.0 } else { 0.0 };
                ((z - largest).exp() / total - hit) / samples as f32
            }));
        }
    }
    Loss { mean_loss: (sum / samples as f64) as f32, correct, samples }
}

/// The class of the largest logit, as documented at [`Loss::correct`].
fn predicted(row: &[f32]) -> usize {
    let mut best = 0;
    for (class, z) in row.iter().enumerate() {
        if *z > row[best] || (row[best].is_nan() && !z.is_nan()) {
            best = class;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataSource, ModelKind, Partition, Sampler, Split, load, rounds_per_epoch};

    fn split() -> Split {
        load(&DataSource::default(), None).unwrap()
    }

    fn images(data: &Dataset, count: usize) -> (Vec<f32>, Vec<u8>) {
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        data.fill(&(0..count).collect::<Vec<_>>(), &mut images, &mut labels);
        (images, labels)
    }

    /// Offset of each parameter in the flat vector.
    fn offsets(kind: ModelKind) -> Vec<(String, usize, usize)> {
        let layout = kind.layout().unwrap();
        layout.ranges().map(|(tensor, range)| (tensor.name.clone(), range.start, range.len())).collect()
    }

    #[test]
    fn the_gradient_equals_central_differences_in_every_parameter() {
        let (images, labels) = images(&split().train, 6);
        let batch = Batch { images: &images, labels: &labels };
        for kind in ModelKind::ALL.into_iter().chain("mlp-40-30".parse()) {
            let mut engine = BurnEngine::new(kind);
            let mut x = kind.initial(3);
            let mut gradient = vec![0.0; x.len()];
            engine.gradient(&x, batch, &mut gradient).unwrap();
            for (name, offset, count) in offsets(kind) {
                // The coordinate with the largest gradient, where f32 differences say most.
                let largest = |a: &usize, b: &usize| gradient[*a].abs().total_cmp(&gradient[*b].abs());
                let i = (offset..offset + count).max_by(largest).unwrap();
                let (at, step) = (x[i], 1e-3);
                let mut loss_at = |value: f32| {
                    x[i] = value;
                    engine.loss(&x, batch).unwrap().mean_loss
                };
                let (above, below) = (loss_at(at + step), loss_at(at - step));
                loss_at(at);
                let difference = (above - below) / ((at + step) - (at - step));
                let error = (difference - gradient[i]).abs() / gradient[i].abs();
                assert!(gradient[i] != 0.0 && error < 0.02, "{kind} {name}: {difference} {}", gradient[i]);
            }
        }
    }

    #[test]
    fn equal_arguments_give_equal_bits_in_every_engine() {
        let (images, labels) = images(&split().train, 32);
        let batch = Batch { images: &images, labels: &labels };
        for kind in ModelKind::ALL {
            let x = kind.initial(5);
            let mut one = BurnEngine::new(kind);
            let step = |engine: &mut BurnEngine| {
                let mut gradient = vec![f32::NAN; x.len()];
                let loss = engine.gradient(&x, batch, &mut gradient).unwrap();
                (loss, gradient.into_iter().map(f32::to_bits).collect::<Vec<_>>())
            };
            let first = step(&mut one);
            assert!(first == step(&mut one), "{kind}: another call");
            assert!(first == step(&mut BurnEngine::new(kind)), "{kind}: another engine");
            assert_eq!(one.loss(&x, batch).unwrap(), first.0, "{kind}: without the gradient");
        }
    }

    #[test]
    fn the_pieces_of_a_backward_pass_are_the_gradient_bit_for_bit() {
        let (images, labels) = images(&split().train, 20);
        let batch = Batch { images: &images, labels: &labels };
        for kind in ModelKind::ALL {
            let (x, mut engine) = (kind.initial(7), BurnEngine::new(kind));
            let mut whole = vec![f32::NAN; x.len()];
            let loss = engine.gradient(&x, batch, &mut whole).unwrap();
            let (mut pieced, mut starts, mut memory) = (vec![f32::NAN; x.len()], vec![], vec![0.0; x.len()]);
            assert_eq!(engine.forward(&x, batch, &mut memory).unwrap(), loss);
            let mut piece = |coordinates: Range<usize>, values: &[f32]| {
                assert!(
                    pieced[coordinates.clone()].iter().all(|g| g.is_nan()),
                    "{kind} {coordinates:?} once"
                );
                starts.push(coordinates.start);
                pieced[coordinates].copy_from_slice(values);
            };
            engine.backward(&mut memory, &mut piece).unwrap();
            let bits = |values: &[f32]| values.iter().map(|g| g.to_bits()).collect::<Vec<_>>();
            assert!(bits(&pieced) == bits(&whole), "{kind}");
            let offsets: Vec<usize> = offsets(kind).into_iter().map(|(_, offset, _)| offset).collect();
            let expected = match kind {
                ModelKind::Mlp | ModelKind::Deep(_) => offsets,
                // Its linear layers first: they are ready before the convolutions.
                ModelKind::Cnn => [&offsets[4..], &offsets[..4]].concat(),
            };
            assert_eq!(starts, expected, "{kind}");
            let error = engine.backward(&mut memory, &mut |_, _| ()).unwrap_err();
            assert!(error.to_string().contains("without a forward pass"), "{error}");
        }
    }

    #[test]
    fn plain_gradient_descent_lowers_the_loss_and_finds_the_classes() {
        let Split { train, test } = split();
        let mut engine = BurnEngine::new(ModelKind::Mlp);
        let mut x = ModelKind::Mlp.initial(1);
        let before = evaluate(&mut engine, &x, &test).unwrap();
        let mut sampler = Sampler::new(train.labels(), 1, 0, 32, 1, Partition::Iid).unwrap();
        let (mut images, mut labels, mut gradient) = (Vec::new(), Vec::new(), vec![0.0; x.len()]);
        for round in 0..rounds_per_epoch(train.len(), 1, 32) {
            train.fill(sampler.batch(round), &mut images, &mut labels);
            engine.gradient(&x, Batch { images: &images, labels: &labels }, &mut gradient).unwrap();
            for (x, g) in x.iter_mut().zip(&gradient) {
                *x -= 0.05 * g;
            }
        }
        let after = evaluate(&mut engine, &x, &test).unwrap();
        assert!((2.0..3.0).contains(&before.mean_loss) && before.accuracy() < 0.3, "{before:?}");
        assert!(after.mean_loss < 0.6 && after.accuracy() > 0.8, "{after:?}");
    }

    #[test]
    fn evaluation_counts_every_image_once_whatever_the_batches() {
        let test = split().test;
        let (images, labels) = images(&test, 2 * EVALUATION_BATCH + 17);
        let bytes: Vec<u8> = (0..labels.len() * 784).map(|i| (i % 251) as u8).collect();
        let data = Dataset::new(bytes, labels.clone(), [28, 28], 10, crate::Scaling::FASHION_MNIST).unwrap();
        for kind in ModelKind::ALL {
            let mut engine = BurnEngine::new(kind);
            // All-zero parameters: every logit is 0, the loss ln 10, and the prediction class 0.
            let loss = evaluate(&mut engine, &vec![0.0; kind.dimension()], &data).unwrap();
            assert_eq!(loss.samples, labels.len());
            assert_eq!(loss.correct, labels.iter().filter(|&&label| label == 0).count());
            assert!((loss.mean_loss - 10_f32.ln()).abs() < 1e-6, "{loss:?}");
        }
        assert_eq!(images.len(), labels.len() * 784);
    }

    #[test]
    fn a_diverged_model_has_a_loss_and_a_count_and_no_panic() {
        let (images, labels) = images(&split().test, 50);
        let batch = Batch { images: &images, labels: &labels };
        let zeros = labels.iter().filter(|&&label| label == 0).count();
        for kind in ModelKind::ALL {
            let mut engine = BurnEngine::new(kind);
            let mut gradient = vec![0.0; kind.dimension()];
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -f32::MAX] {
                let mut x = kind.initial(1);
                x.fill(value);
                let loss = engine.gradient(&x, batch, &mut gradient).unwrap();
                assert_eq!(loss.samples, 50);
                if value.is_nan() {
                    assert!(loss.mean_loss.is_nan() && loss.correct == zeros, "{kind} {loss:?}");
                }
                for coordinate in [0, kind.dimension() / 2, kind.dimension() - 1] {
                    let mut x = kind.initial(1);
                    x[coordinate] = value;
                    engine.gradient(&x, batch, &mut gradient).unwrap();
                }
            }
            let pixels = vec![f32::NAN; images.len()];
            let loss =
                engine.gradient(&kind.initial(1), Batch { images: &pixels, labels: &labels }, &mut gradient);
            assert_eq!(loss.unwrap().correct, zeros);
        }
    }

    #[test]
    fn a_prediction_is_the_first_of_the_largest_and_nan_never_beats_a_number() {
        let (nan, inf) = (f32::NAN, f32::INFINITY);
        assert_eq!(predicted(&[0.0, 2.0, 2.0, 1.0]), 1);
        assert_eq!(predicted(&[nan, -5.0, nan, -4.0]), 3);
        assert_eq!(predicted(&[nan, -inf]), 1);
        assert_eq!(predicted(&[nan, nan, inf, nan]), 2);
        assert_eq!(predicted(&[nan; 3]), 0);
        assert_eq!(predicted(&[-0.0, 0.0]), 0);
        assert_eq!(predicted(&[-inf, -inf]), 0);
    }

    #[test]
    fn cross_entropy_is_what_its_formula_says_and_does_not_overflow() {
        let mut row = [0.0; 10];
        row[3] = 1000.0;
        let mut gradient = Vec::new();
        assert_eq!(cross_entropy(&row, &[3], Some(&mut gradient)).mean_loss, 0.0);
        assert_eq!(gradient, [0.0; 10]);
        assert_eq!(cross_entropy(&row, &[4], Some(&mut gradient)).mean_loss, 1000.0);
        assert_eq!((gradient[3], gradient[4]), (1.0, -1.0));

        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let loss = |value| cross_entropy(&[value, 0., 0., 0., 0., 0., 0., 0., 0., 0.], &[0], None).mean_loss;
        assert!(loss(nan).is_nan() && loss(inf).is_nan());
        assert_eq!(loss(-inf), inf);
        assert!(cross_entropy(&[-inf; 10], &[0], None).mean_loss.is_nan());
        let two = cross_entropy(&[[0.0; 10], row].concat(), &[0, 3], Some(&mut gradient));
        assert!((two.mean_loss - 10_f32.ln() / 2.0).abs() < 1e-6 && two.correct == 2, "{two:?}");
        assert!((gradient[0] + 0.45).abs() < 1e-6 && (gradient[1] - 0.05).abs() < 1e-6);
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused_with_expected_and_got() {
        let mut engine = BurnEngine::new(ModelKind::Mlp);
        let x = vec![0.0; engine.dimension()];
        let mut refuse = |x: &[f32], images: usize, labels: &[u8], gradient: usize| {
            let images = vec![0.0; images];
            let batch = Batch { images: &images, labels };
            engine.gradient(x, batch, &mut vec![0.0; gradient]).unwrap_err().to_string()
        };
        let d = 203_530;
        assert_eq!(
            refuse(&x[1..], 784, &[0], d),
            "coordinates of the parameters: expected 203530, got 203529"
        );
        assert_eq!(refuse(&x, 784, &[0], 1), "coordinates of the gradient: expected 203530, got 1");
        assert_eq!(refuse(&x, 0, &[], d), "images in a batch: expected at least 1, got 0");
        assert_eq!(
            refuse(&x, 784, &[0, 1], d),
            "pixels of a batch: expected 784 for each of 2 labels, got 784"
        );
        assert_eq!(refuse(&x, 784, &[10], d), "label: expected below 10, got 10");
    }

    #[test]
    fn threads_are_chosen_once_and_at_least_one() {
        let error = set_threads(0).unwrap_err();
        assert_eq!(error.to_string(), "number of threads: expected at least 1, got 0");
        // Another test's engine may have come first.
        let _ = set_threads(2);
        assert!(matches!(set_threads(2).unwrap_err(), Error::Engine { .. }));
    }
}
