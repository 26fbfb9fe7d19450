//! A bit for each coordinate, and one or two numbers for each tensor.

use super::bits::{Reader, Writer};

/// ±‖p‖₁/d.
pub(super) fn encode_scaled(values: &[f32], writer: &mut Writer) {
    writer.float(mean(values.iter().map(|value| value.abs())));
    signs(values, writer);
}

pub(super) fn decode_scaled(reader: &mut Reader<'_>, out: &mut [f32]) -> Option<()> {
    let scale = reader.float()?;
    read(reader, scale, -scale, out)
}

/// The mean of those from 0 on, and that of those below it.
pub(super) fn encode_means(values: &[f32], writer: &mut Writer) {
    writer.float(mean(values.iter().copied().filter(|&value| value >= 0.0)));
    writer.float(mean(values.iter().copied().filter(|&value| value < 0.0)));
    signs(values, writer);
}

pub(super) fn decode_means(reader: &mut Reader<'_>, out: &mut [f32]) -> Option<()> {
    let (positive, negative) = (reader.float()?, reader.float()?);
    read(reader, positive, negative, out)
}

fn signs(values: &[f32], writer: &mut Writer) {
    values.iter().for_each(|&value| writer.push(u64::from(value < 0.0), 1));
}

fn read(reader: &mut Reader<'_>, positive: f32, negative: f32, out: &mut [f32]) -> Option<()> {
    for out in out {
        *out = if reader.take(1)? == 0 { positive } else { negative };
    }
    Some(())
}

/// 0 of none.
fn mean(values: impl Iterator<Item = f32>) -> f32 {
    let (sum, count) = values.fold((0.0, 0_usize), |(sum, count), value| (sum + f64::from(value), count + 1));
    (sum / count.max(1) as f64) as f32
}
