//! Start of the operator: its parts, and the Lease that one process holds.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};

use jiff::Timestamp;
use kube::{
    Client,
    client::ClientBuilder,
    runtime::events::{Recorder, Reporter},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    context::{Context, Memory},
    controllers::{self, Writers},
    files::Files,
    host_images::HostImages,
    host_limits::Limits,
    hosts,
    interruptions::Interruptions,
    known::Known,
    kube_io,
    logs::Logs,
    measures::Measures,
    panics,
    place::Hosting,
    place_io,
    policies::Policies,
    preload::Preloads,
    probe,
    pulls::Pulls,
    quorum::Quorum,
    resolvers::Resolvers,
    triggers::Triggers,
    turns::Turns,
    workers::Workers,
};
use crate::{
    child::connect::KubeConnector,
    config::{self, Config, ManagementContainer, Role},
    docker::{bollard::BollardEngine, engine::Engine, remembered::Remembered, spec, tunnels::Tunnels},
    lease::{Elector, Lost},
    metrics::Metrics,
    plan::{
        management::Management,
        settings::{Settings, WithoutPolicy},
    },
    server::{self, Health},
};

/// An error that ends the operator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection to the management cluster.
    #[error("no Kubernetes API to work with: {0}")]
    Kube(String),
    /// A call that the start depends on failed.
    #[error(transparent)]
    Call(#[from] kube_io::Error),
    /// The address of the Docker engine cannot be used.
    #[error("Docker: {0}")]
    Docker(#[from] crate::docker::error::Error),
    /// The agent does not know its Node.
    #[error(
        "--role=agent runs what is placed on one node; set --node-name, or NODE_NAME by the downward API \
             (spec.nodeName)"
    )]
    NoNode,
    /// The image of placeholders is unknown.
    #[error(
        "the image of placeholder Pods is unknown: this process knows no Pod that it runs in; set POD_NAME by the \
             downward API (metadata.name), or --hold-image"
    )]
    NoImage,
    /// The Lease is lost to another process.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// An address for probes or metrics cannot be used.
    #[error("can't listen on {0}: {1}")]
    Listen(std::net::SocketAddr, std::io::Error),
}

/// Runs the operator until `stop` is cancelled.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), Error> {
    panics::log();
    let metrics = Metrics::new();
    let health = Arc::new(Health::default());
    listen(&config, &health, &metrics, &stop).await?;
    if config.role == Role::Controller {
        return place(config, &metrics, health, stop).await;
    }

    let engine =
        BollardEngine::connect_with(&config.docker_host.to_string(), config.docker_cert_path.as_deref())?;
    let engine: Arc<dyn Engine> = Arc::new(Remembered::new(engine.with_metrics(metrics.clone())));
    let client = management_client(&metrics).await.map_err(|e| Error::Kube(e.to_string()))?;
    if engine.info().await.is_ok() {
        health.set_docker(true);
    }
    let elector = Elector::new(client.clone(), &config.namespace, &lease(&config)?, &me(config.role));
    let on_role = tell_role(&health, &metrics);
    let process = Process { config, client, engine, metrics, health, stop: stop.clone() };
    let work = || process.lead();
    elector.lead(&stop, on_role, work).await?.unwrap_or(Ok(()))
}

/// Returns what tells probes and metrics of the role that this process has by its Lease.
fn tell_role(health: &Arc<Health>, metrics: &Metrics) -> impl Fn(server::Role) + use<> {
    let (health, metrics) = (health.clone(), metrics.clone());
    move |role| {
        health.set_role(role);
        metrics.set_leader(role == server::Role::Leader);
    }
}

/// Runs the role `controller` until `stop` is cancelled.
async fn place(
    config: Config,
    metrics: &Metrics,
    health: Arc<Health>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let client = management_client(metrics).await.map_err(|e| Error::Kube(e.to_string()))?;
    let image = match config.hold_image.clone() {
        Some(image) => image,
        None => own_image(&client, &config.namespace).await?,
    };
    // It has no engine that its readiness depends on.
    health.set_docker(true);
    let elector = Elector::new(client.clone(), &config.namespace, &lease(&config)?, &me(config.role));
    let on_role = tell_role(&health, metrics);
    let (namespaces, metrics_objects) = (config.namespaces, config.metrics_objects);
    let settings = hosts::Settings { image, namespaces, metrics_objects };
    let work = || hosts::run(client, settings, health, metrics.clone(), stop.clone());
    elector.lead(&stop, on_role, work).await?;
    Ok(())
}

