//! Sockets around a shard: workers on one side, its server on the other.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use signvote_election::wire::{Enrolment, Later, MAX_FRAME_BYTES};
use signvote_election::{Dismissal, ExchangeError, PeerId, RunId, Shard, ShardId, ShardOutput};
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Error;
use crate::client::{Connect, dial, pause, spread};
use crate::connection::{Connection, Inbound};
use crate::counted::{Counted, Counters};
use crate::server::listen;
use crate::socket::prepare;
use crate::tls::Acceptor;

/// Frames read but not yet handled, over all connections: past that, reading waits.
const INBOUND_FRAMES: usize = 256;
/// Workers that have yet to show their tickets.
const MOST_STRANGERS: usize = 64;
/// How long a newcomer's handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Bytes that may wait for a worker, beside two rounds' verdicts, before it is hung up on. It comes back, or catches up.
const CONGESTED_BYTES: usize = 4 << 20;
/// Bytes that may be on their way between a shard and the worker beside it.
const LOCAL_BYTES: usize = 256 << 10;
/// The connection to the server among those to workers.
const SERVER: PeerId = PeerId(0);

/// How a shard serves.
#[derive(Clone, Debug)]
pub struct ServeShard {
    /// Where its server is, how long to look for it, and who this shard is.
    pub server: Connect,
    /// Which workers are let in; `None`: all that know a ticket, unencrypted.
    pub tls: Option<Acceptor>,
    /// The only run that it wants to serve, if it cares.
    pub run: Option<RunId>,
    /// Its name for people.
    pub name: String,
    /// Where workers find it, as `host:port`; without a host: where its server sees it.
    pub address: String,
}

/// The way into a shard of the same process, past the sockets: for the worker beside it, whose part of the bytes never leaves the
/// host.
#[derive(Clone, Debug)]
pub struct LocalShard {
    /// What its server calls it; 0 as long as it is not enrolled.
    id: Arc<AtomicU32>,
    doors: mpsc::UnboundedSender<DuplexStream>,
}

impl LocalShard {
    /// Connects to it, if it is the one that its server calls so.
    pub(crate) fn connect(&self, id: ShardId) -> Option<DuplexStream> {
        let (ours, its) = tokio::io::duplex(LOCAL_BYTES);
        let is_it = self.id.load(Relaxed) == id.0;
        (is_it && self.doors.send(its).is_ok()).then_some(ours)
    }
}

/// Tallies for a server until the run is over, and says why it is.
///
/// # Errors
/// If the server is not there, is lost for longer than [`Connect::reconnect`], or refuses this shard.
pub async fn serve_shard(listener: TcpListener, options: ServeShard) -> Result<String, ExchangeError> {
    let (doors, visitors) = mpsc::unbounded_channel();
    let local = LocalShard { id: Arc::default(), doors };
    serve_beside(listener, options, local.id, visitors).await
}

async fn serve_beside(
    listener: TcpListener,
    options: ServeShard,
    id: Arc<AtomicU32>,
    mut visitors: mpsc::UnboundedReceiver<DuplexStream>,
) -> Result<String, ExchangeError> {
    let (inbound, mut events) = mpsc::channel(INBOUND_FRAMES);
    let enrolment =
        Enrolment { run: options.run, name: options.name.clone(), address: options.address.clone() };
    let mut shell = Shell {
        shard: Shard::new(enrolment),
        connections: HashMap::new(),
        last: SERVER.0,
        inbound,
        leaving: JoinSet::new(),
        id,
    };
    let mut patience = options.server.patience;
    let (mut since, mut attempts) = (Instant::now(), 0);
    loop {
        let left = if attempts == 0 { patience } else { patience.saturating_sub(since.elapsed()) };
        shell.connect_to_server(&options.server, left, attempts == 0).await?;
        let ended = shell.serve(&listener, options.tls.as_ref(), &mut events, &mut visitors).await;
        let why = match ended {
            Ok(Some(Dismissal::Finished(reason))) => {
                shell.farewell().await;
                return Ok(reason);
            }
            Ok(Some(Dismissal::Refused { later: Later::Never, reason })) => {
                return Err(ExchangeError::Protocol(signvote_election::Error::Refused {
                    later: Later::Never,
                    reason,
                }));
            }
            Ok(Some(Dismissal::Refused { reason, .. } | Dismissal::Paused(reason))) => reason,
            Ok(_) => "its connection has ended".into(),
            Err(reason) => reason,
        };
        if shell.shard.id().is_some() {
            (since, attempts, patience) = (Instant::now(), 0, options.server.reconnect);
        }
        if since.elapsed() >= patience {
            let address = &options.server.address;
            return Err(ExchangeError::Lost(format!("this shard has lost the server at {address}: {why}")));
        }
        tracing::warn!(reason = why, "a shard has no server: looking for it again");
        tokio::time::sleep(spread(pause(attempts))).await;
        attempts += 1;
        shell.shard.reconnect();
        shell.carry_out();
    }
}

