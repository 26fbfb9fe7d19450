//! What a TLS library's error means, in words for people.

use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::{Error, Fault};

/// Says what an error of a [`TlsStream`](super::TlsStream) means.
///
/// A worker learns that the server refuses it when it first reads, and not earlier: in TLS 1.3 its side of the
/// handshake is over before the server has seen its certificate. That is [`Error::RefusedBy`].
#[must_use]
pub fn explain(error: io::Error) -> Error {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(TlsError::AlertReceived(alert)) => Error::RefusedBy(of_alert(*alert)),
        Some(inner) => Error::Untrusted(of_tls(inner)),
        None => Error::Lost(error),
    }
}

/// As [`explain`], for an error before the end of the handshake.
pub(super) fn in_handshake(error: io::Error) -> Error {
    match explain(error) {
        Error::Lost(error) if error.kind() == io::ErrorKind::UnexpectedEof => Error::Untrusted(Fault::NoTls),
        error => error,
    }
}

pub(super) fn of_tls(error: &TlsError) -> Fault {
    match error {
        TlsError::NoCertificatesPresented => Fault::NoCertificate,
        TlsError::InvalidCertificate(error) => of_certificate(error),
        TlsError::InvalidCertRevocationList(_) => {
            Fault::Other("revoked.crl was not made by the CA in ca.crt".into())
        }
        TlsError::InvalidMessage(_) => Fault::NoTls,
        TlsError::PeerIncompatible(
            rustls::PeerIncompatible::Tls13RequiredForQuic
            | rustls::PeerIncompatible::SupportedVersionsExtensionRequired
            | rustls::PeerIncompatible::Tls12NotOffered
            | rustls::PeerIncompatible::Tls12NotOfferedOrEnabled
            | rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13
            | rustls::PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => Fault::Version,
        TlsError::NoApplicationProtocol => Fault::OtherProtocol,
        other => Fault::Other(other.to_string()),
    }
}

fn of_certificate(error: &CertificateError) -> Fault {
    use CertificateError as C;
    match error {
        // A signature that does not fit is one made in the CA's name by somebody else.
        C::UnknownIssuer | C::BadSignature => Fault::OtherAuthority,
        C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. } => {
            Fault::Expired
        }
        C::Revoked => Fault::Revoked,
        C::UnknownRevocationStatus => Fault::Other("revoked.crl was not made by the CA in ca.crt".into()),
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => Fault::Role,
        C::NotValidForName | C::NotValidForNameContext { .. } => Fault::Name,
        C::BadEncoding => Fault::Unreadable,
        other => Fault::Other(other.to_string()),
    }
}

/// What rustls means by an alert (its `From<CertificateError> for AlertDescription`, backwards).
fn of_alert(alert: AlertDescription) -> Fault {
    match alert {
        AlertDescription::CertificateRequired => Fault::NoCertificate,
        AlertDescription::UnknownCA => Fault::OtherAuthority,
        AlertDescription::CertificateExpired => Fault::Expired,
        AlertDescription::CertificateRevoked => Fault::Revoked,
        AlertDescription::UnsupportedCertificate => Fault::Role,
        AlertDescription::BadCertificate => Fault::Name,
        AlertDescription::ProtocolVersion => Fault::Version,
        AlertDescription::NoApplicationProtocol => Fault::OtherProtocol,
        other => Fault::Other(format!("TLS alert {other:?}")),
    }
}
