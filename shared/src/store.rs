//! The database: record of collections, documents, docsets, packages and keys, behind one trait.
//!
//! [`Store`] is implemented once, for SQLite and PostgreSQL; one contract suite runs on both.
//! No bytes of documents live here: see [`crate::objects`].

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;

use async_trait::async_trait;
use futures::stream::BoxStream;
use roaring::RoaringBitmap;

use crate::digest::Sha256;
use crate::domain::{
    About, Access, Allowance, ApiKey, Clearance, Collection, Docset, Document, Documents, Entitlement, FileRecord,
    Format, FormatTotal, Holding, Holdings, Limits, Month, OwnLimit, Package, Recipe, Role, Scope, Status, Tdm,
    UsageSums, Withdrawn,
};
use crate::ids::{
    CollectionId, DocsetId, ImportId, IndexId, KeyId, PackageId, SaltedShare, ShareId, VersionId, WatchId,
};
use crate::search::Language;

mod allowances;
mod charges;
mod connections;
mod docsets;
mod documents;
mod errors;
mod files;
mod holdings;
mod import;
mod keys;
mod liveness;
mod members;
mod open;
mod packages;
mod refs;
mod reindex;
mod rights;
mod rows;
mod shares;
mod sql;
mod staging;
mod summaries;
mod usage;
mod watches;
mod withdrawals;
mod writes;

pub use allowances::{ALLOWANCE_LEASE_MS, Exchange, Standing};
pub use charges::ChargedTo;
pub use docsets::NewDocset;
pub use shares::Share;
pub use sql::SqlStore;
pub use summaries::{Summary, measure, works};
pub use usage::UsageCount;
pub use watches::{Attempt, NewWatch, Notice, NoticeState, Watch};
pub use withdrawals::Settling;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The row that an operation works on is not there.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// Another import holds the collection.
    #[error("another import into this collection is running")]
    ImportRunning {
        /// When its lease ends unless it is renewed; milliseconds since the epoch.
        until_ms: i64,
    },
    /// The import's lease was lost to another import: nothing of this one has become visible.
    #[error("this import was overtaken by another; nothing of it has become visible, run it again")]
    ImportOvertaken,
    /// The key has as much as it may.
    #[error("the key may have {limit} {holding}, and has as much")]
    LimitReached {
        /// Of these.
        holding: Holding,
        /// So much.
        limit: u64,
    },
    /// All 2^32 document-version ids are used.
    #[error("the document-version ids are used up (2^32)")]
    IdsExhausted,
    /// A row says what no version of Adit writes.
    #[error("the database holds an unreadable value: {0}")]
    Corrupt(String),
    /// The database is there, but does not let this program in or work: wrong user or password, no such database, no rights on it, a schema
    /// that is newer than the program. Only the operator can help.
    #[error("the database refused: {0}")]
    Refused(String),
    /// The database is away or out of order; trying again may help.
    #[error("the database failed: {0}")]
    Unavailable(String),
}

/// A result of the database.
pub type StoreResult<T> = Result<T, StoreError>;

/// A collection as `collection.json` describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewCollection {
    /// Its name in URLs.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// What it holds.
    pub description: String,
    /// URI of its default licence.
    pub license: Option<String>,
    /// Who may have the files of documents that do not say it themselves.
    pub access: Access,
    /// What is said of text and data mining.
    pub tdm: Option<Tdm>,
    /// What its texts are to be analysed by.
    pub language: Option<Language>,
    /// Keeps searches from finding closed texts at all for those who may not read them.
    pub hide_closed_text: bool,
}

/// The right to import into a collection, held by one import at a time until it commits, aborts or lets the lease run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportLease {
    /// The import.
    pub import: ImportId,
    /// The collection, and the corpus version that the import starts from; it will make the next.
    pub base: IndexId,
}

impl ImportLease {
    /// The collection.
    #[must_use]
    pub fn collection(&self) -> CollectionId {
        self.base.collection
    }

