//! The parallel forms against the serial ones, which the other tests hold to the oracle.

use super::data::{Guarded, LENGTHS, assert_same, isas, plane, values};
use super::decide::{Electorate, SILENCES, ties};
use crate::testing::{
    agreement_with, apply_with, decide_weighted_with, decide_with, hamming_with, lion_pack_with,
    margins_with, momentum_pack_with, pack_half_with, pack_with, unpack_with,
};
use crate::{AbstainOn, Ballot, Half, Tie, margin_histogram, parallel, words};

/// All short lengths, and around one and two borders of parts.
fn lengths() -> impl Iterator<Item = usize> {
    let border = 65_536;
    LENGTHS.chain([border - 1, border, border + 1, border + 64 * 11 + 5, 3 * border - 63, 3 * border + 129])
}

/// Two planes between guards, and what the function that wrote them returned.
fn written<R>(len: usize, write: impl FnOnce(&mut [u64], &mut [u64]) -> R) -> (Vec<u64>, Vec<u64>, R) {
    let [mut one, mut other] = [len % 4, len % 3].map(|offset| Guarded::new(words(len), offset));
    let returned = write(one.get(), other.get());
    (one.finish(), other.finish(), returned)
}

#[test]
fn parallel_packing_equals_the_serial_one() {
    for isa in isas() {
        for len in lengths() {
            let offset = [0, 1, 3, 7][len % 4];
            let all = values(len as u64, offset + len);
            let values = &all[offset..];
            let parallel = written(len, |signs, abstain| parallel::pack_on(isa, values, signs, abstain));
            let serial = written(len, |signs, abstain| pack_with(isa, values, signs, abstain));
            assert!(parallel == serial, "{isa}, {len}");
            let halves: Vec<u16> = values.iter().map(|value| (value.to_bits() >> 16) as u16).collect();
            let format = [Half::Binary16, Half::Bfloat16][len % 2];
            let parallel = written(len, |s, a| parallel::pack_half_on(isa, format, &halves, s, a));
            let serial = written(len, |s, a| pack_half_with(isa, format, &halves, s, a));
            assert!(parallel == serial, "{isa}, {format:?}, {len}");
        }
    }
}

#[test]
fn parallel_packing_of_a_momentum_equals_the_serial_one() {
    for isa in isas() {
        for len in lengths() {
            let offset = [0, 1, 3, 7][len % 4];
            let (all, start) = (values(len as u64, offset + len), values(len as u64 + 1, len));
            let gradient = &all[offset..];
            let to = [AbstainOn::Momentum, AbstainOn::Gradient][len / 2 % 2];
            let [mut m, mut m_serial] = [start.clone(), start.clone()];
            let parallel =
                written(len, |s, a| parallel::momentum_pack_on(isa, gradient, &mut m, 0.9, to, s, a));
            let serial = written(len, |s, a| momentum_pack_with(isa, gradient, &mut m_serial, 0.9, to, s, a));
            assert!(parallel == serial, "{isa}, {len}");
            assert_same(&m, &m_serial, &isa);
            let ([mut m, mut m_serial], betas) = ([start.clone(), start], (0.9, 0.99));
            let parallel =
                written(len, |s, a| parallel::lion_pack_on(isa, gradient, &mut m, betas, to, s, a));
            let serial = written(len, |s, a| lion_pack_with(isa, gradient, &mut m_serial, betas, to, s, a));
            assert!(parallel == serial, "{isa}, {len}");
            assert_same(&m, &m_serial, &isa);
        }
    }
}

#[test]
fn a_parallel_update_equals_the_serial_one() {
    for isa in isas() {
        for len in lengths() {
            let (signs, hold) = (plane(1, words(len) + 3), plane(2, words(len) + 3));
            let signs = &signs[len % 4..][..words(len)];
            let hold = Some(&hold[len % 3..][..words(len)]).filter(|_| len % 2 == 0);
            let mut x: Vec<f32> =
                values(3, len).into_iter().map(|x| if x.is_finite() { x } else { -0.0 }).collect();
            let mut serial = x.clone();
            parallel::apply_on(isa, &mut x, signs, hold, 1e-3, 1e-4);
            apply_with(isa, &mut serial, signs, hold, 1e-3, 1e-4);
            assert_same(&x, &serial, &isa);
            parallel::unpack_on(isa, signs, hold, &mut x);
            unpack_with(isa, signs, hold, &mut serial);
            assert_same(&x, &serial, &isa);
        }
    }
}

