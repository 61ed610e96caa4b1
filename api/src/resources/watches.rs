//! `/collections/{slug}/watch` and `/watches`: saved queries. What is new of their hits after an import becomes a docset; the importing process sees
//! to that and tells webhooks. Nothing here calls anybody: the process that faces the internet makes no requests that others have worded.

use adit_shared::clock::rfc3339;
use adit_shared::domain::Collection;
use adit_shared::ids::WatchId;
use adit_shared::search::{SearchPage, Sort, Source};
use adit_shared::store::{NewWatch, Notice, NoticeState, Watch};
use adit_shared::webhook::WebhookSecret;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::client::ClientId;
use crate::extract::{Json, Path, Query};
use crate::paging::{Paging, cut, link_next};
use crate::problem::{ApiResult, Kind, Problem};
use crate::resources::collections;
use crate::resources::docsets::{check_name, check_query};
use crate::rights;
use crate::search_turn::run_in_turn;
use crate::state::App;

/// What a cursor of this list is made for.
const LIST: &str = "watches";
/// Most watches of one key: every import asks each of them.
const MOST: u32 = 100;
/// Notices that are shown with a watch.
const NOTICES: u32 = 100;

/// A watch to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchRequest {
    /// What to look for after each import. A text in the query language, or an object of the Elasticsearch query DSL.
    query: Source,
    /// URL (http or https) that is told of what was found, by messages of Standard Webhooks.
    #[schema(format = "uri", max_length = 2000, pattern = "^https?://")]
    webhook: Option<String>,
    /// A name for people, 1 to 200 characters other than NUL.
    #[schema(min_length = 1, max_length = 200, pattern = r"^[^\u0000]*$")]
    name: Option<String>,
}

/// A saved query.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Watch)]
pub struct WatchView {
    /// Its id.
    id: i64,
    /// Absolute URL of this resource.
    #[schema(format = "uri")]
    url: String,
    /// A name for people.
    name: Option<String>,
    /// Slug of its collection.
    collection: String,
    /// The query, as it was given.
    query: Source,
    /// Who is told.
    #[schema(format = "uri")]
    webhook: Option<String>,
    /// When the receiver answered 410, and so is told no more.
    #[schema(format = DateTime)]
    webhook_gone: Option<String>,
    /// The corpus version up to which it has looked.
    corpus_version: i64,
    /// RFC 3339.
    #[schema(format = DateTime)]
    created: String,
}

/// A watch that was just made.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeWatch {
    #[serde(flatten)]
    watch: WatchView,
    /// What signs the messages to the webhook; shown only now.
    secret: Option<String>,
}

/// What a watch has found once.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Notice)]
pub struct NoticeView {
    /// The message's `webhook-id`, the same at each attempt.
    id: String,
    /// Absolute URL of the docset of what was new.
    #[schema(format = "uri")]
    docset: String,
    /// Its size.
    documents: u64,
    /// The corpus version that was looked at.
    corpus_version: i64,
    /// RFC 3339.
    #[schema(format = DateTime)]
    created: String,
    /// How far its delivery is.
    state: NoticeState,
    /// How often it was sent.
    attempts: u32,
    /// When it is sent again, at the earliest.
    #[schema(format = DateTime)]
    next_attempt: Option<String>,
    /// When the receiver took it.
    #[schema(format = DateTime)]
    delivered: Option<String>,
    /// HTTP status of the receiver's last answer.
    status: Option<u16>,
    /// What went wrong with the last attempt.
    problem: Option<String>,
}

/// A watch with what it has found.
#[derive(Debug, Serialize, ToSchema)]
pub struct WatchWithNotices {
    #[serde(flatten)]
    watch: WatchView,
    /// The newest of what it has found, at most 100.
    notices: Vec<NoticeView>,
}

/// A page of watches, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct WatchList {
    watches: Vec<WatchView>,
    /// Cursor of the next page; null on the last.
    next: Option<String>,
}

impl WatchView {
    fn new(app: &App, watch: Watch) -> Self {
        let Watch { id, collection_slug, gone, new } = watch;
        Self {
            id: id.0,
            url: app.url(&format!("/api/watches/{id}")),
            name: new.name,
            collection: collection_slug,
            query: Source::from_stored(&new.query),
            webhook: new.webhook.map(|(url, _)| url),
            webhook_gone: gone.map(rfc3339),
            corpus_version: new.corpus_version,
            created: rfc3339(new.created),
        }
    }
}

impl NoticeView {
    fn new(app: &App, notice: Notice) -> Self {
        Self {
            docset: app.url(&format!("/api/docsets/{}", notice.docset)),
            id: notice.message,
            documents: notice.documents,
            corpus_version: notice.corpus_version,
            created: rfc3339(notice.created),
            state: notice.state,
            attempts: notice.attempts,
            next_attempt: notice.next_attempt.map(rfc3339),
            delivered: notice.delivered.map(rfc3339),
            status: notice.status,
            problem: notice.problem,
        }
    }
}

