//! Signatures of packages: the operator's key pair (Ed25519, RFC 8032), its public half as others get to know it, and the receipt, a
//! signature over a package's `manifest.json`.
//!
//! Which packages are signed, and where keys and receipts lie, is the business of the packager, the API and the binary.

mod public;
mod receipt;

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::Signer as _;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{self, DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use rand::TryRng as _;

pub use public::{InvalidKeys, Jwk, JwkSet, PublicKey, PublicKeys};
pub use receipt::{Receipt, ReceiptError, verify_detached};

/// The private key that signs receipts.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey(ed25519_dalek::SigningKey);

/// Why there is no private key. No bytes of it are told.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the private key {}: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The file holds something else.
    #[error("{} is no Ed25519 private key in PEM (`-----BEGIN PRIVATE KEY-----`, PKCS #8): {reason}; `adit keys signing --out FILE` makes one", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: pkcs8::Error,
    },
    /// The file cannot be written, or is there already: a key is never overwritten.
    #[error("cannot write the private key {}: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// There is nothing to make a key of.
    #[error("the operating system gives no random numbers: {0}")]
    Random(#[from] rand::rngs::SysError),
}

impl SigningKey {
    /// Makes a key of 256 random bits of the operating system.
    ///
    /// # Errors
    /// When there are none.
    pub fn generate() -> Result<Self, KeyError> {
        let mut secret = [0; 32];
        rand::rngs::SysRng.try_fill_bytes(&mut secret)?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&secret)))
    }

    /// Reads a PKCS #8 file in PEM (RFC 8410, section 7), as [`SigningKey::write`] and `openssl genpkey -algorithm ed25519` write it.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let pem = std::fs::read_to_string(path).map_err(|reason| KeyError::Read { path: path.to_owned(), reason })?;
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(&pem);
        key.map(Self).map_err(|reason| KeyError::Invalid { path: path.to_owned(), reason })
    }

    /// Writes the key to a new file that only its owner can read. It is there whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written, or is there already: what an old key has signed could not be checked without it.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        self.try_write(path).map_err(|reason| KeyError::Write { path: path.to_owned(), reason })
    }

    fn try_write(&self, path: &Path) -> io::Result<()> {
        // Without the public half, which follows from it: OpenSSL before 3.5 does not read a file that holds both (RFC 5958).
        let pair = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        let pem = pair.to_pkcs8_pem(LineEnding::LF).map_err(io::Error::other)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // A temporary file has mode 0600 from the beginning.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(pem.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map_err(|error| error.error)?;
        std::fs::File::open(folder)?.sync_all()
    }

    /// Reads the key, or makes it where there is none.
    ///
    /// # Errors
    /// When it can be neither read nor made.
    pub fn read_or_generate(path: &Path) -> Result<Self, KeyError> {
        match Self::read(path) {
            Err(KeyError::Read { reason, .. }) if reason.kind() == io::ErrorKind::NotFound => {
                let key = Self::generate()?;
                key.write(path)?;
                Ok(key)
            }
            read => read,
        }
    }

    /// What others check its signatures with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey::of(self.0.verifying_key())
    }

    /// Signs the exact bytes of a `manifest.json`: the text of its `receipt.jws`, see [`Receipt`]. Equal bytes give equal receipts.
    #[must_use]
    pub fn sign_detached(&self, manifest: &[u8]) -> String {
        receipt::sign(self, manifest)
    }

    fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    /// Names the public key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({}, …)", self.public().kid())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// `openssl genpkey -algorithm ed25519` of the seed of RFC 8410, section 10.3.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    /// The same with the public key and an attribute (RFC 8410, section 10.3).
    const PEM_WITH_PUBLIC: &str = "-----BEGIN PRIVATE KEY-----\n\
        MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB\n\
        Z9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PRIVATE KEY-----\n";

    #[test]
    fn keys_are_those_of_rfc_8410() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        for pem in [PEM, PEM_WITH_PUBLIC, &PEM.replace('\n', "\r\n")] {
            std::fs::write(&path, pem).unwrap();
            let key = SigningKey::read(&path).unwrap();
            let public = "-----BEGIN PUBLIC KEY-----\n\
                MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                -----END PUBLIC KEY-----\n";
            assert_eq!(key.public().to_pem(), public);
            std::fs::remove_file(&path).unwrap();
            key.write(&path).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), PEM);
        }
    }

    #[test]
    fn a_key_is_written_for_its_owner_and_never_over_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let key = SigningKey::read_or_generate(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(SigningKey::read_or_generate(&path).unwrap(), key);
        assert!(matches!(SigningKey::generate().unwrap().write(&path), Err(KeyError::Write { .. })));
        assert_eq!(SigningKey::read(&path).unwrap(), key);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-written stays");
    }

    #[test]
    fn what_is_no_key_is_named_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        assert!(matches!(SigningKey::read(&path), Err(KeyError::Read { .. })));
        let public = SigningKey::generate().unwrap().public().to_pem();
        let torn = PEM_WITH_PUBLIC.replace("Gb9ECW", "Gb9ECX");
        for text in ["", "hunter2", &public, &torn] {
            std::fs::write(&path, text).unwrap();
            let error = SigningKey::read(&path).unwrap_err().to_string();
            assert!(error.contains("key.pem") && error.contains("adit keys signing"), "{error}");
            assert!(!error.contains("hunter2"));
        }
    }

    #[test]
    fn the_secret_does_not_show() {
        let key = SigningKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey({}, …)", key.public().kid()));
    }
}
