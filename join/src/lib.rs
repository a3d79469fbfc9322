//! What both sides of a host's join compute, so that neither has to trust the way between them.
//!
//! A host that joins makes a [`HostKey`] and shows its public half. What the operator answers, the host's token first and
//! later the values that its tasks take, is sealed to that key ([`PublicKey::seal`]): whoever else reads the answer, with
//! the join's token or in a copy of the API server's storage, has nothing. And a host that knows no certificate authority
//! yet is given a pin of it ([`pin`]), short enough for a command line.
//!
//! This crate decides nothing and talks to nobody. It takes chance from the operating system.

pub mod pin;

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _};
use sha2::{Digest as _, Sha256};

type Kem = X25519HkdfSha256;
type Private = <Kem as hpke::Kem>::PrivateKey;
type Public = <Kem as hpke::Kem>::PublicKey;
type Encapped = <Kem as hpke::Kem>::EncappedKey;

/// Length of an encapsulated key, which a sealed text begins with, in bytes.
const ENCAPPED: usize = 32;

/// What is wrong with a key or with what was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is no key of this kind.
    #[error("it is no X25519 key in base64")]
    NoKey,
    /// It was sealed to another key, for another purpose, or changed on its way.
    #[error("it was not sealed to this key for this purpose, or was changed on its way")]
    NotOurs,
}

/// A host's private key (X25519). It does not print itself.
pub struct HostKey(Private);

impl fmt::Debug for HostKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("HostKey(..)")
    }
}

impl HostKey {
    /// A new one.
    ///
    /// # Panics
    /// When the operating system has no entropy to give; then there is nothing to be done.
    #[must_use]
    pub fn generate() -> Self {
        Self(Kem::gen_keypair().0)
    }

    /// One from a file, as [`HostKey::to_text`] wrote it.
    ///
    /// # Errors
    /// It is no such key.
    pub fn from_text(text: &str) -> Result<Self, SealError> {
        let bytes = BASE64_STANDARD.decode(text.trim());
        let bytes = bytes.map_err(|_| SealError::NoKey)?;
        let key = Private::from_bytes(&bytes).map_err(|_| SealError::NoKey)?;
        Ok(Self(key))
    }

    /// For a file that nobody else reads: base64.
    #[must_use]
    pub fn to_text(&self) -> String {
        BASE64_STANDARD.encode(self.0.to_bytes())
    }

    /// The half that everybody may know.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(Kem::sk_to_pk(&self.0))
    }

    /// What was sealed to this key for `purpose`.
    ///
    /// # Errors
    /// It was sealed to another key, for another purpose, or changed on its way.
    pub fn open(&self, sealed: &[u8], purpose: &Purpose<'_>) -> Result<Vec<u8>, SealError> {
        let (encapped, text) = sealed
            .split_at_checked(ENCAPPED)
            .ok_or(SealError::NotOurs)?;
        let encapped = Encapped::from_bytes(encapped).map_err(|_| SealError::NotOurs)?;
        hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, Kem>(
            &OpModeR::Base,
            &self.0,
            &encapped,
            &purpose.info(),
            text,
            &[],
        )
        .map_err(|_| SealError::NotOurs)
    }
}

/// A host's public key.
#[derive(Clone)]
pub struct PublicKey(Public);

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.fingerprint())
    }
}

impl PublicKey {
    /// One as [`PublicKey::to_text`] wrote it.
    ///
    /// # Errors
    /// It is no such key, or one of the few points that agree with anybody, to which nothing can be sealed.
    pub fn from_text(text: &str) -> Result<Self, SealError> {
        let bytes = BASE64_STANDARD.decode(text.trim());
        let bytes = bytes.map_err(|_| SealError::NoKey)?;
        let key = Public::from_bytes(&bytes).map_err(|_| SealError::NoKey)?;
        let key = Self(key);
        key.seal(&[], &Purpose::Token { join_uid: "" })?;
        Ok(key)
    }

    /// For an object: base64, 44 characters.
    #[must_use]
    pub fn to_text(&self) -> String {
        BASE64_STANDARD.encode(self.0.to_bytes())
    }

