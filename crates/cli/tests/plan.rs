//! `signvote plan`: what it predicts, as a table and as an object, what it refuses, and how it checks itself.

mod common;

use common::{Process, directory, names, number, run, signvote, text};
use serde_json::Value;

/// What nothing but links counts in.
const LINKS: &str = "plan --pack-ns 0 --tally-ns 0 --apply-ns 0 --vote-byte-ns 0 --dense-byte-ns 0 --reduce-ns 0 \
                     --reduce-half-ns 0 --latency-ms 0 --vote-efficiency 1 --dense-efficiency 1";

fn json(line: &str) -> Value {
    let (_guard, here) = directory();
    let ended = run(&here, &format!("{line} --json")).succeeded();
    assert_eq!(ended.out.len(), 1, "{ended:#?}");
    assert!(ended.err.is_empty(), "{ended:#?}");
    assert!(names(&here).is_empty(), "nothing is left behind");
    ended.json()
}

/// The row of a system.
fn row<'a>(plan: &'a Value, system: &str) -> &'a Value {
    let rows = plan["systems"].as_array().expect("rows");
    rows.iter().find(|row| row["system"] == system).unwrap_or_else(|| panic!("{system}: {plan}"))
}

#[track_caller]
fn near(value: &Value, expected: f64) {
    let got = number(value);
    assert!((got / expected - 1.0).abs() < 1e-3, "expected {expected}, got {got}");
}

#[test]
fn the_limits_of_the_link_are_in_the_plan() {
    let plan = json(&format!("{LINKS} --dim 25600000 --workers 4 --rate 1gbit"));
    for (system, limit) in [
        ("ring-fp32", 1228.8),
        ("ring-fp16", 614.4),
        ("central", 76.8),
        ("central-apart", 102.4),
        ("sharded", 38.4),
    ] {
        near(&row(&plan, system)["limit_ms"], limit);
    }
    near(&row(&plan, "sharded")["exchange_ms"], 38.4);
    near(&plan["rate_bit_per_s"], 1e9);
    assert_eq!(plan["choice"]["system"], "sharded");
    assert_eq!(plan["compute"], "none");
    assert!(row(&plan, "sharded")["epoch_s"].is_null(), "nobody said how many steps");
    near(&row(&json("plan --workers 15"), "central")["limit_ms"], 358.4);
}

#[test]
fn an_epoch_is_so_many_steps_and_an_all_reduce_hides_under_the_backward_pass() {
    let flags = "--workers 4 --rate 10gbit --compute-ms 300 --examples 1280000 --batch 32";
    let plan = json(&format!("{LINKS} {flags}"));
    assert_eq!(plan["steps_per_epoch"], 10_000);
    let [ring, sharded] = ["ring-fp32", "sharded"].map(|system| row(&plan, system));
    near(&ring["step_after_ms"], 422.88);
    near(&ring["step_ms"], 300.0);
    near(&ring["epoch_s"], 3000.0);
    near(&sharded["step_ms"], 303.84);
    assert_eq!(plan["choice"]["system"], "ring-fp32");
    let rate = number(&plan["break_even_fp32"]["from"]);
    assert!((5e9..7e9).contains(&rate), "{plan}");
    let plan = json(&format!("{LINKS} {flags} --overlap none"));
    near(&row(&plan, "ring-fp32")["step_ms"], 422.88);
    // Of 304 and 308 ms for sharded and central votes the simpler.
    assert_eq!((&plan["break_even_fp32"], &plan["choice"]["system"]), (&"never".into(), &"central".into()));
    let plan = json(&format!("{LINKS} --workers 4 --compute-ms 300 --steps 7 --overlap all"));
    near(&row(&plan, "sharded")["epoch_s"], 2.1);
}

