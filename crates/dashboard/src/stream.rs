//! Snapshots, written down once for all who look.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use signvote_observe::{Live, RunDirectory, Snapshot};
use tokio::sync::watch;

/// How often a snapshot is made at most.
const EVERY: Duration = Duration::from_secs(1);
/// How long a stream says nothing at most: whoever stands between must not take it for dead.
const SILENCE: Duration = Duration::from_secs(15);

/// A run as those who look see it.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    run: Live,
    pub(crate) directory: Option<RunDirectory>,
    /// The newest event of the stream; empty before the first.
    newest: Arc<watch::Sender<Bytes>>,
    /// Held while one is made and sent, so that none overtakes a later one.
    making: Arc<Mutex<()>>,
}

impl Published {
    pub(crate) fn new(run: Live, directory: Option<RunDirectory>) -> Self {
        Self { run, directory, newest: Arc::new(watch::Sender::new(Bytes::new())), making: Arc::default() }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.run.snapshot();
        let files = self.directory.iter().flat_map(RunDirectory::files);
        snapshot.files = files.map(str::to_owned).collect();
        snapshot
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.newest.receiver_count() > 0
    }

    /// Makes a snapshot and sends it to all who look.
    pub(crate) fn now(&self) {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        // Numbers and strings: there is nothing in it that JSON cannot say, and no line ends within.
        let Ok(json) = serde_json::to_string(&self.snapshot()) else { return };
        self.newest.send_replace(Bytes::from(format!("event: snapshot\ndata: {json}\n\n")));
    }

    /// Makes snapshots for as long as there is somebody to look, and something new to be seen.
    pub(crate) async fn publish(&self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            ticks.tick().await;
            let changes = self.run.changes();
            if self.is_watched() && seen != Some(changes) {
                seen = Some(changes);
                self.now();
            }
        }
    }

    /// The events of one who looks: how the run stands now, and then every change.
    pub(crate) fn stream(&self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> + use<> {
        if !self.is_watched() {
            // The last one who looked may have gone long ago.
            self.now();
        }
        let mut newest = self.newest.subscribe();
        newest.mark_changed();
        futures_util::stream::unfold(newest, |mut newest| async move {
            match tokio::time::timeout(SILENCE, newest.changed()).await {
                Ok(Ok(())) => {
                    let bytes = newest.borrow_and_update().clone();
                    Some((Ok(bytes), newest))
                }
                Ok(Err(_)) => None,
                Err(_) => Some((Ok(Bytes::from_static(b": still here\n\n")), newest)),
            }
        })
    }
}
