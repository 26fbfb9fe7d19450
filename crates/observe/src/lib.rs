//! What a run leaves behind: a directory with its settings, its events and its model.
//!
//! ```text
//! RUN_DIR/config.toml         the settings, in the words of the command line; `--config` reads them again
//! RUN_DIR/events.jsonl        one event a line, oldest first
//! RUN_DIR/model.safetensors   the parameters, under PyTorch's names
//! RUN_DIR/result.json         what the run ended with
//! ```
//! A worker on another host has no run directory; it keeps a checkpoint of its own.
//! `docs/run-directory.md` has the details. Files are replaced whole or not at all.
#![forbid(unsafe_code)]

mod board;
mod checkpoint;
mod curve;
mod directory;
mod error;
mod health;
mod live;
mod model;
mod outliers;
mod prometheus;
pub mod snapshot;
mod statistics;
mod tensorboard;

pub use board::Board;
pub use checkpoint::{Standing, WorkerCheckpoint, load_checkpoint, save_checkpoint};
pub use directory::{EventLog, EventReader, RunDirectory, now, replace_file};
pub use error::Error;
pub use live::Live;
pub use model::{RunConfig, SavedModel, export_tensors, load_model, load_tensors, save_model};
pub use prometheus::prometheus;
pub use snapshot::Snapshot;
pub use statistics::{load_statistics, save_statistics};
pub use tensorboard::Scalars;
