//! Laws fitted to what was measured.

/// Slope of a straight line through the logarithms, by least squares: the power of a power law. Points that are not positive have no
/// logarithm and are left out; `None` if fewer than two are left, or all have the same x.
pub(crate) fn power(points: &[(f64, f64)]) -> Option<f64> {
    let logs: Vec<(f64, f64)> =
        points.iter().filter(|(x, y)| *x > 0.0 && *y > 0.0).map(|(x, y)| (x.ln(), y.ln())).collect();
    let n = logs.len() as f64;
    let (x, y) = (logs.iter().map(|p| p.0).sum::<f64>() / n, logs.iter().map(|p| p.1).sum::<f64>() / n);
    let square: f64 = logs.iter().map(|p| (p.0 - x).powi(2)).sum();
    let product: f64 = logs.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    (logs.len() > 1 && square > 0.0).then_some(product / square)
}

/// Hartigan's dip statistic of a sample (Hartigan & Hartigan 1985): how far its distribution is, at the most, from the nearest one that has
/// a single mode, between 1/(2n) and ¼. 0 of fewer than two numbers.
///
/// Written down by its definition on the sorted sample, in O(n²): for every place of the mode, the empirical distribution is compared
/// with its greatest convex minorant before it and its least concave majorant behind it; the dip is half the least of the largest gaps.
pub(crate) fn dip(sample: &[f64]) -> f64 {
    let mut x = sample.to_vec();
    x.sort_by(f64::total_cmp);
    let n = x.len();
    if n < 2 {
        return 0.0;
    }
    let before: Vec<f64> = gaps(&x);
    // What lies behind the mode is before it, looked at from the other side.
    let mirrored: Vec<f64> = x.iter().rev().map(|v| -v).collect();
    let behind: Vec<f64> = gaps(&mirrored);
    let least = (0..n).map(|mode| before[mode].max(behind[n - 1 - mode])).fold(f64::INFINITY, f64::min);
    (least / 2.0).max(0.5 / n as f64)
}

/// For each place, the largest gap between the empirical distribution of the sample up to there and its greatest convex minorant.
fn gaps(x: &[f64]) -> Vec<f64> {
    let n = x.len() as f64;
    let lower = |at: usize| at as f64 / n;
    let upper = |at: usize| (at + 1) as f64 / n;
    let mut found = Vec::with_capacity(x.len());
    // The lower hull of the points (xᵢ, i/n), which grows by a point at a time.
    let mut hull: Vec<usize> = Vec::new();
    for at in 0..x.len() {
        while let [.., a, b] = hull[..] {
            let turn = (lower(b) - lower(a)) * (x[at] - x[a]) >= (lower(at) - lower(a)) * (x[b] - x[a]);
            if !turn {
                break;
            }
            hull.pop();
        }
        hull.push(at);
        let mut largest = 0.0_f64;
        for pair in hull.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            for i in a..b {
                let width = x[b] - x[a];
                let minorant = if width > 0.0 {
                    lower(a) + (lower(b) - lower(a)) * (x[i] - x[a]) / width
                } else {
                    lower(b)
                };
                largest = largest.max(upper(i) - minorant);
            }
        }
        // A step of 1/n is in every empirical distribution, and no gap.
        found.push((largest - 1.0 / n).max(0.0) + 1.0 / n);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_law_has_its_power() {
        let points: Vec<(f64, f64)> =
            (1..20).map(|x| (f64::from(x), 3.0 * f64::from(x).powf(-0.5))).collect();
        assert!((power(&points).unwrap() + 0.5).abs() < 1e-12);
        assert_eq!(power(&[(1.0, 2.0), (2.0, 0.0)]), None);
        assert_eq!(power(&[(1.0, 2.0), (1.0, 3.0)]), None);
    }

    #[test]
    fn one_hump_dips_little_and_two_dip_a_lot() {
        let one: Vec<f64> = (1..400).map(|i| (f64::from(i) / 400.0 - 0.5).powi(3)).collect();
        let two: Vec<f64> =
            (0..400).map(|i| if i % 2 == 0 { -1.0 } else { 1.0 } + f64::from(i) / 4000.0).collect();
        assert!(dip(&one) < 0.01, "{}", dip(&one));
        assert!(dip(&two) > 0.15, "{}", dip(&two));
        assert!(dip(&two) <= 0.25 + 1e-9, "{}", dip(&two));
        assert_eq!(dip(&[1.0]), 0.0);
    }
}
