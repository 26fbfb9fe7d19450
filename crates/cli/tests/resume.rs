//! Servers that are killed or told to stop, and go on with the run.
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{Ended, Process, directory, join, model, run, serve, signal, text, wait_until};

/// A run that everyone votes in, whatever happens: so its model does not depend on when something happens.
const RULES: &str =
    "--workers 3 --quorum 3 --deadline never --batch 16 --seed 4 --rounds 240 --save-every 50";

/// Starts the server of `run` again, at the address that its workers know.
fn resume(here: &Path, address: &str, flags: &str) -> Process {
    let line = format!("server --listen {address} --resume run --print-events --quiet {flags}");
    Process::start(here, &line)
}

fn workers(here: &Path, address: &str) -> Vec<Process> {
    (1..=3).map(|slot| join(here, address, &format!("--slot {slot}"))).collect()
}

fn ends_well(server: Process, workers: Vec<Process>) -> Ended {
    workers.into_iter().for_each(|worker| drop(worker.ended().succeeded()));
    let ended = server.ended().succeeded();
    let finished = ended.event("finished");
    assert_eq!((&finished["replicas_identical"], &finished["replicas"]), (&true.into(), &3.into()));
    ended
}

/// The model of the run that nothing disturbs.
fn undisturbed(here: &Path) -> Vec<u8> {
    let (server, address) = serve(here, RULES);
    let workers = workers(here, &address);
    ends_well(server, workers);
    let bits = model(&here.join("run"));
    fs::rename(here.join("run"), here.join("undisturbed")).expect("a run of ours");
    bits
}

#[test]
fn an_interrupted_training_goes_on_to_the_same_bits() {
    let (_guard, here) = directory();
    // Two local workers a process, which keep a checkpoint each.
    let line = "train --workers 4 --local 2 --cast each --batch 128 --epochs 4 --seed 4 --ema 0.9 --quiet";
    run(&here, &format!("{line} --run-dir whole")).succeeded();
    let cut = Process::start(&here, &format!("{line} --run-dir run --checkpoint-every 10"));
    let saved =
        || fs::read_to_string(here.join("run/events.jsonl")).unwrap_or_default().matches("\"saved\"").count();
    wait_until("two epochs", || saved() >= 2);
    signal("INT", cut.pid());
    cut.ended().failed(130, &["to go on: signvote train --resume run"]);
    let other = run(&here, "train --resume run --eta 0.5 --threads 2");
    other.failed(2, &["--resume run: --eta is 0.5, but the run began with 0.002: leave it out"]);
    // What one worker could not write whole is not gone on from.
    fs::write(here.join("run/workers/1.safetensors.2"), "torn").expect("a file of ours");
    let ended = run(&here, "train --resume run --json").succeeded();
    let result = ended.json();
    assert_eq!((&result["replicas_identical"], &result["rounds"]), (&true.into(), &76.into()), "{result}");
    assert!(ended.err.iter().any(|line| line.contains("goes on at round")), "{ended:#?}");
    for file in ["model", "ema", "best"] {
        let bits = |run: &str| fs::read(here.join(run).join(format!("{file}.safetensors"))).expect("a model");
        assert!(bits("run") == bits("whole"), "{file}");
    }
    assert!(!here.join("run/workers").exists());
    run(&here, "train --resume run").failed(3, &["run: that run is over"]);
    run(&here, "train --resume nowhere").failed(3, &["nowhere"]);
    run(&here, "train --workers 4 --batch 128 --epochs 1 --aggregate mean --run-dir mean --quiet")
        .succeeded();
    fs::remove_file(here.join("mean/result.json")).expect("a result");
    run(&here, "train --resume mean").failed(3, &["a mean cannot be resumed"]);
}

fn audit(here: &Path) -> serde_json::Value {
    let found = run(here, "audit run --json").succeeded().json();
    assert_eq!((&found["holds"], &found["from_round"]), (&true.into(), &0.into()), "{found}");
    found
}

