//! Names and labels on the Docker host. They follow k3d, so that k3d, Tilt, Skaffold and existing scripts keep working;
//! only [`UID`] and [`MANAGER`] determine ownership.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{
    local_cluster::NodeRole,
    rules::{format, hostnames},
};

/// Label: the UID of the object that owns the container, network or volume.
pub const UID: &str = "localcluster.dev/uid";
/// Label: the management cluster of the owner, identified by the UID of its `kube-system` namespace.
pub const MANAGER: &str = "localcluster.dev/manager";
/// Label: the hash of the desired state that a container was created from.
pub const SPEC_HASH: &str = "localcluster.dev/spec-hash";
/// Label: `namespace/name` of the owner, for users who inspect the host, and to determine the namespace of a volume
/// that outlived its owner.
pub const OWNER: &str = "localcluster.dev/owner";
/// Label: the host port of the API, from which status can be rebuilt.
pub const API_PORT: &str = "localcluster.dev/api-port";
/// Label: the datastore of a server, [`ETCD`] or missing for SQLite. A server never returns from etcd to SQLite.
pub const DATASTORE: &str = "localcluster.dev/datastore";
/// The only value of [`DATASTORE`].
pub const ETCD: &str = "etcd";
/// Label on an unmanaged volume or container: a comma-separated list of the namespaces whose objects may use it, or `*`
/// for all namespaces.
pub const ALLOW_NAMESPACES: &str = "localcluster.dev/allow-namespaces";
/// Label: the subnet of the cluster, from which a removed network is recreated.
pub const SUBNET: &str = "localcluster.dev/subnet";
/// Label of a registry's container: the name of the network that it was created on. One without the label was created by
/// an earlier operator, on Docker's default network.
pub const NETWORK: &str = "localcluster.dev/network";
/// Label: a temporary network from which the operator reads the subnet that Docker chooses for a cluster.
pub const SUBNET_CHOICE: &str = "localcluster.dev/subnet-choice";
/// Label of everything that `localcluster up` creates: the name of the hub. It has no owner among the objects of a
/// management cluster.
pub const HUB: &str = "localcluster.dev/hub";
/// Label of an agent of `spec.agentPools`: the name of its pool.
pub const POOL: &str = "localcluster.dev/pool";
/// Name that a container has on a network that `spec.network.join` names, by which the operator knows which of the
/// networks of a container it has connected, and not a user.
pub const JOINED: &str = "joined.localcluster.internal";
/// k3d label on all objects.
pub const APP: &str = "app";
/// k3d label: the role of a container (`server`, `agent`, `loadbalancer`, `registry`).
pub const ROLE: &str = "k3d.role";
/// Value of [`ROLE`] of the container and the network of a registry.
pub const REGISTRY_ROLE: &str = "registry";
/// Label of the container of a registry that refuses pushes because its storage is full.
pub const READ_ONLY: &str = "localcluster.dev/read-only";
/// k3d label: the host port of a registry.
pub const EXTERNAL_PORT: &str = "k3s.registry.port.external";
/// k3d label: the name of the cluster.
pub const CLUSTER: &str = "k3d.cluster";

/// Label of everything that the operator creates in the management cluster, and of its ServiceAccounts in created ones.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "localcluster-operator");
/// Annotation of a Secret with a kubeconfig: the time from which the operator replaces its token, by the clock of the
/// operator.
pub const RENEW_AT: &str = "localcluster.dev/renew-at";

/// Maximum length of a cluster name, which K3s node names and the limit of k3d leave room for.
pub const MAX_CLUSTER_NAME: usize = format::CLUSTER_NAME.max;
/// Maximum length of a container name that is also a host name.
pub const MAX_HOSTNAME: usize = format::HOSTNAME.max;

/// Reports whether the container with these labels is a registry, of this operator or another one, or of k3d.
pub fn is_registry(labels: &BTreeMap<String, String>) -> bool {
    labels.get(ROLE).is_some_and(|role| role == REGISTRY_ROLE)
}

/// Returns the namespace of the object that owns the resource with these labels.
pub fn owner_namespace(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get(OWNER)?.split_once('/').map(|(namespace, _)| namespace)
}

/// Returns the name of a cluster on the Docker host: `name` in namespace `default`, elsewhere `<namespace>-<name>` and
/// 8 hex digits of a hash. It has at most 32 characters, see [`shorten`], and is unique, see [`scoped`].
///
/// Clusters that were created with another name keep it, see [`called`](crate::plan::called).
pub fn cluster(namespace: &str, name: &str, explicit: Option<&str>) -> String {
    match explicit {
        Some(n) => n.to_owned(),
        None => scoped("", namespace, name, MAX_CLUSTER_NAME),
    }
}

/// Returns the container and DNS name of a registry by the same rule: `k3d-<name>` in namespace `default`.
pub fn registry(namespace: &str, name: &str, explicit: Option<&str>) -> String {
    match explicit {
        Some(n) => n.to_owned(),
        None => scoped("k3d-", namespace, name, MAX_HOSTNAME),
    }
}

