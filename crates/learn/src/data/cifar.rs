//! CIFAR-10 and CIFAR-100 (Krizhevsky 2009), binary version: records of labels and 3 × 32 × 32 bytes, a plane for each colour.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::{Augmentation, Dataset, Missing, Scaling, Split};
use crate::{Error, Shape};

const PIXELS: usize = 3 * 32 * 32;

/// What one of the two sets has of its own.
pub(super) struct Kind {
    train: &'static [&'static str],
    test: &'static [&'static str],
    classes: usize,
    /// Bytes before the pixels, of which the last is the label. CIFAR-100 has that of the superclass before it.
    labels: usize,
    /// Means and standard deviations of the training set, as is customary.
    scaling: [(f32, f32); 3],
}

pub(super) const TEN: Kind = Kind {
    train: &[
        "data_batch_1.bin",
        "data_batch_2.bin",
        "data_batch_3.bin",
        "data_batch_4.bin",
        "data_batch_5.bin",
    ],
    test: &["test_batch.bin"],
    classes: 10,
    labels: 1,
    scaling: [(0.4914, 0.2470), (0.4822, 0.2435), (0.4465, 0.2616)],
};

pub(super) const HUNDRED: Kind = Kind {
    train: &["train.bin"],
    test: &["test.bin"],
    classes: 100,
    labels: 2,
    scaling: [(0.5071, 0.2673), (0.4865, 0.2564), (0.4409, 0.2762)],
};

pub(super) fn read(directory: &Path, kind: &Kind, missing: Missing<'_>) -> Result<Split, Error> {
    let absent = kind.train.iter().chain(kind.test).find(|name| !directory.join(name).exists());
    if let Some(name) = absent {
        return Err(missing(name));
    }
    // Padding by 4 pixels: He et al. 2016, section 4.2.
    let train = read_files(directory, kind, kind.train, Some(Augmentation { padding: 4 }))?;
    Ok(Split { train, test: read_files(directory, kind, kind.test, None)? })
}

fn read_files(
    directory: &Path,
    kind: &Kind,
    names: &[&str],
    augmentation: Option<Augmentation>,
) -> Result<Dataset, Error> {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    let record = kind.labels + PIXELS;
    for name in names {
        let path = directory.join(name);
        let malformed = |what, expected: String, got: String| Error::Malformed {
            file: path.display().to_string(),
            what,
            expected,
            got,
        };
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            ErrorKind::OutOfMemory => malformed("size", "a file that fits into memory".into(), "more".into()),
            _ => Error::Read { path: path.clone(), source },
        })?;
        if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
            return Err(malformed(
                "size",
                format!("records of {record} bytes"),
                format!("{} bytes", bytes.len()),
            ));
        }
        for (number, record) in bytes.chunks_exact(record).enumerate() {
            let label = record[kind.labels - 1];
            if usize::from(label) >= kind.classes {
                let got = format!("{label} in record {number}");
                return Err(malformed("label", format!("below {}", kind.classes), got));
            }
            labels.push(u16::from(label));
            pixels.extend_from_slice(&record[kind.labels..]);
        }
    }
    let shape = Shape::Images { channels: 3, rows: 32, columns: 32, classes: kind.classes };
    let scaling = kind.scaling.map(|(mean, standard_deviation)| Scaling { mean, standard_deviation });
    Dataset::images(pixels, labels, shape, &scaling, augmentation)
}
