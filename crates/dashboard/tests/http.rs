//! The page as a browser asks for it, over TCP.
#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use signvote_dashboard::{Dashboard, Entrance, Error};
use signvote_election::{Event, Round};
use signvote_observe::{Board, Live, RunDirectory, Snapshot};

const TOKEN: &str = "a-token-of-a-test";

/// A page on loopback, and where it is.
fn page(run: Live, token: bool, directory: Option<PathBuf>) -> (Dashboard, SocketAddr, String) {
    let token = token.then(|| TOKEN.parse().unwrap());
    let entrance = Entrance::open("127.0.0.1:0".parse().unwrap(), token).unwrap();
    let (address, url) = (entrance.address(), entrance.url());
    (entrance.serve(run, directory).unwrap(), address, url)
}

fn run() -> Live {
    let run = Live::new(Board::new("mlp on a test", "seed = 1\n"));
    run.take(&Event::Started { dimension: 10, workers: 3, tensors: Vec::new() });
    run
}

/// Asks for a path; gives the connection after the request.
fn ask(address: SocketAddr, path: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").unwrap();
    stream
}

fn answer(address: SocketAddr, path: &str, headers: &str) -> (u16, String, String) {
    let mut text = Vec::new();
    ask(address, path, headers).read_to_end(&mut text).unwrap();
    let text = String::from_utf8_lossy(&text);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_lowercase(), body.to_owned())
}

fn local(address: SocketAddr) -> String {
    format!("Host: {address}\r\n")
}

#[test]
fn the_page_its_data_and_its_metrics_are_there() {
    let (_page, address, url) = page(run(), false, None);
    let host = local(address);
    for (path, kind) in [("/", "text/html"), ("/app.js", "text/javascript"), ("/app.css", "text/css")] {
        let (status, head, body) = answer(address, path, &host);
        assert_eq!(status, 200, "{path}");
        assert!(
            head.contains(kind) && head.contains("default-src 'self'") && !body.is_empty(),
            "{path}: {head}"
        );
    }
    let (_, _, json) = answer(address, "/api/snapshot", &host);
    let snapshot: Snapshot = serde_json::from_str(&json).unwrap();
    assert_eq!((snapshot.version, snapshot.title.as_str(), snapshot.dimension), (1, "mlp on a test", 10));
    let (_, head, metrics) = answer(address, "/metrics", &host);
    assert!(head.contains("version=0.0.4") && metrics.contains("signvote_parameters 10"), "{metrics}");
    assert_eq!(answer(address, "/nothing", &host).0, 404);
    assert_eq!(url, format!("http://{address}/"));
}

#[test]
fn a_stream_tells_how_it_stands_and_what_changes() {
    let live = run();
    let (page, address, _) = page(live.clone(), false, None);
    let stream = BufReader::new(ask(address, "/api/stream", &local(address)));
    let mut rounds = stream.lines().map_while(Result::ok).filter_map(|line| {
        let json = line.strip_prefix("data: ")?.to_owned();
        Some(serde_json::from_str::<Snapshot>(&json).unwrap().round)
    });
    assert_eq!(rounds.next(), Some(0));
    for round in 0..5 {
        live.take(&Event::Resumed { round: Round(round), incarnation: 0, reason: "of a test".into() });
    }
    assert_eq!(rounds.find(|&round| round > 0), Some(4), "what happened within a second is one event");
    live.take(&Event::Paused { round: Round(9), reason: "of a test".into() });
    page.close();
    assert!(rounds.next().is_some(), "the last one is sent before the end");
    assert_eq!(rounds.next(), None);
}

#[test]
fn beyond_loopback_a_token_is_needed_and_asked_for() {
    assert!(matches!(Entrance::open("0.0.0.0:0".parse().unwrap(), None), Err(Error::Open { .. })));
    let (_page, address, url) = page(run(), true, None);
    for path in ["/", "/api/snapshot", "/api/stream", "/metrics", "/files/config.toml", "/?token=wrong"] {
        assert_eq!(answer(address, path, &local(address)).0, 401, "{path}");
    }
    assert_eq!(url, format!("http://{address}/?token={TOKEN}"));
    let (status, head, _) = answer(address, &format!("/?token={TOKEN}"), "Host: anything\r\n");
    assert_eq!(status, 303);
    assert!(head.contains("location: /\r\n") && head.contains("httponly; samesite=lax"), "{head}");
    // Of another page on this machine.
    let other = format!("Host: anything\r\nCookie: signvote-token-1={TOKEN}\r\n");
    assert_eq!(answer(address, "/", &other).0, 401);
    let cookie = format!("Cookie: a=b; signvote-token-{}={TOKEN}", address.port());
    for header in [cookie, format!("Authorization: Bearer {TOKEN}")] {
        assert_eq!(answer(address, "/", &format!("Host: anything\r\n{header}\r\n")).0, 200, "{header}");
    }
}

#[test]
fn a_page_from_elsewhere_cannot_look_through_a_browser() {
    let (_page, address, _) = page(run(), false, None);
    let (status, _, body) = answer(address, "/api/snapshot", "Host: evil.example\r\n");
    assert_eq!((status, body.contains("127.0.0.1")), (421, true));
}

#[test]
fn files_of_the_run_can_be_had_and_no_others() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = RunDirectory::create(temporary.path()).unwrap();
    std::fs::write(directory.config(), "seed = 1\n").unwrap();
    std::fs::write(temporary.path().join("secret"), "x").unwrap();
    let (_page, address, _) = page(run(), false, Some(temporary.path().to_owned()));
    let host = local(address);
    let (status, head, body) = answer(address, "/files/config.toml", &host);
    assert_eq!((status, body.as_str()), (200, "seed = 1\n"));
    assert!(head.contains("attachment; filename=\"config.toml\""), "{head}");
    for path in ["secret", "model.safetensors", "..%2fsecret", "%2e%2e/secret", ""] {
        assert_eq!(answer(address, &format!("/files/{path}"), &host).0, 404, "{path}");
    }
    let (_, _, json) = answer(address, "/api/snapshot", &host);
    assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap().files, ["config.toml"]);
}

#[test]
fn an_address_that_is_taken_is_named() {
    let (_page, address, _) = page(run(), false, None);
    let error = Entrance::open(address, None).unwrap_err().to_string();
    assert!(error.starts_with(&format!("the page cannot be served at {address}")), "{error}");
}

#[test]
fn who_comes_and_says_nothing_has_little_room() {
    let (_page, address, _) = page(run(), false, None);
    let silent: Vec<_> = (0..80).map(|_| TcpStream::connect(address).unwrap()).collect();
    // 64 are let in, and put out after ten seconds; then there is room again.
    let (status, _, _) = answer(address, "/api/snapshot", &local(address));
    assert_eq!(status, 200);
    let gone = silent.iter().take(64).filter(|stream| {
        stream.set_nonblocking(true).unwrap();
        (&**stream).read(&mut [0]).is_ok_and(|bytes| bytes == 0)
    });
    assert!(gone.count() > 0);
}
