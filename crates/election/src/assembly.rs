//! A whole election in one process.

use std::time::Duration;

use crate::{
    Config, Error, ExchangeError, Greeting, Layout, Origin, Output, PeerId, Round, Server, Settings, Slot,
    Step, Voter, WorkerRecord,
};

const NOW: Duration = Duration::ZERO;

/// A server and all its workers in one process: what a simulator votes through.
///
/// It is the election of the network, frame by frame, without sockets, threads or a clock: every worker has a [`Voter`], and
/// with it a replica of its own. A round closes when all have cast; a worker that has nothing to say casts a ballot of
/// abstentions.
#[derive(Debug)]
pub struct Assembly {
    server: Server,
    voters: Vec<Voter>,
    /// Voters that may vote in the open round.
    open: Vec<bool>,
    finished: bool,
    /// Bytes of frames from and to the workers.
    carried: (u64, u64),
}

impl Assembly {
    /// An election of `config.terms.workers` workers that starts from `x`. Deadline, quorum and shards of the configuration
    /// do not matter, because nobody is late.
    ///
    /// # Errors
    /// If the configuration contradicts itself, or `x` has not the layout's d coordinates.
    pub fn new(mut config: Config, layout: Layout, x: Vec<f32>) -> Result<Self, ExchangeError> {
        let workers = config.terms.workers;
        config.initial = Some((layout.clone(), x.clone(), Settings::default()));
        // Nobody comes back to catch up.
        config.ring_bytes = 0;
        let greeting = |number: u16| Greeting {
            layout: layout.clone(),
            settings: Settings::default(),
            run: None,
            slot: Slot::new(number),
            name: format!("worker-{number}"),
            key: None,
            statistics: false,
        };
        let voters: Vec<_> = (1..=workers).map(|number| Voter::new(greeting(number))).collect();
        let open = vec![false; voters.len()];
        let mut server = Server::new(config)?;
        for voter in 0..voters.len() {
            server.connected(NOW, peer(voter), Origin::default());
        }
        let mut assembly = Self { server, voters, open, finished: false, carried: (0, 0) };
        // One after the other: everyone who waits is told of everyone who comes, which would be too much to keep.
        for voter in 0..assembly.voters.len() {
            assembly.hear(voter);
            assembly.carry()?;
        }
        // The server has its own, and compares.
        assembly.voters.iter_mut().try_for_each(|voter| voter.provide(x.clone()))?;
        for voter in 0..assembly.voters.len() {
            assembly.hear(voter);
            assembly.carry()?;
        }
        assembly.answer()?;
        Ok(assembly)
    }

    /// x after the last committed round.
    pub fn parameters(&self) -> &[f32] {
        self.voters[0].parameters()
    }

    /// Rounds committed.
    pub fn round(&self) -> Round {
        self.server.round()
    }

    /// Whether the last round of the terms is committed.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Bytes of all frames so far, from the workers and to them, joining included.
    pub fn bytes(&self) -> (u64, u64) {
        self.carried
    }

    /// How each worker has voted so far, in order of their places.
    pub fn records(&self) -> Vec<WorkerRecord> {
        self.server.records()
    }

    /// Casts the ballot of the worker in place `index`, counted from 0: planes of d coordinates, as `signvote-kernels` has them.
    ///
    /// # Errors
    /// If there is no such worker, it has cast already, or the planes are not those of d coordinates.
    pub fn cast(&mut self, index: usize, signs: &[u64], abstain: &[u64]) -> Result<(), ExchangeError> {
        if self.open.get(index) != Some(&true) {
            let round = self.round();
            let text =
                format!("worker {} of {} has no vote to cast in round {round}", index + 1, self.voters.len());
            return Err(Error::Misuse(text).into());
        }
        self.voters[index].submit_signs(0, signs, abstain)?;
        self.open[index] = false;
        self.hear(index);
        Ok(())
    }

    /// Closes the round, once everyone has cast.
    ///
    /// # Errors
    /// If somebody has not.
    pub fn commit(&mut self) -> Result<(), ExchangeError> {
        let missing = self.open.iter().filter(|&&open| open).count();
        if missing > 0 || self.finished {
            let text = format!("{missing} of {} workers have not cast their ballots", self.voters.len());
            return Err(Error::Misuse(text).into());
        }
        self.answer()
    }

    /// Takes to the server what a worker says.
    fn hear(&mut self, index: usize) {
        while let Some(frame) = self.voters[index].poll_transmit() {
            self.carried.0 += frame.len() as u64;
            self.server.handle(NOW, peer(index), &frame);
        }
    }

