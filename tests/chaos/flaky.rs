//! A line to the object store that breaks at random, in spells: answers that say 500 or 503, that
//! are late, that break off in the middle or never come although the store did what it was asked.
//!
//! Only heads are looked at, and bodies handed on as they are: signatures of requests stay right.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{
    self, AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::ledger::{Counted, Ledger};

/// Longest head of a message, in bytes.
const MAX_HEAD: usize = 64 << 10;
/// Lengths of the times between two spells, and of spells, in milliseconds.
const FAIR: std::ops::Range<u64> = 1_000..6_000;
const FOUL: std::ops::Range<u64> = 500..4_000;
/// Requests in a hundred that a spell hits; at a hundred the store is away.
const SHARES: [u32; 5] = [10, 25, 50, 80, 100];
/// How late a slow answer is, in milliseconds.
const LATE: std::ops::Range<u64> = 500..4_000;

/// Ways in which a request goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The store does not see the request; the answer is that status.
    Refused(u16),
    /// The store does not see the request, and the connection is reset.
    Reset,
    /// The store sees half of the request's body.
    HalfRequest,
    /// The answer ends in the middle of its body, in good order.
    Truncated,
    /// The connection is reset in the middle of the answer's body.
    HalfAnswer,
    /// The store has done it, and no answer comes.
    LostAnswer,
    /// The store has done it, and the answer says 500.
    LyingAnswer,
    /// Everything goes well, but late.
    Slow,
}

const FAULTS: [(Fault, &str); 9] = [
    (Fault::Refused(500), "500"),
    (Fault::Refused(503), "503"),
    (Fault::Reset, "reset"),
    (Fault::HalfRequest, "half a request"),
    (Fault::Truncated, "truncated answer"),
    (Fault::HalfAnswer, "reset in the answer"),
    (Fault::LostAnswer, "answer lost after the work"),
    (Fault::LyingAnswer, "500 after the work"),
    (Fault::Slow, "slow"),
];

/// Decides which requests go wrong. It is the same for the same seed and the same order of
/// requests.
struct Weather {
    dice: Mutex<StdRng>,
    /// Of a hundred requests.
    share: AtomicU32,
    is_over: AtomicBool,
    ledger: Arc<Ledger>,
}

impl Weather {
    /// Draws the fault of a request that has a body or none.
    fn draw(&self, has_body: bool) -> Option<Fault> {
        let mut dice = self.dice.lock().unwrap();
        if dice.random_range(0..100) >= self.share.load(Ordering::SeqCst) {
            return None;
        }
        let (fault, name) = FAULTS.choose(&mut dice).unwrap();
        let (fault, name) =
            if *fault == Fault::HalfRequest && !has_body { (Fault::Reset, "reset") } else { (*fault, *name) };
        self.ledger.count(Counted::Fault, name);
        Some(fault)
    }

    /// Lets spells come and go.
    async fn change(self: Arc<Self>) {
        loop {
            let (fair, foul, share) = {
                let mut dice = self.dice.lock().unwrap();
                (dice.random_range(FAIR), dice.random_range(FOUL), *SHARES.choose(&mut dice).unwrap())
            };
            tokio::time::sleep(Duration::from_millis(fair)).await;
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            self.share.store(share, Ordering::SeqCst);
            self.ledger.count(Counted::Fault, "spells");
            tokio::time::sleep(Duration::from_millis(foul)).await;
            self.share.store(0, Ordering::SeqCst);
        }
    }
}

/// Hands requests on to a server until it is dropped.
pub(super) struct FlakyLine {
    port: u16,
    weather: Arc<Weather>,
    _tasks: JoinSet<()>,
}

impl FlakyLine {
    /// Opens a line to a server at `host:port`.
    pub(super) async fn to(server: String, seed: u64, ledger: Arc<Ledger>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dice = Mutex::new(StdRng::seed_from_u64(seed));
        let weather = Arc::new(Weather { dice, share: AtomicU32::new(0), is_over: AtomicBool::new(false), ledger });
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&weather).change());
        let serving = Arc::clone(&weather);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let (weather, server) = (Arc::clone(&serving), server.clone());
                connections.spawn(async move {
                    // Whoever closes, or breaks off, ends the connection.
                    let _ = Connection::serve(near, &server, &weather).await;
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { port, weather, _tasks: tasks }
    }

    /// Where it is, as the endpoint of a store.
    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Lets everything through from now on.
    pub(super) fn clear_up(&self) {
        self.weather.is_over.store(true, Ordering::SeqCst);
        self.weather.share.store(0, Ordering::SeqCst);
    }
}

