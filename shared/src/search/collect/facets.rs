//! How often each value of a field stands in the hits.
//!
//! The values of many hits are read at once: one after the other, a million of them would take a second.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::StrColumn;
use tantivy::{DocId, Score, SegmentOrdinal, SegmentReader};

use super::super::FacetCount;

/// Most values of a facet in an answer.
pub(in crate::search) const MAX_VALUES: usize = 100;
/// Values that may be looked up one by one.
const FEW: usize = 20_000;
/// Hits whose values are read at once.
const BLOCK: usize = 4096;

/// Counts the values of these fields.
pub(super) struct Facets {
    fields: Vec<String>,
}

impl Facets {
    pub(super) fn of(fields: &[String]) -> Self {
        Self { fields: fields.to_vec() }
    }
}

/// One field's values in one segment, with how many hits have each.
pub(super) struct Counted {
    column: StrColumn,
    counts: Vec<u32>,
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
            let column = segment.fast_fields().str(field)?;
            Ok(column.map(|column| Counted { counts: vec![0; column.num_terms()], column }))
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
        let counts = fields.iter().map(|segments| most_frequent(segments)).collect::<tantivy::Result<Vec<_>>>()?;
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
fn most_frequent(segments: &[Counted]) -> tantivy::Result<Vec<FacetCount>> {
    let shown = segments.iter().map(Counted::hundredth).max().unwrap_or_default();
    let share = shown.div_ceil(u32::try_from(segments.len().max(1)).unwrap_or(u32::MAX)).max(1);
    let mut totals: HashMap<Vec<u8>, u64> = HashMap::new();
    if segments.iter().map(|segment| segment.at_least(share).count()).sum::<usize>() <= FEW {
        for segment in segments {
            let values: Vec<u64> = segment.at_least(share).collect();
            segment.written(&values, |value| {
                totals.insert(value.to_vec(), 0);
            })?;
        }
        for (value, total) in &mut totals {
            *total = segments.iter().map(|segment| segment.count_of(value)).sum::<tantivy::Result<u64>>()?;
        }
    } else {
        for segment in segments {
            let values: Vec<u64> = segment.at_least(1).collect();
            let mut counts = values.iter().map(|value| u64::from(segment.counts[*value as usize]));
            segment.written(&values, |value| {
                *totals.entry(value.to_vec()).or_default() += counts.next().unwrap_or_default();
            })?;
        }
    }
    let mut values: Vec<(Vec<u8>, u64)> = totals.into_iter().collect();
    let order = |a: &(Vec<u8>, u64), b: &(Vec<u8>, u64)| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0));
    if values.len() > MAX_VALUES {
        values.select_nth_unstable_by(MAX_VALUES - 1, order);
        values.truncate(MAX_VALUES);
    }
    values.sort_unstable_by(order);
    let shown =
        |(value, count): (Vec<u8>, u64)| FacetCount { value: String::from_utf8_lossy(&value).into_owned(), count };
    Ok(values.into_iter().map(shown).collect())
}
