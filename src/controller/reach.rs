//! Connection to a created cluster's API, and the observation of its state.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    context::{Context, Link},
    times,
};
use crate::{
    api::names,
    child::{
        api::{Access, ChildApi, Connection, Error as ChildError},
        path::Path,
        state::Child,
    },
    docker::{
        engine::{ContainerDetail, State},
        error::Error as DockerError,
        share,
    },
    k3s::{self, kubeconfig, token},
    plan::{
        desired::Allocation, observed::Reached, owner::Owner, servers, subject::Subject, validate::Valid,
    },
    time,
};

/// Observation of a created cluster.
pub struct Seen {
    /// Credentials of its admin.
    pub credentials: Option<kubeconfig::Credentials>,
    /// Client of its API, if it responds.
    pub child: Option<Arc<dyn ChildApi>>,
    /// Path to its API.
    pub path: Option<Path>,
}

/// Observes the created cluster through its API, with the kubeconfig that its server wrote.
pub async fn child(
    ctx: &Arc<Context>,
    subject: &Subject<'_>,
    observed: &mut Reached,
    allocation: &Allocation,
) -> Seen {
    let Subject { owner, valid, refs, .. } = *subject;
    let nothing = Seen { credentials: None, child: None, path: None };
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
        return Seen { credentials: Some(credentials), child: None, path: None };
    }
    let place = place(ctx, observed, valid, allocation);
    let candidates = candidates(ctx, valid, allocation, place);
    // While the load balancer joins the network of the Node, it is about to be reached there.
    let tunnel = observed.own_named(&balancer).filter(|_| place != Some(None)).map(|detail| {
        let api = SocketAddr::from((Ipv4Addr::LOCALHOST, k3s::API_PORT));
        ctx.tunnels.to(&detail.container.id, api)
    });
    let is_due = observed
        .own_named(&balancer)
        .and_then(|d| d.started_at)
        .is_some_and(|started| time::after(started, times::API_STARTING) < (ctx.now)());
    let token = servers::in_etcd(valid.servers.count, &servers).then(|| secret(&refs.token)).flatten();
    let access = Access { kubeconfig: file, candidates, tunnel, is_due, tls_server_name: balancer, token };
    let asked = async {
        let link = link(ctx, owner, &access).await?;
        let state = link.connection.child.observe().await?;
        Ok::<_, ChildError>((link, state))
    };
    match asked.await {
        Ok((link, state)) => {
            observed.child = Child::Reachable(state.limit_times((ctx.now)()));
            watch(ctx, owner, &link);
            let Connection { child, path } = link.connection;
            Seen { credentials: Some(credentials), child: Some(child), path: Some(path) }
        }
        Err(error) => {
            ctx.memory.set_link(&owner.uid, None);
            observed.child = Child::Unreachable(error.to_string());
            Seen { credentials: Some(credentials), child: None, path: None }
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

/// Returns the connection to the cluster. An existing one through a tunnel is kept until a direct one is possible,
/// which is tried from time to time.
async fn link(ctx: &Context, owner: &Owner, access: &Access) -> Result<Link, ChildError> {
    let (uid, tried) = (&owner.uid, Instant::now());
    let identity = (&access.kubeconfig, &access.candidates, &access.token);
    let key = names::hex(&Sha256::digest(format!("{identity:?}")));
    let last = ctx.memory.link(uid);
    if last.as_ref().is_some_and(|link| link.key != key) {
        // There may be a direct way now.
        ctx.memory.try_direct(uid);
    }
    let known = last.filter(|link| link.key == key);
    let attempt = match &known {
        Some(link) if link.connection.path != Path::Tunnel || link.tried.elapsed() < times::TRY_DIRECT => {
            return Ok(link.clone());
        }
        Some(_) => Access { tunnel: None, ..access.clone() },
        None if ctx.memory.is_tunnelled(uid) => Access { candidates: Vec::new(), ..access.clone() },
        None => access.clone(),
    };
    let connection = match (ctx.connector.connect(&attempt, times::CONNECT).await, known) {
        (Ok(connection), _) => connection,
        (Err(_), Some(link)) => link.connection,
        (Err(error), None) => {
            ctx.memory.try_direct(uid);
            return Err(error);
        }
    };
    let path = connection.path;
    ctx.metrics.connected("LocalCluster", path.name());
    if ctx.memory.connected(uid, path.name(), path == Path::Tunnel) {
        tracing::info!(cluster = owner.object, %path, "connected to the API of the cluster");
    }
    let link = Link { key, connection, tried };
    ctx.memory.set_link(uid, Some(link.clone()));
    Ok(link)
}

/// Returns the address of the load balancer on the network of the Node, if that is a container of the same engine.
fn place(
    ctx: &Context,
    observed: &Reached,
    valid: &Valid,
    allocation: &Allocation,
) -> Option<Option<Ipv4Addr>> {
    let own = observed.network_of(allocation.addresses.subnet);
    let own = own.map(|n| n.id.as_str()).unwrap_or_default();
    ctx.settings.management.place(observed, &ctx.manager, own, &valid.names.load_balancer())
}

/// Returns the addresses at which the operator may reach the API, best first: a Pod on a Node that is a container of
/// the same engine can use only that Node's network, because Docker isolates networks; the Docker host can use all of
/// them; another machine only that of a port that is published to others.
fn candidates(
    ctx: &Context,
    valid: &Valid,
    allocation: &Allocation,
    place: Option<Option<Ipv4Addr>>,
) -> Vec<SocketAddr> {
    if let Some(engine) = &ctx.settings.engine_host {
        let published = host_addresses(valid.api_ip, engine.parse().ok()).into_iter();
        let outside = published.filter(|ip| !ip.is_loopback());
        return outside.map(|ip| SocketAddr::from((ip, allocation.api_port))).collect();
    }
    let mut candidates = Vec::new();
    if let Some(Some(ip)) = place {
        candidates.push(SocketAddr::from((ip, k3s::API_PORT)));
    }
    candidates.push(SocketAddr::from((allocation.addresses.load_balancer(), k3s::API_PORT)));
    // A Node that is a container has an address at which nothing is published.
    let node = ctx.settings.management.ip().filter(|_| place.is_none());
    let published = host_addresses(valid.api_ip, node).into_iter();
    candidates.extend(published.map(|ip| SocketAddr::from((ip, allocation.api_port))));
    candidates
}

/// Returns the addresses at which a port is reached that is published on this address of the host.
pub fn host_addresses(published: Ipv4Addr, node: Option<Ipv4Addr>) -> Vec<Ipv4Addr> {
    match published.is_unspecified() {
        true => node.into_iter().chain([Ipv4Addr::LOCALHOST]).collect(),
        false => vec![published],
    }
}

/// Triggers a reconciliation when a Node or another watched object of the cluster changes. There is one watch at a
/// time, which ends with its connection, or when another connection replaces it.
fn watch(ctx: &Arc<Context>, owner: &Owner, link: &Link) {
    let key = format!("{} {}", link.key, link.connection.path);
    let Some(end) = ctx.memory.begin_watch(&owner.uid, &key) else { return };
    let (ctx, owner, child) = (ctx.clone(), owner.clone(), link.connection.child.clone());
    share::spawn(async move {
        let watched = async {
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
        };
        end.run_until_cancelled(watched).await;
    });
}
