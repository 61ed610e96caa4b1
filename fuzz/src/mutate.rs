//! Mutates seeds at random and runs them through a check: for machines on which libFuzzer cannot be
//! built. Takes those arguments of libFuzzer that `fuzz/run` gives (`-max_total_time`, `-max_len`,
//! `-artifact_prefix`, folders of seeds), and prints its counts in its words.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use adit_shared::digest::Sha256;
use adit_shared::fuzzing::Check;

/// Most mutations of one input.
const MUTATIONS: u64 = 8;
/// Numbers at which programs go wrong.
const EDGES: [u8; 8] = [0, 1, 0x0a, 0x25, 0x7f, 0x80, 0xfe, 0xff];

/// Runs the check for as long as the arguments say; the exit status is 77, as libFuzzer's, where an
/// input broke it, which is kept then.
pub(crate) fn run(check: Check) -> ExitCode {
    let (mut seconds, mut longest, mut prefix, mut seeds) = (60, 4096, String::new(), Vec::new());
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("-max_total_time", value)) => seconds = value.parse().unwrap_or(seconds),
            Some(("-max_len", value)) => longest = value.parse().unwrap_or(longest),
            Some(("-artifact_prefix", value)) => prefix = value.to_owned(),
            _ if argument.starts_with('-') => {}
            _ => seeds.extend(read_folder(&argument)),
        }
    }
    if seeds.is_empty() {
        seeds.push(Vec::new());
    }
    let start = SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64);
    let (mut random, mut runs) = (Random(start | 1), 0_u64);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut inputs = seeds.clone().into_iter();
    while Instant::now() < end {
        // The seeds come first, as they are.
        let input = inputs.next().unwrap_or_else(|| mutate(&seeds, longest, &mut random));
        runs += 1;
        if catch_unwind(AssertUnwindSafe(|| check(&input))).is_err() {
            let file = format!("{prefix}crash-{}", Sha256::of(&input));
            match fs::write(&file, &input) {
                Ok(()) => eprintln!("the input is kept as {file}"),
                Err(error) => eprintln!("{file} cannot be written ({error}); the input is {input:?}"),
            }
            eprintln!("stat::number_of_executed_units: {runs}");
            return ExitCode::from(77);
        }
    }
    eprintln!("stat::number_of_executed_units: {runs}");
    ExitCode::SUCCESS
}

fn read_folder(folder: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    files.filter_map(|file| fs::read(file.path()).ok()).collect()
}

/// Another input: a seed, or two that are joined, with a few bytes changed, removed, repeated or
/// put in.
fn mutate(seeds: &[Vec<u8>], longest: usize, random: &mut Random) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.next() % MUTATIONS {
        let at = random.below(input.len() + 1);
        let end = (at + random.below(16) + 1).min(input.len());
        match random.next() % 7 {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = EDGES[random.below(EDGES.len())],
            2 => drop(input.drain(at..end)),
            3 => input.splice(at..at, input[at..end].to_vec()).for_each(drop),
            4 => input.insert(at, random.next() as u8),
            5 => {
                let other = &seeds[random.below(seeds.len())];
                input.truncate(at);
                input.extend_from_slice(&other[random.below(other.len() + 1)..]);
            }
            _ => input.insert(at, EDGES[random.below(EDGES.len())]),
        }
    }
    input.truncate(longest);
    input
}

/// Xorshift (Marsaglia 2003): quick, and good enough to choose bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count.max(1) as u64) as usize
    }
}
