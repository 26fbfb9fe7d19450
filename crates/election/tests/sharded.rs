//! The sharded form: what is counted is what was cast, whoever dies, and nothing is lost or applied twice.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod harness;
#[path = "sharded/world.rs"]
mod world;

use std::collections::BTreeSet;

use harness::{config, parameters, seeds, with_seed};
use signvote_election::{Config, Event, Round, Topology};
use world::{Faults, World, gradient};

const DIMENSION: usize = 64 * 11 + 17;

fn sharded(workers: u16, rounds: u64, shards: u16, replicas: u8) -> Config {
    Config {
        topology: Topology::Sharded { shards, replicas },
        record_ballots: false,
        secret: [3; 32],
        ..config(workers, rounds)
    }
}

/// x after all rounds in which everyone votes, with nothing but a loop.
fn expected(config: &Config) -> Vec<f32> {
    let mut x = parameters(DIMENSION, config.terms.seed);
    for round in (0..config.terms.rounds).map(Round) {
        let gradients: Vec<_> =
            (1..=config.terms.workers).map(|slot| gradient(DIMENSION, slot, round)).collect();
        let (eta, lambda) = (config.schedule.eta(round), config.weight_decay);
        for (at, x) in x.iter_mut().enumerate() {
            let votes = gradients.iter().map(|gradient| gradient[at] as i32);
            let (sum, voted) = (votes.clone().sum::<i32>(), votes.clone().any(|vote| vote != 0));
            // Ties are positive here.
            let sign = if !voted {
                0.0
            } else if sum < 0 {
                -1.0
            } else {
                1.0
            };
            *x -= eta * (sign + lambda * *x);
        }
    }
    x
}

fn all_vote(config: Config, shards: usize, faults: Faults, seed: u64) -> World {
    let config = Config { tie: signvote_election::TiePolicy::Positive, ..config };
    let expected = expected(&config);
    // Nobody is counted out: a worker that is cut off is waited for.
    let config = Config { quorum: usize::from(config.terms.workers), ..config };
    let mut world = World::new(config, DIMENSION, shards, faults, seed);
    world.run();
    let (_, x, _) = world.server.model().unwrap();
    assert_eq!(x, expected, "seed {seed}");
    for worker in &world.workers {
        assert!(worker.voter.parameters() == expected || !worker.finished);
    }
    world
}

#[test]
fn shards_count_what_was_cast_in_whatever_order_it_comes() {
    for seed in 0..seeds(60) {
        with_seed(seed, |seed| {
            let shards = 1 + (seed % 5) as u16;
            let faults = Faults { local: seed % 2 == 0, ..Faults::default() };
            let world = all_vote(sharded(3, 6, shards, 1), usize::from(shards), faults, seed);
            assert!(world.workers.iter().all(|worker| worker.finished));
        });
    }
}

#[test]
fn a_lost_shard_or_connection_loses_nothing_and_applies_nothing_twice() {
    let (mut lost, mut moved) = (0, 0);
    for seed in 0..seeds(150) {
        with_seed(seed, |seed| {
            let faults = Faults { cuts: 2_000, deaths: 1_000, local: seed % 2 == 0, ..Faults::default() };
            let world = all_vote(sharded(4, 8, 3, 1), 3, faults, seed);
            for event in &world.events {
                if let Event::ShardLost { chunks, .. } = event {
                    lost += 1;
                    moved += chunks;
                }
            }
        });
    }
    assert!(lost > 100 && moved > 100, "{lost} shards lost, {moved} chunks moved");
}

#[test]
fn a_lying_shard_of_three_is_outvoted_and_named() {
    for seed in 0..seeds(60) {
        with_seed(seed, |seed| {
            let liar = (seed % 3) as usize;
            let faults = Faults { liars: vec![liar], local: seed % 2 == 0, ..Faults::default() };
            let world = all_vote(sharded(3, 5, 3, 3), 3, faults, seed);
            let named: BTreeSet<_> = world
                .events
                .iter()
                .filter_map(|event| match event {
                    Event::ShardOutvoted { name, .. } => Some(name.clone()),
                    _ => None,
                })
                .collect();
            assert_eq!(named, BTreeSet::from([format!("shard {liar}")]));
        });
    }
}

#[test]
fn a_shard_that_tells_workers_something_else_than_the_server_does_not_move_them() {
    for seed in 0..seeds(30) {
        with_seed(seed, |seed| {
            let faults = Faults { equivocators: vec![1], local: seed % 2 == 0, ..Faults::default() };
            all_vote(sharded(3, 3, 3, 1), 3, faults, seed);
        });
    }
}

#[test]
fn one_that_dies_of_shards_that_tally_twice_moves_nothing_that_counts() {
    for seed in 0..seeds(60) {
        with_seed(seed, |seed| {
            let faults = Faults { cuts: 200, deaths: 200, local: seed % 2 == 0, ..Faults::default() };
            all_vote(sharded(3, 6, 4, 2), 4, faults, seed);
        });
    }
}
