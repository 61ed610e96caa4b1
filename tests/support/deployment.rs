//! Adit as operators run it: on a broker, a database and an object store of any kind, in one process or in several.

use std::path::Path;
use std::sync::Arc;

use adit_shared::objects::{self, ObjectStore};
use adit_shared::store::SqlStore;
use futures::future::join_all;
use serde_json::Value;
use tempfile::TempDir;

use super::parts::{Broker, BrokerKind, DatabaseKind, PrivateServer, StoreKind, Trace, database, store};
use super::{Api, Client, Machine, Process};

/// Name of the machine that has everything that is embedded.
const HOME: &str = "data";

/// The parts of one deployment. It is a machine, where verbs run; servers run on machines of their own, unless all are in one.
pub(crate) struct Deployment {
    broker: Broker,
    home: Machine,
    traces: Vec<Trace>,
    dir: TempDir,
}

impl Drop for Deployment {
    /// Removes what is left on servers that others use too. A test that keeps a deployment longer than its processes finds it unused.
    fn drop(&mut self) {
        let traces = std::mem::take(&mut self.traces);
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(join_all(traces.into_iter().map(Trace::remove)));
        });
        // What is not removed hurts nobody, and has said so.
        let _ = removing.join();
    }
}

impl std::ops::Deref for Deployment {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.home
    }
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
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join(HOME);
        std::fs::create_dir(&data).unwrap();
        let (database, rows) = database(kind, private.database).await?;
        let (store, kept) = store(stored, private.store)?;
        let vhost = if private.broker.is_none() { broker.trace() } else { None };
        let mut environment = vec![
            ("ADIT_DATABASE_URL", database.unwrap_or_else(|| format!("sqlite://{}/adit.sqlite", data.display()))),
            ("ADIT_STORE_URL", store.unwrap_or_else(|| format!("file://{}/objects", data.display()))),
        ];
        environment.extend(broker.url().map(|url| ("ADIT_BROKER_URL", url)));
        let environment: Vec<_> = environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let home = Machine::new(dir.path(), HOME, &environment);
        Some(Self { broker, home, traces: [rows, kept, vhost].into_iter().flatten().collect(), dir })
    }

    /// A folder for the test's own files.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// One more machine, with nothing in its data folder yet.
    pub(crate) fn machine(&self, name: &str) -> Machine {
        Machine::new(self.dir.path(), name, self.home.environment())
    }

    /// Starts everything that the main job needs: one `adit up`, or, where the broker is a server, an API process and two packagers.
    pub(crate) fn start(&self, settings: &[(&str, &str)]) -> Running {
        if matches!(self.broker, Broker::Embedded) {
            let Api { client, process } = self.home.up(settings);
            return Running { client, processes: vec![process] };
        }
        let Api { client, process } = self.machine("api").api(settings);
        let packagers = ["packager-1", "packager-2"].map(|name| self.machine(name).packager(&client.url, settings));
        Running { client, processes: [process].into_iter().chain(packagers).collect() }
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
        SqlStore::open(self.home.setting("ADIT_DATABASE_URL")).await.unwrap()
    }

    /// The object store, looked at from outside.
    pub(crate) async fn objects(&self) -> Arc<dyn ObjectStore> {
        objects::open(self.home.setting("ADIT_STORE_URL")).await.unwrap()
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
