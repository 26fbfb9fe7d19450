//! Where everything goes on the sheet: from top to bottom, in units.

use super::curves::Curves;
use super::ink::{Ink, Look, NOTES, Role, TITLE, WORDS};
use super::ruler::Ruler;
use crate::{Along, Kind, Plot, Reference, text};

/// Width of the sheet. A telephone shows it at five sixths of that, so that letters of 13 units are as large as a small print.
pub(crate) const WIDTH: f64 = 400.0;
/// Around everything.
pub(crate) const PAD: f64 = 10.0;
/// Length of tick marks.
pub(crate) const TICK: f64 = 4.0;
/// Width of the sample of a series in the legend.
pub(crate) const SAMPLE: f64 = 32.0;
/// Distance of lines of text, in sizes of it.
pub(crate) const LINE: f64 = 1.3;

const HEIGHT: f64 = 205.0;
/// The longest name that is written upright below a bar.
const UPRIGHT: f64 = 130.0;

/// The layout of a plot.
pub(crate) struct Frame {
    pub(crate) height: f64,
    /// The area between the axes.
    pub(crate) left: f64,
    pub(crate) right: f64,
    pub(crate) top: f64,
    pub(crate) bottom: f64,
    /// Lines of text, each with the height of its middle.
    pub(crate) title: Vec<(f64, String)>,
    pub(crate) y_label: Vec<(f64, String)>,
    pub(crate) x_label: Vec<(f64, String)>,
    pub(crate) notes: Vec<(f64, String)>,
    pub(crate) names: Names,
    pub(crate) legend: Vec<Entry>,
    pub(crate) x: Ruler,
    pub(crate) y: Ruler,
}

/// What an entry of the legend shows.
#[derive(Clone, Copy)]
pub(crate) enum Sample {
    Measured(Look),
    Law(Look),
    Reference,
}

/// Names of places on the horizontal axis, in lines.
pub(crate) enum Names {
    Level {
        /// Smaller if they fit then.
        role: Role,
        lines: Vec<Vec<String>>,
    },
    /// They are too long to stand beside each other.
    Upright(Vec<String>),
}

/// An entry of the legend.
pub(crate) struct Entry {
    pub(crate) sample: Sample,
    /// The left end of the sample.
    pub(crate) x: f64,
    /// The lines of the name.
    pub(crate) lines: Vec<(f64, String)>,
}

impl Frame {
    pub(crate) fn new(plot: &Plot, curves: &Curves<'_>, notes: &[String]) -> Self {
        let inner = WIDTH - 2.0 * PAD;
        let mut cursor = PAD;
        let title = stack(&mut cursor, text::wrap(&plot.title, TITLE * 1.06, inner), TITLE);
        cursor += if title.is_empty() { 0.0 } else { 6.0 };
        let y_label = stack(&mut cursor, text::wrap(&plot.y.label, WORDS, inner), WORDS);
        let top = cursor + 8.0;
        let bottom = top + HEIGHT;

        let headroom = if plot.kind == Kind::Bars { 0.07 } else { 0.0 };
        let y = curves.y_ruler(plot, headroom, |ruler| spaced(ruler, HEIGHT, |_| 22.0));
        let widest = y.ticks.iter().map(|tick| text::width(&tick.label, WORDS)).fold(0.0, f64::max);
        let (left, right) = (PAD + widest + 2.0 * TICK, WIDTH - PAD - 6.0);
        let x = curves.x_ruler(plot, |ruler| {
            let end = ruler.ticks.last().map_or(0.0, |tick| {
                left + ruler.place(tick.at) * (right - left) + text::width(&tick.label, WORDS) / 2.0
            });
            ruler.ticks.len() <= 10
                && end <= WIDTH
                && spaced(ruler, right - left, |label| text::width(label, WORDS) + 12.0)
        });

        let names = Names::new(&curves.names, (right - left) / curves.names.len().max(1) as f64 - 4.0);
        cursor = bottom + 2.0 * TICK + names.height();
        cursor += if plot.x.label.trim().is_empty() { 0.0 } else { 3.0 };
        let x_label = stack(&mut cursor, text::wrap(&plot.x.label, WORDS, inner), WORDS);
        let legend = legend(&mut cursor, plot, curves);
        cursor += if notes.is_empty() { 0.0 } else { 6.0 };
        let notes = notes.iter().flat_map(|note| text::wrap(note, NOTES, inner)).collect();
        let notes = stack(&mut cursor, notes, NOTES);
        let height = (cursor + PAD).ceil();
        Self { height, left, right, top, bottom, title, y_label, x_label, notes, names, legend, x, y }
    }

