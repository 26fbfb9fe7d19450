//! Models of images.

use super::network::{Builder, Network};
use super::{Hidden, Shape};
use crate::Error;

fn classes(shape: Shape) -> Result<usize, Error> {
    match shape {
        Shape::Images { classes, .. } => Ok(classes),
        Shape::Tokens { .. } => Err(Error::misuse("data for this model", "images", shape)),
    }
}

pub(super) fn mlp(shape: Shape, hidden: Hidden) -> Result<Network, Error> {
    let classes = classes(shape)?;
    let mut it = Builder::new(shape);
    it.flatten();
    let units = hidden.units();
    for (index, &units) in units.iter().enumerate() {
        it.linear(&format!("fc{}", index + 1), usize::from(units));
        it.relu();
    }
    it.linear(&format!("fc{}", units.len() + 1), classes);
    it.finish()
}

pub(super) fn cnn(shape: Shape) -> Result<Network, Error> {
    let classes = classes(shape)?;
    let mut it = Builder::new(shape);
    for (name, channels) in [("conv1", 32), ("conv2", 64)] {
        it.conv(name, channels, 3, 1, 1);
        it.relu();
        it.max_pool(2, 2, 0);
    }
    it.flatten();
    // The linear layers have 96% of the coordinates, the convolutions most of the work.
    it.cut();
    it.linear("fc1", 128);
    it.relu();
    it.linear("fc2", classes);
    it.finish()
}

/// What a residual block is made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    /// Two convolutions 3×3.
    Basic,
    /// 1×1, 3×3 and 1×1, the last with four times the channels. The 3×3 has the stride, as in torchvision ("v1.5"); in the
    /// paper the first has it.
    Bottleneck,
}

/// How a ResNet begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stem {
    /// A convolution 7×7 of stride 2 and max-pooling 3×3 of stride 2: for 224×224 pixels.
    Large,
    /// A convolution 3×3: for 32×32 pixels.
    Small,
}

/// He et al. 2016, with torchvision's names.
pub(super) fn resnet(shape: Shape, stem: Stem, block: Block, depths: [usize; 4]) -> Result<Network, Error> {
    let classes = classes(shape)?;
    let mut it = Builder::new(shape);
    match stem {
        Stem::Large => it.plain_conv("conv1", 64, 7, 2),
        Stem::Small => it.plain_conv("conv1", 64, 3, 1),
    }
    it.batch_norm("bn1");
    it.relu();
    if stem == Stem::Large {
        it.max_pool(3, 2, 1);
    }
    let mut channels = 64;
    for (group, depth) in depths.into_iter().enumerate() {
        let width = 64 << group;
        let outputs = if block == Block::Bottleneck { 4 * width } else { width };
        for number in 0..depth {
            let stride = if group > 0 && number == 0 { 2 } else { 1 };
            let name = format!("layer{}.{number}", group + 1);
            let convolutions: &[(usize, usize, usize)] = match block {
                Block::Basic => &[(width, 3, stride), (width, 3, 1)],
                Block::Bottleneck => &[(width, 1, 1), (width, 3, stride), (outputs, 1, 1)],
            };
            let body = |it: &mut Builder| {
                for (index, &(outputs, size, stride)) in convolutions.iter().enumerate() {
                    if index > 0 {
                        it.relu();
                    }
                    it.plain_conv(&format!("{name}.conv{}", index + 1), outputs, size, stride);
                    it.batch_norm(&format!("{name}.bn{}", index + 1));
                }
            };
            let shortcut = |it: &mut Builder| {
                if stride != 1 || channels != outputs {
                    it.plain_conv(&format!("{name}.downsample.0"), outputs, 1, stride);
                    it.batch_norm(&format!("{name}.downsample.1"));
                }
            };
            it.sum(body, shortcut);
            it.relu();
            channels = outputs;
        }
        if group < 3 {
            it.cut();
        }
    }
    it.mean_pixel();
    it.linear("fc", classes);
    it.finish()
}

/// Krizhevsky 2014 ("One weird trick"), as in torchvision, whose adaptive pooling to 6×6 does nothing to 224×224 pixels.
pub(super) fn alexnet(shape: Shape) -> Result<Network, Error> {
    let classes = classes(shape)?;
    let mut it = Builder::new(shape);
    let convolutions = [
        ("features.0", 64, 11, 4, 2, true),
        ("features.3", 192, 5, 1, 2, true),
        ("features.6", 384, 3, 1, 1, false),
        ("features.8", 256, 3, 1, 1, false),
        ("features.10", 256, 3, 1, 1, true),
    ];
    for (name, channels, size, stride, padding, pool) in convolutions {
        it.conv(name, channels, size, stride, padding);
        it.relu();
        if pool {
            it.max_pool(3, 2, 0);
        }
    }
    it.flatten();
    it.cut();
    for name in ["classifier.1", "classifier.4"] {
        it.dropout(0.5);
        it.linear(name, 4096);
        it.relu();
    }
    it.linear("classifier.6", classes);
    it.finish()
}
