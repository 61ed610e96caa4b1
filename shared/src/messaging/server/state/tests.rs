//! The rules, one by one; then any mixture of them against a plain model.

use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3_600_000;

pub(in super::super) fn rules() -> Rules {
    Rules { max_bytes: 1 << 20, queue_expiry: HOUR, expiring_prefix: "package/".into() }
}

fn message(body: &str) -> Message {
    Message { headers: vec![], body: body.to_owned().into(), persistent: true, expires: None }
}

fn send(state: &mut State, now: i64, from: ConnectionId, queue: &str, message: Message) -> Result<(), Refusal> {
    state.apply(now, from, vec![Step::Send { queue: queue.into(), message }])
}

fn bodies(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|d| std::str::from_utf8(&d.stored.message.body).unwrap()).collect()
}

fn settle(delivery: &Delivery, fate: Fate) -> Step {
    Step::Settle { ack: delivery.ack.unwrap(), fate }
}

/// A state with a sender, and `q` holding messages of the given bodies.
fn with_messages(queue: &str, texts: &[&str]) -> (State, ConnectionId) {
    let mut state = State::new(rules(), 0, vec![]);
    let sender = state.connect();
    for text in texts {
        send(&mut state, 0, sender, queue, message(text)).unwrap();
    }
    (state, sender)
}

fn consumer(state: &mut State, queue: &str, mode: AckMode, prefetch: u32) -> ConnectionId {
    let connection = state.connect();
    state.subscribe(0, connection, "s", queue, mode, Some(prefetch).filter(|n| *n > 0)).unwrap();
    connection
}

fn info(state: &State, queue: &str) -> (u64, u64, u64) {
    let all = state.queues();
    let found = all.iter().find(|info| info.name == queue);
    found.map_or((0, 0, 0), |info| (info.ready, info.unacknowledged, info.bytes))
}

#[test]
fn messages_come_in_order_and_no_more_than_the_prefetch() {
    let (mut state, _) = with_messages("q", &["1", "2", "3"]);
    let reader = consumer(&mut state, "q", AckMode::Individual, 2);
    let got = state.take(0, reader);
    assert_eq!(bodies(&got), ["1", "2"]);
    state.apply(0, reader, vec![settle(&got[1], Fate::Done)]).unwrap();
    assert_eq!(bodies(&state.take(0, reader)), ["3"]);
    assert_eq!(info(&state, "q"), (0, 2, 2));
}

#[test]
fn consumers_take_turns_and_a_full_one_is_passed_over() {
    let (mut state, sender) = with_messages("q", &[]);
    let (a, b) = (consumer(&mut state, "q", AckMode::Individual, 1), consumer(&mut state, "q", AckMode::Individual, 3));
    for text in ["1", "2", "3", "4", "5"] {
        send(&mut state, 0, sender, "q", message(text)).unwrap();
    }
    let got = state.take(0, a);
    assert_eq!((bodies(&got), bodies(&state.take(0, b))), (vec!["1"], vec!["2", "3", "4"]));
    state.apply(0, a, vec![settle(&got[0], Fate::Done)]).unwrap();
    assert_eq!(bodies(&state.take(0, a)), ["5"]);
}

#[test]
fn a_cumulative_ack_settles_what_was_handed_out_before() {
    let (mut state, _) = with_messages("q", &["1", "2", "3"]);
    let reader = consumer(&mut state, "q", AckMode::Cumulative, 0);
    let got = state.take(0, reader);
    state.apply(0, reader, vec![settle(&got[1], Fate::Done)]).unwrap();
    assert_eq!(info(&state, "q"), (0, 1, 1));
    let again = state.apply(0, reader, vec![settle(&got[0], Fate::Done)]);
    assert!(matches!(again, Err(Refusal::NotInFlight(_))), "{again:?}");
}

