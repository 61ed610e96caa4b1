//! Fetches the data of one part's files with few reads: neighbours in an object are read together, and several reads are under way at
//! once within a budget of memory.

use std::ops::Range;
use std::sync::Arc;

use adit_shared::objects::{ObjectError, ObjectStore};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use tokio::sync::Semaphore;

use crate::error::BuildError;
use crate::plan::{Draft, Piece, Plan};

/// Longest single read in bytes.
const MAX_READ: u64 = 2 << 20;
/// Bytes between two pieces that are read and thrown away, because another request would take longer.
const MAX_GAP: u64 = 128 << 10;
/// Bytes that reads of one build may hold at once.
const BUDGET: usize = 8 << 20;
/// Reads under way at once for one part.
const READS: usize = 16;

/// A part with its data.
#[derive(Debug)]
pub(crate) struct Filled {
    /// The part's bytes.
    pub(crate) bytes: BytesMut,
    /// Where the files' data stands in them.
    pub(crate) pieces: Vec<Piece>,
}

/// Reads the data of a build's files.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    objects: Arc<dyn ObjectStore>,
    plan: Arc<Plan>,
    budget: Arc<Semaphore>,
}

/// A stretch of an object that one piece wants, no longer than one read.
#[derive(Debug, Clone, Copy)]
struct Slice {
    object: u32,
    from: u64,
    len: u64,
    /// Where it goes in the part.
    at: usize,
    position: u64,
}

/// Slices that one read brings.
#[derive(Debug)]
struct Run {
    object: u32,
    range: Range<u64>,
    slices: Range<usize>,
}

impl Reader {
    pub(crate) fn new(objects: Arc<dyn ObjectStore>, plan: Arc<Plan>) -> Self {
        Self { objects, plan, budget: Arc::new(Semaphore::new(BUDGET)) }
    }

    /// Draws part `number` up and fills the files' data in.
    pub(crate) async fn part(&self, number: u32) -> Result<Filled, BuildError> {
        let plan = self.plan.clone();
        let Draft { mut bytes, pieces } = tokio::task::spawn_blocking(move || plan.draft(number)).await??;
        let slices = slices(&pieces);
        let mut reads = stream::iter(runs(&slices)).map(|run| self.read(run)).buffer_unordered(READS);
        while let Some((run, result, permit)) = reads.next().await {
            let read = match result {
                Ok(read) => read,
                Err(error) => return Err(self.blame(error, &slices[run.slices]).await),
            };
            for slice in &slices[run.slices] {
                let from = (slice.from - run.range.start) as usize;
                let len = slice.len as usize;
                bytes[slice.at..slice.at + len].copy_from_slice(&read[from..from + len]);
            }
            drop(permit);
        }
        drop(reads);
        Ok(Filled { bytes, pieces })
    }

    /// The bytes of the piece's file that come before the piece, in reads that a caller can take one by one.
    pub(crate) fn before(&self, piece: &Piece) -> impl Iterator<Item = Piece> + use<> {
        let piece = *piece;
        let start = piece.from - piece.skipped;
        (0..piece.skipped).step_by(MAX_READ as usize).map(move |skipped| Piece {
            len: MAX_READ.min(piece.skipped - skipped) as usize,
            from: start + skipped,
            skipped,
            ..piece
        })
    }

    /// The bytes of one piece, which must not be longer than a read.
    pub(crate) async fn piece(&self, piece: &Piece) -> Result<Bytes, BuildError> {
        match self.objects.get(self.plan.object(piece.object), Some(piece.range())).await {
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(self.blame(error, &slices(&[*piece])).await),
        }
    }

    async fn read(&self, run: Run) -> (Run, Result<Bytes, ObjectError>, Option<tokio::sync::SemaphorePermit<'_>>) {
        let len = u32::try_from(run.range.end - run.range.start).unwrap_or(u32::MAX);
        // The semaphore is never closed; without a permit the read would only be unbudgeted.
        let permit = self.budget.acquire_many(len).await.ok();
        let result = self.objects.get(self.plan.object(run.object), Some(run.range.clone())).await;
        (run, result, permit)
    }

