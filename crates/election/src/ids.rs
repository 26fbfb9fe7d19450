//! Names for the things an election counts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A round's number, counted from 0. Also "rounds committed so far", which is the number of the open round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Round(pub u64);

impl Round {
    /// The round after this one. The last number stays: a peer may name any round, and must not bring us down with it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How often the server of a run has lost rounds and started again from an earlier state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u32);

/// Where a history of verdicts stands. Two peers at one position have seen the same commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Rounds committed, which is the number of the open round.
    pub round: Round,
    /// The incarnation of the server that committed the last of them.
    pub incarnation: Incarnation,
    /// Chain hash of them all.
    pub chain: crate::ChainHash,
}

/// A worker's place in the run: 1 to the number of workers. A place, and not a connection, has a vote
/// and a share of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot(u16);

impl Slot {
    /// The slot with this number, which counts from 1; `None` for 0.
    pub fn new(number: u16) -> Option<Self> {
        (number > 0).then_some(Self(number))
    }

    /// The number, from 1.
    pub fn number(self) -> u16 {
        self.0
    }

    /// The index, from 0.
    pub fn index(self) -> usize {
        usize::from(self.0) - 1
    }

    pub(crate) fn from_index(index: usize) -> Self {
        Self(u16::try_from(index + 1).unwrap_or(u16::MAX))
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One connection, as the shell around the state machine counts them. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// The identity of a run: two servers with the same settings are still two runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RunId(pub [u8; 16]);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hexadecimal(&self.0))
    }
}

/// Two hexadecimal digits a byte: identities, digests and hashes as text.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl std::str::FromStr for RunId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("a run id is 32 hexadecimal digits, got {text:?}");
        if text.len() != 32 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut id = [0; 16];
        for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(id))
    }
}

/// A set of slots, one bit each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotSet {
    words: Vec<u64>,
}

impl SlotSet {
    /// An empty set with room for `slots` slots.
    pub fn with_slots(slots: usize) -> Self {
        Self { words: vec![0; slots.div_ceil(64)] }
    }

    /// Adds a slot; `false` if it was in already.
    pub fn insert(&mut self, slot: Slot) -> bool {
        let (word, bit) = Self::position(slot);
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    /// Takes a slot out; `false` if it was not in.
    pub fn remove(&mut self, slot: Slot) -> bool {
        let (word, bit) = Self::position(slot);
        let was_in = self.contains(slot);
        if let Some(word) = self.words.get_mut(word) {
            *word &= !bit;
        }
        was_in
    }

    /// Whether the slot is in the set.
    pub fn contains(&self, slot: Slot) -> bool {
        let (word, bit) = Self::position(slot);
        self.words.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Number of slots in the set.
    pub fn len(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no slot is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// Takes every slot out.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Whether every slot of this set is in `other`.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.iter().all(|slot| other.contains(slot))
    }

    /// The slots, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| Slot::from_index(index * 64 + bit))
        })
    }

    /// The bits as little-endian words, slot 1 first, without trailing zero words.
    pub(crate) fn as_words(&self) -> &[u64] {
        let used = self.words.iter().rposition(|&word| word != 0).map_or(0, |last| last + 1);
        &self.words[..used]
    }

    pub(crate) fn from_words(words: Vec<u64>) -> Self {
        Self { words }
    }

    fn position(slot: Slot) -> (usize, u64) {
        (slot.index() / 64, 1 << (slot.index() % 64))
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut set = Self::default();
        for slot in slots {
            set.insert(slot);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_set_holds_what_was_inserted_across_words() {
        let numbers = [1, 2, 64, 65, 128, 1000];
        let set: SlotSet = numbers.iter().filter_map(|&n| Slot::new(n)).collect();
        assert_eq!(set.iter().map(Slot::number).collect::<Vec<_>>(), numbers);
        assert_eq!(set.len(), numbers.len());
        assert_eq!(SlotSet::from_words(set.as_words().to_vec()).iter().count(), numbers.len());
    }

    #[test]
    fn a_run_id_reads_back_what_it_prints() {
        let id = RunId(*b"0123456789abcdef");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("xyz".parse::<RunId>().is_err());
        assert!("zz345678901234567890123456789012".parse::<RunId>().is_err());
    }
}
