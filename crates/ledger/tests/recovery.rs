//! Snapshots, segments and servers that come and go.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::*;
use signvote_election::Incarnation;
use signvote_ledger::{Durable, Error, Kind, Ledger, Options, Recovered};

/// Three segments: rounds 0 to 3, 4 to 6, 7 and 8.
fn three_segments(run: &Path, durable: Durable) -> Ledger {
    let mut ledger = create(run, durable);
    append(&mut ledger, 0..4);
    ledger.append(Kind::Member, b"anna").unwrap();
    ledger.rotate(base(4), snapshot(4)).unwrap();
    append(&mut ledger, 4..7);
    ledger.append(Kind::Member, b"berta").unwrap();
    ledger.rotate(base(7), snapshot(7)).unwrap();
    append(&mut ledger, 7..9);
    ledger
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    // Not through the name that the model file shares.
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_was_written_before_a_kill_is_there_under_always_and_interval() {
    for durable in [Durable::Always, Durable::Interval] {
        let run = tempfile::tempdir().unwrap();
        let ledger = three_segments(run.path(), durable);
        let killed = as_killed(run.path());
        let recovered = Recovered::open(killed.path()).unwrap();
        assert_eq!(recovered.base, base(7));
        assert_eq!(recovered.model.x, parameters(7));
        assert_eq!(recovered.charter_bytes, CHARTER);
        assert_eq!(recovered.member_bytes, [b"anna".to_vec(), b"berta".to_vec()]);
        assert_eq!(records(&recovered), expected(7..9));
        assert_eq!((recovered.durable, recovered.clean), (durable, false));
        assert_eq!((&recovered.torn, &recovered.notices[..]), (&None, &[][..]));
        assert_eq!(recovered.next_incarnation(), Incarnation(u32::from(durable == Durable::Interval)));
        drop(ledger);
    }
}

#[test]
fn off_keeps_snapshots_and_members_alone() {
    let run = tempfile::tempdir().unwrap();
    let ledger = three_segments(run.path(), Durable::Off);
    ledger.close().unwrap();
    let recovered = Recovered::open(run.path()).unwrap();
    assert_eq!((recovered.base, recovered.records, recovered.member_bytes.len()), (base(7), 0, 2));
    // Rounds 7 and 8 are nowhere.
    assert!(!recovered.clean);
    assert_eq!(recovered.next_incarnation(), Incarnation(1));
    drop(recovered);
    // An older snapshot cannot take the place of the newest: the rounds between are nowhere either.
    flip(&snapshot_file(run.path(), 7), 170);
    let error = Recovered::open(run.path()).unwrap_err();
    assert!(matches!(error, Error::NoSnapshot { .. }), "{error}");
    assert!(error.to_string().contains("does not go on"), "{error}");
}

#[test]
fn a_clean_end_keeps_the_incarnation_and_holds_until_somebody_goes_on() {
    let run = tempfile::tempdir().unwrap();
    three_segments(run.path(), Durable::Interval).close().unwrap();
    let recovered = Recovered::open(run.path()).unwrap();
    assert!(recovered.clean);
    assert_eq!(recovered.next_incarnation(), Incarnation(0));
    let ledger = recovered.resume(options(Durable::Interval)).unwrap();
    // Killed before the first round.
    let killed = as_killed(run.path());
    let recovered = Recovered::open(killed.path()).unwrap();
    assert!(!recovered.clean);
    assert_eq!(records(&recovered), expected(7..9));
    assert_eq!(recovered.next_incarnation(), Incarnation(1));
    drop(ledger);
}

#[test]
fn incarnations_count_on_and_a_promise_holds_from_the_server_that_gave_it() {
    let run = tempfile::tempdir().unwrap();
    let mut ledger = three_segments(run.path(), Durable::Interval);
    for (durable, incarnation) in [
        (Durable::Interval, 1),
        (Durable::Always, 2),
        (Durable::Always, 2),
        (Durable::Off, 2),
        (Durable::Always, 3),
    ] {
        drop(ledger);
        let recovered = Recovered::open(run.path()).unwrap();
        assert_eq!(recovered.next_incarnation(), Incarnation(incarnation));
        ledger = recovered.resume(options(durable)).unwrap();
    }
    let mut recovered = Recovered::open(as_killed(run.path()).path()).unwrap();
    assert_eq!(recovered.next_incarnation(), Incarnation(3));
    recovered.distrust();
    assert_eq!(recovered.next_incarnation(), Incarnation(4));
    let mut new = base(9);
    new.position.incarnation = Incarnation(3);
    ledger.rotate(new, snapshot(9)).unwrap();
    drop(ledger);
    let recovered = Recovered::open(run.path()).unwrap();
    assert_eq!(
        (recovered.base, recovered.incarnation, recovered.durable),
        (new, Incarnation(3), Durable::Always)
    );
}

#[test]
fn a_damaged_snapshot_is_replaced_by_an_older_one_and_the_log_since() {
    let run = tempfile::tempdir().unwrap();
    drop(three_segments(run.path(), Durable::Interval));
    let damage: [fn(&Path); 3] = [
        |path| flip(path, fs::metadata(path).unwrap().len() as usize - 1),
        |path| fs::write(path, b"torn").unwrap(),
        |path| fs::remove_file(path).unwrap(),
    ];
    for damage in damage {
        let copy = as_killed(run.path());
        damage(&snapshot_file(copy.path(), 7));
        let recovered = Recovered::open(copy.path()).unwrap();
        assert_eq!((recovered.base, &recovered.model.x), (base(4), &parameters(4)));
        assert_eq!(records(&recovered), expected(4..9));
        assert_eq!(recovered.member_bytes, [b"anna".to_vec(), b"berta".to_vec()]);
        let [notice] = &recovered.notices[..] else { panic!("{:?}", recovered.notices) };
        assert!(notice.contains("000000000007.safetensors") && notice.contains("round 4"), "{notice}");
        drop(recovered);

        damage(&snapshot_file(copy.path(), 4));
        let recovered = Recovered::open(copy.path()).unwrap();
        assert_eq!((recovered.base, records(&recovered)), (base(0), expected(0..9)));
        assert_eq!(recovered.notices.len(), 2);
        // It goes on in the newest segment, and the next snapshot heals it.
        let mut ledger = recovered.resume(options(Durable::Interval)).unwrap();
        append(&mut ledger, 9..11);
        let killed = as_killed(copy.path());
        assert_eq!(records(&Recovered::open(killed.path()).unwrap()), expected(0..11));
        ledger.rotate(base(11), snapshot(11)).unwrap();
        let killed = as_killed(copy.path());
        let recovered = Recovered::open(killed.path()).unwrap();
        assert_eq!((recovered.base, recovered.records, recovered.notices.len()), (base(11), 0, 0));
        drop(ledger);

        damage(&snapshot_file(copy.path(), 0));
        damage(&snapshot_file(copy.path(), 11));
        let error = Recovered::open(copy.path()).unwrap_err();
        let Error::NoSnapshot { reasons, .. } = &error else { panic!("{error}") };
        assert_eq!(reasons.len(), 4, "{error}");
    }
}

#[test]
fn a_damaged_older_segment_does_not_matter_until_it_is_needed() {
    let run = tempfile::tempdir().unwrap();
    drop(three_segments(run.path(), Durable::Interval));
    let size = fs::metadata(log(run.path(), 4)).unwrap().len() as usize;
    flip(&log(run.path(), 4), size - 1);
    let recovered = Recovered::open(run.path()).unwrap();
    assert_eq!(records(&recovered), expected(7..9));
    drop(recovered);
    fs::remove_file(snapshot_file(run.path(), 7)).unwrap();
    let error = Recovered::open(run.path()).unwrap_err().to_string();
    assert!(error.contains("000000000007.safetensors") && error.contains("000000000004.log"), "{error}");
}

#[test]
fn a_segment_that_was_cut_at_an_entry_is_not_gone_on_from() {
    let run = tempfile::tempdir().unwrap();
    drop(three_segments(run.path(), Durable::Interval));
    // Whole by itself, but the last entry (a member of 5 bytes) is gone.
    let segment = fs::read(log(run.path(), 4)).unwrap();
    fs::write(log(run.path(), 4), &segment[..segment.len() - 29 - 5 - 16]).unwrap();
    fs::remove_file(snapshot_file(run.path(), 7)).unwrap();
    let error = Recovered::open(run.path()).unwrap_err().to_string();
    assert!(error.contains("does not go on where"), "{error}");
}

#[test]
fn the_model_file_is_the_newest_snapshot() {
    let run = tempfile::tempdir().unwrap();
    let mut ledger = create(run.path(), Durable::Interval);
    let model = run.path().join("model.safetensors");
    for round in [0, 3, 3, 8] {
        ledger.rotate(base(round), snapshot(round)).unwrap();
        assert_eq!(fs::read(&model).unwrap(), fs::read(snapshot_file(run.path(), round)).unwrap());
        assert_eq!(signvote_observe::load_model(&model).unwrap().x, parameters(round));
    }
    assert_eq!(fs::read_dir(run.path()).unwrap().count(), 2);
}

#[test]
fn the_oldest_go_to_keep_the_size_and_all_stay_for_an_audit() {
    for (keep_all, rounds) in [(false, vec![6, 8]), (true, vec![0, 2, 4, 6, 8])] {
        let run = tempfile::tempdir().unwrap();
        drop(create(run.path(), Durable::Interval));
        // Room for two pairs and a bit: the members and the records make the later ones longer.
        let pair = fs::metadata(log(run.path(), 0)).unwrap().len()
            + fs::metadata(snapshot_file(run.path(), 0)).unwrap().len();
        let options = Options { max_bytes: pair * 5 / 2, keep_all, ..Options::default() };
        let mut ledger = Recovered::open(run.path()).unwrap().resume(options).unwrap();
        let mut pruned = Vec::new();
        for round in [2, 4, 6, 8] {
            pruned.extend(ledger.rotate(base(round), snapshot(round)).unwrap().pruned);
        }
        let names_of = |round: &u64| [format!("{round:012}.log"), format!("{round:012}.safetensors")];
        assert_eq!(names(run.path()), rounds.iter().flat_map(names_of).collect::<Vec<_>>());
        assert_eq!(pruned.len(), 5 - rounds.len());
        drop(ledger);
        Recovered::open(run.path()).unwrap();
    }
}

#[test]
fn a_kill_between_the_steps_of_a_snapshot_leaves_the_old_state_or_the_new() {
    let run = tempfile::tempdir().unwrap();
    let mut ledger = create(run.path(), Durable::Always);
    append(&mut ledger, 0..4);
    let before = as_killed(run.path());
    ledger.rotate(base(4), snapshot(4)).unwrap();
    // A part of the snapshot; the whole of it, and a part of the segment.
    let partial = before.path().join("ledger/000000000004.safetensors.partial");
    fs::write(&partial, b"part").unwrap();
    let state = |run: &Path| {
        let recovered = Recovered::open(run).unwrap();
        (recovered.base, records(&recovered))
    };
    assert_eq!(state(before.path()), (base(0), expected(0..4)));
    fs::remove_file(&partial).unwrap();
    fs::copy(snapshot_file(run.path(), 4), snapshot_file(before.path(), 4)).unwrap();
    fs::write(before.path().join("ledger/000000000004.log.partial"), b"part").unwrap();
    assert_eq!(state(before.path()), (base(0), expected(0..4)));
    let recovered = Recovered::open(before.path()).unwrap();
    assert!(recovered.notices[0].contains("000000000004.safetensors has no log"), "{:?}", recovered.notices);
    let mut resumed = recovered.resume(options(Durable::Always)).unwrap();
    assert!(!names(before.path()).iter().any(|name| name.ends_with(".partial")));
    resumed.rotate(base(4), snapshot(4)).unwrap();
    drop(resumed);
    assert_eq!(state(before.path()), (base(4), vec![]));
    drop(ledger);
}

#[test]
fn a_failed_snapshot_leaves_the_open_segment_as_it_was() {
    let run = tempfile::tempdir().unwrap();
    let mut ledger = create(run.path(), Durable::Interval);
    append(&mut ledger, 0..2);
    let before = names(run.path());
    let error = ledger.rotate(base(2), |path| {
        fs::write(path, b"a part").unwrap();
        let (doing, path) = ("write", path.to_owned());
        Err(signvote_observe::Error::Io { doing, path, source: std::io::ErrorKind::StorageFull.into() })
    });
    let error = error.unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(error.to_string().contains("000000000002.safetensors"), "{error}");
    assert!(!error.to_string().contains("partial"), "{error}");
    assert_eq!(names(run.path()), before);
    assert_eq!(ledger.stopped(), None);
    append(&mut ledger, 2..4);
    drop(ledger);
    assert_eq!(records(&Recovered::open(run.path()).unwrap()), expected(0..4));
}

#[test]
fn other_peoples_files_are_refused_by_name() {
    let run = tempfile::tempdir().unwrap();
    let error = Recovered::open(run.path()).unwrap_err();
    assert!(matches!(error, Error::Missing { .. }), "{error}");
    drop(three_segments(run.path(), Durable::Interval));
    let occupied = Ledger::create(run.path(), CHARTER.into(), base(0), Options::default(), snapshot(0));
    assert!(matches!(occupied, Err(Error::Occupied { .. })));

    let copy = as_killed(run.path());
    let mut bytes = fs::read(log(copy.path(), 7)).unwrap();
    bytes[8] = 2;
    fs::write(log(copy.path(), 7), &bytes).unwrap();
    let error = Recovered::open(copy.path()).unwrap_err().to_string();
    assert!(error.contains("version 2, expected 1"), "{error}");
    fs::write(log(copy.path(), 7), b"hello, this is no log").unwrap();
    assert!(matches!(Recovered::open(copy.path()), Err(Error::Foreign { .. })));
    fs::rename(log(copy.path(), 4), log(copy.path(), 7)).unwrap();
    let error = Recovered::open(copy.path()).unwrap_err().to_string();
    assert!(error.contains("of round 4"), "{error}");

    let other = tempfile::tempdir().unwrap();
    let charter = b"the charter of another run".to_vec();
    drop(Ledger::create(other.path(), charter, base(2), Options::default(), snapshot(2)).unwrap());
    fs::copy(log(other.path(), 2), log(run.path(), 2)).unwrap();
    let error = Recovered::open(run.path()).unwrap_err();
    assert!(matches!(error, Error::AnotherRun { .. }), "{error}");
}

#[test]
fn a_ledger_has_one_writer() {
    let run = tempfile::tempdir().unwrap();
    let ledger = create(run.path(), Durable::Interval);
    assert!(matches!(Recovered::open(run.path()), Err(Error::InUse { .. })));
    drop(ledger);
    let recovered = Recovered::open(run.path()).unwrap();
    assert!(matches!(Recovered::open(run.path()), Err(Error::InUse { .. })));
    let ledger = recovered.resume(Options::default()).unwrap();
    assert!(matches!(Recovered::open(run.path()), Err(Error::InUse { .. })));
    ledger.close().unwrap();
    Recovered::open(run.path()).unwrap();
}

#[test]
fn misuse_is_told() {
    let run = tempfile::tempdir().unwrap();
    let mut ledger = create(run.path(), Durable::Interval);
    assert!(matches!(ledger.append(Kind::Clean, b""), Err(Error::Misuse(_))));
    assert!(matches!(ledger.append(Kind::Opened, b""), Err(Error::Misuse(_))));
    ledger.rotate(base(5), snapshot(5)).unwrap();
    assert!(matches!(ledger.rotate(base(4), snapshot(4)), Err(Error::Misuse(_))));
    let other = signvote_ledger::Base { digest: base(6).digest, ..base(5) };
    assert!(matches!(ledger.rotate(other, snapshot(6)), Err(Error::Misuse(_))));
    ledger.rotate(base(5), snapshot(5)).unwrap();
}
