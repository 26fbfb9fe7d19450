//! The engine on burn: pure Rust, on the CPU by its flex backend, on a GPU by that on WebGPU. The only file that names burn.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use burn::tensor::activation::{gelu, relu, sigmoid, softmax, tanh};
use burn::tensor::module::{batch_norm, batch_norm_train, conv2d, embedding, layer_norm, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};

use super::{Batch, Engine, Inputs, Loss, check, check_gradient, cross_entropy, dropped};
use crate::model::{Layer, Network, Param};
use crate::{Error, Model, Shape};

/// ε of both normalisations, as in PyTorch.
const EPSILON: f64 = 1e-5;

/// An [`Engine`] that computes with burn.
///
/// On the CPU the same bits come out whatever the number of threads (see [`set_threads`](crate::set_threads)).
///
/// Burn tells nobody of a gradient before its backward pass is over. A model is therefore cut between its stages, and each
/// has a backward pass of its own, the last one first: what the last stages gave travels while those of the first are computed.
/// A parameter that several stages use is handed on when the first of them is done.
#[derive(Debug)]
pub struct BurnEngine {
    network: Arc<Network>,
    shape: Shape,
    dimension: usize,
    /// Where each parameter begins.
    starts: Vec<usize>,
    device: Device,
    smoothing: f32,
    // Gradient of the loss with respect to the logits, kept for its allocation.
    logit_gradient: Vec<f32>,
    // Between the two halves of a step.
    recorded: Option<Recorded>,
}

/// A forward pass of which the backward pass is still to come.
#[derive(Debug)]
struct Recorded {
    leaves: Vec<Tensor<1>>,
    /// What each stage but the last gives, as its result and as the input of the next.
    cuts: Vec<(Value, Value)>,
    logits: Tensor<2>,
}

/// What flows between layers.
#[derive(Clone, Debug)]
enum Value {
    Rows(Tensor<2>),
    Sequence(Tensor<3>),
    Pixels(Tensor<4>),
    Tokens(Tensor<2, Int>),
}

impl BurnEngine {
    /// An engine for `model`, on the CPU.
    pub fn new(model: &Model) -> Self {
        Self::on(model, Device::flex())
    }

    /// An engine for `model` on the GPU that the system names first.
    ///
    /// # Panics
    /// At its first step, where there is none.
    #[cfg(feature = "wgpu")]
    pub fn on_gpu(model: &Model) -> Self {
        Self::on(model, Device::wgpu(burn::tensor::DeviceKind::DefaultDevice))
    }

    fn on(model: &Model, device: Device) -> Self {
        keep_freed_memory();
        let network = Arc::clone(&model.network);
        Self {
            starts: network.starts(),
            dimension: network.dimension(),
            network,
            shape: model.shape(),
            device,
            smoothing: 0.0,
            logit_gradient: Vec::new(),
            recorded: None,
        }
    }

    /// Gradients are those of the loss with labels smoothed by this share ε (Szegedy et al. 2016, section 7).
    #[must_use]
    pub fn label_smoothing(mut self, share: f32) -> Self {
        self.smoothing = share;
        self
    }

    /// The parameters as one flat tensor each, in the order of the network's.
    fn leaves(&self, x: &[f32], device: &Device) -> Vec<Tensor<1>> {
        let parameters = self.starts.iter().zip(&self.network.parameters);
        parameters.map(|(&start, it)| flat(&x[start..start + it.count()], device)).collect()
    }

    fn inputs(&self, batch: Batch<'_>, device: &Device) -> Value {
        let samples = batch.labels.len() / self.shape.predictions();
        match (batch.inputs, self.shape) {
            (Inputs::Pixels(pixels), Shape::Images { channels, rows, columns, .. }) => {
                Value::Pixels(flat(pixels, device).reshape([samples, channels, rows, columns]))
            }
            (Inputs::Tokens(tokens), _) => {
                let tokens: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
                let count = tokens.len() / samples;
                Value::Tokens(Tensor::from_data(TensorData::new(tokens, [samples, count]), device))
            }
            (Inputs::Pixels(_), _) => unreachable!("checked before"),
        }
    }

    /// Logits [predictions, classes] in one pass, without gradients.
    fn pass(&self, x: &[f32], batch: Batch<'_>, mode: Mode<'_>) -> Result<TensorData, Error> {
        check(self.dimension, self.shape, x, batch)?;
        let leaves = self.leaves(x, &self.device);
        let mut pass = Pass { network: &self.network, leaves: &leaves, mode, seed: batch.seed };
        let mut value = self.inputs(batch, &self.device);
        for stage in &self.network.stages {
            value = pass.layers(stage, value)?;
        }
        data_of(value.logits()?)
    }
}

