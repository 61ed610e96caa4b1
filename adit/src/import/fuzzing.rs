//! Checks that must hold for any collection folder; see [`crate::fuzzing`].

use std::path::{Path, PathBuf};

use adit_shared::names::{distinct_name, safe_name};

use super::folder::{Folder, read_collection};

/// Reads bytes as the lines of a `documents.jsonl`, and as a `collection.json`: what is taken is
/// within its limits, and no path leads out.
pub(crate) fn check_import_lines(data: &[u8]) {
    if let Ok((collection, _)) = read_collection(data, Path::new("collection.json")) {
        assert!((1..=64).contains(&collection.slug.len()) && !collection.slug.contains(['/', '.', '\0']));
    }
    // A folder with files in it.
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let Ok(entitlement) = "fuzzing".parse() else { return };
    let mut folder = Folder::new(root.clone(), Default::default(), entitlement, data);
    while let Ok(Some((length, line))) = folder.next() {
        assert!(length <= data.len());
        let Ok(document) = line else { continue };
        assert!((1..=1000).contains(&document.r#ref.len()), "{}", document.r#ref);
        for name in [safe_name(&document.r#ref), distinct_name(&document.r#ref)] {
            assert!(!name.starts_with('.') && !name.contains(['/', '\\', '\0']), "{name:?}");
        }
        for file in &document.files {
            assert!(file.path.starts_with(&root), "{}", file.path.display());
            assert!(file.path.is_file() && !file.media_type.contains(char::is_control));
        }
    }
}
