//! Matrices as products of two thin ones, averaged factor by factor.

use std::ops::Range;

use rand_distr::{Distribution as _, StandardNormal};
use rayon::prelude::*;

use super::bits::{Reader, Writer};
use super::{State, tensors};
use crate::random::generator;
use crate::simulate::Bits;

/// What of a column's length has to be left, once those before it are taken out, for it to count as a direction of its own: more than
/// the rounding of its coordinates leaves.
const INDEPENDENT: f64 = 1e-6;

/// A tensor of n × m that is sent as factors of n × r and m × r.
#[derive(Clone, Copy, Debug)]
struct Matrix {
    rows: usize,
    columns: usize,
    rank: usize,
}

/// A tensor, and how it is sent.
struct Part {
    range: Range<usize>,
    /// `None`: as it is.
    matrix: Option<Matrix>,
}

impl Matrix {
    /// Rows by the first dimension. `None` where there is but one, or the factors have no fewer numbers than the tensor.
    fn new(shape: &[usize], elements: usize, rank: u16) -> Option<Self> {
        let rows = if shape.len() < 2 || elements == 0 { return None } else { shape[0] };
        let columns = elements / rows;
        let rank = usize::from(rank).min(rows).min(columns);
        (rank * (rows + columns) < elements).then_some(Self { rows, columns, rank })
    }

    /// M·Q.
    fn times(self, values: &[f32], right: &[f32]) -> Vec<f32> {
        let mut left = Vec::with_capacity(self.rows * self.rank);
        for row in values.chunks_exact(self.columns) {
            let mut sums = vec![0.0; self.rank];
            for (&value, factors) in row.iter().zip(right.chunks_exact(self.rank)) {
                add(&mut sums, value, factors);
            }
            left.extend(sums.into_iter().map(narrow));
        }
        left
    }

    /// Mᵀ·P.
    fn transposed_times(self, values: &[f32], left: &[f32]) -> Vec<f32> {
        let mut sums = vec![0.0; self.columns * self.rank];
        for (row, factors) in values.chunks_exact(self.columns).zip(left.chunks_exact(self.rank)) {
            for (&value, sums) in row.iter().zip(sums.chunks_exact_mut(self.rank)) {
                add(sums, value, factors);
            }
        }
        sums.into_iter().map(narrow).collect()
    }

    /// P·Qᵀ.
    fn product(self, left: &[f32], right: &[f32], out: &mut [f32]) {
        let rows = out.chunks_exact_mut(self.columns).zip(left.chunks_exact(self.rank));
        for (row, of_row) in rows {
            for (out, of_column) in row.iter_mut().zip(right.chunks_exact(self.rank)) {
                let terms = of_row.iter().zip(of_column).map(|(&p, &q)| f64::from(p) * f64::from(q));
                *out = narrow(terms.sum());
            }
        }
    }
}

