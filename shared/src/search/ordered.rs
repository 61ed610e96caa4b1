//! All hits of a query in an order: what a whole answer is written from. A page of them is the business of [`super::collect`], whose window would
//! take room for twice all documents in every segment.
//!
//! Hits are sorted in short runs, and the runs joined, so that a search of millions of hits ends
//! when it is told to.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::{Column, StrColumn};
use tantivy::{DocId, Score, SegmentOrdinal, SegmentReader};

use super::control::{MemoryCharge, Part, SearchControl};
use super::controlled::ControlledSearch;
use super::{Hit, SearchResult, Sort, schema};
use crate::ids::VersionId;

/// Hits that are sorted at once.
const RUN: usize = 64 * 1024;
/// Hits that are joined between two looks at the flag.
const JOINED: usize = 4096;

/// All hits in that order, equals by id.
pub(super) fn hits(search: &ControlledSearch<'_>, sort: Sort) -> SearchResult<Vec<Hit>> {
    let control = search.control();
    let segments = search.collect(&Ordered { sort, control })?;
    let total: usize = segments.iter().map(SegmentHits::len).sum();
    let _charge = control.charge(Part::Answer, total * size_of::<Hit>());
    control.check()?;
    let mut hits = Vec::with_capacity(total);
    match sort {
        Sort::Relevance => {
            let runs = segments.into_iter().flat_map(|segment| segment.scores.runs).collect();
            let hit = |found: &ByScore| Hit { id: VersionId(found.id), score: Some(found.score) };
            join(runs, |found| *found, control, |found| hits.push(hit(&found)));
        }
        Sort::Date => {
            let runs = segments.into_iter().flat_map(|segment| segment.dates.runs).collect();
            join(runs, |found| *found, control, |(_, id)| hits.push(Hit { id: VersionId(id), score: None }));
        }
        Sort::Ref => by_refs(segments, control, &mut hits)?,
    }
    control.check()?;
    Ok(hits)
}

/// Joins sorted lists; gives up once the flag is set.
fn join<T: Copy, K: Ord>(lists: Vec<Vec<T>>, key: impl Fn(&T) -> K, control: &SearchControl, mut each: impl FnMut(T)) {
    let head = |list: usize, at: usize| lists[list].get(at).map(|first| Reverse((key(first), list, at)));
    let mut heads: BinaryHeap<_> = (0..lists.len()).filter_map(|list| head(list, 0)).collect();
    let mut joined = 0_usize;
    while let Some(Reverse((_, list, at))) = heads.pop() {
        each(lists[list][at]);
        heads.extend(head(list, at + 1));
        joined += 1;
        if joined.is_multiple_of(JOINED) && control.is_stopped() {
            return;
        }
    }
}

/// The best first, equals by id.
#[derive(Debug, Clone, Copy)]
struct ByScore {
    score: Score,
    id: u32,
}

impl Ord for ByScore {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for ByScore {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByScore {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for ByScore {}

/// Sorted runs of hits, whose memory is charged before it is taken.
struct Runs<T> {
    runs: Vec<Vec<T>>,
    charge: MemoryCharge,
}

impl<T: Ord> Runs<T> {
    fn new(control: &SearchControl) -> Self {
        Self { runs: Vec::new(), charge: control.open_charge(Part::Answer) }
    }

    fn push(&mut self, found: T) {
        if self.runs.last().is_none_or(|run| run.len() == RUN) {
            self.sort_last();
            self.runs.push(Vec::new());
        }
        let Some(run) = self.runs.last_mut() else { return };
        if run.len() == run.capacity() {
            let more = run.capacity().max(64).min(RUN - run.len());
            if !self.charge.grow(more * size_of::<T>()) {
                return;
            }
            run.reserve_exact(more);
        }
        run.push(found);
    }

    fn sort_last(&mut self) {
        if let Some(run) = self.runs.last_mut() {
            run.sort_unstable();
        }
    }

    fn len(&self) -> usize {
        self.runs.iter().map(Vec::len).sum()
    }
}

struct Ordered<'a> {
    sort: Sort,
    control: &'a SearchControl,
}

/// The hits of one segment, in the one of the lists that the order has.
struct SegmentHits {
    ids: Column<u64>,
    by: By,
    scores: Runs<ByScore>,
    /// The newest first, those without a date last.
    dates: Runs<(Reverse<i64>, u32)>,
    /// By the ordinals of refs, which are looked up at the end.
    refs: Runs<(u32, u32)>,
}

enum By {
    Score,
    Date(Option<Column<i64>>),
    Ref(StrColumn),
}

impl SegmentHits {
    fn len(&self) -> usize {
        self.scores.len() + self.dates.len() + self.refs.len()
    }
}

impl Collector for Ordered<'_> {
    type Fruit = Vec<SegmentHits>;
    type Child = SegmentHits;

