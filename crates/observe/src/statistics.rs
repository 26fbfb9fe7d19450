//! The running statistics of a run's final model, of which the workers have sent each their own.

use std::path::Path;

use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use signvote_election::{Digest, Statistics, TensorSpec, hexadecimal};

use crate::Error;
use crate::checkpoint::bytes_of;
use crate::model::{append, write};

/// The one key of the file's metadata; the model file says why.
const KEY: &str = "signvote-statistics";
/// The one tensor, flat: its order is the model's own.
const TENSOR: &str = "statistics";

#[derive(Serialize, Deserialize)]
struct Notes {
    /// Of the parameters that they belong to.
    digest: String,
    workers: usize,
}

/// Writes statistics, whole or not at all. Equal arguments give equal bytes.
///
/// # Errors
/// If the disk is full or refuses.
pub fn save_statistics(path: &Path, statistics: &Statistics) -> Result<(), Error> {
    let Statistics { values, workers, digest } = statistics;
    let notes = Notes { digest: hexadecimal(&digest.0), workers: *workers };
    let notes = serde_json::to_string(&notes)
        .map_err(|error| Error::Malformed { path: path.to_owned(), reason: error.to_string() })?;
    let tensor = TensorSpec { name: TENSOR.into(), shape: vec![values.len()] };
    write(path, &[tensor], values, (KEY, notes))
}

/// Reads statistics that [`save_statistics`] wrote; `None` if there is no file.
///
/// # Errors
/// If the file cannot be read, is torn, or of another kind.
pub fn load_statistics(path: &Path) -> Result<Option<Statistics>, Error> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    parse(&bytes).map(Some).map_err(|reason| Error::Malformed { path: path.to_owned(), reason })
}

fn parse(bytes: &[u8]) -> Result<Statistics, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let notes = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
    let notes = notes.ok_or_else(|| format!("its header has no \"{KEY}\" entry"))?;
    let Notes { digest, workers } = serde_json::from_str(notes).map_err(|error| error.to_string())?;
    let view = file.tensor(TENSOR).map_err(|_| format!("it has no tensor {TENSOR}"))?;
    let mut values = Vec::new();
    append(&mut values, TENSOR, &view)?;
    Ok(Statistics { values, workers, digest: Digest(bytes_of("digest", &digest)?) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_read_back_and_damage_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("statistics.safetensors");
        assert_eq!(load_statistics(&path).unwrap(), None);
        let statistics = Statistics { values: vec![0.5, -0.0, 3.25], workers: 7, digest: Digest([9; 32]) };
        save_statistics(&path, &statistics).unwrap();
        assert_eq!(load_statistics(&path).unwrap(), Some(statistics));
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let error = load_statistics(&path).unwrap_err().to_string();
        assert!(error.contains("statistics.safetensors"), "{error}");
        std::fs::write(&path, "x").unwrap();
        load_statistics(&path).unwrap_err();
    }
}
