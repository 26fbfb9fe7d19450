//! How a verdict becomes a step: one rate for all coordinates, or each tensor its own.

use std::ops::Range;

use signvote_kernels as kernels;

use crate::dense::apply_dense;
use crate::{Layout, StepRule};

/// Coordinates whose signs share a word.
const WORD: usize = 64;
/// Between which bounds a tensor's root mean square makes its rate (γ of LAMB, You et al. 2020): biases that begin at zero move, and
/// gains that begin at one are not moved as if they were all of the model.
const RMS: std::ops::RangeInclusive<f64> = 0.01..=0.1;

/// The parts of a model that take steps of their own, in order and without gaps.
///
/// Who has a replica makes the same steps from the same x, bit for bit: root mean squares are summed in one order,
/// whatever the processor.
#[derive(Clone, Debug)]
pub struct Steps {
    layerwise: bool,
    /// Where each part ends, and whether it decays.
    parts: Vec<(usize, bool)>,
}

/// η and λ of one part.
#[derive(Clone, Debug, PartialEq)]
struct Piece {
    coordinates: Range<usize>,
    eta: f32,
    lambda: f32,
}

/// η and λ of every coordinate, for one round.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rates(Vec<Piece>);

impl Steps {
    /// The parts of a model of this layout under `rule`; neighbours that are treated alike are one part.
    pub fn new(rule: StepRule, layout: &Layout) -> Self {
        let mut parts: Vec<(usize, bool)> = Vec::new();
        for (tensor, coordinates) in layout.ranges() {
            let decays = !rule.decay_matrices || tensor.shape.len() > 1;
            match parts.last_mut() {
                Some((end, decayed)) if !rule.layerwise && *decayed == decays => *end = coordinates.end,
                _ => parts.push((coordinates.end, decays)),
            }
        }
        Self { layerwise: rule.layerwise, parts }
    }

    /// The rates of a round that begins at x, where the run's are η and λ.
    pub(crate) fn rates(&self, x: &[f32], eta: f32, lambda: f32) -> Rates {
        let mut start = 0;
        let piece = |&(end, decays): &(usize, bool)| {
            let coordinates = start..end;
            start = end;
            let scale = if self.layerwise { root_mean_square(&x[coordinates.clone()]) } else { 1.0 };
            let eta = if self.layerwise {
                (f64::from(eta) * scale.clamp(*RMS.start(), *RMS.end())) as f32
            } else {
                eta
            };
            Piece { coordinates, eta, lambda: if decays { lambda } else { 0.0 } }
        };
        Rates(self.parts.iter().map(piece).collect())
    }
}

impl Rates {
    /// x ← x − η·(s + λ·x), everywhere.
    pub(crate) fn apply(&self, x: &mut [f32], signs: &[u64], hold: Option<&[u64]>) {
        for Piece { coordinates, eta, lambda } in &self.0 {
            for part in whole_words(coordinates.clone(), x.len()) {
                let planes = part.words.clone();
                let (signs, hold) = (&signs[planes.clone()], hold.map(|hold| &hold[planes]));
                if part.is_whole() {
                    kernels::apply(&mut x[part.stepped], signs, hold, *eta, *lambda);
                } else {
                    let mut stepped = [0.0; WORD];
                    let stepped = &mut stepped[..part.covered.len()];
                    kernels::apply_into(&x[part.covered.clone()], signs, hold, *eta, *lambda, stepped);
                    x[part.stepped.clone()].copy_from_slice(&stepped[part.inside()]);
                }
            }
        }
    }

    /// The same into `out`, for these coordinates, which begin at a word; x, planes and `out` are theirs alone.
    pub(crate) fn apply_into(
        &self,
        coordinates: &Range<usize>,
        x: &[f32],
        signs: &[u64],
        hold: Option<&[u64]>,
        out: &mut [f32],
    ) {
        let first = self.0.partition_point(|piece| piece.coordinates.end <= coordinates.start);
        for piece in &self.0[first..] {
            if piece.coordinates.start >= coordinates.end {
                break;
            }
            let here = piece.coordinates.start.max(coordinates.start) - coordinates.start
                ..piece.coordinates.end.min(coordinates.end) - coordinates.start;
            for part in whole_words(here, x.len()) {
                let planes = part.words.clone();
                let (signs, hold) = (&signs[planes.clone()], hold.map(|hold| &hold[planes]));
                let from = &x[part.covered.clone()];
                if part.is_whole() {
                    kernels::apply_into(from, signs, hold, piece.eta, piece.lambda, &mut out[part.stepped]);
                } else {
                    let mut stepped = [0.0; WORD];
                    let stepped = &mut stepped[..from.len()];
                    kernels::apply_into(from, signs, hold, piece.eta, piece.lambda, stepped);
                    out[part.stepped.clone()].copy_from_slice(&stepped[part.inside()]);
                }
            }
        }
    }

    /// x ← x − η·(u + λ·x), everywhere.
    pub(crate) fn apply_dense(&self, x: &mut [f32], update: &[f32]) {
        for Piece { coordinates, eta, lambda } in &self.0 {
            apply_dense(&mut x[coordinates.clone()], &update[coordinates.clone()], *eta, *lambda);
        }
    }
}

/// Coordinates that take a step together, and the whole words of signs that they lie in.
struct Part {
    stepped: Range<usize>,
    covered: Range<usize>,
    words: Range<usize>,
}

