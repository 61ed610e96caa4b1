use proptest::prelude::*;

use super::*;
use crate::domain::{Compression, MIN_SHARD_BYTES};

fn request(text: &str) -> PackageRequest {
    text.parse().unwrap()
}

fn status(text: &str) -> StatusMessage {
    text.parse().unwrap()
}

#[test]
fn a_request_is_the_docsets_url_with_what_is_wanted() {
    let asked = request("http://server/api/docsets/5?fmt=meta,txt&layout=bag&package=7");
    assert_eq!(asked.docset.as_str(), "http://server/api/docsets/5");
    assert_eq!(asked.recipe.formats, [Format::meta(), "txt".parse().unwrap()]);
    assert_eq!(
        (asked.recipe.layout, asked.package, asked.docset_id()),
        (Layout::Bag, Some(PackageId(7).into()), Some(DocsetId(5)))
    );
    assert_eq!(asked.to_string(), "http://server/api/docsets/5?fmt=meta,txt&layout=bag&package=7");
}

#[test]
fn a_salt_goes_with_the_package_and_no_other_way() {
    let package = SaltedPackage { id: PackageId(7), salt: Some(Salt(0xc0_ffee)) };
    let text = "http://server/api/docsets/5?fmt=txt&package=7&salt=0000000000c0ffee";
    let asked = request(text);
    assert_eq!((asked.package, asked.docset.as_str()), (Some(package), "http://server/api/docsets/5"));
    assert_eq!(asked.to_string(), text);
    assert_eq!(request("http://server/api/docsets/5?salt=0000000000c0ffee").package, None);
    let error = "http://h/5?package=7&salt=7".parse::<PackageRequest>().unwrap_err().to_string();
    assert_eq!(error, r#"expected salt=<16 hexadecimal digits>, found "salt=7""#);
    let delete = DeleteRequest { package };
    assert_eq!(delete.to_string(), "Delete: 7\nSalt: 0000000000c0ffee");
    assert_eq!(delete.to_string().parse(), Ok(delete));
    assert!("Delete: 7\nSalt: none".parse::<DeleteRequest>().is_err(), "another package would be deleted");
}

#[test]
fn a_request_of_a_third_party_is_read_leniently() {
    let plain = request("  https://h/x/docsets/12/ \r\nwhatever: else\r\n");
    assert_eq!(
        (plain.recipe.formats.len(), plain.recipe.formats[0].as_str(), plain.recipe.layout),
        (1, "txt", Layout::Flat)
    );
    assert_eq!((plain.package, plain.docset_id()), (None, Some(DocsetId(12))));
    let other = request("http://h/docsets/a?key=a%26b&fmts=txt%2Cpdf,txt#top");
    assert_eq!(other.to_string(), "http://h/docsets/a?key=a%26b&fmt=pdf,txt");
    assert_eq!(other.docset_id(), None);
}

#[test]
fn a_request_that_makes_no_sense_says_what_was_expected() {
    let error = |text: &str| text.parse::<PackageRequest>().unwrap_err().to_string();
    assert_eq!(error(""), r#"expected the http or https URL of a docset, found """#);
    assert_eq!(
        error("file:///etc/passwd"),
        r#"expected the http or https URL of a docset, found "file:///etc/passwd""#
    );
    assert_eq!(error("http://h/5?fmt="), r#"expected fmt=<formats with commas between>, found """#);
    assert_eq!(error("http://h/5?layout=zip"), r#"expected layout=<name of a layout>, found "layout=zip""#);
    assert_eq!(error("http://h/5?package=x"), r#"expected package=<number>, found "package=x""#);
}

#[test]
fn statuses_read_as_the_documents_show_them() {
    let hex = "ab".repeat(32);
    let complete = Complete {
        url: "s3://b/p/5.zip".into(),
        size: Some(9),
        sha256: Some(hex.parse().unwrap()),
        documents: Some(3),
        omitted: Some(1),
        parts_reused: Some(2),
    };
    for (text, message) in [
        ("Accepted. 45 seconds".to_owned(), StatusMessage::Accepted { seconds: Some(45) }),
        ("Accepted.".to_owned(), StatusMessage::Accepted { seconds: None }),
        (
            "Progress: 40%\nDocuments: 400/1000\nBytes: 1048576/2621440".to_owned(),
            StatusMessage::Progress { percent: 40, documents: Some((400, 1000)), bytes: Some((1_048_576, 2_621_440)) },
        ),
        (
            format!("Complete: s3://b/p/5.zip\nSize: 9\nSHA-256: {hex}\nDocuments: 3\nOmitted: 1\nParts-Reused: 2"),
            StatusMessage::Complete(complete),
        ),
        ("Failed: jose.1: no text".to_owned(), StatusMessage::Failed { reason: "jose.1: no text".into() }),
        ("Dismissed".to_owned(), StatusMessage::Dismissed),
    ] {
        assert_eq!(message.to_string(), text);
        assert_eq!(status(&text), message);
    }
}

#[test]
fn a_third_partys_packager_may_be_brief_and_careless() {
    assert_eq!(status("Accepted"), StatusMessage::Accepted { seconds: None });
    assert_eq!(status("Accepted. Thanks\r\n"), StatusMessage::Accepted { seconds: None });
    assert_eq!(
        status("\nProgress: 7 %  \r\nMood: good\r\n"),
        StatusMessage::Progress { percent: 7, documents: None, bytes: None }
    );
    let brief = status("Complete: http://x/a.zip\r\nSize: 12 \r\n");
    let complete = Complete { url: "http://x/a.zip".into(), size: Some(12), ..Complete::default() };
    assert_eq!(brief, StatusMessage::Complete(complete));
    assert_eq!(status("Dismissed.\n"), StatusMessage::Dismissed);
}

#[test]
fn statuses_that_make_no_sense_are_errors_not_guesses() {
    for bad in [
        "",
        "Done",
        "Complete:",
        "Complete: u\nSize: big",
        "Complete: u\nSHA-256: 12",
        "Progress: 101%",
        "Progress: -1%",
    ] {
        assert!(bad.parse::<StatusMessage>().is_err(), "{bad}");
    }
    let error = "Complete: u\nSize: 12 MB".parse::<StatusMessage>().unwrap_err();
    assert_eq!(error.to_string(), r#"expected Size: <bytes>, found "12 MB""#);
}

#[test]
fn a_reason_cannot_add_lines() {
    let forged = StatusMessage::Failed { reason: "no\r\n\nSize: 5 ".into() };
    assert_eq!(forged.to_string(), "Failed: no Size: 5");
}

#[test]
fn a_delete_names_its_package() {
    assert_eq!("Delete: 7\r\n".parse(), Ok(DeleteRequest { package: PackageId(7).into() }));
    assert_eq!(DeleteRequest { package: PackageId(7).into() }.to_string(), "Delete: 7");
    assert!("Delete: all".parse::<DeleteRequest>().is_err());
}

fn statuses() -> impl Strategy<Value = StatusMessage> {
    let text = r"[!-~é]([ -~é]{0,30}[!-~é])?";
    let number = || proptest::option::of(any::<u64>());
    let pair = || proptest::option::of(any::<(u64, u64)>());
    let sha256 = proptest::option::of(any::<[u8; 32]>().prop_map(Sha256));
    prop_oneof![
        number().prop_map(|seconds| StatusMessage::Accepted { seconds }),
        (0..=100_u8, pair(), pair()).prop_map(|(percent, documents, bytes)| StatusMessage::Progress {
            percent,
            documents,
            bytes
        }),
        (text, number(), sha256, number(), number(), proptest::option::of(any::<u32>())).prop_map(
            |(url, size, sha256, documents, omitted, parts_reused)| {
                StatusMessage::Complete(Complete { url, size, sha256, documents, omitted, parts_reused })
            }
        ),
        text.prop_map(|reason| StatusMessage::Failed { reason }),
        Just(StatusMessage::Dismissed),
    ]
}

fn options() -> impl Strategy<Value = Options> {
    let compression = proptest::option::weighted(
        0.3,
        prop::sample::select(vec![Compression::None, Compression::Gzip, Compression::Zstd]),
    );
    let shard_bytes = proptest::option::weighted(0.3, MIN_SHARD_BYTES..);
    let delta_from = proptest::option::weighted(0.2, any::<i64>().prop_map(DocsetId));
    (compression, shard_bytes, proptest::bool::weighted(0.2), delta_from).prop_map(
        |(compression, shard_bytes, dehydrated, delta_from)| Options {
            compression,
            shard_bytes,
            dehydrated,
            delta_from,
        },
    )
}

proptest! {
    #[test]
    fn statuses_survive_their_text(message in statuses()) {
        prop_assert_eq!(message.to_string().parse(), Ok(message));
    }

    #[test]
    fn requests_survive_their_text(
        id in 0..i64::MAX,
        names in prop::collection::btree_set("[a-z0-9]{1,16}", 1..5),
        layout in prop::sample::select(&Layout::ALL[..]),
        options in options(),
        package in proptest::option::of((0..i64::MAX, proptest::option::of(any::<u64>().prop_map(Salt)))),
        query in proptest::option::of("[a-e]=[a-z%+]{0,8}(&x=[0-9]{1,3})?"),
    ) {
        let mut docset = Url::parse(&format!("https://adit.example/api/docsets/{id}")).unwrap();
        docset.set_query(query.as_deref());
        let formats = names.iter().map(|name| name.parse().unwrap()).collect();
        let recipe = Recipe { options, ..Recipe::new(formats, layout) };
        prop_assume!(recipe.check().is_ok());
        let package = package.map(|(id, salt)| SaltedPackage { id: PackageId(id), salt });
        let request = PackageRequest { docset, recipe, package };
        prop_assert_eq!(request.docset_id(), Some(DocsetId(id)));
        prop_assert_eq!(request.to_string().parse(), Ok(request));
    }

    #[test]
    fn any_text_is_answered_and_what_is_read_survives(
        text in r"((Accepted|Progress|Complete|Failed|Dismissed|Delete|http://h/)?[:. ?]{0,2}.{0,20}\r?\n?){0,3}|.{0,80}",
    ) {
        if let Ok(message) = text.parse::<StatusMessage>() {
            let again = message.to_string().parse::<StatusMessage>().unwrap();
            prop_assert_eq!(again, message);
        }
        if let Ok(request) = text.parse::<PackageRequest>() {
            prop_assert_eq!(request.to_string().parse(), Ok(request));
        }
        let _: Result<DeleteRequest, _> = text.parse();
    }
}