impl Engine for BurnEngine {
    fn dimension(&self) -> usize {
        self.dimension
    }

    fn gradient(&mut self, x: &[f32], batch: Batch<'_>, gradient: &mut [f32]) -> Result<Loss, Error> {
        let loss = self.forward(x, batch, gradient)?;
        self.backward(&mut [], &mut |coordinates, piece| gradient[coordinates].copy_from_slice(piece))?;
        Ok(loss)
    }

    fn forward(&mut self, x: &[f32], batch: Batch<'_>, gradient: &mut [f32]) -> Result<Loss, Error> {
        check_gradient(self.dimension, self.shape, x, batch, gradient)?;
        let device = self.device.clone().autodiff();
        let leaves: Vec<Tensor<1>> = self.leaves(x, &device).into_iter().map(Tensor::require_grad).collect();
        let mut pass =
            Pass { network: &self.network, leaves: &leaves, mode: Mode::Training, seed: batch.seed };
        let mut value = self.inputs(batch, &device);
        let mut cuts = Vec::new();
        let stages = &self.network.stages;
        for (index, stage) in stages.iter().enumerate() {
            value = pass.layers(stage, value)?;
            if index + 1 < stages.len() {
                let input = value.clone().detached();
                cuts.push((value, input.clone()));
                value = input;
            }
        }
        let logits = value.logits()?;
        let values = data_of(logits.clone().inner())?;
        let (classes, smoothing) = (self.shape.classes(), self.smoothing);
        let loss =
            cross_entropy(slice(&values)?, batch.labels, classes, smoothing, Some(&mut self.logit_gradient));
        self.recorded = Some(Recorded { leaves, cuts, logits });
        Ok(loss)
    }

    fn backward(&mut self, _: &mut [f32], piece: &mut dyn FnMut(Range<usize>, &[f32])) -> Result<(), Error> {
        let Some(Recorded { leaves, mut cuts, logits }) = self.recorded.take() else {
            return Err(engine_error("a backward pass without a forward pass"));
        };
        let network = &self.network;
        // Of parameters that an earlier stage uses as well.
        let mut parts: HashMap<Param, Vec<f32>> = HashMap::new();
        let mut gradients = pull_back(logits, &self.logit_gradient);
        for stage in (0..network.stages.len()).rev() {
            for parameter in network.used_in(stage) {
                let name = || no_gradient(&network.parameters[parameter].name);
                let gradient = leaves[parameter].grad_remove(&mut gradients).ok_or_else(name)?;
                let data = data_of(gradient)?;
                let values = slice(&data)?;
                if network.used_before(stage, parameter) {
                    add(parts.entry(parameter).or_default(), values);
                    continue;
                }
                let start = self.starts[parameter];
                let coordinates = start..start + values.len();
                match parts.remove(&parameter) {
                    None => piece(coordinates, values),
                    Some(mut sum) => {
                        add(&mut sum, values);
                        piece(coordinates, &sum);
                    }
                }
            }
            if let Some((result, input)) = cuts.pop() {
                gradients = result.pull_back(input, &mut gradients)?;
            }
        }
        Ok(())
    }

    fn statistics(&mut self, x: &[f32], batch: Batch<'_>) -> Result<Vec<f32>, Error> {
        let mut found = vec![0.0; self.network.statistics_len()];
        if !found.is_empty() {
            self.pass(x, batch, Mode::Collecting(&mut found))?;
        }
        Ok(found)
    }

    fn logits(&mut self, x: &[f32], statistics: &[f32], batch: Batch<'_>) -> Result<Vec<f32>, Error> {
        if statistics.len() != self.network.statistics_len() {
            let (expected, got) = (self.network.statistics_len(), statistics.len());
            return Err(Error::misuse("running statistics", expected, got));
        }
        let logits = self.pass(x, batch, Mode::Evaluating(statistics))?;
        logits.try_into_vec().map_err(engine_error)
    }

    fn loss(&mut self, x: &[f32], statistics: &[f32], batch: Batch<'_>) -> Result<Loss, Error> {
        let logits = self.logits(x, statistics, batch)?;
        Ok(cross_entropy(&logits, batch.labels, self.shape.classes(), 0.0, None))
    }
}

