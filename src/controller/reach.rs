//! Connection to a created cluster's API, and the observation of its state.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use futures::StreamExt;
use sha2::{Digest, Sha256};

use super::context::Context;
use crate::{
    api::names,
    child::{
        api::{Access, ChildApi},
        state::Child,
    },
    docker::{
        engine::{ContainerDetail, State},
        error::Error as DockerError,
    },
    k3s::{self, kubeconfig, token},
    plan::{
        desired::Allocation, observed::Reached, owner::Owner, servers, subject::Subject, validate::Valid,
    },
};

/// Observation of a created cluster.
pub struct Seen {
    /// Credentials of its admin.
    pub credentials: Option<kubeconfig::Credentials>,
    /// Client of its API, if it responds.
    pub child: Option<Arc<dyn ChildApi>>,
}

/// Observes the created cluster through its API, with the kubeconfig that its server wrote.
pub async fn child(
    ctx: &Arc<Context>,
    subject: &Subject<'_>,
    observed: &mut Reached,
    allocation: &Allocation,
) -> Seen {
    let Subject { owner, valid, refs, .. } = *subject;
    let nothing = Seen { credentials: None, child: None };
    let runs = |name: &str| {
        observed.own.values().any(|d| d.container.name == name && d.container.state == State::Running)
    };
    let servers = servers::existing(&valid.names, owner, observed, &[]);
    let mut started: Vec<&ContainerDetail> =
        servers.values().filter_map(|s| s.detail).filter(|d| d.started_at.is_some()).collect();
    started.sort_by_key(|d| d.container.state != State::Running);
    let Some(first) = started.first() else { return nothing };
    let (server, balancer) = (first.container.name.clone(), valid.names.load_balancer());
    let file = match kubeconfig_file(ctx, &started).await {
        Ok(Some(file)) => file,
        Ok(None) => return nothing,
        Err(error) => {
            observed.child = Child::Unreachable(format!("reading the kubeconfig: {error}"));
            return nothing;
        }
    };
    let Ok(credentials) = kubeconfig::parse(&file) else { return nothing };
    // The API is known to be unreachable: waiting for timeouts would only delay the repair.
    if let Some(closed) = [&balancer, &server].into_iter().find(|name| !runs(name)) {
        observed.child = Child::Unreachable(format!("{closed} does not run"));
        return Seen { credentials: Some(credentials), child: None };
    }
    let access = Access {
        kubeconfig: file,
        candidates: candidates(ctx, observed, valid, allocation),
        tls_server_name: balancer,
        token: servers::in_etcd(valid.servers.count, &servers).then(|| secret(&refs.token)).flatten(),
    };
    let identity = (&access.kubeconfig, &access.candidates, &access.token);
    let key = names::hex(&Sha256::digest(format!("{identity:?}")));
    let asked = async {
        let child = ctx.child(&owner.uid, &access, &key).await?;
        let state = child.observe().await?;
        Ok::<_, crate::child::api::Error>((child, state))
    };
    match asked.await {
        Ok((child, state)) => {
            observed.child = Child::Reachable(state.limit_times((ctx.now)()));
            watch(ctx, owner, &key, child.clone());
            Seen { credentials: Some(credentials), child: Some(child) }
        }
        Err(error) => {
            ctx.memory.drop_child(&owner.uid);
            observed.child = Child::Unreachable(error.to_string());
            Seen { credentials: Some(credentials), child: None }
        }
    }
}

/// Returns the secret of a token as text.
fn secret(token: &[u8]) -> Option<String> {
    String::from_utf8(token::secret_of(token)?.to_vec()).ok()
}

/// Returns the kubeconfig of the first of these servers that has written one. Any of them is suitable because all
/// servers share one CA; a server that has not joined has none.
async fn kubeconfig_file(ctx: &Context, servers: &[&ContainerDetail]) -> Result<Option<String>, DockerError> {
    for server in servers {
        if let Some(bytes) = ctx.files.written(server, k3s::KUBECONFIG_FILE).await? {
            return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    Ok(None)
}

/// Returns the addresses at which the operator may reach the API, best first: a Pod on a Node that is a container of
/// the same engine can use only that Node's network, because Docker isolates networks; the Docker host can use all of
/// them.
fn candidates(ctx: &Context, observed: &Reached, valid: &Valid, allocation: &Allocation) -> Vec<SocketAddr> {
    let mut candidates = Vec::new();
    let own = observed
        .networks
        .iter()
        .find(|n| n.subnets.contains(&allocation.addresses.subnet))
        .map(|n| n.id.clone());
    let (own, balancer) = (own.as_deref().unwrap_or_default(), valid.names.load_balancer());
    let place = ctx.settings.management.place(observed, &ctx.manager, own, &balancer);
    if let Some(Some(ip)) = place {
        candidates.push(SocketAddr::from((ip, k3s::API_PORT)));
    }
    candidates.push(SocketAddr::from((allocation.addresses.load_balancer(), k3s::API_PORT)));
    let ip = if valid.api_ip.is_unspecified() { Ipv4Addr::LOCALHOST } else { valid.api_ip };
    candidates.push(SocketAddr::from((ip, allocation.api_port)));
    candidates
}

/// Triggers a reconciliation when a Node or another watched object of the cluster changes. There is one watch at a
/// time, which ends with its connection.
fn watch(ctx: &Arc<Context>, owner: &Owner, key: &str, child: Arc<dyn ChildApi>) {
    if !ctx.memory.begin_watch(&owner.uid, key) {
        return;
    }
    let (ctx, owner, key) = (ctx.clone(), owner.clone(), key.to_owned());
    tokio::spawn(async move {
        if let (Ok(mut changes), Some((namespace, name))) =
            (child.changes().await, owner.object.split_once('/'))
        {
            while changes.next().await.is_some() {
                ctx.triggers.cluster(namespace, name);
            }
            ctx.memory.end_watch(&owner.uid, &key);
            ctx.triggers.cluster(namespace, name);
        } else {
            ctx.memory.end_watch(&owner.uid, &key);
        }
    });
}