/// How a body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    /// Up to the end of the connection.
    Close,
}

/// The head of a request or an answer, as it came.
struct Head {
    bytes: Vec<u8>,
    /// The first line's words.
    words: Vec<String>,
    framing: Framing,
    closes: bool,
}

impl Head {
    /// Reads a head; `None` where the connection ends before it. Without a length there is no body,
    /// or one that lasts as long as the connection.
    async fn read(from: &mut (impl AsyncBufRead + Unpin), without_length: Framing) -> io::Result<Option<Self>> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            if from.read_until(b'\n', &mut bytes).await? == 0 || bytes.len() > MAX_HEAD {
                return Ok(None);
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut lines = text.lines();
        let words = lines.next().unwrap_or_default().split(' ').map(str::to_owned).collect();
        let (mut framing, mut closes) = (without_length, false);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            match (name.to_ascii_lowercase().as_str(), value.trim().to_ascii_lowercase()) {
                ("content-length", length) => framing = Framing::Length(length.parse().unwrap()),
                ("transfer-encoding", how) if how == "chunked" => framing = Framing::Chunked,
                ("connection", how) => closes = how == "close",
                _ => {}
            }
        }
        Ok(Some(Self { bytes, words, framing, closes }))
    }

    fn word(&self, number: usize) -> &str {
        self.words.get(number).map_or("", String::as_str)
    }
}

/// Both sides of a connection.
struct Connection {
    near_in: BufReader<OwnedReadHalf>,
    near_out: OwnedWriteHalf,
    far_in: BufReader<OwnedReadHalf>,
    far_out: OwnedWriteHalf,
}

impl Connection {
    async fn serve(near: TcpStream, server: &str, weather: &Weather) -> io::Result<()> {
        let far = TcpStream::connect(server).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        let (near_in, far_in) = (BufReader::new(near_in), BufReader::new(far_in));
        let mut connection = Self { near_in, near_out, far_in, far_out };
        while let Some(request) = Head::read(&mut connection.near_in, Framing::Length(0)).await? {
            let fault = weather.draw(request.framing != Framing::Length(0));
            if fault == Some(Fault::Slow) {
                let late = weather.dice.lock().unwrap().random_range(LATE);
                tokio::time::sleep(Duration::from_millis(late)).await;
            }
            match fault {
                Some(Fault::Refused(status)) => return connection.refuse(status).await,
                Some(Fault::Reset) => return connection.reset(),
                Some(Fault::HalfRequest) => return connection.hand_on_half(&request).await,
                _ => {}
            }
            if !connection.exchange(request, fault).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Ends the connection by a reset; closing does the rest.
    fn reset(&self) -> io::Result<()> {
        self.near_out.as_ref().set_zero_linger()
    }

    /// Answers in the store's name, and closes.
    async fn refuse(&mut self, status: u16) -> io::Result<()> {
        let code = if status == 503 { "SlowDown" } else { "InternalError" };
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>a spell</Message></Error>");
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} Refused\r\ncontent-type: application/xml\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
        );
        self.near_out.write_all((head + &body).as_bytes()).await?;
        self.near_out.shutdown().await?;
        // Who goes on sending would otherwise be reset, and not see the answer.
        let mut nowhere = io::sink();
        let drain = io::copy(&mut self.near_in, &mut nowhere);
        let _ = tokio::time::timeout(Duration::from_secs(5), drain).await;
        Ok(())
    }

    /// Sends half of a request with a body to the store, and resets the connection.
    async fn hand_on_half(&mut self, request: &Head) -> io::Result<()> {
        self.far_out.write_all(&request.bytes).await?;
        if let Framing::Length(length) = request.framing {
            io::copy(&mut (&mut self.near_in).take(length / 2), &mut self.far_out).await?;
        }
        self.reset()
    }

