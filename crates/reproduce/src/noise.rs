//! Figures 2 and 3: the noise of gradients, and how it compares with the signal.

use signvote_byzantine::simulate::{Problem, Setup, Simulation};
use signvote_report::{Axis, Kind, Plot, Reference, Section, Series, Table};

use crate::fit::dip;
use crate::lab::{Error, Lab, check};

/// The paper's batch.
const BATCH: u32 = 128;

/// 2/√3: from this ratio of signal to noise on, lemma 1's better bound holds.
const CRITICAL: f64 = 1.154_700_538;

/// Weights whose gradients are tested for a single mode.
const WEIGHTS: usize = 200;

/// x after so many epochs of training, as asked for in ascending order.
fn trained(lab: &mut Lab<'_>, epochs: &[u32]) -> Result<(Problem, Setup, Vec<Vec<f32>>), Error> {
    let last = epochs.iter().copied().max().unwrap_or(1).max(1);
    let setup = Setup { epochs: last, batch: BATCH / 7, ..lab.mlp() };
    lab.say(&format!("training for {last} epochs, to look at its gradients"));
    let problem = lab.problem(&setup)?;
    let per_epoch = problem.rounds_per_epoch(&setup);
    let mut simulation = Simulation::new(&setup, &problem)?;
    let mut found = Vec::new();
    for &epoch in epochs {
        while simulation.round() < u64::from(epoch) * per_epoch {
            simulation.step()?;
        }
        found.push(simulation.parameters().to_vec());
    }
    let one = Setup { workers: 1, batch: BATCH, seed: setup.seed + 1, ..setup };
    Ok((problem, one, found))
}

pub(crate) fn figure_2(lab: &mut Lab<'_>) -> Result<Section, Error> {
    let epochs = [0, 1, 5];
    let samples: u64 = lab.either(200, 1000);
    let (problem, setup, points) = trained(lab, &epochs)?;
    let dimension = problem.dimension();
    // Every so many-th coordinate; those whose gradient is always 0, behind dead pixels, are left out.
    let chosen: Vec<usize> = (0..4 * WEIGHTS).map(|at| at * dimension / (4 * WEIGHTS)).collect();
    let critical = critical_dip(samples as usize);
    let mut plots: Vec<Plot> = Vec::new();
    let mut table = Table::new(
        "Of the weights looked at",
        ["epoch", "weights", "more than one mode (5% by chance)", "median |skewness|"]
            .map(String::from)
            .to_vec(),
    );
    let (mut worst_modes, mut worst_skew) = (0.0_f64, 0.0_f64);
    let mut shown: Vec<usize> = Vec::new();
    for (epoch, x) in epochs.iter().zip(&points) {
        lab.say(&format!("{samples} gradients after {epoch} epochs"));
        let mut gradients: Vec<Vec<f64>> = vec![Vec::new(); chosen.len()];
        problem.sample(&setup, x, samples, &mut |gradient| {
            gradients.iter_mut().zip(&chosen).for_each(|(kept, &at)| kept.push(f64::from(gradient[at])));
        })?;
        let alive: Vec<usize> = (0..chosen.len())
            .filter(|&at| gradients[at].iter().filter(|g| **g == 0.0).count() * 2 < samples as usize)
            .collect();
        let alive: Vec<usize> = alive.into_iter().take(WEIGHTS).collect();
        if shown.is_empty() {
            shown = [1, 2, 3].map(|part| alive[part * (alive.len() - 1) / 4]).to_vec();
            plots = shown
                .iter()
                .enumerate()
                .map(|(number, &at)| {
                    let title = format!("Gradients of weight {}", chosen[at]);
                    let x = Axis::linear("standard deviations from the mean").between(-4.0, 4.0);
                    Plot::new(
                        format!("weight-{}", number + 1),
                        title,
                        Kind::Lines,
                        x,
                        Axis::linear("batches"),
                    )
                })
                .collect();
        }
        for (plot, &at) in plots.iter_mut().zip(&shown) {
            let series =
                Series::histogram(format!("epoch {epoch}"), &standardised(&gradients[at]), 20, (-4.0, 4.0));
            *plot = plot.clone().with(series);
        }
        let modes =
            alive.iter().filter(|&&at| dip(&gradients[at]) > critical).count() as f64 / alive.len() as f64;
        let mut skews: Vec<f64> = alive.iter().map(|&at| skewness(&gradients[at]).abs()).collect();
        skews.sort_by(f64::total_cmp);
        let skew = skews[skews.len() / 2];
        worst_modes = worst_modes.max(modes);
        worst_skew = worst_skew.max(skew);
        let row = [
            epoch.to_string(),
            alive.len().to_string(),
            format!("{:.1}%", 100.0 * modes),
            format!("{skew:.2}"),
        ];
        table = table.row(row.to_vec());
    }
    let (workers, examples) = (7, BATCH / 7);
    Ok(Section {
        title: "Figure 2: is the noise of gradients unimodal and symmetric?".into(),
        says: "Gradients of single weights over batches of 128 have one hump. They are close to symmetric where many examples contribute, \
               and skewed where few do."
            .into(),
        paper: Some("Histograms of three weights of ResNet-18, batch 128, epochs 0, 1 and 5: close to unimodal and symmetric.".into()),
        ours: format!(
            "At the most {:.1}% of {WEIGHTS} weights have more than one mode by Hartigan's dip test at 5%; median |skewness| at the most \
             {worst_skew:.2}.",
            100.0 * worst_modes
        ),
        scaled: format!("The mlp (203,530 weights) on 10,000 images, {samples} batches; the paper drew three weights, here {WEIGHTS} are tested."),
        settings: vec![("trained by".into(), format!("a vote of {workers} workers, batch {examples}"))],
        plots,
        tables: vec![table],
        checks: vec![
            check(
                "one mode",
                "gradient noise is close to unimodal",
                "at most 10% of weights rejected at 5%",
                format!("{:.1}%", 100.0 * worst_modes),
                worst_modes <= 0.1,
            ),
            check(
                "symmetric",
                "gradient noise is close to symmetric",
                "median |skewness| at most 0.5",
                format!("{worst_skew:.2}"),
                worst_skew <= 0.5,
            ),
        ],
        ..Section::default()
    })
}

