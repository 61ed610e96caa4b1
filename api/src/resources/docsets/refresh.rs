//! `/docsets/{id}/refresh`: a docset made once more, of the collection as it stands now.

use std::collections::HashMap;

use adit_shared::domain::{Collection, Docset, Origin, Selection};
use adit_shared::ids::DocsetId;
use adit_shared::search::{Query, SearchError};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures::future::{BoxFuture, FutureExt as _};
use roaring::RoaringBitmap;

use super::create::{Draft, created, draw};
use super::find_own;
use crate::auth::Caller;
use crate::client::ClientId;
use crate::extract::Path;
use crate::problem::{ApiResult, Kind, Problem};
use crate::resources::collections;
use crate::search_turn::run_in_turn;
use crate::state::App;
use crate::wire::DocsetView;

/// Docsets that are made anew for the one that is made of them, at most.
const MAX_DOCSETS: usize = 100;

/// Why members could not be selected. A version that has gone is asked for anew, see [`collections::ask_newest`].
enum Stop {
    Problem(Problem),
    Search(SearchError),
}

impl<E: Into<Problem>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Problem(error.into())
    }
}

/// Selects members anew, in one corpus version.
struct Again<'a> {
    app: &'a App,
    caller: &'a Caller,
    collection: Collection,
    /// What others are made of, made anew.
    known: HashMap<DocsetId, RoaringBitmap>,
}

impl Again<'_> {
    /// What the docset's origin selects now, before its sample is drawn.
    async fn select(&mut self, docset: &Docset) -> Result<RoaringBitmap, Stop> {
        match &docset.origin.selection {
            Selection::Query(query) => self.select_matching(&query.read()?).await,
            Selection::Watch { query, since, .. } => {
                let mut found = self.select_matching(&query.read()?).await?;
                let first = self.app.store.first_added_after(self.collection.id, *since).await?;
                match first {
                    Some(id) => drop(found.remove_range(..id.0)),
                    None => found.clear(),
                }
                Ok(found)
            }
            Selection::Refs(_) => {
                Ok(self.app.store.newest_versions(self.collection.corpus_version, &docset.members).await?)
            }
            Selection::From(operation) => {
                let mut members = Vec::with_capacity(operation.docsets().len());
                for id in operation.docsets() {
                    members.push(self.part(docset.id, *id).await?);
                }
                Ok(operation.combine(members))
            }
        }
    }

    /// All hits of a query, in the caller's turn.
    async fn select_matching(&self, query: &Query) -> Result<RoaringBitmap, Stop> {
        let index = self.collection.index();
        let matching = self.app.search.matching(index, query);
        let found = run_in_turn(self.app, ClientId::Key(self.caller.0.id), index, matching).await?;
        found.map_err(Stop::Search)
    }

    /// The members of a docset that `whole` is made of, made anew.
    fn part(&mut self, whole: DocsetId, id: DocsetId) -> BoxFuture<'_, Result<RoaringBitmap, Stop>> {
        async move {
            if let Some(members) = self.known.get(&id) {
                return Ok(members.clone());
            }
            if self.known.len() >= MAX_DOCSETS {
                let detail = format!("it is made of more than {MAX_DOCSETS} docsets; make it of newer ones");
                return Err(Problem::new(Kind::InvalidRequest, detail).into());
            }
            let docset = self.app.store.docset(id, self.caller.sees()).await?.ok_or_else(|| {
                let detail = format!("docset {id}, which docset {whole} is made of, was deleted; make another docset");
                Problem::new(Kind::OriginGone, detail)
            })?;
            let mut members = self.select(&docset).await?;
            if let Some(sample) = sample_of(&docset.origin) {
                members = draw(self.app, self.caller.client(), sample, members).await?;
            }
            self.known.insert(id, members.clone());
            Ok(members)
        }
        .boxed()
    }
}

/// The sample that is drawn once more. Of refs only those of the sample were kept.
fn sample_of(origin: &Origin) -> Option<adit_shared::domain::Sample> {
    origin.sample.filter(|_| !matches!(origin.selection, Selection::Refs(_)))
}

async fn refreshed(app: &App, caller: &Caller, docset: Docset) -> ApiResult<Response> {
    let select = |collection| async {
        let mut again = Again { app, caller, collection, known: HashMap::new() };
        match again.select(&docset).await {
            Ok(members) => Ok(Ok(members)),
            Err(Stop::Search(error)) => Ok(Err(error)),
            Err(Stop::Problem(problem)) => Err(problem),
        }
    };
    let (collection, mut members) = collections::ask_newest(app, &docset.collection_slug, select).await?;
    if let Some(sample) = sample_of(&docset.origin) {
        members = draw(app, caller.client(), sample, members).await?;
    }
    if members == docset.members {
        return Ok(axum::Json(DocsetView::whole(app, docset).await?).into_response());
    }
    let draft = Draft {
        owner: caller.0.id,
        collection: collection.id,
        corpus_version: collection.corpus_version,
        name: docset.name,
        origin: docset.origin,
        members,
    };
    let new = draft.measure(app).await?;
    // A request may be sent twice, after an answer that was lost: what the first time has made is good for the second time.
    let alike = app.store.docsets_like(new.owner, &new.fingerprint).await?;
    if let Some(made) = alike.into_iter().find(|made| made.collection == new.collection && made.origin == new.origin) {
        return Ok(axum::Json(DocsetView::whole(app, made).await?).into_response());
    }
    created(app, app.store.create_docset(&new).await?).await
}

/// Makes a docset as this one was made, of the newest corpus version: with the hits that its query has now, the newest versions of its works (those
/// that are gone are left out), or what the docsets that it is made of give now. Where that is this docset, or one that was made so before, it is that one.
#[utoipa::path(post, path = "/api/docsets/{id}/refresh", operation_id = "refreshDocset", tag = "docsets", security(("key" = [])), params(("id" = i64, Path)),
    responses((status = 200, description = "Nothing has changed since this docset was made", body = DocsetView),
              (status = 201, description = "The new docset", body = DocsetView, headers(("location" = String, description = "The docset"))),
              (status = 409, description = "A docset that it is made of was deleted, or the key has as many docsets as it may"),
              (status = 422, description = "It would be empty")))]
pub async fn refresh(State(app): State<App>, caller: Caller, Path(id): Path<i64>) -> ApiResult<Response> {
    let docset = find_own(&app, &caller, id).await?;
    refreshed(&app, &caller, docset).await
}
