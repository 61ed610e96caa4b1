//! Parts that are away, refuse, or come back: waiting for them is no failed attempt.

use adit_shared::messaging::{BrokerServer, ServerConfig};
use axum::http::StatusCode;
use axum::response::IntoResponse as _;

use super::*;

#[tokio::test]
async fn a_server_in_trouble_is_asked_again() {
    let world = World::new().await;
    world.answer(|answers| answers.trouble = 2);
    let worker = world.packager();
    world.ask(&world.request()).await;
    let (sequence, last) = world.statuses("7").await.pop().unwrap();
    assert!(matches!(last, StatusMessage::Complete(_)) && sequence > 3_000_000, "{sequence}: {last}");
    worker.stop().await;
}

#[tokio::test]
async fn a_store_that_stays_away_fails_the_package_in_the_end() {
    let world = World::new().await;
    let worker = world.packager_on(Arc::new(Fused::new(world.objects.clone(), 0)));
    world.ask(&world.request()).await;
    let reason = world.failed().await;
    assert!(reason.ends_with("the fuse has blown (for 0 s)"), "{reason}");
    world.buried().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_waited_for() {
    let world = World::new().await;
    world.answer(|answers| answers.role = Some("away"));
    world.ask(&world.request()).await;
    let worker = world.packager();
    world.failed().await;
    world.answer(|answers| answers.role = Some("packager"));
    world.ask(&world.request()).await;
    world.complete().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_wrong_address_of_the_server_dismisses_and_fails_nothing() {
    let world = World::new().await;
    world.answer(|answers| {
        (answers.role, answers.standing) = (Some("misplaced"), vec!["another path's 404"]);
        answers.refusal = Some(|| problem(StatusCode::NOT_FOUND, "no-such-path"));
    });
    let worker = world.packager();
    world.ask(&world.request()).await;
    while Memory::load(&*world.objects, PACKAGE).await.unwrap().turn < 5 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    worker.stop().await;
    let said = world.waiting("7").await;
    assert!(!said.iter().any(|(_, status)| is_final(status)), "{said:?}");
    world.wait_for(&Queue::PackageRequests, 1).await;
}

#[tokio::test]
async fn what_is_not_the_servers_own_no_is_waited_out() {
    let refusals: [fn() -> Response; 6] = [
        || problem(StatusCode::NOT_FOUND, "no-such-path"),
        || (StatusCode::NOT_FOUND, "<h1>Not Found</h1>").into_response(),
        || (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "3600")], "").into_response(),
        || problem(StatusCode::UNAUTHORIZED, "unauthorized"),
        || problem(StatusCode::TOO_MANY_REQUESTS, "too-many-requests"),
        || (StatusCode::BAD_GATEWAY, "").into_response(),
    ];
    for refusal in refusals {
        let world = World::new().await;
        world.answer(|answers| answers.refusal = Some(refusal));
        let worker = world.packager_with(|config| config.patience = Duration::from_hours(1));
        world.ask(&world.request()).await;
        // Far more often than a request may fail.
        while Memory::load(&*world.objects, PACKAGE).await.unwrap().turn < 8 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(Memory::load(&*world.objects, PACKAGE).await.unwrap().attempts, 1);
        world.answer(|answers| answers.refusal = None);
        world.complete().await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_server_that_says_no_itself_is_believed() {
    let world = World::new().await;
    world.answer(|answers| answers.refusal = Some(|| problem(StatusCode::GONE, "docset-gone")));
    let worker = world.packager();
    world.ask(&world.request()).await;
    assert!(world.failed().await.contains("410"));
    worker.stop().await;
}

#[tokio::test]
async fn a_store_that_is_away_is_waited_for_and_the_attempt_does_not_count() {
    let world = World::new().await;
    let store = Arc::new(Fused::new(world.objects.clone(), 20));
    let worker = world.packager_on(store.clone());
    world.ask(&world.request()).await;
    while store.calls_refused() < 8 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    store.mend();
    world.complete().await;
    worker.stop().await;
}

#[tokio::test]
async fn an_attempt_that_the_store_noted_without_saying_so_is_not_taken_for_another_packagers() {
    let world = World::new().await;
    world.answer(|answers| answers.trouble = 1);
    // Two moments each: reading and noting the first attempt, which the server ends, and reading for the second; its note arrives.
    let store = Arc::new(Fused::new(world.objects.clone(), 7));
    let worker = world.packager_on(store.clone());
    world.ask(&world.request()).await;
    while store.calls_refused() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(Memory::load(&*world.objects, PACKAGE).await.unwrap().turn, 2);
    store.mend();
    world.complete().await;
    worker.stop().await;
}

#[tokio::test]
async fn a_request_is_not_forgotten_while_the_store_does_not_answer() {
    let world = World::new().await;
    let worker = world.packager_on(Arc::new(Fused::hanging(world.objects.clone(), 0)));
    world.ask(&world.request()).await;
    let mut said = 0;
    while said < 5 {
        let statuses = world.waiting("7").await;
        assert!(
            statuses.iter().all(|(_, status)| *status == StatusMessage::Accepted { seconds: None }),
            "{statuses:?}"
        );
        said += statuses.len();
    }
    tokio::time::timeout(Duration::from_secs(8), worker.stop()).await.expect("it stops in time");
    world.wait_for(&Queue::PackageRequests, 1).await;
}

#[tokio::test]
async fn a_packager_stops_in_time_though_the_store_does_not_answer() {
    let world = World::new().await;
    let store = Arc::new(Fused::hanging(world.objects.clone(), 20));
    let worker = world.packager_on(store.clone());
    world.ask(&world.request()).await;
    while store.calls_refused() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The build does not come to rest, and what there is of the archive is not removed.
    world.answer(|answers| answers.standing = vec!["dismissed"]);
    tokio::time::timeout(Duration::from_secs(14), worker.stop()).await.expect("it stops in time");
    world.wait_for(&Queue::PackageRequests, 1).await;
}

/// Starts a packager and waits until it has finished the archive; to the question that comes last the server says `standing`.
async fn finished_while(world: &World, standing: &'static str) -> Worker {
    let answers = world.answers.clone();
    let change = async move { answers.lock().unwrap().standing = vec![standing] };
    world.answer(|answers| (answers.standing, answers.meanwhile) = (vec!["running"], Some(change.boxed())));
    let worker = world.packager();
    world.ask(&world.request()).await;
    while Memory::load(&*world.objects, PACKAGE).await.unwrap().done.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    worker
}

#[tokio::test]
async fn a_packager_that_stops_does_not_wait_for_the_server() {
    let world = World::new().await;
    let worker = finished_while(&world, "hangs").await;
    tokio::time::timeout(Duration::from_secs(5), worker.stop()).await.expect("it stops at once");
    world.wait_for(&Queue::PackageRequests, 1).await;
    world.answer(|answers| answers.standing = vec!["running"]);
    let worker = world.packager();
    assert!(world.complete().await.parts_reused > Some(0));
    worker.stop().await;
}

#[tokio::test]
async fn an_archive_that_was_dismissed_while_the_server_was_away_is_not_kept() {
    let world = World::new().await;
    let worker = finished_while(&world, "away").await;
    world.answer(|answers| answers.standing = vec!["dismissed"]);
    assert_eq!(world.last().await, StatusMessage::Dismissed);
    assert_eq!(world.keys().await, [""; 0]);
    worker.stop().await;

    // Nor is one whose packager ended before it had the answer.
    let worker = finished_while(&world, "hangs").await;
    worker.stop().await;
    world.answer(|answers| answers.standing = vec!["dismissed"]);
    let worker = world.packager();
    assert_eq!(world.last().await, StatusMessage::Dismissed);
    assert_eq!(world.keys().await, [""; 0]);
    worker.stop().await;
}

#[tokio::test]
async fn a_broker_that_is_away_holds_up_neither_the_start_nor_a_build_nor_the_end() {
    let world = World::new().await;
    let address = world.server.addr().unwrap();
    world.answer(|answers| answers.hangs = true);
    world.server.shutdown().await;
    let config = || ServerConfig { listen: Some(address), ..ServerConfig::default() };
    let (stop, run) = {
        let broker = world.broker.clone();
        let mut settings = PackagerConfig::new("the packager's key".to_owned(), world.api.clone());
        (settings.backoff, settings.progress_every) = (Duration::from_millis(1), Duration::from_millis(1));
        settings.longest_backoff = Duration::from_millis(20);
        let stop = CancellationToken::new();
        (stop.clone(), tokio::spawn(run(settings, broker, world.objects.clone(), world.clock.clone(), stop)))
    };
    let server = BrokerServer::start(config()).await.unwrap();
    let request =
        Outgoing::new(format!("{}/docsets/5?fmt=txt&package=7", world.api)).header("reply-to", "/queue/package/7");
    world.broker.publish(&Queue::PackageRequests, request).await.unwrap();
    while Memory::load(&*world.objects, PACKAGE).await.unwrap().turn == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.shutdown().await;
    assert!(!run.is_finished());
    stop.cancel();
    // It hangs in the middle of a build whose statuses nobody takes.
    tokio::time::timeout(Duration::from_secs(5), run).await.expect("it stops at once").unwrap().unwrap();
}

#[tokio::test]
async fn a_broker_that_restarts_during_a_build_hands_the_request_out_again_and_it_is_built() {
    let mut world = World::new().await;
    let journal = tempfile::tempdir().unwrap();
    let config = |listen| ServerConfig { listen, journal: Some(journal.path().to_owned()), ..ServerConfig::default() };
    let server = BrokerServer::start(config(ServerConfig::default().listen)).await.unwrap();
    let address = server.addr().unwrap();
    world.broker = Broker::new(format!("stomp://{address}").parse().unwrap());
    world.answer(|answers| answers.hangs = true);
    let worker = world.packager();
    world.ask(&world.request()).await;
    while Memory::load(&*world.objects, PACKAGE).await.unwrap().turn < 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.shutdown().await;
    world.answer(|answers| answers.hangs = false);
    world.server = BrokerServer::start(config(Some(address))).await.unwrap();
    world.complete().await;
    assert_eq!(Memory::load(&*world.objects, PACKAGE).await.unwrap().attempts, 0);
    world.wait_for(&Queue::PackageRequests, 0).await;
    worker.stop().await;
}

#[tokio::test]
async fn wrong_credentials_end_the_packager_at_the_start() {
    let world = World::new().await;
    let server = ServerConfig { credentials: Some(("adit".to_owned(), "right".to_owned())), ..ServerConfig::default() };
    let server = BrokerServer::start(server).await.unwrap();
    let broker = Broker::new(format!("stomp://adit:wrong@{}", server.addr().unwrap()).parse().unwrap());
    let config = PackagerConfig::new("the packager's key".to_owned(), world.api.clone());
    let ended = run(config, broker, world.objects.clone(), world.clock.clone(), CancellationToken::new()).await;
    assert!(matches!(ended, Err(PackagerError::Broker(BrokerError::Refused { .. }))), "{ended:?}");
}

#[tokio::test]
async fn a_key_that_the_server_refuses_ends_the_packager_at_the_start() {
    let world = World::new().await;
    world.answer(|answers| answers.role = Some("refused"));
    let reason = world.packager().run.await.unwrap().unwrap_err().to_string();
    assert!(reason.contains("ADIT_API_KEY") && reason.contains("refused"), "{reason}");
}

#[tokio::test]
async fn attempts_that_bring_the_archive_on_do_not_count() {
    let world = World::new().await;
    let memory = Memory { attempts: 2, ..Memory::default() };
    memory.save(&*world.objects, PACKAGE).await.unwrap();
    // Every third part finds its upload lost: that is more often than a request may fail.
    let worker = world.packager_on(Arc::new(Fused::losing(world.objects.clone(), 3)));
    world.ask(&world.request()).await;
    assert!(world.complete().await.parts_reused > Some(0));
    worker.stop().await;
}
