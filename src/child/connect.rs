//! Finding the way to a created cluster's API.
//!
//! An address proves nothing: another cluster, or something else, may have it by now. What proves the other side is
//! its certificate, signed by this cluster's CA for this cluster's name.

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

/// How long a TCP connection and its TLS handshake may take. All candidates are next door.
const CONNECT: Duration = Duration::from_secs(2);

/// Connects by the Kubernetes API.
#[derive(Clone, Copy, Debug, Default)]
pub struct KubeConnector;

#[async_trait]
impl Connect for KubeConnector {
    async fn connect(&self, access: &Access, limit: Duration) -> Result<Arc<dyn ChildApi>, Error> {
        let identity =
            kubeconfig::parse(&access.kubeconfig).map_err(|e| Error::Unreachable(e.to_string()))?;
        // All are tried at once and judged in order: an earlier one that works wins, one that hangs costs no more
        // than the limit, and the answer of a later one is there by then.
        let identity = &identity;
        let mut attempts: FuturesOrdered<_> = access
            .candidates
            .iter()
            .map(|&addr| async move {
                let api = timeout(limit, attempt(addr, identity, &access.tls_server_name)).await;
                (
                    addr,
                    api.unwrap_or_else(|_| {
                        Err(Missed { got: Got::Nowhere, why: "no answer in time".to_owned() })
                    }),
                )
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

/// How far an attempt got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Got {
    /// Nobody answers there.
    Nowhere,
    /// Nobody listens there.
    Refused,
    /// Somebody answers, who is not this API.
    Somebody,
    /// The API answers, and does not serve yet.
    Api,
}

/// An attempt that failed.
#[derive(Clone, Debug)]
struct Missed {
    got: Got,
    why: String,
}

/// Why none of them serves: what the one says that got furthest. Most others lead to the same server on another way.
fn cause(missed: &[(SocketAddr, Missed)]) -> String {
    let Some(furthest) = missed.iter().map(|(_, m)| m.got).max() else {
        return "there is no address to try yet".to_owned();
    };
    let first = missed.iter().find(|(_, m)| m.got == furthest);
    let told = first.map(|(addr, m)| format!("{addr}: {}", m.why)).unwrap_or_default();
    match missed.len() - 1 {
        0 => told,
        1 => format!("{told} (another address leads no further)"),
        others => format!("{told} ({others} other addresses lead no further)"),
    }
}

async fn attempt(addr: SocketAddr, identity: &Identity, tls_server_name: &str) -> Result<KubeChild, Missed> {
    let somebody = |why: String| Missed { got: Got::Somebody, why };
    let config = config(addr, identity, tls_server_name).map_err(|e| somebody(e.to_string()))?;
    let client = Client::try_from(config).map_err(|e| somebody(e.to_string()))?;
    let child = KubeChild::new(client);
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
    // Calls have a limit of their own. This one is for the watch: an address that was taken from a container answers
    // nothing, not even that it is gone.
    config.read_timeout = Some(WATCH + Duration::from_secs(15));
    config.reset_reader_on_write = true;
    // kube would try a cluster that starts (503) 15 times, with pauses up to minutes.
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
        let (nobody, refused) = ((Got::Nowhere, "no answer in time"), (Got::Refused, "connection refused"));
        let (other, api) = ((Got::Somebody, "bad certificate"), (Got::Api, "503 etcd failed"));
        assert_eq!(told(&[]), "there is no address to try yet");
        assert_eq!(told(&[refused]), "127.0.0.1:1: connection refused");
        assert_eq!(told(&[nobody, api]), "127.0.0.1:2: 503 etcd failed (another address leads no further)");
        assert_eq!(
            told(&[nobody, other, refused, other, nobody]),
            "127.0.0.1:2: bad certificate (4 other addresses lead no further)"
        );
    }
}
