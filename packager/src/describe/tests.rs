//! The texts as a whole: their shapes, that they parse, and that no text makes markup of what a collection says.

use adit_shared::domain::Tdm;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn about() -> About {
    About {
        collection: "jose".into(),
        name: "Journal of Open Source Education".into(),
        description:
            "Papers of the Journal of Open Source Education: published PDF, plain text, JATS XML where there is one."
                .into(),
        license: Some("https://creativecommons.org/licenses/by/4.0/".into()),
        tdm: None,
        url: "https://example.org/api".into(),
        date: "2026-08-30".into(),
    }
}

fn summary(format: &str, documents: u64, bytes: u64, media_types: &[&str]) -> FormatSummary {
    let media_types = media_types.iter().map(|media_type| (*media_type).to_owned()).collect();
    FormatSummary { format: format.parse().unwrap(), documents, bytes, media_types }
}

fn bag() -> Description {
    Description {
        package: Sha256([0xab; 32]),
        docset: Sha256([0x12; 32]),
        layout: "bag",
        about: about(),
        documents: Documents { requested: 75, included: 74, omitted: 1, ..Documents::default() },
        marked: false,
        formats: vec![
            summary("meta", 74, 61_234, &["application/ld+json"]),
            summary("txt", 73, 2_345_678, &["text/plain; charset=us-ascii", "text/plain; charset=utf-8"]),
            summary("xml", 0, 0, &[]),
        ],
        payload: Payload { files: 147, bytes: 2_406_912 },
        table: None,
    }
}

fn table(rows: Rows, extension: &str, media_type: &str) -> Description {
    let (txt, pdf) = ("txt".parse().unwrap(), "pdf".parse().unwrap());
    let shards = (1..=2_u8).map(|n| Shard {
        path: format!("data/data-{n:05}-of-00002.{extension}"),
        size: 1000 + u64::from(n),
        sha256: Sha256([n; 32]),
        media_type: media_type.into(),
    });
    let table = Table {
        rows,
        columns: vec![
            Column::new("id", ColumnKind::Integer, None),
            Column::new("creator", ColumnKind::Texts, None),
            Column::new("metadata", ColumnKind::Object, None),
            Column::new("text", ColumnKind::Text, Some(&txt)),
            Column::new("text_sha256", ColumnKind::Text, Some(&txt)),
            Column::new("text_bytes", ColumnKind::Bytes, Some(&txt)),
            Column::new("pdf", ColumnKind::Bytes, Some(&pdf)),
        ],
        shards: shards.collect(),
    };
    let layout = if rows == Rows::Parquet { "parquet" } else { "jsonl" };
    Description { layout, payload: Payload { files: 2, bytes: 2003 }, table: Some(table), ..bag() }
}

fn parquet() -> Description {
    table(Rows::Parquet, "parquet", "application/vnd.apache.parquet")
}

fn jsonl() -> Description {
    table(Rows::JsonLines, "jsonl.zst", "application/zstd")
}

fn awkward() -> Description {
    let mut description = bag();
    description.about.name = "*Über* | <b>[x](y)</b>: \"C:\\\" # שלום 🦀".into();
    description.about.description =
        "# No heading\r\n- no list\n\n\u{2028}1. no list\t| no cell\u{85}end\u{0}: 'x' & \"y\"".into();
    description.about.license = Some("Ask <the library>,\n\"first\"".into());
    description.documents = Documents { requested: 1, included: 1, ..Documents::default() };
    description
}

/// What was withheld of it, and what is said of mining.
fn withheld() -> Description {
    let policy = Some("https://example.org/tdm-policy.json".to_owned());
    let mut description = bag();
    description.about.tdm = Some(Tdm { reservation: true, policy });
    description.documents = Documents { requested: 80, included: 74, omitted: 6, rights: 3, withdrawn: 2 };
    description.marked = true;
    description
}

