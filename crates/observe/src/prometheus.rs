//! A snapshot as Prometheus reads it.

use std::fmt::Write;

use signvote_election::WorkerState;

use crate::Snapshot;
use crate::snapshot::{Phase, Worker};

/// The figures of a snapshot in Prometheus' text format (0.0.4). Labels are places and states, so that there are no more of them than a
/// run has workers; names of workers, which are theirs to choose, are in none.
pub fn prometheus(run: &Snapshot) -> String {
    let mut out = Metrics(String::new());
    let phases = [Phase::Gathering, Phase::Running, Phase::Paused, Phase::Finished];
    let phases =
        phases.map(|phase| (format!("{{phase=\"{}\"}}", phase.name()), f64::from(run.phase == phase)));
    out.family("signvote_phase", "gauge", "Whether the run is in this phase.", phases);
    let mut one = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        out.family(name, kind, help, value.map(|value| (String::new(), value)));
    };
    one("signvote_rounds_committed_total", "counter", "Rounds committed.", Some(run.round as f64));
    one("signvote_rounds_planned", "gauge", "Rounds in the run.", Some(run.rounds as f64));
    one("signvote_incarnation", "gauge", "How often rounds were lost.", Some(f64::from(run.incarnation)));
    one("signvote_parameters", "gauge", "Coordinates of the model.", Some(run.dimension as f64));
    one("signvote_workers_planned", "gauge", "Places for workers.", Some(f64::from(run.places)));
    one("signvote_quorum", "gauge", "Fewest ballots that decide.", Some(run.quorum as f64));
    one("signvote_voters", "gauge", "Ballots that counted in the last round.", Some(run.voters as f64));
    one("signvote_ties", "gauge", "Coordinates that tied in the last round.", Some(run.ties as f64));
    one(
        "signvote_holds",
        "gauge",
        "Coordinates that took no step in the last round.",
        Some(run.holds as f64),
    );
    one("signvote_training_loss", "gauge", "Median of the workers' losses, over the last rounds.", run.loss);
    one(
        "signvote_training_accuracy_ratio",
        "gauge",
        "The same of the fractions classified right.",
        run.accuracy,
    );
    one("signvote_learning_rate", "gauge", "Learning rate of the last round.", run.eta);
    let evaluation = run.evaluations.last();
    let loss = evaluation.and_then(|evaluation| evaluation.loss);
    one("signvote_test_loss", "gauge", "Loss on held-out data.", loss);
    let accuracy = evaluation.map(|evaluation| evaluation.accuracy);
    one("signvote_test_accuracy_ratio", "gauge", "Fraction of held-out data classified right.", accuracy);
    let seconds = Some(run.training_seconds);
    one("signvote_training_seconds_total", "counter", "Seconds in which rounds were open.", seconds);
    let bytes = [("up", run.bytes.round_up), ("down", run.bytes.round_down)];
    let bytes = bytes.map(|(way, bytes)| (format!("{{direction=\"{way}\"}}"), bytes as f64));
    out.family("signvote_round_bytes_total", "counter", "Bytes of rounds on the workers' sockets.", bytes);
    let mut one = |name: &str, help: &str, value: f64| {
        out.family(name, "counter", help, [(String::new(), value)]);
    };
    one("signvote_join_bytes_total", "Bytes of greetings, parameters and farewells.", run.bytes.join as f64);
    let dense = 2.0 * run.bytes.f32_each_way as f64;
    one("signvote_f32_equivalent_bytes_total", "What the rounds would have taken as f32, both ways.", dense);
    let warnings = run.entries.iter().filter(|entry| entry.warning).count();
    out.family(
        "signvote_recent_warnings",
        "gauge",
        "Warnings among the events that are kept.",
        [(String::new(), warnings as f64)],
    );

    let mut each = |name: &str, kind: &str, help: &str, of: fn(&Worker) -> Option<f64>| {
        let rows = run.workers.iter().filter_map(|it| Some((format!("{{worker=\"{}\"}}", it.slot), of(it)?)));
        out.family(name, kind, help, rows);
    };
    let agreement = "Share of a worker's votes that agree with the verdict, of late.";
    each("signvote_worker_agreement_ratio", "gauge", agreement, |it| it.agreement);
    let apart = "Whether the rule of the page sets a worker apart.";
    each("signvote_worker_apart", "gauge", apart, |it| Some(f64::from(it.apart)));
    let up = "Whether a worker is connected.";
    each("signvote_worker_up", "gauge", up, |it| Some(f64::from(it.state != WorkerState::Away)));
    each("signvote_worker_lag_rounds", "gauge", "Rounds that it has yet to be sent.", |it| {
        Some(it.lag_rounds as f64)
    });
    each("signvote_worker_rounds_total", "counter", "Rounds in which it voted.", |it| Some(it.rounds as f64));
    let late = "Chunks of its ballots that came too late.";
    each("signvote_worker_late_chunks_total", "counter", late, |it| Some(it.late_chunks as f64));
    each("signvote_worker_sent_bytes_total", "counter", "Bytes from it.", |it| Some(it.up_bytes as f64));
    each("signvote_worker_received_bytes_total", "counter", "Bytes to it.", |it| Some(it.down_bytes as f64));
    out.0
}

