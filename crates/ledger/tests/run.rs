//! A real election that is logged, killed, resumed and audited.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{as_killed, log, snapshot_file};
use signvote_election::{
    AggregateKind, Config, DigestTree, Greeting, Identity, Incarnation, Layout, Origin, Output, PeerId,
    Round, RunId, Saved, Schedule, SecretKey, Server, Settings, Shape, Slot, Step, StepRule, TensorSpec,
    Terms, Voter,
};
use signvote_kernels::AbstainOn;
use signvote_ledger::{Audit, Base, Durable, Error, Ledger, Options, Recovered, audit};
use signvote_observe::{RunConfig, save_model};

const WORKERS: u16 = 3;
const DIMENSION: usize = 300;
const ROUNDS: u64 = 12;
const SNAPSHOT_EVERY: u64 = 5;
const NOW: Duration = Duration::ZERO;

fn layout() -> Layout {
    Layout::new(vec![TensorSpec { name: "weight".into(), shape: vec![DIMENSION] }]).unwrap()
}

fn first_parameters() -> Vec<f32> {
    (0..DIMENSION).map(|index| (index as f32).sin()).collect()
}

fn config() -> Config {
    let terms = Terms {
        run: RunId(*b"a run of a test."),
        workers: WORKERS,
        batch: 32,
        seed: 7,
        rounds: ROUNDS,
        aggregate: AggregateKind::Vote,
        beta: 0.0,
        abstain_on: AbstainOn::Momentum,
        chunk_coordinates: 128,
        digest_every: 0,
        max_non_finite: 0,
        signed: true,
        step: StepRule::default(),
        settings: Settings::default(),
    };
    Config {
        // All of them, so that the ballots are the same however the run is cut.
        quorum: usize::from(WORKERS),
        weight_decay: 0.1,
        initial: Some((layout(), first_parameters(), Settings::default())),
        record_ballots: true,
        ..Config::new(terms, Schedule::new(0.01, 2, ROUNDS, Shape::Cosine).unwrap())
    }
}

fn key(slot: u16) -> SecretKey {
    SecretKey::from_seed(&[slot as u8; 32])
}

/// The votes of a worker in a round: words of signs, from its place and the round alone.
fn signs(slot: u16, round: u64) -> Vec<u64> {
    let hash = blake3::hash(&[&slot.to_le_bytes()[..], &round.to_le_bytes()].concat());
    let word = |at: usize| u64::from_le_bytes(hash.as_bytes()[at..at + 8].try_into().unwrap());
    let mut words: Vec<u64> = (0..DIMENSION.div_ceil(64)).map(|index| word(index % 4 * 8)).collect();
    *words.last_mut().unwrap() &= (1 << (DIMENSION % 64)) - 1;
    words
}

fn base(server: &Server) -> Base {
    let x = server.model().unwrap().1;
    Base { position: server.position(), digest: DigestTree::new(x).root() }
}

fn save(server: &Server) -> impl FnOnce(&Path) -> Result<(), signvote_observe::Error> {
    let (layout, x, settings) = server.model().unwrap();
    let (layout, x, settings, round) = (layout.clone(), x.to_vec(), settings.clone(), server.round());
    move |path| save_model(path, &layout, &x, round, &RunConfig::new(), &settings)
}

/// Serves until `until` rounds are committed, as a shell does: what is to be logged is logged before
/// anything behind it is sent, and a snapshot is taken every few rounds. Gives the parameters.
fn serve(mut server: Server, ledger: &mut Ledger, until: u64) -> Vec<f32> {
    let mut voters: Vec<Voter> = (1..=WORKERS)
        .map(|slot| {
            let key = key(slot);
            let identity = Identity { name: format!("worker {slot}"), key: key.public() };
            let origin = Origin { address: "here".into(), identity: Some(identity), local: true };
            server.connected(NOW, PeerId(slot.into()), origin);
            Voter::new(Greeting {
                layout: layout(),
                settings: Settings::default(),
                run: None,
                slot: Slot::new(slot),
                name: format!("worker {slot}"),
                key: Some(key),
                statistics: false,
            })
        })
        .collect();
    while server.round().0 < until {
        let round = server.round();
        for (slot, voter) in (1..).zip(&mut voters) {
            while let Some(step) = voter.poll_step() {
                match step {
                    Step::Welcomed if voter.wants_parameters() => voter.provide(first_parameters()).unwrap(),
                    Step::Open { round } => {
                        voter.report(1.0, 1, 32, 0).unwrap();
                        let signs = signs(slot, round.0);
                        voter.submit_signs(0, &signs, &vec![0; signs.len()]).unwrap();
                    }
                    _ => {}
                }
            }
            while let Some(frame) = voter.poll_transmit() {
                server.handle(NOW, PeerId(slot.into()), &frame);
            }
        }
        while let Some(output) = server.poll() {
            match output {
                Output::Send { peer, frame } => voters[peer.0 as usize - 1].handle(&frame).unwrap(),
                Output::Record(record) => ledger.record(&record).unwrap(),
                Output::Bound { slot, identity } => ledger.bind(slot, &identity).unwrap(),
                Output::Close { peer } => panic!("{peer:?} is put out"),
                _ => {}
            }
            let drained: Vec<_> = (1..=WORKERS).map(|slot| PeerId(slot.into())).collect();
            drained
                .into_iter()
                .filter(|&peer| server.is_behind(peer))
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|peer| server.drained(NOW, peer));
        }
        if server.round() != round && server.round().0.is_multiple_of(SNAPSHOT_EVERY) {
            ledger.rotate(base(&server), save(&server)).unwrap();
        }
    }
    server.model().unwrap().1.to_vec()
}

