//! A network as data: its parameters, and its layers in order. Engines interpret it.

use std::mem;
use std::ops::Range;

use super::Shape;
use crate::Error;

/// A parameter: its place in [`Network::parameters`].
pub(crate) type Param = usize;

/// One parameter: a tensor of the flat vector.
#[derive(Clone, Debug)]
pub(crate) struct Parameter {
    /// As in PyTorch's `state_dict`.
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) start: Start,
}

impl Parameter {
    pub(crate) fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Where the coordinates of a parameter start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Start {
    /// Each drawn from U[−b, b).
    Uniform(f32),
    /// Each drawn from a normal distribution of this standard deviation around 0.
    Normal(f32),
    /// All this value.
    Constant(f32),
}

impl Start {
    /// PyTorch's default for `Linear` and `Conv2d`: U[−1/√fan_in, 1/√fan_in) (`reset_parameters`: `kaiming_uniform_` with
    /// a = √5, whose bound is √(6 / ((1 + a²)·fan_in))).
    fn of_inputs(fan_in: usize) -> Self {
        Self::Uniform(1.0 / (fan_in as f32).sqrt())
    }

    /// For a convolution before a ReLU: standard deviation √(2 / fan_out) (He et al. 2015, equation 14).
    fn of_outputs(fan_out: usize) -> Self {
        Self::Normal((2.0 / fan_out as f32).sqrt())
    }
}

/// The running statistics of a batch normalisation: mean and variance of each channel.
#[derive(Clone, Debug)]
pub(crate) struct Statistic {
    /// Name of the layer, which PyTorch's names begin with.
    pub(crate) name: String,
    pub(crate) channels: usize,
}

/// What becomes of a layer's input. Shapes: pixels [samples, channels, rows, columns], rows [samples, width], sequences
/// [samples, steps, width], tokens [samples, steps].
#[derive(Clone, Debug)]
#[expect(clippy::enum_variant_names, reason = "layer normalisation is called so")]
pub(crate) enum Layer {
    /// x·weightᵀ + bias over the last dimension; weight [out, in].
    Linear {
        weight: Param,
        bias: Option<Param>,
    },
    /// Square convolution of pixels; weight [out, in, size, size].
    Conv {
        weight: Param,
        bias: Option<Param>,
        stride: usize,
        padding: usize,
    },
    /// Ioffe and Szegedy 2015 over all but the channels, ε = 1e-5. In training by the batch's own mean and variance, else by
    /// those at `statistics`: this many channels' means, then as many variances.
    BatchNorm {
        weight: Param,
        bias: Param,
        statistics: Range<usize>,
    },
    /// Over the last dimension, ε = 1e-5.
    LayerNorm {
        weight: Param,
        bias: Param,
    },
    Relu,
    /// x·Φ(x), Φ the normal distribution's.
    Gelu,
    /// The largest of square windows of pixels.
    MaxPool {
        size: usize,
        stride: usize,
        padding: usize,
    },
    /// The mean of each channel: pixels become rows.
    MeanPixel,
    /// Pixels become rows.
    Flatten,
    /// In training each value is dropped with this probability, and the others divided by one less it. `number` tells this
    /// layer's random stream from the others'.
    Dropout {
        probability: f32,
        number: u64,
    },
    /// Tokens become the rows of weight [vocabulary, width].
    Embedding {
        weight: Param,
    },
    /// Adds to step t the t-th row of weight [steps, width].
    Positions {
        weight: Param,
    },
    /// softmax(q·kᵀ/√(width/heads))·v of a sequence [samples, steps, 3·width], q, k and v side by side; no step sees a later
    /// one. Gives width.
    Attention {
        heads: usize,
    },
    /// With (z, f, o) the thirds of a sequence: c_t = σ(f_t)·c_{t−1} + (1 − σ(f_t))·tanh(z_t), which starts at c = 0; gives
    /// σ(o_t)·c_t (Bradbury et al. 2017, fo-pooling).
    FoPool,
    /// body(x) + shortcut(x); an empty list is x.
    Sum {
        body: Vec<Layer>,
        shortcut: Vec<Layer>,
    },
}

impl Layer {
    /// Tells `visit` every parameter that is used, as often as it is.
    fn parameters(&self, visit: &mut dyn FnMut(Param)) {
        match self {
            Self::Linear { weight, bias } | Self::Conv { weight, bias, .. } => {
                visit(*weight);
                bias.iter().for_each(|&bias| visit(bias));
            }
            Self::BatchNorm { weight, bias, .. } | Self::LayerNorm { weight, bias } => {
                visit(*weight);
                visit(*bias);
            }
            Self::Embedding { weight } | Self::Positions { weight } => visit(*weight),
            Self::Sum { body, shortcut } => {
                body.iter().chain(shortcut).for_each(|layer| layer.parameters(visit));
            }
            _ => {}
        }
    }
}

/// The parameters and layers of a model.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    /// In the order of the flat vector.
    pub(crate) parameters: Vec<Parameter>,
    /// In the order of their layers.
    pub(crate) statistics: Vec<Statistic>,
    /// Layers one after the other, in stages, each of which gives one tensor: an engine that takes the stages apart has the
    /// gradients of the last ones while it computes those of the first.
    pub(crate) stages: Vec<Vec<Layer>>,
}

