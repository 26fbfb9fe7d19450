//! Writing a ledger.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use signvote_election::{Incarnation, Round};

use crate::directory::Directory;
use crate::format::{Base, Header, Kind, Sum};
use crate::segment::{End, Segment, entry};
use crate::{Durable, Error, Options};

/// The ledger of a running server.
pub struct Ledger {
    directory: Directory,
    options: Options,
    charter: Vec<u8>,
    /// The newest payload of each member, in the order in which they came: every segment starts with them,
    /// because the one that they were first written to is pruned some day.
    members: Vec<Vec<u8>>,
    incarnation: Incarnation,
    /// Where the open segment starts.
    base: Base,
    /// What the header of the open segment says that it follows.
    follows: Option<Sum>,
    segment: Segment,
    /// Whether a round has been left out since the last snapshot, because of [`Durable::Off`].
    left_out: bool,
    /// Held for as long as the ledger is.
    _lock: File,
}

/// What a snapshot has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rotated {
    /// The snapshot.
    pub snapshot: PathBuf,
    /// Rounds of the snapshots that went, with their segments, to keep the stated size.
    pub pruned: Vec<Round>,
}

/// What a server that was started again has found: how a ledger goes on.
pub(crate) struct Resumption {
    pub(crate) directory: Directory,
    pub(crate) lock: File,
    pub(crate) charter: Vec<u8>,
    pub(crate) members: Vec<Vec<u8>>,
    /// Where the newest segment starts, and what it follows.
    pub(crate) base: Base,
    pub(crate) follows: Option<Sum>,
    /// Where it ends, and whether there are bytes behind that.
    pub(crate) end: End,
}

impl Ledger {
    /// Starts the ledger of a new run in `run_dir`, at `base`, with its first snapshot.
    ///
    /// `write_snapshot` writes the parameters to the path that it is given.
    ///
    /// # Errors
    /// If there is a ledger already, if another process holds it, or if a file cannot be written.
    pub fn create(
        run_dir: &Path,
        charter: Vec<u8>,
        base: Base,
        options: Options,
        write_snapshot: impl FnOnce(&Path) -> Result<(), signvote_observe::Error>,
    ) -> Result<Self, Error> {
        let directory = Directory::of_run(run_dir);
        directory.make()?;
        let lock = directory.lock()?;
        // A snapshot without a log is what a server left that was killed right here.
        if directory.pairs()?.iter().any(|pair| pair.segment_bytes.is_some()) {
            return Err(Error::Occupied { path: directory.path().to_owned() });
        }
        directory.remove_partial()?;
        let header = Header { base, follows: None, salt: salt(), charter };
        let snapshot = place_snapshot(&directory, base.round(), write_snapshot)?;
        let segment = start_segment(&directory, &header, &[], base.position.incarnation, &options)?;
        directory.publish(&snapshot)?;
        Ok(Self {
            directory,
            options,
            charter: header.charter,
            members: Vec::new(),
            incarnation: base.position.incarnation,
            base,
            follows: None,
            segment,
            left_out: false,
            _lock: lock,
        })
    }

    /// Goes on with a ledger that was recovered. The torn tail goes, and so does the mark of a clean end,
    /// on the disk before this returns: from here on the log may lack rounds again.
    pub(crate) fn resume(
        found: Resumption,
        incarnation: Incarnation,
        options: Options,
    ) -> Result<Self, Error> {
        found.directory.remove_partial()?;
        let path = found.directory.segment(found.base.round());
        let file = File::options().append(true).open(&path).map_err(Error::io("open", &path))?;
        let cut = file.set_len(found.end.offset).and_then(|()| file.sync_all());
        cut.map_err(Error::io("cut", &path))?;
        let mut segment = Segment::new(&path, Arc::new(file), found.end, &options)?;
        segment.append(Kind::Opened, &opened(incarnation, options.durable))?;
        segment.sync()?;
        Ok(Self {
            directory: found.directory,
            options,
            charter: found.charter,
            members: found.members,
            incarnation,
            base: found.base,
            follows: found.follows,
            segment,
            left_out: false,
            _lock: found.lock,
        })
    }

