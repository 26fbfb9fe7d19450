//! One simulated worker: a process that may die, and its one connection that may break.

use bytes::Bytes;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use signvote_election::{Carried, Error, Greeting, Position, Settings, Slot, Voter};

use super::harness::{by_hand, by_hand::kind, layout, parameters, rng};
use super::plan::{Member, Plan};

/// Something that a worker is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    Provide,
    Report,
    Cast {
        chunk: usize,
    },
    /// A liar's trick.
    Lie,
}

pub(crate) struct Worker {
    pub(crate) member: Member,
    pub(crate) voter: Voter,
    /// Whether the voter's greeting is still that of its making.
    pub(crate) fresh: bool,
    pub(crate) connection: Option<u64>,
    /// Counts openings: what was planned for an earlier one is dropped.
    pub(crate) generation: u64,
    /// Whether its process runs.
    pub(crate) alive: bool,
    /// Whether a connection attempt is scheduled.
    pub(crate) connecting: bool,
    pub(crate) attempts: u32,
    pub(crate) unreachable_until: u64,
    pub(crate) stopped_until: u64,
    pub(crate) providing: bool,
    /// It has heard the end of the run.
    pub(crate) finished: bool,
    pub(crate) counted: u64,
}

impl Worker {
    pub(crate) fn new(plan: &Plan, member: Member) -> Self {
        let voter = Voter::new(greeting(plan, &member, member.wanted));
        Self {
            member,
            voter,
            fresh: true,
            connection: None,
            generation: 0,
            alive: true,
            connecting: false,
            attempts: 0,
            unreachable_until: 0,
            stopped_until: 0,
            providing: false,
            finished: false,
            counted: 0,
        }
    }

    /// Starts again after a crash, with what was kept of its replica if told so.
    pub(crate) fn restart(&mut self, plan: &Plan, replica: bool) {
        let place = self.voter.place().map(Slot::number);
        let carried =
            self.voter.terms().filter(|_| replica && self.voter.position() != Default::default()).map(
                |terms| Carried {
                    run: terms.run,
                    position: self.voter.position(),
                    x: self.voter.parameters().to_vec(),
                },
            );
        let greeting =
            greeting(plan, &self.member, self.member.wanted.or(place.filter(|_| carried.is_some())));
        self.voter = match carried {
            Some(carried) => Voter::returning(greeting, carried).unwrap(),
            None => Voter::new(greeting),
        };
        (self.fresh, self.alive, self.providing) = (true, true, false);
        self.generation += 1;
    }

    pub(crate) fn x0(&self, plan: &Plan) -> Vec<f32> {
        parameters(plan.dimension, if self.member.same_x0 { 7 } else { 8 })
    }

    /// Casts a chunk of its ballot: a function of its place and of what it has seen committed, as a gradient is.
    pub(crate) fn cast(&mut self, plan: &Plan, chunk: usize) -> Result<(), Error> {
        let (position, slot) = (self.voter.position(), self.voter.place().unwrap().number());
        let (signs, abstain) = ballot(plan, slot, position, chunk);
        self.voter.submit_signs(chunk, &[signs], &[abstain])
    }

    /// Something that no honest worker would say.
    pub(crate) fn lie(&self, plan: &Plan, rng: &mut ChaCha8Rng) -> Vec<u8> {
        let round = self.voter.round().0;
        let chunk = rng.random_range(0..plan.dimension.div_ceil(64)) as u32;
        let ballot =
            |round, signs, abstain| by_hand::planes(kind::BALLOT, round, chunk, &[signs], &[abstain]);
        match rng.random_range(0..13) {
            0 => ballot(round + 1, 0, 0),
            1 => ballot(round.saturating_sub(1), 0, 0),
            // Once too often, if it has voted.
            2 | 3 => ballot(round, u64::from(plan.dimension >= 64), 0),
            // Bits behind the last coordinate.
            4 => by_hand::planes(kind::BALLOT, round, (plan.dimension / 64) as u32, &[u64::MAX], &[0]),
            5 => ballot(round, 1, 1),
            6 => by_hand::seal(round, [9; 64]),
            7 => by_hand::digest_frame(round, [1; 32]),
            8 => by_hand::report(round, f32::NAN, 3, 2, 1),
            9 => by_hand::planes(kind::BALLOT, round, u32::MAX, &[0], &[0]),
            10 => {
                let bytes: Vec<u8> = (0..rng.random_range(0..40)).map(|_| rng.random()).collect();
                by_hand::frame(rng.random_range(0..45), &[&bytes])
            }
            11 => by_hand::text(kind::BYE, "not really"),
            _ => by_hand::ready([1; 32]),
        }
    }
}

fn greeting(plan: &Plan, member: &Member, wanted: Option<u16>) -> Greeting {
    Greeting {
        layout: layout(plan.dimension),
        settings: Settings::default(),
        run: None,
        slot: wanted.and_then(Slot::new),
        name: member.identity.as_ref().map_or_else(|| "nobody".into(), |identity| identity.name.clone()),
        key: member.key.clone(),
        statistics: true,
    }
}

/// What everyone honest finds for running statistics.
pub(crate) const STATISTICS: [f32; 2] = [1.0, 2.0];

/// The chunks of a ballot in the order in which they are ready.
pub(crate) fn order(plan: &Plan, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut chunks: Vec<_> = (0..plan.dimension.div_ceil(64)).collect();
    chunks.shuffle(rng);
    chunks
}

/// What the place votes on a chunk at a position: canonical words.
fn ballot(plan: &Plan, slot: u16, position: Position, chunk: usize) -> (u64, u64) {
    let (round, chain) = (position.round.0, position.chain.0);
    let history = u64::from_le_bytes(std::array::from_fn(|byte| chain[byte]));
    let mix = |salt: u64| {
        let mut z = (u64::from(slot) << 48 ^ round << 24 ^ (chunk as u64) << 8 ^ salt ^ history)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z ^ (z >> 27)
    };
    let left = plan.dimension - chunk * 64;
    let tail = if left >= 64 { u64::MAX } else { (1 << left) - 1 };
    let abstain = match mix(1) % 3 {
        0 => 0,
        1 => mix(2) & mix(3) & mix(4) & tail,
        _ => 0xff00 & tail,
    };
    (mix(5) & tail & !abstain, abstain)
}

/// The frame of such a ballot, as an honest worker sends it.
pub(crate) fn ballot_frame(plan: &Plan, slot: u16, position: Position, chunk: usize) -> Bytes {
    let (signs, abstain) = ballot(plan, slot, position, chunk);
    by_hand::planes(kind::BALLOT, position.round.0, chunk as u32, &[signs], &[abstain]).into()
}

/// A generator of the world's own.
pub(crate) fn world_rng(seed: u64) -> ChaCha8Rng {
    rng(&[seed, 71])
}
