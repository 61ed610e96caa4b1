//! How often each value of a field stands in the hits.
//!
//! The values of many hits are read at once: one after the other, a million of them would take a second.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::StrColumn;
use tantivy::{DocId, Score, SegmentOrdinal, SegmentReader};

use super::super::FacetCount;
use super::super::control::{MemoryCharge, Part, SearchControl};

/// Most values of a facet in an answer.
pub(in crate::search) const MAX_VALUES: usize = 100;
/// Values that may be looked up one by one.
const FEW: usize = 20_000;
/// Hits whose values are read at once.
const BLOCK: usize = 4096;
/// Values that are passed over between two looks at the flag.
const PASSED: usize = 1024;

/// Counts the values of these fields.
pub(super) struct Facets {
    fields: Vec<String>,
    control: SearchControl,
}

impl Facets {
    pub(super) fn of(fields: &[String], control: &SearchControl) -> Self {
        Self { fields: fields.to_vec(), control: control.clone() }
    }
}

/// One field's values in one segment, with how many hits have each.
pub(super) struct Counted {
    column: StrColumn,
    counts: Vec<u32>,
    _charge: MemoryCharge,
}

pub(super) struct SegmentFacets {
    /// By field; `None` where no document of the segment has a value.
    fields: Vec<Option<Counted>>,
    /// Hits that are not counted yet, ascending.
    hits: Vec<DocId>,
    room: Room,
}

/// What is read of a block.
#[derive(Default)]
struct Room {
    hits: Vec<DocId>,
    rows: Vec<u32>,
    values: Vec<u64>,
}

impl Collector for Facets {
    type Fruit = BTreeMap<String, Vec<FacetCount>>;
    type Child = SegmentFacets;

    fn for_segment(&self, _: SegmentOrdinal, segment: &SegmentReader) -> tantivy::Result<SegmentFacets> {
        let counted = |field: &String| {
            let Some(column) = segment.fast_fields().str(field)? else { return Ok(None) };
            // Once more while the most frequent ones are looked for.
            let bytes = 2 * column.num_terms() * size_of::<u32>();
            let Some(charge) = self.control.charge(Part::Facets, bytes) else { return Ok(None) };
            Ok(Some(Counted { counts: vec![0; column.num_terms()], column, _charge: charge }))
        };
        let fields = self.fields.iter().map(counted).collect::<tantivy::Result<_>>()?;
        Ok(SegmentFacets { fields, hits: Vec::with_capacity(BLOCK), room: Room::default() })
    }

    fn requires_scoring(&self) -> bool {
        false
    }

    fn merge_fruits(&self, segments: Vec<Vec<Option<Counted>>>) -> tantivy::Result<Self::Fruit> {
        let mut fields: Vec<Vec<Counted>> = self.fields.iter().map(|_| Vec::new()).collect();
        for segment in segments {
            segment.into_iter().zip(&mut fields).for_each(|(counted, field)| field.extend(counted));
        }
        let counts = fields
            .iter()
            .map(|segments| most_frequent(segments, &self.control))
            .collect::<tantivy::Result<Vec<_>>>()?;
        Ok(self.fields.iter().cloned().zip(counts).collect())
    }
}

impl SegmentCollector for SegmentFacets {
    type Fruit = Vec<Option<Counted>>;

    fn collect(&mut self, doc: DocId, _: Score) {
        self.hits.push(doc);
        if self.hits.len() == BLOCK {
            self.count();
        }
    }

    fn harvest(mut self) -> Self::Fruit {
        self.count();
        self.fields
    }
}

impl SegmentFacets {
    fn count(&mut self) {
        for counted in self.fields.iter_mut().flatten() {
            counted.count(&self.hits, &mut self.room);
        }
        self.hits.clear();
    }
}

impl Counted {
    fn count(&mut self, hits: &[DocId], room: &mut Room) {
        let (Some(first), Some(last)) = (hits.first(), hits.last()) else { return };
        let column = self.column.ords();
        let behind = last + 1;
        if (behind - first) as usize == hits.len() {
            // All documents of a stretch: their values stand side by side.
            let rows = column.index.docid_range_to_rowids(*first..behind);
            room.values.resize(rows.len(), 0);
            column.values.get_range(rows.start.into(), &mut room.values);
        } else {
            room.hits.clear();
            room.rows.clear();
            column.row_ids_for_docs(hits, &mut room.hits, &mut room.rows);
            room.values.resize(room.rows.len(), 0);
            column.values.get_vals(&room.rows, &mut room.values);
        }
        for value in &room.values {
            self.counts[*value as usize] += 1;
        }
    }

    /// Each value that at least so many hits have.
    fn at_least(&self, least: u32) -> impl Iterator<Item = u64> {
        (0..).zip(&self.counts).filter(move |(_, count)| **count >= least).map(|(value, _)| value)
    }

