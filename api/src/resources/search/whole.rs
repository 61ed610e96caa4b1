//! A whole answer, streamed: as NDJSON, each line what a page of JSON has in `documents`, or as CSV (RFC 4180) for spreadsheets.

use adit_packager::manifest;
use adit_shared::domain::{Collection, Document};
use adit_shared::search::Hit;
use adit_shared::spreadsheet::CsvRows;
use adit_shared::store::{StoreError, StoreResult};
use async_stream::try_stream;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::stream::BoxStream;
use serde_json::Value;

use super::{HitView, documents};
use crate::accept;
use crate::fair_pool::FairPermit;
use crate::state::App;
use crate::wire::DocumentView;

/// Documents that are read, and leave, at once.
const CHUNK: usize = 250;

/// The columns of CSV. New ones are added at the end.
const COLUMNS: [&str; 17] = [
    "id",
    "ref",
    "version",
    "url",
    "score",
    "title",
    "creator",
    "issued",
    "publisher",
    "isPartOf",
    "type",
    "language",
    "subject",
    "identifier",
    "license",
    "formats",
    "abstract",
];

/// What lies between the values of a list in one cell of CSV. Names have commas in them.
const BETWEEN: &str = "; ";

/// How the lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Ndjson,
    Csv,
}

impl Form {
    fn media_type(self) -> &'static str {
        match self {
            Self::Ndjson => manifest::MEDIA_TYPE,
            Self::Csv => "text/csv",
        }
    }
}

/// The form in which the client wants all hits in lines; `None` if it wants a page of JSON, or anything.
pub(super) fn form(headers: &HeaderMap) -> Option<Form> {
    let preference = |media_type| accept::preference(headers, header::ACCEPT, media_type);
    let better = |form: &Form| preference(form.media_type()) > preference("application/json");
    let ndjson = Some(Form::Ndjson).filter(better);
    let csv = Some(Form::Csv).filter(better);
    match (ndjson, csv) {
        (Some(_), Some(_)) if preference(Form::Csv.media_type()) > preference(Form::Ndjson.media_type()) => csv,
        (None, csv) => csv,
        (ndjson, _) => ndjson,
    }
}

/// What the headers say of an answer, since lines have no place for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct About {
    pub(super) total: usize,
    pub(super) corpus_version: i64,
}

/// Streams the hits' documents. The hits are in memory, of the documents one chunk; no connection to the database is held while the client
/// is slow. An error on the way breaks the connection off, so that nobody takes a part for all.
/// The place is held until then.
pub(super) fn answer(
    app: &App,
    collection: Collection,
    (hits, place): (Vec<Hit>, Option<FairPermit>),
    form: Form,
    about: About,
) -> Response {
    let app = app.clone();
    let chunks = try_stream! {
        let _place = place;
        if form == Form::Csv {
            yield csv_lines([COLUMNS.map(str::to_owned)])?;
        }
        for hits in hits.chunks(CHUNK) {
            let found = documents(&app, hits).await?;
            let views = found.into_iter().map(|(hit, document)| view(&app, &collection, hit, document));
            yield match form {
                Form::Ndjson => json_lines(views)?,
                Form::Csv => csv_lines(views.map(|view| row(&view)))?,
            };
        }
    };
    let chunks: BoxStream<'static, StoreResult<Bytes>> = Box::pin(chunks);
    let mut response = Body::from_stream(chunks).into_response();
    let content_type = match form {
        Form::Ndjson => manifest::MEDIA_TYPE,
        Form::Csv => "text/csv; charset=utf-8; header=present",
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(HeaderName::from_static("x-total-hits"), HeaderValue::from(about.total));
    headers.insert(HeaderName::from_static("x-corpus-version"), HeaderValue::from(about.corpus_version));
    response
}

fn view(app: &App, collection: &Collection, hit: Hit, document: Document) -> HitView {
    HitView { score: hit.score, document: DocumentView::new(app, document, collection), snippets: None }
}

fn json_lines(hits: impl Iterator<Item = HitView>) -> StoreResult<Bytes> {
    let mut lines = Vec::new();
    for hit in hits {
        lines.extend(manifest::line(&hit).map_err(|error| StoreError::Corrupt(error.to_string()))?);
    }
    Ok(lines.into())
}

fn csv_lines(rows: impl IntoIterator<Item = [String; COLUMNS.len()]>) -> StoreResult<Bytes> {
    let unwritable = |error: csv::Error| StoreError::Corrupt(format!("a row of CSV: {error}"));
    let mut written = CsvRows::default();
    for row in rows {
        written.push(row.iter().map(String::as_str)).map_err(unwritable)?;
    }
    written.into_bytes().map(Bytes::from).map_err(unwritable)
}

fn row(hit: &HitView) -> [String; COLUMNS.len()] {
    let document = &hit.document;
    COLUMNS.map(|column| match column {
        "id" => document.id.to_string(),
        "ref" => document.r#ref.clone(),
        "version" => document.version.to_string(),
        "url" => document.url.clone(),
        "score" => hit.score.map(|score| score.to_string()).unwrap_or_default(),
        "license" => document.license.clone().unwrap_or_default(),
        "formats" => document.files.iter().map(|file| file.format.as_str()).collect::<Vec<_>>().join(BETWEEN),
        term => document.metadata.get(term).map(cell).unwrap_or_default(),
    })
}

/// A value of metadata as text.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(BETWEEN),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_are_for_those_who_name_them() {
        let form = |accept| form(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]));
        assert_eq!(super::form(&HeaderMap::new()), None);
        for page in ["*/*", "application/json", "application/json, text/csv", "text/csv;q=0.5, */*", "image/png"] {
            assert_eq!(form(page), None, "{page}");
        }
        for csv in ["text/csv", "text/csv, */*", "application/x-ndjson;q=0.5, text/csv"] {
            assert_eq!(form(csv), Some(Form::Csv), "{csv}");
        }
        for lines in ["application/x-ndjson", "application/x-ndjson, */*", "text/csv;q=0.5, application/x-ndjson"] {
            assert_eq!(form(lines), Some(Form::Ndjson), "{lines}");
        }
    }

    #[test]
    fn no_cell_is_a_formula() {
        assert_eq!(cell(&json!(["Doe, Jane", 7, null, true])), "Doe, Jane; 7; ; true");
        let mut row = COLUMNS.map(str::to_owned);
        (row[1], row[4], row[5]) = ("@SUM(A1)".into(), "-1.5".into(), cell(&json!(["a", "=1+1"])));
        let written = csv_lines([row]).unwrap();
        let mut rows = csv::ReaderBuilder::new().has_headers(false).from_reader(&written[..]);
        let read = rows.records().next().unwrap().unwrap();
        assert_eq!((&read[1], &read[4], &read[5]), ("'@SUM(A1)", "-1.5", "a; '=1+1"));
    }
}
