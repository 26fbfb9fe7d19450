//! Who breaks a rule of voting is put out, the rule is named, and the vote does not count.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod harness;

use std::rc::Rc;

use harness::by_hand::{self, Hello, kind};
use harness::{Ask, Setup, Sim, Source, after, config, layout, mean_config, random_source};
use signvote_election::{AggregateKind, Config, Error, Event, PeerId, Voter};

const DIMENSION: usize = 200;

/// A run whose third place is held by a connection driven by hand, with round 1 open.
fn with_a_stranger(config: Config) -> (Sim, PeerId) {
    let mut sim = Sim::new(Setup::new(config, DIMENSION, random_source(DIMENSION, 31)));
    sim.join(Some(1));
    sim.join(Some(2));
    sim.settle();
    let peer = sim.raw();
    sim.say(peer, &Hello { slot: 3, ..Hello::of(&layout(DIMENSION)) }.frame());
    sim.say(peer, &by_hand::ready([0; 32]));
    vote(&mut sim, peer, 0);
    sim.run_to_round(1);
    (sim, peer)
}

/// Casts a sound ballot, or a sound gradient.
fn vote(sim: &mut Sim, peer: PeerId, round: u64) {
    for (chunk, length) in [64_usize, 64, 64, 8].into_iter().enumerate() {
        let frame = match sim.workers[0].voter.terms().unwrap().aggregate {
            AggregateKind::Mean => by_hand::dense(kind::GRADIENT, round, chunk as u32, &vec![0.5; length]),
            AggregateKind::Vote => ballot(round, chunk as u32),
        };
        sim.say(peer, &frame);
    }
}

fn ballot(round: u64, chunk: u32) -> Vec<u8> {
    by_hand::planes(kind::BALLOT, round, chunk, &[0], &[0])
}

/// Says this in round 1, and expects to be put out over `rule`; the others go on without it.
fn breaks(config: Config, frame: &[u8], rule: &str) {
    let (mut sim, peer) = with_a_stranger(config);
    let rounds = sim.record(3).rounds;
    sim.say(peer, frame);
    let reason = sim.refusal(peer);
    assert!(reason.contains(rule), "{reason:?} does not name {rule:?}");
    let told = |event: &Event| matches!(event, Event::Left { slot, reason: told, .. } if slot.number() == 3 && *told == reason);
    assert!(sim.events.iter().any(told), "the event says the same");
    // What it says after that is not heard: were a vote of it counted, the harness would find a wrong verdict.
    vote(&mut sim, peer, 1);
    sim.run();
    sim.assert_identical_replicas(2);
    assert_eq!(sim.record(3).rounds, rounds);
}

#[test]
fn nobody_votes_before_it_has_joined() {
    let frames = [
        ballot(0, 0),
        by_hand::dense(kind::GRADIENT, 0, 0, &[0.0; 64]),
        by_hand::report(0, 1.0, 1, 1, 0),
        by_hand::digest_frame(0, [0; 32]),
    ];
    for frame in &frames {
        for greeted in [false, true] {
            let mut sim = Sim::new(Setup::new(config(3, 4), DIMENSION, random_source(DIMENSION, 32)));
            sim.join(Some(1));
            sim.settle();
            let peer = sim.raw();
            if greeted {
                sim.say(peer, &Hello::of(&layout(DIMENSION)).frame());
            }
            sim.say(peer, frame);
            assert_eq!(sim.refusal(peer), "broke the rule \"join before voting\": it has not joined yet");
        }
    }
}

#[test]
fn nobody_votes_in_a_round_that_is_not_open() {
    breaks(config(3, 4), &ballot(2, 0), "vote in the open round");
    breaks(config(3, 4), &ballot(u64::MAX, 0), "vote in the open round");
    breaks(config(3, 4), &by_hand::report(2, 1.0, 1, 1, 0), "vote in the open round");
    // Before the first round none is.
    let mut sim = Sim::new(Setup::new(config(3, 4), DIMENSION, random_source(DIMENSION, 32)));
    sim.join(Some(1));
    sim.settle();
    let peer = sim.raw();
    sim.say(peer, &Hello::of(&layout(DIMENSION)).frame());
    sim.say(peer, &by_hand::ready([0; 32]));
    sim.say(peer, &ballot(0, 0));
    assert!(sim.refusal(peer).contains("vote in the open round"));
}

