//! Sockets, clock and byte counts around an election's server.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use signvote_election::wire::{self, LENGTH_BYTES};
use signvote_election::{Event, Output, PeerId, Server, Slot, Traffic};
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::Error;
use crate::counted::{Counted, Counters};
use crate::frames::{BUFFER_BYTES, ReadError, read_frame, write_queue};
use crate::socket::prepare;

/// Frames read but not yet handled, over all connections: past that, reading waits.
const INBOUND_FRAMES: usize = 256;
/// Connections beyond the run's places: newcomers that have yet to be refused.
const SPARE_CONNECTIONS: usize = 64;
/// How long a queue may take to drain after its connection is done with.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a peer that was sent away is still listened to, its words discarded: closing a socket with unread
/// bytes resets the connection, and the peer would never read why.
const LINGER: Duration = Duration::from_secs(1);

/// How long newcomers wait after one could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who is told what happens, with a look at the election's state at that moment.
pub trait Observer {
    /// Something happened. `Break` with a reason ends the run after the last committed round.
    fn observe(&mut self, event: &Event, election: &Server) -> ControlFlow<String>;
}

/// How to serve.
#[derive(Clone, Copy, Debug)]
pub struct Serve {
    /// Rounds between two [`Event::Traffic`]; one more comes at the end. 0 for only that.
    pub traffic_every: u64,
    /// Places for workers: bounds the connections.
    pub workers: u16,
}

/// Listens at `address`, which beyond loopback has to be called insecure.
///
/// # Errors
/// If the address is taken, not allowed, or reachable by others while `insecure` is false.
pub async fn listen(address: SocketAddr, insecure: bool) -> Result<TcpListener, Error> {
    if !address.ip().is_loopback() && !insecure {
        return Err(Error::Insecure { address: address.to_string() });
    }
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address: address.to_string(), source })
}

/// Serves an election until it is done, or until `stop` yields a reason; gives the election back.
pub async fn serve(
    listener: TcpListener,
    election: Server,
    options: Serve,
    observer: &mut dyn Observer,
    stop: impl Future<Output = String>,
) -> Server {
    let (inbound, mut from_peers) = mpsc::channel(INBOUND_FRAMES);
    let mut shell = Shell {
        election,
        options,
        observer,
        connections: HashMap::new(),
        traffic: (0..options.workers).filter_map(|i| Slot::new(i + 1)).map(no_traffic).collect(),
        ended: Vec::new(),
        start: Instant::now(),
        leaving: tokio::task::JoinSet::new(),
        done: false,
    };
    let mut next_peer = 0;
    let mut stop = std::pin::pin!(stop);
    let mut stopping = false;
    // When the next newcomer may be let in: put off after a failed attempt.
    let mut accept_from = Instant::now();
    while !shell.done {
        // A time that no clock reaches is no timeout.
        let timeout = shell.election.next_timeout().and_then(|at| shell.start.checked_add(at));
        let full =
            shell.connections.len() + shell.leaving.len() >= usize::from(options.workers) + SPARE_CONNECTIONS;
        tokio::select! {
            Some((peer, message)) = from_peers.recv() => shell.receive(peer, message),
            accepted = accept(&listener, accept_from), if !full => match accepted {
                Ok((stream, _)) => {
                    next_peer += 1;
                    shell.accept(PeerId(next_peer), stream, inbound.clone());
                }
                // Out of file descriptors, say: that concerns newcomers, not the run.
                Err(_) => accept_from = Instant::now() + ACCEPT_PAUSE,
            },
            // Makes room for newcomers.
            Some(_) = shell.leaving.join_next(), if !shell.leaving.is_empty() => {}
            () = sleep_until(timeout) => shell.election.handle_timeout(shell.start.elapsed()),
            reason = &mut stop, if !stopping => {
                stopping = true;
                shell.election.stop(shell.start.elapsed(), &reason);
            }
        }
        shell.drain();
    }
    shell.farewell().await;
    shell.election
}

