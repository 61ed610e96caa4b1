//! Means that a request may use while it is answered: a reserved connection, and memory for its
//! body.

use adit_shared::domain::Role;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::auth::Caller;
use crate::client::ClientId;
use crate::listener::ReservedConnection;
use crate::problem::{Kind, Problem};
use crate::state::App;

/// Pages that are answered on reserved places to everybody; the last of them asks for a key by
/// itself.
const ON_RESERVED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Refuses everybody but operators and packagers on a reserved place.
pub(super) async fn keep_reserve(request: Request, next: Next) -> Response {
    if request.extensions().get::<ReservedConnection>().is_none() || may_use_reserve(&request) {
        return next.run(request).await;
    }
    Problem::new(Kind::TooManyConnections, "all connections are in use, or all of your address; try again later")
        .header(header::RETRY_AFTER, HeaderValue::from_static("5"))
        .into_response()
}

fn may_use_reserve(request: &Request) -> bool {
    let caller = request.extensions().get::<Caller>();
    ON_RESERVED.contains(&request.uri().path())
        || caller.is_some_and(|caller| matches!(caller.0.role, Role::Operator | Role::Packager))
}

/// Opens the account of the memory that the request's body takes; it is closed when the request is
/// answered.
pub(super) async fn account_body(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let account = app.limits.bodies.open_account(ClientId::of_request(request.extensions()));
    request.extensions_mut().insert(account.clone());
    let response = next.run(request).await;
    account.hold_nothing();
    response
}
