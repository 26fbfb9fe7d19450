//! The parallel forms against the serial ones, which the other tests hold to the oracle.

use super::data::{Guarded, LENGTHS, isas, plane, values};
use super::decide::{Electorate, SILENCES, ties};
use crate::testing::{apply_with, decide_with, momentum_pack_with, pack_with};
use crate::{AbstainOn, Ballot, Tie, parallel, words};

/// All short lengths, and around one and two borders of parts.
fn lengths() -> impl Iterator<Item = usize> {
    let border = 65_536;
    LENGTHS.chain([border - 1, border, border + 1, border + 64 * 11 + 5, 3 * border - 63, 3 * border + 129])
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Bits, and no more for NaNs than that they are.
fn same(one: &[f32], other: &[f32]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan())
}

#[test]
fn parallel_packing_equals_the_serial_one() {
    for isa in isas() {
        for len in lengths() {
            let offset = [0, 1, 3, 7][len % 4];
            let (all, start) = (values(len as u64, offset + len), values(len as u64 + 1, len));
            let gradient = &all[offset..];
            let new = || Guarded::new(words(len), offset);
            let ([mut s, mut a, mut s_serial, mut a_serial], mut packed) =
                ([new(), new(), new(), new()], [None; 4]);
            packed[0] = Some(parallel::pack_on(isa, gradient, s.get(), a.get()));
            packed[1] = Some(pack_with(isa, gradient, s_serial.get(), a_serial.get()));
            assert_eq!((s.get(), a.get()), (s_serial.get(), a_serial.get()), "{isa}, {len}");
            let [mut m, mut m_serial] = [start.clone(), start];
            let to = [AbstainOn::Momentum, AbstainOn::Gradient][len / 2 % 2];
            packed[2] = Some(parallel::momentum_pack_on(isa, gradient, &mut m, 0.9, to, s.get(), a.get()));
            packed[3] = Some(momentum_pack_with(
                isa,
                gradient,
                &mut m_serial,
                0.9,
                to,
                s_serial.get(),
                a_serial.get(),
            ));
            assert_eq!((s.finish(), a.finish()), (s_serial.finish(), a_serial.finish()), "{isa}, {len}");
            assert!(same(&m, &m_serial) && packed[0] == packed[1] && packed[2] == packed[3], "{isa}, {len}");
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
            assert!(bits(&x) == bits(&serial), "{isa}, {len}");
        }
    }
}

#[test]
fn a_parallel_verdict_equals_the_serial_one() {
    for (case, voters) in [0, 1, 2, 7, 16, 33].into_iter().enumerate() {
        for (kind, silence) in SILENCES.into_iter().enumerate() {
            let longest = words(lengths().max().unwrap_or(0));
            let electorate = Electorate::new(voters, longest + 3, silence);
            for len in lengths().filter(|len| *len > 514 || len % 6 == (case + kind) % 6) {
                let offset = len % 4;
                let ballots = electorate.ballots(offset..offset + words(len));
                for isa in isas() {
                    let new = || Guarded::new(words(len), offset);
                    let [mut s, mut h, mut s_serial, mut h_serial] = [new(), new(), new(), new()];
                    let (tie, min) = (ties()[(len + case) % 3], len as u32 % 4);
                    let decided = parallel::decide_on(isa, &ballots, len, tie, min, s.get(), h.get());
                    let serial = decide_with(isa, &ballots, len, tie, min, s_serial.get(), h_serial.get());
                    assert_eq!(decided, serial, "{isa}, {voters}, {len}, {tie:?}");
                    assert!(s.finish() == s_serial.finish() && h.finish() == h_serial.finish());
                }
            }
        }
    }
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
