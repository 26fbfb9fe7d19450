//! Servers and workers started one by one: what `train` does, and what happens to a run whose workers come, go and
//! are none.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use common::{DIMENSION, Ended, Process, directory, join, model, run, serve};

/// A run that nothing but a signal ends.
const ENDLESS: &str = "--rounds 1000000 --batch 4";

/// Ends a server by telling it to stop. No replica had differed until then.
#[cfg(unix)]
fn stop(server: Process) -> Ended {
    common::signal("INT", server.pid());
    let ended = server.ended();
    assert_eq!(ended.code, Some(130), "{ended:#?}");
    assert_eq!(ended.events().filter(|event| event["event"] == "diverged").count(), 0);
    ended
}

/// Waits until everyone has ended well, with all replicas the same; returns what the server said.
fn ends_well(server: Process, workers: Vec<Process>) -> Ended {
    let count = workers.len();
    for worker in workers {
        worker.ended().succeeded();
    }
    let ended = server.ended().succeeded();
    let finished = ended.event("finished");
    assert_eq!(finished["replicas_identical"], true, "{finished}");
    assert_eq!(finished["replicas"], count, "{finished}");
    ended
}

/// A run of two workers that waits for its second one.
fn half_a_run(here: &Path) -> (Process, String, Process) {
    let (mut server, address) = serve(here, "--workers 2 --rounds 8");
    let first = join(here, &address, "");
    server.event("joined");
    (server, address, first)
}

fn finish(here: &Path, server: Process, address: &str, first: Process) -> Ended {
    let second = join(here, address, "");
    let ended = ends_well(server, vec![first, second]);
    assert_eq!(ended.event("finished")["round"], 8);
    ended
}

#[test]
fn server_and_workers_by_hand_make_the_model_of_train() {
    let (_guard, here) = directory();
    let rules = "--workers 3 --batch 128 --seed 3 --weight-decay 0.01 --warmup 5 --ema 0.9";
    common::train(&here, &format!("--quiet --epochs 1 {rules} --adversaries 1 --run-dir train"));

    // One epoch is ⌊10000 / (3 · 128)⌋ = 26 rounds.
    let (server, address) = serve(&here, &format!("{rules} --rounds 26"));
    let workers =
        ["--slot 1 --attack sign-flip", "--slot 3", "--slot 2"].map(|flags| join(&here, &address, flags));
    ends_well(server, workers.into());
    assert_eq!(model(&here.join("train")), model(&here.join("run")));
    let average = |run: &str| std::fs::read(here.join(run).join("ema.safetensors")).expect("an average");
    assert!(average("train") == average("run"));
}

#[test]
fn a_killed_worker_is_gone_and_the_run_goes_on() {
    let (_guard, here) = directory();
    let (mut server, address) = serve(&here, "--workers 3 --rounds 400 --batch 4");
    let mut workers: Vec<_> =
        (1..=3).map(|slot| join(&here, &address, &format!("--slot {slot} --name number-{slot}"))).collect();
    server.rounds(5);
    workers.pop().expect("three").kill();
    let left = server.event("left");
    assert_eq!((&left["slot"], &left["name"]), (&3.into(), &"number-3".into()));
    let ended = ends_well(server, workers);
    assert_eq!(ended.event("finished")["round"], 400);
    assert_eq!(ended.event("committed")["voters"], 2);
}

#[test]
fn below_the_quorum_the_run_waits_until_a_late_worker_takes_the_free_place() {
    let (_guard, here) = directory();
    let (mut server, address) = serve(&here, "--workers 3 --quorum 3 --rounds 400 --batch 4");
    let mut workers: Vec<_> = (1..=3).map(|slot| join(&here, &address, &format!("--slot {slot}"))).collect();
    server.rounds(5);
    workers.remove(1).kill();
    let round = server.event("left")["round"].as_u64().expect("a number");
    workers.push(join(&here, &address, "--name late"));
    let joined = server.event("joined");
    assert_eq!((&joined["slot"], &joined["name"]), (&2.into(), &"late".into()));
    // What it cast before it died stands: that round may end. No other does.
    let at = joined["round"].as_u64().expect("a number");
    assert!((round..=round + 1).contains(&at), "{} rounds were decided meanwhile", at - round);
    let ended = ends_well(server, workers);
    assert_eq!(ended.event("finished")["round"], 400);
    let records = ended.event("finished")["workers"].clone();
    assert!(
        records[1]["rounds"].as_u64() >= Some(399),
        "no round went by without a second worker: {records}"
    );
}

