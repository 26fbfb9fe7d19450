//! TLS 1.3 with certificates on both sides, from the run's private CA and nobody else.
//!
//! [`Credentials`] are the files of one identity. The server makes an [`Acceptor`] of its own, a worker a
//! [`Connector`]; both turn a stream into a [`TlsStream`] or say why not. There is no session to resume, so that every
//! connection shows its certificate, and a revocation holds from the next handshake on; [`Acceptor::still_valid`]
//! asks again for those that are connected.

mod acceptor;
mod connector;
mod credentials;
mod fault;

use std::sync::Arc;

use rustls::SupportedProtocolVersion;
use rustls::crypto::{CryptoProvider, ring};

pub use acceptor::Acceptor;
pub use connector::Connector;
pub use credentials::Credentials;
pub use fault::explain;
pub use tokio_rustls::TlsStream;

/// The CA's certificate, in every directory.
pub(crate) const CA_FILE: &str = "ca.crt";

/// The list of certificates that no longer count.
pub(crate) const REVOKED_FILE: &str = "revoked.crl";

/// What is spoken inside (RFC 7301): a TLS server for something else is told from ours before a byte is sent.
const PROTOCOL: &[u8] = b"signvote";

const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    // AES-128 first: it has 10 rounds where AES-256 has 14, and all traffic goes through it.
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}
