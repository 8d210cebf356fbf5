//! Command line of a K3s node.

use super::{API_PORT, REGISTRIES_FILE, RESOLV_CONF_FILE, TOKEN_FILE};
use crate::api::local_cluster::NodeRole;

/// Flag with which a server removes all other members from etcd and exits.
pub const CLUSTER_RESET: &str = "--cluster-reset";
/// Argument that allows a kubelet to run on a host with cgroup v1 (kubernetes/website#53082).
pub const CGROUP_V1: &str = "--kubelet-arg=fail-cgroupv1=false";

/// Default networks of Pods and Services.
pub const DEFAULT_CIDRS: [&str; 2] = ["10.42.0.0/16", "10.43.0.0/16"];
/// Default domain of Services.
pub const DEFAULT_DOMAIN: &str = "cluster.local";

/// Returns the value of a flag in a list of arguments (`--flag=value`); the last one applies.
pub fn value<'a>(args: &'a [String], flag: &str) -> Option<&'a str> {
    let of = |arg: &'a String| arg.strip_prefix("--")?.strip_prefix(flag)?.strip_prefix('=');
    args.iter().rev().find_map(of)
}

/// Inputs of the command line of a node.
#[derive(Clone, Debug)]
pub struct NodeArgs<'a> {
    /// Role of the node.
    pub role: NodeRole,
    /// Container name of the load balancer: agents join at this address, and the serving certificate must contain it.
    pub load_balancer: &'a str,
    /// Additional names and addresses in the serving certificate.
    pub sans: &'a [String],
    /// Taints for the first registration of the Node.
    pub taints: &'a [String],
    /// True if containerd falls back to a registry itself after its mirrors.
    pub default_endpoint: bool,
    /// True if the kubelet needs [`CGROUP_V1`].
    pub cgroup_v1: bool,
    /// Arguments of the user, unchanged and last: where K3s accepts a single value, the last one applies.
    pub extra: &'a [String],
}

/// Returns the command line. The node name is the host name; the token is in a file, since arguments and environment
/// are visible to anyone who can inspect containers.
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
    // The resolver of Docker, 127.0.0.11, only works inside the node container; K3s refuses it for Pods.
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
