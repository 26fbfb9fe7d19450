//! Compute engines: a batch in, a loss and a flat gradient out.

mod burn;
mod kind;
mod local;
#[cfg(feature = "tch")]
mod torch;

pub use self::burn::BurnEngine;
pub use self::kind::EngineKind;
pub use self::local::LocalEngines;
#[cfg(feature = "tch")]
pub use self::torch::TchEngine;

use std::ops::Range;

use crate::data::{Dataset, Examples};
use crate::random::{stream, unit};
use crate::{Error, Shape};

/// Numbers in the logits of one pass of [`evaluate`], at the most (unless one example has more), and examples.
const EVALUATION_LOGITS: usize = 1 << 26;
const EVALUATION_BATCH: usize = 100;

/// Examples by which [`running_statistics`] are taken, and of one pass.
pub(crate) const STATISTICS_EXAMPLES: usize = 2048;
const STATISTICS_BATCH: usize = 128;

/// What a batch has for a model to look at.
#[derive(Clone, Copy, Debug)]
pub enum Inputs<'a> {
    /// The pixels of all images, scaled as by [`Dataset::fill`]: one image after the other, each as channels of rows.
    Pixels(&'a [f32]),
    /// The tokens of all windows, one window after the other.
    Tokens(&'a [u32]),
}

impl Inputs<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Pixels(pixels) => pixels.len(),
            Self::Tokens(tokens) => tokens.len(),
        }
    }

    fn part(&self, range: Range<usize>) -> Self {
        match self {
            Self::Pixels(pixels) => Self::Pixels(&pixels[range]),
            Self::Tokens(tokens) => Self::Tokens(&tokens[range]),
        }
    }
}

/// A batch of examples with what is to be predicted.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Images or windows of text.
    pub inputs: Inputs<'a>,
    /// The label of each image, or the token that comes after each token; below [`Shape::classes`].
    pub labels: &'a [u32],
    /// What is random in a gradient, such as which units are dropped, is a function of this.
    pub seed: u64,
}

/// How a model did on some examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loss {
    /// Mean softmax cross-entropy in nats, ln Σⱼ exp(zⱼ) − z_label for the logits z. NaN when a logit is NaN
    /// or +∞, or all are −∞; +∞ when the label's logit is −∞ alone.
    pub mean_loss: f32,
    /// Predictions that are the label. The prediction is the lowest class of those with the
    /// largest logit; a NaN never beats a number, and where all logits are NaN it is class 0.
    pub correct: usize,
    /// Predictions in all: one of each image, one of each token.
    pub samples: usize,
}

impl Loss {
    /// `correct` / `samples`, between 0 and 1; NaN without samples.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples as f64
    }

    /// exp(`mean_loss`), a language model's perplexity per token.
    pub fn perplexity(&self) -> f64 {
        f64::from(self.mean_loss).exp()
    }
}

/// Something that computes losses and gradients of one model.
///
/// It holds no parameters: they come with every call, as one flat vector in the order of
/// [`Model::layout`](crate::Model::layout). Equal arguments give equal bits on one machine, in
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

    /// What each batch normalisation makes of `batch` at the point `x`: for one after the other, the mean of each channel,
    /// then the variance of each, estimated without bias. Empty for a model without any.
    ///
    /// # Errors
    /// As those of [`Engine::gradient`].
    fn statistics(&mut self, x: &[f32], batch: Batch<'_>) -> Result<Vec<f32>, Error> {
        let _ = (x, batch);
        Ok(Vec::new())
    }

    /// What a finished model makes of `batch` at the point `x` (see [`loss`](Self::loss)): for each prediction a row of logits,
    /// one for each class. The labels are not looked at, but have to be as many as there are predictions.
    ///
    /// # Errors
    /// As those of [`Engine::loss`]; [`Error::Engine`] from an engine that has none.
    fn logits(&mut self, x: &[f32], statistics: &[f32], batch: Batch<'_>) -> Result<Vec<f32>, Error> {
        let _ = (x, statistics, batch);
        Err(Error::Engine { reason: "it has no logits to show".into() })
    }

    /// The loss on `batch` at the point `x`, as a finished model has it: nothing is dropped, labels are as they are, and
    /// batches are normalised by `statistics`, which are in the form and order of [`statistics`](Self::statistics).
    ///
    /// # Errors
    /// As those of [`Engine::gradient`]; [`Error::Misuse`] when there are not as many `statistics` as the model has.
    fn loss(&mut self, x: &[f32], statistics: &[f32], batch: Batch<'_>) -> Result<Loss, Error>;
}

