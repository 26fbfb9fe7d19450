//! Logs for whoever is not looking: lines on stderr, as text or as JSON, for a level and above.
//!
//! Progress is for who sits in front of a terminal and asks for nothing; a log is for who reads it later. Only this
//! program's own crates are logged: what dependencies say at their lower levels may hold what is secret.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use clap::{Args, ValueEnum};
use signvote_election::Event;
use tracing::{debug, info, trace, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use crate::exit::Failure;
use crate::progress;

/// The least that a line must matter to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    /// Nothing.
    Off,
    /// What ends the program.
    Error,
    /// What somebody may have to look after.
    Warn,
    /// What happens now and then.
    Info,
    /// What happens in every round.
    Debug,
    /// Everything.
    Trace,
}

/// What a logged line looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line, and nothing else on stderr: no progress.
    Json,
}

/// What is logged on stderr, by every command.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Logs")]
pub(crate) struct LogFlags {
    /// Least level that is logged on stderr [default: warn; in train, only what is given here is logged by its
    /// server and workers too].
    #[arg(long, global = true, value_enum, value_name = "LEVEL")]
    pub(crate) log: Option<LogLevel>,

    /// What a logged line looks like; with json there is nothing else on stderr, no progress either.
    #[arg(long, global = true, value_enum, default_value = "text", value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
}

impl LogFlags {
    pub(crate) fn level(&self) -> LogLevel {
        self.log.unwrap_or(LogLevel::Warn)
    }

    /// What the processes of `train` log. By default nothing where this process shows progress, which tells the same.
    pub(crate) fn of_children(&self) -> LogLevel {
        match self.log_format {
            LogFormat::Json => self.level(),
            LogFormat::Text => self.log.unwrap_or(LogLevel::Off),
        }
    }

    /// The words that make a child log so.
    pub(crate) fn to_words(self) -> Vec<String> {
        let word = |name: &str, value: Option<clap::builder::PossibleValue>| {
            format!("--{name}={}", value.map_or_else(String::new, |value| value.get_name().to_owned()))
        };
        let level = self.of_children().to_possible_value();
        vec![word("log", level), word("log-format", self.log_format.to_possible_value())]
    }
}

/// What the names of all our crates begin with.
const OURS: &str = "signvote";

/// Whether stderr is to hold lines of JSON and nothing else.
static JSON: AtomicBool = AtomicBool::new(false);

/// Starts logging for the rest of the process.
pub(crate) fn start(flags: &LogFlags) -> Result<(), Failure> {
    let level = match flags.level() {
        LogLevel::Off => return Ok(()),
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(AboveBar).log_internal_errors(false);
    let layer = match flags.log_format {
        LogFormat::Json => {
            let layer = layer.json().flatten_event(true).with_current_span(true).with_span_list(false);
            JSON.store(true, Relaxed);
            layer.boxed()
        }
        LogFormat::Text => {
            let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            layer.with_target(false).with_ansi(!plain && std::io::stderr().is_terminal()).boxed()
        }
    };
    let ours = Targets::new().with_target(OURS, level);
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(ours));
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|error| Failure::internal("cannot start the log", &error))
}

/// Where lines go: above the progress bar, in one write each.
#[derive(Clone, Copy)]
struct AboveBar;

