//! Refs in great number: read as NDJSON, line by line, while they arrive, and looked up page by page. So memory holds one page of them.

use std::mem;

use adit_shared::domain::Collection;
use axum::extract::Request;
use futures::StreamExt as _;
use roaring::RoaringBitmap;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::body_budget::BodyAccount;
use crate::extract::{drain, incomplete};
use crate::problem::{ApiResult, Kind, Problem};
use crate::state::App;

/// Media type of refs in lines.
pub(super) const MEDIA_TYPE: &str = "application/x-ndjson";
/// Most refs of one request.
const MAX_REFS: usize = 1_000_000;
/// Most bytes of one request.
const MAX_BYTES: usize = 256 * 1024 * 1024;
/// Most bytes of one line.
const MAX_LINE: usize = 64 * 1024;
/// Refs that are looked up at once.
const PAGE: usize = 10_000;
/// The same in bytes, about.
const PAGE_BYTES: usize = 4 * 1024 * 1024;
/// Bytes that a ref takes in memory beside its own.
const REF_COST: usize = 48;
/// Unknown refs, or bad lines, that a problem lists.
const SHOWN: usize = 20;

/// A line: a ref, or an object that has one.
#[derive(Debug, PartialEq, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum RefLine {
    /// The ref.
    Text(String),
    /// An object, such as a line of `members`; its other members do not matter.
    Object {
        /// The ref.
        r#ref: String,
    },
}

/// Looks up works of a collection as it stands.
pub(super) struct Finder<'a> {
    app: &'a App,
    collection: &'a Collection,
    members: RoaringBitmap,
    asked: usize,
    unknown: usize,
    first_unknown: Vec<String>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(app: &'a App, collection: &'a Collection) -> Self {
        Self { app, collection, members: RoaringBitmap::new(), asked: 0, unknown: 0, first_unknown: Vec::new() }
    }

    /// Looks up some refs.
    pub(super) async fn find(&mut self, refs: &[String]) -> ApiResult<()> {
        let Collection { id, corpus_version, .. } = *self.collection;
        for page in refs.chunks(PAGE) {
            let found = self.app.store.resolve_refs(id, corpus_version, page).await?;
            self.members.extend(found.values().map(|id| id.0));
            self.asked += page.len();
            for unknown in page.iter().filter(|text| !found.contains_key(*text)) {
                self.unknown += 1;
                if self.first_unknown.len() < SHOWN {
                    self.first_unknown.push(unknown.clone());
                }
            }
        }
        Ok(())
    }

    /// What was found, if all were.
    pub(super) fn finish(self) -> ApiResult<RoaringBitmap> {
        if self.unknown == 0 {
            return Ok(self.members);
        }
        let detail = format!("{} of {} refs are not in the collection; leave them out", self.unknown, self.asked);
        Err(Problem::new(Kind::UnknownRefs, detail).with("count", self.unknown).with("unknown", self.first_unknown))
    }
}

/// Reads a body's refs and looks them up. It is read to the end although lines are bad, so that the client gets to see which.
pub(super) async fn read(request: Request, finder: &mut Finder<'_>) -> ApiResult<()> {
    let account = request.extensions().get::<BodyAccount>().cloned();
    let mut stream = request.into_body().into_data_stream();
    let (mut lines, mut page, mut bytes) = (Lines::default(), Page::default(), 0);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(incomplete)?;
        bytes += chunk.len();
        lines.push(&chunk, |number, line| page.take(number, line));
        if page.count > MAX_REFS || bytes > MAX_BYTES {
            drain(stream, bytes).await;
            let detail =
                format!("send {MAX_REFS} refs and {MAX_BYTES} bytes at most; unite the docsets of several requests");
            return Err(Problem::new(Kind::TooLarge, detail));
        }
        if page.refs.len() >= PAGE || page.bytes >= PAGE_BYTES {
            page.bytes = 0;
            finder.find(&mem::take(&mut page.refs)).await?;
        }
        let held = page.bytes + page.refs.len() * REF_COST + lines.begun.len();
        account.as_ref().map_or(Ok(()), |account| account.hold(held))?;
    }
    lines.finish(|number, line| page.take(number, line));
    finder.find(&page.refs).await?;
    if page.bad == 0 {
        return Ok(());
    }
    let detail = format!("{} lines are neither a ref as a JSON string nor {{\"ref\": …}}; mend them", page.bad);
    Err(Problem::new(Kind::MalformedJson, detail).with("lines", page.first_bad))
}

