//! What kernels write to, and what they left there.

/// What a fresh output holds: neither 0 nor a likely answer.
const RUBBISH: u8 = 0xA5;

/// Room for everything that a kernel of one group may write. Its rows use it one after another.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Weights, a momentum, or a ballot as values.
    pub(crate) values: Vec<f32>,
    /// The signs of a ballot or a verdict.
    pub(crate) signs: Vec<u64>,
    /// Its other plane: abstentions or holds.
    pub(crate) other: Vec<u64>,
    pub(crate) margins: Vec<u16>,
    pub(crate) bins: Vec<u64>,
}

/// A part of [`Memory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Values,
    Signs,
    Other,
    Margins,
    Bins,
}

/// What a kernel does to a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Touch {
    /// Reads it, but for single words.
    Read,
    /// Overwrites it.
    Write,
    /// Reads and writes it.
    Update,
}

/// All that a kernel does to memory that it writes to.
pub(crate) type Touches = &'static [(Place, Touch)];

/// What a kernel returns, in two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Returned(pub(crate) [u64; 2]);

/// What a kernel left in its places, and what it returned.
pub(crate) struct Answer {
    places: Vec<(Place, Vec<u8>)>,
    returned: Returned,
}

impl Memory {
    /// All places, as bytes.
    pub(crate) fn places(&mut self) -> [(Place, &mut [u8]); 5] {
        use bytemuck::cast_slice_mut as bytes;
        [
            (Place::Values, bytes(&mut self.values)),
            (Place::Signs, bytes(&mut self.signs)),
            (Place::Other, bytes(&mut self.other)),
            (Place::Margins, bytes(&mut self.margins)),
            (Place::Bins, bytes(&mut self.bins)),
        ]
    }

    pub(crate) fn place(&self, place: Place) -> &[u8] {
        match place {
            Place::Values => bytemuck::cast_slice(&self.values),
            Place::Signs => bytemuck::cast_slice(&self.signs),
            Place::Other => bytemuck::cast_slice(&self.other),
            Place::Margins => bytemuck::cast_slice(&self.margins),
            Place::Bins => bytemuck::cast_slice(&self.bins),
        }
    }

    /// Makes ready for a run whose answer counts: state as it was initially, rubbish where it is only written.
    pub(crate) fn prepare(&mut self, touches: Touches, initial: &Memory) {
        for (place, bytes) in self.places() {
            match touch(touches, place) {
                None => {}
                Some(Touch::Write) => bytes.fill(RUBBISH),
                Some(Touch::Read | Touch::Update) => bytes.copy_from_slice(initial.place(place)),
            }
        }
    }

    /// A copy of what was touched.
    pub(crate) fn answer(&self, touches: Touches, returned: Returned) -> Answer {
        let copy = |&(place, _): &(Place, Touch)| (place, self.place(place).to_vec());
        Answer { places: touches.iter().map(copy).collect(), returned }
    }

    /// Where this answer and that one first differ, in words.
    pub(crate) fn difference(&self, returned: Returned, expected: &Answer) -> Option<String> {
        for (place, expected) in &expected.places {
            let got = self.place(*place);
            // Whole slices first: that is a comparison of memory, and nearly always the end of it.
            if got != expected {
                return Some(first_difference(*place, expected, got));
            }
        }
        let (expected, got) = (expected.returned, returned);
        (expected != got).then(|| format!("returned counts: expected {:?}, got {:?}", expected.0, got.0))
    }
}

/// What a kernel does to that place, if anything.
pub(crate) fn touch(touches: Touches, place: Place) -> Option<Touch> {
    touches.iter().find(|(touched, _)| *touched == place).map(|(_, touch)| *touch)
}

fn first_difference(place: Place, expected: &[u8], got: &[u8]) -> String {
    if expected.len() != got.len() {
        return format!("expected {} bytes, got {}", expected.len(), got.len());
    }
    let at = expected.iter().zip(got).position(|(expected, got)| expected != got).unwrap_or(0);
    let plane = |name: &str| {
        let bit = (expected[at] ^ got[at]).trailing_zeros();
        let coordinate = 8 * at + bit as usize;
        let (expected, got) = (expected[at] >> bit & 1, got[at] >> bit & 1);
        format!("{name} of coordinate {coordinate}: expected {expected}, got {got}")
    };
    let number = |name: &str, size: usize| {
        let index = at / size;
        let range = index * size..(index + 1) * size;
        // The bytes of a number, most significant first: what differs may be a payload or the sign of a zero.
        let hex = |bytes: &[u8]| bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("{name} {index}: expected 0x{}, got 0x{}", hex(&expected[range.clone()]), hex(&got[range]))
    };
    match place {
        Place::Values => number("value", 4),
        Place::Signs => plane("sign"),
        Place::Other => plane("abstention or hold"),
        Place::Margins => number("margin", 2),
        Place::Bins => number("bin", 8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named_by_its_coordinate() {
        let mut memory = Memory { values: vec![1.0; 3], signs: vec![0; 2], ..Memory::default() };
        let touches: Touches = &[(Place::Values, Touch::Update), (Place::Signs, Touch::Write)];
        let none = Returned([0, 0]);
        let expected = memory.answer(touches, none);
        assert_eq!(memory.difference(none, &expected), None);
        let difference = memory.difference(Returned([1, 0]), &expected);
        assert_eq!(difference.as_deref(), Some("returned counts: expected [0, 0], got [1, 0]"));
        memory.signs[1] = 1 << 36;
        let difference = memory.difference(none, &expected);
        assert_eq!(difference.as_deref(), Some("sign of coordinate 100: expected 0, got 1"));
        memory.values[2] = -1.0;
        let difference = memory.difference(none, &expected);
        assert_eq!(difference.as_deref(), Some("value 2: expected 0x3f800000, got 0xbf800000"));
    }

    #[test]
    fn a_run_that_counts_begins_with_the_initial_state_and_rubbish() {
        let initial = Memory { values: vec![2.0; 2], ..Memory::default() };
        let mut memory = Memory { values: vec![1.0; 2], signs: vec![0], other: vec![0], ..Memory::default() };
        memory.prepare(&[(Place::Values, Touch::Update), (Place::Signs, Touch::Write)], &initial);
        assert_eq!(
            (memory.values, memory.signs, memory.other),
            (vec![2.0; 2], vec![0xA5A5_A5A5_A5A5_A5A5], vec![0])
        );
    }
}