/// Makes glibc's allocator keep what a step frees for the next step.
///
/// It gives back to the system what is freed beyond a threshold, 128 KiB at the start, and every step of an
/// engine then faults its megabytes of tensors in again: 0.53 ms instead of 1.3 ms for the `mlp` at a batch of
/// 32, a tenth to a fifth of the `cnn`'s. The threshold follows the largest block that was freed, up to 32 MiB
/// (mallopt(3), M_MMAP_THRESHOLD), so freeing one raises it for good; the block is never touched and so never
/// takes memory. Other allocators are none the worse.
fn keep_freed_memory() {
    let block = Vec::<u8>::with_capacity((32 << 20) - (64 << 10));
    drop(std::hint::black_box(block));
}

/// What a pass is for.
enum Mode<'a> {
    /// Gradients.
    Training,
    /// The statistics of each batch normalisation, written here.
    Collecting(&'a mut [f32]),
    /// The finished model, which has these statistics.
    Evaluating(&'a [f32]),
}

/// One way through the layers.
struct Pass<'a> {
    network: &'a Network,
    /// The parameters, flat.
    leaves: &'a [Tensor<1>],
    mode: Mode<'a>,
    seed: u64,
}

impl Pass<'_> {
    fn layers(&mut self, layers: &[Layer], input: Value) -> Result<Value, Error> {
        layers.iter().try_fold(input, |value, layer| self.layer(layer, value))
    }

    fn layer(&mut self, layer: &Layer, input: Value) -> Result<Value, Error> {
        Ok(match (layer, input) {
            (Layer::Linear { weight, bias }, Value::Rows(rows)) => {
                Value::Rows(self.linear(*weight, *bias, rows))
            }
            (Layer::Linear { weight, bias }, Value::Sequence(sequence)) => {
                let [samples, steps, width] = sequence.dims();
                let rows = self.linear(*weight, *bias, sequence.reshape([samples * steps, width]));
                let [_, width] = rows.dims();
                Value::Sequence(rows.reshape([samples, steps, width]))
            }
            (Layer::Conv { weight, bias, stride, padding }, Value::Pixels(pixels)) => {
                let [outputs, inputs, rows, columns] = self.dims(*weight);
                let weight = self.leaf(*weight).reshape([outputs, inputs, rows, columns]);
                let options = ConvOptions::new([*stride; 2], [*padding; 2], [1, 1], 1);
                Value::Pixels(conv2d(pixels, weight, bias.map(|bias| self.leaf(bias)), options))
            }
            (Layer::BatchNorm { weight, bias, statistics }, Value::Pixels(pixels)) => {
                Value::Pixels(self.batch_norm(*weight, *bias, statistics.clone(), pixels)?)
            }
            (Layer::LayerNorm { weight, bias }, Value::Sequence(sequence)) => {
                let (weight, bias) = (self.leaf(*weight), self.leaf(*bias));
                Value::Sequence(layer_norm(sequence, weight, Some(bias), EPSILON))
            }
            (Layer::Relu, Value::Rows(rows)) => Value::Rows(relu(rows)),
            (Layer::Relu, Value::Pixels(pixels)) => Value::Pixels(relu(pixels)),
            (Layer::Gelu, Value::Sequence(sequence)) => Value::Sequence(gelu(sequence)),
            (Layer::MaxPool { size, stride, padding }, Value::Pixels(pixels)) => {
                let options =
                    MaxPoolOptions::new([*size; 2]).with_stride([*stride; 2]).with_padding([*padding; 2]);
                Value::Pixels(max_pool2d(pixels, options))
            }
            (Layer::MeanPixel, Value::Pixels(pixels)) => {
                let [samples, channels, rows, columns] = pixels.dims();
                let planes = pixels.reshape([samples, channels, rows * columns]);
                Value::Rows(planes.mean_dim(2).reshape([samples, channels]))
            }
            (Layer::Flatten, Value::Pixels(pixels)) => {
                let [samples, channels, rows, columns] = pixels.dims();
                Value::Rows(pixels.reshape([samples, channels * rows * columns]))
            }
            (Layer::Dropout { probability, number }, value) => {
                if !matches!(self.mode, Mode::Training) {
                    return Ok(value);
                }
                let mask = |count| dropped(self.seed, *number, *probability, count);
                match value {
                    Value::Rows(rows) => Value::Rows(masked(rows, mask)),
                    Value::Sequence(sequence) => Value::Sequence(masked(sequence, mask)),
                    other => return Err(misfit(layer, &other)),
                }
            }
            (Layer::Embedding { weight }, Value::Tokens(tokens)) => {
                let [vocabulary, width] = self.dims(*weight);
                Value::Sequence(embedding(self.leaf(*weight).reshape([vocabulary, width]), tokens))
            }
            (Layer::Positions { weight }, Value::Sequence(sequence)) => {
                let [steps, width] = self.dims(*weight);
                Value::Sequence(sequence + self.leaf(*weight).reshape([1, steps, width]))
            }
            (Layer::Attention { heads }, Value::Sequence(sequence)) => {
                Value::Sequence(attention(sequence, *heads))
            }
            (Layer::FoPool, Value::Sequence(sequence)) => Value::Sequence(fo_pool(sequence)),
            (Layer::Sum { body, shortcut }, input) => {
                let body = self.layers(body, input.clone())?;
                match (body, self.layers(shortcut, input)?) {
                    (Value::Pixels(a), Value::Pixels(b)) => Value::Pixels(a + b),
                    (Value::Sequence(a), Value::Sequence(b)) => Value::Sequence(a + b),
                    (_, other) => return Err(misfit(layer, &other)),
                }
            }
            (layer, other) => return Err(misfit(layer, &other)),
        })
    }

    fn leaf(&self, parameter: Param) -> Tensor<1> {
        self.leaves[parameter].clone()
    }

    fn dims<const D: usize>(&self, parameter: Param) -> [usize; D] {
        let shape = &self.network.parameters[parameter].shape;
        std::array::from_fn(|dimension| shape[dimension])
    }

    /// Output [samples, out] of a linear layer: input [samples, in] · weightᵀ + bias, weight [out, in].
    ///
    /// Computed as weight · inputᵀ, because the gradient of the weight then comes out as [out, in] in row-major
    /// order and needs no transposing copy: a step of the `mlp` at a batch of 32 takes 0.5 ms instead of 0.7 ms.
    fn linear(&self, weight: Param, bias: Option<Param>, input: Tensor<2>) -> Tensor<2> {
        let [outputs, inputs] = self.dims(weight);
        let weight = self.leaf(weight).reshape([outputs, inputs]);
        let output = weight.matmul(input.transpose()).transpose();
        match bias {
            Some(bias) => output + self.leaf(bias).unsqueeze_dim(0),
            None => output,
        }
    }

    fn batch_norm(
        &mut self,
        weight: Param,
        bias: Param,
        statistics: Range<usize>,
        pixels: Tensor<4>,
    ) -> Result<Tensor<4>, Error> {
        let (weight, bias) = (self.leaf(weight), self.leaf(bias));
        let channels = statistics.len() / 2;
        if let Mode::Evaluating(known) = &self.mode {
            let (means, variances) = known[statistics].split_at(channels);
            let [means, variances] = [means, variances].map(|values| flat(values, &pixels.device()));
            return Ok(batch_norm(pixels, weight, bias, means, variances, EPSILON));
        }
        let [samples, _, rows, columns] = pixels.dims();
        let result = batch_norm_train(pixels, weight, bias, EPSILON);
        if let Mode::Collecting(found) = &mut self.mode {
            let (means, variances) = found[statistics].split_at_mut(channels);
            means.copy_from_slice(slice(&data_of(result.mean)?)?);
            let count = (samples * rows * columns) as f32;
            let unbiased = count / (count - 1.0).max(1.0);
            let biased = data_of(result.variance)?;
            variances.iter_mut().zip(slice(&biased)?).for_each(|(to, from)| *to = from * unbiased);
        }
        Ok(result.output)
    }
}

