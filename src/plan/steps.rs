//! A plan: steps in an order that can be interrupted anywhere, and the reasons why the object is not as desired.

mod event;
mod leave_out;
mod problem;
mod repair;
mod repairs;
mod target;

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

pub use problem::{Problem, Verdict};
pub use repair::Repair;
pub use repairs::{Record, Repairs};
pub use target::Target;

use super::{
    kubeconfig::template::Template, own_registry::OwnRegistry, secret::Secret,
    service::objects::ServiceChange,
};
use crate::{
    api::{
        condition::{self, ConditionType},
        reason::Reason,
    },
    child::{
        account::AccountRole,
        state::{ClusterConfigMap, Member, NodeConfig},
    },
    docker::{
        engine::Network,
        spec::{ContainerSpec, EndpointSettings, FileSpec, NetworkSpec, RestartPolicy, VolumeSpec},
    },
    k3s::manifests::ObjectRef,
};

/// Steps to execute and problems.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Steps in topological order.
    pub steps: Vec<Step>,
    /// Images to pull in the background. Steps that need them are in a later plan.
    pub pulls: Vec<String>,
    /// Images of the Docker host that the namespace has to show access to, in the background.
    pub proofs: Vec<String>,
    /// Images to import on nodes in the background.
    pub imports: Vec<Import>,
    /// Reasons why the object is not as desired. Without steps and problems, it is.
    pub problems: Vec<Problem>,
    /// First condition that cannot be evaluated yet, since the plan did not get that far.
    pub unjudged: Option<ConditionType>,
    /// Server that is the only member of etcd after a reset.
    pub reset: Option<String>,
    /// Information for the user that needs no action, for an Event.
    pub notes: Vec<String>,
    /// State that is kept although it would not be created any more, and what to do about it, for an Event of type
    /// Warning.
    pub warnings: Vec<String>,
    /// Repairs of nodes including the planned ones, which must be in the status before they are executed.
    pub repairs: Record,
    /// True if the record of the data of the cluster is discarded because the data is lost and a new cluster replaces
    /// it. Nothing is created before the status is written.
    pub forgets: bool,
    /// Latest time for another look, if nothing is in progress that is observed frequently anyway.
    pub again: Option<Timestamp>,
}

/// A step with everything that its execution needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The action.
    pub action: Action,
    /// Indices of the steps that must have succeeded before; always smaller than the index of the step.
    pub after: Vec<usize>,
    /// Reason for the Event; empty for steps that are part of another one.
    pub why: String,
    /// What it repairs, for metrics.
    pub repair: Option<Repair>,
}

/// A change of the Docker host, of the created cluster or of the management cluster.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names say it; see `Engine`, `ChildApi` and `ManagementApi` for the meaning of each
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
        endpoint: EndpointSettings,
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
    /// Fails unless one of these files exists. Subsequent steps are not executed on volumes that lost their content.
    Expect {
        container: Target,
        one_of: Vec<String>,
    },
    /// Sets the restart policy of a container.
    SetRestart {
        container: Target,
        policy: RestartPolicy,
    },
    /// Runs a command in the container, which must succeed.
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
    RemoveMember(Member),
    /// Releases a Lease of a K3s controller that an exited server holds, at the observed version.
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
    /// Creates or corrects the ServiceAccount of a kubeconfig in the created cluster.
    GrantAccess {
        role: AccountRole,
    },
    /// Deletes the ServiceAccount of a kubeconfig in the created cluster.
    RevokeAccess {
        role: AccountRole,
        uid: Option<String>,
    },
    /// Writes a new token of such a ServiceAccount into the Secret with the kubeconfig.
    IssueToken(Box<Template>),
    /// Creates a Secret in the management cluster. Fails if it exists.
    CreateSecret(Secret),
    /// Creates or updates a Secret in the management cluster.
    ApplySecret(Secret),
    /// Deletes a Secret in the management cluster.
    DeleteSecret {
        namespace: String,
        name: String,
        uid: String,
    },
    /// Changes the Service in the management cluster that leads to the API of the created cluster.
    Service(ServiceChange),
    /// Creates or updates the Registry of a LocalCluster.
    ApplyRegistry(Box<OwnRegistry>),
    /// Deletes the Registry of a LocalCluster.
    DeleteRegistry {
        namespace: String,
        name: String,
        uid: String,
    },
}

