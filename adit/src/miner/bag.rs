//! A bag (BagIt 1.0, RFC 8493) that lies unpacked in a folder: what its manifests name, where their paths lead, and whether what is there
//! is right. Archives of bags are in [`super::unpack`] and [`super::verify`].

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use adit_shared::digest::Sha256;
use adit_shared::names::is_reserved;
use anyhow::{Context as _, bail};
use futures::StreamExt as _;
use serde::Deserialize;

use super::part::hash_file;

/// The file that makes a folder a bag.
pub(crate) const DECLARATION: &str = "bagit.txt";
/// Names the payload.
pub(crate) const MANIFEST: &str = "manifest-sha256.txt";
/// Names all other files but itself, [`FETCH`] and [`TOMBSTONES`].
pub(crate) const TAG_MANIFEST: &str = "tagmanifest-sha256.txt";
/// Tells where payload is fetched from (section 2.2.3).
pub(crate) const FETCH: &str = "fetch.txt";
/// Tells what is not in a package any more that was in the one that a delta is to be applied to.
pub(crate) const TOMBSTONES: &str = "tombstones.jsonl";
/// Longest path in a bag, and longest name in it, in bytes.
const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 255;
/// Begins the path of every payload file.
const PAYLOAD: &str = "data/";

/// Paths in the bag, with slashes, and the SHA-256 of each.
pub(crate) type Manifest = BTreeMap<String, Sha256>;

/// A bag in a folder.
#[derive(Debug, Clone)]
pub(crate) struct Bag {
    root: PathBuf,
}

/// Where a payload file is fetched from: a line of [`FETCH`].
#[derive(Debug, PartialEq)]
pub(crate) struct Source {
    /// Any URL, as it stands there.
    pub(crate) url: String,
    /// Its length in bytes, where that is told.
    pub(crate) length: Option<u64>,
}

/// How a file of a bag is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// As its manifest says.
    Right,
    /// Not there.
    Missing,
    /// There, with another SHA-256.
    Other,
}

impl Bag {
    /// The bag that is in a folder, or in its only folder, as archives of bags unpack.
    pub(crate) fn find(folder: &Path) -> anyhow::Result<Self> {
        let is_bag = |folder: &Path| folder.join(DECLARATION).is_file();
        if is_bag(folder) {
            return Ok(Self { root: folder.to_owned() });
        }
        let inside = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut bags = inside.flatten().map(|entry| entry.path()).filter(|path| is_bag(path));
        match (bags.next(), bags.next()) {
            (Some(root), None) => Ok(Self { root }),
            (Some(_), Some(_)) => bail!("there are several bags in {}; name one of them", folder.display()),
            (None, _) => bail!("{} is no bag: it has no {DECLARATION}", folder.display()),
        }
    }

    /// The folder of the bag.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where a file of the bag is, whether it is there or not.
    ///
    /// # Errors
    /// When the path may lead out of the bag: by its form, or by a symbolic link.
    pub(crate) fn place(&self, path: &str) -> anyhow::Result<PathBuf> {
        let mut place = self.root.clone();
        for name in safe_names(path)? {
            place.push(name);
            if fs::symlink_metadata(&place).is_ok_and(|found| found.is_symlink()) {
                bail!("{path}: leads over a symbolic link ({})", place.display());
            }
        }
        Ok(place)
    }

    /// Where a payload file is, whether it is there or not.
    pub(crate) fn payload_place(&self, path: &str) -> anyhow::Result<PathBuf> {
        if !path.starts_with(PAYLOAD) {
            bail!("{path}: is no path of payload, which begins with {PAYLOAD}");
        }
        self.place(path)
    }

    /// The payload, as the manifest has it.
    pub(crate) fn manifest(&self) -> anyhow::Result<Manifest> {
        let text = self.text(MANIFEST)?;
        let text = text.with_context(|| format!("{} has no {MANIFEST}", self.root.display()))?;
        let manifest = parse_manifest(&text).with_context(|| format!("cannot read {MANIFEST}"))?;
        manifest.keys().try_for_each(|path| self.payload_place(path).map(drop))?;
        Ok(manifest)
    }

    /// The tag files, as their manifest has them; none if there is no such manifest.
    pub(crate) fn tag_manifest(&self) -> anyhow::Result<Manifest> {
        let text = self.text(TAG_MANIFEST)?.unwrap_or_default();
        parse_manifest(&text).with_context(|| format!("cannot read {TAG_MANIFEST}"))
    }

