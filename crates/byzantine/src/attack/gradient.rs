//! Attacks of liars who know the honest gradients.

use crate::Error;

/// −ε·μ, with μ the mean of the honest gradients (inner-product manipulation, Xie et al. 2020).
///
/// ByzFL's sign flip is this with ε = 1: it flips the mean, where [`Attack::SignFlip`](crate::Attack::SignFlip) flips the liar's own.
///
/// # Panics
/// If `honest` is empty or its lengths differ from that of `out`.
pub fn ipm(honest: &[&[f32]], epsilon: f32, out: &mut [f32]) {
    moments(honest, out, |mean, _| -f64::from(epsilon) * mean);
}

/// μ − z·σ, coordinate by coordinate, with σ the standard deviation of the honest gradients (a little is enough, Baruch et al. 2019).
///
/// σ has n − 1 in its denominator, as in ByzFL, whose factor τ is −z; of a single honest gradient it is 0.
///
/// # Panics
/// As [`ipm`].
pub fn alie(honest: &[&[f32]], z: f32, out: &mut [f32]) {
    moments(honest, out, |mean, deviation| mean - f64::from(z) * deviation);
}

/// The z of [`alie`] that hides f liars among n workers: Φ⁻¹((n − f − s)/(n − f)) with s = ⌊n/2 + 1⌋ − f, the number of honest workers
/// that the liars need on their side. Where they need none, they are as far off as the last honest one, s = 1; where they would need
/// half of the honest, z is 0.
///
/// # Errors
/// If all are liars.
pub fn alie_z(n: usize, f: usize) -> Result<f32, Error> {
    if f >= n {
        return Err(Error::misuse("liars", format!("fewer than {n}"), f));
    }
    let supporters = (n / 2 + 1).saturating_sub(f).max(1);
    let honest = n - f;
    let share = honest.saturating_sub(supporters) as f64 / honest as f64;
    Ok(if share <= 0.5 { 0.0 } else { quantile(share) as f32 })
}

fn moments(honest: &[&[f32]], out: &mut [f32], of: impl Fn(f64, f64) -> f64) {
    assert!(!honest.is_empty(), "at least one honest gradient");
    assert!(honest.iter().all(|gradient| gradient.len() == out.len()), "gradients of equal length");
    let n = honest.len() as f64;
    for (at, out) in out.iter_mut().enumerate() {
        let values = || honest.iter().map(|gradient| f64::from(gradient[at]));
        let mean = values().sum::<f64>() / n;
        let square: f64 = values().map(|value| (value - mean).powi(2)).sum();
        *out = of(mean, (square / (n - 1.0).max(1.0)).sqrt()) as f32;
    }
}

/// Φ⁻¹(p) for p in (½, 1), by bisection of Φ.
fn quantile(p: f64) -> f64 {
    let (mut low, mut high) = (0.0, 10.0);
    for _ in 0..80 {
        let middle = (low + high) / 2.0;
        if normal_distribution(middle) < p { low = middle } else { high = middle }
    }
    low
}

/// Φ(x) = ½ + φ(x)·(x + x³/3 + x⁵/15 + …), whose terms fall from the first on for small x, and never alternate.
fn normal_distribution(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for k in 1..300 {
        term *= x * x / f64::from(2 * k + 1);
        sum += term;
    }
    0.5 + sum * (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HONEST: [&[f32]; 4] = [&[1.0, 0.0], &[2.0, 0.0], &[3.0, 0.0], &[6.0, 4.0]];

    #[test]
    fn ipm_is_minus_epsilon_times_the_mean() {
        let mut out = [0.0; 2];
        ipm(&HONEST, 0.5, &mut out);
        assert_eq!(out, [-1.5, -0.5]);
    }

    #[test]
    fn alie_is_z_deviations_below_the_mean() {
        let mut out = [0.0; 2];
        alie(&HONEST, 2.0, &mut out);
        // Squares of 2, 1, 0, 3 are 14, of 1, 1, 1, 3 are 12; both over 3.
        let expected = [3.0 - 2.0 * (14.0_f32 / 3.0).sqrt(), 1.0 - 2.0 * 2.0];
        assert!(out.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{out:?}");
    }

    #[test]
    fn z_is_the_quantile_of_those_who_are_not_needed() {
        // The paper's example (section 3.2): n = 50, f = 24: s = 2, Φ⁻¹(24/26) = 1.43.
        assert!((alie_z(50, 24).unwrap() - 1.426).abs() < 1e-3, "{}", alie_z(50, 24).unwrap());
        // n = 15, f = 7: s = 1, Φ⁻¹(7/8) = 1.1503.
        assert!((alie_z(15, 7).unwrap() - 1.150_349).abs() < 1e-5);
        // A single liar needs half of the honest: it cannot hide and move them, too.
        assert_eq!(alie_z(15, 1).unwrap(), 0.0);
        assert!(alie_z(7, 7).is_err());
    }
}
