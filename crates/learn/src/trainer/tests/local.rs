//! Several workers in one process that cast one ballot.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::LocalEngines;

/// `Linear`, ready at times that differ, and its batches.
struct Slow {
    engine: Linear,
    delays_us: Vec<u64>,
    seen: Arc<Mutex<Vec<Vec<f32>>>>,
}

impl Engine for Slow {
    fn dimension(&self) -> usize {
        self.engine.dimension()
    }

    fn gradient(&mut self, x: &[f32], batch: Batch<'_>, gradient: &mut [f32]) -> Result<Loss, Error> {
        self.delays_us.rotate_left(1);
        std::thread::sleep(Duration::from_micros(self.delays_us[0]));
        self.seen.lock().unwrap().push(pixels(batch).to_vec());
        self.engine.gradient(x, batch, gradient)
    }

    fn loss(&mut self, x: &[f32], _: &[f32], batch: Batch<'_>) -> Result<Loss, Error> {
        self.engine.loss(x, &[], batch)
    }
}

fn linear() -> Linear {
    Linear { broken_from: u64::MAX, calls: 0 }
}

/// One engine that does one after the other what local workers do at the same time.
struct Average {
    count: usize,
}

impl Engine for Average {
    fn dimension(&self) -> usize {
        4
    }

    fn local_workers(&self) -> usize {
        self.count
    }

    fn gradient(&mut self, x: &[f32], batch: Batch<'_>, gradient: &mut [f32]) -> Result<Loss, Error> {
        gradient.fill(0.0);
        let (share, mut losses, mut part) = (batch.labels.len() / self.count, vec![], vec![0.0; 4]);
        for (images, labels) in pixels(batch).chunks(share * 4).zip(batch.labels.chunks(share)) {
            let batch = Batch { inputs: Inputs::Pixels(images), labels, seed: 0 };
            losses.push(linear().gradient(x, batch, &mut part)?);
            gradient.iter_mut().zip(&part).for_each(|(sum, g)| *sum += g);
        }
        gradient.iter_mut().for_each(|sum| *sum /= self.count as f32);
        let sum: f64 = losses.iter().map(|loss| f64::from(loss.mean_loss)).sum();
        let samples = losses.iter().map(|loss| loss.samples).sum();
        Ok(Loss { mean_loss: (sum / self.count as f64) as f32, correct: 0, samples })
    }

    fn loss(&mut self, x: &[f32], _: &[f32], batch: Batch<'_>) -> Result<Loss, Error> {
        linear().loss(x, &[], batch)
    }
}

type Seen = Arc<Mutex<Vec<Vec<f32>>>>;

fn slow(count: usize, turn: usize) -> (Box<dyn Engine>, Vec<Seen>) {
    let seen: Vec<Seen> = (0..count).map(|_| Seen::default()).collect();
    let engine = |(number, seen): (usize, &Seen)| -> Box<dyn Engine + Send> {
        let mut delays_us = vec![0, 300, 10, 900, 50];
        delays_us.rotate_left((number + turn) % 5);
        Box::new(Slow { engine: linear(), delays_us, seen: Arc::clone(seen) })
    };
    let engines = seen.iter().enumerate().map(engine).collect();
    (Box::new(LocalEngines::new(engines, 1).unwrap()), seen)
}

fn train_with(engine: Box<dyn Engine>, beta: f32) -> (Vec<Loss>, Vec<f32>, Vec<f32>) {
    let (data, mut solo, mut losses) = (data(), solo(AggregateKind::Vote, beta, 5), vec![]);
    let mut trainer = Trainer::new(engine, &data, layout(), Partition::Iid, &solo).unwrap();
    trainer.run(&mut solo, &mut |_, loss| losses.push(loss)).unwrap();
    (losses, solo.parameters().to_vec(), trainer.momentum().to_vec())
}

#[test]
fn local_workers_together_are_one_worker_with_the_mean_of_their_gradients() {
    for count in [1, 2, 3, 4] {
        let (engine, _) = slow(count, 0);
        let together = train_with(engine, 0.9);
        assert_eq!(together, train_with(Box::new(Average { count }), 0.9), "{count} local workers");
        assert!(together.0.iter().all(|loss| loss.samples == 16 * count));
        // Whatever the order in which they are ready.
        for turn in 1..4 {
            assert_eq!(together, train_with(slow(count, turn).0, 0.9), "{count} local workers, turn {turn}");
        }
    }
}

#[test]
fn local_workers_see_what_as_many_places_would_see() {
    let (engine, seen) = slow(3, 0);
    train_with(engine, 0.0);
    let data = data();
    let mut examples = Examples::default();
    for (number, seen) in seen.iter().enumerate() {
        let mut place = Sampler::new(data.labels(), 3, number, 16, 5, Partition::Iid).unwrap();
        for (round, seen) in seen.lock().unwrap().iter().enumerate() {
            data.fill(place.batch(round as u64), None, &mut examples).unwrap();
            assert_eq!(*seen, examples.pixels, "local worker {number} in round {round}");
        }
    }
}

#[test]
fn data_that_has_not_a_batch_for_every_local_worker_is_refused() {
    let (data, solo) = (data(), solo(AggregateKind::Vote, 0.9, 5));
    let error = Trainer::new(slow(5, 0).0, &data, layout(), Partition::Iid, &solo).err().unwrap();
    assert_eq!(error.to_string(), "examples for one round: expected at least 1 workers times 80, got 64");
}

#[test]
fn a_local_worker_that_is_not_finite_makes_its_coordinate_abstain_and_is_named() {
    let broken = Linear { broken_from: 10, calls: 0 };
    let engines: Vec<Box<dyn Engine + Send>> = vec![Box::new(linear()), Box::new(broken)];
    let (data, mut solo) = (data(), solo(AggregateKind::Vote, 0.9, 3));
    let engine = Box::new(LocalEngines::new(engines, 1).unwrap());
    let mut trainer = Trainer::new(engine, &data, layout(), Partition::Iid, &solo).unwrap();
    let error = trainer.run(&mut solo, &mut |_, _| ()).unwrap_err();
    assert!(
        matches!(&error, Error::NonFinite { parameter, rounds: 3, round: 12 } if parameter == "second"),
        "{error}"
    );
    assert!(solo.parameters().iter().all(|x| x.is_finite()));
}