/// Returns the name of the network of a registry with this container name. It sorts before the names of all networks of
/// clusters, which begin with `k3d-`: an engine before API 1.48 publishes the ports of a container on the first of its
/// networks by name, and moves them when a network comes first that was connected later.
pub fn registry_network(hostname: &str) -> String {
    format!("bridge-{hostname}")
}

/// Returns the name of the Registry object that a LocalCluster creates.
pub fn own_registry(cluster: &str) -> String {
    shorten(&format!("{cluster}-registry"), MAX_HOSTNAME)
}

/// Returns a name that is unique among the objects of a kind. `team-a/images`, `team/a-images` and
/// `default/team-a-images` would all become `team-a-images` when joined with hyphens, which both parts may contain, so
/// a hash of both distinguishes them. In namespace `default` the names are those of k3d.
fn scoped(prefix: &str, namespace: &str, name: &str, max: usize) -> String {
    if namespace == "default" {
        return shorten(&format!("{prefix}{name}"), max);
    }
    // A name that ends in .localhost keeps that suffix.
    let (first, rest) =
        name.split_at(name.find('.').filter(|at| name.len() - at <= max / 2).unwrap_or(name.len()));
    let head =
        hashed(&format!("{prefix}{namespace}-{first}"), &format!("{namespace}/{name}"), max - rest.len());
    head + rest
}

/// A pool of nodes of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pool {
    /// The servers.
    Servers,
    /// The agents of `spec.agents`.
    Agents,
    /// Agents of `spec.agentPools`, with the name of the pool.
    Named(String),
}

impl Pool {
    /// Returns the role of the nodes.
    pub fn role(&self) -> NodeRole {
        match self {
            Self::Servers => NodeRole::Server,
            Self::Agents | Self::Named(_) => NodeRole::Agent,
        }
    }

    /// Returns the name of the pool in `spec.agentPools`.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Servers | Self::Agents => None,
            Self::Named(name) => Some(name),
        }
    }

    /// Returns the field of the spec, for messages.
    pub fn field(&self) -> String {
        match self {
            Self::Servers => "spec.servers".into(),
            Self::Agents => "spec.agents".into(),
            Self::Named(name) => format!("spec.agentPools[{name}]"),
        }
    }

    /// Returns the part of the names of nodes that stands for the pool.
    fn part(&self) -> &str {
        match self {
            Self::Servers => "server",
            Self::Agents => "agent",
            Self::Named(name) => name,
        }
    }

    /// Returns the pool with this part of the names of nodes; `None` if no pool may have such a name.
    fn of(part: &str) -> Option<Self> {
        match part {
            "server" => Some(Self::Servers),
            "agent" => Some(Self::Agents),
            name => {
                let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
                let sound = name.starts_with(|c: char| c.is_ascii_lowercase())
                    && name.chars().all(plain)
                    && name.len() <= format::POOL_NAME.max
                    && !hostnames::POOLS.iter().any(|refused| refused.has(name));
                sound.then(|| Self::Named(name.to_owned()))
            }
        }
    }
}

/// Names of the Docker objects of a LocalCluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNames {
    /// Name of the cluster on the Docker host.
    pub cluster: String,
}

impl ClusterNames {
    /// Returns the names for the cluster with this name.
    pub fn new(cluster: impl Into<String>) -> Self {
        Self { cluster: cluster.into() }
    }

    /// Returns the name of the container, host and Node of a server, or of an agent of `spec.agents`.
    pub fn node(&self, role: NodeRole, index: usize) -> String {
        let pool = match role {
            NodeRole::Server => Pool::Servers,
            NodeRole::Agent => Pool::Agents,
        };
        self.node_of(&pool, index)
    }

    /// Returns the name of the container, host and Node of a node.
    pub fn node_of(&self, pool: &Pool, index: usize) -> String {
        format!("k3d-{}-{}-{index}", self.cluster, pool.part())
    }

    /// Parses pool and index from the name of a node of this cluster. The pool need not exist.
    pub fn parse_node(&self, name: &str) -> Option<(Pool, usize)> {
        let rest = name.strip_prefix("k3d-")?.strip_prefix(&self.cluster)?.strip_prefix('-')?;
        let (pool, index) = rest.split_once('-')?;
        let parsed: usize = index.parse().ok()?;
        // "01" and "+1" parse too, but are not names of this cluster.
        if parsed.to_string() == index { Some((Pool::of(pool)?, parsed)) } else { None }
    }

    /// Parses the index from the name of a server of this cluster.
    pub fn parse_server(&self, name: &str) -> Option<usize> {
        self.parse_node(name).and_then(|(pool, index)| (pool == Pool::Servers).then_some(index))
    }

    /// Returns the name of the load balancer container.
    pub fn load_balancer(&self) -> String {
        format!("k3d-{}-serverlb", self.cluster)
    }

    /// Returns the name of the network.
    pub fn network(&self) -> String {
        format!("k3d-{}", self.cluster)
    }
}

/// Returns the name of a volume of a node, with a kind such as `state`.
pub fn volume(node: &str, kind: &str) -> String {
    format!("{node}-{kind}")
}

