//! Replays the committed seeds of a crate's fuzz targets, without fuzzing. Part of the tests of
//! each crate that has targets (`fuzzing.rs`).

use std::fs;
use std::path::Path;

use super::TARGETS;

#[test]
fn no_committed_seed_breaks_a_fuzz_target() {
    for (name, check) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
        let mut seeds: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        seeds.sort_unstable();
        assert!(seeds.len() >= 5, "{} has too few seeds", folder.display());
        for seed in seeds {
            // The test's output tells which seed it was.
            println!("{}", seed.display());
            check(&fs::read(&seed).unwrap());
        }
    }
}
