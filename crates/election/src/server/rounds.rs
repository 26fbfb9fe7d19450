//! The open round: which ballots are in, when a chunk is decided, and the commit.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::ring::Entry;
use super::shards::Counted;
use super::{Output, Phase, Server};
use crate::ballots::Piece;
use crate::chain::Link;
use crate::decision::{self, Turnout};
use crate::seal::Sealed;
use crate::wire::of_shards::Tallied;
use crate::wire::to_worker;
use crate::{
    Digest, DigestTree, Error, Event, Margins, PeerId, Position, Record, Round, Signature, Slot, SlotSet,
    WorkerVotes,
};

/// Digests kept for workers that are a little behind.
const RECENT_DIGESTS: usize = 8;

/// Rounds whose arrivals the deadline follows.
const RECENT_ARRIVALS: usize = 64;
/// How long a whole ballot may be without its signature, which is sent right behind it, once all is decided.
const SEAL_PATIENCE: Duration = Duration::from_secs(2);

/// What a worker reports of its batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    pub(super) loss: f32,
    pub(super) correct: u32,
    pub(super) samples: u32,
}

/// One chunk of the open round.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunk {
    pub(super) voted: SlotSet,
    /// The frame that told the verdict, for who joins in mid-round.
    pub(super) decided: Option<Bytes>,
    pub(super) hash: [u8; 32],
    /// What shards say of it, where there are shards.
    pub(super) counted: Counted,
}

/// The round that takes ballots.
#[derive(Debug, Default)]
pub(super) struct OpenRound {
    /// Who was there when it opened and still is: the round waits for these.
    pub(super) expected: SlotSet,
    /// Places taken in mid-round. What their last occupants cast stands, and the newcomers cannot know of it.
    pub(super) newcomers: SlotSet,
    pub(super) chunks: Vec<Chunk>,
    /// How many of them are not decided.
    undecided: usize,
    /// On how many chunks each place has voted.
    cast: Vec<usize>,
    pub(super) deadline: Option<Duration>,
    pub(super) deadline_passed: bool,
    /// Until when those are waited for who voted before the server was started again.
    pub(super) grace: Option<Duration>,
    /// Until when signatures are waited for, once every chunk is decided.
    pub(super) seal_by: Option<Duration>,
    opened: Duration,
    /// When whole ballots were in, since the opening.
    arrivals: Vec<Duration>,
    pub(super) seals: Vec<(Slot, Signature)>,
    /// Signatures that came before the shards had said what they have counted.
    pub(super) early_seals: Vec<(Slot, Signature)>,
    /// At how many shards each place's ballot is whole.
    whole: Vec<usize>,
    pub(super) reports: Vec<Option<Report>>,
    ties: usize,
    holds: usize,
    reason: String,
    /// Histograms of margins by tensor, in a round whose votes are told.
    margins: Vec<Margins>,
}

impl OpenRound {
    /// Nobody is waited for any more.
    pub(super) fn stop_waiting(&mut self) {
        (self.deadline, self.grace, self.seal_by) = (None, None, None);
    }

    fn has_voted(&self, slot: Slot) -> bool {
        self.cast.get(slot.index()).is_some_and(|&chunks| chunks == self.chunks.len())
    }
}

impl OpenRound {
    /// Its shards have decided one more chunk.
    pub(super) fn decided_by_shards(&mut self, agreed: &Tallied) {
        self.undecided -= 1;
        self.ties += agreed.ties as usize;
        self.holds += agreed.holds as usize;
        agreed.voters.iter().for_each(|(slot, ..)| self.cast[slot.index()] += 1);
        let (all, voters) = (self.expected.len(), agreed.voters.len());
        self.reason = match self.deadline_passed && voters < all {
            true => format!("the deadline has passed with {voters} ballots, counted by shards"),
            false => format!("all {all} present voters have voted, {voters} ballots, counted by shards"),
        };
    }

