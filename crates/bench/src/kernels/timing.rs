//! Rows that take turns.

use std::time::{Duration, Instant};

use super::case::Group;
use super::report::{Relative, Row};
use crate::Error;

/// Fewest turns of a group.
const TURNS: usize = 5;
/// What takes less is repeated as often as it fits: the clock costs some 50 ns.
const SHORTEST: Duration = Duration::from_micros(20);

/// Times of one row, in seconds, one a turn.
#[derive(Default)]
struct Times {
    kernel: Vec<f64>,
    limit: Vec<f64>,
}

/// Measures a group for so long, and at least five turns. Every answer is checked before and after.
pub(super) fn measure(group: &mut Group<'_>, least: Duration) -> Result<Vec<Row>, Error> {
    let expected = group.expected();
    let check = |group: &mut Group<'_>| -> Result<(), Error> {
        expected.iter().enumerate().try_for_each(|(row, expected)| group.check(row, expected))
    };
    check(group)?;
    (0..group.rows()).for_each(|row| group.tune_limit(row));
    let repeats: Vec<_> = (0..group.rows()).map(|row| repeats(|| group.kernel(row))).collect();
    let mut times: Vec<_> = repeats.iter().map(|_| Times::default()).collect();
    let began = Instant::now();
    while times.iter().any(|times| times.kernel.len() < TURNS) || began.elapsed() < least {
        for (row, (times, repeats)) in times.iter_mut().zip(&repeats).enumerate() {
            // Once without a clock: both then find in the cache what a run over the same memory has left.
            group.limit(row);
            times.limit.push(seconds(*repeats, || group.limit(row)));
            times.kernel.push(seconds(*repeats, || group.kernel(row)));
        }
    }
    check(group)?;
    let row = |row: usize| {
        let (bytes, of) = (group.bytes(row), &times[row]);
        // The least, which flatters the naive form: of one or two there is no median.
        let naive = expected[row].times().iter().min().map_or(f64::NAN, Duration::as_secs_f64);
        let (time, limit) = (median(of.kernel.clone()), median(of.limit.clone()));
        Row {
            group: group.name().to_owned(),
            name: group.row(row).to_owned(),
            voters: group.voters(),
            bytes,
            turns: of.kernel.len(),
            median_ms: time * 1e3,
            best_ms: of.kernel.iter().copied().fold(f64::MAX, f64::min) * 1e3,
            gb_per_s: bytes as f64 / time / 1e9,
            limit_ms: limit * 1e3,
            limit_ratio: median_ratio(&of.limit, &of.kernel),
            naive_ms: naive * 1e3,
            speedup: naive / time,
            relative: group.relative_to(row).map(|other| Relative {
                to: group.row(other).to_owned(),
                ratio: median_ratio(&of.kernel, &times[other].kernel),
            }),
        }
    };
    Ok((0..times.len()).map(row).collect())
}

/// How often to run what is to be timed once.
fn repeats(mut run: impl FnMut()) -> u32 {
    let mut repeats = 1;
    while repeats < 1 << 12 && seconds(repeats, &mut run) * f64::from(repeats) < SHORTEST.as_secs_f64() {
        repeats *= 2;
    }
    repeats
}

/// The time of one of several runs.
fn seconds(repeats: u32, mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..repeats {
        run();
    }
    // A clock that has not moved must not make a rate infinite.
    start.elapsed().max(Duration::from_nanos(1)).as_secs_f64() / f64::from(repeats)
}

/// The median of the ratios turn by turn: what disturbs the machine for a while disturbs both.
fn median_ratio(over: &[f64], under: &[f64]) -> f64 {
    median(over.iter().zip(under).map(|(over, under)| over / under).collect())
}

/// The median; of an even number, the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.len().saturating_sub(1) / 2, values.len() / 2);
    values.get(low).zip(values.get(high)).map_or(f64::NAN, |(low, high)| (low + high) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_care_for_order_or_outliers() {
        assert_eq!(median(vec![3.0, 1.0, 1000.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 1000.0]), 3.0);
        assert_eq!(median_ratio(&[1.0, 4.0, 9.0], &[1.0, 2.0, 3.0]), 2.0);
    }
}
