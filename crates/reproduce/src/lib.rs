//! The paper's figures and theorems, redone (Bernstein et al. 2018, arXiv 1810.05291).
//!
//! Each [`Figure`] becomes a section of a report: what was run, plots, the paper's words beside what came out, and checks that state a
//! law, each of which passes or is shown as failed. Runs are those of [`signvote_byzantine::simulate`], and so is what they vote
//! through: the election of the network.
//!
//! It refuses to know files, flags and progress bars: a [`Lab`] is given the data, and told whom to tell how far it is.
//!
//! Main types: [`Figure`], [`Lab`].
#![forbid(unsafe_code)]

mod colluders;
mod communication;
mod fit;
mod lab;
mod liars;
mod noise;
mod options;
mod protocol;
mod theorems;
mod toy;

use std::fmt;
use std::str::FromStr;

use signvote_report::Section;

pub use lab::{Effort, Error, Lab, Loader, Store};

/// Something of the paper, or about it, that can be redone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Figure {
    /// The toy problem: signSGD beside SGD, more workers, adversaries.
    Fig1,
    /// The noise of gradients: unimodal and symmetric?
    Fig2,
    /// Signal-to-noise ratios over training.
    Fig3,
    /// Accuracy against the fraction of adversaries.
    Fig4,
    /// Time to communicate and to compute.
    Fig5,
    /// Signum by vote beside SGD, by epochs and by what was sent.
    Fig6,
    /// Krum and Multi-Krum beside the vote.
    Krum,
    /// Accuracy against bits sent, beside QSGD and others.
    Qsgd,
    /// One worker: the bound of theorem 1.
    Theorem1,
    /// Many workers, some of which invert: the bound of theorem 2, and its laws.
    Theorem2,
    /// Colluders who know the honest votes: how many break it.
    Colluders,
    /// Who wants more than one vote: refused.
    Protocol,
    /// Rules beside each other under attacks, M = 15.
    Robustness,
    /// Improvements as options: what they gain, and lose.
    Options,
}

impl Figure {
    /// All, in the order of a report.
    pub const ALL: [Self; 14] = [
        Self::Fig1,
        Self::Fig2,
        Self::Fig3,
        Self::Fig4,
        Self::Fig5,
        Self::Fig6,
        Self::Krum,
        Self::Qsgd,
        Self::Theorem1,
        Self::Theorem2,
        Self::Colluders,
        Self::Protocol,
        Self::Robustness,
        Self::Options,
    ];

    /// Its name, and the id of its section.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fig1 => "fig1",
            Self::Fig2 => "fig2",
            Self::Fig3 => "fig3",
            Self::Fig4 => "fig4",
            Self::Fig5 => "fig5",
            Self::Fig6 => "fig6",
            Self::Krum => "krum",
            Self::Qsgd => "qsgd",
            Self::Theorem1 => "theorem1",
            Self::Theorem2 => "theorem2",
            Self::Colluders => "colluders",
            Self::Protocol => "protocol",
            Self::Robustness => "robustness",
            Self::Options => "options",
        }
    }

    /// Redoes it.
    ///
    /// # Errors
    /// If a run fails.
    pub fn redo(self, lab: &mut Lab<'_>) -> Result<Section, Error> {
        let section = match self {
            Self::Fig1 => toy::figure_1(lab),
            Self::Fig2 => noise::figure_2(lab),
            Self::Fig3 => noise::figure_3(lab),
            Self::Fig4 => liars::figure_4(lab),
            Self::Fig5 => communication::figure_5(lab),
            Self::Fig6 => communication::figure_6(lab),
            Self::Krum => liars::krum(lab),
            Self::Qsgd => communication::qsgd(lab),
            Self::Theorem1 => theorems::theorem_1(lab),
            Self::Theorem2 => theorems::theorem_2(lab),
            Self::Colluders => colluders::threshold(lab),
            Self::Protocol => protocol::protocol(lab),
            Self::Robustness => liars::robustness(lab),
            Self::Options => options::options(lab),
        }?;
        Ok(Section { id: self.name().into(), command: lab.command(self.name()), ..section })
    }
}

impl FromStr for Figure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|figure| figure.name() == text);
        found.ok_or_else(|| {
            format!("expected all or some of {}, got {text:?}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
