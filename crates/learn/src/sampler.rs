//! Which examples a worker sees in which round: a pure function of seed, round and slot.

use std::fmt;
use std::str::FromStr;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::Error;
use crate::random::{shuffle, stream, unit};

/// How the examples are shared out among the workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Partition {
    /// Every epoch one permutation of the whole set, cut into the slots' batches: each worker draws from all
    /// examples, and no two draw the same in one epoch.
    #[default]
    Iid,
    /// Ordered by label and cut into 2·workers blocks, of which slot s owns blocks s and s + workers for good:
    /// two classes a worker when there are ten classes and ten workers (after McMahan et al., 2017, section 3,
    /// who deal the blocks out at random).
    ByLabel,
    /// Each worker has a mix of classes of its own, drawn from Dirichlet(α, …, α), and as many examples as every other: the smaller α, the
    /// fewer classes it sees (Hsu et al. 2019, who let the numbers of examples differ). Where a class is used up, it takes the next.
    Dirichlet {
        /// α in thousandths; at least 1.
        thousandths: u32,
    },
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iid => f.pad("iid"),
            Self::ByLabel => f.pad("by-label"),
            Self::Dirichlet { thousandths } => f.pad(&format!("dirichlet-{}", f64::from(*thousandths) / 1e3)),
        }
    }
}

impl FromStr for Partition {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "iid" => Ok(Self::Iid),
            "by-label" => Ok(Self::ByLabel),
            _ => {
                let alpha = name.strip_prefix("dirichlet-").and_then(|alpha| alpha.parse::<f64>().ok());
                let alpha = alpha.filter(|alpha| (1e-3..=1e6).contains(alpha));
                let partition =
                    alpha.map(|alpha| Self::Dirichlet { thousandths: (alpha * 1e3).round() as u32 });
                partition.ok_or_else(|| Error::UnknownName {
                    kind: "partition",
                    expected: "iid, by-label or dirichlet-0.3 (0.001 to 1000000)",
                    got: name.to_owned(),
                })
            }
        }
    }
}

/// Rounds in one pass over `samples` examples when each of `workers` workers takes `batch` of them a round:
/// ⌊samples / (workers·batch)⌋, and at least 1. The remainder of an epoch is skipped, and is another one in
/// the next epoch. Zero workers or an empty batch count as one.
pub fn rounds_per_epoch(samples: usize, workers: usize, batch: usize) -> u64 {
    let per_round = workers.max(1).saturating_mul(batch.max(1));
    (samples / per_round).max(1) as u64
}

/// The batches of one worker slot.
///
/// [`Sampler::batch`] depends on nothing but the arguments of [`Sampler::new`] and the round: a worker that
/// joins late, or comes back, draws what it would have drawn. The permutation of an epoch is kept until
/// another epoch is asked for, so rounds asked for in order cost one shuffle an epoch.
#[derive(Clone, Debug)]
pub struct Sampler {
    // The examples this slot draws from, unpermuted: all of them (iid), or its own shard.
    shard: Vec<usize>,
    // `shard` in the order of `epoch`.
    order: Vec<usize>,
    epoch: Option<u64>,
    rounds_per_epoch: u64,
    // Where a round's batch starts in `order`: round·stride + offset, counted within the epoch.
    stride: usize,
    offset: usize,
    batch: usize,
    seed: u64,
    slot: usize,
    // What, besides seed and epoch, the permutation depends on.
    stream_of_slot: u64,
}

impl Sampler {
    /// The sampler of worker `slot` of `workers`, which takes `batch` examples a round from the data set
    /// whose labels are `labels`.
    ///
    /// # Errors
    /// [`Error::Misuse`] when there are no workers, the slot is none of theirs, the batch is empty, or the
    /// data set has fewer than workers·batch examples.
    pub fn new(
        labels: &[u16],
        workers: usize,
        slot: usize,
        batch: usize,
        seed: u64,
        partition: Partition,
    ) -> Result<Self, Error> {
        if workers == 0 {
            return Err(Error::misuse("number of workers", "at least 1", workers));
        }
        if slot >= workers {
            return Err(Error::misuse("worker slot", format!("below {workers}"), slot));
        }
        if batch == 0 {
            return Err(Error::misuse("batch size", "at least 1", batch));
        }
        if workers.checked_mul(batch).is_none_or(|needed| needed > labels.len()) {
            return Err(Error::misuse(
                "examples for one round",
                format!("at least {workers} workers times {batch}"),
                labels.len(),
            ));
        }
        let rounds_per_epoch = rounds_per_epoch(labels.len(), workers, batch);
        let (shard, stride, offset, stream_of_slot) = match partition {
            Partition::Iid => ((0..labels.len()).collect(), workers * batch, slot * batch, u64::MAX),
            Partition::ByLabel => (shard_by_label(labels, workers, slot), batch, 0, slot as u64),
            Partition::Dirichlet { thousandths } => {
                let alpha = f64::from(thousandths) / 1e3;
                (shard_by_mix(labels, workers, slot, alpha, seed), batch, 0, slot as u64)
            }
        };
        let order = Vec::with_capacity(shard.len());
        Ok(Self {
            shard,
            order,
            epoch: None,
            rounds_per_epoch,
            stride,
            offset,
            batch,
            seed,
            slot,
            stream_of_slot,
        })
    }

