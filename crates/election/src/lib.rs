//! The election without I/O: who may vote, what counts, when a round closes, and the bytes that say so.
//!
//! Everything here is a state machine over bytes and a caller's clock. [`Server`] tallies ballots and
//! commits rounds; [`Voter`] keeps one worker's replica. Both are fed frames and give back frames, so the
//! same code runs behind sockets, in a simulator and under a fake clock in tests.
//!
//! It refuses to know: sockets, threads, the time of day, global randomness, what a model computes.
//!
//! - [`wire`]: the frames and their bytes.
//! - [`Server`] / [`Output`]: the election's side of a run.
//! - [`Voter`] / [`Step`]: one worker's side.
//! - [`Replica`], [`Record`], [`Auditor`]: a run's history, replayed and checked.
//! - [`Exchange`]: the seam towards learning; [`Solo`] is the smallest one. [`Assembly`]: all workers in one process.
//! - [`Terms`], [`Schedule`], [`TiePolicy`], [`Optimizer`]: what a run agrees on.
//! - [`DigestTree`]: digests of a replica of which a slice can be verified.
#![forbid(unsafe_code)]

mod assembly;
mod audit;
mod ballots;
mod chain;
mod chunks;
pub mod decision;
mod dense;
mod digest;
mod error;
mod event;
mod exchange;
mod ids;
mod layout;
mod memory;
mod record;
mod replica;
mod schedule;
pub mod seal;
mod server;
mod shard;
mod sharding;
mod steps;
mod terms;
mod voter;
pub mod wire;

pub use assembly::Assembly;
pub use audit::{Auditor, Checked};
pub use chain::ChainHash;
pub use chunks::Chunking;
pub use dense::{DenseState, Optimizer};
pub use digest::{Digest, DigestTree, LEAF_COORDINATES, Proof, verify_leaf};
pub use error::Error;
pub use event::{Event, Margins, Traffic, WorkerRecord, WorkerVotes};
pub use exchange::{Exchange, ExchangeError, Solo};
pub use ids::{Incarnation, PeerId, Position, Round, RunId, Slot, SlotSet, hexadecimal};
pub use layout::{Layout, TensorSpec};
pub use memory::Values;
pub use record::{Charter, MAX_CHARTER_BYTES, Record};
pub use replica::Replica;
pub use schedule::{Schedule, Shape};
pub use seal::{Identity, PublicKey, SecretKey, Signature};
pub use server::{
    Config, Origin, Output, Patience, Saved, Server, ShardStatus, Statistics, Status, WorkerState,
    WorkerStatus,
};
pub use shard::{Dismissal, Shard, ShardOutput};
pub use sharding::{ShardAddress, ShardId, Sharding, Topology};
pub use steps::Steps;
pub use terms::{AggregateKind, Settings, StepRule, Terms, TiePolicy};
pub use voter::{Carried, Greeting, Step, Voter};
