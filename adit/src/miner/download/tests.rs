use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{ACCEPT_ENCODING, AUTHORIZATION, IF_RANGE, LOCATION, RANGE};
use axum::response::Response;

use super::super::testing::Hostile;
use super::*;

const ARCHIVE: &[u8] = b"0123456789";
const TAG: &str = "\"new\"";

/// What a server was asked: path, `Range`, and whether a key was shown.
type Asked = Arc<Mutex<Vec<(String, Option<String>, bool)>>>;

/// Where the server has its content: the key is shown nowhere else.
const CONTENT: &str = "/api/packages/7/assets";

/// Serves [`ARCHIVE`] at `/a` below [`CONTENT`] as RFC 9110 has it, at `/moved` by a redirect to
/// the same server under another name, without heeding `If-Range` at `/heedless`, compressed at
/// `/coded`, with a byte too much at `/longer`, and ranges that begin elsewhere at `/shifted`;
/// `/gone` is not there, `/busy` is only once, `/vanishing` redirects to what is not there once.
fn answer(request: &Request, asked: &Asked) -> Response {
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let path = request.uri().path().trim_start_matches(CONTENT).to_owned();
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
    std::fs::write(folder.path().join("a.zip.part.etag"), tag.unwrap_or_default()).unwrap();
    let client = Client::with(&base, Some(adit_shared::config::Secret::new("key".into()))).unwrap();
    let item = Item { url: format!("{CONTENT}{path}"), size, most: 1000, sha256, gzip: path == "/coded" };
    let (patience, bar) = (Patience::default(), ProgressBar::hidden());
    let downloads = Downloads { client: &client, patience: &patience, bar: &bar, overwrite: false };
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
        for (part, tag, range) in
            [("0123", Some(TAG), Some("bytes=4-")), ("abcd", Some("\"old\""), Some("bytes=4-")), ("abcd", None, None)]
        {
            let (outcome, asked) = run_for(None, "/a", part, tag, size).await;
            assert_eq!((outcome.is_ok(), ranges(&asked)), (true, vec![range]));
        }
    }
    let (outcome, asked) = run_for(None, "/a", "0123456789", Some(TAG), None).await;
    assert_eq!((outcome.is_ok(), ranges(&asked)), (true, vec![Some("bytes=10-"), None]), "complete, of unknown size");
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

#[tokio::test]
async fn what_is_no_download_is_never_replaced() {
    for (name, tag) in [("a.zip", None), ("a.zip.part", None), ("a.zip.part.etag", Some("a note of mine"))] {
        let server = Hostile::start(|_| Hostile::answer(200, ARCHIVE)).await;
        let folder = tempfile::tempdir().unwrap();
        let (target, mine) = (folder.path().join("a.zip"), folder.path().join(name));
        std::fs::write(&mine, tag.unwrap_or("mine")).unwrap();
        let why = server.download(&target, Some(ARCHIVE), Some(10), false).await.unwrap_err().to_string();
        assert!(why.contains("move it away"), "{why}");
        assert_eq!(std::fs::read_to_string(&mine).unwrap(), tag.unwrap_or("mine"), "{name}");
    }
    let server = Hostile::start(|_| Hostile::answer(200, ARCHIVE)).await;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("a.zip");
    std::fs::write(&target, "mine").unwrap();
    assert!(server.download(&target, None, None, false).await.unwrap_err().to_string().contains("--force"));
    assert_eq!(std::fs::read(&target).unwrap(), b"mine", "also where the SHA-256 was not announced");
    server.download(&target, Some(ARCHIVE), Some(10), true).await.unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), ARCHIVE, "by --force");
    let asked = server.asked().len();
    server.download(&target, Some(ARCHIVE), Some(10), false).await.unwrap();
    assert_eq!(server.asked().len(), asked, "an earlier download of the same bytes is that");
}

#[cfg(unix)]
#[tokio::test]
async fn a_download_follows_no_symbolic_link() {
    let folder = tempfile::tempdir().unwrap();
    let precious = folder.path().join("precious");
    for (name, overwrite) in [("a.zip", false), ("a.zip", true), ("a.zip.part", true), ("a.zip.part.etag", true)] {
        std::fs::write(&precious, "\"\"").unwrap();
        let server = Hostile::start(|_| Hostile::answer(200, ARCHIVE)).await;
        let here = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(&precious, here.path().join(name)).unwrap();
        let outcome = server.download(&here.path().join("a.zip"), Some(ARCHIVE), Some(10), overwrite).await;
        assert_eq!(outcome.is_ok(), name == "a.zip" && overwrite, "{name}");
        assert_eq!(std::fs::read(&precious).unwrap(), b"\"\"", "{name}");
    }
}

