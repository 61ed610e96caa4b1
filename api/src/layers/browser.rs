//! Browsers: which host names and which origins may use the API, and what an answer may do when a
//! browser shows it.
//!
//! Keys are sent by scripts themselves, never by cookies. What is left to guard is what anybody may
//! ask: a page of a stranger must not search a service that only its visitor can reach, be it
//! across origins or by a name that it lets point here (DNS rebinding).

use std::net::IpAddr;

use adit_shared::config::{CorsOrigins, HttpConfig};
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};
use url::{Host, Url};

use crate::problem::{Kind, Problem};
use crate::state::App;

/// Policy of an answer in a browser: nothing is allowed. Documents are foreign, and HTML or SVG among them
/// would run on our origin.
const NOTHING: &str = "default-src 'none'; sandbox; frame-ancestors 'none'";
/// The pages of the contract are our own scripts and styles; these set styles of elements, and
/// icons as `data:`.
const DOCS: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Answers that balance load or watch the process ask by whatever name they have.
const FOR_ANY_HOST: [&str; 2] = ["/healthz", "/readyz"];

/// Refuses requests to a host that is not this service.
///
/// An address, `localhost`, the host of the public URL and the settings' hosts are; ports are not
/// looked at, as they do not tell one service from another that a page let its name point to.
/// Requests without any host come from no browser.
pub(super) async fn check_host(State(app): State<App>, request: Request, next: Next) -> Response {
    if FOR_ANY_HOST.contains(&request.uri().path()) || names_only_us(&request, &app) {
        return next.run(request).await;
    }
    let detail = "this service is not asked by that name; its operator can list it in ADIT_ALLOWED_HOSTS";
    Problem::new(Kind::MisdirectedRequest, detail).into_response()
}

/// Checks that the target and the `Host` of a request, as far as it has them, name this service.
fn names_only_us(request: &Request, app: &App) -> bool {
    let is_ours = |authority: &str| is_host_ours(authority, &app.settings.public_url, &app.settings.http);
    let mut hosts = request.headers().get_all(header::HOST).iter();
    request.uri().authority().map(Authority::as_str).is_none_or(is_ours)
        && hosts.all(|host| host.to_str().is_ok_and(is_ours))
}

fn is_host_ours(authority: &str, public_url: &Url, config: &HttpConfig) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else { return false };
    let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_public = match public_url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case(&host),
        _ => false,
    };
    // No page can make a name of its own out of an address.
    bare.parse::<IpAddr>().is_ok()
        || host == "localhost"
        || is_public
        || config.allowed_hosts.iter().any(|allowed| allowed == "*" || *allowed == host)
}

/// Lets scripts of the settings' origins use the API. Pages on our own need no leave.
pub(super) fn cors_layer(origins: &CorsOrigins) -> CorsLayer {
    let exposed = ["location", "link", "retry-after", "etag", "x-request-id"];
    let download = ["accept-ranges", "content-disposition", "content-range", "repr-digest"];
    let answers = ["x-total-hits", "x-corpus-version"];
    let limits = ["ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
    let exposed = exposed.into_iter().chain(download).chain(answers).chain(limits).map(HeaderName::from_static);
    let allowed = match origins {
        CorsOrigins::Any => AllowOrigin::any(),
        // They were read as URLs, which are valid in a header.
        CorsOrigins::Only(list) => {
            list.iter().filter_map(|origin| HeaderValue::try_from(origin).ok()).collect::<Vec<_>>().into()
        }
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods(Any)
        .allow_headers([
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
            header::RANGE,
            header::IF_RANGE,
            header::IF_NONE_MATCH,
            HeaderName::from_static(crate::auth::KEY_HEADER),
        ])
        .expose_headers(exposed.collect::<Vec<_>>())
}

/// Tells browsers to take an answer for what it says it is, to run nothing in it, and to name our
/// URLs (which may be links that carry a right) to nobody.
pub(super) async fn restrain_browsers(request: Request, next: Next) -> Response {
    let policy = if request.uri().path().starts_with("/docs") { DOCS } else { NOTHING };
    let mut response = next.run(request).await;
    add_policies(response.headers_mut(), policy);
    response
}

fn add_policies(headers: &mut HeaderMap, policy: &'static str) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_ours_by_its_name_or_as_an_address() {
        let config = HttpConfig { allowed_hosts: vec!["adit".into()], ..HttpConfig::default() };
        let public = Url::parse("https://Adit.example.org/tdm").unwrap();
        let ours = |host: &str| is_host_ours(host, &public, &config);
        for host in [
            "adit.example.org",
            "ADIT.example.org:443",
            "adit.example.org.",
            "localhost:8080",
            "127.0.0.1:8080",
            "192.0.2.7",
            "[::1]:8080",
            "adit:8080",
        ] {
            assert!(ours(host), "{host}");
        }
        for host in [
            "evil.example",
            "adit.example.org.evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "",
            "a b",
            "[::1",
        ] {
            assert!(!ours(host), "{host}");
        }
        let all = HttpConfig { allowed_hosts: vec!["*".into()], ..HttpConfig::default() };
        assert!(is_host_ours("evil.example", &public, &all));
    }
}