    /// Appends an entry: a [`Kind::Record`] for every committed round, in their order and before anybody
    /// is told of it, and a [`Kind::Member`] for everyone who gets a place.
    ///
    /// Returns when the entry is as safe as [`Durable`] says. Records are left out under [`Durable::Off`].
    ///
    /// # Errors
    /// If the entry cannot be written: it is then not in the file, which ends with the entry before, and
    /// all later ones are refused until [`Ledger::rotate`] has written a snapshot. An error of the
    /// background's sync comes back here too. The other two kinds are the ledger's own.
    pub fn append(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Error> {
        match kind {
            Kind::Record if self.options.durable == Durable::Off => {
                self.left_out = true;
                Ok(())
            }
            Kind::Record => self.segment.append(kind, payload),
            Kind::Member => {
                // Kept even if writing fails: the next segment has it then.
                self.members.retain(|member| member != payload);
                self.members.push(payload.to_vec());
                self.segment.append(kind, payload)
            }
            Kind::Opened | Kind::Clean => {
                Err(Error::Misuse(format!("an entry of kind {kind:?} is written by the ledger itself")))
            }
        }
    }

    /// Waits until everything appended is on the disk, whatever the policy.
    ///
    /// # Errors
    /// If the disk fails. No more entries are taken then, as after an append that failed.
    pub fn sync(&mut self) -> Result<(), Error> {
        self.segment.sync()
    }

    /// Why entries are refused until the next [`Ledger::rotate`], if they are.
    pub fn stopped(&self) -> Option<&str> {
        self.segment.stopped()
    }

    /// The open segment.
    pub fn path(&self) -> &Path {
        self.segment.path()
    }

    /// Takes a snapshot, at `base`, and starts a new segment with it; then `model.safetensors` in the run
    /// directory becomes the snapshot, and the oldest pairs are pruned. Snapshot and segment are on the
    /// disk when this returns.
    ///
    /// `write_snapshot` writes the parameters to the path that it is given.
    ///
    /// # Errors
    /// If snapshot or segment cannot be written: the open segment goes on as it was, and neither of the two
    /// is there. If only the model file cannot be replaced, or pruning fails, the new segment is the open
    /// one all the same.
    pub fn rotate(
        &mut self,
        base: Base,
        write_snapshot: impl FnOnce(&Path) -> Result<(), signvote_observe::Error>,
    ) -> Result<Rotated, Error> {
        if base.round() < self.base.round() {
            let (new, old) = (base.round(), self.base.round());
            return Err(Error::Misuse(format!("a snapshot of round {new} after one of round {old}")));
        }
        let same_round = base.round() == self.base.round();
        if same_round && base.digest != self.base.digest {
            // If the new snapshot were placed and the new segment not, neither would have its other half.
            return Err(Error::Misuse(format!("two snapshots of round {} that differ", base.round())));
        }
        // The new segment says that it follows this one, so this one has to be on the disk first. If it
        // cannot be, the snapshot is what makes up for it.
        let whole = self.segment.sync().is_ok() && !self.left_out;
        let follows = if same_round { self.follows } else { self.segment.last_sum().filter(|_| whole) };
        let snapshot = place_snapshot(&self.directory, base.round(), write_snapshot)?;
        let header = Header { base, follows, salt: salt(), charter: self.charter.clone() };
        let started = start_segment(&self.directory, &header, &self.members, self.incarnation, &self.options);
        if started.is_err() && !same_round {
            // Without a segment it is of no use, and takes room from a disk that may be full.
            let _ = std::fs::remove_file(&snapshot);
        }
        self.segment = started?;
        (self.base, self.follows, self.left_out) = (base, follows, false);
        self.directory.publish(&snapshot)?;
        let pruned = match self.options.keep_all {
            true => Vec::new(),
            false => self.directory.prune(self.options.max_bytes)?,
        };
        Ok(Rotated { snapshot, pruned })
    }

    /// Ends the log: everything is taken to the disk, and marked as being all there is, so that the next
    /// server need not start a new incarnation. The mark is left out where rounds are: under
    /// [`Durable::Off`] without a snapshot at the end.
    ///
    /// # Errors
    /// If the disk fails, or had failed before.
    pub fn close(mut self) -> Result<(), Error> {
        self.segment.sync()?;
        if !self.left_out {
            self.segment.append(Kind::Clean, &[])?;
        }
        self.segment.sync()
    }
}

fn place_snapshot(
    directory: &Directory,
    round: Round,
    write: impl FnOnce(&Path) -> Result<(), signvote_observe::Error>,
) -> Result<PathBuf, Error> {
    let path = directory.snapshot(round);
    directory.place(&path, |partial| {
        write(partial).map_err(|error| match error {
            // With the name that people know, and a full disk as such.
            signvote_observe::Error::Io { source, .. } => Error::io("write", &path)(source),
            source => Error::Snapshot { path: path.clone(), source },
        })
    })?;
    Ok(path)
}

/// Writes a segment with its first entries, and opens it.
fn start_segment(
    directory: &Directory,
    header: &Header,
    members: &[Vec<u8>],
    incarnation: Incarnation,
    options: &Options,
) -> Result<Segment, Error> {
    let (mut bytes, sum) = header.encode();
    let mut previous = sum;
    let opened = opened(incarnation, options.durable);
    let entries = [(Kind::Opened, &opened[..])];
    let members = members.iter().map(|member| (Kind::Member, &member[..]));
    for (kind, payload) in entries.into_iter().chain(members) {
        let offset = bytes.len() as u64;
        // The file gets its name when all of this is on the disk.
        let (head, after) = entry(kind, payload, previous, sum, offset);
        bytes.extend(head.iter().chain(payload).chain(&after.0));
        previous = after;
    }
    let path = directory.segment(header.base.round());
    directory.place(&path, |partial| std::fs::write(partial, &bytes).map_err(Error::io("write", &path)))?;
    let file = File::options().append(true).open(&path).map_err(Error::io("open", &path))?;
    let end = End { offset: bytes.len() as u64, segment: sum, previous };
    Segment::new(&path, Arc::new(file), end, options)
}

/// Bytes that nobody can foretell: the keys of the standard library's hash maps come from the system.
fn salt() -> [u8; 16] {
    let word = || RandomState::new().hash_one(0_u8).to_le_bytes();
    let mut salt = [0; 16];
    salt[..8].copy_from_slice(&word());
    salt[8..].copy_from_slice(&word());
    salt
}

/// The payload of [`Kind::Opened`].
fn opened(incarnation: Incarnation, durable: Durable) -> [u8; 5] {
    let [a, b, c, d] = incarnation.0.to_le_bytes();
    [a, b, c, d, durable.byte()]
}

/// Reads the payload of [`Kind::Opened`].
pub(crate) fn read_opened(payload: &[u8]) -> Option<(Incarnation, Durable)> {
    match *payload {
        [a, b, c, d, durable] => Durable::from_byte(durable)
            .map(|durable| (Incarnation(u32::from_le_bytes([a, b, c, d])), durable)),
        _ => None,
    }
}
