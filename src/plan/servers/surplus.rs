//! Removal of surplus servers after a scale-down.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::{Absence, ServerHealth, Servers};
use crate::{
    api::{condition::ConditionType, local_cluster::NodeRole, reason::Reason},
    docker::{
        engine::{ContainerDetail, State},
        spec::EndpointSettings,
    },
    plan::{
        containers::GRACE,
        nodes::lifecycle::drained,
        steps::{Action, Plan, Target},
    },
    time::after,
};

/// Reason in Events for a server that is removed.
const SURPLUS: &str = "it is a surplus server";

/// Reason in Events for the etcd member of a server that is removed.
const NO_NODE: &str = "its server is a surplus server without a Node";

/// Time without the API after which a server that exited while it left etcd counts as one that did not leave.
const DEAD: SignedDuration = SignedDuration::from_secs(60);

fn waits(plan: &mut Plan, message: String) {
    plan.waits(ConditionType::ControlPlaneReady, Reason::ScalingServers, message);
}

/// Returns the action that wakes a sleeping server; `None` if it is running, or if it has exited and may not start.
fn wake(detail: &ContainerDetail, may_start: bool) -> Option<Action> {
    let container = Target::of(&detail.container);
    match detail.container.state {
        State::Exited if may_start => Some(Action::Start { container }),
        State::Paused => Some(Action::Unpause { container }),
        State::Created
        | State::Running
        | State::Restarting
        | State::Exited
        | State::Removing
        | State::Dead => None,
    }
}

