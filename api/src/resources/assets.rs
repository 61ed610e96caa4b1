//! What a package consists of, and fetching it: `/packages/{id}/download`, `/packages/{id}/assets`, and links that need no key.

use adit_packager::archive_name;
use adit_shared::digest::Sha256;
use adit_shared::domain::{
    ApiKey, Asset, Content, MANIFEST_NAME, Package, PackageManifest, RECEIPT_NAME, Scope, Status,
};
use adit_shared::ids::PackageId;
use adit_shared::objects::{ObjectError, ObjectKey};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::TryStreamExt as _;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use sha2::Digest as _;
use utoipa::openapi::schema::OneOfBuilder;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::auth::Caller;
use crate::dispatch;
use crate::extract::Path;
use crate::problem::{ApiResult, Kind, Problem};
use crate::recipe;
use crate::resources::packages::{ALIKE, failure, find, pay};
use crate::serve::{self, Request, Stored, Wanted};
use crate::state::App;
use crate::wire::poll_after;

const MANIFEST_TYPE: &str = "application/json";
/// A JWS in compact form (RFC 7515, section 9.2.1).
const RECEIPT_TYPE: &str = "application/jose";
/// Names that a problem lists.
const NAMES_SHOWN: usize = 20;

/// One object that can be fetched.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Asset)]
pub struct AssetView {
    /// Its file name.
    name: String,
    /// Media type (RFC 6838).
    media_type: String,
    /// Its length in bytes; null where a packager of somebody else did not tell it.
    size: Option<u64>,
    /// The SHA-256 of its bytes; null where a packager of somebody else did not tell it.
    sha256: Option<Sha256>,
    /// Of a shard, how many documents it holds.
    documents: Option<u64>,
    /// Absolute URL, which stays as it is and needs a key.
    #[schema(format = "uri")]
    url: String,
    /// Absolute URL that needs no key and is good for a day. Whoever has it can fetch the asset.
    #[schema(format = "uri")]
    link: String,
}

/// All objects that a package consists of.
#[derive(Debug, Serialize, ToSchema)]
pub struct AssetList {
    /// Archive or shards, then `manifest.json` and `receipt.jws` where there are such.
    assets: Vec<AssetView>,
}

/// An asset and where it lies.
struct Stocked {
    name: String,
    media_type: String,
    size: Option<u64>,
    sha256: Option<Sha256>,
    documents: Option<u64>,
    key: String,
}

fn archive_key(package: &Package) -> String {
    let extension = package.recipe.layout.extension();
    ObjectKey::Archive { package: package.salted(), fingerprint: &package.fingerprint, extension }.to_string()
}

fn asset_key(package: &Package, name: &str) -> String {
    ObjectKey::Asset { package: package.salted(), fingerprint: &package.fingerprint, name }.to_string()
}

impl Stocked {
    fn archive(package: &Package) -> Self {
        Self {
            name: archive_name(&package.recipe, &package.fingerprint),
            media_type: package.recipe.layout.media_type().to_owned(),
            size: package.size,
            sha256: package.sha256,
            documents: None,
            key: archive_key(package),
        }
    }

    fn listed(package: &Package, asset: Asset) -> Self {
        let Asset { name, media_type, size, sha256, documents } = asset;
        let is_archive = package.recipe.has_archive()
            && name.strip_suffix(package.recipe.layout.extension()).is_some_and(|stem| stem.ends_with('.'));
        let key = if is_archive { archive_key(package) } else { asset_key(package, &name) };
        Self { name, media_type, size: Some(size), sha256: Some(sha256), documents, key }
    }

    fn small(package: &Package, name: &str, media_type: &str, bytes: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            media_type: media_type.to_owned(),
            size: Some(bytes.len() as u64),
            sha256: Some(Sha256::of(bytes)),
            documents: None,
            key: asset_key(package, name),
        }
    }

    fn view(self, app: &App, package: &Package, link: String) -> AssetView {
        let Self { name, media_type, size, sha256, documents, .. } = self;
        let url = app.url(&format!("/api/packages/{}/assets/{name}", package.id));
        AssetView { name, media_type, size, sha256, documents, url, link }
    }
}

