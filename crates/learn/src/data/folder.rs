//! Images in files, a directory for each class, as ImageNet is kept: decoded as they are needed.

use std::fs;
use std::io::{Cursor, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::ImageReader;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::images::{below, draw};
use super::{Content, Dataset, Missing, Scaling, Split};
use crate::random::unit;
use crate::{Error, Shape};

/// Pixels from side to side of what a model is given, and of the shorter side of what that is cut out of when testing.
const SIZE: usize = 224;
const SHORTER: f64 = 256.0;

/// Means and standard deviations of ImageNet's training set, as is customary.
const SCALING: [(f32, f32); 3] = [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)];

const ENDINGS: [&str; 3] = ["jpeg", "jpg", "png"];

pub(super) struct Folder {
    files: Vec<PathBuf>,
    /// The scaled value of each byte, by channel.
    levels: [[f32; 256]; 3],
}

/// A part of an image: left, top, width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Window {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

pub(super) fn read(directory: &Path, missing: Missing<'_>) -> Result<Split, Error> {
    let (train, classes) = list(directory, "train", None, missing)?;
    let (test, _) = list(directory, "val", Some(&classes), missing)?;
    Ok(Split { train, test })
}

/// The images below `directory`/`part`, in the order of the names of classes and files. `known` are the classes there may be.
fn list(
    directory: &Path,
    part: &str,
    known: Option<&[String]>,
    missing: Missing<'_>,
) -> Result<(Dataset, Vec<String>), Error> {
    let root = directory.join(part);
    let wrong = |what, expected: &str, got: String| Error::Malformed {
        file: root.display().to_string(),
        what,
        expected: expected.to_owned(),
        got,
    };
    let entries = |path: &Path| -> Result<Vec<(String, PathBuf)>, Error> {
        let unreadable = |source: std::io::Error| match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => missing(&format!("{part}/CLASS/*.JPEG")),
            _ => Error::Read { path: path.to_owned(), source },
        };
        let mut found = Vec::new();
        for entry in fs::read_dir(path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
        // A directory has no order of its own, and a seed must give the same images everywhere.
        found.sort();
        Ok(found)
    };
    let classes: Vec<(String, PathBuf)> =
        entries(&root)?.into_iter().filter(|(_, path)| path.is_dir()).collect();
    let names: Vec<String> = classes.iter().map(|(name, _)| name.clone()).collect();
    if let Some(known) = known
        && known != names
    {
        let extra = names.iter().find(|name| !known.contains(name));
        let got = extra.map_or("fewer".to_owned(), |name| format!("{name} as well"));
        return Err(wrong("classes", "those of train", got));
    }
    if names.len() > usize::from(u16::MAX) {
        return Err(wrong("classes", "at most 65535", names.len().to_string()));
    }
    let (mut files, mut labels) = (Vec::new(), Vec::new());
    for (label, (name, path)) in classes.iter().enumerate() {
        let before = files.len();
        for (_, file) in entries(path)? {
            let ending = file.extension().and_then(|it| it.to_str()).map(str::to_ascii_lowercase);
            if ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str())) {
                files.push(file);
                labels.push(label as u16);
            }
        }
        if files.len() == before {
            return Err(wrong("class", "at least one .JPEG, .jpg or .png", format!("none in {name}")));
        }
    }
    if files.is_empty() {
        return Err(missing(&format!("{part}/CLASS/*.JPEG")));
    }
    let shape = Shape::Images { channels: 3, rows: SIZE, columns: SIZE, classes: names.len() };
    let scaled = SCALING.map(|(mean, standard_deviation)| Scaling { mean, standard_deviation }.levels());
    let content = Content::Folder(Arc::new(Folder { files, levels: scaled }));
    Ok((Dataset { content, labels: labels.into(), shape }, names))
}

impl Folder {
    /// The images at `indices`, decoded in parallel.
    pub(super) fn fill(
        &self,
        indices: &[usize],
        seed: Option<u64>,
        pixels: &mut Vec<f32>,
    ) -> Result<(), Error> {
        let per_image = 3 * SIZE * SIZE;
        pixels.resize(indices.len() * per_image, 0.0);
        let images = pixels.par_chunks_exact_mut(per_image).zip(indices).enumerate();
        images.try_for_each(|(place, (out, &index))| {
            self.image(&self.files[index], seed.map(|seed| draw(seed, place)), out)
        })
    }

