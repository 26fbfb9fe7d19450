//! Small images, held in memory as bytes and scaled as they are handed out.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::random::stream;
use crate::{Error, Shape};

/// The affine map from a pixel's byte p to what a model is fed: (p/255 − mean) / standard deviation, in `f32`
/// and in that order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaling {
    /// Mean of p/255 over the training set.
    pub mean: f32,
    /// Standard deviation of p/255 over the training set; not zero.
    pub standard_deviation: f32,
}

impl Scaling {
    /// That of the 60,000 training images of Fashion-MNIST, to four decimals as is customary.
    pub const FASHION_MNIST: Self = Self { mean: 0.2860, standard_deviation: 0.3530 };

    /// What each byte becomes.
    pub(super) fn levels(self) -> [f32; 256] {
        std::array::from_fn(|p| (p as f32 / 255.0 - self.mean) / self.standard_deviation)
    }
}

/// What is done at random to an image that is trained on: it is padded by so many pixels of the value 0 on each side (after
/// scaling: black), cropped to its size anywhere, and mirrored every other time (He et al. 2016, section 4.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Augmentation {
    pub(super) padding: usize,
}

/// The random stream of the example at `place` of the batch with this seed.
pub(super) fn draw(seed: u64, place: usize) -> ChaCha8Rng {
    let material = [seed.to_le_bytes(), (place as u64).to_le_bytes()].concat();
    stream("signvote-learn 2026 augmentation v1", &material)
}

/// An integer below `limit`, whose bias is below limit/2³².
pub(super) fn below(random: &mut ChaCha8Rng, limit: usize) -> usize {
    ((u64::from(random.next_u32()) * limit as u64) >> 32) as usize
}

pub(super) struct Images {
    bytes: Vec<u8>,
    channels: usize,
    size: [usize; 2],
    /// The scaled value of each byte, by channel.
    levels: Vec<[f32; 256]>,
    augmentation: Option<Augmentation>,
}

impl Images {
    pub(super) fn new(
        bytes: Vec<u8>,
        count: usize,
        shape: Shape,
        scaling: &[Scaling],
        augmentation: Option<Augmentation>,
    ) -> Result<Self, Error> {
        let Shape::Images { channels, rows, columns, .. } = shape else {
            return Err(Error::misuse("shape of images", "pixels", shape));
        };
        let pixels = channels.checked_mul(rows).and_then(|it| it.checked_mul(columns));
        let pixels = pixels.and_then(|it| it.checked_mul(count));
        if count == 0 || pixels != Some(bytes.len()) || scaling.len() != channels {
            let expected = format!("{channels} × {rows} × {columns} for each of {count} (at least 1)");
            return Err(Error::misuse("pixels of the images", expected, bytes.len()));
        }
        let levels = scaling.iter().map(|scaling| scaling.levels()).collect();
        Ok(Self { bytes, channels, size: [rows, columns], levels, augmentation })
    }

    pub(super) fn fill(&self, indices: &[usize], seed: Option<u64>, pixels: &mut Vec<f32>) {
        let [rows, columns] = self.size;
        let per_image = self.channels * rows * columns;
        for (place, &index) in indices.iter().enumerate() {
            let image = &self.bytes[index * per_image..(index + 1) * per_image];
            let planes = image.chunks_exact(rows * columns).zip(&self.levels);
            let (Some(seed), Some(Augmentation { padding })) = (seed, self.augmentation) else {
                for (plane, levels) in planes {
                    pixels.extend(plane.iter().map(|&pixel| levels[usize::from(pixel)]));
                }
                continue;
            };
            let random = &mut draw(seed, place);
            let [top, left] = [0, 1].map(|_| below(random, 2 * padding + 1));
            let mirrored = below(random, 2) == 1;
            for (plane, levels) in planes {
                for row in 0..rows {
                    // The row of the image, if this one is not in the padding; likewise the column.
                    let row = (row + top).checked_sub(padding).filter(|&row| row < rows);
                    pixels.extend((0..columns).map(|column| {
                        let column = if mirrored { columns - 1 - column } else { column };
                        let column = (column + left).checked_sub(padding).filter(|&column| column < columns);
                        let pixel = row.zip(column).map_or(0, |(row, column)| plane[row * columns + column]);
                        levels[usize::from(pixel)]
                    }));
                }
            }
        }
    }
}
