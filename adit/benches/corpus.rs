//! Writes a large collection folder, to try Adit with: `cargo bench -p adit --bench corpus -- DOCUMENTS FOLDER [WORDS]`.
//!
//! The same number gives the same documents on every machine, and more of them begin with the same ones; `benches/corpus/generator.rs` says what in them
//! is as in real corpora. Texts have 125 words at the median, or as many as you say; a million of 125 take 6 GB.
#![expect(clippy::print_stdout, reason = "it says what it has done")]

#[path = "corpus/generator.rs"]
#[expect(dead_code, unused_imports, reason = "other benches use the rest of it")]
mod generator;

use std::env;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use generator::{Corpus, Recipe};

fn main() -> Result<(), Box<dyn Error>> {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [documents, folder, words @ ..] = arguments.as_slice() else {
        println!("left out: give the number of documents and a folder, behind --");
        return Ok(());
    };
    let words = words.first().map_or(Ok(125), |words| words.parse())?;
    let began = Instant::now();
    let corpus = Corpus::write(Recipe::texts("texts", documents.parse()?, words), Path::new(folder))?;
    let (megabytes, seconds) = (corpus.bytes / 1_000_000, began.elapsed().as_secs_f64());
    println!("{}: {} documents, {megabytes} MB of text, in {seconds:.0} s", corpus.folder.display(), corpus.documents);
    Ok(())
}
