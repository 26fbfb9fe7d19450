//! Packing, tallying, deciding and applying, on one thread or several.
//!
//! Rows that are to be compared form a group and take turns. In every turn each kernel runs right after its
//! limit, which passes over the very same memory: streams that are only read are read, those that are only
//! written are written, state in place is both, in the instruction set that the kernels use. Of two ways to do
//! that the one is taken that was faster beforehand.
//!
//! ```
//! use std::time::Duration;
//! use signvote_bench::kernels::{Options, run, table};
//!
//! let options = Options { d: 1000, voters: vec![3], threads: 1, least_per_group: Duration::ZERO };
//! let report = run(&options, &mut ())?;
//! assert!(report.rows.iter().any(|row| row.name == "decide" && row.voters == Some(3)));
//! println!("{}\n{}", report.header(), table("all of it", &report.rows));
//! # Ok::<(), signvote_bench::Error>(())
//! ```

mod case;
mod data;
mod forms;
mod limit;
mod memory;
mod naive;
mod report;
mod stream;
#[cfg(test)]
mod tests;
mod timing;
mod values;
mod votes;

use std::time::Duration;

use signvote_kernels::words;

pub use case::{Expected, Group};
pub use report::{Relative, Report, Row, table};

use crate::machine::available_bytes;
use crate::{Error, Machine};
use forms::{Forms, PARALLEL, SERIAL};

/// What to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Coordinates; at least 1.
    pub d: usize,
    /// Numbers of voters to decide with; each at least 1.
    pub voters: Vec<u16>,
    /// 1: the serial kernels. More: those that have a form for several threads, on so many.
    pub threads: usize,
    /// How long to measure a group, if five turns do not take longer.
    pub least_per_group: Duration,
}

/// Someone who waits for results.
pub trait Watch {
    /// The bench begins; the report has no rows yet.
    fn begins(&mut self, report: &Report);
    /// A group of this title is being prepared and measured.
    fn measures(&mut self, title: &str);
    /// It is done.
    fn measured(&mut self, title: &str, rows: &[Row]);
}

/// Nobody waits.
impl Watch for () {
    fn begins(&mut self, _report: &Report) {}
    fn measures(&mut self, _title: &str) {}
    fn measured(&mut self, _title: &str, _rows: &[Row]) {}
}

/// Who is handed one group after another.
pub type Visit<'v> = dyn FnMut(Group<'_>) -> Result<(), Error> + 'v;

/// Measures all groups.
///
/// # Errors
///
/// [`Error::Wrong`] as soon as a kernel's answer is; [`Error::Memory`] before anything is allocated, where the
/// system says what is available; [`Error::Threads`].
pub fn run(options: &Options, watch: &mut (dyn Watch + Send)) -> Result<Report, Error> {
    measure(options, forms(options.threads), watch)
}

/// Measures, on one thread, what every round does: momentum and packing, the step on a replica, and the verdict of so many
/// voters. A quicker [`run`].
///
/// # Errors
///
/// As [`run`].
pub fn per_round(d: usize, voters: u16) -> Result<Vec<Row>, Error> {
    fits(&Options { d, voters: vec![voters], threads: 1, least_per_group: Duration::ZERO })?;
    let mut rows = Vec::new();
    let visit: &mut Visit<'_> = &mut |mut group| {
        rows.extend(timing::measure(&mut group, Duration::ZERO)?);
        Ok(())
    };
    values::momentum(d, &SERIAL, visit)?;
    values::apply(d, &SERIAL, visit)?;
    votes::decide(d, usize::from(voters), &SERIAL, visit)?;
    Ok(rows)
}

/// Makes one group after another, with its memory, and hands it to `visit`: for a bench that keeps its own time.
/// Groups that are for several threads run on those of the current rayon pool.
///
/// # Errors
///
/// Those of `visit`, and [`Error::Memory`].
pub fn each_group(options: &Options, visit: &mut Visit<'_>) -> Result<(), Error> {
    fits(options)?;
    groups(options, forms(options.threads), visit)
}

fn forms(threads: usize) -> &'static Forms {
    if threads == 1 { &SERIAL } else { &PARALLEL }
}

fn measure(options: &Options, forms: &Forms, watch: &mut (dyn Watch + Send)) -> Result<Report, Error> {
    fits(options)?;
    let pool = if options.threads == 1 { None } else { Some(pool(options.threads)?) };
    let (machine, left_out) = (Machine::here(), forms.missing());
    let mut report = Report { machine, d: options.d, threads: options.threads, left_out, rows: Vec::new() };
    watch.begins(&report);
    let mut all = || {
        groups(options, forms, &mut |mut group| {
            let title = group.title();
            watch.measures(&title);
            let rows = timing::measure(&mut group, options.least_per_group)?;
            watch.measured(&title, &rows);
            report.rows.extend(rows);
            Ok(())
        })
    };
    match pool {
        None => all()?,
        Some(pool) => pool.install(all)?,
    }
    let copy = report.rows.iter().find(|row| row.name == values::COPY);
    report.machine.copy_gb_per_s = copy.map(|row| row.gb_per_s);
    Ok(report)
}

fn pool(threads: usize) -> Result<rayon::ThreadPool, Error> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| Error::Threads { threads, reason: error.to_string() })
}

/// Refuses what does not fit, where the system says what does.
fn fits(options: &Options) -> Result<(), Error> {
    const MIB: u64 = 1 << 20;
    let needed = needed_bytes(options);
    match available_bytes() {
        Some(available) if available < needed => {
            Err(Error::Memory { needed_mib: needed.div_ceil(MIB), available_mib: available / MIB })
        }
        _ => Ok(()),
    }
}

fn groups(options: &Options, forms: &Forms, visit: &mut Visit<'_>) -> Result<(), Error> {
    let d = options.d;
    let visit: &mut Visit<'_> = &mut |group| match group.rows() {
        0 => Ok(()),
        _ => visit(group.on_threads(options.threads)),
    };
    values::memory(d, forms, visit)?;
    values::pack(d, forms, visit)?;
    values::momentum(d, forms, visit)?;
    values::apply(d, forms, visit)?;
    votes::single(d, forms, visit)?;
    votes::margins(d, forms, visit)?;
    options.voters.iter().try_for_each(|voters| votes::decide(d, usize::from(*voters), forms, visit))
}

/// What the largest group takes: of those of values `apply`, with its weights twice and five right answers,
/// and of those of votes the one with most voters, each with three planes.
fn needed_bytes(options: &Options) -> u64 {
    /// Tallies of chunks, and whatever else does not grow with the model.
    const REST: u64 = 8 << 20;
    let (values, plane) = (4 * options.d as u128, 8 * words(options.d) as u128);
    let voters = u128::from(options.voters.iter().copied().max().unwrap_or(0));
    let largest = u128::max(7 * values + 2 * plane, (3 * voters + 16) * plane);
    u64::try_from(largest).unwrap_or(u64::MAX).saturating_add(REST)
}
