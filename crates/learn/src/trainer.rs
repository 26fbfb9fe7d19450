//! A worker's loop: a gradient at x, momentum and signs, a ballot, a verdict.

use std::ops::Range;

use signvote_election::{AggregateKind, Exchange, Layout, Round, Step, Terms};

use crate::engine::{MeanStatistics, STATISTICS_EXAMPLES};
use crate::loader::Loader;
use crate::{Cast, Caster, Dataset, Engine, Error, GradientRule, Loss, Partition, Sampler};

/// What a worker is about to send, for who wants to tamper with it (an adversary in an experiment).
#[derive(Debug)]
pub enum Outgoing<'a> {
    /// A chunk of a ballot: chunks come in the order in which the engine makes their gradients.
    Ballot {
        /// The round voted in.
        round: Round,
        /// The coordinates of the whole model that this range covers.
        coordinates: Range<usize>,
        /// Sign plane, bit 1 for negative.
        signs: &'a mut [u64],
        /// Abstention plane.
        abstain: &'a mut [u64],
    },
    /// A whole dense gradient.
    Gradient {
        /// The round.
        round: Round,
        /// d coordinates.
        gradient: &'a mut [f32],
    },
    /// The running statistics of the finished model.
    Statistics {
        /// Rounds committed.
        round: Round,
        /// As many as the model has.
        values: &'a mut [f32],
    },
}

/// How a worker's part in a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Rounds committed.
    pub rounds: Round,
    /// Why it ended, in the server's words.
    pub reason: String,
    /// Why the model's running statistics could not be taken, where the server wanted them. The training is none the worse.
    pub without_statistics: Option<String>,
}

/// A worker between two rounds: all that it needs to go on from here another time.
pub struct Snapshot<'a> {
    /// Rounds committed, which is the round that it votes in next. It is also the position in the data, because a
    /// batch is a function of seed, round and place.
    pub round: Round,
    /// Momentum of all gradients before this round; empty in a dense run, where the server keeps it.
    pub momentum: &'a [f32],
    /// Where the parameters after so many rounds are.
    pub exchange: &'a dyn Exchange,
}

/// One worker's training: engine, data and momentum. The parameters live in the exchange.
///
/// In a vote the ballot goes out chunk by chunk while the engine computes the rest of the gradient, as early as the engine
/// hands it in ([`Engine::backward`]). An engine that computes for several workers ([`Engine::local_workers`]) is given the
/// batch of each, one after the other, and casts one ballot.
///
/// What it needs to go on after a restart is the momentum alone, for [`restore_momentum`](Self::restore_momentum):
/// the [`Sampler`] has no position of its own but the round, and the round and x come from the exchange.
///
/// The momentum follows the gradients that were computed, not the ballots that counted: where a round closed while its
/// gradient was being computed, the ballot is dropped and the momentum keeps the gradient. It also stays where the
/// replica is replaced by the server's ([`Step::Replaced`]): it is a mean over some 1/(1−β) gradients, and a few that
/// were taken at another x do less harm than none at all.
pub struct Trainer<'a> {
    engine: Box<dyn Engine>,
    loader: Loader,
    /// In all the data.
    examples: usize,
    layout: Layout,
    terms: Terms,
    rule: GradientRule,
    /// Holds the momentum; `None` in a dense run.
    caster: Option<Caster>,
    gradient: Vec<f32>,
    /// Rounds in a row in which the gradient was not finite somewhere.
    non_finite_rounds: u32,
    tamper: Option<Tamper<'a>>,
    between: Option<Between<'a>>,
}

type Tamper<'a> = Box<dyn FnMut(Outgoing<'_>) + 'a>;
type Between<'a> = Box<dyn FnMut(Snapshot<'_>) + 'a>;