    /// Whether a reference line crosses the plot.
    pub(crate) fn shows(&self, reference: &Reference) -> bool {
        match reference.along {
            Along::Horizontal => self.y.contains(reference.at),
            Along::Vertical => self.x.contains(reference.at),
        }
    }
}

impl Names {
    fn new(names: &[String], room: f64) -> Self {
        for role in [Role::Words, Role::Notes] {
            let size = Ink::new(role).size();
            let words = names.iter().flat_map(|name| name.split_whitespace());
            if words.map(|word| text::width(word, size)).fold(0.0, f64::max) <= room {
                return Self::Level {
                    role,
                    lines: names.iter().map(|name| text::wrap(name, size, room)).collect(),
                };
            }
        }
        Self::Upright(names.iter().map(|name| text::shorten(name, WORDS, UPRIGHT)).collect())
    }

    fn height(&self) -> f64 {
        match self {
            // Numbers are one line.
            Self::Level { lines, .. } => lines.iter().map(Vec::len).max().unwrap_or(1) as f64 * WORDS * LINE,
            Self::Upright(names) => names.iter().map(|name| text::width(name, WORDS)).fold(0.0, f64::max),
        }
    }
}

/// Puts lines below each other.
fn stack(cursor: &mut f64, lines: Vec<String>, size: f64) -> Vec<(f64, String)> {
    let place = |line| {
        *cursor += size * LINE;
        (*cursor - size * LINE / 2.0, line)
    };
    lines.into_iter().map(place).collect()
}

/// Whether labels are far enough from each other: half of what both need.
fn spaced(ruler: &Ruler, length: f64, need: impl Fn(&str) -> f64) -> bool {
    ruler.ticks.windows(2).all(|pair| {
        let distance = (ruler.place(pair[1].at) - ruler.place(pair[0].at)) * length;
        distance >= (need(&pair[0].label) + need(&pair[1].label)) / 2.0
    })
}

/// Below the plot, where it covers nothing: entries in rows, as many as there is room for.
fn legend(cursor: &mut f64, plot: &Plot, curves: &Curves<'_>) -> Vec<Entry> {
    let mut names: Vec<_> = curves
        .all
        .iter()
        .map(|curve| {
            (if curve.law { Sample::Law(curve.look) } else { Sample::Measured(curve.look) }, curve.name)
        })
        .collect();
    // Between bars there is no room for a label.
    if plot.kind == Kind::Bars {
        names.extend(plot.references.iter().map(|reference| (Sample::Reference, reference.label.as_str())));
    }
    let mut entries = Vec::new();
    let (mut x, mut row) = (PAD, 0.0);
    for (sample, name) in names.into_iter().filter(|(_, name)| !name.trim().is_empty()) {
        if entries.is_empty() {
            *cursor += 7.0;
        }
        let lines = text::wrap(name, WORDS, WIDTH - 2.0 * PAD - SAMPLE - 6.0);
        let width = lines.iter().map(|line| text::width(line, WORDS)).fold(0.0, f64::max) + SAMPLE + 6.0;
        if x + width > WIDTH - PAD && x > PAD {
            *cursor += row;
            (x, row) = (PAD, 0.0);
        }
        let mut below = *cursor;
        let lines = stack(&mut below, lines, WORDS);
        row = f64::max(row, below - *cursor + 1.5);
        entries.push(Entry { sample, x, lines });
        x += width + 16.0;
    }
    *cursor += row;
    entries
}
