//! Attacks on a vote, defences against them, and a simulator in which both are measured.
#![forbid(unsafe_code)]

pub mod aggregate;
pub mod attack;
mod error;
mod random;
pub mod simulate;

pub use attack::{Attack, Draw};
pub use error::Error;
