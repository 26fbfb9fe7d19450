//! Writes a report with a plot of every kind, to look at: `cargo run -p signvote-report --example sample -- DIRECTORY`.
//! All figures in it are made up.

use std::path::PathBuf;

use signvote_report::{
    Axis, Cell, Check, Error, Kind, Plot, Point, Reference, Report, Section, Series, Table,
};

fn main() -> Result<(), Error> {
    let directory = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("sample-report"), PathBuf::from);
    report().write(&directory)
}

fn report() -> Report {
    Report {
        title: "A sample report, all of it made up".into(),
        about: "Every number on this page is invented, to see what plots, tables and checks look like. None was measured.\n\n\
                The laws are those of signSGD with majority vote, https://arxiv.org/abs/1810.05291, and some checks fail on purpose."
            .into(),
        command: "cargo run -p signvote-report --example sample -- sample-report".into(),
        machine: "none: made up".into(),
        seconds: 754.0,
        sections: vec![toy(), gradients(), adversaries(), communication(), awkward()],
    }
}

/// Numbers that look like noise, the same in each run: uniform in [−1, 1).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
    }

    /// About normal: the sum of a few.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() / 2.0
    }
}

fn settings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

fn check(name: &str, law: &str, expected: &str, measured: &str, passed: bool) -> Check {
    Check { name: name.into(), law: law.into(), expected: expected.into(), measured: measured.into(), passed }
}

fn toy() -> Section {
    let mut noise = Noise(1);
    let workers = [1, 3, 9, 27, 81];
    let mut floor = Plot::new(
        "floor",
        "Noise floor against the number of workers",
        Kind::Points,
        Axis::log("workers M"),
        Axis::log("‖g‖₁ where it settles"),
    );
    for (name, level) in [("unimodal noise", 40.0), ("heavy tails", 75.0)] {
        let points = workers.map(|m| {
            let seeds: Vec<_> =
                (0..5).map(|_| level / f64::from(m).sqrt() * (1.0 + 0.25 * noise.next())).collect();
            Point::of_seeds(f64::from(m), &seeds)
        });
        floor = floor.with(Series::new(name, points));
    }
    let law = |level: f64| [1.0, 81.0].map(|m: f64| (m, level / m.sqrt()));
    let floor = floor.with(Series::law("40/√M", law(40.0))).with(Series::law("75/√M", law(75.0)));

    let mut descent = Plot::new(
        "descent",
        "Objective of the 1000-dimensional quadratic",
        Kind::Lines,
        Axis::linear("iteration"),
        Axis::log("f(x) − f*"),
    );
    for (name, rate, end) in [
        ("SGD", 0.012, 2.0),
        ("signSGD, 1 worker", 0.009, 1.2),
        ("vote, 9 workers", 0.0105, 0.4),
        ("vote, 27 workers", 0.011, 0.22),
    ] {
        let points = (0..=400).map(|step| {
            let y = (500.0 * (-rate * f64::from(step)).exp() + end) * (1.0 + 0.08 * noise.next());
            Point { x: f64::from(step), y, spread: Some((y * 0.8, y * 1.25)) }
        });
        descent = descent.with(Series::new(name, points));
    }
    Section {
        id: "fig1".into(),
        title: "Figure 1: a toy, in which everything is known".into(),
        says: "With M workers, the vote settles where one worker would with 1/√M of the noise.".into(),
        paper: Some("The vote with 27 workers comes closer to the optimum than one worker, and adversaries cost it a constant.".into()),
        ours: "The same: the floor falls like M^(−0.49), made up.".into(),
        scaled: "Nothing: the toy is as large as the paper's.".into(),
        settings: settings(&[("dimensions", "1000"), ("η", "0.01"), ("β", "0"), ("seeds", "1 to 5")]),
        command: "signvote reproduce fig1".into(),
        plots: vec![descent, floor],
        tables: vec![],
        checks: vec![
            check("floor falls like 1/√M", "log‖g‖₁ falls with log M at a slope of −1/2 (theorem 2)", "−0.6 to −0.4", "−0.49", true),
            check("27 workers beat SGD", "f(x) − f* of the vote is below SGD's at the end", "< 2.0", "0.22", true),
        ],
    }
}

