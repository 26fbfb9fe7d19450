//! Predictions beside measurements.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Bound, Cluster, Costs, System, exchange};
use crate::{Error, Rate};

/// Measurements of `bench/netlab`, as far as they are needed: all hosts on one machine, joined by shaped links.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Measurements {
    /// When.
    pub date: String,
    /// Where.
    pub machine: MeasuredOn,
    /// Coordinates, d.
    pub dim: u64,
    /// What the bucket of a link holds, by its rate; nothing for rates that are not named.
    #[serde(default)]
    pub burst_bytes: BTreeMap<String, u64>,
    /// What was measured.
    pub runs: Vec<Run>,
}

/// The machine that all hosts were on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredOn {
    /// Its processor.
    pub cpu: String,
    /// Its cores.
    pub cores: u32,
    /// Its kernel.
    pub kernel: String,
}

/// One system at one number of hosts and one rate.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Run {
    /// Hosts, N.
    pub hosts: u32,
    /// What a link carries each way, in 10⁶ bits a second.
    pub rate_mbit: f64,
    /// `signvote-central`, `signvote-central-apart`, `signvote-sharded`, `gloo-fp32`, `gloo-fp16`, or another.
    pub system: String,
    /// The median of its exchanges; not there if it failed.
    pub median_ms: Option<f64>,
    /// Why there is none.
    pub failed: Option<String>,
}

/// A run, and what was predicted for it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Hosts.
    pub hosts: u32,
    /// Of the link.
    pub rate_mbit: f64,
    /// The system, as the measurements call it.
    pub system: String,
    /// The link's limit.
    pub limit_ms: f64,
    /// What the exchange was measured to take.
    pub measured_ms: f64,
    /// What it was predicted to take.
    pub predicted_ms: f64,
    /// What the prediction says it waits for.
    pub bound: Bound,
    /// predicted / measured − 1.
    pub error: f64,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checked {
    /// When they were measured.
    pub date: String,
    /// Where.
    pub machine: MeasuredOn,
    /// Coordinates.
    pub dim: u64,
    /// Run by run.
    pub runs: Vec<Comparison>,
    /// The median of the errors' sizes, |predicted / measured − 1|.
    pub median_error: f64,
    /// The largest of them.
    pub worst_error: f64,
    /// Systems for which nothing is predicted, and runs that failed.
    pub left_out: Vec<String>,
}

impl Measurements {
    /// Reads netlab's JSON. Fields that are not needed are skipped.
    ///
    /// # Errors
    /// [`Error::Results`] where it is no such file, or a figure cannot be one: no hosts, a time or a rate that is not positive.
    pub fn read(text: &str) -> Result<Self, Error> {
        let wrong = |what: String| Error::Results { what };
        let read: Self = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if read.dim == 0 {
            return Err(wrong("dim: expected at least 1, got 0".into()));
        }
        for (index, run) in read.runs.iter().enumerate() {
            if run.hosts == 0 {
                return Err(wrong(format!("hosts of run {}: expected at least 1, got 0", index + 1)));
            }
            let median_ms = match &run.failed {
                Some(_) => run.median_ms,
                None => Some(run.median_ms.unwrap_or(f64::NAN)),
            };
            for (name, value) in [("rate_mbit", Some(run.rate_mbit)), ("median_ms", median_ms)] {
                if let Some(value) = value.filter(|value| !(*value > 0.0 && value.is_finite())) {
                    let run = index + 1;
                    let got = if value.is_nan() { "none".to_owned() } else { value.to_string() };
                    return Err(wrong(format!("{name} of run {run}: expected a positive number, got {got}")));
                }
            }
        }
        for rate in read.burst_bytes.keys() {
            rate.parse::<Rate>().map_err(|error| wrong(format!("burst_bytes: {error}")))?;
        }
        Ok(read)
    }
}

impl Measurements {
    /// What a link of that rate lets through at once.
    fn burst_bytes(&self, rate: Rate) -> f64 {
        let named = |(name, bytes): (&String, &u64)| (name.parse() == Ok(rate)).then_some(*bytes as f64);
        self.burst_bytes.iter().find_map(named).unwrap_or(0.0)
    }
}

/// The system of that name in measurements.
fn system(name: &str) -> Option<System> {
    Some(match name {
        "gloo-fp32" => System::RingFp32,
        "gloo-fp16" => System::RingFp16,
        "signvote-central" => System::Central,
        "signvote-central-apart" => System::CentralApart,
        "signvote-sharded" => System::Sharded,
        _ => return None,
    })
}

/// Predicts every run that was measured. Of `like` latency and efficiencies are taken; hosts, rates and cores are those of the
/// measurements.
///
/// # Errors
/// [`Error::Results`] when there is no run of a system that is known here.
pub fn compare(measured: &Measurements, like: &Cluster, costs: &Costs) -> Result<Checked, Error> {
    let (mut runs, mut left_out) = (Vec::new(), Vec::<String>::new());
    for run in &measured.runs {
        let rate = Rate::from_bits_per_second(run.rate_mbit * 1e6);
        let (Some(system), Some(rate), Some(median_ms)) = (system(&run.system), rate, run.median_ms) else {
            let why = match (&run.failed, rate) {
                (Some(_), Some(rate)) => {
                    format!("{} with {} hosts at {rate}, which failed", run.system, run.hosts)
                }
                _ => run.system.clone(),
            };
            if !left_out.contains(&why) {
                left_out.push(why);
            }
            continue;
        };
        let cluster = Cluster {
            hosts: run.hosts,
            rate,
            hosts_per_machine: run.hosts,
            cores: measured.machine.cores,
            burst_bytes: measured.burst_bytes(rate),
            ..like.clone()
        };
        let predicted = exchange(system, measured.dim as f64, &cluster, costs);
        runs.push(Comparison {
            hosts: run.hosts,
            rate_mbit: run.rate_mbit,
            system: run.system.clone(),
            limit_ms: predicted.limit_s * 1e3,
            measured_ms: median_ms,
            predicted_ms: predicted.seconds() * 1e3,
            bound: predicted.bound(),
            error: predicted.seconds() * 1e3 / median_ms - 1.0,
        });
    }
    let mut errors: Vec<_> = runs.iter().map(|run| run.error.abs()).collect();
    errors.sort_by(f64::total_cmp);
    let (low, high) = (errors.len().saturating_sub(1) / 2, errors.len() / 2);
    let median = errors.get(low).zip(errors.get(high)).map(|(low, high)| f64::midpoint(*low, *high));
    let (Some(median_error), Some(worst_error)) = (median, errors.last().copied()) else {
        let what =
            "no run of gloo-fp32, gloo-fp16, signvote-central, signvote-central-apart or signvote-sharded";
        return Err(Error::Results { what: what.into() });
    };
    let Measurements { date, machine, dim, .. } = measured.clone();
    Ok(Checked { date, machine, dim, runs, median_error, worst_error, left_out })
}
