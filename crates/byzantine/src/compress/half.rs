//! Numbers of 16 bits.

use super::bits::{Reader, Writer};

pub(super) fn encode(values: &[f32], writer: &mut Writer) {
    values.iter().for_each(|&value| writer.push(u64::from(to_half(value)), 16));
}

pub(super) fn decode(reader: &mut Reader<'_>, out: &mut [f32]) -> Option<()> {
    for out in out {
        *out = from_half(reader.take(16)? as u16);
    }
    Some(())
}

/// The nearest number of IEEE 754 binary16; of two that are equally near, the even one. From 65,520 on it is infinite.
fn to_half(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let size = bits & 0x7FFF_FFFF;
    if size > 0x7F80_0000 {
        return sign | 0x7E00;
    }
    // 65,520, half-way between the largest number and what would come after it.
    if size >= 0x477F_F000 {
        return sign | 0x7C00;
    }
    // 2⁻¹⁴, the least normal number: below it, multiples of 2⁻²⁴. The sum of a number and 1/2 has that as its last place, so that
    // the addition rounds.
    if size < 0x3880_0000 {
        let rounded = (f32::from_bits(size) + 0.5).to_bits() - 0.5_f32.to_bits();
        return sign | rounded as u16;
    }
    let odd = size >> 13 & 1;
    let rounded = (size + 0xFFF + odd) >> 13;
    sign | (rounded - (112 << 10)) as u16
}

fn from_half(half: u16) -> f32 {
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(half >> 10 & 31), half & 0x3FF);
    let size = match exponent {
        0 => f32::from(fraction) * 2.0_f32.powi(-24),
        31 if fraction == 0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + f32::from(fraction) / 1024.0) * 2.0_f32.powi(exponent - 15),
    };
    sign * size
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_is_itself() {
        for half in 0..=u16::MAX {
            let value = from_half(half);
            if value.is_nan() {
                assert!(from_half(to_half(value)).is_nan());
            } else {
                assert_eq!(to_half(value), half, "{value}");
            }
        }
    }

    #[test]
    fn what_lies_between_goes_to_the_nearest_and_ties_to_the_even() {
        for half in 0..0x7BFF_u16 {
            // Both are multiples of 2⁻²⁴, their middle of 2⁻²⁵: exact in an f32.
            let (low, high) = (from_half(half), from_half(half + 1));
            let middle = (low + high) / 2.0;
            let even = half + half % 2;
            assert_eq!(to_half(middle), even);
            assert_eq!(to_half(-middle), even | 0x8000);
            assert_eq!(to_half(middle.next_down()), half);
            assert_eq!(to_half(middle.next_up()), half + 1);
        }
        for (value, half) in [
            (0.0, 0),
            (-0.0, 0x8000),
            (1.0, 0x3C00),
            (-2.0, 0xC000),
            (1e-10, 0),
            (65_519.0, 0x7BFF),
            (65_520.0, 0x7C00),
            (f32::NEG_INFINITY, 0xFC00),
        ] {
            assert_eq!(to_half(value), half, "{value}");
        }
    }
}
