//! Division into shards: which member goes where, from lengths alone, so that every process divides alike.

use std::ops::Range;

/// Bytes of decoded source in a shard where the request says nothing: some minutes of one reader's work, and still some hundred shards
/// of a corpus of the size that people train on, so that as many readers have work. Compressed, some 80 MiB of text; one download.
pub(crate) const DEFAULT_SHARD_BYTES: u64 = 256 << 20;

/// Divides members, given in docset order, so that no shard has more than so many bytes, unless a single member has.
#[derive(Debug, Clone)]
pub(crate) struct Divider {
    limit: u64,
    filled: u64,
    count: u64,
    /// Members in each shard but the last.
    shards: Vec<u64>,
}

impl Divider {
    /// Shards of `limit` bytes of decoded source.
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, filled: 0, count: 0, shards: Vec::new() }
    }

    /// Adds the next member with files, which has so many bytes in the wanted formats.
    pub(crate) fn add(&mut self, bytes: u64) {
        if self.count > 0 && self.filled.saturating_add(bytes) > self.limit {
            self.shards.push(self.count);
            (self.filled, self.count) = (0, 0);
        }
        self.filled = self.filled.saturating_add(bytes);
        self.count += 1;
    }

    /// The members of each shard, counted from 0; one shard at least, however empty.
    pub(crate) fn finish(mut self) -> Vec<Range<u64>> {
        self.shards.push(self.count);
        let mut end = 0;
        let range = |count| {
            let start = end;
            end += count;
            start..end
        };
        self.shards.into_iter().map(range).collect()
    }
}

/// Name of shard `index` (from 0) of `count`, as Hugging Face, TensorFlow and Spark name theirs: `data-00001-of-00003.parquet`.
pub(crate) fn shard_name(stem: &str, index: usize, count: usize, extension: &str) -> String {
    format!("{stem}-{:05}-of-{count:05}.{extension}", index + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shards_hold_every_member_once_and_are_as_full_as_they_may_be(
            sizes in prop::collection::vec(0..50_u64, 0..100), limit in 1..200_u64,
        ) {
            let mut divider = Divider::new(limit);
            sizes.iter().for_each(|size| divider.add(*size));
            let shards = divider.finish();
            let sum = |range: &Range<u64>| sizes[range.start as usize..range.end as usize].iter().sum::<u64>();
            prop_assert_eq!((shards[0].start, shards.last().unwrap().end), (0, sizes.len() as u64));
            for pair in shards.windows(2) {
                prop_assert_eq!(pair[0].end, pair[1].start);
                prop_assert!(sum(&pair[0]) + sizes[pair[1].start as usize] > limit);
            }
            for shard in &shards {
                prop_assert!(sum(shard) <= limit || shard.end - shard.start == 1);
                prop_assert!(sizes.is_empty() || !shard.is_empty());
            }
        }
    }

    #[test]
    fn names_sort_as_they_count() {
        assert_eq!(shard_name("data", 0, 3, "parquet"), "data-00001-of-00003.parquet");
        assert_eq!(shard_name("data", 11, 12, "jsonl.zst"), "data-00012-of-00012.jsonl.zst");
    }
}
