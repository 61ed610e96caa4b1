//! Downloads a file: goes on where it was cut off, waits trouble out, and lets it appear under its
//! name only when its SHA-256 is right. No more is taken than was announced, however it is coded,
//! and what is there already is not replaced.

use std::borrow::Cow;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use adit_shared::digest::Sha256;
use anyhow::{Context as _, bail, ensure};
use flate2::write::MultiGzDecoder;
use futures::StreamExt as _;
use indicatif::ProgressBar;
use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderName};
use reqwest::{Response, StatusCode};

use super::client::{Client, Refusal};
use super::files::{Standing, check_space, find_standing};
use super::part::{Part, is_taken};
use super::patience::Patience;

const BROKEN: &str = "the connection broke";
/// Bytes that are decoded at once: gzip makes a thousand times as many of them at most.
const DECODED_AT_ONCE: usize = 4096;

/// What is to be downloaded.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// Its URL, or its path on the server.
    pub(crate) url: String,
    /// Its length in bytes, where that is known.
    pub(crate) size: Option<u64>,
    /// The most bytes that are taken where its length is not known.
    pub(crate) most: u64,
    /// Its SHA-256, where that is known.
    pub(crate) sha256: Option<Sha256>,
    /// Whether it may be sent compressed, which saves three quarters of a text; what is compressed in itself is not worth asking for it.
    pub(crate) gzip: bool,
}

impl Item {
    /// The entity tag that the server has for these bytes. It is not that of an object store, which has tags of its own.
    fn tag(&self) -> Option<String> {
        self.sha256.map(|sha256| format!("\"{sha256}\""))
    }
}

/// How downloads are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Downloads<'a> {
    /// Whom to ask.
    pub(crate) client: &'a Client,
    /// How long trouble is waited out.
    pub(crate) patience: &'a Patience,
    /// Moves by the bytes that arrive.
    pub(crate) bar: &'a ProgressBar,
    /// Tells whether other files that are there already are replaced.
    pub(crate) overwrite: bool,
}

impl Downloads<'_> {
    /// Downloads `item` to `target`, unless that is there already. What has arrived stays in
    /// `{part}.part`, and a later call goes on from there, whichever URL it then asks for the same
    /// bytes.
    ///
    /// # Errors
    /// When another file is there, or no room; when the server refuses or cannot be reached any
    /// more, or when the SHA-256 is wrong, also when all is fetched anew (the part is then
    /// removed).
    pub(crate) async fn run(self, item: &Item, part: &Path, target: &Path) -> anyhow::Result<Sha256> {
        match (find_standing(target, item.sha256)?, item.sha256) {
            (Standing::Same, Some(sha256)) => {
                self.bar.inc(item.size.unwrap_or(0));
                return Ok(sha256);
            }
            // Of unknown bytes it is compared when they are there.
            (Standing::Other, Some(_)) if !self.overwrite => bail!("{}", is_taken(target)),
            _ => {}
        }
        let mut part = Part::open(part, item.tag().as_deref())?;
        self.bar.inc(part.length());
        let room = item.size.map_or(Ok(()), |size| {
            check_space(target.parent().unwrap_or(Path::new("")), size.saturating_sub(part.length()))
        });
        let received = match room {
            Ok(()) => self.receive_right(item, &mut part).await,
            Err(why) => Err(why),
        };
        match received {
            Ok(sha256) => part.finish(target, self.overwrite).map(|()| sha256),
            Err(why) => {
                let length = part.length();
                part.leave();
                Err(if length == 0 {
                    why
                } else {
                    why.context(format!("{length} bytes have arrived, and are gone on from when it is run again"))
                })
            }
        }
    }

    async fn receive_right(self, item: &Item, part: &mut Part) -> anyhow::Result<Sha256> {
        let mut anew = false;
        loop {
            let found = match self.receive_all(item, part).await? {
                Received::All => Some(part.sha256()),
                _ => None,
            };
            if let Some(sha256) = found.filter(|found| item.sha256.is_none_or(|expected| expected == *found)) {
                return Ok(sha256);
            }
            self.begin(part, item.tag().as_deref())?;
            if anew {
                return Err(OtherBytes.into());
            }
            anew = true;
        }
    }

    /// Asks until all has come, or what has come cannot be gone on with.
    async fn receive_all(self, item: &Item, part: &mut Part) -> anyhow::Result<Received> {
        loop {
            let before = part.length();
            match item.size {
                Some(size) if before == size && part.tag().is_some() => return Ok(Received::All),
                Some(size) if before > size => return Ok(Received::Unfit),
                _ => {}
            }
            let outcome = self.receive(item, part).await;
            if part.length() > before {
                self.patience.renew();
            }
            let why = match outcome {
                Ok(Received::Unfit) => return Ok(Received::Unfit),
                Ok(Received::All) if item.size.is_none_or(|size| part.length() >= size) => return Ok(Received::All),
                Ok(Received::All) => io::Error::new(io::ErrorKind::UnexpectedEof, BROKEN).into(),
                Err(why) => why,
            };
            if !may_pass(&why) || !self.patience.wait(retry_after(&why)).await {
                return Err(why);
            }
        }
    }

    /// Asks for what the part lacks, and adds it.
    async fn receive(self, item: &Item, part: &mut Part) -> anyhow::Result<Received> {
        let offset = part.length();
        let rest = part.tag().filter(|_| offset > 0).map(|tag| (offset, tag));
        let gzip = item.gzip && rest.is_none();
        let response = match self.client.get_from(&item.url, rest, gzip).await {
            Err(error) if rest.is_some() && refused_range(&error) => return Ok(Received::Unfit),
            response => response?,
        };
        if response.status() == StatusCode::PARTIAL_CONTENT {
            if !continues(&response, item, part) {
                return Ok(Received::Unfit);
            }
        } else {
            self.begin(part, item.tag().as_deref().or(header(&response, ETAG)))?;
        }
        let mut coding = Coding::of(&response, gzip)?;
        let mut body = response.bytes_stream();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| anyhow::Error::new(error.without_url()).context(BROKEN))?;
            for piece in chunk.chunks(coding.piece()) {
                let bytes = coding.decode(piece)?;
                part.add(&bytes)?;
                self.bar.inc(bytes.len() as u64);
                match item.size {
                    Some(size) if part.length() > size => return Ok(Received::Unfit),
                    None => ensure!(part.length() <= item.most, "the server sends more than {} bytes", item.most),
                    Some(_) => {}
                }
            }
        }
        Ok(Received::All)
    }

    fn begin(self, part: &mut Part, tag: Option<&str>) -> anyhow::Result<()> {
        self.bar.set_position(self.bar.position().saturating_sub(part.length()));
        part.begin(tag)
    }
}