impl Network {
    pub(crate) fn dimension(&self) -> usize {
        self.parameters.iter().map(Parameter::count).sum()
    }

    /// Where each parameter begins in the flat vector.
    pub(crate) fn starts(&self) -> Vec<usize> {
        let next = |next: &mut usize, parameter: &Parameter| {
            let start = *next;
            *next += parameter.count();
            Some(start)
        };
        self.parameters.iter().scan(0, next).collect()
    }

    /// Whether a stage before this one uses a parameter: its gradient is then not whole yet.
    pub(crate) fn used_before(&self, stage: usize, parameter: Param) -> bool {
        (0..stage).any(|earlier| self.used_in(earlier).contains(&parameter))
    }

    /// Numbers in the running statistics: two for each channel of each batch normalisation.
    pub(crate) fn statistics_len(&self) -> usize {
        self.statistics.iter().map(|statistic| 2 * statistic.channels).sum()
    }

    /// The parameters that a stage uses, once each and in their order.
    pub(crate) fn used_in(&self, stage: usize) -> Vec<Param> {
        let mut used = Vec::new();
        self.stages[stage].iter().for_each(|layer| layer.parameters(&mut |at| used.push(at)));
        used.sort_unstable();
        used.dedup();
        used
    }
}

/// What flows between layers, without the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Pixels { channels: usize, rows: usize, columns: usize },
    Row { width: usize },
    Tokens { steps: usize },
    Sequence { steps: usize, width: usize },
}

/// Puts a network together, layer by layer; inputs of a layer are what the one before it gave.
pub(super) struct Builder {
    network: Network,
    /// The layers of the stage, or of the branch, that is being built.
    layers: Vec<Layer>,
    flow: Flow,
    dropouts: u64,
    /// What was wrong first.
    wrong: Option<Error>,
}

impl Builder {
    pub(super) fn new(shape: Shape) -> Self {
        let flow = match shape {
            Shape::Images { channels, rows, columns, .. } => Flow::Pixels { channels, rows, columns },
            Shape::Tokens { length, .. } => Flow::Tokens { steps: length },
        };
        Self { network: Network::default(), layers: Vec::new(), flow, dropouts: 0, wrong: None }
    }

    pub(super) fn finish(mut self) -> Result<Network, Error> {
        self.cut();
        self.wrong.map_or(Ok(self.network), Err)
    }

    /// Ends a stage.
    pub(super) fn cut(&mut self) {
        self.network.stages.push(mem::take(&mut self.layers));
    }

