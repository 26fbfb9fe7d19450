//! Frames of the sharded form: between a shard and its server, and what a worker says at a shard's door.

use bytes::Bytes;

use super::codec::{Reader, Writer};
use super::to_server::bounded;
use super::{MAX_TEXT_BYTES, kind};
use crate::{Error, Round, RunId, ShardAddress, ShardId, Sharding, Slot, SlotSet, TiePolicy};

/// Bytes of what a worker proves its place with at a shard.
pub(crate) const TICKET_BYTES: usize = 16;

/// What a worker shows at a shard: the server has told both.
pub(crate) type Ticket = [u8; TICKET_BYTES];

/// Most positions in a sharding's period.
const MOST_POSITIONS: usize = 1 << 16;

/// What a shard has to know of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Charge {
    pub(crate) id: ShardId,
    pub(crate) run: RunId,
    pub(crate) dimension: u64,
    pub(crate) chunk_coordinates: u32,
    pub(crate) workers: u16,
    pub(crate) tie: TiePolicy,
    pub(crate) min_voters: u32,
    pub(crate) seed: u64,
    pub(crate) quorum: u32,
    pub(crate) hashed: bool,
}

/// The open round, as its server has it: said at its opening, and whenever something about it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The round.
    pub(crate) round: Round,
    /// Whose ballots are waited for.
    pub(crate) expected: SlotSet,
    /// Whether the deadline has passed: a quorum is enough.
    pub(crate) deadline_passed: bool,
    /// Whether the server wants the verdicts from its shards.
    pub(crate) feed: bool,
    /// Who tallies what.
    pub(crate) sharding: Sharding,
}

/// What a shard has counted in one chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tallied {
    /// The round.
    pub(crate) round: Round,
    /// The chunk.
    pub(crate) chunk: u32,
    /// Hash of the verdict.
    pub(crate) hash: [u8; 32],
    /// Coordinates with as many votes for as against.
    pub(crate) ties: u32,
    /// Coordinates that hold.
    pub(crate) holds: u32,
    /// Whose ballots counted, ascending, with the coordinates in which each agreed and disagreed with the verdict.
    pub(crate) voters: Vec<(Slot, u32, u32)>,
    /// Hashes of these ballots, if ballots are signed; as many as voters, or none.
    pub(crate) ballots: Vec<[u8; 32]>,
}

