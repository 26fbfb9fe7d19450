//! The engine on burn's flex backend: pure Rust, on the CPU. The only file that names burn.

use burn::tensor::activation::relu;
use burn::tensor::module::{conv2d, max_pool2d};
use burn::tensor::ops::{ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor, TensorData};

use super::{Batch, Engine, Loss, check, cross_entropy};
use crate::model::{CLASSES, INPUTS};
use crate::{Error, ModelKind};

/// An [`Engine`] that computes with burn on the CPU.
///
/// The same bits come out whatever the number of threads (see [`set_threads`](crate::set_threads)).
#[derive(Debug)]
pub struct BurnEngine {
    kind: ModelKind,
    dimension: usize,
    // Gradient of the loss with respect to the logits, kept for its allocation.
    logit_gradient: Vec<f32>,
}

impl BurnEngine {
    /// An engine for `kind`.
    pub fn new(kind: ModelKind) -> Self {
        keep_freed_memory();
        Self { kind, dimension: kind.dimension(), logit_gradient: Vec::new() }
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
        check(self.dimension, x, batch)?;
        if gradient.len() != self.dimension {
            return Err(Error::misuse("coordinates of the gradient", self.dimension, gradient.len()));
        }
        let device = Device::flex().autodiff();
        let leaves: Vec<Tensor<1>> = self.leaves(x, &device).into_iter().map(Tensor::require_grad).collect();
        let logits = forward(self.kind, &leaves, batch, &device);

        let values = data_of(logits.clone().inner())?;
        let loss = cross_entropy(slice(&values)?, batch.labels, Some(&mut self.logit_gradient));

        // Σ logits·c for a constant c has c as its gradient with respect to the logits: so the backward pass
        // starts from our own gradient of the loss.
        let seed = flat(&self.logit_gradient, &device).reshape([batch.labels.len(), CLASSES]);
        let mut gradients = (logits * seed).sum().backward();

        let mut rest = gradient;
        for (leaf, (name, _)) in leaves.iter().zip(self.kind.table()) {
            let leaf_gradient = leaf
                .grad_remove(&mut gradients)
                .ok_or_else(|| Error::Engine { reason: format!("no gradient reached {name}") })?;
            let values = data_of(leaf_gradient)?;
            let values = slice(&values)?;
            let (here, tail) = rest.split_at_mut(values.len());
            here.copy_from_slice(values);
            rest = tail;
        }
        Ok(loss)
    }

    fn loss(&mut self, x: &[f32], batch: Batch<'_>) -> Result<Loss, Error> {
        check(self.dimension, x, batch)?;
        let device = Device::flex();
        let leaves = self.leaves(x, &device);
        let logits = data_of(forward(self.kind, &leaves, batch, &device))?;
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

/// The logits [samples, classes] of `batch`, whose images are [samples, 1, 28, 28].
fn forward(kind: ModelKind, leaves: &[Tensor<1>], batch: Batch<'_>, device: &Device) -> Tensor<2> {
    let samples = batch.labels.len();
    let images = flat(batch.images, device);
    let table = kind.table();
    let full = |layer: usize, input: Tensor<2>| {
        let (_, shape) = &table[2 * layer];
        let weight = leaves[2 * layer].clone().reshape([shape[0], shape[1]]);
        linear(input, weight, leaves[2 * layer + 1].clone())
    };
    match kind {
        ModelKind::Mlp | ModelKind::Deep(_) => {
            let layers = table.len() / 2;
            let input = full(0, images.reshape([samples, INPUTS]));
            (1..layers).fold(input, |input, layer| full(layer, relu(input)))
        }
        ModelKind::Cnn => {
            let block = |layer: usize, input: Tensor<4>| {
                let (_, shape) = &table[2 * layer];
                let weight = leaves[2 * layer].clone().reshape([shape[0], shape[1], shape[2], shape[3]]);
                let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
                let output = conv2d(input, weight, Some(leaves[2 * layer + 1].clone()), options);
                max_pool2d(relu(output), MaxPoolOptions::new([2, 2]))
            };
            let features = block(1, block(0, images.reshape([samples, 1, 28, 28])));
            full(3, relu(full(2, features.reshape([samples, 64 * 7 * 7]))))
        }
    }
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

fn engine_error(error: impl std::fmt::Debug) -> Error {
    Error::Engine { reason: format!("{error:?}") }
}
