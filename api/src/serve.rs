//! Serving stored bytes: ranges (RFC 9110, section 14), entity tags, digests (RFC 9530), downloads, and gzip members as they lie.

use std::ops::Range;

use adit_shared::digest::Sha256;
use adit_shared::domain::{Document, Encoding, FileRecord};
use adit_shared::integrity::FileFault;
use adit_shared::objects::{ObjectStore, content_disposition};
use async_compression::tokio::bufread::GzipDecoder;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio_util::io::{ReaderStream, StreamReader};
use utoipa::IntoParams;

use crate::accept::quality;
use crate::long_answers::LongAnswer;
use crate::problem::{ApiResult, Kind, Problem};
use crate::state::App;

/// The digest of the whole representation, whatever part of it is sent (RFC 9530, section 3).
pub const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
/// How long a presigned URL is good, in seconds: enough to start a download, not to pass it around.
const PRESIGNED_SECONDS: u64 = 900;

/// What is asked of a stored content, beside its place.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// GET, or HEAD, for which nothing is read.
    pub method: &'a Method,
    /// Those that [`Wanted`] tells of.
    pub headers: &'a HeaderMap,
}

impl Request<'_> {
    fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    fn text(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether a range is wanted only of another content than that which `etag` names.
    fn wants_range_of_another(&self, etag: &str) -> bool {
        self.text(header::RANGE).is_some() && self.text(header::IF_RANGE).is_some_and(|tag| tag != etag)
    }
}

/// The headers that [`send`], [`send_download`] and [`send_file`] look at.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it tells the contract; the headers are read where they are needed")]
pub struct Wanted {
    /// One range of bytes (RFC 9110, section 14); others are ignored.
    #[param(rename = "range", nullable = false, example = "bytes=0-1023")]
    range: Option<String>,
    /// The range is wanted only while this is the entity tag; else all of it.
    #[param(rename = "if-range", nullable = false)]
    if_range: Option<String>,
    /// Entity tags of what is known already, or `*`.
    #[param(rename = "if-none-match", nullable = false)]
    if_none_match: Option<String>,
}

/// Bytes as they lie in the store, and how to show them.
#[derive(Debug)]
pub struct Stored<'a> {
    /// Key of the object.
    pub object: &'a str,
    /// Where in the object the content begins.
    pub offset: u64,
    /// Length of the content.
    pub length: u64,
    /// Strong entity tag, with its quotes.
    pub etag: String,
    /// SHA-256 of the content as it is sent, where it is known.
    pub sha256: Option<Sha256>,
    /// Media type.
    pub media_type: &'a str,
}

/// What a `Range` header asks of a content of `length` bytes: `None` where all of it is to be sent (no range, several ranges, another
/// unit, an `If-Range` that does not hold, or a HEAD, for which RFC 9110, section 14.2, knows no ranges).
pub(crate) fn wanted_range(request: Request<'_>, etag: &str, length: u64) -> ApiResult<Option<Range<u64>>> {
    if request.is_head() || request.wants_range_of_another(etag) {
        return Ok(None);
    }
    let Some(spec) = request.text(header::RANGE).and_then(|range| range.strip_prefix("bytes=")) else {
        return Ok(None);
    };
    if spec.contains(',') {
        return Ok(None);
    }
    let outside = || {
        Problem::new(Kind::RangeNotSatisfiable, format!("the content has {length} bytes")).header(
            header::CONTENT_RANGE,
            HeaderValue::try_from(format!("bytes */{length}")).unwrap_or(HeaderValue::from_static("bytes */0")),
        )
    };
    let range = match spec.split_once('-') {
        Some(("", last)) => match byte_position(last) {
            Some(0) => return Err(outside()),
            Some(last) => length.saturating_sub(last)..length,
            None => return Ok(None),
        },
        Some((first, last)) => {
            let Some(first) = byte_position(first) else { return Ok(None) };
            let end = match last {
                "" => length,
                last => match byte_position(last) {
                    Some(last) if last >= first => last.saturating_add(1).min(length),
                    _ => return Ok(None),
                },
            };
            first..end
        }
        None => return Ok(None),
    };
    if range.start >= length { Err(outside()) } else { Ok(Some(range)) }
}

