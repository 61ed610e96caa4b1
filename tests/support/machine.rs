//! A machine that processes run on: a data folder and a log of its own, and the settings that name what it shares with others.

use std::path::{Path, PathBuf};
use std::process::Command;

use url::Url;

use super::{Client, Process, adit, last_line, succeeded};

/// The broker's users of `deploy/`, by role.
pub(crate) const API_USER: &str = "adit-api";
pub(crate) const PACKAGER_USER: &str = "adit-packager";
/// Any free port of this machine.
const ANY_ADDRESS: &str = "127.0.0.1:0";

#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) data: PathBuf,
    log: PathBuf,
    environment: Vec<(String, String)>,
}

impl Machine {
    /// A machine of that name, with nothing in its data folder yet.
    pub(crate) fn new(folder: &Path, name: &str, environment: &[(String, String)]) -> Self {
        let log = folder.join(format!("{name}.log"));
        Self { data: folder.join(name), log, environment: environment.to_vec() }
    }

    /// The same machine, but its way to the object store leads over this endpoint.
    pub(crate) fn through(&self, endpoint: &str) -> Self {
        let mut machine = self.clone();
        for (_, store) in machine.environment.iter_mut().filter(|(name, _)| name == "ADIT_STORE_URL") {
            let mut url: Url = store.parse().unwrap();
            let others = url.query_pairs().filter(|(name, _)| name != "endpoint");
            let others: Vec<(String, String)> = others.map(|(name, value)| (name.into(), value.into())).collect();
            url.query_pairs_mut().clear().extend_pairs(others).append_pair("endpoint", endpoint);
            *store = url.into();
        }
        machine
    }

    /// The same machine, with another file for the log.
    pub(crate) fn with_log(&self, name: &str) -> Self {
        Self { log: self.log.with_file_name(format!("{name}.log")), ..self.clone() }
    }

    /// What it shares with other machines.
    pub(crate) fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// The value of a setting that it shares.
    pub(crate) fn setting(&self, name: &str) -> &str {
        self.environment.iter().find(|(variable, _)| variable == name).unwrap().1.as_str()
    }

    /// Where its processes write their log.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The program on this machine.
    pub(crate) fn adit(&self, arguments: &[&str]) -> Command {
        let mut command = adit(&self.data);
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).args(arguments);
        command
    }

    /// Standard output of a verb that must succeed.
    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        succeeded(&mut self.adit(arguments))
    }

    /// Imports a collection folder; gives the report.
    pub(crate) fn import(&self, folder: &Path) -> String {
        self.succeed(&["import", folder.to_str().unwrap()])
    }

    /// A new key of that role.
    pub(crate) fn key(&self, role: &str) -> String {
        last_line(&self.succeed(&["keys", "create", "test", "--role", role]))
    }

    /// Starts `adit up`.
    pub(crate) fn up(&self, settings: &[(&str, &str)]) -> Api {
        self.serve("up", settings, |line| line.trim().strip_prefix("API "))
    }

    /// Starts an API process.
    pub(crate) fn api(&self, settings: &[(&str, &str)]) -> Api {
        self.serve("api", settings, |line| line.strip_prefix("Adit API on "))
    }

    fn serve(&self, verb: &str, settings: &[(&str, &str)], address: fn(&str) -> Option<&str>) -> Api {
        let mut command = self.adit(&["--listen", ANY_ADDRESS, verb]);
        command.envs(settings.iter().copied());
        let (process, url) =
            Process::start(command, &self.log, |line| Some(address(line)?.trim().trim_end_matches("/api").to_owned()));
        Api { client: Client::new(&url, &self.key("operator")), process }
    }

    /// Starts a packager of the API at that URL.
    pub(crate) fn packager(&self, api: &str, settings: &[(&str, &str)]) -> Process {
        let mut command = self.packager_command(api, &self.key("packager"));
        command.envs(settings.iter().copied());
        Process::start(command, &self.log, |line| line.starts_with("Adit packager").then_some(())).0
    }

    /// A packager of the API at that URL, with a key. Where the API has a user of its own at the broker,
    /// so has the packager.
    pub(crate) fn packager_command(&self, api: &str, key: &str) -> Command {
        let mut command = self.adit(&["packager"]);
        command.env("ADIT_API_KEY", key).env("ADIT_PUBLIC_URL", api);
        let mut broker: Url = self.setting("ADIT_BROKER_URL").parse().unwrap();
        if broker.username() == API_USER {
            broker.set_username(PACKAGER_USER).unwrap();
            command.env("ADIT_BROKER_URL", broker.as_str());
        }
        command
    }
}

/// A process that serves the API, and a client of it.
pub(crate) struct Api {
    pub(crate) client: Client,
    pub(crate) process: Process,
}

impl std::ops::Deref for Api {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}
