//! Frames from a worker to the server.

use bytes::Bytes;

use super::codec::{Reader, Writer};
use super::of_shards::{self, Carried, Enrolment, Tallied};
use super::{FloatBytes, MAGIC, MAX_TEXT_BYTES, PlaneBytes, kind, planes};
use crate::{Digest, Error, Layout, Position, Round, RunId, Settings, ShardId, Signature, Slot};

/// A frame from a worker to the server.
#[derive(Debug)]
#[non_exhaustive]
pub enum ToServer<'a> {
    /// The first frame: who this is, and which model it trains.
    Hello {
        /// The sender's protocol version.
        version: (u16, u16),
        /// Optional features of the protocol that the sender knows, one bit each.
        features: u64,
        /// The run that it wants to join, if it cares.
        run: Option<RunId>,
        /// Digest of its model's layout.
        layout: [u8; 32],
        /// d of its model.
        dimension: u64,
        /// The place that it wants, from 1; 0 for any.
        slot: u16,
        /// A name for people.
        name: String,
        /// Where its replica stands, if it has one of this run.
        position: Option<Position>,
    },
    /// The layout of the model and words about it; d parameters follow as `Values`. Only when asked.
    Init {
        /// The layout.
        layout: Layout,
        /// What to remember with the model.
        settings: Settings,
    },
    /// Parameters of one chunk.
    Values {
        /// The chunk.
        chunk: u32,
        /// Its parameters.
        values: FloatBytes<'a>,
    },
    /// The worker has its parameters, and this is their digest.
    Ready {
        /// Digest of x.
        digest: Digest,
    },
    /// How the batch of a round went; sent before the ballot.
    Report {
        /// The round.
        round: Round,
        /// Mean loss over the batch.
        loss: f32,
        /// Examples of the batch that were classified right.
        correct: u32,
        /// Examples in the batch.
        samples: u32,
        /// Coordinates whose gradient was not finite.
        non_finite: u64,
    },
    /// Signs and abstentions of one chunk.
    Ballot {
        /// The round voted in.
        round: Round,
        /// The chunk.
        chunk: u32,
        /// Signs and abstentions.
        planes: PlaneBytes<'a>,
    },
    /// The full gradient of one chunk.
    Gradient {
        /// The round.
        round: Round,
        /// The chunk.
        chunk: u32,
        /// The gradient.
        values: FloatBytes<'a>,
    },
    /// Digest of x after so many rounds.
    Digest {
        /// Rounds committed.
        round: Round,
        /// Digest of x.
        digest: Digest,
    },
    /// The worker's signature under its whole ballot of a round; behind the ballot's last chunk.
    Seal {
        /// The round.
        round: Round,
        /// See [`crate::seal`].
        signature: Signature,
    },
    /// Asks how the run stands, instead of greeting.
    Ask {
        /// The asker's protocol version.
        version: (u16, u16),
        /// How long the answer should be, in bytes; 0: as short as it is.
        bytes: u32,
    },
    /// A shard offers its service, instead of a greeting.
    Enrol(Enrolment),
    /// A shard has counted a chunk.
    Tallied(Tallied),
    /// A verdict, from a shard or passed on by a worker.
    Verdict {
        /// The round.
        round: Round,
        /// The chunk.
        chunk: u32,
        /// Signs and holds.
        planes: PlaneBytes<'a>,
    },
    /// A worker has cast all that it casts with this shard.
    Whole {
        /// The round.
        round: Round,
        /// Who.
        slot: Slot,
    },
    /// What a shard has carried for whom since it last said so.
    Carried(Vec<Carried>),
    /// A worker has broken a rule at a shard.
    Accuse {
        /// Who.
        slot: Slot,
        /// What it did.
        reason: String,
    },
    /// A worker does not get through to a shard.
    Unreachable {
        /// Which.
        shard: ShardId,
        /// Why.
        reason: String,
    },
    /// The running statistics that this worker's model has on its own data; when the run is over, after the digest.
    Statistics {
        /// Rounds committed.
        round: Round,
        /// One after the other, as many as the model has; at most d.
        values: FloatBytes<'a>,
    },
    /// The worker leaves.
    Bye {
        /// Why.
        reason: String,
    },
}

