//! The servers: `adit up` (everything in one process), `adit api` and `adit packager`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use adit_api::anonymous_allowance::AnonymousLimits;
use adit_api::{App, Parts, Settings};
use adit_packager::PackagerConfig;
use adit_shared::config::{Config, Part, Secret};
use adit_shared::ids::KeyId;
use adit_shared::messaging::{Broker, BrokerConfig, BrokerError};
use adit_shared::signing::{PublicKeys, SigningKey};
use anyhow::{Context as _, bail};
use futures::future::join_all;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::data_folder::secure_data_folder;
use crate::embedded_broker::{EmbeddedBroker, LOGIN};
use crate::open_files;
use crate::own_keys::{end_key, forget_first_key, prepare_keys};
use crate::running::{Hold, Running};
use crate::services::{Services, await_objects};
use crate::signing;
use crate::terminal::{outlive_readers, outln};

/// How long running requests may take to end after a stop was asked for.
const GRACE: Duration = Duration::from_secs(10);

/// A running `adit up`.
#[derive(Debug)]
pub(crate) struct Server {
    /// Where clients reach the API.
    pub(crate) url: String,
    /// The key that was made because there was none.
    pub(crate) first_key: Option<String>,
    data: PathBuf,
    services: Services,
    packager_key: KeyId,
    stop: CancellationToken,
    api: JoinHandle<anyhow::Result<()>>,
    packager: JoinHandle<anyhow::Result<()>>,
    broker: Option<EmbeddedBroker>,
    _hold: Hold,
}

/// Runs everything until it is told to stop.
pub(crate) async fn up(config: Config) -> anyhow::Result<()> {
    let server = Server::start(config).await?;
    outln!("Adit is up.\n  API   {}/api\n  Docs  {}/docs/", server.url, server.url);
    if let Some((address, file)) = server.broker.as_ref().and_then(|broker| broker.tcp.as_ref()) {
        outln!("  Broker  stomp://{LOGIN}@{address}   (passcode in {})", file.display());
    }
    if let Some(key) = &server.first_key {
        outln!("  Key   {key}   (role operator; shown only now, `adit keys create NAME` makes more)");
        server.forget_first_key();
    }
    server.run_until(stop_signal()).await
}

impl Server {
    /// Starts the embedded broker (unless another is named), the API and a packager.
    pub(crate) async fn start(config: Config) -> anyhow::Result<Self> {
        outlive_readers();
        secure_data_folder(&config)?;
        // Before the database is opened, which migrates it: an older `adit up` may be at work on it.
        let hold = Hold::take(&config.data).await?;
        let services = Services::open(&config).await?;
        let signing_key = signing::named_or_own(&config)?;
        let public_keys = signing::published(&config, Some(&signing_key))?;
        let (listener, address) = listen(&config).await?;
        let url = public_url(&config, address)?;
        if let Err(exposed) = config.plaintext.check_url(Part::Api, url.as_str()) {
            tracing::warn!("ADIT_PUBLIC_URL {exposed}");
        }
        let (embedded, broker_url, broker) = open_broker(&config).await?;
        let keys = prepare_keys(&services, &config.data).await?;
        hold.announce(&Running {
            pid: std::process::id(),
            api: trimmed(&url),
            broker: broker_url,
            packager_key: keys.packager.0,
        })?;
        let broker = Broker::new(broker);
        let stop = CancellationToken::new();
        let packager = packager_config(&config, &keys.secret, &url, Some(signing_key))?;
        let packager = spawn_packager(&services, broker.clone(), packager, stop.clone());
        let api = spawn_api(settings(&config, url.clone(), public_keys), &services, broker, listener, stop.clone());
        Ok(Self {
            url: trimmed(&url),
            first_key: keys.first,
            data: config.data,
            services,
            packager_key: keys.packager,
            stop,
            api,
            packager,
            broker: embedded,
            _hold: hold,
        })
    }

