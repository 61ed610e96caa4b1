//! Two packagers hold one request: whoever took it later goes on, the other lets go, and nothing is spoilt or left behind.

use adit_shared::domain::Encoding;

use super::*;
use crate::testing::Corpus;

/// Lets two packagers, each on a broker of its own, work on one request; `head_start` is what the first has built before the second
/// gets it.
async fn race(world: &World, other: &World, head_start: usize) {
    let (first, second) = (Recorder::new(world.objects.clone()), Recorder::new(world.objects.clone()));
    let workers = [world.packager_on(Arc::new(first.clone())), other.packager_on(Arc::new(second.clone()))];
    world.ask(&world.request()).await;
    while (first.counts().of(Call::PutPart).calls as usize) < head_start {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    other.ask(&world.request()).await;
    for world in [world, other] {
        world.wait_for(&Queue::PackageRequests, 0).await;
    }
    let mut said = [world.waiting("7").await, other.waiting("7").await].concat();
    said.sort_by_key(|(sequence, _)| *sequence);
    let ends: Vec<_> = said.iter().filter(|(_, status)| is_final(status)).collect();
    assert!(ends.iter().all(|(_, status)| matches!(status, StatusMessage::Complete(_))), "{ends:?}");
    let (_, StatusMessage::Complete(complete)) = said.last().unwrap() else { panic!("{said:?}") };

    let keys = world.keys().await;
    assert_eq!(keys.len(), 3, "{keys:?}");
    let archive = world.objects.get(&keys[0], None).await.unwrap();
    assert_eq!((complete.size, complete.sha256), (Some(archive.len() as u64), Some(Sha256::of(&archive))));
    assert_eq!(world.objects.find_upload(&keys[0], world.part_size).await.unwrap(), None);
    let sent: u64 = [&first, &second].iter().map(|recorder| recorder.counts().of(Call::PutPart).calls).sum();
    for worker in workers {
        worker.stop().await;
    }
    crate::build::remove(&*world.objects, PACKAGE).await.unwrap();
    // How many are sent twice depends on how soon the first one looks again.
    let parts = archive.len().div_ceil(world.part_size as usize);
    assert!((parts..=2 * parts).contains(&(sent as usize)), "{sent} parts were sent of an archive that has {parts}");
}

#[tokio::test]
async fn two_packagers_with_one_request_make_one_archive() {
    let world = World::new().await;
    for round in 0..24 {
        let other = world.twin().await;
        let world = other.twin().await;
        race(&world, &other, round % 12).await;
        assert_eq!(world.objects.list("packages/").await.unwrap(), []);
    }
}

/// The same on a server, with parts as large as S3 wants them, where `ADIT_TEST_S3_URL` names a bucket.
#[tokio::test]
async fn two_packagers_with_one_request_make_one_archive_on_s3() {
    let Ok(url) = std::env::var("ADIT_TEST_S3_URL") else {
        println!("skipped: ADIT_TEST_S3_URL names no bucket (s3://bucket/prefix?endpoint=http://host:port)");
        return;
    };
    // A folder of its own: other tests have a package 7 as well.
    let objects = adit_shared::objects::open(&url.replacen('?', "/overtaking?", 1)).await.unwrap();
    let mut corpus = Corpus::default();
    let noise: Vec<u8> = (0..6_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for i in 0..6 {
        corpus.add(&format!("doc {i}"), &[("txt", &noise[i * 1000..], Encoding::Identity)]);
    }
    let mut world = World::on(corpus, objects).await;
    world.part_size = 5 << 20;
    for round in 0..16 {
        let (one, other) = (world.twin().await, world.twin().await);
        race(&one, &other, round % 8).await;
    }
}

/// Has another process take the request while this one reads the manifest, or is told that there is none.
fn take_elsewhere(world: &World) {
    let objects = world.objects.clone();
    let elsewhere = async move {
        let mut memory = Memory::load(&*objects, PACKAGE).await.unwrap();
        memory.begin(0, false);
        memory.save(&*objects, PACKAGE).await.unwrap();
    };
    world.answer(|answers| answers.meanwhile = Some(elsewhere.boxed()));
}

#[tokio::test]
async fn a_packager_that_was_overtaken_says_no_more_and_removes_nothing() {
    for docset in [5, 6] {
        let world = World::new().await;
        take_elsewhere(&world);
        let worker = world.packager();
        world.ask(&format!("{}/docsets/{docset}?fmt=txt&package=7", world.api)).await;
        world.wait_for(&Queue::PackageRequests, 0).await;
        let said = world.waiting("7").await;
        assert!(!said.iter().any(|(_, status)| is_final(status)), "{said:?}");
        let memory = Memory::load(&*world.objects, PACKAGE).await.unwrap();
        assert_eq!((memory.turn, memory.attempts, memory.archive), (2, 1, None));
        assert_eq!(world.keys().await, [ObjectKey::Build { package: PACKAGE }.to_string()]);
        world.wait_for(&Queue::Dead(Box::new(Queue::PackageRequests)), 0).await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn copies_of_a_request_that_overtake_each_other_are_no_failed_attempts() {
    let world = World::new().await;
    let worker = world.packager();
    // More often than a request may fail.
    for _ in 0..4 {
        take_elsewhere(&world);
        world.ask(&world.request()).await;
        world.wait_for(&Queue::PackageRequests, 0).await;
        world.clock.advance(2000);
    }
    world.ask(&world.request()).await;
    world.complete().await;
    worker.stop().await;
}

#[tokio::test]
async fn the_same_request_in_the_same_process_takes_over_and_loses_no_message() {
    let world = World::new().await;
    world.answer(|answers| answers.hangs = true);
    let worker = world.packager();
    for turn in 1..=4 {
        world.ask(&world.request()).await;
        while Memory::load(&*world.objects, PACKAGE).await.unwrap().turn < turn {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        world.wait_for(&Queue::PackageRequests, 1).await;
        world.clock.advance(1000);
    }
    // The one that is left goes back, and is built.
    worker.stop().await;
    world.wait_for(&Queue::PackageRequests, 1).await;
    world.answer(|answers| answers.hangs = false);
    let worker = world.packager();
    world.complete().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_package_that_another_packager_has_failed_or_the_server_erased_is_not_built() {
    for standing in ["failed", "successful\", \"content\": \"erased"] {
        let world = World::new().await;
        world.answer(|answers| answers.standing = vec![standing]);
        let worker = world.packager();
        world.ask(&world.request()).await;
        assert_eq!(world.last().await, StatusMessage::Dismissed);
        assert_eq!(world.keys().await, [""; 0]);
        worker.stop().await;
    }
}
