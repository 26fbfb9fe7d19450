//! The server's side.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error as TlsError, ServerConfig,
    SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::connector::check_worker;
use super::credentials::{Credentials, read_revocations};
use super::{PROTOCOL, REVOKED_FILE, VERSIONS, fault, provider};
use crate::identity::Peer;
use crate::{Error, Fault};

/// How long somebody who was refused may take to hear why.
const LINGER: Duration = Duration::from_millis(500);

/// How much of what it sends in that time is thrown away.
const LINGER_BYTES: u64 = 64 << 10;

/// Lets in workers whose certificates the run's CA has issued and not revoked.
///
/// A clone is the same acceptor.
#[derive(Clone, Debug)]
pub struct Acceptor {
    side: Side,
    credentials: Arc<Credentials>,
    rules: Arc<RwLock<Arc<Rules>>>,
}

/// Whose door it is.
#[derive(Clone, Copy, Debug)]
enum Side {
    Server,
    /// A shard shows the certificate of the worker on whose host it runs, or of one of its own kind: workers know it by the
    /// name that the server has told them.
    Shard,
}

/// What a reload replaces, all at once.
#[derive(Debug)]
struct Rules {
    config: Arc<ServerConfig>,
    verifier: Arc<WorkerVerifier>,
    /// The bytes of `revoked.crl` that these are the rules of.
    revocations: Option<Vec<u8>>,
}

impl Acceptor {
    /// An acceptor for a server with these credentials.
    ///
    /// # Errors
    /// If the files do not fit together: a key of another certificate, a certificate that is not the server's, has
    /// expired, was revoked or has another CA, revocations by another CA.
    pub fn new(credentials: Credentials) -> Result<Self, Error> {
        Self::of(Side::Server, credentials)
    }

    /// An acceptor for a shard, whose credentials are a worker's.
    ///
    /// # Errors
    /// As [`new`](Self::new), for a worker's certificate.
    pub fn for_shard(credentials: Credentials) -> Result<Self, Error> {
        Self::of(Side::Shard, credentials)
    }

    fn of(side: Side, credentials: Credentials) -> Result<Self, Error> {
        let rules = Rules::new(side, &credentials, credentials.revocations().map(<[u8]>::to_vec))?;
        let rules = Arc::new(RwLock::new(Arc::new(rules)));
        Ok(Self { side, credentials: Arc::new(credentials), rules })
    }

    /// Does the server's side of a handshake.
    ///
    /// It takes as long as the other end likes: the caller sets a limit, and may drop the future. Who is refused is
    /// told why and has half a second to hear it. What is stored meanwhile is bounded: a handshake message has at
    /// most 64 KiB.
    ///
    /// # Errors
    /// If the other end speaks something else, has no certificate that counts, or goes away.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> Result<(TlsStream<S>, Peer), Error> {
        let config = Arc::clone(&self.rules().config);
        let stream = match TlsAcceptor::from(config).accept(stream).into_fallible().await {
            Ok(stream) => stream,
            Err((error, mut stream)) => {
                // The alert is written. If the socket were closed now, with bytes of the other end unread, the system
                // would reset the connection, and the other end might find that instead of the alert.
                let _ = stream.shutdown().await;
                let (mut unread, mut nowhere) = (stream.take(LINGER_BYTES), tokio::io::sink());
                let read = tokio::io::copy(&mut unread, &mut nowhere);
                let _ = tokio::time::timeout(LINGER, read).await;
                return Err(fault::in_handshake(error));
            }
        };
        let (_, session) = stream.get_ref();
        // A client that names no protocol at all is not refused by the library.
        if session.alpn_protocol() != Some(PROTOCOL) {
            return Err(Error::Untrusted(Fault::OtherProtocol));
        }
        let peer = session.peer_certificates().and_then(Peer::read).ok_or(Error::Untrusted(Fault::Name))?;
        Ok((stream.into(), peer))
    }

    /// Reads `revoked.crl` again, and says whether it has changed: if so, ask [`still_valid`](Self::still_valid) for
    /// everyone who is connected. Cheap enough to call every second.
    ///
    /// # Errors
    /// If the file cannot be read, is gone, or is not a list by the run's CA, because it is just being copied, for
    /// example. Then the last list goes on to hold.
    pub fn reload(&self) -> Result<bool, Error> {
        let revocations = read_revocations(self.credentials.dir())?;
        if revocations == self.rules().revocations {
            return Ok(false);
        }
        if revocations.is_none() {
            let source = std::io::ErrorKind::NotFound.into();
            return Err(Error::file("read", &self.credentials.dir().join(REVOKED_FILE))(source));
        }
        let rules = Rules::new(self.side, &self.credentials, revocations)?;
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        Ok(true)
    }

    /// Whether somebody who was let in would be let in again.
    ///
    /// # Errors
    /// If the certificate has been revoked since, or has expired.
    pub fn still_valid(&self, peer: &Peer) -> Result<(), Error> {
        let Some((own, rest)) = peer.chain.split_first() else {
            return Err(Error::Untrusted(Fault::NoCertificate));
        };
        let verified = self.rules().verifier.verify_client_cert(own, rest, UnixTime::now());
        verified.map(drop).map_err(|error| Error::Untrusted(fault::of_tls(&error)))
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Rules {
    fn new(side: Side, credentials: &Credentials, revocations: Option<Vec<u8>>) -> Result<Self, Error> {
        let bytes = revocations.as_deref();
        // Judging one's own certificate finds a list of revocations that nobody would pass.
        match side {
            Side::Server => credentials.check_server(&*credentials.server_verifier(bytes)?)?,
            Side::Shard => check_worker(credentials, &credentials.name().parse()?)
                .map_err(|error| credentials.not_ours(&error))?,
        }
        let verifier = Arc::new(WorkerVerifier { inner: credentials.worker_verifier(bytes)? });
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .map_err(|error| credentials.not_ours(&error))?
            .with_client_cert_verifier(Arc::clone(&verifier) as Arc<dyn ClientCertVerifier>)
            .with_single_cert(credentials.chain(), credentials.key())
            .map_err(|error| credentials.not_ours(&error))?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        // A ticket would let a revoked worker in without its certificate.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { config: Arc::new(config), verifier, revocations })
    }
}

/// The library's rules for clients, and that a certificate must name exactly one worker and have an Ed25519 key.
#[derive(Debug)]
pub(super) struct WorkerVerifier {
    pub(super) inner: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for WorkerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        match Peer::read(std::slice::from_ref(end_entity)) {
            Some(_) => Ok(verified),
            None => Err(CertificateError::NotValidForName.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
