//! Frames from the server to a worker.

use bytes::Bytes;
use signvote_kernels::AbstainOn;

use super::codec::{Reader, Writer};
use super::of_shards::{Shards, read_shards};
use super::to_server::bounded;
use super::{FloatBytes, MAX_TEXT_BYTES, PlaneBytes, kind, planes};
use crate::{
    AggregateKind, ChainHash, Error, Incarnation, Position, Round, RunId, Slot, SlotSet, StepRule, Terms,
};

/// Where a welcomed worker gets its first parameters from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The server has none yet: send yours, they become the run's.
    Offer,
    /// Make them from the run's seed and send their digest; if it differs, the server's follow.
    Compare,
    /// What brings the worker to the open round follows by itself: the verdicts that it has missed, or parameters.
    Follow,
}

/// Whether a refusal is for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// Coming back would not help.
    Never,
    /// What stands in the way passes: a place taken by a connection that may be dead, or offences not yet forgotten.
    Again,
}

/// A frame from the server to a worker.
#[derive(Debug)]
#[non_exhaustive]
pub enum ToWorker<'a> {
    /// The worker has a place, and these are the terms.
    Welcome {
        /// The server's protocol version.
        version: (u16, u16),
        /// Optional features that both sides know.
        features: u64,
        /// The worker's place.
        slot: Slot,
        /// How to come by x.
        start: Start,
        /// The terms of the run.
        terms: Box<Terms>,
    },
    /// The worker cannot take part; the connection ends.
    Refused {
        /// Whether it may come again.
        later: Later,
        /// Why.
        reason: String,
    },
    /// The state at the start of a round; d parameters follow as `Values`.
    State {
        /// The round, and what was committed before it.
        position: Position,
    },
    /// Parameters of one chunk.
    Values {
        /// The chunk.
        chunk: u32,
        /// Its parameters.
        values: FloatBytes<'a>,
    },
    /// Ballots for this round are welcome. After a commit the next round is open without saying.
    Open {
        /// The round, and what was committed before it.
        position: Position,
    },
    /// The verdict over one chunk: signs and holds.
    Verdict {
        /// The round.
        round: Round,
        /// The chunk.
        chunk: u32,
        /// Signs and holds.
        planes: PlaneBytes<'a>,
    },
    /// The dense direction u of one chunk.
    Update {
        /// The round.
        round: Round,
        /// The chunk.
        chunk: u32,
        /// The direction.
        values: FloatBytes<'a>,
    },
    /// The round is decided: apply it.
    Commit {
        /// The round.
        round: Round,
        /// The server's incarnation.
        incarnation: Incarnation,
        /// η of this round.
        eta: f32,
        /// λ of this round.
        lambda: f32,
        /// η that the next round will have unless its own commit says otherwise: a worker may prepare its step.
        next_eta: f32,
        /// Whose ballots counted, in at least one chunk.
        voters: SlotSet,
        /// Chain hash with this commit in it.
        chain: ChainHash,
    },
    /// The run is over; the server waits for the final digest.
    Finish {
        /// Why.
        reason: String,
    },
    /// The server goes, the run does not: look for it again.
    Pause {
        /// Why.
        reason: String,
    },
    /// The worker is where it should be, and what it waits for has yet to come.
    Wait {
        /// What that is.
        reason: String,
    },
    /// Where the shards are, in a run that has any: before the first opening, and whenever that changes. Verdicts of the open
    /// round on chunks that have moved are void.
    Shards(Box<Shards>),
    /// Of the verdicts on a chunk that its shards do not agree on, this one counts.
    Chosen {
        /// The round.
        round: Round,
        /// The chunk.
        chunk: u32,
        /// Hash of the verdict.
        hash: [u8; 32],
    },
    /// How the run stands, in answer to `Ask`.
    Status {
        /// A [`crate::Status`] as JSON.
        json: String,
    },
}