impl Action {
    /// Returns the removal of a network.
    pub fn remove(network: &Network) -> Self {
        Self::RemoveNetwork { id: network.id.clone(), name: network.name.clone() }
    }

    /// Returns the name of the action for metrics.
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
            Self::RemoveMember(_) => "RemoveMember",
            Self::ReleaseLease { .. } => "ReleaseLease",
            Self::SetConfig(_) => "SetConfig",
            Self::RemoveFiles { .. } => "RemoveFiles",
            Self::DeleteObject { .. } => "DeleteObject",
            Self::GrantAccess { .. } => "GrantAccess",
            Self::RevokeAccess { .. } => "RevokeAccess",
            Self::IssueToken(_) => "IssueToken",
            Self::CreateSecret(_) => "CreateSecret",
            Self::ApplySecret(_) => "ApplySecret",
            Self::DeleteSecret { .. } => "DeleteSecret",
            Self::Service(change) => change.kind(),
            Self::ApplyRegistry(_) => "ApplyRegistry",
            Self::DeleteRegistry { .. } => "DeleteRegistry",
        }
    }

    /// Returns the name of the resource that is acted on.
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
            Self::RemoveMember(member) => &member.node,
            Self::ReleaseLease { holder, .. } => holder,
            Self::SetConfig(wanted) => wanted.key.name,
            Self::DeleteObject { object, .. } => &object.name,
            Self::GrantAccess { role } | Self::RevokeAccess { role, .. } => role.account(),
            Self::IssueToken(template) => template.name(),
            Self::CreateSecret(secret) | Self::ApplySecret(secret) => &secret.name,
            Self::Service(change) => change.owner().name(),
            Self::ApplyRegistry(registry) => &registry.name,
            Self::DeleteSecret { name, .. } | Self::DeleteRegistry { name, .. } => name,
        }
    }
}

impl fmt::Display for Action {
    /// Formats a line such as `Start k3d-dev-agent-0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeleteObject { object, .. } => write!(f, "{} {object}", self.kind()),
            other => write!(f, "{} {}", other.kind(), other.subject()),
        }
    }
}

impl Plan {
    /// Adds a step and returns its index.
    pub fn step(&mut self, action: Action, after: &[usize], why: impl Into<String>) -> usize {
        self.steps.push(Step { action, after: after.to_vec(), why: why.into(), repair: None });
        self.steps.len() - 1
    }

    /// Adds a problem that needs no intervention.
    pub fn waits(&mut self, condition: ConditionType, reason: Reason, message: impl Into<String>) {
        self.problems.push(Problem::waits(condition, reason, message));
    }

    /// Adds a problem that needs user intervention.
    pub fn stalls(&mut self, condition: ConditionType, reason: Reason, message: impl Into<String>) {
        self.problems.push(Problem::stalls(condition, reason, message));
    }

    /// Adds a problem for a condition that cannot be evaluated.
    pub fn unknown(&mut self, condition: ConditionType, reason: Reason, message: impl Into<String>) {
        self.problems.push(Problem::unknown(condition, reason, message));
    }

    /// Reports whether the last status must be replaced before the steps are executed: it is of another generation, or
    /// its `Ready` must be withdrawn first, since `kubectl wait` would succeed meanwhile.
    pub fn outdates(&self, generation: i64, observed: Option<i64>, conditions: &[Condition]) -> bool {
        let not_ready = !self.problems.is_empty();
        observed != Some(generation) || (not_ready && condition::is_true(conditions, ConditionType::Ready))
    }

    /// Requests another look at this time at the latest.
    pub fn look_again(&mut self, at: Timestamp) {
        self.again = Some(self.again.map_or(at, |again| again.min(at)));
    }

    /// Reports whether there is nothing to do and nothing to wait for.
    pub fn is_settled(&self) -> bool {
        let background = self.pulls.is_empty() && self.proofs.is_empty() && self.imports.is_empty();
        self.steps.is_empty() && background && self.problems.is_empty()
    }
}

/// An image to import on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Node to import on.
    pub container: Target,
    /// Reference of the image on the Docker host.
    pub image: String,
    /// ID of the image on the Docker host.
    pub id: String,
}
