//! Puts everything together: one Lease, two controllers, one stream of Docker events.

use std::{future::ready, net::IpAddr, sync::Arc};

use futures::{FutureExt, Stream, StreamExt, TryStreamExt, stream::BoxStream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client, ResourceExt,
    core::{NamespaceResourceScope, PartialObjectMeta},
    runtime::{
        Controller, Predicate, WatchStreamExt,
        controller::{Action as Next, Config as ControllerConfig, Error as ControllerError},
        events::{Recorder, Reporter},
        predicates,
        reflector::{ObjectRef, store::Writer},
        watcher,
    },
};
use tokio::{net::TcpListener, sync::SetOnce};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    backoff::{Limits, jitter},
    context::{ClusterGuard, Context, Memory, RegistryGuard},
    files::Files,
    known::Known,
    kube_io, panics,
    preload::Preloads,
    probe,
    pulls::Pulls,
    reconcile::{failed, reconcile},
    references, times,
    triggers::{self, Triggered, Triggers},
    turns::Turns,
};
use crate::{
    api::{LocalCluster, Registry, uses::refers},
    child::connect::KubeConnector,
    config::{Config, ManagementContainer},
    docker::{bollard::BollardEngine, engine::Engine},
    lease::{Elector, Lost},
    metrics::Metrics,
    plan::{management::Management, settings::Settings},
    server::{self, Health},
};

/// The operator could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no way to the management cluster.
    #[error("no Kubernetes API to work with: {0}")]
    Kube(String),
    /// A call without which nothing can begin failed.
    #[error(transparent)]
    Call(#[from] kube_io::Error),
    /// The Docker engine's address can't be used.
    #[error("Docker: {0}")]
    Docker(#[from] crate::docker::error::Error),
    /// Another process leads.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The address for probes and metrics can't be used.
    #[error("can't listen on {0}: {1}")]
    Listen(std::net::SocketAddr, std::io::Error),
}

/// How many objects of a kind are worked on at once. The engine itself is asked by at most eight calls at a time.
const CONCURRENCY: u16 = 8;

/// Runs the operator until `stop` is cancelled.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Error> {
    panics::log();
    let metrics = Metrics::new();
    let health = Arc::new(Health::default());
    let listener =
        TcpListener::bind(config.http_listen).await.map_err(|e| Error::Listen(config.http_listen, e))?;
    tokio::spawn(server::serve(listener, health.clone(), metrics.clone(), stop.clone().cancelled_owned()));

    let client = Client::try_default().await.map_err(|e| Error::Kube(e.to_string()))?;
    let engine: Arc<dyn Engine> =
        Arc::new(BollardEngine::connect(&config.docker_host.to_string())?.with_metrics(metrics.clone()));
    if engine.info().await.is_ok() {
        health.set_docker(true);
    }
    let me = std::env::var("HOSTNAME").unwrap_or_else(|_| format!("process-{}", std::process::id()));
    let elector = Elector::new(client.clone(), &config.namespace, "localcluster-operator", &me);
    let roles = (health.clone(), metrics.clone());
    let on_role = move |role: server::Role| {
        roles.0.set_role(role);
        roles.1.set_leader(role == server::Role::Leader);
    };
    let work = || lead(config, client, engine, metrics, health, stop.clone());
    elector.lead(&stop, on_role, work).await?.unwrap_or(Ok(()))
}

