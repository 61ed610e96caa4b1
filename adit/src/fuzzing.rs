//! The fuzz targets of the program: what reads foreign folders, archives and lists. See
//! `adit_shared::fuzzing`.

/// A check of one input.
type Check = fn(&[u8]);

/// The fuzz targets of this crate, by the names of their folders of seeds.
pub const TARGETS: [(&str, Check); 3] = [
    ("archives", crate::miner::fuzzing::check_archives),
    ("bag_lists", crate::miner::fuzzing::check_bag_lists),
    ("import_lines", crate::import::fuzzing::check_import_lines),
];

#[cfg(test)]
#[path = "../../fuzz/seeds.rs"]
mod seeds;
