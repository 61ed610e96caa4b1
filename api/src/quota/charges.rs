//! Charges for texts of which an answer shows a part: each costs one document, once for key,
//! document version and UTC day.
//!
//! A document is taken first and recorded then, so that nobody finds a charge that is not paid for.
//! Where two requests have taken for the same text at once, the one that records it later gives its
//! document back.

use adit_shared::domain::{Allowance, ApiKey};
use adit_shared::ids::VersionId;
use adit_shared::store::Exchange;
use roaring::RoaringBitmap;

use super::Quotas;
use super::purse::Ended;
use crate::dispatch::to_the_end;
use crate::problem::{ApiResult, Kind};

/// The outcome of a charge for texts.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct ChargedTexts {
    /// Document versions that are paid for today, now or before.
    pub(crate) paid: RoaringBitmap,
    /// Documents that were charged now.
    pub(crate) fresh: u64,
}

impl Quotas {
    /// Charges the key for the texts of these document versions that it has not paid for today, in
    /// their order for as long as its documents of today last.
    ///
    /// # Errors
    /// The database's. A spent quota is none: what is not paid for is missing in the outcome.
    pub(crate) async fn charge_texts(&self, key: &ApiKey, documents: Vec<VersionId>) -> ApiResult<ChargedTexts> {
        let (quotas, key) = (self.clone(), key.clone());
        // To the end, for what is taken must be recorded.
        to_the_end(async move { quotas.take_and_record(&key, &documents).await }).await
    }

    async fn take_and_record(&self, key: &ApiKey, documents: &[VersionId]) -> ApiResult<ChargedTexts> {
        let day = Allowance::Documents.window(self.now());
        let wanted = documents.iter().map(|id| id.0).collect();
        let mut paid = self.0.store.charged_texts(key.id, day, &wanted).await?;
        let mut taken = RoaringBitmap::new();
        for VersionId(id) in documents {
            if paid.contains(*id) || taken.contains(*id) {
                continue;
            }
            match self.take(key, Allowance::Documents).await {
                Ok(()) => taken.insert(*id),
                Err(problem) if problem.kind() == Kind::QuotaSpent => break,
                Err(problem) => return Err(problem),
            };
        }
        let fresh = self.0.store.record_text_charges(key.id, day, &taken).await?.len();
        self.refund(key, day, taken.len() - fresh).await?;
        paid |= taken;
        Ok(ChargedTexts { paid, fresh })
    }

    async fn refund(&self, key: &ApiKey, day: i64, documents: u64) -> ApiResult<()> {
        if documents == 0 {
            return Ok(());
        }
        let allowance = Allowance::Documents;
        let nothing = Ended { window: day, size: 0, unused: 0 };
        let back = Exchange { unused: documents, ..self.giving_back(key.id, allowance, &nothing) };
        let (_, standing) = self.0.store.exchange(&back).await?;
        self.account(key.id).documents.learn(day, standing.taken);
        Ok(())
    }
}
