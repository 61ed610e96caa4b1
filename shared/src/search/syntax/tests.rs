//! How queries are read, and where mistakes in them are shown.

use proptest::prelude::*;

use super::super::{Bound, FieldRef, Fields, Fuzziness};
use super::*;

/// The tree as a text: `+` must, `?` should, `-` must not.
fn show(query: &Query) -> String {
    let list = |sign: &str, queries: &[Query]| queries.iter().map(|query| format!("{sign}{}", show(query))).collect();
    match query {
        Query::All => "*".to_owned(),
        Query::Phrase(phrase) => {
            let slop = if phrase.slop > 0 { format!("~{}", phrase.slop) } else { String::new() };
            format!("{}{:?}{slop}", place(&phrase.fields), phrase.text)
        }
        Query::Words(words) => {
            let like = match words.fuzziness {
                Fuzziness::Exactly => String::new(),
                Fuzziness::Auto => "~".to_owned(),
                Fuzziness::Edits(edits) => format!("~{edits}"),
            };
            format!("{}{}{like}", place(&words.fields), words.text)
        }
        Query::Prefix(prefix) => format!("{}{}*", place(&prefix.fields), prefix.text),
        Query::OneOf(one_of) => format!("{}:IN{:?}", one_of.field.name, one_of.values),
        Query::Exists(field) => format!("{field}:*"),
        Query::Range(range) => {
            let end = |bound: &Bound| match bound {
                Bound::Open => "*".to_owned(),
                Bound::Included(value) => format!("={value}"),
                Bound::Excluded(value) => value.clone(),
            };
            format!("{}:{}..{}", range.field, end(&range.lower), end(&range.upper))
        }
        Query::Boosted(inner, boost) => format!("{}^{boost}", show(inner)),
        Query::AskedBy(inner, _) => show(inner),
        Query::Bool(clauses) => {
            let parts = [list("+", &clauses.must), list("?", &clauses.should), list("-", &clauses.must_not)];
            let parts: Vec<String> = parts.into_iter().flat_map(|part: Vec<String>| part).collect();
            format!("({})", parts.join(" "))
        }
    }
}

fn place(fields: &Fields) -> String {
    let name = |field: &FieldRef| if field.exact { format!("{}=", field.name) } else { format!("{}:", field.name) };
    match fields {
        Fields::Default { exact } => if *exact { "=" } else { "" }.to_owned(),
        Fields::These(fields) => fields.iter().map(name).collect(),
    }
}

fn tree(query: &str) -> String {
    show(&parse(query).unwrap()).replace('"', "")
}

fn mistake(query: &str) -> usize {
    match parse(query) {
        Err(SearchError::Syntax { position, .. }) => position,
        other => panic!("{query}: {other:?}"),
    }
}

#[test]
fn words_side_by_side_are_joined_by_and_which_binds_tighter_than_or() {
    assert_eq!(tree("a b c"), "(+a +b +c)");
    assert_eq!(tree("a b OR c d"), "(?(+a +b) ?(+c +d))");
    assert_eq!(tree("a OR b c OR d"), "(?a ?(+b +c) ?d)");
    assert_eq!(tree("a OR b AND c"), tree("a OR b c"));
    assert_eq!(tree("(a OR b) c"), "(+(?a ?b) +c)");
    assert_eq!(tree("a and b"), "(+a +and +b)");
}

#[test]
fn signs_and_not_stand_before_any_operand() {
    assert_eq!(tree("a -b NOT c"), "(+a -b -c)");
    assert_eq!(tree("NOT (a OR b)"), "(-(?a ?b))");
    assert_eq!(tree("NOT NOT a"), "a");
    assert_eq!(tree("a OR -b"), "(?a ?(-b))");
    assert_eq!(tree("+a OR b"), "(+a ?b)");
    assert_eq!(tree("NOT(a)NOT(b)"), "(-a -b)");
    assert_eq!(tree("well-known"), "well-known");
}

