//! Sends deletes of packages' objects to the packagers.
//!
//! The database has recorded each with what it follows from. It is sent at once, and where the
//! broker is away, when it is back: by the process that noticed, or by the next one that starts or
//! deletes something. One that is sent twice does no harm.

use std::sync::atomic::{AtomicBool, Ordering};

use adit_shared::messaging::Backoff;
use tokio::sync::{Mutex, Notify};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::dispatch::{self, to_the_end};
use crate::problem::ApiResult;
use crate::state::App;

/// Deletes that are read at once.
const BATCH: u32 = 100;

/// How far this process is with sending.
#[derive(Debug, Default)]
pub(crate) struct DeleteSending {
    /// Lock of the one that sends.
    turn: Mutex<()>,
    /// Tells that some could not be sent.
    failed: Notify,
    /// Set while they are tried again and again: who deletes meanwhile does not wait for that.
    is_retrying: AtomicBool,
}

/// Sends what is recorded. What cannot be sent now stays recorded, and is sent later.
pub(crate) async fn send_now(app: &App) {
    if app.delete_sending().is_retrying.load(Ordering::Relaxed) {
        return;
    }
    let sender = app.clone();
    if let Err(problem) = to_the_end(async move { send_pending(&sender).await }).await {
        tracing::warn!(?problem, "archives are not deleted yet; that is asked for again");
        app.delete_sending().failed.notify_one();
    }
}

/// Sends at the start what earlier processes have left, and what could not be sent when the broker
/// is back, until `stop`. While everything is sent it does nothing.
pub(crate) async fn keep_sending(app: &App, stop: CancellationToken) {
    stop.run_until_cancelled(async {
        loop {
            retry_until_sent(app).await;
            app.delete_sending().failed.notified().await;
        }
    })
    .await;
}

async fn retry_until_sent(app: &App) {
    let mut backoff = Backoff::default();
    while let Err(problem) = send_pending(app).await {
        let pause = backoff.next_wait();
        tracing::debug!(?problem, ?pause, "deletes are not sent yet");
        app.delete_sending().is_retrying.store(true, Ordering::Relaxed);
        sleep(pause).await;
    }
    app.delete_sending().is_retrying.store(false, Ordering::Relaxed);
}

async fn send_pending(app: &App) -> ApiResult<()> {
    let _turn = app.delete_sending().turn.lock().await;
    loop {
        let pending = app.store.pending_deletes(BATCH).await?;
        if pending.is_empty() {
            return Ok(());
        }
        for request in pending {
            dispatch::send_delete(app, request).await?;
            app.store.confirm_delete(&request).await?;
        }
    }
}

#[cfg(test)]
mod tests;
