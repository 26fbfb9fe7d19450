//! Any values: the ballot of each kernel that packs, on each instruction set, is the oracle's.

#![no_main]

mod bytes;
mod oracle;

use bytes::take_byte;
use libfuzzer_sys::fuzz_target;
use oracle::*;
use signvote_kernels::testing::{lion_pack_with, momentum_pack_with, pack_half_with, pack_with};

fuzz_target!(|bytes: &[u8]| {
    let (mut rest, to) = (bytes, AbstainOn::Momentum);
    let to = if take_byte(&mut rest) % 2 == 1 { AbstainOn::Gradient } else { to };
    let betas = [take_byte(&mut rest), take_byte(&mut rest)].map(|byte| byte as f32 / 255.0);
    let format = if take_byte(&mut rest) % 2 == 1 { Half::Binary16 } else { Half::Bfloat16 };
    let (halves, _) = rest.as_chunks::<2>();
    let halves: Vec<u16> = halves.iter().map(|half| u16::from_le_bytes(*half)).collect();
    let (values, _) = rest.as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
    let (gradient, start) = values.split_at(values.len() / 2);
    let start = &start[..gradient.len()];
    for isa in Isa::available() {
        let planes = |len| (vec![1; words(len)], vec![1; words(len)]);
        let (mut s, mut a) = planes(values.len());
        let packed = pack_with(isa, &values, &mut s, &mut a);
        assert_eq!((s, a, packed), naive::pack(&values));

        let (mut s, mut a) = planes(halves.len());
        let packed = pack_half_with(isa, format, &halves, &mut s, &mut a);
        let widened: Vec<f32> = halves.iter().map(|half| naive::widen(format, *half)).collect();
        assert_eq!((s, a, packed), naive::pack(&widened));

        let same = |one: &[f32], other: &[f32]| {
            one.iter().zip(other).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan())
        };
        let (mut s, mut a) = planes(gradient.len());
        let (mut momentum, mut expected) = (start.to_vec(), start.to_vec());
        let packed = momentum_pack_with(isa, gradient, &mut momentum, betas[0], to, &mut s, &mut a);
        assert_eq!((s, a, packed), naive::momentum_pack(gradient, &mut expected, betas[0], to));
        assert!(same(&momentum, &expected));

        let (mut s, mut a) = planes(gradient.len());
        let (mut momentum, mut expected) = (start.to_vec(), start.to_vec());
        let betas = (betas[0], betas[1]);
        let packed = lion_pack_with(isa, gradient, &mut momentum, betas, to, &mut s, &mut a);
        assert_eq!((s, a, packed), naive::lion_pack(gradient, &mut expected, betas, to));
        assert!(same(&momentum, &expected));
    }
});
