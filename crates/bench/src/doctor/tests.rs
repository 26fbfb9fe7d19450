use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use signvote_election::ExchangeError;
use signvote_net::{Name, certs};

use super::certificates::{Validity, read};
use super::measure::{Clock, Cpu, Disk, Link, Loopback, Measured, Memory, OpenFiles, open_files_in};
use super::{Check, Finding, Level, Wanted, examine, measure, words};
use crate::machine::meminfo;
use crate::plan::Costs;
use crate::{Error, Machine};

const DAY: u64 = 24 * 60 * 60;
/// 2026-11-26.
const NOW: u64 = 1_795_651_200;

#[track_caller]
fn says(finding: &Finding, level: Level, expected: &[&str]) {
    let line = finding.to_string();
    assert_eq!(finding.level, level, "{line}");
    assert!(!line.contains('\n'), "{line}");
    for words in expected {
        assert!(line.contains(words), "{words:?} is not in {line:?}");
    }
    if level != Level::Good {
        assert!(finding.advice.is_some(), "it says what to do: {line}");
    }
}

fn certificate(file: &str, days_left: i64) -> Finding {
    let until = NOW.saturating_add_signed(days_left * DAY as i64);
    words::certificate(&Validity { file: file.into(), from: NOW - 700 * DAY, until }, NOW)
}

#[test]
fn a_certificate_is_warned_of_before_it_ends_and_bad_afterwards() {
    says(&certificate("gpu-1.crt", 30), Level::Good, &["gpu-1.crt", "2026-12-26", "30 days left"]);
    says(&certificate("gpu-1.crt", 29), Level::Note, &["29 days left"]);
    let ten = certificate("gpu-1.crt", 10);
    says(&ten, Level::Note, &["note", "10 days left", "signvote certs revoke gpu-1", "issue gpu-1"]);
    says(&certificate("gpu-1.crt", 1), Level::Note, &["1 day left"]);
    says(
        &certificate("gpu-1.crt", -3),
        Level::Bad,
        &["BAD", "over since 2026-11-23 (3 days ago)", "revoke gpu-1"],
    );
    says(&certificate("ca.crt", -3), Level::Bad, &["signvote certs init"]);
    let early = Validity { file: "ca.crt".into(), from: NOW + DAY, until: NOW + 9 * DAY };
    says(
        &words::certificate(&early, NOW),
        Level::Bad,
        &["from 2026-11-27 on", "2026-11-26", "set the clock"],
    );
}

#[test]
fn the_dates_of_certificates_are_those_that_they_were_made_with() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("certs");
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    certs::init(&dir).unwrap();
    let name: Name = "gpu-1".parse().unwrap();
    certs::issue(&dir, std::slice::from_ref(&name)).unwrap();
    let found = read(&dir, Some(&name)).unwrap();
    assert_eq!(found.iter().map(|it| it.file.as_str()).collect::<Vec<_>>(), ["ca.crt", "gpu-1.crt"]);
    for (validity, days) in found.iter().zip([3652, 730]) {
        assert!((before..before + 60).contains(&(validity.from + DAY)), "{validity:?}");
        assert!((before..before + 60).contains(&(validity.until - days * DAY)), "{validity:?}");
    }
    let all = read(&dir, None).unwrap();
    assert_eq!(
        all.iter().map(|it| it.file.as_str()).collect::<Vec<_>>(),
        ["ca.crt", "gpu-1.crt", "server.crt"]
    );

    // Of several certificates in a file the one that ends first counts.
    let both = [fs::read(dir.join("ca.crt")).unwrap(), fs::read(dir.join("gpu-1.crt")).unwrap()].concat();
    fs::write(dir.join("both.crt"), both).unwrap();
    let both = read(&dir, Some(&"both".parse().unwrap())).unwrap();
    assert_eq!(both[1].until, found[1].until);

    let missing = read(&dir, Some(&"gpu-2".parse().unwrap())).unwrap_err();
    says(&words::unusable(&missing), Level::Bad, &["gpu-2.crt", "signvote certs issue", "--identity"]);
    fs::write(dir.join("gpu-1.crt"), "nothing").unwrap();
    let wrong = read(&dir, Some(&name)).unwrap_err();
    says(&words::unusable(&wrong), Level::Bad, &["gpu-1.crt", "expected a certificate"]);
    fs::write(dir.join("gpu-1.crt"), "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")
        .unwrap();
    assert!(read(&dir, Some(&name)).is_err());
}

