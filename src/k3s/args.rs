//! The command line of a K3s node.

use super::{API_PORT, REGISTRIES_FILE, RESOLV_CONF_FILE, TOKEN_FILE};
use crate::api::local_cluster::NodeRole;

/// Has a server forget all other members of etcd and end.
pub const CLUSTER_RESET: &str = "--cluster-reset";
/// Has a kubelet run on a host with cgroup v1 (kubernetes/website#53082).
pub const CGROUP_V1: &str = "--kubelet-arg=fail-cgroupv1=false";

/// The networks of Pods and Services, where the arguments name no others.
pub const DEFAULT_CIDRS: [&str; 2] = ["10.42.0.0/16", "10.43.0.0/16"];
/// The domain of a cluster's Services, where the arguments name no other.
pub const DEFAULT_DOMAIN: &str = "cluster.local";

/// The value that arguments (`--flag=value`) give a flag that takes one: the last one counts.
pub fn value<'a>(args: &'a [String], flag: &str) -> Option<&'a str> {
    let of = |arg: &'a String| arg.strip_prefix("--")?.strip_prefix(flag)?.strip_prefix('=');
    args.iter().rev().find_map(of)
}

/// What the command line of a node depends on.
#[derive(Clone, Debug)]
pub struct NodeArgs<'a> {
    /// Server or agent.
    pub role: NodeRole,
    /// The load balancer's container name: where agents join, and the name that the serving certificate must carry.
    pub load_balancer: &'a str,
    /// Further names and addresses of the serving certificate.
    pub sans: &'a [String],
    /// Taints at the Node's first registration.
    pub taints: &'a [String],
    /// Whether a registry itself is asked after its mirrors.
    pub default_endpoint: bool,
    /// Whether kubelet has to be told to run on cgroup v1.
    pub cgroup_v1: bool,
    /// The user's arguments, word for word, last: where K3s takes one value, the last one counts.
    pub extra: &'a [String],
}

/// The command line. The node name is the host name; the secret is in a file, since arguments and environment can be
/// read by everyone who can inspect containers.
pub fn command(node: &NodeArgs<'_>) -> Vec<String> {
    let mut args = Vec::new();
    match node.role {
        NodeRole::Server => {
            args.push("server".to_owned());
            args.push(format!("--tls-san={}", node.load_balancer));
            args.extend(node.sans.iter().map(|san| format!("--tls-san={san}")));
        }
        NodeRole::Agent => {
            args.push("agent".to_owned());
            args.push(format!("--server=https://{}:{API_PORT}", node.load_balancer));
        }
    }
    args.push(format!("--token-file={TOKEN_FILE}"));
    args.push(format!("--private-registry={REGISTRIES_FILE}"));
    // Docker's own resolver, 127.0.0.11, works only inside of the node container; K3s refuses it for Pods.
    args.push(format!("--resolv-conf={RESOLV_CONF_FILE}"));
    if !node.default_endpoint {
        args.push("--disable-default-registry-endpoint".to_owned());
    }
    if node.cgroup_v1 {
        args.push(CGROUP_V1.to_owned());
    }
    args.extend(node.taints.iter().map(|t| format!("--node-taint={t}")));
    args.extend_from_slice(node.extra);
    args
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_and_agent() {
        let sans = ["127.0.0.1".to_owned()];
        let extra = ["--disable=traefik".to_owned()];
        let server = NodeArgs {
            role: NodeRole::Server,
            load_balancer: "k3d-dev-serverlb",
            sans: &sans,
            taints: &[],
            default_endpoint: true,
            cgroup_v1: true,
            extra: &extra,
        };
        insta::assert_snapshot!(command(&server).join("\n"), @r"
        server
        --tls-san=k3d-dev-serverlb
        --tls-san=127.0.0.1
        --token-file=/etc/rancher/k3s/token
        --private-registry=/etc/rancher/k3s/registries.yaml
        --resolv-conf=/etc/rancher/k3s/resolv.conf
        --kubelet-arg=fail-cgroupv1=false
        --disable=traefik
        ");
        let taints = ["dedicated=gpu:NoSchedule".to_owned()];
        let agent = NodeArgs {
            role: NodeRole::Agent,
            taints: &taints,
            default_endpoint: false,
            cgroup_v1: false,
            extra: &[],
            ..server
        };
        insta::assert_snapshot!(command(&agent).join("\n"), @r"
        agent
        --server=https://k3d-dev-serverlb:6443
        --token-file=/etc/rancher/k3s/token
        --private-registry=/etc/rancher/k3s/registries.yaml
        --resolv-conf=/etc/rancher/k3s/resolv.conf
        --disable-default-registry-endpoint
        --node-taint=dedicated=gpu:NoSchedule
        ");
    }
}
