//! Deletes: a package's archive, its unfinished upload and what was remembered of it go, and so does its build if it is under way here.
//! A build in another process learns it from the server.

use std::time::Instant;

use adit_shared::messaging::{DeleteRequest, Delivery, Queue};

use super::{Handled, Packager, settle};
use crate::build::remove;
use crate::error::{BuildError, Fate};

pub(super) async fn handle(packager: &Packager, delivery: Delivery) -> Handled {
    let text = delivery.message.text().map_err(|error| error.to_string());
    let request = text.and_then(|text| text.parse::<DeleteRequest>().map_err(|error| error.to_string()));
    let package = match request {
        Ok(DeleteRequest { package }) => package,
        Err(reason) => return packager.bury(Queue::Deletes, delivery, &reason).await,
    };
    let _claim = tokio::select! {
        () = packager.stop.cancelled() => return Handled::GiveBack,
        claim = packager.running.delete(package) => claim,
    };
    let began = Instant::now();
    for attempt in 1.. {
        let error = match packager.stop.run_until_cancelled(remove(&*packager.objects, package)).await {
            None => return Handled::GiveBack,
            Some(Ok(())) => break,
            Some(Err(error)) => error,
        };
        let error = BuildError::from(error);
        if error.fate() == Fate::Reject || began.elapsed() >= packager.config.patience {
            return packager.bury(Queue::Deletes, delivery, &error.to_string()).await;
        }
        tracing::warn!(%package, attempt, %error, "a package is not deleted yet");
        packager.pause(packager.config.wait_after(attempt)).await;
    }
    tracing::info!(%package, "deleted");
    settle(delivery).await
}
