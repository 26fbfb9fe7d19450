//! Plots, as data.

/// A plot: series of points over two axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// With the section's, the name of its file: lower-case letters, digits, `-` and `_`.
    pub id: String,
    /// Above the plot.
    pub title: String,
    /// How points are drawn.
    pub kind: Kind,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// In the order of the legend.
    pub series: Vec<Series>,
    /// Lines across the plot.
    pub references: Vec<Reference>,
}

impl Plot {
    /// A plot without anything in it.
    pub fn new(id: impl Into<String>, title: impl Into<String>, kind: Kind, x: Axis, y: Axis) -> Self {
        Self { id: id.into(), title: title.into(), kind, x, y, series: Vec::new(), references: Vec::new() }
    }

    /// The plot with one more series.
    #[must_use]
    pub fn with(mut self, series: Series) -> Self {
        self.series.push(series);
        self
    }

    /// The plot with a line across it.
    #[must_use]
    pub fn marked(mut self, reference: Reference) -> Self {
        self.references.push(reference);
        self
    }
}

/// How a plot draws its points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Joined by lines. A point that cannot be drawn leaves a gap.
    #[default]
    Lines,
    /// Markers alone.
    Points,
    /// A bar from zero for each, series side by side.
    Bars,
    /// Steps: the height y from a point's x to the next one's ([`Series::histogram`]).
    Histogram,
}

/// An axis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// What is along it, with its unit.
    pub label: String,
    /// Linear or logarithmic.
    pub scale: Scale,
    /// From where to where; as the points need it if `None`. Points outside are not drawn, and counted.
    pub range: Option<(f64, f64)>,
    /// Names of the places 0, 1, 2, …, instead of numbers. Of the horizontal axis alone.
    pub categories: Vec<String>,
}

impl Axis {
    /// A linear axis.
    pub fn linear(label: impl Into<String>) -> Self {
        Self { label: label.into(), ..Self::default() }
    }

    /// A logarithmic axis. Zeros and negative values cannot be drawn on it; the foot of bars and steps is its low end.
    pub fn log(label: impl Into<String>) -> Self {
        Self { scale: Scale::Log, ..Self::linear(label) }
    }

    /// An axis of names.
    pub fn categories<N: Into<String>>(label: impl Into<String>, names: impl IntoIterator<Item = N>) -> Self {
        Self { categories: names.into_iter().map(Into::into).collect(), ..Self::linear(label) }
    }

    /// The axis from `low` to `high` whatever the points are.
    #[must_use]
    pub fn between(self, low: f64, high: f64) -> Self {
        Self { range: Some((low, high)), ..self }
    }
}

/// How an axis maps values to lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scale {
    /// Equal differences are equal lengths.
    #[default]
    Linear,
    /// Equal ratios are equal lengths.
    Log,
}

/// Points that belong together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// In the order in which lines join them.
    pub points: Vec<Point>,
    /// A formula and no measurement: a thin line without markers, whatever the plot's kind.
    pub law: bool,
    /// Values that were left out already when the points were made; the plot says how many.
    pub skipped: usize,
}

impl Series {
    /// A measurement.
    pub fn new<P: Into<Point>>(name: impl Into<String>, points: impl IntoIterator<Item = P>) -> Self {
        let points = points.into_iter().map(Into::into).collect();
        Self { name: name.into(), points, law: false, skipped: 0 }
    }

    /// A formula to compare with.
    pub fn law<P: Into<Point>>(name: impl Into<String>, points: impl IntoIterator<Item = P>) -> Self {
        Self { law: true, ..Self::new(name, points) }
    }

