//! `signvote bench exchange`: how long a round takes, on this machine or between hosts.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar};
use serde::Serialize;
use signvote_bench::exchange::{ShardAt, Size, Times, local, serve, shard, work};
use signvote_bench::plan::System;
use signvote_bench::{Machine, Rate};
use signvote_net::Connect;
use signvote_net::tls::{Acceptor, Credentials};

use super::print;
use super::shard::resolve;
use super::worker::connector;
use crate::exit::{Exit, Failure};
use crate::flags::{BenchExchangeFlags, ExchangeRole, IdentityFlags, TopologyKind};
use crate::progress::{self, grouped};
use crate::rules::seconds;

/// What was measured, for programs: the first row's figures, and all rows.
#[derive(Serialize)]
struct Report {
    role: &'static str,
    topology: &'static str,
    machine: Machine,
    dim: usize,
    workers: u16,
    /// What the link carries, and the least that a round can take on it, with a worker to a host and the server beside one.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_to_limit: Option<f64>,
    #[serde(flatten)]
    first: Times,
    rows: Vec<Times>,
}

pub(crate) fn run(flags: &BenchExchangeFlags) -> Result<Exit, Failure> {
    let dim = usize::try_from(flags.dim)
        .map_err(|_| Failure::usage(format!("--dim {} is too much for this machine", flags.dim)))?;
    let topology = flags.topology.with(flags.shards.unwrap_or(flags.workers), flags.replicas);
    let size = Size { dim, rounds: flags.rounds, workers: flags.workers, topology };
    let (role, rows) = match flags.role {
        None => ("local", on_this_machine(flags, size)?),
        Some(ExchangeRole::Server) => ("server", vec![as_server(flags, size)?]),
        Some(ExchangeRole::Worker) => {
            let shard =
                flags.shard_listen.as_deref().map(|at| shard_at(flags, "shard-listen", at)).transpose()?;
            ("worker", vec![work(&connect(flags)?, None, dim, shard)?])
        }
        Some(ExchangeRole::Shard) => {
            let (name, at) = match (&flags.listen, &flags.shard_listen) {
                (Some(at), _) => ("listen", at),
                (None, Some(at)) => ("shard-listen", at),
                (None, None) => return Err(Failure::usage("--role shard wants --listen HOST:PORT")),
            };
            let ended =
                shard(&connect(flags)?, shard_at(flags, name, at)?, |at| tell(flags, "tallies at", at))?;
            if !flags.quiet {
                progress::line(&ended);
            }
            return Ok(Exit::Success);
        }
    };
    let Some(first) = rows.first().cloned() else { return Ok(Exit::Success) };
    let workers = first.workers;
    let limit = |rate| system(flags.topology).limit_seconds(dim as f64, u32::from(workers), rate) * 1e3;
    let limit_ms = flags.rate.map(limit);
    let report = Report {
        role,
        topology: name_of(flags.topology),
        machine: Machine::here(),
        dim,
        workers,
        rate: flags.rate,
        limit_ms,
        ratio_to_limit: limit_ms.map(|limit| first.median_ms / limit),
        first,
        rows,
    };
    if flags.json {
        let json = serde_json::to_string(&report)
            .map_err(|error| Failure::internal("cannot write the result", &error))?;
        print(&json);
    } else {
        print(&table(&report, flags));
    }
    Ok(Exit::Success)
}

fn on_this_machine(flags: &BenchExchangeFlags, size: Size) -> Result<Vec<Times>, Failure> {
    let bar = if flags.quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    bar.set_message("exchanging");
    let scratch = std::env::temp_dir().join(format!("signvote-bench-{}", std::process::id()));
    let made = std::fs::create_dir_all(&scratch);
    made.map_err(|error| Failure::new(Exit::Files, format!("cannot make {}: {error}", scratch.display())))?;
    let rows = local(size, flags.turns, &scratch);
    // Identities of nobody: whatever is left of them does no harm.
    let _ = std::fs::remove_dir_all(&scratch);
    bar.finish_and_clear();
    Ok(rows?)
}

