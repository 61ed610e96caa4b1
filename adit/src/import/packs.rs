//! Packs: stored files of one format, one behind the other in objects of about 64 MiB.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use adit_shared::clock::{Clock as _, SystemClock};
use adit_shared::domain::{Format, Place};
use adit_shared::objects::{ObjectKey, ObjectResult, ObjectStore, Part, Upload};
use adit_shared::store::{ImportLease, Store};
use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinHandle;

use super::prepare::Payload;
use crate::change::LEASE_MS;

/// A pack is closed once it is this long; a longer file has a pack of its own.
const PACK_SIZE: u64 = 64 * 1024 * 1024;
/// Bytes of a part. An open pack takes twice this memory: for the part that is being stored, and for the next one.
const PART_SIZE: usize = 8 * 1024 * 1024;

/// Appends files to packs, with one open pack for each format: a package of one format then reads nothing else.
#[derive(Debug)]
pub(crate) struct Packs {
    objects: Arc<dyn ObjectStore>,
    lease: ImportLease,
    open: BTreeMap<Format, Pack>,
    numbers: BTreeMap<Format, u32>,
    finished: Vec<String>,
}

#[derive(Debug)]
struct Pack {
    upload: Upload,
    parts: Vec<Part>,
    /// The part that is being stored.
    storing: Option<JoinHandle<ObjectResult<Part>>>,
    buffer: BytesMut,
    length: u64,
}

impl Packs {
    /// Packs of one import.
    pub(crate) fn new(objects: Arc<dyn ObjectStore>, lease: ImportLease) -> Self {
        Self { objects, lease, open: BTreeMap::new(), numbers: BTreeMap::new(), finished: Vec::new() }
    }

    /// Appends a file and tells where it lies. It can be read there once [`Packs::finish`] has come back.
    pub(crate) async fn append(&mut self, format: &Format, payload: Payload) -> anyhow::Result<Place> {
        if !self.open.contains_key(format) {
            let pack = self.begin(format).await?;
            self.open.insert(format.clone(), pack);
        }
        let objects = self.objects.clone();
        let Some(pack) = self.open.get_mut(format) else { anyhow::bail!("the pack of {format} is not open") };
        let offset = pack.length;
        match payload {
            Payload::Memory(bytes) => pack.push(&objects, &bytes).await?,
            Payload::File(file) => {
                let mut file = tokio::fs::File::from_std(file);
                let mut chunk = vec![0; 256 * 1024];
                loop {
                    let read = file.read(&mut chunk).await?;
                    if read == 0 {
                        break;
                    }
                    pack.push(&objects, &chunk[..read]).await?;
                }
            }
        }
        let place = Place { object: pack.upload.key.clone(), offset, stored: pack.length - offset };
        if pack.length >= PACK_SIZE {
            self.close(format).await?;
        }
        Ok(place)
    }

    /// Closes all packs: every byte is then in the store.
    pub(crate) async fn finish(&mut self) -> anyhow::Result<()> {
        for format in self.open.keys().cloned().collect::<Vec<_>>() {
            self.close(&format).await?;
        }
        Ok(())
    }

    /// Gives up the open packs and removes the closed ones that are not among `known`, the packs that the database knows; all of those
    /// stay if that cannot be told. An error in one place does not keep it from going on in the others; the first is returned.
    pub(crate) async fn abandon(self, known: Option<&HashSet<String>>) -> anyhow::Result<()> {
        let mut keys = self.finished;
        let mut outcome = Ok(());
        for pack in self.open.into_values() {
            if let Some(storing) = pack.storing {
                // Whether it is stored or not, it goes.
                let _ = storing.await;
            }
            outcome = outcome.and(self.objects.abort_upload(&pack.upload).await);
            // The answer to its closing may have been lost; then the object is there.
            keys.push(pack.upload.key);
        }
        keys.retain(|key| known.is_some_and(|known| !known.contains(key)));
        Ok(outcome.and(self.objects.delete(&keys).await)?)
    }

