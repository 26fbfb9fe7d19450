//! What was measured: an object for programs, a table for people.

use std::fmt::Write;

use serde::Serialize;

use crate::Machine;
use crate::text::grouped;

/// One kernel on one set of inputs.
///
/// Times are of one thread or of all of them together, whichever [`Report::threads`] says; those of the naive
/// form are always of one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Rows of a group, with the same number of voters, took turns.
    pub group: String,
    /// The kernel, and what is special about its input.
    pub name: String,
    /// How many ballots are counted, where any are.
    pub voters: Option<usize>,
    /// Bytes read and written, counted from the slices.
    pub bytes: usize,
    /// Turns that were taken.
    pub turns: usize,
    /// The median of its times.
    pub median_ms: f64,
    /// The least of them.
    pub best_ms: f64,
    /// `bytes` by the median.
    pub gb_per_s: f64,
    /// The median of the limit's times.
    pub limit_ms: f64,
    /// The median over all turns of the limit's time by the kernel's: 1 is as fast as memory.
    pub limit_ratio: f64,
    /// The least of the naive form's times, of which there are one or two.
    pub naive_ms: f64,
    /// `naive_ms` by `median_ms`.
    pub speedup: f64,
    /// The same beside another row of the group.
    pub relative: Option<Relative>,
}

/// The time of a row beside that of another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Relative {
    /// The other row's name.
    pub to: String,
    /// The median over all turns of this row's time by the other's.
    pub ratio: f64,
}

/// Everything that was measured in one run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// Coordinates.
    pub d: usize,
    /// Threads.
    pub threads: usize,
    /// Kernels that have no form for several threads, and are therefore not among the rows.
    pub left_out: Vec<String>,
    /// In the order in which they were measured.
    pub rows: Vec<Row>,
}

impl Report {
    /// The lines above the table: what is measured, and where.
    #[must_use]
    pub fn header(&self) -> String {
        let Machine { cpu, cores, isa_reason, .. } = &self.machine;
        let plural = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
        let mut out = format!("{cpu}, {}; {isa_reason}\n", plural(*cores, "core"));
        let _ = writeln!(out, "{} coordinates, {}", grouped(self.d as u64), plural(self.threads, "thread"));
        out.push_str("limit: its speed as a share of that of a loop that only moves the same bytes\n");
        let on = if self.threads == 1 { "" } else { " on one thread" };
        let _ = writeln!(out, "naive: how many times faster it is than one coordinate at a time{on}");
        if !self.left_out.is_empty() {
            let _ =
                writeln!(out, "left out, without a form for several threads: {}", self.left_out.join(", "));
        }
        out
    }
}

/// The table of one group.
#[must_use]
pub fn table(title: &str, rows: &[Row]) -> String {
    let mut out = format!("{title:<NAME$} {:>11} {:>8} {:>7} {:>7}\n", "time", "GB/s", "limit", "naive");
    for row in rows {
        let relative = row.relative.as_ref();
        let relative = relative.map(|relative| format!("   {:.2} × {}", relative.ratio, relative.to));
        let _ = writeln!(
            out,
            "  {:<width$} {:>11} {:>8.1} {:>7} {:>7}{}",
            row.name,
            time(row.median_ms),
            row.gb_per_s,
            format!("{:.0}%", 100.0 * row.limit_ratio),
            times(row.speedup),
            relative.unwrap_or_default(),
            width = NAME - 2
        );
    }
    out
}

/// Width of the longest name.
const NAME: usize = 36;

/// A time in the unit that suits it, with three digits.
fn time(milliseconds: f64) -> String {
    let (number, unit) = match milliseconds {
        ms if ms < 1e-3 => (ms * 1e6, "ns"),
        ms if ms < 1.0 => (ms * 1e3, "µs"),
        ms if ms < 1e4 => (ms, "ms"),
        ms => (ms / 1e3, "s"),
    };
    match number {
        number if number < 10.0 => format!("{number:.2} {unit}"),
        number if number < 100.0 => format!("{number:.1} {unit}"),
        number => format!("{number:.0} {unit}"),
    }
}

fn times(factor: f64) -> String {
    if factor < 9.95 { format!("{factor:.1}×") } else { format!("{factor:.0}×") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, median_ms: f64, relative: Option<Relative>) -> Row {
        Row {
            group: "decide".into(),
            name: name.into(),
            voters: Some(3),
            bytes: 640,
            turns: 5,
            median_ms,
            best_ms: median_ms,
            gb_per_s: 52.345,
            limit_ms: 1.0,
            limit_ratio: 0.876,
            naive_ms: 100.0,
            speedup: 9.96,
            relative,
        }
    }

    #[test]
    fn a_table_has_a_line_for_each_row_and_every_time_its_unit() {
        let relative = Some(Relative { to: "decide".into(), ratio: 1.256 });
        let rows = [row("decide", 0.295_6, None), row("decide, half abstained", 12.345, relative)];
        let expected = "\
decide, 3 voters                            time     GB/s   limit   naive
  decide                                  296 µs     52.3     88%     10×
  decide, half abstained                 12.3 ms     52.3     88%     10×   1.26 × decide
";
        assert_eq!(table("decide, 3 voters", &rows), expected);
        assert_eq!(
            [0.000_012_34, 0.001_234, 9999.0, 12_345.0].map(time),
            ["12.3 ns", "1.23 µs", "9999 ms", "12.3 s"]
        );
        assert_eq!([0.94, 9.94, 123.4].map(times), ["0.9×", "9.9×", "123×"]);
    }

    #[test]
    fn the_header_says_where_and_what() {
        let machine = Machine {
            cpu: "A CPU".into(),
            cores: 2,
            isa: "avx2".into(),
            isa_reason: "avx2: set by SIGNVOTE_ISA".into(),
            copy_gb_per_s: None,
        };
        let left_out = vec!["hamming".to_owned(), "margins".to_owned()];
        let report = Report { machine, d: 25_600_000, threads: 1, left_out, rows: Vec::new() };
        let header = report.header();
        assert!(
            header
                .starts_with("A CPU, 2 cores; avx2: set by SIGNVOTE_ISA\n25,600,000 coordinates, 1 thread\n")
        );
        assert!(header.ends_with("hamming, margins\n"), "{header}");
    }
}