#[test]
fn limits_are_read_and_too_low_ones_are_told_with_the_way_to_raise_them() {
    let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                Max processes             7                    7                    processes\n\
                Max open files            256                  unlimited            files\n";
    let found = open_files_in(text).unwrap();
    assert_eq!(found, OpenFiles { soft: 256, hard: u64::MAX });
    assert_eq!(open_files_in("Max open files  many"), None);
    assert_eq!(open_files_in(""), None);
    says(&words::open_files(Some(found)), Level::Note, &["96 workers", "any number", "ulimit -n 464"]);
    let low = OpenFiles { soft: 64, hard: 100 };
    says(&words::open_files(Some(low)), Level::Bad, &["too few for a server", "root", "LimitNOFILE=464"]);
    let enough = OpenFiles { soft: 464, hard: 524_288 };
    says(&words::open_files(Some(enough)), Level::Good, &["200 workers", "524,288"]);
    says(&words::open_files(None), Level::Note, &["not known", "2 to a worker"]);
}

#[test]
fn a_clock_that_cannot_be_right_is_bad() {
    let clock = |now, step| words::clock(&Clock { seconds_since_1970: now, step });
    let fine = Some(Duration::from_nanos(30));
    says(&clock(Some(NOW), fine), Level::Good, &["2026-11-26", "30 ns"]);
    for (now, expected) in
        [(None, "before 1970"), (Some(1_767_225_599), "2025-12-31"), (Some(u64::MAX), "beyond the year 9999")]
    {
        says(&clock(now, fine), Level::Bad, &[expected, "set the clock", "certificates"]);
    }
    says(&clock(Some(NOW), Some(Duration::from_millis(16))), Level::Note, &["16 ms"]);
    says(&clock(Some(NOW), None), Level::Note, &["stands still"]);
}

#[test]
fn a_disk_is_judged_by_its_room_and_its_time() {
    let gib = 1 << 30;
    let disk = |free, write: io::Result<Duration>| {
        words::disk(&Disk { free_bytes: Some(free), in_memory: false, write })
    };
    let quick = || Ok(Duration::from_micros(1500));
    says(&disk(20 * gib, quick()), Level::Good, &["20 GiB free", "1.5 ms", "--durable always"]);
    says(&disk(2 * gib, quick()), Level::Note, &["2.0 GiB free", "--log-mib"]);
    says(&disk(1 << 20, quick()), Level::Bad, &["1 MiB free", "--run-dir"]);
    says(&disk(20 * gib, Ok(Duration::from_millis(45))), Level::Note, &["45 ms", "--durable interval"]);
    let memory = Disk { free_bytes: Some(20 * gib), in_memory: true, write: quick() };
    says(&words::disk(&memory), Level::Note, &["in memory", "crash", "--run-dir"]);
    let denied = || Err(io::ErrorKind::PermissionDenied.into());
    says(&disk(20 * gib, denied()), Level::Note, &["cannot be written", "--run-dir"]);
    let unknown = words::disk(&Disk { free_bytes: None, in_memory: false, write: quick() });
    says(&unknown, Level::Good, &["does not say"]);
}

