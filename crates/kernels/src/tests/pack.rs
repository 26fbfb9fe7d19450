use super::data::{Guarded, LENGTHS, SPECIAL, assert_same, isas, values};
use super::oracle;
use crate::testing::{momentum_pack_with, pack_half_with, pack_with};
use crate::{AbstainOn, Half, Packed, coin_word, momentum_pack, pack, pack_half, words};

#[test]
fn pack_equals_the_oracle_at_every_length_and_offset() {
    for isa in isas() {
        for len in LENGTHS {
            for offset in [0, 1, 3, 7, 13] {
                let all = values(len as u64, offset + len + 1);
                let input = &all[offset..offset + len];
                let (mut signs, mut abstain) =
                    (Guarded::new(words(len), offset % 3), Guarded::new(words(len), offset % 5));
                let packed = pack_with(isa, input, signs.get(), abstain.get());
                assert_eq!(
                    (signs.finish(), abstain.finish(), packed),
                    oracle::pack(input),
                    "{isa}, {len}+{offset}"
                );
            }
        }
    }
}

/// A third any bits at all, a third zeros, infinities and their neighbours, a third of usual size.
fn halves(format: Half, seed: u64, len: usize) -> Vec<u16> {
    let infinity = match format {
        Half::Binary16 => 0x7C00,
        Half::Bfloat16 => 0x7F80,
    };
    let special = [0, 1, infinity - 1, infinity, infinity + 1, 0x7FFF, 0x0080, 0x0400];
    let one = |i| {
        let random = coin_word(seed, i);
        let (sign, bits) = ((random >> 8) as u16 & 0x8000, (random >> 48) as u16);
        match random % 3 {
            0 => bits,
            1 => sign | special[bits as usize % special.len()],
            _ => sign | 0x3000 | bits >> 4,
        }
    };
    (0..len as u64).map(one).collect()
}

#[test]
fn packing_of_halves_equals_the_oracle_at_every_length_and_offset() {
    for format in [Half::Binary16, Half::Bfloat16] {
        for isa in isas() {
            for len in LENGTHS {
                for offset in [0, 1, 3, 13] {
                    let all = halves(format, len as u64, offset + len + 1);
                    let input = &all[offset..offset + len];
                    let (mut signs, mut abstain) =
                        (Guarded::new(words(len), offset % 3), Guarded::new(words(len), offset % 5));
                    let packed = pack_half_with(isa, format, input, signs.get(), abstain.get());
                    let widened: Vec<f32> = input.iter().map(|bits| oracle::widen(format, *bits)).collect();
                    assert_eq!(
                        (signs.finish(), abstain.finish(), packed),
                        oracle::pack(&widened),
                        "{isa}, {format:?}, {len}+{offset}"
                    );
                }
            }
        }
    }
}

#[test]
fn all_halves_pack_as_what_they_widen_to() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    for format in [Half::Binary16, Half::Bfloat16] {
        let widened: Vec<f32> = all.iter().map(|bits| oracle::widen(format, *bits)).collect();
        let expected = oracle::pack(&widened);
        for isa in isas() {
            let (mut signs, mut abstain) = (vec![7; 1024], vec![7; 1024]);
            let packed = pack_half_with(isa, format, &all, &mut signs, &mut abstain);
            assert!((signs, abstain, packed) == expected, "{isa}, {format:?}");
        }
    }
}

#[test]
fn momentum_pack_equals_the_oracle_at_every_length_and_offset() {
    for isa in isas() {
        for len in LENGTHS {
            for (case, beta) in [0.0, 0.9, 0.5, 0.999, 0.1, 1.0].into_iter().enumerate() {
                let offset = [0, 1, 3, 7, 13, 16][(case + len) % 6];
                let abstain_on = [AbstainOn::Momentum, AbstainOn::Gradient][(case + len / 6) % 2];
                let gradients = values(len as u64 * 7 + case as u64, offset + len);
                let gradient = &gradients[offset..];
                let before = values(len as u64 * 11 + case as u64 + 1, len + 2 * offset);
                let mut expected = before.clone();
                let ballot =
                    oracle::momentum_pack(gradient, &mut expected[offset..offset + len], beta, abstain_on);

                let mut momentum = before;
                let (mut signs, mut abstain) =
                    (Guarded::new(words(len), offset % 5), Guarded::new(words(len), offset % 3));
                let packed = momentum_pack_with(
                    isa,
                    gradient,
                    &mut momentum[offset..offset + len],
                    beta,
                    abstain_on,
                    signs.get(),
                    abstain.get(),
                );
                let what = format!("{isa}, {len}+{offset}, beta {beta}, {abstain_on:?}");
                assert_eq!((signs.finish(), abstain.finish(), packed), ballot, "{what}");
                assert_same(&momentum, &expected, &what);
            }
        }
    }
}