    fn refuse(&mut self, what: &'static str, expected: &str, got: impl std::fmt::Debug) {
        self.wrong.get_or_insert(Error::misuse(what, expected, format!("{got:?}")));
    }

    fn parameter(&mut self, name: String, shape: Vec<usize>, start: Start) -> Param {
        self.network.parameters.push(Parameter { name, shape, start });
        self.network.parameters.len() - 1
    }

    /// The width of the last dimension.
    fn width(&mut self) -> usize {
        match self.flow {
            Flow::Row { width } | Flow::Sequence { width, .. } => width,
            flow => {
                self.refuse("input of a layer", "rows or a sequence", flow);
                1
            }
        }
    }

    fn set_width(&mut self, new: usize) {
        match &mut self.flow {
            Flow::Row { width } | Flow::Sequence { width, .. } => *width = new,
            _ => {}
        }
    }

    pub(super) fn linear(&mut self, name: &str, outputs: usize) {
        let start = Start::of_inputs(self.width());
        self.linear_from(name, outputs, start, start);
    }

    pub(super) fn linear_from(&mut self, name: &str, outputs: usize, weight: Start, bias: Start) {
        let inputs = self.width();
        let weight = self.parameter(format!("{name}.weight"), vec![outputs, inputs], weight);
        let bias = Some(self.parameter(format!("{name}.bias"), vec![outputs], bias));
        self.layers.push(Layer::Linear { weight, bias });
        self.set_width(outputs);
    }

    /// A linear layer with the weight of an embedding, which it shares (Press and Wolf 2017).
    pub(super) fn tied(&mut self, weight: Param, bias: Option<&str>) {
        let outputs = self.network.parameters[weight].shape[0];
        let bias = bias.map(|name| self.parameter(name.to_owned(), vec![outputs], Start::Constant(0.0)));
        self.layers.push(Layer::Linear { weight, bias });
        self.set_width(outputs);
    }

    /// A convolution with a bias, as PyTorch starts it.
    pub(super) fn conv(&mut self, name: &str, outputs: usize, size: usize, stride: usize, padding: usize) {
        let inputs = self.convolve(outputs, size, stride, padding);
        let start = Start::of_inputs(inputs * size * size);
        let shape = vec![outputs, inputs, size, size];
        let weight = self.parameter(format!("{name}.weight"), shape, start);
        let bias = Some(self.parameter(format!("{name}.bias"), vec![outputs], start));
        self.layers.push(Layer::Conv { weight, bias, stride, padding });
    }

    /// A convolution without a bias, as ResNets have and start it.
    pub(super) fn plain_conv(&mut self, name: &str, outputs: usize, size: usize, stride: usize) {
        let padding = size / 2;
        let inputs = self.convolve(outputs, size, stride, padding);
        let start = Start::of_outputs(outputs * size * size);
        let weight = self.parameter(format!("{name}.weight"), vec![outputs, inputs, size, size], start);
        self.layers.push(Layer::Conv { weight, bias: None, stride, padding });
    }

    /// Moves on by a window of pixels, and returns the channels before it.
    fn convolve(&mut self, outputs: usize, size: usize, stride: usize, padding: usize) -> usize {
        let Flow::Pixels { channels, rows, columns } = self.flow else {
            let flow = self.flow;
            self.refuse("input of a convolution", "pixels", flow);
            return 1;
        };
        if rows.min(columns) + 2 * padding < size {
            self.refuse("image size", "a larger one for this model", (rows, columns));
            return channels;
        }
        let after = |length: usize| (length + 2 * padding - size) / stride + 1;
        self.flow = Flow::Pixels { channels: outputs, rows: after(rows), columns: after(columns) };
        channels
    }

