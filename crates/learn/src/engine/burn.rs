//! The engine on burn's flex backend: pure Rust, on the CPU. The only file that names burn.

use std::ops::Range;

use burn::tensor::activation::relu;
use burn::tensor::module::{conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Gradients, Tensor, TensorData};

use super::{Batch, Engine, Loss, check, check_gradient, cross_entropy};
use crate::model::INPUTS;
use crate::{Error, ModelKind};

/// An [`Engine`] that computes with burn on the CPU.
///
/// The same bits come out whatever the number of threads (see [`set_threads`](crate::set_threads)).
///
/// Burn tells nobody of a gradient before its backward pass is over. Where that pays, the model is therefore cut, and each
/// part has a backward pass of its own, the last one first: the `cnn` between convolutions and linear layers, because the
/// latter have 96% of the coordinates and the former most of the work. The `mlp` is one part: its second layer, which
/// is ready first, is 1% of it.
#[derive(Debug)]
pub struct BurnEngine {
    kind: ModelKind,
    dimension: usize,
    // Gradient of the loss with respect to the logits, kept for its allocation.
    logit_gradient: Vec<f32>,
    // Between the two halves of a step.
    recorded: Option<Recorded>,
}

/// A forward pass of which the backward pass is still to come.
#[derive(Debug)]
struct Recorded {
    leaves: Vec<Tensor<1>>,
    /// What the first part gives, as its result and as the input of the second part; `None` where the model is one part.
    cut: Option<(Tensor<2>, Tensor<2>)>,
    logits: Tensor<2>,
}

impl BurnEngine {
    /// An engine for `kind`.
    pub fn new(kind: ModelKind) -> Self {
        keep_freed_memory();
        Self { kind, dimension: kind.dimension(), logit_gradient: Vec::new(), recorded: None }
    }

    /// The parameters as one flat tensor each, in the order of the model's table.
    fn leaves(&self, x: &[f32], device: &Device) -> Vec<Tensor<1>> {
        let mut rest = x;
        self.kind
            .table()
            .iter()
            .map(|(_, shape)| {
                let (values, tail) = rest.split_at(shape.iter().product());
                rest = tail;
                flat(values, device)
            })
            .collect()
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
        check_gradient(self.dimension, x, batch, gradient)?;
        let device = Device::flex().autodiff();
        let leaves: Vec<Tensor<1>> = self.leaves(x, &device).into_iter().map(Tensor::require_grad).collect();
        let result = first_part(self.kind, &leaves, batch, &device);
        let cut = result.map(|result| (result.clone(), result.detach().require_grad()));
        let logits = last_part(self.kind, &leaves, cut.as_ref().map(|(_, input)| input), batch, &device);

        let values = data_of(logits.clone().inner())?;
        let loss = cross_entropy(slice(&values)?, batch.labels, Some(&mut self.logit_gradient));
        self.recorded = Some(Recorded { leaves, cut, logits });
        Ok(loss)
    }

    fn backward(&mut self, _: &mut [f32], piece: &mut dyn FnMut(Range<usize>, &[f32])) -> Result<(), Error> {
        let Some(Recorded { leaves, cut, logits }) = self.recorded.take() else {
            return Err(engine_error("a backward pass without a forward pass"));
        };
        let mut hand_in = |layers: Range<usize>, gradients: &mut Gradients| -> Result<(), Error> {
            let table = self.kind.table();
            let size = |(_, shape): &(_, Vec<usize>)| shape.iter().product::<usize>();
            let mut start = table[..2 * layers.start].iter().map(size).sum();
            for parameter in 2 * layers.start..2 * layers.end {
                let gradient = leaves[parameter].grad_remove(gradients);
                let gradient = gradient.ok_or_else(|| no_gradient(&table[parameter].0))?;
                let values = data_of(gradient)?;
                let values = slice(&values)?;
                piece(start..start + values.len(), values);
                start += values.len();
            }
            Ok(())
        };
        let mut gradients = pull_back(logits, &self.logit_gradient);
        match cut {
            None => hand_in(0..leaves.len() / 2, &mut gradients),
            Some((result, input)) => {
                hand_in(CUT_CNN..leaves.len() / 2, &mut gradients)?;
                let seed = input.grad_remove(&mut gradients).ok_or_else(|| no_gradient("the cut"))?;
                let seed = data_of(seed)?;
                hand_in(0..CUT_CNN, &mut pull_back(result, slice(&seed)?))
            }
        }
    }

