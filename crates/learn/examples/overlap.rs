//! What it saves to hand in a gradient in pieces: rounds of one worker behind a slow link, with the exchange after the
//! backward pass and with the exchange under it.
//!
//! `cargo run --release --example overlap`
//!
//! The link is a model: it carries a bit a coordinate, chunk after chunk at its rate, while the worker goes on, and the
//! verdict on a chunk comes back as soon as it is there. Momentum, packing and the step on x are real; so is the `cnn`.
#![expect(clippy::print_stdout, reason = "an example prints what it finds")]
#![expect(clippy::unwrap_used, reason = "an example ends by panicking")]

use std::ops::Range;
use std::time::{Duration, Instant};

use signvote_election::{
    AggregateKind, Exchange, ExchangeError, Layout, Position, Round, RunId, Settings, Slot, Step, StepRule,
    TensorSpec, Terms,
};
use signvote_kernels::{AbstainOn, apply, words};
use signvote_learn::{
    Batch, BurnEngine, DataSource, Dataset, Engine, Error, Loss, ModelKind, Partition, Trainer, load,
    set_threads,
};

/// ResNet-50.
const DIMENSION: usize = 25_600_000;
const LAYERS: usize = 16;
const FORWARD: Duration = Duration::from_millis(100);
const BACKWARD: Duration = Duration::from_millis(200);
const ROUNDS: u64 = 15;

fn main() {
    set_threads(1).unwrap();
    let data = load(&DataSource::default().into()).unwrap().train;
    println!("median of {ROUNDS} rounds             ballot alone    at once  in pieces    saved");
    println!("{DIMENSION} coordinates in {LAYERS} layers, forward {FORWARD:?}, backward {BACKWARD:?}");
    let layout = Layout::new(vec![TensorSpec { name: "w".into(), shape: vec![DIMENSION] }]).unwrap();
    for rate in [1000, 100] {
        let gradient: Vec<f32> = (0..DIMENSION).map(|i| (i % 7) as f32 - 3.5).collect();
        let engine = |at_once| Box::new(Layers { at_once, gradient: gradient.clone() });
        row(rate, &data, &layout, vec![0.0; DIMENSION], engine(true), engine(false));
    }
    println!("cnn, 421642 coordinates, batch 32, one thread");
    let model = ModelKind::Cnn.usual();
    for rate in [100, 10] {
        let (at_once, in_pieces) = (AtOnce(BurnEngine::new(&model)), BurnEngine::new(&model));
        row(rate, &data, &model.layout().unwrap(), model.initial(1), Box::new(at_once), Box::new(in_pieces));
    }
}

fn row(
    rate: u64,
    data: &Dataset,
    layout: &Layout,
    x: Vec<f32>,
    at_once: Box<dyn Engine>,
    in_pieces: Box<dyn Engine>,
) {
    let ballot = Duration::from_secs_f64(x.len() as f64 / (rate as f64 * 1e6));
    let (before, x_before) = median(rate, data, layout, x.clone(), at_once);
    let (after, x_after) = median(rate, data, layout, x, in_pieces);
    assert!(x_before == x_after, "the same model, bit for bit");
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "  {rate:>4} Mb/s                       {:>8.1} ms {:>7.1} ms {:>7.1} ms {:>7.1}%",
        ms(ballot),
        ms(before),
        ms(after),
        100.0 * (1.0 - after.as_secs_f64() / before.as_secs_f64())
    );
}

/// The median round, and the parameters at the end.
fn median(
    rate: u64,
    data: &Dataset,
    layout: &Layout,
    x: Vec<f32>,
    engine: Box<dyn Engine>,
) -> (Duration, Vec<f32>) {
    let mut link = Link::new(rate, x);
    let mut trainer = Trainer::new(engine, data, layout.clone(), Partition::Iid, &link).unwrap();
    trainer.run(&mut link, &mut |_, _| ()).unwrap();
    // The first round finds its memory untouched.
    let mut times: Vec<_> = link.ends.windows(2).map(|ends| ends[1] - ends[0]).collect();
    times.sort();
    (times[times.len() / 2], link.x)
}

/// An engine whose layers each take their time, the last one first.
struct Layers {
    at_once: bool,
    gradient: Vec<f32>,
}

impl Engine for Layers {
    fn dimension(&self) -> usize {
        DIMENSION
    }

    fn gradient(&mut self, _: &[f32], _: Batch<'_>, _: &mut [f32]) -> Result<Loss, Error> {
        unreachable!("in pieces")
    }

