//! `signvote train`: it learns, it tells what it did, and it does the same again.

mod common;

use std::path::Path;

use common::{DIMENSION, Process, agreement, directory, log, model, names, number, run, signvote, train};
use serde_json::Value;

/// A whole epoch in few rounds.
const SHORT: &str = "--quiet --epochs 1 --workers 3 --batch 128";

fn assert_replicas_identical(result: &Value) {
    assert_eq!(result["replicas_identical"], true, "{result}");
    assert_eq!(result["replicas"], result["workers"], "{result}");
}

/// Mean up to 1 bit a coordinate, 2% for headers.
fn assert_one_bit_a_coordinate(result: &Value) {
    for (bytes, ratio) in [("bytes_up_per_round", "ratio_up"), ("bytes_down_per_round", "ratio_down")] {
        let bits = number(&result[bytes]) * 8.0 / DIMENSION as f64;
        assert!((1.0..=1.02).contains(&bits), "{bytes}: {bits} bits a coordinate");
        assert!(number(&result[ratio]) >= 31.0, "{ratio}: {result}");
    }
}

#[test]
fn two_epochs_learn_and_the_result_says_how() {
    let (_guard, here) = directory();
    let ended = run(&here, "train --epochs 2 --run-dir run --json").succeeded();
    assert_eq!(ended.out.len(), 1, "the result alone is on stdout: {:#?}", ended.out);
    assert!(ended.err.iter().all(|line| !line.contains('\x1b')), "no terminal, no colours: {:#?}", ended.err);
    let result = ended.json();

    let accuracy = number(&result["test_accuracy"]);
    assert!((0.75..0.95).contains(&accuracy), "{accuracy}");
    assert!((0.1..1.5).contains(&number(&result["train_loss"])), "{result}");
    assert_eq!(result["epochs"], 2);
    assert_eq!(result["rounds"], 2 * (10_000 / (7 * 32)));
    assert_eq!(result["dimension"], DIMENSION);
    assert_eq!(result["dense_bytes_per_round"], 4 * DIMENSION);
    assert_eq!(result["workers"], 7);
    assert_eq!(result["adversaries"], 0);
    assert_eq!(result["seed"], 1);
    assert_eq!(result["aggregate"], "vote");
    assert!(number(&result["wall_seconds"]) > 0.0, "{result}");
    let agreement = agreement(&result);
    assert_eq!(agreement.len(), 7);
    assert!(agreement.iter().all(|agreement| (0.5..1.0).contains(agreement)), "{agreement:?}");
    assert_one_bit_a_coordinate(&result);
    assert_replicas_identical(&result);

    let run_directory = here.join("run");
    let files = [
        "best.safetensors",
        "config.toml",
        "events.jsonl",
        "model.safetensors",
        "result.json",
        "tensorboard",
    ];
    assert_eq!(names(&run_directory), files);
    assert_eq!(names(&here), ["run"]);
    let config = std::fs::read_to_string(run_directory.join("config.toml")).expect("settings");
    let config: toml::Table = config.parse().expect("settings are TOML");
    assert_eq!(config["epochs"].as_integer(), Some(2));
    let text = std::fs::read_to_string(run_directory.join("result.json")).expect("a result");
    assert_eq!(serde_json::from_str::<Value>(&text).expect("a result is JSON"), result);
    assert_log_is_whole(&run_directory, &result);

    let evaluation = run(&here, "eval run --json").succeeded().json();
    assert_eq!(evaluation["test_accuracy"], result["test_accuracy"]);
    assert_eq!(evaluation["test_loss"], result["test_loss"]);
    assert_eq!(evaluation["rounds"], result["rounds"]);
    assert_eq!(evaluation["samples"], 2000);
    let spoken = run(&here, "eval run").succeeded().out.join("\n");
    assert!(spoken.starts_with(&format!("{:.1}% of 2,000 images", accuracy * 100.0)), "{spoken}");
}

/// The log has a line for everything that happened.
fn assert_log_is_whole(run_directory: &Path, result: &Value) {
    let log = log(run_directory);
    let count = |name: &str| log.iter().filter(|event| event["event"] == name).count();
    for (name, expected) in [
        ("listening", 1),
        ("joined", 7),
        ("started", 1),
        ("committed", 88),
        ("evaluated", 2),
        ("finished", 1),
    ] {
        assert_eq!(count(name), expected, "{name}");
    }
    assert!(count("saved") >= 2, "a model after every epoch");
    assert_eq!(count("refused") + count("diverged") + count("late") + count("non_finite"), 0);
    assert!(log.iter().all(|event| number(&event["time"]) > 1.7e9), "every event has its time");
    let last = log.iter().rfind(|event| event["event"] == "evaluated").expect("an evaluation");
    assert_eq!(last["test_accuracy"], result["test_accuracy"]);
    assert_eq!(last["round"], result["rounds"]);
}

