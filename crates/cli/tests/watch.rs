//! Watching a run: the page that it serves, the terminal that it fills, what its directory shows when it is over.
#![cfg(unix)]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use common::{Process, directory, join, names, number, run, serve, signal, signvote, text, wait_until};
use serde_json::Value;

/// Where the page is, of what the program says.
fn address_in(line: &str) -> String {
    let url = line.split("http://").nth(1).expect("an address");
    url.split('/').next().expect("a host").to_owned()
}

/// What is there at a path.
fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.1 200").then(|| body.to_owned())
}

fn snapshot(address: &str) -> Option<Value> {
    get(address, "/api/snapshot").map(|json| serde_json::from_str(&json).expect("JSON"))
}

fn apart(snapshot: &Value) -> Vec<String> {
    let workers = snapshot["workers"].as_array().expect("workers");
    workers.iter().filter(|it| it["apart"] == true).map(|it| text(&it["name"])).collect()
}

const LIARS: [&str; 3] = ["worker-1", "worker-2", "worker-3"];

#[test]
fn a_training_is_seen_live_and_from_its_directory_with_its_liars_set_apart() {
    let (_guard, here) = directory();
    let line = "train --adversaries 3 --attack sign-flip --epochs 6 --dashboard 127.0.0.1:0 --run-dir run";
    let mut training = Process::start(&here, line);
    let address = address_in(&training.says("the page is at"));
    wait_until("three liars", || snapshot(&address).is_some_and(|it| apart(&it) == LIARS));
    let live = snapshot(&address).expect("a page");
    assert_eq!((&live["version"], &live["places"]), (&1.into(), &7.into()));
    assert!(text(&live["health"]["words"]).contains("3 of 7 workers are set apart"), "{live}");
    assert!(text(&live["title"]).starts_with("mlp on fashion-mnist-10k, majority vote"), "{live}");
    assert!(get(&address, "/files/config.toml").expect("a file").contains("adversaries = 3"));
    assert!(get(&address, "/metrics").expect("metrics").contains("signvote_worker_apart{worker=\"3\"} 1"));
    training.ended().succeeded();

    let ended = run(&here, "view run --json").succeeded().json();
    assert_eq!((&ended["phase"], &ended["round"]), (&"finished".into(), &264.into()));
    assert_eq!(apart(&ended), LIARS);
    assert_eq!(ended["evaluations"].as_array().map(Vec::len), Some(6));
    assert_eq!(ended["margins"]["tensors"][0]["name"], "fc1.weight");
    let margins = &ended["margins"]["tensors"][0]["bins"];
    let counted: f64 = margins.as_array().expect("bins").iter().map(number).sum();
    assert_eq!(counted, 4.0 * 1024.0, "up to 1,024 coordinates in each of four chunks");
    // Seven ballots: margins are 1, 3, 5 and 7 of them, and the three liars' are against the others.
    assert!(number(&margins[2]) > number(&margins[5]) && number(&margins[5]) > 0.0, "{margins}");
    let saved = 2.0 * number(&ended["bytes"]["f32_each_way"])
        / (number(&ended["bytes"]["round_up"]) + number(&ended["bytes"]["round_down"]));
    assert!((31.0..32.1).contains(&saved), "{saved} times less");

    let mut page = Process::start(&here, "view run --dashboard 127.0.0.1:0");
    let address = address_in(&page.says("the page is at"));
    assert_eq!(snapshot(&address).expect("a page")["workers"], ended["workers"]);
    signal("INT", page.pid());
    page.ended().succeeded();

    assert_eq!(names(&here.join("run/tensorboard")), ["test", "train"]);
    run(&here, "train --epochs 1 --run-dir honest --quiet").succeeded();
    let honest = run(&here, "view honest --json").succeeded().json();
    assert_eq!((apart(&honest).len(), &honest["health"]["level"]), (0, &"good".into()));
    run(&here, "report run honest --out report").succeeded();
    let report = fs::read_to_string(here.join("report/report.html")).expect("a report");
    for words in ["worker-1, worker-2, worker-3", "3 (sign-flip)", "Communication saved", "Accuracy by liars"]
    {
        assert!(report.contains(words), "{words}");
    }
    assert!(here.join("report/curves-loss-by-byte.svg").is_file());
}

#[test]
fn a_server_that_goes_on_shows_what_was_before_it() {
    let (_guard, here) = directory();
    let rules = "--workers 2 --quorum 2 --rounds 100000 --batch 16 --dashboard 127.0.0.1:0";
    let (mut server, address) = serve(&here, rules);
    let workers = [join(&here, &address, ""), join(&here, &address, "")];
    server.rounds(30);
    server.kill();
    drop(server.ended());
    let line = format!("server --listen {address} --resume run --dashboard 127.0.0.1:0");
    let mut server = Process::start(&here, &line);
    let page = address_in(&server.says("the page is at"));
    wait_until("further rounds", || snapshot(&page).is_some_and(|it| number(&it["round"]) > 40.0));
    let live = snapshot(&page).expect("a page");
    assert_eq!(live["series"]["round"][0], 1, "{live}");
    let events: Vec<_> =
        live["entries"].as_array().expect("events").iter().map(|it| text(&it["event"])).collect();
    assert_eq!(events.iter().filter(|it| *it == "listening").count(), 2, "{events:?}");
    assert!(events.contains(&"resumed".to_owned()), "{events:?}");
    signal("TERM", server.pid());
    server.ended().failed(130, &["to go on"]);
    drop(workers);
    assert_eq!(run(&here, "view run --json").succeeded().json()["phase"], "paused");
}

