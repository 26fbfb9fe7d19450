//! The engine on libtorch, by tch: fast convolutions on the CPU, and CUDA. The only file that names tch, but for
//! the number of its threads.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use super::{Batch, Engine, Inputs, Loss, check, check_gradient, cross_entropy, dropped};
use crate::model::{Layer, Network, Param};
use crate::{Error, Model, Shape};

/// ε of both normalisations, as in PyTorch.
const EPSILON: f64 = 1e-5;

/// An [`Engine`] that computes with libtorch, on a GPU where there is one that CUDA finds.
///
/// As [`BurnEngine`](crate::BurnEngine) it takes a model's stages apart, the last one first. Equal arguments give equal bits on the CPU
/// for one number of threads; on a GPU only where cuDNN's choice of algorithms does.
#[derive(Debug)]
pub struct TchEngine {
    network: Arc<Network>,
    shape: Shape,
    dimension: usize,
    /// Where each parameter begins.
    starts: Vec<usize>,
    device: Device,
    smoothing: f32,
    logit_gradient: Vec<f32>,
    /// A gradient on its way out of the framework: tch lends no memory to safe code.
    out: Vec<f32>,
    recorded: Option<Recorded>,
}

/// A forward pass of which the backward pass is still to come.
#[derive(Debug)]
struct Recorded {
    leaves: Vec<Tensor>,
    /// What each stage but the last gives, as its result and as the input of the next.
    cuts: Vec<(Tensor, Tensor)>,
    logits: Tensor,
}

impl TchEngine {
    /// An engine for `model`, on the first GPU that there is, else on the CPU.
    pub fn new(model: &Model) -> Self {
        let network = Arc::clone(&model.network);
        Self {
            starts: network.starts(),
            dimension: network.dimension(),
            network,
            shape: model.shape(),
            device: Device::cuda_if_available(),
            smoothing: 0.0,
            logit_gradient: Vec::new(),
            out: Vec::new(),
            recorded: None,
        }
    }

    /// Gradients are those of the loss with labels smoothed by this share.
    #[must_use]
    pub fn label_smoothing(mut self, share: f32) -> Self {
        self.smoothing = share;
        self
    }

    fn leaves(&self, x: &[f32]) -> Result<Vec<Tensor>, Error> {
        let leaf = |(&start, it): (&usize, &crate::model::Parameter)| {
            let shape: Vec<i64> = it.shape.iter().map(|&size| size as i64).collect();
            let flat = Tensor::f_from_slice(&x[start..start + it.count()])?;
            flat.f_view(&shape[..])?.f_to_device(self.device)
        };
        self.starts.iter().zip(&self.network.parameters).map(leaf).collect::<Result<_, _>>().map_err(failed)
    }

    fn inputs(&self, batch: Batch<'_>) -> Result<Tensor, Error> {
        let samples = (batch.labels.len() / self.shape.predictions()) as i64;
        let made = match (batch.inputs, self.shape) {
            (Inputs::Pixels(pixels), Shape::Images { channels, rows, columns, .. }) => {
                let shape = [samples, channels as i64, rows as i64, columns as i64];
                Tensor::f_from_slice(pixels).and_then(|flat| flat.f_view(&shape[..]))
            }
            (Inputs::Tokens(tokens), _) => {
                let tokens: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
                Tensor::f_from_slice(&tokens).and_then(|flat| flat.f_view([samples, -1]))
            }
            (Inputs::Pixels(_), _) => unreachable!("checked before"),
        };
        made.and_then(|tensor| tensor.f_to_device(self.device)).map_err(failed)
    }

    /// Logits [predictions, classes] in one pass, without gradients.
    fn pass(&self, x: &[f32], batch: Batch<'_>, mode: Mode<'_>) -> Result<Vec<f32>, Error> {
        check(self.dimension, self.shape, x, batch)?;
        let (leaves, mut value) = (self.leaves(x)?, self.inputs(batch)?);
        let mut pass = Pass { leaves: &leaves, mode, seed: batch.seed };
        tch::no_grad(|| {
            for stage in &self.network.stages {
                value = pass.layers(stage, &value).map_err(failed)?;
            }
            let mut logits = Vec::new();
            values(&value, &mut logits)?;
            Ok(logits)
        })
    }
}