    /// A ballot is whole at one more of so many shards.
    pub(super) fn whole_at_shard(&mut self, now: Duration, slot: Slot, shards: usize) {
        self.whole[slot.index()] += 1;
        if self.whole[slot.index()] == shards {
            self.arrivals.push(now.saturating_sub(self.opened));
        }
    }
}

impl Server {
    /// Opens the first round.
    pub(super) fn start(&mut self, now: Duration) {
        let Some(model) = &self.model else { return };
        let dimension = model.layout.dimension();
        let tensors = model.layout.tensors().iter().map(|tensor| tensor.name.clone()).collect();
        self.phase = Phase::Running;
        self.event(Event::Started { dimension, workers: self.present(), tensors });
        if self.at.round.0 >= self.config.terms.rounds {
            self.finish(now, "there are no rounds to run");
            return;
        }
        self.open_round(now);
        self.broadcast(&to_worker::open(self.at));
    }

    /// When the open round may close without those who are missing, since its opening, and why.
    pub(super) fn next_deadline(&self) -> (Option<Duration>, String) {
        let arrivals: Vec<_> = self.arrivals.iter().copied().collect();
        decision::deadline(self.config.deadline, &arrivals)
    }

    pub(super) fn open_round(&mut self, now: Duration) {
        let chunks = self.model.as_ref().map_or(0, |model| model.chunking.count());
        let awaited = |slot: &Slot| self.members[slot.index()].probation.is_none();
        self.open = OpenRound {
            expected: self.live().map(|(_, slot)| slot).filter(awaited).collect(),
            chunks: vec![Chunk::default(); chunks],
            undecided: chunks,
            cast: vec![0; self.members.len()],
            whole: vec![0; self.members.len()],
            deadline: self.next_deadline().0.map(|deadline| now.saturating_add(deadline)),
            opened: now,
            reports: vec![None; self.members.len()],
            ..OpenRound::default()
        };
        self.open_at_shards();
    }

    /// A worker may vote in the open round only; what comes for an earlier one is late and not counted.
    fn is_open(&self, slot: Slot, round: Round) -> Result<bool, Error> {
        if self.phase == Phase::Running && round == self.at.round {
            return Ok(true);
        }
        if round < self.at.round || matches!(self.phase, Phase::Finishing(_)) {
            return Ok(false);
        }
        let details = format!("worker {slot} voted in round {round} while round {} is open", self.at.round);
        Err(Error::misbehaved("vote in the open round", details))
    }

    pub(super) fn take_report(
        &mut self,
        slot: Slot,
        round: Round,
        report: Report,
        non_finite: u64,
    ) -> Result<(), Error> {
        if !self.is_open(slot, round)? {
            return Ok(());
        }
        let known = self.open.reports[slot.index()].replace(report).is_some();
        if known && !self.open.newcomers.contains(slot) {
            return Err(Error::misbehaved("report once a round", format!("worker {slot}, round {round}")));
        }
        if non_finite > 0 && !known {
            self.event(Event::NonFinite { slot, round, coordinates: non_finite });
        }
        Ok(())
    }

    pub(super) fn take_ballot(
        &mut self,
        now: Duration,
        slot: Slot,
        round: Round,
        chunk: usize,
        piece: Piece<'_>,
    ) -> Result<(), Error> {
        let open = self.is_open(slot, round)?;
        let Some(model) = &mut self.model else {
            return Err(Error::misbehaved("vote in the open round", "there is no model yet"));
        };
        if chunk >= model.chunking.count() {
            let details = format!("chunk {chunk} of {}", model.chunking.count());
            return Err(Error::misbehaved("vote on chunks that exist", details));
        }
        if open && self.open.chunks[chunk].voted.contains(slot) {
            if self.open.newcomers.contains(slot) {
                return Ok(());
            }
            let details = format!("worker {slot}, round {round}, chunk {chunk}");
            return Err(Error::misbehaved("vote once on a chunk", details));
        }
        if !open || self.open.chunks[chunk].decided.is_some() {
            self.members[slot.index()].late_chunks += 1;
            return Ok(());
        }
        model.ballots.take(slot, chunk, piece)?;
        self.open.chunks[chunk].voted.insert(slot);
        self.open.cast[slot.index()] += 1;
        if self.open.has_voted(slot) {
            self.open.arrivals.push(now.saturating_sub(self.open.opened));
        }
        self.close_chunk(chunk);
        self.commit_if_decided(now);
        Ok(())
    }

