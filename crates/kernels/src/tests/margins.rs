use super::data::{LENGTHS, isas};
use super::decide::{Electorate, SILENCES};
use super::oracle;
use crate::testing::margins_with;
use crate::{Ballot, margin_histogram, margins, words};

#[test]
fn margins_equal_the_oracle_at_every_length_and_offset() {
    for (case, voters) in [0, 1, 2, 3, 7, 15, 16, 33, 100, 300].into_iter().enumerate() {
        for (kind, silence) in SILENCES.into_iter().enumerate() {
            let electorate = Electorate::new(voters, 9 + 3, silence);
            let offset = [0, 3, 1][(case + kind) % 3];
            let votes = oracle::tally(&electorate.ballots(offset..offset + 9), 9 * 64);
            let expected = oracle::margins(&votes);
            for len in LENGTHS {
                let ballots = electorate.ballots(offset..offset + words(len));
                for isa in isas() {
                    let mut out = vec![7; offset + len + 1];
                    margins_with(isa, &ballots, len, &mut out[offset..offset + len]);
                    assert!(out[offset..offset + len] == expected[..len], "{isa}, {voters}, {len}");
                    assert!(out[..offset].iter().chain(&out[offset + len..]).all(|margin| *margin == 7));
                }
            }
        }
    }
}

#[test]
fn margins_equal_the_oracle_across_tiles() {
    for voters in [5, 40] {
        for silence in SILENCES {
            let len = 65_536 + 64 * 1100 + 5;
            let electorate = Electorate::new(voters, words(len), silence);
            let ballots = electorate.ballots(0..words(len));
            let expected = oracle::margins(&oracle::tally(&ballots, len));
            for isa in isas() {
                let mut out = vec![7; len];
                margins_with(isa, &ballots, len, &mut out);
                assert!(out == expected, "{isa}, {voters}");
            }
        }
    }
}

#[test]
fn unanimity_is_the_largest_margin_and_it_fits() {
    let (ones, silent) = ([u64::MAX], [0b10]);
    let ballots: Vec<_> = (0..65_535).map(|_| Ballot::new(&ones, Some(&silent))).collect();
    for isa in isas() {
        let mut out = [7; 3];
        margins_with(isa, &ballots, 3, &mut out);
        assert_eq!(out, [65_535, 0, 65_535]);
    }
}

#[test]
fn a_histogram_adds_every_margin_once_and_large_ones_to_the_last_bin() {
    let mut bins = [10, 0, 0, 1];
    margin_histogram(&[0, 0, 1, 2, 3, 4, 65_535], &mut bins);
    assert_eq!(bins, [12, 1, 1, 4]);
    margin_histogram(&[], &mut []);
}

#[test]
#[should_panic(expected = "margins of the coordinates")]
fn an_output_of_the_wrong_length_panics() {
    margins(&[], 64, &mut [0; 63]);
}

#[test]
#[should_panic(expected = "words of the sign plane for 65 coordinates")]
fn a_ballot_of_another_length_panics_when_its_margins_are_asked_for() {
    margins(&[Ballot::new(&[0], None)], 65, &mut [0; 65]);
}
