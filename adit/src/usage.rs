//! `adit usage`: what was used in a month.

use adit_shared::clock::{Clock as _, SystemClock};
use adit_shared::config::Config;
use adit_shared::domain::{Month, UsageReport};
use anyhow::Context as _;

use crate::cli::UsageArgs;
use crate::data_folder::secure_data_folder;
use crate::services::open_store;
use crate::terminal::{print_data, print_json};

/// Carries out `adit usage`.
pub(crate) async fn run(config: &Config, args: UsageArgs) -> anyhow::Result<()> {
    secure_data_folder(config)?;
    let store = open_store(config).await?;
    let now = SystemClock.now_ms();
    let month = args.month.unwrap_or_else(|| Month::of(now));
    let key = match args.key {
        None => None,
        Some(id) => {
            let key = store.keys().await?.into_iter().find(|key| key.id.0 == id);
            Some(key.with_context(|| format!("there is no key {id}; `adit keys list` shows them"))?)
        }
    };
    let collections = match &args.collection {
        None => store.collections().await?,
        Some(slug) => {
            let collection = store.collection(slug).await?;
            vec![collection.with_context(|| format!("there is no collection {slug}"))?]
        }
    };
    let sums = store.usage(&month, key.as_ref().map(|key| key.id)).await?;
    let named = collections.iter().map(|c| (c.id, c.slug.as_str(), c.name.as_str()));
    let report = UsageReport::new(&month, named, &sums, key.as_ref().map(|key| key.name.as_str()), now);
    if args.csv {
        print_data(&report.csv(&month)?);
    } else {
        print_json(&report)?;
    }
    Ok(())
}
