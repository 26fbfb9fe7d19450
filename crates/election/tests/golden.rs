//! The bytes on the wire, held against files: a change of them is a change of the protocol's version.
//!
//! `SIGNVOTE_REWRITE_GOLDEN=1` rewrites the files. The second implementation in `harness/by_hand.rs` is held
//! against them as well, so that a rewritten file still means what `docs/protocol.md` says.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod harness;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use harness::by_hand::{self, Commit, Hello, VERSION, kind};
use harness::{Setup, Sim, config, dense_source};
use signvote_election::{
    AggregateKind, Carried, Config, Greeting, Identity, Incarnation, Layout, Optimizer, Origin, Output,
    PeerId, Position, Record, Round, RunId, Schedule, SecretKey, Server, Settings, Shape, Shard, ShardId,
    ShardOutput, Slot, Step, StepRule, TensorSpec, Terms, TiePolicy, Topology, Voter, wire, wire::Enrolment,
};
use signvote_kernels::AbstainOn;

const NOW: Duration = Duration::ZERO;
const PEER: PeerId = PeerId(1);

/// A model of 130 coordinates: two chunks of 64 and one of 2.
fn model() -> (Layout, Vec<f32>) {
    let tensor = |name: &str, shape: &[usize]| TensorSpec { name: name.into(), shape: shape.into() };
    let layout = Layout::new(vec![tensor("fc.weight", &[8, 16]), tensor("fc.bias", &[2])]).unwrap();
    (layout, (0..130).map(|i| i as f32 / 64.0 - 1.0).collect())
}

fn settings(key: &str, value: &str) -> Settings {
    let mut settings = Settings::default();
    settings.insert(key, value).unwrap();
    settings
}

fn run(aggregate: AggregateKind) -> Config {
    let terms = Terms {
        run: RunId(*b"0123456789abcdef"),
        workers: 2,
        batch: 32,
        seed: 0x0102_0304_0506_0708,
        rounds: 2,
        aggregate,
        beta: 0.9,
        abstain_on: AbstainOn::Gradient,
        chunk_coordinates: 64,
        digest_every: 1,
        max_non_finite: 10,
        signed: false,
        step: StepRule::default(),
        settings: settings("data", "fashion-mnist"),
    };
    Config {
        tie: TiePolicy::Hold,
        optimizer: Optimizer::Sgd { momentum: 0.5 },
        quorum: 1,
        weight_decay: 0.0625,
        max_dimension: 1000,
        record_ballots: true,
        ..Config::new(terms, Schedule::new(0.125, 0, 2, Shape::Constant).unwrap())
    }
}

fn greeting() -> Greeting {
    Greeting {
        layout: model().0,
        settings: settings("model", "mlp"),
        run: Some(RunId(*b"0123456789abcdef")),
        slot: Slot::new(2),
        name: "Zoë".into(),
        key: None,
        statistics: false,
    }
}

/// Seed of the key that ballots are signed with.
const KEY: [u8; 32] = [7; 32];

/// What the only worker of a run and its server say to each other, in order, in two rounds.
fn conversation(aggregate: AggregateKind) -> Vec<Bytes> {
    recorded_conversation(aggregate, false).0
}

