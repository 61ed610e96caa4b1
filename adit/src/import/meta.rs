//! Renders a document's metadata as JSON-LD, to be stored like any other file.

use adit_shared::digest::Sha256;
use serde_json::{Map, Value, json};

/// Media type of the rendered metadata.
pub(crate) const MEDIA_TYPE: &str = "application/ld+json";

/// The JSON-LD of a document: its Dublin Core terms in the vocabulary of DCMI Metadata Terms, its ref, the licence that holds (its own,
/// else its collection's), and its files with their hashes. Members are sorted, so equal metadata gives equal bytes.
pub(crate) fn render(
    r#ref: &str,
    metadata: &Map<String, Value>,
    license: Option<&str>,
    files: &[(String, String, u64, Sha256)],
) -> Vec<u8> {
    let mut node = metadata.clone();
    node.insert(
        "@context".into(),
        json!({"@vocab": "http://purl.org/dc/terms/", "ref": "urn:adit:ref", "files": "hasFormat",
        "sha256": "urn:adit:sha256", "bytes": "extent", "media_type": "format"}),
    );
    node.insert("@type".into(), json!("BibliographicResource"));
    if let Some(identifier) = metadata.get("identifier").and_then(Value::as_str).filter(|id| id.contains(':')) {
        node.insert("@id".into(), json!(identifier));
    }
    node.insert("ref".into(), json!(r#ref));
    if let Some(license) = license.filter(|_| !metadata.contains_key("license")) {
        node.insert("license".into(), json!(license));
    }
    let file = |(name, media_type, bytes, sha256): &(String, String, u64, Sha256)| json!({"title": name, "media_type": media_type, "bytes": bytes, "sha256": sha256});
    node.insert("files".into(), files.iter().map(file).collect());
    let mut text = Value::Object(node).to_string().into_bytes();
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_rendered_with_licence_and_files() {
        let metadata = json!({"title": "T", "identifier": "https://doi.org/10.1/x", "creator": ["A"]});
        let files = [("txt".to_owned(), "text/plain".to_owned(), 3, Sha256::of(b"abc"))];
        let text = render("r/1", metadata.as_object().unwrap(), Some("https://l"), &files);
        let value: Value = serde_json::from_slice(&text).unwrap();
        insta::assert_json_snapshot!(value);
        let own = json!({"license": "https://own"});
        let value: Value =
            serde_json::from_slice(&render("r", own.as_object().unwrap(), Some("https://l"), &[])).unwrap();
        assert_eq!(value["license"], "https://own");
    }
}
