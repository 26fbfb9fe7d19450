//! Figure 1: the toy problem.

use signvote_byzantine::simulate::{Course, Method, Outcome, Setup, Task};
use signvote_report::{Axis, Kind, Plot, Reference, Section, Series};

use crate::lab::{Error, Lab, check};

/// d of the paper's quadratic.
pub(crate) const DIMENSION: usize = 1000;

pub(crate) fn quadratic() -> Setup {
    Setup {
        problem: Task::Quadratic { dimension: DIMENSION },
        batch: 1,
        momentum: 0.0,
        schedule: Course::Constant,
        noise: 1.0,
        ..Setup::default()
    }
}

fn series(name: &str, outcome: &Outcome) -> Series {
    let points = outcome.curve.iter().filter_map(|point| Some((point.round as f64, point.loss?)));
    Series::new(name, points)
}

fn last(outcome: &Outcome) -> f64 {
    outcome.last().loss.unwrap_or(f64::INFINITY)
}

pub(crate) fn figure_1(lab: &mut Lab<'_>) -> Result<Section, Error> {
    let rounds = lab.either(300, 1000);
    let base = Setup { rounds, eta: 3.0 / rounds as f64, ..quadratic() };
    let vote = |workers, liars| Setup { workers, liars, ..base.clone() };
    let f_axis = || Axis::log("f(x)");
    let mut alone = Plot::new("alone", "One worker", Kind::Lines, Axis::linear("steps"), f_axis());
    let sgd = Setup { method: "mean".parse::<Method>()?, eta: 0.02, ..vote(1, 0) };
    let sign = lab.run(&vote(1, 0))?;
    alone = alone.with(series("signSGD", &sign)).with(series("SGD", &lab.run(&sgd)?));
    let mut crowd = Plot::new("workers", "A vote of M workers", Kind::Lines, Axis::linear("steps"), f_axis());
    let mut ends = Vec::new();
    for workers in [1, 3, 9, 27] {
        let outcome = lab.run(&vote(workers, 0))?;
        crowd = crowd.with(series(&format!("M = {workers}"), &outcome));
        ends.push(last(&outcome));
    }
    let mut attacked = Plot::new(
        "adversaries",
        "27 workers, some of which invert",
        Kind::Lines,
        Axis::linear("steps"),
        f_axis(),
    );
    let mut with_liars = Vec::new();
    for liars in [0, 6, 11, 13, 14] {
        let outcome = lab.run(&vote(27, liars))?;
        let share = 100.0 * f64::from(liars) / 27.0;
        attacked = attacked.with(series(&format!("{liars} of 27 ({share:.0}%)"), &outcome));
        with_liars.push(last(&outcome));
    }
    let start = DIMENSION as f64 / 2.0;
    attacked = attacked.marked(Reference::horizontal(start, "where it began"));
    let falls = ends.windows(2).all(|pair| pair[1] < pair[0]);
    let shown = |values: &[f64]| values.iter().map(|v| format!("{v:.1}")).collect::<Vec<_>>().join(", ");
    Ok(Section {
        title: "Figure 1: a quadratic with noise on every component".into(),
        says: "Every component's gradient has N(0, 1) noise. A vote of more workers comes closer to the minimum, and it still descends \
               with just under half of the workers inverting their signs; past half it climbs."
            .into(),
        paper: Some("signSGD keeps up with SGD; more workers help; with 27 workers the vote converges with adversaries up to half.".into()),
        ours: format!(
            "f after {rounds} steps, from {start}: {} with M = 1, 3, 9, 27; {} with 0, 6, 11, 13, 14 of 27 inverting.",
            shown(&ends),
            shown(&with_liars)
        ),
        scaled: "Nothing: 1,000 dimensions, N(0, 1) noise, 27 workers. The paper does not state start and rate: here every coordinate begins \
                 at 1 or -1."
            .into(),
        settings: vec![
            ("rounds".into(), rounds.to_string()),
            ("eta".into(), format!("{} (SGD: 0.02)", base.eta)),
            ("momentum".into(), "0".into()),
        ],
        plots: vec![alone, crowd, attacked],
        checks: vec![
            check("more workers, closer", "f in the end falls with M", "falling", shown(&ends), falls),
            check(
                "13 of 27 inverting",
                "the vote descends with just under half inverting",
                format!("below {:.0}", start * 0.9),
                format!("{:.1}", with_liars[3]),
                with_liars[3] < start * 0.9,
            ),
            check(
                "14 of 27 inverting",
                "past half the vote climbs",
                format!("above {start:.0}"),
                format!("{:.1}", with_liars[4]),
                with_liars[4] > start,
            ),
        ],
        ..Section::default()
    })
}