async fn small_asset(app: &App, package: &Package, name: &str) -> ApiResult<Option<Bytes>> {
    match app.objects.get(&asset_key(package, name), None).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(ObjectError::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What a package consists of, as its manifest says; without a manifest (a packager of somebody else wrote none) it is the archive.
async fn stock(app: &App, package: &Package) -> ApiResult<Vec<Stocked>> {
    let Some(bytes) = small_asset(app, package, MANIFEST_NAME).await? else {
        return Ok(vec![Stocked::archive(package)]);
    };
    let manifest = PackageManifest::parse(&bytes).map_err(|error| {
        tracing::error!(package = %package.id, "its {MANIFEST_NAME} {error}");
        Problem::new(Kind::Internal, format!("this package's {MANIFEST_NAME} cannot be read"))
    })?;
    let mut stock: Vec<_> = manifest.assets.into_iter().map(|asset| Stocked::listed(package, asset)).collect();
    stock.push(Stocked::small(package, MANIFEST_NAME, MANIFEST_TYPE, &bytes));
    if let Some(receipt) = small_asset(app, package, RECEIPT_NAME).await? {
        stock.push(Stocked::small(package, RECEIPT_NAME, RECEIPT_TYPE, &receipt));
    }
    Ok(stock)
}

/// Lists what a package consists of: its archive, or the shards in its place, with its manifest and receipt. Each comes with a `link` that
/// programs can read from which send no key.
#[utoipa::path(get, path = "/api/packages/{id}/assets", operation_id = "listAssets", tag = "packages", security(("key" = [])), params(("id" = i64, Path)),
    responses((status = 200, description = "The assets", body = AssetList, headers(("cache-control" = String))),
              (status = 409, description = "Not ready, or failed"),
              (status = 410, description = "Erased; `rebuild` tells where to ask for it again")))]
pub async fn list(State(app): State<App>, caller: Caller, Path(id): Path<i64>) -> ApiResult<Response> {
    let package = available(&app, find(&app, &caller, id).await?).await?;
    let (links, now) = (app.links().await?, app.clock.now_ms());
    let view = |asset: Stocked| {
        let grant = links.grant(now, caller.0.id, package.salted(), &asset.name);
        let link = app.url(&format!("/api/links/{grant}/packages/{}/{}", package.id, asset.name));
        asset.view(&app, &package, link)
    };
    let assets = stock(&app, &package).await?.into_iter().map(view).collect();
    // It holds rights.
    Ok(([(header::CACHE_CONTROL, "private, no-store")], axum::Json(AssetList { assets })).into_response())
}

/// How a package is named: by its id, or by its fingerprint, which is all that an archive can know of its package (see `fetch.txt` in archives
/// of tables): then it is one of the caller's own that is there, or else the newest.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Known {
    /// The id.
    Id(#[serde(deserialize_with = "number")] i64),
    /// The fingerprint.
    Fingerprint(Sha256),
}

impl PartialSchema for Known {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new().item(i64::schema()).item(Sha256::schema()).into()
    }
}

impl ToSchema for Known {}

/// A path is text, also where it stands for a number.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

async fn find_like(app: &App, caller: &Caller, fingerprint: &Sha256) -> ApiResult<Package> {
    let mut alike = app.store.packages_like(caller.0.id, fingerprint, ALIKE).await?;
    let there = alike.iter().position(|package| package.content == Content::Available).unwrap_or(0);
    if alike.is_empty() {
        let detail = "you have no package of this fingerprint; ask for the same package, and you have";
        return Err(Problem::new(Kind::NotFound, detail));
    }
    Ok(alike.swap_remove(there))
}

/// Fetches an asset: a redirect to the object store, or the bytes with ranges. HEAD is never redirected.
#[utoipa::path(get, path = "/api/packages/{id}/assets/{name}", operation_id = "downloadAsset", tag = "packages", security(("key" = [])),
    params(("id" = inline(Known), Path, description = "The package's id, or its fingerprint: then it is one of the caller's own that is there, or else the newest"), ("name" = String, Path, description = "Its name in the list of assets"), Wanted),
    responses((status = 200, description = "The asset, in its media type", headers(("etag" = String), ("repr-digest" = String), ("accept-ranges" = String), ("content-disposition" = String)),
               content_type = "*/*"),
              (status = 206, description = "The wanted range", headers(("etag" = String), ("repr-digest" = String), ("content-range" = String), ("content-disposition" = String)),
               content_type = "*/*"),
              (status = 302, description = "The asset in the object store", headers(("location" = String))),
              (status = 304, description = "Not modified", headers(("etag" = String))),
              (status = 409, description = "Not ready, or failed"),
              (status = 410, description = "Erased; `rebuild` tells where to ask for it again"),
              (status = 416), (status = 429, description = "It was asked for by a GET, and the quota does not pay for it")))]
