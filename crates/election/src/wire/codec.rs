//! Little-endian bytes to values and back. Every read is bounded; nothing is allocated on a peer's word alone.

use bytes::{Bytes, BytesMut};

use crate::Error;

/// Reads values off the front of a slice.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let Some((bytes, rest)) = self.rest.split_at_checked(count) else {
            return Err(Error::malformed("frame", format!("{count} more bytes"), self.rest.len()));
        };
        self.rest = rest;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn f32(&mut self) -> Result<f32, Error> {
        self.array().map(f32::from_le_bytes)
    }

    /// A u64 that counts something in memory.
    pub(crate) fn length(&mut self) -> Result<usize, Error> {
        let length = self.u64()?;
        usize::try_from(length).map_err(|_| Error::malformed("length", "a length that fits memory", length))
    }

    /// A string of at most `max` bytes behind its u16 length.
    pub(crate) fn string(&mut self, what: &'static str, max: usize) -> Result<String, Error> {
        let length = usize::from(self.u16()?);
        if length > max {
            return Err(Error::malformed(what, format!("at most {max} bytes"), length));
        }
        match std::str::from_utf8(self.bytes(length)?) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(Error::malformed(what, "UTF-8", error)),
        }
    }

    /// Bytes that have not been read.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Everything that is left.
    pub(crate) fn remaining(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Refuses bytes that nobody asked for.
    pub(crate) fn finish(self) -> Result<(), Error> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Error::malformed("frame", "its end", format!("{} bytes more", self.rest.len())))
    }
}

/// Appends values to a frame's bytes.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: BytesMut,
}

impl Writer {
    /// Bytes without a frame around them.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { out: BytesMut::with_capacity(bytes) }
    }

    /// A frame of this kind: room for its length is kept at the front, and [`Self::frame`] fills it in.
    pub(crate) fn with_kind(kind: u8, payload_bytes: usize) -> Self {
        Self::onto(BytesMut::with_capacity(super::HEADER_BYTES + payload_bytes), kind)
    }

    /// The same in the memory of a frame that nobody holds any more, if there is such a one.
    pub(crate) fn again(kind: u8, payload_bytes: usize, spare: &mut Vec<Bytes>) -> Self {
        match spare.pop().map(Bytes::try_into_mut) {
            Some(Ok(mut out)) => {
                out.clear();
                out.reserve(super::HEADER_BYTES + payload_bytes);
                Self::onto(out, kind)
            }
            _ => Self::with_kind(kind, payload_bytes),
        }
    }

    fn onto(mut out: BytesMut, kind: u8) -> Self {
        out.extend_from_slice(&[0; super::LENGTH_BYTES]);
        out.extend_from_slice(&[kind]);
        Self { out }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn f32(&mut self, value: f32) {
        self.bytes(&value.to_le_bytes());
    }

    /// The string behind its u16 length, cut at a character boundary to what the length can say.
    pub(crate) fn string(&mut self, text: &str) {
        let length = text.floor_char_boundary(usize::from(u16::MAX));
        self.u16(length as u16);
        self.bytes(&text.as_bytes()[..length]);
    }

    // Sized first and filled then: the loops become copies, where appending would check the capacity each time.

    pub(crate) fn words(&mut self, words: &[u64]) {
        let start = self.out.len();
        self.out.resize(start + words.len() * 8, 0);
        for (bytes, word) in self.out[start..].chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }

    pub(crate) fn floats(&mut self, values: &[f32]) {
        let start = self.out.len();
        self.out.resize(start + values.len() * 4, 0);
        for (bytes, value) in self.out[start..].chunks_exact_mut(4).zip(values) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    }

    pub(crate) fn into_inner(self) -> Vec<u8> {
        self.out.into()
    }

    pub(crate) fn frame(mut self) -> Bytes {
        let length = (self.out.len() - super::LENGTH_BYTES) as u32;
        self.out[..super::LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        self.out.freeze()
    }
}

/// Little-endian bytes as words.
pub(crate) fn read_words(bytes: &[u8], words: &mut [u64]) {
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut le = [0; 8];
        le.copy_from_slice(bytes);
        *word = u64::from_le_bytes(le);
    }
}

/// Little-endian bytes as floats.
pub(crate) fn read_floats(bytes: &[u8], values: &mut [f32]) {
    for (value, bytes) in values.iter_mut().zip(bytes.chunks_exact(4)) {
        let mut le = [0; 4];
        le.copy_from_slice(bytes);
        *value = f32::from_le_bytes(le);
    }
}
