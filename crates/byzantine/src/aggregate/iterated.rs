//! Rules that come to their result step by step.

use rayon::prelude::*;

/// Coordinates of one task, whose sums are added up in order.
const BLOCK: usize = 4096;

/// Σ (gᵢ − v)² of every gradient; a NaN is infinite.
fn squared_distances(gradients: &[&[f32]], center: &[f64]) -> Vec<f64> {
    let distance = |gradient: &&[f32]| {
        let square = |(g, v): (&f32, &f64)| (f64::from(*g) - v).powi(2);
        let sum: f64 = gradient.iter().zip(center).map(square).sum();
        if sum.is_nan() { f64::INFINITY } else { sum }
    };
    gradients.par_iter().map(distance).collect()
}

/// Σ wᵢ·gᵢ / Σ wᵢ; a gradient of weight 0 does not count, whatever it is.
fn weighted_mean(gradients: &[&[f32]], weights: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    let mut mean = vec![0.0; gradients[0].len()];
    mean.par_chunks_mut(BLOCK).enumerate().for_each(|(block, mean)| {
        for (gradient, &weight) in gradients.iter().zip(weights).filter(|(_, weight)| **weight != 0.0) {
            let values = &gradient[block * BLOCK..][..mean.len()];
            mean.iter_mut().zip(values).for_each(|(mean, g)| *mean += weight * f64::from(*g));
        }
        mean.iter_mut().for_each(|mean| *mean /= total);
    });
    mean
}

fn round(values: &[f64], out: &mut [f32]) {
    out.iter_mut().zip(values).for_each(|(out, value)| *out = *value as f32);
}

pub(super) fn geometric_median(gradients: &[&[f32]], smoothing: f64, iterations: u32, out: &mut [f32]) {
    let mut center = vec![0.0; out.len()];
    for _ in 0..iterations {
        let weight = |square: f64| 1.0 / square.sqrt().max(smoothing);
        let weights: Vec<f64> = squared_distances(gradients, &center).into_iter().map(weight).collect();
        center = weighted_mean(gradients, &weights);
    }
    round(&center, out);
}

pub(super) fn centred_clipping(
    gradients: &[&[f32]],
    radius: f64,
    iterations: u32,
    start: Option<&[f32]>,
    out: &mut [f32],
) {
    let mut center: Vec<f64> = match start {
        Some(start) => start.iter().map(|&v| f64::from(v)).collect(),
        None => vec![0.0; out.len()],
    };
    let n = gradients.len() as f64;
    for _ in 0..iterations {
        let clip = |square: f64| (radius / square.sqrt()).min(1.0);
        let clips: Vec<f64> = squared_distances(gradients, &center).into_iter().map(clip).collect();
        center.par_chunks_mut(BLOCK).enumerate().for_each(|(block, center)| {
            let before = center.to_vec();
            // What is infinitely far off is clipped to nothing, and must not be multiplied: it may be NaN.
            for (gradient, clip) in gradients.iter().zip(&clips).filter(|(_, clip)| **clip > 0.0) {
                let values = &gradient[block * BLOCK..][..center.len()];
                for ((v, before), g) in center.iter_mut().zip(&before).zip(values) {
                    *v += clip * (f64::from(*g) - before) / n;
                }
            }
        });
    }
    round(&center, out);
}

/// Steps of the power iteration that finds the direction of the largest spread.
const POWER_STEPS: usize = 100;

