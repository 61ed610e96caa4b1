//! The packager whole: requests over the embedded broker, a server on HTTP, archives in a folder.

mod outages;
mod overtaking;
mod poison;
mod salts;
mod world;

use adit_shared::digest::Sha256;
use adit_shared::domain::Layout;
use adit_shared::ids::{PackageId, Salt, SaltedPackage};
use adit_shared::messaging::{Complete, DeleteRequest, StatusMessage};
use adit_shared::objects::{Call, ObjectKey, Recorder};
use axum::body::Bytes;
use futures::FutureExt as _;
use tokio::sync::watch;

use super::*;
use crate::build::{Build, State as Memory};
use crate::testing::Fused;
use world::*;

/// The package of [`World::request`].
const PACKAGE: SaltedPackage = SaltedPackage { id: PackageId(7), salt: None };

#[tokio::test]
async fn a_request_becomes_an_archive() {
    let world = World::new().await;
    let worker = world.packager();
    world.ask(&world.request()).await;
    let statuses = world.statuses("7").await;
    assert!(matches!(statuses[0], (1_000_001, StatusMessage::Accepted { .. })), "{statuses:?}");
    assert!(statuses.iter().any(|(_, said)| matches!(said, StatusMessage::Accepted { seconds: Some(1) })));
    let Some((_, StatusMessage::Complete(complete))) = statuses.last() else { panic!("{statuses:?}") };
    assert_eq!(complete.url, format!("{}/packages/7/download", world.api));
    let key = world.keys().await.remove(0);
    let archive = world.objects.get(&key, None).await.unwrap();
    assert_eq!((complete.size, complete.sha256), (Some(archive.len() as u64), Some(Sha256::of(&archive))));
    assert_eq!((complete.documents, complete.omitted, complete.parts_reused), (Some(20), Some(1), Some(0)));
    world.corpus.assert_holds(&archive, Layout::Flat);
    world.wait_for(&Queue::PackageRequests, 0).await;
    worker.stop().await;
}

#[tokio::test]
async fn the_same_request_again_is_answered_at_once() {
    let world = World::new().await;
    let recorder = Recorder::new(world.objects.clone());
    let worker = world.packager_on(Arc::new(recorder.clone()));
    world.ask(&world.request()).await;
    let first = world.complete().await;
    let puts = recorder.counts().of(Call::PutPart);
    world.answer(|answers| answers.manifest = Bytes::from_static(b"no longer to be had"));
    // More often than a request may fail: these succeed.
    for delivery in 2..=6 {
        world.ask(&world.request()).await;
        let (sequence, again) = world.statuses("7").await.pop().unwrap();
        let parts_reused = Some(puts.calls as u32);
        assert_eq!(again, StatusMessage::Complete(Complete { parts_reused, ..first.clone() }));
        assert_eq!(sequence, delivery * 1_000_000 + 999_001);
    }
    assert_eq!(recorder.counts().of(Call::PutPart), puts);
    worker.stop().await;
}

#[tokio::test]
async fn what_is_no_request_is_buried_and_the_next_one_served() {
    let world = World::new().await;
    let worker = world.packager();
    world.ask("make me a package").await;
    let told = world.failed().await;
    world.ask(&world.request()).await;
    world.complete().await;
    let (body, reason) = world.buried().await;
    assert_eq!((body.as_str(), &reason), ("make me a package", &told));
    assert!(reason.contains("URL"), "{reason}");
    worker.stop().await;
}

#[tokio::test]
async fn a_docset_that_the_server_does_not_know_fails_at_once() {
    let world = World::new().await;
    let worker = world.packager();
    let request = format!("{}/docsets/6?fmt=txt&package=7", world.api);
    world.ask(&request).await;
    let reason = world.failed().await;
    assert!(reason.contains("404") && reason.contains("/docsets/6/manifest"), "{reason}");
    assert_eq!(world.buried().await, (request, reason));
    assert_eq!(world.keys().await, [""; 0]);
    worker.stop().await;
}