fn gradients() -> Section {
    let mut noise = Noise(2);
    let mut early: Vec<_> = (0..4000).map(|_| noise.normal() * 0.9).collect();
    early.push(f64::NAN);
    let late: Vec<_> = (0..4000).map(|_| noise.normal() * 0.55 + 0.2).collect();
    let histogram = Plot::new(
        "histogram",
        "One weight's gradient over 4000 batches",
        Kind::Histogram,
        Axis::linear("gradient, in thousandths"),
        Axis::linear("batches"),
    )
    .with(Series::histogram("epoch 0", &early, 40, (-3.0, 3.0)))
    .with(Series::histogram("epoch 5", &late, 40, (-3.0, 3.0)))
    .marked(Reference::vertical(0.0, "zero"));
    let curve = |start: f64, fall: f64, noise: &mut Noise| -> Vec<(f64, f64)> {
        (0..3000)
            .map(|step| {
                let epoch = f64::from(step) / 3000.0 * 60.0;
                (epoch, start * (-epoch / fall).exp() * (1.0 + 0.3 * noise.next()) + 0.02)
            })
            .collect()
    };
    let ratio = Plot::new(
        "snr",
        "Signal over noise of all components",
        Kind::Lines,
        Axis::linear("epoch"),
        Axis::log("|g|/σ"),
    )
    .with(Series::new("largest", curve(9.0, 14.0, &mut noise)))
    .with(Series::new("mean", curve(0.7, 18.0, &mut noise)))
    .marked(Reference::horizontal(2.0 / 3_f64.sqrt(), "critical, 2/√3"));
    Section {
        id: "fig2".into(),
        title: "Figures 2 and 3: is the noise what the theory takes it for?".into(),
        says: "The noise of single weights has one peak and is about symmetric; its strength passes the critical ratio early on.".into(),
        paper: Some("Below 2/√3 by epoch 40.".into()),
        ours: "Below 2/√3 by epoch 29, made up.".into(),
        scaled: "A smaller network, and 3 epochs to look at instead of 6.".into(),
        settings: settings(&[("model", "cnn"), ("batch", "128"), ("bins", "40")]),
        command: "signvote reproduce fig2 fig3".into(),
        plots: vec![histogram, ratio],
        tables: vec![],
        checks: vec![check(
            "below critical by epoch 40",
            "|g|/σ < 2/√3 for every component (lemma 1)",
            "by epoch 40",
            "by epoch 29",
            true,
        )],
    }
}

fn adversaries() -> Section {
    let bars = Plot::new(
        "accuracy",
        "Test accuracy after ten epochs",
        Kind::Bars,
        Axis::categories("inverting workers, of 7", ["none", "1", "2", "3", "4"]),
        Axis::linear("test accuracy (%)").between(0.0, 100.0),
    )
    .with(Series::new(
        "vote",
        (0..5).map(|index| {
            let y = [87.3, 86.6, 85.6, 83.7, 3.3][index];
            Point { x: index as f64, y, spread: Some((y - 1.0, y + 1.2)) }
        }),
    ))
    .with(Series::new(
        "mean (SGD)",
        (0..5).map(|index| (index as f64, [86.9, 10.0, 10.0, 10.0, 10.0][index])),
    ))
    .marked(Reference::horizontal(10.0, "guessing"));
    let mut noise = Noise(3);
    let mut training = Plot::new(
        "training",
        "Accuracy while it trains",
        Kind::Lines,
        Axis::linear("epoch"),
        Axis::linear("test accuracy (%)"),
    );
    for (name, end) in [("0 of 7", 87.0), ("1 of 7", 86.5), ("2 of 7", 85.6), ("3 of 7", 83.7)] {
        let points = (0..=10).map(|epoch| {
            let seeds: Vec<_> = (0..3)
                .map(|_| end - (end - 10.0) * (-0.7 * f64::from(epoch)).exp() + noise.next() * 1.5)
                .collect();
            Point::of_seeds(f64::from(epoch), &seeds)
        });
        training = training.with(Series::new(name, points));
    }
    let training =
        training.marked(Reference::vertical(5.0, "η ÷ 10")).marked(Reference::horizontal(50.0, "50%"));
    let mut grid = Table::new(
        "Test accuracy (%) by attack and part of liars",
        ["attack", "0%", "14%", "29%", "43%", "57%"],
    );
    for (name, values) in [
        ("sign-flip", [87.3, 86.6, 85.6, 83.7, 3.3]),
        ("random-sign", [87.3, 87.3, 87.1, 86.8, 86.1]),
        ("colluding, sees the votes", [87.3, 71.0, 34.2, 9.8, 2.1]),
    ] {
        let cells = values.map(|value| Cell::shaded(format!("{value:.1}"), value / 100.0));
        grid = grid.row([Cell::from(name)].into_iter().chain(cells));
    }
    Section {
        id: "fig4".into(),
        title: "Figure 4: up to half of the workers lie".into(),
        says: "Blind adversaries below half slow the vote down and do not break it; one of them breaks the mean.".into(),
        paper: Some("ResNet-50 on ImageNet learns with up to 43% (3 of 7) inverting workers; at 43% slightly unstable.".into()),
        ours: "83.7% with 3 of 7, 87.3% with none, made up.".into(),
        scaled: "An mlp on 10,000 images of Fashion-MNIST instead of ResNet-50 on ImageNet; 10 epochs instead of 80.".into(),
        settings: settings(&[
            ("workers", "7"),
            ("batch", "32"),
            ("η", "1e-3"),
            ("β", "0.9"),
            ("weight decay", "0"),
            ("attack", "sign-flip"),
            ("seeds", "1, 2, 3"),
            ("tie", "coin"),
        ]),
        command: "signvote reproduce fig4".into(),
        plots: vec![bars, training],
        tables: vec![grid],
        checks: vec![
            check("3 of 7 still learn", "accuracy ≥ 95% of that without liars", "≥ 82.9%", "83.7%", true),
            check("4 of 7 do not", "past half the liars win", "≤ 20%", "3.3%", true),
            check(
                "at 43% as stable as without",
                "the spread over seeds is no more than twice that without liars",
                "≤ 1.2 points",
                "2.9 points",
                false,
            ),
        ],
    }
}

