//! What a plan promises: every byte where it says, whatever the parts, the same again every time.

use std::io::Cursor;

use adit_shared::domain::{Encoding, Layout, Omission, Recipe};
use adit_shared::ids::DocsetId;
use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::bag;
use crate::manifest::{Header, Member};
use crate::testing::{Corpus, TAGS, corpus};

const LAYOUTS: [Layout; 2] = [Layout::Flat, Layout::Bag];

fn estimate(corpus: &Corpus, layout: Layout) -> u64 {
    let (header, recipe) = (corpus.header(), Recipe::new(corpus.formats(), layout));
    let mut estimator = SizeEstimator::new(&recipe, header.about.as_ref(), header.selection.is_some()).unwrap();
    corpus.members.iter().for_each(|member| estimator.add(member).unwrap());
    estimator.finish().bytes
}

/// Every record's place as planned, against where crate `zip` finds it.
fn assert_places(plan: &Plan, archive: &[u8]) {
    let mut zip = zip_crate(archive);
    let directory = plan.sections.iter().find(|section| matches!(section.content, Content::Directory)).unwrap();
    let first = zip.central_directory_start();
    assert!(first <= directory.start && directory.end() <= plan.size());
    let mut records = plan.spool.read(plan.records.clone());
    while let Some((_, record)) = records.next().unwrap() {
        let path = format!("{}{}", plan.folder, record.path);
        let entry = zip.by_name(&path).unwrap();
        assert_eq!(entry.header_start(), record.offset);
        let header = zip::local_len(path.len(), record.size, record.packed);
        assert_eq!(entry.data_start(), Some(record.offset + header));
        assert_eq!(entry.compressed_size(), record.packed);
        let expected = match record.encoding {
            Encoding::Identity => ::zip::CompressionMethod::Stored,
            Encoding::Gzip => ::zip::CompressionMethod::Deflated,
        };
        assert_eq!(entry.compression(), expected);
    }
}

