//! The bytes of a segment. `docs/durability.md` has them for who writes a second implementation.

use std::io::Read;
use std::path::Path;

use signvote_election::{ChainHash, Digest, Incarnation, Position, Round};

use crate::Error;

/// Version of the bytes that this crate writes, and the only one that it reads.
pub const FORMAT_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"SVLEDGER";
/// Bytes of a header before the charter.
const FIXED_BYTES: usize = 128;
/// Starts every entry, so that one can be searched for behind a damaged one.
pub(crate) const WORD: [u8; 4] = [0xE7, b'S', b'V', b'e'];
/// Bytes of an entry before its payload.
pub(crate) const HEAD_BYTES: usize = 29;
const HEAD_CHECKED_BYTES: usize = HEAD_BYTES - 8;

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A committed round.
    Record,
    /// Who is bound to a place.
    Member,
    /// A server took up the log: in which incarnation, and what it promises about the entries behind.
    Opened,
    /// The server stopped by itself, with every round written before this entry. Taken off when a server
    /// goes on.
    Clean,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Record => 1,
            Self::Member => 2,
            Self::Opened => 3,
            Self::Clean => 4,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Record, Self::Member, Self::Opened, Self::Clean].into_iter().find(|kind| kind.byte() == byte)
    }
}

/// Where a segment starts: the state that its snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// What had been committed.
    pub position: Position,
    /// Root of the `DigestTree` over the parameters.
    pub digest: Digest,
}

impl Base {
    /// Rounds committed.
    pub fn round(&self) -> Round {
        self.position.round
    }
}

/// The first 16 bytes of a BLAKE3 hash: of a header, or of everything in a segment up to the end of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum(pub(crate) [u8; 16]);

impl Sum {
    pub(crate) const BYTES: usize = 16;

    fn of(hasher: &blake3::Hasher) -> Self {
        Self(first(hasher))
    }
}

/// The header of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) base: Base,
    /// Checksum of the last entry of the segment before, if the log goes on without a gap. Zeros in the
    /// file if not.
    pub(crate) follows: Option<Sum>,
    /// Bytes that no worker can know, since a payload is what workers send: without them, a part of one
    /// could pass for a head.
    pub(crate) salt: [u8; 16],
    pub(crate) charter: Vec<u8>,
}

impl Header {
    /// The bytes, checksum included, and the checksum.
    pub(crate) fn encode(&self) -> (Vec<u8>, Sum) {
        let mut bytes = Vec::with_capacity(FIXED_BYTES + self.charter.len() + Sum::BYTES);
        bytes.extend(MAGIC);
        bytes.extend(FORMAT_VERSION.to_le_bytes());
        bytes.extend((self.charter.len() as u64).to_le_bytes());
        bytes.extend(self.base.position.round.0.to_le_bytes());
        bytes.extend(self.base.position.incarnation.0.to_le_bytes());
        bytes.extend(self.base.position.chain.0);
        bytes.extend(self.base.digest.0);
        bytes.extend(self.follows.map_or([0; 16], |sum| sum.0));
        bytes.extend(self.salt);
        bytes.extend(&self.charter);
        let sum = header_sum(&bytes);
        bytes.extend(sum.0);
        (bytes, sum)
    }