/// Reads a position or a number of bytes: digits alone, however many (RFC 9110, section 14.1.1).
fn byte_position(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn not_modified(headers: &HeaderMap, etag: &str) -> bool {
    let tags = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    tags.flat_map(|value| value.split(',')).map(str::trim).any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

/// `304 Not Modified` when the client already has what `etag` names.
pub fn unless_known(headers: &HeaderMap, etag: &str) -> Option<Response> {
    not_modified(headers, etag).then(|| {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        if let Ok(value) = HeaderValue::try_from(etag) {
            response.headers_mut().insert(header::ETAG, value);
        }
        response
    })
}

fn head(status: StatusCode, stored: &Stored<'_>) -> axum::http::response::Builder {
    let builder = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, stored.media_type)
        .header(header::ETAG, &stored.etag);
    match &stored.sha256 {
        Some(sha256) => builder.header(REPR_DIGEST, format!("sha-256=:{}:", STANDARD.encode(sha256.0))),
        None => builder,
    }
}

/// Finishes an answer whose body is read from the store while it is sent.
fn finish_download(builder: axum::http::response::Builder, body: Body) -> ApiResult<Response> {
    finish(builder.extension(LongAnswer::Download), body)
}

fn finish(builder: axum::http::response::Builder, body: Body) -> ApiResult<Response> {
    builder.body(body).map_err(|error| {
        tracing::error!(%error, "an answer's headers cannot be sent");
        Problem::new(Kind::Internal, "the stored media type or name is not valid in a header")
    })
}

/// Sends bytes as they lie, whole or the wanted range.
pub async fn send(objects: &dyn ObjectStore, stored: Stored<'_>, request: Request<'_>) -> ApiResult<Response> {
    let (object, offset) = (stored.object, stored.offset);
    let read = async |part: Range<u64>| {
        let place = offset + part.start..offset + part.end;
        Ok(Body::from_stream(objects.read(object, Some(place)).await?))
    };
    send_part(&stored, request, read).await
}

/// Sends what is wanted of the bytes that `read` gives.
async fn send_part(
    stored: &Stored<'_>,
    request: Request<'_>,
    read: impl AsyncFnOnce(Range<u64>) -> ApiResult<Body>,
) -> ApiResult<Response> {
    if let Some(response) = unless_known(request.headers, &stored.etag) {
        return Ok(response);
    }
    let range = wanted_range(request, &stored.etag, stored.length)?;
    let (status, part) = match range {
        Some(range) => (StatusCode::PARTIAL_CONTENT, range),
        None => (StatusCode::OK, 0..stored.length),
    };
    let mut builder = head(status, stored)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_LENGTH, part.end - part.start);
    if status == StatusCode::PARTIAL_CONTENT {
        builder =
            builder.header(header::CONTENT_RANGE, format!("bytes {}-{}/{}", part.start, part.end - 1, stored.length));
    }
    if part.is_empty() || request.is_head() {
        return finish(builder, Body::empty());
    }
    finish_download(builder, read(part).await?)
}

/// Hands out a whole object to be saved as `file_name`: from the object store itself, where that has URLs, else from here.
pub async fn send_download(
    objects: &dyn ObjectStore,
    stored: Stored<'_>,
    file_name: &str,
    request: Request<'_>,
) -> ApiResult<Response> {
    if let Some(response) = unless_known(request.headers, &stored.etag) {
        return Ok(response);
    }
    // A URL that is signed for GET refuses HEAD. And an object store knows no entity tags of ours, and sends a range whatever If-Range says:
    // who has a part of something else would join it to this, so that all of this comes from here.
    let from_here = request.is_head() || request.wants_range_of_another(&stored.etag);
    if !from_here && let Some(url) = objects.presign(stored.object, file_name, PRESIGNED_SECONDS).await? {
        let headers = [(header::LOCATION, url), (header::CACHE_CONTROL, "no-store".to_owned())];
        return Ok((StatusCode::FOUND, headers).into_response());
    }
    let mut response = send(objects, stored, request).await?;
    if let Ok(disposition) = HeaderValue::try_from(content_disposition(file_name)) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, disposition);
    }
    Ok(response)
}