impl<'a> ToServer<'a> {
    /// Reads a whole frame, its length included.
    ///
    /// # Errors
    /// If it is no frame to a server.
    pub fn decode(frame: &'a [u8]) -> Result<Self, Error> {
        let (kind, mut reader) = super::split(frame)?;
        let message = match kind {
            kind::HELLO => Self::hello(&mut reader)?,
            kind::INIT => {
                let layout = Layout::decode(&mut reader)?;
                Self::Init { layout, settings: super::read_settings(&mut reader)? }
            }
            kind::VALUES => Self::Values { chunk: reader.u32()?, values: FloatBytes(reader.remaining()) },
            kind::READY => Self::Ready { digest: Digest(reader.array()?) },
            kind::REPORT => Self::Report {
                round: Round(reader.u64()?),
                loss: reader.f32()?,
                correct: reader.u32()?,
                samples: reader.u32()?,
                non_finite: reader.u64()?,
            },
            kind::BALLOT => Self::Ballot {
                round: Round(reader.u64()?),
                chunk: reader.u32()?,
                planes: PlaneBytes::new(reader.remaining()),
            },
            kind::GRADIENT => Self::Gradient {
                round: Round(reader.u64()?),
                chunk: reader.u32()?,
                values: FloatBytes(reader.remaining()),
            },
            kind::DIGEST => Self::Digest { round: Round(reader.u64()?), digest: Digest(reader.array()?) },
            kind::SEAL => Self::Seal { round: Round(reader.u64()?), signature: Signature(reader.array()?) },
            kind::ASK => {
                magic(&mut reader)?;
                let version = super::read_version(&mut reader)?;
                Self::Ask { version, bytes: if reader.left() == 4 { reader.u32()? } else { 0 } }
            }
            kind::ENROL => Self::Enrol(of_shards::read_enrolment(&mut reader)?),
            kind::TALLIED => Self::Tallied(of_shards::read_tallied(&mut reader)?),
            kind::VERDICT => Self::Verdict {
                round: Round(reader.u64()?),
                chunk: reader.u32()?,
                planes: PlaneBytes::new(reader.remaining()),
            },
            kind::WHOLE => {
                Self::Whole { round: Round(reader.u64()?), slot: of_shards::read_slot(&mut reader)? }
            }
            kind::CARRIED => Self::Carried(of_shards::read_carried(&mut reader)?),
            kind::ACCUSE => Self::Accuse {
                slot: of_shards::read_slot(&mut reader)?,
                reason: reader.string("reason", MAX_TEXT_BYTES)?,
            },
            kind::UNREACHABLE => Self::Unreachable {
                shard: ShardId(reader.u32()?),
                reason: reader.string("reason", MAX_TEXT_BYTES)?,
            },
            kind::STATISTICS => {
                Self::Statistics { round: Round(reader.u64()?), values: FloatBytes(reader.remaining()) }
            }
            kind::BYE => Self::Bye { reason: reader.string("reason", MAX_TEXT_BYTES)? },
            other => return Err(Error::malformed("frame kind", "a frame to a server", other)),
        };
        reader.finish()?;
        Ok(message)
    }

    fn hello(reader: &mut Reader<'_>) -> Result<Self, Error> {
        magic(reader)?;
        let version = super::read_version(reader)?;
        let features = reader.u64()?;
        let run = RunId(reader.array()?);
        Ok(Self::Hello {
            version,
            features,
            run: (run != RunId::default()).then_some(run),
            layout: reader.array()?,
            dimension: reader.u64()?,
            slot: reader.u16()?,
            name: reader.string("name", MAX_TEXT_BYTES)?,
            position: match reader.u8()? {
                0 => None,
                1 => Some(super::read_position(reader)?),
                other => return Err(Error::malformed("position", "0 or 1", other)),
            },
        })
    }
}

pub(super) fn magic(reader: &mut Reader<'_>) -> Result<(), Error> {
    let magic: [u8; 8] = reader.array()?;
    if magic == MAGIC {
        return Ok(());
    }
    let got = String::from_utf8_lossy(&magic).into_owned();
    Err(Error::malformed("greeting", "the signvote protocol", format!("{got:?}")))
}