    /// Reads a header from the start of a file of `length` bytes: the header, its checksum, its length in
    /// bytes.
    pub(crate) fn read(file: &mut impl Read, path: &Path, length: u64) -> Result<(Self, Sum, u64), Error> {
        let ends =
            || Error::corrupt(path, 0, format!("the file ends within its header, after {length} bytes"));
        let mut bytes = vec![0; FIXED_BYTES];
        let start = bytes.len().min(usize::try_from(length).unwrap_or(usize::MAX));
        file.read_exact(&mut bytes[..start]).map_err(Error::io("read", path))?;
        if start < MAGIC.len() || bytes[..8] != MAGIC {
            return Err(Error::Foreign { path: path.to_owned() });
        }
        // The version comes before every other check: another one may mean anything by the bytes behind it.
        let got = u32::from_le_bytes(part(&bytes, 8));
        if start < 12 || got != FORMAT_VERSION {
            let other = Error::Version { path: path.to_owned(), expected: FORMAT_VERSION, got };
            return Err(if start < 12 { ends() } else { other });
        }
        let charter = u64::from_le_bytes(part(&bytes, 12));
        let rest = length.saturating_sub(FIXED_BYTES as u64);
        let rest = rest.checked_sub(Sum::BYTES as u64).ok_or_else(ends)?;
        let charter = usize::try_from(charter).ok().filter(|_| charter <= rest).ok_or_else(|| {
            let reason = format!("the header says that the charter has {charter} bytes, the file has {rest}");
            Error::corrupt(path, 0, reason)
        })?;
        bytes.resize(FIXED_BYTES + charter, 0);
        file.read_exact(&mut bytes[FIXED_BYTES..]).map_err(Error::io("read", path))?;
        let mut sum = [0; Sum::BYTES];
        file.read_exact(&mut sum).map_err(Error::io("read", path))?;
        if header_sum(&bytes) != Sum(sum) {
            return Err(Error::corrupt(path, 0, "the checksum of the header is wrong"));
        }
        let follows = part(&bytes, 96);
        let header = Self {
            base: Base {
                position: Position {
                    round: Round(u64::from_le_bytes(part(&bytes, 20))),
                    incarnation: Incarnation(u32::from_le_bytes(part(&bytes, 28))),
                    chain: ChainHash(part(&bytes, 32)),
                },
                digest: Digest(part(&bytes, 64)),
            },
            follows: (follows != [0; 16]).then_some(Sum(follows)),
            salt: part(&bytes, 112),
            charter: bytes[FIXED_BYTES..].to_vec(),
        };
        Ok((header, Sum(sum), (bytes.len() + Sum::BYTES) as u64))
    }
}

/// What comes before an entry's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    /// Bytes of the payload.
    pub(crate) length: u64,
    /// Bytes of this file that were known to be on the disk when the entry was begun. It tells damage apart
    /// from a write that was cut short: see [`crate::reader`].
    pub(crate) synced: u64,
}

impl Head {
    /// The bytes, for the segment whose header has the checksum `segment`.
    pub(crate) fn encode(&self, segment: Sum) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&WORD);
        bytes[4] = self.kind.byte();
        bytes[5..13].copy_from_slice(&self.length.to_le_bytes());
        bytes[13..21].copy_from_slice(&self.synced.to_le_bytes());
        let check = head_check(&bytes[..HEAD_CHECKED_BYTES], segment);
        bytes[HEAD_CHECKED_BYTES..].copy_from_slice(&check);
        bytes
    }

    /// The head that stands there, if it is sound. A checksum of its own, because a wrong length would
    /// otherwise look like an entry that was cut short.
    pub(crate) fn decode(bytes: &[u8; HEAD_BYTES], segment: Sum) -> Option<Self> {
        let check = head_check(&bytes[..HEAD_CHECKED_BYTES], segment);
        if bytes[..4] != WORD || bytes[HEAD_CHECKED_BYTES..] != check {
            return None;
        }
        Some(Self {
            kind: Kind::from_byte(bytes[4])?,
            length: u64::from_le_bytes(part(bytes, 5)),
            synced: u64::from_le_bytes(part(bytes, 13)),
        })
    }
}

/// The checksum of an entry, in the making: feed it the payload. It covers the checksum of the entry before
/// (of the header, for the first), so that an entry that was taken out, put in or moved is noticed at the
/// next one.
pub(crate) struct EntrySum(blake3::Hasher);

impl EntrySum {
    pub(crate) fn new(previous: Sum, head: &[u8; HEAD_BYTES]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("signvote 2026-11 ledger entry");
        hasher.update(&previous.0).update(head);
        Self(hasher)
    }

    pub(crate) fn update(&mut self, payload: &[u8]) {
        self.0.update(payload);
    }

    pub(crate) fn finish(&self) -> Sum {
        Sum::of(&self.0)
    }
}

fn header_sum(bytes: &[u8]) -> Sum {
    let mut hasher = blake3::Hasher::new_derive_key("signvote 2026-11 ledger header");
    hasher.update(bytes);
    Sum::of(&hasher)
}

