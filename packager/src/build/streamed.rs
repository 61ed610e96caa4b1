//! Building an asset whose bytes come one after the other. What an earlier build has uploaded is made again, because what follows depends on
//! it, but not sent again.

use std::collections::BTreeMap;
use std::sync::Arc;

use adit_shared::digest::Sha256;
use adit_shared::objects::{Part, Upload};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Archive, Build, UPLOADS};
use crate::error::BuildError;
use crate::plan::{Streamed, Stretch};
use crate::sha::Midstate;

type Stretches = mpsc::Receiver<Result<Stretch, BuildError>>;
type Uploads = JoinSet<Result<Part, BuildError>>;

impl Build {
    /// Builds the asset; returns its size and SHA-256, unless it was halted.
    pub(super) async fn streamed(
        &mut self,
        source: &Arc<dyn Streamed>,
        archive: &Archive,
        halt: &CancellationToken,
    ) -> Result<Option<(u64, Sha256)>, BuildError> {
        let Archive { key, part_size, .. } = archive;
        let (upload, held) = match self.objects.find_upload(key, *part_size).await? {
            Some(upload) => {
                let parts = self.objects.parts(&upload).await?;
                (
                    upload,
                    parts.into_iter().filter(|part| part.size == *part_size).map(|part| (part.number, part)).collect(),
                )
            }
            None => (self.objects.create_upload(key, *part_size).await?, BTreeMap::new()),
        };
        let stretches = source.clone().start(self.objects.clone(), *part_size as usize, self.spare.clone());
        let (mut parts, mut uploads) = (BTreeMap::new(), JoinSet::new());
        let mut result = self.stream(&upload, &held, stretches, (&mut parts, &mut uploads), halt).await;
        // However it ended: what is under way comes to its end, so that nothing appears in the store later.
        while let Some(uploaded) = uploads.join_next().await {
            result = self.note(&mut parts, uploaded, |_| 0).and(result);
        }
        let Some(sha256) = result? else { return Ok(None) };
        let parts: Vec<Part> = parts.into_values().collect();
        let size = parts.iter().map(|part| part.size).sum();
        self.assert_ours().await?;
        super::site::complete(&*self.objects, &upload, &parts, size).await?;
        Ok(Some((size, sha256)))
    }

    /// Hashes the stretches and uploads those that the store lacks; gives the SHA-256 of all, unless it was halted.
    async fn stream(
        &mut self,
        upload: &Upload,
        held: &BTreeMap<u32, Part>,
        mut stretches: Stretches,
        (parts, uploads): (&mut BTreeMap<u32, Part>, &mut Uploads),
        halt: &CancellationToken,
    ) -> Result<Option<Sha256>, BuildError> {
        let mut midstate = Midstate::default();
        let mut next = stretches.recv().await.transpose()?;
        for number in 1.. {
            let Some(Stretch { bytes, members }) = next else { break };
            next = match halt.run_until_cancelled(stretches.recv()).await {
                Some(next) => next.transpose()?,
                None => return Ok(None),
            };
            let last = next.is_none();
            let hashing = tokio::task::spawn_blocking(move || {
                let sha256 = if last { Some(midstate.clone().finish(&bytes)) } else { None };
                if !last {
                    midstate.absorb(&bytes);
                }
                (midstate, sha256, bytes.freeze())
            });
            let (hashed, sha256, bytes) = hashing.await?;
            midstate = hashed;
            self.progress.send_modify(|progress| progress.members = progress.members.max(members));
            match held.get(&number).filter(|_| !last) {
                Some(part) => self.keep(parts, part, bytes),
                None => self.send(upload, number, bytes, (parts, uploads)).await?,
            }
            if sha256.is_some() {
                return Ok(sha256);
            }
        }
        Ok(Some(midstate.finish(&[])))
    }

    /// Counts a part that an earlier build has uploaded.
    fn keep(&mut self, parts: &mut BTreeMap<u32, Part>, part: &Part, bytes: Bytes) {
        self.spare.give(bytes);
        self.progress.send_modify(|progress| {
            progress.parts += 1;
            progress.bytes += part.size;
        });
        parts.insert(part.number, part.clone());
    }

    async fn send(
        &mut self,
        upload: &Upload,
        number: u32,
        bytes: Bytes,
        (parts, uploads): (&mut BTreeMap<u32, Part>, &mut Uploads),
    ) -> Result<(), BuildError> {
        self.assert_ours().await?;
        while uploads.len() >= UPLOADS
            && let Some(uploaded) = uploads.join_next().await
        {
            self.note(parts, uploaded, |_| 0)?;
        }
        let (objects, upload, spare) = (self.objects.clone(), upload.clone(), self.spare.clone());
        uploads.spawn(async move {
            let part = objects.put_part(&upload, number, bytes.clone()).await?;
            spare.give(bytes);
            Ok(part)
        });
        Ok(())
    }
}