    /// How many hits the hundredth value has; 0 where there are fewer values.
    fn hundredth(&self) -> u32 {
        let mut counts = self.counts.clone();
        if counts.len() < MAX_VALUES {
            return 0;
        }
        *counts.select_nth_unstable_by_key(MAX_VALUES - 1, |count| Reverse(*count)).1
    }

    /// These values, which ascend, as they are written.
    fn written(&self, values: &[u64], mut each: impl FnMut(&[u8])) -> tantivy::Result<()> {
        self.column.dictionary().sorted_ords_to_term_cb(values, &mut each)?;
        Ok(())
    }

    fn count_of(&self, value: &[u8]) -> tantivy::Result<u64> {
        let ordinal = self.column.dictionary().term_ord(value)?;
        Ok(ordinal.map_or(0, |ordinal| u64::from(self.counts[ordinal as usize])))
    }
}

/// The most frequent values over all segments, equals in their order.
///
/// What is shown has as many hits as the hundredth value of any one segment, so in one of the segments its share of these. Where few values have,
/// only they are looked at: to read a million names takes long.
fn most_frequent(segments: &[Counted], control: &SearchControl) -> tantivy::Result<Vec<FacetCount>> {
    if control.is_stopped() {
        return Ok(Vec::new());
    }
    let shown = segments.iter().map(Counted::hundredth).max().unwrap_or_default();
    let share = shown.div_ceil(u32::try_from(segments.len().max(1)).unwrap_or(u32::MAX)).max(1);
    let mut top = Top::default();
    if segments.iter().map(|segment| segment.at_least(share).count()).sum::<usize>() <= FEW {
        let mut totals: HashMap<Vec<u8>, u64> = HashMap::new();
        for segment in segments {
            let values: Vec<u64> = segment.at_least(share).collect();
            segment.written(&values, |value| {
                totals.insert(value.to_vec(), 0);
            })?;
        }
        for value in totals.into_keys() {
            let total = segments.iter().map(|segment| segment.count_of(&value)).sum::<tantivy::Result<u64>>()?;
            top.take(&value, total);
        }
    } else {
        sum_all(segments, control, &mut top)?;
    }
    Ok(top.into_counts())
}

/// Sums the counts of all values, by passing over the dictionaries of all segments side by side: a
/// map of a million names would take a hundred megabytes.
fn sum_all(segments: &[Counted], control: &SearchControl, top: &mut Top) -> tantivy::Result<()> {
    let streams = segments.iter().map(|segment| segment.column.dictionary().stream());
    let mut streams = streams.collect::<std::io::Result<Vec<_>>>()?;
    // The next value of each segment, the least first.
    let mut heads: BinaryHeap<Reverse<(Vec<u8>, usize)>> = BinaryHeap::with_capacity(streams.len());
    for (at, stream) in streams.iter_mut().enumerate() {
        if stream.advance() {
            heads.push(Reverse((stream.key().to_vec(), at)));
        }
    }
    let (mut value, mut total): (Vec<u8>, u64) = (Vec::new(), 0);
    let mut passed = 0_usize;
    while let Some(mut head) = heads.peek_mut() {
        let Reverse((next, at)) = &mut *head;
        if *next != value {
            top.take(&value, total);
            value.clone_from(next);
            total = 0;
        }
        let stream = &mut streams[*at];
        let ordinal = usize::try_from(stream.term_ord()).unwrap_or(usize::MAX);
        total += u64::from(segments[*at].counts.get(ordinal).copied().unwrap_or_default());
        if stream.advance() {
            next.clear();
            next.extend_from_slice(stream.key());
        } else {
            std::collections::binary_heap::PeekMut::pop(head);
        }
        passed += 1;
        if passed.is_multiple_of(PASSED) && control.is_stopped() {
            return Ok(());
        }
    }
    top.take(&value, total);
    Ok(())
}

/// The most frequent values so far; of equals those that come first in their order.
#[derive(Default)]
struct Top(BinaryHeap<Reverse<(u64, Reverse<Vec<u8>>)>>);

impl Top {
    fn take(&mut self, value: &[u8], total: u64) {
        let least = self.0.peek().map_or(0, |Reverse((least, _))| *least);
        if total == 0 || (self.0.len() == MAX_VALUES && total < least) {
            return;
        }
        self.0.push(Reverse((total, Reverse(value.to_vec()))));
        if self.0.len() > MAX_VALUES {
            self.0.pop();
        }
    }

    fn into_counts(self) -> Vec<FacetCount> {
        let shown = |Reverse((count, Reverse(value)))| FacetCount {
            value: String::from_utf8(value).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into()),
            count,
        };
        self.0.into_sorted_vec().into_iter().map(shown).collect()
    }
}