/// Covers the header, and with it the salt.
fn head_check(bytes: &[u8], segment: Sum) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new_derive_key("signvote 2026-11 ledger head");
    hasher.update(&segment.0).update(bytes);
    first(&hasher)
}

fn first<const N: usize>(hasher: &blake3::Hasher) -> [u8; N] {
    part(hasher.finalize().as_bytes(), 0)
}

/// N bytes from `start`, which the caller knows to be there.
fn part<const N: usize>(bytes: &[u8], start: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[start..start + N]);
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            base: Base {
                position: Position {
                    round: Round(12),
                    incarnation: Incarnation(3),
                    chain: ChainHash([4; 32]),
                },
                digest: Digest([5; 32]),
            },
            follows: Some(Sum([6; 16])),
            salt: [7; 16],
            charter: b"charter".to_vec(),
        }
    }

    fn read(bytes: &[u8]) -> Result<(Header, Sum, u64), Error> {
        Header::read(&mut &bytes[..], Path::new("file"), bytes.len() as u64)
    }

    #[test]
    fn a_header_reads_back_and_says_how_long_it_is() {
        for header in [header(), Header { follows: None, charter: Vec::new(), ..header() }] {
            let (mut bytes, sum) = header.encode();
            let length = bytes.len() as u64;
            bytes.extend(b"entries");
            assert_eq!(read(&bytes).unwrap(), (header, sum, length));
        }
    }

    #[test]
    fn no_prefix_of_a_header_and_none_with_a_changed_bit_is_one() {
        let (bytes, _) = header().encode();
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{length} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let error = read(&changed).unwrap_err();
            match bit / 64 {
                0 => assert!(matches!(error, Error::Foreign { .. }), "{error}"),
                1 if bit < 96 => assert!(matches!(error, Error::Version { .. }), "{error}"),
                _ => assert!(matches!(error, Error::Corrupt { offset: 0, .. }), "{error}"),
            }
        }
    }

    #[test]
    fn a_head_is_one_only_in_its_segment() {
        let head = Head { kind: Kind::Member, length: 1 << 40, synced: 128 };
        let bytes = head.encode(Sum([1; 16]));
        assert_eq!(Head::decode(&bytes, Sum([1; 16])), Some(head));
        assert_eq!(Head::decode(&bytes, Sum([2; 16])), None);
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode(&changed, Sum([1; 16])), None);
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_document() {
        // Layout as in docs/durability.md; a change here is a change of the format.
        let (bytes, sum) = header().encode();
        assert_eq!(&bytes[..12], b"SVLEDGER\x01\0\0\0");
        assert_eq!(bytes[12..20], 7_u64.to_le_bytes());
        assert_eq!(bytes[20..28], 12_u64.to_le_bytes());
        assert_eq!(bytes[28..32], 3_u32.to_le_bytes());
        assert_eq!((&bytes[32..64], &bytes[64..96]), (&[4; 32][..], &[5; 32][..]));
        assert_eq!((&bytes[96..112], &bytes[112..128]), (&[6; 16][..], &[7; 16][..]));
        assert_eq!((&bytes[128..135], &bytes[135..]), (&b"charter"[..], &sum.0[..]));
        let head = Head { kind: Kind::Clean, length: 1, synced: 151 }.encode(sum);
        assert_eq!(&head[..5], b"\xE7SVe\x04");
        assert_eq!((&head[5..13], &head[13..21]), (&1_u64.to_le_bytes()[..], &151_u64.to_le_bytes()[..]));
        let derived = |context: &str, parts: &[&[u8]]| blake3::derive_key(context, &parts.concat());
        let check = derived("signvote 2026-11 ledger head", &[&sum.0, &head[..21]]);
        assert_eq!(head[21..], check[..8]);
        assert_eq!(sum.0, derived("signvote 2026-11 ledger header", &[&bytes[..135]])[..16]);
        let mut entry = EntrySum::new(sum, &head);
        entry.update(b"payload");
        let whole = derived("signvote 2026-11 ledger entry", &[&sum.0, &head, b"payload"]);
        assert_eq!(entry.finish().0, whole[..16]);
    }
}
