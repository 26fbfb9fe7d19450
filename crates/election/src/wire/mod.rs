//! The frames of the protocol and their bytes. `docs/protocol.md` tells the same in words.
//!
//! A frame is `u32 length ‖ u8 kind ‖ payload`; the length counts kind and payload. All numbers are
//! little-endian. Kinds below 32 go to the server, the others to a worker.

pub(crate) mod codec;
pub(crate) mod of_shards;
mod planes;
pub(crate) mod to_server;
pub(crate) mod to_worker;

pub use of_shards::{Carried, Enrolment, Shards, Tallied, Tally, ToShard};
pub use planes::PlaneBytes;
pub use to_server::{ToServer, ask};
pub use to_worker::{Later, Start, ToWorker, status};

use crate::{ChainHash, Error, Incarnation, Position, Round};
use codec::{Reader, Writer};

/// The first bytes of a worker's first payload.
pub const MAGIC: [u8; 8] = *b"signvote";
/// Peers of another major version do not understand each other.
pub const MAJOR: u16 = 4;
/// A higher minor version only adds what a peer may leave unused.
pub const MINOR: u16 = 1;

/// Bytes of the length in front of a frame.
pub const LENGTH_BYTES: usize = 4;
/// Bytes of length and kind.
pub const HEADER_BYTES: usize = LENGTH_BYTES + 1;
/// The longest frame of a connection that has been welcomed, after its length. Chunks and layouts fit well within.
pub const MAX_FRAME_BYTES: usize = 1 << 20;
/// Most bytes that a status is padded to.
pub const MAX_STATUS_BYTES: usize = 1_000_000;
/// The longest frame before that.
pub const MAX_HELLO_BYTES: usize = 4096;
/// Longest reason or name in a frame, in bytes.
pub(crate) const MAX_TEXT_BYTES: usize = 1024;

/// Whether frames of this kind are the traffic of rounds; the others are joins, snapshots and farewells,
/// which are counted apart.
pub fn is_round_traffic(kind: u8) -> bool {
    use kind::{BALLOT, CHOSEN, COMMIT, DIGEST, GRADIENT, REPORT, SEAL, UPDATE, VERDICT};
    matches!(kind, BALLOT | GRADIENT | REPORT | DIGEST | SEAL | VERDICT | UPDATE | COMMIT | CHOSEN)
}

/// Whether a frame of this kind that comes to a server is passed on: a verdict of a shard's, by a worker on the server's own host,
/// which it does not leave.
pub fn is_passed_on(kind: u8) -> bool {
    kind == kind::VERDICT
}

/// What a peer may leave unused: bits of a greeting, and of a welcome if both sides know them.
pub(crate) mod feature {
    /// The worker can send the running statistics of its model when the run is over, and the server takes them.
    pub(crate) const STATISTICS: u64 = 1;
    /// All that this version knows.
    pub(crate) const ALL: u64 = STATISTICS;
}

pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 1;
    pub(crate) const INIT: u8 = 2;
    pub(crate) const READY: u8 = 3;
    pub(crate) const REPORT: u8 = 4;
    pub(crate) const BALLOT: u8 = 5;
    pub(crate) const GRADIENT: u8 = 6;
    pub(crate) const DIGEST: u8 = 7;
    pub(crate) const BYE: u8 = 8;
    pub(crate) const SEAL: u8 = 9;
    pub(crate) const ASK: u8 = 10;
    pub(crate) const KNOCK: u8 = 11;
    pub(crate) const ENROL: u8 = 12;
    pub(crate) const TALLIED: u8 = 13;
    pub(crate) const WHOLE: u8 = 14;
    pub(crate) const ACCUSE: u8 = 15;
    pub(crate) const UNREACHABLE: u8 = 16;
    pub(crate) const CARRIED: u8 = 17;
    pub(crate) const STATISTICS: u8 = 18;
    /// Parameters, in both directions.
    pub(crate) const VALUES: u8 = 31;
    pub(crate) const WELCOME: u8 = 32;
    pub(crate) const REFUSED: u8 = 33;
    pub(crate) const STATE: u8 = 34;
    pub(crate) const OPEN: u8 = 35;
    pub(crate) const VERDICT: u8 = 36;
    pub(crate) const UPDATE: u8 = 37;
    pub(crate) const COMMIT: u8 = 38;
    pub(crate) const FINISH: u8 = 39;
    pub(crate) const STATUS: u8 = 40;
    pub(crate) const PAUSE: u8 = 41;
    pub(crate) const WAIT: u8 = 42;
    pub(crate) const SHARDS: u8 = 43;
    pub(crate) const CHOSEN: u8 = 44;
    pub(crate) const CHARGE: u8 = 64;
    pub(crate) const SEATS: u8 = 65;
    pub(crate) const TALLY: u8 = 66;
}

