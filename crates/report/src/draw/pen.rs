//! All that is between the axes: series, reference lines and their labels.

use std::collections::HashSet;

use plotters::element::{Circle, PathElement, Polygon, Rectangle};
use plotters::style::text_anchor::HPos;

use super::clip;
use super::curves::{Curve, Curves};
use super::frame::Frame;
use super::ink::{Ink, Look, NOTES, OWN, Role};
use super::labels::{Drawn, Place};
use super::shapes::outline;
use super::{Failure, Sheet, filled, line, steps};
use crate::{Along, Kind, Plot, Point, Reference, Scale, text};

/// Radius of markers.
const MARKER: f64 = 3.6;
/// Up to so many points of a line have a marker each.
const MARKERS: usize = 16;
/// A line with more points is thin.
const MANY: usize = 250;
/// Places along a reference line that are tried for its label.
const PLACES: usize = 12;
/// The part of a place on the axis that its bars take.
const BARS: f64 = 0.8;
/// Half a whisker's end.
const CAP: f64 = 3.5;

/// Draws values where they belong, and remembers where that was.
pub(crate) struct Pen<'a, 'sheet> {
    sheet: &'a Sheet<'sheet>,
    frame: &'a Frame,
    drawn: Drawn,
}

impl<'a, 'sheet> Pen<'a, 'sheet> {
    pub(crate) fn new(sheet: &'a Sheet<'sheet>, frame: &'a Frame) -> Self {
        Self { sheet, frame, drawn: Drawn::nothing() }
    }

    pub(crate) fn draw(&mut self, plot: &Plot, curves: &Curves<'_>) -> Result<(), Failure> {
        let shown: Vec<_> = plot.references.iter().filter(|reference| self.frame.shows(reference)).collect();
        for reference in &shown {
            let (x, y) = (&self.frame.x, &self.frame.y);
            let ends = match reference.along {
                Along::Horizontal => [(x.low, reference.at), (x.high, reference.at)],
                Along::Vertical => [(reference.at, y.low), (reference.at, y.high)],
            };
            self.path(&ends.map(|(x, y)| self.place(x, y)), Role::Reference, Look::default())?;
        }
        let measured: Vec<_> = curves.all.iter().filter(|curve| !curve.law).collect();
        for (index, curve) in measured.iter().enumerate() {
            match plot.kind {
                Kind::Lines => {
                    self.bands(curve)?;
                    let thin = curve.points().count() > MANY;
                    self.lines(curve, if thin { Role::Thin } else { Role::Line })?;
                    self.markers(curve, Some((index, measured.len())))?;
                }
                Kind::Points => {
                    self.whiskers(curve, curve.look, 0.0)?;
                    self.markers(curve, None)?;
                }
                Kind::Bars => self.bars(curve, index, measured.len())?,
                Kind::Histogram => self.steps(curve)?,
            }
        }
        for law in curves.all.iter().filter(|curve| curve.law) {
            self.lines(law, Role::Law)?;
        }
        if plot.kind == Kind::Bars {
            // Labels of references are in the legend.
            return self.heights(&measured);
        }
        shown.into_iter().try_for_each(|reference| self.label(reference))
    }

