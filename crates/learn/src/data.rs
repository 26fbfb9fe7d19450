//! Data sets of small grey images with labels.

mod idx;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use self::idx::Source;
use crate::Error;

/// Where Debian's `dataset-fashion-mnist` puts the full set.
const SYSTEM_DIRECTORY: &str = "/usr/share/datasets/fashion-mnist";

const CLASSES: usize = 10;

const IMAGE_SIZE: [usize; 2] = [28, 28];

/// The files of the full set, without `.gz`.
const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// The same files of the subset.
const EMBEDDED: [&[u8]; 4] = [
    include_bytes!("../../../data/fashion-mnist-10k/train-images-idx3-ubyte.gz"),
    include_bytes!("../../../data/fashion-mnist-10k/train-labels-idx1-ubyte.gz"),
    include_bytes!("../../../data/fashion-mnist-10k/t10k-images-idx3-ubyte.gz"),
    include_bytes!("../../../data/fashion-mnist-10k/t10k-labels-idx1-ubyte.gz"),
];

/// A data set, chosen by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataSource {
    /// `fashion-mnist-10k`: the first 10,000 training and 2,000 test images of Fashion-MNIST, compiled into
    /// the program.
    #[default]
    FashionMnist10k,
    /// `fashion-mnist`: all 60,000 training and 10,000 test images, read from files.
    FashionMnist,
}

impl fmt::Display for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::FashionMnist10k => "fashion-mnist-10k",
            Self::FashionMnist => "fashion-mnist",
        })
    }
}

impl FromStr for DataSource {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "fashion-mnist-10k" => Ok(Self::FashionMnist10k),
            "fashion-mnist" => Ok(Self::FashionMnist),
            _ => Err(Error::UnknownName {
                kind: "data set",
                expected: "fashion-mnist-10k or fashion-mnist",
                got: name.to_owned(),
            }),
        }
    }
}

/// Reads a data set.
///
/// The embedded set needs no files, and `data_dir` is not looked at. The full set is four idx files, gzipped
/// (`train-images-idx3-ubyte.gz`, …) or not, in `data_dir`, or when that is `None` in
/// `/usr/share/datasets/fashion-mnist`.
///
/// # Errors
/// [`Error::MissingData`] when a file is not there, which says how to get it; [`Error::Read`] when it cannot
/// be read; [`Error::Malformed`] when it is not an idx file of 28 × 28 images or of labels below 10, is cut
/// short or followed by other bytes, or holds another number of labels than its companion has images.
pub fn load(source: &DataSource, data_dir: Option<&Path>) -> Result<Split, Error> {
    let [train_images, train_labels, test_images, test_labels] = match source {
        DataSource::FashionMnist10k => {
            [0, 1, 2, 3].map(|i| Source::embedded(format!("{}.gz (embedded)", FILES[i]), EMBEDDED[i]))
        }
        DataSource::FashionMnist => {
            let directory = data_dir.unwrap_or(Path::new(SYSTEM_DIRECTORY));
            // All four are opened before any is read: a missing one is reported at once.
            [
                Source::open(directory, FILES[0])?,
                Source::open(directory, FILES[1])?,
                Source::open(directory, FILES[2])?,
                Source::open(directory, FILES[3])?,
            ]
        }
    };
    Ok(Split { train: read_pair(train_images, train_labels)?, test: read_pair(test_images, test_labels)? })
}

