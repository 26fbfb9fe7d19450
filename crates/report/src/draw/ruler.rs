//! An axis made concrete: from where to where, and which values are written at it.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

use crate::{Scale, text};

/// Beyond these, differences and ratios of values would overflow on the way to a place on paper.
const LARGEST: f64 = 1e100;
const SMALLEST: f64 = 1e-100;

/// Whether an axis has a place for a value: NaN and ±∞ have none, zero and less have none on a logarithmic axis.
pub(crate) fn has_place(scale: Scale, value: f64) -> bool {
    value.abs() <= LARGEST && (scale == Scale::Linear || value >= SMALLEST)
}

/// A value that is written at the axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    pub(crate) at: f64,
    pub(crate) label: String,
}

/// An axis with its ends and its ticks.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ruler {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) scale: Scale,
    pub(crate) ticks: Vec<Tick>,
    /// Lines without a label.
    fine: Vec<f64>,
}

impl Ruler {
    /// A linear axis over `[low, high]`, or a little more if it shall end at ticks, with as many ticks as `fits` allows. What
    /// is too narrow to be told apart is widened.
    pub(crate) fn linear(low: f64, high: f64, end_at_ticks: bool, fits: impl Fn(&Self) -> bool) -> Self {
        let enough = (low.abs().max(high.abs()) * 1e-9).max(1e-90);
        let (low, high) = if high - low > enough {
            (low, high)
        } else {
            let half = if low == 0.0 { 0.5 } else { (low.abs() * 0.05).max(enough) };
            (low - half, high + half)
        };
        let mut ruler = Self { low, high, scale: Scale::Linear, ticks: Vec::new(), fine: Vec::new() };
        for most in (2..=8).rev() {
            let step = round_step((high - low) / f64::from(most));
            // A bin's worth of rounding must not cost a tick.
            let (first, last) = ((low / step), (high / step));
            if end_at_ticks {
                (ruler.low, ruler.high) = ((first + 1e-9).floor() * step, (last - 1e-9).ceil() * step);
            }
            let first = (ruler.low / step - 1e-9).ceil() as i64;
            let last = (ruler.high / step + 1e-9).floor() as i64;
            ruler.ticks = (first..=last)
                .map(|index| index as f64 * step)
                .map(|at| linear_tick(at, step, high))
                .collect();
            if fits(&ruler) {
                break;
            }
        }
        ruler
    }

    /// A logarithmic axis over `[low, high]`, both above zero.
    pub(crate) fn log(low: f64, high: f64, fits: impl Fn(&Self) -> bool) -> Self {
        let (low, high) = if high / low > 1.0 + 1e-9 { (low, high) } else { (low / 2.0, high * 2.0) };
        let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let marks = |multiples: &[f64], every: usize| -> Vec<f64> {
            let values =
                powers.clone().filter(|power| power.rem_euclid(every as i32) == 0).flat_map(|power| {
                    // A power that is computed would be a bit off where the literal is not.
                    let unit = format!("1e{power}").parse::<f64>().unwrap_or(f64::NAN);
                    multiples.iter().map(move |multiple| multiple * unit)
                });
            values.filter(|at| (low * (1.0 - 1e-9)..=high * (1.0 + 1e-9)).contains(at)).collect()
        };
        let all: [f64; 9] = std::array::from_fn(|index| (index + 1) as f64);
        let mut ruler = Self { low, high, scale: Scale::Log, ticks: Vec::new(), fine: Vec::new() };
        ruler.fine = if powers.clone().count() <= 6 { marks(&all, 1) } else { marks(&[1.0], 1) };
        let candidates: [(&[f64], usize); 8] = [
            (&all, 1),
            (&[1.0, 2.0, 5.0], 1),
            (&[1.0, 3.0], 1),
            (&[1.0], 1),
            (&[1.0], 2),
            (&[1.0], 3),
            (&[1.0], 5),
            (&[1.0], 20),
        ];
        for (multiples, every) in candidates {
            let ticks = marks(multiples, every);
            // Less than a decade may have no round number in it at all.
            let ticks =
                if ticks.len() < 2 { Self::linear(low, high, false, |_| true).at_most(3) } else { ticks };
            ruler.ticks = ticks.into_iter().map(log_tick).collect();
            if fits(&ruler) {
                break;
            }
        }
        ruler
    }

    /// An axis of names at 0, 1, 2, …, which are drawn by somebody else.
    pub(crate) fn names(count: usize) -> Self {
        let ticks = (0..count).map(|index| Tick { at: index as f64, label: String::new() }).collect();
        let high = count.max(1) as f64 - 0.5;
        Self { low: -0.5, high, scale: Scale::Linear, ticks, fine: Vec::new() }
    }

