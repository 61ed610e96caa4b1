//! The size of a run, and its chance.

use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// The size of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) packages: u64,
    pub(super) imports: u64,
    pub(super) collections: usize,
    pub(super) miners: usize,
    pub(super) seed: u64,
    /// How long a process of Adit lives, and a part under it, in milliseconds.
    pub(super) process_life: (u64, u64),
    pub(super) part_life: (u64, u64),
    /// Seconds after which it gets calm though not all is done.
    pub(super) limit: u64,
}

/// Runs by default: a part of the suite.
pub(super) const SHORT: Plan = Plan {
    packages: 60,
    imports: 10,
    collections: 2,
    miners: 3,
    seed: 1,
    process_life: (1_000, 7_000),
    part_life: (5_000, 15_000),
    limit: 20,
};

impl Plan {
    /// The size that `tests/chaos/run` asks for.
    pub(super) fn of_environment() -> Self {
        let number = |name: &str, default: u64| {
            std::env::var(name)
                .map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
        };
        let imports = number("ADIT_CHAOS_IMPORTS", 200);
        Self {
            packages: number("ADIT_CHAOS_PACKAGES", 1000),
            imports,
            collections: usize::try_from(imports.div_ceil(25)).unwrap().max(2),
            miners: 6,
            seed: number("ADIT_CHAOS_SEED", 1),
            process_life: (3_000, 25_000),
            part_life: (30_000, 90_000),
            limit: number("ADIT_CHAOS_SECONDS", 24 * 3600),
        }
    }

    /// A source of chance of its own for each use.
    pub(super) fn dice(&self, number: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(1_000).wrapping_add(number))
    }
}
