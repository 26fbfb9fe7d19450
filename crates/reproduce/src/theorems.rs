//! Theorems 1 and 2: both sides of the bounds, on quadratics whose L, σ and f* are known, and the laws in them.

use signvote_byzantine::simulate::{Setup, Simulation, Task};
use signvote_report::{Axis, Kind, Plot, Section, Series};

use crate::fit::power;
use crate::lab::{Error, Lab, check};
use crate::toy::{DIMENSION, quadratic};

/// The critical signal-to-noise ratio of lemma 1.
const CRITICAL: f64 = 1.154_700_538;

/// f0 − f*: every coordinate begins at ±1, and f* = 0.
const DISTANCE: f64 = DIMENSION as f64 / 2.0;
/// ‖L‖₁: every Lᵢ is 1.
const SMOOTHNESS: f64 = DIMENSION as f64;

/// The mean over all steps of what `of` makes of the true gradient, which is x, before each.
fn mean_over(lab: &mut Lab<'_>, setup: &Setup, of: impl Fn(&[f32]) -> f64) -> Result<f64, Error> {
    lab.say(&format!("M = {}, {} inverting, {} rounds", setup.workers, setup.liars, setup.rounds));
    let problem = lab.problem(setup)?;
    let mut simulation = Simulation::new(setup, &problem)?;
    let mut sum = 0.0;
    for _ in 0..setup.rounds {
        sum += of(simulation.parameters());
        simulation.step()?;
    }
    Ok(sum / setup.rounds as f64)
}

pub(crate) fn theorem_1(lab: &mut Lab<'_>) -> Result<Section, Error> {
    let steps: &[u64] = lab.either(&[25, 100, 400, 1600], &[25, 100, 400, 1600, 6400, 25_600]);
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for &rounds in steps {
        let eta = (DISTANCE / (SMOOTHNESS * rounds as f64)).sqrt();
        let setup = Setup { workers: 1, rounds, eta, ..quadratic() };
        let sigma = f64::from(setup.noise);
        let side = mean_over(lab, &setup, |x| {
            let part = |g: f64| if g / sigma > CRITICAL { g } else { g * g / sigma };
            x.iter().map(|&g| part(f64::from(g.abs()))).sum()
        })?;
        left.push((rounds as f64, side));
        right.push((rounds as f64, 3.0 * (SMOOTHNESS * DISTANCE / rounds as f64).sqrt()));
    }
    let holds = left.iter().zip(&right).all(|(left, right)| left.1 <= right.1);
    let slope = power(&left).unwrap_or(0.0);
    let worst = left.iter().zip(&right).map(|(left, right)| left.1 / right.1).fold(0.0, f64::max);
    let plot =
        Plot::new("bound", "One worker, N steps", Kind::Lines, Axis::log("N"), Axis::log("mean over steps"))
            .with(Series::new("measured left side", left.clone()))
            .with(Series::law("bound", right.clone()));
    Ok(Section {
        title: "Theorem 1: signSGD with batches of one".into(),
        says: "The left side, gradients above the critical ratio plus squared gradients over σ below it, stays under the bound and falls \
               as it does, with 1/√N."
            .into(),
        paper: Some("Σ|g| over high ratios + Σ g²/σ over low ones, averaged, is at most 3·√(‖L‖₁(f0 − f*)/N).".into()),
        ours: format!("At most {worst:.2} of the bound; it falls as N^{slope:.2}."),
        scaled: format!("A quadratic of {DIMENSION} coordinates with every L = 1, σ = 1, f0 − f* = {DISTANCE}."),
        settings: vec![("eta".into(), "√((f0 − f*)/(‖L‖₁N)), as in the theorem".into())],
        plots: vec![plot],
        checks: vec![
            check("theorem 1", "the bound holds", "at most 1 of it", format!("{worst:.3}"), holds),
            check("rate of theorem 1", "the left side falls as 1/√N", "a power of at most −0.4", format!("{slope:.2}"), slope <= -0.4),
        ],
        ..Section::default()
    })
}

