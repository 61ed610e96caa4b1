//! Accepts connections and serves HTTP/1.1 on them, within limits of places, time and memory.
//!
//! A client that keeps the service waiting loses its connection: for a head, for a body, for the
//! next request, or by not taking the answer. Which connections find a place is decided in
//! `places`, who waits for whom is kept in `state`. HTTP/2 is not spoken
//! (docs/decisions/0013-own-listener.md).

mod forwarded;
mod io;
mod places;
mod service;
mod state;

use std::future::poll_fn;
use std::io::{ErrorKind, Write as _};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use adit_shared::config::HttpConfig;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::io::WatchedStream;
use self::places::{Place, Places};
use self::service::ConnectionService;

pub(crate) use self::service::BodyStalled;
pub use self::service::ReservedConnection;

/// Most bytes of a request's head.
pub const MAX_HEAD: usize = 32 * 1024;
/// Pause after an error of `accept` that a new try would only repeat, such as EMFILE.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Bytes that the kernel keeps for a client beyond those under way: a client's progress is seen in
/// steps of half of it.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;
/// Answer to a connection for which not even a reserved place is left.
const NO_PLACE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Parts that all connections share.
struct Shared {
    config: HttpConfig,
    http: http1::Builder,
    places: Arc<Places>,
    router: Router,
    stop: CancellationToken,
}

/// Serves `router` on `listener` until `stop`; then nothing new is taken, and requests that run are
/// answered. At most `places` connections are open at once (fewer, where the configuration says
/// so).
///
/// Each request gets a [`crate::client::PeerAddress`]; one on a reserved place gets
/// [`ReservedConnection`].
pub async fn serve_connections(
    listener: TcpListener,
    router: Router,
    config: HttpConfig,
    places: usize,
    stop: CancellationToken,
) {
    let places = Places::new(&config, places);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(None).max_header_size(MAX_HEAD).max_buf_size(MAX_HEAD);
    let shared = Arc::new(Shared { config, http, places, router, stop });
    let tasks = TaskTracker::new();
    shared.stop.run_until_cancelled(accept_all(&listener, &shared, &tasks)).await;
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// Accepts connections for ever.
async fn accept_all(listener: &TcpListener, shared: &Arc<Shared>, tasks: &TaskTracker) {
    loop {
        shared.places.await_closing().await;
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                recover_accept(shared, &error).await;
                continue;
            }
        };
        match shared.places.admit(peer.ip()) {
            Some(place) => drop(tasks.spawn(serve_connection(shared.clone(), stream, place))),
            None => {
                tracing::debug!(%peer, "a connection found no place");
                turn_away(stream);
            }
        }
    }
}

/// Tells a client that there is no place, if that can be done at once.
fn turn_away(stream: TcpStream) {
    // The system has room for these few bytes; tokio does not know so of a socket that is new.
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(NO_PLACE);
    }
}

/// Goes on after an error of `accept`: a client that was gone already is nothing; without file
/// descriptors, the oldest connection that does nothing is closed.
async fn recover_accept(shared: &Shared, error: &std::io::Error) {
    if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused)
    {
        return;
    }
    tracing::error!(%error, "a connection cannot be accepted; is the limit of open files too low (ulimit -n)?");
    shared.places.evict_oldest();
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Serves one connection to its end.
async fn serve_connection(shared: Arc<Shared>, stream: TcpStream, place: Place) {
    if let Err(error) = prepare_socket(&stream) {
        tracing::debug!(%error, "a connection keeps the system's settings");
    }
    // Nothing is set up for a client that has not said a word yet.
    let first_byte = shared.stop.run_until_cancelled(stream.readable());
    let spoken = tokio::select! {
        spoken = tokio::time::timeout_at(place.state().deadline(), first_byte) => spoken,
        () = place.state().evicted() => return,
    };
    let Ok(Some(Ok(()))) = spoken else { return };
    place.state().head_begun();
    let io = TokioIo::new(WatchedStream::new(stream, place.state().clone()));
    let service = ConnectionService::new(&shared, &place);
    // On the heap, as the future of a task that has not come so far should be small.
    drive_connection(Box::pin(shared.http.serve_connection(io, service)), &shared, &place).await;
}

/// Sends what is written at once (an answer's head and body are written one after the other, and
/// the body would wait for the client's acknowledgement of the head, which takes 40 ms), and keeps
/// little for a client that does not read.
fn prepare_socket(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}

type Connection = http1::Connection<TokioIo<WatchedStream>, ConnectionService>;

/// Drives a connection until it ends, its client is overdue, or its place is given to another.
async fn drive_connection(mut connection: Pin<Box<Connection>>, shared: &Shared, place: &Place) {
    let state = place.state();
    let mut sleep = pin!(sleep_until(state.deadline()));
    let mut evicted = pin!(state.evicted());
    let mut stopped = pin!(shared.stop.cancelled());
    let mut stopping = false;
    poll_fn(|cx| {
        if !stopping && stopped.as_mut().poll(cx).is_ready() {
            stopping = true;
            connection.as_mut().graceful_shutdown();
        }
        // An error of the connection is its client's affair: it went, or did not speak HTTP.
        if connection.as_mut().poll(cx).is_ready() || evicted.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        poll_deadline(sleep.as_mut(), || state.deadline(), cx)
    })
    .await;
}

/// Is ready when the deadline has passed, which may have moved since the last call.
fn poll_deadline(
    mut sleep: Pin<&mut Sleep>,
    deadline: impl Fn() -> Instant,
    cx: &mut std::task::Context<'_>,
) -> Poll<()> {
    let next = deadline();
    if next < sleep.deadline() {
        sleep.as_mut().reset(next);
    }
    while sleep.as_mut().poll(cx).is_ready() {
        if next <= Instant::now() {
            return Poll::Ready(());
        }
        sleep.as_mut().reset(next);
    }
    Poll::Pending
}

#[cfg(test)]
mod tests;
