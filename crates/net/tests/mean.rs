//! The dense baseline with a model whose verdicts are longer than what is much for a vote: nobody is left behind.
#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::mpsc;
use std::time::Duration;

use signvote_election::{
    AggregateKind, Config, Event, Exchange, Greeting, Layout, RunId, Schedule, Server, Settings, Shape, Slot,
    Step, StepRule, TensorSpec, Terms,
};
use signvote_kernels::AbstainOn;
use signvote_net::{Client, Connect, Observer, Serve, listen, serve};

const DIMENSION: usize = 4 << 20;
const ROUNDS: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

struct Tell(mpsc::Sender<Event>);

impl Observer for Tell {
    fn observe(&mut self, event: &Event, _: &Server) -> ControlFlow<String> {
        let _ = self.0.send(event.clone());
        ControlFlow::Continue(())
    }
}

fn config() -> Config {
    let terms = Terms {
        run: RunId([7; 16]),
        workers: 3,
        batch: 1,
        seed: 1,
        rounds: ROUNDS,
        aggregate: AggregateKind::Mean,
        beta: 0.0,
        abstain_on: AbstainOn::Momentum,
        chunk_coordinates: 65_536,
        digest_every: 0,
        max_non_finite: 0,
        signed: false,
        step: StepRule::default(),
        settings: Settings::default(),
    };
    // Two are a quorum: so who is left behind is not waited for.
    Config { quorum: 2, ..Config::new(terms, Schedule::new(0.01, 0, ROUNDS, Shape::Constant).unwrap()) }
}

fn worker(address: SocketAddr, slot: u16) {
    let connect =
        Connect { address: address.to_string(), patience: PATIENCE, reconnect: Duration::ZERO, tls: None };
    let greeting = Greeting {
        layout: Layout::new(vec![TensorSpec { name: "w".into(), shape: vec![DIMENSION] }]).unwrap(),
        settings: Settings::default(),
        run: None,
        slot: Slot::new(slot),
        name: format!("worker-{slot}"),
        key: None,
        statistics: false,
    };
    let mut client = Client::connect(&connect, greeting, None, |_| vec![0.5; DIMENSION], |_| ()).unwrap();
    let gradient = vec![f32::from(slot); DIMENSION];
    loop {
        match client.next().unwrap() {
            Step::Open { .. } => {
                client.report(1.0, 0, 1, 0).unwrap();
                client.submit_gradient(0, &gradient).unwrap();
            }
            Step::Finished { .. } => return,
            _ => {}
        }
    }
}

#[test]
fn every_gradient_of_a_large_model_counts() {
    let (tell, events) = mpsc::channel();
    let (address, at) = mpsc::channel();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = listen("127.0.0.1:0".parse().unwrap(), false).await.unwrap();
            address.send(listener.local_addr().unwrap()).unwrap();
            let options = Serve { traffic_every: 0, workers: 3, tls: None, resumable: false };
            let stops = tokio::sync::mpsc::unbounded_channel().1;
            serve(listener, Server::new(config()).unwrap(), options, &mut Tell(tell), stops).await;
        });
    });
    let address = at.recv_timeout(PATIENCE).unwrap();
    let workers: Vec<_> = (1..=3).map(|slot| std::thread::spawn(move || worker(address, slot))).collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    server.join().unwrap();
    let mut rounds = 0;
    for event in events {
        match event {
            Event::Committed { voters, partial, .. } => {
                assert_eq!((voters, partial), (3, 0), "round {rounds}");
                rounds += 1;
            }
            Event::Late { .. } => panic!("{event:?}"),
            _ => {}
        }
    }
    assert_eq!(rounds, ROUNDS);
}
