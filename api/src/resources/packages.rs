//! `/packages`, and `POST /docsets/{id}/packages`, which asks for one. What they consist of is fetched by [`super::assets`].

use adit_shared::clock::is_past;
use adit_shared::digest::Sha256;
use adit_shared::domain::{
    About, Allowance, ApiKey, Clearance, Compression, Content, Docset, Format, Layout, Metric, Package, Recipe, Role,
    Status,
};
use adit_shared::ids::PackageId;
use adit_shared::store::{NewPackage, StoreError};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::dispatch;
use crate::extract::{Json, Path, whole_or_null};
use crate::problem::{ApiResult, Kind, Problem};
use crate::recipe::{self, Base, Choice, DeltaFrom};
use crate::resources::docsets;
use crate::rights;
use crate::serve;
use crate::state::App;
use crate::wire::{PackageView, poll_after};

/// Earlier packages that are looked at to know whether this one is paid for.
pub(crate) const ALIKE: u32 = 100;
/// Unfinished packages of a key that are looked at when it has as much as it may.
const LOOKED_AT: u32 = 20;
/// How long `dump` answers with a failure before it lets the package be tried anew, in milliseconds.
const FAILURE_SHOWN_MS: i64 = 600_000;

fn yes() -> bool {
    true
}

/// A package to be built.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PackageRequestBody {
    /// Formats to put in (default: txt).
    #[schema(value_type = Option<Vec<Format>>, min_items = 1)]
    formats: Option<Vec<String>>,
    /// How it is laid out (default: flat).
    #[schema(value_type = Option<Layout>)]
    layout: Option<String>,
    /// How shards are compressed; for layout jsonl only (default: zstd).
    #[schema(value_type = Option<Compression>)]
    compression: Option<String>,
    /// Divides the package into shards of about so many bytes: of the archive; in tabular layouts of the documents' content.
    #[serde(default, deserialize_with = "whole_or_null")]
    #[schema(minimum = 1048576, maximum = 9007199254740991_u64)]
    shard_bytes: Option<u64>,
    /// Whether the documents' files are left out and named in `fetch.txt` instead (RFC 8493, 2.2.3); for layout bag only.
    #[serde(default)]
    dehydrated: bool,
    /// Leaves out those files that a package of that docset, or that package, has already; for layout bag only.
    delta_from: Option<DeltaFrom>,
    /// Whether an identical package that is there, or being built, will do.
    #[serde(default = "yes")]
    #[schema(default = true)]
    reuse: bool,
}

/// The formats of a comma-separated list, or a 400 that names those which exist in the docset.
pub(crate) fn wanted_formats(docset: &Docset, names: &[String]) -> ApiResult<Vec<Format>> {
    let known = || docset.formats.iter().map(|total| total.format.as_str());
    let mut formats = Vec::new();
    for name in names {
        let Some(total) = docset.formats.iter().find(|total| total.format.as_str() == name) else {
            let known: Vec<&str> = known().collect();
            let detail = format!("the docset has no {name:?}; there are: {}", known.join(", "));
            return Err(Problem::new(Kind::UnknownFormat, detail).with("formats", known));
        };
        formats.push(total.format.clone());
    }
    formats.sort();
    formats.dedup();
    Ok(formats)
}

pub(crate) fn split_list(fmts: Option<&str>, fmt: Option<&str>) -> Vec<String> {
    let list = [fmts, fmt].into_iter().flatten().flat_map(|list| list.split(','));
    let names: Vec<String> = list.map(str::to_owned).collect();
    if names.is_empty() { vec!["txt".to_owned()] } else { names }
}

/// What somebody wants.
pub(crate) struct Wish {
    pub(crate) docset: Docset,
    pub(crate) recipe: Recipe,
    /// The docset that a delta starts from.
    pub(crate) base: Option<Base>,
    /// Whether an identical package will do.
    pub(crate) reuse: bool,
    /// Whether one that turns out to have failed is tried anew.
    pub(crate) retry: bool,
    /// Whether a new one is charged when it is fetched first, for it is asked for by a safe method.
    pub(crate) pay_later: bool,
}

/// A package that was asked for.
pub(crate) struct Asked {
    pub(crate) package: Package,
    /// Documents that were charged for it.
    pub(crate) cost: u64,
}

/// Finds or makes the package and sees to it that its request is on the way. It goes on to its end although the client goes away: a package that is
/// made is also paid for and sent.
pub(crate) async fn ask(app: &App, caller: &Caller, wish: Wish) -> ApiResult<Asked> {
    let (app, caller) = (app.clone(), caller.clone());
    dispatch::to_the_end(async move { ask_to_the_end(&app, &caller, &wish).await }).await
}

