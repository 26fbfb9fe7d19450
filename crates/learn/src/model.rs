//! The models: their parameters in PyTorch's canonical form, and where they start.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use signvote_election::{Layout, TensorSpec};

use crate::Error;
use crate::random::{stream, unit};

/// Pixels a model takes: one channel of 28 × 28.
pub(crate) const INPUTS: usize = 28 * 28;

/// Classes a model tells apart.
pub(crate) const CLASSES: usize = 10;

/// A model, chosen by name.
///
/// Both take one channel of 28 × 28 pixels and give ten logits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ModelKind {
    /// `mlp`: linear 784 → 256, ReLU, linear 256 → 10; d = 203,530.
    #[default]
    Mlp,
    /// `mlp-1024-1024`, say: linear 784 → 1024, ReLU, linear 1024 → 1024, ReLU, linear 1024 → 10; d = 1,863,690. One number
    /// for each hidden layer, up to [`Hidden::MOST_LAYERS`].
    Deep(Hidden),
    /// `cnn`: twice (convolution 3×3 with padding 1, ReLU, max-pooling 2×2) with 32 and 64 channels, then
    /// linear 3136 → 128, ReLU, linear 128 → 10; d = 421,642.
    Cnn,
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

/// Names and shapes of a model's parameters.
type Table = Vec<(Cow<'static, str>, Vec<usize>)>;

impl ModelKind {
    /// The models of a fixed size.
    pub const ALL: [Self; 2] = [Self::Mlp, Self::Cnn];

    /// The parameters in the order in which the flat vector holds them, each in row-major order, with names
    /// and shapes as in PyTorch's `state_dict`: `[out, in]` for a linear layer's weight, `[out, in, height,
    /// width]` for a convolution's, `[out]` for a bias.
    ///
    /// # Errors
    /// Never for the models here: their tables are sound.
    pub fn layout(self) -> Result<Layout, Error> {
        let tensors = self
            .table()
            .iter()
            .map(|(name, shape)| TensorSpec { name: name.clone().into_owned(), shape: shape.clone() })
            .collect();
        Layout::new(tensors).map_err(|error| Error::Engine { reason: error.to_string() })
    }

    /// Number of coordinates d of the flat vector.
    pub fn dimension(self) -> usize {
        self.table().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// A starting point: d coordinates that are a function of `seed` alone.
    ///
    /// Weight and bias of a layer are drawn from U[−1/√fan_in, 1/√fan_in), fan_in the inputs of one of its
    /// outputs (the product of the weight's dimensions but the first). This is PyTorch's default for `Linear`
    /// and `Conv2d` (`reset_parameters`: `kaiming_uniform_` with a = √5, whose bound is
    /// √(6 / ((1 + a²)·fan_in))). Each parameter has its own stream, by seed and name.
    pub fn initial(self, seed: u64) -> Vec<f32> {
        let mut x = Vec::with_capacity(self.dimension());
        let mut fan_in = 1;
        for (name, shape) in self.table() {
            // A bias follows the weight of its layer in the table and shares its fan-in.
            if let [_, inputs @ ..] = &shape[..]
                && !inputs.is_empty()
            {
                fan_in = inputs.iter().product::<usize>();
            }
            let bound = 1.0 / (fan_in as f32).sqrt();
            let material = [&seed.to_le_bytes(), name.as_bytes()].concat();
            let mut random = stream("signvote-learn 2026 initial parameters v1", &material);
            let count = shape.iter().product();
            x.extend((0..count).map(|_: usize| bound * (2.0 * unit(&mut random) - 1.0)));
        }
        x
    }

    pub(crate) fn table(self) -> Table {
        match self {
            Self::Mlp => linear_layers(&[INPUTS, 256, CLASSES]),
            Self::Deep(hidden) => {
                let units = hidden.units().iter().map(|&units| usize::from(units));
                linear_layers(&[INPUTS].into_iter().chain(units).chain([CLASSES]).collect::<Vec<_>>())
            }
            Self::Cnn => {
                let mut table: Table = vec![
                    ("conv1.weight".into(), vec![32, 1, 3, 3]),
                    ("conv1.bias".into(), vec![32]),
                    ("conv2.weight".into(), vec![64, 32, 3, 3]),
                    ("conv2.bias".into(), vec![64]),
                ];
                table.extend(linear_layers(&[64 * 7 * 7, 128, CLASSES]));
                table
            }
        }
    }
}

/// Linear layers from each of these widths to the next.
fn linear_layers(widths: &[usize]) -> Table {
    let layer = |(index, pair): (usize, &[usize])| {
        let name = |what: &str| Cow::from(format!("fc{}.{what}", index + 1));
        [(name("weight"), vec![pair[1], pair[0]]), (name("bias"), vec![pair[1]])]
    };
    widths.windows(2).enumerate().flat_map(layer).collect()
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mlp => f.pad("mlp"),
            Self::Cnn => f.pad("cnn"),
            Self::Deep(hidden) => {
                f.pad(&hidden.units().iter().fold("mlp".to_owned(), |name, units| format!("{name}-{units}")))
            }
        }
    }
}

impl FromStr for ModelKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "mlp" => Ok(Self::Mlp),
            "cnn" => Ok(Self::Cnn),
            _ => {
                let units =
                    name.strip_prefix("mlp-").into_iter().flat_map(|it| it.split('-')).map(str::parse);
                let hidden =
                    units.collect::<Result<Vec<u16>, _>>().ok().and_then(|units| Hidden::new(&units));
                hidden.map(Self::Deep).ok_or_else(|| Error::UnknownName {
                    kind: "model",
                    expected: "mlp, cnn, or an mlp with its hidden layers, such as mlp-1024-1024",
                    got: name.to_owned(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(kind: ModelKind) -> Vec<String> {
        kind.layout().unwrap().tensors().iter().map(|p| format!("{} {:?}", p.name, p.shape)).collect()
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
    fn dimensions_are_those_documented() {
        assert_eq!(ModelKind::Mlp.dimension(), 203_530);
        assert_eq!(ModelKind::Cnn.dimension(), 421_642);
        let dimension = |name: &str| name.parse::<ModelKind>().unwrap().dimension();
        assert_eq!(dimension("mlp-1024-1024"), 1_863_690);
        assert_eq!(dimension("mlp-256"), ModelKind::Mlp.dimension());
    }

    #[test]
    fn the_start_fills_the_documented_interval_of_each_layer() {
        for kind in ModelKind::ALL {
            let x = kind.initial(1);
            assert_eq!(x.len(), kind.dimension());
            let mut rest = x.as_slice();
            let mut bound = 0.0;
            for parameter in kind.layout().unwrap().tensors() {
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
        assert_eq!(ModelKind::Mlp.initial(7), ModelKind::Mlp.initial(7));
        assert_ne!(ModelKind::Mlp.initial(7), ModelKind::Mlp.initial(8));
        assert_eq!(&ModelKind::Mlp.initial(7)[..2], [0.022032263, -0.007918311]);
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
