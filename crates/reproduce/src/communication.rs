//! Figures 5 and 6, and accuracy against bits: what communication is saved, and at which price.

use signvote_bench::Rate;
use signvote_bench::plan::{Cluster, Compute, Costs, System, step};
use signvote_byzantine::simulate::{Outcome, Setup, Simulation};
use signvote_report::{Axis, Kind, Plot, Section, Series, Table};

use crate::lab::{Error, Lab, check, mean, settings};
use crate::liars::with_method;

/// Models of the paper's figure 5: name, parameters, machines.
const MODELS: [(&str, f64, u32); 3] =
    [("ResNet-50", 25_557_032.0, 7), ("AlexNet", 61_100_840.0, 7), ("QRNN", 151_000_000.0, 3)];

pub(crate) fn figure_5(lab: &mut Lab<'_>) -> Result<Section, Error> {
    let mut table = Table::new(
        "A step's exchange at 10 Gb/s, the link alone",
        ["model", "workers", "ring all-reduce, f32", "vote, one server", "vote, sharded", "faster"]
            .map(String::from)
            .to_vec(),
    );
    let mut slowest = f64::INFINITY;
    let mut bars: Vec<Series> = Vec::new();
    for (system, name) in
        [(System::RingFp32, "ring all-reduce"), (System::Central, "one server"), (System::Sharded, "sharded")]
    {
        let points = MODELS
            .iter()
            .enumerate()
            .map(|(at, &(_, dim, hosts))| (at as f64, limit(system, dim, hosts) * 1e3));
        bars.push(Series::new(name, points));
    }
    for (name, dim, hosts) in MODELS {
        let [ring, central, sharded] =
            [System::RingFp32, System::Central, System::Sharded].map(|system| limit(system, dim, hosts));
        slowest = slowest.min(ring / sharded);
        let row = [
            name.to_owned(),
            hosts.to_string(),
            format!("{:.1} ms", ring * 1e3),
            format!("{:.1} ms", central * 1e3),
            format!("{:.1} ms", sharded * 1e3),
            format!("{:.0}×", ring / sharded),
        ];
        table = table.row(row.to_vec());
    }
    let names = MODELS.map(|(name, ..)| name.to_owned()).to_vec();
    let mut plot = Plot::new(
        "fig5",
        "Milliseconds of an exchange",
        Kind::Bars,
        Axis::categories("model", names),
        Axis::linear("ms"),
    );
    for series in bars {
        plot = plot.with(series);
    }
    let (up, down) = wire(lab)?;
    let ratio = |bytes: f64| format!("{bytes:.1}×");
    Ok(Section {
        title: "Figure 5: what a step communicates".into(),
        says: "On the wire every direction carries a thirty-second, headers included. What that saves in time is counted from the link's rate \
               here; measured exchanges between hosts are in docs/performance.md."
            .into(),
        paper: Some("Often more than 4 times faster communication than NCCL; QRNN's epoch almost 4 times.".into()),
        ours: format!("Frames of an election: {} fewer bytes up, {} down, joining left out.", ratio(up), ratio(down)),
        scaled: "Times are the link's own limits, not measured: there is one machine here.".into(),
        settings: vec![("rate".into(), "10 Gb/s".into())],
        plots: vec![plot],
        tables: vec![table],
        checks: vec![
            check("32×", "a vote carries a 32nd each way", "at least 31× up and down", format!("{up:.1}×, {down:.1}×"), up.min(down) >= 31.0),
            check(
                "faster exchanges",
                "an exchange is more than 4 times faster where the link is the limit",
                "more than 4×",
                format!("{slowest:.0}×"),
                slowest > 4.0,
            ),
        ],
        ..Section::default()
    })
}

/// Seconds of an exchange if nothing but the link takes time.
fn limit(system: System, dim: f64, hosts: u32) -> f64 {
    let cluster = Cluster::of_links(hosts, Rate::TEN_GBIT);
    step(system, dim, &cluster, &Costs::NONE, Compute { seconds: 0.0, backward_share: 0.5 }).exchange.limit_s
}

/// How many times fewer bytes than f32 the frames of a steady round have, up and down.
fn wire(lab: &mut Lab<'_>) -> Result<(f64, f64), Error> {
    let setup = Setup { rounds: 12, ..lab.mlp() };
    lab.say("counting the bytes of an election's frames");
    let problem = lab.problem(&setup)?;
    let mut simulation = Simulation::new(&setup, &problem)?;
    let mut before = (0, 0);
    for round in 0..setup.rounds {
        simulation.step()?;
        // The first rounds have abstentions of coordinates that no example has touched, and the first has joining.
        if round == 1 {
            before = simulation.wire_bytes().unwrap_or_default();
        }
    }
    let after = simulation.wire_bytes().unwrap_or_default();
    let rounds = (setup.rounds - 2) as f64 * f64::from(setup.workers);
    let dense = 4.0 * problem.dimension() as f64;
    Ok((dense * rounds / (after.0 - before.0) as f64, dense * rounds / (after.1 - before.1) as f64))
}

/// Accuracy over what `x` makes of a number of rounds.
fn accuracy_over(name: &str, outcome: &Outcome, x: impl Fn(u64) -> f64) -> Series {
    let points = outcome.curve.iter().filter_map(|p| Some((x(p.round), 100.0 * p.accuracy?)));
    Series::new(name, points)
}

