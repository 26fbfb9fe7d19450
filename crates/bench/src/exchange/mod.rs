//! What a round costs, from the gradient to the step: momentum and packing, the exchange with a central server, the tally
//! and the update, on this machine or on the hosts that somebody starts it on.
//!
//! [`local`] runs a server and its workers on loopback, in plain text, with TLS, and with TLS and signed ballots, in turns;
//! [`serve`] and [`work`] are its two halves for hosts of their own. Every run must end with the parameters that a few
//! lines without kernels or network come to: [`Error::Answer`] otherwise.

mod votes;

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use signvote_election::{
    AggregateKind, Config, Event, Exchange as _, ExchangeError, Greeting, RunId, Schedule, SecretKey, Server,
    Settings, Shape, Slot, Step, StepRule, Terms, Topology, Traffic,
};
use signvote_kernels::AbstainOn;
use signvote_net::tls::{Acceptor, Connector, Credentials};
use signvote_net::{
    Client, Connect, LocalShard, Name, Observer, Serve, ServeShard, ShardThread, Stop, certs, listen,
};

use crate::Error;
use votes::Voter;

/// Rounds before those that are timed: memory is touched for the first time, windows open.
const UNTIMED: u64 = 3;
/// Longer than anything takes that goes on at all.
const PATIENCE: Duration = Duration::from_secs(600);

const RUN: RunId = RunId(*b"signvote's bench");

/// What is exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Coordinates, d.
    pub dim: usize,
    /// Rounds that are timed.
    pub rounds: u64,
    /// Workers, M.
    pub workers: u16,
    /// Who tallies.
    pub topology: Topology,
}

/// Where a shard of a run listens. What a bench exchanges is nobody's secret: plain text is allowed anywhere.
#[derive(Clone, Debug)]
pub struct ShardAt {
    /// Its address.
    pub address: SocketAddr,
    /// How it lets workers in; `None`: unencrypted.
    pub tls: Option<Acceptor>,
}

impl ShardAt {
    /// Starts it.
    fn start(self, server: &Connect) -> Result<ShardThread, Error> {
        let Self { address, tls } = self;
        let server = Connect { reconnect: Duration::ZERO, ..server.clone() };
        let options =
            ServeShard { server, tls, run: Some(RUN), name: "bench".into(), address: String::new() };
        Ok(ShardThread::start(address, true, options)?)
    }
}

/// Tallies a part of the coordinates for the server of a run, until that is over.
///
/// # Errors
/// If the address cannot be had, or the server is not there or is lost.
pub fn shard(connect: &Connect, at: ShardAt, listening: impl FnOnce(SocketAddr)) -> Result<String, Error> {
    let shard = at.start(connect)?;
    listening(shard.address());
    Ok(shard.join()?)
}

/// One side's times, and bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Times {
    /// How the run was protected: `plain`, `TLS`, or `TLS, signed ballots`.
    pub protection: &'static str,
    /// Workers in the run.
    #[serde(skip)]
    pub workers: u16,
    /// The median of the timed rounds (in [`local`]: of the medians of all turns).
    pub median_ms: f64,
    /// Of 100 rounds, 95 took no longer (in [`local`]: in the worst turn).
    pub p95_ms: f64,
    /// The shortest.
    pub min_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// A worker's bytes a round, to the server: the most of all workers, frames' headers included.
    pub bytes_up: u64,
    /// From the server.
    pub bytes_down: u64,
}

impl Times {
    fn of(protection: &'static str, workers: u16, mut rounds: Vec<Duration>, (up, down): (u64, u64)) -> Self {
        rounds.sort_unstable();
        let ms = |index: usize| rounds.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        let last = rounds.len().saturating_sub(1);
        Self {
            protection,
            workers,
            median_ms: ms(rounds.len() / 2),
            p95_ms: ms((rounds.len() * 95).div_ceil(100).saturating_sub(1)),
            min_ms: ms(0),
            max_ms: ms(last),
            bytes_up: up,
            bytes_down: down,
        }
    }
}

fn terms(size: Size, signed: bool) -> Terms {
    Terms {
        run: RUN,
        workers: size.workers,
        batch: 1,
        seed: 1,
        // The last one has the digests of all parameters in it.
        rounds: UNTIMED + size.rounds + 1,
        aggregate: AggregateKind::Vote,
        beta: votes::BETA,
        abstain_on: AbstainOn::Momentum,
        chunk_coordinates: votes::CHUNK as u32,
        digest_every: 0,
        max_non_finite: 0,
        signed,
        step: StepRule::default(),
        settings: Settings::default(),
    }
}

