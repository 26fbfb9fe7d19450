use super::data::{Guarded, LENGTHS, isas, plane, sparse_plane};
use super::oracle;
use crate::testing::decide_with;
use crate::{Ballot, Coin, Decided, Isa, Tie, coin_word, decide, tail_mask, words};

const VOTERS: [usize; 28] =
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 31, 32, 63, 64, 100, 127, 300];

/// The abstentions of a set of voters.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Silence {
    /// Nobody has an abstention plane.
    None,
    /// Every other voter has a plane, and it is empty.
    Empty,
    /// Every third voter has no plane; the others abstain from many coordinates, and all of them from some.
    Mixed,
    /// Nearly all abstain from nearly all.
    Nearly,
}

pub(crate) const SILENCES: [Silence; 4] = [Silence::None, Silence::Empty, Silence::Mixed, Silence::Nearly];

/// Planes of many voters, rubbish under abstentions and in tails included.
pub(crate) struct Electorate {
    pub(crate) planes: Vec<(Vec<u64>, Option<Vec<u64>>)>,
}

impl Electorate {
    pub(crate) fn new(voters: usize, words: usize, silence: Silence) -> Electorate {
        let voter = |m: usize| {
            let seed = (m * 1000 + voters) as u64;
            let many = || {
                // All voters with a plane abstain in the even bits of the first word.
                let mut abstain = sparse_plane(seed + 7, words, 1 + m as u64 % 2);
                abstain.iter_mut().take(1).for_each(|word| *word |= 0x5555_5555_5555_5555);
                abstain
            };
            let abstain = match silence {
                Silence::None => None,
                Silence::Empty => Some(vec![0; words]).filter(|_| m.is_multiple_of(2)),
                Silence::Mixed => (m % 3 != 1).then(many),
                Silence::Nearly => Some(sparse_plane(seed + 7, words, 3).iter().map(|word| !word).collect()),
            };
            (plane(seed, words), abstain)
        };
        Electorate { planes: (0..voters).map(voter).collect() }
    }

    pub(crate) fn ballots(&self, range: std::ops::Range<usize>) -> Vec<Ballot<'_>> {
        self.planes
            .iter()
            .map(|(signs, abstain)| {
                let abstain = abstain.as_ref().map(|plane| &plane[range.clone()]);
                Ballot::new(&signs[range.clone()], abstain)
            })
            .collect()
    }
}

/// The policies, with a coin whose words run over the end of the counter.
pub(crate) fn ties() -> [Tie; 3] {
    [Tie::Coin(Coin { key: 0x5EED, first_word: u64::MAX - 3 }), Tie::Hold, Tie::Positive]
}

