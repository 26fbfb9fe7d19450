//! Rounds among honest, lying, dying and late workers: every replica ends with the same bits.
//!
//! The harness checks much more at every step than the assertions here say; see `harness/oracle.rs`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod harness;

use std::rc::Rc;

use harness::{
    Ask, Life, Setup, Sim, Source, after, config, dense_source, greeting, mean_config, milliseconds,
    parameters, random_source,
};
use signvote_election::{Config, Event, Optimizer, Step, TiePolicy, WorkerState};

const DIMENSION: usize = 500;

fn flipped(honest: Source, liars: u16) -> Source {
    Rc::new(move |ask: Ask<'_>| {
        let mut gradient = honest(ask);
        if ask.slot <= liars {
            gradient.iter_mut().for_each(|g| *g *= -10.0);
        }
        gradient
    })
}

#[test]
fn replicas_end_bit_identical_whatever_the_number_of_workers() {
    for workers in [1, 2, 7, 8] {
        for config in [config(workers, 8), mean_config(workers, 8)] {
            let mut sim = Sim::full(Setup::new(config, DIMENSION, random_source(DIMENSION, 3)));
            sim.run();
            sim.assert_identical_replicas(usize::from(workers));
            assert_eq!(sim.server.round().0, 8);
        }
    }
}

#[test]
fn replicas_end_bit_identical_under_liars() {
    for config in [config(7, 8), mean_config(7, 8)] {
        for liars in [3, 6] {
            let source = flipped(random_source(DIMENSION, 4), liars);
            let mut sim = Sim::full(Setup::new(config.clone(), DIMENSION, source));
            sim.run();
            sim.assert_identical_replicas(7);
        }
    }
}

#[test]
fn a_diverged_mean_still_ends_with_identical_replicas() {
    let source: Source = Rc::new(|ask: Ask<'_>| {
        let of_liar = [f32::NAN, f32::INFINITY, f32::MAX, -f32::MAX];
        (0..DIMENSION).map(|i| if ask.slot == 1 { of_liar[i % 4] } else { i as f32 }).collect()
    });
    let mut sim = Sim::full(Setup::new(mean_config(3, 6), DIMENSION, source));
    sim.run();
    sim.assert_identical_replicas(3);
    assert!(sim.x().iter().any(|x| x.is_nan()));
}

#[test]
fn adam_at_the_server_keeps_replicas_identical() {
    let mut config = mean_config(4, 6);
    config.optimizer = Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    // The harness recounts SGD only, so this one is driven without it.
    let mut server = signvote_election::Server::new(config).unwrap();
    let now = milliseconds(0);
    let mut voters: Vec<_> = (1..=4_u16)
        .map(|slot| {
            let peer = signvote_election::PeerId(u64::from(slot));
            server.connected(now, peer, signvote_election::Origin::default());
            (peer, signvote_election::Voter::new(greeting(DIMENSION, Some(slot))))
        })
        .collect();
    let source = random_source(DIMENSION, 5);
    let mut finished = None;
    for _ in 0..100 {
        for (peer, voter) in &mut voters {
            while let Some(step) = voter.poll_step() {
                match step {
                    Step::Welcomed => voter.provide(parameters(DIMENSION, 1)).unwrap(),
                    Step::Open { round } => {
                        let slot = voter.place().unwrap().number();
                        let gradient = source(Ask { slot, round: round.0, x: voter.parameters() });
                        voter.submit_gradient(0, &gradient).unwrap();
                    }
                    _ => {}
                }
            }
            while let Some(frame) = voter.poll_transmit() {
                server.handle(now, *peer, &frame);
            }
        }
        while let Some(output) = server.poll() {
            match output {
                signvote_election::Output::Send { peer, frame } => {
                    let (_, voter) = voters.iter_mut().find(|(of, _)| *of == peer).unwrap();
                    voter.handle(&frame).unwrap();
                }
                signvote_election::Output::Event(event @ Event::Finished { .. }) => finished = Some(event),
                _ => {}
            }
        }
    }
    let Some(Event::Finished { replicas_identical, replicas, .. }) = finished else { panic!("no end") };
    assert!(replicas_identical);
    assert_eq!(replicas, 4);
}

#[test]
fn the_order_of_arrival_does_not_change_the_model() {
    for config in [config(8, 6), mean_config(8, 6)] {
        let digest = |network_seed| {
            let setup = Setup::new(config.clone(), DIMENSION, random_source(DIMENSION, 6));
            let mut sim = Sim::full(setup.network_seed(network_seed));
            sim.run();
            sim.finished().2
        };
        let first = digest(1);
        assert!((2..8).all(|seed| digest(seed) == first));
    }
}

