//! The oracle of the kernels' own tests.

#![allow(dead_code, reason = "each target uses a part")]

// What the oracle finds under `crate::` in the kernels.
pub(crate) use signvote_kernels::{
    AbstainOn, Agreement, Ballot, Decided, Half, Isa, Packed, Tie, coin_word, words,
};

#[path = "../../crates/kernels/src/tests/oracle.rs"]
pub(crate) mod naive;
