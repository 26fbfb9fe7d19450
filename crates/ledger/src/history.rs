//! The election's side of a ledger: its records in, and what a server needs to go on out.

use std::collections::VecDeque;
use std::path::Path;

use bytes::Bytes;
use signvote_election::{
    Charter, Chunking, Error as ElectionError, Identity, Position, PublicKey, Record, Replica, Saved, Slot,
    Steps,
};

use crate::reader::Found;
use crate::recover::open_segment;
use crate::{Error, Kind, Ledger, Recovered};

impl Ledger {
    /// Logs a committed round: [`Ledger::append`] of a [`Kind::Record`].
    ///
    /// # Errors
    /// As [`Ledger::append`].
    pub fn record(&mut self, record: &Record) -> Result<(), Error> {
        self.append(Kind::Record, &record.encode())
    }

    /// Logs that a place is this identity's from now on: [`Ledger::append`] of a [`Kind::Member`].
    ///
    /// # Errors
    /// As [`Ledger::append`].
    pub fn bind(&mut self, slot: Slot, identity: &Identity) -> Result<(), Error> {
        self.append(Kind::Member, &encode_member(slot, identity))
    }
}

impl Recovered {
    /// What the run agreed on.
    ///
    /// # Errors
    /// If the bytes are none.
    pub fn charter(&self) -> Result<Charter, Error> {
        Charter::decode(&self.charter_bytes).map_err(Error::untrue("the charter", self.path()))
    }

    /// Whose the places are.
    ///
    /// # Errors
    /// If the bytes are none.
    pub fn members(&self) -> Result<Vec<(Slot, Identity)>, Error> {
        let mut members: Vec<(Slot, Identity)> = Vec::new();
        for bytes in &self.member_bytes {
            let (slot, identity) = decode_member(bytes).map_err(Error::untrue("a member", self.path()))?;
            members.retain(|(earlier, _)| *earlier != slot);
            members.push((slot, identity));
        }
        Ok(members)
    }

    /// What a server goes on with: the snapshot, moved by all records since, in
    /// [`Recovered::next_incarnation`]. The newest records, also from before the snapshot, are given for
    /// workers that come back, up to `ring_bytes` of frames.
    ///
    /// # Errors
    /// If the log is no history of this run, or cannot be read.
    pub fn saved(&self, ring_bytes: usize) -> Result<Saved, Error> {
        let charter = self.charter()?;
        if charter.layout != self.model.layout {
            let (expected, got) = (charter.layout.dimension(), self.model.layout.dimension());
            let layout = |d| format!("the charter's layout with {d} coordinates");
            let error = incompatible("snapshot", &layout(expected), &format!("another with {got}"));
            return Err(Error::untrue("the snapshot", self.path())(error));
        }
        let chunk = charter.terms.chunk_coordinates as usize;
        let chunking = Chunking::new(self.model.x.len(), chunk).ok_or_else(|| {
            let error = incompatible("chunk length", "a multiple of 64 up to 65536", &chunk.to_string());
            Error::untrue("the charter", self.path())(error)
        })?;
        let x = self.model.x.clone();
        let mut replica = Replica::new(
            charter.terms.aggregate,
            chunking,
            Steps::new(charter.terms.step, &charter.layout),
            x,
            self.base.position,
        );
        let mut newest = Newest::up_to(ring_bytes);
        for entry in self.entries() {
            let entry = entry?;
            if entry.kind != Kind::Record {
                continue;
            }
            let payload = Bytes::from(entry.payload);
            let round = replica.position().round;
            let replayed = Record::decode(&payload).and_then(|record| {
                replay(&mut replica, &record)?;
                Ok(record)
            });
            let what = format!("round {round}");
            newest.push(replayed.map_err(Error::untrue(what, self.path()))?);
        }
        self.add_earlier(&mut newest);
        let position = Position { incarnation: self.next_incarnation(), ..replica.position() };
        let members = self.members()?;
        Ok(Saved { charter, x: replica.into_parameters(), position, records: newest.records.into(), members })
    }

    /// Puts records from before the snapshot in front, as far as there is room, and as far back as the
    /// segments follow each other and can be read: a worker that is further behind takes the parameters.
    fn add_earlier(&self, newest: &mut Newest) {
        let mut base = (self.base.position, self.follows());
        for round in self.rounds_before_base().into_iter().rev() {
            let (position, Some(follows)) = base else { return };
            if newest.full {
                return;
            }
            let Ok(mut reader) = open_segment(self.directory(), round) else { return };
            let mut earlier = Newest::up_to(newest.room());
            let mut payload = Vec::new();
            while let Ok(Found::Entry(kind)) = reader.next(&mut payload, |kind| kind == Kind::Record) {
                if kind == Kind::Record {
                    let Ok(record) = Record::decode(&Bytes::from(std::mem::take(&mut payload))) else {
                        return;
                    };
                    earlier.push(record);
                }
            }
            let end = earlier.records.back().map(|record| (record.after.round, record.after.chain));
            if reader.rest() > 0
                || reader.sums().1 != follows
                || end != Some((position.round, position.chain))
            {
                return;
            }
            newest.prepend(earlier);
            base = (reader.header().base.position, reader.header().follows);
        }
    }

