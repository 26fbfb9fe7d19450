//! Real processes that are killed and stopped at random, on a network that breaks: the run comes to its end, and
//! as good as if nothing had happened.
//!
//! `SIGNVOTE_KILLS` says how many kills; `SIGNVOTE_SEED` repeats the choices (not the timing).
#![cfg(unix)]

mod common;

use std::path::Path;
use std::time::Duration;

use common::proxy::{Proxy, Weather};
use common::random::Random;
use common::{Process, directory, number, run, serve};

const WORKERS: u64 = 7;

fn worker(here: &Path, address: &str, slot: u64) -> Process {
    let checkpoint = format!("--checkpoint {slot}.checkpoint --checkpoint-every 5");
    common::join(here, address, &format!("--slot {slot} {checkpoint}"))
}

/// Rules of a run of so many rounds: most of it at a high η, as in the README.
fn rules(rounds: u64) -> String {
    format!("--workers {WORKERS} --rounds {rounds} --save-every 100 --durable always --record-ballots")
}

fn accuracy(here: &Path) -> f64 {
    let result = run(here, "eval run --json").succeeded().json();
    100.0 * number(&result["test_accuracy"])
}

/// The accuracy of a run of so many rounds that nothing disturbs.
fn undisturbed(here: &Path, rounds: u64) -> f64 {
    let (server, address) = serve(here, &rules(rounds));
    let workers: Vec<_> =
        (1..=WORKERS).map(|slot| common::join(here, &address, &format!("--slot {slot}"))).collect();
    workers.into_iter().for_each(|worker| drop(worker.ended().succeeded()));
    drop(server.ended().succeeded());
    let accuracy = accuracy(here);
    std::fs::remove_dir_all(here.join("run")).expect("ours");
    accuracy
}

/// The run has come to its end: with all replicas the same, and a log that proves every round.
fn comes_to_its_end(here: &Path, server: Process, workers: Vec<Process>, rounds: u64) {
    workers.into_iter().for_each(|worker| drop(worker.ended().succeeded()));
    let ended = server.ended().succeeded();
    let finished = ended.event("finished");
    assert_eq!((&finished["round"], &finished["replicas"]), (&rounds.into(), &WORKERS.into()), "{finished}");
    assert_eq!(finished["replicas_identical"], true, "{finished}");
    let found = run(here, "audit run --json").succeeded().json();
    assert_eq!((&found["holds"], &found["rounds"]), (&true.into(), &rounds.into()), "{found}");
    assert_eq!((&found["digest"], &found["gaps"]), (&finished["digest"], &serde_json::json!([])), "{found}");
}

#[test]
fn a_training_survives_kills_at_random_instants() {
    let kills: u64 = std::env::var("SIGNVOTE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let rounds = 440.max(kills * 15);
    let (_guard, here) = directory();
    let mut random = Random::seeded();
    let undisturbed = undisturbed(&here, rounds);

    let (mut server, address) = serve(&here, &rules(rounds));
    let mut workers: Vec<_> = (1..=WORKERS).map(|slot| worker(&here, &address, slot)).collect();
    let mut of_server = 0;
    for kill in 0..kills {
        // One in every equal part of the run but its end, at any instant of a round.
        let part = rounds * 2 / 3 / kills;
        server.rounds(1 + kill * part + random.below(part));
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
        let away = Duration::from_millis(random.below(150));
        match random.below(WORKERS + 3) {
            victim @ 0..WORKERS => {
                workers[victim as usize].kill();
                std::thread::sleep(away);
                workers[victim as usize] = worker(&here, &address, victim + 1);
            }
            _ => {
                of_server += 1;
                server.kill();
                std::thread::sleep(away);
                let line = format!("server --listen {address} --resume run --print-events --quiet");
                server = Process::start(&here, &line);
                let resumed = server.event("resumed");
                assert_eq!(resumed["incarnation"], 0, "nothing is lost under --durable always: {resumed}");
            }
        }
    }
    comes_to_its_end(&here, server, workers, rounds);
    let disturbed = accuracy(&here);
    println!(
        "chaos: {kills} kills ({of_server} of the server) in {rounds} rounds: test accuracy {disturbed:.2}%, undisturbed {undisturbed:.2}%"
    );
    assert!(disturbed >= undisturbed - 1.0, "{disturbed}% after {kills} kills, {undisturbed}% without");
}

#[test]
fn a_training_survives_a_network_that_delays_and_breaks() {
    const ROUNDS: u64 = 150;
    let (_guard, here) = directory();
    let mut random = Random::seeded();
    let (mut server, address) = serve(&here, &rules(ROUNDS));
    // A ballot is 25 kB: a connection lives for some 20 rounds.
    let weather = Weather { delay: Duration::from_millis(4), bytes_to_live: 1 << 20 };
    let proxy = Proxy::start(&address, weather, random.next());
    let workers: Vec<_> = (1..=WORKERS).map(|slot| worker(&here, &proxy.address, slot)).collect();
    // Some of them hang for a while as well.
    for round in [30, 60, 90] {
        server.rounds(round);
        let hung = &workers[random.below(WORKERS) as usize];
        common::signal("STOP", hung.pid());
        std::thread::sleep(Duration::from_millis(random.below(800)));
        common::signal("CONT", hung.pid());
    }
    server.rounds(ROUNDS - 20);
    // Nobody is to be away when the end comes.
    proxy.clear_up();
    comes_to_its_end(&here, server, workers, ROUNDS);
    println!("chaos: {} connections broken in {ROUNDS} rounds", proxy.cuts());
    assert!(proxy.cuts() >= 10, "the network was bad: {} cuts", proxy.cuts());
}
