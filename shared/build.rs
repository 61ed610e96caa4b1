//! Has the crate built again when a migration is added; those that are there are tracked without it.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
