//! A created cluster as its API shows it, and what is set there: plain values.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use crate::k3s::{dns, registry_hosting};

/// A key of a ConfigMap in the created cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigKey {
    /// The ConfigMap's namespace.
    pub namespace: &'static str,
    /// The ConfigMap's name.
    pub name: &'static str,
    /// The key in its data.
    pub key: &'static str,
}

/// What one key of a ConfigMap in the created cluster is to hold. Its other keys are other people's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfigMap {
    /// Which.
    pub key: ConfigKey,
    /// The content; `None`: there is to be no such key, and no ConfigMap when nothing else is in it.
    pub content: Option<String>,
    /// Whether the key's very name makes it ours, whoever wrote it last. Otherwise what others wrote is theirs.
    pub claimed: bool,
    /// The labels of the Pods of that namespace that mount it, as a selector. Kubelets bring them a change at once,
    /// and not when they next look, when they are told of it.
    pub readers: Option<&'static str>,
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
    /// Those keys of ConfigMaps that are there of [`KEYS`].
    pub config: BTreeMap<ConfigKey, Held>,
    /// Those of [`LEASES`](crate::k3s::LEASES) that are there, by name. A cluster without etcd has none.
    pub leases: BTreeMap<String, Lease>,
}

impl ChildState {
    /// What was told at `now`. Whoever can write into the cluster can write times to come, by which what they are asked
    /// for would never be over, and a mark of ours that is not ours is none.
    pub fn limit_times(mut self, now: Timestamp) -> Self {
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

/// The labels and taints of a Node that come from the spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct NodeConfig {
    /// Labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Taints, as `key=value:Effect` or `key:Effect`.
    pub taints: Vec<String>,
}

/// An object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its UID.
    pub uid: String,
    /// Whether it is being deleted.
    pub going: bool,
}

/// What CoreDNS reads besides what K3s gives it.
pub const DNS: ConfigKey = ConfigKey { namespace: dns::NAMESPACE, name: dns::CONFIG_MAP, key: dns::KEY };

/// What tools read to find the registry.
pub const REGISTRY_HOSTING: ConfigKey = ConfigKey {
    namespace: registry_hosting::NAMESPACE,
    name: registry_hosting::CONFIG_MAP,
    key: registry_hosting::KEY,
};

/// All keys that are kept, and so looked at.
pub const KEYS: [ConfigKey; 3] = [DNS, REGISTRY_HOSTING, INVENTORY];

/// Where the cluster holds the list.
pub const INVENTORY: ConfigKey =
    ConfigKey { namespace: "kube-system", name: "localcluster-manifests", key: "inventory.json" };
