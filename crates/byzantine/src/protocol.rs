//! Attacks on the protocol instead of the gradients, and what the server makes of them.

use std::time::Duration;

use signvote_election::{
    AggregateKind, Config, Error as Failure, Event, Greeting, Layout, Origin, Output, PeerId, RunId,
    Schedule, Server, Settings, Shape, Slot, StepRule, TensorSpec, Terms, TiePolicy, Voter,
};
use signvote_kernels::{AbstainOn, Ballot, Tie, apply, canonicalise, coin_word, decide, words};

use crate::Error;

/// A way to get more than one's vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trick {
    /// The ballot of the last round once more, in this one.
    Late,
    /// A ballot for the next round, in this one.
    Early,
    /// The same ballot twice.
    Duplicate,
    /// A second connection that wants the place that the first one has.
    SybilSamePlace,
    /// A second connection that wants whatever place there is.
    SybilAnyPlace,
    /// A ballot from a connection that has not joined.
    Stranger,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the server said, or recorded; empty if it noticed nothing.
    pub said: String,
    /// How many times the liar's ballot of the attacked round was counted; `None` if the verdict is that of no such number.
    pub counted: Option<usize>,
}

const WORKERS: usize = 5;
/// The place of the liar, counted from 0.
const LIAR: usize = WORKERS - 1;
const DIMENSION: usize = 256;
const ROUNDS: u64 = 3;
/// The round in which it is tried: one that has a round before and one behind it.
const ATTACKED: u64 = 1;
const ETA: f32 = 0.5;
const NOW: Duration = Duration::ZERO;

impl Trick {
    /// All.
    pub const ALL: [Self; 6] =
        [Self::Late, Self::Early, Self::Duplicate, Self::SybilSamePlace, Self::SybilAnyPlace, Self::Stranger];

    /// What is done, in a few words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Late => "late: the last round's ballot again",
            Self::Early => "early: a ballot for the next round",
            Self::Duplicate => "duplicate: the same ballot twice",
            Self::SybilSamePlace => "sybil: a second connection, the same place",
            Self::SybilAnyPlace => "sybil: a second connection, any place",
            Self::Stranger => "stranger: a ballot without having joined",
        }
    }

    /// Tries it in an election of five workers, frame by frame, and compares the verdict with the kernels'.
    ///
    /// # Errors
    /// If the election fails, which no trick should bring about.
    pub fn attempt(self) -> Result<Answer, Error> {
        let mut honest = Election::new()?;
        let frames = (0..ROUNDS).map(|round| honest.vote(round, None)).collect::<Result<Vec<_>, Error>>()?;
        let mut election = Election::new()?;
        election.vote(0, None)?;
        election.said.clear();
        election.vote(ATTACKED, Some((self, &frames)))?;
        let x = election.voters[0].parameters().to_vec();
        let mut said = election.said;
        said.dedup();
        Ok(Answer { said: said.join("; "), counted: (0..=2).find(|&times| x == after_attack(times)) })
    }
}

/// x after the attacked round, if the liar's ballot in it counts so many times.
fn after_attack(times: usize) -> Vec<f32> {
    let mut x = vec![0.0; DIMENSION];
    for round in 0..=ATTACKED {
        let own = if round == ATTACKED { times } else { 1 };
        let voters = (0..LIAR).chain(std::iter::repeat_n(LIAR, own));
        let planes: Vec<_> = voters.map(|worker| signs(round, worker)).collect();
        let none = vec![0; words(DIMENSION)];
        let ballots: Vec<_> = planes.iter().map(|signs| Ballot::new(signs, Some(&none))).collect();
        let (mut verdict, mut hold) = (none.clone(), none.clone());
        decide(&ballots, DIMENSION, Tie::Hold, 1, &mut verdict, &mut hold);
        apply(&mut x, &verdict, Some(&hold), ETA, 0.0);
    }
    x
}

/// The ballot of a worker: pseudo-random votes, so that one vote more or less shows.
fn signs(round: u64, worker: usize) -> Vec<u64> {
    let word = |at: usize| coin_word(round << 8 | worker as u64, at as u64);
    let mut signs: Vec<u64> = (0..words(DIMENSION)).map(word).collect();
    canonicalise(&mut signs, None, DIMENSION);
    signs
}

/// Frames that the liar sends in each round.
type Frames = Vec<Vec<u8>>;

struct Election {
    server: Server,
    voters: Vec<Voter>,
    said: Vec<String>,
}

impl Election {
    fn new() -> Result<Self, Error> {
        let terms = Terms {
            run: RunId(*b"signvoteprotocol"),
            workers: WORKERS as u16,
            batch: 1,
            seed: 1,
            rounds: ROUNDS,
            aggregate: AggregateKind::Vote,
            beta: 0.0,
            abstain_on: AbstainOn::Momentum,
            chunk_coordinates: DIMENSION as u32,
            digest_every: 0,
            max_non_finite: 0,
            signed: false,
            step: StepRule::default(),
            settings: Settings::default(),
        };
        let schedule = Schedule::new(f64::from(ETA), 0, ROUNDS, Shape::Constant)?;
        let x = vec![0.0; DIMENSION];
        // Four go on without the fifth, if it is put out.
        let config = Config {
            tie: TiePolicy::Hold,
            quorum: LIAR,
            initial: Some((layout()?, x.clone(), Settings::default())),
            ..Config::new(terms, schedule)
        };
        let voters =
            (1..=WORKERS as u16).map(|place| greeter(Slot::new(place))).collect::<Result<Vec<_>, _>>()?;
        let mut election = Self { server: Server::new(config)?, voters, said: Vec::new() };
        for worker in 0..WORKERS {
            election.server.connected(NOW, peer(worker), Origin::default());
            election.hear(worker);
            election.carry()?;
        }
        for worker in 0..WORKERS {
            election.voters[worker].provide(x.clone())?;
            election.hear(worker);
        }
        election.carry()?;
        Ok(election)
    }

