//! Workers that come, go, hang, are late and come back.
#![cfg(unix)]

mod common;

use std::fs;
use std::time::Duration;

use common::{Process, directory, join, run, serve, text};

const ENDLESS: &str = "--rounds 1000000 --batch 4 --digest-every 1";

/// No replica had differed.
fn ends_sound(server: Process) {
    common::signal("TERM", server.pid());
    let ended = server.ended();
    assert_eq!(ended.code, Some(130), "{ended:#?}");
    assert_eq!(ended.events().filter(|event| event["event"] == "diverged").count(), 0);
}

/// Waits until so many have voted in a round again, and nobody in a part of it only.
fn all_vote(server: &mut Process, count: u64) {
    server.event_where("committed", |event| event["voters"] == count && event["partial"] == 0);
}

/// A worker is away for at least so many rounds of a run with these flags, and comes back with its checkpoint; gives the reason for the way
/// in which it is brought up.
fn away_for_a_while(rounds: u64, flags: &str) -> String {
    let (_guard, here) = directory();
    let (mut server, address) =
        serve(&here, &format!("--workers 3 --rounds 1000000 --digest-every 1 {flags}"));
    let flags = |slot| format!("--slot {slot} --checkpoint {slot}.checkpoint --checkpoint-every 1");
    let mut workers: Vec<_> = (1..=3).map(|slot| join(&here, &address, &flags(slot))).collect();
    server.rounds(3);
    workers.pop().expect("three").kill();
    let round = server.event("left")["round"].as_u64().expect("a round");
    server.rounds(round + rounds);
    workers.push(join(&here, &address, &flags(3)));
    let joined = server.event("joined");
    assert_eq!(joined["slot"], 3, "{joined}");
    all_vote(&mut server, 3);
    ends_sound(server);
    text(&joined["reason"])
}

#[test]
fn a_worker_that_was_away_replays_the_verdicts_that_it_missed() {
    // Rounds of a tenth of a second: it misses few enough.
    let reason = away_for_a_while(4, "--batch 2000");
    assert!(reason.contains("replayed"), "{reason}");
}

#[test]
fn a_worker_whose_rounds_are_no_longer_held_takes_the_state() {
    // Only the newest round is held.
    let reason = away_for_a_while(4, "--batch 4 --ring-mib 0");
    assert!(reason.contains("no longer held"), "{reason}");
}

#[test]
fn a_worker_that_has_missed_more_than_the_state_is_long_takes_the_state() {
    // A mebibyte is always replayed: 40 rounds of this model.
    let reason = away_for_a_while(60, "--batch 4");
    assert!(reason.contains("longer than the state"), "{reason}");
}

#[test]
fn a_damaged_or_foreign_checkpoint_is_refused_by_name() {
    let (_guard, here) = directory();
    let (mut server, address) = serve(&here, &format!("--workers 1 {ENDLESS}"));
    let flags = "--slot 1 --checkpoint mine --checkpoint-every 1";
    let mut worker = join(&here, &address, flags);
    server.rounds(10);
    worker.kill();
    drop(worker.ended());
    let whole = fs::read(here.join("mine")).expect("a checkpoint");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(here.join("mine"), damaged).expect("ours");
    join(&here, &address, flags).ended().failed_at_once(3, &["mine", "no whole checkpoint"]);
    fs::write(here.join("mine"), whole).expect("ours");
    server.kill();
    drop(server.ended());
    fs::remove_dir_all(here.join("run")).expect("ours");
    let (_server, address) = serve(&here, &format!("--workers 1 {ENDLESS}"));
    join(&here, &address, flags).ended().failed_at_once(5, &["mine is of run", "move it away"]);
    let nowhere = join(&here, &address, "--checkpoint nowhere/mine").ended();
    nowhere.failed_at_once(8, &["--checkpoint nowhere/mine", "no directory"]);
}