impl Engine for TchEngine {
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
        let leaves: Vec<Tensor> =
            self.leaves(x)?.into_iter().map(|leaf| leaf.set_requires_grad(true)).collect();
        let mut value = self.inputs(batch)?;
        let mut pass = Pass { leaves: &leaves, mode: Mode::Training, seed: batch.seed };
        let (mut cuts, stages) = (Vec::new(), &self.network.stages);
        for (index, stage) in stages.iter().enumerate() {
            value = pass.layers(stage, &value).map_err(failed)?;
            if index + 1 < stages.len() {
                let input = value.detach().set_requires_grad(true);
                cuts.push((value, input.shallow_clone()));
                value = input;
            }
        }
        values(&value, &mut self.out)?;
        let (classes, smoothing) = (self.shape.classes(), self.smoothing);
        let loss = cross_entropy(&self.out, batch.labels, classes, smoothing, Some(&mut self.logit_gradient));
        self.recorded = Some(Recorded { leaves, cuts, logits: value });
        Ok(loss)
    }

    fn backward(&mut self, _: &mut [f32], piece: &mut dyn FnMut(Range<usize>, &[f32])) -> Result<(), Error> {
        let Some(Recorded { leaves, mut cuts, logits }) = self.recorded.take() else {
            return Err(Error::Engine { reason: "a backward pass without a forward pass".into() });
        };
        let network = &self.network;
        let seed = Tensor::f_from_slice(&self.logit_gradient).and_then(|seed| seed.f_view_as(&logits));
        let mut seed = seed.and_then(|seed| seed.f_to_device(self.device)).map_err(failed)?;
        let mut result = logits;
        // Of parameters that an earlier stage uses as well.
        let mut parts: HashMap<Param, Tensor> = HashMap::new();
        for stage in (0..network.stages.len()).rev() {
            let used = network.used_in(stage);
            let cut = cuts.pop();
            let mut wanted: Vec<&Tensor> = used.iter().map(|&parameter| &leaves[parameter]).collect();
            wanted.extend(cut.iter().map(|(_, input)| input));
            // Σ result·c for a constant c has c as its gradient with respect to the result.
            let root = (&result * &seed).sum(Kind::Float);
            let mut gradients = Tensor::f_run_backward(&[root], &wanted[..], false, false).map_err(failed)?;
            if let (Some((before, _)), Some(gradient)) = (cut, gradients.get(used.len())) {
                (result, seed) = (before, gradient.shallow_clone());
            }
            gradients.truncate(used.len());
            for (parameter, mut gradient) in used.into_iter().zip(gradients) {
                if let Some(part) = parts.remove(&parameter) {
                    gradient += part;
                }
                if network.used_before(stage, parameter) {
                    parts.insert(parameter, gradient);
                    continue;
                }
                values(&gradient, &mut self.out)?;
                let start = self.starts[parameter];
                piece(start..start + self.out.len(), &self.out);
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
        self.pass(x, batch, Mode::Evaluating(statistics))
    }

    fn loss(&mut self, x: &[f32], statistics: &[f32], batch: Batch<'_>) -> Result<Loss, Error> {
        let logits = self.logits(x, statistics, batch)?;
        Ok(cross_entropy(&logits, batch.labels, self.shape.classes(), 0.0, None))
    }
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
    leaves: &'a [Tensor],
    mode: Mode<'a>,
    seed: u64,
}

impl Pass<'_> {
    fn layers(&mut self, layers: &[Layer], input: &Tensor) -> Result<Tensor, tch::TchError> {
        layers.iter().try_fold(input.shallow_clone(), |value, layer| self.layer(layer, value))
    }

    fn layer(&mut self, layer: &Layer, x: Tensor) -> Result<Tensor, tch::TchError> {
        let leaf = |parameter: &Param| &self.leaves[*parameter];
        let both = |size: &usize| [*size as i64; 2];
        match layer {
            Layer::Linear { weight, bias } => x.f_linear(leaf(weight), bias.as_ref().map(leaf)),
            Layer::Conv { weight, bias, stride, padding } => {
                let bias = bias.as_ref().map(leaf);
                x.f_conv2d(leaf(weight), bias, both(stride), both(padding), [1, 1], 1)
            }
            Layer::BatchNorm { weight, bias, statistics } => {
                let (weight, bias) = (Some(leaf(weight)), Some(leaf(bias)));
                let channels = statistics.len() / 2;
                match &mut self.mode {
                    Mode::Training => {
                        let none = None::<&Tensor>;
                        x.f_batch_norm(weight, bias, none, none, true, 0.0, EPSILON, true)
                    }
                    Mode::Evaluating(known) => {
                        let (means, variances) = known[statistics.clone()].split_at(channels);
                        let means = Tensor::f_from_slice(means)?.f_to_device(x.device())?;
                        let variances = Tensor::f_from_slice(variances)?.f_to_device(x.device())?;
                        let (means, variances) = (Some(&means), Some(&variances));
                        x.f_batch_norm(weight, bias, means, variances, false, 0.0, EPSILON, true)
                    }
                    Mode::Collecting(found) => {
                        // Running statistics of which nothing is kept are the batch's, the variance without bias.
                        let options = (Kind::Float, x.device());
                        let means = Tensor::f_zeros([channels as i64], options)?;
                        let variances = Tensor::f_zeros([channels as i64], options)?;
                        let (to_means, to_variances) = (Some(&means), Some(&variances));
                        let out =
                            x.f_batch_norm(weight, bias, to_means, to_variances, true, 1.0, EPSILON, true)?;
                        let found = &mut found[statistics.clone()];
                        means.f_copy_data(&mut found[..channels], channels)?;
                        variances.f_copy_data(&mut found[channels..], channels)?;
                        Ok(out)
                    }
                }
            }
            Layer::LayerNorm { weight, bias } => {
                let weight = leaf(weight);
                x.f_layer_norm(weight.size(), Some(weight), Some(leaf(bias)), EPSILON, true)
            }
            Layer::Relu => x.f_relu(),
            Layer::Gelu => x.f_gelu("none"),
            Layer::MaxPool { size, stride, padding } => {
                x.f_max_pool2d(both(size), both(stride), both(padding), [1, 1], false)
            }
            Layer::MeanPixel => x.f_mean_dim(&[2_i64, 3][..], false, Kind::Float),
            Layer::Flatten => x.f_flatten(1, -1),
            Layer::Dropout { probability, number } => {
                if !matches!(self.mode, Mode::Training) {
                    return Ok(x);
                }
                let mask = dropped(self.seed, *number, *probability, x.numel());
                let mask = Tensor::f_from_slice(&mask)?.f_view_as(&x)?.f_to_device(x.device())?;
                x.f_mul(&mask)
            }
            Layer::Embedding { weight } => Tensor::f_embedding(leaf(weight), &x, -1, false, false),
            Layer::Positions { weight } => x.f_add(leaf(weight)),
            Layer::Attention { heads } => attention(&x, *heads as i64),
            Layer::FoPool => fo_pool(&x),
            Layer::Sum { body, shortcut } => {
                let body = self.layers(body, &x)?;
                body.f_add(&self.layers(shortcut, &x)?)
            }
        }
    }
}

