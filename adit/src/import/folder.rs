//! Reads a collection folder: `collection.json`, `documents.jsonl` and the files that it names.
//!
//! Nothing is trusted: every line is checked, every path must stay inside the folder.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr as _;

use adit_shared::digest::Sha256;
use adit_shared::domain::{Access, Entitlement, Format, META, Tdm};
use adit_shared::search::Language;
use adit_shared::store::NewCollection;
use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

/// Longest ref in bytes.
const MAX_REF: usize = 1000;
/// Longest line of `documents.jsonl` in bytes.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// Most lines of a batch.
pub(crate) const BATCH_LINES: usize = 256;
/// A batch ends with the line that brings it to this length in bytes.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// A document as the folder describes it, checked.
#[derive(Debug, Clone)]
pub(crate) struct SourceDocument {
    /// Line in `documents.jsonl`, from 1.
    pub(crate) line: u64,
    /// The work's name.
    pub(crate) r#ref: String,
    /// Dublin Core metadata.
    pub(crate) metadata: Map<String, Value>,
    /// Who may have its files: as its metadata says, else its collection.
    pub(crate) access: Access,
    /// Its files, in the folder's order.
    pub(crate) files: Vec<SourceFile>,
}

/// A file as the folder describes it.
#[derive(Debug, Clone)]
pub(crate) struct SourceFile {
    pub(crate) format: Format,
    pub(crate) media_type: String,
    /// Absolute, inside the folder.
    pub(crate) path: PathBuf,
    /// In bytes, when its line was read.
    pub(crate) length: u64,
}

/// A line that cannot be imported: where, and why.
#[derive(Debug)]
pub(crate) struct BadLine {
    pub(crate) line: u64,
    pub(crate) reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CollectionJson {
    slug: String,
    name: String,
    #[serde(default)]
    description: String,
    license: Option<String>,
    access: Option<String>,
    tdm: Option<Tdm>,
    language: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Line {
    r#ref: String,
    #[serde(default)]
    metadata: Map<String, Value>,
    #[serde(default)]
    files: Vec<FileLine>,
}

#[derive(Debug, Deserialize)]
struct FileLine {
    format: String,
    path: PathBuf,
    media_type: Option<String>,
}

/// What is read and imported at once.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// At most [`BATCH_LINES`].
    pub(crate) documents: Vec<SourceDocument>,
    /// Lines that were left out.
    pub(crate) bad: Vec<BadLine>,
    /// Length of all these lines.
    pub(crate) bytes: usize,
}

/// An opened collection folder; iterates over its documents.
#[derive(Debug)]
pub(crate) struct Folder<R = BufReader<File>> {
    root: PathBuf,
    /// Who may have the files of documents that do not say it.
    access: Access,
    /// What restricted documents need that do not say it.
    entitlement: Entitlement,
    reader: R,
    line: u64,
    // Half a digest of each ref is enough to tell a million of them apart, in a tenth of the memory.
    seen: HashSet<[u8; 16]>,
}

impl Folder {
    /// Opens a folder and reads its `collection.json`.
    pub(crate) fn open(path: &Path) -> anyhow::Result<(NewCollection, Self)> {
        let root = path.canonicalize().with_context(|| format!("there is no folder {}", path.display()))?;
        let file = root.join("collection.json");
        let text = std::fs::read(&file).with_context(|| {
            format!("cannot read {}; a collection folder has collection.json and documents.jsonl", file.display())
        })?;
        let (collection, entitlement) = read_collection(&text, &file)?;
        let documents = root.join("documents.jsonl");
        let reader = File::open(&documents).with_context(|| format!("cannot read {}", documents.display()))?;
        let reader = BufReader::with_capacity(1 << 20, reader);
        let access = collection.access.clone();
        Ok((collection, Self::new(root, access, entitlement, reader)))
    }

    /// Length of `documents.jsonl` in bytes, for the progress bar.
    pub(crate) fn length(&self) -> u64 {
        self.reader.get_ref().metadata().map_or(0, |metadata| metadata.len())
    }

