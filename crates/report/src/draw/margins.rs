//! All that is outside of the axes: title, labels, legend, notes.

use plotters::element::{PathElement, Rectangle};
use plotters::style::FontTransform;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::frame::{Entry, Frame, LINE, Names, PAD, SAMPLE, Sample, TICK};
use super::ink::{Ink, Look, Role, WORDS};
use super::pen::marker;
use super::{Failure, Sheet, filled, line, steps, words};
use crate::Kind;

pub(crate) fn draw(sheet: &Sheet<'_>, kind: Kind, frame: &Frame) -> Result<(), Failure> {
    for (role, lines) in
        [(Role::Title, &frame.title), (Role::Words, &frame.y_label), (Role::Notes, &frame.notes)]
    {
        for (y, text) in lines {
            line(sheet, role, text, (PAD, *y), HPos::Left)?;
        }
    }
    for (y, text) in &frame.x_label {
        line(sheet, Role::Words, text, ((frame.left + frame.right) / 2.0, *y), HPos::Center)?;
    }
    names(sheet, frame)?;
    frame.legend.iter().try_for_each(|entry| legend(sheet, kind, entry))
}

/// Names of places along the horizontal axis.
fn names(sheet: &Sheet<'_>, frame: &Frame) -> Result<(), Failure> {
    let across = |index: usize| frame.left + frame.x.place(index as f64) * (frame.right - frame.left);
    let top = frame.bottom + 2.0 * TICK;
    match &frame.names {
        Names::Level { role, lines } => {
            for (index, lines) in lines.iter().enumerate() {
                for (row, text) in lines.iter().enumerate() {
                    let y = top + WORDS * LINE * (row as f64 + 0.5);
                    line(sheet, *role, text, (across(index), y), HPos::Center)?;
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
    Ok(())
}

/// An entry of the legend: what the series looks like, and its name.
fn legend(sheet: &Sheet<'_>, kind: Kind, entry: &Entry) -> Result<(), Failure> {
    let Some((middle, _)) = entry.lines.first() else { return Ok(()) };
    let (left, right) = (entry.x, entry.x + SAMPLE);
    let stroke = |role: Role, look: Look, y: f64| {
        let ends = vec![(steps(left), steps(y)), (steps(right), steps(y))];
        sheet.draw(&PathElement::new(ends, Ink::of(role, look).colour()))
    };
    let area = |role: Role, look: Look| {
        let corners = [(steps(left), steps(middle - 5.5)), (steps(right), steps(middle + 5.5))];
        sheet.draw(&Rectangle::new(corners, filled(role, look)))
    };
    let mark = |look: Look| marker(sheet, ((left + right) / 2.0, *middle), look);
    match (entry.sample, kind) {
        (Sample::Reference, _) => stroke(Role::Reference, Look::default(), *middle)?,
        (Sample::Law(look), _) => stroke(Role::Law, look, *middle)?,
        (Sample::Measured(look), Kind::Lines) => {
            stroke(Role::Line, look, *middle)?;
            mark(look)?;
        }
        (Sample::Measured(look), Kind::Points) => mark(look)?,
        (Sample::Measured(look), Kind::Bars) => area(Role::Bar, look)?,
        (Sample::Measured(look), Kind::Histogram) => {
            area(Role::Band, look)?;
            stroke(Role::Line, look, middle - 5.5)?;
        }
    }
    entry.lines.iter().try_for_each(|(y, text)| line(sheet, Role::Words, text, (right + 6.0, *y), HPos::Left))
}
