use super::data::{Guarded, LENGTHS, SPECIAL, assert_same, isas, values};
use super::oracle;
use crate::testing::{lion_pack_with, momentum_pack_with};
use crate::{AbstainOn, Packed, lion_pack, words};

const BETAS: [(f32, f32); 7] =
    [(0.9, 0.99), (0.0, 0.9), (0.9, 0.0), (0.5, 0.5), (1.0, 0.9), (0.95, 0.98), (0.999, 1.0)];

#[test]
fn lion_pack_equals_the_oracle_at_every_length_and_offset() {
    for isa in isas() {
        for len in LENGTHS {
            for (case, betas) in BETAS.into_iter().enumerate() {
                let offset = [0, 1, 3, 7, 13, 16][(case + len) % 6];
                let abstain_on = [AbstainOn::Momentum, AbstainOn::Gradient][(case + len / 6) % 2];
                let gradients = values(len as u64 * 7 + case as u64, offset + len);
                let gradient = &gradients[offset..];
                let mut momentum = values(len as u64 * 11 + case as u64 + 1, len + 2 * offset);
                let mut expected = momentum.clone();
                let ballot =
                    oracle::lion_pack(gradient, &mut expected[offset..offset + len], betas, abstain_on);
                let (mut signs, mut abstain) =
                    (Guarded::new(words(len), offset % 5), Guarded::new(words(len), offset % 3));
                let packed = lion_pack_with(
                    isa,
                    gradient,
                    &mut momentum[offset..offset + len],
                    betas,
                    abstain_on,
                    signs.get(),
                    abstain.get(),
                );
                let what = format!("{isa}, {len}+{offset}, betas {betas:?}, {abstain_on:?}");
                assert_eq!((signs.finish(), abstain.finish(), packed), ballot, "{what}");
                assert_same(&momentum, &expected, &what);
            }
        }
    }
}

#[test]
fn with_equal_betas_lion_is_the_momentum_form() {
    for isa in isas() {
        for abstain_on in [AbstainOn::Momentum, AbstainOn::Gradient] {
            let (gradient, start) = (values(1, 500), values(2, 500));
            let ([mut lion, mut momentum], mut planes) = ([start.clone(), start], [[0; 8]; 4]);
            let [s, a, s_momentum, a_momentum] = &mut planes;
            let packed = lion_pack_with(isa, &gradient, &mut lion, (0.9, 0.9), abstain_on, s, a);
            let expected =
                momentum_pack_with(isa, &gradient, &mut momentum, 0.9, abstain_on, s_momentum, a_momentum);
            assert_eq!((packed, s, a), (expected, s_momentum, a_momentum));
            assert_same(&lion, &momentum, &isa);
        }
    }
}

#[test]
fn the_vote_is_cast_before_the_momentum_moves() {
    for isa in isas() {
        // c = 0.5·(−4) + 0.5·2 = −1, and the momentum becomes 0.25·(−4) + 0.75·2 = 0.5.
        let (mut momentum, mut signs, mut abstain) = ([-4.0], [0], [0]);
        let to = AbstainOn::Momentum;
        let packed = lion_pack_with(isa, &[2.0], &mut momentum, (0.5, 0.25), to, &mut signs, &mut abstain);
        assert_eq!((momentum, signs, abstain, packed), ([0.5], [1], [0], Packed::default()), "{isa}");
    }
}

#[test]
fn a_finite_lion_momentum_stays_finite_under_any_gradient() {
    for isa in isas() {
        for betas in BETAS {
            for start in SPECIAL.into_iter().filter(|v| v.is_finite()) {
                let mut momentum = [start; SPECIAL.len()];
                let (mut signs, mut abstain) = ([0], [0]);
                for _ in 0..3 {
                    let to = AbstainOn::Momentum;
                    lion_pack_with(isa, &SPECIAL, &mut momentum, betas, to, &mut signs, &mut abstain);
                    assert!(momentum.iter().all(|v| v.is_finite()), "{isa}, betas {betas:?}: {momentum:?}");
                }
            }
        }
    }
}

#[test]
fn both_means_are_rounded_step_by_step() {
    let (beta_1, beta_2) = (0.9_f32, 0.99_f32);
    let rest = |beta: f32| (1.0 - f64::from(beta)) as f32;
    let start: Vec<f32> = (1..=500).map(|i| i as f32 / 700.0).collect();
    let gradient: Vec<f32> = start.iter().rev().map(|v| v * -3.0).collect();
    let expect = |one: &dyn Fn(f32, f32) -> f32| -> Vec<f32> {
        start.iter().zip(&gradient).map(|(m, g)| one(*m, *g)).collect()
    };
    let stepwise = expect(&|m, g| (beta_2 * m) + (rest(beta_2) * g));
    assert_ne!(stepwise, expect(&|m, g| beta_2.mul_add(m, rest(beta_2) * g)), "they must be told apart");
    // A vote that exists only by rounding: −(β₁·m), rounded, as the other product.
    let cancelling: Vec<f32> = start.iter().map(|m| -(beta_1 * m) / rest(beta_1)).collect();
    for isa in isas() {
        let (mut signs, mut abstain) = (vec![0; 8], vec![0; 8]);
        let mut momentum = start.clone();
        let to = AbstainOn::Momentum;
        lion_pack_with(isa, &gradient, &mut momentum, (beta_1, beta_2), to, &mut signs, &mut abstain);
        assert_eq!(momentum, stepwise, "{isa}");
        let expected = oracle::lion_pack(&cancelling, &mut start.clone(), (beta_1, beta_2), to);
        let fused =
            start.iter().zip(&cancelling).filter(|(m, g)| beta_1.mul_add(**m, rest(beta_1) * **g) != 0.0);
        assert!(
            fused.count() > 500 - expected.2.abstained,
            "a fused blend must vote where this one does not"
        );
        let packed = lion_pack_with(
            isa,
            &cancelling,
            &mut start.clone(),
            (beta_1, beta_2),
            to,
            &mut signs,
            &mut abstain,
        );
        assert_eq!((signs, abstain, packed), expected, "{isa}");
    }
}

#[test]
#[should_panic(expected = "coordinates of the momentum")]
fn a_lion_momentum_of_the_wrong_length_panics() {
    lion_pack(&[0.0; 2], &mut [0.0; 3], (0.9, 0.99), AbstainOn::Momentum, &mut [0], &mut [0]);
}

#[test]
#[should_panic(expected = "words of the sign plane for 65 coordinates")]
fn a_sign_plane_of_the_wrong_length_for_lion_panics() {
    lion_pack(&[0.0; 65], &mut [0.0; 65], (0.9, 0.99), AbstainOn::Momentum, &mut [0], &mut [0; 2]);
}
