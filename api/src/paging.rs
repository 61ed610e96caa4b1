//! Pages: `limit` and `cursor` in the query, `next` in the body, RFC 8288 `Link` in the header.

use axum::http::{HeaderMap, HeaderValue, header};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use crate::problem::{ApiResult, Kind, Problem};
use crate::state::App;

/// Most entries on one page.
pub const MAX_LIMIT: u32 = 1000;

/// Parameters of a paged list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Paging {
    /// Entries on a page, 1 to 1000 (default 100).
    #[param(minimum = 1, maximum = 1000, default = 100)]
    pub limit: Option<u32>,
    /// Where to go on: `next` of the page before.
    pub cursor: Option<String>,
}

impl Paging {
    /// The limit, checked.
    pub fn limit(&self) -> ApiResult<u32> {
        match self.limit.unwrap_or(100) {
            limit @ 1..=MAX_LIMIT => Ok(limit),
            other => Err(Problem::new(Kind::InvalidRequest, format!("limit must be 1 to {MAX_LIMIT}, not {other}"))),
        }
    }

    /// What the cursor says, if there is one; it must have been made for the same `list`.
    pub fn position<T: DeserializeOwned>(&self, list: &str) -> ApiResult<Option<T>> {
        self.cursor.as_deref().map(|cursor| read_cursor(list, cursor)).transpose()
    }
}

/// Cuts what was found, one more than `limit` was asked for, to a page; the next page's cursor, if there is one, made of the position of the last entry.
pub fn cut<T, P: Serialize>(list: &str, limit: u32, found: &mut Vec<T>, position: impl Fn(&T) -> P) -> Option<String> {
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    found.last().filter(|_| more).map(|last| write_cursor(list, &position(last)))
}

/// Makes an opaque cursor of a list.
#[must_use]
pub fn write_cursor<T: Serialize>(list: &str, position: &T) -> String {
    // Positions are plain structs of numbers and texts: they always serialise.
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&(list, position)).unwrap_or_default())
}

/// Reads a cursor of the same list back.
pub fn read_cursor<T: DeserializeOwned>(list: &str, cursor: &str) -> ApiResult<T> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok();
    let read = bytes.and_then(|bytes| serde_json::from_slice::<(String, T)>(&bytes).ok());
    read.filter(|(made_for, _)| made_for == list).map(|(_, position)| position).ok_or_else(|| {
        Problem::new(Kind::InvalidCursor, "use `next` of the page before as it is, or leave `cursor` out to start anew")
    })
}

/// The `Link` header of a page that has a next one; `path` may have a query string.
#[must_use]
pub fn link_next(app: &App, path: &str, limit: u32, next: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mark = if path.contains('?') { '&' } else { '?' };
    let link = next.map(|next| format!("<{}{mark}limit={limit}&cursor={next}>; rel=\"next\"", app.url(path)));
    if let Some(Ok(link)) = link.map(HeaderValue::try_from) {
        headers.insert(header::LINK, link);
    }
    headers
}
