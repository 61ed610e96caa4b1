//! What is known of a licence from the one line that a collection has for it.

use url::Url;

/// A collection's licence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Licence {
    /// None is named.
    Unknown,
    /// One with a URI.
    Uri {
        /// Where it stands, `http` or `https`; without whitespace.
        uri: String,
        /// Its id in the SPDX licence list, if it is one of those that are known here.
        spdx: Option<String>,
    },
    /// Other words.
    Words(String),
}

/// Ids of the SPDX licence list that the schema of CFF 1.2.0 has too, beside those of Creative Commons.
const SPDX: [&str; 17] = [
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "CDLA-Permissive-1.0",
    "CDLA-Sharing-1.0",
    "etalab-2.0",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "MIT",
    "MPL-2.0",
    "ODbL-1.0",
    "ODC-By-1.0",
    "OGL-UK-3.0",
    "PDDL-1.0",
];
const CREATIVE_COMMONS: [&str; 6] = ["by", "by-nc", "by-nc-nd", "by-nc-sa", "by-nd", "by-sa"];
const CREATIVE_COMMONS_VERSIONS: [&str; 5] = ["1.0", "2.0", "2.5", "3.0", "4.0"];

impl Licence {
    pub(super) fn of(license: Option<&str>) -> Self {
        let words = license.unwrap_or_default().trim();
        if words.is_empty() {
            return Self::Unknown;
        }
        if let Some(id) = known(words) {
            return Self::Uri { uri: format!("https://spdx.org/licenses/{id}"), spdx: Some(id) };
        }
        match Url::parse(words) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => {
                Self::Uri { uri: url.to_string(), spdx: spdx_of(&url) }
            }
            _ => Self::Words(words.to_owned()),
        }
    }

    /// Its name for people.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Unknown => "No licence is named for the collection.",
            Self::Uri { spdx: Some(id), .. } => id,
            Self::Uri { uri, .. } => uri,
            Self::Words(words) => words,
        }
    }
}

/// The id as the SPDX list writes it, whatever its case here.
fn known(id: &str) -> Option<String> {
    if let Some(known) = SPDX.iter().find(|known| known.eq_ignore_ascii_case(id)) {
        return Some((*known).to_owned());
    }
    let lower = id.to_ascii_lowercase();
    let (code, version) = lower.strip_prefix("cc-")?.rsplit_once('-')?;
    creative_commons(code, version)
}

fn creative_commons(code: &str, version: &str) -> Option<String> {
    let known = CREATIVE_COMMONS.contains(&code) && CREATIVE_COMMONS_VERSIONS.contains(&version);
    known.then(|| format!("CC-{}-{version}", code.to_ascii_uppercase()))
}

fn spdx_of(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    let host = host.strip_prefix("www.").unwrap_or(host);
    let path: Vec<&str> = url.path_segments()?.filter(|segment| !segment.is_empty()).collect();
    let text = |segment: &str| segment.starts_with("legalcode") || segment.starts_with("deed");
    match (host, path.as_slice()) {
        // A jurisdiction's port (".../by/3.0/us/") is another licence, with another id.
        ("creativecommons.org", ["licenses", code, version]) => creative_commons(code, version),
        ("creativecommons.org", ["licenses", code, version, last]) if text(last) => creative_commons(code, version),
        ("creativecommons.org", ["publicdomain", "zero", "1.0", rest @ ..]) if rest.iter().all(|last| text(last)) => {
            known("CC0-1.0")
        }
        ("opendatacommons.org", ["licenses", code, rest @ ..]) if rest.is_empty() || rest == ["1-0"] => match *code {
            "by" => known("ODC-By-1.0"),
            "odbl" => known("ODbL-1.0"),
            "pddl" => known("PDDL-1.0"),
            _ => None,
        },
        ("spdx.org", ["licenses", id]) => known(id.strip_suffix(".html").unwrap_or(id)),
        ("opensource.org", ["licenses" | "license", id]) => known(id),
        ("apache.org", ["licenses", "LICENSE-2.0" | "LICENSE-2.0.html" | "LICENSE-2.0.txt"]) => known("Apache-2.0"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spdx(license: &str) -> Option<String> {
        match Licence::of(Some(license)) {
            Licence::Uri { spdx, .. } => spdx,
            _ => None,
        }
    }

    #[test]
    fn known_licences_are_found_by_uri_and_by_id() {
        for (license, id) in [
            ("https://creativecommons.org/licenses/by/4.0/", "CC-BY-4.0"),
            ("http://www.creativecommons.org/licenses/by-nc-sa/2.5", "CC-BY-NC-SA-2.5"),
            ("https://creativecommons.org/licenses/by-nd/3.0/legalcode.de", "CC-BY-ND-3.0"),
            ("https://creativecommons.org/publicdomain/zero/1.0/deed.en", "CC0-1.0"),
            ("https://opendatacommons.org/licenses/odbl/1-0/", "ODbL-1.0"),
            ("https://spdx.org/licenses/MIT.html", "MIT"),
            ("https://opensource.org/license/mit/", "MIT"),
            ("https://www.apache.org/licenses/LICENSE-2.0", "Apache-2.0"),
            ("cc-by-4.0", "CC-BY-4.0"),
        ] {
            assert_eq!(spdx(license).as_deref(), Some(id), "{license}");
        }
    }

    #[test]
    fn nothing_is_guessed_of_other_licences() {
        for license in [
            "https://creativecommons.org/licenses/by/3.0/us/",
            "https://creativecommons.org/publicdomain/mark/1.0/",
            "https://example.org/licenses/by/4.0/",
            "https://creativecommons.org/licenses/by/9.0/",
        ] {
            assert_eq!(spdx(license), None, "{license}");
        }
        assert_eq!(Licence::of(Some(" ")), Licence::Unknown);
        assert_eq!(Licence::of(Some("ask the library")), Licence::Words("ask the library".into()));
        assert_eq!(Licence::of(Some("urn:x:y")), Licence::Words("urn:x:y".into()));
    }

    #[test]
    fn a_uri_has_no_whitespace() {
        let Licence::Uri { uri, .. } = Licence::of(Some("https://example.org/a b<c>")) else { panic!("not a URI") };
        assert_eq!(uri, "https://example.org/a%20b%3Cc%3E");
    }
}
