//! What came, what left and what changed between two docsets.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use roaring::RoaringBitmap;

use super::WorkHash;
use crate::ids::VersionId;

/// The difference between two docsets, seen from the later one. A docset is a set of document versions: of those that came and those that left,
/// two of one work make a change, the newest with the newest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Difference {
    /// What came without another version of the work having left.
    pub added: RoaringBitmap,
    /// What came in the place of another version, by its id; and the id of that one.
    pub changed: BTreeMap<u32, u32>,
    /// What left without another version of the work having come.
    pub withdrawn: RoaringBitmap,
}

impl Difference {
    /// The difference, from what is only in the later one and what is only in the earlier one.
    #[must_use]
    pub fn of(mut came: Vec<(VersionId, WorkHash)>, mut left: Vec<(VersionId, WorkHash)>) -> Self {
        let order = |&(id, work): &(VersionId, WorkHash)| (work, Reverse(id));
        came.sort_unstable_by_key(order);
        left.sort_unstable_by_key(order);
        let mut difference = Self::default();
        let (mut came, mut left) = (came.into_iter().peekable(), left.into_iter().peekable());
        loop {
            let first = match (came.peek(), left.peek()) {
                (None, None) => return difference,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((_, new)), Some((_, old))) => new.cmp(old),
            };
            let new = if first.is_le() { came.next() } else { None };
            let old = if first.is_ge() { left.next() } else { None };
            match (new, old) {
                (Some((new, _)), Some((old, _))) => drop(difference.changed.insert(new.0, old.0)),
                (Some((new, _)), None) => drop(difference.added.insert(new.0)),
                (None, old) => difference.withdrawn.extend(old.map(|(old, _)| old.0)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn listed(members: &BTreeMap<u32, u8>) -> Vec<(VersionId, WorkHash)> {
        members.iter().map(|(id, work)| (VersionId(*id), WorkHash([*work; 16]))).collect()
    }

    proptest! {
        #[test]
        fn every_version_is_told_of_once(
            versions in prop::collection::btree_map(0_u32..200, (0_u8..20, any::<bool>()), 0..60),
        ) {
            let side = |is: bool| -> BTreeMap<u32, u8> {
                versions.iter().filter(|(_, (_, came))| *came == is).map(|(id, (work, _))| (*id, *work)).collect()
            };
            let (came, left) = (side(true), side(false));
            let difference = Difference::of(listed(&came), listed(&left));
            let new: BTreeSet<u32> = difference.added.iter().chain(difference.changed.keys().copied()).collect();
            let old: BTreeSet<u32> = difference.withdrawn.iter().chain(difference.changed.values().copied()).collect();
            prop_assert_eq!(new, came.keys().copied().collect());
            prop_assert_eq!(old, left.keys().copied().collect());
            prop_assert_eq!(difference.changed.len() as u64 + difference.added.len(), came.len() as u64);
            prop_assert!(difference.changed.iter().all(|(new, old)| came[new] == left[old]));
            let added: BTreeSet<u8> = difference.added.iter().map(|id| came[&id]).collect();
            prop_assert!(difference.withdrawn.iter().all(|id| !added.contains(&left[&id])), "they would make a change");
        }
    }

    #[test]
    fn the_newest_versions_stand_for_each_other() {
        let work = |ids: &[u32]| ids.iter().map(|id| (VersionId(*id), WorkHash([1; 16]))).collect::<Vec<_>>();
        let difference = Difference::of(work(&[7]), work(&[2, 4]));
        assert_eq!(difference, Difference { added: [].into(), changed: [(7, 4)].into(), withdrawn: [2].into() });
    }
}
