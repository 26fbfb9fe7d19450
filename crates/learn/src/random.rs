//! Random streams that are a function of what they are for.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A ChaCha8 stream for `purpose` and `material`.
///
/// The key is BLAKE3's key derivation of the two, so that streams of different purposes are independent even
/// where seed and counters agree. ChaCha8 of `rand_chacha` is promised to be stable across versions and
/// platforms; the generators that `rand` calls standard are not.
pub(crate) fn stream(purpose: &str, material: &[u8]) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(blake3::derive_key(purpose, material))
}

/// Permutes `items` by Fisher and Yates, from the last position down to the second.
///
/// Position i takes the item at j = ⌊u·(i+1) / 2⁶⁴⌋, u the stream's next u64: written out here, because an
/// order that a seed must reproduce cannot hang on a library's choice of algorithm. The bias of j against the
/// uniform is below n/2⁶⁴.
pub(crate) fn shuffle<T>(items: &mut [T], random: &mut ChaCha8Rng) {
    for i in (1..items.len()).rev() {
        let j = (u128::from(random.next_u64()) * (i as u128 + 1)) >> 64;
        items.swap(i, j as usize);
    }
}

/// The next number of the stream in [0, 1), a multiple of 2⁻²⁴.
pub(crate) fn unit(random: &mut ChaCha8Rng) -> f32 {
    (random.next_u32() >> 8) as f32 / (1u32 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_of_a_seed_never_changes() {
        let mut items: Vec<u8> = (0..10).collect();
        shuffle(&mut items, &mut stream("signvote-learn test", b"seed"));
        assert_eq!(items, [1, 8, 2, 3, 5, 6, 0, 4, 7, 9]);
        assert_eq!(unit(&mut stream("signvote-learn test", b"seed")), 0.23383743);
    }

    #[test]
    fn every_order_of_three_is_as_likely_as_another() {
        let mut random = stream("signvote-learn test", b"orders");
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..6000 {
            let mut items = [0, 1, 2];
            shuffle(&mut items, &mut random);
            *counts.entry(items).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 6);
        // Six standard deviations of a binomial count: √(6000 · 1/6 · 5/6) ≈ 29.
        assert!(counts.values().all(|&count| (1000 - 175..=1000 + 175).contains(&count)), "{counts:?}");
    }

    #[test]
    fn units_fill_the_half_open_interval() {
        let mut random = stream("signvote-learn test", b"units");
        let units: Vec<f32> = (0..10_000).map(|_| unit(&mut random)).collect();
        assert!(units.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = units.iter().sum::<f32>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }
}