/// Little-endian f32 as they stand in a received frame.
#[derive(Clone, Copy, Debug)]
pub struct FloatBytes<'a>(&'a [u8]);

impl FloatBytes<'_> {
    /// Reads exactly as many floats as `values` holds.
    ///
    /// # Errors
    /// If there are more or fewer.
    pub(crate) fn read(self, values: &mut [f32]) -> Result<(), Error> {
        if self.0.len() != values.len() * 4 {
            return Err(Error::malformed("floats", format!("{} bytes", values.len() * 4), self.0.len()));
        }
        codec::read_floats(self.0, values);
        Ok(())
    }

    /// As many floats as there are.
    ///
    /// # Errors
    /// If the last one is not whole, or there are more than `most`.
    pub(crate) fn read_all(self, most: usize) -> Result<Vec<f32>, Error> {
        let (count, rest) = (self.0.len() / 4, self.0.len() % 4);
        if rest != 0 || count > most {
            return Err(Error::malformed("floats", format!("at most {most} of 4 bytes"), self.0.len()));
        }
        let mut values = vec![0.0; count];
        self.read(&mut values)?;
        Ok(values)
    }
}

/// Splits a whole frame, length included, into kind and payload.
fn split(frame: &[u8]) -> Result<(u8, Reader<'_>), Error> {
    let mut reader = Reader::new(frame);
    let length = reader.u32()? as usize;
    if length == 0 || length != frame.len() - LENGTH_BYTES {
        return Err(Error::malformed("frame length", frame.len() - LENGTH_BYTES, length));
    }
    let kind = reader.u8()?;
    Ok((kind, reader))
}

/// The version at the front of a greeting or a welcome.
///
/// It stands first for good, and nothing behind it is read if the major version is another: such a peer must be
/// told so, not called malformed.
fn read_version(reader: &mut Reader<'_>) -> Result<(u16, u16), Error> {
    let (major, minor) = (reader.u16()?, reader.u16()?);
    if major != MAJOR {
        let expected = format!("{MAJOR}.x");
        return Err(Error::incompatible("protocol version", expected, format!("{major}.{minor}")));
    }
    Ok((major, minor))
}

/// Round, incarnation and chain hash, as they travel everywhere.
pub(crate) fn write_position(out: &mut Writer, position: Position) {
    out.u64(position.round.0);
    out.u32(position.incarnation.0);
    out.bytes(&position.chain.0);
}

pub(crate) fn read_position(reader: &mut Reader<'_>) -> Result<Position, Error> {
    Ok(Position {
        round: Round(reader.u64()?),
        incarnation: Incarnation(reader.u32()?),
        chain: ChainHash(reader.array()?),
    })
}

/// Settings as they travel: u16 count, then key and value as strings.
pub(crate) fn write_settings(out: &mut Writer, settings: &crate::Settings) {
    let entries = settings.iter();
    out.u16(entries.len() as u16);
    for (key, value) in entries {
        out.string(key);
        out.string(value);
    }
}

pub(crate) fn read_settings(reader: &mut Reader<'_>) -> Result<crate::Settings, Error> {
    use crate::Settings;
    let count = usize::from(reader.u16()?);
    if count > Settings::MAX_ENTRIES {
        return Err(Error::malformed("settings", "at most 64", count));
    }
    let mut settings = Settings::default();
    let mut last: Option<String> = None;
    for _ in 0..count {
        let key = reader.string("setting", Settings::MAX_KEY_BYTES)?;
        if last.as_ref().is_some_and(|last| *last >= key) {
            return Err(Error::malformed("settings", "ascending keys, each once", format!("{key:?}")));
        }
        last = Some(key.clone());
        settings.insert(&key, reader.string("setting", Settings::MAX_VALUE_BYTES)?)?;
    }
    Ok(settings)
}

pub(crate) fn write_tie(out: &mut Writer, tie: crate::TiePolicy) {
    use crate::TiePolicy;
    out.u8(match tie {
        TiePolicy::Coin => 0,
        TiePolicy::Hold => 1,
        TiePolicy::Positive => 2,
    });
}

pub(crate) fn read_tie(reader: &mut Reader<'_>) -> Result<crate::TiePolicy, Error> {
    use crate::TiePolicy;
    match reader.u8()? {
        0 => Ok(TiePolicy::Coin),
        1 => Ok(TiePolicy::Hold),
        2 => Ok(TiePolicy::Positive),
        other => Err(Error::malformed("tie policy", "0 to 2", other)),
    }
}