pub async fn asset(
    State(app): State<App>,
    caller: Caller,
    Path((known, name)): Path<(Known, String)>,
    method: Method,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let found = match known {
        Known::Id(id) => find(&app, &caller, id).await?,
        Known::Fingerprint(fingerprint) => find_like(&app, &caller, &fingerprint).await?,
    };
    let package = available(&app, found).await?;
    let payer = Some(&caller.0).filter(|key| key.id == package.owner);
    send_asset(&app, &package, payer, &name, Request { method: &method, headers: &headers }).await
}

/// Fetches an asset by a link of the list of assets, without a key. The link ends in the asset's name, which many programs go by.
#[utoipa::path(get, path = "/api/links/{grant}/packages/{id}/{name}", operation_id = "followLink", tag = "packages",
    params(("grant" = String, Path, description = "When the link expires, and what proves it"), ("id" = i64, Path), ("name" = String, Path), Wanted),
    responses((status = 200, description = "The asset, in its media type", headers(("repr-digest" = String), ("accept-ranges" = String), ("content-disposition" = String)),
               content_type = "*/*"),
              (status = 206, description = "The wanted range", headers(("etag" = String), ("repr-digest" = String), ("content-range" = String), ("content-disposition" = String)),
               content_type = "*/*"),
              (status = 302, description = "The asset in the object store", headers(("location" = String))),
              (status = 304, description = "Not modified", headers(("etag" = String))),
              (status = 403, description = "The link is wrong or has expired, or the key that it was made for has ended; the list of assets has a new one"),
              (status = 409, description = "Not ready, or failed"),
              (status = 410, description = "Erased; `rebuild` tells where to ask for it again"),
              (status = 416), (status = 429, description = "It was asked for by a GET, and its owner's quota does not pay for it")))]
pub async fn follow(
    State(app): State<App>,
    Path((grant, id, name)): Path<(String, i64, String)>,
    method: Method,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let package = granted(&app, &grant, PackageId(id), &name).await?;
    let package = available(&app, package).await?;
    let owner = app.store.key(package.owner).await?;
    let request = Request { method: &method, headers: &headers };
    let mut response = send_asset(&app, &package, owner.as_ref(), &name, request).await?;
    let moves = method == Method::HEAD && app.objects.presign(&name, &name, 1).await?.is_some();
    if moves {
        // The store that GET leads to has entity tags of its own, and readers that begin with HEAD compare.
        response.headers_mut().remove(header::ETAG);
    }
    Ok(response)
}

/// Gives the package of a link that is good, if the key that it was made for may still fetch assets, and the package of that number is
/// still the one that was meant.
async fn granted(app: &App, grant: &str, id: PackageId, name: &str) -> ApiResult<Package> {
    let now = app.clock.now_ms();
    let refuse = || {
        let list = app.url(&format!("/api/packages/{id}/assets"));
        Problem::new(Kind::InvalidLink, format!("GET {list}, with a key, gives one that is good for a day"))
    };
    let grant = app.links().await?.granted_to(grant, now, id, name).ok_or_else(refuse)?;
    if !app.store.key(grant.key).await?.is_some_and(|key| key.may_use(Scope::PackagesRead, now)) {
        return Err(refuse());
    }
    let package = app.store.package(id, None).await?.ok_or_else(|| Problem::not_found("package"))?;
    if package.salted() == grant.package { Ok(package) } else { Err(refuse()) }
}

async fn send_asset(
    app: &App,
    package: &Package,
    payer: Option<&ApiKey>,
    name: &str,
    request: Request<'_>,
) -> ApiResult<Response> {
    let mut stock = stock(app, package).await?;
    let Some(at) = stock.iter().position(|asset| asset.name == name) else {
        let names: Vec<String> = stock.into_iter().map(|asset| asset.name).take(NAMES_SHOWN).collect();
        let detail = format!("this package has no asset of that name; there are: {}", names.join(", "));
        return Err(Problem::new(Kind::NotFound, detail).with("assets", names));
    };
    let asset = stock.swap_remove(at);
    let name = asset.name.clone();
    send(app, package, payer, asset, &name, request).await
}

