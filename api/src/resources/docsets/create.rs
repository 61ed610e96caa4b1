//! `POST /docsets`: makes a docset of a query, of refs, or of other docsets, or a sample of these.

use std::fmt;

use adit_shared::domain::{Collection, Docset, Origin, Sample, Selection, SetOperation};
use adit_shared::ids::{CollectionId, KeyId};
use adit_shared::search::{SearchError, Source};
use adit_shared::store::{self, NewDocset};
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use roaring::RoaringBitmap;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::{IntoParams, ToSchema};

use super::lines::{self, Finder};
use super::{check_name, check_query, find_own};
use crate::auth::Caller;
use crate::client::ClientId;
use crate::extract::{self, DOCSET_BODY_LIMIT, Json, Query, digits};
use crate::origin::{Combination, Draw};
use crate::problem::{ApiResult, Kind, Problem};
use crate::resources::collections;
use crate::search_turn::run_in_turn;
use crate::state::App;
use crate::wire::DocsetView;

/// A docset to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DocsetRequest {
    /// Slug of the collection.
    collection: String,
    /// Freezes all hits of this query.
    query: Option<Source>,
    /// Freezes the current versions of these works; more of them go as NDJSON.
    #[serde(default, deserialize_with = "some_refs")]
    #[schema(max_items = 200000)]
    refs: Option<Vec<String>>,
    /// Combines the members, which are document versions, of one's own docsets of this collection.
    from: Option<Combination>,
    /// Draws a random sample of these.
    sample: Option<Draw>,
    /// A name for people, 1 to 200 characters other than NUL.
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\u0000]*$")]
    name: Option<String>,
}

/// Most refs of a JSON body: in memory, a short one takes twenty times what it takes in the body.
const MAX_REFS: usize = 200_000;

/// Reads refs, or nothing, and stops at the first that is too many.
fn some_refs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    struct Refs;

    impl<'de> Visitor<'de> for Refs {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MAX_REFS} refs")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
            let mut refs = Vec::new();
            while let Some(text) = list.next_element()? {
                if refs.len() == MAX_REFS {
                    let most = format!("a body as JSON may have {MAX_REFS} refs; send more as {}", lines::MEDIA_TYPE);
                    return Err(A::Error::custom(most));
                }
                refs.push(text);
            }
            Ok(refs)
        }
    }

    struct Maybe;

    impl<'de> Visitor<'de> for Maybe {
        type Value = Option<Vec<String>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            Refs.expecting(f)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_seq(Refs).map(Some)
        }
    }

    deserializer.deserialize_option(Maybe)
}

/// What stands beside the refs when these are the body.
#[derive(Debug, Default, PartialEq, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Beside {
    /// With NDJSON: slug of the collection.
    #[param(nullable = false)]
    collection: Option<String>,
    /// With NDJSON: a name for people, 1 to 200 characters other than NUL.
    #[param(nullable = false, min_length = 1, max_length = 200, pattern = r"^[^\u0000]*$")]
    name: Option<String>,
    /// With NDJSON: how many documents to draw at random; with `sample_seed`.
    #[serde(default, deserialize_with = "digits")]
    #[param(nullable = false, minimum = 1, maximum = 9007199254740991_u64)]
    sample_size: Option<u64>,
    /// With NDJSON: the sample's seed.
    #[serde(default, deserialize_with = "digits")]
    #[param(nullable = false, maximum = 9007199254740991_u64)]
    sample_seed: Option<u64>,
}

impl Beside {
    fn sample(&self) -> ApiResult<Option<Draw>> {
        match (self.sample_size, self.sample_seed) {
            (Some(size), Some(seed)) => Ok(Some(Draw { size, seed })),
            (None, None) => Ok(None),
            _ => Err(Problem::new(Kind::InvalidRequest, "sample_size and sample_seed go together")),
        }
    }
}

/// A docset-to-be, but for what its members tell.
pub(super) struct Draft {
    pub(super) owner: KeyId,
    pub(super) collection: CollectionId,
    pub(super) corpus_version: i64,
    pub(super) name: Option<String>,
    pub(super) origin: Origin,
    /// All that are selected, before the sample is drawn.
    pub(super) members: RoaringBitmap,
}

impl Draft {
    /// Draws the sample, and measures the members.
    pub(super) async fn measure(self, app: &App) -> ApiResult<NewDocset> {
        let Self { owner, collection, corpus_version, name, origin, members } = self;
        let members = match origin.sample {
            Some(sample) => draw(app, ClientId::Key(owner), sample, members).await?,
            None => members,
        };
        if members.is_empty() {
            return Err(Problem::new(Kind::EmptyDocset, "nothing is selected; try a query with the search first"));
        }
        let _pass = app.pass(ClientId::Key(owner)).await?;
        let (fingerprint, formats) = store::measure(&*app.store, &members).await?;
        let created = app.clock.now_ms();
        Ok(NewDocset { owner, collection, name, origin, corpus_version, members, fingerprint, formats, created })
    }
}

/// The sample; what it is drawn from needs no ranking where all of it is taken.
pub(super) async fn draw(
    app: &App,
    client: ClientId,
    sample: Sample,
    members: RoaringBitmap,
) -> ApiResult<RoaringBitmap> {
    if members.len() <= sample.size {
        return Ok(members);
    }
    let _pass = app.pass(client).await?;
    let works = store::works(&*app.store, &members).await?;
    Ok(sample.pick(works))
}

/// What was asked for, and the corpus version that it is made from.
type Selected = Result<(RoaringBitmap, i64), SearchError>;