    /// Says which document could not be read, where the store answered that its bytes are not there.
    async fn blame(&self, error: ObjectError, slices: &[Slice]) -> BuildError {
        if matches!(error, ObjectError::Unavailable(_) | ObjectError::Refused(_)) {
            return error.into();
        }
        let Some(mut blamed) = slices.first() else { return error.into() };
        if let (ObjectError::OutOfRange { key, .. }, true) = (&error, slices.len() > 1) {
            // The pack was cut: the first document beyond its end is the one.
            match self.objects.size(key).await {
                Ok(Some(size)) => blamed = slices.iter().find(|s| s.from + s.len > size).unwrap_or(blamed),
                Ok(None) => {}
                Err(error) => return error.into(),
            }
        }
        self.document(blamed.position, error.to_string())
    }

    /// The error that names the document of the file at `position`.
    pub(crate) fn document(&self, position: u64, reason: String) -> BuildError {
        match self.plan.name(position) {
            Ok((r#ref, path)) => BuildError::Document { r#ref, path, reason },
            Err(error) => error.into(),
        }
    }
}

/// What the pieces want, in the order in which it lies in the objects.
fn slices(pieces: &[Piece]) -> Vec<Slice> {
    let cut = |piece: &Piece| {
        let Piece { at, len, object, from, position, .. } = *piece;
        (0..len as u64).step_by(MAX_READ as usize).map(move |skip| Slice {
            object,
            from: from + skip,
            len: MAX_READ.min(len as u64 - skip),
            at: at + skip as usize,
            position,
        })
    };
    let mut slices: Vec<Slice> = pieces.iter().flat_map(cut).collect();
    slices.sort_by_key(|slice| (slice.object, slice.from));
    slices
}

/// Joins neighbours to reads.
fn runs(slices: &[Slice]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (i, slice) in slices.iter().enumerate() {
        let end = slice.from + slice.len;
        match runs.last_mut() {
            Some(run)
                if run.object == slice.object
                    && slice.from <= run.range.end + MAX_GAP
                    && end - run.range.start <= MAX_READ =>
            {
                run.range.end = run.range.end.max(end);
                run.slices.end = i + 1;
            }
            _ => runs.push(Run { object: slice.object, range: slice.from..end, slices: i..i + 1 }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(object: u32, from: u64, len: u64) -> Slice {
        Slice { object, from, len, at: 0, position: 0 }
    }

    fn ranges(slices: &[Slice]) -> Vec<(u32, Range<u64>)> {
        runs(slices).into_iter().map(|run| (run.object, run.range)).collect()
    }

    #[test]
    fn neighbours_are_read_together_and_strangers_alone() {
        let near = [slice(0, 10, 5), slice(0, 33, 5), slice(0, 38 + MAX_GAP, 1)];
        assert_eq!(ranges(&near), [(0, 10..39 + MAX_GAP)]);
        assert_eq!(ranges(&[slice(0, 0, 1), slice(0, 2 + MAX_GAP, 1)]).len(), 2);
        assert_eq!(ranges(&[slice(0, 0, 1), slice(1, 1, 1)]).len(), 2);
    }

    #[test]
    fn no_read_is_longer_than_the_longest() {
        let full = [slice(0, 0, MAX_READ - 1), slice(0, MAX_READ - 1, 1), slice(0, MAX_READ, 1)];
        assert_eq!(ranges(&full), [(0, 0..MAX_READ), (0, MAX_READ..MAX_READ + 1)]);
    }

    #[test]
    fn files_that_share_their_bytes_are_read_once() {
        assert_eq!(ranges(&[slice(0, 0, 50), slice(0, 0, 50), slice(0, 10, 5)]), [(0, 0..50)]);
    }
}