/// Fetches the archive: a redirect to the object store, or the bytes with ranges. Of a package in shards, which has no archive, it is the manifest,
/// which lists them.
///
/// HEAD tells the length, entity tag and digest, and is never redirected. The entity tag is the archive's SHA-256, which an archive that was erased and built again has too: a download goes on there (`Range` with `If-Range`).
#[utoipa::path(get, path = "/api/packages/{id}/download", operation_id = "downloadPackage", tag = "packages", security(("key" = [])), params(("id" = i64, Path), Wanted),
    responses((status = 200, description = "The archive", headers(("etag" = String), ("repr-digest" = String), ("accept-ranges" = String), ("content-disposition" = String)),
               content(("application/zip"), ("application/zstd"), ("application/json"))),
              (status = 206, description = "The wanted range", headers(("etag" = String), ("repr-digest" = String), ("content-range" = String), ("content-disposition" = String)),
               content(("application/zip"), ("application/zstd"), ("application/json"))),
              (status = 302, description = "The archive in the object store", headers(("location" = String))),
              (status = 304, description = "Not modified", headers(("etag" = String))),
              (status = 409, description = "Not ready, or failed"),
              (status = 410, description = "Erased; `rebuild` tells where to ask for it again"),
              (status = 416), (status = 429, description = "It was asked for by a GET, and the quota does not pay for it")))]
pub async fn download(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
    method: Method,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let package = available(&app, find(&app, &caller, id).await?).await?;
    let request = Request { method: &method, headers: &headers };
    let payer = Some(&caller.0).filter(|key| key.id == package.owner);
    if package.recipe.has_archive() {
        let archive = Stocked::archive(&package);
        let name = archive.name.clone();
        return send(&app, &package, payer, archive, &name, request).await;
    }
    let manifest = match small_asset(&app, &package, MANIFEST_NAME).await? {
        Some(bytes) => Stocked::small(&package, MANIFEST_NAME, MANIFEST_TYPE, &bytes),
        None => return absent(&app, &package, payer).await,
    };
    let name =
        archive_name(&package.recipe, &package.fingerprint).replace(package.recipe.layout.extension(), MANIFEST_NAME);
    send(&app, &package, payer, manifest, &name, request).await
}

/// The package as it stands now, if it is there to be fetched.
async fn available(app: &App, package: Package) -> ApiResult<Package> {
    let package = dispatch::refresh(app, package).await?;
    match (package.status, package.content) {
        (Status::Failed, _) => Err(failure(app, &package)),
        (_, Content::Available) => Ok(package),
        (Status::Dismissed, _) => Err(gone(app, &package, "the package was dismissed")),
        (_, Content::Erased) => Err(erased(app, &package)),
        (_, Content::None) => {
            let standing = format!("it is {}, {}% done; ask again", package.status.as_str(), package.percent);
            let problem = Problem::new(Kind::NotReady, standing);
            Err(problem.header(header::RETRY_AFTER, HeaderValue::from(poll_after(&package))))
        }
    }
}

/// Where a third party's packager keeps the archive. Our own packager names the download itself, under whatever URL the server had then.
fn elsewhere(package: &Package) -> Option<&str> {
    let location = package.location.as_deref()?;
    let own = format!("/packages/{}/download", package.id);
    (location.starts_with("http") && !location.ends_with(&own)).then_some(location)
}

fn erased(app: &App, package: &Package) -> Problem {
    gone(app, package, "the archive was erased")
}

fn gone(app: &App, package: &Package, why: &str) -> Problem {
    let rebuild = app.url(&format!("/api/docsets/{}/packages", package.docset));
    let how = serde_json::json!({"method": "POST", "url": rebuild, "body": recipe::body(package)});
    Problem::new(Kind::Erased, format!("{why}; POST to {rebuild} builds it again")).with("rebuild", how)
}

/// Sends an asset, and charges a package that is not paid for before anything of it leaves; to nobody where an operator looks at somebody's
/// package.
async fn send(
    app: &App,
    package: &Package,
    payer: Option<&ApiKey>,
    asset: Stocked,
    file_name: &str,
    request: Request<'_>,
) -> ApiResult<Response> {
    let found = app.objects.size(&asset.key).await?;
    // One of another length was cut, or is of somebody else: there is no use in it.
    let Some(length) = found.filter(|length| asset.size.is_none_or(|size| size == *length)) else {
        return absent(app, package, payer).await;
    };
    // The same bytes have the same tag, whichever package they were built for. Those of unknown hash are only known to be this archive's.
    let etag = match asset.sha256 {
        Some(sha256) => format!("\"{sha256}\""),
        None => format!("\"{}-{}\"", package.fingerprint, package.salted()),
    };
    let Stocked { key, media_type, sha256, .. } = asset;
    let stored = Stored { object: &key, offset: 0, length, etag, sha256, media_type: &media_type };
    let response = serve::send_download(&*app.objects, stored, file_name, request).await?;
    let leaves = response.status().is_success() || response.status() == StatusCode::FOUND;
    if request.method == Method::GET && leaves {
        pay_unpaid(app, package, payer).await?;
        // Of what the object store sends nothing is heard: all of it counts.
        let bytes = if response.status() == StatusCode::FOUND { length } else { serve::content_length(&response) };
        app.usage().send(package, bytes).await;
    }
    Ok(response)
}