    pub(super) fn max_pool(&mut self, size: usize, stride: usize, padding: usize) {
        if let Flow::Pixels { channels, .. } = self.flow {
            self.convolve(channels, size, stride, padding);
        }
        self.layers.push(Layer::MaxPool { size, stride, padding });
    }

    pub(super) fn batch_norm(&mut self, name: &str) {
        let Flow::Pixels { channels, .. } = self.flow else {
            let flow = self.flow;
            return self.refuse("input of a batch normalisation", "pixels", flow);
        };
        let (weight, bias) = self.norm(name, channels);
        let start = self.network.statistics_len();
        self.network.statistics.push(Statistic { name: name.to_owned(), channels });
        self.layers.push(Layer::BatchNorm { weight, bias, statistics: start..start + 2 * channels });
    }

    pub(super) fn layer_norm(&mut self, name: &str) {
        let width = self.width();
        let (weight, bias) = self.norm(name, width);
        self.layers.push(Layer::LayerNorm { weight, bias });
    }

    fn norm(&mut self, name: &str, width: usize) -> (Param, Param) {
        let weight = self.parameter(format!("{name}.weight"), vec![width], Start::Constant(1.0));
        (weight, self.parameter(format!("{name}.bias"), vec![width], Start::Constant(0.0)))
    }

    pub(super) fn relu(&mut self) {
        self.layers.push(Layer::Relu);
    }

    pub(super) fn gelu(&mut self) {
        self.layers.push(Layer::Gelu);
    }

    pub(super) fn mean_pixel(&mut self) {
        if let Flow::Pixels { channels, .. } = self.flow {
            self.flow = Flow::Row { width: channels };
        }
        self.layers.push(Layer::MeanPixel);
    }

    pub(super) fn flatten(&mut self) {
        if let Flow::Pixels { channels, rows, columns } = self.flow {
            self.flow = Flow::Row { width: channels * rows * columns };
        }
        self.layers.push(Layer::Flatten);
    }

    pub(super) fn dropout(&mut self, probability: f32) {
        self.layers.push(Layer::Dropout { probability, number: self.dropouts });
        self.dropouts += 1;
    }

    pub(super) fn embedding(&mut self, name: &str, vocabulary: usize, width: usize, start: Start) -> Param {
        let weight = self.parameter(format!("{name}.weight"), vec![vocabulary, width], start);
        self.layers.push(Layer::Embedding { weight });
        match self.flow {
            Flow::Tokens { steps } => self.flow = Flow::Sequence { steps, width },
            flow => self.refuse("input of an embedding", "tokens", flow),
        }
        weight
    }

    pub(super) fn positions(&mut self, name: &str, start: Start) {
        let Flow::Sequence { steps, width } = self.flow else {
            let flow = self.flow;
            return self.refuse("input of positions", "a sequence", flow);
        };
        let weight = self.parameter(format!("{name}.weight"), vec![steps, width], start);
        self.layers.push(Layer::Positions { weight });
    }

    /// Takes [queries, keys, values] side by side.
    pub(super) fn attention(&mut self, heads: usize) {
        let width = self.width() / 3;
        self.set_width(width);
        self.layers.push(Layer::Attention { heads });
    }

    pub(super) fn fo_pool(&mut self) {
        let width = self.width() / 3;
        self.set_width(width);
        self.layers.push(Layer::FoPool);
    }

    /// The sum of two branches of the same input.
    pub(super) fn sum(&mut self, body: impl FnOnce(&mut Self), shortcut: impl FnOnce(&mut Self)) {
        let before = mem::take(&mut self.layers);
        let input = self.flow;
        body(self);
        let (body, output) = (mem::take(&mut self.layers), self.flow);
        self.flow = input;
        shortcut(self);
        let shortcut = mem::replace(&mut self.layers, before);
        if self.flow != output {
            let flow = self.flow;
            self.refuse("output of a shortcut", "that of the body", (flow, output));
        }
        self.layers.push(Layer::Sum { body, shortcut });
    }
}
