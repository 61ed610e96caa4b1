//! Packages that are there: each asset with its length and, where all is read, its SHA-256.

use adit_shared::digest::Sha256;
use adit_shared::domain::{Content, MANIFEST_NAME, Package, PackageManifest};
use adit_shared::objects::{ObjectError, ObjectKey, ObjectResult, ObjectStore};
use futures::TryStreamExt as _;
use sha2::Digest as _;

use super::findings::{DamagedPackage, Findings};
use crate::services::Services;

/// Packages that are asked for at once.
const PAGE: u32 = 256;

/// Looks at all packages that have not expired.
pub(super) async fn check(services: &Services, findings: &mut Findings) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let page = services.store.available_packages(after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.id);
        let now = services.clock.now_ms();
        for package in page.into_iter().filter(|package| package.is_there(now)) {
            findings.packages += 1;
            let Some((object, reason)) = find_damage(&*services.objects, &package, findings.full).await? else {
                continue;
            };
            // Its owner may have deleted it meanwhile.
            let package = services.store.package(package.id, None).await?;
            let there = package.filter(|package| package.content == Content::Available);
            findings.damaged_packages.extend(there.map(|package| DamagedPackage { package, object, reason }));
        }
    }
}

/// An object of a package, as far as something is known of it.
struct Expected {
    object: String,
    size: Option<u64>,
    sha256: Option<Sha256>,
}

/// The first object of the package that is wrong, and why.
async fn find_damage(
    objects: &dyn ObjectStore,
    package: &Package,
    full: bool,
) -> ObjectResult<Option<(String, String)>> {
    let fingerprint = &package.fingerprint;
    let asset = |name: &str| ObjectKey::Asset { package: package.salted(), fingerprint, name }.to_string();
    let mut expected = Vec::new();
    if package.recipe.has_archive() {
        let extension = package.recipe.layout.extension();
        let object = ObjectKey::Archive { package: package.salted(), fingerprint, extension }.to_string();
        expected.push(Expected { object, size: package.size, sha256: package.sha256 });
    }
    let manifest = asset(MANIFEST_NAME);
    match objects.get(&manifest, None).await {
        // A packager of somebody else writes none, and may keep the archive elsewhere.
        Err(ObjectError::NotFound(_)) if package.recipe.has_archive() && is_elsewhere(package) => return Ok(None),
        Err(ObjectError::NotFound(_)) if package.recipe.has_archive() => {}
        Err(ObjectError::NotFound(_)) => return Ok(Some((manifest, "it is not there".to_owned()))),
        bytes => match PackageManifest::parse(&bytes?) {
            Err(error) => return Ok(Some((manifest, error.to_string()))),
            Ok(read) if !package.recipe.has_archive() => expected.extend(read.assets.into_iter().map(|listed| {
                Expected { object: asset(&listed.name), size: Some(listed.size), sha256: Some(listed.sha256) }
            })),
            Ok(_) => {}
        },
    }
    for Expected { object, size, sha256 } in expected {
        let reason = match objects.size(&object).await? {
            None => "it is not there".to_owned(),
            Some(found) if size.is_some_and(|size| size != found) => {
                format!("it has {found} bytes and not {}", size.unwrap_or_default())
            }
            Some(_) if full && sha256.is_some() && Some(hash(objects, &object).await?) != sha256 => {
                "its SHA-256 is wrong".to_owned()
            }
            Some(_) => continue,
        };
        return Ok(Some((object, reason)));
    }
    Ok(None)
}

/// Tells whether the packager has named another place than ours.
fn is_elsewhere(package: &Package) -> bool {
    let own = format!("/packages/{}/download", package.id);
    package.location.as_deref().is_some_and(|location| location.starts_with("http") && !location.ends_with(&own))
}

async fn hash(objects: &dyn ObjectStore, object: &str) -> ObjectResult<Sha256> {
    let mut hash = sha2::Sha256::new();
    let mut chunks = objects.read(object, None).await?;
    while let Some(chunk) = chunks.try_next().await? {
        hash.update(&chunk);
    }
    Ok(Sha256(hash.finalize().into()))
}