/// The bytes that came do not have their SHA-256, also when all was fetched anew.
#[derive(Debug)]
pub(crate) struct OtherBytes;

impl std::fmt::Display for OtherBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the server sends other bytes than those that it announces, twice; run it again later")
    }
}

impl std::error::Error for OtherBytes {}

/// What answers have brought.
enum Received {
    /// All of it.
    All,
    /// Nothing, because it cannot be joined to the part.
    Unfit,
}

/// How an answer's bytes are coded (RFC 9110, section 8.4). That nothing is missing at the end, the length and the SHA-256 show.
enum Coding {
    Identity,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

impl Coding {
    /// # Errors
    /// If the bytes are coded in a way that was not asked for.
    fn of(response: &Response, gzip: bool) -> anyhow::Result<Self> {
        match header(response, CONTENT_ENCODING) {
            Some("gzip") if gzip => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(Vec::new())))),
            None | Some("identity" | "") => Ok(Self::Identity),
            Some(other) => bail!("the server sends its answer coded as {other:?}, which was not asked for"),
        }
    }

    /// Bytes that may be handed to [`Self::decode`] at once.
    fn piece(&self) -> usize {
        match self {
            Self::Identity => usize::MAX,
            Self::Gzip(_) => DECODED_AT_ONCE,
        }
    }

    fn decode<'b>(&mut self, bytes: &'b [u8]) -> anyhow::Result<Cow<'b, [u8]>> {
        let Self::Gzip(decoder) = self else { return Ok(Cow::Borrowed(bytes)) };
        let decoded = decoder.write_all(bytes).and_then(|()| decoder.flush());
        decoded.context("the server's answer is no gzip, as it says that it is")?;
        Ok(Cow::Owned(std::mem::take(decoder.get_mut())))
    }
}

/// Whether an answer's bytes follow on those of the part. An object store does not heed `If-Range`, so that what it tells is compared, and the
/// SHA-256 in the end.
fn continues(response: &Response, item: &Item, part: &Part) -> bool {
    // bytes 100-199/200 (RFC 9110, section 14.4)
    let range = header(response, CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes ")?.split_once('/'));
    let Some((range, total)) = range else { return false };
    let first = range.split_once('-').and_then(|(first, _)| first.parse().ok());
    let total = total.parse().ok();
    let same_length = item.size.is_none() || total.is_none() || total == item.size;
    let same_tag = item.sha256.is_some() || header(response, ETAG).is_none_or(|sent| part.tag() == Some(sent));
    first == Some(part.length()) && same_length && same_tag
}

fn refused_range(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.status == StatusCode::RANGE_NOT_SATISFIABLE)
}

/// Whether the same request may succeed later.
pub(crate) fn may_pass(error: &anyhow::Error) -> bool {
    let cut = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
    error.downcast_ref().is_some_and(Refusal::may_pass)
        || error.downcast_ref().is_some_and(|error: &reqwest::Error| !error.is_builder())
        || error.downcast_ref().is_some_and(cut)
}

/// How long the server asks to wait.
pub(crate) fn retry_after(error: &anyhow::Error) -> Option<Duration> {
    error.downcast_ref::<Refusal>()?.retry_after
}

fn header(response: &Response, name: HeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests;