/// Members of a docset-to-be, out of the collection as it stands.
async fn select(app: &App, caller: &Caller, request: &DocsetRequest, collection: Collection) -> ApiResult<Selected> {
    match (&request.query, &request.refs, &request.from) {
        (Some(query), None, None) => {
            let version = collection.corpus_version;
            let (index, query) = (collection.index(), query.read()?);
            let matching = app.search.matching(index, &query);
            let found = run_in_turn(app, ClientId::Key(caller.0.id), index, matching).await?;
            Ok(found.map(|members| (members, version)))
        }
        (None, Some(refs), None) => {
            let mut finder = Finder::new(app, &collection);
            finder.find(refs).await?;
            Ok(Ok((finder.finish()?, collection.corpus_version)))
        }
        (None, None, Some(Combination(operation))) => combine(app, caller, &collection, operation).await.map(Ok),
        _ => Err(Problem::new(Kind::InvalidRequest, "give exactly one of query, refs and from")),
    }
}

async fn combine(
    app: &App,
    caller: &Caller,
    collection: &Collection,
    operation: &SetOperation,
) -> ApiResult<(RoaringBitmap, i64)> {
    let mut docsets: Vec<Docset> = Vec::with_capacity(operation.docsets().len());
    for id in operation.docsets() {
        let docset = find_own(app, caller, id.0).await?;
        if docset.collection != collection.id {
            let detail =
                format!("docset {id} is of the collection {}, not of {}", docset.collection_slug, collection.slug);
            return Err(Problem::new(Kind::InvalidRequest, detail));
        }
        docsets.push(docset);
    }
    let version = docsets.iter().map(|docset| docset.corpus_version).max().unwrap_or_default();
    Ok((operation.combine(docsets.iter().map(|docset| &docset.members)), version))
}

fn selection(request: DocsetRequest, members: &RoaringBitmap) -> Selection {
    match (request.query, request.from) {
        (Some(query), _) => Selection::Query(query),
        (None, Some(Combination(operation))) => Selection::From(operation),
        (None, None) => Selection::Refs(members.len()),
    }
}

fn check_sample(sample: Option<Draw>) -> ApiResult<Option<Sample>> {
    match sample {
        Some(Draw { size: 0, .. }) => Err(Problem::new(Kind::InvalidRequest, "a sample has 1 document at least")),
        sample => Ok(sample.map(Sample::from)),
    }
}

async fn of_request(app: &App, caller: &Caller, mut request: DocsetRequest) -> ApiResult<Docset> {
    check_name(request.name.as_deref())?;
    request.query.as_ref().map_or(Ok(()), check_query)?;
    let sample = check_sample(request.sample)?;
    let asked =
        collections::ask_newest(app, &request.collection, |collection| select(app, caller, &request, collection));
    let (collection, (members, corpus_version)) = asked.await?;
    let name = request.name.take();
    let origin = Origin { selection: selection(request, &members), sample };
    let draft = Draft { owner: caller.0.id, collection: collection.id, corpus_version, name, origin, members };
    Ok(app.store.create_docset(&draft.measure(app).await?).await?)
}

async fn of_lines(app: &App, caller: &Caller, beside: Beside, request: Request) -> ApiResult<Docset> {
    check_name(beside.name.as_deref())?;
    let sample = check_sample(beside.sample()?)?;
    let Some(slug) = beside.collection else {
        return Err(Problem::new(Kind::InvalidRequest, "name the collection: POST /api/docsets?collection=…"));
    };
    let collection = collections::find(app, &slug).await?;
    let mut finder = Finder::new(app, &collection);
    lines::read(request, &mut finder).await?;
    let members = finder.finish()?;
    let draft = Draft {
        owner: caller.0.id,
        collection: collection.id,
        corpus_version: collection.corpus_version,
        name: beside.name,
        origin: Origin { selection: Selection::Refs(members.len()), sample },
        members,
    };
    Ok(app.store.create_docset(&draft.measure(app).await?).await?)
}

/// The answer that shows a new docset.
pub(super) async fn created(app: &App, docset: Docset) -> ApiResult<Response> {
    let location = app.path(&format!("/api/docsets/{}", docset.id));
    let docset = DocsetView::whole(app, docset).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(docset)).into_response())
}

/// Makes a docset of exactly one of `query`, `refs` and `from`, or a sample of it. Refs may come as NDJSON too, up to a million in one request.
#[utoipa::path(post, path = "/api/docsets", operation_id = "createDocset", tag = "docsets", security(("key" = [])), params(Beside),
    request_body(content((DocsetRequest = "application/json"), (lines::RefLine = "application/x-ndjson"))),
    responses((status = 201, description = "The docset", body = DocsetView, headers(("location" = String, description = "The docset"))),
              (status = 404, description = "There is no such collection, or no such docset in `from`"),
              (status = 409, description = "The key has as many docsets as it may"),
              (status = 413, description = "The body has more than 8 MiB; of NDJSON, more than a million refs or 256 MiB"),
              (status = 415, description = "The body is declared as neither JSON nor NDJSON"),
              (status = 422, description = "It would be empty, or refs are unknown")))]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Query(beside): Query<Beside>,
    request: Request,
) -> ApiResult<Response> {
    let docset = if extract::media_type(request.headers()) == lines::MEDIA_TYPE {
        of_lines(&app, &caller, beside, request).await?
    } else if beside == Beside::default() {
        let Json(request) = Json::<DocsetRequest, DOCSET_BODY_LIMIT>::from_request(request, &()).await?;
        of_request(&app, &caller, request).await?
    } else {
        let detail = format!("the query string is for refs as {}; say it in the JSON body", lines::MEDIA_TYPE);
        return Err(Problem::new(Kind::InvalidRequest, detail));
    };
    created(&app, docset).await
}
