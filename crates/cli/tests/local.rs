//! Several workers in one process: they vote together, or each for itself.
#![cfg(unix)]

mod common;

use std::fs;

use common::{agreement, directory, join, model, run, serve, signal, train, wait_until};

#[test]
fn local_workers_together_learn_cast_one_ballot_and_repeat_bit_for_bit() {
    let (_guard, here) = directory();
    let flags = "--epochs 2 --workers 3 --batch 32 --local 2 --run-dir";
    let ended = run(&here, &format!("train --json {flags} first")).succeeded();
    let result = ended.json();
    // An epoch is a pass over the data: six batches a round, and not three.
    assert_eq!(result["rounds"], 2 * (10_000 / (3 * 2 * 32)));
    assert_eq!((&result["workers"], &result["replicas"]), (&3.into(), &3.into()));
    assert_eq!((&result["local"], &result["cast"]), (&2.into(), &"together".into()));
    assert_eq!(agreement(&result).len(), 3);
    let accuracy = result["test_accuracy"].as_f64().expect("a number");
    assert!((0.7..0.95).contains(&accuracy), "{accuracy}");
    assert!(ended.err.iter().any(|line| line.contains("each worker is 2 local ones")), "{ended:#?}");

    train(&here, &format!("--quiet {flags} second"));
    assert_eq!(model(&here.join("first")), model(&here.join("second")));
    // The settings of the run are those of another one.
    train(&here, "--quiet --config first/config.toml --run-dir third");
    assert_eq!(model(&here.join("first")), model(&here.join("third")));
}

#[test]
fn local_workers_who_vote_each_are_as_many_workers() {
    let (_guard, here) = directory();
    let flags = "--quiet --epochs 1 --workers 4 --batch 64 --adversaries 2 --run-dir";
    let result = train(&here, &format!("{flags} local --local 2 --cast each"));
    assert_eq!((&result["workers"], &result["replicas"]), (&4.into(), &4.into()));
    assert_eq!((&result["local"], &result["cast"]), (&2.into(), &"each".into()));
    let alone = train(&here, &format!("{flags} alone"));
    assert_eq!(result["rounds"], alone["rounds"]);
    assert_eq!(model(&here.join("local")), model(&here.join("alone")));
}

#[test]
fn local_workers_that_come_back_go_on_from_their_checkpoint_as_if_nothing_had_been() {
    for (cast, places) in [("together", 1), ("each", 2)] {
        let (_guard, here) = directory();
        let rules = format!("--workers {} --quorum 100% --deadline never --batch 16 --rounds 60", places + 1);
        let flags = format!("--local 2 --cast {cast} --slot 1 --checkpoint mine --checkpoint-every 1");
        let other = format!("--slot {}", places + 1);

        let (server, address) = serve(&here, &rules);
        let workers = [join(&here, &address, &flags), join(&here, &address, &other)];
        workers.into_iter().for_each(|worker| drop(worker.ended().succeeded()));
        server.ended().succeeded();
        let undisturbed = model(&here.join("run"));
        let checkpoints = ["mine", "mine.1", "mine.2"].map(|name| here.join(name)).map(|path| path.exists());
        assert_eq!(checkpoints, [cast == "together", cast == "each", cast == "each"]);

        fs::rename(here.join("run"), here.join("undisturbed")).expect("a run of ours");
        for name in ["mine", "mine.1", "mine.2"] {
            let _ = fs::remove_file(here.join(name));
        }
        let (mut server, address) = serve(&here, &rules);
        let (mut worker, other) = (join(&here, &address, &flags), join(&here, &address, &other));
        for round in [9, 30] {
            server.rounds(round);
            // Killed when they have voted and nobody else has: the round is still the one of their checkpoint.
            signal("STOP", other.pid());
            let stands = || {
                let status = run(&here, &format!("status {address} --json")).succeeded().json();
                let workers = status["workers"].as_array().expect("rows").iter();
                let voted: Vec<_> = workers.map(|worker| worker["voted"] == true).collect();
                (status["round"].clone(), voted[..places].iter().all(|voted| *voted) && !voted[places])
            };
            let mut before = stands();
            wait_until("the others have voted", || {
                let now = stands();
                let settled = now == before && now.1;
                before = now;
                settled
            });
            worker.kill();
            worker.ended();
            // Back in that round, and not in the next: the ballots that were cast would have decided it without them.
            worker = join(&here, &address, &format!("{flags} --log debug"));
            for _ in 0..places {
                worker.says("voted");
            }
            signal("CONT", other.pid());
        }
        [worker, other].into_iter().for_each(|worker| drop(worker.ended().succeeded()));
        server.ended().succeeded();
        assert!(model(&here.join("run")) == undisturbed, "{cast}");
    }
}

#[test]
fn a_worker_whose_data_has_no_batch_for_all_its_local_workers_names_the_flag() {
    let (_guard, here) = directory();
    let (_server, address) = serve(&here, "--workers 1 --batch 32 --rounds 3");
    join(&here, &address, "--local 400")
        .ended()
        .failed_at_once(2, &["1 worker of --local 400", "12800", "10000"]);
}
