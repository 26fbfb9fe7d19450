//! Server and clients over real sockets on loopback.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use signvote_election::{
    AggregateKind, Config, Event, Exchange, ExchangeError, Greeting, Layout, Patience, RunId, Schedule,
    Server, Settings, Shape, Slot, Step, StepRule, TensorSpec, Terms, Traffic,
};
use signvote_kernels::AbstainOn;
use signvote_net::{Client, Connect, Observer, Serve, listen, serve};

/// More than a chunk, and more than a stranger may send in one frame.
const DIMENSION: usize = 70_000;
const ROUNDS: u64 = 5;
/// Longer than anything here takes, shorter than a hang.
const PATIENCE: Duration = Duration::from_secs(30);

fn config(workers: u16) -> Config {
    let terms = Terms {
        run: RunId([7; 16]),
        workers,
        batch: 1,
        seed: 1,
        rounds: ROUNDS,
        aggregate: AggregateKind::Vote,
        beta: 0.0,
        abstain_on: AbstainOn::Momentum,
        chunk_coordinates: 65_536,
        digest_every: 2,
        max_non_finite: 0,
        signed: false,
        step: StepRule::default(),
        settings: Settings::default(),
    };
    let config = Config::new(terms, Schedule::new(0.01, 0, ROUNDS, Shape::Constant).unwrap());
    Config {
        quorum: usize::from(workers),
        max_dimension: DIMENSION,
        patience: Patience { offences: u32::MAX, ..Patience::default() },
        ..config
    }
}

struct Tell(mpsc::Sender<Event>);

impl Observer for Tell {
    fn observe(&mut self, event: &Event, _: &Server) -> ControlFlow<String> {
        let _ = self.0.send(event.clone());
        ControlFlow::Continue(())
    }
}

/// A server on a thread of its own: its address, its events, and its parameters at the end.
fn start(workers: u16) -> (SocketAddr, mpsc::Receiver<Event>, JoinHandle<Vec<f32>>) {
    let (tell, events) = mpsc::channel();
    let (address, at) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = listen("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
            address.send(listener.local_addr().unwrap()).unwrap();
            let server = Server::new(config(workers)).unwrap();
            let options = Serve { traffic_every: 0, workers, tls: None, resumable: false };
            let server =
                serve(listener, server, options, &mut Tell(tell), tokio::sync::mpsc::unbounded_channel().1)
                    .await;
            server.model().map_or(vec![], |(_, x, _)| x.to_vec())
        })
    });
    (at.recv_timeout(PATIENCE).unwrap(), events, thread)
}

fn layout() -> Layout {
    Layout::new(vec![TensorSpec { name: "w".into(), shape: vec![DIMENSION] }]).unwrap()
}

fn join(address: SocketAddr, slot: u16) -> Result<Client, ExchangeError> {
    join_within(PATIENCE, address, slot)
}

fn join_within(patience: Duration, address: SocketAddr, slot: u16) -> Result<Client, ExchangeError> {
    let connect = Connect { address: address.to_string(), patience, reconnect: Duration::ZERO, tls: None };
    let greeting = Greeting {
        layout: layout(),
        settings: Settings::default(),
        run: None,
        slot: Slot::new(slot),
        name: format!("worker-{slot}"),
        key: None,
        statistics: false,
    };
    Client::connect(&connect, greeting, None, |_| vec![0.5; DIMENSION], |_| ())
}

/// Votes until the run is over, the same bits everywhere in the signs of place and round. Returns x.
fn vote(mut client: Client) -> Result<Vec<f32>, ExchangeError> {
    let words = DIMENSION.div_ceil(64);
    loop {
        match client.next()? {
            Step::Open { round } => {
                let pattern =
                    (u64::from(client.slot().number()) << 7 | round.0).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let mut signs = vec![pattern; words];
                signs[words - 1] &= signvote_kernels::tail_mask(DIMENSION);
                client.report(1.0, 0, 1, 0)?;
                client.submit_signs(0, &signs, &vec![0; words])?;
            }
            Step::Finished { .. } => return Ok(client.parameters().to_vec()),
            _ => {}
        }
    }
}

fn worker(address: SocketAddr, slot: u16) -> JoinHandle<Result<Vec<f32>, ExchangeError>> {
    std::thread::spawn(move || vote(join(address, slot)?))
}

/// Waits for an event that `pick` takes something from.
fn wait_for<T>(events: &mpsc::Receiver<Event>, pick: impl Fn(Event) -> Option<T>) -> T {
    loop {
        if let Some(picked) = pick(events.recv_timeout(PATIENCE).unwrap()) {
            return picked;
        }
    }
}

