//! Requests of one connection on their way to the router, and answers on their way back.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderValue, Method, Request, Response, Version, header};
use axum::response::IntoResponse as _;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Shared;
use super::forwarded::client_address;
use super::places::Place;
use super::state::{ConnectionState, StallBudget};
use crate::client::PeerAddress;
use crate::problem::{Kind, Problem};

/// Marks requests on a reserved place: only operators, packagers and checks of health are answered
/// there.
#[derive(Debug, Clone, Copy)]
pub struct ReservedConnection;

/// The service of one connection.
pub(super) struct ConnectionService {
    shared: Arc<Shared>,
    state: Arc<ConnectionState>,
    peer: IpAddr,
    is_reserved: bool,
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<WatchedAnswer>, Infallible>> + Send>>;

impl ConnectionService {
    pub(super) fn new(shared: &Arc<Shared>, place: &Place) -> Self {
        let state = place.state().clone();
        Self { shared: shared.clone(), state, peer: place.peer(), is_reserved: place.is_reserved() }
    }
}

impl Service<Request<Incoming>> for ConnectionService {
    type Response = Response<WatchedAnswer>;
    type Error = Infallible;
    type Future = Answer;

    fn call(&self, request: Request<Incoming>) -> Answer {
        self.state.request_begun();
        let watch = RequestWatch(self.state.clone());
        if let Err(problem) = check_head(&request) {
            let answer = close_after(problem.into_response());
            return Box::pin(std::future::ready(Ok(answer.map(|body| WatchedAnswer { body, _watch: watch }))));
        }
        let config = &self.shared.config;
        let address = client_address(self.peer, request.headers(), &config.trusted_proxies);
        let stall_timeout = config.stall_timeout;
        let mut request = request.map(|body| Body::new(TimedBody::new(body, stall_timeout)));
        request.extensions_mut().insert(PeerAddress(address));
        let is_reserved = self.is_reserved;
        if is_reserved {
            request.extensions_mut().insert(ReservedConnection);
        }
        let answer = TowerToHyperService::new(self.shared.router.clone()).call(request);
        Box::pin(async move {
            let Ok(answer) = answer.await;
            // The next request of this client shall look for a public place.
            let answer = if is_reserved { close_after(answer) } else { answer };
            Ok(answer.map(|body| WatchedAnswer { body, _watch: watch }))
        })
    }
}

/// Refuses heads that no client of ours sends: CONNECT, and requests of HTTP/1.1 that do not name
/// one host (RFC 9112, section 3.2).
fn check_head(request: &Request<Incoming>) -> Result<(), Problem> {
    if request.method() == Method::CONNECT {
        return Err(Problem::new(Kind::MethodNotAllowed, "this is no proxy"));
    }
    match request.headers().get_all(header::HOST).iter().count() {
        1 => Ok(()),
        0 if request.version() == Version::HTTP_10 => Ok(()),
        _ => Err(Problem::new(Kind::InvalidRequest, "send one Host header")),
    }
}

fn close_after(mut answer: Response<Body>) -> Response<Body> {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// Tells the connection's state, by being dropped, that a request is done.
#[derive(Debug)]
struct RequestWatch(Arc<ConnectionState>);

impl Drop for RequestWatch {
    fn drop(&mut self) {
        self.0.request_ended();
    }
}

/// An answer's body; the request is done when it is dropped.
#[derive(Debug)]
pub(super) struct WatchedAnswer {
    body: Body,
    _watch: RequestWatch,
}

impl HttpBody for WatchedAnswer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Reason for which the rest of a body is not waited for.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the body arrives too slowly")]
pub(crate) struct BodyStalled;

/// A request's body that ends in [`BodyStalled`] when the client keeps us waiting for it.
struct TimedBody {
    body: Incoming,
    budget: StallBudget,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl TimedBody {
    fn new(body: Incoming, stall_timeout: Duration) -> Self {
        Self { body, budget: StallBudget::new(stall_timeout), sleep: None }
    }

    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.budget.wait(Instant::now());
        let Some(deadline) = self.budget.deadline() else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    }
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                if let Some(Ok(frame)) = &frame {
                    this.budget.progress(Instant::now(), frame.data_ref().map_or(0, Bytes::len));
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => this.poll_overdue(cx).map(|()| Some(Err(BodyStalled.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
