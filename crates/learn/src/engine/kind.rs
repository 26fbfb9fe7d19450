//! Engines by name.

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "tch")]
use super::TchEngine;
use super::{BurnEngine, Engine};
use crate::{Error, Model};

/// An engine, chosen by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EngineKind {
    /// `burn`: pure Rust, on the CPU.
    #[default]
    Burn,
    /// `tch`: libtorch, on the CPU or by CUDA; in programs that are built with the feature `tch`.
    Tch,
    /// `wgpu`: burn on a GPU, by Vulkan, Metal or DirectX; in programs that are built with the feature `wgpu`.
    Wgpu,
}

impl EngineKind {
    /// An engine of this kind for `model`.
    ///
    /// # Errors
    /// [`Error::Misuse`] when the program was built without it.
    pub fn engine(self, model: &Model) -> Result<Box<dyn Engine + Send>, Error> {
        self.smoothed(model, 0.0)
    }

    /// The same, whose gradients are those of the loss with labels smoothed by this share ε.
    ///
    /// # Errors
    /// As those of [`engine`](Self::engine).
    pub fn smoothed(self, model: &Model, share: f32) -> Result<Box<dyn Engine + Send>, Error> {
        match self {
            Self::Burn => Ok(Box::new(BurnEngine::new(model).label_smoothing(share))),
            #[cfg(feature = "tch")]
            Self::Tch => Ok(Box::new(TchEngine::new(model).label_smoothing(share))),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => Ok(Box::new(BurnEngine::on_gpu(model).label_smoothing(share))),
            #[cfg(not(all(feature = "tch", feature = "wgpu")))]
            other => Err(Error::misuse(
                "engine",
                format!("burn, as this program was built without --features {other}"),
                other,
            )),
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Burn => "burn",
            Self::Tch => "tch",
            Self::Wgpu => "wgpu",
        })
    }
}

impl FromStr for EngineKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "burn" => Ok(Self::Burn),
            "tch" => Ok(Self::Tch),
            "wgpu" => Ok(Self::Wgpu),
            _ => Err(Error::UnknownName {
                kind: "engine",
                expected: "burn, tch or wgpu",
                got: name.to_owned(),
            }),
        }
    }
}
