use super::data::{Guarded, LENGTHS, isas};
use super::decide::{Electorate, SILENCES, ties};
use super::oracle;
use crate::testing::{decide_weighted_with, decide_with};
use crate::{Ballot, Decided, Isa, Tie, coin_word, decide_weighted, words};

fn weights() -> [Vec<u16>; 8] {
    let random = |seed, voters, below| (0..voters).map(|m| (coin_word(seed, m) % below) as u16).collect();
    [
        vec![],
        vec![0],
        vec![65_535],
        vec![0, 1, 2, 0, 1, 2, 3],
        (0..12).map(|m| 1 << m).collect(),
        random(5, 19, 200),
        random(6, 40, 5),
        (0..33).map(|m| if m == 7 { 1024 } else { 4 }).collect(),
    ]
}

/// The votes of each coordinate by weight.
fn tally(ballots: &[Ballot<'_>], weights: &[u16], coordinates: usize) -> Vec<(usize, usize)> {
    let mut votes = vec![(0, 0); coordinates];
    for (ballot, weight) in ballots.iter().zip(weights) {
        for (votes, own) in votes.iter_mut().zip(oracle::tally(&[*ballot], coordinates)) {
            votes.0 += own.0 * usize::from(*weight);
            votes.1 += own.1 * usize::from(*weight);
        }
    }
    votes
}

fn check(
    isa: Isa,
    ballots: &[Ballot<'_>],
    weights: &[u16],
    votes: &[(usize, usize)],
    tie: Tie,
    min_weight: u32,
) {
    let len = votes.len();
    let (mut signs, mut hold) = (Guarded::new(words(len), 3), Guarded::new(words(len), 1));
    let decided = decide_weighted_with(isa, ballots, weights, len, tie, min_weight, signs.get(), hold.get());
    let got = (signs.finish(), hold.finish(), decided);
    assert_eq!(
        got,
        oracle::decide(votes, tie, min_weight),
        "{isa}, {weights:?}, {len}, {tie:?}, {min_weight}"
    );
}

#[test]
fn a_weighted_verdict_equals_the_oracle_at_every_length_and_offset() {
    for (case, weights) in weights().into_iter().enumerate() {
        for (kind, silence) in SILENCES.into_iter().enumerate() {
            let electorate = Electorate::new(weights.len(), 9 + 3, silence);
            let offset = [0, 3, 1][(case + kind) % 3];
            let all = tally(&electorate.ballots(offset..offset + 9), &weights, 9 * 64);
            for len in LENGTHS {
                let ballots = electorate.ballots(offset..offset + words(len));
                for isa in isas() {
                    let min_weight = [0, 1, 2, 9, 300][(len / 3) % 5];
                    check(isa, &ballots, &weights, &all[..len], ties()[len % 3], min_weight);
                }
            }
        }
    }
}

#[test]
fn a_weighted_verdict_equals_the_oracle_across_tiles() {
    let weights: Vec<u16> = (0..20).map(|m| (coin_word(8, m) % 3000) as u16).collect();
    for silence in SILENCES {
        let len = 2 * 65_536 + 64 * 11 + 5;
        let mut electorate = Electorate::new(20, words(len), silence);
        for (_, abstain) in &mut electorate.planes {
            abstain.iter_mut().for_each(|plane| plane[..1024].fill(0));
        }
        let ballots = electorate.ballots(0..words(len));
        let votes = tally(&ballots, &weights, len);
        for isa in isas() {
            check(isa, &ballots, &weights, &votes, ties()[0], 40);
        }
    }
}

#[test]
fn with_weights_of_one_it_is_the_plain_verdict() {
    for voters in [1, 2, 15, 16, 50] {
        for silence in SILENCES {
            let electorate = Electorate::new(voters, 40, silence);
            let ballots = electorate.ballots(0..40);
            for isa in isas() {
                for tie in ties() {
                    let [mut a, mut b, mut c, mut d] = [[7; 40]; 4];
                    let weighted =
                        decide_weighted_with(isa, &ballots, &vec![1; voters], 2500, tie, 3, &mut a, &mut b);
                    let plain = decide_with(isa, &ballots, 2500, tie, 3, &mut c, &mut d);
                    assert_eq!((a, b, weighted), (c, d, plain), "{isa}, {voters}, {tie:?}");
                }
            }
        }
    }
}

#[test]
fn a_weight_is_as_many_equal_ballots() {
    let weights = [3, 0, 1, 5, 2];
    for silence in SILENCES {
        let electorate = Electorate::new(5, 10, silence);
        let ballots = electorate.ballots(0..10);
        let copies: Vec<_> = ballots
            .iter()
            .zip(weights)
            .flat_map(|(ballot, weight)| std::iter::repeat_n(*ballot, usize::from(weight)))
            .collect();
        for isa in isas() {
            let [mut a, mut b, mut c, mut d] = [[7; 10]; 4];
            let weighted = decide_weighted_with(isa, &ballots, &weights, 600, ties()[0], 4, &mut a, &mut b);
            let plain = decide_with(isa, &copies, 600, ties()[0], 4, &mut c, &mut d);
            assert_eq!((a, b, weighted), (c, d, plain));
        }
    }
}

#[test]
fn more_than_half_the_weight_decides_alone() {
    for isa in isas() {
        let (heavy, light) = ([0b01], [0b10]);
        let ballots: Vec<_> = [&heavy, &light, &light, &light].map(|signs| Ballot::new(signs, None)).into();
        let (mut signs, mut hold) = ([7], [7]);
        for (weight, expected) in [(4, [0b01]), (2, [0b10])] {
            let weights = [weight, 1, 1, 1];
            decide_weighted_with(isa, &ballots, &weights, 2, Tie::Hold, 1, &mut signs, &mut hold);
            assert_eq!((signs, hold), (expected, [0]));
        }
        let tied = decide_weighted_with(isa, &ballots, &[3, 1, 1, 1], 2, Tie::Hold, 1, &mut signs, &mut hold);
        assert_eq!((signs, hold, tied), ([0], [0b11], Decided { ties: 2, holds: 2 }));
    }
}

#[test]
#[should_panic(expected = "weights of the ballots")]
fn a_ballot_without_a_weight_panics() {
    decide_weighted(&[Ballot::new(&[0], None)], &[], 64, Tie::Hold, 1, &mut [0], &mut [0]);
}

#[test]
#[should_panic(expected = "expected weights of at most 65535 in sum, got 65536")]
fn too_much_weight_panics() {
    let ballots = [Ballot::new(&[0], None); 2];
    decide_weighted(&ballots, &[65_535, 1], 64, Tie::Hold, 1, &mut [0], &mut [0]);
}

#[test]
#[should_panic(expected = "words of the sign plane for 65 coordinates")]
fn a_weightless_ballot_of_another_length_panics() {
    decide_weighted(&[Ballot::new(&[0], None)], &[0], 65, Tie::Hold, 1, &mut [0; 2], &mut [0; 2]);
}
