//! The sheet that the plotting library draws on. Its own SVG backend knows neither dashes nor groups nor classes nor what a screen
//! reader needs, and places everything on whole pixels.

use std::fmt::{self, Write};

use plotters_backend::text_anchor::{HPos, VPos};
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind,
    FontTransform,
};

use super::ink::Ink;
use crate::escape::Xml;
use crate::text;

/// Steps of the library's coordinates in a unit of the drawing: it counts in whole numbers, curves need finer ones.
pub(crate) const FINE: i32 = 10;

/// Elements of an SVG, in groups of those with the same ink.
pub(crate) struct Canvas<'a> {
    out: &'a mut String,
    size: (u32, u32),
    id: &'a str,
    ink: Option<Ink>,
}

impl<'a> Canvas<'a> {
    /// A canvas of `size`, in steps. Elements are appended to `out`.
    pub(crate) fn new(out: &'a mut String, size: (u32, u32), id: &'a str) -> Self {
        Self { out, size, id, ink: None }
    }

    fn element(
        &mut self,
        colour: BackendColor,
        write: impl FnOnce(&mut String, Ink) -> fmt::Result,
    ) -> Result<(), DrawingErrorKind<fmt::Error>> {
        let ink = Ink::decode(colour.rgb);
        let draw = || {
            if self.ink != Some(ink) {
                self.close();
                ink.open(self.out, self.id)?;
                self.ink = Some(ink);
            }
            write(self.out, ink)
        };
        draw().map_err(DrawingErrorKind::DrawingError)
    }

    fn close(&mut self) {
        if self.ink.take().is_some() {
            self.out.push_str("</g>\n");
        }
    }
}

/// A coordinate in units.
struct Units(i32);

impl fmt::Display for Units {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, steps) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let fine = FINE.unsigned_abs();
        write!(out, "{sign}{}", steps / fine)?;
        if steps.is_multiple_of(fine) { Ok(()) } else { write!(out, ".{}", steps % fine) }
    }
}

fn points(out: &mut String, points: impl IntoIterator<Item = BackendCoord>) -> fmt::Result {
    let mut last = None;
    for (x, y) in points {
        // Curves are finer than the steps in places.
        if last == Some((x, y)) {
            continue;
        }
        let space = if last.is_some() { " " } else { "" };
        write!(out, "{space}{},{}", Units(x), Units(y))?;
        last = Some((x, y));
    }
    Ok(())
}

impl DrawingBackend for Canvas<'_> {
    type ErrorType = fmt::Error;

    fn get_size(&self) -> (u32, u32) {
        self.size
    }

    fn ensure_prepared(&mut self) -> Result<(), DrawingErrorKind<fmt::Error>> {
        Ok(())
    }

    fn present(&mut self) -> Result<(), DrawingErrorKind<fmt::Error>> {
        self.close();
        Ok(())
    }

    fn draw_pixel(
        &mut self,
        at: BackendCoord,
        colour: BackendColor,
    ) -> Result<(), DrawingErrorKind<fmt::Error>> {
        self.draw_rect(at, (at.0 + FINE, at.1 + FINE), &colour, true)
    }

    fn draw_line<S: BackendStyle>(
        &mut self,
        from: BackendCoord,
        to: BackendCoord,
        style: &S,
    ) -> Result<(), DrawingErrorKind<fmt::Error>> {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(Units);
        self.element(style.color(), |out, _| {
            writeln!(out, "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>")
        })
    }

    fn draw_rect<S: BackendStyle>(
        &mut self,
        upper_left: BackendCoord,
        bottom_right: BackendCoord,
        style: &S,
        _fill: bool,
    ) -> Result<(), DrawingErrorKind<fmt::Error>> {
        let (left, right) = (upper_left.0.min(bottom_right.0), upper_left.0.max(bottom_right.0));
        let (top, bottom) = (upper_left.1.min(bottom_right.1), upper_left.1.max(bottom_right.1));
        let [x, y, width, height] = [left, top, right - left, bottom - top].map(Units);
        self.element(style.color(), |out, _| {
            writeln!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"/>")
        })
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Result<(), DrawingErrorKind<fmt::Error>> {
        self.element(style.color(), |out, _| {
            out.push_str("<polyline points=\"");
            points(out, path)?;
            out.push_str("\"/>\n");
            Ok(())
        })
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(
        &mut self,
        path: I,
        style: &S,
    ) -> Result<(), DrawingErrorKind<fmt::Error>> {
        self.element(style.color(), |out, _| {
            out.push_str("<polygon points=\"");
            points(out, path)?;
            out.push_str("\"/>\n");
            Ok(())
        })
    }

    fn draw_circle<S: BackendStyle>(
        &mut self,
        (x, y): BackendCoord,
        radius: u32,
        style: &S,
        _fill: bool,
    ) -> Result<(), DrawingErrorKind<fmt::Error>> {
        let [x, y, radius] = [x, y, radius.cast_signed()].map(Units);
        self.element(style.color(), |out, _| writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\"/>"))
    }

    fn draw_text<S: BackendTextStyle>(
        &mut self,
        text: &str,
        style: &S,
        (x, y): BackendCoord,
    ) -> Result<(), DrawingErrorKind<fmt::Error>> {
        if text.is_empty() {
            return Ok(());
        }
        let anchor = style.anchor();
        let along = match anchor.h_pos {
            HPos::Left => "start",
            HPos::Center => "middle",
            HPos::Right => "end",
        };
        // Of the size: from the anchor down to the line that letters stand on. Attributes for that are not
        // understood everywhere.
        let down = match anchor.v_pos {
            VPos::Top => 0.8,
            VPos::Center => 0.35,
            VPos::Bottom => -0.2,
        };
        self.element(style.color(), |out, ink| {
            let base = Units(y + (down * ink.size() * f64::from(FINE)).round() as i32);
            write!(out, "<text x=\"{}\" y=\"{base}\" text-anchor=\"{along}\"", Units(x))?;
            let angle = match style.transform() {
                FontTransform::Rotate90 => 90,
                FontTransform::Rotate180 => 180,
                FontTransform::Rotate270 => 270,
                _ => 0,
            };
            if angle > 0 {
                write!(out, " transform=\"rotate({angle} {} {})\"", Units(x), Units(y))?;
            }
            writeln!(out, ">{}</text>", Xml(text))
        })
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        text: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<fmt::Error>> {
        let size = Ink::decode(style.color().rgb).size() * f64::from(FINE);
        Ok((text::width(text, size) as u32, size as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_written_as_units() {
        let written: Vec<_> = [0, 5, -5, 10, 123, -1230].map(|steps| Units(steps).to_string()).into();
        assert_eq!(written, ["0", "0.5", "-0.5", "1", "12.3", "-123"]);
    }
}
