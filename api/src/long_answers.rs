//! Answers that go on for as long as their clients read: lines of NDJSON and CSV, and files and
//! archives that are sent from here. No client has more than its share of them at one time, so that
//! slow readers of one client hold up its own requests only.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;

use crate::client::ClientId;
use crate::fair_pool::FairPermit;
use crate::problem::Problem;
use crate::state::App;

/// Marks an answer, in its extensions, as one that goes on for long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LongAnswer {
    /// Many lines, each read from the database.
    Lines,
    /// Stored bytes.
    Download,
}

/// Holds a place of the client's share for each marked answer, until its body has been read or the
/// client is gone. Who has its share waits until one of its other answers ends.
pub(crate) async fn layer(State(app): State<App>, request: Request, next: Next) -> Response {
    let client = ClientId::of_request(request.extensions());
    let response = next.run(request).await;
    let (pool, what) = match response.extensions().get::<LongAnswer>() {
        Some(LongAnswer::Lines) => (&app.limits.lines, "long answers"),
        Some(LongAnswer::Download) => (&app.limits.downloads, "downloads"),
        None => return response,
    };
    match pool.acquire(client).await {
        Ok(place) => hold_until_sent(response, place),
        Err(full) => Problem::no_place(full, what).into_response(),
    }
}

/// Holds a place until the body of an answer has been read or the client is gone.
pub(crate) fn hold_until_sent(response: Response, place: FairPermit) -> Response {
    response.map(|body| {
        Body::from_stream(body.into_data_stream().inspect(move |_| {
            let _held = &place;
        }))
    })
}
