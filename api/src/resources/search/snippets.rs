//! Snippets of a page's hits: pieces of their metadata and texts, with the places of what was looked for.
//!
//! Texts lie in packs; only those of the hits on the page are read, and only what the caller may
//! read. How much of them, and how many at once, is bounded here. Snippets of texts are for keys,
//! and each document that gives one is charged, once for key and day.

use std::collections::BTreeMap;
use std::sync::Arc;

use adit_shared::domain::{ApiKey, Document, Encoding, FileRecord, Metric, Scope};
use adit_shared::ids::{CollectionId, IndexId};
use adit_shared::integrity::{FileDamage, FileFault};
use adit_shared::search::{Highlighter, Hit, Query, Snippet, StopFlag};
use async_compression::tokio::bufread::GzipDecoder;
use futures::{StreamExt as _, TryStreamExt as _};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use utoipa::ToSchema;

use crate::auth::Caller;
use crate::client::ClientId;
use crate::extract::whole;
use crate::problem::{ApiResult, Kind, Problem};
use crate::rights;
use crate::state::App;

/// Most snippets of a field.
const MAX_SIZE: u32 = 10;
/// Bytes of one text that are looked at, from its beginning.
const TEXT: u64 = 1024 * 1024;
/// Texts of a page that are looked at, those of its first hits.
const TEXTS: usize = 100;
/// Bytes of texts that are looked at for one page.
const ALL_TEXTS: u64 = 16 * 1024 * 1024;
/// Hits of a page that are worked on at once.
const AT_ONCE: usize = 4;
/// The field whose values lie in packs, and the format that they are.
const TEXT_FIELD: &str = "text";
const TEXT_FORMAT: &str = "txt";

/// Whether snippets are wanted, and of what.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Highlight {
    /// `true`: of all fields; without a key, of all but `text`.
    All(bool),
    /// Of these fields.
    These(Highlighting),
}

/// Of what snippets are wanted.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Highlighting {
    /// Fields that may give snippets (default: all; without a key, all but `text`).
    #[serde(default)]
    fields: Option<Vec<String>>,
    /// Most snippets of one field, 1 to 10.
    #[serde(default = "default_size", deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 10, default = 3)]
    size: u32,
}

fn default_size() -> u32 {
    3
}

/// A piece of a text.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Snippet)]
pub(super) struct SnippetView {
    /// The piece.
    text: String,
    /// Where in it the query's words stand: from, up to but without, in Unicode scalar values (characters of Python; of JavaScript's
    /// `Array.from(text)`), in their order.
    marks: Vec<[usize; 2]>,
}

/// By field; fields without a snippet are left out.
pub(super) type Snippets = BTreeMap<String, Vec<SnippetView>>;

impl Highlight {
    /// Checks and completes a wish; `None` if nothing is wanted. Who names `text` needs a key.
    pub(super) fn check_wish(&self, app: &App, caller: Option<&Caller>) -> ApiResult<Option<(Vec<String>, usize)>> {
        let wish = match self {
            Self::All(false) => return Ok(None),
            Self::All(true) => Highlighting { fields: None, size: default_size() },
            Self::These(wish) => wish.clone(),
        };
        if !(1..=MAX_SIZE).contains(&wish.size) {
            let detail = format!("highlight.size must be 1 to {MAX_SIZE}, not {}", wish.size);
            return Err(Problem::new(Kind::InvalidRequest, detail));
        }
        if caller.is_none() && wish.fields.iter().flatten().any(|field| field == TEXT_FIELD) {
            let detail = "snippets of text need a valid key, in X-Api-Key or Authorization: Bearer; leave text out of highlight.fields without one";
            return Err(Problem::new(Kind::Unauthorized, detail));
        }
        let known = app.search.fields();
        let fields = wish.fields.unwrap_or_else(|| known.clone());
        if let Some(name) = fields.iter().find(|name| !known.contains(name)) {
            let detail = format!("there is no field {name:?}; there are: {}", known.join(", "));
            return Err(Problem::new(Kind::UnknownField, detail).with("field", name.as_str()).with("fields", known));
        }
        Ok(Some((fields, wish.size as usize)))
    }
}

/// Reasons for which a hit gives no snippets of its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TextWithheld)]
pub(super) enum Withheld {
    /// The request shows no valid key.
    Key,
    /// The key may not have the text.
    Rights,
    /// The key's documents of today are used up.
    Quota,
}