    async fn begin(&mut self, format: &Format) -> anyhow::Result<Pack> {
        let number = self.numbers.entry(format.clone()).or_default();
        *number += 1;
        let (collection, import) = (self.lease.collection(), self.lease.import);
        let key = ObjectKey::Pack { collection, import, format: format.as_str(), number: *number }.to_string();
        // Files that the database names would be written over.
        anyhow::ensure!(self.objects.size(&key).await?.is_none(), "there is a pack {key} already");
        let upload = self.objects.create_upload(&key, PART_SIZE as u64).await?;
        Ok(Pack { upload, parts: Vec::new(), storing: None, buffer: BytesMut::new(), length: 0 })
    }

    async fn close(&mut self, format: &Format) -> anyhow::Result<()> {
        // It stays in the list until it is closed: whoever is interrupted here must still find it to give it up.
        let Some(pack) = self.open.get_mut(format) else { return Ok(()) };
        pack.stored().await?;
        // An upload has one part at least, be it empty.
        if !pack.buffer.is_empty() || pack.parts.is_empty() {
            pack.flush(&self.objects).await?;
            pack.stored().await?;
        }
        self.objects.complete_upload(&pack.upload, &pack.parts).await?;
        self.finished.extend(self.open.remove(format).map(|pack| pack.upload.key));
        Ok(())
    }
}

/// Removes the packs of imports that died before they could, and gives up their uploads. `lease`
/// must have come from the store just now.
pub(crate) async fn remove_leftovers(
    objects: &dyn ObjectStore,
    store: &dyn Store,
    lease: &ImportLease,
) -> anyhow::Result<()> {
    let (collection, import) = (lease.collection(), lease.import);
    let any = ObjectKey::Pack { collection, import, format: "any", number: 0 }.to_string();
    let folder = any.rfind('/').map_or("", |slash| &any[..=slash]);
    let listed = objects.list(folder).await?;
    let uploads = objects.list_uploads(folder).await?;
    // If the lease still holds, no other import began before the list was made: what is in it and not in the database has no owner.
    store.renew_import(lease, SystemClock.now_ms(), LEASE_MS).await?;
    let known = store.pack_keys(collection).await?;
    let left: Vec<String> = listed.into_iter().map(|(key, _)| key).filter(|key| !known.contains(key)).collect();
    let own = format!("{folder}{import}-");
    let foreign: Vec<Upload> = uploads.into_iter().filter(|upload| !upload.key.starts_with(&own)).collect();
    if !left.is_empty() || !foreign.is_empty() {
        let (packs, uploads) = (left.len(), foreign.len());
        tracing::info!(packs, uploads, "removing what interrupted imports left behind");
    }
    for upload in &foreign {
        objects.abort_upload(upload).await?;
    }
    Ok(objects.delete(&left).await?)
}

impl Pack {
    async fn push(&mut self, objects: &Arc<dyn ObjectStore>, mut bytes: &[u8]) -> anyhow::Result<()> {
        self.length += bytes.len() as u64;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PART_SIZE - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == PART_SIZE {
                self.flush(objects).await?;
            }
        }
        Ok(())
    }

    /// Begins to store what is there, as soon as the part before is stored.
    async fn flush(&mut self, objects: &Arc<dyn ObjectStore>) -> anyhow::Result<()> {
        self.stored().await?;
        let number = u32::try_from(self.parts.len() + 1)?;
        let bytes: Bytes = self.buffer.split().freeze();
        let (objects, upload) = (Arc::clone(objects), self.upload.clone());
        self.storing = Some(tokio::spawn(async move { objects.put_part(&upload, number, bytes).await }));
        Ok(())
    }

    /// Waits for the part that is being stored.
    async fn stored(&mut self) -> anyhow::Result<()> {
        // It stays there until it has ended: whoever is interrupted here must still find it to wait for it.
        if let Some(storing) = &mut self.storing {
            let part = storing.await;
            self.storing = None;
            self.parts.push(part.context("storing a part broke down")??);
        }
        Ok(())
    }
}
