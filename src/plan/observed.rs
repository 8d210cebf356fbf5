//! Observed state of the Docker host and of the created cluster, in stages: what to observe next depends on the stage
//! before. It may be out of date immediately; no plan requires it to be exact.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    ops::Deref,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::{host_limits::HostLimits, queue::Wait, secret, service::objects::ObservedService};
use crate::{
    api::names,
    child::{
        path::Path,
        state::{Child, Found, Node},
    },
    docker::{
        engine::{Container, ContainerDetail, EngineInfo, Network, Volume},
        error::Error,
    },
    k3s::{
        images::Held, kube_proxy::ProbeResult, kubeconfig::Credentials, manifests::ObjectRef,
        registries::Auth,
    },
};

/// First stage: the objects on the Docker host, which any object of the operator needs.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// Information about the engine.
    pub engine: EngineInfo,
    /// All containers of the engine, including unmanaged ones.
    pub containers: Vec<Container>,
    /// Managed containers of the object in full, by ID.
    pub own: BTreeMap<String, ContainerDetail>,
    /// All networks of the engine.
    pub networks: Vec<Network>,
    /// All volumes of the engine.
    pub volumes: Vec<Volume>,
}

impl Host {
    /// Returns the managed container with this name.
    pub fn own_named(&self, name: &str) -> Option<&ContainerDetail> {
        self.own.values().find(|d| d.container.name == name)
    }

    /// Reports whether a node of the cluster was ever started. The load balancer starts before the nodes and does not
    /// count.
    pub fn has_begun(&self) -> bool {
        let role = |d: &ContainerDetail| d.container.labels.get(names::ROLE).cloned();
        let node = |d: &ContainerDetail| matches!(role(d).as_deref(), Some("server" | "agent"));
        self.own.values().any(|d| node(d) && d.started_at.is_some())
    }

    /// Returns the network with this subnet.
    pub fn network_of(&self, subnet: Ipv4Net) -> Option<&Network> {
        self.networks.iter().find(|n| n.subnets.contains(&subnet))
    }
}

/// Second stage: the created cluster, which is reached at the allocated addresses. The desired state depends on it.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    /// The first stage.
    pub host: Host,
    /// Content of the volumes of nodes that were created and never started, by container ID. Docker creates a missing
    /// volume together with the container, so an existing container does not prove that its data exists.
    pub kept: BTreeMap<String, Kept>,
    /// API of the created cluster.
    pub child: Child,
    /// Kubeconfig of the created cluster.
    pub kubeconfig: ObservedKubeconfig,
    /// What has the name of the Service that leads to the API, and of its EndpointSlice. Observed if the spec asks for the
    /// Service or the status knows of one.
    pub service: ObservedService,
    /// Servers that do not respond inside their container either, by name, with the time since which no API responds.
    /// They are queried after a while.
    pub hung: BTreeMap<String, Timestamp>,
    /// Whether etcd has a leader according to the running servers that responded, by name; empty for a single server, and
    /// while the API responds unless a server was without one.
    pub leaders: BTreeMap<String, bool>,
    /// Started servers, by name, whose volume has no data: they have not joined etcd. Observed while a server reports that
    /// its etcd has no leader.
    pub without_data: BTreeSet<String>,
    /// Observed state of the nodes that published ports forward to.
    pub balance: Balance,
    /// Limits of the Docker host; `None` before their first observation.
    pub limits: Option<HostLimits>,
    /// True if the host's resolvers changed since the start of the load balancer, whose container has those of its start.
    pub resolvers_changed: bool,
}

impl Reached {
    /// Returns a Node of the created cluster.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.child.state()?.nodes.get(name)
    }
}

impl From<Host> for Reached {
    fn from(host: Host) -> Self {
        Self { host, ..Self::default() }
    }
}

/// Each stage is read as the ones before it: a function that takes a stage cannot read what is observed after it.
impl Deref for Reached {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

/// Last stage: images, files and logs, which depend on the desired state. The plan depends on it.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The stages before.
    pub reached: Reached,
    /// Images of the desired containers.
    pub images: BTreeMap<String, ImageState>,
    /// SHA-256 of files that are read back, by container ID and path; `None` for a missing file.
    pub files: BTreeMap<(String, String), Option<[u8; 32]>>,
    /// SHA-256 of the secrets in the join tokens of nodes, by container ID; `None` for a missing token.
    pub secrets: BTreeMap<String, Option<[u8; 32]>>,
    /// Regular files of nodes below [`DIRECTORIES`](super::registries::DIRECTORIES), by container ID and path.
    pub trees: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Registry credentials in the registries files of nodes, by container ID and host.
    pub registries: BTreeMap<String, BTreeMap<String, Auth>>,
    /// Observed state of the images to import on all nodes.
    pub preload: Preload,
    /// Whether nodes can ask for images of the Docker host; `None` while the load balancer does not run.
    pub host_images: Option<Listening>,
    /// Observed state of manifests.
    pub manifests: ObservedManifests,
    /// Running nodes, by container ID, that the cluster rejects because their Node has another password.
    pub rejected: BTreeSet<String>,
    /// Errors of nodes that exit repeatedly because of their arguments, by container ID.
    pub refused_arguments: BTreeMap<String, String>,
    /// Last error in the log of containers that failed without an error of Docker, by ID.
    pub log_errors: BTreeMap<String, String>,
    /// Last log lines of exited containers, by ID, if they are needed.
    pub logs: BTreeMap<String, Vec<String>>,
    /// What a cache tells of its upstream registry; `None` while nothing is known.
    pub upstream: Option<Upstream>,
    /// Checked host directories, by path.
    pub host_paths: BTreeMap<String, HostPath>,
    /// Hosts files of running nodes, by container ID.
    pub hosts: BTreeMap<String, String>,
}

