//! Which packages this process is working on: one worker at a time for each, and ways to make it leave the package to another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use adit_shared::ids::SaltedPackage;
use tokio_util::sync::CancellationToken;

/// The packages that are being worked on.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<HashMap<SaltedPackage, Entry>>>);

#[derive(Debug, Clone)]
struct Entry {
    dismissed: CancellationToken,
    overtaken: CancellationToken,
    left: CancellationToken,
}

/// The right to work on a package; dropping it lets the next one in.
#[derive(Debug)]
pub(super) struct Claim {
    running: Running,
    package: SaltedPackage,
    entry: Entry,
}

impl Claim {
    /// Is cancelled when the package is not wanted any more.
    pub(super) fn dismissed(&self) -> &CancellationToken {
        &self.entry.dismissed
    }

    /// Is cancelled when the same request has come again and waits for this claim to be dropped.
    pub(super) fn overtaken(&self) -> &CancellationToken {
        &self.entry.overtaken
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.package);
        self.entry.left.cancel();
    }
}

impl Running {
    /// Claims a package to build it, on behalf of the request that came last: whoever builds it for an earlier one leaves it to this.
    /// Of the messages that carry the request, the last is the one that the broker surely still has.
    pub(super) async fn build(&self, package: SaltedPackage) -> Claim {
        self.wait(package, |entry| entry.overtaken.cancel()).await
    }

    /// Claims a package to delete it: calls off its build, if there is one, and waits until nobody works on it.
    pub(super) async fn delete(&self, package: SaltedPackage) -> Claim {
        self.wait(package, |entry| entry.dismissed.cancel()).await
    }

    async fn wait(&self, package: SaltedPackage, hurry: impl Fn(&Entry)) -> Claim {
        loop {
            match self.claim(package) {
                Ok(claim) => return claim,
                Err(entry) => {
                    hurry(&entry);
                    entry.left.cancelled().await;
                }
            }
        }
    }

    fn claim(&self, package: SaltedPackage) -> Result<Claim, Entry> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(&package) {
            return Err(entry.clone());
        }
        let token = CancellationToken::new;
        let entry = Entry { dismissed: token(), overtaken: token(), left: token() };
        entries.insert(package, entry.clone());
        Ok(Claim { running: self.clone(), package, entry })
    }
}

#[cfg(test)]
mod tests {
    use adit_shared::ids::{PackageId, Salt};

    use super::*;

    const PACKAGE: SaltedPackage = SaltedPackage { id: PackageId(1), salt: None };

    #[tokio::test]
    async fn one_at_a_time_works_on_a_package_and_the_next_one_takes_it_over() {
        let running = Running::default();
        let claim = running.build(PACKAGE).await;
        running.build(SaltedPackage { salt: Some(Salt(2)), ..PACKAGE }).await;
        assert!(!claim.overtaken().is_cancelled());
        let mut next = std::pin::pin!(running.build(PACKAGE));
        assert!(futures::poll!(next.as_mut()).is_pending());
        assert!(claim.overtaken().is_cancelled() && !claim.dismissed().is_cancelled());
        drop(claim);
        assert!(!next.await.overtaken().is_cancelled());
    }

    #[tokio::test]
    async fn a_delete_calls_the_build_off_and_a_new_build_waits_for_it() {
        let running = Running::default();
        let claim = running.build(PACKAGE).await;
        let mut delete = std::pin::pin!(running.delete(PACKAGE));
        assert!(futures::poll!(delete.as_mut()).is_pending());
        assert!(claim.dismissed().is_cancelled());
        drop(claim);
        let deleting = delete.await;
        let mut build = std::pin::pin!(running.build(PACKAGE));
        assert!(futures::poll!(build.as_mut()).is_pending());
        drop(deleting);
        assert!(!build.await.dismissed().is_cancelled());
    }
}