    fn for_segment(&self, _: SegmentOrdinal, segment: &SegmentReader) -> tantivy::Result<SegmentHits> {
        let columns = segment.fast_fields();
        let by = match self.sort {
            Sort::Relevance => By::Score,
            // A segment without a dated document may have no such column.
            Sort::Date => By::Date(columns.column_opt::<i64>(schema::ISSUED)?),
            Sort::Ref => columns.str(schema::REF)?.map_or(By::Date(None), By::Ref),
        };
        Ok(SegmentHits {
            ids: columns.u64(schema::ID)?,
            by,
            scores: Runs::new(self.control),
            dates: Runs::new(self.control),
            refs: Runs::new(self.control),
        })
    }

    fn requires_scoring(&self) -> bool {
        self.sort == Sort::Relevance
    }

    fn merge_fruits(&self, segments: Vec<SegmentHits>) -> tantivy::Result<Vec<SegmentHits>> {
        Ok(segments)
    }
}

impl SegmentCollector for SegmentHits {
    type Fruit = Self;

    fn collect(&mut self, doc: DocId, score: Score) {
        let Some(id) = self.ids.first(doc).and_then(|id| u32::try_from(id).ok()) else { return };
        match &self.by {
            By::Score => self.scores.push(ByScore { score, id }),
            By::Date(column) => {
                let date = column.as_ref().and_then(|column| column.first(doc)).unwrap_or(i64::MIN);
                self.dates.push((Reverse(date), id));
            }
            By::Ref(column) => {
                let ordinal = column.term_ords(doc).next().unwrap_or_default();
                self.refs.push((u32::try_from(ordinal).unwrap_or(u32::MAX), id));
            }
        }
    }

    fn harvest(mut self) -> Self {
        self.scores.sort_last();
        self.dates.sort_last();
        self.refs.sort_last();
        self
    }
}

/// Where a hit's ref stands among the texts of all refs.
#[derive(Debug, Clone, Copy)]
struct Named {
    start: usize,
    end: usize,
    id: u32,
}

/// Adds hits by their refs. Looked up in the order of ordinals, each dictionary is passed over
/// once.
fn by_refs(segments: Vec<SegmentHits>, control: &SearchControl, hits: &mut Vec<Hit>) -> SearchResult<()> {
    let (mut texts, mut lists): (Vec<u8>, Vec<Vec<Named>>) = (Vec::new(), Vec::new());
    let mut charge = control.open_charge(Part::Answer);
    for segment in segments {
        let By::Ref(column) = &segment.by else { continue };
        let total = segment.refs.len();
        if !charge.grow(total * (size_of::<Named>() + size_of::<(u64, u32)>())) {
            break;
        }
        let (mut ordinals, mut ids) = (Vec::with_capacity(total), Vec::with_capacity(total));
        join(
            segment.refs.runs,
            |found| *found,
            control,
            |(ordinal, id)| {
                ordinals.push(u64::from(ordinal));
                ids.push(id);
            },
        );
        let mut named: Vec<Named> = Vec::with_capacity(total);
        for (ordinals, ids) in ordinals.chunks(RUN).zip(ids.chunks(RUN)) {
            let mut ids = ids.iter();
            let before = texts.capacity();
            let known = column.dictionary().sorted_ords_to_term_cb(ordinals, |term| {
                let start = texts.len();
                texts.extend_from_slice(term);
                named.extend(ids.next().map(|id| Named { start, end: texts.len(), id: *id }));
            });
            if !known.map_err(tantivy::TantivyError::from)? {
                return Err(super::SearchError::Index("a ref is not in its dictionary".to_owned()));
            }
            if !charge.grow(texts.capacity() - before) {
                break;
            }
        }
        lists.push(named);
    }
    control.check()?;
    let name = |found: &Named| (&texts[found.start..found.end], found.id);
    join(lists, name, control, |found| hits.push(Hit { id: VersionId(found.id), score: None }));
    Ok(())
}
