//! A worker's batches, made ahead where that takes long.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, sync_channel};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{Dataset, Error, Examples, Sampler};

/// Batches that are made while an earlier one is computed with.
const AHEAD: u64 = 2;

/// The batches of one worker, round after round.
///
/// Images in files are decoded on threads of their own, as many as there are processors, for the rounds after the one
/// that was asked for: rounds come in order, and where one is skipped what was made for it is thrown away.
pub(crate) struct Loader {
    data: Dataset,
    sampler: Sampler,
    current: Examples,
    /// `None` where a batch is made as fast as it is copied.
    ahead: Option<Ahead>,
}

struct Ahead {
    pool: ThreadPool,
    /// In order of their rounds.
    coming: VecDeque<(u64, Receiver<Result<Examples, Error>>)>,
    /// Memory for more.
    spare: Vec<Examples>,
}

impl Loader {
    pub(crate) fn new(data: Dataset, sampler: Sampler) -> Result<Self, Error> {
        let pool = || {
            let pool = ThreadPoolBuilder::new().thread_name(|index| format!("decode-{index}")).build();
            let pool =
                pool.map_err(|error| Error::Engine { reason: format!("cannot start threads: {error}") });
            pool.map(|pool| Ahead { pool, coming: VecDeque::new(), spare: Vec::new() })
        };
        let ahead = data.is_slow().then(pool).transpose()?;
        Ok(Self { data, sampler, current: Examples::default(), ahead })
    }

    /// The batch of `round`.
    pub(crate) fn batch(&mut self, round: u64) -> Result<&Examples, Error> {
        let Some(ahead) = &mut self.ahead else {
            let seed = self.sampler.seed(round);
            self.data.fill(self.sampler.batch(round), Some(seed), &mut self.current)?;
            return Ok(&self.current);
        };
        while ahead.coming.front().is_some_and(|(of, _)| *of != round) {
            ahead.coming.pop_front();
        }
        let first = ahead.coming.back().map_or(round, |(of, _)| of + 1);
        // One that is to come may have no round after it that has a number.
        for round in first..=round.saturating_add(AHEAD) {
            let (data, indices, seed) =
                (self.data.clone(), self.sampler.batch(round).to_vec(), self.sampler.seed(round));
            let mut examples = ahead.spare.pop().unwrap_or_default();
            let (sender, receiver) = sync_channel(1);
            ahead.pool.spawn(move || {
                let outcome = data.fill(&indices, Some(seed), &mut examples);
                // Nobody waits for a round that was skipped.
                let _ = sender.send(outcome.map(|()| examples));
            });
            ahead.coming.push_back((round, receiver));
        }
        let made = ahead.coming.pop_front().and_then(|(_, receiver)| receiver.recv().ok());
        let made = made.unwrap_or_else(|| Err(Error::Engine { reason: "a batch was not made".into() }))?;
        ahead.spare.push(std::mem::replace(&mut self.current, made));
        Ok(&self.current)
    }
}