    /// What two people compare: `sha256:` and 64 hexadecimal digits.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        sha256(&self.0.to_bytes())
    }

    /// Seals `text` so that only the holder of the private key reads it, and only for `purpose` (HPKE, RFC 9180, base mode:
    /// DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305; the encapsulated key goes before the cipher text).
    ///
    /// # Errors
    /// The key is a point that agrees with anybody.
    ///
    /// # Panics
    /// When the operating system has no entropy to give.
    pub fn seal(&self, text: &[u8], purpose: &Purpose<'_>) -> Result<Vec<u8>, SealError> {
        let (encapped, sealed) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, Kem>(
            &OpModeS::Base,
            &self.0,
            &purpose.info(),
            text,
            &[],
        )
        .map_err(|_| SealError::NoKey)?;
        let mut all = encapped.to_bytes().to_vec();
        all.extend(sealed);
        Ok(all)
    }
}

/// What something is sealed for: it opens for nothing else, so an answer cannot be put where another belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// The first token of a host, in the HostJoin of this uid.
    Token {
        /// `metadata.uid` of the HostJoin.
        join_uid: &'a str,
    },
    /// What the tasks of a host take from Secrets and ConfigMaps, in the host's Secret of this uid.
    Supply {
        /// `metadata.uid` of the Secret.
        secret_uid: &'a str,
    },
}

impl Purpose<'_> {
    fn info(&self) -> Vec<u8> {
        let (what, uid) = match self {
            Purpose::Token { join_uid } => ("token", join_uid),
            Purpose::Supply { secret_uid } => ("supply", secret_uid),
        };
        format!("tallyman.dev/v1 {what} {uid}").into_bytes()
    }
}

/// `sha256:` and 64 hexadecimal digits.
fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let digits = digest.iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", digits.collect::<String>())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const TOKEN: Purpose<'_> = Purpose::Token { join_uid: "u1" };

    #[test]
    fn what_is_sealed_to_a_key_opens_with_it_and_no_other() {
        let (key, other) = (HostKey::generate(), HostKey::generate());
        let sealed = key.public().seal(b"token", &TOKEN).unwrap();
        assert!(!sealed.windows(5).any(|part| part == b"token"));
        assert_eq!(key.open(&sealed, &TOKEN).unwrap(), b"token");
        assert_eq!(other.open(&sealed, &TOKEN), Err(SealError::NotOurs));
        // Sealed twice it looks different.
        assert_ne!(key.public().seal(b"token", &TOKEN).unwrap(), sealed);
    }

    #[test]
    fn what_is_sealed_for_one_purpose_opens_for_no_other() {
        let key = HostKey::generate();
        let sealed = key.public().seal(b"token", &TOKEN).unwrap();
        for purpose in [
            Purpose::Token { join_uid: "u2" },
            Purpose::Supply { secret_uid: "u1" },
        ] {
            assert_eq!(key.open(&sealed, &purpose), Err(SealError::NotOurs));
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let key = HostKey::generate();
        let sealed = key.public().seal(b"token", &TOKEN).unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 0x80;
            assert_eq!(key.open(&changed, &TOKEN), Err(SealError::NotOurs), "{at}");
            assert_eq!(key.open(&sealed[..at], &TOKEN), Err(SealError::NotOurs));
        }
    }

    #[test]
    fn keys_survive_a_file_and_an_object() {
        let key = HostKey::generate();
        let read = HostKey::from_text(&format!("{}\n", key.to_text())).unwrap();
        let public = PublicKey::from_text(&key.public().to_text()).unwrap();
        let sealed = public.seal(b"token", &TOKEN).unwrap();
        assert_eq!(read.open(&sealed, &TOKEN).unwrap(), b"token");
        assert_eq!(public.fingerprint(), read.public().fingerprint());
        assert_eq!(public.to_text().len(), 44);
        assert_eq!(public.fingerprint().len(), 71);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let short = BASE64_STANDARD.encode([1; 31]);
        for text in ["", "-", &short] {
            assert_eq!(PublicKey::from_text(text).unwrap_err(), SealError::NoKey);
            assert_eq!(HostKey::from_text(text).unwrap_err(), SealError::NoKey);
        }
        // A point that agrees with anybody: whoever sealed to it would seal to all.
        let zero = BASE64_STANDARD.encode([0; 32]);
        assert_eq!(PublicKey::from_text(&zero).unwrap_err(), SealError::NoKey);
    }

    #[test]
    fn a_key_does_not_print_itself() {
        let key = HostKey::generate();
        assert_eq!(format!("{key:?}"), "HostKey(..)");
    }
}
