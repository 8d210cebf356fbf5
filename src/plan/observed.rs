//! Observed state of the Docker engine and of the API of the created cluster. It may be out of date immediately; no
//! plan requires it to be exact.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use jiff::Timestamp;

use crate::{
    child::state::{Child, Found, Node},
    docker::{
        engine::{Container, ContainerDetail, EngineInfo, Network, Volume},
        error::Error,
    },
    k3s::{images::Held, kube_proxy::Told, manifests::ObjectRef, registries::Auth},
};

/// Everything that one plan looks at.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The engine.
    pub engine: EngineInfo,
    /// All of the engine's containers, foreign ones too.
    pub containers: Vec<Container>,
    /// The object's own containers in full, by id.
    pub own: BTreeMap<String, ContainerDetail>,
    /// All of the engine's networks.
    pub networks: Vec<Network>,
    /// All of the engine's volumes.
    pub volumes: Vec<Volume>,
    /// The images that the desired containers need.
    pub images: BTreeMap<String, ImageState>,
    /// SHA-256 of files that are read back, by container id and path; `None` where the file is missing.
    pub files: BTreeMap<(String, String), Option<[u8; 32]>>,
    /// The regular files of nodes below [`DIRECTORIES`](super::registries::DIRECTORIES), by container id and path.
    pub trees: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// The registry credentials in the nodes' registries files, by container id and host.
    pub registries: BTreeMap<String, BTreeMap<String, Auth>>,
    /// Observed state of the images to import on all nodes.
    pub preload: Preload,
    /// Observed state of manifests.
    pub manifests: ObservedManifests,
    /// Content of the volumes of nodes that were created and never started, by container ID. Docker creates a missing
    /// volume together with the container, so an existing container does not prove that its data exists.
    pub kept: BTreeMap<String, Kept>,
    /// The nodes, by container id, that run and are refused by the cluster for another password than their Node has.
    pub rejected: BTreeSet<String>,
    /// The words by which nodes that end again and again refuse their arguments, by container id.
    pub refused_arguments: BTreeMap<String, String>,
    /// The last lines of containers that ended, by id, where they are of interest.
    pub logs: BTreeMap<String, Vec<String>>,
    /// The directories of the host that were looked at, by path.
    pub host_paths: BTreeMap<String, HostPath>,
    /// Observed state of the nodes that published ports forward to.
    pub balance: Balance,
    /// The hosts files of nodes that run, by container id.
    pub hosts: BTreeMap<String, String>,
    /// The created cluster's API.
    pub child: Child,
    /// Servers that do not respond inside their container either, by name, with the time since which no API responds.
    /// They are queried after a while.
    pub hung: BTreeMap<String, Timestamp>,
}

impl Observed {
    /// Returns the managed container with this name.
    pub fn own_named(&self, name: &str) -> Option<&ContainerDetail> {
        self.own.values().find(|d| d.container.name == name)
    }

    /// Returns a Node of the created cluster.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.child.state()?.nodes.get(name)
    }
}

/// Content of the volumes of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// A server's data.
    pub data: bool,
    /// The password that it registered with.
    pub password: bool,
}

/// A path of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPath {
    /// A directory, and so is everything above it.
    Directory,
    /// This part of it is not there.
    Missing(String),
    /// This part of it is a symbolic link.
    Link(String),
    /// This part of it is something else than a directory.
    NoDirectory(String),
}

/// State of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageState {
    /// It is present.
    Present,
    /// It is not present, and no pull is in progress.
    Absent,
    /// It is being pulled.
    Pulling,
    /// The last pull failed. It is tried again when its backoff is over.
    Failed(Error),
}

/// Observed state of the nodes in the load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// The nodes that have a place in the load balancer's configuration, by address.
    pub placed: BTreeSet<Ipv4Addr>,
    /// Reports of queried nodes, by name.
    pub told: BTreeMap<String, Told>,
}

/// Observed state of manifests in the cluster.
#[derive(Clone, Debug, Default)]
pub struct ObservedManifests {
    /// The operator's files in servers that work, by container id and path.
    pub files: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// The existing objects among [`asked`]; `None` if unknown.
    pub objects: Option<BTreeMap<ObjectRef, Found>>,
    /// The reason if they are unknown.
    pub trouble: Option<String>,
}

/// Observed state of the images to import on all nodes.
#[derive(Clone, Debug, Default)]
pub struct Preload {
    /// The ids of those that the Docker host has, by reference.
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
