//! `/packages/{id}/events`: a package's states as server-sent events, while the client stays connected.

use std::convert::Infallible;
use std::time::Duration;

use adit_shared::domain::{Package, Scope};
use adit_shared::ids::KeyId;
use async_stream::stream;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::Stream;
use tokio::time::MissedTickBehavior;

use crate::auth::Caller;
use crate::dispatch;
use crate::extract::Path;
use crate::fair_pool::FairPermit;
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
              (status = 204, description = "The last event was the one that `Last-Event-ID` names: do not come back"),
              (status = 429, description = "The key has as many streams open as it may: poll the package instead")))]
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
    let place = app.limits.streams.try_acquire(caller.client());
    let place = place.map_err(|full| Problem::no_place(full, "event streams"))?;
    Ok(Sse::new(follow(app, caller.0.id, package, place)).keep_alive(KeepAlive::default()).into_response())
}

fn follow(
    app: App,
    key: KeyId,
    mut package: Package,
    place: FairPermit,
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
    use adit_shared::ids::KeyId;
    use serde_json::json;

    use super::*;
    use crate::client::ClientId;
    use crate::testing::World;

    #[tokio::test]
    async fn one_key_has_its_share_of_the_streams_and_leaves_the_others_theirs() {
        let world = World::new().await;
        let app = world.app().await;
        let package = world.package().await;
        let owner = app.store.keys().await.unwrap().remove(0);
        let open = || events(State(app.clone()), Caller(owner.clone()), Path(package.id.0), HeaderMap::new());
        let mut streams = Vec::new();
        let refused = loop {
            match open().await {
                Ok(stream) => streams.push(stream),
                Err(problem) => break problem.into_response(),
            }
        };
        assert_eq!((streams.len(), refused.status()), (20, StatusCode::TOO_MANY_REQUESTS));
        assert!(refused.headers().contains_key("retry-after"));
        let body = axum::body::to_bytes(refused.into_body(), 1000).await.unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (&problem["type"], &problem["part"]),
            (&json!("urn:adit:problem:too-many-requests"), &json!("event streams"))
        );

        let others: Vec<_> = (100..280).map(|key| app.limits.streams.try_acquire(ClientId::Key(KeyId(key)))).collect();
        assert!(others.iter().all(Result::is_ok), "180 places are there for others");
        drop(streams);
        assert!(open().await.is_ok(), "what was closed is free again");
    }
}
