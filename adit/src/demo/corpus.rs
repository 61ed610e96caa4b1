//! A collection folder out of the sources that cargo has unpacked to build Adit.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Slug of the collection.
pub(crate) const SLUG: &str = "crates";
/// Most crates that are taken.
const MOST: usize = 500;

#[derive(Debug, Deserialize)]
struct Manifest {
    package: Package,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    version: String,
    description: Option<String>,
    #[serde(default)]
    authors: Vec<String>,
    #[serde(default)]
    keywords: Vec<String>,
    #[serde(default)]
    categories: Vec<String>,
    license: Option<String>,
    repository: Option<String>,
}

/// Writes the collection folder anew and returns how many crates it holds.
///
/// # Errors
/// When no crate sources are found, with where they were looked for.
pub(crate) fn write(folder: &Path) -> anyhow::Result<usize> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("cannot write {} anew", folder.display()))?;
    }
    std::fs::create_dir_all(folder.join("files"))?;
    let collection = json!({"slug": SLUG, "name": "Crates that Adit was built from",
        "description": "READMEs, licences and metadata of Rust crates, as their authors published them."});
    std::fs::write(folder.join("collection.json"), serde_json::to_vec_pretty(&collection)?)?;
    let mut lines = String::new();
    let mut count = 0;
    for source in sources()? {
        if let Some(document) = document(&source, folder)? {
            writeln!(lines, "{document}")?;
            count += 1;
        }
        if count == MOST {
            break;
        }
    }
    if count == 0 {
        bail!("no crate under {} has a README to show", registry()?.display());
    }
    std::fs::write(folder.join("documents.jsonl"), lines)?;
    Ok(count)
}

fn registry() -> anyhow::Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    Ok(home.context("there is no home folder; set CARGO_HOME")?.join("registry/src"))
}

fn folders(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(path)
        .with_context(|| format!("cannot read {}; the demonstration takes its documents from the sources that cargo keeps there (CARGO_HOME names another place)", path.display()))?;
    let mut folders: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    folders.sort();
    Ok(folders)
}

/// Unpacked crates, sorted by name.
fn sources() -> anyhow::Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    for registry in folders(&registry()?)? {
        sources.extend(folders(&registry)?);
    }
    sources.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    sources.dedup_by(|a, b| a.file_name() == b.file_name());
    Ok(sources)
}

/// The line of one crate, its files copied into the folder; `None` where there is no README or no readable manifest.
fn document(source: &Path, folder: &Path) -> anyhow::Result<Option<Value>> {
    let Ok(text) = std::fs::read_to_string(source.join("Cargo.toml")) else { return Ok(None) };
    let Ok(Manifest { package }) = toml::from_str(&text) else { return Ok(None) };
    let Some(readme) = first_file(source, "readme")? else { return Ok(None) };
    let r#ref = format!("{}-{}", package.name, package.version);
    let mut files = vec![copy(&readme, folder, &r#ref, "txt", "text/markdown; charset=utf-8")?];
    if let Some(license) = first_file(source, "license")? {
        files.push(copy(&license, folder, &r#ref, "license", "text/plain; charset=utf-8")?);
    }
    Ok(Some(json!({"ref": r#ref, "metadata": metadata(package), "files": files})))
}

fn metadata(package: Package) -> Map<String, Value> {
    let mut metadata = Map::new();
    let mut put = |term: &str, value: Value| metadata.insert(term.to_owned(), value);
    put("identifier", json!(format!("pkg:cargo/{}@{}", package.name, package.version)));
    put("title", json!(package.name));
    put("type", json!("Software"));
    put("language", json!("en"));
    if let Some(description) = package.description {
        put("abstract", json!(description.split_whitespace().collect::<Vec<_>>().join(" ")));
    }
    if !package.authors.is_empty() {
        put("creator", json!(package.authors));
    }
    let subjects: Vec<String> = package.keywords.into_iter().chain(package.categories).collect();
    if !subjects.is_empty() {
        put("subject", json!(subjects));
    }
    if let Some(license) = package.license {
        put("license", json!(license));
    }
    if let Some(repository) = package.repository {
        put("source", json!(repository));
    }
    metadata
}

/// The first file of a crate, by name, whose name begins so, whatever its case.
fn first_file(source: &Path, beginning: &str) -> anyhow::Result<Option<PathBuf>> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(source)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().to_lowercase().starts_with(beginning))
        })
        .collect();
    found.sort();
    Ok(found.into_iter().next())
}

fn copy(from: &Path, folder: &Path, r#ref: &str, format: &str, media_type: &str) -> anyhow::Result<Value> {
    let path = format!("files/{ref}.{format}", r#ref = r#ref);
    std::fs::copy(from, folder.join(&path)).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(json!({"format": format, "path": path, "media_type": media_type}))
}