impl<'a> Trainer<'a> {
    /// A trainer on the terms of a run, for the place of `exchange`.
    ///
    /// # Errors
    /// If engine and layout differ in d, or the data is too small for the terms: it must have a batch for each of the
    /// engine's local workers, in every place. If the terms name a form of ballots that this program does not have.
    pub fn new(
        engine: Box<dyn Engine>,
        data: &Dataset,
        layout: Layout,
        partition: Partition,
        exchange: &dyn Exchange,
    ) -> Result<Self, Error> {
        let terms = exchange.terms().clone();
        let dimension = engine.dimension();
        if layout.dimension() != dimension {
            return Err(Error::misuse("coordinates of the layout", dimension, layout.dimension()));
        }
        let (workers, slot) = (usize::from(terms.workers), exchange.slot().index());
        let batch = (terms.batch as usize).saturating_mul(engine.local_workers().max(1));
        let sampler = Sampler::new(data.labels(), workers, slot, batch, terms.seed, partition)?;
        let rule = GradientRule::read(&terms.settings)?;
        let caster = match terms.aggregate {
            AggregateKind::Vote => Some(Caster::new(&terms, rule.form, dimension)?),
            AggregateKind::Mean => None,
        };
        Ok(Self {
            engine,
            loader: Loader::new(data.clone(), sampler)?,
            examples: data.len(),
            layout,
            terms,
            rule,
            caster,
            gradient: vec![0.0; dimension],
            non_finite_rounds: 0,
            tamper: None,
            between: None,
        })
    }