/// A worker's stream after its handshake.
type Secured = (tokio_rustls::TlsStream<Counted<TcpStream>>, Arc<Counters>);

struct Shell {
    shard: Shard,
    connections: HashMap<PeerId, Connection>,
    last: u64,
    inbound: mpsc::Sender<(PeerId, Inbound)>,
    /// Connections that are done with, but whose last frames are still going out.
    leaving: JoinSet<()>,
    /// What the server calls this shard, for the worker beside it.
    id: Arc<AtomicU32>,
}

impl Shell {
    async fn connect_to_server(
        &mut self,
        server: &Connect,
        patience: Duration,
        first: bool,
    ) -> Result<(), ExchangeError> {
        let stream = dial(server, patience, first).await.map_err(|loss| loss.error)?;
        prepare(&stream);
        let counters = Arc::new(Counters::default());
        let stream = Counted::new(stream, Arc::clone(&counters));
        let connection = match &server.tls {
            None => {
                let (read, write) = tokio::io::split(stream);
                Connection::start(SERVER, read, write, counters, None, self.inbound.clone())
            }
            Some(tls) => {
                let secured = tokio::time::timeout(HANDSHAKE, tls.connect(stream)).await;
                let stream = match secured {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => {
                        return Err(ExchangeError::Untrusted(format!("{}: {error}", server.address)));
                    }
                    Err(_) => {
                        let slow = "the TLS handshake was not through in time";
                        return Err(ExchangeError::Lost(format!("{}: {slow}", server.address)));
                    }
                };
                let (read, write) = tokio::io::split(stream);
                Connection::start(SERVER, read, write, counters, None, self.inbound.clone())
            }
        };
        connection.allowed.store(MAX_FRAME_BYTES, Relaxed);
        self.connections.insert(SERVER, connection);
        self.carry_out();
        Ok(())
    }

    /// Serves until the connection to the server has ended, or the server has said so.
    async fn serve(
        &mut self,
        listener: &TcpListener,
        tls: Option<&Acceptor>,
        events: &mut mpsc::Receiver<(PeerId, Inbound)>,
        visitors: &mut mpsc::UnboundedReceiver<DuplexStream>,
    ) -> Result<Option<Dismissal>, String> {
        let mut handshakes = JoinSet::new();
        loop {
            tokio::select! {
                Some(stream) = visitors.recv() => {
                    let (read, write) = tokio::io::split(stream);
                    self.connect(read, write, Arc::new(Counters::default()));
                }
                Some((peer, message)) = events.recv() => {
                    let dismissal = match (peer, message) {
                        (SERVER, Inbound::Frame(frame)) => {
                            let dismissal = self.shard.handle_server(&frame).map_err(|error| error.to_string())?;
                            self.id.store(self.shard.id().map_or(0, |id| id.0), Relaxed);
                            dismissal
                        }
                        // Of an earlier connection, or of this one: in that case a word of it comes first.
                        (SERVER, Inbound::Ended(reason) | Inbound::Offence(reason)) => {
                            self.connections.remove(&SERVER);
                            return Err(reason);
                        }
                        (peer, message) => {
                            self.receive(peer, message);
                            None
                        }
                    };
                    self.carry_out();
                    if dismissal.is_some() {
                        self.connections.remove(&SERVER);
                        return Ok(dismissal);
                    }
                }
                accepted = listener.accept(), if handshakes.len() < MOST_STRANGERS => {
                    // Out of file descriptors, say: that concerns newcomers.
                    let Ok((stream, _)) = accepted else {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    };
                    self.welcome(stream, tls, &mut handshakes);
                }
                Some(secured) = handshakes.join_next() => {
                    if let Ok(Some((stream, counters))) = secured {
                        let (read, write) = tokio::io::split(stream);
                        self.connect(read, write, counters);
                    }
                }
                Some(_) = self.leaving.join_next() => {}
            }
        }
    }

    fn welcome(
        &mut self,
        stream: TcpStream,
        tls: Option<&Acceptor>,
        handshakes: &mut JoinSet<Option<Secured>>,
    ) {
        prepare(&stream);
        let counters = Arc::new(Counters::default());
        let stream = Counted::new(stream, Arc::clone(&counters));
        let Some(tls) = tls.cloned() else {
            let (read, write) = tokio::io::split(stream);
            self.connect(read, write, counters);
            return;
        };
        handshakes.spawn(async move {
            let secured = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await;
            // A ticket is shown next: whose certificate it is does not matter here, only that it is one of the run's.
            secured.ok()?.ok().map(|(stream, _)| (stream, counters))
        });
    }

