//! What a step of training takes, predicted: dense all-reduce beside the vote, in every topology, at a link's rate.
//!
//! It is arithmetic, and no simulation. N hosts, one worker on each, a model of d coordinates, a ballot or verdict of
//! B = d/8 bytes, links that carry R each way at once. What the busiest link carries each way, the *link's limit*:
//!
//! | | bytes |
//! |---|---|
//! | ring all-reduce of f32 | 2(N−1)/N · 4d |
//! | ring all-reduce of binary16 | 2(N−1)/N · 2d |
//! | central vote, the server beside a worker | (N−1) · B |
//! | central vote, the server on a host of its own | N · B |
//! | sharded vote, a shard beside every worker | 2(N−1)/N · B |
//!
//! An exchange takes the longest of three times ([`exchange`]): of the link, of the machine's cores together, and of the
//! busiest process, which is taken to run on one core. What a core does is counted in nanoseconds for each coordinate and byte
//! ([`Costs`]). A step adds the computation ([`step`]), before the exchange or, as far as that is the backward pass, beside it.
//!
//! It checks itself: [`check`] compares it with measurements, [`paper`] with what the paper reports.
//!
//! Not in it: packets that are lost, links that others use as well, hosts of different speed, and computation and exchange
//! that take turns on the same cores.

pub mod check;
mod choice;
mod costs;
pub mod measure;
pub mod paper;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use choice::{BreakEven, Choice, Overlap, break_even, choose};
pub use costs::Costs;

use crate::Rate;

/// Coordinates in a chunk: what is in one is decided once all of it is there.
const CHUNK: f64 = 65_536.0;

/// A way to exchange gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Ring all-reduce of f32.
    RingFp32,
    /// Ring all-reduce of binary16.
    RingFp16,
    /// A vote with one server, on the host of a worker.
    Central,
    /// A vote with one server, on a host of its own.
    CentralApart,
    /// A vote with a shard on the host of every worker.
    Sharded,
}

impl System {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::RingFp32, Self::RingFp16, Self::Central, Self::CentralApart, Self::Sharded];
    /// Those that send numbers.
    pub const DENSE: [Self; 2] = [Self::RingFp32, Self::RingFp16];

    /// For people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::RingFp32 => "fp32 ring all-reduce",
            Self::RingFp16 => "fp16 ring all-reduce",
            Self::Central => "central vote, server beside a worker",
            Self::CentralApart => "central vote, server on its own host",
            Self::Sharded => "sharded vote",
        }
    }

    /// Whether it sends bits.
    #[must_use]
    pub fn is_vote(self) -> bool {
        !Self::DENSE.contains(&self)
    }

    /// What the busiest link carries each way, in bytes, headers left out: the table above. With one host nothing travels,
    /// except to a server on another.
    #[must_use]
    pub fn link_bytes(self, dim: f64, hosts: u32) -> f64 {
        let n = f64::from(hosts.max(1));
        let (ballot, ring) = (dim / 8.0, 2.0 * (n - 1.0) / n);
        match self {
            Self::RingFp32 => ring * 4.0 * dim,
            Self::RingFp16 => ring * 2.0 * dim,
            Self::Central => (n - 1.0) * ballot,
            Self::CentralApart => n * ballot,
            Self::Sharded => ring * ballot,
        }
    }

    /// The least that an exchange can take, in seconds: the bytes of [`System::link_bytes`] at the full rate of the link.
    #[must_use]
    pub fn limit_seconds(self, dim: f64, hosts: u32, rate: Rate) -> f64 {
        rate.seconds(self.link_bytes(dim, hosts))
    }

    /// How often one message waits for another, from the gradient to the step.
    ///
    /// Ring: 2(N−1) parts, one after the other. Central: ballot, and verdict with commit. Sharded: ballot, verdict, and
    /// from the shards to the coordinator and back, which commits.
    fn hops(self, hosts: u32) -> f64 {
        match self {
            Self::RingFp32 | Self::RingFp16 => 2.0 * (f64::from(hosts.max(1)) - 1.0),
            Self::Central | Self::CentralApart => 2.0,
            Self::Sharded => 4.0,
        }
    }
}

