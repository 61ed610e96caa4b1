//! What a docset of a million documents costs in the database: rows, bytes and seconds.
//!
//! `cargo bench -p adit-shared --bench docset` imports a million documents of one text each into a temporary SQLite database, and into a
//! schema of its own on PostgreSQL where `ADIT_TEST_POSTGRES_URL` names one. It makes a docset of all of them, as a query for everything
//! does, and one of a random half, which is the worst that a bitmap can meet. Nothing stays behind.
#![expect(clippy::print_stdout, reason = "printing figures is its purpose")]

use std::error::Error;
use std::time::Instant;

use adit_shared::digest::Sha256;
use adit_shared::domain::{DocsetFingerprint, Encoding, FileRecord, Place, Role, content_hash};
use adit_shared::ids::{KeyId, VersionId};
use adit_shared::store::{FormatTotals, NewCollection, NewDocset, NewDocument, SqlStore, Store as _};
use futures::TryStreamExt as _;
use rand::{RngExt as _, SeedableRng as _};
use roaring::RoaringBitmap;
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Executor as _, Row as _};

type Outcome<T> = Result<T, Box<dyn Error>>;

const DOCUMENTS: u32 = 1_000_000;
/// Rows that are staged at once.
const BATCH: u32 = 2000;

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
    let mut before = 0;
    for (docset, members) in [("all", all), ("random half", half)] {
        let documents = members.len();
        let seconds = docset_of(&store, owner, members).await?;
        let sql = "SELECT CAST(octet_length(members) AS BIGINT) FROM docsets ORDER BY id";
        let rows = database.fetch_all(sql).await?;
        let bytes: i64 = rows.last().ok_or("the docset has no row")?.try_get(0)?;
        let (each, added) = (bytes as f64 / documents as f64, rows.len() - before);
        println!("{docset:>12} {documents:>9} {added:>5} {bytes:>8} {each:>10.5}  {seconds}");
        before = rows.len();
    }
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

fn document(id: u32) -> Outcome<NewDocument> {
    let r#ref = format!("note.{id:07}");
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
        replaces: None,
        files: vec![file],
        r#ref,
    })
}

/// Makes a docset as the API does: a pass over the members for fingerprint and sums, then its row. Reads it back; tells the seconds of each.
async fn docset_of(store: &SqlStore, owner: KeyId, members: RoaringBitmap) -> Outcome<String> {
    let began = Instant::now();
    let (mut fingerprint, mut totals) = (DocsetFingerprint::default(), FormatTotals::default());
    let mut pass = store.members(&members, None, None);
    while let Some(member) = pass.try_next().await? {
        fingerprint.add(member.id, &member.content_hash);
        member.files.iter().for_each(|file| totals.add(&file.format, file.size));
    }
    drop(pass);
    let passed = began.elapsed();
    let collection = store.collection("million").await?.ok_or("the collection is not there")?;
    let docset = NewDocset {
        owner,
        collection: collection.id,
        name: None,
        query: None,
        corpus_version: collection.corpus_version,
        members,
        fingerprint: fingerprint.finish(),
        formats: totals.finish(),
        created: 2,
    };
    let made = store.create_docset(&docset).await?;
    let created = began.elapsed();
    let read = store.docset(made.id, Some(owner)).await?.ok_or("the docset is not there")?;
    if read.members != docset.members {
        return Err("the docset that was read is not the one that was made".into());
    }
    let (read, create) = (began.elapsed() - created, created - passed);
    Ok(format!("pass {passed:.1?}, create {create:.1?}, read back {read:.1?}"))
}
