//! A worker's checkpoint: what it needs to come back as the one that it was.
//!
//! Safetensors with two flat f32 tensors, `x` and `momentum`, and everything else in the metadata. There is no position
//! in the data: a batch is a function of seed, round and place, so the round is that position.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use signvote_election::{ChainHash, Incarnation, Layout, Round, RunId, Slot, hexadecimal};

use crate::{Error, replace_file};

/// The one key of the file's metadata; the model file says why.
const KEY: &str = "signvote-worker";
/// Floats that are converted to bytes at a time.
const BLOCK: usize = 16_384;

/// Where a worker stands in which run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The run.
    pub run: RunId,
    /// The worker's place.
    pub slot: Slot,
    /// Digest of the model's layout.
    pub layout: [u8; 32],
    /// The run's seed.
    pub seed: u64,
    /// Rounds committed: the next one to vote in, and the position in the data.
    pub round: Round,
    /// The server's incarnation in which they were.
    pub incarnation: Incarnation,
    /// Hash of the history that led here.
    pub chain: ChainHash,
}

/// A checkpoint as read from its file.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerCheckpoint {
    /// Where the worker stood.
    pub standing: Standing,
    /// d parameters after [`Standing::round`] rounds.
    pub x: Vec<f32>,
    /// Momentum of the gradients before that round: d coordinates, or none in a dense run.
    pub momentum: Vec<f32>,
}

/// The metadata, as text: JSON has no bytes, and no integers that every reader takes beyond 2⁵³.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Notes {
    run: String,
    slot: u16,
    layout: String,
    seed: String,
    round: String,
    incarnation: u32,
    chain: String,
    digest: String,
}

/// Writes a checkpoint, whole or not at all, from the parts where they lie. Equal arguments give equal bytes.
///
/// `x` holds the d parameters after `standing.round` rounds, `momentum` as many coordinates, or none in a dense run.
///
/// # Errors
/// If the lengths are others, or the disk is full or refuses.
pub fn save_checkpoint(path: &Path, standing: &Standing, x: &[f32], momentum: &[f32]) -> Result<(), Error> {
    let broken = |reason: String| Error::Checkpoint { path: path.to_owned(), reason };
    check_lengths(x.len(), momentum.len()).map_err(broken)?;
    let Standing { run, slot, layout, seed, round, incarnation, chain } = standing;
    let notes = Notes {
        run: run.to_string(),
        slot: slot.number(),
        layout: hexadecimal(layout),
        seed: seed.to_string(),
        round: round.to_string(),
        incarnation: incarnation.0,
        chain: hexadecimal(&chain.0),
        digest: hexadecimal(&digest(standing, x, momentum)),
    };
    let notes = serde_json::to_string(&notes).map_err(|error| broken(error.to_string()))?;
    let views = [("x", Floats::new(x)), ("momentum", Floats::new(momentum))];
    let file = safetensors::serialize(views, Some(HashMap::from([(KEY.to_owned(), notes)])))
        .map_err(|error| broken(error.to_string()))?;
    replace_file(path, |out| out.write_all(&file))
}

/// Reads a checkpoint that [`save_checkpoint`] wrote; `None` if there is no file.
///
/// # Errors
/// If the file cannot be read, is damaged in whatever byte, or of another kind.
pub fn load_checkpoint(path: &Path) -> Result<Option<WorkerCheckpoint>, Error> {
    let broken = |reason: String| Error::Checkpoint { path: path.to_owned(), reason };
    match std::fs::metadata(path) {
        // Reading a device may never end.
        Ok(metadata) if !metadata.is_file() => return Err(broken("it is no file".into())),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    }
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    parse(&bytes).map(Some).map_err(broken)
}

impl WorkerCheckpoint {
    /// Whether this is the checkpoint, read from `path`, of this place in this run, with this model.
    ///
    /// # Errors
    /// [`Error::Foreign`], which names the first thing that is another.
    pub fn fits(&self, path: &Path, run: RunId, seed: u64, slot: Slot, layout: &Layout) -> Result<(), Error> {
        let own = &self.standing;
        let short = |digest: &[u8; 32]| hexadecimal(&digest[..8]);
        let pairs = [
            ("run", run.to_string(), own.run.to_string()),
            ("place", slot.to_string(), own.slot.to_string()),
            ("model", short(&layout.digest()), short(&own.layout)),
            ("number of parameters", layout.dimension().to_string(), self.x.len().to_string()),
            ("seed", seed.to_string(), own.seed.to_string()),
        ];
        match pairs.into_iter().find(|(_, expected, got)| expected != got) {
            Some((what, expected, got)) => Err(Error::Foreign { path: path.to_owned(), what, expected, got }),
            None => Ok(()),
        }
    }
}