    /// One image: a random part of it, perhaps mirrored (as GoogLeNet was trained: Szegedy et al. 2015, section 6), or without
    /// randomness its centre.
    fn image(&self, path: &Path, random: Option<ChaCha8Rng>, out: &mut [f32]) -> Result<(), Error> {
        let bytes = fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let broken = |got: String| Error::Malformed {
            file: path.display().to_string(),
            what: "image",
            expected: "a whole JPEG or PNG".into(),
            got,
        };
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
        let reader = reader.map_err(|error| broken(error.to_string()))?;
        let image = reader.decode().map_err(|error| broken(error.to_string()))?.into_rgb8();
        let (width, height) = image.dimensions();
        let mut mirrored = false;
        let window = match random {
            Some(mut random) => {
                let window = random_window(f64::from(width), f64::from(height), &mut random);
                mirrored = below(&mut random, 2) == 1;
                window
            }
            None => centre(f64::from(width), f64::from(height)),
        };
        let resize =
            || -> Result<Image<'_>, String> {
                let source = Image::from_vec_u8(width, height, image.into_raw(), PixelType::U8x3);
                let source = source.map_err(|error| error.to_string())?;
                let mut cut = Image::new(SIZE as u32, SIZE as u32, PixelType::U8x3);
                let options = ResizeOptions::new()
                    .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
                    .crop(window.left, window.top, window.width, window.height);
                Resizer::new().resize(&source, &mut cut, &options).map_err(|error| error.to_string())?;
                Ok(cut)
            };
        let cut = resize().map_err(broken)?;
        let rows = cut.buffer().chunks_exact(3 * SIZE);
        let (red, rest) = out.split_at_mut(SIZE * SIZE);
        let (green, blue) = rest.split_at_mut(SIZE * SIZE);
        let planes =
            red.chunks_exact_mut(SIZE).zip(green.chunks_exact_mut(SIZE)).zip(blue.chunks_exact_mut(SIZE));
        for (((red, green), blue), row) in planes.zip(rows) {
            for (column, pixel) in row.chunks_exact(3).enumerate() {
                let column = if mirrored { SIZE - 1 - column } else { column };
                red[column] = self.levels[0][usize::from(pixel[0])];
                green[column] = self.levels[1][usize::from(pixel[1])];
                blue[column] = self.levels[2][usize::from(pixel[2])];
            }
        }
        Ok(())
    }
}

/// Of 8 to 100% of the area, and 3:4 to 4:3, uniform in area and in the logarithm of the ratio. Where ten draws do not fit, the
/// largest centre within these ratios, as torchvision has it.
fn random_window(width: f64, height: f64, random: &mut ChaCha8Rng) -> Window {
    let mut between = |low: f64, high: f64| low + (high - low) * f64::from(unit(random));
    let most = (4.0_f64 / 3.0).ln();
    for _ in 0..10 {
        let area = width * height * between(0.08, 1.0);
        let ratio = between(-most, most).exp();
        let (w, h) = ((area * ratio).sqrt().round(), (area / ratio).sqrt().round());
        if (1.0..=width).contains(&w) && (1.0..=height).contains(&h) {
            let left = between(0.0, width - w + 1.0).floor();
            let top = between(0.0, height - h + 1.0).floor();
            return Window { left, top, width: w, height: h };
        }
    }
    let (w, h) = (width.min(height * 4.0 / 3.0).round(), height.min(width * 4.0 / 3.0).round());
    Window { left: ((width - w) / 2.0).floor(), top: ((height - h) / 2.0).floor(), width: w, height: h }
}

/// The middle 224 × 224 pixels of the image whose shorter side is 256.
fn centre(width: f64, height: f64) -> Window {
    let side = width.min(height) * SIZE as f64 / SHORTER;
    Window { left: (width - side) / 2.0, top: (height - side) / 2.0, width: side, height: side }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_lie_within_the_image_and_have_the_area_and_ratio_asked_for() {
        for (width, height) in
            [(500.0, 375.0), (375.0, 500.0), (64.0, 64.0), (1000.0, 10.0), (1.0, 1.0), (2.0, 900.0)]
        {
            let mut shares = Vec::new();
            for place in 0..500 {
                let it = random_window(width, height, &mut draw(3, place));
                assert!(it.left >= 0.0 && it.top >= 0.0 && it.width >= 1.0 && it.height >= 1.0, "{it:?}");
                assert!(it.left + it.width <= width && it.top + it.height <= height, "{it:?}");
                shares.push(it.width * it.height / (width * height));
            }
            if width * height > 100_000.0 {
                let mean = shares.iter().sum::<f64>() / 500.0;
                assert!(shares.iter().all(|share| *share > 0.079) && (0.4..0.6).contains(&mean), "{mean}");
            }
        }
        let it = centre(512.0, 256.0);
        assert_eq!((it.left, it.top, it.width, it.height), (144.0, 16.0, 224.0, 224.0));
    }
}
