//! The page. Everything is in it: style sheet, plots, text. It has no script, and asks nobody for anything.

use std::fmt::{self, Write};

use crate::escape::{Xml, is_link};
use crate::write::Figure;
use crate::{Check, Report, Section, Table, text};

const STYLE: &str = include_str!("page.css");

/// The report as a page. Well-formed XML too, so that any parser reads it.
pub(crate) fn page(report: &Report, figures: &[Vec<Figure>]) -> String {
    let mut out = String::new();
    // A string takes all that is written to it.
    let _ = write_page(&mut out, report, figures);
    out
}

fn write_page(out: &mut String, report: &Report, figures: &[Vec<Figure>]) -> fmt::Result {
    let title = Xml(&report.title);
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
         <body id=\"top\">\n<header>\n<h1>{title}</h1>\n"
    )?;
    paragraphs(out, "about", &report.about)?;
    summary(out, report)?;
    let took = text::duration(report.seconds).unwrap_or_default();
    let facts = [("Machine", &report.machine), ("Took", &took)];
    if facts.iter().any(|(_, value)| !value.is_empty()) {
        out.push_str("<dl class=\"facts\">\n");
        for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
            writeln!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", Xml(value))?;
        }
        out.push_str("</dl>\n");
    }
    command(out, "Made by", &report.command)?;
    out.push_str("</header>\n");
    contents(out, report)?;
    out.push_str("<main>\n");
    for (section, figures) in report.sections.iter().zip(figures) {
        write_section(out, section, figures)?;
    }
    out.push_str(
        "</main>\n<footer>\n<p>This page is one file: it needs no network and runs no script. Beside it are the same in Markdown \
         (<a href=\"report.md\">report.md</a>), the plots as SVG, and the checks for programs \
         (<a href=\"checks.json\">checks.json</a>).</p>\n<p><a href=\"#top\">Back to the top</a></p>\n</footer>\n</body>\n</html>\n",
    );
    Ok(())
}

/// How many checks hold, and which do not.
fn summary(out: &mut String, report: &Report) -> fmt::Result {
    let (all, failed) = (report.checks().count(), report.failed().count());
    if all == 0 {
        return Ok(());
    }
    let class = if failed == 0 { "holds" } else { "fails" };
    let sign = sign(failed == 0);
    writeln!(
        out,
        "<section id=\"checks\" class=\"summary {class}\">\n<p class=\"verdict\">{sign} <strong>{} of {all} checks hold.</strong></p>",
        all - failed
    )?;
    if failed > 0 {
        writeln!(out, "<p>{}</p>\n<ul>", if failed == 1 { "This one does not:" } else { "These do not:" })?;
        for section in &report.sections {
            for (index, check) in section.checks.iter().enumerate().filter(|(_, check)| !check.passed) {
                writeln!(
                    out,
                    "<li><a href=\"#{}.check{}\">{}</a> <span class=\"quiet\">{}</span></li>",
                    section.id,
                    index + 1,
                    Xml(&check.name),
                    Xml(&section.title)
                )?;
            }
        }
        out.push_str("</ul>\n");
    }
    out.push_str("</section>\n");
    Ok(())
}

fn contents(out: &mut String, report: &Report) -> fmt::Result {
    if report.sections.len() < 2 {
        return Ok(());
    }
    out.push_str("<nav aria-label=\"Sections\">\n<ol>\n");
    for section in &report.sections {
        let (all, held) = (section.checks.len(), section.checks.iter().filter(|check| check.passed).count());
        write!(out, "<li><a href=\"#{}\">{}</a>", section.id, Xml(&section.title))?;
        if all > 0 {
            let class = if held == all { "holds" } else { "fails" };
            write!(out, " <span class=\"count {class}\">{} {held}/{all}</span>", sign(held == all))?;
        }
        out.push_str("</li>\n");
    }
    out.push_str("</ol>\n</nav>\n");
    Ok(())
}

