//! Packing, tallying, deciding and applying of one-bit gradient votes.
//!
//! A gradient of `d` coordinates becomes a *ballot*: one bit a coordinate saying which way it points, and,
//! where it has nothing to say, an abstention. The ballots of all voters become a *verdict*, again one bit a
//! coordinate, and the verdict moves the weights. Everything here works on plain slices, allocates nothing
//! (but for the making of a [`StreamTally`]), and gives the same bits on every instruction set.
//!
//! # Representation
//!
//! A *plane* of `d` bits is [`words(d)`](words) words of `u64`: coordinate `i` is bit `i % 64` of word
//! `i / 64`, least significant first. The unused bits of the last word (see [`tail_mask`]) are zero in everything
//! written here, and ignored in everything read.
//!
//! | plane | 1 means |
//! |---|---|
//! | `signs` of a ballot | the coordinate is negative |
//! | `abstain` of a ballot | the voter says nothing about it; its sign bit is then written 0, and ignored when read |
//! | `signs` of a verdict | the majority is negative |
//! | `hold` of a verdict | no step is taken; the sign bit is then 0 |
//!
//! # Main entry points
//!
//! - voter: [`momentum_pack`], [`lion_pack`], [`pack()`] or [`pack_half`], then [`apply()`] with the verdict;
//! - server: [`decide()`] over all [`Ballot`]s at hand, or a [`StreamTally`] of them as they come;
//!   [`decide_weighted`] where they do not count alike; [`agreement`] and [`hamming`] distance of each with the
//!   verdict, and how clear it was: [`margins()`] and [`margin_histogram`];
//! - whoever reads planes from elsewhere: [`is_canonical`], [`canonicalise`];
//! - with the feature `rayon`, module `parallel`: those of voter and server over several threads;
//! - [`Isa`]: which instruction set is in use, and why.
//!
//! # What it refuses to do
//!
//! It knows no rounds, models or files, no threads unless the feature `rayon` asks for them (module
//! `parallel`), and it never contracts a multiplication and an addition into
//! one rounding: a replica that runs on another machine must arrive at the same bits. Slices of the wrong
//! length are the caller's bug, and panic; values never panic, whatever they are.
//!
//! # How it is built
//!
//! Each operation is written once, over the small vector traits of `vector`, and compiled once per
//! instruction set; `isa` is the only place that chooses between them. This crate is the only one of the
//! project that contains `unsafe`.

#![deny(unsafe_op_in_unsafe_fn)]

#[macro_use]
mod isa;
#[macro_use]
mod plane;
mod adder;
mod apply;
mod ballot;
mod decide;
mod electorate;
mod limit;
mod margins;
mod pack;
#[cfg(feature = "rayon")]
pub mod parallel;
mod stream;
#[doc(hidden)]
pub mod testing;
#[cfg(test)]
mod tests;
mod vector;
mod weighted;

pub use apply::{apply, apply_into, unpack};
pub use ballot::{Agreement, Ballot, agreement, canonicalise, hamming, is_canonical};
pub use decide::{Coin, Decided, Tie, coin_word, decide};
pub use isa::{Isa, UnknownIsa};
pub use margins::{margin_histogram, margins};
pub use pack::{AbstainOn, Half, Packed, lion_pack, momentum_pack, pack, pack_half};
pub use plane::{tail_mask, words};
pub use stream::StreamTally;
pub use weighted::decide_weighted;