#[test]
fn a_parallel_verdict_equals_the_serial_one() {
    for (case, voters) in [0, 1, 2, 7, 16, 33].into_iter().enumerate() {
        for (kind, silence) in SILENCES.into_iter().enumerate() {
            let longest = words(lengths().max().unwrap_or(0));
            let electorate = Electorate::new(voters, longest + 3, silence);
            let weights: Vec<u16> = (0..voters).map(|m| (m * 7 % 12) as u16).collect();
            for len in lengths().filter(|len| *len > 514 || len % 6 == (case + kind) % 6) {
                let offset = len % 4;
                let ballots = electorate.ballots(offset..offset + words(len));
                let (tie, min) = (ties()[(len + case) % 3], len as u32 % 4);
                for isa in isas() {
                    let what = format!("{isa}, {voters}, {len}, {tie:?}");
                    let parallel =
                        written(len, |s, h| parallel::decide_on(isa, &ballots, len, tie, min, s, h));
                    let serial = written(len, |s, h| decide_with(isa, &ballots, len, tie, min, s, h));
                    assert!(parallel == serial, "{what}");
                    let parallel = written(len, |s, h| {
                        parallel::decide_weighted_on(isa, &ballots, &weights, len, tie, min, s, h)
                    });
                    let serial = written(len, |s, h| {
                        decide_weighted_with(isa, &ballots, &weights, len, tie, min, s, h)
                    });
                    assert!(parallel == serial, "{what}");
                    let [mut out, mut out_serial] = [vec![7; len], vec![8; len]];
                    parallel::margins_on(isa, &ballots, len, &mut out);
                    margins_with(isa, &ballots, len, &mut out_serial);
                    assert!(out == out_serial, "{what}");
                }
            }
        }
    }
}

#[test]
fn a_parallel_comparison_equals_the_serial_one() {
    for isa in isas() {
        for len in lengths() {
            let planes = [1, 2, 3, 4].map(|seed| plane(seed, words(len) + 3));
            let [signs, abstain, verdict, hold] = [0, 1, 2, 3].map(|i| &planes[i][i..i + words(len)]);
            for abstain in [None, Some(abstain)] {
                let ballot = Ballot::new(signs, abstain);
                let agreement = parallel::agreement_on(isa, ballot, verdict, hold, len);
                assert_eq!(agreement, agreement_with(isa, ballot, verdict, hold, len), "{isa}, {len}");
                let distance = parallel::hamming_on(isa, ballot, verdict, hold, len);
                assert_eq!(distance, hamming_with(isa, ballot, verdict, hold, len), "{isa}, {len}");
            }
        }
    }
}

#[test]
fn a_parallel_histogram_equals_the_serial_one() {
    for len in lengths() {
        let margins: Vec<u16> = plane(len as u64, len).into_iter().map(|word| (word % 300) as u16).collect();
        for most in [1, 2, 299, 300, 301, 70_000] {
            let mut bins: Vec<u64> = (0..most).collect();
            let mut serial = bins.clone();
            parallel::margin_histogram(&margins, &mut bins);
            margin_histogram(&margins, &mut serial);
            assert!(bins == serial, "{len}, {most}");
        }
    }
    parallel::margin_histogram(&[], &mut []);
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let len = 5 * 65_536 + 77;
    let electorate = Electorate::new(6, words(len), SILENCES[2]);
    let ballots = electorate.ballots(0..words(len));
    let verdict = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (mut signs, mut hold) = (vec![7; words(len)], vec![7; words(len)]);
        let decided = pool.install(|| parallel::decide(&ballots, len, ties()[0], 2, &mut signs, &mut hold));
        (signs, hold, decided)
    };
    let alone = verdict(1);
    assert!(verdict(2) == alone && verdict(5) == alone);
}

#[test]
#[should_panic(expected = "words of the sign plane for 65 coordinates")]
fn a_plane_of_the_wrong_length_panics_in_parallel() {
    parallel::pack(&[0.0; 65], &mut [0], &mut [0; 2]);
}

#[test]
#[should_panic(expected = "coordinates of the momentum")]
fn a_momentum_of_the_wrong_length_panics_in_parallel() {
    parallel::momentum_pack(&[0.0; 65], &mut [0.0; 64], 0.9, AbstainOn::Momentum, &mut [0; 2], &mut [0; 2]);
}

#[test]
#[should_panic(expected = "words of the abstention or hold plane")]
fn a_hold_plane_of_the_wrong_length_panics_in_parallel() {
    parallel::apply(&mut [0.0; 65], &[0; 2], Some(&[0]), 0.1, 0.0);
}

#[test]
#[should_panic(expected = "words of the sign plane for 65 coordinates")]
fn a_ballot_of_the_wrong_length_panics_in_parallel() {
    parallel::decide(&[Ballot::new(&[0], None)], 65, Tie::Hold, 1, &mut [0; 2], &mut [0; 2]);
}

#[test]
#[should_panic(expected = "words of the abstention or hold plane")]
fn an_abstention_plane_of_the_wrong_length_panics_in_parallel() {
    parallel::unpack(&[0; 2], Some(&[0]), &mut [0.0; 65]);
}

#[test]
#[should_panic(expected = "expected weights of at most 65535 in sum, got 65536")]
fn too_much_weight_panics_in_parallel() {
    let ballots = [Ballot::new(&[0], None); 2];
    parallel::decide_weighted(&ballots, &[65_535, 1], 64, Tie::Hold, 1, &mut [0], &mut [0]);
}

#[test]
#[should_panic(expected = "words of the abstention or hold plane for 64 coordinates")]
fn a_comparison_with_a_verdict_of_another_length_panics_in_parallel() {
    let _ = parallel::agreement(Ballot::new(&[0], None), &[0], &[0; 2], 64);
}

#[test]
#[should_panic(expected = "margins of the coordinates")]
fn margins_of_the_wrong_length_panic_in_parallel() {
    parallel::margins(&[], 64, &mut [0; 63]);
}

#[test]
#[should_panic]
fn a_margin_without_a_bin_panics_in_parallel() {
    parallel::margin_histogram(&[0], &mut []);
}
