//! Workers on hosts of their own, whose cables are pulled and whose links are slow. Needs root, `ip` and `tc`; is
//! skipped with a word elsewhere.
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::family::memory_mib;
use common::hosts::Hosts;
use common::{Process, directory, run, text};

#[expect(clippy::print_stdout, reason = "who reads the log of the tests should know what they did not try")]
fn hosts(count: usize) -> Option<Hosts> {
    let hosts = Hosts::new(count);
    if hosts.is_none() {
        println!("skipped: network namespaces need root, and ip with bridge and veth");
    }
    hosts
}

/// A server on host 1, and ada, bob and eve on the hosts from 2 on, with certificates.
fn start(hosts: &Hosts, here: &Path, flags: &str) -> (Process, Vec<Process>) {
    run(here, "certs init").succeeded();
    run(here, "certs issue ada bob eve").succeeded();
    let server = hosts.address(1);
    let line = format!(
        "server --listen {server}:7700 --tls certs --workers 3 --rounds 1000000 --batch 4 --print-events --run-dir run {flags}"
    );
    let mut process = hosts.start(1, here, &line);
    process.event("listening");
    let workers = ["ada", "bob", "eve"].iter().zip(2..).map(|(name, host)| {
        let line = format!("worker --quiet --connect {server}:7700 --tls certs --identity {name}");
        let worker = hosts.start(host, here, &line);
        // The first one brings the parameters: it is not to be the one with the slow link.
        process.event("joined");
        worker
    });
    let workers = workers.collect();
    process.event("started");
    (process, workers)
}

fn all_vote(server: &mut Process) {
    server.event_where("committed", |event| event["voters"] == 3 && event["partial"] == 0);
}

fn ends_sound(server: Process) {
    // The program, and not the `ip` that started it, is in the same process.
    common::signal("TERM", server.pid());
    let ended = server.ended();
    assert_eq!(ended.code, Some(130), "{ended:#?}");
    assert_eq!(ended.events().filter(|event| event["event"] == "diverged").count(), 0);
}

#[test]
fn beyond_loopback_a_server_wants_certificates_or_to_be_called_insecure() {
    let Some(hosts) = hosts(1) else { return };
    let (_guard, here) = directory();
    let line = format!("server --listen {}:7700", hosts.address(1));
    hosts.start(1, &here, &line).ended().failed_at_once(2, &["--tls", "--insecure"]);
    hosts.start(1, &here, &format!("{line} --insecure")).says("unencrypted");
}

#[test]
fn a_host_whose_cable_is_pulled_costs_one_deadline_and_catches_up() {
    let Some(hosts) = hosts(4) else { return };
    let (_guard, here) = directory();
    let (mut server, _workers) = start(&hosts, &here, "--deadline 1");
    server.rounds(20);
    hosts.cable(4, false);
    let closed = server.event_where("committed", |event| text(&event["reason"]).contains("deadline"));
    let round = closed["round"].as_u64().expect("a round");
    server.rounds(round + 50);
    std::thread::sleep(Duration::from_millis(500));
    hosts.cable(4, true);
    all_vote(&mut server);
    ends_sound(server);
}

#[test]
fn a_host_behind_a_slow_link_does_not_slow_the_others_down() {
    let Some(hosts) = hosts(4) else { return };
    let (_guard, here) = directory();
    // 25 kB a ballot: two seconds at this rate.
    if hosts.slow_down(4, "100kbit").is_none() {
        return;
    }
    let (mut server, _workers) = start(&hosts, &here, "--deadline-ceiling 4 --ring-mib 4");
    server.rounds(60);
    let late = server.event_where("committed", |event| event["voters"] == 2);
    let round = late["round"].as_u64().expect("a round");
    // When so much waits for it, it is sent nothing more: memory does not grow with the 25 MB of these rounds.
    server.rounds(round + 200);
    let before = memory_mib(&server);
    server.rounds(round + 1_200);
    let after = memory_mib(&server);
    assert!(after < before + 12, "{before} MiB, and {after} after a thousand rounds more");
    ends_sound(server);
}