impl Observed {
    /// Returns the images that are present and may be used.
    pub fn usable_images(&self) -> BTreeSet<String> {
        let usable = self.images.iter().filter(|(_, state)| **state == ImageState::Present);
        usable.map(|(image, _)| image.clone()).collect()
    }
}

impl From<Reached> for Observed {
    fn from(reached: Reached) -> Self {
        Self { reached, ..Self::default() }
    }
}

impl From<Host> for Observed {
    fn from(host: Host) -> Self {
        Reached::from(host).into()
    }
}

impl Deref for Observed {
    type Target = Reached;

    fn deref(&self) -> &Reached {
        &self.reached
    }
}

/// Observed state of the kubeconfig of the created cluster.
#[derive(Clone, Debug, Default)]
pub struct ObservedKubeconfig {
    /// Credentials that a server wrote.
    pub credentials: Option<Credentials>,
    /// The existing Secret, which is read only if there are credentials or none are to be handed out.
    pub secret: Option<secret::Existing>,
    /// Whether the API accepts the token in the Secret; `None` without a token, or if unknown.
    pub accepted: Option<bool>,
    /// Path on which the operator reaches the API; `None` if it does not respond at present.
    pub path: Option<Path>,
}

/// Content of the volumes of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// True for the data of a server.
    pub data: bool,
    /// True for the node password.
    pub password: bool,
}

/// Kind of a host path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPath {
    /// A directory, and so are all of its parents.
    Directory,
    /// A regular file in such a directory.
    File,
    /// This component does not exist.
    Missing(String),
    /// This component is a symbolic link.
    Link(String),
    /// This component is not a directory, nor a regular file at the end of the path.
    NoDirectory(String),
}

/// What a cache tells of its upstream registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// It answers.
    Answers,
    /// It has recently rejected a request because there were too many.
    Limits,
    /// It does not answer, for this reason.
    Silent(String),
}

/// State of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageState {
    /// It is present.
    Present,
    /// It is present, and the namespace has not shown access to it, which its HostPolicy requires.
    Unproven(Unproven),
    /// It is not present, and no pull is in progress.
    Absent,
    /// It is being pulled.
    Pulling,
    /// Its pull waits for others.
    Queued(Wait),
    /// The last pull failed. It is retried after its backoff.
    Failed(Error),
}

/// State of the proof that a namespace has access to an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unproven {
    /// The registry was not asked, or has not responded yet.
    Asking,
    /// The registry did not show the image. It is asked again.
    Failed(Error),
    /// The image is of no registry that could be asked.
    NoRegistry,
}

/// Observed state of the nodes in the load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Nodes in the configuration of the load balancer, by address.
    pub placed: BTreeSet<Ipv4Addr>,
    /// Results of probed nodes, by name.
    pub probed: BTreeMap<String, ProbeResult>,
}

/// Observed state of manifests in the cluster.
#[derive(Clone, Debug, Default)]
pub struct ObservedManifests {
    /// Files of the operator in working servers, by container ID and path.
    pub files: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// The existing objects among [`asked`]; `None` if unknown.
    pub objects: Option<BTreeMap<ObjectRef, Found>>,
    /// The reason if they are unknown.
    pub trouble: Option<String>,
}

/// Observed state of the images to import on all nodes.
#[derive(Clone, Debug, Default)]
pub struct Preload {
    /// IDs of the images on the Docker host, by reference.
    pub ids: BTreeMap<String, String>,
    /// Images that were imported into containerd on working nodes, by container ID and name in containerd, or the
    /// error of listing them.
    pub nodes: BTreeMap<String, Result<BTreeMap<String, Held>, String>>,
    /// Imports in progress, by container ID and reference.
    pub imports: BTreeMap<(String, String), ImportState>,
}

/// State of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportState {
    /// It is in progress.
    Running,
    /// The last import failed with this error. It is retried after its backoff.
    Failed(String),
}

/// State of the listener for nodes that ask for images of the Docker host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listening {
    /// It starts for the first time.
    Starting,
    /// It listens.
    Up,
    /// It ended or does not start, with the reason. It is started again.
    Failed(String),
}
