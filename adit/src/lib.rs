//! `adit`: one program for miners and operators. This file maps verbs to the modules that carry
//! them out.
//!
//! It is a library so that fuzz targets reach what reads foreign files (`fuzzing`); nothing else of
//! it is for other crates.

// What is printed holds foreign text: it goes through `terminal`, which lets none of it steer a
// terminal.
#![warn(clippy::print_stderr)]

mod allocator;
mod change;
mod cli;
mod data_folder;
mod demo;
mod embedded_broker;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod import;
mod keys;
mod leases;
mod miner;
mod open_files;
mod own_keys;
mod queues;
mod reindex;
mod running;
mod services;
mod signing;
mod storage;
mod store_mark;
mod terminal;
mod up;
mod usage;
mod watches;
mod withdraw;

use std::process::ExitCode;
use std::time::Duration;

use adit_shared::config::Config;
use adit_shared::telemetry::{self, QueuedLog};
use anyhow::Context as _;
use clap::Parser as _;

use crate::cli::{Cli, KeysVerb, Verb};
use crate::terminal::{errln, print_data, print_failure};

/// How long work on threads of its own may go on when everything else has ended. None of it leaves
/// half of anything behind where it is cut off.
const FAREWELL: Duration = Duration::from_secs(1);

/// Runs the program by the arguments of the process; its exit status.
#[must_use]
pub fn run_program() -> ExitCode {
    let cli = Cli::parse();
    let log = start_log(&cli);
    allocator::bound_heaps();
    open_files::raise_limit();
    // One crypto provider for every TLS connection of the process; a second call could only mean
    // that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match block_on(run(cli)) {
        Ok(code) => code,
        Err(error) => {
            match log {
                Some(log) => log.say_last(move || print_failure(&error)),
                None => print_failure(&error),
            }
            ExitCode::FAILURE
        }
    }
}

/// Starts the log: of servers behind a queue, so that they do not wait for whoever reads it; of
/// other verbs directly, which keeps it in order with what they print.
fn start_log(cli: &Cli) -> Option<QueuedLog> {
    let (filter, json) = (cli.log_filter(), cli.log_json());
    if cli.is_server() {
        return Some(telemetry::init_queued(&filter, json));
    }
    telemetry::init(&filter, json);
    None
}

/// Runs to the end, and no longer: a runtime that is only dropped waits without limit for a lock,
/// say, that some thread waits for.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_timeout(FAREWELL);
    outcome
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    cli.refuse_passwords()?;
    let demo = matches!(cli.verb, Verb::Demo { .. });
    let config = Config::load(|name| cli.setting(name).or_else(|| demo::default(name).filter(|_| demo)))?;
    match cli.verb {
        Verb::Up => up::up(config).await?,
        Verb::Api => up::api(config).await?,
        Verb::Packager => up::packager(config).await?,
        Verb::Import { folder, wait } => return import::run(&config, &folder, wait).await,
        Verb::Reindex { collection, wait } => return reindex::run(&config, &collection, wait).await,
        Verb::Storage(verb) => return storage::run(&config, verb).await,
        Verb::Withdraw(args) => return withdraw::run(&config, &args).await,
        Verb::Keys(KeysVerb::Signing { out }) => signing::create(&config, out)?,
        Verb::Keys(KeysVerb::RotateLinks) => keys::rotate_links(&config).await?,
        Verb::Keys(KeysVerb::Api(verb)) => keys::run(&config, verb).await?,
        Verb::Usage(args) => usage::run(&config, args).await?,
        Verb::Leases { verb } => leases::run(&config, verb).await?,
        Verb::Queues { json } => queues::run(&config, json).await?,
        Verb::Watches(verb) => watches::run(&config, verb).await?,
        Verb::Openapi { check } => return openapi(check.as_deref()),
        Verb::Demo { once } => demo::run(config, once).await?,
        Verb::Search(args) => miner::search(&config, args).await?,
        Verb::Docset(args) => miner::docset(&config, args).await?,
        Verb::Package(args) => miner::package(&config, args).await?,
        Verb::Verify(args) => return miner::verify(&args),
        Verb::Hydrate(args) => return miner::hydrate(&config, &args).await,
        Verb::Apply { delta, folder } => return miner::apply(&delta, &folder).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the contract, or compares it with a file.
fn openapi(check: Option<&std::path::Path>) -> anyhow::Result<ExitCode> {
    let contract = adit_api::openapi_yaml().map_err(anyhow::Error::msg)?;
    let Some(file) = check else {
        print_data(contract.as_bytes());
        return Ok(ExitCode::SUCCESS);
    };
    let committed = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    if committed == contract {
        return Ok(ExitCode::SUCCESS);
    }
    errln!("adit: {0} is stale; `adit openapi > {0}` writes it anew", file.display());
    Ok(ExitCode::FAILURE)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_waits_does_not_keep_the_process() {
        let (open, waited_for) = mpsc::channel::<()>();
        let (ended, end) = mpsc::channel();
        std::thread::spawn(move || {
            let outcome = block_on(async {
                tokio::task::spawn_blocking(move || waited_for.recv());
                Ok(7)
            });
            ended.send(outcome.unwrap())
        });
        assert_eq!(end.recv_timeout(FAREWELL * 10), Ok(7));
        drop(open);
    }
}