impl<'a> ToWorker<'a> {
    /// Reads a whole frame, its length included.
    ///
    /// # Errors
    /// If it is no frame to a worker.
    pub fn decode(frame: &'a [u8]) -> Result<Self, Error> {
        let (kind, mut reader) = super::split(frame)?;
        let message = match kind {
            kind::WELCOME => welcome_from(&mut reader)?,
            kind::REFUSED => {
                let (later, reason) = read_refusal(&mut reader)?;
                Self::Refused { later, reason }
            }
            kind::STATE => Self::State { position: super::read_position(&mut reader)? },
            kind::VALUES => Self::Values { chunk: reader.u32()?, values: FloatBytes(reader.remaining()) },
            kind::OPEN => Self::Open { position: super::read_position(&mut reader)? },
            kind::VERDICT => Self::Verdict {
                round: Round(reader.u64()?),
                chunk: reader.u32()?,
                planes: PlaneBytes::new(reader.remaining()),
            },
            kind::UPDATE => Self::Update {
                round: Round(reader.u64()?),
                chunk: reader.u32()?,
                values: FloatBytes(reader.remaining()),
            },
            kind::COMMIT => Self::Commit {
                round: Round(reader.u64()?),
                incarnation: Incarnation(reader.u32()?),
                eta: reader.f32()?,
                lambda: reader.f32()?,
                next_eta: reader.f32()?,
                voters: voters_from(&mut reader)?,
                chain: ChainHash(reader.array()?),
            },
            kind::FINISH => Self::Finish { reason: reader.string("reason", MAX_TEXT_BYTES)? },
            kind::PAUSE => Self::Pause { reason: reader.string("reason", MAX_TEXT_BYTES)? },
            kind::WAIT => Self::Wait { reason: reader.string("reason", MAX_TEXT_BYTES)? },
            kind::SHARDS => Self::Shards(Box::new(read_shards(&mut reader)?)),
            kind::CHOSEN => {
                Self::Chosen { round: Round(reader.u64()?), chunk: reader.u32()?, hash: reader.array()? }
            }
            kind::STATUS => match std::str::from_utf8(reader.remaining()) {
                Ok(json) => Self::Status { json: json.to_owned() },
                Err(error) => return Err(Error::malformed("status", "UTF-8", error)),
            },
            other => return Err(Error::malformed("frame kind", "a frame to a worker", other)),
        };
        reader.finish()?;
        Ok(message)
    }
}

pub(super) fn read_refusal(reader: &mut Reader<'_>) -> Result<(Later, String), Error> {
    let later = match reader.u8()? {
        0 => Later::Never,
        1 => Later::Again,
        other => return Err(Error::malformed("refusal", "0 or 1", other)),
    };
    Ok((later, reader.string("reason", MAX_TEXT_BYTES)?))
}

fn welcome_from<'a>(reader: &mut Reader<'a>) -> Result<ToWorker<'a>, Error> {
    let version = super::read_version(reader)?;
    let features = reader.u64()?;
    let slot = reader.u16()?;
    let slot = Slot::new(slot).ok_or_else(|| Error::malformed("place", "1 or more", slot))?;
    let start = match reader.u8()? {
        0 => Start::Offer,
        1 => Start::Compare,
        2 => Start::Follow,
        other => return Err(Error::malformed("start", "0 to 2", other)),
    };
    let terms = read_terms(reader)?;
    Ok(ToWorker::Welcome { version, features, slot, start, terms: Box::new(terms) })
}

pub(crate) fn read_terms(reader: &mut Reader<'_>) -> Result<Terms, Error> {
    Ok(Terms {
        run: RunId(reader.array()?),
        workers: reader.u16()?,
        batch: reader.u32()?,
        seed: reader.u64()?,
        rounds: reader.u64()?,
        aggregate: match reader.u8()? {
            0 => AggregateKind::Vote,
            1 => AggregateKind::Mean,
            other => return Err(Error::malformed("aggregate", "0 or 1", other)),
        },
        beta: reader.f32()?,
        abstain_on: match reader.u8()? {
            0 => AbstainOn::Momentum,
            1 => AbstainOn::Gradient,
            other => return Err(Error::malformed("abstention rule", "0 or 1", other)),
        },
        chunk_coordinates: reader.u32()?,
        digest_every: reader.u64()?,
        max_non_finite: reader.u32()?,
        signed: flag(reader, "signed")?,
        step: StepRule { decay_matrices: flag(reader, "decay")?, layerwise: flag(reader, "rates")? },
        settings: super::read_settings(reader)?,
    })
}

fn flag(reader: &mut Reader<'_>, what: &'static str) -> Result<bool, Error> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Error::malformed(what, "0 or 1", other)),
    }
}

pub(crate) fn voters_from(reader: &mut Reader<'_>) -> Result<SlotSet, Error> {
    let count = usize::from(reader.u16()?);
    if count > 1024 {
        return Err(Error::malformed("voters", "at most 1024 words", count));
    }
    let words = (0..count).map(|_| reader.u64()).collect::<Result<Vec<_>, _>>()?;
    Ok(SlotSet::from_words(words))
}

