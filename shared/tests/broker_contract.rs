//! What callers count on, whichever broker there is: one suite, run on the embedded broker always, on RabbitMQ and
//! ActiveMQ where `ADIT_TEST_RABBITMQ_URL` and `ADIT_TEST_ACTIVEMQ_URL` tell where they are.
//!
//! Each test uses queues of its own, so that they can run side by side on one broker.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use adit_shared::messaging::server::{BrokerServer, ServerConfig};
use adit_shared::messaging::{Broker, BrokerConfig, BrokerError, Flavour, Outgoing, Queue};
use futures::future::{join_all, try_join_all};

/// A broker to test, and the server behind it where that is ours.
struct Place {
    config: BrokerConfig,
    flavour: Flavour,
    _server: Option<BrokerServer>,
}

impl Place {
    fn broker(&self) -> Broker {
        Broker::new(self.config.clone())
    }

    async fn embedded() -> Option<Self> {
        let credentials = Some(("adit".to_owned(), "adit".to_owned()));
        let server = BrokerServer::start(ServerConfig { credentials, ..ServerConfig::default() }).await.unwrap();
        let config = format!("stomp://adit:adit@{}", server.addr().unwrap()).parse().unwrap();
        Some(Self { config, flavour: Flavour::Adit, _server: Some(server) })
    }

    async fn rabbitmq() -> Option<Self> {
        Self::at("ADIT_TEST_RABBITMQ_URL", Flavour::RabbitMq)
    }

    async fn activemq() -> Option<Self> {
        Self::at("ADIT_TEST_ACTIVEMQ_URL", Flavour::ActiveMq)
    }

    fn at(variable: &str, flavour: Flavour) -> Option<Self> {
        let url = std::env::var(variable).ok()?;
        Some(Self { config: url.parse().unwrap(), flavour, _server: None })
    }
}

/// Runs each function on each broker.
macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        contract!(embedded: $($name),+);
        contract!(rabbitmq: $($name),+);
        contract!(activemq: $($name),+);
    };
    ($place:ident: $($name:ident),+) => {
        mod $place {
            $(
                #[tokio::test]
                async fn $name() {
                    if let Some(place) = super::Place::$place().await {
                        super::$name(&place).await;
                    }
                }
            )+
        }
    };
}

contract!(
    the_broker_is_recognised_and_wrong_credentials_are_refused,
    what_is_published_is_consumed_once,
    prefetch_bounds_what_is_handed_out,
    what_a_dropped_consumer_held_comes_again,
    a_drain_is_complete_and_in_order,
    a_drain_that_is_not_acknowledged_gives_all_back,
    what_comes_behind_a_drain_is_there_for_the_next,
    drains_of_one_queue_take_turns,
    drains_of_two_processes_lose_and_double_nothing,
    many_drains_at_once_share_the_connections,
    messages_published_together_all_arrive,
    a_message_expires,
    trials_of_delivery_succeed_and_disturb_nobody,
    the_embedded_broker_lists_its_queues,
);

fn queue() -> Queue {
    Queue::Package(format!("test-{:016x}", rand::random::<u64>()))
}