    fn connect(
        &mut self,
        read: impl tokio::io::AsyncRead + Send + Unpin + 'static,
        write: impl tokio::io::AsyncWrite + Send + Unpin + 'static,
        counters: Arc<Counters>,
    ) {
        let strangers = self.shard.strangers();
        if strangers.len() >= MOST_STRANGERS
            && let Some(&oldest) = strangers.first()
        {
            self.shard.disconnected(oldest);
            self.connections.remove(&oldest);
        }
        self.last += 1;
        let peer = PeerId(self.last);
        let connection = Connection::start(peer, read, write, counters, None, self.inbound.clone());
        connection.allowed.store(Shard::MAX_FRAME_BYTES, Relaxed);
        self.connections.insert(peer, connection);
        self.shard.connected(peer);
    }

    fn receive(&mut self, peer: PeerId, message: Inbound) {
        match message {
            Inbound::Frame(frame) => self.shard.handle(peer, &frame),
            Inbound::Drained => {}
            Inbound::Offence(error) => self.shard.refuse(peer, Later::Never, &error),
            Inbound::Ended(_) => {
                self.shard.disconnected(peer);
                self.close(peer);
            }
        }
    }

    /// Does everything that the shard wants done.
    fn carry_out(&mut self) {
        while let Some(output) = self.shard.poll() {
            let (peer, frame) = match output {
                ShardOutput::Server(frame) => (SERVER, frame),
                ShardOutput::Send { peer, frame } => (peer, frame),
                ShardOutput::Close { peer } => {
                    self.close(peer);
                    continue;
                }
                _ => continue,
            };
            let Some(connection) = self.connections.get(&peer) else { continue };
            let queued = connection.queued_bytes.fetch_add(frame.len(), Relaxed) + frame.len();
            // A closed queue means a dead connection; its reader says so.
            let _ = connection.queue.send(frame);
            if peer != SERVER && queued > CONGESTED_BYTES + 2 * self.shard.verdict_bytes() {
                self.shard.refuse(peer, Later::Again, "it takes its verdicts too slowly");
            }
        }
    }

    fn close(&mut self, peer: PeerId) {
        if let Some(connection) = self.connections.remove(&peer) {
            self.leaving.spawn(connection.leave());
        }
    }

    /// Lets the last frames go out to everyone, at the same time.
    async fn farewell(&mut self) {
        let peers: Vec<_> = self.connections.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.close(peer));
        while self.leaving.join_next().await.is_some() {}
    }
}

/// The address that a shard gives to its server, given where it listens: any host of its own is left to the server to see.
fn shard_address(listening: SocketAddr) -> String {
    match listening.ip().is_unspecified() {
        true => format!(":{}", listening.port()),
        false => listening.to_string(),
    }
}

/// A shard in a thread of its own.
#[derive(Debug)]
pub struct ShardThread {
    thread: JoinHandle<Result<String, ExchangeError>>,
    address: SocketAddr,
    local: LocalShard,
}

impl ShardThread {
    /// Listens at `address`, which beyond loopback needs identities or has to be called insecure, and begins to serve. An empty
    /// [`ServeShard::address`] becomes the one that it listens at.
    ///
    /// # Errors
    /// If the address is taken or not allowed, or there is no thread to be had.
    pub fn start(address: SocketAddr, open: bool, options: ServeShard) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::Runtime)?;
        let listener = runtime.block_on(listen(address, open || options.tls.is_some()))?;
        let address = listener.local_addr().unwrap_or(address);
        let mut options = options;
        if options.address.is_empty() {
            options.address = shard_address(address);
        }
        let (doors, visitors) = mpsc::unbounded_channel();
        let local = LocalShard { id: Arc::default(), doors };
        let id = Arc::clone(&local.id);
        let thread = std::thread::Builder::new()
            .name("signvote-shard".into())
            .spawn(move || runtime.block_on(serve_beside(listener, options, id, visitors)))
            .map_err(Error::Runtime)?;
        Ok(Self { thread, address, local })
    }

    /// The way in for a worker of the same process.
    #[must_use]
    pub fn local(&self) -> LocalShard {
        self.local.clone()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the run is over, and says why it is.
    ///
    /// # Errors
    /// As [`serve_shard`].
    ///
    /// # Panics
    /// If the thread has.
    pub fn join(self) -> Result<String, ExchangeError> {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
