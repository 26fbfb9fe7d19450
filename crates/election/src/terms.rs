//! What the workers of a run agree on: handed out by the server, never configured at a worker.

use std::fmt;
use std::str::FromStr;

use signvote_kernels::{AbstainOn, Coin, Tie};

use crate::chain::coin_key;
use crate::{Error, Round, RunId};

/// What the server makes of the workers' messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateKind {
    /// One bit a coordinate up, the majority's bit down.
    Vote,
    /// 32 bits a coordinate up and down: the dense baseline, which one liar can ruin.
    Mean,
}

/// What a tie with votes becomes. (A coordinate for which nobody voted is held under every policy.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TiePolicy {
    /// A fair coin from the run's seed, the same for everyone.
    #[default]
    Coin,
    /// No step.
    Hold,
    /// +1, as in the paper's code: biased when the number of voters is even.
    Positive,
}

impl TiePolicy {
    /// What decides a tie in this round, where this is the first word, in the whole model, of the coordinates at hand.
    #[must_use]
    pub fn at(self, seed: u64, round: Round, first_word: usize) -> Tie {
        match self {
            Self::Coin => Tie::Coin(Coin { key: coin_key(seed, round), first_word: first_word as u64 }),
            Self::Hold => Tie::Hold,
            Self::Positive => Tie::Positive,
        }
    }
}

impl FromStr for TiePolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "coin" => Ok(Self::Coin),
            "hold" => Ok(Self::Hold),
            "positive" => Ok(Self::Positive),
            _ => Err(format!("expected coin, hold or positive, got {text:?}")),
        }
    }
}

impl fmt::Display for TiePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coin => "coin",
            Self::Hold => "hold",
            Self::Positive => "positive",
        })
    }
}

/// Words that the server hands to every worker, or a worker to the server, without reading them:
/// the name of the model, how the data is cut. Sorted by key, bounded in number and length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<(String, String)>);

impl Settings {
    pub(crate) const MAX_ENTRIES: usize = 64;
    pub(crate) const MAX_KEY_BYTES: usize = 64;
    pub(crate) const MAX_VALUE_BYTES: usize = 1024;

    /// Adds an entry, or replaces the one of the same key.
    ///
    /// # Errors
    /// If there are 64 already, the key is longer than 64 bytes or the value longer than 1,024.
    pub fn insert(&mut self, key: &str, value: impl Into<String>) -> Result<(), Error> {
        let value = value.into();
        if key.len() > Self::MAX_KEY_BYTES || value.len() > Self::MAX_VALUE_BYTES {
            return Err(Error::Misuse(format!("setting {key:?} is too long")));
        }
        match self.0.binary_search_by(|(known, _)| known.as_str().cmp(key)) {
            Ok(at) => self.0[at].1 = value,
            Err(_) if self.0.len() == Self::MAX_ENTRIES => {
                return Err(Error::Misuse(format!("more than {} settings", Self::MAX_ENTRIES)));
            }
            Err(at) => self.0.insert(at, (key.to_owned(), value)),
        }
        Ok(())
    }

    /// The value of a key.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.iter().find(|&(known, _)| known == key).map(|(_, value)| value)
    }

    /// The entries by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

/// Which coordinates decay, and at what rate each moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StepRule {
    /// Weight decay moves tensors of two dimensions and more only: no biases and no parameters of a normalisation.
    pub decay_matrices: bool,
    /// A tensor moves at η times the root mean square of its values, but at least 0.01·η and at most 0.1·η: η is then the share of itself
    /// that a tensor moves by in a round. The trust ratio of LARS (You, Gitman & Ginsburg 2017) where every step has the same length,
    /// as in Adafactor (Shazeer & Stern 2018, section 8), bounded as in LAMB (You et al. 2020).
    pub layerwise: bool,
}

/// The terms of a run, as the handshake hands them out.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    /// The run's identity.
    pub run: RunId,
    /// M, the number of places for workers.
    pub workers: u16,
    /// Examples in one worker's batch, n.
    pub batch: u32,
    /// Seed of initialisation, sampling and coins.
    pub seed: u64,
    /// Rounds in the whole run.
    pub rounds: u64,
    /// Vote, or mean.
    pub aggregate: AggregateKind,
    /// β of a worker's momentum; 0 is signSGD. Unused under [`AggregateKind::Mean`].
    pub beta: f32,
    /// Which exact zeros abstain.
    pub abstain_on: AbstainOn,
    /// Coordinates in a chunk; a multiple of 64 up to 65,536.
    pub chunk_coordinates: u32,
    /// Rounds between two comparisons of the replicas' digests; 0 for only at the end.
    pub digest_every: u64,
    /// Consecutive rounds with a non-finite gradient after which a worker gives up; 0 for never.
    pub max_non_finite: u32,
    /// Whether ballots carry their workers' signatures: identities are on.
    pub signed: bool,
    /// How verdicts become steps.
    pub step: StepRule,
    /// What the workers' side agrees on, unread by the server.
    pub settings: Settings,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_sorted_replaced_and_bounded() {
        let mut settings = Settings::default();
        settings.insert("b", "1").unwrap();
        settings.insert("a", "2").unwrap();
        settings.insert("b", "3").unwrap();
        assert_eq!(settings.iter().collect::<Vec<_>>(), [("a", "2"), ("b", "3")]);
        assert_eq!(settings.value("b"), Some("3"));
        for i in 0..62 {
            settings.insert(&format!("k{i}"), "").unwrap();
        }
        assert!(settings.insert("one more", "").is_err());
        assert!(settings.insert(&"k".repeat(65), "").is_err());
        assert!(settings.insert("a", "v".repeat(1025)).is_err());
    }

    #[test]
    fn tie_policies_read_back_what_they_print() {
        for policy in [TiePolicy::Coin, TiePolicy::Hold, TiePolicy::Positive] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        assert!("heads".parse::<TiePolicy>().is_err());
    }
}