    /// Forgets the first key, which was printed: until then each start prints it.
    pub(crate) fn forget_first_key(&self) {
        forget_first_key(&self.data);
    }

    /// The parts that the server works on.
    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    /// Runs until `signal`, or until a part ends by itself.
    pub(crate) async fn run_until(self, signal: impl Future<Output = ()>) -> anyhow::Result<()> {
        self.run_until_done(async {
            signal.await;
            Ok(())
        })
        .await
    }

    /// Runs until `job` is done, or until a part ends by itself; then ends in two steps: take nothing new, finish what runs.
    pub(crate) async fn run_until_done(mut self, job: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
        let outcome = tokio::select! {
            outcome = job => outcome,
            ended = &mut self.api => Err(ended_early("the API", ended)),
            ended = &mut self.packager => Err(ended_early("the packager", ended)),
        };
        self.stop.cancel();
        let parts = [("the API", self.api), ("the packager", self.packager)];
        let running = parts.into_iter().filter(|(_, part)| !part.is_finished());
        for ended in join_all(running.map(|(name, part)| end(name, part))).await {
            if let Err(error) = ended {
                tracing::warn!("{error:#}");
            }
        }
        if let Err(error) = end_key(&self.services, self.packager_key).await {
            tracing::warn!(%error, "key {} of the packager inside stays until the next start", self.packager_key);
        }
        if let Some(broker) = self.broker {
            broker.server.shutdown().await;
        }
        outcome
    }
}

/// Waits for the end of a part, as long as [`GRACE`]; tells whether it came.
async fn end(name: &str, part: JoinHandle<anyhow::Result<()>>) -> anyhow::Result<bool> {
    if let Ok(ended) = tokio::time::timeout(GRACE, part).await {
        return ended?.map(|()| true).with_context(|| format!("{name} ended"));
    }
    tracing::warn!("{name} did not end in {} seconds; what still ran there is cut off", GRACE.as_secs());
    Ok(false)
}

fn ended_early(part: &str, ended: Result<anyhow::Result<()>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow::anyhow!("{part} ended by itself"),
        Ok(Err(error)) => error.context(format!("{part} ended")),
        Err(error) => anyhow::Error::new(error).context(format!("{part} broke down")),
    }
}

/// Runs an API server on outside parts.
pub(crate) async fn api(config: Config) -> anyhow::Result<()> {
    outlive_readers();
    let broker_url = outside_broker(&config)?;
    let public_keys = signing::published(&config, signing::named(&config)?.as_ref())?;
    let broker = Broker::new(broker_config(&config, broker_url.reveal())?);
    let stop = stop_token();
    let Some(services) = stop.run_until_cancelled(Services::await_open(&config)).await else { return Ok(()) };
    let services = services?;
    let Some(let_in) = stop.run_until_cancelled(try_broker(&broker)).await else { return Ok(()) };
    let_in?;
    let (listener, address) = listen(&config).await?;
    let url = public_url(&config, address)?;
    outln!("Adit API on {}/api", trimmed(&url));
    let api = spawn_api(settings(&config, url, public_keys), &services, broker, listener, stop.clone());
    // Who downloads or listens for as long as that goes on elsewhere: that is no failure.
    run_one("the API", api, stop).await.map(drop)
}

