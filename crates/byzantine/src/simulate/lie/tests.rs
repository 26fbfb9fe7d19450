//! Each lie's formula, on ballots and gradients that can be written down.

use super::*;

/// Plane of the coordinates at which `bits` has this character.
fn plane(bits: &str, of: char) -> Vec<u64> {
    vec![bits.chars().enumerate().filter(|&(_, c)| c == of).map(|(at, _)| 1 << at).sum()]
}

/// Votes written as +, - and 0.
fn ballot(votes: &str) -> (Vec<u64>, Vec<u64>) {
    (plane(votes, '-'), plane(votes, '0'))
}

fn written(signs: &[u64], abstain: &[u64], count: usize) -> String {
    let vote = |at: usize| match (abstain[0] >> at & 1, signs[0] >> at & 1) {
        (1, _) => '0',
        (_, 1) => '-',
        _ => '+',
    };
    (0..count).map(vote).collect()
}

/// What liars cast where the honest have these momenta (and the ballots that follow), and the liar's own would have been `own`.
fn cast(lie: &str, honest: &[&[f32]], liars: usize, round: u64, own: &[&str]) -> Vec<String> {
    let lie: Lie = lie.parse().unwrap();
    let planes: Vec<_> = honest
        .iter()
        .map(|values| {
            let (mut signs, mut abstain) = (vec![0], vec![0]);
            pack(values, &mut signs, &mut abstain);
            (signs, abstain)
        })
        .collect();
    let ballots: Vec<_> = planes.iter().map(|(signs, abstain)| Ballot::new(signs, Some(abstain))).collect();
    let count = honest[0].len();
    let mut memory = Vec::new();
    let of_round = |(at, own): (usize, &&str)| {
        let known = Knowledge { honest, ballots: &ballots, liars, round: round + at as u64, seed: 1 };
        if let Some((signs, abstain)) = lie.common_ballot(&known).unwrap() {
            return written(&signs, &abstain, count);
        }
        let (mut signs, mut abstain) = ballot(own);
        let liar = Liar { index: 0, signs: &mut signs, abstain: &mut abstain, memory: &mut memory };
        lie.own_ballot(&known, liar);
        written(&signs, &abstain, count)
    };
    own.iter().enumerate().map(of_round).collect()
}

const HONEST: [&[f32]; 3] =
    [&[1.0, 2.0, -1.0, 0.0, 0.0], &[1.0, -1.0, -1.0, 0.0, 3.0], &[1.0, 3.0, -1.0, 0.0, -1.0]];

#[test]
fn blind_lies_follow_from_ones_own_ballot() {
    assert_eq!(cast("sign-flip", &HONEST, 1, 0, &["+-0++"]), ["-+0--"]);
    assert_eq!(cast("abstain", &HONEST, 1, 0, &["+-0++"]), ["00000"]);
    assert_eq!(cast("nan", &HONEST, 1, 0, &["+-0++"]), ["00000"]);
    assert_eq!(cast("freeze", &HONEST, 1, 0, &["+-0++", "-----", "+++++"]), ["+-0++", "+-0++", "+-0++"]);
    assert_eq!(cast("replay-1", &HONEST, 1, 0, &["+-0++", "-----", "+++++"]), ["+-0++", "+-0++", "-----"]);
    let random = cast("random-sign", &HONEST, 1, 0, &["00000"; 8]);
    assert!(
        random.iter().any(|votes| *votes != random[0]) && random.iter().all(|votes| !votes.contains('0'))
    );
    // What is flipped is the labels: the ballot is an honest one.
    assert_eq!(cast("label-flip", &HONEST, 1, 0, &["+-0++"]), ["+-0++"]);
}

#[test]
fn colluders_know_what_the_honest_vote() {
    // Sums of the honest: 3, 1, −3, none, and a tie whose momenta sum up to 2.
    assert_eq!(cast("omniscient", &HONEST, 2, 0, &["+++++"]), ["--+0-"]);
    // Two liars can turn a sum of 1, and tie nothing that is 3.
    assert_eq!(cast("low-margin", &HONEST, 2, 0, &["+++++"]), ["+--0-"]);
    assert_eq!(cast("low-margin", &HONEST, 3, 0, &["+++++"]), ["--+0-"]);
    assert_eq!(cast("mimic", &HONEST, 2, 0, &["+++++"]), ["++-0-"]);
    assert_eq!(cast("lone-voter", &HONEST, 2, 0, &["+++++"]), ["000-0"]);
    // −μ = −(3, 4, −3, 0, 2)/3.
    assert_eq!(cast("ipm-5", &HONEST, 2, 0, &["+++++"]), ["--+0-"]);
    assert_eq!(cast("echo-then-flip-1", &HONEST, 2, 0, &["+++++", "+++++"]), ["++-00", "-----"]);
}

fn sent(lie: &str, own: &[f32]) -> Vec<f32> {
    let lie: Lie = lie.parse().unwrap();
    let mut gradient = own.to_vec();
    lie.gradient(&HONEST, 2, Moment { round: 0, seed: 1, index: 0 }, &mut gradient, &mut Vec::new()).unwrap();
    gradient
}

#[test]
fn gradients_lie_by_the_same_formulas() {
    let own = [1.0, -2.0, 3.0, 0.0, 0.5];
    assert_eq!(sent("sign-flip-10", &own), [-10.0, 20.0, -30.0, 0.0, -5.0]);
    assert_eq!(sent("abstain", &own), [0.0; 5]);
    assert_eq!(sent("mimic", &own), HONEST[2]);
    assert!(sent("random-sign-2", &own).iter().zip(own).all(|(sent, own)| sent.abs() == 2.0 * own.abs()));
    assert!(sent("nan", &own).iter().all(|value| value.is_nan()));
    let mean = [1.0, 4.0 / 3.0, -1.0, 0.0, 2.0 / 3.0];
    let close = |found: Vec<f32>, expected: [f32; 5]| {
        assert!(
            found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6),
            "{found:?}, expected {expected:?}"
        );
    };
    close(sent("ipm-0.5", &own), mean.map(|m| -0.5 * m));
    close(sent("omniscient", &own), mean.map(|m| -m));
    close(sent("low-margin", &own), [mean[0], -mean[1], mean[2], -mean[3], -mean[4]]);
    close(sent("echo-then-flip-1", &own), mean);
    close(sent("lone-voter", &own), [0.0, 0.0, 0.0, -1.0, 0.0]);
}

#[test]
fn lies_read_back_what_they_print() {
    for name in Lie::NAMES {
        let lie: Lie = name.parse().unwrap();
        assert_eq!(lie.to_string().parse::<Lie>().unwrap(), lie, "{name}");
    }
    assert_eq!("replay-3".parse::<Lie>().unwrap(), Lie::Replay { rounds: 3 });
    for wrong in ["lie", "sign-flip-", "sign-flip-0", "mimic-2", "replay--1", "sign-flip-nan"] {
        assert!(wrong.parse::<Lie>().is_err(), "{wrong}");
    }
}
