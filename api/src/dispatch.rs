//! The server's half of the main job: sends package requests to the broker, and reads a package's status queue when a client asks.
//!
//! Nothing here runs by itself. A poll drains the package's queue, stores the newest status and only then acknowledges; a poll that finds a
//! package silent for too long sends its request again, which every step of a build is ready for.

use adit_shared::clock::is_past;
use adit_shared::domain::{Content, Documents, Package, Status};
use adit_shared::messaging::{Complete, DeleteRequest, Incoming, Outgoing, PackageRequest, Queue, StatusMessage};
use adit_shared::store::StatusUpdate;
use tracing::Instrument as _;
use url::Url;

use crate::deletes;
use crate::problem::{ApiResult, Kind, Problem};
use crate::state::App;

/// Expired packages that are erased when a new one is asked for: asking is what makes work happen.
const ERASED_AT_ONCE: u32 = 20;

/// In so many milliseconds, whoever makes a package has paid for it and sent its request: polls leave that to them for so long.
const FIRST_SENDING: i64 = 10_000;

/// Sends a package's request to the permanent queue, unless somebody else who saw the package as it stands here has sent it. What is begun
/// goes on to its end although the client goes away: a claim without a message would be a silence of our own making.
pub async fn send_request(app: &App, package: &Package) -> ApiResult<()> {
    let (app, package) = (app.clone(), package.clone());
    to_the_end(async move { claim_and_send(&app, &package).await }).await
}

/// Does work that goes on to its end although the client, and with it whoever waits here, goes away.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = ApiResult<T>> + Send + 'static,
) -> ApiResult<T> {
    tokio::spawn(work.in_current_span()).await.map_err(|error| {
        tracing::error!(%error, "work broke down");
        Problem::new(Kind::Internal, "the operator finds the cause in the log under this answer's x-request-id")
    })?
}

/// The claim comes first: many clients, of several processes, may find the same package silent at once.
async fn claim_and_send(app: &App, package: &Package) -> ApiResult<()> {
    if !app.store.claim_sending(package, app.clock.now_ms()).await? {
        return Ok(());
    }
    if let Err(problem) = publish_request(app, package).await {
        // Where this fails too, the package counts as sent, and is sent again after the next silence.
        if let Err(error) = app.store.unclaim_sending(package).await {
            tracing::warn!(package = %package.id, %error, "a request that was not sent counts as sent");
        }
        return Err(problem);
    }
    app.metrics.requests_sent.inc();
    Ok(())
}

async fn publish_request(app: &App, package: &Package) -> ApiResult<()> {
    let docset = docset_url(app, package)?;
    let request = PackageRequest { docset, recipe: package.recipe.clone(), package: Some(package.salted()) };
    let message = Outgoing::new(request).header("reply-to", status_queue(package));
    Ok(app.broker.publish(&Queue::PackageRequests, message).await?)
}

/// The queue on which a package's packager reports. A lost package of the same number had another one.
fn status_queue(package: &Package) -> Queue {
    Queue::Package(package.salted().to_string())
}

/// Where the packager asks for the docset: the body's first line, which a third party's packager follows as well.
fn docset_url(app: &App, package: &Package) -> ApiResult<Url> {
    Url::parse(&app.url(&format!("/api/docsets/{}", package.docset))).map_err(|error| {
        tracing::error!(%error, "the public URL cannot be extended");
        Problem::new(Kind::Internal, "the operator must set a public URL that paths can be added to")
    })
}

/// Asks a packager to delete a package's objects.
pub(crate) async fn send_delete(app: &App, request: DeleteRequest) -> ApiResult<()> {
    Ok(app.broker.publish(&Queue::Deletes, Outgoing::new(request)).await?)
}

/// The package as it stands now: takes in what its packager has said, erases it if it has expired, and sends its
/// request again if it has been silent for too long.
pub async fn refresh(app: &App, package: Package) -> ApiResult<Package> {
    if package.status.is_terminal() {
        return erase_if_expired(app, package).await;
    }
    let package = take_statuses(app, package).await?;
    if package.status.is_terminal() || !is_silent(app, &package) {
        return Ok(package);
    }
    send_request(app, &package).await?;
    // The sending is noted in the database: who goes on with an older row would send again.
    app.store.package(package.id, None).await?.ok_or_else(|| Problem::not_found("package"))
}

/// Takes in what the package's packager has said since somebody asked last.
pub async fn take_statuses(app: &App, package: Package) -> ApiResult<Package> {
    let Some(drained) = app.broker.drain(&status_queue(&package)).await? else {
        // Many clients may watch one package: what another one's poll has just stored answers this one too.
        return app.store.package(package.id, None).await?.ok_or_else(|| Problem::not_found("package"));
    };
    app.metrics.drains.inc();
    let mut newest = None;
    for message in drained.messages() {
        match read_status(message) {
            Ok((sequence, status)) => {
                app.metrics.statuses.inc();
                let last = newest.as_ref().map_or(package.sequence, |update: &StatusUpdate| update.sequence);
                // A packager that gives no sequence is taken at the broker's word for the order.
                let sequence = sequence.unwrap_or(last.saturating_add(1));
                // An archive that is there stays there, whatever another packager says of its own attempt.
                let complete = newest.as_ref().is_some_and(|update| update.status == Some(Status::Successful));
                if sequence > last && !complete {
                    let update = newest.get_or_insert_with(StatusUpdate::default);
                    apply(update, sequence, status, app, &package);
                }
            }
            Err(why) => {
                app.metrics.unreadable.inc();
                tracing::warn!(package = %package.id, %why, "a status cannot be read; it is dropped");
            }
        }
    }
    let now = app.clock.now_ms();
    let package = match newest {
        Some(update) => {
            app.store.update_package(package.id, &update, now).await?.ok_or_else(|| Problem::not_found("package"))?
        }
        None => package,
    };
    // Only now: a status is acknowledged after it is stored.
    drained.ack().await?;
    Ok(package)
}

