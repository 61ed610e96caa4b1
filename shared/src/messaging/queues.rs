//! Names of queues: logical ones, which the code, the API and `reply-to` headers use, and their form on each broker's wire.
//!
//! Also what else differs from broker to broker in headers ([`Flavour`]); everything else here speaks plain STOMP 1.2.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A queue of Adit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Packages asked for: `/queue/docsets/package`, permanent.
    PackageRequests,
    /// Archives to delete: `/queue/docsets/delete`, permanent.
    Deletes,
    /// Statuses of one package, by its id's text with its salt: `/queue/package/<id>-<salt>`, gone
    /// when nobody reads it.
    Package(String),
    /// What could not be handled, kept for an operator: the other queue's name and `/dead`, permanent.
    Dead(Box<Queue>),
}

/// Not the name of a queue of Adit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown queue {0:?}; there are: /queue/docsets/package, /queue/docsets/delete, /queue/package/<id> (letters, digits, \
     - and _), and each with /dead behind it"
)]
pub struct InvalidQueue(String);

impl Queue {
    /// The name in code, documents and `reply-to` headers.
    #[must_use]
    pub fn logical(&self) -> String {
        match self {
            Self::PackageRequests => "/queue/docsets/package".to_owned(),
            Self::Deletes => "/queue/docsets/delete".to_owned(),
            Self::Package(id) => format!("/queue/package/{id}"),
            Self::Dead(queue) => format!("{}/dead", queue.logical()),
        }
    }

    /// The name in `destination` headers. RabbitMQ refuses a slash in a queue's name, so it is written with dots
    /// everywhere but on our own broker; ids hold no dots, so no two queues meet.
    #[must_use]
    pub fn wire(&self, flavour: Flavour) -> String {
        let logical = self.logical();
        match (flavour, logical.strip_prefix("/queue/")) {
            (Flavour::RabbitMq | Flavour::ActiveMq | Flavour::Other, Some(name)) => {
                format!("/queue/{}", name.replace('/', "."))
            }
            _ => logical,
        }
    }

    /// Whether the broker removes it, with what waits in it, when it was not used for the queue expiry.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Package(_))
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.logical())
    }
}

impl FromStr for Queue {
    type Err = InvalidQueue;

    /// Reads a logical name, or one with dots as it comes back in a `reply-to` header.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let slashes = name.replace('.', "/");
        let dead = slashes.strip_suffix("/dead").and_then(living).map(|queue| Self::Dead(Box::new(queue)));
        dead.or_else(|| living(&slashes)).ok_or_else(|| InvalidQueue(name.chars().take(200).collect()))
    }
}

fn living(name: &str) -> Option<Queue> {
    match name.strip_prefix("/queue/")? {
        "docsets/package" => Some(Queue::PackageRequests),
        "docsets/delete" => Some(Queue::Deletes),
        other => {
            let id = other.strip_prefix("package/")?;
            let ok = (1..=100).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
            ok.then(|| Queue::Package(id.to_owned()))
        }
    }
}

/// Which broker is at the other end, read off the `server` header of its CONNECTED frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// The broker inside `adit up`: `Adit/…`.
    Adit,
    /// `RabbitMQ/…`.
    RabbitMq,
    /// `ActiveMQ/…`; not Artemis, which is another program.
    ActiveMq,
    /// Any other STOMP 1.2 broker.
    Other,
}

impl Flavour {
    /// The flavour that a `server` header tells (STOMP 1.2: `name ["/" version] *(comment)`).
    #[must_use]
    pub fn of(server: Option<&str>) -> Self {
        match server.and_then(|server| server.split(['/', ' ']).next()) {
            Some("Adit") => Self::Adit,
            Some("RabbitMQ") => Self::RabbitMq,
            Some("ActiveMQ") => Self::ActiveMq,
            _ => Self::Other,
        }
    }

