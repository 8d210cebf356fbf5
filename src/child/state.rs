//! State of a created cluster as its API reports it, and the desired content of its ConfigMaps: plain values.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;

use super::account::{Account, AccountRole};
use crate::k3s::{dns, registry_hosting};

/// A key of a ConfigMap in the created cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigKey {
    /// Namespace of the ConfigMap.
    pub namespace: &'static str,
    /// Name of the ConfigMap.
    pub name: &'static str,
    /// Key in its data.
    pub key: &'static str,
}

/// Desired content of one key of a ConfigMap in the created cluster. The other keys belong to other clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfigMap {
    /// Key to set.
    pub key: ConfigKey,
    /// Content; `None` removes the key, and the ConfigMap if it has no other.
    pub content: Option<String>,
    /// True if the operator owns the key by its name, whichever client wrote it last. Otherwise content of other
    /// clients is kept.
    pub claimed: bool,
    /// Label selector of the Pods in that namespace that mount it. Their kubelets are notified of a change, and would
    /// otherwise apply it up to a minute later.
    pub readers: Option<&'static str>,
}

/// State of the created cluster according to its API.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Child {
    /// Not observed: no kubeconfig or no address yet.
    #[default]
    Unknown,
    /// No response, with the reason.
    Unreachable(String),
    /// Observed.
    Reachable(ChildState),
}

impl Child {
    /// Returns the state, if observed.
    pub fn state(&self) -> Option<&ChildState> {
        match self {
            Self::Reachable(state) => Some(state),
            Self::Unknown | Self::Unreachable(_) => None,
        }
    }
}

/// State that the API of the created cluster reports.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChildState {
    /// Nodes by name.
    pub nodes: BTreeMap<String, Node>,
    /// True if Pods can be created: the default service account of namespace `default` exists.
    pub pods_can_start: bool,
    /// Existing keys of ConfigMaps among [`KEYS`].
    pub config: BTreeMap<ConfigKey, Held>,
    /// Existing Leases among [`LEASES`](crate::k3s::LEASES) by name. A cluster without etcd has none.
    pub leases: BTreeMap<String, Lease>,
    /// Members of etcd as etcd itself reports them; `None` without etcd, or while unknown.
    pub members: Option<Vec<Member>>,
    /// Existing ServiceAccounts of kubeconfigs.
    pub accounts: BTreeMap<AccountRole, Account>,
}

impl ChildState {
    /// Returns the etcd member of a server without a Node, which K3s alone never removes: it has the member leave with
    /// the Node.
    pub fn member_without_node(&self, name: &str) -> Option<&Member> {
        let member = self.members.iter().flatten().find(|member| member.node == name)?;
        (!self.nodes.contains_key(name)).then_some(member)
    }

    /// Reports whether etcd itself reports a server as a member; `false` while unknown.
    pub fn is_member(&self, name: &str) -> bool {
        self.members.iter().flatten().any(|member| member.node == name)
    }

    /// Reports whether etcd itself reports a server as a voter; `false` while unknown. K3s reports it on the Node too, up
    /// to 15 s later.
    pub fn votes(&self, name: &str) -> bool {
        self.members.iter().flatten().any(|member| member.node == name && !member.learner)
    }

    /// Returns the voters of etcd according to the Nodes and to etcd itself. A voter that lost its data is one until its
    /// Node is deleted.
    pub fn voters(&self) -> BTreeSet<&str> {
        let of_nodes = self.nodes.iter().filter(|(_, node)| node.voter == Some(true)).map(|(name, _)| name);
        let members = self.members.iter().flatten().filter(|member| !member.learner).map(|m| &m.node);
        of_nodes.chain(members).map(String::as_str).collect()
    }

    /// Limits all times to `now`. A client of the cluster can write future times, and a wait for them would never end. A
    /// future start of a drain was not written by the operator, and is ignored.
    pub fn limit_times(mut self, now: Timestamp) -> Self {
        let past = |at: &mut Option<Timestamp>| *at = at.map(|at| at.min(now));
        for node in self.nodes.values_mut() {
            past(&mut node.since);
            past(&mut node.renewed);
            past(&mut node.api_renewed);
            node.draining_since = node.draining_since.filter(|since| *since <= now);
        }
        for held in self.config.values_mut() {
            past(&mut held.written);
        }
        self
    }
}