fn zip_crate(archive: &[u8]) -> ::zip::ZipArchive<Cursor<&[u8]>> {
    ::zip::ZipArchive::new(Cursor::new(archive)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_byte_stands_where_it_was_planned(corpus in corpus(12), blocks in 1..40_u64) {
        for layout in LAYOUTS {
            let plan = corpus.plan(layout, blocks * 64);
            let archive = corpus.archive(&plan);
            prop_assert_eq!(archive.len() as u64, plan.size());
            prop_assert_eq!(estimate(&corpus, layout), plan.size());
            corpus.assert_holds(&archive, layout);
            assert_places(&plan, &archive);
            // Parts change nothing, and neither does drawing them up in another order.
            let whole = corpus.plan(layout, PART_SIZE);
            prop_assert_eq!(whole.parts(), 1);
            prop_assert!(corpus.archive(&whole) == archive);
            let backwards = (1..=plan.parts()).rev().map(|number| corpus.part(&plan, number));
            prop_assert!(backwards.collect::<Vec<_>>().into_iter().rev().flatten().collect::<Vec<u8>>() == archive);
        }
    }

    #[test]
    fn members_done_grow_to_all(corpus in corpus(12), blocks in 1..40_u64) {
        for layout in LAYOUTS {
            let plan = corpus.plan(layout, blocks * 64);
            let done: Vec<u64> = (0..=plan.parts()).map(|parts| plan.members_done(parts)).collect();
            prop_assert!(done.is_sorted());
                prop_assert_eq!(*done.last().unwrap(), corpus.members.len() as u64);
                let project = corpus.project(layout, blocks * 64);
                prop_assert_eq!(project.included() + project.omitted(), project.requested());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_withheld_is_left_out_and_told(mut corpus in corpus(12), marks in prop::collection::vec(0..6_u8, 12)) {
        let mut reasons = Vec::new();
        for (member, mark) in corpus.members.iter_mut().zip(marks) {
            match mark {
                0 => member.omitted = Some(Omission::Rights),
                1 => member.omitted = Some(Omission::Withdrawn),
                2 => member.access = Some("restricted:press".parse().unwrap()),
                _ => {}
            }
            if member.omitted.is_some() {
                let (text, names) = (&member.r#ref, std::mem::take(&mut member.files));
                names.iter().for_each(|file| _ = corpus.contents.remove(&(text.clone(), file.format.clone())));
            }
            if member.files.is_empty() {
                reasons.push((member.r#ref.clone(), member.omitted.unwrap_or(Omission::Format)));
            }
        }
        for layout in LAYOUTS {
            let (plan, documents) = (corpus.plan(layout, 640), corpus.project(layout, 640).manifest(Vec::new()).documents);
            let archive = corpus.archive(&plan);
            prop_assert_eq!(estimate(&corpus, layout), plan.size());
            corpus.assert_holds(&archive, layout);
            let count = |reason| reasons.iter().filter(|(_, found)| *found == reason).count() as u64;
            prop_assert_eq!(documents.omitted, reasons.len() as u64);
            prop_assert_eq!((documents.rights, documents.withdrawn), (count(Omission::Rights), count(Omission::Withdrawn)));
            if layout == Layout::Bag {
                let text = |name: &str| io::read_to_string(zip_crate(&archive).by_name(&format!("{}{name}", plan.folder)).unwrap()).unwrap();
                let marked = corpus.header().selection.is_some();
                let told: Vec<serde_json::Value> = text("omitted.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
                let expected: Vec<_> = reasons.iter().map(|(r#ref, reason)| (r#ref.as_str(), marked.then_some(reason))).collect();
                let told: Vec<_> = told.iter().map(|line| (line["ref"].as_str().unwrap(), serde_json::from_value(line["reason"].clone()).unwrap())).collect();
                prop_assert_eq!(told.iter().map(|(r#ref, reason): &(&str, Option<Omission>)| (*r#ref, reason.as_ref())).collect::<Vec<_>>(), expected);
                prop_assert_eq!(text("rights.csv").starts_with("path,license,access"), marked);
                let restricted = corpus.members.iter().filter(|member| member.access.is_some()).flat_map(|member| &member.files);
                let restricted = restricted.filter(|file| file.format.as_str() != "meta").count();
                prop_assert_eq!(text("rights.csv").matches(",restricted:press\r\n").count(), restricted);
            }
        }
    }
}

#[test]
fn a_manifest_that_withholds_others_than_it_announced_has_no_plan() {
    let mut corpus = Corpus::default();
    corpus.add("d", &[("pdf", b"x", Encoding::Identity)]);
    let header = corpus.header();
    corpus.members[0].access = Some("restricted:press".parse().unwrap());
    let mut builder = ProjectBuilder::new(&Recipe::new(corpus.formats(), Layout::Flat), header).unwrap();
    builder.add(&corpus.members[0]).unwrap();
    assert!(matches!(builder.finish(PART_SIZE), Err(PlanError::Selection)));
}

#[test]
fn a_bag_has_the_tag_files_of_rfc_8493() {
    let mut corpus = Corpus::default();
    corpus.add("jose.1", &[("meta", b"{}", Encoding::Identity), ("txt", b"text text text", Encoding::Gzip)]);
    corpus.add("jose.2", &[]);
    let plan = corpus.plan(Layout::Bag, 64);
    let archive = corpus.archive(&plan);
    let mut zip = zip_crate(&archive);
    let names: Vec<String> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
    let text = names.iter().map(|name| {
        let text = io::read_to_string(zip.by_name(name).unwrap()).unwrap();
        format!("== {name}\n{text}\n")
    });
    insta::assert_snapshot!(text.collect::<String>());
}

#[test]
fn the_bytes_of_a_small_archive_stay() {
    let mut corpus = Corpus::default();
    corpus.add("é", &[("pdf", b"%PDF", Encoding::Identity), ("txt", b"text", Encoding::Gzip)]);
    let plan = corpus.plan(Layout::Flat, 64);
    let lines = corpus.archive(&plan).chunks(32).map(hex::encode).collect::<Vec<_>>().join("\n");
    let manifest = String::from_utf8(corpus.manifest()).unwrap();
    insta::assert_snapshot!(format!("{manifest}\n{lines}\n"));
}

#[test]
fn more_files_than_16_bits_count_are_read_back() {
    let mut corpus = Corpus::default();
    for i in 0..66_000 {
        corpus.add(&format!("d{i}"), &[("txt", b"", Encoding::Identity)]);
    }
    for layout in LAYOUTS {
        let plan = corpus.plan(layout, 1 << 20);
        assert_eq!(estimate(&corpus, layout), plan.size());
        let archive = corpus.archive(&plan);
        let mut zip = zip_crate(&archive);
        assert_eq!(zip.len() as u64, 66_000 + if layout == Layout::Bag { TAGS as u64 } else { 0 });
        let payload = if layout == Layout::Bag { bag::PAYLOAD } else { "" };
        assert_eq!(zip.by_name(&format!("{}{payload}d65999.txt", plan.folder)).unwrap().size(), 0);
    }
}

/// Offsets and sizes beyond 32 bits, without the bytes: what stands around the data is drawn up, the data is not fetched.
#[test]
fn an_archive_beyond_4_gib_keeps_its_books_in_zip64() {
    let mut corpus = Corpus::default();
    for i in 0..6 {
        corpus.add(&format!("d{i}"), &[("pdf", b"x", Encoding::Identity)]);
    }
    for (i, member) in corpus.members.iter_mut().enumerate() {
        let size = if i == 3 { 5 << 30 } else { 1 << 30 };
        member.files[0].size = size;
        member.files[0].place.stored = size;
    }
    for layout in LAYOUTS {
        let plan = corpus.plan(layout, PART_SIZE);
        assert_eq!(estimate(&corpus, layout), plan.size());
        let mut tail = Vec::new();
        let first = plan.parts() - 1;
        for number in first..=plan.parts() {
            tail.extend_from_slice(&plan.draft(number, BytesMut::new(), Vec::new()).unwrap().bytes);
        }
        // A reader that is given only the end of the archive finds the directory through the ZIP64 records.
        let start = plan.part_range(first).start;
        let zip = ::zip::ZipArchive::new(Tail { start, tail: Cursor::new(tail) }).unwrap();
        let mut records = plan.spool.read(plan.records.clone());
        while let Some((_, record)) = records.next().unwrap() {
            let index = zip.index_for_name(&format!("{}{}", plan.folder, record.path)).unwrap();
            let entry = zip.by_index_data(index).unwrap();
            assert_eq!((entry.header_start(), entry.size()), (record.offset, record.size));
            assert_eq!(record.offset > u64::from(u32::MAX), index >= 4);
        }
    }
}

/// The end of a file whose beginning is not there.
struct Tail {
    start: u64,
    tail: Cursor<Vec<u8>>,
}

impl io::Read for Tail {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tail.read(buffer)
    }
}

impl io::Seek for Tail {
    fn seek(&mut self, position: io::SeekFrom) -> io::Result<u64> {
        let position = match position {
            io::SeekFrom::Start(at) => io::SeekFrom::Start(at.saturating_sub(self.start)),
            other => other,
        };
        self.tail.seek(position).map(|at| at + self.start)
    }
}

#[test]
fn parts_double_until_a_store_takes_them() {
    assert_eq!(part_size_for(1, PART_SIZE), PART_SIZE);
    assert_eq!(part_size_for(PART_SIZE * MAX_PARTS, PART_SIZE), PART_SIZE);
    assert_eq!(part_size_for(PART_SIZE * MAX_PARTS + 1, PART_SIZE), 2 * PART_SIZE);
    assert!(MAX_ARCHIVE.div_ceil(part_size_for(MAX_ARCHIVE, PART_SIZE)) <= MAX_PARTS);
}

#[test]
fn what_is_too_long_or_incomplete_has_no_plan() {
    let mut corpus = Corpus::default();
    corpus.add("d", &[("pdf", b"x", Encoding::Identity)]);
    let file = &mut corpus.members[0].files[0];
    (file.size, file.place.stored) = (MAX_ARCHIVE, MAX_ARCHIVE);
    let recipe = Recipe::new(corpus.formats(), Layout::Flat);
    let builder = || ProjectBuilder::new(&recipe, corpus.header()).unwrap();
    let mut large = builder();
    large.add(&corpus.members[0]).unwrap();
    assert!(matches!(large.finish(PART_SIZE), Err(PlanError::TooLarge(_))));
    assert!(matches!(builder().finish(PART_SIZE), Err(PlanError::Incomplete { announced: 1, .. })));
}

#[test]
fn what_the_server_does_not_tell_is_not_guessed() {
    let corpus = Corpus::default();
    let refused = |recipe: &Recipe, header| ProjectBuilder::new(recipe, header).unwrap().finish(PART_SIZE).unwrap_err();
    for layout in [Layout::Bag, Layout::TarZst, Layout::Jsonl, Layout::Parquet] {
        let header = Header { about: None, ..corpus.header() };
        let error = refused(&Recipe::new(Vec::new(), layout), header);
        assert!(matches!(error, PlanError::Undescribed(undescribed) if undescribed == layout), "{error}");
    }
    let mut delta = Recipe::new(Vec::new(), Layout::Bag);
    delta.options.delta_from = Some(DocsetId(1));
    assert!(matches!(refused(&delta, corpus.header()), PlanError::NoBase));
}

#[test]
fn shards_are_not_without_number() {
    let mut corpus = Corpus::default();
    for i in 0..=MAX_SHARDS {
        corpus.add(&format!("d{i}"), &[("pdf", b"x", Encoding::Identity)]);
        let file = &mut corpus.members[i].files[0];
        (file.size, file.place.stored) = (1 << 20, 1 << 20);
    }
    let mut recipe = Recipe::new(corpus.formats(), Layout::Flat);
    recipe.options.shard_bytes = Some(1 << 20);
    let finish = |members: &[Member]| {
        let header = Header { documents: members.len() as u64, ..corpus.header() };
        let mut builder = ProjectBuilder::new(&recipe, header).unwrap();
        members.iter().for_each(|member| builder.add(member).unwrap());
        builder.finish(PART_SIZE).map(|project| project.assets.len())
    };
    assert_eq!(finish(&corpus.members[1..]).unwrap(), MAX_SHARDS);
    assert!(matches!(finish(&corpus.members), Err(PlanError::TooManyShards(count)) if count == MAX_SHARDS + 1));
}
