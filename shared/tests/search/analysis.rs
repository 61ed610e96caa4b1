//! Collections that name a language: stems, exact forms, similar words, and what becomes of indexes of another kind.

use adit_shared::objects::ObjectKey;
use adit_shared::search::{Fields, Fuzziness, IndexPlan, Language, Need, Phrase, Query, Search, SearchError, Words};
use serde_json::json;

use crate::corpus::{Bench, COLLECTION, Paper, add, ids_in, index, paper, plan};

fn texts(texts: &[&str]) -> Vec<Paper> {
    (1..).zip(texts).map(|(id, text)| paper(id, "x", json!({"title": ["Die erste", "Zweite"]}), &[], text)).collect()
}

async fn with(language: Option<Language>, texts: &[Paper]) -> Bench {
    let bench = Bench::empty().await;
    let mut build = bench.search.build(IndexPlan { language, ..plan(index(0), 1) }).await.unwrap();
    add(&mut *build, texts, &[]).await;
    build.finish().await.unwrap();
    assert_eq!(bench.search.language(index(1)).await.unwrap(), language);
    bench
}

#[tokio::test]
async fn words_find_their_other_forms_and_exact_ones_only_themselves() {
    let english = texts(&["Mining of texts", "The Miners mined", "A mine; textual", "minéral"]);
    let german = texts(&["Die Häuser der Straße", "Ein Haus", "STRASSEN und Wege", "Müller"]);
    let french = texts(&["L’étude publiée", "des ÉTUDES", "publier étudiant", "etude"]);
    for (language, papers, queries) in [
        (
            Language::En,
            english,
            vec![
                ("mining", vec![1, 2, 3]),
                ("mined", vec![1, 2, 3]),
                ("=mining", vec![1]),
                ("=MINED", vec![2]),
                ("text:=mine", vec![3]),
                ("text.exact:mine", vec![3]),
                ("\"mine of text\"", vec![1]),
                ("=\"mining of texts\"", vec![1]),
                ("=\"mining of text\"", vec![]),
                ("\"text mining\"~2", vec![]),
                ("\"text mining\"~3", vec![1]),
                ("=\"texts mining\"~3", vec![1]),
                // Prefixes and similar words look at the words as they are written.
                ("mini*", vec![1]),
                ("min*", vec![1, 2, 3, 4]),
                ("minng~", vec![1]),
                ("minng~1", vec![1]),
                ("mineral~1", vec![4]),
                ("-mine", vec![4]),
            ],
        ),
        (
            Language::De,
            german,
            vec![
                ("haus", vec![1, 2]),
                ("Hauser", vec![1, 2]),
                ("strasse", vec![1, 3]),
                ("=straße", vec![1]),
                ("muller", vec![4]),
            ],
        ),
        (
            Language::Fr,
            french,
            vec![("études", vec![1, 2, 4]), ("etude", vec![1, 2, 4]), ("publié", vec![1, 3]), ("=etudes", vec![2])],
        ),
    ] {
        let bench = with(Some(language), &papers).await;
        for (query, expected) in queries {
            assert_eq!(bench.ids(query).await, expected, "{language}: {query}");
        }
    }
}

#[tokio::test]
async fn chinese_and_japanese_are_cut_by_a_dictionary_where_the_collection_says_so() {
    let papers = texts(&["土壤水分研究", "水土流失和壤土", "機械学習の基礎", "学機械習"]);
    let plain = with(None, &papers).await;
    assert_eq!(plain.ids("土壤").await, [1]);
    assert_eq!(plain.ids("机 OR 機械学習").await, [3]);
    assert_eq!(plain.ids("学習機").await, [0; 0]);
    let chinese = with(Some(Language::Zh), &papers).await;
    assert_eq!(chinese.ids("土壤").await, [1]);
    assert_eq!(chinese.ids("土").await, [0; 0]);
    assert_eq!(chinese.ids("=土").await, [1, 2]);
    assert_eq!(chinese.ids("研究 水分").await, [1]);
    let japanese = with(Some(Language::Ja), &papers).await;
    assert_eq!(japanese.ids("機械学習").await, [3]);
    assert_eq!(japanese.ids("基礎 学習").await, [3]);
}

#[tokio::test]
async fn phrases_stay_within_a_value_and_end_with_beginnings() {
    let bench = with(Some(Language::En), &texts(&["open pit mining", "pit of mines", "opens the mine pits"])).await;
    let phrase = |text: &str, slop, last_is_prefix| {
        Query::Phrase(Phrase { text: text.to_owned(), fields: Fields::of(None), slop, last_is_prefix })
    };
    let found = async |query: Query| -> Result<Vec<u32>, SearchError> {
        Ok(bench.search.matching(index(1), &query).await?.iter().collect())
    };
    assert_eq!(found(phrase("erste zweite", 0, false)).await.unwrap(), [0; 0]);
    assert_eq!(found(phrase("erste zweite", 50, false)).await.unwrap(), [0; 0]);
    assert_eq!(found(phrase("die erste", 0, false)).await.unwrap(), [1, 2, 3]);
    assert_eq!(found(phrase("open pit mi", 0, true)).await.unwrap(), [1]);
    assert_eq!(found(phrase("open mi", 0, true)).await.unwrap(), [0; 0]);
    assert_eq!(found(phrase("open mi", 1, true)).await.unwrap(), [1]);
    assert_eq!(found(phrase("pit mi", 1, true)).await.unwrap(), [1, 2]);
    assert_eq!(found(phrase("mine pi", 50, true)).await.unwrap(), [3]);
    assert_eq!(found(phrase("mi", 0, true)).await.unwrap(), [1, 2, 3]);
    assert_eq!(found(phrase("pit pits", 0, false)).await.unwrap(), [0; 0]);
    assert!(matches!(found(phrase("a", 0, true)).await, Err(SearchError::Unsupported(_))));
}

