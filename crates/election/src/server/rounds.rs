//! The open round: which ballots are in, when a chunk is decided, and the commit.

use std::time::Duration;

use bytes::Bytes;

use super::ballots::Piece;
use super::{Phase, Server};
use crate::chain::Link;
use crate::decision::{self, Turnout};
use crate::wire::to_worker;
use crate::{Digest, DigestTree, Error, Event, PeerId, Round, Slot, SlotSet};

/// Digests kept for workers that are a little behind.
const RECENT_DIGESTS: usize = 8;

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
    hash: [u8; 32],
}

/// The round that takes ballots.
#[derive(Debug, Default)]
pub(super) struct OpenRound {
    /// Who was there when it opened and still is: the round waits for these.
    pub(super) expected: SlotSet,
    /// Places taken in mid-round. What their last occupants cast stands, and the newcomers cannot know of it.
    pub(super) newcomers: SlotSet,
    pub(super) chunks: Vec<Chunk>,
    pub(super) deadline: Option<Duration>,
    pub(super) deadline_passed: bool,
    pub(super) reports: Vec<Option<Report>>,
    ties: usize,
    holds: usize,
    reason: String,
}

impl Server {
    /// Opens the first round.
    pub(super) fn start(&mut self, now: Duration) {
        let Some(model) = &self.model else { return };
        let dimension = model.layout.dimension();
        self.phase = Phase::Running;
        self.event(Event::Started { dimension, workers: self.present() });
        if self.round.0 >= self.config.terms.rounds {
            self.finish(now, "there are no rounds to run");
            return;
        }
        self.open_round(now);
        self.broadcast(&to_worker::open(self.round, self.incarnation, self.chain));
    }

    fn open_round(&mut self, now: Duration) {
        let chunks = self.model.as_ref().map_or(0, |model| model.chunking.count());
        self.open = OpenRound {
            expected: self.active().map(|(_, slot)| slot).collect(),
            chunks: vec![Chunk::default(); chunks],
            deadline: self.config.deadline.map(|deadline| now.saturating_add(deadline)),
            reports: vec![None; self.members.len()],
            ..OpenRound::default()
        };
    }

