//! `signvote bench`: figures of a small case, as a table and as an object, and the same settings in every spelling.

mod common;

use common::{Process, directory, names, number, run, signvote};

const SMALL: &str = "bench kernels --dim 1000 --voters 3,16 --seconds 0";

#[test]
fn the_kernels_are_measured_and_shown_as_a_table() {
    let (_guard, here) = directory();
    let ended = run(&here, SMALL).succeeded();
    assert!(ended.err.is_empty(), "{ended:#?}");
    assert!(ended.out[1].starts_with("1,000 coordinates, 1 thread"), "{ended:#?}");
    let row_of = |name: &str, title: &str| {
        let begins = ended.out.iter().position(|line| line.starts_with(title)).expect(title);
        let mut rows = ended.out[begins + 1..].iter().take_while(|line| line.starts_with("  "));
        rows.any(|line| line.trim_start().starts_with(name) && line.contains('%') && line.contains('×'))
    };
    assert!(row_of("pack ", "pack"));
    assert!(row_of("momentum_pack ", "momentum"));
    assert!(row_of("decide ", "decide, 3 voters"));
    assert!(row_of("StreamTally, 4 at a time ", "decide, 16 voters"));
    assert!(names(&here).is_empty(), "nothing is left behind");
}

#[test]
fn the_result_is_one_object() {
    let (_guard, here) = directory();
    let ended = run(&here, &format!("{SMALL} --json")).succeeded();
    assert_eq!(ended.out.len(), 1, "{ended:#?}");
    let json = ended.json();
    assert_eq!((&json["d"], &json["threads"]), (&1000.into(), &1.into()));
    assert!(number(&json["machine"]["copy_gb_per_s"]) > 0.0, "{json}");
    let rows = json["rows"].as_array().expect("rows");
    for voters in [3, 16] {
        let fits = |row: &&serde_json::Value| row["name"] == "decide" && row["voters"] == voters;
        let row = rows.iter().find(fits).unwrap_or_else(|| panic!("{voters} voters: {json}"));
        assert_eq!(row["bytes"], (voters + 2) * 128);
        assert!(number(&row["median_ms"]) > 0.0 && number(&row["limit_ratio"]) > 0.0, "{row}");
    }
}

#[test]
fn several_threads_leave_out_what_has_no_form_for_them_and_say_so() {
    let (_guard, here) = directory();
    let json = run(&here, &format!("{SMALL} --threads 2 --json")).succeeded().json();
    let left_out = json["left_out"].as_array().expect("a list");
    let rows = json["rows"].as_array().expect("rows");
    assert!(left_out.iter().any(|name| name == "canonicalise"), "{json}");
    assert!(rows.iter().any(|row| row["name"] == "decide"), "{json}");
    assert!(!rows.iter().any(|row| row["name"] == "canonicalise"), "{json}");
}

#[test]
fn settings_come_from_variables_and_files_too() {
    let (_guard, here) = directory();
    std::fs::write(here.join("small.toml"), "dim = 2000\nvoters = \"5,6\"\nseconds = 0\n").expect("a file");
    let mut command = signvote(&here, "bench kernels --config small.toml");
    command.env("SIGNVOTE_DIM", "700").env("SIGNVOTE_JSON", "yes").env("SIGNVOTE_ISA", "scalar");
    let json = Process::spawn(command).ended().succeeded().json();
    assert_eq!(json["d"], 700);
    assert_eq!(json["machine"]["isa"], "scalar");
    let mut voters: Vec<_> =
        json["rows"].as_array().expect("rows").iter().filter_map(|row| row["voters"].as_u64()).collect();
    voters.dedup();
    assert_eq!(voters, [15, 5, 6], "those of the margins, and those that were asked for");
}
