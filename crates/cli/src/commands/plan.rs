//! `signvote plan`: what a step will take, voting and otherwise, before anything is bought or started.

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use indicatif::{HumanBytes, ProgressBar};
use serde::Serialize;
use signvote_bench::Rate;
use signvote_bench::plan::check::{Checked, Measurements, compare};
use signvote_bench::plan::measure::measure;
use signvote_bench::plan::paper::{self, Paper};
use signvote_bench::plan::{
    Bound, BreakEven, Choice, Cluster, Compute, Costs, Overlap, Step, System, break_even, choose, step,
};
use signvote_learn::{BurnEngine, Engine, Examples, ModelKind, Shape, rounds_per_epoch, set_threads};

use super::print;
use crate::exit::{Exit, Failure};
use crate::flags::{CostFlags, PlanFlags};
use crate::progress::grouped;

/// Coordinates of ResNet-50, about.
const RESNET_50: u64 = 25_600_000;
/// Batches that are timed, after one that is not.
const BATCHES: usize = 7;
/// Examples in the data that the program brings.
const EMBEDDED: u64 = 10_000;

pub(crate) fn run(flags: &PlanFlags) -> Result<Exit, Failure> {
    check_flags(flags)?;
    if flags.check_paper {
        let paper = paper::predict();
        return output(flags, &paper, || paper_table(&paper));
    }
    let (costs, source) = costs(flags)?;
    let cluster = cluster(flags);
    if let Some(path) = &flags.check {
        let checked = check(path, &cluster, &costs)?;
        return output(flags, &checked, || check_table(&checked));
    }
    let plan = plan(flags, cluster, costs, source)?;
    output(flags, &plan, || plan_table(&plan))
}

/// Refuses numbers that are none.
fn check_flags(flags: &PlanFlags) -> Result<(), Failure> {
    let CostFlags { pack_ns, tally_ns, apply_ns, vote_byte_ns, dense_byte_ns, reduce_ns, reduce_half_ns } =
        flags.costs;
    for (flag, value) in [
        ("compute-ms", flags.compute_ms.unwrap_or(0.0)),
        ("latency-ms", flags.latency_ms),
        ("pack-ns", pack_ns),
        ("tally-ns", tally_ns),
        ("apply-ns", apply_ns),
        ("vote-byte-ns", vote_byte_ns),
        ("dense-byte-ns", dense_byte_ns),
        ("reduce-ns", reduce_ns),
        ("reduce-half-ns", reduce_half_ns),
    ] {
        if !(0.0..=1e9).contains(&value) {
            return Err(Failure::usage(format!("--{flag} must be from 0 to 1e9, got {value}")));
        }
    }
    for (flag, value) in
        [("vote-efficiency", flags.vote_efficiency), ("dense-efficiency", flags.dense_efficiency)]
    {
        if !(value > 0.0 && value <= 1.0) {
            return Err(Failure::usage(format!("--{flag} must be above 0 and at most 1, got {value}")));
        }
    }
    let share = flags.backward_share;
    if !(0.0..=1.0).contains(&share) {
        return Err(Failure::usage(format!("--backward-share must be from 0 to 1, got {share}")));
    }
    Ok(())
}

fn output(
    flags: &PlanFlags,
    result: &impl Serialize,
    table: impl FnOnce() -> String,
) -> Result<Exit, Failure> {
    if flags.json {
        let json = serde_json::to_string(result)
            .map_err(|error| Failure::internal("cannot write the result", &error))?;
        print(&json);
    } else {
        print(&table());
    }
    Ok(Exit::Success)
}

