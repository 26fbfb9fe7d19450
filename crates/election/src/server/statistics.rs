//! The running statistics that a finished model normalises batches by, as the workers have found them on their data.

use std::time::Duration;

use super::members::Peer;
use super::{Phase, Server};
use crate::wire::{FloatBytes, feature};
use crate::{Digest, Error, PeerId, Round, Slot};

/// What the workers' statistics have become: of each, the median.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// As many as the model has, in its own order.
    pub values: Vec<f32>,
    /// Workers that they are the median of.
    pub workers: usize,
    /// Digest of the parameters that they belong to.
    pub digest: Digest,
}

impl Server {
    /// The running statistics of the final model, once the run is over: `None` before, and where fewer than a quorum of workers
    /// whose replicas were the server's copy have sent any, or not more than half of those equally many.
    pub fn statistics(&self) -> Option<&Statistics> {
        self.statistics.as_ref()
    }

    /// Waits from now on as long as those may take who are there. A run that was cut short is not waited for longer than it takes to
    /// say goodbye: somebody wants it to end, and its workers send none.
    pub(super) fn await_farewells(&mut self, now: Duration) {
        let has_some = |it: &Peer| it.features & feature::STATISTICS != 0 && it.state.is_active();
        let slow = self.is_whole() && self.peers.values().any(has_some);
        let patience = if slow { self.config.joining_timeout } else { Duration::ZERO };
        let patience = patience.max(self.config.farewell_timeout);
        if let Phase::Finishing(until) = &mut self.phase {
            *until = (*until).max(now.saturating_add(patience));
        }
    }

    /// Whether all rounds are done.
    fn is_whole(&self) -> bool {
        self.at.round.0 >= self.config.terms.rounds
    }

    pub(super) fn take_statistics(
        &mut self,
        peer: PeerId,
        slot: Slot,
        round: Round,
        values: FloatBytes<'_>,
    ) -> Result<(), Error> {
        let announced = self.peers.get(&peer).is_some_and(|it| it.features & feature::STATISTICS != 0);
        let over = matches!(self.phase, Phase::Finishing(_)) && round == self.at.round && self.is_whole();
        let member = &mut self.members[slot.index()];
        if !announced || !over || member.statistics.is_some() {
            let rule = "send statistics once, when all rounds are done, if that was announced";
            return Err(Error::misbehaved(rule, format!("statistics after round {round}")));
        }
        // Two for each channel of a normalisation, which has as many parameters.
        let most = self.model.as_ref().map_or(0, |model| model.x.len());
        let values = values.read_all(most)?;
        if values.is_empty() {
            return Err(Error::malformed("statistics", "at least one", 0));
        }
        if let Some(odd) = values.iter().find(|value| !value.is_finite()) {
            return Err(Error::malformed("statistics", "finite numbers", odd));
        }
        member.statistics = Some(values);
        Ok(())
    }

    pub(super) fn agree_on_statistics(&mut self) {
        let Some(&(_, digest)) = self.digests.back() else { return };
        let confirmed = self.members.iter().filter(|member| member.final_digest == Some(digest));
        let sent: Vec<&[f32]> = confirmed.filter_map(|member| member.statistics.as_deref()).collect();
        if sent.len() < self.config.quorum {
            return;
        }
        // The honest ones have equally many, and are more than half.
        let lengths = sent.iter().map(|values| values.len());
        let length = lengths.max_by_key(|&length| sent.iter().filter(|it| it.len() == length).count());
        let alike: Vec<&[f32]> = sent.iter().copied().filter(|it| Some(it.len()) == length).collect();
        if alike.len() * 2 <= sent.len() {
            return;
        }
        self.statistics = Some(Statistics { values: medians(&alike), workers: alike.len(), digest });
    }
}

/// The median of each column, the mean of the middle two where rows are even in number: between the least and the greatest
/// honest value as long as more than half of the rows are honest.
fn medians(rows: &[&[f32]]) -> Vec<f32> {
    let mut column = vec![0.0; rows.len()];
    let columns = rows.first().map_or(0, |row| row.len());
    let median = |at: usize| {
        column.iter_mut().zip(rows).for_each(|(value, row)| *value = row[at]);
        column.sort_unstable_by(f32::total_cmp);
        let middle = [column[(column.len() - 1) / 2], column[column.len() / 2]];
        // In f64, where the sum of two finite f32 is finite.
        (middle.iter().map(|&it| f64::from(it)).sum::<f64>() / 2.0) as f32
    };
    (0..columns).map(median).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_those_of_each_column() {
        assert_eq!(medians(&[&[1.0, 5.0], &[3.0, -1.0], &[2.0, 1e30]]), [2.0, 5.0]);
        assert_eq!(medians(&[&[1.0], &[2.0]]), [1.5]);
        assert_eq!(medians(&[&[f32::MAX], &[f32::MAX]]), [f32::MAX]);
        assert_eq!(medians(&[]), [0.0; 0]);
    }
}
