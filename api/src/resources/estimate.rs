//! `/docsets/{id}/estimate`: what a package would hold and weigh, before it is built.

use adit_packager::{Estimate as Size, SizeEstimator};
use adit_shared::domain::{Compression, Format, Layout, Omission, Recipe};
use adit_shared::ids::DocsetId;
use axum::extract::State;
use futures::TryStreamExt as _;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Caller;
use crate::extract::{Path, Query, digits};
use crate::problem::ApiResult;
use crate::recipe::{Choice, DeltaFrom};
use crate::resources::docsets;
use crate::resources::manifest::{self, Chunk, Metadata, Of};
use crate::resources::packages::{Identity, Wish, cost, split_list, wanted_formats};
use crate::state::App;

/// Bytes a second that an estimate reckons with; the packager itself says better when it accepts.
const ESTIMATED_RATE: u64 = 100 * 1024 * 1024;

/// A recipe in a query string.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct FormatsQuery {
    /// Formats, separated by commas (default: txt).
    #[param(value_type = Option<Vec<Format>>, min_items = 1, style = Form, explode = false, example = json!(["txt", "meta"]))]
    fmts: Option<String>,
    /// The same as `fmts`.
    #[param(value_type = Option<Vec<Format>>, min_items = 1, style = Form, explode = false)]
    fmt: Option<String>,
    /// How it is laid out (default: flat).
    #[param(value_type = Option<Layout>)]
    layout: Option<String>,
    /// How shards are compressed; for layout jsonl only (default: zstd).
    #[param(value_type = Option<Compression>, nullable = false)]
    compression: Option<String>,
    /// About how many bytes a shard has.
    #[serde(default, deserialize_with = "digits")]
    #[param(nullable = false, minimum = 1048576, maximum = 9007199254740991_u64)]
    shard_bytes: Option<u64>,
    /// Whether the documents' files are left out; for layout bag only.
    #[serde(default)]
    #[param(nullable = false)]
    dehydrated: bool,
    /// The docset that a delta starts from; for layout bag only.
    #[param(nullable = false)]
    delta_from: Option<i64>,
}

/// Members that a package leaves out, by reason.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Omitted {
    /// They have none of the formats.
    format: u64,
    /// The key is not entitled to their files.
    rights: u64,
    /// They were withdrawn.
    withdrawn: u64,
}

/// What a package would hold and weigh.
#[derive(Debug, Serialize, ToSchema)]
pub struct Estimate {
    /// Formats, sorted.
    formats: Vec<Format>,
    /// How it is laid out.
    layout: Layout,
    /// Members of the docset.
    documents: u64,
    /// Members with at least one file in these formats.
    included: u64,
    /// The others, by the reason why they are left out.
    omitted: Omitted,
    /// Size of the archive, or of the shards; see `exact`.
    bytes: u64,
    /// Whether that is the exact size; else the package will probably have less.
    exact: bool,
    /// Seconds that building it may take.
    seconds: u64,
    /// Documents that it would cost now; 0 where such a package is paid for already.
    cost: u64,
    /// Documents that would be left today; below zero it would be refused; null: unlimited.
    quota_after: Option<i64>,
}

/// Tells what a package would hold and weigh, before anything is built: exactly where `exact` says so.
#[utoipa::path(get, path = "/api/docsets/{id}/estimate", operation_id = "estimatePackage", tag = "packages", security(("key" = [])), params(("id" = i64, Path), FormatsQuery),
    responses((status = 200, description = "The estimate", body = Estimate)))]
pub async fn estimate(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
    Query(query): Query<FormatsQuery>,
) -> ApiResult<axum::Json<Estimate>> {
    let docset = docsets::find(&app, &caller, id).await?;
    let formats = wanted_formats(&docset, &split_list(query.fmts.as_deref(), query.fmt.as_deref()))?;
    let FormatsQuery { layout, compression, shard_bytes, dehydrated, delta_from, .. } = query;
    let delta_from = delta_from.map(|docset| DeltaFrom::Docset(DocsetId(docset)));
    let choice = Choice { layout, compression, shard_bytes, dehydrated, delta_from };
    let (recipe, base) = choice.recipe(&app, &caller, &docset, formats).await?;
    let wish = Wish { docset, recipe, base, reuse: true, retry: true, pay_later: false };
    let identity = wish.identity(&app, &caller).await?;
    let cost = cost(&app, &caller, &wish, &identity).await?;
    let quota_after = app.quotas().after(&caller.0, cost);
    let (Wish { docset, recipe, base, .. }, Identity { about, clearance, .. }) = (wish, identity);
    let _pass = app.pass(caller.client()).await?;
    let base = base.map(|base| base.docset);
    let marked = clearance.selection(&docset.fingerprint) != docset.fingerprint;
    let mut estimator = SizeEstimator::new(&recipe, about.as_ref(), marked)?;
    let (mut included, mut omitted) = (0, Omitted::default());
    let metadata = Metadata::of(recipe.layout);
    let of = Of { docset: &docset, base: base.as_ref(), clearance: &clearance, formats: &recipe.formats, metadata };
    let mut chunks = std::pin::pin!(manifest::chunks(&app, of));
    while let Some(chunk) = chunks.try_next().await? {
        match chunk {
            Chunk::Members(members) => {
                for member in &members {
                    let count = match (member.files.is_empty(), member.omitted) {
                        (false, _) => &mut included,
                        (true, Some(Omission::Rights)) => &mut omitted.rights,
                        (true, Some(Omission::Withdrawn)) => &mut omitted.withdrawn,
                        (true, Some(Omission::Format) | None) => &mut omitted.format,
                    };
                    *count += 1;
                }
                members.iter().try_for_each(|member| estimator.add(member))?;
            }
            Chunk::Gone(gone) => gone.iter().try_for_each(|gone| estimator.bury(gone))?,
        }
    }
    let Size { bytes, exact } = estimator.finish();
    let Recipe { formats, layout, .. } = &recipe;
    let (formats, layout) = (formats.clone(), *layout);
    let seconds = 1 + bytes / ESTIMATED_RATE;
    Ok(axum::Json(Estimate {
        formats,
        layout,
        documents: docset.size,
        included,
        omitted,
        bytes,
        exact,
        seconds,
        cost,
        quota_after,
    }))
}
