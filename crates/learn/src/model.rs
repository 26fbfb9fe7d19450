//! The models: their parameters in PyTorch's canonical form, and where they start.

mod network;
mod text;
mod vision;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rand::Rng;
use signvote_election::{Layout, TensorSpec};

#[cfg(feature = "tch")]
pub(crate) use self::network::Parameter;
pub(crate) use self::network::{Layer, Network, Param};
use self::network::{Start, Statistic};
use self::vision::{Block, Stem};
use crate::Error;
use crate::random::{stream, unit};

/// A model, chosen by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelKind {
    /// `mlp`: linear to 256, ReLU, linear to the classes; d = 203,530 for 28 × 28 pixels and ten classes.
    #[default]
    Mlp,
    /// `mlp-1024-1024`, say: linear 784 → 1024, ReLU, linear 1024 → 1024, ReLU, linear 1024 → 10; d = 1,863,690. One number
    /// for each hidden layer, up to [`Hidden::MOST_LAYERS`].
    Deep(Hidden),
    /// `cnn`: twice (convolution 3×3 with padding 1, ReLU, max-pooling 2×2) with 32 and 64 channels, then
    /// linear to 128, ReLU, linear to the classes; d = 421,642 for 28 × 28 pixels and ten classes.
    Cnn,
    /// `resnet18-32`: ResNet-18 whose stem is one convolution 3×3, for 32 × 32 pixels; d = 11,173,962 for ten classes.
    ResNet18Small,
    /// `resnet18`: ResNet-18 for 224 × 224 pixels; d = 11,689,512 for 1000 classes, as in torchvision.
    ResNet18,
    /// `resnet50`: ResNet-50 for 224 × 224 pixels; d = 25,557,032 for 1000 classes, as in torchvision.
    ResNet50,
    /// `alexnet`: AlexNet with one tower, for 224 × 224 pixels; d = 61,100,840 for 1000 classes, as in torchvision.
    AlexNet,
    /// `qrnn`: four quasi-recurrent layers, an embedding of 400 and 2500 hidden units, tied softmax; d = 150,885,435 (the
    /// published 151 million) for the 267,735 tokens of WikiText-103.
    Qrnn,
    /// `qrnn-small`: two such layers, 128 and 256 wide.
    QrnnSmall,
    /// `gpt-small`: GPT-2's form with four layers of 128, four heads; d = 834,304 for bytes in windows of 64.
    GptSmall,
}

/// Units of each hidden layer of an mlp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hidden {
    units: [u16; Self::MOST_LAYERS],
    layers: u8,
}

impl Hidden {
    /// Hidden layers at the most.
    pub const MOST_LAYERS: usize = 4;

    /// Layers of these units; `None` unless there are 1 to 4, of 1 to 65,535 units each.
    pub fn new(units: &[u16]) -> Option<Self> {
        let fits = (1..=Self::MOST_LAYERS).contains(&units.len()) && units.iter().all(|&count| count > 0);
        let mut all = [0; Self::MOST_LAYERS];
        all.iter_mut().zip(units).for_each(|(to, &count)| *to = count);
        fits.then_some(Self { units: all, layers: units.len() as u8 })
    }

    /// Units of each layer, from the input on.
    pub fn units(&self) -> &[u16] {
        &self.units[..usize::from(self.layers)]
    }
}

/// What an example is, which the first and the last layer of a model depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Shape {
    /// An image, and which class it is of.
    Images {
        /// Numbers for each pixel: 1 for grey, 3 for colours.
        channels: usize,
        /// Pixels from top to bottom.
        rows: usize,
        /// Pixels from left to right.
        columns: usize,
        /// Classes told apart.
        classes: usize,
    },
    /// A window of text, and for each of its tokens the one that comes next.
    Tokens {
        /// Tokens in a window.
        length: usize,
        /// Tokens told apart.
        vocabulary: usize,
    },
}

impl Shape {
    /// Grey images of 28 × 28 pixels in ten classes: those of Fashion-MNIST.
    pub const FASHION_MNIST: Self = Self::Images { channels: 1, rows: 28, columns: 28, classes: 10 };

    const fn square(size: usize, classes: usize) -> Self {
        Self::Images { channels: 3, rows: size, columns: size, classes }
    }

    /// Pixels (times channels) or tokens of one example.
    pub fn inputs(self) -> usize {
        match self {
            Self::Images { channels, rows, columns, .. } => channels * rows * columns,
            Self::Tokens { length, .. } => length,
        }
    }

    /// Predictions made of one example: one of an image, one of each token.
    pub fn predictions(self) -> usize {
        match self {
            Self::Images { .. } => 1,
            Self::Tokens { length, .. } => length,
        }
    }

