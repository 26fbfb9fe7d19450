use super::data::{LENGTHS, assert_same, isas, plane, values};
use super::oracle;
use crate::testing::{apply_into_with, apply_with, unpack_with};
use crate::{apply, unpack, words};

#[test]
fn apply_equals_the_oracle_at_every_length_and_offset() {
    for isa in isas() {
        for len in LENGTHS {
            for (case, (eta, lambda)) in
                [(1e-4, 1e-4), (1e-3, 0.0), (0.5, 0.3), (0.0, 0.0)].into_iter().enumerate()
            {
                let offset = [0, 1, 3, 7, 13][(case + len) % 5];
                let (signs, hold) =
                    (plane(len as u64, words(len) + 2), plane(len as u64 + 1, words(len) + 2));
                let signs = &signs[offset % 3..][..words(len)];
                let hold = Some(&hold[offset % 2..][..words(len)]).filter(|_| (case + len / 4) % 2 == 0);
                let mut x = values(len as u64 + case as u64, 2 * offset + len);
                let mut expected = x.clone();
                oracle::apply(&mut expected[offset..offset + len], signs, hold, eta, lambda);
                let before = x.clone();
                let mut out = vec![7.0; 64 + len];
                // Where it is aligned, and where it is not.
                for place in [out.as_ptr().align_offset(64), offset] {
                    let out = &mut out[place..place + len];
                    apply_into_with(isa, &x[offset..offset + len], signs, hold, (eta, lambda), out);
                    assert_same(
                        out,
                        &expected[offset..offset + len],
                        &format!("{isa}, into, {len}+{offset}"),
                    );
                }
                assert_same(&x, &before, &format!("{isa}, {len}+{offset}: what is read is left as it was"));
                apply_with(isa, &mut x[offset..offset + len], signs, hold, eta, lambda);
                assert_same(&x, &expected, &format!("{isa}, {len}+{offset}, eta {eta}, lambda {lambda}"));
            }
        }
    }
}

#[test]
fn unpack_equals_the_oracle_at_every_length_and_offset() {
    for isa in isas() {
        for len in LENGTHS {
            for offset in [0, 1, 7] {
                let (signs, abstain) =
                    (plane(len as u64, words(len) + offset), plane(len as u64 + 1, words(len) + offset));
                for abstain in [None, Some(&abstain[offset..])] {
                    let mut out = vec![7.0; offset + len + 1];
                    unpack_with(isa, &signs[offset..], abstain, &mut out[offset..offset + len]);
                    let expected = oracle::unpack(&signs[offset..], abstain, len);
                    assert_same(&out[offset..offset + len], &expected, &format!("{isa}, {len}+{offset}"));
                    assert!(out[..offset].iter().chain(&out[offset + len..]).all(|v| *v == 7.0));
                }
            }
        }
    }
}

#[test]
fn unpack_past_the_cache_is_the_same() {
    // A megabyte and a part of a word; at an alignment that is written past the cache, and beside it.
    let len = (1 << 18) + 77;
    let (signs, abstain) = (plane(1, words(len)), plane(2, words(len)));
    for isa in isas() {
        for abstain in [None, Some(&abstain[..])] {
            let expected = oracle::unpack(&signs, abstain, len);
            let mut out = vec![7.0; 64 + len];
            let aligned = out.as_ptr().align_offset(64);
            for place in [aligned, aligned + 1] {
                out.fill(7.0);
                unpack_with(isa, &signs, abstain, &mut out[place..place + len]);
                assert_same(&out[place..place + len], &expected, &format!("{isa}, {place}"));
                assert!(out[..place].iter().chain(&out[place + len..]).all(|v| *v == 7.0), "{isa}");
            }
        }
    }
}

#[test]
fn without_decay_a_finite_weight_moves_by_exactly_eta_or_not_at_all() {
    for isa in isas() {
        let start: Vec<f32> =
            values(5, 512).into_iter().map(|v| if v.is_finite() { v } else { -0.0 }).collect();
        let (signs, hold) = (plane(1, 8), plane(2, 8));
        let mut x = start.clone();
        apply_with(isa, &mut x, &signs, Some(&hold), 1e-3, 0.0);
        for (i, (after, before)) in x.iter().zip(&start).enumerate() {
            let expected = match (oracle::bit(&hold, i), oracle::bit(&signs, i)) {
                (true, _) => *before,
                (false, true) => before + 1e-3,
                (false, false) => before - 1e-3,
            };
            assert_eq!(after.to_bits(), expected.to_bits(), "{isa}, coordinate {i}");
        }
    }
}

#[test]
fn the_update_is_rounded_step_by_step() {
    let (eta, lambda) = (0.73_f32, 0.37_f32);
    let start: Vec<f32> = (1..=500).map(|i| i as f32 / 700.0).collect();
    let stepwise = |x: &f32| x - eta * (1.0 + lambda * x);
    let fused = [
        |x: &f32, eta: f32, lambda: f32| (-eta).mul_add(1.0 + lambda * x, *x),
        |x: &f32, eta: f32, lambda: f32| x - eta * lambda.mul_add(*x, 1.0),
    ];
    for fused in fused {
        assert!(
            start.iter().any(|x| fused(x, eta, lambda) != stepwise(x)),
            "the values must tell them apart"
        );
    }
    for isa in isas() {
        let mut x = start.clone();
        apply_with(isa, &mut x, &[0; 8], None, eta, lambda);
        assert_eq!(x, start.iter().map(stepwise).collect::<Vec<_>>(), "{isa}");
    }
}

#[test]
#[should_panic(expected = "words of the sign plane for 64 coordinates")]
fn a_verdict_of_the_wrong_length_panics() {
    apply(&mut [0.0; 64], &[0; 2], None, 0.1, 0.0);
}

#[test]
#[should_panic(expected = "words of the abstention or hold plane")]
fn an_abstention_plane_of_the_wrong_length_panics() {
    unpack(&[0; 2], Some(&[0]), &mut [0.0; 100]);
}