/// Snippets of the hits, in their order, and the reason where there are none of a text.
pub(super) async fn of_hits(
    app: &App,
    caller: Option<&Caller>,
    index: IndexId,
    query: &Query,
    (fields, size): (Vec<String>, usize),
    hits: &[(Hit, Document)],
) -> ApiResult<Vec<(Snippets, Option<Withheld>)>> {
    let language = app.search.language(index).await?;
    // Dropped with the request, it ends what threads still look for.
    let stop = StopFlag::default();
    let _ends = stop.stop_on_drop();
    let highlighter = Highlighter::new(query, language).stopped_by(stop);
    let texts = fields.iter().any(|field| field == TEXT_FIELD) && highlighter.looks_at(TEXT_FIELD);
    let texts =
        if texts { texts_of(app, caller, index.collection, hits).await? } else { vec![SnippetText::None; hits.len()] };
    let wish = Arc::new(Wish { highlighter, fields, size });
    let client = caller.map_or(ClientId::Unknown, Caller::client);
    let jobs: Vec<_> = hits
        .iter()
        .zip(&texts)
        .map(|((_, document), text)| of_hit(app, client, Arc::clone(&wish), document, text.readable_part()))
        .collect();
    let snippets: Vec<Snippets> = futures::stream::iter(jobs).buffered(AT_ONCE).try_collect().await?;
    let withheld = texts.iter().map(SnippetText::withheld);
    let mut snippets: Vec<_> = snippets.into_iter().zip(withheld).collect();
    if let Some(Caller(key)) = caller {
        charge(app, key, index.collection, hits, &mut snippets).await?;
    }
    Ok(snippets)
}

/// Charges the documents whose text gives a snippet, and counts them as given; those that the key
/// cannot pay for give none.
async fn charge(
    app: &App,
    key: &ApiKey,
    collection: CollectionId,
    hits: &[(Hit, Document)],
    snippets: &mut [(Snippets, Option<Withheld>)],
) -> ApiResult<()> {
    let shown = hits.iter().zip(&*snippets).filter(|(_, (snippets, _))| snippets.contains_key(TEXT_FIELD));
    let shown: Vec<&Document> = shown.map(|((_, document), _)| document).collect();
    let Some(format) = shown.iter().find_map(|document| text_file(document)).map(|file| &file.format) else {
        return Ok(());
    };
    let shown: RoaringBitmap = shown.iter().map(|document| document.id.0).collect();
    let (paid, charged) = app.quotas().charge_documents(key, &shown, format).await?;
    for ((hit, _), (snippets, withheld)) in hits.iter().zip(snippets) {
        if !paid.contains(hit.id.0) && snippets.remove(TEXT_FIELD).is_some() {
            *withheld = Some(Withheld::Quota);
        }
    }
    app.usage().count(collection, Some(key.id), Metric::Charged, charged);
    app.usage().give(collection, key.id, &paid);
    Ok(())
}

/// The text of a hit, as far as snippets are wanted of it.
#[derive(Debug, Clone, Copy)]
enum SnippetText<'a> {
    /// There is none, or none is looked at.
    None,
    /// So many bytes of this file, from its beginning.
    Of(&'a FileRecord, u64),
    /// It is not for the caller.
    Withheld(Withheld),
}

impl<'a> SnippetText<'a> {
    fn readable_part(self) -> Option<(&'a FileRecord, u64)> {
        if let Self::Of(file, most) = self { Some((file, most)) } else { None }
    }

    fn withheld(&self) -> Option<Withheld> {
        if let Self::Withheld(why) = self { Some(*why) } else { None }
    }
}

/// Wishes for each hit.
struct Wish {
    highlighter: Highlighter,
    fields: Vec<String>,
    size: usize,
}

