//! Data sets: images with labels, and text.

mod cifar;
mod folder;
mod idx;
mod images;
mod text;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use self::folder::Folder;
pub use self::images::Scaling;
use self::images::{Augmentation, Images};
use self::text::Text;
use crate::{Batch, Error, Inputs, Shape};

/// A data set, chosen by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataSource {
    /// `fashion-mnist-10k`: the first 10,000 training and 2,000 test images of Fashion-MNIST, compiled into
    /// the program.
    #[default]
    FashionMnist10k,
    /// `fashion-mnist`: all 60,000 training and 10,000 test images, read from four idx files, gzipped or not.
    FashionMnist,
    /// `cifar-10`: 50,000 training and 10,000 test images of 32 × 32 pixels in ten classes, in the binary version's files. What
    /// is trained on is padded by 4 pixels, cropped at random and mirrored every other time.
    Cifar10,
    /// `cifar-100`: the same with a hundred classes.
    Cifar100,
    /// `imagenet`: a directory of JPEGs (or PNGs) for each class, in `train` and `val`; any classes. Decoded as they are needed.
    ImageNet,
    /// `shakespeare`: seven plays, byte by byte, compiled into the program.
    Shakespeare,
    /// `text`: `train.txt` and `valid.txt`, byte by byte.
    TextBytes,
    /// `wikitext-103`: `wiki.train.tokens` and `wiki.valid.tokens`, or other files of these names, word by word.
    WikiText103,
}

impl DataSource {
    /// Every data set.
    pub const ALL: [Self; 8] = [
        Self::FashionMnist10k,
        Self::FashionMnist,
        Self::Cifar10,
        Self::Cifar100,
        Self::ImageNet,
        Self::Shakespeare,
        Self::TextBytes,
        Self::WikiText103,
    ];

    /// Where the files are looked for unless a directory is named; `None` for what is in the program.
    pub fn usual_directory(self) -> Option<&'static str> {
        match self {
            Self::FashionMnist10k | Self::Shakespeare => None,
            // Where Debian's package puts it.
            Self::FashionMnist => Some("/usr/share/datasets/fashion-mnist"),
            // As the archives are called inside.
            Self::Cifar10 => Some("data/cifar-10-batches-bin"),
            Self::Cifar100 => Some("data/cifar-100-binary"),
            Self::ImageNet => Some("data/imagenet"),
            Self::TextBytes => Some("data/text"),
            Self::WikiText103 => Some("data/wikitext-103"),
        }
    }

    /// Where to get what is missing, and where to put it.
    fn remedy(self) -> &'static str {
        match self {
            Self::FashionMnist => {
                "run `apt-get install dataset-fashion-mnist`, or download the four files from \
                 https://github.com/zalandoresearch/fashion-mnist and pass --data-dir"
            }
            Self::Cifar10 => {
                "unpack https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz in data/, or pass --data-dir"
            }
            Self::Cifar100 => {
                "unpack https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz in data/, or pass --data-dir"
            }
            Self::ImageNet => {
                "get ILSVRC2012 from https://image-net.org, sort it into train/CLASS/*.JPEG and val/CLASS/*.JPEG, and pass \
                 --data-dir"
            }
            Self::WikiText103 => {
                "get WikiText-103 (word level), for instance from https://huggingface.co/datasets/Salesforce/wikitext, write it \
                 to wiki.train.tokens and wiki.valid.tokens, and pass --data-dir"
            }
            Self::TextBytes | Self::FashionMnist10k | Self::Shakespeare => {
                "write train.txt and valid.txt, and pass --data-dir with their directory"
            }
        }
    }

    /// Tokens in a window unless a number is given.
    fn usual_context(self) -> usize {
        if self == Self::WikiText103 { 140 } else { 64 }
    }

    fn missing(self, file: impl Into<String>, directory: &Path) -> Error {
        let (file, directory) = (file.into(), directory.to_owned());
        Error::MissingData { data: self.to_string(), file, directory, remedy: self.remedy() }
    }
}

impl fmt::Display for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::FashionMnist10k => "fashion-mnist-10k",
            Self::FashionMnist => "fashion-mnist",
            Self::Cifar10 => "cifar-10",
            Self::Cifar100 => "cifar-100",
            Self::ImageNet => "imagenet",
            Self::Shakespeare => "shakespeare",
            Self::TextBytes => "text",
            Self::WikiText103 => "wikitext-103",
        })
    }
}

