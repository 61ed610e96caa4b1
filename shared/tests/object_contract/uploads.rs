//! Checks of uploads in parts.

use adit_shared::objects::{ObjectError, ObjectStore, Part, Upload};
use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::place::{PART, Place, content};

const SIZE: u64 = PART as u64;

/// Puts part `number` with the content that its number stands for.
async fn put(store: &dyn ObjectStore, upload: &Upload, number: u32, length: usize) -> Part {
    let part = store.put_part(upload, number, content(number.into(), length)).await.unwrap();
    assert_eq!((part.number, part.size), (number, length as u64));
    part
}

/// The object that parts of these lengths make.
fn object(lengths: &[usize]) -> Vec<u8> {
    lengths.iter().zip(1..).flat_map(|(length, number)| content(number, *length)).collect()
}

fn is_gone<T>(result: Result<T, ObjectError>) -> bool {
    matches!(result, Err(ObjectError::NotFound(_)))
}

fn is_refused<T>(result: Result<T, ObjectError>) -> bool {
    matches!(result, Err(ObjectError::Refused(_)))
}

pub(crate) async fn parts_put_at_once_in_any_order_make_the_object(place: &Place) {
    let store = &*place.store;
    let upload = store.create_upload("p/x.zip", SIZE).await.unwrap();
    assert_eq!((upload.key.as_str(), upload.part_size), ("p/x.zip", SIZE));
    let lengths = [PART, PART, PART, PART, 12_345];
    let order = [5, 2, 4, 1, 3];
    let mut parts = join_all(order.map(|n| put(store, &upload, n, lengths[n as usize - 1]))).await;
    parts.sort_by_key(|part| part.number);
    assert_eq!(store.parts(&upload).await.unwrap(), parts);
    assert_eq!(store.size("p/x.zip").await.unwrap(), None, "an unfinished upload does not show");
    assert_eq!(store.list("").await.unwrap(), []);
    store.complete_upload(&upload, &parts).await.unwrap();

    let whole = object(&lengths);
    assert_eq!(place.streamed("p/x.zip").await, whole);
    let across = SIZE - 10..SIZE + 10;
    let slice = &whole[PART - 10..PART + 10];
    assert_eq!(store.get("p/x.zip", Some(across)).await.unwrap(), slice);
    assert_eq!(store.list("p/").await.unwrap(), [("p/x.zip".to_owned(), whole.len() as u64)]);
    assert_eq!(store.find_upload("p/x.zip", SIZE).await.unwrap(), None);
    assert!(is_gone(store.put_part(&upload, 1, content(9, PART)).await));
    assert_eq!(place.streamed("p/x.zip").await, whole, "a late part changes nothing");
}

pub(crate) async fn a_part_put_again_replaces_the_first(place: &Place) {
    let store = &*place.store;
    let upload = store.create_upload("x", SIZE).await.unwrap();
    let first = store.put_part(&upload, 1, content(70, PART)).await.unwrap();
    store.put_part(&upload, 2, content(71, 500)).await.unwrap();
    let [again, short] = [put(store, &upload, 1, PART).await, put(store, &upload, 2, 7).await];
    assert_ne!(first.etag, again.etag);
    assert_eq!(put(store, &upload, 1, PART).await, again, "the same bytes are the same part");
    let parts = [again, short];
    let told = store.parts(&upload).await.unwrap();
    // A server may list all tries under the same second: then the store tells none, but never an old one.
    assert!(told.iter().all(|part| parts.contains(part)), "{told:?}");
    assert!(told == parts || !place.url.starts_with("file:"));
    store.complete_upload(&upload, &parts).await.unwrap();
    assert_eq!(place.streamed("x").await, object(&[PART, 7]));
}