#[test]
fn a_killed_server_goes_on_at_the_same_round_with_the_same_bits() {
    let (_guard, here) = directory();
    let expected = undisturbed(&here);
    let (mut server, address) = serve(&here, &format!("{RULES} --durable always"));
    let workers = workers(&here, &address);
    // Before the first snapshot but one, right after it, and in the midst of things.
    for round in [7, 50, 113, 198] {
        server.rounds(round);
        server.kill();
        let told = server.ended().event("committed")["round"].as_u64().expect("a round");
        server = resume(&here, &address, "");
        let resumed = server.event("resumed");
        assert!(resumed["round"].as_u64() > Some(told), "a round that was told is there: {resumed}");
        assert_eq!(resumed["incarnation"], 0, "{resumed}");
        // It may have been killed while it wrote a round that nobody had been told of.
        let reason = text(&resumed["reason"]);
        let none_lost = ["nothing is lost", "no round that is whole in it is lost"];
        assert!(none_lost.iter().any(|words| reason.contains(words)), "{resumed}");
    }
    let ended = ends_well(server, workers);
    assert_eq!(ended.event("finished")["round"], 240);
    assert_eq!(model(&here.join("run")), expected);
    assert_eq!(audit(&here)["to_round"], 240);
}

#[test]
fn a_server_that_may_have_lost_rounds_starts_a_new_incarnation_and_its_workers_follow() {
    for (durable, goes_back) in [("interval", false), ("off", true)] {
        let (_guard, here) = directory();
        let (mut server, address) = serve(&here, &format!("{RULES} --durable {durable}"));
        let workers = workers(&here, &address);
        server.rounds(70);
        server.kill();
        let told = server.ended().event("committed")["round"].as_u64().expect("a round");
        let mut server = resume(&here, &address, "");
        let resumed = server.event("resumed");
        assert_eq!(resumed["incarnation"], 1, "{resumed}");
        // What a process has written outlives it; it is a crash of the machine that could take a second's rounds.
        let round = resumed["round"].as_u64().expect("a round");
        if goes_back {
            assert!(round.is_multiple_of(50) && round < told, "the last snapshot: {resumed}");
            let joined = server.event("joined");
            assert!(text(&joined["reason"]).contains("takes the server's state"), "{joined}");
        } else {
            assert!(round > told, "{resumed}");
        }
        assert_eq!(ends_well(server, workers).event("finished")["round"], 240);
    }
}

#[test]
fn a_server_that_is_told_to_stop_goes_on_as_if_it_had_not() {
    let (_guard, here) = directory();
    let expected = undisturbed(&here);
    let (mut server, address) = serve(&here, RULES);
    let workers = workers(&here, &address);
    for (signal, round) in [("TERM", 20), ("INT", 90)] {
        server.rounds(round);
        common::signal(signal, server.pid());
        let rounds = server.ended().event("paused")["round"].clone();
        server = resume(&here, &address, "");
        let resumed = server.event("resumed");
        assert_eq!((&resumed["round"], &resumed["incarnation"]), (&rounds, &0.into()));
    }
    ends_well(server, workers);
    assert_eq!(model(&here.join("run")), expected);
}

#[test]
fn a_server_that_is_killed_while_its_run_begins_is_started_again() {
    for milliseconds in [0, 15, 40, 80, 150, 300] {
        let (_guard, here) = directory();
        // Two workers and a server that are all told of one another before any of them is there.
        let (mut server, address) = serve(&here, "--workers 2 --rounds 10 --batch 4 --durable always");
        let workers = [join(&here, &address, ""), join(&here, &address, "")];
        std::thread::sleep(Duration::from_millis(milliseconds));
        server.kill();
        drop(server.ended());
        let server = resume(&here, &address, "--return-grace 5");
        workers.into_iter().for_each(|worker| drop(worker.ended().succeeded()));
        // Killed with the last words said and not yet confirmed it waits in vain for a while.
        assert_eq!(server.ended().succeeded().event("finished")["round"], 10, "{milliseconds} ms");
    }
}

#[test]
fn a_run_that_is_over_ends_at_once_when_it_is_resumed() {
    let (_guard, here) = directory();
    let (server, address) = serve(&here, "--workers 1 --rounds 5 --batch 4");
    join(&here, &address, "").ended().succeeded();
    server.ended().succeeded();
    let again = resume(&here, &address, "--return-grace 1000").ended().succeeded();
    assert_eq!(again.event("finished")["round"], 5);
}

