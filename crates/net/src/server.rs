//! Sockets, clock and byte counts around an election's server.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use signvote_election::{
    Event, Identity, Origin, Output, PeerId, PublicKey, Record, Server, Slot, Traffic, wire,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::connection::{Connection, Inbound};
use crate::counted::{Counted, Counters};
use crate::socket::prepare;
use crate::tls::Acceptor;
use crate::{Error, Peer};

/// Frames read but not yet handled, over all connections: past that, reading waits.
const INBOUND_FRAMES: usize = 256;
/// Connections beyond the run's places: newcomers that have yet to be refused, and handshakes.
const SPARE_CONNECTIONS: usize = 64;
/// How long a newcomer's handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long newcomers wait after one could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often the list of revoked certificates is looked at.
const REVOCATIONS: Duration = Duration::from_secs(1);
/// Bytes that may wait for a peer before it is sent no more verdicts as they happen.
const CONGESTED_BYTES: usize = 4 << 20;

/// Who is told what happens, with a look at the election's state at that moment.
///
/// `Break` with a reason ends this server after the last committed round.
pub trait Observer {
    /// Something happened. `Break` ends the run, or this server of it if the run is [resumable](Serve::resumable).
    fn observe(&mut self, event: &Event, election: &Server) -> ControlFlow<String>;

    /// A round was decided, and nobody has heard of its commit yet. After `Break` nobody does: the server goes,
    /// and the round has not happened.
    fn record(&mut self, _record: &Record, _election: &Server) -> ControlFlow<String> {
        ControlFlow::Continue(())
    }

    /// A place belongs to this identity from now on.
    fn bound(&mut self, _slot: Slot, _identity: &Identity, _election: &Server) -> ControlFlow<String> {
        ControlFlow::Continue(())
    }
}

/// How to serve.
#[derive(Clone, Debug)]
pub struct Serve {
    /// Rounds between two [`Event::Traffic`]; one more comes at the end. 0 for only that.
    pub traffic_every: u64,
    /// Places for workers: bounds the connections.
    pub workers: u16,
    /// Who is let in; `None`: everybody, unencrypted.
    pub tls: Option<Acceptor>,
    /// Whether the run can go on when this server has failed: workers are then told to look for it again, and otherwise that
    /// the run is over.
    pub resumable: bool,
}

/// What a server can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The run is over.
    Finish {
        /// Why.
        reason: String,
    },
    /// The server goes after the open round, and the run may be resumed. Said twice: at once.
    Pause {
        /// Why.
        reason: String,
        /// How long the open round may take.
        patience: Duration,
    },
}

/// Listens at `address`, which beyond loopback needs identities, or has to be called insecure.
///
/// # Errors
/// If the address is taken, not allowed, or reachable by others while `open` is false.
pub async fn listen(address: SocketAddr, open: bool) -> Result<TcpListener, Error> {
    if !address.ip().is_loopback() && !open {
        return Err(Error::Insecure { address: address.to_string() });
    }
    TcpListener::bind(address).await.map_err(|source| Error::Listen { address: address.to_string(), source })
}

