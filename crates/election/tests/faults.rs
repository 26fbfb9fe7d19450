//! Workers that die, come late, fall behind or hold another replica.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod harness;

use harness::by_hand::{self, Hello, kind};
use harness::{
    Life, Setup, Sim, after, config, dense_source, greeting, layout, mean_config, milliseconds, parameters,
    random_source, rng, seeds, with_seed,
};
use rand::RngExt;
use signvote_election::{Config, Event, PeerId, Step, TiePolicy, Voter};

const DIMENSION: usize = 500;

fn setup(config: Config) -> Setup {
    Setup::new(config, DIMENSION, random_source(DIMENSION, 21))
}

/// The reason of the last commit.
fn last_reason(sim: &Sim) -> String {
    let mut reasons = sim.events.iter().filter_map(|event| match event {
        Event::Committed { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    reasons.next_back().expect("a commit")
}

#[test]
fn a_worker_killed_in_mid_round_does_not_stop_the_run() {
    for config in [config(7, 10), mean_config(7, 10)] {
        let mut sim = Sim::full(setup(config));
        sim.workers[2].crash_at = Some((4, 3));
        sim.run();
        assert_eq!(sim.workers[2].life, Life::Crashed);
        assert_eq!(sim.server.round().0, 10);
        sim.assert_identical_replicas(6);
        let left = |event: &&Event| matches!(event, Event::Left { slot, .. } if slot.number() == 3);
        assert_eq!(sim.events.iter().filter(left).count(), 1);
        assert!(sim.record(3).rounds <= 5);
    }
}

#[test]
fn what_a_dead_worker_had_cast_still_counts() {
    let mut sim = Sim::full(setup(config(3, 4)));
    // Chunks are cast in any order and frames of one connection arrive in order: cut it when one has arrived.
    sim.run_until(|sim| sim.oracle.counted_pieces > 0 && sim.server.round().0 == 0);
    let slot = (1..=3).find(|&slot| sim.oracle.has_cast(slot)).unwrap();
    sim.crash(usize::from(slot) - 1);
    sim.run();
    sim.assert_identical_replicas(2);
    let first = sim.events.iter().find(|event| matches!(event, Event::Committed { .. }));
    let Some(&Event::Committed { voters, partial, .. }) = first else { panic!("no commit") };
    assert_eq!(voters, 3);
    assert!(partial <= 1);
    assert_eq!(sim.record(slot).rounds, 1);
}

#[test]
fn a_worker_that_comes_back_in_mid_round_does_not_vote_twice_and_is_not_put_out() {
    // The last chunks of everyone else are far away, so that the round is still open when it comes back.
    for config in [config(3, 3), mean_config(3, 3)] {
        let mut sim = Sim::full(setup(config));
        sim.workers[1].slowness = 200;
        sim.workers[2].slowness = 200;
        sim.workers[0].comes_back = Some(milliseconds(40));
        sim.workers[0].crash_at = Some((1, 8));
        sim.run();
        sim.assert_identical_replicas(3);
        assert!(sim.workers.iter().all(|worker| !matches!(worker.life, Life::Failed(_))));
        assert_eq!(sim.record(1).rounds, 3);
    }
}

#[test]
fn the_only_worker_of_a_run_may_die_in_mid_round_and_come_back() {
    let mut sim = Sim::full(setup(config(1, 4)));
    sim.workers[0].comes_back = Some(milliseconds(100));
    sim.workers[0].crash_at = Some((2, 5));
    sim.run();
    sim.assert_identical_replicas(1);
    assert_eq!(sim.workers.len(), 2);
    assert_eq!(sim.server.round().0, 4);
}

#[test]
fn a_worker_that_joins_in_mid_run_takes_the_state_and_votes() {
    for config in [config(4, 12), mean_config(4, 12)] {
        let mut sim = Sim::full(setup(config));
        sim.run_to_round(3);
        sim.crash(3);
        sim.run_to_round(5);
        let back = sim.join(Some(4));
        sim.run();
        sim.assert_identical_replicas(4);
        let worker = &sim.workers[back];
        assert!(worker.steps.iter().any(|step| matches!(step, Step::Replaced { round } if round.0 >= 5)));
        let counted = |step: &&Step| matches!(step, Step::Committed { counted: true, .. });
        assert!(worker.steps.iter().filter(counted).count() >= 5);
    }
}

#[test]
fn a_worker_whose_first_parameters_differ_is_sent_the_servers() {
    let mut sim = Sim::new(setup(config(3, 6)));
    let first = sim.join(Some(1));
    sim.settle();
    let same = sim.join(Some(2));
    let other = sim.join_as(greeting(DIMENSION, Some(3)), parameters(DIMENSION, 99));
    sim.run();
    sim.assert_identical_replicas(3);
    let replaced = |sim: &Sim, worker: usize| {
        sim.workers[worker].steps.iter().filter(|step| matches!(step, Step::Replaced { .. })).count()
    };
    assert_eq!([first, same, other].map(|worker| replaced(&sim, worker)), [0, 0, 1]);
}

#[test]
fn the_run_starts_from_the_servers_own_model_if_it_has_one() {
    let mut config = config(2, 4);
    let x = parameters(DIMENSION, 5);
    config.initial = Some((layout(DIMENSION), x.clone(), signvote_election::Settings::default()));
    let mut sim = Sim::new(setup(config));
    sim.join_as(greeting(DIMENSION, None), x);
    sim.join_as(greeting(DIMENSION, None), parameters(DIMENSION, 6));
    sim.run();
    sim.assert_identical_replicas(2);
}

#[test]
fn a_deadline_closes_at_the_quorum_and_late_ballots_are_dropped_and_counted() {
    let mut config = config(5, 12);
    (config.quorum, config.deadline) = (3, after(60));
    let mut sim = Sim::full(setup(config));
    // This one computes for some 90 ms, the others for some 5.
    sim.workers[4].slowness = 20;
    sim.run();
    sim.assert_identical_replicas(5);
    let late: u64 = (1..=5).map(|slot| sim.record(slot).late_chunks).sum();
    assert_eq!(late, sim.oracle.late_pieces);
    assert!(sim.record(5).late_chunks > 0);
    let mut told = sim.events.iter().filter_map(|event| match event {
        Event::Late { slot, chunks } => Some((slot.number(), *chunks)),
        _ => None,
    });
    assert!(told.next_back().is_some_and(|(slot, chunks)| slot == 5 && chunks <= sim.record(5).late_chunks));
    assert!(sim.events.iter().any(|event| matches!(event, Event::Committed { partial: 1.., .. })));
    // It goes on: it learned of every commit, and voted in later rounds as well.
    let commits = sim.workers[4].steps.iter().filter(|step| matches!(step, Step::Committed { .. })).count();
    assert_eq!(commits, 12);
    assert!(sim.record(5).rounds > 3, "{}", sim.record(5).rounds);
}

#[test]
fn below_the_quorum_a_round_waits_even_after_the_deadline() {
    let mut config = config(5, 3);
    (config.quorum, config.deadline) = (4, after(100));
    let mut sim = Sim::full(setup(config));
    sim.run_until(Sim::started);
    [2, 3, 4].into_iter().for_each(|worker| sim.crash(worker));
    sim.advance(milliseconds(60_000));
    assert_eq!(sim.server.round().0, 0);
    assert_eq!(sim.server.next_timeout(), None);
    // Two more make a quorum, and nobody waits for the fifth.
    sim.join(Some(3));
    sim.join(Some(4));
    sim.run_to_round(1);
    sim.run();
    sim.assert_identical_replicas(4);
}

#[test]
fn decisions_give_their_reason() {
    let mut config = config(3, 9);
    (config.quorum, config.deadline) = (2, after(200));
    let mut sim = Sim::full(setup(config));
    sim.run_to_round(1);
    assert_eq!(last_reason(&sim), "all 3 present voters have voted, 3 ballots");
    sim.workers[0].slowness = 10_000;
    let reason_of = |sim: &Sim, wanted: &str| {
        let of = |event: &Event| matches!(event, Event::Committed { reason, .. } if reason == wanted);
        sim.events.iter().filter(|event| of(event)).count()
    };
    sim.run();
    assert_eq!(reason_of(&sim, "the deadline has passed with 2 ballots, quorum 2"), 1);
    // It has cost the others one deadline; from then on it is not waited for.
    assert_eq!(last_reason(&sim), "all 2 present voters have voted, 2 ballots");
}

/// Joins by hand, at this place, as a worker that holds the server's model.
fn join_by_hand(sim: &mut Sim, slot: u16) -> PeerId {
    let peer = sim.raw();
    sim.say(peer, &Hello { slot, ..Hello::of(&layout(DIMENSION)) }.frame());
    let welcome = sim.heard(peer)[0].clone();
    assert_eq!(by_hand::kind_of(&welcome), kind::WELCOME);
    if welcome[19] == 1 {
        sim.say(peer, &by_hand::ready([0; 32]));
    }
    peer
}

#[test]
fn a_replica_that_differs_is_reported_and_sent_the_state_again() {
    let mut config = config(3, 12);
    (config.quorum, config.deadline) = (2, after(100));
    let mut sim = Sim::new(setup(config));
    sim.join(Some(1));
    sim.join(Some(2));
    sim.settle();
    let peer = join_by_hand(&mut sim, 3);
    sim.run_to_round(4);
    sim.heard(peer);
    // Digests are compared every 3 rounds: that of round 3 is known, and it is said to be another.
    sim.say(peer, &by_hand::digest_frame(3, [7; 32]));
    let diverged = |sim: &Sim| {
        let of = |event: &&Event| matches!(event, Event::Diverged { slot, .. } if slot.number() == 3);
        sim.events.iter().filter(of).count()
    };
    assert_eq!(diverged(&sim), 1);
    let frames = sim.heard(peer);
    let kinds: Vec<_> = frames.iter().map(|frame| by_hand::kind_of(frame)).collect();
    let state = kinds.iter().position(|&kind| kind == kind::STATE).expect("the state");
    // That of some round of late, from which the verdicts lead on that follow.
    let round = u64::from_le_bytes(frames[state][5..13].try_into().unwrap());
    let commits = kinds.iter().filter(|&&kind| kind == kind::COMMIT).count() as u64;
    assert_eq!(round + commits, sim.server.round().0);
    let sent: Vec<f32> = frames[state + 1..state + 9]
        .iter()
        .flat_map(|frame| {
            assert_eq!(by_hand::kind_of(frame), kind::VALUES);
            frame[9..].chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(sent, sim.oracle.history[round as usize].x);
    // Saying so a hundred times more is not worth a hundred states.
    (0..100).for_each(|_| sim.say(peer, &by_hand::digest_frame(3, [7; 32])));
    assert_eq!(diverged(&sim), 1);
    assert!(sim.heard(peer).is_empty());
    // Who comes after it at its place has a replica of its own.
    sim.say(peer, &by_hand::text(kind::BYE, ""));
    let peer = join_by_hand(&mut sim, 3);
    sim.say(peer, &by_hand::digest_frame(3, [7; 32]));
    assert_eq!(diverged(&sim), 2);
    // The right digest is not reported, and one of a round that nobody remembers is not compared.
    let of_round_6 = |sim: &mut Sim, digest| sim.say(peer, &by_hand::digest_frame(6, digest));
    sim.run_to_round(6);
    let right = by_hand::digest(&sim.oracle.history[6].x);
    of_round_6(&mut sim, right);
    sim.say(peer, &by_hand::digest_frame(5, [7; 32]));
    assert_eq!(diverged(&sim), 2);
    // A later difference is a new one.
    of_round_6(&mut sim, [8; 32]);
    assert_eq!(diverged(&sim), 3);
    assert!(sim.is_open(peer));
    // At the end it is told, but its copy is void.
    sim.run_until(|sim| sim.server.round().0 == 12);
    sim.say(peer, &by_hand::digest_frame(12, [9; 32]));
    assert_eq!(diverged(&sim), 4);
    sim.run();
    let (identical, replicas, _) = sim.finished();
    assert!(!identical);
    assert_eq!(replicas, 2);
}

/// A run in which the state on its way to the third worker is altered in one bit. Returns its end, and how often
/// that worker's replica was replaced. What it sends is held back while `holds_back` says so.
fn with_an_altered_state(config: Config, holds_back: impl Fn(&Sim) -> bool) -> (Sim, usize) {
    let mut sim = Sim::new(setup(config));
    sim.join(Some(1));
    sim.join(Some(2));
    sim.settle();
    let peer = sim.raw();
    let mut voter = Voter::new(greeting(DIMENSION, Some(3)));
    let (mut altered, mut replaced) = (false, 0);
    let source = dense_source(DIMENSION, 5);
    while !sim.done {
        let mut spoke = false;
        while let Some(frame) = (!holds_back(&sim)).then(|| voter.poll_transmit()).flatten() {
            sim.say(peer, &frame);
            spoke = true;
        }
        for frame in sim.heard(peer) {
            let mut frame = frame.to_vec();
            if by_hand::kind_of(&frame) == kind::VALUES && !altered {
                frame[20] ^= 1;
                altered = true;
            }
            voter.handle(&frame).unwrap();
        }
        while let Some(step) = voter.poll_step() {
            match step {
                Step::Welcomed => voter.provide(parameters(DIMENSION, 1234)).unwrap(),
                Step::Replaced { .. } => replaced += 1,
                Step::Open { round } => {
                    let gradient = source(harness::Ask { slot: 3, round: round.0, x: &[] });
                    let (mut signs, mut abstain) = ([0; 8], [0; 8]);
                    signvote_kernels::pack(&gradient, &mut signs, &mut abstain);
                    voter.submit_signs(0, &signs, &abstain).unwrap();
                }
                _ => {}
            }
        }
        // While the two still talk no time passes; a step may be a leap to the next timeout.
        if !spoke {
            sim.step();
        }
    }
    assert!(altered);
    assert_eq!(by_hand::digest(voter.parameters()), by_hand::digest(sim.x()));
    assert_eq!(sim.events.iter().filter(|event| matches!(event, Event::Diverged { .. })).count(), 1);
    let (identical, confirmed, _) = sim.finished();
    assert!(identical);
    assert_eq!(confirmed, 3);
    (sim, replaced)
}

#[test]
fn a_voter_whose_replica_went_wrong_is_brought_back_and_votes_on() {
    let (sim, replaced) = with_an_altered_state(config(3, 12), |_| false);
    assert_eq!(replaced, 2, "once when it joined, once when it had been found out");
    assert_eq!(sim.record(3).rounds, 12);
}

#[test]
fn a_voter_is_brought_back_in_the_midst_of_a_rounds_verdicts() {
    // Its digest comes late: by then it has been told some verdicts of the open round, and is told them again.
    let mut config = config(3, 12);
    (config.quorum, config.deadline) = (2, after(2));
    let (_, replaced) = with_an_altered_state(config, |sim| {
        let round = sim.server.round().0;
        !sim.done && (3..12).contains(&round) && sim.oracle.decided(round) == 0
    });
    assert_eq!(replaced, 2);
}

#[test]
fn a_worker_that_goes_silent_at_the_end_is_not_waited_for_forever() {
    let mut sim = Sim::new(setup(config(2, 3)));
    sim.join(Some(1));
    sim.settle();
    let peer = join_by_hand(&mut sim, 2);
    sim.run_until(|sim| sim.started());
    for round in 0..3 {
        for chunk in 0..8_u32 {
            let words = [0_u64; 1];
            sim.say(peer, &by_hand::planes(kind::BALLOT, round, chunk, &words, &[0]));
        }
        sim.run_to_round(round + 1);
    }
    let over = sim.now;
    sim.run();
    assert!(sim.now >= over + milliseconds(5_000));
    let (identical, replicas, _) = sim.finished();
    assert!(!identical, "one that said nothing confirmed nothing");
    assert_eq!(replicas, 1);
}

/// Crashes, cuts, late joiners and slow workers as the seed wants them.
fn random_faults(seed: u64) {
    let mut rng = rng(&[seed, 30]);
    let workers = rng.random_range(1..=8_u16);
    let rounds = rng.random_range(1..=8);
    let dimension = rng.random_range(1..=400_usize);
    let mut config =
        if rng.random_bool(0.2) { mean_config(workers, rounds) } else { config(workers, rounds) };
    config.terms.chunk_coordinates = [64, 128][rng.random_range(0..2)];
    config.terms.digest_every = rng.random_range(0..4);
    config.tie = [TiePolicy::Coin, TiePolicy::Hold, TiePolicy::Positive][rng.random_range(0..3)];
    config.min_voters = rng.random_range(0..3);
    config.quorum = usize::from(rng.random_range(1..=workers));
    if rng.random_bool(0.6) {
        config.deadline = after(rng.random_range(1..100));
    }
    let source = random_source(dimension, seed);
    let mut setup = Setup::new(config, dimension, source).network_seed(seed);
    setup.delay = 0..rng.random_range(1..20_000);
    setup.compute = 0..rng.random_range(1..5_000);

    let mut sim = Sim::new(setup);
    let wish = |rng: &mut rand_chacha::ChaCha8Rng, slot: u16| rng.random_bool(0.7).then_some(slot);
    for slot in 1..=workers {
        sim.join_later(milliseconds(rng.random_range(0..100)), wish(&mut rng, slot));
    }
    // Somebody too many: refused, or there to take a place that becomes free.
    if rng.random_bool(0.3) {
        sim.join_later(milliseconds(rng.random_range(0..500)), None);
    }
    let mut faults = rng.random_range(0..6);
    while !sim.done {
        assert!(sim.now < milliseconds(600_000), "the run does not come to its end");
        assert!(sim.step(), "the run stands still in round {}", sim.server.round());
        if faults > 0 && rng.random_bool(0.005) && !sim.workers.is_empty() {
            faults -= 1;
            let index = rng.random_range(0..sim.workers.len());
            let round = sim.server.round().0 + rng.random_range(0..2);
            let worker = &mut sim.workers[index];
            worker.comes_back = Some(milliseconds(rng.random_range(1..200)));
            match rng.random_range(0..3) {
                0 => sim.crash(index),
                1 => worker.crash_at = Some((round, rng.random_range(0..6))),
                _ => worker.slowness = rng.random_range(1..50),
            }
        }
    }
    while sim.step() {}
    // Whoever is through with the run has the server's model; the harness looked at every round before.
    let replicas = sim.workers.iter().filter(|worker| worker.life == Life::Finished).count();
    let (_, confirmed, _) = sim.finished();
    assert!(confirmed >= replicas, "{confirmed} confirmed of {replicas}");
    assert_eq!(sim.server.round().0, rounds);
    for worker in sim.workers.iter().filter(|worker| worker.life == Life::Finished) {
        assert_eq!(by_hand::digest(worker.voter.parameters()), by_hand::digest(sim.x()));
    }
    for worker in &sim.workers {
        if let Life::Failed(error) = &worker.life {
            let text = error.to_string();
            let fair = ["taken by", "the run is over"].iter().any(|reason| text.contains(reason));
            assert!(fair, "an honest worker was put out: {text}");
        }
    }
}

#[test]
fn random_faults_break_no_invariant() {
    for seed in 0..seeds(300) {
        with_seed(seed, random_faults);
    }
}
