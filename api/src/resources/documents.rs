//! `/documents`: metadata and files of one document version.

use adit_shared::domain::{Document, FileRecord, Metric};
use adit_shared::ids::VersionId;
use adit_shared::objects::content_disposition;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;

use crate::accept;
use crate::auth::Caller;
use crate::extract::Path;
use crate::problem::{ApiResult, Kind, Problem};
use crate::rights;
use crate::serve::{Request, Wanted, content_length, send_file};
use crate::state::App;
use crate::wire::DocumentView;

async fn find(app: &App, id: u32) -> ApiResult<Document> {
    let mut documents = app.store.documents(&[VersionId(id)]).await?;
    documents.pop().ok_or_else(|| Problem::not_found("document"))
}

/// Shows a document's metadata and files.
#[utoipa::path(get, path = "/api/documents/{id}", operation_id = "getDocument", tag = "documents", params(("id" = u32, Path)),
    responses((status = 200, description = "The document", body = DocumentView)))]
pub async fn get(State(app): State<App>, Path(id): Path<u32>) -> ApiResult<axum::Json<DocumentView>> {
    let document = find(&app, id).await?;
    let collection = app.store.collection_by_id(document.collection).await?;
    let collection = collection.ok_or_else(|| Problem::not_found("document"))?;
    Ok(axum::Json(DocumentView::new(&app, document, &collection)))
}

fn choose<'a>(document: &'a Document, format: &str) -> ApiResult<&'a FileRecord> {
    // Each version has its metadata as a file at least.
    if document.files.is_empty() {
        let detail =
            format!("version {} of {:?} is superseded, and its files were freed", document.version, document.r#ref);
        return Err(Problem::new(Kind::VersionFreed, detail).with("ref", document.r#ref.as_str()));
    }
    document.files.iter().find(|file| file.format.as_str() == format).ok_or_else(|| {
        let formats: Vec<&str> = document.files.iter().map(|file| file.format.as_str()).collect();
        Problem::new(Kind::NotFound, format!("this document has no {format}; there are: {}", formats.join(", ")))
            .with("formats", formats)
    })
}

/// Sends a file of a document. Where its object is missing although the document has just been read,
/// a sweep may have moved the file in between: then the database is asked for its place once more.
async fn serve(
    app: &App,
    caller: &Caller,
    method: &Method,
    document: &Document,
    format: &str,
    headers: &HeaderMap,
) -> ApiResult<Response> {
    match serve_from_place(app, caller, method, document, format, headers).await {
        Err(problem) if matches!(problem.kind(), Kind::DamagedFile) => {
            let again = find(app, document.id.0).await?;
            if again.files == document.files {
                return Err(problem);
            }
            serve_from_place(app, caller, method, &again, format, headers).await
        }
        answer => answer,
    }
}

/// Sends a file, and charges it: not for a look at its head, nor for what the client has, nor for what was charged to the key today already. So
/// the pieces of one file cost one document, whichever comes first.
async fn serve_from_place(
    app: &App,
    caller: &Caller,
    method: &Method,
    document: &Document,
    format: &str,
    headers: &HeaderMap,
) -> ApiResult<Response> {
    let file = choose(document, format)?;
    rights::check_file(caller, document, &file.format)?;
    let collection = app.store.collection_by_id(document.collection).await?;
    let collection = collection.ok_or_else(|| Problem::not_found("document"))?;
    let mut response = send_file(app, document, file, Request { method, headers }).await?;
    response.headers_mut().extend(rights::tdm_headers(rights::tdm(document, &collection).as_ref()));
    // What publishers wrote is saved, not shown on our origin.
    let file_name = content_disposition(&format!("{}.{}", document.name, file.format));
    response.headers_mut().extend(HeaderValue::try_from(file_name).map(|value| (header::CONTENT_DISPOSITION, value)));
    if method != Method::GET || !response.status().is_success() {
        return Ok(response);
    }
    let (collection, key) = (document.collection, &caller.0);
    let charged = app.quotas().charge_document(key, document.id, &file.format).await?;
    app.usage().count(collection, Some(key.id), Metric::Charged, u64::from(charged));
    if charged || response.status() == StatusCode::OK {
        app.usage().give(collection, key.id, &[document.id.0].into());
    }
    app.usage().count(collection, Some(key.id), Metric::Bytes, content_length(&response));
    Ok(response)
}

/// Gives a document's text; its PDF where `Accept` asks for that.
#[utoipa::path(get, path = "/api/documents/{id}/text", operation_id = "getDocumentText", tag = "documents", params(("id" = u32, Path), Wanted), security(("key" = [])),
    responses((status = 200, description = "The text (or the PDF)", headers(("etag" = String), ("repr-digest" = String)), content((String = "text/plain"), (serde_json::Value = "application/pdf"))),
              (status = 206, description = "The wanted range (of what is not stored compressed)", headers(("etag" = String), ("repr-digest" = String), ("content-range" = String)),
               content((String = "text/plain"), (serde_json::Value = "application/pdf"))),
              (status = 304, description = "Not modified", headers(("etag" = String))),
              (status = 406, description = "Neither text/plain nor application/pdf is accepted"),
              (status = 416), (status = 429)))]
pub async fn text(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<u32>,
    method: Method,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let document = find(&app, id).await?;
    let quality = |media_type| accept::quality(&headers, header::ACCEPT, media_type);
    let format = match (quality("text/plain"), quality("application/pdf")) {
        (text, pdf) if text <= 0.0 && pdf <= 0.0 => {
            return Err(Problem::new(Kind::NotAcceptable, "there are text/plain and application/pdf here"));
        }
        (text, pdf) if pdf > text => "pdf",
        _ => "txt",
    };
    let mut response = serve(&app, &caller, &method, &document, format, &headers).await?;
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    Ok(response)
}

/// Gives a document's file in one format.
#[utoipa::path(get, path = "/api/documents/{id}/files/{format}", operation_id = "getDocumentFile", tag = "documents", security(("key" = [])),
    params(("id" = u32, Path), ("format" = String, Path), Wanted),
    responses((status = 200, description = "The file, in its media type", headers(("etag" = String), ("repr-digest" = String)), content_type = "*/*"),
              (status = 206, description = "The wanted range (of what is not stored compressed)", headers(("etag" = String), ("repr-digest" = String), ("content-range" = String)),
               content_type = "*/*"),
              (status = 304, description = "Not modified", headers(("etag" = String))),
              (status = 416), (status = 429)))]
pub async fn file(
    State(app): State<App>,
    caller: Caller,
    Path((id, format)): Path<(u32, String)>,
    method: Method,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let document = find(&app, id).await?;
    serve(&app, &caller, &method, &document, &format, &headers).await
}

#[cfg(test)]
mod tests;
