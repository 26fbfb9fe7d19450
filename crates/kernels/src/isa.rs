//! The instruction sets, which of them is used, and the one place where a kernel is chosen.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

/// The environment variable that forces an instruction set.
const VARIABLE: &str = "SIGNVOTE_ISA";

/// An instruction set that the kernels are compiled for.
///
/// The results are the same bits on each of them; only the time differs. The order is that of preference: the
/// greatest available one is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Isa {
    /// Portable Rust, as the compiler makes it for the target's baseline. Always available.
    Scalar,
    /// x86-64 with AVX2, BMI1, BMI2, LZCNT and POPCNT.
    Avx2,
    /// x86-64 with all of [`Isa::Avx2`] and AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AArch64 with Advanced SIMD, little-endian.
    Neon,
}

impl Isa {
    const ALL: [Isa; 4] = [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Neon];

    /// The instruction set that the kernels use in this process.
    ///
    /// It is chosen once, at the first call: the best that this machine has, or the one that the environment
    /// variable `SIGNVOTE_ISA` names (`scalar`, `avx2`, `avx512` or `neon`) if this machine has it. A name
    /// that is unknown or not available here is ignored, and [`Isa::reason`] says so.
    #[must_use]
    pub fn active() -> Isa {
        choice().0
    }

    /// Why [`Isa::active`] is what it is, in one sentence fit for a log.
    #[must_use]
    pub fn reason() -> &'static str {
        &choice().1
    }

    /// The instruction sets that this machine has, worst first. [`Isa::Scalar`] is always among them.
    pub fn available() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// Whether this machine has it.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("bmi2")
                    && is_x86_feature_detected!("lzcnt")
                    && is_x86_feature_detected!("popcnt")
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                Isa::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            // The lanes of a vector are numbered from the other end on a big-endian one.
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => cfg!(target_endian = "little") && std::arch::is_aarch64_feature_detected!("neon"),
            // Those of other processors.
            _ => false,
        }
    }

    /// The name that [`FromStr`] and `SIGNVOTE_ISA` understand.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(name: &str) -> Result<Isa, UnknownIsa> {
        Isa::ALL.into_iter().find(|isa| isa.name() == name).ok_or_else(|| UnknownIsa(name.to_owned()))
    }
}

/// A name that is not one of an instruction set; holds that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownIsa(pub String);

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected an instruction set (scalar, avx2, avx512 or neon), got {:?}", self.0)
    }
}

impl std::error::Error for UnknownIsa {}

fn choice() -> &'static (Isa, String) {
    static CHOICE: OnceLock<(Isa, String)> = OnceLock::new();
    CHOICE.get_or_init(|| {
        let wanted = std::env::var_os(VARIABLE);
        choose(
            wanted.as_ref().map(|name| name.to_string_lossy()).as_deref(),
            &Isa::available().collect::<Vec<_>>(),
        )
    })
}

/// The instruction set to use, and why. `available` is never empty.
pub(crate) fn choose(wanted: Option<&str>, available: &[Isa]) -> (Isa, String) {
    let best = available.iter().copied().max().unwrap_or(Isa::Scalar);
    match wanted.filter(|name| !name.is_empty()).map(|name| name.parse::<Isa>()) {
        None => (best, format!("{best}: the best instruction set of this machine")),
        Some(Ok(isa)) if available.contains(&isa) => (isa, format!("{isa}: set by {VARIABLE}")),
        Some(Ok(isa)) => (
            best,
            format!(
                "{best}: the best instruction set of this machine, which lacks the {isa} that {VARIABLE} asks for"
            ),
        ),
        Some(Err(error)) => (
            best,
            format!("{best}: the best instruction set of this machine; {VARIABLE} is ignored: {error}"),
        ),
    }
}