/// The work of the one process that holds the Lease.
async fn lead(
    config: Config,
    client: Client,
    engine: Arc<dyn Engine>,
    metrics: Metrics,
    health: Arc<Health>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let manager = kube_io::manager(&client).await?;
    let (triggers, triggered) = Triggers::new();
    let cluster_writer = Writer::<ClusterGuard>::default();
    let registry_writer = Writer::<RegistryGuard>::default();
    let reporter =
        Reporter { controller: "localcluster-operator".into(), instance: std::env::var("HOSTNAME").ok() };
    let ctx = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        pulls: Pulls::new(engine.clone(), metrics.clone()),
        turns: Turns::default(),
        preloads: Preloads::new(engine.clone(), config.resync),
        files: Files::new(engine.clone(), config.resync),
        settings: settings(&config),
        resync: config.resync,
        client,
        engine,
        connector: Arc::new(KubeConnector),
        probe: Arc::new(probe::Http),
        manager,
        triggers,
        clusters: cluster_writer.as_reader(),
        registries: registry_writer.as_reader(),
        known: Known::new(stop.clone()),
        memory: Memory::default(),
        metrics,
        health,
        now: Timestamp::now,
    });
    controllers(ctx, cluster_writer, registry_writer, triggered, stop).await;
    Ok(())
}

/// Both controllers over whatever the context holds, until `stop` is cancelled and what runs is done.
pub async fn controllers(
    ctx: Arc<Context>,
    cluster_writer: Writer<ClusterGuard>,
    registry_writer: Writer<RegistryGuard>,
    triggered: Triggered,
    stop: CancellationToken,
) {
    let clusters = watched(&ctx, "LocalCluster", cluster_writer, |known| &known.clusters);
    let registries = watched(&ctx, "Registry", registry_writer, |known| &known.registries);

    // A Registry tells which clusters use it, and a cluster waits for its registries.
    let tell = ctx.clone();
    let tell_registries = move |cluster: &ClusterGuard| {
        let namespace = cluster.namespace().unwrap_or_default();
        let user = format!("{namespace}/{}", cluster.name_any());
        let concerned = |registry: &Registry| {
            // Those that it no longer uses too, which their own status tells.
            let told = registry.status.as_ref().is_some_and(|s| s.used_by.contains(&user));
            told || cluster.0.as_ref().is_ok_and(|c| refers(c, registry))
        };
        for registry in tell.registries.state() {
            let own = registry.namespace().unwrap_or_default();
            if own == namespace || registry.0.as_ref().is_ok_and(concerned) {
                tell.triggers.registry(&own, &registry.name_any());
            }
        }
    };
    let tell_of_deletion = tell_registries.clone();
    let clusters = clusters
        // The last event of an object looks just like the one before, so that the predicates would drop it.
        .inspect_ok(move |cluster| {
            if kube::Resource::meta(cluster).deletion_timestamp.is_some() {
                tell_of_deletion(cluster);
            }
        })
        .predicate_filter(
            predicates::generation.combine(predicates::finalizers).combine(predicates::annotations),
            Default::default(),
        )
        .inspect_ok(tell_registries);
    let tell = ctx.clone();
    let registries = registries
        .inspect_ok(move |registry| {
            let namespace = registry.namespace().unwrap_or_default();
            for user in tell.referrers(&namespace, &registry.name_any()) {
                if let Some((namespace, name)) = user.split_once('/') {
                    tell.triggers.cluster(namespace, name);
                }
            }
        })
        .predicate_filter(
            predicates::generation.combine(predicates::finalizers).combine(predicates::annotations),
            Default::default(),
        );
    let secrets = metadata::<Secret>(&ctx, "Secret");
    let of_secret = ctx.clone();
    let maps = metadata::<ConfigMap>(&ctx, "ConfigMap");
    let of_map = ctx.clone();
    // A watch of its own: a stream that two controllers share ends for both when one of them lags behind.
    let registry_secrets = metadata::<Secret>(&ctx, "Secret");
    let of_registry_secret = ctx.clone();

    let settings = ControllerConfig::default().concurrency(CONCURRENCY).debounce(times::DEBOUNCE);
    let cluster_controller = Controller::for_stream(clusters, ctx.clusters.clone())
        .with_config(settings.clone())
        .watches_stream(secrets, move |secret| users_of_secret(&of_secret, &secret))
        .watches_stream(maps, move |map| users_of_config_map(&of_map, &map))
        .reconcile_on(UnboundedReceiverStream::new(triggered.clusters))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(reconcile::<LocalCluster>, |object, error, ctx| failed(&*object, error, &ctx), ctx.clone())
        .for_each(tell_result);
    let registry_controller = Controller::for_stream(registries, ctx.registries.clone())
        .with_config(settings)
        .watches_stream(registry_secrets, move |secret| registries_of_secret(&of_registry_secret, &secret))
        .reconcile_on(UnboundedReceiverStream::new(triggered.registries))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(reconcile::<Registry>, |object, error, ctx| failed(&*object, error, &ctx), ctx.clone())
        .for_each(tell_result);
    let known = async {
        if ctx.known.all().await {
            ctx.health.set_watches(true);
        }
    };
    let events = stop.run_until_cancelled(docker_events(ctx.clone()));
    tokio::join!(cluster_controller, registry_controller, known, events.map(drop));
}