fn config(size: Size, signed: bool) -> Result<Config, Error> {
    let terms = terms(size, signed);
    let rounds = terms.rounds;
    let schedule =
        Schedule::new(f64::from(votes::ETA), 0, rounds, Shape::Constant).map_err(ExchangeError::from)?;
    let initial = (votes::layout(size.dim)?, votes::first(size.dim), Settings::default());
    Ok(Config {
        quorum: usize::from(size.workers),
        initial: Some(initial),
        joining_timeout: PATIENCE,
        ring_bytes: 0,
        topology: size.topology,
        ..Config::new(terms, schedule)
    })
}

/// Times rounds from commit to commit.
struct Clock {
    last: Instant,
    rounds: Vec<Duration>,
    traffic: Vec<Traffic>,
    finished: bool,
}

impl Observer for Clock {
    fn observe(&mut self, event: &Event, _: &Server) -> ControlFlow<String> {
        match event {
            Event::Started { .. } => self.last = Instant::now(),
            Event::Committed { .. } => {
                self.rounds.push(self.last.elapsed());
                self.last = Instant::now();
            }
            Event::Traffic { workers, .. } => self.traffic.clone_from(workers),
            Event::Finished { replicas_identical, .. } => self.finished = *replicas_identical,
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Serves one run at `address`, and times it from commit to commit. `listening` hears the address once it is known.
///
/// # Errors
/// If the address cannot be had, the workers leave before the end, or the answer is wrong.
pub fn serve(
    address: SocketAddr,
    tls: Option<Acceptor>,
    size: Size,
    listening: impl FnOnce(SocketAddr),
) -> Result<Times, Error> {
    serve_with(address, (tls, None), size, listening)
}

/// As [`serve`]; ballots are signed as told, and otherwise where there are identities, as `signvote server` has it.
fn serve_with(
    address: SocketAddr,
    (tls, signed): (Option<Acceptor>, Option<bool>),
    size: Size,
    listening: impl FnOnce(SocketAddr),
) -> Result<Times, Error> {
    let signed = signed.unwrap_or(tls.is_some());
    let protection = protection(tls.is_some(), signed);
    let server = Server::new(config(size, signed)?).map_err(ExchangeError::from)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Threads { threads: 1, reason: error.to_string() })?;
    runtime.block_on(async {
        let listener = listen(address, true).await?;
        listening(listener.local_addr().unwrap_or(address));
        let mut clock = Clock { last: Instant::now(), rounds: vec![], traffic: vec![], finished: false };
        let (_stop, stops) = tokio::sync::mpsc::unbounded_channel::<Stop>();
        let options = Serve { traffic_every: 0, workers: size.workers, tls, resumable: false };
        let server = signvote_net::serve(listener, server, options, &mut clock, stops).await;
        let x = server.model().map_or(&[][..], |(_, x, _)| x);
        votes::check(x, size.dim, size.workers, server.round().0)?;
        if !clock.finished {
            return Err(Error::Answer { what: "a worker's parameters are not the server's".into() });
        }
        let rounds = server.round().0.max(1);
        let most = |of: fn(&Traffic) -> u64| clock.traffic.iter().map(of).max().unwrap_or(0) / rounds;
        let bytes = (most(|row| row.round_up_bytes), most(|row| row.round_down_bytes));
        Ok(Times::of(protection, size.workers, timed(clock.rounds), bytes))
    })
}

/// Takes part in the run of a server with as many coordinates, as one of its shards as well if told so, and times its rounds
/// from one opening to the next.
///
/// # Errors
/// If the server is not there or is lost, has another size, or the answer is wrong.
pub fn work(
    connect: &Connect,
    slot: Option<u16>,
    dim: usize,
    shard: Option<ShardAt>,
) -> Result<Times, Error> {
    let shard = shard.map(|shard| shard.start(connect)).transpose()?;
    let times = vote(connect, shard.as_ref().map(ShardThread::local), slot, dim)?;
    // Others may be behind.
    shard.map(ShardThread::join).transpose()?;
    Ok(times)
}

fn vote(connect: &Connect, local: Option<LocalShard>, slot: Option<u16>, dim: usize) -> Result<Times, Error> {
    let key = connect.tls.as_ref().map(|tls| SecretKey::from_seed(tls.signing_key().seed()));
    let greeting = Greeting {
        layout: votes::layout(dim)?,
        settings: Settings::default(),
        run: Some(RUN),
        slot: slot.and_then(Slot::new),
        name: "bench".into(),
        key,
        statistics: false,
    };
    let mut client = Client::connect_beside(local, connect, greeting, None, |_| votes::first(dim), |_| ())?;
    let (workers, protection) =
        (client.terms().workers, protection(connect.tls.is_some(), client.terms().signed));
    let mut voter = Voter::new(dim, client.slot().number());
    let (mut opened, mut rounds) = (Instant::now(), Vec::new());
    loop {
        match client.next()? {
            Step::Open { round } => {
                if round.0 > 0 {
                    rounds.push(opened.elapsed());
                }
                opened = Instant::now();
                voter.vote(&mut client)?;
            }
            Step::Finished { round, .. } => {
                rounds.push(opened.elapsed());
                votes::check(client.parameters(), dim, workers, round.0)?;
                let (up, down) = client.bytes();
                let count = rounds.len().max(1) as u64;
                return Ok(Times::of(protection, workers, timed(rounds), (up / count, down / count)));
            }
            _ => {}
        }
    }
}

/// The rounds of a whole run that count.
fn timed(mut rounds: Vec<Duration>) -> Vec<Duration> {
    rounds.pop();
    rounds.split_off((UNTIMED as usize).min(rounds.len()))
}

fn protection(tls: bool, signed: bool) -> &'static str {
    match (tls, signed) {
        (false, _) => "plain",
        (true, false) => "TLS",
        (true, true) => "TLS, signed ballots",
    }
}

/// Measures on loopback, with the server and every worker in threads of their own: in plain text, with TLS, and with TLS and
/// signatures, `turns` times each, in turns. Identities for that are made in `scratch`.
///
/// # Errors
/// As [`serve`] and [`work`], or if identities cannot be made.
pub fn local(size: Size, turns: u32, scratch: &Path) -> Result<Vec<Times>, Error> {
    let directory = scratch.join("certs");
    certs::init(&directory)?;
    let names = (1..=size.workers).map(|slot| format!("worker-{slot}").parse::<Name>());
    certs::issue(&directory, &names.collect::<Result<Vec<_>, _>>()?)?;
    let ways = [(false, false), (true, false), (true, true)];
    let mut turns_of: Vec<Vec<Times>> = ways.iter().map(|_| Vec::new()).collect();
    for _ in 0..turns.max(1) {
        for (times, (tls, signed)) in turns_of.iter_mut().zip(ways) {
            times.push(turn(size, &directory, tls, signed)?);
        }
    }
    Ok(turns_of.into_iter().filter_map(summary).collect())
}

/// One run on loopback, timed at its first worker.
fn turn(size: Size, certs: &Path, tls: bool, signed: bool) -> Result<Times, Error> {
    let acceptor = tls.then(|| Credentials::load(certs, "server").and_then(Acceptor::new)).transpose()?;
    let connectors = (1..=size.workers).map(|slot| {
        let credentials = || Credentials::load(certs, &format!("worker-{slot}"));
        tls.then(|| credentials().and_then(|it| Connector::new(&it))).transpose()
    });
    let connectors = connectors.collect::<Result<Vec<_>, _>>()?;
    let acceptors = (1..=size.workers).map(|slot| {
        let credentials = || Credentials::load(certs, &format!("worker-{slot}"));
        tls.then(|| credentials().and_then(Acceptor::for_shard)).transpose()
    });
    let acceptors = acceptors.collect::<Result<Vec<_>, _>>()?;
    let (tell, address) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
            serve_with(anywhere, (acceptor, Some(signed)), size, |at| {
                // Whoever waits for it is there.
                let _ = tell.send(at);
            })
        });
        // If it does not listen, it says why.
        let Ok(address) = address.recv() else { return joined(server.join()) };
        let workers: Vec<_> = connectors
            .into_iter()
            .zip(acceptors)
            .zip(1..)
            .map(|((tls, shard_tls), slot)| {
                let connect = Connect {
                    address: address.to_string(),
                    patience: PATIENCE,
                    reconnect: Duration::ZERO,
                    tls,
                };
                let shard = matches!(size.topology, Topology::Sharded { .. })
                    .then(|| ShardAt { address: SocketAddr::from(([127, 0, 0, 1], 0)), tls: shard_tls });
                scope.spawn(move || work(&connect, Some(slot), size.dim, shard))
            })
            .collect();
        let times = workers.into_iter().map(|worker| joined(worker.join())).collect::<Result<Vec<_>, _>>();
        let of_server = joined(server.join())?;
        let first = times?.swap_remove(0);
        // Bytes as the server counts them: without joins.
        Ok(Times { bytes_up: of_server.bytes_up, bytes_down: of_server.bytes_down, ..first })
    })
}

fn joined(outcome: std::thread::Result<Result<Times, Error>>) -> Result<Times, Error> {
    // A panic of a thread is a panic of the bench.
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The turns of one way together.
fn summary(mut turns: Vec<Times>) -> Option<Times> {
    turns.sort_by(|a, b| a.median_ms.total_cmp(&b.median_ms));
    let extreme = |of: fn(&Times) -> f64, pick: fn(f64, f64) -> f64| turns.iter().map(of).reduce(pick);
    let (p95_ms, max_ms) = (extreme(|it| it.p95_ms, f64::max)?, extreme(|it| it.max_ms, f64::max)?);
    let min_ms = extreme(|it| it.min_ms, f64::min)?;
    let median = turns.get(turns.len() / 2)?.clone();
    Some(Times { p95_ms, min_ms, max_ms, ..median })
}