pub(crate) fn figure_6(lab: &mut Lab<'_>) -> Result<Section, Error> {
    let y = || Axis::linear("test accuracy, %").between(60.0, 92.0);
    let mut by_epoch = Plot::new("epochs", "By epochs", Kind::Lines, Axis::linear("epochs"), y());
    let mut by_time = Plot::new(
        "time",
        "By seconds on the wire at 100 Mb/s",
        Kind::Lines,
        Axis::log("seconds of exchange"),
        y(),
    );
    let mut ends: Vec<f64> = Vec::new();
    for workers in [7, 15] {
        for name in ["vote", "mean"] {
            let setup = with_method(&Setup { workers, ..lab.mlp() }, name)?;
            let outcome = lab.run(&setup)?;
            let per_epoch = lab.problem(&setup)?.rounds_per_epoch(&setup);
            let label = format!("{}, M = {workers}", if name == "vote" { "vote" } else { "SGD" });
            let seconds = outcome.bits_up as f64 * 2.0 / 1e8;
            by_epoch =
                by_epoch.with(accuracy_over(&label, &outcome, |round| round as f64 / per_epoch as f64));
            // A round that is not made takes no time, which a logarithm does not show.
            by_time = by_time.with(accuracy_over(&label, &outcome, |round| round as f64 * seconds));
            ends.push(100.0 * outcome.last().accuracy.unwrap_or(0.0));
        }
    }
    let gaps = [ends[1] - ends[0], ends[3] - ends[2]];
    let worst = gaps.into_iter().fold(f64::NEG_INFINITY, f64::max);
    Ok(Section {
        title: "Figure 6: the vote beside SGD".into(),
        says: "By epochs the two are close; by the time that gradients travel, the vote is there 32 times sooner.".into(),
        paper: Some("ResNet-50, 7 to 15 machines: 80 epochs about 25% sooner, at a slightly lower test accuracy.".into()),
        ours: format!(
            "M = 7: vote {:.1}%, SGD {:.1}%; M = 15: vote {:.1}%, SGD {:.1}%.",
            ends[0], ends[1], ends[2], ends[3]
        ),
        scaled: format!("{}; time is that of the bits at 100 Mb/s alone.", lab.scaled()),
        settings: settings(&lab.mlp()),
        plots: vec![by_epoch, by_time],
        checks: vec![check(
            "accuracy beside SGD",
            "the vote's accuracy is at most slightly lower",
            "at most 1 point lower",
            format!("{worst:.1} points"),
            worst <= 1.0,
        )],
        ..Section::default()
    })
}

/// Methods of the comparison by bits.
const METHODS: [&str; 11] = [
    "vote",
    "mean",
    "fp16",
    "qsgd-1",
    "qsgd-4",
    "qsgd-max-1",
    "terngrad",
    "top-k-0.01",
    "ef-sign",
    "one-bit",
    "power-sgd-4",
];

pub(crate) fn qsgd(lab: &mut Lab<'_>) -> Result<Section, Error> {
    let mut plot = Plot::new(
        "bits",
        "Accuracy against what a worker has sent",
        Kind::Lines,
        Axis::log("megabits sent by a worker"),
        Axis::linear("test accuracy, %").between(40.0, 92.0),
    );
    let mut table = Table::new(
        "In the end",
        ["method", "bits a coordinate up", "test accuracy, %"].map(String::from).to_vec(),
    );
    let mut found: Vec<(&str, f64, f64)> = Vec::new();
    for name in METHODS {
        let setup = with_method(&lab.mlp(), name)?;
        let outcome = lab.run(&setup)?;
        let accuracy = mean(&lab.accuracies(&setup)?);
        let each = outcome.bits_up as f64 / outcome.dimension as f64;
        plot = plot.with(accuracy_over(name, &outcome, |round| (round * outcome.bits_up) as f64 / 1e6));
        table = table.row(vec![name.to_owned(), format!("{each:.2}"), format!("{accuracy:.1}")]);
        found.push((name, each, accuracy));
    }
    let (_, _, vote) = found[0];
    let few = |found: &&(&str, f64, f64)| found.1 <= 1.5;
    let better: Vec<&str> = found.iter().filter(few).filter(|f| f.2 > vote).map(|f| f.0).collect();
    let best = found.iter().filter(few).map(|f| f.2).fold(0.0, f64::max);
    Ok(Section {
        title: "Accuracy against bits sent".into(),
        says: match better.len() {
            0 => "At no more than a bit and a half a coordinate nothing here is more accurate than the vote."
                .into(),
            _ => format!(
                "At no more than a bit and a half a coordinate, more accurate than the vote: {}.",
                better.join(", ")
            ),
        },
        paper: Some("QSGD and ATOMO on CIFAR-10: the vote is as accurate at fewer bits.".into()),
        ours: format!("The vote reaches {vote:.1}% at one bit."),
        scaled: lab.scaled(),
        settings: settings(&lab.mlp()),
        plots: vec![plot],
        tables: vec![table],
        checks: vec![check(
            "best at a bit",
            "no method of at most 1.5 bits is more than a point better than the vote",
            format!("at most {:.1}%", vote + 1.0),
            format!("{best:.1}%"),
            best <= vote + 1.0,
        )],
        ..Section::default()
    })
}
