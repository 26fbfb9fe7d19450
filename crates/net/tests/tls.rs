//! Handshakes over loopback: who is let in, who is not, and what both ends say about it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use signvote_net::tls::{Acceptor, Connector, Credentials, TlsStream, explain};
use signvote_net::{Error, Fault, Name, Peer, SERVER, certs, verify_signature};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const LONG: Duration = Duration::from_secs(30);

/// A CA with the workers a and b.
fn authority() -> (tempfile::TempDir, PathBuf) {
    let guard = tempfile::tempdir().unwrap();
    let dir = guard.path().join("certs");
    certs::init(&dir).unwrap();
    certs::issue(&dir, &[name("a"), name("b")]).unwrap();
    (guard, dir)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn acceptor(dir: &Path) -> Acceptor {
    Acceptor::new(Credentials::load(dir, "server").unwrap()).unwrap()
}

fn connector(dir: &Path, name: &str) -> Connector {
    Connector::new(&Credentials::load(dir, name).unwrap()).unwrap()
}

/// Two ends of a connection.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (listener.accept().await.unwrap().0, client)
}

/// What the acceptor says of a client, and what the client hears when it says hello and waits for an answer.
async fn meet(
    acceptor: &Acceptor,
    client: impl Future<Output = Result<TlsStream<TcpStream>, Error>>,
    server: TcpStream,
) -> (Result<Peer, Error>, Result<Vec<u8>, Error>) {
    let serve = async {
        let (mut stream, peer) = acceptor.accept(server).await?;
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).await.map_err(explain)?;
        stream.write_all(&hello).await.unwrap();
        stream.shutdown().await.unwrap();
        Ok(peer)
    };
    let client = async {
        let mut stream = client.await?;
        stream.write_all(b"hello").await.map_err(explain)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map_err(explain)?;
        Ok(answer)
    };
    tokio::time::timeout(LONG, async { tokio::join!(serve, client) }).await.unwrap()
}

async fn meet_worker(
    acceptor: &Acceptor,
    connector: &Connector,
) -> (Result<Peer, Error>, Result<Vec<u8>, Error>) {
    let (server, client) = sockets().await;
    meet(acceptor, connector.connect(client), server).await
}

/// A client that is configured by hand, to do what [`Connector`] never does.
async fn meet_stranger(
    acceptor: &Acceptor,
    config: ClientConfig,
) -> (Result<Peer, Error>, Result<Vec<u8>, Error>) {
    let (server, client) = sockets().await;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(SERVER).unwrap();
    let client = async { connector.connect(name, client).await.map(Into::into).map_err(explain) };
    meet(acceptor, client, server).await
}

fn roots(dir: &Path) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(dir.join("ca.crt")).unwrap()).unwrap();
    roots
}

fn client_config(
    dir: &Path,
    versions: &[&'static rustls::SupportedProtocolVersion],
    identity: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots(dir));
    let mut config = match identity {
        Some((certificate, key)) => config.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"signvote".to_vec()];
    config
}

fn files_of(dir: &Path, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from_pem_file(dir.join(format!("{name}.crt"))).unwrap();
    (certificate, PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key"))).unwrap())
}

const TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];

#[track_caller]
fn untrusted<T: std::fmt::Debug>(result: Result<T, Error>, fault: &Fault) {
    assert!(
        matches!(&result, Err(Error::Untrusted(got)) if got == fault),
        "expected {fault:?}, got {result:?}"
    );
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, fault: &Fault) {
    assert!(
        matches!(&result, Err(Error::RefusedBy(got)) if got == fault),
        "expected {fault:?}, got {result:?}"
    );
}

#[tokio::test]
async fn both_ends_know_each_other_by_name_and_key() {
    let (_guard, dir) = authority();
    let (acceptor, worker) = (acceptor(&dir), connector(&dir, "a"));
    let (peer, answer) = meet_worker(&acceptor, &worker).await;
    let peer = peer.unwrap();
    assert_eq!(answer.unwrap(), b"hello");
    assert_eq!((peer.name(), worker.name()), (&name("a"), &name("a")));
    assert_eq!(peer.certificate(), files_of(&dir, "a").0.as_ref());
    let signature = worker.signing_key().sign(b"a ballot's root");
    assert!(verify_signature(peer.key(), b"a ballot's root", &signature));
    assert!(!verify_signature(peer.key(), b"another's root", &signature));
    let (other, _) = meet_worker(&acceptor, &connector(&dir, "b")).await;
    assert_ne!(other.unwrap().key(), peer.key());
    acceptor.still_valid(&peer).unwrap();
}

