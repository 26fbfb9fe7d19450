//! Bytes from somebody who means harm: nobody panics, and the others do not notice.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod harness;

use harness::by_hand::{self, Hello, kind};
use harness::conversation::{act, heard_by_a_worker};
use harness::{
    Setup, Sim, after, config, dense_source, greeting, layout, mean_config, parameters, rng, seeds, with_seed,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use signvote_election::{Config, Event, PeerId, Slot, Step, Voter};

const DIMENSION: usize = 200;

/// Any bytes; often with a length and a kind that let them get further.
fn random_bytes(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let length = rng.random_range(0..120_usize);
    let bytes: Vec<u8> = (0..length).map(|_| rng.random::<u32>() as u8).collect();
    if rng.random_bool(0.3) {
        return bytes;
    }
    let kinds = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41];
    by_hand::frame(kinds[rng.random_range(0..kinds.len())], &[&bytes])
}

/// A frame with something changed: a bit, a number, its length, its kind.
fn mutated(rng: &mut ChaCha8Rng, frame: &[u8]) -> Vec<u8> {
    let mut kind = by_hand::kind_of(frame);
    let mut payload = frame[5..].to_vec();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..payload.len().max(1));
        match rng.random_range(0..6) {
            0 => payload.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (at % 8)),
            1 => payload.iter_mut().skip(at).take(8).for_each(|byte| *byte = 0xff),
            2 => payload.truncate(at),
            3 => payload.extend_from_slice(&[0; 9][..at % 9]),
            4 => payload.iter_mut().skip(at).take(8).for_each(|byte| *byte = 0),
            _ => kind = kind.wrapping_add(1),
        }
    }
    by_hand::frame(kind, &[&payload])
}

/// Sound frames for whatever round is open, of every kind that goes to a server.
fn sound_frames(sim: &Sim) -> Vec<Vec<u8>> {
    let round = sim.server.round().0;
    let x = parameters(DIMENSION, 7);
    vec![
        Hello::of(&layout(DIMENSION)).frame(),
        by_hand::init(&layout(DIMENSION), &[("model", "mlp")]),
        by_hand::values(0, &x[..64]),
        by_hand::ready(by_hand::digest(&x)),
        by_hand::report(round, 1.0, 1, 2, 3),
        by_hand::planes(kind::BALLOT, round, 1, &[5], &[2]),
        by_hand::planes(kind::BALLOT, round, 3, &[0], &[0]),
        by_hand::dense(kind::GRADIENT, round, 0, &x[..64]),
        by_hand::digest_frame(round, [1; 32]),
        by_hand::seal(round, [3; 64]),
        by_hand::ask(by_hand::VERSION),
        Hello { position: Some((round, 0, [3; 32])), ..Hello::of(&layout(DIMENSION)) }.frame(),
        by_hand::text(kind::BYE, "bye"),
    ]
}

/// An attacker that comes again and again while two honest workers go on with their run.
fn attack(config: Config, seed: u64, join_first: bool) {
    let mut rng = rng(&[seed, 40]);
    let rounds = config.terms.rounds;
    let setup = Setup::new(config, DIMENSION, dense_source(DIMENSION, seed)).network_seed(seed);
    let mut sim = Sim::new(setup);
    sim.join(Some(1));
    sim.join(Some(2));
    sim.settle();
    let mut attacker: Option<PeerId> = None;
    let mut frames = 0;
    while !sim.done {
        let peer = match attacker.filter(|&peer| sim.is_open(peer)) {
            Some(peer) => peer,
            None => {
                let peer = sim.raw();
                if join_first || !sim.started() {
                    sim.say(peer, &Hello { slot: 3, ..Hello::of(&layout(DIMENSION)) }.frame());
                    // In a run under way there is nothing to be ready for.
                    if sim.heard(peer).first().is_some_and(|frame| frame.get(19) == Some(&1)) {
                        sim.say(peer, &by_hand::ready([0; 32]));
                    }
                }
                peer
            }
        };
        attacker = Some(peer);
        for _ in 0..4 {
            let sound = sound_frames(&sim);
            let frame = match rng.random_range(0..3) {
                0 => random_bytes(&mut rng),
                _ => {
                    let which = rng.random_range(0..sound.len());
                    mutated(&mut rng, &sound[which])
                }
            };
            if sim.is_open(peer) && !sim.done {
                sim.say(peer, &frame);
                frames += 1;
            }
        }
        sim.heard(peer);
        if !sim.step() {
            // Everyone waits for the attacker: it goes.
            sim.say(peer, &by_hand::text(kind::BYE, ""));
        }
    }
    while sim.step() {}
    assert_eq!(sim.server.round().0, rounds);
    assert!(frames > 100, "{frames}");
    for (worker, slot) in sim.workers.iter().zip(1..) {
        assert!(
            matches!(worker.steps.last(), Some(Step::Finished { .. })),
            "worker {slot} did not get there"
        );
        assert_eq!(by_hand::digest(worker.voter.parameters()), by_hand::digest(sim.x()));
        assert!(sim.record(slot).rounds >= 1);
    }
    let put_out = |event: &&Event| {
        let honest = |slot: &Slot| slot.number() < 3;
        matches!(event, Event::Left { slot, reason, .. } if honest(slot) && reason != "the run is over")
    };
    assert_eq!(sim.events.iter().find(put_out), None);
}