/// What a core does: as told, or as measured here; and which.
fn costs(flags: &PlanFlags) -> Result<(Costs, String), Failure> {
    let CostFlags { pack_ns, tally_ns, apply_ns, vote_byte_ns, dense_byte_ns, reduce_ns, reduce_half_ns } =
        flags.costs;
    let told = Costs { pack_ns, tally_ns, apply_ns, vote_byte_ns, dense_byte_ns, reduce_ns, reduce_half_ns };
    if !flags.measure {
        let source = if told == Costs::default() { "as measured for docs/plan.md" } else { "as given" };
        return Ok((told, source.into()));
    }
    let bar = bar(flags, "measuring kernels and rounds");
    let measured = measure(&told, flags.workers);
    bar.finish_and_clear();
    let measured = measured?;
    let machine = measured.machine;
    let source =
        format!("measured here ({}, {}), but for {}", machine.cpu, machine.isa, measured.left_out.join(", "));
    Ok((measured.costs, source))
}

fn cluster(flags: &PlanFlags) -> Cluster {
    let here = std::thread::available_parallelism().map_or(1, usize::from);
    Cluster {
        hosts: u32::from(flags.workers),
        rate: flags.rate,
        burst_bytes: 0.0,
        latency_s: flags.latency_ms * 1e-3,
        vote_efficiency: flags.vote_efficiency,
        dense_efficiency: flags.dense_efficiency,
        hosts_per_machine: u32::from(flags.hosts_per_machine),
        cores: flags.cores.map_or(u32::try_from(here).unwrap_or(u32::MAX), u32::from),
    }
}

fn bar(flags: &PlanFlags, message: &'static str) -> ProgressBar {
    let bar = if flags.quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    bar.set_message(message);
    bar
}

/// A plan, for programs.
#[derive(Serialize)]
struct Plan {
    dim: u64,
    #[serde(flatten)]
    cluster: Cluster,
    compute_ms: f64,
    /// `given`, `measured`, or `none`.
    compute: &'static str,
    backward_share: f64,
    overlap: Overlap,
    steps_per_epoch: Option<u64>,
    costs: Costs,
    costs_source: String,
    systems: Vec<Row>,
    /// Against the fastest vote.
    break_even_fp32: BreakEven,
    break_even_fp16: BreakEven,
    choice: Choice,
}

/// A system in a plan.
#[derive(Serialize)]
struct Row {
    system: System,
    link_bytes: u64,
    limit_ms: f64,
    exchange_ms: f64,
    bound: Bound,
    link_ms: f64,
    cores_ms: f64,
    process_ms: f64,
    step_after_ms: f64,
    step_under_ms: f64,
    /// That of the two which `overlap` says.
    step_ms: f64,
    epoch_s: Option<f64>,
}

impl Row {
    fn of(step: &Step, overlap: Overlap, steps_per_epoch: Option<u64>) -> Self {
        let exchange = &step.exchange;
        let seconds = overlap.seconds(step);
        Self {
            system: step.system,
            link_bytes: exchange.link_bytes as u64,
            limit_ms: exchange.limit_s * 1e3,
            exchange_ms: exchange.seconds() * 1e3,
            bound: exchange.bound(),
            link_ms: exchange.link_s * 1e3,
            cores_ms: exchange.cores_s * 1e3,
            process_ms: exchange.process_s * 1e3,
            step_after_ms: step.after_s * 1e3,
            step_under_ms: step.under_s * 1e3,
            step_ms: seconds * 1e3,
            epoch_s: steps_per_epoch.map(|steps| steps as f64 * seconds),
        }
    }
}

