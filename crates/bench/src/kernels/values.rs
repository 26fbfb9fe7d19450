//! The groups in which values become bits, or bits values.

use signvote_kernels::{AbstainOn, Half, words};

use super::case::{Case, Group};
use super::data::{halves, plane, values};
use super::forms::{Apply, Copy, Forms, LionPack, MomentumPack, Pack, PackHalf, Signs, Unpack};
use super::memory::{Memory, Place, Touch, Touches};
use super::{Visit, naive};
use crate::Error;

const BALLOT: Touches = &[(Place::Signs, Touch::Write), (Place::Other, Touch::Write)];
const MOVED: Touches =
    &[(Place::Values, Touch::Update), (Place::Signs, Touch::Write), (Place::Other, Touch::Write)];

const BETA: f32 = 0.9;
const LION_BETAS: (f32, f32) = (0.9, 0.99);
const ETA: f32 = 1e-3;
const LAMBDA: f32 = 1e-4;

/// The name of the row that is the machine's own speed.
pub(super) const COPY: &str = "copy";

/// Values copied: what the machine does for everybody.
pub(super) fn memory(d: usize, forms: &Forms, visit: &mut Visit<'_>) -> Result<(), Error> {
    let from = values(1, d);
    let from = &from[..];
    let reads = [bytemuck::cast_slice(from)];
    let mut cases = Vec::new();
    if let Some(copy) = forms.copy {
        let call = |copy: Copy| move |m: &mut Memory| copy(from, &mut m.values);
        cases.push(Case::new(COPY, &reads, &[(Place::Values, Touch::Write)], call(copy), call(naive::copy)));
    }
    let memory = Memory { values: vec![1.0; d], ..Memory::default() };
    visit(Group::new("memory", None, memory, Memory::default(), cases))
}

/// Values to ballots.
pub(super) fn pack(d: usize, forms: &Forms, visit: &mut Visit<'_>) -> Result<(), Error> {
    let (dense, halves, zeros) = (values(1, d), halves(2, d), plane(3, d));
    let zero = |i: usize| zeros[i / 64] >> (i % 64) & 1 == 1;
    let sparse: Vec<_> = dense.iter().enumerate().map(|(i, v)| if zero(i) { 0.0 } else { *v }).collect();
    let (dense, sparse, halves) = (&dense[..], &sparse[..], &halves[..]);
    let mut cases = Vec::new();
    if let Some(pack) = forms.pack {
        let call = |pack: Pack, values| move |m: &mut Memory| pack(values, &mut m.signs, &mut m.other);
        let case = |name, values| {
            let reads = [bytemuck::cast_slice(values)];
            Case::new(name, &reads, BALLOT, call(pack, values), call(naive::pack, values))
        };
        cases.push(case("pack", dense));
        cases.push(case("pack, half of the values 0", sparse).relative_to(0));
    }
    if let Some(signs) = forms.signs {
        let call = |signs: Signs| move |m: &mut Memory| signs(dense, &mut m.signs);
        let (reads, touches) = ([bytemuck::cast_slice(dense)], &[(Place::Signs, Touch::Write)]);
        let (kernel, naive) = (call(signs), call(naive::signs));
        cases.push(
            Case::new("signs alone, without abstentions", &reads, touches, kernel, naive).relative_to(0),
        );
    }
    if let Some(pack_half) = forms.pack_half {
        let reads = [bytemuck::cast_slice(halves)];
        for (name, format) in
            [("pack_half, binary16", Half::Binary16), ("pack_half, bfloat16", Half::Bfloat16)]
        {
            let call =
                |pack: PackHalf| move |m: &mut Memory| pack(format, halves, &mut m.signs, &mut m.other);
            cases.push(Case::new(name, &reads, BALLOT, call(pack_half), call(naive::pack_half)));
        }
    }
    let memory = Memory { signs: vec![1; words(d)], other: vec![1; words(d)], ..Memory::default() };
    visit(Group::new("pack", None, memory, Memory::default(), cases))
}

/// Gradients to ballots, by way of a momentum.
pub(super) fn momentum(d: usize, forms: &Forms, visit: &mut Visit<'_>) -> Result<(), Error> {
    let gradient = values(1, d);
    let gradient = &gradient[..];
    let reads = [bytemuck::cast_slice(gradient)];
    let on = AbstainOn::Momentum;
    let mut cases = Vec::new();
    if let Some(momentum_pack) = forms.momentum_pack {
        let call = |pack: MomentumPack| {
            move |m: &mut Memory| pack(gradient, &mut m.values, BETA, on, &mut m.signs, &mut m.other)
        };
        cases.push(Case::new(
            "momentum_pack",
            &reads,
            MOVED,
            call(momentum_pack),
            call(naive::momentum_pack),
        ));
    }
    if let Some(lion_pack) = forms.lion_pack {
        let call = |pack: LionPack| {
            move |m: &mut Memory| pack(gradient, &mut m.values, LION_BETAS, on, &mut m.signs, &mut m.other)
        };
        cases.push(Case::new("lion_pack", &reads, MOVED, call(lion_pack), call(naive::lion_pack)));
    }
    let (values, initial) = (values(2, d), values(2, d));
    let memory = Memory { values, signs: vec![1; words(d)], other: vec![1; words(d)], ..Memory::default() };
    visit(Group::new("momentum", None, memory, Memory { values: initial, ..Memory::default() }, cases))
}

/// Verdicts to weights, and ballots to values.
pub(super) fn apply(d: usize, forms: &Forms, visit: &mut Visit<'_>) -> Result<(), Error> {
    let (signs, silent) = (plane(1, d), plane(2, d));
    let (signs, silent) = (&signs[..], &silent[..]);
    let both: [&[u8]; 2] = [bytemuck::cast_slice(signs), bytemuck::cast_slice(silent)];
    let mut cases = Vec::new();
    if let Some(unpack) = forms.unpack {
        let call = |unpack: Unpack, abstain| move |m: &mut Memory| unpack(signs, abstain, &mut m.values);
        for (name, reads, abstain) in
            [("unpack", &both[..1], None), ("unpack, half abstained", &both[..], Some(silent))]
        {
            let touches = &[(Place::Values, Touch::Write)];
            cases.push(Case::new(name, reads, touches, call(unpack, abstain), call(naive::unpack, abstain)));
        }
    }
    if let Some(apply) = forms.apply {
        let call =
            |apply: Apply, hold, lambda| move |m: &mut Memory| apply(&mut m.values, signs, hold, ETA, lambda);
        for (name, reads, hold, lambda) in [
            ("apply", &both[..1], None, 0.0),
            ("apply, with weight decay", &both[..1], None, LAMBDA),
            ("apply, half held", &both[..], Some(silent), 0.0),
        ] {
            let touches = &[(Place::Values, Touch::Update)];
            let (kernel, naive) = (call(apply, hold, lambda), call(naive::apply, hold, lambda));
            cases.push(Case::new(name, reads, touches, kernel, naive));
        }
    }
    let memory = Memory { values: values(3, d), ..Memory::default() };
    let initial = Memory { values: values(3, d), ..Memory::default() };
    visit(Group::new("apply", None, memory, initial, cases))
}