/// The statistics that a finished model normalises batches by (see [`Engine::statistics`]): their mean over up to 2,048
/// training examples, evenly spread over the data, in batches of 128. Empty for a model without batch normalisation.
///
/// They are a function of `x` and the data: the same for whoever evaluates a model where the data is at hand. Where it is not, the
/// workers' own are what there is ([`Trainer`](crate::Trainer), at the end of a run). Either way they belong to the weights as
/// they are now, which an average over the training does not (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm",
/// section 3, find them better).
///
/// # Errors
/// Those of [`Engine::statistics`] and [`Dataset::fill`].
pub fn running_statistics(engine: &mut dyn Engine, x: &[f32], data: &Dataset) -> Result<Vec<f32>, Error> {
    let taken = data.len().min(STATISTICS_EXAMPLES);
    let batches = taken.div_ceil(STATISTICS_BATCH);
    let (mut examples, mut mean) = (Examples::default(), MeanStatistics::default());
    for batch in 0..batches {
        // Every so manieth: examples may be in the order of their classes.
        let indices: Vec<usize> = (batch..taken).step_by(batches).map(|at| at * data.len() / taken).collect();
        data.fill(&indices, Some(batch as u64), &mut examples)?;
        let statistics = engine.statistics(x, examples.batch())?;
        if statistics.is_empty() {
            break;
        }
        mean.add(&statistics);
    }
    Ok(mean.take())
}

/// The mean of the statistics of several batches.
#[derive(Debug, Default)]
pub(crate) struct MeanStatistics {
    sums: Vec<f64>,
    batches: usize,
}

impl MeanStatistics {
    pub(crate) fn add(&mut self, statistics: &[f32]) {
        self.sums.resize(statistics.len(), 0.0);
        self.sums.iter_mut().zip(statistics).for_each(|(sum, &one)| *sum += f64::from(one));
        self.batches += 1;
    }

    pub(crate) fn take(self) -> Vec<f32> {
        self.sums.into_iter().map(|sum| (sum / self.batches as f64) as f32).collect()
    }
}

/// The loss of `engine` at the point `x` over the whole of `data`, every example once and in order. `statistics` are the
/// [`running_statistics`] there.
///
/// # Errors
/// Those of [`Engine::loss`] and [`Dataset::fill`].
pub fn evaluate(
    engine: &mut dyn Engine,
    x: &[f32],
    statistics: &[f32],
    data: &Dataset,
) -> Result<Loss, Error> {
    let mut examples = Examples::default();
    let (mut sum, mut correct, mut samples) = (0.0, 0, 0);
    let indices: Vec<usize> = (0..data.len()).collect();
    let logits = data.shape().predictions().saturating_mul(data.shape().classes()).max(1);
    for indices in indices.chunks((EVALUATION_LOGITS / logits).clamp(1, EVALUATION_BATCH)) {
        data.fill(indices, None, &mut examples)?;
        let loss = engine.loss(x, statistics, examples.batch())?;
        sum += f64::from(loss.mean_loss) * loss.samples as f64;
        correct += loss.correct;
        samples += loss.samples;
    }
    Ok(Loss { mean_loss: (sum / samples as f64) as f32, correct, samples })
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
        .map_err(|error| Error::Engine { reason: format!("cannot set {threads} threads: {error}") })?;
    #[cfg(feature = "tch")]
    tch::set_num_threads(i32::try_from(threads).unwrap_or(i32::MAX));
    Ok(())
}

