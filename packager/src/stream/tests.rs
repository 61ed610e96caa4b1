//! What goes in comes out: every layout is read back by a reader that is not ours, value for value.

use std::collections::HashMap;
use std::io::{self, Cursor, Read};

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use adit_shared::digest::Sha256;
use adit_shared::domain::{Access, Compression, Encoding, FileRecord, Format, META, Place};
use adit_shared::ids::VersionId;
use arrow_array::{Array, RecordBatch, cast::AsArray, types::Int64Type};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::bounds::{Bound, Table, compressed};
use super::columns::{Columns, DESCRIBED, Described};
use super::value::LARGE;
use super::{Contents, Document, jsonl, parquet, tar};
use crate::error::BuildError;

/// A document and the contents of its files.
#[derive(Debug, Clone)]
struct Sample {
    id: u32,
    r#ref: String,
    license: Option<String>,
    /// Where any has one, there is a column for it.
    access: Option<Access>,
    metadata: Map<String, Value>,
    files: Vec<(FileRecord, Vec<u8>)>,
}

impl Sample {
    fn new(id: u32, r#ref: &str, metadata: Value, files: &[(&str, &[u8])]) -> Self {
        let Value::Object(metadata) = metadata else { panic!("no object") };
        let mut files: Vec<_> =
            files.iter().map(|(format, content)| (record(format, content), content.to_vec())).collect();
        files.sort_by(|a, b| a.0.format.cmp(&b.0.format));
        Self { id, r#ref: r#ref.to_owned(), license: Some("https://l".to_owned()), access: None, metadata, files }
    }

    fn access(&self, marked: bool) -> Option<&Access> {
        static OPEN: Access = Access::Open;
        marked.then(|| self.access.as_ref().unwrap_or(&OPEN))
    }

    fn content(&self, format: &Format) -> Option<&[u8]> {
        self.files.iter().find(|(file, _)| file.format == *format).map(|(_, content)| content.as_slice())
    }
}

fn marked(samples: &[Sample]) -> bool {
    samples.iter().any(|sample| sample.access.is_some())
}

fn record(format: &str, content: &[u8]) -> FileRecord {
    let media_type = match format {
        "txt" => "text/plain; charset=utf-8",
        "xml" => "application/xml",
        META => "application/ld+json",
        _ => "application/octet-stream",
    };
    FileRecord {
        format: format.parse().unwrap(),
        media_type: media_type.to_owned(),
        size: content.len() as u64,
        sha256: Sha256::of(content),
        crc32: crc32fast::hash(content),
        deflate_crc32: None,
        encoding: Encoding::Identity,
        place: Place { object: "packs/1/1-x-00000".to_owned(), offset: 0, stored: content.len() as u64 },
    }
}

/// Contents of one document at a time, in pieces that end in the middle of characters.
struct Given<'a>(HashMap<(u32, String), &'a [u8]>);

struct Pieces<'a>(&'a [u8]);

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(1 + self.0.len() % 50_001);
        self.0.read(&mut buffer[..length])
    }
}

impl Contents for Given<'_> {
    fn open<'a>(&'a mut self, document: &'a Document<'_>, file: &'a FileRecord) -> io::Result<Box<dyn Read + 'a>> {
        let content = self.0.remove(&(document.id.0, file.format.to_string())).expect("opened once");
        Ok(Box::new(Pieces(content)))
    }
}

fn given(samples: &[Sample]) -> Given<'_> {
    let files = samples
        .iter()
        .flat_map(|s| s.files.iter().map(|(file, content)| ((s.id, file.format.to_string()), content.as_slice())));
    Given(files.collect())
}

