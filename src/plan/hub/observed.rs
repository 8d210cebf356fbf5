//! A hub as it is.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::{
    docker::engine::{ContainerDetail, Network, Volume},
    k3s::kubeconfig::Credentials,
};

/// The objects on the Docker host that have the names of the hub's, whoever created them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Networks, oldest first.
    pub networks: Vec<Network>,
    /// The volume.
    pub volume: Option<Volume>,
    /// The container of the K3s server.
    pub server: Option<ContainerDetail>,
    /// The container of the operator.
    pub operator: Option<ContainerDetail>,
    /// IDs of images that exist on the engine, by reference.
    pub images: BTreeMap<String, String>,
    /// Host ports that other containers publish.
    pub used_ports: BTreeSet<u16>,
    /// Names of containers, networks and volumes that an operator created for LocalClusters and Registries.
    pub managed: BTreeSet<String>,
}

/// The API of the hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Api {
    /// Its container does not run.
    #[default]
    Away,
    /// It does not answer yet, for this reason.
    Silent(String),
    /// It answers.
    Answers(Box<Answer>),
}

/// What the API of the hub says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Objects of this version of the operator's installation that exist, as `Kind/name`.
    pub applied: BTreeSet<String>,
    /// Those of them that are definitions whose kinds are served.
    pub established: BTreeSet<String>,
    /// True if the first HostPolicy exists.
    pub has_policy: bool,
    /// True if the hub has had its first HostPolicy.
    pub initialized: bool,
    /// Token of the operator.
    pub token: Option<String>,
    /// Credentials of the administrator.
    pub credentials: Option<Credentials>,
    /// Holder of the operator's Lease, and the time of its last renewal.
    pub leader: Option<(String, Timestamp)>,
}

/// All of it, for `up`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Docker.
    pub host: Host,
    /// The API.
    pub api: Api,
    /// The kubeconfig in the operator's container.
    pub given: Option<Vec<u8>>,
    /// Host ports that the engine could not bind.
    pub taken_ports: BTreeSet<u16>,
}

/// A LocalCluster or Registry in the API of the hub.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Kind.
    pub kind: String,
    /// `namespace/name`.
    pub name: String,
    /// True if it is being deleted.
    pub deleting: bool,
    /// True if the operator does nothing for it, not even its deletion.
    pub paused: bool,
}