    /// Takes the signature under a whole ballot, if the ballot counts as a whole.
    pub(super) fn take_seal(
        &mut self,
        now: Duration,
        slot: Slot,
        round: Round,
        signature: Signature,
    ) -> Result<(), Error> {
        let open = self.is_open(slot, round)?;
        let key = self.members[slot.index()].identity.as_ref().map(|identity| identity.key);
        let (true, Some(model), Some(key)) = (self.config.terms.signed, &self.model, key) else {
            return Err(Error::misbehaved("sign only in a run with identities", "a signature"));
        };
        if open && self.is_sharded() && self.open.undecided > 0 {
            if self.open.early_seals.iter().all(|&(known, _)| known != slot) {
                self.open.early_seals.push((slot, signature));
            }
            return Ok(());
        }
        if !open || !self.open.has_voted(slot) || self.open.seals.iter().any(|&(known, _)| known == slot) {
            return Ok(());
        }
        let Position { round, incarnation, .. } = self.at;
        let root = model.ballots.root(slot);
        let verified =
            Sealed { run: self.config.terms.run, incarnation, round, root }.verify(key, &signature);
        match verified {
            Ok(()) => self.open.seals.push((slot, signature)),
            // Part of what counts may have been cast before it was started again: that is no fault, and no proof.
            Err(_) if self.open.newcomers.contains(slot) => {}
            Err(error) => return Err(error),
        }
        self.commit_if_decided(now);
        Ok(())
    }

    /// Takes a signature that came before all was decided.
    fn take_early_seal(&mut self, now: Duration, slot: Slot, signature: Signature) {
        let round = self.at.round;
        let Err(error) = self.take_seal(now, slot, round, signature) else { return };
        let peer = self.active().find(|&(_, it)| it == slot).map(|(peer, _)| peer);
        if let Some(peer) = peer {
            self.offend(now, peer, &error.to_string());
        }
    }

    /// Whose signatures the commit waits for: they have voted on every chunk, are there, and are waited for at all.
    fn unsealed(&self) -> Vec<(PeerId, Slot)> {
        let open = &self.open;
        let sealed = |slot: Slot| open.seals.iter().any(|&(known, _)| known == slot);
        let awaited = |slot: Slot| open.expected.contains(slot) && !open.newcomers.contains(slot);
        let owed = |slot: Slot| open.has_voted(slot) && awaited(slot) && !sealed(slot);
        let signs = self.config.terms.signed && self.config.terms.aggregate == crate::AggregateKind::Vote;
        self.active().filter(|&(_, slot)| signs && owed(slot)).collect()
    }

    /// A worker that votes and does not sign breaks a rule, and has been waited for in vain.
    pub(super) fn put_out_unsealed(&mut self, now: Duration) {
        self.open.seal_by = None;
        for (peer, slot) in self.unsealed() {
            self.members[slot.index()].miss();
            let details = format!("worker {slot} did not sign its ballot of round {}", self.at.round);
            self.offend(now, peer, &Error::misbehaved("sign the ballot that was cast", details).to_string());
        }
        self.commit_if_decided(now);
    }

    /// Looks at every chunk again: someone left, or the deadline has passed.
    pub(super) fn close_chunks(&mut self, now: Duration) {
        if self.phase != Phase::Running {
            return;
        }
        match self.is_sharded() {
            true => self.tell_shards(),
            false => (0..self.open.chunks.len()).for_each(|chunk| self.close_chunk(chunk)),
        }
        self.commit_if_decided(now);
    }

