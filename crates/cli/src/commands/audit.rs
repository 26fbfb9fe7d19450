//! `signvote audit`: a run replayed from its log.

use std::fmt::Write;

use serde::Serialize;
use signvote_election::hexadecimal;
use signvote_ledger::{Audit, audit};

use super::print;
use crate::exit::{Exit, Failure};
use crate::flags::AuditFlags;

/// What an audit found, for programs.
#[derive(Serialize)]
struct Found {
    holds: bool,
    from_round: u64,
    to_round: u64,
    rounds: u64,
    chain: String,
    digest: String,
    verdict_chunks_recomputed: u64,
    signed_ballots: u64,
    unsigned_ballots: u64,
    gaps: Vec<(u64, u64)>,
    first_difference: Option<Difference>,
    notices: Vec<String>,
}

#[derive(Serialize)]
struct Difference {
    round: u64,
    file: String,
    reason: String,
}

pub(crate) fn run(flags: &AuditFlags) -> Result<Exit, Failure> {
    let found = found(audit(&flags.run_dir, &mut |_, _| {})?);
    if flags.json {
        let json = serde_json::to_string(&found)
            .map_err(|error| Failure::internal("cannot write the audit", &error))?;
        print(&json);
    } else {
        print(&table(&found));
    }
    match &found.first_difference {
        None => Ok(Exit::Success),
        Some(Difference { round, file, reason }) => {
            Err(Failure::new(Exit::Audit, format!("round {round} does not hold ({file}): {reason}")))
        }
    }
}

fn found(audit: Audit) -> Found {
    let mut notices = audit.notices;
    if let Some(torn) = audit.torn {
        notices.push(format!(
            "the last {} bytes of {} are not whole: {}",
            torn.bytes,
            torn.path.display(),
            torn.reason
        ));
    }
    Found {
        holds: audit.difference.is_none(),
        from_round: audit.from.round.0,
        to_round: audit.to.round.0,
        rounds: audit.rounds,
        chain: hexadecimal(&audit.to.chain.0),
        digest: hexadecimal(&audit.digest.0),
        verdict_chunks_recomputed: audit.recomputed,
        signed_ballots: audit.signed,
        unsigned_ballots: audit.unsigned,
        gaps: audit.gaps.iter().map(|(from, to)| (from.0, to.0)).collect(),
        first_difference: audit.difference.map(|difference| Difference {
            round: difference.round.0,
            file: difference.path.display().to_string(),
            reason: difference.reason,
        }),
        notices,
    }
}

fn table(found: &Found) -> String {
    let mut out = String::new();
    let mut row = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<15} {text}");
    };
    row("rounds", format!("{} hold, from {} to {}", found.rounds, found.from_round, found.to_round));
    let verdicts = match found.verdict_chunks_recomputed {
        0 => "not recomputed: the run did not keep its ballots (--record-ballots)".to_owned(),
        chunks => format!("{chunks} chunks recomputed from the ballots, all the same"),
    };
    row("verdicts", verdicts);
    let ballots = match found.verdict_chunks_recomputed {
        0 => format!("{} counted", found.signed_ballots + found.unsigned_ballots),
        _ => format!("{} signed, {} without a proof", found.signed_ballots, found.unsigned_ballots),
    };
    row("ballots", ballots);
    row("history", found.chain.clone());
    row("parameters", found.digest.clone());
    for (from, to) in &found.gaps {
        row("gap", format!("rounds {from} to {to} were not logged"));
    }
    found.notices.iter().for_each(|notice| row("notice", notice.clone()));
    out
}