fn parse(bytes: &[u8]) -> Result<WorkerCheckpoint, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let notes = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
    let notes = notes.ok_or_else(|| format!("its header has no {KEY:?} entry"))?;
    let notes: Notes = serde_json::from_str(notes).map_err(|error| error.to_string())?;
    let [x, momentum] = ["x", "momentum"].map(|name| floats(&file, name));
    let (x, momentum) = (x?, momentum?);
    check_lengths(x.len(), momentum.len())?;
    let standing = Standing {
        run: notes.run.parse()?,
        slot: Slot::new(notes.slot).ok_or("places count from 1, it has 0")?,
        layout: bytes_of("layout", &notes.layout)?,
        seed: number("seed", &notes.seed)?,
        round: Round(number("round", &notes.round)?),
        incarnation: Incarnation(notes.incarnation),
        chain: ChainHash(bytes_of("chain", &notes.chain)?),
    };
    let expected = bytes_of("digest", &notes.digest)?;
    let got = digest(&standing, &x, &momentum);
    if expected != got {
        let [expected, got] = [expected, got].map(|digest| hexadecimal(&digest[..8]));
        return Err(format!("its digest should be {expected}, but is {got}"));
    }
    Ok(WorkerCheckpoint { standing, x, momentum })
}

fn check_lengths(parameters: usize, momentum: usize) -> Result<(), String> {
    match parameters {
        0 => Err("it has no parameters".into()),
        _ if momentum == 0 || momentum == parameters => Ok(()),
        _ => Err(format!("its momentum has {momentum} coordinates, expected {parameters}, or none")),
    }
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Result<Vec<f32>, String> {
    let view = file.tensor(name).map_err(|error| error.to_string())?;
    if view.dtype() != Dtype::F32 || view.shape().len() != 1 {
        let (dtype, shape) = (view.dtype(), view.shape());
        return Err(format!("{name} is {dtype:?} of shape {shape:?}, expected one row of f32"));
    }
    Ok(view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// BLAKE3, under a context of its own, of every value in the file: run ‖ slot ‖ layout ‖ seed ‖ round ‖ incarnation ‖
/// chain ‖ number of parameters ‖ number of coordinates of the momentum ‖ x ‖ momentum; numbers little-endian, the last
/// four before the floats u64.
fn digest(standing: &Standing, x: &[f32], momentum: &[f32]) -> [u8; 32] {
    let Standing { run, slot, layout, seed, round, incarnation, chain } = standing;
    let mut hasher = blake3::Hasher::new_derive_key("signvote 2026-11 worker checkpoint");
    hasher.update(&run.0).update(&slot.number().to_le_bytes()).update(layout).update(&seed.to_le_bytes());
    hasher.update(&round.0.to_le_bytes()).update(&incarnation.0.to_le_bytes()).update(&chain.0);
    for values in [x, momentum] {
        hasher.update(&(values.len() as u64).to_le_bytes());
    }
    for values in [x, momentum] {
        let mut block = Vec::with_capacity(BLOCK * 4);
        for values in values.chunks(BLOCK) {
            block.clear();
            block.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            hasher.update(&block);
        }
    }
    *hasher.finalize().as_bytes()
}

/// Floats that become bytes only when their turn to be written comes: one copy of the model at a time.
struct Floats<'a> {
    values: &'a [f32],
    shape: [usize; 1],
}

impl<'a> Floats<'a> {
    fn new(values: &'a [f32]) -> Self {
        Self { values, shape: [values.len()] }
    }
}

impl View for Floats<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    fn data_len(&self) -> usize {
        self.values.len() * 4
    }
}

pub(crate) fn bytes_of(what: &str, text: &str) -> Result<[u8; 32], String> {
    let wrong = || format!("its {what} should be 64 hexadecimal digits, but is {text:?}");
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
    }
    Ok(bytes)
}

fn number(what: &str, text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("its {what} should be a number, but is {text:?}"))
}

#[cfg(test)]
mod tests {
    use signvote_election::{Settings, TensorSpec};

    use super::*;

    fn layout(name: &str) -> Layout {
        Layout::new(vec![TensorSpec { name: name.into(), shape: vec![5] }]).unwrap()
    }

    fn example() -> WorkerCheckpoint {
        let standing = Standing {
            run: RunId(*b"0123456789abcdef"),
            slot: Slot::new(3).unwrap(),
            layout: layout("w").digest(),
            seed: u64::MAX,
            round: Round(12_345),
            incarnation: Incarnation(2),
            chain: ChainHash([0xa5; 32]),
        };
        let x = vec![1.0, -0.0, f32::MIN_POSITIVE / 2.0, f32::MAX, -7.25];
        WorkerCheckpoint { standing, x, momentum: vec![0.5, 0.0, -0.0, 1e-30, -2.0] }
    }

