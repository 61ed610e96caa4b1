//! What the API shows: the JSON shapes of resources, made from the domain's values.

use adit_shared::clock::rfc3339;
use adit_shared::digest::Sha256;
use adit_shared::domain::{
    AccessLevel, Collection, Compression, Content, Docset, Document, Documents, Entitlement, Format, FormatTotal,
    Layout, Package, Status, Tdm, Withdrawn,
};
use adit_shared::ids::Salt;
use adit_shared::search::{Language, Source};
use adit_shared::store::StoreResult;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::origin::OriginView;
use crate::recipe::DeltaFrom;
use crate::rights;
use crate::state::App;

/// A corpus.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Collection)]
pub struct CollectionView {
    /// Its name in URLs.
    slug: String,
    /// Absolute URL of this resource.
    #[schema(format = "uri")]
    url: String,
    /// Its name for people.
    name: String,
    /// What it holds.
    description: String,
    /// URI of the licence of documents that name none.
    license: Option<String>,
    /// Who may have the files of documents that do not say it themselves.
    access: AccessLevel,
    /// The entitlement that is needed for them, where they are restricted.
    entitlement: Option<Entitlement>,
    /// What is said of text and data mining (TDMRep), for documents that say nothing themselves.
    tdm: Option<Tdm>,
    /// The language that its texts are analysed by, so that a word finds its other forms; none where words are looked up as they are.
    language: Option<Language>,
    /// Number of current documents.
    documents: u64,
    /// Files and decoded bytes by format.
    formats: Vec<FormatTotal>,
    /// Counts the corpus's states; rises with every import that changed something.
    corpus_version: i64,
    /// RFC 3339.
    #[schema(format = DateTime)]
    updated: String,
}

impl CollectionView {
    /// Shows a collection.
    #[must_use]
    pub fn new(app: &App, collection: Collection) -> Self {
        Self {
            url: app.url(&format!("/api/collections/{}", collection.slug)),
            slug: collection.slug,
            name: collection.name,
            description: collection.description,
            license: collection.license,
            access: collection.access.level(),
            entitlement: collection.access.entitlement().cloned(),
            tdm: collection.tdm,
            language: collection.language,
            documents: collection.documents,
            formats: collection.formats,
            corpus_version: collection.corpus_version,
            updated: rfc3339(collection.updated),
        }
    }
}

/// One rendition of a document.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = File)]
pub struct FileView {
    /// Its format.
    pub(crate) format: Format,
    /// Absolute URL of its content.
    #[schema(format = "uri")]
    url: String,
    /// Media type (RFC 6838).
    media_type: String,
    /// Decoded length.
    bytes: u64,
    /// Of the decoded content.
    sha256: Sha256,
}

/// That a work was withdrawn: its files are given to nobody any more.
#[derive(Debug, Serialize, ToSchema)]
pub struct Withdrawal {
    /// RFC 3339.
    #[schema(format = DateTime)]
    at: String,
    /// Why.
    reason: String,
}

impl From<Withdrawn> for Withdrawal {
    fn from(Withdrawn { at, reason }: Withdrawn) -> Self {
        Self { at: rfc3339(at), reason }
    }
}

/// One version of one work.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Document)]
pub struct DocumentView {
    /// Id of this version.
    pub(crate) id: u32,
    /// Absolute URL of this resource.
    #[schema(format = "uri")]
    pub(crate) url: String,
    /// Slug of its collection.
    collection: String,
    /// The work's name, unique in its collection.
    pub(crate) r#ref: String,
    /// Counts the work's versions from 1.
    pub(crate) version: u32,
    /// Whether no newer version exists.
    current: bool,
    /// URI of its licence: its own, else its collection's.
    pub(crate) license: Option<String>,
    /// Who may have its files other than `meta`.
    access: AccessLevel,
    /// The entitlement that is needed for them, where they are restricted.
    entitlement: Option<Entitlement>,
    /// What is said of text and data mining (TDMRep): by itself, else by its collection.
    tdm: Option<Tdm>,
    /// Whether it was withdrawn: then nobody is given its files.
    withdrawn: Option<Withdrawal>,
    /// Dublin Core terms.
    pub(crate) metadata: Map<String, Value>,
    /// Its files, sorted by format.
    pub(crate) files: Vec<FileView>,
}

