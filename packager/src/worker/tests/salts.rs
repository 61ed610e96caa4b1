//! Numbers that come again after a database was restored: what belongs to a lost package of the same
//! number is neither believed nor harmed by the new one's, nor the other way round.

use super::*;

const LOST: SaltedPackage = SaltedPackage { id: PackageId(7), salt: Some(Salt(1)) };
const NEW: SaltedPackage = SaltedPackage { id: PackageId(7), salt: Some(Salt(2)) };

fn request_for(world: &World, package: SaltedPackage) -> String {
    let salt = package.salt.unwrap();
    format!("{}&salt={salt}", world.request())
}

async fn built(world: &World, package: SaltedPackage) -> Complete {
    world.answer(|answers| answers.salt = package.salt);
    world.ask_for(package, &request_for(world, package)).await;
    match world.statuses(&package.to_string()).await.pop() {
        Some((_, StatusMessage::Complete(complete))) => complete,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_of_a_lost_package_harms_nothing_of_the_new_one() {
    let world = World::new().await;
    let worker = world.packager();
    built(&world, LOST).await;
    let complete = built(&world, NEW).await;
    assert_eq!(complete.parts_reused, Some(0), "what the lost package left is not the new one's");
    let keys = world.keys().await;
    assert_eq!(keys.iter().filter(|key| key.starts_with(&format!("packages/{LOST}/"))).count(), 3);
    assert_eq!(keys.iter().filter(|key| key.starts_with(&format!("packages/{NEW}/"))).count(), 3);

    // One that was left on the broker.
    world.ask_for(LOST, &request_for(&world, LOST)).await;
    assert_eq!(world.statuses(&LOST.to_string()).await.pop().unwrap().1, StatusMessage::Dismissed);
    world.wait_for(&Queue::PackageRequests, 0).await;
    assert_eq!(world.waiting(&NEW.to_string()).await, []);
    let left = world.keys().await;
    assert!(left.iter().all(|key| key.starts_with(&format!("packages/{NEW}/"))) && left.len() == 3, "{left:?}");

    world.broker.publish(&Queue::Deletes, Outgoing::new(DeleteRequest { package: LOST })).await.unwrap();
    world.wait_for(&Queue::Deletes, 0).await;
    assert_eq!(world.keys().await.len(), 3);
    world.broker.publish(&Queue::Deletes, Outgoing::new(DeleteRequest { package: NEW })).await.unwrap();
    world.wait_for(&Queue::Deletes, 0).await;
    assert_eq!(world.keys().await, [""; 0]);
    worker.stop().await;
}

#[tokio::test]
async fn a_request_of_a_lost_package_does_not_take_the_work_from_the_new_one() {
    let world = World::new().await;
    let worker = world.packager();
    world.answer(|answers| (answers.hangs, answers.salt) = (true, NEW.salt));
    world.ask_for(NEW, &request_for(&world, NEW)).await;
    while Memory::load(&*world.objects, NEW).await.unwrap().turn == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.ask_for(LOST, &request_for(&world, LOST)).await;
    assert_eq!(world.statuses(&LOST.to_string()).await.pop().unwrap().1, StatusMessage::Dismissed);
    world.wait_for(&Queue::PackageRequests, 1).await;
    assert!(!world.waiting(&NEW.to_string()).await.iter().any(|(_, status)| is_final(status)));
    worker.stop().await;
}

#[tokio::test]
async fn a_request_without_a_salt_is_built_where_the_server_looks_for_it() {
    let world = World::new().await;
    let worker = world.packager();
    world.answer(|answers| answers.salt = NEW.salt);
    world.ask(&world.request()).await;
    world.complete().await;
    let keys = world.keys().await;
    assert!(keys.iter().all(|key| key.starts_with(&format!("packages/{NEW}/"))), "{keys:?}");

    // A package of that number is of another docset now: the request is that of a lost one.
    world.ask(&world.request().replace("docsets/5", "docsets/6")).await;
    assert_eq!(world.last().await, StatusMessage::Dismissed);
    assert_eq!(world.keys().await, keys);
    worker.stop().await;
}
