//! Robust aggregators: n gradients in, one out, up to f of which may be anything.
//!
//! # Shapes
//!
//! `gradients` are n slices of d numbers, and `out` has d. Everything is computed in f64 and rounded once, and in parallel over
//! coordinates or pairs: the result does not depend on the number of threads.
//!
//! # NaN and infinity
//!
//! No value makes a rule panic. A mean of what is not finite is not finite. Where numbers are sorted, NaN is the largest of all
//! (f64's total order), and so is trimmed, or not chosen, as any other outlier is; a distance that is NaN counts as infinite.

mod coordinates;
mod distances;
mod iterated;
mod rule;

use crate::Error;

pub use self::distances::{bucketed, nearest_neighbour_mixing};
pub use self::rule::{Before, Convention, Rule};

/// [`Rule::CentredClipping`] from `start`, which in the paper is the result of the round before.
///
/// # Errors
/// [`Error::Misuse`] without gradients.
pub fn centred_clipping_from(
    start: &[f32],
    gradients: &[&[f32]],
    radius: f64,
    iterations: u32,
    out: &mut [f32],
) -> Result<(), Error> {
    Rule::CentredClipping { radius, iterations }.check(gradients.len(), 0)?;
    iterated::centred_clipping(gradients, radius, iterations, Some(start), out);
    Ok(())
}

/// [`Rule::Caf`] as ByzFL computes it: its power iterations have one step, from a random direction, and who has no weight left is looked
/// at still. `directions` are those that it drew, one for each of its rounds.
///
/// # Errors
/// Those of [`Rule::check`].
pub fn caf_along(
    directions: &[Vec<f32>],
    gradients: &[&[f32]],
    f: usize,
    out: &mut [f32],
) -> Result<(), Error> {
    Rule::Caf.check(gradients.len(), f)?;
    iterated::covariance_filter(gradients, f, Some(directions), out);
    Ok(())
}

/// Σ of what `of` makes of two vectors' numbers, in eight sums at a time: a single one would wait for every addition.
fn sum_over(x: &[f32], y: &[f32], of: impl Fn(f64, f64) -> f64) -> f64 {
    let mut sums = [0.0; 8];
    let (x, x_rest) = x.as_chunks::<8>();
    let (y, y_rest) = y.as_chunks::<8>();
    for (x, y) in x.iter().zip(y) {
        for lane in 0..8 {
            sums[lane] += of(f64::from(x[lane]), f64::from(y[lane]));
        }
    }
    let rest: f64 = x_rest.iter().zip(y_rest).map(|(x, y)| of(f64::from(*x), f64::from(*y))).sum();
    sums.iter().sum::<f64>() + rest
}
