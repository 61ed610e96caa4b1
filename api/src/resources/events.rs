//! `/packages/{id}/events`: a package's states as server-sent events, while the client stays connected.

use std::convert::Infallible;
use std::time::Duration;

use adit_shared::domain::{Package, Scope};
use adit_shared::ids::KeyId;
use async_stream::stream;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::Stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::MissedTickBehavior;

use crate::auth::Caller;
use crate::dispatch;
use crate::extract::Path;
use crate::problem::{ApiResult, Kind, Problem};
use crate::resources::packages::find;
use crate::state::App;
use crate::wire::PackageView;

/// How often the status queue is read for a connected client: packagers report about once a second.
const INTERVAL: Duration = Duration::from_secs(1);

/// An event of the stream: this contract's version describes each event where it cannot describe a stream.
#[derive(Debug, utoipa::ToSchema)]
pub struct StatusEvent {
    /// Always `status`.
    #[schema(pattern = "^status$")]
    pub event: String,
    /// What to send as `Last-Event-ID` when connecting again.
    pub id: String,
    /// A package as JSON.
    #[schema(content_media_type = "application/json")]
    pub data: String,
}

/// Sends `status` events with what `GET /packages/{id}` shows, first at once and then with every change; ends when
/// the package is terminal, or within a second after the key has ended.
#[utoipa::path(get, path = "/api/packages/{id}/events", operation_id = "followPackage", tag = "packages", security(("key" = [])),
    params(("id" = i64, Path), ("last-event-id" = Option<String>, Header, nullable = false, description = "The `id` of the last event that was seen")),
    responses((status = 200, description = "Events named `status`", content_type = "text/event-stream", body = StatusEvent),
              (status = 204, description = "The last event was the one that `Last-Event-ID` names: do not come back")))]
pub async fn events(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let package = dispatch::refresh(&app, find(&app, &caller, id).await?).await?;
    let seen = headers.get("last-event-id").is_some_and(|id| id.as_bytes() == package.sequence.to_string().as_bytes());
    if package.status.is_terminal() && seen {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let Ok(place) = app.limits.streams.clone().try_acquire_owned() else {
        let problem = Problem::new(Kind::Unavailable, "too many event streams are open; poll the package instead");
        return Err(problem.with("part", "event streams").header(header::RETRY_AFTER, HeaderValue::from(5)));
    };
    Ok(Sse::new(follow(app, caller.0.id, package, place)).keep_alive(KeepAlive::default()).into_response())
}

fn follow(
    app: App,
    key: KeyId,
    mut package: Package,
    place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    stream! {
        let _place = place;
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shown = None;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                // The process stops; the client reconnects to another.
                () = app.stop.cancelled() => break,
            }
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
            match next(&app, key, &package).await {
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

/// The package as it is now, for a key that may still see it. The row is read anew: a poll, or
/// another process, may have taken the statuses in.
async fn next(app: &App, key: KeyId, package: &Package) -> ApiResult<Package> {
    let now = app.clock.now_ms();
    if !app.store.key(key).await?.is_some_and(|key| key.may_use(Scope::PackagesRead, now)) {
        return Err(Problem::new(Kind::Unauthorized, "the key that follows the package has ended"));
    }
    let row = app.store.package(package.id, None).await?.ok_or_else(|| Problem::not_found("package"))?;
    dispatch::refresh(app, row).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[tokio::test]
    async fn who_finds_no_place_is_told_what_there_is_none_of() {
        let world = World::new().await;
        let app = world.app().await;
        let package = world.package().await;
        let key = app.store.keys().await.unwrap().remove(0);
        let all = u32::try_from(app.limits.streams.available_permits()).unwrap();
        let _taken = app.limits.streams.acquire_many(all).await.unwrap();
        let refused = events(State(app.clone()), Caller(key), Path(package.id.0), HeaderMap::new()).await;
        let answer = refused.unwrap_err().into_response();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let body = axum::body::to_bytes(answer.into_body(), 1000).await.unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["part"], "event streams");
    }
}