/// A frame from a server to one of its shards.
#[derive(Debug)]
#[non_exhaustive]
pub enum ToShard {
    /// It is enrolled.
    Charge(#[doc(hidden)] Box<ChargeFrame>),
    /// Who may cast ballots with it.
    Seats(Vec<(Slot, Ticket)>),
    /// How the open round stands.
    Tally(Tally),
    /// It cannot take part, or no longer.
    Refused {
        /// Whether it may come again.
        later: super::Later,
        /// Why.
        reason: String,
    },
    /// The run is over.
    Finish {
        /// Why.
        reason: String,
    },
    /// The server goes and comes back.
    Pause {
        /// Why.
        reason: String,
    },
}

/// The content of [`ToShard::Charge`].
#[derive(Debug)]
pub struct ChargeFrame(pub(crate) Charge);

impl ToShard {
    /// Reads a whole frame, its length included.
    ///
    /// # Errors
    /// If it is no frame to a shard.
    pub fn decode(frame: &[u8]) -> Result<Self, Error> {
        let (kind, mut reader) = super::split(frame)?;
        let message = match kind {
            kind::CHARGE => Self::Charge(Box::new(ChargeFrame(read_charge(&mut reader)?))),
            kind::SEATS => {
                let count = usize::from(reader.u16()?);
                let seat = |_| Ok((read_slot(&mut reader)?, reader.array()?));
                Self::Seats((0..count).map(seat).collect::<Result<_, Error>>()?)
            }
            kind::TALLY => Self::Tally(Tally {
                round: Round(reader.u64()?),
                deadline_passed: read_flag(&mut reader)?,
                feed: read_flag(&mut reader)?,
                expected: super::to_worker::voters_from(&mut reader)?,
                sharding: read_sharding(&mut reader)?,
            }),
            kind::REFUSED => {
                let (later, reason) = super::to_worker::read_refusal(&mut reader)?;
                Self::Refused { later, reason }
            }
            kind::FINISH => Self::Finish { reason: reader.string("reason", MAX_TEXT_BYTES)? },
            kind::PAUSE => Self::Pause { reason: reader.string("reason", MAX_TEXT_BYTES)? },
            other => return Err(Error::malformed("frame kind", "a frame to a shard", other)),
        };
        reader.finish()?;
        Ok(message)
    }
}

fn read_charge(reader: &mut Reader<'_>) -> Result<Charge, Error> {
    super::read_version(reader)?;
    Ok(Charge {
        id: ShardId(reader.u32()?),
        run: RunId(reader.array()?),
        dimension: reader.u64()?,
        chunk_coordinates: reader.u32()?,
        workers: reader.u16()?,
        tie: super::read_tie(reader)?,
        min_voters: reader.u32()?,
        seed: reader.u64()?,
        quorum: reader.u32()?,
        hashed: read_flag(reader)?,
    })
}

pub(crate) fn charge(charge: &Charge) -> Bytes {
    let mut out = Writer::with_kind(kind::CHARGE, 64);
    out.u16(super::MAJOR);
    out.u16(super::MINOR);
    out.u32(charge.id.0);
    out.bytes(&charge.run.0);
    out.u64(charge.dimension);
    out.u32(charge.chunk_coordinates);
    out.u16(charge.workers);
    super::write_tie(&mut out, charge.tie);
    out.u32(charge.min_voters);
    out.u64(charge.seed);
    out.u32(charge.quorum);
    out.u8(u8::from(charge.hashed));
    out.frame()
}

pub(crate) fn seats(seats: &[(Slot, Ticket)]) -> Bytes {
    let mut out = Writer::with_kind(kind::SEATS, 2 + seats.len() * 18);
    out.u16(seats.len() as u16);
    for (slot, ticket) in seats {
        out.u16(slot.number());
        out.bytes(ticket);
    }
    out.frame()
}

pub(crate) fn tally(tally: &Tally) -> Bytes {
    let mut out = Writer::with_kind(kind::TALLY, 64);
    out.u64(tally.round.0);
    out.u8(u8::from(tally.deadline_passed));
    out.u8(u8::from(tally.feed));
    let voters = tally.expected.as_words();
    out.u16(voters.len() as u16);
    out.words(voters);
    write_sharding(&mut out, &tally.sharding);
    out.frame()
}

fn write_sharding(out: &mut Writer, sharding: &Sharding) {
    let positions = sharding.positions();
    out.u32(positions.len() as u32);
    for holders in positions {
        out.u8(holders.len() as u8);
        holders.iter().for_each(|shard| out.u32(shard.0));
    }
}

fn read_sharding(reader: &mut Reader<'_>) -> Result<Sharding, Error> {
    let count = reader.u32()? as usize;
    if count > MOST_POSITIONS {
        return Err(Error::malformed("sharding", format!("at most {MOST_POSITIONS} positions"), count));
    }
    let mut positions = Vec::new();
    for _ in 0..count {
        let holders = usize::from(reader.u8()?);
        if holders == 0 {
            return Err(Error::malformed("sharding", "a holder of each position", 0));
        }
        positions.push((0..holders).map(|_| Ok(ShardId(reader.u32()?))).collect::<Result<Vec<_>, Error>>()?);
    }
    Ok(Sharding::from_positions(positions))
}

/// Where a worker finds the shards, who tallies what, and what it shows at their doors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shards {
    /// Shown at each shard's door.
    pub(crate) ticket: Ticket,
    /// Whether this worker passes verdicts on to the server.
    pub(crate) relays: bool,
    /// The shards.
    pub(crate) addresses: Vec<ShardAddress>,
    /// Who tallies what.
    pub(crate) sharding: Sharding,
}

