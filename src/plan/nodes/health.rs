//! Health of a node, by its container and its Node.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::reason::Reason,
    child::state::{Node, NodeConfig},
    docker::engine::{ContainerDetail, State},
    plan::observed::Reached,
    time::after,
};

/// Time that a node may take from the start of its container to its first report. A kubelet never recreates its Node
/// after deletion, and a node that lost its password stays rejected; healthy nodes take much less.
pub const REPORT_LIMIT: SignedDuration = SignedDuration::from_mins(3);

/// Health of a node with a container.
#[derive(Clone, Copy, Debug)]
pub struct NodeHealth<'a> {
    /// Container of the node.
    pub detail: &'a ContainerDetail,
    /// Node of the cluster with its name.
    pub node: Option<&'a Node>,
    /// Time since which no API responds, if this server does not respond inside its container either.
    pub hung_since: Option<Timestamp>,
    /// True if this server has no etcd leader.
    pub lacks_leader: bool,
}

impl<'a> NodeHealth<'a> {
    /// Returns the health of the node with this container.
    pub fn of(detail: &'a ContainerDetail, observed: &'a Reached) -> Self {
        let name = &detail.container.name;
        Self {
            detail,
            node: observed.node(name),
            hung_since: observed.hung.get(name).copied(),
            lacks_leader: observed.leaders.get(name) == Some(&false),
        }
    }

    /// Returns the name of the node.
    pub fn name(&self) -> &'a str {
        &self.detail.container.name
    }

    /// Reports whether its container is running.
    pub fn is_running(&self) -> bool {
        self.detail.container.state == State::Running
    }

    /// Reports whether its kubelet has reported since its container started.
    pub fn has_reported(&self) -> bool {
        let recent = |node: &Node| {
            self.detail
                .started_at
                .is_none_or(|started| node.renewed.is_some_and(|renewed| renewed >= started))
        };
        self.node.is_some_and(recent)
    }

    /// Returns why its Node is not ready; `None` if it is. A Node stays Ready for at least 40 s after its kubelet died,
    /// so a Ready from before the last start of the container does not count.
    pub fn unready(&self, version: Option<&str>) -> Option<(Reason, String)> {
        let name = self.name();
        let Some(node) = self.node else {
            return Some((Reason::NodeStarting, format!("waiting for {name} to register as a Node")));
        };
        if !node.ready {
            let cause = if self.lacks_leader { "its etcd does not reach most of the others; " } else { "" };
            return Some((Reason::NodeNotReady, format!("{name} is not Ready: {cause}{}", node.message)));
        }
        if !self.has_reported() {
            let message = format!("{name} has not reported since its container started");
            return Some((Reason::NodeStarting, message));
        }
        match version {
            Some(wanted) if node.version != wanted => {
                Some((Reason::NodeNotReady, format!("{name} runs {} instead of {wanted}", node.version)))
            }
            _ => None,
        }
    }

    /// Reports whether its container is running and its Node is Ready, at any version.
    pub fn is_ready(&self) -> bool {
        self.is_running() && self.unready(None).is_none()
    }

    /// Reports whether it only lacks a network plugin, which the user installs once the API responds. A repair cannot
    /// provide one.
    pub fn lacks_network_plugin(&self) -> bool {
        self.node.is_some_and(|node| !node.ready && node.lacks_network_plugin) && self.has_reported()
    }

    /// Returns the time since which it is silent if it has not reported since its container started. Restarts by the
    /// engine after exits of the node do not extend its time.
    fn silent_since(&self) -> Option<Timestamp> {
        let started = self.detail.started_at?;
        if self.detail.started_again == 0 {
            return Some(started);
        }
        let heard = self.node.and_then(|n| n.renewed).max(self.detail.created_at);
        heard.map(|heard| heard.min(started)).or(Some(started))
    }

    /// Reports whether it has not reported in time since its container started.
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        !self.has_reported() && self.silent_since().is_some_and(|since| now >= after(since, REPORT_LIMIT))
    }

    /// Returns the address of another machine that has registered under its name.
    pub fn foreign_address(&self) -> Option<IpAddr> {
        let node = self.node?;
        let networks = self.detail.container.networks.values();
        let own: Vec<IpAddr> = networks.filter_map(|p| p.ip).map(IpAddr::V4).collect();
        let other = node.addresses.iter().all(|ip| !own.contains(ip));
        node.addresses.first().copied().filter(|_| other && !own.is_empty())
    }
}

/// Reports whether a Node has the labels and taints of the spec, and none that were removed from it.
pub fn is_configured(node: &Node, config: &NodeConfig) -> bool {
    let none = NodeConfig::default();
    node.configured.as_ref().unwrap_or(&none) == config
        && config.labels.iter().all(|(k, v)| node.labels.get(k) == Some(v))
        && config.taints.iter().all(|t| node.taints.contains(t))
}
