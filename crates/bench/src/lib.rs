//! How fast the parts of signvote are on the machine at hand.
//!
//! A figure stands beside two others from the same run: what a *naive* form of the same work takes, the few
//! lines that anybody would write, and what the *limit* takes, a loop that moves the same bytes and does nothing
//! else. The naive form also says what is right: an answer that differs from it in one bit is an
//! [`Error::Wrong`], and no time is reported for it.
//!
//! - [`kernels`]: packing, tallying, deciding and applying.
//! - [`exchange`]: a whole round of workers and a server.
//! - [`doctor`]: whether a machine is fit to take part.
//! - [`plan`]: what a step takes, predicted, and what was measured beside it.
//!
//! It prints nothing: who calls [`kernels::run`] is told of every group as it is done, and gets a
//! [`kernels::Report`], which is text for people and JSON for programs.
#![forbid(unsafe_code)]

pub mod doctor;
mod error;
pub mod exchange;
pub mod kernels;
mod machine;
pub mod plan;
mod rate;
mod text;

pub use error::Error;
pub use machine::{Machine, available_bytes};
pub use rate::Rate;
pub use text::grouped;