/// The same, with signatures and statistics if told so; and what becomes of it in a log.
fn recorded_conversation(aggregate: AggregateKind, signed: bool) -> (Vec<Bytes>, Vec<Record>, Vec<u8>) {
    let mut config = run(aggregate);
    config.terms.workers = 1;
    config.terms.signed = signed;
    let mut server = Server::new(config).unwrap();
    let key = SecretKey::from_seed(&KEY);
    let identity = signed.then(|| Identity { name: "ada".into(), key: key.public() });
    server.connected(NOW, PEER, Origin { identity, ..Origin::default() });
    let key = signed.then_some(key);
    let mut voter = Voter::new(Greeting { slot: Slot::new(1), key, statistics: signed, ..greeting() });
    let (mut said, mut records) = (vec![], vec![]);
    loop {
        let before = said.len();
        while let Some(frame) = voter.poll_transmit() {
            server.handle(NOW, PEER, &frame);
            said.push(frame);
        }
        while let Some(output) = server.poll() {
            match output {
                Output::Send { frame, .. } => {
                    voter.handle(&frame).unwrap();
                    said.push(frame);
                }
                Output::Record(record) => records.push((*record).clone()),
                _ => {}
            }
        }
        while let Some(step) = voter.poll_step() {
            match step {
                Step::Welcomed => voter.provide(model().1).unwrap(),
                Step::Open { round } => {
                    voter.report(0.75, 20, 32, 0).unwrap();
                    cast(&mut voter, round, aggregate);
                }
                Step::Finished { .. } if voter.wants_statistics() => {
                    voter.submit_statistics(&[0.5, 2.0]).unwrap();
                }
                _ => {}
            }
        }
        if said.len() == before && voter.poll_step().is_none() {
            return (said, records, server.charter().unwrap().encode());
        }
    }
}

/// Round 0: a chunk without abstentions, one with runs, one with a plane. Round 1: all dense.
fn cast(voter: &mut Voter, round: Round, aggregate: AggregateKind) {
    match (aggregate, round.0) {
        (AggregateKind::Vote, 0) => {
            let (signs, abstain) = planes();
            voter.submit_signs(0, &signs, &abstain).unwrap();
        }
        (AggregateKind::Vote, _) => voter.submit_signs(0, &[7, 8, 1], &[0; 3]).unwrap(),
        (AggregateKind::Mean, _) => {
            let gradient: Vec<_> = (0..130).map(|i| 1.0 - i as f32 / 128.0).collect();
            voter.submit_gradient(0, &gradient).unwrap();
        }
    }
}

fn planes() -> ([u64; 3], [u64; 3]) {
    ([0x0123_4567_89ab_cdef, 0x5500, 0b10], [0, 0x00ff, 0b01])
}

