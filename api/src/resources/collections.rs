//! `/collections`: what can be searched, and the schema of its metadata.

use adit_shared::domain::Collection;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::extract::Path;
use crate::problem::{ApiResult, Problem};
use crate::state::App;
use crate::wire::CollectionView;

/// All collections.
#[derive(Debug, Serialize, ToSchema)]
pub struct CollectionList {
    /// By slug.
    collections: Vec<CollectionView>,
}

/// A collection by slug, or a 404.
pub async fn find(app: &App, slug: &str) -> ApiResult<Collection> {
    app.store.collection(slug).await?.ok_or_else(|| Problem::not_found("collection"))
}

/// Lists all collections.
#[utoipa::path(get, path = "/api/collections", operation_id = "listCollections", tag = "collections",
    responses((status = 200, description = "The collections", body = CollectionList)))]
pub async fn list(State(app): State<App>) -> ApiResult<axum::Json<CollectionList>> {
    let collections = app.store.collections().await?;
    Ok(axum::Json(CollectionList {
        collections: collections.into_iter().map(|c| CollectionView::new(&app, c)).collect(),
    }))
}

/// Shows a collection.
#[utoipa::path(get, path = "/api/collections/{slug}", operation_id = "getCollection", tag = "collections", params(("slug" = String, Path)),
    responses((status = 200, description = "The collection", body = CollectionView)))]
pub async fn get(State(app): State<App>, Path(slug): Path<String>) -> ApiResult<axum::Json<CollectionView>> {
    let collection = find(&app, &slug).await?;
    Ok(axum::Json(CollectionView::new(&app, collection)))
}

/// Dublin Core terms that hold one text.
const TEXTS: &[&str] =
    &["title", "abstract", "description", "publisher", "isPartOf", "identifier", "type", "source", "rights"];
/// Dublin Core terms that hold one text or several.
const LISTS: &[&str] =
    &["creator", "contributor", "subject", "language", "relation", "spatial", "temporal", "coverage"];

/// Shows the JSON Schema of a collection's metadata.
#[utoipa::path(get, path = "/api/collections/{slug}/schema", operation_id = "getCollectionSchema", tag = "collections", params(("slug" = String, Path)),
    responses((status = 200, description = "JSON Schema, draft 2020-12", content_type = "application/schema+json")))]
pub async fn schema(
    State(app): State<App>,
    Path(slug): Path<String>,
) -> ApiResult<([(&'static str, &'static str); 1], String)> {
    let collection = find(&app, &slug).await?;
    let mut properties = serde_json::Map::new();
    let text_or_list = json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]});
    properties.extend(TEXTS.iter().map(|term| ((*term).to_owned(), json!({"type": "string"}))));
    properties.extend(LISTS.iter().map(|term| ((*term).to_owned(), text_or_list.clone())));
    let date = r"^-?\d{4}(-\d\d(-\d\d(T.*)?)?)?$";
    properties.insert(
        "issued".into(),
        json!({"type": "string", "pattern": date, "description": "year, month, date or RFC 3339"}),
    );
    properties.insert("license".into(), json!({"type": "string", "format": "uri", "default": collection.license}));
    let schema: Value = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": app.url(&format!("/api/collections/{slug}/schema")),
        "title": format!("Metadata of a document of {}", collection.name),
        "description": "Dublin Core terms (http://purl.org/dc/terms/); other members are kept as they are",
        "type": "object",
        "properties": properties,
        "additionalProperties": true,
        "x-search-fields": app.search.fields(),
        "x-facet-fields": app.search.facet_fields(),
    });
    Ok(([("content-type", "application/schema+json")], schema.to_string()))
}
