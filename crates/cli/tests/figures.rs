//! Figures that the documentation gives, measured: they take a while and a quiet machine, and so are left out unless asked
//! for: `cargo test --release -p signvote --test figures -- --ignored --nocapture`
#![cfg(unix)]

mod common;

use std::path::Path;
use std::time::Instant;

use common::{Process, directory, join, serve, text};

/// Rounds that are timed.
const TIMED: u64 = 500;

/// A run of so many workers under way.
fn under_way(here: &Path, count: u64) -> (Process, Vec<Process>) {
    let run = format!("--workers {count} --rounds 1000000 --save-every 0");
    let (mut server, address) = serve(here, &run);
    let workers: Vec<_> = (1..=count).map(|slot| join(here, &address, &format!("--slot {slot}"))).collect();
    server.rounds(100);
    (server, workers)
}

/// Rounds per second from this one on.
fn speed(server: &mut Process, from: u64) -> f64 {
    server.rounds(from);
    let start = Instant::now();
    server.rounds(from + TIMED);
    TIMED as f64 / start.elapsed().as_secs_f64()
}

/// Rounds per second of a run of six.
fn of_six() -> f64 {
    let (_guard, here) = directory();
    let (mut server, _workers) = under_way(&here, 6);
    speed(&mut server, 120)
}

/// Rounds per second of a run of seven of which one is stopped, and what that costs once, in seconds.
fn of_seven_with_one_stopped() -> (f64, f64) {
    let (_guard, here) = directory();
    let (mut server, workers) = under_way(&here, 7);
    let start = Instant::now();
    common::signal("STOP", workers[3].pid());
    let closed = server.event_where("committed", |event| text(&event["reason"]).contains("deadline"));
    let cost = start.elapsed().as_secs_f64();
    let round = closed["round"].as_u64().expect("a round");
    let speed = speed(&mut server, round + 20);
    let deadlines = server.seen("committed", |event| text(&event["reason"]).contains("deadline"));
    assert_eq!(deadlines, 1, "it was waited for again");
    (speed, cost)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[ignore = "a figure: see the top of the file"]
#[test]
fn a_stopped_worker_of_seven_leaves_the_others_as_fast_as_six_are() {
    let (mut six, mut seven, mut costs) = (vec![], vec![], vec![]);
    for _ in 0..5 {
        six.push(of_six());
        let (speed, cost) = of_seven_with_one_stopped();
        seven.push(speed);
        costs.push(cost);
    }
    println!(
        "six workers: {six:.1?} rounds/s; seven, one stopped: {seven:.1?}; the stop itself: {costs:.2?} s"
    );
    let ratio = median(seven) / median(six);
    println!("ratio of the medians {ratio:.3}; the stop cost {:.2} s", median(costs));
    assert!(ratio >= 0.95, "{ratio}");
}
