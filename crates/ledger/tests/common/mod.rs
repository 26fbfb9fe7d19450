//! A small run, and what the tests ask about its files.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "not every test file asks everything")]

use std::path::{Path, PathBuf};

use signvote_election::{ChainHash, DigestTree, Incarnation, Layout, Position, Round, Settings, TensorSpec};
use signvote_ledger::{Base, Durable, Kind, Ledger, Options, Recovered};
use signvote_observe::{RunConfig, save_model};

pub(crate) const CHARTER: &[u8] = b"the run's charter";

/// The parameters at a round.
pub(crate) fn parameters(round: u64) -> Vec<f32> {
    (0..5).map(|index| (round * 10 + index) as f32).collect()
}

pub(crate) fn base(round: u64) -> Base {
    Base {
        position: Position {
            round: Round(round),
            incarnation: Incarnation(0),
            chain: ChainHash([round as u8; 32]),
        },
        digest: DigestTree::new(&parameters(round)).root(),
    }
}

pub(crate) fn snapshot(round: u64) -> impl FnOnce(&Path) -> Result<(), signvote_observe::Error> {
    move |path| {
        let spec = TensorSpec { name: "weight".into(), shape: vec![5] };
        let layout = Layout::new(vec![spec]).unwrap();
        save_model(path, &layout, &parameters(round), Round(round), &RunConfig::new(), &Settings::default())
    }
}

pub(crate) fn options(durable: Durable) -> Options {
    Options { durable, ..Options::default() }
}

pub(crate) fn create(run: &Path, durable: Durable) -> Ledger {
    Ledger::create(run, CHARTER.into(), base(0), options(durable), snapshot(0)).unwrap()
}

/// The record of a round, as long as it likes.
pub(crate) fn record(round: u64) -> Vec<u8> {
    format!("record of round {round}{}", ".".repeat(round as usize % 7)).into()
}

/// Appends the records of these rounds.
pub(crate) fn append(ledger: &mut Ledger, rounds: std::ops::Range<u64>) {
    rounds.for_each(|round| ledger.append(Kind::Record, &record(round)).unwrap());
}

/// The records that come back.
pub(crate) fn records(recovered: &Recovered) -> Vec<Vec<u8>> {
    let entries = recovered.entries().map(|entry| entry.unwrap());
    let records: Vec<_> =
        entries.filter(|entry| entry.kind == Kind::Record).map(|entry| entry.payload).collect();
    assert_eq!(records.len() as u64, recovered.records);
    records
}

pub(crate) fn expected(rounds: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    rounds.map(record).collect()
}

pub(crate) fn log(run: &Path, round: u64) -> PathBuf {
    run.join(format!("ledger/{round:012}.log"))
}

pub(crate) fn snapshot_file(run: &Path, round: u64) -> PathBuf {
    run.join(format!("ledger/{round:012}.safetensors"))
}

/// The names in the ledger, sorted, without the lock.
pub(crate) fn names(run: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(run.join("ledger")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "lock");
    names.sort();
    names
}

/// What a kill at this moment leaves: the files as the system has them.
pub(crate) fn as_killed(run: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir(copy.path().join("ledger")).unwrap();
    for name in names(run) {
        let name = Path::new("ledger").join(name);
        std::fs::copy(run.join(&name), copy.path().join(&name)).unwrap();
    }
    copy
}