/// The greeting of a worker with this test's model, by hand: `docs/protocol.md`.
fn hello() -> Vec<u8> {
    let mut payload = vec![1_u8];
    payload.extend(b"signvote");
    payload.extend([4, 0, 0, 0]);
    payload.extend([0; 8 + 16]);
    payload.extend(layout().digest());
    payload.extend((DIMENSION as u64).to_le_bytes());
    payload.extend([0; 2 + 2 + 1]);
    let mut frame = (payload.len() as u32).to_le_bytes().to_vec();
    frame.extend(payload);
    frame
}

#[test]
fn three_workers_vote_and_every_byte_on_the_socket_is_counted() {
    let (address, events, server) = start(3);
    let workers: Vec<_> = (1..=3).map(|slot| worker(address, slot)).collect();
    let replicas: Vec<_> = workers.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect();
    let traffic: Vec<Traffic> = wait_for(&events, |event| match event {
        Event::Traffic { workers, .. } => Some(workers),
        _ => None,
    });
    let x = server.join().unwrap();
    assert_ne!(x, vec![0.5; DIMENSION]);
    assert!(replicas.iter().all(|replica| *replica == x));
    // docs/protocol.md, "Counting bytes": two dense chunks, a report, two digests under way and one at the end;
    // two verdicts and a commit with one word of voters.
    let chunks = (18 + 8 * 1024) + (18 + 8 * (DIMENSION as u64 - 65_536).div_ceil(64));
    for row in &traffic {
        assert_eq!(row.round_up_bytes, ROUNDS * (chunks + 33) + 3 * 45, "{row:?}");
        assert_eq!(row.round_down_bytes, ROUNDS * (chunks + 63 + 8), "{row:?}");
    }
    // One of them brought the model.
    assert_eq!(traffic.iter().filter(|row| row.join_up_bytes > 4 * DIMENSION as u64).count(), 1);
}

#[test]
fn strangers_who_come_and_go_leave_room_for_workers() {
    let (address, _events, server) = start(1);
    for _ in 0..3 {
        let strangers: Vec<_> = (0..65).map(|_| TcpStream::connect(address).unwrap()).collect();
        drop(strangers);
    }
    assert!(worker(address, 1).join().unwrap().is_ok());
    server.join().unwrap();
}

#[test]
fn a_place_is_free_again_when_who_held_it_is_gone() {
    let (address, events, server) = start(1);
    let mut first = TcpStream::connect(address).unwrap();
    first.write_all(&hello()).unwrap();
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    first.read_exact(&mut [0; 5]).unwrap();
    // The only place is taken: the second one is refused, and comes again when the first is gone.
    let refused = join_within(Duration::from_millis(200), address, 1).err().unwrap();
    assert!(refused.to_string().contains("place 1 is taken"), "{refused}");
    drop(first);
    wait_for(&events, |event| {
        matches!(event, Event::Refused { ref reason, .. } if reason.contains("connection")).then_some(())
    });
    assert!(worker(address, 1).join().unwrap().is_ok());
    server.join().unwrap();
}

#[test]
fn a_worker_that_waits_for_anothers_model_brings_it_when_that_one_is_gone() {
    let (address, events, server) = start(2);
    let mut first = TcpStream::connect(address).unwrap();
    first.write_all(&hello()).unwrap();
    first.set_read_timeout(Some(PATIENCE)).unwrap();
    first.read_exact(&mut [0; 5]).unwrap();
    let second = worker(address, 2);
    // Its greeting is in before the first one goes: a third with a wrong greeting is answered after it.
    let mut third = TcpStream::connect(address).unwrap();
    third.write_all(&[1, 0, 0, 0, 99]).unwrap();
    wait_for(&events, |event| matches!(event, Event::Refused { .. }).then_some(()));
    drop(first);
    let late = worker(address, 1);
    assert!(second.join().unwrap().is_ok());
    assert!(late.join().unwrap().is_ok());
    server.join().unwrap();
}

#[test]
fn a_frame_that_is_too_long_is_refused_in_words_and_the_run_goes_on() {
    let (address, _events, server) = start(1);
    for announced in [u32::MAX, 1 << 31, 5000] {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&announced.to_le_bytes()).unwrap();
        stream.write_all(&[0; 4000]).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains(&format!("a frame of {announced} bytes was announced")), "{text}");
    }
    assert!(worker(address, 1).join().unwrap().is_ok());
    server.join().unwrap();
}

#[test]
fn a_status_is_as_long_as_it_is_asked_for() {
    let (address, _events, _server) = start(1);
    let connect =
        Connect { address: address.to_string(), patience: PATIENCE, reconnect: Duration::ZERO, tls: None };
    let short = signvote_net::ask_status_of(&connect, 0).unwrap();
    for (asked, given) in [(1, short.len()), (100_000, 100_000), (u32::MAX, 1_000_000)] {
        let answer = signvote_net::ask_status_of(&connect, asked).unwrap();
        assert_eq!((answer.len(), answer.trim_end()), (given, short.as_str()));
    }
    vote(join(address, 1).unwrap()).unwrap();
}
