//! What a worker hears in a whole run, for tests that change something in it.

use signvote_election::{Config, Step, Voter};

use super::{Setup, Sim, dense_source, greeting, parameters};

/// A conversation of a server with the second of two workers, as that one heard it.
pub(crate) fn heard_by_a_worker(config: Config, dimension: usize) -> Vec<Vec<u8>> {
    let mut sim = Sim::new(Setup::new(config, dimension, dense_source(dimension, 3)));
    sim.join(Some(1));
    sim.settle();
    let peer = sim.raw();
    let mut voter = Voter::new(greeting(dimension, Some(2)));
    let mut heard = vec![];
    while !sim.done {
        let mut spoke = false;
        while let Some(frame) = voter.poll_transmit() {
            sim.say(peer, &frame);
            spoke = true;
        }
        for frame in sim.heard(peer) {
            voter.handle(&frame).unwrap();
            heard.push(frame.to_vec());
        }
        act(&mut voter, dimension);
        // While the two still talk no time passes; a step may be a leap to the next timeout.
        if !spoke {
            sim.step();
        }
    }
    heard
}

/// Does what a worker does, with whatever it has been told; that may be nothing that can be done.
pub(crate) fn act(voter: &mut Voter, dimension: usize) {
    let words = dimension.div_ceil(64);
    while let Some(step) = voter.poll_step() {
        match step {
            Step::Welcomed => {
                let _ = voter.provide(parameters(dimension, 99));
            }
            Step::Open { .. } => {
                let _ = voter.report(1.0, 1, 1, 0);
                let _ = voter.submit_signs(0, &vec![3; words], &vec![0; words]);
                let _ = voter.submit_gradient(0, &vec![0.5; dimension]);
            }
            _ => {}
        }
    }
}