fn settings(config: &Config) -> Settings {
    Settings {
        node_image_repository: config.node_image_repository.clone(),
        default_version: config.default_version.clone(),
        load_balancer_image: config.load_balancer_image.clone(),
        registry_image: config.registry_image.clone(),
        network_pool: config.network_pool,
        allowed_subnets: config.allow_subnet.clone(),
        port_range: config.port_range.clone(),
        node_dns: config.node_dns.iter().map(ToString::to_string).collect(),
        management: management(config),
        allowed_host_paths: config.allow_host_path.clone(),
        node_repair_after: config.node_repair_after.0,
    }
}

/// How the management cluster's own Node is known.
fn management(config: &Config) -> Management {
    match &config.management_container {
        ManagementContainer::None => Management::None,
        ManagementContainer::Named(name) => Management::Named(name.clone()),
        ManagementContainer::Auto => {
            let ip = match config.host_ip {
                Some(IpAddr::V4(ip)) => Some(ip),
                Some(IpAddr::V6(_)) | None => None,
            };
            if let (None, Some(node)) = (ip, &config.node_name) {
                tracing::warn!(
                    node,
                    "the IPv4 address of this Pod's Node is not told: a container of the Node's name is taken for it. Set \
                     HOST_IP by the downward API (status.hostIP), or --management-container"
                );
            }
            Management::Node { ip, name: config.node_name.clone() }
        }
    }
}

/// All objects of a kind as they change, kept in `writer`'s store, and told as `known` once all are there.
fn watched<K>(
    ctx: &Arc<Context>,
    name: &'static str,
    writer: Writer<K>,
    known: fn(&Known) -> &SetOnce<()>,
) -> BoxStream<'static, Result<K, watcher::Error>>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let api = Api::<K>::all(ctx.client.clone());
    let told = ctx.clone();
    let stream = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .inspect_ok(move |event| {
            if matches!(event, watcher::Event::InitDone) {
                // A watch that begins anew tells it again.
                known(&told.known).set(()).ok();
            }
        })
        .touched_objects();
    swallow(ctx, name, stream)
}

/// The metadata of all objects of a kind as they change.
fn metadata<K>(
    ctx: &Arc<Context>,
    name: &'static str,
) -> BoxStream<'static, Result<PartialObjectMeta<K>, watcher::Error>>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let api = Api::<PartialObjectMeta<K>>::all(ctx.client.clone());
    swallow(ctx, name, watcher(api, watcher::Config::default()).default_backoff().touched_objects())
}

/// Keeps a watch's errors from the controller, whose one backoff would hold up all other triggers too
/// (kube-rs/kube#763). The watch itself waits before it tries again.
fn swallow<K: Send + 'static>(
    ctx: &Arc<Context>,
    name: &'static str,
    stream: impl Stream<Item = Result<K, watcher::Error>> + Send + 'static,
) -> BoxStream<'static, Result<K, watcher::Error>> {
    let metrics = ctx.metrics.clone();
    let told = stream.filter_map(move |result| {
        if let Err(error) = &result {
            tracing::warn!(watch = name, %error, "a watch failed and goes on");
            metrics.watch_error(name);
        }
        ready(result.ok().map(Ok))
    });
    told.boxed()
}

