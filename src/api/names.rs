//! Names and labels on the Docker host. They are k3d's, so that k3d, Tilt, Skaffold and people's habits keep
//! working; ownership is told by [`UID`] and [`MANAGER`] alone.

use sha2::{Digest, Sha256};

use super::local_cluster::NodeRole;

/// Label: the UID of the object that owns the container, network or volume.
pub const UID: &str = "localcluster.dev/uid";
/// Label: the management cluster that the owner lives in, told by the UID of its `kube-system` namespace.
pub const MANAGER: &str = "localcluster.dev/manager";
/// Label: the hash of the intent that a container was made from.
pub const SPEC_HASH: &str = "localcluster.dev/spec-hash";
/// Label: `namespace/name` of the owner, for people who look at the host, and to tell whose namespace a volume is of that
/// outlived its owner.
pub const OWNER: &str = "localcluster.dev/owner";
/// Label: the host port of the API, from which status can be rebuilt.
pub const API_PORT: &str = "localcluster.dev/api-port";
/// Label: where a server keeps the cluster's data; [`ETCD`], or missing for SQLite. Once in etcd it stays there.
pub const DATASTORE: &str = "localcluster.dev/datastore";
/// The value of [`DATASTORE`] that there is.
pub const ETCD: &str = "etcd";
/// Label that somebody gives to a volume or a container of theirs: the namespaces, with commas between or `*` for all,
/// whose objects may use it.
pub const ALLOW_NAMESPACES: &str = "localcluster.dev/allow-namespaces";
/// Label: the subnet of the cluster, from which a network that was removed is made again.
pub const SUBNET: &str = "localcluster.dev/subnet";
/// k3d's label on everything.
pub const APP: &str = "app";
/// k3d's label: what a container is (`server`, `agent`, `loadbalancer`, `registry`).
pub const ROLE: &str = "k3d.role";
/// k3d's label: the host port of a registry.
pub const EXTERNAL_PORT: &str = "k3s.registry.port.external";
/// k3d's label: the cluster's name.
pub const CLUSTER: &str = "k3d.cluster";

/// The longest cluster name: K3s node names and k3d's own limit leave this much.
pub const MAX_CLUSTER_NAME: usize = 32;
/// The longest name of a container that is a host name too.
pub const MAX_HOSTNAME: usize = 63;

/// The cluster's name on the Docker host: `name` in namespace `default`, elsewhere `<namespace>-<name>` and 8 hex digits
/// of a hash. It has at most 32 characters, see [`shorten`]. No two objects have the same: see [`scoped`].
///
/// Clusters that were made under another name keep it, see [`called`](crate::plan::called).
pub fn cluster(namespace: &str, name: &str, explicit: Option<&str>) -> String {
    match explicit {
        Some(n) => n.to_owned(),
        None => scoped("", namespace, name, MAX_CLUSTER_NAME),
    }
}

/// A registry's container and DNS name, by the same rule: `k3d-<name>` in namespace `default`.
pub fn registry(namespace: &str, name: &str, explicit: Option<&str>) -> String {
    match explicit {
        Some(n) => n.to_owned(),
        None => scoped("k3d-", namespace, name, MAX_HOSTNAME),
    }
}

/// The name of the Registry object that a LocalCluster makes for itself.
pub fn own_registry(cluster: &str) -> String {
    shorten(&format!("{cluster}-registry"), MAX_HOSTNAME)
}

/// A name that no other object of the kind has. `team-a/images`, `team/a-images` and `default/team-a-images` are all
/// `team-a-images` when they are written with hyphens, which both parts may have, so that a hash of both tells them
/// apart. In namespace `default` names are k3d's.
fn scoped(prefix: &str, namespace: &str, name: &str, max: usize) -> String {
    if namespace == "default" {
        return shorten(&format!("{prefix}{name}"), max);
    }
    // What ends in .localhost goes on doing so.
    let (first, rest) =
        name.split_at(name.find('.').filter(|at| name.len() - at <= max / 2).unwrap_or(name.len()));
    let head =
        hashed(&format!("{prefix}{namespace}-{first}"), &format!("{namespace}/{name}"), max - rest.len());
    head + rest
}

/// The names of a LocalCluster's Docker objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNames {
    /// The cluster's name on the Docker host.
    pub cluster: String,
}

impl ClusterNames {
    /// Of the cluster with this name.
    pub fn new(cluster: impl Into<String>) -> Self {
        Self { cluster: cluster.into() }
    }

    /// The container, host and Node name of a node.
    pub fn node(&self, role: NodeRole, index: usize) -> String {
        format!("{}{index}", self.node_prefix(role))
    }

    /// What the names of all nodes of a role begin with.
    pub fn node_prefix(&self, role: NodeRole) -> String {
        let role = match role {
            NodeRole::Server => "server",
            NodeRole::Agent => "agent",
        };
        format!("k3d-{}-{role}-", self.cluster)
    }

    /// Role and index of a node by its name, where it is one of this cluster's.
    pub fn parse_node(&self, name: &str) -> Option<(NodeRole, usize)> {
        [NodeRole::Server, NodeRole::Agent].into_iter().find_map(|role| {
            let index = name.strip_prefix(&self.node_prefix(role))?;
            let parsed: usize = index.parse().ok()?;
            // "01" and "+1" parse too, but are no names of ours.
            (parsed.to_string() == index).then_some((role, parsed))
        })
    }

    /// The index of a server by its name, where it is one of this cluster's.
    pub fn parse_server(&self, name: &str) -> Option<usize> {
        self.parse_node(name).and_then(|(role, index)| (role == NodeRole::Server).then_some(index))
    }

    /// The load balancer's container.
    pub fn load_balancer(&self) -> String {
        format!("k3d-{}-serverlb", self.cluster)
    }

    /// The network.
    pub fn network(&self) -> String {
        format!("k3d-{}", self.cluster)
    }
}

/// The name of a node's volume of a kind such as `state`.
pub fn volume(node: &str, kind: &str) -> String {
    format!("{node}-{kind}")
}

/// `name` cut to `max` bytes, ending in 8 hex digits of its hash, where it is longer.
fn shorten(name: &str, max: usize) -> String {
    if name.len() <= max { name.to_owned() } else { hashed(name, name, max) }
}

/// `name` with 8 hex digits of the hash of `of` behind, in all at most `max` bytes.
fn hashed(name: &str, of: &str, max: usize) -> String {
    let hash = hex(&Sha256::digest(of.as_bytes())[..4]);
    let keep = name[..name.len().min(max - hash.len() - 1)].trim_end_matches(['-', '.']);
    format!("{keep}-{hash}")
}

/// Lower-case hex digits.
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
