//! One stream of gradients, which a formula makes: what the worker's trainer makes of it over TCP is in a file, and the
//! tests of the Python package find the same bits there by each of its ways to vote (`python/tests/test_stream.py`).

mod common;

use std::path::Path;
use std::thread;
use std::time::Duration;

use common::{directory, serve};
use signvote_election::{Exchange, Greeting, Layout, Settings, Slot, TensorSpec};
use signvote_kernels::coin_word;
use signvote_learn::{Batch, Dataset, Engine, Error, Loss, Partition, Scaling, Trainer};
use signvote_net::{Client, Connect};

const WORKERS: u16 = 3;
const ROUNDS: u64 = 24;
/// Bits of x after all rounds, f32, little-endian. Written anew where `SIGNVOTE_BLESS` is set.
const EXPECTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stream.f32");

/// Names and shapes of two linear layers with a ReLU between them, as PyTorch has them.
fn layout() -> Layout {
    let tensors =
        [("0.weight", vec![21, 37]), ("0.bias", vec![21]), ("2.weight", vec![5, 21]), ("2.bias", vec![5])];
    let spec = |(name, shape): (&str, Vec<usize>)| TensorSpec { name: name.into(), shape };
    Layout::new(tensors.map(spec).to_vec()).expect("a layout")
}

/// What a coordinate's value follows from: 64 random bits.
fn draw(key: u64, coordinate: usize) -> u64 {
    coin_word(key, coordinate as u64)
}

/// 24 bits of them as a number from −1 to 1, which f32 has exactly.
fn uniform(bits: u64) -> f32 {
    ((bits >> 40) as i32 - (1 << 23)) as f32 / (1 << 23) as f32
}

/// The gradient of a worker in a round, whatever x is. One in eight is exactly zero.
struct Stream {
    slot: u64,
    round: u64,
}

impl Engine for Stream {
    fn dimension(&self) -> usize {
        layout().dimension()
    }

    fn gradient(&mut self, x: &[f32], batch: Batch<'_>, gradient: &mut [f32]) -> Result<Loss, Error> {
        let key = self.round << 8 | self.slot;
        for (coordinate, value) in gradient.iter_mut().enumerate() {
            let bits = draw(key, coordinate);
            *value = if bits.is_multiple_of(8) { 0.0 } else { uniform(bits) };
        }
        self.round += 1;
        self.loss(x, &[], batch)
    }

    fn loss(&mut self, _: &[f32], _: &[f32], batch: Batch<'_>) -> Result<Loss, Error> {
        Ok(Loss { mean_loss: 1.0, correct: 0, samples: batch.labels.len() })
    }
}

/// x, as the worker in this place has it in the end.
fn work(address: &str, slot: u16) -> Vec<f32> {
    let connect = Connect {
        address: address.to_owned(),
        patience: Duration::from_secs(10),
        reconnect: Duration::ZERO,
        tls: None,
    };
    let greeting = Greeting {
        layout: layout(),
        settings: Settings::default(),
        run: None,
        slot: Slot::new(slot),
        name: format!("worker-{slot}"),
        key: None,
        statistics: false,
    };
    let initial = |_: &_| (0..layout().dimension()).map(|i| uniform(draw(u64::MAX, i))).collect();
    let mut client = Client::connect(&connect, greeting, None, initial, |_| {}).expect("a place");
    let scaling = Scaling { mean: 0.0, standard_deviation: 1.0 };
    let data = Dataset::grey(vec![0; 64], vec![0; 16], [2, 2], 2, scaling).expect("data");
    let engine = Box::new(Stream { slot: u64::from(slot), round: 0 });
    let mut trainer = Trainer::new(engine, &data, layout(), Partition::Iid, &client).expect("a trainer");
    let summary = trainer.run(&mut client, &mut |_, _| {}).expect("a whole run");
    assert_eq!(summary.rounds.0, ROUNDS);
    client.parameters().to_vec()
}

#[test]
fn a_stream_of_gradients_ends_where_the_file_says() {
    let (_guard, here) = directory();
    let rules = "--eta 0.01 --schedule constant --weight-decay 0.125 --tie hold --batch 4 --chunk 64";
    let (server, address) =
        serve(&here, &format!("--workers {WORKERS} --rounds {ROUNDS} --deadline never {rules}"));
    let replicas: Vec<Vec<f32>> = thread::scope(|scope| {
        let workers = (1..=WORKERS).map(|slot| {
            let address = &address;
            scope.spawn(move || work(address, slot))
        });
        let workers: Vec<_> = workers.collect();
        workers.into_iter().map(|worker| worker.join().expect("a whole run")).collect()
    });
    server.ended().succeeded();
    assert!(replicas.iter().all(|replica| *replica == replicas[0]), "the replicas differ");
    let x: Vec<u8> = replicas[0].iter().flat_map(|x| x.to_le_bytes()).collect();
    if std::env::var_os("SIGNVOTE_BLESS").is_some() {
        std::fs::write(EXPECTED, &x).expect("a file that can be written");
    }
    let expected = std::fs::read(Path::new(EXPECTED)).expect("the file of this test");
    assert_eq!(x.len(), 4 * layout().dimension());
    assert_eq!(x, expected, "the stream ends elsewhere");
}