    fn turnout(&self, chunk: &Chunk) -> Turnout {
        let open = &self.open;
        Turnout {
            expected: open.expected.len(),
            expected_voted: open.expected.iter().filter(|&slot| chunk.voted.contains(slot)).count(),
            voted: chunk.voted.len(),
            quorum: self.config.quorum,
            deadline_passed: open.deadline_passed,
        }
    }

    /// What the open round waits for.
    pub(super) fn why_open(&self) -> String {
        if self.phase != Phase::Running {
            return String::new();
        }
        if self.is_sharded() && self.open.undecided > 0 {
            let (undecided, all, shards) =
                (self.open.undecided, self.open.chunks.len(), self.shard_loads().len());
            return match shards {
                0 => "no shard is there to tally, waiting for one".into(),
                _ => format!("{undecided} of {all} chunks have yet to be tallied by {shards} shards"),
            };
        }
        match self.open.chunks.iter().find(|chunk| chunk.decided.is_none()) {
            Some(chunk) => decision::close(self.turnout(chunk)).to_string(),
            None => "all is decided, a signature is on its way".into(),
        }
    }

    fn close_chunk(&mut self, chunk: usize) {
        if self.open.chunks[chunk].decided.is_some() {
            return;
        }
        let close = decision::close(self.turnout(&self.open.chunks[chunk]));
        if !close.decide {
            return;
        }
        self.make_step();
        let is_told = self.are_votes_told(self.at.round);
        let Some(model) = &mut self.model else { return };
        let open = &mut self.open;
        let state = &mut open.chunks[chunk];
        if is_told {
            model.ballots.count_margins(chunk, &state.voted, &model.layout, &mut open.margins);
        }
        let decision = model.ballots.decide(self.at.round, chunk, &state.voted);
        state.decided = Some(decision.frame.clone());
        open.undecided -= 1;
        state.hash = decision.hash;
        open.ties += decision.ties;
        open.holds += decision.holds;
        open.reason = close.to_string();
        for (slot, agreement) in decision.agreements {
            let member = &mut self.members[slot.index()];
            member.agree += agreement.agree;
            member.disagree += agreement.disagree;
        }
        self.broadcast(&decision.frame);
    }

    /// Whether an event tells how the votes of this round stood to each other.
    fn are_votes_told(&self, round: Round) -> bool {
        let every = self.config.votes_every;
        every > 0 && round.next().0.is_multiple_of(every)
    }

    fn tell_of_round(&mut self, round: Round, committed: Event, margins: Vec<Margins>) {
        self.event(committed);
        if self.are_votes_told(round) {
            let places = self.members.len();
            let row = |slot: Slot| {
                let (state, lag_rounds) = self.standing(slot);
                let member = &mut self.members[slot.index()];
                let (agreement, rounds) = (member.agreement_of_late(), member.rounds);
                WorkerVotes { slot, state, lag_rounds, agreement, rounds }
            };
            let workers = (0..places).map(Slot::from_index).map(row).collect();
            self.event(Event::Votes { round: round.next(), workers, margins });
        }
        self.tell_who_was_late();
    }