    /// Indices of the examples of `round`, `batch` of them, counted from round 0 of epoch 0.
    ///
    /// Within an epoch no index comes twice, in this slot or in another one of the same data set and seed.
    pub fn batch(&mut self, round: u64) -> &[usize] {
        let epoch = round / self.rounds_per_epoch;
        if self.epoch != Some(epoch) {
            self.permute(epoch);
        }
        let start = (round % self.rounds_per_epoch) as usize * self.stride + self.offset;
        &self.order[start..start + self.batch]
    }

    /// What the randomness of `round`'s batch in this slot comes from: crops of images, units that are dropped.
    pub fn seed(&self, round: u64) -> u64 {
        let mut material = [0; 24];
        material[..8].copy_from_slice(&self.seed.to_le_bytes());
        material[8..16].copy_from_slice(&round.to_le_bytes());
        material[16..].copy_from_slice(&(self.slot as u64).to_le_bytes());
        stream("signvote-learn 2026 seed of a batch v1", &material).next_u64()
    }

    fn permute(&mut self, epoch: u64) {
        let mut material = [0; 24];
        material[..8].copy_from_slice(&self.seed.to_le_bytes());
        material[8..16].copy_from_slice(&epoch.to_le_bytes());
        material[16..].copy_from_slice(&self.stream_of_slot.to_le_bytes());
        self.order.clone_from(&self.shard);
        shuffle(&mut self.order, &mut stream("signvote-learn 2026 order of examples v1", &material));
        self.epoch = Some(epoch);
    }
}

/// Blocks `slot` and `slot + workers` of the 2·workers blocks of the examples in order of label.
///
/// Every worker gets exactly q = ⌊examples / workers⌋ examples, so that every slot has enough for every round
/// of an epoch: the first `workers` blocks hold ⌈q/2⌉ each, the others ⌊q/2⌋, and the fewer than `workers`
/// examples left at the end belong to nobody.
fn shard_by_label(labels: &[u16], workers: usize, slot: usize) -> Vec<usize> {
    let mut by_label: Vec<usize> = (0..labels.len()).collect();
    by_label.sort_by_key(|&index| labels[index]);
    let quota = labels.len() / workers;
    let (first, second) = (quota.div_ceil(2), quota / 2);
    let second_start = workers * first + slot * second;
    let mut shard = by_label[slot * first..(slot + 1) * first].to_vec();
    shard.extend_from_slice(&by_label[second_start..second_start + second]);
    shard
}

/// The examples of a worker whose mix of classes is drawn from Dirichlet(α, …, α); all of ⌊examples / workers⌋.
///
/// Workers choose one after the other, so each call makes the choices of those before, too.
fn shard_by_mix(labels: &[u16], workers: usize, slot: usize, alpha: f64, seed: u64) -> Vec<usize> {
    let classes = labels.iter().max().map_or(0, |&label| usize::from(label) + 1);
    let mut pools: Vec<Vec<usize>> = vec![Vec::new(); classes];
    labels.iter().enumerate().for_each(|(index, &label)| pools[usize::from(label)].push(index));
    let mut random = stream("signvote-learn 2026 mixes of classes v1", &seed.to_le_bytes());
    pools.iter_mut().for_each(|pool| shuffle(pool, &mut random));
    let quota = labels.len() / workers;
    let mut shard = Vec::new();
    for _ in 0..=slot {
        let weights: Vec<f64> = pools.iter().map(|_| gamma(alpha, &mut random)).collect();
        shard.clear();
        while shard.len() < quota {
            // Of the classes that have examples left, in proportion to their weights.
            let weight = |class: usize| {
                if pools[class].is_empty() { 0.0 } else { weights[class].max(f64::MIN_POSITIVE) }
            };
            let total: f64 = (0..classes).map(weight).sum();
            let mut at = f64::from(unit(&mut random)) * total;
            let left = |class: &usize| !pools[*class].is_empty();
            let chosen = (0..classes).filter(left).find(|&class| {
                at -= weight(class);
                at < 0.0
            });
            // Rounding may leave a rest: it is the last one's.
            let class = chosen.or_else(|| (0..classes).rfind(left));
            match class.and_then(|class| pools[class].pop()) {
                Some(index) => shard.push(index),
                None => break,
            }
        }
    }
    shard
}