    /// Passes everything that is sent through `tamper` first.
    #[must_use]
    pub fn tampered(mut self, tamper: impl FnMut(Outgoing<'_>) + 'a) -> Self {
        self.tamper = Some(Box::new(tamper));
        self
    }

    /// Tells `between` before each vote where this worker stands, at a moment when momentum and parameters belong
    /// together. Rounds that are not voted in are skipped: who saves every N rounds counts from the last one saved. The
    /// vote waits until `between` returns.
    #[must_use]
    pub fn between_rounds(mut self, between: impl FnMut(Snapshot<'_>) + 'a) -> Self {
        self.between = Some(Box::new(between));
        self
    }

    /// The momentum v, d coordinates; empty in a dense run, where the server keeps it.
    pub fn momentum(&self) -> &[f32] {
        momentum_of(self.caster.as_ref())
    }

    /// Goes on with the momentum of a [`Snapshot`] instead of zero.
    ///
    /// # Errors
    /// [`Error::Misuse`] when it has another length than [`momentum`](Self::momentum), or a coordinate is not finite: it
    /// would outvote every gradient to come. The old momentum is then still there.
    pub fn restore_momentum(&mut self, momentum: Vec<f32>) -> Result<(), Error> {
        match &mut self.caster {
            Some(caster) => caster.restore_momentum(momentum),
            None if momentum.is_empty() => Ok(()),
            None => Err(Error::misuse("coordinates of the momentum", 0, momentum.len())),
        }
    }

    /// Votes in every round that opens, until the run is over, and then sends the model's running statistics if the server wants them.
    /// `watch` is told the loss of each batch.
    ///
    /// A round that closed while this worker was computing is not voted in: the newest open one is.
    ///
    /// # Errors
    /// If the exchange breaks, the engine fails, or gradients are not finite for as many rounds in a row as the
    /// terms allow.
    pub fn run(
        &mut self,
        exchange: &mut dyn Exchange,
        watch: &mut dyn FnMut(Round, Loss),
    ) -> Result<Summary, Error> {
        let mut open = None;
        loop {
            let step = match open {
                None => Some(exchange.next()?),
                Some(_) => exchange.try_next()?,
            };
            match (step, open) {
                (Some(Step::Open { round }), _) => open = Some(round),
                (Some(Step::Committed { .. }), _) => open = None,
                (Some(Step::Finished { round, reason }), _) => {
                    let mut without_statistics = None;
                    if exchange.wants_statistics() {
                        let taken = self.statistics(exchange.parameters());
                        let mut values = taken.unwrap_or_else(|error| {
                            without_statistics = Some(error.to_string());
                            Vec::new()
                        });
                        if let Some(tamper) = &mut self.tamper {
                            tamper(Outgoing::Statistics { round, values: &mut values });
                        }
                        exchange.submit_statistics(&values)?;
                    }
                    return Ok(Summary { rounds: round, reason, without_statistics });
                }
                // Another round's opening is void: that of this one follows. Where the round is the same, it stays open,
                // and the gradient is taken at the new x.
                (Some(Step::Replaced { round }), _) => open = open.filter(|&open| open == round),
                (Some(_), _) => {}
                (None, Some(round)) => {
                    if let Some(between) = &mut self.between {
                        let momentum = momentum_of(self.caster.as_ref());
                        between(Snapshot { round, momentum, exchange: &*exchange });
                    }
                    let loss = self.vote(exchange, round)?;
                    watch(round, loss);
                    open = None;
                }
                // `next` waits for a step, so there is one unless a round is open.
                (None, None) => {}
            }
        }
    }

    /// The finished model's running statistics over this worker's share of up to 2,048 examples, in batches as it was trained with.
    fn statistics(&mut self, x: &[f32]) -> Result<Vec<f32>, Error> {
        let batch = (self.terms.batch as usize).saturating_mul(self.engine.local_workers().max(1));
        let of_all = batch.saturating_mul(usize::from(self.terms.workers));
        let batches = self.examples.min(STATISTICS_EXAMPLES).div_ceil(of_all) as u64;
        let mut mean = MeanStatistics::default();
        // The batches of the rounds that would have come next.
        for round in self.terms.rounds..self.terms.rounds.saturating_add(batches) {
            mean.add(&self.engine.statistics(x, self.loader.batch(round)?.batch())?);
        }
        let values = mean.take();
        match values.iter().find(|value| !value.is_finite()) {
            Some(odd) => Err(Error::Engine { reason: format!("one of the running statistics is {odd}") }),
            None => Ok(values),
        }
    }

    fn vote(&mut self, exchange: &mut dyn Exchange, round: Round) -> Result<Loss, Error> {
        let batch = self.loader.batch(round.0)?.batch();
        let Some(caster) = &mut self.caster else {
            let loss = self.engine.gradient(exchange.parameters(), batch, &mut self.gradient)?;
            self.rule.clip(&mut self.gradient);
            let non_finite = self.gradient.iter().filter(|g| !g.is_finite()).count();
            report(exchange, loss, non_finite)?;
            if let Some(tamper) = &mut self.tamper {
                tamper(Outgoing::Gradient { round, gradient: &mut self.gradient });
            }
            exchange.submit_gradient(0, &self.gradient)?;
            return Ok(loss);
        };
        // Its length is known when all of it is there.
        let whole = self.rule.clip_norm > 0.0;
        let loss = if whole {
            self.engine.gradient(exchange.parameters(), batch, &mut self.gradient)?
        } else {
            self.engine.forward(exchange.parameters(), batch, &mut self.gradient)?
        };
        let tamper = self.tamper.as_mut().map(|tamper| &mut **tamper as &mut dyn FnMut(Outgoing<'_>));
        let mut casting = caster.cast(exchange, round, loss).tampered(tamper);
        if whole {
            self.rule.clip(&mut self.gradient);
            casting.piece(0..self.gradient.len(), &self.gradient);
        } else {
            self.engine.backward(&mut self.gradient, &mut |coordinates, gradient| {
                casting.piece(coordinates, gradient);
            })?;
        }
        let cast = casting.finish()?;
        self.count_non_finite(round, cast)?;
        Ok(loss)
    }

    fn count_non_finite(&mut self, round: Round, cast: Cast) -> Result<(), Error> {
        if cast.non_finite == 0 {
            self.non_finite_rounds = 0;
            return Ok(());
        }
        self.non_finite_rounds += 1;
        let most = self.terms.max_non_finite;
        if most == 0 || self.non_finite_rounds < most {
            return Ok(());
        }
        let first = cast.first_non_finite;
        let parameter = first.and_then(|at| self.layout.tensor_at(at)).map(|tensor| tensor.name.clone());
        Err(Error::NonFinite {
            parameter: parameter.unwrap_or_else(|| "a parameter".into()),
            rounds: self.non_finite_rounds,
            round: round.0,
        })
    }
}

fn momentum_of(caster: Option<&Caster>) -> &[f32] {
    caster.map_or(&[], Caster::momentum)
}

pub(crate) fn report(exchange: &mut dyn Exchange, loss: Loss, non_finite: usize) -> Result<(), Error> {
    exchange.report(loss.mean_loss, loss.correct as u32, loss.samples as u32, non_finite as u64)?;
    Ok(())
}

#[cfg(test)]
mod tests;
