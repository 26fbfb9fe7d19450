//! What a run is, and what each of its rounds was: the contents of a log, in bytes.

use std::ops::Range;

use bytes::Bytes;

use crate::wire::codec::{Reader, Writer};
use crate::wire::of_shards::read_slot;
use crate::wire::{self, to_worker};
use crate::{
    ChainHash, Error, Incarnation, Layout, Position, Round, Settings, Signature, Slot, SlotSet, Terms,
    TiePolicy,
};

/// Longest charter that is read: a layout of the greatest size, and settings.
pub const MAX_CHARTER_BYTES: usize = 64 << 20;

/// Everything that does not change in the course of a run, as a log keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Charter {
    /// What the workers agreed to.
    pub terms: Terms,
    /// What a tie becomes.
    pub tie: TiePolicy,
    /// Votes below which a coordinate is held.
    pub min_voters: u32,
    /// Fewest ballots that decide.
    pub quorum: u32,
    /// The model's layout.
    pub layout: Layout,
    /// What the first worker said of the model.
    pub settings: Settings,
}

impl Charter {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::default();
        to_worker::write_terms(&mut out, &self.terms);
        wire::write_tie(&mut out, self.tie);
        out.u32(self.min_voters);
        out.u32(self.quorum);
        out.bytes(&self.layout.encode());
        wire::write_settings(&mut out, &self.settings);
        out.into_inner()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let charter = Self {
            terms: to_worker::read_terms(&mut reader)?,
            tie: wire::read_tie(&mut reader)?,
            min_voters: reader.u32()?,
            quorum: reader.u32()?,
            layout: Layout::decode(&mut reader)?,
            settings: wire::read_settings(&mut reader)?,
        };
        reader.finish()?;
        Ok(charter)
    }
}

/// One committed round.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Where the history stood before it.
    pub before: Position,
    /// Where it stands after it.
    pub after: Position,
    /// The VERDICT (or UPDATE) frames in the order of the chunks, then the COMMIT: byte for byte what the workers
    /// were sent.
    pub frames: Vec<Bytes>,
    /// Whose ballots counted in each chunk.
    pub chunk_voters: Vec<SlotSet>,
    /// Signatures under whole ballots.
    pub seals: Vec<(Slot, Signature)>,
    /// The ballots that counted, as BALLOT frames by chunk and place; empty unless ballots are recorded.
    pub ballots: Vec<(Slot, Bytes)>,
}

impl Record {
    /// The round.
    pub fn round(&self) -> Round {
        self.before.round
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let frames = self.frames.iter().chain(self.ballots.iter().map(|(_, frame)| frame));
        let bytes: usize = frames.map(Bytes::len).sum();
        let mut out = Writer::with_capacity(bytes + 256 + self.chunk_voters.len() * 16);
        wire::write_position(&mut out, self.before);
        out.u32(self.after.incarnation.0);
        out.bytes(&self.after.chain.0);
        out.u32(self.frames.len() as u32);
        self.frames.iter().for_each(|frame| out.bytes(frame));
        // Most rounds have one set of voters for all chunks.
        let mut runs: Vec<(&SlotSet, u32)> = Vec::new();
        for set in &self.chunk_voters {
            match runs.last_mut() {
                Some((last, count)) if last.as_words() == set.as_words() => *count += 1,
                _ => runs.push((set, 1)),
            }
        }
        out.u32(runs.len() as u32);
        for (set, count) in runs {
            let words = set.as_words();
            out.u32(count);
            out.u16(words.len() as u16);
            out.words(words);
        }
        out.u16(self.seals.len() as u16);
        for (slot, signature) in &self.seals {
            out.u16(slot.number());
            out.bytes(&signature.0);
        }
        out.u32(self.ballots.len() as u32);
        for (slot, frame) in &self.ballots {
            out.u16(slot.number());
            out.bytes(frame);
        }
        out.into_inner()
    }

    /// Reads what [`Self::encode`] wrote. Memory is taken as bytes are there, not as they are announced.
    ///
    /// # Errors
    /// If the bytes are none.
    pub fn decode(bytes: &Bytes) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let before = wire::read_position(&mut reader)?;
        let after = Position {
            round: before.round.next(),
            incarnation: Incarnation(reader.u32()?),
            chain: ChainHash(reader.array()?),
        };
        let mut frames = Vec::new();
        for _ in 0..reader.u32()? {
            frames.push(bytes.slice(frame(bytes, &mut reader)?));
        }
        let mut chunk_voters = Vec::new();
        for _ in 0..reader.u32()? {
            let count = reader.u32()? as usize;
            let set = to_worker::voters_from(&mut reader)?;
            if count > frames.len() || chunk_voters.len() + count > frames.len() {
                return Err(Error::malformed("voters of chunks", frames.len(), count));
            }
            chunk_voters.resize(chunk_voters.len() + count, set);
        }
        let mut seals = Vec::new();
        for _ in 0..reader.u16()? {
            seals.push((read_slot(&mut reader)?, Signature(reader.array()?)));
        }
        let mut ballots = Vec::new();
        for _ in 0..reader.u32()? {
            let slot = read_slot(&mut reader)?;
            ballots.push((slot, bytes.slice(frame(bytes, &mut reader)?)));
        }
        reader.finish()?;
        Ok(Self { before, after, frames, chunk_voters, seals, ballots })
    }
}

/// Where the next whole frame lies.
fn frame(bytes: &Bytes, reader: &mut Reader<'_>) -> Result<Range<usize>, Error> {
    let start = bytes.len() - reader.left();
    let length = reader.u32()? as usize;
    if length > wire::MAX_FRAME_BYTES {
        return Err(Error::malformed("frame in a record", wire::MAX_FRAME_BYTES, length));
    }
    reader.bytes(length)?;
    Ok(start..bytes.len() - reader.left())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Record {
        let slots = |numbers: &[u16]| numbers.iter().filter_map(|&n| Slot::new(n)).collect::<SlotSet>();
        let one = Slot::new(1).unwrap();
        let verdict = |chunk| to_worker::verdict(Round(4), chunk, &[5], &[0], &mut Vec::new());
        Record {
            before: Position { round: Round(4), incarnation: Incarnation(1), chain: ChainHash([1; 32]) },
            after: Position { round: Round(5), incarnation: Incarnation(2), chain: ChainHash([2; 32]) },
            frames: vec![verdict(0), verdict(1), verdict(2), to_worker::pause("as good as any")],
            chunk_voters: vec![slots(&[1, 2]), slots(&[1, 2]), slots(&[70])],
            seals: vec![(one, Signature([9; 64]))],
            ballots: vec![(one, verdict(0))],
        }
    }

    #[test]
    fn a_record_reads_back_and_no_part_of_one_does() {
        let record = example();
        let bytes = Bytes::from(record.encode());
        assert_eq!(Record::decode(&bytes).unwrap(), record);
        for end in 0..bytes.len() {
            assert!(Record::decode(&bytes.slice(..end)).is_err(), "{end} of {} bytes", bytes.len());
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(Record::decode(&longer.into()).is_err());
    }
}