async fn ask_to_the_end(app: &App, caller: &Caller, wish: &Wish) -> ApiResult<Asked> {
    let Identity { fingerprint, about, clearance } = wish.identity(app, caller).await?;
    let alike = app.store.packages_like(caller.0.id, &fingerprint, ALIKE).await?;
    if let Some(failed) = alike.first().filter(|newest| !wish.retry && failed_lately(app, newest)) {
        return Ok(Asked { package: failed.clone(), cost: 0 });
    }
    let free = is_free(app, &alike, wish.reuse);
    let is_waited_for = wish.pay_later && alike.iter().any(|package| package.is_held(app.clock.now_ms()));
    if !free && !is_waited_for {
        let documents = wish.docset.size - clearance.withheld().len();
        match wish.pay_later {
            true => app.quotas().check_deferred(&caller.0, documents).await?,
            false => app.quotas().check(&caller.0, documents).await?,
        }
    }
    let new = NewPackage {
        owner: caller.0.id,
        docset: wish.docset.id,
        recipe: wish.recipe.clone(),
        about,
        fingerprint,
        clearance,
        requested: wish.docset.size,
        created: app.clock.now_ms(),
    };
    // One that is under way is not built a second time at its side, and of many that are free at once one is made.
    let under_way = alike.iter().any(|package| !package.status.is_terminal());
    let (mut package, created) = make(app, caller, &new, wish.reuse || under_way || free).await?;
    // One that is not paid for has been left by its maker, or is being paid for: that is done once, and so is sending it.
    if created || !package.paid && !package.pay_later {
        return start(app, caller, wish, package, free).await;
    }
    let mut cost = 0;
    if !package.paid && !wish.pay_later {
        cost = pay(app, &caller.0, &package).await?;
        package.paid = true;
    }
    let package = dispatch::refresh(app, package).await?;
    let of_use = match package.status {
        Status::Successful => package.content == Content::Available,
        Status::Failed => !wish.retry,
        Status::Dismissed => false,
        Status::Accepted | Status::Running => true,
    };
    if of_use {
        return Ok(Asked { package, cost });
    }
    // Only now it has turned out to be erased or to have come to nothing.
    let free = is_free(app, &[package], true);
    let (package, created) = make(app, caller, &new, true).await?;
    if created { start(app, caller, wish, package, free).await } else { Ok(Asked { package, cost }) }
}

/// Makes a package's row, or finds one. Where the key has as much as it may, it is looked first how its packages stand: a build that has ended
/// is not known to have while nobody asks, and an archive that has expired may still be there.
async fn make(app: &App, caller: &Caller, new: &NewPackage, reuse: bool) -> ApiResult<(Package, bool)> {
    match app.store.create_package(new, reuse).await {
        Err(StoreError::LimitReached { .. }) => {}
        made => return Ok(made?),
    }
    let _pass = app.pass(caller.client()).await?;
    for package in app.store.unfinished_packages(new.owner, LOOKED_AT).await? {
        dispatch::refresh(app, package).await?;
    }
    Ok(app.store.create_package(new, reuse).await?)
}

/// Whether a package costs nothing although it is asked for again: it is there or being built, and paid for; or the newest that was paid for has
/// come to nothing, expired or was lost. What its owner has given up before its time is charged again, and so is a second copy of what is there.
fn is_free(app: &App, alike: &[Package], reuse: bool) -> bool {
    let now = app.clock.now_ms();
    let of_use = |package: &Package| match reuse {
        true => package.is_held(now),
        false => !package.status.is_terminal(),
    };
    if alike.iter().any(|package| package.paid && of_use(package)) {
        return true;
    }
    let is_there = alike.iter().any(|package| package.is_there(now));
    let last = alike.iter().find(|package| package.paid);
    !is_there && last.is_some_and(|package| package.given_up.is_none())
}

/// Who asks again and again by `dump` must learn of a failure, not set off one build after the other.
fn failed_lately(app: &App, package: &Package) -> bool {
    let now = app.clock.now_ms();
    let is_late = |finished| finished > now - FAILURE_SHOWN_MS && is_past(finished, now);
    package.status == Status::Failed && package.finished.is_some_and(is_late)
}

/// What a package would cost the caller now: nothing where one like it is paid for.
pub(crate) async fn cost(app: &App, caller: &Caller, wish: &Wish, identity: &Identity) -> ApiResult<u64> {
    let alike = app.store.packages_like(caller.0.id, &identity.fingerprint, ALIKE).await?;
    let documents = wish.docset.size - identity.clearance.withheld().len();
    Ok(if is_free(app, &alike, wish.reuse) { 0 } else { documents })
}