impl Part {
    fn new(stepped: Range<usize>, dimension: usize) -> Self {
        let words = stepped.start / WORD..stepped.end.div_ceil(WORD);
        let covered = words.start * WORD..(words.end * WORD).min(dimension);
        Self { stepped, covered, words }
    }

    fn is_whole(&self) -> bool {
        self.stepped == self.covered
    }

    fn inside(&self) -> Range<usize> {
        self.stepped.start - self.covered.start..self.stepped.end - self.covered.start
    }
}

/// A range cut where words begin: parts of a word at its ends, if it has such, and whole words between them.
fn whole_words(range: Range<usize>, dimension: usize) -> impl Iterator<Item = Part> {
    let Range { start, end } = range;
    let first = start.next_multiple_of(WORD).min(end);
    // The model's last word is whole, however few coordinates it has.
    let last = if end == dimension { end } else { (end / WORD * WORD).max(first) };
    let parts = [start..first, first..last, last..end];
    parts.into_iter().filter(|part| !part.is_empty()).map(move |part| Part::new(part, dimension))
}

/// √(Σx²/n), in f64. Eight sums, which a processor adds at once, in an order that does not depend on it.
fn root_mean_square(x: &[f32]) -> f64 {
    let (eights, rest) = x.as_chunks::<8>();
    let mut sums = [0.0_f64; 8];
    for eight in eights {
        for (sum, &value) in sums.iter_mut().zip(eight) {
            *sum += f64::from(value) * f64::from(value);
        }
    }
    let rest: f64 = rest.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    ((sums.iter().sum::<f64>() + rest) / x.len().max(1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorSpec;

    /// Tensors that begin and end within words, one inside a single word, and one of several words.
    const SHAPES: &[&[usize]] = &[&[3, 30], &[7], &[5], &[64, 10], &[1], &[150]];

    fn layout() -> Layout {
        let tensor =
            |(at, shape): (usize, &&[usize])| TensorSpec { name: at.to_string(), shape: shape.to_vec() };
        Layout::new(SHAPES.iter().enumerate().map(tensor).collect()).unwrap()
    }

    fn number(at: usize) -> f32 {
        let word = kernels::coin_word(7, at as u64);
        (word % 2_001) as f32 / 1000.0 - 1.0
    }

    /// What the formulas say, coordinate by coordinate.
    fn expected(rule: StepRule, x: &[f32], u: &[f32], eta: f32, lambda: f32) -> Vec<f32> {
        let mut out = Vec::new();
        for (tensor, range) in layout().ranges() {
            let x = &x[range.clone()];
            let squares: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
            let rms = (squares / x.len() as f64).sqrt().clamp(0.01, 0.1);
            let eta = if rule.layerwise { (f64::from(eta) * rms) as f32 } else { eta };
            let lambda = if rule.decay_matrices && tensor.shape.len() < 2 { 0.0 } else { lambda };
            out.extend(x.iter().zip(&u[range]).map(|(x, u)| x - eta * (u + lambda * x)));
        }
        out
    }

    #[test]
    fn every_coordinate_takes_the_step_of_its_tensor() {
        let layout = layout();
        let d = layout.dimension();
        let mut x: Vec<f32> = (0..d).map(number).collect();
        // A tensor that has not moved yet.
        let zeros = layout.ranges().nth(1).unwrap().1;
        x[zeros].fill(0.0);
        let signs: Vec<u64> = (0..d.div_ceil(64) as u64).map(|at| kernels::coin_word(1, at)).collect();
        let hold: Vec<u64> =
            (0..signs.len() as u64).map(|at| kernels::coin_word(2, at) & kernels::coin_word(3, at)).collect();
        for (decay_matrices, layerwise) in [(false, false), (true, false), (false, true), (true, true)] {
            let rule = StepRule { decay_matrices, layerwise };
            for hold in [None, Some(&hold[..])] {
                let mut u = vec![0.0; d];
                kernels::unpack(&signs, hold, &mut u);
                let rates = Steps::new(rule, &layout).rates(&x, 0.25, 0.5);
                let by_tensor = expected(rule, &x, &u, 0.25, 0.5);
                let close = |got: &[f32]| got.iter().zip(&by_tensor).all(|(a, b)| (a - b).abs() < 1e-6);
                let mut whole = x.clone();
                rates.apply(&mut whole, &signs, hold);
                assert!(close(&whole), "{rule:?}");
                let mut dense = x.clone();
                rates.apply_dense(&mut dense, &u);
                assert_eq!(dense, whole, "{rule:?}");
                for chunk in [64, 128, 1024] {
                    let mut chunked = vec![f32::NAN; d];
                    for start in (0..d).step_by(chunk) {
                        let range = start..(start + chunk).min(d);
                        let planes = start / 64..range.end.div_ceil(64);
                        let (signs, hold) = (&signs[planes.clone()], hold.map(|hold| &hold[planes]));
                        let out = &mut chunked[range.clone()];
                        rates.apply_into(&range, &x[range.clone()], signs, hold, out);
                    }
                    assert_eq!(chunked, whole, "{rule:?} in chunks of {chunk}");
                }
            }
        }
    }

    #[test]
    fn what_is_treated_alike_is_one_part() {
        let parts = |decay_matrices, layerwise| {
            Steps::new(StepRule { decay_matrices, layerwise }, &layout()).parts.len()
        };
        assert_eq!([parts(false, false), parts(true, false), parts(false, true)], [1, 4, 6]);
    }
}
