//! `signvote doctor`: what it looks at, what it says when something does not go, and with which code.

mod common;

use std::net::{Ipv4Addr, TcpListener};

use common::{directory, names, run, serve, text};

/// What is looked at in any case.
const CHECKS: [&str; 9] =
    ["cpu", "memory", "loopback", "clock", "files", "disk", "certificates", "link", "plan"];

#[test]
fn every_check_has_a_line_and_a_machine_that_runs_the_tests_is_fit() {
    let (_guard, here) = directory();
    let ended = run(&here, "doctor").succeeded();
    assert!(ended.err.is_empty(), "{ended:#?}");
    for check in CHECKS {
        let is_of = |line: &&String| line.split_whitespace().nth(1) == Some(check);
        let lines: Vec<_> = ended.out.iter().filter(is_of).collect();
        assert!(!lines.is_empty(), "{check}: {ended:#?}");
        assert!(lines.iter().all(|line| !line.starts_with("BAD")), "{lines:#?}");
    }
    for words in ["kernels use", "GB/s", "Gb/s", "203,530", "25,557,032", "100mbit", "1gbit", "10gbit"] {
        assert!(ended.out.iter().any(|line| line.contains(words)), "{words}: {ended:#?}");
    }
    assert!(names(&here).is_empty(), "nothing is left behind");
}

#[test]
fn what_was_found_is_one_object() {
    let (_guard, here) = directory();
    let ended = run(&here, "doctor --json").succeeded();
    assert_eq!(ended.out.len(), 1, "{ended:#?}");
    let report = ended.json();
    assert_eq!(report["fit"], true);
    let findings = report["findings"].as_array().expect("a list");
    for check in CHECKS {
        let finding = findings.iter().find(|finding| finding["name"] == check);
        let finding = finding.unwrap_or_else(|| panic!("{check}: {report}"));
        assert!(["good", "note"].contains(&text(&finding["level"]).as_str()), "{finding}");
        assert!(!text(&finding["words"]).is_empty());
    }
}

#[test]
fn a_server_that_is_not_there_is_one_line_that_says_what_to_do() {
    let (_guard, here) = directory();
    // A port that nobody has any more.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr()).expect("a port");
    let line = format!("doctor {free} --patience 0.1");
    let ended = run(&here, &line).failed(4, &["link", &free.to_string(), "signvote server", "firewall"]);
    assert_eq!(ended.err.len(), 1, "{ended:#?}");
    assert_eq!(ended.out.iter().filter(|line| line.starts_with("BAD")).count(), 1, "{ended:#?}");
    let report = run(&here, &format!("{line} --json")).failed(4, &["link"]).json();
    assert_eq!(report["fit"], false);
}

#[test]
fn a_server_that_answers_is_told() {
    let (_guard, here) = directory();
    let (_server, address) = serve(&here, "--workers 3");
    let ended = run(&here, &format!("doctor {address}")).succeeded();
    let line = ended.out.iter().find(|line| line.contains(" link ")).expect("a line");
    for words in ["0 of 3 workers", "plain text", "the link from there has ", "b/s or more"] {
        assert!(line.contains(words), "{words:?} is not in {line:?}");
    }
}

#[test]
fn certificates_are_looked_at_and_those_that_are_missing_are_bad() {
    let (_guard, here) = directory();
    run(&here, "doctor --tls certs --identity gpu-1")
        .failed(8, &["certificates", "ca.crt", "signvote certs init"]);
    run(&here, "certs init").succeeded();
    run(&here, "certs issue gpu-1").succeeded();
    let ended = run(&here, "doctor --tls certs --identity gpu-1").succeeded();
    for words in
        ["ca.crt counts from", "gpu-1.crt counts from", "gpu-1: key, certificate and CA fit together"]
    {
        assert!(ended.out.iter().any(|line| line.starts_with("ok") && line.contains(words)), "{ended:#?}");
    }
    run(&here, "doctor --tls certs").succeeded();
    run(&here, "doctor --tls certs 127.0.0.1:1").failed_at_once(2, &["--identity"]);
}