/// What is trained on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// Hosts, N: one worker on each.
    pub hosts: u32,
    /// What a host's link carries each way.
    #[serde(rename = "rate_bit_per_s")]
    pub rate: Rate,
    /// What a link lets through at once before its rate holds, in each exchange anew: the bucket of `tbf`. 0 for a real one.
    pub burst_bytes: f64,
    /// Seconds that a message takes besides its bytes, one way.
    pub latency_s: f64,
    /// The share of the link's rate that ballots and verdicts get; the rest is headers.
    pub vote_efficiency: f64,
    /// The share of the link's rate that an all-reduce gets: headers, and where the library waits.
    pub dense_efficiency: f64,
    /// Hosts that are on one machine together, as containers or namespaces, and share its cores.
    pub hosts_per_machine: u32,
    /// Cores of a machine.
    pub cores: u32,
}

impl Cluster {
    /// Hosts of their own machines, each with a link of this rate that nothing but gradients uses, and that loses none of it.
    #[must_use]
    pub fn of_links(hosts: u32, rate: Rate) -> Self {
        Self {
            hosts,
            rate,
            burst_bytes: 0.0,
            latency_s: 0.0,
            vote_efficiency: 1.0,
            dense_efficiency: 1.0,
            hosts_per_machine: 1,
            cores: 8,
        }
    }

    /// Hosts on the fullest machine.
    fn together(&self) -> f64 {
        f64::from(self.hosts_per_machine.clamp(1, self.hosts.max(1)))
    }

    fn cores(&self) -> f64 {
        f64::from(self.cores.max(1))
    }

    /// How much longer a host takes for what all do at once on one core each.
    fn crowding(&self) -> f64 {
        (self.together() / self.cores()).max(1.0)
    }
}

/// What an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// The busiest link.
    Link,
    /// All cores of a machine together.
    Cores,
    /// One process, which has one core.
    Process,
}

/// An exchange, predicted. Times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exchange {
    /// What the busiest link carries each way, without headers.
    pub link_bytes: f64,
    /// What that takes at the link's full rate.
    pub limit_s: f64,
    /// What the link takes: headers, waiting and the last chunk's way back included, and what is left to do then.
    pub link_s: f64,
    /// What the cores of the busiest machine take together.
    pub cores_s: f64,
    /// What the busiest process takes on one core.
    pub process_s: f64,
    /// What cannot begin before the last byte is there: the step on the replica, which waits for the commit.
    pub tail_s: f64,
}

impl Exchange {
    /// The longest of the three.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.link_s.max(self.cores_s).max(self.process_s)
    }

    /// Which is the longest; the link, where it is as long as another.
    #[must_use]
    pub fn bound(&self) -> Bound {
        let most = self.seconds();
        if self.link_s >= most {
            Bound::Link
        } else if self.cores_s >= most {
            Bound::Cores
        } else {
            Bound::Process
        }
    }
}

/// What the processes of a system do, in seconds of one core.
struct Work {
    /// A worker, from the gradient to the step; with its shard, if it has one.
    worker: f64,
    /// The one server.
    server: f64,
    /// Of the worker's, what comes after the commit.
    tail: f64,
}

impl Work {
    /// A byte costs at each of its ends. A worker beside the server sends to it as well, though over no link.
    ///
    /// | | worker | server |
    /// |---|---|---|
    /// | ring | reduce·(N−1)/N·d, dense bytes 2·(link bytes) | |
    /// | central | (pack + apply)·d, bytes 2B | (tally·N + apply)·d, bytes 2NB |
    /// | sharded | the same, with bytes 4(N−1)/N·B, (tally·N + apply)·d/N | |
    ///
    /// A server, or a shard of it, keeps its own copy of x.
    fn of(system: System, dim: f64, hosts: u32, costs: &Costs) -> Self {
        let n = f64::from(hosts.max(1));
        let ballot_bytes = dim / 8.0;
        let both_ways = 2.0 * system.link_bytes(dim, hosts);
        let replica = (costs.pack_ns + costs.apply_ns) * dim;
        let counting = (costs.tally_ns * n + costs.apply_ns) * dim;
        let tail = costs.apply_ns * dim * 1e-9;
        let (worker, server, tail) = match system {
            System::RingFp32 | System::RingFp16 => {
                let reduce = if system == System::RingFp32 { costs.reduce_ns } else { costs.reduce_half_ns };
                (reduce * (n - 1.0) / n * dim + costs.dense_byte_ns * both_ways, 0.0, 0.0)
            }
            System::Central | System::CentralApart => {
                let byte = costs.vote_byte_ns;
                (replica + byte * 2.0 * ballot_bytes, counting + byte * 2.0 * n * ballot_bytes, tail)
            }
            System::Sharded => (replica + costs.vote_byte_ns * both_ways + counting / n, 0.0, tail),
        };
        Self { worker: worker * 1e-9, server: server * 1e-9, tail }
    }
}