#[tokio::test]
async fn no_more_is_taken_than_was_announced() {
    let bomb = || {
        let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for _ in 0..64 {
            coder.write_all(&[0; 1 << 20]).unwrap();
        }
        coder.finish().unwrap()
    };
    let gzip = bomb();
    let answers: [(&str, Vec<u8>, Option<u64>); 4] = [
        ("identity", vec![0; 1 << 20], Some(10)),
        ("identity", vec![0; 1 << 20], None),
        ("gzip", gzip.clone(), Some(10)),
        ("br", ARCHIVE.to_vec(), Some(10)),
    ];
    for (coding, body, size) in answers {
        let name = coding.to_owned();
        let server = Hostile::start(move |_| {
            let mut answer = Hostile::answer(200, &body);
            answer.headers_mut().insert(CONTENT_ENCODING, name.parse().unwrap());
            answer
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.zip");
        let outcome = server.download(&target, Some(ARCHIVE), size, false).await;
        let why = outcome.unwrap_err().to_string();
        let told = ["other bytes", "sends more than", "not asked for"].iter().any(|told| why.contains(told));
        assert!(told || why.contains("have arrived"), "{coding}: {why}");
        assert!(!target.exists());
        let left: u64 =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(left < 1 << 20, "{coding}: {left} bytes are left");
    }
}

#[tokio::test]
async fn redirects_end_and_stay_within_tls_and_without_the_key() {
    let server = Hostile::start(Hostile::redirect).await;
    let folder = tempfile::tempdir().unwrap();
    let why = server.download(&folder.path().join("a.zip"), Some(ARCHIVE), Some(10), false).await.unwrap_err();
    assert!(why.to_string().contains("redirected more than 5 times"), "{why:#}");
    let asked = server.asked();
    assert_eq!(asked.iter().map(|(_, key)| *key).collect::<Vec<_>>(), [true, false, false, false, false, false]);
    let server = Hostile::start(|_| Hostile::redirect("file:///etc/passwd")).await;
    let why = server.download(&folder.path().join("b.zip"), Some(ARCHIVE), Some(10), false).await.unwrap_err();
    assert!(why.to_string().contains("is not followed"), "{why:#}");
}

#[tokio::test]
async fn a_range_that_was_not_asked_for_is_not_joined() {
    for range in
        ["bytes 0-9/10", "bytes 4-9/11", "bytes 5-9/10", "bytes */10", "bytes 4", "x", "bytes 18446744073709551615-0/0"]
    {
        let server = Hostile::start(move |_| {
            let mut answer = Hostile::answer(206, &ARCHIVE[4..]);
            answer.headers_mut().insert(CONTENT_RANGE, range.parse().unwrap());
            answer
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a.zip");
        std::fs::write(folder.path().join("a.zip.part"), b"0123").unwrap();
        std::fs::write(folder.path().join("a.zip.part.etag"), format!("\"{}\"", Sha256::of(ARCHIVE))).unwrap();
        let why = server.download(&target, Some(ARCHIVE), Some(10), false).await.unwrap_err().to_string();
        assert!(why.contains("other bytes"), "{range}: {why}");
        assert!(!target.exists());
    }
}

#[tokio::test]
async fn nobody_waits_for_years() {
    let server = Hostile::start(|_| {
        let mut answer = Hostile::answer(503, b"{}");
        answer.headers_mut().insert("retry-after", "18446744073709551615".parse().unwrap());
        answer
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("a.zip");
    let download = server.download(&target, Some(ARCHIVE), Some(10), false);
    let why = tokio::time::timeout(Duration::from_secs(60), download).await.expect("it gives up at once").unwrap_err();
    assert!(why.to_string().contains("503"), "{why:#}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn what_has_no_room_is_not_begun() {
    let server = Hostile::start(|_| Hostile::answer(200, ARCHIVE)).await;
    let folder = tempfile::tempdir().unwrap();
    let size = Some(u64::MAX / 2);
    let why = server.download(&folder.path().join("a.zip"), Some(ARCHIVE), size, false).await.unwrap_err();
    assert!(why.to_string().contains("make room"), "{why:#}");
    assert_eq!((server.asked().len(), std::fs::read_dir(folder.path()).unwrap().count()), (0, 0));
}
