//! A report of experiments: what was measured, beside what was expected, for a person to read.
//!
//! ```text
//! DIRECTORY/report.html          one page with all plots in it: no network, no script, light or dark as the reader has it
//! DIRECTORY/report.md            the same in Markdown
//! DIRECTORY/SECTION-PLOT.svg     its plots
//! DIRECTORY/checks.json          a list of {section, name, law, expected, measured, passed}
//! ```
//! The data is plain ([`Report`], [`Section`], [`Check`], [`Plot`], [`Table`]), and nothing here knows what it
//! is about: no training, no clock, no randomness. Equal reports are equal files. A check that failed is
//! never less visible than one that holds, and a plot says how many values it could not draw.
//!
//! Plots keep series apart three times over, by colour (Okabe and Ito's, for all kinds of colour vision), by dashes or
//! hatching, and by the shape of their markers: they can be printed in black.
#![forbid(unsafe_code)]

mod draw;
mod error;
mod escape;
mod html;
mod markdown;
mod plot;
mod png;
mod report;
mod table;
mod text;
mod write;

pub use error::Error;
pub use plot::{Along, Axis, Kind, Plot, Point, Reference, Scale, Series};
pub use report::{Check, Report, Section};
pub use table::{Cell, Table};