fn plan(flags: &PlanFlags, cluster: Cluster, costs: Costs, costs_source: String) -> Result<Plan, Failure> {
    let dim =
        flags.dim.unwrap_or_else(|| flags.model.map_or(RESNET_50, |kind| kind.usual().dimension() as u64));
    let (compute_ms, how) = match (flags.compute_ms, flags.model) {
        (Some(ms), _) => (ms, "given"),
        (None, Some(model)) => {
            let bar = bar(flags, "measuring a batch");
            let seconds = batch_seconds(model, flags.batch as usize);
            bar.finish_and_clear();
            // One thread: hosts on one machine share its cores in this as well.
            let together = cluster.hosts_per_machine.min(cluster.hosts);
            let crowding = (f64::from(together) / f64::from(cluster.cores)).max(1.0);
            (seconds? * 1e3 * crowding, "measured")
        }
        (None, None) => (0.0, "none"),
    };
    let compute = Compute { seconds: compute_ms * 1e-3, backward_share: flags.backward_share };
    let overlap = Overlap::from(flags.overlap);
    let examples = flags.examples.or_else(|| flags.model.map(|_| EMBEDDED));
    let steps_per_epoch = flags.steps.or_else(|| {
        examples.map(|examples| {
            let examples = usize::try_from(examples).unwrap_or(usize::MAX);
            rounds_per_epoch(examples, usize::from(flags.workers), flags.batch as usize)
        })
    });
    let systems = flags.topology.systems();
    let d = dim as f64;
    let steps: Vec<_> = systems.iter().map(|system| step(*system, d, &cluster, &costs, compute)).collect();
    let votes: Vec<_> = systems.iter().copied().filter(|system| system.is_vote()).collect();
    let even = |dense| break_even(dense, &votes, d, &cluster, &costs, (compute, overlap));
    let choice = choose(&steps, cluster.hosts, overlap)
        .ok_or_else(|| Failure::internal("cannot choose", &"there is no system"))?;
    Ok(Plan {
        dim,
        compute_ms,
        compute: how,
        backward_share: flags.backward_share,
        overlap,
        steps_per_epoch,
        costs_source,
        systems: steps.iter().map(|step| Row::of(step, overlap, steps_per_epoch)).collect(),
        break_even_fp32: even(System::RingFp32),
        break_even_fp16: even(System::RingFp16),
        choice,
        cluster,
        costs,
    })
}

