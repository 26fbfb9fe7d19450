//! What a core does.

use serde::Serialize;

/// Nanoseconds of one core. [`Costs::default`] says where the defaults come from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Costs {
    /// Momentum and packing, a coordinate.
    pub pack_ns: f64,
    /// Counting, a coordinate of one ballot.
    pub tally_ns: f64,
    /// The step on a replica, a coordinate.
    pub apply_ns: f64,
    /// A byte of a ballot or verdict, at each of its two ends: framing, hashing, copying, the socket.
    pub vote_byte_ns: f64,
    /// A byte of an all-reduce, at each of its two ends.
    pub dense_byte_ns: f64,
    /// Adding what comes in an all-reduce of f32, a coordinate.
    pub reduce_ns: f64,
    /// The same of binary16, with the conversion from f32 and back.
    pub reduce_half_ns: f64,
}

impl Default for Costs {
    fn default() -> Self {
        Self {
            // benches/record/kernels-zen4.txt, 25.6 million coordinates on one core with AVX-512: 8.19 ms, 4.38 ms, and
            // 2.14 ms for the 15 ballots of `decide`.
            pack_ns: 0.32,
            tally_ns: 0.0056,
            apply_ns: 0.17,
            // Processor time of `signvote bench exchange` on loopback, less the kernels' (scripts/plan-costs, `--measure`).
            vote_byte_ns: 0.9,
            // Processor time of Gloo's all-reduce on loopback (scripts/plan-costs): f32, less the sum of two arrays; binary16,
            // less the bytes at the same price. Gloo adds binary16 without the processor's help.
            dense_byte_ns: 0.18,
            reduce_ns: 0.2,
            reduce_half_ns: 4.5,
        }
    }
}

impl Costs {
    /// None: for what runs on a GPU, or to see the link alone.
    pub const NONE: Self = Self {
        pack_ns: 0.0,
        tally_ns: 0.0,
        apply_ns: 0.0,
        vote_byte_ns: 0.0,
        dense_byte_ns: 0.0,
        reduce_ns: 0.0,
        reduce_half_ns: 0.0,
    };
}
