//! What is gathered from the hits of a query in one pass over them: counts, a page in order, ids. Facets are counted in [`facets`].

pub(super) mod facets;

use roaring::RoaringBitmap;
use tantivy::collector::sort_key::{SortBySimilarityScore, SortByStaticFastValue, SortByString};
use tantivy::collector::{Collector, Count, SegmentCollector, TopDocs};
use tantivy::columnar::Column;
use tantivy::{DocAddress, DocId, Order, Score, SegmentOrdinal, SegmentReader};

use facets::Facets;

use super::control::Part;
use super::controlled::ControlledSearch;
use super::{Hit, SearchAnswer, SearchResult, Sort, schema};
use crate::ids::VersionId;

/// A page of hits, as [`super::SearchPage`] without its query.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) sort: Sort,
    pub(super) offset: usize,
    pub(super) limit: usize,
    pub(super) facets: Vec<String>,
}

/// Bytes of an entry in a window of hits: what it is sorted by, its id and where it stands.
const ENTRY_BYTES: usize = 40;
/// Bytes of a ref that an entry is sorted by.
const REF_BYTES: usize = 56;

/// All hits.
pub(super) fn ids(search: &ControlledSearch<'_>) -> SearchResult<RoaringBitmap> {
    search.collect(&Ids)
}

/// One page, with the exact number of all hits.
pub(super) fn page(search: &ControlledSearch<'_>, page: &Page) -> SearchResult<SearchAnswer> {
    // Room is taken for the whole window at once, so it must not be wider than the index.
    let documents = usize::try_from(search.searcher().num_docs()).unwrap_or(usize::MAX);
    let end = page.offset.saturating_add(page.limit).min(documents);
    let _charge = search.control().charge(Part::Page, window_bytes(search, page.sort, end));
    search.control().check()?;
    let window = (page.offset < end).then(|| TopDocs::for_doc_range(page.offset..end));
    let by_id = (SortByStaticFastValue::<u64>::for_field(schema::ID), Order::Asc);
    let facets = &page.facets;
    match page.sort {
        Sort::Relevance => {
            let top = window.map(|window| window.order_by((SortBySimilarityScore, by_id)));
            run(search, top, facets, |(score, id)| (id, Some(score)))
        }
        Sort::Date => {
            let by_date = SortByStaticFastValue::<i64>::for_field(schema::ISSUED);
            run(search, window.map(|window| window.order_by((by_date, by_id))), facets, |(_, id)| (id, None))
        }
        Sort::Ref => {
            let by_ref = (SortByString::for_field(schema::REF), Order::Asc);
            run(search, window.map(|window| window.order_by((by_ref, by_id))), facets, |(_, id)| (id, None))
        }
    }
}

/// What a window of hits takes: each segment keeps its own until all are joined, and twice as much
/// while it is searched.
fn window_bytes(search: &ControlledSearch<'_>, sort: Sort, end: usize) -> usize {
    let kept = search.searcher().segment_readers().iter().map(|segment| end.min(segment.max_doc() as usize));
    let (all, most) = kept.fold((0, 0), |(all, most): (usize, usize), kept| (all + kept, most.max(kept)));
    let named = if sort == Sort::Ref { REF_BYTES } else { 0 };
    all * (ENTRY_BYTES + named) + 2 * most * search.threads() * ENTRY_BYTES
}

fn run<K>(
    search: &ControlledSearch<'_>,
    top: Option<impl Collector<Fruit = Vec<(K, DocAddress)>>>,
    facets: &[String],
    hit: impl Fn(K) -> (Option<u64>, Option<Score>),
) -> SearchResult<SearchAnswer> {
    let facets = (!facets.is_empty()).then(|| Facets::of(facets, search.control()));
    let (total, top, facets) = search.collect(&(Count, top, facets))?;
    let hits = top.unwrap_or_default().into_iter().filter_map(|(key, _)| {
        let (id, score) = hit(key);
        Some(Hit { id: VersionId(u32::try_from(id?).ok()?), score })
    });
    Ok(SearchAnswer { total: total as u64, hits: hits.collect(), facets: facets.unwrap_or_default() })
}

struct Ids;

struct SegmentIds {
    column: Column<u64>,
    ids: RoaringBitmap,
}

impl Collector for Ids {
    type Fruit = RoaringBitmap;
    type Child = SegmentIds;

    fn for_segment(&self, _: SegmentOrdinal, segment: &SegmentReader) -> tantivy::Result<SegmentIds> {
        Ok(SegmentIds { column: segment.fast_fields().u64(schema::ID)?, ids: RoaringBitmap::new() })
    }

    fn requires_scoring(&self) -> bool {
        false
    }

    fn merge_fruits(&self, segments: Vec<RoaringBitmap>) -> tantivy::Result<RoaringBitmap> {
        Ok(segments.into_iter().fold(RoaringBitmap::new(), |all, ids| all | ids))
    }
}

impl SegmentCollector for SegmentIds {
    type Fruit = RoaringBitmap;

    fn collect(&mut self, doc: DocId, _: Score) {
        if let Some(id) = self.column.first(doc).and_then(|id| u32::try_from(id).ok()) {
            self.ids.insert(id);
        }
    }

    fn harvest(self) -> RoaringBitmap {
        self.ids
    }
}
