//! Connection to the API of a created cluster.
//!
//! An address does not identify a cluster: another cluster or process may use it by now. The certificate does: it must
//! be signed by the CA of this cluster for the name of this cluster.

use std::{
    io::{self, ErrorKind},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream::FuturesOrdered};
use hyper::{
    Uri,
    rt::{Read, Write},
};
use hyper_timeout::TimeoutConnector;
use hyper_util::{
    client::legacy::{
        self,
        connect::{Connection as Connected, HttpConnector},
    },
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{ClientBuilder, ConfigExt},
    config::AuthInfo,
};
use tokio::time::{error::Elapsed, timeout};
use tower::Service;

use super::{
    api::{Access, Connect, Connection, Error},
    call::{root, words},
    kube::{KubeChild, WATCH},
    kubeconfig::{self, Identity},
    limits::Limits,
    path::Path,
};
use crate::{docker::tunnel::Connector, metrics::Metrics};

/// Timeout of a TCP connection with its TLS handshake. All candidates are local.
const CONNECT: Duration = Duration::from_secs(2);

/// Time after which a connection that nobody uses is closed. A look at a cluster needs about ten at once, and while a cluster
/// changes, the next look follows within seconds; afterwards, they would take most of the operator's memory.
const UNUSED: Duration = Duration::from_secs(10);

/// Name of the API in metrics.
const API: &str = "cluster";

/// Connector for the Kubernetes API.
#[derive(Clone, Debug, Default)]
pub struct KubeConnector {
    /// Counts the requests of its clients.
    pub metrics: Metrics,
}

#[async_trait]
impl Connect for KubeConnector {
    async fn connect(&self, access: &Access, limit: Duration) -> Result<Connection, Error> {
        let identity =
            kubeconfig::parse(&access.kubeconfig).map_err(|e| Error::Unreachable(e.to_string()))?;
        let mut all_missed = match directly(access, &identity, limit, &self.metrics).await {
            Ok(connection) => return Ok(connection),
            Err(missed) => missed,
        };
        let has_route = all_missed.iter().any(|(path, missed)| shows_route(*path, missed.got));
        if let Some(tunnel) = access.tunnel.as_ref().filter(|_| access.is_due || !has_route) {
            let client = |config| client(config, Connector(tunnel.clone()), &self.metrics);
            match attempt(Path::Tunnel, &identity, access, limit, client).await {
                Ok(connection) => return Ok(connection),
                Err(missed) => all_missed.push(missed),
            }
        }
        Err(Error::Unreachable(cause(&all_missed)))
    }
}

/// Tries all addresses concurrently and evaluates them in order: the first one that works is used, one that hangs costs
/// no more than the timeout, and the results of later ones are available by then.
async fn directly(
    access: &Access,
    identity: &Identity,
    limit: Duration,
    metrics: &Metrics,
) -> Result<Connection, Vec<(Path, Missed)>> {
    let client = |config| {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        client(config, connector, metrics)
    };
    let addresses = access.candidates.iter();
    let mut attempts: FuturesOrdered<_> =
        addresses.map(|&address| attempt(Path::Direct(address), identity, access, limit, client)).collect();
    let mut all_missed = Vec::new();
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(connection) => return Ok(connection),
            Err(missed) => all_missed.push(missed),
        }
    }
    Err(all_missed)
}

/// Reports whether a failed attempt shows that the load balancer can be reached this way: something there refused or
/// closed the connection. On the loopback address, that may be anything.
fn shows_route(path: Path, got: Got) -> bool {
    match (path, got) {
        (Path::Direct(_), Got::Closed | Got::Api) => true,
        (Path::Direct(address), Got::Refused) => !address.ip().is_loopback(),
        (Path::Direct(_), Got::Nowhere | Got::Somebody) | (Path::Tunnel, _) => false,
    }
}

/// Progress of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Got {
    /// No response.
    Nowhere,
    /// Connection refused.
    Refused,
    /// The response is not from this API.
    Somebody,
    /// The connection was accepted and closed, as the load balancer does while no server responds.
    Closed,
    /// The API responds but is not ready yet.
    Api,
}

/// A failed attempt.
#[derive(Clone, Debug)]
struct Missed {
    got: Got,
    why: String,
}

/// Returns the reason why no candidate works: the error of the attempt with the most progress. The others are mostly
/// routes to the same server.
fn cause(missed: &[(Path, Missed)]) -> String {
    let Some(furthest) = missed.iter().map(|(_, m)| m.got).max() else {
        return "no address is known yet".to_owned();
    };
    let first = missed.iter().find(|(_, m)| m.got == furthest);
    let cause = first.map(|(path, m)| format!("{path}: {}", m.why)).unwrap_or_default();
    match missed.len() - 1 {
        0 => cause,
        1 => format!("{cause} (1 other path failed too)"),
        others => format!("{cause} ({others} other paths failed too)"),
    }
}