    fn loss(&mut self, x: &[f32], batch: Batch<'_>) -> Result<Loss, Error> {
        check(self.dimension, x, batch)?;
        let device = Device::flex();
        let leaves = self.leaves(x, &device);
        let cut = first_part(self.kind, &leaves, batch, &device);
        let logits = data_of(last_part(self.kind, &leaves, cut.as_ref(), batch, &device))?;
        Ok(cross_entropy(slice(&logits)?, batch.labels, None))
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

/// Layers of the `cnn` before its cut.
const CUT_CNN: usize = 2;

/// What the layers before the cut make of `batch`, whose images are [samples, 1, 28, 28]; `None` where there is no cut.
fn first_part(kind: ModelKind, leaves: &[Tensor<1>], batch: Batch<'_>, device: &Device) -> Option<Tensor<2>> {
    if kind != ModelKind::Cnn {
        return None;
    }
    let (samples, table) = (batch.labels.len(), kind.table());
    let block = |layer: usize, input: Tensor<4>| {
        let (_, shape) = &table[2 * layer];
        let weight = leaves[2 * layer].clone().reshape([shape[0], shape[1], shape[2], shape[3]]);
        let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
        let output = conv2d(input, weight, Some(leaves[2 * layer + 1].clone()), options);
        max_pool2d(relu(output), MaxPoolOptions::new([2, 2]))
    };
    let images = flat(batch.images, device).reshape([samples, 1, 28, 28]);
    Some(block(1, block(0, images)).reshape([samples, 64 * 7 * 7]))
}

/// The logits [samples, classes] of what the first part gave, or of the images where there is none.
fn last_part(
    kind: ModelKind,
    leaves: &[Tensor<1>],
    cut: Option<&Tensor<2>>,
    batch: Batch<'_>,
    device: &Device,
) -> Tensor<2> {
    let table = kind.table();
    let full = |layer: usize, input: Tensor<2>| {
        let (_, shape) = &table[2 * layer];
        let weight = leaves[2 * layer].clone().reshape([shape[0], shape[1]]);
        linear(input, weight, leaves[2 * layer + 1].clone())
    };
    let layers = table.len() / 2;
    let (first, input) = match cut {
        Some(features) => (CUT_CNN, features.clone()),
        None => (0, flat(batch.images, device).reshape([batch.labels.len(), INPUTS])),
    };
    (first + 1..layers).fold(full(first, input), |input, layer| full(layer, relu(input)))
}

/// The gradients of all that `output` was made of, where that of the loss with respect to `output` is known.
///
/// Σ output·c for a constant c has c as its gradient with respect to `output`: so the backward pass starts from our own
/// gradient, that of the loss or of the part that follows.
fn pull_back(output: Tensor<2>, gradient: &[f32]) -> Gradients {
    let seed = flat(gradient, &output.device()).reshape(output.dims());
    (output * seed).sum().backward()
}

/// Output [samples, out] of a linear layer: input [samples, in] · weightᵀ + bias, weight [out, in].
///
/// Computed as weight · inputᵀ, because the gradient of the weight then comes out as [out, in] in row-major
/// order and needs no transposing copy: a step of the `mlp` at a batch of 32 takes 0.5 ms instead of 0.7 ms.
fn linear(input: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    weight.matmul(input.transpose()).transpose() + bias.unsqueeze_dim(0)
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

fn no_gradient(of: &str) -> Error {
    Error::Engine { reason: format!("no gradient reached {of}") }
}

fn engine_error(error: impl std::fmt::Debug) -> Error {
    Error::Engine { reason: format!("{error:?}") }
}