/// What every engine asks of the arguments of a gradient.
fn check_gradient(
    dimension: usize,
    shape: Shape,
    x: &[f32],
    batch: Batch<'_>,
    gradient: &[f32],
) -> Result<(), Error> {
    check(dimension, shape, x, batch)?;
    if gradient.len() != dimension {
        return Err(Error::misuse("coordinates of the gradient", dimension, gradient.len()));
    }
    Ok(())
}

fn check(dimension: usize, shape: Shape, x: &[f32], batch: Batch<'_>) -> Result<(), Error> {
    if x.len() != dimension {
        return Err(Error::misuse("coordinates of the parameters", dimension, x.len()));
    }
    if batch.labels.is_empty() {
        return Err(Error::misuse("examples in a batch", "at least 1", 0));
    }
    let (labels, predictions) = (batch.labels.len(), shape.predictions());
    if !labels.is_multiple_of(predictions) {
        return Err(Error::misuse("labels of a batch", format!("{predictions} for each window"), labels));
    }
    let inputs = (labels / predictions).saturating_mul(shape.inputs());
    let fits = matches!((batch.inputs, shape), (Inputs::Pixels(_), Shape::Images { .. }))
        || matches!((batch.inputs, shape), (Inputs::Tokens(_), Shape::Tokens { .. }));
    if !fits || batch.inputs.len() != inputs {
        let expected = format!("{} for each of {} labels", shape.inputs() / predictions, labels);
        let what = if fits { "pixels or tokens of a batch" } else { "inputs of this model's kind" };
        return Err(Error::misuse(what, expected, batch.inputs.len()));
    }
    let too_large = |it: &&u32| **it as usize >= shape.classes();
    if let Some(label) = batch.labels.iter().find(too_large) {
        return Err(Error::misuse("label", format!("below {}", shape.classes()), label));
    }
    if let Inputs::Tokens(tokens) = batch.inputs
        && let Some(token) = tokens.iter().find(too_large)
    {
        return Err(Error::misuse("token", format!("below {}", shape.classes()), token));
    }
    Ok(())
}

/// Softmax cross-entropy of `logits` (row-major, one row of classes for each label) with labels smoothed by `smoothing` ε, and
/// if asked for, its gradient with respect to them: (softmax(z) − q) / samples, where q is 1 − ε at the label and ε/classes
/// more everywhere (Szegedy et al. 2016, section 7).
///
/// Computed here rather than by the engine's framework, so that every engine gives the same numbers and what
/// happens at NaN and ±∞ is known. A row's largest logit is subtracted first, so that finite logits never
/// overflow.
fn cross_entropy(
    logits: &[f32],
    labels: &[u32],
    classes: usize,
    smoothing: f32,
    mut gradient: Option<&mut Vec<f32>>,
) -> Loss {
    let samples = labels.len();
    let (mut sum, mut correct) = (0.0, 0);
    if let Some(gradient) = &mut gradient {
        gradient.clear();
        gradient.reserve(logits.len());
    }
    let everywhere = smoothing / classes as f32;
    for (row, &label) in logits.chunks_exact(classes).zip(labels) {
        let label = label as usize;
        correct += usize::from(predicted(row) == label);
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponential = |z: &f32| (z - largest).exp();
        let total: f32 = match &mut gradient {
            None => row.iter().map(exponential).sum(),
            Some(gradient) => {
                let start = gradient.len();
                gradient.extend(row.iter().map(exponential));
                let exponentials = &mut gradient[start..];
                let total = exponentials.iter().sum();
                for (class, value) in exponentials.iter_mut().enumerate() {
                    let hit = if class == label { 1.0 - smoothing } else { 0.0 };
                    *value = (*value / total - hit - everywhere) / samples as f32;
                }
                total
            }
        };
        let mut loss = total.ln() - (row[label] - largest);
        if smoothing > 0.0 {
            let mean = row.iter().map(|z| z - largest).sum::<f32>() / classes as f32;
            loss = (1.0 - smoothing) * loss + smoothing * (total.ln() - mean);
        }
        sum += f64::from(loss);
    }
    Loss { mean_loss: (sum / samples as f64) as f32, correct, samples }
}

