use std::collections::HashMap;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use signvote_kernels::{Ballot, Decided, Isa, Packed, Tie, decide, pack};

use super::*;

fn options(d: usize, voters: &[u16], threads: usize) -> Options {
    Options { d, voters: voters.to_vec(), threads, least_per_group: Duration::ZERO }
}

/// The titles of groups that were measured to the end.
#[derive(Default)]
struct Titles(Vec<String>);

impl Watch for Titles {
    fn begins(&mut self, report: &Report) {
        assert!(report.rows.is_empty());
    }
    fn measures(&mut self, _title: &str) {}
    fn measured(&mut self, title: &str, rows: &[Row]) {
        assert!(!rows.is_empty());
        self.0.push(title.to_owned());
    }
}

/// How the bench ends with other serial forms, and which groups it measured before that.
fn wrong(forms: Forms) -> (Error, Vec<String>) {
    let mut titles = Titles::default();
    let error = measure(&options(1000, &[3], 1), &forms, &mut titles).unwrap_err();
    (error, titles.0)
}

#[test]
fn every_answer_is_that_of_the_naive_form() {
    for (d, voters) in [(1, &[1, 2][..]), (1000, &[1, 3, 7, 15, 16, 31, 64, 100]), (70_000, &[3, 16])] {
        let report = run(&options(d, voters, 1), &mut ()).unwrap_or_else(|error| panic!("{d}: {error}"));
        assert!(report.left_out.is_empty());
    }
}

#[test]
fn every_answer_is_right_on_every_instruction_set() {
    for isa in Isa::available() {
        let test = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kernels::tests::every_answer_is_that_of_the_naive_form"])
            .env("SIGNVOTE_ISA", isa.name())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&test.stdout);
        assert!(test.status.success() && said.contains("1 passed"), "{isa}: {said}");
    }
}

#[test]
fn several_threads_measure_the_kernels_that_have_a_form_for_them() {
    let one = run(&options(200_001, &[3, 16], 1), &mut ()).unwrap();
    let two = run(&options(200_001, &[3, 16], 2), &mut ()).unwrap();
    assert_eq!(two.threads, 2);
    let place = |row: &Row| (row.group.clone(), row.name.clone(), row.voters, row.bytes);
    let rows: Vec<_> = one.rows.iter().map(place).collect();
    assert!(two.rows.iter().all(|row| rows.contains(&place(row))));
    for name in ["copy", "pack", "momentum_pack", "apply", "decide"] {
        assert!(two.rows.iter().any(|row| row.name == name), "{name}");
    }
    for row in &one.rows {
        let kernel = row.name.split(',').next().unwrap();
        let there = two.rows.iter().any(|other| place(other) == place(row));
        assert_ne!(there, two.left_out.iter().any(|name| name == kernel), "{}", row.name);
    }
}

#[test]
fn a_wrong_plane_ends_the_bench_with_the_name_of_the_row() {
    fn wrong_pack(values: &[f32], signs: &mut [u64], abstain: &mut [u64]) -> Packed {
        let packed = pack(values, signs, abstain);
        signs[15] ^= 1 << 39;
        packed
    }
    let (error, measured) = wrong(Forms { pack: Some(wrong_pack), ..SERIAL });
    let Error::Wrong { group, row, difference } = &error else { panic!("{error}") };
    assert_eq!((&group[..], &row[..]), ("pack", "pack"));
    assert!(difference.starts_with("sign of coordinate 999: expected "), "{difference}");
    assert!(error.to_string().starts_with("wrong answer of pack (pack): sign of coordinate 999"), "{error}");
    assert_eq!(measured, ["memory"], "no time is told of a group with a wrong row");
}

#[test]
fn a_wrong_count_ends_the_bench_too() {
    fn wrong_decide(
        ballots: &[Ballot<'_>],
        d: usize,
        tie: Tie,
        min_voters: u32,
        signs: &mut [u64],
        hold: &mut [u64],
    ) -> Decided {
        let decided = decide(ballots, d, tie, min_voters, signs, hold);
        let sparse = ballots.iter().any(|ballot| ballot.abstain.is_some_and(|plane| plane[0] != 0));
        Decided { ties: decided.ties + usize::from(sparse), ..decided }
    }
    let (error, measured) = wrong(Forms { decide: Some(wrong_decide), ..SERIAL });
    let Error::Wrong { group, row, difference } = &error else { panic!("{error}") };
    assert_eq!((&group[..], &row[..]), ("decide, 3 voters", "decide, half abstained"));
    assert!(difference.starts_with("returned counts: expected "), "{difference}");
    assert_eq!(measured.last().map(String::as_str), Some("margins, 15 voters"));
}

#[test]
fn what_leaves_its_output_alone_is_wrong() {
    let (error, _) = wrong(Forms { unpack: Some(|_, _, _| ()), ..SERIAL });
    assert!(matches!(&error, Error::Wrong { row, .. } if row == "unpack"), "{error}");
    let (error, _) = wrong(Forms { apply: Some(|_, _, _, _, _| ()), ..SERIAL });
    assert!(matches!(&error, Error::Wrong { row, .. } if row == "apply"), "{error}");
}

#[test]
fn a_kernel_that_goes_wrong_while_it_is_timed_is_found() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    fn tired(values: &[f32], signs: &mut [u64], abstain: &mut [u64]) -> Packed {
        let packed = pack(values, signs, abstain);
        if RUNS.fetch_add(1, Ordering::Relaxed) >= 4 {
            abstain[3] ^= 1;
        }
        packed
    }
    let (error, measured) = wrong(Forms { pack: Some(tired), ..SERIAL });
    let Error::Wrong { row, difference, .. } = &error else { panic!("{error}") };
    assert_eq!(row, "pack");
    assert_eq!(difference, "abstention or hold of coordinate 192: expected 0, got 1");
    assert_eq!(measured, ["memory"]);
}

