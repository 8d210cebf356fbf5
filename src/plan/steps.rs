//! A plan: what has to be done, in an order that can be cut short anywhere, and why the object is not as desired.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{condition::ConditionType, local_cluster::NodeRepairs, reason::Reason},
    child::state::{ClusterConfigMap, NodeConfig},
    docker::{
        engine::Container,
        spec::{ContainerSpec, Endpoint, FileSpec, NetworkSpec, VolumeSpec},
    },
    k3s::manifests::ObjectRef,
};

/// What has to be done, and what stands in the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What to do, in topological order.
    pub steps: Vec<Step>,
    /// Images to fetch in the background. Steps that need them come in a later plan.
    pub pulls: Vec<String>,
    /// Images to put into nodes in the background.
    pub imports: Vec<Import>,
    /// Why the object is not as desired; empty and no steps: it is.
    pub problems: Vec<Problem>,
    /// The first condition that can't be judged yet, since the plan did not get that far.
    pub unjudged: Option<ConditionType>,
    /// The server that is etcd's only member now, since it was reset.
    pub reset: Option<String>,
    /// What people should know and need not act on, for an Event.
    pub notes: Vec<String>,
    /// What goes on though it would not be begun any more, and what to do about it, for an Event of type Warning.
    pub warnings: Vec<String>,
    /// The repairs of nodes, with those that are planned: to be in the status before they are done.
    pub repairs: Record,
    /// Whether what is known of the cluster's data is forgotten, since it is lost and a new cluster takes its place. Nothing
    /// is created before that is in the status.
    pub forgets: bool,
    /// When to look again at the latest, where nothing is under way that is looked at often anyway.
    pub again: Option<Timestamp>,
}

/// One thing to do. It carries all that is needed to do it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// The steps, by index, that must have succeeded before; always smaller than the step's own index.
    pub after: Vec<usize>,
    /// Why, in words for the Event; empty for steps that are parts of another one.
    pub why: String,
}

/// A change of the Docker host or of the created cluster.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names say it; see `Engine` and `ChildApi` for the meaning of each
pub enum Action {
    CreateNetwork(NetworkSpec),
    RemoveNetwork {
        id: String,
        name: String,
    },
    CreateVolume(VolumeSpec),
    RemoveVolume {
        name: String,
    },
    CreateContainer {
        spec: Box<ContainerSpec>,
        network: Option<String>,
    },
    Upload {
        container: Target,
        files: Vec<FileSpec>,
    },
    Connect {
        network: String,
        container: Target,
        endpoint: Endpoint,
    },
    Disconnect {
        network: String,
        container: Target,
    },
    Start {
        container: Target,
    },
    Stop {
        container: Target,
        grace: u32,
    },
    Unpause {
        container: Target,
    },
    Signal {
        container: Target,
        signal: &'static str,
    },
    RemoveContainer {
        container: Target,
    },
    /// Fails unless one of these files is there. What follows is not done on volumes that have lost what they held.
    Expect {
        container: Target,
        one_of: Vec<String>,
    },
    /// Whether the engine starts it again when it ends by itself.
    SetRestart {
        container: Target,
        restart: bool,
    },
    /// Run a command in it, which has to end well.
    Exec {
        container: Target,
        command: Vec<String>,
    },
    Drain {
        node: String,
    },
    Uncordon {
        node: String,
    },
    Configure {
        node: String,
        config: NodeConfig,
    },
    DeleteNode {
        node: String,
    },
    ForgetPassword {
        node: String,
    },
    LeaveEtcd {
        node: String,
    },
    /// Give a Lease of K3s's own controllers back for a server that has ended, as it was seen.
    ReleaseLease {
        name: String,
        holder: String,
        version: String,
    },
    SetConfig(ClusterConfigMap),
    RemoveFiles {
        container: Target,
        paths: Vec<String>,
    },
    DeleteObject {
        object: ObjectRef,
        uid: String,
    },
}

/// A container to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its id; `None` for the one that an earlier step of the plan makes.
    pub id: Option<String>,
}

impl Target {
    /// A container that is there.
    pub fn of(container: &Container) -> Self {
        Self { name: container.name.clone(), id: Some(container.id.clone()) }
    }
}

