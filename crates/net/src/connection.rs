//! One connection's tasks and queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use signvote_election::wire::{self, LENGTH_BYTES};
use signvote_election::{PeerId, Slot};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::Peer;
use crate::counted::Counters;
use crate::frames::{FrameReader, FrameWriter, ReadError};

/// How long a queue may take to drain after its connection is done with.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a peer that was sent away is still listened to, its words discarded: closing a socket with unread
/// bytes resets the connection, and the peer would never read why.
const LINGER: Duration = Duration::from_secs(1);

/// What a connection's tasks tell the shell.
pub(crate) enum Inbound {
    Frame(Bytes),
    /// All that was queued has been handed to the system, and the peer is behind.
    Drained,
    /// It has broken a rule of framing.
    Offence(String),
    /// Nothing more will come.
    Ended(String),
}

/// The shell's side of one connection.
pub(crate) struct Connection {
    pub(crate) queue: mpsc::UnboundedSender<Bytes>,
    pub(crate) queued_bytes: Arc<AtomicUsize>,
    /// Whether the election wants to know when the queue has drained.
    pub(crate) behind: Arc<AtomicBool>,
    /// Longest frame that it may send now.
    pub(crate) allowed: Arc<AtomicUsize>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) slot: Option<Slot>,
    /// What it was let in with.
    pub(crate) certificate: Option<Peer>,
    tasks: Tasks,
}

/// The tasks of a connection, which end with this at the latest.
struct Tasks([tokio::task::JoinHandle<()>; 2]);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Connection {
    pub(crate) fn start(
        peer: PeerId,
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
        counters: Arc<Counters>,
        certificate: Option<Peer>,
        inbound: mpsc::Sender<(PeerId, Inbound)>,
    ) -> Self {
        let allowed = Arc::new(AtomicUsize::new(wire::MAX_HELLO_BYTES));
        let reader = {
            let (counters, allowed, inbound) = (Arc::clone(&counters), Arc::clone(&allowed), inbound.clone());
            tokio::spawn(async move {
                let mut stream = FrameReader::new(read);
                loop {
                    let message = match stream.next(|| allowed.load(Relaxed)).await {
                        Ok(frame) => {
                            count_join(&counters.join_up, &frame, true);
                            Inbound::Frame(frame)
                        }
                        Err(error @ (ReadError::TooLong { .. } | ReadError::Slow)) => {
                            Inbound::Offence(error.to_string())
                        }
                        Err(error) => Inbound::Ended(error.to_string()),
                    };
                    let (ended, discard) =
                        (matches!(message, Inbound::Ended(_)), matches!(message, Inbound::Offence(_)));
                    if inbound.send((peer, message)).await.is_err() || ended {
                        return;
                    }
                    if discard {
                        // Until LINGER is over; an error ends it too.
                        let _ = tokio::io::copy(&mut stream.into_inner(), &mut tokio::io::sink()).await;
                        return;
                    }
                }
            })
        };
        let (queue, mut frames) = mpsc::unbounded_channel();
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let behind = Arc::new(AtomicBool::new(false));
        let writer = {
            let (counters, queued) = (Arc::clone(&counters), Arc::clone(&queued_bytes));
            let behind = Arc::clone(&behind);
            tokio::spawn(async move {
                let sent = |frame: &Bytes| {
                    queued.fetch_sub(frame.len(), Relaxed);
                    count_join(&counters.join_down, frame, false);
                };
                let mut stream = FrameWriter::new(write);
                // A failed write shows at the reader too, which tells the shell.
                while let Ok(true) = stream.write(&mut frames, sent).await {
                    // A shell that is gone needs no telling.
                    if behind.load(Relaxed) && inbound.send((peer, Inbound::Drained)).await.is_err() {
                        return;
                    }
                }
            })
        };
        let tasks = Tasks([reader, writer]);
        Self { queue, queued_bytes, behind, allowed, counters, slot: None, certificate, tasks }
    }

    /// Lets the queue drain, then the peer hang up; neither for ever.
    pub(crate) async fn leave(self) {
        let Self { queue, mut tasks, .. } = self;
        drop(queue);
        let [reader, writer] = &mut tasks.0;
        let _ = tokio::time::timeout(DRAIN, &mut *writer).await;
        writer.abort();
        let _ = tokio::time::timeout(LINGER, reader).await;
    }
}

fn count_join(counter: &AtomicU64, frame: &[u8], up: bool) {
    let of_rounds = |&kind: &u8| wire::is_round_traffic(kind) && !(up && wire::is_passed_on(kind));
    if !frame.get(LENGTH_BYTES).is_some_and(of_rounds) {
        counter.fetch_add(frame.len() as u64, Relaxed);
    }
}
