//! All hits of a query in an order: what a whole answer is written from. A page of them is the business of [`super::collect`], whose window would
//! take room for twice all documents in every segment.

use std::cmp::Ordering;

use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::{Column, StrColumn};
use tantivy::query::Query;
use tantivy::{DocId, Score, Searcher, SegmentOrdinal, SegmentReader};

use super::{Hit, SearchResult, Sort, schema};
use crate::ids::VersionId;

/// All hits in that order, equals by id.
pub(super) fn hits(searcher: &Searcher, query: &dyn Query, sort: Sort) -> SearchResult<Vec<Hit>> {
    let mut found = searcher.search(query, &Ordered(sort))?;
    found.sort_unstable_by(|(a, a_id), (b, b_id)| a.compare(b).then(a_id.cmp(b_id)));
    let score = |key| match key {
        Key::Score(score) => Some(score),
        Key::Date(_) | Key::Ref(_) => None,
    };
    Ok(found.into_iter().map(|(key, id)| Hit { id: VersionId(id), score: score(key) }).collect())
}

/// What a hit is sorted by.
#[derive(Debug)]
enum Key {
    Score(Score),
    Date(Option<i64>),
    Ref(Box<str>),
}

impl Key {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Score(a), Self::Score(b)) => b.total_cmp(a),
            (Self::Date(a), Self::Date(b)) => b.cmp(a),
            (Self::Ref(a), Self::Ref(b)) => a.cmp(b),
            // Hits of one query are all sorted by the same.
            _ => Ordering::Equal,
        }
    }
}

struct Ordered(Sort);

/// The hits of one segment; refs as ordinals, which are looked up at the end.
struct SegmentHits {
    ids: Column<u64>,
    by: By,
    found: Vec<(Key, u32)>,
    ordinals: Vec<(u64, u32)>,
}

enum By {
    Score,
    Date(Option<Column<i64>>),
    Ref(StrColumn),
}

impl Collector for Ordered {
    type Fruit = Vec<(Key, u32)>;
    type Child = SegmentHits;

    fn for_segment(&self, _: SegmentOrdinal, segment: &SegmentReader) -> tantivy::Result<SegmentHits> {
        let columns = segment.fast_fields();
        let by = match self.0 {
            Sort::Relevance => By::Score,
            // A segment without a dated document may have no such column.
            Sort::Date => By::Date(columns.column_opt::<i64>(schema::ISSUED)?),
            Sort::Ref => columns.str(schema::REF)?.map_or(By::Date(None), By::Ref),
        };
        Ok(SegmentHits { ids: columns.u64(schema::ID)?, by, found: Vec::new(), ordinals: Vec::new() })
    }

    fn requires_scoring(&self) -> bool {
        self.0 == Sort::Relevance
    }

    fn merge_fruits(&self, segments: Vec<SegmentHits>) -> tantivy::Result<Vec<(Key, u32)>> {
        let mut all = Vec::new();
        for mut segment in segments {
            all.append(&mut segment.found);
            if let By::Ref(column) = segment.by {
                name(&column, segment.ordinals, &mut all)?;
            }
        }
        Ok(all)
    }
}

impl SegmentCollector for SegmentHits {
    type Fruit = Self;

    fn collect(&mut self, doc: DocId, score: Score) {
        let Some(id) = self.ids.first(doc).and_then(|id| u32::try_from(id).ok()) else { return };
        match &self.by {
            By::Score => self.found.push((Key::Score(score), id)),
            By::Date(column) => {
                self.found.push((Key::Date(column.as_ref().and_then(|column| column.first(doc))), id));
            }
            By::Ref(column) => self.ordinals.push((column.term_ords(doc).next().unwrap_or_default(), id)),
        }
    }

    fn harvest(self) -> Self {
        self
    }
}

/// Adds hits by their refs. Looked up in the order of ordinals, the dictionary is passed over once.
fn name(column: &StrColumn, mut hits: Vec<(u64, u32)>, all: &mut Vec<(Key, u32)>) -> tantivy::Result<()> {
    hits.sort_unstable();
    let (ordinals, ids): (Vec<u64>, Vec<u32>) = hits.into_iter().unzip();
    let mut ids = ids.into_iter();
    let known = column.dictionary().sorted_ords_to_term_cb(&ordinals, |term| {
        all.extend(ids.next().map(|id| (Key::Ref(String::from_utf8_lossy(term).into()), id)));
    })?;
    if known { Ok(()) } else { Err(tantivy::TantivyError::InternalError("a ref is not in its dictionary".to_owned())) }
}
