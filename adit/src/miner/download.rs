//! Downloads an archive: goes on where it was cut off, and lets it appear under its name only when its SHA-256 is right.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_shared::digest::Sha256;
use anyhow::{Context as _, anyhow, bail};
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderName};
use reqwest::{Response, StatusCode};
use sha2::Digest as _;

use super::client::{Client, Refusal};

/// Tries in a row that bring no byte before a download is given up.
const TRIES: u32 = 5;
/// The longest that a server may ask to wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Downloads `path` to `target`. What has arrived stays in `{target}.part`, and a later call goes on from there.
///
/// # Errors
/// When the server refuses or cannot be reached any more, or when the archive's SHA-256 is not `expected` (the part is then removed).
pub(crate) async fn download(
    client: &Client,
    path: &str,
    target: &Path,
    size: Option<u64>,
    expected: Option<Sha256>,
) -> anyhow::Result<Sha256> {
    let part = Part::of(target);
    let style = ProgressStyle::with_template("downloading {bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left");
    let bar = ProgressBar::new(size.unwrap_or(0)).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    receive_all(client, path, &part, size, &bar).await?;
    bar.finish_and_clear();
    let (_, sha256) = hash_file(&part.file)?;
    if let Some(expected) = expected.filter(|expected| *expected != sha256) {
        part.remove()?;
        bail!("the archive arrived damaged (SHA-256 {sha256}, not {expected}) and was removed; run it again");
    }
    std::fs::rename(&part.file, target).with_context(|| format!("cannot write {}", target.display()))?;
    part.remove()?;
    Ok(sha256)
}

/// Asks until all of the archive is in the part.
async fn receive_all(
    client: &Client,
    path: &str,
    part: &Part,
    size: Option<u64>,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let (mut failures, mut anew) = (0, false);
    loop {
        let before = part.length();
        if size == Some(before) {
            return Ok(());
        }
        let too_long = size.is_some_and(|size| before > size);
        let outcome = if too_long { Ok(Received::Unfit) } else { receive(client, path, part, bar).await };
        let why = match outcome {
            Ok(Received::All) if size.is_none_or(|size| part.length() == size) => return Ok(()),
            Ok(Received::All) => anyhow!("the answer does not have the length that was announced"),
            Ok(Received::Unfit) if anew => bail!("the server sends other bytes than those that it announces"),
            Ok(Received::Unfit) => {
                part.remove()?;
                anew = true;
                continue;
            }
            Err(why) => why,
        };
        failures = if part.length() > before { 0 } else { failures + 1 };
        match why.downcast_ref::<Refusal>() {
            Some(refusal) if !refusal.may_pass() => return Err(why),
            refusal if failures < TRIES && why.downcast_ref::<io::Error>().is_none() => {
                let asked = refusal.and_then(|refusal| refusal.retry_after);
                let wait = asked.unwrap_or(Duration::from_millis(200 << failures)).min(LONGEST_WAIT);
                tokio::time::sleep(wait).await;
            }
            _ => {
                let stopped =
                    format!("the download stopped at {} bytes; run it again to go on from there", part.length());
                return Err(why.context(stopped));
            }
        }
    }
}

/// What an answer has brought.
enum Received {
    /// Its body, to the end.
    All,
    /// Nothing, because it cannot be joined to the part.
    Unfit,
}