/// Member of etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Name of its node; empty if it was added and has not started yet.
    pub node: String,
    /// Name of the member, which differs each time that the node joins.
    pub name: String,
    /// Address at which the other members know it.
    pub address: String,
    /// True if it has no vote yet.
    pub learner: bool,
}

/// Lease of a controller of K3s.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Host name of its holder, which is the name of its container; empty if it has no holder.
    pub holder: String,
    /// Time of the last renewal.
    pub renewed: Option<Timestamp>,
    /// Resource version.
    pub version: String,
}

/// Content of a key of a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Held {
    /// Content.
    pub content: String,
    /// True if this operator wrote it last.
    pub ours: bool,
    /// Time at which this operator last changed the ConfigMap; `None` if it did not, or if the API does not report it.
    pub written: Option<Timestamp>,
}

/// A Node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// True if its condition Ready is True.
    pub ready: bool,
    /// Time of the last transition of Ready.
    pub since: Option<Timestamp>,
    /// Message of Ready.
    pub message: String,
    /// True if its kubelet reports that it waits for a network plugin.
    pub lacks_network_plugin: bool,
    /// True conditions that prevent new Pods from being scheduled to it, such as `DiskPressure`.
    pub pressures: Vec<String>,
    /// Internal addresses.
    pub addresses: Vec<IpAddr>,
    /// Version of its kubelet.
    pub version: String,
    /// Last heartbeat of its kubelet (its Lease, or its report of Ready). The condition Ready stays True for 40 s and
    /// more after the kubelet stopped; the heartbeat does not.
    pub renewed: Option<Timestamp>,
    /// Last heartbeat of the kube-apiserver of its server; `None` if there was none.
    pub api_renewed: Option<Timestamp>,
    /// True if it is schedulable.
    pub schedulable: bool,
    /// Time since which this operator drains it; `None` if it does not. A cordon of a user has no such annotation.
    pub draining_since: Option<Timestamp>,
    /// Number of Pods to evict while it is drained.
    pub pods_to_evict: usize,
    /// Network of its Pods.
    pub pods: Option<Ipv4Net>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// True if its server is an etcd voter; `None` without etcd, or while unknown.
    pub voter: Option<bool>,
    /// True if K3s was requested to remove its server from etcd.
    pub leaving: bool,
    /// True if K3s has removed its server from etcd as requested.
    pub left: bool,
    /// Taints, as `key=value:Effect` or `key:Effect`.
    pub taints: Vec<String>,
    /// Labels and taints that this operator set last; `None` if it set none.
    pub configured: Option<NodeConfig>,
}

/// Labels and taints of a Node from the spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct NodeConfig {
    /// Labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Taints, as `key=value:Effect` or `key:Effect`.
    pub taints: Vec<String>,
}

/// An existing object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// UID.
    pub uid: String,
    /// True while it is being deleted.
    pub going: bool,
}

/// Key that CoreDNS reads in addition to the configuration of K3s.
pub const DNS: ConfigKey = ConfigKey { namespace: dns::NAMESPACE, name: dns::CONFIG_MAP, key: dns::KEY };

/// Key that tools read to find the registry.
pub const REGISTRY_HOSTING: ConfigKey = ConfigKey {
    namespace: registry_hosting::NAMESPACE,
    name: registry_hosting::CONFIG_MAP,
    key: registry_hosting::KEY,
};

/// All keys that the operator manages.
pub const KEYS: [ConfigKey; 3] = [DNS, REGISTRY_HOSTING, INVENTORY];

/// Key with the list of applied manifests.
pub const INVENTORY: ConfigKey =
    ConfigKey { namespace: "kube-system", name: "localcluster-manifests", key: "inventory.json" };
