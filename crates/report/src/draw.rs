//! A plot as SVG. The plotting library places values on the sheet, draws the mesh and hands down elements; what they look like
//! and how they are written is in `canvas` and `ink`.
//!
//! One text serves the file and the page: its colours are those of white paper, its classes let the page's style sheet change
//! what depends on the theme.

mod canvas;
mod curves;
mod describe;
mod frame;
mod ink;
mod labels;
mod ruler;
mod shapes;

use std::fmt::{self, Write};

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use self::canvas::{Canvas, FINE};
use self::curves::{Curve, Curves};
use self::frame::{Entry, Frame, Names, PAD, SAMPLE, TICK, WIDTH};
use self::ink::{Ink, Look, NOTES, Role, WORDS};
use self::labels::{Drawn, Place};
use self::ruler::Ruler;
pub(crate) use self::ruler::has_place;
use crate::escape::Xml;
use crate::{Along, Error, Kind, Plot, Point, text};

type Failure = DrawingAreaErrorKind<fmt::Error>;
type Area<'a> = DrawingArea<Canvas<'a>, Cartesian2d<Ruler, Ruler>>;
type Sheet<'a> = DrawingArea<Canvas<'a>, Shift>;

/// Radius of markers.
const MARKER: f64 = 3.6;
/// Up to so many points of a line have a marker each.
const MARKERS: usize = 16;
/// The part of a place on the axis that its bars take.
const BARS: f64 = 0.8;

/// Draws a plot. `id` begins all names in it, so that several plots can stand on one page.
pub(crate) fn svg(plot: &Plot, id: &str) -> Result<String, Error> {
    let curves = Curves::of(plot);
    let notes = describe::notes(plot, &curves);
    let frame = Frame::new(plot, &curves, &notes);
    let mut out = String::new();
    let failed = |reason: String| Error::Draw { plot: id.to_owned(), reason };
    open(&mut out, plot, id, &curves, &frame, &notes).map_err(|error| failed(error.to_string()))?;
    let size = (steps(WIDTH).cast_unsigned(), steps(frame.height).cast_unsigned());
    let sheet = Canvas::new(&mut out, size, id, curves.outside > 0).into_drawing_area();
    let drawn = paint(&sheet, plot, &curves, &frame).and_then(|()| sheet.present());
    drop(sheet);
    drawn.map_err(|error| failed(error.to_string()))?;
    out.push_str("</svg>\n");
    Ok(out)
}

/// The start of the file: what it is, in words, and what elements refer to.
fn open(
    out: &mut String,
    plot: &Plot,
    id: &str,
    curves: &Curves<'_>,
    frame: &Frame,
    notes: &[String],
) -> fmt::Result {
    let height = frame.height;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" id=\"{id}\" class=\"plot\" role=\"img\" \
         aria-labelledby=\"{id}.title {id}.desc\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\">"
    )?;
    let description = describe::description(plot, curves, notes);
    writeln!(out, "<title id=\"{id}.title\">{}</title>", Xml(&plot.title))?;
    writeln!(out, "<desc id=\"{id}.desc\">{}</desc>", Xml(&description))?;
    let hatched: Vec<_> = curves.all.iter().filter(|curve| !curve.law).map(|curve| curve.look).collect();
    if plot.kind == Kind::Bars || curves.outside > 0 {
        out.push_str("<defs>\n");
        if plot.kind == Kind::Bars {
            ink::hatchings(out, id, &hatched)?;
        }
        if curves.outside > 0 {
            let (width, depth) = (frame.right - frame.left, frame.bottom - frame.top);
            writeln!(
                out,
                "<clipPath id=\"{id}.inside\"><rect x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{depth:.1}\"/></clipPath>",
                frame.left, frame.top
            )?;
        }
        out.push_str("</defs>\n");
    }
    Ok(())
}

