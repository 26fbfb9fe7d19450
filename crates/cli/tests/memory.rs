//! What a central server takes of memory: a bound by d and M, and nothing more for more rounds.
#![cfg(target_os = "linux")]

mod common;

use std::thread;
use std::time::Duration;

use common::{Process, directory};

const WORKERS: u64 = 4;

/// The most memory, in bytes, that a server has had by the end of a run with so many coordinates and rounds.
fn peak(dimension: u64, rounds: u32) -> u64 {
    let (_guard, here) = directory();
    let bench = format!("bench exchange --dim {dimension} --json");
    let listen = format!("{bench} --role server --listen 127.0.0.1:0 --workers {WORKERS} --rounds {rounds}");
    let mut server = Process::start(&here, &listen);
    let line = server.says("listens at ");
    let address = line.split_whitespace().nth(2).expect("an address").to_owned();
    let status = format!("/proc/{}/status", server.pid());
    let watched = thread::spawn(move || {
        let mut peak = 0;
        // A process that has ended has a status still, without this line.
        while let Some(bytes) = high_water_mark(&status) {
            peak = bytes;
            thread::sleep(Duration::from_millis(2));
        }
        peak
    });
    let join = |_| Process::start(&here, &format!("{bench} --role worker --connect {address}"));
    let workers: Vec<_> = (0..WORKERS).map(join).collect();
    for worker in workers {
        worker.ended().succeeded();
    }
    server.ended().succeeded();
    watched.join().expect("a number")
}

fn high_water_mark(status: &str) -> Option<u64> {
    let status = std::fs::read_to_string(status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[test]
fn a_server_has_room_for_x_a_plane_a_ballot_and_little_else() {
    let d = 10_000_000;
    let plane = d / 8;
    // x, and what ballots become in a tally of all at once; the one verdict that this server keeps in its ring.
    let counters = u64::from((WORKERS + 1).next_power_of_two().ilog2());
    let bound = 4 * d + (WORKERS + 2 * counters + 4) * plane + plane;
    // The program itself.
    let bare = peak(64, 20);
    let taken = peak(d, 20).saturating_sub(bare);
    assert!(taken > 4 * d, "{taken} bytes, and x alone has {}", 4 * d);
    assert!(taken <= bound, "{taken} bytes where {bound} are enough ({bare} without a model)");
}

#[test]
fn a_thousand_rounds_more_take_no_more_memory() {
    let (few, many) = (peak(400_000, 100), peak(400_000, 1_100));
    // What an allocator gives back, and when, differs from run to run. The verdicts alone have fifty times as much.
    assert!(many <= few + (1 << 20), "{many} bytes in 1,100 rounds, {few} in 100");
}
