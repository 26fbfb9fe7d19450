//! The groups in which ballots are counted or compared.

use signvote_kernels::{Agreement, Ballot, Tie, margins as count_margins, words};

use super::case::{Case, Group};
use super::data::{plane, planes, zero_planes};
use super::forms::{Canonicalise, CompareBallot, Decide, DecideWeighted, Forms, MarginHistogram, Margins};
use super::memory::{Memory, Place, Touch, Touches};
use super::stream::{Tallies, coin};
use super::{Visit, naive};
use crate::Error;

const VERDICT: Touches = &[(Place::Signs, Touch::Write), (Place::Other, Touch::Write)];

/// The voters whose margins are measured.
pub(super) const MARGIN_VOTERS: usize = 15;

/// The most that weights may be in sum.
const MAX_WEIGHT: usize = 65_535;

/// One ballot beside a verdict, or alone.
pub(super) fn single(d: usize, forms: &Forms, visit: &mut Visit<'_>) -> Result<(), Error> {
    let inputs = planes(1, d, 4);
    let [signs, abstain, verdict, hold] = std::array::from_fn(|i| &inputs[i][..]);
    let ballot = Ballot::new(signs, Some(abstain));
    let reads = [signs, abstain, verdict, hold].map(bytemuck::cast_slice);
    let mut cases = Vec::new();
    if let Some(agreement) = forms.agreement {
        let call =
            |agreement: CompareBallot<Agreement>| move |_: &mut Memory| agreement(ballot, verdict, hold, d);
        cases.push(Case::new("agreement", &reads, &[], call(agreement), call(naive::agreement)));
    }
    if let Some(hamming) = forms.hamming {
        let call = |hamming: CompareBallot<u64>| move |_: &mut Memory| hamming(ballot, verdict, hold, d);
        cases.push(Case::new("hamming", &reads, &[], call(hamming), call(naive::hamming)));
    }
    if let Some(canonicalise) = forms.canonicalise {
        let call = |canonicalise: Canonicalise| {
            move |m: &mut Memory| canonicalise(&mut m.signs, Some(&mut m.other), d)
        };
        // Of the abstentions only the last word is ever written.
        let touches = &[(Place::Signs, Touch::Update), (Place::Other, Touch::Read)];
        cases.push(Case::new("canonicalise", &[], touches, call(canonicalise), call(naive::canonicalise)));
    }
    let random = || Memory { signs: plane(5, d), other: plane(6, d), ..Memory::default() };
    visit(Group::new("one ballot", None, random(), random(), cases))
}

/// How clear verdicts are.
pub(super) fn margins(d: usize, forms: &Forms, visit: &mut Visit<'_>) -> Result<(), Error> {
    let signs = planes(1, d, MARGIN_VOTERS);
    let ballots: Vec<_> = signs.iter().map(|signs| Ballot::new(signs, None)).collect();
    let mut all = vec![0; d];
    count_margins(&ballots, d, &mut all);
    let (ballots, all) = (&ballots[..], &all[..]);
    let mut cases = Vec::new();
    if let Some(margins) = forms.margins {
        let reads: Vec<_> = signs.iter().map(|plane| bytemuck::cast_slice(plane)).collect();
        let call = |margins: Margins| move |m: &mut Memory| margins(ballots, d, &mut m.margins);
        let touches = &[(Place::Margins, Touch::Write)];
        cases.push(Case::new("margins", &reads, touches, call(margins), call(naive::margins)));
    }
    if let Some(histogram) = forms.margin_histogram {
        let call = |histogram: MarginHistogram| move |m: &mut Memory| histogram(all, &mut m.bins);
        let (reads, touches) = ([bytemuck::cast_slice(all)], &[(Place::Bins, Touch::Update)]);
        let (kernel, naive) = (call(histogram), call(naive::margin_histogram));
        cases.push(Case::new("margin_histogram", &reads, touches, kernel, naive));
    }
    let bins = || vec![0; MARGIN_VOTERS + 1];
    let memory = Memory { margins: vec![1; d], bins: bins(), ..Memory::default() };
    let initial = Memory { bins: bins(), ..Memory::default() };
    visit(Group::new("margins", Some(MARGIN_VOTERS), memory, initial, cases))
}

