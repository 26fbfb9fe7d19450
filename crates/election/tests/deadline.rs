//! Deadlines that follow recent rounds, and those who would rather they did not.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod harness;

use std::time::Duration;

use ed25519_dalek::Signer as _;
use harness::by_hand::{self, Hello, kind};
use harness::{config, layout, parameters};
use signvote_election::decision::DeadlineRule;
use signvote_election::{Event, Identity, Origin, Output, PeerId, SecretKey, Server, Settings, WorkerState};

const DIMENSION: usize = 64;
const WORKERS: u16 = 7;
const QUORUM: u64 = 4;
/// When the honest vote, after the opening.
const HONEST: Duration = Duration::from_millis(10);
const FLOOR: Duration = Duration::from_millis(5);
const CEILING: Duration = Duration::from_secs(10);

/// A run of seven that has begun, and how it got on.
struct Run {
    server: Server,
    now: Duration,
    commits: Vec<(Duration, usize, String)>,
}

impl Run {
    fn start() -> Self {
        let mut config = config(WORKERS, 1_000);
        config.quorum = QUORUM as usize;
        config.deadline = DeadlineRule::Adaptive { floor: FLOOR, ceiling: CEILING };
        config.terms.digest_every = 0;
        let x = parameters(DIMENSION, 7);
        config.initial = Some((layout(DIMENSION), x.clone(), Settings::default()));
        let mut run = Self { server: Server::new(config).unwrap(), now: Duration::ZERO, commits: vec![] };
        for slot in 1..=WORKERS {
            let peer = PeerId(slot.into());
            run.server.connected(run.now, peer, Origin::default());
            let hello = Hello { slot, ..Hello::of(&layout(DIMENSION)) };
            run.server.handle(run.now, peer, &hello.frame());
            run.server.handle(run.now, peer, &by_hand::ready(by_hand::digest(&x)));
        }
        run.look();
        run
    }

    fn look(&mut self) {
        while let Some(output) = self.server.poll() {
            if let Output::Event(Event::Committed { voters, reason, .. }) = output {
                self.commits.push((self.now, voters, reason));
            }
        }
    }

    fn vote(&mut self, slot: u64, round: u64) {
        let ballot = by_hand::planes(kind::BALLOT, round, 0, &[slot], &[0]);
        self.server.handle(self.now, PeerId(slot), &ballot);
        self.look();
    }

    /// Lets time pass until then, or until a round is committed, for then the next one is open.
    fn wait_until(&mut self, until: Duration) {
        let closed = self.commits.len();
        while let Some(at) = self.server.next_timeout().filter(|&at| at <= until) {
            self.now = self.now.max(at);
            self.server.handle_timeout(self.now);
            self.look();
            if self.commits.len() > closed {
                return;
            }
        }
        self.now = self.now.max(until);
    }

    /// One round in which the honest vote as they do, and the liars at the time that `when` makes of the
    /// deadline; gives how long it took.
    fn round(&mut self, when: impl Fn(Duration) -> Duration) -> Duration {
        let (round, opened, closed) = (self.server.round().0, self.now, self.commits.len());
        let status = self.server.status(self.now);
        let deadline = Duration::from_secs_f64(status.deadline_seconds.unwrap());
        let mut votes = [(HONEST, 1..=QUORUM), (when(deadline), QUORUM + 1..=u64::from(WORKERS))];
        votes.sort_by_key(|&(at, _)| at);
        for (at, slots) in votes {
            if self.commits.len() == closed {
                self.wait_until(opened + at);
            }
            // If it is over by now, these are late.
            slots.for_each(|slot| self.vote(slot, round));
        }
        assert_eq!(self.commits.len(), closed + 1, "one round");
        self.commits[closed].0 - opened
    }

    fn states(&self) -> Vec<WorkerState> {
        self.server.status(self.now).workers.iter().map(|worker| worker.state).collect()
    }
}

#[test]
fn slow_liars_cannot_stretch_the_deadline() {
    let mut run = Run::start();
    // As late as is in time, in every round: the most that they can do.
    let in_time = |deadline: Duration| deadline - Duration::from_micros(1);
    assert!(run.round(in_time) > CEILING / 2, "nothing is known before the first round");
    for _ in 0..200 {
        assert!(run.round(in_time) <= 3 * HONEST);
    }
    let status = run.server.status(run.now);
    assert_eq!(status.deadline_seconds, Some((3 * HONEST).as_secs_f64()), "{}", status.deadline_reason);
    assert!(run.commits.iter().all(|&(_, voters, _)| voters == usize::from(WORKERS)));
}