async fn accept(listener: &TcpListener, from: Instant) -> std::io::Result<(TcpStream, SocketAddr)> {
    tokio::time::sleep_until(from).await;
    listener.accept().await
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What a connection's tasks tell the shell.
enum Inbound {
    Frame(Vec<u8>),
    /// Nothing more will come.
    Ended(ReadError),
}

/// The shell's side of one connection.
struct Connection {
    queue: mpsc::UnboundedSender<Bytes>,
    queued_bytes: Arc<AtomicUsize>,
    /// Longest frame that it may send now.
    allowed: Arc<AtomicUsize>,
    counters: Arc<Counters>,
    slot: Option<Slot>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

struct Shell<'a> {
    election: Server,
    options: Serve,
    observer: &'a mut dyn Observer,
    connections: HashMap<PeerId, Connection>,
    /// Bytes of connections that have ended, by place.
    traffic: Vec<Traffic>,
    /// Counters of connections that are ending.
    ended: Vec<(Slot, Arc<Counters>)>,
    start: Instant,
    /// Connections that are done with, but may still have something to say.
    leaving: tokio::task::JoinSet<()>,
    done: bool,
}

impl Shell<'_> {
    fn accept(&mut self, peer: PeerId, stream: TcpStream, inbound: mpsc::Sender<(PeerId, Inbound)>) {
        prepare(&stream);
        let counters = Arc::new(Counters::default());
        let (read, write) = stream.into_split();
        let allowed = Arc::new(AtomicUsize::new(wire::MAX_HELLO_BYTES));
        let reader = {
            let (counters, allowed) = (Arc::clone(&counters), Arc::clone(&allowed));
            let stream = Counted::new(read, Arc::clone(&counters));
            tokio::spawn(async move {
                let mut stream = BufReader::with_capacity(BUFFER_BYTES, stream);
                loop {
                    let message = match read_frame(&mut stream, || allowed.load(Relaxed)).await {
                        Ok(frame) => Inbound::Frame(frame),
                        Err(error) => Inbound::Ended(error),
                    };
                    if let Inbound::Frame(frame) = &message {
                        count_join(&counters.join_up, frame);
                    }
                    let ended = matches!(message, Inbound::Ended(_));
                    let discard = matches!(message, Inbound::Ended(ReadError::TooLong { .. }));
                    if inbound.send((peer, message)).await.is_err() || (ended && !discard) {
                        return;
                    }
                    if discard {
                        // Until LINGER is over; an error ends it too.
                        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                        return;
                    }
                }
            })
        };
        let (queue, mut frames) = mpsc::unbounded_channel();
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let writer = {
            let (counters, queued) = (Arc::clone(&counters), Arc::clone(&queued_bytes));
            let stream = Counted::new(write, Arc::clone(&counters));
            tokio::spawn(async move {
                // A failed write shows at the reader too, which tells the shell.
                let _ = write_queue(stream, &mut frames, |frame| {
                    queued.fetch_sub(frame.len(), Relaxed);
                    count_join(&counters.join_down, frame);
                })
                .await;
            })
        };
        let tasks = [reader, writer];
        self.connections
            .insert(peer, Connection { queue, queued_bytes, allowed, counters, slot: None, tasks });
        self.election.connected(self.start.elapsed(), peer);
    }

    fn receive(&mut self, peer: PeerId, message: Inbound) {
        let now = self.start.elapsed();
        match message {
            Inbound::Frame(frame) => {
                self.election.handle(now, peer, &frame);
                if let Some(connection) = self.connections.get_mut(&peer) {
                    connection.allowed.store(self.election.max_frame_bytes(peer), Relaxed);
                    connection.slot = connection.slot.or_else(|| self.election.slot_of(peer));
                }
            }
            Inbound::Ended(error @ ReadError::TooLong { .. }) => {
                self.election.refuse(now, peer, &error.to_string());
            }
            Inbound::Ended(error) => {
                self.election.disconnected(now, peer, &error.to_string());
                self.close(peer);
            }
        }
    }

    /// Does everything that the election wants done.
    fn drain(&mut self) {
        while let Some(output) = self.election.poll() {
            match output {
                Output::Send { peer, frame } => self.send(peer, frame),
                Output::Close { peer } => self.close(peer),
                Output::Event(event) => self.observe(&event),
                Output::Done => self.done = true,
                _ => {}
            }
        }
    }

    fn send(&mut self, peer: PeerId, frame: Bytes) {
        let Some(connection) = self.connections.get(&peer) else { return };
        // Before the peer can answer: this frame may be the one that lets it send more.
        connection.allowed.store(self.election.max_frame_bytes(peer), Relaxed);
        let model_bytes = self.election.model().map_or(0, |(_, x, _)| x.len() * 4);
        // A snapshot and some rounds may wait for a slow link; who reads nothing at all is let go.
        let most = 64 * 1024 * 1024 + 2 * model_bytes;
        let queued = connection.queued_bytes.fetch_add(frame.len(), Relaxed) + frame.len();
        if queued > most {
            let reason = format!("it does not read: {queued} bytes wait for it");
            self.abort(peer);
            self.election.disconnected(self.start.elapsed(), peer, &reason);
            return;
        }
        // A closed queue means a dead connection; its reader says so.
        let _ = connection.queue.send(frame);
    }

    /// Forgets a connection. Its last frames still go out, within bounds.
    fn close(&mut self, peer: PeerId) {
        if let Some(connection) = self.connections.remove(&peer) {
            self.keep_traffic(&connection);
            self.leaving.spawn(connection.leave());
        }
    }

    fn abort(&mut self, peer: PeerId) {
        if let Some(connection) = self.connections.remove(&peer) {
            self.keep_traffic(&connection);
            connection.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        }
    }

    /// Remembers the bytes of a connection that is done with. Its last frames may still be going out, so the
    /// counters themselves are kept until nobody else holds them.
    fn keep_traffic(&mut self, connection: &Connection) {
        let traffic = &mut self.traffic;
        self.ended.retain(|(slot, counters)| {
            let counts_on = Arc::strong_count(counters) > 1;
            if !counts_on {
                add(&mut traffic[slot.index()], counters);
            }
            counts_on
        });
        if let Some(slot) = connection.slot {
            self.ended.push((slot, Arc::clone(&connection.counters)));
        }
    }

    fn observe(&mut self, event: &Event) {
        let every = self.options.traffic_every;
        let traffic_is_due = match event {
            Event::Committed { round, .. } => every > 0 && round.next().0.is_multiple_of(every),
            Event::Finished { .. } => true,
            _ => false,
        };
        if traffic_is_due {
            self.tell(&Event::Traffic { round: self.election.round(), workers: self.traffic_so_far() });
        }
        self.tell(event);
    }

    fn tell(&mut self, event: &Event) {
        if let ControlFlow::Break(reason) = self.observer.observe(event, &self.election) {
            self.election.stop(self.start.elapsed(), &reason);
        }
    }

    fn traffic_so_far(&self) -> Vec<Traffic> {
        let mut traffic = self.traffic.clone();
        self.ended.iter().for_each(|(slot, counters)| add(&mut traffic[slot.index()], counters));
        for connection in self.connections.values() {
            if let Some(slot) = connection.slot {
                add(&mut traffic[slot.index()], &connection.counters);
            }
        }
        traffic
    }

    /// Lets the last frames go out to everyone, at the same time.
    async fn farewell(&mut self) {
        self.connections.drain().for_each(|(_, connection)| {
            self.leaving.spawn(connection.leave());
        });
        while self.leaving.join_next().await.is_some() {}
    }
}

