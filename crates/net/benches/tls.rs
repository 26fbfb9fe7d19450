//! What TLS, and signed ballots with it, add to a round of a central server: `cargo bench -p signvote-net --bench tls`.
//!
//! Four workers and their server on loopback, d = 25.6 million (ResNet-50's size). A round is timed at a worker, from one
//! opening to the next: momentum and packing, the exchange, the step on its replica. The runs take turns, and every
//! run must end at the same parameters, at the server and at the workers.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench ends at the first thing that is wrong, and prints"
)]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use signvote_election::{
    AggregateKind, Config, Event, Exchange, Greeting, Layout, RunId, Schedule, SecretKey, Server, Settings,
    Shape, Slot, Step, TensorSpec, Terms,
};
use signvote_kernels::{AbstainOn, momentum_pack, words};
use signvote_net::tls::{Acceptor, Connector, Credentials};
use signvote_net::{Client, Connect, Name, Observer, Serve, certs, listen, serve};

const DIMENSION: usize = 25_600_000;
const WORKERS: u16 = 4;
const CHUNK: usize = 65_536;
/// Rounds of a run, and how many of them are not timed because memory is touched for the first time.
const ROUNDS: u64 = 14;
const UNTIMED: u64 = 4;
const TURNS: usize = 5;
const PATIENCE: Duration = Duration::from_secs(120);

/// How a run is protected.
#[derive(Clone, Copy, PartialEq)]
enum Protection {
    Plain,
    Tls,
    /// As `signvote server --tls` has it.
    TlsAndSignatures,
}

struct Nothing;

impl Observer for Nothing {
    fn observe(&mut self, _: &Event, _: &Server) -> ControlFlow<String> {
        ControlFlow::Continue(())
    }
}

fn config(signed: bool) -> Config {
    let terms = Terms {
        run: RunId([7; 16]),
        workers: WORKERS,
        batch: 1,
        seed: 1,
        rounds: ROUNDS,
        aggregate: AggregateKind::Vote,
        beta: 0.9,
        abstain_on: AbstainOn::Momentum,
        chunk_coordinates: CHUNK as u32,
        digest_every: 0,
        max_non_finite: 0,
        signed,
        settings: Settings::default(),
    };
    let config = Config::new(terms, Schedule::new(0.01, 0, ROUNDS, Shape::Constant).unwrap());
    Config { quorum: usize::from(WORKERS), weight_decay: 1e-4, ring_bytes: 0, ..config }
}

/// A gradient without zeros, another one for each worker.
fn gradient(slot: u16) -> Vec<f32> {
    let mut state = 0x9E37_79B9_u32.wrapping_mul(u32::from(slot));
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / 2_147_483_648.0 - 1.000_001
    };
    (0..DIMENSION).map(|_| next()).collect()
}

/// Votes to the end; gives the parameters and the time of every round.
fn work(mut client: Client, gradient: &[f32]) -> (Vec<f32>, Vec<Duration>) {
    let mut momentum = vec![0.0; DIMENSION];
    let (mut signs, mut abstain) = (vec![0; words(CHUNK)], vec![0; words(CHUNK)]);
    let mut opened = Instant::now();
    let mut rounds = Vec::new();
    loop {
        match client.next().unwrap() {
            Step::Open { round } => {
                rounds.push(opened.elapsed());
                opened = Instant::now();
                for start in (0..DIMENSION).step_by(CHUNK) {
                    let range = start..(start + CHUNK).min(DIMENSION);
                    let (signs, abstain) =
                        (&mut signs[..words(range.len())], &mut abstain[..words(range.len())]);
                    // Each round votes otherwise in a part: so that no round is the last one again.
                    let beta = if (start / CHUNK) as u64 % ROUNDS == round.0 { 0.0 } else { 0.9 };
                    let part = &mut momentum[range.clone()];
                    momentum_pack(&gradient[range], part, beta, AbstainOn::Momentum, signs, abstain);
                    client.submit_signs(start / 64, signs, abstain).unwrap();
                }
            }
            Step::Finished { .. } => {
                rounds.push(opened.elapsed());
                return (client.parameters().to_vec(), rounds);
            }
            _ => {}
        }
    }
}