#[test]
fn who_misses_deadlines_costs_ever_less() {
    let mut run = Run::start();
    let in_time = |deadline: Duration| deadline - Duration::from_micros(1);
    let too_late = |deadline: Duration| deadline + Duration::from_millis(1);
    for _ in 0..3 {
        run.round(in_time);
    }
    let mut waited = Vec::new();
    for missed in 0..4 {
        // One deadline, and then none: whether it votes or not.
        assert_eq!(run.round(too_late), 3 * HONEST, "missed {missed} before");
        assert!(run.commits.last().unwrap().2.contains("deadline"));
        assert_eq!(run.states()[QUORUM as usize..], [WorkerState::NotAwaited; 3]);
        assert_eq!(run.round(too_late), HONEST);
        // In time for so many rounds in a row it has to be, before anybody waits for it again.
        let mut rounds = 0;
        while run.states().contains(&WorkerState::NotAwaited) {
            assert_eq!(run.round(|_| HONEST - Duration::from_millis(1)), HONEST);
            rounds += 1;
        }
        waited.push(rounds);
    }
    assert_eq!(waited, [8, 16, 32, 64]);
}

#[test]
fn below_the_quorum_no_deadline_closes_a_round() {
    let mut run = Run::start();
    let round = run.server.round().0;
    run.wait_until(HONEST);
    (1..QUORUM).for_each(|slot| run.vote(slot, round));
    run.wait_until(10 * CEILING);
    assert!(run.commits.is_empty());
    run.vote(QUORUM, round);
    assert_eq!(run.commits.len(), 1, "the quorum is in, and the deadline long gone");
}

#[test]
fn who_withholds_signatures_costs_ever_less() {
    const PATIENCE: Duration = Duration::from_secs(2);
    let mut config = config(3, 1_000);
    (config.quorum, config.terms.signed, config.terms.digest_every) = (2, true, 0);
    config.deadline = DeadlineRule::Adaptive { floor: FLOOR, ceiling: CEILING };
    let x = parameters(DIMENSION, 7);
    config.initial = Some((layout(DIMENSION), x.clone(), Settings::default()));
    let mut server = Server::new(config.clone()).unwrap();
    let (mut now, mut peers) = (Duration::ZERO, 0);
    let keys: Vec<_> = (1..=3).map(|slot| SecretKey::from_seed(&[slot; 32])).collect();
    let mut join = |server: &mut Server, now, slot: usize| {
        peers += 1;
        let identity = Identity { name: format!("worker-{slot}"), key: keys[slot - 1].public() };
        let origin = Origin { address: "10.0.0.1".into(), identity: Some(identity), local: false };
        server.connected(now, PeerId(peers), origin);
        let hello = Hello { slot: slot as u16, ..Hello::of(&layout(DIMENSION)) };
        server.handle(now, PeerId(peers), &hello.frame());
        if server.round().0 == 0 {
            server.handle(now, PeerId(peers), &by_hand::ready(by_hand::digest(&x)));
        }
        while server.is_behind(PeerId(peers)) {
            server.drained(now, PeerId(peers));
        }
        PeerId(peers)
    };
    let honest = [join(&mut server, now, 1), join(&mut server, now, 2)];
    let mut liar = join(&mut server, now, 3);
    let mut slow = 0;
    for round in 0..200 {
        let opened = now;
        now += HONEST;
        for (peer, slot) in [(liar, 3), (honest[0], 1), (honest[1], 2)] {
            let signs = [slot as u64];
            server.handle(now, peer, &by_hand::planes(kind::BALLOT, round, 0, &signs, &[0]));
            if slot != 3 {
                let chunk = by_hand::ballot_chunk_hash(&signs, &[0]);
                let message = by_hand::sealed(config.terms.run.0, 0, round, &[chunk]);
                let key = ed25519_dalek::SigningKey::from_bytes(&[slot; 32]);
                server.handle(now, peer, &by_hand::seal(round, key.sign(&message).to_bytes()));
            }
        }
        while server.round().0 == round {
            now = server.next_timeout().expect("something is waited for");
            server.handle_timeout(now);
        }
        let took = now - opened;
        assert!(took == HONEST || took == HONEST + PATIENCE, "{took:?}");
        slow += u32::from(took > HONEST);
        while server.poll().is_some() {}
        // It comes again at once.
        if server.slot_of(liar).is_none() {
            liar = join(&mut server, now, 3);
        }
    }
    // It is waited for again after 8, 16, 32, 64 rounds in which it votes: five times in 200.
    assert_eq!(slow, 5);
}