async fn pay_unpaid(app: &App, package: &Package, payer: Option<&ApiKey>) -> ApiResult<()> {
    if let Some(owner) = payer.filter(|_| !package.paid) {
        let (app, owner, package) = (app.clone(), owner.clone(), package.clone());
        dispatch::to_the_end(async move { pay(&app, &owner, &package).await }).await?;
    }
    Ok(())
}

/// Answers for an asset that is not in our store.
async fn absent(app: &App, package: &Package, payer: Option<&ApiKey>) -> ApiResult<Response> {
    if let Some(elsewhere) = elsewhere(package) {
        pay_unpaid(app, package, payer).await?;
        return Ok((StatusCode::FOUND, [(header::LOCATION, elsewhere.to_owned())]).into_response());
    }
    // The store has lost or expired it (a lifecycle rule, say), or has something else there: the database learns of it here. What is left
    // of it goes as soon as the broker is there to tell a packager.
    if let Err(problem) = dispatch::erase(app, package).await {
        tracing::warn!(package = %package.id, ?problem, "what is left of a lost package stays in the store");
        app.store.erase_package(package.id, None).await?;
    }
    Err(erased(app, package))
}

/// Has a package compared with its SHA-256, for somebody who has fetched other bytes. A damaged one is erased, and the answer says how to ask for
/// it again, which costs nothing. It goes on to its end although the client goes away.
#[utoipa::path(post, path = "/api/packages/{id}/check", operation_id = "checkPackage", tag = "packages", security(("key" = [])), params(("id" = i64, Path)),
    responses((status = 200, description = "All of it is as it was built", body = PackageCheck),
              (status = 409, description = "Not ready, or failed"),
              (status = 410, description = "Erased, be it now or before; `rebuild` tells where to ask for it again"),
              (status = 429)))]
pub async fn check(State(app): State<App>, caller: Caller, Path(id): Path<i64>) -> ApiResult<axum::Json<PackageCheck>> {
    let package = available(&app, find(&app, &caller, id).await?).await?;
    let pass = app.pass(caller.client()).await?;
    dispatch::to_the_end(async move {
        let _pass = pass;
        check_assets(&app, &package).await.map(axum::Json)
    })
    .await
}

/// What a check of a package has looked at.
#[derive(Debug, Serialize, ToSchema)]
pub struct PackageCheck {
    /// Assets whose bytes were read and are right.
    assets: u64,
    /// Their length together.
    bytes: u64,
}

async fn check_assets(app: &App, package: &Package) -> ApiResult<PackageCheck> {
    let mut check = PackageCheck { assets: 0, bytes: 0 };
    let stock = match stock(app, package).await {
        // Its manifest is unreadable.
        Err(problem) if problem.kind() == Kind::Internal => return Err(erase_damaged(app, package).await?),
        stock => stock?,
    };
    for asset in stock {
        let found = match app.objects.size(&asset.key).await? {
            None if elsewhere(package).is_some() => continue,
            None => return Err(erase_damaged(app, package).await?),
            Some(size) => size,
        };
        let is_right = asset.size.is_none_or(|size| size == found)
            && match asset.sha256 {
                Some(sha256) => hash(app, &asset.key).await? == sha256,
                None => true,
            };
        if !is_right {
            return Err(erase_damaged(app, package).await?);
        }
        check.assets += 1;
        check.bytes += found;
    }
    Ok(check)
}

async fn hash(app: &App, object: &str) -> ApiResult<Sha256> {
    let mut hash = sha2::Sha256::new();
    let mut chunks = app.objects.read(object, None).await?;
    while let Some(chunk) = chunks.try_next().await? {
        hash.update(&chunk);
    }
    Ok(Sha256(hash.finalize().into()))
}

/// Takes a damaged package away, as if it had expired; gives the answer that says so.
async fn erase_damaged(app: &App, package: &Package) -> ApiResult<Problem> {
    tracing::error!(package = %package.id, "a package is damaged in the store; it is erased, and built again when it is asked for");
    dispatch::erase(app, package).await?;
    Ok(gone(app, package, "the archive was damaged, and is erased"))
}

#[cfg(test)]
mod tests;
