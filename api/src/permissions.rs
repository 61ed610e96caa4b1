//! The table of rights: which scope each operation of the contract needs, and the layer that
//! demands it. Which role has which scopes is said at [`Role::scopes`]; whose things a key sees, at
//! [`Caller`]; who may have which files, in [`crate::rights`].

use std::collections::HashMap;
use std::sync::LazyLock;

use adit_shared::domain::{ApiKey, Role, Scope, join_scopes};
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use utoipa::openapi::path::Operation;

use crate::auth::{self, Caller};
use crate::problem::{ApiResult, Kind, Problem};
use crate::state::App;

/// The right that an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    /// None, and no key changes that.
    Public,
    /// None; but a key that is shown must have one of these scopes, for it changes the answer.
    PublicOrOneOf(&'static [Scope]),
    /// Any valid key.
    AnyKey,
    /// A key with one of these scopes.
    OneOf(&'static [Scope]),
}

use Permission::{AnyKey, OneOf, Public, PublicOrOneOf};

/// Every operation of the contract, by its `operationId`. One that has no row is refused.
const PERMISSIONS: &[(&str, Permission)] = &[
    ("listCollections", Public),
    ("getCollection", Public),
    ("getCollectionSchema", Public),
    ("search", PublicOrOneOf(&[Scope::Search])),
    ("getDocument", Public),
    ("getDocumentText", OneOf(&[Scope::DocumentsRead])),
    ("getDocumentFile", OneOf(&[Scope::DocumentsRead])),
    ("listDocsets", OneOf(&[Scope::DocsetsRead])),
    ("getDocset", OneOf(&[Scope::DocsetsRead])),
    ("listMembers", OneOf(&[Scope::DocsetsRead])),
    ("listCatalog", OneOf(&[Scope::DocsetsRead])),
    ("diffDocset", OneOf(&[Scope::DocsetsRead])),
    ("estimatePackage", OneOf(&[Scope::DocsetsRead])),
    ("createDocset", OneOf(&[Scope::DocsetsWrite])),
    ("renameDocset", OneOf(&[Scope::DocsetsWrite])),
    ("deleteDocset", OneOf(&[Scope::DocsetsWrite])),
    ("refreshDocset", OneOf(&[Scope::DocsetsWrite])),
    ("shareDocset", OneOf(&[Scope::DocsetsWrite])),
    // The list holds the links, which are rights themselves.
    ("listShares", OneOf(&[Scope::DocsetsWrite])),
    ("revokeShare", OneOf(&[Scope::DocsetsWrite])),
    ("getShared", OneOf(&[Scope::DocsetsRead])),
    ("followShare", OneOf(&[Scope::DocsetsWrite])),
    ("createPackage", OneOf(&[Scope::PackagesWrite])),
    ("deletePackage", OneOf(&[Scope::PackagesWrite])),
    // It asks for a package, although it is a GET.
    ("dumpDocset", OneOf(&[Scope::PackagesWrite])),
    ("getPackage", OneOf(&[Scope::PackagesRead, Scope::Build])),
    ("followPackage", OneOf(&[Scope::PackagesRead])),
    ("listAssets", OneOf(&[Scope::PackagesRead])),
    ("downloadAsset", OneOf(&[Scope::PackagesRead])),
    ("downloadPackage", OneOf(&[Scope::PackagesRead])),
    // What is erased by it is of no use to anybody.
    ("checkPackage", OneOf(&[Scope::PackagesRead])),
    ("listWithdrawals", OneOf(&[Scope::PackagesRead])),
    // The link is the right; the key that it was made for is checked there.
    ("followLink", Public),
    ("createWatch", OneOf(&[Scope::Watches])),
    ("listWatches", OneOf(&[Scope::Watches])),
    ("getWatch", OneOf(&[Scope::Watches])),
    ("deleteWatch", OneOf(&[Scope::Watches])),
    ("getManifest", OneOf(&[Scope::Build])),
    ("getMe", AnyKey),
    ("getUsage", OneOf(&[Scope::Usage])),
    ("getPublicKeys", Public),
    ("getHealth", Public),
    ("getReadiness", Public),
    // The setting `ADIT_METRICS` says who may; the handler asks it.
    // The settings may open it to everybody; that is asked at the handler.
    ("getMetrics", OneOf(&[Scope::Usage])),
];

impl Permission {
    /// Finds what an operation needs; `None` where the table has no row for it.
    pub(crate) fn of(operation: &Operation) -> Option<Self> {
        Self::named(operation.operation_id.as_deref()?)
    }

    fn named(operation_id: &str) -> Option<Self> {
        PERMISSIONS.iter().find(|(known, _)| *known == operation_id).map(|(_, permission)| *permission)
    }

    /// Tells whether a request without a key is refused.
    pub(crate) fn needs_key(self) -> bool {
        matches!(self, AnyKey | OneOf(_))
    }

    /// Lists the scopes of which a key that is shown must have one; empty: it needs none.
    pub(crate) fn scopes(self) -> &'static [Scope] {
        match self {
            Public | AnyKey => &[],
            PublicOrOneOf(scopes) | OneOf(scopes) => scopes,
        }
    }

    fn demand_scope(self, caller: Option<&ApiKey>) -> ApiResult<()> {
        match caller {
            None if self.needs_key() => Err(auth::missing_key()),
            Some(key) if !self.scopes().is_empty() && !self.scopes().iter().any(|scope| key.has_scope(*scope)) => {
                Err(insufficient_scope(key, self.scopes()))
            }
            _ => Ok(()),
        }
    }
}