/// Asks for what the part lacks, and adds it.
async fn receive(client: &Client, path: &str, part: &Part, bar: &ProgressBar) -> anyhow::Result<Received> {
    let offset = part.length();
    let tag = part.tag().filter(|_| offset > 0);
    let rest = tag.as_deref().map(|tag| (offset, tag));
    let response = match client.get_from(path, rest).await {
        Err(error) if rest.is_some() && refused_range(&error) => return Ok(Received::Unfit),
        response => response?,
    };
    let goes_on = response.status() == StatusCode::PARTIAL_CONTENT;
    let sent_tag = header(&response, ETAG);
    if goes_on && (first_byte(&response) != Some(offset) || sent_tag.is_some_and(|sent| tag.as_deref() != Some(sent))) {
        return Ok(Received::Unfit);
    }
    let mut file = if goes_on { part.open() } else { part.begin(sent_tag) }
        .with_context(|| format!("cannot write {}", part.file.display()))?;
    bar.set_position(if goes_on { offset } else { 0 });
    let mut body = response.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(reqwest::Error::without_url).context("the connection broke")?;
        file.write_all(&chunk).with_context(|| format!("cannot write {}", part.file.display()))?;
        bar.inc(chunk.len() as u64);
    }
    file.sync_all().with_context(|| format!("cannot write {}", part.file.display()))?;
    Ok(Received::All)
}

fn refused_range(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.status == StatusCode::RANGE_NOT_SATISFIABLE)
}