    /// What a prediction chooses from: classes or tokens.
    pub fn classes(self) -> usize {
        match self {
            Self::Images { classes, .. } => classes,
            Self::Tokens { vocabulary, .. } => vocabulary,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Images { channels, rows, columns, classes } => {
                write!(f, "{channels} × {rows} × {columns} pixels, {classes} classes")
            }
            Self::Tokens { length, vocabulary } => write!(f, "{length} tokens of {vocabulary}"),
        }
    }
}

impl ModelKind {
    /// The models of a fixed depth, small ones first within images and text.
    pub const ALL: [Self; 9] = [
        Self::Mlp,
        Self::Cnn,
        Self::ResNet18Small,
        Self::ResNet18,
        Self::ResNet50,
        Self::AlexNet,
        Self::GptSmall,
        Self::QrnnSmall,
        Self::Qrnn,
    ];

    /// The data for which the model was published, or which it is for here: its number of parameters depends on that.
    pub fn usual_shape(self) -> Shape {
        match self {
            Self::Mlp | Self::Deep(_) | Self::Cnn => Shape::FASHION_MNIST,
            Self::ResNet18Small => Shape::square(32, 10),
            Self::ResNet18 | Self::ResNet50 | Self::AlexNet => Shape::square(224, 1000),
            Self::GptSmall | Self::QrnnSmall => Shape::Tokens { length: 64, vocabulary: 256 },
            Self::Qrnn => Shape::Tokens { length: 140, vocabulary: 267_735 },
        }
    }

    /// Where the model was described.
    pub fn source(self) -> &'static str {
        match self {
            Self::Mlp | Self::Deep(_) => "Rumelhart et al. 1986",
            Self::Cnn => "LeCun et al. 1998",
            Self::ResNet18Small => "He et al. 2016, with a 3×3 stem",
            Self::ResNet18 => "He et al. 2016",
            Self::ResNet50 => "He et al. 2016, stride in the 3×3 (torchvision's v1.5)",
            Self::AlexNet => "Krizhevsky 2014",
            Self::GptSmall => "Radford et al. 2019, scaled down",
            Self::QrnnSmall => "Bradbury et al. 2017, scaled down",
            Self::Qrnn => "Bradbury et al. 2017; Merity et al. 2018",
        }
    }

    /// The model for examples of this shape.
    ///
    /// # Errors
    /// [`Error::Misuse`] when it is no model for them: text for a model of images, or too few pixels.
    pub fn model(self, shape: Shape) -> Result<Model, Error> {
        let network = match self {
            Self::Mlp => vision::mlp(shape, Hidden { units: [256, 0, 0, 0], layers: 1 }),
            Self::Deep(hidden) => vision::mlp(shape, hidden),
            Self::Cnn => vision::cnn(shape),
            Self::ResNet18Small => vision::resnet(shape, Stem::Small, Block::Basic, [2, 2, 2, 2]),
            Self::ResNet18 => vision::resnet(shape, Stem::Large, Block::Basic, [2, 2, 2, 2]),
            Self::ResNet50 => vision::resnet(shape, Stem::Large, Block::Bottleneck, [3, 4, 6, 3]),
            Self::AlexNet => vision::alexnet(shape),
            Self::GptSmall => text::gpt(shape, 128, 4, 4),
            Self::QrnnSmall => text::qrnn(shape, 128, 256, 2),
            Self::Qrnn => text::qrnn(shape, 400, 2500, 4),
        }?;
        Ok(Model { kind: self, shape, network: Arc::new(network) })
    }

    /// The model for its [`usual_shape`](Self::usual_shape).
    #[expect(
        clippy::missing_panics_doc,
        reason = "every model fits its own shape, which a test asks of each"
    )]
    pub fn usual(self) -> Model {
        self.model(self.usual_shape()).unwrap_or_else(|error| panic!("{self}: {error}"))
    }
}

/// A model for data of one shape.
#[derive(Clone, Debug)]
pub struct Model {
    kind: ModelKind,
    shape: Shape,
    pub(crate) network: Arc<Network>,
}

impl Model {
    /// Its name.
    pub fn kind(&self) -> ModelKind {
        self.kind
    }

    /// What it takes and gives.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The parameters in the order in which the flat vector holds them, each in row-major order, with names
    /// and shapes as in PyTorch's `state_dict`: `[out, in]` for a linear layer's weight, `[out, in, height,
    /// width]` for a convolution's, `[out]` for a bias.
    ///
    /// # Errors
    /// Never for the models here: their tables are sound.
    pub fn layout(&self) -> Result<Layout, Error> {
        let specs = self.network.parameters.iter();
        let specs = specs.map(|it| TensorSpec { name: it.name.clone(), shape: it.shape.clone() }).collect();
        Layout::new(specs).map_err(|error| Error::Engine { reason: error.to_string() })
    }

