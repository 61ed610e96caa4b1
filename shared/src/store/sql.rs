//! [`SqlStore`]: the one implementation of [`Store`], for SQLite and PostgreSQL.
//!
//! Both speak the same statements, through sqlx's `Any` driver: `$1` placeholders, 64-bit integers, text and bytes. This file is the list;
//! what each method does lives in the file of its group beside it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use roaring::RoaringBitmap;
use sqlx::any::AnyRow;
use sqlx::{Any, Executor};

use super::connections::{Connections, Transaction};
use super::liveness::Liveness;
use super::rows::{Columns as _, Statement, query};
use super::{
    Attempt, ChargedTo, CurrentDocument, Exchange, FileMove, HeldLease, ImportLease, Member, NewCollection, NewDocset,
    NewDocument, NewPackage, NewWatch, Notice, PackUsage, Settling, Share, Standing, StatusUpdate, Store, StoreResult,
    Summary, UsageCount, Watch, allowances, charges, deletes, docsets, documents, freed, holdings, import, keys,
    members, packages, refs, reindex, rights, shares, staging, summaries, usage, watches, withdrawals, writes,
};
use crate::digest::Sha256;
use crate::domain::{
    Access, Allowance, ApiKey, Clearance, Collection, Docset, Document, Entitlement, Format, Holdings, Limits, Month,
    OwnLimit, Package, Role, Scope, UsageSums, Withdrawn,
};
use crate::ids::{
    CollectionId, DocsetId, ImportId, IndexId, KeyId, PackageId, SaltedShare, ShareId, VersionId, WatchId,
};
use crate::messaging::DeleteRequest;

/// A database: SQLite or PostgreSQL. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SqlStore {
    /// For statements that only read.
    pub(super) read: Connections,
    /// For statements that write. SQLite has one writer at a time, so there this is one connection; on PostgreSQL it is the same pool.
    pub(super) write: Connections,
    /// Begins a transaction that writes. On SQLite it takes the write lock at once: a transaction that began by reading could not
    /// wait for that lock, but would fail.
    pub(super) begin: &'static str,
    /// Tells whether the database is there, however many wait for connections.
    pub(super) liveness: Arc<Liveness>,
}

impl SqlStore {
    pub(super) async fn begin(&self) -> StoreResult<Transaction> {
        Ok(self.write.begin(self.begin).await?)
    }

    /// Writes a SQLite database as it is at one moment to a new file, while others read and write.
    /// The file is not synced to the disk.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the file is there, or cannot be written, and on PostgreSQL,
    /// which has `pg_dump`.
    pub async fn copy_to(&self, file: &Path) -> StoreResult<()> {
        let copied = query("VACUUM INTO $1").bind(file.to_string_lossy().into_owned()).execute(&self.read).await;
        Ok(copied.map(drop)?)
    }

    /// Closes all connections, after what they are doing.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
        self.liveness.close().await;
    }
}

/// Runs a statement that writes at most one row and returns it.
///
/// Not by `fetch_optional`: that is satisfied with the row, and the commit behind it, or its failure, would go unseen.
pub(super) async fn returned<'e>(
    statement: Statement<'_>,
    executor: impl Executor<'e, Database = Any>,
) -> StoreResult<Option<AnyRow>> {
    Ok(statement.fetch_all(executor).await?.pop())
}

#[async_trait]
impl Store for SqlStore {
    async fn ping(&self) -> StoreResult<()> {
        Ok(self.liveness.ask().await?)
    }

    async fn check_writes(&self) -> StoreResult<()> {
        writes::check(self).await
    }

    async fn identity(&self) -> StoreResult<String> {
        query("SELECT value FROM identity").fetch_one(&self.read).await?.value("value")
    }

    async fn collections(&self) -> StoreResult<Vec<Collection>> {
        documents::collections(self).await
    }

    async fn collection(&self, slug: &str) -> StoreResult<Option<Collection>> {
        documents::collection(self, slug).await
    }

    async fn collection_by_id(&self, id: CollectionId) -> StoreResult<Option<Collection>> {
        documents::collection_by_id(&self.read, id).await
    }

    async fn indexes(&self, collection: CollectionId, limit: u32) -> StoreResult<Vec<IndexId>> {
        documents::indexes(self, collection, limit).await
    }

    async fn documents(&self, ids: &[VersionId]) -> StoreResult<Vec<Document>> {
        documents::documents(self, ids).await
    }

    async fn resolve_refs(
        &self,
        collection: CollectionId,
        corpus_version: i64,
        refs: &[String],
    ) -> StoreResult<HashMap<String, VersionId>> {
        refs::resolve(self, collection, corpus_version, refs).await
    }

