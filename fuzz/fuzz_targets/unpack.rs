//! Any planes: what they unpack to is the oracle's, and so is their canonical form.

#![no_main]

mod bytes;
mod oracle;

use bytes::{take_byte, take_words};
use libfuzzer_sys::fuzz_target;
use oracle::*;
use signvote_kernels::testing::{pack_with, unpack_with};
use signvote_kernels::{canonicalise, is_canonical};

/// The plane, if there is to be one.
fn given(plane: &[u64], silent: bool) -> Option<&[u64]> {
    Some(plane).filter(|_| silent)
}

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let silent = take_byte(&mut rest) % 2 == 1;
    let coordinates = 4 * take_byte(&mut rest) + take_byte(&mut rest) % 4;
    let mut signs = take_words(&mut rest, words(coordinates));
    let mut abstain = take_words(&mut rest, words(coordinates));
    let expected = naive::unpack(&signs, given(&abstain, silent), coordinates);
    for isa in Isa::available() {
        let mut out = vec![7.0; coordinates];
        unpack_with(isa, &signs, given(&abstain, silent), &mut out);
        assert_eq!(out, expected);
    }
    canonicalise(&mut signs, Some(&mut abstain[..]).filter(|_| silent), coordinates);
    assert!(is_canonical(&signs, given(&abstain, silent), coordinates));
    assert_eq!(naive::unpack(&signs, given(&abstain, silent), coordinates), expected);
    for isa in Isa::available() {
        let (mut packed, mut silence) = (vec![1; signs.len()], vec![1; signs.len()]);
        pack_with(isa, &expected, &mut packed, &mut silence);
        assert_eq!(packed, signs);
        assert!(!silent || silence == abstain);
    }
});
