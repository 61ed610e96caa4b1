//! Turns of searches: as many work at once as there are cores, no client has all places, and those
//! in line are served by turns of clients, not of requests.

use std::sync::Arc;
use std::time::Duration;

use adit_shared::ids::IndexId;
use adit_shared::search::SearchResult;
use axum::http::{HeaderValue, header};
use tokio::time::Instant;

use crate::client::ClientId;
use crate::fair_pool::{FairPermit, FairPool, PoolFull};
use crate::problem::{ApiResult, Kind, Problem};
use crate::state::App;

/// Longest time in line: by then others have had their turns many times over.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// Hits of an answer that takes no place: some hundred kilobytes.
const SMALL_ANSWER: usize = 10_000;
/// Seconds after which a search that got no place may be tried again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// Place of a search that works, and the measure of its time.
struct SearchTurn<'a> {
    app: &'a App,
    client: ClientId,
    since: Instant,
    _permit: FairPermit,
}

impl Drop for SearchTurn<'_> {
    fn drop(&mut self) {
        // Also of a search whose client has gone: it has worked.
        if !matches!(self.client, ClientId::Key(_)) {
            let now = self.app.clock.now_ms();
            self.app.anonymous().count_search(self.client, self.since.elapsed(), now);
        }
    }
}

/// Runs a search of an index when it is its client's turn.
///
/// # Errors
/// [`Kind::TooManyRequests`] for a client that has too many in line, or without a key no time left
/// for searches; [`Kind::Unavailable`] where the line is full, or does not come on. The inner
/// result is the search's.
pub(crate) async fn run_in_turn<T>(
    app: &App,
    client: ClientId,
    index: IndexId,
    search: impl Future<Output = SearchResult<T>>,
) -> ApiResult<SearchResult<T>> {
    if !matches!(client, ClientId::Key(_)) {
        app.anonymous().check_search(client, app.clock.now_ms())?;
    }
    // A large index that has to be fetched takes no place from others meanwhile.
    if let Err(error) = app.search.prepare(index).await {
        return Ok(Err(error));
    }
    let _turn = take_turn(app, client).await?;
    Ok(search.await)
}

async fn take_turn(app: &App, client: ClientId) -> ApiResult<SearchTurn<'_>> {
    let permit = wait_for_place(&app.limits.searches, client).await?;
    Ok(SearchTurn { app, client, since: Instant::now(), _permit: permit })
}

/// Takes a place for a page of many hits, which are in memory until the client has read them.
///
/// # Errors
/// As [`run_in_turn`].
pub(crate) async fn take_page_place(app: &App, client: ClientId) -> ApiResult<FairPermit> {
    wait_for_place(&app.limits.pages, client).await
}

async fn wait_for_place(pool: &Arc<FairPool>, client: ClientId) -> ApiResult<FairPermit> {
    let place = tokio::time::timeout(LONGEST_WAIT, pool.acquire(client)).await;
    place.unwrap_or(Err(PoolFull::OfAll)).map_err(refuse_place)
}

/// Takes a place for an answer of so many hits, which are kept until the client has read them; `None` of small ones.
///
/// # Errors
/// As [`run_in_turn`]; nobody waits for such a place, since the hits are there already.
pub(crate) fn take_answer_place(app: &App, client: ClientId, hits: usize) -> ApiResult<Option<FairPermit>> {
    if hits <= SMALL_ANSWER {
        return Ok(None);
    }
    app.limits.answers.try_acquire(client).map(Some).map_err(refuse_place)
}

