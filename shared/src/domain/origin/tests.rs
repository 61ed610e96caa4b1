//! Set algebra against `BTreeSet`, and what samples promise.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

type Set = BTreeSet<u32>;

fn sets() -> impl Strategy<Value = Vec<Set>> {
    // Few values, so that they meet; across the chunks of a bitmap.
    let value = prop_oneof![0_u32..20, 65_530_u32..65_550];
    prop::collection::vec(prop::collection::btree_set(value, 0..15), 1..5)
}

fn combined(operation: impl Fn(Vec<DocsetId>) -> SetOperation, sets: &[Set]) -> Set {
    let bitmaps: Vec<RoaringBitmap> = sets.iter().map(|set| set.iter().copied().collect()).collect();
    operation(Vec::new()).combine(&bitmaps).into_iter().collect()
}

/// Works `0..count`, each with the id that says its number.
fn works(count: u32) -> impl Iterator<Item = (VersionId, WorkHash)> + Clone {
    (0..count).map(|n| (VersionId(n), WorkHash::of(&format!("work {n}"))))
}

proptest! {
    #[test]
    fn set_algebra_is_that_of_sets(sets in sets()) {
        let (first, others) = sets.split_first().unwrap();
        let fold = |with: fn(&Set, &Set) -> Set| others.iter().fold(first.clone(), |all, next| with(&all, next));
        prop_assert_eq!(combined(SetOperation::Union, &sets), fold(|a, b| a | b));
        prop_assert_eq!(combined(SetOperation::Intersection, &sets), fold(|a, b| a & b));
        prop_assert_eq!(combined(SetOperation::Difference, &sets), fold(|a, b| a - b));
    }

    #[test]
    fn a_sample_has_its_size_and_does_not_ask_for_the_order(
        count in 0_u32..300, size in 0_u64..400, seed: u64, order: prop::sample::Index,
    ) {
        let sample = Sample { size, seed };
        let picked = sample.pick(works(count));
        prop_assert_eq!(picked.len(), size.min(u64::from(count)));
        prop_assert!(picked.iter().all(|id| id < count));
        let turned = works(count).cycle().skip(order.index(count.max(1) as usize)).take(count as usize);
        prop_assert_eq!(&sample.pick(turned), &picked);
        let smaller = Sample { size: size / 2, seed }.pick(works(count));
        prop_assert!(smaller.is_subset(&picked));
    }

    #[test]
    fn a_work_stays_in_the_sample_when_it_has_a_new_version(count in 1_u32..200, size in 1_u64..100, seed: u64, at: prop::sample::Index) {
        let sample = Sample { size, seed };
        let changed = at.index(count as usize) as u32;
        let renewed = works(count).map(|(id, work)| (if id.0 == changed { VersionId(1000) } else { id }, work));
        let renew = |id| if id == changed { 1000 } else { id };
        prop_assert_eq!(sample.pick(renewed), sample.pick(works(count)).iter().map(renew).collect::<RoaringBitmap>());
    }
}

#[test]
fn a_sample_is_the_same_everywhere() {
    // In Python, sorted by id: sorted(range(100), key=lambda n: sha256((7).to_bytes(8, "big") + sha256(f"work {n}".encode()).digest()[:16]).digest())[:5]
    let picked: Vec<u32> = Sample { size: 5, seed: 7 }.pick(works(100)).into_iter().collect();
    assert_eq!(picked, [0, 4, 12, 48, 54]);
}

#[test]
fn every_work_is_as_likely_as_any_other() {
    // Of 1,000 samples of a tenth of 100 works each work is in about 100; six standard deviations are 57.
    let mut times = [0_u32; 100];
    for seed in 0..1000 {
        Sample { size: 10, seed }.pick(works(100)).into_iter().for_each(|id| times[id as usize] += 1);
    }
    assert!(times.iter().all(|times| (43..=157).contains(times)), "{times:?}");
}

#[test]
fn origins_are_kept_as_json() {
    let sample = Some(Sample { size: 5, seed: 7 });
    for (origin, json) in [
        (Origin::from(Selection::Query("a".into())), r#"{"query":"a"}"#),
        (Origin { selection: Selection::Refs(3), sample }, r#"{"refs":3,"sample":{"size":5,"seed":7}}"#),
        (Selection::From(SetOperation::Union(vec![DocsetId(1), DocsetId(2)])).into(), r#"{"from":{"union":[1,2]}}"#),
        (
            Selection::Watch { id: WatchId(5), query: "a".into(), since: 7 }.into(),
            r#"{"watch":{"id":5,"query":"a","since":7}}"#,
        ),
    ] {
        assert_eq!(serde_json::to_string(&origin).unwrap(), json);
        assert_eq!(serde_json::from_str::<Origin>(json).unwrap(), origin);
    }
}