async fn attempt(
    path: Path,
    identity: &Identity,
    access: &Access,
    limit: Duration,
    client: impl FnOnce(Config) -> kube::Result<Client>,
) -> Result<Connection, (Path, Missed)> {
    let somebody = |why: String| Missed { got: Got::Somebody, why };
    let ready = async {
        let config = config(path, identity, &access.tls_server_name).map_err(|e| somebody(e.to_string()))?;
        let child =
            KubeChild::new(client(config).map_err(|e| somebody(e.to_string()))?, access.token.as_deref());
        child.ready().await.map_err(|e| missed(&e))?;
        Ok(child)
    };
    let timed_out = || Missed { got: Got::Nowhere, why: "timed out".to_owned() };
    match timeout(limit, ready).await.unwrap_or_else(|_| Err(timed_out())) {
        Ok(child) => Ok(Connection { child: Arc::new(child), path }),
        Err(missed) => Err((path, missed)),
    }
}

/// Returns a client with the timeouts of the configuration. Its TLS connections end at the API server, whatever connects.
fn client<C>(config: Config, connector: C, metrics: &Metrics) -> kube::Result<Client>
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: Connected + Read + Write + Send + Unpin + 'static,
    C::Future: Send + 'static,
    C::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let https = config.rustls_https_connector_with_connector(connector)?;
    let mut limited = TimeoutConnector::new(https);
    limited.set_connect_timeout(config.connect_timeout);
    limited.set_read_timeout(config.read_timeout);
    limited.set_reset_reader_on_write(config.reset_reader_on_write);
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    // Without a timer, a connection stays until the next one is needed.
    let client = builder.pool_idle_timeout(UNUSED).pool_timer(TokioTimer::new()).build(limited);
    let namespace = config.default_namespace.clone();
    let client = ClientBuilder::new(client, namespace).with_layer(&config.base_uri_layer());
    Ok(client.with_layer(&metrics.requests_to(API)).with_layer(&Limits).build())
}

fn missed(error: &kube::Error) -> Missed {
    let got = match error {
        kube::Error::Api(_) => Got::Api,
        other => match root(other).and_then(|e| e.downcast_ref::<io::Error>()).map(io::Error::kind) {
            Some(ErrorKind::ConnectionRefused) => Got::Refused,
            Some(ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => {
                Got::Nowhere
            }
            Some(
                ErrorKind::BrokenPipe
                | ErrorKind::ConnectionAborted
                | ErrorKind::ConnectionReset
                | ErrorKind::UnexpectedEof,
            ) => Got::Closed,
            None if root(other).is_some_and(|e| e.is::<Elapsed>()) => Got::Nowhere,
            _ => Got::Somebody,
        },
    };
    Missed { got, why: words(error).to_string() }
}

fn config(path: Path, identity: &Identity, tls_server_name: &str) -> Result<Config, Error> {
    let host = match path {
        Path::Direct(address) => address.to_string(),
        // The connector ignores it.
        Path::Tunnel => tls_server_name.to_owned(),
    };
    let url = format!("https://{host}").parse().map_err(|e| Error::Unreachable(format!("{e}")))?;
    let mut config = Config::new(url);
    config.root_cert = Some(identity.authority.clone());
    config.tls_server_name = Some(tls_server_name.to_owned());
    config.auth_info = AuthInfo {
        client_certificate_data: Some(identity.admin.certificate.clone()),
        client_key_data: Some(identity.admin.key.clone().into()),
        ..AuthInfo::default()
    };
    config.connect_timeout = Some(CONNECT);
    // Calls have their own timeout. This one is for the watch: an address that was removed from a container does not
    // even respond that it is gone.
    config.read_timeout = Some(WATCH + Duration::from_secs(15));
    config.reset_reader_on_write = true;
    // kube would retry requests to a starting cluster (503) 15 times, with delays of up to minutes.
    config.default_retry = false;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn a_tunnel_is_for_addresses_without_a_route() {
        let at = |ip: [u8; 4]| Path::Direct(SocketAddr::from((ip, 6443)));
        let (container, loopback) = (at([10, 0, 0, 2]), at([127, 0, 0, 1]));
        for got in [Got::Refused, Got::Closed, Got::Api] {
            assert!(shows_route(container, got), "{got:?}");
        }
        for got in [Got::Nowhere, Got::Somebody] {
            assert!(!shows_route(container, got), "{got:?}");
            assert!(!shows_route(loopback, got), "{got:?}");
        }
        assert!(!shows_route(loopback, Got::Refused));
        assert!(shows_route(loopback, Got::Closed));
        assert!(!shows_route(Path::Tunnel, Got::Api));
    }

    #[test]
    fn one_cause_is_told() {
        let told = |all: &[(Got, &str)]| {
            let missed = all.iter().zip(1..).map(|((got, why), port)| {
                (
                    Path::Direct(SocketAddr::from(([127, 0, 0, 1], port))),
                    Missed { got: *got, why: (*why).to_owned() },
                )
            });
            cause(&missed.collect::<Vec<_>>())
        };
        let (nobody, refused) = ((Got::Nowhere, "timed out"), (Got::Refused, "connection refused"));
        let (other, api) = ((Got::Somebody, "bad certificate"), (Got::Api, "503 etcd failed"));
        assert_eq!(told(&[]), "no address is known yet");
        assert_eq!(told(&[refused]), "127.0.0.1:1: connection refused");
        assert_eq!(told(&[nobody, api]), "127.0.0.1:2: 503 etcd failed (1 other path failed too)");
        assert_eq!(
            told(&[nobody, other, refused, other, nobody]),
            "127.0.0.1:2: bad certificate (4 other paths failed too)"
        );
    }
}
