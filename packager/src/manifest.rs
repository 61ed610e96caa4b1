//! The manifest: what a packager must know of a docset, as the server streams it (`GET {docset}/manifest?fmt=txt,meta`).
//!
//! NDJSON: a [`Header`], one [`Member`] a line in the order of ids, an [`End`] that tells a whole stream from one that was cut.
//! The server writes these lines; the reader here believes nothing of them: what it lets through can be laid out as an archive.
//! No HTTP is here (see `api`).

use adit_shared::digest::Sha256;
use adit_shared::domain::{About, Access, Encoding, FileRecord, Format, Omission};
use adit_shared::ids::{DocsetId, VersionId};
use serde::{Deserialize, Serialize};

/// Media type of the stream.
pub const MEDIA_TYPE: &str = "application/x-ndjson";

/// Longest line in bytes. A member of a dozen formats has some 4 KiB.
const MAX_LINE: usize = 1 << 20;
/// Bytes by which a gzip member (RFC 1952) with the plain header is longer than its deflate stream: before and behind it.
pub(crate) const GZIP_HEADER: u64 = 10;
pub(crate) const GZIP_TRAILER: u64 = 8;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The docset.
    pub docset: DocsetId,
    /// The docset's fingerprint (not the package's).
    pub fingerprint: Sha256,
    /// Number of members, with files or without.
    pub documents: u64,
    /// The formats that were asked for, sorted.
    pub formats: Vec<Format>,
    /// What the package says about itself; a server that knows nothing of it sends none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
    /// Fingerprint of the docset that a delta starts from (or of what of it the package has that the delta starts from).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Sha256>,
    /// Where members are withheld, or not open: SHA-256 over the docset's fingerprint and who they are
    /// (see [`adit_shared::domain::Clearance::selection`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<Sha256>,
}

/// One member of the docset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The document version; ids rise from line to line.
    pub id: VersionId,
    /// The work's name.
    pub r#ref: String,
    /// Its safe file name without extension (see `adit_shared::names`).
    pub name: String,
    /// Its files in the wanted formats, sorted by format; none if it has none of them.
    pub files: Vec<FileRecord>,
    /// URI of its own licence, where it names one and licences were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Its metadata, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// Formats of those of its files that a package of the base has already, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unchanged: Vec<Format>,
    /// Why it is withheld, if it is; then it has no files here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted: Option<Omission>,
    /// Who may have its files, where they are not open to everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
}

