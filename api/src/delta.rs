//! What a docset has beside another one, its base: which files of a member a package of the base has already, and which of the base's
//! files it has no more. Files are compared by the path that they have in a package, and by content.
//!
//! Both are read page by page; only the bitmaps of their members are held whole.

use std::collections::HashMap;

use adit_shared::domain::{Docset, FileRecord, Format};
use adit_shared::ids::VersionId;
use adit_shared::store::{Member, Store, StoreResult};
use futures::TryStreamExt as _;
use roaring::RoaringBitmap;

/// A docset, what of it and of its base is there, and the formats that count.
pub(crate) struct Delta<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) docset: &'a Docset,
    /// Those of the docset's members that a package of it has.
    pub(crate) members: RoaringBitmap,
    /// Those members of the base, which is of the same collection, that its package has.
    pub(crate) base: RoaringBitmap,
    /// Sorted.
    pub(crate) formats: &'a [Format],
}

impl Delta<'_> {
    /// Members of the base of which nothing may be left in the docset.
    pub(crate) fn left(&self) -> RoaringBitmap {
        &self.base - &self.members
    }

    /// For each of some of the docset's members, the formats of those of its files that a package of the base has too.
    pub(crate) async fn unchanged(&self, members: &[Member]) -> StoreResult<Vec<Vec<Format>>> {
        let is_in_base = |member: &Member| self.base.contains(member.id.0);
        let others = members.iter().filter(|member| !is_in_base(member));
        let before = self.counterparts(others, &self.base).await?;
        let unchanged = |member: &Member| {
            let same = |file: &&FileRecord| {
                is_in_base(member)
                    || before
                        .get(&member.r#ref)
                        .is_some_and(|old| find(old, &member.name, file).is_some_and(|old| old.sha256 == file.sha256))
            };
            member.files.iter().filter(same).map(|file| file.format.clone()).collect()
        };
        Ok(members.iter().map(unchanged).collect())
    }

    /// For each of some of the base's members that are not the docset's, the formats of those of its files at whose paths a package of the
    /// docset has none.
    pub(crate) async fn gone(&self, members: &[Member]) -> StoreResult<Vec<Vec<Format>>> {
        let now = self.counterparts(members.iter(), &self.members).await?;
        let gone = |member: &Member| {
            let is_there =
                |file: &FileRecord| now.get(&member.r#ref).is_some_and(|new| find(new, &member.name, file).is_some());
            member.files.iter().filter(|file| !is_there(file)).map(|file| file.format.clone()).collect()
        };
        Ok(members.iter().map(gone).collect())
    }

    /// The versions of the same works that are in `among`, by ref.
    async fn counterparts<'m>(
        &self,
        members: impl Iterator<Item = &'m Member>,
        among: &RoaringBitmap,
    ) -> StoreResult<HashMap<String, Member>> {
        let refs: Vec<&str> = members.map(|member| member.r#ref.as_str()).collect();
        let ids = self.store.members_by_ref(self.docset.collection, among, &refs).await?;
        let ids: RoaringBitmap = ids.values().map(|VersionId(id)| *id).collect();
        let found = self.store.members(&ids, None, Some(self.formats));
        found.map_ok(|member| (member.r#ref.clone(), member)).try_collect().await
    }
}

/// The file of a member that lies where `file` of a document called `name` would.
fn find<'a>(member: &'a Member, name: &str, file: &FileRecord) -> Option<&'a FileRecord> {
    let extension = file.format.extension();
    member.files.iter().find(|other| member.name == name && other.format.extension() == extension)
}