    pub(super) fn commit_if_decided(&mut self, now: Duration) {
        if self.phase != Phase::Running || self.open.undecided > 0 {
            return;
        }
        for (slot, signature) in std::mem::take(&mut self.open.early_seals) {
            self.take_early_seal(now, slot, signature);
        }
        if self.phase != Phase::Running || self.open.undecided > 0 {
            // An early signature was the last thing that was missing.
            return;
        }
        if !self.unsealed().is_empty() {
            self.open.seal_by.get_or_insert(now.saturating_add(SEAL_PATIENCE));
            return;
        }
        let before = self.at;
        let mut voters = SlotSet::with_slots(self.members.len());
        self.open.chunks.iter().flat_map(|chunk| chunk.voted.iter()).for_each(|slot| {
            voters.insert(slot);
        });
        let (eta, lambda) = (self.config.schedule.eta(before.round), self.config.weight_decay);
        let link =
            Link { round: before.round, incarnation: before.incarnation, eta, lambda, voters: &voters };
        let hashes: Vec<_> = self.open.chunks.iter().map(|chunk| chunk.hash).collect();
        let chain = before.chain.next(&link, &hashes);
        self.step = Some((eta, lambda));
        self.at = Position { round: before.round.next(), chain, ..before };
        let next_eta = self.config.schedule.eta(self.at.round);
        let commit = to_worker::commit(&link, next_eta, chain);
        self.keep(before, &commit);
        self.remember_digest();
        let partial = self.count_votes(&voters);
        self.time_arrivals();

        let reports = || self.open.reports.iter().flatten();
        self.last_reason = std::mem::take(&mut self.open.reason);
        let committed = Event::Committed {
            round: before.round,
            voters: voters.len(),
            partial,
            eta,
            loss: median(reports().map(|report| report.loss).collect()),
            accuracy: median(reports().map(|r| r.correct as f32 / r.samples.max(1) as f32).collect()),
            ties: self.open.ties,
            holds: self.open.holds,
            reason: self.last_reason.clone(),
        };
        let margins = std::mem::take(&mut self.open.margins);
        self.broadcast(&commit);
        self.leave_behind();
        if self.at.round.0 < self.config.terms.rounds && self.pausing.is_none() {
            // Before the events, which wait for the step.
            self.open_round(now);
            self.tell_of_round(before.round, committed, margins);
            return;
        }
        self.tell_of_round(before.round, committed, margins);
        if self.at.round.0 >= self.config.terms.rounds {
            // Those who have just lost their connections come back to hear of it.
            let there: SlotSet = self.active().map(|(_, slot)| slot).collect();
            self.untold = voters.iter().filter(|&slot| !there.contains(slot)).collect();
            self.finish(now, "all rounds are done");
        } else if let Some((_, reason)) = self.pausing.take() {
            self.go(&reason);
        }
    }

    /// Keeps the round for those who are behind, and has it recorded, before anyone hears of the commit.
    fn keep(&mut self, before: Position, commit: &Bytes) {
        let mut frames: Vec<_> = self.open.chunks.iter().filter_map(|chunk| chunk.decided.clone()).collect();
        frames.push(commit.clone());
        let ballots = match &self.model {
            Some(model) if self.config.record_ballots => {
                let voted = |chunk: usize| self.open.chunks[chunk].voted.iter();
                let every =
                    (0..self.open.chunks.len()).flat_map(|chunk| voted(chunk).map(move |slot| (chunk, slot)));
                every
                    .filter_map(|(chunk, slot)| Some((slot, model.ballots.frame(before.round, chunk, slot)?)))
                    .collect()
            }
            _ => Vec::new(),
        };
        self.outputs.push_back(Output::Record(Arc::new(Record {
            before,
            after: self.at,
            frames: frames.clone(),
            chunk_voters: self.open.chunks.iter().map(|chunk| chunk.voted.clone()).collect(),
            seals: std::mem::take(&mut self.open.seals),
            ballots,
        })));
        let gone = self.ring.push(Entry { before, frames });
        if let Some(model) = &mut self.model {
            model.ballots.forget(0..model.chunking.count());
            // A commit is shorter than a verdict, but for the smallest models.
            gone.into_iter().for_each(|frame| model.ballots.recycle(frame));
        }
        self.shared.release(&self.ring, self.most_replayed());
    }

    fn remember_digest(&mut self) {
        let (round, every) = (self.at.round, self.config.terms.digest_every);
        if round.0 >= self.config.terms.rounds || (every > 0 && round.0.is_multiple_of(every)) {
            self.make_step();
            let Some(model) = &self.model else { return };
            self.digests.push_back((round, DigestTree::new(&model.x).root()));
            if self.digests.len() > RECENT_DIGESTS {
                self.digests.pop_front();
            }
        }
    }

