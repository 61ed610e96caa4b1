//! Downloads an archive: goes on where it was cut off, and lets it appear under its name only when its SHA-256 is right.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_shared::digest::Sha256;
use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::StatusCode;
use sha2::Digest as _;

use super::client::Client;

/// Tries in a row that bring no byte before a download is given up.
const TRIES: u32 = 5;

/// Downloads `url` to `target`. What has arrived stays in `{target}.part`, and a later call goes on from there.
///
/// # Errors
/// When the server cannot be reached any more, or when the archive's SHA-256 is not `expected` (the part is then removed).
pub(crate) async fn download(
    client: &Client,
    url: &str,
    target: &Path,
    size: Option<u64>,
    expected: Option<Sha256>,
) -> anyhow::Result<Sha256> {
    let part = part_name(target);
    let style = ProgressStyle::with_template("downloading {bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left");
    let bar = ProgressBar::new(size.unwrap_or(0)).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let mut failures = 0;
    loop {
        let before = length(&part);
        if size.is_some_and(|size| before == size) {
            break;
        }
        match receive(client, url, &part, before, &bar).await {
            Ok(()) if size.is_none_or(|size| length(&part) == size) => break,
            outcome => {
                failures = if length(&part) > before { 0 } else { failures + 1 };
                if failures == TRIES {
                    let why = outcome.err().unwrap_or_else(|| anyhow::anyhow!("the answer was cut off"));
                    return Err(why
                        .context(format!("the download stopped at {before} bytes; run it again to go on from there")));
                }
                tokio::time::sleep(Duration::from_millis(200 << failures)).await;
            }
        }
    }
    bar.finish_and_clear();
    let (_, sha256) = hash_file(&part)?;
    if let Some(expected) = expected.filter(|expected| *expected != sha256) {
        std::fs::remove_file(&part)?;
        bail!("the archive arrived damaged (SHA-256 {sha256}, not {expected}) and was removed; run it again");
    }
    std::fs::rename(&part, target).with_context(|| format!("cannot write {}", target.display()))?;
    Ok(sha256)
}

async fn receive(client: &Client, url: &str, part: &Path, offset: u64, bar: &ProgressBar) -> anyhow::Result<()> {
    let response = client.get_from(url, offset).await?;
    let goes_on = response.status() == StatusCode::PARTIAL_CONTENT;
    let mut file = OpenOptions::new().create(true).write(true).append(goes_on).truncate(!goes_on).open(part);
    let file = file.as_mut().map_err(|error| anyhow::anyhow!("cannot write {}: {error}", part.display()))?;
    bar.set_position(if goes_on { offset } else { 0 });
    let mut body = response.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.context("the connection broke")?;
        file.write_all(&chunk)?;
        bar.inc(chunk.len() as u64);
    }
    file.sync_all()?;
    Ok(())
}

fn part_name(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Length and SHA-256 of a file.
pub(crate) fn hash_file(path: &Path) -> anyhow::Result<(u64, Sha256)> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut hash, mut length, mut chunk) = (sha2::Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        let read = file.read(&mut chunk).with_context(|| format!("cannot read {}", path.display()))?;
        if read == 0 {
            return Ok((length, Sha256(hash.finalize().into())));
        }
        hash.update(&chunk[..read]);
        length += read as u64;
    }
}