/// Serves an election until it is done, stopping it as `stops` says; gives the election back.
pub async fn serve(
    listener: TcpListener,
    election: Server,
    options: Serve,
    observer: &mut dyn Observer,
    mut stops: mpsc::UnboundedReceiver<Stop>,
) -> Server {
    let (inbound, mut from_peers) = mpsc::channel(INBOUND_FRAMES);
    let mut shell = Shell::new(election, options, observer, inbound);
    // When the next newcomer may be let in: put off after a failed attempt.
    let mut accept_from = Instant::now();
    let mut revocations = tokio::time::interval(REVOCATIONS);
    shell.drain();
    while !shell.done {
        // A time that no clock reaches is no timeout.
        let timeout = shell.election.next_timeout().and_then(|at| shell.start.checked_add(at));
        tokio::select! {
            Some((peer, message)) = from_peers.recv() => shell.receive(peer, message),
            accepted = accept(&listener, accept_from) => match accepted {
                Ok((stream, address)) => shell.welcome(stream, address),
                // Out of file descriptors, say: that concerns newcomers, not the run.
                Err(_) => accept_from = Instant::now() + ACCEPT_PAUSE,
            },
            Some(greeted) = shell.handshakes.join_next() => {
                // Aborted: a newer stranger took its room.
                if let Ok(greeted) = greeted {
                    shell.greeted(greeted);
                }
            }
            Some(_) = shell.leaving.join_next() => {}
            () = sleep_until(timeout) => shell.election.handle_timeout(shell.start.elapsed()),
            _ = revocations.tick(), if shell.options.tls.is_some() => shell.revoke(),
            Some(stop) = stops.recv() => shell.stop(stop),
        }
        shell.drain();
        if shell.election.is_step_due() {
            // The tasks that write run before this one does again: the workers need not wait for this server's own copy of x.
            tokio::task::yield_now().await;
            shell.carry_out_rest();
        }
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

/// A newcomer's stream, once it is known who speaks on it.
struct Greeted {
    address: SocketAddr,
    local: bool,
    counters: Arc<Counters>,
    outcome: Result<(tokio_rustls::TlsStream<Counted<TcpStream>>, Peer), String>,
}

struct Shell<'a> {
    election: Server,
    options: Serve,
    observer: &'a mut dyn Observer,
    connections: HashMap<PeerId, Connection>,
    last_peer: u64,
    inbound: mpsc::Sender<(PeerId, Inbound)>,
    /// Newcomers in their TLS handshake, and how to end the one that has been at it longest.
    handshakes: JoinSet<Greeted>,
    oldest_handshakes: VecDeque<AbortHandle>,
    /// Bytes of connections that have ended, by place.
    traffic: Vec<Traffic>,
    /// Counters of connections that are ending.
    ended: Vec<(Slot, Arc<Counters>)>,
    start: Instant,
    /// Those whose queues were too long when they were last sent something.
    congested: Vec<PeerId>,
    /// Connections that are done with, but may still have something to say, and how to end the one of a stranger
    /// that has been at it longest.
    leaving: JoinSet<()>,
    leaving_strangers: VecDeque<AbortHandle>,
    done: bool,
}

impl<'a> Shell<'a> {
    fn new(
        election: Server,
        options: Serve,
        observer: &'a mut dyn Observer,
        inbound: mpsc::Sender<(PeerId, Inbound)>,
    ) -> Self {
        Self {
            election,
            observer,
            connections: HashMap::new(),
            last_peer: 0,
            inbound,
            handshakes: JoinSet::new(),
            oldest_handshakes: VecDeque::new(),
            traffic: (0..options.workers).filter_map(|i| Slot::new(i + 1)).map(no_traffic).collect(),
            options,
            ended: Vec::new(),
            start: Instant::now(),
            congested: Vec::new(),
            leaving: JoinSet::new(),
            leaving_strangers: VecDeque::new(),
            done: false,
        }
    }

    /// Somebody has connected. Strangers have limited room, in which the newest takes the oldest one's: however many
    /// come and say nothing, a worker gets in.
    fn welcome(&mut self, stream: TcpStream, address: SocketAddr) {
        prepare(&stream);
        let local = stream.local_addr().is_ok_and(|own| own.ip() == address.ip());
        let counters = Arc::new(Counters::default());
        let Some(tls) = self.options.tls.clone() else {
            self.make_room();
            let (read, write) = stream.into_split();
            let read = Counted::new(read, Arc::clone(&counters));
            let write = Counted::new(write, Arc::clone(&counters));
            let origin = Origin { address: address.ip().to_string(), identity: None, local };
            self.connect(read, write, counters, origin, None);
            return;
        };
        let task = async move {
            let stream = Counted::new(stream, Arc::clone(&counters));
            let outcome = match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
                Ok(Ok(secured)) => Ok(secured),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("its handshake was not through after {HANDSHAKE:?}")),
            };
            Greeted { address, local, counters, outcome }
        };
        let handle = self.handshakes.spawn(task);
        make_way(&mut self.oldest_handshakes, handle);
    }

    /// A handshake is through, or has failed.
    fn greeted(&mut self, Greeted { address, local, counters, outcome }: Greeted) {
        let address = address.ip().to_string();
        // Its handshake may have begun before somebody was put on the list of revoked certificates.
        let still_valid =
            |secured: (_, Peer)| match self.options.tls.as_ref().map(|tls| tls.still_valid(&secured.1)) {
                Some(Err(error)) => Err(error.to_string()),
                _ => Ok(secured),
            };
        let (stream, peer) = match outcome.and_then(still_valid) {
            Ok(secured) => secured,
            Err(reason) => {
                self.election.stranger(self.start.elapsed(), &address, &reason);
                return;
            }
        };
        self.make_room();
        // The handshake is no traffic of rounds.
        counters.join_up.store(counters.up.load(Relaxed), Relaxed);
        counters.join_down.store(counters.down.load(Relaxed), Relaxed);
        let identity = Identity { name: peer.name().to_string(), key: PublicKey(*peer.key()) };
        let (read, write) = tokio::io::split(stream);
        self.connect(read, write, counters, Origin { address, identity: Some(identity), local }, Some(peer));
    }

    fn make_room(&mut self) {
        let strangers = self.election.strangers();
        if strangers.len() >= SPARE_CONNECTIONS
            && let Some(&oldest) = strangers.first()
        {
            self.election.disconnected(self.start.elapsed(), oldest, "a newer stranger took its room");
            self.abort(oldest);
        }
    }

    fn connect(
        &mut self,
        read: impl tokio::io::AsyncRead + Send + Unpin + 'static,
        write: impl tokio::io::AsyncWrite + Send + Unpin + 'static,
        counters: Arc<Counters>,
        origin: Origin,
        certificate: Option<Peer>,
    ) {
        self.last_peer += 1;
        let peer = PeerId(self.last_peer);
        let connection = Connection::start(peer, read, write, counters, certificate, self.inbound.clone());
        self.connections.insert(peer, connection);
        self.election.connected(self.start.elapsed(), peer, origin);
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
            Inbound::Drained => self.election.drained(now, peer),
            Inbound::Offence(error) => self.election.refuse(now, peer, &error),
            Inbound::Ended(error) => {
                self.election.disconnected(now, peer, &error);
                self.close(peer);
            }
        }
    }

    fn stop(&mut self, stop: Stop) {
        let now = self.start.elapsed();
        match stop {
            Stop::Finish { reason } => self.election.stop(now, &reason),
            Stop::Pause { reason, patience } => self.election.pause(now, &reason, patience),
        }
    }

    /// Puts out those whose certificates have been revoked.
    fn revoke(&mut self) {
        let Some(tls) = &self.options.tls else { return };
        match tls.reload() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::error!(%error, "the list of revoked certificates cannot be read; the last one holds");
                return;
            }
        }
        let revoked: Vec<_> = self
            .connections
            .iter()
            .filter_map(|(&peer, connection)| {
                let error = tls.still_valid(connection.certificate.as_ref()?).err()?;
                Some((peer, error.to_string()))
            })
            .collect();
        for (peer, reason) in revoked {
            self.election.expel(self.start.elapsed(), peer, &reason);
        }
    }

    /// Does everything that the election wants done.
    fn drain(&mut self) {
        self.carry_out();
        // Who has been left behind is sent nothing more, and may have drained before anyone asked it to say so.
        for peer in std::mem::take(&mut self.congested) {
            let Some(connection) = self.connections.get(&peer) else { continue };
            if !self.election.is_behind(peer) {
                self.congested.push(peer);
                continue;
            }
            connection.behind.store(true, Relaxed);
            if connection.queued_bytes.load(Relaxed) == 0 {
                self.election.drained(self.start.elapsed(), peer);
                self.carry_out();
            }
        }
    }

    /// Does everything that need not wait for x.
    fn carry_out(&mut self) {
        loop {
            while let Some(output) = self.election.poll_urgent() {
                self.carry_out_one(output);
            }
            if self.election.is_step_due() {
                return;
            }
            let Some(output) = self.election.poll() else { return };
            self.carry_out_one(output);
        }
    }

    fn carry_out_rest(&mut self) {
        while let Some(output) = self.election.poll() {
            self.carry_out_one(output);
        }
    }

    fn carry_out_one(&mut self, output: Output) {
        match output {
            Output::Send { peer, frame } => self.send(peer, frame),
            Output::Close { peer } => self.close(peer),
            Output::Event(event) => self.observe(&event),
            Output::Record(record) => {
                if let ControlFlow::Break(reason) = self.observer.record(&record, &self.election) {
                    self.election.abandon(&reason);
                }
            }
            Output::Bound { slot, identity } => {
                if let ControlFlow::Break(reason) = self.observer.bound(slot, &identity, &self.election) {
                    self.election.abandon(&reason);
                }
            }
            Output::Status { peer, bytes } => self.tell_status(peer, bytes),
            Output::Done => self.done = true,
            _ => {}
        }
    }

    fn send(&mut self, peer: PeerId, frame: Bytes) {
        let Some(connection) = self.connections.get(&peer) else { return };
        // Before the peer can answer: this frame may be the one that lets it send more.
        connection.allowed.store(self.election.max_frame_bytes(peer), Relaxed);
        let behind = self.election.is_behind(peer);
        connection.behind.store(behind, Relaxed);
        let queued = connection.queued_bytes.fetch_add(frame.len(), Relaxed) + frame.len();
        // A round's verdict may be longer than what is much for a small model. Twice that can wait: the verdict
        // that was on its way, and the one that is finished.
        let much = CONGESTED_BYTES + 2 * self.election.verdict_bytes();
        if queued > much && !behind {
            self.election.congested(peer);
            if !self.congested.contains(&peer) {
                self.congested.push(peer);
            }
        }
        // A closed queue means a dead connection; its reader says so.
        let _ = connection.queue.send(frame);
    }

    fn tell_status(&mut self, peer: PeerId, bytes: usize) {
        let mut status = self.election.status(self.start.elapsed());
        for (worker, traffic) in status.workers.iter_mut().zip(self.traffic_so_far()) {
            worker.traffic = Some(traffic);
        }
        // Numbers and strings: there is nothing in it that JSON cannot say.
        if let Ok(mut json) = serde_json::to_string(&status) {
            // Blanks behind it are JSON as well.
            json.push_str(&" ".repeat(bytes.saturating_sub(json.len())));
            self.send(peer, wire::status(&json));
        }
    }

    /// Forgets a connection. Its last frames still go out, within bounds.
    fn close(&mut self, peer: PeerId) {
        if let Some(connection) = self.connections.remove(&peer) {
            self.keep_traffic(&connection);
            let stranger = connection.slot.is_none();
            let handle = self.leaving.spawn(connection.leave());
            if stranger {
                make_way(&mut self.leaving_strangers, handle);
            }
        }
    }

    fn abort(&mut self, peer: PeerId) {
        if let Some(connection) = self.connections.remove(&peer) {
            self.keep_traffic(&connection);
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
            Event::Finished { .. } | Event::Paused { .. } => true,
            _ => false,
        };
        if traffic_is_due {
            self.tell(&Event::Traffic { round: self.election.round(), workers: self.traffic_so_far() });
        }
        self.tell(event);
    }

    fn tell(&mut self, event: &Event) {
        if let ControlFlow::Break(reason) = self.observer.observe(event, &self.election) {
            let ended = matches!(event, Event::Finished { .. } | Event::Paused { .. });
            match self.options.resumable && !ended {
                true => self.election.abandon(&reason),
                false => self.election.stop(self.start.elapsed(), &reason),
            }
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
        for row in &mut traffic {
            let (up, down) = self.election.carried_by_shards(row.slot);
            row.round_up_bytes += up;
            row.round_down_bytes += down;
        }
        traffic
    }

    /// Lets the last frames go out to everyone, at the same time.
    async fn farewell(&mut self) {
        self.handshakes.abort_all();
        self.connections.drain().for_each(|(_, connection)| {
            self.leaving.spawn(connection.leave());
        });
        while self.leaving.join_next().await.is_some() {}
    }
}

/// Adds a task to those that are bounded in number: the oldest one ends for it.
fn make_way(tasks: &mut VecDeque<AbortHandle>, newest: AbortHandle) {
    tasks.retain(|task| !task.is_finished());
    if tasks.len() >= SPARE_CONNECTIONS
        && let Some(oldest) = tasks.pop_front()
    {
        oldest.abort();
    }
    tasks.push_back(newest);
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
