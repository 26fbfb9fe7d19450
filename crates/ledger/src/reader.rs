//! Reading a segment, and telling damage from a write that was cut short.
//!
//! Let `o` be the first byte of the first entry that is not whole: its head is not sound, it claims more
//! bytes than the file holds, or its checksum is wrong. If at `o` or behind it there is a sound head that
//! says that the disk held more than `o` bytes when it was written, then what is wrong at `o` had once been
//! on the disk: the file is *damaged*. If there is none, nothing shows that it had: the tail is *torn*, and
//! can be cut off.
//!
//! The alternative, to call torn only what reaches the end of the file, refuses a log after every power cut
//! at which the disk wrote later blocks before earlier ones; to call everything torn loses rounds that were
//! promised.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::format::{EntrySum, HEAD_BYTES, Head, Header, Kind, Sum, WORD};

/// Most that is read at once where the bytes are only checked.
const PIECE_BYTES: usize = 1 << 16;

/// What stands at the reader's place in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A whole entry; the reader is behind it.
    Entry(Kind),
    /// The end of the file.
    End,
    /// An entry that is not whole, and why; the reader stays before it.
    Broken(&'static str),
}

/// Reads a segment from its start, entry by entry.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    path: PathBuf,
    file: BufReader<File>,
    /// Bytes in the file when it was opened: a server may be appending to it.
    length: u64,
    /// Behind the last whole entry.
    offset: u64,
    header: Header,
    /// Checksum of the header.
    segment: Sum,
    /// Checksum of the last whole entry.
    previous: Sum,
}

impl SegmentReader {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        let mut file = BufReader::with_capacity(PIECE_BYTES, file);
        let (header, segment, offset) = Header::read(&mut file, path, length)?;
        Ok(Self { path: path.to_owned(), file, length, offset, header, segment, previous: segment })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// Behind the last whole entry.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes behind the last whole entry.
    pub(crate) fn rest(&self) -> u64 {
        self.length - self.offset
    }

    /// Checksums of the header and of the last whole entry.
    pub(crate) fn sums(&self) -> (Sum, Sum) {
        (self.segment, self.previous)
    }

    /// Checks the next entry. `payload` is emptied, and filled for the kinds that `wanted` names; no more
    /// is ever allocated than the file still holds.
    pub(crate) fn next(&mut self, payload: &mut Vec<u8>, wanted: fn(Kind) -> bool) -> Result<Found, Error> {
        payload.clear();
        if self.rest() == 0 {
            return Ok(Found::End);
        }
        if self.rest() < HEAD_BYTES as u64 {
            return Ok(Found::Broken("the file ends within the head of an entry"));
        }
        let mut bytes = [0; HEAD_BYTES];
        self.read(&mut bytes)?;
        let Some(head) = Head::decode(&bytes, self.segment) else {
            return Ok(Found::Broken("no entry starts there"));
        };
        let whole = (HEAD_BYTES + Sum::BYTES) as u64;
        let Some(whole) = head.length.checked_add(whole).filter(|&whole| whole <= self.rest()) else {
            return Ok(Found::Broken("the entry is longer than the rest of the file"));
        };
        let mut sum = EntrySum::new(self.previous, &bytes);
        if wanted(head.kind) {
            let length = usize::try_from(head.length).unwrap_or(usize::MAX);
            let reserved = payload.try_reserve_exact(length);
            reserved.map_err(|error| Error::io("read", &self.path)(std::io::Error::other(error)))?;
            payload.resize(length, 0);
            self.read(payload)?;
            sum.update(payload);
        } else {
            let mut piece = [0; PIECE_BYTES];
            let mut left = head.length;
            while left > 0 {
                let now = left.min(PIECE_BYTES as u64) as usize;
                self.read(&mut piece[..now])?;
                sum.update(&piece[..now]);
                left -= now as u64;
            }
        }
        let mut stored = [0; Sum::BYTES];
        self.read(&mut stored)?;
        if sum.finish() != Sum(stored) {
            payload.clear();
            return Ok(Found::Broken("the checksum of the entry is wrong"));
        }
        self.offset += whole;
        self.previous = Sum(stored);
        Ok(Found::Entry(head.kind))
    }

    /// Whether the broken entry that the reader stands at had once been on the disk: where the entry behind
    /// it starts that says so.
    pub(crate) fn witness(&mut self) -> Result<Option<u64>, Error> {
        let mut start = self.offset;
        self.file.seek(SeekFrom::Start(start)).map_err(Error::io("read", &self.path))?;
        let mut bytes = Vec::new();
        let mut left = self.length.saturating_sub(start);
        while left > 0 {
            let kept = bytes.len();
            let now = left.min(PIECE_BYTES as u64) as usize;
            bytes.resize(kept + now, 0);
            self.read(&mut bytes[kept..])?;
            left -= now as u64;
            for (at, window) in bytes.windows(HEAD_BYTES).enumerate() {
                if window[..4] != WORD {
                    continue;
                }
                let head = window.try_into().ok().and_then(|head| Head::decode(head, self.segment));
                if head.is_some_and(|head| head.synced > self.offset) {
                    return Ok(Some(start + at as u64));
                }
            }
            // A head may lie across two pieces.
            let done = bytes.len().saturating_sub(HEAD_BYTES - 1);
            bytes.drain(..done);
            start += done as u64;
        }
        Ok(None)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.file.read_exact(bytes).map_err(Error::io("read", &self.path))
    }
}