/// What settles a package's bytes.
pub(crate) struct Identity {
    pub(crate) fingerprint: Sha256,
    /// What it says about itself.
    pub(crate) about: Option<About>,
    pub(crate) clearance: Clearance,
}

impl Wish {
    /// What the package is if the caller asks for it now.
    pub(crate) async fn identity(&self, app: &App, caller: &Caller) -> ApiResult<Identity> {
        let about = match self.recipe.layout.is_described() {
            true => Some(recipe::about(app, &self.docset).await?),
            false => None,
        };
        let lacking = self.base.as_ref().map(|base| base.lacking.clone()).unwrap_or_default();
        let clearance = rights::clearance(app, &caller.0, &self.docset, &self.recipe.formats, lacking).await?;
        let base = self.base.as_ref().map(|base| clearance.base_selection(&base.docset.fingerprint));
        let selection = clearance.selection(&self.docset.fingerprint);
        let fingerprint = self.recipe.fingerprint(&selection, base.as_ref(), about.as_ref());
        Ok(Identity { fingerprint, about, clearance })
    }
}

/// Charges a new package, unless it is free or paid for later, and sends its request.
async fn start(app: &App, caller: &Caller, wish: &Wish, mut package: Package, free: bool) -> ApiResult<Asked> {
    let mut cost = 0;
    if free {
        app.store.mark_paid(package.id).await?;
        app.usage().give(wish.docset.collection, caller.0.id, &wish.docset.members);
    } else if wish.pay_later {
        app.store.defer_payment(package.id).await?;
        package.pay_later = true;
    } else {
        match pay(app, &caller.0, &package).await {
            Ok(charged) => cost = charged,
            Err(problem) => {
                // What is not paid for is not built.
                app.store.dismiss_unpaid(package.id, app.clock.now_ms()).await?;
                return Err(problem);
            }
        }
    }
    package.paid = free || !wish.pay_later;
    dispatch::send_request(app, &package).await?;
    dispatch::erase_expired(app).await;
    Ok(Asked { package, cost })
}

/// Charges a package to its owner, once; tells what was charged now.
pub(crate) async fn pay(app: &App, owner: &ApiKey, package: &Package) -> ApiResult<u64> {
    let cost = app.quotas().pay(owner, package).await?;
    if cost > 0
        && let Some(docset) = app.store.docset_of_packages(package.docset).await?
    {
        app.usage().count(docset.collection, Some(owner.id), Metric::Charged, cost);
        app.usage().give(docset.collection, owner.id, &docset.members);
    }
    Ok(cost)
}

/// A package, and what it cost.
#[derive(Debug, Serialize, ToSchema)]
pub struct AskedPackage {
    #[serde(flatten)]
    package: PackageView,
    /// Documents that this request has charged to the key's quota; 0 where such a package is paid for already, and after a GET, which charges
    /// nothing: then the first download does.
    cost: u64,
    /// Documents left today; null: unlimited.
    quota_after: Option<u64>,
}

pub(crate) fn answer(app: &App, caller: &Caller, asked: &Asked, finished: StatusCode) -> Response {
    let Asked { package, cost } = asked;
    let location = app.path(&format!("/api/packages/{}", package.id));
    let status = if package.status.is_terminal() { finished } else { StatusCode::ACCEPTED };
    let quota_after = app.quotas().left(&caller.0, Allowance::Documents);
    let body = AskedPackage { package: PackageView::new(app, package), cost: *cost, quota_after };
    let mut response = (status, [(header::LOCATION, location)], axum::Json(body)).into_response();
    if !package.status.is_terminal() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(poll_after(package)));
    }
    response
}

/// Asks for a package of a docset. It is charged once: what is there, is being built, has failed, expired or was lost costs nothing again; what was
/// deleted does, and so does a second copy of what is there (`reuse: false`).
#[utoipa::path(post, path = "/api/docsets/{id}/packages", operation_id = "createPackage", tag = "packages", security(("key" = [])), params(("id" = i64, Path)),
    request_body = PackageRequestBody,
    responses((status = 200, description = "An identical package is there", body = AskedPackage, headers(("location" = String))),
              (status = 202, description = "It is being built", body = AskedPackage, headers(("location" = String), ("retry-after" = u64))),
              (status = 409, description = "The key has as many packages, unfinished packages or bytes of packages as it may"),
              (status = 429)))]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
    Json(request): Json<PackageRequestBody>,
) -> ApiResult<Response> {
    let docset = docsets::find(&app, &caller, id).await?;
    let formats = wanted_formats(&docset, &request.formats.clone().unwrap_or_else(|| vec!["txt".to_owned()]))?;
    if formats.is_empty() {
        return Err(Problem::new(Kind::InvalidRequest, "formats must name one format at least, or be left out"));
    }
    let PackageRequestBody { layout, compression, shard_bytes, dehydrated, delta_from, reuse, .. } = request;
    let choice = Choice { layout, compression, shard_bytes, dehydrated, delta_from };
    let (recipe, base) = choice.recipe(&app, &caller, &docset, formats).await?;
    let wish = Wish { docset, recipe, base, reuse, retry: true, pay_later: false };
    let asked = ask(&app, &caller, wish).await?;
    Ok(answer(&app, &caller, &asked, StatusCode::OK))
}