    fn forward(&mut self, x: &[f32], batch: Batch<'_>, _: &mut [f32]) -> Result<Loss, Error> {
        std::thread::sleep(FORWARD);
        self.loss(x, &[], batch)
    }

    fn backward(&mut self, _: &mut [f32], piece: &mut dyn FnMut(Range<usize>, &[f32])) -> Result<(), Error> {
        let layer = DIMENSION / LAYERS;
        for number in (0..LAYERS).rev() {
            std::thread::sleep(BACKWARD / LAYERS as u32);
            let coordinates = number * layer..(number + 1) * layer;
            if !self.at_once {
                piece(coordinates.clone(), &self.gradient[coordinates]);
            }
        }
        if self.at_once {
            piece(0..DIMENSION, &self.gradient);
        }
        Ok(())
    }

    fn loss(&mut self, _: &[f32], _: &[f32], batch: Batch<'_>) -> Result<Loss, Error> {
        Ok(Loss { mean_loss: 0.0, correct: 0, samples: batch.labels.len() })
    }
}

/// An engine that keeps its pieces to itself.
struct AtOnce(BurnEngine);

impl Engine for AtOnce {
    fn dimension(&self) -> usize {
        self.0.dimension()
    }

    fn gradient(&mut self, x: &[f32], batch: Batch<'_>, gradient: &mut [f32]) -> Result<Loss, Error> {
        self.0.gradient(x, batch, gradient)
    }

    fn loss(&mut self, x: &[f32], statistics: &[f32], batch: Batch<'_>) -> Result<Loss, Error> {
        self.0.loss(x, statistics, batch)
    }
}

/// A worker alone behind a link, whose vote is the verdict.
struct Link {
    terms: Terms,
    x: Vec<f32>,
    signs: Vec<u64>,
    bits_per_second: f64,
    /// When all that was handed in will have been carried, there and the last chunk back.
    carried: Instant,
    last_chunk: Duration,
    open: bool,
    ends: Vec<Instant>,
}

impl Link {
    fn new(rate: u64, x: Vec<f32>) -> Self {
        let terms = Terms {
            run: RunId([1; 16]),
            workers: 1,
            batch: 32,
            seed: 1,
            rounds: ROUNDS,
            aggregate: AggregateKind::Vote,
            beta: 0.9,
            abstain_on: AbstainOn::Momentum,
            chunk_coordinates: 65_536,
            digest_every: 0,
            max_non_finite: 1,
            signed: false,
            step: StepRule::default(),
            settings: Settings::default(),
        };
        let signs = vec![0; words(x.len())];
        let bits_per_second = rate as f64 * 1e6;
        let (carried, last_chunk) = (Instant::now(), Duration::ZERO);
        Self { terms, x, signs, bits_per_second, carried, last_chunk, open: false, ends: vec![] }
    }
}

impl Exchange for Link {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn slot(&self) -> Slot {
        Slot::new(1).unwrap()
    }

    fn parameters(&self) -> &[f32] {
        &self.x
    }

    fn position(&self) -> Position {
        Position { round: Round(self.ends.len() as u64), ..Position::default() }
    }

    fn next(&mut self) -> Result<Step, ExchangeError> {
        let round = Round(self.ends.len() as u64);
        if self.open {
            std::thread::sleep((self.carried + self.last_chunk).saturating_duration_since(Instant::now()));
            apply(&mut self.x, &self.signs, None, 1e-3, 0.0);
            self.open = false;
            self.ends.push(Instant::now());
            return Ok(Step::Committed { round, eta: 1e-3, lambda: 0.0, counted: true });
        }
        if round.0 == ROUNDS + 1 {
            return Ok(Step::Finished { round, reason: "enough".into() });
        }
        self.open = true;
        Ok(Step::Open { round })
    }

    fn try_next(&mut self) -> Result<Option<Step>, ExchangeError> {
        Ok(None)
    }

    fn report(&mut self, _: f32, _: u32, _: u32, _: u64) -> Result<(), ExchangeError> {
        Ok(())
    }

    fn submit_signs(&mut self, first: usize, signs: &[u64], _: &[u64]) -> Result<(), ExchangeError> {
        self.signs[first..first + signs.len()].copy_from_slice(signs);
        self.last_chunk = Duration::from_secs_f64((signs.len() * 64) as f64 / self.bits_per_second);
        self.carried = self.carried.max(Instant::now()) + self.last_chunk;
        Ok(())
    }

    fn submit_gradient(&mut self, _: usize, _: &[f32]) -> Result<(), ExchangeError> {
        unreachable!("a vote")
    }
}
