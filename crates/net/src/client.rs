//! A worker's connection to a server, and to its shards if it has any, made again when they are lost.

mod ask;
mod shards;

pub use ask::{ask_status, ask_status_of};

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self as std_mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use signvote_election::wire::{Later, MAX_FRAME_BYTES};
use signvote_election::{
    Carried, Error as ElectionError, Exchange, ExchangeError, Greeting, Position, ShardAddress, ShardId,
    Slot, Step, Terms, Voter,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::Error;
use crate::counted::{Counted, Counters};
use crate::frames::{FrameReader, FrameWriter, ReadError};
use crate::shard::LocalShard;
use crate::socket::prepare;
use crate::tls::{self, Connector};

/// Reads that have not yet been looked at: past that, reading waits until the worker has computed.
const INBOUND_READS: usize = 256;
/// Pauses between two attempts to connect: doubled each time, and spread by half either way, so that the workers of a
/// server that was away do not all come at once.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a server may take for its first answer, which comes at once, if only to say that a worker has to wait: as
/// long as it is looked for, between these two.
const ANSWER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// Ticks after which the verdicts of a committed round are taken for lost.
const MOST_TICKS: u32 = 5;
/// How long the last frames may take to go out when a client is dropped.
const DRAIN: Duration = Duration::from_secs(5);

/// What is handed in sooner than this behind the last is a part of a stream.
const CLOSELY: Duration = Duration::from_micros(300);
/// Pieces of a stream that wait for each other.
const MOST_WAITING: u32 = 16;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Where the server is, and how long to look for it.
#[derive(Clone, Debug)]
pub struct Connect {
    /// `host:port`.
    pub address: String,
    /// How long to try, at first, while nobody answers or there is no place.
    pub patience: Duration,
    /// How long to look for a server that was lost.
    pub reconnect: Duration,
    /// Who this worker is, and whom it takes for the server; `None`: nobody knows, unencrypted.
    pub tls: Option<Connector>,
}

/// A worker's exchange over TCP. The sockets are served by a thread of its own, so that frames go out and come
/// in while the caller computes.
///
/// A connection that is lost is made again, within [`Connect::reconnect`], by whichever call notices; replica and
/// ballot stay, and what was missed is caught up with.
#[derive(Debug)]
pub struct Client {
    link: Link,
    terms: Terms,
    slot: Slot,
    /// When something was last handed in, and how often since the last was sent.
    handed_in: Instant,
    waiting: u32,
}

impl Client {
    /// Joins the run of the server, and waits until a round is open. `initial` makes the first parameters from the
    /// terms' seed, if they are wanted: again, if the server was started again before the first round. `carried` is
    /// a replica from an earlier process. `waiting` hears what the worker has to wait for: others, say.
    ///
    /// # Errors
    /// If the server is not there, refuses, or speaks something else.
    pub fn connect(
        connect: &Connect,
        greeting: Greeting,
        carried: Option<Carried>,
        initial: impl Fn(&Terms) -> Vec<f32>,
        waiting: impl FnMut(&str),
    ) -> Result<Self, ExchangeError> {
        Self::connect_beside(None, connect, greeting, carried, initial, waiting)
    }

    /// The same for a worker that has a shard in its own process.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_beside(
        local: Option<LocalShard>,
        connect: &Connect,
        greeting: Greeting,
        carried: Option<Carried>,
        initial: impl Fn(&Terms) -> Vec<f32>,
        mut waiting: impl FnMut(&str),
    ) -> Result<Self, ExchangeError> {
        let voter = match carried {
            Some(carried) => Voter::returning(greeting, carried)?,
            None => Voter::new(greeting),
        };
        let mut link = Link::dial(connect, local, voter)?;
        link.transmit();
        loop {
            if let (Some(terms), true) = (link.voter.terms(), link.voter.wants_parameters()) {
                let x = initial(terms);
                link.voter.provide(x)?;
                link.transmit();
            }
            if let Some(reason) = link.voter.take_waiting() {
                waiting(&reason);
            }
            // From here on the place is this worker's.
            let placed = link.voter.is_live() || link.voter.is_finished();
            if let (true, Some(terms), Some(slot)) = (placed, link.voter.terms(), link.voter.place()) {
                let terms = terms.clone();
                return Ok(Self { link, terms, slot, handed_in: Instant::now(), waiting: 0 });
            }
            link.wait()?;
        }
    }
}