impl Action {
    /// The name of the action, for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::CreateNetwork(_) => "CreateNetwork",
            Self::RemoveNetwork { .. } => "RemoveNetwork",
            Self::CreateVolume(_) => "CreateVolume",
            Self::RemoveVolume { .. } => "RemoveVolume",
            Self::CreateContainer { .. } => "CreateContainer",
            Self::Upload { .. } => "Upload",
            Self::Connect { .. } => "Connect",
            Self::Disconnect { .. } => "Disconnect",
            Self::Start { .. } => "Start",
            Self::Stop { .. } => "Stop",
            Self::Unpause { .. } => "Unpause",
            Self::Signal { .. } => "Signal",
            Self::RemoveContainer { .. } => "RemoveContainer",
            Self::Expect { .. } => "Expect",
            Self::SetRestart { .. } => "SetRestart",
            Self::Exec { .. } => "Exec",
            Self::Drain { .. } => "Drain",
            Self::Uncordon { .. } => "Uncordon",
            Self::Configure { .. } => "Configure",
            Self::DeleteNode { .. } => "DeleteNode",
            Self::ForgetPassword { .. } => "ForgetPassword",
            Self::LeaveEtcd { .. } => "LeaveEtcd",
            Self::ReleaseLease { .. } => "ReleaseLease",
            Self::SetConfig(_) => "SetConfig",
            Self::RemoveFiles { .. } => "RemoveFiles",
            Self::DeleteObject { .. } => "DeleteObject",
        }
    }

    /// The name of what is acted on.
    pub fn subject(&self) -> &str {
        match self {
            Self::CreateNetwork(spec) => &spec.name,
            Self::CreateVolume(spec) => &spec.name,
            Self::CreateContainer { spec, .. } => &spec.name,
            Self::RemoveNetwork { name, .. } | Self::RemoveVolume { name } => name,
            Self::Upload { container, .. }
            | Self::Connect { container, .. }
            | Self::Disconnect { container, .. }
            | Self::Start { container }
            | Self::Stop { container, .. }
            | Self::Unpause { container }
            | Self::Signal { container, .. }
            | Self::Expect { container, .. }
            | Self::SetRestart { container, .. }
            | Self::Exec { container, .. }
            | Self::RemoveFiles { container, .. }
            | Self::RemoveContainer { container } => &container.name,
            Self::Drain { node }
            | Self::Uncordon { node }
            | Self::Configure { node, .. }
            | Self::LeaveEtcd { node }
            | Self::ForgetPassword { node }
            | Self::DeleteNode { node } => node,
            Self::ReleaseLease { holder, .. } => holder,
            Self::SetConfig(wanted) => wanted.key.name,
            Self::DeleteObject { object, .. } => &object.name,
        }
    }
}

impl fmt::Display for Action {
    /// A line such as `Start k3d-dev-agent-0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeleteObject { object, .. } => write!(f, "{} {object}", self.kind()),
            other => write!(f, "{} {}", other.kind(), other.subject()),
        }
    }
}

/// Why the object is not as desired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The type of the condition that is not met.
    pub condition: ConditionType,
    /// The condition's reason.
    pub reason: Reason,
    /// A sentence for people.
    pub message: String,
    /// What it means for the condition, and who ends it.
    pub verdict: Verdict,
}

/// What a problem means for its condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is False for now: the operator is at work, or the cause can end by itself.
    Waits,
    /// It is False until a person changes something, in the spec or on the host.
    Stalls,
    /// It can't be judged: what would tell does not answer, or nobody looks.
    Unknown,
}

impl Problem {
    /// A problem that ends by itself.
    pub fn waits(condition: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { condition, reason, message: message.into(), verdict: Verdict::Waits }
    }

    /// A problem that only a person can end.
    pub fn stalls(condition: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { condition, reason, message: message.into(), verdict: Verdict::Stalls }
    }

    /// A condition that can't be judged.
    pub fn unknown(condition: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self { condition, reason, message: message.into(), verdict: Verdict::Unknown }
    }

    /// Whether a person must act.
    pub fn stalled(&self) -> bool {
        self.verdict == Verdict::Stalls
    }
}

impl Plan {
    /// Adds a step and answers its index.
    pub fn step(&mut self, action: Action, after: &[usize], why: impl Into<String>) -> usize {
        self.steps.push(Step { action, after: after.to_vec(), why: why.into() });
        self.steps.len() - 1
    }

    /// Adds a problem that goes by itself.
    pub fn waits(&mut self, condition: ConditionType, reason: Reason, message: impl Into<String>) {
        self.problems.push(Problem::waits(condition, reason, message));
    }

    /// Adds a problem that only a person can solve.
    pub fn stalls(&mut self, condition: ConditionType, reason: Reason, message: impl Into<String>) {
        self.problems.push(Problem::stalls(condition, reason, message));
    }

    /// Adds a condition that can't be judged.
    pub fn unknown(&mut self, condition: ConditionType, reason: Reason, message: impl Into<String>) {
        self.problems.push(Problem::unknown(condition, reason, message));
    }

    /// Whether there is nothing to do and nothing to wait for.
    pub fn is_settled(&self) -> bool {
        let background = self.pulls.is_empty() && self.imports.is_empty();
        self.steps.is_empty() && background && self.problems.is_empty()
    }
}

/// An image that is to be put into a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// The node.
    pub container: Target,
    /// The image's reference on the Docker host.
    pub image: String,
    /// Its id there.
    pub id: String,
}

/// The repairs of a node since it was last Ready for as long as it may be NotReady.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repairs {
    /// How many.
    pub count: u32,
    /// When the last one began.
    pub last: Timestamp,
}

impl Repairs {
    /// As a status tells it.
    pub fn told(&self) -> NodeRepairs {
        NodeRepairs { count: self.count.try_into().unwrap_or(i32::MAX), last: Some(Time(self.last)) }
    }
}

/// Repairs by the names of nodes.
pub type Record = BTreeMap<String, Repairs>;
