//! Fetches the data of one part's files with few reads: neighbours in an object are read together, as streams, and several
//! reads are under way at once. What arrives goes straight to its place in the part.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adit_shared::objects::{ObjectError, ObjectStore};
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _, TryFutureExt as _, stream};

use crate::error::BuildError;
use crate::plan::{Draft, Objects, Piece, Plan};

/// Bytes between two pieces that are read and thrown away, because another request would take longer.
const MAX_GAP: u64 = 128 << 10;
/// Reads under way at once for one part.
const READS: usize = 8;

/// A part with its data.
#[derive(Debug)]
pub(crate) struct Filled {
    /// The part's bytes.
    pub(crate) bytes: BytesMut,
    /// Where the files' data stands in them.
    pub(crate) pieces: Vec<Piece>,
}

/// Reads the data of an archive's files.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    fetcher: Fetcher,
    plan: Arc<Plan>,
    spare: Spare,
}

/// Reads pieces of objects.
#[derive(Debug, Clone)]
pub(crate) struct Fetcher {
    objects: Arc<dyn ObjectStore>,
    keys: Objects,
}

/// Why a piece could not be read.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the store said.
    pub(crate) error: ObjectError,
    /// The piece whose bytes are not there, if it said that.
    pub(crate) piece: Option<Piece>,
}

/// Buffers that were parts and can be parts again, in this build or a later one, and lists of their pieces, which are megabytes too where files
/// are tiny. They are kept as long as the packager runs: once it has freed blocks of this length, glibc's allocator keeps some of them for
/// each thread (docs/decisions/0006-allocator.md).
#[derive(Debug, Clone, Default)]
pub(crate) struct Spare(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    buffers: Vec<BytesMut>,
    lists: Vec<Vec<Piece>>,
}

impl Spare {
    /// A buffer with room for `len` bytes.
    pub(crate) fn take(&self, len: usize) -> BytesMut {
        let spare = self.kept().buffers.pop();
        spare.filter(|buffer| buffer.capacity() >= len).unwrap_or_else(|| BytesMut::with_capacity(len))
    }

    /// Takes a part back, if nobody else holds it.
    pub(crate) fn give(&self, part: Bytes) {
        if let Ok(buffer) = part.try_into_mut() {
            self.kept().buffers.push(buffer);
        }
    }

    /// An empty list.
    fn take_list(&self) -> Vec<Piece> {
        self.kept().lists.pop().unwrap_or_default()
    }

