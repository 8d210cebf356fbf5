//! Triggers of reconciliations: by events of Docker, and of objects by those that they depend on.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    backoff::{Limits, jitter},
    context::{ClusterGuard, Context, RegistryGuard},
    times,
};
use crate::{
    api::{Registry, names, reason::Reason},
    docker::engine::{Event, Subject},
    k3s::images::canonical,
    plan::failures,
};

/// Senders of the objects to reconcile.
#[derive(Clone)]
pub struct Triggers {
    clusters: UnboundedSender<ObjectRef<ClusterGuard>>,
    registries: UnboundedSender<ObjectRef<RegistryGuard>>,
}

/// Receivers of the objects to reconcile.
pub struct Triggered {
    /// LocalClusters.
    pub clusters: UnboundedReceiver<ObjectRef<ClusterGuard>>,
    /// Registries.
    pub registries: UnboundedReceiver<ObjectRef<RegistryGuard>>,
}

impl Triggers {
    /// Creates senders and receivers.
    pub fn new() -> (Self, Triggered) {
        let (clusters, clusters_in) = unbounded_channel();
        let (registries, registries_in) = unbounded_channel();
        (Self { clusters, registries }, Triggered { clusters: clusters_in, registries: registries_in })
    }

    /// Triggers a reconciliation of a LocalCluster. A closed channel means that the process is shutting down.
    pub fn cluster(&self, namespace: &str, name: &str) {
        self.clusters.send(ObjectRef::new(name).within(namespace)).ok();
    }

    /// Triggers a reconciliation of a Registry.
    pub fn registry(&self, namespace: &str, name: &str) {
        self.registries.send(ObjectRef::new(name).within(namespace)).ok();
    }
}

/// Triggers a reconciliation of the Registries that a LocalCluster uses or used, and of all Registries in
/// its namespace.
pub fn registries_of(ctx: &Context, cluster: &ClusterGuard) {
    let namespace = cluster.namespace().unwrap_or_default();
    let user = format!("{namespace}/{}", cluster.name_any());
    let concerned = |registry: &Registry| {
        // Also one that the cluster no longer uses, which has it in its status.
        let used = registry.status.as_ref().is_some_and(|s| s.used_by.contains(&user));
        used || cluster.0.as_ref().is_ok_and(|c| ctx.refers(c, registry))
    };
    for registry in ctx.registries.state() {
        let own = registry.namespace().unwrap_or_default();
        if own == namespace || registry.0.as_ref().is_ok_and(concerned) {
            ctx.triggers.registry(&own, &registry.name_any());
        }
    }
}

/// Triggers a reconciliation of the LocalClusters that reference a Registry, which wait for it.
pub fn clusters_of(ctx: &Context, registry: &RegistryGuard) {
    let namespace = registry.namespace().unwrap_or_default();
    trigger_clusters(ctx, &ctx.referrers(&namespace, &registry.name_any()));
}

/// Triggers a reconciliation of LocalClusters, each as `namespace/name`.
fn trigger_clusters(ctx: &Context, clusters: &[String]) {
    for (namespace, name) in clusters.iter().filter_map(|cluster| cluster.split_once('/')) {
        ctx.triggers.cluster(namespace, name);
    }
}

/// Triggers reconciliations by Docker events. Events may be lost while there is no connection, so all objects are
/// reconciled after each new one.
pub async fn docker_events(ctx: Arc<Context>) {
    let Limits { first, last } = times::RECONNECT;
    let mut delay = first;
    loop {
        match ctx.engine.events().await {
            Ok(mut events) => {
                ctx.health.set_docker(true);
                delay = first;
                ctx.files.forget_all();
                everything(&ctx);
                while let Some(event) = events.next().await {
                    match event {
                        Ok(event) => self::event(&ctx, event).await,
                        Err(error) => {
                            tracing::warn!(%error, "the stream of Docker events broke");
                            break;
                        }
                    }
                }
            }
            Err(error) => tracing::warn!("no Docker events: {error}{}", failures::remedy(&error)),
        }
        if ctx.engine.info().await.is_err() {
            ctx.health.set_docker(false);
            everything(&ctx);
        }
        tokio::time::sleep(delay.mul_f64(1.0 - jitter() / 5.0)).await;
        delay = (delay * 2).min(last);
    }
}