#[test]
fn terms_are_read_with_all_that_stands_on_them() {
    for (query, read) in [
        ("title:\"a b\"~2", "title:a b~2"),
        ("title:(a OR \"b c\" *)", "(?title:a ?(+title:b c +title:*))"),
        ("issued: [ 2018 TO * ]", "issued:=2018..*"),
        ("issued:{2018-01 TO \"2019-01-01T00:00:00Z\"}", "issued:2018-01..2019-01-01T00:00:00Z"),
        ("issued:>= 2019-01-01T00:00:00Z", "issued:=2019-01-01T00:00:00Z..*"),
        ("issued:<2019 issued:>1990", "(+issued:*..2019 +issued:1990..*)"),
        ("format: IN [ txt \"a b\" c\\] ]", "format:IN[txt, a b, c]]"),
        ("a^2.5 (b c)^3", "(+a^2.5 +(+b +c)^3)"),
        ("don't O\\'Brien", "(+don't +O'Brien)"),
        ("“a\u{a0}b”", "a b"),
        ("* -title:*", "(+* -title:*)"),
        ("10\\:15 a\\(b a\\*", "(+10:15 +a(b +a*)"),
        ("min* title:a\\~b*", "(+min* +title:a~b*)"),
        ("mining~ mining~1 title:mining~2^2", "(+mining~ +mining~1 +title:mining~2^2)"),
        ("a~b ~ ~1", "(+a~b +~ +~1)"),
        ("=mining =\"a b\"~1 title:=x title.exact:y", "(+=mining +=a b~1 +title=x +title=y)"),
        ("a=b =a*", "(+a=b +=a*)"),
    ] {
        assert_eq!(tree(query), read, "{query}");
    }
}

#[test]
fn mistakes_are_shown_where_they_are() {
    for (query, position) in [
        ("", 0),
        ("   ", 0),
        ("é OR", 4),
        ("OR a", 0),
        ("a AND AND b", 6),
        ("a (b OR c", 2),
        ("a)", 1),
        ("()", 1),
        ("a title:", 8),
        ("a title: ", 8),
        ("ünter \"b c", 6),
        ("\"a\"b", 3),
        ("\"a b\"*", 5),
        ("a - b", 2),
        ("a\\", 1),
        ("http://x:y", 8),
        ("a [1 TO 2]", 2),
        ("issued:[1 2]", 7),
        ("issued:[1 TO 2", 7),
        ("issued:>", 8),
        ("a^b", 1),
        ("a^1e9", 3),
        ("a^99999", 1),
        ("a:b:c", 3),
        ("é\0b", 1),
        ("py*on", 2),
        ("a *on", 2),
        ("ab**", 2),
        ("word~3", 4),
        ("\"a b\"~", 5),
        ("a = b", 3),
        ("=(a b)", 1),
        ("=title:a", 6),
        ("issued:=>2018", 8),
        ("issued:IN []", 10),
        ("issued:[2018 TO 2019 2020]", 7),
        ("title:/py.y/", 6),
    ] {
        assert_eq!(mistake(query), position, "{query}");
    }
}

#[test]
fn hostile_queries_are_refused_at_once() {
    assert_eq!(mistake(&"(".repeat(8000)), MAX_DEPTH);
    assert_eq!(mistake(&"a:(".repeat(2000)), 3 * MAX_DEPTH + 2);
    assert_eq!(mistake(&"é".repeat(100_000)), MAX_BYTES / 2);
    assert_eq!(mistake(&format!("{}a{}", "(".repeat(33), ")".repeat(33))), MAX_DEPTH);
    assert!(parse(&format!("{}a{}", "(".repeat(32), ")".repeat(32))).is_ok());
    assert!(parse(&"NOT ".repeat(2000)).is_err());
    assert!(parse(&"-".repeat(8000)).is_ok());
    assert!(parse(&"a ".repeat(4000)).is_ok());
}

proptest! {
    #[test]
    fn any_text_gives_a_tree_or_a_positioned_error(
        query in r#"\PC{0,60}|([ab"'()\[\]{}:^~*+\\/<>=-]|AND |OR |NOT |IN | TO |title:|[0-9]){0,40}"#,
    ) {
        if let Err(SearchError::Syntax { position, .. }) = parse(&query) {
            prop_assert!(position <= query.chars().count());
        }
    }
}
