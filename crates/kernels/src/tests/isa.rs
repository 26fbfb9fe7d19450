use crate::Isa;
use crate::isa::choose;

#[test]
fn names_parse_to_what_they_were_printed_from() {
    for isa in [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Neon] {
        assert_eq!(isa.to_string().parse(), Ok(isa));
    }
    let error = "AVX2".parse::<Isa>().unwrap_err();
    assert_eq!(error.to_string(), "expected an instruction set (scalar, avx2, avx512 or neon), got \"AVX2\"");
}

#[test]
fn the_best_available_one_is_taken_unless_another_is_asked_for() {
    let all = [Isa::Scalar, Isa::Avx2, Isa::Avx512];
    assert_eq!(choose(None, &all).0, Isa::Avx512);
    assert_eq!(choose(Some(""), &all).0, Isa::Avx512);
    assert_eq!(choose(None, &all[..2]).0, Isa::Avx2);
    assert_eq!(choose(Some("scalar"), &all), (Isa::Scalar, "scalar: set by SIGNVOTE_ISA".to_owned()));
}

#[test]
fn what_is_unknown_or_missing_is_ignored_and_the_reason_says_so() {
    let (isa, reason) = choose(Some("avx512"), &[Isa::Scalar, Isa::Avx2]);
    assert_eq!(isa, Isa::Avx2);
    assert!(reason.contains("lacks the avx512"), "{reason}");
    let (isa, reason) = choose(Some("sse9"), &[Isa::Scalar]);
    assert_eq!(isa, Isa::Scalar);
    assert!(reason.contains("sse9"), "{reason}");
}

#[test]
fn the_scalar_path_is_always_there_and_the_active_one_available() {
    assert!(Isa::available().any(|isa| isa == Isa::Scalar));
    assert!(Isa::active().is_available());
    assert!(Isa::reason().starts_with(Isa::active().name()), "{}", Isa::reason());
}

/// Every AArch64 that runs an operating system has NEON; without this, tests that never met it would pass.
#[test]
#[cfg(all(target_arch = "aarch64", target_endian = "little"))]
fn aarch64_has_neon() {
    assert!(Isa::available().eq([Isa::Scalar, Isa::Neon]));
}

#[test]
fn an_instruction_set_that_the_machine_lacks_is_refused() {
    for isa in [Isa::Avx2, Isa::Avx512, Isa::Neon] {
        if !isa.is_available() {
            let refused = std::panic::catch_unwind(|| {
                crate::testing::pack_with(isa, &[], &mut [], &mut []);
            });
            assert!(refused.is_err());
        }
    }
}
