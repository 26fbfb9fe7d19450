//! `signvote simulate` and `signvote reproduce`: what they write, what they go on with, and what they refuse.

mod common;

use std::path::Path;

use common::{directory, names, run};

const QUICK: &str =
    "--problem quadratic-200 --workers 5 --batch 1 --rounds 30 --eta 0.05 --schedule constant";

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_run_is_repeated_to_the_last_digit_on_any_number_of_threads() {
    let (_guard, here) = directory();
    let with = |more: &str| -> serde_json::Value {
        let ended =
            run(&here, &format!("simulate {QUICK} --json --liars 2 --lie low-margin {more}")).succeeded();
        serde_json::from_str(&ended.out.join("\n")).expect("a list of runs")
    };
    let one = with("--threads 1");
    assert_eq!(one, with("--threads 3"));
    assert_ne!(one, with("--seed 2"));
    let run = &one[0];
    assert_eq!((&run["rounds"], &run["dimension"]), (&30.into(), &200.into()));
    // 200 coordinates are four words, and a frame's head, round and chunk are as much again.
    let bits = run["bits_up"].as_u64().expect("a number");
    assert!((200..1000).contains(&bits), "{bits}");
    assert_eq!(run["setup"]["lie"], "low-margin");
    let curve = run["curve"].as_array().expect("a curve");
    assert_eq!(curve[0]["loss"], 100.0, "half the square of 200 ones");
    assert!(names(&here).is_empty(), "a single run writes no files");
}

const GRID: &str = r#"
problem = "quadratic-200"
workers = 5
batch = 1
rounds = 30
eta = 0.05
schedule = "constant"
[[grid]]
method = ["vote", "vote-camps"]
liars = [0, 2]
[[grid]]
method = "median"
told = 2
liars = [0, 2]
lie = ["sign-flip", "alie"]
"#;

#[test]
fn a_grid_that_was_interrupted_goes_on() {
    let (_guard, here) = directory();
    std::fs::write(here.join("grid.toml"), GRID).unwrap();
    let all = run(&here, "simulate --grid grid.toml --quiet").succeeded();
    assert_eq!(all.out.len(), 7, "{all:?}");
    let results = here.join("grid");
    assert_eq!(names(&results), ["curves.csv", "runs.csv", "runs.json", "runs.jsonl"]);
    let (rows, curves) = (read(&results.join("runs.csv")), read(&results.join("curves.csv")));
    assert_eq!(rows.lines().count(), 8);
    assert!(rows.starts_with("run,batch,data,epochs,eta,"), "{rows}");
    assert!(rows.contains(",0.9,"), "numbers are written as they were read: {rows}");
    assert!(
        rows.lines().all(|row| row.split(',').count() == rows.lines().next().unwrap().split(',').count())
    );
    // As if it had been killed in the middle of its fourth run's line.
    let log = read(&results.join("runs.jsonl"));
    let lines: Vec<&str> = log.lines().filter(|line| !line.is_empty()).collect();
    let cut = format!("{}\n{}", lines[..3].join("\n"), &lines[3][..40]);
    std::fs::write(results.join("runs.jsonl"), cut).unwrap();
    let again = run(&here, "simulate --grid grid.toml").succeeded();
    let made = again.err.iter().filter(|line| line.contains("rounds/s")).count();
    assert_eq!(made, 4, "{again:?}");
    assert_eq!((read(&results.join("runs.csv")), read(&results.join("curves.csv"))), (rows, curves));
}

#[test]
fn what_cannot_be_is_refused_before_it_starts() {
    let (_guard, here) = directory();
    std::fs::write(here.join("grid.toml"), "wokers = 7").unwrap();
    for (line, code, parts) in [
        ("simulate --lie sign-flop", 2, ["sign-flop", "sign-flip, random-sign"]),
        ("simulate --method krumm", 2, ["krumm", "multi-krum"]),
        (
            "simulate --method krum --liars 3",
            2,
            ["krum stands at most 2 (2f + 2 < n) liars of 7 workers", "told of 3"],
        ),
        ("simulate --liars 7", 2, ["fewer than the 7 workers", "got 7"]),
        ("simulate --before nnm", 2, ["a rule that aggregates gradients", "vote"]),
        ("simulate --partition dirichlet-x", 2, ["dirichlet-0.3", "dirichlet-x"]),
        (
            "simulate --problem mlp-65535-65535 --workers 10000",
            2,
            ["of 10000 workers of 4347002095", "are free"],
        ),
        ("simulate --grid nowhere.toml", 2, ["cannot read --grid nowhere.toml", ""]),
        ("simulate --grid grid.toml", 2, ["grid.toml", "wokers"]),
        ("simulate --problem quadratic", 2, ["rounds", "at least 1"]),
        ("simulate --data fashion-mnist --data-dir nowhere", 3, ["nowhere", "apt-get install"]),
        ("reproduce fig7", 2, ["fig7", "theorem1"]),
        ("reproduce fig1 --out grid.toml", 8, ["grid.toml", "--out"]),
    ] {
        let ended = run(&here, line);
        assert_eq!(ended.code, Some(code), "{ended:?}");
        let said = ended.err.join("\n");
        for part in parts {
            assert!(said.contains(part), "{line}: {part:?} is not in {said}");
        }
    }
}

#[test]
fn a_report_has_its_page_its_twin_its_plots_and_its_checks() {
    let (_guard, here) = directory();
    let ended = run(&here, "reproduce fig1 theorem1 protocol --quick --quiet --out report").succeeded();
    let held = ended.out.iter().filter(|line| line.starts_with("holds")).count();
    assert_eq!(held, 11, "{ended:?}");
    let written = names(&here.join("report"));
    assert!(!written.contains(&"runs.jsonl".to_owned()), "nothing is left to go on with: {written:?}");
    for name in
        ["runs.csv", "checks.json", "fig1-adversaries.svg", "report.html", "report.md", "theorem1-bound.svg"]
    {
        assert!(written.iter().any(|written| written == name), "{name} is not in {written:?}");
    }
    let checks: serde_json::Value = serde_json::from_str(&read(&here.join("report/checks.json"))).unwrap();
    let checks = checks.as_array().expect("a list");
    assert!(checks.iter().all(|check| check["passed"] == true && check["section"].is_string()), "{checks:?}");
    let page = read(&here.join("report/report.html"));
    assert!(page.contains("signvote reproduce fig1 theorem1 protocol --out report --quick"));
    assert!(!page.contains("http://") || !page.contains("src=\"http"), "nothing is loaded from elsewhere");
}

#[test]
fn a_report_that_was_interrupted_goes_on() {
    let (_guard, here) = directory();
    run(&here, "reproduce fig1 --quick --quiet --out report").succeeded();
    let log = here.join("report/runs.jsonl");
    let made: Vec<serde_json::Value> = serde_json::from_str(&read(&here.join("report/runs.json"))).unwrap();
    let (rows, kept) = (read(&here.join("report/runs.csv")), 2);
    let lines: String = made[..kept].iter().map(|outcome| format!("{outcome}\n")).collect();
    std::fs::write(&log, lines).unwrap();
    let again = run(&here, "reproduce fig1 --quick --out report").succeeded();
    assert!(again.err.iter().any(|line| line.contains("where 2 runs have been made")), "{again:?}");
    assert_eq!(read(&here.join("report/runs.csv")), rows);
    assert!(!log.exists());
}
