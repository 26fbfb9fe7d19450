//! The files of a ledger: their names, how they come and how they go.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use signvote_election::Round;

use crate::Error;

const SEGMENT: &str = "log";
const SNAPSHOT: &str = "safetensors";
const PARTIAL: &str = "partial";

/// `RUN_DIR/ledger`, and the model file beside it.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    run: PathBuf,
    path: PathBuf,
}

/// The files of one round. Either may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) round: Round,
    pub(crate) segment_bytes: Option<u64>,
    pub(crate) snapshot_bytes: Option<u64>,
}

impl Pair {
    fn bytes(&self) -> u64 {
        self.segment_bytes.unwrap_or(0).saturating_add(self.snapshot_bytes.unwrap_or(0))
    }
}

impl Directory {
    pub(crate) fn of_run(run: &Path) -> Self {
        Self { run: run.to_owned(), path: run.join("ledger") }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn segment(&self, round: Round) -> PathBuf {
        self.file(round, SEGMENT)
    }

    pub(crate) fn snapshot(&self, round: Round) -> PathBuf {
        self.file(round, SNAPSHOT)
    }

    fn file(&self, round: Round, extension: &str) -> PathBuf {
        self.path.join(format!("{:012}.{extension}", round.0))
    }

    /// Makes the directory. The names of what is in it are on the disk only after [`Directory::sync`].
    pub(crate) fn make(&self) -> Result<(), Error> {
        fs::create_dir_all(&self.path).map_err(Error::io("make", &self.path))?;
        sync_directory(&self.run)
    }

    /// Makes sure that no other process writes here, for as long as the file that comes back is open: the
    /// system lets go of it however a process ends.
    pub(crate) fn lock(&self) -> Result<File, Error> {
        lock(&self.path.join("lock"), &self.path)
    }

    /// The files by round, oldest first.
    pub(crate) fn pairs(&self) -> Result<Vec<Pair>, Error> {
        let mut pairs: BTreeMap<Round, Pair> = BTreeMap::new();
        for (path, bytes) in self.files()? {
            let Some((round, extension)) = parse(&path) else { continue };
            let pair = pairs.entry(round).or_insert(Pair { round, ..Pair::default() });
            match extension {
                SEGMENT => pair.segment_bytes = Some(bytes),
                _ => pair.snapshot_bytes = Some(bytes),
            }
        }
        Ok(pairs.into_values().collect())
    }

    /// Removes what a writer that was killed has not finished.
    pub(crate) fn remove_partial(&self) -> Result<(), Error> {
        for (path, _) in self.files()? {
            let extension = path.extension().and_then(|extension| extension.to_str());
            if extension.is_some_and(|extension| extension.starts_with(PARTIAL)) {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        Ok(())
    }

    fn files(&self) -> Result<Vec<(PathBuf, u64)>, Error> {
        let io = |error| Error::io("read", &self.path)(error);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(io)? {
            let entry = entry.map_err(io)?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => files.push((entry.path(), metadata.len())),
                // Pruned by the server in this moment, where an audit reads beside it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Ok(_) => {}
                Err(error) => return Err(io(error)),
            }
        }
        Ok(files)
    }

    /// Lets `write` fill a file, which is on the disk and then has its name, whole or not at all.
    pub(crate) fn place(
        &self,
        path: &Path,
        write: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let partial = partial(path);
        let placed = write(&partial).and_then(|()| {
            let synced = File::open(&partial).and_then(|file| file.sync_all());
            synced.and_then(|()| fs::rename(&partial, path)).map_err(Error::io("write", path))?;
            sync_directory(&self.path)
        });
        if placed.is_err() {
            let _ = fs::remove_file(&partial);
        }
        placed
    }

    /// Gives the run's model file the bytes of a snapshot: the same file under two names where the file
    /// system can do that, a copy where it cannot.
    pub(crate) fn publish(&self, snapshot: &Path) -> Result<(), Error> {
        let model = self.run.join("model.safetensors");
        let partial = partial(&model);
        let _ = fs::remove_file(&partial);
        let linked = fs::hard_link(snapshot, &partial).or_else(|_| {
            fs::copy(snapshot, &partial)?;
            File::open(&partial)?.sync_all()
        });
        let published = linked.and_then(|()| fs::rename(&partial, &model));
        // Renaming one name of a file to another name of the same file does nothing, and succeeds.
        let _ = fs::remove_file(&partial);
        published.map_err(Error::io("write", &model))
    }

    /// Removes the oldest pairs while all together take more than `max_bytes`, but never the newest.
    /// Returns the rounds of those that are gone.
    pub(crate) fn prune(&self, max_bytes: u64) -> Result<Vec<Round>, Error> {
        let gone = to_prune(&self.pairs()?, max_bytes);
        for pair in &gone {
            // The log first: a snapshot without one is known to be of no use, a log without one may be of some.
            let log = pair.segment_bytes.map(|_| self.segment(pair.round));
            let snapshot = pair.snapshot_bytes.map(|_| self.snapshot(pair.round));
            for path in [log, snapshot].into_iter().flatten() {
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        if !gone.is_empty() {
            sync_directory(&self.path)?;
        }
        Ok(gone.iter().map(|pair| pair.round).collect())
    }
}

/// Which pairs go, oldest first.
fn to_prune(pairs: &[Pair], max_bytes: u64) -> Vec<Pair> {
    let mut total = pairs.iter().fold(0_u64, |total, pair| total.saturating_add(pair.bytes()));
    // The newest is the newest that can be started from.
    let newest = pairs
        .iter()
        .rposition(|pair| pair.segment_bytes.is_some() && pair.snapshot_bytes.is_some())
        .unwrap_or(0);
    let mut gone = Vec::new();
    for pair in &pairs[..newest.min(pairs.len())] {
        if total <= max_bytes {
            break;
        }
        total = total.saturating_sub(pair.bytes());
        gone.push(*pair);
    }
    gone
}

fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(PARTIAL);
    path.with_file_name(name)
}

fn parse(path: &Path) -> Option<(Round, &'static str)> {
    let digits = path.file_stem()?.to_str()?;
    let extension = path.extension()?.to_str()?;
    let extension = [SEGMENT, SNAPSHOT].into_iter().find(|&known| known == extension)?;
    let round = digits.parse().ok().map(Round)?;
    (format!("{:012}", round.0) == digits).then_some((round, extension))
}

/// Takes the names in a directory to the disk. Where a directory cannot be opened as a file there is nothing
/// to do: the system takes care of it, or nobody can.
fn sync_directory(path: &Path) -> Result<(), Error> {
    match File::open(path) {
        Ok(directory) if cfg!(unix) => directory.sync_all().map_err(Error::io("sync", path)),
        Err(error) if cfg!(unix) => Err(Error::io("open", path)(error)),
        _ => Ok(()),
    }
}

/// How long a process that is ending has to let go of its lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Locks a file for as long as what comes back is open; an error names `what` is in use. A server that was killed a moment
/// ago may not have let go yet, so that it is tried for two seconds.
///
/// # Errors
/// If another process has it, or the file cannot be opened.
pub fn lock(path: &Path, what: &Path) -> Result<File, Error> {
    let file = File::options().create(true).truncate(false).append(true).open(path);
    let file = file.map_err(Error::io("open", path))?;
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => return Err(Error::InUse { path: what.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(round: u64, segment: u64, snapshot: u64) -> Pair {
        Pair { round: Round(round), segment_bytes: Some(segment), snapshot_bytes: Some(snapshot) }
    }

    fn rounds(pairs: &[Pair], max_bytes: u64) -> Vec<u64> {
        to_prune(pairs, max_bytes).iter().map(|pair| pair.round.0).collect()
    }

    #[test]
    fn as_many_of_the_oldest_go_as_must() {
        let pairs = [pair(0, 10, 100), pair(5, 20, 100), pair(9, 30, 100), pair(12, 40, 100)];
        assert!(rounds(&pairs, 500).is_empty());
        assert_eq!(rounds(&pairs, 499), [0]);
        assert_eq!(rounds(&pairs, 390), [0]);
        assert_eq!(rounds(&pairs, 389), [0, 5]);
        assert_eq!(rounds(&pairs, 270), [0, 5]);
        assert_eq!(rounds(&pairs, 269), [0, 5, 9]);
        assert_eq!(rounds(&pairs, 0), [0, 5, 9]);
        assert!(rounds(&[], 0).is_empty());
        assert_eq!(rounds(&[pair(0, u64::MAX, u64::MAX), pair(1, 1, 1)], u64::MAX - 1), [0]);
    }

    #[test]
    fn halves_of_pairs_count_and_go_but_never_the_newest_whole_one() {
        let snapshot = |round| Pair { segment_bytes: None, ..pair(round, 0, 100) };
        let log = |round| Pair { snapshot_bytes: None, ..pair(round, 10, 0) };
        let pairs = [snapshot(0), log(3), pair(5, 10, 100), snapshot(7)];
        assert!(rounds(&pairs, 320).is_empty());
        assert_eq!(rounds(&pairs, 319), [0]);
        assert_eq!(rounds(&pairs, 0), [0, 3]);
        assert!(rounds(&[snapshot(0), log(3)], 0).is_empty());
    }

    #[test]
    fn only_names_of_this_form_are_of_the_ledger() {
        let round = |name: &str| parse(Path::new(name)).map(|(round, extension)| (round.0, extension));
        assert_eq!(round("000000000012.log"), Some((12, "log")));
        assert_eq!(round("000000000012.safetensors"), Some((12, "safetensors")));
        assert_eq!(round("18446744073709551615.log"), Some((u64::MAX, "log")));
        for name in ["12.log", "+00000000012.log", "000000000012.log.partial", "lock", "0000000000012.log"] {
            assert_eq!(round(name), None, "{name}");
        }
    }

    #[test]
    fn the_model_file_is_the_snapshot_however_often_it_is_published() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::of_run(temporary.path());
        directory.make().unwrap();
        let model = temporary.path().join("model.safetensors");
        fs::write(&model, b"an older one").unwrap();
        for round in [1, 1, 2, 2] {
            let snapshot = directory.snapshot(Round(round));
            fs::write(&snapshot, format!("of round {round}")).unwrap();
            directory.publish(&snapshot).unwrap();
            directory.publish(&snapshot).unwrap();
            assert_eq!(fs::read(&model).unwrap(), fs::read(&snapshot).unwrap());
            assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 2);
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let inode = |path: &Path| fs::metadata(path).unwrap().ino();
            assert_eq!(inode(&model), inode(&directory.snapshot(Round(2))));
        }
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_gone() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::of_run(temporary.path());
        directory.make().unwrap();
        let first = directory.lock().unwrap();
        assert!(matches!(directory.lock(), Err(Error::InUse { .. })));
        drop(first);
        directory.lock().unwrap();
    }
}
