//! A run replayed from its files.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use signvote_election::{Auditor, Charter, Checked, Digest, Position, Record, Round};

use crate::directory::Directory;
use crate::format::{Base, Kind};
use crate::history::decode_member;
use crate::ledger::read_opened;
use crate::reader::{Found, SegmentReader};
use crate::recover::{load_snapshot, open_segment};
use crate::{Error, Torn};

/// What an audit found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Audit {
    /// Where the oldest whole snapshot stands: what came before cannot be replayed.
    pub from: Position,
    /// Where the last round that holds has led.
    pub to: Position,
    /// Digest of the parameters there, as computed here.
    pub digest: Digest,
    /// Rounds that hold.
    pub rounds: u64,
    /// Sums over these rounds of what each record proved.
    pub recomputed: u64,
    /// Ballots whose signature holds.
    pub signed: u64,
    /// Ballots that counted without a signature.
    pub unsigned: u64,
    /// Rounds that nobody logged, from the first to before the second, because the disk was full or nothing
    /// was to be logged: after them the audit goes on from a snapshot, unproved.
    pub gaps: Vec<(Round, Round)>,
    /// The first thing that does not hold. The audit ends there.
    pub difference: Option<Difference>,
    /// A tail that was not written whole.
    pub torn: Option<Torn>,
    /// What people should know.
    pub notices: Vec<String>,
}

/// The first round that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The round.
    pub round: Round,
    /// The segment that has it.
    pub path: PathBuf,
    /// What does not hold, in one sentence.
    pub reason: String,
}

/// Replays the ledger in `run_dir` from its oldest whole snapshot on: every verdict, voter set, chain hash
/// and snapshot, and what else the records hold. A server may be writing to it. `on_round` hears of every
/// round that holds.
///
/// # Errors
/// If a file is damaged, missing, of another run or cannot be read. That a round does not hold is no error but
/// what was asked: [`Audit::difference`].
pub fn audit(run_dir: &Path, on_round: &mut dyn FnMut(&Record, &Checked)) -> Result<Audit, Error> {
    let directory = Directory::of_run(run_dir);
    let missing = || Error::Missing { path: directory.path().to_owned() };
    if !directory.path().is_dir() {
        return Err(missing());
    }
    let pairs = directory.pairs()?;
    let rounds: Vec<_> =
        pairs.iter().filter(|pair| pair.segment_bytes.is_some()).map(|pair| pair.round).collect();
    let newest = *rounds.last().ok_or_else(missing)?;
    let mut walk: Option<Walk> = None;
    let mut skipped = Vec::new();
    for &round in &rounds {
        let reader = open_segment(&directory, round)?;
        let so_far = match walk.take() {
            Some(walk) => walk,
            None => match Walk::start(&directory, &reader)? {
                Ok(walk) => walk,
                Err(reason) => {
                    skipped.push(reason);
                    continue;
                }
            },
        };
        let so_far = walk.insert(so_far);
        so_far.enter(&directory, &reader)?;
        so_far.read(reader, round == newest, on_round)?;
        if so_far.report.difference.is_some() {
            break;
        }
    }
    let path = directory.path().to_owned();
    let Some(walk) = walk else { return Err(Error::NoSnapshot { path, reasons: skipped }) };
    let mut report = walk.report;
    report.to = walk.auditor.replica().position();
    report.digest = walk.auditor.replica().digest();
    report.notices.splice(0..0, skipped);
    Ok(report)
}

/// An audit on its way.
struct Walk {
    charter: Vec<u8>,
    auditor: Auditor,
    report: Audit,
    /// The segment that was read last: its path, its last checksum, where that ends.
    last: Option<(PathBuf, crate::format::Sum, u64)>,
}

impl Walk {
    /// Starts at a segment; gives what is wrong with its snapshot, if that is why it cannot.
    fn start(directory: &Directory, reader: &SegmentReader) -> Result<Result<Self, String>, Error> {
        let base = reader.header().base;
        let charter = reader.header().charter.clone();
        let auditor = match auditor(directory, reader, &charter)? {
            Ok(auditor) => auditor,
            Err(reason) => return Ok(Err(reason)),
        };
        let report = Audit {
            from: base.position,
            to: base.position,
            digest: base.digest,
            rounds: 0,
            recomputed: 0,
            signed: 0,
            unsigned: 0,
            gaps: Vec::new(),
            difference: None,
            torn: None,
            notices: Vec::new(),
        };
        Ok(Ok(Self { charter, auditor, report, last: None }))
    }

