//! Streams of bits, and the codes for whole numbers that the compressors write into them.

/// A stream that is written; a number's most significant bit comes first.
#[derive(Debug, Default)]
pub(super) struct Writer {
    words: Vec<u64>,
    length: u64,
}

/// A stream that is read. Past its end there is nothing, not zeros.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    words: &'a [u64],
    left: u64,
    at: u64,
}

impl Writer {
    /// The `width` lowest bits of `value`, which has no others; at most 64.
    pub(super) fn push(&mut self, value: u64, width: u32) {
        debug_assert!(width == 64 || value >> width == 0, "{value} in {width} bits");
        if width == 0 {
            return;
        }
        let free = 64 - (self.length % 64) as u32;
        if free == 64 {
            self.words.push(0);
        }
        let last = self.words.len() - 1;
        if width <= free {
            self.words[last] |= value << (free - width);
        } else {
            let rest = width - free;
            self.words[last] |= value >> rest;
            self.words.push(value << (64 - rest));
        }
        self.length += u64::from(width);
    }

    /// 32 bits.
    pub(super) fn float(&mut self, value: f32) {
        self.push(u64::from(value.to_bits()), 32);
    }

    fn zeros(&mut self, mut count: u64) {
        while count > 64 {
            self.push(0, 64);
            count -= 64;
        }
        self.push(0, count as u32);
    }

    /// Elias gamma code of a number from 1 on: as many zeros as it has bits after the first, then its bits; 2⌊log₂ n⌋ + 1 in all.
    pub(super) fn gamma(&mut self, value: u64) {
        debug_assert!(value > 0, "a number from 1 on");
        let after = value.ilog2();
        self.push(0, after);
        self.push(value, after + 1);
    }

    /// Rice code: ⌊n/2ᵇ⌋ zeros, a one, and the b lowest bits; ⌊n/2ᵇ⌋ + 1 + b in all.
    pub(super) fn rice(&mut self, value: u64, b: u32) {
        self.zeros(value >> b);
        self.push(1, 1);
        self.push(value & ((1 << b) - 1), b);
    }

    /// Bits written.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { words: &self.words, left: self.length, at: 0 }
    }
}

impl Reader<'_> {
    /// The next `width` bits, at most 64.
    pub(super) fn take(&mut self, width: u32) -> Option<u64> {
        if width == 0 {
            return Some(0);
        }
        self.left = self.left.checked_sub(u64::from(width))?;
        let (word, used) = ((self.at / 64) as usize, (self.at % 64) as u32);
        let mut value = self.words[word] << used;
        if used + width > 64 {
            value |= self.words[word + 1] >> (64 - used);
        }
        self.at += u64::from(width);
        Some(value >> (64 - width))
    }

    pub(super) fn float(&mut self) -> Option<f32> {
        Some(f32::from_bits(self.take(32)? as u32))
    }

    /// How many zeros stand before the next one, which is read too.
    fn zeros(&mut self) -> Option<u64> {
        let mut count = 0;
        loop {
            let used = (self.at % 64) as u32;
            let here = u64::from(64 - used).min(self.left);
            let run = u64::from((self.words.get((self.at / 64) as usize)? << used).leading_zeros());
            if run < here {
                self.take(run as u32 + 1)?;
                return Some(count + run);
            }
            if here == 0 {
                return None;
            }
            self.take(here as u32)?;
            count += here;
        }
    }

    pub(super) fn gamma(&mut self) -> Option<u64> {
        let after = self.zeros()?;
        if after > 63 {
            return None;
        }
        Some(1 << after | self.take(after as u32)?)
    }

    pub(super) fn rice(&mut self, b: u32) -> Option<u64> {
        let high = self.zeros()?;
        Some(high.checked_mul(1 << b)? | self.take(b)?)
    }

    /// Bits that are left.
    pub(super) fn left(&self) -> u64 {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(writer: &Writer) -> String {
        let mut reader = writer.reader();
        (0..writer.length()).map(|_| reader.take(1).unwrap().to_string()).collect()
    }

    fn written(write: impl FnOnce(&mut Writer)) -> String {
        let mut writer = Writer::default();
        write(&mut writer);
        text(&writer)
    }

    #[test]
    fn elias_gamma_codes_are_those_written_by_hand() {
        for (value, code) in [
            (1, "1"),
            (2, "010"),
            (3, "011"),
            (4, "00100"),
            (5, "00101"),
            (7, "00111"),
            (8, "0001000"),
            (17, "000010001"),
            (100, "0000001100100"),
        ] {
            assert_eq!(written(|writer| writer.gamma(value)), code, "{value}");
        }
    }

    #[test]
    fn rice_codes_are_those_written_by_hand() {
        for (value, b, code) in
            [(0, 0, "1"), (3, 0, "0001"), (0, 2, "100"), (3, 2, "111"), (4, 2, "0100"), (11, 2, "00111")]
        {
            assert_eq!(written(|writer| writer.rice(value, b)), code, "{value}, {b}");
        }
    }

    #[test]
    fn past_its_end_a_stream_has_nothing() {
        let mut writer = Writer::default();
        writer.push(0, 64);
        let mut reader = writer.reader();
        assert_eq!((reader.take(65 - 1), reader.take(1), reader.take(0)), (Some(0), None, Some(0)));
        assert_eq!(writer.reader().gamma(), None);
        assert_eq!(writer.reader().rice(3), None);
        assert_eq!(Writer::default().reader().gamma(), None);
    }

    #[derive(Clone, Debug)]
    enum Piece {
        Plain(u64, u32),
        Gamma(u64),
        Rice(u64, u32),
        Float(u32),
    }

    fn piece() -> impl Strategy<Value = Piece> {
        prop_oneof![
            (any::<u64>(), 0..=64_u32)
                .prop_map(|(value, width)| Piece::Plain(value.checked_shr(64 - width).unwrap_or(0), width)),
            (1..=u64::MAX).prop_map(Piece::Gamma),
            (1..200_u64).prop_map(Piece::Gamma),
            (0..2000_u64, 0..12_u32).prop_map(|(value, b)| Piece::Rice(value, b)),
            any::<u32>().prop_map(Piece::Float),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_in_as_many_bits(pieces in prop::collection::vec(piece(), 0..60)) {
            let (mut writer, mut length) = (Writer::default(), 0);
            for piece in &pieces {
                length += match *piece {
                    Piece::Plain(value, width) => { writer.push(value, width); u64::from(width) }
                    Piece::Gamma(value) => { writer.gamma(value); 2 * u64::from(value.ilog2()) + 1 }
                    Piece::Rice(value, b) => { writer.rice(value, b); (value >> b) + 1 + u64::from(b) }
                    Piece::Float(bits) => { writer.float(f32::from_bits(bits)); 32 }
                };
                prop_assert_eq!(writer.length(), length);
            }
            let mut reader = writer.reader();
            for piece in &pieces {
                match *piece {
                    Piece::Plain(value, width) => prop_assert_eq!(reader.take(width), Some(value)),
                    Piece::Gamma(value) => prop_assert_eq!(reader.gamma(), Some(value)),
                    Piece::Rice(value, b) => prop_assert_eq!(reader.rice(b), Some(value)),
                    Piece::Float(bits) => prop_assert_eq!(reader.float().map(f32::to_bits), Some(bits)),
                }
            }
            prop_assert_eq!(reader.left(), 0);
        }
    }
}
