//! A ballot that is cast while its gradient is still being computed.

use std::ops::Range;

use signvote_election::{Chunking, Exchange, Round, Terms, Values};
use signvote_kernels::{AbstainOn, words};

use crate::trainer::{Outgoing, report};
use crate::{Error, Form, Loss};

/// One worker's momentum, and how its gradients become ballots.
///
/// A gradient comes in pieces, in any order, as its engine makes them. As soon as a chunk (a [`Terms`]'
/// `chunk_coordinates`) is whole it is moved into the momentum, packed and handed to the [`Exchange`], which carries it while
/// the engine goes on. Momentum and packing work coordinate by coordinate: the ballot is the same, bit for bit,
/// whatever the pieces and their order.
///
/// [`Trainer`](crate::Trainer) casts its ballots this way; this is for who has a loop of their own:
///
/// ```no_run
/// # use signvote_election::{Exchange, ExchangeError, Round};
/// # use signvote_learn::{Caster, Error, Loss};
/// # fn vote(
/// #     caster: &mut Caster,
/// #     exchange: &mut dyn Exchange,
/// #     round: Round,
/// #     forward: impl Fn(&[f32]) -> Loss,
/// #     backward: impl Fn(&mut dyn FnMut(std::ops::Range<usize>, &[f32])),
/// # ) -> Result<(), Error> {
/// // `round` is open, and `caster` was made from the exchange's terms.
/// let loss = forward(exchange.parameters());
/// let mut casting = caster.cast(exchange, round, loss);
/// backward(&mut |coordinates, gradient| casting.piece(coordinates, gradient));
/// let cast = casting.finish()?;
/// # let _ = cast;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Caster {
    chunking: Chunking,
    form: Form,
    beta: f32,
    abstain_on: AbstainOn,
    momentum: Values,
    /// Planes of the chunk that is being packed.
    signs: Vec<u64>,
    abstain: Vec<u64>,
    /// What of the gradient has come.
    received: Coverage,
    /// Chunks that have come in part, and memory for more.
    begun: Vec<Option<Vec<f32>>>,
    spare: Vec<Vec<f32>>,
}

impl Caster {
    /// Casts ballots of this form over `dimension` coordinates on these terms; the momentum is zero.
    ///
    /// # Errors
    /// [`Error::Misuse`] when the terms' chunks are none that an election has.
    pub fn new(terms: &Terms, form: Form, dimension: usize) -> Result<Self, Error> {
        let length = terms.chunk_coordinates as usize;
        let chunking = Chunking::new(dimension, length)
            .ok_or_else(|| Error::misuse("coordinates of a chunk", "a multiple of 64 up to 65536", length))?;
        let planes = words(chunking.coordinates(0).len());
        Ok(Self {
            chunking,
            form,
            beta: terms.beta,
            abstain_on: terms.abstain_on,
            momentum: Values::zeros(dimension),
            signs: vec![0; planes],
            abstain: vec![0; planes],
            received: Coverage::default(),
            begun: vec![None; chunking.count()],
            spare: Vec::new(),
        })
    }

    /// The momentum v, or what else the form remembers; d coordinates.
    pub fn momentum(&self) -> &[f32] {
        &self.momentum
    }

    /// Goes on with this momentum.
    ///
    /// # Errors
    /// [`Error::Misuse`] when it has not d coordinates, or one is not finite: it would outvote every gradient to come. The
    /// old momentum is then still there.
    pub fn restore_momentum(&mut self, momentum: Vec<f32>) -> Result<(), Error> {
        if momentum.len() != self.momentum.len() {
            return Err(Error::misuse("coordinates of the momentum", self.momentum.len(), momentum.len()));
        }
        if let Some(value) = momentum.iter().find(|value| !value.is_finite()) {
            return Err(Error::misuse("momentum", "finite numbers", value));
        }
        self.momentum = momentum.into();
        Ok(())
    }

    /// Begins the ballot of `round`, which is open in `exchange`, of a batch with this loss.
    pub fn cast<'a>(&'a mut self, exchange: &'a mut dyn Exchange, round: Round, loss: Loss) -> Casting<'a> {
        self.received.0.clear();
        self.spare.extend(self.begun.iter_mut().filter_map(Option::take));
        let cast = Cast { non_finite: 0, first_non_finite: None };
        Casting { caster: self, exchange, round, loss, tamper: None, chunks: 0, cast, outcome: Ok(()) }
    }
}

/// What a whole ballot had in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast {
    /// Coordinates that abstain because they, or what they would have made of the momentum, were not finite.
    pub non_finite: usize,
    /// The lowest of the coordinates whose gradient was not finite.
    pub first_non_finite: Option<usize>,
}

/// A ballot on its way.
///
/// Where it is dropped before its end, the chunks that were whole are cast, and the momentum has moved in these.
pub struct Casting<'a> {
    caster: &'a mut Caster,
    exchange: &'a mut dyn Exchange,
    round: Round,
    loss: Loss,
    tamper: Option<&'a mut dyn FnMut(Outgoing<'_>)>,
    /// Chunks cast.
    chunks: usize,
    cast: Cast,
    outcome: Result<(), Error>,
}

