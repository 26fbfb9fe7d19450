//! `signvote bench`: figures of a small case, as a table and as an object, and the same settings in every spelling.

mod common;

use common::{Process, directory, names, number, run, signvote, text};

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

/// More than three chunks.
const EXCHANGE: &str = "bench exchange --dim 200000";

/// A worker's bytes a round in a dense vote: ballots and what goes with them, headers included.
fn is_one_bit_a_coordinate(bytes: &serde_json::Value) -> bool {
    (25_000.0..25_500.0).contains(&number(bytes))
}

#[test]
fn an_exchange_is_measured_in_every_protection() {
    let (_guard, here) = directory();
    let flags = format!("{EXCHANGE} --workers 3 --rounds 4 --turns 2");
    let json = run(&here, &format!("{flags} --json")).succeeded().json();
    let rows = json["rows"].as_array().expect("rows");
    let protections: Vec<_> = rows.iter().map(|row| text(&row["protection"])).collect();
    assert_eq!(protections, ["plain", "TLS", "TLS, signed ballots"]);
    for row in rows {
        let [least, median, p95, most] =
            ["min_ms", "median_ms", "p95_ms", "max_ms"].map(|name| number(&row[name]));
        assert!(0.0 < least && least <= median && median <= p95 && p95 <= most, "{row}");
    }
    // TLS has a header for every record.
    assert!(is_one_bit_a_coordinate(&rows[0]["bytes_up"]) && is_one_bit_a_coordinate(&rows[0]["bytes_down"]));
    assert_eq!((&json["median_ms"], &json["dim"]), (&rows[0]["median_ms"], &200_000.into()));
    let table = run(&here, &flags).succeeded();
    assert!(table.out.iter().any(|line| line.starts_with("TLS, signed ballots")), "{table:#?}");
    assert!(names(&here).is_empty(), "nothing is left behind");
}

#[test]
fn an_exchange_is_measured_between_hosts() {
    let (_guard, here) = directory();
    let listen = format!("{EXCHANGE} --role server --listen 127.0.0.1:0 --workers 2 --rounds 4 --json");
    let mut server = Process::start(&here, &listen);
    let line = server.says("listens at ");
    let address = line.split_whitespace().nth(2).expect("an address").to_owned();
    let other = "bench exchange --dim 100000 --role worker --connect";
    run(&here, &format!("{other} {address}")).failed(5, &["200000", "100000"]);
    let join = || Process::start(&here, &format!("{EXCHANGE} --role worker --connect {address} --json"));
    for worker in [join(), join()] {
        let json = worker.ended().succeeded().json();
        assert_eq!((&json["role"], &json["protection"]), (&"worker".into(), &"plain".into()), "{json}");
        assert!(number(&json["median_ms"]) > 0.0, "{json}");
    }
    let json = server.ended().succeeded().json();
    assert!(is_one_bit_a_coordinate(&json["bytes_up"]), "{json}");
}