/// The clusters that a Secret belongs to or that refer to it.
fn users_of_secret(ctx: &Context, secret: &PartialObjectMeta<Secret>) -> Vec<ObjectRef<ClusterGuard>> {
    let (namespace, name) = (secret.namespace(), secret.name_any());
    let registries = ctx.registries.state();
    let through: Vec<&Registry> =
        registries.iter().filter_map(|r| r.0.as_ref().ok()).filter(|r| has_secret(r, secret)).collect();
    clusters_that(ctx, |cluster| {
        let own = cluster.name_any();
        let itself = cluster.namespace() == namespace
            && ([format!("{own}-kubeconfig"), format!("{own}-token")].contains(&name)
                || references::secrets(&cluster.spec).contains(&name.as_str()));
        itself || through.iter().any(|registry| refers(cluster, registry))
    })
}

/// The clusters that refer to a ConfigMap.
fn users_of_config_map(ctx: &Context, map: &PartialObjectMeta<ConfigMap>) -> Vec<ObjectRef<ClusterGuard>> {
    let (namespace, name) = (map.namespace(), map.name_any());
    clusters_that(ctx, |c| {
        c.namespace() == namespace && references::config_maps(&c.spec).contains(&name.as_str())
    })
}

fn clusters_that(ctx: &Context, uses: impl Fn(&LocalCluster) -> bool) -> Vec<ObjectRef<ClusterGuard>> {
    let clusters = ctx.clusters.state();
    let used = clusters.iter().filter(|c| c.0.as_ref().is_ok_and(&uses));
    used.map(|c| ObjectRef::from_obj(&**c)).collect()
}

/// The registries that refer to a Secret.
fn registries_of_secret(ctx: &Context, secret: &PartialObjectMeta<Secret>) -> Vec<ObjectRef<RegistryGuard>> {
    let registries = ctx.registries.state();
    let used = registries.iter().filter(|r| r.0.as_ref().is_ok_and(|r| has_secret(r, secret)));
    used.map(|r| ObjectRef::from_obj(&**r)).collect()
}

fn has_secret(registry: &Registry, secret: &PartialObjectMeta<Secret>) -> bool {
    let name = secret.name_any();
    registry.namespace() == secret.namespace() && registry.spec.secrets().any(|s| s == name)
}

/// Follows what happens on the engine for ever. Records may be lost while there is no connection, so that all
/// objects are looked at after each new one.
async fn docker_events(ctx: Arc<Context>) {
    let Limits { first, last } = times::RECONNECT;
    let mut delay = first;
    loop {
        match ctx.engine.events().await {
            Ok(mut events) => {
                ctx.health.set_docker(true);
                delay = first;
                triggers::everything(&ctx);
                while let Some(event) = events.next().await {
                    match event {
                        Ok(event) => triggers::event(&ctx, event).await,
                        Err(error) => {
                            tracing::warn!(%error, "the stream of Docker events broke");
                            break;
                        }
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "no Docker events"),
        }
        if ctx.engine.info().await.is_err() {
            ctx.health.set_docker(false);
            triggers::everything(&ctx);
        }
        tokio::time::sleep(delay.mul_f64(1.0 - jitter() / 5.0)).await;
        delay = (delay * 2).min(last);
    }
}

async fn tell_result<K: kube::Resource>(
    result: Result<(ObjectRef<K>, Next), ControllerError<kube_io::Error, watcher::Error>>,
) where
    K::DynamicType: std::fmt::Debug,
{
    match result {
        // After a deletion, and for triggers that name what is gone: normal.
        Err(ControllerError::ObjectNotFound(_)) | Ok(_) => {}
        // Told by `failed` already.
        Err(ControllerError::ReconcilerFailed(..)) => {}
        Err(error) => tracing::warn!(%error, "a trigger failed"),
    }
}
