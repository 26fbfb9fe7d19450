//! Runs in which everyone proves who it is.
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;

use common::{Ended, Process, directory, run, serve, text};

/// A CA with the certificates of three workers, and the server of a run for them.
fn authority(here: &Path) {
    run(here, "certs init").succeeded();
    run(here, "certs issue ada bob eve").succeeded();
}

fn join_as(here: &Path, address: &str, name: &str, flags: &str) -> Process {
    let line = format!("worker --quiet --connect {address} --tls certs --identity {name} {flags}");
    Process::start(here, &line)
}

fn ends_well(server: Process, workers: Vec<Process>) -> Ended {
    workers.into_iter().for_each(|worker| drop(worker.ended().succeeded()));
    let ended = server.ended().succeeded();
    assert_eq!(ended.event("finished")["replicas_identical"], true);
    ended
}

#[test]
fn a_run_with_identities_is_signed_and_the_audit_proves_who_voted_what() {
    let (_guard, here) = directory();
    authority(&here);
    let rules = "--workers 3 --rounds 20 --batch 4 --tls certs --record-ballots";
    let (server, address) = serve(&here, rules);
    let workers = ["ada", "bob", "eve"].map(|name| join_as(&here, &address, name, ""));
    ends_well(server, workers.into());
    let found = run(&here, "audit run --json").succeeded().json();
    assert_eq!((&found["holds"], &found["rounds"]), (&true.into(), &20.into()), "{found}");
    assert_eq!((&found["signed_ballots"], &found["unsigned_ballots"]), (&60.into(), &0.into()), "{found}");
}

#[test]
fn who_has_no_certificate_is_refused_and_told_so() {
    let (_guard, here) = directory();
    authority(&here);
    let (mut server, address) = serve(&here, "--workers 1 --rounds 5 --batch 4 --tls certs");
    // Without TLS at all; with the certificate of another authority.
    let naked = Process::start(&here, &format!("worker --quiet --connect {address} --patience 0")).ended();
    naked.failed_at_once(4, &["--tls"]);
    server.event("refused");
    run(&here, "certs init --dir others").succeeded();
    run(&here, "certs issue mallory --dir others").succeeded();
    let foreign = format!("worker --quiet --connect {address} --tls others --identity mallory");
    Process::start(&here, &foreign).ended().failed_at_once(5, &[&address]);
    server.event("refused");
    let ada = join_as(&here, &address, "ada", "");
    let ended = ends_well(server, vec![ada]);
    assert_eq!(ended.events().filter(|event| event["event"] == "joined").count(), 1);
}

#[test]
fn one_identity_has_one_place_and_its_newest_connection_holds_it() {
    let (_guard, here) = directory();
    authority(&here);
    let (mut server, address) = serve(&here, "--workers 2 --quorum 1 --rounds 1000000 --batch 4 --tls certs");
    let first = join_as(&here, &address, "ada", "");
    let _bob = join_as(&here, &address, "bob", "");
    server.rounds(5);
    let _second = join_as(&here, &address, "ada", "");
    first.ended().failed_at_once(5, &["another connection of the same identity has replaced this one"]);
    let joined = server.event_where("joined", |event| event["round"].as_u64() > Some(0));
    let round = joined["round"].as_u64().expect("a round");
    let committed = server.event_where("committed", |event| event["round"].as_u64() > Some(round + 3));
    assert_eq!(committed["voters"], 2, "{committed}");
}

#[test]
fn a_second_connection_of_an_identity_is_refused_where_that_is_told() {
    let (_guard, here) = directory();
    authority(&here);
    let flags = "--workers 2 --quorum 1 --rounds 1000000 --batch 4 --tls certs --same-identity refuse";
    let (mut server, address) = serve(&here, flags);
    let _workers = [join_as(&here, &address, "ada", ""), join_as(&here, &address, "bob", "")];
    server.rounds(3);
    let second = join_as(&here, &address, "ada", "--patience 0").ended();
    second.failed_at_once(5, &["ada is connected already"]);
}

#[test]
fn a_revoked_worker_is_put_out_of_the_running_run() {
    let (_guard, here) = directory();
    authority(&here);
    // Her host has the list of revoked certificates that it was given once.
    fs::create_dir(here.join("hers")).expect("ours");
    for file in ["ca.crt", "eve.crt", "eve.key"] {
        fs::copy(here.join("certs").join(file), here.join("hers").join(file)).expect("ours");
    }
    let (mut server, address) = serve(&here, "--workers 3 --rounds 1000000 --batch 4 --tls certs");
    let join_eve =
        || Process::start(&here, &format!("worker --quiet --connect {address} --tls hers --identity eve"));
    let _workers = ["ada", "bob"].map(|name| join_as(&here, &address, name, ""));
    let eve = join_eve();
    server.rounds(5);
    run(&here, "certs revoke eve").succeeded();
    let left = server.event("left");
    assert!(text(&left["reason"]).contains("revoked"), "{left}");
    eve.ended().failed_at_once(5, &["revoked"]);
    let round = left["round"].as_u64().expect("a round");
    let committed = server.event_where("committed", |event| event["round"].as_u64() > Some(round + 3));
    assert_eq!(committed["voters"], 2, "{committed}");
    join_eve().ended().failed_at_once(5, &["revoked"]);
}

#[test]
fn whoever_asks_for_the_status_needs_a_certificate_too() {
    let (_guard, here) = directory();
    authority(&here);
    let (mut server, address) = serve(&here, "--workers 2 --rounds 1000000 --batch 4 --tls certs");
    let _workers = [join_as(&here, &address, "ada", ""), join_as(&here, &address, "bob", "")];
    server.rounds(5);
    let status =
        run(&here, &format!("status {address} --json --tls certs --identity eve")).succeeded().json();
    let workers = status["workers"].as_array().expect("rows");
    let mut names: Vec<_> = workers.iter().map(|row| text(&row["identity"])).collect();
    names.sort();
    assert_eq!(names, ["ada", "bob"]);
    let refused = run(&here, &format!("status {address} --patience 1"));
    assert!([Some(4), Some(5)].contains(&refused.code), "{refused:#?}");
}

#[test]
fn nothing_that_is_logged_is_secret() {
    let (_guard, here) = directory();
    authority(&here);
    let (server, address) = serve(&here, "--workers 1 --rounds 3 --batch 4 --tls certs --log trace");
    let ada = join_as(&here, &address, "ada", "--log trace");
    let worker = ada.ended().succeeded();
    let server = server.ended().succeeded();
    let said: String = [worker.err, worker.out, server.err, server.out].concat().join("\n");
    let files = ["run/events.jsonl", "run/config.toml"].map(|file| fs::read_to_string(here.join(file)));
    let said = files.into_iter().map(|text| text.expect("ours")).fold(said, |all, text| all + &text);
    for key in ["ca.key", "server.key", "ada.key"] {
        let pem = fs::read_to_string(here.join("certs").join(key)).expect("a key");
        let secret = pem.lines().find(|line| !line.starts_with('-')).expect("a line of it");
        assert!(!said.contains(secret), "{key} was written");
    }
    assert!(said.contains("committed"), "the log was on");
}
