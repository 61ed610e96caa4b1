//! Which packages this process is working on: one worker at a time for each, and a way to call off its build.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use adit_shared::ids::PackageId;
use tokio_util::sync::CancellationToken;

/// The packages that are being worked on.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<HashMap<PackageId, Entry>>>);

#[derive(Debug, Clone)]
struct Entry {
    dismissed: CancellationToken,
    left: CancellationToken,
    building: bool,
}

/// The right to work on a package; dropping it lets the next one in.
#[derive(Debug)]
pub(super) struct Claim {
    running: Running,
    package: PackageId,
    entry: Entry,
}

impl Claim {
    /// Is cancelled when the package is not wanted any more.
    pub(super) fn dismissed(&self) -> &CancellationToken {
        &self.entry.dismissed
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.package);
        self.entry.left.cancel();
    }
}

impl Running {
    /// Claims a package to build it; `None` if that is being done. Waits while it is being deleted.
    pub(super) async fn build(&self, package: PackageId) -> Option<Claim> {
        loop {
            match self.claim(package, true) {
                Ok(claim) => return Some(claim),
                Err(entry) if entry.building => return None,
                Err(entry) => entry.left.cancelled().await,
            }
        }
    }

    /// Claims a package to delete it: calls off its build, if there is one, and waits until nobody works on it.
    pub(super) async fn delete(&self, package: PackageId) -> Claim {
        loop {
            match self.claim(package, false) {
                Ok(claim) => return claim,
                Err(entry) => {
                    entry.dismissed.cancel();
                    entry.left.cancelled().await;
                }
            }
        }
    }

    fn claim(&self, package: PackageId, building: bool) -> Result<Claim, Entry> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(&package) {
            return Err(entry.clone());
        }
        let entry = Entry { dismissed: CancellationToken::new(), left: CancellationToken::new(), building };
        entries.insert(package, entry.clone());
        Ok(Claim { running: self.clone(), package, entry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGE: PackageId = PackageId(1);

    #[tokio::test]
    async fn one_at_a_time_works_on_a_package() {
        let running = Running::default();
        let claim = running.build(PACKAGE).await.unwrap();
        assert!(running.build(PACKAGE).await.is_none());
        assert!(running.build(PackageId(2)).await.is_some());
        drop(claim);
        assert!(running.build(PACKAGE).await.is_some());
    }

    #[tokio::test]
    async fn a_delete_calls_the_build_off_and_a_new_build_waits_for_it() {
        let running = Running::default();
        let claim = running.build(PACKAGE).await.unwrap();
        let mut delete = std::pin::pin!(running.delete(PACKAGE));
        assert!(futures::poll!(delete.as_mut()).is_pending());
        assert!(claim.dismissed().is_cancelled());
        drop(claim);
        let deleting = delete.await;
        let mut build = std::pin::pin!(running.build(PACKAGE));
        assert!(futures::poll!(build.as_mut()).is_pending());
        drop(deleting);
        assert!(!build.await.unwrap().dismissed().is_cancelled());
    }
}