pub(crate) fn theorem_2(lab: &mut Lab<'_>) -> Result<Section, Error> {
    let rounds: u64 = lab.either(100, 400);
    let alphas: &[(u16, u16)] = &[(27, 0), (27, 3), (27, 6), (27, 9), (27, 11), (27, 12)];
    let crowds: &[(u16, u16)] = &[(1, 0), (3, 0), (9, 0), (27, 0)];
    let sides = |lab: &mut Lab<'_>, workers: u16, liars: u16| -> Result<(f64, f64), Error> {
        let eta = (DISTANCE / (SMOOTHNESS * rounds as f64)).sqrt();
        // Noise that does not vanish in a batch of K: σ = √K.
        let noise = 3.0 * (rounds as f32).sqrt();
        let setup = Setup { workers, liars, rounds, batch: rounds as u32, noise, eta, ..quadratic() };
        let left = mean_over(lab, &setup, |x| x.iter().map(|&g| f64::from(g.abs())).sum())?.powi(2);
        let alpha = f64::from(liars) / f64::from(workers);
        let sigma = f64::from(noise) * DIMENSION as f64;
        let spread = sigma / ((1.0 - 2.0 * alpha) * f64::from(workers).sqrt());
        let n = (rounds * rounds) as f64;
        Ok((left, 4.0 / n.sqrt() * (spread + (SMOOTHNESS * DISTANCE).sqrt()).powi(2)))
    };
    let mut worst = 0.0_f64;
    let mut plots = Vec::new();
    for (id, title, cases, axis) in [
        ("workers", "M workers, none inverting", crowds, "M"),
        ("alpha", "27 workers, a fraction α inverting", alphas, "1 − 2α"),
    ] {
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for &(workers, liars) in cases {
            let (measured, bound) = sides(lab, workers, liars)?;
            let x = if axis == "M" {
                f64::from(workers)
            } else {
                1.0 - 2.0 * f64::from(liars) / f64::from(workers)
            };
            left.push((x, measured));
            right.push((x, bound));
            worst = worst.max(measured / bound);
        }
        plots.push(
            Plot::new(id, title, Kind::Lines, Axis::log(axis), Axis::log("[mean ‖g‖₁]²"))
                .with(Series::new("measured left side", left))
                .with(Series::law("bound", right)),
        );
    }
    let (workers_law, alpha_law) = (progress_by_workers(lab)?, progress_by_alpha(lab)?);
    let slopes = (power(&workers_law).unwrap_or(0.0), power(&alpha_law).unwrap_or(0.0));
    let progress = |id: &str, title: &str, axis: &str, points: &[(f64, f64)], slope: f64| {
        let (x0, y0) = points[0];
        let law: Vec<(f64, f64)> = points.iter().map(|&(x, _)| (x, y0 * (x / x0).powf(slope))).collect();
        Plot::new(id, title, Kind::Points, Axis::log(axis), Axis::log("right verdicts − wrong ones"))
            .with(Series::new("measured", points.to_vec()))
            .with(Series::law(format!("law: power {slope}"), law))
    };
    plots.push(progress("sqrt-m", "What M workers gain at a low ratio", "M", &workers_law, 0.5));
    plots.push(progress(
        "one-minus-2-alpha",
        "What a fraction α costs at a low ratio",
        "1 − 2α",
        &alpha_law,
        1.0,
    ));
    Ok(Section {
        title: "Theorem 2: the majority vote, with a fraction α inverting".into(),
        says: "The left side stays under the bound for every M and α. Where noise prevails, right verdicts outweigh wrong ones in proportion \
               to (1 − 2α)·√M: the factor by which the bound divides the noise."
            .into(),
        paper: Some("[mean ‖g‖₁]² ≤ (4/√N)·[‖σ‖₁/((1 − 2α)√M) + √(‖L‖₁(f0 − f*))]², with n = K, N = K².".into()),
        ours: format!(
            "At most {worst:.2} of the bound; powers fitted: {:.3} of M (law: ½), {:.3} of 1 − 2α (law: 1).",
            slopes.0, slopes.1
        ),
        scaled: format!("A quadratic of {DIMENSION} coordinates, K = {rounds}; the laws at |g|/σ = 0.05 on 400,000 coordinates."),
        settings: vec![("eta".into(), "√((f0 − f*)/(‖L‖₁K)), as in the theorem".into())],
        plots,
        checks: vec![
            check("theorem 2", "the bound holds", "at most 1 of it", format!("{worst:.3}"), worst <= 1.0),
            check(
                "the gain of M workers",
                "right minus wrong verdicts grow as √M",
                "a power of 0.5 ± 0.05",
                format!("{:.3}", slopes.0),
                (slopes.0 - 0.5).abs() <= 0.05,
            ),
            check(
                "the cost of α",
                "right minus wrong verdicts shrink as 1 − 2α",
                "a power of 1 ± 0.1",
                format!("{:.3}", slopes.1),
                (slopes.1 - 1.0).abs() <= 0.1,
            ),
        ],
        ..Section::default()
    })
}

/// How far right verdicts outweigh wrong ones in one round in which every coordinate has the same ratio, 1/`noise`.
pub(crate) fn advantage(lab: &mut Lab<'_>, setup: &Setup) -> Result<f64, Error> {
    lab.say(&format!("one round of {} workers, {} lying", setup.workers, setup.liars));
    let problem = lab.problem(setup)?;
    let mut simulation = Simulation::new(setup, &problem)?;
    let before = simulation.parameters().to_vec();
    simulation.step()?;
    // A right verdict is a step towards 0.
    let right = before
        .iter()
        .zip(simulation.parameters())
        .filter(|(before, after)| after.abs() < before.abs())
        .count();
    Ok(2.0 * right as f64 / before.len() as f64 - 1.0)
}

fn one_round(workers: u16, liars: u16) -> Setup {
    Setup {
        // So many coordinates that an advantage is known to within 0.002.
        problem: Task::Quadratic { dimension: 400_000 },
        workers,
        liars,
        rounds: 1,
        eta: 0.5,
        noise: 20.0,
        ..quadratic()
    }
}

fn progress_by_workers(lab: &mut Lab<'_>) -> Result<Vec<(f64, f64)>, Error> {
    let mut points = Vec::new();
    // The law is one of many: of one bit each, three workers are worth 1.5² = 2.25.
    for workers in [9, 27, 81] {
        points.push((f64::from(workers), advantage(lab, &one_round(workers, 0))?));
    }
    Ok(points)
}

fn progress_by_alpha(lab: &mut Lab<'_>) -> Result<Vec<(f64, f64)>, Error> {
    let mut points = Vec::new();
    for liars in [0, 5, 10, 15, 20] {
        let alpha = f64::from(liars) / 51.0;
        points.push((1.0 - 2.0 * alpha, advantage(lab, &one_round(51, liars))?));
    }
    Ok(points)
}