fn show(description: &Description) -> String {
    let text = |(name, text): (&str, Vec<u8>)| format!("===== {name}\n{}\n", String::from_utf8(text).unwrap());
    texts(description).into_iter().map(text).collect()
}

fn json(description: &Description, name: &str) -> Value {
    let texts = texts(description);
    let (_, text) = texts.iter().find(|(found, _)| *found == name).unwrap();
    serde_json::from_slice(text).unwrap()
}

#[test]
fn a_bag_describes_itself() {
    insta::assert_snapshot!(show(&bag()));
}

#[test]
fn a_parquet_package_describes_itself() {
    insta::assert_snapshot!(show(&parquet()));
}

#[test]
fn a_json_lines_package_describes_itself() {
    insta::assert_snapshot!(show(&jsonl()));
}

#[test]
fn awkward_words_of_a_collection_are_no_markup() {
    insta::assert_snapshot!(show(&awkward()));
}

#[test]
fn a_bag_tells_what_was_withheld_and_what_is_said_of_mining() {
    let (open, withheld) = (show(&bag()), show(&withheld()));
    let new = withheld.lines().filter(|line| !open.lines().any(|old| old == *line));
    insta::assert_snapshot!(new.collect::<Vec<_>>().join("\n"));
}

#[test]
fn lengths_do_not_depend_on_digests() {
    for description in [bag(), parquet(), jsonl(), awkward(), withheld()] {
        let mut other = description.clone();
        (other.package, other.docset) = (Sha256([0; 32]), Sha256([0xff; 32]));
        for shard in other.table.iter_mut().flat_map(|table| &mut table.shards) {
            shard.sha256 = Sha256([0x99; 32]);
        }
        let lengths = |of| texts(of).into_iter().map(|(name, text)| (name, text.len())).collect::<Vec<_>>();
        assert_eq!(lengths(&description), lengths(&other));
    }
}

#[test]
fn every_entity_of_the_crate_is_reachable_from_its_root() {
    for description in [bag(), parquet(), withheld()] {
        let crate_json = json(&description, RO_CRATE);
        let graph = crate_json["@graph"].as_array().unwrap();
        let node =
            |id: &str| graph.iter().find(|node| node["@id"] == id).unwrap_or_else(|| panic!("{id} is not described"));
        let mut seen = vec![RO_CRATE.to_owned()];
        let mut at = 0;
        while let Some(id) = seen.get(at).cloned() {
            let members = node(&id).as_object().unwrap().iter().filter(|(name, _)| *name != "conformsTo");
            let values =
                members.flat_map(|(_, value)| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]));
            let references = values.filter_map(|value| Some(value.get("@id")?.as_str()?.to_owned()));
            for reference in references {
                if !seen.contains(&reference) {
                    seen.push(reference);
                }
            }
            at += 1;
        }
        assert_eq!(seen.len(), graph.len());
    }
}

proptest! {
    #[test]
    fn whatever_a_collection_says_comes_back(
        name in any::<String>(), description in any::<String>(), license in prop::option::of(any::<String>()),
    ) {
        let mut of = bag();
        of.about = About { name: name.clone(), description: description.clone(), license, ..about() };
        let (crate_json, croissant) = (json(&of, RO_CRATE), json(&of, CROISSANT));
        let title = of.title();
        prop_assert!(title.starts_with(&name));
        prop_assert_eq!(crate_json["@graph"][1]["name"].as_str(), Some(title.as_str()));
        prop_assert_eq!(croissant["name"].as_str(), Some(title.as_str()));
        let citation: Value = yaml_serde::from_slice(&texts(&of)[3].1).unwrap();
        prop_assert_eq!(citation["title"].as_str(), Some(title.as_str()));
        prop_assert!(citation["abstract"].as_str().unwrap().starts_with(description.trim()));
        prop_assert_eq!(citation["authors"][0]["name"].as_str(), Some(name.as_str()));
        for (name, text) in texts(&of) {
            prop_assert!(text.ends_with(b"\n") && !text.ends_with(b"\n\n"), "{}", name);
        }
    }
}
