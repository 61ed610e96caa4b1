//! Brings the stored bytes of a streamed asset's files, in the order in which they are wanted, and decodes them.
//!
//! Batches of a few files, or of a stretch of a large one, are fetched ahead with the reads that ZIP archives use: neighbours in a pack
//! together. Each format lies in packs of its own, so a batch is some two or three reads. On the other side, a thread that may block
//! takes the batches and reads them file by file.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use adit_shared::domain::{Encoding, FileRecord};
use adit_shared::objects::{ObjectError, ObjectStore};
use bytes::BytesMut;
use flate2::{Decompress, FlushDecompress, Status};
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::lines::Lines;
use super::{Contents, Document, file_name, refuse};
use crate::error::BuildError;
use crate::plan::{Objects, Piece, Spool, before, packed};
use crate::read::{Failure, Fetcher, Spare, is_missing};
use crate::verify::Damage;

/// Bytes of a batch.
const BATCH: usize = 1 << 20;
/// Batches that are fetched at once, ahead of the one that is read.
const AHEAD: usize = 4;

/// Stored bytes of files, one behind the other.
type Batch = Result<BytesMut, BuildError>;

/// Which of a document's files are read.
pub(super) type Wanted = Arc<dyn Fn(&FileRecord) -> bool + Send + Sync>;

/// Divides the files of the members into batches.
struct Drafter {
    lines: Lines,
    wanted: Wanted,
    /// Files that are not yet in a batch, the next one last, with the place of their member's line.
    files: Vec<FileRecord>,
    position: u64,
    /// Bytes of the next file that are in batches.
    skipped: u64,
}

/// A batch to be filled.
struct Draft {
    objects: Objects,
    pieces: Vec<Piece>,
    length: usize,
}

impl Drafter {
    /// The next batch; `None` behind the last.
    fn next(&mut self) -> io::Result<Option<Draft>> {
        let (mut keys, mut pieces, mut length) = (Vec::<String>::new(), Vec::new(), 0);
        while length < BATCH && self.find()? {
            let Some(file) = self.files.last() else { break };
            let (packed, key) = (packed(file), &file.place.object);
            let object = keys.iter().position(|other| other == key).unwrap_or_else(|| {
                keys.push(key.clone());
                keys.len() - 1
            });
            let len = usize::try_from(packed - self.skipped).unwrap_or(BATCH).min(BATCH - length);
            pieces.push(Piece {
                at: length,
                len,
                object: object as u32,
                from: file.place.offset + before(file.encoding) + self.skipped,
                skipped: self.skipped,
                packed,
                encoding: file.encoding,
                crc32: file.crc32,
                deflate_crc32: file.deflate_crc32,
                size: file.size,
                position: self.position,
            });
            length += len;
            self.skipped += len as u64;
            if self.skipped == packed {
                self.skipped = 0;
                self.files.pop();
            }
        }
        Ok((length > 0).then(|| Draft { objects: Objects::new(keys), pieces, length }))
    }

    /// Makes sure that there is a file to read next, unless there is none any more.
    fn find(&mut self) -> io::Result<bool> {
        while self.files.is_empty() {
            let Some((position, _, member)) = self.lines.next()? else { return Ok(false) };
            self.position = position;
            self.files = member.files;
            self.files.retain(|file| (self.wanted)(file) && packed(file) > 0);
            self.files.reverse();
        }
        Ok(true)
    }
}

/// Fetches all batches, some of them ahead of what is asked for.
fn fetch(drafter: Drafter, objects: Arc<dyn ObjectStore>, spare: Spare) -> impl Stream<Item = Batch> {
    let spool = drafter.lines.spool().clone();
    let drafts = stream::try_unfold(drafter, |mut drafter| async move {
        let drafted = move || drafter.next().map(|draft| draft.map(|draft| (draft, drafter)));
        Ok::<_, BuildError>(tokio::task::spawn_blocking(drafted).await??)
    });
    drafts
        .map(move |draft| {
            let (spool, objects, spare) = (spool.clone(), objects.clone(), spare.clone());
            let batch = draft.map(|draft| AbortOnDropHandle::new(tokio::spawn(fill(draft, spool, objects, spare))));
            async move { batch?.await? }
        })
        .buffered(AHEAD)
}

async fn fill(draft: Draft, spool: Arc<Spool>, objects: Arc<dyn ObjectStore>, spare: Spare) -> Batch {
    let Draft { objects: keys, pieces, length } = draft;
    let mut bytes = spare.take(BATCH);
    bytes.resize(length, 0);
    match Fetcher::new(objects, keys.clone()).fill(&pieces, &mut bytes).await {
        Ok(()) => Ok(bytes),
        Err(Failure { error, piece: None }) => Err(error.into()),
        Err(Failure { error, piece: Some(piece) }) => Err(blame(&spool, &keys, &piece, &error)?),
    }
}