#[tokio::test]
async fn nobody_is_let_in_without_a_certificate_and_is_told_so() {
    let (_guard, dir) = authority();
    let (peer, answer) = meet_stranger(&acceptor(&dir), client_config(&dir, TLS13, None)).await;
    untrusted(peer, &Fault::NoCertificate);
    refused(answer, &Fault::NoCertificate);
}

#[tokio::test]
async fn who_is_refused_hears_why_though_it_has_said_more_than_was_read() {
    let (_guard, dir) = authority();
    let acceptor = acceptor(&dir);
    let (server, client) = sockets().await;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client_config(&dir, TLS13, None)));
    let talk = async {
        let mut stream = connector.connect(ServerName::try_from(SERVER).unwrap(), client).await.unwrap();
        stream.write_all(&[0; 40_000]).await.unwrap();
        stream.flush().await.unwrap();
        // The refusal has come, and nobody has looked yet: the system must not make it "broken pipe".
        stream.get_ref().0.peek(&mut [0]).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.flush().await.unwrap();
        stream.read(&mut [0; 8]).await.map_err(explain)
    };
    let (accepted, read) = tokio::join!(acceptor.accept(server), talk);
    untrusted(accepted.map(drop), &Fault::NoCertificate);
    refused(read, &Fault::NoCertificate);
}

#[tokio::test]
async fn another_authority_counts_for_nothing_on_either_side() {
    let (_guard, dir) = authority();
    let (_other_guard, other) = authority();
    // The server of one, a worker of the other: the worker is the first to see a certificate.
    let (peer, answer) = meet_worker(&acceptor(&dir), &connector(&other, "a")).await;
    untrusted(answer, &Fault::OtherAuthority);
    refused(peer, &Fault::OtherAuthority);
    // A worker that trusts the server all the same.
    let config = client_config(&dir, TLS13, Some(files_of(&other, "a")));
    let (peer, answer) = meet_stranger(&acceptor(&dir), config).await;
    untrusted(peer, &Fault::OtherAuthority);
    refused(answer, &Fault::OtherAuthority);
}

#[tokio::test]
async fn a_certificate_in_the_authoritys_name_is_not_by_the_authority() {
    let (_guard, dir) = authority();
    // Signed by the key of worker b, which says that it is the CA.
    let subject = unit(&dir);
    let mut authority = CertificateParams::default();
    authority.distinguished_name = rcgen::DistinguishedName::new();
    authority.distinguished_name.push(rcgen::DnType::CommonName, "signvote CA");
    authority.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, subject);
    let key = KeyPair::from_pem(&std::fs::read_to_string(dir.join("b.key")).unwrap()).unwrap();
    let identity = certificate(&Issuer::new(authority, key), worker_params("a"), &PKCS_ED25519);
    let (peer, answer) = meet_stranger(&acceptor(&dir), client_config(&dir, TLS13, Some(identity))).await;
    untrusted(peer, &Fault::OtherAuthority);
    answer.unwrap_err();
}

#[tokio::test]
async fn certificates_are_for_one_role() {
    let (_guard, dir) = authority();
    // The server's certificate, where a worker's is wanted.
    let config = client_config(&dir, TLS13, Some(files_of(&dir, "server")));
    let (peer, answer) = meet_stranger(&acceptor(&dir), config).await;
    untrusted(peer, &Fault::Role);
    refused(answer, &Fault::Role);
    // A worker's as the server's, one with the server's name in it, and one for a server of another name.
    let mut another = worker_params("another-server");
    another.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for ((certificate, key), fault) in [
        (files_of(&dir, "a"), Fault::Role),
        (certificate(&issuer(&dir), worker_params(SERVER), &PKCS_ED25519), Fault::Role),
        (certificate(&issuer(&dir), another, &PKCS_ED25519), Fault::Name),
    ] {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(TLS13)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let (server, client) = sockets().await;
        let forger = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let worker = connector(&dir, "b");
        let (_, connected) = tokio::join!(forger.accept(server), worker.connect(client));
        untrusted(connected.map(drop), &fault);
    }
}

