//! Tries the parts that the service needs, for `/readyz`: not only whether they answer, but whether
//! they keep what they are given.
//!
//! A disk that is full answers reads. So a counter is raised in the database, a persistent message
//! goes to the broker and back, and the object store writes a file that it forgets. That costs
//! little, and is done at most once a second, however many ask: all who ask meanwhile get the same
//! answer.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::state::App;

/// How long a part may take to answer before it counts as away. With the age of the answer before,
/// each fault is told of within five seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// How long an answer is good for others.
const FRESH: Duration = Duration::from_secs(1);

const DATABASE: &str = "database";

/// The parts in the order in which they are tried, each with why it is away, if it is.
pub(crate) type PartFaults = [(&'static str, Option<String>); 4];

/// The last trial, which many share.
#[derive(Debug, Default)]
pub(crate) struct ReadinessTrials(Mutex<Option<(Instant, PartFaults)>>);

impl ReadinessTrials {
    /// Tries all parts, unless somebody has within the last second.
    pub(crate) async fn find_faults(&self, app: &App) -> PartFaults {
        let mut last = self.0.lock().await;
        if let Some((_, faults)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return faults.clone();
        }
        let faults_before = last.iter().flat_map(|(_, faults)| faults);
        let was_away = faults_before.filter(|(part, _)| *part == DATABASE).any(|(_, error)| error.is_some());
        let (database, objects, broker, search) = tokio::join!(
            try_database(app, was_away),
            find_fault(app.objects.check_writes()),
            find_fault(app.broker.check_delivery()),
            find_fault(app.search.ping())
        );
        let faults =
            [(DATABASE, database), ("object store", objects), ("message broker", broker), ("search index", search)];
        for (part, error) in &faults {
            if let Some(error) = error {
                tracing::warn!(part, error, "not ready");
            }
        }
        *last = Some((Instant::now(), faults.clone()));
        faults
    }
}

/// Finds why a part does not do what is asked, if it does not.
async fn find_fault<T, E: std::fmt::Display>(check: impl Future<Output = Result<T, E>>) -> Option<String> {
    match timeout(PATIENCE, check).await {
        Ok(answered) => answered.err().map(|error| error.to_string()),
        Err(_) => Some(format!("no answer within {PATIENCE:?}")),
    }
}

/// Finds why the database does not answer or takes nothing. One that answers, but where somebody else's
/// transaction holds the right to write for long, as the commit of a large import does, is not away
/// for that, unless it was.
async fn try_database(app: &App, was_away: bool) -> Option<String> {
    let (answers, writes) = tokio::join!(find_fault(app.store.ping()), timeout(PATIENCE, app.store.check_writes()));
    answers.or(match writes {
        Ok(written) => written.err().map(|error| error.to_string()),
        Err(_) if was_away => Some(format!("nothing is written within {PATIENCE:?}")),
        Err(_) => None,
    })
}