/// The operations at each path of the contract, with their rows.
type Operations = HashMap<String, HashMap<Method, Option<Permission>>>;

static OPERATIONS: LazyLock<Operations> = LazyLock::new(|| {
    let paths = crate::openapi().paths.paths.into_iter();
    paths
        .map(|(path, item)| {
            let all = [
                (Method::GET, item.get),
                (Method::POST, item.post),
                (Method::PUT, item.put),
                (Method::PATCH, item.patch),
                (Method::DELETE, item.delete),
            ];
            let there = all.into_iter().filter_map(|(method, operation)| Some((method, operation?)));
            (path, there.map(|(method, operation)| (method, Permission::of(&operation))).collect())
        })
        .collect()
});

/// Refuses requests to the API whose key, or the lack of one, does not give the right that the
/// operation needs. Authentication ([`crate::quota::layer`]) comes before it.
pub(crate) async fn enforce(request: Request, next: Next) -> Response {
    match check_request(&request, &OPERATIONS) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn check_request(request: &Request, operations: &Operations) -> ApiResult<()> {
    // Where no path matches there is nothing to be had.
    let Some(path) = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str) else { return Ok(()) };
    if !path.starts_with("/api/") {
        return Ok(());
    }
    let caller = request.extensions().get::<Caller>().map(|caller| &caller.0);
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    match operations.get(path).map(|methods| methods.get(method)) {
        Some(Some(Some(permission))) => permission.demand_scope(caller),
        // The router answers that the path has no such method.
        Some(None) => Ok(()),
        Some(Some(None)) | None => {
            tracing::error!(path, %method, "no right is named for this operation, so that nobody may use it");
            Err(without_row())
        }
    }
}

fn without_row() -> Problem {
    Problem::new(Kind::Forbidden, "no right is named for this operation; tell the operator")
}

/// Demands what an operation outside of `/api` needs, where no layer has looked for a key.
///
/// # Errors
/// 401 without a valid key, 403 with one that lacks the scope.
pub(crate) async fn demand_outside_api(app: &App, headers: &HeaderMap, operation_id: &str) -> ApiResult<()> {
    let key = auth::authenticate(app, headers).await?;
    Permission::named(operation_id).ok_or_else(without_row)?.demand_scope(key.as_ref())
}