#[tokio::test]
async fn a_certificate_must_name_exactly_one_worker_have_an_ed25519_key_and_be_in_time() {
    let (_guard, dir) = authority();
    let acceptor = acceptor(&dir);
    let params = |names: &[&str]| {
        let mut params = worker_params("a");
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        params.subject_alt_names = CertificateParams::new(names).unwrap().subject_alt_names;
        params
    };
    let mut old = params(&["a"]);
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let mut early = params(&["a"]);
    early.not_before = rcgen::date_time_ymd(2999, 1, 1);
    let cases = [
        (params(&[]), &PKCS_ED25519, Fault::Name),
        (params(&["a", "b"]), &PKCS_ED25519, Fault::Name),
        (params(&["A"]), &PKCS_ED25519, Fault::Name),
        (params(&["*.a"]), &PKCS_ED25519, Fault::Name),
        (params(&["server"]), &PKCS_ED25519, Fault::Name),
        (params(&["a"]), &PKCS_ECDSA_P256_SHA256, Fault::Name),
        (old, &PKCS_ED25519, Fault::Expired),
        (early, &PKCS_ED25519, Fault::Expired),
    ];
    for (i, (params, algorithm, fault)) in cases.into_iter().enumerate() {
        let identity = certificate(&issuer(&dir), params, algorithm);
        let (peer, answer) = meet_stranger(&acceptor, client_config(&dir, TLS13, Some(identity))).await;
        assert!(matches!(&peer, Err(Error::Untrusted(got)) if *got == fault), "case {i}: {peer:?}");
        refused(answer, &fault);
    }
    // The same by hand with nothing wrong is let in.
    let identity = certificate(&issuer(&dir), params(&["a"]), &PKCS_ED25519);
    let (peer, _) = meet_stranger(&acceptor, client_config(&dir, TLS13, Some(identity))).await;
    assert_eq!(peer.unwrap().name(), &name("a"));
}

#[tokio::test]
async fn a_revocation_ends_live_connections_and_shuts_the_door() {
    let (_guard, dir) = authority();
    let server = acceptor(&dir);
    let [a, b] = [connector(&dir, "a"), connector(&dir, "b")];
    let peer_a = meet_worker(&server, &a).await.0.unwrap();
    let peer_b = meet_worker(&server, &b).await.0.unwrap();
    assert!(!server.reload().unwrap(), "nothing has changed");

    assert_eq!(certs::revoke(&dir, &name("a")).unwrap(), 1);
    server.still_valid(&peer_a).unwrap();
    let other_task = server.clone();
    assert!(other_task.reload().unwrap(), "and a clone is the same acceptor");
    untrusted(server.still_valid(&peer_a), &Fault::Revoked);
    server.still_valid(&peer_b).unwrap();
    let (peer, answer) = meet_worker(&server, &a).await;
    untrusted(peer, &Fault::Revoked);
    refused(answer, &Fault::Revoked);
    meet_worker(&server, &b).await.0.unwrap();

    // The name comes back with another certificate; the old one stays out.
    certs::issue(&dir, &[name("a")]).unwrap();
    assert!(!server.reload().unwrap());
    let peer = meet_worker(&server, &connector(&dir, "a")).await.0.unwrap();
    assert_eq!(peer.name(), peer_a.name());
    assert_ne!(peer.key(), peer_a.key());
    untrusted(meet_worker(&server, &a).await.0, &Fault::Revoked);
    // Revoked again: both certificates are on the list, and one of them is new there.
    assert_eq!(certs::revoke(&dir, &name("a")).unwrap(), 1);
    assert!(server.reload().unwrap());
    untrusted(server.still_valid(&peer_a), &Fault::Revoked);
    untrusted(server.still_valid(&peer), &Fault::Revoked);
    // A server that is started now knows as much.
    untrusted(acceptor(&dir).still_valid(&peer), &Fault::Revoked);
    // And so does a worker that has the list.
    let error = Connector::new(&Credentials::load(&dir, "a").unwrap()).unwrap_err().to_string();
    assert!(error.contains("a.crt") && error.contains("revoked"), "{error}");
}

