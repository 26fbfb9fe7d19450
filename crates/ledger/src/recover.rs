//! Reading a ledger after its server has ended, however it did.

use std::fs::File;
use std::path::{Path, PathBuf};

use signvote_election::{DigestTree, Incarnation, Round};
use signvote_observe::{SavedModel, load_model};

use crate::directory::Directory;
use crate::format::{Base, Header, Kind, Sum};
use crate::ledger::{Resumption, read_opened};
use crate::reader::{Found, SegmentReader};
use crate::segment::End;
use crate::{Durable, Error, Ledger, Options};

/// What a ledger holds. Nobody else can write to it as long as this lives.
#[derive(Debug)]
#[non_exhaustive]
pub struct Recovered {
    /// Where the snapshot was taken.
    pub base: Base,
    /// The snapshot, its digest checked.
    pub model: SavedModel,
    /// What the run agreed on, in bytes.
    pub charter_bytes: Vec<u8>,
    /// Members in the order in which they were last written, in bytes.
    pub member_bytes: Vec<Vec<u8>>,
    /// Records since the snapshot.
    pub records: u64,
    /// The incarnation of the last server that wrote here.
    pub incarnation: Incarnation,
    /// What that server promised.
    pub durable: Durable,
    /// Whether that server stopped by itself.
    pub clean: bool,
    /// The tail that was not written whole, and that is cut off when the ledger goes on.
    pub torn: Option<Torn>,
    /// What people should know: a snapshot that is damaged and was not needed.
    pub notices: Vec<String>,
    /// What the first of `segments` follows.
    follows: Option<Sum>,
    /// Segments since the snapshot, oldest first.
    segments: Vec<PathBuf>,
    /// Of the last of them.
    header: Header,
    end: End,
    directory: Directory,
    lock: File,
}

/// The end of a segment that was not written whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment.
    pub path: PathBuf,
    /// Where the last whole entry ends.
    pub offset: u64,
    /// Bytes behind that.
    pub bytes: u64,
    /// What is wrong with them.
    pub reason: &'static str,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the payload is.
    pub kind: Kind,
    /// The bytes that were appended.
    pub payload: Vec<u8>,
}

impl Recovered {
    /// Reads the ledger in `run_dir`: the newest snapshot that is whole, and all entries since. Changes
    /// nothing.
    ///
    /// If the newest snapshot is damaged, an older one serves, provided that the log goes on from it without
    /// a gap; [`Recovered::notices`] says so.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if an entry that had been on the disk is not whole, [`Error::NoSnapshot`] if no
    /// snapshot serves; others if there is no ledger, if it belongs to two runs or to another version, if
    /// another server holds it, or if a file cannot be read.
    pub fn open(run_dir: &Path) -> Result<Self, Error> {
        let directory = Directory::of_run(run_dir);
        let missing = || Error::Missing { path: directory.path().to_owned() };
        if !directory.path().is_dir() {
            return Err(missing());
        }
        let lock = directory.lock()?;
        let pairs = directory.pairs()?;
        let rounds: Vec<_> =
            pairs.iter().filter(|pair| pair.segment_bytes.is_some()).map(|pair| pair.round).collect();
        let newest = *rounds.last().ok_or_else(missing)?;
        let mut notices: Vec<_> = pairs
            .iter()
            .filter(|pair| pair.round > newest)
            .map(|pair| {
                format!("{} has no log beside it and is left out", directory.snapshot(pair.round).display())
            })
            .collect();

        let mut scans: Vec<Scan> = Vec::new();
        let mut reasons = Vec::new();
        for &round in rounds.iter().rev() {
            match read_segment(&directory, round, scans.last()) {
                Ok(scan) => {
                    let gap = scans.last().filter(|newer| newer.header.follows != Some(scan.end.previous));
                    if let Some(newer) = gap {
                        let (older, newer) = (scan.path.display(), newer.path.display());
                        reasons.push(format!("{newer} does not go on where {older} ends"));
                        break;
                    }
                    scans.push(scan);
                }
                Err(error) if scans.is_empty() => return Err(error),
                Err(error @ Error::AnotherRun { .. }) => return Err(error),
                Err(error) => {
                    reasons.push(error.to_string());
                    break;
                }
            }
            let header = &scans[scans.len() - 1].header;
            match load_snapshot(&directory, &header.base) {
                Ok(model) => {
                    check_others(&directory, &rounds, &scans[0])?;
                    let from = header.base.round();
                    notices.extend(reasons.iter().map(|reason| {
                        format!("{reason}; the run is taken up from the snapshot of round {from} instead")
                    }));
                    scans.reverse();
                    return Self::assemble(directory, lock, model, scans, notices);
                }
                Err(reason) => reasons.push(reason),
            }
        }
        Err(Error::NoSnapshot { path: directory.path().to_owned(), reasons })
    }

