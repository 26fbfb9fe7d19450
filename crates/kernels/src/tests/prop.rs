//! Random inputs of random shapes, shrunk when they fail.

use proptest::collection::vec;
use proptest::prelude::*;

use super::data::{SPECIAL, assert_same, isas};
use super::oracle;
use crate::testing::{agreement_with, apply_with, decide_with, momentum_pack_with, pack_with, unpack_with};
use crate::{AbstainOn, Ballot, Coin, Tie, words};

const LONGEST: usize = 1_500;

fn value() -> impl Strategy<Value = f32> {
    prop_oneof![any::<u32>().prop_map(f32::from_bits), prop::sample::select(&SPECIAL[..]), -1.0f32..1.0]
}

fn tie() -> impl Strategy<Value = Tie> {
    prop_oneof![
        any::<(u64, u64)>().prop_map(|(key, first_word)| Tie::Coin(Coin { key, first_word })),
        Just(Tie::Hold),
        Just(Tie::Positive),
    ]
}

/// A word that is often empty or full, so that verdicts are often unanimous or tied.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), any::<u64>()]
}

type Planes = (Vec<u64>, Option<Vec<u64>>);

fn planes(words: usize) -> impl Strategy<Value = Planes> {
    (vec(word(), words), proptest::option::of(vec(word(), words)))
}

fn election() -> impl Strategy<Value = (usize, Vec<Planes>)> {
    (0..LONGEST, 0usize..40)
        .prop_flat_map(|(coordinates, voters)| (Just(coordinates), vec(planes(words(coordinates)), voters)))
}

proptest! {
    #[test]
    fn packing(values in vec(value(), 0..LONGEST)) {
        for isa in isas() {
            let (mut signs, mut abstain) = (vec![1; words(values.len())], vec![1; words(values.len())]);
            let packed = pack_with(isa, &values, &mut signs, &mut abstain);
            prop_assert_eq!((signs, abstain, packed), oracle::pack(&values));
        }
    }

    #[test]
    fn momentum(
        (gradient, momentum) in vec((value(), value()), 0..LONGEST).prop_map(|v| v.into_iter().unzip::<_, _, Vec<_>, Vec<_>>()),
        beta in 0.0f32..=1.0,
        on_gradient: bool,
    ) {
        let abstain_on = if on_gradient { AbstainOn::Gradient } else { AbstainOn::Momentum };
        for isa in isas() {
            let (mut got, mut expected) = (momentum.clone(), momentum.clone());
            let (mut signs, mut abstain) = (vec![1; words(got.len())], vec![1; words(got.len())]);
            let packed =
                momentum_pack_with(isa, &gradient, &mut got, beta, abstain_on, &mut signs, &mut abstain);
            prop_assert_eq!(
                (signs, abstain, packed),
                oracle::momentum_pack(&gradient, &mut expected, beta, abstain_on)
            );
            assert_same(&got, &expected, &isa);
        }
    }

    #[test]
    fn applying(
        (x, (signs, hold)) in vec(value(), 0..LONGEST).prop_flat_map(|x| { let n = words(x.len()); (Just(x), planes(n)) }),
        eta in 0.0f32..1.0,
        lambda in prop_oneof![Just(0.0f32), 0.0f32..1.0],
    ) {
        for isa in isas() {
            let (mut got, mut expected) = (x.clone(), x.clone());
            apply_with(isa, &mut got, &signs, hold.as_deref(), eta, lambda);
            oracle::apply(&mut expected, &signs, hold.as_deref(), eta, lambda);
            assert_same(&got, &expected, &isa);
            unpack_with(isa, &signs, hold.as_deref(), &mut got);
            assert_same(&got, &oracle::unpack(&signs, hold.as_deref(), x.len()), &isa);
        }
    }

    #[test]
    fn deciding_and_agreeing((coordinates, planes) in election(), tie in tie(), min_voters in 0u32..8) {
        let ballots: Vec<_> =
            planes.iter().map(|(signs, abstain)| Ballot::new(signs, abstain.as_deref())).collect();
        let expected = oracle::decide(&oracle::tally(&ballots, coordinates), tie, min_voters);
        for isa in isas() {
            let (mut signs, mut hold) = (vec![1; words(coordinates)], vec![1; words(coordinates)]);
            let decided = decide_with(isa, &ballots, coordinates, tie, min_voters, &mut signs, &mut hold);
            for ballot in &ballots {
                prop_assert_eq!(
                    agreement_with(isa, *ballot, &signs, &hold, coordinates),
                    oracle::agreement(*ballot, &signs, &hold, coordinates)
                );
            }
            prop_assert_eq!(&(signs, hold, decided), &expected);
        }
    }
}
