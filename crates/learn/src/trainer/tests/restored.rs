//! A worker that goes on where it, or another process, stood before.

use std::collections::VecDeque;

use signvote_election::{ExchangeError, Position};

use super::*;

/// An exchange that plays back what another one said: steps, and the parameters of each round.
struct Recorded {
    terms: Terms,
    /// `None` is a moment in which nothing has come yet.
    script: VecDeque<Option<Step>>,
    /// x after so many rounds.
    parameters: Vec<Vec<f32>>,
    at: Round,
    /// Whose ballots are welcome.
    open: Option<Round>,
    ballots: Vec<Ballot>,
}

/// A round, and the planes that were voted in it.
type Ballot = (Round, Vec<u64>, Vec<u64>);

impl Recorded {
    fn new(terms: &Terms, parameters: &[Vec<f32>], script: impl IntoIterator<Item = Option<Step>>) -> Self {
        let script = script.into_iter().chain([Some(finished())]).collect();
        let (terms, parameters) = (terms.clone(), parameters.to_vec());
        Self { terms, script, parameters, at: Round(0), open: None, ballots: vec![] }
    }
}

fn finished() -> Step {
    Step::Finished { round: Round(ROUNDS), reason: "the recording is over".into() }
}

impl Exchange for Recorded {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn slot(&self) -> Slot {
        Slot::new(1).unwrap()
    }

    fn parameters(&self) -> &[f32] {
        &self.parameters[self.at.0 as usize]
    }

    fn position(&self) -> Position {
        Position { round: self.at, ..Position::default() }
    }

    fn next(&mut self) -> Result<Step, ExchangeError> {
        loop {
            if let Some(step) = self.try_next()? {
                return Ok(step);
            }
        }
    }

    fn try_next(&mut self) -> Result<Option<Step>, ExchangeError> {
        let step = self.script.pop_front().expect("nobody asks on after the end");
        match step {
            Some(Step::Open { round }) => (self.at, self.open) = (round, Some(round)),
            // As a voter does it: the ballot of another round is of no use any more.
            Some(Step::Replaced { round }) => {
                (self.at, self.open) = (round, self.open.filter(|&open| open == round));
            }
            Some(Step::Committed { .. }) => self.open = None,
            _ => {}
        }
        Ok(step)
    }

    fn report(&mut self, _: f32, _: u32, _: u32, _: u64) -> Result<(), ExchangeError> {
        assert!(self.open.is_some(), "a report belongs to an open round");
        Ok(())
    }

    fn submit_signs(&mut self, first: usize, signs: &[u64], abstain: &[u64]) -> Result<(), ExchangeError> {
        assert_eq!(first, 0, "the model is one chunk");
        let round = self.open.take().expect("a ballot belongs to an open round, once");
        self.ballots.push((round, signs.to_vec(), abstain.to_vec()));
        Ok(())
    }

    fn submit_gradient(&mut self, _: usize, _: &[f32]) -> Result<(), ExchangeError> {
        unreachable!("a vote")
    }
}

/// A whole run as one process went through it.
struct Run {
    terms: Terms,
    ballots: Vec<Ballot>,
    /// x and momentum at the start of each round.
    parameters: Vec<Vec<f32>>,
    momenta: Vec<Vec<f32>>,
}

fn whole_run() -> Run {
    let (data, mut solo) = (data(), solo(AggregateKind::Vote, 0.9, 5));
    let terms = solo.terms().clone();
    let (mut ballots, mut parameters, mut momenta) = (vec![], vec![], vec![]);
    let mut trainer = trainer(&data, &solo)
        .tampered(|sent| {
            if let Outgoing::Ballot { round, signs, abstain, .. } = sent {
                ballots.push((round, signs.to_vec(), abstain.to_vec()));
            }
        })
        .between_rounds(|now| {
            assert_eq!(now.round.0 as usize, momenta.len(), "once a round, in order");
            parameters.push(now.exchange.parameters().to_vec());
            momenta.push(now.momentum.to_vec());
        });
    trainer.run(&mut solo, &mut |_, _| ()).unwrap();
    drop(trainer);
    Run { terms, ballots, parameters, momenta }
}

fn trainer<'a>(data: &'a Dataset, exchange: &dyn Exchange) -> Trainer<'a> {
    let engine = Box::new(Linear { broken_from: u64::MAX, calls: 0 });
    Trainer::new(engine, data, layout(), Partition::Iid, exchange).unwrap()
}

fn opened(rounds: Range<u64>) -> impl Iterator<Item = Option<Step>> {
    rounds.flat_map(|round| {
        let round = Round(round);
        let committed = Step::Committed { round, eta: 0.02, lambda: 0.0, counted: true };
        [Some(Step::Open { round }), None, Some(committed)]
    })
}

