//! What is said of the numbers. Nothing is measured here.

use std::io;
use std::time::Duration;

use signvote_election::ExchangeError;
use signvote_net::Error;
use time::OffsetDateTime;

use super::certificates::Validity;
use super::measure::{Clock, Cpu, Disk, Link, Loopback, Measured, Memory, OpenFiles, QUESTIONS};
use super::{Check, Finding, Level};
use crate::Rate;
use crate::plan::{Cluster, Compute, Costs, Overlap, Step, System, step};
use crate::text::grouped;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const DAY: u64 = 24 * 60 * 60;
/// Seconds since 1970 at the beginning of 2026, before which there was no such program, and of 2100.
const ERA: std::ops::Range<u64> = 1_767_225_600..4_102_444_800;
/// Room for parameters, gradient, momentum and ballots of a ResNet-50, and for the data.
const LITTLE_MEMORY: u64 = GIB;
/// A clock for durations that steps further than this says little of rounds of a millisecond.
const COARSE: Duration = Duration::from_millis(1);
/// Sockets and files of a server: two to a worker, and these besides.
const FILES_BESIDES: u64 = 64;
/// Workers of a large run, and of a small one.
const MANY: u64 = 200;
const FEW: u64 = 8;
/// Less room than this ends a run soon, and with the other one none begins.
const LITTLE_ROOM: u64 = 5 * GIB;
const NO_ROOM: u64 = 64 * MIB;
/// Past this, rounds of a small model wait for the disk more than for anything else.
const SLOW_DISK: Duration = Duration::from_millis(20);
/// Days before the end of a certificate at which somebody should think of the next.
const SOON: u64 = 30;
/// Workers of the plans.
pub const WORKERS: u16 = 8;
/// One way, where there is no link to ask: as `signvote plan` assumes it.
const ASSUMED_LATENCY: Duration = Duration::from_micros(50);
/// Models of the plans, and their coordinates.
const MODELS: [(&str, u64); 2] = [("mlp", 203_530), ("ResNet-50", 25_557_032)];
/// Links of the plans, in bits a second.
const RATES: [f64; 3] = [1e8, 1e9, 1e10];

/// Processor and kernels.
#[must_use]
pub fn cpu(cpu: &Cpu) -> Finding {
    let machine = &cpu.machine;
    let cores = count(machine.cores as u64, "core");
    let words = format!(
        "{}, {cores}; kernels use {} (there are: {})",
        machine.cpu,
        machine.isa_reason,
        cpu.available.join(", ")
    );
    if cpu.asked {
        let advice = "SIGNVOTE_ISA is set: unset it, unless it is meant, for the fastest kernels";
        Finding::new(Check::Cpu, Level::Note, words).advise(advice)
    } else if machine.isa == "scalar" {
        let advice = "no vector instructions are known here: packing and counting take a few times as long";
        Finding::new(Check::Cpu, Level::Note, words).advise(advice)
    } else {
        Finding::new(Check::Cpu, Level::Good, words)
    }
}

/// What the kernels take, whose answers were checked.
#[must_use]
pub fn kernels(measured: &Measured) -> Finding {
    let Costs { pack_ns, apply_ns, tally_ns, .. } = measured.costs;
    match &measured.error {
        None => {
            let words = format!(
                "a core packs a coordinate in {pack_ns:.2} ns, counts a ballot's in {tally_ns:.4} and applies it in \
                 {apply_ns:.2}; all answers are right"
            );
            Finding::new(Check::Cpu, Level::Good, words)
        }
        Some(error @ crate::Error::Wrong { .. }) => Finding::new(Check::Cpu, Level::Bad, error.to_string())
            .advise("SIGNVOTE_ISA=scalar may help; signvote bench kernels says more, and the developers should know"),
        Some(error) => Finding::new(Check::Cpu, Level::Note, format!("the kernels were not measured: {error}"))
            .advise("signvote bench kernels --dim 1000000 measures smaller ones"),
    }
}

/// How much memory, and how fast.
#[must_use]
pub fn memory(memory: &Memory) -> Finding {
    let room = match (memory.total_bytes, memory.available_bytes) {
        (Some(total), Some(available)) => format!("{} of {} available", bytes(available), bytes(total)),
        (None, Some(available)) => format!("{} available", bytes(available)),
        _ => "the system does not say how much there is".into(),
    };
    let speed = match memory.copy_gb_per_s {
        Some(rate) => format!("a core reads and writes {rate:.1} GB/s in a copy"),
        None => "its speed was not measured, for want of room".into(),
    };
    let words = format!("{room}; {speed}");
    match memory.available_bytes {
        Some(available) if available < LITTLE_MEMORY => {
            let advice = "a small model fits; for a large one end other programs, or take another machine";
            Finding::new(Check::Memory, Level::Note, words).advise(advice)
        }
        _ => Finding::new(Check::Memory, Level::Good, words),
    }
}