fn read_pair(images: Source<'_>, labels: Source<'_>) -> Result<Dataset, Error> {
    let (images_file, labels_file) = (images.file.clone(), labels.file.clone());
    let malformed =
        |file: &str, what, expected, got| Error::Malformed { file: file.to_owned(), what, expected, got };

    let images = images.read::<3>()?;
    let [count, rows, columns] = images.sizes;
    if [rows, columns] != IMAGE_SIZE {
        let [r, c] = IMAGE_SIZE;
        let (expected, got) = (format!("{r} × {c} pixels"), format!("{rows} × {columns}"));
        return Err(malformed(&images_file, "image size", expected, got));
    }
    if count == 0 {
        return Err(malformed(&images_file, "number of images", "at least 1".into(), "0".into()));
    }
    let labels = labels.read::<1>()?;
    if labels.sizes != [count] {
        let expected = format!("{count} as in {images_file}");
        return Err(malformed(&labels_file, "number of labels", expected, labels.sizes[0].to_string()));
    }
    if let Some(item) = labels.bytes.iter().position(|&label| usize::from(label) >= CLASSES) {
        let got = format!("{} at item {item}", labels.bytes[item]);
        return Err(malformed(&labels_file, "label", format!("below {CLASSES}"), got));
    }
    Dataset::new(images.bytes, labels.bytes, IMAGE_SIZE, CLASSES, Scaling::FASHION_MNIST)
}

/// Training and test set.
#[derive(Clone, Debug)]
pub struct Split {
    /// What is trained on.
    pub train: Dataset,
    /// What accuracy is measured on.
    pub test: Dataset,
}

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
}

/// Images of one size, each with its label, held as bytes and scaled as they are handed out.
#[derive(Clone)]
pub struct Dataset {
    images: Vec<u8>,
    labels: Vec<u8>,
    size: [usize; 2],
    classes: usize,
    // The scaled value of each byte.
    levels: [f32; 256],
}

impl Dataset {
    /// A data set of `labels.len()` images of `size` = [rows, columns] pixels, one after the other in
    /// row-major order, whose labels are below `classes`.
    ///
    /// # Errors
    /// [`Error::Misuse`] when there is no image, the number of bytes is not the labels' × rows × columns, or
    /// a label is not below `classes`.
    pub fn new(
        images: Vec<u8>,
        labels: Vec<u8>,
        size: [usize; 2],
        classes: usize,
        scaling: Scaling,
    ) -> Result<Self, Error> {
        let pixels = size[0].checked_mul(size[1]).and_then(|p| p.checked_mul(labels.len()));
        if labels.is_empty() || pixels != Some(images.len()) {
            let expected = format!("{} × {} for each of {} (at least 1)", size[0], size[1], labels.len());
            return Err(Error::misuse("pixels of the images", expected, images.len()));
        }
        if let Some(&label) = labels.iter().find(|&&label| usize::from(label) >= classes) {
            return Err(Error::misuse("label", format!("below {classes}"), label));
        }
        let levels = std::array::from_fn(|p| (p as f32 / 255.0 - scaling.mean) / scaling.standard_deviation);
        Ok(Self { images, labels, size, classes, levels })
    }

    /// Number of images; at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a data set is never empty")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Number of classes; every label is below it.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Pixels from top to bottom of an image.
    pub fn rows(&self) -> usize {
        self.size[0]
    }

    /// Pixels from left to right of an image.
    pub fn columns(&self) -> usize {
        self.size[1]
    }

