use adit_shared::clock::Clock as _;
use adit_shared::ids::Salt;
use adit_shared::messaging::Broker;
use futures::future::join_all;

use super::*;
use crate::testing::World;

/// Requests that wait for a packager.
async fn waiting(world: &World) -> usize {
    let requests = Broker::new(world.broker()).drain(&Queue::PackageRequests).await.unwrap().unwrap();
    requests.messages().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_find_a_package_silent_send_its_request_once() {
    let world = World::new().await;
    let apps = [world.app().await, world.app().await];
    let package = world.package().await;
    send_request(&apps[0], &package).await.unwrap();
    world.clock.advance(60_001);
    let silent = world.row(&package).await;
    let polls = (0..100).map(|i| {
        let (app, package) = (apps[i % 2].clone(), silent.clone());
        tokio::spawn(async move { refresh(&app, package).await.unwrap() })
    });
    for polled in join_all(polls).await {
        assert_eq!(polled.unwrap().sends, 2);
    }
    assert_eq!(waiting(&world).await, 2);
}

#[tokio::test]
async fn a_request_that_a_clock_ahead_has_sent_is_sent_again_at_once() {
    const DAY: i64 = 86_400_000;
    let world = World::new().await;
    let app = world.app().await;
    let package = world.package().await;
    world.clock.advance(DAY);
    send_request(&app, &package).await.unwrap();
    world.clock.advance(-DAY);
    let found = world.row(&package).await;
    refresh(&app, found).await.unwrap();
    let row = world.row(&package).await;
    assert_eq!((row.sends, row.sent, waiting(&world).await), (2, Some(world.clock.now_ms()), 2));
    // Once, and not at each poll from now on.
    refresh(&app, row).await.unwrap();
    assert_eq!(world.row(&package).await.sends, 2);
}

#[tokio::test]
async fn a_package_that_is_being_made_is_left_to_its_maker_for_a_while() {
    let world = World::new().await;
    let app = world.app().await;
    let package = world.package().await;
    refresh(&app, package.clone()).await.unwrap();
    assert_eq!((world.row(&package).await.sends, waiting(&world).await), (0, 0));
    world.clock.advance(FIRST_SENDING + 1);
    refresh(&app, package.clone()).await.unwrap();
    assert_eq!((world.row(&package).await.sends, waiting(&world).await), (1, 1));
}

#[tokio::test]
async fn a_request_that_the_broker_does_not_take_is_not_counted() {
    let world = World::new().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut broker: adit_shared::messaging::BrokerConfig = format!("stomp://{nobody}").parse().unwrap();
    broker.publish_timeout = std::time::Duration::from_millis(100);
    let app = world.app_on(broker, &world.objects()).await;
    let package = world.package().await;
    send_request(&app, &package).await.unwrap_err();
    assert_eq!(world.row(&package).await, package);
    send_request(&world.app().await, &package).await.unwrap();
    assert_eq!(waiting(&world).await, 1);
}

#[tokio::test]
async fn a_status_of_a_lost_package_of_the_same_number_is_not_read() {
    let world = World::new().await;
    let app = world.app().await;
    let package = world.package().await;
    let broker = Broker::new(world.broker());
    let lost = Package { salt: package.salt.map(|salt| Salt(!salt.0)), ..package.clone() };
    let before = Package { salt: None, ..package.clone() };
    for other in [&lost, &before] {
        let complete = Outgoing::new("Complete: http://elsewhere/lost.zip\nSize: 5").header("sequence", 9);
        broker.publish(&status_queue(other), complete).await.unwrap();
    }
    assert_eq!(take_statuses(&app, package.clone()).await.unwrap(), package);
    send_request(&app, &package).await.unwrap();
    let requests = broker.drain(&Queue::PackageRequests).await.unwrap().unwrap();
    let (request, salt) = (requests.messages()[0].text().unwrap(), package.salt.unwrap());
    assert!(request.ends_with(&format!("&package={}&salt={salt}", package.id)), "{request}");
    send_delete(&app, package.salted()).await.unwrap();
    let deletes = broker.drain(&Queue::Deletes).await.unwrap().unwrap();
    assert_eq!(deletes.messages()[0].text().unwrap(), format!("Delete: {}\nSalt: {salt}", package.id));
}

#[tokio::test]
async fn a_poisoned_status_is_dropped_and_the_next_one_read() {
    let world = World::new().await;
    let app = world.app().await;
    let package = world.package().await;
    let broker = Broker::new(world.broker());
    let queue = status_queue(&package);
    let long = "9".repeat(60_000);
    for (name, value, body) in [
        ("sequence", "x", "Dismissed".to_owned()),
        ("sequence", "-1", "Dismissed".to_owned()),
        ("sequence", long.as_str(), "Dismissed".to_owned()),
        ("content-kind", "none", format!("Failed: {}", "x".repeat(70_000))),
        ("sequence", "1", "Progress: 101%".to_owned()),
        ("sequence", "2", "Complete: ".to_owned()),
    ] {
        broker.publish(&queue, Outgoing::new(body).header(name, value)).await.unwrap();
    }
    let package = take_statuses(&app, package).await.unwrap();
    assert!(!package.status.is_terminal(), "{:?}", package.status);
    // What goes into the database and onto a miner's terminal is one line of plain text.
    let reason = format!("Failed: not\u{0} today\u{1b}[31m\u{7}\u{9b}, {}", "x".repeat(5000));
    broker.publish(&queue, Outgoing::new(reason).header("sequence", 3)).await.unwrap();
    let package = take_statuses(&app, package).await.unwrap();
    let problem = package.problem.unwrap();
    assert!(problem.starts_with("not today [31m ,") && problem.len() == 2000, "{problem:.40}");
    assert_eq!((package.status, package.sequence), (Status::Failed, 3));
}
