//! What a person sees while a run goes on. Everything here goes to stderr.

use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
pub(crate) use signvote_bench::grouped;
use signvote_election::Event;
use signvote_kernels::Isa;

use crate::exit::Failure;
use crate::logs;

/// The bar that is drawn now. There is one stderr, and whoever writes to it must know.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Tells everyone who writes to stderr which bar is there from now on.
pub(crate) fn bar_is(bar: Option<&ProgressBar>) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = bar.cloned();
}

/// What was to be written while a full screen had the terminal; `None` while none has.
static HELD: Mutex<Option<Vec<u8>>> = Mutex::new(None);
/// Bytes of that that are kept: the last ones.
const MOST_HELD: usize = 1 << 20;

/// A full screen has the terminal from now on: what is written to stderr waits.
pub(crate) fn hold() {
    HELD.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default();
}

/// The terminal is free again: writes what has waited.
pub(crate) fn release() {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).take();
    above_bar(&held.unwrap_or_default());
}

fn is_held() -> bool {
    HELD.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// Writes to stderr, above the bar if there is one; while a full screen has the terminal, afterwards. Who reads it may be gone: that is
/// no reason to panic, and end otherwise than told.
pub(crate) fn above_bar(bytes: &[u8]) {
    if let Some(held) = &mut *HELD.lock().unwrap_or_else(PoisonError::into_inner) {
        held.extend_from_slice(bytes);
        let surplus = held.len().saturating_sub(MOST_HELD);
        held.drain(..surplus);
        return;
    }
    // Cloned, and unlocked again: drawing has a lock of its own.
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let write = || {
        let _ = std::io::stderr().write_all(bytes);
    };
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Prints the one line of a failure.
pub(crate) fn error(failure: &Failure) {
    if !logs::failed(failure) {
        line(&format!("error: {failure}"));
    }
}

/// Prints a line on stderr.
pub(crate) fn line(text: &str) {
    above_bar(format!("{text}\n").as_bytes());
}

/// Which instruction set the kernels use here, and why.
pub(crate) fn kernels() -> String {
    format!("kernels use {}", Isa::reason())
}

/// One pass over the data as it went.
#[derive(Clone, Debug)]
struct Epoch {
    number: u64,
    started: Instant,
    rounds: u64,
    losses: Vec<f32>,
    accuracies: Vec<f32>,
    /// Speed and bytes, in words, once it is over.
    pace: String,
}

/// A run's progress: a bar for the epoch, a line for each that is done, and a line for what goes wrong.
#[derive(Debug)]
pub(crate) struct Progress {
    quiet: bool,
    /// Rounds in one epoch, or between two lines where there are no epochs.
    stride: u64,
    rounds: u64,
    /// Whether an epoch's line waits for the model's evaluation.
    evaluated: bool,
    bar: Option<ProgressBar>,
    epoch: Option<Epoch>,
    /// Epochs that are over, until their line is printed.
    past: Vec<Epoch>,
    /// Bytes of all workers in one round, both ways, if they were plain f32.
    dense_bytes_per_round: u64,
    /// Bytes so far, in words.
    wire: String,
    over: bool,
    /// Mean over the last epoch of the median losses; `None` before, or if one was not finite.
    pub(crate) train_loss: Option<f32>,
    /// Whether it is a language model, of which perplexity says more than accuracy.
    pub(crate) is_text: bool,
}

impl Progress {
    pub(crate) fn new(quiet: bool, stride: u64, rounds: u64, evaluated: bool) -> Self {
        Self {
            quiet,
            stride: stride.max(1),
            rounds,
            evaluated,
            bar: None,
            epoch: None,
            past: Vec::new(),
            dense_bytes_per_round: 0,
            wire: String::new(),
            over: false,
            train_loss: None,
            is_text: false,
        }
    }

    /// Prints a line, above the bar if there is one.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            line(text);
        }
    }

    /// Whether an event need not be warned of: it is told in words here, or goes with the end of a run.
    pub(crate) fn covers(&self, event: &Event) -> bool {
        let at_the_end = match event {
            Event::Left { round, .. } => self.over || round.0 >= self.rounds,
            Event::Refused { .. } => self.over,
            _ => false,
        };
        at_the_end || !self.quiet
    }

    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Started { dimension, workers, .. } => {
                self.say(&format!(
                    "{workers} workers are there, {} coordinates each",
                    grouped(*dimension as u64)
                ));
                self.dense_bytes_per_round = 2 * 4 * *dimension as u64 * *workers as u64;
                self.open_epoch(0);
            }
            Event::Resumed { round, .. } => self.open_epoch(round.0),
            Event::Committed { round, loss, accuracy, .. } => self.committed(round.0, *loss, *accuracy),
            Event::Traffic { round, workers } => {
                let bytes = workers.iter().map(|row| row.round_up_bytes + row.round_down_bytes).sum();
                let dense = self.dense_bytes_per_round * round.0;
                self.wire = match dense {
                    // Counted anew since the run was resumed.
                    0 => format!("{} on the wire", HumanBytes(bytes)),
                    _ => format!("{} on the wire, as f32 {}", HumanBytes(bytes), HumanBytes(dense)),
                };
            }
            Event::Evaluated { round, test_loss, test_accuracy } => {
                let perplexity = test_loss.filter(|_| self.is_text).map(|loss| f64::from(loss).exp());
                let test = perplexity.map_or_else(
                    || format!("test {}", percent(Some(*test_accuracy))),
                    |perplexity| format!("test perplexity {perplexity:.2}"),
                );
                self.epoch_line(round.0, Some(test));
            }
            Event::Left { round, .. } if !self.over && round.0 < self.rounds => self.say_what(event),
            Event::Joined { round, .. } | Event::ShardJoined { round, .. } if round.0 > 0 => {
                self.say_what(event)
            }
            Event::ShardLost { .. } | Event::Refused { .. } if !self.over => self.say_what(event),
            Event::ShardOutvoted { .. }
            | Event::Late { .. }
            | Event::NonFinite { .. }
            | Event::Diverged { .. } => self.say_what(event),
            Event::Finished { .. } => self.ending(),
            _ => {}
        }
    }

    /// An event's own words.
    fn say_what(&self, event: &Event) {
        if let Some(sentence) = event.sentence() {
            self.say(&sentence);
        }
    }

    /// The run is being ended: that its workers leave is no news any more.
    pub(crate) fn ending(&mut self) {
        self.over = true;
        self.close_bar();
    }

    /// Takes the bar away.
    pub(crate) fn close_bar(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar_is(None);
            bar.finish_and_clear();
        }
    }

    fn open_epoch(&mut self, round: u64) {
        let number = round / self.stride + 1;
        let end = (number * self.stride).min(self.rounds);
        let rounds = end.saturating_sub(round);
        self.epoch = Some(Epoch {
            number,
            started: Instant::now(),
            rounds,
            losses: Vec::new(),
            accuracies: Vec::new(),
            pace: String::new(),
        });
        if self.quiet || is_held() {
            return;
        }
        let bar = ProgressBar::new(rounds);
        let template = "{prefix} {bar:20} {pos}/{len} rounds  {msg}";
        // The template is fixed; a wrong one would only cost the bar its looks.
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.set_prefix(format!("{} {number}/{}", self.unit(), self.rounds.div_ceil(self.stride)));
        bar.enable_steady_tick(Duration::from_millis(200));
        bar_is(Some(&bar));
        self.bar = Some(bar);
    }

    fn unit(&self) -> &'static str {
        if self.evaluated { "epoch" } else { "part" }
    }

    fn committed(&mut self, round: u64, loss: Option<f32>, accuracy: Option<f32>) {
        let Some(epoch) = &mut self.epoch else { return };
        epoch.losses.push(loss.unwrap_or(f32::NAN));
        epoch.accuracies.push(accuracy.unwrap_or(f32::NAN));
        let done = epoch.losses.len() as u64;
        let pace = || format!("{}  {}", rate(done, epoch.started.elapsed()), self.wire);
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            let accuracy = percent(accuracy.map(f64::from));
            bar.set_message(format!("loss {}  accuracy {accuracy}  {}", number(loss, 3), pace()));
        }
        if done == epoch.rounds {
            epoch.pace = pace();
            self.train_loss = mean(&epoch.losses);
            self.close_bar();
            let epoch = self.epoch.take();
            self.past.extend(epoch);
            if !self.evaluated {
                self.epoch_line(round + 1, None);
            }
            if round + 1 < self.rounds {
                self.open_epoch(round + 1);
            }
        }
    }

    /// The line of the epoch that ended with this many rounds committed.
    pub(crate) fn epoch_line(&mut self, round: u64, test: Option<String>) {
        let number_of_epoch = round.div_ceil(self.stride);
        let Some(at) = self.past.iter().position(|epoch| epoch.number == number_of_epoch) else { return };
        let epoch = self.past.remove(at);
        let test = test.map(|test| format!("  {test}")).unwrap_or_default();
        let count = self.rounds.div_ceil(self.stride);
        self.say(&format!(
            "{} {:>width$}/{count}  loss {}  train {}{test}  {}",
            self.unit(),
            epoch.number,
            number(mean(&epoch.losses), 3),
            percent(mean(&epoch.accuracies).map(f64::from)),
            epoch.pace,
            width = count.to_string().len(),
        ));
    }
}

fn rate(rounds: u64, time: Duration) -> String {
    format!("{} rounds/s", per_second(rounds as f64 / time.as_secs_f64().max(1e-9)))
}

/// A rate for people: of a slow run a decimal says more than none.
pub(crate) fn per_second(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// The mean, if every number is finite.
fn mean(values: &[f32]) -> Option<f32> {
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
    Some(mean as f32).filter(|mean| mean.is_finite())
}

/// A number with so many decimals, or what stands for one that is not finite.
pub(crate) fn number(value: Option<f32>, decimals: usize) -> String {
    value.map_or_else(|| "not finite".into(), |value| format!("{value:.decimals$}"))
}

/// A fraction as a percentage.
pub(crate) fn percent(fraction: Option<f64>) -> String {
    fraction.map_or_else(|| "–".into(), |fraction| format!("{:.1}%", fraction * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_of_something_not_finite_is_none() {
        assert_eq!(mean(&[1.0, 3.0]), Some(2.0));
        assert_eq!(mean(&[1.0, f32::NAN]), None);
        assert_eq!(mean(&[]), None);
    }
}