/// The network within the machine.
#[must_use]
pub fn loopback(loopback: &io::Result<Loopback>) -> Finding {
    match loopback {
        Ok(Loopback { bytes_per_second, round_trip }) => {
            let (rate, trip) = (8.0 * bytes_per_second / 1e9, duration(*round_trip));
            let words =
                format!("{rate:.1} Gb/s over one TCP connection to 127.0.0.1, there and back in {trip}");
            Finding::new(Check::Loopback, Level::Good, words)
        }
        Err(error) => Finding::new(Check::Loopback, Level::Bad, format!("no TCP over 127.0.0.1: {error}"))
            .advise("bring the interface lo up, and let programs connect to it"),
    }
}

/// The clocks.
#[must_use]
pub fn clock(clock: &Clock) -> Finding {
    let set = "set the clock (timedatectl set-ntp true): with a wrong one certificates are refused";
    let Some(now) = clock.seconds_since_1970 else {
        return Finding::new(Check::Clock, Level::Bad, "it is before 1970 here").advise(set);
    };
    let step = clock.step.map_or_else(
        || "the clock for durations stands still".to_owned(),
        |step| format!("durations are measured in steps of {}", duration(step)),
    );
    if !ERA.contains(&now) {
        let words = format!("it is {} here, which cannot be; {step}", date(now));
        return Finding::new(Check::Clock, Level::Bad, words).advise(set);
    }
    let words = format!("it is {} here (UTC), which can be; {step}", date(now));
    match clock.step {
        Some(step) if step <= COARSE => Finding::new(Check::Clock, Level::Good, words),
        _ => Finding::new(Check::Clock, Level::Note, words).advise("times of short rounds will be coarse"),
    }
}

/// How many files and sockets a process may have.
#[must_use]
pub fn open_files(limits: Option<OpenFiles>) -> Finding {
    let Some(OpenFiles { soft, hard }) = limits else {
        return Finding::new(Check::Files, Level::Note, "how many may be open is not known here").advise(
            format!("a server needs 2 to a worker and {FILES_BESIDES} more; ulimit -n says what there is"),
        );
    };
    let number = |limit: u64| if limit == u64::MAX { "any number".into() } else { grouped(limit) };
    let workers = soft.saturating_sub(FILES_BESIDES) / 2;
    let wanted = 2 * MANY + FILES_BESIDES;
    let enough = match workers {
        0 => "too few for a server".into(),
        many if many >= MANY => format!("enough for a server with {MANY} workers"),
        few => format!("enough for a server with {}", count(few, "worker")),
    };
    let words = format!("{} may be open (hard limit: {}), {enough}", number(soft), number(hard));
    if soft >= wanted {
        return Finding::new(Check::Files, Level::Good, words);
    }
    let advice = if hard >= wanted {
        format!("ulimit -n {wanted} before signvote server, or LimitNOFILE={wanted} in its systemd unit")
    } else {
        format!(
            "as root: nofile {wanted} in /etc/security/limits.conf, or LimitNOFILE={wanted} in a systemd unit"
        )
    };
    let level = if workers < FEW { Level::Bad } else { Level::Note };
    Finding::new(Check::Files, level, words).advise(advice)
}

/// The file system of the current directory.
#[must_use]
pub fn disk(disk: &Disk) -> Finding {
    let free = disk.free_bytes.map_or_else(
        || "the system does not say how much room there is".to_owned(),
        |free| format!("{} free here", bytes(free)),
    );
    let time = match &disk.write {
        Ok(time) => *time,
        Err(error) => {
            let words = format!("{free}; a file cannot be written here: {error}");
            return Finding::new(Check::Disk, Level::Note, words).advise(
                "a server needs --run-dir DIR where it can write; a worker writes nothing unless told",
            );
        }
    };
    let words = format!("{free}; 64 KiB are on the disk in {}", duration(time));
    let always = "--durable always waits that long in every round";
    if disk.free_bytes.is_some_and(|free| free < NO_ROOM) {
        Finding::new(Check::Disk, Level::Bad, words).advise("make room, or pass --run-dir on another disk")
    } else if disk.in_memory {
        let advice = "this is a file system in memory, of which a crash of the machine leaves nothing: pass --run-dir on a disk";
        Finding::new(Check::Disk, Level::Note, words).advise(advice)
    } else if disk.free_bytes.is_some_and(|free| free < LITTLE_ROOM) {
        Finding::new(Check::Disk, Level::Note, words)
            .advise("snapshots and log of a server may take 4 GiB: make room, or pass --log-mib")
    } else if time > SLOW_DISK {
        Finding::new(Check::Disk, Level::Note, format!("{words}: {always}"))
            .advise("--durable interval, the default, does not wait")
    } else {
        Finding::new(Check::Disk, Level::Good, format!("{words}: {always}"))
    }
}