/// The median time of a gradient, on one thread as a worker has it by default, of examples that are made up.
fn batch_seconds(kind: ModelKind, batch: usize) -> Result<f64, Failure> {
    set_threads(1)?;
    let model = kind.usual();
    let shape = model.shape();
    let (inputs, labels) = (batch * shape.inputs(), batch * shape.predictions());
    let mut examples = Examples::default();
    match shape {
        Shape::Tokens { vocabulary, .. } => {
            examples.tokens = (0..inputs).map(|at| (at * 31 % vocabulary) as u32).collect();
        }
        _ => examples.pixels = (0..inputs).map(|at| (at * 31 % 255) as f32 / 128.0 - 1.0).collect(),
    }
    examples.labels = (0..labels).map(|at| (at * 7 % shape.classes()) as u32).collect();
    let mut engine = BurnEngine::new(&model);
    let (x, mut gradient) = (model.initial(1), vec![0.0; model.dimension()]);
    let mut times = Vec::with_capacity(BATCHES);
    for turn in 0..=BATCHES {
        let began = Instant::now();
        engine.gradient(&x, examples.batch(), &mut gradient)?;
        if turn > 0 {
            times.push(began.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

fn plan_table(plan: &Plan) -> String {
    let Plan { dim, cluster, compute_ms, systems, overlap, .. } = plan;
    let plural = |count: u32, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let mut out = format!(
        "{} coordinates, {}, links of {}; {} to a machine of {}\n",
        grouped(*dim),
        plural(cluster.hosts, "host"),
        cluster.rate,
        plural(cluster.hosts_per_machine.min(cluster.hosts), "host"),
        plural(cluster.cores, "core")
    );
    let how = match plan.compute {
        "measured" => "measured here on one thread, cores shared",
        "given" => "as given",
        _ => "not given (--compute-ms, --model): the exchange alone",
    };
    let share = 100.0 * plan.backward_share;
    let _ = match plan.compute {
        "none" => writeln!(out, "compute {how}"),
        _ => writeln!(out, "compute {} a step, {share:.0}% of it backward: {how}", ms(*compute_ms)),
    };
    let Costs { pack_ns, tally_ns, apply_ns, vote_byte_ns, dense_byte_ns, reduce_ns, reduce_half_ns } =
        plan.costs;
    let _ = writeln!(
        out,
        "a core: {} ns a coordinate packed, {} counted, {} applied, {} added ({} as fp16); {} a byte of a vote at \
         each end, {} of an all-reduce; {}",
        short(pack_ns),
        short(tally_ns),
        short(apply_ns),
        short(reduce_ns),
        short(reduce_half_ns),
        short(vote_byte_ns),
        short(dense_byte_ns),
        plan.costs_source
    );
    let _ = writeln!(
        out,
        "of a link's rate a vote gets {:.0}%, an all-reduce {:.0}%; a message takes {} besides",
        100.0 * cluster.vote_efficiency,
        100.0 * cluster.dense_efficiency,
        ms(cluster.latency_s * 1e3)
    );
    let _ = writeln!(
        out,
        "\n{:<36} {:>12} {:>9} {:>9} {:>7} {:>9} {:>9} {:>9}",
        "", "busiest link", "limit", "exchange", "by", "after", "under", "epoch"
    );
    for row in systems {
        let epoch = row.epoch_s.map_or_else(|| "–".into(), seconds);
        let mark = |this: bool| if this { '*' } else { ' ' };
        let under = matches!((overlap, row.system.is_vote()), (Overlap::All, _) | (Overlap::Today, false));
        let _ = writeln!(
            out,
            "{:<36} {:>12} {:>9} {:>9} {:>7} {:>8}{} {:>8}{} {:>9}",
            row.system.title(),
            HumanBytes(row.link_bytes).to_string(),
            ms(row.limit_ms),
            ms(row.exchange_ms),
            bound(row.bound),
            ms(row.step_after_ms),
            mark(!under),
            ms(row.step_under_ms),
            mark(under),
            epoch
        );
    }
    let assumed = match overlap {
        Overlap::Today => {
            "an all-reduce runs under the backward pass (DDP), a vote after it, as with an engine that has the whole gradient at once"
        }
        Overlap::None => "every exchange comes after the backward pass",
        Overlap::All => {
            "every exchange runs under the backward pass, a vote with gradients handed in as they come"
        }
    };
    let _ = writeln!(out, "after, under: a step with the exchange after the backward pass or under it");
    let _ = writeln!(out, "*: {assumed} (--overlap); epoch, break-even and choice are by that\n");
    for (name, even) in [("fp32", plan.break_even_fp32), ("fp16", plan.break_even_fp16)] {
        let _ = writeln!(out, "break-even: {}", even_text(name, even));
    }
    let _ = write!(out, "choose: {}: {}", plan.choice.system.title(), plan.choice.why);
    out
}

fn even_text(name: &str, even: BreakEven) -> String {
    match even {
        BreakEven::Always => format!("{name} all-reduce is as fast as the vote at any rate"),
        BreakEven::From(rate) => format!("from {rate:.1} on {name} all-reduce is as fast as the vote"),
        BreakEven::Never => {
            format!("at any rate the vote is faster than {name} all-reduce: its cores have less to do")
        }
    }
}

fn bound(bound: Bound) -> &'static str {
    match bound {
        Bound::Link => "link",
        Bound::Cores => "cores",
        Bound::Process => "process",
    }
}

fn check(path: &Path, cluster: &Cluster, costs: &Costs) -> Result<Checked, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let message = format!("--check {}: {error}; bench/netlab writes such a file", path.display());
        Failure::new(Exit::Data, message)
    })?;
    let named = |error: signvote_bench::Error| {
        let message = format!("--check {}: {error}; bench/netlab writes such a file", path.display());
        Failure::new(Exit::Data, message)
    };
    let measured = Measurements::read(&text).map_err(named)?;
    compare(&measured, cluster, costs).map_err(named)
}

