//! A shard: it tallies its part of the coordinates, and leaves rounds, membership and deadlines to its server.
//!
//! Feed it with [`Shard::handle_server`] what its server says, and with [`Shard::connected`], [`Shard::handle`] and
//! [`Shard::disconnected`] what workers do; after each call take [`Shard::poll`] until it is empty. It has no clock. When the
//! connection to the server is lost, make another one and call [`Shard::reconnect`].
//!
//! Server and workers reach a shard over different connections, so that their words come in any order: ballots for
//! the round after this one, or for a chunk that is not yet this shard's, are kept until the server has said what they are.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::ballots::{Ballots, Piece, Rules};
use crate::decision::{self, Turnout};
use crate::wire::of_shards::{self, Carried, Charge, Enrolment, Knock, Tallied, Tally, Ticket, ToShard};
use crate::wire::{Later, ToServer, to_worker};
use crate::{AggregateKind, Chunking, Error, Optimizer, PeerId, Round, ShardId, Slot, SlotSet};

/// What the shell of a shard has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShardOutput {
    /// Send this frame to the server.
    Server(Bytes),
    /// Send this frame to a worker.
    Send {
        /// To whom.
        peer: PeerId,
        /// The frame, its length included; shared between the peers of a broadcast.
        frame: Bytes,
    },
    /// Send what is queued for this worker, then close its connection. It is forgotten.
    Close {
        /// Whose.
        peer: PeerId,
    },
}

/// What a server has said that ends a shard's connection with it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dismissal {
    /// The run is over.
    Finished(String),
    /// The server goes and comes back.
    Paused(String),
    /// The shard was refused.
    Refused {
        /// Whether it may come again.
        later: Later,
        /// Why.
        reason: String,
    },
}

/// A worker's connection: whose it is, once it has shown its ticket.
#[derive(Debug, Default)]
struct Visitor {
    seat: Option<(Slot, Ticket)>,
}

/// One chunk of the open round.
#[derive(Debug, Default)]
struct Chunk {
    voted: SlotSet,
    /// The frame that told the verdict.
    decided: Option<Bytes>,
}

/// What is known once the shard is enrolled.
#[derive(Debug)]
struct Work {
    charge: Charge,
    chunking: Chunking,
    ballots: Ballots,
    seats: BTreeMap<Slot, Ticket>,
    /// The open round, once the server has said which that is.
    tally: Option<Tally>,
    chunks: Vec<Chunk>,
    /// On how many of this shard's chunks each place has voted, and how many those are.
    cast: Vec<usize>,
    held: usize,
    /// How many are not decided.
    undecided: usize,
    /// Bytes from and to each place that the server has not been told.
    carried: Vec<(u64, u64)>,
    /// Ballots that came before the server's word.
    early: BTreeMap<(Round, usize, Slot), Bytes>,
}

/// A shard's state machine.
#[derive(Debug)]
pub struct Shard {
    enrolment: Enrolment,
    work: Option<Work>,
    visitors: BTreeMap<PeerId, Visitor>,
    outputs: VecDeque<ShardOutput>,
}

impl Shard {
    /// A shard that offers its service; what it says of itself is ready to be sent.
    pub fn new(enrolment: Enrolment) -> Self {
        let mut shard = Self { enrolment, work: None, visitors: BTreeMap::new(), outputs: VecDeque::new() };
        shard.enrol();
        shard
    }

    /// The connection to the server is gone and there is another one. Everything begins anew: what this shard held has moved
    /// to others.
    pub fn reconnect(&mut self) {
        self.outputs.clear();
        self.dismiss_all("this shard has lost its server");
        self.work = None;
        self.enrol();
    }

