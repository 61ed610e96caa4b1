//! Rows come back as they were, and are read only where that is worth it.

use proptest::prelude::*;

use super::*;

fn summary() -> impl Strategy<Value = Summary> {
    let size = prop_oneof![any::<u64>(), 0_u64..300];
    let files = prop::collection::btree_map("[a-z0-9]{1,16}", size, 0..4);
    (any::<[u8; 16]>(), any::<[u8; 32]>(), files).prop_map(|(work, hash, files)| Summary {
        id: VersionId(0),
        work: WorkHash(work),
        content_hash: Sha256(hash),
        files: files.into_iter().map(|(format, size)| (format.parse().unwrap(), size)).collect(),
    })
}

/// A run of summaries from some id on.
fn run() -> impl Strategy<Value = Vec<Summary>> {
    (any::<u32>(), prop::collection::vec(summary(), 1..20)).prop_map(|(first, mut run)| {
        let first = first.min(u32::MAX - run.len() as u32 + 1);
        run.iter_mut().zip(first..=u32::MAX).for_each(|(summary, id)| summary.id = VersionId(id));
        run
    })
}

fn decoded(data: &[u8], run: &[Summary], members: &RoaringBitmap) -> Option<Vec<Summary>> {
    let mut summaries = Vec::new();
    decode(data, run[0].id.0, run.len() as u32, members, &mut summaries)?;
    Some(summaries)
}

proptest! {
    #[test]
    fn a_row_gives_back_the_wanted_of_its_documents(run in run(), wanted in prop::collection::vec(any::<bool>(), 20)) {
        let wanted: Vec<Summary> = run.iter().zip(wanted).filter(|(_, wanted)| *wanted).map(|(s, _)| s.clone()).collect();
        let members = wanted.iter().map(|summary| summary.id.0).collect();
        prop_assert_eq!(decoded(&encode(&run), &run, &members), Some(wanted));
    }

    #[test]
    fn a_row_that_was_cut_off_is_noticed(run in run(), at: prop::sample::Index) {
        let data = encode(&run);
        prop_assert_eq!(decoded(&data[..at.index(data.len())], &run, &RoaringBitmap::full()), None);
        prop_assert_eq!(decoded(&[&data[..], &[0]].concat(), &run, &RoaringBitmap::full()), None);
    }

    #[test]
    fn any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..200), run in run()) {
        decoded(&data, &run, &RoaringBitmap::full());
    }

    #[test]
    fn a_plan_has_every_member_once_and_in_order(
        lengths in prop::collection::vec((1_u32..40, 0_u32..40), 0..10),
        members in prop::collection::btree_set(0_u32..600, 0..300),
    ) {
        let members: RoaringBitmap = members.into_iter().collect();
        let mut next = 0;
        let spans: Vec<(u32, u32)> = lengths.into_iter().map(|(count, gap)| {
            let first = next + gap;
            next = first + count;
            (first, count)
        }).collect();
        let count_of = |first: &u32| spans.iter().find(|span| span.0 == *first).unwrap().1;
        let planned = plan(&spans, &members).into_iter().flat_map(|part| match part {
            Part::Rows(rows) => rows.iter().flat_map(|first| members.range(*first..first + count_of(first)).collect::<Vec<_>>()).collect(),
            Part::Members(ids) => ids.into_iter().collect::<Vec<_>>(),
        });
        prop_assert_eq!(planned.collect::<Vec<_>>(), members.iter().collect::<Vec<_>>());
    }
}

#[test]
fn few_of_a_row_are_read_by_themselves() {
    let spans = [(1, 1000), (1001, 1000), (3001, 1000)];
    let members: RoaringBitmap = (1..=1000).chain([1500, 2500]).chain(3001..=3063).collect();
    let parts: Vec<String> = plan(&spans, &members)
        .iter()
        .map(|part| match part {
            Part::Rows(rows) => format!("rows {rows:?}"),
            Part::Members(ids) => format!("members {ids:?}"),
        })
        .collect();
    assert_eq!(parts, ["rows [1]", "members RoaringBitmap<[1500, 2500]>", "rows [3001]"]);
}
