//! The trainer against the smallest exchange: one voter that decides alone.

use signvote_election::{
    Config, Greeting, Optimizer, RunId, Schedule, Settings, Shape, Slot, Solo, StepRule, TensorSpec,
};
use signvote_kernels::AbstainOn;

use super::*;
use crate::{Batch, Examples, Inputs, Scaling};

mod local;
mod pieces;
mod restored;

const ROUNDS: u64 = 40;

/// A linear model y = w·pixels with a squared loss, so that gradients can be written down.
struct Linear {
    /// From this call on, the gradient of coordinate 1 is NaN.
    broken_from: u64,
    calls: u64,
}

impl Engine for Linear {
    fn dimension(&self) -> usize {
        4
    }

    fn gradient(&mut self, x: &[f32], batch: Batch<'_>, gradient: &mut [f32]) -> Result<Loss, Error> {
        let loss = self.loss(x, &[], batch)?;
        gradient.fill(0.0);
        for (pixels, &label) in pixels(batch).chunks(4).zip(batch.labels) {
            let error = dot(x, pixels) - label as f32;
            gradient.iter_mut().zip(pixels).for_each(|(g, pixel)| *g += error * pixel);
        }
        if self.calls >= self.broken_from {
            gradient[1] = f32::NAN;
        }
        self.calls += 1;
        Ok(loss)
    }

    /// The mean output.
    fn statistics(&mut self, x: &[f32], batch: Batch<'_>) -> Result<Vec<f32>, Error> {
        let outputs = pixels(batch).chunks(4).map(|pixels| dot(x, pixels)).sum::<f32>();
        Ok(vec![outputs / batch.labels.len() as f32])
    }

    fn loss(&mut self, x: &[f32], _: &[f32], batch: Batch<'_>) -> Result<Loss, Error> {
        let errors =
            pixels(batch).chunks(4).zip(batch.labels).map(|(pixels, &label)| dot(x, pixels) - label as f32);
        let mean_loss = errors.map(|error| error * error).sum::<f32>() / batch.labels.len() as f32;
        Ok(Loss { mean_loss, correct: 0, samples: batch.labels.len() })
    }
}

fn pixels(batch: Batch<'_>) -> &[f32] {
    match batch.inputs {
        Inputs::Pixels(pixels) => pixels,
        Inputs::Tokens(_) => panic!("no images"),
    }
}

fn dot(x: &[f32], pixels: &[f32]) -> f32 {
    x.iter().zip(pixels).map(|(x, pixel)| x * pixel).sum()
}

fn data() -> Dataset {
    let images = (0..64_u32).flat_map(|i| [255, (i * 37 % 256) as u8, (i * 101 % 256) as u8, 0]).collect();
    let labels = (0..64_u32).map(|i| u16::from(i * 37 % 256 > 128)).collect();
    Dataset::grey(images, labels, [2, 2], 2, Scaling { mean: 0.0, standard_deviation: 1.0 }).unwrap()
}

fn layout() -> Layout {
    Layout::new(vec![
        TensorSpec { name: "first".into(), shape: vec![1] },
        TensorSpec { name: "second".into(), shape: vec![3] },
    ])
    .unwrap()
}

fn solo(aggregate: AggregateKind, beta: f32, max_non_finite: u32) -> Solo {
    solo_of(layout(), aggregate, beta, max_non_finite)
}

/// A run that starts at zero.
fn solo_of(layout: Layout, aggregate: AggregateKind, beta: f32, max_non_finite: u32) -> Solo {
    let terms = Terms {
        run: RunId([1; 16]),
        workers: 1,
        batch: 16,
        seed: 5,
        rounds: ROUNDS,
        aggregate,
        beta,
        abstain_on: AbstainOn::Momentum,
        chunk_coordinates: 64,
        digest_every: 10,
        max_non_finite,
        signed: false,
        step: StepRule::default(),
        settings: Settings::default(),
    };
    let config = Config {
        optimizer: Optimizer::Sgd { momentum: 0.0 },
        ..Config::new(terms, Schedule::new(0.02, 0, ROUNDS, Shape::Constant).unwrap())
    };
    let dimension = layout.dimension();
    let greeting = Greeting {
        layout,
        settings: Settings::default(),
        run: None,
        slot: Slot::new(1),
        name: "only".into(),
        key: None,
        statistics: true,
    };
    Solo::new(config, greeting, |_| vec![0.0; dimension]).unwrap()
}

fn train(mut solo: Solo, broken_from: u64) -> (Result<Summary, Error>, Vec<f32>, Vec<f32>) {
    let data = data();
    let engine = Box::new(Linear { broken_from, calls: 0 });
    let mut trainer = Trainer::new(engine, &data, layout(), Partition::Iid, &solo).unwrap();
    let mut losses = vec![];
    let summary = trainer.run(&mut solo, &mut |_, loss| losses.push(loss.mean_loss));
    (summary, solo.parameters().to_vec(), losses)
}