fn begin(run: &Path, durable: Durable) -> (Server, Ledger) {
    let server = Server::new(config()).unwrap();
    let charter = server.charter().unwrap().encode();
    let options = Options { durable, keep_all: true, ..Options::default() };
    let ledger = Ledger::create(run, charter, base(&server), options, save(&server)).unwrap();
    (server, ledger)
}

fn resume(run: &Path, durable: Durable) -> (Server, Ledger) {
    let recovered = Recovered::open(run).unwrap();
    let saved: Saved = recovered.saved(1 << 20).unwrap();
    let server = Server::resume(NOW, config(), saved).unwrap();
    let options = Options { durable, keep_all: true, ..Options::default() };
    (server, recovered.resume(options).unwrap())
}

fn audited(run: &Path) -> Audit {
    let mut heard = 0;
    let report = audit(run, &mut |_, _| heard += 1).unwrap();
    assert_eq!(heard, report.rounds);
    report
}

#[test]
fn a_run_that_is_killed_at_any_round_ends_with_the_bits_of_one_that_is_not() {
    let whole = tempfile::tempdir().unwrap();
    let (server, mut ledger) = begin(whole.path(), Durable::Always);
    let expected = serve(server, &mut ledger, ROUNDS);
    for killed_at in 0..ROUNDS {
        for durable in [Durable::Always, Durable::Interval] {
            let first = tempfile::tempdir().unwrap();
            let (server, mut ledger) = begin(first.path(), durable);
            serve(server, &mut ledger, killed_at);
            let run = as_killed(first.path());
            let (server, mut ledger) = resume(run.path(), durable);
            let incarnation = Incarnation(u32::from(durable == Durable::Interval));
            assert_eq!((server.round(), server.position().incarnation), (Round(killed_at), incarnation));
            let x = serve(server, &mut ledger, ROUNDS);
            assert_eq!(x, expected, "killed at {killed_at}, {durable}");
            let report = audited(run.path());
            assert_eq!((report.rounds, report.difference), (ROUNDS, None));
            assert_eq!(report.digest, DigestTree::new(&expected).root());
            assert_eq!(report.recomputed, ROUNDS * 3);
            assert_eq!(report.signed + report.unsigned, ROUNDS * u64::from(WORKERS));
            // In the first round of a server that was started again nobody waits for the last signature.
            assert!(report.unsigned <= 1, "killed at {killed_at}");
            assert_eq!((report.to.round, report.to.incarnation), (Round(ROUNDS), incarnation));
        }
    }
}

#[test]
fn a_record_that_lies_is_named_by_its_round() {
    let run = tempfile::tempdir().unwrap();
    let (server, mut ledger) = begin(run.path(), Durable::Interval);
    serve(server, &mut ledger, 4);
    drop(ledger);
    // A server that forges round 4 and keeps sound checksums: it logs another verdict than that of the ballots.
    let recovered = Recovered::open(run.path()).unwrap();
    let payloads: Vec<_> = recovered
        .entries()
        .map(|entry| entry.unwrap())
        .filter(|e| e.kind == signvote_ledger::Kind::Record)
        .collect();
    let record =
        |index: usize| signvote_election::Record::decode(&payloads[index].payload.clone().into()).unwrap();
    let mut forged = record(3);
    let last = forged.frames[0].len() - 1;
    let mut verdict = forged.frames[0].to_vec();
    verdict[last] ^= 1;
    forged.frames[0] = verdict.into();
    let copy = tempfile::tempdir().unwrap();
    let (server, mut ledger) = begin(copy.path(), Durable::Interval);
    drop(server);
    for (slot, identity) in recovered.members().unwrap() {
        ledger.bind(slot, &identity).unwrap();
    }
    (0..3).for_each(|index| ledger.record(&record(index)).unwrap());
    ledger.record(&forged).unwrap();
    drop(ledger);
    let report = audited(copy.path());
    assert_eq!(report.rounds, 3);
    let difference = report.difference.unwrap();
    assert_eq!(difference.round, Round(3));
    assert!(difference.reason.contains("majority of the recorded ballots"), "{}", difference.reason);
    // Neither can it be gone on from: the chain hash is another one.
    let error = Recovered::open(copy.path()).unwrap().saved(1 << 20).unwrap_err();
    assert!(matches!(error, Error::Untrue { .. }), "{error}");
    assert!(error.to_string().contains("round 3"), "{error}");
}

