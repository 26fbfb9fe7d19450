//! Ctrl-C, and worse, in the middle of `train`: nobody is left behind, and neither is half a file.
#![cfg(target_os = "linux")]

mod common;

use std::path::Path;

use common::family::{Relative, all_end, all_have_ended, children};
use common::{Process, directory, log, names, run, signal};

/// A run far too long to end by itself, with all its processes.
fn long_run(here: &Path) -> (Process, Vec<Relative>) {
    let mut run = Process::start(here, "train --epochs 1000 --workers 3 --run-dir run");
    run.says("3 workers are there");
    let family = children(run.pid());
    assert_eq!(family.len(), 4, "a server and three workers: {family:#?}");
    (run, family)
}

fn assert_no_partial_file(here: &Path) {
    // What `train` itself was writing when it was killed is taken away when it goes on.
    let own = |name: &String| name.starts_with("best.");
    let partial = names(&here.join("run")).into_iter().filter(|name| name.contains("partial"));
    let left: Vec<_> = partial.filter(|name| !own(name)).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn an_interrupted_run_keeps_its_model_and_no_process() {
    for name in ["INT", "TERM"] {
        let (_guard, here) = directory();
        let (mut train, family) = long_run(&here);
        train.says("epoch    1/1000");
        signal(name, train.pid());
        let ended = train.ended().failed(130, &["rounds", "run"]);
        all_have_ended(&family);
        assert!(ended.out.is_empty(), "{ended:#?}");
        assert!(!ended.err.iter().any(|line| line.contains("left in round")), "{ended:#?}");
        // The best model is there once the first is evaluated.
        let mut files = names(&here.join("run"));
        files.retain(|name| name != "best.safetensors");
        assert_eq!(files, ["config.toml", "events.jsonl", "model.safetensors", "tensorboard", "workers"]);
        // What the line says is what is there.
        let rounds = run(&here, "eval run --json").succeeded().json()["rounds"].as_u64().expect("a count");
        assert!(rounds >= 104, "an epoch of three workers: {rounds}");
        let line = ended.err.last().expect("a line");
        assert!(line.contains(&format!("after {rounds} rounds")), "{rounds} rounds, but {line:?}");
        let log = log(&here.join("run"));
        let finished = log.iter().rfind(|event| event["event"] == "finished").expect("it finished in order");
        assert_eq!(finished["round"], rounds);
        assert_eq!(finished["replicas_identical"], true);
    }
}

#[test]
fn an_interrupt_before_the_first_round_is_heard_too() {
    let (_guard, here) = directory();
    let mut train = Process::start(&here, "train --epochs 1000 --workers 3 --run-dir run");
    train.says("files in run");
    let family = children(train.pid());
    signal("INT", train.pid());
    train.ended().failed(130, &["interrupted"]);
    all_have_ended(&family);
    assert_no_partial_file(&here);
}

#[test]
fn a_second_interrupt_changes_nothing() {
    let (_guard, here) = directory();
    let (train, family) = long_run(&here);
    signal("INT", train.pid());
    signal("INT", train.pid());
    train.ended().failed(130, &["interrupted"]);
    all_have_ended(&family);
    assert_no_partial_file(&here);
}

#[test]
fn the_processes_of_a_killed_run_end_by_themselves() {
    let (_guard, here) = directory();
    let (mut train, family) = long_run(&here);
    train.says("epoch    1/1000");
    train.kill();
    assert_eq!(train.ended().code, None);
    all_end(&family);
    // The server heard of it, and saved what was committed.
    assert_no_partial_file(&here);
    assert!(run(&here, "eval run --json").succeeded().json()["rounds"].as_u64() >= Some(104));
}

#[test]
fn a_killed_server_ends_the_run() {
    let (_guard, here) = directory();
    let (train, family) = long_run(&here);
    let server = family.iter().find(|child| child.slot().is_none()).expect("a server");
    server.kill();
    train.ended().failed(1, &["the server", "killed"]);
    all_have_ended(&family);
    assert_no_partial_file(&here);
}

#[test]
fn a_reader_of_stderr_that_hangs_up_does_not_end_the_run() {
    let (_guard, here) = directory();
    let line = "train --epochs 1 --workers 3 --batch 128 --run-dir run";
    let mut command = common::signvote(&here, line);
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    run(&here, "eval run").succeeded();
}