#[cfg(unix)]
#[test]
fn a_worker_that_joins_in_mid_round_takes_the_state_and_ends_identical() {
    let (_guard, here) = directory();
    let (mut server, address) = serve(&here, &format!("--workers 3 {ENDLESS} --digest-every 1"));
    let mut workers: Vec<_> = (1..=3).map(|slot| join(&here, &address, &format!("--slot {slot}"))).collect();
    server.rounds(5);
    workers.remove(0).kill();
    server.event("left");
    // As long as a connected worker says nothing, its round stays open.
    common::signal("STOP", workers[0].pid());
    let late = join(&here, &address, "");
    let joined = server.event("joined");
    common::signal("CONT", workers[0].pid());
    let reason = common::text(&joined["reason"]);
    assert!(joined["slot"] == 1 && reason.contains("took the server's state"), "{joined}");
    workers.push(late);
    let round = joined["round"].as_u64().expect("a round");
    server.rounds(round + 5);
    let ended = stop(server);
    assert!(ended.event("committed")["voters"] == 3, "the late one votes: {}", ended.event("committed"));
}

#[cfg(unix)]
#[test]
fn a_deadline_closes_the_round_without_a_worker_that_hangs() {
    let (_guard, here) = directory();
    let (mut server, address) = serve(&here, &format!("--workers 3 {ENDLESS} --deadline 0.5"));
    let workers: Vec<_> = (1..=3).map(|slot| join(&here, &address, &format!("--slot {slot}"))).collect();
    server.rounds(3);
    common::signal("STOP", workers[2].pid());
    // It may have cast a part of its ballot by then, which counts.
    server.event_where("committed", |event| common::text(&event["reason"]).contains("deadline"));
    server.event_where("committed", |event| event["voters"] == 2);
    common::signal("CONT", workers[2].pid());
    server.event_where("committed", |event| event["voters"] == 3 && event["partial"] == 0);
    stop(server);
}

#[test]
fn a_worker_with_another_model_is_refused_and_the_run_goes_on() {
    let (_guard, here) = directory();
    let (mut server, address, first) = half_a_run(&here);
    let dimension = DIMENSION.to_string();
    let stranger = join(&here, &address, "--model cnn --name stranger").ended();
    let cnn = common::text(&server.event("refused")["reason"]);
    let numbers: Vec<_> = cnn.split(|c: char| !c.is_ascii_digit()).filter(|word| !word.is_empty()).collect();
    assert!(numbers.len() == 2 && numbers[0] == dimension && numbers[1] != dimension, "{cnn}");
    stranger.failed_at_once(5, &["mlp", &dimension, numbers[1]]);
    finish(&here, server, &address, first);
}

#[test]
fn a_worker_that_asks_for_what_there_is_not_is_refused_and_the_run_goes_on() {
    let (_guard, here) = directory();
    let (server, address, first) = half_a_run(&here);
    let refused = |flags: &str, words: &[&str]| {
        join(&here, &address, flags).ended().failed_at_once(5, words);
    };
    // Whoever holds the place may be dead without anyone having noticed, so that it comes again, as long as told.
    let again = join(&here, &address, "--slot 1 --patience 0").ended();
    again.failed_at_once(5, &["place 1", "taken"]);
    refused("--slot 3", &["no place 3", "1 to 2"]);
    let other = "0123456789abcdef0123456789abcdef";
    refused(&format!("--run {other}"), &[other]);
    let ended = finish(&here, server, &address, first);
    assert_eq!(ended.events().filter(|event| event["event"] == "refused").count(), 3);
}

#[test]
fn a_worker_finds_the_run_that_it_names() {
    let (_guard, here) = directory();
    let mut server =
        Process::start(&here, "server --listen 127.0.0.1:0 --print-events --workers 1 --rounds 2");
    let listening = server.event("listening");
    let (address, id) = (common::text(&listening["address"]), common::text(&listening["run"]));
    let worker = join(&here, &address, &format!("--run {id}"));
    ends_well(server, vec![worker]);
    assert_eq!(common::names(&here.join("runs")), ["1"]);
}

