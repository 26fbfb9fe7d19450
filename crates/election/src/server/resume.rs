//! A server that goes on where an earlier one stopped.

use std::time::Duration;

use super::ring::Entry;
use super::{Config, Phase, Server};
use crate::replica::voters_of;
use crate::wire::LENGTH_BYTES;
use crate::{Charter, DigestTree, Error, Identity, Position, Record, Slot};

/// What a server needs to go on with a run.
#[derive(Clone, Debug)]
pub struct Saved {
    /// What does not change.
    pub charter: Charter,
    /// x after the last of `records`.
    pub x: Vec<f32>,
    /// What had been committed then.
    pub position: Position,
    /// The newest rounds, oldest first, without gaps, up to `position`; for workers that come back. May be empty.
    pub records: Vec<Record>,
    /// Whose the places are.
    pub members: Vec<(Slot, Identity)>,
}

impl Server {
    /// A server that goes on with a run: its first round is open, and waits a while for those who voted in
    /// the last one.
    ///
    /// If rounds may have been lost, `saved.position` has to carry the next incarnation. A run that was over is only finished:
    /// those who voted in its last round have the return grace to come and be told.
    ///
    /// # Errors
    /// If the configuration contradicts itself or what was saved, or the run averages: the state of a mean's optimiser is
    /// not saved.
    pub fn resume(now: Duration, config: Config, saved: Saved) -> Result<Self, Error> {
        let Saved { charter, x, position, records, members } = saved;
        let decides = (config.tie, config.min_voters, config.quorum as u32);
        if charter.terms != config.terms || (charter.tie, charter.min_voters, charter.quorum) != decides {
            return Err(Error::incompatible("terms of the run", "those that it began with", "others"));
        }
        if charter.terms.aggregate == crate::AggregateKind::Mean {
            return Err(Error::Misuse("a mean cannot be resumed: its optimiser's state is not saved".into()));
        }
        let mut server = Self::new(Config { initial: None, ..config })?;
        server.adopt(charter.layout, x, charter.settings)?;
        server.at = position;
        let digest = server.model.as_ref().map(|model| DigestTree::new(&model.x).root());
        server.digests.clear();
        server.digests.extend(digest.map(|digest| (position.round, digest)));
        for (slot, identity) in members {
            if let Some(member) = server.members.get_mut(slot.index()) {
                member.identity = Some(identity);
            }
        }
        server.phase = Phase::Running;
        server.open_round(now);
        server.open.expected = match records.last().and_then(|record| record.frames.last()) {
            Some(commit) => voters_of(commit)?,
            // Nobody had voted yet: everyone was there.
            None => (0..server.members.len()).map(Slot::from_index).collect(),
        };
        let grace = now.saturating_add(server.config.return_grace);
        server.open.grace = Some(grace);
        // A deadline counts from when those could have voted who are waited for.
        server.open.deadline = server.open.deadline.map(|deadline| deadline.max(grace));
        for Record { before, frames, .. } in records {
            if frames.iter().any(|frame| frame.len() <= LENGTH_BYTES) {
                return Err(Error::malformed("log of verdicts", "whole frames", "an empty one"));
            }
            server.ring.push(Entry { before, frames });
        }
        if position.round.0 >= server.config.terms.rounds {
            // Those who voted in the last round may not know that it was that.
            if !server.config.return_grace.is_zero() {
                server.untold = server.open.expected.clone();
            }
            let until = now.saturating_add(server.config.return_grace);
            server.finish(now, "all rounds are done");
            if !server.untold.is_empty() {
                server.phase = Phase::Finishing(until);
            }
        }
        Ok(server)
    }

    /// Those who have not come back by now are not waited for.
    pub(super) fn end_grace(&mut self, now: Duration) {
        self.open.grace = None;
        let present: crate::SlotSet = self.active().map(|(_, slot)| slot).collect();
        let absent: Vec<_> = self.open.expected.iter().filter(|&slot| !present.contains(slot)).collect();
        absent.into_iter().for_each(|slot| {
            self.open.expected.remove(slot);
        });
        self.close_chunks(now);
    }
}
