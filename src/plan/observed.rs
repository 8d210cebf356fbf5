//! What there is: a picture of the Docker engine and of the created cluster's API. It may be out of date the moment
//! it is taken; no plan needs it to be exact.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::steps::NodeConfig;
use crate::docker::engine::{Container, ContainerDetail, EngineInfo, Network, Volume};

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
    /// The created cluster's API.
    pub child: Child,
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
    /// The last pull failed, with these words. It is tried again when its backoff is over.
    Failed(String),
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

/// What the created cluster's API tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChildState {
    /// Its Nodes, by name.
    pub nodes: BTreeMap<String, Node>,
    /// Whether a Pod can be made: the default service account of namespace `default` exists.
    pub pods_can_start: bool,
}

/// A Node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// Its condition Ready is True.
    pub ready: bool,
    /// Why it is not.
    pub message: String,
    /// Its kubelet's version.
    pub version: String,
    /// The last time that its kubelet said it was alive (its Lease, or its report of Ready). A Ready condition outlives
    /// its kubelet by 40 s and more; this does not.
    pub renewed: Option<Timestamp>,
    /// Whether it takes new Pods.
    pub schedulable: bool,
    /// Since when this operator drains it; `None` when it does not. A cordon that a person set has no such mark.
    pub draining_since: Option<Timestamp>,
    /// While it is drained: how many Pods are still to go.
    pub pods_to_evict: usize,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its taints, as `key=value:Effect` or `key:Effect`.
    pub taints: Vec<String>,
    /// The labels and taints that this operator gave it last; `None` when none yet.
    pub configured: Option<NodeConfig>,
}
