//! What a server can be started again from: snapshots of its parameters, and a log of everything since.
//!
//! ```text
//! RUN_DIR/ledger/000000000000.safetensors   the parameters at round 0; model.safetensors is the newest of these
//! RUN_DIR/ledger/000000000000.log           a segment: where it starts, then one entry for every round from 0 on
//! RUN_DIR/ledger/000000000469.safetensors   …
//! RUN_DIR/ledger/000000000469.log           the open segment
//! RUN_DIR/ledger/lock                       held by the server that writes here
//! ```
//! [`Ledger`] writes: an entry is appended, synced as [`Durable`] says, and never changed; a snapshot
//! starts a new segment, after which the oldest are pruned. [`Recovered`] reads: the newest snapshot that
//! is whole, and the entries since. A tail that was cut short is told and cut off, damage before it is
//! refused with its offset. [`audit`] replays everything that is there, and believes none of it.
//! `docs/durability.md` says what is promised, and has the bytes.
//!
//! It refuses to know when a round is over and who is told of it: it keeps what the election says, and
//! gives it back. Below [`Ledger::record`] and [`Recovered::saved`] the log holds bytes, and a chain of
//! checksums over them.
#![forbid(unsafe_code)]

mod audit;
mod directory;
mod error;
mod format;
mod history;
mod ledger;
mod policy;
mod reader;
mod recover;
mod segment;
mod storage;

pub use audit::{Audit, Difference, audit};
pub use directory::lock;
pub use error::Error;
pub use format::{Base, FORMAT_VERSION, Kind};
pub use ledger::{Ledger, Rotated};
pub use policy::{Durable, Options};
pub use recover::{Entries, Entry, Recovered, Torn};