#[test]
fn a_model_of_the_program_brings_its_size_and_the_time_of_a_batch() {
    let plan = json("plan --model mlp --workers 7 --batch 16");
    assert_eq!((&plan["dim"], &plan["steps_per_epoch"]), (&common::DIMENSION.into(), &89.into()));
    assert_eq!(plan["compute"], "measured");
    let alone = number(&plan["compute_ms"]);
    assert!(alone > 0.0, "{plan}");
    let plan = json("plan --model cnn --compute-ms 5");
    assert_eq!((&plan["dim"], &plan["compute"]), (&421_642.into(), &"given".into()));
}

#[test]
fn the_table_says_what_is_assumed_where_it_breaks_even_and_what_to_choose() {
    let (_guard, here) = directory();
    let ended = run(&here, "plan --workers 15 --rate 10gbit --compute-ms 349 --steps 100").succeeded();
    let all = ended.out.join("\n");
    for words in [
        "25,600,000 coordinates, 15 hosts, links of 10gbit",
        "compute 349 ms a step, 67% of it backward: as given",
        "a vote gets 95%, an all-reduce 95%",
        "(DDP), a vote after it",
        "break-even: from ",
        "choose: ",
    ] {
        assert!(all.contains(words), "{words:?}: {all}");
    }
    for system in
        ["fp32 ring", "fp16 ring", "central vote, server beside", "central vote, server on", "sharded"]
    {
        assert!(
            ended.out.iter().any(|line| line.starts_with(system) && line.contains(" ms")),
            "{system}: {all}"
        );
    }
    let ended = run(&here, "plan --topology sharded").succeeded();
    assert!(!ended.out.iter().any(|line| line.starts_with("central")), "{ended:#?}");
    assert!(ended.out.iter().any(|line| line.contains("the exchange alone")), "{ended:#?}");
}

#[test]
fn hosts_on_one_machine_share_its_cores() {
    let one_machine = "plan --workers 15 --rate 10gbit --hosts-per-machine 15 --cores 2";
    let [apart, together] = [json("plan --workers 15 --rate 10gbit --cores 2"), json(one_machine)];
    let [apart, together] = [&apart, &together].map(|plan| row(plan, "sharded"));
    let ratio = number(&together["cores_ms"]) / number(&apart["cores_ms"]);
    assert!((ratio - 15.0).abs() < 1e-6, "{ratio}");
    assert_eq!(together["bound"], "cores");
}

#[test]
fn costs_can_be_measured_on_this_machine() {
    let plan = json("plan --measure --workers 3 --quiet");
    let costs = &plan["costs"];
    for name in ["pack_ns", "tally_ns", "apply_ns", "vote_byte_ns"] {
        assert!(number(&costs[name]) > 0.0, "{name}: {plan}");
    }
    let source = text(&plan["costs_source"]);
    assert!(source.starts_with("measured here") && source.contains("reduce-half-ns"), "{plan}");
}

#[test]
fn settings_come_from_variables_and_files_too() {
    let (_guard, here) = directory();
    std::fs::write(here.join("plan.toml"), "workers = 4\nrate = \"2.5gbit\"\ndim = 1000\n").expect("a file");
    let mut command = signvote(&here, "plan --config plan.toml");
    command
        .env("SIGNVOTE_DIM", "25600000")
        .env("SIGNVOTE_JSON", "yes")
        .env("SIGNVOTE_VOTE_EFFICIENCY", "0.5");
    let plan = Process::spawn(command).ended().succeeded().json();
    assert_eq!((&plan["dim"], &plan["hosts"]), (&25_600_000.into(), &4.into()));
    near(&plan["rate_bit_per_s"], 2.5e9);
    near(&plan["vote_efficiency"], 0.5);
}

/// What netlab writes, in small.
const NETLAB: &str = r#"{"date": "2026-11-26", "machine": {"cpu": "A CPU", "cores": 2, "kernel": "6.1"}, "dim": 25600000,
 "runs": [
  {"hosts": 4, "rate_mbit": 100, "system": "signvote-sharded", "median_ms": 420.0, "p95_ms": 430.0},
  {"hosts": 4, "rate_mbit": 1000, "system": "signvote-central", "median_ms": 90.0},
  {"hosts": 4, "rate_mbit": 1000, "system": "gloo-fp32", "median_ms": 1296.0},
  {"hosts": 4, "rate_mbit": 1000, "system": "gloo-powersgd-4", "median_ms": 150.0}
 ]}"#;

