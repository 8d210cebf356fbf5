//! Lack of a quorum of etcd, as the running servers report it. It is only told: their data may be complete, and the plan of
//! the servers brings back those that do not run. Lost data is another matter, see `quorum_reset`.

use std::collections::BTreeSet;

use super::Servers;
use crate::{
    api::{condition::ConditionType, reason::Reason},
    child::state::Child,
    docker::engine::State,
    plan::steps::Plan,
};

/// Adds the problem of an etcd without a leader. It precedes the problems of single servers, which it follows from.
pub fn tell(plan: &mut Plan, servers: &Servers<'_>) {
    if matches!(servers.cluster.inputs.observed.child, Child::Unreachable(_))
        && servers.quorum_loss().is_none()
        && let Some(message) = servers.lack_of_quorum()
    {
        plan.waits(ConditionType::ControlPlaneReady, Reason::NoQuorum, message);
    }
}

impl Servers<'_> {
    /// Returns the message about an etcd without a leader; `None` with one, and while that is unknown.
    fn lack_of_quorum(&self) -> Option<String> {
        let leaders = &self.cluster.inputs.observed.leaders;
        let holders = self.cluster.inputs.holders.iter().cloned();
        let all: BTreeSet<String> = self.names().chain(holders).collect();
        let (running, resting): (Vec<&String>, Vec<&String>) =
            all.iter().partition(|name| self.health(name).is_running());
        // Those that did not respond may have a leader among themselves.
        let silent = running.iter().filter(|name| !leaders.contains_key(**name)).count();
        if leaders.is_empty() || leaders.values().any(|has_leader| *has_leader) || silent * 2 > all.len() {
            return None;
        }
        let names: Vec<&str> = running.into_iter().map(String::as_str).collect();
        let running = names.join(", ");
        if resting.is_empty() {
            return Some(format!(
                "etcd has no quorum, so the API of the cluster does not respond: all servers are running ({running}) \
                 but have no leader; if they elect none within a minute, check their `docker logs` and that they reach \
                 each other"
            ));
        }
        let states: Vec<String> = resting.iter().map(|name| self.state(name)).collect();
        Some(format!(
            "etcd has no quorum, so the API of the cluster does not respond: {} of {} servers do not run ({}), only \
             {running}; the operator starts them, and if they do not keep running, check their `docker logs`",
            resting.len(),
            all.len(),
            states.join(", ")
        ))
    }

    /// Returns the state of a server that does not run, in words.
    fn state(&self, name: &str) -> String {
        let Some(detail) = self.health(name).detail else { return format!("{name} has no container") };
        match (detail.container.state, detail.exit_code) {
            (State::Exited, Some(code)) => format!("{name} has exited with code {code}"),
            (State::Exited, None) => format!("{name} has exited"),
            (State::Paused, _) => format!("{name} is paused"),
            (State::Restarting, _) => format!("{name} is restarting"),
            (State::Created | State::Running, _) => format!("{name} has not started"),
            (State::Removing | State::Dead, _) => format!("{name} is being removed"),
        }
    }
}
