//! Checks of whole objects.

use std::ops::Range;
use std::sync::Arc;

use adit_shared::objects::{Call, Count, ObjectError, ObjectStore as _, Recorder, Upload};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use url::Url;

use crate::place::{Place, content};

pub(crate) async fn an_object_is_read_as_it_was_put(place: &Place) {
    for (key, length) in [("empty", 0), ("one", 1), ("a/b/c.bin", 100_000)] {
        let bytes = content(length as u64, length);
        place.store.put(key, bytes.clone()).await.unwrap();
        assert_eq!(place.store.get(key, None).await.unwrap(), bytes);
        assert_eq!(place.streamed(key).await, bytes);
        assert_eq!(place.store.size(key).await.unwrap(), Some(length as u64));
    }
    assert_eq!(place.reopen().await.get("one", None).await.unwrap(), content(1, 1));
}

pub(crate) async fn an_object_is_replaced_whole(place: &Place) {
    for length in [50_000, 10, 0, 70_000] {
        place.store.put("a/x", content(length as u64, length)).await.unwrap();
        assert_eq!(place.store.get("a/x", None).await.unwrap(), content(length as u64, length));
    }
    assert_eq!(place.store.list("").await.unwrap(), [("a/x".to_owned(), 70_000)]);
}

pub(crate) async fn what_is_not_there_is_not_found(place: &Place) {
    let store = &place.store;
    store.put("a", Bytes::from_static(b"x")).await.unwrap();
    let gone = |error| matches!(error, ObjectError::NotFound(key) if key == "a/b");
    for range in [None, Some(0..1), Some(0..0)] {
        assert!(gone(store.get("a/b", range.clone()).await.unwrap_err()));
        assert!(gone(store.read("a/b", range).await.err().unwrap()));
    }
    assert_eq!(store.size("a/b").await.unwrap(), None);
    store.delete(&["a/b".to_owned(), "a".to_owned()]).await.unwrap();
    store.delete(&["a".to_owned()]).await.unwrap();
    store.delete(&[]).await.unwrap();
    assert_eq!(store.size("a").await.unwrap(), None);
    assert_eq!(store.find_upload("a", 5 << 20).await.unwrap(), None);
}

pub(crate) async fn ranges_are_exact_at_the_edges(place: &Place) {
    let store = &place.store;
    let bytes = content(1, 1000);
    store.put("x", bytes.clone()).await.unwrap();
    store.put("empty", Bytes::new()).await.unwrap();
    for range in [0..1, 0..1000, 999..1000, 17..500, 0..0, 500..500, 1000..1000] {
        let wanted = bytes.slice(range.start as usize..range.end as usize);
        assert_eq!(store.get("x", Some(range.clone())).await.unwrap(), wanted, "{range:?}");
        let streamed: Vec<Bytes> = store.read("x", Some(range)).await.unwrap().try_collect().await.unwrap();
        assert_eq!(streamed.concat(), wanted);
    }
    assert_eq!(store.get("empty", Some(0..0)).await.unwrap(), Bytes::new());
    #[expect(clippy::reversed_empty_ranges, reason = "a caller's mistake that must be answered with an error")]
    let outside: [(&str, Range<u64>); 7] = [
        ("x", 0..1001),
        ("x", 999..1001),
        ("x", 1000..1001),
        ("x", 5000..5001),
        ("x", 1001..1001),
        ("x", 5..3),
        ("empty", 0..1),
    ];
    for (key, range) in outside {
        let named = |error| matches!(error, ObjectError::OutOfRange { key: k, range: r } if k == key && r == range);
        assert!(named(store.get(key, Some(range.clone())).await.unwrap_err()), "{key} {range:?}");
        assert!(named(store.read(key, Some(range.clone())).await.err().unwrap()), "{key} {range:?}");
    }
}

pub(crate) async fn a_long_object_is_streamed(place: &Place) {
    let bytes = content(2, 9_000_001);
    place.store.put("long", bytes.clone()).await.unwrap();
    let chunks: Vec<Bytes> = place.store.read("long", Some(1..9_000_001)).await.unwrap().try_collect().await.unwrap();
    assert!(chunks.iter().all(|chunk| chunk.len() <= 1 << 20), "a stream holds little at a time");
    assert_eq!(chunks.concat(), bytes[1..]);
    // What was opened stays readable to the end.
    let mut stream = place.store.read("long", None).await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first, bytes[..first.len()]);
}

