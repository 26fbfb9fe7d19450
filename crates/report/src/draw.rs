//! A plot as SVG. The plotting library draws the mesh and hands down elements; how they are written is in `canvas`, what they
//! look like in `ink`, and where they are in `frame` and `ruler`.
//!
//! One text serves the file and the page: its colours are those of white paper, its classes let the page's style sheet change
//! what depends on the theme.

mod canvas;
mod clip;
mod curves;
mod describe;
mod frame;
mod ink;
mod labels;
mod margins;
mod pen;
mod ruler;
mod shapes;

use std::fmt::{self, Write};

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use self::canvas::{Canvas, FINE};
use self::curves::Curves;
use self::frame::{Frame, PAD, TICK, WIDTH};
use self::ink::{Ink, Look, Role};
use self::pen::Pen;
pub(crate) use self::ruler::has_place;
use crate::escape::Xml;
use crate::{Error, Kind, Plot};

type Failure = DrawingAreaErrorKind<fmt::Error>;
type Sheet<'a> = DrawingArea<Canvas<'a>, Shift>;

/// Draws a plot. `id` begins all names in it, so that several plots can stand on one page.
pub(crate) fn svg(plot: &Plot, id: &str) -> Result<String, Error> {
    let curves = Curves::of(plot);
    let notes = describe::notes(plot, &curves);
    let frame = Frame::new(plot, &curves, &notes);
    let mut out = String::new();
    let failed = |reason: String| Error::Draw { plot: id.to_owned(), reason };
    open(&mut out, plot, id, &curves, &frame, &notes).map_err(|error| failed(error.to_string()))?;
    let size = (steps(WIDTH).cast_unsigned(), steps(frame.height).cast_unsigned());
    let sheet = Canvas::new(&mut out, size, id).into_drawing_area();
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
    if plot.kind == Kind::Bars {
        let bars = curves.all.iter().filter(|curve| !curve.law).map(|curve| curve.look);
        out.push_str("<defs>\n");
        ink::hatchings(out, id, bars)?;
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
    Pen::new(sheet, frame).draw(plot, curves)?;
    margins::draw(sheet, plot.kind, frame)
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

fn steps(units: f64) -> i32 {
    (units * f64::from(FINE)).round() as i32
}