/// Why a connection is of no more use.
#[derive(Debug)]
pub(crate) struct Loss {
    pub(crate) error: ExchangeError,
    /// Whether another connection would end the same way.
    for_good: bool,
}

impl Loss {
    fn passing(reason: impl Into<String>) -> Self {
        Self { error: ExchangeError::Lost(reason.into()), for_good: false }
    }

    fn for_good(reason: impl Into<String>) -> Self {
        Self { for_good: true, ..Self::passing(reason) }
    }

    fn untrusted(address: &str, error: &Error) -> Self {
        Self { error: ExchangeError::Untrusted(format!("{address}: {error}")), for_good: true }
    }

    fn ended() -> Self {
        Self::passing("the network thread has ended")
    }
}

/// What the network thread has for the worker.
#[derive(Debug)]
enum Inbound {
    /// From the server: all that was there. Or it is lost.
    Server(Result<Vec<Bytes>, Loss>),
    /// From a shard: all that was there.
    Shard(ShardId, Vec<Bytes>),
    /// There is a connection to a shard: frames for it go here.
    ShardConnected(ShardId, mpsc::UnboundedSender<Bytes>),
    ShardLost(ShardId, String),
    /// A shard has been out of reach for a while.
    ShardUnreachable(ShardId, String),
    /// Some time has passed.
    Tick,
}

/// A connection, and the thread that serves it.
#[derive(Debug)]
struct Wire {
    outbound: Option<mpsc::UnboundedSender<Bytes>>,
    inbound: mpsc::Receiver<Inbound>,
    /// Where the shards are is told here.
    addresses: mpsc::UnboundedSender<Vec<ShardAddress>>,
    thread: Option<JoinHandle<()>>,
    counters: Arc<Counters>,
}

impl Wire {
    /// Connects, for as long as `patience` lasts.
    ///
    /// A name that does not resolve is wrong at `first`; later the way to those who know names is cut off as well.
    fn dial(
        connect: &Connect,
        local: Option<LocalShard>,
        patience: Duration,
        first: bool,
    ) -> Result<Self, Loss> {
        let (outbound, frames) = mpsc::unbounded_channel();
        let (to_caller, inbound) = mpsc::channel(INBOUND_READS);
        let (connected, outcome) = std_mpsc::channel();
        let cannot = |error| Loss::for_good(Error::Runtime(error).to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let (to, counters) = (connect.clone(), Arc::new(Counters::default()));
        let counts = Arc::clone(&counters);
        let (addresses, told) = mpsc::unbounded_channel();
        let links = shards::keep(told, to_caller.clone(), connect.tls.clone(), local, Arc::clone(&counters));
        let thread = std::thread::Builder::new()
            .name("signvote-client".into())
            .spawn(move || {
                runtime.block_on(async {
                    // Ends with the connection to the server.
                    tokio::select! {
                        () = carry(to, patience, first, connected, frames, to_caller, counts) => {}
                        () = links => {}
                    }
                });
            })
            .map_err(cannot)?;
        outcome.recv().unwrap_or_else(|_| Err(Loss::ended()))?;
        Ok(Self { outbound: Some(outbound), inbound, addresses, thread: Some(thread), counters })
    }
}

impl Drop for Wire {
    /// Lets the last frames (a digest, a farewell) go out.
    fn drop(&mut self) {
        self.outbound = None;
        self.inbound.close();
        if let Some(thread) = self.thread.take() {
            // The thread gives up after DRAIN; a panic there has already been reported.
            let _ = thread.join();
        }
    }
}

/// A worker's state machine and its connection.
#[derive(Debug)]
struct Link {
    voter: Voter,
    connect: Connect,
    /// The shard in the same process.
    local: Option<LocalShard>,
    /// `None` only while there is no connection to be had.
    wire: Option<Wire>,
    /// Since when this worker has not heard from the server, and how often it has tried to get in again.
    away_since: Option<Instant>,
    attempts: u32,
    /// Why it looks for the server, as last told: the same is not told again with every attempt.
    told: String,
    /// Where frames for the shards go, as far as there are connections.
    shards: HashMap<ShardId, mpsc::UnboundedSender<Bytes>>,
    /// How often some time has passed while a round was committed whose verdicts had not all come.
    ticks: u32,
}

impl Link {
    fn dial(connect: &Connect, local: Option<LocalShard>, voter: Voter) -> Result<Self, ExchangeError> {
        let wire = Wire::dial(connect, local.clone(), connect.patience, true).map_err(|loss| loss.error)?;
        let away_since = Some(Instant::now());
        Ok(Self {
            voter,
            connect: connect.clone(),
            local,
            wire: Some(wire),
            away_since,
            attempts: 0,
            told: String::new(),
            shards: HashMap::new(),
            ticks: 0,
        })
    }

