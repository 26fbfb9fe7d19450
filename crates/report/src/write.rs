//! The files of a report.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::png::Printer;
use crate::{Axis, Error, Report, Scale, draw, html, markdown};

/// A plot that is drawn: with the section's, its id is the name of its file.
pub(crate) struct Figure {
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) svg: String,
}

impl Report {
    /// Writes `report.html`, `report.md`, the plots and `checks.json` into a directory, which is made if need be. All are
    /// written beside their places first, and take their names when all are whole. Files of an earlier report that
    /// this one does not have stay.
    ///
    /// # Errors
    /// If two sections, or two plots of a section, have the same id, or one that is no file name; if a fixed range is
    /// none; if a row of a table is not as long as its header; if the disk is full or refuses: then old files are still
    /// there, and no parts of new ones.
    pub fn write(&self, directory: &Path) -> Result<(), Error> {
        self.check()?;
        let figures = self.figures()?;
        let mut files: Vec<(PathBuf, String)> = Vec::new();
        for figure in figures.iter().flatten() {
            let declared = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", figure.svg);
            files.push((directory.join(format!("{}.svg", figure.id)), declared));
        }
        let checks = directory.join("checks.json");
        let json = self.checks_json().map_err(|error| Error::io("write", &checks)(error.into()))?;
        files.push((checks, json));
        files.push((directory.join("report.md"), markdown::page(self, &figures)));
        files.push((directory.join("report.html"), html::page(self, &figures)));
        fs::create_dir_all(directory).map_err(Error::io("make", directory))?;
        replace_all(&files)
    }

    /// Writes every plot as `SECTION-PLOT.png` as well, twice as large as on the page, with the system's fonts.
    ///
    /// # Errors
    /// As those of [`write`](Self::write); [`Error::NoFonts`] where there are no letters to write with.
    pub fn write_pngs(&self, directory: &Path) -> Result<(), Error> {
        self.check()?;
        let printer = Printer::new()?;
        for figure in self.figures()?.iter().flatten() {
            let path = directory.join(format!("{}.png", figure.id));
            let png =
                printer.png(&figure.svg).map_err(|reason| Error::Draw { plot: figure.id.clone(), reason })?;
            let temporary = temporary(&path);
            fs::write(&temporary, png).and_then(|()| fs::rename(&temporary, &path)).map_err(|error| {
                let _ = fs::remove_file(&temporary);
                Error::io("write", &path)(error)
            })?;
        }
        Ok(())
    }

    /// Drawn plots, by section.
    fn figures(&self) -> Result<Vec<Vec<Figure>>, Error> {
        let section = |section: &crate::Section| {
            let plots = section.plots.iter().map(|plot| {
                let id = format!("{}-{}", section.id, plot.id);
                Ok(Figure { svg: draw::svg(plot, &id)?, title: plot.title.clone(), id })
            });
            plots.collect()
        };
        self.sections.iter().map(section).collect()
    }

    /// Refuses what would give one file, or one place to link to, to two things.
    fn check(&self) -> Result<(), Error> {
        // The page's own.
        let mut ids = HashSet::from(["checks".to_owned(), "top".to_owned()]);
        let mut claim = |id: &str, own: &str, part: &str| {
            let plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
            if own.is_empty() || own.len() > 64 || !own.bytes().all(plain) {
                let reason = format!("expected an id of 1 to 64 of a-z, 0-9, - and _, got {own:?}");
                return Err(Error::misuse(part, reason));
            }
            if !ids.insert(id.to_owned()) {
                return Err(Error::misuse(part, format!("expected an id of its own, got {id:?} once more")));
            }
            Ok(())
        };
        for section in &self.sections {
            claim(&section.id, &section.id, &format!("section {:?}", section.title))?;
            for table in &section.tables {
                if let Some(row) = table.rows.iter().find(|row| row.len() != table.header.len()) {
                    let part = format!("section {}, table {:?}", section.id, table.title);
                    let reason =
                        format!("expected rows of {} cells, got one of {}", table.header.len(), row.len());
                    return Err(Error::misuse(part, reason));
                }
            }
            for plot in &section.plots {
                let part = format!("section {}, plot {:?}", section.id, plot.title);
                claim(&format!("{}-{}", section.id, plot.id), &plot.id, &part)?;
                for axis in [&plot.x, &plot.y] {
                    check_range(axis, &part)?;
                }
            }
        }
        Ok(())
    }

    fn checks_json(&self) -> serde_json::Result<String> {
        #[derive(Serialize)]
        struct Line<'a> {
            section: &'a str,
            name: &'a str,
            law: &'a str,
            expected: &'a str,
            measured: &'a str,
            passed: bool,
        }
        let lines: Vec<_> = self
            .checks()
            .map(|(section, check)| Line {
                section: &section.id,
                name: &check.name,
                law: &check.law,
                expected: &check.expected,
                measured: &check.measured,
                passed: check.passed,
            })
            .collect();
        Ok(serde_json::to_string_pretty(&lines)? + "\n")
    }
}

fn check_range(axis: &Axis, part: &str) -> Result<(), Error> {
    match axis.range {
        Some((low, high))
            if !(low < high
                && draw::has_place(Scale::Linear, low)
                && draw::has_place(Scale::Linear, high)) =>
        {
            Err(Error::misuse(part, format!("expected a range from low to high, got {low} to {high}")))
        }
        Some((low, _)) if axis.scale == Scale::Log && low <= 0.0 => {
            Err(Error::misuse(part, format!("expected a logarithmic axis to begin above 0, got {low}")))
        }
        _ => Ok(()),
    }
}

fn temporary(path: &Path) -> PathBuf {
    path.with_added_extension(format!("partial-{}", std::process::id()))
}

/// Writes files beside their places, then gives all of them their names.
fn replace_all(files: &[(PathBuf, String)]) -> Result<(), Error> {
    let write = |path: &Path, text: &str| {
        let mut file = File::create(temporary(path))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    let replaced = files
        .iter()
        .try_for_each(|(path, text)| write(path, text).map_err(Error::io("write", path)))
        .and_then(|()| {
            files.iter().try_for_each(|(path, _)| {
                fs::rename(temporary(path), path).map_err(Error::io("replace", path))
            })
        });
    if replaced.is_err() {
        for (path, _) in files {
            let _ = fs::remove_file(temporary(path));
        }
    }
    replaced
}