    /// Reads the folder on a thread of its own, one batch ahead; `None` is its end. A read may block for as long as it likes: whoever
    /// waits for the batch can do something else, and the thread does not keep the process from ending.
    pub(crate) fn batches(mut self) -> anyhow::Result<mpsc::Receiver<anyhow::Result<Option<Batch>>>> {
        let (sender, receiver) = mpsc::channel(1);
        let read = move || {
            loop {
                let batch = self.next_batch();
                let last = !matches!(batch, Ok(Some(_)));
                if sender.blocking_send(batch).is_err() || last {
                    break;
                }
            }
        };
        std::thread::Builder::new().name("folder".to_owned()).spawn(read).context("no thread to read the folder")?;
        Ok(receiver)
    }
}

impl<R: BufRead> Folder<R> {
    /// Reads the lines of `reader`, whose paths lead into `root`.
    pub(super) fn new(root: PathBuf, access: Access, entitlement: Entitlement, reader: R) -> Self {
        Self { root, access, entitlement, reader, line: 0, seen: HashSet::new() }
    }

    fn next_batch(&mut self) -> anyhow::Result<Option<Batch>> {
        let mut batch = Batch::default();
        while batch.documents.len() + batch.bad.len() < BATCH_LINES && batch.bytes < BATCH_BYTES {
            let Some((length, line)) = self.next()? else { break };
            batch.bytes += length;
            match line {
                Ok(document) => batch.documents.push(document),
                Err(bad) => batch.bad.push(bad),
            }
        }
        Ok((batch.bytes > 0).then_some(batch))
    }

