//! How fast a link is.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// What a link carries each way: bits a second, as `tc` counts them, all headers included. Positive and finite.
///
/// ```
/// use signvote_bench::Rate;
///
/// let rate: Rate = "1gbit".parse()?;
/// assert_eq!(rate.seconds(125_000_000.0), 1.0);
/// assert_eq!(rate.to_string(), "1gbit");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(f64);

/// Units, the largest first: 1 kbit is 1000 bits, as in `tc`.
const UNITS: [(&str, f64); 5] = [("tbit", 1e12), ("gbit", 1e9), ("mbit", 1e6), ("kbit", 1e3), ("bit", 1.0)];

impl Rate {
    /// 10 Gb/s.
    pub const TEN_GBIT: Self = Self(1e10);

    /// So many bits a second; `None` unless they are positive and finite.
    #[must_use]
    pub fn from_bits_per_second(bits: f64) -> Option<Self> {
        (bits > 0.0 && bits.is_finite()).then_some(Self(bits))
    }

    /// Bits a second.
    #[must_use]
    pub fn bits_per_second(self) -> f64 {
        self.0
    }

    /// How long so many bytes take, in seconds.
    #[must_use]
    pub fn seconds(self, bytes: f64) -> f64 {
        8.0 * bytes / self.0
    }
}

impl FromStr for Rate {
    type Err = String;

    /// A number and its unit: bit, kbit, mbit, gbit or tbit. A number alone is refused, because it means bits to `tc` and
    /// something else to most people.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a rate such as 100mbit, 1gbit or 2.5gbit, got {text:?}");
        let lower = text.trim().to_ascii_lowercase();
        // "bit" ends all of them, and comes last.
        let (number, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| lower.strip_suffix(name).map(|number| (number, unit)))
            .ok_or_else(wrong)?;
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        Self::from_bits_per_second(number * unit).ok_or_else(wrong)
    }
}

/// In the largest unit that leaves a number of at least 1. As exact as the format asks for: `{:.2}`; without that, so that it
/// reads back as the same rate.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, unit) = UNITS.into_iter().find(|(_, unit)| self.0 >= *unit).unwrap_or(("bit", 1.0));
        let number = self.0 / unit;
        match f.precision() {
            Some(digits) => write!(f, "{number:.digits$}{name}"),
            None => write!(f, "{number}{name}"),
        }
    }
}

/// Bits a second.
impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_as_tc_reads_it() {
        for (text, bits) in [
            ("1gbit", 1e9),
            ("100mbit", 1e8),
            ("2.5Gbit", 2.5e9),
            (" 10 gbit", 1e10),
            ("100kbit", 1e5),
            ("56000bit", 56_000.0),
            ("1tbit", 1e12),
        ] {
            assert_eq!(text.parse::<Rate>().map(Rate::bits_per_second), Ok(bits), "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_refused_and_an_example_given() {
        for text in
            ["", "1", "1000", "gbit", "-1gbit", "0mbit", "nangbit", "infgbit", "1e400gbit", "1gb", "1gbps"]
        {
            let error = text.parse::<Rate>().expect_err(text);
            assert!(error.contains("100mbit") && error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn a_rate_that_is_written_reads_back() {
        for bits in [1.0, 999.0, 1e3, 1e8, 2.5e9, 1e13, 953.125e6, 0.5] {
            let rate = Rate::from_bits_per_second(bits).expect("a rate");
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
        assert_eq!(format!("{:.1}", Rate(1_234_567_890.0)), "1.2gbit");
    }
}