/// Sends a document's file, of which nothing leaves that is not what was imported. A gzip member goes out as it lies to a client that takes gzip
/// and wants all of it; others get it decoded, which has no ranges.
pub async fn send_file(app: &App, document: &Document, file: &FileRecord, request: Request<'_>) -> ApiResult<Response> {
    let place = &file.place;
    let stored = Stored {
        object: &place.object,
        offset: place.offset,
        length: place.stored,
        etag: format!("\"{}\"", file.sha256),
        sha256: Some(file.sha256),
        media_type: &file.media_type,
    };
    let read = async |part: Range<u64>| read_checked(app, document, file, part).await;
    if file.encoding == Encoding::Identity {
        return send_part(&stored, request, async |part| Ok(Body::from_stream(read(part).await?))).await;
    }
    if takes_gzip(request.headers) && !request.headers.contains_key(header::RANGE) {
        // Of the coded bytes, which are what a digest would be of here, no hash is kept.
        let coded = Stored { etag: format!("\"{}-gzip\"", file.sha256), sha256: None, ..stored };
        let mut response = send_part(&coded, request, async |part| Ok(Body::from_stream(read(part).await?))).await?;
        response.headers_mut().remove(header::ACCEPT_RANGES);
        if response.status() == StatusCode::OK {
            response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        return Ok(response);
    }
    if let Some(response) = unless_known(request.headers, &stored.etag) {
        return Ok(response);
    }
    let builder = head(StatusCode::OK, &stored)
        .header(header::CONTENT_LENGTH, file.size)
        .header(header::ACCEPT_RANGES, "none")
        .header(header::VARY, "accept-encoding");
    if request.is_head() {
        return finish(builder, Body::empty());
    }
    let decoder = GzipDecoder::new(StreamReader::new(read(0..place.stored).await?));
    finish_download(builder, Body::from_stream(ReaderStream::with_capacity(decoder, 64 * 1024)))
}

/// Reads a part of a file's stored bytes.
async fn read_checked(
    app: &App,
    document: &Document,
    file: &FileRecord,
    part: Range<u64>,
) -> ApiResult<BoxStream<'static, std::io::Result<Bytes>>> {
    let problem = |fault| match fault {
        FileFault::Damaged(damage) => Problem::damaged_file(document, file, damage),
        FileFault::Store(error) => error.into(),
    };
    let files = app.checked_files();
    let checked = files.open(&app.objects, file).await.map_err(problem)?;
    let bytes = files.read(&app.objects, &checked, part).await.map_err(problem)?;
    Ok(bytes.map_err(std::io::Error::other).boxed())
}

/// How many bytes an answer has, by its own word.
pub fn content_length(response: &Response) -> u64 {
    let length = response.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    length.unwrap_or(0)
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ACCEPT_ENCODING) && quality(headers, header::ACCEPT_ENCODING, "gzip") > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &Method, headers: &HeaderMap, length: u64) -> ApiResult<Option<Range<u64>>> {
        wanted_range(Request { method, headers }, "\"x\"", length)
    }

    fn range(spec: &str, length: u64) -> Result<Option<Range<u64>>, StatusCode> {
        let headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::try_from(spec).unwrap())]);
        asked(&Method::GET, &headers, length).map_err(|problem| problem.into_response().status())
    }

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        assert_eq!(range("bytes=0-0", 10), Ok(Some(0..1)));
        assert_eq!(range("bytes=5-", 10), Ok(Some(5..10)));
        assert_eq!(range("bytes=5-99", 10), Ok(Some(5..10)));
        assert_eq!(range("bytes=-3", 10), Ok(Some(7..10)));
        assert_eq!(range("bytes=-30", 10), Ok(Some(0..10)));
        for unsatisfiable in ["bytes=10-", "bytes=-0", "bytes=10-20"] {
            assert_eq!(range(unsatisfiable, 10), Err(StatusCode::RANGE_NOT_SATISFIABLE), "{unsatisfiable}");
        }
        for ignored in ["bytes=5-2", "bytes=a-b", "lines=1-2", "bytes=0-1,3-4", "bytes=", "bytes=3", "bytes=+5-"] {
            assert_eq!(range(ignored, 10), Ok(None), "{ignored}");
        }
        assert_eq!(range("bytes=5-99999999999999999999", 10), Ok(Some(5..10)), "more digits than a u64 has");
        assert_eq!(range("bytes=99999999999999999999-", 10), Err(StatusCode::RANGE_NOT_SATISFIABLE));
        assert_eq!(range("bytes=0-", 0), Err(StatusCode::RANGE_NOT_SATISFIABLE));
    }

    #[test]
    fn if_range_with_another_tag_gives_the_whole() {
        let mut headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static("bytes=1-"))]);
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"y\""));
        assert_eq!(asked(&Method::GET, &headers, 10).unwrap(), None);
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"x\""));
        assert_eq!(asked(&Method::GET, &headers, 10).unwrap(), Some(1..10));
        assert_eq!(asked(&Method::HEAD, &headers, 10).unwrap(), None, "a HEAD has no ranges");
    }

    #[test]
    fn gzip_is_sent_only_to_those_who_take_it() {
        let takes = |value: &'static str| {
            takes_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        assert!(takes("gzip") && takes("br, gzip;q=0.5") && takes("*"));
        assert!(!takes("br") && !takes("gzip;q=0") && !takes("gzip;q=0, *") && !takes("identity"));
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
