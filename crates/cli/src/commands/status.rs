//! `signvote status`: how the run of a server stands.

use std::fmt::Write;
use std::time::Duration;

use indicatif::HumanBytes;
use signvote_election::{Status, WorkerState};
use signvote_net::{Connect, ask_status};

use super::print;
use super::worker::connector;
use crate::exit::{Exit, Failure};
use crate::flags::StatusFlags;
use crate::progress::percent;
use crate::rules::seconds;

pub(crate) fn run(flags: &StatusFlags) -> Result<Exit, Failure> {
    let connect = Connect {
        address: flags.address.clone(),
        patience: seconds("patience", flags.patience, true)?,
        reconnect: Duration::ZERO,
        tls: connector(&flags.identity)?,
    };
    let json = ask_status(&connect)?;
    if flags.json {
        print(&json);
        return Ok(Exit::Success);
    }
    let status: Status = serde_json::from_str(&json).map_err(|error| {
        Failure::new(Exit::Refused, format!("{} has another version: {error}", flags.address))
    })?;
    print(&table(&status));
    Ok(Exit::Success)
}

fn table(status: &Status) -> String {
    let mut out = String::new();
    let mut row = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<15} {text}");
    };
    row("run", format!("{}, {}", status.run, status.phase));
    row("round", format!("{} of {}, incarnation {}", status.round, status.rounds, status.incarnation));
    let (quorum, liars) = (status.quorum, status.tolerated_liars);
    row("quorum", format!("{quorum} of {}, tolerates {liars} liars", status.workers.len()));
    row("last round", or_none(&status.last_reason));
    row("open round", or_none(&status.open_reason));
    row("deadline", status.deadline_reason.clone());
    let waiting: Vec<_> = status.waiting_for.iter().map(|slot| slot.to_string()).collect();
    row("waiting for", or_none(&waiting.join(", ")));
    row("history", status.chain.get(..16).unwrap_or_default().to_owned());
    let (offences, kept, away) = (status.offences, status.kept_out, status.turned_away);
    row("strangers", format!("{offences} rules broken, {kept} kept out now, {away} turned away"));
    let _ = writeln!(
        out,
        "\n{:<5} {:<20} {:<12} {:>6} {:>10} {:>8} {:>7} {:>10} {:>10}",
        "place", "name", "state", "lag", "agreement", "rounds", "late", "up", "down"
    );
    for worker in &status.workers {
        let state = match worker.state {
            WorkerState::Voting if worker.voted => "has voted".to_owned(),
            WorkerState::Voting => "computing".to_owned(),
            state => state.to_string(),
        };
        let name = worker.identity.as_deref().unwrap_or(&worker.name);
        let (up, down) = worker.traffic.map_or((0, 0), |row| {
            (row.round_up_bytes + row.join_up_bytes, row.round_down_bytes + row.join_down_bytes)
        });
        let _ = writeln!(
            out,
            "{:<5} {name:<20} {state:<12} {:>6} {:>10} {:>8} {:>7} {:>10} {:>10}",
            worker.slot.to_string(),
            worker.lag_rounds,
            percent(worker.agreement),
            worker.rounds,
            worker.late_chunks,
            HumanBytes(up).to_string(),
            HumanBytes(down).to_string()
        );
    }
    if !status.shards.is_empty() {
        let _ = writeln!(out, "\n{:<5} {:<20} {:>7} address", "shard", "name", "chunks");
    }
    for shard in &status.shards {
        let (id, name, chunks) = (shard.shard.to_string(), &shard.name, shard.chunks);
        let _ = writeln!(out, "{id:<5} {name:<20} {chunks:>7} {}", shard.address);
    }
    out
}

fn or_none(text: &str) -> String {
    if text.is_empty() { "none".into() } else { text.into() }
}