impl DocumentView {
    /// Shows a document of a collection.
    #[must_use]
    pub fn new(app: &App, document: Document, collection: &Collection) -> Self {
        let url = app.url(&format!("/api/documents/{}", document.id));
        let tdm = rights::tdm(&document, collection);
        let own = document.metadata.get("license").and_then(Value::as_str).map(str::to_owned);
        let file = |file: adit_shared::domain::FileRecord| FileView {
            url: format!("{url}/files/{}", file.format),
            format: file.format,
            media_type: file.media_type,
            bytes: file.size,
            sha256: file.sha256,
        };
        Self {
            id: document.id.0,
            files: document.files.into_iter().map(file).collect(),
            collection: collection.slug.clone(),
            r#ref: document.r#ref,
            version: document.version,
            current: document.superseded.is_none(),
            license: own.or_else(|| collection.license.clone()),
            access: document.access.level(),
            entitlement: document.access.entitlement().cloned(),
            tdm,
            withdrawn: document.withdrawn.map(Withdrawal::from),
            metadata: document.metadata,
            url,
        }
    }
}

/// A frozen selection of document versions.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Docset)]
pub struct DocsetView {
    /// Its id.
    id: i64,
    /// Absolute URL of this resource.
    #[schema(format = "uri")]
    url: String,
    /// A name for people.
    name: Option<String>,
    /// Slug of its collection.
    collection: String,
    /// The query that it froze, as it was given; null when it was not made of one.
    query: Option<Source>,
    /// How it was made.
    origin: OriginView,
    /// Number of members.
    size: u64,
    /// Members that were withdrawn since; null where they are not counted: in lists.
    withdrawn: Option<u64>,
    /// Decoded bytes of all members in all formats.
    bytes: u64,
    /// Files and decoded bytes by format.
    formats: Vec<FormatTotal>,
    /// SHA-256 over its members' ids and content hashes.
    fingerprint: Sha256,
    /// The corpus version that it was made from.
    corpus_version: i64,
    /// RFC 3339.
    #[schema(format = DateTime)]
    created: String,
}

impl DocsetView {
    /// Shows a docset.
    #[must_use]
    pub fn new(app: &App, docset: Docset) -> Self {
        Self {
            id: docset.id.0,
            url: app.url(&format!("/api/docsets/{}", docset.id)),
            bytes: docset.bytes(),
            name: docset.name,
            collection: docset.collection_slug,
            query: docset.origin.query().cloned(),
            origin: docset.origin.into(),
            size: docset.size,
            withdrawn: None,
            formats: docset.formats,
            fingerprint: docset.fingerprint,
            corpus_version: docset.corpus_version,
            created: rfc3339(docset.created),
        }
    }

    /// Shows a docset with what was withdrawn of it since.
    ///
    /// # Errors
    /// The database's.
    pub async fn whole(app: &App, docset: Docset) -> StoreResult<Self> {
        let withdrawn = app.store.withdrawn(docset.collection, &docset.members).await?.len() as u64;
        Ok(Self { withdrawn: Some(withdrawn), ..Self::new(app, docset) })
    }
}

/// Archive bytes written and to be written.
#[derive(Debug, Serialize, ToSchema)]
pub struct Bytes {
    /// Size of the whole archive, once it is known.
    total: Option<u64>,
    /// Written so far.
    done: u64,
}

