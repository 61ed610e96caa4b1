//! The whole API in one process, as tests run it: SQLite, a folder, the embedded broker, and a clock that is moved by hand.

pub(crate) mod http;

use std::sync::Arc;
use std::time::Duration;

use adit_shared::clock::{Clock as _, ManualClock};
use adit_shared::digest::Sha256;
use adit_shared::domain::{Layout, Package, Recipe, Role, Selection};
use adit_shared::ids::PackageId;
use adit_shared::messaging::server::{BrokerServer, ServerConfig};
use adit_shared::messaging::{Broker, BrokerConfig};
use adit_shared::objects;
use adit_shared::search::TantivySearch;
use adit_shared::signing::PublicKeys;
use adit_shared::store::{NewCollection, NewDocset, NewPackage, SqlStore, Store as _};
use sqlx::{AnyConnection, Connection as _, Executor as _, Row as _};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::state::{App, Limits, Parts, Settings};

/// The public key of RFC 8037, appendix A.2.
const PUBLIC_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

fn database_in(folder: &TempDir) -> String {
    format!("sqlite://{}/adit.db", folder.path().display())
}

/// The parts that API processes share.
pub(crate) struct World {
    pub(crate) store: SqlStore,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) server: BrokerServer,
    folder: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let store = SqlStore::open(&database_in(&folder)).await.unwrap();
        let server = BrokerServer::start(ServerConfig::default()).await.unwrap();
        Self { store, clock: Arc::new(ManualClock::at(1_700_000_000_000)), server, folder }
    }

    /// Runs a statement in the database, as another process would.
    pub(crate) async fn run_sql(&self, sql: &'static str) {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect(&database_in(&self.folder)).await.unwrap();
        connection.execute(sql).await.unwrap();
        connection.close().await.unwrap();
    }

    /// How often the database was tried whether it takes what it is given.
    pub(crate) async fn trials_of_writing(&self) -> i64 {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect(&database_in(&self.folder)).await.unwrap();
        let row = connection.fetch_one("SELECT value FROM counters WHERE name = 'write_trials'").await.unwrap();
        row.get(0)
    }

    /// How its broker is reached.
    pub(crate) fn broker(&self) -> BrokerConfig {
        self.server.inside().into()
    }

    /// Where its objects lie.
    pub(crate) fn objects(&self) -> String {
        format!("file://{}/objects", self.folder.path().display())
    }

    /// An API process on these parts.
    pub(crate) async fn app(&self) -> App {
        self.app_on(self.broker(), &self.objects()).await
    }

    /// An API process on another broker or object store.
    pub(crate) async fn app_on(&self, broker: BrokerConfig, objects: &str) -> App {
        let objects = objects::open(objects).await.unwrap();
        App::new(Parts {
            store: Arc::new(self.store.clone()),
            search: Arc::new(TantivySearch::new(objects.clone(), self.folder.path().join("cache"))),
            objects,
            broker: Broker::new(broker),
            clock: self.clock.clone(),
            settings: Settings {
                public_url: "http://api.test".parse().unwrap(),
                package_ttl: Duration::from_hours(1),
                resend_after: Duration::from_mins(1),
                request_timeout: Duration::from_mins(1),
                public_keys: PublicKeys::parse(PUBLIC_KEY).unwrap(),
                webhooks: adit_shared::webhook::Guard::default(),
                http: adit_shared::config::HttpConfig::default(),
                anonymous: crate::anonymous_allowance::AnonymousLimits::default(),
            },
            metrics: Metrics::default(),
            stop: CancellationToken::new(),
            limits: Limits::default(),
        })
    }

    /// A package that is paid for and whose request is not sent yet.
    pub(crate) async fn package(&self) -> Package {
        let collection = NewCollection { slug: "c".into(), name: "C".into(), ..NewCollection::default() };
        let lease = self.store.begin_import(&collection, 0, 1000).await.unwrap();
        let owner = self.store.create_key("miner", Role::Miner, None, &Sha256::of(b"secret"), 0).await.unwrap().id;
        let docset = NewDocset {
            owner,
            collection: lease.collection(),
            name: None,
            origin: Selection::Refs(1).into(),
            corpus_version: 0,
            members: [1].into(),
            fingerprint: Sha256::of(b"docset"),
            formats: Vec::new(),
            created: 0,
        };
        let docset = self.store.create_docset(&docset).await.unwrap().id;
        let (formats, fingerprint) = (vec!["txt".parse().unwrap()], Sha256::of(b"package"));
        let created = self.clock.now_ms();
        let new = NewPackage {
            owner,
            docset,
            recipe: Recipe::new(formats, Layout::Flat),
            about: None,
            fingerprint,
            clearance: Default::default(),
            requested: 1,
            created,
        };
        let package = self.store.create_package(&new, true).await.unwrap().0;
        self.store.mark_paid(package.id).await.unwrap();
        self.row(&package).await
    }

    /// The package as the database has it.
    pub(crate) async fn row(&self, package: &Package) -> Package {
        self.row_of(package.id.0).await
    }

    /// The package of that id.
    pub(crate) async fn row_of(&self, id: i64) -> Package {
        self.store.package(PackageId(id), None).await.unwrap().unwrap()
    }
}
