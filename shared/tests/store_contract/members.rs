//! Reading members, page by page.

use std::collections::BTreeMap;
use std::time::Instant;

use adit_shared::ids::VersionId;
use adit_shared::store::{Member, NewDocument, Store as _, StoreError};
use futures::{StreamExt as _, TryStreamExt as _};
use roaring::RoaringBitmap;
use serde_json::{Value, json};

use super::harness::Database;
use super::samples::{HOUR, document, file, formats, import, member, new_collection, stage};

pub(crate) async fn members_come_in_order_with_the_wanted_files(db: Database) {
    let (_, old) = import(&db.store, "c", &["a", "b"], &["txt", "pdf", "meta"]).await;
    import(&db.store, "c", &["a"], &["xml"]).await;
    let bitmap: RoaringBitmap = old.iter().map(|id| id.0).collect();
    let read = async |after, wanted: Option<&[_]>| {
        db.store.members(&bitmap, after, wanted).try_collect::<Vec<Member>>().await.unwrap()
    };

    let documents = db.store.documents(&old).await.unwrap();
    assert_eq!(documents[0].superseded, Some(2), "a docset keeps what it froze");
    let expected: Vec<Member> = documents.into_iter().map(member).collect();
    assert_eq!(read(None, None).await, expected);
    assert_eq!(read(Some(old[0]), None).await, expected[1..]);
    assert_eq!(read(Some(VersionId(u32::MAX)), None).await, []);

    let names =
        |members: &[Member]| -> Vec<String> { members[0].files.iter().map(|file| file.format.to_string()).collect() };
    assert_eq!(names(&read(None, Some(&formats(&["txt", "meta"]))).await), ["meta", "txt"]);
    for nothing in [formats(&["epub"]), vec![]] {
        let members = read(None, Some(&nothing)).await;
        assert_eq!(members.len(), 2);
        assert!(members.iter().all(|member| member.files.is_empty()));
    }
    assert_eq!(db.store.members(&RoaringBitmap::new(), None, None).count().await, 0);
}

pub(crate) async fn pages_of_every_shape_give_every_member_once(db: Database) {
    const COUNT: u32 = 100_000;
    let lease = db.store.begin_import(&new_collection("large"), 0, HOUR).await.unwrap();
    let begun = Instant::now();
    let mut first = None;
    for batch in 0..COUNT / 5000 {
        let refs: Vec<String> = (0..5000).map(|i| format!("ref.{batch}.{i}")).collect();
        let ids = stage(&db.store, &lease, &refs, &["txt", "meta"]).await;
        first.get_or_insert(ids[0].0);
    }
    let collection = db.store.commit_import(&lease, 1).await.unwrap();
    println!("imported {COUNT} documents in {:?}", begun.elapsed());
    assert_eq!(collection.documents, u64::from(COUNT));

    let ids = first.unwrap()..first.unwrap() + COUNT;
    let wanted = formats(&["txt"]);
    let shapes: [(&str, RoaringBitmap); 4] = [
        ("dense", ids.clone().collect()),
        ("every second", ids.clone().step_by(2).collect()),
        ("sparse", ids.clone().step_by(37).collect()),
        ("dense, then sparse", ids.clone().take(2500).chain(ids.clone().skip(50_000).step_by(11)).collect()),
    ];
    for (shape, bitmap) in &shapes {
        let begun = Instant::now();
        let mut expected = bitmap.iter();
        let mut members = db.store.members(bitmap, None, Some(&wanted));
        while let Some(member) = members.try_next().await.unwrap() {
            assert_eq!(Some(member.id.0), expected.next(), "{shape}");
            assert_eq!(member.files[0].place.offset, u64::from(member.id.0) * 100, "{shape}");
        }
        assert_eq!(expected.next(), None, "{shape}");
        println!("{shape}: {} members in {:?}", bitmap.len(), begun.elapsed());
    }
}

