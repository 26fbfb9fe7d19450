//! Runs in which everything goes wrong that may: connections, workers, the server and its disk, each as a seed has it.
//!
//! Invariants are checked at every step; `chaos/world.rs` has them. `SIGNVOTE_SEEDS` says how many seeds are tried, and
//! `SIGNVOTE_SEED` tries one alone.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

#[path = "chaos/disk.rs"]
mod disk;
mod harness;
#[path = "chaos/plan.rs"]
mod plan;
#[path = "chaos/worker.rs"]
mod worker;
#[path = "chaos/world.rs"]
mod world;

use plan::Plan;
use world::{Tally, World};

fn one(seed: u64) -> Tally {
    let mut world = World::new(seed, Plan::of(seed));
    world.run();
    world.tally
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn no_invariant_breaks_under_any_seed() {
    let seeds = match number("SIGNVOTE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIGNVOTE_SEEDS").unwrap_or(1_500),
    };
    let mut tally = Tally::default();
    for seed in seeds.clone() {
        match std::panic::catch_unwind(|| one(seed)) {
            Ok(of_seed) => tally.add(&of_seed),
            Err(panic) => {
                eprintln!(
                    "chaos: seed {seed} broke an invariant; alone: SIGNVOTE_SEED={seed} cargo test -p signvote-election --test chaos no_invariant"
                );
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("chaos: {tally:?}");
    let (first, last) = (seeds.start, seeds.end.saturating_sub(1));
    eprintln!("chaos: seeds {first}..={last}, {} runs, no invariant broken", seeds.end - seeds.start);
}