/// Nobody said where certificates are.
#[must_use]
pub fn no_certificates() -> Finding {
    Finding::new(Check::Certificates, Level::Good, "not looked at")
        .advise("--tls DIR, and for a worker --identity NAME, looks at them")
}

/// Certificates cannot be read or used.
#[must_use]
pub fn unusable(error: &Error) -> Finding {
    let advice = match error {
        Error::File { .. } => "check --tls and --identity; docs/identities.md says which files belong there",
        Error::Exposed { .. } => "then nobody else can read it",
        _ => {
            "copy the files once more from where signvote certs made them, or issue others there (docs/identities.md)"
        }
    };
    Finding::new(Check::Certificates, Level::Bad, error.to_string()).advise(advice)
}

/// One certificate, at a time in seconds since 1970.
#[must_use]
pub fn certificate(validity: &Validity, now: u64) -> Finding {
    let Validity { file, from, until } = validity;
    let (first, last) = (date(*from), date(*until));
    let finding = |level, words| Finding::new(Check::Certificates, level, words);
    let name = file.strip_suffix(".crt").unwrap_or(file);
    let renew = match name {
        "ca" | "server" => {
            "signvote certs init --dir NEW_DIR makes another CA: new files for everyone".into()
        }
        name => format!(
            "where the CA is: signvote certs revoke {name}, then issue {name}, and copy the new files here"
        ),
    };
    if now > *until {
        let words = format!("{file} is over since {last} ({} ago)", count((now - until) / DAY, "day"));
        return finding(Level::Bad, words).advise(renew);
    }
    if now < *from {
        let words = format!("{file} counts from {first} on only, and by the clock here it is {}", date(now));
        return finding(Level::Bad, words).advise("set the clock, if it is wrong");
    }
    let left = (until - now) / DAY;
    let words = format!("{file} counts from {first} to {last}: {} left", count(left, "day"));
    if left < SOON {
        return finding(Level::Note, words).advise(renew);
    }
    finding(Level::Good, words)
}

/// Whether key, certificate and CA of a name fit together.
#[must_use]
pub fn fits_together(name: &str, outcome: Result<&(), &Error>) -> Finding {
    match outcome {
        Ok(()) => {
            let words =
                format!("{name}: key, certificate and CA fit together, and no list here has it revoked");
            Finding::new(Check::Certificates, Level::Good, words)
        }
        Err(error) => unusable(error),
    }
}

/// No server was named.
#[must_use]
pub fn no_server() -> Finding {
    Finding::new(Check::Link, Level::Good, "not looked at").advise("signvote doctor HOST:PORT asks a server")
}

/// There is nobody to ask a server as.
#[must_use]
pub fn no_identity(address: &str) -> Finding {
    let words = format!("{address} was not asked, because the certificates cannot be used");
    Finding::new(Check::Link, Level::Bad, words).advise("mend those first")
}

/// The way to a server.
#[must_use]
pub fn link(link: &Result<Link, ExchangeError>) -> Finding {
    let link = match link {
        Ok(link) => link,
        Err(error) => {
            let advice = match error {
                ExchangeError::Lost(_) => "check address, port and firewall",
                ExchangeError::Untrusted(_) => {
                    "both ends need certificates of one CA, or neither has any: pass --tls and --identity, or leave them out"
                }
                _ => "use the same version at both ends",
            };
            return Finding::new(Check::Link, Level::Bad, error.to_string()).advise(advice);
        }
    };
    let words = format!(
        "run {} is {}, round {} of {}, {} of {} are there; {} answers in {} (median of {QUESTIONS}, connecting{} included)",
        link.run,
        link.phase,
        grouped(link.round),
        grouped(link.rounds),
        link.connected,
        count(link.workers as u64, "worker"),
        if link.tls { "the server, over TLS," } else { "the server, in plain text," },
        duration(link.question),
        if link.tls { " and handshake" } else { "" },
    );
    // TCP begins slowly: over a long way the link may have more.
    let Some(rate) = link.bits_per_second else {
        return Finding::new(Check::Link, Level::Good, words).advise(
            "the rate of the link was not measured: signvote bench exchange --role server --listen HOST:PORT there, and \
             --role worker --connect HOST:PORT here, do that",
        );
    };
    let words = format!("{words}; the link from there has {} or more", bits(rate));
    Finding::new(Check::Link, Level::Good, words)
        .advise("signvote bench exchange says what a round takes over it")
}

