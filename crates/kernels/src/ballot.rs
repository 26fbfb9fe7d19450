//! One voter's ballot, and what can be said of it alone or beside a verdict.

use crate::Isa;
use crate::pack::check_planes;
use crate::plane::tail_mask;
use crate::vector::Arch;

/// One voter's ballot over a range of coordinates that starts at a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ballot<'a> {
    /// 1 where the coordinate is negative. Ignored where the voter abstains.
    pub signs: &'a [u64],
    /// 1 where the voter abstains; `None` if nowhere.
    pub abstain: Option<&'a [u64]>,
}

impl<'a> Ballot<'a> {
    /// A ballot of these planes.
    ///
    /// # Panics
    ///
    /// If the planes are not equally long.
    #[must_use]
    pub fn new(signs: &'a [u64], abstain: Option<&'a [u64]>) -> Ballot<'a> {
        if let Some(abstain) = abstain {
            assert_eq!(abstain.len(), signs.len(), "words of the abstention plane");
        }
        Ballot { signs, abstain }
    }

    /// Panics unless both planes fit that many coordinates.
    pub(crate) fn check(&self, coordinates: usize) {
        check_planes(coordinates, self.signs, self.abstain.unwrap_or(self.signs));
    }
}

/// How far a ballot and a verdict say the same, over the coordinates where the one voted and the other did
/// not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Coordinates with equal signs.
    pub agree: u64,
    /// Coordinates with opposite signs.
    pub disagree: u64,
}

/// Compares a ballot with a verdict of as many coordinates. Tail bits are ignored.
///
/// # Panics
///
/// If any of the planes is not exactly [`words(coordinates)`](crate::words) long.
#[must_use]
pub fn agreement(ballot: Ballot<'_>, signs: &[u64], hold: &[u64], coordinates: usize) -> Agreement {
    agreement_on(Isa::active(), ballot, signs, hold, coordinates)
}

/// The Hamming distance of a ballot and a verdict of as many coordinates: how many of them differ, each of
/// them being −1, +1, or nothing (abstained, or held).
///
/// Beside [`agreement`], which looks only where both say something, this also counts where exactly one of
/// them does. Sign bits under an abstention or a hold and tail bits are ignored.
///
/// # Panics
///
/// If any of the planes is not exactly [`words(coordinates)`](crate::words) long.
#[must_use]
pub fn hamming(ballot: Ballot<'_>, signs: &[u64], hold: &[u64], coordinates: usize) -> u64 {
    hamming_on(Isa::active(), ballot, signs, hold, coordinates)
}

kernel! {
    pub(crate) fn hamming_on(ballot: Ballot<'_>, signs: &[u64], hold: &[u64], coordinates: usize) -> u64 =
        hamming_body;
}

/// # Safety
///
/// None: `unsafe` is the form that `kernel!` expects.
#[inline(always)]
unsafe fn hamming_body<A: Arch>(ballot: Ballot<'_>, signs: &[u64], hold: &[u64], coordinates: usize) -> u64 {
    ballot.check(coordinates);
    check_planes(coordinates, signs, hold);
    let Some(last) = signs.len().checked_sub(1) else { return 0 };
    let mut differ = 0;
    let mut count = |at: usize, valid: u64| {
        let abstain = ballot.abstain.map_or(0, |plane| plane[at]);
        let opposite = (ballot.signs[at] ^ signs[at]) & !(abstain | hold[at]);
        differ += u64::from((valid & (opposite | (abstain ^ hold[at]))).count_ones());
    };
    for at in 0..last {
        count(at, u64::MAX);
    }
    count(last, tail_mask(coordinates));
    differ
}

kernel! {
    pub(crate) fn agreement_on(
        ballot: Ballot<'_>,
        signs: &[u64],
        hold: &[u64],
        coordinates: usize,
    ) -> Agreement = agreement_body;
}

/// The compiler makes vectors of the plain loop, with each instruction set's own way to count bits.
///
/// # Safety
///
/// None: `unsafe` is the form that `kernel!` expects.
#[inline(always)]
unsafe fn agreement_body<A: Arch>(
    ballot: Ballot<'_>,
    signs: &[u64],
    hold: &[u64],
    coordinates: usize,
) -> Agreement {
    ballot.check(coordinates);
    check_planes(coordinates, signs, hold);
    let Some(last) = signs.len().checked_sub(1) else { return Agreement::default() };
    let (mut voted, mut disagree) = (0, 0);
    let mut count = |at: usize, valid: u64| {
        let abstain = ballot.abstain.map_or(0, |plane| plane[at]);
        let both = valid & !abstain & !hold[at];
        voted += u64::from(both.count_ones());
        disagree += u64::from((both & (ballot.signs[at] ^ signs[at])).count_ones());
    };
    for at in 0..last {
        count(at, u64::MAX);
    }
    count(last, tail_mask(coordinates));
    Agreement { agree: voted - disagree, disagree }
}

/// Whether planes are in the one form that stands for this ballot (or verdict): no bit set past the last
/// coordinate, and no sign bit set under an abstention. Digests and signatures are taken of this form only.
///
/// # Panics
///
/// If `signs`, or `abstain` where given, is not exactly [`words(coordinates)`](crate::words) long.
#[must_use]
pub fn is_canonical(signs: &[u64], abstain: Option<&[u64]>, coordinates: usize) -> bool {
    Ballot { signs, abstain }.check(coordinates);
    let beyond = !tail_mask(coordinates);
    let clean_tail = |plane: &[u64]| plane.last().is_none_or(|last| last & beyond == 0);
    match abstain {
        None => clean_tail(signs),
        Some(abstain) => {
            // Without an early end, which would keep the loop from being made of vectors: planes are nearly
            // always canonical.
            let both = signs.iter().zip(abstain).fold(0, |both, (signs, abstain)| both | (signs & abstain));
            both == 0 && clean_tail(signs) && clean_tail(abstain)
        }
    }
}

/// Brings planes into that form, in place: clears what [`is_canonical`] refuses. What the planes say does not
/// change.
///
/// # Panics
///
/// If `signs`, or `abstain` where given, is not exactly [`words(coordinates)`](crate::words) long.
pub fn canonicalise(signs: &mut [u64], abstain: Option<&mut [u64]>, coordinates: usize) {
    check_planes(coordinates, signs, abstain.as_deref().unwrap_or(signs));
    let valid = tail_mask(coordinates);
    let clear_tail = |plane: &mut [u64]| {
        if let Some(last) = plane.last_mut() {
            *last &= valid;
        }
    };
    if let Some(abstain) = abstain {
        clear_tail(abstain);
        for (signs, abstain) in signs.iter_mut().zip(abstain) {
            *signs &= !*abstain;
        }
    }
    clear_tail(signs);
}
