//! The report in Markdown, with its plots as files beside it.

use std::fmt::{self, Write};

use crate::escape::{Markdown, markdown_block};
use crate::write::Figure;
use crate::{Report, Section, Table, text};

/// The report in Markdown, as GitHub reads it.
pub(crate) fn page(report: &Report, figures: &[Vec<Figure>]) -> String {
    let mut out = String::new();
    // A string takes all that is written to it.
    let _ = write_page(&mut out, report, figures);
    out
}

fn write_page(out: &mut String, report: &Report, figures: &[Vec<Figure>]) -> fmt::Result {
    writeln!(out, "# {}\n", Markdown(&report.title))?;
    paragraphs(out, &report.about)?;
    summary(out, report)?;
    let took = text::duration(report.seconds).unwrap_or_default();
    for (name, value) in [("Machine", &report.machine), ("Took", &took)] {
        if !value.is_empty() {
            write!(out, "{name}: {}\n\n", Markdown(value))?;
        }
    }
    command(out, "Made by:", &report.command)?;
    for (section, figures) in report.sections.iter().zip(figures) {
        write_section(out, section, figures)?;
    }
    Ok(())
}

fn summary(out: &mut String, report: &Report) -> fmt::Result {
    let (all, failed) = (report.checks().count(), report.failed().count());
    if all == 0 {
        return Ok(());
    }
    write!(out, "**{} {} of {all} checks hold.**", sign(failed == 0), all - failed)?;
    match failed {
        0 => {}
        1 => out.push_str(" This one does not:\n"),
        _ => out.push_str(" These do not:\n"),
    }
    for (section, check) in report.failed() {
        write!(out, "\n- [{}](#{}): {}", Markdown(&check.name), section.id, Markdown(&section.title))?;
    }
    out.push_str("\n\n");
    Ok(())
}

fn write_section(out: &mut String, section: &Section, figures: &[Figure]) -> fmt::Result {
    write!(out, "<a id=\"{}\"></a>\n\n## {}\n\n", section.id, Markdown(&section.title))?;
    paragraphs(out, &section.says)?;
    for figure in figures {
        write!(out, "![{}]({}.svg)\n\n", Markdown(&figure.title), figure.id)?;
    }
    for (name, text) in [
        ("The paper", section.paper.as_deref().unwrap_or_default()),
        ("Here", &section.ours),
        ("Scaled down", &section.scaled),
    ] {
        if !text.trim().is_empty() {
            write!(out, "**{name}.** ")?;
            paragraphs(out, text)?;
        }
    }
    section.tables.iter().try_for_each(|table| write_table(out, table))?;
    if !section.checks.is_empty() {
        out.push_str("| | check | law | expected | measured |\n|---|---|---|---|---|\n");
        for check in &section.checks {
            writeln!(
                out,
                "| {} | {} | {} | {} | {} |",
                if check.passed { "✓ holds" } else { "✗ **does not hold**" },
                Markdown(&check.name),
                Markdown(&check.law),
                Markdown(&check.expected),
                Markdown(&check.measured)
            )?;
        }
        out.push('\n');
    }
    command(out, "This section alone:", &section.command)?;
    if !section.settings.is_empty() {
        out.push_str("| setting | value |\n|---|---|\n");
        for (name, value) in &section.settings {
            writeln!(out, "| {} | {} |", Markdown(name), Markdown(value))?;
        }
        out.push('\n');
    }
    Ok(())
}

fn write_table(out: &mut String, table: &Table) -> fmt::Result {
    if !table.title.trim().is_empty() {
        write!(out, "{}\n\n", Markdown(&table.title))?;
    }
    let columns = table.header.len();
    row(out, table.header.iter().map(String::as_str))?;
    out.push('|');
    for column in 0..columns {
        out.push_str(if table.numeric(column) { "---:|" } else { "---|" });
    }
    out.push('\n');
    for cells in &table.rows {
        row(out, cells.iter().map(|cell| cell.text.as_str()))?;
    }
    out.push('\n');
    Ok(())
}

fn row<'a>(out: &mut String, mut cells: impl Iterator<Item = &'a str>) -> fmt::Result {
    cells.try_for_each(|cell| write!(out, "| {} ", Markdown(cell)))?;
    out.push_str("|\n");
    Ok(())
}

fn command(out: &mut String, name: &str, command: &str) -> fmt::Result {
    if command.trim().is_empty() {
        return Ok(());
    }
    write!(out, "{name}\n\n{}\n", markdown_block(command.trim()))
}

fn paragraphs(out: &mut String, text: &str) -> fmt::Result {
    let lines: Vec<_> = text.lines().collect();
    for paragraph in lines.split(|line| line.trim().is_empty()).filter(|lines| !lines.is_empty()) {
        write!(out, "{}\n\n", Markdown(&paragraph.join(" ")))?;
    }
    Ok(())
}

fn sign(passed: bool) -> &'static str {
    if passed { "✓" } else { "✗" }
}