impl From<adit_shared::store::Member> for Member {
    fn from(member: adit_shared::store::Member) -> Self {
        let adit_shared::store::Member { id, r#ref, name, files, .. } = member;
        Self::new(id, r#ref, name, files)
    }
}

impl Member {
    /// A member of which nothing else is told.
    #[must_use]
    pub fn new(id: VersionId, r#ref: String, name: String, files: Vec<FileRecord>) -> Self {
        Self {
            id,
            r#ref,
            name,
            files,
            license: None,
            metadata: None,
            unchanged: Vec::new(),
            omitted: None,
            access: None,
        }
    }
}

/// Files of the base that a package of the docset has no more; such lines stand before the end, sorted by nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Safe file name of the document that they were of.
    pub gone: String,
    /// Their formats, sorted.
    pub formats: Vec<Format>,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Number of members that were written.
    pub end: u64,
}

/// One line of the stream, with its line feed.
///
/// # Errors
/// None that these types give rise to.
pub fn line(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The stream stopped before its last line: asking again may help.
    #[error("the manifest was cut after {members} of {documents} documents")]
    Cut {
        /// Members that were read.
        members: u64,
        /// Members that the header announced.
        documents: u64,
    },
    /// A line that is not what it should be.
    #[error("line {line} of the manifest: {reason}")]
    Invalid {
        /// Counts from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a line of the stream says, but for the last.
#[derive(Debug)]
pub(crate) enum Line {
    /// The first.
    Header(Header),
    /// A member.
    Member(Member),
    /// Files that the base of a delta has and the docset has not.
    Gone(Tombstone),
}

/// Reads a manifest from chunks of any size.
#[derive(Debug)]
pub(crate) struct Reader {
    formats: Vec<Format>,
    /// Members that the header has announced.
    documents: Option<u64>,
    last: Option<VersionId>,
    members: u64,
    ended: bool,
    lines: u64,
    partial: Vec<u8>,
}

impl Reader {
    /// A reader of the manifest that was asked for with these `formats`.
    pub(crate) fn new(formats: &[Format]) -> Self {
        let mut formats = formats.to_vec();
        formats.sort_unstable();
        formats.dedup();
        Self { formats, documents: None, last: None, members: 0, ended: false, lines: 0, partial: Vec::new() }
    }

    /// Takes the next chunk and gives every line in it that is whole by now to `take`.
    pub(crate) fn push<E: From<ManifestError>>(
        &mut self,
        mut chunk: &[u8],
        take: &mut impl FnMut(Line) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
            let (head, rest) = chunk.split_at(end);
            chunk = &rest[1..];
            if self.partial.is_empty() {
                self.line(head, take)?;
            } else {
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(head);
                self.line(&line, take)?;
            }
        }
        self.partial.extend_from_slice(chunk);
        if self.partial.len() > MAX_LINE {
            return Err(self.invalid(format!("longer than {MAX_LINE} bytes")).into());
        }
        Ok(())
    }

    /// Refuses a stream that has not come to its end.
    pub(crate) fn finish(self) -> Result<(), ManifestError> {
        if self.ended && self.partial.is_empty() {
            return Ok(());
        }
        Err(ManifestError::Cut { members: self.members, documents: self.documents.unwrap_or(0) })
    }

    fn invalid(&self, reason: impl Into<String>) -> ManifestError {
        ManifestError::Invalid { line: self.lines, reason: reason.into() }
    }

    fn line<E: From<ManifestError>>(
        &mut self,
        line: &[u8],
        take: &mut impl FnMut(Line) -> Result<(), E>,
    ) -> Result<(), E> {
        self.lines += 1;
        if self.ended {
            return Err(self.invalid("there is more behind the end").into());
        }
        let Some(documents) = self.documents else {
            return take(Line::Header(self.header(line)?));
        };
        // Nearly all lines are members, so that is tried first.
        let next: Member = match serde_json::from_slice(line) {
            Ok(member) => member,
            Err(error) => match serde_json::from_slice(line) {
                Ok(End { end }) => return Ok(self.take_end(end, documents)?),
                Err(_) => return take(Line::Gone(self.gone(line, &error)?)),
            },
        };
        self.check(&next).map_err(|reason| self.invalid(format!("{:?}: {reason}", next.r#ref)))?;
        self.last = Some(next.id);
        self.members += 1;
        take(Line::Member(next))
    }

    /// A line that is neither a member, for the reason given, nor the end.
    fn gone(&self, line: &[u8], no_member: &serde_json::Error) -> Result<Tombstone, ManifestError> {
        let gone: Tombstone = serde_json::from_slice(line).map_err(|_| self.invalid(no_member.to_string()))?;
        check_name(&gone.gone).map_err(|reason| self.invalid(reason))?;
        Ok(gone)
    }

    fn take_end(&mut self, end: u64, announced: u64) -> Result<(), ManifestError> {
        if end != self.members || end != announced {
            let came = self.members;
            return Err(self.invalid(format!("says {end} documents, but {came} came and {announced} were announced")));
        }
        self.ended = true;
        Ok(())
    }

    fn header(&mut self, line: &[u8]) -> Result<Header, ManifestError> {
        let header: Header = serde_json::from_slice(line).map_err(|error| self.invalid(error.to_string()))?;
        let mut formats = header.formats.clone();
        formats.sort_unstable();
        if formats != self.formats {
            return Err(self.invalid("it is of other formats than were asked for"));
        }
        self.documents = Some(header.documents);
        Ok(header)
    }

    fn check(&self, member: &Member) -> Result<(), String> {
        if self.last.is_some_and(|last| member.id <= last) {
            return Err(format!("id {} does not follow the one before it", member.id));
        }
        check_name(&member.name)?;
        if member.omitted.is_some() && !member.files.is_empty() {
            return Err("it is withheld, but has files".to_owned());
        }
        for (i, file) in member.files.iter().enumerate() {
            if self.formats.binary_search(&file.format).is_err() {
                return Err(format!("format {} was not asked for", file.format));
            }
            if i > 0 && member.files[i - 1].format >= file.format {
                return Err("its files are not sorted by format".to_owned());
            }
            if member.files[..i].iter().any(|other| other.format.extension() == file.format.extension()) {
                return Err(format!("two of its files would be named {}.{}", member.name, file.format.extension()));
            }
            check_file(file).map_err(|reason| format!("its {} {reason}", file.format))?;
        }
        Ok(())
    }
}

/// A name that is one harmless path segment and needs no escape in a BagIt manifest (RFC 8493, 2.1.3).
fn check_name(name: &str) -> Result<(), String> {
    let harmless = |c: char| !c.is_control() && !matches!(c, '/' | '\\' | '%');
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.chars().all(harmless) {
        return Err(format!("{name:?} is not a safe file name"));
    }
    Ok(())
}

fn check_file(file: &FileRecord) -> Result<(), String> {
    let stored = file.place.stored;
    let sound = match file.encoding {
        Encoding::Identity => stored == file.size,
        Encoding::Gzip => stored > GZIP_HEADER + GZIP_TRAILER,
    };
    if !sound {
        return Err(format!("of {} bytes cannot be stored in {stored} bytes ({})", file.size, file.encoding.as_str()));
    }
    if file.encoding == Encoding::Identity && file.deflate_crc32.is_some() {
        return Err("is not deflated but has the checksum of a deflate stream".to_owned());
    }
    if file.size == 0 && file.crc32 != 0 {
        return Err("is empty but its CRC-32 is not 0".to_owned());
    }
    file.place.offset.checked_add(stored).map(|_| ()).ok_or_else(|| "lies beyond 64 bits".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Corpus, corpus};

    fn read(corpus: &Corpus, manifest: &[u8], chunk: usize) -> Result<(Header, Vec<Member>), ManifestError> {
        let mut reader = Reader::new(&corpus.formats());
        let (mut header, mut members) = (None, Vec::new());
        for chunk in manifest.chunks(chunk) {
            reader.push(chunk, &mut |line| {
                match line {
                    Line::Header(line) => header = Some(line),
                    Line::Member(member) => members.push(member),
                    Line::Gone(_) => {}
                }
                Ok::<_, ManifestError>(())
            })?;
        }
        reader.finish()?;
        Ok((header.unwrap(), members))
    }

    fn sample() -> Corpus {
        let mut corpus = Corpus::default();
        for r#ref in ["a", "b"] {
            corpus.add(r#ref, &[("meta", b"{}", Encoding::Identity), ("txt", b"text", Encoding::Gzip)]);
        }
        corpus
    }

    /// What a reader says of the sample after a change to it.
    fn refusal(change: impl FnOnce(&mut Corpus)) -> String {
        let mut corpus = sample();
        change(&mut corpus);
        match read(&sample(), &corpus.manifest(), 100) {
            Err(error @ ManifestError::Invalid { .. }) => error.to_string(),
            other => panic!("not refused: {other:?}"),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_manifest_is_read_back_whatever_its_chunks(corpus in corpus(8), chunk in 1..500_usize) {
            let (header, members) = read(&corpus, &corpus.manifest(), chunk).unwrap();
            prop_assert_eq!(header, corpus.header());
            prop_assert_eq!(members, corpus.members);
        }

        #[test]
        fn a_cut_is_noticed_wherever_it_is(cut: usize) {
            let manifest = sample().manifest();
            let whole = read(&sample(), &manifest[..cut % manifest.len()], 64);
            prop_assert!(matches!(whole, Err(ManifestError::Cut { documents: 0 | 2, .. })), "{:?}", whole);
        }

        #[test]
        fn noise_is_refused_and_never_a_panic(noise in prop::collection::vec(any::<u8>(), 1..200), at: usize) {
            let mut manifest = sample().manifest();
            let at = at % manifest.len();
            manifest.splice(at..at, noise);
            _ = read(&sample(), &manifest, 64);
        }
    }

    #[test]
    fn the_lines_have_this_shape() {
        insta::assert_snapshot!(String::from_utf8(sample().manifest()).unwrap());
    }

    #[test]
    fn what_could_not_be_laid_out_is_refused_by_line_and_ref() {
        let text = refusal(|corpus| corpus.members[1].id = VersionId(0));
        assert_eq!(text, "line 3 of the manifest: \"b\": id 0 does not follow the one before it");
        for name in ["", "a/b", "..", ".hidden", "a%0A", "a\nb", "a\\b"] {
            assert!(refusal(|corpus| corpus.members[0].name = name.to_owned()).ends_with("is not a safe file name"));
        }
        assert!(refusal(|corpus| corpus.members[0].files.reverse()).contains("not sorted"));
        assert!(
            refusal(|corpus| corpus.members[0].files[1].place.stored = 18).contains("cannot be stored in 18 bytes")
        );
        assert!(refusal(|corpus| corpus.members[0].files[0].size = 3).contains("cannot be stored in 2 bytes"));
        assert!(refusal(|corpus| corpus.members[0].files[0].place.offset = u64::MAX).contains("beyond 64 bits"));
        assert!(refusal(|corpus| corpus.add("c", &[("pdf", b"", Encoding::Identity)])).contains("other formats"));
    }

    #[test]
    fn two_files_of_one_name_are_refused() {
        let mut corpus = Corpus::default();
        corpus.add("a", &[("json", b"[]", Encoding::Identity), ("meta", b"{}", Encoding::Identity)]);
        let text = read(&corpus, &corpus.manifest(), 100).unwrap_err().to_string();
        assert!(text.ends_with("two of its files would be named a.json"), "{text}");
    }

    #[test]
    fn counts_must_agree() {
        let corpus = sample();
        let manifest = String::from_utf8(corpus.manifest()).unwrap();
        let without_one: String =
            manifest.lines().filter(|line| !line.contains(r#""ref":"a""#)).map(|line| format!("{line}\n")).collect();
        let text = read(&corpus, without_one.as_bytes(), 100).unwrap_err().to_string();
        assert_eq!(text, "line 3 of the manifest: says 2 documents, but 1 came and 2 were announced");
        let more = format!("{manifest}{{}}\n");
        assert!(read(&corpus, more.as_bytes(), 100).unwrap_err().to_string().contains("more behind the end"));
    }
}
