//! Sample rows.

use adit_shared::digest::Sha256;
use adit_shared::domain::{
    Access, Clearance, Collection, Document, Encoding, FileRecord, Format, FormatTotal, Layout, Place, Recipe, Role,
    Selection, content_hash,
};
use adit_shared::ids::{CollectionId, DocsetId, KeyId, VersionId};
use adit_shared::names;
use adit_shared::store::{
    FormatTotals, ImportLease, Member, NewCollection, NewDocset, NewDocument, NewPackage, SqlStore, Store as _,
};
use roaring::RoaringBitmap;
use serde_json::json;

pub(crate) const HOUR: i64 = 3_600_000;

pub(crate) fn format(name: &str) -> Format {
    name.parse().unwrap()
}

pub(crate) fn formats(names: &[&str]) -> Vec<Format> {
    names.iter().map(|name| format(name)).collect()
}

pub(crate) fn new_collection(slug: &str) -> NewCollection {
    NewCollection {
        slug: slug.to_owned(),
        name: format!("The {slug} papers"),
        description: "What it holds".to_owned(),
        ..NewCollection::default()
    }
}

/// A file of `size` bytes; everything else of it follows from `seed`.
pub(crate) fn file(name: &str, seed: u32, size: u64) -> FileRecord {
    FileRecord {
        format: format(name),
        media_type: if name == "txt" { "text/plain; charset=utf-8".to_owned() } else { format!("application/{name}") },
        size,
        sha256: Sha256::of(format!("{name} {seed} {size}").as_bytes()),
        crc32: seed.wrapping_mul(0x9e37_79b9),
        encoding: if name == "pdf" { Encoding::Identity } else { Encoding::Gzip },
        // As of an import before these checksums, for some.
        deflate_crc32: (name == "txt").then_some(!seed),
        place: Place {
            object: format!("packs/1/00-{name}-00001"),
            offset: u64::from(seed) * 100,
            stored: size / 2 + 1,
        },
    }
}

/// The first version of a document.
pub(crate) fn document(id: VersionId, r#ref: &str, files: Vec<FileRecord>) -> NewDocument {
    let name = names::safe_name(r#ref);
    let hashed = files.iter().map(|f| (&f.format, f.media_type.as_str(), f.size, &f.sha256));
    NewDocument {
        id,
        r#ref: r#ref.to_owned(),
        version: 1,
        folded_name: names::fold(&name),
        content_hash: content_hash(r#ref, &name, hashed),
        name,
        metadata: json!({"title": format!("On {ref}"), "creator": ["A", "B"]}).as_object().unwrap().clone(),
        access: Access::Open,
        replaces: None,
        files,
    }
}

/// Stages refs with files of these formats, as new versions where they are there already; returns the ids.
pub(crate) async fn stage(store: &SqlStore, lease: &ImportLease, refs: &[String], names: &[&str]) -> Vec<VersionId> {
    let first = store.reserve_versions(u32::try_from(refs.len()).unwrap()).await.unwrap();
    let current = store.current_documents(lease, refs).await.unwrap();
    let documents = refs.iter().zip(first.0..).map(|(text, id)| {
        let files = names.iter().map(|name| file(name, id, 1000)).collect();
        let old = current.get(text);
        NewDocument {
            version: old.map_or(1, |old| old.version + 1),
            replaces: old.map(|old| old.id),
            ..document(VersionId(id), text, files)
        }
    });
    let documents: Vec<_> = documents.collect();
    store.stage_documents(lease, &documents).await.unwrap();
    documents.iter().map(|document| document.id).collect()
}

/// Imports refs with files of these formats; returns the collection after it, and the ids.
pub(crate) async fn import(
    store: &SqlStore,
    slug: &str,
    refs: &[&str],
    names: &[&str],
) -> (Collection, Vec<VersionId>) {
    let lease = store.begin_import(&new_collection(slug), 0, HOUR).await.unwrap();
    let refs: Vec<String> = refs.iter().map(|&text| text.to_owned()).collect();
    let ids = stage(store, &lease, &refs, names).await;
    (store.commit_import(&lease, 1).await.unwrap(), ids)
}

/// Sums, as (format, documents, bytes).
pub(crate) fn totals(sums: &[(&str, u64, u64)]) -> Vec<FormatTotal> {
    sums.iter().map(|&(name, documents, bytes)| FormatTotal { format: format(name), documents, bytes }).collect()
}

pub(crate) async fn key(store: &SqlStore, name: &str) -> KeyId {
    store.create_key(name, Role::Miner, None, &Sha256::of(name.as_bytes()), 0).await.unwrap().id
}

pub(crate) fn new_docset(owner: KeyId, collection: CollectionId, members: RoaringBitmap) -> NewDocset {
    let mut totals = FormatTotals::default();
    totals.add(&format("txt"), 1000);
    NewDocset {
        owner,
        collection,
        name: Some("Mine".to_owned()),
        origin: Selection::Query("title:\"it's\"".into()).into(),
        corpus_version: 1,
        fingerprint: Sha256::of(format!("{members:?}").as_bytes()),
        members,
        formats: totals.finish(),
        created: 5,
    }
}

/// A key, and a docset of it.
pub(crate) async fn owned_docset(store: &SqlStore, owner: &str) -> (KeyId, DocsetId) {
    let (collection, ids) = import(store, &format!("of-{owner}"), &["a", "b"], &["txt"]).await;
    let owner = key(store, owner).await;
    let members = ids.iter().map(|id| id.0).collect();
    let docset = store.create_docset(&new_docset(owner, collection.id, members)).await.unwrap();
    (owner, docset.id)
}

pub(crate) fn new_package(owner: KeyId, docset: DocsetId, seed: &str) -> NewPackage {
    NewPackage {
        owner,
        docset,
        recipe: Recipe::new(formats(&["meta", "txt"]), Layout::Bag),
        about: None,
        fingerprint: Sha256::of(seed.as_bytes()),
        clearance: Clearance::default(),
        requested: 2,
        created: 10,
    }
}

/// A document as a member of a docset.
pub(crate) fn member(document: Document) -> Member {
    let Document { id, r#ref, name, content_hash, files, .. } = document;
    Member { id, r#ref, name, content_hash, files }
}
