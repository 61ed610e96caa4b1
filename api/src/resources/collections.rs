//! `/collections`: what can be searched, and the schema of its metadata.

use adit_shared::domain::Collection;
use adit_shared::search::SearchError;
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

/// How often a collection is asked anew because imports have dropped the version that was found.
const TRIES: usize = 3;

/// Asks a collection as it stands now; where imports have dropped that version before its index was here, the newest one is asked.
///
/// # Errors
/// Those of `ask`, and [`Kind::Unavailable`](crate::problem::Kind::Unavailable) where no version that the database names is in the store.
pub(crate) async fn ask_newest<T, F>(app: &App, slug: &str, ask: impl Fn(Collection) -> F) -> ApiResult<(Collection, T)>
where
    F: Future<Output = ApiResult<Result<T, SearchError>>>,
{
    for _ in 0..TRIES {
        let collection = find(app, slug).await?;
        match ask(collection.clone()).await? {
            Err(SearchError::VersionGone(_)) => {}
            answer => return Ok((collection, answer.map_err(|error| error.of(slug))?)),
        }
    }
    tracing::error!(collection = slug, "the index of the newest corpus version is not in the object store");
    Err(Problem::unavailable("search index"))
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use axum::http::StatusCode;
    use axum::response::IntoResponse as _;

    use super::*;
    use crate::testing::World;

    /// Asks a collection whose version is gone for so many times.
    async fn ask_one_that_is_gone(times: usize) -> ApiResult<(Collection, i64)> {
        let world = World::new().await;
        world.package().await;
        let asked = Cell::new(0);
        ask_newest(&world.app().await, "c", |collection| {
            asked.set(asked.get() + 1);
            let gone = SearchError::VersionGone(collection.corpus_version);
            std::future::ready(Ok(if asked.get() > times { Ok(7) } else { Err(gone) }))
        })
        .await
    }

    #[tokio::test]
    async fn a_version_that_imports_have_dropped_is_asked_for_anew() {
        let (collection, answer) = ask_one_that_is_gone(TRIES - 1).await.unwrap();
        assert_eq!((collection.slug.as_str(), answer), ("c", 7));
        let missing = ask_one_that_is_gone(TRIES).await.unwrap_err().into_response();
        assert_eq!(missing.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
