//! A disk that is full: whole entries, a clear word, and a snapshot that makes up for the gap.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;
use signvote_ledger::{Durable, Error, Kind, Recovered};

/// A file system of a few kilobytes, for as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` if this user may not mount one.
    fn mount(path: &Path, kilobytes: u32) -> Option<Self> {
        fs::create_dir(path).unwrap();
        let size = format!("size={kilobytes}k");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &size, "none"]).arg(path);
        let mounted = command.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self(path.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_log_on_a_full_disk_stays_whole_and_goes_on_with_the_next_snapshot() {
    for durable in [Durable::Always, Durable::Interval] {
        let temporary = tempfile::tempdir().unwrap();
        let Some(disk) = SmallDisk::mount(&temporary.path().join("disk"), 64) else {
            println!("skipped: mounting a small file system takes more rights than this user has");
            return;
        };
        let run = disk.0.join("run");
        fs::create_dir(&run).unwrap();
        let mut ledger = create(&run, durable);
        append(&mut ledger, 0..3);
        let filler = disk.0.join("filler");
        let _ = fs::write(&filler, vec![1; 1 << 20]);
        // More than what is left of the log's last page.
        let error = ledger.append(Kind::Record, &[1; 10_000]).unwrap_err();
        assert!(matches!(error, Error::Full { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("000000000000.log") && text.contains("space"), "{text}");
        assert!(ledger.stopped().is_some());
        // The training goes on, the log does not: this would fit.
        assert!(matches!(ledger.append(Kind::Record, b""), Err(Error::Stopped { .. })));
        assert!(matches!(ledger.rotate(base(5), snapshot(5)), Err(Error::Full { .. })));
        let names = names(&run);
        assert_eq!(names, ["000000000000.log", "000000000000.safetensors"]);
        let killed = as_killed(&run);
        let recovered = Recovered::open(killed.path()).unwrap();
        assert_eq!((records(&recovered), &recovered.torn), (expected(0..3), &None));

        fs::remove_file(&filler).unwrap();
        assert!(matches!(ledger.append(Kind::Record, b""), Err(Error::Stopped { .. })));
        ledger.rotate(base(7), snapshot(7)).unwrap();
        assert_eq!(ledger.stopped(), None);
        append(&mut ledger, 7..9);
        drop(ledger);
        let recovered = Recovered::open(&run).unwrap();
        assert_eq!((recovered.base, records(&recovered)), (base(7), expected(7..9)));
        drop(recovered);
        // Rounds 3 to 6 are nowhere: the older snapshot must not be taken for the newer one.
        fs::remove_file(snapshot_file(&run, 7)).unwrap();
        let error = Recovered::open(&run).unwrap_err();
        assert!(matches!(error, Error::NoSnapshot { .. }), "{error}");
    }
}
