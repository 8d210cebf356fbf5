//! Membership of servers in etcd: joins, removal, and rejoins.

use super::{Absence, Servers, leases};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    docker::{engine::ContainerDetail, spec::RestartPolicy},
    plan::{
        desired::NodeSpec,
        nodes::lifecycle::{self, NOT_JOINED},
        steps::{Action, Plan, Target},
    },
};

impl Servers<'_> {
    /// Reports whether a server without data may be created and started now. Plans what must be done before, and adds
    /// the problem that it waits for.
    pub fn may_begin(&mut self, plan: &mut Plan, name: &str) -> bool {
        let Some(index) = self.index(name).filter(|_| self.etcd) else { return true };
        let health = self.health(name);
        if health.has_data {
            return true;
        }
        let waits = |plan: &mut Plan, message: String| {
            plan.waits(ConditionType::ControlPlaneReady, Reason::Joining, message);
            false
        };
        let with_data = self.others(name).filter(|(_, other)| other.has_data);
        let others: Vec<String> = with_data.map(|(other, _)| other).collect();
        if others.is_empty() {
            // The first server initializes the cluster: always the same one.
            return index == 0
                || waits(
                    plan,
                    format!("waiting for {} to become an etcd voter before {name} joins", self.name(0)),
                );
        }
        if !self.cluster.is_reachable() {
            return waits(plan, format!("waiting for the API of the cluster before {name} joins"));
        }
        if health.node.is_some() {
            // Its etcd member is removed with its Node. Until then etcd rejects a new member with its name.
            let message = format!("the data of {name} is lost: removing its etcd member");
            leases::delete_node(plan, name, &[], "its data is lost", self.cluster.inputs);
            return waits(plan, message);
        }
        if let Some(message) = self.remove_member(plan, name, "its data is lost and it has no Node") {
            return waits(plan, format!("the data of {name} is lost: {message}"));
        }
        let missing = |other: &String| !self.is_dependable(other) && !self.health(other).has_joined();
        let waiting = self.joining.clone().or_else(|| others.into_iter().find(missing));
        if let Some(other) = waiting {
            return waits(plan, format!("waiting for {other} to become an etcd voter before {name} joins"));
        }
        self.joining = Some(name.to_owned());
        true
    }

    /// Adds the problems of a Ready server that is not a full member yet.
    pub fn judge(&self, plan: &mut Plan, name: &str) {
        let health = self.health(name);
        if self.etcd && !health.is_voter {
            let message = format!("waiting for {name} to become an etcd voter");
            plan.waits(ConditionType::ControlPlaneReady, Reason::Joining, message);
        } else if self.etcd && !health.api_responds {
            let message = format!("waiting for the API of {name} to respond");
            plan.waits(ConditionType::ControlPlaneReady, Reason::NodeStarting, message);
        }
    }

    /// Plans the removal of a desired server that was removed from etcd, for example after a scale-down that was
    /// reverted, or because its Node was deleted: K3s would not start with its data. It rejoins as a new member.
    /// Reports whether this is in progress.
    pub fn is_expelled(&self, plan: &mut Plan, node: &NodeSpec) -> bool {
        let name = &node.container.name;
        let health = self.health(name);
        if self.has_deleted_node(name) {
            let message = format!("{name} has no Node in the cluster: rejoining it as a new etcd member");
            plan.waits(ConditionType::ControlPlaneReady, Reason::Joining, message);
            match health.detail.filter(|_| health.is_running()) {
                // If it was the only voter when its Node was deleted, it is still a voter, and the others may need
                // it. A restart decides: it recreates its Node, or K3s exits because the server was removed from
                // etcd.
                Some(detail) if !self.has_quorum_without(plan, name, Absence::Unregistered) => {
                    lifecycle::restart(plan, detail, &[], NOT_JOINED)
                }
                _ => self.remove(plan, name, "its Node no longer exists"),
            }
            return true;
        }
        let Some(seen) = health.node.filter(|n| self.etcd && (n.leaving || n.left)) else { return false };
        let done = if seen.left { "was" } else { "is being" };
        let message = format!("{name} {done} removed from etcd and rejoins as a new member");
        plan.waits(ConditionType::ControlPlaneReady, Reason::Joining, message);
        if seen.left {
            self.remove(plan, name, "it was removed from etcd");
        }
        true
    }

    /// Reports whether an existing server has no Node for a while although other servers serve the cluster. Its Node
    /// was deleted from outside: K3s removes a server from etcd with its Node.
    fn has_deleted_node(&self, name: &str) -> bool {
        self.etcd
            && self.cluster.is_reachable()
            && self.health(name).lacks_node
            && self.others(name).any(|(_, other)| other.serves)
    }

    /// Plans that a server with a kubelet that never reported leaves etcd, if the others keep quorum. It is then
    /// removed and rejoins as a new member.
    pub fn expel(&self, plan: &mut Plan, detail: &ContainerDetail) {
        if self.has_quorum_without(plan, &detail.container.name, Absence::Removed) {
            self.leave(plan, detail, &[], NOT_JOINED);
        }
    }

    /// Plans that K3s removes a running server from etcd.
    pub fn leave(&self, plan: &mut Plan, detail: &ContainerDetail, after: &[usize], why: &str) {
        let name = detail.container.name.clone();
        let keep = keep_stopped(plan, detail, after);
        plan.step(Action::LeaveEtcd { node: name }, &[keep], why);
    }

    /// Plans that the etcd member of a server without a Node is removed, if the others keep quorum: K3s makes a server a
    /// member before its Node, and the member of one that was lost in between remains and counts for the quorum. Must not
    /// be called for a server that may still register its Node. Returns what is waited for if there is such a member.
    pub(super) fn remove_member(&self, plan: &mut Plan, name: &str, why: &str) -> Option<String> {
        let member = self.cluster.state()?.member_without_node(name)?;
        if !self.has_quorum_without(plan, name, Absence::Removed) {
            return Some(format!("waiting for etcd quorum without {name} before removing its etcd member"));
        }
        let mut before = leases::release(plan, self.cluster.inputs);
        if let Some(detail) = self.health(name).detail.filter(|d| d.started_at.is_some()) {
            before.push(keep_stopped(plan, detail, &[]));
        }
        plan.step(Action::RemoveMember(member.clone()), &before, why);
        Some(format!("removing {name} from etcd"))
    }

    /// Plans the removal of a server with all that remains of it.
    pub(super) fn remove(&self, plan: &mut Plan, name: &str, why: &str) {
        lifecycle::remove_node(plan, &self.cluster, name, &[], why);
    }
}

/// Plans that a server that leaves etcd is not restarted, after the steps `after`: K3s would rejoin.
fn keep_stopped(plan: &mut Plan, detail: &ContainerDetail, after: &[usize]) -> usize {
    let container = Target::of(&detail.container);
    plan.step(Action::SetRestart { container, policy: RestartPolicy::No }, after, "")
}
