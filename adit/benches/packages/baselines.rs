//! What people make archives with when they have no Adit.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use url::Url;

use super::Outcome;
use super::corpus::Corpus;
use super::generator::FOLDER;
use super::site::Site;

/// The Python packager and what it needs, pinned.
const HOME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/packages");

/// What a baseline takes for all documents.
#[derive(Debug, Clone)]
pub(crate) struct Baseline {
    pub(crate) took: Duration,
    /// Whether that is reckoned from some of them.
    pub(crate) sampled: bool,
}

impl Baseline {
    fn reckon(took: Duration, done: u64, all: u64) -> Self {
        Self { took: took.mul_f64(all as f64 / done as f64), sampled: done < all }
    }
}

/// A Python with `requests` and `boto3`.
pub(crate) struct Python(PathBuf);

impl Python {
    /// Makes a virtual environment, once. Without one there is no comparison, and a line says why.
    pub(crate) fn prepare() -> Option<Self> {
        let prepared = venv(Path::new(env!("CARGO_TARGET_TMPDIR")));
        prepared.inspect_err(|why| eprintln!("the Python packager is left out: {why}")).ok().map(Self)
    }

    /// Has it package up to `sample` of the site's documents.
    pub(crate) fn measure(&self, site: &Site, sample: u64) -> Option<Baseline> {
        let done = sample.min(site.documents);
        let took = self.run(site, done);
        let took = took.inspect_err(|why| eprintln!("the Python packager failed: {why}")).ok()?;
        Some(Baseline::reckon(took, done, site.documents))
    }

    fn run(&self, site: &Site, documents: u64) -> Outcome<Duration> {
        let mut command = Command::new(&self.0);
        command.arg(format!("{HOME}/packager.py")).arg(&site.api.url).arg(site.docset.to_string());
        command.arg(site.kind.formats().join(",")).arg(documents.to_string()).arg(site.dir.path());
        command.env("ADIT_API_KEY", &site.api.key);
        if let Some((endpoint, bucket, key)) = s3(&site.store)? {
            command.args([endpoint, bucket, key]);
        }
        let output = command.output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let told: Value = serde_json::from_slice(&output.stdout)?;
        Ok(Duration::from_secs_f64(told["seconds"].as_f64().ok_or("it tells no time")?))
    }
}

/// Endpoint, bucket and the key to write to, of a store that is S3.
fn s3(store: &str) -> Outcome<Option<(String, String, String)>> {
    let url: Url = store.parse()?;
    if url.scheme() != "s3" {
        return Ok(None);
    }
    let endpoint = url.query_pairs().find(|(name, _)| name == "endpoint").map(|(_, value)| value.into_owned());
    let key = format!("{}/packages/0/python.zip", url.path().trim_matches('/'));
    Ok(Some((endpoint.unwrap_or_default(), url.host_str().unwrap_or_default().to_owned(), key)))
}

fn venv(folder: &Path) -> Outcome<PathBuf> {
    let home = folder.join("bench-python");
    let python = home.join("bin/python");
    let run = |command: &mut Command| -> Outcome<()> {
        let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
        let error = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {error}").into()) }
    };
    if run(Command::new(&python).args(["-c", "import requests, boto3"])).is_err() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home))?;
        run(Command::new(&python).args(["-m", "pip", "install", "-q", "-r"]).arg(format!("{HOME}/requirements.txt")))?;
    }
    Ok(python)
}

/// Info-ZIP on the corpus' files as they lie in the folder, about `sample` documents of them, without metadata and without any upload.
pub(crate) fn zip(corpus: &Corpus, sample: u64) -> Option<Baseline> {
    let folders = sample.min(corpus.run.documents).div_ceil(FOLDER);
    let archive = corpus.folder.join("zip.zip");
    let mut command = Command::new("zip");
    command.args(["-r", "-q"]).arg(&archive).args((0..folders).map(|folder| format!("{folder:05}")));
    let began = Instant::now();
    let run = command.current_dir(corpus.folder.join("files")).output();
    let took = began.elapsed();
    // It may not be there; else the next one would add to it.
    let _ = std::fs::remove_file(archive);
    match run {
        Ok(output) if output.status.success() => {
            let documents = corpus.run.documents;
            Some(Baseline::reckon(took, (folders * FOLDER).min(documents), documents))
        }
        Ok(output) => {
            eprintln!("zip is left out: {}", String::from_utf8_lossy(&output.stderr));
            None
        }
        Err(error) => {
            eprintln!("zip is left out: {error}");
            None
        }
    }
}
