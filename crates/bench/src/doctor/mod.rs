//! Whether a machine is fit to take part, in plain words, and what [`plan`](crate::plan) makes of it.
//!
//! Measuring and wording are apart: [`measure`] gives numbers, [`words`] makes a [`Finding`] of them, so that what is said can be
//! tested on machines that nobody has. [`examine`] does both, in a few seconds, and never fails: what goes wrong is a finding.
//!
//! It changes nothing: one small file is written to the directory that it looks at, and removed.

pub mod certificates;
pub mod measure;
#[cfg(test)]
mod tests;
pub mod words;

use std::fmt::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use signvote_election::ExchangeError;
use signvote_net::tls::{Connector, Credentials};
use signvote_net::{Connect, Name};

use crate::plan::Costs;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Processor and kernels.
    Cpu,
    /// How much memory there is, and how fast it is.
    Memory,
    /// The network within the machine.
    Loopback,
    /// The system's clocks.
    Clock,
    /// How many files and sockets a process may have.
    Files,
    /// The file system of the current directory.
    Disk,
    /// The files of identities.
    Certificates,
    /// The way to a server.
    Link,
    /// What a step is predicted to take.
    Plan,
}

impl Check {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 9] = [
        Self::Cpu,
        Self::Memory,
        Self::Loopback,
        Self::Clock,
        Self::Files,
        Self::Disk,
        Self::Certificates,
        Self::Link,
        Self::Plan,
    ];
}

/// As it is serialised.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Loopback => "loopback",
            Self::Clock => "clock",
            Self::Files => "files",
            Self::Disk => "disk",
            Self::Certificates => "certificates",
            Self::Link => "link",
            Self::Plan => "plan",
        })
    }
}

/// How it stands with what was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Well.
    Good,
    /// Worth knowing: it goes, but slower, not for long, or was not looked at.
    Note,
    /// It does not go.
    Bad,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: Check,
    /// How it stands.
    pub level: Level,
    /// What it is, in one line.
    pub words: String,
    /// What to do about it, or how to know more.
    pub advice: Option<String>,
}

impl Finding {
    pub(super) fn new(name: Check, level: Level, words: impl Into<String>) -> Self {
        Self { name, level, words: words.into(), advice: None }
    }

    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// One line: sign, name, what was found, what to do.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.level {
            Level::Good => "ok",
            Level::Note => "note",
            Level::Bad => "BAD",
        };
        write!(f, "{sign:<4} {:<12} {}", self.name, self.words)?;
        self.advice.as_ref().map_or(Ok(()), |advice| write!(f, "; {advice}"))
    }
}

/// Everything that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing is [`Level::Bad`].
    pub fit: bool,
    /// At least one for each of [`Check::ALL`], in that order.
    pub findings: Vec<Finding>,
    /// Whether a server answered, and would not have this machine.
    #[serde(skip)]
    pub refused: bool,
}

impl Report {
    /// The first of what does not go.
    #[must_use]
    pub fn worst(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.level == Level::Bad)
    }

    /// A line for each finding.
    #[must_use]
    pub fn table(&self) -> String {
        let mut out = String::new();
        for finding in &self.findings {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{finding}");
        }
        out
    }
}

/// What to look at besides the machine.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Where a run would be kept.
    pub directory: &'a Path,
    /// The directory of certificates, and whose this machine is to use.
    pub identity: Option<(&'a Path, Option<&'a Name>)>,
    /// The server, `host:port`, and how long to look for it. Without a name in `identity` it is spoken to in plain text.
    pub server: Option<(&'a str, Duration)>,
}

/// Looks at everything, one after another, so that nothing disturbs what is measured.
#[must_use]
pub fn examine(wanted: &Wanted<'_>) -> Report {
    let cpu = measure::cpu();
    let costs = measure::costs(&Costs::default(), words::WORKERS);
    let memory = measure::memory();
    let loopback = measure::loopback();
    let clock = measure::clock();
    let now = clock.seconds_since_1970.unwrap_or(0);
    let mut findings = vec![
        words::cpu(&cpu),
        words::kernels(&costs),
        words::memory(&memory),
        words::loopback(&loopback),
        words::clock(&clock),
        words::open_files(measure::open_files()),
        words::disk(&measure::disk(wanted.directory)),
    ];
    let (of_certificates, connector) = identity(wanted, now);
    findings.extend(of_certificates);
    let link = link(wanted, connector);
    findings.push(match (&link, wanted.server) {
        (Some(link), _) => words::link(link),
        (None, Some((address, _))) => words::no_identity(address),
        (None, None) => words::no_server(),
    });
    let refused = matches!(&link, Some(Err(error)) if !matches!(error, ExchangeError::Lost(_)));
    let latency = link.and_then(Result::ok).map(|link| link.latency());
    findings.extend(words::plan(&costs, latency, cpu.machine.cores));
    let fit = findings.iter().all(|finding| finding.level != Level::Bad);
    Report { fit, findings, refused }
}

/// What there is to say of the certificates, and who this machine is to a server: `Err` if it should be somebody, and cannot.
fn identity(wanted: &Wanted<'_>, now: u64) -> (Vec<Finding>, Result<Option<Connector>, ()>) {
    let Some((dir, name)) = wanted.identity else {
        return (vec![words::no_certificates()], Ok(None));
    };
    let mut findings = match certificates::read(dir, name) {
        Ok(read) => read.iter().map(|validity| words::certificate(validity, now)).collect(),
        Err(error) => vec![words::unusable(&error)],
    };
    let is_well = |findings: &[Finding]| findings.iter().all(|finding| finding.level != Level::Bad);
    let Some(name) = name else {
        if is_well(&findings) && dir.join("server.key").exists() {
            let served = Credentials::load(dir, "server").and_then(signvote_net::tls::Acceptor::new);
            findings.push(words::fits_together("server", served.map(drop).as_ref()));
        }
        return (findings, Ok(None));
    };
    let connector =
        Credentials::load(dir, name.as_str()).and_then(|credentials| Connector::new(&credentials));
    // What is wrong with the date has been said.
    if is_well(&findings) {
        findings.push(words::fits_together(name.as_str(), connector.as_ref().map(|_| &())));
    }
    (findings, connector.map(Some).map_err(drop))
}

/// Asks the server, if there is one to ask and somebody to ask as.
fn link(
    wanted: &Wanted<'_>,
    connector: Result<Option<Connector>, ()>,
) -> Option<Result<measure::Link, ExchangeError>> {
    let (address, patience) = wanted.server?;
    let tls = connector.ok()?;
    let connect = Connect { address: address.to_owned(), patience, reconnect: Duration::ZERO, tls };
    Some(measure::link(&connect))
}
