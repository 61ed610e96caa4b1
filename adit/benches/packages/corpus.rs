//! Collection folders to be measured with: the same bytes for the same name and number, whoever makes them.

use std::fmt;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::json;

use super::Outcome;
use super::support::noise;

/// Documents of one folder: more in one would measure the file system.
pub(crate) const FOLDER: u64 = 1000;

/// Kinds of corpora.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Texts of 50 kB that deflate to two fifths; packaged with their metadata.
    Texts,
    /// Texts of 50 kB and "PDFs" of 150 kB to 1 MB that do not deflate.
    Papers,
    /// Notes of 200 bytes.
    Notes,
}

impl Kind {
    /// What is asked for.
    pub(crate) fn formats(self) -> &'static [&'static str] {
        match self {
            Self::Texts => &["txt", "meta"],
            Self::Papers => &["pdf", "txt", "meta"],
            Self::Notes => &["txt"],
        }
    }

    /// Bytes of a text.
    fn text(self) -> usize {
        match self {
            Self::Texts | Self::Papers => 50_000,
            Self::Notes => 200,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Texts => "texts",
            Self::Papers => "papers",
            Self::Notes => "notes",
        })
    }
}

/// A corpus to be measured: its kind and number of documents, written `texts:1000`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) kind: Kind,
    pub(crate) documents: u64,
}

impl FromStr for Run {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("ADIT_BENCH_RUNS: {text:?} is none of texts:N, papers:N, notes:N");
        let (kind, documents) = text.split_once(':').ok_or_else(wrong)?;
        let kinds = [Kind::Texts, Kind::Papers, Kind::Notes];
        let kind = kinds.into_iter().find(|other| other.to_string() == kind).ok_or_else(wrong)?;
        Ok(Self { kind, documents: documents.parse().map_err(|_| wrong())? })
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.documents)
    }
}

/// A collection folder.
#[derive(Debug)]
pub(crate) struct Corpus {
    pub(crate) run: Run,
    pub(crate) folder: PathBuf,
}

impl Corpus {
    /// Writes the folder below `parent`.
    pub(crate) fn write(run: &Run, parent: &Path) -> Outcome<Self> {
        let folder = parent.join("corpus");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("collection.json"), json!({"slug": "corpus", "name": "Corpus"}).to_string())?;
        let mut lines = BufWriter::new(File::create(folder.join("documents.jsonl"))?);
        let words: Vec<String> = (0..1 << 16).map(word).collect();
        for id in 0..run.documents {
            let dir = format!("files/{:05}", id / FOLDER);
            if id % FOLDER == 0 {
                fs::create_dir_all(folder.join(&dir))?;
            }
            let file = |format: &str, content: &[u8]| -> Outcome<_> {
                let path = format!("{dir}/{id:07}.{format}");
                fs::write(folder.join(&path), content)?;
                Ok(json!({"format": format, "path": path}))
            };
            let mut files = vec![file("txt", prose(id, run.kind.text(), &words).as_bytes())?];
            if run.kind == Kind::Papers {
                files.push(file("pdf", &pdf(id))?);
            }
            let metadata = json!({"title": format!("On {}", words[id as usize % words.len()]), "issued": "2020-05-01"});
            writeln!(
                lines,
                "{}",
                json!({"ref": format!("{}.{id:07}", run.kind), "metadata": metadata, "files": files})
            )?;
        }
        lines.flush()?;
        Ok(Self { run: *run, folder })
    }
}

/// Bytes that look like a PDF to whoever would compress them.
fn pdf(id: u64) -> Vec<u8> {
    let chance = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    noise(id, 150_000 + (chance % 850_000) as usize)
}

/// The word of that rank: the more frequent, the shorter.
fn word(mut rank: usize) -> String {
    let mut word = String::new();
    loop {
        word.push(char::from(b"bcdfghklmnprstvz"[rank % 16]));
        word.push(char::from(b"aeio"[rank / 16 % 4]));
        rank /= 64;
        if rank == 0 {
            return word;
        }
    }
}

/// A text in which few words are frequent and most are rare, as in any language.
fn prose(seed: u64, length: usize, words: &[String]) -> String {
    let mut text = String::with_capacity(length + 16);
    for dice in noise(seed ^ 0x7e97, length * 4).chunks_exact(8) {
        let [a, b, c, d] = [0, 2, 4, 6].map(|at| usize::from(u16::from_le_bytes([dice[at], dice[at + 1]])));
        text.push_str(&words[(((a * b) >> 16) * ((c * d) >> 16)) >> 16]);
        text.push(' ');
        if text.len() >= length {
            break;
        }
    }
    text.truncate(length);
    text
}