/// What each of `count` values is multiplied by where they are dropped with this probability: 0, or what keeps their mean.
fn dropped(seed: u64, layer: u64, probability: f32, count: usize) -> Vec<f32> {
    let material = [seed.to_le_bytes(), layer.to_le_bytes()].concat();
    let mut random = stream("signvote-learn 2026 dropout v1", &material);
    let kept = 1.0 / (1.0 - probability);
    (0..count).map(|_| if unit(&mut random) < probability { 0.0 } else { kept }).collect()
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
    use crate::{DataSource, Model, ModelKind, Partition, Sampler, Split, load, rounds_per_epoch};

    fn split() -> Split {
        load(&DataSource::default().into()).unwrap()
    }

    fn images(data: &Dataset, count: usize) -> Examples {
        let mut examples = Examples::default();
        data.fill(&(0..count).collect::<Vec<_>>(), Some(9), &mut examples).unwrap();
        examples
    }

    /// Models of images that are small enough for a test.
    const SMALL: [ModelKind; 2] = [ModelKind::Mlp, ModelKind::Cnn];

    /// Models with every kind of layer, with examples they can take. (The large ones have the same layers, and are compared with
    /// PyTorch's.)
    fn every_layer() -> Vec<(Model, Examples)> {
        let pixels = |size| Shape::Images { channels: 3, rows: size, columns: size, classes: 7 };
        let text = Shape::Tokens { length: 6, vocabulary: 20 };
        let models = [
            (ModelKind::Mlp, Shape::FASHION_MNIST),
            (ModelKind::Cnn, Shape::FASHION_MNIST),
            (ModelKind::ResNet18Small, pixels(8)),
            (ModelKind::GptSmall, text),
            (ModelKind::QrnnSmall, text),
        ];
        let models = models.into_iter().chain(Some(("mlp-40-30".parse().unwrap(), Shape::FASHION_MNIST)));
        models.map(|(kind, shape)| (kind.model(shape).unwrap(), made_up(shape, 4))).collect()
    }

    /// Examples without a meaning.
    fn made_up(shape: Shape, count: usize) -> Examples {
        let mut random = stream("signvote-learn test", b"examples");
        let mut examples = Examples { seed: 5, ..Examples::default() };
        let mut below = |limit: usize| (unit(&mut random) * limit as f32) as u32;
        examples.labels = (0..count * shape.predictions()).map(|_| below(shape.classes())).collect();
        match shape {
            Shape::Tokens { vocabulary, .. } => {
                examples.tokens = (0..count * shape.inputs()).map(|_| below(vocabulary)).collect();
            }
            _ => {
                examples.pixels = (0..count * shape.inputs()).map(|_| unit(&mut random) * 3.0 - 1.5).collect()
            }
        }
        examples
    }

    #[test]
    fn the_gradient_equals_central_differences_in_every_parameter() {
        for (model, examples) in every_layer() {
            let (mut engine, kind) = (BurnEngine::new(&model), model.kind());
            let mut x = model.initial(3);
            let mut gradient = vec![0.0; x.len()];
            engine.gradient(&x, examples.batch(), &mut gradient).unwrap();
            let mut wrong = Vec::new();
            let layout = model.layout().unwrap();
            // Many layers of many parameters have the same form: some of each are enough.
            let every = layout.tensors().len().div_ceil(16);
            for (tensor, range) in layout.ranges().step_by(every) {
                // The coordinate with the largest gradient, where f32 differences say most.
                let largest = |a: &usize, b: &usize| gradient[*a].abs().total_cmp(&gradient[*b].abs());
                let i = range.max_by(largest).unwrap();
                // The loss as it is trained on: with units dropped, batches normalised by themselves.
                let mut memory = vec![0.0; x.len()];
                let at = x[i];
                let mut difference = |step: f32| {
                    let mut loss_at = |value: f32| {
                        x[i] = value;
                        // With the backward pass: until there is one, the engine keeps every forward pass.
                        engine.gradient(&x, examples.batch(), &mut memory).unwrap().mean_loss
                    };
                    let (above, below) = (loss_at(at + step), loss_at(at - step));
                    x[i] = at;
                    (above - below) / ((at + step) - (at - step))
                };
                // Rounding spoils a short step, a kink of a ReLU or the curvature a long one.
                let error = [1e-4, 1e-3, 1e-2].map(|step| (difference(step) / gradient[i] - 1.0).abs());
                if gradient[i] == 0.0 || error.iter().all(|error| *error > 0.03) {
                    wrong.push(format!("{} {} {error:?}", tensor.name, gradient[i]));
                }
            }
            assert!(wrong.is_empty(), "{kind}: {wrong:?}");
        }
    }

    #[test]
    fn equal_arguments_give_equal_bits_in_every_engine() {
        for (model, examples) in every_layer() {
            let (x, kind) = (model.initial(5), model.kind());
            let mut one = BurnEngine::new(&model);
            let step = |engine: &mut BurnEngine| {
                let mut gradient = vec![f32::NAN; x.len()];
                let loss = engine.gradient(&x, examples.batch(), &mut gradient).unwrap();
                (loss, gradient.into_iter().map(f32::to_bits).collect::<Vec<_>>())
            };
            let first = step(&mut one);
            assert!(first == step(&mut one), "{kind}: another call");
            assert!(first == step(&mut BurnEngine::new(&model)), "{kind}: another engine");
        }
        for kind in SMALL {
            // What is neither normalised by batches nor dropped is the same in training and after it.
            let (model, examples) = (kind.usual(), images(&split().train, 32));
            let (x, mut engine) = (model.initial(5), BurnEngine::new(&model));
            let loss = engine.forward(&x, examples.batch(), &mut vec![0.0; x.len()]).unwrap();
            assert_eq!(engine.loss(&x, &[], examples.batch()).unwrap(), loss, "{kind}: without the gradient");
        }
    }

    #[test]
    fn the_pieces_of_a_backward_pass_are_the_gradient_bit_for_bit() {
        for (model, examples) in every_layer() {
            let (x, kind, mut engine) = (model.initial(7), model.kind(), BurnEngine::new(&model));
            let mut whole = vec![f32::NAN; x.len()];
            let loss = engine.gradient(&x, examples.batch(), &mut whole).unwrap();
            let (mut pieced, mut starts, mut memory) = (vec![f32::NAN; x.len()], vec![], vec![0.0; x.len()]);
            assert_eq!(engine.forward(&x, examples.batch(), &mut memory).unwrap(), loss);
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
            let offsets: Vec<usize> =
                model.layout().unwrap().ranges().map(|(_, range)| range.start).collect();
            if let ModelKind::Cnn = kind {
                // Its linear layers first: they are ready before the convolutions.
                assert_eq!(starts, [&offsets[4..], &offsets[..4]].concat());
            }
            starts.sort_unstable();
            assert_eq!(starts, offsets, "{kind}");
            let error = engine.backward(&mut memory, &mut |_, _| ()).unwrap_err();
            assert!(error.to_string().contains("without a forward pass"), "{error}");
        }
    }

    #[test]
    fn units_are_dropped_by_the_seed_and_not_in_a_finished_model() {
        let (model, mut examples) =
            every_layer().into_iter().find(|(model, _)| model.kind() == ModelKind::QrnnSmall).unwrap();
        let (x, mut engine) = (model.initial(1), BurnEngine::new(&model));
        let mut memory = vec![0.0; x.len()];
        let mut losses = |seed| {
            examples.seed = seed;
            let trained = engine.forward(&x, examples.batch(), &mut memory).unwrap();
            (trained.mean_loss, engine.loss(&x, &[], examples.batch()).unwrap().mean_loss)
        };
        let [one, other] = [1, 2].map(&mut losses);
        assert!(one.0 != other.0 && one.1 == other.1 && one.0 != one.1, "{one:?} {other:?}");
        let kept = dropped(3, 0, 0.25, 100_000);
        assert!(kept.iter().all(|value| *value == 0.0 || *value == 1.0 / 0.75));
        let mean = kept.iter().sum::<f32>() / 100_000.0;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
    }

    #[test]
    fn a_finished_model_is_normalised_by_the_statistics_of_its_training_data() {
        let shape = Shape::Images { channels: 3, rows: 8, columns: 8, classes: 7 };
        let model = ModelKind::ResNet18Small.model(shape).unwrap();
        let (x, mut engine) = (model.initial(1), BurnEngine::new(&model));
        let examples = made_up(shape, 16);
        let statistics = engine.statistics(&x, examples.batch()).unwrap();
        let count: usize = model.statistics().iter().map(|it| it.shape[0]).sum();
        assert_eq!(statistics.len(), count);
        // The first normalisation's, of one channel: what a convolution without padding to speak of makes of the pixels.
        let (means, variances) = (&statistics[..64], &statistics[64..128]);
        assert!(
            means.iter().all(|mean| mean.abs() < 0.5) && variances.iter().all(|it| (0.01..4.0).contains(it))
        );
        // By these the finished model gives almost what training gives on the same batch; without any it is another.
        let trained = engine.forward(&x, examples.batch(), &mut vec![0.0; x.len()]).unwrap().mean_loss;
        let finished = engine.loss(&x, &statistics, examples.batch()).unwrap().mean_loss;
        assert!((trained - finished).abs() < 0.05, "{trained} {finished}");
        let error = engine.loss(&x, &[], examples.batch()).unwrap_err().to_string();
        assert_eq!(error, format!("running statistics: expected {count}, got 0"));

        let bytes = (0..40 * 192_u32).map(|at| (at * 37 % 253) as u8).collect();
        let grey = Shape::Images { channels: 1, rows: 12, columns: 16, classes: 7 };
        let data = Dataset::grey(bytes, vec![0; 40], [12, 16], 7, crate::Scaling::FASHION_MNIST).unwrap();
        let model = ModelKind::ResNet18Small.model(grey).unwrap();
        let (x, mut engine) = (model.initial(1), BurnEngine::new(&model));
        let running = running_statistics(&mut engine, &x, &data).unwrap();
        let mut whole = Examples::default();
        data.fill(&(0..40).collect::<Vec<_>>(), Some(0), &mut whole).unwrap();
        assert_eq!(running, engine.statistics(&x, whole.batch()).unwrap());
        let mlp = ModelKind::Mlp.model(grey).unwrap();
        assert!(running_statistics(&mut BurnEngine::new(&mlp), &mlp.initial(1), &data).unwrap().is_empty());
    }

    #[test]
    fn plain_gradient_descent_lowers_the_loss_and_finds_the_classes() {
        let Split { train, test } = split();
        let model = ModelKind::Mlp.usual();
        let (mut engine, mut x) = (BurnEngine::new(&model), model.initial(1));
        let before = evaluate(&mut engine, &x, &[], &test).unwrap();
        let mut sampler = Sampler::new(train.labels(), 1, 0, 32, 1, Partition::Iid).unwrap();
        let (mut examples, mut gradient) = (Examples::default(), vec![0.0; x.len()]);
        for round in 0..rounds_per_epoch(train.len(), 1, 32) {
            train.fill(sampler.batch(round), None, &mut examples).unwrap();
            engine.gradient(&x, examples.batch(), &mut gradient).unwrap();
            for (x, g) in x.iter_mut().zip(&gradient) {
                *x -= 0.05 * g;
            }
        }
        let after = evaluate(&mut engine, &x, &[], &test).unwrap();
        assert!((2.0..3.0).contains(&before.mean_loss) && before.accuracy() < 0.3, "{before:?}");
        assert!(after.mean_loss < 0.6 && after.accuracy() > 0.8, "{after:?}");
    }

    #[test]
    fn evaluation_counts_every_image_once_whatever_the_batches() {
        let labels = split().test.labels()[..2 * EVALUATION_BATCH + 17].to_vec();
        let bytes: Vec<u8> = (0..labels.len() * 784).map(|i| (i % 251) as u8).collect();
        let data = Dataset::grey(bytes, labels.clone(), [28, 28], 10, crate::Scaling::FASHION_MNIST).unwrap();
        for kind in SMALL {
            let model = kind.usual();
            let mut engine = BurnEngine::new(&model);
            // All-zero parameters: every logit is 0, the loss ln 10, and the prediction class 0.
            let loss = evaluate(&mut engine, &vec![0.0; model.dimension()], &[], &data).unwrap();
            assert_eq!(loss.samples, labels.len());
            assert_eq!(loss.correct, labels.iter().filter(|&&label| label == 0).count());
            assert!((loss.mean_loss - 10_f32.ln()).abs() < 1e-6, "{loss:?}");
        }
        // A window counts as many predictions as it has tokens.
        let text = load(&DataSource::Shakespeare.into()).unwrap().test;
        let model = ModelKind::GptSmall.model(text.shape()).unwrap();
        let loss = evaluate(&mut BurnEngine::new(&model), &vec![0.0; model.dimension()], &[], &text).unwrap();
        assert_eq!((loss.samples, loss.correct), (64 * text.len(), 0));
        assert!((loss.perplexity() - 256.0).abs() < 0.01, "{loss:?}");
    }

    #[test]
    fn a_diverged_model_has_a_loss_and_a_count_and_no_panic() {
        let mut examples = images(&split().test, 50);
        let zeros = examples.labels.iter().filter(|&&label| label == 0).count();
        for kind in SMALL {
            let model = kind.usual();
            let (mut engine, batch) = (BurnEngine::new(&model), examples.batch());
            let mut gradient = vec![0.0; model.dimension()];
            for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -f32::MAX] {
                let mut x = model.initial(1);
                x.fill(value);
                let loss = engine.gradient(&x, batch, &mut gradient).unwrap();
                assert_eq!(loss.samples, 50);
                if value.is_nan() {
                    assert!(loss.mean_loss.is_nan() && loss.correct == zeros, "{kind} {loss:?}");
                }
                for coordinate in [0, model.dimension() / 2, model.dimension() - 1] {
                    let mut x = model.initial(1);
                    x[coordinate] = value;
                    engine.gradient(&x, batch, &mut gradient).unwrap();
                }
            }
        }
        examples.pixels.fill(f32::NAN);
        for kind in SMALL {
            let model = kind.usual();
            let mut gradient = vec![0.0; model.dimension()];
            let loss = BurnEngine::new(&model).gradient(&model.initial(1), examples.batch(), &mut gradient);
            assert_eq!(loss.unwrap().correct, zeros);
        }
        for (model, mut examples) in every_layer() {
            let (mut engine, mut x) = (BurnEngine::new(&model), model.initial(1));
            examples.pixels.fill(f32::NAN);
            x.fill(f32::NAN);
            let loss = engine.gradient(&x, examples.batch(), &mut vec![0.0; model.dimension()]).unwrap();
            assert!(loss.mean_loss.is_nan(), "{}", model.kind());
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
        let plain = |logits: &[f32], labels: &[u32]| cross_entropy(logits, labels, 10, 0.0, None).mean_loss;
        assert_eq!(cross_entropy(&row, &[3], 10, 0.0, Some(&mut gradient)).mean_loss, 0.0);
        assert_eq!(gradient, [0.0; 10]);
        assert_eq!(cross_entropy(&row, &[4], 10, 0.0, Some(&mut gradient)).mean_loss, 1000.0);
        assert_eq!((gradient[3], gradient[4]), (1.0, -1.0));

        let (nan, inf) = (f32::NAN, f32::INFINITY);
        let loss = |value| plain(&[value, 0., 0., 0., 0., 0., 0., 0., 0., 0.], &[0]);
        assert!(loss(nan).is_nan() && loss(inf).is_nan());
        assert_eq!(loss(-inf), inf);
        assert!(plain(&[-inf; 10], &[0]).is_nan());
        let two = cross_entropy(&[[0.0; 10], row].concat(), &[0, 3], 10, 0.0, Some(&mut gradient));
        assert!((two.mean_loss - 10_f32.ln() / 2.0).abs() < 1e-6 && two.correct == 2, "{two:?}");
        assert!((gradient[0] + 0.45).abs() < 1e-6 && (gradient[1] - 0.05).abs() < 1e-6);
    }

    #[test]
    fn smoothed_labels_are_a_mixture_with_all_classes() {
        let logits = [0.3_f32, -1.0, 2.0, 0.7];
        let (smoothing, mut gradient) = (0.2, Vec::new());
        let loss = cross_entropy(&logits, &[1], 4, smoothing, Some(&mut gradient));
        let total: f64 = logits.iter().map(|&z| f64::from(z).exp()).sum();
        let expected: f64 = (0..4)
            .map(|class| {
                let share = 0.05 + if class == 1 { 0.8 } else { 0.0 };
                share * (total.ln() - f64::from(logits[class]))
            })
            .sum();
        assert!((f64::from(loss.mean_loss) - expected).abs() < 1e-6, "{loss:?} {expected}");
        for (class, value) in gradient.iter().enumerate() {
            let share = 0.05 + if class == 1 { 0.8 } else { 0.0 };
            let expected = f64::from(logits[class]).exp() / total - share;
            assert!((f64::from(*value) - expected).abs() < 1e-6, "{class}: {value} {expected}");
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused_with_expected_and_got() {
        let model = ModelKind::Mlp.usual();
        let mut engine = BurnEngine::new(&model);
        let x = vec![0.0; engine.dimension()];
        let mut refuse = |x: &[f32], pixels: usize, labels: &[u32], gradient: usize| {
            let pixels = vec![0.0; pixels];
            let batch = Batch { inputs: Inputs::Pixels(&pixels), labels, seed: 0 };
            engine.gradient(x, batch, &mut vec![0.0; gradient]).unwrap_err().to_string()
        };
        let d = 203_530;
        assert_eq!(
            refuse(&x[1..], 784, &[0], d),
            "coordinates of the parameters: expected 203530, got 203529"
        );
        assert_eq!(refuse(&x, 784, &[0], 1), "coordinates of the gradient: expected 203530, got 1");
        assert_eq!(refuse(&x, 0, &[], d), "examples in a batch: expected at least 1, got 0");
        let message = "pixels or tokens of a batch: expected 784 for each of 2 labels, got 784";
        assert_eq!(refuse(&x, 784, &[0, 1], d), message);
        assert_eq!(refuse(&x, 784, &[10], d), "label: expected below 10, got 10");

        let text = ModelKind::GptSmall.model(Shape::Tokens { length: 2, vocabulary: 5 }).unwrap();
        let (x, mut engine) = (text.initial(1), BurnEngine::new(&text));
        let mut refuse = |inputs, labels: &[u32]| {
            engine.loss(&x, &[], Batch { inputs, labels, seed: 0 }).unwrap_err().to_string()
        };
        assert_eq!(refuse(Inputs::Tokens(&[1, 5]), &[1, 1]), "token: expected below 5, got 5");
        assert_eq!(
            refuse(Inputs::Tokens(&[1]), &[1]),
            "labels of a batch: expected 2 for each window, got 1"
        );
        assert!(refuse(Inputs::Pixels(&[1.0, 1.0]), &[1, 1]).starts_with("inputs of this model's kind"));
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
