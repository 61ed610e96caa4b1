//! The parts under the processes: a broker, a database and an object store of one deployment's own, on the servers that `tests/run` has started
//! or, where a test ends and starts it, on a server that nobody else uses.

use std::env;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use adit_shared::objects;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use url::Url;

use super::machine::API_USER;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Kinds of brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BrokerKind {
    Embedded,
    RabbitMq,
    ActiveMq,
}

/// Kinds of databases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DatabaseKind {
    Sqlite,
    Postgres,
}

/// Kinds of object stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreKind {
    Folder,
    S3,
}

/// The value of a variable of `tests/run`, or a line that says what is skipped without it.
fn server(variable: &str) -> Option<String> {
    let value = env::var(variable).ok();
    if value.is_none() {
        eprintln!("skipped: {variable} is not set; tests/run starts that server");
    }
    value
}

/// A name that no other test uses.
fn fresh(what: &str) -> String {
    format!("{what}_{:016x}", rand::random::<u64>())
}

/// A server of a test's own, which it may end and start again. It is gone when this goes out of scope.
pub(crate) struct PrivateServer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Where it is: the variables of `tests/run`.
    variables: Vec<(String, String)>,
}

impl PrivateServer {
    /// Starts a server of `tests/servers`, unless `variable` tells that `tests/run` has not found it either.
    pub(crate) fn start(name: &str, variable: &str) -> Option<Self> {
        server(variable)?;
        let mut command = Command::new(Path::new(ROOT).join("tests/servers/private"));
        let mut child = command.arg(name).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut server = Self { child, input, output, variables: Vec::new() };
        loop {
            match server.line().split_once('=') {
                Some((name, value)) => server.variables.push((name.to_owned(), value.to_owned())),
                None => return Some(server),
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.output.read_line(&mut line).unwrap() > 0, "tests/servers/private ended");
        line.trim_end().to_owned()
    }

    fn order(&mut self, command: &str) {
        writeln!(self.input.as_mut().unwrap(), "{command}").unwrap();
        self.line();
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.order("kill");
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.order("stop");
    }

    /// Starts it again where it was, and waits until it answers.
    pub(crate) fn start_again(&mut self) {
        self.order("start");
    }

    /// One of the variables that tell where it is.
    pub(crate) fn variable(&self, name: &str) -> String {
        self.variables.iter().find(|(variable, _)| variable == name).unwrap().1.clone()
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        // The end of its input is what tells it to clean up.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// What a deployment has on servers that others use too, to be removed after it.
pub(crate) enum Trace {
    Database { server: String, name: String },
    VirtualHost { console: String, name: String },
    Objects { url: String },
}

impl Trace {
    pub(crate) async fn remove(self) {
        match self {
            Self::Database { server, name } => {
                let mut admin = PgConnection::connect(&server).await.unwrap();
                admin.execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await.unwrap();
            }
            Self::VirtualHost { console, name } => {
                ask(Method::DELETE, &format!("{console}/api/vhosts/{name}"), None).await;
            }
            Self::Objects { url } => {
                let objects = objects::open(&url).await.unwrap();
                let keys: Vec<String> = objects.list("").await.unwrap().into_iter().map(|(key, _)| key).collect();
                objects.delete(&keys).await.unwrap();
            }
        }
    }
}

/// A broker that nobody else uses: the embedded one has no URL yet, RabbitMQ gives a virtual host, ActiveMQ knows none and is started anew.
pub(crate) enum Broker {
    Embedded,
    RabbitMq { url: String, console: String, vhost: String },
    ActiveMq { url: String, _server: Option<PrivateServer> },
}

impl Broker {
    /// One of that kind. RabbitMQ's unread queues go after two seconds if they are to go `soon`, else as `deploy/` says, after a day; ActiveMQ's
    /// go after a second at any time (tests/servers/activemq.sh).
    pub(crate) async fn new(kind: BrokerKind, soon: bool) -> Option<Self> {
        match kind {
            BrokerKind::Embedded => Some(Self::Embedded),
            BrokerKind::RabbitMq => {
                let url = server("ADIT_TEST_RABBITMQ_URL")?;
                Some(Self::on_rabbitmq(&url, &server("ADIT_TEST_RABBITMQ_CONSOLE_URL")?, soon).await)
            }
            BrokerKind::ActiveMq => {
                let server = PrivateServer::start("activemq", "ADIT_TEST_ACTIVEMQ_URL")?;
                Some(Self::ActiveMq { url: server.variable("ADIT_TEST_ACTIVEMQ_URL"), _server: Some(server) })
            }
        }
    }

    /// A broker on a server that the test keeps.
    pub(crate) async fn on(server: &PrivateServer, kind: BrokerKind) -> Self {
        match kind {
            BrokerKind::Embedded => Self::Embedded,
            BrokerKind::RabbitMq => {
                let [url, console] =
                    ["ADIT_TEST_RABBITMQ_URL", "ADIT_TEST_RABBITMQ_CONSOLE_URL"].map(|name| server.variable(name));
                Self::on_rabbitmq(&url, &console, false).await
            }
            BrokerKind::ActiveMq => Self::ActiveMq { url: server.variable("ADIT_TEST_ACTIVEMQ_URL"), _server: None },
        }
    }

    /// A virtual host with the policies that `deploy/rabbitmq` ships.
    async fn on_rabbitmq(url: &str, console: &str, soon: bool) -> Self {
        let vhost = fresh("journey");
        let shipped = std::fs::read_to_string(Path::new(ROOT).join("deploy/rabbitmq/definitions.json")).unwrap();
        let mut definitions: Value = serde_json::from_str(&shipped).unwrap();
        for list in definitions.as_object_mut().unwrap().values_mut() {
            for item in list.as_array_mut().unwrap() {
                let name = if item.get("vhost").is_some() { "vhost" } else { "name" };
                assert_eq!(item[name], "/");
                item[name] = json!(vhost);
                if soon && item.pointer("/definition/expires").is_some() {
                    item["definition"] = json!({"expires": 2000, "message-ttl": 2000});
                }
            }
        }
        let operator = json!({"configure": ".*", "write": ".*", "read": ".*"});
        ask(Method::PUT, &format!("{console}/api/vhosts/{vhost}"), None).await;
        ask(Method::POST, &format!("{console}/api/definitions"), Some(definitions)).await;
        ask(Method::PUT, &format!("{console}/api/permissions/{vhost}/adit"), Some(operator)).await;
        let users = std::fs::read_to_string(Path::new(ROOT).join("deploy/rabbitmq/users.json")).unwrap();
        let users: Value = serde_json::from_str(&users).unwrap();
        for rights in users["permissions"].as_array().unwrap() {
            let user = rights["user"].as_str().unwrap();
            ask(Method::PUT, &format!("{console}/api/permissions/{vhost}/{user}"), Some(rights.clone())).await;
        }
        Self::RabbitMq { url: format!("{url}/{vhost}"), console: console.to_owned(), vhost }
    }

    /// What is to be removed of it.
    pub(crate) fn trace(&self) -> Option<Trace> {
        match self {
            Self::RabbitMq { console, vhost, .. } => {
                Some(Trace::VirtualHost { console: console.clone(), name: vhost.clone() })
            }
            Self::Embedded | Self::ActiveMq { .. } => None,
        }
    }

    /// Where an API process finds it, with the rights that `deploy/` gives one.
    pub(crate) fn url(&self) -> Option<String> {
        let (Self::RabbitMq { url, .. } | Self::ActiveMq { url, .. }) = self else { return None };
        let mut url: Url = url.parse().unwrap();
        url.set_username(API_USER).unwrap();
        Some(url.into())
    }

    /// Messages that wait in a queue, looked at from outside; none in a queue that is not there. Not for the embedded broker, which has a verb for it.
    pub(crate) async fn waiting(&self, queue: &str) -> u64 {
        let name = queue.replace('/', ".");
        match self {
            Self::Embedded => unreachable!("`adit queues` tells it"),
            Self::RabbitMq { console, vhost, .. } => {
                // Without statistics, which are seconds old.
                let live = "disable_stats=true&enable_queue_totals=true";
                let queues = ask(Method::GET, &format!("{console}/api/queues/{vhost}?{live}"), None).await;
                let queue = queues.as_array().unwrap().iter().find(|queue| queue["name"] == name.as_str());
                queue.map_or(0, |queue| queue["messages"].as_u64().unwrap())
            }
            Self::ActiveMq { url, .. } => browse(url, &name),
        }
    }
}

/// Asks RabbitMQ's management interface.
async fn ask(method: Method, url: &str, body: Option<Value>) -> Value {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let request = reqwest::Client::new().request(method, url).header("content-type", "application/json");
    let answer = request.body(body.map(|body| body.to_string()).unwrap_or_default()).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{url}: {status} {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// Counts what waits in a queue of ActiveMQ, without taking it: a subscription that only looks ends by itself.
fn browse(broker: &str, queue: &str) -> u64 {
    let broker: Url = broker.parse().unwrap();
    let mut stream = TcpStream::connect((broker.host_str().unwrap(), broker.port().unwrap())).unwrap();
    let (login, passcode) = (broker.username(), broker.password().unwrap());
    write!(stream, "CONNECT\naccept-version:1.2\nhost:/\nlogin:{login}\npasscode:{passcode}\n\n\0").unwrap();
    write!(stream, "SUBSCRIBE\nid:0\ndestination:/queue/{queue}\nbrowser:true\n\n\0").unwrap();
    let (mut answer, mut buffer) = (String::new(), [0; 4096]);
    while !answer.contains("\nbrowser:end") {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0 && !answer.contains("ERROR\n"), "ActiveMQ ended it: {answer}");
        answer += &String::from_utf8_lossy(&buffer[..read]);
    }
    // The last frame says nothing but that it is the last.
    answer.matches("MESSAGE\n").count() as u64 - 1
}

/// A database that nobody else uses: its URL and what is to be removed of it; neither for SQLite in the data folder.
pub(crate) async fn database(
    kind: DatabaseKind,
    private: Option<&PrivateServer>,
) -> Option<(Option<String>, Option<Trace>)> {
    if kind == DatabaseKind::Sqlite {
        return Some((None, None));
    }
    let server = place("ADIT_TEST_POSTGRES_URL", private)?;
    let name = fresh("journey");
    let mut admin = PgConnection::connect(&server).await.unwrap();
    admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let mut url: Url = server.parse().unwrap();
    url.set_path(&name);
    Some((Some(url.into()), private.is_none().then_some(Trace::Database { server, name })))
}

/// A part of the bucket that nobody else uses: its URL and what is to be removed of it; neither for a folder in the data folder.
pub(crate) fn store(kind: StoreKind, private: Option<&PrivateServer>) -> Option<(Option<String>, Option<Trace>)> {
    if kind == StoreKind::Folder {
        return Some((None, None));
    }
    let mut url: Url = place("ADIT_TEST_S3_URL", private)?.parse().unwrap();
    let prefix = format!("{}/{}", url.path().trim_end_matches('/'), fresh("journey"));
    url.set_path(&prefix);
    let url = url.to_string();
    Some((Some(url.clone()), private.is_none().then_some(Trace::Objects { url })))
}

/// Where a server is: the test's own, or that of `tests/run`.
fn place(variable: &str, private: Option<&PrivateServer>) -> Option<String> {
    private.map_or_else(|| server(variable), |private| Some(private.variable(variable)))
}
