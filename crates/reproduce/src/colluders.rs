//! How many colluders who know the honest votes break the majority: 1 − 1/(2p), and not one half.

use signvote_byzantine::simulate::{Lie, Setup, Task};
use signvote_report::{Axis, Kind, Plot, Reference, Section, Series, Table};

use crate::lab::{Error, Lab, check};
use crate::theorems::advantage;
use crate::toy::quadratic;

/// Workers: many, so that the fraction is fine enough.
const WORKERS: u16 = 201;

/// Signal-to-noise ratio at which a worker's sign is right with this probability: Φ⁻¹(p).
const CASES: [(f64, f64); 3] = [(0.6, 0.253_347), (0.7, 0.524_401), (0.9, 1.281_552)];

pub(crate) fn threshold(lab: &mut Lab<'_>) -> Result<Section, Error> {
    let mut plot = Plot::new(
        "verdicts",
        "Verdicts under colluders who oppose the honest",
        Kind::Lines,
        Axis::linear("fraction of colluders"),
        Axis::linear("right verdicts − wrong ones").between(-1.0, 1.0),
    );
    let mut table = Table::new(
        "Where the vote breaks",
        ["p", "1 − 1/(2p)", "measured", "blind liars"].map(String::from).to_vec(),
    );
    let mut checks = Vec::new();
    for (p, ratio) in CASES {
        let expected = 1.0 - 1.0 / (2.0 * p);
        let run = |lab: &mut Lab<'_>, liars: u16, lie: Lie| {
            let setup = Setup {
                problem: Task::Quadratic { dimension: lab.either(2000, 20_000) },
                workers: WORKERS,
                liars,
                lie,
                rounds: 1,
                eta: 0.5,
                noise: (1.0 / ratio) as f32,
                ..quadratic()
            };
            advantage(lab, &setup)
        };
        let mut points = Vec::new();
        let centre = (expected * f64::from(WORKERS)).round() as u16;
        let counts: Vec<u16> =
            (0..=10).map(|at| at * 10).chain((0..=8).map(|at| (centre + at).saturating_sub(4))).collect();
        let mut counts = counts;
        counts.sort_unstable();
        counts.dedup();
        for liars in counts {
            let share = f64::from(liars) / f64::from(WORKERS);
            points.push((share, run(lab, liars, Lie::Omniscient { scale: 1.0 })?));
        }
        let broken = crossing(&points);
        let blind = run(lab, centre, Lie::SignFlip { scale: 1.0 })?;
        plot = plot
            .with(Series::new(format!("p = {p}"), points.clone()))
            .marked(Reference::vertical(expected, format!("{expected:.2}")));
        table = table.row(vec![
            format!("{p}"),
            format!("{expected:.3}"),
            format!("{broken:.3}"),
            format!("still {:.0}% right", 50.0 + 50.0 * blind),
        ]);
        checks.push(check(
            &format!("colluders at p = {p}"),
            "colluders who know the honest votes break it at 1 − 1/(2p)",
            format!("{expected:.3} ± 0.03"),
            format!("{broken:.3}"),
            (broken - expected).abs() <= 0.03,
        ));
    }
    Ok(Section {
        title: "\"Up to half\" is of blind adversaries: colluders need fewer".into(),
        says: "Where every honest sign is right with probability p, colluders who all oppose what the honest would decide break the vote at \
               a fraction of 1 − 1/(2p): a sixth at p = 0.6. As many blind inverters do little."
            .into(),
        paper: Some("Its adversaries are blind, and up to half are survived; the threshold is from Akoun & Meyer (2022).".into()),
        ours: "Where the curves cross zero.".into(),
        scaled: format!("{WORKERS} workers, one round, all coordinates of the same p."),
        plots: vec![plot],
        tables: vec![table],
        checks,
        ..Section::default()
    })
}

/// Where a curve that falls crosses zero, by a straight line between its points.
fn crossing(points: &[(f64, f64)]) -> f64 {
    let crossed = points.windows(2).find(|pair| pair[0].1 > 0.0 && pair[1].1 <= 0.0);
    crossed.map_or(f64::NAN, |pair| {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        x0 + (x1 - x0) * y0 / (y0 - y1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crossing_lies_between_its_points() {
        assert_eq!(crossing(&[(0.0, 1.0), (0.2, 0.5), (0.4, -0.5)]), 0.30000000000000004);
        assert!(crossing(&[(0.0, 1.0), (1.0, 0.5)]).is_nan());
    }
}
