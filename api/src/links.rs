//! Links that carry the right to fetch one asset of a package until they expire, for programs that
//! send no key: a URL, a time and a signature (HMAC-SHA256, RFC 2104) by a secret that all API
//! processes share. A link names the key that it was made for, and ends with it. What they lead to
//! is served by [`crate::resources::assets`].
//!
//! Cursors of searches, which open older corpus versions, are sealed by it too.
//!
//! Links that share a docset are signed here too; whether one still holds, the database says: see [`crate::resources::docsets::share`].

use std::sync::{Mutex, PoisonError};

use adit_shared::digest::Sha256;
use adit_shared::ids::{IndexId, KeyId, PackageId, Salt, SaltedPackage, SaltedShare};
use adit_shared::store::{Store, StoreResult};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
/// The secret's name in the database.
const SECRET: &str = "links";
/// A link is good for so many hours at least, and one more at most: those of one hour are the same, so that what was fetched
/// by one can be kept by it.
const HOURS: i64 = 24;
const HOUR_MS: i64 = 3_600_000;
/// By how much the clocks of API processes may differ, in milliseconds: a right that ends later
/// than one given now, and so much more, was not given by us, whoever has signed it.
const CLOCK_SKEW_MS: i64 = 300_000;
/// How long the secret is used before it is read again, in milliseconds: so long do links hold that
/// were made before it was replaced.
const REREAD_MS: i64 = 60_000;

/// Replaces the secret that signs links: all that were made before end, at the latest when each API
/// process has read it anew (a minute). Shares stay, and those who have followed them; their links
/// are other ones.
///
/// # Errors
/// When the database fails.
pub async fn rotate_link_secret(store: &dyn Store, fresh: &[u8; 32]) -> StoreResult<()> {
    store.replace_secret(SECRET, fresh).await
}

/// The secret that signs, and when it was read, once it is known.
#[derive(Default)]
pub(crate) struct Key(Mutex<Option<(i64, [u8; 32])>>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    /// The signer at `now_ms`, whose secret is in the database; it is made there when nobody has
    /// needed it before.
    pub(crate) async fn signer(&self, store: &dyn Store, now_ms: i64) -> StoreResult<Signer> {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = known.filter(|(read, _)| (*read..read.saturating_add(REREAD_MS)).contains(&now_ms));
        if let Some((_, secret)) = fresh {
            return Ok(Signer(secret));
        }
        let secret = store.secret(SECRET, &rand::random()).await?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now_ms, secret));
        Ok(Signer(secret))
    }
}

/// Characters of a signature (32 bytes in base64).
const SIGNATURE: usize = 43;

/// Makes and checks the part of a link that is the right: `{seconds since 1970}-{number of a
/// key}-{salt of the package}-{signature}`; without a salt where the package has none.
pub(crate) struct Signer([u8; 32]);

/// A right that a link has proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grant {
    /// The key that it was given to.
    pub(crate) key: KeyId,
    /// The package whose asset it is for.
    pub(crate) package: SaltedPackage,
}

impl Signer {
    fn mac(&self, expires: i64, key: KeyId, package: SaltedPackage, asset: &str) -> Hmac<sha2::Sha256> {
        self.mac_of(&format!("{expires}\n{key}\n{package}\n{asset}"))
    }

