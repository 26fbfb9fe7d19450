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

/// [`Rule::Caf`] as ByzFL computes it: its power iterations have one step, from a random direction. `directions` are those, for each of
/// its rounds; past the last, iterations converge.
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
