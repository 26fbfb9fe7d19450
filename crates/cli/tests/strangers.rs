//! Strangers at the door: whatever they send, the server's memory stays flat and the training goes on.
#![cfg(target_os = "linux")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::family::memory_mib;
use common::random::Random;
use common::{Process, directory, run, serve};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

/// Streams of random bytes. The issue of a server that people can leave running asks for so many.
const STREAMS: u64 = 10_000;
/// Growth that counts as flat: buffers of connections that come and go, and the ring, which fills with rounds.
const FLAT_MIB: u64 = 24;

/// Connects, says something, and hears what comes; a server that hangs up is as good as one that answers.
fn say(address: &str, bytes: &[u8]) -> usize {
    let Ok(mut stream) = TcpStream::connect(address) else { return 0 };
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer.len()
}

/// A handshake without a certificate, as far as it comes.
fn without_a_certificate(address: &str, roots: &RootCertStore) {
    let config = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots.clone())
        .with_no_client_auth();
    let name = ServerName::try_from("signvote-server").expect("a name");
    let mut session = ClientConnection::new(Arc::new(config), name).expect("a session");
    let mut socket = TcpStream::connect(address).expect("it listens");
    let mut answer = [0; 1];
    let heard = Stream::new(&mut session, &mut socket).read(&mut answer);
    assert!(!matches!(heard, Ok(1..)), "the server spoke to a stranger");
}

fn attack(server: &mut Process, address: &str, secure: bool, here: &Path) {
    // The ring has filled with what it holds by then: the memory of a server grows until it has.
    server.rounds(250);
    let before = memory_mib(server);
    let mut random = Random::seeded();
    let mut longest = 0;
    for _ in 0..200 {
        drop(TcpStream::connect(address).expect("it listens"));
    }
    if secure {
        let ca = CertificateDer::from_pem_file(here.join("certs/ca.crt")).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(ca).expect("an authority");
        (0..50).for_each(|_| without_a_certificate(address, &roots));
    }
    // A length of 2⁶³ in eight bytes, and the longest one in four.
    for announced in [&[0, 0, 0, 0, 0, 0, 0, 0x80][..], &[0xff; 4], &[0xff, 0xff, 0xff, 0xff, 5, 1, 2, 3]] {
        (0..20).for_each(|_| longest = longest.max(say(address, announced)));
    }
    let mut bytes = vec![0; 2048];
    for _ in 0..STREAMS {
        bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&random.next().to_le_bytes()));
        let length = random.below(2048) as usize;
        longest = longest.max(say(address, &bytes[..length]));
    }
    // Some that say half a word, and stay.
    let silent: Vec<_> = (0..200)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(address).ok()?;
            let _ = stream.write_all(&[20, 0]);
            Some(stream)
        })
        .collect();
    assert!(longest < 4096, "{longest} bytes for a stranger");
    let status = if secure { "--tls certs --identity eve" } else { "" };
    if secure {
        // In plain text who asks is one of the address that is kept out.
        let status = run(here, &format!("status {address} --json {status}")).succeeded().json();
        assert!(status["turned_away"].as_u64() > Some(1_000), "{status}");
        let round = status["round"].as_u64().expect("a round");
        server.rounds(round + 20);
    } else {
        server.rounds(270);
    }
    let after = memory_mib(server);
    assert!(after <= before + FLAT_MIB, "{before} MiB before, {after} after");
    drop(silent);
    report(secure, before, after);
}

#[expect(clippy::print_stdout, reason = "the figure is what it is for")]
fn report(secure: bool, before: u64, after: u64) {
    let how = if secure { "with TLS" } else { "in plain text" };
    println!(
        "strangers {how}: {STREAMS} streams of random bytes; the server had {before} MiB before, {after} MiB after"
    );
}

/// The log has a few lines on them, not one for each.
fn log_stays_short(here: &Path) {
    let lines = common::log(&here.join("run")).iter().filter(|event| event["event"] == "refused").count();
    assert!((1..500).contains(&lines), "{lines} lines on strangers");
}

#[test]
fn strangers_in_plain_text_cost_bounded_memory_and_no_round() {
    let (_guard, here) = directory();
    let (mut server, address) = serve(&here, "--workers 3 --rounds 1000000 --batch 4 --ring-mib 8");
    let _workers: Vec<_> = (0..3).map(|_| common::join(&here, &address, "")).collect();
    attack(&mut server, &address, false, &here);
    log_stays_short(&here);
}

#[test]
fn strangers_at_a_server_with_identities_cost_bounded_memory_and_keep_no_worker_out() {
    let (_guard, here) = directory();
    run(&here, "certs init").succeeded();
    run(&here, "certs issue ada bob eve").succeeded();
    let flags = "--workers 3 --rounds 1000000 --batch 4 --ring-mib 8 --tls certs --quorum 2";
    let (mut server, address) = serve(&here, flags);
    let join = |name: &str| {
        Process::start(&here, &format!("worker --quiet --connect {address} --tls certs --identity {name}"))
    };
    let _workers = ["ada", "bob"].map(join);
    let mut eve = join("eve");
    server.rounds(5);
    eve.kill();
    attack(&mut server, &address, true, &here);
    // From the very address that is kept out.
    let _eve = join("eve");
    server.event_where("joined", |event| {
        event["name"].as_str().is_some() && event["round"].as_u64() > Some(200)
    });
    server.event_where("committed", |event| event["voters"] == 3);
    log_stays_short(&here);
}
