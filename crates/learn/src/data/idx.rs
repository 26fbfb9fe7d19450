//! Reader of idx files: a magic that gives element type and dimensions, the sizes, the elements.
//!
//! Layout (all big-endian): `00 00 08 D`, D sizes of 4 bytes each, then their product of unsigned bytes.
//! Only elements of type 08, unsigned byte, are read.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::Error;

/// The most bytes a file may claim to hold: twenty times the largest file of the full set.
const MAX_BYTES: usize = 1 << 30;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A file, or bytes in memory, that should hold idx, gzipped or not.
pub(super) struct Source<'a> {
    /// Its name, for errors.
    pub(super) file: String,
    reader: Box<dyn BufRead + 'a>,
}

/// What an idx file of `D` dimensions holds.
pub(super) struct Idx<const D: usize> {
    /// Sizes of the dimensions, slowest first.
    pub(super) sizes: [usize; D],
    /// The elements, as many as the product of the sizes.
    pub(super) bytes: Vec<u8>,
}

impl<'a> Source<'a> {
    pub(super) fn embedded(file: String, bytes: &'a [u8]) -> Self {
        Self { file, reader: Box::new(bytes) }
    }

    /// Opens `name`.gz in `directory`, or if that is not there, `name`.
    pub(super) fn open(directory: &Path, name: &'static str) -> Result<Self, Error> {
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
        Err(Error::MissingData { file: name, directory: directory.to_owned() })
    }

    /// Reads the whole file. Whether it is gzipped is seen by its first bytes, not by its name, because
    /// downloads lose or keep the suffix as they like.
    pub(super) fn read<const D: usize>(self) -> Result<Idx<D>, Error> {
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
