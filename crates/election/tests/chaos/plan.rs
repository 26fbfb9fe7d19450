//! What a seed wants: a run, its workers, and what goes wrong.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use signvote_election::decision::{DeadlineRule, SecondConnection};
use signvote_election::{Config, Identity, Patience, SecretKey, TiePolicy};

use super::harness::{config, milliseconds, rng};

/// What survives a crash of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Every record, before anything behind it is sent.
    Always,
    /// All but some of the newest records.
    Interval,
    /// Snapshots.
    Off,
}

/// What goes wrong, once.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// A connection of this worker breaks; what is under way in either direction is lost in part.
    Cut { worker: usize },
    /// Nothing reaches this worker and nothing comes from it; then its connection is cut, or goes on.
    Partition { worker: usize, micros: u64, cut: bool },
    /// This worker neither reads nor computes.
    Stop { worker: usize, micros: u64 },
    /// Its process dies and comes back, with its replica or without.
    Crash { worker: usize, micros: u64, replica: bool },
    /// A frame on its way from or to this worker comes twice.
    Duplicate { worker: usize, up: bool },
    /// Somebody else connects as this worker.
    Twin { worker: usize, micros: u64 },
    /// The server dies once it has said so many things more, and is started again.
    CrashServer { outputs: usize, micros: u64 },
    /// The server is told to stop, and is started again.
    PauseServer { patience: u64, micros: u64 },
    /// The next record cannot be written.
    DiskFull { micros: u64 },
}

/// One worker, as the seed has it.
pub(crate) struct Member {
    pub(crate) honest: bool,
    pub(crate) identity: Option<Identity>,
    pub(crate) key: Option<SecretKey>,
    pub(crate) wanted: Option<u16>,
    /// Whether its first parameters are those of the seed.
    pub(crate) same_x0: bool,
}

/// All that a seed wants.
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) durability: Durability,
    pub(crate) dimension: usize,
    pub(crate) members: Vec<Member>,
    /// Microseconds that a frame is under way.
    pub(crate) delay: u64,
    /// Microseconds that a worker computes a chunk.
    pub(crate) compute: u64,
    /// Frames that may wait for a peer before it counts as congested.
    pub(crate) queue: usize,
    /// Rounds between two snapshots.
    pub(crate) snapshot_every: u64,
    /// Microseconds, and what happens then.
    pub(crate) faults: Vec<(u64, Fault)>,
}

/// No fault begins later than this, in microseconds.
pub(crate) const FAULTS_END: u64 = 700_000;

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let rng = &mut rng(&[seed, 70]);
        let workers = rng.random_range(1..=7_u16);
        let rounds = rng.random_range(5..=15);
        let mut config = config(workers, rounds);
        let liars = if workers >= 3 { rng.random_range(0..=(workers - 1) / 2) } else { 0 };
        // As many as are certain to come back.
        config.quorum = usize::from(rng.random_range(1..=workers - liars));
        config.terms.digest_every = rng.random_range(0..4);
        config.tie = [TiePolicy::Coin, TiePolicy::Hold, TiePolicy::Positive][rng.random_range(0..3)];
        config.min_voters = rng.random_range(0..3);
        config.deadline = match rng.random_range(0..4) {
            0 => DeadlineRule::Never,
            1 => DeadlineRule::Fixed(milliseconds(rng.random_range(5..200))),
            _ => DeadlineRule::Adaptive { floor: milliseconds(10), ceiling: milliseconds(400) },
        };
        config.ring_bytes = [0, 2_000, 1 << 20][rng.random_range(0..3)];
        config.joining_timeout = milliseconds(2_000);
        config.greeting_timeout = milliseconds(1_000);
        config.farewell_timeout = milliseconds(2_000);
        config.return_grace = milliseconds(rng.random_range(0..500));
        config.patience =
            Patience { offences: 3, window: Duration::from_secs(5), kept_out: Duration::from_secs(2) };
        let identities = rng.random_bool(0.4);
        // Curve arithmetic is by far the dearest part of a seed.
        config.terms.signed = identities && rng.random_bool(0.2);
        config.second = match rng.random_bool(0.7) {
            true => SecondConnection::Replaces,
            false => SecondConnection::IsRefused,
        };
        let by_number = !identities || rng.random_bool(0.5);
        let spare = identities && !by_number && rng.random_bool(0.3);
        let members = (1..=workers + u16::from(spare))
            .map(|number| {
                let key = config.terms.signed.then(|| SecretKey::from_seed(&[number as u8; 32]));
                let public =
                    key.as_ref().map_or(signvote_election::PublicKey([number as u8; 32]), SecretKey::public);
                Member {
                    honest: number <= workers - liars || number > workers,
                    identity: identities.then(|| Identity { name: format!("worker-{number}"), key: public }),
                    key,
                    wanted: by_number.then_some(number),
                    same_x0: rng.random_bool(0.95),
                }
            })
            .collect::<Vec<_>>();
        let durability = [Durability::Always, Durability::Interval, Durability::Off][rng.random_range(0..3)];
        let faults = faults(rng, members.len(), identities);
        Self {
            config,
            durability,
            dimension: [1, 64, 130, 200][rng.random_range(0..4)],
            members,
            delay: rng.random_range(100..8_000),
            compute: rng.random_range(100..5_000),
            queue: [4, 12, usize::MAX][rng.random_range(0..3)],
            snapshot_every: rng.random_range(1..6),
            faults,
        }
    }
}

fn faults(rng: &mut ChaCha8Rng, workers: usize, identities: bool) -> Vec<(u64, Fault)> {
    let count = rng.random_range(0..14);
    let mut faults: Vec<_> = (0..count)
        .map(|_| {
            let worker = rng.random_range(0..workers);
            let micros = rng.random_range(1_000..400_000);
            let fault = match rng.random_range(0..22) {
                0..4 => Fault::Cut { worker },
                4..7 => Fault::Partition { worker, micros, cut: rng.random_bool(0.5) },
                7..10 => Fault::Stop { worker, micros },
                10..14 => Fault::Crash { worker, micros, replica: rng.random_bool(0.6) },
                14..16 => Fault::Duplicate { worker, up: rng.random_bool(0.5) },
                16 if identities => Fault::Twin { worker, micros },
                16..20 => Fault::CrashServer { outputs: rng.random_range(0..12), micros: micros / 2 },
                20 => Fault::PauseServer { patience: rng.random_range(0..100_000), micros: micros / 2 },
                _ => Fault::DiskFull { micros: micros / 2 },
            };
            (rng.random_range(0..FAULTS_END), fault)
        })
        .collect();
    faults.sort_by_key(|&(at, _)| at);
    faults
}