#[tokio::test]
async fn a_build_that_fails_leaves_the_archive_that_another_process_has_finished() {
    let world = World::new().await;
    let (objects, plan) = (world.objects.clone(), Arc::new(world.corpus.project(Layout::Flat, 4096)));
    let elsewhere = async move {
        let mut memory = Memory::load(&*objects, PACKAGE).await.unwrap();
        memory.begin(0, true);
        let build = Build::new(objects, PACKAGE, plan, memory, watch::Sender::default(), Spare::default());
        build.run(CancellationToken::new()).await.unwrap().expect("nobody halts it");
    };
    world.answer(|answers| answers.meanwhile = Some(elsewhere.boxed()));
    let worker = world.packager();
    // The server takes the docset for unknown when it is asked once more.
    world.ask(&format!("{}/docsets/6?fmt=txt&package=7", world.api)).await;
    let complete = world.complete().await;
    let keys = world.keys().await;
    let archive = world.objects.get(&keys[0], None).await.unwrap();
    assert_eq!((complete.size, complete.sha256), (Some(archive.len() as u64), Some(Sha256::of(&archive))));
    world.wait_for(&Queue::PackageRequests, 0).await;

    // Nor does it fall to a request that nothing can be made of.
    world.ask(&format!("{}/docsets/six?package=7", world.api)).await;
    world.failed().await;
    world.buried().await;
    assert_eq!(world.keys().await, keys);
    worker.stop().await;
}

#[tokio::test]
async fn a_request_that_names_an_old_address_of_the_server_is_built_all_the_same() {
    let world = World::new().await;
    let worker = world.packager();
    world.ask("http://moved.example/api/docsets/5?fmt=txt&package=7").await;
    assert_eq!(world.complete().await.url, format!("{}/packages/7/download", world.api));
    worker.stop().await;
}