    fn enrol(&mut self) {
        self.outputs.push_back(ShardOutput::Server(of_shards::enrol(&self.enrolment)));
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<ShardOutput> {
        self.outputs.pop_front()
    }

    /// The open round, if this shard is enrolled and knows of one.
    pub fn round(&self) -> Option<Round> {
        self.work.as_ref()?.tally.as_ref().map(|tally| tally.round)
    }

    /// What its server calls this shard, once it is enrolled.
    pub fn id(&self) -> Option<ShardId> {
        self.work.as_ref().map(|work| work.charge.id)
    }

    /// Bytes that a whole verdict of this shard's has at most: a measure for what may wait for a worker.
    pub fn verdict_bytes(&self) -> usize {
        self.work.as_ref().map_or(0, |work| work.held * (work.charge.chunk_coordinates as usize / 4 + 64))
    }

    /// Longest frame that a worker may send, without its length: that of a ballot. It does not wait for an answer to its
    /// knock, so that this holds from the beginning.
    pub const MAX_FRAME_BYTES: usize = 32 << 10;

    /// Connections that have not shown a ticket, the oldest first.
    pub fn strangers(&self) -> Vec<PeerId> {
        self.visitors.iter().filter(|(_, visitor)| visitor.seat.is_none()).map(|(&peer, _)| peer).collect()
    }

    /// A worker has connected.
    pub fn connected(&mut self, peer: PeerId) {
        self.visitors.insert(peer, Visitor::default());
    }

    /// A worker's connection has ended. What it has cast stands.
    pub fn disconnected(&mut self, peer: PeerId) {
        self.visitors.remove(&peer);
    }

    /// A worker has broken a rule of the shell, such as the length of a frame, or takes its verdicts too slowly: it is told why.
    pub fn refuse(&mut self, peer: PeerId, later: Later, reason: &str) {
        if self.visitors.remove(&peer).is_some() {
            self.send(peer, to_worker::refused(later, reason));
            self.outputs.push_back(ShardOutput::Close { peer });
        }
    }

    /// A whole frame, its length included, has come from a worker. Whoever breaks the protocol is put out, and the server
    /// hears of it.
    pub fn handle(&mut self, peer: PeerId, frame: &Bytes) {
        let Some(visitor) = self.visitors.get(&peer) else { return };
        let seat = visitor.seat;
        let received = match seat {
            None => self.let_in(peer, frame),
            Some((slot, _)) => self.take(slot, frame),
        };
        let Err(error) = received else { return };
        let reason = error.to_string();
        if let Some((slot, _)) = seat {
            self.outputs.push_back(ShardOutput::Server(of_shards::accuse(slot, &reason)));
        }
        let later = if seat.is_none() { Later::Again } else { Later::Never };
        self.refuse(peer, later, &reason);
    }

    /// A worker shows its ticket.
    fn let_in(&mut self, peer: PeerId, frame: &[u8]) -> Result<(), Error> {
        let Knock { run, slot, ticket } = of_shards::read_knock(frame)?;
        // The server's word about this worker may be on its way: it comes again.
        let Some(work) = self.work.as_mut().filter(|work| work.charge.run == run) else {
            return Err(Error::misbehaved(
                "knock at a shard of the run",
                "this shard has no server, or another run's",
            ));
        };
        if work.seats.get(&slot) != Some(&ticket) {
            return Err(Error::misbehaved(
                "show the ticket that the server gave",
                format!("worker {slot} has another"),
            ));
        }
        let of_slot = |visitor: &Visitor| visitor.seat.is_some_and(|(known, _)| known == slot);
        let before: Vec<_> =
            self.visitors.iter().filter(|(_, it)| of_slot(it)).map(|(&peer, _)| peer).collect();
        let decided: Vec<_> = work.chunks.iter().filter_map(|chunk| chunk.decided.clone()).collect();
        if let Some(visitor) = self.visitors.get_mut(&peer) {
            visitor.seat = Some((slot, ticket));
        }
        for old in before {
            self.refuse(old, Later::Never, "another connection of the same worker has replaced this one");
        }
        decided.into_iter().for_each(|frame| self.send(peer, frame));
        Ok(())
    }

    /// A worker casts a piece of its ballot.
    fn take(&mut self, slot: Slot, frame: &Bytes) -> Result<(), Error> {
        let ToServer::Ballot { round, chunk, .. } = ToServer::decode(frame)? else {
            return Err(Error::misbehaved("send ballots to a shard", "another frame"));
        };
        let Some(work) = &mut self.work else { return Ok(()) };
        work.carried[slot.index()].0 += frame.len() as u64;
        let chunk = chunk as usize;
        if chunk >= work.chunking.count() {
            let details = format!("chunk {chunk} of {}", work.chunking.count());
            return Err(Error::misbehaved("vote on chunks that exist", details));
        }
        let open = work.tally.as_ref().map_or(round, |tally| tally.round);
        if round > open.next() {
            let details = format!("worker {slot} voted in round {round} while round {open} is open");
            return Err(Error::misbehaved("vote in the open round", details));
        }
        if round < open {
            return Ok(());
        }
        let mine = work.tally.as_ref().is_some_and(|it| it.sharding.holds(work.charge.id, chunk));
        if round > open || !mine {
            work.early.entry((round, chunk, slot)).or_insert_with(|| frame.clone());
            return Ok(());
        }
        self.count(slot, chunk, frame)
    }

    /// Counts a ballot of the open round on a chunk of this shard's.
    fn count(&mut self, slot: Slot, chunk: usize, frame: &[u8]) -> Result<(), Error> {
        let Some(work) = &mut self.work else { return Ok(()) };
        let ToServer::Ballot { round, planes, .. } = ToServer::decode(frame)? else { return Ok(()) };
        let state = &mut work.chunks[chunk];
        // Late; or cast before: the first one counts. Who has lost its connection, or was sent the state again, casts all again.
        if state.decided.is_some() || state.voted.contains(slot) {
            return Ok(());
        }
        work.ballots.take(slot, chunk, Piece::Planes(planes))?;
        state.voted.insert(slot);
        work.cast[slot.index()] += 1;
        if work.cast[slot.index()] == work.held {
            self.outputs.push_back(ShardOutput::Server(of_shards::whole(round, slot)));
        }
        self.close(chunk);
        Ok(())
    }

    /// Decides a chunk if it may be decided, and tells everyone.
    fn close(&mut self, chunk: usize) {
        let Some(work) = &mut self.work else { return };
        let Some(tally) = &work.tally else { return };
        let state = &mut work.chunks[chunk];
        if state.decided.is_some() {
            return;
        }
        let turnout = Turnout {
            expected: tally.expected.len(),
            expected_voted: tally.expected.iter().filter(|&slot| state.voted.contains(slot)).count(),
            voted: state.voted.len(),
            quorum: work.charge.quorum as usize,
            deadline_passed: tally.deadline_passed,
        };
        if !decision::close(turnout).decide {
            return;
        }
        let ballots = match work.charge.hashed {
            true => state.voted.iter().filter_map(|slot| work.ballots.hash(slot, chunk)).collect(),
            false => Vec::new(),
        };
        let decision = work.ballots.decide(tally.round, chunk, &state.voted);
        state.decided = Some(decision.frame.clone());
        let voters = decision.agreements.iter();
        let tallied = Tallied {
            round: tally.round,
            chunk: chunk as u32,
            hash: decision.hash,
            ties: decision.ties as u32,
            holds: decision.holds as u32,
            voters: voters.map(|(slot, it)| (*slot, it.agree as u32, it.disagree as u32)).collect(),
            ballots,
        };
        work.undecided -= 1;
        let seated: Vec<_> =
            self.visitors.iter().filter_map(|(&peer, visitor)| Some((peer, visitor.seat?.0))).collect();
        for (_, slot) in &seated {
            work.carried[slot.index()].1 += decision.frame.len() as u64;
        }
        if tally.feed {
            self.outputs.push_back(ShardOutput::Server(decision.frame.clone()));
        }
        if work.undecided == 0 {
            // Before the last word on the round, with which it may be committed, and the run be over.
            let rows = work.carried.iter_mut().enumerate().map(|(index, bytes)| {
                let (up_bytes, down_bytes) = std::mem::take(bytes);
                Carried { slot: Slot::from_index(index), up_bytes, down_bytes }
            });
            let rows: Vec<_> = rows.filter(|row| row.up_bytes + row.down_bytes > 0).collect();
            self.outputs.push_back(ShardOutput::Server(of_shards::carried(&rows)));
        }
        self.outputs.push_back(ShardOutput::Server(of_shards::tallied(&tallied)));
        for (peer, _) in seated {
            self.outputs.push_back(ShardOutput::Send { peer, frame: decision.frame.clone() });
        }
    }

    /// A whole frame has come from the server. What it says may end the connection with it.
    ///
    /// # Errors
    /// If it is no frame to a shard, or says what cannot be.
    pub fn handle_server(&mut self, frame: &[u8]) -> Result<Option<Dismissal>, Error> {
        match ToShard::decode(frame)? {
            ToShard::Charge(charge) => self.begin(charge.0)?,
            ToShard::Seats(seats) => {
                let work = self.work_mut()?;
                let places = usize::from(work.charge.workers);
                work.seats = seats.into_iter().filter(|(slot, _)| slot.index() < places).collect();
                self.put_out_the_unseated();
            }
            ToShard::Tally(tally) => self.open(tally)?,
            ToShard::Refused { later, reason } => return Ok(Some(Dismissal::Refused { later, reason })),
            ToShard::Finish { reason } => return Ok(Some(Dismissal::Finished(reason))),
            ToShard::Pause { reason } => return Ok(Some(Dismissal::Paused(reason))),
        }
        Ok(None)
    }

    fn work_mut(&mut self) -> Result<&mut Work, Error> {
        self.work.as_mut().ok_or_else(|| Error::misbehaved("charge a shard first", "another frame"))
    }

    fn begin(&mut self, charge: Charge) -> Result<(), Error> {
        let dimension = usize::try_from(charge.dimension).ok().filter(|&d| d <= 1 << 32);
        let chunking = dimension.and_then(|d| Chunking::new(d, charge.chunk_coordinates as usize));
        let Some(chunking) = chunking.filter(|it| it.count() > 0 && charge.workers > 0) else {
            let got = format!("{} coordinates in chunks of {}", charge.dimension, charge.chunk_coordinates);
            return Err(Error::incompatible("model", "one that can be cut into chunks", got));
        };
        let workers = usize::from(charge.workers);
        let rules = Rules {
            aggregate: AggregateKind::Vote,
            workers,
            tie: charge.tie,
            min_voters: charge.min_voters,
            momentum: 0.0,
            feedback: false,
            seed: charge.seed,
            optimizer: Optimizer::Sgd { momentum: 0.0 },
            hashed: charge.hashed,
            kept: false,
        };
        self.dismiss_all("the run has begun anew");
        self.work = Some(Work {
            charge,
            chunking,
            ballots: Ballots::new(rules, chunking),
            seats: BTreeMap::new(),
            tally: None,
            chunks: (0..chunking.count()).map(|_| Chunk::default()).collect(),
            cast: vec![0; workers],
            held: 0,
            undecided: 0,
            carried: vec![(0, 0); workers],
            early: BTreeMap::new(),
        });
        Ok(())
    }

    fn dismiss_all(&mut self, reason: &str) {
        let peers: Vec<_> = self.visitors.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.refuse(peer, Later::Again, reason));
    }