    fn mac_of(&self, what: &str) -> Hmac<sha2::Sha256> {
        // HMAC takes keys of any length (RFC 2104, section 2).
        #[expect(clippy::expect_used, reason = "there is no length that it refuses")]
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&self.0).expect("a key of 32 bytes");
        mac.update(what.as_bytes());
        mac
    }

    /// What proves a link that shares a docset. What proves other links begins with a number.
    fn share_mac(&self, share: SaltedShare) -> Hmac<sha2::Sha256> {
        self.mac_of(&format!("share\n{share}"))
    }

    /// Seals a question about one corpus version of a collection: nobody else can make a cursor that
    /// asks another one of that version.
    pub(crate) fn seal_question(&self, index: IndexId, question: &str) -> Sha256 {
        let IndexId { collection, corpus_version, .. } = index;
        let mac = self.mac_of(&format!("question\n{collection}\n{corpus_version}\n{question}"));
        Sha256(mac.finalize().into_bytes().into())
    }

    /// The token of a link that shares a docset: `{share}-{salt}-{signature}`, or `{share}-{signature}`.
    pub(crate) fn share_token(&self, share: SaltedShare) -> String {
        format!("{share}-{}", URL_SAFE_NO_PAD.encode(self.share_mac(share).finalize().into_bytes()))
    }

    /// The share of a token that is one of ours; compares in constant time.
    pub(crate) fn shared(&self, token: &str) -> Option<SaltedShare> {
        let (id, rest) = token.split_once('-')?;
        let (salt, signature) = split_salt(rest)?;
        let share = SaltedShare { id: id.parse().ok()?, salt };
        self.share_mac(share).verify_slice(&URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        Some(share)
    }

    /// The right to fetch an asset, given to a key at `now_ms`.
    pub(crate) fn grant(&self, now_ms: i64, key: KeyId, package: SaltedPackage, asset: &str) -> String {
        let expires = (now_ms.div_euclid(HOUR_MS) + HOURS + 1) * HOUR_MS / 1000;
        let signature = self.mac(expires, key, package, asset).finalize().into_bytes();
        let salt = package.salt.map_or_else(String::new, |salt| format!("{salt}-"));
        format!("{expires}-{key}-{salt}{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// Finds the key to which `grant` gave the right to fetch that asset, if it does so at `now_ms`;
    /// compares in constant time. Whether that key is still valid, and whether the package of that
    /// number still is the one that was meant, the database says. A grant that
    /// ends later than any that is given now is refused although it is signed: who got hold of the
    /// secret cannot make links that outlive it by years.
    pub(crate) fn granted_to(&self, grant: &str, now_ms: i64, package: PackageId, asset: &str) -> Option<Grant> {
        let (expires, rest) = grant.split_once('-')?;
        let (key, rest) = rest.split_once('-')?;
        let (expires, key) = (expires.parse::<i64>().ok()?, key.parse().ok()?);
        let (salt, signature) = split_salt(rest)?;
        let package = SaltedPackage { id: package, salt };
        self.mac(expires, key, package, asset).verify_slice(&URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
        let latest = (now_ms + (HOURS + 1) * HOUR_MS + CLOCK_SKEW_MS) / 1000;
        (now_ms / 1000 + 1..=latest).contains(&expires).then_some(Grant { key, package })
    }
}

/// Splits `{salt}-{signature}`, or `{signature}` of what has no salt.
fn split_salt(text: &str) -> Option<(Option<Salt>, &str)> {
    let at = text.len().checked_sub(SIGNATURE)?;
    let (salt, signature) = text.split_at_checked(at)?;
    if salt.is_empty() {
        return Some((None, signature));
    }
    Some((Some(salt.strip_suffix('-')?.parse().ok()?), signature))
}

#[cfg(test)]
mod tests {
    use adit_shared::ids::ShareId;

    use super::*;

    #[test]
    fn a_grant_is_for_one_asset_and_a_day() {
        const NOW: i64 = 1_700_000_000_000;
        let signer = Signer([7; 32]);
        let (package, asset) = (PackageId(5), "data-00001-of-00002.parquet");
        let grant = signer.grant(NOW, KeyId(3), package.into(), asset);
        insta::assert_snapshot!(grant, @"1700089200-3-ykqgJDhj-0pBeKi3LvtdiNlfEcHt3hM6GfmHkfp4L_o");
        let granted = Grant { key: KeyId(3), package: package.into() };
        assert_eq!(signer.granted_to(&grant, NOW, package, asset), Some(granted));
        let allows = |grant: &str, now, package, asset| signer.granted_to(grant, now, package, asset).is_some();
        assert!(allows(&grant, NOW, package, asset));
        assert!(allows(&grant, NOW + HOURS * HOUR_MS, package, asset));
        assert!(!allows(&grant, NOW + (HOURS + 1) * HOUR_MS, package, asset));
        assert!(!allows(&grant, NOW, PackageId(6), asset));
        assert!(!allows(&grant, NOW, package, "data-00002-of-00002.parquet"));
        assert!(Signer([8; 32]).granted_to(&grant, NOW, package, asset).is_none());
        let (expires, signature) = grant.split_once('-').unwrap();
        let later = format!("{}-{signature}", expires.parse::<i64>().unwrap() + 1);
        let others = grant.replacen("-3-", "-4-", 1);
        let keyless = grant.replacen("-3-", "-", 1);
        for wrong in
            [&later, &others, &keyless, expires, signature, "", "-", &format!("{grant}A"), &format!("{expires}-")]
        {
            assert!(!allows(wrong, NOW, package, asset), "{wrong}");
        }
    }

    #[test]
    fn a_grant_further_ahead_than_its_lifetime_is_refused_though_it_is_signed() {
        const NOW: i64 = 1_700_000_000_000;
        let signer = Signer([7; 32]);
        let signed = |expires: i64| {
            let signature = signer.mac(expires, KeyId(3), PackageId(5).into(), "a").finalize().into_bytes();
            format!("{expires}-3-{}", URL_SAFE_NO_PAD.encode(signature))
        };
        let allows = |expires: i64| signer.granted_to(&signed(expires), NOW, PackageId(5), "a").is_some();
        let longest = (HOURS + 1) * HOUR_MS / 1000;
        assert!(allows(NOW / 1000 + 1) && allows(NOW / 1000 + longest));
        for forged in [NOW / 1000, NOW / 1000 + longest + 600, NOW / 1000 + 10 * 366 * 86_400, i64::MAX, i64::MIN] {
            assert!(!allows(forged), "{forged}");
        }
        // One that another process gives, whose clock is a little ahead and already in the next
        // hour.
        let ahead = signer.grant(NOW - NOW % HOUR_MS + HOUR_MS, KeyId(3), PackageId(5).into(), "a");
        let granted = signer.granted_to(&ahead, NOW - NOW % HOUR_MS + HOUR_MS - 1000, PackageId(5), "a");
        assert_eq!(granted.map(|grant| grant.key), Some(KeyId(3)));
    }

    #[tokio::test]
    async fn links_of_before_end_a_minute_after_the_secret_was_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/adit.sqlite", folder.path().display());
        let store = adit_shared::store::SqlStore::open(&url).await.unwrap();
        // Two processes, of which one has read the secret.
        let [running, other] = [Key::default(), Key::default()];
        let grant = running.signer(&store, 0).await.unwrap().grant(0, KeyId(3), PackageId(5).into(), "a");
        let allows = async |key: &Key, now| {
            key.signer(&store, now).await.unwrap().granted_to(&grant, now, PackageId(5), "a").is_some()
        };
        assert!(allows(&running, REREAD_MS).await);
        rotate_link_secret(&store, &[9; 32]).await.unwrap();
        assert!(allows(&running, 2 * REREAD_MS - 1).await, "it is not read at each request");
        assert!(!allows(&running, 2 * REREAD_MS).await);
        assert!(!allows(&other, REREAD_MS).await);
        // Both sign with the new one.
        let again = other.signer(&store, 0).await.unwrap().grant(0, KeyId(3), PackageId(5).into(), "a");
        let signer = running.signer(&store, 2 * REREAD_MS).await.unwrap();
        assert!(signer.granted_to(&again, 0, PackageId(5), "a").is_some());
    }

    #[test]
    fn a_grant_names_the_salt_of_its_package() {
        let signer = Signer([7; 32]);
        let package = SaltedPackage { id: PackageId(5), salt: Some(Salt(0xc0_ffee)) };
        let grant = signer.grant(0, KeyId(3), package, "a");
        let granted = |grant: &str| signer.granted_to(grant, 0, PackageId(5), "a");
        assert_eq!(granted(&grant), Some(Grant { key: KeyId(3), package }));
        for wrong in
            [grant.replace("c0ffee", "c0ffef"), grant.replace("0000000000c0ffee-", ""), grant.replace('c', "é")]
        {
            assert_eq!(granted(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_token_is_for_one_share() {
        let signer = Signer([7; 32]);
        let share = SaltedShare::from(ShareId(5));
        let token = signer.share_token(share);
        assert_eq!(signer.shared(&token), Some(share));
        let (_, signature) = token.split_once('-').unwrap();
        let salted = SaltedShare { salt: Some(Salt(1)), ..share };
        assert_eq!(signer.shared(&signer.share_token(salted)), Some(salted));
        assert_eq!(signer.shared(&format!("5-{}-{signature}", Salt(1))), None);
        let grant = signer.grant(0, KeyId(3), PackageId(5).into(), "a");
        for wrong in [&format!("6-{signature}"), signature, "5", "5-", "", &grant, &format!("{token}A")] {
            assert_eq!(signer.shared(wrong), None, "{wrong}");
        }
        assert_eq!(Signer([8; 32]).shared(&token), None);
    }

    #[test]
    fn links_of_one_hour_are_the_same() {
        let signer = Signer([7; 32]);
        let grant = |now| signer.grant(now, KeyId(3), PackageId(5).into(), "a");
        assert_eq!(grant(0), grant(HOUR_MS - 1));
        assert_ne!(grant(0), grant(HOUR_MS));
    }
}
