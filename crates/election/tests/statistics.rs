//! Running statistics, which workers send when the run is over and the server takes the medians of.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod harness;

use std::time::Duration;

use harness::by_hand::{self, Hello};
use harness::{config, greeting, layout, milliseconds, parameters};
use signvote_election::{
    Event, Greeting, Origin, Output, PeerId, Server, Slot, Statistics, Step, Voter, hexadecimal,
};

const DIMENSION: usize = 200;
const ROUNDS: u64 = 3;
const PEER: PeerId = PeerId(1);

/// A server and its workers, whose frames arrive at once.
struct Run {
    now: Duration,
    server: Server,
    voters: Vec<Voter>,
    /// Who says nothing once the run is over.
    mute: Option<usize>,
    events: Vec<Event>,
    done: bool,
}

impl Run {
    /// A run of which the rounds are done. Those of `without` know nothing of statistics.
    fn over(workers: u16, without: &[u16]) -> Self {
        let mut run = Self::new(workers, without);
        run.pump();
        assert_eq!(run.server.round().0, ROUNDS);
        run
    }

    fn new(workers: u16, without: &[u16]) -> Self {
        let server = Server::new(config(workers, ROUNDS)).unwrap();
        let greeting =
            |slot| Greeting { statistics: !without.contains(&slot), ..greeting(DIMENSION, Some(slot)) };
        let voters = (1..=workers).map(|slot| Voter::new(greeting(slot))).collect();
        let mut run =
            Self { now: Duration::ZERO, server, voters, mute: None, events: Vec::new(), done: false };
        for index in 0..run.voters.len() {
            run.server.connected(run.now, peer(index), Origin::default());
        }
        run
    }

