//! `/docsets/{id}/manifest`: where a docset's files lie, for packagers.

use adit_packager::manifest::{End, Header, Member, Tombstone};
use adit_shared::domain::{Access, Clearance, Docset, Format, Layout, Package};
use adit_shared::ids::{DocsetId, PackageId};
use adit_shared::store::{Member as Row, StoreError, StoreResult};
use async_stream::try_stream;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use roaring::RoaringBitmap;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Caller;
use crate::delta::Delta;
use crate::extract::{Path, Query};
use crate::long_answers::LongAnswer;
use crate::problem::{ApiResult, Kind, Problem};
use crate::recipe;
use crate::resources::members::{line, ndjson};
use crate::rights;
use crate::state::App;

/// Members that are looked up in the base, and sent, at once.
const CHUNK: usize = 500;

/// How much of the members' metadata is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Metadata {
    /// Nothing.
    None,
    /// The document's own licence.
    License,
    /// All of it, and the licence.
    Full,
}

impl Metadata {
    /// As much as a package of that layout needs.
    pub(crate) fn of(layout: Layout) -> Self {
        match layout {
            Layout::Flat => Self::None,
            Layout::Bag | Layout::TarZst => Self::License,
            Layout::Jsonl | Layout::Parquet => Self::Full,
        }
    }
}

/// What a packager wants to know.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ManifestQuery {
    /// Formats, separated by commas.
    #[param(value_type = Vec<Format>, min_items = 1, style = Form, explode = false, example = json!(["txt", "meta"]))]
    fmt: String,
    /// The package that is built: what it says about itself was settled when it was asked for.
    #[param(nullable = false)]
    package: Option<i64>,
    /// How much of the members' metadata is wanted (default: none).
    #[param(inline, nullable = false)]
    metadata: Option<Metadata>,
    /// The docset that a delta starts from, of the same collection.
    #[param(nullable = false)]
    base: Option<i64>,
}

/// Streams a docset's members with the places of their files as NDJSON: a header, a line for each member in the order of
/// ids, with `base` a line for each document of which it has files that this docset has no more, and an end line that counts the members, so
/// that a stream that was cut off is noticed.
#[utoipa::path(get, path = "/api/docsets/{id}/manifest", operation_id = "getManifest", tag = "packager", security(("key" = [])), params(("id" = i64, Path), ManifestQuery),
    responses((status = 200, description = "The manifest", content_type = "application/x-ndjson", body = String),
              (status = 403)))]
pub async fn manifest(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
    Query(query): Query<ManifestQuery>,
) -> ApiResult<Response> {
    let docset = find(&app, id, "docset").await?;
    let mut formats = query.fmt.split(',').map(str::parse).collect::<Result<Vec<Format>, _>>()?;
    formats.sort();
    formats.dedup();
    let base = match query.base {
        Some(base) => Some(find(&app, base, "base").await?),
        None => None,
    };
    if base.as_ref().is_some_and(|base| base.collection != docset.collection) {
        return Err(Problem::new(Kind::InvalidRecipe, "base is a docset of another collection; give one of the same"));
    }
    let package = match query.package {
        Some(id) => Some(find_package(&app, &docset, id).await?),
        None => None,
    };
    let (about, clearance) = match package {
        Some(package) => (package.about, app.store.clearance(package.id).await?),
        // Nobody's package: it has what the packager's own key may have.
        None => (
            Some(recipe::about(&app, &docset).await?),
            rights::clearance(&app, &caller.0, &docset, &formats, RoaringBitmap::new()).await?,
        ),
    };
    let header = Header {
        docset: docset.id,
        fingerprint: docset.fingerprint,
        documents: docset.size,
        formats,
        about,
        base: base.as_ref().map(|base| clearance.base_selection(&base.fingerprint)),
        selection: Some(clearance.selection(&docset.fingerprint)).filter(|selection| *selection != docset.fingerprint),
    };
    let mut answer = ndjson(lines(app, docset, base, clearance, header, query.metadata.unwrap_or(Metadata::None)));
    // All packagers may have one key, and read as many manifests as they build packages.
    answer.extensions_mut().remove::<LongAnswer>();
    Ok(answer)
}

async fn find(app: &App, id: i64, what: &str) -> ApiResult<Docset> {
    app.store.docset_of_packages(DocsetId(id)).await?.ok_or_else(|| Problem::not_found(what))
}

async fn find_package(app: &App, docset: &Docset, id: i64) -> ApiResult<Package> {
    let package = app.store.package(PackageId(id), None).await?.filter(|package| package.docset == docset.id);
    package.ok_or_else(|| Problem::not_found("package of this docset"))
}

/// The whole stream, in pieces of many lines.
fn lines(
    app: App,
    docset: Docset,
    base: Option<Docset>,
    clearance: Clearance,
    header: Header,
    metadata: Metadata,
) -> impl Stream<Item = StoreResult<Bytes>> + Send + 'static {
    try_stream! {
        yield line(&header)?;
        let mut count = 0;
        let of = Of { docset: &docset, base: base.as_ref(), clearance: &clearance, formats: &header.formats, metadata };
        let mut chunks = std::pin::pin!(chunks(&app, of));
        while let Some(chunk) = chunks.try_next().await? {
            let mut lines = Vec::new();
            match chunk {
                Chunk::Members(members) => {
                    count += members.len() as u64;
                    members.iter().try_for_each(|member| line(member).map(|line| lines.extend_from_slice(&line)))?;
                }
                Chunk::Gone(gone) => gone.iter().try_for_each(|gone| line(gone).map(|line| lines.extend_from_slice(&line)))?,
            }
            yield lines.into();
        }
        yield line(&End { end: count })?;
    }
}

