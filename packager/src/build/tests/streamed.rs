//! What holds of layouts that are compressed on the way.

use std::collections::BTreeMap;
use std::io::Read as _;

use adit_shared::domain::{Asset, Compression, Recipe};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::*;
use crate::plan::SizeEstimator;

fn recipe(corpus: &Corpus, layout: Layout, shard_bytes: Option<u64>) -> Recipe {
    let mut recipe = Recipe::new(corpus.formats(), layout);
    recipe.options.shard_bytes = shard_bytes;
    recipe
}

async fn build(
    objects: &Arc<dyn ObjectStore>,
    corpus: &Corpus,
    recipe: &Recipe,
    part_size: u64,
) -> Result<Built, BuildError> {
    let state = State::load(&**objects, PACKAGE).await?;
    let project = Arc::new(corpus.project_by(recipe, part_size));
    let build = Build::new(objects.clone(), PACKAGE, project, state, watch::Sender::default(), Spare::default());
    build.run(CancellationToken::new()).await.map(|built| built.expect("nobody halts it"))
}

/// The assets of the package with their bytes, whose lengths and hashes are those in its manifest; nothing else is there.
async fn assets(objects: &dyn ObjectStore) -> Vec<(Asset, Vec<u8>)> {
    let mut objects_there: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (key, _) in objects.list(&format!("packages/{PACKAGE}/")).await.unwrap() {
        objects_there.insert(key.clone(), objects.get(&key, None).await.unwrap().to_vec());
    }
    objects_there.remove(&ObjectKey::Build { package: PACKAGE }.to_string());
    let (_, manifest) = objects_there.iter().find(|(key, _)| key.ends_with(MANIFEST_NAME)).unwrap();
    let manifest = PackageManifest::parse(manifest).unwrap();
    assert_eq!(objects_there.len(), manifest.assets.len() + 1);
    let bytes = |asset: &Asset| {
        let found = objects_there.values().find(|bytes| Sha256::of(bytes) == asset.sha256).unwrap().clone();
        assert_eq!(found.len() as u64, asset.size);
        found
    };
    manifest.assets.iter().map(|asset| (asset.clone(), bytes(asset))).collect()
}

fn unzstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::decode_all(bytes).unwrap()
}

fn tar_entries(archives: &[(Asset, Vec<u8>)]) -> BTreeMap<String, Vec<u8>> {
    let mut entries = BTreeMap::new();
    for (_, archive) in archives {
        let raw = unzstd(archive);
        for entry in tar::Archive::new(raw.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            assert!(entries.insert(path, content).is_none(), "an entry stands twice");
        }
    }
    entries
}

