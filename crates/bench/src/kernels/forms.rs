//! The forms of the kernels that are measured: the serial ones, and those over several threads.

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};
use signvote_kernels::testing::signs_with;
use signvote_kernels::{
    AbstainOn, Agreement, Ballot, Decided, Half, Isa, Packed, Tie, agreement, apply, canonicalise, decide,
    decide_weighted, hamming, lion_pack, margin_histogram, margins, momentum_pack, pack, pack_half, parallel,
    unpack,
};

use super::stream::{CHUNK, Tallies, stream};

pub(super) type Copy = fn(&[f32], &mut [f32]);
pub(super) type Pack = fn(&[f32], &mut [u64], &mut [u64]) -> Packed;
pub(super) type Signs = fn(&[f32], &mut [u64]);
pub(super) type PackHalf = fn(Half, &[u16], &mut [u64], &mut [u64]) -> Packed;
pub(super) type MomentumPack = fn(&[f32], &mut [f32], f32, AbstainOn, &mut [u64], &mut [u64]) -> Packed;
pub(super) type LionPack = fn(&[f32], &mut [f32], (f32, f32), AbstainOn, &mut [u64], &mut [u64]) -> Packed;
pub(super) type Unpack = fn(&[u64], Option<&[u64]>, &mut [f32]);
pub(super) type Apply = fn(&mut [f32], &[u64], Option<&[u64]>, f32, f32);
pub(super) type CompareBallot<R> = fn(Ballot<'_>, &[u64], &[u64], usize) -> R;
pub(super) type Canonicalise = fn(&mut [u64], Option<&mut [u64]>, usize);
pub(super) type Margins = fn(&[Ballot<'_>], usize, &mut [u16]);
pub(super) type MarginHistogram = fn(&[u16], &mut [u64]);
pub(super) type Decide = fn(&[Ballot<'_>], usize, Tie, u32, &mut [u64], &mut [u64]) -> Decided;
pub(super) type DecideWeighted =
    fn(&[Ballot<'_>], &[u16], usize, Tie, u32, &mut [u64], &mut [u64]) -> Decided;
pub(super) type Stream = fn(&[Ballot<'_>], usize, &mut Tallies, &mut [u64], &mut [u64]) -> Decided;

/// One form of every kernel, or `None` where it has no such form.
#[derive(Clone, Copy)]
pub(super) struct Forms {
    pub(super) copy: Option<Copy>,
    pub(super) pack: Option<Pack>,
    /// What `pack` would be without abstentions.
    pub(super) signs: Option<Signs>,
    pub(super) pack_half: Option<PackHalf>,
    pub(super) momentum_pack: Option<MomentumPack>,
    pub(super) lion_pack: Option<LionPack>,
    pub(super) unpack: Option<Unpack>,
    pub(super) apply: Option<Apply>,
    pub(super) agreement: Option<CompareBallot<Agreement>>,
    pub(super) hamming: Option<CompareBallot<u64>>,
    pub(super) canonicalise: Option<Canonicalise>,
    pub(super) margins: Option<Margins>,
    pub(super) margin_histogram: Option<MarginHistogram>,
    pub(super) decide: Option<Decide>,
    pub(super) decide_weighted: Option<DecideWeighted>,
    pub(super) stream: Option<Stream>,
}

/// On one thread.
pub(super) const SERIAL: Forms = Forms {
    copy: Some(|from, to| to.copy_from_slice(from)),
    pack: Some(pack),
    signs: Some(|values, signs| signs_with(Isa::active(), values, signs)),
    pack_half: Some(pack_half),
    momentum_pack: Some(momentum_pack),
    lion_pack: Some(lion_pack),
    unpack: Some(unpack),
    apply: Some(apply),
    agreement: Some(agreement),
    hamming: Some(hamming),
    canonicalise: Some(canonicalise),
    margins: Some(margins),
    margin_histogram: Some(margin_histogram),
    decide: Some(decide),
    decide_weighted: Some(decide_weighted),
    stream: Some(stream),
};

/// On all threads of the current rayon pool.
pub(super) const PARALLEL: Forms = Forms {
    copy: Some(parallel_copy),
    pack: Some(parallel::pack),
    signs: None,
    pack_half: Some(parallel::pack_half),
    momentum_pack: Some(parallel::momentum_pack),
    lion_pack: Some(parallel::lion_pack),
    unpack: Some(parallel::unpack),
    apply: Some(parallel::apply),
    agreement: Some(parallel::agreement),
    hamming: Some(parallel::hamming),
    canonicalise: None,
    margins: Some(parallel::margins),
    margin_histogram: Some(parallel::margin_histogram),
    decide: Some(parallel::decide),
    decide_weighted: Some(parallel::decide_weighted),
    stream: None,
};

impl Forms {
    /// The kernels that have no such form.
    pub(super) fn missing(&self) -> Vec<String> {
        let all = [
            ("pack", self.pack.is_some()),
            ("signs alone", self.signs.is_some()),
            ("pack_half", self.pack_half.is_some()),
            ("momentum_pack", self.momentum_pack.is_some()),
            ("lion_pack", self.lion_pack.is_some()),
            ("unpack", self.unpack.is_some()),
            ("apply", self.apply.is_some()),
            ("agreement", self.agreement.is_some()),
            ("hamming", self.hamming.is_some()),
            ("canonicalise", self.canonicalise.is_some()),
            ("margins", self.margins.is_some()),
            ("margin_histogram", self.margin_histogram.is_some()),
            ("decide", self.decide.is_some()),
            ("decide_weighted", self.decide_weighted.is_some()),
            ("StreamTally", self.stream.is_some()),
        ];
        all.into_iter().filter(|(_, there)| !there).map(|(name, _)| name.to_owned()).collect()
    }
}

fn parallel_copy(from: &[f32], to: &mut [f32]) {
    to.par_chunks_mut(CHUNK).zip(from.par_chunks(CHUNK)).for_each(|(to, from)| to.copy_from_slice(from));
}
