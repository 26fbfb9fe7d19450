//! A disk that is full: one line that names the file, a code, and no file that is half there.
#![cfg(target_os = "linux")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Process, directory, join, names, run, text};

/// A file system of a few kilobytes, for as long as this lives.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` if this user may not mount one.
    fn mount(path: &Path, kilobytes: u32) -> Option<Self> {
        std::fs::create_dir(path).expect("a directory");
        let size = format!("size={kilobytes}k");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &size, "none"]).arg(path);
        let mounted = command.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self(path.to_owned()))
    }
}

/// Gives the disk in `here` another size.
fn resize(here: &Path, kilobytes: u32) {
    let size = format!("remount,size={kilobytes}k");
    let done = Command::new("mount").args(["-o", &size]).arg(here.join("disk")).status();
    assert!(done.expect("mount is there").success());
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[expect(clippy::print_stdout, reason = "who reads the log of the tests should know what they did not try")]
fn skipped() {
    println!("skipped: mounting a small file system takes more rights than this user has");
}

/// Runs `test` in a directory with a small disk in it, named `disk`; does nothing where none can be mounted.
fn with_small_disk(kilobytes: u32, test: impl Fn(&Path)) {
    let (_guard, here) = directory();
    let Some(_disk) = SmallDisk::mount(&here.join("disk"), kilobytes) else {
        return skipped();
    };
    test(&here);
}

/// What is there of a run, but for pictures.
fn files(run: &Path) -> Vec<String> {
    let mut names = names(run);
    names.retain(|name| name != "tensorboard");
    names
}

#[test]
fn a_model_that_does_not_fit_is_not_there_and_the_line_names_it() {
    // Room for settings and events, but not for 814,120 bytes of parameters.
    with_small_disk(256, |here| {
        let line = "train --epochs 2 --workers 3 --batch 128 --checkpoint-every 0 --run-dir disk/run";
        let ended = run(here, line);
        ended.failed(8, &["disk/run/model.safetensors", "space"]);
        assert_eq!(files(&here.join("disk/run")), ["config.toml", "events.jsonl"]);
    });
}

#[test]
fn the_model_before_the_one_that_does_not_fit_stays_whole() {
    // Room for one model, but not for the next one beside it, and not for the best.
    with_small_disk(1200, |here| {
        run(here, "train --epochs 2 --workers 3 --batch 128 --checkpoint-every 0 --run-dir disk/run")
            .failed(8, &["disk/run/", ".safetensors", "space"]);
        assert_eq!(files(&here.join("disk/run")), ["config.toml", "events.jsonl", "model.safetensors"]);
        assert_eq!(run(here, "eval disk/run --json").succeeded().json()["rounds"], 26);
    });
}

#[test]
fn a_log_that_cannot_be_written_ends_the_run_with_whole_lines() {
    // A thousand rounds of some 200 bytes each, and no model before they are over.
    with_small_disk(64, |here| {
        run(here, "train --epochs 1 --workers 1 --batch 10 --checkpoint-every 0 --run-dir disk/run")
            .failed(8, &["disk/run/events.jsonl", "space"]);
        let log = common::log(&here.join("disk/run"));
        assert!(log.len() > 100, "{} whole lines", log.len());
        assert_eq!(files(&here.join("disk/run")), ["config.toml", "events.jsonl"]);
    });
}

#[test]
fn a_full_disk_is_named_before_anything_starts() {
    with_small_disk(16, |here| {
        let fill = vec![0; 64 * 1024];
        // It takes what there is room for.
        let _ = std::fs::write(here.join("disk/fill"), fill);
        run(here, "train --run-dir disk/run").failed_at_once(8, &["disk/run", "space"]);
    });
}

/// A server on the small disk, and its two workers: snapshots of 814 kB, and 26 kB of log a round.
fn serve_on_disk(here: &Path, flags: &str) -> (Process, Vec<Process>) {
    let rules = "--workers 2 --quorum 2 --deadline never --rounds 200 --batch 4 --print-events";
    let line = format!("server --listen 127.0.0.1:0 {rules} --run-dir disk/run {flags}");
    let mut server = Process::start(here, &line);
    let address = text(&server.event("listening")["address"]);
    let workers = vec![join(here, &address, "--slot 1"), join(here, &address, "--slot 2")];
    (server, workers)
}

#[test]
fn a_log_that_does_not_fit_stops_the_server_and_the_run_goes_on_when_there_is_room() {
    with_small_disk(1600, |here| {
        let (server, workers) = serve_on_disk(here, "--durable always");
        let stopped = server.ended();
        let address = text(&stopped.event("listening")["address"]);
        let told = stopped.event("committed")["round"].as_u64().expect("a round");
        stopped.failed(8, &["disk/run/ledger", "space"]);
        resize(here, 1 << 20);
        let line = format!("server --listen {address} --resume disk/run --print-events --quiet");
        let mut server = Process::start(here, &line);
        let resumed = server.event("resumed");
        assert_eq!(resumed["incarnation"], 0, "{resumed}");
        assert!(resumed["round"].as_u64() > Some(told), "what was told is there: {resumed}");
        workers.into_iter().for_each(|worker| drop(worker.ended().succeeded()));
        assert_eq!(server.ended().succeeded().event("finished")["replicas_identical"], true);
        let found = run(here, "audit disk/run --json").succeeded().json();
        assert_eq!((&found["holds"], &found["rounds"]), (&true.into(), &200.into()), "{found}");
    });
}

#[test]
fn workers_of_a_server_whose_snapshot_does_not_fit_look_for_it_until_it_does() {
    with_small_disk(1900, |here| {
        // A second snapshot beside the first, and the log.
        let (server, workers) = serve_on_disk(here, "--save-every 20");
        let stopped = server.ended();
        let address = text(&stopped.event("listening")["address"]);
        stopped.failed(8, &["disk/run/ledger", "space", "signvote server --resume disk/run"]);
        resize(here, 1 << 20);
        let server =
            Process::start(here, &format!("server --listen {address} --resume disk/run --print-events"));
        workers.into_iter().for_each(|worker| drop(worker.ended().succeeded()));
        assert_eq!(server.ended().succeeded().event("finished")["round"], 200);
    });
}

#[test]
fn a_run_that_is_told_to_goes_on_without_room_and_is_kept_again_when_there_is_some() {
    with_small_disk(1600, |here| {
        let (mut server, workers) = serve_on_disk(here, "--on-full-disk go-on --save-every 100");
        let line = server.says("the run is not kept from here on");
        assert!(line.contains("space"), "{line}");
        server.rounds(60);
        resize(here, 1 << 20);
        server.event_where("durable_again", |event| event["round"] == 100);
        workers.into_iter().for_each(|worker| drop(worker.ended().succeeded()));
        assert_eq!(server.ended().succeeded().event("finished")["round"], 200);
        // The gap is told, and what is there holds.
        let found = run(here, "audit disk/run --json").succeeded().json();
        assert_eq!((&found["holds"], &found["to_round"]), (&true.into(), &200.into()), "{found}");
        assert_eq!(found["gaps"].as_array().map(Vec::len), Some(1), "{found}");
        run(here, "eval disk/run --json").succeeded();
    });
}

#[test]
fn a_run_whose_last_model_does_not_fit_says_so_though_it_was_told_to_go_on() {
    with_small_disk(1600, |here| {
        let (server, workers) = serve_on_disk(here, "--on-full-disk go-on");
        workers.into_iter().for_each(|worker| drop(worker.ended().succeeded()));
        server.ended().failed(8, &["disk/run/ledger", "space"]);
    });
}

#[test]
fn a_promise_that_cannot_be_kept_is_not_given() {
    let (_guard, here) = directory();
    let flags = "server --durable always --on-full-disk go-on";
    run(&here, flags).failed_at_once(2, &["--durable always", "--on-full-disk"]);
}