impl<'a> Casting<'a> {
    /// Passes every chunk through `tamper`, if there is one, before it is cast.
    pub(crate) fn tampered(mut self, tamper: Option<&'a mut dyn FnMut(Outgoing<'_>)>) -> Self {
        self.tamper = tamper;
        self
    }

    /// Takes in the gradient of these coordinates, and casts the chunks that are whole by now.
    ///
    /// What goes wrong is told by [`finish`](Self::finish), and later pieces are then not looked at: an engine in the
    /// midst of its backward pass could do nothing about it.
    pub fn piece(&mut self, coordinates: Range<usize>, gradient: &[f32]) {
        if self.outcome.is_ok() {
            self.outcome = self.take(coordinates, gradient);
        }
    }

    /// Ends the ballot.
    ///
    /// # Errors
    /// [`Error::Exchange`] if the exchange broke; [`Error::Engine`] if the pieces were not every coordinate once.
    pub fn finish(self) -> Result<Cast, Error> {
        self.outcome?;
        if self.chunks < self.caster.chunking.count() {
            let (d, got) = (self.caster.chunking.dimension(), self.caster.received.count());
            return Err(wrong(format!("it ended its backward pass after {got} of {d} coordinates")));
        }
        Ok(self.cast)
    }

    fn take(&mut self, coordinates: Range<usize>, gradient: &[f32]) -> Result<(), Error> {
        let chunking = self.caster.chunking;
        if coordinates.len() != gradient.len() || coordinates.end > chunking.dimension() {
            let (d, got) = (chunking.dimension(), gradient.len());
            return Err(wrong(format!("it gave {got} values for coordinates {coordinates:?} of {d}")));
        }
        if coordinates.is_empty() {
            return Ok(());
        }
        let Some(known) = self.caster.received.add(coordinates.clone()) else {
            return Err(wrong(format!("it gave coordinates {coordinates:?}, or some of them, twice")));
        };
        let length = chunking.coordinates(0).len();
        for chunk in coordinates.start / length..coordinates.end.div_ceil(length) {
            let whole = chunking.coordinates(chunk);
            let here = whole.start.max(coordinates.start)..whole.end.min(coordinates.end);
            let part = &gradient[here.start - coordinates.start..here.end - coordinates.start];
            if here == whole {
                self.chunk(chunk, part)?;
                continue;
            }
            let caster = &mut *self.caster;
            let begun = caster.begun[chunk].get_or_insert_with(|| caster.spare.pop().unwrap_or_default());
            begun.resize(whole.len(), 0.0);
            begun[here.start - whole.start..here.end - whole.start].copy_from_slice(part);
            if known.start <= whole.start && whole.end <= known.end {
                let gradient = caster.begun[chunk].take().unwrap_or_default();
                self.chunk(chunk, &gradient)?;
                self.caster.spare.push(gradient);
            }
        }
        // The next piece may be long in coming.
        self.exchange.flush()?;
        Ok(())
    }

    /// Packs and casts a whole chunk.
    fn chunk(&mut self, chunk: usize, gradient: &[f32]) -> Result<(), Error> {
        let caster = &mut *self.caster;
        let coordinates = caster.chunking.coordinates(chunk);
        let planes = words(coordinates.len());
        let (signs, abstain) = (&mut caster.signs[..planes], &mut caster.abstain[..planes]);
        let momentum = &mut caster.momentum[coordinates.clone()];
        let packed = caster.form.cast(gradient, momentum, caster.beta, caster.abstain_on, signs, abstain);
        let Cast { non_finite, first_non_finite } = &mut self.cast;
        *non_finite += packed.non_finite;
        if packed.non_finite > 0
            && let Some(at) = gradient.iter().position(|g| !g.is_finite())
        {
            let at = coordinates.start + at;
            *first_non_finite = Some(first_non_finite.map_or(at, |first| first.min(at)));
        }
        if let Some(tamper) = &mut self.tamper {
            tamper(Outgoing::Ballot { round: self.round, coordinates, signs, abstain });
        }
        self.chunks += 1;
        // The report counts the whole ballot and must come before the round can close, so it goes out just before
        // the last chunk, whichever that is.
        if self.chunks == caster.chunking.count() {
            report(self.exchange, self.loss, self.cast.non_finite)?;
        }
        self.exchange.submit_signs(caster.chunking.words(chunk).start, signs, abstain)?;
        Ok(())
    }
}

fn wrong(reason: String) -> Error {
    Error::Engine { reason }
}

/// A set of coordinates: disjoint ranges in order, none of which touches the next.
#[derive(Debug, Default)]
struct Coverage(Vec<Range<usize>>);

impl Coverage {
    /// Adds a range that is not empty, and gives the range of known coordinates that it is now part of; `None` if some of
    /// them were there before.
    fn add(&mut self, new: Range<usize>) -> Option<Range<usize>> {
        let at = self.0.partition_point(|known| known.end < new.start);
        // What touches or overlaps it from below, and from above.
        let mut joined = new.clone();
        let mut until = at;
        while let Some(known) = self.0.get(until).filter(|known| known.start <= new.end) {
            if known.start < new.end && new.start < known.end {
                return None;
            }
            joined = joined.start.min(known.start)..joined.end.max(known.end);
            until += 1;
        }
        self.0.splice(at..until, [joined.clone()]);
        Some(joined)
    }

    fn count(&self) -> usize {
        self.0.iter().map(Range::len).sum()
    }
}

#[cfg(test)]
mod tests;
