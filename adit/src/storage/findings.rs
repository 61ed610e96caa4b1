//! What a check of the storage has found, for people and as JSON.

use adit_shared::display::Printable;
use adit_shared::domain::{FileRecord, Package};
use adit_shared::ids::VersionId;
use serde_json::{Value, json};

/// What was looked at, and what is wrong.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) full: bool,
    pub(super) documents: u64,
    pub(super) files: u64,
    /// Files of which every byte was read.
    pub(super) files_read: u64,
    pub(super) packs: u64,
    pub(super) packages: u64,
    pub(super) damaged_files: Vec<DamagedFile>,
    pub(super) damaged_objects: Vec<DamagedObject>,
    pub(super) damaged_packages: Vec<DamagedPackage>,
    /// Damage of the embedded broker's journal.
    pub(super) damaged_journal: Option<String>,
}

/// A document's file whose stored bytes are not what was imported.
#[derive(Debug, Clone)]
pub(super) struct DamagedFile {
    /// Slug of the collection.
    pub(super) collection: String,
    pub(super) document: VersionId,
    pub(super) r#ref: String,
    pub(super) file: FileRecord,
    pub(super) reason: String,
}

/// An object of a collection that is wrong as a whole.
#[derive(Debug)]
pub(super) struct DamagedObject {
    /// Slug of the collection.
    pub(super) collection: String,
    pub(super) part: Part,
    pub(super) object: String,
    pub(super) reason: String,
}

/// What an object of a collection belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Pack,
    Index,
}

impl Part {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pack => "pack",
            Self::Index => "index",
        }
    }
}

/// An asset of a package that is not what its packager has told.
#[derive(Debug)]
pub(super) struct DamagedPackage {
    pub(super) package: Package,
    pub(super) object: String,
    pub(super) reason: String,
}

impl Findings {
    pub(super) fn is_healthy(&self) -> bool {
        self.count_damages() == 0
    }

    fn count_damages(&self) -> usize {
        let journals = usize::from(self.damaged_journal.is_some());
        self.damaged_files.len() + self.damaged_objects.len() + self.damaged_packages.len() + journals
    }

    /// Tells everything that is wrong, each in one line.
    pub(super) fn lines(&self) -> Vec<String> {
        let files = self.damaged_files.iter().map(|damaged| {
            let DamagedFile { collection, document, r#ref, file, reason } = damaged;
            let (r#ref, object) = (Printable::line(r#ref), &file.place.object);
            format!("{collection}: {ref} (document {document}), {}: {reason} ({object})", file.format)
        });
        let objects = self.damaged_objects.iter().map(|damaged| {
            let DamagedObject { collection, part, object, reason } = damaged;
            format!("{collection}: {}: {reason} ({object})", part.as_str())
        });
        let packages = self.damaged_packages.iter().map(|damaged| {
            let DamagedPackage { package, object, reason } = damaged;
            format!("package {}: {reason} ({object})", package.id)
        });
        let journal = self.damaged_journal.iter().map(|reason| format!("the broker's journal: {reason}"));
        files.chain(objects).chain(packages).chain(journal).collect()
    }

    pub(super) fn summary(&self) -> String {
        let Self { documents, files, files_read, packs, packages, .. } = self;
        let damaged = self.count_damages();
        format!(
            "{documents} documents with {files} files in {packs} packs, {files_read} of the files read; \
             {packages} packages; {damaged} damages"
        )
    }

    pub(super) fn report(&self) -> Value {
        let files = self.damaged_files.iter().map(|damaged| {
            let DamagedFile { collection, document, r#ref, file, reason } = damaged;
            json!({"kind": "file", "collection": collection, "ref": r#ref, "document": document.0,
                "format": file.format, "object": file.place.object, "reason": reason})
        });
        let objects = self.damaged_objects.iter().map(|damaged| {
            let DamagedObject { collection, part, object, reason } = damaged;
            json!({"kind": part.as_str(), "collection": collection, "object": object, "reason": reason})
        });
        let packages = self.damaged_packages.iter().map(|damaged| {
            let DamagedPackage { package, object, reason } = damaged;
            json!({"kind": "package", "package": package.id.0, "object": object, "reason": reason})
        });
        let journal = self.damaged_journal.iter().map(|reason| json!({"kind": "journal", "reason": reason}));
        json!({
            "healthy": self.is_healthy(),
            "full": self.full,
            "documents": self.documents,
            "files": self.files,
            "files_read": self.files_read,
            "packs": self.packs,
            "packages": self.packages,
            "damages": files.chain(objects).chain(packages).chain(journal).collect::<Vec<_>>(),
        })
    }
}
