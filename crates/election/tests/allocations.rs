//! A round takes no new memory for what it carries: planes and frames lie where those of earlier rounds have lain.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod harness;

use std::time::Duration;

use harness::{config, greeting, parameters};
use signvote_election::{Config, Origin, Output, PeerId, Server, Step, Voter};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const DIMENSION: usize = 1 << 20;
const WORKERS: u16 = 4;

/// A server and its workers with nothing between them.
struct World {
    server: Server,
    voters: Vec<Voter>,
    signs: Vec<u64>,
    abstain: Vec<u64>,
    committed: u64,
}

impl World {
    fn new(config: Config) -> Self {
        let mut server = Server::new(config).unwrap();
        let voters = (1..=WORKERS).map(|place| {
            server.connected(Duration::ZERO, PeerId(u64::from(place)), Origin::default());
            Voter::new(greeting(DIMENSION, Some(place)))
        });
        let voters = voters.collect();
        let words = DIMENSION / 64;
        Self { server, voters, signs: vec![0x5555; words], abstain: vec![0; words], committed: 0 }
    }

    /// Passes frames on until so many rounds are committed.
    fn run_to(&mut self, rounds: u64) {
        while self.committed < rounds {
            for (place, voter) in (1..).zip(&mut self.voters) {
                while let Some(step) = voter.poll_step() {
                    match step {
                        Step::Welcomed => voter.provide(parameters(DIMENSION, 1)).unwrap(),
                        Step::Open { .. } => {
                            voter.report(1.0, 1, 1, 0).unwrap();
                            voter.submit_signs(0, &self.signs, &self.abstain).unwrap();
                        }
                        _ => {}
                    }
                }
                while let Some(frame) = voter.poll_transmit() {
                    self.server.handle(Duration::ZERO, PeerId(place), &frame);
                }
            }
            while let Some(output) = self.server.poll() {
                match output {
                    Output::Send { peer, frame } => {
                        self.voters[usize::try_from(peer.0).unwrap() - 1].handle(&frame).unwrap();
                    }
                    Output::Event(signvote_election::Event::Committed { .. }) => self.committed += 1,
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn a_round_allocates_no_plane_and_no_frame() {
    const ROUNDS: u64 = 20;
    let mut config = config(WORKERS, 1000);
    config.terms.chunk_coordinates = 1 << 16;
    config.terms.digest_every = 1000;
    config.record_ballots = false;
    config.ring_bytes = 0;
    let mut world = World::new(config);
    world.run_to(5);
    let _profiler = dhat::Profiler::builder().testing().build();
    let before = dhat::HeapStats::get();
    world.run_to(5 + ROUNDS);
    let after = dhat::HeapStats::get();
    let bytes = (after.total_bytes - before.total_bytes) / ROUNDS;
    let blocks = (after.total_blocks - before.total_blocks) / ROUNDS;
    // One ballot is d/8 bytes; all ballots, and a verdict for all, pass through the hands of a server and its workers.
    let ballot = DIMENSION as u64 / 8;
    assert!(bytes < ballot / 4, "{bytes} bytes in {blocks} blocks a round, where a ballot has {ballot}");
    assert!(after.curr_bytes <= before.curr_bytes + DIMENSION / 64, "what is held grows with rounds");
}