fn communication() -> Section {
    let bars = Plot::new(
        "time",
        "Time of one step, ResNet-50, 7 hosts",
        Kind::Bars,
        Axis::categories(
            "",
            ["vote, sharded", "vote, one server", "fp16 all-reduce", "PowerSGD rank 4", "fp32 all-reduce"],
        ),
        Axis::log("milliseconds"),
    )
    .with(Series::new(
        "1 Gb/s",
        [60.0, 92.0, 650.0, 110.0, 1287.0].into_iter().enumerate().map(|(x, y)| (x as f64, y)),
    ))
    .with(Series::new(
        "10 Gb/s",
        [41.0, 47.0, 92.0, 88.0, 171.0].into_iter().enumerate().map(|(x, y)| (x as f64, y)),
    ));
    let table = Table::new("Bytes of one worker and round", ["", "up", "down", "ratio to f32"])
        .row(["vote", "25,556", "25,587", "31.9×"])
        .row(["mean", "814,222", "814,255", "1.0×"])
        .row(["vote, cnn with idle units", "80,737", "80,106", "—"]);
    Section {
        id: "fig5".into(),
        title: "Figure 5: what an exchange costs".into(),
        says: "One bit each way instead of 32.".into(),
        paper: Some("Communication often more than 4× faster than NCCL.".into()),
        ours: "13× faster at 1 Gb/s, 3.6× at 10 Gb/s, made up.".into(),
        scaled: "Network namespaces on one host instead of seven hosts.".into(),
        settings: vec![],
        command: "signvote reproduce fig5".into(),
        plots: vec![bars],
        tables: vec![table],
        checks: vec![check(
            "32 times fewer bytes",
            "bits a coordinate ≤ 1.01 each way",
            "≤ 1.01",
            "1.004",
            true,
        )],
    }
}

/// What is hard to draw.
fn awkward() -> Section {
    let many = (0..8).fold(
        Plot::new(
            "many",
            "Eight series, and a title that is so long that it does not fit on one line of the plot by any means",
            Kind::Lines,
            Axis::linear("x"),
            Axis::linear("y"),
        ),
        |plot, index| {
            let points = (0..=8).map(|x| (f64::from(x), f64::from(index) * 3.0 + (f64::from(x) * 0.8 + f64::from(index)).sin()));
            plot.with(Series::new(format!("series {}", index + 1), points))
        },
    );
    let gaps = Plot::new(
        "gaps",
        "Values that cannot be drawn <&>",
        Kind::Lines,
        Axis::linear("round").between(0.0, 40.0),
        Axis::log("loss"),
    )
    .with(Series::new(
        "diverges \"soon\"",
        (0..60).map(|x| {
            let y = match x {
                10..14 => f64::NAN,
                20 => 0.0,
                30 => f64::INFINITY,
                _ => 2.0 * 1.1_f64.powi(x),
            };
            (f64::from(x), y)
        }),
    ))
    .with(Series::law("one alone", [(25.0, 10.0), (35.0, 40.0)]));
    let empty = Plot::new("empty", "Nothing at all", Kind::Points, Axis::linear("x"), Axis::linear("y"))
        .with(Series::new("no points", [(f64::NAN, 0.0)]));
    let names = Plot::new(
        "names",
        "Eight bars whose names are long",
        Kind::Bars,
        Axis::categories(
            "attack",
            [
                "none",
                "sign-flip",
                "random-sign",
                "scaled-flip",
                "zero-gradient",
                "label-poisoning",
                "inner-product",
                "a-little-is-enough",
            ],
        ),
        Axis::linear("difference to none (points)"),
    )
    .with(Series::new(
        "",
        [0.0, -3.6, -0.5, -3.6, 0.2, -1.9, -12.5, -21.0].into_iter().enumerate().map(|(x, y)| (x as f64, y)),
    ));
    Section {
        id: "awkward".into(),
        title: "What is hard to draw".into(),
        says: "Many series, long words, values that are not finite, and nothing.".into(),
        plots: vec![many, gaps, names, empty],
        checks: vec![check("<b>markup</b> & \"quotes\"", "text is text", "as typed", "as typed", true)],
        ..Section::default()
    }
}
