//! The page as a browser asks for it, over TCP.
#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use signvote_dashboard::{Dashboard, Error, Options};
use signvote_election::{Event, Round};
use signvote_observe::{Board, Live, RunDirectory, Snapshot};

const TOKEN: &str = "a-token-of-a-test";

fn options(token: bool) -> Options {
    Options {
        address: "127.0.0.1:0".parse().unwrap(),
        token: token.then(|| TOKEN.parse().unwrap()),
        directory: None,
    }
}

fn run() -> Live {
    let run = Live::new(Board::new("mlp on a test", "seed = 1\n"));
    run.take(&Event::Started { dimension: 10, workers: 3, tensors: Vec::new() });
    run
}

/// Asks for a path; gives the connection after the request.
fn ask(address: SocketAddr, path: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
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
    let page = Dashboard::serve(run(), options(false)).unwrap();
    let host = local(page.address());
    for (path, kind) in [("/", "text/html"), ("/app.js", "text/javascript"), ("/app.css", "text/css")] {
        let (status, head, body) = answer(page.address(), path, &host);
        assert_eq!(status, 200, "{path}");
        assert!(
            head.contains(kind) && head.contains("default-src 'self'") && !body.is_empty(),
            "{path}: {head}"
        );
    }
    let (_, _, json) = answer(page.address(), "/api/snapshot", &host);
    let snapshot: Snapshot = serde_json::from_str(&json).unwrap();
    assert_eq!((snapshot.version, snapshot.title.as_str(), snapshot.dimension), (1, "mlp on a test", 10));
    let (_, head, metrics) = answer(page.address(), "/metrics", &host);
    assert!(head.contains("version=0.0.4") && metrics.contains("signvote_parameters 10"), "{metrics}");
    assert_eq!(answer(page.address(), "/nothing", &host).0, 404);
    assert_eq!(page.url(), format!("http://{}/", page.address()));
}

#[test]
fn a_stream_tells_how_it_stands_and_what_changes() {
    let live = run();
    let page = Dashboard::serve(live.clone(), options(false)).unwrap();
    let stream = BufReader::new(ask(page.address(), "/api/stream", &local(page.address())));
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
    let open = Options { address: "0.0.0.0:0".parse().unwrap(), ..options(false) };
    assert!(matches!(Dashboard::serve(run(), open), Err(Error::Open { .. })));
    let page = Dashboard::serve(run(), options(true)).unwrap();
    let address = page.address();
    for path in ["/", "/api/snapshot", "/api/stream", "/metrics", "/files/config.toml", "/?token=wrong"] {
        assert_eq!(answer(address, path, &local(address)).0, 401, "{path}");
    }
    assert_eq!(page.url(), format!("http://{address}/?token={TOKEN}"));
    let (status, head, _) = answer(address, &format!("/?token={TOKEN}"), "Host: anything\r\n");
    assert_eq!(status, 303);
    assert!(head.contains("location: /\r\n") && head.contains("httponly; samesite=strict"), "{head}");
    for header in [format!("Cookie: a=b; signvote-token={TOKEN}"), format!("Authorization: Bearer {TOKEN}")] {
        assert_eq!(answer(address, "/", &format!("Host: anything\r\n{header}\r\n")).0, 200, "{header}");
    }
}

#[test]
fn a_page_from_elsewhere_cannot_look_through_a_browser() {
    let page = Dashboard::serve(run(), options(false)).unwrap();
    let (status, _, body) = answer(page.address(), "/api/snapshot", "Host: evil.example\r\n");
    assert_eq!((status, body.contains("127.0.0.1")), (421, true));
}

#[test]
fn files_of_the_run_can_be_had_and_no_others() {
    let temporary = tempfile::tempdir().unwrap();
    let directory = RunDirectory::create(temporary.path()).unwrap();
    std::fs::write(directory.config(), "seed = 1\n").unwrap();
    std::fs::write(temporary.path().join("secret"), "x").unwrap();
    let options = Options { directory: Some(temporary.path().to_owned()), ..options(false) };
    let page = Dashboard::serve(run(), options).unwrap();
    let host = local(page.address());
    let (status, head, body) = answer(page.address(), "/files/config.toml", &host);
    assert_eq!((status, body.as_str()), (200, "seed = 1\n"));
    assert!(head.contains("attachment; filename=\"config.toml\""), "{head}");
    for path in ["secret", "model.safetensors", "..%2fsecret", "%2e%2e/secret", ""] {
        assert_eq!(answer(page.address(), &format!("/files/{path}"), &host).0, 404, "{path}");
    }
    let (_, _, json) = answer(page.address(), "/api/snapshot", &host);
    assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap().files, ["config.toml"]);
}

#[test]
fn an_address_that_is_taken_is_named() {
    let page = Dashboard::serve(run(), options(false)).unwrap();
    let again = Options { address: page.address(), ..options(false) };
    let error = Dashboard::serve(run(), again).unwrap_err().to_string();
    assert!(error.starts_with(&format!("the page cannot be served at {}", page.address())), "{error}");
}
