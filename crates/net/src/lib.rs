//! The tokio shell around the election: a TCP server and a worker's client.
//!
//! No decision is made here. [`serve`] carries frames between sockets and a [`signvote_election::Server`],
//! keeps its clock and counts bytes; [`Client`] does the same for a [`signvote_election::Voter`] and is an
//! [`Exchange`](signvote_election::Exchange). Everything from a peer is bounded before it is stored.
//!
//! [`certs`] makes identities, and [`tls`] lets only those in: TLS 1.3 with certificates on both sides.
#![forbid(unsafe_code)]

pub mod certs;
mod client;
mod connection;
mod counted;
mod error;
mod files;
mod frames;
mod identity;
mod server;
mod shard;
mod socket;
pub mod tls;

pub use client::{Client, Connect, ask_status, ask_status_of};
pub use error::{Error, Fault};
pub use identity::{Name, Peer, SERVER, SigningKey, verify_signature};
pub use server::{Observer, Serve, Stop, listen, serve};
pub use shard::{LocalShard, ServeShard, ShardThread, serve_shard};
