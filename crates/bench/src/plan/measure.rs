//! What a core does on the machine at hand.

use std::net::SocketAddr;
use std::time::Duration;

use signvote_election::Topology;
use signvote_net::Connect;

use super::Costs;
use crate::exchange::{Size, serve, work};
use crate::{Error, Machine, kernels};

/// Coordinates: more than fit a cache, and few enough for some seconds in all.
const DIM: usize = 16_000_000;
/// Workers whose rounds are measured.
const WORKERS: u16 = 4;
/// Rounds of a long and of a short run: what happens once falls out of their difference.
const ROUNDS: [u64; 2] = [45, 5];
/// The unit of processor time in `/proc`: 1/100 s, whatever the kernel itself counts in.
const TICKS_PER_SECOND: f64 = 100.0;

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// With what could not be measured left as it was.
    pub costs: Costs,
    /// Where.
    pub machine: Machine,
    /// What was not measured, by the names of the costs.
    pub left_out: Vec<&'static str>,
}

/// Measures, in some seconds, the kernels with so many voters, and what the bytes of a vote cost: the processor time of whole
/// rounds of `bench exchange` on loopback, less the kernels', by the bytes that came to an end or went from it. What an
/// all-reduce costs is another program's, and is left as it was.
///
/// # Errors
/// Those of [`kernels::per_round`], [`serve`] and [`work`].
pub fn measure(costs: &Costs, voters: u16) -> Result<Measured, Error> {
    let rows = kernels::per_round(DIM, voters)?;
    let ns = |name: &str| {
        let row = rows.iter().find(|row| row.name == name);
        // Processor time is asked for, and the least time has least of others' in it.
        row.map(|row| row.best_ms * 1e6 / DIM as f64)
    };
    let mut measured = *costs;
    let mut left_out = vec!["dense-byte-ns", "reduce-ns", "reduce-half-ns"];
    if let (Some(pack), Some(apply), Some(tally)) = (ns("momentum_pack"), ns("apply"), ns("decide")) {
        measured.pack_ns = pack;
        measured.apply_ns = apply;
        measured.tally_ns = tally / f64::from(voters.max(1));
    }
    match round_seconds()?.and_then(|round| byte_ns(round, &measured)) {
        Some(byte) => measured.vote_byte_ns = byte,
        None => left_out.push("vote-byte-ns"),
    }
    Ok(Measured { costs: measured, machine: Machine::here(), left_out })
}

/// What is left of a round's processor time for a byte at one end: M workers and their server, each with its copy of x, send and
/// take 2M ballots and verdicts of d/8 bytes, which have two ends each. `None` where nothing is left: the kernels were measured
/// while others had the cores.
fn byte_ns(round_seconds: f64, costs: &Costs) -> Option<f64> {
    let (d, m) = (DIM as f64, f64::from(WORKERS));
    let kernels = m * (costs.pack_ns + costs.apply_ns) * d + (m * costs.tally_ns + costs.apply_ns) * d;
    Some((round_seconds * 1e9 - kernels) / (2.0 * 2.0 * m * d / 8.0)).filter(|ns| *ns > 0.0)
}

/// The processor time of a round of all together, in seconds; `None` where the system does not say it.
fn round_seconds() -> Result<Option<f64>, Error> {
    let [many, few] = ROUNDS;
    let Some((many_s, few_s)) = run_seconds(many)?.zip(run_seconds(few)?) else { return Ok(None) };
    Ok(Some((many_s - few_s) / (many - few) as f64))
}

/// The processor time of a run on loopback.
fn run_seconds(rounds: u64) -> Result<Option<f64>, Error> {
    let before = process_seconds();
    let size = Size { dim: DIM, rounds, workers: WORKERS, topology: Topology::Central };
    let (tell, address) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
            serve(anywhere, None, size, |at| {
                // Whoever waits for it is there.
                let _ = tell.send(at);
            })
        });
        if let Ok(address) = address.recv() {
            let workers: Vec<_> = (1..=WORKERS)
                .map(|slot| {
                    let connect = Connect {
                        address: address.to_string(),
                        patience: Duration::from_secs(60),
                        reconnect: Duration::ZERO,
                        tls: None,
                    };
                    scope.spawn(move || work(&connect, Some(slot), DIM, None))
                })
                .collect();
            for worker in workers {
                joined(worker.join())?;
            }
        }
        // If it did not listen, it says why.
        joined(server.join())
    })?;
    Ok(process_seconds().zip(before).map(|(after, before)| after - before))
}

fn joined<T>(outcome: std::thread::Result<Result<T, Error>>) -> Result<T, Error> {
    // A panic of a thread is a panic of the bench.
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// How long all threads of this process, those that have ended too, have had a core.
fn process_seconds() -> Option<f64> {
    ticks(&std::fs::read_to_string("/proc/self/stat").ok()?).map(|ticks| ticks / TICKS_PER_SECOND)
}

/// utime + stime of `/proc/self/stat`, fields 14 and 15. The second field is a name, in parentheses, with anything in it.
fn ticks(text: &str) -> Option<f64> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    Some((fields.next()?? + fields.next()??) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_process_is_found_behind_whatever_it_is_called() {
        let text = "7 (a ) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 9 9 20 0 1 0";
        assert_eq!(ticks(text), Some(300.0));
        assert_eq!(ticks("7 (short) S 1"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn what_the_kernels_do_not_take_is_that_of_the_bytes() {
        let costs = Costs { pack_ns: 0.3, tally_ns: 0.01, apply_ns: 0.2, ..Costs::NONE };
        // 4 · 0.5 + 0.04 + 0.2 ns a coordinate, and 2 ns for two bytes of a bit each a coordinate and worker, at both ends.
        let round = (2.24 + 2.0 * 2.0 * 4.0 / 8.0) * DIM as f64 * 1e-9;
        assert!(byte_ns(round, &costs).is_some_and(|ns| (ns - 1.0).abs() < 1e-9));
        assert_eq!(byte_ns(0.0, &costs), None, "no negative time");
    }
}
