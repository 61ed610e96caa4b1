//! Downloads a file: goes on where it was cut off, waits trouble out, and lets it appear under its name only when its SHA-256 is right.

use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use adit_shared::digest::Sha256;
use anyhow::{Context as _, bail};
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures::StreamExt as _;
use indicatif::ProgressBar;
use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderName};
use reqwest::{Response, StatusCode};

use super::client::{Client, Refusal};
use super::part::Part;
use super::patience::Patience;

const BROKEN: &str = "the connection broke";

/// What is to be downloaded.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Its URL, or its path on the server.
    pub(crate) url: String,
    /// Its length in bytes, where that is known.
    pub(crate) size: Option<u64>,
    /// Its SHA-256, where that is known.
    pub(crate) sha256: Option<Sha256>,
    /// Whether it may be sent compressed, which saves three quarters of a text; what is compressed in itself is not worth asking for it.
    pub(crate) gzip: bool,
}

impl Item {
    /// The entity tag that the server has for these bytes. It is not that of an object store, which has tags of its own.
    fn tag(&self) -> Option<String> {
        self.sha256.map(|sha256| format!("\"{sha256}\""))
    }
}

/// How downloads are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Downloads<'a> {
    /// Whom to ask.
    pub(crate) client: &'a Client,
    /// How long trouble is waited out.
    pub(crate) patience: &'a Patience,
    /// Moves by the bytes that arrive.
    pub(crate) bar: &'a ProgressBar,
}

impl Downloads<'_> {
    /// Downloads `item` to `target`. What has arrived stays in `{part}.part`, and a later call goes on from there, whichever URL it
    /// then asks for the same bytes.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached any more, or when the SHA-256 is wrong, also when all is fetched anew (the part is
    /// then removed).
    pub(crate) async fn run(self, item: &Item, part: &Path, target: &Path) -> anyhow::Result<Sha256> {
        let mut part = Part::open(part, item.tag().as_deref())?;
        self.bar.inc(part.length());
        match self.receive_right(item, &mut part).await {
            Ok(sha256) => part.finish(target).map(|()| sha256),
            Err(why) => {
                let length = part.length();
                part.leave();
                Err(if length == 0 {
                    why
                } else {
                    why.context(format!("{length} bytes have arrived, and are gone on from when it is run again"))
                })
            }
        }
    }

    async fn receive_right(self, item: &Item, part: &mut Part) -> anyhow::Result<Sha256> {
        let mut anew = false;
        loop {
            let found = match self.receive_all(item, part).await? {
                Received::All => Some(part.sha256()),
                _ => None,
            };
            if let Some(sha256) = found.filter(|found| item.sha256.is_none_or(|expected| expected == *found)) {
                return Ok(sha256);
            }
            self.begin(part, item.tag().as_deref())?;
            if anew {
                bail!("the server sends other bytes than those that it announces, twice; run it again later");
            }
            anew = true;
        }
    }

    /// Asks until all has come, or what has come cannot be gone on with.
    async fn receive_all(self, item: &Item, part: &mut Part) -> anyhow::Result<Received> {
        loop {
            let before = part.length();
            match item.size {
                Some(size) if before == size && part.tag().is_some() => return Ok(Received::All),
                Some(size) if before > size => return Ok(Received::Unfit),
                _ => {}
            }
            let outcome = self.receive(item, part).await;
            if part.length() > before {
                self.patience.renew();
            }
            let why = match outcome {
                Ok(Received::Unfit) => return Ok(Received::Unfit),
                Ok(Received::All) if item.size.is_none_or(|size| part.length() >= size) => return Ok(Received::All),
                Ok(Received::All) => io::Error::new(io::ErrorKind::UnexpectedEof, BROKEN).into(),
                Err(why) => why,
            };
            if !may_pass(&why) || !self.patience.wait(retry_after(&why)).await {
                return Err(why);
            }
        }
    }

    /// Asks for what the part lacks, and adds it.
    async fn receive(self, item: &Item, part: &mut Part) -> anyhow::Result<Received> {
        let offset = part.length();
        let rest = part.tag().filter(|_| offset > 0).map(|tag| (offset, tag));
        let response = match self.client.get_from(&item.url, rest, item.gzip).await {
            Err(error) if rest.is_some() && refused_range(&error) => return Ok(Received::Unfit),
            response => response?,
        };
        if response.status() == StatusCode::PARTIAL_CONTENT {
            if !continues(&response, item, part) {
                return Ok(Received::Unfit);
            }
        } else {
            self.begin(part, item.tag().as_deref().or(header(&response, ETAG)))?;
        }
        let mut coding = Coding::of(&response);
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| anyhow::Error::new(error.without_url()).context(BROKEN))?;
            let bytes = coding.decode(chunk)?;
            part.add(&bytes)?;
            self.bar.inc(bytes.len() as u64);
            if item.size.is_some_and(|size| part.length() > size) {
                return Ok(Received::Unfit);
            }
        }
        Ok(Received::All)
    }

    fn begin(self, part: &mut Part, tag: Option<&str>) -> anyhow::Result<()> {
        self.bar.set_position(self.bar.position().saturating_sub(part.length()));
        part.begin(tag)
    }
}