    /// Rows times columns.
    pub fn pixels_per_image(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// The label of every image.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// Replaces `images` and `labels` by those at `indices`, scaled: image k of the batch is
    /// `images[k·pixels .. (k+1)·pixels]`, row-major. An index may come more than once.
    ///
    /// # Panics
    /// When an index is not below [`Dataset::len`].
    pub fn fill(&self, indices: &[usize], images: &mut Vec<f32>, labels: &mut Vec<u8>) {
        let pixels = self.pixels_per_image();
        images.clear();
        labels.clear();
        for &index in indices {
            let image = &self.images[index * pixels..(index + 1) * pixels];
            images.extend(image.iter().map(|&pixel| self.levels[usize::from(pixel)]));
            labels.push(self.labels[index]);
        }
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("len", &self.labels.len())
            .field("size", &self.size)
            .field("classes", &self.classes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::PathBuf;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn idx(sizes: &[u32], body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, sizes.len() as u8];
        bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend_from_slice(body);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// A directory with a whole tiny data set (three training images, two test images), gzipped.
    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let images = |count: u32| idx(&[count, 28, 28], &vec![7; count as usize * 784]);
        let contents = [images(3), idx(&[3], &[0, 9, 4]), images(2), idx(&[2], &[1, 2])];
        for (name, bytes) in FILES.iter().zip(contents) {
            fs::write(directory.path().join(format!("{name}.gz")), gzip(&bytes)).unwrap();
        }
        directory
    }

    fn gz(directory: &tempfile::TempDir, file: usize) -> PathBuf {
        directory.path().join(format!("{}.gz", FILES[file]))
    }

    /// The error of loading a set whose file number `file` holds `bytes`, less the path in it.
    fn refused(file: usize, bytes: &[u8]) -> String {
        let directory = directory();
        let path = gz(&directory, file);
        fs::write(&path, bytes).unwrap();
        let error = load(&DataSource::FashionMnist, Some(directory.path())).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
        let prefix = format!("malformed data file {}: ", path.display());
        let images = format!(" as in {}", gz(&directory, file & !1).display());
        error.to_string().strip_prefix(&prefix).unwrap().replace(&images, " as in images")
    }

    #[test]
    fn the_embedded_set_is_the_start_of_fashion_mnist() {
        let split = load(&DataSource::default(), None).unwrap();
        assert_eq!((split.train.len(), split.test.len()), (10_000, 2_000));
        assert_eq!((split.train.rows(), split.train.columns(), split.train.classes()), (28, 28, 10));
        assert_eq!(split.train.labels()[..10], [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]);
        assert_eq!(split.test.labels()[..10], [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]);
        for class in 0..10 {
            let count = split.train.labels().iter().filter(|&&label| label == class).count();
            assert!((900..1100).contains(&count), "{class}: {count}");
        }
    }

    #[test]
    fn pixels_are_scaled_to_mean_zero_and_deviation_one() {
        let split = load(&DataSource::default(), None).unwrap();
        let (mut images, mut labels) = (vec![3.0; 5], vec![1; 5]);
        split.train.fill(&(0..10_000).collect::<Vec<_>>(), &mut images, &mut labels);
        assert_eq!((images.len(), labels.len()), (7_840_000, 10_000));
        let count = images.len() as f64;
        let mean = images.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let variance = images.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
        assert!(mean.abs() < 0.01 && (variance.sqrt() - 1.0).abs() < 0.01, "{mean} {variance}");
    }

    #[test]
    fn a_batch_holds_the_images_at_its_indices_in_their_order() {
        let scaling = Scaling { mean: 0.5, standard_deviation: 0.5 };
        let data = Dataset::new(vec![0, 255, 51, 102], vec![1, 0], [1, 2], 2, scaling).unwrap();
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        data.fill(&[1, 0, 1], &mut images, &mut labels);
        assert_eq!(labels, [0, 1, 0]);
        let expected = [-0.6, -0.2, -1.0, 1.0, -0.6, -0.2];
        assert!(images.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{images:?}");
    }

    #[test]
    fn a_data_set_whose_counts_disagree_is_refused() {
        let new = |images: &[u8], labels: &[u8], size| {
            Dataset::new(images.to_vec(), labels.to_vec(), size, 3, Scaling::FASHION_MNIST)
        };
        assert!(new(&[0; 8], &[0, 2], [2, 2]).is_ok());
        assert!(new(&[0; 7], &[0, 2], [2, 2]).is_err());
        assert!(new(&[], &[], [2, 2]).is_err());
        assert!(new(&[], &[0, 0], [usize::MAX, 2]).is_err());
        let error = new(&[0; 8], &[0, 3], [2, 2]).unwrap_err();
        assert_eq!(error.to_string(), "label: expected below 3, got 3");
    }

    #[test]
    fn the_full_set_is_read_gzipped_or_plain() {
        let directory = directory();
        let path = gz(&directory, 1);
        fs::write(path.with_extension(""), idx(&[3], &[5, 5, 5])).unwrap();
        let labels = || load(&DataSource::FashionMnist, Some(directory.path())).unwrap().train.labels;
        assert_eq!(labels(), [0, 9, 4]);
        fs::remove_file(path).unwrap();
        assert_eq!(labels(), [5, 5, 5]);
    }

    #[test]
    fn a_missing_file_is_named_with_the_place_and_the_remedy_on_one_line() {
        let directory = directory();
        fs::remove_file(gz(&directory, 2)).unwrap();
        let error = load(&DataSource::FashionMnist, Some(directory.path())).unwrap_err();
        assert!(matches!(error, Error::MissingData { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "Fashion-MNIST file t10k-images-idx3-ubyte.gz (or t10k-images-idx3-ubyte) not found in {}: run \
                 `apt-get install dataset-fashion-mnist`, or download the four files from \
                 https://github.com/zalandoresearch/fashion-mnist and pass --data-dir",
                directory.path().display()
            )
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_called_missing() {
        let directory = directory();
        let path = gz(&directory, 0);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let error = load(&DataSource::FashionMnist, Some(directory.path())).unwrap_err();
        assert!(matches!(error, Error::Read { .. }), "{error:?}");
    }

    #[test]
    fn a_wrong_magic_is_refused() {
        let mut bytes = idx(&[3], &[0, 1, 2]);
        bytes[2] = 9;
        assert_eq!(refused(1, &gzip(&bytes)), "magic: expected 0x00000801, got 0x00000901");
        assert_eq!(refused(0, &idx(&[3], &[0; 20])), "magic: expected 0x00000803, got 0x00000801");
    }

    #[test]
    fn a_truncated_file_is_refused_wherever_it_ends() {
        let whole = idx(&[3], &[0, 1, 2]);
        assert_eq!(refused(1, &[]), "header: expected 8 bytes, got 0");
        assert_eq!(refused(1, &whole[..7]), "header: expected 8 bytes, got 7");
        assert_eq!(refused(1, &whole[..10]), "data: expected 3 bytes, got 2");
        assert_eq!(refused(0, &idx(&[3, 28, 28], &[0; 784])), "data: expected 2352 bytes, got 784");
        let compressed = gzip(&whole);
        for length in 2..compressed.len() {
            let message = refused(1, &compressed[..length]);
            assert!(message.starts_with("gzip stream: expected a whole one, got "), "{message}");
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let whole = idx(&[3], &[0, 1, 2]);
        let longer = [&whole[..], &[0]].concat();
        assert_eq!(refused(1, &longer), "data: expected 3 bytes, got more");
        assert_eq!(refused(1, &gzip(&longer)), "data: expected 3 bytes, got more");
        assert!(refused(1, &[gzip(&whole), vec![1, 2, 3]].concat()).starts_with("gzip stream: "));
    }

    #[test]
    fn a_size_that_would_not_fit_in_memory_is_refused_before_it_is_allocated() {
        let expected = "size: expected at most 1073741824 bytes, got 4294967295 × 28 × 28";
        assert_eq!(refused(0, &idx(&[u32::MAX, 28, 28], &[0; 99])), expected);
        let expected = "size: expected at most 1073741824 bytes, got 4294967295 × 4294967295 × 4294967295";
        assert_eq!(refused(0, &idx(&[u32::MAX; 3], &[])), expected);
    }

    #[test]
    fn counts_sizes_and_labels_that_disagree_are_refused() {
        assert_eq!(refused(1, &idx(&[2], &[0, 1])), "number of labels: expected 3 as in images, got 2");
        assert_eq!(refused(3, &idx(&[2], &[0, 10])), "label: expected below 10, got 10 at item 1");
        assert_eq!(
            refused(0, &idx(&[3, 32, 28], &[0; 2688])),
            "image size: expected 28 × 28 pixels, got 32 × 28"
        );
        assert_eq!(refused(0, &idx(&[0, 28, 28], &[])), "number of images: expected at least 1, got 0");
    }

    #[test]
    fn names_parse_back() {
        for source in [DataSource::FashionMnist10k, DataSource::FashionMnist] {
            assert_eq!(source.to_string().parse::<DataSource>().unwrap(), source);
        }
        let error = "mnist".parse::<DataSource>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown data set: expected fashion-mnist-10k or fashion-mnist, got \"mnist\""
        );
    }
}
