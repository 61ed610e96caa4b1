//! From a manifest's stream to a plan, off the threads that wait for the network: reading a million lines takes seconds.

use adit_shared::domain::Recipe;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;

use crate::api::ApiError;
use crate::error::BuildError;
use crate::manifest::Reader;
use crate::plan::{Plan, PlanBuilder};

/// Chunks of the stream that may wait to be read.
const WAITING: usize = 8;

/// Reads a manifest to its end and plans the archive in parts of `part_size` bytes or more.
pub(crate) async fn plan(
    manifest: impl Stream<Item = Result<Bytes, ApiError>>,
    recipe: &Recipe,
    part_size: u64,
) -> Result<Plan, BuildError> {
    let (sender, mut chunks) = mpsc::channel::<Bytes>(WAITING);
    let mut reader = Reader::new(&recipe.formats);
    let recipe = recipe.clone();
    let planning = tokio::task::spawn_blocking(move || {
        let mut builder = PlanBuilder::new(&recipe)?;
        while let Some(chunk) = chunks.blocking_recv() {
            reader.push(&chunk, &mut |member| builder.add(&member).map_err(BuildError::from))?;
        }
        Ok::<_, BuildError>((reader.finish()?, builder))
    });
    let mut manifest = std::pin::pin!(manifest);
    while let Some(chunk) = manifest.next().await {
        // If the planner has hung up, its own error says why.
        if sender.send(chunk?).await.is_err() {
            break;
        }
    }
    drop(sender);
    let (header, builder) = planning.await??;
    Ok(tokio::task::spawn_blocking(move || builder.finish(&header, part_size)).await??)
}