/// What a worker says of itself first.
pub(crate) fn hello(
    features: u64,
    run: Option<RunId>,
    layout: &[u8; 32],
    dimension: usize,
    slot: u16,
    name: &str,
    position: Option<Position>,
) -> Bytes {
    let mut out = Writer::with_kind(kind::HELLO, 131 + name.len());
    out.bytes(&MAGIC);
    out.u16(super::MAJOR);
    out.u16(super::MINOR);
    out.u64(features);
    out.bytes(&run.unwrap_or_default().0);
    out.bytes(layout);
    out.u64(dimension as u64);
    out.u16(slot);
    out.string(bounded(name));
    match position {
        None => out.u8(0),
        Some(position) => {
            out.u8(1);
            super::write_position(&mut out, position);
        }
    }
    out.frame()
}

pub(crate) fn seal(round: Round, signature: &Signature) -> Bytes {
    let mut out = Writer::with_kind(kind::SEAL, 72);
    out.u64(round.0);
    out.bytes(&signature.0);
    out.frame()
}

/// Asks a server how its run stands; instead of a greeting. The answer shall have so many bytes, as far as the server goes along with that
/// ([`MAX_STATUS_BYTES`](super::MAX_STATUS_BYTES)): from how long it takes the rate of the link can be told. 0: as few as it has.
pub fn ask(bytes: u32) -> Bytes {
    let mut out = Writer::with_kind(kind::ASK, 16);
    out.bytes(&MAGIC);
    out.u16(super::MAJOR);
    out.u16(super::MINOR);
    if bytes > 0 {
        out.u32(bytes);
    }
    out.frame()
}

pub(crate) fn init(layout: &Layout, settings: &Settings) -> Bytes {
    let mut out = Writer::with_kind(kind::INIT, 0);
    out.bytes(&layout.encode());
    super::write_settings(&mut out, settings);
    out.frame()
}

/// Parameters of one chunk, in either direction.
pub(crate) fn values(chunk: usize, values: &[f32]) -> Bytes {
    let mut out = Writer::with_kind(kind::VALUES, 4 + values.len() * 4);
    out.u32(chunk as u32);
    out.floats(values);
    out.frame()
}

pub(crate) fn ready(digest: Digest) -> Bytes {
    let mut out = Writer::with_kind(kind::READY, 32);
    out.bytes(&digest.0);
    out.frame()
}

pub(crate) fn report(round: Round, loss: f32, correct: u32, samples: u32, non_finite: u64) -> Bytes {
    let mut out = Writer::with_kind(kind::REPORT, 28);
    out.u64(round.0);
    out.f32(loss);
    out.u32(correct);
    out.u32(samples);
    out.u64(non_finite);
    out.frame()
}

/// A piece of a ballot, in the memory of a spare frame if there is one.
pub(crate) fn ballot(
    round: Round,
    chunk: usize,
    signs: &[u64],
    abstain: &[u64],
    spare: &mut Vec<Bytes>,
) -> Bytes {
    let mut out = Writer::again(kind::BALLOT, 12 + planes::likely_bytes(signs.len()), spare);
    out.u64(round.0);
    out.u32(chunk as u32);
    planes::write(&mut out, signs, abstain);
    out.frame()
}

pub(crate) fn gradient(round: Round, chunk: usize, values: &[f32]) -> Bytes {
    let mut out = Writer::with_kind(kind::GRADIENT, 12 + values.len() * 4);
    out.u64(round.0);
    out.u32(chunk as u32);
    out.floats(values);
    out.frame()
}

pub(crate) fn digest(round: Round, digest: Digest) -> Bytes {
    let mut out = Writer::with_kind(kind::DIGEST, 40);
    out.u64(round.0);
    out.bytes(&digest.0);
    out.frame()
}

/// `values` fit a frame: see [`fits`].
pub(crate) fn statistics(round: Round, values: &[f32]) -> Bytes {
    let mut out = Writer::with_kind(kind::STATISTICS, 8 + values.len() * 4);
    out.u64(round.0);
    out.floats(values);
    out.frame()
}

/// Whether so many statistics fit a frame.
pub(crate) fn fits(statistics: usize) -> bool {
    statistics <= (super::MAX_FRAME_BYTES - 9) / 4
}

pub(crate) fn bye(reason: &str) -> Bytes {
    let mut out = Writer::with_kind(kind::BYE, 2 + reason.len());
    out.string(bounded(reason));
    out.frame()
}

/// A text cut to what the other side accepts.
pub(super) fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}
