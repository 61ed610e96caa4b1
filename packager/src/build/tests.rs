//! What a build promises, on a real store in a folder: the planned bytes, whatever happened before, and nothing left over.

use std::future::poll_fn;
use std::task::Poll;

use adit_shared::domain::{Encoding, Layout, PackageManifest};
use adit_shared::ids::PackageId;
use adit_shared::objects::{Call, ObjectKey, Recorder};
use proptest::prelude::*;

use super::*;
use crate::sha::Midstate;
use crate::testing::{Corpus, Fused, corpus, folder};

mod streamed;

const PACKAGE: SaltedPackage = SaltedPackage { id: PackageId(7), salt: None };

/// A corpus of some forty parts of 256 bytes, with a file that is many parts long in each encoding.
fn sample() -> Corpus {
    let mut corpus = Corpus::default();
    let mut noise = 1_u32;
    let mut text = |len: usize| -> Vec<u8> {
        let letter = |_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + (noise >> 28) as u8
        };
        (0..len).map(letter).collect()
    };
    for i in 0..6 {
        let (meta, long, short) = (text(80), text(2_000), text(300));
        let body: &[u8] = if i % 3 == 0 { &long } else { &short };
        let encoding = if i < 3 { Encoding::Gzip } else { Encoding::Identity };
        corpus.add(&format!("doc {i}"), &[("meta", &meta, Encoding::Gzip), ("txt", body, encoding)]);
    }
    corpus.add("none", &[]);
    corpus
}

async fn build(
    objects: &Arc<dyn ObjectStore>,
    package: SaltedPackage,
    corpus: &Corpus,
    part_size: u64,
) -> Result<Built, BuildError> {
    let state = State::load(&**objects, package).await?;
    let project = Arc::new(corpus.project(Layout::Bag, part_size));
    let build = Build::new(objects.clone(), package, project, state, watch::Sender::default(), Spare::default());
    build.run(CancellationToken::new()).await.map(|built| built.expect("nobody halts it"))
}

/// The archive is the planned one, and nothing else of the package is left but its state.
async fn assert_whole(objects: &dyn ObjectStore, package: SaltedPackage, built: &Built, archive: &[u8]) {
    let key = &built.done.key;
    assert!(objects.get(key, None).await.unwrap() == archive);
    assert_eq!(built.done.sha256, Sha256::of(archive));
    let keys: Vec<String> =
        objects.list(&format!("packages/{package}/")).await.unwrap().into_iter().map(|(key, _)| key).collect();
    let manifest = format!("{}/{MANIFEST_NAME}", key.trim_end_matches(".zip"));
    let mut expected = [ObjectKey::Build { package }.to_string(), key.clone(), manifest.clone()];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    let state = State::load(objects, package).await.unwrap();
    assert_eq!(objects.find_upload(key, state.archive.as_ref().unwrap().part_size).await.unwrap(), None);
    assert_eq!(state.finished(objects, package).await.unwrap().as_ref(), Some(&built.done));
    let manifest = PackageManifest::parse(&objects.get(&manifest, None).await.unwrap()).unwrap();
    assert_eq!((manifest.assets.len(), manifest.assets[0].sha256), (1, built.done.sha256));
}

/// What a build of the bag puts together.
fn target(corpus: &Corpus, part_size: u64) -> Archive {
    let project = corpus.project(Layout::Bag, part_size);
    Archive::of(PACKAGE, &project, &project.assets[0])
}

fn archive(corpus: &Corpus) -> Vec<u8> {
    corpus.archive(&corpus.plan(Layout::Bag, 256))
}

#[tokio::test]
async fn a_build_makes_the_planned_archive() {
    let (_folder, objects) = folder().await;
    let corpus = sample();
    corpus.store(&*objects).await;
    let built = build(&objects, PACKAGE, &corpus, 256).await.unwrap();
    assert_whole(&*objects, PACKAGE, &built, &archive(&corpus)).await;
    assert_eq!((built.done.documents, built.done.omitted, built.parts_reused), (6, 1, 0));
    corpus.assert_holds(&archive(&corpus), Layout::Bag);
}