impl Write for AboveBar {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        progress::above_bar(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for AboveBar {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

/// Logs why this process fails, where that is a line of JSON; `false` if it has to be said otherwise.
pub(crate) fn failed(failure: &Failure) -> bool {
    let json = JSON.load(Relaxed);
    if json {
        tracing::error!(exit_code = failure.exit as u8, "{failure}");
    }
    json
}

/// Whether a line on a child's stderr is one of its log.
pub(crate) fn is_log_line(line: &str) -> bool {
    let begins_with_a_time =
        || line.get(4..5) == Some("-") && line.get(10..11) == Some("T") && line.starts_with("20");
    line.starts_with('{') || begins_with_a_time()
}

/// The words of the failure that a line of JSON tells, if it does.
pub(crate) fn failure_in(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line.get("exit_code")?;
    Some(line.get("message")?.as_str()?.to_owned())
}

/// Logs at the level of information if `calm`, else as a warning.
macro_rules! calm_or_warn {
    ($calm:expr, $($rest:tt)*) => {
        if $calm { info!($($rest)*) } else { warn!($($rest)*) }
    };
}

/// Logs an event of the server. Every one has a field `event` with the name that it has in `events.jsonl`.
///
/// What goes wrong is a warning, unless it is `calm`: told to the same reader in other words, or to be expected.
pub(crate) fn event(event: &Event, calm: bool) {
    match event {
        Event::Listening { address, run, workers, quorum, tolerated_liars, rounds, kernels } => {
            info!(
                event = "listening",
                address, run, workers, quorum, tolerated_liars, rounds, kernels, "the server listens"
            );
        }
        Event::Joined { slot, name, round, reason } => {
            info!(event = "joined", slot = slot.number(), name, round = round.0, reason, "a worker joined");
        }
        Event::Refused { name, reason } => {
            calm_or_warn!(calm, event = "refused", name, reason, "a peer was refused");
        }
        Event::Left { slot, name, round, reason } => {
            calm_or_warn!(
                calm,
                event = "left",
                slot = slot.number(),
                name,
                round = round.0,
                reason,
                "a worker left"
            );
        }
        Event::Started { dimension, workers, .. } => {
            info!(event = "started", dimension, workers, "the first round is open");
        }
        Event::Committed { round, voters, partial, eta, loss, accuracy, ties, holds, reason } => {
            debug!(
                event = "committed",
                round = round.0,
                voters,
                partial,
                eta,
                loss,
                accuracy,
                ties,
                holds,
                reason,
                "a round was committed"
            );
        }
        Event::Late { slot, chunks } => {
            info!(event = "late", slot = slot.number(), chunks, "a worker's ballot came late");
        }
        Event::NonFinite { slot, round, coordinates } => {
            calm_or_warn!(
                calm,
                event = "non_finite",
                slot = slot.number(),
                round = round.0,
                coordinates,
                "a gradient was not finite"
            );
        }
        Event::Diverged { slot, round, reason } => {
            calm_or_warn!(
                calm,
                event = "diverged",
                slot = slot.number(),
                round = round.0,
                reason,
                "a replica differs"
            );
        }
        Event::Traffic { round, workers } => {
            let bytes = workers.iter().map(|row| row.round_up_bytes + row.round_down_bytes);
            let bytes: u64 = bytes.sum();
            trace!(event = "traffic", round = round.0, bytes, "bytes in rounds so far");
        }
        Event::Votes { round, .. } => {
            trace!(event = "votes", round = round.0, "how votes stood to each other")
        }
        Event::Saved { round, path } => debug!(event = "saved", round = round.0, path, "the model was saved"),
        Event::Evaluated { round, test_loss, test_accuracy } => {
            info!(event = "evaluated", round = round.0, test_loss, test_accuracy, "the model was evaluated");
        }
        Event::Finished { round, reason, digest, replicas_identical, replicas, workers: _ } => {
            info!(
                event = "finished",
                round = round.0,
                reason,
                digest,
                replicas_identical,
                replicas,
                "the run is over"
            );
        }
        Event::KeptOut { origin, seconds, reason } => {
            warn!(event = "kept_out", origin, seconds, reason, "a peer that broke rules is kept out");
        }
        Event::ShardJoined { shard, name, address, round } => {
            let (shard, round) = (shard.0, round.0);
            info!(event = "shard_joined", shard, name, address, round, "a shard has enrolled");
        }
        Event::ShardLost { shard, name, round, chunks, reason } => {
            let (shard, round) = (shard.0, round.0);
            calm_or_warn!(calm, event = "shard_lost", shard, name, round, chunks, reason, "a shard is gone");
        }
        Event::ShardOutvoted { shard, name, round, reason } => {
            let (shard, round) = (shard.0, round.0);
            warn!(event = "shard_outvoted", shard, name, round, reason, "a shard tallies falsely");
        }
        Event::Resumed { round, incarnation, reason } => {
            info!(event = "resumed", round = round.0, incarnation, reason, "the run goes on");
        }
        Event::Paused { round, reason } => {
            info!(event = "paused", round = round.0, reason, "the server stops, to be resumed");
        }
        Event::NotDurable { round, reason } => {
            warn!(event = "not_durable", round = round.0, reason, "rounds are not kept");
        }
        Event::DurableAgain { round } => {
            info!(event = "durable_again", round = round.0, "rounds are kept again");
        }
        other => info!(event = ?other, "something happened"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_are_told_from_others() {
        for line in ["2026-11-24T04:00:00.000000Z  WARN signvote: x", "{\"level\":\"INFO\"}"] {
            assert!(is_log_line(line), "{line}");
        }
        for line in ["", "error: no", "2026", "thread 'main' panicked at src/main.rs:1:1:", "ääääääääää"]
        {
            assert!(!is_log_line(line), "{line}");
        }
    }

    #[test]
    fn a_failure_is_found_in_its_line() {
        let line = r#"{"level":"ERROR","message":"disk full","exit_code":8}"#;
        assert_eq!(failure_in(line).as_deref(), Some("disk full"));
        assert_eq!(failure_in(r#"{"level":"ERROR","message":"disk full"}"#), None);
        assert_eq!(failure_in("{"), None);
    }
}