    /// Where payload can be fetched from, by its path; none if there is no such list.
    pub(crate) fn sources(&self) -> anyhow::Result<BTreeMap<String, Source>> {
        let text = self.text(FETCH)?.unwrap_or_default();
        parse_fetch(&text).with_context(|| format!("cannot read {FETCH}"))
    }

    /// Paths of what a delta removes; `None` where the bag is no delta.
    pub(crate) fn tombstones(&self) -> anyhow::Result<Option<Vec<String>>> {
        #[derive(Deserialize)]
        struct Tombstone {
            path: String,
        }
        let Some(text) = self.text(TOMBSTONES)? else { return Ok(None) };
        let lines = text.lines().enumerate().map(|(number, line)| {
            let tombstone: Tombstone =
                serde_json::from_str(line).with_context(|| format!("cannot read {TOMBSTONES}, line {}", number + 1))?;
            self.payload_place(&tombstone.path)?;
            Ok(tombstone.path)
        });
        lines.collect::<anyhow::Result<_>>().map(Some)
    }

    fn text(&self, name: &str) -> anyhow::Result<Option<String>> {
        match fs::read_to_string(self.place(name)?) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", self.root.join(name).display())),
        }
    }

    /// Reads the files of a manifest, several at once: how each is.
    pub(crate) async fn states(&self, manifest: &Manifest) -> anyhow::Result<BTreeMap<String, State>> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let checks = futures::stream::iter(manifest).map(|(path, sha256)| {
            let (bag, path, sha256) = (self.clone(), path.clone(), *sha256);
            async move { tokio::task::spawn_blocking(move || Ok((bag.state(&path, sha256)?, path))).await? }
        });
        let mut states = BTreeMap::new();
        let mut checks = checks.buffer_unordered(workers);
        while let Some(checked) = checks.next().await {
            let (state, path): (State, String) = checked.map_err(|error: anyhow::Error| error)?;
            states.insert(path, state);
        }
        Ok(states)
    }

    fn state(&self, path: &str, sha256: Sha256) -> anyhow::Result<State> {
        let place = self.place(path)?;
        if !place.is_file() {
            return Ok(State::Missing);
        }
        let (_, found) = hash_file(&place)?;
        Ok(if found == sha256 { State::Right } else { State::Other })
    }

    /// The payload files that are there, by their paths in the bag.
    pub(crate) fn payload(&self) -> anyhow::Result<Vec<String>> {
        if self.root.join(PAYLOAD).is_dir() { self.below(PAYLOAD) } else { Ok(Vec::new()) }
    }

    /// All files that are there, by their paths in the bag.
    pub(crate) fn files(&self) -> anyhow::Result<Vec<String>> {
        self.below("")
    }

    fn below(&self, folder: &str) -> anyhow::Result<Vec<String>> {
        let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
        while let Some(folder) = folders.pop() {
            let place = self.root.join(&folder);
            for entry in fs::read_dir(&place).with_context(|| format!("cannot read {}", place.display()))? {
                let entry = entry?;
                let name = entry.file_name();
                let name = name.to_str().with_context(|| format!("{name:?} is not UTF-8"))?;
                let path = format!("{folder}{name}");
                if entry.file_type()?.is_dir() { folders.push(path + "/") } else { files.push(path) }
            }
        }
        files.sort_unstable();
        Ok(files)
    }
}

/// The names that a path is made of, if it leads down from wherever it begins, on every system.
pub(crate) fn safe_names(path: &str) -> anyhow::Result<Vec<&str>> {
    let drive = path.as_bytes().get(1) == Some(&b':');
    let names: Vec<&str> = path.split('/').collect();
    // What this system takes for one name is one, too: no prefix, no other separator.
    let plain = |name: &str| {
        let mut components = Path::new(name).components();
        matches!((components.next(), components.next()), (Some(Component::Normal(same)), None) if same == name)
    };
    if drive || path.contains('\\') || path.contains(char::is_control) || !names.iter().all(|name| plain(name)) {
        bail!("{path:?}: is no path that stays in the bag");
    }
    if path.len() > MAX_PATH || names.iter().any(|name| name.len() > MAX_NAME || is_reserved(name)) {
        bail!("{path:?}: is no path that every system takes");
    }
    Ok(names)
}

/// A line of a manifest: a SHA-256 and a path (section 2.1.3).
pub(crate) fn manifest_line(line: &str) -> Option<(String, Sha256)> {
    let (hash, path) = line.split_once([' ', '\t'])?;
    Some((decoded(path.trim_start_matches([' ', '\t'])), hash.parse().ok()?))
}