#[test]
fn processor_memory_and_loopback_are_told_in_numbers() {
    let machine = Machine {
        cpu: "A CPU".into(),
        cores: 1,
        isa: "avx2".into(),
        isa_reason: "avx2: set by SIGNVOTE_ISA".into(),
        copy_gb_per_s: None,
    };
    let available = ["scalar", "avx2"].map(str::to_owned).to_vec();
    let mut cpu = Cpu { machine, available, asked: false };
    says(&words::cpu(&cpu), Level::Good, &["A CPU, 1 core;", "avx2: set by", "scalar, avx2"]);
    cpu.asked = true;
    says(&words::cpu(&cpu), Level::Note, &["unset it"]);
    (cpu.asked, cpu.machine.isa) = (false, "scalar".into());
    says(&words::cpu(&cpu), Level::Note, &["no vector instructions"]);

    assert_eq!(meminfo("MemTotal:       8 kB\nMemFree: 1 kB\n", "MemTotal:"), Some(8192));
    let mut memory =
        Memory { total_bytes: Some(16 << 30), available_bytes: Some(3 << 29), copy_gb_per_s: Some(12.34) };
    says(&words::memory(&memory), Level::Good, &["1.5 GiB of 16 GiB", "12.3 GB/s"]);
    (memory.available_bytes, memory.copy_gb_per_s) = (Some(100 << 20), None);
    says(&words::memory(&memory), Level::Note, &["100 MiB", "not measured"]);
    memory.available_bytes = None;
    says(&words::memory(&memory), Level::Good, &["does not say"]);

    let loopback = Loopback { bytes_per_second: 2.5e9, round_trip: Duration::from_micros(42) };
    says(&words::loopback(&Ok(loopback)), Level::Good, &["20.0 Gb/s", "42 µs"]);
    let none = Err(io::ErrorKind::AddrNotAvailable.into());
    says(&words::loopback(&none), Level::Bad, &["127.0.0.1", "lo"]);
}

#[test]
fn a_kernel_that_is_wrong_is_bad() {
    let kernels = |error| words::kernels(&Measured { costs: Costs::default(), error });
    says(&kernels(None), Level::Good, &["0.32 ns", "0.0056", "0.17"]);
    let [group, row, difference] = ["pack", "pack_half", "sign of coordinate 3"].map(str::to_owned);
    says(&kernels(Some(Error::Wrong { group, row, difference })), Level::Bad, &["pack_half", "SIGNVOTE_ISA"]);
    let memory = Error::Memory { needed_mib: 2, available_mib: 1 };
    says(&kernels(Some(memory)), Level::Note, &["not measured", "2 MiB", "bench kernels"]);
}

#[test]
fn a_server_that_answers_is_told_with_the_rate_if_it_was_measured() {
    let mut link = Link {
        run: "r7".into(),
        phase: "running".into(),
        round: 12,
        rounds: 4400,
        connected: 3,
        workers: 4,
        question: Duration::from_millis(12),
        bits_per_second: None,
        tls: false,
    };
    assert_eq!(link.latency(), Duration::from_millis(3));
    let expected = [
        "run r7 is running",
        "round 12 of 4,400",
        "3 of 4 workers are there",
        "12 ms",
        "plain",
        "rate of the link was not measured",
    ];
    says(&words::link(&Ok(link.clone())), Level::Good, &expected);
    for (rate, words) in
        [(9.42e9, "has 9.4 Gb/s or more"), (94.1e6, "has 94 Mb/s or more"), (4e5, "has 0.4 Mb/s or more")]
    {
        link.bits_per_second = Some(rate);
        says(&words::link(&Ok(link.clone())), Level::Good, &[words]);
    }
    link.tls = true;
    assert_eq!(link.latency(), Duration::from_millis(2));
    says(&words::link(&Ok(link)), Level::Good, &["TLS", "handshake"]);
    let refused = Err(ExchangeError::Untrusted("not one of us".into()));
    says(&words::link(&refused), Level::Bad, &["not one of us", "one CA", "--identity"]);
}

