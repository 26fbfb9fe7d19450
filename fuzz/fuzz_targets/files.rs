//! Files that are damaged, cut or somebody else's: a ledger, a worker's checkpoint, a model. They are refused by name, or
//! are whole.

#![no_main]

mod bytes;

use bytes::{take_byte, take_words};
use libfuzzer_sys::fuzz_target;
use signvote_election::{
    ChainHash, DigestTree, Incarnation, Layout, Position, Round, RunId, Settings, Slot, TensorSpec,
};
use signvote_ledger::{Base, Kind, Ledger, Options, Recovered, audit};
use signvote_observe::{RunConfig, Standing, load_checkpoint, load_model, save_checkpoint, save_model};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const DIMENSION: usize = 70;

/// A directory with a run and a checkpoint, and the bytes that they have when nothing is wrong.
struct Sound {
    _guard: tempfile::TempDir,
    here: PathBuf,
    files: [(&'static str, Vec<u8>); 3],
}

const LOG: &str = "run/ledger/000000000000.log";
const SNAPSHOT: &str = "run/ledger/000000000000.safetensors";
const CHECKPOINT: &str = "checkpoint";

fn sound() -> &'static Sound {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    SOUND.get_or_init(|| {
        let guard = tempfile::tempdir().expect("a directory");
        let here = guard.path().to_owned();
        let layout =
            Layout::new(vec![TensorSpec { name: "w".into(), shape: vec![DIMENSION] }]).expect("a layout");
        let x = vec![0.25; DIMENSION];
        let position = Position { round: Round(0), incarnation: Incarnation(0), chain: ChainHash([7; 32]) };
        let base = Base { position, digest: DigestTree::new(&x).root() };
        let write =
            |path: &Path| save_model(path, &layout, &x, Round(0), &RunConfig::new(), &Settings::default());
        fs::create_dir(here.join("run")).expect("ours");
        let mut ledger =
            Ledger::create(&here.join("run"), vec![5; 100], base, Options::default(), write).expect("room");
        (0..4).for_each(|n| ledger.append(Kind::Record, &[n; 60]).expect("room"));
        drop(ledger);
        let standing = Standing {
            run: RunId([1; 16]),
            slot: Slot::new(1).expect("a place"),
            layout: layout.digest(),
            seed: 3,
            round: Round(2),
            incarnation: Incarnation(0),
            chain: ChainHash([7; 32]),
        };
        save_checkpoint(&here.join(CHECKPOINT), &standing, &x, &x).expect("room");
        let files = [LOG, SNAPSHOT, CHECKPOINT].map(|name| (name, fs::read(here.join(name)).expect("ours")));
        Sound { _guard: guard, here, files }
    })
}

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let Sound { here, files, .. } = sound();
    for (name, whole) in files {
        let mut contents = whole.clone();
        match take_byte(&mut rest) % 4 {
            0 => {}
            1 => contents = rest.to_vec(),
            2 => contents.truncate(take_words(&mut rest, 1)[0] as usize % (whole.len() + 1)),
            _ => {
                for _ in 0..1 + take_byte(&mut rest) % 4 {
                    let at = take_words(&mut rest, 1)[0] as usize % whole.len();
                    contents[at] = take_byte(&mut rest) as u8;
                }
            }
        }
        let changed = contents != *whole;
        fs::write(here.join(name), contents).expect("ours");
        match *name {
            CHECKPOINT => {
                let read = load_checkpoint(&here.join(name));
                assert!(read.is_err() == changed, "{read:?}");
            }
            SNAPSHOT => drop(load_model(&here.join(name))),
            _ => {}
        }
    }
    let run = here.join("run");
    if let Ok(recovered) = Recovered::open(&run) {
        // Whatever was written whole and not damaged is there, as it was.
        let records =
            recovered.entries().map(|entry| entry.expect("as checked")).filter(|e| e.kind == Kind::Record);
        for (n, record) in records.enumerate() {
            assert_eq!(record.payload, [n as u8; 60]);
        }
    }
    let _ = audit(&run, &mut |_, _| ());
});
