//! The receipt: a JSON Web Signature (RFC 7515) with detached payload over the bytes of a `manifest.json`.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::Deserialize;

use super::{PublicKey, PublicKeys, SigningKey};

/// The signature algorithm (RFC 8037, section 3.1).
const ALGORITHM: &str = "EdDSA";
/// What the signature is for, so that nothing else that the key may ever sign passes for a receipt (RFC 8725, section 3.11).
const TYPE: &str = "vnd.adit.receipt";

/// The protected header.
#[derive(Debug, Deserialize)]
// An unknown member could ask for what we do not do (`crit`, `b64`).
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

/// A receipt: `header..signature`, compact, the payload left out as in RFC 7515, appendix F. There is one way to write each: no bit of
/// its text can change unnoticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// As it stands in the text, base64url.
    header: String,
    kid: String,
    signature: [u8; 64],
}

/// Why a receipt proves nothing.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum ReceiptError {
    /// It cannot be read.
    #[error("is no receipt: {0}")]
    Malformed(String),
    /// It is by a key that is not among those that are trusted.
    #[error("is signed with the key {0}, which is not among the trusted ones")]
    UnknownKey(String),
    /// It was changed, or it is of another manifest.
    #[error("does not fit the manifest: its signature with the key {0} is wrong")]
    Mismatch(String),
}

impl Receipt {
    /// Reads a receipt. What it says is proved by nothing yet.
    ///
    /// # Errors
    /// When it is none; not even a line feed may follow it.
    pub fn parse(text: &[u8]) -> Result<Self, ReceiptError> {
        let malformed = |reason: &str| ReceiptError::Malformed(reason.to_owned());
        let text = str::from_utf8(text).map_err(|_| malformed("it is no text"))?;
        let (header, signature) =
            text.split_once("..").ok_or_else(|| malformed("it has not the form header..signature (RFC 7515)"))?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok().and_then(|bytes| bytes.try_into().ok());
        let signature = signature.ok_or_else(|| malformed("its signature is not 64 bytes in base64url"))?;
        let json = BASE64_URL_SAFE_NO_PAD.decode(header).map_err(|_| malformed("its header is no base64url"))?;
        let fields: Header =
            serde_json::from_slice(&json).map_err(|error| malformed(&format!("its header: {error}")))?;
        if (fields.alg.as_str(), fields.typ.as_str()) != (ALGORITHM, TYPE) {
            return Err(malformed(&format!("its header has not alg {ALGORITHM} and typ {TYPE}")));
        }
        Ok(Self { header: header.to_owned(), kid: fields.kid, signature })
    }

    /// Which key it says that it is signed with.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Checks that one of `keys` signed exactly these bytes; returns which.
    ///
    /// # Errors
    /// When the key is none of them or the signature is wrong.
    pub fn verify<'k>(&self, manifest: &[u8], keys: &'k PublicKeys) -> Result<&'k PublicKey, ReceiptError> {
        let key = keys.get(&self.kid).ok_or_else(|| ReceiptError::UnknownKey(self.kid.clone()))?;
        let right = key.verifies(&signing_input(&self.header, manifest), &self.signature);
        if right { Ok(key) } else { Err(ReceiptError::Mismatch(self.kid.clone())) }
    }
}

/// Checks that `receipt` is the signature of one of `keys` over the exact bytes of `manifest`; returns whose.
///
/// # Errors
/// When the receipt cannot be read, names another key or does not fit.
pub fn verify_detached<'k>(
    receipt: &[u8],
    manifest: &[u8],
    keys: &'k PublicKeys,
) -> Result<&'k PublicKey, ReceiptError> {
    Receipt::parse(receipt)?.verify(manifest, keys)
}

