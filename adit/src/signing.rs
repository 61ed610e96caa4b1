//! The operator's signing keys: which one the packager signs receipts with, which the API publishes, and `adit keys signing`.
//!
//! Signatures themselves are in [`adit_shared::signing`]; keys for the API are another matter, see [`crate::keys`].

use std::path::{Path, PathBuf};

use adit_shared::config::Config;
use adit_shared::signing::{PublicKeys, SigningKey};
use anyhow::Context as _;

use crate::data_folder::secure_data_folder;
use crate::terminal::{errln, print_data};

/// Where the key lies that signs unless another is named.
pub(crate) fn default_path(data: &Path) -> PathBuf {
    data.join("signing-key.pem")
}

/// The key that `ADIT_SIGNING_KEY` names.
pub(crate) fn named(config: &Config) -> anyhow::Result<Option<SigningKey>> {
    let key = config.signing_key.as_deref().map(SigningKey::read).transpose();
    key.context("cannot use the signing key (ADIT_SIGNING_KEY)")
}

/// The key that `ADIT_SIGNING_KEY` names, or else that of the data folder, which is made where there is none.
pub(crate) fn named_or_own(config: &Config) -> anyhow::Result<SigningKey> {
    match named(config)? {
        Some(key) => Ok(key),
        None => Ok(SigningKey::read_or_generate(&default_path(&config.data))?),
    }
}

/// What the API publishes: the public half of its own key, and the keys that `ADIT_PUBLIC_KEYS` names.
pub(crate) fn published(config: &Config, own: Option<&SigningKey>) -> anyhow::Result<PublicKeys> {
    let mut keys: PublicKeys = own.map(SigningKey::public).into_iter().collect();
    if let Some(file) = &config.public_keys {
        let further = PublicKeys::read(file).context("cannot use the public keys (ADIT_PUBLIC_KEYS)")?;
        further.iter().for_each(|key| keys.add(key.clone()));
    }
    Ok(keys)
}

/// `adit keys signing`: makes a key pair; its public half is printed as a JWK set.
pub(crate) fn create(config: &Config, out: Option<PathBuf>) -> anyhow::Result<()> {
    let path = match out {
        Some(path) => path,
        None => {
            secure_data_folder(config)?;
            default_path(&config.data)
        }
    };
    let key = SigningKey::generate()?;
    key.write(&path)?;
    errln!("the private key is in {}; its public half:", path.display());
    print_data(PublicKeys::from_iter([key.public()]).to_string().as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path, more: &[(&str, &str)]) -> Config {
        let data = folder.to_str().unwrap();
        let get = |name: &str| {
            more.iter().chain(&[("ADIT_DATA", data)]).find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        };
        Config::load(get).unwrap()
    }

    #[test]
    fn old_keys_are_published_behind_the_one_that_signs() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let first = named_or_own(&config(folder.path(), &[])).unwrap();
        assert_eq!(named_or_own(&config(folder.path(), &[])).unwrap(), first, "it is made once");
        std::fs::write(at("old.json"), published(&config(folder.path(), &[]), Some(&first)).unwrap().to_string())
            .unwrap();

        create(&config(folder.path(), &[]), Some(at("new.pem").into())).unwrap();
        let (new, old) = (at("new.pem"), at("old.json"));
        let rotated = config(folder.path(), &[("ADIT_SIGNING_KEY", &new), ("ADIT_PUBLIC_KEYS", &old)]);
        let second = named_or_own(&rotated).unwrap();
        assert_ne!(second, first);
        let keys = published(&rotated, Some(&second)).unwrap();
        assert_eq!(keys, [second.public(), first.public()].into_iter().collect());
    }

    #[test]
    fn a_mistake_names_its_variable_and_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let missing =
            config(folder.path(), &[("ADIT_SIGNING_KEY", "/no/key.pem"), ("ADIT_PUBLIC_KEYS", "/no/keys.json")]);
        let error = format!("{:#}", named_or_own(&missing).unwrap_err());
        assert!(error.contains("ADIT_SIGNING_KEY") && error.contains("/no/key.pem"), "{error}");
        let error = format!("{:#}", published(&missing, None).unwrap_err());
        assert!(error.contains("ADIT_PUBLIC_KEYS") && error.contains("/no/keys.json"), "{error}");
        assert_eq!(named(&config(folder.path(), &[])).unwrap(), None);
    }
}