fn read_status(message: &Incoming) -> Result<(Option<i64>, StatusMessage), String> {
    let text = message.text().map_err(|error| error.to_string())?;
    let status = text.parse::<StatusMessage>().map_err(|error| error.to_string())?;
    Ok((message.sequence().map_err(|error| error.to_string())?, status))
}

/// Lays a later status over what was gathered from earlier ones.
fn apply(update: &mut StatusUpdate, sequence: i64, status: StatusMessage, app: &App, package: &Package) {
    if !matches!(status, StatusMessage::Progress { .. }) {
        // A new build, or a last word: nothing of what was said before holds any more.
        *update = StatusUpdate::default();
    }
    update.sequence = sequence;
    match status {
        StatusMessage::Accepted { seconds } => {
            update.status = Some(Status::Accepted);
            update.estimate_seconds = seconds;
        }
        StatusMessage::Progress { percent, documents, bytes } => {
            update.status = Some(Status::Running);
            update.percent = Some(percent);
            if let Some((done, _)) = documents {
                update.documents = Some(Documents { done, ..package.documents });
            }
            if let Some((done, total)) = bytes {
                update.bytes_done = Some(done);
                update.bytes_total = Some(total);
            }
        }
        StatusMessage::Complete(complete) => apply_complete(update, complete, app, package),
        StatusMessage::Failed { reason } => {
            update.status = Some(Status::Failed);
            update.problem = Some(reason);
        }
        StatusMessage::Dismissed => update.status = Some(Status::Dismissed),
    }
}

fn apply_complete(update: &mut StatusUpdate, complete: Complete, app: &App, package: &Package) {
    let ttl = i64::try_from(app.settings.package_ttl.as_millis()).unwrap_or(i64::MAX);
    update.status = Some(Status::Successful);
    update.percent = Some(100);
    update.documents = Some(Documents {
        done: package.documents.requested,
        included: complete.documents,
        omitted: complete.omitted.or_else(|| complete.documents.map(|n| package.documents.requested.saturating_sub(n))),
        ..package.documents
    });
    update.location = Some(complete.url);
    update.size = complete.size;
    update.bytes_done = complete.size;
    update.bytes_total = complete.size;
    update.sha256 = complete.sha256;
    update.expires = Some(app.clock.now_ms().saturating_add(ttl));
}

/// Whether nothing was heard for longer than a packager that lives would let pass. The limit doubles with each sending, so that
/// a long queue is not filled up with repetitions. What was never sent is sent here only where its maker did not come to it, and only if it is
/// paid for, or to be paid for later.
fn is_silent(app: &App, package: &Package) -> bool {
    let now = app.clock.now_ms();
    let Some(sent) = package.sent else {
        let is_old = now - package.created > FIRST_SENDING || !is_past(package.created, now);
        return (package.paid || package.pay_later) && is_old;
    };
    // What a clock noted that was ahead says nothing: else a package would count as heard of for as
    // long as that clock was ahead.
    let known = [Some(sent), package.heard].into_iter().flatten().filter(|at| is_past(*at, now));
    let Some(last) = known.max() else { return true };
    let limit = i64::try_from(app.settings.resend_after.as_millis()).unwrap_or(i64::MAX);
    let limit = limit.saturating_mul(1 << package.sends.saturating_sub(1).min(6));
    now - last > limit
}

async fn erase_if_expired(app: &App, package: Package) -> ApiResult<Package> {
    let expired = package.expires.is_some_and(|expires| expires <= app.clock.now_ms());
    if package.content != Content::Available || !expired {
        return Ok(package);
    }
    erase(app, &package).await?;
    Ok(app.store.package(package.id, None).await?.unwrap_or(package))
}

/// Marks a package's archive as erased, and asks for the deletion of what there is of it. A broker
/// that is away is told of it when it is back.
pub async fn erase(app: &App, package: &Package) -> ApiResult<()> {
    app.store.erase_package(package.id, None).await?;
    deletes::send_now(app).await;
    Ok(())
}

/// Erases some archives that have expired, and those that nobody ever asked for again; what goes wrong waits for the next occasion.
pub async fn erase_expired(app: &App) {
    if let Err(problem) = try_erase_expired(app).await {
        tracing::warn!(?problem, "expired archives could not be erased yet");
    }
}

async fn try_erase_expired(app: &App) -> ApiResult<()> {
    let now = app.clock.now_ms();
    for package in app.store.expired_packages(now, ERASED_AT_ONCE).await? {
        app.store.erase_package(package.id, None).await?;
    }
    let ttl = i64::try_from(app.settings.package_ttl.as_millis()).unwrap_or(i64::MAX);
    for package in app.store.forgotten_packages(now.saturating_sub(ttl), ERASED_AT_ONCE).await? {
        // It may have been built long ago, unread: its archive is as old as an expired one.
        app.store.dismiss_package(package.id, None, now).await?;
        app.store.erase_package(package.id, None).await?;
    }
    app.store.purge_deleted_docsets(now, ERASED_AT_ONCE).await?;
    deletes::send_now(app).await;
    Ok(())
}

#[cfg(test)]
mod tests;
