//! Whatever strangers and a worker that lies say, in whatever order: the election's invariants hold (the harness of its
//! tests checks them at every step), and its two honest workers come to the end with the server's parameters.

#![no_main]

mod bytes;
#[path = "../../crates/election/tests/harness/mod.rs"]
mod harness;

use bytes::{take_byte, take_words};
use harness::by_hand::{self, Hello, kind};
use harness::{Setup, Sim, after, config, dense_source, layout, milliseconds, parameters};
use libfuzzer_sys::fuzz_target;
use signvote_election::PeerId;

const DIMENSION: usize = 200;
const ROUNDS: u64 = 3;

/// A frame that may be sound.
fn frame(sim: &Sim, rest: &mut &[u8]) -> Vec<u8> {
    let round = sim.server.round().0.wrapping_add_signed(i64::from(take_byte(rest) as i8 / 64));
    let chunk = take_byte(rest) as u32 % 5;
    let x = parameters(DIMENSION, 7);
    match take_byte(rest) % 13 {
        0 => Hello { slot: take_byte(rest) as u16 % 5, ..Hello::of(&layout(DIMENSION)) }.frame(),
        1 => {
            let chain = sim.server.position().chain.0;
            let position = Some((round, u32::from(take_byte(rest) == 0), chain));
            Hello { slot: 3, position, ..Hello::of(&layout(DIMENSION)) }.frame()
        }
        2 => by_hand::ready(by_hand::digest(&x)),
        3 => by_hand::init(&layout(DIMENSION), &[("model", "mlp")]),
        4 => by_hand::values(chunk, &x[..(take_byte(rest) % 65)]),
        5 => by_hand::report(round, f32::from_bits(take_words(rest, 1)[0] as u32), 1, 2, chunk.into()),
        6 => by_hand::digest_frame(round, [take_byte(rest) as u8; 32]),
        7 => by_hand::seal(round, [take_byte(rest) as u8; 64]),
        8 => by_hand::text(kind::BYE, "enough"),
        9 => by_hand::ask((take_byte(rest) as u16, 0)),
        10 => {
            let (kind, length) = (take_byte(rest) as u8, take_byte(rest).min(rest.len()));
            let (payload, later) = rest.split_at(length);
            *rest = later;
            by_hand::frame(kind, &[payload])
        }
        _ => {
            let words = take_words(rest, 2);
            let tail = if chunk == 3 { 0xff } else { u64::MAX };
            let (signs, abstain) = match take_byte(rest) % 3 {
                0 => (words[0], words[1]),
                1 => (words[0] & tail, 0),
                _ => (words[0] & !words[1] & tail, words[1] & tail),
            };
            by_hand::planes(kind::BALLOT, round, chunk, &[signs], &[abstain])
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let mut config = config(3, ROUNDS);
    (config.quorum, config.deadline) = (2, after(50));
    config.ring_bytes = take_byte(&mut rest) * 8;
    config.joining_timeout = milliseconds(200);
    let seed = take_byte(&mut rest) as u64;
    let setup = Setup::new(config, DIMENSION, dense_source(DIMENSION, seed)).network_seed(seed);
    let mut sim = Sim::new(setup);
    let strangers_first = take_byte(&mut rest).is_multiple_of(4);
    if !strangers_first {
        sim.join(Some(1));
        sim.join(Some(2));
        sim.settle();
    }
    let mut peers: Vec<PeerId> = Vec::new();
    while !rest.is_empty() && !sim.done {
        let op = take_byte(&mut rest);
        let peer = peers.get(op / 16 % peers.len().max(1)).copied().filter(|&peer| sim.is_open(peer));
        match (op % 16, peer) {
            (0, _) if peers.len() < 8 => peers.push(sim.raw()),
            (1..12, Some(peer)) => {
                let frame = frame(&sim, &mut rest);
                sim.say(peer, &frame);
                sim.heard(peer);
            }
            (12, Some(peer)) => sim.server.congested(peer),
            (13, _) => sim.advance(sim.now + milliseconds(60)),
            _ => drop(sim.step()),
        }
    }
    if sim.done {
        return;
    }
    for peer in peers {
        if sim.is_open(peer) && !sim.done {
            sim.say(peer, &by_hand::text(kind::BYE, "enough"));
        }
    }
    if strangers_first {
        sim.join(Some(1));
        sim.join(Some(2));
    }
    if !sim.started() {
        sim.join(Some(3));
    }
    while sim.step() {}
    assert!(sim.done, "the run stands still at round {}", sim.server.round());
    assert_eq!(sim.server.round().0, ROUNDS);
    for worker in &sim.workers {
        assert_eq!(by_hand::digest(worker.voter.parameters()), by_hand::digest(sim.x()));
    }
});