#[test]
fn a_page_for_others_has_a_token() {
    let (_guard, here) = directory();
    let mut server = Process::start(&here, "server --listen 127.0.0.1:0 --dashboard 0.0.0.0:0");
    let line = server.says("the page is at");
    assert!(line.contains("/?token="), "{line}");
    let address = address_in(&line).replace("0.0.0.0", "127.0.0.1");
    assert_eq!(get(&address, "/"), None);
    signal("TERM", server.pid());
    drop(server.ended());
}

#[test]
fn what_cannot_be_watched_is_said_in_one_line() {
    let (_guard, here) = directory();
    run(&here, "view nothing").failed(3, &["nothing", "events.jsonl"]);
    run(&here, "report nothing").failed(3, &["nothing", "events.jsonl"]);
    // Of these the usual hints follow.
    for (line, words) in [
        ("view nothing --dashboard nowhere", "nowhere"),
        ("train --dashboard-token short --dashboard 127.0.0.1:0", "16 to 128"),
    ] {
        let ended = run(&here, line);
        assert!(ended.code == Some(2) && ended.err.join(" ").contains(words), "{ended:?}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let line = format!("server --listen 127.0.0.1:0 --dashboard {address} --run-dir run");
    run(&here, &line).failed(4, &["the page cannot be served at", &address.to_string()]);
    run(&here, &format!("train --dashboard {address} --run-dir run"))
        .failed(4, &["the page cannot be served at"]);
    assert!(!here.join("run").exists(), "there is no run yet");
    fs::create_dir(here.join("broken")).expect("a directory");
    fs::write(here.join("broken/events.jsonl"), "{\"time\":1}\n").expect("a file");
    run(&here, "view broken --json").failed(3, &["line 1 of", "is no event"]);
}

/// The program in a pseudo-terminal, made by util-linux's `script`; what it has drawn, without the colours.
fn in_a_terminal(here: &std::path::Path, line: &str, keys: &str) -> Option<String> {
    let words = signvote(here, line);
    let program = words.get_program().to_string_lossy().into_owned();
    let words: Vec<_> = words.get_args().map(|it| it.to_string_lossy().into_owned()).collect();
    let inner = format!("stty rows 40 cols 150; {program} {}", words.join(" "));
    // Both ends of the pipe are held, so that the terminal's input does not end before the program does.
    let script = format!("mkfifo keys; exec 9<>keys; {keys} & script -qefc '{inner}' /dev/null <&9; rm keys");
    let drawn =
        Command::new("bash").current_dir(here).env("TERM", "xterm").arg("-c").arg(script).output().ok()?;
    let text = String::from_utf8_lossy(&drawn.stdout).into_owned();
    assert!(text.contains("\u{1b}[?1049h"), "{line}: {text}");
    Some(text)
}

#[test]
fn a_full_screen_shows_the_liars_and_gives_the_terminal_back() {
    if Command::new("script").arg("--version").output().is_err() {
        return eprintln!("skipped: there is no `script` to make a terminal with");
    }
    let (_guard, here) = directory();
    let line = "train --adversaries 3 --attack sign-flip --epochs 3 --run-dir run --tui";
    let drawn = in_a_terminal(&here, line, ":").expect("a terminal");
    // Only what has changed is drawn again: words stand where they came first.
    for words in ["SET", "APART", "worker-1", "agreement", "Ctrl-C", "test accuracy"] {
        assert!(drawn.contains(words), "{words}: {drawn}");
    }
    let (enter, leave) = ("\u{1b}[?1049h", "\u{1b}[?1049l");
    let left = drawn.rfind(leave).expect("it left the full screen");
    assert!(drawn.find(enter).is_some_and(|entered| entered < left));
    assert!(
        drawn[left..].contains("test accuracy") && drawn[left..].contains("7 workers are there"),
        "{drawn}"
    );
    // It is left by a key, and the program ends as it would.
    let drawn = in_a_terminal(&here, "view run --tui", "(sleep 2; printf q >&9)").expect("a terminal");
    assert!(drawn.contains(enter) && drawn.trim_end().ends_with("\u{1b}[?25h"), "{drawn:?}");
    // Without a terminal it is plain lines.
    let plain = run(&here, "train --epochs 1 --run-dir plain --tui").succeeded();
    let said = plain.err.join("\n");
    assert!(said.contains("--tui needs a terminal") && !said.contains(enter), "{said}");
}
