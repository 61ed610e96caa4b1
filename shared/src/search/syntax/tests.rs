//! How queries are read, and where mistakes in them are shown.

use proptest::prelude::*;

use super::*;

fn tree(query: &str) -> String {
    format!("{:?}", parse(query).unwrap())
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
fn terms_are_those_of_tantivy() {
    assert_eq!(tree("title:\"a b\"~2"), "\"title\":\"a b\"~2");
    assert_eq!(tree("title:(a OR \"b c\" *)"), "(?\"title\":a ?(+\"title\":\"b c\" +$exists(\"title\")))");
    assert_eq!(tree("issued: [ 2018 TO * ]"), "\"issued\":[\"2018\" TO \"*\"}");
    assert_eq!(tree("issued:>= 2019-01-01T00:00:00Z"), "\"issued\":[\"2019-01-01T00:00:00Z\" TO \"*\"}");
    assert_eq!(tree("format: IN [ txt \"a b\" ]"), "\"format\": IN [\"txt\" \"a b\"]");
    assert_eq!(tree("a^2.5 (b c)^3"), "(+(a)^2.5 +((+b +c))^3)");
    assert_eq!(tree("don't O\\'Brien"), "(+don't +O'Brien)");
    assert_eq!(tree("“a\u{a0}b”"), "\"a b\"");
    assert_eq!(tree("*"), "*");
    assert_eq!(tree("10\\:15 a\\(b"), "(+10:15 +a(b)");
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
        ("x IN", 2),
        ("a:b:c", 3),
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
    assert_eq!(mistake(&"-".repeat(8000)), 1);
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
