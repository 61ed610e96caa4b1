//! The end of a run: what the object store holds that no row of the database names, and the verbs
//! that look.

use std::collections::HashSet;

use adit_shared::clock::{Clock as _, SystemClock};
use adit_shared::domain::Content;
use adit_shared::objects::{KeyOwner, ObjectKey};
use adit_shared::search::KEPT_INDEXES;
use adit_shared::store::Store as _;

use super::Stage;
use super::ledger::Finding;
use crate::support::{Deployment, eventually};

/// Looks at the whole deployment, when everything is settled and all servers run.
pub(super) async fn look_at_everything(stage: &Stage, deployment: &Deployment) {
    for queue in ["docsets/package/dead", "docsets/delete/dead"] {
        let dead = deployment.waiting(queue).await;
        if dead > 0 {
            stage.ledger.find(Finding::Failed, format!("{dead} messages lie in {queue}"));
        }
    }
    eventually("what was asked of packagers is done", || async {
        let waiting = deployment.waiting("docsets/package").await + deployment.waiting("docsets/delete").await;
        (waiting == 0).then_some(())
    })
    .await;
    let held = count_held_leases(deployment).await;
    if held > 0 {
        stage.ledger.find(Finding::Stuck, format!("{held} leases are held though every change has ended"));
    }
    let check = deployment.adit(&["storage", "check", "--full"]).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout).trim().to_owned() + &String::from_utf8_lossy(&check.stderr);
    stage.ledger.remark(format!("adit storage check --full: {}", said.lines().last().unwrap_or_default()));
    if !check.status.success() {
        stage.ledger.find(Finding::Lost, format!("adit storage check --full ends with {}: {said}", check.status));
    }
}

/// Frees what no row names, of which nothing may be left afterwards.
pub(super) async fn sweep(stage: &Stage, deployment: &Deployment) {
    note_orphans(stage, deployment, "before the sweep").await;
    let swept = deployment.adit(&["storage", "sweep"]).output().unwrap();
    let said = String::from_utf8_lossy(&swept.stdout).trim().to_owned() + &String::from_utf8_lossy(&swept.stderr);
    stage.ledger.remark(format!("adit storage sweep: {}", said.replace('\n', "; ")));
    if !swept.status.success() {
        stage.ledger.find(Finding::Unexpected, format!("adit storage sweep ends with {}: {said}", swept.status));
    }
    let left = note_orphans(stage, deployment, "after the sweep").await;
    if left > 0 {
        stage.ledger.find(Finding::Stuck, format!("{left} orphans are left by a sweep"));
    }
}

/// Counts what no row names; which it is stands in the notes.
async fn note_orphans(stage: &Stage, deployment: &Deployment, when: &str) -> usize {
    let orphans = find_orphans(deployment).await;
    stage.note(&format!("orphans {when}: {orphans:#?}"));
    let count = |prefix: &str| orphans.iter().filter(|key| key.starts_with(prefix)).count();
    let kinds = [("packs", "packs/"), ("indexes", "indexes/"), ("packages", "packages/"), ("uploads", "upload of ")];
    let counts = kinds.map(|(name, prefix)| format!("{name} {}", count(prefix)));
    stage.ledger.remark(format!("orphans {when}: {} ({})", orphans.len(), counts.join(", ")));
    orphans.len()
}

/// Leases that keep others out although nothing changes any more.
async fn count_held_leases(deployment: &Deployment) -> usize {
    let store = deployment.store().await;
    let now = SystemClock.now_ms();
    let held = store.held_leases().await.unwrap().iter().filter(|lease| lease.until_ms > now).count();
    store.close().await;
    held
}

/// Objects and unfinished uploads that no row of the database names.
async fn find_orphans(deployment: &Deployment) -> Vec<String> {
    let (objects, store) = (deployment.objects().await, deployment.store().await);
    let (mut named, mut manifests) = (HashSet::new(), String::new());
    for collection in store.collections().await.unwrap() {
        named.extend(store.pack_keys(collection.id).await.unwrap());
        for index in store.indexes(collection.id, KEPT_INDEXES).await.unwrap() {
            let key = ObjectKey::IndexManifest(index).to_string();
            manifests += str::from_utf8(&objects.get(&key, None).await.unwrap()).unwrap();
            named.insert(key);
        }
    }
    let mut orphans = Vec::new();
    for (key, _) in objects.list("").await.unwrap() {
        let parts: Vec<&str> = key.split('/').collect();
        let is_named = match parts[..] {
            ["packages", ..] => {
                let Some(KeyOwner::Package(package)) = ObjectKey::owner_of(&key) else { panic!("{key}") };
                let package = store.package(package, None).await.unwrap();
                // A finished one that nobody asked about may have its last status on the broker still.
                package.is_some_and(|package| package.content == Content::Available || !package.status.is_terminal())
            }
            ["indexes", _, "files", name] => manifests.contains(name),
            // Whose database the store is.
            ["database"] => true,
            _ => named.contains(&key),
        };
        if !is_named {
            orphans.push(key);
        }
    }
    let uploads = objects.list_uploads("").await.unwrap();
    orphans.extend(uploads.into_iter().map(|upload| format!("upload of {}", upload.key)));
    store.close().await;
    orphans
}
