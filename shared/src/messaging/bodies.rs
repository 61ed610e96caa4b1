//! What the messages say: text that a person can read in a broker's console.
//!
//! One parser (`FromStr`) and one formatter (`Display`) for each kind. The first line says what happened, further lines
//! are `Name: value`; unknown lines are ignored, a known line that makes no sense is an error. Where messages travel and
//! in which headers is the business of [`super::queues`] and of those who send them.

use std::fmt;
use std::str::FromStr;

use url::{Url, form_urlencoded};

use crate::digest::Sha256;
use crate::domain::{Format, Layout, Options, Recipe};
use crate::ids::{DocsetId, PackageId, Salt, SaltedPackage};

/// Characters of a reason or a URL.
const MAX_VALUE: usize = 2000;

/// A body that cannot be understood. It says what was expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct InvalidBody {
    expected: &'static str,
    found: String,
}

fn invalid(expected: &'static str, found: &str) -> InvalidBody {
    InvalidBody { expected, found: found.chars().take(200).collect() }
}

/// A request to build a package: `http://server/api/docsets/5?fmt=meta,txt[&layout=bag][&compression=gzip][&shard_bytes=N][&dehydrated=true]`
/// `[&delta_from=4][&package=7[&salt=00c0ffee00c0ffee]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageRequest {
    /// The docset, on the server that wants the package; its query without the parameters below.
    pub docset: Url,
    /// What it is made of: at least one format, `txt` when the URL names none; of layout `flat` when the URL does not say.
    pub recipe: Recipe,
    /// The server's own id of the package, if it has one, with the salt that it told.
    pub package: Option<SaltedPackage>,
}

impl PackageRequest {
    /// The docset's id: the last segment of the URL's path, where that is a number.
    #[must_use]
    pub fn docset_id(&self) -> Option<DocsetId> {
        self.docset.path_segments()?.rfind(|segment| !segment.is_empty())?.parse().ok()
    }
}

impl fmt::Display for PackageRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.docset.query().is_some() { '&' } else { '?' };
        let Recipe { formats, layout, options } = &self.recipe;
        let formats: Vec<_> = formats.iter().map(Format::as_str).collect();
        // Written by hand because a query serializer would turn the comma into `%2C`; nothing here needs escaping.
        write!(f, "{}{mark}fmt={}", self.docset, formats.join(","))?;
        if *layout != Layout::Flat {
            write!(f, "&layout={layout}")?;
        }
        if let Some(compression) = options.compression {
            write!(f, "&compression={}", compression.as_str())?;
        }
        if let Some(bytes) = options.shard_bytes {
            write!(f, "&shard_bytes={bytes}")?;
        }
        if options.dehydrated {
            f.write_str("&dehydrated=true")?;
        }
        if let Some(docset) = options.delta_from {
            write!(f, "&delta_from={docset}")?;
        }
        let Some(SaltedPackage { id, salt }) = self.package else { return Ok(()) };
        write!(f, "&package={id}")?;
        salt.map_or(Ok(()), |salt| write!(f, "&salt={salt}"))
    }
}

impl FromStr for PackageRequest {
    type Err = InvalidBody;

