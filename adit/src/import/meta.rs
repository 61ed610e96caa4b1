//! Renders a document's metadata as JSON-LD, to be stored like any other file.

use adit_shared::digest::Sha256;
use adit_shared::domain::{ACCESS_RIGHTS, Access, TDM_POLICY, TDM_RESERVATION};
use adit_shared::store::NewCollection;
use serde_json::{Map, Value, json};

/// Media type of the rendered metadata.
pub(crate) const MEDIA_TYPE: &str = "application/ld+json";

/// The JSON-LD of a document: its Dublin Core terms in the vocabulary of DCMI Metadata Terms, its ref, the licence, access level and terms of mining
/// that hold (its own, else its collection's, where that names any), and its files with their hashes. Members are sorted, so equal metadata gives equal bytes.
pub(crate) fn render(
    r#ref: &str,
    metadata: &Map<String, Value>,
    collection: &NewCollection,
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
    if let Some(license) = collection.license.as_ref().filter(|_| !metadata.contains_key("license")) {
        node.insert("license".into(), json!(license));
    }
    add_terms(&mut node, collection);
    let file = |(name, media_type, bytes, sha256): &(String, String, u64, Sha256)| json!({"title": name, "media_type": media_type, "bytes": bytes, "sha256": sha256});
    node.insert("files".into(), files.iter().map(file).collect());
    let mut text = Value::Object(node).to_string().into_bytes();
    text.push(b'\n');
    text
}

/// Adds what the collection says of access and mining and the document does not. Nothing is added where nothing is said, so that most documents'
/// metadata, by which versions are told apart, is what it was before there were these terms.
fn add_terms(node: &mut Map<String, Value>, collection: &NewCollection) {
    let silent = |node: &Map<String, Value>, term| node.get(term).is_none_or(Value::is_null);
    if collection.access != Access::Open && silent(node, ACCESS_RIGHTS) {
        node.insert(ACCESS_RIGHTS.into(), json!(collection.access));
    }
    if let Some(tdm) = collection.tdm.as_ref().filter(|_| silent(node, TDM_RESERVATION)) {
        node.insert(TDM_RESERVATION.into(), json!(u8::from(tdm.reservation)));
        node.extend(tdm.policy.as_ref().map(|policy| (TDM_POLICY.into(), json!(policy))));
    }
    let given: Vec<&str> = [TDM_RESERVATION, TDM_POLICY].into_iter().filter(|term| !silent(node, term)).collect();
    if let Some(Value::Object(context)) = node.get_mut("@context") {
        for term in given {
            let kind = if term == TDM_POLICY {
                json!({"@id": "http://www.w3.org/ns/tdmrep#policy", "@type": "@id"})
            } else {
                json!("http://www.w3.org/ns/tdmrep#reservation")
            };
            context.insert(term.into(), kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use adit_shared::domain::Tdm;

    use super::*;

    #[test]
    fn metadata_is_rendered_with_licence_and_files() {
        let metadata = json!({"title": "T", "identifier": "https://doi.org/10.1/x", "creator": ["A"]});
        let files = [("txt".to_owned(), "text/plain".to_owned(), 3, Sha256::of(b"abc"))];
        let collection = NewCollection { license: Some("https://l".to_owned()), ..NewCollection::default() };
        let text = render("r/1", metadata.as_object().unwrap(), &collection, &files);
        let value: Value = serde_json::from_slice(&text).unwrap();
        insta::assert_json_snapshot!(value);
        let own = json!({"license": "https://own"});
        let value: Value = serde_json::from_slice(&render("r", own.as_object().unwrap(), &collection, &[])).unwrap();
        assert_eq!(value["license"], "https://own");
    }

    #[test]
    fn access_and_terms_of_mining_are_those_of_the_collection_where_a_document_has_none() {
        let policy = Some("https://example.org/policy.json".to_owned());
        let collection = NewCollection {
            access: "restricted:press".parse().unwrap(),
            tdm: Some(Tdm { reservation: true, policy }),
            ..NewCollection::default()
        };
        let rendered = |metadata: Value| -> Value {
            serde_json::from_slice(&render("r", metadata.as_object().unwrap(), &collection, &[])).unwrap()
        };
        let silent = rendered(json!({"title": "T"}));
        assert_eq!((&silent["accessRights"], &silent["tdmReservation"]), (&json!("restricted:press"), &json!(1)));
        assert_eq!(silent["tdmPolicy"], "https://example.org/policy.json");
        assert_eq!(silent["@context"]["tdmReservation"], "http://www.w3.org/ns/tdmrep#reservation");
        let own = rendered(json!({"accessRights": "open", "tdmReservation": 0}));
        assert_eq!((&own["accessRights"], &own["tdmReservation"]), (&json!("open"), &json!(0)));
        assert!(own.get("tdmPolicy").is_none(), "a policy goes with the reservation that it is of");
    }
}