/// Calls `row` for each sample as a document.
fn each(samples: &[Sample], mut row: impl FnMut(&Document<'_>) -> io::Result<()>) -> io::Result<()> {
    let marked = marked(samples);
    samples.iter().try_for_each(|sample| {
        let files: Vec<_> = sample.files.iter().map(|(file, _)| file.clone()).collect();
        row(&Document {
            id: VersionId(sample.id),
            r#ref: &sample.r#ref,
            name: &sample.r#ref,
            license: sample.license.as_deref(),
            access: sample.access(marked),
            metadata: &sample.metadata,
            files: &files,
        })
    })
}

const FORMATS: [&str; 5] = ["txt", "xml", "pdf", "meta", "title"];

fn columns(samples: &[Sample]) -> Columns {
    let mut columns = Columns::new(&FORMATS.map(|format| format.parse().unwrap()), marked(samples));
    samples.iter().flat_map(|sample| &sample.files).for_each(|(file, _)| columns.see(file));
    columns
}

fn write_jsonl(samples: &[Sample], columns: &Columns, compression: Compression) -> Vec<u8> {
    let mut writer = jsonl::Writer::new(Vec::new(), columns, compression).unwrap();
    let mut contents = given(samples);
    each(samples, |document| writer.row(document, &mut contents)).unwrap();
    writer.finish().unwrap()
}

fn write_parquet(samples: &[Sample], columns: &Columns) -> Vec<u8> {
    let mut writer = parquet::Writer::new(Vec::new(), columns).unwrap();
    let mut contents = given(samples);
    each(samples, |document| writer.row(document, &mut contents)).unwrap();
    writer.finish().unwrap()
}

fn bound(samples: &[Sample], table: Table) -> u64 {
    let mut bound = Bound::new(table, &FORMATS.map(|format| format.parse().unwrap()), marked(samples));
    each(samples, |document| {
        bound.add(document);
        Ok(())
    })
    .unwrap();
    bound.finish(1)
}

/// What a row says, by column, as JSON; bytes as base64. This is the contract, written a second time and more simply.
fn expected(sample: &Sample, columns: &Columns) -> Map<String, Value> {
    let document = Document {
        id: VersionId(sample.id),
        r#ref: &sample.r#ref,
        name: &sample.r#ref,
        license: sample.license.as_deref(),
        access: sample.access(columns.marked()),
        metadata: &sample.metadata,
        files: &[],
    };
    let Value::Object(mut row) = serde_json::to_value(Described::of(&document)).unwrap() else { unreachable!() };
    for column in columns.files() {
        let content = sample.content(&column.format);
        let hash = content.map(|content| Sha256::of(content).to_string());
        row.insert(format!("{}_sha256", column.name), json!(hash));
        if column.textual {
            row.insert(column.name.clone(), json!(content.map(String::from_utf8_lossy)));
            let original = content.filter(|content| std::str::from_utf8(content).is_err());
            row.insert(format!("{}_bytes", column.name), json!(original.map(|bytes| STANDARD.encode(bytes))));
        } else {
            row.insert(column.name.clone(), json!(content.map(|bytes| STANDARD.encode(bytes))));
        }
    }
    row
}

fn decompress(bytes: &[u8], compression: Compression) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        Compression::None => out.extend_from_slice(bytes),
        Compression::Gzip => _ = flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap(),
        // One frame only, as some readers have it.
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(bytes).unwrap().single_frame();
            decoder.read_to_end(&mut out).unwrap();
            assert_eq!(io::BufRead::fill_buf(&mut decoder.finish()).unwrap(), b"");
        }
    }
    out
}

fn read_jsonl(bytes: &[u8]) -> Vec<Map<String, Value>> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.split_terminator('\n').map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A cell of a batch, as [`expected`] has it.
fn cell(batch: &RecordBatch, name: &str, row: usize) -> Value {
    let array = batch.column_by_name(name).unwrap();
    if array.is_null(row) {
        return Value::Null;
    }
    let data_type = array.data_type().to_string();
    match data_type.as_str() {
        "Int64" => json!(array.as_primitive::<Int64Type>().value(row)),
        "Utf8" if name == "metadata" => serde_json::from_str(array.as_string::<i32>().value(row)).unwrap(),
        "Utf8" => json!(array.as_string::<i32>().value(row)),
        "Binary" => json!(STANDARD.encode(array.as_binary::<i32>().value(row))),
        _ => {
            let items = array.as_list::<i32>().value(row);
            json!(items.as_string::<i32>().iter().map(Option::unwrap).collect::<Vec<_>>())
        }
    }
}

fn read_parquet(bytes: Vec<u8>, columns: &Columns) -> Vec<Map<String, Value>> {
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap().with_batch_size(3).build().unwrap();
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.unwrap();
        let names: Vec<_> = columns.all().map(|(name, _)| name).collect();
        let found: Vec<_> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(found, names);
        rows.extend(
            (0..batch.num_rows())
                .map(|row| names.iter().map(|name| (name.clone(), cell(&batch, name, row))).collect::<Map<_, _>>()),
        );
    }
    rows
}

