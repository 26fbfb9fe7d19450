//! The seam between learning and voting.

use std::time::Duration;

use crate::{Config, Error, Greeting, Origin, Output, PeerId, Position, Server, Slot, Step, Terms, Voter};

/// Why an exchange cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The protocol was broken, or the server refused this worker.
    #[error(transparent)]
    Protocol(#[from] Error),
    /// One side does not take the other for who it should be.
    #[error("{0}")]
    Untrusted(String),
    /// The other side cannot be reached, or is gone.
    #[error("{0}")]
    Lost(String),
}

/// One worker's way to take part in a run, whatever lies between it and the others.
///
/// The caller's loop: [`next`](Self::next) until it says [`Step::Open`]; compute a gradient at
/// [`parameters`](Self::parameters); [`report`](Self::report); hand in the ballot range by range with
/// [`submit_signs`](Self::submit_signs) (or [`submit_gradient`](Self::submit_gradient) in a dense run), in any
/// order, as early as a range is ready; then [`next`](Self::next) again. Verdicts of early ranges arrive while
/// later ones are still being handed in.
pub trait Exchange {
    /// The terms of the run.
    fn terms(&self) -> &Terms;

    /// This worker's place.
    fn slot(&self) -> Slot;

    /// The replica x, d parameters, as of the last committed round.
    fn parameters(&self) -> &[f32];

    /// What has been committed, as far as this worker has seen it.
    fn position(&self) -> Position;

    /// The next step of the run; waits for it.
    ///
    /// # Errors
    /// If the server is lost or refuses to go on.
    fn next(&mut self) -> Result<Step, ExchangeError>;

    /// The next step if it has come already.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    fn try_next(&mut self) -> Result<Option<Step>, ExchangeError>;

    /// How the batch of the open round went; before its ballot. `non_finite` counts coordinates.
    ///
    /// # Errors
    /// If the server is lost.
    fn report(&mut self, loss: f32, correct: u32, samples: u32, non_finite: u64)
    -> Result<(), ExchangeError>;

    /// Hands in whole chunks of the ballot, from word `first_word` on: `signs` and `abstain` are equally long.
    ///
    /// # Errors
    /// If the range does not start and end at chunks, was handed in before, or the server is lost.
    fn submit_signs(
        &mut self,
        first_word: usize,
        signs: &[u64],
        abstain: &[u64],
    ) -> Result<(), ExchangeError>;

    /// Hands in whole chunks of a dense gradient, from coordinate `first` on.
    ///
    /// # Errors
    /// As [`submit_signs`](Self::submit_signs).
    fn submit_gradient(&mut self, first: usize, gradient: &[f32]) -> Result<(), ExchangeError>;

    /// Whether the run is over and its server waits for the running statistics of this worker's model.
    fn wants_statistics(&self) -> bool {
        false
    }

    /// The running statistics of the model at [`parameters`](Self::parameters), on this worker's data; none where it has none to
    /// give after all. Only when they are [wanted](Self::wants_statistics).
    ///
    /// # Errors
    /// If there are more than the server takes.
    fn submit_statistics(&mut self, values: &[f32]) -> Result<(), ExchangeError> {
        let _ = values;
        Ok(())
    }

    /// The next range may be long in coming: what has been handed in goes out now. Ranges that follow each other closely may
    /// otherwise wait for a few more of them; the last one, and everything that waits for the server, sends all.
    ///
    /// # Errors
    /// If the server is lost.
    fn flush(&mut self) -> Result<(), ExchangeError> {
        Ok(())
    }
}

/// A server and its only worker in one process: the smallest exchange, in which one voter decides alone.
///
/// With β = 0 that is signSGD, else Signum, on one machine. No thread, no socket.
#[derive(Debug)]
pub struct Solo {
    server: Server,
    voter: Voter,
    terms: Terms,
    slot: Slot,
}

const SOLO: PeerId = PeerId(1);
const NOW: Duration = Duration::ZERO;

impl Solo {
    /// A run of one worker.
    ///
    /// # Errors
    /// If the configuration contradicts itself or refuses the worker.
    pub fn new(
        config: Config,
        greeting: Greeting,
        initial: impl FnOnce(&Terms) -> Vec<f32>,
    ) -> Result<Self, ExchangeError> {
        let mut server = Server::new(config)?;
        server.connected(NOW, SOLO, Origin::default());
        let mut voter = Voter::new(greeting);
        pump(&mut server, &mut voter)?;
        let (Some(Step::Welcomed), Some(terms), Some(slot)) =
            (voter.poll_step(), voter.terms().cloned(), voter.place())
        else {
            return Err(lost());
        };
        voter.provide(initial(&terms))?;
        Ok(Self { server, voter, terms, slot })
    }
}

/// Carries frames between the two until neither has any.
fn pump(server: &mut Server, voter: &mut Voter) -> Result<(), ExchangeError> {
    loop {
        let mut quiet = true;
        while let Some(frame) = voter.poll_transmit() {
            server.handle(NOW, SOLO, &frame);
            quiet = false;
        }
        while let Some(output) = server.poll() {
            if let Output::Send { frame, .. } = output {
                voter.handle(&frame)?;
                quiet = false;
            }
        }
        if quiet {
            return Ok(());
        }
    }
}

fn lost() -> ExchangeError {
    ExchangeError::Lost("the election stands still: its server waits for something that never comes".into())
}

impl Exchange for Solo {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn slot(&self) -> Slot {
        self.slot
    }

    fn parameters(&self) -> &[f32] {
        self.voter.parameters()
    }

    fn position(&self) -> Position {
        self.voter.position()
    }

    fn next(&mut self) -> Result<Step, ExchangeError> {
        self.try_next()?.ok_or_else(lost)
    }

    fn try_next(&mut self) -> Result<Option<Step>, ExchangeError> {
        pump(&mut self.server, &mut self.voter)?;
        Ok(self.voter.poll_step())
    }

    fn report(
        &mut self,
        loss: f32,
        correct: u32,
        samples: u32,
        non_finite: u64,
    ) -> Result<(), ExchangeError> {
        Ok(self.voter.report(loss, correct, samples, non_finite)?)
    }

    fn submit_signs(
        &mut self,
        first_word: usize,
        signs: &[u64],
        abstain: &[u64],
    ) -> Result<(), ExchangeError> {
        Ok(self.voter.submit_signs(first_word, signs, abstain)?)
    }

    fn submit_gradient(&mut self, first: usize, gradient: &[f32]) -> Result<(), ExchangeError> {
        Ok(self.voter.submit_gradient(first, gradient)?)
    }

    fn wants_statistics(&self) -> bool {
        self.voter.wants_statistics()
    }

    fn submit_statistics(&mut self, values: &[f32]) -> Result<(), ExchangeError> {
        Ok(self.voter.submit_statistics(values)?)
    }
}