fn masked<const D: usize>(values: Tensor<D>, mask: impl FnOnce(usize) -> Vec<f32>) -> Tensor<D> {
    let dims = values.dims();
    let mask = mask(dims.iter().product());
    let mask = Tensor::<D>::from_data(TensorData::new(mask, dims), &values.device());
    values * mask
}

/// As documented at [`Layer::Attention`].
fn attention(sequence: Tensor<3>, heads: usize) -> Tensor<3> {
    let [samples, steps, width] = sequence.dims();
    let width = width / 3;
    let part = |number: usize| {
        let part = sequence.clone().narrow(2, number * width, width);
        part.reshape([samples, steps, heads, width / heads]).swap_dims(1, 2)
    };
    let (queries, keys, values) = (part(0), part(1), part(2));
    let scores = queries.matmul(keys.swap_dims(2, 3)) / ((width / heads) as f64).sqrt();
    let later = (0..steps * steps).map(|at| if at % steps > at / steps { f32::NEG_INFINITY } else { 0.0 });
    let mask = TensorData::new(later.collect::<Vec<f32>>(), [1, 1, steps, steps]);
    let scores = scores + Tensor::from_data(mask, &sequence.device());
    softmax(scores, 3).matmul(values).swap_dims(1, 2).reshape([samples, steps, width])
}