/// Runs a packager on outside parts.
pub(crate) async fn packager(config: Config) -> anyhow::Result<()> {
    outlive_readers();
    let broker_url = outside_broker(&config)?;
    let Some(key) = config.api_key.clone() else {
        bail!(
            "a packager needs a key for the API: set ADIT_API_KEY (`adit keys create NAME --role packager` makes one)"
        );
    };
    let Some(url) = config.public_url.clone() else {
        bail!(
            "a packager needs the URL of the API: set ADIT_PUBLIC_URL (or --url) to the one that clients use; it shows its \
             key there and nowhere else, whatever server a request names"
        );
    };
    if let Err(exposed) = config.plaintext.check_url(Part::Api, url.as_str()) {
        bail!("ADIT_PUBLIC_URL {exposed}");
    }
    let signing_key = signing::named(&config)?;
    if signing_key.is_none() {
        tracing::warn!("packages get no receipt: set ADIT_SIGNING_KEY (`adit keys signing --out FILE` makes a key)");
    }
    let broker = Broker::new(broker_config(&config, broker_url.reveal())?);
    let stop = stop_token();
    let Some(objects) = stop.run_until_cancelled(await_objects(&config)).await else { return Ok(()) };
    let objects = objects?;
    outln!("Adit packager: {} build(s) at once", config.workers);
    let settings = packager_config(&config, &key, &url, signing_key)?;
    let clock = Arc::new(adit_shared::clock::SystemClock);
    let run = adit_packager::run(settings, broker, objects, clock, stop.clone());
    if !run_one("the packager", tokio::spawn(async move { Ok(run.await?) }), stop).await? {
        bail!("the packager did not end in time; what it built goes back to the queue");
    }
    Ok(())
}

/// Runs a part until it is told to stop; tells whether it ended in time then.
async fn run_one(
    name: &str,
    mut part: JoinHandle<anyhow::Result<()>>,
    stop: CancellationToken,
) -> anyhow::Result<bool> {
    tokio::select! {
        ended = &mut part => return ended?.map(|()| true),
        () = stop.cancelled() => {}
    }
    end(name, part).await
}

/// Is cancelled by Ctrl-C or SIGTERM, from now on: a part that is waited for at the start must not keep the process.
fn stop_token() -> CancellationToken {
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        stop_signal().await;
        stopping.cancel();
    });
    stop
}

