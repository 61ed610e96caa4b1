//! `adit hydrate`: fetches what a dehydrated bag has not, so that it is whole.
//!
//! A bag is foreign: the key is shown at addresses of files on the server alone, other servers are
//! asked only where the user says so, no more is taken than the bag announces, and nothing is
//! written outside of its folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use adit_shared::config::Config;
use adit_shared::digest::Sha256;
use adit_shared::display::Printable;
use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::StatusCode;

use super::bag::{Bag, FETCH, MANIFEST, Source, State, TAG_MANIFEST, TOMBSTONES};
use super::client::{Client, Refusal};
use super::download::{Downloads, Item};
use super::files::check_space;
use super::patience::Patience;
use super::unpack::{remove, unpack_beside};
use crate::cli::HydrateArgs;
use crate::terminal::{errln, outln};

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

/// What the user lets a bag have fetched.
#[derive(Debug, Clone, Copy, Default)]
struct Permissions {
    /// Files of other servers, which are not shown the key.
    other_servers: bool,
    /// The most bytes of a file whose length is not told; 0: none are fetched.
    untold_bytes: u64,
}

/// Makes a bag whole: a folder, or its archive, which is then unpacked beside itself. The exit status is 1 when something could not be
/// fetched; what is there is kept, and another run fetches the rest.
pub(crate) async fn hydrate(config: &Config, args: &HydrateArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(config)?;
    let bag = if args.bag.is_file() { unpack_beside(&args.bag)? } else { Bag::find(&args.bag)? };
    let permissions = Permissions { other_servers: args.other_servers, untold_bytes: args.untold_bytes.unwrap_or(0) };
    let failures = fetch_missing(&client, &bag, permissions).await?;
    for fault in &failures.faults {
        errln!("{}", Printable::line(fault));
    }
    if failures.not_tried > 0 {
        errln!("{} more files were not asked for", failures.not_tried);
    }
    if !failures.faults.is_empty() {
        errln!("{} is not whole yet; run it again when that is mended", bag.root().display());
        return Ok(ExitCode::FAILURE);
    }
    outln!("{} is whole", bag.root().display());
    Ok(ExitCode::SUCCESS)
}

/// Fetches what is missing, and removes the lists of a bag that is whole then.
async fn fetch_missing(client: &Client, bag: &Bag, permissions: Permissions) -> anyhow::Result<Failures> {
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
        let source = source?;
        let item = permitted(client, source, manifest[path], permissions).map_err(|why| format!("{path}: {why:#}"))?;
        Ok((path.as_str(), item))
    });
    let mut wanted = Vec::new();
    for missing in missing {
        missing.map_or_else(|fault: String| failures.faults.push(fault), |missing| wanted.push(missing));
    }
    let bytes = wanted.iter().fold(0, |sum: u64, (_, item)| sum.saturating_add(item.size.unwrap_or(item.most)));
    check_space(bag.root(), bytes)?;
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

/// Gives what is to be downloaded, if the bag may have it.
fn permitted(client: &Client, source: &Source, sha256: Sha256, permissions: Permissions) -> anyhow::Result<Item> {
    client.check_source(&source.url, permissions.other_servers)?;
    if source.length.is_none() && permissions.untold_bytes == 0 {
        bail!("{FETCH} does not tell its length; have such files fetched up to a length by --untold-bytes");
    }
    let (url, most) = (source.url.clone(), permissions.untold_bytes);
    Ok(Item { url, size: source.length, most, sha256: Some(sha256), gzip: true })
}

async fn fetch_all(client: &Client, bag: &Bag, wanted: &[(&str, Item)], failures: &mut Failures) -> anyhow::Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let fetching = bag.place(FETCHING)?;
    fs::create_dir_all(&fetching).with_context(|| format!("cannot make {}", fetching.display()))?;
    let style = ProgressStyle::with_template("fetching {bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left");
    let bytes = wanted.iter().filter_map(|(_, item)| item.size).fold(0, u64::saturating_add);
    let bar = ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let patience = Patience::default();
    // What stands in the bag's place of a file and is damaged is replaced.
    let downloads = Downloads { client, patience: &patience, bar: &bar, overwrite: true };
    let fetches = futures::stream::iter(wanted).map(|(path, item)| {
        let part = fetching.join(&Sha256::of(path.as_bytes()).to_string()[..32]);
        async move {
            if downloads.patience.is_over() {
                return None;
            }
            let fetched = fetch(downloads, bag, path, item, &part).await;
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
async fn fetch(downloads: Downloads<'_>, bag: &Bag, path: &str, item: &Item, part: &Path) -> anyhow::Result<()> {
    let place: PathBuf = bag.payload_place(path)?;
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let fetched = downloads.run(item, part, &place).await;
    // Without the right key every other file would be refused, too.
    let refusal = fetched.as_ref().err().and_then(|error| error.downcast_ref::<Refusal>());
    if refusal.is_some_and(|refusal| refusal.status == StatusCode::UNAUTHORIZED) {
        downloads.patience.end();
    }
    fetched.map(drop)
}

#[cfg(test)]
mod tests;