fn refuse_place(full: PoolFull) -> Problem {
    let problem = match full {
        PoolFull::OfClient => {
            let detail = "this client has too many searches under way; send the next one when one is answered";
            Problem::new(Kind::TooManyRequests, detail)
        }
        PoolFull::OfAll => {
            let detail = "the search has too much to do; try again later";
            Problem::new(Kind::Unavailable, detail).with("part", "search")
        }
    };
    problem.header(header::RETRY_AFTER, RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use adit_shared::ids::KeyId;
    use adit_shared::store::Store as _;
    use futures::stream::FuturesUnordered;
    use futures::{FutureExt as _, StreamExt as _};
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::http::{MINER, NOBODY, STRANGER, Server};

    const SEARCH: &str = "/api/collections/papers/search";

    async fn server() -> Server {
        let server = Server::new().await;
        server.import("papers", &[("a", json!({"title": "Soil"}), &[("txt", "soil")])]).await;
        server
    }

    async fn client_of(server: &Server, key: &str) -> ClientId {
        let keys = server.world.store.keys().await.unwrap();
        ClientId::Key(keys.into_iter().find(|known| known.name == key).unwrap().id)
    }

    #[tokio::test]
    async fn a_client_waits_behind_its_own_searches_and_others_do_not() {
        let server = server().await;
        let (pool, miner) = (server.app.limits.searches.clone(), client_of(&server, MINER).await);
        let held: Vec<FairPermit> = std::iter::from_fn(|| pool.try_acquire(miner).ok()).collect();
        let body = json!({"query": "soil"});
        let mut waiting: FuturesUnordered<_> = (0..16).map(|_| server.post(MINER, SEARCH, &body)).collect();
        while pool.in_line() < 16 {
            assert!(waiting.next().now_or_never().is_none(), "the client has its share of places");
            tokio::task::yield_now().await;
        }
        let refused = server.post(MINER, SEARCH, &body).await;
        assert_eq!(refused.json(429)["type"], "urn:adit:problem:too-many-requests");
        assert_eq!(refused.header("retry-after"), Some("5"));
        assert_eq!(server.post(STRANGER, SEARCH, &body).await.json(200)["hits"], 1);
        // A docset by query is a search, too.
        let docset = json!({"collection": "papers", "query": "soil"});
        assert_eq!(server.post(MINER, "/api/docsets", &docset).await.status, 429);
        assert_eq!(server.post(MINER, "/api/collections/papers/watch", &body).await.status, 429);
        drop(held);
        while let Some(answer) = waiting.next().await {
            assert_eq!(answer.json(200)["hits"], 1);
        }
        assert_eq!((pool.taken(), pool.in_line()), (0, 0));
    }

    #[tokio::test]
    async fn where_the_line_is_full_the_search_is_said_to_be_busy() {
        let server = server().await;
        let pool = server.app.limits.searches.clone();
        let client = |n: i64| ClientId::Key(KeyId(1000 + n));
        let held: Vec<FairPermit> = (0..).map_while(|n| pool.try_acquire(client(n)).ok()).collect();
        let mut waiting: FuturesUnordered<_> = (0..64).map(|n| pool.acquire(client(n))).collect();
        assert!(waiting.next().now_or_never().is_none() && pool.in_line() == 64);
        let busy = server.post(NOBODY, SEARCH, &json!({"query": "soil"})).await;
        assert_eq!(busy.json(503)["part"], "search");
        assert_eq!(busy.header("retry-after"), Some("5"));
        drop((held, waiting));
        assert_eq!(server.post(NOBODY, SEARCH, &json!({"query": "soil"})).await.status, 200);
    }

    #[tokio::test]
    async fn pages_of_many_hits_have_places_and_small_ones_need_none() {
        let server = Server::new().await;
        let names: Vec<String> = (0..101).map(|number| number.to_string()).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), json!({"title": "Soil"}), &[][..])).collect();
        server.import("papers", &many).await;
        let pool = server.app.limits.pages.clone();
        let miner = client_of(&server, MINER).await;
        let held: Vec<FairPermit> = std::iter::from_fn(|| pool.try_acquire(miner).ok()).collect();
        let page = |limit: u32| json!({"query": "soil", "limit": limit});
        let large = page(101);
        let mut waiting = std::pin::pin!(server.post(MINER, SEARCH, &large));
        while pool.in_line() == 0 {
            assert!(waiting.as_mut().now_or_never().is_none(), "the client has its share of places");
            tokio::task::yield_now().await;
        }
        let small = server.post(MINER, SEARCH, &page(100)).await.json(200);
        assert_eq!(small["documents"].as_array().unwrap().len(), 100);
        let others = server.post(STRANGER, SEARCH, &large).await.json(200);
        assert_eq!(others["documents"].as_array().unwrap().len(), 101);
        drop(held);
        assert_eq!(waiting.await.json(200)["hits"], 101);
        assert_eq!((pool.taken(), pool.in_line()), (0, 0));
    }

    #[tokio::test]
    async fn callers_without_a_key_have_an_allowance_and_keys_do_not_share_it() {
        let server = server().await;
        let (allowance, now) = (server.app.anonymous(), server.app.clock.now_ms());
        let body = json!({"query": "soil"});
        assert_eq!(server.post(NOBODY, SEARCH, &body).await.status, 200);
        allowance.count_search(ClientId::Unknown, Duration::from_secs(45), now);
        let refused = server.post(NOBODY, SEARCH, &body).await;
        assert_eq!(refused.json(429)["type"], "urn:adit:problem:too-many-requests");
        assert!(refused.header("retry-after").unwrap().parse::<u32>().unwrap() >= 30);
        assert_eq!(server.get(NOBODY, "/api/collections").await.status, 200, "what is no search is served");
        assert_eq!(server.post(MINER, SEARCH, &body).await.status, 200);
        while allowance.take_request(ClientId::Unknown, now).is_ok() {}
        for key in [NOBODY, "wrong"] {
            assert_eq!(server.get(key, "/api/collections").await.status, 429, "{key}");
        }
        assert_eq!(server.get(MINER, "/api/collections").await.status, 200);
        assert_eq!(server.get(NOBODY, "/healthz").await.status, 200, "the service's own pages are not counted");
        server.world.clock.advance(120_000);
        assert_eq!(server.post(NOBODY, SEARCH, &body).await.status, 200);
    }

    #[tokio::test]
    async fn bombs_are_refused_with_what_to_write_less_of() {
        let server = server().await;
        let words = |count: usize, word: &str| vec![word; count].join(" ");
        let similar: Vec<String> = (0..60).map(|at| format!("{}{at}~2", "x".repeat(10))).collect();
        for (query, most) in [
            (json!(format!("text:\"{}\"~50", words(3000, "a"))), "64 words"),
            (json!({"match_phrase": {"text": words(40_000, "a")}}), "64 words"),
            (json!(format!("text:{}~2", "x".repeat(250))), "32 letters"),
            (json!(format!("text:({})", similar.join(" OR "))), "16 words"),
        ] {
            let refused: Value = server.post(NOBODY, SEARCH, &json!({"query": query})).await.json(400);
            assert_eq!(refused["type"], "urn:adit:problem:invalid-query");
            assert!(refused["detail"].as_str().unwrap().contains(most), "{refused}");
        }
    }
}