/// Paths and contents of the documents' files below a bag's payload.
fn payload(corpus: &Corpus) -> BTreeMap<String, Vec<u8>> {
    let files = corpus.members.iter().flat_map(|member| member.files.iter().map(move |file| (member, file)));
    let content = |member: &crate::manifest::Member, format: &adit_shared::domain::Format| {
        corpus.contents[&(member.r#ref.clone(), format.clone())].clone()
    };
    let path = |member: &crate::manifest::Member, format: &adit_shared::domain::Format| {
        format!("data/{}.{}", member.name, format.extension())
    };
    files.map(|(member, file)| (path(member, &file.format), content(member, &file.format))).collect()
}

/// Rows of lines, by ref.
fn rows(shards: &[(Asset, Vec<u8>)]) -> Vec<Value> {
    let lines = shards.iter().flat_map(|(_, shard)| {
        let text = String::from_utf8(unzstd(shard)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()
    });
    lines.collect()
}

fn assert_rows_hold(corpus: &Corpus, rows: &[Value]) {
    let included: Vec<_> = corpus.members.iter().filter(|member| !member.files.is_empty()).collect();
    assert_eq!(rows.len(), included.len());
    for (row, member) in rows.iter().zip(included) {
        assert_eq!(row["ref"], member.r#ref);
        assert_eq!(row["id"], member.id.0);
        for file in member.files.iter().filter(|file| file.format.as_str() != "meta") {
            let name = if file.format.as_str() == "txt" { "text" } else { file.format.as_str() };
            let content = &corpus.contents[&(member.r#ref.clone(), file.format.clone())];
            assert_eq!(row[name], STANDARD.encode(content));
            assert_eq!(row[format!("{name}_sha256")], file.sha256.to_string());
        }
    }
}

/// What the estimate says is never less than what comes.
fn assert_estimated(corpus: &Corpus, recipe: &Recipe, assets: &[(Asset, Vec<u8>)]) {
    let mut estimator = SizeEstimator::new(recipe, corpus.header().about.as_ref(), false).unwrap();
    corpus.members.iter().for_each(|member| estimator.add(member).unwrap());
    let size: u64 = assets.iter().map(|(asset, _)| asset.size).sum();
    let estimate = estimator.finish();
    assert!(size <= estimate.bytes && !estimate.exact, "{size} and not {estimate:?}");
}

#[tokio::test]
async fn a_tar_archive_is_the_whole_bag_in_shards_too() {
    let (_folder, objects) = folder().await;
    let corpus = sample();
    corpus.store(&*objects).await;
    let mut whole = BTreeMap::new();
    for shard_bytes in [None, Some(3_000), Some(1)] {
        let recipe = recipe(&corpus, Layout::TarZst, shard_bytes);
        build(&objects, &corpus, &recipe, 1024).await.unwrap();
        let archives = assets(&*objects).await;
        assert_estimated(&corpus, &recipe, &archives);
        let entries = tar_entries(&archives);
        let folder = entries.keys().next().unwrap().split_once('/').unwrap().0.to_owned() + "/";
        let entries: BTreeMap<String, Vec<u8>> = entries
            .into_iter()
            .map(|(path, content)| (path.strip_prefix(&folder).unwrap().to_owned(), content))
            .collect();
        for (path, content) in payload(&corpus) {
            assert!(entries[&path] == content, "{path}");
            let line = format!("{}  {path}\n", Sha256::of(&content));
            assert!(String::from_utf8_lossy(&entries["manifest-sha256.txt"]).contains(&line));
        }
        match shard_bytes {
            None => whole = entries,
            Some(_) => assert!(entries == whole && archives.len() > 1),
        }
        remove(&*objects, PACKAGE).await.unwrap();
    }
}

#[tokio::test]
async fn tables_hold_every_document_in_order_and_a_bag_is_about_them() {
    let (_folder, objects) = folder().await;
    let corpus = sample();
    corpus.store(&*objects).await;
    for shard_bytes in [None, Some(3_000), Some(1)] {
        let recipe = recipe(&corpus, Layout::Jsonl, shard_bytes);
        let built = build(&objects, &corpus, &recipe, 1024).await.unwrap();
        let assets = assets(&*objects).await;
        assert_estimated(&corpus, &recipe, &assets);
        let (index, shards) = assets.split_last().unwrap();
        assert_eq!(shards.len(), shard_bytes.map_or(1, |bytes| if bytes == 1 { 6 } else { 2 }));
        assert_rows_hold(&corpus, &rows(shards));
        assert_eq!((built.done.size, built.done.documents), (index.0.size, 6));
        let mut zip = zip::ZipArchive::new(std::io::Cursor::new(&index.1)).unwrap();
        let folder = zip.file_names().next().unwrap().unwrap().split_once('/').unwrap().0.to_owned();
        let mut read = |name: &str| {
            let mut text = String::new();
            zip.by_name(&format!("{folder}/{name}")).unwrap().read_to_string(&mut text).unwrap();
            text
        };
        let (manifest, fetch) = (read("manifest-sha256.txt"), read("fetch.txt"));
        assert_eq!((manifest.lines().count(), fetch.lines().count()), (shards.len(), shards.len()));
        for (shard, _) in shards {
            assert!(manifest.contains(&format!("{}  data/{}\n", shard.sha256, shard.name)));
            assert!(fetch.contains(&format!("/assets/{} {} data/{}\n", shard.name, shard.size, shard.name)), "{fetch}");
        }
        remove(&*objects, PACKAGE).await.unwrap();
    }
}

#[tokio::test]
async fn a_docset_without_files_gives_an_empty_table() {
    let (_folder, objects) = folder().await;
    let mut corpus = Corpus::default();
    corpus.add("none", &[]);
    for (layout, compression) in [
        (Layout::Jsonl, Some(Compression::None)),
        (Layout::Jsonl, None),
        (Layout::Parquet, None),
        (Layout::TarZst, None),
    ] {
        let mut recipe = recipe(&corpus, layout, None);
        recipe.options.compression = compression;
        let built = build(&objects, &corpus, &recipe, 1024).await.unwrap();
        assert_eq!((built.done.documents, built.done.omitted), (0, 1));
        assert_estimated(&corpus, &recipe, &assets(&*objects).await);
        remove(&*objects, PACKAGE).await.unwrap();
    }
}

#[tokio::test]
async fn a_build_that_breaks_off_at_any_moment_is_finished_by_the_next() {
    let (_folder, objects) = folder().await;
    let corpus = sample();
    corpus.store(&*objects).await;
    for (start, layout) in (0..).zip([Layout::TarZst, Layout::Jsonl, Layout::Parquet]) {
        let recipe = recipe(&corpus, layout, Some(3_000));
        build(&objects, &corpus, &recipe, 2048).await.unwrap();
        let expected = assets(&*objects).await;
        remove(&*objects, PACKAGE).await.unwrap();
        // Every third, each layout's its own: a call has two, before and after its effect.
        for moments in (start..).step_by(3) {
            let fused: Arc<dyn ObjectStore> = Arc::new(Fused::new(objects.clone(), moments));
            let broken = build(&fused, &corpus, &recipe, 2048).await;
            let recorder = Recorder::new(objects.clone());
            let recorded: Arc<dyn ObjectStore> = Arc::new(recorder.clone());
            let built = build(&recorded, &corpus, &recipe, 2048).await.unwrap();
            assert!(assets(&*objects).await == expected);
            assert!(recorder.counts().of(Call::PutPart).calls <= u64::from(built.parts_sent));
            remove(&*objects, PACKAGE).await.unwrap();
            match broken {
                Ok(_) => break,
                Err(error) => assert_eq!(error.fate(), crate::Fate::Wait, "{error}"),
            }
        }
    }
}

#[tokio::test]
async fn shards_that_are_there_are_not_built_again() {
    let (_folder, objects) = folder().await;
    let corpus = sample();
    corpus.store(&*objects).await;
    let recipe = recipe(&corpus, Layout::Parquet, Some(3_000));
    build(&objects, &corpus, &recipe, 1024).await.unwrap();
    let expected = assets(&*objects).await;
    let gone = objects.list(&format!("packages/{PACKAGE}/")).await.unwrap();
    let gone: Vec<_> = gone.into_iter().map(|(key, _)| key).filter(|key| key.contains("00001-of-00002")).collect();
    assert_eq!(gone.len(), 1);
    objects.delete(&gone).await.unwrap();
    let recorder = Recorder::new(objects.clone());
    let recorded: Arc<dyn ObjectStore> = Arc::new(recorder.clone());
    build(&recorded, &corpus, &recipe, 1024).await.unwrap();
    assert!(assets(&*objects).await == expected);
    assert_eq!(recorder.counts().of(Call::CompleteUpload).calls, 1);
}

#[tokio::test]
async fn a_damaged_document_is_named_in_every_layout() {
    let (_folder, objects) = folder().await;
    let mut corpus = sample();
    for encoding in [Encoding::Gzip, Encoding::Identity] {
        let member = corpus
            .members
            .iter()
            .find(|m| m.files.iter().any(|f| f.encoding == encoding && f.format.as_str() == "txt"));
        let member = member.unwrap().clone();
        let file = member.files.iter().find(|file| file.format.as_str() == "txt").unwrap();
        let at = (file.place.offset + file.place.stored / 2) as usize;
        corpus.packs.get_mut(&file.place.object).unwrap()[at] ^= 4;
        corpus.store(&*objects).await;
        for layout in [Layout::TarZst, Layout::Jsonl, Layout::Parquet] {
            let error = build(&objects, &corpus, &recipe(&corpus, layout, None), 256).await.unwrap_err();
            let BuildError::Document { r#ref, path, .. } = &error else { panic!("{error}") };
            assert_eq!((r#ref, path), (&member.r#ref, &format!("{}.txt", member.name)));
        }
        corpus.packs.get_mut(&file.place.object).unwrap()[at] ^= 4;
    }
}

#[tokio::test]
async fn a_document_that_is_not_in_its_pack_any_more_is_named() {
    let (_folder, objects) = folder().await;
    let mut corpus = sample();
    let last = corpus.members.iter().rfind(|member| !member.files.is_empty()).unwrap().clone();
    for pack in corpus.packs.values_mut() {
        pack.truncate(pack.len() - 1);
    }
    corpus.store(&*objects).await;
    for layout in [Layout::TarZst, Layout::Jsonl, Layout::Parquet] {
        let error = build(&objects, &corpus, &recipe(&corpus, layout, None), 256).await.unwrap_err();
        let BuildError::Document { r#ref, .. } = &error else { panic!("{error}") };
        assert_eq!(r#ref, &last.r#ref);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn any_corpus_comes_out_as_it_went_in(corpus in corpus(6), shard_bytes in prop::option::of(2_000..8_000_u64), part_size in 16..90_u64) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let (_folder, objects) = folder().await;
            corpus.store(&*objects).await;
            for layout in [Layout::TarZst, Layout::Jsonl, Layout::Parquet] {
                let recipe = recipe(&corpus, layout, shard_bytes);
                build(&objects, &corpus, &recipe, part_size * 64).await.unwrap();
                let assets = assets(&*objects).await;
                assert_estimated(&corpus, &recipe, &assets);
                match layout {
                    Layout::TarZst => {
                        let entries = tar_entries(&assets);
                        let folder = entries.keys().next().unwrap().split_once('/').unwrap().0.to_owned();
                        for (path, content) in payload(&corpus) {
                            assert!(entries[&format!("{folder}/{path}")] == content);
                        }
                    }
                    Layout::Jsonl => assert_rows_hold(&corpus, &rows(&assets[..assets.len() - 1])),
                    _ => {}
                }
                remove(&*objects, PACKAGE).await.unwrap();
            }
        });
    }
}
