//! What there is: a picture of the Docker engine and of the created cluster's API. It may be out of date the moment
//! it is taken; no plan needs it to be exact.

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
    /// What is known of the images that are to be in all nodes.
    pub preload: Preload,
    /// What is known of manifests.
    pub manifests: ObservedManifests,
    /// What the volumes of nodes hold that were made and never started, by container id. Docker makes a volume that is
    /// missing together with the container, so that a container alone says nothing of the data that it is to go on with.
    pub kept: BTreeMap<String, Kept>,
    /// The nodes, by container id, that run and are refused by the cluster for another password than their Node has.
    pub rejected: BTreeSet<String>,
    /// The words by which nodes that end again and again refuse their arguments, by container id.
    pub refused_arguments: BTreeMap<String, String>,
    /// The last lines of containers that ended, by id, where they are of interest.
    pub logs: BTreeMap<String, Vec<String>>,
    /// The directories of the host that were looked at, by path.
    pub host_paths: BTreeMap<String, HostPath>,
    /// What is known of the nodes that published ports lead to.
    pub balance: Balance,
    /// The hosts files of nodes that run, by container id.
    pub hosts: BTreeMap<String, String>,
    /// The created cluster's API.
    pub child: Child,
    /// The servers, by name, whose own API does not answer inside of them either, with since when nobody answers. They
    /// are asked when that has lasted.
    pub hung: BTreeMap<String, Timestamp>,
}

impl Observed {
    /// The object's own container of this name.
    pub fn own_named(&self, name: &str) -> Option<&ContainerDetail> {
        self.own.values().find(|d| d.container.name == name)
    }

    /// A Node of the created cluster.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.child.state()?.nodes.get(name)
    }
}

/// What a node's volumes hold.
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

/// Whether an image can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageState {
    /// It is there.
    Present,
    /// It is not, and nobody fetches it.
    Absent,
    /// It is being pulled.
    Pulling,
    /// The last pull failed. It is tried again when its backoff is over.
    Failed(Error),
}

/// What is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// The nodes that have a place in the load balancer's configuration, by address.
    pub placed: BTreeSet<Ipv4Addr>,
    /// What nodes tell that were asked, by name.
    pub told: BTreeMap<String, Told>,
}

/// What is known of manifests in the cluster.
#[derive(Clone, Debug, Default)]
pub struct ObservedManifests {
    /// The operator's files in servers that work, by container id and path.
    pub files: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    /// Those of [`asked`] that are there; `None`: nobody could tell.
    pub objects: Option<BTreeMap<ObjectRef, Found>>,
    /// Why nobody could.
    pub trouble: Option<String>,
}

/// What is known of the images that are to be in all nodes.
#[derive(Clone, Debug, Default)]
pub struct Preload {
    /// The ids of those that the Docker host has, by reference.
    pub ids: BTreeMap<String, String>,
    /// What the containerd of nodes that work was given from the Docker host, by container id: by containerd's name. Or
    /// why it does not tell.
    pub nodes: BTreeMap<String, Result<BTreeMap<String, Held>, String>>,
    /// What is under way, by container id and reference.
    pub imports: BTreeMap<(String, String), ImportState>,
}

/// How it goes with an image on its way into a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportState {
    /// It is on its way.
    Running,
    /// It did not get there the last time, with these words. It is tried again when its backoff is over.
    Failed(String),
}
