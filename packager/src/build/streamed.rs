//! Building an asset whose bytes come one after the other. What an earlier build has uploaded is made again, because what follows depends on
//! it, but not sent again.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use adit_shared::digest::Sha256;
use adit_shared::objects::{Part, Upload};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Archive, Build};
use crate::error::BuildError;
use crate::plan::{Streamed, Stretch};
use crate::sha::Midstate;

type Stretches = mpsc::Receiver<Result<Stretch, BuildError>>;

impl Build {
    /// Builds the asset; returns its size and SHA-256, unless it was halted.
    pub(super) async fn streamed(
        &mut self,
        source: &Arc<dyn Streamed>,
        archive: &Archive,
        halt: &CancellationToken,
    ) -> Result<Option<(u64, Sha256)>, BuildError> {
        let Archive { key, part_size, .. } = archive;
        let found = self.objects.find_upload(key, *part_size).await?;
        let mut stretches = source.clone().start(self.objects.clone(), *part_size as usize, self.spare.clone());
        let Some(first) = next(&mut stretches, halt).await? else { return Ok(None) };
        if first.last && found.is_none() {
            return self.small(key, first).await.map(Some);
        }
        let (upload, held) = match found {
            Some(upload) => {
                let held = self.objects.parts(&upload).await?.into_iter().filter(|part| part.size == *part_size);
                (upload, held.map(|part| (part.number, part)).collect())
            }
            None => (self.objects.create_upload(key, *part_size).await?, HashMap::new()),
        };
        let Some((parts, sha256)) = self.stream(&upload, held, first, stretches, halt).await? else { return Ok(None) };
        let size = parts.iter().map(|part| part.size).sum();
        self.assert_ours().await?;
        super::site::complete(&*self.objects, &upload, &parts, size).await?;
        Ok(Some((size, sha256)))
    }

    /// Stores an asset of one part.
    async fn small(&mut self, key: &str, stretch: Stretch) -> Result<(u64, Sha256), BuildError> {
        self.assert_ours().await?;
        let Stretch { bytes, members, source, .. } = stretch;
        let (size, bytes) = (bytes.len() as u64, bytes.freeze());
        let sha256 = Sha256::of(&bytes);
        self.objects.put(key, bytes.clone()).await?;
        self.spare.give(bytes);
        let before = self.progress.borrow().bytes;
        self.tell(before + source, members, true);
        Ok((size, sha256))
    }

    /// Hashes the stretches and uploads those that the store lacks, one while the next is made; gives all parts and the SHA-256, unless it
    /// was halted.
    async fn stream(
        &mut self,
        upload: &Upload,
        mut held: HashMap<u32, Part>,
        first: Stretch,
        mut stretches: Stretches,
        halt: &CancellationToken,
    ) -> Result<Option<(Vec<Part>, Sha256)>, BuildError> {
        let before = self.progress.borrow().bytes;
        let (mut midstate, mut parts, mut stretch) = (Midstate::default(), Vec::new(), first);
        loop {
            let Stretch { bytes, last, members, source } = stretch;
            let hashing = tokio::task::spawn_blocking(move || {
                let rest = midstate.absorb(&bytes).len();
                // Every part but the last is whole blocks long.
                let sha256 = last.then(|| midstate.clone().finish(&bytes[bytes.len() - rest..]));
                (midstate, sha256, bytes.freeze())
            });
            let (hashed, sha256, bytes) = hashing.await?;
            midstate = hashed;
            let number = parts.len() as u32 + 1;
            let kept = held.remove(&number).filter(|_| !last);
            let sent = kept.is_none();
            parts.push(match kept {
                Some(part) => part,
                None => {
                    self.save_now_and_then().await?;
                    self.objects.put_part(upload, number, bytes.clone()).await?
                }
            });
            self.spare.give(bytes);
            self.tell(before + source, members, sent);
            if let Some(sha256) = sha256 {
                return Ok(Some((parts, sha256)));
            }
            match next(&mut stretches, halt).await? {
                Some(next) => stretch = next,
                None => return Ok(None),
            }
        }
    }

    /// Tells of a part that is in the store. An attempt that brings the package on, if only by a part, is none too many.
    fn tell(&mut self, bytes: u64, members: u64, sent: bool) {
        self.progress.send_modify(|progress| {
            progress.members = progress.members.max(members);
            progress.bytes = bytes;
            progress.parts += 1;
            progress.sent += u32::from(sent);
        });
        if sent {
            self.state.attempts = 0;
        }
    }
}

/// The next stretch, unless it was halted.
async fn next(stretches: &mut Stretches, halt: &CancellationToken) -> Result<Option<Stretch>, BuildError> {
    match halt.run_until_cancelled(stretches.recv()).await {
        Some(Some(stretch)) => stretch.map(Some),
        // A thread that ends without its last stretch has panicked.
        Some(None) => Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
        None => Ok(None),
    }
}
