//! Runs whose ballots are tallied by shards, as real processes: the same model, whoever of the shards dies.

mod common;

use std::path::Path;

use common::{Ended, Process, directory, join, model, run, serve};

const SHARDED: &str =
    "--topology sharded --workers 3 --rounds 120 --batch 8 --chunk 1024 --seed 5 --quorum 3";

fn shard(here: &Path, address: &str, flags: &str) -> Process {
    Process::start(here, &format!("shard --connect {address} --listen 127.0.0.1:0 {flags}"))
}

fn all_end_well(server: Process, others: Vec<Process>) -> Ended {
    for other in others {
        other.ended().succeeded();
    }
    let ended = server.ended().succeeded();
    assert_eq!(ended.event("finished")["replicas_identical"], true);
    ended
}

/// The model of the same run with a server that tallies.
fn central() -> Vec<u8> {
    let (_guard, here) = directory();
    let (server, address) = serve(&here, &SHARDED.replace("--topology sharded ", ""));
    let workers = (1..=3).map(|slot| join(&here, &address, &format!("--slot {slot}"))).collect();
    all_end_well(server, workers);
    model(&here.join("run"))
}

#[test]
fn train_with_shards_makes_the_model_of_a_central_server_and_carries_the_same_bytes() {
    let (_guard, here) = directory();
    let rules = "--quiet --epochs 1 --workers 3 --batch 128";
    let central = common::train(&here, &format!("{rules} --run-dir central"));
    let sharded = common::train(&here, &format!("{rules} --topology sharded --run-dir sharded"));
    let thrice = common::train(&here, &format!("{rules} --topology sharded --replicas 3 --run-dir thrice"));
    assert_eq!(model(&here.join("central")), model(&here.join("sharded")));
    assert_eq!(model(&here.join("central")), model(&here.join("thrice")));
    for key in ["bytes_up_per_round", "bytes_down_per_round"] {
        assert_eq!(central[key], sharded[key], "{key}");
    }
    // Of the last round two of three shards are enough: what the third has carried is not heard of any more.
    let up = |result: &serde_json::Value| common::number(&result["bytes_up_per_round"]);
    assert!(up(&thrice) > 2.5 * up(&central));
}

#[test]
fn a_shard_that_is_killed_costs_the_run_nothing() {
    let (_guard, here) = directory();
    let (mut server, address) = serve(&here, &format!("{SHARDED} --shards 3"));
    let mut shards: Vec<_> = (0..2).map(|_| shard(&here, &address, "")).collect();
    let mut workers = vec![join(&here, &address, "--slot 1 --shard-listen 127.0.0.1:0")];
    workers.extend((2..=3).map(|slot| join(&here, &address, &format!("--slot {slot}"))));
    server.rounds(10);
    shards.remove(0).kill();
    server.event("shard_lost");
    // Another one takes part from some round on.
    shards.push(shard(&here, &address, ""));
    workers.extend(shards);
    let ended = all_end_well(server, workers);
    assert_eq!(ended.event("finished")["round"], 120);
    assert_eq!(model(&here.join("run")), central(), "each ballot counted, once");
}

#[test]
fn with_certificates_a_shard_is_known_by_its_workers_name() {
    let (_guard, here) = directory();
    run(&here, "certs init").succeeded();
    run(&here, "certs issue ada bob cleo dora").succeeded();
    let (server, address) = serve(&here, &format!("{SHARDED} --shards 2 --tls certs"));
    let mut all = vec![shard(&here, &address, "--tls certs --identity dora")];
    for (name, more) in [("ada", "--shard-listen 127.0.0.1:0"), ("bob", ""), ("cleo", "")] {
        all.push(join(&here, &address, &format!("--tls certs --identity {name} {more}")));
    }
    let ended = all_end_well(server, all);
    let named: Vec<_> = ended
        .events()
        .filter(|event| event["event"] == "shard_joined")
        .map(|event| event["name"].clone())
        .collect();
    assert!(named.contains(&"dora".into()) && named.contains(&"ada".into()), "{named:?}");
}

#[test]
fn what_does_not_go_with_shards_is_refused_in_one_line() {
    let (_guard, here) = directory();
    for (line, words) in [
        ("server --topology sharded --aggregate mean", "--topology sharded goes with --aggregate vote"),
        ("server --topology sharded --record-ballots", "--record-ballots goes with --topology central"),
        ("server --shards 3", "--shards and --replicas go with --topology sharded"),
        ("server --topology sharded --workers 3 --replicas 4", "--replicas must be at most 3"),
        ("train --topology sharded --workers 3 --shards 4", "here each of 3 processes"),
        ("shard --listen nowhere", "--listen wants HOST:PORT"),
    ] {
        let ended = run(&here, line);
        assert_eq!(ended.code, Some(2), "{line}: {ended:#?}");
        assert!(ended.err.iter().any(|said| said.contains(words)), "{line}: {ended:#?}");
    }
    let (server, address) = serve(&here, "--workers 2 --rounds 5");
    let refused = run(&here, &format!("shard --connect {address} --listen 127.0.0.1:0"));
    assert_eq!(refused.code, Some(5), "{refused:#?}");
    assert!(refused.err.iter().any(|said| said.contains("this run has no shards")), "{refused:#?}");
    drop(server);
}
