//! Who may have which files: every route that gives content of documents asks here, whether it sends it itself or has it packed.
//!
//! Metadata is open to everybody, and so is the file `meta`. Other files are given by the access level of the work's newest version, and of works
//! that were withdrawn nothing is given at all. What a package holds is settled when it is asked for, by the rights of whoever asks.

use adit_shared::clock::rfc3339;
use adit_shared::domain::{
    Access, ApiKey, Bits, Clearance, Collection, Docset, Document, DocumentReader, Format, META, Role, Tdm, Withdrawn,
};
use adit_shared::ids::{CollectionId, VersionId};
use adit_shared::search::{Query, TextRights};
use adit_shared::store::StoreResult;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use roaring::RoaringBitmap;

use crate::auth::Caller;
use crate::problem::{ApiResult, Kind, Problem};
use crate::state::App;

/// Headers of the TDM Reservation Protocol (see [`Tdm`]).
const TDM_RESERVATION: HeaderName = HeaderName::from_static("tdm-reservation");
const TDM_POLICY: HeaderName = HeaderName::from_static("tdm-policy");

/// The holder of a key (nobody: without one) as a reader of texts.
#[must_use]
pub fn reader(key: Option<&ApiKey>) -> DocumentReader {
    match key {
        None => DocumentReader::nobody(),
        Some(key) if key.role == Role::Operator => DocumentReader::Operator,
        Some(key) => DocumentReader::Entitled(key.entitlements.clone()),
    }
}

/// Tells if somebody (nobody: without a key) may have the files of what has this access level.
#[must_use]
pub fn entitled(key: Option<&ApiKey>, access: &Access) -> bool {
    reader(key).may_read(access)
}

/// The query as the holder of a key (nobody: without one) asks it of a collection: every query goes
/// through here on its way to the index.
#[must_use]
pub fn asked_by(key: Option<&ApiKey>, collection: &Collection, query: Query) -> Query {
    let rights = TextRights { reader: reader(key), closed_words: !collection.hide_closed_text };
    Query::AskedBy(Box::new(query), rights)
}

/// Those of some of a collection's document versions whose text somebody (nobody: without a key) may read.
///
/// # Errors
/// The database's.
pub async fn readable(
    app: &App,
    caller: Option<&Caller>,
    collection: CollectionId,
    members: &RoaringBitmap,
) -> StoreResult<RoaringBitmap> {
    let mut readable = members.clone();
    for (access, closed) in app.store.closed(collection, members).await? {
        if !entitled(caller.map(|caller| &caller.0), &access) {
            readable -= closed;
        }
    }
    for VersionId(id) in app.store.withdrawn(collection, &readable).await?.into_keys() {
        readable.remove(id);
    }
    Ok(readable)
}

/// Refuses a document's file to whoever may not have it.
///
/// # Errors
/// [`Kind::Withdrawn`], [`Kind::RightsMissing`].
pub fn check_file(caller: &Caller, document: &Document, format: &Format) -> ApiResult<()> {
    if let Some(Withdrawn { at, reason }) = &document.withdrawn {
        let at = rfc3339(*at);
        let problem = Problem::new(Kind::Withdrawn, format!("{:?} was withdrawn at {at}: {reason}", document.r#ref));
        return Err(problem.with("reason", "withdrawn").with("withdrawn", at));
    }
    if format.as_str() == META || entitled(Some(&caller.0), &document.access) {
        return Ok(());
    }
    let r#ref = &document.r#ref;
    Err(match document.access.entitlement() {
        Some(entitlement) => {
            let detail =
                format!("{ref:?} is only for keys with the entitlement {entitlement}; ask the operator for it");
            Problem::new(Kind::RightsMissing, detail).with("entitlement", entitlement.as_str())
        }
        None => {
            let detail = format!("of {ref:?} only the metadata is given, to anybody; its file meta has it");
            Problem::new(Kind::RightsMissing, detail).with("entitlement", None::<String>)
        }
    })
}

/// What a package of the docset in these formats has and has not if that key asks for it now. `base` are members of the docset that a delta starts from
/// which the package that it starts from has not.
///
/// # Errors
/// The database's.
pub async fn clearance(
    app: &App,
    key: &ApiKey,
    docset: &Docset,
    formats: &[Format],
    base: RoaringBitmap,
) -> StoreResult<Clearance> {
    let gone = app.store.withdrawn(docset.collection, &docset.members).await?;
    let mut clearance =
        Clearance { withdrawn: gone.into_keys().map(|VersionId(id)| id).collect(), base, ..Clearance::default() };
    if formats.iter().all(|format| format.as_str() == META) {
        return Ok(clearance);
    }
    for (access, mut closed) in app.store.closed(docset.collection, &docset.members).await? {
        closed -= &clearance.withdrawn;
        match access {
            _ if closed.is_empty() => {}
            Access::Restricted(entitlement) if entitled(Some(key), &Access::Restricted(entitlement.clone())) => {
                clearance.restricted.insert(entitlement, Bits(closed));
            }
            _ => clearance.rights |= closed,
        }
    }
    Ok(clearance)
}

/// What is said of mining a document: by itself, else by its collection.
#[must_use]
pub fn tdm(document: &Document, collection: &Collection) -> Option<Tdm> {
    // An import refuses what cannot be read; of one from before it did, nothing is known.
    Tdm::of(&document.metadata).ok().flatten().or_else(|| collection.tdm.clone())
}

/// The same as headers of an answer that has the document's content.
#[must_use]
pub fn tdm_headers(tdm: Option<&Tdm>) -> HeaderMap {
    let Some(Tdm { reservation, policy }) = tdm else { return HeaderMap::new() };
    let policy = policy.as_deref().and_then(|policy| HeaderValue::from_str(policy).ok());
    let reservation = (TDM_RESERVATION, HeaderValue::from(u16::from(*reservation)));
    [reservation].into_iter().chain(policy.map(|policy| (TDM_POLICY, policy))).collect()
}
