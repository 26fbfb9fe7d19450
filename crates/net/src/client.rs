//! A worker's connection to a server.

use std::sync::mpsc::{self as std_mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use signvote_election::wire::MAX_FRAME_BYTES;
use signvote_election::{Exchange, ExchangeError, Greeting, Slot, Step, Terms, Voter};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::Error;
use crate::frames::{BUFFER_BYTES, read_frame, write_queue};

/// Frames received but not yet looked at: past that, reading waits until the worker has computed.
const INBOUND_FRAMES: usize = 4096;
/// Pauses between two attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long the last frames may take to go out when a client is dropped.
const DRAIN: Duration = Duration::from_secs(5);

/// Where the server is, and how long to look for it.
#[derive(Clone, Debug)]
pub struct Connect {
    /// `host:port`.
    pub address: String,
    /// How long to try while nobody answers.
    pub patience: Duration,
}

/// A worker's exchange over TCP. The sockets are served by a thread of its own, so that frames go out and come
/// in while the caller computes.
#[derive(Debug)]
pub struct Client {
    voter: Voter,
    terms: Terms,
    slot: Slot,
    address: String,
    outbound: Option<mpsc::UnboundedSender<Bytes>>,
    inbound: mpsc::Receiver<Result<Vec<u8>, String>>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Joins the run of the server; `initial` makes the first parameters from the terms' seed.
    ///
    /// # Errors
    /// If the server is not there, refuses, or speaks something else.
    pub fn connect(
        connect: &Connect,
        greeting: Greeting,
        initial: impl FnOnce(&Terms) -> Vec<f32>,
    ) -> Result<Self, ExchangeError> {
        let (outbound, frames) = mpsc::unbounded_channel();
        let (to_caller, inbound) = mpsc::channel(INBOUND_FRAMES);
        let (connected, outcome) = std_mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ExchangeError::Lost(Error::Runtime(error).to_string()))?;
        let to = connect.clone();
        let thread = std::thread::Builder::new()
            .name("signvote-client".into())
            .spawn(move || runtime.block_on(carry(to, connected, frames, to_caller)))
            .map_err(|error| ExchangeError::Lost(Error::Runtime(error).to_string()))?;
        outcome
            .recv()
            .unwrap_or_else(|_| Err("the network thread ended".into()))
            .map_err(ExchangeError::Lost)?;

        let mut joining = Joining {
            voter: Voter::new(greeting),
            address: connect.address.clone(),
            outbound: Some(outbound),
            inbound,
            thread: Some(thread),
        };
        let (terms, slot) = joining.welcome()?;
        joining.voter.provide(initial(&terms))?;
        let Joining { voter, address, outbound, inbound, thread } = joining;
        let mut client = Self { voter, terms, slot, address, outbound, inbound, thread };
        client.transmit()?;
        Ok(client)
    }

    /// The worker's state machine, for what the [`Exchange`] does not show.
    pub fn voter(&self) -> &Voter {
        &self.voter
    }

    fn transmit(&mut self) -> Result<(), ExchangeError> {
        transmit(&mut self.voter, self.outbound.as_ref(), &self.address)
    }

    fn receive(&mut self, frame: Result<Vec<u8>, String>) -> Result<(), ExchangeError> {
        let frame = frame.map_err(|reason| lost(&self.address, &reason, self.voter.round().0))?;
        self.voter.handle(&frame)?;
        self.transmit()
    }
}

/// A client that has no terms yet.
struct Joining {
    voter: Voter,
    address: String,
    outbound: Option<mpsc::UnboundedSender<Bytes>>,
    inbound: mpsc::Receiver<Result<Vec<u8>, String>>,
    thread: Option<JoinHandle<()>>,
}

impl Joining {
    /// Waits for the terms.
    fn welcome(&mut self) -> Result<(Terms, Slot), ExchangeError> {
        transmit(&mut self.voter, self.outbound.as_ref(), &self.address)?;
        loop {
            if let (Some(terms), Some(slot)) = (self.voter.terms(), self.voter.place()) {
                let welcome = (terms.clone(), slot);
                // The step that said so; whoever connects has been told by returning.
                self.voter.poll_step();
                return Ok(welcome);
            }
            let frame =
                self.inbound.blocking_recv().unwrap_or_else(|| Err("the network thread ended".into()));
            let frame = frame.map_err(|reason| {
                ExchangeError::Lost(format!("{} did not let this worker in: {reason}", self.address))
            })?;
            self.voter.handle(&frame)?;
        }
    }
}

