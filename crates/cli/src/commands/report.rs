//! `signvote report`: runs beside each other, on one page.

use std::path::Path;

use indicatif::HumanBytes;
use signvote_observe::snapshot::{Evaluation, Worker};
use signvote_observe::{RunDirectory, Snapshot};
use signvote_report::{Axis, Cell, Kind, Plot, Report, Section, Series, Table};

use super::print;
use super::reproduce::machine;
use crate::exit::{Exit, Failure};
use crate::flags::ReportFlags;
use crate::progress::{per_second, percent};
use crate::watch::new_board;

pub(crate) fn run(flags: &ReportFlags) -> Result<Exit, Failure> {
    let runs = flags.run_dirs.iter().map(|path| Run::read(path)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<_> = flags.run_dirs.iter().map(|path| path.display().to_string()).collect();
    let report = Report {
        title: format!("{} of signvote", if runs.len() == 1 { "A run" } else { "Runs" }),
        about: "Training by majority vote: every worker sends one bit a coordinate, the server sends back the majority's.".into(),
        command: format!("signvote report {} --out {}", names.join(" "), flags.out.display()),
        machine: machine(),
        seconds: 0.0,
        sections: vec![overview(&runs), curves(&runs), communication(&runs), robustness(&runs)],
    };
    let files = |error: signvote_report::Error| {
        Failure::new(Exit::Files, format!("{error}; or choose another --out"))
    };
    report.write(&flags.out).map_err(files)?;
    if flags.png {
        report.write_pngs(&flags.out).map_err(files)?;
    }
    print(&format!("the report is {}", flags.out.join("report.html").display()));
    Ok(Exit::Success)
}

/// A run, and what its settings say of it.
struct Run {
    name: String,
    settings: toml::Table,
    snapshot: Snapshot,
}

impl Run {
    fn read(path: &Path) -> Result<Self, Failure> {
        let directory = RunDirectory::made_by_another(path);
        let mut board = new_board(&directory);
        directory.event_reader()?.read(|time, event| board.take(time, &event))?;
        let snapshot = board.snapshot();
        let settings = snapshot.config.parse().unwrap_or_default();
        Ok(Self { name: path.display().to_string(), settings, snapshot })
    }

    fn setting(&self, key: &str) -> String {
        match self.settings.get(key) {
            None => String::new(),
            Some(toml::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        }
    }

    /// How many of its workers were told to lie, as far as it was `train` that told them.
    fn liars(&self) -> Option<u64> {
        self.settings.get("adversaries").and_then(|it| u64::try_from(it.as_integer()?).ok())
    }

    fn attack(&self) -> String {
        match self.setting("attack") {
            attack if attack.is_empty() => "sign-flip".into(),
            attack => attack,
        }
    }

    fn tested(&self) -> Option<&Evaluation> {
        self.snapshot.evaluations.last()
    }
}

fn overview(runs: &[Run]) -> Section {
    let header = [
        "run",
        "how it ended",
        "rounds",
        "test accuracy",
        "test loss",
        "training loss",
        "seconds",
        "rounds a second",
    ];
    let mut results = Table::new("What came of them", header);
    for run in runs {
        let Snapshot { phase, round, training_seconds, pace, loss, .. } = &run.snapshot;
        let tested = run.tested();
        results = results.row([
            run.name.clone(),
            phase.name().into(),
            round.to_string(),
            percent(tested.map(|it| it.accuracy)),
            number(tested.and_then(|it| it.loss)),
            number(*loss),
            format!("{training_seconds:.1}"),
            per_second(pace.rounds_per_second),
        ]);
    }
    let mut keys: Vec<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
    keys.sort();
    keys.dedup();
    // What all have alike says nothing of what sets them apart.
    keys.retain(|key| {
        runs.len() == 1 || runs.iter().any(|run| run.settings.get(*key) != runs[0].settings.get(*key))
    });
    let header = ["setting".to_owned()].into_iter().chain(runs.iter().map(|run| run.name.clone()));
    let title = if runs.len() == 1 { "Its settings" } else { "Settings in which they differ" };
    let mut settings = Table::new(title, header);
    for key in keys {
        settings = settings.row([key.clone()].into_iter().chain(runs.iter().map(|run| run.setting(key))));
    }
    Section { id: "runs".into(), title: "Runs".into(), tables: vec![results, settings], ..Section::default() }
}

/// What a curve is drawn over: its name for files, its axis, a training point's place on it, an evaluation's.
type Over = (&'static str, &'static str, fn(&Snapshot, usize) -> f64, fn(&Evaluation) -> f64);

fn curves(runs: &[Run]) -> Section {
    let over: [Over; 3] = [
        ("round", "rounds", |run, at| run.series.round[at] as f64, |it| it.round as f64),
        (
            "byte",
            "MiB of rounds, both ways, all workers",
            |run, at| run.series.bytes[at] as f64 / MIB,
            |it| it.bytes as f64 / MIB,
        ),
        ("time", "seconds of training", |run, at| run.series.seconds[at], |it| it.seconds),
    ];
    let mut plots = Vec::new();
    for (name, label, of_point, of_evaluation) in over {
        let mut loss = Plot::new(
            format!("loss-by-{name}"),
            format!("Training loss by {name}"),
            Kind::Lines,
            Axis::linear(label),
            Axis::linear("median loss on the workers' batches"),
        );
        let mut accuracy = Plot::new(
            format!("accuracy-by-{name}"),
            format!("Test accuracy by {name}"),
            Kind::Lines,
            Axis::linear(label),
            Axis::linear("% of held-out data"),
        );
        for run in runs {
            let losses = run.snapshot.series.loss.iter().enumerate();
            let points = losses.map(|(at, loss)| (of_point(&run.snapshot, at), loss.unwrap_or(f64::NAN)));
            loss = loss.with(Series::new(&run.name, points));
            let points = run.snapshot.evaluations.iter().map(|it| (of_evaluation(it), 100.0 * it.accuracy));
            accuracy = accuracy.with(Series::new(&run.name, points));
        }
        plots.extend([loss, accuracy]);
    }
    Section { id: "curves".into(), title: "Curves".into(), plots, ..Section::default() }
}

/// Bytes in a MiB.
const MIB: f64 = (1 << 20) as f64;

fn communication(runs: &[Run]) -> Section {
    let header = ["run", "to the server", "to the workers", "joins", "as f32, both ways", "times less"];
    let mut table = Table::new("Bytes of all workers, on their sockets", header);
    let bytes = |bytes: u64| HumanBytes(bytes).to_string();
    for run in runs {
        let it = &run.snapshot.bytes;
        table = table.row([
            run.name.clone(),
            bytes(it.round_up),
            bytes(it.round_down),
            bytes(it.join),
            bytes(2 * it.f32_each_way),
            run.snapshot.bytes.times_less.map_or_else(|| "–".into(), |times| format!("{times:.1}")),
        ]);
    }
    let names = runs.iter().map(|run| run.name.clone());
    let savings = runs
        .iter()
        .enumerate()
        .map(|(at, run)| (at as f64, run.snapshot.bytes.times_less.unwrap_or(f64::NAN)));
    let plot = Plot::new(
        "saved",
        "Communication saved",
        Kind::Bars,
        Axis::categories("run", names),
        Axis::linear("times less than f32"),
    )
    .with(Series::new("bytes of rounds", savings));
    Section {
        id: "communication".into(),
        title: "Communication".into(),
        says: "Bytes where they pass the workers' sockets, headers of frames included. As f32: four bytes a coordinate, round \
               and ballot that counted, each way."
            .into(),
        plots: vec![plot],
        tables: vec![table],
        ..Section::default()
    }
}

fn robustness(runs: &[Run]) -> Section {
    let header = ["run", "workers", "told to lie", "set apart by the rule", "test accuracy"];
    let mut table = Table::new("Who lied, and who stands out", header);
    for run in runs {
        let workers = &run.snapshot.workers;
        let apart: Vec<_> = workers.iter().filter(|it| it.apart).map(|it| it.name.as_str()).collect();
        let liars = match run.liars() {
            None => "not known".into(),
            Some(0) => "0".into(),
            Some(liars) => format!("{liars} ({})", run.attack()),
        };
        table = table.row([
            run.name.clone(),
            workers.len().to_string(),
            liars,
            if apart.is_empty() { "nobody".into() } else { apart.join(", ") },
            percent(run.tested().map(|it| it.accuracy)),
        ]);
    }
    let places = runs.iter().map(|run| run.snapshot.workers.len()).max().unwrap_or(0);
    let header = ["run".to_owned()].into_iter().chain((1..=places).map(|place| place.to_string()));
    let mut agreements = Table::new("Agreement with the verdict at the end, by place", header);
    let cell = |worker: Option<&Worker>| match worker.and_then(|it| it.agreement) {
        Some(agreement) => Cell::shaded(percent(Some(agreement)), 2.0 * agreement - 1.0),
        None => Cell::from("–".to_owned()),
    };
    // A table of two hundred columns is read by nobody.
    if places <= MOST_COLUMNS {
        for run in runs {
            let cells = (0..places).map(|place| cell(run.snapshot.workers.get(place)));
            agreements = agreements.row([Cell::from(run.name.clone())].into_iter().chain(cells));
        }
    }
    let mut plots = Vec::new();
    let mut kinds: Vec<String> =
        runs.iter().map(|run| format!("{}, {}", run.setting("aggregate"), run.attack())).collect();
    let of_kinds = kinds.clone();
    kinds.sort();
    kinds.dedup();
    if runs.iter().any(|run| run.liars().unwrap_or(0) > 0) {
        let mut plot = Plot::new(
            "liars",
            "Accuracy by liars",
            Kind::Points,
            Axis::linear("workers told to lie"),
            Axis::linear("% of held-out data").between(0.0, 100.0),
        );
        for kind in kinds {
            let of_kind = runs.iter().zip(&of_kinds).filter(|(_, it)| **it == kind).map(|(run, _)| run);
            let points =
                of_kind.filter_map(|run| Some((run.liars()? as f64, 100.0 * run.tested()?.accuracy)));
            plot = plot.with(Series::new(kind.as_str(), points));
        }
        plots.push(plot);
    }
    let mut tables = vec![table];
    tables.extend((places <= MOST_COLUMNS).then_some(agreements));
    Section {
        id: "robustness".into(),
        title: "Robustness".into(),
        says: runs
            .iter()
            .map(|run| format!("{}: {}", run.name, run.snapshot.rule.words))
            .collect::<Vec<_>>()
            .join("\n\n"),
        plots,
        tables,
        ..Section::default()
    }
}

/// Most workers whose agreement is a table.
const MOST_COLUMNS: usize = 32;

fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.3}"))
}