#[test]
fn a_ballot_for_an_earlier_round_is_late_and_no_fault() {
    let (mut sim, peer) = with_a_stranger(config(3, 4));
    sim.say(peer, &ballot(0, 0));
    sim.say(peer, &by_hand::report(0, 1.0, 1, 1, 0));
    assert!(sim.is_open(peer));
    assert_eq!(sim.record(3).late_chunks, 1);
}

#[test]
fn nobody_votes_twice_on_a_chunk() {
    for (config, frame) in
        [(config(3, 4), ballot(1, 2)), (mean_config(3, 4), by_hand::dense(kind::GRADIENT, 1, 2, &[0.0; 64]))]
    {
        let (mut sim, peer) = with_a_stranger(config);
        sim.say(peer, &frame);
        assert!(sim.is_open(peer));
        sim.say(peer, &frame);
        let reason = sim.refusal(peer);
        assert_eq!(reason, "broke the rule \"vote once on a chunk\": worker 3, round 1, chunk 2");
        // Its first vote stands.
        sim.run_to_round(2);
        assert_eq!(sim.record(3).rounds, 2);
        sim.run();
        sim.assert_identical_replicas(2);
    }
}

#[test]
fn nobody_votes_twice_on_a_chunk_that_is_decided() {
    let mut config = config(3, 4);
    (config.quorum, config.deadline) = (2, after(40));
    let (mut sim, peer) = with_a_stranger(config);
    sim.say(peer, &ballot(1, 0));
    sim.run_until(|sim| sim.oracle.decided(1) > 0);
    assert_eq!(sim.server.round().0, 1);
    sim.say(peer, &ballot(1, 0));
    assert!(sim.refusal(peer).contains("vote once on a chunk"));
}

#[test]
fn a_report_comes_once_a_round() {
    let (mut sim, peer) = with_a_stranger(config(3, 4));
    let report = by_hand::report(1, 0.1, 1, 2, 3);
    sim.say(peer, &report);
    assert!(matches!(
        sim.events.last(),
        Some(Event::NonFinite { slot, coordinates: 3, .. }) if slot.number() == 3
    ));
    sim.say(peer, &report);
    assert!(sim.refusal(peer).contains("report once a round"));
}

#[test]
fn chunks_exist_and_have_their_length() {
    let too_many = by_hand::planes(kind::BALLOT, 1, 4, &[0], &[0]);
    breaks(config(3, 4), &too_many, "chunk 4 of 4");
    breaks(config(3, 4), &ballot(1, u32::MAX), "vote on chunks that exist");
    let long = by_hand::planes(kind::BALLOT, 1, 0, &[0; 2], &[0; 2]);
    breaks(config(3, 4), &long, "malformed frame");
    let short = by_hand::planes(kind::BALLOT, 1, 0, &[], &[]);
    breaks(config(3, 4), &short, "malformed frame");
    for length in [0, 63, 65] {
        let gradient = by_hand::dense(kind::GRADIENT, 1, 0, &vec![0.0; length]);
        breaks(mean_config(3, 4), &gradient, "malformed floats: expected 256 bytes");
    }
}