fn transmit(
    voter: &mut Voter,
    outbound: Option<&mpsc::UnboundedSender<Bytes>>,
    address: &str,
) -> Result<(), ExchangeError> {
    while let Some(frame) = voter.poll_transmit() {
        let sent = outbound.is_some_and(|outbound| outbound.send(frame).is_ok());
        if !sent {
            return Err(lost(address, "the connection was closed", voter.round().0));
        }
    }
    Ok(())
}

fn lost(address: &str, reason: &str, round: u64) -> ExchangeError {
    ExchangeError::Lost(format!("lost the server at {address} in round {round}: {reason}"))
}

impl Exchange for Client {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn slot(&self) -> Slot {
        self.slot
    }

    fn parameters(&self) -> &[f32] {
        self.voter.parameters()
    }

    fn next(&mut self) -> Result<Step, ExchangeError> {
        loop {
            if let Some(step) = self.voter.poll_step() {
                return Ok(step);
            }
            let frame =
                self.inbound.blocking_recv().unwrap_or_else(|| Err("the network thread ended".into()));
            self.receive(frame)?;
        }
    }

    fn try_next(&mut self) -> Result<Option<Step>, ExchangeError> {
        while let Ok(frame) = self.inbound.try_recv() {
            self.receive(frame)?;
        }
        Ok(self.voter.poll_step())
    }

    fn report(
        &mut self,
        loss: f32,
        correct: u32,
        samples: u32,
        non_finite: u64,
    ) -> Result<(), ExchangeError> {
        self.voter.report(loss, correct, samples, non_finite)?;
        self.transmit()
    }

    fn submit_signs(
        &mut self,
        first_word: usize,
        signs: &[u64],
        abstain: &[u64],
    ) -> Result<(), ExchangeError> {
        self.voter.submit_signs(first_word, signs, abstain)?;
        self.transmit()
    }

    fn submit_gradient(&mut self, first: usize, gradient: &[f32]) -> Result<(), ExchangeError> {
        self.voter.submit_gradient(first, gradient)?;
        self.transmit()
    }
}

impl Drop for Client {
    /// Lets the last frames (a digest, a farewell) go out.
    fn drop(&mut self) {
        self.outbound = None;
        self.inbound.close();
        if let Some(thread) = self.thread.take() {
            // The thread ends by itself within DRAIN; a panic there has already been reported.
            let _ = thread.join();
        }
    }
}

/// The network thread: connects, then carries frames both ways until the caller hangs up or the stream ends.
async fn carry(
    to: Connect,
    connected: std_mpsc::Sender<Result<(), String>>,
    mut frames: mpsc::UnboundedReceiver<Bytes>,
    inbound: mpsc::Sender<Result<Vec<u8>, String>>,
) {
    let stream = match dial(&to).await {
        Ok(stream) => stream,
        Err(reason) => {
            let _ = connected.send(Err(reason));
            return;
        }
    };
    // As at the server: a ballot must not wait for the next one. If refused, the run is only slower.
    let _ = stream.set_nodelay(true);
    if connected.send(Ok(())).is_err() {
        return;
    }
    let (read, write) = stream.into_split();
    let reader = async move {
        let mut stream = BufReader::with_capacity(BUFFER_BYTES, read);
        loop {
            let frame = read_frame(&mut stream, || MAX_FRAME_BYTES).await.map_err(|error| error.to_string());
            let ended = frame.is_err();
            if inbound.send(frame).await.is_err() || ended {
                return;
            }
        }
    };
    let writer = write_queue(write, &mut frames, |_| {});
    let (mut reader, mut writer) = (std::pin::pin!(reader), std::pin::pin!(writer));
    tokio::select! {
        () = &mut reader => {
            // Hung up on, or hanging up: what is queued may still go out.
            let _ = tokio::time::timeout(DRAIN, &mut writer).await;
        }
        _ = &mut writer => {}
    }
}

/// Tries to connect for as long as the patience lasts; a name that does not resolve fails at once.
async fn dial(to: &Connect) -> Result<TcpStream, String> {
    let until = Instant::now() + to.patience;
    let mut pause = FIRST_PAUSE;
    loop {
        let addresses: Vec<_> = match tokio::net::lookup_host(&to.address).await {
            Ok(addresses) => addresses.collect(),
            Err(error) => return Err(format!("cannot find the server's address {:?}: {error}", to.address)),
        };
        let attempt = TcpStream::connect(&addresses[..]);
        let left = until.saturating_duration_since(Instant::now()).max(FIRST_PAUSE);
        let error = match tokio::time::timeout(left, attempt).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".into(),
        };
        if Instant::now() + pause >= until {
            return Err(format!(
                "no server answers at {}: {error} (tried for {:?}; is `signvote server` running there?)",
                to.address, to.patience
            ));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