    /// Counts who voted, who was there, and who is waited for from now on; gives the number of ballots that counted in
    /// some chunks only.
    fn count_votes(&mut self, voters: &SlotSet) -> usize {
        for (_, slot) in self.active().collect::<Vec<_>>() {
            self.members[slot.index()].present += 1;
        }
        let open = &self.open;
        let mut partial = 0;
        for (index, member) in self.members.iter_mut().enumerate() {
            let slot = Slot::from_index(index);
            let whole = open.has_voted(slot);
            member.rounds += u64::from(voters.contains(slot));
            partial += usize::from(voters.contains(slot) && !whole);
            match &mut member.probation {
                Some(_) if !whole => member.probation = Some(0),
                Some(rounds) if *rounds + 1 >= decision::probation(member.missed) => member.probation = None,
                Some(rounds) => *rounds += 1,
                // Waited for in vain: the others have paid a deadline for it, and will not pay another one.
                None if open.deadline_passed && open.expected.contains(slot) && !whole => {
                    member.miss();
                }
                None => {}
            }
        }
        partial
    }

    /// Times the quorum's last ballot.
    fn time_arrivals(&mut self) {
        // In the order in which they came.
        if let Some(&quorum) = self.open.arrivals.get(self.config.quorum.saturating_sub(1)) {
            self.arrivals.push_back(quorum);
            if self.arrivals.len() > RECENT_ARRIVALS {
                self.arrivals.pop_front();
            }
        }
    }

    /// Says once a round, not once a chunk, whose ballots came too late since the last time.
    fn tell_who_was_late(&mut self) {
        for (index, member) in self.members.iter_mut().enumerate() {
            if member.late_chunks > member.late_told {
                member.late_told = member.late_chunks;
                let late = Event::Late { slot: Slot::from_index(index), chunks: member.late_chunks };
                self.outputs.push_back(Output::Event(late));
            }
        }
    }

    /// Compares a worker's replica with the server's copy, if that round is still remembered.
    pub(super) fn compare(&mut self, now: Duration, peer: PeerId, slot: Slot, round: Round, digest: Digest) {
        let Some(&(_, expected)) = self.digests.iter().find(|&&(known, _)| known == round) else { return };
        let finishing = matches!(self.phase, Phase::Finishing(_)) && round == self.at.round;
        if finishing {
            let member = &mut self.members[slot.index()];
            member.final_digest = Some(digest);
        }
        if digest == expected {
            return;
        }
        let member = &mut self.members[slot.index()];
        if !finishing && member.resent.is_some_and(|at| round <= at) {
            // Said before the state arrived. And a peer that repeats itself is not worth a state every time.
            return;
        }
        member.resent = Some(self.at.round);
        let does = if finishing { "the run is over, its copy is void" } else { "it is sent the state again" };
        let reason = format!("its digest is {digest}, the server's {expected}: {does}");
        self.event(Event::Diverged { slot, round, reason });
        if !finishing {
            self.start_over(now, peer);
        }
    }
}

/// The median of the finite numbers, the lower one of two; `None` if fewer than half of them are finite.
fn median(mut values: Vec<f32>) -> Option<f32> {
    let all = values.len();
    values.retain(|value| value.is_finite());
    if values.is_empty() || values.len() * 2 < all {
        return None;
    }
    values.sort_unstable_by(f32::total_cmp);
    values.get((values.len() - 1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minority_of_liars_does_not_move_the_median_past_the_honest() {
        assert_eq!(median(vec![1.0, 2.0, 3.0, 1e30, 1e30]), Some(3.0));
        assert_eq!(median(vec![2.0, f32::NAN, 1.0]), Some(1.0));
        assert_eq!(median(vec![f32::NAN, f32::INFINITY, 1.0]), None);
        assert_eq!(median(vec![]), None);
    }
}
