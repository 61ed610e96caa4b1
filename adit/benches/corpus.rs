//! Writes a large collection folder, to try Adit with: `cargo bench -p adit --bench corpus -- DOCUMENTS FOLDER [SLUG]`.
//!
//! The same number gives the same documents on every machine, and more of them begin with the same ones; `benches/corpus/generator.rs` says what in them
//! is as in real corpora. A million take 5 GB in a million files.
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
    let [documents, folder, slug @ ..] = arguments.as_slice() else {
        println!("left out: give the number of documents and a folder, behind --");
        return Ok(());
    };
    let slug = slug.first().map_or("notes", String::as_str);
    let began = Instant::now();
    let corpus = Corpus::write(Recipe::notes(slug, documents.parse()?), Path::new(folder))?;
    let (megabytes, seconds) = (corpus.bytes / 1_000_000, began.elapsed().as_secs_f64());
    println!("{}: {} documents, {megabytes} MB of text, in {seconds:.0} s", corpus.folder.display(), corpus.documents);
    Ok(())
}
