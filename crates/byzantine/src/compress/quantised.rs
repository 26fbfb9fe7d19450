//! Coordinates rounded at random to a few multiples of a scale, so that they are right on average.

use rand::Rng;

use super::bits::{Reader, Writer};

/// Coordinates that share a scale in QSGD: in its authors' experiments, too, 512. The variance that rounding adds grows with their root.
pub(super) const BUCKET: usize = 512;

/// Values that `n` trits have fit into so many bits.
const TRIT_BITS: [u32; 6] = [0, 2, 4, 5, 7, 8];
const TRITS: usize = 5;

/// s·|v|/scale, rounded up with a probability of what is above the whole number.
fn level(value: f32, scale: f32, levels: u16, random: &mut impl Rng) -> u64 {
    if value == 0.0 || scale == 0.0 {
        return 0;
    }
    let exact = f64::from(value.abs()) / f64::from(scale) * f64::from(levels);
    let draw = f64::from(random.next_u32()) / 2.0_f64.powi(32);
    let below = exact.floor();
    below as u64 + u64::from(draw < exact - below)
}

/// The number that a level stands for, with the sign of its bit.
fn value_of(level: u64, negative: bool, scale: f32, levels: u16) -> f32 {
    let size = (level as f64 / f64::from(levels) * f64::from(scale)) as f32;
    if negative { -size } else { size }
}

/// The 2-norm of a bucket, and then for each coordinate that is not 0 the gamma code of its distance from the last one, its sign, and
/// the gamma code of its level; the end is the distance to past the last coordinate.
pub(super) fn encode_gaps(values: &[f32], levels: u16, random: &mut impl Rng, writer: &mut Writer) {
    for bucket in values.chunks(BUCKET) {
        let norm = bucket.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        // Buckets of the largest numbers have a norm that no f32 is.
        let norm = (norm as f32).min(f32::MAX);
        writer.float(norm);
        let mut next = 0;
        for (at, &value) in bucket.iter().enumerate() {
            let level = level(value, norm, levels, random);
            if level > 0 {
                writer.gamma((at - next) as u64 + 1);
                writer.push(u64::from(value < 0.0), 1);
                writer.gamma(level);
                next = at + 1;
            }
        }
        writer.gamma((bucket.len() - next) as u64 + 1);
    }
}

pub(super) fn decode_gaps(reader: &mut Reader<'_>, levels: u16, out: &mut [f32]) -> Option<()> {
    for bucket in out.chunks_mut(BUCKET) {
        let norm = reader.float()?;
        bucket.fill(0.0);
        let mut next = 0;
        loop {
            let gap = usize::try_from(reader.gamma()? - 1).ok()?;
            let at = next + gap.min(BUCKET + 1);
            if at == bucket.len() {
                break;
            }
            let negative = reader.take(1)? == 1;
            *bucket.get_mut(at)? = value_of(reader.gamma()?, negative, norm, levels);
            next = at + 1;
        }
    }
    Some(())
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}

/// Bits of a number from −s to s.
fn width(levels: u16) -> u32 {
    (2 * u32::from(levels)).ilog2() + 1
}

/// The largest size in a bucket, and then s + level of each coordinate in as many bits as 2s has.
pub(super) fn encode_fixed(values: &[f32], levels: u16, random: &mut impl Rng, writer: &mut Writer) {
    for bucket in values.chunks(BUCKET) {
        let scale = largest(bucket);
        writer.float(scale);
        for &value in bucket {
            let level = level(value, scale, levels, random);
            let middle = u64::from(levels);
            writer.push(if value < 0.0 { middle - level } else { middle + level }, width(levels));
        }
    }
}

pub(super) fn decode_fixed(reader: &mut Reader<'_>, levels: u16, out: &mut [f32]) -> Option<()> {
    let middle = u64::from(levels);
    for bucket in out.chunks_mut(BUCKET) {
        let scale = reader.float()?;
        for out in bucket {
            let code = reader.take(width(levels))?;
            *out = value_of(code.abs_diff(middle), code < middle, scale, levels);
        }
    }
    Some(())
}

/// The largest size of a tensor, and then −1, 0 or 1 for each coordinate, five in eight bits.
pub(super) fn encode_trits(values: &[f32], random: &mut impl Rng, writer: &mut Writer) {
    let scale = largest(values);
    writer.float(scale);
    for group in values.chunks(TRITS) {
        // The first of a group is its lowest digit.
        let code = group.iter().rev().fold(0, |code, &value| {
            let trit = level(value, scale, 1, random);
            code * 3 + if value < 0.0 { 1 - trit } else { 1 + trit }
        });
        writer.push(code, TRIT_BITS[group.len()]);
    }
}

pub(super) fn decode_trits(reader: &mut Reader<'_>, out: &mut [f32]) -> Option<()> {
    let scale = reader.float()?;
    for group in out.chunks_mut(TRITS) {
        let mut code = reader.take(TRIT_BITS[group.len()])?;
        for out in group {
            let trit = code % 3;
            *out = value_of(trit.abs_diff(1), trit == 0, scale, 1);
            code /= 3;
        }
    }
    Some(())
}