/// Reads who is to be told, and makes the secret that signs.
fn webhook(app: &App, url: Option<&str>) -> ApiResult<Option<(String, WebhookSecret)>> {
    let Some(url) = url else { return Ok(None) };
    let url = app.settings.webhooks.read(url).map_err(|why| Problem::new(Kind::InvalidWebhook, why.to_string()))?;
    Ok(Some((url.into(), WebhookSecret::new(rand::random::<[u8; 32]>().to_vec()))))
}

/// Watches a collection: after each import, what is new of the query's hits becomes a docset of the caller's.
#[utoipa::path(post, path = "/api/collections/{slug}/watch", operation_id = "createWatch", tag = "watches", security(("key" = [])), params(("slug" = String, Path)),
    request_body = WatchRequest,
    responses((status = 201, description = "The watch, and the secret that signs its messages", body = MadeWatch, headers(("location" = String, description = "The watch"))),
              (status = 409, description = "The key has 100 watches already")))]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    Path(slug): Path<String>,
    Json(request): Json<WatchRequest>,
) -> ApiResult<Response> {
    check_name(request.name.as_deref())?;
    check_query(&request.query)?;
    let webhook = webhook(&app, request.webhook.as_deref())?;
    let query = request.query.read()?;
    let ask = async |collection: Collection| {
        let query = rights::asked_by(Some(&caller.0), &collection, query.clone());
        let page = SearchPage { query: &query, sort: Sort::Relevance, offset: 0, limit: 0, facets: &[] };
        let index = collection.index();
        run_in_turn(&app, ClientId::Key(caller.0.id), index, app.search.search(index, page)).await
    };
    let (collection, _) = collections::ask_newest(&app, &slug, ask).await?;
    let new = NewWatch {
        owner: caller.0.id,
        collection: collection.id,
        name: request.name,
        query: request.query.stored(),
        webhook,
        corpus_version: collection.corpus_version,
        created: app.clock.now_ms(),
    };
    let Some(watch) = app.store.create_watch(&new, MOST).await? else {
        let detail = format!("this key has {MOST} watches already; delete one, or join queries with OR");
        return Err(Problem::new(Kind::TooManyWatches, detail));
    };
    let location = app.path(&format!("/api/watches/{}", watch.id));
    let secret = watch.new.webhook.as_ref().map(|(_, secret)| secret.reveal());
    let made = MadeWatch { watch: WatchView::new(&app, watch), secret };
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(made)).into_response())
}

/// Lists the caller's watches, newest first.
#[utoipa::path(get, path = "/api/watches", operation_id = "listWatches", tag = "watches", security(("key" = [])), params(Paging),
    responses((status = 200, description = "A page of watches", body = WatchList, headers(("link" = String, description = "The next page, as `rel=\"next\"` (RFC 8288)")))))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> ApiResult<(HeaderMap, axum::Json<WatchList>)> {
    let limit = paging.limit()?;
    let before = paging.position::<i64>(LIST)?.map(WatchId);
    let mut watches = app.store.watches(caller.sees(), before, limit + 1).await?;
    let next = cut(LIST, limit, &mut watches, |watch| watch.id.0);
    let headers = link_next(&app, "/api/watches", limit, next.as_deref());
    let watches = watches.into_iter().map(|watch| WatchView::new(&app, watch)).collect();
    Ok((headers, axum::Json(WatchList { watches, next })))
}

/// Shows a watch, with what it has found and how far the messages about that are.
#[utoipa::path(get, path = "/api/watches/{id}", operation_id = "getWatch", tag = "watches", security(("key" = [])), params(("id" = i64, Path)),
    responses((status = 200, description = "The watch", body = WatchWithNotices)))]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
) -> ApiResult<axum::Json<WatchWithNotices>> {
    let watch = app.store.watch(WatchId(id), caller.sees()).await?.ok_or_else(|| Problem::not_found("watch"))?;
    let notices = app.store.notices(watch.id, NOTICES).await?;
    let notices = notices.into_iter().map(|notice| NoticeView::new(&app, notice)).collect();
    Ok(axum::Json(WatchWithNotices { watch: WatchView::new(&app, watch), notices }))
}

/// Deletes a watch. The docsets that it has made stay.
#[utoipa::path(delete, path = "/api/watches/{id}", operation_id = "deleteWatch", tag = "watches", security(("key" = [])), params(("id" = i64, Path)),
    responses((status = 204, description = "Deleted")))]
pub async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<i64>) -> ApiResult<StatusCode> {
    match app.store.delete_watch(WatchId(id), caller.sees()).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Problem::not_found("watch")),
    }
}