pub(crate) async fn an_upload_may_be_one_short_or_empty_part(place: &Place) {
    let store = &*place.store;
    for (key, length) in [("short", 3), ("empty", 0)] {
        let upload = store.create_upload(key, SIZE).await.unwrap();
        let part = put(store, &upload, 1, length).await;
        store.complete_upload(&upload, &[part]).await.unwrap();
        assert_eq!(store.get(key, None).await.unwrap(), object(&[length]));
    }
}

pub(crate) async fn an_upload_goes_on_after_a_crash(place: &Place) {
    let before = {
        let store = place.reopen().await;
        let upload = store.create_upload("x", SIZE).await.unwrap();
        let parts = [put(&*store, &upload, 1, PART).await, put(&*store, &upload, 3, 99).await];
        (upload, parts)
    };
    let store = place.reopen().await;
    let upload = store.find_upload("x", SIZE).await.unwrap().unwrap();
    assert_eq!(upload, before.0);
    let mut parts = store.parts(&upload).await.unwrap();
    assert_eq!(parts, before.1);
    parts.insert(1, put(&*store, &upload, 2, PART).await);
    store.complete_upload(&upload, &parts).await.unwrap();
    assert_eq!(place.streamed("x").await, object(&[PART, PART, 99]));
}

pub(crate) async fn parts_that_make_no_object_are_refused(place: &Place) {
    let store = &*place.store;
    let upload = store.create_upload("x", SIZE).await.unwrap();
    let [one, two, three] = [(1, PART), (2, PART), (3, 5)].map(|(n, length)| put(store, &upload, n, length));
    let [one, two, three] = [one.await, two.await, three.await];
    let none = Part { number: 4, ..three.clone() };
    let full = Part { size: SIZE, ..three.clone() };
    let other = Part { etag: two.etag.clone(), ..one.clone() };
    for parts in [
        vec![],
        vec![one.clone(), three.clone()],
        vec![two.clone()],
        vec![two.clone(), one.clone()],
        vec![other, two.clone(), three.clone()],
        vec![one.clone(), two.clone(), full, none],
    ] {
        assert!(is_refused(store.complete_upload(&upload, &parts).await), "{parts:?}");
    }
    for (number, length) in [(0, 1), (10_001, 1), (4, PART + 1)] {
        assert!(is_refused(store.put_part(&upload, number, content(0, length)).await), "{number}");
    }
    for part_size in [0, 6 << 30] {
        assert!(is_refused(store.create_upload("y", part_size).await), "{part_size}");
    }
    assert_eq!(store.size("x").await.unwrap(), None);
    let parts = [one, two, three];
    let told = store.parts(&upload).await.unwrap();
    assert!(parts[1..].iter().all(|part| told.contains(part)), "a refusal costs no part: {told:?}");
    store.complete_upload(&upload, &parts[..2]).await.unwrap();
    assert_eq!(place.streamed("x").await, object(&[PART, PART]), "parts that are not asked for are left out");
}

pub(crate) async fn an_upload_is_finished_once(place: &Place) {
    let stores = [place.reopen().await, place.reopen().await];
    let upload = stores[0].create_upload("x", SIZE).await.unwrap();
    let parts = [put(&*stores[0], &upload, 1, PART).await, put(&*stores[1], &upload, 2, 10).await];
    let results = join_all(stores.iter().map(|store| store.complete_upload(&upload, &parts))).await;
    assert!(results.iter().any(Result::is_ok), "{results:?}");
    // Servers may answer the second one, too, with success; never with another error, and never with another object.
    for result in results {
        assert!(result.is_ok() || is_gone(result));
    }
    assert_eq!(place.streamed("x").await, object(&[PART, 10]));
    assert_eq!(place.store.find_upload("x", SIZE).await.unwrap(), None);
}

pub(crate) async fn an_upload_replaces_an_object(place: &Place) {
    let store = &*place.store;
    store.put("x", content(50, 1000)).await.unwrap();
    let upload = store.create_upload("x", SIZE).await.unwrap();
    let part = put(store, &upload, 1, 10).await;
    assert_eq!(store.get("x", None).await.unwrap(), content(50, 1000));
    store.complete_upload(&upload, &[part]).await.unwrap();
    assert_eq!(store.get("x", None).await.unwrap(), object(&[10]));
}