/// A line of [`FETCH`]: a URL, a length or `-`, and a path (section 2.2.3).
pub(crate) fn fetch_line(line: &str) -> Option<(String, Source)> {
    let (url, rest) = line.split_once([' ', '\t'])?;
    let (length, path) = rest.trim_start_matches([' ', '\t']).split_once([' ', '\t'])?;
    let length = if length == "-" { None } else { Some(length.parse().ok()?) };
    Some((decoded(path.trim_start_matches([' ', '\t'])), Source { url: url.to_owned(), length }))
}

/// A path of a list with its line ends and percent signs as they are (sections 2.1.3 and 2.2.3).
fn decoded(path: &str) -> String {
    // The percent sign comes last: what it would complete to another sequence is no sequence.
    let codes = [("%0A", "\n"), ("%0a", "\n"), ("%0D", "\r"), ("%0d", "\r"), ("%25", "%")];
    codes.iter().fold(path.to_owned(), |path, (code, character)| path.replace(code, character))
}

fn parse_manifest(text: &str) -> anyhow::Result<Manifest> {
    let line = |(number, line): (usize, &str)| {
        manifest_line(line).with_context(|| format!("line {} is no SHA-256 and path", number + 1))
    };
    text.lines().enumerate().map(line).collect()
}

fn parse_fetch(text: &str) -> anyhow::Result<BTreeMap<String, Source>> {
    let line = |(number, line): (usize, &str)| {
        fetch_line(line).with_context(|| format!("line {} is no URL, length and path", number + 1))
    };
    text.lines().enumerate().map(line).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_read_as_rfc_8493_says() {
        let hash = Sha256::of(b"x");
        let text = format!("{hash}  data/a b.txt\n{}\tdata/50%25%0Ax\r\n", hash.to_string().to_uppercase());
        let manifest = parse_manifest(&text).unwrap();
        assert_eq!(manifest, Manifest::from([("data/a b.txt".into(), hash), ("data/50%\nx".into(), hash)]));
        assert!(parse_manifest("abc data/x").unwrap_err().to_string().starts_with("line 1"));

        let sources = parse_fetch("http://x/1 7 data/a b\nhttps://x/2  -  data/50%25\n").unwrap();
        let source = |url: &str, length| Source { url: url.to_owned(), length };
        let expected = [("data/50%", source("https://x/2", None)), ("data/a b", source("http://x/1", Some(7)))];
        assert_eq!(sources, BTreeMap::from(expected.map(|(path, source)| (path.to_owned(), source))));
        for wrong in ["http://x", "http://x data/a", "http://x x data/a", "http://x -1 data/a"] {
            assert!(parse_fetch(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_of_a_list_are_decoded() {
        assert_eq!(decoded("data/50%25 a%0Ab%0d%0Ac"), "data/50% a\nb\r\nc");
        assert_eq!(decoded("%250A %41 %"), "%0A %41 %");
    }

    #[test]
    fn a_path_stays_in_the_bag() {
        for safe in ["a", "data/a", "data/.a", "data/a..b", "data/ü b", "data/..."] {
            assert!(safe_names(safe).is_ok(), "{safe}");
        }
        let unsafe_paths = ["", ".", "..", "/", "/a", "data/../a", "data/..", "data//a", "data/./a", "data/"];
        for path in unsafe_paths.into_iter().chain([
            "C:/a",
            "c:a",
            "data\\a",
            "..\\a",
            "\\\\host\\a",
            "data/a\0",
            "data/\x1b[2J",
            "data/con.txt",
            "a\n",
        ]) {
            assert!(safe_names(path).is_err(), "{path}");
        }
        assert!(safe_names(&"a".repeat(MAX_NAME + 1)).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_does_not_lead_out_of_the_bag() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(folder.path().join(DECLARATION), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("data")).unwrap();
        let bag = Bag::find(folder.path()).unwrap();
        assert!(bag.place("data/a").unwrap_err().to_string().contains("symbolic link"));
        assert!(bag.place("other/a").is_ok());
    }

    proptest! {
        #[test]
        fn whatever_a_path_is_it_does_not_lead_out(path in "[a./\\\\:~]{0,12}") {
            if let Ok(names) = safe_names(&path) {
                let place = Path::new("/root").join(names.iter().collect::<PathBuf>());
                prop_assert_eq!(place.components().count(), 2 + names.len());
                prop_assert!(place.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_))));
            }
        }
    }
}