/// Returns the image of the Pod of this process.
async fn own_image(client: &Client, namespace: &str) -> Result<String, Error> {
    let Ok(name) = std::env::var("POD_NAME") else { return Err(Error::NoImage) };
    place_io::image_of_pod(client, namespace, &name).await?.ok_or(Error::NoImage)
}

/// Returns the name of the Lease that one process of this role holds, or of this role on this node.
fn lease(config: &Config) -> Result<String, Error> {
    Ok(match (config.role, &config.node_name) {
        (Role::All, _) => "localcluster-operator".into(),
        (Role::Controller, _) => "localcluster-controller".into(),
        (Role::Agent, Some(node)) => format!("localcluster-agent-{node}"),
        (Role::Agent, None) => return Err(Error::NoNode),
    })
}

/// Returns the name of this process. In the network of its Node, a Pod has the host name of the Node, as has another one.
fn me(role: Role) -> String {
    let pod = std::env::var("POD_NAME").ok().filter(|_| role != Role::All);
    let name = pod.or_else(|| std::env::var("HOSTNAME").ok());
    name.unwrap_or_else(|| format!("process-{}", std::process::id()))
}

/// Serves probes and metrics, at one address or at two.
async fn listen(
    config: &Config,
    health: &Arc<Health>,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let (probes, scrapes) = (server::probes(health.clone()), server::metrics(metrics.clone()));
    let served = match config.metrics_listen.filter(|own| *own != config.http_listen) {
        None => vec![(config.http_listen, probes.merge(scrapes))],
        Some(own) => vec![(config.http_listen, probes), (own, scrapes)],
    };
    for (address, router) in served {
        let listener = TcpListener::bind(address).await.map_err(|e| Error::Listen(address, e))?;
        tokio::spawn(server::serve(listener, router, stop.clone().cancelled_owned()));
    }
    Ok(())
}

/// Returns the client of the management cluster, which counts its requests.
async fn management_client(metrics: &Metrics) -> kube::Result<Client> {
    let config = kube::Config::infer().await.map_err(kube::Error::InferConfig)?;
    Ok(ClientBuilder::try_from(config)?.with_layer(&metrics.requests_to("management")).build())
}

/// The process while it waits for the Lease.
struct Process {
    config: Config,
    client: Client,
    engine: Arc<dyn Engine>,
    metrics: Metrics,
    health: Arc<Health>,
    stop: CancellationToken,
}

impl Process {
    /// Runs the controllers, as the one process that holds the Lease.
    async fn lead(self) -> Result<(), Error> {
        let Self { config, client, engine, metrics, health, stop } = self;
        let manager = kube_io::manager(&client).await?;
        let (triggers, triggered) = Triggers::new();
        let node = config.node_name.clone().filter(|_| config.role == Role::Agent);
        let writers = Writers::default();
        let reporter =
            Reporter { controller: "localcluster-operator".into(), instance: std::env::var("HOSTNAME").ok() };
        let preloads = Preloads::new(engine.clone(), config.resync);
        let tunnels = Tunnels::new(engine.clone(), "/proc/self/exe".into());
        let ctx = Arc::new(Context {
            recorder: Recorder::new(client.clone(), reporter),
            pulls: Pulls::new(engine.clone(), metrics.clone()),
            turns: Turns::default(),
            workers: Workers::new(stop.clone()),
            limits: Limits::new(engine.clone(), config.resync),
            measures: Measures::new(engine.clone()),
            // With others, the load balancer answers no queries.
            resolvers: Resolvers::new(engine.clone(), config.node_dns.is_empty().then_some(config.resync)),
            quorum: Quorum::new(engine.clone()),
            host_images: HostImages::new(engine.clone(), tunnels.clone(), preloads.clone()),
            preloads,
            files: Files::new(engine.clone(), config.resync),
            logs: Logs::new(engine.clone()),
            hosting: node.map(|node| Hosting { node, ip: host_ip(&config), pods: writers.pods.as_reader() }),
            settings: settings(&config),
            resync: config.resync,
            client,
            tunnels,
            engine,
            connector: Arc::new(KubeConnector { metrics: metrics.clone() }),
            probe: Arc::new(probe::Http),
            manager,
            triggers,
            interruptions: Interruptions::default(),
            clusters: writers.clusters.as_reader(),
            registries: writers.registries.as_reader(),
            policies: Policies::new(
                writers.policies.policies.as_reader(),
                writers.policies.namespaces.as_reader(),
            ),
            known: Known::new(stop.clone()).with_pods(config.role == Role::Agent),
            memory: Memory::default(),
            metrics,
            subnets: Mutex::default(),
            health,
            now: Timestamp::now,
        });
        ctx.serve_series(config.metrics_objects);
        controllers::run(ctx, writers, triggered, config.metrics_objects, stop).await;
        Ok(())
    }
}