/// `directions`: where a power iteration of one step begins, for each round of weights, as ByzFL does it; `None`: iterated until it has
/// converged, from a start of its own.
pub(super) fn covariance_filter(
    gradients: &[&[f32]],
    f: usize,
    directions: Option<&[Vec<f32>]>,
    out: &mut [f32],
) {
    let n = gradients.len();
    let mut weights = vec![1.0; n];
    let everyone = weights.clone();
    let mut best: Option<(f64, Vec<f64>)> = None;
    // Every round spends at least one weight; ByzFL's may spend none, where who is the furthest off has none left.
    for at in 0..directions.map_or(n + 1, <[_]>::len) {
        let total: f64 = weights.iter().sum();
        if total <= n as f64 - 2.0 * f as f64 && best.is_some() {
            break;
        }
        let mean = weighted_mean(gradients, &weights);
        let gram = gram(gradients, if directions.is_some() { &everyone } else { &weights }, &mean);
        let direction = directions.and_then(|directions| directions.get(at));
        let start: Vec<f64> = match direction {
            Some(direction) => gradients.iter().map(|gradient| along(gradient, &mean, direction)).collect(),
            None => (0..n).map(|at| 1.0 + 0.1 * at as f64).collect(),
        };
        let steps = if direction.is_some() { 1 } else { POWER_STEPS };
        let (spread, projections) = largest_spread(&gram, &weights, start, steps);
        if best.as_ref().is_none_or(|(least, _)| spread < *least) {
            best = Some((spread, mean));
        }
        let largest = projections.iter().copied().fold(0.0, f64::max);
        if largest == 0.0 {
            break;
        }
        weights.iter_mut().zip(&projections).for_each(|(weight, p)| *weight *= 1.0 - p / largest);
    }
    let mean = best.map(|(_, mean)| mean).unwrap_or_default();
    round(&mean, out);
}

/// (g − μ)·v/‖v‖.
fn along(gradient: &[f32], mean: &[f64], direction: &[f32]) -> f64 {
    let product: f64 =
        gradient.iter().zip(mean).zip(direction).map(|((g, m), v)| (f64::from(*g) - m) * f64::from(*v)).sum();
    product / super::sum_over(direction, direction, |x, y| x * y).sqrt()
}

/// (gᵢ − μ)·(gⱼ − μ). The covariance's eigenvectors follow from it, and n is small where d is large.
fn gram(gradients: &[&[f32]], weights: &[f64], mean: &[f64]) -> Vec<Vec<f64>> {
    let n = gradients.len();
    let pairs: Vec<(usize, usize)> =
        (0..n).flat_map(|one| (0..=one).map(move |other| (one, other))).collect();
    let product = |&(one, other): &(usize, usize)| -> f64 {
        // Who has no weight left counts no more, and may be anything.
        if weights[one] == 0.0 || weights[other] == 0.0 {
            return 0.0;
        }
        let both = gradients[one].iter().zip(gradients[other]).zip(mean);
        both.map(|((x, y), m)| (f64::from(*x) - m) * (f64::from(*y) - m)).sum()
    };
    let found: Vec<f64> = pairs.par_iter().map(product).collect();
    let mut gram = vec![vec![0.0; n]; n];
    for (&(one, other), &value) in pairs.iter().zip(&found) {
        gram[one][other] = value;
        gram[other][one] = value;
    }
    gram
}

/// The largest eigenvalue of the weighted covariance, and of every gradient the squared projection of its distance from the mean on
/// that direction, which is Σ wⱼ·uⱼ·(gⱼ − μ) up to its length. `u`: a first guess of the projections.
fn largest_spread(gram: &[Vec<f64>], weights: &[f64], mut u: Vec<f64>, steps: usize) -> (f64, Vec<f64>) {
    let n = gram.len();
    let total: f64 = weights.iter().sum();
    let (mut value, mut before) = (0.0, f64::NAN);
    for _ in 0..steps {
        let weighted: Vec<f64> = (0..n).map(|at| weights[at] * u[at]).collect();
        let projected: Vec<f64> =
            gram.iter().map(|row| row.iter().zip(&weighted).map(|(g, w)| g * w).sum()).collect();
        let square: f64 = projected.iter().zip(&weighted).map(|(p, w)| p * w).sum();
        let length = square.max(0.0).sqrt();
        if length == 0.0 || !length.is_finite() {
            return (0.0, vec![0.0; n]);
        }
        u = projected.into_iter().map(|p| p / length).collect();
        // Of a step that began with a vector of length 1, it is the length of what the covariance makes of it.
        value = length / total;
        if value == before {
            break;
        }
        before = value;
    }
    (value, u.into_iter().map(|u| u * u).collect())
}