#[tokio::test]
async fn a_damaged_document_is_named_and_nothing_is_left() {
    let world = World::new().await;
    let place = &world.corpus.members[11].files[0].place;
    let mut pack = world.corpus.packs[&place.object].clone();
    pack[place.offset as usize + 7] ^= 1;
    world.objects.put(&place.object, pack.into()).await.unwrap();
    let worker = world.packager();
    world.ask(&world.request()).await;
    let reason = world.failed().await;
    assert!(reason.contains("\"doc 11\"") && reason.contains("CRC-32"), "{reason}");
    assert_eq!(world.keys().await, [""; 0]);
    world.buried().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_manifest_that_was_cut_is_asked_for_again() {
    let world = World::new().await;
    let whole = world.corpus.manifest();
    let cut = whole[..whole.len() - 20].to_vec();
    world.answer(|answers| answers.manifest = cut.into());
    let worker = world.packager();
    world.ask(&world.request()).await;
    let reason = world.failed().await;
    assert!(reason.contains("cut after 20 of 21 documents (after 3 attempts)"), "{reason}");
    worker.stop().await;
}

#[tokio::test]
async fn a_manifest_of_fewer_documents_than_the_server_promised_builds_nothing() {
    let world = World::new().await;
    world.answer(|answers| answers.standing = vec!["of 999 documents"]);
    let worker = world.packager();
    world.ask(&world.request()).await;
    let reason = world.failed().await;
    assert!(reason.starts_with("999 documents were announced, but"), "{reason}");
    assert_eq!(world.buried().await.1, reason);
    assert_eq!(world.keys().await, [""; 0]);
    worker.stop().await;
}

#[tokio::test]
async fn attempts_that_ended_with_their_process_count() {
    let world = World::new().await;
    let memory = Memory { attempts: 3, ..Memory::default() };
    memory.save(&*world.objects, PACKAGE).await.unwrap();
    world.ask(&world.request()).await;
    world.hand_out().await;
    let worker = world.packager();
    let reason = world.failed().await;
    assert!(reason.starts_with("given up: 3 attempts"), "{reason}");
    assert_eq!(world.keys().await, [""; 0]);
    // That is settled; asked for anew, it is tried anew, and what is said then is newer than all that was said before.
    world.clock.advance(9000);
    world.ask(&world.request()).await;
    let (sequence, last) = world.statuses("7").await.pop().unwrap();
    assert!(matches!(last, StatusMessage::Complete(_)) && sequence > 9_000_000, "{sequence}: {last}");
    worker.stop().await;
}

#[tokio::test]
async fn processes_that_die_right_after_their_start_do_not_count_against_the_package() {
    let world = World::new().await;
    world.answer(|answers| answers.hangs = true);
    world.ask(&world.request()).await;
    world.hand_out().await;
    // More often than a request may fail.
    for _ in 0..5 {
        let killed = world.packager_with(|config| config.steady_after = Duration::from_hours(1));
        // It has the request as soon as it speaks of it.
        while world.waiting("7").await.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        killed.run.abort();
        assert!(killed.run.await.unwrap_err().is_cancelled());
        world.wait_for(&Queue::PackageRequests, 1).await;
    }
    world.answer(|answers| answers.hangs = false);
    let worker = world.packager();
    world.complete().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_request_that_was_not_handed_out_before_says_nothing_of_earlier_attempts() {
    let world = World::new().await;
    let memory = Memory { attempts: 3, ..Memory::default() };
    memory.save(&*world.objects, PACKAGE).await.unwrap();
    world.answer(|answers| answers.hangs = true);
    let worker = world.packager();
    world.ask(&world.request()).await;
    while Memory::load(&*world.objects, PACKAGE).await.unwrap().turn == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    worker.stop().await;
    assert_eq!(Memory::load(&*world.objects, PACKAGE).await.unwrap().attempts, 3);
}

#[tokio::test]
async fn what_another_package_of_the_same_number_left_is_not_believed() {
    let world = World::new().await;
    let worker = world.packager();
    world.ask(&world.request()).await;
    let before = world.complete().await;
    // The database was restored: the number is given out again, for a package of other documents.
    let mut other = world.corpus.clone();
    let left: Vec<_> = other.members.split_off(15);
    other.contents.retain(|(r#ref, _), _| left.iter().all(|member| member.r#ref != *r#ref));
    let fingerprint = other.project(Layout::Flat, 4096).fingerprint;
    world.answer(|answers| {
        answers.fingerprint = Some(fingerprint);
        answers.manifest = Bytes::from_static(b"not to be had yet");
    });
    world.ask(&world.request()).await;
    world.failed().await;
    world.answer(|answers| answers.manifest = other.manifest().into());
    world.ask(&world.request()).await;
    let after = world.complete().await;
    assert_ne!(after.sha256, before.sha256);
    let key = world.keys().await.into_iter().find(|key| key.contains(&fingerprint.to_string()[..16]));
    let archive = world.objects.get(&key.unwrap(), None).await.unwrap();
    assert_eq!((after.size, after.sha256), (Some(archive.len() as u64), Some(Sha256::of(&archive))));
    worker.stop().await;
}

#[tokio::test]
async fn a_package_that_is_dismissed_or_gone_is_not_built() {
    for standing in [
        vec!["dismissed"],
        vec!["unknown"],
        vec!["gone"],
        vec!["running", "dismissed"],
        vec!["running", "running", "unknown"],
    ] {
        let world = World::new().await;
        world.answer(|answers| answers.standing = standing);
        let worker = world.packager();
        world.ask(&world.request()).await;
        assert_eq!(world.last().await, StatusMessage::Dismissed);
        world.wait_for(&Queue::PackageRequests, 0).await;
        assert_eq!(world.keys().await, [""; 0]);
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_404_that_is_not_the_servers_own_dismisses_nothing() {
    for standing in ["another path's 404", "a proxy's 404", "a proxy's 410"] {
        let world = World::new().await;
        world.answer(|answers| answers.standing = vec![standing]);
        let worker = world.packager();
        world.ask(&world.request()).await;
        world.complete().await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_miners_key_is_refused_at_the_start() {
    let world = World::new().await;
    world.answer(|answers| answers.role = Some("miner"));
    let reason = world.packager().run.await.unwrap().unwrap_err().to_string();
    assert!(reason.contains("role miner") && reason.contains("--role packager"), "{reason}");
}

#[tokio::test]
async fn a_miners_key_that_is_found_out_later_fails_the_package_and_dismisses_nothing() {
    let world = World::new().await;
    let worker = world.packager();
    world.ask(&world.request()).await;
    world.complete().await;
    world.answer(|answers| (answers.role, answers.standing) = (Some("miner"), vec!["unknown"]));
    // Another one, of which nothing is stored yet.
    world.ask(&world.request().replace("fmt=txt", "fmt=txt,pdf").replace("package=7", "package=8")).await;
    let reason = world.failed().await;
    assert!(reason.contains("role miner") && reason.contains("--role packager"), "{reason}");
    assert_eq!(world.buried().await.1, reason);
    worker.stop().await;
}

#[tokio::test]
async fn a_server_that_does_not_tell_roles_is_served() {
    for role in [None, Some("builder"), Some("operator")] {
        let world = World::new().await;
        world.answer(|answers| answers.role = role);
        let worker = world.packager();
        world.ask(&world.request()).await;
        world.complete().await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_delete_calls_off_the_build_and_removes_what_is_there() {
    let world = World::new().await;
    let delete = || Outgoing::new(DeleteRequest { package: PACKAGE });
    let worker = world.packager();
    world.ask(&world.request()).await;
    world.complete().await;
    assert_eq!(world.keys().await.len(), 3);
    world.broker.publish(&Queue::Deletes, delete()).await.unwrap();
    world.wait_for(&Queue::Deletes, 0).await;
    assert_eq!(world.keys().await, [""; 0]);

    world.answer(|answers| answers.hangs = true);
    world.ask(&world.request()).await;
    // Its memory is there as soon as it has begun.
    while world.keys().await != [ObjectKey::Build { package: PACKAGE }.to_string()] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.broker.publish(&Queue::Deletes, delete()).await.unwrap();
    assert_eq!(world.last().await, StatusMessage::Dismissed);
    world.wait_for(&Queue::Deletes, 0).await;
    world.wait_for(&Queue::PackageRequests, 0).await;
    assert_eq!(world.keys().await, [""; 0]);
    worker.stop().await;
}

#[tokio::test]
async fn a_packager_that_stops_gives_its_work_back() {
    let world = World::new().await;
    world.answer(|answers| answers.hangs = true);
    world.ask(&world.request()).await;
    // More often than a request may fail: being stopped is no failure.
    for turn in 1..=5 {
        let worker = world.packager();
        while Memory::load(&*world.objects, PACKAGE).await.unwrap().turn < turn {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        worker.stop().await;
        world.wait_for(&Queue::PackageRequests, 1).await;
    }
    world.answer(|answers| answers.hangs = false);
    let worker = world.packager();
    world.complete().await;
    world.wait_for(&Queue::PackageRequests, 0).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_request_without_a_number_is_built_under_one_of_its_own() {
    let world = World::new().await;
    let worker = world.packager();
    let body = format!("{}/docsets/5?fmt=txt", world.api);
    world.broker.publish(&Queue::PackageRequests, Outgoing::new(&body)).await.unwrap();
    // Without reply-to, the statuses go to the queue of the docset's number.
    let Some((_, StatusMessage::Complete(complete))) = world.statuses("5").await.pop() else { panic!("not complete") };
    assert!(complete.url.starts_with("packages/-") && complete.url.ends_with(".zip"), "{}", complete.url);
    let archive = world.objects.get(&complete.url, None).await.unwrap();
    world.corpus.assert_holds(&archive, Layout::Flat);
    worker.stop().await;
}
