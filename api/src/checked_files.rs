//! Stored files that are read only as what was imported (docs/decisions/0015-checked-reads.md).
//!
//! A short file is read whole and proved by its SHA-256. A longer one is proved once by a pass over all of
//! it, which leaves a checksum of each block in memory; from then on blocks are read, and each is compared
//! before anything of it leaves. So a range costs its own blocks, and wrong bytes never leave.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use adit_shared::domain::FileRecord;
use adit_shared::integrity::{FileCheck, FileDamage, FileFault, prove_file};
use adit_shared::objects::{ObjectError, ObjectStore};
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::Semaphore;

/// Files up to this length are in memory while they are sent; it is also the least length of a block. The
/// folder store reads as much at a time.
const SHORT: u64 = 64 * 1024;
/// Most blocks of one file: a longer file has longer blocks.
const MAX_BLOCKS: u64 = 16 * 1024;
/// Files whose checksums are kept, the last used first; each takes 64 KiB at most.
const KEPT: usize = 256;
/// Passes over whole files at one time. Each takes a core for a part of a second for each GB.
const PASSES: usize = 2;

/// Proves files, and remembers the checksums of their blocks. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct CheckedFiles(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    known: Mutex<VecDeque<Arc<BlockSums>>>,
    passes: Semaphore,
}

/// The checksums of a file's blocks.
#[derive(Debug)]
struct BlockSums {
    object: String,
    offset: u64,
    length: u64,
    /// Length of each block but the last.
    block: u64,
    sums: Vec<u32>,
}

/// A file that can be read.
#[derive(Debug)]
pub(crate) struct CheckedFile(Content);

#[derive(Debug)]
enum Content {
    Short(Bytes),
    Long(Arc<BlockSums>),
}

impl Default for CheckedFiles {
    fn default() -> Self {
        Self(Arc::new(Inner { known: Mutex::default(), passes: Semaphore::new(PASSES) }))
    }
}

impl CheckedFiles {
    /// Proves a file, unless it was proved already.
    ///
    /// # Errors
    /// [`FileFault::Damaged`] where it is not what was imported.
    pub(crate) async fn open(
        &self,
        objects: &Arc<dyn ObjectStore>,
        file: &FileRecord,
    ) -> Result<CheckedFile, FileFault> {
        let place = &file.place;
        if place.stored == 0 {
            return Ok(CheckedFile(Content::Short(Bytes::new())));
        }
        if place.stored <= SHORT {
            let bytes = objects.get(&place.object, Some(place.offset..place.offset + place.stored)).await?;
            FileCheck::prove(file, &bytes)?;
            return Ok(CheckedFile(Content::Short(bytes)));
        }
        if let Some(known) = self.find(file) {
            return Ok(CheckedFile(Content::Long(known)));
        }
        // In a task of its own: a request may be given up before a very long file is proved, and the next
        // one goes on from there.
        let (files, objects, file) = (self.clone(), Arc::clone(objects), file.clone());
        let pass = tokio::spawn(async move { files.pass(&*objects, &file).await });
        let broken = |error: tokio::task::JoinError| FileFault::Store(ObjectError::Unavailable(error.to_string()));
        pass.await.map_err(broken)?.map(|sums| CheckedFile(Content::Long(sums)))
    }

    /// Forgets a file, so that the next one who asks for it has it proved anew.
    fn forget(&self, sums: &Arc<BlockSums>) {
        self.known().retain(|known| !Arc::ptr_eq(known, sums));
    }

    async fn pass(&self, objects: &dyn ObjectStore, file: &FileRecord) -> Result<Arc<BlockSums>, FileFault> {
        let _place = self.0.passes.acquire().await;
        // Who waited may have waited for the same file.
        if let Some(known) = self.find(file) {
            return Ok(known);
        }
        let mut summing = Summing::new(file.place.stored);
        prove_file(objects, file, |bytes| summing.update(bytes)).await?;
        let sums = Arc::new(summing.finish(file));
        let mut known = self.known();
        known.push_front(Arc::clone(&sums));
        known.truncate(KEPT);
        Ok(sums)
    }

