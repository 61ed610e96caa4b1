//! One address for all API processes, as a balancer gives it: each connection goes to one that
//! takes it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rand::seq::SliceRandom as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Hands connections on until it is dropped.
pub(super) struct Front {
    port: u16,
    servers: Arc<Servers>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Servers(Mutex<Vec<SocketAddr>>);

impl Servers {
    /// A connection to one of them, whichever takes it.
    async fn connect(&self) -> Option<TcpStream> {
        let mut addresses = self.0.lock().unwrap().clone();
        addresses.shuffle(&mut rand::rng());
        for address in addresses {
            if let Ok(stream) = TcpStream::connect(address).await {
                return Some(stream);
            }
        }
        None
    }
}

impl Front {
    pub(super) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (servers, mut tasks) = (Arc::<Servers>::default(), JoinSet::new());
        let serving = Arc::clone(&servers);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let servers = Arc::clone(&serving);
                connections.spawn(async move {
                    if let Some(mut far) = servers.connect().await {
                        // Whichever side breaks off ends it.
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { port, servers, _tasks: tasks }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Finds an address for one more server, which it has in all its lives.
    pub(super) fn add_server(&self) -> SocketAddr {
        loop {
            // Below the ports that the system gives to outgoing connections.
            let address = SocketAddr::from(([127, 0, 0, 1], rand::random_range(20_000..32_000)));
            if std::net::TcpListener::bind(address).is_ok() {
                self.servers.0.lock().unwrap().push(address);
                return address;
            }
        }
    }
}