    /// Where a value is, with the low end at 0 and the high end at 1.
    pub(crate) fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        }
    }

    /// Whether a value is on the axis.
    pub(crate) fn contains(&self, value: f64) -> bool {
        (-1e-9..=1.0 + 1e-9).contains(&self.place(value))
    }

    /// What is written at a value, which is that of a tick.
    pub(crate) fn label(&self, at: f64) -> String {
        self.ticks.iter().find(|tick| tick.at == at).map(|tick| tick.label.clone()).unwrap_or_default()
    }

    fn at_most(&self, count: usize) -> Vec<f64> {
        let every = self.ticks.len().div_ceil(count.max(1)).max(1);
        self.ticks.iter().step_by(every).map(|tick| tick.at).collect()
    }
}

impl Ranged for Ruler {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        // What is far outside is cut off anyway, and must not overflow.
        let place = self.place(*value).clamp(-50.0, 50.0);
        start + (place * f64::from(end - start)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, hint: H) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            self.fine.clone()
        } else {
            self.ticks.iter().map(|tick| tick.at).collect()
        }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

/// The smallest of 1, 2, 5 times a power of ten that is not below `step`.
fn round_step(step: f64) -> f64 {
    let power = step.log10().floor();
    let unit = 10_f64.powf(power);
    [1.0, 2.0, 5.0].into_iter().find(|multiple| multiple * unit >= step * (1.0 - 1e-9)).unwrap_or(10.0) * unit
}

fn linear_tick(at: f64, step: f64, high: f64) -> Tick {
    let decimals = (-(step.log10() + 1e-9).floor()).max(0.0);
    let label = if at == 0.0 {
        "0".into()
    } else if decimals > 5.0 || high.abs().max(at.abs()) >= 1e7 {
        text::scientific(at)
    } else {
        text::fixed(at, decimals as usize)
    };
    Tick { at, label }
}

fn log_tick(at: f64) -> Tick {
    let label = if (1e-3..1e5).contains(&at) { text::number(at, 4) } else { text::scientific(at) };
    Tick { at, label }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ruler: &Ruler) -> Vec<&str> {
        ruler.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    fn at_most(count: usize) -> impl Fn(&Ruler) -> bool {
        move |ruler| ruler.ticks.len() <= count
    }

    #[test]
    fn linear_ticks_are_round_and_written_alike() {
        let ruler = Ruler::linear(0.0, 1.0, true, at_most(6));
        assert_eq!(labels(&ruler), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let ruler = Ruler::linear(71.2, 87.9, true, at_most(6));
        assert_eq!((ruler.low, ruler.high, labels(&ruler)), (70.0, 90.0, vec!["70", "75", "80", "85", "90"]));
        let ruler = Ruler::linear(0.0, 25e6, true, at_most(4));
        assert_eq!(labels(&ruler).last(), Some(&"3×10⁷"));
    }

    #[test]
    fn log_ticks_are_powers_or_round_multiples_of_them() {
        let ruler = Ruler::log(1.0, 1e4, at_most(6));
        assert_eq!(labels(&ruler), ["1", "10", "100", "1000", "10,000"]);
        let ruler = Ruler::log(1.0, 31.0, at_most(6));
        assert_eq!(labels(&ruler), ["1", "2", "5", "10", "20"]);
        let ruler = Ruler::log(1e-12, 1e3, at_most(6));
        assert_eq!(labels(&ruler), ["10⁻¹²", "10⁻⁹", "10⁻⁶", "0.001", "1", "1000"]);
        assert!(Ruler::log(0.62, 0.68, at_most(6)).ticks.len() >= 2);
    }

    #[test]
    fn equal_ratios_are_equal_lengths_on_a_log_axis() {
        let ruler = Ruler::log(1.0, 100.0, at_most(6));
        assert!((ruler.place(10.0) - 0.5).abs() < 1e-12);
        assert_eq!([1.0, 100.0].map(|value| ruler.map(&value, (1000, 0))), [1000, 0]);
    }

    #[test]
    fn ranges_without_a_width_and_extreme_ones_have_ticks_all_the_same() {
        for (low, high) in
            [(0.0, 0.0), (5.0, 5.0), (-1e100, 1e100), (1e100, 1e100), (1e-300, 2e-300), (0.1, 0.1 + 1e-17)]
        {
            let ruler = Ruler::linear(low, high, true, at_most(6));
            assert!(ruler.low < ruler.high && (1..=60).contains(&ruler.ticks.len()), "{ruler:?}");
            assert!(ruler.place(low).is_finite());
        }
        for (low, high) in [(1e-100, 1e100), (3.0, 3.0), (SMALLEST, SMALLEST)] {
            let ruler = Ruler::log(low, high, at_most(6));
            assert!(ruler.low < ruler.high && (1..=60).contains(&ruler.ticks.len()), "{ruler:?}");
        }
    }

    #[test]
    fn no_axis_has_a_place_for_nan_and_infinity_and_a_log_axis_none_for_zero() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX] {
            assert!(!has_place(Scale::Linear, value) && !has_place(Scale::Log, value));
        }
        for value in [0.0, -0.0, -1.0] {
            assert!(has_place(Scale::Linear, value) && !has_place(Scale::Log, value));
        }
    }
}