impl Servers<'_> {
    /// Plans the removal of surplus servers, the newest first, one at a time: drained, removed from etcd while
    /// running (two members lose quorum if one of them is stopped first), then stopped.
    pub fn shrink(&self, plan: &mut Plan, after: &[usize]) {
        let surplus = self.surplus();
        // A server that is not running is removed first: the others have quorum without it.
        let rests = |(_, health): &&(usize, ServerHealth<'_>)| !health.is_running();
        // Then a running one that is not healthy: more healthy voters remain for the removal of the others.
        let silent = |(_, health): &&(usize, ServerHealth<'_>)| !health.counts_for_quorum;
        let newest_first = || surplus.iter().rev();
        let resting = newest_first().find(rests).filter(|_| self.cluster.is_reachable());
        let next = resting.or_else(|| newest_first().find(silent)).or(surplus.last());
        let Some((index, health)) = next else { return };
        let name = self.name(*index);
        waits(plan, format!("removing {name}"));
        if !self.cluster.is_reachable() {
            surplus.iter().for_each(|(index, health)| self.bring_back(plan, *index, health));
            waits(plan, format!("waiting for the API of the cluster before removing {name}"));
        } else if resting.is_some() {
            self.remove_resting(plan, &name, health);
        } else {
            self.remove_running(plan, &name, health, after);
        }
    }

    /// Returns the surplus servers with a container, a volume, a Node or a member of etcd, by index.
    fn surplus(&self) -> Vec<(usize, ServerHealth<'_>)> {
        let nodes = self.cluster.state().into_iter().flat_map(|state| state.nodes.keys());
        let members = self.cluster.state().into_iter().flat_map(|state| state.members.iter().flatten());
        let registered = nodes.chain(members.map(|m| &m.node)).filter_map(|name| self.index(name));
        let indices: BTreeSet<usize> = self.existing.keys().copied().chain(registered).collect();
        let surplus = indices.into_iter().filter(|index| *index >= self.cluster.desired.servers.len());
        surplus.map(|index| (index, self.health(&self.name(index)))).collect()
    }

    /// Plans the removal of a server that is not running. One that may be a voter without a Node, and that etcd does not
    /// report, is started before.
    fn remove_resting(&self, plan: &mut Plan, name: &str, health: &ServerHealth<'_>) {
        let is_member = self.cluster.state().is_some_and(|state| state.is_member(name));
        // Without its Node, which K3s may not have seen yet, nothing would remove the member.
        if is_member && health.node.is_some_and(|n| n.leaving && !n.left) {
            return waits(plan, format!("removing {name} from etcd"));
        }
        if let Some(message) = self.remove_member(plan, name, NO_NODE) {
            return waits(plan, message);
        }
        let asleep = health.detail.filter(|_| health.is_connected && health.may_vote_unreported);
        // Docker does not restart one that K3s was asked to remove from etcd.
        match asleep.and_then(|detail| wake(detail, detail.restarts())) {
            Some(action) => {
                plan.step(action, &[], "it can only leave etcd while it is running");
            }
            None => self.remove(plan, name, SURPLUS),
        }
    }

    /// Plans the removal of a running server from etcd, and then of the server itself.
    fn remove_running(&self, plan: &mut Plan, name: &str, health: &ServerHealth<'_>, after: &[usize]) {
        let stays = self.cluster.desired.servers.iter().map(|s| &s.container.name);
        if let Some(missing) = stays.into_iter().find(|s| !self.is_dependable(s)) {
            return waits(plan, format!("waiting for {missing} to be ready before removing {name}"));
        }
        let member = health.node.filter(|n| (n.voter.is_some() || n.leaving) && !n.left);
        if let (Some(node), Some(detail)) = (member, health.detail) {
            if node.leaving {
                return waits(plan, format!("removing {name} from etcd"));
            }
            if !self.has_quorum_without(plan, name, Absence::Removed) {
                return waits(plan, format!("waiting for etcd quorum without {name} before removing it"));
            }
            if health.serves && !drained(plan, &self.cluster, name, ConditionType::ControlPlaneReady) {
                return;
            }
            return self.leave(plan, detail, after, SURPLUS);
        }
        if health.may_vote_unreported {
            return waits(
                plan,
                format!("waiting for {name} to report whether it is an etcd voter before removing it"),
            );
        }
        match self.remove_member(plan, name, NO_NODE) {
            Some(message) => waits(plan, message),
            None => self.remove(plan, name, SURPLUS),
        }
    }

    /// Reports whether a server that was asked to leave etcd may have exited before it left: the others would soon respond
    /// without it. If it did leave, it cannot join again while the API does not respond.
    fn may_have_died_leaving(&self, detail: &ContainerDetail) -> bool {
        let due = |ended| self.cluster.inputs.now >= after(ended, DEAD);
        detail.container.state == State::Exited && !detail.restarts() && detail.ended_at.is_some_and(due)
    }

    /// Plans what brings a surplus server back to work while the API does not respond. Stopped or off its network, a
    /// voter may be what the others lack for a majority, and then the API, which its removal waits for, never responds.
    fn bring_back(&self, plan: &mut Plan, index: usize, health: &ServerHealth<'_>) {
        // A server that has left etcd is not restarted by Docker either.
        let died = health.detail.is_some_and(|d| self.may_have_died_leaving(d));
        let own = health.detail.filter(|d| d.started_at.is_some() && (d.restarts() || died));
        let (Some(detail), Some(network)) = (own, self.cluster.site.network) else { return };
        let why = "the other servers may need its vote";
        let state = detail.container.state;
        if health.is_connected || !matches!(state, State::Running | State::Exited) {
            if let Some(action) = wake(detail, true) {
                plan.step(action, &[], why);
            }
            return;
        }
        let container = Target::of(&detail.container);
        // A process that lost its interface keeps the sockets of the old one.
        let stop = (state == State::Running)
            .then(|| plan.step(Action::Stop { container: container.clone(), grace: GRACE }, &[], ""));
        let ip = self.cluster.desired.addresses.node(NodeRole::Server, index);
        let endpoint = EndpointSettings { ip: Some(ip), ..EndpointSettings::default() };
        let connect = Action::Connect { network: network.to_owned(), container: container.clone(), endpoint };
        let connected = plan.step(connect, stop.as_slice(), "");
        plan.step(Action::Start { container }, &[connected], why);
    }
}