    /// Sends what the voter wants sent. What does not get out with a connection is sent again with the next one.
    fn transmit(&mut self) {
        while let Some(frame) = self.voter.poll_transmit() {
            if let Some(outbound) = self.wire.as_ref().and_then(|wire| wire.outbound.as_ref()) {
                let _ = outbound.send(frame);
            }
        }
        while let Some((shard, frame)) = self.voter.poll_shard_transmit() {
            if let Some(queue) = self.shards.get(&shard) {
                let _ = queue.send(frame);
            }
        }
    }

    /// Waits for the next frame, or for another connection.
    fn wait(&mut self) -> Result<(), ExchangeError> {
        let inbound = self.wire.as_mut().and_then(|wire| wire.inbound.blocking_recv());
        self.receive(inbound.unwrap_or_else(|| Inbound::Server(Err(Loss::ended()))))
    }

    /// The same, if it comes in time: whether it has.
    fn wait_until(&mut self, until: Instant) -> Result<bool, ExchangeError> {
        let inbound = match &mut self.wire {
            Some(wire) => receive_until(&mut wire.inbound, until),
            None => Some(None),
        };
        let Some(inbound) = inbound else { return Ok(false) };
        self.receive(inbound.unwrap_or_else(|| Inbound::Server(Err(Loss::ended()))))?;
        Ok(true)
    }

    fn receive(&mut self, inbound: Inbound) -> Result<(), ExchangeError> {
        match inbound {
            Inbound::Server(frames) => self.receive_from_server(frames)?,
            Inbound::Shard(shard, frames) => {
                // What came before it was hung up on does not count.
                let frames = frames.iter().filter(|_| self.shards.contains_key(&shard));
                let mut handled = frames.map(|frame| self.voter.handle_shard(shard, frame));
                if let Some(error) = handled.find_map(Result::err) {
                    tracing::debug!(%shard, %error, "hangs up on a shard");
                    // Its connection ends with its queue, and is made again.
                    self.shards.remove(&shard);
                    self.voter.shard_lost(shard);
                }
            }
            Inbound::ShardConnected(shard, queue) => {
                self.shards.insert(shard, queue);
                self.voter.shard_connected(shard);
            }
            Inbound::ShardLost(shard, reason) => {
                tracing::debug!(%shard, reason, "no connection to a shard: looking for it again");
                self.shards.remove(&shard);
                self.voter.shard_lost(shard);
            }
            Inbound::ShardUnreachable(shard, reason) => self.voter.shard_unreachable(shard, &reason),
            Inbound::Tick => {
                self.ticks = if self.voter.waits_for_verdicts() { self.ticks + 1 } else { 0 };
                if self.ticks > MOST_TICKS {
                    let missing = "a round is committed, and verdicts on it do not come";
                    return self.come_back(ExchangeError::Lost(missing.into()));
                }
            }
        }
        if let Some(reason) = self.voter.take_out_of_step() {
            return self.come_back(ExchangeError::Lost(reason));
        }
        self.transmit();
        if let (Some(addresses), Some(wire)) = (self.voter.take_shard_addresses(), &self.wire) {
            self.shards.retain(|id, _| addresses.iter().any(|shard| shard.id == *id));
            let _ = wire.addresses.send(addresses);
        }
        Ok(())
    }

