//! What is true of votes whatever the implementation.

use super::data::{isas, plane, sparse_plane};
use crate::testing::{agreement_with, apply_with, decide_with, hamming_with, pack_with, unpack_with};
use crate::{Agreement, Ballot, Coin, Decided, Isa, Tie, is_canonical, tail_mask, words};

const COORDINATES: usize = 10_007;
const COIN: Tie = Tie::Coin(Coin { key: 3, first_word: 0 });

fn verdict(isa: Isa, ballots: &[Ballot<'_>], tie: Tie) -> (Vec<u64>, Vec<u64>, Decided) {
    let (mut signs, mut hold) = (vec![0; words(COORDINATES)], vec![0; words(COORDINATES)]);
    let decided = decide_with(isa, ballots, COORDINATES, tie, 1, &mut signs, &mut hold);
    assert!(is_canonical(&signs, Some(&hold), COORDINATES));
    (signs, hold, decided)
}

/// A plane with clean tail bits.
fn clean(seed: u64) -> Vec<u64> {
    let mut plane = plane(seed, words(COORDINATES));
    *plane.last_mut().unwrap() &= tail_mask(COORDINATES);
    plane
}

fn complement(plane: &[u64]) -> Vec<u64> {
    plane.iter().map(|word| !word).collect()
}

#[test]
fn the_order_of_voters_does_not_matter() {
    for isa in isas() {
        for voters in [2, 9, 16, 40] {
            let planes: Vec<_> = (0..voters)
                .map(|m| (clean(m), (m % 3 == 0).then(|| sparse_plane(m + 100, words(COORDINATES), 2))))
                .collect();
            let mut ballots: Vec<_> =
                planes.iter().map(|(signs, abstain)| Ballot::new(signs, abstain.as_deref())).collect();
            let expected = verdict(isa, &ballots, COIN);
            ballots.reverse();
            assert_eq!(verdict(isa, &ballots, COIN), expected);
            ballots.rotate_left(voters as usize / 3 + 1);
            assert_eq!(verdict(isa, &ballots, COIN), expected);
        }
    }
}

#[test]
fn unpack_after_pack_is_the_sign() {
    for isa in isas() {
        let values = super::data::values(17, COORDINATES);
        let (mut signs, mut abstain) = (vec![0; words(COORDINATES)], vec![0; words(COORDINATES)]);
        pack_with(isa, &values, &mut signs, &mut abstain);
        assert!(is_canonical(&signs, Some(&abstain), COORDINATES));
        let mut unpacked = vec![0.0; COORDINATES];
        unpack_with(isa, &signs, Some(&abstain), &mut unpacked);
        for (value, sign) in values.iter().zip(&unpacked) {
            let expected = if *value == 0.0 || !value.is_finite() { 0.0 } else { value.signum() };
            assert_eq!(*sign, expected, "{value:e}");
        }
        let (mut signs_again, mut abstain_again) = (vec![0; signs.len()], vec![0; signs.len()]);
        pack_with(isa, &unpacked, &mut signs_again, &mut abstain_again);
        assert_eq!((signs_again, abstain_again), (signs, abstain), "packing it again gives the same ballot");
    }
}

#[test]
fn a_vote_and_its_complement_tie() {
    for isa in isas() {
        let vote = clean(1);
        let against = complement(&vote);
        let ballots = [Ballot::new(&vote, None), Ballot::new(&against, None)];
        let (_, hold, decided) = verdict(isa, &ballots, COIN);
        assert_eq!(decided, Decided { ties: COORDINATES, holds: 0 });
        assert!(hold.iter().all(|word| *word == 0));
        let (signs, _, decided) = verdict(isa, &ballots, Tie::Hold);
        assert_eq!(decided, Decided { ties: COORDINATES, holds: COORDINATES });
        assert!(signs.iter().all(|word| *word == 0));
    }
}

#[test]
fn a_vote_and_its_complement_change_no_verdict_of_others() {
    for isa in isas() {
        let planes: Vec<_> = (0..5).map(clean).collect();
        let mut ballots: Vec<_> = planes.iter().map(|signs| Ballot::new(signs, None)).collect();
        let expected = verdict(isa, &ballots, COIN);
        let (vote, against) = (clean(50), complement(&clean(50)));
        ballots.push(Ballot::new(&vote, None));
        ballots.push(Ballot::new(&against, None));
        assert_eq!(verdict(isa, &ballots, COIN), expected);
    }
}

#[test]
fn one_voter_decides_alone() {
    for isa in isas() {
        let (vote, silence) = (clean(1), clean(2));
        let ballot = Ballot::new(&vote, Some(&silence));
        for tie in [COIN, Tie::Hold, Tie::Positive] {
            let (signs, hold, decided) = verdict(isa, &[ballot], tie);
            let spoken: Vec<u64> = vote.iter().zip(&silence).map(|(vote, silence)| vote & !silence).collect();
            assert_eq!((signs, &hold), (spoken, &silence));
            let held = silence.iter().map(|word| word.count_ones() as usize).sum();
            assert_eq!(decided, Decided { ties: 0, holds: held });
        }
    }
}

#[test]
fn two_thirds_beat_one_third() {
    for isa in isas() {
        for third in [1, 2, 5, 11, 40] {
            let vote = clean(third as u64);
            let against = complement(&vote);
            let ballots: Vec<_> = (0..3 * third)
                .map(|m| Ballot::new(if m % 3 == 1 { &against } else { &vote }, None))
                .collect();
            let (signs, _, decided) = verdict(isa, &ballots, COIN);
            assert_eq!((signs, decided), (vote.clone(), Decided::default()));
        }
    }
}

#[test]
fn whoever_abstains_changes_nothing() {
    for isa in isas() {
        let planes: Vec<_> = (0..8).map(clean).collect();
        let mut ballots: Vec<_> = planes.iter().map(|signs| Ballot::new(signs, None)).collect();
        let expected = verdict(isa, &ballots, COIN);
        let (rubbish, silent) = (plane(77, words(COORDINATES)), vec![u64::MAX; words(COORDINATES)]);
        for _ in 0..3 {
            ballots.insert(1, Ballot::new(&rubbish, Some(&silent)));
            assert_eq!(verdict(isa, &ballots, COIN), expected);
        }
    }
}

#[test]
fn a_range_is_decided_as_it_is_within_the_whole() {
    for isa in isas() {
        let planes: Vec<_> = (0..6).map(clean).collect();
        let ballots: Vec<_> = planes.iter().map(|signs| Ballot::new(signs, None)).collect();
        let (whole_signs, whole_hold, whole) = verdict(isa, &ballots, COIN);
        let (mut signs, mut hold, mut ties) = (Vec::new(), Vec::new(), 0);
        for first in (0..words(COORDINATES)).step_by(29) {
            let len = usize::min(29, words(COORDINATES) - first);
            let part: Vec<_> =
                planes.iter().map(|signs| Ballot::new(&signs[first..first + len], None)).collect();
            let (mut part_signs, mut part_hold) = (vec![0; len], vec![0; len]);
            let coin = Tie::Coin(Coin { key: 3, first_word: first as u64 });
            let coordinates = usize::min(64 * len, COORDINATES - 64 * first);
            ties += decide_with(isa, &part, coordinates, coin, 1, &mut part_signs, &mut part_hold).ties;
            signs.append(&mut part_signs);
            hold.append(&mut part_hold);
        }
        assert_eq!((signs, hold, ties), (whole_signs, whole_hold, whole.ties));
    }
}

#[test]
fn a_ballot_agrees_with_itself_and_disagrees_with_its_complement() {
    for isa in isas() {
        let (vote, none) = (clean(1), vec![0; words(COORDINATES)]);
        let against = complement(&vote);
        let all = COORDINATES as u64;
        let with = |ballot| agreement_with(isa, Ballot::new(ballot, None), &vote, &none, COORDINATES);
        assert_eq!(with(&vote), Agreement { agree: all, disagree: 0 });
        assert_eq!(with(&against), Agreement { agree: 0, disagree: all });
    }
}

#[test]
fn a_verdict_and_its_opposite_bring_a_weight_back() {
    // Steps of a power of two from zero are exact.
    for isa in isas() {
        let vote = clean(4);
        let mut x = vec![0.0; COORDINATES];
        apply_with(isa, &mut x, &vote, None, 0.25, 0.0);
        assert!(x.iter().all(|x| x.abs() == 0.25));
        apply_with(isa, &mut x, &complement(&vote), None, 0.25, 0.0);
        assert!(x.iter().all(|x| *x == 0.0));
    }
}

#[test]
fn a_distance_is_nothing_to_itself_everything_to_the_complement_and_symmetric() {
    for isa in isas() {
        let (a, b, silent_a, silent_b) = (clean(1), clean(2), clean(3), clean(4));
        let distance = |signs, abstain, verdict: &[u64], hold: &[u64]| {
            hamming_with(isa, Ballot::new(signs, Some(abstain)), verdict, hold, COORDINATES)
        };
        assert_eq!(distance(&a, &silent_a, &a, &silent_a), 0);
        assert_eq!(distance(&a, &silent_a, &b, &silent_b), distance(&b, &silent_b, &a, &silent_a));
        let none = vec![0; words(COORDINATES)];
        assert_eq!(distance(&a, &none, &complement(&a), &none), COORDINATES as u64);
    }
}
