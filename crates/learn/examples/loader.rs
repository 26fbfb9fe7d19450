//! How many images a second one core decodes, crops, resizes and scales: 1,000 JPEGs of a realistic size and content, made here.
//!
//! `cargo run --release -p signvote-learn --example loader`; with a directory after ` -- ` the images stay there, ten classes that a model can
//! tell apart.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measurement, which prints and may end where it fails"
)]

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::Instant;

use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use signvote_learn::{DataSource, Examples, Wanted, load};

const IMAGES: usize = 1000;
/// About what ImageNet's images have.
const SIZE: [u32; 2] = [500, 400];
const QUALITY: u8 = 95;
const BATCH: usize = 50;

fn main() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = std::env::args().nth(1).map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let bytes = write_images(&directory);
    let wanted = Wanted { directory: Some(directory), ..DataSource::ImageNet.into() };
    let train = load(&wanted).unwrap().train;
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let mut examples = Examples::default();
    let indices: Vec<usize> = (0..IMAGES).collect();
    let mut rates = Vec::new();
    for pass in 0..5 {
        let began = Instant::now();
        for batch in indices.chunks(BATCH) {
            one.install(|| train.fill(batch, Some(pass), &mut examples)).unwrap();
            assert_eq!(examples.pixels.len(), BATCH * 3 * 224 * 224);
            let mean = examples.pixels.iter().sum::<f32>() / examples.pixels.len() as f32;
            assert!(mean.is_finite() && mean.abs() < 2.0, "{mean}");
        }
        rates.push(IMAGES as f64 / began.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    println!(
        "{IMAGES} JPEGs of {} × {}, {:.0} KB on average: {:.0} images a second on one core (median of five passes)",
        SIZE[0],
        SIZE[1],
        bytes as f64 / IMAGES as f64 / 1e3,
        rates[2]
    );
}

/// Smooth areas, edges and grain. How large the files become is printed.
fn write_images(directory: &Path) -> u64 {
    let mut bytes = 0;
    for number in 0..IMAGES as u32 {
        // Ten classes of a hundred; one of each is for testing as well.
        let class = directory.join("train").join(format!("n{:02}", number % 10));
        fs::create_dir_all(&class).unwrap();
        let picture = RgbImage::from_fn(SIZE[0], SIZE[1], |x, y| {
            let hash =
                (x.wrapping_mul(73_856_093) ^ y.wrapping_mul(19_349_663) ^ number.wrapping_mul(83_492_791))
                    .wrapping_mul(2_654_435_761);
            let grain = (hash >> 27) as f32;
            let edge = if (x / 37 + y / 53 + number) % 3 == 0 { 60.0 } else { 0.0 };
            let wave = ((x + number) as f32 / 41.0).sin() * ((y + 3 * number) as f32 / 29.0).cos() * 60.0;
            // Every class has a colour of its own.
            let tint = (number % 10) as f32 * 6.0;
            image::Rgb([50.0 + tint, 90.0, 130.0 - tint].map(|base: f32| (base + wave + edge + grain) as u8))
        });
        let path = class.join(format!("{number}.JPEG"));
        let out = BufWriter::new(File::create(&path).unwrap());
        JpegEncoder::new_with_quality(out, QUALITY).encode_image(&picture).unwrap();
        bytes += fs::metadata(&path).unwrap().len();
        if number < 10 {
            let class = directory.join("val").join(format!("n{number:02}"));
            fs::create_dir_all(&class).unwrap();
            fs::copy(&path, class.join("0.JPEG")).unwrap();
        }
    }
    bytes
}
