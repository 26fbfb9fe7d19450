//! What of a plot can be drawn, and over which ranges.

use super::ink::{Look, looks};
use super::ruler::{Ruler, has_place};
use crate::{Along, Axis, Kind, Plot, Point, Scale};

/// A line with more points than this has several of them on a pixel.
const POINTS: usize = 1500;

/// A series, as far as it can be drawn.
pub(crate) struct Curve<'a> {
    pub(crate) name: &'a str,
    pub(crate) law: bool,
    pub(crate) look: Look,
    /// Points without a gap between them.
    pub(crate) runs: Vec<Vec<Point>>,
}

impl Curve<'_> {
    pub(crate) fn points(&self) -> impl Iterator<Item = &Point> {
        self.runs.iter().flatten()
    }
}

/// A plot's series, and what is missing in them.
pub(crate) struct Curves<'a> {
    pub(crate) all: Vec<Curve<'a>>,
    /// Values that have no place on the axes.
    pub(crate) unfit: usize,
    /// Points outside of a fixed range.
    pub(crate) outside: usize,
    /// Names along the horizontal axis, if it has any.
    pub(crate) names: Vec<String>,
}

impl<'a> Curves<'a> {
    pub(crate) fn of(plot: &'a Plot) -> Self {
        // Bars stand side by side whatever their x are: without names, the values are the names.
        let mut places = Vec::new();
        if plot.kind == Kind::Bars && plot.x.categories.is_empty() {
            let values = plot.series.iter().flat_map(|series| &series.points).map(|point| point.x);
            places.extend(values.filter(|x| has_place(plot.x.scale, *x)));
            places.sort_by(f64::total_cmp);
            places.dedup();
        }
        let names = if places.is_empty() {
            plot.x.categories.clone()
        } else {
            places.iter().map(|place| crate::text::number(*place, 4)).collect()
        };
        let mut curves = Self { all: Vec::new(), unfit: 0, outside: 0, names };
        for (series, look) in plot.series.iter().zip(looks(&plot.series)) {
            let mut runs = vec![Vec::new()];
            for point in &series.points {
                match curves.fit(plot, &places, point) {
                    Fit::Good(point) => runs.last_mut().into_iter().for_each(|run| run.push(point)),
                    Fit::Outside(point) => {
                        // A formula goes on for ever.
                        curves.outside += usize::from(!series.law);
                        runs.last_mut().into_iter().for_each(|run| run.push(point));
                    }
                    Fit::None => {
                        curves.unfit += 1;
                        runs.push(Vec::new());
                    }
                }
            }
            curves.unfit += series.skipped;
            runs.retain(|run| !run.is_empty());
            if plot.kind == Kind::Lines || series.law {
                runs.iter_mut().for_each(thin);
            }
            curves.all.push(Curve { name: &series.name, law: series.law, look, runs });
        }
        curves
    }

    fn fit(&self, plot: &Plot, places: &[f64], point: &Point) -> Fit {
        let standing = matches!(plot.kind, Kind::Bars | Kind::Histogram);
        // A bar of height zero is on a logarithmic axis at the foot of it.
        let y_fits = has_place(plot.y.scale, point.y)
            || (standing && point.y <= 0.0 && has_place(Scale::Linear, point.y));
        if !(has_place(self.x_scale(plot), point.x) && y_fits) {
            return Fit::None;
        }
        let x =
            if places.is_empty() { point.x } else { places.partition_point(|place| *place < point.x) as f64 };
        let spread = point
            .spread
            .filter(|(low, high)| has_place(Scale::Linear, *low) && has_place(Scale::Linear, *high));
        let spread = spread.map(|(low, high)| (low.min(high), low.max(high)));
        let point = Point { x, spread, ..*point };
        let named = self.names.is_empty() || (-0.5..=self.names.len() as f64 - 0.5).contains(&x);
        if named && within(plot.x.range, x) && within(plot.y.range, point.y) {
            Fit::Good(point)
        } else {
            Fit::Outside(point)
        }
    }

    fn x_scale(&self, plot: &Plot) -> Scale {
        if self.names.is_empty() { plot.x.scale } else { Scale::Linear }
    }

