//! `/packages/{id}/events`: a package's states as server-sent events, while the client stays connected.

use std::convert::Infallible;
use std::time::Duration;

use adit_shared::domain::Package;
use async_stream::stream;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;

use crate::auth::Caller;
use crate::dispatch;
use crate::extract::Path;
use crate::problem::{ApiResult, ProblemBody};
use crate::resources::packages::find;
use crate::state::App;
use crate::wire::PackageView;

/// How often the status queue is read for a connected client: packagers report about once a second.
const INTERVAL: Duration = Duration::from_secs(1);

/// Sends `status` events with what `GET /packages/{id}` shows, first at once and then with every change; ends when
/// the package is terminal.
#[utoipa::path(get, path = "/api/packages/{id}/events", tag = "packages", security(("key" = [])), params(("id" = i64, Path)),
    responses((status = 200, description = "Events named `status`", content_type = "text/event-stream", body = String),
              (status = 401, body = ProblemBody, content_type = "application/problem+json"),
              (status = 404, body = ProblemBody, content_type = "application/problem+json"),
              (status = 503, body = ProblemBody, content_type = "application/problem+json")))]
pub async fn events(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
) -> ApiResult<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let package = dispatch::refresh(&app, find(&app, &caller, id).await?).await?;
    Ok(Sse::new(follow(app, package)).keep_alive(KeepAlive::default()))
}

fn follow(app: App, mut package: Package) -> impl Stream<Item = Result<Event, Infallible>> {
    stream! {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut shown = None;
        loop {
            ticks.tick().await;
            if shown.as_ref() != Some(&package) {
                let event = Event::default().event("status").id(package.sequence.to_string());
                match event.json_data(PackageView::new(&app, &package)) {
                    Ok(event) => yield Ok(event),
                    Err(error) => tracing::error!(%error, "a package cannot be shown"),
                }
                shown = Some(package.clone());
            }
            if package.status.is_terminal() {
                break;
            }
            match dispatch::refresh(&app, package.clone()).await {
                Ok(newer) => package = newer,
                // The client reconnects by itself (that is how event sources work) and then gets the problem with its status.
                Err(problem) => {
                    tracing::warn!(?problem, "events end early");
                    break;
                }
            }
        }
    }
}