    /// What the import makes, if it is committed and has changed anything.
    #[must_use]
    pub fn made(&self) -> IndexId {
        self.base.next(self.import)
    }
}

/// An import lease as the database has it, whether it still keeps others out or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLease {
    /// Slug of the collection.
    pub slug: String,
    /// The import that took it.
    pub import: ImportId,
    /// When it ends unless it is renewed; milliseconds since the epoch.
    pub until_ms: i64,
}

/// A document version that an import adds.
#[derive(Debug, Clone, PartialEq)]
pub struct NewDocument {
    /// Its id, out of [`Store::reserve_versions`].
    pub id: VersionId,
    /// The work's name.
    pub r#ref: String,
    /// One more than the version that it replaces; else 1.
    pub version: u32,
    /// Safe file name.
    pub name: String,
    /// `name` as it is compared: see [`crate::names::fold`].
    pub folded_name: String,
    /// Dublin Core metadata.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// See [`crate::domain::content_hash`].
    pub content_hash: Sha256,
    /// Who may have its files; older versions get it too.
    pub access: Access,
    /// The version that it replaces.
    pub replaces: Option<VersionId>,
    /// Its files.
    pub files: Vec<FileRecord>,
}

/// What an import must know of a document that is already there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentDocument {
    /// The current version's id.
    pub id: VersionId,
    /// Its number.
    pub version: u32,
    /// Its safe file name, kept by later versions.
    pub name: String,
    /// Its content hash.
    pub content_hash: Sha256,
    /// Who may have its files.
    pub access: Access,
}

/// One member of a docset with its files, as a package needs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The document version.
    pub id: VersionId,
    /// The work's name.
    pub r#ref: String,
    /// Its safe file name.
    pub name: String,
    /// See [`crate::domain::content_hash`].
    pub content_hash: Sha256,
    /// Its files in the wanted formats, sorted by format.
    pub files: Vec<FileRecord>,
}

/// A package to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewPackage {
    /// The key that asks for it.
    pub owner: KeyId,
    /// The docset.
    pub docset: DocsetId,
    /// What it is to be made of.
    pub recipe: Recipe,
    /// What it is to say about itself.
    pub about: Option<About>,
    /// See [`Recipe::fingerprint`].
    pub fingerprint: Sha256,
    /// What of its docset it has and has not for reasons of rights.
    pub clearance: Clearance,
    /// Members of the docset.
    pub requested: u64,
    /// Milliseconds since the epoch.
    pub created: i64,
}

/// What a packager has said of a package, as the database takes it in. `None` leaves a value as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusUpdate {
    /// Orders statuses: taken in only if it is greater than what was taken in before.
    pub sequence: i64,
    /// The new status.
    pub status: Option<Status>,
    /// Counts of documents.
    pub documents: Option<Documents>,
    /// Archive bytes written so far.
    pub bytes_done: Option<u64>,
    /// Archive size.
    pub bytes_total: Option<u64>,
    /// 0 to 100.
    pub percent: Option<u8>,
    /// Seconds that the build is expected to take.
    pub estimate_seconds: Option<u64>,
    /// Where the packager says that the archive lies.
    pub location: Option<String>,
    /// Size of the finished archive.
    pub size: Option<u64>,
    /// SHA-256 of the finished archive.
    pub sha256: Option<Sha256>,
    /// Why it failed.
    pub problem: Option<String>,
    /// When the archive may be erased.
    pub expires: Option<i64>,
}

