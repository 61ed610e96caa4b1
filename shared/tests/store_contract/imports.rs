//! What imports add, and when it is seen.

use std::collections::{BTreeMap, HashMap, HashSet};

use adit_shared::digest::Sha256;
use adit_shared::domain::{Access, Document, Encoding, FileRecord, Place};
use adit_shared::ids::{CollectionId, VersionId};
use adit_shared::search::Language;
use adit_shared::store::{CurrentDocument, Member, NewCollection, NewDocument, Store as _, StoreError};
use futures::TryStreamExt as _;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::json;

use super::harness::Database;
use super::samples::{HOUR, document, file, format, import, member, new_collection, stage, totals};

fn refs(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

pub(crate) async fn nothing_is_visible_before_the_commit(db: Database) {
    let lease = db.store.begin_import(&new_collection("c"), 3, HOUR).await.unwrap();
    let empty = db.store.collection("c").await.unwrap().unwrap();
    assert_eq!((empty.corpus_version, empty.documents, empty.updated), (0, 0, 3));
    let ids = stage(&db.store, &lease, &refs(&["a", "b"]), &["txt", "pdf"]).await;
    assert_eq!(db.store.collection_by_id(empty.id).await.unwrap(), Some(empty.clone()));
    assert!(db.store.resolve_refs(empty.id, 0, &refs(&["a"])).await.unwrap().is_empty());
    assert!(db.store.documents(&ids).await.unwrap().is_empty());

    let full = db.store.commit_import(&lease, 9).await.unwrap();
    assert_eq!((full.corpus_version, full.documents, full.updated), (1, 2, 9));
    assert_eq!(db.store.documents(&ids).await.unwrap().len(), 2);
    assert_eq!(full.formats, totals(&[("pdf", 2, 2000), ("txt", 2, 2000)]));
    assert_eq!(db.store.collection("c").await.unwrap(), Some(full));
    let found = db.store.resolve_refs(empty.id, 1, &refs(&["b", "a", "z", "a", "nul\0"])).await.unwrap();
    assert_eq!(found, HashMap::from([("a".to_owned(), ids[0]), ("b".to_owned(), ids[1])]));
    assert_eq!(db.store.collection("nul\0").await.unwrap(), None);
    assert_eq!(db.store.collection_by_id(CollectionId(99)).await.unwrap(), None);
}

pub(crate) async fn a_new_version_replaces_the_old_one_from_its_corpus_version_on(db: Database) {
    let (_, old) = import(&db.store, "c", &["a", "b"], &["txt"]).await;
    let (collection, new) = import(&db.store, "c", &["b", "c"], &["txt", "xml"]).await;
    assert_eq!((collection.corpus_version, collection.documents), (2, 3));
    assert_eq!(collection.formats, totals(&[("txt", 3, 3000), ("xml", 2, 2000)]));

    let at = async |version| db.store.resolve_refs(collection.id, version, &refs(&["a", "b", "c"])).await.unwrap();
    let named = |pairs: &[(&str, VersionId)]| pairs.iter().map(|(text, id)| ((*text).to_owned(), *id)).collect();
    assert_eq!(at(0).await, HashMap::new());
    assert_eq!(at(1).await, named(&[("a", old[0]), ("b", old[1])]));
    assert_eq!(at(2).await, named(&[("a", old[0]), ("b", new[0]), ("c", new[1])]));

    let documents = db.store.documents(&[new[0], old[1]]).await.unwrap();
    let versions: Vec<_> = documents.iter().map(|d| (d.id, d.version, d.added, d.superseded)).collect();
    assert_eq!(versions, [(old[1], 1, 1, Some(2)), (new[0], 2, 2, None)]);
}

pub(crate) async fn an_import_without_changes_keeps_the_corpus_version(db: Database) {
    let (before, _) = import(&db.store, "c", &["a"], &["txt"]).await;
    let lease = db.store.begin_import(&new_collection("c"), 50, HOUR).await.unwrap();
    assert_eq!(db.store.commit_import(&lease, 60).await.unwrap(), before);

    let license = Some("https://example.org/l".to_owned());
    let described = NewCollection { license, language: Some(Language::De), ..new_collection("c") };
    let lease = db.store.begin_import(&described, 70, HOUR).await.unwrap();
    let after = db.store.commit_import(&lease, 80).await.unwrap();
    assert_eq!((after.license.clone(), after.language), (described.license.clone(), described.language));
    assert_eq!((after.corpus_version, after.updated), (1, 70));
    // Nothing is said anew, so nothing was updated.
    let lease = db.store.begin_import(&described, 90, HOUR).await.unwrap();
    assert_eq!(db.store.commit_import(&lease, 100).await.unwrap(), after);
    assert_eq!((after.documents, after.formats), (before.documents, before.formats));
}

pub(crate) async fn every_field_comes_back_as_it_was(db: Database) {
    let odd =
        ["it's", "a\"b\\c", "line\nbreak\t", "%_$1 ?1 :x", "日本語 é", " ", "", "'; DROP TABLE files; --", "x,y|z"];
    let largest = FileRecord {
        format: format("0123456789abcdef"),
        media_type: "application/vnd.odd+xml; q=\"a b\"\n".to_owned(),
        size: 1 << 50,
        sha256: Sha256([0xff; 32]),
        crc32: u32::MAX,
        encoding: Encoding::Identity,
        deflate_crc32: None,
        place: Place { object: "packs/1/a b-'\u{1f}".to_owned(), offset: 1 << 40, stored: 0 },
    };
    let lease = db.store.begin_import(&new_collection("c"), 0, HOUR).await.unwrap();
    let ids = db.store.reserve_versions(9).await.unwrap().0..;
    let documents: Vec<NewDocument> = ids
        .zip(odd)
        .map(|(id, text)| NewDocument {
            metadata: json!({"title": text, "nul": "\0", "n": [1, 2.5, null, true], "o": {}})
                .as_object()
                .unwrap()
                .clone(),
            ..document(VersionId(id), text, vec![file("txt", id, 1), largest.clone(), file("meta", 0, 0)])
        })
        .collect();
    db.store.stage_documents(&lease, &documents[..8]).await.unwrap();
    db.store.stage_documents(&lease, &documents[8..]).await.unwrap();
    db.store.stage_documents(&lease, &[]).await.unwrap();
    db.store.commit_import(&lease, 1).await.unwrap();

    let ids: Vec<VersionId> = documents.iter().map(|d| d.id).chain([VersionId(999), documents[0].id]).collect();
    let stored = db.store.documents(&ids).await.unwrap();
    let expected: Vec<Document> = documents.into_iter().map(|new| as_stored(new, lease.collection())).collect();
    assert_eq!(stored, expected);
    let bitmap = stored.iter().map(|document| document.id.0).collect();
    let members: Vec<Member> = db.store.members(&bitmap, None, None).try_collect().await.unwrap();
    assert_eq!(members, stored.into_iter().map(member).collect::<Vec<_>>());
    let found = db.store.resolve_refs(lease.collection(), 1, &refs(&odd)).await.unwrap();
    assert_eq!(found.len(), odd.len());
}

/// What a document that the first import adds is read back as.
fn as_stored(mut new: NewDocument, collection: CollectionId) -> Document {
    new.files.sort_by(|a, b| a.format.cmp(&b.format));
    Document {
        id: new.id,
        collection,
        r#ref: new.r#ref,
        version: 1,
        name: new.name,
        metadata: new.metadata,
        content_hash: new.content_hash,
        added: 1,
        superseded: None,
        access: new.access,
        withdrawn: None,
        files: new.files,
    }
}

pub(crate) async fn names_belong_to_one_ref(db: Database) {
    let (_, ids) = import(&db.store, "c", &["Paper", "b"], &["txt"]).await;
    import(&db.store, "other", &["paper"], &["txt"]).await;
    let lease = db.store.begin_import(&new_collection("c"), 0, HOUR).await.unwrap();
    let staged = stage(&db.store, &lease, &refs(&["New"]), &["txt"]).await;

    let owners = db.store.name_owners(&lease, &refs(&["paper", "new", "free"])).await.unwrap();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(owners, HashMap::from([pair("paper", "Paper"), pair("new", "New")]));

    let current = db.store.current_documents(&lease, &refs(&["Paper", "paper", "New"])).await.unwrap();
    let stored = db.store.documents(&[ids[0]]).await.unwrap().remove(0);
    let expected = CurrentDocument {
        id: ids[0],
        version: 1,
        name: "Paper".to_owned(),
        content_hash: stored.content_hash,
        access: Access::Open,
    };
    assert_eq!(current, HashMap::from([("Paper".to_owned(), expected)]), "what is staged is not current yet");

    // The database itself refuses a second document of one ref or name in one corpus version.
    let twice = document(VersionId(staged[0].0 + 1), "New", vec![]);
    assert!(db.store.stage_documents(&lease, std::slice::from_ref(&twice)).await.is_err());
    let clash = NewDocument { r#ref: "nEW".to_owned(), ..twice };
    assert!(db.store.stage_documents(&lease, &[clash]).await.is_err());
    let nul = document(VersionId(staged[0].0 + 1), "nul\0", vec![]);
    let error = db.store.stage_documents(&lease, &[nul]).await.unwrap_err().to_string();
    assert!(error.contains("NUL"), "{error}");
    assert_eq!(db.store.commit_import(&lease, 1).await.unwrap().documents, 3);
}

pub(crate) async fn version_ids_are_never_given_out_twice(db: Database) {
    let other = db.open_again().await;
    let reserving = (0..40).map(|i| {
        let store = if i % 2 == 0 { db.store.clone() } else { other.clone() };
        tokio::spawn(async move { store.reserve_versions(100).await.unwrap().0 })
    });
    let firsts = join_all(reserving).await.into_iter().map(Result::unwrap);
    let ids: HashSet<u32> = firsts.flat_map(|first| first..first + 100).collect();
    assert_eq!(ids.len(), 4000);
    assert!(!ids.contains(&0));
    assert!(db.store.reserve_versions(1).await.unwrap().0 > ids.into_iter().max().unwrap());
}

pub(crate) async fn version_ids_run_out(db: Database) {
    db.store.reserve_versions(u32::MAX - 10).await.unwrap();
    assert!(matches!(db.store.reserve_versions(11).await, Err(StoreError::IdsExhausted)));
    assert_eq!(db.store.reserve_versions(10).await.unwrap(), VersionId(u32::MAX - 9));
    assert!(matches!(db.store.reserve_versions(1).await, Err(StoreError::IdsExhausted)));
}

pub(crate) async fn imports_into_two_collections_run_at_once(db: Database) {
    let other = db.open_again().await;
    let importing = ["left", "right"].map(|slug| {
        let store = if slug == "left" { db.store.clone() } else { other.clone() };
        tokio::spawn(async move {
            let lease = store.begin_import(&new_collection(slug), 0, HOUR).await.unwrap();
            for batch in 0..10 {
                let refs: Vec<String> = (0..120).map(|i| format!("{slug}-{batch}-{i}")).collect();
                stage(&store, &lease, &refs, &["txt", "meta", "pdf", "xml", "epub"]).await;
            }
            store.commit_import(&lease, 1).await.unwrap()
        })
    });
    for imported in join_all(importing).await {
        let collection = imported.unwrap();
        assert_eq!((collection.documents, collection.formats.len()), (1200, 5));
        assert!(collection.formats.iter().all(|total| (total.documents, total.bytes) == (1200, 1_200_000)));
    }
}

/// Imports at random, some given up, and counts along.
pub(crate) async fn totals_stay_true_over_many_imports(db: Database) {
    let mut random = StdRng::seed_from_u64(7);
    let mut model: BTreeMap<String, Vec<FileRecord>> = BTreeMap::new();
    let mut version = 0;
    for round in 0..30 {
        let lease = db.store.begin_import(&new_collection("c"), round, HOUR).await.unwrap();
        let texts: HashSet<String> =
            (0..random.random_range(0..8)).map(|_| format!("r{}", random.random_range(0..12))).collect();
        let texts: Vec<String> = texts.into_iter().collect();
        let current = db.store.current_documents(&lease, &texts).await.unwrap();
        assert_eq!(current.len(), texts.iter().filter(|text| model.contains_key(*text)).count());
        let first = db.store.reserve_versions(8).await.unwrap().0;
        let staged: Vec<NewDocument> = texts
            .iter()
            .zip(first..)
            .map(|(text, id)| {
                let names = ["meta", "pdf", "txt"].into_iter().filter(|_| random.random_bool(0.6));
                let files = names.map(|name| file(name, id, u64::from(id) * 3)).collect();
                NewDocument { replaces: current.get(text).map(|old| old.id), ..document(VersionId(id), text, files) }
            })
            .collect();
        db.store.stage_documents(&lease, &staged).await.unwrap();
        if random.random_bool(0.2) {
            db.store.abort_import(&lease).await.unwrap();
            continue;
        }
        version += i64::from(!staged.is_empty());
        model.extend(staged.into_iter().map(|new| (new.r#ref, new.files)));
        let collection = db.store.commit_import(&lease, round).await.unwrap();
        let mut sums = adit_shared::store::FormatTotals::default();
        model.values().flatten().for_each(|file| sums.add(&file.format, file.size));
        assert_eq!((collection.corpus_version, collection.documents), (version, model.len() as u64), "round {round}");
        assert_eq!(collection.formats, sums.finish(), "round {round}");
    }
}

pub(crate) async fn collections_are_listed_by_slug(db: Database) {
    for slug in ["b-c", "ba", "a", "b"] {
        db.store.begin_import(&new_collection(slug), 0, HOUR).await.unwrap();
    }
    let slugs: Vec<String> = db.store.collections().await.unwrap().into_iter().map(|c| c.slug).collect();
    assert_eq!(slugs, ["a", "b", "b-c", "ba"], "by code points, whatever the server's locale");
}

pub(crate) async fn a_version_tells_when_it_was_imported(db: Database) {
    let mut ids = Vec::new();
    for made in [1000, 2000] {
        let lease = db.store.begin_import(&new_collection("c"), 0, HOUR).await.unwrap();
        ids.extend(stage(&db.store, &lease, &["a".to_owned()], &["txt"]).await);
        assert_eq!(db.store.imported(ids[ids.len() - 1]).await.unwrap(), None, "not yet");
        db.store.commit_import(&lease, made).await.unwrap();
    }
    assert_eq!(db.store.imported(ids[0]).await.unwrap(), Some(1000));
    assert_eq!(db.store.imported(ids[1]).await.unwrap(), Some(2000));
    assert_eq!(db.store.imported(VersionId(u32::MAX)).await.unwrap(), None);
}