fn paint(sheet: &Sheet<'_>, plot: &Plot, curves: &Curves<'_>, frame: &Frame) -> Result<(), Failure> {
    let whole = [(0, 0), (steps(WIDTH), steps(frame.height))];
    sheet.draw(&Rectangle::new(whole, filled(Role::Paper, Look::default())))?;
    let mut chart = ChartBuilder::on(sheet)
        .margin_top(steps(frame.top))
        .margin_right(steps(WIDTH - frame.right))
        .margin_bottom(steps(PAD))
        .set_label_area_size(LabelAreaPosition::Left, steps(frame.left))
        .set_label_area_size(LabelAreaPosition::Bottom, steps(frame.height - frame.bottom - PAD))
        .build_cartesian_2d(frame.x.clone(), frame.y.clone())?;
    let mut mesh = chart.configure_mesh();
    if !curves.names.is_empty() {
        mesh.disable_x_mesh();
    }
    mesh.light_line_style(Ink::new(Role::Fine).colour())
        .bold_line_style(Ink::new(Role::Grid).colour())
        .axis_style(Ink::new(Role::Axis).colour())
        .set_all_tick_mark_size(steps(TICK))
        .label_style(words(Role::Words))
        .x_label_formatter(&|at| frame.x.label(*at))
        .y_label_formatter(&|at| frame.y.label(*at))
        .draw()?;

    let area = chart.plotting_area();
    let mut drawn = Drawn::nothing();
    for reference in &plot.references {
        let (from, to) = match reference.along {
            Along::Horizontal if frame.y.contains(reference.at) => {
                ((frame.x.low, reference.at), (frame.x.high, reference.at))
            }
            Along::Vertical if frame.x.contains(reference.at) => {
                ((reference.at, frame.y.low), (reference.at, frame.y.high))
            }
            _ => continue,
        };
        area.draw(&PathElement::new(vec![from, to], Ink::new(Role::Reference).colour()))?;
    }
    let standing: Vec<_> = curves.all.iter().filter(|curve| !curve.law).collect();
    for (index, curve) in curves.all.iter().enumerate() {
        match plot.kind {
            _ if curve.law => lines(area, curve, Role::Law, &mut drawn)?,
            Kind::Lines => {
                bands(area, curve, &frame.y)?;
                lines(area, curve, Role::Line, &mut drawn)?;
                markers(sheet, area, curve, frame, Some((index, curves.all.len())))?;
            }
            Kind::Points => {
                whiskers(area, curve, &frame.y, 0.0)?;
                markers(sheet, area, curve, frame, None)?;
                curve.points().for_each(|point| drawn.line(&[place(area, point.x, point.y)]));
            }
            Kind::Bars => {
                let index = standing.iter().position(|other| std::ptr::eq(*other, curve)).unwrap_or(0);
                bars(area, curve, (index, standing.len()), &frame.y, &mut drawn)?;
            }
            Kind::Histogram => steps_of(area, curve, &frame.y, &mut drawn)?,
        }
    }
    if plot.kind == Kind::Bars {
        heights(sheet, area, &standing, frame, &mut drawn)?;
    }
    reference_labels(sheet, area, plot, frame, &mut drawn)?;
    margins(sheet, plot, frame)
}

/// A line through each run, as it is in the legend.
fn lines(area: &Area<'_>, curve: &Curve<'_>, role: Role, drawn: &mut Drawn) -> Result<(), Failure> {
    for run in &curve.runs {
        let points: Vec<_> = run.iter().map(|point| (point.x, point.y)).collect();
        drawn.line(&points.iter().map(|(x, y)| place(area, *x, *y)).collect::<Vec<_>>());
        if points.len() > 1 {
            area.draw(&PathElement::new(points, Ink::of(role, curve.look).colour()))?;
        }
    }
    Ok(())
}

/// The area between the lowest and the highest.
fn bands(area: &Area<'_>, curve: &Curve<'_>, y: &Ruler) -> Result<(), Failure> {
    for run in &curve.runs {
        for part in run.split(|point| point.spread.is_none()).filter(|part| part.len() > 1) {
            let end = |high: bool| {
                move |point: &Point| {
                    let (lowest, highest) = point.spread.unwrap_or((point.y, point.y));
                    (point.x, if high { highest } else { lowest }.max(y.low))
                }
            };
            let outline: Vec<_> =
                part.iter().map(end(true)).chain(part.iter().rev().map(end(false))).collect();
            area.draw(&Polygon::new(outline, filled(Role::Band, curve.look)))?;
        }
    }
    Ok(())
}