    fn from_str(body: &str) -> Result<Self, Self::Err> {
        let line = first_line(body);
        let mut docset = Url::parse(line)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https"))
            .ok_or_else(|| invalid("the http or https URL of a docset", line))?;
        docset.set_fragment(None);
        let (mut formats, mut layout, mut options) = (Vec::new(), Layout::Flat, Options::default());
        let (mut package, mut salt, mut others) = (None, None, Vec::new());
        let query = docset.query().unwrap_or_default().to_owned();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let Some((name, value)) = form_urlencoded::parse(part.as_bytes()).next() else { continue };
            match name.as_ref() {
                "fmt" | "fmts" => formats.extend(value.split(',').map(str::to_owned)),
                "layout" => layout = value.parse().map_err(|_| invalid("layout=<name of a layout>", part))?,
                "compression" => {
                    options.compression = Some(parameter(&value, "compression=none, gzip or zstd", part)?);
                }
                "shard_bytes" => options.shard_bytes = Some(parameter(&value, "shard_bytes=<number>", part)?),
                "dehydrated" => {
                    options.dehydrated = parameter(&value, "dehydrated=true or dehydrated=false", part)?;
                }
                "delta_from" => options.delta_from = Some(parameter(&value, "delta_from=<number of a docset>", part)?),
                "package" => {
                    let number: PackageId = parameter(&value, "package=<number>", part)?;
                    // Those below are the packager's own, of requests without a number.
                    if number.0 < 0 {
                        return Err(invalid("package=<number>, not negative", part));
                    }
                    package = Some(number);
                }
                "salt" => salt = Some(parameter::<Salt>(&value, "salt=<16 hexadecimal digits>", part)?),
                _ => others.push(part),
            }
        }
        docset.set_query((!others.is_empty()).then(|| others.join("&")).as_deref());
        if formats.is_empty() {
            formats.push("txt".to_owned());
        }
        let format =
            |name: &String| name.trim().parse().map_err(|_| invalid("fmt=<formats with commas between>", name));
        let formats = formats.iter().map(format).collect::<Result<_, _>>()?;
        let recipe = Recipe { options, ..Recipe::new(formats, layout) };
        recipe
            .check()
            .map_err(|error| InvalidBody { expected: "a recipe that can be made", found: error.to_string() })?;
        Ok(Self { docset, recipe, package: package.map(|id| SaltedPackage { id, salt }) })
    }
}

fn parameter<T: FromStr>(value: &str, expected: &'static str, part: &str) -> Result<T, InvalidBody> {
    value.parse().map_err(|_| invalid(expected, part))
}

/// What a packager tells of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusMessage {
    /// `Accepted. 45 seconds`: it has the request.
    Accepted {
        /// Its estimate.
        seconds: Option<u64>,
    },
    /// `Progress: 40%`.
    Progress {
        /// 0 to 100.
        percent: u8,
        /// `Documents: 400/1000`: done and all.
        documents: Option<(u64, u64)>,
        /// `Bytes: 1048576/2621440` of the archive: done and all.
        bytes: Option<(u64, u64)>,
    },
    /// `Complete: <url>`.
    Complete(Complete),
    /// `Failed: <reason>`: it will not be built.
    Failed {
        /// Why, in one line for the miner.
        reason: String,
    },
    /// `Dismissed`: given up at the miner's wish.
    Dismissed,
}

/// A finished archive. A third party's packager may tell no more than URL and size.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Complete {
    /// Where it lies.
    pub url: String,
    /// `Size:` in bytes.
    pub size: Option<u64>,
    /// `SHA-256:` of the archive.
    pub sha256: Option<Sha256>,
    /// `Documents:` in it.
    pub documents: Option<u64>,
    /// `Omitted:` members of the docset that have no file in any of the formats.
    pub omitted: Option<u64>,
    /// `Parts-Reused:` upload parts that an interrupted build had left.
    pub parts_reused: Option<u32>,
}

impl fmt::Display for StatusMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { seconds: Some(seconds) } => write!(f, "Accepted. {seconds} seconds"),
            Self::Accepted { seconds: None } => f.write_str("Accepted."),
            Self::Progress { percent, documents, bytes } => {
                write!(f, "Progress: {percent}%")?;
                let part = |pair: &Option<(u64, u64)>| pair.map(|(done, all)| format!("{done}/{all}"));
                line(f, "Documents", part(documents).as_ref())?;
                line(f, "Bytes", part(bytes).as_ref())
            }
            Self::Complete(complete) => complete.fmt(f),
            Self::Failed { reason } => write!(f, "Failed: {}", one_line(reason)),
            Self::Dismissed => f.write_str("Dismissed"),
        }
    }
}

impl fmt::Display for Complete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Complete: {}", one_line(&self.url))?;
        line(f, "Size", self.size.as_ref())?;
        line(f, "SHA-256", self.sha256.as_ref())?;
        line(f, "Documents", self.documents.as_ref())?;
        line(f, "Omitted", self.omitted.as_ref())?;
        line(f, "Parts-Reused", self.parts_reused.as_ref())
    }
}