/// The error that names the document of a piece.
fn blame(spool: &Arc<Spool>, keys: &Objects, piece: &Piece, error: &ObjectError) -> io::Result<BuildError> {
    let mut lines = Lines::new(spool.clone(), piece.position..spool.len());
    let (_, _, member) = lines.next()?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let starts = piece.from - piece.skipped;
    let is_it = |file: &&FileRecord| {
        file.place.object == keys.key(piece.object) && file.place.offset + before(file.encoding) == starts
    };
    let path = member.files.iter().find(is_it).map_or_else(String::new, |file| file_name(&member.name, &file.format));
    let (reason, is_missing) = (error.to_string(), is_missing(error));
    Ok(BuildError::Document { r#ref: member.r#ref, path, reason, is_missing })
}

/// Gives the contents of files out, one after the other.
#[derive(Debug)]
pub(super) struct Feed {
    batches: mpsc::Receiver<Batch>,
    _fetching: AbortOnDropHandle<()>,
    spare: Spare,
    batch: Option<BytesMut>,
    /// Where in the batch the next byte stands.
    used: usize,
    inflate: Decompress,
    /// Bytes of content that were given out.
    given: Arc<AtomicU64>,
}

impl Feed {
    /// Begins to fetch the files of those members; must be called where tasks can be spawned. `given` counts what is read.
    pub(super) fn new(lines: Lines, wanted: Wanted, objects: Arc<dyn ObjectStore>, given: Arc<AtomicU64>) -> Self {
        let (sender, batches) = mpsc::channel(1);
        // Buffers of another length than parts, so they are kept apart.
        let spare = Spare::default();
        let drafter = Drafter { lines, wanted, files: Vec::new(), position: 0, skipped: 0 };
        let fetched = fetch(drafter, objects, spare.clone());
        let fetching = tokio::spawn(async move {
            let mut fetched = std::pin::pin!(fetched);
            while let Some(batch) = fetched.next().await {
                let failed = batch.is_err();
                // Nobody reads any more, or what comes next is not to be had.
                if sender.send(batch).await.is_err() || failed {
                    break;
                }
            }
        });
        let fetching = AbortOnDropHandle::new(fetching);
        Self { batches, _fetching: fetching, spare, batch: None, used: 0, inflate: Decompress::new(false), given }
    }

    /// Stored bytes that come next: some of one batch.
    fn stored(&mut self) -> io::Result<&[u8]> {
        if self.batch.as_ref().is_none_or(|batch| self.used == batch.len()) {
            if let Some(batch) = self.batch.take() {
                self.spare.give(batch.freeze());
            }
            // It has ended, so somebody ended it.
            let next = self.batches.blocking_recv().ok_or(io::ErrorKind::BrokenPipe)?;
            self.batch = Some(next.map_err(io::Error::other)?);
            self.used = 0;
        }
        Ok(self.batch.as_ref().map_or(&[], |batch| &batch[self.used..]))
    }
}

impl Contents for Feed {
    fn open<'a>(&'a mut self, document: &'a Document<'_>, file: &'a FileRecord) -> io::Result<Box<dyn Read + 'a>> {
        self.inflate.reset(false);
        let crc32 = crc32fast::Hasher::new();
        Ok(Box::new(Content { feed: self, document, file, left: packed(file), size: 0, crc32, ended: false }))
    }
}

/// One file's content, which is proved when it is read to the end.
struct Content<'a> {
    feed: &'a mut Feed,
    document: &'a Document<'a>,
    file: &'a FileRecord,
    /// Stored bytes that were not read yet.
    left: u64,
    /// Bytes of content so far.
    size: u64,
    crc32: crc32fast::Hasher,
    ended: bool,
}

impl Content<'_> {
    /// Reads and writes that many bytes, once; tells whether that was the end.
    fn step(&mut self, out: &mut [u8]) -> io::Result<Result<(usize, bool), Damage>> {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let len = if left > 0 { self.feed.stored()?.len().min(left) } else { 0 };
        let Feed { inflate, batch, used, .. } = &mut *self.feed;
        let stored = batch.as_ref().map_or(&[][..], |batch| &batch[*used..*used + len]);
        let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
        let (read, written, ended) = match self.file.encoding {
            Encoding::Identity => {
                let len = stored.len().min(out.len());
                out[..len].copy_from_slice(&stored[..len]);
                (len, len, len == left)
            }
            Encoding::Gzip => {
                let Ok(status) = inflate.decompress(stored, out, FlushDecompress::None) else {
                    return Ok(Err(Damage::Deflate));
                };
                let read = (inflate.total_in() - before_in) as usize;
                (read, (inflate.total_out() - before_out) as usize, status == Status::StreamEnd)
            }
        };
        *used += read;
        self.left -= read as u64;
        // A stream that is cut, or one with more behind it.
        if (!ended && read == 0 && written == 0) || (ended && self.left > 0) {
            return Ok(Err(Damage::Deflate));
        }
        Ok(Ok((written, ended)))
    }

    fn verdict(&self) -> Result<(), Damage> {
        let (found, expected) = (self.size, self.file.size);
        if found > expected || (self.ended && found < expected) {
            return Err(Damage::Length { found, expected });
        }
        let (found, expected) = (self.crc32.clone().finalize(), self.file.crc32);
        if self.ended && found != expected { Err(Damage::Checksum { found, expected }) } else { Ok(()) }
    }
}

impl Read for Content<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while !self.ended && !out.is_empty() {
            let step = self.step(out)?;
            let checked = step.and_then(|(written, ended)| {
                self.crc32.update(&out[..written]);
                self.size += written as u64;
                self.ended = ended;
                self.verdict().map(|()| written)
            });
            let written = checked.map_err(|damage| refuse(self.document, self.file, damage.to_string()))?;
            self.feed.given.fetch_add(written as u64, Ordering::Relaxed);
            if written > 0 {
                return Ok(written);
            }
        }
        Ok(0)
    }
}