/// A line from the lowest to the highest, with a bar at each end. `shift` moves it sideways, in units of the axis.
fn whiskers(area: &Area<'_>, curve: &Curve<'_>, y: &Ruler, shift: f64) -> Result<(), Failure> {
    let ink = Ink::of(Role::Whisker, curve.look).colour();
    for point in curve.points() {
        let Some((lowest, highest)) = point.spread else { continue };
        let (lowest, highest) = (lowest.max(y.low), highest.max(y.low));
        let half = steps(3.5);
        area.draw(&PathElement::new(vec![(point.x + shift, lowest), (point.x + shift, highest)], ink))?;
        for end in [lowest, highest] {
            let cap =
                EmptyElement::at((point.x + shift, end)) + PathElement::new(vec![(-half, 0), (half, 0)], ink);
            area.draw(&cap)?;
        }
    }
    Ok(())
}

/// Markers of all points; of a line with many points, of some: those of the series `index` of `count` lie between the others'.
fn markers(
    sheet: &Sheet<'_>,
    area: &Area<'_>,
    curve: &Curve<'_>,
    frame: &Frame,
    turn: Option<(usize, usize)>,
) -> Result<(), Failure> {
    let length: usize = curve.runs.iter().map(Vec::len).sum();
    let every = if turn.is_some() && length > MARKERS { length.div_ceil(MARKERS / 2) } else { 1 };
    let first = turn.map_or(0, |(index, count)| every * (2 * index + 1) / (2 * count.max(1)));
    let mut index = 0;
    for run in &curve.runs {
        for point in run {
            // A point by itself has no line to be seen by.
            let shown = every == 1 || index % every == first || run.len() == 1;
            index += 1;
            if shown && frame.x.contains(point.x) && frame.y.contains(point.y) {
                marker(sheet, place(area, point.x, point.y), curve.look)?;
            }
        }
    }
    Ok(())
}

fn marker(sheet: &Sheet<'_>, (x, y): (f64, f64), look: Look) -> Result<(), Failure> {
    let style = filled(Role::Mark, look);
    match shapes::outline(look.marker) {
        outline if outline.is_empty() => sheet.draw(&Circle::new((steps(x), steps(y)), steps(MARKER), style)),
        outline => {
            let corner = |(dx, dy): &(f64, f64)| (steps(x + dx * MARKER), steps(y + dy * MARKER));
            sheet.draw(&Polygon::new(outline.iter().map(corner).collect::<Vec<_>>(), style))
        }
    }
}

/// Bars of the series `index` of `count`, side by side.
fn bars(
    area: &Area<'_>,
    curve: &Curve<'_>,
    (index, count): (usize, usize),
    y: &Ruler,
    drawn: &mut Drawn,
) -> Result<(), Failure> {
    let foot = foot(y);
    let width = BARS / count.max(1) as f64;
    let shift = -BARS / 2.0 + width * index as f64;
    for point in curve.points() {
        let (left, right) = (point.x + shift + 0.02, point.x + shift + width - 0.02);
        let corners = [(left, point.y.max(y.low)), (right, foot)];
        area.draw(&Rectangle::new(corners, filled(Role::Bar, curve.look)))?;
        let middle = point.x + shift + width / 2.0;
        for x in [left, middle, right] {
            drawn.line(&[place(area, x, foot), place(area, x, point.y.max(y.low))]);
        }
    }
    whiskers(area, curve, y, shift + width / 2.0)
}