struct Metrics(String);

impl Metrics {
    /// A metric with its rows: labels, and a value. Nothing without rows.
    fn family(&mut self, name: &str, kind: &str, help: &str, rows: impl IntoIterator<Item = (String, f64)>) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return;
        }
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in rows {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use signvote_election::{Event, Round, Slot, Traffic, WorkerVotes};

    use super::*;
    use crate::Board;

    /// A run that has every figure.
    fn example() -> Snapshot {
        let mut board = Board::new("", "");
        let slot = Slot::new(1).unwrap();
        let events = [
            Event::Listening {
                address: String::new(),
                run: String::new(),
                workers: 1,
                quorum: 1,
                tolerated_liars: 0,
                rounds: 9,
                kernels: String::new(),
            },
            Event::Joined { slot, name: "evil\"} 1\n".into(), round: Round(0), reason: String::new() },
            Event::Started { dimension: 5, workers: 1, tensors: Vec::new() },
            Event::Traffic {
                round: Round(1),
                workers: vec![Traffic {
                    slot,
                    round_up_bytes: 2,
                    round_down_bytes: 3,
                    join_up_bytes: 4,
                    join_down_bytes: 5,
                }],
            },
            Event::Committed {
                round: Round(0),
                voters: 1,
                partial: 0,
                eta: 0.5,
                loss: Some(1.5),
                accuracy: Some(0.25),
                ties: 1,
                holds: 2,
                reason: String::new(),
            },
            Event::Votes {
                round: Round(1),
                workers: vec![WorkerVotes {
                    slot,
                    state: WorkerState::Voting,
                    lag_rounds: 3,
                    agreement: Some(0.75),
                    rounds: 1,
                }],
                margins: Vec::new(),
            },
            Event::Evaluated { round: Round(1), test_loss: Some(2.5), test_accuracy: 0.125 },
        ];
        events.iter().for_each(|event| board.take(1.0, event));
        board.snapshot()
    }

    #[test]
    fn figures_are_told_with_help_and_type_and_no_name_that_a_worker_chose() {
        let text = prometheus(&example());
        for line in [
            "signvote_phase{phase=\"running\"} 1",
            "signvote_rounds_committed_total 1",
            "signvote_training_loss 1.5",
            "signvote_test_accuracy_ratio 0.125",
            "signvote_round_bytes_total{direction=\"down\"} 3",
            "signvote_f32_equivalent_bytes_total 40",
            "signvote_worker_agreement_ratio{worker=\"1\"} 0.75",
            "signvote_worker_lag_rounds{worker=\"1\"} 3",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("evil"), "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            assert!(
                text.contains(&format!("# TYPE {name} ")) && text.contains(&format!("# HELP {name} ")),
                "{line}"
            );
        }
        assert!(!prometheus(&Board::new("", "").snapshot()).contains("signvote_training_loss"));
    }

    #[test]
    fn the_dashboard_for_grafana_asks_for_nothing_that_is_not_told() {
        let told = prometheus(&example());
        let told: BTreeSet<_> =
            told.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let dashboard = include_str!("../../../grafana/signvote.json");
        let word = |byte: char| !(byte.is_ascii_alphanumeric() || byte == '_');
        let asked: BTreeSet<_> = dashboard.split(word).filter(|it| it.starts_with("signvote_")).collect();
        assert!(asked.len() > 15, "{asked:?}");
        assert!(asked.is_subset(&told), "{:?}", asked.difference(&told));
    }
}