    /// Takes to the workers what the server says, and back what they answer, until nobody has anything to say.
    fn carry(&mut self) -> Result<(), ExchangeError> {
        loop {
            let mut spoken_to = Vec::new();
            while let Some(output) = self.server.poll() {
                match output {
                    Output::Send { peer, frame } => {
                        let index = peer.0 as usize;
                        self.carried.1 += frame.len() as u64;
                        self.voters[index].handle(&frame)?;
                        spoken_to.push(index);
                    }
                    // What is left to say has been said.
                    Output::Close { .. } | Output::Done => self.finished = true,
                    _ => {}
                }
            }
            if spoken_to.is_empty() {
                return Ok(());
            }
            spoken_to.sort_unstable();
            spoken_to.dedup();
            for index in spoken_to {
                self.hear(index);
                // Nothing waits on its way: who is brought up to the run's state is given the next piece.
                self.server.drained(NOW, peer(index));
            }
        }
    }

    /// The same, after which everyone may vote again, or the run is over.
    fn answer(&mut self) -> Result<(), ExchangeError> {
        self.carry()?;
        for (voter, open) in self.voters.iter_mut().zip(&mut self.open) {
            while let Some(step) = voter.poll_step() {
                match step {
                    Step::Open { .. } => *open = true,
                    Step::Finished { .. } => {
                        *open = false;
                        self.finished = true;
                    }
                    _ => {}
                }
            }
        }
        if self.finished || self.open.iter().all(|&open| open) {
            return Ok(());
        }
        Err(ExchangeError::Lost("the election stands still, though everyone has voted".into()))
    }
}

fn peer(index: usize) -> PeerId {
    PeerId(index as u64)
}

#[cfg(test)]
mod tests {
    use signvote_kernels::{AbstainOn, Ballot, Tie, apply, decide, words};

    use super::*;
    use crate::{AggregateKind, RunId, Schedule, Shape, StepRule, TensorSpec, Terms, TiePolicy};

    const DIMENSION: usize = 200;

    fn config(workers: u16, rounds: u64) -> Config {
        let terms = Terms {
            run: RunId([1; 16]),
            workers,
            batch: 1,
            seed: 3,
            rounds,
            aggregate: AggregateKind::Vote,
            beta: 0.0,
            abstain_on: AbstainOn::Momentum,
            chunk_coordinates: 128,
            digest_every: 2,
            max_non_finite: 0,
            signed: false,
            step: StepRule::default(),
            settings: Settings::default(),
        };
        let schedule = Schedule::new(0.25, 0, rounds, Shape::Constant).unwrap();
        Config { tie: TiePolicy::Hold, weight_decay: 0.125, ..Config::new(terms, schedule) }
    }

    fn layout() -> Layout {
        Layout::new(vec![TensorSpec { name: "x".into(), shape: vec![DIMENSION] }]).unwrap()
    }

    /// Planes of pseudo-random votes, of which a quarter abstain.
    fn ballot(round: u64, worker: u64) -> (Vec<u64>, Vec<u64>) {
        let word = |plane: u64, word: usize| {
            signvote_kernels::coin_word(round << 32 | worker << 8 | plane, word as u64)
        };
        let abstain: Vec<u64> = (0..words(DIMENSION)).map(|at| word(1, at) & word(2, at)).collect();
        let mut signs: Vec<u64> =
            abstain.iter().enumerate().map(|(at, abstain)| word(3, at) & !abstain).collect();
        let mut abstain = abstain;
        signvote_kernels::canonicalise(&mut signs, Some(&mut abstain), DIMENSION);
        (signs, abstain)
    }

    #[test]
    fn an_assembly_decides_and_steps_as_the_kernels_do() {
        let (workers, rounds) = (5, 6);
        let start: Vec<f32> = (0..DIMENSION).map(|i| i as f32).collect();
        let mut assembly = Assembly::new(config(workers, rounds), layout(), start.clone()).unwrap();
        let mut x = start;
        for round in 0..rounds {
            assert_eq!(assembly.round(), Round(round));
            let ballots: Vec<_> = (0..u64::from(workers)).map(|worker| ballot(round, worker)).collect();
            // In any order.
            for (index, (signs, abstain)) in ballots.iter().enumerate().rev() {
                assembly.cast(index, signs, abstain).unwrap();
            }
            assembly.commit().unwrap();
            let (mut signs, mut hold) = (vec![0; words(DIMENSION)], vec![0; words(DIMENSION)]);
            let ballots: Vec<_> =
                ballots.iter().map(|(signs, abstain)| Ballot::new(signs, Some(abstain))).collect();
            decide(&ballots, DIMENSION, Tie::Hold, 1, &mut signs, &mut hold);
            apply(&mut x, &signs, Some(&hold), 0.25, 0.125);
            assert_eq!(assembly.parameters(), x);
        }
        assert!(assembly.is_finished());
        assert!(assembly.commit().is_err());
    }