#[test]
fn coins_are_thrown_by_seed_and_round() {
    let digest = |seed, tie| {
        let mut config = config(2, 6);
        (config.terms.seed, config.tie) = (seed, tie);
        let mut sim = Sim::new(Setup::new(config, DIMENSION, dense_source(DIMENSION, 7)));
        // The same first parameters, whatever the seed of the run.
        for slot in 1..=2 {
            sim.join_as(greeting(DIMENSION, Some(slot)), parameters(DIMENSION, 1));
        }
        sim.run();
        assert!(sim.events.iter().any(|event| matches!(event, Event::Committed { ties: 1.., .. })));
        sim.finished().2
    };
    assert_eq!(digest(1, TiePolicy::Coin), digest(1, TiePolicy::Coin));
    assert_ne!(digest(1, TiePolicy::Coin), digest(2, TiePolicy::Coin));
    assert_eq!(digest(1, TiePolicy::Hold), digest(2, TiePolicy::Hold));
    assert_eq!(digest(1, TiePolicy::Positive), digest(2, TiePolicy::Positive));
}

#[test]
fn ties_and_holds_are_told() {
    // Two workers that never agree: all ties, and all held if that is the policy.
    let opposed: Source = Rc::new(|ask: Ask<'_>| vec![if ask.slot == 1 { 1.0 } else { -1.0 }; DIMENSION]);
    for (tie, held) in [(TiePolicy::Coin, 0), (TiePolicy::Hold, DIMENSION), (TiePolicy::Positive, 0)] {
        let mut config = config(2, 2);
        config.tie = tie;
        let mut sim = Sim::full(Setup::new(config, DIMENSION, opposed.clone()));
        sim.run();
        let told: Vec<_> = sim
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Committed { ties, holds, .. } => Some((*ties, *holds)),
                _ => None,
            })
            .collect();
        assert_eq!(told, [(DIMENSION, held); 2]);
    }
}

#[test]
fn a_verdict_equals_a_naive_recount_under_every_policy() {
    // The harness recounts every verdict; this makes it do so under each policy, with and without abstentions,
    // odd and even numbers of voters, and lengths that end in mid-word.
    for dimension in [200, 257, 512] {
        for tie in [TiePolicy::Coin, TiePolicy::Hold, TiePolicy::Positive] {
            for min_voters in [0, 1, 3] {
                for source in [random_source(dimension, 8), dense_source(dimension, 8)] {
                    for workers in [3, 4] {
                        let mut config = config(workers, 4);
                        (config.tie, config.min_voters) = (tie, min_voters);
                        config.terms.chunk_coordinates = 128;
                        let mut sim = Sim::full(Setup::new(config, dimension, source.clone()));
                        sim.run();
                        sim.assert_identical_replicas(usize::from(workers));
                    }
                }
            }
        }
    }
}

