//! One streamed asset, made from its beginning to its end by a thread that may block.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use adit_shared::domain::{Compression, FileRecord, Layout, META};
use adit_shared::objects::ObjectStore;
use serde_json::Map;
use tokio::sync::mpsc;

use super::columns::Columns;
use super::feed::{Feed, Wanted};
use super::lines::Lines;
use super::parts::{Meter, Parts};
use super::{Contents, Document, jsonl, parquet, tar};
use crate::error::BuildError;
use crate::plan::{Spool, Streamed, Stretch, Text, path};
use crate::read::Spare;

/// Bytes of a tag file that are read at once.
const CHUNK: u64 = 64 << 10;

/// What an asset is written as.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    /// A tar archive with everything in this folder, and behind the documents' files these.
    Tar(String, Vec<(&'static str, Text)>),
    /// Lines of JSON.
    Jsonl(Arc<Columns>, Compression),
    /// Parquet.
    Parquet(Arc<Columns>),
}

/// An asset.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) form: Form,
    /// The members, and where they stand there; see [`super::lines`].
    pub(crate) spool: Arc<Spool>,
    pub(crate) lines: Range<u64>,
    /// Members of the docset up to the last of them.
    pub(crate) members: u64,
    /// Bytes of their content.
    pub(crate) source: u64,
    /// The licence of documents that name none.
    pub(crate) license: Option<String>,
}

impl Streamed for Shard {
    fn source(&self) -> u64 {
        self.source
    }

    fn start(
        self: Arc<Self>,
        objects: Arc<dyn ObjectStore>,
        part_size: usize,
        spare: Spare,
    ) -> mpsc::Receiver<Result<Stretch, BuildError>> {
        let (sender, stretches) = mpsc::channel(1);
        let meter = Meter::default();
        let lines = Lines::new(self.spool.clone(), self.lines.clone());
        let feed = Feed::new(lines, self.wanted(), objects, meter.bytes.clone());
        tokio::task::spawn_blocking(move || {
            let parts = Parts::new(sender.clone(), part_size, spare, meter.clone());
            if let Err(error) = self.write(parts, feed, &meter) {
                // Nobody listens if nobody wants it any more.
                _ = sender.blocking_send(Err(error.into()));
            }
        });
        stretches
    }
}

impl Shard {
    /// Tables take the metadata from the manifest.
    fn wanted(&self) -> Wanted {
        match self.form {
            Form::Tar(..) => Arc::new(|_: &FileRecord| true),
            Form::Jsonl(..) | Form::Parquet(_) => Arc::new(|file: &FileRecord| file.format.as_str() != META),
        }
    }

    fn write(&self, out: Parts, mut feed: Feed, meter: &Meter) -> io::Result<()> {
        match &self.form {
            Form::Tar(folder, tags) => {
                let mut writer = tar::Writer::new(out)?;
                self.each(meter, |document| {
                    document.files.iter().try_for_each(|file| {
                        let path = format!("{folder}{}", path(Layout::TarZst, document.name, &file.format));
                        writer.entry(&path, file.size, &mut feed.open(document, file)?)
                    })
                })?;
                for (name, text) in tags {
                    writer.entry(&format!("{folder}{name}"), text.size, &mut TextReader::new(text))?;
                }
                writer.finish()?.finish()
            }
            Form::Jsonl(columns, compression) => {
                let mut writer = jsonl::Writer::new(out, columns, *compression)?;
                self.each(meter, |document| writer.row(document, &mut feed))?;
                writer.finish()?.finish()
            }
            Form::Parquet(columns) => {
                let mut writer = parquet::Writer::new(out, columns)?;
                self.each(meter, |document| writer.row(document, &mut feed))?;
                writer.finish()?.finish()
            }
        }
    }

    /// Gives every document to `write`.
    fn each(&self, meter: &Meter, mut write: impl FnMut(&Document<'_>) -> io::Result<()>) -> io::Result<()> {
        let mut lines = Lines::new(self.spool.clone(), self.lines.clone());
        let (wanted, none) = (self.wanted(), Map::new());
        let marked = match &self.form {
            Form::Tar(..) => false,
            Form::Jsonl(columns, _) | Form::Parquet(columns) => columns.marked(),
        };
        while let Some((_, index, member)) = lines.next()? {
            write(&Document::of(&member, self.license.as_deref(), &none, marked))?;
            // What is not read is done with too.
            let unread = member.files.iter().filter(|file| !wanted(file)).map(|file| file.size).sum();
            meter.bytes.fetch_add(unread, Ordering::Relaxed);
            meter.members.store(index + 1, Ordering::Relaxed);
        }
        meter.members.store(self.members, Ordering::Relaxed);
        Ok(())
    }
}

/// Reads a tag file.
struct TextReader<'a> {
    text: &'a Text,
    position: u64,
}

impl<'a> TextReader<'a> {
    fn new(text: &'a Text) -> Self {
        Self { text, position: 0 }
    }
}

impl Read for TextReader<'_> {
    fn read(&mut self, mut out: &mut [u8]) -> io::Result<usize> {
        let len = (self.text.size - self.position).min(out.len() as u64).min(CHUNK);
        let mut bytes = Vec::with_capacity(len as usize);
        self.text.read(self.position, len, &mut bytes)?;
        self.position += len;
        out.write(&bytes)
    }
}
