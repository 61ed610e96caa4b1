//! Writes a damaged pack once more, with good bytes in the places of the damaged ones.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use adit_shared::objects::{ObjectError, ObjectResult, ObjectStore, Upload};
use anyhow::Context as _;
use bytes::Bytes;

use super::findings::DamagedFile;
use super::sources::Sources;
use crate::services::Services;

/// Bytes of a part.
const PART_SIZE: u64 = 8 * 1024 * 1024;
/// Bytes that are read at once where a whole part cannot be read.
const SMALL_READ: u64 = 64 * 1024;

/// A file's good bytes, and where they belong.
struct HealedFile {
    offset: u64,
    length: u64,
    bytes: File,
}

/// Heals the damaged files of a pack that have a good copy; gives their number.
pub(super) async fn heal_pack(
    services: &Services,
    sources: &Sources,
    object: &str,
    damaged: &[DamagedFile],
) -> anyhow::Result<usize> {
    let mut healed = Vec::new();
    for damaged in damaged {
        if let Some(bytes) = sources.fetch(services, damaged).await? {
            let place = &damaged.file.place;
            healed.push(HealedFile { offset: place.offset, length: place.stored, bytes });
        }
    }
    let objects = &*services.objects;
    let (size, length) = (objects.size(object).await?.unwrap_or(0), sources.length_of(object));
    if healed.is_empty() && size <= length {
        return Ok(0);
    }
    let there = size.min(length);
    let upload = objects.create_upload(object, PART_SIZE).await?;
    let written = write(objects, &upload, there..length, &healed).await;
    if written.is_err()
        && let Err(error) = objects.abort_upload(&upload).await
    {
        tracing::warn!(%error, object, "what was written of the healed pack could not be removed");
    }
    written.with_context(|| format!("the pack {object} could not be written; it is as it was"))?;
    Ok(healed.len())
}

/// Writes the object anew: what is there, zeros up to the end of `lacking`, and the healed files over both.
async fn write(
    objects: &dyn ObjectStore,
    upload: &Upload,
    lacking: std::ops::Range<u64>,
    healed: &[HealedFile],
) -> anyhow::Result<()> {
    let (there, length) = (lacking.start, lacking.end);
    let (mut parts, mut at) = (Vec::new(), 0);
    while at < length || parts.is_empty() {
        let end = length.min(at + PART_SIZE);
        let mut part = vec![0; usize::try_from(end - at)?];
        read_what_is_there(objects, &upload.key, at, &mut part[..usize::try_from(there.clamp(at, end) - at)?]).await?;
        for file in healed {
            let (from, to) = (file.offset.max(at), (file.offset + file.length).min(end));
            if from < to {
                let within = usize::try_from(from - at)?..usize::try_from(to - at)?;
                file.bytes.read_exact_at(&mut part[within], from - file.offset)?;
            }
        }
        let number = u32::try_from(parts.len() + 1)?;
        parts.push(objects.put_part(upload, number, Bytes::from(part)).await?);
        at = end;
    }
    Ok(objects.complete_upload(upload, &parts).await?)
}

/// Reads what stands from `at` on. Where a disk cannot read a part, its smaller pieces are tried, and what
/// cannot be read stays zero: the files there are damaged, and healed or found again.
async fn read_what_is_there(objects: &dyn ObjectStore, key: &str, at: u64, bytes: &mut [u8]) -> ObjectResult<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    if let Ok(read) = objects.get(key, Some(at..at + bytes.len() as u64)).await {
        bytes.copy_from_slice(&read);
        return Ok(());
    }
    let mut from = at;
    for piece in bytes.chunks_mut(SMALL_READ as usize) {
        let end = from + piece.len() as u64;
        match objects.get(key, Some(from..end)).await {
            Ok(read) => piece.copy_from_slice(&read),
            // A store that still tells the length is there, and only this piece is not.
            Err(ObjectError::Unavailable(reason)) if objects.size(key).await.is_err() => {
                return Err(ObjectError::Unavailable(reason));
            }
            Err(_) => {}
        }
        from = end;
    }
    Ok(())
}