    /// Counts values in `bins` bins of equal width over `[low, high]`, for [`Kind::Histogram`]. NaN, ±∞ and what is
    /// outside of the range counts as skipped; `high` itself falls into the last bin. There are no points if the range is
    /// empty or not finite, or there are no bins: then all values are skipped.
    pub fn histogram(name: impl Into<String>, values: &[f64], bins: usize, (low, high): (f64, f64)) -> Self {
        let width = (high - low) / bins as f64;
        if !(width.is_finite() && width > 0.0) {
            return Self { skipped: values.len(), ..Self::new(name, [(0.0, 0.0); 0]) };
        }
        let mut counts = vec![0_usize; bins];
        let mut skipped = 0;
        for value in values {
            if (low..=high).contains(value) {
                counts[(((value - low) / width) as usize).min(bins - 1)] += 1;
            } else {
                skipped += 1;
            }
        }
        let edges = (0..=bins).map(|bin| low + width * bin as f64);
        // The last edge closes the last bin.
        let heights = counts.into_iter().map(|count| count as f64).chain([0.0]);
        Self { skipped, ..Self::new(name, edges.zip(heights)) }
    }
}

/// A point, perhaps with what it varies between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Along the horizontal axis.
    pub x: f64,
    /// Along the vertical axis.
    pub y: f64,
    /// The lowest and the highest y, of several seeds for instance: a band along a line, a whisker elsewhere.
    pub spread: Option<(f64, f64)>,
}

impl Point {
    /// The mean of several measurements at `x`, with the lowest and the highest of them. NaN, which is not drawn but
    /// counted, if there are none or one of them is NaN.
    pub fn of_seeds(x: f64, measured: &[f64]) -> Self {
        let y = measured.iter().sum::<f64>() / measured.len() as f64;
        let low = measured.iter().copied().fold(f64::INFINITY, f64::min);
        let high = measured.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Self { x, y, spread: (measured.len() > 1).then_some((low, high)) }
    }
}

impl From<(f64, f64)> for Point {
    fn from((x, y): (f64, f64)) -> Self {
        Self { x, y, spread: None }
    }
}

/// A line across the whole plot, with a label of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// Its direction.
    pub along: Along,
    /// Where it crosses the other axis.
    pub at: f64,
    /// What it stands for.
    pub label: String,
}

impl Reference {
    /// A horizontal line at the height `y`.
    pub fn horizontal(y: f64, label: impl Into<String>) -> Self {
        Self { along: Along::Horizontal, at: y, label: label.into() }
    }

    /// A vertical line at `x`.
    pub fn vertical(x: f64, label: impl Into<String>) -> Self {
        Self { along: Along::Vertical, at: x, label: label.into() }
    }
}

/// The direction of a reference line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Along {
    /// From left to right.
    Horizontal,
    /// From bottom to top.
    Vertical,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_every_value_once_and_tells_what_it_left_out() {
        let values = [0.0, 0.1, 0.5, 0.99, 1.0, -0.1, 1.1, f64::NAN, f64::INFINITY];
        let series = Series::histogram("g", &values, 2, (0.0, 1.0));
        let points: Vec<_> = series.points.iter().map(|point| (point.x, point.y)).collect();
        assert_eq!(points, [(0.0, 2.0), (0.5, 3.0), (1.0, 0.0)]);
        assert_eq!(series.skipped, 4);
    }

    #[test]
    fn a_histogram_over_nothing_skips_all() {
        for (bins, range) in [(0, (0.0, 1.0)), (3, (1.0, 1.0)), (3, (f64::NAN, 1.0)), (3, (2.0, 1.0))] {
            let series = Series::histogram("g", &[0.5, 1.0], bins, range);
            assert_eq!((series.points.len(), series.skipped), (0, 2));
        }
    }

    #[test]
    fn seeds_give_their_mean_and_their_ends() {
        assert_eq!(
            Point::of_seeds(1.0, &[3.0, 1.0, 2.0]),
            Point { x: 1.0, y: 2.0, spread: Some((1.0, 3.0)) }
        );
        assert_eq!(Point::of_seeds(1.0, &[3.0]), Point { x: 1.0, y: 3.0, spread: None });
        assert!(Point::of_seeds(1.0, &[]).y.is_nan());
        assert!(Point::of_seeds(1.0, &[1.0, f64::NAN]).y.is_nan());
    }
}