/// The first frame of each kind, by name, from both kinds of run.
fn examples() -> Vec<(String, Bytes)> {
    let vote = conversation(AggregateKind::Vote);
    let mean = conversation(AggregateKind::Mean);
    let first = |from: &[Bytes], kind: u8| {
        let of_kind = |frame: &&Bytes| by_hand::kind_of(frame) == kind;
        from.iter().find(of_kind).unwrap_or_else(|| panic!("no frame of kind {kind}")).clone()
    };
    let nth = |kind: u8, n: usize| {
        vote.iter().filter(|frame| by_hand::kind_of(frame) == kind).nth(n).unwrap().clone()
    };

    // A worker that comes when the place is taken, and one that comes in a run under way.
    let mut server = Server::new(run(AggregateKind::Vote)).unwrap();
    let mut hear = |frames: &[Vec<u8>], peer: u64| -> Vec<Bytes> {
        server.connected(NOW, PeerId(peer), Origin::default());
        frames.iter().for_each(|frame| server.handle(NOW, PeerId(peer), frame));
        std::iter::from_fn(|| server.poll())
            .filter_map(|output| match output {
                Output::Send { peer: to, frame } if to == PeerId(peer) => Some(frame),
                _ => None,
            })
            .collect()
    };
    let (layout, x) = model();
    let hello = Hello { slot: 2, ..Hello::of(&layout) }.frame();
    let mut offer = vec![hello.clone(), by_hand::init(&layout, &[])];
    offer.extend(x.chunks(64).zip(0..).map(|(x, chunk)| by_hand::values(chunk, x)));
    offer.push(by_hand::ready(by_hand::digest(&x)));
    let waits = hear(&offer, 1);
    let refused = hear(&[hello], 2);
    let other = Hello { dimension: 131, layout: [1; 32], ..Hello::of(&layout) }.frame();
    let never = hear(&[other], 3);
    let state = hear(&[Hello::of(&layout).frame(), by_hand::ready([0; 32])], 4);
    hear(&[by_hand::text(kind::BYE, "lunch")], 4);
    let h0 = by_hand::chain_start(*b"0123456789abcdef", &layout, &x);
    let follow = hear(&[Hello { position: Some((0, 0, h0)), ..Hello::of(&layout) }.frame()], 5);
    server.pause(NOW, "an upgrade", Duration::ZERO);
    server.handle_timeout(NOW);
    let paused: Vec<_> = std::iter::from_fn(|| server.poll())
        .filter_map(|output| match output {
            Output::Send { frame, .. } => Some(frame),
            _ => None,
        })
        .collect();
    let (sealed, ..) = recorded_conversation(AggregateKind::Vote, true);
    let carried = Carried { run: RunId(*b"0123456789abcdef"), position: position_of_two(), x: model().1 };
    let returning = Voter::returning(greeting(), carried).unwrap().poll_transmit().unwrap();

    let named = |name: &str, frame: Bytes| (name.to_owned(), frame);
    vec![
        named("hello", Voter::new(greeting()).poll_transmit().unwrap()),
        named("hello-again", returning),
        named("hello-statistics", first(&sealed, kind::HELLO)),
        named("init", first(&vote, kind::INIT)),
        named("values", nth(kind::VALUES, 2)),
        named("ready", first(&vote, kind::READY)),
        named("report", first(&vote, kind::REPORT)),
        named("ballot-dense", nth(kind::BALLOT, 0)),
        named("ballot-runs", nth(kind::BALLOT, 1)),
        named("ballot-last-chunk", nth(kind::BALLOT, 2)),
        named("ballot-plane", alternating()),
        named("gradient", first(&mean, kind::GRADIENT)),
        named("digest", first(&vote, kind::DIGEST)),
        named("bye", first(&vote, kind::BYE)),
        named("seal", first(&sealed, kind::SEAL)),
        named("statistics", first(&sealed, kind::STATISTICS)),
        named("ask", wire::ask(0)),
        named("welcome-offer", first(&vote, kind::WELCOME)),
        named("welcome-compare", first(&state, kind::WELCOME)),
        named("welcome-follow", first(&follow, kind::WELCOME)),
        named("welcome-signed", first(&sealed, kind::WELCOME)),
        named("refused-again", first(&refused, kind::REFUSED)),
        named("refused-never", first(&never, kind::REFUSED)),
        named("state", first(&state, kind::STATE)),
        named("open", first(&vote, kind::OPEN)),
        named("verdict-dense", nth(kind::VERDICT, 0)),
        named("verdict-runs", nth(kind::VERDICT, 1)),
        named("update", first(&mean, kind::UPDATE)),
        named("commit", first(&vote, kind::COMMIT)),
        named("finish", first(&vote, kind::FINISH)),
        named("status", wire::status(r#"{"round":1}"#)),
        named("pause", first(&paused, kind::PAUSE)),
        named("wait", first(&waits, kind::WAIT)),
    ]
}

/// A position that a worker may bring.
fn position_of_two() -> Position {
    let chain = signvote_election::ChainHash([2; 32]);
    Position { round: Round(2), incarnation: Incarnation(1), chain }
}

/// A ballot that abstains at every second coordinate: a plane is shorter than runs.
fn alternating() -> Bytes {
    let mut voter = Voter::new(greeting());
    let terms = by_hand::terms_bytes(&run(AggregateKind::Vote).terms);
    voter.handle(&by_hand::welcome(VERSION, 2, 1, &terms)).unwrap();
    voter.provide(model().1).unwrap();
    voter.handle(&by_hand::position(kind::OPEN, 0, 0, [0; 32])).unwrap();
    while voter.poll_step().is_some() {}
    while voter.poll_transmit().is_some() {}
    voter.submit_signs(1, &[0x8888_8888_8888_8888], &[0x5555_5555_5555_5555]).unwrap();
    voter.poll_transmit().unwrap()
}

/// The same frames, assembled from the description of the protocol.
fn assembled() -> Vec<(&'static str, Vec<u8>)> {
    let (layout, x) = model();
    let vote = run(AggregateKind::Vote).terms;
    let run_id = *b"0123456789abcdef";
    let x0 = by_hand::digest(&x);
    let h0 = by_hand::chain_start(run_id, &layout, &x);
    let (signs, abstain) = planes();
    let dense = |coordinates: usize, signs: u64, hold: u64| -> Vec<i8> {
        (0..coordinates)
            .map(|i| if hold >> i & 1 == 1 { 0 } else { 1 - 2 * (signs >> i & 1) as i8 })
            .collect()
    };
    // One voter decides alone: the verdict is its ballot.
    let verdict = [(64, 0), (64, 1), (2, 2)].map(|(length, word)| dense(length, signs[word], abstain[word]));
    let hashes: Vec<_> = verdict.iter().map(|verdict| by_hand::verdict_hash(verdict)).collect();
    let mut commit = Commit {
        round: 0,
        incarnation: 0,
        eta: 0.125,
        lambda: 0.0625,
        next_eta: 0.125,
        voters: vec![1],
        chain: [0; 32],
    };
    commit.chain = commit.chain_after(h0, &hashes);
    let x1: Vec<f32> = x
        .iter()
        .zip(verdict.iter().flatten())
        .map(|(&x, &s)| x - 0.125 * (f32::from(s) + 0.0625 * x))
        .collect();
    let gradient: Vec<f32> = (0..64).map(|i| 1.0 - i as f32 / 128.0).collect();
    let terms = |workers| by_hand::terms_bytes(&Terms { workers, ..vote.clone() });
    let signed = by_hand::terms_bytes(&Terms { workers: 1, signed: true, ..vote.clone() });
    let hello = Hello { run: run_id, slot: 2, name: "Zoë", ..Hello::of(&layout) };
    vec![
        ("hello", hello.frame()),
        ("hello-again", Hello { position: Some((2, 1, [2; 32])), ..hello }.frame()),
        ("hello-statistics", Hello { features: 1, slot: 1, ..hello }.frame()),
        ("init", by_hand::init(&layout, &[("model", "mlp")])),
        ("values", by_hand::values(2, &x[128..])),
        ("ready", by_hand::ready(x0)),
        ("report", by_hand::report(0, 0.75, 20, 32, 0)),
        ("ballot-dense", by_hand::planes(kind::BALLOT, 0, 0, &signs[..1], &abstain[..1])),
        ("ballot-runs", by_hand::planes(kind::BALLOT, 0, 1, &signs[1..2], &abstain[1..2])),
        ("ballot-last-chunk", by_hand::planes(kind::BALLOT, 0, 2, &signs[2..], &abstain[2..])),
        (
            "ballot-plane",
            by_hand::planes(kind::BALLOT, 0, 1, &[0x8888_8888_8888_8888], &[0x5555_5555_5555_5555]),
        ),
        ("gradient", by_hand::dense(kind::GRADIENT, 0, 0, &gradient)),
        ("digest", by_hand::digest_frame(1, by_hand::digest(&x1))),
        ("bye", by_hand::text(kind::BYE, "the run is over")),
        ("seal", by_hand::seal(0, signature(&signs, &abstain))),
        ("statistics", by_hand::statistics(2, &[0.5, 2.0])),
        ("ask", by_hand::ask(VERSION)),
        ("welcome-offer", by_hand::welcome(VERSION, 1, 0, &terms(1))),
        ("welcome-compare", by_hand::welcome(VERSION, 1, 1, &terms(2))),
        ("welcome-follow", by_hand::welcome(VERSION, 1, 2, &terms(2))),
        ("welcome-signed", by_hand::welcome_with(1, VERSION, 1, 0, &signed)),
        ("refused-again", by_hand::refused(1, "place 2 is taken by a connected worker")),
        (
            "refused-never",
            by_hand::refused(
                0,
                "this run trains a model with 130 coordinates, the worker has another model, with 131",
            ),
        ),
        ("state", by_hand::position(kind::STATE, 0, 0, h0)),
        ("open", by_hand::position(kind::OPEN, 0, 0, h0)),
        ("verdict-dense", by_hand::planes(kind::VERDICT, 0, 0, &signs[..1], &abstain[..1])),
        ("verdict-runs", by_hand::planes(kind::VERDICT, 0, 1, &signs[1..2], &abstain[1..2])),
        ("update", by_hand::dense(kind::UPDATE, 0, 0, &gradient)),
        ("commit", commit.frame()),
        ("finish", by_hand::text(kind::FINISH, "all rounds are done")),
        ("status", by_hand::frame(kind::STATUS, &[br#"{"round":1}"#])),
        ("pause", by_hand::text(kind::PAUSE, "an upgrade")),
        ("wait", by_hand::text(kind::WAIT, "1 of 2 workers are there")),
    ]
}

/// The signature under the first round's ballot of the only worker.
fn signature(signs: &[u64], abstain: &[u64]) -> [u8; 64] {
    use ed25519_dalek::Signer as _;
    let chunks: Vec<_> =
        signs.iter().zip(abstain).map(|(&s, &a)| by_hand::ballot_chunk_hash(&[s], &[a])).collect();
    let message = by_hand::sealed(*b"0123456789abcdef", 0, 0, &chunks);
    ed25519_dalek::SigningKey::from_bytes(&KEY).sign(&message).to_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Compares with a file of `name hex` lines, or rewrites it.
fn hold_against(file: &str, frames: &[(String, String)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let text: String = frames.iter().map(|(name, hex)| format!("{name} {hex}\n")).collect();
    if std::env::var_os("SIGNVOTE_REWRITE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (line, golden) in text.lines().zip(golden.lines()) {
        assert_eq!(line, golden, "other bytes than in {file}: SIGNVOTE_REWRITE_GOLDEN=1 rewrites it");
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}

#[test]
fn every_kind_of_frame_keeps_its_bytes() {
    let frames: Vec<_> = examples().into_iter().map(|(name, frame)| (name, hex(&frame))).collect();
    hold_against("frames.hex", &frames);
}

#[test]
fn the_bytes_are_those_that_the_description_says() {
    let (examples, assembled) = (examples(), assembled());
    assert_eq!(examples.len(), assembled.len());
    for ((name, frame), (other, by_hand)) in examples.iter().zip(&assembled) {
        assert_eq!(name, other);
        assert_eq!(hex(frame), hex(by_hand), "{name}");
    }
    // No kind is missing.
    let mut kinds: Vec<_> = examples.iter().map(|(_, frame)| by_hand::kind_of(frame)).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 18, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42]);
}

/// What a worker, the only shard of its run and their server say to each other in one round, with the ends of each frame. One
/// voter decides alone, and its ballots are signed.
fn sharded_conversation() -> Vec<(&'static str, Bytes)> {
    const SHARD: PeerId = PeerId(2);
    let mut config = Config {
        topology: Topology::Sharded { shards: 1, replicas: 1 },
        record_ballots: false,
        secret: [5; 32],
        ..run(AggregateKind::Vote)
    };
    (config.terms.workers, config.terms.rounds, config.terms.signed) = (1, 1, true);
    let mut server = Server::new(config).unwrap();
    let key = SecretKey::from_seed(&KEY);
    let identity = |name: &str| Some(Identity { name: name.into(), key: key.public() });
    server.connected(NOW, PEER, Origin { identity: identity("ada"), ..Origin::default() });
    let at = Origin { address: "10.0.0.9".into(), identity: identity("bob"), local: false };
    server.connected(NOW, SHARD, at);
    let enrolment = Enrolment { run: None, name: "unread".into(), address: ":7701".into() };
    let mut shard = Shard::new(enrolment);
    let mut voter = Voter::new(Greeting { slot: Slot::new(1), key: Some(key.clone()), ..greeting() });
    let mut said = vec![];
    loop {
        let before = said.len();
        while let Some(frame) = voter.poll_transmit() {
            server.handle(NOW, PEER, &frame);
            said.push(("worker to server", frame));
        }
        while let Some((_, frame)) = voter.poll_shard_transmit() {
            shard.handle(PEER, &frame);
            said.push(("worker to shard", frame));
        }
        while let Some(output) = shard.poll() {
            match output {
                ShardOutput::Server(frame) => {
                    server.handle(NOW, SHARD, &frame);
                    said.push(("shard to server", frame));
                }
                ShardOutput::Send { frame, .. } => {
                    voter.handle_shard(ShardId(1), &frame).unwrap();
                    said.push(("shard to worker", frame));
                }
                _ => {}
            }
        }
        while let Some(output) = server.poll() {
            match output {
                Output::Send { peer: PEER, frame } => {
                    voter.handle(&frame).unwrap();
                    said.push(("server to worker", frame));
                }
                Output::Send { frame, .. } => {
                    shard.handle_server(&frame).unwrap();
                    said.push(("server to shard", frame));
                }
                _ => {}
            }
        }
        if voter.take_shard_addresses().is_some_and(|addresses| !addresses.is_empty()) {
            shard.connected(PEER);
            voter.shard_connected(ShardId(1));
        }
        while let Some(step) = voter.poll_step() {
            match step {
                Step::Welcomed => voter.provide(model().1).unwrap(),
                Step::Open { round } => cast(&mut voter, round, AggregateKind::Vote),
                _ => {}
            }
        }
        if said.len() == before {
            return said;
        }
    }
}

#[test]
fn the_frames_of_the_sharded_form_are_those_that_the_description_says() {
    let said = sharded_conversation();
    let of = |ends: &str, kind: u8| {
        let is = |(between, frame): &&(&str, Bytes)| *between == ends && by_hand::kind_of(frame) == kind;
        said.iter().filter(is).map(|(_, frame)| frame.clone()).collect::<Vec<_>>()
    };
    let (signs, abstain) = planes();
    let run_id = *b"0123456789abcdef";
    let version = [VERSION.0.to_le_bytes(), VERSION.1.to_le_bytes()].concat();
    let magic = [&b"signvote"[..], &version].concat();
    let le = |number: u64, bytes: usize| number.to_le_bytes()[..bytes].to_vec();
    let text = |text: &str| [&le(text.len() as u64, 2)[..], text.as_bytes()].concat();
    let frame = |kind: u8, parts: &[&[u8]]| by_hand::frame(kind, parts);

    let enrol = frame(12, &[&magic, &le(0, 8), &[0; 16], &text("unread"), &text(":7701")]);
    assert_eq!(of("shard to server", 12), [enrol]);
    // One position, whose only holder is shard 1.
    let sharding = [le(1, 4), vec![1], le(1, 4)].concat();
    let key = blake3::Hasher::new_derive_key("signvote 2026-11 ticket");
    let ticket = key.clone().update(&[5; 32]).update(&le(1, 8)).finalize().as_bytes()[..16].to_vec();
    let charge = [
        &version[..],
        &le(1, 4),
        &run_id,
        &le(130, 8),
        &le(64, 4),
        &le(1, 2),
        // Ties hold.
        &[1],
        &le(1, 4),
        &le(run(AggregateKind::Vote).terms.seed, 8),
        &le(1, 4),
        &[1],
    ]
    .concat();
    assert_eq!(of("server to shard", 64), [frame(64, &[&charge])]);
    assert_eq!(of("server to shard", 65).last().unwrap(), &frame(65, &[&le(1, 2), &le(1, 2), &ticket]));
    let tally = frame(66, &[&le(0, 8), &[0, 1], &le(1, 2), &le(1, 8), &sharding]);
    assert_eq!(of("server to shard", 66), [tally]);
    let address = [&le(1, 2)[..], &le(1, 4), &text("bob"), &text("10.0.0.9:7701")].concat();
    let shards = frame(43, &[&ticket, &[0], &address, &sharding]);
    assert_eq!(of("server to worker", 43).last().unwrap(), &shards);
    assert_eq!(of("worker to shard", 11), [frame(11, &[&magic, &run_id, &le(1, 2), &ticket])]);

    let ballot = |kind, chunk: usize| {
        by_hand::planes(kind, 0, chunk as u32, &signs[chunk..=chunk], &abstain[chunk..=chunk])
    };
    assert_eq!(of("worker to shard", kind::BALLOT), [0, 1, 2].map(|chunk| ballot(kind::BALLOT, chunk)));
    let verdicts = [0, 1, 2].map(|chunk| ballot(kind::VERDICT, chunk));
    assert_eq!(of("shard to worker", kind::VERDICT), verdicts);
    assert_eq!(of("shard to server", kind::VERDICT), verdicts);
    for (chunk, tallied) in of("shard to server", 13).iter().enumerate() {
        let (length, holds) = ([64, 64, 2][chunk], u64::from(abstain[chunk].count_ones()));
        let values: Vec<i8> = (0..length)
            .map(|i| if abstain[chunk] >> i & 1 == 1 { 0 } else { 1 - 2 * (signs[chunk] >> i & 1) as i8 })
            .collect();
        // It voted where it does not abstain, and agrees with itself there.
        let voter = [&le(1, 2)[..], &le(length - holds, 4), &le(0, 4)].concat();
        let hash = by_hand::ballot_chunk_hash(&signs[chunk..=chunk], &abstain[chunk..=chunk]);
        let of_verdict = by_hand::verdict_hash(&values);
        let parts = [
            &le(0, 8)[..],
            &le(chunk as u64, 4),
            &of_verdict,
            &le(0, 4),
            &le(holds, 4),
            &le(1, 2),
            &voter,
            &[1],
            &hash,
        ];
        assert_eq!(tallied, &frame(13, &parts));
    }
    assert_eq!(of("shard to server", 14), [frame(14, &[&le(0, 8), &le(1, 2)])]);
    let bytes = |kind| [0, 1, 2].map(|chunk| ballot(kind, chunk).len() as u64).iter().sum::<u64>();
    let row = [le(1, 2), le(bytes(kind::BALLOT), 8), le(bytes(kind::VERDICT), 8)].concat();
    assert_eq!(of("shard to server", 17), [frame(17, &[&le(1, 2), &row])]);
    assert_eq!(of("worker to server", kind::SEAL).len(), 1);
    assert_eq!(of("server to worker", kind::COMMIT).len(), 1);
    assert_eq!(of("server to shard", kind::FINISH).len(), 1);
}

#[test]
fn every_golden_frame_is_read_by_the_side_that_it_is_for() {
    for (name, frame) in examples() {
        let kind = by_hand::kind_of(&frame);
        // 36: a shard tells the server its verdict in the frame that workers are sent.
        let to_server = kind < 32 || kind == 36;
        let to_worker = kind >= 31;
        assert_eq!(wire::ToServer::decode(&frame).is_ok(), to_server, "{name} to a server");
        assert_eq!(wire::ToWorker::decode(&frame).is_ok(), to_worker, "{name} to a worker");
    }
}

#[test]
fn a_charter_and_a_record_keep_their_bytes() {
    let (said, records, charter) = recorded_conversation(AggregateKind::Vote, true);
    let bytes = |record: &Record| hex(&record.encode());
    hold_against(
        "records.hex",
        &[("charter".into(), hex(&charter)), ("record-signed".into(), bytes(&records[0]))],
    );
    // By hand.
    let (layout, x) = model();
    let terms = Terms { workers: 1, signed: true, ..run(AggregateKind::Vote).terms };
    let rules = [&[1][..], &1_u32.to_le_bytes(), &1_u32.to_le_bytes()].concat();
    let model = &by_hand::init(&layout, &[("model", "mlp")])[5..];
    assert_eq!(hex(&charter), hex(&[&by_hand::terms_bytes(&terms)[..], &rules, model].concat()));

    let of_kind = |kind: u8| said.iter().filter(move |frame| by_hand::kind_of(frame) == kind);
    let (signs, abstain) = planes();
    let h0 = by_hand::chain_start(terms.run.0, &layout, &x);
    let commit = of_kind(kind::COMMIT).next().unwrap();
    let slot = 1_u16.to_le_bytes();
    let mut record = [&0_u64.to_le_bytes()[..], &0_u32.to_le_bytes(), &h0].concat();
    record.extend([&0_u32.to_le_bytes()[..], &Commit::read(commit).chain].concat());
    record.extend(4_u32.to_le_bytes());
    of_kind(kind::VERDICT).take(3).chain([commit]).for_each(|frame| record.extend_from_slice(frame));
    // One set of voters for three chunks: one word, with the bit of place 1.
    record.extend([&1_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), &slot, &1_u64.to_le_bytes()].concat());
    record.extend([&slot[..], &slot, &signature(&signs, &abstain)].concat());
    record.extend(3_u32.to_le_bytes());
    of_kind(kind::BALLOT).take(3).for_each(|frame| record.extend([&slot[..], frame].concat()));
    assert_eq!(bytes(&records[0]), hex(&record));
}

#[test]
fn digests_and_the_chain_keep_their_values() {
    let (layout, x) = model();
    let long: Vec<f32> = (0..200_000_u32).map(|i| i as f32).collect();
    let value = |name: &str, bytes: [u8; 32]| (name.to_owned(), hex(&bytes));
    let of = |x: &[f32]| signvote_election::DigestTree::new(x).root().0;
    hold_against(
        "hashes.hex",
        &[
            value("layout", layout.digest()),
            value("digest-130", of(&x)),
            value("digest-200000", of(&long)),
            value("chain-start", by_hand::chain_start(*b"0123456789abcdef", &layout, &x)),
        ],
    );
    // Four leaves, and in the others an odd one out at one level or another.
    for length in [1, 65_536, 65_537, 131_073, 200_000] {
        assert_eq!(of(&long[..length]), by_hand::digest(&long[..length]));
    }
    assert_eq!(layout.digest(), by_hand::layout_digest(&layout));
}

#[test]
fn a_dense_round_costs_at_most_1_02_bits_a_coordinate_each_way() {
    // The mlp 784-256-10, in chunks of the default length.
    let d = 203_530;
    for digest_every in [0, 1] {
        let rounds = 3;
        let mut config = config(3, rounds);
        config.terms.chunk_coordinates = 65_536;
        config.terms.digest_every = digest_every;
        let mut sim = Sim::full(Setup::new(config, d, dense_source(d, 60)));
        sim.run();
        sim.assert_identical_replicas(3);
        let bits = |bytes: usize| 8.0 * bytes as f64 / (rounds as usize * d) as f64;
        for worker in &sim.workers {
            let (up, down) = (bits(worker.round_up_bytes), bits(worker.round_down_bytes));
            assert!(up <= 1.02 && up > 1.0, "{up} bits up");
            assert!(down <= 1.02 && down > 1.0, "{down} bits down");
            assert!(32.0 / up >= 31.0 && 32.0 / down >= 31.0);
            // Parameters and greetings are counted apart.
            assert!(worker.all_up_bytes > worker.round_up_bytes);
            assert!(worker.all_down_bytes > worker.round_down_bytes);
        }
    }
}

#[test]
fn kinds_count_as_round_traffic_or_not() {
    let of_rounds = [kind::REPORT, kind::BALLOT, kind::GRADIENT, kind::DIGEST, kind::SEAL];
    // 44: which of several verdicts of shards counts.
    let to_workers = [kind::VERDICT, kind::UPDATE, kind::COMMIT, 44];
    for kind in 0..=u8::MAX {
        let expected = of_rounds.contains(&kind) || to_workers.contains(&kind);
        assert_eq!(wire::is_round_traffic(kind), expected, "{kind}");
    }
}