pub(crate) fn shards(shards: &Shards) -> Bytes {
    let mut out = Writer::with_kind(kind::SHARDS, 64);
    out.bytes(&shards.ticket);
    out.u8(u8::from(shards.relays));
    out.u16(shards.addresses.len() as u16);
    for shard in &shards.addresses {
        out.u32(shard.id.0);
        out.string(bounded(&shard.name));
        out.string(bounded(&shard.address));
    }
    write_sharding(&mut out, &shards.sharding);
    out.frame()
}

pub(crate) fn read_shards(reader: &mut Reader<'_>) -> Result<Shards, Error> {
    let (ticket, relays) = (reader.array()?, read_flag(reader)?);
    let mut addresses = Vec::new();
    for _ in 0..reader.u16()? {
        addresses.push(ShardAddress {
            id: ShardId(reader.u32()?),
            name: reader.string("name", MAX_TEXT_BYTES)?,
            address: reader.string("address", MAX_TEXT_BYTES)?,
        });
    }
    let sharding = read_sharding(reader)?;
    let known = |id: &ShardId| addresses.iter().any(|shard| shard.id == *id);
    if let Some(id) = sharding.positions().iter().flatten().find(|id| !known(id)) {
        return Err(Error::malformed("sharding", "shards with an address", id));
    }
    Ok(Shards { ticket, relays, addresses, sharding })
}

/// What a worker says at a shard's door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Knock {
    pub(crate) run: RunId,
    pub(crate) slot: Slot,
    pub(crate) ticket: Ticket,
}

pub(crate) fn knock(knock: &Knock) -> Bytes {
    let mut out = Writer::with_kind(kind::KNOCK, 46);
    out.bytes(&super::MAGIC);
    out.u16(super::MAJOR);
    out.u16(super::MINOR);
    out.bytes(&knock.run.0);
    out.u16(knock.slot.number());
    out.bytes(&knock.ticket);
    out.frame()
}

pub(crate) fn read_knock(frame: &[u8]) -> Result<Knock, Error> {
    let (kind, mut reader) = super::split(frame)?;
    if kind != kind::KNOCK {
        return Err(Error::malformed("frame kind", "a worker's knock at a shard", kind));
    }
    super::to_server::magic(&mut reader)?;
    super::read_version(&mut reader)?;
    let knock = Knock { run: RunId(reader.array()?), slot: read_slot(&mut reader)?, ticket: reader.array()? };
    reader.finish()?;
    Ok(knock)
}

/// What a shard says of itself first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// The only run that it wants to serve, if it cares.
    pub run: Option<RunId>,
    /// Its name for people; the name in its certificate goes before.
    pub name: String,
    /// Where workers find it, `host:port`; without a host: where it comes from.
    pub address: String,
}

pub(crate) fn enrol(enrolment: &Enrolment) -> Bytes {
    let mut out = Writer::with_kind(kind::ENROL, 64);
    out.bytes(&super::MAGIC);
    out.u16(super::MAJOR);
    out.u16(super::MINOR);
    out.u64(0);
    out.bytes(&enrolment.run.unwrap_or_default().0);
    out.string(bounded(&enrolment.name));
    out.string(bounded(&enrolment.address));
    out.frame()
}

pub(crate) fn read_enrolment(reader: &mut Reader<'_>) -> Result<Enrolment, Error> {
    super::to_server::magic(reader)?;
    super::read_version(reader)?;
    reader.u64()?;
    let run = RunId(reader.array()?);
    Ok(Enrolment {
        run: (run != RunId::default()).then_some(run),
        name: reader.string("name", MAX_TEXT_BYTES)?,
        address: reader.string("address", MAX_TEXT_BYTES)?,
    })
}