fn write_section(out: &mut String, section: &Section, figures: &[Figure]) -> fmt::Result {
    writeln!(out, "<section id=\"{}\" aria-labelledby=\"{}.title\">", section.id, section.id)?;
    writeln!(out, "<h2 id=\"{0}.title\"><a href=\"#{0}\">{1}</a></h2>", section.id, Xml(&section.title))?;
    paragraphs(out, "says", &section.says)?;
    if !figures.is_empty() {
        let alone = if figures.len() == 1 { " alone" } else { "" };
        writeln!(out, "<div class=\"plots{alone}\">")?;
        for figure in figures {
            write!(out, "<figure>\n{}</figure>\n", figure.svg)?;
        }
        out.push_str("</div>\n");
    }
    let beside = [
        ("The paper", section.paper.as_deref().unwrap_or_default()),
        ("Here", &section.ours),
        ("Scaled down", &section.scaled),
    ];
    if beside.iter().any(|(_, text)| !text.trim().is_empty()) {
        out.push_str("<div class=\"beside\">\n");
        for (name, text) in beside.iter().filter(|(_, text)| !text.trim().is_empty()) {
            writeln!(out, "<div>\n<h3>{name}</h3>")?;
            paragraphs(out, "", text)?;
            out.push_str("</div>\n");
        }
        out.push_str("</div>\n");
    }
    section.tables.iter().try_for_each(|table| write_table(out, table))?;
    if !section.checks.is_empty() {
        out.push_str("<h3>Checks</h3>\n<ul class=\"checks\">\n");
        for (index, check) in section.checks.iter().enumerate() {
            write_check(out, &format!("{}.check{}", section.id, index + 1), check)?;
        }
        out.push_str("</ul>\n");
    }
    command(out, "This section alone", &section.command)?;
    if !section.settings.is_empty() {
        out.push_str("<h3>Settings</h3>\n<dl class=\"settings\">\n");
        for (name, value) in &section.settings {
            writeln!(out, "<div><dt>{}</dt><dd>{}</dd></div>", Xml(name), Xml(value))?;
        }
        out.push_str("</dl>\n");
    }
    out.push_str("</section>\n");
    Ok(())
}

fn write_check(out: &mut String, id: &str, check: &Check) -> fmt::Result {
    let (class, word) = if check.passed { ("holds", "holds") } else { ("fails", "does not hold") };
    writeln!(
        out,
        "<li id=\"{id}\" class=\"{class}\">\n<p><span class=\"word\">{} {word}</span> <strong>{}</strong></p>",
        sign(check.passed),
        Xml(&check.name)
    )?;
    paragraphs(out, "law", &check.law)?;
    writeln!(
        out,
        "<dl>\n<div><dt>Expected</dt><dd>{}</dd></div>\n<div><dt>Measured</dt><dd>{}</dd></div>\n</dl>\n</li>",
        Xml(&check.expected),
        Xml(&check.measured)
    )
}

fn write_table(out: &mut String, table: &Table) -> fmt::Result {
    let title = Xml(&table.title);
    // Wide tables scroll in a box of their own, which the keyboard must be able to reach.
    if !table.title.is_empty() {
        writeln!(out, "<p class=\"caption\">{title}</p>")?;
    }
    writeln!(out, "<div class=\"table\" role=\"region\" tabindex=\"0\" aria-label=\"{title}\">\n<table>")?;
    let class = |column: usize, shade: bool| match (shade, table.numeric(column)) {
        (true, _) => " class=\"shade\"",
        (false, true) => " class=\"number\"",
        (false, false) => "",
    };
    let shaded =
        |column: usize| table.rows.iter().filter_map(|row| row.get(column)).any(|cell| cell.shade.is_some());
    out.push_str("<thead><tr>");
    for (column, name) in table.header.iter().enumerate() {
        write!(out, "<th scope=\"col\"{}>{}</th>", class(column, shaded(column)), Xml(name))?;
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        out.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let text = Xml(&cell.text);
            let colours =
                cell.colours().map(|(back, front)| format!(" style=\"background:{back};color:{front}\""));
            let colours = colours.unwrap_or_default();
            let class = class(column, shaded(column));
            if column == 0 {
                write!(out, "<th scope=\"row\"{class}{colours}>{text}</th>")?;
            } else {
                write!(out, "<td{class}{colours}>{text}</td>")?;
            }
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody>\n</table>\n</div>\n");
    Ok(())
}

fn command(out: &mut String, name: &str, command: &str) -> fmt::Result {
    let command = command.trim();
    if command.is_empty() {
        return Ok(());
    }
    writeln!(out, "<h3>{name}</h3>\n<pre tabindex=\"0\"><code>{}</code></pre>", Xml(command))
}

/// Text in paragraphs, which empty lines part. Addresses become links.
fn paragraphs(out: &mut String, class: &str, text: &str) -> fmt::Result {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let lines: Vec<_> = text.lines().collect();
    for paragraph in lines.split(|line| line.trim().is_empty()).filter(|lines| !lines.is_empty()) {
        write!(out, "<p{class}>")?;
        for (index, word) in paragraph.iter().flat_map(|line| line.split_whitespace()).enumerate() {
            if index > 0 {
                out.push(' ');
            }
            // A full stop or comma behind an address does not belong to it.
            let address = word.trim_end_matches(['.', ',', ';', ':', ')', '?', '!']);
            if is_link(address) {
                write!(out, "<a href=\"{0}\">{0}</a>{1}", Xml(address), Xml(&word[address.len()..]))?;
            } else {
                write!(out, "{}", Xml(word))?;
            }
        }
        out.push_str("</p>\n");
    }
    Ok(())
}

/// Never a colour alone.
fn sign(passed: bool) -> &'static str {
    if passed { "✓" } else { "✗" }
}
