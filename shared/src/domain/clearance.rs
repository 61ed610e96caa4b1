//! What of a docset a package has and has not for reasons of rights: frozen when it is asked for, and part of its fingerprint.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use utoipa::ToSchema;

use super::{Access, Entitlement};
use crate::digest::Sha256;
use crate::ids::VersionId;

/// Why a package has nothing of a member of its docset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Omission {
    /// It has none of the wanted formats.
    Format,
    /// Whoever asked for the package may not have its files.
    Rights,
    /// It was withdrawn.
    Withdrawn,
}

/// The members of a package's docset that are not plainly in it. Where all sets are empty, every member is open to everybody.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Clearance {
    /// Left out because they were withdrawn.
    #[serde(with = "bits")]
    pub withdrawn: RoaringBitmap,
    /// Left out because the key was not entitled to them.
    #[serde(with = "bits")]
    pub rights: RoaringBitmap,
    /// Let in because the key was entitled to them, by entitlement.
    pub restricted: BTreeMap<Entitlement, Bits>,
    /// Members of the docset that a delta starts from which the package that it starts from has not.
    #[serde(with = "bits")]
    pub base: RoaringBitmap,
}

/// A set of document versions; as JSON, its portable serialization in Base64.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bits(#[serde(with = "bits")] pub RoaringBitmap);

impl Clearance {
    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All members that are left out.
    #[must_use]
    pub fn withheld(&self) -> RoaringBitmap {
        &self.withdrawn | &self.rights
    }

    /// Why a member is left out, if it is.
    #[must_use]
    pub fn omission(&self, VersionId(id): VersionId) -> Option<Omission> {
        if self.withdrawn.contains(id) {
            return Some(Omission::Withdrawn);
        }
        self.rights.contains(id).then_some(Omission::Rights)
    }

    /// The access level of a member that is not left out.
    #[must_use]
    pub fn access(&self, VersionId(id): VersionId) -> Access {
        let of = self.restricted.iter().find(|(_, Bits(members))| members.contains(id));
        of.map_or(Access::Open, |(entitlement, _)| Access::Restricted(entitlement.clone()))
    }

    /// Notes what a packager is told of a member.
    pub fn note(&mut self, VersionId(id): VersionId, omitted: Option<Omission>, access: Option<&Entitlement>) {
        match (omitted, access) {
            (Some(Omission::Withdrawn), _) => _ = self.withdrawn.insert(id),
            (Some(Omission::Rights), _) => _ = self.rights.insert(id),
            (_, Some(entitlement)) => _ = self.restricted.entry(entitlement.clone()).or_default().0.insert(id),
            (Some(Omission::Format) | None, None) => {}
        }
    }

    /// What identifies the selection: the docset's fingerprint, and if anything is not plainly in the package, SHA-256 over that and these sets.
    #[must_use]
    pub fn selection(&self, docset: &Sha256) -> Sha256 {
        let restricted = self.restricted.iter().map(|(name, Bits(members))| (format!("restricted:{name}"), members));
        let sets = [("withdrawn".to_owned(), &self.withdrawn), ("rights".to_owned(), &self.rights)];
        identify(docset, sets.into_iter().chain(restricted))
    }

    /// The same of the docset that a delta starts from, as the package that it starts from has it.
    #[must_use]
    pub fn base_selection(&self, base: &Sha256) -> Sha256 {
        identify(base, [("base".to_owned(), &self.base)].into_iter())
    }
}

fn identify<'a>(fingerprint: &Sha256, sets: impl Iterator<Item = (String, &'a RoaringBitmap)>) -> Sha256 {
    let mut hash = sha2::Sha256::new_with_prefix(fingerprint.0);
    let mut plain = true;
    for (name, members) in sets.filter(|(_, members)| !members.is_empty()) {
        plain = false;
        hash.update(format!("{name}\n{}\n", members.len()));
        members.iter().for_each(|id| hash.update(id.to_be_bytes()));
    }
    if plain { *fingerprint } else { Sha256(hash.finalize().into()) }
}

/// Bitmaps in JSON.
mod bits {
    use serde::de::Error as _;
    use serde::ser::Error as _;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use roaring::RoaringBitmap;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(members: &RoaringBitmap, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = members.clone();
        members.optimize();
        let mut bytes = Vec::with_capacity(members.serialized_size());
        members.serialize_into(&mut bytes).map_err(S::Error::custom)?;
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RoaringBitmap, D::Error> {
        let bytes = STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)?;
        RoaringBitmap::deserialize_from(bytes.as_slice()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn clearance()(marks in prop::collection::btree_map(0..500_u32, 0..4_u8, 0..60), base in prop::collection::vec(0..90_u32, 0..4)) -> Clearance {
            let mut clearance = Clearance { base: base.into_iter().collect(), ..Clearance::default() };
            for (id, mark) in marks {
                let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
                match mark {
                    0 => clearance.note(VersionId(id), Some(Omission::Withdrawn), None),
                    1 => clearance.note(VersionId(id), Some(Omission::Rights), None),
                    2 => clearance.note(VersionId(id), None, Some(&a)),
                    _ => clearance.note(VersionId(id), None, Some(&b)),
                }
            }
            clearance
        }
    }

    proptest! {
        #[test]
        fn it_is_read_back_and_gives_the_same_selection(clearance in clearance()) {
            let read: Clearance = serde_json::from_str(&serde_json::to_string(&clearance).unwrap()).unwrap();
            prop_assert_eq!(&read, &clearance);
            let docset = Sha256::of(b"docset");
            prop_assert_eq!(read.selection(&docset), clearance.selection(&docset));
            let mut noted = Clearance { base: clearance.base.clone(), ..Clearance::default() };
            for id in (0..500).map(VersionId) {
                noted.note(id, clearance.omission(id), clearance.access(id).entitlement());
            }
            prop_assert_eq!(&noted, &clearance, "what a packager is told gives all of it back");
        }

        #[test]
        fn every_mark_counts_in_the_selection(clearance in clearance(), id in 1000..2000_u32) {
            let docset = Sha256::of(b"docset");
            let entitlement = "a".parse().unwrap();
            let marks = [(Some(Omission::Withdrawn), None), (Some(Omission::Rights), None), (None, Some(&entitlement))];
            let mut seen = vec![clearance.selection(&docset)];
            for (omitted, access) in marks {
                let mut other = clearance.clone();
                other.note(VersionId(id), omitted, access);
                seen.push(other.selection(&docset));
            }
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), 4);
        }
    }

    #[test]
    fn where_there_is_nothing_to_say_a_selection_is_its_docset() {
        let (clearance, docset) = (Clearance::default(), Sha256::of(b"docset"));
        assert!(clearance.is_empty());
        assert_eq!((clearance.selection(&docset), clearance.base_selection(&docset)), (docset, docset));
    }
}