pub(crate) fn failure(app: &App, package: &Package) -> Problem {
    let reason = package.problem.as_deref().unwrap_or("no reason was given");
    let again = app.path(&format!("/api/docsets/{}/packages", package.docset));
    Problem::new(Kind::PackageFailed, format!("{reason}; POST {again} tries again"))
        .with("package", app.url(&format!("/api/packages/{}", package.id)))
}

/// A package whose content the caller may see, or a 404.
pub async fn find(app: &App, caller: &Caller, id: i64) -> ApiResult<Package> {
    app.store.package(PackageId(id), caller.sees()).await?.ok_or_else(|| Problem::not_found("package"))
}

/// Shows where a package stands. Asking is what makes the server read the package's status queue.
#[utoipa::path(get, path = "/api/packages/{id}", operation_id = "getPackage", tag = "packages", security(("key" = [])),
    params(("id" = i64, Path), ("if-none-match" = Option<String>, Header, nullable = false, description = "The entity tag of what is known already")),
    responses((status = 200, description = "The package", body = PackageView, headers(("etag" = String), ("retry-after" = u64))),
              (status = 304, description = "Nothing has changed", headers(("etag" = String)))))]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let found = app.store.package(PackageId(id), caller.sees_package()).await?;
    let mut package = found.ok_or_else(|| Problem::not_found("package"))?;
    // A packager asks whether its build is still wanted; were it to drain the queue it would read its own statuses.
    if caller.0.role != Role::Packager {
        package = dispatch::refresh(&app, package).await?;
    }
    let body = serde_json::to_string(&PackageView::new(&app, &package)).map_err(|error| {
        tracing::error!(%error, "a package cannot be shown");
        Problem::new(Kind::Internal, "this package cannot be shown")
    })?;
    let etag = format!("\"{}\"", &adit_shared::digest::Sha256::of(body.as_bytes()).to_string()[..32]);
    let mut response = match serve::unless_known(&headers, &etag) {
        Some(response) => response,
        None => ([(header::CONTENT_TYPE, "application/json"), (header::ETAG, etag.as_str())], body).into_response(),
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if !package.status.is_terminal() {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(poll_after(&package)));
    }
    Ok(response)
}

/// Dismisses a package that is being built; deletes the archive of one that is finished. The same package, asked for again, is charged again.
#[utoipa::path(delete, path = "/api/packages/{id}", operation_id = "deletePackage", tag = "packages", security(("key" = [])), params(("id" = i64, Path)),
    responses((status = 200, description = "The package as it is now", body = PackageView)))]
pub async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<i64>) -> ApiResult<axum::Json<PackageView>> {
    let found = find(&app, &caller, id).await?;
    app.store.give_up_package(found.id, app.clock.now_ms()).await?;
    let package = if found.status.is_terminal() { found } else { dismiss(&app, found).await? };
    // The packager hears of it: it stops what it builds and deletes what it wrote.
    dispatch::erase(&app, &package).await?;
    let package = app.store.package(package.id, None).await?.unwrap_or(package);
    Ok(axum::Json(PackageView::new(&app, &package)))
}

/// Dismisses a package that is not terminal, as far as is known: its last word may wait unread. A broker that is away does not keep it alive.
async fn dismiss(app: &App, package: Package) -> ApiResult<Package> {
    let id = package.id;
    match dispatch::take_statuses(app, package).await {
        Ok(package) if package.status.is_terminal() => return Ok(package),
        Ok(_) => {}
        Err(problem) => tracing::warn!(%id, ?problem, "dismissed without its last statuses"),
    }
    let dismissed = app.store.dismiss_package(id, None, app.clock.now_ms()).await?;
    match dismissed {
        Some(package) => Ok(package),
        None => app.store.package(id, None).await?.ok_or_else(|| Problem::not_found("package")),
    }
}

#[cfg(test)]
mod tests;