pub(crate) fn welcome(features: u64, slot: Slot, start: Start, terms: &Terms) -> Bytes {
    let mut out = Writer::with_kind(kind::WELCOME, 128);
    out.u16(super::MAJOR);
    out.u16(super::MINOR);
    out.u64(features);
    out.u16(slot.number());
    out.u8(match start {
        Start::Offer => 0,
        Start::Compare => 1,
        Start::Follow => 2,
    });
    write_terms(&mut out, terms);
    out.frame()
}

pub(crate) fn write_terms(out: &mut Writer, terms: &Terms) {
    out.bytes(&terms.run.0);
    out.u16(terms.workers);
    out.u32(terms.batch);
    out.u64(terms.seed);
    out.u64(terms.rounds);
    out.u8(match terms.aggregate {
        AggregateKind::Vote => 0,
        AggregateKind::Mean => 1,
    });
    out.f32(terms.beta);
    out.u8(match terms.abstain_on {
        AbstainOn::Momentum => 0,
        AbstainOn::Gradient => 1,
    });
    out.u32(terms.chunk_coordinates);
    out.u64(terms.digest_every);
    out.u32(terms.max_non_finite);
    out.u8(u8::from(terms.signed));
    out.u8(u8::from(terms.step.decay_matrices));
    out.u8(u8::from(terms.step.layerwise));
    super::write_settings(out, &terms.settings);
}

pub(crate) fn refused(later: Later, reason: &str) -> Bytes {
    let mut out = Writer::with_kind(kind::REFUSED, 3 + reason.len());
    out.u8(match later {
        Later::Never => 0,
        Later::Again => 1,
    });
    out.string(bounded(reason));
    out.frame()
}

/// How the run stands. Cut to the longest frame; a status has a row a worker, and is far shorter.
pub fn status(json: &str) -> Bytes {
    let json = &json[..json.floor_char_boundary(super::MAX_FRAME_BYTES - 1)];
    let mut out = Writer::with_kind(kind::STATUS, json.len());
    out.bytes(json.as_bytes());
    out.frame()
}

pub(crate) fn pause(reason: &str) -> Bytes {
    text(kind::PAUSE, reason)
}

pub(crate) fn wait(reason: &str) -> Bytes {
    text(kind::WAIT, reason)
}

pub(crate) fn finish(reason: &str) -> Bytes {
    text(kind::FINISH, reason)
}

fn text(kind: u8, reason: &str) -> Bytes {
    let mut out = Writer::with_kind(kind, 2 + reason.len());
    out.string(bounded(reason));
    out.frame()
}

pub(crate) fn state(at: Position) -> Bytes {
    position(kind::STATE, at)
}

pub(crate) fn open(at: Position) -> Bytes {
    position(kind::OPEN, at)
}

fn position(kind: u8, position: Position) -> Bytes {
    let mut out = Writer::with_kind(kind, 44);
    super::write_position(&mut out, position);
    out.frame()
}

/// A verdict, in the memory of a spare frame if there is one.
pub(crate) fn verdict(
    round: Round,
    chunk: usize,
    signs: &[u64],
    hold: &[u64],
    spare: &mut Vec<Bytes>,
) -> Bytes {
    let mut out = Writer::again(kind::VERDICT, 12 + planes::likely_bytes(signs.len()), spare);
    out.u64(round.0);
    out.u32(chunk as u32);
    planes::write(&mut out, signs, hold);
    out.frame()
}

pub(crate) fn update(round: Round, chunk: usize, values: &[f32]) -> Bytes {
    let mut out = Writer::with_kind(kind::UPDATE, 12 + values.len() * 4);
    out.u64(round.0);
    out.u32(chunk as u32);
    out.floats(values);
    out.frame()
}

pub(crate) fn commit(link: &crate::chain::Link<'_>, next_eta: f32, chain: ChainHash) -> Bytes {
    let voters = link.voters.as_words();
    let mut out = Writer::with_kind(kind::COMMIT, 58 + voters.len() * 8);
    out.u64(link.round.0);
    out.u32(link.incarnation.0);
    out.f32(link.eta);
    out.f32(link.lambda);
    out.f32(next_eta);
    out.u16(voters.len() as u16);
    out.words(voters);
    out.bytes(&chain.0);
    out.frame()
}
