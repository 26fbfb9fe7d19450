//! Fashion-MNIST, and the reader of idx files: a magic that gives element type and dimensions, the sizes, the elements.
//!
//! Layout (all big-endian): `00 00 08 D`, D sizes of 4 bytes each, then their product of unsigned bytes.
//! Only elements of type 08, unsigned byte, are read.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::{Dataset, Missing, Scaling, Split};
use crate::{Error, Shape};

const CLASSES: usize = 10;

const IMAGE_SIZE: [usize; 2] = [28, 28];

/// The files of the full set, without `.gz`.
pub(super) const FILES: [&str; 4] = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
];

/// The same files of the subset.
const EMBEDDED: [&[u8]; 4] = [
    include_bytes!("../../../../data/fashion-mnist-10k/train-images-idx3-ubyte.gz"),
    include_bytes!("../../../../data/fashion-mnist-10k/train-labels-idx1-ubyte.gz"),
    include_bytes!("../../../../data/fashion-mnist-10k/t10k-images-idx3-ubyte.gz"),
    include_bytes!("../../../../data/fashion-mnist-10k/t10k-labels-idx1-ubyte.gz"),
];

/// The subset that the program carries.
pub(super) fn embedded() -> Result<Split, Error> {
    split([0, 1, 2, 3].map(|i| Source::embedded(format!("{}.gz (embedded)", FILES[i]), EMBEDDED[i])))
}

/// The full set: four files in `directory`, gzipped (`train-images-idx3-ubyte.gz`, …) or not.
pub(super) fn read(directory: &Path, missing: Missing<'_>) -> Result<Split, Error> {
    let open = |name| Source::open(directory, name, missing);
    // All four are opened before any is read: a missing one is reported at once.
    split([open(FILES[0])?, open(FILES[1])?, open(FILES[2])?, open(FILES[3])?])
}

fn split([train_images, train_labels, test_images, test_labels]: [Source<'_>; 4]) -> Result<Split, Error> {
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
    let labels = labels.bytes.into_iter().map(u16::from).collect();
    Dataset::images(images.bytes, labels, Shape::FASHION_MNIST, &[Scaling::FASHION_MNIST], None)
}

/// The most bytes a file may claim to hold: twenty times the largest file of the full set.
const MAX_BYTES: usize = 1 << 30;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A file, or bytes in memory, that should hold idx, gzipped or not.
struct Source<'a> {
    /// Its name, for errors.
    file: String,
    reader: Box<dyn BufRead + 'a>,
}

/// What an idx file of `D` dimensions holds.
struct Idx<const D: usize> {
    /// Sizes of the dimensions, slowest first.
    sizes: [usize; D],
    /// The elements, as many as the product of the sizes.
    bytes: Vec<u8>,
}

impl<'a> Source<'a> {
    fn embedded(file: String, bytes: &'a [u8]) -> Self {
        Self { file, reader: Box::new(bytes) }
    }

    /// Opens `name`.gz in `directory`, or if that is not there, `name`.
    fn open(directory: &Path, name: &str, missing: Missing<'_>) -> Result<Self, Error> {
        for path in [directory.join(format!("{name}.gz")), directory.join(name)] {
            match File::open(&path) {
                Ok(file) => {
                    let reader = Box::new(BufReader::new(file));
                    return Ok(Self { file: path.display().to_string(), reader });
                }
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(source) => return Err(Error::Read { path, source }),
            }
        }
        Err(missing(&format!("{name}.gz (or {name})")))
    }

    /// Reads the whole file. Whether it is gzipped is seen by its first bytes, not by its name, because
    /// downloads lose or keep the suffix as they like.
    fn read<const D: usize>(self) -> Result<Idx<D>, Error> {
        let Self { file, mut reader } = self;
        let start = reader.fill_buf().map_err(|error| read_error(&file, error))?;
        if start.starts_with(&GZIP_MAGIC) {
            parse(&file, &mut MultiGzDecoder::new(reader))
        } else {
            parse(&file, &mut reader)
        }
    }
}

fn parse<const D: usize>(file: &str, reader: &mut dyn Read) -> Result<Idx<D>, Error> {
    let malformed = |what, expected, got| Error::Malformed { file: file.to_owned(), what, expected, got };

    let header_bytes = 4 + 4 * D;
    let header = read_at_most(file, reader, header_bytes)?;
    if let Some(magic) = header.first_chunk::<4>().map(|&bytes| u32::from_be_bytes(bytes)) {
        let expected = 0x0800 | D as u32;
        if magic != expected {
            return Err(malformed("magic", format!("{expected:#010x}"), format!("{magic:#010x}")));
        }
    }
    if header.len() < header_bytes {
        return Err(malformed("header", format!("{header_bytes} bytes"), header.len().to_string()));
    }

    let mut sizes = [0; D];
    for (size, bytes) in sizes.iter_mut().zip(header[4..].as_chunks::<4>().0) {
        *size = u32::from_be_bytes(*bytes) as usize;
    }
    let length = sizes.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    let Some(length) = length.filter(|&length| length <= MAX_BYTES) else {
        let got = sizes.map(|size| size.to_string()).join(" × ");
        return Err(malformed("size", format!("at most {MAX_BYTES} bytes"), got));
    };

    // One byte more than there should be, so that trailing ones are seen.
    let bytes = read_at_most(file, reader, length + 1)?;
    if bytes.len() != length {
        let got = if bytes.len() > length { "more".to_owned() } else { bytes.len().to_string() };
        return Err(malformed("data", format!("{length} bytes"), got));
    }
    Ok(Idx { sizes, bytes })
}

/// The next `limit` bytes, or all there are. The buffer grows with what is read, never with what is claimed.
fn read_at_most(file: &str, reader: &mut dyn Read, limit: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    reader.take(limit as u64).read_to_end(&mut bytes).map_err(|error| read_error(file, error))?;
    Ok(bytes)
}

/// The decompressor reports broken streams by these kinds; all others are the file system's.
fn read_error(file: &str, error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput => Error::Malformed {
            file: file.to_owned(),
            what: "gzip stream",
            expected: "a whole one".to_owned(),
            got: error.to_string(),
        },
        _ => Error::Read { path: file.into(), source: error },
    }
}
