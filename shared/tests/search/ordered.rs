//! All hits in an order are the pages, one after the other.

use adit_shared::search::{Hit, Search as _, Sort, Source};

use super::corpus::{Bench, index, page, paper, papers};
use serde_json::json;

#[tokio::test]
async fn all_hits_in_an_order_are_its_pages() {
    let bench = Bench::with_papers().await;
    // Segments of their own: one without any date, and one with refs between the others.
    bench.import(2, &[paper(9, "undated", json!({"title": "Of no year"}), &["txt"], "python")], &[]).await;
    bench
        .import(
            3,
            &[paper(10, "jose.00017", json!({"title": "Python", "issued": "2018-11-12"}), &["txt"], "python")],
            &[],
        )
        .await;
    for query in ["*", "python", "the OR python", "nothing-has-this", "issued:2018"] {
        for sort in [Sort::Relevance, Sort::Date, Sort::Ref] {
            let mut pages: Vec<Hit> = Vec::new();
            loop {
                let next = page(&bench.search, 3, query, sort, pages.len(), 3).await.unwrap().hits;
                if next.is_empty() {
                    break;
                }
                pages.extend(next);
            }
            let tree = Source::from(query).read().unwrap();
            let all = bench.search.ordered(index(3), &tree, sort).await.unwrap();
            assert_eq!(all, pages, "{query} by {sort:?}");
        }
    }
    assert!(papers().len() > 6, "there are several pages");
}
