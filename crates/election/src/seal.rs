//! Signatures under ballots: they prove to an audit who voted what.
//!
//! A worker with an identity signs each whole ballot with Ed25519:
//! `"signvote ballot 2\0" ‖ run id ‖ u32 incarnation ‖ u64 round ‖ root`, where root =
//! `H[ballot root]`(chunk hashes in order) and a chunk's hash is `H[ballot chunk]`(sign words ‖ abstention words if anything
//! abstains ‖ u8 1 if anything abstains, else 0). The first bytes keep these signatures apart from those of the
//! same key in TLS.

use ed25519_dalek::{Signer as _, SigningKey};
use serde::{Deserialize, Serialize};

use crate::chain::planes_hash;
use crate::{Error, Incarnation, Round, RunId};

const DOMAIN: &[u8; 18] = b"signvote ballot 2\0";

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signature({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// The secret key of an identity. It is never printed.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

impl SecretKey {
    /// The key of this 32-byte seed (RFC 8032, section 5.1.5).
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public key.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    pub(crate) fn seal(&self, sealed: &Sealed) -> Signature {
        Signature(self.0.sign(&sealed.message()).to_bytes())
    }
}

/// The public key of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey(pub [u8; 32]);

/// A worker's name, and the key that its ballots are signed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name in its certificate: the identity is this, whatever the certificate.
    pub name: String,
    /// The key of its certificate.
    pub key: PublicKey,
}

/// What a worker signs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed {
    pub(crate) run: RunId,
    pub(crate) incarnation: Incarnation,
    pub(crate) round: Round,
    pub(crate) root: [u8; 32],
}

impl Sealed {
    fn message(&self) -> [u8; 78] {
        let mut message = [0; 78];
        message[..18].copy_from_slice(DOMAIN);
        message[18..34].copy_from_slice(&self.run.0);
        message[34..38].copy_from_slice(&self.incarnation.0.to_le_bytes());
        message[38..46].copy_from_slice(&self.round.0.to_le_bytes());
        message[46..].copy_from_slice(&self.root);
        message
    }

    /// Whether `signature` is that of `key`. Strict: no signature can be turned into another one.
    pub(crate) fn verify(&self, key: PublicKey, signature: &Signature) -> Result<(), Error> {
        let wrong = |got: &str| Error::Misbehaved {
            rule: "sign the ballot that was cast",
            details: format!("round {}: {got}", self.round),
        };
        let key = ed25519_dalek::VerifyingKey::from_bytes(&key.0)
            .map_err(|_| wrong("the key is no Ed25519 key"))?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(&self.message(), &signature)
            .map_err(|_| wrong("the signature is not that of its key"))
    }
}

/// Hash of one chunk of a ballot.
pub(crate) fn chunk_hash(signs: &[u64], abstain: Option<&[u64]>) -> [u8; 32] {
    planes_hash("signvote 2026-11 ballot chunk", signs, abstain)
}

/// Root of a whole ballot.
pub(crate) fn ballot_root<'a>(chunks: impl Iterator<Item = &'a [u8; 32]>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("signvote 2026-11 ballot root");
    chunks.for_each(|hash| {
        hasher.update(hash);
    });
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_one_key_run_incarnation_round_and_ballot() {
        let key = SecretKey::from_seed(&[7; 32]);
        let root = ballot_root([chunk_hash(&[1], None), chunk_hash(&[2], Some(&[4]))].iter());
        let sealed = Sealed { run: RunId([1; 16]), incarnation: Incarnation(2), round: Round(3), root };
        let signature = key.seal(&sealed);
        assert!(sealed.verify(key.public(), &signature).is_ok());
        let other_root = ballot_root([chunk_hash(&[1], None), chunk_hash(&[2], Some(&[8]))].iter());
        for other in [
            Sealed { run: RunId([2; 16]), ..sealed },
            Sealed { incarnation: Incarnation(1), ..sealed },
            Sealed { round: Round(4), ..sealed },
            Sealed { root: other_root, ..sealed },
        ] {
            assert!(other.verify(key.public(), &signature).is_err());
        }
        assert!(sealed.verify(SecretKey::from_seed(&[8; 32]).public(), &signature).is_err());
        assert!(sealed.verify(PublicKey([0; 32]), &Signature([0; 64])).is_err());
        assert!(!format!("{key:?}").contains('7'));
    }

    #[test]
    fn no_abstention_and_an_empty_plane_are_told_apart_from_a_plane() {
        assert_ne!(chunk_hash(&[1], None), chunk_hash(&[1], Some(&[1])));
        assert_ne!(chunk_hash(&[1, 2], None), chunk_hash(&[1], Some(&[2])));
    }
}
