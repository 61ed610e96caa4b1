//! `adit hydrate`: fetches what a dehydrated bag has not, so that it is whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use adit_shared::config::Config;
use adit_shared::digest::Sha256;
use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::StatusCode;

use super::bag::{Bag, FETCH, MANIFEST, Source, State, TAG_MANIFEST, TOMBSTONES};
use super::client::{Client, Refusal};
use super::download::{Downloads, Item};
use super::patience::Patience;
use super::unpack::{remove, unpack_beside};

/// Files that are fetched at once.
const AT_ONCE: usize = 8;
/// Holds what is being fetched, by the SHA-256 of its path: that is short enough for every file system.
const FETCHING: &str = ".adit-fetching";

/// What did not come.
#[derive(Debug, Default)]
struct Failures {
    /// Each with the path and the reason.
    faults: Vec<String>,
    /// Files that were not asked for, because nobody answered any more.
    not_tried: usize,
}

/// Makes a bag whole: a folder, or its archive, which is then unpacked beside itself. The exit status is 1 when something could not be
/// fetched; what is there is kept, and another run fetches the rest.
pub(crate) async fn hydrate(config: &Config, bag: &Path) -> anyhow::Result<ExitCode> {
    let bag = if bag.is_file() { unpack_beside(bag)? } else { Bag::find(bag)? };
    let client = Client::new(config)?;
    let failures = fetch_missing(&client, &bag).await?;
    for fault in &failures.faults {
        eprintln!("{fault}");
    }
    if failures.not_tried > 0 {
        eprintln!("{} more files were not asked for", failures.not_tried);
    }
    if !failures.faults.is_empty() {
        eprintln!("{} is not whole yet; run it again when that is mended", bag.root().display());
        return Ok(ExitCode::FAILURE);
    }
    println!("{} is whole", bag.root().display());
    Ok(ExitCode::SUCCESS)
}

/// Fetches what is missing, and removes the lists of a bag that is whole then.
async fn fetch_missing(client: &Client, bag: &Bag) -> anyhow::Result<Failures> {
    let (manifest, sources) = (bag.manifest()?, bag.sources()?);
    let mut failures = Failures::default();
    let tags = bag.states(&bag.tag_manifest()?).await?;
    let damaged = tags.iter().filter(|(_, state)| **state != State::Right);
    failures.faults.extend(damaged.map(|(path, _)| format!("{path}: is not as {TAG_MANIFEST} says; unpack it again")));
    let unknown = sources.keys().filter(|path| !manifest.contains_key(*path));
    failures.faults.extend(unknown.map(|path| format!("{path}: is in {FETCH}, but not in {MANIFEST}")));

    let states = bag.states(&manifest).await?;
    let missing = states.iter().filter(|(_, state)| **state != State::Right).map(|(path, state)| {
        let source = sources.get(path).ok_or_else(|| match state {
            State::Missing => format!("{path}: is missing, and {FETCH} does not tell where it is"),
            _ => format!("{path}: its SHA-256 is not that of {MANIFEST}, and {FETCH} does not tell where it is"),
        });
        source.map(|source| (path.as_str(), source, manifest[path]))
    });
    let mut wanted = Vec::new();
    for missing in missing {
        missing.map_or_else(|fault| failures.faults.push(fault), |missing| wanted.push(missing));
    }
    fetch_all(client, bag, &wanted, &mut failures).await?;
    if failures.faults.is_empty() {
        for list in [FETCH, TOMBSTONES] {
            let list = bag.place(list)?;
            if list.exists() {
                fs::remove_file(&list).with_context(|| format!("cannot remove {}", list.display()))?;
            }
        }
    }
    Ok(failures)
}

async fn fetch_all(
    client: &Client,
    bag: &Bag,
    wanted: &[(&str, &Source, Sha256)],
    failures: &mut Failures,
) -> anyhow::Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let fetching = bag.place(FETCHING)?;
    fs::create_dir_all(&fetching).with_context(|| format!("cannot make {}", fetching.display()))?;
    let style = ProgressStyle::with_template("fetching {bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left");
    let bytes = wanted.iter().filter_map(|(_, source, _)| source.length).sum();
    let bar = ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let patience = Patience::default();
    let downloads = Downloads { client, patience: &patience, bar: &bar };
    let fetches = futures::stream::iter(wanted).map(|(path, source, sha256)| {
        let part = fetching.join(&Sha256::of(path.as_bytes()).to_string()[..32]);
        async move {
            if downloads.patience.is_over() {
                return None;
            }
            let fetched = fetch(downloads, bag, path, source, *sha256, &part).await;
            Some(fetched.err().map(|error| format!("{path}: {error:#}")))
        }
    });
    let mut fetches = fetches.buffer_unordered(AT_ONCE);
    while let Some(fetched) = fetches.next().await {
        match fetched {
            Some(fault) => failures.faults.extend(fault),
            None => failures.not_tried += 1,
        }
    }
    bar.finish_and_clear();
    failures.faults.sort_unstable();
    if failures.faults.is_empty() {
        return remove(&fetching);
    }
    // What has come of a file that is not whole stays for the next run.
    let _ = fs::remove_dir(&fetching);
    Ok(())
}

/// Fetches one file, and lets it appear in its place when it is right.
async fn fetch(
    downloads: Downloads<'_>,
    bag: &Bag,
    path: &str,
    source: &Source,
    sha256: Sha256,
    part: &Path,
) -> anyhow::Result<()> {
    if !["http://", "https://"].iter().any(|scheme| source.url.to_ascii_lowercase().starts_with(scheme)) {
        bail!("only http and https URLs are fetched, not {}", source.url);
    }
    let place: PathBuf = bag.payload_place(path)?;
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let item = Item { url: source.url.clone(), size: source.length, sha256: Some(sha256), gzip: true };
    let fetched = downloads.run(&item, part, &place).await;
    // Without the right key every other file would be refused, too.
    let refusal = fetched.as_ref().err().and_then(|error| error.downcast_ref::<Refusal>());
    if refusal.is_some_and(|refusal| refusal.status == StatusCode::UNAUTHORIZED) {
        downloads.patience.end();
    }
    fetched.map(drop)
}

#[cfg(test)]
mod tests;