    fn receive_from_server(&mut self, frames: Result<Vec<Bytes>, Loss>) -> Result<(), ExchangeError> {
        let frames = match frames {
            Ok(frames) => frames,
            Err(Loss { error, for_good: false }) => return self.come_back(error),
            Err(Loss { error, .. }) => return Err(self.lost(error)),
        };
        for frame in frames {
            match self.voter.handle(&frame) {
                Ok(()) => {}
                Err(error @ ElectionError::Refused { later: Later::Again, .. }) => {
                    return self.come_back(error.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        // Whoever is told something is not away, though it may have to wait long for its round.
        self.away_since = None;
        if self.voter.is_live() {
            self.attempts = 0;
            self.told.clear();
        }
        Ok(())
    }

    /// Makes another connection, if it is not too late for that.
    fn come_back(&mut self, why: ExchangeError) -> Result<(), ExchangeError> {
        let joined = self.voter.terms().is_some();
        let patience = if joined { self.connect.reconnect } else { self.connect.patience };
        let since = *self.away_since.get_or_insert_with(Instant::now);
        let left = patience.saturating_sub(since.elapsed());
        if left.is_zero() {
            return Err(self.lost(why));
        }
        let (address, round, reason) = (&self.connect.address, self.voter.round().0, why.to_string());
        if reason == self.told {
            tracing::debug!(%address, round, reason, "still no connection to the server: looking for it again");
        } else {
            tracing::warn!(%address, round, reason, "no connection to the server: looking for it again");
            self.told = reason;
        }
        self.wire = None;
        self.shards.clear();
        self.ticks = 0;
        std::thread::sleep(spread(pause(self.attempts)).min(left));
        self.attempts = self.attempts.saturating_add(1);
        let wire = Wire::dial(&self.connect, self.local.clone(), left, false);
        self.wire = Some(wire.map_err(|loss| self.lost(loss.error))?);
        self.voter.reconnect();
        self.transmit();
        Ok(())
    }

    /// The error that the caller sees: where the server was, and how far this worker had come.
    fn lost(&self, error: ExchangeError) -> ExchangeError {
        let ExchangeError::Lost(reason) = error else { return error };
        let address = &self.connect.address;
        ExchangeError::Lost(match self.voter.terms() {
            None => format!("{address} did not let this worker in: {reason}"),
            Some(_) => format!("lost the server at {address} in round {}: {reason}", self.voter.round()),
        })
    }
}

/// Wakes a thread that is parked.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What comes next, `None` within if nothing more will; `None` if nothing has come in time.
fn receive_until<T>(from: &mut mpsc::Receiver<T>, until: Instant) -> Option<Option<T>> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(item) = from.poll_recv(&mut context) {
            return Some(item);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        std::thread::park_timeout(left);
    }
}

/// How long to wait before the attempt after so many.
pub(crate) fn pause(attempts: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << attempts.min(16)).min(LONGEST_PAUSE)
}

/// From half as long to half as long again, at random.
pub(crate) fn spread(pause: Duration) -> Duration {
    // The standard library draws its hashers' keys at random.
    let random = RandomState::new().build_hasher().finish() % 1024;
    pause / 2 + pause * (random as u32) / 1024
}

impl Client {
    /// Sends what has been handed in, unless more of it is likely to follow at once: every time that the network thread is woken
    /// costs both threads more than packing a chunk.
    fn send_soon(&mut self) {
        let now = Instant::now();
        let closely = now.duration_since(self.handed_in) < CLOSELY;
        self.handed_in = now;
        self.waiting += 1;
        if !closely || self.waiting >= MOST_WAITING || self.link.voter.has_cast() {
            self.send_now();
        }
    }

    fn send_now(&mut self) {
        self.waiting = 0;
        self.link.transmit();
    }

    /// The next step of the run, if it comes within this time.
    ///
    /// # Errors
    /// As [`next`](Exchange::next).
    pub fn next_within(&mut self, limit: Duration) -> Result<Option<Step>, ExchangeError> {
        self.send_now();
        let until = Instant::now() + limit;
        loop {
            if let Some(step) = self.link.voter.poll_step() {
                return Ok(Some(step));
            }
            // The server hangs up on who has said goodbye: after the end of the run that is no loss.
            if self.link.voter.is_finished() || !self.link.wait_until(until)? {
                return Ok(None);
            }
        }
    }

    /// Bytes that have been sent to the server and received from it on the present connection, all of them: handshakes and
    /// parameters too.
    pub fn bytes(&self) -> (u64, u64) {
        let counters = self.link.wire.as_ref().map(|wire| &wire.counters);
        // Counted as they pass the socket: what is written goes up from here.
        counters.map_or((0, 0), |it| (it.down.load(Relaxed), it.up.load(Relaxed)))
    }
}

impl Exchange for Client {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn slot(&self) -> Slot {
        self.slot
    }

    fn parameters(&self) -> &[f32] {
        self.link.voter.parameters()
    }

    fn position(&self) -> Position {
        self.link.voter.position()
    }

    fn next(&mut self) -> Result<Step, ExchangeError> {
        self.send_now();
        loop {
            if let Some(step) = self.link.voter.poll_step() {
                return Ok(step);
            }
            self.link.wait()?;
        }
    }

    fn try_next(&mut self) -> Result<Option<Step>, ExchangeError> {
        self.send_now();
        // The server hangs up on who has said goodbye: after the end of the run that is no loss.
        while !self.link.voter.is_finished()
            && let Some(wire) = &mut self.link.wire
            && let Ok(inbound) = wire.inbound.try_recv()
        {
            self.link.receive(inbound)?;
        }
        Ok(self.link.voter.poll_step())
    }

    fn report(
        &mut self,
        loss: f32,
        correct: u32,
        samples: u32,
        non_finite: u64,
    ) -> Result<(), ExchangeError> {
        self.link.voter.report(loss, correct, samples, non_finite)?;
        self.send_soon();
        Ok(())
    }

    fn submit_signs(
        &mut self,
        first_word: usize,
        signs: &[u64],
        abstain: &[u64],
    ) -> Result<(), ExchangeError> {
        self.link.voter.submit_signs(first_word, signs, abstain)?;
        self.send_soon();
        Ok(())
    }

    fn submit_gradient(&mut self, first: usize, gradient: &[f32]) -> Result<(), ExchangeError> {
        self.link.voter.submit_gradient(first, gradient)?;
        self.send_soon();
        Ok(())
    }

    fn wants_statistics(&self) -> bool {
        self.link.voter.wants_statistics()
    }

    fn submit_statistics(&mut self, values: &[f32]) -> Result<(), ExchangeError> {
        self.link.voter.submit_statistics(values)?;
        self.send_now();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ExchangeError> {
        self.send_now();
        Ok(())
    }
}

/// The network thread: connects, then carries frames both ways until the caller hangs up or the stream ends.
async fn carry(
    to: Connect,
    patience: Duration,
    first: bool,
    connected: std_mpsc::Sender<Result<(), Loss>>,
    mut frames: mpsc::UnboundedReceiver<Bytes>,
    inbound: mpsc::Sender<Inbound>,
    counters: Arc<Counters>,
) {
    let caller_gone = inbound.clone();
    let stream = tokio::select! {
        stream = dial(&to, patience, first) => stream,
        () = caller_gone.closed() => return,
    };
    let stream = match stream {
        Ok(stream) => stream,
        Err(loss) => {
            let _ = connected.send(Err(loss));
            return;
        }
    };
    prepare(&stream);
    let answer = patience.clamp(ANSWER[0], ANSWER[1]);
    let Some(tls) = &to.tls else {
        if connected.send(Ok(())).is_ok() {
            let (read, write) = stream.into_split();
            let (read, write) = (Counted::new(read, Arc::clone(&counters)), Counted::new(write, counters));
            exchange(read, write, &mut frames, inbound, to.address, answer, false).await;
        }
        return;
    };
    let secured = tokio::time::timeout(HANDSHAKE, tls.connect(Counted::new(stream, counters))).await;
    let outcome = match secured {
        Ok(Ok(stream)) => Ok(stream),
        // Lost on the way is another matter than not trusted.
        Ok(Err(Error::Lost(error))) => Err(Loss::passing(format!("the TLS handshake broke off: {error}"))),
        Ok(Err(error)) => Err(Loss::untrusted(&to.address, &error)),
        Err(_) => Err(Loss::passing("the TLS handshake was not through in time")),
    };
    match outcome {
        Ok(stream) if connected.send(Ok(())).is_ok() => {
            let (read, write) = tokio::io::split(stream);
            exchange(read, write, &mut frames, inbound, to.address, answer, true).await;
        }
        Ok(_) => {}
        Err(loss @ Loss { for_good: true, .. }) => {
            let _ = connected.send(Err(loss));
        }
        // As if the connection had stood, and was lost: it is made again.
        Err(loss) => {
            let _ = connected.send(Ok(()));
            let _ = inbound.send(Inbound::Server(Err(loss))).await;
        }
    }
}

/// Carries frames both ways.
async fn exchange(
    read: impl AsyncRead + Unpin,
    write: impl AsyncWrite + Unpin,
    frames: &mut mpsc::UnboundedReceiver<Bytes>,
    inbound: mpsc::Sender<Inbound>,
    address: String,
    answer: Duration,
    secure: bool,
) {
    let caller_gone = inbound.clone();
    let reader = async move {
        let mut stream = FrameReader::new(read);
        let first = tokio::time::timeout(answer, stream.batch(|| MAX_FRAME_BYTES)).await;
        let mut first = Some(match first {
            Ok(Err(ReadError::TooLong { .. })) => {
                Err(Loss::for_good("what answers there speaks another protocol"))
            }
            Ok(Err(ReadError::Io(error))) if error.kind() == ErrorKind::UnexpectedEof && !secure => Err(
                Loss::passing("the server hung up in its first words: if it wants certificates, pass --tls"),
            ),
            Ok(frames) => frames.map_err(|error| loss_of(&address, error)),
            Err(_) => Err(Loss::passing(format!("what listens there has said nothing for {answer:?}"))),
        });
        loop {
            let frames = match first.take() {
                Some(frames) => frames,
                None => stream.batch(|| MAX_FRAME_BYTES).await.map_err(|error| loss_of(&address, error)),
            };
            let ended = frames.is_err();
            if inbound.send(Inbound::Server(frames)).await.is_err() || ended {
                return;
            }
        }
    };
    let writer = async move {
        let mut stream = FrameWriter::new(write);
        loop {
            match stream.write(frames, |_| {}).await {
                Ok(true) => {}
                ended => return ended,
            }
        }
    };
    let (mut reader, mut writer) = (std::pin::pin!(reader), std::pin::pin!(writer));
    tokio::select! {
        () = &mut reader => {
            // Hung up on: what is queued may still go out.
            let _ = tokio::time::timeout(DRAIN, &mut writer).await;
        }
        written = &mut writer => {
            // The caller is through, or the server has hung up: in that case what it said before is still to be read.
            if written.is_err() {
                let _ = tokio::time::timeout(DRAIN, &mut reader).await;
            }
        }
        () = caller_gone.closed() => {
            let _ = tokio::time::timeout(DRAIN, &mut writer).await;
        }
    }
}

fn loss_of(address: &str, error: ReadError) -> Loss {
    match error {
        ReadError::Io(error) => match tls::explain(error) {
            Error::Lost(error) => Loss::passing(ReadError::Io(error).to_string()),
            // Its certificate does not count: that does not change by itself. All else is a record that was damaged on
            // its way, say.
            error => match &error {
                Error::Untrusted(fault) | Error::RefusedBy(fault) if fault.lasts() => {
                    Loss::untrusted(address, &error)
                }
                _ => Loss::passing(error.to_string()),
            },
        },
        error => Loss::passing(error.to_string()),
    }
}

/// Tries to connect for as long as the patience lasts; at `first` a name that does not resolve fails at once.
pub(crate) async fn dial(to: &Connect, patience: Duration, first: bool) -> Result<TcpStream, Loss> {
    // A time that no clock reaches is as good as a year.
    let until = Instant::now().checked_add(patience).unwrap_or_else(|| Instant::now() + YEAR);
    let mut attempts = 0;
    loop {
        let error = match tokio::net::lookup_host(&to.address).await {
            Ok(addresses) => {
                let addresses: Vec<_> = addresses.collect();
                let attempt = TcpStream::connect(&addresses[..]);
                let left = until.saturating_duration_since(Instant::now()).max(FIRST_PAUSE);
                match tokio::time::timeout(left, attempt).await {
                    Ok(Ok(stream)) => return Ok(stream),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "no answer".into(),
                }
            }
            Err(error) => {
                let reason = format!("cannot find the server's address {:?}: {error}", to.address);
                if first {
                    return Err(Loss::for_good(reason));
                }
                reason
            }
        };
        let pause = spread(pause(attempts));
        attempts += 1;
        if Instant::now() + pause >= until {
            let reason = format!(
                "no server answers at {}: {error} (tried for {patience:?}; is `signvote server` running there?)",
                to.address
            );
            return Err(Loss::for_good(reason));
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_are_spread() {
        assert_eq!(pause(0), FIRST_PAUSE);
        assert_eq!(pause(1), FIRST_PAUSE * 2);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
        let spread: Vec<_> = (0..100).map(|_| spread(LONGEST_PAUSE)).collect();
        assert!(spread.iter().all(|&it| it >= LONGEST_PAUSE / 2 && it <= LONGEST_PAUSE * 3 / 2));
        assert!(spread.iter().any(|&it| it != spread[0]));
    }
}
