//! The corpora that packages are made of.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Outcome;
use super::generator::{self, Length, Recipe};

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
        let pdf = (run.kind == Kind::Papers).then_some(150_000..1_000_000);
        let text = Length::Bytes(run.kind.text());
        let recipe =
            Recipe { slug: "corpus".to_owned(), documents: run.documents, seed: 1, text, pdf, described: false };
        generator::Corpus::write(recipe, &folder)?;
        Ok(Self { run: *run, folder })
    }
}