pub(crate) fn tallied(tallied: &Tallied) -> Bytes {
    let mut out =
        Writer::with_kind(kind::TALLIED, 60 + tallied.voters.len() * 10 + tallied.ballots.len() * 32);
    out.u64(tallied.round.0);
    out.u32(tallied.chunk);
    out.bytes(&tallied.hash);
    out.u32(tallied.ties);
    out.u32(tallied.holds);
    out.u16(tallied.voters.len() as u16);
    for &(slot, agree, disagree) in &tallied.voters {
        out.u16(slot.number());
        out.u32(agree);
        out.u32(disagree);
    }
    out.u8(u8::from(!tallied.ballots.is_empty()));
    tallied.ballots.iter().for_each(|hash| out.bytes(hash));
    out.frame()
}

pub(crate) fn read_tallied(reader: &mut Reader<'_>) -> Result<Tallied, Error> {
    let (round, chunk, hash) = (Round(reader.u64()?), reader.u32()?, reader.array()?);
    let (ties, holds) = (reader.u32()?, reader.u32()?);
    let mut voters: Vec<(Slot, u32, u32)> = Vec::new();
    for _ in 0..reader.u16()? {
        let voter = (read_slot(reader)?, reader.u32()?, reader.u32()?);
        if voters.last().is_some_and(|last| last.0 >= voter.0) {
            return Err(Error::malformed("voters", "ascending places, each once", voter.0));
        }
        voters.push(voter);
    }
    let hashed = read_flag(reader)?;
    let ballots = (0..if hashed { voters.len() } else { 0 }).map(|_| reader.array());
    let ballots = ballots.collect::<Result<_, _>>()?;
    Ok(Tallied { round, chunk, hash, ties, holds, voters, ballots })
}

/// A worker has cast all that it casts with this shard.
pub(crate) fn whole(round: Round, slot: Slot) -> Bytes {
    let mut out = Writer::with_kind(kind::WHOLE, 10);
    out.u64(round.0);
    out.u16(slot.number());
    out.frame()
}

/// Bytes of one worker's ballots and verdicts at a shard, frames' headers included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Whose.
    pub(crate) slot: Slot,
    /// From the worker.
    pub(crate) up_bytes: u64,
    /// To the worker.
    pub(crate) down_bytes: u64,
}

/// What has been carried since this was last said.
pub(crate) fn carried(rows: &[Carried]) -> Bytes {
    let mut out = Writer::with_kind(kind::CARRIED, 2 + rows.len() * 18);
    out.u16(rows.len() as u16);
    for row in rows {
        out.u16(row.slot.number());
        out.u64(row.up_bytes);
        out.u64(row.down_bytes);
    }
    out.frame()
}

pub(crate) fn read_carried(reader: &mut Reader<'_>) -> Result<Vec<Carried>, Error> {
    let count = reader.u16()?;
    let row = |_| {
        let slot = read_slot(reader)?;
        Ok(Carried { slot, up_bytes: reader.u64()?, down_bytes: reader.u64()? })
    };
    (0..count).map(row).collect()
}

/// A worker has broken a rule at a shard.
pub(crate) fn accuse(slot: Slot, reason: &str) -> Bytes {
    let mut out = Writer::with_kind(kind::ACCUSE, 4 + reason.len());
    out.u16(slot.number());
    out.string(bounded(reason));
    out.frame()
}

/// A worker does not get through to a shard.
pub(crate) fn unreachable(shard: ShardId, reason: &str) -> Bytes {
    let mut out = Writer::with_kind(kind::UNREACHABLE, 6 + reason.len());
    out.u32(shard.0);
    out.string(bounded(reason));
    out.frame()
}

/// Which of several verdicts on a chunk counts.
pub(crate) fn chosen(round: Round, chunk: usize, hash: &[u8; 32]) -> Bytes {
    let mut out = Writer::with_kind(kind::CHOSEN, 44);
    out.u64(round.0);
    out.u32(chunk as u32);
    out.bytes(hash);
    out.frame()
}

pub(crate) fn read_slot(reader: &mut Reader<'_>) -> Result<Slot, Error> {
    let number = reader.u16()?;
    Slot::new(number).ok_or_else(|| Error::malformed("place", "1 or more", number))
}

fn read_flag(reader: &mut Reader<'_>) -> Result<bool, Error> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Error::malformed("flag", "0 or 1", other)),
    }
}