/// Triggers a reconciliation of all objects: after a reconnection to Docker, because events may have been missed.
pub fn everything(ctx: &Context) {
    select(ctx, |_, _| true);
}

/// Triggers a reconciliation of the objects in a namespace, the labels of which select another HostPolicy.
pub fn of_namespace(ctx: &Context, namespace: &str) {
    select(ctx, |meta, _| meta.namespace.as_deref() == Some(namespace));
}

/// Triggers a reconciliation of the objects that may wait for a resource that another owner released. Only those: on a
/// host with many other containers, each blocked object would otherwise be reconciled all the time.
fn given_up(ctx: &Context) {
    select(ctx, |meta, conditions| meta.deletion_timestamp.is_some() || waits_for_others(conditions));
}

/// Reports whether another owner holds a required name, port, subnet or address. This may also be the cause of a Docker
/// error or of a step without effect.
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

/// Triggers a reconciliation of the objects that an event may concern.
pub async fn event(ctx: &Arc<Context>, mut event: Event) {
    ctx.adoptions().read(&mut event.labels);
    match &event.subject {
        // Whoever changed a file is not in a hurry: the next reconciliation reads it.
        Subject::Container(id) if event.is_of_files() => {
            ctx.files.forget(id);
        }
        Subject::Container(_) => {
            ctx.interruptions.by(&event, &event.labels);
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
                if network.is_some_and(|n| n.name == *name || id.starts_with(&n.id)) {
                    ctx.triggers.clusters.send(ObjectRef::from_obj(&*guard)).ok();
                }
            }
            // Docker adds to its hosts file. It also disconnects a container that dies, whose files do not change.
            container.iter().filter(|_| event.action == "connect").for_each(|c| ctx.files.forget(c));
            // The operator's container may have lost a network of another owner: the one of the management cluster's
            // Node.
            if let Some(container) = container
                && event.action == "disconnect"
                // An inspection of a container that hangs would keep all later events waiting.
                && let Ok(listed) = ctx.engine.containers().await
                && let Some(mut container) = listed.into_iter().find(|c| c.id == *container)
            {
                ctx.adoptions().read(&mut container.labels);
                ctx.interruptions.by(&event, &container.labels);
                owner(ctx, &container.labels);
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
        Subject::Image(references) => image(ctx, references, &event.action),
    }
}

/// Triggers a reconciliation of the objects that wait for an image that cannot be pulled, and of the LocalClusters that
/// have one of these references in `preloadImages`. A build or an archive may report only the ID of an image.
fn image(ctx: &Context, references: &[String], action: &str) {
    let names: Vec<String> = references.iter().map(|reference| canonical(reference)).collect();
    let is_named = matches!(action, "tag" | "pull");
    select(ctx, |_, conditions| conditions.iter().any(|c| c.reason == Reason::ImagePullFailed));
    for guard in ctx.clusters.state() {
        let Ok(c) = &guard.0 else { continue };
        let mut wanted = c.spec.preload_images.iter();
        if wanted.any(|image| !is_named || names.contains(&canonical(image))) {
            ctx.triggers.clusters.send(ObjectRef::from_obj(&*guard)).ok();
        }
    }
}

/// Triggers a reconciliation of the owner in these labels. Reports whether there is one.
fn owner(ctx: &Context, labels: &std::collections::BTreeMap<String, String>) -> bool {
    if labels.get(names::MANAGER) != Some(&ctx.manager) {
        return false;
    }
    let Some((namespace, name)) = labels.get(names::OWNER).and_then(|o| o.split_once('/')) else {
        return false;
    };
    // Also the temporary containers of a registry: `registry-gc`, `registry-path`.
    if labels.get(names::ROLE).is_some_and(|r| r.starts_with("registry")) {
        ctx.triggers.registry(namespace, name);
        // LocalClusters that use it report its state in their own status.
        trigger_clusters(ctx, &ctx.users(namespace, name));
    } else {
        ctx.triggers.cluster(namespace, name);
    }
    true
}
