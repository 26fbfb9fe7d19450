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
use crate::socket::prepare;

/// Frames received but not yet looked at: past that, reading waits until the worker has computed.
const INBOUND_FRAMES: usize = 4096;
/// Pauses between two attempts to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long the last frames may take to go out when a client is dropped.
const DRAIN: Duration = Duration::from_secs(5);

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// Said where the network thread can say nothing itself.
const ENDED: &str = "the network thread has ended";

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
    link: Link,
    terms: Terms,
    slot: Slot,
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
        let mut link = Link::dial(connect, greeting)?;
        let (terms, slot) = link.welcome()?;
        link.voter.provide(initial(&terms))?;
        link.transmit()?;
        Ok(Self { link, terms, slot })
    }
}

/// A worker's state machine and its connection.
#[derive(Debug)]
struct Link {
    voter: Voter,
    address: String,
    outbound: Option<mpsc::UnboundedSender<Bytes>>,
    inbound: mpsc::Receiver<Result<Vec<u8>, String>>,
    thread: Option<JoinHandle<()>>,
}

impl Link {
    fn dial(connect: &Connect, greeting: Greeting) -> Result<Self, ExchangeError> {
        let (outbound, frames) = mpsc::unbounded_channel();
        let (to_caller, inbound) = mpsc::channel(INBOUND_FRAMES);
        let (connected, outcome) = std_mpsc::channel();
        let cannot = |error| ExchangeError::Lost(Error::Runtime(error).to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let to = connect.clone();
        let thread = std::thread::Builder::new()
            .name("signvote-client".into())
            .spawn(move || runtime.block_on(carry(to, connected, frames, to_caller)))
            .map_err(cannot)?;
        outcome.recv().unwrap_or_else(|_| Err(ENDED.into())).map_err(ExchangeError::Lost)?;
        let (address, voter) = (connect.address.clone(), Voter::new(greeting));
        Ok(Self { voter, address, outbound: Some(outbound), inbound, thread: Some(thread) })
    }

    /// Waits for the terms.
    fn welcome(&mut self) -> Result<(Terms, Slot), ExchangeError> {
        self.transmit()?;
        loop {
            if let (Some(terms), Some(slot)) = (self.voter.terms(), self.voter.place()) {
                let welcome = (terms.clone(), slot);
                // The step that said so; whoever connects has been told by returning.
                self.voter.poll_step();
                return Ok(welcome);
            }
            self.wait()?;
        }
    }

    /// Sends what the voter wants sent.
    fn transmit(&mut self) -> Result<(), ExchangeError> {
        while let Some(frame) = self.voter.poll_transmit() {
            let sent = self.outbound.as_ref().is_some_and(|outbound| outbound.send(frame).is_ok());
            if !sent {
                // What the server said before it hung up tells why, or that the run is over.
                return self.last_words();
            }
        }
        Ok(())
    }

    /// Takes in what came before the connection ended. No error if that is the end of the run: its step is
    /// then waiting for the caller.
    fn last_words(&mut self) -> Result<(), ExchangeError> {
        while !self.voter.is_finished() {
            let frame = self.inbound.blocking_recv().unwrap_or_else(|| Err(ENDED.into()));
            let frame = frame.map_err(|reason| self.lost(&reason))?;
            self.voter.handle(&frame)?;
        }
        Ok(())
    }

    /// Waits for the next frame.
    fn wait(&mut self) -> Result<(), ExchangeError> {
        let frame = self.inbound.blocking_recv().unwrap_or_else(|| Err(ENDED.into()));
        self.receive(frame)
    }

    fn receive(&mut self, frame: Result<Vec<u8>, String>) -> Result<(), ExchangeError> {
        let frame = frame.map_err(|reason| self.lost(&reason))?;
        self.voter.handle(&frame)?;
        self.transmit()
    }

    fn lost(&self, reason: &str) -> ExchangeError {
        let address = &self.address;
        ExchangeError::Lost(match self.voter.terms() {
            None => format!("{address} did not let this worker in: {reason}"),
            Some(_) => format!("lost the server at {address} in round {}: {reason}", self.voter.round()),
        })
    }
}

impl Drop for Link {
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

    fn next(&mut self) -> Result<Step, ExchangeError> {
        loop {
            if let Some(step) = self.link.voter.poll_step() {
                return Ok(step);
            }
            self.link.wait()?;
        }
    }

    fn try_next(&mut self) -> Result<Option<Step>, ExchangeError> {
        // The server hangs up on who has said goodbye: after the end of the run that is no loss.
        while !self.link.voter.is_finished()
            && let Ok(frame) = self.link.inbound.try_recv()
        {
            self.link.receive(frame)?;
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
        self.link.transmit()
    }

    fn submit_signs(
        &mut self,
        first_word: usize,
        signs: &[u64],
        abstain: &[u64],
    ) -> Result<(), ExchangeError> {
        self.link.voter.submit_signs(first_word, signs, abstain)?;
        self.link.transmit()
    }

    fn submit_gradient(&mut self, first: usize, gradient: &[f32]) -> Result<(), ExchangeError> {
        self.link.voter.submit_gradient(first, gradient)?;
        self.link.transmit()
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
    prepare(&stream);
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
            // Hung up on: what is queued may still go out.
            let _ = tokio::time::timeout(DRAIN, &mut writer).await;
        }
        written = &mut writer => {
            // The caller is through, or the server has hung up: in that case what it said before is still to be read.
            if written.is_err() {
                let _ = tokio::time::timeout(DRAIN, &mut reader).await;
            }
        }
    }
}

/// Tries to connect for as long as the patience lasts; a name that does not resolve fails at once.
async fn dial(to: &Connect) -> Result<TcpStream, String> {
    // A time that no clock reaches is as good as a year.
    let until = Instant::now().checked_add(to.patience).unwrap_or_else(|| Instant::now() + YEAR);
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