    /// Number of coordinates d of the flat vector.
    pub fn dimension(&self) -> usize {
        self.network.dimension()
    }

    /// The running statistics of its batch normalisations, in the order of [`Engine::statistics`](crate::Engine::statistics):
    /// names and shapes as in PyTorch's `state_dict`. Empty where it has none.
    pub fn statistics(&self) -> Vec<TensorSpec> {
        let both = |Statistic { name, channels }: &Statistic| {
            ["running_mean", "running_var"]
                .map(|what| TensorSpec { name: format!("{name}.{what}"), shape: vec![*channels] })
        };
        self.network.statistics.iter().flat_map(both).collect()
    }

    /// A starting point: d coordinates that are a function of `seed` alone.
    ///
    /// Layers start as their sources say, or where those are silent as in PyTorch: weight and bias from U[−1/√fan_in,
    /// 1/√fan_in), fan_in the inputs of one of its outputs (the product of the weight's dimensions but the first). Each
    /// parameter has its own stream, by seed and name. What is drawn from a normal distribution is drawn as the sum of twelve
    /// uniform numbers less 6, which is the same on every machine, as a library's logarithm is not; it ends at 6 standard
    /// deviations.
    pub fn initial(&self, seed: u64) -> Vec<f32> {
        let mut x = Vec::with_capacity(self.dimension());
        for parameter in &self.network.parameters {
            let material = [&seed.to_le_bytes(), parameter.name.as_bytes()].concat();
            let mut random = stream("signvote-learn 2026 initial parameters v1", &material);
            let count = parameter.count();
            match parameter.start {
                Start::Uniform(bound) => {
                    x.extend((0..count).map(|_| bound * (2.0 * unit(&mut random) - 1.0)));
                }
                Start::Normal(deviation) => {
                    x.extend((0..count).map(|_| deviation * (twelve(&mut random) - 6.0)));
                }
                Start::Constant(value) => x.extend((0..count).map(|_| value)),
            }
        }
        x
    }
}

/// The sum of twelve numbers uniform in [0, 1), multiples of 2⁻¹⁶: six draws, and exact in `f32`.
fn twelve(random: &mut impl Rng) -> f32 {
    let halves = (0..6).map(|_| random.next_u32()).map(|word| (word >> 16) + (word & 0xffff));
    halves.sum::<u32>() as f32 / 65_536.0
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Mlp => "mlp",
            Self::Cnn => "cnn",
            Self::ResNet18Small => "resnet18-32",
            Self::ResNet18 => "resnet18",
            Self::ResNet50 => "resnet50",
            Self::AlexNet => "alexnet",
            Self::GptSmall => "gpt-small",
            Self::QrnnSmall => "qrnn-small",
            Self::Qrnn => "qrnn",
            Self::Deep(hidden) => {
                let units = hidden.units().iter();
                return f.pad(&units.fold("mlp".to_owned(), |name, units| format!("{name}-{units}")));
            }
        })
    }
}

