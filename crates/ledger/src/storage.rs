//! The file under a segment, and the thread that takes it to the disk.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A file that only grows. A trait, so that tests can have a disk that fails.
pub(crate) trait Storage: Send + Sync {
    /// Appends the parts, one after the other.
    fn append(&self, parts: &[&[u8]]) -> io::Result<()>;
    /// Waits until everything appended is on the disk.
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file.
    fn cut(&self, length: u64) -> io::Result<()>;
}

/// Opened in append mode, so that a write after a cut lands at the new end.
impl Storage for File {
    fn append(&self, parts: &[&[u8]]) -> io::Result<()> {
        let mut file = self;
        parts.iter().try_for_each(|part| file.write_all(part))
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

/// A thread that syncs a file some time after the first write since the last sync, so that nobody
/// waits for the disk.
pub(crate) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Bytes in the file.
    written: u64,
    /// Bytes known to be on the disk.
    synced: u64,
    stop: bool,
    error: Option<io::Error>,
}

impl Syncer {
    /// Starts the thread for a file of which `length` bytes are on the disk.
    pub(crate) fn start(storage: Arc<dyn Storage>, length: u64, every: Duration) -> io::Result<Self> {
        let state = State { written: length, synced: length, stop: false, error: None };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("ledger".into())
            .spawn(move || sync_until_stopped(&of_thread, &*storage, every))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Says that the file has `length` bytes now.
    pub(crate) fn written(&self, length: u64) {
        self.shared.lock().written = length;
        self.shared.changed.notify_all();
    }

    /// Bytes known to be on the disk.
    pub(crate) fn synced(&self) -> u64 {
        self.shared.lock().synced
    }

    /// Says that the owner has synced.
    pub(crate) fn synced_by_owner(&self, length: u64) {
        let mut state = self.shared.lock();
        state.synced = state.synced.max(length);
    }

    /// The error that ended the thread, told once.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        self.shared.lock().error.take()
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and there is nobody to tell if it did.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sync_until_stopped(shared: &Shared, storage: &dyn Storage, every: Duration) {
    let mut state = shared.lock();
    loop {
        let clean = |state: &mut State| state.written <= state.synced && !state.stop;
        state = shared.changed.wait_while(state, clean).unwrap_or_else(PoisonError::into_inner);
        let running = |state: &mut State| !state.stop;
        let waited = shared.changed.wait_timeout_while(state, every, running);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
        if state.stop {
            return;
        }
        let length = state.written;
        drop(state);
        let result = storage.sync();
        state = shared.lock();
        match result {
            Ok(()) => state.synced = state.synced.max(length),
            Err(error) => {
                // A second attempt may succeed without the pages that the first one has lost.
                state.error = Some(error);
                return;
            }
        }
    }
}
