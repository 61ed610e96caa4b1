//! Turns of searches: as many work at once as there are cores, no client has all places, and those in line are served
//! by turns of clients, not of requests.

use std::time::Duration;

use adit_shared::ids::IndexId;
use adit_shared::search::SearchResult;
use axum::http::{HeaderValue, header};
use tokio::time::Instant;

use crate::client::ClientId;
use crate::fair_pool::{FairPermit, PoolFull};
use crate::problem::{ApiResult, Kind, Problem};
use crate::state::App;

/// Longest time in line: by then others have had their turns many times over.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
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
/// [`Kind::TooManyRequests`] for a client that has too many in line, or without a key no time left for searches;
/// [`Kind::Unavailable`] where the line is full, or does not come on. The inner result is the search's.
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
    match tokio::time::timeout(LONGEST_WAIT, app.limits.searches.acquire(client)).await {
        Ok(Ok(permit)) => Ok(SearchTurn { app, client, since: Instant::now(), _permit: permit }),
        Ok(Err(PoolFull::OfClient)) => {
            let detail = "too many of your searches wait already; send the next one when one is answered";
            Err(Problem::new(Kind::TooManyRequests, detail).header(header::RETRY_AFTER, RETRY_AFTER))
        }
        Ok(Err(PoolFull::OfAll)) | Err(_) => {
            Err(Problem::new(Kind::Unavailable, "the search has too much to do; try again later")
                .with("part", "search")
                .header(header::RETRY_AFTER, RETRY_AFTER))
        }
    }
}