pub(crate) async fn unsafe_keys_are_refused_by_every_call(place: &Place) {
    let store = &place.store;
    for key in ["", "/etc/x", "a/../../x", "..", "a//b", "a/", ".uploads/x", "a/.tmp", "a\0b", "a\nb"] {
        let upload = Upload { key: key.to_owned(), id: "0".to_owned(), part_size: 5 << 20 };
        let errors = [
            store.put(key, Bytes::new()).await.err(),
            store.get(key, None).await.err(),
            store.read(key, None).await.err(),
            store.size(key).await.err(),
            store.delete(&["fine".to_owned(), key.to_owned()]).await.err(),
            store.create_upload(key, 5 << 20).await.err(),
            store.find_upload(key, 5 << 20).await.err(),
            store.presign(key, "x", 60).await.err(),
        ];
        for error in errors {
            assert!(matches!(error, Some(ObjectError::UnsafeKey(named)) if named == key), "{key:?}");
        }
        assert!(store.put_part(&upload, 1, Bytes::new()).await.is_err(), "{key:?}");
        assert!(store.parts(&upload).await.is_err(), "{key:?}");
    }
    for prefix in ["/", "a", "../", "a//", ".uploads/"] {
        assert!(matches!(store.list(prefix).await, Err(ObjectError::UnsafeKey(_))), "{prefix:?}");
    }
    assert_eq!(store.list("").await.unwrap(), []);
}

pub(crate) async fn keys_of_any_script_and_sign_are_kept(place: &Place) {
    let store = &place.store;
    let mut keys =
        ["with space/a b", "Ü/日本語", "plus+%25&=?#", "quote\"'<>", "a..b/c.", "x;y,z!$()*@:~"].map(str::to_owned);
    keys.sort_unstable();
    for key in &keys {
        store.put(key, Bytes::copy_from_slice(key.as_bytes())).await.unwrap();
        let upload = store.create_upload(&format!("{key}.zip"), 5 << 20).await.unwrap();
        assert_eq!(store.find_upload(&upload.key, 5 << 20).await.unwrap(), Some(upload.clone()));
        store.abort_upload(&upload).await.unwrap();
    }
    for key in &keys {
        assert_eq!(store.get(key, None).await.unwrap(), key.as_bytes());
    }
    let listed: Vec<String> = store.list("").await.unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(listed, keys);
    store.delete(&keys).await.unwrap();
    assert_eq!(store.list("").await.unwrap(), []);
}

pub(crate) async fn keys_are_listed_by_prefix_in_order(place: &Place) {
    let store = &place.store;
    for (size, key) in ["a/b/2", "a-b", "a/b/10", "a/c", "ab/x", "b"].into_iter().enumerate() {
        store.put(key, content(0, size)).await.unwrap();
    }
    store.create_upload("a/b/unfinished", 5 << 20).await.unwrap();
    let list = |prefix: &'static str| async move { store.list(prefix).await.unwrap() };
    let listed = |keys: &[(&str, u64)]| keys.iter().map(|(key, size)| ((*key).to_owned(), *size)).collect::<Vec<_>>();
    assert_eq!(list("").await, listed(&[("a-b", 1), ("a/b/10", 2), ("a/b/2", 0), ("a/c", 3), ("ab/x", 4), ("b", 5)]));
    assert_eq!(list("a/").await, listed(&[("a/b/10", 2), ("a/b/2", 0), ("a/c", 3)]));
    assert_eq!(list("a/b/").await, listed(&[("a/b/10", 2), ("a/b/2", 0)]));
    for prefix in ["c/", "b/", "a/b/1/"] {
        assert_eq!(list(prefix).await, []);
    }
}