#[test]
fn a_finite_momentum_stays_finite_under_any_gradient() {
    for isa in isas() {
        for beta in [0.0, 0.3, 0.9, 0.999_999] {
            for start in SPECIAL.into_iter().filter(|v| v.is_finite()) {
                let mut momentum = [start; SPECIAL.len()];
                let (mut signs, mut abstain) = ([0], [0]);
                for _ in 0..3 {
                    let to = AbstainOn::Momentum;
                    momentum_pack_with(isa, &SPECIAL, &mut momentum, beta, to, &mut signs, &mut abstain);
                    assert!(momentum.iter().all(|v| v.is_finite()), "{isa}, beta {beta}: {momentum:?}");
                }
            }
        }
    }
}

#[test]
fn a_gradient_that_is_not_finite_leaves_the_momentum_and_is_counted() {
    for isa in isas() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut momentum = [-2.0, 3.0, -5.0];
            let (mut signs, mut abstain) = ([0], [0]);
            let gradient = [-1.0, bad, 1.0];
            let to = AbstainOn::Momentum;
            let packed = momentum_pack_with(isa, &gradient, &mut momentum, 0.5, to, &mut signs, &mut abstain);
            assert_eq!((signs, abstain), ([0b101], [0b010]));
            assert_eq!(packed, Packed { abstained: 1, non_finite: 1 });
            assert_eq!(momentum, [-1.5, 3.0, -2.0]);
        }
    }
}

#[test]
fn abstaining_on_a_zero_gradient_still_moves_the_momentum() {
    for isa in isas() {
        for zero in [0.0, -0.0] {
            let (mut momentum, mut signs, mut abstain) = ([-4.0], [0], [0]);
            let to = AbstainOn::Momentum;
            momentum_pack_with(isa, &[zero], &mut momentum, 0.5, to, &mut signs, &mut abstain);
            assert_eq!((momentum, signs, abstain), ([-2.0], [1], [0]));
            let to = AbstainOn::Gradient;
            let packed = momentum_pack_with(isa, &[zero], &mut momentum, 0.5, to, &mut signs, &mut abstain);
            assert_eq!((momentum, signs, abstain), ([-1.0], [0], [1]));
            assert_eq!(packed, Packed { abstained: 1, non_finite: 0 });
        }
    }
}

#[test]
fn products_and_sum_are_rounded_one_by_one() {
    let beta = 0.9_f32;
    let rest = (1.0 - f64::from(beta)) as f32;
    let start: Vec<f32> = (1..=500).map(|i| i as f32 / 700.0).collect();
    let gradient: Vec<f32> = start.iter().rev().map(|v| v * 3.0).collect();
    let expect = |one: &dyn Fn(f32, f32) -> f32| -> Vec<f32> {
        start.iter().zip(&gradient).map(|(v, g)| one(*v, *g)).collect()
    };
    let stepwise = expect(&|v, g| (beta * v) + (rest * g));
    assert_ne!(stepwise, expect(&|v, g| beta.mul_add(v, rest * g)), "the values must tell them apart");
    assert_ne!(stepwise, expect(&|v, g| rest.mul_add(g, beta * v)), "the values must tell them apart");
    for isa in isas() {
        let mut momentum = start.clone();
        let (mut signs, mut abstain) = ([0; 8], [0; 8]);
        let to = AbstainOn::Momentum;
        momentum_pack_with(isa, &gradient, &mut momentum, beta, to, &mut signs, &mut abstain);
        assert_eq!(momentum, stepwise, "{isa}");
    }
}

#[test]
#[should_panic(expected = "words of the sign plane for 65 coordinates")]
fn a_sign_plane_of_the_wrong_length_panics() {
    pack(&[0.0; 65], &mut [0], &mut [0; 2]);
}

#[test]
#[should_panic(expected = "words of the sign plane for 65 coordinates")]
fn a_sign_plane_of_the_wrong_length_for_halves_panics() {
    pack_half(Half::Binary16, &[0; 65], &mut [0], &mut [0; 2]);
}

#[test]
#[should_panic(expected = "words of the abstention or hold plane")]
fn an_abstention_plane_of_the_wrong_length_panics() {
    pack(&[0.0; 65], &mut [0; 2], &mut [0; 3]);
}

#[test]
#[should_panic(expected = "coordinates of the momentum")]
fn a_momentum_of_the_wrong_length_panics() {
    momentum_pack(&[0.0; 2], &mut [0.0; 3], 0.9, AbstainOn::Momentum, &mut [0], &mut [0]);
}
