//! Charges of single documents: what a key was charged once for, it can read on for the rest of the
//! UTC day.
//!
//! The database has the charges of keys with a limit, because a download that goes on may reach
//! another process. They are written in batches, some times a second, so that reading costs no
//! commit for each document. Where two processes have charged the same document meanwhile, the one
//! that writes second gives it back. Of keys without a limit this process alone remembers the
//! charges, for its counts of use.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use adit_shared::domain::{Allowance, ApiKey, Format};
use adit_shared::ids::{KeyId, VersionId};
use adit_shared::store::{ChargedTo, StoreResult};
use roaring::RoaringBitmap;

use super::{Ended, Quotas, SWEEP};
use crate::problem::{ApiResult, Kind};

/// So long after a day has begun charges of the day before are kept, in milliseconds: for processes
/// whose clocks are behind.
const KEPT_MS: i64 = 600_000;

/// Charges that this process knows of.
#[derive(Debug, Default)]
pub(super) struct Charges(Mutex<KnownCharges>);

#[derive(Debug, Default)]
struct KnownCharges {
    /// Beginning of the day that `charged` is of.
    day: i64,
    charged: HashMap<(KeyId, Format), RoaringBitmap>,
    /// Charges that the database has not been told of yet, by day.
    unsaved: HashMap<(KeyId, i64, Format), RoaringBitmap>,
}

impl Charges {
    fn known(&self) -> MutexGuard<'_, KnownCharges> {
        // Nobody panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes those of some documents away that are known to be charged.
    fn subtract_from(&self, documents: &mut RoaringBitmap, to: ChargedTo<'_>) {
        let known = self.known();
        if known.day == to.day
            && let Some(charged) = known.charged.get(&(to.key, to.format.clone()))
        {
            *documents -= charged;
        }
    }

    /// Remembers charges; tells whether they are the first ones of a day.
    fn remember(&self, to: ChargedTo<'_>, documents: &RoaringBitmap, unsaved: bool) -> bool {
        let mut known = self.known();
        let begins = known.day < to.day;
        if begins {
            known.day = to.day;
            known.charged.clear();
        }
        if known.day == to.day {
            *known.charged.entry((to.key, to.format.clone())).or_default() |= documents;
        }
        if unsaved {
            *known.unsaved.entry((to.key, to.day, to.format.clone())).or_default() |= documents;
        }
        begins
    }

    /// Tells whether the database is to be told of something.
    pub(super) fn are_unsaved(&self) -> bool {
        !self.known().unsaved.is_empty()
    }
}

impl Quotas {
    /// Charges a document version in one format to a key, unless the same was charged to it today
    /// already; tells whether it was charged now.
    ///
    /// # Errors
    /// [`Kind::QuotaSpent`] when it is not paid for, and nothing is left; the database's.
    pub(crate) async fn charge_document(&self, key: &ApiKey, document: VersionId, format: &Format) -> ApiResult<bool> {
        let (paid, charged) = self.charge_documents(key, &[document.0].into(), format).await?;
        if paid.contains(document.0) { Ok(charged > 0) } else { Err(self.spent(key, Allowance::Documents, 1)) }
    }

    /// Charges document versions in one format, as [`Quotas::charge_document`] does, in the order
    /// of their ids for as long as something is left. Returns those that the key may have, and how
    /// many of them were charged now.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn charge_documents(
        &self,
        key: &ApiKey,
        documents: &RoaringBitmap,
        format: &Format,
    ) -> ApiResult<(RoaringBitmap, u64)> {
        let to = ChargedTo { key: key.id, day: Allowance::Documents.window(self.now()), format };
        let mut open = documents.clone();
        self.0.charges.subtract_from(&mut open, to);
        let mut charged = 0;
        if !open.is_empty() {
            charged = self.charge_in_turn(key, to, &mut open).await?;
        }
        if !open.is_empty() {
            // Another process may have charged them and not told the database yet.
            tokio::time::sleep(2 * SWEEP).await;
            open -= self.0.store.charged_documents(to, &open).await?;
        }
        Ok((documents - open, charged))
    }

    /// Charges what is open, one request of a key after the other: those that come meanwhile find
    /// the same documents charged.
    async fn charge_in_turn(&self, key: &ApiKey, to: ChargedTo<'_>, open: &mut RoaringBitmap) -> ApiResult<u64> {
        let account = self.account(key.id);
        let _turn = account.charging.lock().await;
        self.0.charges.subtract_from(open, to);
        let is_limited = key.limits.documents.is_some();
        if is_limited && !open.is_empty() {
            let known = self.0.store.charged_documents(to, open).await?;
            self.remember(to, &known, false);
            *open -= known;
        }
        let mut charged = 0;
        for document in open.clone() {
            match self.take(key, Allowance::Documents).await {
                Ok(()) => {}
                Err(spent) if spent.kind() == Kind::QuotaSpent => break,
                Err(problem) => return Err(problem),
            }
            // Nothing is awaited from here to the next document, so that nothing that was taken is
            // lost.
            open.remove(document);
            charged += 1;
            self.remember(to, &[document].into(), is_limited);
        }
        Ok(charged)
    }

    /// Remembers charges, and when they are the first ones of a day removes those of the days
    /// before.
    fn remember(&self, to: ChargedTo<'_>, documents: &RoaringBitmap, unsaved: bool) {
        if !self.0.charges.remember(to, documents, unsaved) {
            return;
        }
        let quotas = self.clone();
        let before = to.day.min(Allowance::Documents.window(self.now() - KEPT_MS));
        tokio::spawn(async move {
            if let Err(error) = quotas.0.store.forget_charges(before).await {
                tracing::warn!(%error, "charges of past days are not removed yet");
            }
        });
    }

    /// Tells the database what was charged, and gives back what another process has charged too.
    pub(crate) async fn save_charges(&self) {
        let unsaved = std::mem::take(&mut self.0.charges.known().unsaved);
        for ((key, day, format), documents) in unsaved {
            let to = ChargedTo { key, day, format: &format };
            match self.0.store.record_charges(to, &documents).await {
                Ok(recorded) => self.refund(to, documents.len() - recorded.len()).await,
                Err(error) => {
                    self.note_database_failure();
                    tracing::warn!(%key, %error, "charges of documents are not stored yet");
                    self.0.charges.remember(to, &documents, true);
                }
            }
        }
    }

    async fn refund(&self, to: ChargedTo<'_>, count: u64) {
        if count == 0 {
            return;
        }
        let nothing = Ended { window: to.day, size: 0, unused: count };
        let refunded: StoreResult<_> =
            self.0.store.exchange(&self.giving_back(to.key, Allowance::Documents, &nothing)).await;
        if let Err(error) = refunded {
            tracing::warn!(key = %to.key, %error, lost = count, "documents that were charged twice were not given back");
        }
    }
}
