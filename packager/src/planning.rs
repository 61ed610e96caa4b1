//! From a manifest's stream to a plan, off the threads that wait for the network: reading a million lines takes seconds.

use adit_shared::domain::Recipe;
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;

use crate::api::ApiError;
use crate::error::BuildError;
use crate::manifest::{Line, ManifestError, Reader};
use crate::plan::{Project, ProjectBuilder};

/// Chunks of the stream that may wait to be read.
const WAITING: usize = 8;

/// Reads a manifest to its end and plans the package, with uploads in parts of `part_size` bytes or more.
pub(crate) async fn plan(
    manifest: impl Stream<Item = Result<Bytes, ApiError>>,
    recipe: &Recipe,
    part_size: u64,
) -> Result<Project, BuildError> {
    let (sender, mut chunks) = mpsc::channel::<Bytes>(WAITING);
    let mut reader = Reader::new(&recipe.formats);
    let recipe = recipe.clone();
    let planning = tokio::task::spawn_blocking(move || {
        let mut builder = None;
        while let Some(chunk) = chunks.blocking_recv() {
            reader.push(&chunk, &mut |line| take(&recipe, &mut builder, line))?;
        }
        reader.finish()?;
        // A manifest that has come to its end began with a header.
        let builder = builder.ok_or(ManifestError::Cut { members: 0, documents: 0 })?;
        Ok::<_, BuildError>(builder.finish(part_size)?)
    });
    let mut manifest = std::pin::pin!(manifest);
    while let Some(chunk) = manifest.next().await {
        // If the planner has hung up, its own error says why.
        if sender.send(chunk?).await.is_err() {
            break;
        }
    }
    drop(sender);
    planning.await?
}

fn take(recipe: &Recipe, builder: &mut Option<ProjectBuilder>, line: Line) -> Result<(), BuildError> {
    match (line, builder) {
        (Line::Header(header), builder) => *builder = Some(ProjectBuilder::new(recipe, header)?),
        (Line::Member(member), Some(builder)) => builder.add(&member)?,
        (Line::Gone(gone), Some(builder)) => builder.bury(&gone)?,
        // The reader gives a header first.
        (Line::Member(_) | Line::Gone(_), None) => {}
    }
    Ok(())
}