    /// The SUBSCRIBE header that bounds how many unacknowledged messages the broker hands out.
    #[must_use]
    pub fn prefetch_header(self) -> &'static str {
        match self {
            Self::ActiveMq => "activemq.prefetchSize",
            Self::Adit | Self::RabbitMq | Self::Other => "prefetch-count",
        }
    }

    /// The SEND header that makes a message expire: RabbitMQ counts milliseconds from arrival, the others take the
    /// instant in milliseconds since the epoch; `now` is that of our clock.
    #[must_use]
    pub fn expiry_header(self, expires_in: Duration, now_ms: i64) -> (&'static str, String) {
        let ms = i64::try_from(expires_in.as_millis()).unwrap_or(i64::MAX);
        match self {
            Self::RabbitMq => ("expiration", ms.to_string()),
            Self::Adit | Self::ActiveMq | Self::Other => ("expires", now_ms.saturating_add(ms).to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_broker_gets_names_that_it_takes() {
        let package = Queue::Package("5".into());
        let dead = Queue::Dead(Box::new(Queue::PackageRequests));
        assert_eq!(package.wire(Flavour::Adit), "/queue/package/5");
        assert_eq!(package.wire(Flavour::RabbitMq), "/queue/package.5");
        assert_eq!(dead.wire(Flavour::Adit), "/queue/docsets/package/dead");
        assert_eq!(dead.wire(Flavour::ActiveMq), "/queue/docsets.package.dead");
        assert_eq!(Queue::Deletes.wire(Flavour::Other), "/queue/docsets.delete");
    }

    #[test]
    fn names_that_are_not_ours_are_refused() {
        let long = format!("/queue/package/{}", "x".repeat(101));
        let nested = format!("/queue/package/5{}", "/dead".repeat(100_000));
        for bad in
            ["", "/queue/", "/queue/package/", "/queue/package/a.b", "/queue/package/a/b", "/topic/x", &long, &nested]
        {
            assert!(bad.parse::<Queue>().is_err(), "{bad:.60}");
        }
    }

    #[test]
    fn the_flavour_is_read_off_the_server_header() {
        for (server, flavour) in [
            (Some("RabbitMQ/3.10.8"), Flavour::RabbitMq),
            (Some("ActiveMQ/5.17.2"), Flavour::ActiveMq),
            (Some("ActiveMQ-Artemis/2.31.0 ActiveMQ Artemis Messaging Engine"), Flavour::Other),
            (Some("Adit/0.1.0"), Flavour::Adit),
            (None, Flavour::Other),
        ] {
            assert_eq!(Flavour::of(server), flavour);
        }
    }

    #[test]
    fn expiry_is_relative_on_rabbitmq_and_an_instant_elsewhere() {
        let hour = Duration::from_secs(3600);
        assert_eq!(Flavour::RabbitMq.expiry_header(hour, 5), ("expiration", "3600000".into()));
        assert_eq!(Flavour::ActiveMq.expiry_header(hour, 5), ("expires", "3600005".into()));
        assert_eq!(Flavour::Adit.expiry_header(Duration::MAX, 5), ("expires", i64::MAX.to_string()));
    }

    proptest! {
        #[test]
        fn names_survive_and_stay_apart_on_every_wire(a in "[A-Za-z0-9_-]{1,12}|dead", b in "[A-Za-z0-9_-]{1,12}") {
            let queues = [
                Queue::PackageRequests, Queue::Deletes, Queue::Package(a.clone()), Queue::Dead(Box::new(Queue::Package(a))),
                Queue::Dead(Box::new(Queue::Deletes)),
            ];
            for queue in &queues {
                for flavour in [Flavour::Adit, Flavour::RabbitMq] {
                    prop_assert_eq!(&queue.wire(flavour).parse::<Queue>().unwrap(), queue);
                }
            }
            let other = Queue::Package(b);
            for flavour in [Flavour::Adit, Flavour::RabbitMq] {
                for queue in &queues {
                    prop_assert_eq!(queue.wire(flavour) == other.wire(flavour), *queue == other);
                }
            }
        }

        #[test]
        fn any_text_as_a_queue_is_answered(text in ".{0,60}") {
            if let Ok(queue) = text.parse::<Queue>() {
                prop_assert_eq!(queue.logical(), text.replace('.', "/"));
            }
        }
    }
}