/// Documents whose values are hard to carry.
fn awkward() -> Vec<Sample> {
    let rtl = "\u{5E9}\u{5DC}\u{5D5}\u{5DD} \u{202E}abc\u{202C} \u{1F4A9}\u{1F1E9}\u{1F1EA}";
    let metadata = json!({"title": rtl, "creator": ["Å \"ngström\"", "\\\\\u{0}"], "subject": "one", "language": ["he", "en"], "x": {"y": [1, null]}});
    vec![
        Sample::new(1, "empty", json!({}), &[("txt", b"")]),
        Sample::new(
            2,
            rtl,
            metadata,
            &[("txt", rtl.as_bytes()), ("pdf", &[0, 255, 10]), ("xml", b"<a/>"), ("meta", b"{}")],
        ),
        Sample::new(
            3,
            "latin1",
            json!({"title": "", "creator": []}),
            &[("txt", b"caf\xE9 \xF0\x9F\x92 \x00 end\xF0\x9F"), ("title", b"t\xFF")],
        ),
        Sample::new(4, "only meta", json!({"issued": "1999"}), &[("meta", b"{}")]),
        Sample::new(5, "separators", json!({}), &[("txt", "a\u{2028}b\u{85}c\r\nd\u{FEFF}\u{7F}\u{1}".as_bytes())]),
        Sample::new(
            9,
            "large",
            json!({}),
            &[
                ("txt", &[b"x\xFFy\xC3\xBC".repeat(LARGE as usize / 3), b"\xE2\x82".to_vec()].concat()),
                ("xml", "ü\n".repeat(LARGE as usize / 2).as_bytes()),
                ("pdf", b""),
            ],
        ),
        Sample::new(10, "large bytes", json!({}), &[("pdf", &noise(LARGE as usize + 70_000))]),
        Sample::new(11, "behind", json!({}), &[("txt", b"behind")]),
    ]
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| byte()).collect()
}

const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

fn assert_tables_hold(samples: &[Sample]) {
    let columns = columns(samples);
    let rows: Vec<_> = samples.iter().map(|sample| expected(sample, &columns)).collect();
    for compression in COMPRESSIONS {
        let bytes = write_jsonl(samples, &columns, compression);
        assert_eq!(bytes, write_jsonl(samples, &columns, compression), "equal members, equal bytes");
        assert!(bytes.len() as u64 <= bound(samples, Table::Jsonl(compression)));
        assert!(read_jsonl(&decompress(&bytes, compression)) == rows, "{compression:?}");
    }
    let bytes = write_parquet(samples, &columns);
    assert_eq!(bytes, write_parquet(samples, &columns), "equal members, equal bytes");
    assert!(bytes.len() as u64 <= bound(samples, Table::Parquet));
    assert!(read_parquet(bytes, &columns) == rows);
}

#[test]
fn tables_hold_awkward_values_and_large_ones() {
    assert_tables_hold(&awkward());
    assert_tables_hold(&[]);
    let mut restricted = awkward();
    restricted[2].access = Some("restricted:press".parse().unwrap());
    assert_tables_hold(&restricted);
}

#[test]
fn every_line_has_the_same_members_in_the_same_order() {
    let samples = awkward();
    let columns = columns(&samples);
    let names: Vec<_> = columns.all().map(|(name, _)| name).collect();
    assert_eq!(names[..DESCRIBED.len()], DESCRIBED.map(|(name, _)| name));
    let lines = String::from_utf8(write_jsonl(&samples[..5], &columns, Compression::None)).unwrap();
    insta::assert_snapshot!(lines);
}