#[test]
fn a_worker_waits_for_a_server_that_starts_after_it() {
    let (_guard, here) = directory();
    // A port that is free now; somebody else could take it, but hardly does.
    let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = address.expect("a free port").to_string();
    let worker = join(&here, &address, "");
    let server =
        Process::start(&here, &format!("server --listen {address} --print-events --workers 1 --rounds 2"));
    ends_well(server, vec![worker]);
}

#[test]
fn noise_on_the_port_does_not_disturb_a_run() {
    let (_guard, here) = directory();
    let (mut server, address, first) = half_a_run(&here);
    let random: Vec<u8> = (0..4096_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let noises: [&[u8]; 6] = [
        b"GET / HTTP/1.0\r\n\r\n",
        &[0, 0, 0, 0x80, 1, 2, 3],
        &[0xff; 64],
        &[0; 64],
        &random,
        &[20, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20],
    ];
    let mut silent = Vec::new();
    for noise in noises {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        // It may hang up before it has heard everything.
        let _ = stream.write_all(noise);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        stream.set_read_timeout(Some(common::DEADLINE)).expect("a timeout");
        let mut answer = Vec::new();
        // A reset is as good an end as any.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 4096, "{} bytes for {noise:?}", answer.len());
        server.event("refused");
        // These say nothing, or half a length, and stay.
        let mut stream = TcpStream::connect(&address).expect("it listens");
        stream.write_all(&noise[..2]).expect("it listens");
        silent.push(stream);
    }
    let ended = finish(&here, server, &address, first);
    let joined = ended.events().filter(|event| event["event"] == "joined").count();
    assert_eq!(joined, 2);
}

#[test]
fn workers_of_a_killed_server_end_with_one_line() {
    let (_guard, here) = directory();
    let (mut server, address) = serve(&here, &format!("--workers 3 {ENDLESS}"));
    let workers: Vec<_> = (0..3).map(|_| join(&here, &address, "--reconnect 0")).collect();
    server.rounds(5);
    server.kill();
    for worker in workers {
        worker.ended().failed_at_once(4, &["lost the server", &address]);
    }
}

#[cfg(unix)]
#[test]
fn a_server_that_is_told_to_stop_saves_the_model_and_tells_its_workers() {
    for name in ["INT", "TERM"] {
        let (_guard, here) = directory();
        let (mut server, address) = serve(&here, &format!("--workers 2 {ENDLESS}"));
        let mut workers = [join(&here, &address, ""), join(&here, &address, "")];
        server.rounds(5);
        common::signal(name, server.pid());
        workers.iter_mut().for_each(|worker| drop(worker.says("looking for it again")));
        let ended = server.ended();
        let paused = ended.event("paused");
        let rounds = paused["round"].as_u64().expect("a count");
        assert!(rounds >= 5, "{paused}");
        assert_eq!(ended.err.len(), 1, "{ended:#?}");
        ended.failed(130, &[&format!("after {rounds} rounds"), "signvote server --resume"]);
        assert_eq!(run(&here, "eval run --json").succeeded().json()["rounds"], rounds);
    }
}

#[cfg(unix)]
#[test]
fn a_server_without_workers_stops_when_told_to() {
    let (_guard, here) = directory();
    let (server, _) = serve(&here, "--workers 2");
    common::signal("INT", server.pid());
    server.ended().failed(130, &["no model"]);
    assert_eq!(common::names(&here.join("run")), ["config.toml", "events.jsonl"]);
}

#[cfg(unix)]
#[test]
fn a_worker_that_is_told_to_stop_leaves_the_run() {
    let (_guard, here) = directory();
    let (mut server, address) = serve(&here, &format!("--workers 3 {ENDLESS}"));
    let mut workers: Vec<_> = (1..=3).map(|slot| join(&here, &address, &format!("--slot {slot}"))).collect();
    server.rounds(5);
    let one = workers.remove(0);
    common::signal("INT", one.pid());
    one.ended().failed_at_once(130, &["interrupted"]);
    let left = server.event("left");
    assert_eq!(left["slot"], 1);
    server.rounds(left["round"].as_u64().expect("a round") + 5);
    stop(server);
}