    /// The ledger's directory.
    pub fn path(&self) -> &Path {
        self.directory().path()
    }
}

/// Moves a replica by a record, which has to follow from where it stands.
fn replay(replica: &mut Replica, record: &Record) -> Result<(), ElectionError> {
    let at = replica.position();
    // The incarnation may have been raised between two rounds, never lowered.
    if (record.before.round, record.before.chain) != (at.round, at.chain)
        || record.before.incarnation < at.incarnation
    {
        let place = |at: Position| format!("round {} with chain hash {}", at.round, at.chain);
        return Err(incompatible("position of a record", &place(at), &place(record.before)));
    }
    record.frames.iter().try_for_each(|frame| replica.replay(frame))?;
    if replica.position() != record.after {
        let (expected, got) = (record.after.chain, replica.position().chain);
        return Err(incompatible("chain hash", &expected.to_string(), &got.to_string()));
    }
    Ok(())
}

/// The newest records that take no more than so many bytes.
struct Newest {
    records: VecDeque<Record>,
    bytes: usize,
    most: usize,
    /// Whether an older one had to go.
    full: bool,
}

impl Newest {
    fn up_to(most: usize) -> Self {
        Self { records: VecDeque::new(), bytes: 0, most, full: false }
    }

    fn room(&self) -> usize {
        self.most - self.bytes
    }

    fn push(&mut self, record: Record) {
        let record = without_ballots(record);
        self.bytes += bytes_of(&record);
        self.records.push_back(record);
        while self.bytes > self.most
            && let Some(oldest) = self.records.pop_front()
        {
            self.bytes -= bytes_of(&oldest);
            self.full = true;
        }
    }

    /// Puts those in front that came before, which have to fit.
    fn prepend(&mut self, mut earlier: Self) {
        self.bytes += earlier.bytes;
        self.full |= earlier.full;
        earlier.records.append(&mut self.records);
        self.records = earlier.records;
    }
}

/// The record without what only an audit needs. Its frames lie within the bytes of the whole entry, so
/// they have to leave them to let go of the ballots.
fn without_ballots(record: Record) -> Record {
    if record.ballots.is_empty() {
        return record;
    }
    let frames = record.frames.iter().map(|frame| Bytes::copy_from_slice(frame)).collect();
    Record { frames, ballots: Vec::new(), ..record }
}

fn bytes_of(record: &Record) -> usize {
    record.frames.iter().map(Bytes::len).sum()
}

/// The payload of a [`Kind::Member`]: place, public key, name.
fn encode_member(slot: Slot, identity: &Identity) -> Vec<u8> {
    [&slot.number().to_le_bytes()[..], &identity.key.0, identity.name.as_bytes()].concat()
}

/// Reads the payload of a [`Kind::Member`].
pub(crate) fn decode_member(bytes: &[u8]) -> Result<(Slot, Identity), ElectionError> {
    let wrong = || incompatible("member", "a place, a key and a name", &format!("{} bytes", bytes.len()));
    let (slot, rest) = bytes.split_first_chunk::<2>().ok_or_else(wrong)?;
    let (key, name) = rest.split_first_chunk::<32>().ok_or_else(wrong)?;
    let slot = Slot::new(u16::from_le_bytes(*slot)).ok_or_else(wrong)?;
    let name = std::str::from_utf8(name).map_err(|_| wrong())?.to_owned();
    Ok((slot, Identity { name, key: PublicKey(*key) }))
}

fn incompatible(what: &'static str, expected: &str, got: &str) -> ElectionError {
    ElectionError::Incompatible { what, expected: expected.into(), got: got.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_reads_back_and_no_head_of_one_does() {
        let identity = Identity { name: "änna".into(), key: PublicKey([7; 32]) };
        let bytes = encode_member(Slot::new(300).unwrap(), &identity);
        assert_eq!(decode_member(&bytes).unwrap(), (Slot::new(300).unwrap(), identity));
        for end in 0..34 {
            assert!(decode_member(&bytes[..end]).is_err());
        }
        // Within a character.
        assert!(decode_member(&bytes[..35]).is_err());
        assert!(decode_member(&[0; 40]).is_err());
    }
}
