//! Queries of Tantivy that ask [`SearchControl`] on their way: its own run to their end whoever
//! waits for them.
//!
//! Tantivy's loops come back to us with each hit only. An intersection or an exclusion may pass
//! over millions of documents without a hit, a union reads 4,096 documents of each of its parts at
//! once, and a weight may read a whole dictionary before the first hit. So the query as a whole is
//! wrapped, and so is each part of a clause that is no plain word; once the flag is set each of
//! them says that it has no more documents, which ends all loops around it. What reads dictionaries
//! is of our own ([`super::expanded`]), and so are phrases ([`super::phrase`]).

use std::fmt;

use tantivy::collector::Collector;
use tantivy::query::{AllScorer, EmptyScorer, EmptyWeight, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::{
    COLLECT_BLOCK_BUFFER_LEN, DocId, DocSet, Executor, Score, Searcher, SeekDangerResult, SegmentReader, TERMINATED,
};

use super::SearchResult;
use super::control::{MemoryCharge, Part, SearchControl};

/// A query on an open index, under the control of its search.
pub(super) struct ControlledSearch<'a> {
    searcher: &'a Searcher,
    query: Box<dyn Query>,
    control: &'a SearchControl,
    executor: &'a Executor,
    /// Of the words and clauses.
    _charge: MemoryCharge,
}

impl<'a> ControlledSearch<'a> {
    /// Makes a query ready whose words and clauses take so many bytes for each segment that is
    /// searched at the same time. Where they take much, segments are searched one after the other,
    /// so that no machine with many cores refuses what a small one takes. So they are where it is
    /// not `alone`: on the threads that all share, a short search would wait for the long ones.
    ///
    /// # Errors
    /// Those of [`SearchControl::check`].
    pub(super) fn new(
        searcher: &'a Searcher,
        query: Box<dyn Query>,
        bytes: usize,
        alone: bool,
        control: &'a SearchControl,
    ) -> SearchResult<Self> {
        let shared = searcher.index().search_executor();
        let threads = match shared {
            Executor::SingleThread => 1,
            Executor::ThreadPool(pool) => pool.current_num_threads().min(searcher.segment_readers().len()).max(1),
        };
        let side_by_side = alone && bytes.saturating_mul(threads) <= control.memory() / 2;
        let (executor, threads) = if side_by_side { (shared, threads) } else { (&Executor::SingleThread, 1) };
        let mut charge = control.open_charge(Part::Words);
        charge.grow(bytes.saturating_mul(threads));
        control.check()?;
        Ok(Self { searcher, query, control, executor, _charge: charge })
    }

    /// The index.
    pub(super) fn searcher(&self) -> &Searcher {
        self.searcher
    }

    /// Segments that are searched at the same time, at most.
    pub(super) fn threads(&self) -> usize {
        match self.executor {
            Executor::SingleThread => 1,
            Executor::ThreadPool(pool) => pool.current_num_threads(),
        }
    }

    /// What ends the search.
    pub(super) fn control(&self) -> &SearchControl {
        self.control
    }

    /// Collects the hits.
    ///
    /// # Errors
    /// Those of the index, and those of [`SearchControl::check`]: what was collected of a search
    /// that has ended is none.
    pub(super) fn collect<C: Collector>(&self, collector: &C) -> SearchResult<C::Fruit> {
        let scoring = if collector.requires_scoring() {
            EnableScoring::enabled_from_searcher(self.searcher)
        } else {
            EnableScoring::disabled_from_searcher(self.searcher)
        };
        let found = self.searcher.search_with_executor(&*self.query, collector, self.executor, scoring);
        self.control.check()?;
        Ok(found?)
    }
}

/// A query that ends with its search.
pub(super) struct ControlledQuery {
    query: Box<dyn Query>,
    control: SearchControl,
}

impl ControlledQuery {
    pub(super) fn new(query: Box<dyn Query>, control: &SearchControl) -> Self {
        Self { query, control: control.clone() }
    }
}

impl fmt::Debug for ControlledQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.query.fmt(f)
    }
}

impl Clone for ControlledQuery {
    fn clone(&self) -> Self {
        Self { query: self.query.box_clone(), control: self.control.clone() }
    }
}