fn header(response: &Response, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

/// Where the sent range begins (RFC 9110, section 14.4).
fn first_byte(response: &Response) -> Option<u64> {
    header(response, CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

/// What has arrived of an archive, beside the place where it is to be.
struct Part {
    file: PathBuf,
    /// Holds the entity tag of the archive that the bytes are of; bytes without one are not gone on with.
    tag: PathBuf,
}

impl Part {
    fn of(target: &Path) -> Self {
        let beside = |ending: &str| {
            let mut name = target.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        Self { file: beside(".part"), tag: beside(".part.etag") }
    }

    fn length(&self) -> u64 {
        std::fs::metadata(&self.file).map_or(0, |metadata| metadata.len())
    }

    fn tag(&self) -> Option<String> {
        std::fs::read_to_string(&self.tag).ok()
    }

    /// Begins anew. The old bytes go before the new tag is there, so that they never stand under it.
    fn begin(&self, tag: Option<&str>) -> io::Result<File> {
        self.remove()?;
        // If-Range takes strong tags only (RFC 9110, section 13.1.5).
        if let Some(tag) = tag.filter(|tag| tag.starts_with('"')) {
            std::fs::write(&self.tag, tag)?;
        }
        self.open()
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(&self.file)
    }

    fn remove(&self) -> io::Result<()> {
        for path in [&self.file, &self.tag] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Length and SHA-256 of a file.
pub(crate) fn hash_file(path: &Path) -> anyhow::Result<(u64, Sha256)> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut hash, mut length, mut chunk) = (sha2::Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut chunk).with_context(|| format!("cannot read {}", path.display()))?;
        if read == 0 {
            return Ok((length, Sha256(hash.finalize().into())));
        }
        hash.update(&chunk[..read]);
        length += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::body::Body;
    use axum::extract::Request;
    use axum::http::header::{AUTHORIZATION, IF_RANGE, LOCATION, RANGE};
    use axum::response::Response;

    use super::*;

    const ARCHIVE: &[u8] = b"0123456789";
    const TAG: &str = "\"new\"";

    /// What a server was asked: path, `Range`, and whether a key was shown.
    type Asked = Arc<Mutex<Vec<(String, Option<String>, bool)>>>;

    /// Serves [`ARCHIVE`] at `/a` as RFC 9110 has it, at `/moved` by a redirect to the same server under another name, and ranges that
    /// begin elsewhere at `/shifted`; `/gone` is not there, `/busy` is only once.
    fn answer(request: &Request, asked: &Asked) -> Response {
        let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let path = request.uri().path().to_owned();
        let first = asked.lock().unwrap().is_empty();
        asked.lock().unwrap().push((path.clone(), text(RANGE), request.headers().contains_key(AUTHORIZATION)));
        let answer = Response::builder().header(ETAG, TAG);
        let whole = text(IF_RANGE).is_none_or(|tag| tag != TAG);
        let from = text(RANGE).map(|range| range[6..].trim_end_matches('-').parse::<usize>().unwrap());
        let answer = match (path.as_str(), from.filter(|_| !whole)) {
            ("/gone", _) => return answer.status(410).body("{}".into()).unwrap(),
            ("/busy", _) if first => return answer.status(503).header("retry-after", "0").body("{}".into()).unwrap(),
            ("/moved", _) => answer.status(302).header(LOCATION, "/a").body(Body::empty()),
            (_, None) => answer.body(ARCHIVE.into()),
            (_, Some(from)) if from >= ARCHIVE.len() => answer.status(416).body(Body::empty()),
            (path, Some(from)) => {
                let from = if path == "/shifted" { from - 1 } else { from };
                answer.status(206).header(CONTENT_RANGE, format!("bytes {from}-9/10")).body(ARCHIVE[from..].into())
            }
        };
        answer.unwrap()
    }

    /// Downloads `path` where a part and its tag are there already; also the ranges that were asked for.
    async fn run(
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
        let outcome = download(&client, path, &target, size, Some(Sha256::of(ARCHIVE))).await;
        server.abort();
        if outcome.is_ok() {
            assert_eq!(std::fs::read(&target).unwrap(), ARCHIVE);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside the archive");
        }
        let asked = std::mem::take(&mut *asked.lock().unwrap());
        (outcome, asked)
    }

    fn ranges(asked: &[(String, Option<String>, bool)]) -> Vec<Option<&str>> {
        asked.iter().map(|(_, range, _)| range.as_deref()).collect()
    }

    #[tokio::test]
    async fn a_part_is_gone_on_with_only_if_it_is_of_the_same_archive() {
        for size in [Some(10), None] {
            let (outcome, asked) = run("/a", "0123", Some(TAG), size).await;
            assert_eq!((outcome.is_ok(), ranges(&asked)), (true, vec![Some("bytes=4-")]));
            let (outcome, asked) = run("/a", "abcd", Some("\"old\""), size).await;
            assert_eq!((outcome.is_ok(), ranges(&asked)), (true, vec![Some("bytes=4-")]));
            let (outcome, asked) = run("/a", "abcd", None, size).await;
            assert_eq!((outcome.is_ok(), ranges(&asked)), (true, vec![None]));
        }
    }

    #[tokio::test]
    async fn a_part_that_cannot_be_gone_on_with_is_begun_anew() {
        let (outcome, asked) = run("/a", "0123456789ab", Some(TAG), Some(10)).await;
        assert_eq!((outcome.is_ok(), ranges(&asked)), (true, vec![None]), "too long");
        let (outcome, asked) = run("/a", "0123456789", Some(TAG), None).await;
        assert_eq!(
            (outcome.is_ok(), ranges(&asked)),
            (true, vec![Some("bytes=10-"), None]),
            "complete, of unknown size"
        );
        let (outcome, asked) = run("/shifted", "0123", Some(TAG), Some(10)).await;
        assert_eq!((outcome.is_ok(), ranges(&asked)), (true, vec![Some("bytes=4-"), None]), "another range");
        let (outcome, _) = run("/a", "", None, Some(9)).await;
        assert!(outcome.unwrap_err().to_string().contains("other bytes"), "and only once");
    }

    #[tokio::test]
    async fn a_refusal_is_told_at_once_and_trouble_is_waited_out() {
        let (outcome, asked) = run("/gone", "", None, Some(10)).await;
        assert_eq!(outcome.unwrap_err().to_string(), "the server refused (410): ");
        assert_eq!(asked.len(), 1);
        let (outcome, asked) = run("/busy", "", None, Some(10)).await;
        assert_eq!((outcome.is_ok(), asked.len()), (true, 2));
    }

    #[tokio::test]
    async fn a_redirect_is_followed_without_the_key() {
        let (outcome, asked) = run("/moved", "0123", Some(TAG), Some(10)).await;
        outcome.unwrap();
        let range = Some("bytes=4-".to_owned());
        assert_eq!(asked, [("/moved".to_owned(), range.clone(), true), ("/a".to_owned(), range, false)]);
    }
}