/// Refuses a key that has none of the scopes of which it needs one; names them, and who can give
/// them (RFC 6750, section 3.1).
fn insufficient_scope(key: &ApiKey, needed: &[Scope]) -> Problem {
    let (role, names) = (key.role.as_str(), join_scopes(needed.iter().copied(), " or "));
    let has = |role: &Role| needed.iter().any(|scope| role.scopes().contains(scope));
    let detail = if has(&key.role) {
        let id = key.id;
        format!(
            "this needs the scope {names}, which key {id} was not given; an operator can give it: `adit keys set {id} --scope …`"
        )
    } else {
        let roles: Vec<_> = Role::ALL.iter().filter(|role| has(role)).map(|role| role.as_str()).collect();
        let roles = roles.join(" or ");
        format!(
            "this needs the scope {names}, which no key of role {role} has; ask the operator for a key of role {roles} \
             (`adit keys create NAME --role ROLE`)"
        )
    };
    let challenge = format!(
        "Bearer realm=\"adit\", error=\"insufficient_scope\", scope=\"{}\"",
        join_scopes(needed.iter().copied(), " ")
    );
    let problem = Problem::new(Kind::Forbidden, detail)
        .with("scopes", needed.iter().map(|scope| scope.as_str()).collect::<Vec<_>>());
    match HeaderValue::try_from(challenge) {
        Ok(challenge) => problem.header(header::WWW_AUTHENTICATE, challenge),
        Err(_) => problem,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::body::Body;

    use super::*;

    fn ids() -> BTreeSet<String> {
        let paths = crate::openapi().paths.paths.into_values();
        let all =
            paths.flat_map(|item| [item.get, item.post, item.put, item.patch, item.delete, item.head, item.options]);
        all.flatten().map(|operation| operation.operation_id.unwrap()).collect()
    }

    #[test]
    fn every_operation_of_the_contract_has_one_row_and_every_row_an_operation() {
        let rows: BTreeSet<String> = PERMISSIONS.iter().map(|(id, _)| (*id).to_owned()).collect();
        assert_eq!(rows.len(), PERMISSIONS.len(), "an operation has two rows");
        assert_eq!(rows, ids(), "the right that each needs is named in PERMISSIONS");
        assert!(OPERATIONS.values().flat_map(HashMap::values).all(Option::is_some));
    }

    #[tokio::test]
    async fn an_operation_without_a_row_is_refused() {
        use tower::ServiceExt as _;
        let operations: &'static Operations = Box::leak(Box::new(HashMap::from([
            ("/api/new".to_owned(), HashMap::from([(Method::GET, None)])),
            ("/api/open".to_owned(), HashMap::from([(Method::GET, Some(Public))])),
        ])));
        let ok = || axum::routing::get(async || "here");
        let enforce = move |request: Request, next: Next| async move {
            match check_request(&request, operations) {
                Ok(()) => next.run(request).await,
                Err(problem) => problem.into_response(),
            }
        };
        let router = axum::Router::new()
            .route("/api/new", ok())
            .route("/api/open", ok())
            .route("/api/beside", ok())
            .route("/elsewhere", ok())
            .layer(axum::middleware::from_fn(enforce));
        for (method, path, status) in [
            (Method::GET, "/api/new", 403),
            (Method::HEAD, "/api/new", 403),
            (Method::GET, "/api/open", 200),
            (Method::HEAD, "/api/open", 200),
            (Method::POST, "/api/open", 405),
            (Method::GET, "/api/beside", 403),
            (Method::GET, "/elsewhere", 200),
            (Method::GET, "/api/nowhere", 404),
        ] {
            let request = Request::builder().method(method.clone()).uri(path).body(Body::empty()).unwrap();
            assert_eq!(router.clone().oneshot(request).await.unwrap().status(), status, "{method} {path}");
        }
    }
}