/// The largest `f32` in place of what is larger: an infinite factor would make NaN of a product with 0.
fn narrow(sum: f64) -> f32 {
    sum.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

fn add(sums: &mut [f64], value: f32, factors: &[f32]) {
    sums.iter_mut().zip(factors).for_each(|(sum, &factor)| *sum += f64::from(value) * f64::from(factor));
}

/// Columns of length 1, at right angles to each other, that span what those of `matrix` do: Gram & Schmidt, each column twice, as
/// once leaves too much of the others in a column that almost depends on them. One that does depend on them becomes 0.
fn orthogonalise(matrix: &mut [f32], rank: usize) {
    let mut done: Vec<Vec<f64>> = Vec::with_capacity(rank);
    for at in 0..rank {
        let mut column: Vec<f64> = matrix.iter().skip(at).step_by(rank).map(|&v| f64::from(v)).collect();
        let before = dot(&column, &column).sqrt();
        for _ in 0..2 {
            for other in &done {
                let along = dot(&column, other);
                column.iter_mut().zip(other).for_each(|(v, other)| *v -= along * other);
            }
        }
        let length = dot(&column, &column).sqrt();
        let independent = length > INDEPENDENT * before;
        column.iter_mut().for_each(|v| *v = if independent { *v / length } else { 0.0 });
        matrix.iter_mut().skip(at).step_by(rank).zip(&column).for_each(|(out, &v)| *out = v as f32);
        done.push(column);
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn parts(shapes: &[Vec<usize>], rank: u16) -> Vec<Part> {
    let part = |(shape, range): (&Vec<usize>, Range<usize>)| {
        let matrix = Matrix::new(shape, range.len(), rank);
        Part { range, matrix }
    };
    tensors(shapes).map(part).collect()
}

/// Q of every tensor before the first round: 0, which means that it is to be drawn.
pub(super) fn factors(shapes: &[Vec<usize>], rank: u16) -> Vec<Vec<f32>> {
    let of = |part: Part| vec![0.0; part.matrix.map_or(0, |matrix| matrix.columns * matrix.rank)];
    parts(shapes, rank).into_iter().map(of).collect()
}

/// Draws the columns of Q that are 0, at the start and where a direction was lost: from M·0 none would ever come back. All workers
/// have the same Q, and draw the same.
fn draw(factors: &mut [f32], rank: usize, (seed, round): (u64, u64), index: u64) {
    let mut random = generator(b"factors of PowerSGD ", seed, round, index);
    for at in 0..rank {
        if factors.iter().skip(at).step_by(rank).all(|&v| v == 0.0) {
            for factor in factors.iter_mut().skip(at).step_by(rank) {
                *factor = StandardNormal.sample(&mut random);
            }
        }
    }
}

/// A round: what the workers have in `sent` becomes what each of them sent, and `out` what all were sent. `None` if a message is cut
/// off.
pub(super) fn exchange(
    rank: u16,
    shapes: &[Vec<usize>],
    states: &mut [State],
    seed_and_round: (u64, u64),
    out: &mut [f32],
) -> Option<Bits> {
    let parts = parts(shapes, rank);
    // First P, and what is sent as it is.
    let first: Vec<Writer> = states
        .par_iter_mut()
        .map(|state| {
            let mut writer = Writer::default();
            for (index, (part, factors)) in parts.iter().zip(&mut state.factors).enumerate() {
                let values = &state.sent[part.range.clone()];
                match part.matrix {
                    None => write(values, &mut writer),
                    Some(matrix) => {
                        draw(factors, matrix.rank, seed_and_round, index as u64);
                        write(&matrix.times(values, factors), &mut writer);
                    }
                }
            }
            writer
        })
        .collect();
    let down = mean(&first)?;
    let mut reader = down.reader();
    let mut lefts = Vec::with_capacity(parts.len());
    for part in &parts {
        let left = match part.matrix {
            None => {
                out[part.range.clone()].copy_from_slice(&read(&mut reader, part.range.len())?);
                Vec::new()
            }
            Some(matrix) => {
                let mut left = read(&mut reader, matrix.rows * matrix.rank)?;
                orthogonalise(&mut left, matrix.rank);
                left
            }
        };
        lefts.push(left);
    }
    let mut bits = Bits { up: first[0].length(), down: down.length() };
    drop(first);
    // Then Q.
    let matrices = || {
        let with = |(index, part): (usize, &Part)| Some((index, part.range.clone(), part.matrix?));
        parts.iter().enumerate().filter_map(with)
    };
    let second: Vec<Writer> = states
        .par_iter()
        .map(|state| {
            let mut writer = Writer::default();
            for (index, range, matrix) in matrices() {
                write(&matrix.transposed_times(&state.sent[range], &lefts[index]), &mut writer);
            }
            writer
        })
        .collect();
    let down = mean(&second)?;
    let mut reader = down.reader();
    let mut rights = vec![Vec::new(); parts.len()];
    for (index, range, matrix) in matrices() {
        let right = read(&mut reader, matrix.columns * matrix.rank)?;
        matrix.product(&lefts[index], &right, &mut out[range]);
        rights[index] = right;
    }
    bits.up += second[0].length();
    bits.down += down.length();
    states.par_iter_mut().zip(&second).try_for_each(|(state, own)| {
        let mut reader = own.reader();
        for (index, range, matrix) in matrices() {
            let right = read(&mut reader, matrix.columns * matrix.rank)?;
            matrix.product(&lefts[index], &right, &mut state.sent[range]);
            state.factors[index].copy_from_slice(&rights[index]);
        }
        Some(())
    })?;
    Some(bits)
}

fn write(values: &[f32], writer: &mut Writer) {
    values.iter().for_each(|&value| writer.float(value));
}

fn read(reader: &mut Reader<'_>, count: usize) -> Option<Vec<f32>> {
    (0..count).map(|_| reader.float()).collect()
}

/// The message of the mean of the numbers in messages.
fn mean(messages: &[Writer]) -> Option<Writer> {
    let mut readers: Vec<Reader<'_>> = messages.iter().map(Writer::reader).collect();
    let mut writer = Writer::default();
    for _ in 0..messages.first()?.length() / 32 {
        let mut sum = 0.0;
        for reader in &mut readers {
            sum += f64::from(reader.float()?);
        }
        writer.float((sum / messages.len() as f64) as f32);
    }
    Some(writer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_become_orthonormal_and_dependent_ones_zero() {
        // The third column is the sum of the first two.
        let mut matrix = [3.0, 1.0, 4.0, 0.0, 2.0, 2.0, 4.0, 0.0, 4.0, 0.0, 1.0, 1.0];
        orthogonalise(&mut matrix, 3);
        let column = |at: usize| matrix.iter().skip(at).step_by(3).map(|&v| f64::from(v)).collect::<Vec<_>>();
        assert_eq!(column(0), [0.6_f32, 0.0, 0.8, 0.0].map(f64::from));
        assert!((dot(&column(1), &column(1)) - 1.0).abs() < 1e-6);
        assert!(dot(&column(0), &column(1)).abs() < 1e-6);
        assert_eq!(column(2), [0.0; 4]);
    }

    #[test]
    fn tensors_are_matrices_where_that_saves_numbers() {
        let of = |shape: &[usize]| {
            Matrix::new(shape, shape.iter().product(), 4).map(|m| (m.rows, m.columns, m.rank))
        };
        assert_eq!(of(&[128, 784]), Some((128, 784, 4)));
        assert_eq!(of(&[16, 8, 3, 3]), Some((16, 72, 4)));
        // Three columns of 128 and three of 3 are more than the matrix.
        assert_eq!(of(&[128, 3]), None);
        assert_eq!((of(&[1000]), of(&[]), of(&[0, 5])), (None, None, None));
    }
}
