//! Engines whose gradient comes in pieces.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;

/// Five chunks of 64 and one that is shorter.
const DIMENSION: usize = 5 * 64 + 10;

/// A gradient that depends on x, batch and coordinate, in pieces of a given length, last layers first; or at once.
struct Wide {
    piece: Option<usize>,
    /// From this call on, one coordinate is NaN.
    broken_from: u64,
    calls: u64,
    gradient: Vec<f32>,
    /// Coordinates that are still to be computed.
    left: Rc<RefCell<usize>>,
}

impl Wide {
    fn new(piece: Option<usize>, broken_from: u64) -> Self {
        Self { piece, broken_from, calls: 0, gradient: vec![], left: Rc::default() }
    }
}

impl Engine for Wide {
    fn dimension(&self) -> usize {
        DIMENSION
    }

    fn gradient(&mut self, x: &[f32], batch: Batch<'_>, gradient: &mut [f32]) -> Result<Loss, Error> {
        let of_batch: f32 = pixels(batch).iter().enumerate().map(|(at, pixel)| pixel * (at % 7) as f32).sum();
        for (at, (gradient, x)) in gradient.iter_mut().zip(x).enumerate() {
            *gradient = x + (of_batch * (1 + at % 11) as f32).sin();
        }
        if self.calls >= self.broken_from {
            gradient[200] = f32::NAN;
        }
        self.calls += 1;
        self.loss(x, &[], batch)
    }

    fn forward(&mut self, x: &[f32], batch: Batch<'_>, gradient: &mut [f32]) -> Result<Loss, Error> {
        let loss = self.gradient(x, batch, gradient)?;
        if self.piece.is_some() {
            // It has memory of its own.
            self.gradient = gradient.to_vec();
            gradient.fill(7.0);
        }
        Ok(loss)
    }

    fn backward(
        &mut self,
        gradient: &mut [f32],
        piece: &mut dyn FnMut(Range<usize>, &[f32]),
    ) -> Result<(), Error> {
        let Some(length) = self.piece else {
            piece(0..gradient.len(), gradient);
            return Ok(());
        };
        let mut end = DIMENSION;
        while end > 0 {
            let start = end.saturating_sub(length);
            *self.left.borrow_mut() = start;
            piece(start..end, &self.gradient[start..end]);
            end = start;
        }
        Ok(())
    }

    fn loss(&mut self, x: &[f32], _: &[f32], batch: Batch<'_>) -> Result<Loss, Error> {
        Ok(Loss { mean_loss: x[0] * x[0], correct: 0, samples: batch.labels.len() })
    }
}

fn wide_layout() -> Layout {
    Layout::new(vec![
        TensorSpec { name: "first".into(), shape: vec![150] },
        TensorSpec { name: "second".into(), shape: vec![DIMENSION - 150] },
    ])
    .unwrap()
}

/// How a run went: outcome, parameters, momentum, and of each chunk cast the round, where it begins and what was left to
/// compute.
type Run = (Result<Summary, String>, Vec<u32>, Vec<u32>, Vec<(u64, usize, usize)>);

fn train(piece: Option<usize>, broken_from: u64) -> Run {
    let (data, mut chunks) = (data(), vec![]);
    let mut solo = solo_of(wide_layout(), AggregateKind::Vote, 0.9, 3);
    let engine = Wide::new(piece, broken_from);
    let left = Rc::clone(&engine.left);
    let trainer = Trainer::new(Box::new(engine), &data, wide_layout(), Partition::Iid, &solo);
    let mut trainer = trainer.unwrap().tampered(|sent| {
        if let Outgoing::Ballot { round, coordinates, .. } = sent {
            chunks.push((round.0, coordinates.start, *left.borrow()));
        }
    });
    let outcome = trainer.run(&mut solo, &mut |_, _| ()).map_err(|error| error.to_string());
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let (x, momentum) = (bits(solo.parameters()), bits(trainer.momentum()));
    drop(trainer);
    (outcome, x, momentum, chunks)
}

#[test]
fn a_gradient_in_pieces_trains_the_same_model_bit_for_bit() {
    let at_once = train(None, u64::MAX);
    assert_eq!(at_once.0.as_ref().unwrap().rounds, Round(ROUNDS));
    for piece in [1, 37, 64, 100, DIMENSION] {
        let in_pieces = train(Some(piece), u64::MAX);
        assert_eq!(
            (&in_pieces.0, &in_pieces.1, &in_pieces.2),
            (&at_once.0, &at_once.1, &at_once.2),
            "{piece}"
        );
    }
}

#[test]
fn early_pieces_are_voted_on_before_the_engine_has_finished() {
    let (_, _, _, chunks) = train(Some(37), u64::MAX);
    let first_round: Vec<_> = chunks.iter().filter(|(round, ..)| *round == 0).collect();
    assert_eq!(
        first_round.iter().map(|(_, start, _)| *start).collect::<Vec<_>>(),
        [320, 256, 192, 128, 64, 0]
    );
    for (_, start, left) in first_round {
        assert!(*left <= *start && start - left < 37, "chunk at {start}, {left} coordinates were left");
    }
}

#[test]
fn a_gradient_in_pieces_that_stays_non_finite_stops_the_worker_and_names_the_parameter() {
    let (in_pieces, at_once) = (train(Some(37), 10), train(None, 10));
    assert_eq!((&in_pieces.0, &in_pieces.1, &in_pieces.2), (&at_once.0, &at_once.1, &at_once.2));
    let error = in_pieces.0.unwrap_err();
    assert!(error.starts_with("the gradient of second was not finite in 3 rounds in a row"), "{error}");
    assert!(error.contains("round 12"), "{error}");
}