fn check_table(checked: &Checked) -> String {
    let Checked { date, machine, dim, runs, .. } = checked;
    let mut out = format!(
        "measured {date} on {}, {} cores, {}: {} coordinates, all hosts on that machine\n",
        machine.cpu,
        machine.cores,
        machine.kernel,
        grouped(*dim)
    );
    let _ = writeln!(
        out,
        "{:>5} {:>9}  {:<24} {:>9} {:>9} {:>9} {:>7} {:>7}",
        "hosts", "rate", "", "limit", "measured", "predicted", "by", "error"
    );
    for run in runs {
        let rate = Rate::from_bits_per_second(run.rate_mbit * 1e6);
        let _ = writeln!(
            out,
            "{:>5} {:>9}  {:<24} {:>9} {:>9} {:>9} {:>7} {:>+6.0}%",
            run.hosts,
            rate.map_or_else(String::new, |rate| rate.to_string()),
            run.system,
            ms(run.limit_ms),
            ms(run.measured_ms),
            ms(run.predicted_ms),
            bound(run.bound),
            100.0 * run.error
        );
    }
    let _ = write!(
        out,
        "error: median {:.0}%, worst {:.0}%, of {} runs",
        100.0 * checked.median_error,
        100.0 * checked.worst_error,
        runs.len()
    );
    if !checked.left_out.is_empty() {
        let _ = write!(out, "\nnot predicted: {}", checked.left_out.join(", "));
    }
    out
}

fn paper_table(paper: &Paper) -> String {
    let mut out = format!(
        "the paper: {} machines with a V100 each, 10 Gb/s, ResNet-50 ({} coordinates), batches of {}: {:.0}% less time \
         than SGD over NCCL\ncompute {} a step, from {} images a second in fp32 (NVIDIA, DeepLearningExamples); \
         work of the CPUs left out, links at their full rate\n\n",
        paper::HOSTS,
        grouped(paper::DIM as u64),
        paper::BATCH,
        100.0 * paper.reported,
        ms(paper.compute_ms),
        paper::IMAGES_PER_SECOND
    );
    let _ = writeln!(out, "{:<74} {:>8} {:>8} {:>10}", "", "SGD", "vote", "less time");
    for case in &paper.cases {
        let saved = format!("{:.1}%", 100.0 * case.saved);
        let _ = writeln!(
            out,
            "{:<74} {:>8} {:>8} {saved:>10}",
            case.assumption,
            ms(case.dense_ms),
            ms(case.vote_ms)
        );
    }
    let _ = write!(
        out,
        "\nthe first comes to the paper's {:.0}% if NCCL got {:.0}% of the link's rate",
        100.0 * paper.reported,
        100.0 * paper.efficiency_for_reported
    );
    out
}

/// Milliseconds with three digits, in the unit that suits them.
fn ms(ms: f64) -> String {
    match ms {
        ms if ms >= 9999.5 => seconds(ms * 1e-3),
        ms if ms >= 99.95 => format!("{ms:.0} ms"),
        ms if ms >= 9.995 => format!("{ms:.1} ms"),
        _ => format!("{ms:.2} ms"),
    }
}

fn seconds(seconds: f64) -> String {
    match seconds {
        s if s >= 2.0 * 86_400.0 => format!("{:.1} d", s / 86_400.0),
        s if s >= 2.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s if s >= 120.0 => format!("{:.1} min", s / 60.0),
        s => format!("{s:.1} s"),
    }
}

/// Nanoseconds with two digits.
fn short(ns: f64) -> String {
    match ns {
        ns if ns >= 0.1 || ns == 0.0 => {
            format!("{:.2}", ns).trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        ns => format!("{ns:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_suits_them() {
        assert_eq!(
            [0.0, 9.994, 38.4, 1536.0, 20_000.0].map(ms),
            ["0.00 ms", "9.99 ms", "38.4 ms", "1536 ms", "20.0 s"]
        );
        assert_eq!([20.0, 600.0, 9000.0, 200_000.0].map(seconds), ["20.0 s", "10.0 min", "2.5 h", "2.3 d"]);
        assert_eq!([0.0, 0.0056, 0.32, 1.0].map(short), ["0", "0.0056", "0.32", "1"]);
    }
}