#[test]
fn a_worker_that_hangs_costs_one_deadline_and_is_waited_for_no_more() {
    let (_guard, here) = directory();
    let (mut server, address) = serve(&here, &format!("--workers 4 {ENDLESS} --deadline 1"));
    let workers: Vec<_> = (1..=4).map(|slot| join(&here, &address, &format!("--slot {slot}"))).collect();
    server.rounds(20);
    common::signal("STOP", workers[3].pid());
    let hung = server.event_where("committed", |event| text(&event["reason"]).contains("deadline"));
    let round = hung["round"].as_u64().expect("a round");
    let mut others = 0;
    while others < 30 {
        let committed = server.event("committed");
        assert!(!text(&committed["reason"]).contains("deadline"), "the second one: {committed}");
        others += 1;
    }
    let status = run(&here, &format!("status {address} --json")).succeeded().json();
    assert!(status["round"].as_u64() > Some(round), "{status}");
    let row = &status["workers"][3];
    assert_eq!((&row["state"], &row["missed_deadlines"]), (&"not_awaited".into(), &1.into()), "{row}");
    common::signal("CONT", workers[3].pid());
    all_vote(&mut server, 4);
    ends_sound(server);
}

#[test]
fn the_status_says_who_does_what() {
    let (_guard, here) = directory();
    let (mut server, address) = serve(&here, "--workers 2 --rounds 1000000 --batch 4 --quorum 100%");
    let first = join(&here, &address, "--name first --slot 1");
    server.event("joined");
    let status = run(&here, &format!("status {address} --json")).succeeded().json();
    assert_eq!(status["phase"], "gathering", "{status}");
    let second = join(&here, &address, "--name second --slot 2");
    server.rounds(5);
    let status = run(&here, &format!("status {address} --json")).succeeded().json();
    assert_eq!((&status["phase"], &status["quorum"]), (&"running".into(), &2.into()), "{status}");
    assert!(status["round"].as_u64() >= Some(4) && status["dimension"] == common::DIMENSION, "{status}");
    assert_eq!(
        (&status["workers"][0]["name"], &status["workers"][1]["name"]),
        (&"first".into(), &"second".into())
    );
    assert!(status["workers"][1]["traffic"]["round_up_bytes"].as_u64() > Some(50_000), "{status}");
    drop(second);
    server.event("left");
    // Below the quorum it waits, and says so.
    let said = run(&here, &format!("status {address}")).succeeded();
    assert!(said.out.iter().any(|line| line.starts_with("open round") && line.contains("below the quorum")));
    let row = |name: &str| said.out.iter().find(|line| line.starts_with(name)).expect("a row").clone();
    assert!(row("quorum").contains("2 of 2, tolerates 0 liars"), "{said:#?}");
    assert!(row("2 ").contains("away") && row("1 ").contains("first"), "{said:#?}");
    drop(first);
}

#[test]
fn a_worker_says_whom_it_waits_for() {
    let (_guard, here) = directory();
    let (_server, address) = serve(&here, "--workers 3 --rounds 5");
    let mut worker = Process::start(&here, &format!("worker --connect {address}"));
    worker.says("waiting: 1 of 3 workers are there");
    let _second = join(&here, &address, "");
    worker.says("waiting: 2 of 3 workers are there");
}

#[test]
fn a_worker_that_has_waited_long_looks_for_a_lost_server_as_long_as_it_was_told() {
    let (_guard, here) = directory();
    let (mut server, address) = serve(&here, "--workers 2 --rounds 5 --batch 4");
    let mut waits = Process::start(&here, &format!("worker --connect {address} --reconnect 1 --patience 1"));
    waits.says("waiting: 1 of 2 workers are there");
    // Longer than it looks for a server: what counts is since when it has heard nothing.
    std::thread::sleep(Duration::from_millis(1_500));
    server.kill();
    drop(server.ended());
    let line = format!("server --listen {address} --resume run --print-events --quiet");
    let mut server = Process::start(&here, &line);
    server.event("joined");
    let _second = join(&here, &address, "");
    server.ended().succeeded();
    waits.ended().succeeded();
}
