//! Finding the way to a created cluster's API.
//!
//! An address proves nothing: another cluster, or something else, may have it by now. What proves the other side is
//! its certificate, signed by this cluster's CA for this cluster's name.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream::FuturesOrdered};
use kube::{Client, Config, config::AuthInfo};
use tokio::time::timeout;

use super::{
    api::{Access, ChildApi, Connect, Error},
    kube::{KubeChild, WATCH},
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
                (addr, api.unwrap_or_else(|_| Err(Error::Unreachable("no answer in time".to_owned()))))
            })
            .collect();
        let mut refusals = Vec::new();
        while let Some((addr, api)) = attempts.next().await {
            match api {
                Ok(api) => return Ok(Arc::new(api)),
                Err(e) => refusals.push(format!("{addr}: {e}")),
            }
        }
        if refusals.is_empty() {
            refusals.push("there is no address to try yet".to_owned());
        }
        Err(Error::Unreachable(refusals.join("; ")))
    }
}

async fn attempt(addr: SocketAddr, identity: &Identity, tls_server_name: &str) -> Result<KubeChild, Error> {
    let config = config(addr, identity, tls_server_name)?;
    let client = Client::try_from(config).map_err(|e| Error::Unreachable(e.to_string()))?;
    let child = KubeChild::new(client);
    child.ready().await?;
    Ok(child)
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