    fn save(path: &Path, checkpoint: &WorkerCheckpoint) -> Result<(), Error> {
        save_checkpoint(path, &checkpoint.standing, &checkpoint.x, &checkpoint.momentum)
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn a_checkpoint_reads_back_bit_for_bit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("worker.safetensors");
        assert_eq!(load_checkpoint(&path).unwrap(), None, "there is none yet");
        for momentum in [example().momentum, vec![]] {
            let written = WorkerCheckpoint { momentum, ..example() };
            save(&path, &written).unwrap();
            let back = load_checkpoint(&path).unwrap().unwrap();
            assert_eq!(back, written);
            assert_eq!((bits(&back.x), bits(&back.momentum)), (bits(&written.x), bits(&written.momentum)));
        }
    }

    #[test]
    fn a_checkpoint_takes_the_place_of_the_last_one_and_equal_ones_are_equal_files() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other] = ["a", "b"].map(|name| directory.path().join(name));
        let mut earlier = example();
        earlier.standing.round = Round(1);
        save(&one, &earlier).unwrap();
        save(&one, &example()).unwrap();
        save(&other, &example()).unwrap();
        assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&other).unwrap());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_fits_together_in_no_run_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("worker.safetensors");
        let nothing = WorkerCheckpoint { x: vec![], momentum: vec![], ..example() };
        let short = WorkerCheckpoint { momentum: vec![0.0; 4], ..example() };
        for (wrong, words) in [(nothing, "no parameters"), (short, "4 coordinates, expected 5")] {
            let error = save(&path, &wrong).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("worker.safetensors"), "{error}");
        }
        assert!(!path.exists());
    }

    #[test]
    fn every_truncation_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("worker.safetensors");
        save(&path, &example()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let error = load_checkpoint(&path).unwrap_err().to_string();
            assert!(error.contains("worker.safetensors") && error.contains("remove it"), "{length}: {error}");
        }
        std::fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
        assert!(load_checkpoint(&path).is_err(), "a byte too many");
    }

    #[test]
    fn no_damaged_byte_gives_a_wrong_number() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("worker.safetensors");
        save(&path, &example()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let floats = whole.len() - 4 * 10;
        for at in 0..whole.len() {
            for flipped in (0..8).map(|bit| 1 << bit).chain([0xff]) {
                let mut damaged = whole.clone();
                damaged[at] ^= flipped;
                // What the text of the header may be without meaning anything else, it may be here.
                match parse(&damaged) {
                    Ok(read) if at < floats => {
                        assert_eq!(read, example(), "byte {at} ^ {flipped:#x}");
                        assert_eq!(bits(&read.x), bits(&example().x));
                    }
                    outcome => assert!(outcome.is_err(), "byte {at} ^ {flipped:#x}"),
                }
            }
        }
    }

    #[test]
    fn files_of_another_kind_are_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        crate::save_model(
            &path,
            &layout("x"),
            &[0.0; 5],
            Round(3),
            &Default::default(),
            &Settings::default(),
        )
        .unwrap();
        let error = load_checkpoint(&path).unwrap_err().to_string();
        assert!(error.contains("model.safetensors") && error.contains("signvote-worker"), "{error}");
        // A header that says that it is 2⁶⁴ − 1 bytes long.
        for bytes in [&[0xff; 64][..], b"hello, this is no checkpoint"] {
            std::fs::write(&path, bytes).unwrap();
            assert!(matches!(load_checkpoint(&path), Err(Error::Checkpoint { .. })));
        }
        assert!(load_checkpoint(directory.path()).unwrap_err().to_string().contains("it is no file"));
    }

    #[test]
    fn the_checkpoint_of_another_run_place_or_model_is_refused_by_name() {
        let (path, own) = (Path::new("worker.safetensors"), example());
        let Standing { run, seed, .. } = own.standing;
        own.fits(path, run, seed, own.standing.slot, &layout("w")).unwrap();
        let refuse = |run: RunId, seed: u64, slot: u16, name: &str| {
            own.fits(path, run, seed, Slot::new(slot).unwrap(), &layout(name)).unwrap_err().to_string()
        };
        for (error, what) in [
            (
                refuse(RunId([0; 16]), seed, 3, "w"),
                "another run: expected 00000000000000000000000000000000, got 3031",
            ),
            (refuse(run, seed, 4, "w"), "another place: expected 4, got 3"),
            (refuse(run, seed, 3, "v"), "another model"),
            (refuse(run, 1, 3, "w"), "another seed: expected 1, got 18446744073709551615"),
        ] {
            assert!(error.contains(what) && error.contains("worker.safetensors"), "{error}");
        }
        let larger = WorkerCheckpoint { x: vec![0.0; 6], ..example() };
        let error = larger.fits(path, run, seed, own.standing.slot, &layout("w")).unwrap_err().to_string();
        assert!(error.contains("another number of parameters: expected 5, got 6"), "{error}");
    }
}
