//! What nobody can be faster than who stores the same bytes in the same way: to read the files, to compress each as an import does, and to write what
//! comes out to as many files as there are cores, and to the disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::Outcome;
use super::generator::{Corpus, FOLDER};

/// Bytes that are written at once.
const PART: usize = 8 << 20;

/// Shortest times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw {
    /// To read all files.
    pub(crate) read: Duration,
    /// To read and compress them.
    pub(crate) compressed: Duration,
    /// To do all of it.
    pub(crate) written: Duration,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Read,
    Compress,
    Write,
}

impl Raw {
    /// Does the work on all cores, in files of its own below `folder` that are gone afterwards.
    pub(crate) fn measure(corpus: &Corpus, folder: &Path) -> Outcome<Self> {
        let time = |work| -> Outcome<Duration> {
            let began = Instant::now();
            run(corpus, folder, work)?;
            Ok(began.elapsed())
        };
        Ok(Self { read: time(Work::Read)?, compressed: time(Work::Compress)?, written: time(Work::Write)? })
    }

    pub(crate) fn least(&self, other: &Self) -> Self {
        Self {
            read: self.read.min(other.read),
            compressed: self.compressed.min(other.compressed),
            written: self.written.min(other.written),
        }
    }
}

fn run(corpus: &Corpus, folder: &Path, work: Work) -> Outcome<()> {
    let next = AtomicU64::new(0);
    let cores = thread::available_parallelism()?.get();
    let outputs: Vec<PathBuf> = (0..cores).map(|core| folder.join(format!("raw-{core}"))).collect();
    thread::scope(|scope| {
        let workers: Vec<_> =
            outputs.iter().map(|output| scope.spawn(|| worker(corpus, &next, output, work))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a thread panicked")?.map_err(Into::into))
    })
    .and_then(|()| {
        if work == Work::Write {
            outputs.iter().try_for_each(fs::remove_file)?;
        }
        Ok(())
    })
}

/// Takes one folder of files after the other.
fn worker(corpus: &Corpus, next: &AtomicU64, output: &Path, work: Work) -> io::Result<()> {
    let mut file = if work == Work::Write { Some(File::create(output)?) } else { None };
    let mut part = Vec::with_capacity(2 * PART);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number * FOLDER >= corpus.documents {
            break;
        }
        for document in number * FOLDER..corpus.documents.min((number + 1) * FOLDER) {
            let content = fs::read(corpus.folder.join(format!("files/{number:05}/{document:07}.txt")))?;
            if work >= Work::Compress {
                let mut encoder = GzEncoder::new(&mut part, Compression::default());
                encoder.write_all(&content)?;
                encoder.finish()?;
            }
            if part.len() >= PART {
                file.as_mut().map_or(Ok(()), |file| file.write_all(&part))?;
                part.clear();
            }
        }
    }
    let Some(mut file) = file else { return Ok(()) };
    file.write_all(&part)?;
    file.sync_all()
}
