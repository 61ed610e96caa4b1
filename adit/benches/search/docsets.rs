//! Docsets of all documents and of a tenth of them: making them, reading their members, and what they take in the database.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Connection as _, Row as _};

use super::generator::Dice;
use super::report::{Column, Figure};
use super::support::{Client, Deployment, expect};
use super::{Outcome, SLUG, timed};

/// How often each is made.
const TIMES: usize = 5;
/// A tenth of all documents by their dates.
const TENTH: &str = "issued:[1950 TO 1973]";

/// Measures all of it.
pub(crate) async fn measure(api: &Client, deployment: &Deployment, column: &mut Column) -> Outcome<()> {
    let documents = column.documents;
    let mut dice = Dice::new(3, 0, 0);
    let mut refs = || -> Vec<String> {
        (0..documents / 10).map(|tenth| format!("{SLUG}.{:07}", tenth * 10 + dice.below(10))).collect()
    };
    let all = make(api, column, "docset of all", || json!({"query": "*"})).await;
    let tenth = make(api, column, "docset of a tenth, by a query", || json!({"query": TENTH})).await;
    let random = make(api, column, "docset of a tenth, by random refs", || json!({"refs": refs()})).await;
    let sample = json!({"size": documents / 10, "seed": 1});
    make(api, column, "docset of a tenth, a random sample of all", || json!({"query": "*", "sample": sample})).await;
    let (first, last) = pages(api, &all).await;
    column.add("first page of 100 members, ms", Figure::percentiles(first));
    column.add("last page of 100 members, ms", Figure::percentiles(last));
    for (name, docset) in [("all", all), ("a tenth, by a query", tenth), ("a tenth, by random refs", random)] {
        let bytes = stored(deployment, &docset).await? as f64;
        let each = bytes / docset["size"].as_f64().unwrap_or(f64::NAN);
        column.add(format!("… stored bytes a document: {name}"), Figure::number(each));
    }
    Ok(())
}

/// Makes a docset several times; gives the last one.
async fn make(api: &Client, column: &mut Column, name: &str, mut body: impl FnMut() -> Value) -> Value {
    let mut times = Vec::new();
    let mut made = Value::Null;
    for _ in 0..TIMES {
        let mut body = body();
        body["collection"] = SLUG.into();
        let (took, docset) = timed(async { expect(api.post("/api/docsets", &body).await, 201).await }).await;
        times.push(took);
        made = docset;
    }
    column.add(format!("{name}, ms"), Figure::percentiles(times));
    made
}

/// How long the first page of members takes, and the last one.
async fn pages(api: &Client, docset: &Value) -> (Vec<Duration>, Vec<Duration>) {
    let members = format!("/api/docsets/{}/members?", docset["id"]);
    let mut last = members.clone();
    while let Some(cursor) = api.json(&format!("{last}limit=1000")).await["next"].as_str() {
        last = format!("{members}cursor={cursor}&");
    }
    let mut times = [Vec::new(), Vec::new()];
    for (path, times) in [members, last].iter().zip(&mut times) {
        for _ in 0..50 {
            times.push(timed(api.json(path)).await.0);
        }
    }
    times.into()
}

async fn connect(deployment: &Deployment) -> Outcome<AnyConnection> {
    sqlx::any::install_default_drivers();
    Ok(AnyConnection::connect(deployment.setting("ADIT_DATABASE_URL")).await?)
}

/// Bytes of a docset's members in the database.
async fn stored(deployment: &Deployment, docset: &Value) -> Outcome<i64> {
    let sql = format!("SELECT CAST(octet_length(members) AS BIGINT) FROM docsets WHERE id = {}", docset["id"]);
    Ok(sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut connect(deployment).await?).await?.try_get(0)?)
}

/// Bytes of the whole database.
pub(crate) async fn database_size(deployment: &Deployment) -> Outcome<u64> {
    if let Some(path) = deployment.setting("ADIT_DATABASE_URL").strip_prefix("sqlite://") {
        return Ok(fs::metadata(path)?.len());
    }
    let sql = "SELECT pg_database_size(current_database())";
    let size: i64 = sqlx::query(sql).fetch_one(&mut connect(deployment).await?).await?.try_get(0)?;
    Ok(size.unsigned_abs())
}
