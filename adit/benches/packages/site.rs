//! A deployment to be measured: a broker in this process, `adit api` and `adit packager` as processes of their own.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_shared::ids::{PackageId, SaltedPackage};
use adit_shared::messaging::{BrokerServer, ServerConfig};
use adit_shared::objects::{self, ObjectStore};
use futures::future::try_join_all;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::Outcome;
use super::corpus::{Corpus, Kind};
use super::support::{Api, Client, Machine, Process};

/// How often a package is asked for, at first and once it has taken a while: a poll takes some of the processor's time too.
const POLLS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(50)];

/// A finished package.
#[derive(Debug)]
pub(crate) struct Package {
    id: SaltedPackage,
    /// Bytes of its archive.
    pub(crate) size: u64,
    /// From the request until it was seen to be successful.
    pub(crate) took: Duration,
}

/// The deployment, and a docset of all that is in it.
pub(crate) struct Site {
    pub(crate) kind: Kind,
    pub(crate) documents: u64,
    pub(crate) docset: i64,
    /// What the import took.
    pub(crate) import: Duration,
    pub(crate) api: Api,
    pub(crate) store: String,
    pub(crate) objects: Arc<dyn ObjectStore>,
    packager: Process,
    machine: Machine,
    _broker: BrokerServer,
    pub(crate) dir: TempDir,
}

impl Drop for Site {
    /// Leaves a store that others use too as it was.
    fn drop(&mut self) {
        if self.store.starts_with("s3:") {
            let objects = self.objects.clone();
            let empty = async move {
                let keys: Vec<String> = objects.list("").await?.into_iter().map(|(key, _)| key).collect();
                objects.delete(&keys).await
            };
            if let Err(error) = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(empty)) {
                eprintln!("what the bench put into {} is still there: {error}", self.store);
            }
        }
    }
}

impl Site {
    /// Imports the corpus into a new deployment on that store (else a folder), and starts it.
    pub(crate) async fn open(corpus: &Corpus, store: Option<&str>) -> Outcome<Self> {
        let dir = tempfile::tempdir()?;
        let broker = BrokerServer::start(ServerConfig::default()).await?;
        let store = store.map_or_else(|| format!("file://{}/objects", dir.path().display()), str::to_owned);
        let environment = [
            ("ADIT_BROKER_URL", format!("stomp://{}", broker.addr().ok_or("the broker has no address")?)),
            ("ADIT_DATABASE_URL", format!("sqlite://{}/adit.sqlite", dir.path().display())),
            ("ADIT_STORE_URL", store.clone()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        let machine = Machine::new(dir.path(), "machine", &environment);
        fs::create_dir(&machine.data)?;
        let began = Instant::now();
        machine.import(&corpus.folder);
        let import = began.elapsed();
        let api = machine.api(&[("ADIT_LOG", "warn")]);
        let packager = machine.packager(&api.url, &[("ADIT_LOG", "warn")]);
        let docset = api.docset("corpus", "*").await;
        let objects = objects::open(&store).await?;
        let (kind, documents) = (corpus.run.kind, corpus.run.documents);
        Ok(Self { kind, documents, docset, import, api, store, objects, packager, machine, _broker: broker, dir })
    }

    /// Has a package made of everything.
    pub(crate) async fn build(&self) -> Outcome<Package> {
        build(&self.api, self.docset, self.kind.formats()).await
    }

    /// Key of a package's archive in the store.
    pub(crate) async fn archive(&self, package: &Package) -> Outcome<String> {
        let listed = self.objects.list(&package.prefix()).await?;
        let archive = listed.into_iter().find(|(_, size)| *size == package.size);
        Ok(archive.ok_or("the archive is not in the store")?.0)
    }

    /// Removes all that there is of a package.
    pub(crate) async fn forget(&self, package: &Package) -> Outcome<()> {
        let listed = self.objects.list(&package.prefix()).await?;
        let keys: Vec<String> = listed.into_iter().map(|(key, _)| key).collect();
        Ok(self.objects.delete(&keys).await?)
    }

    /// Peak memory in bytes of the packager so far.
    pub(crate) fn packager_peak(&self) -> Outcome<u64> {
        peak(&self.packager)
    }

    /// Has a packager of so many workers make as many packages at once; gives its peak memory in bytes, 0 for a single worker.
    pub(crate) async fn with_workers(mut self, workers: usize) -> Outcome<(Self, u64)> {
        if workers < 2 {
            return Ok((self, 0));
        }
        let settings = [("ADIT_LOG", "warn"), ("ADIT_WORKERS", &workers.to_string())];
        let other = std::mem::replace(&mut self.packager, self.machine.packager(&self.api.url, &settings));
        assert!(other.stop().success());
        for package in try_join_all((0..workers).map(|_| self.build())).await? {
            self.forget(&package).await?;
        }
        let peak = self.packager_peak()?;
        Ok((self, peak))
    }

    /// Has the same package made by everything in one process; gives its peak memory in bytes.
    pub(crate) async fn up_peak(self) -> Outcome<u64> {
        let environment: Vec<_> =
            self.machine.environment().iter().filter(|(name, _)| name != "ADIT_BROKER_URL").cloned().collect();
        let up = Machine::new(self.dir.path(), "up", &environment);
        let Api { client, process } = up.up(&[("ADIT_LOG", "warn")]);
        let docset = client.docset("corpus", "*").await;
        let package = build(&client, docset, self.kind.formats()).await?;
        let peak = peak(&process)?;
        self.forget(&package).await?;
        Ok(peak)
    }
}

impl Package {
    fn prefix(&self) -> String {
        format!("packages/{}/", self.id)
    }
}

async fn build(client: &Client, docset: i64, formats: &[&str]) -> Outcome<Package> {
    let began = Instant::now();
    let id = client.ask(docset, &json!({"formats": formats, "reuse": false})).await;
    let package = loop {
        let package: Value = client.json(&format!("/api/packages/{id}")).await;
        if package["terminal"] == true {
            break package;
        }
        tokio::time::sleep(POLLS[usize::from(began.elapsed() > Duration::from_secs(2))]).await;
    };
    let took = began.elapsed();
    if package["status"] != "successful" {
        return Err(package.to_string().into());
    }
    let salt = package["salt"].as_str().map(str::parse).transpose()?;
    let id = SaltedPackage { id: PackageId(id), salt };
    Ok(Package { id, size: package["size"].as_u64().ok_or("the package has no size")?, took })
}

/// Peak resident memory (`VmHWM`) in bytes of a process.
fn peak(process: &Process) -> Outcome<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id()))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("peak memory is told on Linux only")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}
