//! How objects come to be looked at again when something outside of the management cluster happens.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::runtime::reflector::ObjectRef;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::context::{ClusterGuard, Context, RegistryGuard};
use crate::{
    api::{names, reason::Reason},
    docker::engine::{Event, Subject},
};

/// Names objects to be looked at.
#[derive(Clone)]
pub struct Triggers {
    clusters: UnboundedSender<ObjectRef<ClusterGuard>>,
    registries: UnboundedSender<ObjectRef<RegistryGuard>>,
}

/// Where the names arrive.
pub struct Triggered {
    /// LocalClusters.
    pub clusters: UnboundedReceiver<ObjectRef<ClusterGuard>>,
    /// Registries.
    pub registries: UnboundedReceiver<ObjectRef<RegistryGuard>>,
}

impl Triggers {
    /// Both ends.
    pub fn new() -> (Self, Triggered) {
        let (clusters, clusters_in) = unbounded_channel();
        let (registries, registries_in) = unbounded_channel();
        (Self { clusters, registries }, Triggered { clusters: clusters_in, registries: registries_in })
    }

    /// Has a LocalCluster looked at. A closed channel means that the process is about to end.
    pub fn cluster(&self, namespace: &str, name: &str) {
        self.clusters.send(ObjectRef::new(name).within(namespace)).ok();
    }

    /// Has a Registry looked at.
    pub fn registry(&self, namespace: &str, name: &str) {
        self.registries.send(ObjectRef::new(name).within(namespace)).ok();
    }
}

/// Has all objects looked at: after a connection to Docker, since whatever happened without one was missed.
pub fn everything(ctx: &Context) {
    select(ctx, |_, _| true);
}

/// Has those objects looked at that may wait for what a stranger gave up. Only those: on a host with many containers
/// of others, each object that can't go on would else be looked at all the time.
fn given_up(ctx: &Context) {
    select(ctx, |meta, conditions| meta.deletion_timestamp.is_some() || waits_for_others(conditions));
}

/// Whether something is in the way that somebody else has: a name, a port, a subnet, an address. What Docker refuses,
/// or does without effect, may be due to that as well.
fn waits_for_others(conditions: &[Condition]) -> bool {
    let taken = [
        Reason::NameConflict,
        Reason::PortConflict,
        Reason::SubnetConflict,
        Reason::AddressPoolExhausted,
        Reason::NotAllowed,
        Reason::DockerError,
        Reason::NoEffect,
    ];
    conditions.iter().any(|c| taken.iter().any(|reason| c.reason == *reason))
}

fn select(ctx: &Context, wanted: impl Fn(&ObjectMeta, &[Condition]) -> bool) {
    for guard in ctx.clusters.state() {
        if let Ok(c) = &guard.0
            && wanted(&c.metadata, c.status.as_ref().map_or(&[], |s| &s.conditions))
        {
            ctx.triggers.clusters.send(ObjectRef::from_obj(&*guard)).ok();
        }
    }
    for guard in ctx.registries.state() {
        if let Ok(r) = &guard.0
            && wanted(&r.metadata, r.status.as_ref().map_or(&[], |s| &s.conditions))
        {
            ctx.triggers.registries.send(ObjectRef::from_obj(&*guard)).ok();
        }
    }
}

/// Has those objects looked at that an event may concern.
pub async fn event(ctx: &Arc<Context>, event: Event) {
    match event.subject {
        Subject::Container(_) => {
            if owner(ctx, &event.labels) {
                return;
            }
            if matches!(event.action.as_str(), "die" | "destroy" | "rename") {
                given_up(ctx);
            }
            // It may be a registry that a cluster uses.
            if matches!(event.action.as_str(), "create" | "start" | "die" | "destroy" | "rename") {
                for guard in ctx.clusters.state() {
                    if guard.0.as_ref().is_ok_and(|c| !c.spec.registries.containers.is_empty()) {
                        ctx.triggers.clusters.send(ObjectRef::from_obj(&*guard)).ok();
                    }
                }
            }
        }
        Subject::Network { id, name, container } => {
            for guard in ctx.clusters.state() {
                let Ok(c) = &guard.0 else { continue };
                let network = c.status.as_ref().and_then(|s| s.network.as_ref());
                if network.is_some_and(|n| n.name == name || id.starts_with(&n.id)) {
                    ctx.triggers.clusters.send(ObjectRef::from_obj(&*guard)).ok();
                }
            }
            // One of ours may have lost a network that is not: the one of the management cluster's Node.
            if let Some(container) = container
                && event.action == "disconnect"
                && let Ok(Some(detail)) = ctx.engine.inspect(&container).await
            {
                owner(ctx, &detail.container.labels);
            }
            if event.action == "destroy" {
                given_up(ctx);
            }
        }
        Subject::Volume(_) => {
            if event.action == "destroy" {
                given_up(ctx);
            }
        }
    }
}

/// Has the owner of these labels looked at; whether there is one.
fn owner(ctx: &Context, labels: &std::collections::BTreeMap<String, String>) -> bool {
    if labels.get(names::MANAGER) != Some(&ctx.manager) {
        return false;
    }
    let Some((namespace, name)) = labels.get(names::OWNER).and_then(|o| o.split_once('/')) else {
        return false;
    };
    // Also what helps a registry for a moment: `registry-gc`, `registry-path`.
    if labels.get(names::ROLE).is_some_and(|r| r.starts_with("registry")) {
        ctx.triggers.registry(namespace, name);
        // Those that use it tell of it in their own status.
        for user in ctx.users(namespace, name) {
            if let Some((namespace, name)) = user.split_once('/') {
                ctx.triggers.cluster(namespace, name);
            }
        }
    } else {
        ctx.triggers.cluster(namespace, name);
    }
    true
}