    /// Whose ticket no longer holds has to show another one.
    fn put_out_the_unseated(&mut self) {
        let Some(work) = &self.work else { return };
        let holds = |seat: &(Slot, Ticket)| work.seats.get(&seat.0) == Some(&seat.1);
        let gone: Vec<_> = self
            .visitors
            .iter()
            .filter(|(_, visitor)| visitor.seat.as_ref().is_some_and(|seat| !holds(seat)))
            .map(|(&peer, _)| peer)
            .collect();
        gone.into_iter().for_each(|peer| self.refuse(peer, Later::Again, "this ticket holds no longer"));
    }

    /// The server says how the open round stands.
    fn open(&mut self, tally: Tally) -> Result<(), Error> {
        let work = self.work_mut()?;
        let (id, count, workers) = (work.charge.id, work.chunking.count(), usize::from(work.charge.workers));
        if tally.expected.iter().any(|slot| slot.index() >= workers) {
            return Err(Error::malformed("expected voters", format!("places up to {workers}"), "others"));
        }
        let before = work.tally.replace(tally);
        let Some(tally) = &work.tally else { return Ok(()) };
        let anew = before.as_ref().is_none_or(|before| before.round != tally.round);
        let feeds_from_now = tally.feed && !anew && before.as_ref().is_some_and(|before| !before.feed);
        let moved = anew || before.as_ref().is_some_and(|before| before.sharding != tally.sharding);
        if moved {
            for chunk in 0..count {
                let held_before =
                    !anew && before.as_ref().is_some_and(|before| before.sharding.holds(id, chunk));
                if !(held_before && tally.sharding.holds(id, chunk)) {
                    work.chunks[chunk].voted.clear();
                    if let Some(frame) = work.chunks[chunk].decided.take() {
                        work.ballots.recycle(frame);
                    }
                    work.ballots.forget(chunk..chunk + 1);
                }
            }
            work.held = (0..count).filter(|&chunk| tally.sharding.holds(id, chunk)).count();
            let open =
                |&chunk: &usize| tally.sharding.holds(id, chunk) && work.chunks[chunk].decided.is_none();
            work.undecided = (0..count).filter(open).count();
            for (index, cast) in work.cast.iter_mut().enumerate() {
                let slot = Slot::from_index(index);
                *cast = work.chunks.iter().filter(|chunk| chunk.voted.contains(slot)).count();
            }
        }
        if feeds_from_now {
            let decided: Vec<_> = work.chunks.iter().filter_map(|chunk| chunk.decided.clone()).collect();
            self.outputs.extend(decided.into_iter().map(ShardOutput::Server));
        }
        if moved {
            self.count_early()?;
        }
        (0..count).for_each(|chunk| self.close_if_held(chunk));
        Ok(())
    }

