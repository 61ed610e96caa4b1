//! Adit as operators run it: on a broker, a database and an object store of any kind, in one process or in several.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use adit_shared::objects::{self, ObjectStore};
use adit_shared::store::SqlStore;
use serde_json::Value;
use tempfile::TempDir;

use super::parts::{Broker, BrokerKind, DatabaseKind, PrivateServer, StoreKind, database, store};
use super::{Client, Process, adit, last_line, succeeded};

/// Any free port of this machine.
pub(crate) const ANY_ADDRESS: &str = "127.0.0.1:0";

/// The parts of one deployment, and the settings that name them.
pub(crate) struct Deployment {
    broker: Broker,
    environment: Vec<(String, String)>,
    /// Data folder of everything that is embedded, and of the packagers.
    pub(crate) data: PathBuf,
    dir: TempDir,
}

/// Servers of a test's own, where it has any.
#[derive(Default)]
pub(crate) struct Private<'a> {
    pub(crate) broker: Option<(&'a PrivateServer, BrokerKind)>,
    pub(crate) database: Option<&'a PrivateServer>,
    pub(crate) store: Option<&'a PrivateServer>,
}

impl Deployment {
    /// Parts of these kinds that nobody else uses, or a line that says what is skipped because a server is not here.
    pub(crate) async fn new(broker: BrokerKind, database: DatabaseKind, store: StoreKind) -> Option<Self> {
        let parts = Broker::new(broker, false).await?;
        Self::of(parts, database, store, Private::default()).await
    }

    /// The same, but unread queues expire soon.
    pub(crate) async fn forgetful(broker: BrokerKind) -> Option<Self> {
        let parts = Broker::new(broker, true).await?;
        Self::of(parts, DatabaseKind::Sqlite, StoreKind::Folder, Private::default()).await
    }

    /// RabbitMQ, PostgreSQL and S3, some of them on servers of the test's own.
    pub(crate) async fn with(private: Private<'_>) -> Option<Self> {
        let broker = match private.broker {
            Some((server, kind)) => Broker::on(server, kind).await,
            None => Broker::new(BrokerKind::RabbitMq, false).await?,
        };
        Self::of(broker, DatabaseKind::Postgres, StoreKind::S3, private).await
    }

    async fn of(broker: Broker, kind: DatabaseKind, stored: StoreKind, private: Private<'_>) -> Option<Self> {
        let mut environment = Vec::new();
        let urls = [
            ("ADIT_BROKER_URL", broker.url().map(str::to_owned)),
            ("ADIT_DATABASE_URL", database(kind, private.database).await?),
            ("ADIT_STORE_URL", store(stored, private.store)?),
        ];
        for (name, url) in urls {
            environment.extend(url.map(|url| (name.to_owned(), url)));
        }
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        Some(Self { broker, environment, data, dir })
    }