#[test]
fn one_voter_alone_is_sign_sgd() {
    let (summary, x, losses) = train(solo(AggregateKind::Vote, 0.0, 5), u64::MAX);
    assert_eq!(summary.unwrap().rounds, Round(ROUNDS));
    assert_eq!(losses.len() as u64, ROUNDS);
    assert!(losses[losses.len() - 1] < losses[0] / 2.0, "{losses:?}");
    // The fourth pixel is always 0 and abstains.
    let sign = |g: f32| f32::from(i8::from(g > 0.0) - i8::from(g < 0.0));
    assert_eq!(x, by_hand(sign));
    assert_eq!(x[3], 0.0);
}

/// x ← x − η·step(g), with the batches of the run.
fn by_hand(step: impl Fn(f32) -> f32) -> Vec<f32> {
    let data = data();
    let mut sampler = Sampler::new(data.labels(), 1, 0, 16, 5, Partition::Iid).unwrap();
    let (mut x, mut gradient) = (vec![0.0_f32; 4], vec![0.0; 4]);
    let mut examples = Examples::default();
    for round in 0..ROUNDS {
        data.fill(sampler.batch(round), None, &mut examples).unwrap();
        let mut engine = Linear { broken_from: u64::MAX, calls: 0 };
        engine.gradient(&x, examples.batch(), &mut gradient).unwrap();
        for (x, &g) in x.iter_mut().zip(&gradient) {
            *x -= 0.02_f32 * (step(g) + 0.0 * *x);
        }
    }
    x
}

#[test]
fn the_dense_mean_of_one_worker_is_sgd() {
    let (summary, x, losses) = train(solo(AggregateKind::Mean, 0.0, 5), u64::MAX);
    assert_eq!(summary.unwrap().rounds, Round(ROUNDS));
    assert!(losses[losses.len() - 1] < losses[0], "{losses:?}");
    assert_eq!(x, by_hand(|g| g));
}

#[test]
fn a_gradient_that_stays_non_finite_stops_the_worker_and_names_the_parameter() {
    let (summary, x, losses) = train(solo(AggregateKind::Vote, 0.9, 3), 10);
    let error = summary.unwrap_err();
    assert!(
        matches!(&error, Error::NonFinite { parameter, rounds: 3, round: 12 } if parameter == "second"),
        "{error}"
    );
    assert_eq!(losses.len(), 12);
    assert!(x.iter().all(|x| x.is_finite()));
}

#[test]
fn a_broken_coordinate_abstains_and_the_others_go_on() {
    let (summary, x, _) = train(solo(AggregateKind::Vote, 0.0, 0), 10);
    assert_eq!(summary.unwrap().rounds, Round(ROUNDS));
    let (_, sound, _) = train(solo(AggregateKind::Vote, 0.0, 0), u64::MAX);
    assert_ne!(x[1], sound[1]);
    assert!(x.iter().all(|x| x.is_finite()));
}

#[test]
fn what_is_sent_can_be_tampered_with() {
    let data = data();
    let mut solo = solo(AggregateKind::Vote, 0.9, 5);
    let engine = Box::new(Linear { broken_from: u64::MAX, calls: 0 });
    let mut trainer =
        Trainer::new(engine, &data, layout(), Partition::Iid, &solo).unwrap().tampered(|sent| {
            if let Outgoing::Ballot { signs, abstain, .. } = sent {
                signs[0] = !signs[0] & !abstain[0] & 0b1111;
            }
        });
    let mut losses = vec![];
    trainer.run(&mut solo, &mut |_, loss| losses.push(loss.mean_loss)).unwrap();
    // A lone voter that inverts its votes climbs.
    assert!(losses[losses.len() - 1] > losses[0], "{losses:?}");
}

#[test]
fn the_statistics_of_the_finished_model_go_out_at_the_end() {
    let (data, mut sent) = (data(), Vec::new());
    let mut solo = solo(AggregateKind::Vote, 0.9, 5);
    let engine = Box::new(Linear { broken_from: u64::MAX, calls: 0 });
    let mut trainer =
        Trainer::new(engine, &data, layout(), Partition::Iid, &solo).unwrap().tampered(|outgoing| {
            if let Outgoing::Statistics { round, values } = outgoing {
                sent.push((round, values.to_vec()));
            }
        });
    trainer.run(&mut solo, &mut |_, _| {}).unwrap();
    drop(trainer);
    assert!(!solo.wants_statistics(), "they are sent");
    // Of all 64 examples, in batches of 16: the epoch that would have come next.
    let mut all = Examples::default();
    data.fill(&(0..64).collect::<Vec<_>>(), None, &mut all).unwrap();
    let outputs = pixels(all.batch()).chunks(4).map(|pixels| dot(solo.parameters(), pixels));
    let expected = outputs.sum::<f32>() / 64.0;
    let [(Round(ROUNDS), values)] = &sent[..] else { panic!("{sent:?}") };
    assert!((values[0] - expected).abs() < 1e-5 && values.len() == 1, "{values:?} {expected}");
}