#[test]
fn ballots_are_in_their_one_form() {
    let canonical = "malformed planes: expected canonical form";
    // The last chunk has 8 coordinates; the bits behind them are nobody's.
    breaks(config(3, 4), &by_hand::planes(kind::BALLOT, 1, 3, &[1 << 8], &[0]), canonical);
    let dirty_abstentions = by_hand::frame(
        kind::BALLOT,
        &[&1_u64.to_le_bytes(), &3_u32.to_le_bytes(), &[2], &[0; 8], &(1_u64 << 63).to_le_bytes()],
    );
    breaks(config(3, 4), &dirty_abstentions, canonical);
    // A sign under an abstention.
    breaks(config(3, 4), &by_hand::planes(kind::BALLOT, 1, 0, &[1], &[1]), canonical);
    let head = [&1_u64.to_le_bytes()[..], &0_u32.to_le_bytes()].concat();
    let encoded = |encoding: u8, rest: &[u16]| {
        let rest: Vec<u8> = rest.iter().flat_map(|number| number.to_le_bytes()).collect();
        by_hand::frame(kind::BALLOT, &[&head, &[encoding], &[0; 8], &rest])
    };
    breaks(config(3, 4), &encoded(3, &[]), "malformed plane encoding");
    breaks(config(3, 4), &encoded(1, &[0]), "malformed runs");
    breaks(config(3, 4), &encoded(1, &[1, 60, 4]), "malformed runs");
    breaks(config(3, 4), &encoded(1, &[2, 8, 0, 4, 0]), "malformed runs");
    breaks(config(3, 4), &encoded(1, &[2, 4, 0, 5, 0]), "malformed runs");
    breaks(config(3, 4), &encoded(1, &[2, 4, 0]), "malformed frame");
    breaks(config(3, 4), &encoded(0, &[0]), "malformed frame");
}

#[test]
fn a_run_takes_what_it_aggregates() {
    let gradient = by_hand::dense(kind::GRADIENT, 1, 0, &[0.0; 64]);
    breaks(config(3, 4), &gradient, "send what the run aggregates\": this run takes Vote, got Mean");
    breaks(mean_config(3, 4), &ballot(1, 0), "send what the run aggregates\": this run takes Mean, got Vote");
}

#[test]
fn who_has_joined_does_not_join_again() {
    breaks(config(3, 4), &Hello::of(&layout(DIMENSION)).frame(), "greet once");
    breaks(config(3, 4), &by_hand::ready([0; 32]), "be ready once, when welcomed");
    breaks(config(3, 4), &by_hand::init(&layout(DIMENSION), &[]), "bring a model only when asked");
    breaks(config(3, 4), &by_hand::values(0, &[0.0; 64]), "bring parameters only when asked");
}

#[test]
fn frames_that_are_none_are_refused() {
    let long_name = "n".repeat(1025);
    let cases: [(Vec<u8>, &str); 9] = [
        (vec![], "malformed frame"),
        (vec![1, 0, 0], "malformed frame"),
        (0_u32.to_le_bytes().to_vec(), "malformed frame length"),
        (by_hand::frame(0, &[]), "malformed frame kind"),
        (by_hand::frame(kind::COMMIT, &[&[0; 60]]), "malformed frame kind"),
        ([ballot(1, 0), vec![0]].concat(), "malformed frame length"),
        (by_hand::frame(kind::READY, &[&[0; 33]]), "expected its end"),
        (by_hand::text(kind::BYE, &long_name), "malformed reason"),
        (by_hand::frame(kind::BYE, &[&[2, 0, 0xc3, 0x28]]), "malformed reason: expected UTF-8"),
    ];
    for (frame, rule) in cases {
        breaks(config(3, 4), &frame, rule);
    }
}