    /// Where a point is on the axes, from 0 to 1. What a logarithmic axis has no place for is at its low end.
    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        let ruler = &self.frame.y;
        let y = if ruler.scale == Scale::Log && y <= 0.0 { ruler.low } else { y };
        // Rounding must not put what is on the edge outside of it.
        let snap = |at: f64| if (at - at.round()).abs() < 1e-9 { at.round() } else { at };
        (snap(self.frame.x.place(x)), snap(ruler.place(y)))
    }

    /// Where a place is on the sheet, in units.
    fn units(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let frame = self.frame;
        (frame.left + x * (frame.right - frame.left), frame.bottom - y * (frame.bottom - frame.top))
    }

    fn path(&mut self, places: &[(f64, f64)], role: Role, look: Look) -> Result<(), Failure> {
        for part in clip::line(places) {
            let units: Vec<_> = part.into_iter().map(|place| self.units(place)).collect();
            let corners: Vec<_> = units.iter().map(|(x, y)| (steps(*x), steps(*y))).collect();
            self.sheet.draw(&PathElement::new(corners, Ink::of(role, look).colour()))?;
            if role != Role::Reference {
                self.drawn.line(&units);
            }
        }
        Ok(())
    }

    fn fill(&self, places: Vec<(f64, f64)>, role: Role, look: Look) -> Result<(), Failure> {
        let units = clip::polygon(places).into_iter().map(|place| self.units(place));
        let corners: Vec<_> = units.map(|(x, y)| (steps(x), steps(y))).collect();
        if corners.len() < 3 {
            return Ok(());
        }
        self.sheet.draw(&Polygon::new(corners, filled(role, look)))
    }

    /// A line through each run.
    fn lines(&mut self, curve: &Curve<'_>, role: Role) -> Result<(), Failure> {
        for run in &curve.runs {
            let places: Vec<_> = run.iter().map(|point| self.place(point.x, point.y)).collect();
            self.path(&places, role, curve.look)?;
        }
        Ok(())
    }

    /// The area between the lowest and the highest.
    fn bands(&self, curve: &Curve<'_>) -> Result<(), Failure> {
        for run in &curve.runs {
            for part in run.split(|point| point.spread.is_none()).filter(|part| part.len() > 1) {
                let ends = part.iter().filter_map(|point| Some((point.x, point.spread?)));
                let lower = ends.clone().map(|(x, (lowest, _))| self.place(x, lowest));
                let upper = ends.rev().map(|(x, (_, highest))| self.place(x, highest));
                self.fill(lower.chain(upper).collect(), Role::Band, curve.look)?;
            }
        }
        Ok(())
    }

    /// A line from the lowest to the highest, with a bar at each end. `shift` moves it sideways, in units of the axis.
    fn whiskers(&mut self, curve: &Curve<'_>, look: Look, shift: f64) -> Result<(), Failure> {
        for point in curve.points() {
            let Some((lowest, highest)) = point.spread else { continue };
            let ends = [lowest, highest].map(|y| self.place(point.x + shift, y));
            self.path(&ends, Role::Whisker, look)?;
            for end in ends.into_iter().filter(|(x, y)| [x, y].iter().all(|at| (0.0..=1.0).contains(*at))) {
                let (x, y) = self.units(end);
                let cap = vec![(steps(x - CAP), steps(y)), (steps(x + CAP), steps(y))];
                self.sheet.draw(&PathElement::new(cap, Ink::of(Role::Whisker, look).colour()))?;
            }
        }
        Ok(())
    }

    /// Markers of all points; of a line with many points, of some: those of the series `index` of `count` lie between the others'.
    fn markers(&mut self, curve: &Curve<'_>, turn: Option<(usize, usize)>) -> Result<(), Failure> {
        let length: usize = curve.runs.iter().map(Vec::len).sum();
        let every = if turn.is_some() && length > MARKERS { length.div_ceil(MARKERS / 2) } else { 1 };
        let first = turn.map_or(0, |(index, count)| every * (2 * index + 1) / (2 * count.max(1)));
        let alone = curve.runs.iter().flat_map(|run| run.iter().map(|_| run.len() == 1));
        let mut seen = HashSet::new();
        for (index, (point, alone)) in curve.points().zip(alone).enumerate() {
            // A point by itself has no line to be seen by.
            let shown = every == 1 || index % every == first || alone;
            if shown && self.frame.x.contains(point.x) && self.frame.y.contains(point.y) {
                let at = self.units(self.place(point.x, point.y));
                // A cloud of points has thousands in the same places.
                if seen.insert((at.0.round() as i32, at.1.round() as i32)) {
                    self.drawn.line(&[at]);
                    marker(self.sheet, at, curve.look)?;
                }
            }
        }
        Ok(())
    }

    /// Bars of the series `index` of `count`, side by side.
    fn bars(&mut self, curve: &Curve<'_>, index: usize, count: usize) -> Result<(), Failure> {
        let width = BARS / count as f64;
        let shift = -BARS / 2.0 + width * index as f64;
        for point in curve.points().filter(|point| self.frame.x.contains(point.x)) {
            let top = self.place(point.x, point.y).1.clamp(0.0, 1.0);
            let [left, right] = [0.02, width - 0.02].map(|side| self.frame.x.place(point.x + shift + side));
            let corners = [(left, top), (right, self.foot())].map(|corner| self.units(corner));
            let corners = corners.map(|(x, y)| (steps(x), steps(y)));
            self.sheet.draw(&Rectangle::new(corners, filled(Role::Bar, curve.look)))?;
        }
        // Seen on the bar as well as above it.
        self.whiskers(curve, Look { colour: OWN, ..curve.look }, shift + width / 2.0)
    }

    /// Writes above each bar how high it is, if there is room for all of them.
    fn heights(&mut self, curves: &[&Curve<'_>]) -> Result<(), Failure> {
        let frame = self.frame;
        let width = BARS / curves.len().max(1) as f64;
        let room = (frame.right - frame.left) * width / (frame.x.high - frame.x.low) + 2.0;
        let label = |point: &Point| text::number(point.y, 3);
        let mut points = curves.iter().flat_map(|curve| curve.points());
        if points.any(|point| text::width(&label(point), NOTES) > room) {
            return Ok(());
        }
        for (index, curve) in curves.iter().enumerate() {
            let shift = -BARS / 2.0 + width * (index as f64 + 0.5);
            for point in curve.points().filter(|point| frame.x.contains(point.x)) {
                let down = point.y < 0.0;
                let (lowest, highest) = point.spread.unwrap_or((point.y, point.y));
                let (x, end) = self.place(point.x + shift, if down { lowest } else { highest });
                let (x, y) = self.units((x, end.clamp(0.0, 1.0)));
                line(
                    self.sheet,
                    Role::Over,
                    &label(point),
                    (x, y + if down { 9.5 } else { -9.5 }),
                    HPos::Center,
                )?;
            }
        }
        Ok(())
    }

    /// Steps from each point to the next, over a tinted area.
    fn steps(&mut self, curve: &Curve<'_>) -> Result<(), Failure> {
        let foot = self.foot();
        for run in &curve.runs {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let mut outline = vec![(self.place(first.x, first.y).0, foot)];
            for pair in run.windows(2) {
                outline.extend([pair[0].x, pair[1].x].map(|x| self.place(x, pair[0].y)));
            }
            outline.push((self.place(last.x, last.y).0, foot));
            self.fill(outline.clone(), Role::Band, curve.look)?;
            self.path(&outline, Role::Line, curve.look)?;
        }
        Ok(())
    }

    /// The height at which bars stand, from 0 to 1.
    fn foot(&self) -> f64 {
        let ruler = &self.frame.y;
        if ruler.scale == Scale::Log { 0.0 } else { ruler.place(0.0).clamp(0.0, 1.0) }
    }

    /// The label of a reference line: beside it, and where it covers least.
    fn label(&mut self, reference: &Reference) -> Result<(), Failure> {
        let frame = self.frame;
        let label = text::shorten(reference.label.trim(), NOTES, frame.right - frame.left - 12.0);
        if label.is_empty() {
            return Ok(());
        }
        let width = text::width(&label, NOTES);
        let near = NOTES * 0.8;
        let between = |first: f64, last: f64| {
            (0..=PLACES).map(move |part| first + (last - first) * part as f64 / PLACES as f64)
        };
        let places: Vec<_> = match reference.along {
            Along::Horizontal => {
                let (_, y) = self.units(self.place(frame.x.low, reference.at));
                let across = between(frame.right - width - 5.0, frame.left + 6.0);
                across.flat_map(|x| [y - near, y + near].map(|y| Place { x, y })).collect()
            }
            Along::Vertical => {
                let (x, _) = self.units(self.place(reference.at, frame.y.low));
                let along = between(frame.top + near, frame.bottom - near);
                along.flat_map(|y| [x + 5.0, x - width - 5.0].map(|x| Place { x, y })).collect()
            }
        };
        let inside = |place: &Place| {
            place.x >= frame.left
                && place.x + width <= frame.right + 4.0
                && place.y - near >= frame.top - 4.0
                && place.y + near <= frame.bottom + 4.0
        };
        let inner: Vec<_> = places.iter().copied().filter(inside).collect();
        let Some(best) = self.drawn.best(&label, NOTES, if inner.is_empty() { &places } else { &inner })
        else {
            return Ok(());
        };
        self.drawn.label(&label, NOTES, best);
        line(self.sheet, Role::Over, &label, (best.x, best.y), HPos::Left)
    }
}

/// A marker at a place on the sheet, in units.
pub(crate) fn marker(sheet: &Sheet<'_>, (x, y): (f64, f64), look: Look) -> Result<(), Failure> {
    let style = filled(Role::Mark, look);
    let outline = outline(look.marker);
    if outline.is_empty() {
        return sheet.draw(&Circle::new((steps(x), steps(y)), steps(MARKER), style));
    }
    let corners: Vec<_> =
        outline.iter().map(|(dx, dy)| (steps(x + dx * MARKER), steps(y + dy * MARKER))).collect();
    sheet.draw(&Polygon::new(corners, style))
}
