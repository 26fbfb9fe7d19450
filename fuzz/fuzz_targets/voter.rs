//! Whatever a server says to a worker: it refuses, or goes on, and never breaks. What it was told in order stands.

#![no_main]

mod bytes;
#[path = "../../crates/election/tests/harness/mod.rs"]
mod harness;

use bytes::take_byte;
use harness::by_hand::{self, kind};
use harness::conversation::{act, heard_by_a_worker};
use harness::{config, greeting};
use libfuzzer_sys::fuzz_target;
use signvote_election::Voter;
use std::sync::OnceLock;

const DIMENSION: usize = 200;

/// All that a worker of a whole run was told.
fn conversation() -> &'static [Vec<u8>] {
    static HEARD: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    HEARD.get_or_init(|| heard_by_a_worker(config(2, 4), DIMENSION))
}

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let mut voter = Voter::new(greeting(DIMENSION, Some(2)));
    let mut script = conversation().iter();
    while !rest.is_empty() {
        let before = voter.position();
        let frame = match take_byte(&mut rest) % 8 {
            0..4 => script.next().cloned(),
            4 => {
                // One that came before, or will come.
                let all = conversation();
                Some(all[take_byte(&mut rest) % all.len()].clone())
            }
            5 => script.next().cloned().map(|mut frame| {
                let at = 4 + take_byte(&mut rest) % (frame.len() - 4);
                frame[at] ^= take_byte(&mut rest) as u8;
                frame
            }),
            6 => {
                let (kind, length) = (take_byte(&mut rest) as u8, take_byte(&mut rest).min(rest.len()));
                let (payload, later) = rest.split_at(length);
                rest = later;
                Some(by_hand::frame(kind, &[payload]))
            }
            _ => {
                voter.reconnect();
                script = conversation().iter();
                None
            }
        };
        let Some(frame) = frame else { continue };
        let heard = voter.handle(&frame);
        if heard.is_err() && ![kind::COMMIT, kind::STATE, kind::VALUES].contains(&by_hand::kind_of(&frame)) {
            assert_eq!(voter.position(), before, "a frame that was refused moved the replica");
        }
        act(&mut voter, DIMENSION);
        while voter.poll_transmit().is_some() {}
    }
});
