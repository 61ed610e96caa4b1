//! A line to the object store that can hold up what goes through it, so that a test meets a process in the middle of a transfer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Which requests are held up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    /// The request's method, and what its path contains.
    pub(crate) request: (&'static str, &'static str),
    /// How many such requests go through before.
    pub(crate) pass: usize,
    /// Bytes of their answers that go through; `None` holds up the request itself.
    pub(crate) answer: Option<usize>,
}

/// Hands connections on to a server until it is dropped, which cuts them all.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    rule: Rule,
    /// Requests that the rule speaks of.
    seen: AtomicUsize,
    held: watch::Sender<bool>,
    released: watch::Sender<bool>,
}

impl Proxy {
    pub(crate) async fn to(server: String, rule: Rule) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Shared {
            rule,
            seen: AtomicUsize::new(0),
            held: watch::Sender::new(false),
            released: watch::Sender::new(false),
        };
        let (shared, mut tasks) = (Arc::new(shared), JoinSet::new());
        let serving = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&server).await.unwrap();
                connections.spawn(Arc::clone(&serving).connect(near, far));
            }
        });
        Self { port, shared, _tasks: tasks }
    }

    /// Where it is, as the endpoint of a store.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Waits until something is held up.
    pub(crate) async fn holds(&self) {
        within("what is to be held up", self.shared.held.subscribe().wait_for(|held| *held)).await.unwrap();
    }

    /// Lets everything through from now on.
    pub(crate) fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// How many requests came that the rule speaks of.
    pub(crate) fn seen(&self) -> usize {
        self.shared.seen.load(Ordering::SeqCst)
    }
}

impl Shared {
    async fn connect(self: Arc<Self>, near: TcpStream, far: TcpStream) {
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        let limit = watch::Sender::new(None);
        let answers = limit.subscribe();
        // Whichever side ends first ends the connection.
        tokio::select! {
            () = self.requests(near_in, far_out, limit) => {}
            () = self.answers(far_in, near_out, answers) => {}
        }
    }

    async fn requests(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, limit: watch::Sender<Option<usize>>) {
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut chunk).await {
            if self.is_meant(&chunk[..read]) && self.seen.fetch_add(1, Ordering::SeqCst) >= self.rule.pass {
                match self.rule.answer {
                    None => self.hold().await,
                    bytes => drop(limit.send_replace(bytes)),
                }
            }
            if to.write_all(&chunk[..read]).await.is_err() {
                return;
            }
        }
    }

    async fn answers(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, limit: watch::Receiver<Option<usize>>) {
        let mut chunk = vec![0; 4 * 1024];
        let mut sent = 0;
        while let Ok(read @ 1..) = from.read(&mut chunk).await {
            let most = *limit.borrow();
            if let Some(most) = most {
                sent += read;
                if sent > most {
                    self.hold().await;
                }
            }
            if to.write_all(&chunk[..read]).await.is_err() {
                return;
            }
        }
    }

    fn is_meant(&self, chunk: &[u8]) -> bool {
        let line = String::from_utf8_lossy(chunk.split(|byte| *byte == b'\r').next().unwrap_or_default());
        let (method, path) = self.rule.request;
        line.strip_prefix(method).is_some_and(|rest| rest.starts_with(' ') && rest.contains(path))
    }

    async fn hold(&self) {
        if !*self.released.borrow() {
            self.held.send_replace(true);
            self.released.subscribe().wait_for(|released| *released).await.unwrap();
        }
    }
}