impl Connection {
    /// Lets the queue drain, then the peer hang up; neither for ever.
    async fn leave(self) {
        drop(self.queue);
        let [mut reader, mut writer] = self.tasks;
        let _ = tokio::time::timeout(DRAIN, &mut writer).await;
        writer.abort();
        let _ = tokio::time::timeout(LINGER, &mut reader).await;
        reader.abort();
    }
}

fn count_join(counter: &AtomicU64, frame: &[u8]) {
    if !frame.get(LENGTH_BYTES).is_some_and(|&kind| wire::is_round_traffic(kind)) {
        counter.fetch_add(frame.len() as u64, Relaxed);
    }
}

fn no_traffic(slot: Slot) -> Traffic {
    Traffic { slot, round_up_bytes: 0, round_down_bytes: 0, join_up_bytes: 0, join_down_bytes: 0 }
}

/// Adds a connection's bytes: what passed the socket and was no join is the traffic of rounds.
fn add(traffic: &mut Traffic, counters: &Counters) {
    let (join_up, join_down) = (counters.join_up.load(Relaxed), counters.join_down.load(Relaxed));
    traffic.join_up_bytes += join_up;
    traffic.join_down_bytes += join_down;
    traffic.round_up_bytes += counters.up.load(Relaxed).saturating_sub(join_up);
    traffic.round_down_bytes += counters.down.load(Relaxed).saturating_sub(join_down);
}