/// Predicts one exchange of d = `dim` coordinates.
///
/// - link: (bytes / efficiency − burst) / rate + hops · latency + the last chunk's way back (central only: before it is whole, nothing
///   of it can be decided; so a model of one chunk goes up, and only then down) + the step on the replica, which waits for the
///   commit.
/// - cores: Σ work of the processes on the busiest machine / its cores. A server on a host of its own is on a machine of its
///   own, unless one machine has all hosts.
/// - process: the busiest one's work.
#[must_use]
pub fn exchange(system: System, dim: f64, cluster: &Cluster, costs: &Costs) -> Exchange {
    let work = Work::of(system, dim, cluster.hosts, costs);
    let link_bytes = system.link_bytes(dim, cluster.hosts);
    let limit_s = cluster.rate.seconds(link_bytes);
    let efficiency = if system.is_vote() { cluster.vote_efficiency } else { cluster.dense_efficiency };
    let last_chunk = match system {
        System::Central | System::CentralApart => (CHUNK / dim.max(1.0)).min(1.0),
        _ => 0.0,
    };
    let tail_s = work.tail * cluster.crowding();
    let sent_bytes = link_bytes * (1.0 + last_chunk) / efficiency;
    let link_s = cluster.rate.seconds((sent_bytes - cluster.burst_bytes).max(0.0))
        + system.hops(cluster.hosts) * cluster.latency_s
        + tail_s;
    let workers = cluster.together() * work.worker;
    let one_machine = cluster.hosts_per_machine >= cluster.hosts && cluster.hosts > 1;
    let busiest = match system {
        System::CentralApart if !one_machine => workers.max(work.server),
        _ => workers + work.server,
    };
    let cores_s = busiest / cluster.cores();
    Exchange { link_bytes, limit_s, link_s, cores_s, process_s: work.worker.max(work.server), tail_s }
}

/// What a worker does between two exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Compute {
    /// Forward and backward on a batch, in seconds.
    pub seconds: f64,
    /// The backward pass's share of that: what an exchange can hide under.
    pub backward_share: f64,
}

/// A step, predicted. Times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// How gradients are exchanged.
    pub system: System,
    /// That exchange.
    pub exchange: Exchange,
    /// With the exchange after the backward pass.
    pub after_s: f64,
    /// With the exchange under the backward pass, as far as that reaches.
    pub under_s: f64,
}

/// Predicts a step.
///
/// - after: compute + exchange + update
/// - under: compute·(1 − share) + max(compute·share, exchange − tail) + tail + update
///
/// The update of a dense step is what its optimiser does: SGD with momentum passes over the same arrays as momentum and
/// `apply` of a vote, whose exchange has them in it, and is taken to cost as much. "Under" flatters all systems: the gradients
/// that come last can never be hidden.
#[must_use]
pub fn step(system: System, dim: f64, cluster: &Cluster, costs: &Costs, compute: Compute) -> Step {
    let exchange = exchange(system, dim, cluster, costs);
    let update = match system.is_vote() {
        true => 0.0,
        false => (costs.pack_ns + costs.apply_ns) * dim * 1e-9 * cluster.crowding(),
    };
    let backward = compute.seconds * compute.backward_share;
    let hidden = backward.max(exchange.seconds() - exchange.tail_s) + exchange.tail_s;
    Step {
        system,
        exchange,
        after_s: compute.seconds + exchange.seconds() + update,
        under_s: compute.seconds - backward + hidden + update,
    }
}