/// Refs that were read and not looked up yet, and what could not be read.
#[derive(Default)]
struct Page {
    refs: Vec<String>,
    bytes: usize,
    count: usize,
    bad: usize,
    first_bad: Vec<usize>,
}

impl Page {
    fn take(&mut self, number: usize, line: Option<&[u8]>) {
        match line.map(serde_json::from_slice) {
            // What is too much is counted and not kept.
            Some(Ok(_)) if self.count >= MAX_REFS => self.count += 1,
            Some(Ok(RefLine::Text(text) | RefLine::Object { r#ref: text })) => {
                self.count += 1;
                self.bytes += text.len();
                self.refs.push(text);
            }
            Some(Err(_)) | None => {
                self.bad += 1;
                if self.first_bad.len() < SHOWN {
                    self.first_bad.push(number);
                }
            }
        }
    }
}

/// Cuts bytes into lines as they come.
#[derive(Default)]
struct Lines {
    /// The beginning of a line whose end has not come, up to one byte more than a line may have.
    begun: Vec<u8>,
    number: usize,
}

impl Lines {
    /// Hands over every line that ends here, with its number from 1 on: none, where it is too long. Blank ones are left out.
    fn push(&mut self, mut chunk: &[u8], mut each: impl FnMut(usize, Option<&[u8]>)) {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&chunk[..end], &chunk[end + 1..]);
            chunk = rest;
            self.begin(line);
            self.end(&mut each);
        }
        self.begin(chunk);
    }

    /// Hands over a last line without an end.
    fn finish(mut self, mut each: impl FnMut(usize, Option<&[u8]>)) {
        self.end(&mut each);
    }

    fn begin(&mut self, part: &[u8]) {
        let room = MAX_LINE + 1 - self.begun.len();
        self.begun.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn end(&mut self, each: &mut impl FnMut(usize, Option<&[u8]>)) {
        self.number += 1;
        let line = self.begun.trim_ascii();
        if self.begun.len() > MAX_LINE {
            each(self.number, None);
        } else if !line.is_empty() {
            each(self.number, Some(line));
        }
        self.begun.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(text: &[u8], piece: usize) -> Vec<(usize, Option<Vec<u8>>)> {
        let mut lines = Lines::default();
        let mut cut = Vec::new();
        for chunk in text.chunks(piece) {
            lines.push(chunk, |number, line| cut.push((number, line.map(<[u8]>::to_vec))));
        }
        lines.finish(|number, line| cut.push((number, line.map(<[u8]>::to_vec))));
        cut
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_arrive(text in r#"([a"\r ]{0,5}\n?){0,20}"#, piece in 1_usize..20) {
            let whole = text.split('\n').zip(1..).map(|(line, number)| (number, line.trim_ascii().as_bytes().to_vec()));
            let whole: Vec<_> = whole.filter(|(_, line)| !line.is_empty()).map(|(n, line)| (n, Some(line))).collect();
            prop_assert_eq!(cut(text.as_bytes(), piece), whole);
        }
    }

    #[test]
    fn what_is_too_long_is_none_and_the_next_line_is_whole() {
        let long = [vec![b'x'; MAX_LINE], b"\n".to_vec(), vec![b'y'; MAX_LINE + 1], b"\nz".to_vec()].concat();
        for piece in [1000, MAX_LINE, long.len()] {
            let lines = cut(&long, piece);
            assert_eq!(lines, [(1, Some(vec![b'x'; MAX_LINE])), (2, None), (3, Some(b"z".to_vec()))]);
        }
    }

    #[test]
    fn a_line_is_a_ref_or_has_one() {
        let mut page = Page::default();
        let lines = ["\"a\"", r#"{"id": 7, "ref": "b"}"#, "a", "7", "null", r#"{"id": 7}"#, "[\"c\"]"];
        lines.iter().zip(1..).for_each(|(line, number)| page.take(number, Some(line.as_bytes())));
        assert_eq!((page.refs, page.bad), (vec!["a".to_owned(), "b".to_owned()], 5));
        assert_eq!(page.first_bad, [3, 4, 5, 6, 7]);
    }
}
