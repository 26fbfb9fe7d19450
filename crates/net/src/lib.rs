//! The tokio shell around the election: a TCP server and a worker's client.
//!
//! No decision is made here. [`serve`] carries frames between sockets and a [`signvote_election::Server`],
//! keeps its clock and counts bytes; [`Client`] does the same for a [`signvote_election::Voter`] and is an
//! [`Exchange`](signvote_election::Exchange). Everything from a peer is bounded before it is stored.
#![forbid(unsafe_code)]

mod client;
mod counted;
mod error;
mod frames;
mod server;
mod socket;

pub use client::{Client, Connect};
pub use error::Error;
pub use server::{Observer, Serve, listen, serve};