#[test]
fn agreement_tells_liars_from_the_honest() {
    let honest: Source = Rc::new(|_: Ask<'_>| vec![1.0; DIMENSION]);
    let mut sim = Sim::full(Setup::new(config(5, 4), DIMENSION, flipped(honest, 2)));
    sim.run();
    let agreement: Vec<_> = (1..=5).map(|slot| sim.record(slot).agreement).collect();
    assert_eq!(agreement, [Some(0.0), Some(0.0), Some(1.0), Some(1.0), Some(1.0)]);
    assert!((1..=5).all(|slot| sim.record(slot).rounds == 4));
}

#[test]
fn a_run_without_rounds_ends_before_it_begins() {
    let mut config = config(2, 1);
    config.terms.rounds = 0;
    let mut sim = Sim::full(Setup::new(config, DIMENSION, random_source(DIMENSION, 1)));
    sim.run();
    sim.assert_identical_replicas(2);
    assert_eq!(sim.server.round().0, 0);
}

#[test]
fn stop_in_mid_round_keeps_the_last_commit() {
    let mut sim = Sim::full(Setup::new(config(3, 100), DIMENSION, random_source(DIMENSION, 9)));
    sim.run_to_round(5);
    // Some of its verdicts are out.
    sim.run_until(|sim| sim.oracle.decided(5) > 2);
    assert_eq!(sim.server.round().0, 5);
    let x = sim.x().to_vec();
    sim.stop("someone pressed Ctrl-C");
    sim.run();
    assert_eq!(sim.server.round().0, 5);
    assert_eq!(sim.x(), x);
    sim.assert_identical_replicas(3);
    for worker in &sim.workers {
        let Some(Step::Finished { round, reason }) = worker.steps.last() else { panic!("not told") };
        assert_eq!((round.0, reason.as_str()), (5, "someone pressed Ctrl-C"));
    }
}

#[test]
fn stop_before_the_first_round_ends_the_run() {
    let mut sim = Sim::new(Setup::new(config(3, 5), DIMENSION, random_source(DIMENSION, 9)));
    sim.stop("nobody came");
    assert!(sim.done);
    let mut sim = Sim::new(Setup::new(config(3, 5), DIMENSION, random_source(DIMENSION, 9)));
    sim.join(None);
    sim.join(None);
    sim.settle();
    sim.stop("one never came");
    sim.run();
    sim.assert_identical_replicas(2);
    assert!(sim.workers.iter().all(|worker| worker.life == Life::Finished));
}

#[test]
fn a_worker_whose_ballot_is_overtaken_by_the_commit_drops_the_rest_of_it() {
    // Verdicts may be looked at between two pieces of a ballot, and the commit may be among what has come: the
    // rest of the ballot belongs to a round that is over, and must not be taken for one of the next.
    let mut config = config(3, 5);
    (config.quorum, config.deadline) = (2, after(50));
    let mut sim = Sim::new(Setup::new(config, DIMENSION, dense_source(DIMENSION, 2)));
    let mut slow = signvote_election::Voter::new(greeting(DIMENSION, Some(3)));
    let peer = sim.raw();
    let speak = |sim: &mut Sim, voter: &mut signvote_election::Voter| {
        while let Some(frame) = voter.poll_transmit() {
            sim.say(peer, &frame);
        }
        sim.heard(peer).iter().for_each(|frame| voter.handle(frame).unwrap());
    };
    speak(&mut sim, &mut slow);
    assert_eq!(slow.poll_step(), Some(Step::Welcomed));
    slow.provide(parameters(DIMENSION, 7)).unwrap();
    speak(&mut sim, &mut slow);
    sim.join(Some(1));
    sim.join(Some(2));
    sim.run_until(Sim::started);
    speak(&mut sim, &mut slow);
    assert_eq!(slow.poll_step(), Some(Step::Open { round: signvote_election::Round(0) }));
    slow.submit_signs(0, &[0], &[0]).unwrap();
    speak(&mut sim, &mut slow);
    sim.run_to_round(1);
    speak(&mut sim, &mut slow);
    // It has not looked at the steps yet, and goes on with its ballot of round 0.
    slow.submit_signs(1, &[0; 7], &[0; 7]).unwrap();
    slow.report(1.0, 1, 1, 0).unwrap();
    assert_eq!(slow.poll_transmit(), None);
    let last = std::iter::from_fn(|| slow.poll_step()).last();
    assert_eq!(last, Some(Step::Open { round: signvote_election::Round(1) }));
    slow.report(1.0, 1, 1, 0).unwrap();
    slow.submit_signs(0, &[0; 8], &[0; 8]).unwrap();
    speak(&mut sim, &mut slow);
    sim.run_to_round(2);
    assert_eq!(sim.record(3).rounds, 2);
}

#[test]
fn it_is_told_how_votes_stood_to_each_other() {
    // Three of seven vote against the others, in every coordinate; the last coordinates are nobody's.
    let honest: Source =
        Rc::new(|_: Ask<'_>| (0..DIMENSION).map(|i| if i < 450 { 1.0 } else { 0.0 }).collect());
    let config = Config { votes_every: 5, ..config(7, 12) };
    let mut sim = Sim::full(Setup::new(config.clone(), DIMENSION, flipped(honest.clone(), 3)));
    sim.run();
    let told: Vec<_> = sim.events.iter().filter(|event| matches!(event, Event::Votes { .. })).collect();
    assert_eq!(told.len(), 2);
    for (event, after) in told.into_iter().zip([5, 10]) {
        let Event::Votes { round, workers, margins } = event else { unreachable!() };
        assert_eq!((round.0, workers.len()), (after, 7));
        for row in workers {
            let expected = if row.slot.number() <= 3 { 0.0 } else { 1.0 };
            assert_eq!((row.agreement, row.state, row.rounds), (Some(expected), WorkerState::Voting, after));
        }
        // Four against three is a margin of 1/7, which is up to 2/10; nobody's coordinates are ties.
        let sums: Vec<u32> = (0..11).map(|bin| margins.iter().map(|bins| bins[bin]).sum()).collect();
        assert_eq!(sums, [50, 0, 450, 0, 0, 0, 0, 0, 0, 0, 0]);
        let tensors = harness::layout(DIMENSION);
        for (tensor, bins) in tensors.tensors().iter().zip(margins) {
            assert_eq!(
                bins.iter().sum::<u32>() as usize,
                tensor.shape.iter().product::<usize>(),
                "{}",
                tensor.name
            );
        }
    }
    // Without liars all agree; a mean has agreement, but no margins.
    let mut sim = Sim::full(Setup::new(config, DIMENSION, honest.clone()));
    sim.run();
    let told = sim.events.iter().find_map(|event| match event {
        Event::Votes { margins, .. } => Some(margins.iter().map(|bins| bins[10]).sum::<u32>()),
        _ => None,
    });
    assert_eq!(told, Some(450));
    let config = Config { votes_every: 5, ..mean_config(3, 6) };
    let mut sim = Sim::full(Setup::new(config, DIMENSION, honest));
    sim.run();
    let told = sim.events.iter().find_map(|event| match event {
        Event::Votes { workers, margins, .. } => Some((workers[0].agreement, margins.len())),
        _ => None,
    });
    assert_eq!(told, Some((Some(1.0), 0)));
}