/// A number from Gamma(α, 1), by Marsaglia & Tsang (2000); below α = 1 by way of α + 1.
fn gamma(alpha: f64, random: &mut ChaCha8Rng) -> f64 {
    let open = |random: &mut ChaCha8Rng| (f64::from(unit(random)) + f64::from(f32::EPSILON) / 4.0).min(1.0);
    if alpha < 1.0 {
        let power = open(random).powf(1.0 / alpha);
        return gamma(alpha + 1.0, random) * power;
    }
    let d = alpha - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let normal =
            (-2.0 * open(random).ln()).sqrt() * (2.0 * std::f64::consts::PI * f64::from(unit(random))).cos();
        let v = (1.0 + c * normal).powi(3);
        if v > 0.0 && open(random).ln() < normal * normal / 2.0 + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn labels(samples: usize) -> Vec<u16> {
        (0..samples).map(|i| (i * 7 % 10) as u16).collect()
    }

    fn sampler(samples: usize, workers: usize, slot: usize, batch: usize, partition: Partition) -> Sampler {
        Sampler::new(&labels(samples), workers, slot, batch, 42, partition).unwrap()
    }

    #[test]
    fn slots_are_disjoint_within_an_epoch_and_cover_all_its_rounds() {
        for partition in [Partition::Iid, Partition::ByLabel, Partition::Dirichlet { thousandths: 100 }] {
            for (samples, workers, batch) in [(1000, 7, 9), (14, 2, 7), (21, 3, 7), (40, 40, 1), (100, 1, 32)]
            {
                let rounds = rounds_per_epoch(samples, workers, batch);
                for epoch in [0, 3] {
                    let mut seen = BTreeSet::new();
                    for slot in 0..workers {
                        let mut sampler = sampler(samples, workers, slot, batch, partition);
                        for round in epoch * rounds..(epoch + 1) * rounds {
                            seen.extend(sampler.batch(round).iter().copied());
                        }
                    }
                    assert_eq!(seen.len(), workers * batch * rounds as usize, "{partition} {samples}");
                    assert!(seen.iter().all(|&index| index < samples));
                }
            }
        }
    }

    #[test]
    fn a_place_of_local_workers_draws_what_as_many_places_would_draw() {
        let (samples, places, local, batch) = (1000, 3, 4, 8);
        assert_eq!(
            rounds_per_epoch(samples, places, local * batch),
            rounds_per_epoch(samples, places * local, batch)
        );
        for place in 0..places {
            let mut together = sampler(samples, places, place, local * batch, Partition::Iid);
            for round in [0, 1, 9, 10, 35] {
                let mut each = vec![];
                for l in 0..local {
                    let mut one = sampler(samples, places * local, place * local + l, batch, Partition::Iid);
                    each.extend(one.batch(round).to_vec());
                }
                assert_eq!(together.batch(round), each, "place {place}, round {round}");
            }
        }
    }

    #[test]
    fn random_access_equals_sequential_access() {
        for partition in [Partition::Iid, Partition::ByLabel] {
            let mut sequential = sampler(500, 4, 1, 16, partition);
            let mut jumping = sequential.clone();
            let rounds: Vec<Vec<usize>> = (0..40).map(|round| sequential.batch(round).to_vec()).collect();
            for round in [39, 0, 17, 3, 38, 3, 8] {
                assert_eq!(jumping.batch(round), rounds[round as usize]);
                assert_eq!(sampler(500, 4, 1, 16, partition).batch(round), rounds[round as usize]);
            }
        }
    }

    #[test]
    fn a_batch_does_not_depend_on_the_rounds_asked_for_before() {
        for partition in [Partition::Iid, Partition::ByLabel] {
            let new = || sampler(300, 3, 2, 10, partition);
            // A worker that starts again at a round has asked for none, one that was away has skipped some, and one
            // that joined again may ask for the same twice, or for earlier ones.
            let histories: [&[u64]; 5] = [&[], &[36], &[0, 1, 2, 3], &[37, 37, 5], &[u64::MAX, 9]];
            for history in histories {
                let mut used = new();
                for &round in history {
                    used.batch(round);
                }
                for round in [37, 38, 0] {
                    assert_eq!(used.batch(round), new().batch(round), "{partition}, {history:?}, {round}");
                }
            }
        }
    }

    #[test]
    fn every_epoch_and_every_seed_has_its_own_order() {
        for partition in [Partition::Iid, Partition::ByLabel] {
            let mut one = sampler(64, 2, 0, 32, partition);
            assert_eq!(one.rounds_per_epoch, 1);
            assert_ne!(one.batch(0).to_vec(), one.batch(1));
            let mut other = Sampler::new(&labels(64), 2, 0, 32, 43, partition).unwrap();
            assert_ne!(one.batch(0), other.batch(0));
        }
    }

    #[test]
    fn the_last_round_that_can_be_named_has_a_batch() {
        assert_eq!(sampler(100, 2, 1, 10, Partition::Iid).batch(u64::MAX).len(), 10);
    }

    #[test]
    fn by_label_gives_two_classes_a_worker_at_ten_workers() {
        let labels = labels(1000);
        for slot in 0..10 {
            let mut sampler = Sampler::new(&labels, 10, slot, 10, 1, Partition::ByLabel).unwrap();
            let mut classes = BTreeSet::new();
            for round in 0..10 {
                classes.extend(sampler.batch(round).iter().map(|&index| labels[index]));
            }
            assert_eq!(Vec::from_iter(classes), [slot as u16 / 2, slot as u16 / 2 + 5]);
        }
    }

    #[test]
    fn the_smaller_alpha_the_fewer_classes_a_worker_sees() {
        let labels = labels(10_000);
        let largest_share = |thousandths| {
            let mut sum = 0.0;
            for slot in 0..10 {
                let partition = Partition::Dirichlet { thousandths };
                let mut sampler = Sampler::new(&labels, 10, slot, 100, 1, partition).unwrap();
                let mut counts = [0.0; 10];
                for round in 0..10 {
                    sampler
                        .batch(round)
                        .iter()
                        .for_each(|&index| counts[usize::from(labels[index])] += 1.0 / 1000.0);
                }
                sum += counts.into_iter().fold(0.0, f64::max) / 10.0;
            }
            sum
        };
        let (skewed, mixed, even) = (largest_share(50), largest_share(1000), largest_share(1_000_000));
        assert!(skewed > 0.6 && mixed < 0.5 && mixed > 0.2 && even < 0.15, "{skewed}, {mixed}, {even}");
    }

    #[test]
    fn iid_draws_every_class() {
        let labels = labels(1000);
        let mut sampler = Sampler::new(&labels, 10, 0, 50, 1, Partition::Iid).unwrap();
        let classes: BTreeSet<u16> =
            (0..2).flat_map(|r| sampler.batch(r).to_vec()).map(|i| labels[i]).collect();
        assert_eq!(classes.len(), 10);
    }

    #[test]
    fn an_epoch_has_the_whole_rounds_that_fit_and_at_least_one() {
        assert_eq!(rounds_per_epoch(10_000, 7, 32), 44);
        assert_eq!(rounds_per_epoch(60_000, 1, 1), 60_000);
        assert_eq!(rounds_per_epoch(10, 7, 32), 1);
        assert_eq!(rounds_per_epoch(10, 0, 0), 10);
        assert_eq!(rounds_per_epoch(10, usize::MAX, 2), 1);
    }

    #[test]
    fn counts_that_do_not_fit_are_refused_with_expected_and_got() {
        let refuse = |workers, slot, batch| {
            Sampler::new(&labels(100), workers, slot, batch, 0, Partition::Iid).unwrap_err().to_string()
        };
        assert_eq!(refuse(0, 0, 1), "number of workers: expected at least 1, got 0");
        assert_eq!(refuse(3, 3, 1), "worker slot: expected below 3, got 3");
        assert_eq!(refuse(3, 0, 0), "batch size: expected at least 1, got 0");
        assert_eq!(refuse(3, 0, 34), "examples for one round: expected at least 3 workers times 34, got 100");
        assert!(refuse(usize::MAX, 0, 2).ends_with("got 100"));
    }

    #[test]
    fn names_parse_back() {
        for partition in [Partition::Iid, Partition::ByLabel] {
            assert_eq!(partition.to_string().parse::<Partition>().unwrap(), partition);
        }
        let mixed: Partition = "dirichlet-0.3".parse().unwrap();
        assert_eq!(
            (mixed, mixed.to_string()),
            (Partition::Dirichlet { thousandths: 300 }, "dirichlet-0.3".into())
        );
        for wrong in ["sorted", "dirichlet-", "dirichlet-0", "dirichlet-nan"] {
            let error = wrong.parse::<Partition>().unwrap_err().to_string();
            assert!(
                error.starts_with("unknown partition: expected iid, by-label or dirichlet-0.3"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_order_of_a_seed_never_changes() {
        let first = |partition| sampler(1000, 7, 3, 5, partition).batch(2).to_vec();
        assert_eq!(first(Partition::Iid), [739, 447, 366, 528, 454]);
        assert_eq!(first(Partition::ByLabel), [306, 351, 551, 391, 596]);
    }
}