pub(crate) async fn a_missing_member_is_an_error(db: Database) {
    let (_, ids) = import(&db.store, "c", &["a", "b"], &["txt"]).await;
    for missing in [0, ids[1].0 + 1, u32::MAX] {
        let bitmap: RoaringBitmap = ids.iter().map(|id| id.0).chain([missing]).collect();
        let outcome = db.store.members(&bitmap, None, None).try_collect::<Vec<_>>().await;
        let Err(StoreError::Corrupt(reason)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(reason, format!("document version {missing} is not there"));
    }
}

pub(crate) async fn a_waiting_consumer_holds_no_connection(db: Database) {
    let (_, ids) = import(&db.store, "c", &["a", "b"], &["txt"]).await;
    let bitmap: RoaringBitmap = ids.iter().map(|id| id.0).collect();
    // More streams than there are connections, each stopped in the middle.
    let mut streams: Vec<_> = (0..40).map(|_| db.store.members(&bitmap, None, None)).collect();
    for stream in &mut streams {
        assert_eq!(stream.try_next().await.unwrap().unwrap().id, ids[0]);
    }
    import(&db.store, "d", &["x"], &["txt"]).await;
    for stream in &mut streams {
        assert_eq!(stream.try_next().await.unwrap().unwrap().id, ids[1]);
    }
}

pub(crate) async fn described_members_come_with_their_metadata(db: Database) {
    let lease = db.store.begin_import(&new_collection("c"), 0, HOUR).await.unwrap();
    let first = db.store.reserve_versions(600).await.unwrap().0;
    let metadata = |id: u32| match id % 3 {
        0 => json!({}),
        1 => {
            json!({"title": "שלום 🜁 ; \n \u{0} end", "license": "https://example.org/l", "n": [1, 2.5, null, {"a": true}]})
        }
        _ => json!({"abstract": "long ".repeat(2000), "id": id}),
    };
    let documents: Vec<NewDocument> = (first..first + 600)
        .map(|id| NewDocument {
            metadata: metadata(id).as_object().unwrap().clone(),
            ..document(VersionId(id), &format!("ref {id} é"), vec![file("txt", id, 10), file("meta", id, 10)])
        })
        .collect();
    db.store.stage_documents(&lease, &documents).await.unwrap();
    db.store.commit_import(&lease, 1).await.unwrap();
    let (dense, sparse): (RoaringBitmap, RoaringBitmap) =
        ((first..first + 600).collect(), (first..first + 600).step_by(2).collect());
    let wanted = formats(&["txt"]);
    for bitmap in [&dense, &sparse] {
        let plain: Vec<Member> = db.store.members(bitmap, None, Some(&wanted)).try_collect().await.unwrap();
        let described: Vec<(Member, String)> = db.store.described_members(bitmap, &wanted).try_collect().await.unwrap();
        assert_eq!(described.len() as u64, bitmap.len());
        for ((member, text), plain) in described.into_iter().zip(plain) {
            assert_eq!(member, plain);
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), metadata(member.id.0));
        }
    }
}

pub(crate) async fn members_are_found_by_ref_in_their_docset_only(db: Database) {
    let (collection, old) = import(&db.store, "c", &["a", "b", "ç"], &["txt"]).await;
    let (_, new) = import(&db.store, "c", &["a", "d"], &["txt"]).await;
    import(&db.store, "other", &["a"], &["txt"]).await;
    let found = async |members: &[VersionId], refs: &[&str]| {
        let members = members.iter().map(|id| id.0).collect();
        let found = db.store.members_by_ref(collection.id, &members, refs).await.unwrap();
        found.into_iter().collect::<BTreeMap<String, VersionId>>()
    };
    let all = ["a", "b", "ç", "d", "none", "nul\0"];
    let named = |pairs: &[(&str, VersionId)]| pairs.iter().map(|&(text, id)| (text.to_owned(), id)).collect();
    assert_eq!(found(&old, &all).await, named(&[("a", old[0]), ("b", old[1]), ("ç", old[2])]));
    assert_eq!(found(&new, &all).await, named(&[("a", new[0]), ("d", new[1])]));
    assert_eq!(found(&old[1..], &["a"]).await, BTreeMap::new());
    assert_eq!(found(&[], &all).await, BTreeMap::new());
    let many: Vec<String> = (0..2000).map(|i| format!("no.{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).chain(["b"]).collect();
    assert_eq!(found(&old, &many).await, named(&[("b", old[1])]));
}
