//! Connection to the API of a created cluster.
//!
//! An address does not identify a cluster: another cluster or process may use it by now. The certificate does: it must
//! be signed by the CA of this cluster for the name of this cluster.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream::FuturesOrdered};
use kube::{Client, Config, config::AuthInfo};
use tokio::time::timeout;

use super::{
    api::{Access, ChildApi, Connect, Error},
    kube::{KubeChild, WATCH, root, words},
    kubeconfig::{self, Identity},
};

/// Timeout of a TCP connection with its TLS handshake. All candidates are local.
const CONNECT: Duration = Duration::from_secs(2);

/// Connector for the Kubernetes API.
#[derive(Clone, Copy, Debug, Default)]
pub struct KubeConnector;

#[async_trait]
impl Connect for KubeConnector {
    async fn connect(&self, access: &Access, limit: Duration) -> Result<Arc<dyn ChildApi>, Error> {
        let identity =
            kubeconfig::parse(&access.kubeconfig).map_err(|e| Error::Unreachable(e.to_string()))?;
        // All candidates are tried concurrently and evaluated in order: the first one that works is used, one that
        // hangs costs no more than the timeout, and the results of later ones are available by then.
        let identity = &identity;
        let mut attempts: FuturesOrdered<_> = access
            .candidates
            .iter()
            .map(|&addr| async move {
                let api = timeout(limit, attempt(addr, identity, access)).await;
                (addr, api.unwrap_or_else(|_| Err(Missed { got: Got::Nowhere, why: "timed out".to_owned() })))
            })
            .collect();
        let mut refusals = Vec::new();
        while let Some((addr, api)) = attempts.next().await {
            match api {
                Ok(api) => return Ok(Arc::new(api)),
                Err(missed) => refusals.push((addr, missed)),
            }
        }
        Err(Error::Unreachable(cause(&refusals)))
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
fn cause(missed: &[(SocketAddr, Missed)]) -> String {
    let Some(furthest) = missed.iter().map(|(_, m)| m.got).max() else {
        return "no address is known yet".to_owned();
    };
    let first = missed.iter().find(|(_, m)| m.got == furthest);
    let cause = first.map(|(addr, m)| format!("{addr}: {}", m.why)).unwrap_or_default();
    match missed.len() - 1 {
        0 => cause,
        1 => format!("{cause} (1 other address failed too)"),
        others => format!("{cause} ({others} other addresses failed too)"),
    }
}

async fn attempt(addr: SocketAddr, identity: &Identity, access: &Access) -> Result<KubeChild, Missed> {
    let somebody = |why: String| Missed { got: Got::Somebody, why };
    let config = config(addr, identity, &access.tls_server_name).map_err(|e| somebody(e.to_string()))?;
    let client = Client::try_from(config).map_err(|e| somebody(e.to_string()))?;
    let child = KubeChild::new(client, access.token.as_deref());
    child.ready().await.map_err(|e| missed(&e))?;
    Ok(child)
}

fn missed(error: &kube::Error) -> Missed {
    let got = match error {
        kube::Error::Api(_) => Got::Api,
        other => match root(other).and_then(|e| e.downcast_ref::<io::Error>()).map(io::Error::kind) {
            Some(ErrorKind::ConnectionRefused) => Got::Refused,
            Some(ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => {
                Got::Nowhere
            }
            _ => Got::Somebody,
        },
    };
    Missed { got, why: words(error).to_string() }
}

fn config(addr: SocketAddr, identity: &Identity, tls_server_name: &str) -> Result<Config, Error> {
    let url = format!("https://{addr}").parse().map_err(|e| Error::Unreachable(format!("{e}")))?;
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
    use super::*;

    #[test]
    fn one_cause_is_told() {
        let told = |all: &[(Got, &str)]| {
            let missed = all.iter().zip(1..).map(|((got, why), port)| {
                (SocketAddr::from(([127, 0, 0, 1], port)), Missed { got: *got, why: (*why).to_owned() })
            });
            cause(&missed.collect::<Vec<_>>())
        };
        let (nobody, refused) = ((Got::Nowhere, "timed out"), (Got::Refused, "connection refused"));
        let (other, api) = ((Got::Somebody, "bad certificate"), (Got::Api, "503 etcd failed"));
        assert_eq!(told(&[]), "no address is known yet");
        assert_eq!(told(&[refused]), "127.0.0.1:1: connection refused");
        assert_eq!(told(&[nobody, api]), "127.0.0.1:2: 503 etcd failed (1 other address failed too)");
        assert_eq!(
            told(&[nobody, other, refused, other, nobody]),
            "127.0.0.1:2: bad certificate (4 other addresses failed too)"
        );
    }
}
