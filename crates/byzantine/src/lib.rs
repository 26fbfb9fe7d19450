//! Attacks on a vote, defences against them, compressors to compare it with, and a simulator in which all are measured.
//!
//! It refuses to know sockets and files, and to draw a random number that its arguments do not fix. What it is told to do and cannot is an
//! [`Error`] that says why; no input makes it panic unless the item says so under `# Panics`.
//!
//! Main types: [`Attack`], what a worker of a real run does when it lies; [`aggregate::Rule`], n gradients in and one out;
//! [`compress::Compressor`]; and [`simulate::Setup`], [`simulate::run`] and [`simulate::grid`], many workers in one process.
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod attack;
pub mod compress;
mod error;
pub mod protocol;
mod random;
pub mod simulate;

pub use attack::{Attack, Draw};
pub use error::Error;