#[test]
fn what_is_not_acknowledged_goes_back_to_its_place() {
    let (mut state, sender) = with_messages("q", &["1", "2", "3"]);
    let first = consumer(&mut state, "q", AckMode::Individual, 2);
    let got = state.take(0, first);
    assert_eq!(got[0].stored.deliveries, 0);
    state.apply(0, first, vec![settle(&got[0], Fate::Done)]).unwrap();
    state.disconnect(0, first);
    send(&mut state, 0, sender, "q", message("4")).unwrap();
    let second = consumer(&mut state, "q", AckMode::Individual, 9);
    let got = state.take(0, second);
    assert_eq!(bodies(&got), ["2", "3", "4"]);
    // "3" had been handed out to the first connection, but its writer never took it.
    assert_eq!(got.iter().map(|d| d.stored.deliveries).collect::<Vec<_>>(), [1, 0, 0]);
    state.unsubscribe(0, second, "s").unwrap();
    assert_eq!(info(&state, "q"), (3, 0, 3));
    assert_eq!(state.unsubscribe(0, second, "s"), Err(Refusal::NoSubscription("s".into())));
}

#[test]
fn a_refused_message_comes_again_or_goes_to_the_dead_queue() {
    let (mut state, _) = with_messages("q", &["1", "2"]);
    let reader = consumer(&mut state, "q", AckMode::Individual, 1);
    let got = state.take(0, reader);
    state.apply(0, reader, vec![settle(&got[0], Fate::Requeue)]).unwrap();
    let again = state.take(0, reader);
    assert_eq!((bodies(&again), again[0].stored.deliveries), (vec!["1"], 1));
    assert!(state.apply(0, reader, vec![settle(&got[0], Fate::Done)]).is_err(), "the first delivery's id is stale");
    state.effects();
    state.apply(0, reader, vec![settle(&again[0], Fate::Dead)]).unwrap();
    let changes = state.effects().changes;
    assert!(matches!(&changes[..], [Change::Enqueued(new), Change::Done(_)] if &*new.queue == "q/dead"), "{changes:?}");
    assert_eq!(bodies(&state.take(0, reader)), ["2"]);
    let undertaker = consumer(&mut state, "q/dead", AckMode::Auto, 0);
    assert_eq!(bodies(&state.take(0, undertaker)), ["1"]);
}

#[test]
fn without_acknowledgement_a_message_is_done_when_it_is_written() {
    let (mut state, _) = with_messages("q", &["1"]);
    let reader = consumer(&mut state, "q", AckMode::Auto, 0);
    assert_eq!(state.take(0, reader)[0].ack, None);
    assert_eq!(info(&state, "q"), (0, 1, 1));
    assert!(state.take(0, reader).is_empty(), "this says that the first one is written");
    assert_eq!(info(&state, "q"), (0, 0, 0));
}

#[test]
fn steps_happen_together_or_not_at_all() {
    let (mut state, _) = with_messages("q", &["1"]);
    let reader = consumer(&mut state, "q", AckMode::Individual, 1);
    let got = state.take(0, reader);
    let stale = Step::Settle { ack: AckId { subscription: 99, tag: 1 }, fate: Fate::Done };
    let outgoing = || Step::Send { queue: "out".into(), message: message("x") };
    assert!(state.apply(0, reader, vec![outgoing(), settle(&got[0], Fate::Done), stale]).is_err());
    assert_eq!((info(&state, "q"), info(&state, "out")), ((0, 1, 1), (0, 0, 0)));
    state.apply(0, reader, vec![outgoing(), settle(&got[0], Fate::Done)]).unwrap();
    assert_eq!((info(&state, "q"), info(&state, "out")), ((0, 0, 0), (1, 0, 1)));
}

#[test]
fn nobody_settles_the_deliveries_of_another_connection() {
    let (mut state, sender) = with_messages("q", &["1"]);
    let reader = consumer(&mut state, "q", AckMode::Individual, 1);
    let got = state.take(0, reader);
    assert!(state.apply(0, sender, vec![settle(&got[0], Fate::Done)]).is_err());
}

#[test]
fn expired_messages_are_never_handed_out() {
    let (mut state, sender) = with_messages("q", &["stays"]);
    for (text, expires) in [("soon", 10), ("late", 1000)] {
        send(&mut state, 0, sender, "q", Message { expires: Some(expires), ..message(text) }).unwrap();
    }
    assert_eq!(state.next_deadline(), Some(10));
    state.expire(10);
    assert_eq!(info(&state, "q").0, 2);
    // Taken in time, given back too late.
    let reader = consumer(&mut state, "q", AckMode::Individual, 0);
    assert_eq!(bodies(&state.take(10, reader)), ["stays", "late"]);
    state.disconnect(1000, reader);
    let reader = consumer(&mut state, "q", AckMode::Individual, 0);
    assert_eq!(bodies(&state.take(1000, reader)), ["stays"]);
    assert_eq!(state.persistent().len(), 1);
}