/// Some of what a manifest tells between its header and its end.
pub(crate) enum Chunk {
    /// Members, in the order of ids.
    Members(Vec<Member>),
    /// With a base, files that it has and the docset has not; after all members.
    Gone(Vec<Tombstone>),
}

/// What a manifest is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Of<'a> {
    pub(crate) docset: &'a Docset,
    /// The docset that a delta starts from.
    pub(crate) base: Option<&'a Docset>,
    pub(crate) clearance: &'a Clearance,
    /// Sorted.
    pub(crate) formats: &'a [Format],
    pub(crate) metadata: Metadata,
}

impl<'a> Of<'a> {
    fn delta(&self, app: &'a App) -> Option<Delta<'a>> {
        let (docset, formats) = (self.docset, self.formats);
        let members = &docset.members - &self.clearance.withheld();
        self.base.map(|base| Delta {
            store: &*app.store,
            docset,
            members,
            base: &base.members - &self.clearance.base,
            formats,
        })
    }
}

/// What the manifest of a docset tells of its members.
pub(crate) fn chunks<'a>(app: &'a App, of: Of<'a>) -> impl Stream<Item = StoreResult<Chunk>> + Send + 'a {
    try_stream! {
        let Of { docset, clearance, formats, metadata, .. } = of;
        let delta = of.delta(app);
        let mut chunks = members(app, docset, formats, metadata).try_chunks(CHUNK);
        while let Some(mut chunk) = chunks.try_next().await.map_err(|error| error.1)? {
            let withheld = |row: &Row| clearance.omission(row.id).is_some();
            chunk.iter_mut().filter(|(row, _)| withheld(row)).for_each(|(row, _)| row.files.clear());
            yield Chunk::Members(described(chunk, delta.as_ref(), clearance, metadata).await?);
        }
        if let Some(delta) = &delta {
            let left = delta.left();
            let mut chunks = app.store.members(&left, None, Some(formats)).try_chunks(CHUNK);
            while let Some(chunk) = chunks.try_next().await.map_err(|error| error.1)? {
                yield Chunk::Gone(tombstones(chunk, delta).await?);
            }
        }
    }
}

/// The docset's members, with their metadata as JSON where anything of it is wanted.
fn members<'a>(
    app: &'a App,
    docset: &'a Docset,
    formats: &'a [Format],
    metadata: Metadata,
) -> BoxStream<'a, StoreResult<(Row, String)>> {
    match metadata {
        Metadata::None => {
            app.store.members(&docset.members, None, Some(formats)).map_ok(|row| (row, String::new())).boxed()
        }
        Metadata::License | Metadata::Full => app.store.described_members(&docset.members, formats),
    }
}

async fn described(
    chunk: Vec<(Row, String)>,
    delta: Option<&Delta<'_>>,
    clearance: &Clearance,
    metadata: Metadata,
) -> StoreResult<Vec<Member>> {
    let (rows, texts): (Vec<Row>, Vec<String>) = chunk.into_iter().unzip();
    let mut unchanged = match delta {
        Some(delta) => delta.unchanged(&rows).await?,
        None => Vec::new(),
    }
    .into_iter();
    let member = |(row, text): (Row, String)| {
        let unchanged = unchanged.next().unwrap_or_default();
        let access = Some(clearance.access(row.id)).filter(|access| *access != Access::Open);
        let omitted = clearance.omission(row.id);
        let mut member = Member { unchanged, omitted, access, ..Member::from(row) };
        describe(&mut member, metadata, &text)?;
        Ok(member)
    };
    rows.into_iter().zip(texts).map(member).collect()
}

/// Adds a document's licence and metadata, as far as they are wanted.
fn describe(member: &mut Member, wanted: Metadata, text: &str) -> StoreResult<()> {
    /// The rest is not even made into values.
    #[derive(Deserialize)]
    struct Licensed {
        license: Option<Value>,
    }
    let unreadable = |error: serde_json::Error| StoreError::Corrupt(format!("a document's metadata: {error}"));
    let own = |license: Option<&Value>| license.and_then(Value::as_str).map(str::to_owned);
    match wanted {
        Metadata::None => {}
        Metadata::License => {
            let Licensed { license } = serde_json::from_str(text).map_err(unreadable)?;
            member.license = own(license.as_ref());
        }
        Metadata::Full => {
            let metadata: Map<String, Value> = serde_json::from_str(text).map_err(unreadable)?;
            member.license = own(metadata.get("license"));
            member.metadata = Some(metadata);
        }
    }
    Ok(())
}

async fn tombstones(chunk: Vec<Row>, delta: &Delta<'_>) -> StoreResult<Vec<Tombstone>> {
    let gone = delta.gone(&chunk).await?;
    let left = chunk.into_iter().zip(gone).filter(|(_, formats)| !formats.is_empty());
    Ok(left.map(|(row, formats)| Tombstone { gone: row.name, formats }).collect())
}

#[cfg(test)]
mod tests;
