//! Rules by name, with their bounds.

use std::fmt;
use std::str::FromStr;

use super::{coordinates, distances, iterated};
use crate::Error;

/// How many of its nearest neighbours a vector is scored by in Krum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Convention {
    /// n − f − 2, as in the paper (Blanchard et al. 2017).
    #[default]
    Paper,
    /// n − f − 1, as in the library ByzFL.
    ByzFl,
}

/// A rule that makes one gradient of n, of which it is told that f may lie.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Rule {
    /// The mean. Stands nobody.
    Mean,
    /// The median of every coordinate (Yin et al. 2018); of an even number, the mean of the two in the middle. 2f < n.
    Median,
    /// The mean of every coordinate without its f largest and f smallest values (Yin et al. 2018). 2f < n.
    TrimmedMean,
    /// The vector whose squared distances to its n − f − 2 nearest neighbours have the least sum, the first of equals (Blanchard et
    /// al. 2017). 2f + 2 < n, in ByzFL 2f < n.
    Krum(Convention),
    /// The mean of the n − f vectors of the least such sums. As Krum.
    MultiKrum(Convention),
    /// Mean around the median of the n − 2f that Krum selects, one after the other (El Mhamdi et al. 2018). 4f + 3 ≤ n.
    Bulyan,
    /// The point of the least sum of distances, by Weiszfeld's iteration from 0, as ByzFL has it; distances are at least ν, which smooths it
    /// (Pillutla et al. 2022). 2f < n; it needs no f.
    GeometricMedian {
        /// ν, above 0.
        smoothing: f64,
        /// Iterations.
        iterations: u32,
    },
    /// v ← v + mean of (gᵢ − v)·min(1, τ/‖gᵢ − v‖), from v = 0 (Karimireddy et al. 2021, whose v starts at the last round's result).
    /// 2f < n; it needs no f.
    CentredClipping {
        /// τ, above 0.
        radius: f64,
        /// Iterations.
        iterations: u32,
    },
    /// The mean of the n − f vectors whose largest distance from each other is the least, the first of equals (minimum-diameter
    /// averaging, El Mhamdi et al. 2018). 2f < n, and at most [`Rule::MOST_SUBSETS`] subsets.
    Mda,
    /// In every coordinate the mean of the n − f values nearest to the median (Xie et al. 2018). 2f < n.
    MeaMed,
    /// Weights that fall, step by step, for who is far from the weighted mean in the direction in which all are spread the most,
    /// until f weights are spent; the mean of the least spread (covariance-bound agnostic filter, Allouah et al. 2025). 2f < n.
    Caf,
}

impl Rule {
    /// Names, as [`FromStr`] reads them.
    pub const NAMES: [&str; 11] = [
        "mean",
        "median",
        "trimmed-mean",
        "krum",
        "multi-krum",
        "bulyan",
        "geometric-median",
        "centred-clipping",
        "mda",
        "meamed",
        "caf",
    ];

    /// The most subsets that [`Rule::Mda`] looks at.
    pub const MOST_SUBSETS: u64 = 1_000_000;

    /// The most liars of `n` workers that the rule stands, and the condition in words.
    pub fn bound(self, n: usize) -> (usize, &'static str) {
        match self {
            Self::Mean => (0, "f = 0"),
            Self::Krum(Convention::Paper) | Self::MultiKrum(Convention::Paper) => {
                (n.saturating_sub(3) / 2, "2f + 2 < n")
            }
            Self::Bulyan => (n.saturating_sub(3) / 4, "4f + 3 <= n"),
            _ => (n.saturating_sub(1) / 2, "2f < n"),
        }
    }

    /// Refuses more liars than the rule stands. A mean is told of none: it is a baseline, and takes whatever comes.
    ///
    /// # Errors
    /// [`Error::Bound`] past the bound; [`Error::Misuse`] without workers, or where MDA would look at too many subsets.
    pub fn check(self, n: usize, f: usize) -> Result<(), Error> {
        if n == 0 {
            return Err(Error::misuse("gradients", "at least 1", 0));
        }
        let (most, condition) = self.bound(n);
        if self != Self::Mean && f > most {
            return Err(Error::Bound {
                rule: self.to_string(),
                bound: format!("at most {most} ({condition})"),
                n,
                f,
            });
        }
        if self == Self::Mda && distances::subsets(n, n - f) > Self::MOST_SUBSETS {
            let expected = format!("at most {} subsets", Self::MOST_SUBSETS);
            return Err(Error::misuse("mda", expected, format!("those of {} of {n}", n - f)));
        }
        Ok(())
    }