    /// The next line that is not empty, with its length in bytes; `None` at the end.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<(usize, Result<SourceDocument, BadLine>)>> {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            self.line += 1;
            let read = std::io::Read::take(&mut self.reader, MAX_LINE as u64 + 1).read_until(b'\n', &mut bytes);
            if read.with_context(|| format!("cannot read documents.jsonl at line {}", self.line))? == 0 {
                return Ok(None);
            }
            if bytes.len() > MAX_LINE {
                bail!("documents.jsonl:{}: the line is longer than {MAX_LINE} bytes", self.line);
            }
            if !bytes.trim_ascii().is_empty() {
                break;
            }
        }
        let line = self.line;
        Ok(Some((bytes.len(), self.read_line(&bytes).map_err(|reason| BadLine { line, reason }))))
    }

    fn read_line(&mut self, bytes: &[u8]) -> Result<SourceDocument, String> {
        let line: Line = serde_json::from_slice(bytes).map_err(|error| match error.column() {
            0 => error.to_string(),
            column => format!("column {column}: {}", without_place(&error.to_string())),
        })?;
        if line.r#ref.is_empty() || line.r#ref.len() > MAX_REF || line.r#ref.contains('\0') {
            return Err(format!("ref must have 1 to {MAX_REF} bytes and no NUL"));
        }
        let access = Access::of(&line.metadata, &self.entitlement).map_err(|error| error.to_string())?;
        let access = access.unwrap_or_else(|| self.access.clone());
        Tdm::of(&line.metadata).map_err(|error| error.to_string())?;
        let mut key = [0; 16];
        key.copy_from_slice(&Sha256::of(line.r#ref.as_bytes()).0[..16]);
        let mut files: Vec<SourceFile> = Vec::with_capacity(line.files.len());
        for file in line.files {
            let file = self.check_file(file)?;
            if files.iter().any(|other| other.format == file.format) {
                return Err(format!("two files in format {}; a document has one in each", file.format));
            }
            files.push(file);
        }
        // Last, so that a line with another mistake does not take the ref from a good one behind it.
        if !self.seen.insert(key) {
            return Err(format!("ref {:?} stands on an earlier line too; each document needs its own", line.r#ref));
        }
        Ok(SourceDocument { line: self.line, r#ref: line.r#ref, metadata: line.metadata, access, files })
    }

    fn check_file(&self, file: FileLine) -> Result<SourceFile, String> {
        let format: Format =
            file.format.parse().map_err(|error: adit_shared::domain::InvalidFormat| error.to_string())?;
        if matches!(format.as_str(), META | "json") {
            // Both would be `{name}.json` in an archive.
            return Err(format!("the format {format} is kept for the metadata; choose another name, such as data"));
        }
        let shown = file.path.display();
        let plain = file.path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !plain {
            return Err(format!("the path {shown} leaves the folder; it must be relative, without .."));
        }
        let path = self.root.join(&file.path);
        let real = path.canonicalize().map_err(|error| format!("the file {shown} cannot be read: {error}"))?;
        if !real.starts_with(&self.root) {
            return Err(format!("the path {shown} leaves the folder by a link"));
        }
        let Some(found) = real.metadata().ok().filter(Metadata::is_file) else {
            return Err(format!("{shown} is not a file"));
        };
        let media_type = file.media_type.unwrap_or_else(|| default_media_type(format.as_str()).to_owned());
        let header_safe = media_type.contains('/') && media_type.bytes().all(|b| (0x20..0x7f).contains(&b));
        if !header_safe {
            return Err(format!("media_type {media_type:?} is not a media type such as text/plain; charset=utf-8"));
        }
        Ok(SourceFile { format, media_type, path: real, length: found.len() })
    }
}

/// Reads the content of `collection.json`; also what its restricted documents need that do not say
/// it.
pub(super) fn read_collection(text: &[u8], file: &Path) -> anyhow::Result<(NewCollection, Entitlement)> {
    let collection: CollectionJson =
        serde_json::from_slice(text).with_context(|| format!("{} is not as it should be", file.display()))?;
    let slug_ok = (1..=64).contains(&collection.slug.len())
        && collection.slug.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    if !slug_ok {
        bail!("{}: slug must be 1 to 64 of a-z, 0-9, - and _, not {:?}", file.display(), collection.slug);
    }
    let wrong = |member: &str| format!("{}: {member}", file.display());
    let own: Entitlement = collection.slug.parse()?;
    let access = collection.access.map(|text| Access::parse(&text, &own)).transpose();
    let access = access.with_context(|| wrong("access"))?.unwrap_or_default();
    let entitlement = access.entitlement().unwrap_or(&own).clone();
    let tdm = collection.tdm.map(Tdm::checked).transpose().with_context(|| wrong("tdm"))?;
    let language = collection.language.as_deref().map(Language::from_str).transpose();
    let language = language.with_context(|| format!("{}: \"language\"", file.display()))?;
    let CollectionJson { slug, name, description, license, .. } = collection;
    Ok((NewCollection { slug, name, description, license, access, tdm, language }, entitlement))
}

/// `serde_json` ends its messages with "at line 1 column 7", which would mislead: it sees only one line.
fn without_place(message: &str) -> &str {
    message.rfind(" at line ").map_or(message, |end| &message[..end])
}

fn default_media_type(format: &str) -> &'static str {
    match format {
        "txt" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "html" => "text/html; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "xml" => "application/xml",
        "pdf" => "application/pdf",
        "epub" => "application/epub+zip",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(lines: &str) -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("collection.json"), r#"{"slug": "c", "name": "C"}"#).unwrap();
        std::fs::write(dir.path().join("a.txt"), "text").unwrap();
        std::fs::write(dir.path().join("documents.jsonl"), lines).unwrap();
        let (_, folder) = Folder::open(dir.path()).unwrap();
        (dir, folder)
    }

    fn reasons(lines: &str) -> Vec<(u64, String)> {
        let (_dir, mut folder) = folder(lines);
        let mut reasons = Vec::new();
        while let Some((_, document)) = folder.next().unwrap() {
            if let Err(bad) = document {
                reasons.push((bad.line, bad.reason));
            }
        }
        reasons
    }

    #[test]
    fn good_lines_are_read() {
        let (_dir, mut folder) = folder(
            "{\"ref\": \"one\", \"metadata\": {\"title\": \"T\"}, \"files\": [{\"format\": \"txt\", \"path\": \"a.txt\"}]}\n\n{\"ref\": \"two\"}",
        );
        let (_, one) = folder.next().unwrap().unwrap();
        let one = one.unwrap();
        assert_eq!(
            (one.line, one.r#ref.as_str(), one.files[0].media_type.as_str()),
            (1, "one", "text/plain; charset=utf-8")
        );
        assert_eq!(folder.next().unwrap().unwrap().1.unwrap().line, 3);
        assert!(folder.next().unwrap().is_none());
    }

    #[test]
    fn every_bad_line_is_named_with_its_reason() {
        let cases = [
            (r#"{"ref": "x""#, "column"),
            (r#"{"ref": ""}"#, "ref must have"),
            (r#"{"metadata": {}}"#, "missing field `ref`"),
            (r#"{"ref": "x", "metadata": []}"#, "invalid type"),
            (r#"{"ref": "x", "files": [{"format": "TXT", "path": "a.txt"}]}"#, "a format is"),
            (r#"{"ref": "x", "files": [{"format": "meta", "path": "a.txt"}]}"#, "kept for the metadata"),
            (r#"{"ref": "x", "files": [{"format": "txt", "path": "gone.txt"}]}"#, "gone.txt cannot be read"),
            (r#"{"ref": "x", "files": [{"format": "txt", "path": "../a.txt"}]}"#, "leaves the folder"),
            (r#"{"ref": "x", "files": [{"format": "txt", "path": "/etc/passwd"}]}"#, "leaves the folder"),
            (r#"{"ref": "x", "files": [{"format": "txt", "path": "."}]}"#, "not a file"),
            (r#"{"ref": "x", "files": [{"format": "txt", "path": "a.txt", "media_type": "a\nb"}]}"#, "media_type"),
            (
                r#"{"ref": "x", "files": [{"format": "txt", "path": "a.txt"}, {"format": "txt", "path": "a.txt"}]}"#,
                "two files",
            ),
        ];
        for (line, reason) in cases {
            let found = reasons(&format!("{{\"ref\": \"good\"}}\n{line}\n"));
            assert!(found.len() == 1 && found[0].0 == 2 && found[0].1.contains(reason), "{line}: {found:?}");
        }
    }

    #[test]
    fn a_batch_is_bounded_in_lines_and_in_bytes() {
        let sizes = |lines: &str| {
            let (_dir, mut folder) = folder(lines);
            let next = || folder.next_batch().unwrap().map(|batch| batch.documents.len() + batch.bad.len());
            std::iter::from_fn(next).collect::<Vec<_>>()
        };
        let short: String = (0..300).map(|i| format!("{{\"ref\": \"{i}\"}}\n")).collect();
        assert_eq!(sizes(&short), [BATCH_LINES, 300 - BATCH_LINES]);
        let padding = "x".repeat(BATCH_BYTES / 2);
        let long: String =
            (0..5).map(|i| format!("{{\"ref\": \"{i}\", \"metadata\": {{\"title\": \"{padding}\"}}}}\n")).collect();
        assert_eq!(sizes(&long), [2, 2, 1]);
        assert!(sizes("").is_empty());
    }

    #[test]
    fn a_ref_may_stand_once() {
        let found = reasons("{\"ref\": \"x\"}\n{\"ref\": \"X\"}\n{\"ref\": \"x\"}\n");
        assert!(found.len() == 1 && found[0].0 == 3 && found[0].1.contains("earlier line"), "{found:?}");
    }

    #[test]
    fn a_link_out_of_the_folder_is_refused() {
        let (dir, mut folder) = folder("{\"ref\": \"x\", \"files\": [{\"format\": \"txt\", \"path\": \"link.txt\"}]}");
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("link.txt")).unwrap();
        let bad = folder.next().unwrap().unwrap().1.unwrap_err();
        assert!(bad.reason.contains("by a link") || bad.reason.contains("cannot be read"), "{}", bad.reason);
    }
}