#[test]
fn one_seed_gives_one_model_and_another_seed_another() {
    let (_guard, here) = directory();
    let first = train(&here, &format!("{SHORT} --seed 5 --run-dir a"));
    // No directory is asked for: it takes the first free one.
    let again = train(&here, &format!("{SHORT} --seed 5"));
    assert_eq!(again["run_dir"], "runs/1");
    assert_eq!(model(&here.join("a")), model(&here.join("runs/1")));
    assert_eq!(first["digest"], again["digest"]);
    assert_eq!(first["test_accuracy"], again["test_accuracy"]);

    train(&here, &format!("{SHORT} --seed 6 --run-dir c"));
    assert_ne!(model(&here.join("a")), model(&here.join("c")));
}

#[test]
fn the_settings_in_the_run_directory_repeat_the_run() {
    let (_guard, here) = directory();
    let flags = "--seed 9 --adversaries 1 --attack random-sign --beta 0.95 --weight-decay 0.001 --eta 2e-3 --warmup 4 \
                 --schedule step --step-every 9 --step-factor 0.5 --tie hold --partition by-label --abstain-on gradient";
    let first = train(&here, &format!("{SHORT} {flags} --run-dir a"));
    let ended = run(&here, "train --config a/config.toml --run-dir b").succeeded();
    assert_eq!(model(&here.join("a")), model(&here.join("b")));
    let text = |run: &str, file: &str| std::fs::read_to_string(here.join(run).join(file)).expect("a file");
    assert_eq!(text("a", "config.toml"), text("b", "config.toml"));

    // Without --json the result is a table for people.
    let table = ended.out.join("\n");
    assert!(table.contains(&format!("{:.1}%", 100.0 * number(&first["test_accuracy"]))), "{table}");
    assert!(table.contains("bit-identical"), "{table}");
    assert_eq!(table.matches("told to lie: random-sign").count(), 1, "{table}");
}

#[test]
fn a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default() {
    let (_guard, here) = directory();
    let file = "rounds = 11\nworkers = 2\nquorum = 1\nlisten = \"127.0.0.1:0\"\nprint-events = true\n";
    std::fs::write(here.join("settings.toml"), file).expect("a file");
    let listening = |line: &str, variables: &[(&str, &str)]| {
        let mut command = signvote(&here, line);
        command.envs(variables.iter().copied());
        Process::spawn(command).event("listening")
    };
    let file = listening("server --config settings.toml", &[]);
    assert_eq!((&file["rounds"], &file["workers"], &file["quorum"]), (&11.into(), &2.into(), &1.into()));

    let variables = [("SIGNVOTE_ROUNDS", "12"), ("SIGNVOTE_WORKERS", "3")];
    let environment = listening("server --config settings.toml", &variables);
    assert_eq!(
        (&environment["rounds"], &environment["workers"], &environment["quorum"]),
        (&12.into(), &3.into(), &1.into())
    );

    let flag = listening("server --config settings.toml --rounds 13", &variables);
    assert_eq!((&flag["rounds"], &flag["workers"], &flag["quorum"]), (&13.into(), &3.into(), &1.into()));

    let named = [("SIGNVOTE_CONFIG", "settings.toml")];
    assert_eq!(listening("server", &named)["rounds"], 11);
    let switch = [("SIGNVOTE_PRINT_EVENTS", "1"), ("SIGNVOTE_LISTEN", "127.0.0.1:0")];
    assert_eq!(listening("server", &switch)["rounds"], 440);
}

#[test]
fn the_log_says_which_instruction_set_the_kernels_use_and_why() {
    let (_guard, here) = directory();
    for (wanted, expected) in [
        ("scalar", "scalar: set by SIGNVOTE_ISA"),
        ("abacus", "SIGNVOTE_ISA is ignored: expected an instruction set"),
        ("", "the best instruction set of this machine"),
    ] {
        let mut command = signvote(&here, "server --listen 127.0.0.1:0 --workers 1 --print-events");
        command.env("SIGNVOTE_ISA", wanted);
        let listening = Process::spawn(command).event("listening");
        let kernels = common::text(&listening["kernels"]);
        assert!(kernels.contains(expected), "{kernels}");
    }
}

#[test]
fn three_liars_of_seven_are_outvoted_and_stand_out() {
    let (_guard, here) = directory();
    let result = train(&here, "--quiet --epochs 2 --adversaries 3 --attack sign-flip --run-dir run");
    assert!(number(&result["test_accuracy"]) > 0.6, "{result}");
    assert_eq!(result["adversaries"], 3);
    let agreement = agreement(&result);
    let (liars, honest) = agreement.split_at(3);
    let most = liars.iter().copied().fold(0.0, f64::max);
    let least = honest.iter().copied().fold(1.0, f64::min);
    assert!(most < least, "liars {liars:?}, honest {honest:?}");
    assert_replicas_identical(&result);
}