async fn of_hit(
    app: &App,
    client: ClientId,
    wish: Arc<Wish>,
    document: &Document,
    text: Option<(&FileRecord, u64)>,
) -> ApiResult<Snippets> {
    // Of all requests together, so that memory stays bounded.
    let _place = app.limits.texts.acquire(client).await.map_err(|full| Problem::no_place(full, "snippets"))?;
    let text = match text {
        Some((file, most)) => Some(read(app, document, file, most).await?),
        None => None,
    };
    let (r#ref, metadata) = (document.r#ref.clone(), document.metadata.clone());
    let work = move || {
        of_fields(&wish, |field| match field {
            TEXT_FIELD => text.as_deref().into_iter().collect(),
            "ref" => vec![r#ref.as_str()],
            field => metadata.get(field).map(texts_in).unwrap_or_default(),
        })
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| Problem::from(std::io::Error::other(error)))
}

/// The texts of the hits that the caller may read, each with how many bytes of it are looked at:
/// the first hits first.
async fn texts_of<'a>(
    app: &App,
    caller: Option<&Caller>,
    collection: CollectionId,
    hits: &'a [(Hit, Document)],
) -> ApiResult<Vec<SnippetText<'a>>> {
    let members: RoaringBitmap = hits.iter().map(|(hit, _)| hit.id.0).collect();
    let readable = rights::readable(app, caller, collection, &members).await?;
    let mut left = ALL_TEXTS;
    let text = |(hit, document): &'a (Hit, Document)| {
        let Some(file) = text_file(document) else { return SnippetText::None };
        let Some(Caller(key)) = caller else { return SnippetText::Withheld(Withheld::Key) };
        if !key.has_scope(Scope::DocumentsRead) || !readable.contains(hit.id.0) {
            return SnippetText::Withheld(Withheld::Rights);
        }
        let most = file.size.min(TEXT).min(left);
        left -= most;
        if most == 0 { SnippetText::None } else { SnippetText::Of(file, most) }
    };
    let texts = hits.iter().take(TEXTS).map(text).collect::<Vec<_>>();
    Ok(texts.into_iter().chain(std::iter::repeat(SnippetText::None)).take(hits.len()).collect())
}

/// Finds the text among a document's files, unless it is empty.
fn text_file(document: &Document) -> Option<&FileRecord> {
    document.files.iter().find(|file| file.format.as_str() == TEXT_FORMAT && file.size > 0)
}

/// The first `most` bytes of a text, or some less where they compress badly. Of a damaged text there are
/// no snippets: neither does it keep others from their hits, nor is any of it shown.
async fn read(app: &App, document: &Document, file: &FileRecord, most: u64) -> ApiResult<String> {
    let stored = file.place.stored.min(most);
    let mut read = read_stored(app, file, stored).await;
    if matches!(read, Err(FileFault::Damaged(FileDamage::ObjectMissing)))
        && let Some(moved) = find_moved(app, document, file).await?
    {
        read = read_stored(app, &moved, stored).await;
    }
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(FileFault::Store(error)) => return Err(error.into()),
        Err(FileFault::Damaged(damage)) => {
            tracing::error!(document = %document.id, %damage, "a text is damaged, and no snippets are made of it");
            return Ok(String::new());
        }
    };
    let text = match file.encoding {
        Encoding::Identity => bytes,
        Encoding::Gzip => {
            let mut text = Vec::new();
            match GzipDecoder::new(&bytes[..]).take(most).read_to_end(&mut text).await {
                // What was cut off from the member is missing there.
                Err(error) if stored == file.place.stored || error.kind() != std::io::ErrorKind::UnexpectedEof => {
                    return Err(error.into());
                }
                _ => text,
            }
        }
    };
    Ok(String::from_utf8(text).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The same file, if it lies elsewhere by now: a sweep may have moved it since its place was read.
async fn find_moved(app: &App, document: &Document, file: &FileRecord) -> ApiResult<Option<FileRecord>> {
    let again = app.store.documents(&[document.id]).await?.pop();
    let again = again.and_then(|again| again.files.into_iter().find(|other| other.format == file.format));
    Ok(again.filter(|again| again.place != file.place))
}

/// Reads the first bytes of a file as it is stored, proved.
async fn read_stored(app: &App, file: &FileRecord, length: u64) -> Result<Vec<u8>, FileFault> {
    let files = app.checked_files();
    let checked = files.open(&app.objects, file).await?;
    let mut chunks = files.read(&app.objects, &checked, 0..length).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.try_next().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The texts in a value of metadata.
fn texts_in(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn of_fields<'a>(wish: &Wish, values: impl Fn(&str) -> Vec<&'a str>) -> Snippets {
    let mut all = Snippets::new();
    for field in wish.fields.iter().filter(|field| wish.highlighter.looks_at(field)) {
        let snippets = values(field).into_iter().flat_map(|text| wish.highlighter.snippets(field, text, wish.size));
        let snippets: Vec<SnippetView> = snippets.take(wish.size).map(view).collect();
        if !snippets.is_empty() {
            all.insert(field.clone(), snippets);
        }
    }
    all
}

fn view(Snippet { text, marks }: Snippet) -> SnippetView {
    let at = |byte: usize| text.char_indices().take_while(|(place, _)| *place < byte).count();
    SnippetView { marks: marks.iter().map(|mark| [at(mark.start), at(mark.end)]).collect(), text }
}