impl Query for ControlledQuery {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        // To know how frequent words are, a weight looks each of them up in each segment.
        if self.control.is_stopped() {
            return Ok(Box::new(EmptyWeight));
        }
        Ok(Box::new(ControlledWeight { weight: self.query.weight(scoring)?, control: self.control.clone() }))
    }
}

struct ControlledWeight {
    weight: Box<dyn Weight>,
    control: SearchControl,
}

impl ControlledWeight {
    fn wrap(&self, scorer: Box<dyn Scorer>) -> Box<dyn Scorer> {
        // Clauses know these two, and leave them out.
        if scorer.is::<AllScorer>() || scorer.is::<EmptyScorer>() || scorer.is::<ControlledScorer>() {
            return scorer;
        }
        Box::new(ControlledScorer { scorer, ended: false, control: self.control.clone(), _charge: None })
    }
}

impl Weight for ControlledWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        if self.control.is_stopped() {
            return Ok(Box::new(EmptyScorer));
        }
        Ok(self.wrap(self.weight.scorer(reader, boost)?))
    }

    fn scorer_danger(
        &self,
        reader: &SegmentReader,
        target: DocId,
        boost: Score,
    ) -> tantivy::Result<(SeekDangerResult, Box<dyn Scorer>)> {
        if self.control.is_stopped() {
            return Ok((SeekDangerResult::SeekLowerBound(TERMINATED), Box::new(EmptyScorer)));
        }
        let (sought, scorer) = self.weight.scorer_danger(reader, target, boost)?;
        Ok((sought, self.wrap(scorer)))
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        self.weight.explain(reader, doc)
    }

    fn for_each(&self, reader: &SegmentReader, callback: &mut dyn FnMut(DocId, Score)) -> tantivy::Result<()> {
        let mut scorer = self.scorer(reader, 1.0)?;
        let mut doc = scorer.doc();
        while doc != TERMINATED && !self.control.is_stopped() {
            callback(doc, scorer.score());
            doc = scorer.advance();
        }
        Ok(())
    }

    fn for_each_no_score(&self, reader: &SegmentReader, callback: &mut dyn FnMut(&[DocId])) -> tantivy::Result<()> {
        let mut docs = self.scorer(reader, 1.0)?;
        let mut buffer = [0; COLLECT_BLOCK_BUFFER_LEN];
        while !self.control.is_stopped() {
            let filled = docs.fill_buffer(&mut buffer);
            callback(&buffer[..filled]);
            if filled < buffer.len() {
                break;
            }
        }
        Ok(())
    }
}

/// A scorer that has no more documents once its search has ended.
pub(super) struct ControlledScorer {
    scorer: Box<dyn Scorer>,
    /// Whether it has said so; it does not change its mind between two moves.
    ended: bool,
    control: SearchControl,
    /// The memory that it takes.
    _charge: Option<MemoryCharge>,
}

impl ControlledScorer {
    /// A scorer with the memory that it takes for as long as it is there.
    pub(super) fn charged(scorer: Box<dyn Scorer>, control: &SearchControl, charge: MemoryCharge) -> Self {
        Self { scorer, ended: false, control: control.clone(), _charge: Some(charge) }
    }

    fn has_ended(&mut self) -> bool {
        self.ended = self.ended || self.control.is_stopped();
        self.ended
    }
}

impl DocSet for ControlledScorer {
    fn advance(&mut self) -> DocId {
        if self.has_ended() { TERMINATED } else { self.scorer.advance() }
    }

    fn seek(&mut self, target: DocId) -> DocId {
        if self.has_ended() { TERMINATED } else { self.scorer.seek(target) }
    }

    fn seek_danger(&mut self, target: DocId) -> SeekDangerResult {
        if self.has_ended() { SeekDangerResult::SeekLowerBound(TERMINATED) } else { self.scorer.seek_danger(target) }
    }

    fn fill_buffer(&mut self, buffer: &mut [DocId; COLLECT_BLOCK_BUFFER_LEN]) -> usize {
        if self.has_ended() { 0 } else { self.scorer.fill_buffer(buffer) }
    }

    fn doc(&self) -> DocId {
        if self.ended { TERMINATED } else { self.scorer.doc() }
    }

    fn size_hint(&self) -> u32 {
        self.scorer.size_hint()
    }

    fn cost(&self) -> u64 {
        self.scorer.cost()
    }
}

impl Scorer for ControlledScorer {
    fn score(&mut self) -> Score {
        self.scorer.score()
    }
}
