//! Every cut and every changed byte of a log: what was on the disk comes back or is refused, never a part
//! in silence.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::*;
use proptest::prelude::*;
use signvote_ledger::{Durable, Error, Kind, Recovered};

/// Where the header ends and every entry, as `docs/durability.md` says.
fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    let mut ends = vec![128 + number(12) + 16];
    while ends[ends.len() - 1] < bytes.len() {
        let start = ends[ends.len() - 1];
        ends.push(start + 29 + number(start + 5) + 16);
    }
    assert_eq!(ends[ends.len() - 1], bytes.len());
    ends
}

/// A log with the records of `rounds` rounds, as it is after a kill.
fn killed(durable: Durable, rounds: u64) -> tempfile::TempDir {
    let run = tempfile::tempdir().unwrap();
    let mut ledger = create(run.path(), durable);
    append(&mut ledger, 0..rounds);
    as_killed(run.path())
}

fn open_with(run: &Path, bytes: &[u8]) -> Result<Recovered, Error> {
    fs::write(log(run, 0), bytes).unwrap();
    Recovered::open(run)
}

#[test]
fn a_log_that_is_cut_anywhere_gives_its_whole_entries_and_goes_on() {
    let run = killed(Durable::Always, 5);
    let whole = fs::read(log(run.path(), 0)).unwrap();
    let ends = boundaries(&whole);
    for length in 0..=whole.len() {
        let result = open_with(run.path(), &whole[..length]);
        if length < ends[0] {
            // A segment gets its name when its header is on the disk, so this is no torn write.
            let error = result.unwrap_err();
            assert!(matches!(error, Error::Corrupt { offset: 0, .. } | Error::Foreign { .. }), "{error}");
            continue;
        }
        let recovered = result.unwrap();
        let entries = ends.iter().filter(|&&end| end <= length).count() - 1;
        // The first entry says who opened the log.
        let rounds = entries.saturating_sub(1) as u64;
        assert_eq!(records(&recovered), expected(0..rounds), "{length} bytes");
        let torn = length - ends[entries];
        assert_eq!(recovered.torn.as_ref().map_or(0, |torn| torn.bytes), torn as u64, "{length} bytes");
        assert_eq!(recovered.torn.is_some(), torn > 0);

        let mut ledger = recovered.resume(options(Durable::Always)).unwrap();
        append(&mut ledger, rounds..rounds + 2);
        drop(ledger);
        let recovered = Recovered::open(run.path()).unwrap();
        assert_eq!(records(&recovered), expected(0..rounds + 2), "{length} bytes");
        assert_eq!(recovered.torn, None);
    }
}

#[test]
fn a_changed_byte_is_refused_with_its_entry_or_costs_the_last_entry_alone() {
    let run = killed(Durable::Always, 4);
    let whole = fs::read(log(run.path(), 0)).unwrap();
    let ends = boundaries(&whole);
    let last = ends[ends.len() - 2];
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut changed = whole.clone();
            changed[at] ^= flip;
            let result = open_with(run.path(), &changed);
            let start = ends.iter().rev().find(|&&end| end <= at).map_or(0, |&end| end);
            match result {
                Err(Error::Foreign { .. }) => assert!(at < 8),
                Err(Error::Version { .. }) => assert!((8..12).contains(&at)),
                Err(error) => {
                    assert!(start < last, "byte {at}: {error}");
                    let Error::Corrupt { offset, .. } = error else { panic!("{error}") };
                    assert_eq!(offset, start as u64, "byte {at}: {error}");
                    let text = error.to_string();
                    assert!(text.contains("000000000000.log") && text.contains(&format!("byte {start}:")));
                }
                Ok(recovered) => {
                    assert_eq!(start, last, "byte {at}");
                    assert_eq!(records(&recovered), expected(0..3));
                    let torn = recovered.torn.unwrap();
                    assert_eq!((torn.offset, torn.bytes), (last as u64, (whole.len() - last) as u64));
                }
            }
        }
    }
}

#[test]
fn zeros_where_a_write_should_be_are_a_torn_tail() {
    let run = killed(Durable::Always, 3);
    let whole = fs::read(log(run.path(), 0)).unwrap();
    let last = boundaries(&whole)[3];
    for start in last..whole.len() {
        for more in [0, 1, 4096, 200_000] {
            let mut bytes = whole[..start].to_vec();
            bytes.resize(whole.len() + more, 0);
            if bytes == whole {
                continue;
            }
            let recovered = open_with(run.path(), &bytes).unwrap();
            assert_eq!(records(&recovered), expected(0..2), "zeros from {start}, {more} more");
        }
    }
}

