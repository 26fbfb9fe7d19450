//! A server, its workers and the network between them, without sockets and under a fake clock.
//!
//! Everything follows from seeds: what the workers vote, how long every frame takes, who is cut off and when.
//! [`Sim`] checks at every step what must always hold; see [`oracle`].
#![allow(dead_code, unused_imports, reason = "every test file uses another part of it")]

pub(crate) mod by_hand;
pub(crate) mod conversation;
mod network;
pub(crate) mod oracle;
mod worker;

use std::rc::Rc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use signvote_election::{
    AggregateKind, Config, Greeting, Layout, Optimizer, Patience, RunId, Schedule, Settings, Shape, Slot,
    StepRule, TensorSpec, Terms, TiePolicy,
    decision::{DeadlineRule, SecondConnection},
};
use signvote_kernels::AbstainOn;

pub(crate) use network::{Setup, Sim};
pub(crate) use worker::Life;

/// What a worker is asked in an open round.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) slot: u16,
    pub(crate) round: u64,
    pub(crate) x: &'a [f32],
}

/// Where gradients come from: a function of the place, the round and the replica, so that the network's whims
/// change no vote.
pub(crate) type Source = Rc<dyn Fn(Ask<'_>) -> Vec<f32>>;

pub(crate) fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A generator for this purpose, independent of those of other numbers.
pub(crate) fn rng(numbers: &[u64]) -> ChaCha8Rng {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    ChaCha8Rng::from_seed(*blake3::hash(&bytes).as_bytes())
}

/// Two tensors that make a model of `dimension` coordinates.
pub(crate) fn layout(dimension: usize) -> Layout {
    let bias = dimension.div_ceil(4);
    let mut tensors = vec![TensorSpec { name: "fc.bias".into(), shape: vec![bias] }];
    if dimension > bias {
        tensors.push(TensorSpec { name: "fc.weight".into(), shape: vec![dimension - bias, 1] });
    }
    Layout::new(tensors).unwrap()
}

/// First parameters from a seed.
pub(crate) fn parameters(dimension: usize, seed: u64) -> Vec<f32> {
    let mut rng = rng(&[seed, 1]);
    (0..dimension).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Forgives everything: attackers in tests come again and again.
pub(crate) const PATIENCE: Patience =
    Patience { offences: u32::MAX, window: Duration::from_secs(60), kept_out: Duration::from_secs(60) };

/// Rounds may close so long after their opening.
pub(crate) fn after(count: u64) -> DeadlineRule {
    DeadlineRule::Fixed(milliseconds(count))
}

/// A vote among so many workers, in chunks of 64, that waits for everyone.
pub(crate) fn config(workers: u16, rounds: u64) -> Config {
    let mut settings = Settings::default();
    settings.insert("model", "mlp").unwrap();
    let terms = Terms {
        run: RunId(*b"a run of a test."),
        workers,
        batch: 32,
        seed: 7,
        rounds,
        aggregate: AggregateKind::Vote,
        beta: 0.0,
        abstain_on: AbstainOn::Momentum,
        chunk_coordinates: 64,
        digest_every: 3,
        max_non_finite: 0,
        signed: false,
        step: StepRule::default(),
        settings,
    };
    Config {
        weight_decay: 0.1,
        max_dimension: 1 << 20,
        greeting_timeout: milliseconds(5_000),
        joining_timeout: milliseconds(60_000),
        farewell_timeout: milliseconds(5_000),
        patience: PATIENCE,
        ring_bytes: 1 << 20,
        record_ballots: true,
        return_grace: milliseconds(1_000),
        ..Config::new(terms, Schedule::new(0.01, 2, rounds, Shape::Cosine).unwrap())
    }
}

/// The same, averaging gradients.
pub(crate) fn mean_config(workers: u16, rounds: u64) -> Config {
    let mut config = config(workers, rounds);
    config.terms.aggregate = AggregateKind::Mean;
    config
}

pub(crate) fn greeting(dimension: usize, slot: Option<u16>) -> Greeting {
    Greeting {
        layout: layout(dimension),
        settings: Settings::default(),
        run: None,
        slot: slot.and_then(Slot::new),
        name: slot.map_or_else(|| "any".into(), |slot| format!("worker {slot}")),
        key: None,
        statistics: false,
    }
}

/// Random gradients, some of them exactly zero: here and there, and whole stretches.
pub(crate) fn random_source(dimension: usize, seed: u64) -> Source {
    Rc::new(move |ask: Ask<'_>| {
        let mut rng = rng(&[seed, u64::from(ask.slot), ask.round]);
        let density = [0.0, 0.02, 0.5][rng.random_range(0..3)];
        let mut values: Vec<f32> = (0..dimension)
            .map(|_| if rng.random_bool(density) { 0.0 } else { rng.random_range(-1.0..1.0) })
            .collect();
        if rng.random_bool(0.3) {
            let start = rng.random_range(0..dimension);
            let end = rng.random_range(start..dimension);
            values[start..end].fill(-0.0);
        }
        values
    })
}

/// Gradients without a zero: every worker votes everywhere.
pub(crate) fn dense_source(dimension: usize, seed: u64) -> Source {
    Rc::new(move |ask: Ask<'_>| {
        let mut rng = rng(&[seed, u64::from(ask.slot), ask.round]);
        (0..dimension).map(|_| if rng.random_bool(0.5) { 1.0 } else { -1.0 }).collect()
    })
}

/// A standard normal deviate (Box & Muller 1958).
pub(crate) fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random_range(f64::MIN_POSITIVE..1.0), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// How many seeds a test tries: `usual`, or what the environment says if that is more.
pub(crate) fn seeds(usual: u64) -> u64 {
    let wanted = std::env::var("SIGNVOTE_SEEDS").ok().and_then(|text| text.parse().ok());
    wanted.unwrap_or(0).max(usual)
}

/// Runs a test of one seed, and names the seed if it fails.
#[expect(clippy::print_stdout, reason = "the runner of tests shows it when they fail")]
pub(crate) fn with_seed(seed: u64, test: impl FnOnce(u64)) {
    if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(seed))) {
        println!("failed with seed {seed}");
        std::panic::resume_unwind(panic);
    }
}