#[test]
fn predictions_are_compared_with_measurements() {
    let (_guard, here) = directory();
    std::fs::write(here.join("netlab.json"), NETLAB).expect("a file");
    let ended = run(&here, "plan --check netlab.json").succeeded();
    let all = ended.out.join("\n");
    assert!(all.contains("measured 2026-11-26 on A CPU, 2 cores, 6.1"), "{all}");
    assert!(all.contains("not predicted: gloo-powersgd-4"), "{all}");
    assert!(
        ended.out.iter().any(|line| line.starts_with("error: median ") && line.contains("of 3 runs")),
        "{all}"
    );
    let checked = run(&here, "plan --check netlab.json --json").succeeded().json();
    let runs = checked["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), 3, "{checked}");
    for run in runs {
        let error = number(&run["predicted_ms"]) / number(&run["measured_ms"]) - 1.0;
        assert!((number(&run["error"]) - error).abs() < 1e-9, "{run}");
        assert!(error.abs() < 0.25, "{run}");
    }
    assert!(number(&checked["median_error"]) <= number(&checked["worst_error"]), "{checked}");
}

#[test]
fn the_papers_quarter_is_explained() {
    let (_guard, here) = directory();
    let ended = run(&here, "plan --check-paper").succeeded();
    let all = ended.out.join("\n");
    for words in ["25% less time", "367 images a second", "the paper's code", "DDP", "NCCL got"] {
        assert!(all.contains(words), "{words:?}: {all}");
    }
    let paper = json("plan --check-paper");
    let saved = number(&paper["cases"][0]["saved"]);
    assert!((0.20..0.30).contains(&saved), "{paper}");
}

#[test]
fn what_cannot_be_planned_is_named() {
    let (_guard, here) = directory();
    std::fs::write(here.join("prose.json"), "no JSON").expect("a file");
    std::fs::write(here.join("none.json"), NETLAB.replace("signvote-", "x-").replace("gloo-", "y-"))
        .expect("a file");
    for (flags, code, words) in [
        ("--compute-ms=-1", 2, &["--compute-ms", "-1"][..]),
        ("--compute-ms nan", 2, &["--compute-ms", "NaN"]),
        ("--backward-share 1.5", 2, &["--backward-share", "1.5"]),
        ("--vote-efficiency 0", 2, &["--vote-efficiency", "0"]),
        ("--dense-efficiency 1.1", 2, &["--dense-efficiency", "1.1"]),
        ("--pack-ns=-1", 2, &["--pack-ns", "-1"]),
        ("--latency-ms inf", 2, &["--latency-ms", "inf"]),
        ("--check nowhere.json", 3, &["--check nowhere.json", "bench/netlab"]),
        ("--check prose.json", 3, &["prose.json", "line 1", "bench/netlab"]),
        ("--check none.json", 3, &["none.json", "gloo-fp32"]),
    ] {
        run(&here, &format!("plan {flags}")).failed_at_once(code, words);
    }
    for (flags, words) in [
        ("--rate 1000", &["--rate", "1000", "100mbit"][..]),
        ("--rate fast", &["--rate", "fast", "1gbit"]),
        ("--workers 0", &["--workers", "0"]),
        ("--dim 0", &["--dim", "0"]),
        ("--model rnn", &["--model", "rnn", "mlp"]),
        ("--model mlp --dim 5", &["--model", "--dim"]),
        ("--topology ring", &["--topology", "ring"]),
        ("--steps 5 --examples 5", &["--steps", "--examples"]),
        ("--check a --check-paper", &["--check"]),
    ] {
        let ended = run(&here, &format!("plan {flags}"));
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        let first = ended.err.first().expect("a line");
        for word in words {
            assert!(first.contains(word), "{word:?} is not in {first:?}");
        }
    }
}
