//! Runs one fuzz target, named by `ADIT_FUZZ_TARGET`: under libFuzzer, or (without the feature
//! `libfuzzer`) by blind mutation of its seeds. The targets themselves stand beside what they
//! check, in the modules `fuzzing` of `adit`, `adit-api` and `adit-shared`.

#![cfg_attr(feature = "libfuzzer", no_main)]

#[cfg(not(feature = "libfuzzer"))]
mod mutate;

use std::sync::LazyLock;

use adit_shared::fuzzing::Check;

/// Every target.
fn targets() -> impl Iterator<Item = (&'static str, Check)> {
    adit_shared::fuzzing::TARGETS.into_iter().chain(adit_api::fuzzing::TARGETS).chain(adit::fuzzing::TARGETS)
}

/// The target that the environment names.
static CHECK: LazyLock<Check> = LazyLock::new(|| {
    let name = std::env::var("ADIT_FUZZ_TARGET").unwrap_or_default();
    match targets().find(|(known, _)| *known == name) {
        Some((_, check)) => check,
        None => {
            let known: Vec<&str> = targets().map(|(name, _)| name).collect();
            eprintln!("ADIT_FUZZ_TARGET must name one of: {}", known.join(" "));
            std::process::exit(2);
        }
    }
});

#[cfg(feature = "libfuzzer")]
libfuzzer_sys::fuzz_target!(|data: &[u8]| CHECK(data));

#[cfg(not(feature = "libfuzzer"))]
fn main() -> std::process::ExitCode {
    mutate::run(*CHECK)
}
