//! Who somebody is: a name, and an Ed25519 key that proves it and signs ballots.

use std::fmt;
use std::str::FromStr;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::Error;

/// The name in the server's certificate. Trust hangs on the run's CA, not on an address: the server may move.
pub const SERVER: &str = "signvote-server";

/// Names that files of the identity directory have, or that could be taken for the server's.
const RESERVED: [&str; 5] = ["ca", "server", SERVER, "revoked", "issued"];

/// A worker's name, the identity that has the vote: 1 to 63 of a-z, 0-9 and -, a dash at neither end.
///
/// That is a label of the DNS, because a certificate carries it as one, and safe as the name of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let letters = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let fits =
            letters && (1..=63).contains(&text.len()) && !text.starts_with('-') && !text.ends_with('-');
        let wrong = |rule| Err(Error::Name { name: text.chars().take(80).collect(), rule });
        if !fits {
            wrong("must be 1 to 63 of a-z, 0-9 and -, with a dash at neither end")
        } else if RESERVED.contains(&text) {
            wrong("is reserved")
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// PKCS #8, version 1, before the seed: a sequence of 46 bytes, the version, the algorithm's OID, and an octet string
/// in an octet string (RFC 8410, section 10.3).
const PKCS8_HEAD: [u8; 16] = [0x30, 46, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 34, 4, 32];

/// The secret half of an identity. It signs the handshake and, through this type, ballots.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    seed: [u8; 32],
}

impl SigningKey {
    /// The key with this seed (RFC 8032, section 5.1.5).
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Option<Self> {
        Ed25519KeyPair::from_seed_unchecked(&seed).ok().map(|pair| Self { pair, seed })
    }

    /// Reads PKCS #8, version 1 or 2 (RFC 8410, section 7; RFC 5958). `None` if it holds no Ed25519 key.
    pub(crate) fn from_pkcs8(der: &[u8]) -> Option<Self> {
        // All lengths are under 128 in both versions, so that every part has its place. They differ in the length of
        // the whole, the version, and in what follows the seed: attributes and the public key, which is computed.
        let (head, rest) = der.split_first_chunk::<16>()?;
        let mut expected = PKCS8_HEAD;
        (expected[1], expected[4]) = (u8::try_from(der.len() - 2).ok()?, head[4].min(1));
        let seed = rest.first_chunk::<32>().filter(|_| *head == expected)?;
        Self::from_seed(*seed)
    }

    /// PKCS #8, version 1.
    pub(crate) fn to_pkcs8(&self) -> Vec<u8> {
        [&PKCS8_HEAD[..], &self.seed].concat()
    }

    /// The 32 bytes that the key is made of. Whoever sees them is this identity.
    #[must_use]
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The public half, as in the certificate.
    ///
    /// # Panics
    /// Never: an Ed25519 key has 32 bytes.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        let mut public = [0; 32];
        public.copy_from_slice(self.pair.public_key().as_ref());
        public
    }

    /// Signs a message (pure Ed25519).
    ///
    /// The same key signs TLS handshakes, whose messages begin with 64 spaces (RFC 8446, section 4.4.3): whatever
    /// else is signed must begin with a context of its own, so that no signature passes for another.
    ///
    /// # Panics
    /// Never: a signature has 64 bytes.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

/// Whether the key that `public` belongs to signed the message.
#[must_use]
pub fn verify_signature(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).is_ok()
}

/// What the server knows about a worker whose handshake succeeded.
#[derive(Clone, Debug)]
pub struct Peer {
    name: Name,
    key: [u8; 32],
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

impl Peer {
    /// Reads the identity out of a certificate chain, without judging it. `None` if the certificate does not name
    /// exactly one identity, or its key is not Ed25519.
    pub(crate) fn read(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let certificate = EndEntityCert::try_from(chain.first()?).ok()?;
        let mut names = certificate.valid_dns_names();
        let name = names.next().filter(|_| names.next().is_none())?.parse().ok()?;
        let key = public_key(&certificate)?;
        let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
        Some(Self { name, key, chain })
    }

    /// The identity: one name, one vote, whichever certificate it comes with.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The Ed25519 key of its certificate, which its ballots are signed with.
    #[must_use]
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Its certificate, in DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        self.chain.first().map_or(&[], |certificate| certificate.as_ref())
    }
}

/// The Ed25519 key of a certificate: the end of its SubjectPublicKeyInfo (RFC 8410, section 4).
fn public_key(certificate: &EndEntityCert<'_>) -> Option<[u8; 32]> {
    const ED25519_KEY: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];
    let info = certificate.subject_public_key_info();
    info.strip_prefix(&ED25519_KEY)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels() {
        for good in ["a", "7", "worker-1", "a--b", &"x".repeat(63)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        let long = "x".repeat(64);
        for bad in ["", "-a", "a-", "-", "A", "a.b", "a/b", "..", "a b", "é", "a\n", "a\0", &long] {
            let error = bad.parse::<Name>().unwrap_err().to_string();
            assert!(error.contains("1 to 63"), "{bad:?}: {error}");
        }
        for reserved in RESERVED {
            assert!(reserved.parse::<Name>().unwrap_err().to_string().contains("reserved"));
        }
    }

    #[test]
    fn signatures_are_those_of_rfc_8032() {
        // Section 7.1, TEST 2.
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let public: [u8; 32] = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        let signature: [u8; 64] = hex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
        let key = SigningKey::from_seed(seed).unwrap();
        assert_eq!((key.public(), key.sign(&[0x72])), (public, signature));
        assert!(verify_signature(&public, &[0x72], &signature));
        assert!(!verify_signature(&public, &[0x73], &signature));
        let mut other = signature;
        other[7] ^= 1;
        assert!(!verify_signature(&public, &[0x72], &other));
        assert!(!format!("{key:?}").contains("4c"), "nothing of the seed is shown");
    }

    #[test]
    fn pkcs8_of_openssl_and_of_ring_are_read_and_nothing_else() {
        // RFC 8410, section 10.3: version 1 as openssl writes it.
        let first: [u8; 48] = hex("302e020100300506032b657004220420\
             d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842");
        let key = SigningKey::from_pkcs8(&first).unwrap();
        assert_eq!(key.public()[..4], [0x19, 0xbf, 0x44, 0x09]);
        assert_eq!(key.to_pkcs8(), first);
        let second = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(second.as_ref()).unwrap();
        let key = SigningKey::from_pkcs8(second.as_ref()).unwrap();
        assert_eq!(key.public(), pair.public_key().as_ref());
        for length in 0..first.len() {
            assert!(SigningKey::from_pkcs8(&first[..length]).is_none());
        }
        for i in 0..16 {
            let mut other = first;
            other[i] ^= 2;
            assert!(SigningKey::from_pkcs8(&other).is_none(), "byte {i}");
        }
    }

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        assert_eq!(text.len(), 2 * N);
        std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
    }
}