/// Sees whether the broker lets us in. One that is away may come later, and the API can do much without it.
async fn try_broker(broker: &Broker) -> anyhow::Result<()> {
    match broker.check().await {
        Err(error @ BrokerError::Refused { .. }) => {
            Err(anyhow::Error::new(error).context("cannot use the broker (ADIT_BROKER_URL)"))
        }
        Err(error) => {
            tracing::warn!(%error, "the API starts without the broker");
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}

fn outside_broker(config: &Config) -> anyhow::Result<Secret> {
    config.broker_url.clone().context("set ADIT_BROKER_URL; only `adit up` has a broker inside")
}

fn broker_config(config: &Config, url: &str) -> anyhow::Result<BrokerConfig> {
    let mut broker: BrokerConfig = url.parse().context("ADIT_BROKER_URL cannot be used")?;
    broker.queue_expiry = config.queue_expiry;
    Ok(broker)
}

async fn listen(config: &Config) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}; choose another address with --listen", config.listen))?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// The URL that clients use; where the address is "any", they are told of the loopback address.
fn public_url(config: &Config, mut address: SocketAddr) -> anyhow::Result<Url> {
    if let Some(url) = &config.public_url {
        return Ok(url.clone());
    }
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    Ok(Url::parse(&format!("http://{address}"))?)
}

fn trimmed(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

/// The embedded broker, unless the configuration names another; the URL for other verbs, and how
/// the process itself reaches it.
async fn open_broker(config: &Config) -> anyhow::Result<(Option<EmbeddedBroker>, String, BrokerConfig)> {
    if let Some(url) = &config.broker_url {
        if config.broker_listen.is_some() {
            bail!(
                "ADIT_BROKER_LISTEN is for the embedded broker, and ADIT_BROKER_URL names another: unset one of them"
            );
        }
        return Ok((None, url.reveal().to_owned(), broker_config(config, url.reveal())?));
    }
    let embedded = EmbeddedBroker::start(config).await?;
    let mut inside = embedded.inside();
    inside.queue_expiry = config.queue_expiry;
    let url = embedded.url.clone();
    Ok((Some(embedded), url, inside))
}

/// A packager that shows its key to no other server than the one at that URL.
fn packager_config(
    config: &Config,
    key: &Secret,
    server: &Url,
    signing_key: Option<SigningKey>,
) -> anyhow::Result<PackagerConfig> {
    let api =
        Url::parse(&format!("{}/api", trimmed(server))).context("ADIT_PUBLIC_URL cannot be extended by a path")?;
    let usual = PackagerConfig::new(key.reveal().to_owned(), api);
    Ok(PackagerConfig { workers: config.workers, attempts: config.attempts, signing_key, ..usual })
}

fn spawn_packager(
    services: &Services,
    broker: Broker,
    settings: PackagerConfig,
    stop: CancellationToken,
) -> JoinHandle<anyhow::Result<()>> {
    let run = adit_packager::run(settings, broker, services.objects.clone(), services.clock.clone(), stop);
    tokio::spawn(async move { Ok(run.await?) })
}

fn settings(config: &Config, public_url: Url, public_keys: PublicKeys) -> Settings {
    Settings {
        public_url,
        package_ttl: config.package_ttl,
        resend_after: config.resend_after,
        request_timeout: config.request_timeout,
        public_keys,
        webhooks: config.webhooks.clone(),
        http: config.http.clone(),
        anonymous: AnonymousLimits { requests: config.anonymous_requests, search_time: config.anonymous_search_time },
    }
}

fn spawn_api(
    settings: Settings,
    services: &Services,
    broker: Broker,
    listener: TcpListener,
    stop: CancellationToken,
) -> JoinHandle<anyhow::Result<()>> {
    let app = App::new(Parts {
        store: services.store.clone(),
        objects: services.objects.clone(),
        search: services.search.clone(),
        broker,
        clock: services.clock.clone(),
        settings,
        metrics: adit_api::metrics::Metrics::default(),
        stop: stop.clone(),
        limits: adit_api::Limits::default(),
    });
    let router = adit_api::router(app.clone());
    let http = app.settings.http.clone();
    tokio::spawn(async move {
        let serve = adit_api::listener::serve_connections(listener, router, http, open_files::for_connections(), stop);
        app.while_serving(serve).await;
        Ok(())
    })
}

/// Exit status of a program that Ctrl-C has ended, as shells count it: 128 and the signal's number.
const INTERRUPTED: i32 = 130;

/// Waits for Ctrl-C or SIGTERM. Another Ctrl-C after that ends the process at once.
pub(crate) async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            tokio::spawn(async move {
                interrupt.recv().await;
                std::process::exit(INTERRUPTED);
            });
        }
        (Err(error), _) | (_, Err(error)) => {
            tracing::error!(%error, "signals cannot be heard; only SIGKILL will end this process");
            std::future::pending::<()>().await;
        }
    }
    tracing::info!("stopping");
}

#[cfg(test)]
mod tests {
    use adit_shared::messaging::{BrokerServer, ServerConfig};

    use super::*;

    #[tokio::test]
    async fn who_finds_another_running_leaves_the_database_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().display().to_string();
        let config = Config::load(|name| (name == "ADIT_DATA").then(|| data.clone())).unwrap();
        secure_data_folder(&config).unwrap();
        let _hold = Hold::take(&config.data).await.unwrap();
        let error = Server::start(config).await.unwrap_err().to_string();
        assert!(error.contains("another `adit up`"), "{error}");
        let made: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(made, ["lock"], "no database was opened, or migrated");
    }

    #[tokio::test]
    async fn a_broker_that_refuses_ends_the_start_and_one_that_is_away_does_not() {
        let credentials = Some(("adit".to_owned(), "right".to_owned()));
        let server = BrokerServer::start(ServerConfig { credentials, ..ServerConfig::default() }).await.unwrap();
        let address = server.addr().unwrap();
        let broker = |passcode| Broker::new(format!("stomp://adit:{passcode}@{address}").parse().unwrap());
        try_broker(&broker("right")).await.unwrap();
        let error = format!("{:#}", try_broker(&broker("wrong")).await.unwrap_err());
        assert!(error.contains("ADIT_BROKER_URL") && error.contains("refused"), "{error}");
        server.shutdown().await;
        try_broker(&broker("right")).await.unwrap();
    }
}
