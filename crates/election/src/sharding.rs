//! Which shard tallies what.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Positions of a period beyond which a lost shard's chunks are not cut finer.
const LONGEST_PERIOD: usize = 4096;

/// How a run's ballots are tallied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Topology {
    /// By the server.
    #[default]
    Central,
    /// By shards, each of which has a part of the coordinates; the server keeps rounds, membership and deadlines.
    Sharded {
        /// Shards that have to be there before the first round.
        shards: u16,
        /// Shards that tally each chunk: 1, or more to outvote a minority of them that lies.
        replicas: u8,
    },
}

/// A shard's enrolment with its server. It has another one when it comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub u32);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A shard as workers find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardAddress {
    /// Its enrolment.
    pub id: ShardId,
    /// The name in its certificate, where there are certificates.
    pub name: String,
    /// `host:port`.
    pub address: String,
}

/// Which shards hold which chunk: a period of positions, each with its holders. Chunk k is at position k modulo their number.
///
/// Neighbouring chunks lie on different shards, so that a ballot that is packed from front to back keeps all links busy from its
/// first chunk on; whole ranges would have all workers send to the same host at the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sharding(Vec<Vec<ShardId>>);

impl Sharding {
    /// Spreads chunks over these shards evenly, each chunk over `replicas` of them, or over all if they are fewer.
    pub fn over(shards: &[ShardId], replicas: usize) -> Self {
        let count = shards.len();
        let holders =
            |at: usize| (0..replicas.clamp(1, count)).map(|next| shards[(at + next) % count]).collect();
        Self((0..count).map(holders).collect())
    }

    /// The shards that tally a chunk; none while there are no shards.
    pub fn holders(&self, chunk: usize) -> &[ShardId] {
        match self.0.len() {
            0 => &[],
            period => &self.0[chunk % period],
        }
    }

    /// Whether a chunk is with a shard.
    pub fn holds(&self, shard: ShardId, chunk: usize) -> bool {
        self.holders(chunk).contains(&shard)
    }

    /// The same without a shard that is lost: what it held is spread over those that are left, and nothing else moves.
    #[must_use]
    pub fn without(&self, lost: ShardId, left: &[ShardId]) -> Self {
        if left.is_empty() {
            return Self::default();
        }
        let period = self.0.len();
        // As many repetitions as there are heirs: each of them gets the lost shard's part in one.
        let repetitions = if period * left.len() <= LONGEST_PERIOD { left.len() } else { 1 };
        let heir = |at: usize, holders: &[ShardId]| {
            let mut candidates = left.iter().filter(|shard| !holders.contains(shard));
            let count = candidates.clone().count().max(1);
            candidates.nth((at / period + at) % count).copied()
        };
        let position = |at: usize| {
            let holders = &self.0[at % period];
            let kept = |&shard: &ShardId| match shard == lost {
                true => heir(at, holders),
                false => Some(shard),
            };
            holders.iter().filter_map(kept).collect()
        };
        Self((0..period * repetitions).map(position).collect())
    }

    /// The holders of every position of the period.
    pub(crate) fn positions(&self) -> &[Vec<ShardId>] {
        &self.0
    }

    pub(crate) fn from_positions(positions: Vec<Vec<ShardId>>) -> Self {
        Self(positions)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn shards(count: u32) -> Vec<ShardId> {
        (1..=count).map(ShardId).collect()
    }

    fn loads(sharding: &Sharding, chunks: usize) -> BTreeMap<ShardId, usize> {
        let mut loads = BTreeMap::new();
        (0..chunks)
            .flat_map(|chunk| sharding.holders(chunk))
            .for_each(|&shard| *loads.entry(shard).or_default() += 1);
        loads
    }

    #[test]
    fn chunks_are_spread_evenly_and_replicas_are_different_shards() {
        for (count, replicas) in [(1, 1), (4, 1), (4, 3), (2, 3), (15, 2)] {
            let sharding = Sharding::over(&shards(count), replicas);
            let loads = loads(&sharding, 1000);
            assert_eq!(loads.len(), count as usize);
            assert!(loads.values().max().unwrap() - loads.values().min().unwrap() <= replicas);
            for chunk in 0..100 {
                let holders = sharding.holders(chunk);
                assert_eq!(holders.len(), replicas.min(count as usize));
                assert!((1..holders.len()).all(|at| !holders[..at].contains(&holders[at])));
            }
        }
    }

    #[test]
    fn only_what_was_lost_moves_and_all_heirs_share_it() {
        for replicas in [1, 2, 3] {
            let mut left = shards(5);
            let mut sharding = Sharding::over(&left, replicas);
            while left.len() > 1 {
                let lost = left.remove(left.len() / 2);
                let after = sharding.without(lost, &left);
                for chunk in 0..1000 {
                    let (before, now) = (sharding.holders(chunk), after.holders(chunk));
                    assert!(before.iter().filter(|&&it| it != lost).all(|it| now.contains(it)));
                    assert_eq!(now.len(), before.len().min(left.len()));
                    assert!(!now.contains(&lost) && (1..now.len()).all(|at| !now[..at].contains(&now[at])));
                }
                let loads = loads(&after, 6000);
                let (least, most) = (loads.values().min().unwrap(), loads.values().max().unwrap());
                assert!(most - least <= most / 2, "{replicas} {loads:?}");
                sharding = after;
            }
            assert_eq!(sharding.without(left[0], &[]), Sharding::default());
        }
        assert!(Sharding::default().holders(3).is_empty());
    }
}