    fn give_list(&self, mut list: Vec<Piece>) {
        list.clear();
        self.kept().lists.push(list);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stretch of an object that one read brings.
#[derive(Debug, Clone)]
struct Run {
    object: u32,
    range: Range<u64>,
    /// Which of the pieces, in the order in which they lie in the objects, are in it.
    pieces: Range<usize>,
    /// Length in bytes of the longest of them.
    longest: u64,
}

/// A chunk and where it stands in its object.
type Placed = Result<(u64, Bytes), ObjectError>;

impl Reader {
    pub(crate) fn new(objects: Arc<dyn ObjectStore>, plan: Arc<Plan>, spare: Spare) -> Self {
        Self { fetcher: Fetcher::new(objects, plan.objects().clone()), plan, spare }
    }

    /// The plan that it reads for.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Draws part `number` up and fills the files' data in.
    pub(crate) async fn part(&self, number: u32) -> Result<Filled, BuildError> {
        // Whole parts, however short this one: then every buffer serves every part.
        let (plan, buffer) = (self.plan.clone(), self.spare.take(self.plan.part_size() as usize));
        let list = self.spare.take_list();
        let draft = tokio::task::spawn_blocking(move || plan.draft(number, buffer, list)).await??;
        let Draft { mut bytes, pieces } = draft;
        self.fetcher.fill(&pieces, &mut bytes).await.map_err(|failure| self.failed(failure))?;
        Ok(Filled { bytes, pieces })
    }

    /// Takes the list of a part's pieces back.
    pub(crate) fn done_with(&self, pieces: Vec<Piece>) {
        self.spare.give_list(pieces);
    }

    /// The bytes of a piece's file that come before the piece, as pieces in their order.
    pub(crate) fn before(&self, piece: &Piece) -> impl Stream<Item = Result<(Piece, Bytes), BuildError>> + use<> {
        let (reader, piece) = (self.clone(), *piece);
        let start = piece.from - piece.skipped;
        let whole = Piece { len: piece.skipped as usize, from: start, skipped: 0, ..piece };
        async_stream::try_stream! {
            let run = Run { object: piece.object, range: whole.range(), pieces: 0..1, longest: piece.skipped };
            let mut chunks = reader.fetcher.read(run);
            while let Some((_, chunk)) = chunks.next().await {
                match chunk {
                    Ok((from, chunk)) => yield (Piece { len: chunk.len(), from, skipped: from - start, ..piece }, chunk),
                    Err(error) => Err(reader.failed(reader.fetcher.blame(error, &[whole]).await))?,
                }
            }
        }
    }

    fn failed(&self, Failure { error, piece }: Failure) -> BuildError {
        match piece {
            Some(piece) => self.document_error(piece.position, error.to_string(), is_missing(&error)),
            None => error.into(),
        }
    }

    /// The error that names the document of the file at `position`.
    pub(crate) fn document(&self, position: u64, reason: String) -> BuildError {
        self.document_error(position, reason, false)
    }

    fn document_error(&self, position: u64, reason: String, is_missing: bool) -> BuildError {
        match self.plan.name(position) {
            Ok((r#ref, path)) => BuildError::Document { r#ref, path, reason, is_missing },
            Err(error) => error.into(),
        }
    }
}

impl Fetcher {
    /// Reads objects by these keys.
    pub(crate) fn new(objects: Arc<dyn ObjectStore>, keys: Objects) -> Self {
        Self { objects, keys }
    }

    /// Puts the pieces' data where it goes in `bytes`.
    pub(crate) async fn fill(&self, pieces: &[Piece], bytes: &mut [u8]) -> Result<(), Failure> {
        let place = |piece: &Piece| (piece.object, piece.from);
        let mut sorted = Cow::Borrowed(pieces);
        if !pieces.is_sorted_by_key(place) {
            sorted.to_mut().sort_by_key(place);
        }
        let mut reads = stream::iter(runs(&sorted)).map(|run| self.read(run)).flatten_unordered(READS);
        while let Some((run, read)) = reads.next().await {
            match read {
                Ok((at, chunk)) => scatter(&chunk, at, &sorted[run.pieces], run.longest, bytes),
                Err(error) => return Err(self.blame(error, &sorted[run.pieces]).await),
            }
        }
        Ok(())
    }

    /// What comes of a run: chunks, each with its place in the object.
    fn read(&self, run: Run) -> BoxStream<'_, (Run, Placed)> {
        let (key, mut at) = (self.keys.key(run.object), run.range.start);
        let chunks = self.objects.read(key, Some(run.range.clone())).try_flatten_stream();
        let placed = chunks.map(move |chunk| {
            let placed = chunk.map(|chunk| (at, chunk)).inspect(|(_, chunk)| at += chunk.len() as u64);
            (run.clone(), placed)
        });
        placed.boxed()
    }

    /// Says which piece could not be read, where the store answered that its bytes are not there.
    async fn blame(&self, error: ObjectError, pieces: &[Piece]) -> Failure {
        if matches!(error, ObjectError::Unavailable(_) | ObjectError::Refused(_)) {
            return Failure { error, piece: None };
        }
        let mut blamed = pieces.first();
        if let (ObjectError::OutOfRange { key, .. }, true) = (&error, pieces.len() > 1) {
            // The pack was cut: the first document beyond its end is the one.
            match self.objects.size(key).await {
                Ok(Some(size)) => blamed = pieces.iter().find(|piece| piece.range().end > size).or(blamed),
                Ok(None) => {}
                Err(error) => return Failure { error, piece: None },
            }
        }
        Failure { error, piece: blamed.copied() }
    }
}

/// Tells whether an object is not there at all.
pub(crate) fn is_missing(error: &ObjectError) -> bool {
    matches!(error, ObjectError::NotFound(_))
}

/// Puts a chunk, which stands `at` in the object, where those pieces want it; none of them is longer than `longest`.
fn scatter(chunk: &[u8], at: u64, pieces: &[Piece], longest: u64, part: &mut [u8]) {
    let end = at + chunk.len() as u64;
    let first = pieces.partition_point(|piece| piece.from + longest <= at);
    let behind = pieces.partition_point(|piece| piece.from < end);
    for piece in &pieces[first..behind] {
        let common = piece.from.max(at)..piece.range().end.min(end);
        if !common.is_empty() {
            let (from, to) = ((common.start - at) as usize, piece.at + (common.start - piece.from) as usize);
            let len = (common.end - common.start) as usize;
            part[to..to + len].copy_from_slice(&chunk[from..from + len]);
        }
    }
}

/// Joins neighbours to reads.
fn runs(sorted: &[Piece]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (i, piece) in sorted.iter().enumerate() {
        let range = piece.range();
        match runs.last_mut() {
            Some(run) if run.object == piece.object && range.start <= run.range.end + MAX_GAP => {
                run.range.end = run.range.end.max(range.end);
                run.pieces.end = i + 1;
                run.longest = run.longest.max(piece.len as u64);
            }
            _ => runs.push(Run { object: piece.object, range, pieces: i..i + 1, longest: piece.len as u64 }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use adit_shared::domain::Encoding;

    use super::*;

    fn piece(object: u32, from: u64, len: usize) -> Piece {
        let (encoding, packed) = (Encoding::Identity, len as u64);
        Piece {
            at: 0,
            len,
            object,
            from,
            skipped: 0,
            packed,
            encoding,
            crc32: 0,
            deflate_crc32: None,
            size: packed,
            position: 0,
        }
    }

    fn ranges(pieces: &[Piece]) -> Vec<(u32, Range<u64>)> {
        runs(pieces).into_iter().map(|run| (run.object, run.range)).collect()
    }

    #[test]
    fn neighbours_are_read_together_and_strangers_alone() {
        let near = [piece(0, 10, 5), piece(0, 33, 5), piece(0, 38 + MAX_GAP, 1)];
        assert_eq!(ranges(&near), [(0, 10..39 + MAX_GAP)]);
        assert_eq!(ranges(&[piece(0, 0, 1), piece(0, 2 + MAX_GAP, 1)]).len(), 2);
        assert_eq!(ranges(&[piece(0, 0, 1), piece(1, 1, 1)]).len(), 2);
    }

    #[test]
    fn files_that_share_their_bytes_are_read_once() {
        assert_eq!(ranges(&[piece(0, 0, 50), piece(0, 0, 50), piece(0, 10, 5)]), [(0, 0..50)]);
    }

    #[test]
    fn every_chunk_finds_its_places() {
        let pieces = [
            Piece { at: 20, ..piece(0, 100, 10) },
            Piece { at: 0, ..piece(0, 100, 10) },
            Piece { at: 12, ..piece(0, 114, 3) },
        ];
        let object: Vec<u8> = (0..200).collect();
        for chunk in 1..20 {
            let mut part = vec![0; 30];
            for at in (100..117).step_by(chunk) {
                scatter(&object[at..(at + chunk).min(117)], at as u64, &pieces, 10, &mut part);
            }
            assert_eq!(part[..10], object[100..110]);
            assert_eq!(part[20..], object[100..110]);
            assert_eq!(part[10..20], [0, 0, 114, 115, 116, 0, 0, 0, 0, 0]);
        }
    }
}