#[test]
fn idle_package_queues_vanish_with_their_messages() {
    let (mut state, sender) = with_messages("package/5", &["1", "2"]);
    send(&mut state, HOUR / 2, sender, "package/5", message("3")).unwrap();
    send(&mut state, 0, sender, "docsets/package", message("request")).unwrap();
    state.expire(HOUR);
    assert_eq!(info(&state, "package/5"), (3, 0, 3), "a SEND is a use");
    state.effects();
    state.expire(HOUR / 2 + HOUR);
    let names = |state: &State| state.queues().into_iter().map(|info| info.name).collect::<Vec<_>>();
    assert_eq!(names(&state), ["docsets/package"], "only queues of the prefix go with what they hold");
    assert_eq!(state.effects().changes.len(), 3, "a restart does not bring them back");
    assert_eq!(state.persistent().len(), 1);
}

#[test]
fn a_queue_with_a_consumer_is_not_idle() {
    let (mut state, _) = with_messages("package/5", &["1"]);
    let reader = consumer(&mut state, "package/5", AckMode::Individual, 1);
    state.expire(5 * HOUR);
    assert_eq!(info(&state, "package/5"), (0, 1, 1));
    state.disconnect(6 * HOUR - 1, reader);
    state.expire(6 * HOUR);
    assert_eq!(info(&state, "package/5"), (1, 0, 1), "idle since a moment");
    state.expire(7 * HOUR);
    assert!(state.queues().is_empty());
    assert_eq!(state.next_deadline(), None);
}

#[test]
fn full_queues_refuse_and_lose_nothing() {
    let mut state = State::new(Rules { max_bytes: 2000, ..rules() }, 0, vec![]);
    let sender = state.connect();
    send(&mut state, 0, sender, "q", message(&"x".repeat(1800))).unwrap();
    let refused = send(&mut state, 0, sender, "q", message("y"));
    assert_eq!(refused, Err(Refusal::Full { held: 1800 + OVERHEAD, limit: 2000 }));
    let marker = Message { persistent: false, ..message("") };
    state.rules.max_bytes = 1928;
    assert_eq!(send(&mut state, 0, sender, "q", marker), Err(Refusal::Full { held: 1928, limit: 1928 }));
    state.rules.max_bytes = 1990;
    let marker = Message { persistent: false, ..message("") };
    send(&mut state, 0, sender, "q", marker).expect("a marker fits into the reserve");
}

#[test]
fn a_client_that_does_not_read_holds_up_neither_memory_nor_others() {
    let (mut state, sender) = with_messages("q", &[]);
    let slow = consumer(&mut state, "q", AckMode::Individual, 0);
    let body = "x".repeat(WINDOW / 4);
    for _ in 0..6 {
        send(&mut state, 0, sender, "q", message(&body)).unwrap();
    }
    assert_eq!((info(&state, "q").0, info(&state, "q").1), (2, 4), "a window's worth is handed out");
    let other = consumer(&mut state, "q", AckMode::Individual, 1);
    assert_eq!(state.take(0, other).len(), 1);
    assert_eq!(state.take(0, slow).len(), 4);
    assert_eq!(info(&state, "q").0, 1, "taken is not yet written");
    assert_eq!(state.take(0, slow).len(), 1);
}

#[derive(Debug, Clone)]
pub(in super::super) enum Op {
    Send { queue: usize, persistent: bool },
    Subscribe { connection: usize, queue: usize, cumulative: bool, prefetch: u32 },
    Unsubscribe { connection: usize, queue: usize },
    Take { connection: usize },
    Settle { connection: usize, which: usize, fate: Fate },
    Disconnect { connection: usize },
}