    /// A folder for the test's own files.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(variable, _)| variable == name).map(|(_, value)| value.as_str())
    }

    /// The program on these parts.
    pub(crate) fn adit(&self) -> Command {
        let mut command = adit(&self.data);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Standard output of a verb that must succeed.
    pub(crate) fn succeed(&self, arguments: &[&str]) -> String {
        succeeded(self.adit().args(arguments))
    }

    /// Imports a collection folder; gives the report.
    pub(crate) fn import(&self, folder: &Path) -> String {
        self.succeed(&["import", folder.to_str().unwrap()])
    }

    /// A new key of that role.
    pub(crate) fn key(&self, role: &str) -> String {
        last_line(&self.succeed(&["keys", "create", "test", "--role", role]))
    }

    /// Starts everything that the main job needs: one `adit up`, or, where the broker is a server, an API process and two packagers.
    pub(crate) fn start(&self, settings: &[(&str, &str)]) -> Running {
        if matches!(self.broker, Broker::Embedded) {
            let mut command = self.adit();
            command.args(["--listen", ANY_ADDRESS, "up"]).envs(settings.iter().copied());
            let (process, url) = Process::start(command, &self.data.join("log.txt"), |line| {
                Some(line.trim().strip_prefix("API ")?.trim().trim_end_matches("/api").to_owned())
            });
            return Running { client: Client::new(&url, &self.key("operator")), processes: vec![process] };
        }
        let api = self.api("api", ANY_ADDRESS, settings);
        let packagers = ["packager-1", "packager-2"].map(|name| self.packager(name, settings));
        Running { client: api.client, processes: [api.process].into_iter().chain(packagers).collect() }
    }

    /// Starts an API process at an address, with a data folder and a log of its own.
    pub(crate) fn api(&self, name: &str, address: &str, settings: &[(&str, &str)]) -> Api {
        let mut command = self.own_folder(name);
        command.args(["--listen", address, "api"]).envs(settings.iter().copied());
        let (process, url) = Process::start(command, &self.log(name), |line| {
            Some(line.strip_prefix("Adit API on ")?.trim_end_matches("/api").to_owned())
        });
        Api { client: Client::new(&url, &self.key("operator")), process }
    }

    /// Starts a packager.
    pub(crate) fn packager(&self, name: &str, settings: &[(&str, &str)]) -> Process {
        let mut command = self.own_folder(name);
        command.arg("packager").env("ADIT_API_KEY", self.key("packager")).envs(settings.iter().copied());
        Process::start(command, &self.log(name), |line| line.starts_with("Adit packager").then_some(())).0
    }

    /// The program with a data folder of its own, as on a machine of its own; what is embedded is where it is for all.
    fn own_folder(&self, name: &str) -> Command {
        let mut command = adit(&self.dir.path().join(name));
        let database = format!("sqlite://{}", self.data.join("adit.sqlite").display());
        let store = url::Url::from_directory_path(self.data.join("objects")).unwrap();
        command.env("ADIT_DATABASE_URL", database).env("ADIT_STORE_URL", store.as_str());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Where a process of that name writes its log.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    /// Messages that wait in a queue, looked at from outside.
    pub(crate) async fn waiting(&self, queue: &str) -> u64 {
        if !matches!(self.broker, Broker::Embedded) {
            return self.broker.waiting(queue).await;
        }
        let queues: Value = serde_json::from_str(&self.succeed(&["queues", "--json"])).unwrap();
        let found = queues.as_array().unwrap().iter().find(|found| found["name"] == queue);
        found.map_or(0, |queue| queue["ready"].as_u64().unwrap() + queue["unacknowledged"].as_u64().unwrap())
    }

    /// The database, looked at from outside.
    pub(crate) async fn store(&self) -> SqlStore {
        let embedded = format!("sqlite://{}", self.data.join("adit.sqlite").display());
        SqlStore::open(self.setting("ADIT_DATABASE_URL").unwrap_or(&embedded)).await.unwrap()
    }

    /// The object store, looked at from outside.
    pub(crate) async fn objects(&self) -> Arc<dyn ObjectStore> {
        let embedded = url::Url::from_directory_path(self.data.join("objects")).unwrap().to_string();
        objects::open(self.setting("ADIT_STORE_URL").unwrap_or(&embedded)).await.unwrap()
    }
}

/// An API process.
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

/// Everything that the main job needs, running.
pub(crate) struct Running {
    client: Client,
    processes: Vec<Process>,
}

impl Running {
    /// The client, to be handed on.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Kills all processes as a power cut would.
    pub(crate) fn kill(self) {
        self.processes.into_iter().for_each(Process::kill);
    }

    /// Asks all processes to stop, and waits until each has, as it should.
    pub(crate) fn stop(self) {
        self.processes.iter().for_each(Process::terminate);
        for process in self.processes {
            assert!(process.stop().success());
        }
    }
}

impl std::ops::Deref for Running {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}