/// The verdict of so many voters, in every way.
pub(super) fn decide(d: usize, voters: usize, forms: &Forms, visit: &mut Visit<'_>) -> Result<(), Error> {
    let Some(decide) = forms.decide else { return Ok(()) };
    let (signs, none, half) = (planes(1, d, voters), zero_planes(d, voters), planes(2, d, voters));
    let dense: Vec<_> = signs.iter().map(|signs| Ballot::new(signs, None)).collect();
    let (zeros, sparse) = (with_abstentions(&signs, &none), with_abstentions(&signs, &half));
    let ones = vec![1; voters];
    let weights: Vec<_> = (0..voters).map(|voter| (voter % 7 + 1) as u16).collect();
    let (dense, zeros, sparse, ones, weights) =
        (&dense[..], &zeros[..], &sparse[..], &ones[..], &weights[..]);
    let (reads, reads_zeros, reads_half) = (bytes([&signs]), bytes([&signs, &none]), bytes([&signs, &half]));

    let call = |decide: Decide, ballots, tie| {
        move |m: &mut Memory| decide(ballots, d, tie, 1, &mut m.signs, &mut m.other)
    };
    let case = |name, reads, ballots, tie| {
        let (kernel, naive) = (call(decide, ballots, tie), call(naive::decide, ballots, tie));
        Case::new(name, reads, VERDICT, kernel, naive)
    };
    let mut cases = vec![case("decide", &reads, dense, coin(0))];
    if [15, 16].contains(&voters) {
        cases.push(case("decide, ties hold", &reads, dense, Tie::Hold).relative_to(0));
        cases.push(case("decide, ties positive", &reads, dense, Tie::Positive).relative_to(0));
    }
    // The naive form of what has the same answer is that of the first row: anything else would be slower.
    let of_zeros = call(decide, zeros, coin(0));
    cases.push(Case::same("decide, abstentions all 0", &reads_zeros, VERDICT, of_zeros, 0).relative_to(0));
    cases.push(case("decide, half abstained", &reads_half, sparse, coin(0)).relative_to(0));
    if let Some(weighted) = forms.decide_weighted {
        let call = |decide: DecideWeighted, weights| {
            move |m: &mut Memory| decide(dense, weights, d, coin(0), 1, &mut m.signs, &mut m.other)
        };
        let of_ones = call(weighted, ones);
        cases.push(Case::same("decide_weighted, weights 1", &reads, VERDICT, of_ones, 0).relative_to(0));
        if weights.iter().map(|weight| usize::from(*weight)).sum::<usize>() <= MAX_WEIGHT {
            let (kernel, naive) = (call(weighted, weights), call(naive::decide_weighted, weights));
            let name = "decide_weighted, weights 1 to 7";
            cases.push(Case::new(name, &reads, VERDICT, kernel, naive).relative_to(0));
        }
    }
    if let Some(stream) = forms.stream {
        for (batch, name) in [
            (1, "StreamTally, one at a time"),
            (4, "StreamTally, 4 at a time"),
            (16, "StreamTally, 16 at a time"),
        ] {
            let mut tallies = Tallies::new(d, voters);
            let kernel = move |m: &mut Memory| stream(dense, batch, &mut tallies, &mut m.signs, &mut m.other);
            cases.push(Case::same(name, &reads, VERDICT, kernel, 0).relative_to(0));
        }
    }
    let memory = Memory { signs: vec![1; words(d)], other: vec![1; words(d)], ..Memory::default() };
    visit(Group::new("decide", Some(voters), memory, Memory::default(), cases))
}

fn with_abstentions<'a>(signs: &'a [Vec<u64>], abstain: &'a [Vec<u64>]) -> Vec<Ballot<'a>> {
    signs.iter().zip(abstain).map(|(signs, abstain)| Ballot::new(signs, Some(abstain))).collect()
}

fn bytes<const N: usize>(planes: [&[Vec<u64>]; N]) -> Vec<&[u8]> {
    planes.into_iter().flatten().map(|plane| bytemuck::cast_slice(plane)).collect()
}
