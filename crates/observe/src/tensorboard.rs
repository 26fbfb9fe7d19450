//! Files for TensorBoard: scalars over rounds.
//!
//! A file is a row of records: length, its checksum, data, its checksum (TensorFlow's `tfrecord` format); data is a message
//! `Event` of TensorFlow's `event.proto`, of which three fields are needed, written here by hand.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::{Error, now};

/// A file of scalars for TensorBoard.
#[derive(Debug)]
pub struct Scalars {
    file: BufWriter<File>,
    path: PathBuf,
}

impl Scalars {
    /// A new file in this directory, which is made with its parents. TensorBoard shows each directory as a run of its own, and takes a
    /// later file for what follows an earlier one.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(directory: &Path) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(Error::io("make", directory))?;
        // TensorBoard sorts by names, and looks for "tfevents" in them.
        let time = now();
        let path =
            directory.join(format!("events.out.tfevents.{time:017.6}.signvote.{}", std::process::id()));
        let file = File::create(&path).map_err(Error::io("make", &path))?;
        let mut scalars = Self { file: BufWriter::new(file), path };
        let mut event = Vec::new();
        double(&mut event, 1, time);
        bytes(&mut event, 3, b"brain.Event:2");
        scalars.record(&event)?;
        scalars.flush()?;
        Ok(scalars)
    }

    /// Writes scalars that were so at `time`, in seconds since 1970, after so many rounds. Those that are not known are left out.
    ///
    /// # Errors
    /// If the disk is full or refuses.
    pub fn write(&mut self, time: f64, round: u64, scalars: &[(&str, Option<f64>)]) -> Result<(), Error> {
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            let Some(value) = value else { continue };
            let mut one = Vec::new();
            bytes(&mut one, 1, tag.as_bytes());
            float(&mut one, 2, *value as f32);
            bytes(&mut summary, 1, &one);
        }
        if summary.is_empty() {
            return Ok(());
        }
        let mut event = Vec::new();
        double(&mut event, 1, time);
        key(&mut event, 2, 0);
        varint(&mut event, round);
        bytes(&mut event, 5, &summary);
        self.record(&event)
    }

    /// Hands to the system what was written.
    ///
    /// # Errors
    /// If the disk is full or refuses.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.file.flush().map_err(Error::io("write", &self.path))
    }

    fn record(&mut self, data: &[u8]) -> Result<(), Error> {
        let length = (data.len() as u64).to_le_bytes();
        let parts = [&length[..], &masked(&length), data, &masked(data)];
        parts.iter().try_for_each(|part| self.file.write_all(part)).map_err(Error::io("write", &self.path))
    }
}

/// The checksum as the format has it: rotated and added to, because data may hold checksums itself.
fn masked(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// A field's number and the kind of its value, as protobuf has them: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
fn key(out: &mut Vec<u8>, field: u8, kind: u8) {
    out.push(field << 3 | kind);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    key(out, field, 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

fn double(out: &mut Vec<u8>, field: u8, value: f64) {
    key(out, field, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn float(out: &mut Vec<u8>, field: u8, value: f32) {
    key(out, field, 5);
    out.extend_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_the_checksums_of_the_format() {
        // As TensorFlow's writer has them for the version record, whose length is 13 + 2 + 9.
        assert_eq!(masked(&24_u64.to_le_bytes()), [0xa3, 0x7f, 0x4b, 0x22]);
        let temporary = tempfile::tempdir().unwrap();
        let mut scalars = Scalars::create(&temporary.path().join("a/b")).unwrap();
        scalars.write(1.5, 300, &[("loss", Some(0.25)), ("none", None)]).unwrap();
        scalars.write(1.5, 300, &[("none", None)]).unwrap();
        scalars.flush().unwrap();
        let bytes = fs::read(&scalars.path).unwrap();
        let mut rest = &bytes[..];
        let mut records = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(rest[8..12], masked(&rest[..8]));
            let data = &rest[12..12 + length];
            assert_eq!(rest[12 + length..16 + length], masked(data));
            records.push(data.to_vec());
            rest = &rest[16 + length..];
        }
        assert_eq!(records.len(), 2, "the version and one event");
        let mut expected = vec![9];
        expected.extend(1.5_f64.to_le_bytes());
        expected.extend([16, 0xac, 0x02, 42, 13, 10, 11, 10, 4]);
        expected.extend(b"loss");
        expected.push(21);
        expected.extend(0.25_f32.to_le_bytes());
        assert_eq!(records[1], expected);
    }
}
