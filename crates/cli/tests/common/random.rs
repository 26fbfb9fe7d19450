//! Randomness of a test: a seed that is printed, and can be given.

/// SplitMix64 (Steele, Lea & Flood 2014).
pub(crate) struct Random(u64);

impl Random {
    /// The seed that `SIGNVOTE_SEED` names, or one that nobody chose.
    #[expect(clippy::print_stdout, reason = "who sees a test fail wants to see it again")]
    pub(crate) fn seeded() -> Self {
        use std::hash::{BuildHasher, RandomState};
        let told = std::env::var("SIGNVOTE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = told.unwrap_or_else(|| RandomState::new().hash_one(0_u8) % 1_000_000);
        println!("SIGNVOTE_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn of(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