    /// A worker may vote in the open round only; what comes for an earlier one is late and not counted.
    fn is_open(&self, slot: Slot, round: Round) -> Result<bool, Error> {
        if self.phase == Phase::Running && round == self.round {
            return Ok(true);
        }
        if round < self.round || matches!(self.phase, Phase::Finishing(_)) {
            return Ok(false);
        }
        let details = format!("worker {slot} voted in round {round} while round {} is open", self.round);
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
        if self.open.reports[slot.index()].replace(report).is_some() {
            return Err(Error::misbehaved("report once a round", format!("worker {slot}, round {round}")));
        }
        if non_finite > 0 {
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
        self.close_chunk(chunk);
        self.commit_if_decided(now);
        Ok(())
    }

    /// Looks at every chunk again: someone left, or the deadline has passed.
    pub(super) fn close_chunks(&mut self, now: Duration) {
        if self.phase != Phase::Running {
            return;
        }
        (0..self.open.chunks.len()).for_each(|chunk| self.close_chunk(chunk));
        self.commit_if_decided(now);
    }

    fn close_chunk(&mut self, chunk: usize) {
        let Some(model) = &mut self.model else { return };
        let open = &mut self.open;
        let state = &mut open.chunks[chunk];
        if state.decided.is_some() {
            return;
        }
        let close = decision::close(Turnout {
            expected: open.expected.len(),
            expected_voted: open.expected.iter().filter(|&slot| state.voted.contains(slot)).count(),
            voted: state.voted.len(),
            quorum: self.config.quorum,
            deadline_passed: open.deadline_passed,
        });
        if !close.decide {
            return;
        }
        let decision = model.ballots.decide(self.round, chunk, &state.voted);
        state.decided = Some(decision.frame.clone());
        state.hash = decision.hash;
        open.ties += decision.ties;
        open.holds += decision.holds;
        open.reason = close.reason;
        for (slot, agreement) in decision.agreements {
            let member = &mut self.members[slot.index()];
            member.agree += agreement.agree;
            member.disagree += agreement.disagree;
        }
        self.broadcast(&decision.frame);
    }

    fn commit_if_decided(&mut self, now: Duration) {
        if self.open.chunks.iter().any(|chunk| chunk.decided.is_none()) {
            return;
        }
        let Some(model) = &mut self.model else { return };
        let mut voters = SlotSet::with_slots(self.members.len());
        self.open.chunks.iter().flat_map(|chunk| chunk.voted.iter()).for_each(|slot| {
            voters.insert(slot);
        });
        let everywhere = |slot: &Slot| self.open.chunks.iter().all(|chunk| chunk.voted.contains(*slot));
        let partial = voters.len() - voters.iter().filter(everywhere).count();
        let (eta, lambda) = (self.config.schedule.eta(self.round), self.config.weight_decay);
        let link = Link { round: self.round, incarnation: self.incarnation, eta, lambda, voters: &voters };
        let hashes: Vec<_> = self.open.chunks.iter().map(|chunk| chunk.hash).collect();
        self.chain = self.chain.next(&link, &hashes);
        model.ballots.apply(&mut model.x, eta, lambda);
        voters.iter().for_each(|slot| self.members[slot.index()].rounds += 1);
        for peer in self.peers.values().filter(|peer| peer.state.is_active()) {
            if let Some(slot) = peer.state.slot() {
                self.members[slot.index()].present += 1;
            }
        }

        let reports = || self.open.reports.iter().flatten();
        let committed = Event::Committed {
            round: self.round,
            voters: voters.len(),
            partial,
            eta,
            loss: median(reports().map(|report| report.loss).collect()),
            accuracy: median(reports().map(|r| r.correct as f32 / r.samples.max(1) as f32).collect()),
            ties: self.open.ties,
            holds: self.open.holds,
            reason: std::mem::take(&mut self.open.reason),
        };
        self.round = self.round.next();
        let every = self.config.terms.digest_every;
        let last = self.round.0 >= self.config.terms.rounds;
        if last || (every > 0 && self.round.0.is_multiple_of(every)) {
            self.digests.push_back((self.round, DigestTree::new(&model.x).root()));
            if self.digests.len() > RECENT_DIGESTS {
                self.digests.pop_front();
            }
        }
        let frame = to_worker::commit(&link, self.chain);
        self.broadcast(&frame);
        self.event(committed);
        self.tell_who_was_late();
        if last {
            self.finish(now, "all rounds are done");
        } else {
            self.open_round(now);
        }
    }

    /// Says once a round, not once a chunk, whose ballots came too late since the last time.
    fn tell_who_was_late(&mut self) {
        for (index, member) in self.members.iter_mut().enumerate() {
            if member.late_chunks > member.late_told {
                member.late_told = member.late_chunks;
                let late = Event::Late { slot: Slot::from_index(index), chunks: member.late_chunks };
                self.outputs.push_back(super::Output::Event(late));
            }
        }
    }

    /// Compares a worker's replica with the server's copy, if that round is still remembered.
    pub(super) fn compare(&mut self, peer: PeerId, slot: Slot, round: Round, digest: Digest) {
        let Some(&(_, expected)) = self.digests.iter().find(|&&(known, _)| known == round) else { return };
        let finishing = matches!(self.phase, Phase::Finishing(_)) && round == self.round;
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
        member.resent = Some(self.round);
        let does = if finishing { "the run is over, its copy is void" } else { "it is sent the state again" };
        let reason = format!("its digest is {digest}, the server's {expected}: {does}");
        self.event(Event::Diverged { slot, round, reason });
        if !finishing {
            self.send_state(peer);
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
