//! Events of completed steps: the reason is a state in UpperCamelCase, the message a sentence.

use super::{Action, Step};
use crate::{child::account::NAMESPACE, plan::service::objects::ServiceChange};

impl Step {
    /// Returns the reason and the message of the Event for the completed step; `None` for a step that is part of
    /// another one.
    pub fn event(&self) -> Option<(&'static str, String)> {
        let (reason, done) = completed(&self.action);
        (!self.why.is_empty()).then(|| (reason, format!("{done}: {}", self.why)))
    }
}

/// Returns the reason, and the message without its why. Actions that Kubernetes or K3s only begin have the present
/// participle.
fn completed(action: &Action) -> (&'static str, String) {
    let name = action.subject();
    match action {
        Action::CreateNetwork(_) => ("CreatedNetwork", format!("Created network {name}")),
        Action::RemoveNetwork { .. } => ("RemovedNetwork", format!("Removed network {name}")),
        Action::CreateVolume(_) => ("CreatedVolume", format!("Created volume {name}")),
        Action::RemoveVolume { .. } => ("RemovedVolume", format!("Removed volume {name}")),
        Action::CreateContainer { .. } => ("CreatedContainer", format!("Created container {name}")),
        Action::RemoveContainer { .. } => ("RemovedContainer", format!("Removed container {name}")),
        Action::Start { .. } => ("StartedContainer", format!("Started container {name}")),
        Action::Stop { .. } => ("StoppedContainer", format!("Stopped container {name}")),
        Action::Unpause { .. } => ("UnpausedContainer", format!("Unpaused container {name}")),
        Action::Signal { signal, .. } => ("SignaledContainer", format!("Sent {signal} to container {name}")),
        Action::Connect { .. } => ("ConnectedContainer", format!("Connected container {name}")),
        Action::Disconnect { .. } => ("DisconnectedContainer", format!("Disconnected container {name}")),
        Action::SetRestart { .. } => {
            ("UpdatedRestartPolicy", format!("Updated restart policy of container {name}"))
        }
        Action::Upload { .. } => ("UpdatedFiles", format!("Updated files in container {name}")),
        Action::RemoveFiles { .. } => ("RemovedFiles", format!("Removed files from container {name}")),
        Action::Expect { .. } => ("VerifiedData", format!("Verified that container {name} has its data")),
        Action::Exec { .. } => ("RanCommand", format!("Ran a command in container {name}")),
        Action::Drain { .. } => ("DrainingNode", format!("Draining Node {name}")),
        Action::Uncordon { .. } => ("UncordonedNode", format!("Uncordoned Node {name}")),
        Action::Configure { .. } => ("UpdatedNode", format!("Updated labels and taints of Node {name}")),
        Action::DeleteNode { .. } => ("DeletedNode", format!("Deleted Node {name}")),
        Action::ForgetPassword { .. } => {
            ("DeletedNodePassword", format!("Deleted the node password of {name}"))
        }
        Action::LeaveEtcd { .. } => ("LeavingEtcd", format!("Removing {name} from etcd")),
        Action::RemoveMember(member) => ("RemovingMember", format!("Removing etcd member {}", member.name)),
        Action::ReleaseLease { name, holder, .. } => {
            ("ReleasedLease", format!("Released Lease {name} of {holder}"))
        }
        Action::SetConfig(wanted) => {
            let namespace = wanted.key.namespace;
            ("AppliedConfigMap", format!("Applied ConfigMap {namespace}/{name} in the cluster"))
        }
        Action::DeleteObject { object, .. } => ("DeletedObject", format!("Deleted {object}")),
        Action::GrantAccess { role } => {
            let role = role.cluster_role();
            (
                "GrantedAccess",
                format!("Applied ServiceAccount {NAMESPACE}/{name} with ClusterRole {role} in the cluster"),
            )
        }
        Action::RevokeAccess { .. } => {
            ("RevokedAccess", format!("Deleted ServiceAccount {NAMESPACE}/{name} in the cluster"))
        }
        Action::IssueToken(_) => ("IssuedToken", format!("Wrote a new token to Secret {name}")),
        Action::DeleteSecret { .. } => ("DeletedSecret", format!("Deleted Secret {name}")),
        Action::CreateSecret(_) => ("CreatedSecret", format!("Created Secret {name}")),
        Action::ApplySecret(_) => ("AppliedSecret", format!("Applied Secret {name}")),
        Action::Service(change) => of_service(change, name),
        Action::ApplyRegistry(_) => ("AppliedRegistry", format!("Applied Registry {name}")),
        Action::DeleteRegistry { .. } => ("DeletedRegistry", format!("Deleted Registry {name}")),
    }
}

fn of_service(change: &ServiceChange, name: &str) -> (&'static str, String) {
    match change {
        ServiceChange::Apply(_) => ("AppliedService", format!("Applied Service {name}")),
        ServiceChange::Delete { .. } => ("DeletedService", format!("Deleted Service {name}")),
        ServiceChange::ApplyEndpoints(_) => ("AppliedEndpointSlice", format!("Applied EndpointSlice {name}")),
        ServiceChange::DeleteEndpoints { .. } => {
            ("DeletedEndpointSlice", format!("Deleted EndpointSlice {name}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::steps::Plan;

    #[test]
    fn the_message_is_a_sentence_without_the_reason() {
        let mut plan = Plan::default();
        plan.step(
            Action::RemoveVolume { name: "k3d-dev-server-0-etc".into() },
            &[],
            "the object was deleted",
        );
        plan.step(Action::Drain { node: "k3d-dev-agent-0".into() }, &[0], "");
        let events: Vec<_> = plan.steps.iter().map(Step::event).collect();
        let message = "Removed volume k3d-dev-server-0-etc: the object was deleted".to_owned();
        assert_eq!(events, [Some(("RemovedVolume", message)), None]);
    }
}
