//! Appending to a segment.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::format::{EntrySum, HEAD_BYTES, Head, Kind, Sum};
use crate::storage::{Storage, Syncer};
use crate::{Durable, Error, Options};

/// The open end of a segment.
pub(crate) struct Segment {
    path: PathBuf,
    storage: Arc<dyn Storage>,
    durable: Durable,
    /// Only under [`Durable::Interval`].
    syncer: Option<Syncer>,
    /// Checksum of the header.
    sum: Sum,
    /// Checksum of the last entry.
    previous: Sum,
    /// Bytes in the file: the end of its last whole entry.
    offset: u64,
    /// Bytes known to be on the disk, where no syncer knows better.
    synced: u64,
    /// Why an entry is missing, once one is.
    stopped: Option<String>,
}

/// Where a segment may be appended to: its length, all of it on the disk, and the checksums of header and
/// last entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) offset: u64,
    pub(crate) segment: Sum,
    pub(crate) previous: Sum,
}

impl Segment {
    /// Goes on at the end of a file.
    pub(crate) fn new(
        path: &Path,
        storage: Arc<dyn Storage>,
        end: End,
        options: &Options,
    ) -> Result<Self, Error> {
        let syncer = match options.durable {
            Durable::Interval => {
                let started = Syncer::start(Arc::clone(&storage), end.offset, options.sync_every);
                Some(started.map_err(Error::io("start the thread that syncs", path))?)
            }
            Durable::Always | Durable::Off => None,
        };
        Ok(Self {
            path: path.to_owned(),
            storage,
            durable: options.durable,
            syncer,
            sum: end.segment,
            previous: end.previous,
            offset: end.offset,
            synced: end.offset,
            stopped: None,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Checksum of the last entry; `None` if one is missing.
    pub(crate) fn last_sum(&self) -> Option<Sum> {
        self.stopped.is_none().then_some(self.previous)
    }

    pub(crate) fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }

    /// Appends an entry, and under [`Durable::Always`] waits until it is on the disk. If that fails, the
    /// file is cut back to its last whole entry, and takes no more.
    pub(crate) fn append(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Error> {
        self.check()?;
        let (head, sum) = entry(kind, payload, self.previous, self.sum, self.synced());
        let mut written = self.storage.append(&[&head, payload, &sum.0]);
        if self.durable == Durable::Always {
            written = written.and_then(|()| self.storage.sync());
        }
        if let Err(error) = written {
            // If cutting fails too, the tail is torn as after a power cut, and is found to be that.
            let _ = self.storage.cut(self.offset);
            return Err(self.stop("append to", error));
        }
        self.previous = sum;
        self.offset += (head.len() + payload.len() + Sum::BYTES) as u64;
        match &self.syncer {
            Some(syncer) => syncer.written(self.offset),
            None if self.durable == Durable::Always => self.synced = self.offset,
            None => {}
        }
        Ok(())
    }

    /// Waits until everything appended is on the disk.
    pub(crate) fn sync(&mut self) -> Result<(), Error> {
        self.check()?;
        if self.synced() == self.offset {
            return Ok(());
        }
        if let Err(error) = self.storage.sync() {
            return Err(self.stop("sync", error));
        }
        self.synced = self.offset;
        if let Some(syncer) = &self.syncer {
            syncer.synced_by_owner(self.offset);
        }
        Ok(())
    }

    /// What the disk is known to hold.
    fn synced(&self) -> u64 {
        self.syncer.as_ref().map_or(self.synced, Syncer::synced)
    }

    fn check(&mut self) -> Result<(), Error> {
        if let Some(error) = self.syncer.as_ref().and_then(Syncer::take_error) {
            return Err(self.stop("sync", error));
        }
        match &self.stopped {
            Some(reason) => Err(Error::Stopped { path: self.path.clone(), reason: reason.clone() }),
            None => Ok(()),
        }
    }

    fn stop(&mut self, doing: &'static str, error: io::Error) -> Error {
        self.stopped = Some(error.to_string());
        Error::io(doing, &self.path)(error)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // Who wants to know calls `sync`. This is for a caller that ends by an error of its own.
        if self.durable == Durable::Interval {
            let _ = self.sync();
        }
    }
}

/// Head and checksum of an entry.
pub(crate) fn entry(
    kind: Kind,
    payload: &[u8],
    previous: Sum,
    segment: Sum,
    synced: u64,
) -> ([u8; HEAD_BYTES], Sum) {
    let head = Head { kind, length: payload.len() as u64, synced }.encode(segment);
    let mut sum = EntrySum::new(previous, &head);
    sum.update(payload);
    (head, sum.finish())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    /// A file in memory on a disk with room for `room` bytes, whose syncs are told and wait to be let through.
    struct Disk {
        bytes: Mutex<Vec<u8>>,
        room: usize,
        syncs: Mutex<Sender<usize>>,
        results: Mutex<Receiver<io::Result<()>>>,
    }

    impl Storage for Disk {
        fn append(&self, parts: &[&[u8]]) -> io::Result<()> {
            let mut bytes = self.bytes.lock().unwrap();
            for &byte in parts.iter().copied().flatten() {
                if bytes.len() == self.room {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                bytes.push(byte);
            }
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            let length = self.bytes.lock().unwrap().len();
            self.syncs.lock().unwrap().send(length).unwrap();
            self.results.lock().unwrap().recv_timeout(LIMIT).unwrap()
        }

        fn cut(&self, length: u64) -> io::Result<()> {
            self.bytes.lock().unwrap().truncate(length as usize);
            Ok(())
        }
    }

    struct Rig {
        disk: Arc<Disk>,
        segment: Segment,
        /// The length of the file at each sync.
        syncs: Receiver<usize>,
        /// What the syncs are to return.
        results: Sender<io::Result<()>>,
    }

    fn rig(durable: Durable, room: usize) -> Rig {
        let (tell, syncs) = channel();
        let (results, receive) = channel();
        let disk =
            Disk { bytes: Mutex::default(), room, syncs: Mutex::new(tell), results: Mutex::new(receive) };
        let disk = Arc::new(disk);
        let end = End { offset: 0, segment: Sum([0; 16]), previous: Sum([0; 16]) };
        let options = Options { durable, sync_every: Duration::from_millis(1), ..Options::default() };
        let storage: Arc<dyn Storage> = disk.clone();
        let segment = Segment::new(Path::new("log"), storage, end, &options).unwrap();
        Rig { disk, segment, syncs, results }
    }

    /// Bytes of an entry with a payload of `length` bytes.
    const fn bytes(length: usize) -> usize {
        HEAD_BYTES + length + Sum::BYTES
    }

    #[test]
    fn always_returns_when_the_entry_is_on_the_disk() {
        let mut rig = rig(Durable::Always, usize::MAX);
        for count in 1..4 {
            rig.results.send(Ok(())).unwrap();
            rig.segment.append(Kind::Record, &[1; 10]).unwrap();
            assert_eq!(rig.syncs.try_recv().unwrap(), count * bytes(10));
        }
        // Nothing is left to sync.
        rig.segment.sync().unwrap();
        assert!(rig.syncs.try_recv().is_err());
    }

    #[test]
    fn interval_returns_while_the_disk_is_busy_and_syncs_what_came_in_the_meantime() {
        let mut rig = rig(Durable::Interval, usize::MAX);
        rig.segment.append(Kind::Record, &[1; 10]).unwrap();
        assert_eq!(rig.syncs.recv_timeout(LIMIT).unwrap(), bytes(10));
        // That sync does not return yet.
        for _ in 0..100 {
            rig.segment.append(Kind::Record, &[1; 10]).unwrap();
        }
        assert_eq!(rig.disk.bytes.lock().unwrap().len(), 101 * bytes(10));
        assert_eq!(rig.segment.synced(), 0);
        rig.results.send(Ok(())).unwrap();
        assert_eq!(rig.syncs.recv_timeout(LIMIT).unwrap(), 101 * bytes(10));
        assert_eq!(rig.segment.synced(), bytes(10) as u64);
        // For this sync, and for the one of the end.
        rig.results.send(Ok(())).unwrap();
        rig.results.send(Ok(())).unwrap();
    }

    #[test]
    fn an_entry_says_how_much_was_on_the_disk_when_it_was_begun() {
        let mut rig = rig(Durable::Off, usize::MAX);
        rig.segment.append(Kind::Member, b"").unwrap();
        rig.segment.append(Kind::Member, b"").unwrap();
        rig.results.send(Ok(())).unwrap();
        rig.segment.sync().unwrap();
        rig.segment.append(Kind::Member, b"").unwrap();
        let file = rig.disk.bytes.lock().unwrap();
        let head = |offset: usize| {
            let bytes = file[offset..offset + HEAD_BYTES].try_into().unwrap();
            Head::decode(&bytes, Sum([0; 16])).unwrap()
        };
        let synced = [0, 1, 2].map(|count| head(count * bytes(0)).synced);
        assert_eq!(synced, [0, 0, 2 * bytes(0) as u64]);
    }

    #[test]
    fn a_full_disk_leaves_whole_entries_and_is_told_and_nothing_bridges_the_gap() {
        for room in 2 * bytes(10)..3 * bytes(10) {
            let mut rig = rig(Durable::Off, room);
            rig.segment.append(Kind::Record, &[1; 10]).unwrap();
            rig.segment.append(Kind::Record, &[2; 10]).unwrap();
            let before = rig.disk.bytes.lock().unwrap().clone();
            let error = rig.segment.append(Kind::Record, &[3; 10]).unwrap_err();
            assert!(matches!(error, Error::Full { .. }), "{error}");
            assert!(error.to_string().contains("log"), "{error}");
            assert_eq!(*rig.disk.bytes.lock().unwrap(), before);
            // This one would fit.
            let error = rig.segment.append(Kind::Record, &[]).unwrap_err();
            assert!(matches!(error, Error::Stopped { .. }), "{error}");
            assert_eq!(*rig.disk.bytes.lock().unwrap(), before);
            assert!(rig.segment.last_sum().is_none());
        }
    }

    #[test]
    fn an_entry_that_could_not_be_synced_is_taken_back() {
        let mut rig = rig(Durable::Always, usize::MAX);
        rig.results.send(Ok(())).unwrap();
        rig.segment.append(Kind::Record, &[1; 10]).unwrap();
        rig.results.send(Err(io::ErrorKind::Other.into())).unwrap();
        assert!(matches!(rig.segment.append(Kind::Record, &[2; 10]), Err(Error::Io { .. })));
        assert_eq!(rig.disk.bytes.lock().unwrap().len(), bytes(10));
        assert!(matches!(rig.segment.append(Kind::Record, &[2; 10]), Err(Error::Stopped { .. })));
    }

    #[test]
    fn an_error_of_the_background_comes_back_at_a_later_append() {
        let mut rig = rig(Durable::Interval, usize::MAX);
        rig.results.send(Err(io::ErrorKind::Other.into())).unwrap();
        rig.segment.append(Kind::Record, &[1; 10]).unwrap();
        rig.syncs.recv_timeout(LIMIT).unwrap();
        let error = loop {
            // The thread is on its way with the error.
            match rig.segment.append(Kind::Record, &[2; 10]) {
                Ok(()) => std::thread::yield_now(),
                Err(error) => break error,
            }
        };
        assert!(error.to_string().starts_with("cannot sync log"), "{error}");
        assert!(matches!(rig.segment.append(Kind::Record, &[2; 10]), Err(Error::Stopped { .. })));
        assert!(matches!(rig.segment.sync(), Err(Error::Stopped { .. })));
    }
}
