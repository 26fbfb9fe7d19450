//! `signvote doctor`: whether this machine is fit to take part.

use std::path::Path;

use signvote_bench::doctor::{Check, Finding, Report, Wanted, examine};

use super::print;
use crate::exit::{Exit, Failure};
use crate::flags::DoctorFlags;
use crate::rules::seconds;

pub(crate) fn run(flags: &DoctorFlags) -> Result<Exit, Failure> {
    let patience = seconds("patience", flags.patience, true)?;
    if flags.address.is_some() && flags.tls.is_some() && flags.identity.is_none() {
        let message = "to ask a server with --tls DIR, pass --identity NAME: it wants to know who asks";
        return Err(Failure::usage(message));
    }
    let report = examine(&Wanted {
        directory: Path::new("."),
        identity: flags.tls.as_deref().map(|dir| (dir, flags.identity.as_ref())),
        server: flags.address.as_deref().map(|address| (address, patience)),
    });
    if flags.json {
        let json = serde_json::to_string(&report)
            .map_err(|error| Failure::internal("cannot write what was found", &error))?;
        print(&json);
    } else {
        print(&report.table());
    }
    match report.worst() {
        None => Ok(Exit::Success),
        Some(worst) => Err(failure(&report, worst)),
    }
}

/// The first of what does not go, again in one line.
fn failure(report: &Report, worst: &Finding) -> Failure {
    let exit = match worst.name {
        Check::Link if report.refused => Exit::Refused,
        // Without sockets nobody is reached either.
        Check::Link | Check::Loopback | Check::Files => Exit::Network,
        // What a wrong clock leads to.
        Check::Clock => Exit::Refused,
        Check::Disk | Check::Certificates => Exit::Files,
        // A kernel gave a wrong answer; of the others nothing is bad.
        Check::Cpu | Check::Memory | Check::Plan => Exit::Internal,
    };
    let advice = worst.advice.as_ref().map(|advice| format!("; {advice}")).unwrap_or_default();
    Failure::new(exit, format!("{}: {}{advice}", worst.name, worst.words))
}