    /// The horizontal axis.
    pub(crate) fn x_ruler(&self, plot: &Plot, fits: impl Fn(&Ruler) -> bool) -> Ruler {
        if !self.names.is_empty() {
            return Ruler::names(self.names.len());
        }
        let seen = |point: &&Point| within(plot.y.range, point.y);
        let values = self.all.iter().flat_map(Curve::points).filter(seen).map(|point| point.x);
        let (low, high) = extent(values.chain(references(plot, Along::Vertical)), plot.x.scale);
        let margin = if plot.kind == Kind::Histogram { 0.0 } else { 0.02 };
        ruler(&plot.x, (low, high), margin, false, fits)
    }

    /// The vertical axis. `headroom` is what labels above the highest bar need, as a part of the axis.
    pub(crate) fn y_ruler(&self, plot: &Plot, headroom: f64, fits: impl Fn(&Ruler) -> bool) -> Ruler {
        let ends =
            |point: &Point| [Some(point.y), point.spread.map(|ends| ends.0), point.spread.map(|ends| ends.1)];
        let seen = |point: &&Point| within(plot.x.range, point.x);
        let values = self.all.iter().flat_map(Curve::points).filter(seen).flat_map(ends).flatten();
        let (mut low, mut high) = extent(values.chain(references(plot, Along::Horizontal)), plot.y.scale);
        let standing = matches!(plot.kind, Kind::Bars | Kind::Histogram);
        if plot.y.scale == Scale::Log {
            // The lowest bar must be seen.
            low = if standing { low / 2.0 } else { low };
            return ruler(&plot.y, (low, high * (high / low).powf(headroom)), 0.04, false, fits);
        }
        // Zero belongs to bars, and to what comes near it.
        if standing || (low > 0.0 && low < 0.4 * high) {
            low = low.min(0.0);
        }
        if standing || (high < 0.0 && high > 0.4 * low) {
            high = high.max(0.0);
        }
        high += (high - low) * headroom;
        ruler(&plot.y, (low, high), 0.0, true, fits)
    }
}

fn within(range: Option<(f64, f64)>, value: f64) -> bool {
    range.is_none_or(|(low, high)| (low..=high).contains(&value))
}

enum Fit {
    Good(Point),
    Outside(Point),
    None,
}

fn references(plot: &Plot, along: Along) -> impl Iterator<Item = f64> {
    plot.references.iter().filter(move |reference| reference.along == along).map(|reference| reference.at)
}