fn line<T: fmt::Display>(f: &mut fmt::Formatter<'_>, name: &str, value: Option<&T>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, "\n{name}: {value}"))
}

/// Makes a text of one line, of at most [`MAX_VALUE`] characters and none that controls a terminal,
/// or that a database refuses. So a value cannot start a line of its own.
fn one_line(text: &str) -> String {
    let pieces = text.split(char::is_control).map(str::trim).filter(|piece| !piece.is_empty());
    let line: String = pieces.collect::<Vec<_>>().join(" ").chars().take(MAX_VALUE).collect();
    // Reading trims what the cut may have left at the end.
    line.trim_end().to_owned()
}

impl FromStr for StatusMessage {
    type Err = InvalidBody;

    fn from_str(body: &str) -> Result<Self, Self::Err> {
        let first = first_line(body);
        let (word, rest) = first.split_at(first.find([':', '.', ' ']).unwrap_or(first.len()));
        let rest = rest.strip_prefix([':', '.']).unwrap_or(rest).trim();
        match word {
            "Accepted" => Ok(Self::Accepted { seconds: rest.split(' ').next().and_then(|number| number.parse().ok()) }),
            "Progress" => Ok(Self::Progress {
                percent: percent(rest)?,
                documents: field(body, "Documents", "Documents: <done>/<all>", fraction)?,
                bytes: field(body, "Bytes", "Bytes: <done>/<all>", fraction)?,
            }),
            "Complete" if one_line(rest).is_empty() => Err(invalid("Complete: <url>", first)),
            "Complete" => Ok(Self::Complete(Complete {
                url: one_line(rest),
                size: field(body, "Size", "Size: <bytes>", number)?,
                sha256: field(body, "SHA-256", "SHA-256: <64 hexadecimal digits>", number)?,
                documents: field(body, "Documents", "Documents: <number>", number)?,
                omitted: field(body, "Omitted", "Omitted: <number>", number)?,
                parts_reused: field(body, "Parts-Reused", "Parts-Reused: <number>", number)?,
            })),
            "Failed" => Ok(Self::Failed { reason: one_line(rest) }),
            "Dismissed" => Ok(Self::Dismissed),
            _ => Err(invalid("Accepted, Progress, Complete, Failed or Dismissed", first)),
        }
    }
}

fn first_line(body: &str) -> &str {
    body.trim_start().lines().next().unwrap_or_default().trim()
}

fn percent(text: &str) -> Result<u8, InvalidBody> {
    let number = text.trim_end_matches('%').trim().parse().ok().filter(|percent| *percent <= 100);
    number.ok_or_else(|| invalid("Progress: <0 to 100>%", text))
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn fraction(text: &str) -> Option<(u64, u64)> {
    let (done, all) = text.split_once('/')?;
    Some((done.trim().parse().ok()?, all.trim().parse().ok()?))
}

/// The value of the first line of that name behind the first line, if there is one.
fn field<T>(
    body: &str,
    name: &str,
    expected: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, InvalidBody> {
    let values = body.trim_start().lines().skip(1).filter_map(|line| line.split_once(':'));
    let value = values.into_iter().find_map(|(known, value)| (known.trim() == name).then(|| value.trim()));
    value.map(|value| parse(value).ok_or_else(|| invalid(expected, value))).transpose()
}

/// `Delete: <package id>`, and `Salt: <its salt>` where it has one: its archive is to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteRequest {
    /// Whose archive.
    pub package: SaltedPackage,
}

impl fmt::Display for DeleteRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delete: {}", self.package.id)?;
        line(f, "Salt", self.package.salt.as_ref())
    }
}

impl FromStr for DeleteRequest {
    type Err = InvalidBody;

    fn from_str(body: &str) -> Result<Self, Self::Err> {
        let first = first_line(body);
        let id = first.strip_prefix("Delete:").and_then(|id| id.trim().parse().ok());
        let id: PackageId = id.ok_or_else(|| invalid("Delete: <package id>", first))?;
        let salt = field(body, "Salt", "Salt: <16 hexadecimal digits>", number)?;
        Ok(Self { package: SaltedPackage { id, salt } })
    }
}

#[cfg(test)]
mod tests;