    fn pump(&mut self) {
        loop {
            let mut quiet = true;
            for index in 0..self.voters.len() {
                vote(&mut self.voters[index], index);
                while let Some(frame) = self.voters[index].poll_transmit() {
                    if self.mute == Some(index) && self.voters[index].is_finished() {
                        continue;
                    }
                    self.server.handle(self.now, peer(index), &frame);
                    quiet = false;
                }
            }
            while let Some(output) = self.server.poll() {
                quiet = false;
                match output {
                    Output::Send { peer: PeerId(number), frame } if number <= self.voters.len() as u64 => {
                        // Who is put out learns it here.
                        let _ = self.voters[number as usize - 1].handle(&frame);
                    }
                    Output::Event(event) => self.events.push(event),
                    Output::Done => self.done = true,
                    _ => {}
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn send(&mut self, index: usize, values: &[f32]) {
        self.voters[index].submit_statistics(values).unwrap();
        self.pump();
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.server.handle_timeout(self.now);
        self.pump();
    }

    fn medians(&self) -> Option<&[f32]> {
        self.server.statistics().map(|Statistics { values, .. }| &values[..])
    }
}

fn peer(index: usize) -> PeerId {
    PeerId(index as u64 + 1)
}

/// Carries frames between the two until neither has any. The worker votes in nothing.
fn join(server: &mut Server, voter: &mut Voter) {
    if server.slot_of(PEER).is_none() {
        server.connected(Duration::ZERO, PEER, Origin::default());
    }
    loop {
        let sent = voter.poll_transmit();
        let quiet = sent.is_none();
        if let Some(frame) = sent {
            server.handle(Duration::ZERO, PEER, &frame);
        }
        let mut heard = 0;
        while let Some(output) = server.poll() {
            if let Output::Send { frame, .. } = output {
                voter.handle(&frame).unwrap();
                heard += 1;
            }
        }
        if voter.wants_parameters() {
            voter.provide(parameters(DIMENSION, 99)).unwrap();
        } else if quiet && heard == 0 {
            return;
        }
    }
}

fn vote(voter: &mut Voter, index: usize) {
    while let Some(step) = voter.poll_step() {
        match step {
            Step::Welcomed => voter.provide(parameters(DIMENSION, 99)).unwrap(),
            Step::Open { .. } => {
                let words = DIMENSION.div_ceil(64);
                voter.report(1.0, 1, 1, 0).unwrap();
                // Bits behind the last coordinate are zero.
                let mut signs = vec![0x5555 << index; words];
                signs[words - 1] &= (1 << (DIMENSION % 64)) - 1;
                voter.submit_signs(0, &signs, &vec![0; words]).unwrap();
            }
            _ => {}
        }
    }
}

#[test]
fn a_minority_of_liars_moves_no_median_past_the_honest() {
    let mut run = Run::over(5, &[]);
    assert!(run.voters.iter().all(Voter::wants_statistics));
    run.send(0, &[1.0, 0.5]);
    run.send(1, &[1e30, -7.0]);
    run.send(2, &[1.2, 0.7]);
    assert!(!run.done && run.medians().is_none(), "two are still to come");
    run.send(3, &[-1e30, 1e30]);
    run.send(4, &[1.1, 0.6]);
    assert!(run.done);
    assert_eq!(run.medians(), Some(&[1.1, 0.6][..]));
    let statistics = run.server.statistics().unwrap();
    let Some(Event::Finished { digest, replicas_identical: true, .. }) = run.events.last() else {
        panic!("{:?}", run.events.last())
    };
    assert_eq!((statistics.workers, &hexadecimal(&statistics.digest.0)), (5, digest));
}

#[test]
fn they_are_waited_for_longer_than_a_farewell_but_not_for_ever() {
    let mut run = Run::over(3, &[]);
    run.send(0, &[1.0]);
    run.send(1, &[2.0]);
    run.wait(milliseconds(30_000));
    assert!(!run.done);
    run.wait(milliseconds(30_001));
    assert!(run.done);
    assert_eq!(run.medians(), Some(&[1.5][..]));

    // A run of workers that have none takes its leave as ever.
    let mut run = Run::over(3, &[1, 2, 3]);
    assert!(run.done && run.medians().is_none());
    assert!(run.voters[0].submit_statistics(&[1.0]).is_err());
    run.pump();
}

#[test]
fn below_a_quorum_there_are_none() {
    let mut run = Run::over(5, &[1, 2]);
    run.send(2, &[1.0]);
    run.send(3, &[1.0]);
    // After all it has none to give.
    run.send(4, &[]);
    assert!(run.done);
    assert_eq!(run.medians(), None);
    let Some(Event::Finished { replicas, .. }) = run.events.last() else { panic!("not finished") };
    assert_eq!(*replicas, 5);
}

#[test]
fn who_sends_another_number_of_them_is_left_out() {
    let mut run = Run::over(3, &[]);
    run.send(0, &[1.0, 2.0]);
    run.send(1, &[9.0]);
    run.send(2, &[3.0, 4.0]);
    assert_eq!(run.medians(), Some(&[2.0, 3.0][..]));
    assert_eq!(run.server.statistics().unwrap().workers, 2);

    // Nobody knows who of two is right.
    let mut run = Run::over(2, &[]);
    run.send(0, &[1.0, 2.0]);
    run.send(1, &[9.0]);
    assert!(run.done && run.medians().is_none());
}

#[test]
fn what_breaks_the_rules_is_refused_with_its_sender() {
    for broken in [vec![], vec![f32::NAN], vec![f32::INFINITY, 1.0], vec![0.0; DIMENSION + 1]] {
        let mut run = Run::over(3, &[]);
        run.server.handle(run.now, peer(0), &by_hand::statistics(ROUNDS, &broken));
        run.pump();
        let out =
            run.events.iter().filter(|event| matches!(event, Event::Left { slot, .. } if slot.number() == 1));
        assert_eq!(out.count(), 1, "{broken:?}");
        run.send(1, &[1.0]);
        run.send(2, &[1.0]);
        assert_eq!((run.done, run.medians()), (true, Some(&[1.0][..])));
    }
    // Twice, of another round, cut in the middle of a number.
    let whole = by_hand::statistics(ROUNDS, &[1.0]);
    let mut torn = whole[..whole.len() - 1].to_vec();
    torn[0] -= 1;
    for frames in [vec![whole.clone(), whole.clone()], vec![by_hand::statistics(1, &[1.0])], vec![torn]] {
        let mut run = Run::over(3, &[]);
        frames.iter().for_each(|frame| run.server.handle(run.now, peer(0), frame));
        run.pump();
        let [.., Event::Left { slot, .. }] = &run.events[..] else { panic!("{:?}", run.events.last()) };
        assert_eq!(slot.number(), 1);
    }
    // Before the end.
    let mut server = Server::new(config(1, ROUNDS)).unwrap();
    let mut voter = Voter::new(Greeting { statistics: true, ..greeting(DIMENSION, Some(1)) });
    join(&mut server, &mut voter);
    assert_eq!((server.present(), voter.is_live()), (1, true));
    server.handle(Duration::ZERO, PEER, &by_hand::statistics(0, &[1.0]));
    assert_eq!(server.present(), 0);
}

#[test]
fn a_run_that_is_cut_short_wants_none_and_one_that_is_stopped_at_its_end_waits_no_longer() {
    let mut run = Run::over(3, &[]);
    run.send(0, &[1.0]);
    run.send(1, &[3.0]);
    run.server.stop(run.now, "someone pressed Ctrl-C");
    run.pump();
    assert_eq!((run.done, run.medians()), (true, Some(&[2.0][..])));

    let mut server = Server::new(config(1, ROUNDS)).unwrap();
    let mut voter = Voter::new(Greeting { statistics: true, ..greeting(DIMENSION, Some(1)) });
    join(&mut server, &mut voter);
    server.stop(Duration::ZERO, "someone pressed Ctrl-C");
    join(&mut server, &mut voter);
    assert!(voter.is_finished() && !voter.wants_statistics());
    assert_eq!(server.present(), 0);
}

#[test]
fn who_comes_back_again_and_again_does_not_put_the_end_off() {
    let mut run = Run { mute: Some(2), ..Run::new(3, &[]) };
    run.pump();
    run.send(0, &[1.0]);
    let position = run.server.position();
    let position = Some((position.round.0, position.incarnation.0, position.chain.0));
    let hello = Hello { features: 1, slot: 3, position, ..Hello::of(&layout(DIMENSION)) }.frame();
    let mut last = peer(2);
    for attempt in 0..3 {
        run.server.disconnected(run.now, last, "cut");
        last = PeerId(10 + attempt);
        run.server.connected(run.now, last, Origin::default());
        run.server.handle(run.now, last, &hello);
        run.pump();
        assert_eq!(run.server.slot_of(last).map(Slot::number), Some(3));
        run.wait(milliseconds(25_000));
    }
    assert!(run.done, "a minute is over");
}
