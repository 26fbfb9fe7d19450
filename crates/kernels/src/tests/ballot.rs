use super::data::{LENGTHS, isas, plane, sparse_plane};
use super::oracle;
use crate::testing::{agreement_with, hamming_with};
use crate::{Ballot, agreement, canonicalise, hamming, is_canonical, tail_mask, words};

#[test]
fn agreement_equals_the_oracle_at_every_length_and_offset() {
    for isa in isas() {
        for len in LENGTHS {
            for offset in [0, 1, 3] {
                let seed = 8 * len as u64 + offset as u64;
                let planes = [0, 1, 2].map(|i| plane(seed + 1000 * i, words(len) + offset));
                let hold = sparse_plane(seed, words(len) + offset, 3);
                let [own, abstain, verdict] = [0, 1, 2].map(|i| &planes[i][offset..]);
                for abstain in [None, Some(abstain)] {
                    let ballot = Ballot::new(own, abstain);
                    let got = agreement_with(isa, ballot, verdict, &hold[offset..], len);
                    assert_eq!(got, oracle::agreement(ballot, verdict, &hold[offset..], len), "{isa}, {len}");
                }
            }
        }
    }
}

#[test]
fn hamming_equals_the_oracle_at_every_length_and_offset() {
    for isa in isas() {
        for len in LENGTHS {
            for offset in [0, 1, 3] {
                let seed = 8 * len as u64 + offset as u64;
                let planes = [0, 1, 2].map(|i| plane(seed + 1000 * i, words(len) + offset));
                let hold = sparse_plane(seed, words(len) + offset, 2);
                let [own, abstain, verdict] = [0, 1, 2].map(|i| &planes[i][offset..]);
                for abstain in [None, Some(abstain)] {
                    let ballot = Ballot::new(own, abstain);
                    let got = hamming_with(isa, ballot, verdict, &hold[offset..], len);
                    assert_eq!(got, oracle::hamming(ballot, verdict, &hold[offset..], len), "{isa}, {len}");
                    // Where both say something the distance is the disagreement; the rest is one-sided.
                    assert!(got >= agreement_with(isa, ballot, verdict, &hold[offset..], len).disagree);
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "words of the abstention or hold plane for 64 coordinates")]
fn hamming_with_a_verdict_of_another_length_panics() {
    let _ = hamming(Ballot::new(&[0], None), &[0], &[0; 2], 64);
}

#[test]
fn a_plane_is_canonical_unless_a_tail_bit_or_a_sign_under_an_abstention_is_set() {
    for len in LENGTHS {
        let beyond = !tail_mask(len);
        let clean = |mut plane: Vec<u64>| {
            if let Some(last) = plane.last_mut() {
                *last &= !beyond;
            }
            plane
        };
        let abstain = clean(plane(1, words(len)));
        let signs: Vec<u64> =
            clean(plane(2, words(len))).iter().zip(&abstain).map(|(sign, abstain)| sign & !abstain).collect();
        assert!(is_canonical(&signs, None, len));
        assert!(is_canonical(&signs, Some(&abstain), len));
        for i in 0..words(len) * 64 {
            let dirty = |plane: &[u64]| {
                let mut plane = plane.to_vec();
                plane[i / 64] |= 1 << (i % 64);
                plane
            };
            let inside = i < len;
            assert_eq!(is_canonical(&dirty(&signs), None, len), inside, "{len}, {i}");
            let abstains = inside && oracle::bit(&abstain, i);
            assert_eq!(is_canonical(&dirty(&signs), Some(&abstain), len), inside && !abstains, "{len}, {i}");
            let voted_negative = inside && oracle::bit(&signs, i);
            assert_eq!(is_canonical(&signs, Some(&dirty(&abstain)), len), inside && !voted_negative);
        }
    }
}

#[test]
fn canonicalising_clears_tails_and_signs_under_abstentions_and_nothing_else() {
    for len in LENGTHS {
        for offset in [0, 1, 3] {
            let all: [_; 2] = [1, 2].map(|seed| plane(seed + len as u64, words(len) + 2 * offset + 1));
            let range = offset..offset + words(len);
            let abstains = |i| oracle::bit(&all[1][range.clone()], i);
            let signs = oracle::plane(len, |i| oracle::bit(&all[0][range.clone()], i));
            let spoken = oracle::plane(len, |i| oracle::bit(&signs, i) && !abstains(i));
            let abstain = oracle::plane(len, abstains);

            let [mut alone, _] = all.clone();
            canonicalise(&mut alone[range.clone()], None, len);
            assert_eq!(alone[range.clone()], signs);
            let [mut with, mut silent] = all.clone();
            canonicalise(&mut with[range.clone()], Some(&mut silent[range.clone()]), len);
            assert_eq!((&with[range.clone()], &silent[range.clone()]), (&spoken[..], &abstain[..]));
            assert!(is_canonical(&spoken, Some(&abstain), len));
            for (now, before) in [(&alone, &all[0]), (&with, &all[0]), (&silent, &all[1])] {
                assert_eq!(now[..offset], before[..offset]);
                assert_eq!(now[range.end..], before[range.end..]);
            }
            canonicalise(&mut with[range.clone()], Some(&mut silent[range.clone()]), len);
            assert_eq!((&with[range.clone()], &silent[range.clone()]), (&spoken[..], &abstain[..]));
        }
    }
}

#[test]
#[should_panic(expected = "words of the abstention or hold plane for 64 coordinates")]
fn planes_of_another_length_are_not_made_canonical() {
    canonicalise(&mut [0], Some(&mut [0; 2]), 64);
}

#[test]
#[should_panic(expected = "words of the abstention plane")]
fn a_ballot_of_planes_that_differ_in_length_panics() {
    let _ = Ballot::new(&[0; 2], Some(&[0]));
}

#[test]
#[should_panic(expected = "words of the sign plane for 64 coordinates")]
fn agreement_with_a_ballot_of_another_length_panics() {
    let _ = agreement(Ballot::new(&[0; 2], None), &[0], &[0], 64);
}
