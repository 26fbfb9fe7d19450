//! Rules that look at every coordinate by itself.

use rayon::prelude::*;

/// Coordinates of one task.
const BLOCK: usize = 4096;

/// Hands the values of every coordinate, as f64, to `of`.
fn each(gradients: &[&[f32]], out: &mut [f32], of: impl Fn(&mut [f64]) -> f64 + Sync) {
    out.par_chunks_mut(BLOCK).enumerate().for_each(|(block, out)| {
        let mut values = vec![0.0; gradients.len()];
        for (at, out) in out.iter_mut().enumerate() {
            let at = block * BLOCK + at;
            values.iter_mut().zip(gradients).for_each(|(value, gradient)| *value = f64::from(gradient[at]));
            *out = of(&mut values) as f32;
        }
    });
}

/// Insertion sort: there are few values, and more often than not they are nearly in order.
fn sort(values: &mut [f64]) {
    for at in 1..values.len() {
        let value = values[at];
        let mut place = at;
        while place > 0 && values[place - 1].total_cmp(&value).is_gt() {
            values[place] = values[place - 1];
            place -= 1;
        }
        values[place] = value;
    }
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 }
}

fn mean_of(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

pub(super) fn mean(gradients: &[&[f32]], out: &mut [f32]) {
    each(gradients, out, |values| mean_of(values));
}

pub(super) fn median(gradients: &[&[f32]], out: &mut [f32]) {
    each(gradients, out, |values| {
        sort(values);
        middle(values)
    });
}

pub(super) fn trimmed_mean(gradients: &[&[f32]], f: usize, out: &mut [f32]) {
    each(gradients, out, |values| {
        sort(values);
        mean_of(&values[f..values.len() - f])
    });
}

/// The mean of the `kept` values nearest to the median, the lower of equally near ones first.
pub(super) fn mean_around_median(gradients: &[&[f32]], kept: usize, out: &mut [f32]) {
    each(gradients, out, |values| {
        sort(values);
        let median = middle(values);
        // The nearest ones are neighbours in order: the window whose far end is nearest.
        let mut first = 0;
        while first + kept < values.len() && values[first + kept] - median < median - values[first] {
            first += 1;
        }
        mean_of(&values[first..first + kept])
    });
}