#[test]
fn what_ruins_a_mean_does_not_ruin_the_vote() {
    let (_guard, here) = directory();
    let flags = "--quiet --epochs 2 --adversaries 3 --attack scaled-flip";
    let mean = train(&here, &format!("{flags} --aggregate mean --run-dir mean"));
    assert!(number(&mean["test_accuracy"]) < 0.3, "{mean}");
    assert_eq!(mean["rounds"], 88, "a run that diverged still ends");
    assert_replicas_identical(&mean);
    let vote = train(&here, &format!("{flags} --run-dir vote"));
    assert!(number(&vote["test_accuracy"]) > 0.6, "{vote}");
    assert_replicas_identical(&vote);
}

#[test]
fn the_dense_baseline_learns_with_sgd_and_with_adam() {
    let (_guard, here) = directory();
    for optimizer in ["sgd", "adam"] {
        let flags =
            format!("--quiet --epochs 1 --workers 3 --batch 128 --aggregate mean --optimizer {optimizer}");
        let result = train(&here, &flags);
        assert!(number(&result["test_accuracy"]) > 0.7, "{optimizer}: {result}");
        assert_eq!(result["aggregate"], "mean");
        for ratio in ["ratio_up", "ratio_down"] {
            assert!((0.98..=1.0).contains(&number(&result[ratio])), "{optimizer}: {result}");
        }
        assert_replicas_identical(&result);
    }
    // Floats are added in a fixed order: this run repeats bit for bit as well.
    let again = train(&here, "--config runs/2/config.toml --quiet");
    assert_eq!(again["run_dir"], "runs/3");
    assert_eq!(model(&here.join("runs/2")), model(&here.join("runs/3")));
}

#[test]
fn a_baseline_that_diverged_ends_with_its_accuracy() {
    let (_guard, here) = directory();
    let result = train(&here, &format!("{SHORT} --aggregate mean --eta 1e30"));
    assert!((0.05..0.3).contains(&number(&result["test_accuracy"])), "{result}");
    assert!(result["train_loss"].is_null() && result["test_loss"].is_null(), "{result}");
    assert_replicas_identical(&result);
}

#[test]
fn gradients_that_stay_non_finite_end_a_vote_with_a_code_of_its_own() {
    let (_guard, here) = directory();
    let ended = run(&here, &format!("train {SHORT} --eta 1e30 --max-non-finite 3 --run-dir run"));
    ended.failed_at_once(7, &["the gradient of fc1.weight was not finite", "3 rounds", "learning rate"]);
}

#[test]
fn a_run_directory_may_have_an_odd_name() {
    let (_guard, here) = directory();
    let result = train(&here, "--quiet --epochs 1 --workers 1 --batch 2000 --run-dir=-odd=\u{e9}");
    assert_eq!(result["run_dir"], "-odd=\u{e9}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_worker_dies_among_liars_and_the_run_ends_with_identical_replicas() {
    use common::family::workers;
    let (_guard, here) = directory();
    let mut run =
        Process::start(&here, "train --epochs 4 --workers 5 --adversaries 1 --batch 32 --run-dir run --json");
    run.says("5 workers are there");
    let family = workers(run.pid());
    assert_eq!(family.len(), 5);
    family[4].kill();
    let ended = run.ended().succeeded();
    let result = ended.json();
    assert_eq!(result["rounds"], 4 * (10_000 / (5 * 32)));
    assert_eq!(result["replicas_identical"], true);
    assert_eq!(result["replicas"], 4);
    assert!(ended.err.iter().any(|line| line.contains("worker 5")), "{:#?}", ended.err);
    let left = log(&here.join("run")).into_iter().find(|event| event["event"] == "left").expect("it left");
    assert_eq!(left["slot"], 5, "{left}");
}

#[cfg(target_os = "linux")]
#[test]
fn too_few_workers_end_the_run_with_a_code_of_its_own() {
    use common::family::{all_have_ended, children, workers};
    let (_guard, here) = directory();
    let mut run = Process::start(&here, "train --epochs 50 --workers 3 --run-dir run");
    run.says("3 workers are there");
    let family = children(run.pid());
    assert_eq!(family.len(), 4);
    let workers = workers(run.pid());
    workers[0].kill();
    workers[2].kill();
    let ended = run.ended().failed(6, &["only 1 of 3 workers", "needs 2", "killed"]);
    all_have_ended(&family);
    assert!(ended.out.is_empty(), "{ended:#?}");
}
