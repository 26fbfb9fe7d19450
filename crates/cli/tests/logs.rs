//! `--log` and `--log-format`: what is on stderr for whoever reads it later.

mod common;

use std::path::Path;

use common::{Process, directory, join, run, serve, signvote, text};
use serde_json::Value;

/// Every line of a log; each must be a JSON object with the fields that all have.
#[track_caller]
fn objects(lines: &[String]) -> Vec<Value> {
    let object = |line: &String| -> Value {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for field in ["timestamp", "level", "target"] {
            assert!(object[field].is_string(), "{field}: {line}");
        }
        assert!(text(&object["target"]).starts_with("signvote"), "dependencies have no say: {line}");
        object
    };
    lines.iter().map(object).collect()
}

/// The fields of the first event of this name.
#[track_caller]
fn event<'a>(log: &'a [Value], name: &str) -> &'a Value {
    log.iter().find(|line| line["event"] == name).unwrap_or_else(|| panic!("no {name}: {log:#?}"))
}

#[test]
fn a_log_of_a_server_is_an_object_a_line_with_its_events() {
    let (_guard, here) = directory();
    let logs = "--log debug --log-format json";
    let server = "server --listen 127.0.0.1:0 --run-dir run --workers 1 --rounds 3 --batch 16";
    let mut server = Process::start(&here, &format!("{server} {logs}"));
    let listening: Value = serde_json::from_str(&server.says("listening")).unwrap();
    // A stranger first, for a line with a reason in it.
    let address = text(&listening["address"]);
    let stranger = format!("worker --connect {address} --run 00000000000000000000000000000001 {logs}");
    let stranger = run(&here, &stranger);
    assert_eq!(stranger.code, Some(5), "{stranger:#?}");
    let last = objects(&stranger.err).pop().unwrap();
    assert_eq!((&last["level"], &last["exit_code"]), (&"ERROR".into(), &5.into()), "{last}");

    let worker = join(&here, &address, logs).ended().succeeded();
    let log = objects(&server.ended().succeeded().err);
    assert_eq!(event(&log, "refused")["level"], "WARN");
    let committed: Vec<_> = log.iter().filter(|line| line["event"] == "committed").collect();
    assert_eq!(committed.iter().map(|line| line["round"].as_u64()).collect::<Vec<_>>(), [0, 1, 2].map(Some));
    assert!(committed.iter().all(|line| line["level"] == "DEBUG" && line["voters"] == 1), "{committed:#?}");
    let finished = event(&log, "finished");
    assert_eq!((&finished["level"], &finished["round"]), (&"INFO".into(), &3.into()));
    assert!(log.iter().all(|line| line["level"] != "TRACE"), "below the level that was asked for");
    let of_worker = objects(&worker.err);
    assert!(of_worker.iter().any(|line| line["message"] == "voted" && line["span"]["slot"] == 1));
}

#[test]
fn by_default_a_run_that_goes_well_has_nothing_in_its_log_and_one_that_loses_a_worker_a_warning() {
    let (_guard, here) = directory();
    let (mut server, address) = serve(&here, "--workers 2 --quorum 1 --rounds 1000000 --batch 16");
    let mut lost = join(&here, &address, "");
    let mut worker = join(&here, &address, "");
    server.rounds(3);
    lost.kill();
    let line = server.says("a worker left");
    assert!(line.contains("WARN") && line.contains("slot=") && !line.contains('\u{1b}'), "{line}");
    worker.kill();
    let (_guard, here) = directory();
    let ended = common::run_by_hand(&here, 1, "--rounds 2 --batch 16", "");
    assert!(ended.err.is_empty(), "{ended:#?}");
}

#[test]
fn a_log_of_train_has_the_lines_of_its_processes() {
    let (_guard, here) = directory();
    let train = "train --epochs 1 --workers 2 --batch 500 --run-dir run --log debug --log-format json";
    let log = objects(&run(&here, train).succeeded().err);
    for slot in [1, 2] {
        let of_worker = |line: &&Value| line["message"] == "voted" && line["span"]["slot"] == slot;
        assert_eq!(log.iter().filter(of_worker).count(), 10, "rounds that worker {slot} voted in");
    }
    for name in ["listening", "committed", "evaluated", "finished"] {
        event(&log, name);
    }
}

#[test]
fn a_log_in_text_stands_beside_the_progress_of_train() {
    let (_guard, here) = directory();
    let train = "train --epochs 1 --workers 2 --batch 500 --run-dir run --log info";
    let ended = run(&here, train).succeeded();
    assert!(ended.err.iter().any(|line| line.starts_with("epoch 1/1")), "{ended:#?}");
    let of_worker =
        |line: &&String| line.contains(" INFO worker{slot=2}: ") && line.contains("joined the run");
    assert_eq!(ended.err.iter().filter(of_worker).count(), 1, "{ended:#?}");
}

/// The only line on stderr of a command that fails at once, under these settings.
fn failure(here: &Path, flags: &str, variables: &[(&str, &str)]) -> String {
    let mut command = signvote(here, &format!("eval nowhere {flags}"));
    command.envs(variables.iter().copied());
    let ended = Process::spawn(command).ended();
    assert_eq!((ended.code, ended.err.len()), (Some(3), 1), "{ended:#?}");
    ended.err[0].clone()
}

#[test]
fn log_settings_come_from_the_flag_else_the_variable_else_the_file() {
    let (_guard, here) = directory();
    std::fs::write(here.join("json.toml"), "log-format = \"json\"\nlog = \"error\"\n").unwrap();
    let file = "--config json.toml";
    let is_json = |flags: &str, variables: &[(&str, &str)]| {
        let line = failure(&here, flags, variables);
        let json = serde_json::from_str::<Value>(&line).is_ok();
        assert!(json || line.starts_with("error: "), "{line}");
        json
    };
    assert!(!is_json("", &[]));
    assert!(is_json("--log-format json", &[]));
    assert!(is_json("", &[("SIGNVOTE_LOG_FORMAT", "json")]));
    assert!(is_json(file, &[]));
    assert!(!is_json(file, &[("SIGNVOTE_LOG_FORMAT", "text")]));
    assert!(is_json(&format!("{file} --log-format json"), &[("SIGNVOTE_LOG_FORMAT", "text")]));
    // Without a log, the line that ends the program is there all the same.
    assert!(!is_json("--log-format json --log off", &[]));
    assert!(!is_json(file, &[("SIGNVOTE_LOG", "off")]));
    assert!(is_json(&format!("{file} --log warn"), &[("SIGNVOTE_LOG", "off")]));
    // Before the command as well as behind it.
    let ended = run(&here, "--log-format json eval nowhere");
    assert!(serde_json::from_str::<Value>(&ended.err[0]).is_ok(), "{ended:#?}");
}

#[test]
fn a_level_that_there_is_not_is_named() {
    let (_guard, here) = directory();
    for (flags, words) in [("--log loud", "loud"), ("--log-format xml", "xml")] {
        let ended = run(&here, &format!("server {flags}"));
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(ended.err[0].starts_with("error: ") && ended.err[0].contains(words), "{ended:#?}");
    }
}
