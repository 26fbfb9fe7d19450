//! What a log proves: `signvote audit`.

mod common;

use std::fs;

use common::{directory, join, run, run_by_hand, serve};
use signvote_election::Record;
use signvote_ledger::{Kind, Ledger, Options, Recovered};

const RULES: &str = "--rounds 12 --batch 4 --save-every 5 --record-ballots";

#[test]
fn an_audit_recomputes_every_verdict_from_the_recorded_ballots() {
    let (_guard, here) = directory();
    let finished = run_by_hand(&here, 3, RULES, "").event("finished");
    let found = run(&here, "audit run --json").succeeded().json();
    assert_eq!(found["holds"], true, "{found}");
    // 203,530 coordinates are four chunks.
    assert_eq!((&found["rounds"], &found["verdict_chunks_recomputed"]), (&12.into(), &48.into()));
    assert_eq!(found["digest"], finished["digest"]);
    let said = run(&here, "audit run").succeeded();
    assert!(said.out.iter().any(|line| line.contains("48 chunks recomputed")), "{said:#?}");
}

#[test]
fn without_ballots_an_audit_says_what_it_could_not_check() {
    let (_guard, here) = directory();
    run_by_hand(&here, 2, "--rounds 4 --batch 4", "");
    let said = run(&here, "audit run").succeeded();
    assert!(said.out.iter().any(|line| line.contains("--record-ballots")), "{said:#?}");
}

#[test]
fn a_snapshot_that_the_rounds_do_not_lead_to_is_named_by_its_round() {
    let (_guard, here) = directory();
    run_by_hand(&here, 3, RULES, "");
    run(&here, "audit run").succeeded();
    // Another run's log: its rounds hold by themselves, and lead elsewhere.
    fs::rename(here.join("run"), here.join("first")).expect("ours");
    run_by_hand(&here, 3, &format!("{RULES} --seed 2"), "");
    let (from, to) = (here.join("run/ledger/000000000005.log"), here.join("first/ledger/000000000005.log"));
    fs::copy(from, to).expect("ours");
    run(&here, "audit first").failed(3, &["another run"]);
}

#[test]
fn a_server_that_forges_a_verdict_is_found_out_at_that_round() {
    let (_guard, here) = directory();
    let (mut server, address) = serve(&here, "--workers 2 --rounds 1000000 --batch 4 --record-ballots");
    let workers = [join(&here, &address, ""), join(&here, &address, "")];
    server.rounds(8);
    server.kill();
    drop((server.ended(), workers));

    // The log again with sound checksums, in which one bit of one verdict is another one.
    let genuine = Recovered::open(&here.join("run")).expect("a log");
    let write = |path: &std::path::Path| {
        fs::copy(here.join("run/ledger/000000000000.safetensors"), path).expect("the first snapshot");
        Ok(())
    };
    let options = Options::default();
    let (to, charter) = (here.join("forged"), genuine.charter_bytes.clone());
    fs::create_dir(&to).expect("ours");
    let mut forged = Ledger::create(&to, charter, genuine.base, options, write).expect("a new log");
    let records =
        genuine.entries().map(|entry| entry.expect("whole")).filter(|entry| entry.kind == Kind::Record);
    for (round, entry) in records.take(7).enumerate() {
        let mut record = Record::decode(&entry.payload.into()).expect("a record");
        if round == 5 {
            let mut verdict = record.frames[0].to_vec();
            verdict[40] ^= 1;
            record.frames[0] = verdict.into();
        }
        forged.record(&record).expect("room");
    }
    drop(forged);
    run(&here, "audit forged").failed(9, &["round 5 does not hold", "majority of the recorded ballots"]);
    let found = run(&here, "audit forged --json").failed(9, &["round 5"]).json();
    assert_eq!((&found["holds"], &found["rounds"]), (&false.into(), &5.into()));
    assert_eq!(found["first_difference"]["round"], 5);
}

#[test]
fn what_is_said_of_a_damaged_older_segment_helps() {
    let (_guard, here) = directory();
    run_by_hand(&here, 3, RULES, "");
    let path = here.join("run/ledger/000000000005.log");
    let whole = fs::read(&path).expect("a log");
    fs::write(&path, &whole[..whole.len() - 100]).expect("ours");
    let refused =
        run(&here, "audit run").failed(3, &["000000000005.log is damaged", "restore it from a copy"]);
    // The rounds behind it are in the next one: nothing is won by cutting it shorter.
    assert!(!refused.err.iter().any(|line| line.contains("truncate")), "{refused:#?}");
    fs::write(&path, whole).expect("ours");
    run(&here, "audit run").succeeded();
}

#[test]
fn a_run_without_a_log_is_named() {
    let (_guard, here) = directory();
    run(&here, "audit nowhere").failed_at_once(3, &["nowhere"]);
    common::train(&here, "--quiet --epochs 1 --workers 2 --batch 500 --run-dir run");
    run(&here, "audit run").failed_at_once(3, &["run"]);
}
