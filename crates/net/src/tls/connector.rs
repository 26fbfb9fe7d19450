//! A worker's side.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, TlsStream};

use super::acceptor::WorkerVerifier;
use super::credentials::{Credentials, server_name};
use super::{PROTOCOL, VERSIONS, fault, provider};
use crate::identity::{Name, Peer, SigningKey};
use crate::{Error, Fault};

/// Connects a worker to the run's server, wherever that is, and to nobody else.
///
/// A clone is the same connector.
#[derive(Clone, Debug)]
pub struct Connector {
    config: Arc<ClientConfig>,
    /// For shards, which show certificates of workers.
    shards: Arc<ClientConfig>,
    server: ServerName<'static>,
    name: Name,
    signing_key: Arc<SigningKey>,
}

impl Connector {
    /// A connector for a worker with these credentials.
    ///
    /// # Errors
    /// If the files do not fit together: a key of another certificate, a certificate that is not that worker's, has
    /// expired, was revoked or has another CA.
    pub fn new(credentials: &Credentials) -> Result<Self, Error> {
        let name = credentials.name().parse()?;
        let verifier = credentials.server_verifier(credentials.revocations())?;
        let chain = credentials.chain();
        check_worker(credentials, &name).map_err(|error| credentials.not_ours(&error))?;
        let of_workers = WorkerVerifier { inner: credentials.worker_verifier(credentials.revocations())? };
        let config = |verifier: Arc<dyn ServerCertVerifier>| {
            let mut config = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(VERSIONS)?
                .dangerous()
                .with_custom_certificate_verifier(verifier)
                .with_client_auth_cert(chain.clone(), credentials.key())?;
            config.alpn_protocols = vec![PROTOCOL.to_vec()];
            config.resumption = Resumption::disabled();
            Ok(Arc::new(config))
        };
        let not_ours = |error: TlsError| credentials.not_ours(&error);
        let shards = config(Arc::new(ShardVerifier(of_workers))).map_err(not_ours)?;
        let config = config(verifier).map_err(not_ours)?;
        let signing_key = credentials.signing_key();
        Ok(Self { config, shards, server: server_name()?, name, signing_key })
    }

    /// Does a worker's side of a handshake with a shard, which has to be the one of this name.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_shard<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        name: &str,
    ) -> Result<TlsStream<S>, Error> {
        let stream = Self::secure(&self.shards, self.server.clone(), stream).await?;
        let peer = stream.get_ref().1.peer_certificates().and_then(Peer::read);
        match peer.is_some_and(|peer| peer.name().to_string() == name) {
            true => Ok(stream),
            false => Err(Error::Untrusted(Fault::Name)),
        }
    }

    /// Does a worker's side of a handshake.
    ///
    /// It takes as long as the other end likes: the caller sets a limit, and may drop the future. That the server
    /// refuses this worker is learnt when something is read: see [`explain`](super::explain).
    ///
    /// # Errors
    /// If the other end speaks something else, is not the run's server, or goes away. One that hangs up may have died,
    /// and is only [`Error::Lost`].
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Result<TlsStream<S>, Error> {
        Self::secure(&self.config, self.server.clone(), stream).await
    }

    async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
        config: &Arc<ClientConfig>,
        server: ServerName<'static>,
        stream: S,
    ) -> Result<TlsStream<S>, Error> {
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(server, stream).await.map_err(fault::explain)?;
        if stream.get_ref().1.alpn_protocol() != Some(PROTOCOL) {
            return Err(Error::Untrusted(Fault::OtherProtocol));
        }
        Ok(stream.into())
    }

    /// The worker's identity.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The key that the worker's ballots are signed with.
    #[must_use]
    pub fn signing_key(&self) -> Arc<SigningKey> {
        Arc::clone(&self.signing_key)
    }
}

/// The rules for workers' certificates, for a shard that shows one. Whose it is is for the caller to look at: the name of a worker
/// need not be one that a host can have.
#[derive(Debug)]
struct ShardVerifier(WorkerVerifier);

impl ServerCertVerifier for ShardVerifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.0.verify_client_cert(own, rest, now).map(|_| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Whether the server will take the certificate, and for the worker that its file is named after.
pub(super) fn check_worker(credentials: &Credentials, name: &Name) -> Result<(), TlsError> {
    let general = |error: Error| TlsError::General(error.to_string());
    let inner = credentials.worker_verifier(credentials.revocations()).map_err(general)?;
    let chain = credentials.chain();
    let Some((own, rest)) = chain.split_first() else { return Err(TlsError::NoCertificatesPresented) };
    WorkerVerifier { inner }.verify_client_cert(own, rest, UnixTime::now())?;
    match Peer::read(&chain) {
        Some(peer) if peer.name() == name => Ok(()),
        _ => Err(rustls::CertificateError::NotValidForName.into()),
    }
}