#[test]
fn a_snapshot_that_the_rounds_do_not_lead_to_is_named() {
    let run = tempfile::tempdir().unwrap();
    let (server, mut ledger) = begin(run.path(), Durable::Interval);
    serve(server, &mut ledger, 4);
    // A server that replaces the parameters and says so in the next header.
    let recovered_at = {
        let killed = as_killed(run.path());
        Recovered::open(killed.path()).unwrap().saved(0).unwrap().position
    };
    let mut x = first_parameters();
    x[0] += 1.0;
    let forged = Base { position: recovered_at, digest: DigestTree::new(&x).root() };
    ledger
        .rotate(forged, |path| {
            save_model(path, &layout(), &x, recovered_at.round, &RunConfig::new(), &Settings::default())
        })
        .unwrap();
    let difference = audited(run.path()).difference.unwrap();
    assert_eq!(difference.round, Round(4));
    assert!(difference.reason.contains("the snapshot has"), "{}", difference.reason);
}

#[test]
fn an_audit_starts_at_the_oldest_whole_snapshot_and_tells_gaps() {
    let run = tempfile::tempdir().unwrap();
    let (server, mut ledger) = begin(run.path(), Durable::Interval);
    serve(server, &mut ledger, ROUNDS);
    let copy = as_killed(run.path());
    fs::remove_file(snapshot_file(copy.path(), 0)).unwrap();
    let report = audited(copy.path());
    assert_eq!((report.from.round, report.to.round), (Round(5), Round(ROUNDS)));
    assert_eq!(report.notices.len(), 1);
    // A snapshot between two whole ones is not needed, its segment is.
    let copy = as_killed(run.path());
    fs::remove_file(snapshot_file(copy.path(), 5)).unwrap();
    assert_eq!(audited(copy.path()).rounds, ROUNDS);
    fs::remove_file(log(copy.path(), 5)).unwrap();
    assert!(matches!(audit(copy.path(), &mut |_, _| ()), Err(Error::Corrupt { .. })));
    // A torn tail is told.
    let copy = as_killed(run.path());
    let bytes = fs::read(log(copy.path(), 10)).unwrap();
    fs::write(log(copy.path(), 10), &bytes[..bytes.len() - 1]).unwrap();
    let report = audited(copy.path());
    assert_eq!((report.rounds, report.torn.unwrap().path), (ROUNDS - 1, log(copy.path(), 10)));

    let run = tempfile::tempdir().unwrap();
    let (server, mut ledger) = begin(run.path(), Durable::Off);
    serve(server, &mut ledger, ROUNDS);
    let report = audited(run.path());
    assert_eq!(report.gaps, [(Round(0), Round(5)), (Round(5), Round(10))]);
    assert_eq!((report.rounds, report.to.round, report.difference), (0, Round(10), None));
}

#[test]
fn members_stay_bound_and_the_ring_is_bounded_without_ballots() {
    let run = tempfile::tempdir().unwrap();
    let (server, mut ledger) = begin(run.path(), Durable::Always);
    serve(server, &mut ledger, ROUNDS);
    drop(ledger);
    let recovered = Recovered::open(run.path()).unwrap();
    let slots: Vec<_> = recovered.members().unwrap().iter().map(|(slot, _)| slot.number()).collect();
    assert_eq!(slots, [1, 2, 3]);
    let saved = recovered.saved(1 << 20).unwrap();
    let rounds: Vec<_> = saved.records.iter().map(|record| record.round().0).collect();
    // Also from before the snapshot, which was taken at round 10.
    assert_eq!(rounds, (0..ROUNDS).collect::<Vec<_>>());
    assert!(saved.records.iter().all(|record| record.ballots.is_empty()));
    let bytes = saved.records[11].frames.iter().map(bytes::Bytes::len).sum();
    let newest = |bytes: usize| -> Vec<u64> {
        let saved = recovered.saved(bytes).unwrap();
        assert_eq!(saved.position.round, Round(ROUNDS));
        saved.records.iter().map(|record| record.round().0).collect()
    };
    assert_eq!(newest(bytes - 1), [0; 0]);
    assert_eq!(newest(bytes), [11]);
    for count in 2..ROUNDS {
        let room: usize = saved.records[(ROUNDS - count) as usize..]
            .iter()
            .flat_map(|record| &record.frames)
            .map(bytes::Bytes::len)
            .sum();
        assert_eq!(newest(room), (ROUNDS - count..ROUNDS).collect::<Vec<_>>());
        assert_eq!(newest(room - 1), (ROUNDS - count + 1..ROUNDS).collect::<Vec<_>>());
    }
    // No further than the segments can be read.
    let copy = as_killed(run.path());
    let length = fs::metadata(log(copy.path(), 5)).unwrap().len();
    fs::File::options().write(true).open(log(copy.path(), 5)).unwrap().set_len(length - 1).unwrap();
    let saved = Recovered::open(copy.path()).unwrap().saved(1 << 20).unwrap();
    assert_eq!(saved.records.iter().map(|record| record.round().0).collect::<Vec<_>>(), [10, 11]);
}
