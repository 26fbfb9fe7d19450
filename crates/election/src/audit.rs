//! A run looked at again, round by round: was every verdict the majority of the ballots, and who voted?

use std::collections::BTreeMap;

use signvote_kernels::{self as kernels, Ballot, words};

use crate::seal::{Sealed, ballot_root, chunk_hash};
use crate::wire::ToServer;
use crate::{
    AggregateKind, Charter, Chunking, Error, Identity, Position, PublicKey, Record, Replica, Slot, SlotSet,
    Steps,
};

/// What a round's record proved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Chunks whose verdict was computed again from recorded ballots, and was the same.
    pub recomputed: usize,
    /// Whole ballots whose signature holds.
    pub signed: usize,
    /// Ballots that counted without a signature: they came in part, or there are no identities.
    pub unsigned: usize,
}

/// Replays a run from its records, and believes none of them.
#[derive(Debug)]
pub struct Auditor {
    charter: Charter,
    chunking: Chunking,
    replica: Replica,
    keys: BTreeMap<Slot, PublicKey>,
}

impl Auditor {
    /// An audit that begins with x at `position`.
    ///
    /// # Errors
    /// If x is not of the charter's layout.
    pub fn new(charter: Charter, x: Vec<f32>, position: Position) -> Result<Self, Error> {
        let chunk = charter.terms.chunk_coordinates as usize;
        let chunking = Chunking::new(charter.layout.dimension(), chunk)
            .ok_or_else(|| Error::malformed("chunk length", "a multiple of 64 up to 65536", chunk))?;
        if x.len() != chunking.dimension() {
            return Err(Error::incompatible("parameters", chunking.dimension(), x.len()));
        }
        let replica = Replica::new(
            charter.terms.aggregate,
            chunking,
            Steps::new(charter.terms.step, &charter.layout),
            x,
            position,
        );
        Ok(Self { charter, chunking, replica, keys: BTreeMap::new() })
    }

    /// From here on the place is this identity's.
    pub fn bind(&mut self, slot: Slot, identity: &Identity) {
        self.keys.insert(slot, identity.key);
    }

    /// The server went on in a later incarnation.
    ///
    /// # Errors
    /// If its history is another one than that of the records.
    pub fn resumed(&mut self, position: Position) -> Result<(), Error> {
        let at = self.replica.position();
        if (at.round, at.chain) != (position.round, position.chain) || position.incarnation < at.incarnation {
            let describe = |at: Position| format!("round {} with chain hash {}", at.round, at.chain);
            return Err(Error::incompatible("history of verdicts", describe(at), describe(position)));
        }
        self.replica.set_incarnation(position.incarnation);
        Ok(())
    }

    /// The replica as of the last record.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Checks a round: chain, voters, quorum, signatures and, where ballots were recorded, every verdict.
    ///
    /// # Errors
    /// What does not hold, in one sentence.
    pub fn check(&mut self, record: &Record) -> Result<Checked, Error> {
        let at = self.replica.position();
        if record.before != at {
            return Err(Error::incompatible(
                "position of a record",
                format!("round {} with chain hash {}", at.round, at.chain),
                format!("round {} with {}", record.before.round, record.before.chain),
            ));
        }
        let chunks = self.chunking.count();
        if record.frames.len() != chunks + 1 || record.chunk_voters.len() != chunks {
            let got = format!("{} and {}", record.frames.len(), record.chunk_voters.len());
            return Err(Error::incompatible("frames and voter sets of a record", chunks + 1, got));
        }
        let (commit, verdicts) = record.frames.split_last().map_or((None, &[][..]), |(c, v)| (Some(c), v));
        verdicts.iter().try_for_each(|frame| self.replica.replay(frame))?;
        let mut checked = Checked::default();
        self.check_voters(record, commit.map_or(&[][..], |commit| commit))?;
        if !record.ballots.is_empty() {
            self.check_ballots(record, &mut checked)?;
        }
        let voters = union(&record.chunk_voters);
        checked.unsigned = voters.len() - checked.signed.min(voters.len());
        commit.map_or(Ok(()), |commit| self.replica.replay(commit))?;
        if self.replica.position() != record.after {
            return Err(Error::incompatible("chain hash", record.after.chain, self.replica.position().chain));
        }
        Ok(checked)
    }

