//! Corpora of any size, made of chance: the same documents for the same recipe, whoever makes them, and each without the others.
//!
//! [`words`] makes texts, [`describe`] metadata; here they become documents and collection folders. What of such a corpus is as in real ones: lengths
//! of texts (log-normal), frequencies of words (Zipf) and so the growth of the vocabulary (Heaps), words that belong to a subject or are used again,
//! how often each value of each field occurs. What is not: grammar, and that words follow words.

mod describe;
mod words;

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Value, json};

use describe::Values;
pub(crate) use words::{Dice, Lexicon, topic_name, word};

/// Documents of one folder: more in one would measure the file system.
pub(crate) const FOLDER: u64 = 1000;

/// How long texts are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Length {
    /// So many bytes.
    Bytes(usize),
    /// So many words at the median; and as many bytes as that at least, 25 times as many at most.
    Words(u32),
}

/// What a corpus is made by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recipe {
    /// Of the collection; refs begin with it.
    pub(crate) slug: String,
    pub(crate) documents: u64,
    pub(crate) seed: u64,
    pub(crate) text: Length,
    /// Bytes of a "PDF" that does not deflate, if there is to be one.
    pub(crate) pdf: Option<Range<usize>>,
    /// Whether all metadata is there, or title and date only.
    pub(crate) described: bool,
}

impl Recipe {
    /// Texts of so many words with all metadata.
    pub(crate) fn texts(slug: &str, documents: u64, words: u32) -> Self {
        let text = Length::Words(words);
        Self { slug: slug.to_owned(), documents, seed: 1, text, pdf: None, described: true }
    }
}

/// A document.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) r#ref: String,
    pub(crate) metadata: Value,
    pub(crate) text: String,
    pub(crate) pdf: Option<Vec<u8>>,
}

/// Makes documents.
#[derive(Debug)]
pub(crate) struct Generator {
    recipe: Recipe,
    lexicon: Lexicon,
    values: Values,
}

impl Generator {
    pub(crate) fn new(recipe: Recipe) -> Self {
        Self { recipe, lexicon: Lexicon::default(), values: Values::default() }
    }

    /// The document of that number, from 0.
    pub(crate) fn document(&self, number: u64) -> Document {
        let recipe = &self.recipe;
        let mut dice = Dice::new(recipe.seed, 0, number);
        let topic = self.values.topic(&mut dice);
        let metadata = if recipe.described {
            self.values.metadata(&mut dice, &self.lexicon, number, topic)
        } else {
            json!({"title": format!("On {}", topic_name(topic)), "issued": "2020-05-01"})
        };
        let pdf = recipe.pdf.as_ref().map(|range| {
            let length = range.start as u64 + dice.below((range.end - range.start) as u64);
            dice.bytes(length as usize)
        });
        let r#ref = format!("{}.{number:07}", recipe.slug);
        Document { r#ref, metadata, text: self.text(&mut dice, topic), pdf }
    }

    fn text(&self, dice: &mut Dice, topic: usize) -> String {
        let (enough, least, most) = match self.recipe.text {
            Length::Bytes(bytes) => (0, bytes, bytes),
            Length::Words(median) => {
                let words = median as usize;
                (dice.log_normal(f64::from(median)) as usize, words, words * 25)
            }
        };
        let mut text = self
            .lexicon
            .prose(dice, topic, |words, text| text.len() >= most || (words >= enough && text.len() >= least));
        text.truncate(most);
        text
    }
}

/// A collection folder.
#[derive(Debug)]
pub(crate) struct Corpus {
    pub(crate) folder: PathBuf,
    pub(crate) documents: u64,
    /// Of all files.
    pub(crate) bytes: u64,
}

impl Corpus {
    /// Writes a collection folder, on all cores: files in folders of [`FOLDER`] documents each.
    pub(crate) fn write(recipe: Recipe, folder: &Path) -> io::Result<Self> {
        let documents = recipe.documents;
        fs::create_dir_all(folder)?;
        let collection = json!({"slug": recipe.slug, "name": format!("{documents} documents of chance")});
        fs::write(folder.join("collection.json"), collection.to_string())?;
        let mut lines = BufWriter::new(File::create(folder.join("documents.jsonl"))?);
        let generator = Generator::new(recipe);
        let cores = thread::available_parallelism().map_or(2, usize::from) as u64;
        let (folders, mut bytes) = (documents.div_ceil(FOLDER), 0);
        for first in (0..folders).step_by(cores as usize) {
            let parts = thread::scope(|scope| {
                let part = |number| {
                    scope.spawn({
                        let generator = &generator;
                        move || part(generator, folder, number)
                    })
                };
                let parts: Vec<_> = (first..folders.min(first + cores)).map(part).collect();
                let joined =
                    parts.into_iter().map(|part| part.join().map_err(|_| io::Error::other("a thread panicked"))?);
                joined.collect::<io::Result<Vec<_>>>()
            })?;
            for (part, length) in parts {
                lines.write_all(part.as_bytes())?;
                bytes += length;
            }
        }
        lines.flush()?;
        Ok(Self { folder: folder.to_owned(), documents, bytes })
    }
}

/// Writes the files of one folder; gives their lines for `documents.jsonl`, and their bytes.
fn part(generator: &Generator, root: &Path, number: u64) -> io::Result<(String, u64)> {
    let dir = format!("files/{number:05}");
    fs::create_dir_all(root.join(&dir))?;
    let (mut lines, mut bytes) = (String::new(), 0);
    for number in number * FOLDER..generator.recipe.documents.min((number + 1) * FOLDER) {
        let Document { r#ref, metadata, text, pdf } = generator.document(number);
        let mut files = Vec::new();
        for (format, content) in [("txt", Some(text.into_bytes())), ("pdf", pdf)] {
            let Some(content) = content else { continue };
            let path = format!("{dir}/{number:07}.{format}");
            fs::write(root.join(&path), &content)?;
            bytes += content.len() as u64;
            files.push(json!({"format": format, "path": path}));
        }
        let line = json!({"ref": r#ref, "metadata": metadata, "files": files});
        writeln!(lines, "{line}").map_err(io::Error::other)?;
    }
    Ok((lines, bytes))
}
