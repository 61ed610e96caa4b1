//! What a docset of a million documents costs in the database: rows, bytes and seconds.
//!
//! `cargo bench -p adit-shared --bench docset` imports a million documents of one text each into a temporary SQLite database, and into a
//! schema of its own on PostgreSQL where `ADIT_TEST_POSTGRES_URL` names one. It makes a docset of all of them, as a query for everything
//! does, one of a random half, which is the worst that a bitmap can meet, and one of a random thousandth; each is measured by the documents' rows too.
//! Then it looks a million refs up, draws a sample, and finds the newest versions of all. Nothing stays behind.
#![expect(clippy::print_stdout, reason = "printing figures is its purpose")]

use std::error::Error;
use std::time::Instant;

use adit_shared::digest::Sha256;
use adit_shared::domain::{DocsetFingerprint, Encoding, FileRecord, Place, Role, Sample, Selection, content_hash};
use adit_shared::ids::{KeyId, VersionId};
use adit_shared::store::{self, NewCollection, NewDocset, NewDocument, SqlStore, Store as _};
use futures::TryStreamExt as _;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use roaring::RoaringBitmap;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Row as _};

type Outcome<T> = Result<T, Box<dyn Error>>;

const DOCUMENTS: u32 = 1_000_000;
/// Documents that are staged at once, as an import does.
const BATCH: u32 = 250;

#[tokio::main]
async fn main() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    measure("SQLite", &format!("sqlite://{}/adit.db", folder.path().display())).await?;
    let Ok(server) = std::env::var("ADIT_TEST_POSTGRES_URL") else {
        println!("PostgreSQL: set ADIT_TEST_POSTGRES_URL to measure it too");
        return Ok(());
    };
    let schema = format!("adit_bench_{:016x}", rand::random::<u64>());
    let mut admin = AnyConnection::connect(&server).await?;
    admin.execute(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).await?;
    let mut url: url::Url = server.parse()?;
    url.query_pairs_mut().append_pair("options", &format!("-c search_path={schema}"));
    let measured = measure("PostgreSQL", url.as_str()).await;
    admin.execute(AssertSqlSafe(format!("DROP SCHEMA {schema} CASCADE"))).await?;
    measured
}

async fn measure(name: &str, url: &str) -> Outcome<()> {
    let store = SqlStore::open(url).await?;
    let began = Instant::now();
    let all = import(&store).await?;
    println!("{name}: {} documents imported in {:.1} s", all.len(), began.elapsed().as_secs_f64());
    println!("{:>12} {:>9} {:>5} {:>8} {:>10}  seconds", "docset", "documents", "rows", "bytes", "bytes/doc");
    let owner = store.create_key("bench", Role::Miner, None, &Sha256::of(b"bench"), 0).await?.id;
    let mut coin = rand::rngs::StdRng::seed_from_u64(1);
    let half: RoaringBitmap = all.iter().filter(|_| coin.random::<bool>()).collect();
    let mut database = AnyConnection::connect(url).await?;
    let few: RoaringBitmap = all.iter().filter(|_| coin.random_ratio(1, 1000)).collect();
    let mut before = 0;
    for (docset, members) in [("all", all.clone()), ("random half", half), ("random 1/1000", few)] {
        let documents = members.len();
        let seconds = docset_of(&store, owner, members).await?;
        let sql = "SELECT CAST(octet_length(members) AS BIGINT) FROM docsets ORDER BY id";
        let rows = database.fetch_all(sql).await?;
        let bytes: i64 = rows.last().ok_or("the docset has no row")?.try_get(0)?;
        let (each, added) = (bytes as f64 / documents as f64, rows.len() - before);
        println!("{docset:>12} {documents:>9} {added:>5} {bytes:>8} {each:>10.5}  {seconds}");
        before = rows.len();
    }
    let row = database.fetch_one("SELECT COUNT(*), CAST(SUM(octet_length(data)) AS BIGINT) FROM summaries").await?;
    let (rows, bytes): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    println!("{rows} rows of summaries, {:.1} bytes a document", bytes as f64 / f64::from(DOCUMENTS));
    others(&store, &all).await?;
    database.close().await?;
    store.close().await;
    Ok(())
}