#[tokio::test]
async fn as_many_words_as_are_needed() {
    let papers = [
        paper(1, "a b", json!({"title": "alpha", "abstract": "beta", "type": "alpha beta"}), &[], ""),
        paper(2, "b", json!({"title": "alpha beta"}), &[], ""),
        paper(3, "c", json!({"title": "alpha", "issued": "2020"}), &[], ""),
    ];
    let bench = with(None, &papers).await;
    let words = |text: &str, names: &[&str], need, across, fuzziness| {
        let fields = Fields::These(names.iter().map(|name| adit_shared::search::FieldRef::named(name)).collect());
        Query::Words(Words { text: text.to_owned(), fields, need, across, fuzziness })
    };
    let (both, exactly) = (&["title", "abstract"][..], Fuzziness::Exactly);
    for (query, expected) in [
        (words("alpha beta", both, Need::All, false, exactly), vec![2]),
        (words("alpha beta", both, Need::All, true, exactly), vec![1, 2]),
        (words("beta gamma", both, Need::Any, false, exactly), vec![1, 2]),
        (words("alpha beta gamma", both, Need::Count(2), false, exactly), vec![2]),
        (words("alpha beta gamma", both, Need::Count(-1), true, exactly), vec![1, 2]),
        (words("alpha beta gamma", both, Need::Percent(40), true, exactly), vec![1, 2, 3]),
        (words("alpha alpha gamma", both, Need::Count(2), false, exactly), vec![1, 2, 3]),
        (words("gamma", both, Need::Count(-5), false, exactly), vec![]),
        (words("alpa btea", both, Need::All, true, Fuzziness::Auto), vec![1, 2]),
        (words("Alpha Beta", &["type", "title"], Need::All, false, exactly), vec![1, 2]),
        (words("2020", &["issued", "title"], Need::All, false, exactly), vec![3]),
    ] {
        let found: Vec<u32> = bench.search.matching(index(1), &query).await.unwrap().iter().collect();
        assert_eq!(found, expected, "{query:?}");
    }
    for refused in [
        words("a", &["title", "type"], Need::All, true, exactly),
        words("a", &["title", "abstract.exact"], Need::All, true, exactly),
        words("a", &["type"], Need::All, false, Fuzziness::Auto),
        words("abc", &["title"], Need::All, false, Fuzziness::Edits(3)),
        Query::Boosted(Box::new(Query::All), f32::NAN),
        Query::Boosted(Box::new(Query::All), -1.0),
    ] {
        let error = bench.search.matching(index(1), &refused).await.unwrap_err();
        assert!(matches!(error, SearchError::Unsupported(_)), "{refused:?}: {error}");
    }
}

#[tokio::test]
async fn an_index_goes_on_in_its_own_language_or_begins_afresh() {
    let papers = texts(&["mining", "mines"]);
    let bench = with(None, &papers).await;
    let english = IndexPlan { language: Some(Language::En), ..plan(index(1), 2) };
    assert!(matches!(bench.search.build(english).await.err(), Some(SearchError::Outdated(_))));
    let mut build = bench.search.build(IndexPlan { afresh: true, ..english }).await.unwrap();
    add(&mut *build, &papers[1..], &[]).await;
    build.finish().await.unwrap();
    // Nothing of the base is in it, and the base answers as before.
    assert_eq!(ids_in(&bench.search, index(2), "mining OR *").await.unwrap(), [2]);
    assert_eq!(ids_in(&bench.search, index(2), "mining").await.unwrap(), [2]);
    assert_eq!(ids_in(&bench.other("elsewhere"), index(1), "mining").await.unwrap(), [1]);
    assert_eq!(bench.search.language(index(0)).await.unwrap(), None);
}

#[tokio::test]
async fn an_index_of_another_layout_is_told_from_a_damaged_one() {
    let bench = Bench::with_papers().await;
    let key = ObjectKey::IndexManifest(index(1)).to_string();
    let manifest = String::from_utf8(bench.objects.get(&key, None).await.unwrap().to_vec()).unwrap();
    bench.objects.put(&key, manifest.replace("\"layout\":3", "\"layout\":2").into()).await.unwrap();
    let other = bench.other("elsewhere");
    for error in [
        ids_in(&other, index(1), "*").await.err(),
        other.build(plan(index(1), 2)).await.err(),
        other.language(index(1)).await.err(),
    ] {
        assert!(error.unwrap().of("jose").to_string().ends_with("run `adit reindex jose`"));
    }
    let afresh = IndexPlan { afresh: true, ..plan(index(1), 2) };
    other.build(afresh).await.unwrap().finish().await.unwrap();
    assert_eq!(ids_in(&other, index(2), "*").await.unwrap(), [0; 0]);
    // It stays for servers of the release before, for as long as any index does.
    other.retain(COLLECTION, &[index(1), index(2)]).await.unwrap();
    assert!(bench.objects.size(&key).await.unwrap().is_some());
    other.retain(COLLECTION, &[index(2)]).await.unwrap();
    assert!(bench.objects.size(&key).await.unwrap().is_none());
}