/// Writes above each bar how high it is, if there is room for all of them.
fn heights(
    sheet: &Sheet<'_>,
    area: &Area<'_>,
    curves: &[&Curve<'_>],
    frame: &Frame,
    drawn: &mut Drawn,
) -> Result<(), Failure> {
    let width = BARS / curves.len().max(1) as f64;
    let room = (frame.right - frame.left) * width / (frame.x.high - frame.x.low);
    let label = |point: &Point| text::number(point.y, 3);
    if curves
        .iter()
        .flat_map(|curve| curve.points())
        .any(|point| text::width(&label(point), NOTES) > room + 2.0)
    {
        return Ok(());
    }
    for (index, curve) in curves.iter().enumerate() {
        let shift = -BARS / 2.0 + width * (index as f64 + 0.5);
        for point in curve.points().filter(|point| frame.x.contains(point.x) && frame.y.contains(point.y)) {
            let below = point.y < 0.0;
            let (lowest, highest) = point.spread.unwrap_or((point.y, point.y));
            let end = if below { lowest } else { highest }.max(frame.y.low);
            let (x, y) = place(area, point.x + shift, end);
            let y = y + if below { 9.5 } else { -9.5 };
            let label = label(point);
            line(sheet, Role::Over, &label, (x, y), HPos::Center)?;
            drawn.label(&label, NOTES, Place { x: x - text::width(&label, NOTES) / 2.0, y });
        }
    }
    Ok(())
}

/// Steps from each point to the next, over a tinted area.
fn steps_of(area: &Area<'_>, curve: &Curve<'_>, y: &Ruler, drawn: &mut Drawn) -> Result<(), Failure> {
    let foot = foot(y);
    for run in &curve.runs {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let mut outline = vec![(first.x, foot)];
        for pair in run.windows(2) {
            let height = pair[0].y.max(y.low);
            outline.extend([(pair[0].x, height), (pair[1].x, height)]);
        }
        outline.push((last.x, foot));
        area.draw(&Polygon::new(outline.clone(), filled(Role::Band, curve.look)))?;
        drawn.line(&outline.iter().map(|(x, y)| place(area, *x, *y)).collect::<Vec<_>>());
        area.draw(&PathElement::new(outline, Ink::of(Role::Line, curve.look).colour()))?;
    }
    Ok(())
}

/// Where bars stand.
fn foot(y: &Ruler) -> f64 {
    match y.scale {
        crate::Scale::Linear => 0.0_f64.clamp(y.low, y.high),
        crate::Scale::Log => y.low,
    }
}

/// Labels of reference lines, beside them and where they cover least.
fn reference_labels(
    sheet: &Sheet<'_>,
    area: &Area<'_>,
    plot: &Plot,
    frame: &Frame,
    drawn: &mut Drawn,
) -> Result<(), Failure> {
    for reference in plot.references.iter().filter(|reference| !reference.label.trim().is_empty()) {
        let label = text::shorten(reference.label.trim(), NOTES, frame.right - frame.left - 12.0);
        let width = text::width(&label, NOTES);
        let near = NOTES * 0.8;
        let places: Vec<_> = match reference.along {
            Along::Horizontal => {
                let (_, y) = place(area, frame.x.low, reference.at);
                let middle = (frame.left + frame.right - width) / 2.0;
                let across = [frame.right - width - 5.0, frame.left + 6.0, middle];
                across.into_iter().flat_map(|x| [y - near, y + near].map(|y| Place { x, y })).collect()
            }
            Along::Vertical => {
                let (x, _) = place(area, reference.at, frame.y.low);
                let middle = (frame.top + frame.bottom) / 2.0;
                let along = [frame.top + near, middle, frame.bottom - near];
                along.into_iter().flat_map(|y| [x + 5.0, x - width - 5.0].map(|x| Place { x, y })).collect()
            }
        };
        let inside = |place: &Place| {
            place.x >= frame.left
                && place.x + width <= frame.right + 4.0
                && place.y - near >= frame.top - 4.0
                && place.y + near <= frame.bottom + 4.0
        };
        let inner: Vec<_> = places.iter().copied().filter(inside).collect();
        let on_axis = match reference.along {
            Along::Horizontal => frame.y.contains(reference.at),
            Along::Vertical => frame.x.contains(reference.at),
        };
        let Some(best) = drawn.best(&label, NOTES, if inner.is_empty() { &places } else { &inner }) else {
            continue;
        };
        if on_axis {
            line(sheet, Role::Over, &label, (best.x, best.y), HPos::Left)?;
            drawn.label(&label, NOTES, best);
        }
    }
    Ok(())
}

/// All that is outside of the axes.
fn margins(sheet: &Sheet<'_>, plot: &Plot, frame: &Frame) -> Result<(), Failure> {
    let middle = (frame.left + frame.right) / 2.0;
    for (y, text) in &frame.title {
        line(sheet, Role::Title, text, (PAD, *y), HPos::Left)?;
    }
    for (y, text) in &frame.y_label {
        line(sheet, Role::Words, text, (PAD, *y), HPos::Left)?;
    }
    for (y, text) in &frame.x_label {
        line(sheet, Role::Words, text, (middle, *y), HPos::Center)?;
    }
    for (y, text) in &frame.notes {
        line(sheet, Role::Notes, text, (PAD, *y), HPos::Left)?;
    }
    let across = |index: usize| frame.left + frame.x.place(index as f64) * (frame.right - frame.left);
    let top = frame.bottom + 2.0 * TICK;
    match &frame.names {
        Names::Level(names) => {
            for (index, lines) in names.iter().enumerate() {
                for (row, text) in lines.iter().enumerate() {
                    let y = top + WORDS * frame::LINE * (row as f64 + 0.5);
                    line(sheet, Role::Words, text, (across(index), y), HPos::Center)?;
                }
            }
        }
        Names::Upright(names) => {
            let style = words(Role::Words).transform(FontTransform::Rotate270);
            for (index, text) in names.iter().enumerate() {
                let style = style.pos(Pos::new(HPos::Right, VPos::Center));
                sheet.draw_text(text, &style, (steps(across(index)), steps(top)))?;
            }
        }
    }
    frame.legend.iter().try_for_each(|entry| sample(sheet, plot.kind, entry))
}

/// An entry of the legend: what the series looks like, and its name.
fn sample(sheet: &Sheet<'_>, kind: Kind, entry: &Entry) -> Result<(), Failure> {
    let Some((middle, _)) = entry.lines.first() else { return Ok(()) };
    let (left, right) = (entry.x, entry.x + SAMPLE);
    let square = [(steps(left), steps(middle - 5.5)), (steps(right), steps(middle + 5.5))];
    let stroke = |role, y| {
        let ends = vec![(steps(left), steps(y)), (steps(right), steps(y))];
        PathElement::new(ends, Ink::of(role, entry.look).colour())
    };
    match kind {
        _ if entry.law => sheet.draw(&stroke(Role::Law, *middle))?,
        Kind::Lines => {
            sheet.draw(&stroke(Role::Line, *middle))?;
            marker(sheet, ((left + right) / 2.0, *middle), entry.look)?;
        }
        Kind::Points => marker(sheet, ((left + right) / 2.0, *middle), entry.look)?,
        Kind::Bars => sheet.draw(&Rectangle::new(square, filled(Role::Bar, entry.look)))?,
        Kind::Histogram => {
            sheet.draw(&Rectangle::new(square, filled(Role::Band, entry.look)))?;
            sheet.draw(&stroke(Role::Line, middle - 5.5))?;
        }
    }
    for (y, text) in &entry.lines {
        line(sheet, Role::Words, text, (right + 6.0, *y), HPos::Left)?;
    }
    Ok(())
}

/// A line of text, around the middle of its height.
fn line(sheet: &Sheet<'_>, role: Role, text: &str, (x, y): (f64, f64), along: HPos) -> Result<(), Failure> {
    sheet.draw_text(text, &words(role).pos(Pos::new(along, VPos::Center)), (steps(x), steps(y)))
}

fn words(role: Role) -> TextStyle<'static> {
    let ink = Ink::new(role);
    let font = FontDesc::new(FontFamily::SansSerif, ink.size() * f64::from(FINE), FontStyle::Normal);
    font.color(&ink.colour())
}

fn filled(role: Role, look: Look) -> ShapeStyle {
    Ink::of(role, look).colour().filled()
}

/// Where a point of the plot is, in units.
fn place(area: &Area<'_>, x: f64, y: f64) -> (f64, f64) {
    let (x, y) = area.map_coordinate(&(x, y));
    (f64::from(x) / f64::from(FINE), f64::from(y) / f64::from(FINE))
}

fn steps(units: f64) -> i32 {
    (units * f64::from(FINE)).round() as i32
}