    /// What one worker's votes come to, +1, +1 and then −1 in every coordinate: the steps of x[0] in units of η.
    fn steps(change: impl FnOnce(&mut Config)) -> Vec<f32> {
        let mut config = config(1, 3);
        config.weight_decay = 0.0;
        change(&mut config);
        let mut assembly = Assembly::new(config, layout(), vec![0.0; DIMENSION]).unwrap();
        let (none, mut minus) = (vec![0; words(DIMENSION)], vec![u64::MAX; words(DIMENSION)]);
        signvote_kernels::canonicalise(&mut minus, None, DIMENSION);
        let mut x = 0.0;
        let step = |signs: &Vec<u64>| {
            assembly.cast(0, signs, &none).unwrap();
            assembly.commit().unwrap();
            let before = std::mem::replace(&mut x, assembly.parameters()[0]);
            assert!(assembly.parameters().iter().all(|&other| other == x));
            (x - before) / 0.25
        };
        [&none, &none, &minus].map(step).to_vec()
    }

    #[test]
    fn momentum_of_votes_outlasts_a_vote_and_feedback_makes_verdicts_add_up_to_it() {
        assert_eq!(steps(|_| ()), [-1.0, -1.0, 1.0]);
        // m is 0.1, 0.19 and 0.071.
        assert_eq!(steps(|config| config.vote_momentum = 0.9), [-1.0, -1.0, -1.0]);
        // e + m is 0.1, −0.9 + 0.19 and 0.29 + 0.071.
        let feedback = |config: &mut Config| (config.vote_momentum, config.vote_feedback) = (0.9, true);
        assert_eq!(steps(feedback), [-1.0, 1.0, -1.0]);
        for (momentum, feedback, kept) in [(1.0, false, false), (0.0, true, false), (0.9, false, true)] {
            let mut config = config(1, 3);
            (config.vote_momentum, config.vote_feedback, config.record_ballots) = (momentum, feedback, kept);
            assert!(Assembly::new(config, layout(), vec![0.0; DIMENSION]).is_err());
        }
    }

    #[test]
    fn replicas_step_by_tensors_as_the_server_does() {
        let tensors = [("a", vec![7, 9]), ("b", vec![9]), ("c", vec![100]), ("d", vec![4, 7])];
        let tensors = tensors.map(|(name, shape)| TensorSpec { name: name.into(), shape });
        let layout = Layout::new(tensors.to_vec()).unwrap();
        let mut config = config(3, 4);
        config.terms.step = StepRule { decay_matrices: true, layerwise: true };
        let start: Vec<f32> = (0..DIMENSION).map(|at| at as f32 / 100.0 - 1.0).collect();
        let mut assembly = Assembly::new(config, layout, start.clone()).unwrap();
        for round in 0..4 {
            for worker in 0..3 {
                let (signs, abstain) = ballot(round, worker);
                assembly.cast(worker as usize, &signs, &abstain).unwrap();
            }
            // Digests are compared every other round, and who differed would be sent the state.
            assembly.commit().unwrap();
        }
        assert!(assembly.is_finished());
        assert_eq!(assembly.server.model().unwrap().1, assembly.parameters());
        assert_ne!(assembly.parameters(), start);
    }

    #[test]
    fn nobody_votes_twice_and_nobody_is_left_out() {
        let mut assembly = Assembly::new(config(3, 2), layout(), vec![0.0; DIMENSION]).unwrap();
        let (signs, abstain) = ballot(0, 0);
        assembly.cast(1, &signs, &abstain).unwrap();
        let error = assembly.cast(1, &signs, &abstain).unwrap_err().to_string();
        assert!(error.contains("worker 2 of 3 has no vote"), "{error}");
        assert!(assembly.cast(3, &signs, &abstain).is_err());
        let error = assembly.commit().unwrap_err().to_string();
        assert!(error.contains("2 of 3 workers have not cast"), "{error}");
    }
}
