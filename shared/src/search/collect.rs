//! What is gathered from the hits of a query in one pass over them: counts, a page in order, facets, ids.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use roaring::RoaringBitmap;
use tantivy::collector::sort_key::{SortBySimilarityScore, SortByStaticFastValue, SortByString};
use tantivy::collector::{Collector, Count, SegmentCollector, TopDocs};
use tantivy::columnar::{Column, StrColumn};
use tantivy::query::Query;
use tantivy::{DocAddress, DocId, Order, Score, Searcher, SegmentOrdinal, SegmentReader};

use super::{FacetCount, Hit, SearchAnswer, SearchResult, Sort, schema};
use crate::ids::VersionId;

/// Most values of a facet in an answer.
pub(super) const MAX_FACET_VALUES: usize = 100;

/// A page of hits, as [`super::SearchPage`] without its query.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) sort: Sort,
    pub(super) offset: usize,
    pub(super) limit: usize,
    pub(super) facets: Vec<String>,
}

/// All hits.
pub(super) fn ids(searcher: &Searcher, query: &dyn Query) -> SearchResult<RoaringBitmap> {
    Ok(searcher.search(query, &Ids)?)
}

/// One page, with the exact number of all hits.
pub(super) fn page(searcher: &Searcher, query: &dyn Query, page: &Page) -> SearchResult<SearchAnswer> {
    // Room is taken for the whole window at once, so it must not be wider than the index.
    let end = page.offset.saturating_add(page.limit).min(usize::try_from(searcher.num_docs()).unwrap_or(usize::MAX));
    let window = (page.offset < end).then(|| TopDocs::for_doc_range(page.offset..end));
    let by_id = (SortByStaticFastValue::<u64>::for_field(schema::ID), Order::Asc);
    let facets = &page.facets;
    match page.sort {
        Sort::Relevance => {
            let top = window.map(|window| window.order_by((SortBySimilarityScore, by_id)));
            run(searcher, query, top, facets, |(score, id)| (id, Some(score)))
        }
        Sort::Date => {
            let by_date = SortByStaticFastValue::<i64>::for_field(schema::ISSUED);
            run(searcher, query, window.map(|window| window.order_by((by_date, by_id))), facets, |(_, id)| (id, None))
        }
        Sort::Ref => {
            let by_ref = (SortByString::for_field(schema::REF), Order::Asc);
            run(searcher, query, window.map(|window| window.order_by((by_ref, by_id))), facets, |(_, id)| (id, None))
        }
    }
}

fn run<K>(
    searcher: &Searcher,
    query: &dyn Query,
    top: Option<impl Collector<Fruit = Vec<(K, DocAddress)>>>,
    facets: &[String],
    hit: impl Fn(K) -> (Option<u64>, Option<Score>),
) -> SearchResult<SearchAnswer> {
    let facets = (!facets.is_empty()).then(|| Facets { fields: facets.to_vec() });
    let (total, top, facets) = searcher.search(query, &(Count, top, facets))?;
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

struct Facets {
    fields: Vec<String>,
}

/// One field's values in one segment, with how many hits have each.
struct Counted {
    column: StrColumn,
    counts: Vec<u32>,
}

/// By field; `None` where no document of the segment has a value.
struct SegmentFacets(Vec<Option<Counted>>);

impl Collector for Facets {
    type Fruit = BTreeMap<String, Vec<FacetCount>>;
    type Child = SegmentFacets;

    fn for_segment(&self, _: SegmentOrdinal, segment: &SegmentReader) -> tantivy::Result<SegmentFacets> {
        let counted = |field: &String| {
            let column = segment.fast_fields().str(field)?;
            Ok(column.map(|column| Counted { counts: vec![0; column.num_terms()], column }))
        };
        self.fields.iter().map(counted).collect::<tantivy::Result<_>>().map(SegmentFacets)
    }

    fn requires_scoring(&self) -> bool {
        false
    }

    fn merge_fruits(&self, segments: Vec<Vec<Option<Counted>>>) -> tantivy::Result<Self::Fruit> {
        let mut totals: Vec<HashMap<String, u64>> = vec![HashMap::new(); self.fields.len()];
        for segment in segments {
            for (counted, total) in segment.into_iter().zip(&mut totals) {
                if let Some(counted) = counted {
                    counted.add_to(total)?;
                }
            }
        }
        Ok(self.fields.iter().cloned().zip(totals.into_iter().map(most_frequent)).collect())
    }
}

impl SegmentCollector for SegmentFacets {
    type Fruit = Vec<Option<Counted>>;

    fn collect(&mut self, doc: DocId, _: Score) {
        for Counted { column, counts } in self.0.iter_mut().flatten() {
            for ordinal in column.term_ords(doc) {
                counts[ordinal as usize] += 1;
            }
        }
    }

    fn harvest(self) -> Self::Fruit {
        self.0
    }
}

impl Counted {
    fn add_to(self, total: &mut HashMap<String, u64>) -> tantivy::Result<()> {
        let (ordinals, counts): (Vec<u64>, Vec<u32>) = (0..).zip(self.counts).filter(|(_, count)| *count > 0).unzip();
        let mut counts = counts.into_iter();
        self.column.dictionary().sorted_ords_to_term_cb(&ordinals, |value| {
            let count = u64::from(counts.next().unwrap_or_default());
            *total.entry(String::from_utf8_lossy(value).into_owned()).or_default() += count;
        })?;
        Ok(())
    }
}

fn most_frequent(counts: HashMap<String, u64>) -> Vec<FacetCount> {
    let mut values: Vec<_> = counts.into_iter().map(|(value, count)| FacetCount { value, count }).collect();
    values.sort_unstable_by(|a, b| (Reverse(a.count), &a.value).cmp(&(Reverse(b.count), &b.value)));
    values.truncate(MAX_FACET_VALUES);
    values
}
