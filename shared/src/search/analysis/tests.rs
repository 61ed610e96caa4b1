//! What words are, and which of them are the same.

use proptest::prelude::*;

use super::*;

fn exact(text: &str) -> Vec<String> {
    Analyzer::new(None).exact_words(text).into_iter().map(|token| token.text).collect()
}

fn stems(language: Language, text: &str) -> Vec<String> {
    Analyzer::new(Some(language)).stems(text).into_iter().map(|token| token.text).collect()
}

#[test]
fn words_lose_case_diacritics_and_ligatures() {
    assert_eq!(
        exact("Müller's  \u{fb01}eld-work, Ångström 2.5"),
        ["muller", "s", "field", "work", "angstrom", "2", "5"]
    );
    assert_eq!(exact("re\u{301}sume\u{301} résumé"), ["resume", "resume"]);
    assert_eq!(exact("Straße STRASSE Ørsted Łódź Ǽ"), ["strasse", "strasse", "orsted", "lodz", "ae"]);
    assert_eq!(exact("Ｆｕｌｌ　ｗｉｄｔｈ ½ x²"), ["full", "width", "½", "x2"]);
    assert_eq!(exact("ΟΔΟΣ οδός"), ["οδοσ", "οδοσ"]);
    assert_eq!(exact("Ёлка й за\u{301}мок"), ["елка", "й", "замок"]);
    assert_eq!(exact("كِتَاب كـتاب"), ["كتاب", "كتاب"]);
    assert_eq!(exact("co\u{ad}operation می\u{200c}خواهم"), ["cooperation", "میخواهم"]);
    assert_eq!(exact(" -- "), Vec::<String>::new());
}

#[test]
fn marks_that_make_letters_stay_within_their_words() {
    assert_eq!(exact("தமிழ் हिन्दी"), ["தமிழ்", "हिन्दी"]);
    assert_eq!(exact("ガ가"), ["ガ", "가"]);
}

#[test]
fn words_say_where_they_stand() {
    let text = "Ré\u{301}f — 学習 done";
    let tokens = Analyzer::new(Some(Language::Zh)).exact_words(text);
    assert_eq!(
        tokens.iter().map(|token| &text[token.bytes.clone()]).collect::<Vec<_>>(),
        ["Ré\u{301}f", "学", "習", "done"]
    );
}

#[test]
fn longer_words_than_any_are_passed_over() {
    assert_eq!(exact(&format!("a {} b", "x".repeat(257))), ["a", "b"]);
    assert_eq!(exact(&"x".repeat(256)).len(), 1);
}

#[test]
fn scripts_without_spaces_are_cut_into_characters_or_by_a_dictionary() {
    assert_eq!(exact("深層学習deepラーメン"), ["深", "層", "学", "習", "deep", "ラ", "ー", "メ", "ン"]);
    assert_eq!(exact("기계 학습"), ["기계", "학습"]);
    assert_eq!(stems(Language::En, "深層学習"), ["深", "層", "学", "習"]);
    assert_eq!(stems(Language::Ja, "機械学習はlearningです"), ["機械", "学習", "は", "learning", "です"]);
    assert_eq!(stems(Language::Zh, "我们研究土壤水分。"), ["我们", "研究", "土壤", "水分"]);
    assert_eq!(exact("ภาษาไทยง่าย"), ["ภาษา", "ไทย", "ง่าย"]);
}

/// An index keeps stems, so other stems of the same words are another layout of it: see the manifest.
#[test]
fn stems_are_those_that_indexes_were_made_with() {
    for (language, words, expected) in [
        (Language::En, "mining mined mines universities", "mine mine mine universiti"),
        (Language::De, "Häuser Haus häusern Straßen hauser", "haus haus haus strass haus"),
        (Language::Fr, "l'étude études étudiées Etudes", "l etud etud etudi etud"),
        (Language::Es, "educación educaciones educacion", "educ educ educ"),
        (Language::Pt, "educação educações", "educ educ"),
        (Language::It, "città biblioteche biblioteca", "citt bibliotec bibliotec"),
        (Language::Nl, "boeken boek", "boek boek"),
        (Language::Da, "bøgerne bøger", "bog bog"),
        (Language::No, "økonomiske økonomisk", "okonomisk okonomisk"),
        (Language::Sv, "flickorna flickor", "flick flick"),
        (Language::Fi, "taloissa talossa", "talo talo"),
        (Language::Hu, "könyvekben könyv", "konyv konyv"),
        (Language::Ro, "cărțile cărți", "cart cart"),
        (Language::Ru, "книгами книга", "книг книг"),
        (Language::Tr, "KİTAPLARI kitaplar IŞIK ışık", "kitap kitap isik isik"),
        (Language::El, "βιβλία βιβλίου", "βιβλ βιβλ"),
        (Language::Ar, "كتابها الكتاب", "كتاب كتاب"),
        (Language::Ta, "புத்தகங்கள் புத்தகம்", "புத்தகம் புத்தகம்"),
    ] {
        assert_eq!(stems(language, words).join(" "), expected, "{language}");
    }
}

proptest! {
    #[test]
    fn any_text_gives_words_within_it(text in any::<String>(), language in prop::option::of(prop::sample::select(Language::ALL.to_vec()))) {
        let analyzer = Analyzer::new(language);
        for tokens in [analyzer.exact_words(&text), analyzer.stems(&text)] {
            let mut at = 0;
            for token in tokens {
                prop_assert!(token.bytes.start >= at && token.bytes.start < token.bytes.end);
                prop_assert!(text.get(token.bytes.clone()).is_some());
                prop_assert!(!token.text.is_empty() && !token.text.contains(char::is_whitespace));
                at = token.bytes.end;
            }
        }
    }

    #[test]
    fn stems_of_any_letters_are_found(word in r"\p{L}{1,20}", language in prop::sample::select(Language::ALL.to_vec())) {
        let analyzer = Analyzer::new(Some(language));
        let words = analyzer.exact_words(&word);
        prop_assert!(words.is_empty() == analyzer.stems(&word).is_empty());
        // What is folded stays so.
        for token in words {
            prop_assert_eq!(analyzer.exact_words(&token.text).into_iter().map(|token| token.text).collect::<String>(), token.text);
        }
    }
}
