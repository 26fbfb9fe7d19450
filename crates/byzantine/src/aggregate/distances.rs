//! Rules that look at how far vectors are from each other.

use rand::Rng as _;
use rayon::prelude::*;

use super::rule::Convention;
use super::{coordinates, sum_over};
use crate::random::generator;

/// Squared distances of every two vectors; a NaN is infinite.
fn squared_distances(gradients: &[&[f32]]) -> Vec<Vec<f64>> {
    let n = gradients.len();
    let pairs: Vec<(usize, usize)> = (0..n).flat_map(|one| (0..one).map(move |other| (one, other))).collect();
    let distance = |&(one, other): &(usize, usize)| {
        let sum = sum_over(gradients[one], gradients[other], |x, y| (x - y) * (x - y));
        if sum.is_nan() { f64::INFINITY } else { sum }
    };
    let found: Vec<f64> = pairs.par_iter().map(distance).collect();
    let mut matrix = vec![vec![0.0; n]; n];
    for (&(one, other), &square) in pairs.iter().zip(&found) {
        matrix[one][other] = square;
        matrix[other][one] = square;
    }
    matrix
}

/// The sum of each vector's squared distances to so many nearest others, among those that are `there`.
fn scores(matrix: &[Vec<f64>], there: &[usize], neighbours: usize) -> Vec<f64> {
    let score = |&one: &usize| {
        let mut row: Vec<f64> =
            there.iter().filter(|&&other| other != one).map(|&other| matrix[one][other]).collect();
        row.sort_by(f64::total_cmp);
        row[..neighbours.min(row.len())].iter().sum()
    };
    there.iter().map(score).collect()
}

fn neighbours(n: usize, f: usize, convention: Convention) -> usize {
    match convention {
        Convention::Paper => n - f - 2,
        Convention::ByzFl => n - f - 1,
    }
}

/// Places in order of their values, the first of equals first.
fn in_order(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&one, &other| values[one].total_cmp(&values[other]));
    order
}

fn mean_of(gradients: &[&[f32]], chosen: &[usize], out: &mut [f32]) {
    let chosen: Vec<&[f32]> = chosen.iter().map(|&at| gradients[at]).collect();
    coordinates::mean(&chosen, out);
}

pub(super) fn krum(gradients: &[&[f32]], f: usize, convention: Convention, out: &mut [f32]) {
    let n = gradients.len();
    let all: Vec<usize> = (0..n).collect();
    let scores = scores(&squared_distances(gradients), &all, neighbours(n, f, convention));
    out.copy_from_slice(gradients[in_order(&scores)[0]]);
}

pub(super) fn multi_krum(gradients: &[&[f32]], f: usize, convention: Convention, out: &mut [f32]) {
    let n = gradients.len();
    let all: Vec<usize> = (0..n).collect();
    let scores = scores(&squared_distances(gradients), &all, neighbours(n, f, convention));
    mean_of(gradients, &in_order(&scores)[..n - f], out);
}

pub(super) fn bulyan(gradients: &[&[f32]], f: usize, out: &mut [f32]) {
    let n = gradients.len();
    let matrix = squared_distances(gradients);
    let (mut left, mut chosen): (Vec<usize>, Vec<&[f32]>) = ((0..n).collect(), Vec::new());
    while chosen.len() < n - 2 * f {
        // Of those that are left; at the end there are fewer than so many neighbours.
        let neighbours = left.len().saturating_sub(f + 2);
        let best = in_order(&scores(&matrix, &left, neighbours))[0];
        chosen.push(gradients[left.remove(best)]);
    }
    coordinates::mean_around_median(&chosen, n - 4 * f, out);
}

/// Subsets of `k` of `n`.
pub(super) fn subsets(n: usize, k: usize) -> u64 {
    (0..k.min(n - k)).fold(1_u64, |count, at| count.saturating_mul((n - at) as u64) / (at as u64 + 1))
}

pub(super) fn minimum_diameter(gradients: &[&[f32]], f: usize, out: &mut [f32]) {
    let n = gradients.len();
    let matrix = squared_distances(gradients);
    let mut best: (f64, Vec<usize>) = (f64::INFINITY, (0..n - f).collect());
    let mut subset = Vec::with_capacity(n - f);
    search(&matrix, n - f, 0, 0.0, &mut subset, &mut best);
    mean_of(gradients, &best.1, out);
}

/// All subsets in lexicographic order, without those that are wider than the best so far.
fn search(
    matrix: &[Vec<f64>],
    size: usize,
    from: usize,
    diameter: f64,
    subset: &mut Vec<usize>,
    best: &mut (f64, Vec<usize>),
) {
    if subset.len() == size {
        *best = (diameter, subset.clone());
        return;
    }
    for next in from..=matrix.len() - (size - subset.len()) {
        let wider = subset.iter().map(|&one| matrix[one][next]).fold(diameter, f64::max);
        if wider < best.0 {
            subset.push(next);
            search(matrix, size, next + 1, wider, subset, best);
            subset.pop();
        }
    }
}

/// Every vector as the mean of its n − f nearest neighbours, itself included, the first of equals first.
pub fn nearest_neighbour_mixing(gradients: &[&[f32]], f: usize) -> Vec<Vec<f32>> {
    let matrix = squared_distances(gradients);
    let kept = gradients.len().saturating_sub(f).max(1);
    let mix = |row: &Vec<f64>| {
        let mut mixed = vec![0.0; gradients[0].len()];
        mean_of(gradients, &in_order(row)[..kept], &mut mixed);
        mixed
    };
    matrix.iter().map(mix).collect()
}

/// The means of buckets of `size` vectors, taken in this order; the last bucket may have fewer.
pub fn bucketed(gradients: &[&[f32]], order: &[usize], size: usize) -> Vec<Vec<f32>> {
    let bucket = |places: &[usize]| {
        let mut mean = vec![0.0; gradients[0].len()];
        mean_of(gradients, places, &mut mean);
        mean
    };
    order.chunks(size.max(1)).map(bucket).collect()
}

/// The order of the vectors in a round of a run of this seed.
pub(super) fn permutation(n: usize, (seed, round): (u64, u64)) -> Vec<usize> {
    let mut random = generator(b"order of buckets    ", seed, round, 0);
    let mut order: Vec<usize> = (0..n).collect();
    for at in (1..n).rev() {
        let other = (u128::from(random.next_u64()) * (at as u128 + 1)) >> 64;
        order.swap(at, other as usize);
    }
    order
}
