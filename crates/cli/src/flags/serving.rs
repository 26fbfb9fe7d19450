//! What can be typed about serving a run for long: rounds that wait, files, identities, and looking at it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::Serialize;
use signvote_ledger::Durable;
use signvote_net::Name;

use super::as_text;

/// Fewest ballots that decide.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Quorum {
    /// So many.
    Count(u16),
    /// This part of the workers, above 0 and at most 1.
    Part(f64),
}

impl Quorum {
    /// The number for so many workers; a part is rounded up.
    pub(crate) fn of(self, workers: u16) -> u16 {
        match self {
            Self::Count(count) => count,
            // The allowance is for parts such as 2/3, which no f64 is.
            Self::Part(part) => ((part * f64::from(workers) - 1e-9).ceil() as u16).max(1),
        }
    }
}

impl FromStr for Quorum {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a number, or a part such as 2/3, 60% or 0.6, got {text:?}");
        let number = |text: &str| text.trim().parse::<f64>().map_err(|_| wrong());
        let part = if let Some(percent) = text.strip_suffix('%') {
            number(percent)? / 100.0
        } else if let Some((over, under)) = text.split_once('/') {
            number(over)? / number(under)?
        } else if text.contains('.') {
            number(text)?
        } else {
            return text.parse().map(Self::Count).map_err(|_| wrong());
        };
        if part > 0.0 && part <= 1.0 { Ok(Self::Part(part)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            // Always with a point, so that it reads back as a part.
            Self::Part(part) => write!(f, "{part:?}"),
        }
    }
}

/// When a round closes without those who are missing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Deadline {
    /// As recent rounds suggest.
    Auto,
    /// Everyone who is connected is waited for.
    Never,
    /// After so many seconds.
    Seconds(f64),
}

impl FromStr for Deadline {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "never" => Ok(Self::Never),
            _ => text
                .parse()
                .map(Self::Seconds)
                .map_err(|_| format!("expected auto, never or a number of seconds, got {text:?}")),
        }
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Never => f.write_str("never"),
            Self::Seconds(seconds) => write!(f, "{seconds}"),
        }
    }
}

/// What a server does when the run's files cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OnFullDisk {
    /// It stops; the run can be resumed.
    Stop,
    /// The training goes on, and is written down again when there is room.
    GoOn,
}

/// What becomes of a second connection of one identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SameIdentity {
    /// It takes the place of the first.
    Replace,
    /// It is refused.
    Refuse,
}

/// How a server keeps a run, and whom it lets in.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Serving")]
pub(crate) struct ServingFlags {
    /// Encrypt, and let only workers in that have a certificate: this directory has the CA's and the server's
    /// (signvote certs init).
    #[arg(long, value_name = "DIR", conflicts_with = "insecure")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<PathBuf>,

    /// Listen beyond loopback without encryption or identities: anyone who reaches the port may vote.
    #[arg(long)]
    pub(crate) insecure: bool,

    /// A second connection of one identity replaces the first, or is refused.
    #[arg(long, value_enum, default_value = "replace", value_name = "WHAT")]
    pub(crate) same_identity: SameIdentity,

    /// When a round is on disk: always (before anybody is told of it), interval (within a second) or off (only
    /// every --save-every rounds).
    #[arg(long, default_value_t, value_name = "WHEN")]
    #[serde(serialize_with = "as_text")]
    pub(crate) durable: Durable,

    /// When the disk is full: stop, to be resumed, or go on without writing.
    #[arg(long, value_enum, default_value = "stop", value_name = "WHAT")]
    pub(crate) on_full_disk: OnFullDisk,

    /// MiB of snapshots and log to keep; the newest snapshot and the log since are kept in any case.
    #[arg(long, default_value_t = 4096, value_name = "MIB")]
    pub(crate) log_mib: u32,

    /// MiB of recent verdicts in memory, for workers that were away.
    #[arg(long, default_value_t = 256, value_name = "MIB")]
    pub(crate) ring_mib: u32,

    /// Keep every ballot in the log, and all of the log: signvote audit then recomputes every verdict.
    #[arg(long)]
    pub(crate) record_ballots: bool,

    /// Seconds that the first round after --resume waits for those who voted in the last one.
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub(crate) return_grace: f64,