pub(crate) async fn an_aborted_upload_is_gone(place: &Place) {
    let store = &*place.store;
    let upload = store.create_upload("x", SIZE).await.unwrap();
    let part = put(store, &upload, 1, 10).await;
    for _ in 0..2 {
        store.abort_upload(&upload).await.unwrap();
    }
    assert_eq!(store.find_upload("x", SIZE).await.unwrap(), None);
    assert!(is_gone(store.parts(&upload).await));
    assert!(is_gone(store.put_part(&upload, 1, content(1, 10)).await));
    assert!(is_gone(store.complete_upload(&upload, &[part]).await));
    assert_eq!(store.size("x").await.unwrap(), None);
}

pub(crate) async fn uploads_of_similar_keys_are_told_apart(place: &Place) {
    let store = &*place.store;
    let mut uploads = Vec::new();
    for key in ["p/x.zip.old", "p/x", "p/x.zip", "p/y"] {
        uploads.push(store.create_upload(key, SIZE).await.unwrap());
    }
    for upload in &uploads {
        assert_eq!(store.find_upload(&upload.key, SIZE).await.unwrap().as_ref(), Some(upload));
    }
    let mut listed = store.list_uploads("p/").await.unwrap();
    assert_eq!(store.list_uploads("").await.unwrap().len(), listed.len());
    assert_eq!(store.list_uploads("q/").await.unwrap(), []);
    listed.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let mut begun = uploads.clone();
    begun.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    let ids = |uploads: &[Upload]| uploads.iter().map(|upload| upload.id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&listed), ids(&begun));
    assert_eq!(store.find_upload("p/x.zi", SIZE).await.unwrap(), None);
    store.abort_upload(&uploads[2]).await.unwrap();
    assert_eq!(store.find_upload("p/x.zip", SIZE).await.unwrap(), None);
    for upload in &uploads {
        store.abort_upload(upload).await.unwrap();
    }
}

pub(crate) async fn a_thousand_parts_and_more_are_told(place: &Place) {
    let store = &*place.store;
    let upload = store.create_upload("x", SIZE).await.unwrap();
    let puts = stream::iter(1..=1100).map(|number| store.put_part(&upload, number, Bytes::from_static(b"x")));
    puts.buffer_unordered(16).try_collect::<Vec<_>>().await.unwrap();
    let numbers: Vec<u32> = store.parts(&upload).await.unwrap().iter().map(|part| part.number).collect();
    assert_eq!(numbers, (1..=1100).collect::<Vec<_>>());
    store.abort_upload(&upload).await.unwrap();
}

pub(crate) async fn a_thousand_uploads_and_more_are_searched(place: &Place) {
    let store = &*place.store;
    let wanted = store.create_upload("p/x-0500", SIZE).await.unwrap();
    let keys: Vec<String> = (0..1100).map(|n| format!("p/x-0500-{n:04}")).collect();
    let created = stream::iter(&keys).map(|key| store.create_upload(key, SIZE)).buffer_unordered(16);
    let others: Vec<Upload> = created.try_collect().await.unwrap();
    assert_eq!(store.find_upload("p/x-0500", SIZE).await.unwrap().as_ref(), Some(&wanted));
    assert_eq!(store.find_upload("p/x-0500-1099", SIZE).await.unwrap().map(|found| found.key), keys.last().cloned());
    let aborts = stream::iter(others.iter().chain([&wanted])).map(|upload| store.abort_upload(upload));
    aborts.buffer_unordered(16).try_collect::<()>().await.unwrap();
    assert_eq!(store.find_upload("p/x-0500", SIZE).await.unwrap(), None);
}