impl FromStr for DataSource {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|source| source.to_string() == name).ok_or_else(|| Error::UnknownName {
            kind: "data set",
            expected: "fashion-mnist-10k, fashion-mnist, cifar-10, cifar-100, imagenet, shakespeare, text or wikitext-103",
            got: name.to_owned(),
        })
    }
}

/// What is to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The data set.
    pub source: DataSource,
    /// Where its files are; `None` for [`DataSource::usual_directory`]. Not looked at where the program has them.
    pub directory: Option<PathBuf>,
    /// Tokens in a window of text; `None` for 64, or 140 of WikiText-103. Not looked at for images.
    pub context: Option<usize>,
}

impl From<DataSource> for Wanted {
    fn from(source: DataSource) -> Self {
        Self { source, ..Self::default() }
    }
}

/// Reads a data set.
///
/// # Errors
/// [`Error::MissingData`] when a file is not there, which says how to get it; [`Error::Read`] when it cannot
/// be read; [`Error::Malformed`] when it does not hold what its format demands, is cut short or followed by other bytes, or
/// disagrees with its companion; [`Error::Misuse`] when windows of text are empty, or longer than the text.
pub fn load(wanted: &Wanted) -> Result<Split, Error> {
    let source = wanted.source;
    let directory = wanted.directory.as_deref().or(source.usual_directory().map(Path::new));
    let directory = directory.unwrap_or(Path::new(""));
    let context = wanted.context.unwrap_or(source.usual_context());
    let missing = |file: &str| source.missing(file, directory);
    match source {
        DataSource::FashionMnist10k => idx::embedded(),
        DataSource::FashionMnist => idx::read(directory, &missing),
        DataSource::Cifar10 => cifar::read(directory, &cifar::TEN, &missing),
        DataSource::Cifar100 => cifar::read(directory, &cifar::HUNDRED, &missing),
        DataSource::ImageNet => folder::read(directory, &missing),
        DataSource::Shakespeare => text::embedded(context),
        DataSource::TextBytes => text::bytes(directory, context, &missing),
        DataSource::WikiText103 => text::words(directory, context, &missing),
    }
}

/// Makes the error of a missing file.
type Missing<'a> = &'a dyn Fn(&str) -> Error;

/// Training and test set.
#[derive(Clone, Debug)]
pub struct Split {
    /// What is trained on.
    pub train: Dataset,
    /// What accuracy is measured on.
    pub test: Dataset,
}

/// A batch that owns its memory, which the next one reuses.
#[derive(Clone, Debug, Default)]
pub struct Examples {
    /// Of images: all pixels, scaled; one example after the other, each as channels of rows.
    pub pixels: Vec<f32>,
    /// Of text: all tokens.
    pub tokens: Vec<u32>,
    /// What is to be predicted.
    pub labels: Vec<u32>,
    /// Of the randomness of this batch.
    pub seed: u64,
}

impl Examples {
    /// The batch.
    pub fn batch(&self) -> Batch<'_> {
        let inputs =
            if self.tokens.is_empty() { Inputs::Pixels(&self.pixels) } else { Inputs::Tokens(&self.tokens) };
        Batch { inputs, labels: &self.labels, seed: self.seed }
    }
}

/// Examples of one shape. Cheap to clone: clones share what they hold.
#[derive(Clone)]
pub struct Dataset {
    content: Content,
    labels: Arc<[u16]>,
    shape: Shape,
}

#[derive(Clone)]
enum Content {
    Images(Arc<Images>),
    Folder(Arc<Folder>),
    Text(Arc<Text>),
}

impl Dataset {
    /// A data set of `labels.len()` grey images of `size` = [rows, columns] pixels, one after the other in
    /// row-major order, whose labels are below `classes`.
    ///
    /// # Errors
    /// [`Error::Misuse`] when there is no image, the number of bytes is not the labels' × rows × columns, or
    /// a label is not below `classes`.
    pub fn grey(
        images: Vec<u8>,
        labels: Vec<u16>,
        size: [usize; 2],
        classes: usize,
        scaling: Scaling,
    ) -> Result<Self, Error> {
        let shape = Shape::Images { channels: 1, rows: size[0], columns: size[1], classes };
        Self::images(images, labels, shape, &[scaling], None)
    }

    fn images(
        bytes: Vec<u8>,
        labels: Vec<u16>,
        shape: Shape,
        scaling: &[Scaling],
        augmentation: Option<Augmentation>,
    ) -> Result<Self, Error> {
        if let Some(&label) = labels.iter().find(|&&label| usize::from(label) >= shape.classes()) {
            return Err(Error::misuse("label", format!("below {}", shape.classes()), label));
        }
        let images = Images::new(bytes, labels.len(), shape, scaling, augmentation)?;
        Ok(Self { content: Content::Images(Arc::new(images)), labels: labels.into(), shape })
    }