    /// A round, in which the liar may try something before the others vote; returns the frames of its own, honest ballot.
    fn vote(&mut self, round: u64, trick: Option<(Trick, &[Frames])>) -> Result<Frames, Error> {
        let none = vec![0; words(DIMENSION)];
        self.voters[LIAR].submit_signs(0, &signs(round, LIAR), &none)?;
        let own: Frames =
            std::iter::from_fn(|| self.voters[LIAR].poll_transmit()).map(|frame| frame.to_vec()).collect();
        let other = peer(WORKERS);
        match trick {
            None => self.say(peer(LIAR), &own),
            Some((Trick::Late, frames)) => {
                self.say(peer(LIAR), &frames[round as usize - 1]);
                self.say(peer(LIAR), &own);
            }
            Some((Trick::Early, frames)) => {
                self.say(peer(LIAR), &frames[round as usize + 1]);
                self.say(peer(LIAR), &own);
            }
            Some((Trick::Duplicate, _)) => {
                self.say(peer(LIAR), &own);
                self.say(peer(LIAR), &own);
            }
            Some((Trick::SybilSamePlace | Trick::SybilAnyPlace | Trick::Stranger, _)) => {
                self.server.connected(NOW, other, Origin::default());
                let place = match trick {
                    Some((Trick::SybilSamePlace, _)) => Some(Slot::new(WORKERS as u16)),
                    Some((Trick::SybilAnyPlace, _)) => Some(None),
                    _ => None,
                };
                if let Some(place) = place {
                    let mut sybil = greeter(place)?;
                    let greeting: Frames =
                        std::iter::from_fn(|| sybil.poll_transmit()).map(|frame| frame.to_vec()).collect();
                    self.say(other, &greeting);
                }
                self.say(other, &own);
                self.say(peer(LIAR), &own);
            }
        }
        for worker in 0..LIAR {
            self.voters[worker].submit_signs(0, &signs(round, worker), &none)?;
            self.hear(worker);
        }
        self.carry()?;
        Ok(own)
    }

    fn say(&mut self, peer: PeerId, frames: &Frames) {
        frames.iter().for_each(|frame| self.server.handle(NOW, peer, frame));
    }

    fn hear(&mut self, worker: usize) {
        while let Some(frame) = self.voters[worker].poll_transmit() {
            self.server.handle(NOW, peer(worker), &frame);
        }
    }

    /// Takes to the workers what the server says, and back what they answer, until nobody has anything to say.
    fn carry(&mut self) -> Result<(), Error> {
        while let Some(output) = self.server.poll() {
            match output {
                Output::Send { peer: to, frame } => {
                    let worker = to.0 as usize;
                    if worker < WORKERS {
                        match self.voters[worker].handle(&frame) {
                            // It is told why it is put out.
                            Err(Failure::Refused { .. }) if worker == LIAR => {}
                            answer => answer?,
                        }
                        while self.voters[worker].poll_step().is_some() {}
                        self.hear(worker);
                    }
                    self.server.drained(NOW, to);
                }
                Output::Event(Event::Refused { reason, .. } | Event::Left { reason, .. }) => {
                    self.said.push(reason);
                }
                Output::Event(Event::Late { chunks, .. }) => {
                    self.said.push(format!("late, not counted: {chunks} chunk"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn layout() -> Result<Layout, Error> {
    Ok(Layout::new(vec![TensorSpec { name: "x".into(), shape: vec![DIMENSION] }])?)
}

fn greeter(slot: Option<Slot>) -> Result<Voter, Error> {
    Ok(Voter::new(Greeting {
        layout: layout()?,
        settings: Settings::default(),
        run: None,
        slot,
        name: "worker".into(),
        key: None,
        statistics: false,
    }))
}

fn peer(worker: usize) -> PeerId {
    PeerId(worker as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_one_vote() {
        // Who is put out before it has voted has none.
        for (trick, counted, reason) in [
            (Trick::Late, 1, "late, not counted"),
            (Trick::Early, 0, "vote in the open round"),
            (Trick::Duplicate, 1, "vote once on a chunk"),
            (Trick::SybilSamePlace, 1, "place 5 is taken"),
            (Trick::SybilAnyPlace, 1, "all 5 places are taken"),
            (Trick::Stranger, 1, "join before voting"),
        ] {
            let answer = trick.attempt().unwrap();
            assert_eq!(answer.counted, Some(counted), "{trick:?}: {answer:?}");
            assert!(answer.said.contains(reason), "{trick:?}: {answer:?}");
        }
    }

    #[test]
    fn a_vote_more_or_less_would_show() {
        let after = [0, 1, 2].map(after_attack);
        assert!(after[0] != after[1] && after[1] != after[2] && after[0] != after[2]);
    }
}