/// The record of everything but bytes.
///
/// Methods that act for a miner take the owner's [`KeyId`] where they must not see what belongs to others;
/// `None` there means an operator, who sees everything.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// Answers when the database does.
    async fn ping(&self) -> StoreResult<()>;
    /// Commits a change that means nothing: the database takes what it is given.
    async fn check_writes(&self) -> StoreResult<()>;

    /// The random text that this database was made with: copies of it have the same, others another.
    async fn identity(&self) -> StoreResult<String>;

    // ---- collections and documents ----

    /// All collections by slug.
    async fn collections(&self) -> StoreResult<Vec<Collection>>;
    /// A collection by slug.
    async fn collection(&self, slug: &str) -> StoreResult<Option<Collection>>;
    /// A collection by id.
    async fn collection_by_id(&self, id: CollectionId) -> StoreResult<Option<Collection>>;
    /// The indexes of the collection's newest `limit` corpus versions that are recorded, newest first.
    async fn indexes(&self, collection: CollectionId, limit: u32) -> StoreResult<Vec<IndexId>>;
    /// Documents by version id, of any corpus version, with all their files, in the order of ids; unknown ids are left out, and so are
    /// those whose import is not committed.
    async fn documents(&self, ids: &[VersionId]) -> StoreResult<Vec<Document>>;
    /// The version ids of documents by ref, as they stand in `corpus_version`; unknown refs are left out.
    async fn resolve_refs(
        &self,
        collection: CollectionId,
        corpus_version: i64,
        refs: &[String],
    ) -> StoreResult<HashMap<String, VersionId>>;
    /// When the import that added a document version was committed, in milliseconds since the epoch; of one from before imports were
    /// recorded, when the first recorded one after it was. `None` if there is no such version, or its import is not committed.
    async fn imported(&self, id: VersionId) -> StoreResult<Option<i64>>;
    /// Those members of a docset (of `collection`) that are versions of the works `refs`; other refs are left out.
    async fn members_by_ref(
        &self,
        collection: CollectionId,
        members: &RoaringBitmap,
        refs: &[&str],
    ) -> StoreResult<HashMap<String, VersionId>>;
    /// Members in the order of ids, starting behind `after`, each with its files in `formats` (all for `None`).
    /// Reads page by page; holds no connection while the consumer is slow. A member that is not there ends the stream with
    /// [`StoreError::Corrupt`]: none is left out in silence.
    fn members<'a>(
        &'a self,
        members: &'a RoaringBitmap,
        after: Option<VersionId>,
        formats: Option<&'a [Format]>,
    ) -> BoxStream<'a, StoreResult<Member>>;
    /// [`Store::members`] from the first on, each with its metadata: an object as JSON.
    fn described_members<'a>(
        &'a self,
        members: &'a RoaringBitmap,
        formats: &'a [Format],
    ) -> BoxStream<'a, StoreResult<(Member, String)>>;

    // ---- import ----

    /// Creates the collection or updates its description, and takes the import lease until `now + lease_ms`. Rows that an
    /// import left behind when it died are removed.
    ///
    /// # Errors
    /// [`StoreError::ImportRunning`] while another import holds a lease that is valid: see
    /// [`crate::clock::is_lease_valid`].
    async fn begin_import(&self, collection: &NewCollection, now: i64, lease_ms: i64) -> StoreResult<ImportLease>;
    /// Keeps the lease until `now + lease_ms`.
    ///
    /// # Errors
    /// [`StoreError::ImportOvertaken`] when it is no longer held.
    async fn renew_import(&self, lease: &ImportLease, now: i64, lease_ms: i64) -> StoreResult<()>;
    /// Lists the import leases that are held, by slug; those of dead imports too.
    async fn held_leases(&self) -> StoreResult<Vec<HeldLease>>;
    /// Takes the lease of a collection from the import that holds it, and returns that import. It
    /// finds itself overtaken.
    async fn break_lease(&self, slug: &str) -> StoreResult<Option<ImportId>>;
    /// Takes `count` fresh version ids, consecutive, above all taken before; returns the first. They are never given out again, used or not.
    async fn reserve_versions(&self, count: u32) -> StoreResult<VersionId>;
    /// The current versions of documents by ref.
    async fn current_documents(
        &self,
        lease: &ImportLease,
        refs: &[String],
    ) -> StoreResult<HashMap<String, CurrentDocument>>;
    /// Which of these folded names belong to a document of the collection with another ref, and to which.
    async fn name_owners(&self, lease: &ImportLease, folded: &[String]) -> StoreResult<HashMap<String, String>>;
    /// Adds document versions, invisible until [`Store::commit_import`].
    async fn stage_documents(&self, lease: &ImportLease, documents: &[NewDocument]) -> StoreResult<()>;
    /// Makes everything staged visible as one new corpus version, records that this import made it, marks what it replaces as
    /// superseded, updates the collection's counts and gives up the lease, all in one transaction. Without staged documents the corpus version stays. After an answer that was
    /// lost it may be asked for again: what is committed is not committed twice.
    ///
    /// # Errors
    /// [`StoreError::ImportOvertaken`] when the lease is no longer held.
    async fn commit_import(&self, lease: &ImportLease, now: i64) -> StoreResult<Collection>;
    /// Removes what was staged and gives up the lease; nothing to do if the lease is no longer held.
    async fn abort_import(&self, lease: &ImportLease) -> StoreResult<()>;

    /// The keys of all packs that hold files of the collection's documents, staged ones too. What else an import finds in the object
    /// store while it holds the lease, a dead one has left there.
    async fn pack_keys(&self, collection: CollectionId) -> StoreResult<HashSet<String>>;
    /// The ids of all document versions of a collection that its packs must hold: of every committed
    /// import, superseded ones too.
    async fn stored_versions(&self, collection: CollectionId) -> StoreResult<RoaringBitmap>;

    // ---- docsets ----

    /// Makes a docset.
    ///
    /// # Errors
    /// [`StoreError::LimitReached`] where its owner has as many as it may.
    async fn create_docset(&self, docset: &NewDocset) -> StoreResult<Docset>;
    /// A docset, with its members.
    async fn docset(&self, id: DocsetId, owner: Option<KeyId>) -> StoreResult<Option<Docset>>;
    /// Docsets by falling id, those below `before`, without their members (the bitmap is empty).
    async fn docsets(&self, owner: Option<KeyId>, before: Option<DocsetId>, limit: u32) -> StoreResult<Vec<Docset>>;
    /// Renames a docset; false if there is none.
    async fn rename_docset(&self, id: DocsetId, owner: Option<KeyId>, name: Option<&str>) -> StoreResult<bool>;
    /// A docset, with its members, also one that its owner has deleted and that stays for packages
    /// of others.
    async fn docset_of_packages(&self, id: DocsetId) -> StoreResult<Option<Docset>>;
    /// The collection of such a docset.
    async fn collection_of_docset(&self, id: DocsetId) -> StoreResult<Option<CollectionId>>;
    /// Deletes a docset, its links, and its packages' rows; returns these packages, `None` if there
    /// is no docset. Packages of other keys than its owner that are being built, or there at `now`,
    /// stay: for their sake the docset is only put out of sight then.
    async fn delete_docset(&self, id: DocsetId, owner: Option<KeyId>, now: i64) -> StoreResult<Option<Vec<Package>>>;
    /// Deletes docsets, at most `limit`, that were put out of sight and whose packages are gone;
    /// returns their packages.
    async fn purge_deleted_docsets(&self, now: i64, limit: u32) -> StoreResult<Vec<Package>>;

    // ---- packages ----

    /// Returns the owner's newest package of that fingerprint that has not failed, was not dismissed and is not erased (with `false`),
    /// or makes one (with `true`): one atomic step, so that two equal requests at once make one package. With `reuse: false` it always makes one.
    ///
    /// # Errors
    /// [`StoreError::LimitReached`] where a package would be made and the owner has as much as it may.
    async fn create_package(&self, package: &NewPackage, reuse: bool) -> StoreResult<(Package, bool)>;
    /// A package.
    async fn package(&self, id: PackageId, owner: Option<KeyId>) -> StoreResult<Option<Package>>;
    /// The packages of a docset by falling id.
    async fn packages_of(&self, docset: DocsetId) -> StoreResult<Vec<Package>>;
    /// The owner's packages of that fingerprint, of whatever docset, by falling id, at most `limit`.
    async fn packages_like(&self, owner: KeyId, fingerprint: &Sha256, limit: u32) -> StoreResult<Vec<Package>>;
    /// Claims the right to send the package's request, of all who saw the row as it is in `package`: sets `sent` and counts `sends`. False
    /// if another one has it, or if the package is terminal (or gone) by now.
    async fn claim_sending(&self, package: &Package, now: i64) -> StoreResult<bool>;
    /// Gives the claim back that was taken on `package`, as the row then was; nothing to do if somebody has claimed it since.
    async fn unclaim_sending(&self, package: &Package) -> StoreResult<()>;
    /// Takes a status in, if its sequence is greater than the last one's and the package is not terminal; sets `heard` (and `started`,
    /// `finished`, `content` where the status says so: a successful package becomes available). Returns the package as it stands.
    async fn update_package(&self, id: PackageId, update: &StatusUpdate, now: i64) -> StoreResult<Option<Package>>;
    /// Dismisses a package that is not terminal; returns it as it stands.
    async fn dismiss_package(&self, id: PackageId, owner: Option<KeyId>, now: i64) -> StoreResult<Option<Package>>;
    /// Records that its owner wants the package no more, if it is being built or there.
    async fn give_up_package(&self, id: PackageId, now: i64) -> StoreResult<()>;
    /// The owner's packages that are not terminal, oldest first, at most `limit`.
    async fn unfinished_packages(&self, owner: KeyId, limit: u32) -> StoreResult<Vec<Package>>;
    /// Marks a finished package's archive as erased; returns it as it stands.
    async fn erase_package(&self, id: PackageId, owner: Option<KeyId>) -> StoreResult<Option<Package>>;
    /// Packages whose archive is available although it has expired, at most `limit`.
    async fn expired_packages(&self, now: i64, limit: u32) -> StoreResult<Vec<Package>>;
    /// Packages of all keys whose archive is available, by rising id from behind `after`, at most `limit`.
    async fn available_packages(&self, after: Option<PackageId>, limit: u32) -> StoreResult<Vec<Package>>;

    /// Packages that are not terminal and of which nothing was sent or heard since `before`, at most `limit`.
    async fn forgotten_packages(&self, before: i64, limit: u32) -> StoreResult<Vec<Package>>;

    // ---- keys ----

    /// Makes a key that may use `quota` documents a day (`None`: what its role may), and as many requests as its role; its secret's hash
    /// must be new.
    async fn create_key(
        &self,
        name: &str,
        role: Role,
        quota: Option<u64>,
        hash: &Sha256,
        now: i64,
    ) -> StoreResult<ApiKey>;
    /// The key with that hash, an expired or revoked one too, and what is taken of its documents of
    /// the window that begins at `day`.
    async fn caller(&self, hash: &Sha256, day: i64) -> StoreResult<Option<(ApiKey, u64)>>;
    /// Finds a key by its number, an expired or revoked one too.
    async fn key(&self, id: KeyId) -> StoreResult<Option<ApiKey>>;
    /// Has an unrevoked key expire at that instant, or never; false if there is none.
    async fn set_key_expiry(&self, id: KeyId, expires: Option<i64>) -> StoreResult<bool>;
    /// Gives an unrevoked key these scopes of its role, or all for `None`; false if there is none.
    async fn set_key_scopes(&self, id: KeyId, own: Option<&BTreeSet<Scope>>) -> StoreResult<bool>;
    /// Stores when keys were last used, unless a later time is stored. What fails may be repeated.
    async fn note_key_use(&self, used: &[(KeyId, i64)]) -> StoreResult<()>;
    /// All keys, revoked ones too, by id.
    async fn keys(&self) -> StoreResult<Vec<ApiKey>>;
    /// Revokes a key; false if there is none or it is revoked already.
    async fn revoke_key(&self, id: KeyId, now: i64) -> StoreResult<bool>;
    /// Removes a key's row, with what was counted of its use; false where there is none, or where
    /// something belongs to the key. For keys that a program made for itself.
    async fn remove_key(&self, id: KeyId) -> StoreResult<bool>;
    /// The secret of that name, the same for all processes of the installation: `fresh` (random) bytes if there was none.
    async fn secret(&self, name: &str, fresh: &[u8; 32]) -> StoreResult<[u8; 32]>;
    /// Replaces the secret of that name; makes it if there was none.
    async fn replace_secret(&self, name: &str, fresh: &[u8; 32]) -> StoreResult<()>;

    // ---- reindex ----

    /// Takes the import lease of a collection that is there, for work that brings no documents; else like [`Store::begin_import`].
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where there is no such collection.
    async fn begin_reindex(&self, slug: &str, now: i64, lease_ms: i64) -> StoreResult<ImportLease>;
    /// The documents that an index of the lease's base holds: all that are current in its corpus version.
    async fn indexed(&self, lease: &ImportLease) -> StoreResult<RoaringBitmap>;
    /// [`Store::commit_import`] of a corpus version that is new by its index, whether or not documents are staged.
    async fn commit_reindex(&self, lease: &ImportLease, now: i64) -> StoreResult<Collection>;
    // ---- making docsets, and sharing them ----

    /// What docsets are measured, sampled and compared by, of all members in the order of ids, in chunks: for a million members some thousand rows
    /// are read. A member that is not there ends the stream with [`StoreError::Corrupt`].
    fn summaries<'a>(&'a self, members: &'a RoaringBitmap) -> BoxStream<'a, StoreResult<Vec<Summary>>>;
    /// The versions that the works of these members have in `corpus_version`; works that are gone are left out.
    async fn newest_versions(&self, corpus_version: i64, members: &RoaringBitmap) -> StoreResult<RoaringBitmap>;
    /// The owner's newest docsets of that fingerprint, some.
    async fn docsets_like(&self, owner: KeyId, fingerprint: &Sha256) -> StoreResult<Vec<Docset>>;
    /// Makes a link that opens the docset until `expires`.
    async fn create_share(&self, docset: DocsetId, now: i64, expires: i64) -> StoreResult<Share>;
    /// A docset's links, expired ones too, by id, those behind `after`.
    async fn shares(&self, docset: DocsetId, after: Option<ShareId>, limit: u32) -> StoreResult<Vec<Share>>;
    /// Ends a link and what it opened; false if there is none.
    async fn revoke_share(&self, docset: DocsetId, share: ShareId) -> StoreResult<bool>;
    /// A link's docset, with its members, while the link lives and the docset's owner is a valid
    /// key.
    async fn shared_docset(&self, share: SaltedShare, now: i64) -> StoreResult<Option<Docset>>;
    /// Opens a link's docset to `guest` for as long as the link lives; `None` if it does not any
    /// more, or the docset's owner is no valid key.
    async fn follow_share(&self, share: SaltedShare, guest: KeyId, now: i64) -> StoreResult<Option<DocsetId>>;
    /// A docset, with its members, for a key that may read it: its owner's, or one to which a link
    /// of an owner that is a valid key has opened it.
    async fn readable_docset(&self, id: DocsetId, reader: KeyId, now: i64) -> StoreResult<Option<Docset>>;
    // ---- allowances ----

    /// Gives an unrevoked key limits of its own; false if there is none.
    async fn limit_key(&self, id: KeyId, own: &Limits<OwnLimit>) -> StoreResult<bool>;
    /// What keys of a role may use that have no limits of their own.
    async fn role_limits(&self, role: Role) -> StoreResult<Limits<Option<u64>>>;
    /// Changes that.
    async fn limit_role(&self, role: Role, limits: &Limits<Option<u64>>) -> StoreResult<()>;
    /// Ends a lease of an allowance and takes anew, in one step; tells what was granted (between `least` and `most`, or 0), and how it stands now. No exchanges at once take more than there is. After an error it is not
    /// known whether it was done; it must not be repeated, for what was given back would be given back twice.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key.
    async fn exchange(&self, exchange: &Exchange) -> StoreResult<(u64, Standing)>;
    /// Charges a package that is not paid for, in one step. `None` if it is paid for already, or has come to nothing; with less than
    /// `charge.least` granted it was not charged.
    async fn pay_package(&self, id: PackageId, charge: &Exchange) -> StoreResult<Option<(u64, Standing)>>;
    /// Dismisses a package that is accepted and not paid for, nor to be paid for later; one that
    /// somebody else has paid for meanwhile stays.
    async fn dismiss_unpaid(&self, id: PackageId, now: i64) -> StoreResult<()>;
    /// Takes a package for paid without a charge.
    async fn mark_paid(&self, id: PackageId) -> StoreResult<()>;
    /// Has a package that is not paid for be paid for when it is fetched first.
    async fn defer_payment(&self, id: PackageId) -> StoreResult<()>;
    /// Counts the documents of a key's packages that were asked for since then, whose payment is
    /// deferred, and that are not paid for.
    async fn unpaid_documents(&self, owner: KeyId, since: i64) -> StoreResult<u64>;
    /// How an allowance stands in the window that begins at `window`.
    async fn standing(&self, key: KeyId, allowance: Allowance, window: i64) -> StoreResult<Standing>;
    /// The documents charged to a key by day (when it began, in milliseconds since the epoch), newest first, at most `limit` days.
    async fn charged(&self, key: KeyId, limit: u32) -> StoreResult<Vec<(i64, u64)>>;

    // ---- charges of documents ----

    /// Tells which of some documents are charged already.
    async fn charged_documents(&self, to: ChargedTo<'_>, documents: &RoaringBitmap) -> StoreResult<RoaringBitmap>;
    /// Records documents as charged; returns those that were not before. Of several processes that
    /// record one, one is told so.
    async fn record_charges(&self, to: ChargedTo<'_>, documents: &RoaringBitmap) -> StoreResult<RoaringBitmap>;
    /// Forgets the charges of days that began before `before`.
    async fn forget_charges(&self, before: i64) -> StoreResult<()>;

    // ---- holdings ----

    /// Counts what a key has at `now`.
    async fn holdings(&self, key: KeyId, now: i64) -> StoreResult<Holdings<u64>>;
    /// Gives an unrevoked key limits of its own on what it may have; false if there is none.
    async fn limit_key_holdings(&self, id: KeyId, own: &Holdings<OwnLimit>) -> StoreResult<bool>;
    /// Tells what keys of a role may have that have no limits of their own.
    async fn role_holding_limits(&self, role: Role) -> StoreResult<Holdings<Option<u64>>>;
    /// Changes that.
    async fn limit_role_holdings(&self, role: Role, limits: &Holdings<Option<u64>>) -> StoreResult<()>;

    // ---- rights ----

    /// Entitles a key; false if it is entitled already.
    async fn grant(&self, key: KeyId, entitlement: &Entitlement) -> StoreResult<bool>;
    /// Takes an entitlement from a key; false if it has none of that name.
    async fn deny(&self, key: KeyId, entitlement: &Entitlement) -> StoreResult<bool>;
    /// Those of some of a collection's document versions that are not open, by their access level.
    async fn closed(
        &self,
        collection: CollectionId,
        members: &RoaringBitmap,
    ) -> StoreResult<Vec<(Access, RoaringBitmap)>>;
    /// Those of some of a collection's document versions whose works were withdrawn.
    async fn withdrawn(
        &self,
        collection: CollectionId,
        members: &RoaringBitmap,
    ) -> StoreResult<BTreeMap<VersionId, Withdrawn>>;
    /// Those of some works of a collection that are withdrawn.
    async fn withdrawn_refs(&self, collection: CollectionId, refs: &[String]) -> StoreResult<HashSet<String>>;
    /// Withdraws works from now on; the index of the next corpus version is to lack them.
    async fn withdraw(&self, collection: CollectionId, refs: &[String], reason: &str, now: i64) -> StoreResult<()>;
    /// Takes that back from now on; the index of the next corpus version is to have them again.
    async fn undo_withdrawal(&self, collection: CollectionId, refs: &[String]) -> StoreResult<()>;
    /// What an import's index must lack, or have again, because of withdrawals. The import's commit makes a new corpus version for it, in which
    /// these works are not current any more, or are again.
    async fn claim_withdrawals(&self, lease: &ImportLease) -> StoreResult<Settling>;
    /// What of its docset a package has and has not for reasons of rights.
    async fn clearance(&self, package: PackageId) -> StoreResult<Clearance>;

    // ---- watches ----

    /// Makes a watch; `None` if its owner has `most` of them already.
    async fn create_watch(&self, watch: &NewWatch, most: u32) -> StoreResult<Option<Watch>>;
    /// A watch.
    async fn watch(&self, id: WatchId, owner: Option<KeyId>) -> StoreResult<Option<Watch>>;
    /// Watches by falling id, those below `before`.
    async fn watches(&self, owner: Option<KeyId>, before: Option<WatchId>, limit: u32) -> StoreResult<Vec<Watch>>;
    /// Deletes a watch and its notices; false if there is none. The docsets stay.
    async fn delete_watch(&self, id: WatchId, owner: Option<KeyId>) -> StoreResult<bool>;
    /// All watches that have not looked at their collection's newest corpus version, of keys that
    /// are valid at `now` and have the scope, by id.
    async fn watches_behind(&self, now: i64) -> StoreResult<Vec<Watch>>;
    /// The first document version that came with a corpus version above `version`: all from there on are newer than that, and none before.
    async fn first_added_after(&self, collection: CollectionId, version: i64) -> StoreResult<Option<VersionId>>;
    /// Records that the watch has looked up to `version`, and makes the docset of what it has found, with a notice: one atomic step, which
    /// does nothing if the watch's row is not as in `watch` any more, because another process was first. Returns the docset that was made.
    async fn advance_watch(
        &self,
        watch: &Watch,
        version: i64,
        found: Option<&NewDocset>,
    ) -> StoreResult<Option<DocsetId>>;
    /// A watch's notices, newest first, at most `limit`.
    async fn notices(&self, watch: WatchId, limit: u32) -> StoreResult<Vec<Notice>>;
    /// All pending notices whose next attempt is due by `by`, of keys that are valid at `now` and
    /// have the scope, by that time.
    async fn due_notices(&self, by: i64, now: i64) -> StoreResult<Vec<Notice>>;
    /// Claims the next attempt of a notice, of all who saw its row as it is in `notice`, and counts it; should the one who has it never come
    /// back, the notice is due again at `next`. False if another one has it.
    async fn claim_notice(&self, notice: &Notice, next: i64) -> StoreResult<bool>;
    /// Records what came of an attempt. [`Attempt::Gone`] gives up all that is pending of the watch, and silences it.
    async fn settle_notice(&self, notice: &Notice, attempt: &Attempt, now: i64) -> StoreResult<()>;

    // ---- usage ----

    /// Adds to counts of use, to all or to none.
    async fn count_usage(&self, counts: &[UsageCount]) -> StoreResult<()>;
    /// The use of a month by collection and metric, of one key or of all and of those who showed none.
    async fn usage(&self, month: &Month, key: Option<KeyId>) -> StoreResult<UsageSums>;
}

/// Sums files by format, as collections and docsets show them.
#[derive(Debug, Default)]
pub struct FormatTotals(BTreeMap<Format, (u64, u64)>);

impl FormatTotals {
    /// Counts one file.
    pub fn add(&mut self, format: &Format, bytes: u64) {
        let total = match self.0.get_mut(format) {
            Some(total) => total,
            None => self.0.entry(format.clone()).or_default(),
        };
        total.0 += 1;
        total.1 += bytes;
    }

    /// The sums, sorted by format.
    #[must_use]
    pub fn finish(self) -> Vec<FormatTotal> {
        self.0.into_iter().map(|(format, (documents, bytes))| FormatTotal { format, documents, bytes }).collect()
    }
}
