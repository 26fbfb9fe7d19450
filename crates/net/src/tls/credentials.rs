//! The files of one identity.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName,
};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{Error as TlsError, InconsistentKeys, RootCertStore};

use super::{CA_FILE, REVOKED_FILE, provider};
use crate::identity::{Name, SERVER, SigningKey};
use crate::{Error, files};

/// Whom to trust and what to show: `ca.crt`, `NAME.crt`, `NAME.key` and, if there is one, `revoked.crl`.
#[derive(Debug)]
pub struct Credentials {
    name: String,
    dir: PathBuf,
    roots: Arc<RootCertStore>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivatePkcs8KeyDer<'static>,
    signing_key: Arc<SigningKey>,
    revocations: Option<Vec<u8>>,
}

impl Credentials {
    /// Reads the files of `name` in `dir`: the server's are those of "server", a worker's have its name.
    ///
    /// # Errors
    /// If a file is missing or is not what it should be, if the key can be read by others, or if `name` can be no
    /// identity. Whether the files fit together is found out by [`Acceptor::new`](super::Acceptor::new) and
    /// [`Connector::new`](super::Connector::new).
    pub fn load(dir: &Path, name: &str) -> Result<Self, Error> {
        if name != "server" {
            name.parse::<Name>()?;
        }
        let path = dir.join(CA_FILE);
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&path)? {
            roots.add(certificate).map_err(|_| {
                Error::malformed(&path, "expected the certificate of a CA, got something else")
            })?;
        }
        let chain = certificates(&dir.join(format!("{name}.crt")))?;
        let path = dir.join(format!("{name}.key"));
        let wrong =
            || Error::malformed(&path, "expected an Ed25519 key (PKCS #8 in PEM), got something else");
        let key = PrivatePkcs8KeyDer::from_pem_slice(&files::read_secret(&path)?).map_err(|_| wrong())?;
        let signing_key = SigningKey::from_pkcs8(key.secret_pkcs8_der()).ok_or_else(wrong)?;
        let revocations = read_revocations(dir)?;
        Ok(Self {
            name: name.to_owned(),
            dir: dir.to_owned(),
            roots: Arc::new(roots),
            chain,
            key,
            signing_key: Arc::new(signing_key),
            revocations,
        })
    }

    /// The name that the files have.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key that ballots are signed with.
    #[must_use]
    pub fn signing_key(&self) -> Arc<SigningKey> {
        Arc::clone(&self.signing_key)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The bytes of `revoked.crl`.
    pub(super) fn revocations(&self) -> Option<&[u8]> {
        self.revocations.as_deref()
    }

    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.clone_key())
    }

    /// Judges servers by these credentials.
    pub(super) fn server_verifier(
        &self,
        revocations: Option<&[u8]>,
    ) -> Result<Arc<WebPkiServerVerifier>, Error> {
        WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.roots), provider())
            .only_check_end_entity_revocation()
            .with_crls(self.parse_revocations(revocations)?)
            .build()
            .map_err(|error| self.not_revocations(&error))
    }

    /// Judges workers by these credentials.
    pub(super) fn worker_verifier(
        &self,
        revocations: Option<&[u8]>,
    ) -> Result<Arc<dyn ClientCertVerifier>, Error> {
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&self.roots), provider())
            .only_check_end_entity_revocation()
            .with_crls(self.parse_revocations(revocations)?)
            .build()
            .map_err(|error| self.not_revocations(&error))
    }

    fn parse_revocations(
        &self,
        bytes: Option<&[u8]>,
    ) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
        let Some(bytes) = bytes else { return Ok(Vec::new()) };
        let wrong = || {
            let path = self.dir.join(REVOKED_FILE);
            Error::malformed(&path, "expected a list of revoked certificates in PEM, got something else")
        };
        let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(bytes)
            .collect::<Result<_, _>>()
            .map_err(|_| wrong())?;
        // An empty list of lists would be taken for "nothing is revoked": a copy that was cut off must not be.
        if lists.is_empty() { Err(wrong()) } else { Ok(lists) }
    }

    fn not_revocations(&self, error: &VerifierBuilderError) -> Error {
        Error::malformed(&self.dir.join(REVOKED_FILE), error.to_string())
    }

    /// Whether a server's certificate is what the name of its files promises, by the word of the verifier that its
    /// workers use.
    pub(super) fn check_server(&self, verifier: &WebPkiServerVerifier) -> Result<(), Error> {
        let Some((own, rest)) = self.chain.split_first() else { return Ok(()) };
        let verified =
            verifier.verify_server_cert(own, rest, &server_name()?, &[], rustls::pki_types::UnixTime::now());
        verified.map(drop).map_err(|error| self.not_ours(&error))
    }

    /// An error about the identity's own certificate.
    pub(super) fn not_ours(&self, error: &TlsError) -> Error {
        use rustls::CertificateError::UnknownRevocationStatus;
        let file = match error {
            TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let reason = format!("the key is not that of {}.crt", self.name);
                return Error::malformed(&self.dir.join(format!("{}.key", self.name)), reason);
            }
            TlsError::InvalidCertRevocationList(_)
            | TlsError::InvalidCertificate(UnknownRevocationStatus) => REVOKED_FILE.to_owned(),
            _ => format!("{}.crt", self.name),
        };
        Error::malformed(&self.dir.join(file), super::fault::of_tls(error).to_string())
    }
}

/// The bytes of `revoked.crl`, if there is one.
pub(super) fn read_revocations(dir: &Path) -> Result<Option<Vec<u8>>, Error> {
    match files::read(&dir.join(REVOKED_FILE)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn server_name() -> Result<ServerName<'static>, Error> {
    ServerName::try_from(SERVER).map_err(|error| Error::Certificate(error.to_string()))
}

/// The certificates in a file, of which there must be one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = || Error::malformed(path, "expected a certificate in PEM, got something else");
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&files::read(path)?).collect::<Result<_, _>>().map_err(|_| wrong())?;
    if certificates.is_empty() { Err(wrong()) } else { Ok(certificates) }
}