/// A whole run; gives the parameters that everyone ends with, and the median time of a round.
fn run(certs: &Path, protection: Protection, gradients: &Arc<Vec<Vec<f32>>>) -> (Vec<f32>, Duration) {
    let secure = protection != Protection::Plain;
    let signed = protection == Protection::TlsAndSignatures;
    let tls = secure.then(|| Acceptor::new(Credentials::load(certs, "server").unwrap()).unwrap());
    let (tell, address) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = listen("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let election = Server::new(config(signed)).unwrap();
            let options = Serve { traffic_every: 0, workers: WORKERS, tls };
            let stops = tokio::sync::mpsc::unbounded_channel().1;
            let election = serve(listener, election, options, &mut Nothing, stops).await;
            election.model().unwrap().1.to_vec()
        })
    });
    let address = address.recv().unwrap().to_string();
    let workers: Vec<_> = (1..=WORKERS)
        .map(|slot| {
            let name = format!("worker-{slot}");
            let tls = secure.then(|| Connector::new(&Credentials::load(certs, &name).unwrap()).unwrap());
            let key = tls.as_ref().map(|tls| SecretKey::from_seed(tls.signing_key().seed()));
            let connect =
                Connect { address: address.clone(), patience: PATIENCE, reconnect: Duration::ZERO, tls };
            let layout = Layout::new(vec![TensorSpec { name: "w".into(), shape: vec![DIMENSION] }]).unwrap();
            let (settings, slot_) = (Settings::default(), Slot::new(slot));
            let greeting = Greeting { layout, settings, run: None, slot: slot_, name, key };
            let gradients = Arc::clone(gradients);
            std::thread::spawn(move || {
                let first = |_: &Terms| vec![0.5; DIMENSION];
                let client = Client::connect(&connect, greeting, None, first, |_| ()).unwrap();
                work(client, &gradients[usize::from(slot) - 1])
            })
        })
        .collect();
    let ends: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    let x = server.join().unwrap();
    assert!(ends.iter().all(|(replica, _)| *replica == x), "a replica is not the server's");
    // The first time is that of joining.
    let mut rounds: Vec<_> = ends[0].1[1 + UNTIMED as usize..].to_vec();
    rounds.sort_unstable();
    (x, rounds[rounds.len() / 2])
}

fn milliseconds(durations: &mut [Duration]) -> (f64, f64, f64) {
    durations.sort_unstable();
    let of = |index: usize| durations[index].as_secs_f64() * 1e3;
    (of(durations.len() / 2), of(0), of(durations.len() - 1))
}

fn main() {
    let directory = tempfile::tempdir().unwrap();
    let certs = directory.path().join("certs");
    certs::init(&certs).unwrap();
    let names: Vec<Name> = (1..=WORKERS).map(|slot| format!("worker-{slot}").parse().unwrap()).collect();
    certs::issue(&certs, &names).unwrap();
    let gradients = Arc::new((1..=WORKERS).map(gradient).collect::<Vec<_>>());
    let ways = [
        ("plain", Protection::Plain),
        ("TLS", Protection::Tls),
        ("TLS, signed ballots", Protection::TlsAndSignatures),
    ];
    let mut times = vec![Vec::new(); ways.len()];
    let mut expected: Option<Vec<f32>> = None;
    for _ in 0..TURNS {
        for (times, (name, protection)) in times.iter_mut().zip(ways) {
            let (x, time) = run(&certs, protection, &gradients);
            assert!(expected.get_or_insert_with(|| x.clone()) == &x, "{name}: another model");
            times.push(time);
        }
    }
    println!("a round of {DIMENSION} coordinates, {WORKERS} workers on loopback, pack and apply included;");
    println!("median of {TURNS} runs (least, most), each the median of {} rounds", ROUNDS - UNTIMED);
    let (plain, ..) = milliseconds(&mut times[0]);
    for (times, (name, _)) in times.iter_mut().zip(ways) {
        let (median, least, most) = milliseconds(times);
        println!("{name:<20} {median:>7.1} ms ({least:.1}, {most:.1})  {:.2} of plain", median / plain);
    }
}