async fn import(store: &SqlStore) -> Outcome<RoaringBitmap> {
    let collection = NewCollection {
        slug: "million".to_owned(),
        name: "A million notes".to_owned(),
        description: String::new(),
        ..NewCollection::default()
    };
    let lease = store.begin_import(&collection, 0, i64::from(u32::MAX)).await?;
    let mut all = RoaringBitmap::new();
    for _ in 0..DOCUMENTS / BATCH {
        let VersionId(first) = store.reserve_versions(BATCH).await?;
        let documents: Vec<NewDocument> = (first..first + BATCH).map(document).collect::<Outcome<_>>()?;
        store.stage_documents(&lease, &documents).await?;
        all.insert_range(first..first + BATCH);
    }
    store.commit_import(&lease, 1).await?;
    Ok(all)
}

fn name_of(id: u32) -> String {
    format!("note.{id:07}")
}

fn document(id: u32) -> Outcome<NewDocument> {
    let r#ref = name_of(id);
    let file = FileRecord {
        format: "txt".parse()?,
        media_type: "text/plain".to_owned(),
        size: 1000,
        sha256: Sha256::of(&id.to_be_bytes()),
        crc32: id,
        encoding: Encoding::Gzip,
        deflate_crc32: Some(!id),
        place: Place { object: "packs/1/bench-txt-00001".to_owned(), offset: u64::from(id) * 400, stored: 400 },
    };
    let hashed = [(&file.format, file.media_type.as_str(), file.size, &file.sha256)];
    Ok(NewDocument {
        id: VersionId(id),
        version: 1,
        name: r#ref.clone(),
        folded_name: r#ref.clone(),
        metadata: [("title".to_owned(), format!("Note {id}").into())].into_iter().collect(),
        content_hash: content_hash(&r#ref, &r#ref, hashed),
        access: Default::default(),
        replaces: None,
        files: vec![file],
        r#ref,
    })
}

/// What else docsets are made by.
async fn others(store: &SqlStore, all: &RoaringBitmap) -> Outcome<()> {
    let collection = store.collection("million").await?.ok_or("the collection is not there")?;
    let mut refs: Vec<String> = all.iter().map(name_of).collect();
    refs.shuffle(&mut rand::rngs::StdRng::seed_from_u64(2));
    let began = Instant::now();
    let found = store.resolve_refs(collection.id, collection.corpus_version, &refs).await?;
    println!("{} refs found in {:.1?}", found.len(), began.elapsed());
    let began = Instant::now();
    let sample = Sample { size: 10_000, seed: 1 }.pick(store::works(store, all).await?);
    println!("a sample of {} drawn in {:.1?}", sample.len(), began.elapsed());
    let began = Instant::now();
    let newest = store.newest_versions(collection.corpus_version, all).await?;
    println!("the newest versions of {} found in {:.1?}", newest.len(), began.elapsed());
    Ok(())
}

/// Measures members by their documents' rows.
async fn by_documents(store: &SqlStore, members: &RoaringBitmap) -> Outcome<Sha256> {
    let mut fingerprint = DocsetFingerprint::default();
    let mut pass = store.members(members, None, None);
    while let Some(member) = pass.try_next().await? {
        fingerprint.add(member.id, &member.content_hash);
    }
    Ok(fingerprint.finish())
}

/// Makes a docset as the API does: measures the members, then makes its row. Reads it back; tells the seconds of each.
async fn docset_of(store: &SqlStore, owner: KeyId, members: RoaringBitmap) -> Outcome<String> {
    let began = Instant::now();
    let by_documents = by_documents(store, &members).await?;
    let documents = began.elapsed();
    let began = Instant::now();
    let (fingerprint, formats) = store::measure(store, &members).await?;
    if fingerprint != by_documents {
        return Err("summaries and documents have other fingerprints".into());
    }
    let passed = began.elapsed();
    let collection = store.collection("million").await?.ok_or("the collection is not there")?;
    let docset = NewDocset {
        owner,
        collection: collection.id,
        name: None,
        origin: Selection::Refs(members.len()).into(),
        corpus_version: collection.corpus_version,
        members,
        fingerprint,
        formats,
        created: 2,
    };
    let made = store.create_docset(&docset).await?;
    let created = began.elapsed();
    let read = store.docset(made.id, Some(owner)).await?.ok_or("the docset is not there")?;
    if read.members != docset.members {
        return Err("the docset that was read is not the one that was made".into());
    }
    let (read, create) = (began.elapsed() - created, created - passed);
    Ok(format!("by documents {documents:.1?}, by summaries {passed:.1?}, create {create:.1?}, read back {read:.1?}"))
}
