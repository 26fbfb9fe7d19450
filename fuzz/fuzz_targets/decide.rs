//! Any ballots, weights and policy: the verdicts at hand, streamed and weighted are the oracle's.

#![no_main]

mod bytes;
mod oracle;

use bytes::{take_byte, take_words};
use libfuzzer_sys::fuzz_target;
use oracle::*;
use signvote_kernels::testing::{
    decide_weighted_with, decide_with, margins_with, stream_add_with, stream_decide_with,
};
use signvote_kernels::{Coin, StreamTally};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let coordinates = 2 * take_byte(&mut rest) + take_byte(&mut rest) % 2;
    let (voters, min_voters) = (take_byte(&mut rest) % 70, take_byte(&mut rest) as u32 % 8);
    let (batch, early) = (1 + take_byte(&mut rest) % 20, take_byte(&mut rest));
    let tie = match take_byte(&mut rest) % 3 {
        0 => Tie::Coin(Coin { key: 7, first_word: u64::MAX - 1 }),
        1 => Tie::Hold,
        _ => Tie::Positive,
    };
    let planes: Vec<_> = (0..voters)
        .map(|_| {
            let (weight, silent) = (take_byte(&mut rest) as u16, take_byte(&mut rest) % 2 == 1);
            let signs = take_words(&mut rest, words(coordinates));
            (weight, signs, silent.then(|| take_words(&mut rest, words(coordinates))))
        })
        .collect();
    let ballots: Vec<_> = planes.iter().map(|(_, s, a)| Ballot::new(s, a.as_deref())).collect();
    let weights: Vec<u16> = planes.iter().map(|(weight, ..)| *weight).collect();
    let votes = naive::tally(&ballots, coordinates);
    let expected = naive::decide(&votes, tie, min_voters);
    let mut heavy = vec![(0, 0); coordinates];
    for (ballot, weight) in ballots.iter().zip(&weights) {
        for (sum, own) in heavy.iter_mut().zip(naive::tally(&[*ballot], coordinates)) {
            *sum = (sum.0 + own.0 * usize::from(*weight), sum.1 + own.1 * usize::from(*weight));
        }
    }
    let expected_weighted = naive::decide(&heavy, tie, min_voters);
    for isa in Isa::available() {
        let planes = || (vec![1; words(coordinates)], vec![1; words(coordinates)]);
        let (mut s, mut h) = planes();
        let decided = decide_with(isa, &ballots, coordinates, tie, min_voters, &mut s, &mut h);
        assert_eq!((s, h, decided), expected);

        let (mut s, mut h) = planes();
        let mut tally = StreamTally::new(coordinates, voters);
        for (i, ballots) in ballots.chunks(batch).enumerate() {
            stream_add_with(isa, &mut tally, ballots);
            if i == early {
                stream_decide_with(isa, &mut tally, tie, min_voters, &mut s, &mut h);
            }
        }
        let decided = stream_decide_with(isa, &mut tally, tie, min_voters, &mut s, &mut h);
        assert_eq!((s, h, decided), expected);

        let (mut s, mut h) = planes();
        let decided =
            decide_weighted_with(isa, &ballots, &weights, coordinates, tie, min_voters, &mut s, &mut h);
        assert_eq!((s, h, decided), expected_weighted);

        let mut margins = vec![7; coordinates];
        margins_with(isa, &ballots, coordinates, &mut margins);
        assert_eq!(margins, naive::margins(&votes));
    }
});