#[test]
fn a_restored_momentum_casts_the_ballots_of_the_uninterrupted_run() {
    let (run, data) = (whole_run(), data());
    let ballots_from = |start: usize, momentum: Option<&Vec<f32>>| {
        let mut rest = Recorded::new(&run.terms, &run.parameters, opened(start as u64..ROUNDS));
        let mut trainer = trainer(&data, &rest);
        if let Some(momentum) = momentum {
            trainer.restore_momentum(momentum.clone()).unwrap();
            assert_eq!(trainer.momentum(), momentum);
        }
        trainer.run(&mut rest, &mut |_, _| ()).unwrap();
        rest.ballots
    };
    let starts = 0..ROUNDS as usize;
    for start in starts.clone() {
        let (restored, expected) = (ballots_from(start, Some(&run.momenta[start])), &run.ballots[start..]);
        assert_eq!(restored, expected, "from round {start}");
    }
    let matters = starts.filter(|&start| ballots_from(start, None) != run.ballots[start..]).count();
    assert!(matters > 0, "or a momentum of zero would do as well");
}

#[test]
fn a_momentum_that_does_not_fit_is_refused_and_the_old_one_stays() {
    let (data, solo) = (data(), solo(AggregateKind::Vote, 0.9, 5));
    let mut trainer = trainer(&data, &solo);
    trainer.restore_momentum(vec![1.0; 4]).unwrap();
    let error = trainer.restore_momentum(vec![0.0; 3]).unwrap_err();
    assert_eq!(error.to_string(), "coordinates of the momentum: expected 4, got 3");
    let error = trainer.restore_momentum(vec![0.0, f32::NAN, 0.0, 0.0]).unwrap_err();
    assert_eq!(error.to_string(), "momentum: expected finite numbers, got NaN");
    assert_eq!(trainer.momentum(), [1.0; 4]);
}

#[test]
fn a_dense_run_has_no_momentum_at_the_worker() {
    let (data, solo) = (data(), solo(AggregateKind::Mean, 0.9, 5));
    let mut trainer = trainer(&data, &solo);
    assert!(trainer.momentum().is_empty());
    trainer.restore_momentum(vec![]).unwrap();
    assert!(trainer.restore_momentum(vec![0.0; 4]).is_err());
}

#[test]
fn rounds_that_closed_meanwhile_are_not_told_of() {
    let (run, data) = (whole_run(), data());
    // Round 1 was committed while the worker was busy with round 0.
    let busy = opened(0..1).chain(opened(1..2).flatten().map(Some)).chain(opened(2..4));
    let mut late = Recorded::new(&run.terms, &run.parameters, busy);
    let mut told = vec![];
    let mut trainer = trainer(&data, &late).between_rounds(|now| told.push(now.round.0));
    trainer.run(&mut late, &mut |_, _| ()).unwrap();
    drop(trainer);
    assert_eq!(told, [0, 2, 3]);
    assert_eq!(late.ballots.iter().map(|(round, ..)| round.0).collect::<Vec<_>>(), told);
}

#[test]
fn a_replaced_replica_votes_in_the_servers_round_with_the_momentum_that_it_had() {
    let (run, data) = (whole_run(), data());
    let replaced = |round| Some(Step::Replaced { round: Round(round) });
    // The state of a later round comes while round 1 is open, and its opening only after a while.
    let elsewhere = [Some(Step::Open { round: Round(1) }), replaced(7), None].into_iter().chain(opened(7..8));
    // The state of the open round itself: it stays open.
    let here = opened(0..1).chain([Some(Step::Open { round: Round(1) }), replaced(1), None]);
    for (script, rounds) in [(Vec::from_iter(elsewhere), &[7][..]), (Vec::from_iter(here), &[0, 1])] {
        let mut exchange = Recorded::new(&run.terms, &run.parameters, script);
        let mut momenta = vec![];
        let mut trainer = trainer(&data, &exchange).between_rounds(|now| momenta.push(now.momentum.to_vec()));
        trainer.restore_momentum(vec![3.0; 4]).unwrap();
        trainer.run(&mut exchange, &mut |_, _| ()).unwrap();
        drop(trainer);
        assert_eq!(exchange.ballots.iter().map(|(round, ..)| round.0).collect::<Vec<_>>(), rounds);
        assert_eq!(momenta[0], [3.0; 4]);
        if let Some(second) = momenta.get(1) {
            assert!(second.iter().all(|v| *v != 0.0 && *v != 3.0), "{second:?}: one gradient further");
        }
    }
}
