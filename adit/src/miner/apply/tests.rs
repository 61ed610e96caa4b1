use super::super::testing::{Files, bag, read, write, zip};
use super::*;

const DELETED: &str = "{\"path\":\"data/deleted.txt\"}\n";

/// The bag that a delta is made from, and the one that it leads to.
fn bags() -> (Files, Files) {
    let base = bag(
        &[("same.txt", "1"), ("changed.txt", "old"), ("deleted.txt", "2"), ("empty.txt", "")],
        &[("bag-info.txt", "old"), ("stale.txt", "of the base alone")],
    );
    let full = bag(
        &[("same.txt", "1"), ("changed.txt", "new"), ("added.txt", "3"), ("empty.txt", "")],
        &[("bag-info.txt", "new"), ("fresh.json", "{}")],
    );
    (base, full)
}

fn delta() -> Files {
    let mut delta = bags().1;
    for unchanged in ["data/same.txt", "data/empty.txt"] {
        delta.remove(unchanged);
    }
    delta.insert(FETCH.into(), b"http://127.0.0.1:9/1 1 data/same.txt\n".to_vec());
    delta.insert(TOMBSTONES.into(), DELETED.into());
    delta
}

struct Site {
    _dir: tempfile::TempDir,
    base: std::path::PathBuf,
    folder: std::path::PathBuf,
    archive: std::path::PathBuf,
}

/// The base in a folder, and the delta as a folder and as an archive.
fn site(base: &Files, delta: &Files) -> Site {
    let dir = tempfile::tempdir().unwrap();
    let site = Site {
        base: dir.path().join("base"),
        folder: dir.path().join("delta"),
        archive: dir.path().join("delta.zip"),
        _dir: dir,
    };
    write(&site.base, base);
    write(&site.folder, delta);
    zip(&site.archive, "bag-0123/", delta);
    site
}

async fn faults(site: &Site) -> Vec<String> {
    let base = Bag::find(&site.base).unwrap();
    let before = read(&site.base);
    let staging = base.place(STAGING).unwrap();
    let faults = stage_and_apply(&site.archive, &base, &staging).await.unwrap();
    remove(&staging).unwrap();
    assert!(!faults.is_empty());
    assert_eq!(read(&site.base), before, "nothing was changed");
    faults
}

#[tokio::test]
async fn base_and_delta_give_exactly_the_full_package() {
    let (base, full) = bags();
    for archive in [true, false] {
        let site = site(&base, &delta());
        let delta = if archive { &site.archive } else { &site.folder };
        for _ in 0..2 {
            assert_eq!(apply(delta, &site.base).await.unwrap(), ExitCode::SUCCESS);
            assert_eq!(read(&site.base), full, "also when it is applied to its own result");
        }
        assert_eq!(read(&site.folder), super::tests::delta(), "the delta is as it was");
    }
}

#[tokio::test]
async fn it_can_be_run_again_wherever_it_was_interrupted() {
    let (base, full) = bags();
    let mut taken = 0;
    loop {
        let site = site(&base, &delta());
        let bag = Bag::find(&site.base).unwrap();
        let staging = bag.place(STAGING).unwrap();
        unpack(&site.archive, &staging).unwrap();
        let staged = Staged::read(Bag::find(&staging).unwrap(), &site.archive).unwrap();
        assert_eq!(staged.faults(&bag, &site.archive).await.unwrap(), [""; 0]);
        let steps = staged.steps(&bag).unwrap();
        for step in &steps[..taken] {
            staged.take(step, &bag).unwrap();
        }
        // Here the power goes.
        assert_eq!(apply(&site.archive, &site.base).await.unwrap(), ExitCode::SUCCESS);
        assert_eq!(read(&site.base), full, "interrupted after {taken} of {steps:?}");
        if taken == steps.len() {
            return;
        }
        taken += 1;
    }
}

#[tokio::test]
async fn what_is_not_the_base_is_told_and_left_as_it_is() {
    let (base, _) = bags();
    let mut incomplete = base.clone();
    incomplete.remove("data/same.txt");
    incomplete.insert("data/empty.txt".into(), b"other".to_vec());
    incomplete.insert("data/strange.txt".into(), b"mine".to_vec());
    let site_of = site(&incomplete, &delta());
    let found = faults(&site_of).await;
    let hydrate = format!("`adit hydrate {}` makes the whole package of the delta alone", site_of.archive.display());
    let expected = [
        format!("data/empty.txt: is not that of the package that the delta was made from; {hydrate}"),
        format!("data/same.txt: is missing; {hydrate}"),
        "data/strange.txt: is not of the package that the delta was made from; move it away".to_owned(),
    ];
    assert_eq!(found, expected);

    let mut dehydrated = base.clone();
    dehydrated.remove("data/same.txt");
    dehydrated.insert(FETCH.into(), Vec::new());
    let site_of = site(&dehydrated, &delta());
    let fetches = format!("data/same.txt: is missing; `adit hydrate {}` fetches it", site_of.base.display());
    assert_eq!(faults(&site_of).await, [fetches]);
}

#[tokio::test]
async fn a_damaged_delta_is_told_and_changes_nothing() {
    let (base, full) = bags();
    let mut damaged = delta();
    damaged.insert("data/added.txt".into(), b"4".to_vec());
    damaged.insert("data/unlisted.txt".into(), Vec::new());
    damaged.insert("fresh.json".into(), b"[]".to_vec());
    damaged.insert(TOMBSTONES.into(), b"{\"path\":\"data/same.txt\"}\n".to_vec());
    let found = faults(&site(&base, &damaged)).await;
    let expected = [
        "fresh.json: is damaged in the delta; download it again",
        "data/added.txt: is damaged in the delta; download it again",
        "data/unlisted.txt: is in the delta, but not in its manifest-sha256.txt",
        "data/same.txt: is in tombstones.jsonl and in manifest-sha256.txt",
        "data/deleted.txt: is not of the package that the delta was made from; move it away",
    ];
    assert_eq!(found, expected);

    let site_of = site(&base, &full);
    let why = apply(&site_of.archive, &site_of.base).await.unwrap_err().to_string();
    assert!(why.ends_with("is no delta: it has no tombstones.jsonl"), "{why}");
    for (base, told) in [("../", "no path that stays"), ("\u{1b}[2J/", "no path that stays")] {
        zip(&site_of.archive, base, &full);
        let why = apply(&site_of.archive, &site_of.base).await.unwrap_err().to_string();
        assert!(why.contains(told), "{why}");
    }
    let mut evil = delta();
    evil.insert(TOMBSTONES.into(), b"{\"path\":\"data/../../x\"}\n".to_vec());
    let site_of = site(&base, &evil);
    assert!(apply(&site_of.archive, &site_of.base).await.unwrap_err().to_string().contains("stays in the bag"));
    assert_eq!(read(&site_of.base), base);
}