pub(crate) async fn a_prefix_is_no_object(place: &Place) {
    let store = &place.store;
    store.put("a/b/c", Bytes::from_static(b"x")).await.unwrap();
    for prefix in ["a", "a/b"] {
        assert_eq!(store.size(prefix).await.unwrap(), None, "{prefix}");
        assert!(matches!(store.get(prefix, None).await, Err(ObjectError::NotFound(_))), "{prefix}");
        store.delete(&[prefix.to_owned()]).await.unwrap();
    }
    assert_eq!(store.size("a/b/c").await.unwrap(), Some(1));
}

pub(crate) async fn ten_thousand_keys_are_listed_and_deleted(place: &Place) {
    let store = &place.store;
    let keys: Vec<String> = (0..10_000).map(|n| format!("many/{}/{n:05}", n % 3)).collect();
    let puts = stream::iter(&keys).map(|key| store.put(key, Bytes::from_static(b"x")));
    puts.buffer_unordered(32).try_collect::<()>().await.unwrap();
    store.put("other", Bytes::new()).await.unwrap();
    let mut sorted = keys.clone();
    sorted.sort_unstable();
    let listed: Vec<String> = store.list("many/").await.unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(listed, sorted);
    store.delete(&keys).await.unwrap();
    assert_eq!(store.list("").await.unwrap(), [("other".to_owned(), 0)]);
}

pub(crate) async fn a_link_gives_the_object_under_its_file_name(place: &Place) {
    place.store.put("packages/5/x.zip", Bytes::from_static(b"archive")).await.unwrap();
    let names = [
        ("docset 5.zip", "attachment; filename=\"docset 5.zip\""),
        ("\"Bücher\".zip", "attachment; filename=\"_B_cher_.zip\"; filename*=UTF-8''%22B%C3%BCcher%22.zip"),
    ];
    for (name, disposition) in names {
        let Some(link) = place.store.presign("packages/5/x.zip", name, 60).await.unwrap() else {
            assert!(place.url.starts_with("file:"), "an S3 server has links");
            return;
        };
        let (head, body) = fetch(&link).await;
        let header = head.lines().find_map(|line| {
            let (header, value) = line.split_once(": ")?;
            header.eq_ignore_ascii_case("content-disposition").then_some(value)
        });
        assert_eq!((header, body.as_str()), (Some(disposition), "archive"), "{head}");
    }
    let too_long = place.store.presign("x", "x", 8 * 24 * 3600).await;
    assert!(matches!(too_long, Err(ObjectError::Refused(_))));
}

/// A plain GET as a browser would send it, without any header of the SDK.
async fn fetch(link: &str) -> (String, String) {
    let url = Url::parse(link).unwrap();
    let host = format!("{}:{}", url.host_str().unwrap(), url.port_or_known_default().unwrap());
    let target = &url[url::Position::BeforePath..];
    let mut connection = tokio::net::TcpStream::connect(&host).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}\n{body}");
    (head.to_owned(), body.to_owned())
}

pub(crate) async fn a_recorder_counts_calls_and_bytes(place: &Place) {
    let store = Recorder::new(Arc::clone(&place.store));
    store.put("a", content(0, 100)).await.unwrap();
    store.put("b", content(0, 11)).await.unwrap();
    store.get("a", Some(0..40)).await.unwrap();
    assert!(store.get("none", None).await.is_err());
    let _: Vec<Bytes> = store.read("a", None).await.unwrap().try_collect().await.unwrap();
    let upload = store.create_upload("u", 5 << 20).await.unwrap();
    let part = store.put_part(&upload, 1, content(1, 50)).await.unwrap();
    store.complete_upload(&upload, &[part]).await.unwrap();
    let counts = store.counts();
    assert_eq!(counts.of(Call::Put), Count { calls: 2, bytes: 111 });
    assert_eq!(counts.of(Call::Get), Count { calls: 2, bytes: 40 });
    assert_eq!(counts.of(Call::Read), Count { calls: 1, bytes: 100 });
    assert_eq!(counts.of(Call::PutPart), Count { calls: 1, bytes: 50 });
    assert_eq!(counts.of(Call::CompleteUpload), Count { calls: 1, bytes: 0 });
    assert_eq!(counts.of(Call::List), Count::default());
}