/// Returns the settings of the planner.
pub fn settings(config: &Config) -> Settings {
    Settings {
        node_image_repository: config.node_image_repository.clone(),
        default_version: config.default_version.clone(),
        load_balancer_image: config.load_balancer_image.clone(),
        registry_image: config.registry_image.clone(),
        network_pool: config.network_pool,
        pool_required: false,
        allowed_subnets: config.allow_subnet.clone(),
        port_range: config.port_range.clone(),
        node_dns: config.node_dns.iter().map(ToString::to_string).collect(),
        management: management(config),
        engine_host: config.docker_host.remote().map(str::to_owned),
        allowed_host_paths: config.allow_host_path.clone(),
        node_repair_after: config.node_repair_after.0,
        remove_orphans_after: config.remove_orphans_after.0,
        namespaces: config.namespaces.clone(),
        node_defaults: spec::Limits::default(),
        node_isolation: spec::Isolation::default(),
        without_policy: match config.without_policy {
            config::WithoutPolicy::Refuse => WithoutPolicy::Refuse,
            config::WithoutPolicy::Unrestricted => WithoutPolicy::Unrestricted,
        },
    }
}

/// Returns the IPv4 address of this Pod's Node, if it is known.
fn host_ip(config: &Config) -> Option<Ipv4Addr> {
    match config.host_ip {
        Some(IpAddr::V4(ip)) => Some(ip),
        Some(IpAddr::V6(_)) | None => None,
    }
}

/// Returns how the Node of the management cluster is found.
fn management(config: &Config) -> Management {
    match &config.management_container {
        ManagementContainer::None => Management::None,
        ManagementContainer::Named(name) => Management::Named(name.clone()),
        // A container on another machine may have the address of the Node by coincidence.
        ManagementContainer::Auto if config.docker_host.remote().is_some() => Management::None,
        ManagementContainer::Auto => {
            let ip = host_ip(config);
            if let (None, Some(node)) = (ip, &config.node_name) {
                tracing::warn!(
                    node,
                    "the IPv4 address of this Pod's Node is unknown: the container with the name of the Node is used; set \
                     HOST_IP by the downward API (status.hostIP), or --management-container"
                );
            }
            Management::Node { ip, name: config.node_name.clone() }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        config: Config,
    }

    fn lease_of(args: &[&str]) -> Result<String, String> {
        let line = Line::parse_from([&["run"], args].concat());
        lease(&line.config).map_err(|error| error.to_string())
    }

    /// Two agents of one node never act at once, and those of two nodes do not wait for each other.
    #[test]
    fn each_node_has_a_lease() {
        assert_eq!(lease_of(&["--node-name=a"]).unwrap(), "localcluster-operator");
        assert_eq!(lease_of(&["--role=controller", "--node-name=a"]).unwrap(), "localcluster-controller");
        assert_eq!(lease_of(&["--role=agent", "--node-name=a"]).unwrap(), "localcluster-agent-a");
        assert_eq!(lease_of(&["--role=agent", "--node-name=b"]).unwrap(), "localcluster-agent-b");
        assert!(lease_of(&["--role=agent"]).unwrap_err().contains("set --node-name"));
    }
}
