//! Arrays so long that they are gone through in parts, against the same arrays a piece at a time.

use super::data::{isas, plane, values};
use crate::plane::{LONG, PARTS, WORD_BITS};
use crate::testing::{
    apply_with, lion_pack_with, momentum_pack_with, pack_half_with, pack_with, unpack_with,
};
use crate::{AbstainOn, Half, Packed, coin_word, words};

/// Not a whole number of parts, nor of words.
const LEN: usize = (LONG + PARTS + 3) * WORD_BITS + 5;

/// Coordinates of a piece.
const PIECE: usize = 1000 * WORD_BITS;

/// The ballot of a kernel called piece by piece, given the range of coordinates.
fn pieces(mut pack: impl FnMut(std::ops::Range<usize>, &mut [u64], &mut [u64]) -> Packed) -> Ballot {
    let (mut signs, mut abstain, mut packed) = (vec![0; words(LEN)], vec![0; words(LEN)], Packed::default());
    for first in (0..LEN).step_by(PIECE) {
        let range = first..usize::min(first + PIECE, LEN);
        let planes = words(range.start)..words(range.end);
        packed += pack(range, &mut signs[planes.clone()], &mut abstain[planes]);
    }
    (signs, abstain, packed)
}

type Ballot = (Vec<u64>, Vec<u64>, Packed);

fn whole(pack: impl FnOnce(&mut [u64], &mut [u64]) -> Packed) -> Ballot {
    let (mut signs, mut abstain) = (vec![7; words(LEN)], vec![7; words(LEN)]);
    let packed = pack(&mut signs, &mut abstain);
    (signs, abstain, packed)
}

#[test]
fn a_long_array_is_packed_as_its_pieces_are() {
    let v = values(1, LEN);
    let halves: Vec<_> = (0..LEN as u64).map(|i| coin_word(2, i) as u16).collect();
    for isa in isas() {
        let expected = pieces(|range, signs, abstain| pack_with(isa, &v[range], signs, abstain));
        assert!(whole(|signs, abstain| pack_with(isa, &v, signs, abstain)) == expected, "{isa}");
        for format in [Half::Binary16, Half::Bfloat16] {
            let expected =
                pieces(|range, signs, abstain| pack_half_with(isa, format, &halves[range], signs, abstain));
            let got = whole(|signs, abstain| pack_half_with(isa, format, &halves, signs, abstain));
            assert!(got == expected, "{isa}, {format:?}");
        }
    }
}

#[test]
fn a_long_momentum_moves_as_its_pieces_do() {
    let (g, old) = (values(1, LEN), values(2, LEN));
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    for isa in isas() {
        for on in [AbstainOn::Momentum, AbstainOn::Gradient] {
            let (mut one, mut other) = (old.clone(), old.clone());
            let expected = pieces(|range, signs, abstain| {
                momentum_pack_with(isa, &g[range.clone()], &mut one[range], 0.9, on, signs, abstain)
            });
            let got =
                whole(|signs, abstain| momentum_pack_with(isa, &g, &mut other, 0.9, on, signs, abstain));
            assert!(got == expected && bits(&one) == bits(&other), "{isa}, {on:?}");

            let (mut one, mut other, betas) = (old.clone(), old.clone(), (0.9, 0.99));
            let expected = pieces(|range, signs, abstain| {
                lion_pack_with(isa, &g[range.clone()], &mut one[range], betas, on, signs, abstain)
            });
            let got = whole(|signs, abstain| lion_pack_with(isa, &g, &mut other, betas, on, signs, abstain));
            assert!(got == expected && bits(&one) == bits(&other), "Lion, {isa}, {on:?}");
        }
    }
}

#[test]
fn long_weights_move_as_their_pieces_do() {
    let (x, signs, hold) = (values(1, LEN), plane(2, words(LEN)), plane(3, words(LEN)));
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    for isa in isas() {
        for hold in [None, Some(&hold[..])] {
            let (mut one, mut other) = (x.clone(), x.clone());
            let (mut plain, mut pieced) = (vec![0.0; LEN], vec![0.0; LEN]);
            apply_with(isa, &mut one, &signs, hold, 1e-3, 1e-2);
            unpack_with(isa, &signs, hold, &mut plain);
            for first in (0..LEN).step_by(PIECE) {
                let range = first..usize::min(first + PIECE, LEN);
                let planes = words(range.start)..words(range.end);
                let hold = hold.map(|hold| &hold[planes.clone()]);
                apply_with(isa, &mut other[range.clone()], &signs[planes.clone()], hold, 1e-3, 1e-2);
                unpack_with(isa, &signs[planes], hold, &mut pieced[range]);
            }
            assert!(bits(&one) == bits(&other) && bits(&plain) == bits(&pieced), "{isa}");
        }
    }
}
