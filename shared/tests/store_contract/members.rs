//! Reading members, page by page.

use std::time::Instant;

use adit_shared::ids::VersionId;
use adit_shared::store::{Member, Store as _, StoreError};
use futures::{StreamExt as _, TryStreamExt as _};
use roaring::RoaringBitmap;

use super::harness::Database;
use super::samples::{HOUR, formats, import, member, new_collection, stage};

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