#[test]
fn the_plans_are_those_of_the_predictor() {
    let measured = Measured { costs: Costs::NONE, error: None };
    let findings = words::plan(&measured, Some(Duration::ZERO), 8);
    assert_eq!(findings.len(), 6);
    assert!(findings.iter().all(|finding| finding.name == Check::Plan));
    // Of links alone: 2 · 7/8 · 2 bytes a coordinate beside 2 · 7/8 · 1/8.
    says(
        &findings[3],
        Level::Good,
        &["ResNet-50 (25,557,032 coordinates) at 100mbit", "exchange by vote is 16 times as fast"],
    );
    says(&findings[3], Level::Good, &["sharded vote in 471 ms", "fp16 ring all-reduce in 7.5 s"]);
    says(&findings[5], Level::Good, &["10gbit", "signvote plan --measure"]);
    // A vote whose bytes take a core far longer than the link does is the slower one.
    let costs = Costs { vote_byte_ns: 1e3, ..Costs::NONE };
    let error = Some(Error::Memory { needed_mib: 2, available_mib: 1 });
    let findings = words::plan(&Measured { costs, error }, None, 8);
    let expected = ["exchange by all-reduce is", "times as fast", "kernels as in docs/plan.md", "50 µs"];
    says(&findings[5], Level::Good, &expected);
}

#[test]
fn a_server_that_is_not_there_is_bad_and_it_is_said_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    // A port that nobody has any more.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().to_string();
    let wanted = Wanted {
        directory: directory.path(),
        identity: None,
        server: Some((&free, Duration::from_millis(50))),
    };
    let report = examine(&wanted);
    let line = report.table();
    let worst = report.worst().unwrap_or_else(|| panic!("{line}"));
    assert_eq!((worst.name, report.fit, report.refused), (Check::Link, false, false), "{line}");
    says(worst, Level::Bad, &[&free, "signvote server", "firewall"]);
    for check in Check::ALL {
        assert!(report.findings.iter().any(|finding| finding.name == check), "{check}: {line}");
        assert_eq!(serde_json::to_value(check).unwrap(), check.to_string());
    }
    assert_eq!(line.lines().count(), report.findings.len());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn certificates_that_cannot_be_used_keep_the_server_from_being_asked() {
    let directory = tempfile::tempdir().unwrap();
    let name: Name = "gpu-1".parse().unwrap();
    let wanted = Wanted {
        directory: directory.path(),
        identity: Some((directory.path(), Some(&name))),
        server: Some(("127.0.0.1:1", Duration::ZERO)),
    };
    let (findings, connector) = super::identity(&wanted, NOW);
    says(&findings[0], Level::Bad, &["ca.crt", "signvote certs init"]);
    assert!(connector.is_err());
    assert!(super::link(&wanted, connector).is_none());

    let dir = directory.path().join("certs");
    certs::init(&dir).unwrap();
    certs::issue(&dir, std::slice::from_ref(&name)).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let wanted = Wanted { identity: Some((&dir, Some(&name))), ..wanted };
    let (findings, connector) = super::identity(&wanted, now);
    assert!(connector.is_ok() && findings.len() == 3, "{findings:#?}");
    says(&findings[2], Level::Good, &["gpu-1", "fit together"]);
    // Of a server, and of the directory where the CA is, there is no name to give.
    let (findings, _) = super::identity(&Wanted { identity: Some((&dir, None)), ..wanted }, now);
    says(findings.last().unwrap(), Level::Good, &["server", "fit together"]);
    // A worker's certificate under another's key.
    certs::issue(&dir, &["gpu-2".parse().unwrap()]).unwrap();
    fs::copy(dir.join("gpu-2.key"), dir.join("gpu-1.key")).unwrap();
    let (findings, connector) = super::identity(&wanted, now);
    says(&findings[2], Level::Bad, &["gpu-1.key", "copy"]);
    assert!(connector.is_err());
}

#[test]
fn what_is_measured_is_positive() {
    let loopback = measure::loopback().unwrap();
    assert!(loopback.bytes_per_second > 0.0 && !loopback.round_trip.is_zero(), "{loopback:?}");
    assert!(measure::clock().step.is_some());
    let directory = tempfile::tempdir().unwrap();
    let disk = measure::disk(directory.path());
    assert!(disk.write.is_ok(), "{disk:?}");
    #[cfg(unix)]
    assert!(disk.free_bytes.is_some());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
    let gone = measure::disk(&directory.path().join("nowhere"));
    assert!(gone.write.is_err() && gone.free_bytes.is_none(), "{gone:?}");
}