/// As documented at [`Layer::Attention`].
fn attention(sequence: &Tensor, heads: i64) -> Result<Tensor, tch::TchError> {
    let (samples, steps, three) = sequence.size3()?;
    let width = three / 3;
    let part = |number: i64| {
        let part = sequence.f_narrow(2, number * width, width)?;
        part.f_reshape([samples, steps, heads, width / heads])?.f_transpose(1, 2)
    };
    let (queries, keys, values) = (part(0)?, part(1)?, part(2)?);
    let none = None::<&Tensor>;
    let out = Tensor::f_scaled_dot_product_attention(
        &queries,
        &keys,
        &values,
        none,
        0.0,
        true,
        None::<f64>,
        false,
    )?;
    out.f_transpose(1, 2)?.f_reshape([samples, steps, width])
}

/// As documented at [`Layer::FoPool`].
fn fo_pool(sequence: &Tensor) -> Result<Tensor, tch::TchError> {
    let parts = sequence.f_chunk(3, 2)?;
    let [new, forget, output] = &parts[..] else {
        return Err(tch::TchError::Shape("a sequence of three parts is needed".into()));
    };
    let (forget, output) = (forget.f_sigmoid()?, output.f_sigmoid()?);
    let kept: Tensor = 1.0 - &forget;
    let new: Tensor = new.f_tanh()? * kept;
    let mut states: Vec<Tensor> = Vec::new();
    for step in 0..sequence.size()[1] {
        let new = new.f_select(1, step)?;
        let state: Tensor = match states.last() {
            None => new,
            Some(last) => last.f_mul(&forget.f_select(1, step)?)?.f_add(&new)?,
        };
        states.push(state);
    }
    Tensor::f_stack(&states, 1)?.f_mul(&output)
}

/// A tensor's values, in row-major order, in place of what `out` held.
fn values(tensor: &Tensor, out: &mut Vec<f32>) -> Result<(), Error> {
    let count = tensor.numel();
    out.resize(count, 0.0);
    tensor.f_copy_data(out, count).map_err(failed)
}

#[expect(clippy::needless_pass_by_value, reason = "map_err gives it")]
fn failed(error: tch::TchError) -> Error {
    Error::Engine { reason: error.to_string() }
}
