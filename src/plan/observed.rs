//! What there is: a picture of the Docker engine and of the created cluster's API. It may be out of date the moment
//! it is taken; no plan needs it to be exact.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::{balance::Balance, desired::ConfigKey, manifests, preload::Preload, steps::NodeConfig};
use crate::{
    docker::{
        engine::{Container, ContainerDetail, EngineInfo, Network, Volume},
        error::Error,
    },
    k3s::registries::Auth,
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
    pub manifests: manifests::Seen,
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

/// The created cluster as its own API tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Child {
    /// Nobody asked: there is no kubeconfig or no way to it yet.
    #[default]
    Unknown,
    /// It did not answer, with the reason.
    Unreachable(String),
    /// It answered.
    Reachable(ChildState),
}

impl Child {
    /// What it tells, where it answered.
    pub fn state(&self) -> Option<&ChildState> {
        match self {
            Self::Reachable(state) => Some(state),
            Self::Unknown | Self::Unreachable(_) => None,
        }
    }
}

/// What the created cluster's API tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChildState {
    /// Its Nodes, by name.
    pub nodes: BTreeMap<String, Node>,
    /// Whether a Pod can be made: the default service account of namespace `default` exists.
    pub pods_can_start: bool,
    /// Those keys of ConfigMaps that are there of [`super::inside::KEYS`].
    pub config: BTreeMap<ConfigKey, Held>,
    /// Those of [`LEASES`](crate::k3s::LEASES) that are there, by name. A cluster without etcd has none.
    pub leases: BTreeMap<String, Lease>,
}

/// A Lease of K3s's own controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The name of its holder's host, which is that of its container; empty when nobody holds it.
    pub holder: String,
    /// When its holder last said that it is alive.
    pub renewed: Option<Timestamp>,
    /// The version of the object, which any change of it changes.
    pub version: String,
}

impl ChildState {
    /// What was told at `now`. Whoever can write into the cluster can write times to come, by which what they are asked
    /// for would never be over, and a mark of ours that is not ours is none.
    pub fn told_at(mut self, now: Timestamp) -> Self {
        let past = |at: &mut Option<Timestamp>| *at = at.map(|at| at.min(now));
        for node in self.nodes.values_mut() {
            past(&mut node.since);
            past(&mut node.renewed);
            past(&mut node.api_renewed);
            node.draining_since = node.draining_since.filter(|since| *since <= now);
        }
        self
    }
}

/// What a key of a ConfigMap holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Held {
    /// The content.
    pub content: String,
    /// Whether this operator was the last to write it.
    pub ours: bool,
}

/// A Node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Its condition Ready is True.
    pub ready: bool,
    /// Since when it is, or is not.
    pub since: Option<Timestamp>,
    /// Why it is not.
    pub message: String,
    /// Whether it waits for a network plugin, as its kubelet tells.
    pub lacks_network_plugin: bool,
    /// Those of the conditions that keep new Pods from it which hold: `DiskPressure` and the like.
    pub pressures: Vec<String>,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// Its kubelet's version.
    pub version: String,
    /// The last time that its kubelet said it was alive (its Lease, or its report of Ready). A Ready condition outlives
    /// its kubelet by 40 s and more; this does not.
    pub renewed: Option<Timestamp>,
    /// The last time that its server's kube-apiserver said it was up; `None` where it never did.
    pub api_renewed: Option<Timestamp>,
    /// Whether it takes new Pods.
    pub schedulable: bool,
    /// Since when this operator drains it; `None` when it does not. A cordon that a person set has no such mark.
    pub draining_since: Option<Timestamp>,
    /// While it is drained: how many Pods are still to go.
    pub pods_to_evict: usize,
    /// The network of its Pods.
    pub pods: Option<Ipv4Net>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether its server votes in etcd; `None` where there is no etcd, or nobody has told yet.
    pub voter: Option<bool>,
    /// Whether K3s was asked to take its server out of etcd.
    pub leaving: bool,
    /// Whether K3s has taken its server out of etcd, which it was asked for.
    pub left: bool,
    /// Its taints, as `key=value:Effect` or `key:Effect`.
    pub taints: Vec<String>,
    /// The labels and taints that this operator gave it last; `None` when none yet.
    pub configured: Option<NodeConfig>,
}