/// One archive of a docset.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Package)]
pub struct PackageView {
    /// Its id.
    id: i64,
    /// Absolute URL of this resource.
    #[schema(format = "uri")]
    url: String,
    /// Id of its docset.
    docset: i64,
    /// Formats, sorted.
    formats: Vec<Format>,
    /// How it is laid out.
    layout: Layout,
    /// How its shards are compressed (layout jsonl).
    compression: Option<Compression>,
    /// The size in bytes that its shards were to have; null where it has an archive, or as many shards as its layout makes by itself.
    shard_bytes: Option<u64>,
    /// Whether it names the documents' files in the place of having them.
    dehydrated: bool,
    /// The docset that it starts from, if it is a delta.
    delta_from: Option<DeltaFrom>,
    /// Where it stands (the words of OGC API - Processes).
    status: Status,
    /// Whether the archive can be fetched.
    content: Content,
    /// Whether polling can stop.
    terminal: bool,
    /// RFC 3339.
    #[schema(format = DateTime)]
    created: String,
    /// When a packager accepted it.
    #[schema(format = DateTime)]
    started: Option<String>,
    /// When it reached a terminal status.
    #[schema(format = DateTime)]
    finished: Option<String>,
    /// When the archive may be erased.
    #[schema(format = DateTime)]
    expires: Option<String>,
    /// Counts of documents.
    documents: Documents,
    /// Counts of archive bytes.
    bytes: Bytes,
    /// 0 to 100.
    #[schema(maximum = 100)]
    percent: u8,
    /// Seconds left, as far as one can tell.
    eta_seconds: Option<u64>,
    /// Seconds after which to ask again; null when terminal.
    poll_after: Option<u64>,
    /// Absolute URL of the archive (of a package in shards: of its manifest), once it is there.
    #[schema(format = "uri")]
    download: Option<String>,
    /// Absolute URL of the list of all that can be fetched, once it is there.
    #[schema(format = "uri")]
    assets: Option<String>,
    /// Size of the archive in bytes.
    size: Option<u64>,
    /// SHA-256 of the archive.
    sha256: Option<Sha256>,
    /// 16 hexadecimal digits, drawn when it was asked for: tells it apart from a package of the same id in a lost state of the database, and
    /// names its objects and messages. Null for packages that were asked for before there were salts.
    #[schema(value_type = Option<String>)]
    salt: Option<Salt>,
    /// SHA-256 over docset, formats, layout, options and what else decides over its bytes: equal fingerprints give equal packages.
    fingerprint: Sha256,
    /// Why it failed.
    problem: Option<String>,
}

/// Seconds that a build is still expected to take. It is reckoned from what was last heard, not from the time of asking, so that the
/// answer (and its entity tag) changes only when something was heard.
fn eta_seconds(package: &Package) -> Option<u64> {
    if package.status.is_terminal() {
        return None;
    }
    let elapsed = || {
        let (started, heard) = (package.started?, package.heard?);
        u64::try_from(heard - started).ok().map(|ms| ms / 1000)
    };
    match package.percent {
        percent @ 5..=100 => elapsed().map(|seconds| (seconds * u64::from(100 - percent)).div_ceil(u64::from(percent))),
        _ => package.estimate_seconds,
    }
}

/// Seconds after which asking again is worth it: about a fifth of the time left, from one second to half a minute.
#[must_use]
pub fn poll_after(package: &Package) -> u64 {
    (eta_seconds(package).unwrap_or(5) / 5).clamp(1, 30)
}

impl PackageView {
    /// Shows a package.
    #[must_use]
    pub fn new(app: &App, package: &Package) -> Self {
        let url = app.url(&format!("/api/packages/{}", package.id));
        let terminal = package.status.is_terminal();
        let options = &package.recipe.options;
        let once_there = |path: &str| (package.content == Content::Available).then(|| format!("{url}/{path}"));
        Self {
            id: package.id.0,
            docset: package.docset.0,
            formats: package.recipe.formats.clone(),
            layout: package.recipe.layout,
            compression: options.compression,
            shard_bytes: options.shard_bytes,
            dehydrated: options.dehydrated,
            delta_from: options.delta_from.map(DeltaFrom::Docset),
            status: package.status,
            content: package.content,
            terminal,
            created: rfc3339(package.created),
            started: package.started.map(rfc3339),
            finished: package.finished.map(rfc3339),
            expires: package.expires.map(rfc3339),
            documents: package.documents,
            bytes: Bytes { total: package.bytes_total, done: package.bytes_done },
            percent: package.percent,
            eta_seconds: eta_seconds(package),
            poll_after: (!terminal).then(|| poll_after(package)),
            download: once_there("download"),
            assets: once_there("assets"),
            size: package.size,
            sha256: package.sha256,
            salt: package.salt,
            fingerprint: package.fingerprint,
            problem: package.problem.clone(),
            url,
        }
    }
}