#[tokio::test]
async fn a_build_that_breaks_off_at_any_moment_is_finished_by_the_next() {
    let (_folder, objects) = folder().await;
    let corpus = sample();
    corpus.store(&*objects).await;
    let expected = archive(&corpus);
    let parts = expected.len().div_ceil(1024) as u64;
    for moments in 0.. {
        let package = SaltedPackage::from(PackageId(moments + 1));
        let fused: Arc<dyn ObjectStore> = Arc::new(Fused::new(objects.clone(), moments));
        let broken = build(&fused, package, &corpus, 1024).await;
        let recorder = Recorder::new(objects.clone());
        let recorded: Arc<dyn ObjectStore> = Arc::new(recorder.clone());
        let built = build(&recorded, package, &corpus, 1024).await.unwrap();
        assert_whole(&*objects, package, &built, &expected).await;
        assert_eq!(recorder.counts().of(Call::PutPart).calls, parts - u64::from(built.parts_reused));
        remove(&*objects, package).await.unwrap();
        if broken.is_ok() {
            assert!(moments > 3 * parts as i64, "every part takes more than one call");
            return;
        }
        assert_eq!(broken.unwrap_err().fate(), crate::Fate::Wait);
    }
}

/// The same on a server, with parts as large as S3 wants them, where `ADIT_TEST_S3_URL` names a bucket.
#[tokio::test]
async fn a_build_on_s3_that_breaks_off_is_finished_by_the_next() {
    let Ok(url) = std::env::var("ADIT_TEST_S3_URL") else {
        println!("skipped: ADIT_TEST_S3_URL names no bucket (s3://bucket/prefix?endpoint=http://host:port)");
        return;
    };
    const S3_PART: u64 = 5 << 20;
    let objects = adit_shared::objects::open(&url).await.unwrap();
    let mut corpus = Corpus::default();
    let noise: Vec<u8> = (0..7_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for i in 0..4 {
        let encoding = if i % 2 == 0 { Encoding::Gzip } else { Encoding::Identity };
        corpus.add(&format!("doc {i}"), &[("txt", &noise[i * 1000..], encoding)]);
    }
    corpus.store(&*objects).await;
    let expected = corpus.archive(&corpus.plan(Layout::Bag, S3_PART));
    for moments in [4, 9, 15, 20, 26, 33, 1000] {
        let fused: Arc<dyn ObjectStore> = Arc::new(Fused::new(objects.clone(), moments));
        let broken = build(&fused, PACKAGE, &corpus, S3_PART).await;
        assert!(broken.is_ok() == (moments == 1000), "{moments} moments: {broken:?}");
        let built = build(&objects, PACKAGE, &corpus, S3_PART).await.unwrap();
        assert_whole(&*objects, PACKAGE, &built, &expected).await;
        remove(&*objects, PACKAGE).await.unwrap();
    }
}

#[tokio::test]
async fn a_dropped_build_goes_on_too() {
    let (_folder, objects) = folder().await;
    let corpus = sample();
    corpus.store(&*objects).await;
    for polls in 1..40 {
        let mut running = Box::pin(build(&objects, PACKAGE, &corpus, 256));
        let mut left = polls;
        poll_fn(|context| {
            left -= 1;
            let done = running.as_mut().poll(context).is_ready();
            if done || left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        drop(running);
    }
    let built = build(&objects, PACKAGE, &corpus, 256).await.unwrap();
    assert_whole(&*objects, PACKAGE, &built, &archive(&corpus)).await;
}

#[tokio::test]
async fn a_halted_build_comes_to_rest_and_goes_on_later() {
    let (_folder, objects) = folder().await;
    let corpus = sample();
    corpus.store(&*objects).await;
    let project = Arc::new(corpus.project(Layout::Bag, 256));
    let (progress, mut seen) = watch::channel(Progress::default());
    let halt = CancellationToken::new();
    let build = Build::new(objects.clone(), PACKAGE, project, State::default(), progress, Spare::default());
    let halting = async {
        seen.wait_for(|progress| progress.parts >= 5).await.unwrap();
        halt.cancel();
    };
    let (built, ()) = tokio::join!(build.run(halt.clone()), halting);
    assert_eq!(built.unwrap(), None);
    let built = self::build(&objects, PACKAGE, &corpus, 256).await.unwrap();
    assert!(built.parts_reused >= 5 && built.parts_reused < built.done.parts);
    assert_whole(&*objects, PACKAGE, &built, &archive(&corpus)).await;
}

#[tokio::test]
async fn what_is_finished_while_a_failed_build_is_removed_stays() {
    let (_folder, objects) = folder().await;
    let corpus = sample();
    corpus.store(&*objects).await;
    let fused: Arc<dyn ObjectStore> = Arc::new(Fused::new(objects.clone(), 40));
    build(&fused, PACKAGE, &corpus, 256).await.unwrap_err();
    let (others, sample) = (objects.clone(), corpus.clone());
    let finishing = async move { _ = build(&others, PACKAGE, &sample, 256).await.unwrap() };
    let attempt = State::load(&*objects, PACKAGE).await.unwrap().attempt();
    remove_unfinished(&Fused::meanwhile(objects.clone(), finishing), PACKAGE, attempt).await.unwrap();
    let state = State::load(&*objects, PACKAGE).await.unwrap();
    assert!(state.finished(&*objects, PACKAGE).await.unwrap().is_some(), "{state:?}");
}

#[tokio::test]
async fn what_another_attempt_goes_on_with_is_not_removed() {
    let (_folder, objects) = folder().await;
    let corpus = sample();
    corpus.store(&*objects).await;
    let fused: Arc<dyn ObjectStore> = Arc::new(Fused::new(objects.clone(), 40));
    build(&fused, PACKAGE, &corpus, 256).await.unwrap_err();
    let mut state = State::load(&*objects, PACKAGE).await.unwrap();
    let failed = state.attempt();
    state.begin(1_000_000, true);
    state.save(&*objects, PACKAGE).await.unwrap();
    let key = target(&corpus, 256).key;
    let upload = objects.find_upload(&key, 256).await.unwrap();
    remove_unfinished(&*objects, PACKAGE, failed).await.unwrap();
    assert_eq!(State::load(&*objects, PACKAGE).await.unwrap(), state);
    assert_eq!(objects.find_upload(&key, 256).await.unwrap(), upload);
    remove_unfinished(&*objects, PACKAGE, state.attempt()).await.unwrap();
    assert_eq!(objects.list("packages/").await.unwrap(), []);
    assert_eq!(objects.find_upload(&key, 256).await.unwrap(), None);
}

#[tokio::test]
async fn two_packagers_at_once_make_one_archive() {
    let (_folder, objects) = folder().await;
    let corpus = sample();
    corpus.store(&*objects).await;
    let all = (0..3).map(|_| build(&objects, PACKAGE, &corpus, 256));
    let results = futures::future::join_all(all).await;
    // One that found its upload gone, or the archive finished, tries again and finds the archive.
    for result in results.into_iter().filter_map(Result::err) {
        assert_eq!(result.fate(), crate::Fate::Retry, "{result}");
    }
    let built = build(&objects, PACKAGE, &corpus, 256).await.unwrap();
    assert_whole(&*objects, PACKAGE, &built, &archive(&corpus)).await;
}

#[tokio::test]
async fn an_archive_that_is_there_is_not_put_again() {
    let (_folder, objects) = folder().await;
    let corpus = sample();
    corpus.store(&*objects).await;
    let first = build(&objects, PACKAGE, &corpus, 256).await.unwrap();
    // Even where nothing is remembered of how it came there.
    objects.delete(&[ObjectKey::Build { package: PACKAGE }.to_string()]).await.unwrap();
    let recorder = Recorder::new(objects.clone());
    let recorded: Arc<dyn ObjectStore> = Arc::new(recorder.clone());
    let second = build(&recorded, PACKAGE, &corpus, 256).await.unwrap();
    assert_eq!((&second.done, second.parts_reused), (&first.done, first.done.parts));
    assert_eq!(recorder.counts().of(Call::PutPart).calls + recorder.counts().of(Call::CreateUpload).calls, 0);
    // And one that was deleted is built again, the same.
    objects.delete(&[first.done.key]).await.unwrap();
    let state = State::load(&*objects, PACKAGE).await.unwrap();
    assert_eq!(state.finished(&*objects, PACKAGE).await.unwrap(), None);
    let third = build(&objects, PACKAGE, &corpus, 256).await.unwrap();
    assert_whole(&*objects, PACKAGE, &third, &archive(&corpus)).await;
}

#[tokio::test]
async fn what_was_remembered_of_another_archive_is_forgotten() {
    let (_folder, objects) = folder().await;
    let (corpus, mut other) = (sample(), sample());
    other.add("more", &[("txt", b"more", Encoding::Identity)]);
    other.store(&*objects).await;
    let fused: Arc<dyn ObjectStore> = Arc::new(Fused::new(objects.clone(), 60));
    build(&fused, PACKAGE, &other, 256).await.unwrap_err();
    let built = build(&objects, PACKAGE, &corpus, 256).await.unwrap();
    assert_whole(&*objects, PACKAGE, &built, &archive(&corpus)).await;
    let key = target(&other, 256).key;
    assert_eq!(objects.find_upload(&key, 256).await.unwrap(), None);
}

#[tokio::test]
async fn removing_a_package_leaves_nothing() {
    let (_folder, objects) = folder().await;
    let corpus = sample();
    corpus.store(&*objects).await;
    let key = target(&corpus, 256).key;
    for moments in [0, 3, 60, i64::MAX] {
        let fused: Arc<dyn ObjectStore> = Arc::new(Fused::new(objects.clone(), moments));
        _ = build(&fused, PACKAGE, &corpus, 256).await;
        remove(&*objects, PACKAGE).await.unwrap();
        assert_eq!(objects.list(&format!("packages/{PACKAGE}/")).await.unwrap(), []);
        assert_eq!(objects.find_upload(&key, 256).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_pack_that_is_gone_or_cut_names_the_document() {
    let (_folder, objects) = folder().await;
    let corpus = sample();
    corpus.store(&*objects).await;
    let pack = "packs/1/test-txt-00000";
    for (member, cut) in corpus.members.iter().zip(0..6) {
        let place = &member.files[1].place;
        let end = (place.offset + place.stored - 9) as usize;
        objects.put(pack, corpus.packs[pack][..end].to_vec().into()).await.unwrap();
        assert_document(build(&objects, PACKAGE, &corpus, PART).await, &format!("doc {cut}"));
    }
    objects.delete(&[pack.to_owned()]).await.unwrap();
    assert_document(build(&objects, PACKAGE, &corpus, PART).await, "doc 0");
}

const PART: u64 = 1 << 20;

fn assert_document(result: Result<Built, BuildError>, expected: &str) {
    match result {
        Err(error @ BuildError::Document { .. }) => {
            assert_eq!(error.fate(), crate::Fate::Reject);
            assert!(error.to_string().contains(&format!("{expected:?}")), "{error} does not name {expected}");
        }
        other => panic!("{expected} should have been named: {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn only_missing_parts_are_put_whatever_is_there(
        corpus in corpus(6), held in prop::collection::vec(any::<bool>(), 60), hashed in 0..60_u32,
    ) {
        let plan = corpus.plan(Layout::Bag, 512);
        let expected = corpus.archive(&plan);
        let held: Vec<u32> = (1..=plan.parts()).filter(|n| *held.get(*n as usize).unwrap_or(&true)).collect();
        let hashed = hashed.min(plan.parts() - 1) as usize * 512;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let (_folder, objects) = folder().await;
            corpus.store(&*objects).await;
            let archive = target(&corpus, 512);
            let upload = objects.create_upload(&archive.key, 512).await.unwrap();
            for number in &held {
                objects.put_part(&upload, *number, corpus.part(&plan, *number).into()).await.unwrap();
            }
            let mut midstate = Midstate::default();
            midstate.absorb(&expected[..hashed]);
            let state = State { archive: Some(archive), hashed: Some(midstate), ..State::default() };
            state.save(&*objects, PACKAGE).await.unwrap();

            let recorder = Recorder::new(objects.clone());
            let recorded: Arc<dyn ObjectStore> = Arc::new(recorder.clone());
            let built = build(&recorded, PACKAGE, &corpus, 512).await.unwrap();
            assert_whole(&*objects, PACKAGE, &built, &expected).await;
            assert_eq!(built.parts_reused as usize, held.len());
            assert_eq!(recorder.counts().of(Call::PutPart).calls, (plan.parts() as usize - held.len()) as u64);
        });
    }

    #[test]
    fn a_damaged_byte_names_its_document(which in 0..6_usize, at: usize, bit in 0..8, part_size in 1..40_u64) {
        let mut corpus = sample();
        let member = corpus.members[which].clone();
        let file = &member.files[1];
        // The bytes that go into the archive; in the last of them a deflate stream has bits that say nothing.
        let (before, behind) = if file.encoding == Encoding::Gzip { (10, 9) } else { (0, 0) };
        let at = file.place.offset + before + at as u64 % (file.place.stored - before - behind);
        corpus.packs.get_mut(&file.place.object).unwrap()[at as usize] ^= 1_u8 << bit;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let (_folder, objects) = folder().await;
            corpus.store(&*objects).await;
            assert_document(build(&objects, PACKAGE, &corpus, part_size * 64).await, &member.r#ref);
        });
    }
}