pub(super) fn sign(key: &SigningKey, manifest: &[u8]) -> String {
    let kid = key.public().kid().to_owned();
    // Three texts without anything to escape.
    let header = format!(r#"{{"alg":"{ALGORITHM}","kid":"{kid}","typ":"{TYPE}"}}"#);
    let header = BASE64_URL_SAFE_NO_PAD.encode(header);
    let signature = key.sign(&signing_input(&header, manifest));
    format!("{header}..{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// What is signed (RFC 7515, section 5.1).
fn signing_input(header: &str, payload: &[u8]) -> Vec<u8> {
    format!("{header}.{}", BASE64_URL_SAFE_NO_PAD.encode(payload)).into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MANIFEST: &[u8] = b"{\n  \"type\": \"urn:adit:manifest:1\"\n}\n";

    fn key(seed: u8) -> SigningKey {
        SigningKey(ed25519_dalek::SigningKey::from_bytes(&[seed; 32]))
    }

    fn keys(of: &[&SigningKey]) -> PublicKeys {
        of.iter().map(|key| key.public()).collect()
    }

    #[test]
    fn signatures_are_those_of_rfc_8037() {
        let secret = BASE64_URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let key = SigningKey(ed25519_dalek::SigningKey::from_bytes(&secret.try_into().unwrap()));
        assert_eq!(key.public().kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        let input = signing_input("eyJhbGciOiJFZERTQSJ9", b"Example of Ed25519 signing");
        assert_eq!(input, b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc");
        let signature = key.sign(&input);
        assert_eq!(
            BASE64_URL_SAFE_NO_PAD.encode(signature),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
        assert!(key.public().verifies(&input, &signature));
    }

    #[test]
    fn a_receipt_has_this_shape() {
        let receipt = key(7).sign_detached(MANIFEST);
        insta::assert_snapshot!(receipt);
        let header = BASE64_URL_SAFE_NO_PAD.decode(receipt.split_once("..").unwrap().0).unwrap();
        insta::assert_snapshot!(String::from_utf8(header).unwrap());
    }

    #[test]
    fn a_receipt_is_checked_with_the_key_that_it_names() {
        let (old, new) = (key(1), key(2));
        let receipt = old.sign_detached(MANIFEST).into_bytes();
        let both = keys(&[&new, &old]);
        assert_eq!(verify_detached(&receipt, MANIFEST, &both).unwrap(), &old.public());
        let unknown = ReceiptError::UnknownKey(old.public().kid().to_owned());
        assert_eq!(verify_detached(&receipt, MANIFEST, &keys(&[&new])), Err(unknown));
        let mismatch = ReceiptError::Mismatch(old.public().kid().to_owned());
        assert_eq!(verify_detached(&receipt, b"{}", &both), Err(mismatch));
    }

    #[test]
    fn nothing_but_a_receipt_is_taken() {
        let key = key(1);
        let receipt = key.sign_detached(MANIFEST);
        let signed = |header: &str| {
            let header = BASE64_URL_SAFE_NO_PAD.encode(header);
            let signature = key.sign(&signing_input(&header, MANIFEST));
            format!("{header}..{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
        };
        let kid = key.public().kid().to_owned();
        let with = |more: &str| signed(&format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"vnd.adit.receipt"{more}}}"#));
        assert_eq!(with(""), receipt);
        let whole = receipt.replace("..", &format!(".{}.", BASE64_URL_SAFE_NO_PAD.encode(MANIFEST)));
        let bad = [
            String::new(),
            "..".to_owned(),
            format!("{receipt}\n"),
            format!(" {receipt}"),
            format!("{receipt}="),
            format!("{receipt}.."),
            whole,
            with(r#","crit":["b64"],"b64":false"#),
            with(r#","typ":"vnd.adit.receipt""#),
            signed(&format!(r#"{{"alg":"none","kid":"{kid}","typ":"vnd.adit.receipt"}}"#)),
            signed(&format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"JWT"}}"#)),
            signed(&format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#)),
        ];
        for bad in bad {
            let found = Receipt::parse(bad.as_bytes());
            assert!(matches!(found, Err(ReceiptError::Malformed(_))), "{bad}: {found:?}");
        }
    }

    #[test]
    fn every_bit_of_a_receipt_counts() {
        let key = key(3);
        let receipt = key.sign_detached(MANIFEST).into_bytes();
        for bit in 0..receipt.len() * 8 {
            let mut changed = receipt.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(verify_detached(&changed, MANIFEST, &keys(&[&key])).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn a_flipped_bit_of_receipt_or_manifest_is_found(
            seed: u8, manifest in prop::collection::vec(any::<u8>(), 1..500), at: prop::sample::Index, in_receipt: bool,
        ) {
            let key = key(seed);
            let mut receipt = key.sign_detached(&manifest).into_bytes();
            prop_assert!(verify_detached(&receipt, &manifest, &keys(&[&key])).is_ok());
            let mut manifest = manifest;
            let bytes = if in_receipt { &mut receipt } else { &mut manifest };
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(verify_detached(&receipt, &manifest, &keys(&[&key])).is_err());
        }

        #[test]
        fn a_cut_or_longer_receipt_is_found(seed: u8, cut: prop::sample::Index, more in prop::collection::vec(any::<u8>(), 1..5)) {
            let key = key(seed);
            let receipt = key.sign_detached(MANIFEST).into_bytes();
            let cut = &receipt[..cut.index(receipt.len())];
            prop_assert!(verify_detached(cut, MANIFEST, &keys(&[&key])).is_err());
            let longer = [receipt.as_slice(), &more].concat();
            prop_assert!(verify_detached(&longer, MANIFEST, &keys(&[&key])).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Receipt::parse(&bytes).is_err());
        }
    }
}