    /// Number of examples: images, or windows of text; at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a data set is never empty")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// What an example is.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The label of every image. A window of text is labelled by the tenth of the text that it is from, so that workers may
    /// be given different parts ([`Partition::ByLabel`](crate::Partition::ByLabel)).
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// Whether it takes long to make a batch: whether it is worth making it ahead.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self.content, Content::Folder(_))
    }

    /// Makes `examples` those at `indices`, scaled; an index may come more than once. With a seed they are as they are trained
    /// on: cropped and mirrored at random where the data set is, a function of seed and place in the batch. Without one they
    /// are as they are tested on.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::Malformed`] where a file cannot be read or decoded, which names it. Only a directory of
    /// images is read here.
    ///
    /// # Panics
    /// When an index is not below [`Dataset::len`].
    pub fn fill(&self, indices: &[usize], seed: Option<u64>, examples: &mut Examples) -> Result<(), Error> {
        let Examples { pixels, tokens, labels, seed: of_batch } = examples;
        pixels.clear();
        tokens.clear();
        labels.clear();
        *of_batch = seed.unwrap_or(0);
        if !matches!(self.content, Content::Text(_)) {
            labels.extend(indices.iter().map(|&index| u32::from(self.labels[index])));
        }
        match &self.content {
            Content::Images(images) => images.fill(indices, seed, pixels),
            Content::Folder(folder) => return folder.fill(indices, seed, pixels),
            Content::Text(text) => text.fill(indices, tokens, labels),
        }
        Ok(())
    }

    /// What tokens mean; `None` for images.
    pub fn spell(&self, tokens: &[u32]) -> Option<String> {
        match &self.content {
            Content::Text(text) => Some(text.spell(tokens)),
            _ => None,
        }
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("len", &self.len())
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::idx::FILES;
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

    fn full(directory: &tempfile::TempDir) -> Wanted {
        Wanted { directory: Some(directory.path().into()), ..DataSource::FashionMnist.into() }
    }

    fn gz(directory: &tempfile::TempDir, file: usize) -> PathBuf {
        directory.path().join(format!("{}.gz", FILES[file]))
    }

    /// The error of loading a set whose file number `file` holds `bytes`, less the path in it.
    fn refused(file: usize, bytes: &[u8]) -> String {
        let directory = directory();
        let path = gz(&directory, file);
        fs::write(&path, bytes).unwrap();
        let error = load(&full(&directory)).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
        let prefix = format!("malformed data file {}: ", path.display());
        let images = format!(" as in {}", gz(&directory, file & !1).display());
        error.to_string().strip_prefix(&prefix).unwrap().replace(&images, " as in images")
    }

    #[test]
    fn the_embedded_set_is_the_start_of_fashion_mnist() {
        let split = load(&DataSource::default().into()).unwrap();
        assert_eq!((split.train.len(), split.test.len()), (10_000, 2_000));
        assert_eq!(split.train.shape(), Shape::FASHION_MNIST);
        assert_eq!(split.train.labels()[..10], [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]);
        assert_eq!(split.test.labels()[..10], [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]);
        for class in 0..10 {
            let count = split.train.labels().iter().filter(|&&label| label == class).count();
            assert!((900..1100).contains(&count), "{class}: {count}");
        }
    }

    #[test]
    fn pixels_are_scaled_to_mean_zero_and_deviation_one() {
        let split = load(&DataSource::default().into()).unwrap();
        let mut examples = Examples { pixels: vec![3.0; 5], labels: vec![1; 5], ..Examples::default() };
        split.train.fill(&(0..10_000).collect::<Vec<_>>(), Some(1), &mut examples).unwrap();
        let images = examples.pixels;
        assert_eq!((images.len(), examples.labels.len()), (7_840_000, 10_000));
        let count = images.len() as f64;
        let mean = images.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let variance = images.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
        assert!(mean.abs() < 0.01 && (variance.sqrt() - 1.0).abs() < 0.01, "{mean} {variance}");
    }

    #[test]
    fn a_batch_holds_the_images_at_its_indices_in_their_order() {
        let scaling = Scaling { mean: 0.5, standard_deviation: 0.5 };
        let data = Dataset::grey(vec![0, 255, 51, 102], vec![1, 0], [1, 2], 2, scaling).unwrap();
        let mut examples = Examples::default();
        data.fill(&[1, 0, 1], None, &mut examples).unwrap();
        assert_eq!(examples.labels, [0, 1, 0]);
        let images = &examples.pixels;
        let expected = [-0.6, -0.2, -1.0, 1.0, -0.6, -0.2];
        assert!(images.iter().zip(expected).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{images:?}");
    }

    #[test]
    fn a_data_set_whose_counts_disagree_is_refused() {
        let new = |images: &[u8], labels: &[u16], size| {
            Dataset::grey(images.to_vec(), labels.to_vec(), size, 3, Scaling::FASHION_MNIST)
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
        let labels = || load(&full(&directory)).unwrap().train.labels.to_vec();
        assert_eq!(labels(), [0, 9, 4]);
        fs::remove_file(path).unwrap();
        assert_eq!(labels(), [5, 5, 5]);
    }

    #[test]
    fn a_missing_file_is_named_with_the_place_and_the_remedy_on_one_line() {
        let directory = directory();
        fs::remove_file(gz(&directory, 2)).unwrap();
        let error = load(&full(&directory)).unwrap_err();
        assert!(matches!(error, Error::MissingData { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            format!(
                "fashion-mnist: file t10k-images-idx3-ubyte.gz (or t10k-images-idx3-ubyte) not found in {}: run \
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
        let error = load(&full(&directory)).unwrap_err();
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

    fn wanted(source: DataSource, directory: &tempfile::TempDir) -> Wanted {
        Wanted { directory: Some(directory.path().into()), ..source.into() }
    }

    /// Records of CIFAR: the labels, and pixels that count up from the label.
    fn records(labels: &[&[u8]]) -> Vec<u8> {
        let record = |labels: &&[u8]| {
            let first = labels[labels.len() - 1];
            labels
                .iter()
                .copied()
                .chain((0..3072_u32).map(move |at| (at % 251) as u8 ^ first))
                .collect::<Vec<_>>()
        };
        labels.iter().flat_map(record).collect()
    }

    fn cifar_10() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for number in 1..=5 {
            let bytes = records(&[&[number], &[9]]);
            fs::write(directory.path().join(format!("data_batch_{number}.bin")), bytes).unwrap();
        }
        fs::write(directory.path().join("test_batch.bin"), records(&[&[3]])).unwrap();
        directory
    }

    #[test]
    fn cifar_is_read_and_cropped_and_mirrored_in_training_alone() {
        let directory = cifar_10();
        let Split { train, test } = load(&wanted(DataSource::Cifar10, &directory)).unwrap();
        assert_eq!(train.labels(), [1, 9, 2, 9, 3, 9, 4, 9, 5, 9]);
        let Shape::Images { channels: 3, rows: 32, columns: 32, classes: 10 } = test.shape() else {
            panic!()
        };
        let mut plain = Examples::default();
        test.fill(&[0], None, &mut plain).unwrap();
        let level = |byte: u8| (f32::from(byte) / 255.0 - 0.4914) / 0.2470;
        assert_eq!(plain.pixels[..3], [level(3), level(1 ^ 3), level(2 ^ 3)]);

        let mut known = Examples::default();
        train.fill(&[2], None, &mut known).unwrap();
        let (mut moved, mut mirrored, mut black) = (0, 0, 0);
        for seed in 0..200 {
            let mut examples = Examples::default();
            train.fill(&[2], Some(seed), &mut examples).unwrap();
            let again = examples.clone();
            train.fill(&[2], Some(seed), &mut examples).unwrap();
            assert_eq!(examples.pixels, again.pixels, "a function of the seed");
            moved += usize::from(examples.pixels != known.pixels);
            // The middle of a row, which no crop loses, rises to the right unless it is mirrored.
            let row = &examples.pixels[16 * 32 + 8..16 * 32 + 24];
            mirrored += usize::from(row.windows(2).filter(|pair| pair[0] > pair[1]).count() > 8);
            black += usize::from(examples.pixels[0] == level(0));
        }
        assert!(moved > 190 && (70..130).contains(&mirrored), "{moved} {mirrored}");
        assert!((60..180).contains(&black), "{black}");
    }

    #[test]
    fn cifar_100_takes_the_second_label() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["train.bin", "test.bin"] {
            fs::write(directory.path().join(name), records(&[&[7, 99], &[1, 0]])).unwrap();
        }
        let split = load(&wanted(DataSource::Cifar100, &directory)).unwrap();
        assert_eq!((split.train.labels(), split.train.shape().classes()), (&[99, 0][..], 100));
    }

    #[test]
    fn broken_files_of_cifar_are_refused_by_name() {
        let directory = cifar_10();
        let refuse = |name: &str, bytes: &[u8]| {
            let path = directory.path().join(name);
            let before = fs::read(&path).unwrap();
            fs::write(&path, bytes).unwrap();
            let error = load(&wanted(DataSource::Cifar10, &directory)).unwrap_err().to_string();
            fs::write(&path, before).unwrap();
            assert!(error.contains(name), "{error}");
            error
        };
        let error = refuse("data_batch_3.bin", &records(&[&[3]])[1..]);
        assert!(error.ends_with("size: expected records of 3073 bytes, got 3072 bytes"), "{error}");
        assert!(refuse("test_batch.bin", &[]).ends_with("got 0 bytes"));
        let error = refuse("test_batch.bin", &records(&[&[1], &[10]]));
        assert!(error.ends_with("label: expected below 10, got 10 in record 1"), "{error}");
        fs::remove_file(directory.path().join("data_batch_2.bin")).unwrap();
        let error = load(&wanted(DataSource::Cifar10, &directory)).unwrap_err().to_string();
        assert!(error.starts_with("cifar-10: file data_batch_2.bin not found in "), "{error}");
        assert!(error.contains("cifar-10-binary.tar.gz"), "{error}");
    }

    /// An image whose left half is one colour and whose right half another.
    fn image(left: [u8; 3], right: [u8; 3], size: [u32; 2]) -> image::DynamicImage {
        let pixel = |x, _| image::Rgb(if 2 * x < size[0] { left } else { right });
        image::RgbImage::from_fn(size[0], size[1], pixel).into()
    }

    fn imagenet() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (part, class, name) in [
            ("train", "n01", "b.JPEG"),
            ("train", "n01", "a.JPEG"),
            ("train", "n02", "c.jpg"),
            ("val", "n01", "d.JPEG"),
            ("val", "n02", "e.JPEG"),
        ] {
            let place = directory.path().join(part).join(class);
            fs::create_dir_all(&place).unwrap();
            let [left, right] = if class == "n01" { [[255, 0, 0], [0, 0, 255]] } else { [[0, 255, 0]; 2] };
            image(left, right, [512, 256])
                .save_with_format(place.join(name), image::ImageFormat::Jpeg)
                .unwrap();
        }
        directory
    }

    #[test]
    fn folders_of_images_are_classes_in_order_and_decoded_when_needed() {
        let directory = imagenet();
        let Split { train, test } = load(&wanted(DataSource::ImageNet, &directory)).unwrap();
        assert_eq!((train.labels(), test.labels()), (&[0, 0, 1][..], &[0, 1][..]));
        assert_eq!(train.shape(), Shape::Images { channels: 3, rows: 224, columns: 224, classes: 2 });
        let mut examples = Examples::default();
        test.fill(&[1, 0], None, &mut examples).unwrap();
        assert_eq!(examples.labels, [1, 0]);
        // The centre of the second: red on the left, blue on the right, by what JPEG makes of them.
        let at = |channel: usize, column| {
            examples.pixels[3 * 224 * 224 + channel * 224 * 224 + 100 * 224 + column]
        };
        let near = |value: f32, byte: f32, mean: f32, deviation: f32| {
            assert!((value - (byte / 255.0 - mean) / deviation).abs() < 0.1, "{value}");
        };
        for column in [0, 100] {
            near(at(0, column), 255.0, 0.485, 0.229);
            near(at(2, column), 0.0, 0.406, 0.225);
            near(at(2, 223 - column), 255.0, 0.406, 0.225);
        }
        // In training some have one half alone, some are mirrored, and all are functions of the seed.
        let mut firsts = Vec::new();
        for seed in 0..40 {
            train.fill(&[0], Some(seed), &mut examples).unwrap();
            firsts.push((examples.pixels[0] > 0.0, examples.pixels[223] > 0.0));
        }
        for kind in [(true, false), (false, true), (true, true), (false, false)] {
            assert!(firsts.contains(&kind), "{kind:?} of {firsts:?}");
        }
        let one = examples.pixels.clone();
        train.fill(&[0], Some(39), &mut examples).unwrap();
        assert!(one == examples.pixels);
    }

    #[test]
    fn what_is_wrong_in_a_folder_is_named() {
        let directory = imagenet();
        let load = || load(&wanted(DataSource::ImageNet, &directory));
        let broken = directory.path().join("train/n01/a.JPEG");
        let whole = fs::read(&broken).unwrap();
        fs::write(&broken, &whole[..100]).unwrap();
        let split = load().unwrap();
        let error = split.train.fill(&[1, 0], Some(1), &mut Examples::default()).unwrap_err().to_string();
        assert!(error.contains("a.JPEG: image: expected a whole JPEG or PNG, got "), "{error}");
        // A PNG by another name, as ImageNet has one.
        let format = image::ImageFormat::Png;
        image([0; 3], [9; 3], [30, 20]).save_with_format(&broken, format).unwrap();
        split.train.fill(&[0], Some(1), &mut Examples::default()).unwrap();

        fs::create_dir(directory.path().join("train/n03")).unwrap();
        let error = load().unwrap_err().to_string();
        assert!(
            error.ends_with("class: expected at least one .JPEG, .jpg or .png, got none in n03"),
            "{error}"
        );
        fs::remove_dir(directory.path().join("train/n03")).unwrap();
        fs::create_dir(directory.path().join("val/n09")).unwrap();
        let error = load().unwrap_err().to_string();
        assert!(error.ends_with("classes: expected those of train, got n09 as well"), "{error}");
        fs::remove_dir_all(directory.path().join("val")).unwrap();
        let error = load().unwrap_err().to_string();
        assert!(error.starts_with("imagenet: file val/CLASS/*.JPEG not found in "), "{error}");
    }

    #[test]
    fn windows_of_text_predict_each_the_next_token() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("train.txt"), "abcdefghij").unwrap();
        fs::write(directory.path().join("valid.txt"), "abcd").unwrap();
        let text = |context| {
            let wanted = Wanted { context: Some(context), ..wanted(DataSource::TextBytes, &directory) };
            load(&wanted)
        };
        let train = text(3).unwrap().train;
        assert_eq!((train.len(), train.shape()), (3, Shape::Tokens { length: 3, vocabulary: 256 }));
        let mut examples = Examples::default();
        train.fill(&[2, 0], Some(5), &mut examples).unwrap();
        assert_eq!(train.spell(&examples.tokens).unwrap(), "ghiabc");
        assert_eq!(train.spell(&examples.labels).unwrap(), "hijbcd");
        let error = text(4).unwrap_err().to_string();
        assert!(error.contains("tokens in a window: expected from 1 to 3"), "{error}");
        let split = load(&DataSource::Shakespeare.into()).unwrap();
        assert_eq!((split.train.len(), split.test.len()), (12_868, 1_814));
        assert_eq!(
            Vec::from_iter(split.train.labels().iter().step_by(1_287)),
            Vec::from_iter(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
        );
    }

    #[test]
    fn words_are_numbered_by_how_often_training_has_them() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("wiki.train.tokens"), " = Title = \n \n b a b . \n b c c \n")
            .unwrap();
        fs::write(directory.path().join("wiki.valid.tokens"), "b zebra c\n").unwrap();
        let wanted = Wanted { context: Some(3), ..wanted(DataSource::WikiText103, &directory) };
        let Split { train, test } = load(&wanted).unwrap();
        // <eos> and b three times, then = and c, then the rest by its bytes, and <unk> last, which was never there.
        let mut examples = Examples::default();
        train.fill(&[0], None, &mut examples).unwrap();
        assert_eq!((&examples.tokens[..], &examples.labels[..]), (&[2, 5, 2][..], &[5, 2, 0][..]));
        assert_eq!(train.shape(), Shape::Tokens { length: 3, vocabulary: 8 });
        test.fill(&[0], None, &mut examples).unwrap();
        assert_eq!((&examples.tokens[..], &examples.labels[..]), (&[1, 7, 3][..], &[7, 3, 0][..]));
        assert_eq!(test.spell(&[1, 7, 0]).unwrap(), "b <unk> \n");
        fs::write(directory.path().join("wiki.valid.tokens"), b"b \xff").unwrap();
        let error = load(&wanted).unwrap_err().to_string();
        assert!(error.ends_with("wiki.valid.tokens: text: expected UTF-8, got other bytes at 2"), "{error}");
    }

    #[test]
    fn names_parse_back() {
        for source in DataSource::ALL {
            assert_eq!(source.to_string().parse::<DataSource>().unwrap(), source);
        }
        let error = "mnist".parse::<DataSource>().unwrap_err().to_string();
        assert!(
            error.starts_with("unknown data set: expected fashion-mnist-10k, fashion-mnist, "),
            "{error}"
        );
    }
}
