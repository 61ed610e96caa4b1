//! Rights in texts, as a search needs them: which texts a query may be asked of more than single
//! words.
//!
//! A phrase, a beginning or a similar word tells more of a text than that a word is in it; enough
//! such answers tell all of the text. An index therefore keeps each document's access level, and
//! [`super::lower`] lets such clauses find only texts that the reader may read.

use crate::domain::{Access, DocumentReader};

/// Stands beside the name of every entitlement, so that one term finds all that operators may read.
const RESTRICTED: &str = "restricted";

/// The rights of whoever asks, in the texts of one collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextRights {
    /// The one who asks.
    pub reader: DocumentReader,
    /// Lets single whole words find texts too that the reader may not read.
    pub closed_words: bool,
}

impl TextRights {
    /// The rights of somebody without a key, where an operator has not said otherwise.
    #[must_use]
    pub fn nobody() -> Self {
        Self { reader: DocumentReader::nobody(), closed_words: true }
    }

    /// The terms of [`access_terms`] that texts have which the reader may read.
    pub(super) fn readable_terms(&self) -> Vec<String> {
        let restricted = match &self.reader {
            DocumentReader::Operator => vec![RESTRICTED.to_owned()],
            DocumentReader::Entitled(names) => names.iter().map(|name| format!("{RESTRICTED}:{name}")).collect(),
        };
        std::iter::once(Access::Open.to_string()).chain(restricted).collect()
    }
}

/// The terms by which an index knows a document's access level.
pub(super) fn access_terms(access: &Access) -> Vec<String> {
    let any = matches!(access, Access::Restricted(_)).then(|| RESTRICTED.to_owned());
    any.into_iter().chain([access.to_string()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_terms_of_a_text_meet_those_of_a_reader_where_the_reader_may_read_it() {
        let access = |text: &str| text.parse::<Access>().unwrap();
        let levels = ["open", "restricted:a", "restricted:b", "restricted:restricted", "restricted:open", "metadata"];
        let entitled =
            |names: &[&str]| DocumentReader::Entitled(names.iter().map(|name| name.parse().unwrap()).collect());
        let readers = [
            DocumentReader::nobody(),
            entitled(&["a"]),
            entitled(&["a", "b"]),
            entitled(&["metadata", "open", "restricted"]),
            DocumentReader::Operator,
        ];
        for (reader, level) in readers.iter().flat_map(|reader| levels.map(|level| (reader, level))) {
            let readable = TextRights { reader: reader.clone(), closed_words: true }.readable_terms();
            let met = access_terms(&access(level)).iter().any(|term| readable.contains(term));
            assert_eq!(met, reader.may_read(&access(level)), "{reader:?} {level}");
        }
    }
}