/// What answers have brought.
enum Received {
    /// All of it.
    All,
    /// Nothing, because it cannot be joined to the part.
    Unfit,
}

/// How an answer's bytes are coded (RFC 9110, section 8.4). That nothing is missing at the end, the length and the SHA-256 show.
enum Coding {
    Identity,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

impl Coding {
    fn of(response: &Response) -> Self {
        match header(response, CONTENT_ENCODING) {
            Some("gzip") => Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            _ => Self::Identity,
        }
    }

    fn decode(&mut self, chunk: Bytes) -> anyhow::Result<Bytes> {
        let Self::Gzip(decoder) = self else { return Ok(chunk) };
        let decoded = decoder.write_all(&chunk).and_then(|()| decoder.flush());
        decoded.context("the server's answer is no gzip, as it says that it is")?;
        Ok(std::mem::take(decoder.get_mut()).into())
    }
}

/// Whether an answer's bytes follow on those of the part. An object store does not heed `If-Range`, so that what it tells is compared, and the
/// SHA-256 in the end.
fn continues(response: &Response, item: &Item, part: &Part) -> bool {
    // bytes 100-199/200 (RFC 9110, section 14.4)
    let range = header(response, CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes ")?.split_once('/'));
    let Some((range, total)) = range else { return false };
    let first = range.split_once('-').and_then(|(first, _)| first.parse().ok());
    let total = total.parse().ok();
    let same_length = item.size.is_none() || total.is_none() || total == item.size;
    let same_tag = item.sha256.is_some() || header(response, ETAG).is_none_or(|sent| part.tag() == Some(sent));
    first == Some(part.length()) && same_length && same_tag
}

fn refused_range(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.status == StatusCode::RANGE_NOT_SATISFIABLE)
}

/// Whether the same request may succeed later.
pub(crate) fn may_pass(error: &anyhow::Error) -> bool {
    let cut = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
    error.downcast_ref().is_some_and(Refusal::may_pass)
        || error.downcast_ref().is_some_and(|error: &reqwest::Error| !error.is_builder())
        || error.downcast_ref().is_some_and(cut)
}

/// How long the server asks to wait.
pub(crate) fn retry_after(error: &anyhow::Error) -> Option<Duration> {
    error.downcast_ref::<Refusal>()?.retry_after
}

fn header(response: &Response, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::body::Body;
    use axum::extract::Request;
    use axum::http::header::{ACCEPT_ENCODING, AUTHORIZATION, IF_RANGE, LOCATION, RANGE};
    use axum::response::Response;

    use super::*;

    const ARCHIVE: &[u8] = b"0123456789";
    const TAG: &str = "\"new\"";

    /// What a server was asked: path, `Range`, and whether a key was shown.
    type Asked = Arc<Mutex<Vec<(String, Option<String>, bool)>>>;

    /// Serves [`ARCHIVE`] at `/a` as RFC 9110 has it, at `/moved` by a redirect to the same server under another name, without heeding
    /// `If-Range` at `/heedless`, compressed at `/coded`, with a byte too much at `/longer`, and ranges that begin elsewhere at `/shifted`; `/gone` is not there,
    /// `/busy` is only once, `/vanishing` redirects to what is not there once.
    fn answer(request: &Request, asked: &Asked) -> Response {
        let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let path = request.uri().path().to_owned();
        let first = asked.lock().unwrap().is_empty();
        asked.lock().unwrap().push((path.clone(), text(RANGE), request.headers().contains_key(AUTHORIZATION)));
        let answer = Response::builder().header(ETAG, TAG);
        let own = [TAG.to_owned(), format!("\"{}\"", Sha256::of(ARCHIVE))];
        let whole = path != "/heedless" && text(IF_RANGE).is_none_or(|tag| !own.contains(&tag));
        let from = text(RANGE).map(|range| range[6..].trim_end_matches('-').parse::<usize>().unwrap());
        let answer = match (path.as_str(), from.filter(|_| !whole)) {
            ("/gone", _) => return answer.status(410).body("{}".into()).unwrap(),
            ("/lost", _) => return answer.status(404).body("<Error/>".into()).unwrap(),
            ("/busy", _) if first => return answer.status(503).header("retry-after", "0").body("{}".into()).unwrap(),
            ("/moved", _) => answer.status(302).header(LOCATION, "/a").body(Body::empty()),
            ("/vanishing", _) => {
                answer.status(302).header(LOCATION, if first { "/lost" } else { "/a" }).body(Body::empty())
            }
            ("/coded", _) if text(ACCEPT_ENCODING).as_deref() == Some("gzip") => {
                let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                coder.write_all(ARCHIVE).unwrap();
                answer.header(CONTENT_ENCODING, "gzip").body(coder.finish().unwrap().into())
            }
            ("/coded", _) if text(RANGE).is_none() => answer.status(406).body(Body::empty()),
            ("/coded", _) => answer.body(ARCHIVE.into()),
            ("/longer", None) => answer.body("0123456789a".into()),
            (_, None) => answer.body(ARCHIVE.into()),
            (_, Some(from)) if from >= ARCHIVE.len() => answer.status(416).body(Body::empty()),
            (path, Some(from)) => {
                let from = if path == "/shifted" || path == "/longer" { from - 1 } else { from };
                answer.status(206).header(CONTENT_RANGE, format!("bytes {from}-9/10")).body(ARCHIVE[from..].into())
            }
        };
        answer.unwrap()
    }

    /// Downloads `path` where a part and its tag are there already; also what was asked for.
    async fn run_for(
        sha256: Option<Sha256>,
        path: &str,
        part: &str,
        tag: Option<&str>,
        size: Option<u64>,
    ) -> (anyhow::Result<Sha256>, Vec<(String, Option<String>, bool)>) {
        // Another test of this process may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let asked = Asked::default();
        let seen = asked.clone();
        let router = Router::new().fallback(move |request: Request| std::future::ready(answer(&request, &seen)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(axum::serve(listener, router).into_future());
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.zip");
        std::fs::write(folder.path().join("a.zip.part"), part).unwrap();
        if let Some(tag) = tag {
            std::fs::write(folder.path().join("a.zip.part.etag"), tag).unwrap();
        }
        let client = Client::with(&base, Some(adit_shared::config::Secret::new("key".into()))).unwrap();
        let item = Item { url: path.to_owned(), size, sha256, gzip: path == "/coded" };
        let downloads = Downloads { client: &client, patience: &Patience::default(), bar: &ProgressBar::hidden() };
        let outcome = downloads.run(&item, &target, &target).await;
        server.abort();
        if outcome.is_ok() {
            assert_eq!(std::fs::read(&target).unwrap(), ARCHIVE);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the archive");
            assert_eq!(downloads.bar.position(), ARCHIVE.len() as u64);
        }
        let asked = std::mem::take(&mut *asked.lock().unwrap());
        (outcome, asked)
    }

    /// The same where the SHA-256 is known, and a tag is that of a SHA-256.
    async fn run(
        path: &str,
        part: &str,
        of: Option<&[u8]>,
        size: Option<u64>,
    ) -> (anyhow::Result<Sha256>, Vec<(String, Option<String>, bool)>) {
        let tag = of.map(|of| format!("\"{}\"", Sha256::of(of)));
        run_for(Some(Sha256::of(ARCHIVE)), path, part, tag.as_deref(), size).await
    }

    fn ranges(asked: &[(String, Option<String>, bool)]) -> Vec<Option<&str>> {
        asked.iter().map(|(_, range, _)| range.as_deref()).collect()
    }

    #[tokio::test]
    async fn a_part_is_gone_on_with_only_if_it_is_of_the_same_bytes() {
        for size in [Some(10), None] {
            let (outcome, asked) = run("/a", "0123", Some(ARCHIVE), size).await;
            assert_eq!((outcome.is_ok(), ranges(&asked)), (true, vec![Some("bytes=4-")]));
            for of in [Some(b"other".as_slice()), None] {
                let (outcome, asked) = run("/a", "abcd", of, size).await;
                assert_eq!((outcome.is_ok(), ranges(&asked)), (true, vec![None]));
            }
        }
        let (outcome, asked) = run("/a", "0123456789", Some(ARCHIVE), Some(10)).await;
        assert_eq!((outcome.is_ok(), asked.len()), (true, 0), "nothing is missing");
    }

    #[tokio::test]
    async fn bytes_of_unknown_hash_are_gone_on_with_by_the_tag_of_who_sent_them() {
        for size in [Some(10), None] {
            for (part, tag, range) in [
                ("0123", Some(TAG), Some("bytes=4-")),
                ("abcd", Some("\"old\""), Some("bytes=4-")),
                ("abcd", None, None),
            ] {
                let (outcome, asked) = run_for(None, "/a", part, tag, size).await;
                assert_eq!((outcome.is_ok(), ranges(&asked)), (true, vec![range]));
            }
        }
        let (outcome, asked) = run_for(None, "/a", "0123456789", Some(TAG), None).await;
        assert_eq!(
            (outcome.is_ok(), ranges(&asked)),
            (true, vec![Some("bytes=10-"), None]),
            "complete, of unknown size"
        );
        let (outcome, asked) = run_for(None, "/heedless", "abcd", Some("\"old\""), Some(10)).await;
        assert_eq!((outcome.is_ok(), ranges(&asked)), (true, vec![Some("bytes=4-"), None]), "If-Range is not heeded");
    }

    #[tokio::test]
    async fn a_part_that_cannot_be_gone_on_with_is_begun_anew() {
        let (outcome, asked) = run("/a", "0123456789ab", Some(ARCHIVE), Some(10)).await;
        assert_eq!((outcome.is_ok(), ranges(&asked)), (true, vec![None]), "too long");
        let (outcome, asked) = run("/shifted", "0123", Some(ARCHIVE), Some(10)).await;
        assert_eq!((outcome.is_ok(), ranges(&asked)), (true, vec![Some("bytes=4-"), None]), "another range");
        let (outcome, asked) = run("/heedless", "abcd", Some(ARCHIVE), Some(10)).await;
        assert_eq!((outcome.is_ok(), ranges(&asked)), (true, vec![Some("bytes=4-"), None]), "damaged on the disk");
        let (outcome, asked) = run("/longer", "0123", Some(ARCHIVE), Some(10)).await;
        assert!(outcome.unwrap_err().to_string().contains("other bytes"), "and only once");
        assert_eq!(ranges(&asked), [Some("bytes=4-"), None]);
    }

    #[tokio::test]
    async fn a_refusal_is_told_at_once_and_trouble_is_waited_out() {
        let (outcome, asked) = run("/gone", "", None, Some(10)).await;
        assert_eq!(outcome.unwrap_err().to_string(), "the server refused (410): ");
        assert_eq!(asked.len(), 1);
        let (outcome, asked) = run("/busy", "", None, Some(10)).await;
        assert_eq!((outcome.is_ok(), asked.len()), (true, 2));
        let (outcome, asked) = run("/vanishing", "", None, Some(10)).await;
        let paths: Vec<_> = asked.iter().map(|(path, ..)| path.as_str()).collect();
        assert!(outcome.is_ok(), "what the object store does not have any more is asked of the server again");
        assert_eq!(paths, ["/vanishing", "/lost", "/vanishing", "/a"]);
    }

    #[tokio::test]
    async fn a_redirect_is_followed_without_the_key() {
        let (outcome, asked) = run("/moved", "0123", Some(ARCHIVE), Some(10)).await;
        outcome.unwrap();
        let range = Some("bytes=4-".to_owned());
        assert_eq!(asked, [("/moved".to_owned(), range.clone(), true), ("/a".to_owned(), range, false)]);
    }

    #[tokio::test]
    async fn what_comes_compressed_is_saved_as_it_is() {
        for part in ["", "0123"] {
            let (outcome, asked) = run("/coded", part, Some(ARCHIVE), Some(10)).await;
            assert_eq!((outcome.is_ok(), asked.len()), (true, 1));
        }
    }

    #[tokio::test]
    async fn two_downloads_to_one_file_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.zip");
        let first = Part::open(&target, None).unwrap();
        assert!(Part::open(&target, None).err().unwrap().to_string().contains("another download"));
        drop(first);
        assert!(Part::open(&target, None).is_ok());
    }
}
