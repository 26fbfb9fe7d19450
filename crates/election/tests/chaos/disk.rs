//! A simulated disk, and what is left on it after a crash.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use signvote_election::{
    Auditor, Charter, Chunking, Identity, Incarnation, Position, Record, Replica, Saved, Slot, Steps,
};

use super::plan::Durability;

/// Snapshots, and the log of records since the beginning.
pub(crate) struct Disk {
    durability: Durability,
    pub(crate) charter: Option<Charter>,
    snapshots: Vec<(Position, Vec<f32>)>,
    pub(crate) records: Vec<Arc<Record>>,
    /// So many of them are certain to survive.
    synced: usize,
    incarnation: u32,
    pub(crate) members: BTreeMap<Slot, Identity>,
    pub(crate) auditor: Option<Auditor>,
    /// Whether the last server went in peace.
    clean: bool,
    /// Rounds that were lost in all crashes.
    pub(crate) lost: usize,
}

impl Disk {
    pub(crate) fn new(durability: Durability) -> Self {
        Self {
            durability,
            charter: None,
            snapshots: vec![],
            records: vec![],
            synced: 0,
            incarnation: 0,
            members: BTreeMap::new(),
            auditor: None,
            clean: false,
            lost: 0,
        }
    }

    /// The model is known.
    pub(crate) fn begin(&mut self, charter: Charter, position: Position, x: &[f32]) {
        self.auditor = Some(Auditor::new(charter.clone(), x.to_vec(), position).unwrap());
        self.members.iter().for_each(|(&slot, identity)| self.auditor.as_mut().unwrap().bind(slot, identity));
        self.charter = Some(charter);
        self.snapshots = vec![(position, x.to_vec())];
    }

    pub(crate) fn bind(&mut self, slot: Slot, identity: Identity) {
        if let Some(auditor) = &mut self.auditor {
            auditor.bind(slot, &identity);
        }
        self.members.insert(slot, identity);
    }

    /// What has been committed according to the log.
    pub(crate) fn position(&self) -> Position {
        let first = self.snapshots[0].0;
        self.records.last().map_or(first, |record| record.after)
    }

    /// A round; the auditor believes it, and it goes on where the log ends.
    pub(crate) fn append(&mut self, record: Arc<Record>, rng: &mut ChaCha8Rng) {
        let (at, before) = (self.position(), record.before);
        assert_eq!((at.round, at.chain), (before.round, before.chain), "the log goes on where it ended");
        let checked = self.auditor.as_mut().unwrap().check(&record).unwrap();
        assert_eq!(checked.recomputed, record.chunk_voters.len(), "every verdict is that of its ballots");
        let quorum = self.charter.as_ref().unwrap().quorum as usize;
        assert!(record.chunk_voters.iter().all(|voters| voters.len() >= quorum), "below the quorum");
        self.records.push(record);
        if self.durability == Durability::Always || rng.random_bool(0.3) {
            self.synced = self.records.len();
        }
        self.clean = false;
    }

    pub(crate) fn snapshot(&mut self, position: Position, x: &[f32]) {
        assert_eq!(position.round, self.position().round);
        self.snapshots.push((position, x.to_vec()));
        self.synced = self.records.len();
    }

    /// The server has gone in peace, and has kept everything.
    pub(crate) fn close(&mut self, position: Position, x: &[f32]) {
        if self.position().round == position.round {
            self.snapshot(position, x);
        }
        self.clean = true;
    }

    /// What a server that is started now finds; `None` if there is no run yet.
    pub(crate) fn recover(&mut self, rng: &mut ChaCha8Rng) -> Option<Saved> {
        let Some(charter) = self.charter.clone() else {
            // Nothing was begun; whose the places were is forgotten with it.
            self.members.clear();
            return None;
        };
        let kept = match self.durability {
            _ if self.clean => self.records.len(),
            Durability::Always => self.records.len(),
            Durability::Interval => rng.random_range(self.synced..=self.records.len()),
            Durability::Off => self.snapshots.last().unwrap().0.round.0 as usize,
        };
        let whole = kept == self.records.len();
        self.lost += self.records.len() - kept;
        self.records.truncate(kept);
        if self.durability != Durability::Always && !self.clean {
            self.incarnation += 1;
        }
        self.clean = false;
        let position = Position { incarnation: Incarnation(self.incarnation), ..self.position() };
        let (from, x) = self.snapshots.iter().rfind(|(at, _)| at.round <= position.round).unwrap();
        let chunking = Chunking::new(x.len(), charter.terms.chunk_coordinates as usize).unwrap();
        let mut replica = Replica::new(
            charter.terms.aggregate,
            chunking,
            Steps::new(charter.terms.step, &charter.layout),
            x.clone(),
            *from,
        );
        for record in &self.records[from.round.0 as usize..] {
            record.frames.iter().for_each(|frame| replica.replay(frame).unwrap());
        }
        assert_eq!(replica.position().chain, position.chain, "snapshot and log are of one history");
        let x = replica.into_parameters();
        if whole {
            self.auditor.as_mut().unwrap().resumed(position).unwrap();
            let audited = self.auditor.as_ref().unwrap().replica().parameters();
            assert!(audited.iter().zip(&x).all(|(a, b)| a.to_bits() == b.to_bits()));
        } else {
            let mut auditor = Auditor::new(charter.clone(), x.clone(), position).unwrap();
            self.members.iter().for_each(|(&slot, identity)| auditor.bind(slot, identity));
            self.auditor = Some(auditor);
        }
        let held = match self.durability {
            Durability::Off => 0,
            _ => rng.random_range(0..=self.records.len()),
        };
        let records = self.records[self.records.len() - held..].iter().map(|r| (**r).clone()).collect();
        let members = self.members.iter().map(|(&slot, identity)| (slot, identity.clone())).collect();
        Some(Saved { charter, x, position, records, members })
    }

    /// A whole audit of what is left, from the first round on.
    pub(crate) fn audit(&self) -> Replica {
        let charter = self.charter.clone().unwrap();
        let (position, x) = self.snapshots[0].clone();
        let chunking = Chunking::new(x.len(), charter.terms.chunk_coordinates as usize).unwrap();
        let mut replica = Replica::new(
            charter.terms.aggregate,
            chunking,
            Steps::new(charter.terms.step, &charter.layout),
            x,
            position,
        );
        for record in &self.records {
            record.frames.iter().for_each(|frame| replica.replay(frame).unwrap());
        }
        replica
    }
}