    fn find(&self, file: &FileRecord) -> Option<Arc<BlockSums>> {
        let place = &file.place;
        let is_this = |known: &Arc<BlockSums>| {
            (known.offset, known.length) == (place.offset, place.stored) && known.object == place.object
        };
        let mut known = self.known();
        let at = known.iter().position(is_this)?;
        let sums = known.remove(at)?;
        known.push_front(Arc::clone(&sums));
        Some(sums)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<BlockSums>>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a range of a file's stored bytes. The first block is compared before this comes back; where a
    /// later one is damaged, the stream ends in an error before any of it.
    ///
    /// # Errors
    /// [`FileFault::Damaged`] where the first block is not what it was.
    pub(crate) async fn read(
        &self,
        objects: &Arc<dyn ObjectStore>,
        file: &CheckedFile,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, FileFault>>, FileFault> {
        let sums = match &file.0 {
            Content::Short(bytes) => {
                let bytes = bytes.slice(range.start as usize..range.end as usize);
                return Ok(stream::iter(Some(Ok(bytes))).boxed());
            }
            Content::Long(sums) => sums,
        };
        let first = range.start / sums.block;
        let start = first * sums.block;
        let end = range.end.div_ceil(sums.block).saturating_mul(sums.block).min(sums.length);
        let chunks = objects.read(&sums.object, Some(sums.offset + start..sums.offset + end)).await?;
        let blocks = Blocks { chunks, sums: Arc::clone(sums), number: first, buffer: BytesMut::new() };
        let (files, whole) = (self.clone(), Arc::clone(sums));
        let mut blocks = stream::try_unfold(blocks, |mut blocks| async {
            Ok::<_, FileFault>(blocks.next().await?.map(|block| (block, blocks)))
        })
        .inspect_err(move |_| files.forget(&whole))
        .boxed();
        let block = sums.block;
        let cut = move |(number, bytes): (u64, Bytes)| {
            let at = number * block;
            let within = |edge: u64| (edge.clamp(at, at + bytes.len() as u64) - at) as usize;
            bytes.slice(within(range.start)..within(range.end))
        };
        let Some(first) = blocks.try_next().await? else { return Ok(stream::empty().boxed()) };
        Ok(stream::iter(Some(Ok(cut(first)))).chain(blocks.map_ok(cut)).boxed())
    }
}

/// The blocks of a file as they come from the store.
struct Blocks {
    chunks: BoxStream<'static, Result<Bytes, ObjectError>>,
    sums: Arc<BlockSums>,
    /// Of the next block.
    number: u64,
    buffer: BytesMut,
}

impl Blocks {
    /// The next block with its number, compared; `None` at the end of what is read.
    async fn next(&mut self) -> Result<Option<(u64, Bytes)>, FileFault> {
        let left = self.sums.length.saturating_sub(self.number * self.sums.block);
        let wanted = left.min(self.sums.block) as usize;
        while self.buffer.len() < wanted {
            match self.chunks.try_next().await? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => break,
            }
        }
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let block = self.buffer.split_to(wanted.min(self.buffer.len())).freeze();
        let number = self.number;
        if self.sums.sums.get(number as usize) != Some(&crc32fast::hash(&block)) {
            return Err(FileDamage::OtherContent.into());
        }
        self.number += 1;
        Ok(Some((number, block)))
    }
}

/// Sums up blocks of bytes that come in chunks.
struct Summing {
    block: u64,
    sums: Vec<u32>,
    open: crc32fast::Hasher,
    in_open: u64,
}

impl Summing {
    fn new(length: u64) -> Self {
        let block = length.div_ceil(MAX_BLOCKS).next_multiple_of(SHORT);
        Self { block, sums: Vec::new(), open: crc32fast::Hasher::new(), in_open: 0 }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min((self.block - self.in_open) as usize));
            self.open.update(now);
            self.in_open += now.len() as u64;
            bytes = later;
            if self.in_open == self.block {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        self.sums.push(std::mem::take(&mut self.open).finalize());
        self.in_open = 0;
    }

    fn finish(mut self, file: &FileRecord) -> BlockSums {
        if self.in_open > 0 {
            self.close();
        }
        let place = &file.place;
        BlockSums {
            object: place.object.clone(),
            offset: place.offset,
            length: place.stored,
            block: self.block,
            sums: self.sums,
        }
    }
}
