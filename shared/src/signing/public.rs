//! Public keys: as JSON Web Keys (RFC 7517, RFC 8037), known by their thumbprint (RFC 7638), and as PEM.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePublicKey as _, EncodePublicKey as _};
use ed25519_dalek::{Signature, VerifyingKey};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::digest::Sha256;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END PUBLIC KEY-----";

/// A key that checks signatures.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    kid: String,
}

impl PublicKey {
    pub(super) fn of(key: VerifyingKey) -> Self {
        // RFC 7638, section 3: the members that a key of this kind must have, by name, without white space (RFC 8037, appendix A.3).
        let required = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, encode(key.as_bytes()));
        Self { key, kid: encode(&Sha256::of(required.as_bytes()).0) }
    }

    /// Its name: the thumbprint with SHA-256 of RFC 7638, 43 characters.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// As JSON Web Key.
    #[must_use]
    pub fn jwk(&self) -> Jwk {
        Jwk {
            kty: "OKP",
            crv: "Ed25519",
            x: encode(self.key.as_bytes()),
            kid: self.kid.clone(),
            alg: "EdDSA",
            r#use: "sig",
        }
    }

    /// As `SubjectPublicKeyInfo` in PEM (RFC 8410, section 4).
    #[must_use]
    pub fn to_pem(&self) -> String {
        // Encoding 32 bytes behind a constant cannot fail; an empty text would be refused by every reader.
        self.key.to_public_key_pem(LineEnding::LF).unwrap_or_default()
    }

    /// Whether `signature` is this key's over `bytes`; strictly, so that no other signature than the one that was made passes (no key and no
    /// point of small order, no scalar but the least).
    pub(super) fn verifies(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        self.key.verify_strict(bytes, &Signature::from_bytes(signature)).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.kid)
    }
}

fn encode(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A JSON Web Key (RFC 7517) of Ed25519 (RFC 8037).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Jwk {
    /// `OKP`.
    kty: &'static str,
    /// `Ed25519`.
    crv: &'static str,
    /// The public key: 32 bytes, base64url.
    x: String,
    /// Its thumbprint (RFC 7638), by which a receipt names it.
    kid: String,
    /// `EdDSA`.
    alg: &'static str,
    /// `sig`.
    r#use: &'static str,
}

/// Public keys that are trusted, or published: a JSON Web Key Set (RFC 7517, section 5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicKeys(Vec<PublicKey>);

/// Public keys, as a JWK set (RFC 7517, section 5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct JwkSet {
    /// The one that signs now comes first.
    keys: Vec<Jwk>,
}

/// Why there are no public keys.
#[derive(Debug, thiserror::Error)]
pub enum InvalidKeys {
    /// The file cannot be read.
    #[error("cannot read the public keys {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The file holds something else.
    #[error("{} holds no Ed25519 public keys, neither a JWK set nor PEM (`-----BEGIN PUBLIC KEY-----`): {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl PublicKeys {
    /// Reads a file as [`PublicKeys::parse`] does.
    ///
    /// # Errors
    /// When it cannot be read or holds no key.
    pub fn read(path: &Path) -> Result<Self, InvalidKeys> {
        let text =
            std::fs::read_to_string(path).map_err(|reason| InvalidKeys::Read { path: path.to_owned(), reason })?;
        Self::parse(&text).map_err(|reason| InvalidKeys::Invalid { path: path.to_owned(), reason })
    }

    /// Takes a JWK set, a single JWK, or any number of PEM blocks. Keys of other kinds in a set are passed over.
    ///
    /// # Errors
    /// When there is no key in it, or one that is broken, or a private one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Self::default();
        let found = if text.contains(BEGIN) { pem_keys(text)? } else { jwk_keys(text)? };
        found.into_iter().for_each(|key| keys.add(key));
        if keys.0.is_empty() { Err("there is none in it".to_owned()) } else { Ok(keys) }
    }

    /// Adds a key behind the others, unless it is there.
    pub fn add(&mut self, key: PublicKey) {
        if self.get(&key.kid).is_none() {
            self.0.push(key);
        }
    }

    /// The key of this name.
    #[must_use]
    pub fn get(&self, kid: &str) -> Option<&PublicKey> {
        self.0.iter().find(|key| key.kid == kid)
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.iter()
    }

    /// As it is published.
    #[must_use]
    pub fn jwk_set(&self) -> JwkSet {
        JwkSet { keys: self.0.iter().map(PublicKey::jwk).collect() }
    }
}

impl FromIterator<PublicKey> for PublicKeys {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        let mut all = Self::default();
        keys.into_iter().for_each(|key| all.add(key));
        all
    }
}

impl fmt::Display for PublicKeys {
    /// A JWK set, as a file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string_pretty(&self.jwk_set()).map_err(|_| fmt::Error)?;
        writeln!(f, "{text}")
    }
}

