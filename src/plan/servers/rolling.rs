//! Rolling update of servers: one at a time, and a working one only while all others work.

use jiff::Timestamp;

use super::{Absence, ServerHealth, Servers};
use crate::{
    api::{condition::ConditionType, reason::Reason},
    docker::engine::{ContainerDetail, State},
    k3s::versions,
    plan::{
        desired::NodeSpec,
        nodes::{health::REPORT_LIMIT, hold::blocked, lifecycle::drained},
        steps::{Action, Plan, Target},
    },
    time::after,
};

/// Reason in Events for a server that is replaced.
const OUTDATED: &str = "its spec changed";

impl Servers<'_> {
    /// Plans the replacement of outdated servers: one at a time, and a working one only while all others work.
    /// `after` contains the steps that reconfigure the load balancer. Reports whether servers remain to be replaced.
    pub fn roll(&self, plan: &mut Plan, outdated: &[&NodeSpec], after: &[usize]) -> bool {
        let servers: Vec<&NodeSpec> =
            outdated.iter().copied().filter(|n| self.index(&n.container.name).is_some()).collect();
        // Servers that do not work come first: the others wait for them.
        let (serving, idle): (Vec<&NodeSpec>, Vec<&NodeSpec>) =
            servers.iter().copied().partition(|s| self.health(&s.container.name).serves);
        for server in idle.into_iter().chain(serving) {
            let name = &server.container.name;
            if self.start_outdated(plan, name, servers.len()) || blocked(plan, &self.cluster, server) {
                continue;
            }
            if self.health(name).serves && self.are_several() {
                self.replace_serving(plan, server, after);
                return true;
            }
            if !self.are_several() || self.may_be_replaced_unreported(plan, name) {
                self.cluster.site.replace(plan, &server.container, &[], OUTDATED);
                return true;
            }
        }
        !servers.is_empty()
    }

    /// Plans the replacement of a server that serves the cluster, once all others serve it too.
    fn replace_serving(&self, plan: &mut Plan, server: &NodeSpec, after: &[usize]) {
        let name = &server.container.name;
        let waits = |plan: &mut Plan, message: String| {
            plan.waits(ConditionType::ControlPlaneReady, Reason::Updating, message);
        };
        if let Some((other, _)) = self.others(name).find(|(_, other)| !other.serves) {
            return waits(plan, format!("waiting for {other} to be ready before replacing {name}"));
        }
        if !self.has_quorum_without(plan, name, Absence::Stopped) {
            return waits(plan, format!("waiting for etcd quorum without {name} before replacing it"));
        }
        if drained(plan, &self.cluster, name, ConditionType::ControlPlaneReady) {
            let mut before = after.to_vec();
            before.extend(self.snapshot(plan, server));
            self.cluster.site.replace(plan, &server.container, &before, OUTDATED);
        }
    }

    /// Plans the start of an outdated server if all were stopped together and all are outdated: they start unchanged
    /// and are replaced one at a time afterwards. Reports whether it did.
    fn start_outdated(&self, plan: &mut Plan, name: &str, outdated: usize) -> bool {
        let asleep = |health: &ServerHealth<'_>| {
            health.detail.is_some_and(|d| d.container.state == State::Exited && d.restarts())
        };
        let together =
            self.are_several() && self.existing.values().all(asleep) && outdated == self.existing.len();
        let health = self.health(name);
        let Some(detail) = health.detail.filter(|_| together && health.is_connected) else { return false };
        let container = Target::of(&detail.container);
        plan.step(Action::Start { container }, &[], "it was not running");
        true
    }

    /// Reports whether a server that seems not to work may be replaced. A running one may still be a voter, so the
    /// others must have quorum without it. While the API does not respond, the state of a running server is unknown:
    /// the cause may be the start of other servers or of the load balancer.
    fn may_be_replaced_unreported(&self, plan: &Plan, name: &str) -> bool {
        let health = self.health(name);
        if !health.is_running() || !health.is_connected {
            return true;
        }
        if self.cluster.is_reachable() {
            // Once it is stopped, nothing shows that it is a voter.
            return !health.may_vote_unreported && self.has_quorum_without(plan, name, Absence::Stopped);
        }
        // A server that is about to be started may be the only one missing for quorum.
        let rests = |health: &ServerHealth<'_>| {
            health.is_connected
                && health.detail.is_some_and(|d| matches!(d.container.state, State::Created | State::Exited))
        };
        !self.existing.values().any(rests) && self.api_is_overdue()
    }

    /// Reports whether the API does not respond for long although the load balancer runs and no server has just been
    /// started.
    fn api_is_overdue(&self) -> bool {
        let balancer = self.cluster.own(&self.cluster.desired.load_balancer.name);
        // A disconnected load balancer keeps the API from responding, however long it runs.
        let leads =
            |d: &&ContainerDetail| d.container.state == State::Running && self.cluster.site.is_placed(d);
        let balancer = balancer.filter(leads).and_then(|d| d.started_at);
        let started = self.existing.values().filter_map(|s| s.detail?.started_at).max();
        let over =
            |at: Timestamp| self.cluster.inputs.now >= after(at.max(started.unwrap_or(at)), REPORT_LIMIT);
        balancer.is_some_and(over)
    }

    /// Plans a snapshot of etcd before the first server gets another image.
    fn snapshot(&self, plan: &mut Plan, server: &NodeSpec) -> Option<usize> {
        let image = &server.container.image;
        let first = self.existing.values().all(|s| s.detail.is_none_or(|d| d.container.image != *image));
        let detail = self.cluster.own(&server.container.name).filter(|_| first && self.etcd)?;
        let to = versions::of_image(image).map_or_else(|| "another-image".into(), |v| versions::tag(&v));
        let container = Target::of(&detail.container);
        let command = ["k3s", "etcd-snapshot", "save", &format!("--name=before-{to}")].map(String::from);
        Some(plan.step(
            Action::Exec { container, command: command.into() },
            &[],
            "to save an etcd snapshot before the upgrade",
        ))
    }
}
