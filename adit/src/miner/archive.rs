//! Paths as the manifests of bags (RFC 8493) write them.

/// A path of a manifest with its line ends and percent signs as they are (RFC 8493, section 2.1.3).
pub(super) fn decoded(path: &str) -> String {
    // The percent sign comes last: what it would complete to another sequence is no sequence.
    let codes = [("%0A", "\n"), ("%0a", "\n"), ("%0D", "\r"), ("%0d", "\r"), ("%25", "%")];
    codes.iter().fold(path.to_owned(), |path, (code, character)| path.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_manifest_are_decoded() {
        assert_eq!(decoded("data/50%25 a%0Ab%0d%0Ac"), "data/50% a\nb\r\nc");
        assert_eq!(decoded("%250A %41 %"), "%0A %41 %");
    }
}
