//! What a log promises.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// When an entry is on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durable {
    /// Before anybody is told of the round. After a crash of the machine nothing that was told is missing.
    Always,
    /// A moment later: it is handed to the system at once, which keeps it if the process is killed, and
    /// taken to the disk at least once a second, in the background.
    #[default]
    Interval,
    /// Only snapshots are kept, no rounds.
    Off,
}

impl Durable {
    const ALL: [Self; 3] = [Self::Always, Self::Interval, Self::Off];

    pub(crate) fn byte(self) -> u8 {
        match self {
            Self::Always => 1,
            Self::Interval => 2,
            Self::Off => 3,
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|durable| durable.byte() == byte)
    }
}

impl fmt::Display for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Interval => "interval",
            Self::Off => "off",
        })
    }
}

impl FromStr for Durable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|durable| durable.to_string() == text);
        found.ok_or_else(|| format!("expected always, interval or off, got {text:?}"))
    }
}

/// How a ledger is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// When an entry is on the disk.
    pub durable: Durable,
    /// Under [`Durable::Interval`]: how long the first entry that is not on the disk waits for a sync to
    /// begin. Half a second, so that with the sync itself it is one.
    pub sync_every: Duration,
    /// After a snapshot the oldest pairs of snapshot and segment go while all of them take more bytes than
    /// this. The newest pair stays, however large.
    pub max_bytes: u64,
    /// Nothing is ever pruned: an audit wants every round.
    pub keep_all: bool,
}

impl Default for Options {
    /// `interval`, and 4 GiB.
    fn default() -> Self {
        Self {
            durable: Durable::default(),
            sync_every: Duration::from_millis(500),
            max_bytes: 4 << 30,
            keep_all: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_reads_back_as_text_and_as_a_byte() {
        for durable in Durable::ALL {
            assert_eq!(durable.to_string().parse(), Ok(durable));
            assert_eq!(Durable::from_byte(durable.byte()), Some(durable));
        }
        assert!("sometimes".parse::<Durable>().unwrap_err().contains("interval"));
        assert_eq!(Durable::from_byte(0), None);
    }
}