#[test]
fn who_is_put_out_is_not_waited_for() {
    let source: Source = Rc::new(|_: Ask<'_>| vec![1.0; DIMENSION]);
    let mut sim = Sim::new(Setup::new(config(3, 4), DIMENSION, source));
    sim.join(Some(1));
    sim.join(Some(2));
    sim.settle();
    let peer = sim.raw();
    sim.say(peer, &Hello::of(&layout(DIMENSION)).frame());
    sim.say(peer, &by_hand::ready([0; 32]));
    // Everyone else has voted; the round waits for the stranger alone.
    sim.settle();
    assert_eq!(sim.server.round().0, 0);
    sim.say(peer, &by_hand::frame(200, &[]));
    assert_eq!(sim.server.round().0, 1, "its going closed the round");
    sim.run();
    sim.assert_identical_replicas(2);
}

#[test]
fn a_worker_does_not_follow_a_server_that_breaks_the_rules() {
    let terms = config(3, 4).terms;
    let welcome = by_hand::welcome(by_hand::VERSION, 1, 1, &by_hand::terms_bytes(&terms));
    let chain = [5; 32];
    let open = |round| by_hand::position(kind::OPEN, round, 0, chain);
    let verdict = |round, chunk| by_hand::planes(kind::VERDICT, round, chunk, &[0], &[0]);
    let commit = |round: u64, incarnation: u32, chain: [u8; 32]| {
        let lambda = 0.0;
        by_hand::Commit { round, incarnation, eta: 0.1, lambda, next_eta: 0.1, voters: vec![1], chain }
            .frame()
    };
    // A worker of a model of 100 coordinates, two chunks, that was told all this before the last frame.
    let told = |frames: &[Vec<u8>]| -> Result<Voter, Error> {
        let mut voter = Voter::new(harness::greeting(100, None));
        for (i, frame) in frames.iter().enumerate() {
            let result = voter.handle(frame);
            if i + 1 == frames.len() {
                result?;
            } else {
                result.unwrap();
            }
            if i == 0 {
                voter.provide(vec![0.0; 100]).unwrap();
            }
        }
        Ok(voter)
    };
    let breaks = |frames: &[Vec<u8>], rule: &str| {
        let text = match told(frames) {
            Ok(_) => panic!("it was not noticed: {rule}"),
            Err(error) => error.to_string(),
        };
        assert!(text.contains(rule), "{text:?} does not name {rule:?}");
    };
    assert!(Voter::new(harness::greeting(100, None)).handle(&open(0)).is_err());
    breaks(&[welcome.clone(), welcome.clone()], "say welcome once");
    breaks(&[welcome.clone(), verdict(0, 0)], "decide for who has the parameters");
    breaks(&[welcome.clone(), open(0), verdict(1, 0)], "decide each chunk of the open round once");
    breaks(&[welcome.clone(), open(0), verdict(0, 2)], "decide each chunk of the open round once");
    breaks(&[welcome.clone(), open(0), verdict(0, 1), verdict(0, 1)], "decide each chunk");
    breaks(&[welcome.clone(), open(0), by_hand::dense(kind::UPDATE, 0, 0, &[0.0; 64])], "a verdict of Mean");
    breaks(&[welcome.clone(), open(0), verdict(0, 0), commit(0, 0, chain)], "commit what is decided");
    breaks(&[welcome.clone(), open(0), commit(1, 0, chain)], "commit the open round");
    breaks(&[welcome.clone(), open(0), commit(0, 1, chain)], "commit what is decided");
    let decided = [welcome.clone(), open(0), verdict(0, 0), verdict(0, 1)];
    breaks(&[&decided[..], &[commit(0, 0, chain)]].concat(), "incompatible history of verdicts");
    breaks(&[welcome.clone(), by_hand::values(0, &[0.0; 64])], "announce a state before sending it");
    let state = by_hand::position(kind::STATE, 0, 0, chain);
    breaks(&[welcome.clone(), state.clone(), by_hand::values(1, &[0.0; 36])], "send parameters in order");
    breaks(&[welcome.clone(), state.clone(), open(0)], "open a round for who has the parameters");
    let mut no_chunks = terms.clone();
    no_chunks.chunk_coordinates = 0;
    let no_chunks = by_hand::welcome(by_hand::VERSION, 1, 1, &by_hand::terms_bytes(&no_chunks));
    let error = Voter::new(harness::greeting(100, None)).handle(&no_chunks).unwrap_err();
    assert!(error.to_string().contains("a multiple of 64"));

    // The last round that there is comes after none that a number could count.
    let last = u64::MAX;
    let commit_last = {
        let sign = by_hand::verdict_hash(&[1; 64]);
        let tail = by_hand::verdict_hash(&[1; 36]);
        let mut commit = by_hand::Commit {
            round: last,
            incarnation: 0,
            eta: 0.1,
            lambda: 0.0,
            next_eta: 0.1,
            voters: vec![1],
            chain,
        };
        commit.chain = commit.chain_after(chain, &[sign, tail]);
        commit.frame()
    };
    let voter = told(&[
        welcome,
        by_hand::position(kind::STATE, last, 0, chain),
        by_hand::values(0, &[0.0; 64]),
        by_hand::values(1, &[0.0; 36]),
        verdict(last, 0),
        verdict(last, 1),
        commit_last,
    ])
    .unwrap();
    assert_eq!(voter.parameters(), [-0.1; 100]);
}