    /// With --resume: rounds are missing from the log although it looks whole, because it was cut by hand.
    #[arg(long, requires = "resume")]
    #[serde(skip)]
    pub(crate) new_incarnation: bool,

    /// Seconds that the open round may take once the server is told to stop.
    #[arg(long, default_value_t = 30.0, value_name = "SECONDS")]
    pub(crate) stop_patience: f64,
}

impl ServingFlags {
    /// Those of a server that lives as long as `train`.
    pub(crate) fn of_train() -> Self {
        Self {
            tls: None,
            insecure: false,
            same_identity: SameIdentity::Replace,
            durable: Durable::Off,
            on_full_disk: OnFullDisk::Stop,
            log_mib: 0,
            ring_mib: 64,
            record_ballots: false,
            return_grace: 0.0,
            new_incarnation: false,
            stop_patience: 0.0,
        }
    }
}

/// Who a worker, or who asks for the status, is.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
#[command(next_help_heading = "Identity")]
pub(crate) struct IdentityFlags {
    /// Directory with ca.crt, and certificate and key of --identity.
    #[arg(long, value_name = "DIR", requires = "identity")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<PathBuf>,

    /// The name in the certificate.
    #[arg(long, value_name = "NAME", requires = "tls")]
    #[serde(serialize_with = "super::as_optional_text", skip_serializing_if = "Option::is_none")]
    pub(crate) identity: Option<Name>,
}

/// Flags of `status`.
#[derive(Args, Clone, Debug)]
pub(crate) struct StatusFlags {
    /// The server's address.
    #[arg(default_value = "127.0.0.1:7700", value_name = "HOST:PORT")]
    pub(crate) address: String,

    /// Read settings from this file; flags and variables override it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Seconds to look for the server.
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    pub(crate) patience: f64,

    /// Print the answer as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) identity: IdentityFlags,
}

/// Flags of `audit`.
#[derive(Args, Clone, Debug)]
pub(crate) struct AuditFlags {
    /// The run's directory.
    #[arg(value_name = "RUN_DIR")]
    pub(crate) run_dir: PathBuf,

    /// Read settings from this file; flags and variables override it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Print the result as one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where identities are made.
#[derive(Args, Clone, Debug)]
pub(crate) struct CertsFlags {
    /// Read settings from this file; flags and variables override it.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Directory of the CA: it holds secret keys, and stays where it was made.
    #[arg(long, default_value = "certs", value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

/// Flags of `certs init`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CertsInitFlags {
    #[command(flatten)]
    pub(crate) certs: CertsFlags,
}

/// Flags of `certs issue`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CertsIssueFlags {
    /// The workers' names: 1 to 63 of a-z, 0-9 and -. A name is a vote.
    #[arg(value_name = "NAME", required = true)]
    pub(crate) names: Vec<Name>,

    #[command(flatten)]
    pub(crate) certs: CertsFlags,
}

/// Flags of `certs revoke`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CertsRevokeFlags {
    /// The worker's name.
    #[arg(value_name = "NAME")]
    pub(crate) name: Name,

    #[command(flatten)]
    pub(crate) certs: CertsFlags,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_a_number_or_a_part_rounded_up() {
        let of = |text: &str, workers| text.parse::<Quorum>().map(|quorum| quorum.of(workers));
        assert_eq!(of("4", 7), Ok(4));
        for two_thirds in ["2/3", "66.6666666666667%", "0.666666666666667"] {
            assert_eq!([3, 6, 7, 9].map(|workers| of(two_thirds, workers).unwrap()), [2, 4, 5, 6]);
        }
        assert_eq!(of("1.0", 7), Ok(7));
        assert_eq!(of("0.01", 7), Ok(1));
        for wrong in ["", "x", "-1", "0.0", "1.5", "150%", "1/0", "0/0", "70000", "NaN%"] {
            assert!(wrong.parse::<Quorum>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn quorums_and_deadlines_read_back_what_they_print() {
        for quorum in [Quorum::Count(4), Quorum::Part(0.6), Quorum::Part(1.0), Quorum::Part(2.0 / 3.0)] {
            assert_eq!(quorum.to_string().parse(), Ok(quorum));
        }
        for deadline in [Deadline::Auto, Deadline::Never, Deadline::Seconds(0.25), Deadline::Seconds(3.0)] {
            assert_eq!(deadline.to_string().parse(), Ok(deadline));
        }
    }
}
