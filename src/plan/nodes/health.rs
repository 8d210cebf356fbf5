//! Health of a node, by its container and its Node.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::reason::Reason,
    child::state::{Node, NodeConfig},
    docker::engine::{ContainerDetail, State},
    plan::observed::Observed,
};

/// How long a node may take from its container's start to its first report. A kubelet whose Node is deleted under it
/// never makes another one, and one whose password is lost is refused for ever; both take much less when all is well.
pub const REPORT_LIMIT: SignedDuration = SignedDuration::from_mins(3);

/// Whether a Node's kubelet has said that it is alive since its container was started.
pub fn reports(node: &Node, detail: &ContainerDetail) -> bool {
    detail.started_at.is_none_or(|started| node.renewed.is_some_and(|renewed| renewed >= started))
}

/// Why a Node is not ready; `None` when it is. A Node stays Ready for 40 s and more after its kubelet died, so a
/// Ready that was said before the container's last start counts for nothing.
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

/// Whether a node works: its container runs and its Node is Ready, at whatever version.
pub fn works(observed: &Observed, detail: &ContainerDetail) -> bool {
    detail.container.state == State::Running
        && observed.node(&detail.container.name).is_some_and(|n| unready(n, detail, None).is_none())
}

/// Whether all that a node is short of is a network plugin, which somebody installs when its API answers. No repair
/// brings one.
pub fn lacks_network_plugin(node: &Node, detail: &ContainerDetail) -> bool {
    !node.ready && node.lacks_network_plugin && reports(node, detail)
}

/// Since when nothing was heard of a node that has not reported since its container was started. Each start by the engine,
/// after the node has ended by itself, would give it its whole time once more.
pub fn silent_since(node: Option<&Node>, detail: &ContainerDetail) -> Option<Timestamp> {
    let started = detail.started_at?;
    if detail.started_again == 0 {
        return Some(started);
    }
    node.and_then(|n| n.renewed).max(detail.created_at).map(|heard| heard.min(started)).or(Some(started))
}

/// The address of a machine that is not this node and has registered under its name.
pub fn stranger(node: &Node, detail: &ContainerDetail) -> Option<IpAddr> {
    let own: Vec<IpAddr> = detail.container.networks.values().filter_map(|p| p.ip).map(IpAddr::V4).collect();
    let other = node.addresses.iter().all(|ip| !own.contains(ip));
    node.addresses.first().copied().filter(|_| other && !own.is_empty())
}

/// Whether a Node has the labels and taints of the spec, and no longer those that were taken out of it.
pub fn is_configured(node: &Node, config: &NodeConfig) -> bool {
    let none = NodeConfig::default();
    node.configured.as_ref().unwrap_or(&none) == config
        && config.labels.iter().all(|(k, v)| node.labels.get(k) == Some(v))
        && config.taints.iter().all(|t| node.taints.contains(t))
}
