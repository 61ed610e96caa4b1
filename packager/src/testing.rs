//! For tests: a small corpus with its packs, as an import would have stored them, and a store that breaks down on demand.

use std::collections::BTreeMap;
use std::io::{Cursor, Read as _, Write as _};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use adit_shared::digest::Sha256;
use adit_shared::domain::{About, Access, Clearance, Encoding, FileRecord, Format, Layout, Place, Recipe};
use adit_shared::ids::{DocsetId, VersionId};
use adit_shared::objects::{ObjectError, ObjectResult, ObjectStore, Part, Upload};
use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use proptest::prelude::*;

use crate::manifest::{End, Header, Member, line};
use crate::plan::{Plan, Project, ProjectBuilder, Source};

/// Tag files of a whole bag.
pub(crate) const TAGS: usize = 10;

/// A corpus and the objects that hold it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Corpus {
    pub(crate) members: Vec<Member>,
    /// Content by ref and format.
    pub(crate) contents: BTreeMap<(String, Format), Vec<u8>>,
    pub(crate) packs: BTreeMap<String, Vec<u8>>,
}

pub(crate) fn format(name: &str) -> Format {
    name.parse().unwrap()
}

pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

impl Corpus {
    /// Adds a document; every format has a pack of its own, with a few bytes of something else between the files.
    pub(crate) fn add(&mut self, r#ref: &str, files: &[(&str, &[u8], Encoding)]) {
        let files = files.iter().map(|(name, content, encoding)| self.file(r#ref, name, content, *encoding)).collect();
        let id = VersionId(self.members.len() as u32 * 3 + 1);
        let name = adit_shared::names::safe_name(r#ref);
        self.members.push(Member::new(id, r#ref.to_owned(), name, files));
    }

    fn file(&mut self, r#ref: &str, name: &str, content: &[u8], encoding: Encoding) -> FileRecord {
        let object = format!("packs/1/test-{name}-00000");
        let pack = self.packs.entry(object.clone()).or_default();
        pack.extend_from_slice(&[0xee; 5]);
        let stored = if encoding == Encoding::Gzip { gzip(content) } else { content.to_vec() };
        let place = Place { object, offset: pack.len() as u64, stored: stored.len() as u64 };
        pack.extend_from_slice(&stored);
        // Every other document is one of an import before these checksums.
        let known = encoding == Encoding::Gzip && self.members.len().is_multiple_of(2);
        let deflate_crc32 = known.then(|| crc32fast::hash(&stored[10..stored.len() - 8]));
        self.contents.insert((r#ref.to_owned(), format(name)), content.to_vec());
        FileRecord {
            format: format(name),
            media_type: "application/octet-stream".to_owned(),
            size: content.len() as u64,
            sha256: Sha256::of(content),
            crc32: crc32fast::hash(content),
            encoding,
            deflate_crc32,
            place,
        }
    }

    pub(crate) fn formats(&self) -> Vec<Format> {
        let formats: std::collections::BTreeSet<_> =
            self.members.iter().flat_map(|m| &m.files).map(|f| f.format.clone()).collect();
        formats.into_iter().collect()
    }

    pub(crate) fn header(&self) -> Header {
        let fingerprint = Sha256::of(format!("{:?}", self.contents).as_bytes());
        Header {
            docset: DocsetId(5),
            fingerprint,
            documents: self.members.len() as u64,
            formats: self.formats(),
            about: Some(About {
                collection: "sample".to_owned(),
                name: "A sample".to_owned(),
                description: "Documents for tests.".to_owned(),
                license: None,
                tdm: None,
                url: "https://adit.example/api".to_owned(),
                date: "2026-01-31".to_owned(),
            }),
            base: None,
            selection: Some(self.clearance().selection(&fingerprint)).filter(|selection| *selection != fingerprint),
        }
    }

    /// What its members are marked with.
    fn clearance(&self) -> Clearance {
        let mut clearance = Clearance::default();
        for member in &self.members {
            clearance.note(member.id, member.omitted, member.access.as_ref().and_then(Access::entitlement));
        }
        clearance
    }

    /// The manifest that a server would stream.
    pub(crate) fn manifest(&self) -> Vec<u8> {
        let members = self.members.iter().flat_map(|member| line(member).unwrap());
        let end = line(&End { end: self.members.len() as u64 }).unwrap();
        line(&self.header()).unwrap().into_iter().chain(members).chain(end).collect()
    }

    /// The base directory of its bag, with a slash.
    pub(crate) fn bag(&self) -> String {
        let header = self.header();
        let recipe = Recipe::new(header.formats.clone(), Layout::Bag);
        let selection = header.selection.unwrap_or(header.fingerprint);
        crate::bag_folder(&recipe.fingerprint(&selection, None, header.about.as_ref())) + "/"
    }

    /// The package of all of it.
    pub(crate) fn project(&self, layout: Layout, part_size: u64) -> Project {
        self.project_by(&Recipe::new(self.formats(), layout), part_size)
    }

    pub(crate) fn project_by(&self, recipe: &Recipe, part_size: u64) -> Project {
        let mut builder = ProjectBuilder::new(recipe, self.header()).unwrap();
        for member in &self.members {
            builder.add(member).unwrap();
        }
        builder.finish(part_size).unwrap()
    }

    /// The plan of its only archive.
    pub(crate) fn plan(&self, layout: Layout, part_size: u64) -> Arc<Plan> {
        match &self.project(layout, part_size).assets[0].source {
            Source::Plan(plan) => plan.clone(),
            Source::Stream(..) | Source::Index(_) => panic!("a ZIP archive has a plan"),
        }
    }

    /// The archive, put together from drafts and packs without a store.
    pub(crate) fn archive(&self, plan: &Plan) -> Vec<u8> {
        (1..=plan.parts()).flat_map(|number| self.part(plan, number)).collect()
    }

    pub(crate) fn part(&self, plan: &Plan, number: u32) -> Vec<u8> {
        let mut draft = plan.draft(number, BytesMut::from(&b"anything"[..]), Vec::new()).unwrap();
        for piece in draft.pieces {
            let from = piece.from as usize;
            let data = &self.packs[plan.objects().key(piece.object)][from..from + piece.len];
            draft.bytes[piece.at..piece.at + piece.len].copy_from_slice(data);
        }
        draft.bytes.to_vec()
    }

    /// Reads an archive back by crate `zip` and compares every file with what was put in.
    pub(crate) fn assert_holds(&self, archive: &[u8], layout: Layout) {
        let mut zip = zip::ZipArchive::new(Cursor::new(archive)).unwrap();
        assert_eq!(zip.offset(), 0);
        let folder = if layout == Layout::Bag { self.bag() + "data/" } else { String::new() };
        let tags = if layout == Layout::Bag { TAGS } else { 0 };
        assert_eq!(zip.len(), self.contents.len() + tags);
        for member in &self.members {
            for file in &member.files {
                let name = format!("{folder}{}.{}", member.name, file.format.extension());
                let mut entry = zip.by_name(&name).unwrap();
                assert_eq!((entry.crc32(), entry.size(), entry.unix_mode()), (file.crc32, file.size, Some(0o100_644)));
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                assert_eq!(content, self.contents[&(member.r#ref.clone(), file.format.clone())]);
            }
        }
    }
}

prop_compose! {
    /// Documents with any of four formats, or none, some large, some empty.
    pub(crate) fn corpus(most: usize)(
        documents in prop::collection::vec(
            ("[a-zA-Zé ./%\n]{0,20}", prop::collection::vec(prop::option::of((content(), any::<bool>())), 4)),
            0..most,
        )
    ) -> Corpus {
        let mut corpus = Corpus::default();
        for (i, (r#ref, files)) in documents.iter().enumerate() {
            let named = ["meta", "pdf", "txt", "xml"].into_iter().zip(files);
            let files: Vec<_> = named
                .filter_map(|(name, file)| file.as_ref().map(|(content, gzip)| {
                    (name, content.as_slice(), if *gzip { Encoding::Gzip } else { Encoding::Identity })
                }))
                .collect();
            corpus.add(&format!("{i}{}", r#ref), &files);
        }
        corpus
    }
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        1 => Just(Vec::new()),
        4 => prop::collection::vec(any::<u8>(), 0..300),
        4 => prop::collection::vec(0..3_u8, 0..6_000),
    ]
}

/// A store in a folder of its own, which goes when the first value is dropped.
pub(crate) async fn folder() -> (tempfile::TempDir, Arc<dyn ObjectStore>) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    (folder, adit_shared::objects::open(&url).await.unwrap())
}

impl Corpus {
    /// Puts the packs where the manifest says they are.
    pub(crate) async fn store(&self, objects: &dyn ObjectStore) {
        for (key, pack) in &self.packs {
            objects.put(key, pack.clone().into()).await.unwrap();
        }
    }
}

/// A store that fails for good at a given moment: before a call has its effect, or after it but before the caller hears of it.
/// Every call has those two moments.
pub(crate) struct Fused {
    inner: Arc<dyn ObjectStore>,
    left: AtomicI64,
    puts: AtomicI64,
    loses: i64,
    hangs: bool,
    after_list: std::sync::Mutex<Option<futures::future::BoxFuture<'static, ()>>>,
}

impl std::fmt::Debug for Fused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fused({:?})", self.inner)
    }
}

impl Fused {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, moments: i64) -> Self {
        Self {
            inner,
            left: AtomicI64::new(moments),
            puts: AtomicI64::new(0),
            loses: i64::MAX,
            hangs: false,
            after_list: None.into(),
        }
    }

    /// A store that says of every so manieth part that there is no such upload.
    pub(crate) fn losing(inner: Arc<dyn ObjectStore>, loses: i64) -> Self {
        Self { loses, ..Self::new(inner, i64::MAX) }
    }

    /// A store that does not fail then, but never answers again.
    pub(crate) fn hanging(inner: Arc<dyn ObjectStore>, moments: i64) -> Self {
        Self { hangs: true, ..Self::new(inner, moments) }
    }

    /// A store where that happens between its first list and the answer.
    pub(crate) fn meanwhile(inner: Arc<dyn ObjectStore>, happens: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { after_list: Some(Box::pin(happens) as _).into(), ..Self::new(inner, i64::MAX) }
    }

    /// Calls and answers that were withheld.
    pub(crate) fn calls_refused(&self) -> i64 {
        -self.left.load(Ordering::SeqCst).min(0)
    }

    /// From now on it works.
    pub(crate) fn mend(&self) {
        self.left.store(i64::MAX, Ordering::SeqCst);
    }

    async fn moment(&self) -> ObjectResult<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        if self.hangs {
            std::future::pending::<()>().await;
        }
        Err(ObjectError::Unavailable("the fuse has blown".to_owned()))
    }

    async fn call<T>(&self, call: impl Future<Output = ObjectResult<T>>) -> ObjectResult<T> {
        self.moment().await?;
        let answer = call.await;
        self.moment().await?;
        answer
    }
}

#[async_trait::async_trait]
impl ObjectStore for Fused {
    async fn put(&self, key: &str, bytes: Bytes) -> ObjectResult<()> {
        self.call(self.inner.put(key, bytes)).await
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> ObjectResult<Bytes> {
        self.call(self.inner.get(key, range)).await
    }

    async fn read(
        &self,
        key: &str,
        range: Option<Range<u64>>,
    ) -> ObjectResult<BoxStream<'static, ObjectResult<Bytes>>> {
        self.call(self.inner.read(key, range)).await
    }

    async fn size(&self, key: &str) -> ObjectResult<Option<u64>> {
        self.call(self.inner.size(key)).await
    }

    async fn delete(&self, keys: &[String]) -> ObjectResult<()> {
        self.call(self.inner.delete(keys)).await
    }

    async fn list(&self, prefix: &str) -> ObjectResult<Vec<(String, u64)>> {
        let listed = self.call(self.inner.list(prefix)).await;
        let happens = self.after_list.lock().unwrap().take();
        if let Some(happens) = happens {
            happens.await;
        }
        listed
    }

    async fn create_upload(&self, key: &str, part_size: u64) -> ObjectResult<Upload> {
        self.call(self.inner.create_upload(key, part_size)).await
    }

    async fn find_upload(&self, key: &str, part_size: u64) -> ObjectResult<Option<Upload>> {
        self.call(self.inner.find_upload(key, part_size)).await
    }

    async fn list_uploads(&self, prefix: &str) -> ObjectResult<Vec<Upload>> {
        self.call(self.inner.list_uploads(prefix)).await
    }

    async fn put_part(&self, upload: &Upload, number: u32, bytes: Bytes) -> ObjectResult<Part> {
        if (self.puts.fetch_add(1, Ordering::SeqCst) + 1) % self.loses == 0 {
            return Err(ObjectError::NotFound(upload.id.clone()));
        }
        self.call(self.inner.put_part(upload, number, bytes)).await
    }

    async fn parts(&self, upload: &Upload) -> ObjectResult<Vec<Part>> {
        self.call(self.inner.parts(upload)).await
    }

    async fn complete_upload(&self, upload: &Upload, parts: &[Part]) -> ObjectResult<()> {
        self.call(self.inner.complete_upload(upload, parts)).await
    }

    async fn abort_upload(&self, upload: &Upload) -> ObjectResult<()> {
        self.call(self.inner.abort_upload(upload)).await
    }

    async fn presign(&self, key: &str, file_name: &str, seconds: u64) -> ObjectResult<Option<String>> {
        self.call(self.inner.presign(key, file_name, seconds)).await
    }
}