fn as_server(flags: &BenchExchangeFlags, size: Size) -> Result<Times, Failure> {
    let tls = match &flags.tls {
        Some(directory) => Some(Acceptor::new(Credentials::load(directory, "server")?)?),
        None => None,
    };
    let address = resolve("listen", flags.listen.as_deref().unwrap_or("127.0.0.1:7700"))?;
    Ok(serve(address, tls, size, |at| tell(flags, "listens at", at))?)
}

/// How a worker or a shard gets to the server.
fn connect(flags: &BenchExchangeFlags) -> Result<Connect, Failure> {
    if flags.tls.is_some() && flags.identity.is_none() {
        return Err(Failure::usage("--tls needs --identity here, the name in the certificate"));
    }
    let identity = IdentityFlags { tls: flags.tls.clone(), identity: flags.identity.clone() };
    Ok(Connect {
        address: flags.connect.clone(),
        patience: seconds("patience", flags.patience, true)?,
        reconnect: Duration::ZERO,
        tls: connector(&identity)?,
    })
}

fn shard_at(flags: &BenchExchangeFlags, flag: &str, text: &str) -> Result<ShardAt, Failure> {
    let tls = match (&flags.tls, &flags.identity) {
        (Some(directory), Some(name)) => {
            Some(Acceptor::for_shard(Credentials::load(directory, &name.to_string())?)?)
        }
        _ => None,
    };
    Ok(ShardAt { address: resolve(flag, text)?, tls })
}

fn tell(flags: &BenchExchangeFlags, what: &str, at: SocketAddr) {
    if !flags.quiet {
        progress::line(&format!("{what} {at} for {} workers", flags.workers));
    }
}

fn name_of(topology: TopologyKind) -> &'static str {
    match topology {
        TopologyKind::Central => "central",
        TopologyKind::Sharded => "sharded",
    }
}

fn table(report: &Report, flags: &BenchExchangeFlags) -> String {
    let Report { machine, topology, dim, rows, first, .. } = report;
    let mut out = format!("{}, {} cores; {}\n", machine.cpu, machine.cores, machine.isa_reason);
    let what = match flags.role {
        Some(ExchangeRole::Server) => "from commit to commit",
        _ => "momentum, packing and the step included",
    };
    let _ = writeln!(out, "a round of {} coordinates, {topology}, {what}", grouped(*dim as u64));
    let _ = writeln!(
        out,
        "{:<20} {:>9} {:>9} {:>9} {:>9}  {:>10} {:>10}",
        "", "median", "p95", "least", "most", "up", "down"
    );
    for row in rows {
        let _ = writeln!(
            out,
            "{:<20} {:>6.1} ms {:>6.1} ms {:>6.1} ms {:>6.1} ms  {:>10} {:>10}  {:.2}",
            row.protection,
            row.median_ms,
            row.p95_ms,
            row.min_ms,
            row.max_ms,
            HumanBytes(row.bytes_up).to_string(),
            HumanBytes(row.bytes_down).to_string(),
            row.median_ms / first.median_ms
        );
    }
    if let (Some(rate), Some(limit), Some(ratio)) = (report.rate, report.limit_ms, report.ratio_to_limit) {
        let place = match flags.topology {
            TopologyKind::Central => ", the server beside one of them",
            TopologyKind::Sharded => ", a shard beside each",
        };
        let _ = writeln!(
            out,
            "at {rate}, {} workers on hosts of their own{place}, the link's own limit is {limit:.1} ms: {ratio:.2} times that",
            report.workers
        );
    }
    out
}

/// What the plan calls it.
fn system(topology: TopologyKind) -> System {
    match topology {
        TopologyKind::Central => System::Central,
        TopologyKind::Sharded => System::Sharded,
    }
}