fn check(isa: Isa, ballots: &[Ballot<'_>], votes: &[(usize, usize)], tie: Tie, min_voters: u32) {
    let (mut signs, mut hold) = (Guarded::new(words(votes.len()), 3), Guarded::new(words(votes.len()), 1));
    let decided = decide_with(isa, ballots, votes.len(), tie, min_voters, signs.get(), hold.get());
    let got = (signs.finish(), hold.finish(), decided);
    let expected = oracle::decide(votes, tie, min_voters);
    let (voters, len) = (ballots.len(), votes.len());
    assert_eq!(got, expected, "{isa}, {voters} voters, {len} coordinates, {tie:?}, at least {min_voters}");
}

#[test]
fn decide_equals_the_oracle_for_every_number_of_voters_at_every_length() {
    for voters in VOTERS {
        for silence in SILENCES {
            let electorate = Electorate::new(voters, 9 + 3, silence);
            for offset in [0, 3] {
                let all = oracle::tally(&electorate.ballots(offset..offset + 9), 9 * 64);
                for len in LENGTHS {
                    if len % 2 != offset % 2 {
                        continue;
                    }
                    let ballots = electorate.ballots(offset..offset + words(len));
                    for (case, (tie, min_voters)) in
                        ties().into_iter().flat_map(|tie| [0, 1, 2, 5].map(|min| (tie, min))).enumerate()
                    {
                        // Each length meets one of the twelve cases, and some lengths meet all.
                        if (len + len / 12 + voters) % 12 == case || len % 47 == 3 {
                            for isa in isas() {
                                check(isa, &ballots, &all[..len], tie, min_voters);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn decide_equals_the_oracle_across_tiles() {
    // Whole tiles, whole vectors, single words and single bits past them; abstentions in some tiles only.
    for voters in [1, 2, 3, 4, 7, 15, 16, 33] {
        for silence in SILENCES {
            for len in [8192, 8193, 8192 + 512, 3 * 8192 + 64 * 11 + 5] {
                let mut electorate = Electorate::new(voters, words(len), silence);
                for (_, abstain) in &mut electorate.planes {
                    abstain.iter_mut().for_each(|plane| plane[..128].fill(0));
                }
                let ballots = electorate.ballots(0..words(len));
                let votes = oracle::tally(&ballots, len);
                for isa in isas() {
                    for tie in ties() {
                        check(isa, &ballots, &votes, tie, 1 + (len % 3) as u32);
                    }
                }
            }
        }
    }
}

#[test]
fn decide_equals_the_oracle_in_several_passes_over_several_tiles() {
    for (voters, len) in [(128, 5000), (129, 74_000), (270, 74_003)] {
        for silence in SILENCES {
            let offset = voters % 3;
            let electorate = Electorate::new(voters, words(len) + offset, silence);
            let ballots = electorate.ballots(offset..offset + words(len));
            let votes = oracle::tally(&ballots, len);
            for isa in isas() {
                for tie in ties() {
                    check(isa, &ballots, &votes, tie, 3);
                }
            }
        }
    }
}

#[test]
fn decide_counts_up_to_its_limit() {
    let (ones, zeros, bit_0) = ([u64::MAX], [0], [1]);
    for negatives in [0, 1, 32_767, 32_768, 65_534, 65_535] {
        for silent_in_bit_0 in [0, 65_534, 65_535] {
            let ballot = |m| {
                let signs = if m < negatives { &ones } else { &zeros };
                Ballot::new(signs, (m < silent_in_bit_0).then_some(&bit_0))
            };
            let ballots: Vec<_> = (0..65_535).map(ballot).collect();
            let majority = if negatives > 32_767 { u64::MAX } else { 0 };
            let (expected_signs, expected_hold) = match silent_in_bit_0 {
                0 => (majority, 0),
                // The last voter alone decides bit 0.
                65_534 => (majority & !1 | u64::from(negatives == 65_535), 0),
                _ => (majority & !1, 1),
            };
            for isa in isas() {
                let (mut signs, mut hold) = ([7], [7]);
                let decided = decide_with(isa, &ballots, 64, Tie::Hold, 1, &mut signs, &mut hold);
                let what = format!("{isa}, {negatives}, {silent_in_bit_0}");
                assert_eq!((signs, hold), ([expected_signs], [expected_hold]), "{what}");
                assert_eq!(decided, Decided { ties: 0, holds: expected_hold as usize }, "{what}");
            }
        }
    }
}

#[test]
fn without_ballots_all_is_held() {
    for isa in isas() {
        for tie in ties() {
            let (mut signs, mut hold) = ([7; 2], [7; 2]);
            let decided = decide_with(isa, &[], 70, tie, 0, &mut signs, &mut hold);
            assert_eq!((signs, hold), ([0; 2], [u64::MAX, tail_mask(70)]));
            assert_eq!(decided, Decided { ties: 0, holds: 70 });
        }
    }
}

#[test]
fn a_tie_among_too_few_voters_is_a_tie_and_a_hold() {
    for isa in isas() {
        for tie in ties() {
            let (mut signs, mut hold) = ([7], [7]);
            let ballots = [Ballot::new(&[0b01], None), Ballot::new(&[0b10], None)];
            let decided = decide_with(isa, &ballots, 2, tie, 3, &mut signs, &mut hold);
            assert_eq!(
                (signs, hold, decided),
                ([0], [0b11], Decided { ties: 2, holds: 2 }),
                "{isa}, {tie:?}"
            );
        }
    }
}

#[test]
fn the_coin_is_split_mix_64() {
    // The generator's first outputs, as published for the states 0 and 1234567; its state is incremented
    // before each.
    let golden = [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4, 0x06C4_5D18_8009_454F];
    assert_eq!([1, 2, 3].map(|word| coin_word(0, word)), golden);
    let golden = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
    assert_eq!([1, 2, 3].map(|word| coin_word(1_234_567, word)), golden);
    assert_eq!(coin_word(0, 0), 0);
}

#[test]
fn a_tied_coordinate_is_given_the_coin_of_its_place_in_the_model() {
    let (plus, minus) = ([0; 20], [u64::MAX; 20]);
    let ballots = [Ballot::new(&plus, None), Ballot::new(&minus, None)];
    let coin = Coin { key: 99, first_word: 1_000_000_007 };
    let expected: Vec<u64> = (0..20).map(|i| coin_word(coin.key, coin.first_word + i)).collect();
    for isa in isas() {
        let (mut signs, mut hold) = ([0; 20], [0; 20]);
        let decided = decide_with(isa, &ballots, 1280, Tie::Coin(coin), 1, &mut signs, &mut hold);
        assert_eq!(signs[..], expected, "{isa}");
        assert_eq!((hold, decided), ([0; 20], Decided { ties: 1280, holds: 0 }));
    }
}

#[test]
#[should_panic(expected = "words of the sign plane for 65 coordinates")]
fn a_ballot_of_another_length_panics() {
    decide(&[Ballot::new(&[0], None)], 65, Tie::Hold, 1, &mut [0; 2], &mut [0; 2]);
}

#[test]
#[should_panic(expected = "words of the abstention or hold plane")]
fn a_hold_plane_of_another_length_panics() {
    decide(&[], 65, Tie::Hold, 1, &mut [0; 2], &mut [0; 1]);
}

#[test]
#[should_panic(expected = "expected at most 65535 ballots, got 65536")]
fn too_many_ballots_panic() {
    decide(&vec![Ballot::new(&[0], None); 65_536], 1, Tie::Hold, 1, &mut [0], &mut [0]);
}
