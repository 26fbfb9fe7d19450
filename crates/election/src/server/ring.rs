//! The verdicts of recent rounds, and how a worker that is behind gets them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::{Position, Round};

/// One committed round, in the frames that the workers were sent.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Where the history stood before this round.
    pub(super) before: Position,
    /// Its verdicts in the order of chunks, and its commit.
    pub(super) frames: Vec<Bytes>,
}

/// Recent rounds, oldest first, without gaps, up to a number of bytes.
#[derive(Debug)]
pub(super) struct Ring {
    /// With the bytes of everything that was pushed before.
    entries: VecDeque<(u64, Entry)>,
    pushed_bytes: u64,
    most_bytes: u64,
}

impl Ring {
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { entries: VecDeque::new(), pushed_bytes: 0, most_bytes: most_bytes as u64 }
    }

    /// Adds the newest round, and forgets the oldest ones that there is no room for: their frames come back. The newest always
    /// stays.
    pub(super) fn push(&mut self, entry: Entry) -> Vec<Bytes> {
        let bytes: usize = entry.frames.iter().map(Bytes::len).sum();
        self.entries.push_back((self.pushed_bytes, entry));
        self.pushed_bytes += bytes as u64;
        let mut gone = Vec::new();
        while self.held_bytes() > self.most_bytes && self.entries.len() > 1 {
            gone.extend(self.entries.pop_front().into_iter().flat_map(|(_, entry)| entry.frames));
        }
        gone
    }

    fn held_bytes(&self) -> u64 {
        self.entries.front().map_or(0, |(before, _)| self.pushed_bytes - before)
    }

    /// The round with this number, if it is still held.
    pub(super) fn round(&self, round: Round) -> Option<&Entry> {
        self.at(round).map(|(_, entry)| entry)
    }

    /// Bytes of this round and all since; 0 if it is not held.
    pub(super) fn bytes_from(&self, round: Round) -> u64 {
        self.at(round).map_or(0, |(before, _)| self.pushed_bytes - before)
    }

    fn at(&self, round: Round) -> Option<&(u64, Entry)> {
        let first = self.entries.front()?.1.before.round.0;
        self.entries.get(usize::try_from(round.0.checked_sub(first)?).ok()?)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// x at some round, shared by all who are being sent it.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) position: Position,
    pub(super) x: Vec<f32>,
}

/// The newest snapshot, for as long as it is of use: whoever comes meanwhile, and comes again, is sent the same.
#[derive(Debug, Default)]
pub(super) struct Shared(Option<Arc<Snapshot>>);

impl Snapshot {
    /// Whether the ring leads on from it by `most_bytes` at most.
    pub(super) fn leads_on(&self, ring: &Ring, most_bytes: u64) -> bool {
        let at = self.position;
        let held = ring.round(at.round).is_some_and(|entry| entry.before.chain == at.chain);
        held && ring.bytes_from(at.round) <= most_bytes
    }
}

impl Shared {
    /// The snapshot that is there if the ring leads on from it by `most_bytes` at most, else a new one.
    pub(super) fn snapshot(
        &mut self,
        ring: &Ring,
        most_bytes: u64,
        position: Position,
        x: &[f32],
    ) -> Arc<Snapshot> {
        let usable = |it: &&Arc<Snapshot>| it.position == position || it.leads_on(ring, most_bytes);
        if let Some(snapshot) = self.0.as_ref().filter(usable) {
            return Arc::clone(snapshot);
        }
        let snapshot = Arc::new(Snapshot { position, x: x.to_vec() });
        Arc::clone(self.0.insert(snapshot))
    }

    /// Lets go of the snapshot once it is of no use. To be called when a round has been pushed.
    pub(super) fn release(&mut self, ring: &Ring, most_bytes: u64) {
        self.0.take_if(|snapshot| !snapshot.leads_on(ring, most_bytes));
    }
}

/// What a worker that is behind has yet to be sent.
#[derive(Debug)]
pub(super) struct CatchUp {
    /// Parameters, and the first chunk of them that has not been sent.
    pub(super) snapshot: Option<(Arc<Snapshot>, usize)>,
    /// The first round whose verdict has not been sent.
    pub(super) next: Round,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(round: u64, bytes: usize) -> Entry {
        let before = Position { round: Round(round), ..Position::default() };
        Entry { before, frames: vec![Bytes::from(vec![0; bytes])] }
    }

    #[test]
    fn a_ring_holds_the_newest_rounds_that_fit() {
        let mut ring = Ring::new(100);
        let gone: usize = (5..15).map(|round| ring.push(entry(round, 30)).len()).sum();
        assert_eq!(gone, 7);
        assert_eq!(ring.len(), 3);
        assert!(ring.round(Round(11)).is_none() && ring.round(Round(15)).is_none());
        assert_eq!(ring.round(Round(12)).map(|entry| entry.before.round), Some(Round(12)));
        assert_eq!([11, 12, 14, 15].map(|round| ring.bytes_from(Round(round))), [0, 90, 30, 0]);
        ring.push(entry(15, 1000));
        assert_eq!(ring.len(), 1, "the newest stays, however long");
        ring.push(entry(16, 10));
        assert_eq!(ring.len(), 1);
    }
}