#[tokio::test]
async fn a_list_of_revocations_that_is_none_changes_nothing() {
    let (_guard, dir) = authority();
    let (_other_guard, other) = authority();
    let server = acceptor(&dir);
    let worker = connector(&dir, "a");
    let peer = meet_worker(&server, &worker).await.0.unwrap();
    certs::revoke(&dir, &name("a")).unwrap();
    assert!(server.reload().unwrap());
    let list = dir.join("revoked.crl");
    let good = std::fs::read(&list).unwrap();
    let another = std::fs::read(other.join("revoked.crl")).unwrap();
    for bad in [&b""[..], &good[..good.len() / 2], b"nonsense", &another] {
        std::fs::write(&list, bad).unwrap();
        let error = server.reload().unwrap_err().to_string();
        assert!(error.contains("revoked.crl"), "{error}");
        untrusted(server.still_valid(&peer), &Fault::Revoked);
        // A server does not start with it either.
        Acceptor::new(Credentials::load(&dir, "server").unwrap()).unwrap_err();
    }
    std::fs::remove_file(&list).unwrap();
    server.reload().unwrap_err();
    untrusted(server.still_valid(&peer), &Fault::Revoked);
    std::fs::write(&list, &good).unwrap();
    assert!(!server.reload().unwrap(), "the same list as before");
}

#[tokio::test]
async fn tls_below_1_3_other_protocols_and_no_tls_are_refused() {
    let (_guard, dir) = authority();
    let server = acceptor(&dir);
    let older = client_config(&dir, &[&rustls::version::TLS12], Some(files_of(&dir, "a")));
    let (peer, answer) = meet_stranger(&server, older).await;
    untrusted(peer, &Fault::Version);
    refused(answer, &Fault::Version);

    let mut other = client_config(&dir, TLS13, Some(files_of(&dir, "a")));
    other.alpn_protocols = vec![b"h2".to_vec()];
    let (peer, answer) = meet_stranger(&server, other.clone()).await;
    untrusted(peer, &Fault::OtherProtocol);
    refused(answer, &Fault::OtherProtocol);
    other.alpn_protocols = Vec::new();
    untrusted(meet_stranger(&server, other).await.0, &Fault::OtherProtocol);

    for plain in [&b"SVT1 plain signvote says hello without TLS"[..], b"GET / HTTP/1.1\r\n\r\n", b""] {
        let (socket, mut client) = sockets().await;
        let talk = async {
            client.write_all(plain).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let (accepted, ()) = tokio::join!(server.accept(socket), talk);
        untrusted(accepted.map(drop), &Fault::NoTls);
    }
    // A worker that comes to a server without TLS.
    let (mut socket, client) = sockets().await;
    let worker = connector(&dir, "a");
    let (connected, _) = tokio::join!(worker.connect(client), socket.write_all(b"\x01\0\0\0not TLS at all"));
    untrusted(connected.map(drop), &Fault::NoTls);
}

#[tokio::test]
async fn there_is_no_session_to_resume() {
    let (_guard, dir) = authority();
    let server = acceptor(&dir);
    // A client that would resume if it could: the memory of sessions is in the configuration that both share.
    let config = Arc::new(client_config(&dir, TLS13, Some(files_of(&dir, "a"))));
    for _ in 0..2 {
        let (socket, client) = sockets().await;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&config));
        let talk = async {
            let name = ServerName::try_from(SERVER).unwrap();
            let mut stream = connector.connect(name, client).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            let mut answer = Vec::new();
            // Whatever the server has to say comes before the end of the stream, tickets included.
            stream.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"hello");
            let session: &ClientConnection = stream.get_ref().1;
            assert_eq!(session.tls13_tickets_received(), 0);
            assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full));
            Err(Error::Untrusted(Fault::Unreadable))
        };
        meet(&server, talk, socket).await.0.unwrap();
    }
}

#[tokio::test]
async fn a_handshake_that_stands_still_can_be_dropped_and_holds_nobody_up() {
    let (_guard, dir) = authority();
    let server = acceptor(&dir);
    let (socket, mut client) = sockets().await;
    client.write_all(b"\x16\x03\x01").await.unwrap();
    let slow = server.clone();
    let standing = tokio::spawn(async move { slow.accept(socket).await.map(drop) });
    meet_worker(&server, &connector(&dir, "a")).await.0.unwrap();
    assert!(!standing.is_finished());
    standing.abort();
    assert!(standing.await.unwrap_err().is_cancelled());
    assert_eq!(client.read(&mut [0; 8]).await.unwrap_or(0), 0, "the socket is closed");
}