/// Makes `fn name(isa: Isa, arguments)` out of `unsafe fn body<A: Arch>(arguments)`, whose only obligation is
/// that the processor has `A`: one copy per instruction set, and the choice between them. Panics if the
/// machine lacks `isa`.
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $body:ident;) => {
        $(#[$meta])*
        $vis fn $name(isa: $crate::Isa, $($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
            fn avx2($($argument: $type),*) $(-> $result)? {
                // SAFETY: these are the features of `Isa::Avx2`, and this function runs only where they are.
                unsafe { $body::<$crate::vector::Avx2>($($argument),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512dq,avx512vl")]
            fn avx512($($argument: $type),*) $(-> $result)? {
                // SAFETY: these are the features of `Isa::Avx512`, and this function runs only where they
                // are.
                unsafe { $body::<$crate::vector::Avx512>($($argument),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon")]
            fn neon($($argument: $type),*) $(-> $result)? {
                // SAFETY: this is the feature of `Isa::Neon`, and this function runs only where it is.
                unsafe { $body::<$crate::vector::Neon>($($argument),*) }
            }

            assert!(isa.is_available(), "this machine lacks the instruction set {isa}");
            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: it is available, as was just asserted.
                $crate::Isa::Avx2 => unsafe { avx2($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: it is available, as was just asserted.
                $crate::Isa::Avx512 => unsafe { avx512($($argument),*) },
                #[cfg(target_arch = "aarch64")]
                // SAFETY: it is available, as was just asserted.
                $crate::Isa::Neon => unsafe { neon($($argument),*) },
                // SAFETY: the portable vectors need nothing of the processor.
                _ => unsafe { $body::<$crate::vector::Portable>($($argument),*) },
            }
        }
    };
}

/// Makes a trait of `unsafe fn body<A: Arch>(arguments)`, implemented for every instruction set by a copy of
/// the body that is compiled once, with its features, and called: for what is large and has several callers.
/// Inlined at each of them, the counting made the crate take four times as long to compile.
///
/// The method has the obligations of the body.
macro_rules! outlined {
    ($(#[$meta:meta])* $vis:vis trait $trait:ident { fn $name:ident($($argument:ident: $type:ty),* $(,)?) = $body:ident; }) => {
        $(#[$meta])*
        $vis trait $trait {
            unsafe fn $name($($argument: $type),*);
        }

        impl $trait for $crate::vector::Portable {
            #[inline(never)]
            unsafe fn $name($($argument: $type),*) {
                // SAFETY: passed on.
                unsafe { $body::<$crate::vector::Portable>($($argument),*) }
            }
        }

        #[cfg(target_arch = "x86_64")]
        impl $trait for $crate::vector::Avx2 {
            #[inline(always)]
            unsafe fn $name($($argument: $type),*) {
                #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
                #[inline(never)]
                unsafe fn avx2($($argument: $type),*) {
                    // SAFETY: passed on.
                    unsafe { $body::<$crate::vector::Avx2>($($argument),*) }
                }
                // SAFETY: passed on; whoever has `Avx2` has the features.
                unsafe { avx2($($argument),*) }
            }
        }

        #[cfg(target_arch = "x86_64")]
        impl $trait for $crate::vector::Avx512 {
            #[inline(always)]
            unsafe fn $name($($argument: $type),*) {
                #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,avx512f,avx512bw,avx512dq,avx512vl")]
                #[inline(never)]
                unsafe fn avx512($($argument: $type),*) {
                    // SAFETY: passed on.
                    unsafe { $body::<$crate::vector::Avx512>($($argument),*) }
                }
                // SAFETY: passed on; whoever has `Avx512` has the features.
                unsafe { avx512($($argument),*) }
            }
        }

        #[cfg(target_arch = "aarch64")]
        impl $trait for $crate::vector::Neon {
            #[inline(always)]
            unsafe fn $name($($argument: $type),*) {
                #[target_feature(enable = "neon")]
                #[inline(never)]
                unsafe fn neon($($argument: $type),*) {
                    // SAFETY: passed on.
                    unsafe { $body::<$crate::vector::Neon>($($argument),*) }
                }
                // SAFETY: passed on; whoever has `Neon` has the feature.
                unsafe { neon($($argument),*) }
            }
        }
    };
}