    /// Hands a request on, and its answer back as far as the fault lets it; tells whether the
    /// connection goes on.
    async fn exchange(&mut self, request: Head, fault: Option<Fault>) -> io::Result<bool> {
        let (answer, is_sent) = self.ask_store(&request).await?;
        let bodiless = request.word(0) == "HEAD" || matches!(answer.word(1), "204" | "304");
        let framing = if bodiless { Framing::Length(0) } else { answer.framing };
        if is_sent {
            return self.answer(&answer, framing, fault).await;
        }
        self.answer(&answer, framing, None).await?;
        self.near_out.shutdown().await?;
        Ok(false)
    }

    /// Hands a request on up to the head of its answer; tells whether the store took all of the
    /// request.
    async fn ask_store(&mut self, request: &Head) -> io::Result<(Head, bool)> {
        let Self { near_in, near_out, far_in, far_out } = self;
        let sending = async {
            far_out.write_all(&request.bytes).await?;
            hand_on(near_in, far_out, request.framing).await
        };
        let receiving = async {
            loop {
                let Some(answer) = Head::read(far_in, Framing::Close).await? else {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                };
                if !answer.word(1).starts_with('1') {
                    return Ok(answer);
                }
                near_out.write_all(&answer.bytes).await?; // 100: go on
            }
        };
        let (mut sending, mut receiving) = (std::pin::pin!(sending), std::pin::pin!(receiving));
        // An answer may come before all of the request has been sent; a refusal then stands for the
        // rest.
        tokio::select! {
            sent = &mut sending => {
                sent?;
                Ok((receiving.await?, true))
            }
            answer = &mut receiving => {
                let answer = answer?;
                let is_success = answer.word(1).starts_with('2');
                if is_success {
                    sending.await?;
                }
                Ok((answer, is_success))
            }
        }
    }

    async fn answer(&mut self, answer: &Head, framing: Framing, fault: Option<Fault>) -> io::Result<bool> {
        match fault {
            Some(Fault::LostAnswer | Fault::LyingAnswer) => {
                hand_on(&mut self.far_in, &mut io::sink(), framing).await?;
                if fault == Some(Fault::LyingAnswer) {
                    self.refuse(500).await?
                } else {
                    self.reset()?
                }
                Ok(false)
            }
            Some(Fault::Truncated | Fault::HalfAnswer) => {
                match framing {
                    Framing::Length(length @ 1..) => {
                        self.near_out.write_all(&answer.bytes).await?;
                        io::copy(&mut (&mut self.far_in).take(length / 2), &mut self.near_out).await?;
                    }
                    _ => self.near_out.write_all(&answer.bytes[..answer.bytes.len() / 2]).await?,
                }
                self.near_out.flush().await?;
                if fault == Some(Fault::HalfAnswer) {
                    self.reset()?
                } else {
                    self.near_out.shutdown().await?
                }
                Ok(false)
            }
            _ => {
                self.near_out.write_all(&answer.bytes).await?;
                hand_on(&mut self.far_in, &mut self.near_out, framing).await?;
                Ok(framing != Framing::Close && !answer.closes)
            }
        }
    }
}

/// Copies a body to its end.
async fn hand_on(
    from: &mut (impl AsyncBufRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    framing: Framing,
) -> io::Result<()> {
    match framing {
        Framing::Length(length) => copy_exactly(from, to, length).await,
        Framing::Close => io::copy_buf(from, to).await.map(drop),
        Framing::Chunked => loop {
            let mut line = Vec::new();
            from.read_until(b'\n', &mut line).await?;
            to.write_all(&line).await?;
            let text = String::from_utf8_lossy(&line);
            let size = text.trim().split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size > 0 {
                copy_exactly(from, to, size + 2).await?;
                continue;
            }
            // Trailers, up to an empty line.
            loop {
                let mut line = Vec::new();
                from.read_until(b'\n', &mut line).await?;
                to.write_all(&line).await?;
                if line.is_empty() || line == b"\r\n" {
                    return Ok(());
                }
            }
        },
    }
}

async fn copy_exactly(
    from: &mut (impl AsyncBufRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    length: u64,
) -> io::Result<()> {
    let copied = io::copy_buf(&mut from.take(length), to).await?;
    if copied == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