    fn assemble(
        directory: Directory,
        lock: File,
        model: SavedModel,
        scans: Vec<Scan>,
        notices: Vec<String>,
    ) -> Result<Self, Error> {
        let Header { base, follows, .. } = scans[0].header;
        let records = scans.iter().map(|scan| scan.records).sum();
        let mut members: Vec<Vec<u8>> = Vec::new();
        for member in scans.iter().flat_map(|scan| &scan.members) {
            members.retain(|earlier| earlier != member);
            members.push(member.clone());
        }
        let segments = scans.iter().map(|scan| scan.path.clone()).collect();
        let last = scans.into_iter().next_back();
        let last = last.ok_or_else(|| Error::Missing { path: directory.path().to_owned() })?;
        Ok(Self {
            base,
            model,
            charter_bytes: last.header.charter.clone(),
            member_bytes: members,
            records,
            incarnation: last.incarnation,
            durable: last.durable,
            clean: last.clean,
            torn: last.torn,
            notices,
            follows,
            segments,
            header: last.header,
            end: last.end,
            directory,
            lock,
        })
    }

    /// Whether every round that anybody was told of is here, so that the run goes on in the same
    /// incarnation: the last server stopped by itself, or promised [`Durable::Always`].
    pub fn nothing_lost(&self) -> bool {
        self.clean || self.durable == Durable::Always
    }

    /// Does not rely on what the last server promised: the run goes on in the next incarnation. For who has
    /// cut the log by hand, or knows that it went on where the log did not.
    pub fn distrust(&mut self) {
        (self.clean, self.durable) = (false, Durable::Interval);
    }

    /// The incarnation in which the run goes on: the same one if nothing is lost, else the next.
    pub fn next_incarnation(&self) -> Incarnation {
        Incarnation(self.incarnation.0.saturating_add(u32::from(!self.nothing_lost())))
    }

    /// All entries since the snapshot, oldest first, read one at a time. Members that a new segment repeats
    /// come again.
    pub fn entries(&self) -> Entries<'_> {
        Entries { recovered: self, next: 0, reader: None }
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// What the segment of the snapshot says that it follows.
    pub(crate) fn follows(&self) -> Option<Sum> {
        self.follows
    }

    /// Where there are older segments.
    pub(crate) fn rounds_before_base(&self) -> Vec<Round> {
        let pairs = self.directory.pairs().unwrap_or_default();
        let older =
            pairs.iter().filter(|pair| pair.round < self.base.round() && pair.segment_bytes.is_some());
        older.map(|pair| pair.round).collect()
    }

    /// Goes on writing, in [`Recovered::next_incarnation`], behind the last whole entry.
    ///
    /// # Errors
    /// If the file cannot be cut, or the disk fails.
    pub fn resume(self, options: Options) -> Result<Ledger, Error> {
        let incarnation = self.next_incarnation();
        let Header { base, follows, .. } = self.header;
        let found = Resumption {
            directory: self.directory,
            lock: self.lock,
            charter: self.charter_bytes,
            members: self.member_bytes,
            base,
            follows,
            end: self.end,
        };
        Ledger::resume(found, incarnation, options)
    }
}

/// The entries of a ledger, from [`Recovered::entries`].
#[derive(Debug)]
pub struct Entries<'a> {
    recovered: &'a Recovered,
    /// The next segment.
    next: usize,
    reader: Option<SegmentReader>,
}

impl Entries<'_> {
    fn advance(&mut self) -> Result<Option<Entry>, Error> {
        let segments = &self.recovered.segments;
        loop {
            let reader = match &mut self.reader {
                Some(reader) => reader,
                None if self.next == segments.len() => return Ok(None),
                none => {
                    self.next += 1;
                    none.insert(SegmentReader::open(&segments[self.next - 1])?)
                }
            };
            let last = self.next == segments.len();
            if last && reader.offset() >= self.recovered.end.offset {
                return Ok(None);
            }
            let mut payload = Vec::new();
            match reader.next(&mut payload, |_| true)? {
                Found::Entry(kind) => return Ok(Some(Entry { kind, payload })),
                Found::End => self.reader = None,
                Found::Broken(reason) => {
                    return Err(Error::corrupt(reader.path(), reader.offset(), reason));
                }
            }
        }
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, Error>;

    /// The next entry. An error is the last item.
    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.advance().transpose();
        if matches!(entry, Some(Err(_)) | None) {
            (self.reader, self.next) = (None, self.recovered.segments.len());
        }
        entry
    }
}

