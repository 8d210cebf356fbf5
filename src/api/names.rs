//! Names and labels on the Docker host. They follow k3d, so that k3d, Tilt, Skaffold and existing scripts keep working;
//! only [`UID`] and [`MANAGER`] determine ownership.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{local_cluster::NodeRole, rules::format};

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
/// Name that a container has on a network that `spec.network.join` names, by which the operator knows which of the
/// networks of a container it has connected, and not a user.
pub const JOINED: &str = "joined.localcluster.internal";
/// k3d label on all objects.
pub const APP: &str = "app";
/// k3d label: the role of a container (`server`, `agent`, `loadbalancer`, `registry`).
pub const ROLE: &str = "k3d.role";
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

    /// Returns the name of the container, host and Node of a node.
    pub fn node(&self, role: NodeRole, index: usize) -> String {
        format!("{}{index}", self.node_prefix(role))
    }

    /// Returns the common prefix of the names of all nodes with a role.
    pub fn node_prefix(&self, role: NodeRole) -> String {
        let role = match role {
            NodeRole::Server => "server",
            NodeRole::Agent => "agent",
        };
        format!("k3d-{}-{role}-", self.cluster)
    }

    /// Parses role and index from the name of a node of this cluster.
    pub fn parse_node(&self, name: &str) -> Option<(NodeRole, usize)> {
        [NodeRole::Server, NodeRole::Agent].into_iter().find_map(|role| {
            let index = name.strip_prefix(&self.node_prefix(role))?;
            let parsed: usize = index.parse().ok()?;
            // "01" and "+1" parse too, but are not names of this cluster.
            (parsed.to_string() == index).then_some((role, parsed))
        })
    }

    /// Parses the index from the name of a server of this cluster.
    pub fn parse_server(&self, name: &str) -> Option<usize> {
        self.parse_node(name).and_then(|(role, index)| (role == NodeRole::Server).then_some(index))
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
        assert_eq!(n.parse_node("k3d-dev-agent-3"), Some((NodeRole::Agent, 3)));
        assert_eq!(n.parse_node("k3d-dev-agent-03"), None);
        assert_eq!(n.parse_node("k3d-dev2-agent-3"), None);
        assert_eq!(n.parse_node("k3d-dev-agent-x"), None);
    }
}