    /// Makes one gradient of `gradients`, told that `f` of them may lie.
    ///
    /// # Errors
    /// Those of [`check`](Self::check); [`Error::Misuse`] if lengths differ.
    pub fn aggregate(self, gradients: &[&[f32]], f: usize, out: &mut [f32]) -> Result<(), Error> {
        self.check(gradients.len(), f)?;
        if let Some(other) = gradients.iter().find(|gradient| gradient.len() != out.len()) {
            return Err(Error::misuse("coordinates of a gradient", out.len(), other.len()));
        }
        match self {
            Self::Mean => coordinates::mean(gradients, out),
            Self::Median => coordinates::median(gradients, out),
            Self::TrimmedMean => coordinates::trimmed_mean(gradients, f, out),
            Self::MeaMed => coordinates::mean_around_median(gradients, gradients.len() - f, out),
            Self::Krum(convention) => distances::krum(gradients, f, convention, out),
            Self::MultiKrum(convention) => distances::multi_krum(gradients, f, convention, out),
            Self::Bulyan => distances::bulyan(gradients, f, out),
            Self::Mda => distances::minimum_diameter(gradients, f, out),
            Self::GeometricMedian { smoothing, iterations } => {
                iterated::geometric_median(gradients, smoothing, iterations, out);
            }
            Self::CentredClipping { radius, iterations } => {
                iterated::centred_clipping(gradients, radius, iterations, None, out);
            }
            Self::Caf => iterated::covariance_filter(gradients, f, None, out),
        }
        Ok(())
    }

    /// The same after `before`, in this round of a run of this seed.
    ///
    /// # Errors
    /// As [`aggregate`](Self::aggregate); f is that of the vectors which `before` makes.
    pub fn aggregate_after(
        self,
        before: Before,
        draw: (u64, u64),
        gradients: &[&[f32]],
        f: usize,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let made = match before {
            Before::Nnm => {
                Self::Median.check(gradients.len(), f)?;
                distances::nearest_neighbour_mixing(gradients, f)
            }
            Before::Bucketing { size } => {
                let order = distances::permutation(gradients.len(), draw);
                distances::bucketed(gradients, &order, usize::from(size))
            }
        };
        let made: Vec<&[f32]> = made.iter().map(Vec::as_slice).collect();
        self.aggregate(&made, f, out)
    }
}

/// What is done to gradients before a rule sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Every vector becomes the mean of its n − f nearest neighbours, itself included (nearest-neighbour mixing, Allouah et al. 2023).
    Nnm,
    /// Vectors in random order become the means of buckets of so many (Karimireddy et al. 2022): of ⌈n/size⌉ vectors f may still lie.
    Bucketing {
        /// Vectors in a bucket; at least 1.
        size: u16,
    },
}

impl FromStr for Rule {
    type Err = Error;

    /// Reads a name. `krum-byzfl` and `multi-krum-byzfl` count neighbours as ByzFL does; `centred-clipping-10` has the radius 10,
    /// and without a number 1; iterations are 1, of the geometric median 3 with ν = 0.1, as ByzFL has them.
    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(match text {
            "mean" => Self::Mean,
            "median" => Self::Median,
            "trimmed-mean" => Self::TrimmedMean,
            "krum" => Self::Krum(Convention::Paper),
            "krum-byzfl" => Self::Krum(Convention::ByzFl),
            "multi-krum" => Self::MultiKrum(Convention::Paper),
            "multi-krum-byzfl" => Self::MultiKrum(Convention::ByzFl),
            "bulyan" => Self::Bulyan,
            "geometric-median" => Self::GeometricMedian { smoothing: 0.1, iterations: 3 },
            "mda" => Self::Mda,
            "meamed" => Self::MeaMed,
            "caf" => Self::Caf,
            _ => {
                let rest = text.strip_prefix("centred-clipping");
                let radius = match rest {
                    Some("") => Some(1.0),
                    Some(rest) => rest.strip_prefix('-').and_then(|number| number.parse().ok()),
                    None => None,
                };
                let radius = radius.filter(|&radius: &f64| radius > 0.0 && radius.is_finite());
                let radius = radius.ok_or_else(|| Error::misuse("rule", Self::NAMES.join(", "), text))?;
                Self::CentredClipping { radius, iterations: 1 }
            }
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mean => f.write_str("mean"),
            Self::Median => f.write_str("median"),
            Self::TrimmedMean => f.write_str("trimmed-mean"),
            Self::Krum(Convention::Paper) => f.write_str("krum"),
            Self::Krum(Convention::ByzFl) => f.write_str("krum-byzfl"),
            Self::MultiKrum(Convention::Paper) => f.write_str("multi-krum"),
            Self::MultiKrum(Convention::ByzFl) => f.write_str("multi-krum-byzfl"),
            Self::Bulyan => f.write_str("bulyan"),
            Self::GeometricMedian { .. } => f.write_str("geometric-median"),
            Self::CentredClipping { radius: 1.0, .. } => f.write_str("centred-clipping"),
            Self::CentredClipping { radius, .. } => write!(f, "centred-clipping-{radius}"),
            Self::Mda => f.write_str("mda"),
            Self::MeaMed => f.write_str("meamed"),
            Self::Caf => f.write_str("caf"),
        }
    }
}

impl FromStr for Before {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "nnm" {
            return Ok(Self::Nnm);
        }
        let size = match text.strip_prefix("bucketing") {
            Some("") => Some(2),
            Some(rest) => rest.strip_prefix('-').and_then(|size| size.parse().ok()),
            None => None,
        };
        let size = size.filter(|&size| size > 0);
        size.map(|size| Self::Bucketing { size })
            .ok_or_else(|| Error::misuse("before", "nnm or bucketing-2", text))
    }
}

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nnm => f.write_str("nnm"),
            Self::Bucketing { size } => write!(f, "bucketing-{size}"),
        }
    }
}

#[cfg(test)]
mod tests;