/// What a step takes with a vote and with an all-reduce, for each of the models and links.
///
/// `latency` is that of the link, one way, if there was one to ask.
#[must_use]
pub fn plan(measured: &Measured, latency: Option<Duration>, cores: usize) -> Vec<Finding> {
    let mut findings: Vec<_> = MODELS
        .iter()
        .flat_map(|model| {
            RATES.iter().filter_map(|bits| Rate::from_bits_per_second(*bits)).map(move |rate| (model, rate))
        })
        .filter_map(|((model, dim), rate)| {
            // The rest is as `signvote plan` has it.
            let cluster = Cluster {
                latency_s: latency.unwrap_or(ASSUMED_LATENCY).as_secs_f64(),
                vote_efficiency: 0.95,
                dense_efficiency: 0.95,
                cores: u32::try_from(cores).unwrap_or(u32::MAX),
                ..Cluster::of_links(u32::from(WORKERS), rate)
            };
            let alone = Compute { seconds: 0.0, backward_share: 0.0 };
            let steps = System::ALL.map(|system| step(system, *dim as f64, &cluster, &measured.costs, alone));
            let fastest = |vote: bool| {
                let those = steps.iter().filter(|step| step.system.is_vote() == vote);
                those.min_by(|a, b| Overlap::None.seconds(a).total_cmp(&Overlap::None.seconds(b)))
            };
            Some(compared(
                &format!("{model} ({} coordinates)", grouped(*dim)),
                rate,
                fastest(true)?,
                fastest(false)?,
            ))
        })
        .collect();
    if let Some(last) = findings.last_mut() {
        let kernels = match measured.error {
            None => "kernels as measured here",
            Some(_) => "kernels as in docs/plan.md",
        };
        let told = latency.map_or_else(
            || format!("{} a message assumed", duration(ASSUMED_LATENCY)),
            |latency| format!("{} a message, at most, to that server", duration(latency)),
        );
        last.advice = Some(format!(
            "all for {WORKERS} workers on hosts like this one, {kernels}, {told}, bytes as in docs/plan.md, and without the computation, \
             under which an all-reduce can hide: signvote plan --measure --compute-ms MS says more"
        ));
    }
    findings
}

/// A vote beside an all-reduce. Neither is a fault.
fn compared(model: &str, rate: Rate, vote: &Step, dense: &Step) -> Finding {
    let (vote_s, dense_s) = (Overlap::None.seconds(vote), Overlap::None.seconds(dense));
    let times = |step: &Step, seconds: f64| {
        format!(
            "{} in {}",
            step.system.title(),
            duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
        )
    };
    let (faster, slower, ratio) = if vote_s <= dense_s {
        (times(vote, vote_s), times(dense, dense_s), dense_s / vote_s)
    } else {
        (times(dense, dense_s), times(vote, vote_s), vote_s / dense_s)
    };
    let which = match (ratio, vote_s <= dense_s) {
        (ratio, _) if ratio < 1.05 => "both exchanges take as long".to_owned(),
        (ratio, true) => format!("an exchange by vote is {} times as fast", short(ratio)),
        (ratio, false) => format!("an exchange by all-reduce is {} times as fast", short(ratio)),
    };
    Finding::new(Check::Plan, Level::Good, format!("{model} at {rate}: {which}: {faster}, {slower}"))
}

/// A ratio of at least 1, with two digits or as many as it has before the point.
fn short(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.1}") } else { format!("{ratio:.0}") }
}

/// Bytes for people.
fn bytes(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 10 * GIB => format!("{} GiB", grouped(bytes / GIB)),
        bytes if bytes >= GIB => format!("{:.1} GiB", bytes as f64 / GIB as f64),
        bytes => format!("{} MiB", bytes / MIB),
    }
}

/// A time for people, with three digits at most.
fn duration(time: Duration) -> String {
    let (value, unit) = match time.as_secs_f64() {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s if s >= 1e-6 => (s * 1e6, "µs"),
        s => (s * 1e9, "ns"),
    };
    match value {
        value if value >= 10.0 => format!("{value:.0} {unit}"),
        value => format!("{value:.1} {unit}"),
    }
}

/// So many seconds after 1970, as a date.
fn date(seconds: u64) -> String {
    let known = i64::try_from(seconds).ok().and_then(|at| OffsetDateTime::from_unix_timestamp(at).ok());
    known.map_or_else(
        || "beyond the year 9999".into(),
        |at| format!("{:04}-{:02}-{:02}", at.year(), u8::from(at.month()), at.day()),
    )
}

/// Bits a second.
fn bits(rate: f64) -> String {
    let (value, unit) = if rate >= 1e9 { (rate / 1e9, "Gb/s") } else { (rate / 1e6, "Mb/s") };
    if value < 9.95 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}

fn count(number: u64, one: &str) -> String {
    format!("{} {one}{}", grouped(number), if number == 1 { "" } else { "s" })
}