#[test]
fn credentials_that_do_not_fit_are_named() {
    let (_guard, dir) = authority();
    let (_other_guard, other) = authority();
    let fails = |dir: &Path, name: &str, words: &[&str]| {
        let made = Credentials::load(dir, name).and_then(|credentials| {
            if name == "server" {
                Acceptor::new(credentials).map(drop)
            } else {
                Connector::new(&credentials).map(drop)
            }
        });
        let error = made.unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{word:?} is not in {error:?}");
        }
    };
    fails(&dir, "c", &["c.crt", "signvote certs issue"]);
    fails(&dir.join("nowhere"), "server", &["ca.crt", "signvote certs init"]);
    fails(&dir, "../a", &["../a", "1 to 63"]);
    fails(&dir, "ca", &["reserved"]);
    let copy = |from: &Path, to: &Path| std::fs::copy(from, to).map(drop).unwrap();
    // Another's key.
    copy(&dir.join("a.crt"), &dir.join("c.crt"));
    copy(&dir.join("b.key"), &dir.join("c.key"));
    fails(&dir, "c", &["c.crt", "does not name"]);
    copy(&dir.join("b.key"), &dir.join("a.key"));
    fails(&dir, "a", &["a.key", "not that of a.crt"]);
    // Another CA's server.
    for file in ["server.crt", "server.key"] {
        copy(&other.join(file), &dir.join(file));
    }
    fails(&dir, "server", &["server.crt", "not issued by this run's CA"]);
    // A worker's certificate as the server's.
    copy(&dir.join("b.crt"), &dir.join("server.crt"));
    copy(&dir.join("b.key"), &dir.join("server.key"));
    fails(&dir, "server", &["server.crt", "for another role"]);
    for (file, words) in [("b.key", "Ed25519"), ("b.crt", "certificate"), ("ca.crt", "certificate")] {
        std::fs::write(dir.join(file), "-----BEGIN NOTHING-----\n").unwrap();
        fails(&dir, "b", &[file, words]);
    }
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let (_guard, dir) = authority();
    for mode in [0o644, 0o640, 0o604, 0o620] {
        std::fs::set_permissions(dir.join("a.key"), PermissionsExt::from_mode(mode)).unwrap();
        let error = Credentials::load(&dir, "a").unwrap_err().to_string();
        assert!(error.contains("chmod 600") && error.contains(&format!("{mode:o}")), "{error}");
    }
    std::fs::set_permissions(dir.join("a.key"), PermissionsExt::from_mode(0o400)).unwrap();
    Credentials::load(&dir, "a").unwrap();
}

#[test]
fn nothing_that_is_shown_for_debugging_is_secret() {
    let (_guard, dir) = authority();
    let credentials = Credentials::load(&dir, "a").unwrap();
    let connector = Connector::new(&credentials).unwrap();
    let server = acceptor(&dir);
    let seed = *credentials.signing_key().seed();
    let shown = format!("{credentials:?} {connector:?} {server:?} {:#?}", credentials.signing_key());
    let list = format!("{}, {}, {}, {}", seed[0], seed[1], seed[2], seed[3]);
    let hex: String = seed[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!shown.contains(&list) && !shown.to_lowercase().contains(&hex), "{shown}");
}

/// The CA of a directory, to issue what [`certs`] never would.
fn issuer(dir: &Path) -> Issuer<'static, KeyPair> {
    let mut authority = CertificateParams::default();
    authority.distinguished_name = rcgen::DistinguishedName::new();
    authority.distinguished_name.push(rcgen::DnType::CommonName, "signvote CA");
    authority.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, unit(dir));
    Issuer::new(authority, KeyPair::from_pem(&std::fs::read_to_string(dir.join("ca.key")).unwrap()).unwrap())
}

/// What tells the names of CAs apart: the beginning of the key, in hex.
fn unit(dir: &Path) -> String {
    let key = KeyPair::from_pem(&std::fs::read_to_string(dir.join("ca.key")).unwrap()).unwrap();
    key.public_key_raw()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn worker_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn certificate(
    issuer: &Issuer<'static, KeyPair>,
    params: CertificateParams,
    algorithm: &'static rcgen::SignatureAlgorithm,
) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    (certificate.into(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}