pub(in super::super) fn ops() -> impl Strategy<Value = Vec<Op>> {
    let fate = prop_oneof![4 => Just(Fate::Done), 1 => Just(Fate::Requeue), 1 => Just(Fate::Dead)];
    let op = prop_oneof![
        6 => (0..2usize, any::<bool>()).prop_map(|(queue, persistent)| Op::Send { queue, persistent }),
        2 => (0..3usize, 0..2usize, any::<bool>(), 0..4u32)
            .prop_map(|(connection, queue, cumulative, prefetch)| Op::Subscribe { connection, queue, cumulative, prefetch }),
        1 => (0..3usize, 0..2usize).prop_map(|(connection, queue)| Op::Unsubscribe { connection, queue }),
        6 => (0..3usize).prop_map(|connection| Op::Take { connection }),
        6 => (0..3usize, any::<prop::sample::Index>(), fate)
            .prop_map(|(connection, which, fate)| Op::Settle { connection, which: which.index(1000), fate }),
        1 => (0..3usize).prop_map(|connection| Op::Disconnect { connection }),
    ];
    prop::collection::vec(op, 0..60)
}

/// Three connections that do what they are told, and what each of them holds.
pub(in super::super) struct Players {
    pub state: State,
    connections: Vec<ConnectionId>,
    held: Vec<Vec<Delivery>>,
    sent: u32,
}

impl Players {
    pub(in super::super) fn new() -> Self {
        let mut state = State::new(rules(), 0, vec![]);
        let connections = (0..3).map(|_| state.connect()).collect();
        Self { state, connections, held: (0..3).map(|_| vec![]).collect(), sent: 0 }
    }

    pub(in super::super) fn play(&mut self, op: &Op) {
        const QUEUES: [&str; 2] = ["a", "package/b"];
        let state = &mut self.state;
        match *op {
            Op::Send { queue, persistent } => {
                self.sent += 1;
                let message = Message { persistent, ..message(&self.sent.to_string()) };
                send(state, 0, self.connections[0], QUEUES[queue], message).unwrap();
            }
            Op::Subscribe { connection, queue, cumulative, prefetch } => {
                let mode = if cumulative { AckMode::Cumulative } else { AckMode::Individual };
                let name = QUEUES[queue];
                // A second one of that name is refused, and that is all.
                drop(state.subscribe(
                    0,
                    self.connections[connection],
                    name,
                    name,
                    mode,
                    Some(prefetch).filter(|n| *n > 0),
                ));
            }
            Op::Unsubscribe { connection, queue } => {
                drop(state.unsubscribe(0, self.connections[connection], QUEUES[queue]));
                self.held[connection].retain(|delivery| &*delivery.subscription != QUEUES[queue]);
            }
            Op::Take { connection } => self.held[connection].extend(state.take(0, self.connections[connection])),
            Op::Settle { connection, which, fate } => {
                if !self.held[connection].is_empty() {
                    let which = which % self.held[connection].len();
                    let delivery = self.held[connection].remove(which);
                    // It may have been settled with a later one already.
                    drop(state.apply(0, self.connections[connection], vec![settle(&delivery, fate)]));
                }
            }
            Op::Disconnect { connection } => {
                state.disconnect(0, self.connections[connection]);
                self.connections[connection] = state.connect();
                self.held[connection].clear();
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_consumers_do_the_books_balance_and_order_is_kept(ops in ops()) {
        let mut players = Players::new();
        let (mut sent, mut done) = (0, 0);
        for op in &ops {
            players.play(op);
            for change in players.state.effects().changes {
                match change {
                    Change::Enqueued(_) => sent += 1,
                    Change::Done(_) => done += 1,
                    Change::Delivered(_) => {}
                }
            }
            prop_assert_eq!(players.state.persistent().len(), sent - done);
        }
        let Players { mut state, connections, .. } = players;
        for connection in connections {
            state.disconnect(0, connection);
        }
        for queue in state.queues() {
            prop_assert_eq!((queue.unacknowledged, queue.consumers), (0, 0));
            let reader = state.connect();
            state.subscribe(0, reader, "s", &queue.name, AckMode::Auto, None).unwrap();
            let got = state.take(0, reader);
            prop_assert_eq!(got.len() as u64, queue.ready);
            prop_assert!(got.is_sorted_by(|a, b| a.stored.id < b.stored.id));
            state.take(0, reader);
            state.disconnect(0, reader);
        }
        prop_assert_eq!((state.bytes, state.persistent_bytes), (0, 0));
        prop_assert!(state.queues().iter().all(|queue| queue.ready == 0 && queue.bytes == 0));
    }
}
