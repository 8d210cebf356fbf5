//! Docker hosts: the state of the nodes of the management cluster.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;

/// Label of a node with an agent and a Docker Engine that responds. Placeholders select it.
pub const DOCKER: &str = "localcluster.dev/docker";
/// The only value of [`DOCKER`].
pub const READY: &str = "ready";
/// Taint by which a user says that a node that is not ready is off.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// Label that the node selector of a bound placeholder has.
pub const HOSTNAME: &str = "kubernetes.io/hostname";

/// State of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is no such Node, or a user says that it is off.
    Gone,
    /// Its kubelet does not report.
    NotReady,
    /// Its agent or its Docker Engine does not respond.
    AgentDown,
    /// It takes no new Pods.
    Cordoned,
    /// It is ready.
    Ready,
}

impl State {
    /// Reports whether nothing is known about what runs on it.
    pub fn is_lost(self) -> bool {
        matches!(self, Self::Gone | Self::NotReady)
    }
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// State.
    pub state: State,
    /// True if its agent reports.
    pub has_agent: bool,
    /// Internal address.
    pub ip: Option<String>,
    /// Value of its label [`HOSTNAME`].
    pub hostname: Option<String>,
}

impl Host {
    /// Returns the host that a Node is.
    pub fn of(node: &Node) -> Self {
        let labels = node.metadata.labels.as_ref();
        let label = |key: &str| labels.and_then(|labels| labels.get(key)).cloned();
        let (spec, status) = (node.spec.as_ref(), node.status.as_ref());
        let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        let has_agent = label(DOCKER).as_deref() == Some(READY);
        let state = if !ready && taints.iter().any(|taint| taint.key == OUT_OF_SERVICE) {
            State::Gone
        } else if !ready {
            State::NotReady
        } else if !has_agent {
            State::AgentDown
        } else if spec.is_some_and(|spec| spec.unschedulable == Some(true)) {
            State::Cordoned
        } else {
            State::Ready
        };
        let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        let ip = addresses.iter().find(|a| a.type_ == "InternalIP").map(|a| a.address.clone());
        Self { state, has_agent, ip, hostname: label(HOSTNAME) }
    }
}

/// All hosts by the names of their Nodes.
#[derive(Clone, Debug, Default)]
pub struct Hosts(pub BTreeMap<String, Host>);

impl Hosts {
    /// Returns the state of a host.
    pub fn state(&self, name: &str) -> State {
        self.0.get(name).map_or(State::Gone, |host| host.state)
    }

    /// Reports whether the agent of a host reports.
    pub fn has_agent(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|host| host.has_agent)
    }

    /// Returns the label by which a host is selected.
    pub fn hostname<'a>(&'a self, name: &'a str) -> &'a str {
        self.0.get(name).and_then(|host| host.hostname.as_deref()).unwrap_or(name)
    }
}