async fn publish(broker: &Broker, queue: &Queue, texts: impl IntoIterator<Item = String>) {
    let session = broker.session().await.unwrap();
    for text in texts {
        session.publish(queue, Outgoing::new(text)).await.unwrap();
    }
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// Drains and acknowledges; `None` if another caller did so meanwhile.
async fn try_take(broker: &Broker, queue: &Queue) -> Option<Vec<String>> {
    let drained = broker.drain(queue).await.unwrap()?;
    let texts = drained.messages().iter().map(|message| message.text().unwrap().to_owned()).collect();
    drained.ack().await.unwrap();
    Some(texts)
}

/// What there is for this caller.
async fn take(broker: &Broker, queue: &Queue) -> Vec<String> {
    try_take(broker, queue).await.unwrap_or_default()
}

/// Drains until so many messages have come: those of a connection that has just been closed are not back at once.
async fn take_all(broker: &Broker, queue: &Queue, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    let all = async {
        while texts.len() < count {
            texts.extend(take(broker, queue).await);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.unwrap();
    texts
}

async fn the_broker_is_recognised_and_wrong_credentials_are_refused(place: &Place) {
    assert_eq!(place.broker().check().await, Ok(place.flavour));
    let url = place.config.to_string().replace("stomp://", "stomp://adit:hunter2@");
    let error = Broker::new(url.parse().unwrap()).check().await.unwrap_err();
    assert!(matches!(error, BrokerError::Refused { .. }), "{error:?}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

async fn what_is_published_is_consumed_once(place: &Place) {
    let (broker, queue) = (place.broker(), queue());
    let (odd, reply_to) = ("a:b\\c\nd\r é", Queue::Package("5".into()));
    let mut consumer = broker.consume(&queue, 1).await.unwrap();
    for text in ["Accepted. 45 seconds", "Progress: 40%\nDocuments: 400/1000", "é 日本 \\ : \u{1}"] {
        let message = Outgoing::new(text).header("reply-to", &reply_to).header("odd", odd);
        broker.publish(&queue, message).await.unwrap();
        let delivery = consumer.next().await.unwrap();
        assert_eq!(delivery.message.text(), Ok(text));
        assert_eq!(delivery.message.headers.get("odd"), Some(odd));
        assert_eq!(delivery.message.reply_to(), Ok(Some(reply_to.clone())));
        assert!(!delivery.redelivered());
        delivery.ack().await.unwrap();
    }
    drop(consumer);
    assert_eq!(take(&broker, &queue).await, [""; 0]);
}

async fn prefetch_bounds_what_is_handed_out(place: &Place) {
    let (broker, queue) = (place.broker(), queue());
    publish(&broker, &queue, numbers(0..3)).await;
    let mut one = broker.consume(&queue, 1).await.unwrap();
    let held = one.next().await.unwrap();
    // The second consumer gets what the first was not handed.
    let mut two = broker.consume(&queue, 2).await.unwrap();
    let (a, b) = (two.next().await.unwrap(), two.next().await.unwrap());
    let texts = [&held, &a, &b].map(|delivery| delivery.message.text().unwrap());
    assert_eq!(texts, ["0", "1", "2"]);
    for delivery in [b, held, a] {
        delivery.ack().await.unwrap();
    }
    drop((one, two));
    assert_eq!(take(&broker, &queue).await, [""; 0]);
}

async fn what_a_dropped_consumer_held_comes_again(place: &Place) {
    let (broker, queue) = (place.broker(), queue());
    publish(&broker, &queue, numbers(0..1)).await;
    let mut consumer = broker.consume(&queue, 1).await.unwrap();
    let delivery = consumer.next().await.unwrap();
    drop(consumer);
    assert!(matches!(delivery.ack().await, Err(BrokerError::Lost { .. })));
    let mut consumer = broker.consume(&queue, 1).await.unwrap();
    let delivery = consumer.next().await.unwrap();
    assert_eq!(delivery.message.text(), Ok("0"));
    assert!(delivery.redelivered());
    delivery.ack().await.unwrap();
    drop(consumer);
    assert_eq!(take(&broker, &queue).await, [""; 0]);
}

async fn a_drain_is_complete_and_in_order(place: &Place) {
    let (broker, queue) = (place.broker(), queue());
    for round in 0..5 {
        for count in [0, 1, 200] {
            publish(&broker, &queue, numbers(0..count)).await;
            assert_eq!(take(&broker, &queue).await, numbers(0..count), "{count} in round {round}");
        }
    }
}

async fn a_drain_that_is_not_acknowledged_gives_all_back(place: &Place) {
    let (broker, queue) = (place.broker(), queue());
    publish(&broker, &queue, numbers(0..3)).await;
    let drained = broker.drain(&queue).await.unwrap().unwrap();
    assert_eq!(drained.messages().len(), 3);
    // One who waits for it is not told that all was taken.
    let mut waiting = Box::pin(take_all(&broker, &queue, 3));
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(drained);
    assert_eq!(waiting.await, numbers(0..3));
    assert_eq!(take(&broker, &queue).await, [""; 0]);
}

async fn what_comes_behind_a_drain_is_there_for_the_next(place: &Place) {
    let (broker, queue) = (place.broker(), queue());
    for n in 0..20 {
        publish(&broker, &queue, numbers(n..n + 1)).await;
        let drained = broker.drain(&queue).await.unwrap().unwrap();
        // The subscription is still there: the broker hands this one to it, behind the marker.
        publish(&broker, &queue, ["behind".to_owned()]).await;
        assert_eq!(drained.messages().iter().map(|m| m.text().unwrap()).collect::<Vec<_>>(), numbers(n..n + 1));
        drained.ack().await.unwrap();
        assert_eq!(take_all(&broker, &queue, 1).await, ["behind"]);
    }
}

async fn drains_of_one_queue_take_turns(place: &Place) {
    let (broker, queue) = (place.broker(), queue());
    publish(&broker, &queue, numbers(0..50)).await;
    let taken = join_all((0..10).map(|_| try_take(&broker, &queue))).await;
    // The second asked after the first had begun. When it began the others had asked, so it read for them as well.
    assert_eq!(taken[..2], [Some(numbers(0..50)), Some(Vec::new())]);
    assert_eq!(taken[2..], [const { None }; 8]);
}

async fn drains_of_two_processes_lose_and_double_nothing(place: &Place) {
    let (one, two, queue) = (place.broker(), place.broker(), queue());
    let mut taken = Vec::new();
    for round in 0..5 {
        publish(&one, &queue, numbers(round * 40..round * 40 + 40)).await;
        for texts in join_all([&one, &two].map(|broker| take(broker, &queue))).await {
            taken.extend(texts);
        }
    }
    let left = take_all(&one, &queue, 200 - taken.len()).await;
    taken.extend(left);
    taken.sort_by_key(|text| text.parse::<usize>().unwrap());
    assert_eq!(taken, numbers(0..200));
}

async fn many_drains_at_once_share_the_connections(place: &Place) {
    let broker = place.broker();
    let queues: Vec<_> = (0..40).map(|_| queue()).collect();
    join_all(queues.iter().map(|queue| publish(&broker, queue, numbers(0..3)))).await;
    for taken in join_all(queues.iter().map(|queue| take(&broker, queue))).await {
        assert_eq!(taken, numbers(0..3));
    }
}

async fn messages_published_together_all_arrive(place: &Place) {
    let (broker, queue) = (place.broker(), queue());
    let sent = numbers(0..1000);
    try_join_all(sent.iter().map(|text| broker.publish(&queue, Outgoing::new(text)))).await.unwrap();
    let mut taken = take(&broker, &queue).await;
    taken.sort_by_key(|text| text.parse::<usize>().unwrap());
    assert_eq!(taken, sent);
}

async fn trials_of_delivery_succeed_and_disturb_nobody(place: &Place) {
    let brokers: Vec<Broker> = (0..3).map(|_| place.broker()).collect();
    let queue = queue();
    publish(&brokers[0], &queue, numbers(0..3)).await;
    for _ in 0..5 {
        try_join_all(brokers.iter().map(Broker::check_delivery)).await.unwrap();
    }
    assert_eq!(take(&brokers[0], &queue).await, numbers(0..3));
}

async fn a_message_expires(place: &Place) {
    let (broker, queue) = (place.broker(), queue());
    // A millisecond is over before the receipt is back, or soon after.
    let expires_in = Some(Duration::from_millis(1));
    broker.publish(&queue, Outgoing { expires_in, ..Outgoing::new("old") }).await.unwrap();
    let gone = async {
        loop {
            let drained = broker.drain(&queue).await.unwrap().unwrap();
            if drained.messages().is_empty() {
                return drained.ack().await.unwrap();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
}

async fn the_embedded_broker_lists_its_queues(place: &Place) {
    let (broker, queue) = (place.broker(), queue());
    publish(&broker, &queue, numbers(0..2)).await;
    let mut consumer = broker.consume(&queue, 1).await.unwrap();
    let held = consumer.next().await.unwrap();
    match broker.queues().await {
        Ok(queues) => {
            let counts: Vec<_> = queues.iter().map(|q| (q.name.as_str(), q.ready, q.unacknowledged)).collect();
            assert_eq!(counts, [(queue.logical().trim_start_matches("/queue/"), 1, 1)]);
        }
        Err(error) => assert_ne!(place.flavour, Flavour::Adit, "{error}"),
    }
    held.ack().await.unwrap();
}
