//! `signvote reproduce`: the paper's figures and theorems, redone, as a report.

use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use signvote_bench::Machine;
use signvote_learn::set_threads;
use signvote_report::Report;
use signvote_reproduce::{Effort, Figure, Lab};

use super::print;
use super::runs::{Data, Runs, cannot};
use crate::exit::{Exit, Failure};
use crate::flags::ReproduceFlags;
use crate::progress;

pub(crate) fn run(flags: &ReproduceFlags) -> Result<Exit, Failure> {
    let figures = flags.figures();
    if let Some(threads) = flags.threads {
        set_threads(usize::from(threads))?;
    }
    // Whether results can be written is known before they are made.
    let mut runs = Runs::open(Some(flags.out.clone()))?;
    if runs.len() > 0 && !flags.quiet {
        let out = flags.out.display();
        progress::line(&format!("going on in {out}, where {} runs have been made", runs.len()));
    }
    let bar = if flags.quiet { ProgressBar::hidden() } else { ProgressBar::new(figures.len() as u64) };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {prefix}, {elapsed}: {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(500));
    progress::bar_is(Some(&bar));
    let began = Instant::now();
    let effort = if flags.quick { Effort::Quick } else { Effort::Full };
    let mut data = Data::new(flags.data_dir.clone());
    let watched = bar.clone();
    let mut lab = Lab::new(effort, Box::new(move |source| data.split(source)), &mut runs, move |what| {
        watched.set_message(what.to_owned());
    });
    let mut report = Report {
        title: "signSGD with majority vote, redone".into(),
        about: "Every figure and theorem of Bernstein et al. 2018 (arXiv 1810.05291), by the election that runs on the network, scaled to \
                one machine; and what the paper left open. Every check states a law and passes, or is shown as failed."
            .into(),
        command: command(flags),
        machine: machine(),
        ..Report::default()
    };
    for figure in figures {
        bar.set_prefix(figure.name());
        let started = Instant::now();
        let section = figure.redo(&mut lab).map_err(|error| match error {
            signvote_reproduce::Error::Keep(error) => cannot(&flags.out, &error),
            error => error.into(),
        })?;
        if !flags.quiet {
            let held = section.checks.iter().filter(|check| check.passed).count();
            let seconds = started.elapsed().as_secs_f64();
            progress::line(&format!(
                "{figure}: {held} of {} checks hold, {seconds:.0} s",
                section.checks.len()
            ));
        }
        report.sections.push(section);
        report.seconds = began.elapsed().as_secs_f64();
        // As far as it is: who interrupts it has what was made.
        write(&report, &flags.out)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    progress::bar_is(None);
    drop(lab);
    runs.finish()?;
    let mut text = String::new();
    for (section, check) in report.checks() {
        let verdict = if check.passed { "holds" } else { "FAILS" };
        text += &format!(
            "{verdict}  {:11} {}: expected {}, measured {}\n",
            section.id, check.name, check.expected, check.measured
        );
    }
    text += &format!("the report is {}", flags.out.join("report.html").display());
    print(&text);
    Ok(if report.failed().next().is_none() { Exit::Success } else { Exit::Unconfirmed })
}

fn write(report: &Report, out: &Path) -> Result<(), Failure> {
    report.write(out).map_err(|error| Failure::new(Exit::Files, format!("{error}; choose another --out")))
}

fn command(flags: &ReproduceFlags) -> String {
    let quick = if flags.quick { " --quick" } else { "" };
    format!("signvote reproduce {} --out {}{quick}", flags.names().join(" "), flags.out.display())
}

pub(super) fn machine() -> String {
    let machine = Machine::here();
    format!("{}, {} cores", machine.cpu, machine.cores)
}

impl ReproduceFlags {
    fn figures(&self) -> Vec<Figure> {
        let all = self.figure.iter().any(|asked| asked.is_none());
        let asked = |figure: &Figure| all || self.figure.contains(&Some(*figure));
        Figure::ALL.into_iter().filter(asked).collect()
    }

    fn names(&self) -> Vec<&'static str> {
        self.figure.iter().map(|asked| asked.map_or("all", Figure::name)).collect()
    }
}
