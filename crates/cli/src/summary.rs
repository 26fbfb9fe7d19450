//! What a run ended with: a table for people, an object for programs.

use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;
use signvote_election::{Event, Traffic, WorkerRecord};

use crate::flags::CastName;
use crate::progress::{grouped, number, per_second, percent};

/// The result of `train`; `docs/run-directory.md` says what each field means.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) test_accuracy: f64,
    /// `null` if not finite.
    pub(crate) test_loss: Option<f32>,
    /// `null` if not finite.
    pub(crate) train_loss: Option<f32>,
    pub(crate) epochs: u64,
    pub(crate) rounds: u64,
    /// Those of them that `wall_seconds` took: not what an earlier part of a resumed run made.
    #[serde(skip)]
    pub(crate) timed: u64,
    pub(crate) dimension: usize,
    pub(crate) workers: u16,
    pub(crate) local: u16,
    pub(crate) cast: CastName,
    pub(crate) adversaries: u16,
    pub(crate) attack: Option<String>,
    pub(crate) aggregate: String,
    pub(crate) model: String,
    pub(crate) data: String,
    pub(crate) seed: u64,
    pub(crate) bytes_up_per_round: f64,
    pub(crate) bytes_down_per_round: f64,
    pub(crate) dense_bytes_per_round: u64,
    pub(crate) ratio_up: f64,
    pub(crate) ratio_down: f64,
    pub(crate) join_bytes: u64,
    pub(crate) wall_seconds: f64,
    pub(crate) agreement: Vec<Option<f64>>,
    pub(crate) replicas_identical: bool,
    pub(crate) replicas: usize,
    pub(crate) digest: String,
    pub(crate) run_dir: PathBuf,
    /// Of a language model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) perplexity: Option<f64>,
    /// Of a language model: what it makes up after a piece of the held-out text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sample: Option<String>,
    #[serde(skip)]
    pub(crate) test_samples: usize,
}

/// Bytes of one worker's rounds, up and down: the worker with the most traffic a round, so that nobody's
/// costs are averaged away. Divided by the rounds that it was there for, which it heard of even if its own
/// ballot came too late; who was there for none is left out.
pub(crate) fn bytes_per_round(traffic: &[Traffic], workers: &[WorkerRecord]) -> (f64, f64) {
    let per_round = |bytes: fn(&Traffic) -> u64| {
        traffic
            .iter()
            .zip(workers)
            .filter(|(_, worker)| worker.present > 0)
            .map(|(row, worker)| bytes(row) as f64 / worker.present as f64)
            .fold(0.0, f64::max)
    };
    (per_round(|row| row.round_up_bytes), per_round(|row| row.round_down_bytes))
}

impl Summary {
    /// The table at the end of `train`.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        let mut row = |name: &str, value: String| {
            // Writing to a string does not fail.
            let _ = writeln!(out, "{name:<15} {value}");
        };
        let what = if self.sample.is_some() { "tokens" } else { "images" };
        let samples = grouped(self.test_samples as u64);
        row("test accuracy", format!("{} of {samples} held-out {what}", percent(Some(self.test_accuracy))));
        if let Some(perplexity) = self.perplexity {
            row("perplexity", format!("{perplexity:.2} a token, loss {} nats", number(self.test_loss, 3)));
        }
        row("train loss", number(self.train_loss, 3));
        let rate = self.timed as f64 / self.wall_seconds.max(1e-9);
        row(
            "rounds",
            format!("{} in {:.1} s, {} a second", grouped(self.timed), self.wall_seconds, per_second(rate)),
        );
        row(
            "bytes a round",
            format!(
                "up {}, down {} (one worker, counted on its socket)",
                grouped(self.bytes_up_per_round.round() as u64),
                grouped(self.bytes_down_per_round.round() as u64)
            ),
        );
        row(
            "as f32",
            format!(
                "{} each way: {:.1}× as many up, {:.1}× down",
                grouped(self.dense_bytes_per_round),
                self.ratio_up,
                self.ratio_down
            ),
        );
        let identical = if self.replicas_identical { "bit-identical" } else { "NOT all identical" };
        row("replicas", format!("{} and the server's, {identical}: {}", self.replicas, &self.digest[..16]));
        row("agreement", "with the verdict, over all votes of a worker:".into());
        for (index, &agreement) in self.agreement.iter().enumerate() {
            let lies = index < usize::from(self.adversaries);
            let attack = self.attack.as_deref().filter(|_| lies);
            let note = match (attack, agreement) {
                (Some(attack), _) => format!("  told to lie: {attack}"),
                (None, Some(agreement)) if agreement < 0.5 => "  disagrees more than it agrees".into(),
                _ => String::new(),
            };
            let bar = "█".repeat((agreement.unwrap_or(0.0) * 30.0).round() as usize);
            row("", format!("worker {:<3} {:>6} {bar}{note}", index + 1, percent(agreement)));
        }
        row("run directory", self.run_dir.display().to_string());
        if let Some(sample) = &self.sample {
            row("sampled text", String::new());
            sample.lines().for_each(|line| row("", line.to_owned()));
        }
        out
    }
}

/// The table at the end of `server`, which knows no data.
pub(crate) fn server_table(finished: &Event, traffic: &[Traffic]) -> String {
    let Event::Finished { round, reason, digest, replicas_identical, replicas, workers } = finished else {
        return String::new();
    };
    let (up, down) = bytes_per_round(traffic, workers);
    let identical = if *replicas_identical { "bit-identical" } else { "NOT all identical" };
    let mut out = format!("run over after {round} rounds: {reason}\n");
    let _ = writeln!(
        out,
        "bytes a round   up {}, down {} (one worker)",
        grouped(up as u64),
        grouped(down as u64)
    );
    let short = digest.get(..16).unwrap_or("none");
    let _ = match workers.iter().any(|worker| worker.present > 0) || *replicas > 0 {
        true => writeln!(out, "replicas        {replicas} and the server's, {identical}: {short}"),
        // Resumed when all was over.
        false => writeln!(out, "replicas        nobody was there any more; the server's: {short}"),
    };
    for worker in workers {
        let agreement = percent(worker.agreement);
        let rounds = worker.rounds;
        let _ = writeln!(
            out,
            "worker {:<8} {agreement:>6} agreement, {rounds} rounds  {}",
            worker.slot, worker.name
        );
    }
    out
}