pub(crate) fn figure_3(lab: &mut Lab<'_>) -> Result<Section, Error> {
    let epochs: &[u32] = lab.either(&[0, 1, 2, 3, 5], &[0, 1, 2, 3, 5, 7, 10, 15, 20]);
    let samples: u64 = lab.either(60, 300);
    let (problem, setup, points) = trained(lab, epochs)?;
    let (mut means, mut largest, mut above) = (Vec::new(), Vec::new(), Vec::new());
    for (&epoch, x) in epochs.iter().zip(&points) {
        lab.say(&format!("{samples} gradients after {epoch} epochs"));
        let mut sums = vec![(0.0_f64, 0.0_f64); problem.dimension()];
        problem.sample(&setup, x, samples, &mut |gradient| {
            for ((sum, square), &g) in sums.iter_mut().zip(gradient) {
                *sum += f64::from(g);
                *square += f64::from(g) * f64::from(g);
            }
        })?;
        let n = samples as f64;
        let ratio = |(sum, square): &(f64, f64)| {
            let mean = sum / n;
            let variance = (square / n - mean * mean) * n / (n - 1.0);
            (variance > 0.0).then(|| mean.abs() / variance.sqrt())
        };
        let ratios: Vec<f64> = sums.iter().filter_map(ratio).collect();
        means.push((f64::from(epoch), ratios.iter().sum::<f64>() / ratios.len() as f64));
        largest.push((f64::from(epoch), ratios.iter().copied().fold(0.0, f64::max)));
        above.push(ratios.iter().filter(|ratio| **ratio > CRITICAL).count() as f64 / ratios.len() as f64);
    }
    let series = |name: &str, points: &[(f64, f64)]| Series::new(name, points.to_vec());
    let plot = Plot::new(
        "fig3",
        "Signal-to-noise ratios",
        Kind::Lines,
        Axis::linear("epochs"),
        Axis::log("|mean| / standard deviation"),
    )
    .with(series("mean over components", &means))
    .with(series("largest component", &largest))
    .marked(Reference::horizontal(CRITICAL, "2/√3"));
    let (first, last) = (above[0], above[above.len() - 1]);
    let top = largest[largest.len() - 1].1;
    Ok(Section {
        title: "Figure 3: signal against noise, over training".into(),
        says: "Signal prevails only at the start: within a few epochs even the largest component is below the critical ratio, and the \
               low-ratio half of the theory is the one that matters."
            .into(),
        paper: Some("Mean and largest ratio fall below 2/√3, by epoch 40 of ResNet-18's training.".into()),
        ours: format!(
            "Mean {:.2} at first, {:.3} in the end; the largest in the end {top:.2}; above 2/√3 {:.2}% at first, {:.3}% in the end.",
            means[0].1,
            means[means.len() - 1].1,
            100.0 * first,
            100.0 * last
        ),
        scaled: format!("The mlp on 10,000 images, {} epochs, {samples} batches of {BATCH} at each.", epochs[epochs.len() - 1]),
        settings: Vec::new(),
        plots: vec![plot],
        checks: vec![
            check(
                "largest ratio",
                "in the end even the largest ratio is below 2/√3",
                "below 1.155",
                format!("{top:.3}"),
                top < CRITICAL,
            ),
            check(
                "fewer above it",
                "noise prevails as training goes on",
                format!("below {:.3}%", 100.0 * first),
                format!("{:.3}%", 100.0 * last),
                last < first,
            ),
        ],
        ..Section::default()
    })
}

fn standardised(values: &[f64]) -> Vec<f64> {
    let (mean, deviation) = moments(values);
    values.iter().map(|v| (v - mean) / deviation).collect()
}

fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt())
}

/// E[(g − μ)³]/σ³.
fn skewness(values: &[f64]) -> f64 {
    let standardised = standardised(values);
    standardised.iter().map(|v| v.powi(3)).sum::<f64>() / values.len() as f64
}

/// The dip that one in twenty samples of a uniform distribution exceeds: of all with one mode, the uniform dips the most.
fn critical_dip(samples: usize) -> f64 {
    let trials = 400;
    let mut dips: Vec<f64> = (0..trials)
        .map(|trial| {
            let mut state = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(trial + 1);
            let uniform: Vec<f64> = (0..samples)
                .map(|_| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (state >> 11) as f64 / (1_u64 << 53) as f64
                })
                .collect();
            dip(&uniform)
        })
        .collect();
    dips.sort_by(f64::total_cmp);
    dips[dips.len() * 19 / 20]
}
