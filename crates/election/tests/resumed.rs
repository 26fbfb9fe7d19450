//! Servers that go on where earlier ones stopped.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod harness;

use std::sync::Arc;
use std::time::Duration;

use harness::by_hand::{self, Hello, kind};
use harness::{after, config, greeting, layout, milliseconds, parameters};
use signvote_election::{
    Config, Event, Incarnation, Origin, Output, PeerId, Position, Record, Round, Saved, Server, Step, Voter,
};

const DIMENSION: usize = 130;
const ROUNDS: u64 = 3;
const NOW: Duration = Duration::ZERO;

/// Everything that a server wanted done.
fn outputs(server: &mut Server) -> Vec<Output> {
    std::iter::from_fn(|| server.poll()).collect()
}

/// What one connection was sent.
fn sent(outputs: &[Output], to: u64) -> Vec<u8> {
    let of_peer = |output: &Output| match output {
        Output::Send { peer, frame } if *peer == PeerId(to) => Some(by_hand::kind_of(frame)),
        _ => None,
    };
    outputs.iter().filter_map(of_peer).collect()
}

/// A run of two workers, as its log has it after so many rounds.
fn saved(config: &Config, rounds: u64) -> Saved {
    let mut server = Server::new(config.clone()).unwrap();
    let mut voters: Vec<_> = (1..=2).map(|slot| Voter::new(greeting(DIMENSION, Some(slot)))).collect();
    let mut records: Vec<Arc<Record>> = Vec::new();
    (1..=2).for_each(|peer| server.connected(NOW, PeerId(peer), Origin::default()));
    while server.round().0 < rounds {
        for (voter, peer) in voters.iter_mut().zip(1..) {
            if voter.wants_parameters() {
                voter.provide(parameters(DIMENSION, 7)).unwrap();
            }
            while let Some(step) = voter.poll_step() {
                if let Step::Open { .. } = step {
                    voter.submit_signs(0, &[peer; 3], &[0; 3]).unwrap();
                }
            }
            while let Some(frame) = voter.poll_transmit() {
                server.handle(NOW, PeerId(peer), &frame);
            }
        }
        for output in outputs(&mut server) {
            match output {
                Output::Send { peer, frame } => voters[peer.0 as usize - 1].handle(&frame).unwrap(),
                Output::Record(record) => records.push(record),
                _ => {}
            }
        }
    }
    Saved {
        charter: server.charter().unwrap(),
        x: server.model().unwrap().1.to_vec(),
        position: server.position(),
        records: records.iter().map(|record| (**record).clone()).collect(),
        members: Vec::new(),
    }
}

/// A worker comes back with a replica that stands there.
fn come_back(server: &mut Server, peer: u64, slot: u16, position: Position) -> Vec<u8> {
    server.connected(NOW, PeerId(peer), Origin::default());
    let position = Some((position.round.0, position.incarnation.0, position.chain.0));
    let hello = Hello { slot, position, ..Hello::of(&layout(DIMENSION)) };
    server.handle(NOW, PeerId(peer), &hello.frame());
    sent(&outputs(server), peer)
}

#[test]
fn a_run_that_was_over_waits_for_those_who_may_not_know_and_tells_them() {
    let config = config(2, ROUNDS);
    let saved = saved(&config, ROUNDS);
    let (end, before) = (saved.position, saved.records[2].before);
    let mut server = Server::resume(NOW, config, saved).unwrap();
    assert!(!outputs(&mut server).contains(&Output::Done), "nobody has been told yet");
    // One has the last commit, the other has not.
    assert_eq!(come_back(&mut server, 1, 1, end), [kind::WELCOME, kind::FINISH]);
    let verdicts = [kind::VERDICT; 3];
    let missed = [&[kind::WELCOME][..], &verdicts, &[kind::COMMIT, kind::FINISH]].concat();
    assert_eq!(come_back(&mut server, 2, 2, before), missed);
    let digest = by_hand::digest(server.model().unwrap().1);
    for peer in [1, 2] {
        server.handle(NOW, PeerId(peer), &by_hand::digest_frame(ROUNDS, digest));
        server.handle(NOW, PeerId(peer), &by_hand::text(kind::BYE, "the run is over"));
    }
    let last = outputs(&mut server);
    let finished = last.iter().find_map(|output| match output {
        Output::Event(Event::Finished { replicas_identical, replicas, .. }) => {
            Some((*replicas_identical, *replicas))
        }
        _ => None,
    });
    assert_eq!((finished, last.last()), (Some((true, 2)), Some(&Output::Done)));
}

#[test]
fn nobody_is_waited_for_longer_than_the_grace_or_when_told_to_stop() {
    for stop in [false, true] {
        let config = config(2, ROUNDS);
        let grace = config.return_grace;
        let mut server = Server::resume(NOW, config.clone(), saved(&config, ROUNDS)).unwrap();
        outputs(&mut server);
        if stop {
            server.pause(milliseconds(1), "told to", milliseconds(1_000));
        } else {
            assert_eq!(server.next_timeout(), Some(grace));
            server.handle_timeout(grace);
        }
        assert_eq!(outputs(&mut server).last(), Some(&Output::Done));
    }
}

#[test]
fn strangers_learn_nothing_of_a_run_that_is_over() {
    let config = config(2, ROUNDS);
    let saved = saved(&config, ROUNDS);
    let forged = Position { chain: signvote_election::ChainHash([9; 32]), ..saved.position };
    let mut server = Server::resume(NOW, config, saved).unwrap();
    outputs(&mut server);
    assert_eq!(come_back(&mut server, 1, 1, forged), [kind::REFUSED]);
    server.connected(NOW, PeerId(2), Origin::default());
    server.handle(NOW, PeerId(2), &Hello::of(&layout(DIMENSION)).frame());
    assert_eq!(sent(&outputs(&mut server), 2), [kind::REFUSED]);
}

#[test]
fn an_open_round_waits_for_those_who_voted_in_the_last_one_but_not_for_ever() {
    let config = config(2, ROUNDS);
    // A deadline that would have passed before anyone can be back.
    let mut config = Config { quorum: 1, deadline: after(1), ..config };
    config.terms.digest_every = 0;
    let saved = saved(&config, 2);
    let (here, grace) = (saved.position, config.return_grace);
    let mut server = Server::resume(NOW, config, saved).unwrap();
    assert_eq!(come_back(&mut server, 1, 1, here), [kind::WELCOME, kind::OPEN]);
    for chunk in 0..3 {
        let ballot = by_hand::planes(kind::BALLOT, 2, chunk, &[u64::from(chunk != 2)], &[0]);
        server.handle(NOW, PeerId(1), &ballot);
    }
    assert_eq!(server.round(), Round(2), "the other one may come");
    assert_eq!(server.next_timeout(), Some(grace));
    server.handle_timeout(grace);
    assert_eq!(server.round(), Round(3));
}

#[test]
fn in_a_later_incarnation_the_history_goes_on_and_who_is_ahead_takes_the_state() {
    let config = config(2, ROUNDS);
    let ahead = saved(&config, 2).position;
    let mut saved = saved(&config, 1);
    saved.position.incarnation = Incarnation(1);
    let here = saved.position;
    let mut server = Server::resume(NOW, config, saved).unwrap();
    assert_eq!(come_back(&mut server, 1, 1, here), [kind::WELCOME, kind::OPEN]);
    let taken = come_back(&mut server, 2, 2, ahead);
    assert_eq!(taken, [kind::WELCOME, kind::STATE, kind::VALUES, kind::VALUES, kind::VALUES, kind::OPEN]);
}
