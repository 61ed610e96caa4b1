//! Bags to be tested with: their files by path, as folders and as archives. And servers that mean
//! harm.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use adit_shared::config::Secret;
use adit_shared::digest::Sha256;
use axum::Router;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, LOCATION};
use axum::response::Response;
use indicatif::ProgressBar;
use tokio::task::JoinSet;

use super::bag::{MANIFEST, TAG_MANIFEST};
use super::client::Client;
use super::download::{Downloads, Item};
use super::patience::Patience;

/// The files of a folder by their paths.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

fn manifest<'a>(files: impl Iterator<Item = (&'a String, &'a Vec<u8>)>) -> Vec<u8> {
    files.map(|(path, content)| format!("{}  {path}\n", Sha256::of(content))).collect::<String>().into_bytes()
}

/// The files of a bag with this payload (paths below `data/`) and these tag files beside the ones that every bag has.
pub(crate) fn bag(payload: &[(&str, &str)], tags: &[(&str, &str)]) -> Files {
    let payload = payload.iter().map(|(path, text)| (format!("data/{path}"), text.as_bytes().to_vec()));
    let payload: Files = payload.collect();
    let declaration = ("bagit.txt", "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n");
    let tags = tags.iter().chain([&declaration]).map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()));
    let mut tags: Files = tags.collect();
    tags.insert(MANIFEST.to_owned(), manifest(payload.iter()));
    tags.insert(TAG_MANIFEST.to_owned(), manifest(tags.iter()));
    payload.into_iter().chain(tags).collect()
}

/// Writes files into a folder.
pub(crate) fn write(folder: &Path, files: &Files) {
    for (path, content) in files {
        let place = folder.join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, content).unwrap();
    }
}

/// All files of a folder.
pub(crate) fn read(folder: &Path) -> Files {
    let (mut files, mut folders) = (Files::new(), vec![folder.to_owned()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

/// Writes files as a ZIP archive, below `base`.
pub(crate) fn zip(archive: &Path, base: &str, files: &Files) {
    let mut zip = zip::ZipWriter::new(fs::File::create(archive).unwrap());
    for (path, content) in files {
        zip.start_file(format!("{base}{path}"), zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
}

/// A server that answers whatever a test makes of a path, and remembers who showed a key for what.
pub(crate) struct Hostile {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<(String, bool)>>>,
    _task: JoinSet<()>,
}

impl Hostile {
    pub(crate) async fn start(make: impl Fn(&str) -> Response + Clone + Send + Sync + 'static) -> Self {
        // Another test of this process may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let answer = move |request: Request| {
            let path = request.uri().path().to_owned();
            let answer = make(&path);
            seen.lock().unwrap().push((path, request.headers().contains_key(AUTHORIZATION)));
            std::future::ready(answer)
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
        Self { url, asked, _task: task }
    }

    pub(crate) fn answer(status: u16, body: &[u8]) -> Response {
        Response::builder().status(status).body(body.to_vec().into()).unwrap()
    }

    pub(crate) fn redirect(to: &str) -> Response {
        Response::builder().status(302).header(LOCATION, to).body("".into()).unwrap()
    }

    pub(crate) fn client(&self) -> Client {
        Client::with(&self.url, Some(Secret::new("key".into()))).unwrap()
    }

    /// What was asked for, and whether with the key.
    pub(crate) fn asked(&self) -> Vec<(String, bool)> {
        self.asked.lock().unwrap().clone()
    }

    /// Downloads an asset of which this content, if any, and this size were announced.
    pub(crate) async fn download(
        &self,
        target: &Path,
        content: Option<&[u8]>,
        size: Option<u64>,
        overwrite: bool,
    ) -> anyhow::Result<Sha256> {
        let url = "/api/packages/7/assets/a.zip".to_owned();
        let item = Item { url, size, most: 1000, sha256: content.map(Sha256::of), gzip: true };
        let (client, patience, bar) = (self.client(), Patience::default(), ProgressBar::hidden());
        Downloads { client: &client, patience: &patience, bar: &bar, overwrite }.run(&item, target, target).await
    }
}