impl FromStr for ModelKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        if let Some(kind) = Self::ALL.into_iter().find(|kind| kind.to_string() == name) {
            return Ok(kind);
        }
        let units = name.strip_prefix("mlp-").into_iter().flat_map(|it| it.split('-')).map(str::parse);
        let hidden = units.collect::<Result<Vec<u16>, _>>().ok().and_then(|units| Hidden::new(&units));
        hidden.map(Self::Deep).ok_or_else(|| Error::UnknownName {
            kind: "model",
            expected: "mlp, cnn, resnet18-32, resnet18, resnet50, alexnet, gpt-small, qrnn-small, qrnn, or an mlp with its \
                       hidden layers, such as mlp-1024-1024",
            got: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(kind: ModelKind) -> Vec<String> {
        kind.usual().layout().unwrap().tensors().iter().map(|p| format!("{} {:?}", p.name, p.shape)).collect()
    }

    #[test]
    fn the_layouts_are_those_of_pytorch() {
        assert_eq!(
            listed(ModelKind::Mlp),
            ["fc1.weight [256, 784]", "fc1.bias [256]", "fc2.weight [10, 256]", "fc2.bias [10]"]
        );
        assert_eq!(
            listed(ModelKind::Cnn),
            [
                "conv1.weight [32, 1, 3, 3]",
                "conv1.bias [32]",
                "conv2.weight [64, 32, 3, 3]",
                "conv2.bias [64]",
                "fc1.weight [128, 3136]",
                "fc1.bias [128]",
                "fc2.weight [10, 128]",
                "fc2.bias [10]",
            ]
        );
    }

    #[test]
    fn dimensions_are_those_published() {
        let dimension = |name: &str| name.parse::<ModelKind>().unwrap().usual().dimension();
        for (name, d) in [
            ("mlp", 203_530),
            ("mlp-256", 203_530),
            ("mlp-1024-1024", 1_863_690),
            ("cnn", 421_642),
            // torchvision's tables.
            ("resnet18", 11_689_512),
            ("resnet50", 25_557_032),
            ("alexnet", 61_100_840),
            ("resnet18-32", 11_173_962),
            // "151M": Merity et al. 2018, table 5.
            ("qrnn", 150_885_435),
            ("gpt-small", 834_304),
        ] {
            assert_eq!(dimension(name), d, "{name}");
        }
    }

    #[test]
    fn data_that_is_none_for_a_model_is_refused() {
        let text = Shape::Tokens { length: 8, vocabulary: 256 };
        for kind in ModelKind::ALL {
            let other =
                if matches!(kind.usual_shape(), Shape::Tokens { .. }) { Shape::FASHION_MNIST } else { text };
            let error = kind.model(other).unwrap_err().to_string();
            assert!(error.starts_with("data for this model: expected "), "{error}");
        }
        let error = ModelKind::AlexNet.model(Shape::FASHION_MNIST).unwrap_err().to_string();
        assert!(error.starts_with("image size: expected a larger one for this model, got (2, 2)"), "{error}");
        // Images of another size or number of classes change the layers that see it, and no others.
        let model = ModelKind::Cnn.model(Shape::square(32, 100)).unwrap();
        assert_eq!(model.dimension(), 421_642 + 2 * 32 * 9 + 128 * 64 * (64 - 49) + 90 * 129);
    }

    #[test]
    fn statistics_are_named_as_in_pytorch() {
        let statistics = ModelKind::ResNet18.usual().statistics();
        assert_eq!(statistics.len(), 2 * 20);
        assert_eq!((statistics[1].name.as_str(), &statistics[1].shape[..]), ("bn1.running_var", &[64][..]));
        assert!(ModelKind::Cnn.usual().statistics().is_empty());
    }

    #[test]
    fn normal_starts_have_their_standard_deviation() {
        let model = ModelKind::ResNet18Small.usual();
        let (x, mut at) = (model.initial(1), 0);
        for parameter in &model.network.parameters {
            let values = &x[at..at + parameter.count()];
            at += values.len();
            if let (Start::Normal(deviation), true) = (parameter.start, values.len() > 10_000) {
                let mean = values.iter().sum::<f32>() / values.len() as f32;
                let variance = values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32;
                let error = (variance.sqrt() / deviation - 1.0).abs();
                assert!(error < 0.02 && mean.abs() < 0.03 * deviation, "{} {error} {mean}", parameter.name);
            }
        }
    }

    #[test]
    fn the_start_fills_the_documented_interval_of_each_layer() {
        for kind in [ModelKind::Mlp, ModelKind::Cnn] {
            let model = kind.usual();
            let x = model.initial(1);
            assert_eq!(x.len(), model.dimension());
            let mut rest = x.as_slice();
            let mut bound = 0.0;
            for parameter in model.layout().unwrap().tensors() {
                let (values, tail) = rest.split_at(parameter.shape.iter().product());
                rest = tail;
                if parameter.name.ends_with("weight") {
                    bound = 1.0 / (parameter.shape[1..].iter().product::<usize>() as f32).sqrt();
                }
                let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
                assert!(largest <= bound && largest > bound / 2.0, "{} {largest} {bound}", parameter.name);
                if values.len() > 1000 {
                    let mean = values.iter().sum::<f32>() / values.len() as f32;
                    assert!(mean.abs() < bound * 0.05, "{} {mean}", parameter.name);
                }
            }
        }
    }

    #[test]
    fn the_start_is_a_function_of_the_seed() {
        let model = ModelKind::Mlp.usual();
        assert_eq!(model.initial(7), model.initial(7));
        assert_ne!(model.initial(7), model.initial(8));
        assert_eq!(&model.initial(7)[..2], [0.022032263, -0.007918311]);
    }

    #[test]
    fn names_parse_back() {
        for kind in ModelKind::ALL {
            assert_eq!(kind.to_string().parse::<ModelKind>().unwrap(), kind);
        }
        let error = "vgg".parse::<ModelKind>().unwrap_err();
        assert!(error.to_string().ends_with("such as mlp-1024-1024, got \"vgg\""), "{error}");
        for name in ["mlp-1024-1024", "mlp-256", "mlp-1-2-3-4"] {
            assert_eq!(name.parse::<ModelKind>().unwrap().to_string(), name);
        }
        for wrong in ["mlp-", "mlp-0", "mlp-x", "mlp-1-2-3-4-5", "mlp-65536", "mlp--1"] {
            assert!(wrong.parse::<ModelKind>().is_err(), "{wrong}");
        }
    }
}
