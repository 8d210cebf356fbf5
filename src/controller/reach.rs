//! The way to a created cluster's API, and what it tells.

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
    k3s::{self, kubeconfig},
    plan::{desired::Allocation, observed::Observed, owner::Owner, servers, validate::Valid},
};

/// What was seen of a created cluster.
pub struct Seen {
    /// The admin's credentials.
    pub credentials: Option<kubeconfig::Credentials>,
    /// Its API, where it answers.
    pub child: Option<Arc<dyn ChildApi>>,
}

/// Asks the created cluster's own API, by the kubeconfig that its server wrote.
pub async fn child(
    ctx: &Arc<Context>,
    owner: &Owner,
    observed: &mut Observed,
    valid: &Valid,
    allocation: &Allocation,
) -> Seen {
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
    // The way to the API is known to be closed: waiting for answers would only hold up the repair.
    if let Some(closed) = [&balancer, &server].into_iter().find(|name| !runs(name)) {
        observed.child = Child::Unreachable(format!("{closed} does not run"));
        return Seen { credentials: Some(credentials), child: None };
    }
    let access = Access {
        kubeconfig: file,
        candidates: candidates(ctx, observed, valid, allocation),
        tls_server_name: balancer,
    };
    let key = names::hex(&Sha256::digest(format!("{} {:?}", access.kubeconfig, access.candidates)));
    let asked = async {
        let child = ctx.child(&owner.uid, &access, &key).await?;
        let state = child.observe().await?;
        Ok::<_, crate::child::api::Error>((child, state))
    };
    match asked.await {
        Ok((child, state)) => {
            observed.child = Child::Reachable(state.told_at((ctx.now)()));
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

/// The kubeconfig of the first of these servers that has written one. Any server's will do, as they have one CA; one
/// that joins, or does not get that far, has none.
async fn kubeconfig_file(ctx: &Context, servers: &[&ContainerDetail]) -> Result<Option<String>, DockerError> {
    for server in servers {
        if let Some(bytes) = ctx.files.written(server, k3s::KUBECONFIG_FILE).await? {
            return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    Ok(None)
}

/// Where the API may be reached from here, best first: from a Pod whose Node is a container of the same engine, only
/// by the network of that Node (Docker keeps its networks apart); on the Docker host itself, by all of them.
fn candidates(ctx: &Context, observed: &Observed, valid: &Valid, allocation: &Allocation) -> Vec<SocketAddr> {
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

/// Has the cluster looked at when one of its Nodes changes, or what is kept in it. One watch at a time, which ends with its connection.
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