#[test]
fn a_value_that_parquet_cannot_hold_names_the_document_and_the_remedy() {
    let samples = [Sample::new(1, "huge", json!({}), &[("txt", b"")])];
    let columns = columns(&samples);
    let mut file = samples[0].files[0].0.clone();
    file.size = parquet::MAX_VALUE + 1;
    let mut writer = parquet::Writer::new(Vec::new(), &columns).unwrap();
    let error =
        each(&samples, |document| writer.row(&Document { files: &[file.clone()], ..*document }, &mut given(&samples)));
    let error = error.unwrap_err().downcast::<BuildError>().unwrap();
    assert!(matches!(&error, BuildError::Document { r#ref, path, .. } if r#ref == "huge" && path == "huge.txt"));
    assert!(error.to_string().contains("ask for the layout jsonl"), "{error}");
}

fn sample() -> impl Strategy<Value = Sample> {
    let text = prop_oneof![
        any::<String>().prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..40),
        prop::collection::vec(0..32_u8, 0..4000),
        (0..3000_usize).prop_map(noise),
    ];
    let value = prop_oneof![
        Just(Value::Null),
        any::<String>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::collection::vec(any::<String>(), 0..4).prop_map(Value::from),
        any::<bool>().prop_map(|b| json!([{"nested": [b, null]}])),
    ];
    let terms = prop::sample::select(vec!["title", "creator", "subject", "issued", "abstract", "language", "other"]);
    let formats = prop::sample::subsequence(vec!["meta", "pdf", "title", "txt", "xml"], 1..5);
    let metadata = prop::collection::btree_map(terms, value, 0..7);
    (any::<String>(), metadata, formats, prop::collection::vec(text, 5)).prop_map(
        |(r#ref, metadata, formats, texts)| {
            let files: Vec<_> =
                formats.into_iter().zip(&texts).map(|(format, text)| (format, text.as_slice())).collect();
            Sample::new(0, &r#ref, json!(metadata), &files)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn tables_hold_anything(mut samples in prop::collection::vec(sample(), 0..8)) {
        samples.iter_mut().zip(1..).for_each(|(sample, id)| sample.id = id);
        assert_tables_hold(&samples);
    }

    #[test]
    fn an_archive_holds_anything(
        entries in prop::collection::btree_map("[a-z](/?[a-zé\u{5D0}\u{1F4A9} .-]{1,60}[a-z]){1,4}", prop::collection::vec(any::<u8>(), 0..3000), 0..8),
    ) {
        let mut writer = tar::Writer::new(Vec::new()).unwrap();
        let mut length = tar::END;
        for (path, content) in &entries {
            writer.entry(path, content.len() as u64, &mut content.as_slice()).unwrap();
            length += tar::entry_len(path, content.len() as u64);
        }
        let bytes = writer.finish().unwrap();
        prop_assert!(bytes.len() as u64 <= compressed(length));
        let raw = decompress(&bytes, Compression::Zstd);
        prop_assert_eq!(raw.len() as u64, length);
        let mut archive = ::tar::Archive::new(Cursor::new(raw));
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header();
            prop_assert_eq!((header.mode().unwrap(), header.mtime().unwrap(), header.uid().unwrap()), (0o644, 315_532_800, 0));
            let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            found.push((path, content));
        }
        prop_assert_eq!(found, entries.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn incompressible_and_repetitive_bytes_stay_within_the_bound() {
    for content in [noise(3 << 20), vec![0; 3 << 20], noise(1000), Vec::new()] {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let mut out = super::compress::Compressed::new(Vec::new(), compression).unwrap();
            io::Write::write_all(&mut out, &content).unwrap();
            assert!(out.finish().unwrap().len() as u64 <= compressed(content.len() as u64));
        }
    }
}

/// A version of zstd, zlib-rs or `parquet` that writes other bytes is a new version of the layouts (`Layout::version`), or packages that were
/// half built before an upgrade would be put together of both.
#[test]
fn the_bytes_stay() {
    let samples = awkward();
    let columns = columns(&samples);
    let hash = |bytes: Vec<u8>| Sha256::of(&bytes).to_string()[..16].to_owned();
    let [plain, gzip, zstd] = COMPRESSIONS.map(|compression| hash(write_jsonl(&samples, &columns, compression)));
    let mut archive = tar::Writer::new(Vec::new()).unwrap();
    for (file, content) in samples.iter().flat_map(|sample| &sample.files) {
        archive.entry(file.format.as_str(), file.size, &mut content.as_slice()).unwrap();
    }
    let archive = hash(archive.finish().unwrap());
    let parquet = hash(write_parquet(&samples, &columns));
    insta::assert_snapshot!(format!("{plain}\n{gzip}\n{zstd}\n{parquet}\n{archive}"));
}