/// What is in one segment.
struct Scan {
    path: PathBuf,
    header: Header,
    members: Vec<Vec<u8>>,
    records: u64,
    incarnation: Incarnation,
    durable: Durable,
    clean: bool,
    torn: Option<Torn>,
    /// Before the mark of a clean end.
    end: End,
}

/// Reads the segment of a round; `newer` is the one that came after it, if it is not the newest itself.
fn read_segment(directory: &Directory, round: Round, newer: Option<&Scan>) -> Result<Scan, Error> {
    let mut reader = open_segment(directory, round)?;
    if let Some(newer) = newer {
        same_run(&reader, newer)?;
    }
    scan(&mut reader, newer.is_none())
}

/// Reads a segment to its end. Only the newest may have a torn tail.
fn scan(reader: &mut SegmentReader, newest: bool) -> Result<Scan, Error> {
    let header = reader.header().clone();
    let end = |reader: &SegmentReader| {
        let (segment, previous) = reader.sums();
        End { offset: reader.offset(), segment, previous }
    };
    let mut scan = Scan {
        path: reader.path().to_owned(),
        members: Vec::new(),
        records: 0,
        incarnation: header.base.position.incarnation,
        // Of a segment whose first entry is torn, which cannot be if the disk keeps what it has synced.
        durable: Durable::Interval,
        clean: false,
        torn: None,
        end: end(reader),
        header,
    };
    let mut payload = Vec::new();
    loop {
        let offset = reader.offset();
        match reader.next(&mut payload, |kind| matches!(kind, Kind::Member | Kind::Opened))? {
            Found::Entry(Kind::Clean) => {
                // The end stays before it: it goes when somebody goes on.
                scan.clean = true;
                continue;
            }
            Found::Entry(Kind::Record) => scan.records += 1,
            Found::Entry(Kind::Member) => scan.members.push(payload.clone()),
            Found::Entry(Kind::Opened) => {
                let opened = read_opened(&payload).ok_or_else(|| {
                    Error::corrupt(&scan.path, offset, "the entry does not say who opened the log")
                })?;
                (scan.incarnation, scan.durable) = opened;
            }
            Found::End => return Ok(scan),
            Found::Broken(reason) if newest => {
                if let Some(witness) = reader.witness()? {
                    let reason =
                        format!("{reason}, but it had been when the entry at byte {witness} was written");
                    return Err(Error::corrupt(&scan.path, offset, reason));
                }
                // Somebody went on after a clean end, and was cut short.
                scan.clean = false;
                scan.torn = Some(Torn { path: scan.path.clone(), offset, bytes: reader.rest(), reason });
                scan.end = end(reader);
                return Ok(scan);
            }
            Found::Broken(reason) => return Err(Error::corrupt(&scan.path, offset, reason)),
        }
        scan.clean = false;
        scan.end = end(reader);
    }
}

/// The snapshot of a segment, or what is wrong with it.
pub(crate) fn load_snapshot(directory: &Directory, base: &Base) -> Result<SavedModel, String> {
    let path = directory.snapshot(base.round());
    let model = load_model(&path).map_err(|error| error.to_string())?;
    let digest = DigestTree::new(&model.x).root();
    match digest == base.digest {
        true => Ok(model),
        false => Err(format!("{} is damaged: expected digest {}, got {digest}", path.display(), base.digest)),
    }
}

/// Refuses the files of two runs in one directory, where their headers can be read.
fn check_others(directory: &Directory, rounds: &[Round], newest: &Scan) -> Result<(), Error> {
    let readers = rounds.iter().filter_map(|&round| SegmentReader::open(&directory.segment(round)).ok());
    readers.into_iter().try_for_each(|reader| same_run(&reader, newest))
}

fn same_run(reader: &SegmentReader, newest: &Scan) -> Result<(), Error> {
    match reader.header().charter == newest.header.charter {
        true => Ok(()),
        false => Err(Error::AnotherRun { path: reader.path().to_owned(), other: newest.path.clone() }),
    }
}

/// Opens the segment of a round, and makes sure that it is of that round.
pub(crate) fn open_segment(directory: &Directory, round: Round) -> Result<SegmentReader, Error> {
    let reader = SegmentReader::open(&directory.segment(round))?;
    let of = reader.header().base.round();
    match of == round {
        true => Ok(reader),
        false => {
            let reason = format!("the header is of round {of}, and so should be the name");
            Err(Error::corrupt(reader.path(), 0, reason))
        }
    }
}
