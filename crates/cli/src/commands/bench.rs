//! `signvote bench`: how fast this machine is at a part of the work.

use std::time::Duration;

use indicatif::ProgressBar;
use signvote_bench::kernels::{Options, Report, Row, Watch, run as measure, table};

use super::print;
use crate::exit::{Exit, Failure};
use crate::flags::BenchKernelsFlags;

/// Longest time for one group of rows: an hour.
const LONGEST: f64 = 3600.0;

pub(crate) fn run(flags: &BenchKernelsFlags) -> Result<Exit, Failure> {
    let seconds = flags.seconds;
    if !(0.0..=LONGEST).contains(&seconds) {
        return Err(Failure::usage(format!("--seconds must be from 0 to {LONGEST}, got {seconds}")));
    }
    let d = usize::try_from(flags.dim)
        .map_err(|_| Failure::usage(format!("--dim {} is too much for this machine", flags.dim)))?;
    let options = Options {
        d,
        voters: flags.voters.clone(),
        threads: usize::from(flags.threads),
        least_per_group: Duration::from_secs_f64(seconds),
    };
    // Not a terminal: the bar hides itself. It does not tick either, which would take time from what is measured.
    let bar = if flags.quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    let mut printer = Printer { tables: !flags.json, bar };
    let outcome = measure(&options, &mut printer);
    printer.bar.finish_and_clear();
    let report = outcome?;
    if flags.json {
        let json = serde_json::to_string(&report)
            .map_err(|error| Failure::internal("cannot write the result", &error))?;
        print(&json);
    }
    Ok(Exit::Success)
}

/// Prints every table as soon as it is there.
struct Printer {
    tables: bool,
    bar: ProgressBar,
}

impl Watch for Printer {
    fn begins(&mut self, report: &Report) {
        if self.tables {
            print(&report.header());
        }
    }

    fn measures(&mut self, title: &str) {
        self.bar.set_message(format!("measuring {title}"));
    }

    fn measured(&mut self, title: &str, rows: &[Row]) {
        if self.tables {
            self.bar.suspend(|| print(&format!("\n{}", table(title, rows))));
        }
    }
}