    /// The commit names those who voted on some chunk, and no chunk was decided below the quorum.
    fn check_voters(&self, record: &Record, commit: &[u8]) -> Result<(), Error> {
        let named = crate::replica::voters_of(commit)?;
        let counted = union(&record.chunk_voters);
        if named.as_words() != counted.as_words() {
            return Err(Error::incompatible("voters of the round", counted.len(), named.len()));
        }
        let quorum = self.charter.quorum as usize;
        match record.chunk_voters.iter().map(SlotSet::len).find(|&voters| voters < quorum) {
            Some(voters) => {
                Err(Error::incompatible("voters of a chunk", format!("{quorum} or more"), voters))
            }
            None => Ok(()),
        }
    }

    fn check_ballots(&mut self, record: &Record, checked: &mut Checked) -> Result<(), Error> {
        if self.charter.terms.aggregate != AggregateKind::Vote {
            return Ok(());
        }
        let mut hashes: BTreeMap<Slot, Vec<[u8; 32]>> = BTreeMap::new();
        let mut ballots = record.ballots.iter().peekable();
        for chunk in 0..self.chunking.count() {
            let coordinates = self.chunking.coordinates(chunk).len();
            let mut planes = Vec::new();
            for slot in record.chunk_voters[chunk].iter() {
                let Some((_, frame)) = ballots.next_if(|(owner, _)| *owner == slot) else {
                    let got = format!("none of worker {slot} on chunk {chunk}");
                    return Err(Error::incompatible("recorded ballots", "one of each voter", got));
                };
                let (signs, abstain) = self.planes(record, chunk, frame)?;
                let any = abstain.iter().any(|&word| word != 0);
                hashes.entry(slot).or_default().push(chunk_hash(&signs, any.then_some(&abstain)));
                planes.push((signs, abstain));
            }
            let range = self.chunking.words(chunk);
            let tie = self.charter.tie.at(self.charter.terms.seed, record.round(), range.start);
            let ballots: Vec<_> =
                planes.iter().map(|(signs, abstain)| Ballot::new(signs, Some(abstain))).collect();
            let (mut signs, mut hold) = (vec![0; range.len()], vec![0; range.len()]);
            kernels::decide(&ballots, coordinates, tie, self.charter.min_voters, &mut signs, &mut hold);
            if self.replica.staged(chunk) != Some((&signs[..], &hold[..])) {
                let got = format!("another verdict on chunk {chunk}");
                return Err(Error::incompatible("verdict", "the majority of the recorded ballots", got));
            }
            checked.recomputed += 1;
        }
        if let Some((slot, _)) = ballots.next() {
            let got = format!("one more of worker {slot}");
            return Err(Error::incompatible("recorded ballots", "those of the voters", got));
        }
        self.check_seals(record, &hashes, checked)
    }

    fn check_seals(
        &self,
        record: &Record,
        hashes: &BTreeMap<Slot, Vec<[u8; 32]>>,
        checked: &mut Checked,
    ) -> Result<(), Error> {
        for (slot, signature) in &record.seals {
            let (Some(&key), Some(hashes)) = (self.keys.get(slot), hashes.get(slot)) else {
                let got = format!("one of worker {slot}, which has no identity or no ballot");
                return Err(Error::incompatible("signatures", "those of voters", got));
            };
            if hashes.len() != self.chunking.count() {
                return Err(Error::incompatible("signed ballot", self.chunking.count(), hashes.len()));
            }
            let sealed = Sealed {
                run: self.charter.terms.run,
                incarnation: record.before.incarnation,
                round: record.round(),
                root: ballot_root(hashes.iter()),
            };
            sealed.verify(key, signature)?;
            checked.signed += 1;
        }
        Ok(())
    }

    /// The planes of a recorded ballot.
    fn planes(&self, record: &Record, chunk: usize, frame: &[u8]) -> Result<(Vec<u64>, Vec<u64>), Error> {
        let coordinates = self.chunking.coordinates(chunk).len();
        let ToServer::Ballot { round, chunk: of, planes } = ToServer::decode(frame)? else {
            return Err(Error::malformed("recorded ballot", "a ballot", "another frame"));
        };
        if round != record.round() || of as usize != chunk {
            let expected = format!("chunk {chunk} of round {}", record.round());
            return Err(Error::malformed(
                "recorded ballot",
                expected,
                format!("chunk {of} of round {round}"),
            ));
        }
        let (mut signs, mut abstain) = (vec![0; words(coordinates)], vec![0; words(coordinates)]);
        planes.read(coordinates, &mut signs, &mut abstain)?;
        Ok((signs, abstain))
    }
}

fn union(sets: &[SlotSet]) -> SlotSet {
    sets.iter().flat_map(SlotSet::iter).collect()
}