/// The lowest and the highest of those that have a place; from 0 to 1 (from 1 to 10) if there is none.
fn extent(values: impl Iterator<Item = f64>, scale: Scale) -> (f64, f64) {
    let ends =
        values.filter(|value| has_place(scale, *value)).fold(None, |ends: Option<(f64, f64)>, value| {
            Some(ends.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
        });
    ends.unwrap_or(if scale == Scale::Linear { (0.0, 1.0) } else { (1.0, 10.0) })
}

fn ruler(
    axis: &Axis,
    found: (f64, f64),
    margin: f64,
    end_at_ticks: bool,
    fits: impl Fn(&Ruler) -> bool,
) -> Ruler {
    let (low, high) = axis.range.unwrap_or(found);
    let (margin, end_at_ticks) = if axis.range.is_some() { (0.0, false) } else { (margin, end_at_ticks) };
    match axis.scale {
        Scale::Linear => {
            let more = (high - low) * margin;
            Ruler::linear(low - more, high + more, end_at_ticks, fits)
        }
        Scale::Log => {
            let more = (high / low).powf(margin);
            Ruler::log(low / more, high * more, fits)
        }
    }
}

/// Leaves out points of a long line that fall on the same pixel, and keeps those that stick out: the line looks the same. A line
/// that goes back and forth stays as it is.
fn thin(run: &mut Vec<Point>) {
    if run.len() <= POINTS || !run.is_sorted_by(|one, other| one.x <= other.x) {
        return;
    }
    let size = run.len().div_ceil(POINTS / 4);
    let low = |point: &Point| point.spread.map_or(point.y, |ends| ends.0);
    let high = |point: &Point| point.spread.map_or(point.y, |ends| ends.1);
    let mut kept = Vec::new();
    for (index, chunk) in run.chunks(size).enumerate() {
        let lowest = (0..chunk.len()).min_by(|a, b| low(&chunk[*a]).total_cmp(&low(&chunk[*b])));
        let highest = (0..chunk.len()).max_by(|a, b| high(&chunk[*a]).total_cmp(&high(&chunk[*b])));
        let mut of_chunk: Vec<_> =
            [Some(0), lowest, highest, Some(chunk.len() - 1)].into_iter().flatten().collect();
        of_chunk.sort_unstable();
        of_chunk.dedup();
        kept.extend(of_chunk.into_iter().map(|at| index * size + at));
    }
    *run = kept.into_iter().map(|at| run[at]).collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Series;

    fn plot(kind: Kind, x: Axis, y: Axis, points: &[(f64, f64)]) -> Plot {
        Plot::new("p", "p", kind, x, y).with(Series::new("s", points.iter().copied()))
    }

    #[test]
    fn what_has_no_place_is_counted_and_leaves_a_gap() {
        let points = [
            (1.0, 1.0),
            (2.0, f64::NAN),
            (3.0, f64::INFINITY),
            (f64::NAN, 1.0),
            (4.0, 0.0),
            (5.0, 2.0),
            (6.0, 3.0),
        ];
        let linear = plot(Kind::Lines, Axis::linear(""), Axis::linear(""), &points);
        let curves = Curves::of(&linear);
        assert_eq!((curves.unfit, curves.outside), (3, 0));
        assert_eq!(curves.all[0].runs.iter().map(Vec::len).collect::<Vec<_>>(), [1, 3]);
        let log = plot(Kind::Lines, Axis::linear(""), Axis::log(""), &points);
        assert_eq!(Curves::of(&log).unfit, 4);
        let bars = plot(Kind::Bars, Axis::linear(""), Axis::log(""), &points);
        assert_eq!(Curves::of(&bars).unfit, 3);
    }

    #[test]
    fn points_outside_of_a_fixed_range_are_counted() {
        let points = [(1.0, 1.0), (2.0, 5.0), (9.0, 1.0)];
        let plot = plot(
            Kind::Lines,
            Axis::linear("").between(0.0, 5.0),
            Axis::linear("").between(0.0, 2.0),
            &points,
        );
        let curves = Curves::of(&plot);
        assert_eq!((curves.unfit, curves.outside), (0, 2));
        let ruler = curves.y_ruler(&plot, 0.0, |_| true);
        assert_eq!((ruler.low, ruler.high), (0.0, 2.0));
        // An axis without a range of its own has that of what is seen.
        let free = Plot { x: Axis::linear("").between(0.0, 1.5), y: Axis::linear(""), ..plot };
        assert!(Curves::of(&free).y_ruler(&free, 0.0, |_| true).high < 1.1);
    }

    #[test]
    fn bars_without_names_stand_at_their_values_in_order() {
        let plot =
            plot(Kind::Bars, Axis::linear(""), Axis::linear(""), &[(15.0, 1.0), (1.0, 2.0), (7.0, 3.0)]);
        let curves = Curves::of(&plot);
        assert_eq!(curves.names, ["1", "7", "15"]);
        assert_eq!(curves.all[0].points().map(|point| point.x).collect::<Vec<_>>(), [2.0, 0.0, 1.0]);
        assert_eq!(curves.y_ruler(&plot, 0.0, |_| true).low, 0.0);
    }

    #[test]
    fn a_thinned_line_keeps_its_ends_and_its_peaks() {
        let mut points: Vec<_> = (0..100_000).map(|x| (f64::from(x), f64::from(x % 7))).collect();
        points[54_321].1 = 99.0;
        points[12_345].1 = -99.0;
        let plot = plot(Kind::Lines, Axis::linear(""), Axis::linear(""), &points);
        let curves = Curves::of(&plot);
        let kept: Vec<_> = curves.all[0].points().map(|point| (point.x, point.y)).collect();
        assert!(kept.len() <= POINTS && kept.is_sorted());
        for point in [points[0], points[99_999], points[54_321], points[12_345]] {
            assert!(kept.contains(&point));
        }
    }
}
