//! Which database an object store belongs to.
//!
//! A small object in the store holds the identity of its database. Whoever removes what the
//! database does not name asks for it first: else an empty or wrong database would cost a full
//! store all it has. A restored backup of the database has the same identity.

use adit_shared::objects::{ObjectError, ObjectKey, ObjectStore};
use adit_shared::store::Store;
use anyhow::bail;

/// Makes the object store the database's if it belongs to none, and that is safe: if it is empty,
/// or if the database has a corpus, as one has that worked with an earlier release.
///
/// # Errors
/// When the store belongs to another database, or may do so; the text says what helps.
pub(crate) async fn claim(objects: &dyn ObjectStore, store: &dyn Store) -> anyhow::Result<()> {
    let own = store.identity().await?;
    let mark = ObjectKey::Mark.to_string();
    match objects.get(&mark, None).await {
        Ok(found) if *found == *own.as_bytes() => return Ok(()),
        Ok(_) => bail!(
            "the object store belongs to another database (its object {mark:?} says so): ADIT_STORE_URL or \
             ADIT_DATABASE_URL leads to the wrong place; if it is meant so, run `adit storage adopt`"
        ),
        Err(ObjectError::NotFound(_)) => {}
        Err(error) => return Err(error.into()),
    }
    let has_corpus = store.collections().await?.iter().any(|collection| collection.corpus_version > 0);
    if !has_corpus && !objects.list("").await?.is_empty() {
        bail!(
            "the object store holds objects, and the database knows nothing of them: ADIT_STORE_URL or \
             ADIT_DATABASE_URL leads to the wrong place; if it is meant so, run `adit storage adopt`"
        );
    }
    Ok(objects.put(&mark, own.into_bytes().into()).await?)
}

/// Makes the object store the database's, whosever it was.
pub(crate) async fn adopt(objects: &dyn ObjectStore, store: &dyn Store) -> anyhow::Result<()> {
    let own = store.identity().await?;
    Ok(objects.put(&ObjectKey::Mark.to_string(), own.into_bytes().into()).await?)
}