    async fn imported(&self, id: VersionId) -> StoreResult<Option<i64>> {
        documents::imported(self, id).await
    }

    async fn members_by_ref(
        &self,
        collection: CollectionId,
        members: &RoaringBitmap,
        refs: &[&str],
    ) -> StoreResult<HashMap<String, VersionId>> {
        members::by_ref(self, collection, members, refs).await
    }

    fn members<'a>(
        &'a self,
        members: &'a RoaringBitmap,
        after: Option<VersionId>,
        formats: Option<&'a [Format]>,
    ) -> BoxStream<'a, StoreResult<Member>> {
        members::stream(self, members, after, formats)
    }

    fn described_members<'a>(
        &'a self,
        members: &'a RoaringBitmap,
        formats: &'a [Format],
    ) -> BoxStream<'a, StoreResult<(Member, String)>> {
        members::described(self, members, formats)
    }

    async fn begin_import(&self, collection: &NewCollection, now: i64, lease_ms: i64) -> StoreResult<ImportLease> {
        import::begin(self, collection, now, lease_ms).await
    }

    async fn renew_import(&self, lease: &ImportLease, now: i64, lease_ms: i64) -> StoreResult<()> {
        import::renew(self, lease, now + lease_ms).await
    }

    async fn held_leases(&self) -> StoreResult<Vec<HeldLease>> {
        import::held_leases(self).await
    }

    async fn break_lease(&self, slug: &str) -> StoreResult<Option<ImportId>> {
        import::break_lease(self, slug).await
    }

    async fn reserve_versions(&self, count: u32) -> StoreResult<VersionId> {
        import::reserve_versions(self, count).await
    }

    async fn current_documents(
        &self,
        lease: &ImportLease,
        refs: &[String],
    ) -> StoreResult<HashMap<String, CurrentDocument>> {
        documents::visible(self, lease.collection(), lease.base.corpus_version, refs).await
    }

    async fn name_owners(&self, lease: &ImportLease, folded: &[String]) -> StoreResult<HashMap<String, String>> {
        documents::name_owners(self, lease.collection(), folded).await
    }

    async fn stage_documents(&self, lease: &ImportLease, documents: &[NewDocument]) -> StoreResult<()> {
        staging::stage(self, lease, documents).await
    }

    async fn commit_import(&self, lease: &ImportLease, now: i64) -> StoreResult<Collection> {
        import::commit(self, lease, now, false).await
    }

    async fn abort_import(&self, lease: &ImportLease) -> StoreResult<()> {
        import::abort(self, lease).await
    }

    async fn pack_keys(&self, collection: CollectionId) -> StoreResult<HashSet<String>> {
        import::pack_keys(self, collection).await
    }

    async fn stored_versions(&self, collection: CollectionId) -> StoreResult<RoaringBitmap> {
        reindex::stored_versions(self, collection).await
    }

    async fn free_old_versions(&self, lease: &ImportLease, kept_from: i64, dry_run: bool) -> StoreResult<u64> {
        freed::free_old_versions(self, lease, kept_from, dry_run).await
    }

    async fn pack_usage(&self, collection: CollectionId) -> StoreResult<Vec<PackUsage>> {
        freed::pack_usage(self, collection).await
    }

    async fn documents_in_packs(&self, packs: &[String]) -> StoreResult<RoaringBitmap> {
        freed::documents_in_packs(self, packs).await
    }

    async fn move_files(&self, lease: &ImportLease, moves: &[FileMove]) -> StoreResult<()> {
        freed::move_files(self, lease, moves).await
    }

    async fn drop_packs(&self, lease: &ImportLease, packs: &[String]) -> StoreResult<Vec<String>> {
        freed::drop_packs(self, lease, packs).await
    }

    async fn create_docset(&self, docset: &NewDocset) -> StoreResult<Docset> {
        docsets::create(self, docset).await
    }

    async fn docset(&self, id: DocsetId, owner: Option<KeyId>) -> StoreResult<Option<Docset>> {
        docsets::docset(self, id, owner).await
    }

    async fn docsets(&self, owner: Option<KeyId>, before: Option<DocsetId>, limit: u32) -> StoreResult<Vec<Docset>> {
        docsets::docsets(self, owner, before, limit).await
    }

    async fn rename_docset(&self, id: DocsetId, owner: Option<KeyId>, name: Option<&str>) -> StoreResult<bool> {
        docsets::rename(self, id, owner, name).await
    }

    async fn docset_of_packages(&self, id: DocsetId) -> StoreResult<Option<Docset>> {
        docsets::of_packages(self, id).await
    }

    async fn collection_of_docset(&self, id: DocsetId) -> StoreResult<Option<CollectionId>> {
        docsets::collection(self, id).await
    }

    async fn delete_docset(&self, id: DocsetId, owner: Option<KeyId>, now: i64) -> StoreResult<Option<Vec<Package>>> {
        docsets::delete(self, id, owner, now).await
    }

    async fn purge_deleted_docsets(&self, now: i64, limit: u32) -> StoreResult<Vec<Package>> {
        docsets::purge_deleted(self, now, limit).await
    }

    async fn create_package(&self, package: &NewPackage, reuse: bool) -> StoreResult<(Package, bool)> {
        packages::create(self, package, reuse).await
    }

    async fn package(&self, id: PackageId, owner: Option<KeyId>) -> StoreResult<Option<Package>> {
        packages::package(self, id, owner).await
    }

    async fn packages_of(&self, docset: DocsetId) -> StoreResult<Vec<Package>> {
        packages::packages_of(self, docset).await
    }

    async fn packages_like(&self, owner: KeyId, fingerprint: &Sha256, limit: u32) -> StoreResult<Vec<Package>> {
        packages::like(self, owner, fingerprint, limit).await
    }

    async fn claim_sending(&self, package: &Package, now: i64) -> StoreResult<bool> {
        packages::claim_sending(self, package, now).await
    }

    async fn unclaim_sending(&self, package: &Package) -> StoreResult<()> {
        packages::unclaim_sending(self, package).await
    }

    async fn update_package(&self, id: PackageId, update: &StatusUpdate, now: i64) -> StoreResult<Option<Package>> {
        packages::update(self, id, update, now).await
    }

    async fn dismiss_package(&self, id: PackageId, owner: Option<KeyId>, now: i64) -> StoreResult<Option<Package>> {
        packages::dismiss(self, id, owner, now).await
    }

    async fn give_up_package(&self, id: PackageId, now: i64) -> StoreResult<()> {
        packages::give_up(self, id, now).await
    }

    async fn unfinished_packages(&self, owner: KeyId, limit: u32) -> StoreResult<Vec<Package>> {
        packages::unfinished(self, owner, limit).await
    }

    async fn erase_package(&self, id: PackageId, owner: Option<KeyId>) -> StoreResult<Option<Package>> {
        packages::erase(self, id, owner).await
    }

    async fn pending_deletes(&self, limit: u32) -> StoreResult<Vec<DeleteRequest>> {
        deletes::pending(self, limit).await
    }

    async fn confirm_delete(&self, request: &DeleteRequest) -> StoreResult<()> {
        deletes::confirm(self, request).await
    }

    async fn expired_packages(&self, now: i64, limit: u32) -> StoreResult<Vec<Package>> {
        packages::expired(self, now, limit).await
    }

    async fn available_packages(&self, after: Option<PackageId>, limit: u32) -> StoreResult<Vec<Package>> {
        packages::available(self, after, limit).await
    }

    async fn forgotten_packages(&self, before: i64, limit: u32) -> StoreResult<Vec<Package>> {
        packages::forgotten(self, before, limit).await
    }

    async fn create_key(
        &self,
        name: &str,
        role: Role,
        quota: Option<u64>,
        hash: &Sha256,
        now: i64,
    ) -> StoreResult<ApiKey> {
        keys::create(self, name, role, quota, hash, now).await
    }

    async fn caller(&self, hash: &Sha256, day: i64) -> StoreResult<Option<(ApiKey, u64)>> {
        keys::caller(self, hash, day).await
    }

    async fn key(&self, id: KeyId) -> StoreResult<Option<ApiKey>> {
        keys::by_id(self, id).await
    }

    async fn keys(&self) -> StoreResult<Vec<ApiKey>> {
        keys::all(self).await
    }

    async fn set_key_expiry(&self, id: KeyId, expires: Option<i64>) -> StoreResult<bool> {
        keys::set_expiry(self, id, expires).await
    }

    async fn set_key_scopes(&self, id: KeyId, own: Option<&BTreeSet<Scope>>) -> StoreResult<bool> {
        keys::set_scopes(self, id, own).await
    }

    async fn note_key_use(&self, used: &[(KeyId, i64)]) -> StoreResult<()> {
        keys::note_use(self, used).await
    }

    async fn revoke_key(&self, id: KeyId, now: i64) -> StoreResult<bool> {
        keys::revoke(self, id, now).await
    }

    async fn remove_key(&self, id: KeyId) -> StoreResult<bool> {
        keys::remove(self, id).await
    }

    async fn secret(&self, name: &str, fresh: &[u8; 32]) -> StoreResult<[u8; 32]> {
        keys::secret(self, name, fresh).await
    }

    async fn replace_secret(&self, name: &str, fresh: &[u8; 32]) -> StoreResult<()> {
        keys::replace_secret(self, name, fresh).await
    }

    async fn charged_documents(&self, to: ChargedTo<'_>, documents: &RoaringBitmap) -> StoreResult<RoaringBitmap> {
        charges::find(self, to, documents).await
    }

    async fn record_charges(&self, to: ChargedTo<'_>, documents: &RoaringBitmap) -> StoreResult<RoaringBitmap> {
        charges::record(self, to, documents).await
    }

    async fn forget_charges(&self, before: i64) -> StoreResult<()> {
        charges::forget(self, before).await
    }

    async fn holdings(&self, key: KeyId, now: i64) -> StoreResult<Holdings<u64>> {
        holdings::count(self, key, now).await
    }

    async fn limit_key_holdings(&self, id: KeyId, own: &Holdings<OwnLimit>) -> StoreResult<bool> {
        holdings::limit_key(self, id, own).await
    }

    async fn role_holding_limits(&self, role: Role) -> StoreResult<Holdings<Option<u64>>> {
        holdings::role_limits(self, role).await
    }

    async fn limit_role_holdings(&self, role: Role, limits: &Holdings<Option<u64>>) -> StoreResult<()> {
        holdings::limit_role(self, role, limits).await
    }

    async fn grant(&self, key: KeyId, entitlement: &Entitlement) -> StoreResult<bool> {
        rights::grant(self, key, entitlement).await
    }

    async fn deny(&self, key: KeyId, entitlement: &Entitlement) -> StoreResult<bool> {
        rights::deny(self, key, entitlement).await
    }

    async fn closed(
        &self,
        collection: CollectionId,
        members: &RoaringBitmap,
    ) -> StoreResult<Vec<(Access, RoaringBitmap)>> {
        rights::closed(self, collection, members).await
    }

    async fn withdrawn(
        &self,
        collection: CollectionId,
        members: &RoaringBitmap,
    ) -> StoreResult<BTreeMap<VersionId, Withdrawn>> {
        withdrawals::withdrawn(self, collection, members).await
    }

    async fn withdrawn_refs(&self, collection: CollectionId, refs: &[String]) -> StoreResult<HashSet<String>> {
        withdrawals::withdrawn_refs(self, collection, refs).await
    }

    async fn withdraw(&self, collection: CollectionId, refs: &[String], reason: &str, now: i64) -> StoreResult<()> {
        withdrawals::withdraw(self, collection, refs, reason, now).await
    }

    async fn undo_withdrawal(&self, collection: CollectionId, refs: &[String]) -> StoreResult<()> {
        withdrawals::undo(self, collection, refs).await
    }

    async fn claim_withdrawals(&self, lease: &ImportLease) -> StoreResult<Settling> {
        withdrawals::claim(self, lease).await
    }

    async fn clearance(&self, package: PackageId) -> StoreResult<Clearance> {
        rights::clearance(self, package).await
    }

    async fn begin_reindex(&self, slug: &str, now: i64, lease_ms: i64) -> StoreResult<ImportLease> {
        reindex::begin(self, slug, now, lease_ms).await
    }

    async fn indexed(&self, lease: &ImportLease) -> StoreResult<RoaringBitmap> {
        reindex::indexed(self, lease).await
    }

    async fn commit_reindex(&self, lease: &ImportLease, now: i64) -> StoreResult<Collection> {
        import::commit(self, lease, now, true).await
    }

    fn summaries<'a>(&'a self, members: &'a RoaringBitmap) -> BoxStream<'a, StoreResult<Vec<Summary>>> {
        summaries::stream(self, members)
    }

    async fn newest_versions(&self, corpus_version: i64, members: &RoaringBitmap) -> StoreResult<RoaringBitmap> {
        refs::newest(self, corpus_version, members).await
    }

    async fn docsets_like(&self, owner: KeyId, fingerprint: &Sha256) -> StoreResult<Vec<Docset>> {
        docsets::like(self, owner, fingerprint).await
    }

    async fn create_share(&self, docset: DocsetId, now: i64, expires: i64) -> StoreResult<Share> {
        shares::create(self, docset, now, expires).await
    }

    async fn shares(&self, docset: DocsetId, after: Option<ShareId>, limit: u32) -> StoreResult<Vec<Share>> {
        shares::list(self, docset, after, limit).await
    }

    async fn revoke_share(&self, docset: DocsetId, share: ShareId) -> StoreResult<bool> {
        shares::revoke(self, docset, share).await
    }

    async fn shared_docset(&self, share: SaltedShare, now: i64) -> StoreResult<Option<Docset>> {
        shares::shared(self, share, now).await
    }

    async fn follow_share(&self, share: SaltedShare, guest: KeyId, now: i64) -> StoreResult<Option<DocsetId>> {
        shares::follow(self, share, guest, now).await
    }

    async fn readable_docset(&self, id: DocsetId, reader: KeyId, now: i64) -> StoreResult<Option<Docset>> {
        shares::docset(self, id, reader, now).await
    }

    async fn limit_key(&self, id: KeyId, own: &Limits<OwnLimit>) -> StoreResult<bool> {
        keys::limit(self, id, own).await
    }

    async fn role_limits(&self, role: Role) -> StoreResult<Limits<Option<u64>>> {
        keys::role_limits(self, role).await
    }

    async fn limit_role(&self, role: Role, limits: &Limits<Option<u64>>) -> StoreResult<()> {
        keys::limit_role(self, role, limits).await
    }

    async fn exchange(&self, exchange: &Exchange) -> StoreResult<(u64, Standing)> {
        allowances::exchange(self, exchange).await
    }

    async fn pay_package(&self, id: PackageId, charge: &Exchange) -> StoreResult<Option<(u64, Standing)>> {
        allowances::pay(self, id, charge).await
    }

    async fn dismiss_unpaid(&self, id: PackageId, now: i64) -> StoreResult<()> {
        allowances::dismiss_unpaid(self, id, now).await
    }

    async fn mark_paid(&self, id: PackageId) -> StoreResult<()> {
        allowances::mark_paid(id, &self.write).await.map(drop)
    }

    async fn defer_payment(&self, id: PackageId) -> StoreResult<()> {
        allowances::defer_payment(self, id).await
    }

    async fn unpaid_documents(&self, owner: KeyId, since: i64) -> StoreResult<u64> {
        allowances::unpaid_documents(self, owner, since).await
    }

    async fn standing(&self, key: KeyId, allowance: Allowance, window: i64) -> StoreResult<Standing> {
        allowances::standing(self, key, allowance, window).await
    }

    async fn charged(&self, key: KeyId, limit: u32) -> StoreResult<Vec<(i64, u64)>> {
        allowances::charged(self, key, limit).await
    }

    async fn create_watch(&self, watch: &NewWatch, most: u32) -> StoreResult<Option<Watch>> {
        watches::create(self, watch, most).await
    }

    async fn watch(&self, id: WatchId, owner: Option<KeyId>) -> StoreResult<Option<Watch>> {
        watches::watch(self, id, owner).await
    }

    async fn watches(&self, owner: Option<KeyId>, before: Option<WatchId>, limit: u32) -> StoreResult<Vec<Watch>> {
        watches::watches(self, owner, before, limit).await
    }

    async fn delete_watch(&self, id: WatchId, owner: Option<KeyId>) -> StoreResult<bool> {
        watches::delete(self, id, owner).await
    }

    async fn watches_behind(&self, now: i64) -> StoreResult<Vec<Watch>> {
        watches::behind(self, now).await
    }

    async fn first_added_after(&self, collection: CollectionId, version: i64) -> StoreResult<Option<VersionId>> {
        watches::first_added_after(self, collection, version).await
    }

    async fn advance_watch(
        &self,
        watch: &Watch,
        version: i64,
        found: Option<&NewDocset>,
    ) -> StoreResult<Option<DocsetId>> {
        watches::advance(self, watch, version, found).await
    }

    async fn notices(&self, watch: WatchId, limit: u32) -> StoreResult<Vec<Notice>> {
        watches::notices(self, watch, limit).await
    }

    async fn due_notices(&self, by: i64, now: i64) -> StoreResult<Vec<Notice>> {
        watches::due(self, by, now).await
    }

    async fn claim_notice(&self, notice: &Notice, next: i64) -> StoreResult<bool> {
        watches::claim(self, notice, next).await
    }

    async fn settle_notice(&self, notice: &Notice, attempt: &Attempt, now: i64) -> StoreResult<()> {
        watches::settle(self, notice, attempt, now).await
    }

    async fn count_usage(&self, counts: &[UsageCount]) -> StoreResult<()> {
        usage::count(self, counts).await
    }

    async fn usage(&self, month: &Month, key: Option<KeyId>) -> StoreResult<UsageSums> {
        usage::sums(self, month, key).await
    }
}
