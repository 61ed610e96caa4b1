//! A line to a server that breaks in the middle of answers, and counts what has come of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// Hands connections on to a server. It counts the bytes of successful answers to GETs of targets with a certain text, and breaks when
/// the count comes to certain numbers; such GETs then wait until it is mended.
pub(crate) struct Cutter {
    port: u16,
    shared: Arc<Shared>,
    breaks: mpsc::UnboundedReceiver<()>,
    _tasks: JoinSet<()>,
}

struct Shared {
    target: &'static str,
    count: Mutex<Count>,
    whole: watch::Sender<bool>,
    broken: mpsc::UnboundedSender<()>,
}

#[derive(Default)]
struct Count {
    bytes: u64,
    cuts: VecDeque<u64>,
}

/// Where the bytes of an answer are that go through.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// In an answer that is not counted.
    Other,
    /// In the head of one that may be.
    Head,
    /// In the body of one that is.
    Body,
}

impl Cutter {
    pub(crate) async fn to(server: &str, target: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (broken, breaks) = mpsc::unbounded_channel();
        let shared = Shared { target, count: Mutex::default(), whole: watch::Sender::new(true), broken };
        let (shared, mut tasks) = (Arc::new(shared), JoinSet::new());
        let (serving, server) = (Arc::clone(&shared), server.to_owned());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&server).await.unwrap();
                connections.spawn(Arc::clone(&serving).connect(near, far));
            }
        });
        Self { port, shared, breaks, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// At which counts the line breaks, from now on.
    pub(crate) fn cut_at(&self, cuts: &[u64]) {
        *self.shared.count.lock().unwrap() = Count { bytes: 0, cuts: cuts.to_vec().into() };
    }

    /// Waits until the line breaks.
    pub(crate) async fn broken(&mut self) {
        self.breaks.recv().await.unwrap();
    }

    /// Lets what waits go on.
    pub(crate) fn mend(&self) {
        self.shared.whole.send_replace(true);
    }

    /// The count.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.count.lock().unwrap().bytes
    }
}

impl Shared {
    async fn connect(self: Arc<Self>, near: TcpStream, far: TcpStream) {
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        let place = watch::Sender::new(Place::Other);
        // Whichever side ends first ends the connection.
        tokio::select! {
            () = self.requests(near_in, far_out, &place) => {}
            () = self.answers(far_in, near_out, &place) => {}
        }
    }

    async fn requests(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, place: &watch::Sender<Place>) {
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut chunk).await {
            let line = chunk.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let target = line.strip_prefix(b"GET ").map(String::from_utf8_lossy);
            let meant = target.is_some_and(|target| target.contains(self.target));
            if meant {
                self.whole.subscribe().wait_for(|whole| *whole).await.unwrap();
            }
            place.send_replace(if meant { Place::Head } else { Place::Other });
            if to.write_all(&chunk[..read]).await.is_err() {
                return;
            }
        }
    }

    async fn answers(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, place: &watch::Sender<Place>) {
        let (mut chunk, mut head) = (vec![0; 16 * 1024], Vec::new());
        while let Ok(read @ 1..) = from.read(&mut chunk).await {
            let mut body = 0;
            if *place.borrow() == Place::Head {
                let before = head.len();
                head.extend_from_slice(&chunk[..read]);
                let end = head.windows(4).position(|four| four == b"\r\n\r\n").map(|end| end + 4);
                body = end.map_or(read, |end| end - before);
                if end.is_some() {
                    let counted = head.starts_with(b"HTTP/1.1 20");
                    place.send_replace(if counted { Place::Body } else { Place::Other });
                    head.clear();
                }
            }
            let counted = *place.borrow() == Place::Body;
            let (passed, cut) = if counted { self.count(read - body) } else { (read - body, false) };
            if to.write_all(&chunk[..body + passed]).await.is_err() {
                return;
            }
            if cut {
                let _ = self.broken.send(());
                return;
            }
        }
    }

    /// Counts bytes up to the next cut: how many go through, and whether the line breaks behind them.
    fn count(&self, bytes: usize) -> (usize, bool) {
        let mut count = self.count.lock().unwrap();
        let left = count.cuts.front().map_or(usize::MAX, |cut| usize::try_from(cut - count.bytes).unwrap());
        let passed = bytes.min(left);
        count.bytes += passed as u64;
        if passed < left {
            return (passed, false);
        }
        count.cuts.pop_front();
        self.whole.send_replace(false);
        (passed, true)
    }
}
