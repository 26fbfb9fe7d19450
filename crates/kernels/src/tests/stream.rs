use super::data::{Guarded, LENGTHS, isas, plane};
use super::decide::{Electorate, SILENCES, ties};
use super::oracle;
use crate::testing::{decide_with, stream_add_with, stream_close_with, stream_decide_with};
use crate::{Ballot, Decided, Isa, StreamTally, Tie, coin_word, words};

/// Adds the ballots in groups whose sizes the seed says, none included.
fn add_in_groups(isa: Isa, tally: &mut StreamTally, mut ballots: &[Ballot<'_>], seed: u64) {
    let sizes = [1, 2, 4, 0, 7, 16, 19, 40];
    let mut group = 0;
    while !ballots.is_empty() {
        let size = match seed {
            0 => 1,
            _ => sizes[coin_word(seed, group) as usize % sizes.len()],
        };
        let (now, later) = ballots.split_at(usize::min(size, ballots.len()));
        stream_add_with(isa, tally, now);
        ballots = later;
        group += 1;
    }
}

fn check(isa: Isa, tally: &mut StreamTally, votes: &[(usize, usize)], tie: Tie, min_voters: u32) {
    let (mut signs, mut hold) = (Guarded::new(words(votes.len()), 3), Guarded::new(words(votes.len()), 1));
    let decided = stream_decide_with(isa, tally, tie, min_voters, signs.get(), hold.get());
    let got = (signs.finish(), hold.finish(), decided);
    let (voters, len) = (tally.voters(), votes.len());
    assert_eq!(
        got,
        oracle::decide(votes, tie, min_voters),
        "{isa}, {voters} voters, {len} coordinates, {tie:?}, at least {min_voters}"
    );
}

#[test]
fn a_stream_equals_the_oracle_for_every_number_of_voters_and_offset() {
    for (case, voters) in [0, 1, 2, 3, 14, 15, 16, 17, 31, 33, 64].into_iter().enumerate() {
        for (kind, silence) in SILENCES.into_iter().enumerate() {
            let electorate = Electorate::new(voters, 9 + 3, silence);
            for offset in [0, 3] {
                let all = oracle::tally(&electorate.ballots(offset..offset + 9), 9 * 64);
                for len in LENGTHS {
                    if len % 8 != (case + 2 * kind + offset) % 8 && len % 61 != 3 {
                        continue;
                    }
                    let ballots = electorate.ballots(offset..offset + words(len));
                    let tie = ties()[len % 3];
                    for isa in isas() {
                        let mut tally = StreamTally::new(len, voters + len % 2);
                        let (seed, min_voters) = ((len / 2 % 3) as u64, [0, 1, 2, 5][len % 4]);
                        add_in_groups(isa, &mut tally, &ballots, seed);
                        check(isa, &mut tally, &all[..len], tie, min_voters);

                        // The same with the last ballots, from none to all, handed in with the question.
                        tally.clear();
                        let (first, last) =
                            ballots.split_at(ballots.len() * (len % 4) / 3 % (ballots.len() + 1));
                        add_in_groups(isa, &mut tally, first, seed);
                        let (mut signs, mut hold) = (vec![7; words(len)], vec![7; words(len)]);
                        let decided =
                            stream_close_with(isa, &mut tally, last, tie, min_voters, &mut signs, &mut hold);
                        assert_eq!(
                            (signs, hold, decided),
                            oracle::decide(&all[..len], tie, min_voters),
                            "{isa}"
                        );
                        assert_eq!(tally.voters(), 0);
                    }
                }
            }
        }
    }
}

#[test]
fn a_stream_equals_the_oracle_at_every_length() {
    let electorate = Electorate::new(21, 9, SILENCES[2]);
    let all = oracle::tally(&electorate.ballots(0..9), 9 * 64);
    for len in LENGTHS {
        let ballots = electorate.ballots(0..words(len));
        for isa in isas() {
            let mut tally = StreamTally::new(len, 21);
            add_in_groups(isa, &mut tally, &ballots, len as u64 % 4);
            check(isa, &mut tally, &all[..len], ties()[len % 3], 2);
        }
    }
}

#[test]
fn a_stream_equals_the_oracle_across_blocks() {
    for voters in [1, 7, 16, 33] {
        for silence in SILENCES {
            for len in [65_536, 65_537, 2 * 65_536 + 64 * 11 + 5] {
                let mut electorate = Electorate::new(voters, words(len), silence);
                for (_, abstain) in &mut electorate.planes {
                    abstain.iter_mut().for_each(|plane| plane[..1024].fill(0));
                }
                let ballots = electorate.ballots(0..words(len));
                for isa in isas() {
                    let mut tally = StreamTally::new(len, voters);
                    add_in_groups(isa, &mut tally, &ballots, len as u64);
                    for tie in ties() {
                        let new = || vec![7; words(len)];
                        let ([mut signs, mut hold], [mut signs_at_hand, mut hold_at_hand]) =
                            ([new(), new()], [new(), new()]);
                        let decided = stream_decide_with(isa, &mut tally, tie, 2, &mut signs, &mut hold);
                        let at_hand =
                            decide_with(isa, &ballots, len, tie, 2, &mut signs_at_hand, &mut hold_at_hand);
                        assert_eq!(decided, at_hand);
                        assert!(signs == signs_at_hand && hold == hold_at_hand, "{isa}, {voters}, {len}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_stream_may_be_decided_after_every_ballot() {
    for isa in isas() {
        for silence in SILENCES {
            let electorate = Electorate::new(50, 5, silence);
            let ballots = electorate.ballots(0..5);
            let mut tally = StreamTally::new(300, 50);
            for voters in 0..=50 {
                if voters > 0 {
                    stream_add_with(isa, &mut tally, &ballots[voters - 1..voters]);
                }
                check(isa, &mut tally, &oracle::tally(&ballots[..voters], 300), ties()[voters % 3], 3);
            }
        }
    }
}

#[test]
fn many_ballots_after_an_early_verdict_are_counted() {
    // The counter then has one plane, which no group of sixteen may be added to at once.
    for isa in isas() {
        for early in 1..18 {
            let electorate = Electorate::new(120, 3, SILENCES[2]);
            let ballots = electorate.ballots(0..3);
            let mut tally = StreamTally::new(170, 120);
            stream_add_with(isa, &mut tally, &ballots[..early]);
            check(isa, &mut tally, &oracle::tally(&ballots[..early], 170), Tie::Hold, 1);
            stream_add_with(isa, &mut tally, &ballots[early..]);
            check(isa, &mut tally, &oracle::tally(&ballots, 170), Tie::Hold, 1);
        }
    }
}

#[test]
fn a_stream_counts_up_to_its_limit() {
    let (ones, zeros, bit_0) = ([u64::MAX], [0], [1]);
    for negatives in [32_767, 32_768, 65_535] {
        for isa in isas() {
            let mut tally = StreamTally::new(64, 65_535);
            for m in 0..65_535 {
                let signs = if m < negatives { &ones } else { &zeros };
                stream_add_with(isa, &mut tally, &[Ballot::new(signs, (m < 65_534).then_some(&bit_0))]);
            }
            let (mut signs, mut hold) = ([7], [7]);
            let decided = stream_decide_with(isa, &mut tally, Tie::Hold, 1, &mut signs, &mut hold);
            let majority = if negatives > 32_767 { u64::MAX } else { 0 };
            // The last voter alone decides bit 0.
            let expected = majority & !1 | u64::from(negatives == 65_535);
            assert_eq!((signs, hold, decided), ([expected], [0], Decided::default()), "{isa}, {negatives}");
        }
    }
}

#[test]
fn a_cleared_tally_and_its_storage_remember_nothing() {
    let electorate = Electorate::new(40, 4, SILENCES[2]);
    let ballots = electorate.ballots(0..4);
    for isa in isas() {
        let mut tally = StreamTally::with_storage(250, 40, vec![u64::MAX; 1000]);
        for voters in [40, 3, 17, 16, 0, 2] {
            stream_add_with(isa, &mut tally, &ballots[..voters]);
            assert_eq!(tally.voters(), voters);
            check(isa, &mut tally, &oracle::tally(&ballots[..voters], 250), ties()[0], 1);
            if voters % 2 == 0 {
                tally.clear();
            } else {
                tally = StreamTally::with_storage(250, 40, tally.into_storage());
            }
        }
    }
}

#[test]
fn storage_that_is_long_enough_is_kept() {
    let storage = vec![0; StreamTally::storage_words(100_000, 31)];
    let at = storage.as_ptr();
    let storage = StreamTally::with_storage(100_000, 31, storage).into_storage();
    assert_eq!(storage.as_ptr(), at);
}

#[test]
fn a_tally_for_nobody_holds_everywhere() {
    for isa in isas() {
        for len in [0, 70, 1 << 20] {
            let mut tally = StreamTally::new(len, 0);
            check(isa, &mut tally, &vec![(0, 0); len], Tie::Positive, 0);
        }
    }
}

#[test]
fn what_is_refused_is_not_added() {
    let signs = plane(1, 2);
    let mut tally = StreamTally::new(128, 2);
    tally.add(Ballot::new(&signs, None));
    for wrong in [&[Ballot::new(&signs, None); 2][..], &[Ballot::new(&signs[..1], None)]] {
        let refused =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tally.add_all(wrong))).is_err();
        assert!(refused && tally.voters() == 1);
    }
    check(Isa::Scalar, &mut tally, &oracle::tally(&[Ballot::new(&signs, None)], 128), Tie::Hold, 1);
}

#[test]
#[should_panic(expected = "expected at most 3 ballots, got 4")]
fn more_ballots_than_there_is_room_for_panic() {
    StreamTally::new(64, 3).add_all(&[Ballot::new(&[0], None); 4]);
}

#[test]
#[should_panic(expected = "words of the sign plane for 65 coordinates")]
fn a_ballot_of_another_length_panics_when_added() {
    StreamTally::new(65, 3).add(Ballot::new(&[0], None));
}

#[test]
#[should_panic(expected = "words of the abstention or hold plane")]
fn a_hold_plane_of_another_length_panics_when_a_stream_is_decided() {
    StreamTally::new(65, 3).decide(Tie::Hold, 1, &mut [0; 2], &mut [0]);
}

#[test]
#[should_panic(expected = "expected at most 65535 voters, got 65536")]
fn room_for_too_many_voters_is_refused() {
    let _ = StreamTally::new(64, 65_536);
}
