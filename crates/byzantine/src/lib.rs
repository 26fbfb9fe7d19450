//! Attacks on a vote, defences against them, compressors to compare it with, and a simulator in which all are measured.
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod attack;
pub mod compress;
mod error;
mod random;
pub mod simulate;

pub use attack::{Attack, Draw};
pub use error::Error;
