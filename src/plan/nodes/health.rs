//! Health of a node, by its container and its Node.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::reason::Reason,
    child::state::{Node, NodeConfig},
    docker::engine::{ContainerDetail, State},
    plan::observed::Observed,
};

/// Time that a node may take from the start of its container to its first report. A kubelet never recreates its Node
/// after deletion, and a node that lost its password stays rejected; healthy nodes take much less.
pub const REPORT_LIMIT: SignedDuration = SignedDuration::from_mins(3);

/// Reports whether the kubelet of a Node has reported since its container started.
pub fn reports(node: &Node, detail: &ContainerDetail) -> bool {
    detail.started_at.is_none_or(|started| node.renewed.is_some_and(|renewed| renewed >= started))
}

/// Returns why a Node is not ready; `None` if it is. A Node stays Ready for at least 40 s after its kubelet died, so
/// a Ready from before the last start of the container does not count.
pub fn unready(node: &Node, detail: &ContainerDetail, version: Option<&str>) -> Option<(Reason, String)> {
    if !node.ready {
        return Some((Reason::NodeNotReady, format!("is not Ready: {}", node.message)));
    }
    if !reports(node, detail) {
        return Some((Reason::NodeStarting, "has not reported since its container started".into()));
    }
    match version {
        Some(wanted) if node.version != wanted => {
            Some((Reason::NodeNotReady, format!("runs {} instead of {wanted}", node.version)))
        }
        _ => None,
    }
}

/// Reports whether a node works: its container is running and its Node is Ready, at any version.
pub fn works(observed: &Observed, detail: &ContainerDetail) -> bool {
    detail.container.state == State::Running
        && observed.node(&detail.container.name).is_some_and(|n| unready(n, detail, None).is_none())
}

/// Reports whether a node only lacks a network plugin, which the user installs once the API responds. A repair cannot
/// provide one.
pub fn lacks_network_plugin(node: &Node, detail: &ContainerDetail) -> bool {
    !node.ready && node.lacks_network_plugin && reports(node, detail)
}

/// Returns the time since which a node has been silent if it has not reported since its container started. Restarts
/// by the engine after exits of the node do not extend its time.
pub fn silent_since(node: Option<&Node>, detail: &ContainerDetail) -> Option<Timestamp> {
    let started = detail.started_at?;
    if detail.started_again == 0 {
        return Some(started);
    }
    node.and_then(|n| n.renewed).max(detail.created_at).map(|heard| heard.min(started)).or(Some(started))
}

/// Returns the address of another machine that has registered under the name of this node.
pub fn stranger(node: &Node, detail: &ContainerDetail) -> Option<IpAddr> {
    let own: Vec<IpAddr> = detail.container.networks.values().filter_map(|p| p.ip).map(IpAddr::V4).collect();
    let other = node.addresses.iter().all(|ip| !own.contains(ip));
    node.addresses.first().copied().filter(|_| other && !own.is_empty())
}

/// Reports whether a Node has the labels and taints of the spec, and none that were removed from it.
pub fn is_configured(node: &Node, config: &NodeConfig) -> bool {
    let none = NodeConfig::default();
    node.configured.as_ref().unwrap_or(&none) == config
        && config.labels.iter().all(|(k, v)| node.labels.get(k) == Some(v))
        && config.taints.iter().all(|t| node.taints.contains(t))
}
