//! A board that several threads look at.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use signvote_election::Event;

use crate::{Board, Snapshot, now};

/// A [`Board`] that is shared: one thread hands in events as they happen, others look.
#[derive(Clone, Debug)]
pub struct Live(Arc<Mutex<Board>>);

impl Live {
    /// Shares a board.
    pub fn new(board: Board) -> Self {
        Self(Arc::new(Mutex::new(board)))
    }

    /// Takes in an event that has just happened.
    pub fn take(&self, event: &Event) {
        self.lock().take(now(), event);
    }

    /// Takes in an event that happened at `time`, in seconds since 1970.
    pub fn take_at(&self, time: f64, event: &Event) {
        self.lock().take(time, event);
    }

    /// As [`Board::changes`].
    pub fn changes(&self) -> u64 {
        self.lock().changes()
    }

    /// As [`Board::snapshot`]. Who hands in events waits for no more than a copy.
    pub fn snapshot(&self) -> Snapshot {
        let board = self.lock().clone();
        board.into_snapshot()
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        // Whoever panicked with it has left a board that is at worst a figure short.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
