//! The controllers of both kinds.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use futures::{FutureExt, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{
    Resource,
    core::error_boundary::DeserializeGuard,
    runtime::{
        Controller, Predicate, WatchStreamExt,
        controller::{Action as Next, Config, Error as ControllerError},
        predicates,
        reflector::{ObjectRef, store::Writer},
        watcher,
    },
};
use tokio::sync::{Notify, mpsc::UnboundedReceiver};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    agent,
    context::{ClusterGuard, Context, RegistryGuard},
    kube_io, orphans,
    pass::Managed,
    place::PlacedStatus,
    policy_status,
    pools::{self, Pools},
    reconcile::{failed, reconcile},
    referrers, times,
    triggers::{self, Triggered},
    watches::{managed, metadata, watched},
};
use crate::api::{
    LocalCluster, Registry,
    condition::{self, ConditionType},
    reason::Reason,
};

/// Writers of the stores of all kinds.
#[derive(Default)]
pub(super) struct Writers {
    pub(super) clusters: Writer<ClusterGuard>,
    pub(super) registries: Writer<RegistryGuard>,
    pub(super) policies: policy_status::Writers,
    pub(super) pods: Writer<Pod>,
}

/// Runs both controllers until `stop` is cancelled and the running reconciliations are complete.
pub(super) async fn run(
    ctx: Arc<Context>,
    writers: Writers,
    triggered: Triggered,
    metrics_objects: usize,
    stop: CancellationToken,
) {
    let known = async {
        if ctx.known.all().await {
            ctx.health.set_watches(true);
        }
    };
    let orphans = stop.run_until_cancelled(orphans::run(ctx.clone()));
    let events = stop.run_until_cancelled(triggers::docker_events(ctx.clone()));
    let agent = async {
        if ctx.hosting.is_some() {
            agent::run(&ctx, writers.pods, &stop).await;
        }
    };
    let claimed = pools::Writers::default();
    let (client, metrics) = (ctx.client.clone(), ctx.metrics.clone());
    let pools = Pools::new(client, ctx.clusters.clone(), &claimed, metrics, ctx.now);
    let changed = pools.wake();
    let pools = async {
        // With several hosts, the role `controller` has them.
        if ctx.hosting.is_none() {
            pools.serve_series(metrics_objects);
            let known = async { ctx.known.clusters.wait().await };
            pools::run(pools, claimed, &ctx.settings.namespaces, known.map(drop), &stop).await;
        }
    };
    tokio::join!(
        agent,
        pools,
        clusters(&ctx, writers.clusters, (triggered.clusters, changed), &stop),
        registries(&ctx, writers.registries, triggered.registries, &stop),
        policy_status::run(ctx.clone(), writers.policies, &stop),
        known,
        orphans.map(drop),
        events.map(drop)
    );
}

/// Runs the controller of LocalClusters.
async fn clusters(
    ctx: &Arc<Context>,
    writer: Writer<ClusterGuard>,
    (triggered, changed): (UnboundedReceiver<ObjectRef<ClusterGuard>>, Arc<Notify>),
    stop: &CancellationToken,
) {
    let (on_deletion, on_change) = (ctx.clone(), ctx.clone());
    let clusters = watched(ctx, "LocalCluster", managed(ctx), writer, |known| &known.clusters)
        // The last event of an object equals the previous one, so the predicates would drop it.
        .inspect_ok(move |cluster| {
            on_deletion.policies.changed.notify_one();
            changed.notify_one();
            if cluster.meta().deletion_timestamp.is_some() {
                triggers::registries_of(&on_deletion, cluster);
            }
        })
        .predicate_filter(relevant().combine(placement_of::<LocalCluster>), Default::default())
        .inspect_ok(move |cluster| triggers::registries_of(&on_change, cluster));
    let (of_secret, of_map) = (ctx.clone(), ctx.clone());
    Controller::for_stream(clusters, ctx.clusters.clone())
        .with_config(settings())
        .watches_stream(metadata::<Secret>(ctx, "Secret"), move |secret| {
            referrers::users_of_secret(&of_secret, &secret)
        })
        .watches_stream(metadata::<ConfigMap>(ctx, "ConfigMap"), move |map| {
            referrers::users_of_config_map(&of_map, &map)
        })
        .reconcile_on(UnboundedReceiverStream::new(triggered))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(reconcile::<LocalCluster>, |object, error, ctx| failed(&*object, error, &ctx), ctx.clone())
        .for_each(log_error)
        .await;
}

/// Runs the controller of Registries.
async fn registries(
    ctx: &Arc<Context>,
    writer: Writer<RegistryGuard>,
    triggered: UnboundedReceiver<ObjectRef<RegistryGuard>>,
    stop: &CancellationToken,
) {
    let (on_change, of_secret) = (ctx.clone(), ctx.clone());
    let registries = watched(ctx, "Registry", managed(ctx), writer, |known| &known.registries)
        .inspect_ok(move |registry| {
            on_change.policies.changed.notify_one();
            triggers::clusters_of(&on_change, registry);
        })
        .predicate_filter(relevant().combine(placement_of::<Registry>), Default::default());
    // A separate watch: a stream that two controllers share ends for both when one of them lags behind.
    let secrets = metadata::<Secret>(ctx, "Secret");
    Controller::for_stream(registries, ctx.registries.clone())
        .with_config(settings())
        .watches_stream(secrets, move |secret| referrers::registries_of_secret(&of_secret, &secret))
        .reconcile_on(UnboundedReceiverStream::new(triggered))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(reconcile::<Registry>, |object, error, ctx| failed(&*object, error, &ctx), ctx.clone())
        .for_each(log_error)
        .await;
}

fn settings() -> Config {
    // Without a limit of kube's: each reconciliation waits for a worker of its namespace.
    Config::default().concurrency(0).debounce(times::DEBOUNCE)
}

/// Returns the changes that a reconciliation follows: not those of the status.
fn relevant<K: Resource + 'static>() -> impl Predicate<K> {
    predicates::generation.combine(predicates::finalizers).combine(predicates::annotations)
}

/// Returns what the role `controller` says about the placement of an object, which a reconciliation follows too.
fn placement_of<K: Managed>(guard: &DeserializeGuard<K>) -> Option<u64> {
    let status = guard.0.as_ref().ok()?.status()?;
    let conditions = K::conditions(status);
    // It writes this one too while no agent does.
    let docker = condition::get(conditions, ConditionType::DockerReachable).map(|c| &c.reason);
    let mut hasher = DefaultHasher::new();
    (status.place().host, docker.filter(|reason| Reason::parse(reason).is_some_and(Reason::is_of_placement)))
        .hash(&mut hasher);
    Some(hasher.finish())
}

async fn log_error<K: Resource>(
    result: Result<(ObjectRef<K>, Next), ControllerError<kube_io::Error, watcher::Error>>,
) where
    K::DynamicType: std::fmt::Debug,
{
    match result {
        // Normal after a deletion, and for triggers of objects that do not exist.
        Err(ControllerError::ObjectNotFound(_)) | Ok(_) => {}
        // `failed` has logged it.
        Err(ControllerError::ReconcilerFailed(..)) => {}
        Err(error) => tracing::warn!(%error, "a trigger failed"),
    }
}