/// As documented at [`Layer::FoPool`].
fn fo_pool(sequence: Tensor<3>) -> Tensor<3> {
    let [samples, steps, width] = sequence.dims();
    let width = width / 3;
    let part = |number: usize| sequence.clone().narrow(2, number * width, width);
    let (forget, output) = (sigmoid(part(1)), sigmoid(part(2)));
    let new = tanh(part(0)) * (-forget.clone() + 1.0);
    let mut states: Vec<Tensor<3>> = Vec::with_capacity(steps);
    for step in 0..steps {
        let new = new.clone().narrow(1, step, 1);
        let state = match states.last() {
            None => new,
            Some(last) => last.clone() * forget.clone().narrow(1, step, 1) + new,
        };
        states.push(state);
    }
    Tensor::cat(states, 1).reshape([samples, steps, width]) * output
}

impl Value {
    /// As the input of a pass of its own.
    fn detached(self) -> Self {
        match self {
            Self::Rows(it) => Self::Rows(it.detach().require_grad()),
            Self::Sequence(it) => Self::Sequence(it.detach().require_grad()),
            Self::Pixels(it) => Self::Pixels(it.detach().require_grad()),
            Self::Tokens(it) => Self::Tokens(it),
        }
    }

    /// One row for each prediction.
    fn logits(self) -> Result<Tensor<2>, Error> {
        match self {
            Self::Rows(rows) => Ok(rows),
            Self::Sequence(sequence) => {
                let [samples, steps, width] = sequence.dims();
                Ok(sequence.reshape([samples * steps, width]))
            }
            Self::Pixels(_) | Self::Tokens(_) => Err(engine_error("the model does not end in logits")),
        }
    }

    /// The gradients of all that this was made of, where `gradients` has that of what was made of `input`, its copy.
    fn pull_back(self, input: Self, gradients: &mut Gradients) -> Result<Gradients, Error> {
        fn through<const D: usize>(
            result: Tensor<D>,
            input: &Tensor<D>,
            gradients: &mut Gradients,
        ) -> Result<Gradients, Error> {
            let seed = input.grad_remove(gradients).ok_or_else(|| no_gradient("a cut"))?;
            let seed = data_of(seed)?;
            Ok(pull_back(result, slice(&seed)?))
        }
        match (self, input) {
            (Self::Rows(result), Self::Rows(input)) => through(result, &input, gradients),
            (Self::Sequence(result), Self::Sequence(input)) => through(result, &input, gradients),
            (Self::Pixels(result), Self::Pixels(input)) => through(result, &input, gradients),
            _ => Err(engine_error("a cut between different things")),
        }
    }
}

/// The gradients of all that `output` was made of, where that of the loss with respect to `output` is known.
///
/// Σ output·c for a constant c has c as its gradient with respect to `output`: so the backward pass starts from our own
/// gradient, that of the loss or of the part that follows.
fn pull_back<const D: usize>(output: Tensor<D>, gradient: &[f32]) -> Gradients {
    let seed = flat(gradient, &output.device()).reshape(output.dims());
    (output * seed).sum().backward()
}

fn add(sum: &mut Vec<f32>, values: &[f32]) {
    if sum.is_empty() {
        sum.extend_from_slice(values);
    } else {
        sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
    }
}

fn flat(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

fn data_of<const D: usize>(tensor: Tensor<D>) -> Result<TensorData, Error> {
    tensor.try_into_data().map_err(engine_error)
}

fn slice(data: &TensorData) -> Result<&[f32], Error> {
    data.as_slice().map_err(engine_error)
}

fn misfit(layer: &Layer, value: &Value) -> Error {
    let kind = match value {
        Value::Rows(_) => "rows",
        Value::Sequence(_) => "a sequence",
        Value::Pixels(_) => "pixels",
        Value::Tokens(_) => "tokens",
    };
    engine_error(format!("{layer:?} cannot take {kind}"))
}

fn no_gradient(of: &str) -> Error {
    Error::Engine { reason: format!("no gradient reached {of}") }
}

fn engine_error(error: impl std::fmt::Debug) -> Error {
    Error::Engine { reason: format!("{error:?}") }
}