/// Returns `name`, truncated to `max` bytes with 8 hex digits of its hash at the end if it is longer.
fn shorten(name: &str, max: usize) -> String {
    if name.len() <= max { name.to_owned() } else { hashed(name, name, max) }
}

/// Returns `name` followed by 8 hex digits of the hash of `of`, with at most `max` bytes in total.
fn hashed(name: &str, of: &str, max: usize) -> String {
    let hash = hex(&Sha256::digest(of.as_bytes())[..4]);
    let keep = name[..name.len().min(max - hash.len() - 1)].trim_end_matches(['-', '.']);
    format!("{keep}-{hash}")
}

/// Returns `bytes` as lowercase hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Label of a registry's volume: the host name of the registry, by which a retained volume is taken up again.
pub const VOLUME_OF: &str = "localcluster.dev/registry";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_object_in_two_namespaces_differ() {
        assert_eq!(cluster("default", "dev", None), "dev");
        assert_eq!(cluster("team-a", "dev", None), "team-a-dev-c553f163");
        assert_eq!(cluster("team-a", "dev", Some("x")), "x");
        assert_eq!(registry("default", "images.localhost", None), "k3d-images.localhost");
        assert_eq!(registry("team-a", "images", None), "k3d-team-a-images-b7d93119");
        let (one, other) =
            (registry("team-a", "images.localhost", None), registry("team", "a-images.localhost", None));
        assert!(one.starts_with("k3d-team-a-images-") && one.ends_with(".localhost"), "{one}");
        assert_ne!(one, other);
        let long = registry("team-a", &format!("{}.localhost", "x".repeat(63)), None);
        assert!(long.len() == MAX_HOSTNAME && long.ends_with(".localhost"), "{long}");
        let long = registry("team-a", &format!("x.{}", "y".repeat(63)), None);
        assert!(long.len() == MAX_HOSTNAME && long.starts_with("k3d-team-a-x.yy"), "{long}");
    }

    #[test]
    fn hyphens_make_no_two_names_one() {
        let objects = [("team-a", "images"), ("team", "a-images"), ("default", "team-a-images")];
        for of in [cluster, registry] {
            let names: std::collections::BTreeSet<_> =
                objects.iter().map(|(namespace, name)| of(namespace, name, None)).collect();
            assert_eq!(names.len(), objects.len(), "{names:?}");
        }
    }

    #[test]
    fn the_network_of_a_registry_comes_before_those_of_clusters() {
        for hostname in ["k3d-images", "registry.corp.example", "z"] {
            let network = registry_network(hostname);
            assert!(network < ClusterNames::new("0").network(), "{network}");
        }
    }

    #[test]
    fn long_names_are_cut_and_stay_distinct() {
        let long = "a".repeat(63);
        let cut = cluster("default", &long, None);
        assert_eq!(cut.len(), MAX_CLUSTER_NAME);
        assert_ne!(cut, cluster("default", &"a".repeat(62), None));
        let names = ClusterNames::new(cut);
        assert!(names.node(NodeRole::Server, 31).len() <= MAX_HOSTNAME);
        assert!(names.load_balancer().len() <= MAX_HOSTNAME);
    }

    #[test]
    fn only_own_node_names_parse() {
        let n = ClusterNames::new("dev");
        assert_eq!(n.parse_node("k3d-dev-agent-3"), Some((Pool::Agents, 3)));
        assert_eq!(n.parse_node("k3d-dev-server-0"), Some((Pool::Servers, 0)));
        assert_eq!(n.parse_node("k3d-dev-agent-03"), None);
        assert_eq!(n.parse_node("k3d-dev2-agent-3"), None);
        assert_eq!(n.parse_node("k3d-dev-agent-x"), None);
        let gpu = Pool::Named("gpu".into());
        assert_eq!(n.node_of(&gpu, 12), "k3d-dev-gpu-12");
        assert_eq!(n.parse_node("k3d-dev-gpu-12"), Some((gpu, 12)));
        for other in [
            "k3d-dev-serverlb-0",
            "k3d-dev-x-gpu-0",
            "k3d-dev-x-server-0",
            "k3d-dev-1-0",
            "k3d-dev-path",
            "k3d-dev--0",
        ] {
            assert_eq!(n.parse_node(other), None, "{other}");
        }
    }

    #[test]
    fn no_two_clusters_have_a_node_of_the_same_name() {
        for (one, other) in [("a", "a-b"), ("a-gpu", "a"), ("a-agent", "a"), ("a-0", "a")] {
            let (one, other) = (ClusterNames::new(one), ClusterNames::new(other));
            for pool in [Pool::Servers, Pool::Agents, Pool::Named("gpu".into()), Pool::Named("b".into())] {
                assert_eq!(other.parse_node(&one.node_of(&pool, 0)), None, "{one:?} {pool:?}");
                assert_eq!(one.parse_node(&other.node_of(&pool, 0)), None, "{other:?} {pool:?}");
            }
        }
    }

    #[test]
    fn the_longest_names_are_host_names() {
        let names = ClusterNames::new("c".repeat(MAX_CLUSTER_NAME));
        assert!(names.node_of(&Pool::Named("p".repeat(format::POOL_NAME.max)), 31).len() <= MAX_HOSTNAME);
    }
}