#[test]
fn a_run_whose_first_snapshot_was_all_there_was_begins_anew() {
    let (_guard, here) = directory();
    let (server, address) = serve(&here, "--workers 1 --rounds 10 --batch 4");
    drop(server);
    fs::create_dir(here.join("run/ledger")).expect("ours");
    fs::write(here.join("run/ledger/000000000000.safetensors"), b"half").expect("ours");
    let mut server = resume(&here, &address, "");
    server.event("listening");
    join(&here, &address, "").ended().succeeded();
    server.ended().succeeded();
    audit(&here);
}

#[test]
fn a_ledger_keeps_to_its_size() {
    let (_guard, here) = directory();
    // A pair of snapshot and log is 814 kB and 50 times 26 kB.
    let (mut server, address) = serve(&here, &format!("{RULES} --durable always --log-mib 5"));
    let workers = workers(&here, &address);
    server.rounds(180);
    server.kill();
    drop(server.ended());
    let files = common::names(&here.join("run/ledger"));
    let size: u64 =
        files.iter().map(|name| fs::metadata(here.join("run/ledger").join(name)).expect("ours").len()).sum();
    assert!(files.iter().any(|name| name == "000000000150.log") && !files[0].starts_with("000000000000"));
    // The open pair may grow beyond it until the next snapshot.
    assert!(size < (5 << 20) + 60 * 26_000, "{size} bytes in {files:?}");
    ends_well(resume(&here, &address, ""), workers);
}

/// A run that was killed under way.
fn killed(here: &Path) {
    let (mut server, address) = serve(here, &format!("{RULES} --durable always"));
    let _workers = workers(here, &address);
    server.rounds(20);
    server.kill();
}

/// The log that the newest snapshot has.
fn newest_log(here: &Path) -> std::path::PathBuf {
    let logs = common::names(&here.join("run/ledger"));
    let newest = logs.iter().rfind(|name| name.ends_with(".log")).expect("a log");
    here.join("run/ledger").join(newest)
}

#[test]
fn a_torn_tail_is_cut_off_and_a_damaged_middle_is_named_with_its_offset() {
    let (_guard, here) = directory();
    killed(&here);
    let path = newest_log(&here);
    let whole = fs::read(&path).expect("a log");

    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&path, damaged).expect("our file");
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    let refused =
        run(&here, "server --listen 127.0.0.1:0 --resume run").failed(3, &[&name, "damaged at byte"]);
    let line = refused.err.last().expect("a line");
    let offset = line.split("at byte ").nth(1).and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
    let offset = offset.unwrap_or_else(|| panic!("no offset in {line}"));
    assert!((1..=whole.len() / 2).contains(&offset), "the entry that begins before the damage: {line}");
    run(&here, "audit run").failed(3, &[&name, "damaged"]);

    fs::write(&path, &whole[..whole.len() - 5]).expect("our file");
    let mut server = Process::start(&here, "server --listen 127.0.0.1:0 --resume run");
    server.says("were not written whole");
    server.says("goes on at round");
    drop(server);
    // Cut as the line above says: what is left looks whole, and is not.
    fs::write(&path, &whole[..offset]).expect("our file");
    let cut = "server --listen 127.0.0.1:0 --print-events --resume run --new-incarnation";
    assert_eq!(Process::start(&here, cut).event("resumed")["incarnation"], 1);
}

#[test]
fn what_cannot_be_resumed_is_named() {
    let (_guard, here) = directory();
    run(&here, "server --resume nowhere").failed_at_once(3, &["nowhere"]);
    killed(&here);
    let other = "server --listen 127.0.0.1:0 --resume run --seed 5";
    run(&here, other).failed_at_once(2, &["--resume", "config.toml"]);
    let mut first = Process::start(&here, "server --listen 127.0.0.1:0 --resume run");
    first.says("goes on at round");
    run(&here, "server --listen 127.0.0.1:0 --resume run").failed_at_once(8, &["another server"]);
    drop(first);
    // Before the first round, too.
    fs::remove_dir_all(here.join("run")).expect("ours");
    let (_gathering, _) = serve(&here, RULES);
    run(&here, "server --listen 127.0.0.1:0 --resume run").failed(8, &["another server"]);
}