    /// Compares where a segment starts with what has been replayed.
    fn enter(&mut self, directory: &Directory, reader: &SegmentReader) -> Result<(), Error> {
        let Some((path, sum, offset)) = self.last.take() else { return Ok(()) };
        let header = reader.header();
        if header.charter != self.charter {
            return Err(Error::AnotherRun { path, other: reader.path().to_owned() });
        }
        match header.follows {
            Some(follows) if follows == sum => {
                self.compare(reader.path(), &header.base);
                Ok(())
            }
            Some(_) => {
                let reason = format!("{} does not go on where this one ends", reader.path().display());
                Err(Error::corrupt_in(&path, false, offset, reason))
            }
            None => {
                let at = self.auditor.replica().position();
                if at == header.base.position {
                    // Nothing is missing, whatever had failed.
                    self.compare(reader.path(), &header.base);
                    return Ok(());
                }
                self.report.gaps.push((at.round, header.base.round()));
                self.auditor = auditor(directory, reader, &self.charter)?.map_err(|reason| {
                    Error::NoSnapshot { path: directory.path().to_owned(), reasons: vec![reason] }
                })?;
                Ok(())
            }
        }
    }

    /// Whether a snapshot is what the rounds before it lead to.
    fn compare(&mut self, path: &Path, base: &Base) {
        let (at, digest) = (self.auditor.replica().position(), self.auditor.replica().digest());
        let reason = if (at.round, at.chain) != (base.position.round, base.position.chain) {
            let (round, chain) = (base.round(), base.position.chain);
            format!(
                "the rounds lead to round {} with {}, the log goes on from {round} with {chain}",
                at.round, at.chain
            )
        } else if digest != base.digest {
            format!("the rounds lead to digest {digest}, the snapshot has {}", base.digest)
        } else {
            return;
        };
        self.report.difference = Some(Difference { round: base.round(), path: path.to_owned(), reason });
    }

    /// Replays the entries of a segment.
    fn read(
        &mut self,
        mut reader: SegmentReader,
        newest: bool,
        on_round: &mut dyn FnMut(&Record, &Checked),
    ) -> Result<(), Error> {
        let mut payload = Vec::new();
        while self.report.difference.is_none() {
            let offset = reader.offset();
            let kind = match reader.next(&mut payload, |_| true)? {
                Found::Entry(kind) => kind,
                Found::End => break,
                Found::Broken(reason) => {
                    if reader.witness()?.is_some() {
                        return Err(Error::corrupt_in(reader.path(), newest, offset, reason));
                    }
                    let (path, bytes) = (reader.path().to_owned(), reader.rest());
                    let torn = Torn { path, offset, bytes, reason };
                    if newest {
                        self.report.torn = Some(torn);
                    } else {
                        let path = torn.path.display();
                        self.report
                            .notices
                            .push(format!("the last {bytes} bytes of {path} are torn: {reason}"));
                    }
                    break;
                }
            };
            let round = self.auditor.replica().position().round;
            if let Err(error) = self.check(kind, std::mem::take(&mut payload), on_round) {
                let (path, reason) = (reader.path().to_owned(), error.to_string());
                self.report.difference = Some(Difference { round, path, reason });
            }
        }
        self.last = Some((reader.path().to_owned(), reader.sums().1, reader.offset()));
        Ok(())
    }

    fn check(
        &mut self,
        kind: Kind,
        payload: Vec<u8>,
        on_round: &mut dyn FnMut(&Record, &Checked),
    ) -> Result<(), signvote_election::Error> {
        match kind {
            Kind::Record => {
                let record = Record::decode(&Bytes::from(payload))?;
                let checked = self.auditor.check(&record)?;
                self.report.rounds += 1;
                self.report.recomputed += checked.recomputed as u64;
                self.report.signed += checked.signed as u64;
                self.report.unsigned += checked.unsigned as u64;
                on_round(&record, &checked);
                Ok(())
            }
            Kind::Member => {
                let (slot, identity) = decode_member(&payload)?;
                self.auditor.bind(slot, &identity);
                Ok(())
            }
            Kind::Opened => {
                let at = self.auditor.replica().position();
                let opened = read_opened(&payload).map(|(incarnation, _)| incarnation);
                let incarnation = opened.unwrap_or(at.incarnation);
                self.auditor.resumed(Position { incarnation, ..at })
            }
            Kind::Clean => Ok(()),
        }
    }
}

/// An auditor that starts at a segment's snapshot, or what is wrong with that.
fn auditor(
    directory: &Directory,
    reader: &SegmentReader,
    charter: &[u8],
) -> Result<Result<Auditor, String>, Error> {
    let base = reader.header().base;
    let model = match load_snapshot(directory, &base) {
        Ok(model) => model,
        Err(reason) => return Ok(Err(reason)),
    };
    let auditor = Charter::decode(charter).and_then(|charter| Auditor::new(charter, model.x, base.position));
    auditor.map(Ok).map_err(Error::untrue("the charter", reader.path()))
}