#[test]
fn bytes_are_those_of_the_slices() {
    // 1,000 coordinates: values of 4,000 bytes, planes of 16 words, that is 128 bytes.
    let mut bytes = HashMap::new();
    let mut visit = |mut group: Group<'_>| {
        for row in 0..group.rows() {
            bytes.insert(group.row(row).to_owned(), group.bytes(row));
        }
        Ok(())
    };
    each_group(&options(1000, &[15], 1), &mut visit).unwrap();
    for (row, expected) in [
        ("copy", 4000 + 4000),
        ("pack", 4000 + 2 * 128),
        ("signs alone, without abstentions", 4000 + 128),
        ("pack_half, bfloat16", 2000 + 2 * 128),
        ("momentum_pack", 4000 + 2 * 4000 + 2 * 128),
        ("lion_pack", 4000 + 2 * 4000 + 2 * 128),
        ("unpack", 128 + 4000),
        ("unpack, half abstained", 2 * 128 + 4000),
        ("apply", 128 + 2 * 4000),
        ("apply, half held", 2 * 128 + 2 * 4000),
        ("agreement", 4 * 128),
        ("canonicalise", 2 * 128 + 128),
        ("margins", 15 * 128 + 2000),
        ("margin_histogram", 2000 + 2 * 16 * 8),
        ("decide", 15 * 128 + 2 * 128),
        ("decide, abstentions all 0", 2 * 15 * 128 + 2 * 128),
        ("decide, half abstained", 2 * 15 * 128 + 2 * 128),
        ("decide_weighted, weights 1 to 7", 15 * 128 + 2 * 128),
        ("StreamTally, 4 at a time", 15 * 128 + 2 * 128),
    ] {
        assert_eq!(bytes.get(row), Some(&expected), "{row}");
    }
}

#[test]
fn a_naive_form_and_a_limit_can_be_run_alone() {
    let mut named = Vec::new();
    let mut visit = |mut group: Group<'_>| {
        let expected = group.expected();
        for (row, expected) in expected.iter().enumerate() {
            group.tune_limit(row);
            group.limit(row);
            group.naive(row);
            named.push((group.row(row).to_owned(), group.has_naive(row)));
            assert!(!expected.times().is_empty());
            group.check(row, expected)?;
        }
        Ok(())
    };
    each_group(&options(1000, &[3], 1), &mut visit).unwrap();
    let has_none = named.iter().filter(|(_, has)| !has).map(|(name, _)| &name[..]);
    let stream = "StreamTally, ";
    let (same, streams): (Vec<_>, Vec<_>) = has_none.partition(|name| !name.starts_with(stream));
    assert_eq!(same, ["decide, abstentions all 0", "decide_weighted, weights 1"]);
    assert_eq!(streams.len(), 3);
}

#[test]
fn the_report_is_an_object_of_known_fields() {
    let report = run(&options(1000, &[3, 16], 1), &mut ()).unwrap();
    let json = serde_json::to_value(&report).unwrap();
    let keys = |value: &serde_json::Value| {
        let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys.join(" ")
    };
    assert_eq!(keys(&json), "d left_out machine rows threads");
    assert_eq!(keys(&json["machine"]), "copy_gb_per_s cores cpu isa isa_reason");
    assert_eq!(json["machine"]["isa"], Isa::active().name());
    assert!(json["machine"]["copy_gb_per_s"].as_f64().unwrap() > 0.0);
    assert_eq!((&json["d"], &json["threads"]), (&1000.into(), &1.into()));
    for row in json["rows"].as_array().unwrap() {
        let expected = "best_ms bytes gb_per_s group limit_ms limit_ratio median_ms naive_ms name relative \
                        speedup turns voters";
        assert_eq!(keys(row), expected);
        for number in ["best_ms", "median_ms", "gb_per_s", "limit_ms", "limit_ratio", "naive_ms", "speedup"] {
            assert!(row[number].as_f64().unwrap() > 0.0, "{number} of {row}");
        }
        assert!(row["best_ms"].as_f64() <= row["median_ms"].as_f64());
        assert!(row["turns"].as_u64() >= Some(5));
    }
    let row = |name: &str, voters: u64| {
        let fits = |row: &&serde_json::Value| row["name"] == name && row["voters"] == voters;
        json["rows"].as_array().unwrap().iter().find(fits).unwrap()
    };
    assert_eq!(row("decide", 3)["relative"], serde_json::Value::Null);
    assert_eq!(row("decide, abstentions all 0", 16)["relative"]["to"], "decide");
    assert!(row("StreamTally, one at a time", 3)["relative"]["ratio"].as_f64().unwrap() > 0.0);
}

#[cfg(target_os = "linux")]
#[test]
fn what_does_not_fit_is_refused_before_anything_begins() {
    let mut titles = Titles::default();
    for options in [options(1 << 50, &[3], 1), options(usize::MAX, &[3], 2), options(1 << 36, &[65_535], 1)] {
        let error = run(&options, &mut titles).unwrap_err();
        let Error::Memory { needed_mib, available_mib } = error else { panic!("{error}") };
        assert!(needed_mib > available_mib);
    }
    assert!(titles.0.is_empty());
}