    fn close_if_held(&mut self, chunk: usize) {
        let held =
            |work: &Work| work.tally.as_ref().is_some_and(|it| it.sharding.holds(work.charge.id, chunk));
        if self.work.as_ref().is_some_and(held) {
            self.close(chunk);
        }
    }

    /// Counts what came before its time, and forgets what came too late.
    fn count_early(&mut self) -> Result<(), Error> {
        let work = self.work_mut()?;
        let Some(tally) = &work.tally else { return Ok(()) };
        let (id, round) = (work.charge.id, tally.round);
        let ready = |&(of, chunk, _): &(Round, usize, Slot), _: &mut Bytes| {
            of < round || of == round && tally.sharding.holds(id, chunk)
        };
        let ready: Vec<_> = work.early.extract_if(.., ready).filter(|((of, ..), _)| *of == round).collect();
        for ((_, chunk, slot), frame) in ready {
            if let Err(error) = self.count(slot, chunk, &frame) {
                let accusation = of_shards::accuse(slot, &error.to_string());
                self.outputs.push_back(ShardOutput::Server(accusation));
            }
        }
        Ok(())
    }

    fn send(&mut self, peer: PeerId, frame: Bytes) {
        self.outputs.push_back(ShardOutput::Send { peer, frame });
    }
}