#[test]
fn an_entry_that_was_not_promised_yet_is_torn_even_if_a_later_one_is_there() {
    // The policy of a disk that wrote later blocks first: nothing had been synced since the start.
    let run = killed(Durable::Off, 0);
    let start = fs::metadata(log(run.path(), 0)).unwrap().len();
    let mut ledger = Recovered::open(run.path()).unwrap().resume(options(Durable::Off)).unwrap();
    let synced = fs::metadata(log(run.path(), 0)).unwrap().len();
    ledger.append(Kind::Member, b"first").unwrap();
    let second = fs::metadata(log(run.path(), 0)).unwrap().len() as usize;
    ledger.append(Kind::Member, b"second").unwrap();
    let unsynced = fs::read(log(run.path(), 0)).unwrap();
    ledger.sync().unwrap();
    ledger.append(Kind::Member, b"third").unwrap();
    let with_witness = fs::read(log(run.path(), 0)).unwrap();
    drop(ledger);
    assert!(start < synced);

    for at in synced as usize..second {
        let mut changed = unsynced.clone();
        changed[at] ^= 0xFF;
        let recovered = open_with(run.path(), &changed).unwrap();
        assert!(recovered.member_bytes.is_empty());
        assert_eq!(recovered.torn.as_ref().unwrap().offset, synced);
        drop(recovered);

        let mut changed = with_witness.clone();
        changed[at] ^= 0xFF;
        let error = open_with(run.path(), &changed).unwrap_err();
        assert!(matches!(error, Error::Corrupt { offset, .. } if offset == synced), "{error}");
    }
}

#[test]
fn an_entry_that_is_taken_out_put_in_or_moved_is_noticed() {
    let run = killed(Durable::Always, 7);
    let whole = fs::read(log(run.path(), 0)).unwrap();
    let ends = boundaries(&whole);
    let entry = |index: usize| &whole[ends[index]..ends[index + 1]];
    let head = &whole[..ends[1]];
    let rest = |index: usize| whole[ends[index]..].to_vec();
    let cases = [
        ("without the first", [head, &rest(2)].concat(), 1),
        ("with the second twice", [head, entry(1), entry(2), entry(2), &rest(3)].concat(), 3),
        ("with two exchanged", [head, entry(2), entry(1), &rest(3)].concat(), 1),
    ];
    for (case, bytes, changed) in cases {
        match open_with(run.path(), &bytes) {
            Err(Error::Corrupt { offset, .. }) => assert_eq!(offset, ends[changed] as u64, "{case}"),
            Err(error) => panic!("{case}: {error}"),
            Ok(_) => panic!("{case}: not noticed"),
        }
    }
}

#[test]
fn a_piece_of_a_payload_that_looks_like_an_entry_is_none() {
    let run = tempfile::tempdir().unwrap();
    let mut ledger = create(run.path(), Durable::Always);
    append(&mut ledger, 0..2);
    // A worker may send any bytes, also those of an entry that it has seen.
    let earlier = fs::read(log(run.path(), 0)).unwrap();
    ledger.append(Kind::Record, &earlier).unwrap();
    let copy = as_killed(run.path());
    let whole = fs::read(log(copy.path(), 0)).unwrap();
    let recovered = open_with(copy.path(), &whole[..whole.len() - 1]).unwrap();
    assert_eq!(records(&recovered), expected(0..2));
    drop(ledger);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_behind_a_log_or_instead_of_it_are_refused_or_torn(
        garbage in prop::collection::vec(any::<u8>(), 0..300),
        keep in 0_usize..400,
    ) {
        let run = killed(Durable::Always, 2);
        let whole = fs::read(log(run.path(), 0)).unwrap();
        let mut bytes = whole[..keep.min(whole.len())].to_vec();
        bytes.extend(&garbage);
        if let Ok(recovered) = open_with(run.path(), &bytes) {
            let found = records(&recovered);
            prop_assert!(found.len() <= 2);
            prop_assert_eq!(&found, &expected(0..found.len() as u64));
        }
    }

    #[test]
    fn payloads_of_any_length_come_back(lengths in prop::collection::vec(0_usize..200_000, 1..6)) {
        let run = tempfile::tempdir().unwrap();
        let mut ledger = create(run.path(), Durable::Interval);
        let payloads: Vec<Vec<u8>> =
            lengths.iter().enumerate().map(|(index, &length)| vec![index as u8; length]).collect();
        payloads.iter().for_each(|payload| ledger.append(Kind::Record, payload).unwrap());
        drop(ledger);
        prop_assert_eq!(records(&Recovered::open(run.path()).unwrap()), payloads);
    }
}