/// The keys of a set, or a single one.
fn jwk_keys(text: &str) -> Result<Vec<PublicKey>, String> {
    let json: Value = serde_json::from_str(text).map_err(|_| "it is not JSON".to_owned())?;
    let single = std::slice::from_ref(&json);
    json["keys"].as_array().map_or(single, Vec::as_slice).iter().filter_map(|jwk| jwk_key(jwk).transpose()).collect()
}

/// The key, if it is one of Ed25519 for signatures; that there are keys of other kinds is no fault (RFC 7517, section 5).
fn jwk_key(jwk: &Value) -> Result<Option<PublicKey>, String> {
    let of_ours = jwk["kty"] == "OKP" && jwk["crv"] == "Ed25519";
    if !of_ours || jwk["use"].as_str().is_some_and(|r#use| r#use != "sig") {
        return Ok(None);
    }
    if !jwk["d"].is_null() {
        return Err("one of the keys is a private key (it has the member `d`): publish its public half only".to_owned());
    }
    let x = jwk["x"].as_str().unwrap_or_default();
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(x).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let key = bytes.and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok()).filter(|key| !key.is_weak());
    let key = key.map(PublicKey::of).ok_or_else(|| format!("the member `x` {x:?} is no Ed25519 public key"))?;
    match jwk["kid"].as_str() {
        Some(kid) if kid != key.kid => {
            Err(format!("the member `kid` {kid:?} is not the key's thumbprint (RFC 7638), which is {:?}", key.kid))
        }
        _ => Ok(Some(key)),
    }
}

fn pem_keys(text: &str) -> Result<Vec<PublicKey>, String> {
    if text.contains("PRIVATE KEY-----") {
        return Err("it holds a private key: `openssl pkey -in FILE -pubout` gives the public half".to_owned());
    }
    let blocks = text.split_inclusive(END).filter(|block| block.contains(BEGIN));
    blocks
        .map(|block| match VerifyingKey::from_public_key_pem(block.trim_start()) {
            Ok(key) if !key.is_weak() => Ok(PublicKey::of(key)),
            Ok(_) => Err("a key of small order, which proves nothing".to_owned()),
            Err(error) => Err(error.to_string()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::SigningKey;

    /// RFC 8037, appendix A.2 and A.3.
    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const KID: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

    fn jwk() -> String {
        format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{X}"}}"#)
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_8037() {
        let keys = PublicKeys::parse(&jwk()).unwrap();
        assert_eq!(keys.iter().map(PublicKey::kid).collect::<Vec<_>>(), [KID]);
        insta::assert_snapshot!(keys.to_string(), @r#"
        {
          "keys": [
            {
              "kty": "OKP",
              "crv": "Ed25519",
              "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
              "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
              "alg": "EdDSA",
              "use": "sig"
            }
          ]
        }
        "#);
    }

    #[test]
    fn keys_survive_every_form() {
        let keys: PublicKeys = (0..3).map(|_| SigningKey::generate().unwrap().public()).collect();
        assert_eq!(PublicKeys::parse(&keys.to_string()).unwrap(), keys);
        let pem: String = keys.iter().map(PublicKey::to_pem).collect();
        assert_eq!(PublicKeys::parse(&pem).unwrap(), keys);
        assert_eq!(PublicKeys::parse(&format!("Keys of last year\n{}", pem.replace('\n', "\r\n"))).unwrap(), keys);
    }

    #[test]
    fn keys_of_other_kinds_are_passed_over() {
        let rsa = r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#;
        let x25519 = format!(r#"{{"kty":"OKP","crv":"X25519","x":"{X}"}}"#);
        let encryption = jwk().replace("\"x\"", "\"use\":\"enc\",\"x\"");
        let set = |keys: &[&str]| PublicKeys::parse(&format!(r#"{{"keys":[{}]}}"#, keys.join(",")));
        let ours = jwk();
        assert_eq!(set(&[rsa, &x25519, &encryption, &ours, &ours]).unwrap().iter().count(), 1);
        assert!(set(&[rsa, &x25519, &encryption]).is_err());
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        let key = SigningKey::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        key.write(&path).unwrap();
        assert!(PublicKeys::read(&path).unwrap_err().to_string().contains("-pubout"));
        let weak = jwk().replace(X, "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        // The last character holds two bits that say nothing; they must be zero.
        let trailing = jwk().replace("HURo", "HURp");
        let private = jwk().replace("\"x\"", "\"d\":\"AA\",\"x\"");
        let renamed = jwk().replace("\"x\"", "\"kid\":\"old\",\"x\"");
        for bad in
            ["", "{}", r#"{"keys":[]}"#, "hunter2", &weak, &trailing, &private, &renamed, "-----BEGIN PUBLIC KEY-----"]
        {
            let error = PublicKeys::parse(bad).unwrap_err();
            assert!(!error.contains("hunter2"), "{bad}: {error}");
        }
    }
}