#[test]
fn honest_workers_go_on_beside_an_attacker() {
    for seed in 0..seeds(12) {
        with_seed(seed, |seed| {
            let mut config = if seed % 3 == 0 { mean_config(3, 6) } else { config(3, 6) };
            (config.quorum, config.deadline) = (2, after(50));
            attack(config, seed, seed % 2 == 0);
        });
    }
}

#[test]
fn random_bytes_put_their_sender_out_and_nobody_else() {
    let mut rng = rng(&[41]);
    // Four places: a random digest is a sound one, and now and then somebody joins by chance.
    let mut sim = Sim::new(Setup::new(config(4, 4), DIMENSION, dense_source(DIMENSION, 1)));
    sim.join(Some(1));
    sim.join(Some(2));
    sim.settle();
    for _ in 0..seeds(3_000) {
        let peer = sim.raw();
        if rng.random_bool(0.5) {
            sim.say(peer, &Hello::of(&layout(DIMENSION)).frame());
        }
        sim.heard(peer);
        sim.say(peer, &random_bytes(&mut rng));
        if sim.is_open(peer) {
            sim.say(peer, &by_hand::frame(0, &[]));
        }
        // A farewell needs no answer; everything else is answered with a reason.
        if !sim.heard(peer).is_empty() {
            assert!(!sim.is_open(peer));
        }
        assert_eq!(sim.server.present(), 2);
        assert!(!sim.started());
    }
    sim.join(Some(3));
    sim.join(Some(4));
    sim.run();
    sim.assert_identical_replicas(4);
}

#[test]
fn first_comers_who_send_nonsense_do_not_spoil_the_run() {
    // The same before there is a model: whoever is asked for it sends mutations of one.
    let mut rng = rng(&[42]);
    let mut adopted = 0;
    for _ in 0..seeds(300) {
        let mut sim = Sim::new(Setup::new(config(2, 2), DIMENSION, dense_source(DIMENSION, 1)));
        let (first, second) = (sim.raw(), sim.raw());
        sim.say(first, &Hello::of(&layout(DIMENSION)).frame());
        sim.say(second, &Hello::of(&layout(DIMENSION)).frame());
        let x = parameters(DIMENSION, 7);
        let mut frames = vec![by_hand::init(&layout(DIMENSION), &[("model", "mlp")])];
        frames.extend(x.chunks(64).zip(0..).map(|(x, chunk)| by_hand::values(chunk, x)));
        frames.push(by_hand::ready(by_hand::digest(&x)));
        for frame in &frames {
            let frame = if rng.random_bool(0.2) { mutated(&mut rng, frame) } else { frame.clone() };
            sim.say(first, &frame);
        }
        adopted += usize::from(sim.server.model().is_some());
        if sim.is_open(first) {
            sim.say(first, &by_hand::text(kind::BYE, ""));
        }
        // The second is now asked for a model, or to compare its own.
        frames.iter().skip(if sim.server.model().is_some() { frames.len() - 1 } else { 0 }).for_each(
            |frame| {
                sim.say(second, frame);
            },
        );
        assert!(sim.is_open(second));
        assert_eq!(sim.server.present(), 1);
    }
    assert!(adopted > 30, "{adopted} of the offers were left as they were");
}

#[test]
fn a_worker_survives_whatever_a_server_sends() {
    let mut rng = rng(&[43]);
    for config in [config(2, 5), mean_config(2, 5)] {
        let mut config = config;
        config.terms.chunk_coordinates = 64;
        let heard = heard_by_a_worker(config, DIMENSION);
        for kind in [kind::WELCOME, kind::STATE, kind::VALUES, kind::OPEN, kind::COMMIT, kind::FINISH] {
            assert!(heard.iter().any(|frame| by_hand::kind_of(frame) == kind));
        }
        for _ in 0..seeds(1_500) {
            let mut voter = Voter::new(greeting(DIMENSION, Some(2)));
            let rate = [0.02, 0.1, 0.5][rng.random_range(0..3)];
            for frame in &heard {
                let frame = match () {
                    () if rng.random_bool(rate) => mutated(&mut rng, frame),
                    () if rng.random_bool(rate / 4.0) => random_bytes(&mut rng),
                    () => frame.clone(),
                };
                // After an error the connection is of no use, but the machine must not break.
                let _ = voter.handle(&frame);
                act(&mut voter, DIMENSION);
                while voter.poll_transmit().is_some() {}
            }
        }
    }
}
