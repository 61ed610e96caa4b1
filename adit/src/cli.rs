//! The command line: verbs, flags, and how flags win over the environment.

use std::path::PathBuf;
use std::time::Duration;

use adit_shared::config::parse_duration;
use adit_shared::digest::Sha256;
use adit_shared::domain::{Entitlement, Expiry, Month, OwnLimit, OwnScopes, Role};
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

/// Search a corpus, freeze the result, take it home as one archive.
#[derive(Debug, Parser)]
#[command(name = "adit", version, about, after_help = environment_help())]
pub(crate) struct Cli {
    /// Folder of the embedded parts [env: ADIT_DATA] [default: adit-data]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address and port of the API [env: ADIT_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, global = true, value_name = "ADDR")]
    listen: Option<String>,
    /// URL of the API, for the miner's verbs and for packagers [env: ADIT_PUBLIC_URL]
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// Show the key to a server without TLS, too, that is not on this machine [env:
    /// ADIT_INSECURE=1]
    #[arg(long, global = true)]
    insecure: bool,
    /// What to log, such as info or debug,sqlx=warn [env: ADIT_LOG]
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run everything in one process, with nothing installed beside it
    Up,
    /// Run an API server on an outside broker, database and store
    Api,
    /// Run a packager on an outside broker and store
    Packager,
    /// Import a collection folder. The exit status is 2 when some lines were left out, 75 when another import into the collection runs
    Import {
        /// Folder with collection.json, documents.jsonl and files
        folder: PathBuf,
        /// Wait while another import into the collection runs, instead of giving up
        #[arg(long)]
        wait: bool,
    },
    /// Make the search index of a collection anew, from what is stored of its documents. Searches go
    /// on in the old one until it is done. The exit status is 2 when texts were left out because
    /// they are damaged, 75 when an import into the collection runs
    Reindex {
        /// Slug of the collection
        collection: String,
        /// Wait while an import into the collection runs, instead of giving up
        #[arg(long)]
        wait: bool,
    },
    /// Prove that the object store holds what the database names, and heal it
    #[command(subcommand)]
    Storage(StorageVerb),
    /// Withdraw documents: nobody gets their files any more, and searches do not find them. The exit status is 75 when an import into the
    /// collection runs: then searches lack them after the next one
    Withdraw(WithdrawArgs),
    /// Make, list and revoke API keys; make a key that signs receipts
    #[command(subcommand)]
    Keys(KeysVerb),
    /// Report what was used in a month: COUNTER's Database Report for text and data mining
    Usage(UsageArgs),
    /// Show which changes of collections (imports, reindexes, withdrawals) hold a lease, or break
    /// one
    Leases {
        #[command(subcommand)]
        verb: Option<LeasesVerb>,
    },
    /// Show the broker's queues
    Queues {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show watches; let them look at what is new, and tell their webhooks
    #[command(subcommand)]
    Watches(WatchesVerb),
    /// Print the API's contract
    Openapi {
        /// Compare it with this file instead; the exit status tells
        #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "openapi.yaml")]
        check: Option<PathBuf>,
    },
    /// Run the main job once on real documents, and leave the server up
    Demo {
        /// End when it is done
        #[arg(long)]
        once: bool,
    },
    /// Search a collection
    Search(SearchArgs),
    /// Make, list, show, compare, refresh, share and delete docsets
    Docset(DocsetArgs),
    /// Ask for a package, watch it being built, download and verify it
    Package(PackageArgs),
    /// Check a package, offline: receipt, manifest, and every byte of every file. The exit status is 1 when something is wrong
    Verify(VerifyArgs),
    /// Fetch what a dehydrated bag has not. It goes on past failures, and can be run again; the exit status is 1 when something is missing
    Hydrate(HydrateArgs),
    /// Make the package that a delta leads to out of the one that it was made from. It can be run again when it was interrupted
    Apply {
        /// Archive of the delta, or its folder
        delta: PathBuf,
        /// Folder of the bag that it is applied to
        folder: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysVerb {
    #[command(flatten)]
    Api(ApiKeysVerb),
    /// Make a key pair that signs packages' receipts; its public half is printed as a JWK set
    Signing {
        /// Where to save the private key; a file that is there is never overwritten (default: signing-key.pem in the data folder)
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// End all links that need no key (to assets, and those that share docsets) by a new secret;
    /// running servers follow within a minute
    RotateLinks,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApiKeysVerb {
    /// Make a key; it is printed once, alone on the last line
    Create {
        /// A name for people
        name: String,
        /// miner, packager or operator
        #[arg(long, default_value = "miner")]
        role: Role,
        #[command(flatten)]
        limits: KeyLimits,
        #[command(flatten)]
        rights: KeyRights,
        /// What it is entitled to beyond what is open (may be repeated)
        #[arg(long = "entitlement", value_name = "NAME")]
        entitlements: Vec<Entitlement>,
    },
    /// Entitle a key to restricted documents
    Grant {
        /// The number that `list` shows
        id: i64,
        /// The entitlement that the documents need: their collection's slug, unless they name another
        entitlement: Entitlement,
    },
    /// Take an entitlement from a key. Packages that it has asked for stay as they are
    Deny {
        /// The number that `list` shows
        id: i64,
        /// The entitlement
        entitlement: Entitlement,
    },
    /// Change a key's limits, scopes or expiry
    Set {
        /// The number that `list` shows
        id: i64,
        #[command(flatten)]
        limits: KeyLimits,
        #[command(flatten)]
        rights: KeyRights,
    },
    /// Show what keys of each role may use that have no limits of their own, or change it for one role
    Limits {
        /// miner, packager or operator
        #[arg(requires = "changes")]
        role: Option<Role>,
        #[command(flatten)]
        limits: RoleLimits,
    },
    /// List all keys, without their secrets
    List {
        /// Only keys that are not revoked and were not used for so long, such as 90d
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        unused_for: Option<Duration>,
    },
    /// Revoke a key by its number
    Revoke {
        /// The number that `list` shows
        id: i64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum StorageVerb {
    /// Look for every object that the database names, with its length, and compare a sample of the
    /// files with their SHA-256. Damaged documents are named; the exit status is 1 while something
    /// is wrong
    Check {
        /// Read and compare all files, archives and indexes
        #[arg(long)]
        full: bool,
        /// The findings as JSON
        #[arg(long)]
        json: bool,
    },
    /// Read everything, and heal the damaged: files from good copies, known by their SHA-256, in
    /// FOLDER or elsewhere in the store; indexes from the texts; damaged packages are erased, and
    /// built again when they are asked for. The exit status is 1 while something is wrong
    Repair {
        /// Folder with good copies: the one that was imported, any with such files, or a copy of the
        /// object store
        folder: Option<PathBuf>,
        /// The damages that are left, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Free everything that the database does not name: packages that are gone, unfinished uploads,
    /// packs and indexes of dead imports, old indexes and versions. Servers may work on meanwhile.
    /// The exit status is 75 if a collection was left out because it is being changed
    Sweep {
        /// Tell what would be freed, and free nothing
        #[arg(long)]
        dry_run: bool,
        /// Print the report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the object store belong to this database, although another one has used it: after that,
    /// imports and sweeps remove what this database does not name
    Adopt,
    /// Copy the data folder, while a server may work on it: the database as it is now, then the
    /// objects that it names
    Backup {
        /// Folder that is made: it must not be there yet, or be empty
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LeasesVerb {
    /// Let the next change of a collection begin at once, although a lease keeps it out. A change
    /// that still runs finds itself overtaken
    Break {
        /// Slug of the collection
        collection: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum WatchesVerb {
    /// List all watches with what they have found last
    List,
    /// Do what imports do for watches: make the docsets of what is new, and tell webhooks that are due. For a timer, say every 5 minutes
    Deliver {
        /// Tell all whose message is pending, whether due or not
        #[arg(long)]
        now: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct WithdrawArgs {
    /// The documents' refs
    #[arg(required = true, value_name = "REF")]
    pub(crate) refs: Vec<String>,
    /// Slug of their collection
    #[arg(long, value_name = "SLUG")]
    pub(crate) collection: String,
    /// Why, for whoever asks for them
    #[arg(long, value_name = "TEXT", required_unless_present = "undo", conflicts_with = "undo")]
    pub(crate) reason: Option<String>,
    /// Take it back
    #[arg(long)]
    pub(crate) undo: bool,
    /// Wait while an import into the collection runs
    #[arg(long)]
    pub(crate) wait: bool,
}

/// Limits of a key's own.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct KeyLimits {
    /// Documents a day: a number, unlimited, or role (what its role may)
    #[arg(long, value_name = "N")]
    pub(crate) quota: Option<OwnLimit>,
    /// Requests a minute: a number, unlimited, or role (what its role may)
    #[arg(long, value_name = "N")]
    pub(crate) per_minute: Option<OwnLimit>,
    /// Docsets at one time: a number, unlimited, or role (what its role may)
    #[arg(long, value_name = "N")]
    pub(crate) docsets: Option<OwnLimit>,
    /// Packages at one time, being built or there: a number, unlimited, or role (what its role may)
    #[arg(long, value_name = "N")]
    pub(crate) packages: Option<OwnLimit>,
    /// Packages that are being built at one time: a number, unlimited, or role (what its role may)
    #[arg(long, value_name = "N")]
    pub(crate) unfinished: Option<OwnLimit>,
    /// Bytes of stored packages at one time: a number, unlimited, or role (what its role may)
    #[arg(long, value_name = "N")]
    pub(crate) stored_bytes: Option<OwnLimit>,
}

/// Scopes and expiry of a key.
#[derive(Debug, Clone, Args)]
pub(crate) struct KeyRights {
    /// When it expires: 90d, 12h, a day such as 2027-01-31 (as it begins, UTC), an instant (RFC
    /// 3339), or never
    #[arg(long, value_name = "WHEN")]
    pub(crate) expires: Option<Expiry>,
    /// All that it may do, of what its role may: search,documents:read,…, or role (all that its
    /// role may)
    #[arg(long, value_name = "SCOPES")]
    pub(crate) scope: Option<OwnScopes>,
}

/// Limits of a role.
#[derive(Debug, Clone, Copy, Args)]
#[group(id = "changes", multiple = true)]
pub(crate) struct RoleLimits {
    /// Documents a day: a number, or unlimited
    #[arg(long, value_name = "N", value_parser = role_limit, requires = "role")]
    pub(crate) quota: Option<OwnLimit>,
    /// Requests a minute: a number, or unlimited
    #[arg(long, value_name = "N", value_parser = role_limit, requires = "role")]
    pub(crate) per_minute: Option<OwnLimit>,
    /// Docsets at one time: a number, or unlimited
    #[arg(long, value_name = "N", value_parser = role_limit, requires = "role")]
    pub(crate) docsets: Option<OwnLimit>,
    /// Packages at one time, being built or there: a number, or unlimited
    #[arg(long, value_name = "N", value_parser = role_limit, requires = "role")]
    pub(crate) packages: Option<OwnLimit>,
    /// Packages that are being built at one time: a number, or unlimited
    #[arg(long, value_name = "N", value_parser = role_limit, requires = "role")]
    pub(crate) unfinished: Option<OwnLimit>,
    /// Bytes of stored packages at one time: a number, or unlimited
    #[arg(long, value_name = "N", value_parser = role_limit, requires = "role")]
    pub(crate) stored_bytes: Option<OwnLimit>,
}

fn role_limit(text: &str) -> Result<OwnLimit, String> {
    match text.parse()? {
        OwnLimit::AsRole => Err("a role has no other to look to; say a whole number, or unlimited".to_owned()),
        limit => Ok(limit),
    }
}

#[derive(Debug, Args)]
pub(crate) struct UsageArgs {
    /// The month, as 2026-11 (default: this one, UTC)
    #[arg(long)]
    pub(crate) month: Option<Month>,
    /// Slug of a collection (default: all)
    #[arg(long, value_name = "SLUG")]
    pub(crate) collection: Option<String>,
    /// Number of a key (default: all, and use without a key)
    #[arg(long, value_name = "ID")]
    pub(crate) key: Option<i64>,
    /// As a table with commas instead of JSON
    #[arg(long)]
    pub(crate) csv: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SearchArgs {
    /// Slug of the collection
    pub(crate) collection: String,
    /// The query; * finds everything
    #[arg(required_unless_present = "dsl")]
    pub(crate) query: Option<String>,
    /// File with the query as an object of the Elasticsearch query DSL (- reads standard input)
    #[arg(long, value_name = "FILE", conflicts_with = "query")]
    pub(crate) dsl: Option<PathBuf>,
    /// Hits to show (default: 10; with csv and ndjson all)
    #[arg(long)]
    pub(crate) limit: Option<u32>,
    /// relevance, date or ref
    #[arg(long, default_value = "relevance")]
    pub(crate) sort: String,
    /// Count the values of a field over all hits (may be repeated)
    #[arg(long = "facet", value_name = "FIELD")]
    pub(crate) facets: Vec<String>,
    /// Show where the words of the query stand
    #[arg(long)]
    pub(crate) highlight: bool,
    /// How to print the answer
    #[arg(long, value_enum, default_value = "text")]
    pub(crate) format: AnswerFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum AnswerFormat {
    /// A line for each hit, for people
    Text,
    /// A page as the API gives it
    Json,
    /// All hits, for spreadsheets
    Csv,
    /// All hits, an object in each line
    Ndjson,
}

#[derive(Debug, Args)]
pub(crate) struct DocsetArgs {
    #[command(subcommand)]
    pub(crate) verb: DocsetVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DocsetVerb {
    /// Freeze the hits of a query, given works, or a combination of docsets; the docset's id is printed alone on the last line
    Create(NewDocsetArgs),
    /// List one's own docsets
    List,
    /// Show a docset
    Show {
        /// Its id
        id: i64,
    },
    /// Tell what came, changed and left since another docset
    Diff {
        /// Id of the later docset
        id: i64,
        /// Id of the earlier docset, of the same collection
        #[arg(long, value_name = "ID")]
        since: i64,
        /// As NDJSON
        #[arg(long)]
        json: bool,
    },
    /// Make it once more, of the newest corpus version; the new docset's id is printed alone on the last line (the same, if nothing has changed)
    Refresh {
        /// Its id
        id: i64,
    },
    /// Name it
    Rename {
        /// Its id
        id: i64,
        /// The new name; without one it has none any more
        name: Option<String>,
    },
    /// Delete it, and its packages
    Delete {
        /// Its id
        id: i64,
    },
    /// Make a link with which others can read it; the link is printed alone on the last line
    Share {
        /// Its id
        id: i64,
        /// Days that the link is good for (default: 30)
        #[arg(long)]
        days: Option<u32>,
        /// List the links that there are, instead
        #[arg(long, conflicts_with = "days")]
        list: bool,
        /// End this link, instead
        #[arg(long, value_name = "NUMBER", conflicts_with_all = ["days", "list"])]
        revoke: Option<i64>,
    },
    /// Follow a link that somebody has shared; the docset's id is printed alone on the last line
    Open {
        /// The link
        link: String,
    },
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("selection").required(true)))]
pub(crate) struct NewDocsetArgs {
    /// Slug of the collection
    pub(crate) collection: String,
    /// The query; * takes everything
    #[arg(group = "selection")]
    pub(crate) query: Option<String>,
    /// File with a query as a JSON object of the Elasticsearch query DSL
    #[arg(long, value_name = "FILE", group = "selection")]
    pub(crate) dsl: Option<PathBuf>,
    /// File with one ref a line
    #[arg(long, value_name = "FILE", group = "selection")]
    pub(crate) refs: Option<PathBuf>,
    /// What is in any of these docsets
    #[arg(long, value_name = "IDS", value_delimiter = ',', group = "selection")]
    pub(crate) union: Vec<i64>,
    /// What is in all of these docsets
    #[arg(long, value_name = "IDS", value_delimiter = ',', group = "selection")]
    pub(crate) intersection: Vec<i64>,
    /// What is in the first of these docsets and in none of the others
    #[arg(long, value_name = "IDS", value_delimiter = ',', group = "selection")]
    pub(crate) difference: Vec<i64>,
    /// Draw so many of these at random
    #[arg(long, value_name = "SIZE", requires = "seed")]
    pub(crate) sample: Option<u64>,
    /// The sample's seed: the same seed draws the same works
    #[arg(long, requires = "sample")]
    pub(crate) seed: Option<u64>,
    /// A name for people
    #[arg(long)]
    pub(crate) name: Option<String>,
}

/// What a delta starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeltaFrom {
    Docset,
    Package,
}

impl DeltaFrom {
    /// Its name in a request.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Docset => "docset",
            Self::Package => "package",
        }
    }
}

fn delta_from(text: &str) -> Result<(DeltaFrom, i64), String> {
    let read = || {
        let (what, id) = text.split_once(':')?;
        let what = [DeltaFrom::Docset, DeltaFrom::Package].into_iter().find(|known| known.as_str() == what)?;
        Some((what, id.parse().ok()?))
    };
    read().ok_or_else(|| "say docset:5 or package:7".to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct PackageArgs {
    /// Id of the docset
    pub(crate) docset: i64,
    /// Formats, separated by commas
    #[arg(long, default_value = "txt", value_delimiter = ',')]
    pub(crate) formats: Vec<String>,
    /// flat, bag, tar.zst, jsonl or parquet
    #[arg(long, default_value = "flat")]
    pub(crate) layout: String,
    /// Of layout jsonl: none, gzip or zstd
    #[arg(long)]
    pub(crate) compression: Option<String>,
    /// Divide it into shards of about so many bytes
    #[arg(long, value_name = "BYTES")]
    pub(crate) shard_bytes: Option<u64>,
    /// Of layout bag: leave the documents' files out, for `adit hydrate` to fetch
    #[arg(long)]
    pub(crate) dehydrated: bool,
    /// Of layout bag: leave out what the package of this docset, or this package, has, for `adit apply` to join
    #[arg(long, value_name = "docset:ID|package:ID", value_parser = delta_from)]
    pub(crate) delta_from: Option<(DeltaFrom, i64)>,
    /// Where to save the archive, or a folder; packages in shards get one anyway (default: the name that the server gives)
    #[arg(long, short, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Replace other files that are there already
    #[arg(long)]
    pub(crate) force: bool,
    /// Only ask for it; print where it can be watched
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct HydrateArgs {
    /// Folder of the bag, or its archive, which is unpacked beside itself
    pub(crate) bag: PathBuf,
    /// Fetch files from other servers than that of --url, too: by https, and without the key
    #[arg(long)]
    pub(crate) other_servers: bool,
    /// Fetch files whose length the bag does not tell, too, up to so many bytes each
    #[arg(long, value_name = "BYTES")]
    pub(crate) untold_bytes: Option<u64>,
}

#[derive(Debug, Default, Args)]
pub(crate) struct VerifyArgs {
    /// Archives, folders of packages (with manifest.json and all assets), or folders of bags
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// The package's manifest (default: ARCHIVE.manifest.json, or manifest.json in the archive's folder)
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// The package's receipt (default: beside the manifest, ….receipt.jws or receipt.jws)
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,
    /// Public keys that are trusted: a JWK set, such as the service's /.well-known/jwks.json, or PEM. The package must have a receipt then
    #[arg(long, value_name = "FILE")]
    pub(crate) keys: Option<PathBuf>,
    /// The SHA-256 that the archive must have
    #[arg(long, value_name = "HEX")]
    pub(crate) sha256: Option<Sha256>,
    /// The findings as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Cli {
    /// A setting by the name of its variable: the flag if it was given, else the environment. A blank one is none.
    pub(crate) fn setting(&self, name: &str) -> Option<String> {
        let flag = match name {
            "ADIT_DATA" => self.data.as_ref().map(|path| path.to_string_lossy().into_owned()),
            "ADIT_LISTEN" => self.listen.clone(),
            "ADIT_PUBLIC_URL" => self.url.clone(),
            "ADIT_LOG" => self.log.clone(),
            "ADIT_INSECURE" => self.insecure.then(|| "1".to_owned()),
            _ => None,
        };
        flag.or_else(|| std::env::var(name).ok()).filter(|value| !value.trim().is_empty())
    }

    /// Refuses a password in a flag's value, where everybody on the machine can read it in the list
    /// of processes.
    pub(crate) fn refuse_passwords(&self) -> anyhow::Result<()> {
        for (flag, variable, value) in
            [("--url", "ADIT_PUBLIC_URL", &self.url), ("--listen", "ADIT_LISTEN", &self.listen)]
        {
            let authority = value.as_deref().and_then(|value| value.split_once("://")).map_or("", |(_, rest)| rest);
            let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
            if authority.contains('@') {
                anyhow::bail!(
                    "{flag} holds credentials, which every user of this machine can read in the list of processes: \
                     leave them out (a key goes into ADIT_API_KEY, or into the file that ADIT_API_KEY_FILE names; {variable} takes none)"
                );
            }
        }
        Ok(())
    }

    /// What to log: servers tell what they do, other verbs only what is wrong.
    pub(crate) fn log_filter(&self) -> String {
        self.setting("ADIT_LOG").unwrap_or_else(|| if self.is_server() { "info" } else { "warn" }.to_owned())
    }

    /// Tells whether the verb is a server.
    pub(crate) fn is_server(&self) -> bool {
        matches!(self.verb, Verb::Up | Verb::Api | Verb::Packager)
    }

    /// Whether log lines are JSON.
    pub(crate) fn log_json(&self) -> bool {
        self.setting("ADIT_LOG_FORMAT").is_some_and(|format| format == "json")
    }
}

fn environment_help() -> String {
    let width = adit_shared::config::VARIABLES.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = adit_shared::config::VARIABLES.iter().map(|(name, what)| format!("  {name:width$}  {what}\n"));
    let files = adit_shared::config::SECRET_VARIABLES.join(", ");
    format!(
        "Environment:\n{}\nOf {files} each may lie in a file instead, which the variable with _FILE behind its name names.",
        lines.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_delta_starts_from_a_docset_or_a_package() {
        assert_eq!(delta_from("docset:5"), Ok((DeltaFrom::Docset, 5)));
        assert_eq!(delta_from("package:7"), Ok((DeltaFrom::Package, 7)));
        for wrong in ["5", "docset:", "docset:x", "corpus:5"] {
            assert!(delta_from(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_password_in_a_flag_is_refused() {
        let error = Cli::parse_from(["adit", "--url", "https://me:hunter2@h/x", "up"]).refuse_passwords().unwrap_err();
        assert!(error.to_string().contains("ADIT_API_KEY_FILE") && !error.to_string().contains("hunter2"), "{error}");
        for fine in ["https://h/x@y", "http://[::1]:8080/?a@b", "h"] {
            Cli::parse_from(["adit", "--url", fine, "up"]).refuse_passwords().unwrap();
        }
    }

    #[test]
    fn a_flag_wins_over_the_environment() {
        let cli = Cli::parse_from(["adit", "up", "--data", "/flag"]);
        assert_eq!(cli.setting("ADIT_DATA").as_deref(), Some("/flag"));
        assert_eq!(cli.setting("ADIT_NO_SUCH_VARIABLE"), None);
    }
}
