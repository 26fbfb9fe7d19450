//! A plot in words: for who does not see it, and for what it does not show.

use super::curves::Curves;
use crate::{Along, Axis, Kind, Plot, Scale, text};

/// What the plot does not show.
pub(crate) fn notes(plot: &Plot, curves: &Curves<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if curves.all.iter().all(|curve| curve.runs.is_empty()) {
        notes.push("There is nothing to draw.".to_owned());
    }
    if curves.unfit > 0 {
        let log = plot.x.scale == Scale::Log || plot.y.scale == Scale::Log;
        let why = if log {
            "not finite, not positive on a logarithmic axis, or out of range"
        } else {
            "not finite, or out of range"
        };
        notes.push(format!("Not drawn: {} ({why}).", count(curves.unfit, "value")));
    }
    if curves.outside > 0 {
        notes.push(format!("Outside of the axes: {}.", count(curves.outside, "point")));
    }
    notes
}

/// What the plot shows.
pub(crate) fn description(plot: &Plot, curves: &Curves<'_>, notes: &[String]) -> String {
    let kind = match plot.kind {
        Kind::Lines => "Lines",
        Kind::Points => "Points",
        Kind::Bars => "Bars",
        Kind::Histogram => "Histogram",
    };
    let mut sentences =
        vec![format!("{kind}. Horizontal axis: {}. Vertical axis: {}.", axis(&plot.x), axis(&plot.y))];
    for curve in &curves.all {
        let law = if curve.law { ", a formula" } else { "" };
        let mut points = curve.points();
        let Some(first) = points.next() else {
            sentences.push(format!("{}{law}: nothing to draw.", curve.name));
            continue;
        };
        let last = points.last().unwrap_or(first);
        let lowest = curve.points().map(|point| point.y).fold(f64::INFINITY, f64::min);
        let highest = curve.points().map(|point| point.y).fold(f64::NEG_INFINITY, f64::max);
        let place = |x: f64| {
            let name = (x >= 0.0).then(|| curves.names.get(x as usize)).flatten();
            name.cloned().unwrap_or_else(|| text::number(x, 4))
        };
        sentences.push(format!(
            "{}{law}: {} at {}, {} at {}; lowest {}, highest {}.",
            curve.name,
            text::number(first.y, 4),
            place(first.x),
            text::number(last.y, 4),
            place(last.x),
            text::number(lowest, 4),
            text::number(highest, 4)
        ));
    }
    for reference in &plot.references {
        let along = match reference.along {
            Along::Horizontal => "Horizontal",
            Along::Vertical => "Vertical",
        };
        sentences.push(format!("{along} line at {}: {}.", text::number(reference.at, 4), reference.label));
    }
    sentences.extend_from_slice(notes);
    sentences.join(" ")
}

fn axis(axis: &Axis) -> String {
    let label = if axis.label.trim().is_empty() { "without a label" } else { axis.label.trim() };
    if axis.scale == Scale::Log { format!("{label}, logarithmic") } else { label.to_owned() }
}

fn count(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {what}{plural}", text::fixed(count as f64, 0))
}
